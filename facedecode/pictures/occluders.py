"""Black rectangles laid over parts of a face: where they lie, and drawing them.

A rectangle is upright in the face's own frame: its long sides run along the line between the eyes, and its place and
size follow from the five landmarks. Lengths are in units of the face, the larger of the distance between the eyes and
that between the middles of eyes and mouth: the first alone would shrink to nothing as a head turns to a profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Occluder:
    """A rectangle around two landmarks.

    points: which of the five.
    beside, above, below: how far it reaches beyond them, in units of the face.
    """

    points: tuple[int, int]
    beside: float
    above: float
    below: float


# An eye's outer corner lies about 0.25 from its pupil, a brow's tail 0.4, a brow's upper edge 0.45 above it; lips end
# 0.25 above and (an open mouth) 0.4 below the line of their corners, the nose's tip lies 0.5 above it.
OCCLUDERS: dict[str, Occluder] = {
    "occlude-eyes": Occluder((0, 1), beside=0.5, above=0.5, below=0.3),
    "occlude-mouth": Occluder((3, 4), beside=0.25, above=0.25, below=0.4),
}


def face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """The frame of a face.

    Args:
        landmarks: (5, 2) px: the eyes, the nose, the corners of the mouth.

    Returns:
        (2, 2) float64, whose rows are the unit vectors along the line between the eyes and, at a right angle to it,
        down the face; the unit of the face, px.
    """
    points = np.asarray(landmarks, np.float64).reshape(5, 2)
    between = points[1] - points[0]
    down = (points[3] + points[4] - points[0] - points[1]) / 2
    length = float(np.hypot(*between))
    along = between / length if length > 0 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    if across @ down < 0:
        across = -across
    return np.stack([along, across]), max(length, float(np.hypot(*down)))


def extent(occluder: Occluder, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rectangle's least and greatest coordinates along the axes of `face_axes`: two float64 (2,), px."""
    axes, unit = face_axes(landmarks)
    ends = np.asarray(landmarks, np.float64).reshape(5, 2)[list(occluder.points)] @ axes.T
    low = ends.min(axis=0) - unit * np.array([occluder.beside, occluder.above])
    high = ends.max(axis=0) + unit * np.array([occluder.beside, occluder.below])
    return low, high


def cover(image: np.ndarray, occluder: Occluder, landmarks: np.ndarray, matrix: np.ndarray) -> None:
    """Blacken, in place, the pixels whose centers lie below an occluder.

    Args:
        image: (H, W, 3) uint8, a picture that was moved by `matrix`.
        landmarks: (5, 2) px, in the picture before it was moved.
        matrix: (2, 3) from coordinates in that picture to those in `image`.
    """
    axes, _ = face_axes(landmarks)
    low, high = extent(occluder, landmarks)
    # Only the pixels around the rectangle: photographs are large.
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]) @ axes
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    size = image.shape[1::-1]
    x1, y1 = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, size)
    x2, y2 = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, size)
    # From the moved picture to the face's own axes.
    to_face = axes @ np.linalg.inv(matrix[:, :2])
    offset = to_face @ matrix[:, 2]
    x, y = np.arange(x1, x2) + 0.5, np.arange(y1, y2)[:, None] + 0.5
    below = np.ones((y2 - y1, x2 - x1), bool)
    for i in (0, 1):
        place = to_face[i, 0] * x + to_face[i, 1] * y - offset[i]
        below &= (place >= low[i]) & (place < high[i])
    image[y1:y2, x1:x2][below] = 0
