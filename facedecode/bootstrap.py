"""Bootstrap by person: images of one person are not independent, so it is people that are drawn again.

A replicate draws as many people as there are, with replacement; w_i is how often person i came up, so w is
multinomial. A mated pair of person i weighs w_i and a non-mated pair of persons i and j weighs w_i · w_j.
Thresholds are set anew in each replicate. Intervals are the percentiles of the replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.scores import AllPairs, encode_people
from facedecode.verification import (
    FoldSplit,
    at_threshold,
    eer,
    equal_errors,
    false_accepts_allowed,
    just_above,
    person_weights,
    thresholds_at_far,
)

REPETITIONS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval. low and high are None where fewer than two people stand behind it."""

    value: float
    low: float | None
    high: float | None
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as plain numbers; one that is not finite becomes None (JSON has no NaN)."""
        fields = asdict(self)
        return {name: x if x is not None and np.isfinite(x) else None for name, x in fields.items()}


@dataclass(frozen=True)
class RateAtFar(Estimate):
    """A rate at the threshold for a false accept (match) rate; FAR reached and the counts behind it."""

    threshold: float
    far_wanted: float
    far: float
    false_accepts: int
    non_mated: int
    accepted: int


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


def person_draws(people: int, repetitions: int = REPETITIONS, seed: int = 0) -> np.ndarray:
    """How often each person is drawn in each replicate: int64 (repetitions, people); rows sum to `people`."""
    if people < 1 or repetitions < 1:
        raise UsageError("a bootstrap needs at least one person and one repetition.")
    generator = np.random.default_rng(seed)
    return generator.multinomial(people, np.full(people, 1 / people), size=repetitions)


def percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The interval that holds `level` of the replicates; those without a value (NaN) are left out."""
    if not 0 < level < 1:
        raise UsageError(f"a confidence level of {level} is not between 0 and 1.")
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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

    person_weighted: the mean over a person's images first. n is the number of values, or then of people.
    """
    values = np.asarray(values, dtype=np.float64)
    _, codes = encode_people(identities)
    if values.shape != codes.shape:
        raise BadInput(f"{values.shape} values for {len(codes)} identities: give one a row.")
    if not np.isfinite(values).all():
        raise BadInput("a mean needs finite values: leave out the others first, and count them.")
    counts = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, weights=values)
    if person_weighted:
        sums, counts = sums / counts, np.ones_like(counts)
    value, n = float(sums.sum() / counts.sum()), int(counts.sum())
    if len(counts) < 2:
        return Estimate(value, None, None, n)
    draws = person_draws(len(counts), repetitions, seed)
    return Estimate(value, *percentiles(draws @ sums / (draws @ counts), level), n)


class NonMated:
    """Non-mated scores with the two persons of each, highest first, and only as deep as was needed so far.

    `from_pairs` takes any list of pairs; `from_all_pairs` the millions of pairs of a set, of which a low
    false accept rate needs only the top: the rest enters by its total weight, known from the images.
    """

    def __init__(self, scores: np.ndarray, rows: Callable, total: Callable) -> None:
        self.scores = scores
        self.total = total  # weights of people (P,) -> weight of all pairs
        self._rows = rows  # positions -> the persons (left, right) of those pairs
        self._top: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @classmethod
    def from_pairs(cls, scores: np.ndarray, left: np.ndarray, right: np.ndarray) -> NonMated:
        """scores (n,); left, right: int (n,), the persons of each pair."""
        scores, left, right = np.asarray(scores), np.asarray(left), np.asarray(right)
        if not scores.shape == left.shape == right.shape:
            raise BadInput("non-mated scores and their persons differ in length.")
        return cls(
            scores,
            rows=lambda positions: (left[positions], right[positions]),
            total=lambda weights: int(weights[left] @ weights[right]),
        )

    @classmethod
    def from_all_pairs(cls, pairs: AllPairs) -> NonMated:
        """The non-mated pairs of `scores.mated_non_mated_scores`."""
        people = len(pairs.people)
        left_images = np.bincount(pairs.left_codes, minlength=people)
        right_images = np.bincount(pairs.right_codes, minlength=people)

        def rows(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            left, right = pairs.non_mated_rows(positions)
            return pairs.left_codes[left], pairs.right_codes[right]

        def total(weights: np.ndarray) -> int:
            left, right = left_images * weights, right_images * weights
            both = int(left.sum()) * int(right.sum()) - int(left @ right)
            return both // 2 if pairs.square else both

        return cls(pairs.non_mated, rows, total)

    def top(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At least the `count` highest scores, falling, and their persons (left, right); kept for later."""
        count = min(count, len(self.scores))
        if self._top is None or len(self._top[0]) < count:
            cut = len(self.scores) - count
            places = np.argpartition(self.scores, cut)[cut:] if cut else np.arange(count)
            places = places[np.argsort(-self.scores[places], kind="stable")]
            left, right = self._rows(places)
            self._top = self.scores[places], left.astype(np.intp), right.astype(np.intp)
        return self._top

    def cumulative(self, draws: np.ndarray, share: float) -> Iterator[tuple[np.ndarray, int]]:
        """For each draw (a row of `draws`): the summed weights of the top pairs, and the weight of all pairs.

        `share` of the pairs is looked at. Exact integers; the array is overwritten by the next draw.
        """
        _, left, right = self.top(int(np.ceil(share * len(self.scores))))
        products, others = np.empty((2, len(left)), dtype=np.int64)
        for weights in draws:
            total = self.total(weights)
            # This loop is the cost of the bootstrap, and 32 bits halve it where no sum can pass them.
            kind = np.int32 if total < 2**31 else np.int64
            x, y = products.view(kind)[: len(left)], others.view(kind)[: len(left)]
            small = weights.astype(kind)
            np.take(small, left, mode="clip", out=x)
            np.take(small, right, mode="clip", out=y)
            np.multiply(x, y, out=x)
            yield np.cumsum(x, dtype=kind, out=y), total


def rates_at_far(
    trials: Mapping[str, Trials],
    non_mated: NonMated,
    fars: Sequence[float],
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, list[RateAtFar]]:
    """The share of each group of trials accepted at each false accept rate, with intervals by person.

    people: how many there are; persons are numbers below it, the same ones in trials and non-mated pairs. All
    groups share the replicates and their thresholds. n is the number of comparisons, or where the trials are
    weighted the number of people that have one. BadInput as in `thresholds_at_far`.
    """
    thresholds = thresholds_at_far(non_mated.scores, fars)
    draws = person_draws(people, repetitions, seed)
    replicates = _replicate_thresholds(non_mated, fars, draws)
    result = {}
    for name, group in trials.items():
        base = np.ones(len(group.scores)) if group.weights is None else group.weights
        low_high = [(None, None)] * len(fars)
        behind = len(np.unique(group.people))
        if behind > 1:
            values = np.stack([_accepted_share(group, base, w, t) for w, t in zip(draws, replicates, strict=True)])
            low_high = [percentiles(column, level) for column in values.T]
        points = [
            at_threshold(group.scores, non_mated.scores, threshold, group.weights, far_wanted=far)
            for threshold, far in zip(thresholds, fars, strict=True)
        ]
        result[name] = [
            RateAtFar(
                point.tar,
                *interval,
                n=len(group.scores) if group.weights is None else behind,
                threshold=point.threshold,
                far_wanted=point.far_wanted,
                far=point.far,
                false_accepts=point.false_accepts,
                non_mated=point.non_mated,
                accepted=point.accepted,
            )
            for point, interval in zip(points, low_high, strict=True)
        ]
    return result


def eer_interval(
    mated: Trials,
    non_mated: NonMated,
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The equal error rate (pair-weighted, as `verification.eer`), its interval by person; n mated pairs."""
    value = eer(mated.scores, non_mated.scores).value
    draws = person_draws(people, repetitions, seed)
    order = np.argsort(-mated.scores, kind="stable")
    keys, owners = -mated.scores[order], mated.people[order]  # rising; inf for failures
    steps = np.unique(keys[keys < np.inf])
    reached = _corners(keys, steps)
    results = np.full(repetitions, np.nan)

    def attempt(share: float, todo: np.ndarray) -> list[int]:
        top = -non_mated.top(int(np.ceil(share * len(non_mated.scores))))[0]
        whole, short, places = len(top) == len(non_mated.scores), [], _corners(top, steps)
        # Past the kept top nothing is known, and a place at its very end may be past it.
        known = np.ones(len(places), dtype=bool) if whole else places < len(top)
        for k, (sums, total) in zip(todo, non_mated.cumulative(draws[todo], share), strict=True):
            accepted = np.cumsum(draws[k][owners])
            if not accepted[-1] or not total:
                continue
            fmr = _from_zero(sums, places[known]) / total
            fnmr = 1 - _from_zero(accepted, reached[known]) / accepted[-1]
            if (fmr >= fnmr).any():
                place, part = equal_errors(fmr, fnmr)
                results[k] = fmr[place] + part * (fmr[place + 1] - fmr[place])
            elif not whole:
                short.append(k)
        return short

    if len(np.unique(mated.people)) < 2:
        return Estimate(value, None, None, len(mated.scores))
    _deepen(attempt, repetitions, share=min(1.0, 1.5 * value + 1000 / len(non_mated.scores)))
    return Estimate(value, *percentiles(results, level), len(mated.scores))


def _corners(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How many of the rising `keys` (negated scores) are accepted at the corners that `verification.roc` has.

    Those are: nothing accepted, just above and on each of `steps`, everything but failures (inf).
    """
    both = [np.searchsorted(keys, steps, side) for side in ("left", "right")]
    return np.concatenate([[0], np.stack(both, axis=1).ravel(), [np.searchsorted(keys, np.inf)]])


def _from_zero(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The sum of the first `counts` values whose running sums are given."""
    return np.where(counts > 0, sums[counts - 1], 0)


def accuracy_interval(
    scores: np.ndarray,
    fold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """`verification.accuracy_by_fold` with its interval by person, thresholds chosen anew in each replicate.

    left, right: int (n,), the persons of each pair; a pair is mated where they are equal.
    """
    left, right = np.asarray(left), np.asarray(right)
    mated = left == right
    split = FoldSplit(scores, mated, fold)
    values = [
        split.accuracy(np.where(mated, weights[left], weights[left] * weights[right])).mean
        for weights in person_draws(people, repetitions, seed)
    ]
    return Estimate(split.accuracy().mean, *percentiles(np.array(values), level), len(mated))


def _replicate_thresholds(non_mated: NonMated, fars: Sequence[float], draws: np.ndarray) -> np.ndarray:
    """The threshold for each false accept rate in each replicate: (repetitions, fars)."""
    thresholds = np.empty((len(draws), len(fars)), dtype=np.float64)

    def attempt(share: float, todo: np.ndarray) -> list[int]:
        scores = non_mated.top(int(np.ceil(share * len(non_mated.scores))))[0]
        whole, short = len(scores) == len(non_mated.scores), []
        for k, (sums, total) in zip(todo, non_mated.cumulative(draws[todo], share), strict=True):
            allowed = [false_accepts_allowed(far, total) for far in fars]
            # The first pair that is one too many: the threshold is just above its score, so ties go with it.
            places = np.searchsorted(sums, allowed, side="right")
            if places.max() < len(scores):
                thresholds[k] = [just_above(scores[place]) for place in places]
            elif not whole:
                short.append(k)
            else:  # every person of every pair left undrawn: nothing can be falsely accepted
                thresholds[k] = np.nan
        return short

    _deepen(attempt, len(draws), share=min(1.0, 1.5 * max(fars) + 1000 / len(non_mated.scores)))
    return thresholds


def _deepen(attempt: Callable[[float, np.ndarray], list[int]], repetitions: int, share: float) -> None:
    """Do the replicates with the top `share` of the pairs, and those that it was too short for with more."""
    todo = np.arange(repetitions)
    while len(todo):
        todo = np.array(attempt(share, todo), dtype=np.int64)
        share = min(1.0, 2 * share)


def _accepted_share(group: Trials, base: np.ndarray, draw: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    weights = base * draw[group.people]
    total = weights.sum()
    if total <= 0:
        return np.full(len(thresholds), np.nan)
    shares = [weights[group.scores >= threshold].sum() / total for threshold in thresholds]
    return np.where(np.isnan(thresholds), np.nan, shares)
