"""Maps in template space that undo a perturbation: Eq. 6 of the paper (§4.3.1), fitted, kept and applied.

θ̂ = argmin Σ ‖e − M(e′)‖² over affine M, where e is the template of an original image and e′ that of the
same image perturbed. The solver sees each pair once and keeps O(d²) numbers, however many pairs there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.gram import GramAccumulator
from facedecode.scores import score_pairs
from facedecode.tensor_file import Kind

FILE = Kind(
    "mapping", "fit-mapping", 1, {"transform": str, "recognizer": dict, "report": dict}, tensors=("weight", "bias")
)
# The ridge where there are too few pairs to determine a map and none was asked for.
SMALL_RIDGE = 1e-3
_SAMPLE_NUMBERS = 2**24  # of held-out templates kept for the scores: 64 MB a side


@dataclass(frozen=True, eq=False)
class Mapping:
    """An affine map of templates: e ≈ weight · e′ + bias.

    weight: (d, d) float32. bias: (d,) float32.
    transform: the perturbation that it undoes.
    recognizer: `Recognizer.describe()` of the one whose templates it maps.
    report: JSON; see `fit_mapping`.
    source: the file it was loaded from, if it was.

    Raises:
        BadInput: other shapes, or NaN or infinite numbers.
    """

    weight: np.ndarray
    bias: np.ndarray
    transform: str
    recognizer: dict[str, Any]
    report: dict[str, Any] = field(default_factory=dict)
    source: Path | None = None

    def __post_init__(self) -> None:
        dim = self.bias.size
        if self.bias.shape != (dim,) or self.weight.shape != (dim, dim) or dim == 0:
            raise BadInput(f"weight {self.weight.shape} and bias {self.bias.shape} make no map: fit it again")
        if self.recognizer.get("dim", dim) != dim:
            raise BadInput(f"a map of {dim} numbers cannot be for templates of {self.recognizer['dim']}: fit it again")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise BadInput("the map has NaN or infinite numbers: fit it again")

    @property
    def dim(self) -> int:
        """The size of the templates."""
        return self.bias.size

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Map templates (n, d), any float type → (n, d) float32. Raises BadInput for another shape."""
        templates = np.asarray(templates, np.float32)
        if templates.ndim != 2 or templates.shape[1] != self.dim:
            raise BadInput(f"{self._label()} takes templates (n, {self.dim}), not {templates.shape}")
        return templates @ self.weight.T + self.bias

    def require_recognizer(self, recognizer: dict[str, Any]) -> None:
        """Refuse templates of another recognizer, by name and by the hash of its weights.

        Args:
            recognizer: `Recognizer.describe()`, or the same from a store's manifest.

        Raises:
            BadInput: naming both.
        """
        mine, other = (_identify(which) for which in (self.recognizer, recognizer))
        if mine != other:
            raise BadInput(
                f"{self._label()} was fitted for {_show(mine)} and cannot map templates of {_show(other)}; "
                "fit one for that recognizer with 'facedecode fit-mapping'"
            )

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically; equal maps give equal bytes. Raises OutputError."""
        about = {"transform": self.transform, "recognizer": self.recognizer, "report": self.report}
        FILE.write(path, about, {"weight": self.weight, "bias": self.bias})

    def _label(self) -> str:
        return f"the {self.transform} mapping" if self.source is None else f"{self.source}: this mapping"


def load_mapping(path: Path | str) -> Mapping:
    """Read a mapping that `Mapping.save` wrote.

    Raises:
        BadInput: naming the file: missing, truncated or not safetensors, no mapping, an unknown version,
            missing entries, wrong shapes or types, NaN or infinite numbers.
    """
    path = Path(path)
    about, tensors = FILE.read(path)
    try:
        return Mapping(
            weight=tensors["weight"],
            bias=tensors["bias"],
            transform=about["transform"],
            recognizer=about["recognizer"],
            report=about["report"],
            source=path,
        )
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def fit_mapping(
    blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    transform: str,
    recognizer: dict[str, Any],
    *,
    ridge: float = 0.0,
    provenance: dict[str, Any] | None = None,
) -> Mapping:
    """Fit the map from perturbed to original templates; judge it on the rows held out of the fit.

    Args:
        blocks: (perturbed (n, d), original (n, d), held out (n,) bool) each, row by row the same images; read
            once, one at a time. For arrays in memory: `[(perturbed, original, held_out)]`.
        transform: the name of the perturbation.
        recognizer: `Recognizer.describe()`; its `score`, if it has one, is reported beside the cosine.
        ridge: penalty on the weight (never on the bias), times the mean variance of the perturbed templates.
        provenance: JSON to keep with the map, such as the store's fingerprint.

    Returns:
        The map. Its report has `fitted_on`, `ridge`, `rank`, `condition` (of the perturbed templates; None
        where singular), `provenance`, `training` and `held_out` (None without held-out rows). The last two
        have `n`, `residual` (mean of ‖e − M(e′)‖²), `displacement` (mean of ‖e − e′‖²) and `relative` (their
        ratio; 1 − relative is the share undone); `held_out` also has the means of cosine and of score before
        and after, over `scored` rows (all, or a random sample where they are very many).

    Raises:
        BadInput: no rows to fit, shapes that do not match, NaN or infinite templates.
        UsageError: a negative ridge.

    Warns:
        FacedecodeWarning: no more pairs than dimensions; a ridge of SMALL_RIDGE is applied if there was none.
    """
    training = held = sample = None
    for perturbed, original, held_out in blocks:
        perturbed, original = np.asarray(perturbed), np.asarray(original)
        held_out = np.asarray(held_out, dtype=bool)
        if perturbed.ndim != 2 or perturbed.shape != original.shape or held_out.shape != perturbed.shape[:1]:
            raise BadInput(
                f"{transform}: perturbed templates {perturbed.shape}, original ones {original.shape} and "
                f"held-out flags {held_out.shape} do not match"
            )
        if training is None:
            dim = perturbed.shape[1]
            training, held, sample = GramAccumulator(dim, dim), GramAccumulator(dim, dim), _Sample(dim)
        training.add(perturbed[~held_out], original[~held_out])
        held.add(perturbed[held_out], original[held_out])
        sample.add(perturbed[held_out], original[held_out])
    if training is None or training.n == 0:
        raise BadInput(f"{transform}: no pair of templates to fit a map to; give more images")

    ridge = _enough_ridge(training, ridge, transform)
    solution = training.solve(ridge)
    weight, bias = solution.weight.astype(np.float32), solution.bias.astype(np.float32)
    report = {
        "fitted_on": "the people who are not held out" if held.n else "all pairs",
        "ridge": ridge,
        "rank": solution.rank,
        "condition": solution.condition,
        "training": training.judge(weight, bias),
        "held_out": None,
        "provenance": provenance or {},
    }
    mapping = Mapping(weight, bias, transform, recognizer, report)
    if held.n:
        report["held_out"] = held.judge(weight, bias) | sample.scores(mapping)
    return mapping


class _Sample:
    """A random sample of held-out pairs, of bounded size and the same however they are blocked."""

    def __init__(self, dim: int) -> None:
        self.limit = max(1, _SAMPLE_NUMBERS // dim)
        self._random = np.random.default_rng(0)
        self._priorities = np.empty(0)
        self._rows = np.empty((2, 0, dim), np.float32)

    def add(self, perturbed: np.ndarray, original: np.ndarray) -> None:
        """Keep the rows with the lowest of one stream of random numbers."""
        priorities = self._random.random(len(perturbed))
        highest = self._priorities.max() if len(self._priorities) == self.limit else np.inf
        new = priorities < highest
        if not new.any():
            return
        rows = np.stack([perturbed[new], original[new]]).astype(np.float32)
        self._rows = np.concatenate([self._rows, rows], axis=1)
        self._priorities = np.concatenate([self._priorities, priorities[new]])
        if len(self._priorities) > self.limit:
            keep = np.sort(np.argsort(self._priorities, kind="stable")[: self.limit])
            self._rows, self._priorities = self._rows[:, keep], self._priorities[keep]

    def scores(self, mapping: Mapping) -> dict[str, Any]:
        """Mean cosine, and mean score in the recognizer's own convention, without and with the map."""
        perturbed, original = self._rows
        mapped = mapping.apply(perturbed)
        kind = mapping.recognizer.get("score", "cosine")
        result: dict[str, Any] = {"scored": len(original), "score": kind}
        for name, how in (("cosine", "cosine"), ("score", kind)):
            result[f"{name}_before"] = float(score_pairs(perturbed, original, how).mean(dtype=np.float64))
            result[f"{name}_after"] = float(score_pairs(mapped, original, how).mean(dtype=np.float64))
        return result


def _enough_ridge(training: GramAccumulator, ridge: float, transform: str) -> float:
    if training.n > training.dim_in:
        return ridge
    done = f"the ridge of {ridge:g} decides the rest"
    if ridge == 0:
        ridge, done = SMALL_RIDGE, f"a ridge of {SMALL_RIDGE:g} was applied"
    warnings.warn(
        f"{transform}: {training.n} pairs do not determine a map of {training.dim_in} dimensions; {done}; "
        "fit on more images",
        FacedecodeWarning,
        stacklevel=3,
    )
    return ridge


def _identify(recognizer: dict[str, Any]) -> tuple[str | None, str | None]:
    return recognizer.get("name"), recognizer.get("weights_sha256")


def _show(identity: tuple[str | None, str | None]) -> str:
    name, sha256 = identity
    return f"{name or 'an unnamed recognizer'} (weights {sha256[:12] + '…' if sha256 else 'without a hash'})"
