"""A map that need not be linear, for `table2.py`: how much more of a misalignment could be undone than a line undoes.

Kernel ridge regression with a Gaussian kernel, by random Fourier features (Rahimi and Recht 2007), beside an affine
part that is not penalized: with a large penalty it is the least-squares map itself. Kernel width and penalty are
chosen on people held out of those that it is fitted to, and then it is fitted to all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.annotations.protocols import held_out_people
from facedecode.errors import BadInput
from facedecode.mapping.least_squares import GramAccumulator

FEATURES = 1024
WIDTHS = (0.5, 1.0, 2.0)  # of the kernel, times the root mean square distance of two templates
PENALTIES = tuple(float(x) for x in 10.0 ** np.arange(-6, 2))  # a pair, of features with a variance of 1 in all
_ROWS = 2048  # of features at once
# Keeps the affine part solvable where templates do not vary in a direction; a share of their mean variance.
_TINY = 1e-9


@dataclass(frozen=True)
class Features:
    """Templates → their affine part and FEATURES cosines, float64 (n, dim + FEATURES).

    center: (dim,). unit: what a template's distances are divided by. directions: (dim, FEATURES), for a kernel of
    width 1. phases: (FEATURES,). width: of the kernel.
    """

    center: np.ndarray
    unit: float
    directions: np.ndarray
    phases: np.ndarray
    width: float

    def __call__(self, templates: np.ndarray) -> np.ndarray:
        plain = (templates - self.center) / self.unit
        waves = np.cos(plain @ (self.directions / self.width) + self.phases)
        return np.concatenate([plain, waves * np.sqrt(2 / len(self.phases))], axis=1)


@dataclass(frozen=True)
class Ceiling:
    """A fitted map. weight: float64 (dim, dim + FEATURES). bias: (dim,). penalty: that was chosen."""

    features: Features
    weight: np.ndarray
    bias: np.ndarray
    penalty: float

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Map templates (n, dim) → float32 (n, dim)."""
        blocks = (templates[start : start + _ROWS] for start in range(0, len(templates), _ROWS))
        parts = [self.features(block) @ self.weight.T + self.bias for block in blocks]
        return np.concatenate(parts).astype(np.float32)


def fit_ceiling(perturbed: np.ndarray, original: np.ndarray, people: Sequence[str], seed: int = 0) -> Ceiling:
    """Fit perturbed to original templates, both (n, dim); people: the name of each row's person, (n,).

    Raises BadInput where there are too few people to hold some out.
    """
    generator, dim = np.random.default_rng(seed), perturbed.shape[1]
    center = perturbed.mean(axis=0, dtype=np.float64)
    unit = float(np.sqrt(2 * np.mean(np.sum((perturbed - center) ** 2, axis=1))))
    directions = generator.normal(size=(dim, FEATURES))
    phases = generator.uniform(0, 2 * np.pi, FEATURES)
    held = held_out_people(people, [None] * len(people))
    if not held.any():
        raise BadInput(
            f"of {len(set(people))} people nobody is held out to choose the map's width by; give more people"
        )
    found = []
    for width in WIDTHS:
        features = Features(center, unit, directions, phases, width)
        fitted, judged = (_sums(features, perturbed[rows], original[rows]) for rows in (~held, held))
        for penalty in PENALTIES:
            error = _squared_error(judged, *_solve(fitted, penalty, dim))
            found.append((error, len(found), penalty, features, fitted, judged))
    _, _, penalty, features, fitted, judged = min(found)
    fitted.merge(judged)
    return Ceiling(features, *_solve(fitted, penalty, dim), penalty)


def _sums(features: Features, perturbed: np.ndarray, original: np.ndarray) -> GramAccumulator:
    sums = GramAccumulator(perturbed.shape[1] + FEATURES, original.shape[1])
    for start in range(0, len(perturbed), _ROWS):
        rows = slice(start, start + _ROWS)
        sums.add(features(perturbed[rows]), original[rows])
    return sums


def _solve(sums: GramAccumulator, penalty: float, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The weight and the bias of a penalty on all but the first `dim` inputs, times the number of pairs."""
    from scipy.linalg import solve

    gram, diagonal = sums.in_in.copy(), np.full(len(sums.in_in), penalty * sums.n)
    diagonal[:dim] = _TINY * np.trace(gram[:dim, :dim]) / dim
    gram[np.diag_indices_from(gram)] += diagonal
    weight = solve(gram, sums.in_out, assume_a="pos").T
    return weight, sums.mean_out - weight @ sums.mean_in


def _squared_error(sums: GramAccumulator, weight: np.ndarray, bias: np.ndarray) -> float:
    """Mean ‖original − map(perturbed)‖² of the pairs in `sums`."""
    offset = sums.mean_out - weight @ sums.mean_in - bias
    moved = np.sum((weight @ sums.in_in) * weight) - 2 * np.sum(weight.T * sums.in_out) + sums.out_out
    return float(moved) / sums.n + float(offset @ offset)
