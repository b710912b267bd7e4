"""Two systems on the same comparisons: differences of their rates, from the same replicates.

Each system has its own thresholds, set anew in each replicate; what the systems have in common (the people drawn, hard
images) leaves the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.statistics.bootstrap import (
    REPETITIONS,
    Estimate,
    NonMated,
    Trials,
    left_out_thresholds,
    person_draws,
    replicate_thresholds,
    shares_accepted,
)
from facedecode.statistics.intervals import LEVEL, clopper_pearson_floor, corrected, percentiles
from facedecode.statistics.resampling import Drawn, LeftOut
from facedecode.statistics.verification import at_threshold, thresholds_at_fmr


@dataclass(frozen=True)
class Resampled:
    """A figure, and what other draws of people make of it.

    value: in the data. n: of the comparisons, or people.
    drawn: float64 (repetitions,), in each replicate of a bootstrap by person; NaN where there is none.
    left_out: (people,), without each person; None where no jackknife was made.
    shares: (people,), what each weighs, where the figure is a rate, whose interval keeps a width at 0 and 1.
    """

    value: float
    drawn: np.ndarray
    n: int
    left_out: np.ndarray | None = None
    shares: np.ndarray | None = None

    def estimate(self, level: float = LEVEL) -> Estimate:
        """This figure, with its interval; a jackknife is needed."""
        low_high = corrected(self.value, self.drawn, self.left_out, level)
        if self.shares is not None and self.value in (0, 1):
            low_high = clopper_pearson_floor(self.value == 1, low_high, self.shares, level)
        return Estimate(self.value, *low_high, self.n)

    def less(self, other: Resampled, level: float = LEVEL) -> Estimate:
        """This figure less another of the same replicates: `intervals.corrected`, or without jackknifes percentiles."""
        value, drawn = self.value - other.value, self.drawn - other.drawn
        if self.left_out is None or other.left_out is None:
            return Estimate(value, *percentiles(drawn, level), self.n)
        return Estimate(value, *corrected(value, drawn, self.left_out - other.left_out, level), self.n)


def resampled_tar(
    trials: Mapping[str, Trials],
    non_mated: NonMated,
    fmrs: Sequence[float],
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> dict[str, list[Resampled]]:
    """What `bootstrap.rates_at_fmr` makes its intervals of, for each group of trials one figure a false match rate.

    Arguments and errors as there. To be paired, two systems need the same people, repetitions and seed.
    """
    if not fmrs:
        return {name: [] for name in trials}
    thresholds, draws = thresholds_at_fmr(non_mated.scores, fmrs), person_draws(people, repetitions, seed)
    cuts = replicate_thresholds(non_mated, fmrs, draws), left_out_thresholds(non_mated, fmrs, people)
    found = {}
    for name, group in trials.items():
        drawn, left_out = (
            shares_accepted(group, Drawn(draws), cuts[0]),
            shares_accepted(group, LeftOut(people), cuts[1]),
        )
        n = len(group.scores) if group.weights is None else len(np.unique(group.people))
        values = [at_threshold(group.scores, non_mated.scores, cut, group.weights).tar for cut in thresholds]
        shares = np.bincount(group.people, weights=group.weights, minlength=people)
        found[name] = [Resampled(value, drawn[:, k], n, left_out[:, k], shares) for k, value in enumerate(values)]
    return found
