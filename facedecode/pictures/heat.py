"""Maps as pictures: numbers as colors, with the scale that says which."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facedecode.pictures.figures import GAP

_TICKS = 5


def heat_pictures(maps: np.ndarray, side: int, high: float) -> np.ndarray:
    """Maps (n, S, S) as pictures of `side` px: from dark (0) to bright (`high` and above) → (n, side, side, 3) uint8.

    The cells stay squares, so that nobody takes them for pixels. Colors: viridis, which color-blind people read, too.
    """
    levels = np.clip(np.rint(np.asarray(maps, np.float64) / high * 255), 0, 255).astype(int)
    rows = np.arange(side) * maps.shape[1] // side
    return _palette()[levels][:, rows][:, :, rows]


def with_scale(picture: np.ndarray, high: float, title: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 with the scale of its maps, 0 to `high` in percent, below it."""
    height, width = picture.shape[:2]
    font = ImageFont.load_default(11)
    line, bar = round(font.size * 1.4), font.size
    span = min(width, 24 * font.size) - 2 * GAP
    margin = round(font.getlength("100 %") / 2)
    rows = _wrapped(title, font, width)
    canvas = Image.new("RGB", (width, height + 2 * GAP + bar + line * (1 + len(rows)) + GAP), "white")
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    left, length, top = margin, max(span - 2 * margin, 2), height + 2 * GAP
    colors = _palette()[np.arange(length) * 255 // (length - 1)]
    canvas.paste(Image.fromarray(np.broadcast_to(colors, (bar, length, 3)).copy()), (left, top))
    ticks = _TICKS if length >= 4 * 2 * margin else 2
    for k in range(ticks):
        x, share = left + (length - 1) * k / (ticks - 1), 100 * high * k / (ticks - 1)
        draw.text((x, top + bar), f"{share:.3g}" + (" %" if k == ticks - 1 else ""), "black", font, anchor="ma")
    for k, row in enumerate(rows):
        draw.text((GAP, top + bar + line * (k + 1)), row, "black", font)
    return np.asarray(canvas)


def _wrapped(text: str, font, width: int) -> list[str]:
    """Text in lines that fit, as far as its words do."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width - 2 * GAP or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows


def _palette() -> np.ndarray:
    """256 colors, (256, 3) uint8."""
    from matplotlib import colormaps  # half a second to import

    return (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
