"""Perturbations of a face in its picture, by name: the known names, their geometry, and the resampling.

A face is detected once, in the original picture. The picture is then turned about the center of the face's
box, and the crop is taken with the original box and landmarks, so that it sees the misalignment. (Detecting
the face again would let the alignment undo it.)

Coordinates are those of `facedecode.align`: pixel i covers [i, i + 1), x to the right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from facedecode.align import resample
from facedecode.errors import UsageError

if TYPE_CHECKING:  # faces.py needs torch; this module does not.
    from facedecode.faces import Face

# The (width, height) of the box → a (3, 3) matrix in pixels about the center of the box.
Step = Callable[[np.ndarray], np.ndarray]

_ANGLES = (30, 60, 90, 120, 150, 180)
# Below the rounding of cos and sin, and far below what moves a pixel: makes quarter turns exact.
_DECIMALS = 12


def _rotation(degrees: int) -> Step:
    """Counter-clockwise as one sees it: with y down, what is right of the center goes up."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return lambda size: matrix


_STEPS: dict[str, Step] = {f"rotate{sign * angle}": _rotation(sign * angle) for sign in (1, -1) for angle in _ANGLES}
_GROUPS: dict[str, tuple[str, ...]] = {
    "rotations": tuple(name for name in _STEPS if name.startswith("rotate")),
    "all": tuple(_STEPS),
}


@dataclass(frozen=True)
class Transform:
    """A perturbation: one step or several joined by '+', done from left to right. Made by `parse_transform`.

    It holds nothing but its name, so it can be sent to another process.
    """

    name: str

    def matrix(self, face: Face) -> np.ndarray:
        """(2, 3) float64 from coordinates in the original to coordinates in the perturbed picture.

        Each step is about the center of the original box, `face.box` (x1, y1, x2, y2).
        """
        x1, y1, x2, y2 = np.asarray(face.box, np.float64)
        center, size = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1])
        total = np.eye(3)
        for part in self.name.split("+"):
            total = _STEPS[part](size) @ total
        total = np.round(total, _DECIMALS)
        linear = total[:2, :2]
        return np.column_stack([linear, total[:2, 2] + center - linear @ center])


def transform_names() -> tuple[str, ...]:
    """The names of single perturbations."""
    return tuple(_STEPS)


def parse_transform(name: str) -> Transform:
    """The perturbation called `name`, such as rotate30 or rotate30+rotate-60 (the left one first).

    Raises:
        UsageError: a part is unknown; the message lists the known ones.
    """
    for part in name.split("+"):
        if part not in _STEPS:
            of = "" if part == name else f" in {name!r}"
            raise UsageError(
                f"unknown transform {part!r}{of}: choose one of {', '.join(_STEPS)}, or join several with '+'"
            )
    return Transform(name)


def expand_group(name: str) -> list[Transform]:
    """The perturbations of a group (rotations, all), or the one called `name`, as a list.

    Raises:
        UsageError: neither a group nor a perturbation; the message lists both.
    """
    if name in _GROUPS:
        return [Transform(member) for member in _GROUPS[name]]
    try:
        return [parse_transform(name)]
    except UsageError as error:
        raise UsageError(f"{error}; or one of the groups {', '.join(_GROUPS)}") from None


def perturb(image: np.ndarray, face: Face, transform: Transform) -> np.ndarray:
    """The picture with `transform` done about the center of the box of `face`.

    Args:
        image: (H, W, 3) uint8.
        face: where the face is in `image`; only its box is used.
        transform: see `parse_transform`.

    Returns:
        (H, W, 3) uint8: one bilinear resampling, rounded to the nearest level; black where a pixel's center
        comes from outside the picture. What leaves the frame is lost.
    """
    height, width = image.shape[:2]
    return resample(image, transform.matrix(face), width, height)
