"""Kinds of maps between templates, each solved in closed form from the same sums: affine, orthogonal, low rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from facedecode.errors import UsageError
from facedecode.mapping.gram import GramAccumulator, Solution

Kind = Literal["affine", "orthogonal", "low-rank"]
KINDS: tuple[str, ...] = get_args(Kind)
# Ridges that 'auto' tries besides none, 20 a decade: below them nothing changes, above them the map is the mean.
_RIDGES = np.logspace(-6, 3, 181)


@dataclass(frozen=True)
class Method:
    """How a map is fitted; all with a bias that is free.

    kind: `affine`: any weight. `orthogonal`: a rotation, or one with a reflection (Procrustes): keeps distances.
        `low-rank`: a weight of rank `rank` (reduced-rank regression).
    ridge: penalty on the weight, times the mean variance of the inputs; or `auto`, see `choose_ridge`.
    rank: of a low-rank map, else None.

    Raises:
        UsageError: an unknown kind, a ridge that is negative, infinite or for an orthogonal map, a rank below 1, a
            rank without low-rank or the reverse.
    """

    kind: str = "affine"
    ridge: float | Literal["auto"] = 0.0
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no kind of map is called {self.kind!r}: choose one of {', '.join(KINDS)}")
        if self.ridge != "auto" and not (
            isinstance(self.ridge, int | float) and math.isfinite(self.ridge) and self.ridge >= 0
        ):
            raise UsageError(f"a ridge of {self.ridge} makes no sense: give 0 or more, or auto")
        if self.kind == "orthogonal" and self.ridge != 0:
            raise UsageError("an orthogonal map has no ridge: its weight cannot shrink")
        if (self.kind == "low-rank") != (self.rank is not None):
            raise UsageError("a rank goes with a low-rank map, and a low-rank map needs one")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"a map of rank {self.rank} makes no sense: give 1 or more")

    def require_size(self, dim: int) -> None:
        """Refuse a rank above the templates' size. Raises UsageError."""
        if self.rank is not None and self.rank > dim:
            raise UsageError(f"a rank of {self.rank} between templates of {dim} numbers: give {dim} or less")

    def describe(self) -> dict[str, Any]:
        """JSON for provenance."""
        return {"kind": self.kind, "ridge": self.ridge, "rank": self.rank}


def solve(sums: GramAccumulator, method: Method, ridge: float = 0.0) -> Solution:
    """The map between templates of one size with the least squared error on the pairs in `sums`.

    Args:
        method: its kind and rank.
        ridge: in the units of `GramAccumulator.solve`; that of `method` may be `auto`.

    Raises:
        BadInput: no pairs.
        UsageError: a rank above the templates' size.
    """
    method.require_size(sums.dim_out)
    if method.kind == "orthogonal":
        return _orthogonal(sums)
    return sums.solve(ridge) if method.rank is None else _low_rank(sums, ridge, method.rank)


def _orthogonal(sums: GramAccumulator) -> Solution:
    """Procrustes: of U S Vᵀ = Σ (x − x̄)(y − ȳ)ᵀ the nearest orthogonal matrix (Schönemann 1966)."""
    spectrum = sums.spectrum()
    left, _, right = np.linalg.svd(sums.in_out)
    return sums.solution((left @ right).T, 0.0, spectrum)


def _low_rank(sums: GramAccumulator, ridge: float, rank: int) -> Solution:
    """Reduced-rank regression (Izenman 1975): the full solution, cut to the outputs' directions that it explains best.

    With a ridge it is that of Mukherjee and Zhu (2011), the same on rows extended by the penalty.
    """
    full, spectrum = sums.solve(ridge), sums.spectrum()
    scale = np.sqrt(np.where(spectrum.varies, spectrum.values, 0) + full.ridge)
    # As large as the fitted outputs, and with their right singular vectors, however many rows those have.
    fitted = scale[:, None] * (spectrum.vectors.T @ full.weight.T)
    best = np.linalg.svd(fitted)[2][:rank]
    return sums.solution(best.T @ (best @ full.weight), full.ridge, spectrum)


def choose_ridge(sums: GramAccumulator) -> float:
    """The ridge of an affine map with the least generalized cross-validation score (Golub, Heath and Wahba 1979).

    GCV(λ) = n · RSS(λ) / (n − df(λ))², where df counts the bias, is leave-one-out with every row's leverage put at
    the mean. It follows exactly from the sums alone; leave-one-out proper needs each row's own leverage, that is the
    rows once more. Rows of one person are not independent, so it may choose too small a ridge: judge by the people
    held out.

    Returns:
        A ridge in the units of `GramAccumulator.solve`: 0, or one of 20 a decade from 1e-6 to 1000.

    Raises:
        BadInput: no pairs.
    """
    ridges = np.concatenate([[0.0], _RIDGES])
    return float(ridges[np.argmin(gcv_scores(sums, ridges))])


def gcv_scores(sums: GramAccumulator, ridges: np.ndarray) -> np.ndarray:
    """GCV of each ridge (k,), see `choose_ridge`: float64 (k,); infinite where no degree of freedom is left."""
    spectrum = sums.spectrum()
    values = spectrum.values[spectrum.varies]
    explained = np.sum((spectrum.vectors[:, spectrum.varies].T @ sums.in_out) ** 2, axis=1) / values
    # The residual without a ridge, and what the ridge adds: no difference of large numbers.
    least = max(0.0, sums.out_out - float(explained.sum()))
    penalty = np.asarray(ridges, np.float64)[:, None] * sums.mean_eigenvalue
    residual = least + ((penalty / (values + penalty)) ** 2) @ explained
    free = sums.n - 1 - np.sum(values / (values + penalty), axis=1)
    # Where rows decide all there is nothing to divide; the margin is that of rounding.
    usable = free > 1e-9 * sums.n
    scores = np.full(len(free), np.inf)
    scores[usable] = sums.n * residual[usable] / free[usable] ** 2
    return scores


def singular_values(weight: np.ndarray) -> dict[str, Any]:
    """What a weight does to lengths, as JSON.

    Returns:
        `singular_values`, all, the largest first; `rank`; `condition`, the largest over the smallest, or None where
        the rank is not full.
    """
    values = np.linalg.svd(np.asarray(weight, np.float64), compute_uv=False)
    rank = int((values > values[0] * max(weight.shape) * np.finfo(np.float64).eps).sum()) if values[0] > 0 else 0
    condition = float(values[0] / values[-1]) if rank == len(values) else None
    return {"singular_values": values.tolist(), "rank": rank, "condition": condition}
