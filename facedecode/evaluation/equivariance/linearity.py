"""Figures of maps on templates that they were not fitted to: what they explain, and how they compose.

Of a perturbation, e is the template of an image and e′ that of the same image perturbed. The displacement that a map M
explains is 1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖² over the judged images. It is 1 for a map that brings every template back, 0
for one that is no better than none, and negative for one that does harm. Intervals are those of a ratio of means over
people.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.errors import FacedecodeWarning
from facedecode.evaluation.equivariance.affine import Affine, Subspace, between, mixed, relative_distance
from facedecode.evaluation.equivariance.family import Family
from facedecode.evaluation.equivariance.perturbed import Side
from facedecode.evaluation.result import Label, MetricSpec, Result
from facedecode.mapping.least_squares import GramAccumulator, Method
from facedecode.mapping.maps import solution_of
from facedecode.mapping.sums import MappingSums
from facedecode.statistics.bootstrap import Estimate, mean_interval, ratio_interval
from facedecode.statistics.scores import score_pairs

SIMPLER = {"orthogonal": "an orthogonal map", "shift": "a shift", "mean": "the mean template"}


def compared(name: str, axis: str, path: str, other: str, gates: tuple[str, ...] = (), headline: str = "") -> list:
    """The three figures of another map in place of the fitted one: {name}_fitted, {name}, {name}_difference.

    headline: of the difference.
    """
    note = "explained displacement less the fitted map's; the worst case"
    return [
        MetricSpec(f"{name}_fitted", (axis,), "percent", "explained by the fitted map", f"{path}/fitted"),
        MetricSpec(name, (axis,), "percent", f"explained by {other}", f"{path}/other", gates),
        MetricSpec(
            f"{name}_difference", (axis,), "points", f"{other}: difference", f"{path}/difference", (), headline, note
        ),
    ]


METRICS = (
    MetricSpec(
        "undone",
        ("transform",),
        "percent",
        "explained by the map",
        "transforms/{transform}/undone",
        ("undone[transform?]",),
        "Explained displacement, {transform}",
    ),
    MetricSpec(
        "undone_by", ("transform", "simpler"), "percent", "by {simpler}", "transforms/{transform}/undone_by/{simpler}"
    ),
    *(
        MetricSpec(
            f"{kind}_{when}",
            ("transform",),
            "score",
            f"{kind} {when}",
            f"transforms/{{transform}}/{kind}_{when}",
            (f"{kind}[transform?]",) if when == "after" else (),
        )
        for kind in ("cosine", "score")
        for when in ("before", "after")
    ),
    MetricSpec(
        "round_trip",
        ("transform",),
        "percent",
        "lost of perturbed templates",
        "transforms/{transform}/round_trip/perturbed",
        ("round_trip[transform?]",),
    ),
    MetricSpec(
        "round_trip_original",
        ("transform",),
        "percent",
        "lost of originals",
        "transforms/{transform}/round_trip/original",
    ),
    *compared(
        "composed",
        "composition",
        "compositions/{composition}",
        "the composed maps",
        ("composed[composition]",),
        "{composition}, the composed maps",
    ),
    MetricSpec("disagreement", ("composition",), "percent", "disagreement", "compositions/{composition}/disagreement"),
    MetricSpec("frobenius", ("composition",), "number", "distance of weights", "compositions/{composition}/frobenius"),
    *compared("opposite", "opposite", "opposites/{opposite}", "the opposite map"),
    *(
        spec
        for by in ("linear", "logarithm")
        for spec in compared(
            f"interpolated_{by}",
            "gap",
            f"interpolations/{{gap}}/{by}",
            f"{by} interpolation",
            (f"interpolated_{by}[gap]",),
        )
    ),
    MetricSpec("negative", ("gap",), "count", "negative eigenvalues", "interpolations/{gap}/negative_eigenvalues"),
)


@dataclass(frozen=True, eq=False)
class FittedMaps:
    """The maps of one perturbation.

    undo: perturbed → original. redo: original → perturbed. simpler: maps that know less than `undo`, by the names of
    `SIMPLER`. rank: in how many directions both `undo` and `redo` read something.
    """

    undo: Affine
    redo: Affine
    simpler: dict[str, Affine]
    rank: int


def fit_maps(side: Side, name: str, recognizer: Any, method: Method) -> FittedMaps:
    """Fit the maps of a perturbation. recognizer: the identity of the one that made the templates.

    Warns:
        FacedecodeWarning: see `mapping.maps.solve_mapping`.
    """
    perturbed, original = side.pairs(name)
    held_out = np.zeros(len(original), bool)
    undo, redo = MappingSums(name, recognizer), MappingSums(f"{name}, forward", recognizer)
    undo.add(perturbed, original, held_out)
    redo.add(original, perturbed, held_out)
    solution, _, _ = solution_of(undo, method)
    with warnings.catch_warnings():
        # The map itself has warned of few pairs.
        warnings.simplefilter("ignore", FacedecodeWarning)
        forward, _, _ = solution_of(redo, method)
        orthogonal, _, _ = solution_of(undo, Method("orthogonal"))
    mean_in, mean_out = undo.training.mean_in, undo.training.mean_out
    simpler = {
        "orthogonal": Affine.of(orthogonal),
        "shift": Affine(np.eye(len(mean_in)), mean_out - mean_in),
        "mean": Affine(np.zeros_like(solution.weight), mean_out),
    }
    return FittedMaps(Affine.of(solution), Affine.of(forward), simpler, min(solution.rank, forward.rank))


@dataclass(frozen=True)
class MapFigures:
    """Adds figures of maps on judged templates to a result. score: the recognizer's own kind."""

    result: Result
    judged: Side
    score: str
    repetitions: int
    seed: int

    def add_explained(self, name: str, maps: FittedMaps, key: bool, note: str) -> None:
        """What the maps of a perturbation explain, and scores before and after."""
        labels: dict[str, Label] = {"transform": name}
        self.result.add("undone", labels, self.explained(name, maps.undo), key=key, note=note)
        for simpler, other in maps.simpler.items():
            self.result.add("undone_by", {**labels, "simpler": simpler}, self.explained(name, other))
        perturbed, original = self.judged.pairs(name)
        for when, templates in (("before", perturbed.astype(np.float64)), ("after", maps.undo.apply(perturbed))):
            for metric, kind in (("cosine", "cosine"), ("score", self.score)):
                scores = score_pairs(templates, original, kind)
                mean = mean_interval(scores, self.judged.people(name), repetitions=self.repetitions, seed=self.seed)
                self.result.add(f"{metric}_{when}", labels, mean)

    def add_round_trip(self, fitted_on: Side, name: str, maps: FittedMaps) -> None:
        """Whether `undo` and `redo` are inverses: Σ‖e′ − F(M(e′))‖² / Σ‖e′ − mean‖², and the same of originals.

        0 where they are, 1 where nothing but the mean of those fitted on comes back.
        """
        ways = ("round_trip", maps.undo, maps.redo), ("round_trip_original", maps.redo, maps.undo)
        pairs = zip(self.judged.pairs(name), fitted_on.pairs(name), ways, strict=True)
        for templates, known, (metric, there, back) in pairs:
            lost = _squares(templates - back.apply(there.apply(templates)))
            spread = _squares(templates - known.mean(axis=0, dtype=np.float64))
            self.result.add(metric, {"transform": name}, self._ratio(name, lost, spread))

    def add_compositions(self, family: Family, maps: Mapping[str, FittedMaps]) -> None:
        """The map of `second` and then that of `first`, on templates of the perturbation that is both in a row.

        Disagreement: Σ‖M(e′) − M₁(M₂(e′))‖² over the spread of M(e′). Distance of weights: ‖W − W₁W₂‖ / ‖W‖, which
        counts directions in which templates hardly vary as much as others.
        """
        composed = {pair: maps[pair[0]].undo.after(maps[pair[1]].undo) for pair in family.chains()}
        differences = {}
        for pair, whole in family.chains().items():
            fitted, (perturbed, _) = maps[whole].undo, self.judged.pairs(whole)
            reached = fitted.apply(perturbed)
            apart, spread = (
                _squares(reached - composed[pair].apply(perturbed)),
                _squares(reached - reached.mean(axis=0)),
            )
            labels: dict[str, Label] = {"composition": pair}
            self.result.add("disagreement", labels, self._ratio(whole, apart, spread))
            distance = relative_distance(fitted.weight, composed[pair].weight)
            self.result.add("frobenius", labels, distance if np.isfinite(distance) else None)
            differences[pair] = self.difference(whole, fitted, composed[pair]).value
        for pair, whole in family.chains().items():
            worst = pair == min(differences, key=differences.__getitem__)
            self.add_compared("composed", {"composition": pair}, whole, maps[whole].undo, composed[pair], worst)

    def add_opposites(self, family: Family, maps: Mapping[str, FittedMaps]) -> None:
        """The map that does a rotation in place of the one that undoes the opposite rotation."""
        for name, other in family.opposites():
            self.add_compared("opposite", {"opposite": (name, other)}, name, maps[name].undo, maps[other].redo)

    def add_interpolations(self, family: Family, maps: Mapping[str, FittedMaps], originals: np.ndarray) -> None:
        """Each rotation between two others by their maps, without its own.

        originals: the unperturbed templates fitted on, (n, d). The logarithm is taken in the coordinates of their main
        directions, in which all maps can have an inverse.
        """
        dim = originals.shape[1]
        sums = GramAccumulator(dim, dim)
        sums.add(originals, originals)
        lowest = min(own.rank for own in maps.values())
        subspace = Subspace(sums.mean_in, sums.spectrum().vectors[:, dim - lowest :])
        undo = {None: Affine.identity(dim), **{name: own.undo for name, own in maps.items()}}
        for gap in family.gaps():
            name, (low, angle, high) = gap.transform, gap.angles
            lower, upper, share = undo[gap.lower], undo[gap.upper], (angle - low) / (high - low)
            labels: dict[str, Label] = {"gap": name}
            self.add_compared("interpolated_linear", labels, name, undo[name], mixed(lower, upper, share))
            power = between(lower.within(subspace), upper.within(subspace), share)
            if power.map is not None:
                self.add_compared("interpolated_logarithm", labels, name, undo[name], power.map.lifted(subspace))
            self.result.add("negative", labels, power.negative)

    def add_compared(
        self, metric: str, labels: Mapping[str, Label], name: str, fitted: Affine, other: Affine, key: bool = True
    ) -> None:
        """The figures of `compared` on the templates of a perturbation."""
        self.result.add(f"{metric}_fitted", labels, self.explained(name, fitted))
        self.result.add(metric, labels, self.explained(name, other))
        self.result.add(f"{metric}_difference", labels, self.difference(name, fitted, other), key=key)

    def explained(self, name: str, one: Affine) -> Estimate:
        """The displacement by a perturbation that a map explains."""
        ratio = self._ratio(name, self._residuals(name, one), self._displacements(name))
        low, high = (None if end is None else 1 - end for end in (ratio.high, ratio.low))
        return Estimate(1 - ratio.value, low, high, ratio.n)

    def difference(self, name: str, fitted: Affine, other: Affine) -> Estimate:
        """The explained displacement of another map less the fitted one's, paired."""
        more = self._residuals(name, fitted) - self._residuals(name, other)
        return self._ratio(name, more, self._displacements(name))

    def _ratio(self, name: str, numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
        people = self.judged.people(name)
        return ratio_interval(numerators, denominators, people, repetitions=self.repetitions, seed=self.seed)

    def _residuals(self, name: str, one: Affine) -> np.ndarray:
        perturbed, original = self.judged.pairs(name)
        return _squares(original - one.apply(perturbed))

    def _displacements(self, name: str) -> np.ndarray:
        perturbed, original = self.judged.pairs(name)
        return _squares(original.astype(np.float64) - perturbed)


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths, (n, d) → (n,)."""
    return np.einsum("nd,nd->n", vectors, vectors)
