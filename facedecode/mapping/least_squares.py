"""Affine least squares from sums: each row is seen once, and memory is O(d²) whatever the number of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.mapping.jobs import Method

_BLOCK_NUMBERS = 2**21  # of a block that is held in float64: 16 MB a side
# What inputs vary in a direction, as a share of their length, below which it is rounding: templates are float32 sums of
# hundreds of products, and two correct ways to compute one differ by that much. Some recognizers (dlib-resnet) have
# dozens of such directions. A weight that reads them is a thousand times as large as any that reads faces, and what it
# makes of the rounding grows with each map that follows.
RESOLUTION = 3e-5


@dataclass(frozen=True)
class Solution:
    """output ≈ weight · input + bias.

    weight: (dim_out, dim_in) float64. bias: (dim_out,) float64.
    ridge: what was added to the diagonal of the centered Gram matrix.
    rank, condition: of the centered inputs. The condition is the largest over the smallest singular value,
        None where the rank is not full.
    """

    weight: np.ndarray
    bias: np.ndarray
    ridge: float
    rank: int
    condition: float | None


@dataclass(frozen=True)
class Spectrum:
    """The inputs' centered Gram matrix, vectors · diag(values) · vectorsᵀ.

    values: (dim,) float64, ascending. vectors: (dim, dim) float64, one a column.
    varies: bool (dim,), False for directions in which the inputs vary by less than RESOLUTION of their length.
    """

    values: np.ndarray
    vectors: np.ndarray
    varies: np.ndarray

    @property
    def rank(self) -> int:
        """In how many directions the inputs vary."""
        return int(self.varies.sum())

    @property
    def condition(self) -> float | None:
        """The largest over the smallest singular value of the centered inputs; None where the rank is not full."""
        return math.sqrt(self.values[-1] / self.values[0]) if self.varies.all() else None


class GramAccumulator:
    """Means and centered second moments of pairs (input, output) in float64.

    n: pairs. mean_in (dim_in,), mean_out (dim_out,). in_in (dim_in, dim_in), in_out (dim_in, dim_out): sums of the
    centered products. out_out: the sum of the squared lengths of the centered outputs.

    Each block is centered by its own mean before it is squared, and moments of different means are joined by
    their exact rule (Chan, Golub and LeVeque 1979), so a large common offset costs no digits.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        self.dim_in = dim_in
        self.dim_out = dim_out
        self.n = 0
        self.mean_in, self.mean_out = np.zeros(dim_in), np.zeros(dim_out)
        self.in_in, self.in_out = np.zeros((dim_in, dim_in)), np.zeros((dim_in, dim_out))
        self.out_out = 0.0

    def add(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        """Take in pairs: (n, dim_in) and (n, dim_out), of any float type; n may be 0.

        Raises BadInput: other shapes, NaN or infinite numbers. Nothing of the call is taken in then.
        """
        inputs, outputs = np.asarray(inputs), np.asarray(outputs)
        expected = ((len(inputs), self.dim_in), (len(inputs), self.dim_out))
        if (inputs.shape, outputs.shape) != expected:
            raise BadInput(f"templates of shapes {inputs.shape} and {outputs.shape}: expected {expected}")
        for values in (inputs, outputs):
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                raise BadInput(f"template {row} has NaN or infinite numbers: make it again")
        step = max(1, _BLOCK_NUMBERS // max(self.dim_in, self.dim_out))
        for start in range(0, len(inputs), step):
            self._add_block(inputs[start : start + step], outputs[start : start + step])

    def merge(self, other: GramAccumulator) -> None:
        """Take in what `other` has seen; the same as having seen it oneself."""
        if (other.dim_in, other.dim_out) != (self.dim_in, self.dim_out):
            raise BadInput(
                f"sums of {other.dim_in}→{other.dim_out} and {self.dim_in}→{self.dim_out} dimensions "
                "do not merge: use one recognizer"
            )
        if other.n == 0:
            return
        bridge_in, bridge_out = self._shift_means(other.n, other.mean_in, other.mean_out)
        self.in_in += other.in_in
        self.in_in += np.outer(bridge_in, bridge_in)
        self.in_out += other.in_out
        self.in_out += np.outer(bridge_in, bridge_out)
        self.out_out += other.out_out + float(bridge_out @ bridge_out)

    def solve(self, ridge: float = 0.0) -> Solution:
        """Least squares with a bias that is not penalized.

        ridge: in units of the mean eigenvalue of the inputs' centered Gram matrix (trace over dim_in), so that it means
            the same whatever the scale and the number of the inputs. Directions in which the inputs do not vary beyond
            RESOLUTION get no weight; without such it is `numpy.linalg.lstsq`.

        Raises UsageError: a negative or infinite ridge. BadInput: no pairs.
        """
        if not (math.isfinite(ridge) and ridge >= 0):
            raise UsageError(f"a ridge of {ridge} makes no sense: give 0 or more")
        spectrum = self.spectrum()
        penalty = ridge * self.mean_eigenvalue
        vectors = spectrum.vectors[:, spectrum.varies]
        weight = ((vectors / (spectrum.values[spectrum.varies] + penalty)) @ (vectors.T @ self.in_out)).T
        return self.solution(weight, penalty, spectrum)

    def solution(self, weight: np.ndarray, penalty: float, spectrum: Spectrum) -> Solution:
        """A weight (dim_out, dim_in) with the bias that is best for it."""
        bias = self.mean_out - weight @ self.mean_in
        return Solution(weight, bias, penalty, spectrum.rank, spectrum.condition)

    @property
    def mean_eigenvalue(self) -> float:
        """Of the inputs' centered Gram matrix: the unit of a ridge."""
        return float(np.trace(self.in_in)) / self.dim_in

    def spectrum(self) -> Spectrum:
        """In which directions the inputs vary, and how much. Raises BadInput if there are no pairs."""
        if self.n == 0:
            raise BadInput("no pair of templates to fit a map to: give more images")
        values, vectors = np.linalg.eigh(self.in_in)
        squares = float(np.trace(self.in_in)) + self.n * float(self.mean_in @ self.mean_in)
        return Spectrum(values, vectors, values > squares * RESOLUTION**2)

    def judge(self, weight: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
        """How well a map does on the pairs seen, from the moments alone.

        weight, bias: (d, d) and (d,) of a map between templates of one size.

        Returns JSON: `n`; `residual`, the mean of ‖output − map(input)‖²; `displacement`, that of ‖output − input‖²;
        `relative`, their ratio (None where nothing moved beyond rounding). Good to about 1e-15 of the outputs'
        variance.
        """
        residual = self._mean_squared(np.asarray(weight, np.float64), np.asarray(bias, np.float64))
        displacement = self._mean_squared(np.eye(self.dim_in), np.zeros(self.dim_in))
        rounding = 1e-13 * self.out_out / max(1, self.n)
        relative = residual / displacement if displacement > rounding else None
        return {"n": self.n, "residual": residual, "displacement": displacement, "relative": relative}

    def _mean_squared(self, weight: np.ndarray, bias: np.ndarray) -> float:
        mixed, mapped = np.sum(weight.T * self.in_out), np.sum((weight @ self.in_in) * weight)
        offset = self.mean_out - weight @ self.mean_in - bias
        return max(0.0, float(self.out_out - 2 * mixed + mapped)) / self.n + float(offset @ offset)

    def _add_block(self, inputs: np.ndarray, outputs: np.ndarray) -> None:
        count = len(inputs)
        x, y = np.empty((count + 1, self.dim_in)), np.empty((count + 1, self.dim_out))
        x[:-1], y[:-1] = inputs, outputs
        mean_in, mean_out = x[:-1].mean(axis=0), y[:-1].mean(axis=0)
        x[:-1] -= mean_in
        y[:-1] -= mean_out
        # The step between the means enters the products as one more row.
        x[-1], y[-1] = self._shift_means(count, mean_in, mean_out)
        self.in_in += x.T @ x
        self.in_out += x.T @ y
        self.out_out += float(np.sum(y * y))

    def _shift_means(self, count: int, mean_in: np.ndarray, mean_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Move the means to those with `count` more rows; returns the row that the moments gain by it."""
        total = self.n + count
        step_in, step_out = mean_in - self.mean_in, mean_out - self.mean_out
        self.mean_in += step_in * (count / total)
        self.mean_out += step_out * (count / total)
        factor = math.sqrt(self.n * (count / total))
        self.n = total
        return step_in * factor, step_out * factor


# Ridges that 'auto' tries besides none, 20 a decade: below them nothing changes, above them the map is the mean.
_RIDGES = np.logspace(-6, 3, 181)


def solve(sums: GramAccumulator, method: Method, ridge: float = 0.0) -> Solution:
    """The map between templates of one size with the least squared error on the pairs in `sums`.

    method: its kind and rank.
    ridge: in the units of `GramAccumulator.solve`; that of `method` may be `auto`.

    Raises BadInput: no pairs. UsageError: a rank above the templates' size.
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

    Returns a ridge in the units of `GramAccumulator.solve`: 0, or one of 20 a decade from 1e-6 to 1000. Raises
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

    Returns `singular_values`, all, the largest first; `rank`; `condition`, the largest over the smallest, or None where
    the rank is not full.
    """
    values = np.linalg.svd(np.asarray(weight, np.float64), compute_uv=False)
    rank = int((values > values[0] * max(weight.shape) * np.finfo(np.float64).eps).sum()) if values[0] > 0 else 0
    condition = float(values[0] / values[-1]) if rank == len(values) else None
    return {"singular_values": values.tolist(), "rank": rank, "condition": condition}
