"""Figures of maps on templates that they were not fitted to: what they explain, and how they compose.

Of a perturbation, e is the template of an image and e′ that of the same image perturbed. The displacement that a map M
explains is 1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖² over the judged images. It is 1 for a map that brings every template back, 0
for one that is no better than none, and negative for one that does harm. Intervals are those of a ratio of means over
people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facedecode.evaluation.result import Label, Result
from facedecode.mapping.affine import FittedMaps, apply, between, coordinates, relative_distance
from facedecode.mapping.least_squares import GramAccumulator
from facedecode.mapping.perturbed import Side
from facedecode.pictures.family import Family
from facedecode.statistics.bootstrap import Estimate, mean_interval, ratio_interval
from facedecode.statistics.scores import score_pairs


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
        for when, templates in (("before", perturbed.astype(np.float64)), ("after", apply(maps.undo, perturbed))):
            for metric, kind in (("cosine", "cosine"), ("score", self.score)):
                scores = score_pairs(templates, original, kind)
                mean = mean_interval(scores, self.judged.people(name), repetitions=self.repetitions, seed=self.seed)
                self.result.add(f"{metric}_{when}", labels, mean)

    def add_round_trip(self, fitted_on: Side, name: str, maps: FittedMaps) -> None:
        """Whether `undo` and `redo` are inverses: Σ‖e′ − F(M(e′))‖² / Σ‖e′ − mean‖², and the same of originals.

        0 where they are, 1 where nothing but the mean of those fitted on comes back.
        """
        both = ("round_trip", maps.redo @ maps.undo), ("round_trip_original", maps.undo @ maps.redo)
        for templates, known, (metric, back) in zip(self.judged.pairs(name), fitted_on.pairs(name), both, strict=True):
            lost = _squares(templates - apply(back, templates))
            spread = _squares(templates - known.mean(axis=0, dtype=np.float64))
            self.result.add(metric, {"transform": name}, self._ratio(name, lost, spread))

    def add_compositions(self, family: Family, maps: Mapping[str, FittedMaps]) -> None:
        """The map of `second` and then that of `first`, on templates of the perturbation that is both in a row.

        Disagreement: Σ‖M(e′) − M₁(M₂(e′))‖² over the spread of M(e′). Distance of weights: ‖W − W₁W₂‖ / ‖W‖, which
        counts directions in which templates hardly vary as much as others.
        """
        chains = family.chains()
        composed = {(first, second): maps[first].undo @ maps[second].undo for first, second in chains}
        differences = {
            pair: self._difference(whole, maps[whole].undo, composed[pair]) for pair, whole in chains.items()
        }
        worst = min(differences, key=lambda pair: differences[pair].value, default=None)
        for pair, whole in chains.items():
            fitted, (perturbed, _), labels = maps[whole].undo, self.judged.pairs(whole), {"composition": pair}
            self.add_compared("composed", labels, whole, fitted, composed[pair], key=pair == worst)
            reached = apply(fitted, perturbed)
            apart, spread = reached - apply(composed[pair], perturbed), reached - reached.mean(axis=0)
            self.result.add("disagreement", labels, self._ratio(whole, _squares(apart), _squares(spread)))
            distance = relative_distance(fitted[:-1, :-1], composed[pair][:-1, :-1])
            self.result.add("frobenius", labels, distance if np.isfinite(distance) else None)

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
        inwards, outwards = coordinates(sums.mean_in, sums.spectrum().vectors[:, dim - lowest :])
        undo = {None: np.eye(dim + 1), **{name: own.undo for name, own in maps.items()}}
        for gap in family.gaps():
            name, (low, angle, high) = gap.transform, gap.angles
            lower, upper, share = undo[gap.lower], undo[gap.upper], (angle - low) / (high - low)
            labels: dict[str, Label] = {"gap": name}
            mixed = (1 - share) * lower + share * upper
            self.add_compared("interpolated_linear", labels, name, undo[name], mixed)
            power, negative = between(inwards @ lower @ outwards, inwards @ upper @ outwards, share)
            if power is not None:
                self.add_compared("interpolated_logarithm", labels, name, undo[name], outwards @ power @ inwards)
            self.result.add("negative", labels, negative)

    def add_compared(
        self,
        metric: str,
        labels: Mapping[str, Label],
        name: str,
        fitted: np.ndarray,
        other: np.ndarray,
        key: bool = True,
    ) -> None:
        """Another map in place of a perturbation's fitted one: what both explain, and the difference."""
        self.result.add(f"{metric}_fitted", labels, self.explained(name, fitted))
        self.result.add(metric, labels, self.explained(name, other))
        self.result.add(f"{metric}_difference", labels, self._difference(name, fitted, other), key=key)

    def explained(self, name: str, matrix: np.ndarray) -> Estimate:
        """The displacement by a perturbation that a map explains."""
        ratio = self._ratio(name, self._residuals(name, matrix), self._displacements(name))
        low, high = (None if end is None else 1 - end for end in (ratio.high, ratio.low))
        return Estimate(1 - ratio.value, low, high, ratio.n)

    def _difference(self, name: str, fitted: np.ndarray, other: np.ndarray) -> Estimate:
        more = self._residuals(name, fitted) - self._residuals(name, other)
        return self._ratio(name, more, self._displacements(name))

    def _ratio(self, name: str, numerators: np.ndarray, denominators: np.ndarray) -> Estimate:
        people = self.judged.people(name)
        return ratio_interval(numerators, denominators, people, repetitions=self.repetitions, seed=self.seed)

    def _residuals(self, name: str, matrix: np.ndarray) -> np.ndarray:
        perturbed, original = self.judged.pairs(name)
        return _squares(original - apply(matrix, perturbed))

    def _displacements(self, name: str) -> np.ndarray:
        perturbed, original = self.judged.pairs(name)
        return _squares(original.astype(np.float64) - perturbed)


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths, (n, d) → (n,)."""
    return np.einsum("nd,nd->n", vectors, vectors)
