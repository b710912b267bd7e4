"""How an attribute is spread over directions: what is still read when those that carry it are taken out, one by one.

Iterative nullspace projection (Ravfogel et al. 2020) with a ridge, whose direction has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facedecode.attributes.target import Target

_RIDGE = 1e-2  # times the mean variance


def removal_curve(
    templates: np.ndarray, target: Target, fold: np.ndarray, removed: Sequence[int]
) -> dict[int, np.ndarray]:
    """What a linear probe says of people of each fold once so many directions, found on the others, are gone.

    Args:
        templates: (n, dim). fold: int (n,). removed: numbers of directions, rising.

    Returns:
        number → scores (n, classes) or predictions (n,), as `probe.out_of_fold`.
    """
    shape = (len(templates),) if target.classes is None else (len(templates), len(target.classes))
    found = {number: np.empty(shape) for number in removed}
    for which in np.unique(fold):
        there, here = fold != which, fold == which
        part = target.of_people(there)
        for number, (x, y) in _walk(templates[there], templates[here], part, removed):
            found[number][here] = _ridge(x, part)(y)
    return found


def _walk(train: np.ndarray, test: np.ndarray, target: Target, removed: Sequence[int]):
    x, y = train.astype(np.float64), test.astype(np.float64)
    for number in range(max(removed) + 1):
        if number in removed:
            yield number, (x, y)
        direction = _direction(x, target)
        x, y = (values - np.outer(values @ direction, direction) for values in (x, y))


def _direction(x: np.ndarray, target: Target) -> np.ndarray:
    """The one that reads it best; of several classes the one along which their scores vary most."""
    slopes = _slopes(x, target)[0]
    vector = slopes[:, 0] if slopes.shape[1] == 1 else np.linalg.svd(slopes, full_matrices=False)[0][:, 0]
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.eye(len(vector))[0]


def _ridge(x: np.ndarray, target: Target):
    slopes, center, mean = _slopes(x, target)

    def predict(more: np.ndarray) -> np.ndarray:
        said = (more - center) @ slopes + mean
        if target.classes is None:
            return said[:, 0]
        return np.column_stack([-said[:, 0], said[:, 0]]) if len(target.classes) == 2 else said

    return predict


def _slopes(x: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if target.classes is None:
        wanted = target.values[:, None]
    elif len(target.classes) == 2:
        wanted = (2.0 * target.values - 1)[:, None]
    else:
        wanted = np.eye(len(target.classes))[target.values]
    weights = target.weights
    center, mean = weights @ x, weights @ wanted
    weighted = (x - center) * weights[:, None]
    gram = weighted.T @ (x - center)
    gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, weighted.T @ (wanted - mean)), center, mean
