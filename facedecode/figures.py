"""Pictures of results. matplotlib is imported by the functions that draw curves only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 2


def picture_grid(
    rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, captions: Sequence[Sequence[str]] | None = None
) -> np.ndarray:
    """Rows of equally large pictures on white.

    Args:
        rows: arrays (n, H, W, 3) uint8, one for each row of the grid.
        labels: a name for each row, drawn at its left.
        captions: for each row a caption under each of its pictures; an empty list leaves a row without.

    Returns:
        (H', W', 3) uint8.
    """
    height, width = rows[0].shape[1:3]
    font = ImageFont.load_default(max(11, height // 10))
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
                draw.text((x + width / 2, top + height), captions[i][j], fill="black", font=font, anchor="ma")
        top += heights[i] + GAP
    return np.asarray(canvas)


def square_grid(pictures: np.ndarray) -> np.ndarray:
    """All pictures (n, H, W, 3) uint8 in one grid, about as wide as high, row by row → (H', W', 3) uint8."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    return picture_grid([pictures[i : i + columns] for i in range(0, len(pictures), columns)])
