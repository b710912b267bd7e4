"""The direction of a template space along which an attribute changes."""

from __future__ import annotations

import numpy as np

from facedecode.attributes.direction import Direction
from facedecode.attributes.target import Target
from facedecode.errors import BadInput


def find_direction(
    name: str, templates: np.ndarray, target: Target, recognizer: dict, about: dict | None = None
) -> Direction:
    """The direction to move along so that an attribute of two classes, or a number, changes as it does in the data.

    It is the pattern of the attribute, not the filter that reads it best (Haufe et al. 2014): the difference of the
    class means, or the covariance of templates and number. Persons count alike, and so do classes.

    Args:
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
    return Direction(vector.astype(np.float32), name, low, high, positions, recognizer, report)


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
