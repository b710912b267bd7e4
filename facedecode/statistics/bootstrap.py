"""Figures of people's images or comparisons, with intervals by person.

Images of one person are not independent, so people are drawn again. A replicate draws as many people as there are, with
replacement; person i weighs w_i, the number of times that they were drawn. A mated pair of person i weighs w_i, a
non-mated pair of persons i and j weighs w_i · w_j. Each replicate sets its own thresholds, except where one is given.

Every interval is made in one way. `resample` takes a figure of weighted people (see `resampling.Replicates`) and
returns a `Resampled`: the value, its replicates, and the values without each person. `resampled_tar` and
`resampled_eer` return the same for rates of pairs. `Resampled.estimate` adds the interval (see `intervals.corrected`);
`less` and `over` pair two figures of the same replicates. benchmarks/bootstrap_coverage.py measures how often
intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.statistics.intervals import LEVEL, corrected, with_unseen
from facedecode.statistics.resampling import Drawn, LeftOut, NonMated, Replicates, groups_of_people
from facedecode.statistics.scores import encode_people
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

REPETITIONS = 1000
RATE = (0.0, 1.0)  # what a person can bring to a share of successes
FEWEST_EFFECTIVE = 50  # people behind an interval; benchmarks/bootstrap_coverage.py says what fewer do to it
_ROUNDING = 1e-6
Group = TypeVar("Group", bound=Hashable)  # what a caller calls a group of trials
_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval. low and high are None where too few people stand behind it: `Resampled.supported`."""

    value: float
    low: float | None
    high: float | None
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as plain numbers; one that is not finite becomes None (JSON has no NaN)."""
        return {name: x if x is not None and np.isfinite(x) else None for name, x in self._fields().items()}

    def _fields(self) -> dict[str, float | int | None]:
        return asdict(self)


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
class Resampled:
    """A figure, and what other draws of people make of it.

    value: in the data; NaN or infinite where it has none.
    drawn: float64 (repetitions,), in each replicate of a bootstrap by person; NaN where there is none.
    left_out: float64 (people,), without each person; NaN where nothing is left.
    shares: (people,), what each person weighs in it; 0 for a person who plays no part.
    n: the number of images, comparisons or people behind it.
    bounds: of what one person can bring to it: (0, 1) for a rate, (-1, 1) for a difference of rates; None for others.
    each_of: how many people a comparison is of: 2 for a rate of non-mated pairs.
    units: how many could have failed, where those are not the people (or pairs of people) who weigh anything.
    """

    value: float
    drawn: np.ndarray
    left_out: np.ndarray
    shares: np.ndarray
    n: int
    bounds: tuple[float, float] | None = None
    each_of: int = 1
    units: float | None = None

    @classmethod
    def each(
        cls,
        parts: Sequence[np.ndarray],
        shares: np.ndarray,
        n: int | Sequence[int],
        is_rate: bool = False,
        each_of: int = 1,
    ) -> list[Resampled]:
        """Several figures, from their values (1, k), (repetitions, k) and (people, k).

        shares: (people,), or (people, k) where they differ. n: of all figures, or of each.
        """
        whole, drawn, left_out = parts
        shares = np.broadcast_to(shares.reshape(len(left_out), -1), left_out.shape)
        counts = np.broadcast_to(n, whole.shape[1])
        return [
            cls(
                float(whole[0, k]),
                drawn[:, k],
                left_out[:, k],
                shares[:, k],
                int(counts[k]),
                RATE if is_rate else None,
                each_of,
            )
            for k in range(whole.shape[1])
        ]

    def estimate(self, level: float = LEVEL) -> Estimate:
        """The figure with its interval, of which an end is None where it is infinite.

        There is no interval where the figure is not `supported`, nor where it is not finite.
        """
        return Estimate(self.value, *self._interval(level), self.n)

    def less(self, other: Resampled, level: float = LEVEL) -> Estimate:
        """This figure less another of the same people and replicates."""
        return self._paired(other, np.subtract).estimate(level)

    def over(self, other: Resampled) -> Resampled:
        """The ratio of this figure to another of the same people and replicates."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is no number, and more than 0 / 0 infinite
            return self._paired(other, np.divide)

    def _paired(self, other: Resampled, of: Callable) -> Resampled:
        value = float(of(np.float64(self.value), other.value))
        drawn, left_out = of(self.drawn, other.drawn), of(self.left_out, other.left_out)
        shares = (self.shares + other.shares) * (self.supported and other.supported)
        bounds = None
        if of is np.subtract and self.bounds and other.bounds:
            bounds = self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]
        units = None if self.units is None or other.units is None else min(self.units, other.units)
        return Resampled(value, drawn, left_out, shares, self.n, bounds, self.each_of, units)

    @property
    def is_rate(self) -> bool:
        """Whether it is a share of successes."""
        return self.bounds == RATE

    @property
    def supported(self) -> bool:
        """Whether people can say how sure the figure is: two can be left out, and no few of many have nearly all.

        What a few heavy people weigh in a figure says hardly anything of others like them; see `FEWEST_EFFECTIVE`.
        """
        there = self.shares[(self.shares > 0) & ~np.isnan(self.left_out)]
        return len(there) > 1 and effective_number(there) >= min(FEWEST_EFFECTIVE, len(there) / 2)

    def _interval(self, level: float) -> tuple[float | None, float | None]:
        if not self.supported or not np.isfinite(self.value):
            return None, None
        low, high = corrected(self.value, self.drawn, self.left_out, level)
        if self.bounds is not None:
            inside = self.value if low is None else low, self.value if high is None else high
            low, high = with_unseen(self.value, inside, self.bounds, *self._units(), level)
        low, high = (end if end is not None and np.isfinite(end) else None for end in (low, high))
        return low, high

    def _units(self) -> tuple[float, int]:
        """How many people (or pairs of people) could fail, and how many of them have not the usual value."""
        there = (self.shares > 0) & ~np.isnan(self.left_out)
        shares, left_out = self.shares[there].astype(np.float64), self.left_out[there]
        others = shares.sum() / self.each_of - shares
        own = self.value + others * (self.value - left_out) / shares
        unlike = int(np.count_nonzero(np.abs(own - np.median(own)) > _ROUNDING))
        units = self.units
        if units is None:
            units = int(np.count_nonzero(self.shares > 0))
            units = min(math.comb(units, 2), self.n) if self.each_of == 2 else units  # not all pairs may be compared
        return units, -(-unlike // self.each_of)


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


def effective_number(shares: np.ndarray) -> float:
    """How many people of equal shares would vary as much: Kish's (sum of shares)² / sum of shares²."""
    shares = np.asarray(shares, np.float64)
    return float(shares.sum() ** 2 / np.sum(shares**2))


@lru_cache(maxsize=1)  # all figures of an evaluation share the draws, and drawing takes longer than most figures
def person_draws(people: int, repetitions: int = REPETITIONS, seed: int = 0) -> np.ndarray:
    """How often each person is drawn in each replicate: int64 (repetitions, people), read-only; rows sum to people."""
    if people < 1 or repetitions < 1:
        raise UsageError("a bootstrap needs at least one person and one repetition.")
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=repetitions)
    draws.flags.writeable = False
    return draws


def replicates_of(people: int, repetitions: int = REPETITIONS, seed: int = 0) -> tuple[Drawn, Drawn, LeftOut]:
    """The weights of people in the data (all 1), in the replicates of a bootstrap, and without each person."""
    whole = Drawn(np.ones((1, people), dtype=np.int64))
    return whole, Drawn(person_draws(people, repetitions, seed)), LeftOut(people)


def resample(
    figure: Callable[[Replicates], np.ndarray],
    shares: np.ndarray,
    n: int | Sequence[int],
    is_rate: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    each_of: int = 1,
) -> list[Resampled]:
    """A figure of weighted people, or k of them.

    figure: replicates → float64 (replicates,) or (replicates, k), NaN where there is none; asked for the data, too.
    shares, n, is_rate, each_of: as of `Resampled.each`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left, figures are NaN
        values = [np.asarray(figure(part)) for part in replicates_of(len(shares), repetitions, seed)]
    return Resampled.each([value.reshape(len(value), -1) for value in values], shares, n, is_rate, each_of)


def person_sums(values: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Sums over each person's images, (n, k) → float64 (people, k), people by name. BadInput for other lengths."""
    names, codes = encode_people(identities)
    if len(values) != len(codes):
        raise BadInput(f"{len(values)} values for {len(codes)} identities: give one a row.")
    return np.stack([np.bincount(codes, column, len(names)) for column in values.T.astype(np.float64)], axis=1)


def mean_interval(
    values: np.ndarray,
    identities: Sequence[str],
    *,
    person_weighted: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean of one value an image, (n,) finite, and its interval by person.

    values: bool for a rate, whose interval keeps a width where all are alike. person_weighted: the mean over a
    person's images first. n is the number of values, or then of people.
    """
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise BadInput("a mean needs finite values: leave out the others first, and count them.")
    sums = person_sums(np.stack([values, np.ones(values.shape)], axis=-1), identities)
    if person_weighted:
        sums = sums / sums[:, 1:]
    n = int(sums[:, 1].sum())
    return resample(_ratio_of(sums), sums[:, 1], n, values.dtype == bool, repetitions, seed)[0].estimate(level)


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    identities: Sequence[str],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The ratio of two means over the same images, each (n,), and its interval by person; n images.

    NaN (None in JSON) where the denominators are all zero.
    """
    sums = person_sums(np.stack([numerators, denominators, np.ones(len(denominators))], axis=1), identities)
    (ratio,) = resample(_ratio_of(sums[:, :2]), sums[:, 2], len(numerators), False, repetitions, seed)
    return ratio.estimate(level)


def _ratio_of(sums: np.ndarray) -> Callable[[Replicates], np.ndarray]:
    """The ratio of two weighted sums over people: (people, 2)."""

    def figure(people: Replicates) -> np.ndarray:
        numerators, denominators = people.sums(sums).T
        return numerators / denominators

    return figure


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
