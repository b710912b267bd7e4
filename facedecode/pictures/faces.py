"""Faces in a picture: where they are, and which one counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# Pixels of equal-size images that share one pass (eight of LFW's): enough to spread the cost of a call, few enough for
# the tables to stay in cache.
_GROUP_PIXELS = 500_000
# Squared px of center offset are weighed twice against px of area, as in facenet-pytorch.
_CENTER_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face.

    box: (4,) float32, x1 y1 x2 y2 in px; may reach beyond the picture.
    landmarks: (5, 2) float32, px: the two eyes, nose, the two mouth corners; the one on the picture's left is first.
    probability: the detector's, in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float


def mirrored(image: np.ndarray, face: Face) -> tuple[np.ndarray, Face]:
    """A picture (H, W, 3) mirrored left to right, and the face in it."""
    width = image.shape[1]
    box, landmarks = face.box.copy(), face.landmarks[[1, 0, 2, 4, 3]]
    box[[0, 2]] = width - face.box[[2, 0]]
    landmarks[:, 0] = width - landmarks[:, 0]
    return np.ascontiguousarray(image[:, ::-1]), Face(box, landmarks, face.probability)


def moved(face: Face, matrix: np.ndarray) -> Face:
    """A face moved by a similarity, (2, 3) from old to new px. The box moves and grows, but does not turn."""
    linear, shift = matrix[:, :2], matrix[:, 2]
    corners = face.box.astype(np.float64).reshape(2, 2)
    center = linear @ corners.mean(axis=0) + shift
    half = np.sqrt(np.linalg.det(linear)) * (corners[1] - corners[0]) / 2
    landmarks = face.landmarks.astype(np.float64) @ linear.T + shift
    box = np.concatenate([center - half, center + half])
    return Face(box.astype(np.float32), landmarks.astype(np.float32), face.probability)


def choose_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """The face that an image is of: the largest, unless it lies far from the center; None without faces.

    Takes the greatest area of the box minus twice the squared distance (px) of its center from the image's center, as
    `center_weighted_size` of facenet-pytorch; of equals the first.
    """
    center = np.array([width, height]) / 2

    def weight(face: Face) -> float:
        x1, y1, x2, y2 = face.box.astype(np.float64)
        offset = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - center
        return (x2 - x1) * (y2 - y1) - _CENTER_WEIGHT * float(offset @ offset)

    return max(faces, key=weight, default=None)


class FaceFinder(Protocol):
    """Says where the face is that a picture is of."""

    @property
    def settings(self) -> dict[str, object]:
        """All that decides it; JSON."""

    def find(self, images: Sequence[np.ndarray], paths: Sequence[str | None]) -> Iterator[tuple[int, Face | str]]:
        """The number of each image, uint8 (height, width, 3) RGB, and its face or the reason why it has none.

        paths: of the images, as the inputs name them; None for an image of no file.

        Each comes as soon as it is known, in any order.
        """


class FaceDetector:
    """MTCNN with facenet-pytorch's weights, which come with that package.

    device: a torch device. min_face_size: px. thresholds: probabilities at the three networks. factor: ratio of
    neighboring scales of the pyramid. The defaults are facenet-pytorch's.
    """

    def __init__(
        self,
        device: str = "cpu",
        min_face_size: int = 20,
        thresholds: Sequence[float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
    ) -> None:
        first, second, third = (float(value) for value in thresholds)
        if min_face_size < 1 or not 0 < factor < 1:
            raise ValueError("min_face_size is at least 1 px, and factor lies between 0 and 1")
        from facedecode.pictures.mtcnn import Mtcnn  # torch: seconds to import

        self._net = Mtcnn(device, min_face_size, (first, second, third), factor)

    @property
    def settings(self) -> dict[str, object]:
        """All that decides the detections; JSON."""
        return {
            "detector": "mtcnn",
            "weights": "facenet-pytorch",
            "min_face_size": self._net.min_face_size,
            "thresholds": list(self._net.thresholds),
            "factor": self._net.factor,
        }

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Faces in each image, largest box first; an empty list where there is none.

        images: uint8 (height, width, 3) RGB, of any sizes; those of equal size share a pass. An image's faces do not
        depend on the others, up to rounding. Raises ValueError for another shape or type.
        """
        results: list[list[Face]] = [[] for _ in images]
        for index, faces in self._detected(images):
            results[index] = faces
        return results

    def find(self, images: Sequence[np.ndarray], paths: Sequence[str | None] = ()) -> Iterator[tuple[int, Face | str]]:
        """The face that each image is of, as `choose_face` says; see `FaceFinder`."""
        for index, faces in self._detected(images):
            height, width = images[index].shape[:2]
            yield index, choose_face(faces, width, height) or "no face found"

    def _detected(self, images: Sequence[np.ndarray]) -> Iterator[tuple[int, list[Face]]]:
        """The number of each image and its faces, as `detect` gives them, pass after pass."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise ValueError(f"an image is uint8 (height, width, 3), not {image.dtype} {image.shape}")
            groups.setdefault(image.shape, []).append(index)
        for (height, width, _), members in groups.items():
            step = max(1, _GROUP_PIXELS // (height * width))
            for start in range(0, len(members), step):
                part = members[start : start + step]
                # A large picture is alone, and is not copied.
                several = images[part[0]][None] if len(part) == 1 else np.stack([images[index] for index in part])
                detections = self._net.detect(several)
                for index, (boxes, probabilities, landmarks) in zip(part, detections, strict=True):
                    yield index, list(map(Face, boxes, landmarks, map(float, probabilities)))
