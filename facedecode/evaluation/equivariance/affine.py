"""Affine maps of templates as members of a family: one after the other, and those between two others.

If a family of perturbations acted linearly on templates, the maps that undo it would compose as the perturbations do,
and those of rotations would be the powers exp(θ·A) of one generator A, in homogeneous coordinates. Fitted maps do so
only in part; what this module makes of them is judged on templates (`evaluation.equivariance.measure`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedecode.mapping.least_squares import Solution

# A condition number beyond which the inverse of a map is rounding.
_SINGULAR = 1e12
# Eigenvalues below this share of the largest are rounding; so is their sign.
_FLOOR = 1e-8
# An eigenvalue whose angle is this near to π is on the negative axis, where the principal logarithm is not real.
_NEGATIVE = 1e-8


@dataclass(frozen=True, eq=False)
class Affine:
    """x → weight · x + bias. weight: (d, d) float64. bias: (d,) float64."""

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, solution: Solution) -> Affine:
        """A fitted map, as it was solved: rounded to float32, several in a row would amplify the rounding."""
        return cls(solution.weight, solution.bias)

    @classmethod
    def identity(cls, dim: int) -> Affine:
        """The map that changes nothing."""
        return cls(np.eye(dim), np.zeros(dim))

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> Affine:
        """The map of a homogeneous matrix (d + 1, d + 1) whose last row is (0 … 0 1)."""
        return cls(matrix[:-1, :-1], matrix[:-1, -1])

    @property
    def matrix(self) -> np.ndarray:
        """(d + 1, d + 1) float64, in homogeneous coordinates."""
        return np.block([[self.weight, self.bias[:, None]], [np.zeros_like(self.bias), np.ones(1)]])

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Map templates (n, d) → (n, d) float64."""
        return np.asarray(templates, np.float64) @ self.weight.T + self.bias

    def after(self, first: Affine) -> Affine:
        """The map that does `first`, and then this one."""
        return Affine(self.weight @ first.weight, self.weight @ first.bias + self.bias)

    def within(self, subspace: Subspace) -> Affine:
        """What the map does to the coordinates of a subspace: a map of (rank,) numbers."""
        basis, center = subspace.basis, subspace.center
        return Affine(basis.T @ self.weight @ basis, basis.T @ (self.apply(center[None])[0] - center))

    def lifted(self, subspace: Subspace) -> Affine:
        """The map of templates that does this one in a subspace, and ends in it."""
        weight = subspace.basis @ self.weight @ subspace.basis.T
        return Affine(weight, subspace.center + subspace.basis @ self.bias - weight @ subspace.center)


@dataclass(frozen=True, eq=False)
class Subspace:
    """Where templates vary: center (d,) and orthonormal columns basis (d, rank), float64."""

    center: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True, eq=False)
class Between:
    """A map between two others by the matrix logarithm.

    map: None where there is none (one of the two maps has no inverse, or numbers overflow).
    negative: eigenvalues of the step between the two maps on the negative axis. Where there are any the step has no
        real principal logarithm, and `map` is the mean of the two complex branches.
    """

    map: Affine | None
    negative: int = 0


def mixed(first: Affine, second: Affine, share: float) -> Affine:
    """The linear interpolation: (1 − share) · first + share · second."""
    return Affine((1 - share) * first.weight + share * second.weight, (1 - share) * first.bias + share * second.bias)


def between(first: Affine, second: Affine, share: float) -> Between:
    """The interpolation by the matrix logarithm: first · exp(share · log(first⁻¹ · second)).

    It is exact where both are powers of one generator, as long as the step between them turns no direction by half a
    turn or more: the logarithm of the step, not of the maps, has to tell which way round it went. On negative
    eigenvalues no real logarithm exists. Their principal power is complex then; its real part, the mean of the
    branches log r ± iπ, is taken, and they are counted.

    Args:
        share: from 0 (the first map) to 1 (the second).
    """
    from scipy.linalg import fractional_matrix_power  # of scikit-learn's dependencies; 0.1 s to import

    start, end = first.matrix, second.matrix
    if not max(np.linalg.cond(start), np.linalg.cond(end)) < _SINGULAR:
        return Between(None)
    step = np.linalg.solve(start, end)
    values = np.linalg.eigvals(step)
    there = np.abs(values) > _FLOOR * np.abs(values).max()
    negative = int((there & (np.pi - np.abs(np.angle(values)) < _NEGATIVE)).sum())
    with np.errstate(all="ignore"):  # what comes of a singular step is looked at below
        # Schur-Padé (Higham and Lin 2011), the same as exp(share · log(step)) and better conditioned.
        power = np.real(fractional_matrix_power(step, share))
    if not np.isfinite(power).all():
        return Between(None, negative)
    return Between(Affine.from_matrix(start @ power), negative)


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """‖one − other‖ / ‖one‖ in the Frobenius norm; NaN where `one` is zero."""
    length = float(np.linalg.norm(one))
    return float(np.linalg.norm(one - other)) / length if length > 0 else float("nan")
