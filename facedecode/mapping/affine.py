"""Affine maps of templates as matrices in homogeneous coordinates, and the maps between two others.

A map of d numbers is a float64 matrix (d + 1, d + 1) with the last row (0 … 0 1), so that two maps in a row are a
product of matrices. If a family of perturbations acted linearly on templates, the maps that undo rotations would be the
powers exp(θ·A) of one generator A. Fitted maps do so only in part.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from facedecode.errors import FacedecodeWarning
from facedecode.identity import RecognizerId
from facedecode.mapping.jobs import Method
from facedecode.mapping.maps import solution_of
from facedecode.mapping.sums import MappingSums

SIMPLER = {"orthogonal": "an orthogonal map", "shift": "a shift", "mean": "the mean template"}

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


@dataclass(frozen=True, eq=False)
class FittedMaps:
    """The maps of one perturbation, as matrices.

    undo: perturbed → original. redo: original → perturbed. simpler: maps that know less than `undo`, by the names of
    `SIMPLER`. rank: in how many directions both `undo` and `redo` read something.
    """

    undo: np.ndarray
    redo: np.ndarray
    simpler: dict[str, np.ndarray]
    rank: int


def fit_maps(
    name: str, perturbed: np.ndarray, original: np.ndarray, recognizer: RecognizerId, method: Method
) -> FittedMaps:
    """Fit the maps of a perturbation to pairs of templates, (n, d) each; warns as `maps.solve_mapping`."""
    held_out = np.zeros(len(original), bool)
    backward, forward = MappingSums(name, recognizer), MappingSums(f"{name}, forward", recognizer)
    backward.add(perturbed, original, held_out)
    forward.add(original, perturbed, held_out)
    undo, _, _ = solution_of(backward, method)
    with warnings.catch_warnings():
        # The map itself has warned of few pairs.
        warnings.simplefilter("ignore", FacedecodeWarning)
        redo, _, _ = solution_of(forward, method)
        orthogonal, _, _ = solution_of(backward, Method("orthogonal"))
    mean_in, mean_out = backward.training.mean_in, backward.training.mean_out
    simpler = {
        "orthogonal": affine(orthogonal.weight, orthogonal.bias),
        "shift": affine(np.eye(len(mean_in)), mean_out - mean_in),
        "mean": affine(np.zeros_like(undo.weight), mean_out),
    }
    rank = min(undo.rank, redo.rank)
    # In float64, as they were solved: several maps in a row would amplify the rounding to float32.
    return FittedMaps(affine(undo.weight, undo.bias), affine(redo.weight, redo.bias), simpler, rank)
