"""A direction of the template space along which an attribute changes, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from facedecode.attributes.target import Target
from facedecode.errors import BadInput
from facedecode.identity import RecognizerId
from facedecode.tensor_file import Fitted, Float32, Kind


@dataclass(frozen=True, eq=False)
class Direction(Fitted):
    """Where an attribute lies.

    vector: (dim,) float32 of length 1, for templates as the recognizer gives them; towards `high`.
    attribute: what changes along it: "gender", "pose".
    low, high: what its ends are called: the classes of an attribute of two, else "low" and "high".
    positions: mean of template · vector over the images of the low class and of the high one (of a computed attribute:
        over its lowest and its highest fifth).

    Raises BadInput: a vector of another shape, length or dim, or positions that are not two rising numbers.
    """

    KIND: ClassVar[Kind] = Kind("direction", "evaluate leakage")

    vector: Float32
    attribute: str
    low: str
    high: str
    positions: tuple[float, float]

    def __post_init__(self) -> None:
        if self.vector.shape != (self.recognizer.dim or len(self.vector),):
            raise BadInput(f"a direction of shape {self.vector.shape} is not for {self.recognizer.name}")
        if not abs(float(np.linalg.norm(self.vector.astype(np.float64))) - 1) < 1e-3:  # NaN, too
            raise BadInput("a direction has length 1: find it again")
        if not self.positions[0] < self.positions[1]:
            raise BadInput(f"a direction has two rising positions, not {self.positions}: find it again")

    def move(self, templates: np.ndarray, amount: float) -> np.ndarray:
        """Templates (n, dim) float32 moved towards `high`: 1 is the way from the mean of `low` to that of `high`."""
        step = amount * (self.positions[1] - self.positions[0])
        return (templates + step * self.vector).astype(np.float32)

    def without(self, templates: np.ndarray) -> np.ndarray:
        """Templates (n, dim) float32, all brought halfway between `low` and `high`: what they said of it is gone.

        Only along this direction: a probe may still read the attribute elsewhere (see `evaluate leakage`).
        """
        missing = sum(self.positions) / 2 - templates.astype(np.float64) @ self.vector
        return (templates + missing[:, None] * self.vector).astype(np.float32)


load_direction = Direction.load


def find_direction(
    name: str, templates: np.ndarray, target: Target, recognizer: RecognizerId, about: dict | None = None
) -> Direction:
    """The direction to move along so that an attribute of two classes, or a number, changes as it does in the data.

    It is the pattern of the attribute, not the filter that reads it best (Haufe et al. 2014): the difference of the
    class means, or the covariance of templates and number. Persons count alike, and so do classes.

    about: more for the direction's report.

    Raises:
        BadInput: the attribute does not rise along it from the low end to the high one (it is hardly in the templates).
    """
    values = templates.astype(np.float64)
    weights = target.weights
    if target.classes is not None:
        means = [np.average(values[target.values == k], axis=0, weights=weights[target.values == k]) for k in (0, 1)]
        low, high = target.classes
        vector = means[1] - means[0]
    else:
        centered = target.values - weights @ target.values
        vector = (weights * centered) @ values
        low, high = "low", "high"
    length = np.linalg.norm(vector)
    vector = vector / length if length > 0 else vector
    along = values @ vector
    positions = at_ends(along, target)
    if not positions[0] < positions[1]:
        raise BadInput(f"{name} does not rise along any direction of these templates")
    report = {"images": len(values), "persons": int(target.persons.max()) + 1, **(about or {})}
    return Direction(vector.astype(np.float32), name, low, high, positions, recognizer=recognizer, report=report)


def at_ends(values: np.ndarray, target: Target) -> tuple[float, float]:
    """Means of values (n,) over the images of the low class and of the high one, or the lowest and the highest fifth.

    Every person counts alike.
    """
    if target.classes is not None:
        ends = target.values == 0, target.values == 1
    else:
        fifths = np.quantile(target.values, [0.2, 0.8])
        ends = target.values <= fifths[0], target.values >= fifths[1]
    low, high = (float(np.average(values[end], weights=target.weights[end])) for end in ends)
    return low, high
