"""Grids of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facedecode.errors import UsageError

GAP = 2
_SMALLEST_SHOWN = 112  # px: smaller pictures are shown enlarged


def picture_grid(
    rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, captions: Sequence[Sequence[str]] | None = None
) -> np.ndarray:
    """Rows of equally large pictures on white.

    Args:
        rows: arrays (n, H, W, 3) uint8, one for each row of the grid.
        labels: a name for each row, drawn at its left.
        captions: for each row a caption under each of its pictures; an empty list leaves a row without. See
            `shortened`.

    Returns:
        (H', W', 3) uint8.
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


def reduced(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures (n, P, P, 3) uint8 at `side` px, the mean of whole blocks of pixels: (n, side, side, 3), rounded.

    Raises:
        UsageError: P is no multiple of `side`.
    """
    n, own = pictures.shape[:2]
    if own % side:
        raise UsageError(f"pictures of {own} px cannot be shown at {side} px: name a part of it by a whole number")
    blocks = pictures.reshape(n, side, own // side, side, own // side, 3)
    return np.rint(blocks.mean((2, 4))).astype(np.uint8)


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


def _font(height: int) -> ImageFont.FreeTypeFont:
    """The font beside pictures of that height."""
    return ImageFont.load_default(max(11, height // 10))


def _printable(text: str) -> str:
    """Text for one line: a file's name can hold line ends and characters that no font draws."""
    return "".join(character if character.isprintable() else "·" for character in text)
