"""A normal distribution for each class: what a quadratic probe reads by, and what a disentangler carries to another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One a class. means: (classes, dim) float64. covariances: (classes, dim, dim) float64."""

    means: np.ndarray
    covariances: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Gaussians:
        """Weighted moments of each class. x: (n, dim); values: int (n,), classes from 0; weights: (n,)."""
        means, covariances = [], []
        for value in range(int(values.max()) + 1):
            rows = values == value
            share = weights[rows] / weights[rows].sum()
            means.append(share @ x[rows])
            centered = x[rows] - means[-1]
            covariances.append((centered * share[:, None]).T @ centered)
        return cls(np.stack(means), np.stack(covariances))

    @property
    def spread(self) -> np.ndarray:
        """The mean variance of a number in each class: (classes,)."""
        return np.trace(self.covariances, axis1=1, axis2=2) / self.means.shape[1]

    def shrunk(self, share: float, floor: float = 0.0) -> Gaussians:
        """With so much of each covariance replaced by a multiple of the identity of the same trace (Friedman 1989).

        floor: a variance that is added to every number.
        """
        towards = (share * self.spread + floor)[:, None, None] * np.eye(self.means.shape[1])
        return Gaussians(self.means, (1 - share) * self.covariances + towards)

    @cached_property
    def factors(self) -> np.ndarray:
        """Lower Cholesky factors, (classes, dim, dim). LinAlgError: a covariance that is not positive definite."""
        return np.linalg.cholesky(self.covariances)

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """How probable each class is, all being as frequent: (n, dim) → float64 (n, classes)."""
        from scipy.linalg import solve_triangular
        from scipy.special import softmax

        densities = [
            -0.5 * (solve_triangular(factor, (x - mean).T, lower=True) ** 2).sum(0) - np.log(np.diag(factor)).sum()
            for mean, factor in zip(self.means, self.factors, strict=True)
        ]
        return softmax(np.stack(densities, axis=1), axis=1)
