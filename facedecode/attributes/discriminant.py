"""Which class a template is of: linear discriminant analysis in closed form, classes equally likely (Fisher 1936)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError

# Added to the within-class covariance, in units of its mean eigenvalue: keeps directions without data harmless.
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Discriminant:
    """A linear classifier: the class k with the highest weight[k] · x + bias[k].

    classes: their names. weight: (k, d) float64. bias: (k,) float64.
    """

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def classify(self, templates: np.ndarray) -> np.ndarray:
        """The place of each template's class, (n, d) → int64 (n,); of equal ones the first."""
        return np.argmax(np.asarray(templates, np.float64) @ self.weight.T + self.bias, axis=1)


def fit_discriminant(groups: Sequence[tuple[str, np.ndarray]]) -> Discriminant:
    """Fit on templates of each class, (n_k, d) any float type; every class counts alike, however many it has.

    Raises:
        UsageError: fewer than two classes.
        BadInput: a class without a template.
    """
    if len(groups) < 2:
        raise UsageError("there is nothing to tell apart: give two classes or more")
    means, within = [], 0.0
    for name, templates in groups:
        templates = np.asarray(templates, np.float64)
        if not len(templates):
            raise BadInput(f"{name}: no template to learn this class from; give more images")
        means.append(templates.mean(axis=0))
        centered = templates - means[-1]
        within = within + centered.T @ centered / len(templates)
    means, within = np.stack(means), within / len(groups)
    # Scale alone decides where nothing varies within a class.
    scale = float(np.trace(within)) / len(within) or 1.0
    middle = means.mean(axis=0)
    weight = np.linalg.solve(within + _RIDGE * scale * np.eye(len(within)), (means - middle).T).T
    bias = -np.einsum("kd,kd->k", weight, (means + middle)) / 2
    return Discriminant(tuple(name for name, _ in groups), weight, bias)
