"""Bootstrap by person: images of one person are not independent, so it is people that are drawn again.

A replicate draws as many people as there are, with replacement; w_i is how often person i came up, so w is
multinomial. A mated pair of person i weighs w_i and a non-mated pair of persons i and j weighs w_i · w_j.
Thresholds are set anew in each replicate. Intervals are the percentiles of the replicates, corrected by a jackknife
(`intervals.corrected`); benchmarks/bootstrap_coverage.py measures how often they hold the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.statistics.intervals import LEVEL, clopper_pearson_floor, corrected, percentiles
from facedecode.statistics.resampling import Drawn, LeftOut, NonMated, Replicates
from facedecode.statistics.scores import encode_people
from facedecode.statistics.verification import (
    FoldSplit,
    at_threshold,
    eer,
    false_accepts_allowed,
    just_above,
    person_weights,
    thresholds_at_fmr,
)

REPETITIONS = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval. low and high are None where fewer than two people stand behind it."""

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
    is_rate = np.asarray(values).dtype == bool
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
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    low_high = corrected(value, draws @ sums / (draws @ counts), left_out, level)
    if is_rate and len(set(values)) == 1:
        low_high = clopper_pearson_floor(values[0] > 0, low_high, counts, level)
    return Estimate(value, *low_high, n)


def rates_at_fmr(
    trials: Mapping[str, Trials],
    non_mated: NonMated,
    fmrs: Sequence[float],
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, list[RateAtFmr]]:
    """The share of each group of trials accepted at each false match rate, with intervals by person.

    people: how many there are; persons are numbers below it, the same ones in trials and non-mated pairs. All
    groups share the replicates and their thresholds. n is the number of comparisons, or where the trials are
    weighted the number of people that have one. BadInput as in `thresholds_at_fmr`.
    """
    thresholds = thresholds_at_fmr(non_mated.scores, fmrs)
    drawn, left_out = Drawn(person_draws(people, repetitions, seed)), LeftOut(people)
    cuts, cuts_left_out = (_thresholds(non_mated, fmrs, replicates) for replicates in (drawn, left_out))
    result = {}
    for name, group in trials.items():
        behind = len(np.unique(group.people))
        points = [
            at_threshold(group.scores, non_mated.scores, threshold, group.weights, fmr_wanted=fmr)
            for threshold, fmr in zip(thresholds, fmrs, strict=True)
        ]
        low_high = [(None, None)] * len(fmrs)
        if behind > 1:
            shares = shares_accepted(group, drawn, cuts), shares_accepted(group, left_out, cuts_left_out)
            weights = np.bincount(group.people, weights=group.weights)
            for k, point in enumerate(points):
                low_high[k] = corrected(point.tar, *(values[:, k] for values in shares), level)
                if point.accepted in (0, point.mated):
                    low_high[k] = clopper_pearson_floor(point.accepted > 0, low_high[k], weights, level)
        result[name] = [
            RateAtFmr(
                point.tar,
                *ends,
                n=len(group.scores) if group.weights is None else behind,
                threshold=point.threshold,
                fmr_wanted=point.fmr_wanted,
                fmr=point.fmr,
                false_accepts=point.false_accepts,
                non_mated=point.non_mated,
                accepted=point.accepted,
            )
            for point, ends in zip(points, low_high, strict=True)
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
    low_high = (None, None)
    if len(np.unique(mated.people)) > 1:
        drawn, left_out = (
            _equal_error_rates(mated, non_mated, replicates, value)
            for replicates in (Drawn(person_draws(people, repetitions, seed)), LeftOut(people))
        )
        low_high = corrected(value, drawn, left_out, level)
        if value == 0:
            low_high = clopper_pearson_floor(False, low_high, np.bincount(mated.people), level)
    return Estimate(value, *low_high, len(mated.scores))


def eer_replicates(mated: Trials, non_mated: NonMated, draws: np.ndarray, value: float) -> np.ndarray:
    """The equal error rate in each replicate, float64 (repetitions,); NaN where a draw has pairs of one kind only.

    value: that of all pairs, which says how deep to look; any value gives the same result.
    """
    return _equal_error_rates(mated, non_mated, Drawn(draws), value)


def _equal_error_rates(mated: Trials, non_mated: NonMated, replicates: Replicates, value: float) -> np.ndarray:
    order = np.argsort(-mated.scores, kind="stable")
    keys = -mated.scores[order]  # rising; inf for failures
    steps = np.unique(keys[keys < np.inf])
    reached = _corners(keys, steps)
    totals = replicates.totals(non_mated.total)
    results = np.full(len(replicates), np.nan)

    def attempt(share: float, todo: np.ndarray) -> np.ndarray:
        scores, left, right = non_mated.top(int(np.ceil(share * len(non_mated.scores))))
        accepted = replicates.trials(mated.people[order], np.ones(len(order)), todo)
        falsely = replicates.pairs(left, right, todo)
        every = accepted.first(np.full(len(todo), len(order)))
        drawn = (every > 0) & (totals[todo] > 0)
        of_mated, of_others = np.where(drawn, every, 1), np.where(drawn, totals[todo], 1)
        places = _corners(-scores, steps)

        def rates(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return falsely.first(places[corners]) / of_others, 1 - accepted.first(reached[corners]) / of_mated

        # Past the kept top nothing is known, and a place at its very end may be past it.
        whole = len(scores) == len(non_mated.scores)
        known = len(places) if whole else int(np.searchsorted(places, len(scores)))
        passed = _first_crossing(rates, len(todo), known)
        there = drawn & (passed < known)
        # With nothing accepted FMR is 0 and FNMR 1, so a corner before the crossing there is.
        after = np.where(there, passed, 1)
        (fmr, fnmr), (fmr_after, fnmr_after) = rates(after - 1), rates(after)
        gap, gap_after = fmr - fnmr, fmr_after - fnmr_after
        part = np.divide(-gap, gap_after - gap, out=np.zeros(len(todo)), where=there)
        results[todo[there]] = (fmr + part * (fmr_after - fmr))[there]
        return todo[drawn & ~there & (not whole)]

    _retry_deeper(attempt, len(replicates), share=min(1.0, 1.5 * value + 1000 / len(non_mated.scores)))
    return results


def _first_crossing(rates: Callable, replicates: int, corners: int) -> np.ndarray:
    """The first corner with FMR >= FNMR in each replicate, by bisection; `corners` where there is none."""
    low, high = np.zeros(replicates, dtype=np.int64), np.full(replicates, corners)
    while (low < high).any():
        middle = np.minimum((low + high) // 2, corners - 1)
        fmr, fnmr = rates(middle)
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
    split = FoldSplit(scores, left == right, fold)
    values = accuracy_replicates(split, left, right, person_draws(people, repetitions, seed))
    return Estimate(split.accuracy().mean, *percentiles(values, level), len(left))


def accuracy_replicates(split: FoldSplit, left: np.ndarray, right: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The accuracy in each replicate, float64 (repetitions,); NaN where nobody of any fold is drawn.

    left, right: int (n,), the persons of each of the pairs that `split` was made of.
    """
    weights_of = (np.where(split.mated, drawn[left], drawn[left] * drawn[right]) for drawn in draws)
    return np.array([split.accuracy(weights).mean for weights in weights_of])


def replicate_thresholds(non_mated: NonMated, fmrs: Sequence[float], draws: np.ndarray) -> np.ndarray:
    """The threshold for each false match rate in each replicate: (repetitions, fmrs)."""
    return _thresholds(non_mated, fmrs, Drawn(draws))


def left_out_thresholds(non_mated: NonMated, fmrs: Sequence[float], people: int) -> np.ndarray:
    """The threshold for each false match rate without each person in turn: (people, fmrs)."""
    return _thresholds(non_mated, fmrs, LeftOut(people))


def _thresholds(non_mated: NonMated, fmrs: Sequence[float], replicates: Replicates) -> np.ndarray:
    totals = replicates.totals(non_mated.total)
    allowed = np.array([[false_accepts_allowed(fmr, total) for fmr in fmrs] for total in totals], dtype=np.int64)
    thresholds = np.full(allowed.shape, np.nan)

    def attempt(share: float, todo: np.ndarray) -> np.ndarray:
        scores, left, right = non_mated.top(int(np.ceil(share * len(non_mated.scores))))
        sums = replicates.pairs(left, right, todo)
        # The first pair that is one too many: the threshold is just above its score, so ties go with it.
        places = np.stack([sums.places(column) for column in allowed[todo].T], axis=1)
        found = (places < len(scores)).all(axis=1)
        thresholds[todo[found]] = just_above(scores[places[found]])
        # Of all pairs none is too many where nobody of any pair is drawn: nothing can be falsely accepted.
        return todo[~found] if len(scores) < len(non_mated.scores) else todo[:0]

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
    totals = sums.first(np.full(len(replicates), len(order)))[:, None]
    counts = np.searchsorted(-group.scores[order], -thresholds, side="right")
    accepted = np.stack([sums.first(column) for column in counts.T], axis=1)
    shares = np.divide(accepted, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    # Rounding may leave a sum of all a little above their total.
    return np.where(np.isnan(thresholds), np.nan, np.minimum(shares, 1.0))
