"""Designs of bootstrap_coverage.py for scores of all pairs: rates at a false match rate, equal error rates, means.

A repetition draws people from a population (a number of images each, a kind, effects of their own), draws the scores of
all pairs of their images, and asks for intervals as an evaluation does: thresholds from the non-mated pairs of that
very sample. The truth is the population's, in closed form: every score of a pair of kinds is a normal variable, or in
the template design a distance whose square is a scaled chi-square. What pairs weigh in it is what they weigh in
expectation, so a figure in which pairs count alike estimates E[pairs · rate] / E[pairs] over people, and one in which
people count alike E[rate | the person has a pair].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.pair_rates import Trials, rates_at_fmr, rates_at_threshold, resampled_eer
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import AllPairs, mated_non_mated_scores

# How many people of LFW's DevTest have how many images (29 stands for 20 to 42).
DEVTEST = {1: 1215, 2: 224, 3: 92, 4: 55, 5: 32, 6: 20, 7: 7, 8: 11, 9: 8, 10: 7, 11: 7, 13: 6, 15: 5, 17: 4, 19: 3}
DEVTEST |= {29: 12, 52: 1, 109: 1, 121: 1}


@dataclass(frozen=True)
class Population:
    """Numbers of images with their frequencies, and the share of hard people among those with few and with many."""

    images: dict[int, float]
    hard: tuple[float, float] = (0.15, 0.35)
    many: int = 4

    def draw(self, people: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The number of images of each person and whether they are hard: int64 and bool (people,)."""
        frequencies = np.array(list(self.images.values()), dtype=np.float64)
        counts = generator.choice(np.array(list(self.images)), people, p=frequencies / frequencies.sum())
        return counts, generator.random(people) < np.where(counts < self.many, *self.hard)

    def shares(self, weight: Callable[[int], float]) -> np.ndarray:
        """How much easy and hard people weigh in a mean in which a person of c images has `weight(c)`: (2,)."""
        totals = np.zeros(2)
        for count, frequency in self.images.items():
            hard = self.hard[0] if count < self.many else self.hard[1]
            totals += frequency * weight(count) * np.array([1 - hard, hard])
        return totals / totals.sum()


@dataclass(frozen=True)
class Effects:
    """Scores that are sums of normal effects: of the person, of the image and of the pair.

    The mated and the non-mated effect of a person are correlated, and hard people score lower with themselves and
    higher with others.
    """

    mated: float = 4.0
    attack: float = 3.0
    person: float = 0.6
    lookalike: float = 0.35
    image: float = 0.4
    pair: float = 0.7
    together: float = -0.4
    penalty: float = 0.8

    def draw(self, hard: np.ndarray, codes: np.ndarray, generator: np.random.Generator) -> tuple[AllPairs, Trials]:
        shared = generator.normal(size=(2, len(hard)))
        own = self.person * shared[0] - self.penalty * hard
        mixed = self.together * shared[0] + np.sqrt(1 - self.together**2) * shared[1]
        other = self.lookalike * mixed + self.penalty / 8 * hard
        image = generator.normal(0, self.image, len(codes))
        side = (other[codes] + image).astype(np.float32)
        scores = self.pair * generator.standard_normal((len(codes), len(codes)), dtype=np.float32)
        scores += side[:, None] + side[None, :]
        left, right = np.triu_indices(len(codes), 1)
        same = codes[left] == codes[right]
        left, right = left[same], right[same]
        noise = generator.normal(0, self.pair, len(left))
        mated = self.mated + own[codes[left]] + image[left] + image[right] + noise
        non_mated = scores[np.triu(codes[:, None] != codes[None, :])]
        people = [str(k) for k in range(len(hard))]
        pairs = AllPairs(mated.astype(np.float32), left, right, non_mated, people, codes, codes, square=True)
        attack = self.attack + own[codes] + image + generator.normal(0, self.pair, len(codes))
        return pairs, Trials(attack.astype(np.float32), codes)

    def mated_rate(self, threshold: float) -> np.ndarray:
        means = self.mated - self.penalty * np.arange(2)
        return norm.sf(threshold, means, np.sqrt(self.person**2 + 2 * self.image**2 + self.pair**2))

    def attack_rate(self, threshold: float) -> np.ndarray:
        means = self.attack - self.penalty * np.arange(2)
        return norm.sf(threshold, means, np.sqrt(self.person**2 + self.image**2 + self.pair**2))

    def non_mated_rate(self, threshold: float) -> np.ndarray:
        means = self.penalty / 8 * np.add.outer(np.arange(2), np.arange(2))
        return norm.sf(threshold, means, np.sqrt(2 * (self.lookalike**2 + self.image**2 + self.pair**2 / 2)))


@dataclass(frozen=True)
class Templates:
    """Templates around a center for each person, compared by distance; those of hard people scatter more."""

    size: int = 24
    scatter: tuple[float, float] = (0.55, 0.7)
    rebuilt: float = 0.6  # scatter of the reconstructions around the person's center

    def draw(self, hard: np.ndarray, codes: np.ndarray, generator: np.random.Generator) -> tuple[AllPairs, Trials]:
        centers = generator.normal(size=(len(hard), self.size))[codes]
        scatter = np.where(hard, self.scatter[1], self.scatter[0])[codes, None]
        templates = centers + scatter * generator.normal(size=centers.shape)
        names = [f"{code:06d}" for code in codes]
        pairs = mated_non_mated_scores(templates.astype(np.float32), names, "negative-euclidean")
        rebuilt = centers + self.rebuilt * generator.normal(size=centers.shape)
        return pairs, Trials(-np.linalg.norm(templates - rebuilt, axis=1), codes)

    def mated_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, 2 * np.square(self.scatter))

    def attack_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, np.square(self.scatter) + self.rebuilt**2)

    def non_mated_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, 2 + np.add.outer(np.square(self.scatter), np.square(self.scatter)))

    def _rate(self, threshold: float, variance: np.ndarray) -> np.ndarray:
        return chi2.cdf(min(threshold, 0.0) ** 2 / variance, self.size)


@dataclass(frozen=True)
class Design:
    """What is drawn in each repetition, and the false match rates at which it is asked for."""

    text: str
    people: int
    population: Population
    model: Effects | Templates
    fmrs: tuple[float, ...]

    def truth(self) -> dict[str, float]:
        """The population's figures, by the names that `intervals` gives."""
        images, single = (self.population.shares(weight) for weight in (lambda c: c, lambda c: 1))
        pairs = self.population.shares(lambda c: c * (c - 1))
        with_pairs = self.population.shares(lambda c: c > 1)

        def reached(threshold: float) -> float:
            return float(images @ self.model.non_mated_rate(threshold) @ images)

        def fnmr(threshold: float) -> float:
            return float(1 - pairs @ self.model.mated_rate(threshold))

        ends = (-100.0, 100.0)

        def fnmr_by_person(threshold: float) -> float:
            return float(1 - with_pairs @ self.model.mated_rate(threshold))

        figures = {
            name: reached(brentq(lambda t, of=of: reached(t) - of(t), *ends, xtol=1e-13))
            for name, of in (("EER", fnmr), ("EER, by person", fnmr_by_person))
        }
        figures |= {"mean": -float(images[1]), "mean, by person": -float(single[1])}
        for fmr in self.fmrs:
            threshold = brentq(lambda t, fmr=fmr: reached(t) - fmr, *ends, xtol=1e-13)
            for rate, by_pair, by_person in (("mated", pairs, with_pairs), ("attack", images, single)):
                shares = getattr(self.model, f"{rate}_rate")(threshold)
                figures[_name(rate, fmr)] = float(by_pair @ shares)
                figures[_name(rate, fmr, "by person")] = float(by_person @ shares)
        at = self.threshold
        figures |= {"FMR at a threshold": reached(at), "FNMR at a threshold": fnmr(at)}
        return figures | {"FNMR at a threshold, by person": fnmr_by_person(at)}

    @property
    def threshold(self) -> float:
        """A threshold of the user's own, at which hardly any pairs of different people are accepted."""
        images = self.population.shares(lambda c: c)
        few = self.fmrs[-1] / 20
        return float(brentq(lambda t: images @ self.model.non_mated_rate(t) @ images - few, -100, 100, xtol=1e-13))

    def intervals(self, seed: int, replicates: int) -> dict[str, tuple[float, float, float | None, float | None]]:
        """truth, value, low and high of each figure in a fresh sample."""
        generator = np.random.default_rng(seed)
        counts, hard = self.population.draw(self.people, generator)
        codes = np.repeat(np.arange(self.people), counts)
        pairs, attack = self.model.draw(hard, codes, generator)
        effects = generator.normal(size=self.people) - hard
        values = effects[codes] + generator.exponential(1, len(codes)) - 1
        names = [f"{code:06d}" for code in codes]
        options = {"repetitions": replicates, "seed": seed}
        found = {
            "mean": mean_interval(values, names, **options),
            "mean, by person": mean_interval(values, names, person_weighted=True, **options),
        }
        non_mated, mated = NonMated.from_all_pairs(pairs), Trials(pairs.mated, pairs.mated_people)
        trials = {("mated", None): mated, ("attack", None): attack}
        trials |= {(name, "by person"): group.person_weighted() for (name, _), group in trials.items()}
        options["people"] = self.people
        for (name, weighting), rates in rates_at_fmr(trials, non_mated, self.fmrs, **options).items():
            found |= {_name(name, rate.fmr_wanted, weighting): rate for rate in rates}
        found["EER"] = resampled_eer(mated, non_mated, **options).estimate()
        found["EER, by person"] = resampled_eer(mated.person_weighted(), non_mated, **options).estimate()
        fixed = rates_at_threshold(mated, non_mated, self.threshold, **options)
        found |= {"FMR at a threshold": fixed.fmr, "FNMR at a threshold": fixed.fnmr}
        found["FNMR at a threshold, by person"] = fixed.fnmr_by_person
        truth = self.truth()
        return {name: (truth[name], own.value, own.low, own.high) for name, own in found.items()}


def _name(rate: str, fmr: float, weighting: str | None = None) -> str:
    label = {"mated": "TAR", "attack": "success"}[rate]
    return f"{label} at FAR {fmr:g}" + (f", {weighting}" if weighting else "")


FEW = {1: 5, 2: 3, 3: 2, 5: 1, 8: 1}
FMRS = (0.01, 0.001)
NEAR_ONE = Effects(mated=5.5, attack=5.0)
DESIGNS = {
    "balanced": Design("200 people with 4 images", 200, Population({4: 1}), Effects(), FMRS),
    "near 100 %": Design("200 people with 4 images, rates near 100 %", 200, Population({4: 1}), NEAR_ONE, FMRS),
    "unbalanced": Design("300 people with 1 to 8 images", 300, Population(FEW), Effects(), FMRS),
    "distances": Design(
        "200 people with 1 to 8 images, distances of templates", 200, Population(FEW), Templates(), FMRS
    ),
    "few people": Design("40 people with 3 images", 40, Population({3: 1}), Effects(), (0.05, 0.01)),
    "DevTest": Design("400 people, images as in LFW's DevTest", 400, Population(DEVTEST), Effects(), FMRS),
}


def designs() -> dict[str, Callable[[int, int], dict]]:
    """See bootstrap_coverage.py."""
    return {design.text: design.intervals for design in DESIGNS.values()}
