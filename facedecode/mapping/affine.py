"""Affine maps of templates as matrices in homogeneous coordinates, and the maps between two others.

A map of d numbers is a float64 matrix (d + 1, d + 1) with the last row (0 … 0 1), so that two maps in a row are a
product of matrices. If a family of perturbations acted linearly on templates, the maps that undo rotations would be the
powers exp(θ·A) of one generator A. Fitted maps do so only in part.
"""

from __future__ import annotations

import numpy as np

# A condition number beyond which the inverse of a map is rounding.
_SINGULAR = 1e12
# Eigenvalues below this share of the largest are rounding; so is their sign.
_FLOOR = 1e-8
# An eigenvalue whose angle is this near to π is on the negative axis, where the principal logarithm is not real.
_NEGATIVE = 1e-8


def affine(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The matrix of x → weight · x + bias; weight (k, d), bias (k,) → (k + 1, d + 1)."""
    return np.block([[weight, bias[:, None]], [np.zeros(weight.shape[1]), np.ones(1)]])


def apply(matrix: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Map templates (n, d) → (n, d) float64."""
    return np.asarray(templates, np.float64) @ matrix[:-1, :-1].T + matrix[:-1, -1]


def coordinates(center: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map from templates to their coordinates in a subspace, and the one from coordinates to templates.

    center: (d,). basis: (d, rank), orthonormal columns.
    """
    return affine(basis.T, -basis.T @ center), affine(basis, center)


def between(first: np.ndarray, second: np.ndarray, share: float) -> tuple[np.ndarray | None, int]:
    """The interpolation by the matrix logarithm: first · exp(share · log(first⁻¹ · second)).

    It is exact where both are powers of one generator, as long as the step between them turns no direction by half a
    turn or more: the logarithm of the step, not of the maps, has to tell which way round it went. On negative
    eigenvalues no real logarithm exists. Their principal power is complex then; its real part, the mean of the
    branches log r ± iπ, is taken, and they are counted.

    share: from 0 (the first map) to 1 (the second).

    Returns the map; None where one of the two has no inverse, or numbers overflow. The number of negative eigenvalues.
    """
    from scipy.linalg import fractional_matrix_power  # of scikit-learn's dependencies; 0.1 s to import

    if not max(np.linalg.cond(first), np.linalg.cond(second)) < _SINGULAR:
        return None, 0
    step = np.linalg.solve(first, second)
    values = np.linalg.eigvals(step)
    present = np.abs(values) > _FLOOR * np.abs(values).max()
    negative = int((present & (np.pi - np.abs(np.angle(values)) < _NEGATIVE)).sum())
    with np.errstate(all="ignore"):  # what comes of a singular step is looked at below
        # Schur-Padé (Higham and Lin 2011), the same as exp(share · log(step)) and better conditioned.
        power = np.real(fractional_matrix_power(step, share))
    return (first @ power if np.isfinite(power).all() else None), negative


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """‖one − other‖ / ‖one‖ in the Frobenius norm; NaN where `one` is zero."""
    length = float(np.linalg.norm(one))
    return float(np.linalg.norm(one - other)) / length if length > 0 else float("nan")
