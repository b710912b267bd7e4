"""Maps in template space that undo a perturbation: Eq. 6 of the paper (§4.3.1), fitted, kept and applied.

θ̂ = argmin Σ ‖e − M(e′)‖² over affine M (or a narrower kind): e is the template of an original image, e′ that of the
same image perturbed. The solver sees each pair once and keeps O(d²) numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.fitted import FittedToPictures
from facedecode.identity import RecognizerId
from facedecode.mapping.jobs import Method
from facedecode.mapping.least_squares import GramAccumulator, Solution, choose_ridge, singular_values, solve
from facedecode.mapping.sums import MappingSums, Part
from facedecode.records import Record
from facedecode.statistics.scores import score_pairs
from facedecode.store.processing import Processing, refuse_done
from facedecode.tensor_file import Float32, Kind

# With fewer pairs a dimension than this, least squares does more harm than good on others: a ridge is chosen where
# none was asked for.
FEW = 3
# The ridge where too few pairs let cross-validation choose none.
SMALL_RIDGE = 1e-3


@dataclass(frozen=True)
class _Provenance(Record):
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class _Report(Record):
    provenance: _Provenance = field(default_factory=_Provenance)


@dataclass(frozen=True, eq=False)
class Mapping(FittedToPictures):
    """An affine map of templates: e ≈ weight · e′ + bias.

    weight: (d, d) float32. bias: (d,) float32. transform: the perturbation that it undoes. report: see `solve_mapping`.

    Raises BadInput: other shapes, or NaN or infinite numbers.
    """

    KIND: ClassVar[Kind] = Kind("mapping", "fit-mapping")

    weight: Float32
    bias: Float32
    transform: str

    def __post_init__(self) -> None:
        dim = self.bias.size
        if self.bias.shape != (dim,) or self.weight.shape != (dim, dim) or dim == 0:
            raise BadInput(f"weight {self.weight.shape} and bias {self.bias.shape} make no map: fit it again")
        self.recognizer.require_dim(dim, "a map")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise BadInput("the map has NaN or infinite numbers: fit it again")
        _ = self._parts  # refuses a malformed record now

    def __repr__(self) -> str:
        return f"Mapping(undoes {self.transform}, templates of {self.dim} numbers by {self.recognizer.name})"

    @property
    def dim(self) -> int:
        """The size of the templates."""
        return self.bias.size

    @property
    def fitted_on(self) -> list[str] | None:
        """The people whom it was fitted on, those held out of the fit among them; None where that is not recorded."""
        fitted = [part.people or () for part in self._parts]
        return sorted({person for people in fitted for person in people}) if fitted and all(fitted) else None

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Map templates (n, d), any float type → (n, d) float32. Raises BadInput for another shape."""
        return self.require_templates_of(templates, self.dim, np.float32) @ self.weight.T + self.bias

    def require_templates(self, recognizer: RecognizerId, done: Processing, where: Path | str) -> None:
        """Refuse other templates than the map is for: another recognizer or precision, or mapped ones. Raises BadInput.

        recognizer: of the templates. done: what was done to them: their store's manifest. where: its folder.
        """
        self.require_recognizer(recognizer)
        refuse_done(done, where, allowed=("transform", "attack", "cluster", "aggregate", "l2_normalized"))
        fitted_in, made_in = self.precision, done.precision
        if fitted_in != made_in:
            raise BadInput(
                f"{where}: templates made in {made_in}, and {self.label} was fitted on {fitted_in} ones, which round "
                f"otherwise; extract them in {fitted_in}, or fit a map on {made_in} ones"
            )

    def warn_of_other_faces(self, done: Processing, where: Path | str) -> None:
        """Warn (FacedecodeWarning) where the faces of a store were perturbed otherwise, or not at all."""
        made_with = done.transform
        if self.transform != made_with:
            warnings.warn(
                f"{where}: templates of faces {f'perturbed by {made_with}' if made_with else 'as they were'}, and "
                f"{self.label.removesuffix(': this mapping')} undoes {self.transform}",
                FacedecodeWarning,
                stacklevel=3,
            )

    @property
    def precision(self) -> str:
        """In which the recognizer made the templates that it was fitted on."""
        return self._parts[0].precision if self._parts else "fp32"

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        """The runs with the pairs that it was fitted to."""
        return _Report.from_json("its report", self.report).provenance.parts

    @property
    def label(self) -> str:
        return f"the {self.transform} mapping" if self.source is None else super().label


load_mapping = Mapping.load


def fit_mapping(
    blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    transform: str,
    recognizer: RecognizerId,
    *,
    kind: Literal["affine", "orthogonal", "low-rank"] = "affine",
    ridge: float | Literal["auto"] = 0.0,
    rank: int | None = None,
    provenance: dict[str, Any] | None = None,
) -> Mapping:
    """Fit the map from perturbed to original templates; judge it on the rows held out of the fit.

    Args:
        blocks: (perturbed (n, d), original (n, d), held out (n,) bool) each, row by row the same images; read once,
            one at a time. For arrays in memory: `[(perturbed, original, held_out)]`.
        transform: the name of the perturbation.
        kind, ridge, rank: see `jobs.Method`.
        provenance: JSON to keep with the map, such as the store's fingerprint.

    Raises and warns as `solve_mapping`; BadInput also for shapes that do not match, NaN or infinite templates.
    """
    method, sums = Method(kind, ridge, rank), MappingSums(transform, recognizer)
    for block in blocks:
        sums.add(*block)
    return solve_mapping(sums, method, provenance)


def solve_mapping(sums: MappingSums, method: Method, provenance: dict[str, Any] | None = None) -> Mapping:
    """The map that follows from sums, judged on those held out.

    Returns the map. Its report has `kind`, `fitted_on`, `left_out` (images whose face left the frame), `ridge` and
    `ridge_by` (`given`; `gcv`, by `least_squares.choose_ridge`; `too few pairs`, by the same where none was given),
    `rank` and `condition` (of the perturbed templates; None where singular), `map` (see `singular_values`),
    `provenance`, `training` and `held_out` (None without held-out rows). The last two have `n`, `residual` (mean of ‖e
    − M(e′)‖²), `displacement` (mean of ‖e − e′‖²) and `relative` (their ratio; 1 − relative is the share undone);
    `held_out` also has the means of cosine and of score before and after, over `scored` rows (all, or a random sample
    where they are very many).

    Raises BadInput: no pairs to fit to. UsageError: a rank above the templates' size.

    Warns FacedecodeWarning: fewer than three pairs a dimension (a ridge is chosen where there is none), or directions
    in which the perturbed templates do not vary.
    """
    solution, ridge, ridge_by = solution_of(sums, method)
    training, held = sums.training, sums.held_out
    weight, bias = solution.weight.astype(np.float32), solution.bias.astype(np.float32)
    report = {
        "kind": method.kind,
        "fitted_on": "the people who are not held out" if held.n else "all pairs",
        "left_out": sums.left_out,
        "ridge": ridge,
        "ridge_by": ridge_by,
        "rank": solution.rank,
        "condition": solution.condition,
        "map": singular_values(solution.weight),
        "training": training.judge(weight, bias),
        "held_out": None,
        "provenance": provenance or {},
    }
    mapping = Mapping(weight, bias, sums.transform, recognizer=sums.recognizer, report=report)
    mapping.remember(sums.pictures)
    if held.n:
        report["held_out"] = held.judge(weight, bias) | _scores(mapping, *sums.sample())
    return mapping


def solution_of(sums: MappingSums, method: Method) -> tuple[Solution, float, str]:
    """The map that follows from sums, in float64, with its ridge and who chose that; as `solve_mapping`."""
    training = sums.training
    if training is None or training.n == 0:
        raise BadInput(f"{sums.transform}: no pair of templates to fit a map to; give more images")
    ridge, ridge_by = _ridge(training, method, sums.transform)
    solution = solve(training, method, ridge)
    _warn_of_constants(training, solution, method, sums.transform)
    return solution, ridge, ridge_by


def _scores(mapping: Mapping, perturbed: np.ndarray, original: np.ndarray) -> dict[str, Any]:
    """Mean cosine, and mean score in the recognizer's own convention, without and with the map."""
    mapped = mapping.apply(perturbed)
    kind = mapping.recognizer.score or "cosine"
    result: dict[str, Any] = {"scored": len(original), "score": kind}
    for name, how in (("cosine", "cosine"), ("score", kind)):
        result[f"{name}_before"] = float(score_pairs(perturbed, original, how).mean(dtype=np.float64))
        result[f"{name}_after"] = float(score_pairs(mapped, original, how).mean(dtype=np.float64))
    return result


def _ridge(training: GramAccumulator, method: Method, transform: str) -> tuple[float, str]:
    """The ridge to apply, and who chose it."""
    ridge, by = (choose_ridge(training), "gcv") if method.ridge == "auto" else (float(method.ridge), "given")
    if training.n > FEW * training.dim_in:
        return ridge, by
    if method.kind == "orthogonal":
        if training.n > training.dim_in:
            return ridge, by
        done = "the rest is arbitrary"
    elif ridge == 0:
        ridge, by = choose_ridge(training) or SMALL_RIDGE, "too few pairs"
        done = f"a ridge of {ridge:.3g} was applied"
    elif training.n > training.dim_in:
        return ridge, by
    else:
        done = f"the ridge of {ridge:g} decides the rest"
    warnings.warn(
        f"{transform}: {training.n} pairs {'do not determine' if training.n <= training.dim_in else 'are few for'} a "
        f"map of {training.dim_in} dimensions; {done}; fit on more images",
        FacedecodeWarning,
        stacklevel=5,
    )
    return ridge, by


def _warn_of_constants(training: GramAccumulator, solution: Solution, method: Method, transform: str) -> None:
    """Say how many directions carry nothing, where there are enough pairs to tell."""
    if training.n <= training.dim_in or training.dim_in == solution.rank:
        return
    warnings.warn(
        f"{transform}: the perturbed templates vary in {solution.rank} of {training.dim_in} directions, and in the "
        "others no more than rounding does; "
        f"{'there the map is arbitrary' if method.kind == 'orthogonal' else 'those get no weight'}",
        FacedecodeWarning,
        stacklevel=4,
    )
