"""What can be measured of an image without a label: pose, size, light, sharpness.

Pose comes from five landmarks, and is a proxy: it rises with the angle, but is not it. Lengths are in units of the
distance of the eyes, so that a face's size in the image plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import UsageError

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
SIDE = 64  # px of the portraits that light and sharpness are measured on


@dataclass(frozen=True)
class Attribute:
    """One of them.

    of_faces: landmarks (n, 5, 2) and detector's probabilities (n,), float64 → (n,); None where it is of pictures.
    of_pictures: portraits (n, P, P, 3) uint8 RGB → float64 (n,).
    """

    name: str
    meaning: str
    of_faces: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    of_pictures: Callable[[np.ndarray], np.ndarray] | None = None


def measure_faces(name: str, landmarks: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """An attribute of landmarks (n, 5, 2): left eye, right eye (of the picture), nose, corners of the mouth; px."""
    return ATTRIBUTES[name].of_faces(landmarks.astype(np.float64), probabilities)


def measure_pictures(name: str, portraits: np.ndarray) -> np.ndarray:
    """An attribute of portraits (n, P, P, 3) uint8 RGB → float64 (n,)."""
    return ATTRIBUTES[name].of_pictures(portraits)


def expand_names(names: Sequence[str] | None) -> list[str]:
    """The attributes that are meant, all if None. Raises UsageError for an unknown one."""
    for name in names or ():
        if name not in ATTRIBUTES:
            raise UsageError(f"--attribute {name}: known are {', '.join(ATTRIBUTES)}")
    return [name for name in ATTRIBUTES if not names or name in names]


def _frame(landmarks: np.ndarray) -> tuple[np.ndarray, ...]:
    """The middles of eyes and mouth, the axes from eye to eye and down the face, and the distance of the eyes."""
    eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
    between = landmarks[:, 1] - landmarks[:, 0]
    distance = np.linalg.norm(between, axis=1)
    across = between / distance[:, None]
    down = np.stack([-across[:, 1], across[:, 0]], axis=1)
    return eyes, mouth, across, down, distance


def _yaw(landmarks: np.ndarray, _: np.ndarray) -> np.ndarray:
    eyes, mouth, across, _, distance = _frame(landmarks)
    return np.einsum("nd,nd->n", landmarks[:, 2] - (eyes + mouth) / 2, across) / distance


def _turn(landmarks: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return np.abs(_yaw(landmarks, probabilities))


def _pitch(landmarks: np.ndarray, _: np.ndarray) -> np.ndarray:
    eyes, mouth, _, down, _ = _frame(landmarks)
    height = np.einsum("nd,nd->n", mouth - eyes, down)
    return np.einsum("nd,nd->n", landmarks[:, 2] - eyes, down) / height


def _roll(landmarks: np.ndarray, _: np.ndarray) -> np.ndarray:
    _, _, across, _, _ = _frame(landmarks)
    return -np.degrees(np.arctan2(across[:, 1], across[:, 0]))


def _size(landmarks: np.ndarray, _: np.ndarray) -> np.ndarray:
    return _frame(landmarks)[-1]


def _mouth(landmarks: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.linalg.norm(landmarks[:, 4] - landmarks[:, 3], axis=1) / _frame(landmarks)[-1]


def _luma(portraits: np.ndarray) -> np.ndarray:
    return portraits.astype(np.float64) @ LUMA / 255


def _central(portraits: np.ndarray) -> np.ndarray:
    """Luma of the middle half of the portrait, where the face is."""
    side = portraits.shape[1]
    return _luma(portraits)[:, side // 4 : side - side // 4, side // 4 : side - side // 4]


def _brightness(portraits: np.ndarray) -> np.ndarray:
    return _central(portraits).mean((1, 2))


def _contrast(portraits: np.ndarray) -> np.ndarray:
    return _central(portraits).std((1, 2))


def _side_light(portraits: np.ndarray) -> np.ndarray:
    values = _central(portraits)
    half = values.shape[2] // 2
    return values[:, :, half:].mean((1, 2)) - values[:, :, :half].mean((1, 2))


def _sharpness(portraits: np.ndarray) -> np.ndarray:
    x = _luma(portraits)
    laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * x[:, 1:-1, 1:-1]
    return np.log10(laplacian.var((1, 2)) + 1e-8)


ATTRIBUTES: dict[str, Attribute] = {
    attribute.name: attribute
    for attribute in [
        Attribute("yaw", "where the nose is between left and right, from the middle of eyes and mouth", _yaw),
        # A recognizer that takes a face and its mirror image for one keeps how far it is turned, not which way.
        Attribute("turn", "yaw without its sign: how far the face is turned either way", _turn),
        Attribute("pitch", "where the nose is between eyes and mouth: 0 at the eyes, 1 at the mouth", _pitch),
        Attribute("roll", "angle of the line through the eyes, degrees, counter-clockwise", _roll),
        Attribute("mouth", "width of the mouth over the distance of the eyes: wide in a smile", _mouth),
        Attribute("size", "distance of the eyes, pixels of the image", _size),
        Attribute("probability", "the detector's, that this is a face", lambda _, probabilities: probabilities),
        Attribute("brightness", "mean luma of the central face, 0 to 1", None, _brightness),
        Attribute("contrast", "standard deviation of the central face's luma", None, _contrast),
        Attribute("side-light", "luma of the face's right half of the picture less its left half", None, _side_light),
        Attribute("sharpness", "log10 of the variance of the Laplacian of a portrait's luma", None, _sharpness),
    ]
}
