"""Differential performance: error rates of groups of people at one threshold for all (ISO/IEC 19795-10's question).

The threshold of a false match rate is set on everybody's non-mated pairs, anew in each replicate of the bootstrap and
without each person in the jackknife. A group's FNMR is that of its people's mated pairs, its FMR that of non-mated
pairs with both people in the group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facedecode.statistics.bootstrap import REPETITIONS, Estimate, Resampled, replicates_of
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import Trials, replicate_thresholds, share, shares_accepted
from facedecode.statistics.resampling import NonMated, Replicates
from facedecode.statistics.verification import thresholds_at_fmr


@dataclass(frozen=True)
class GroupRates:
    """A group's rates at the overall threshold for one FMR; None where it has no such pairs.

    group: None for the pairs of two people of different groups, which have an FMR only.
    fnmr: every pair counting alike; fnmr_by_person: every person with mated pairs (n: those people).
    """

    group: str | None
    fnmr: Estimate | None
    fnmr_by_person: Estimate | None
    false_rejects: int
    mated: int
    fmr: Estimate | None
    false_accepts: int
    non_mated: int


@dataclass(frozen=True)
class Ratio:
    """The worst group's rate over the best group's, those two being the ones that the data show.

    figure: NaN where the best group has no error; an end of its interval is None where that is infinite. n: groups.
    """

    rate: str
    worst: str
    best: str
    figure: Estimate


@dataclass(frozen=True)
class GroupPoint:
    """The groups at one FMR: rates of the groups in their order, of the pairs across groups, and ratios."""

    fmr_wanted: float
    threshold: float
    groups: list[GroupRates]
    across: GroupRates
    ratios: list[Ratio]


def group_rates(
    mated: Trials,
    non_mated: NonMated,
    group_of: Sequence[str | None],
    fmrs: Sequence[float],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> list[GroupPoint]:
    """Rates of each group of people at each FMR, with intervals by person.

    group_of: the group of each person, None for none. BadInput as `verification.thresholds_at_fmr`.
    """
    known = sorted({name for name in group_of if name is not None})
    thresholds = thresholds_at_fmr(non_mated.scores, fmrs)
    whole, drawn, left_out = replicates_of(len(group_of), repetitions, seed)
    parts: _Parts = {
        whole: np.array([thresholds]),
        drawn: replicate_thresholds(non_mated, fmrs, drawn),
        left_out: replicate_thresholds(non_mated, fmrs, left_out),
    }
    groups = [np.array([name == group for name in group_of]) for group in known]
    fmr = _false_matches(non_mated, groups, parts)
    fnmr, fnmr_by_person = (
        [_false_non_matches(trials, group, parts) for group in groups] for trials in (mated, mated.person_weighted())
    )
    points = []
    for place, (wanted, threshold) in enumerate(zip(fmrs, thresholds, strict=True)):
        rates = [
            GroupRates(
                group=name,
                fnmr=fnmr[k].estimate(place, level) if name else None,
                fnmr_by_person=fnmr_by_person[k].estimate(place, level) if name else None,
                false_rejects=fnmr[k].counts[place] if name else 0,
                mated=fnmr[k].comparisons if name else 0,
                fmr=fmr[k].estimate(place, level),
                false_accepts=fmr[k].counts[place],
                non_mated=fmr[k].comparisons,
            )
            for k, name in enumerate([*known, None])
        ]
        ratios = [
            ratio
            for name, of_groups in (("fmr", fmr[:-1]), ("fnmr", fnmr), ("fnmr_by_person", fnmr_by_person))
            if (ratio := _worst_to_best(name, of_groups, known, place, level))
        ]
        points.append(GroupPoint(float(wanted), float(threshold), rates[:-1], rates[-1], ratios))
    return points


# The replicates of the data, of the bootstrap and of the jackknife, each with its thresholds, (replicates, FMRs).
_Parts = Mapping[Replicates, np.ndarray]


@dataclass(frozen=True)
class _Rates:
    """A group's rate at each FMR. comparisons: how many there are; counts: how many are errors, at each FMR."""

    rates: list[Resampled]
    comparisons: int
    counts: list[int]

    def estimate(self, place: int, level: float) -> Estimate | None:
        """The rate; None where there are no comparisons."""
        return self.rates[place].estimate(level) if self.comparisons else None


def _false_non_matches(trials: Trials, group: np.ndarray, parts: _Parts) -> _Rates:
    """Rejected mated pairs of a group (bool, a person each), at each replicate's thresholds."""
    inside = group[trials.people]
    weights = None if trials.weights is None else trials.weights[inside]
    trials = Trials(trials.scores[inside], trials.people[inside], weights)
    (whole, *_) = parts.values()
    counts = [int(np.count_nonzero(trials.scores < threshold)) for threshold in whole[0]]
    if not len(trials.scores):
        nothing = [np.full(thresholds.shape, np.nan) for thresholds in parts.values()]
        return _Rates(Resampled.each(nothing, np.zeros(len(group)), 0, True), 0, counts)
    rejected = [1 - shares_accepted(trials, part, thresholds) for part, thresholds in parts.items()]
    shares = Resampled.each(rejected, trials.shares(len(group)), trials.count, True)
    return _Rates(shares, len(trials.scores), counts)


def _false_matches(non_mated: NonMated, groups: list[np.ndarray], parts: _Parts) -> list[_Rates]:
    """Accepted non-mated pairs within each group, then across groups, at each replicate's thresholds."""
    deepest = int(np.count_nonzero(non_mated.scores >= min(np.nanmin(cuts) for cuts in parts.values())))
    scores, left, right = non_mated.top(max(1, deepest))
    inside = [group[left] & group[right] for group in groups]
    labelled = np.any(groups, axis=0)
    inside.append(labelled[left] & labelled[right] & ~np.any(inside, axis=0))
    totals = [[part.totals(_total_within(non_mated, group)) for group in [*groups, labelled]] for part in parts]
    (whole, *_) = parts.values()
    rates = []
    for k, pairs in enumerate(inside):
        rows = np.flatnonzero(pairs)
        of_group = [part[k] if k < len(groups) else part[k] - np.sum(part[:k], axis=0) for part in totals]
        shares = [
            share(_accepted_pairs(part, left[rows], right[rows], scores[rows], cuts), total[:, None])
            for (part, cuts), total in zip(parts.items(), of_group, strict=True)
        ]
        count = int(of_group[0][0])
        counts = [int(np.count_nonzero(scores[rows] >= threshold)) for threshold in whole[0]]
        rates.append(_Rates(Resampled.each(shares, count - of_group[2], count, True, 2), count, counts))
    return rates


def _total_within(non_mated: NonMated, group: np.ndarray) -> Callable[[np.ndarray], int]:
    """Weights of people → the weight of the pairs within a group (bool, a person each)."""
    return lambda weights: non_mated.total(weights * group)


def _accepted_pairs(
    part: Replicates, left: np.ndarray, right: np.ndarray, scores: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """What the accepted of these pairs, with falling scores, weigh: (replicates, FMRs), as the thresholds."""
    if not len(scores):
        return np.zeros(thresholds.shape)
    sums = part.pairs(left, right, np.arange(len(part)))
    places = np.searchsorted(-scores, -thresholds, side="right")
    accepted = np.stack([sums.first(column) for column in places.T], axis=1)
    return np.where(np.isnan(thresholds), np.nan, accepted)


def _worst_to_best(name: str, rates: list[_Rates], known: list[str], place: int, level: float) -> Ratio | None:
    """The ratio of the highest rate of a group to the lowest; None where not two groups have one."""
    values = np.array([group.rates[place].value for group in rates])
    having = np.flatnonzero(~np.isnan(values))
    if len(having) < 2:
        return None
    worst, best = (having[choose(values[having])] for choose in (np.argmax, np.argmin))
    if worst == best:  # all equal
        best = having[-1]
    ratio = rates[worst].rates[place].over(rates[best].rates[place])
    value = ratio.value if np.isfinite(ratio.value) else np.nan
    return Ratio(name, known[worst], known[best], replace(ratio, value=value, n=len(having)).estimate(level))
