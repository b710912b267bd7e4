"""Faces that nobody has to look for: of crops that were cut out already, and of landmarks that a file gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from facedecode.pictures.align import Crop, boxed_face, cropped_face, landmarked_face
from facedecode.pictures.faces import Face, moved

SMALLEST_CROP = 32  # px


class GivenFaces(ABC):
    """Says where faces are by an image's size and path, without a look at its pixels; see `faces.FaceFinder`."""

    settings: dict[str, object]

    @abstractmethod
    def face(self, width: int, height: int, path: str | None) -> Face | str:
        """The face of an image of this size in px, or the reason why it has none."""

    def find(self, images: Sequence[np.ndarray], paths: Sequence[str | None]) -> Iterator[tuple[int, Face | str]]:
        """The face of each image; see `faces.FaceFinder`."""
        for index, (image, path) in enumerate(zip(images, paths, strict=True)):
            height, width = image.shape[:2]
            yield index, self.face(width, height, path)


class AlignedCrops(GivenFaces):
    """Takes each picture for a recognizer's crop, of whatever size.

    how: the crop. input_size: height and width of what the recognizer sees of it, its middle; a picture in these
        proportions is taken for that.
    """

    def __init__(self, how: Crop, input_size: tuple[int, int] | None = None) -> None:
        self._how, self._input = how, input_size or (how.size, how.size)
        self.settings = {"detector": "none", "images": "aligned crops"}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the recognizer's own crop, px."""
        height, width = self._input
        return width, height

    def face(self, width: int, height: int, path: str | None) -> Face | str:
        """The face where the crop has it."""
        own_width, own_height = self.size
        if min(width, height) < SMALLEST_CROP:
            return _too_small(width, height)
        if width == height:
            return cropped_face(self._how, width)
        if abs(width * own_height - height * own_width) < max(self.size):
            longer = max(width, height)
            shift = np.array([width - longer, height - longer]) / 2
            return moved(cropped_face(self._how, longer), np.column_stack([np.eye(2), shift]))
        others = "" if own_width == own_height else f" or has the proportions of {own_width} x {own_height}"
        return f"{width} x {height} pixels, and a crop is square{others}"


class BoxCrops(GivenFaces):
    """Takes each picture for the box of its face."""

    def __init__(self) -> None:
        self.settings = {"detector": "none", "images": "face boxes"}

    def face(self, width: int, height: int, path: str | None) -> Face | str:
        """The face that fills the picture."""
        return _too_small(width, height) if min(width, height) < SMALLEST_CROP else boxed_face(width, height)


class LandmarkedFaces(GivenFaces):
    """Takes faces from their landmarks.

    points: path of an image → (5, 2) px, in the order of `Face`; or why they are none. source: what a store records.
    """

    def __init__(self, points: Mapping[str, np.ndarray | str], source: Mapping[str, object]) -> None:
        self._points = points
        self.settings = {"detector": "none", **source}

    def face(self, width: int, height: int, path: str | None) -> Face | str:
        """The face of the landmarks that the path has."""
        points = self._points.get(path or "", "no landmarks")
        return points if isinstance(points, str) else landmarked_face(points)


def _too_small(width: int, height: int) -> str:
    return f"{width} x {height} pixels, and a crop has at least {SMALLEST_CROP} a side; take a larger picture"
