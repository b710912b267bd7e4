"""Paired differences of rates: their value and interval against loops over replicates."""

from __future__ import annotations

import numpy as np
import pytest

from facedecode.statistics.bootstrap import Estimate, person_draws
from facedecode.statistics.intervals import corrected
from facedecode.statistics.pair_rates import Trials, rates_at_fmr, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.verification import thresholds_at_fmr

PEOPLE, FMRS = 12, (0.2, 0.05)


def system(shift: float) -> tuple[Trials, NonMated]:
    """A recognizer on 36 mated pairs and all 66 non-mated pairs of 12 people; the better, the larger the shift."""
    generator = np.random.default_rng(3)
    left, right = np.triu_indices(PEOPLE, 1)
    people = np.repeat(np.arange(PEOPLE), 3)
    mated = generator.normal(size=len(people)) + shift + 0.5 * generator.normal(size=len(people))
    return Trials(mated, people), NonMated.from_pairs(generator.normal(size=len(left)), left, right)


def tar(trials: Trials, non_mated: NonMated, fmr: float, weights: np.ndarray) -> float:
    """Of weighted people, by loops, every person alike."""
    left, right = non_mated.persons(np.arange(len(non_mated.scores)))
    pairs = zip(non_mated.scores, left, right, strict=True)
    copies = np.array([score for score, i, j in pairs for _ in range(weights[i] * weights[j])])
    # Where so few are left that none may be accepted, the threshold is above all of them.
    allowed = int(fmr * len(copies) + 1e-9)
    cut = thresholds_at_fmr(copies, [fmr])[0] if allowed else np.nextafter(copies.max(), np.inf)
    rates = [(weights[p], np.mean(trials.scores[trials.people == p] >= cut)) for p in range(PEOPLE)]
    return sum(w * rate for w, rate in rates) / sum(w for w, _ in rates)


def test_a_difference_is_that_of_loops_over_the_same_replicates() -> None:
    systems = [system(1.5), system(0.8)]
    options = {"people": PEOPLE, "repetitions": 25, "seed": 4}
    found = [
        resampled_tar({"people": trials.person_weighted()}, non_mated, FMRS, **options)["people"]
        for trials, non_mated in systems
    ]
    weights = [np.ones(PEOPLE, int), *person_draws(PEOPLE, 25, 4), *(1 - np.eye(PEOPLE, dtype=int))]
    for k, fmr in enumerate(FMRS):
        one, other = (np.array([tar(*own, fmr, w) for w in weights]) for own in systems)
        values = one - other
        difference = found[0][k].less(found[1][k])
        assert difference.value == pytest.approx(values[0]) and values[0] > 0
        ends = corrected(values[0], values[1:26], values[26:])
        assert difference.low <= ends[0] + 1e-9 and ends[1] - 1e-9 <= difference.high
        apart = found[0][k].over(found[1][k])  # has no bounds, and so the corrected ends alone
        ratios = one / other
        assert (apart.estimate().low, apart.estimate().high) == pytest.approx(
            corrected(ratios[0], ratios[1:26], ratios[26:])
        )
        assert difference.n == PEOPLE


def test_each_side_has_the_interval_of_rates_at_fmr() -> None:
    trials, non_mated = system(1.0)
    groups = {"pairs": trials, "people": trials.person_weighted()}
    options = {"people": PEOPLE, "repetitions": 200, "seed": 1}
    resampled = resampled_tar(groups, non_mated, FMRS, **options)
    for name, rates in rates_at_fmr(groups, non_mated, FMRS, **options).items():
        for rate, own in zip(rates, resampled[name], strict=True):
            assert (own.value, own.n) == (rate.value, rate.n)
            ends = corrected(own.value, own.drawn, own.left_out)
            assert rate.low <= ends[0] and ends[1] <= rate.high
            assert own.estimate() == Estimate(rate.value, rate.low, rate.high, rate.n)
