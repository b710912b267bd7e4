"""Rates of scores: TAR at a false match rate, the equal error rate, accuracy over folds, rates at a threshold.

A mated pair of person i weighs w_i in a replicate (see `bootstrap`), a non-mated pair of persons i and j weighs
w_i · w_j. Where pairs are listed, and few of any person, groups of people are drawn instead: see
`resampling.NonMated.independent`. Each replicate sets its own thresholds, except where one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np

from facedecode.statistics.bootstrap import RATE, REPETITIONS, Estimate, Resampled, replicates_of, resample
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.resampling import LeftOut, NonMated, Replicates, groups_of_people
from facedecode.statistics.verification import (
    FoldSplit,
    OperatingPoint,
    at_threshold,
    eer,
    false_accepts_allowed,
    just_above,
    person_weights,
    thresholds_at_fmr,
)

Group = TypeVar("Group", bound=Hashable)  # what a caller calls a group of trials

_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class RateAtFmr(Estimate):
    """A rate at the threshold for a false match rate; the FMR reached, and the counts behind it."""

    threshold: float
    fmr_wanted: float
    fmr: float
    false_accepts: int
    non_mated: int
    accepted: int

    def _fields(self) -> dict[str, float | int | None]:
        # In files the rates have the name that TAR@FAR has.
        return {{"fmr_wanted": "far_wanted", "fmr": "far"}.get(name, name): x for name, x in asdict(self).items()}


@dataclass(frozen=True)
class ResampledTar(Resampled):
    """A TAR, and the operating point in the data."""

    point: OperatingPoint = field(kw_only=True)

    def rate(self, level: float = LEVEL) -> RateAtFmr:
        """The rate with its interval, and the counts behind both."""
        point = self.point
        counts = point.false_accepts, point.non_mated, point.accepted
        ends = self._interval(level)
        return RateAtFmr(self.value, *ends, self.n, point.threshold, point.fmr_wanted, point.fmr, *counts)


@dataclass(frozen=True)
class Trials:
    """Comparisons that should (or, for an attack, should not) be accepted.

    scores: (m,), -inf for a failure. people: int (m,), the person of each. weights: (m,) of the comparisons,
    or None for equal ones; `verification.person_weights` gives people equal ones.
    """

    scores: np.ndarray
    people: np.ndarray
    weights: np.ndarray | None = None

    def person_weighted(self) -> Trials:
        """The same comparisons, every person counting alike."""
        return Trials(self.scores, self.people, person_weights(self.people))

    def numbered(self, number: np.ndarray) -> Trials:
        """The same comparisons with other numbers of persons. number: int (people,), that of each."""
        return Trials(self.scores, number[self.people], self.weights)

    @property
    def count(self) -> int:
        """The number of comparisons; where they are weighted, of people."""
        return len(self.scores) if self.weights is None else len(np.unique(self.people))

    def shares(self, people: int, chosen: np.ndarray | None = None) -> np.ndarray:
        """What each person's comparisons weigh: float64 (people,). chosen: bool (m,), those that count."""
        weights = np.ones(len(self.scores)) if self.weights is None else self.weights
        return np.bincount(self.people, weights if chosen is None else weights * chosen, minlength=people)


def share(counted: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """counted / totals of shapes that go together: in [0, 1], and NaN where there is nothing."""
    shape = np.broadcast_shapes(counted.shape, totals.shape)
    shares = np.divide(counted, totals, out=np.full(shape, np.nan), where=totals > 0)
    # Rounding may leave a sum of all a little above their total, and a difference of equal ones a little below 0.
    return np.clip(shares, 0, 1)


def resampled_accuracy(
    split: FoldSplit, left: np.ndarray, right: np.ndarray, *, people: int, repetitions: int = REPETITIONS, seed: int = 0
) -> Resampled:
    """`FoldSplit.accuracy`, with thresholds chosen anew in each replicate.

    left, right: int (n,), the persons of each of the pairs that `split` was made of; a pair is mated where they
    are equal.
    """
    step = min(32, max(1, _PAIRS_AT_ONCE // len(left)))  # replicates at once: pairs files hold up to millions of pairs
    groups = groups_of_people(left, right, people)
    if groups is not None:
        left = right = groups[left]
        people = int(groups.max()) + 1
    once = left == right

    def figure(replicates: Replicates) -> np.ndarray:
        accuracies = []
        for several in replicates.weights():
            for start in range(0, len(several), step):
                weights = several[start : start + step].astype(np.int32)
                of_left, of_right = (weights.take(side, axis=1, mode="clip") for side in (left, right))
                accuracies.append(split.accuracies(np.where(once, of_left, of_left * of_right)))
        return np.concatenate(accuracies)

    involved = np.bincount(left, minlength=people) + np.bincount(right[~once], minlength=people)
    return resample(figure, involved, len(left), True, repetitions, seed)[0]


def resampled_tar(
    trials: Mapping[Group, Trials],
    non_mated: NonMated,
    fmrs: Sequence[float],
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> dict[Group, list[ResampledTar]]:
    """The share of each group of trials accepted at each false match rate: a figure for each of `fmrs`.

    people: how many there are; persons are numbers below it, the same ones in trials and non-mated pairs. All
    groups share the replicates and their thresholds. Of two systems with the same people, repetitions and seed
    the figures are paired. n is the number of comparisons, or where the trials are weighted the number of people
    that have one. BadInput as in `thresholds_at_fmr`.
    """
    if not fmrs:
        return {name: [] for name in trials}
    thresholds = thresholds_at_fmr(non_mated.scores, fmrs)
    non_mated, number, units = non_mated.independent(people)
    parts: Sequence[Replicates] = replicates_of(units, repetitions, seed)[1:]
    cuts = [replicate_thresholds(non_mated, fmrs, part) for part in parts]
    resampled = {}
    for name, group in trials.items():
        points = [
            at_threshold(group.scores, non_mated.scores, threshold, group.weights, fmr_wanted=fmr)
            for threshold, fmr in zip(thresholds, fmrs, strict=True)
        ]
        own = group.numbered(number)
        drawn, left_out = (shares_accepted(own, part, cut) for part, cut in zip(parts, cuts, strict=True))
        behind = own.shares(units), group.count
        resampled[name] = [
            ResampledTar(point.tar, drawn[:, k], left_out[:, k], *behind, RATE, point=point)
            for k, point in enumerate(points)
        ]
    return resampled


def rates_at_fmr(
    trials: Mapping[Group, Trials],
    non_mated: NonMated,
    fmrs: Sequence[float],
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[Group, list[RateAtFmr]]:
    """The rates of `resampled_tar` with their intervals."""
    resampled = resampled_tar(trials, non_mated, fmrs, people=people, repetitions=repetitions, seed=seed)
    return {name: [tar.rate(level) for tar in group] for name, group in resampled.items()}


def resampled_eer(
    mated: Trials, non_mated: NonMated, *, people: int, repetitions: int = REPETITIONS, seed: int = 0
) -> Resampled:
    """The equal error rate as `verification.eer`, of mated trials with their weights; n as `Trials.count`."""
    guess = eer(mated.scores, non_mated.scores).value
    non_mated, number, units = non_mated.independent(people)
    own = mated.numbered(number)
    whole, drawn, left_out = (
        _equal_error_rates(own, non_mated, part, guess) for part in replicates_of(units, repetitions, seed)
    )
    value = guess if mated.weights is None else float(whole[0])
    return Resampled(value, drawn, left_out, own.shares(units), mated.count, RATE)


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
    """FMR and FNMR at a threshold of the user's own, which stays where it is in every replicate.

    people: how many there are; persons are numbers below it, the same ones in `mated` and `non_mated`. UsageError
    for a threshold that is NaN or -inf; BadInput as in `verification.at_threshold`.
    """
    point = at_threshold(mated.scores, non_mated.scores, threshold, fmr_wanted=threshold)
    non_mated, number, people = non_mated.independent(people)
    left, right, counts = _accepted_person_pairs(non_mated, threshold, people)
    pairs_of = non_mated.total(np.ones(people, dtype=np.int64)) - LeftOut(people).totals(non_mated.total)

    def fmr(replicates: Replicates) -> np.ndarray:
        accepted = (
            replicates.sums(np.bincount(left, counts, people)[:, None])[:, 0]
            if non_mated.owned
            else replicates.person_pairs(left, right, counts)
        )
        return share(accepted, replicates.totals(non_mated.total))

    def fnmr(whose: Trials) -> Estimate:
        trials = whose.numbered(number)
        shares = trials.shares(people)
        sums = np.stack([trials.shares(people, trials.scores < threshold), shares], axis=1)

        def figure(replicates: Replicates) -> np.ndarray:
            return share(*replicates.sums(sums).T)

        return resample(figure, shares, whose.count, True, repetitions, seed)[0].estimate(level)

    of = 1 if non_mated.owned else 2
    return ThresholdRates(
        threshold=float(threshold),
        fmr=resample(fmr, pairs_of, point.non_mated, True, repetitions, seed, of)[0].estimate(level),
        false_accepts=point.false_accepts,
        non_mated=point.non_mated,
        fnmr=fnmr(mated),
        fnmr_by_person=fnmr(mated.person_weighted()),
        false_rejects=point.mated - point.accepted,
        mated=point.mated,
    )


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


def replicate_thresholds(non_mated: NonMated, fmrs: Sequence[float], replicates: Replicates) -> np.ndarray:
    """The threshold for each false match rate in each replicate: (replicates, fmrs); NaN where there are no pairs."""
    totals = replicates.totals(non_mated.total)
    allowed = np.array([[false_accepts_allowed(fmr, total) for fmr in fmrs] for total in totals], dtype=np.int64)
    thresholds = np.full(allowed.shape, np.nan)

    def attempt(share: float, todo: np.ndarray) -> np.ndarray:
        scores, left, right = non_mated.top(int(np.ceil(share * len(non_mated.scores))))
        sums = non_mated.sums(replicates, left, right, todo)
        # The first pair that is one too many: the threshold is just above its score, so ties go with it.
        places = np.stack([sums.places(column) for column in allowed[todo].T], axis=1)
        inside = (places < len(scores)).all(axis=1)
        thresholds[todo[inside]] = just_above(scores[places[inside]])
        # Of all pairs none is too many where nobody of any pair is drawn: nothing can be falsely accepted.
        return todo[~inside] if len(scores) < len(non_mated.scores) else todo[:0]

    _retry_deeper(attempt, len(replicates), share=min(1.0, 1.5 * max(fmrs) + 1000 / len(non_mated.scores)))
    return thresholds


def _retry_deeper(attempt: Callable[[float, np.ndarray], np.ndarray], repetitions: int, share: float) -> None:
    """Do the replicates with the top `share` of the pairs, and those that it was too short for with more."""
    todo = np.arange(repetitions)
    while len(todo):
        todo = attempt(share, todo)
        share = min(1.0, 2 * share)


def shares_accepted(group: Trials, replicates: Replicates, thresholds: np.ndarray) -> np.ndarray:
    """The weighted share accepted at each replicate's thresholds: both (replicates, fmrs); NaN where there is none."""
    order = np.argsort(-group.scores, kind="stable")
    base = np.ones(len(order)) if group.weights is None else group.weights[order]
    sums = replicates.trials(group.people[order], base, np.arange(len(replicates)))
    totals = sums.first(np.full(len(replicates), len(order)))
    counts = np.searchsorted(-group.scores[order], -thresholds, side="right")
    accepted = np.stack([sums.first(column) for column in counts.T], axis=1)
    return np.where(np.isnan(thresholds), np.nan, share(accepted, totals[:, None]))


def _equal_error_rates(mated: Trials, non_mated: NonMated, replicates: Replicates, value: float) -> np.ndarray:
    """The equal error rate in each replicate, float64 (replicates,); NaN where one has pairs of one kind only.

    value: that of all pairs, which says how deep to look; any value gives the same result.
    """
    order = np.argsort(-mated.scores, kind="stable")
    keys = -mated.scores[order]  # rising; inf for failures
    steps = np.unique(keys[keys < np.inf])
    reached = _corners(keys, steps)
    base = np.ones(len(order)) if mated.weights is None else mated.weights[order]
    totals = replicates.totals(non_mated.total)
    rates = np.full(len(replicates), np.nan)

    def attempt(share: float, todo: np.ndarray) -> np.ndarray:
        scores, left, right = non_mated.top(int(np.ceil(share * len(non_mated.scores))))
        accepted = replicates.trials(mated.people[order], base, todo)
        falsely = non_mated.sums(replicates, left, right, todo)
        every = accepted.first(np.full(len(todo), len(order)))
        both_kinds = (every > 0) & (totals[todo] > 0)
        of_mated, of_others = np.where(both_kinds, every, 1), np.where(both_kinds, totals[todo], 1)
        places = _corners(-scores, steps)

        def errors(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return falsely.first(places[corners]) / of_others, 1 - accepted.first(reached[corners]) / of_mated

        # Past the kept top nothing is known, and a place at its very end may be past it.
        complete = len(scores) == len(non_mated.scores)
        known = len(places) if complete else int(np.searchsorted(places, len(scores)))
        crossing = _first_crossing(errors, len(todo), known)
        crossed = both_kinds & (crossing < known)
        # With nothing accepted FMR is 0 and FNMR 1, so a corner before the crossing there is.
        after = np.where(crossed, crossing, 1)
        (fmr, fnmr), (fmr_after, fnmr_after) = errors(after - 1), errors(after)
        gap, gap_after = fmr - fnmr, fmr_after - fnmr_after
        part = np.divide(-gap, gap_after - gap, out=np.zeros(len(todo)), where=crossed)
        rates[todo[crossed]] = (fmr + part * (fmr_after - fmr))[crossed]
        return todo[both_kinds & ~crossed & (not complete)]

    _retry_deeper(attempt, len(replicates), share=min(1.0, 1.5 * value + 1000 / len(non_mated.scores)))
    return rates


def _first_crossing(errors: Callable, replicates: int, corners: int) -> np.ndarray:
    """The first corner with FMR >= FNMR in each replicate, by bisection; `corners` where there is none."""
    low, high = np.zeros(replicates, dtype=np.int64), np.full(replicates, corners)
    while (low < high).any():
        middle = np.minimum((low + high) // 2, corners - 1)
        fmr, fnmr = errors(middle)
        crossed = fmr >= fnmr
        high = np.where(crossed & (low < high), middle, high)
        low = np.where(~crossed & (low < high), middle + 1, low)
    return low


def _corners(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How many of the rising `keys` (negated scores) are accepted at the corners that `verification.roc` has.

    Those are: nothing accepted, just above and on each of `steps`, everything but failures (inf).
    """
    both = [np.searchsorted(keys, steps, side) for side in ("left", "right")]
    return np.concatenate([[0], np.stack(both, axis=1).ravel(), [np.searchsorted(keys, np.inf)]])
