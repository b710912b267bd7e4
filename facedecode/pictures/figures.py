"""Grids of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facedecode.escaping import visible

GAP = 2
_SMALLEST_SHOWN = 112  # px: smaller pictures are shown enlarged


def picture_grid(
    rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, captions: Sequence[Sequence[str]] | None = None
) -> np.ndarray:
    """Rows of equally large pictures on white, as one picture (H', W', 3) uint8.

    Args:
        rows: an array (n, H, W, 3) uint8 for each row of the grid.
        labels: a name for each row, drawn at its left.
        captions: for each row a caption under each of its pictures (see `shortened`), or an empty list.
    """
    height, width = rows[0].shape[1:3]
    font = _font(height)
    labels = [_printable(label) for label in labels] if labels else None
    line = round(font.size * 1.4)
    left = max((round(font.getlength(label)) for label in labels), default=0) + 4 * GAP if labels else 0
    heights = [height + (line if captions and captions[i] else 0) for i in range(len(rows))]
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (left + columns * (width + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1)), "white")
    draw = ImageDraw.Draw(canvas)
    top = 0
    for i, row in enumerate(rows):
        if labels:
            draw.text((2 * GAP, top + height / 2), labels[i], fill="black", font=font, anchor="lm")
        for j, picture in enumerate(row):
            x = left + j * (width + GAP)
            canvas.paste(Image.fromarray(picture), (x, top))
            if captions and captions[i]:
                caption = _printable(captions[i][j])
                draw.text((x + width / 2, top + height), caption, fill="black", font=font, anchor="ma")
        top += heights[i] + GAP
    return np.asarray(canvas)


def square_grid(pictures: np.ndarray) -> np.ndarray:
    """All pictures (n, H, W, 3) uint8 in one grid, about as wide as high, row by row → (H', W', 3) uint8."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    return picture_grid([pictures[i : i + columns] for i in range(0, len(pictures), columns)])


def enlarged(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, P, P, 3) for a grid, small ones by a whole factor: (n, P', P', 3)."""
    factor = -(-_SMALLEST_SHOWN // pictures.shape[1])
    return pictures.repeat(factor, axis=1).repeat(factor, axis=2)


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture, (H, W, 3) uint8 RGB, as a PNG file; equal pictures give equal bytes."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def shortened(caption: str, side: int) -> str:
    """As much of a caption as fits under a picture of `side` pixels."""
    font, caption = _font(side), _printable(caption)
    if font.getlength(caption) <= side:
        return caption
    while caption and font.getlength(caption + "…") > side:
        caption = caption[:-1]
    return caption + "…"


def _font(height: int) -> Any:
    """The font beside pictures of that height."""
    return ImageFont.load_default(max(11, height // 10))


_LONGEST_LABEL = 60  # characters


def _printable(text: str) -> str:
    """Text for one line: names of files can have line ends, and no end."""
    text = visible(text)
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"


_TICKS = 5


def heat_pictures(maps: np.ndarray, side: int, high: float) -> np.ndarray:
    """Maps (n, S, S) as pictures (n, side, side, 3) uint8: from dark (0) to bright (`high` and above), in viridis.

    The cells stay squares, which are not mistaken for pixels.
    """
    levels = np.clip(np.rint(np.asarray(maps, np.float64) / high * 255), 0, 255).astype(int)
    rows = np.arange(side) * maps.shape[1] // side
    return _palette()[levels][:, rows][:, :, rows]


def with_scale(picture: np.ndarray, high: float, title: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 with the scale of its maps, 0 to `high` in percent, below it."""
    height, width = picture.shape[:2]
    font: Any = ImageFont.load_default(11)
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
