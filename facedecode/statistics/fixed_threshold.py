"""FMR and FNMR at a threshold that is given, not set on the data, with intervals by person.

The threshold stays where it is in every replicate of the bootstrap (see `bootstrap` for the weights),
and where the jackknife that corrects the intervals leaves a person out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedecode.statistics.bootstrap import LEVEL, REPETITIONS, Estimate, NonMated, Trials, person_draws
from facedecode.statistics.intervals import clopper_pearson_floor, corrected
from facedecode.statistics.resampling import Drawn, LeftOut
from facedecode.statistics.verification import at_threshold

_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class ThresholdRates:
    """Rates where a comparison is accepted if its score >= threshold.

    fmr: of the non-mated pairs. fnmr: of the mated pairs, every pair counting alike; fnmr_by_person: every person
    with mated pairs counting alike (n: those people).
    """

    threshold: float
    fmr: Estimate
    false_accepts: int
    non_mated: int
    fnmr: Estimate
    fnmr_by_person: Estimate
    false_rejects: int
    mated: int


def rates_at_threshold(
    mated: Trials,
    non_mated: NonMated,
    threshold: float,
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> ThresholdRates:
    """FMR and FNMR at a threshold of the user's own, with intervals by person.

    people: how many there are; persons are numbers below it, the same ones in `mated` and `non_mated`. UsageError
    for a threshold that is NaN or -inf; BadInput as in `verification.at_threshold`.
    """
    point = at_threshold(mated.scores, non_mated.scores, threshold, fmr_wanted=threshold)
    draws = person_draws(people, repetitions, seed)
    return ThresholdRates(
        threshold=float(threshold),
        fmr=Estimate(point.fmr, *_falsely_accepted(non_mated, threshold, draws, level), point.non_mated),
        false_accepts=point.false_accepts,
        non_mated=point.non_mated,
        fnmr=_share_rejected(mated, threshold, draws, level),
        fnmr_by_person=_share_rejected(mated.person_weighted(), threshold, draws, level),
        false_rejects=point.mated - point.accepted,
        mated=point.mated,
    )


def share_interval(
    errors: np.ndarray, totals: np.ndarray, of_people: np.ndarray, level: float = LEVEL
) -> tuple[float | None, float | None]:
    """The interval of a share of comparisons, from those that a bootstrap and a jackknife by person leave of them.

    Args:
        errors, totals: (1 + repetitions + people,), the (weighted) comparisons that count and all there are: in the
            data, in each replicate, and without each person.
        of_people: (people,), what the comparisons weigh that involve each.

    Returns:
        low, high (see `intervals.corrected`; for a share of 0 or 1 at least as wide as `intervals.unanimous` says);
        None where there are fewer than two people without whom there still are comparisons.
    """
    shares = shares_of(errors, totals)
    people = len(of_people)
    left_out = shares[-people:]
    if np.count_nonzero(~np.isnan(left_out[of_people > 0])) < 2:
        return None, None
    low, high = corrected(float(shares[0]), shares[1:-people], left_out, level)
    if shares[0] in (0, 1):
        low, high = clopper_pearson_floor(shares[0] == 1, (low, high), of_people, level)
    return low, high


def shares_of(errors: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """errors / totals, both (n,): at most 1, and NaN where there are no comparisons."""
    # Rounding may leave a sum of all a little above their total, and a difference of equal ones a little below 0.
    return np.clip(np.divide(errors, totals, out=np.full(len(totals), np.nan), where=totals > 0), 0, 1)


def _share_rejected(trials: Trials, threshold: float, draws: np.ndarray, level: float) -> Estimate:
    """The (weighted) share of trials below the threshold; n counts trials, or people where they are weighted."""
    weights = np.ones(len(trials.scores)) if trials.weights is None else trials.weights
    size = draws.shape[1]
    of_all = np.bincount(trials.people, weights=weights, minlength=size)
    rejected = np.bincount(trials.people, weights=weights * (trials.scores < threshold), minlength=size)
    errors, totals = (
        np.concatenate([[values.sum()], draws @ values, values.sum() - values]) for values in (rejected, of_all)
    )
    # Less what is all of it, rounding leaves a little that is nothing.
    only = of_all == of_all.sum()
    totals[1 + len(draws) :][only] = 0
    interval = share_interval(errors, totals, of_all, level)
    behind = int(np.count_nonzero(of_all))
    return Estimate(float(errors[0] / totals[0]), *interval, len(trials.scores) if trials.weights is None else behind)


def _falsely_accepted(
    non_mated: NonMated, threshold: float, draws: np.ndarray, level: float
) -> tuple[float | None, float | None]:
    """The interval of the share of non-mated pairs at or above the threshold."""
    people = draws.shape[1]
    left, right, counts = _accepted_person_pairs(non_mated, threshold, people)
    whole, without = non_mated.total(np.ones(people, dtype=np.int64)), LeftOut(people).totals(non_mated.total)
    drawn = [counts @ (weights[left] * weights[right]) for weights in draws]
    own = np.bincount(left, weights=counts, minlength=people) + np.bincount(right, weights=counts, minlength=people)
    errors = np.concatenate([[counts.sum()], drawn, counts.sum() - own])
    totals = np.concatenate([[whole], Drawn(draws).totals(non_mated.total), without])
    return share_interval(errors, totals, whole - without, level)


def _accepted_person_pairs(
    non_mated: NonMated, threshold: float, people: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which two persons are falsely accepted for each other, and how often: three int64 (k,), each pair once.

    Counting by person keeps a replicate short however many images stand behind a pair of people.
    """
    keys, counts = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for start in range(0, len(non_mated.scores), _PAIRS_AT_ONCE):
        accepted = np.flatnonzero(non_mated.scores[start : start + _PAIRS_AT_ONCE] >= threshold) + start
        if not len(accepted):
            continue
        left, right = non_mated.persons(accepted)
        key = np.minimum(left, right).astype(np.int64) * people + np.maximum(left, right)
        unique, count = np.unique(key, return_counts=True)
        keys.append(unique)
        counts.append(count)
    unique, places = np.unique(np.concatenate(keys), return_inverse=True)
    summed = np.bincount(places, weights=np.concatenate(counts), minlength=len(unique)).astype(np.int64)
    return unique // people, unique % people, summed
