"""Perturbations of a face in its picture, by name: the known names, their geometry, and the resampling.

A face is detected once, in the original image. The image is then turned, moved or scaled about the center of the
face's box, and the crop is taken with the original box and landmarks, so that it shows the misalignment. (Detecting
the face again would let the alignment undo it.) Coordinates are those of `align`; left is the viewer's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from facedecode.errors import NoFace, UsageError
from facedecode.pictures.align import resample

if TYPE_CHECKING:  # these need torch
    from facedecode.pictures.faces import Face


@dataclass(frozen=True)
class Occluder:
    """A rectangle around two of the five landmarks.

    beside, above, below: how far it reaches beyond them, in units of the face (`face_axes`).
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
    """The frame of a face by its landmarks, (5, 2) px.

    Returns (2, 2) float64: unit vectors along the line between the eyes and, at a right angle to it, down the face; and
    the unit of the face, px.
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
    """Blacken, in place, the pixels with their centers under an occluder.

    image: (H, W, 3) uint8, already moved by `matrix`, (2, 3). landmarks: (5, 2) px, before it was moved.
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


# The (width, height) of the box → a (3, 3) matrix in pixels about the center of the box.
Step = Callable[[np.ndarray], np.ndarray]

_ANGLES = (30, 60, 90, 120, 150, 180)
_SHIFT = 0.2  # of the box's width or height
# Below the rounding of cos and sin, and far below what moves a pixel: makes quarter turns exact.
_DECIMALS = 12


def _rotation(degrees: int) -> Step:
    """Counter-clockwise as one sees it: with y down, what is right of the center goes up."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return lambda size: matrix


def _shift(right: int, down: int) -> Step:
    share = _SHIFT * np.array([right, down])
    return lambda size: np.array([[1, 0, share[0] * size[0]], [0, 1, share[1] * size[1]], [0, 0, 1]])


def _scale(factor: float) -> Step:
    matrix = np.diag([factor, factor, 1])
    return lambda size: matrix


_ROTATIONS = {f"rotate{sign * angle}": _rotation(sign * angle) for sign in (1, -1) for angle in _ANGLES}
_SHIFTS = {
    "shift-left": _shift(-1, 0),
    "shift-right": _shift(1, 0),
    "shift-up": _shift(0, -1),
    "shift-down": _shift(0, 1),
}
_SCALES = {f"scale{factor}": _scale(factor) for factor in (0.5, 1.5)}
_STEPS: dict[str, Step] = {**_ROTATIONS, **_SHIFTS, **_SCALES}
_NAMES = (*_STEPS, *OCCLUDERS)
_ANY_ROTATION = re.compile(r"rotate(-?[1-9][0-9]{0,2})")
_GROUPS: dict[str, tuple[str, ...]] = {
    "rotations": tuple(_ROTATIONS),
    "shifts": tuple(_SHIFTS),
    "scales": tuple(_SCALES),
    "occlusions": tuple(OCCLUDERS),
    "all": _NAMES,
}


def _step(part: str) -> Step | None:
    """What a part of a name does to coordinates; None for an occluder, or an unknown name."""
    if part not in _STEPS and (match := _ANY_ROTATION.fullmatch(part)) and abs(int(match[1])) <= 180:
        return _rotation(int(match[1]))
    return _STEPS.get(part)


@dataclass(frozen=True)
class Transform:
    """A perturbation: one step or several joined by '+', done from left to right. Made by `parse_transform`."""

    name: str

    def matrix(self, face: Face) -> np.ndarray:
        """(2, 3) float64 from coordinates in the original to those in the perturbed image.

        Each step is about the center of the original box, and a shift is a share of that box.
        """
        x1, y1, x2, y2 = np.asarray(face.box, np.float64)
        center, size = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
        total = np.eye(3)
        for part in self.name.split("+"):
            if (step := _step(part)) is not None:
                total = step(size) @ total
        total = np.round(total, _DECIMALS)
        linear = total[:2, :2]
        return np.column_stack([linear, total[:2, 2] + center - linear @ center])

    @property
    def occluders(self) -> tuple[Occluder, ...]:
        """What is laid over the face, in the order of the chain."""
        return tuple(OCCLUDERS[part] for part in self.name.split("+") if part in OCCLUDERS)


def transform_names() -> tuple[str, ...]:
    """The names of single perturbations; rotations by other whole degrees than these have names, too."""
    return _NAMES


def parse_transform(name: str) -> Transform:
    """The perturbation called `name`, such as rotate30, rotate-45 or rotate30+scale0.5 (the left one first).

    Raises UsageError: a part is unknown; the message lists the known ones.
    """
    for part in name.split("+"):
        if part not in OCCLUDERS and _step(part) is None:
            of = "" if part == name else f" in {name!r}"
            raise UsageError(
                f"unknown transform {part!r}{of}: choose one of {', '.join(_NAMES)}, a rotation by other whole "
                "degrees (rotate45), or join several with '+'"
            )
    return Transform(name)


def expand_group(name: str) -> list[Transform]:
    """The perturbations of a group (rotations, shifts, scales, occlusions, all), or the one called `name`, as a list.

    Raises UsageError: neither a group nor a perturbation; the message lists both.
    """
    if name in _GROUPS:
        return [Transform(member) for member in _GROUPS[name]]
    try:
        return [parse_transform(name)]
    except UsageError as error:
        raise UsageError(f"{error}; or one of the groups {', '.join(_GROUPS)}") from None


def perturb(image: np.ndarray, face: Face, transform: Transform, device: str = "cpu") -> np.ndarray:
    """An image (H, W, 3) uint8 with `transform` done about the center of the box of `face`.

    All moves of a chain are one resampling, so that it blurs no more than a single step. An occluder keeps its place
    on the face and is drawn in the result: its edges are sharp, and its place in the chain does not matter.

    device: where the resampling is done, a torch device.

    Returns (H, W, 3) uint8: bilinear, rounded to the nearest level; black where a pixel's center comes from outside the
    image or lies under an occluder. What leaves the frame is lost.

    Raises NoFace: none of the landmarks that were in the frame is there afterwards.
    """
    height, width = image.shape[:2]
    matrix = transform.matrix(face)
    points = np.asarray(face.landmarks, np.float64).reshape(-1, 2)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    # A point that the picture's edge had cut off has no pixels that could come into the frame.
    if not (_inside(points, width, height) & _inside(moved, width, height)).any():
        raise NoFace(f"{transform.name} leaves no face in the frame")
    result = resample(image, matrix, width, height, device)
    for occluder in transform.occluders:
        cover(result, occluder, points, matrix)
    return result


def _inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which of the points (n, 2) lie in a frame: bool (n,)."""
    return np.all((points >= 0) & (points < (width, height)), axis=1)
