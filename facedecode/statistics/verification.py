"""The error rates of a verification system, from the scores of mated and non-mated pairs.

Scores: higher means more similar. A failure to acquire (an image without a template) has the score -inf: it
matches nothing, so a mated pair with it is a false non-match. NaN and +inf are refused.

Terms are ISO/IEC 19795-1's (FMR, FNMR, mated, non-mated); tables that follow a paper say TAR (1 - FNMR) and FAR (FMR).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from facedecode.errors import BadInput, UsageError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does. `tar` is weighted if weights were given; the counts never are."""

    fmr_wanted: float
    threshold: float
    tar: float
    fmr: float
    accepted: int
    mated: int
    false_accepts: int
    non_mated: int


def false_accepts_allowed(fmr: float, count: int) -> int:
    """floor(fmr · count) of the decimal number that `fmr` is written as: 0.29 of 100 is 29, not 28."""
    if not 0 < fmr < 1:
        raise UsageError(f"a false match rate of {fmr} is not between 0 and 1.")
    return math.floor(Fraction(repr(float(fmr))) * int(count))


def thresholds_at_fmr(non_mated: np.ndarray, fmrs: Sequence[float]) -> list[float]:
    """For each rate the smallest t such that at most floor(fmr · n) non-mated scores are >= t.

    That is the next number (of the scores' own type) above the highest score that must be rejected, so tied
    scores are never split and mated scores play no part. BadInput where fmr · n < 1.
    """
    scores = _scores(non_mated, "non-mated")
    allowed = [false_accepts_allowed(fmr, len(scores)) for fmr in fmrs]
    for fmr, count in zip(fmrs, allowed, strict=True):
        if count < 1:
            raise BadInput(
                f"{len(scores)} non-mated pairs cannot resolve a false match rate of {fmr:g}: "
                f"ask for {1 / len(scores):.1e} or more, or give more pairs."
            )
    places = [len(scores) - 1 - count for count in allowed]
    ordered = np.partition(scores, sorted(set(places)))
    return [float(just_above(ordered[place])) for place in places]


def just_above(score: np.floating | np.ndarray) -> np.ndarray:
    """The smallest number of the score's own type above it: `x >= just_above(s)` means `x > s`. float64, any shape."""
    return np.nextafter(score, np.asarray(np.inf, dtype=score.dtype)).astype(np.float64)


def at_threshold(
    mated: np.ndarray,
    non_mated: np.ndarray,
    threshold: float,
    weights: np.ndarray | None = None,
    *,
    fmr_wanted: float = math.nan,
) -> OperatingPoint:
    """What a given threshold does: accept if score >= threshold. `fmr_wanted` is only handed through."""
    mated, non_mated = _both(mated, non_mated)
    if math.isnan(threshold) or threshold == -math.inf:
        raise UsageError(f"{threshold} is not a threshold.")
    accepted, falsely = mated >= threshold, int(np.count_nonzero(non_mated >= threshold))
    return OperatingPoint(
        fmr_wanted=float(fmr_wanted),
        threshold=float(threshold),
        tar=_weighted_mean(accepted, weights),
        fmr=falsely / len(non_mated),
        accepted=int(np.count_nonzero(accepted)),
        mated=len(mated),
        false_accepts=falsely,
        non_mated=len(non_mated),
    )


def person_weights(people: np.ndarray) -> np.ndarray:
    """Weights of pairs, float64 (n,): a weighted mean is the mean over a person's pairs, then over people.

    people: (n,), the person of each pair (names or codes).
    """
    _, codes, counts = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    return 1.0 / (counts[codes] * len(counts))


@dataclass(frozen=True)
class Roc:
    """The corners of a ROC curve: accept if score >= thresholds[k] gives fmr[k] and tar[k].

    thresholds fall from +inf (nothing accepted) to the lowest score that is not -inf; float64 (k,) each.
    """

    thresholds: np.ndarray
    fmr: np.ndarray
    tar: np.ndarray

    def thinned(self, most: int) -> np.ndarray:
        """Rows of at most so many corners: both ends, and others spread evenly over log FMR and over TAR."""
        if len(self.fmr) <= most:
            return np.arange(len(self.fmr))
        parts = (most - 2) // 2
        positive = self.fmr[self.fmr > 0]
        by_fmr = np.searchsorted(self.fmr, np.geomspace(positive[0], positive[-1], parts))
        by_tar = np.searchsorted(self.tar, np.linspace(self.tar[0], self.tar[-1], parts))
        return np.unique(np.clip(np.concatenate([[0], by_fmr, by_tar, [len(self.fmr) - 1]]), 0, len(self.fmr) - 1))


def roc(mated: np.ndarray, non_mated: np.ndarray) -> Roc:
    """The exact ROC curve: every point lies on the straight lines between the corners given.

    Corners can only be where a mated score is reached, so the result has at most 2m + 2 points however many
    non-mated scores there are. It ends short of (1, 1) where there are failures to acquire.
    """
    mated, non_mated = _both(mated, non_mated)
    ordered, ordered_mated = np.sort(non_mated), np.sort(mated)
    lowest = min(_lowest(ordered), _lowest(ordered_mated))
    steps = np.unique(mated[mated > -np.inf])[::-1]
    thresholds = np.stack([np.nextafter(steps, np.asarray(np.inf, dtype=steps.dtype)), steps], axis=1).ravel()
    thresholds = np.concatenate([[np.inf], thresholds, [lowest]]).astype(mated.dtype)
    fmr = (len(ordered) - np.searchsorted(ordered, thresholds)) / len(ordered)
    tar = (len(mated) - np.searchsorted(ordered_mated, thresholds)) / len(mated)
    kept = np.concatenate([[True], (np.diff(fmr) > 0) | (np.diff(tar) > 0)])
    return Roc(thresholds[kept].astype(np.float64), fmr[kept], tar[kept])


@dataclass(frozen=True)
class EqualErrorRate:
    """The rate at which FMR and FNMR are equal, and the (interpolated) threshold there."""

    value: float
    threshold: float


def eer(mated: np.ndarray, non_mated: np.ndarray) -> EqualErrorRate:
    """Where the straight line between two corners of the ROC curve meets FMR = FNMR.

    BadInput where failures to acquire keep FNMR above FMR at every threshold.
    """
    curve = roc(mated, non_mated)
    place, share = equal_errors(curve.fmr, 1 - curve.tar)
    value = curve.fmr[place] + share * (curve.fmr[place + 1] - curve.fmr[place])
    low, high = curve.thresholds[place + 1], curve.thresholds[place]
    threshold = low if np.isinf(high) else high + share * (low - high)
    return EqualErrorRate(float(value), float(threshold))


def equal_errors(fmr: np.ndarray, fnmr: np.ndarray) -> tuple[int, float]:
    """The step k to k + 1 in which a rising `fmr` passes a falling `fnmr`, and how far into it (0 to 1)."""
    gap = fmr - fnmr
    passed = int(np.argmax(gap >= 0))
    if gap[passed] < 0:
        raise BadInput("FMR stays below FNMR at every threshold (failures to acquire): no equal error rate.")
    place = max(0, passed - 1)
    change = gap[place + 1] - gap[place] if len(gap) > 1 else 0.0
    return place, float(-gap[place] / change) if change > 0 else 0.0


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy of LFW's View 2: mean over folds, its standard error (sample standard deviation / sqrt(folds)).

    accuracies, thresholds: of each fold.
    """

    mean: float
    standard_error: float
    accuracies: np.ndarray
    thresholds: np.ndarray


class FoldSplit:
    """Pairs in folds, sorted once: each fold is judged at the threshold best on all others (LFW README 2c and 3b).

    Of equally good cuts the middle one is taken, halfway between its two scores. A pair with a failure to acquire is a
    non-match: right if non-mated.
    """

    def __init__(self, scores: np.ndarray, mated: np.ndarray, fold: np.ndarray) -> None:
        """scores (n,), mated bool (n,), fold int (n,)."""
        self.scores = _scores(scores, "").astype(np.float64)
        self.mated, fold = np.asarray(mated, dtype=bool), np.asarray(fold)
        if not len(self.scores) == len(self.mated) == len(fold):
            raise BadInput("scores, labels and folds differ in length.")
        names = np.unique(fold)
        if len(names) < 2:
            raise BadInput("accuracy needs at least two folds (LFW View 2): View 1 files have one.")
        self._tests = [np.flatnonzero(fold == name) for name in names]
        self._training = []
        for name in names:
            rows = np.flatnonzero(fold != name)
            rows = rows[np.argsort(self.scores[rows], kind="stable")]
            cuts, thresholds = _cuts(self.scores[rows])
            # A slice is read in place.
            whole = len(cuts) == cuts[-1] - cuts[0] + 1
            self._training.append((rows, slice(cuts[0], cuts[-1] + 1) if whole else cuts, thresholds))

    def accuracy(self, weights: np.ndarray | None = None) -> FoldAccuracy:
        """Accuracy with these weights of pairs (n,), or with equal ones; folds of no weight are left out."""
        weights = np.ones(len(self.scores)) if weights is None else np.asarray(weights, dtype=np.float64)
        (accuracies,), (thresholds,) = self._by_fold(weights[None])
        weighed = ~np.isnan(accuracies)
        accuracies, thresholds = accuracies[weighed], thresholds[weighed]
        error = accuracies.std(ddof=1) / math.sqrt(len(accuracies)) if len(accuracies) > 1 else math.nan
        mean = float(accuracies.mean()) if len(accuracies) else math.nan
        return FoldAccuracy(mean, float(error), accuracies, thresholds)

    def accuracies(self, weights: np.ndarray) -> np.ndarray:
        """The mean accuracy with each set of weights, (r, n) → (r,); NaN where no fold has any. int32 is fastest."""
        # So few at a time that they stay in the cache.
        parts = [self._by_fold(weights[start : start + 32])[0] for start in range(0, len(weights), 32)]
        accuracies = np.concatenate(parts)
        counts = np.count_nonzero(~np.isnan(accuracies), axis=1)
        return np.divide(np.nansum(accuracies, axis=1), counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def _by_fold(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (r, n) → accuracies, NaN where a fold has no weight, and thresholds: (r, folds) each."""
        accuracies, thresholds = np.full((2, len(weights), len(self._tests)), np.nan)
        signed = np.where(self.mated, weights, -weights)
        below = np.zeros((len(weights), len(self.scores) + 1), weights.dtype)
        rounding = weights.dtype.type(1e-9)  # 0 of integers
        for k, (test, (rows, cuts, cut_thresholds)) in enumerate(zip(self._tests, self._training, strict=True)):
            # Errors with the cut before place k, less a constant: mated below, minus non-mated below.
            np.cumsum(
                signed.take(rows, axis=1, mode="clip"), axis=1, dtype=below.dtype, out=below[:, 1 : len(rows) + 1]
            )
            errors = below[:, cuts]
            places = np.flatnonzero(errors <= errors.min(axis=1, keepdims=True) + rounding)
            replicates, best = np.divmod(places, errors.shape[1])
            counts = np.bincount(replicates, minlength=len(weights))
            thresholds[:, k] = cut_thresholds[best[np.cumsum(counts) - counts + counts // 2]]
            right = (self.scores[test] >= thresholds[:, k, None]) == self.mated[test]
            tested = weights.take(test, axis=1, mode="clip")
            total, hits = tested.sum(axis=1), np.where(right, tested, 0).sum(axis=1)
            np.divide(hits, total, out=accuracies[:, k], where=total > 0)
        return accuracies, thresholds


def failure_to_acquire(missing: np.ndarray) -> float:
    """The share of images without a template: missing, bool (n,), one an image."""
    missing = np.asarray(missing, dtype=bool)
    if not len(missing):
        raise BadInput("there are no images, so there is no failure-to-acquire rate.")
    return float(missing.mean())


def _cuts(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places at which rising scores can be cut, ties never split, and the threshold of each cut."""
    cuts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    # A threshold cannot accept a failure to acquire, so no cut lies among those.
    cuts = cuts[cuts >= np.count_nonzero(ordered == -np.inf)]
    below = np.where(cuts > 0, ordered[cuts - 1], -np.inf)
    above = np.append(ordered, just_above(ordered[-1]))[cuts]
    middle = (below + above) / 2
    # Past the highest score it is just above, and below the lowest, or between two neighboring numbers, the upper one.
    return cuts, np.where((middle > below) & (cuts < len(ordered)), middle, above)


def _weighted_mean(accepted: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(accepted.mean())
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != accepted.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise BadInput(f"{accepted.shape[0]} mated pairs need as many finite weights that are not negative.")
    if weights.sum() <= 0:
        raise BadInput("all weights are zero.")
    return float(weights[accepted].sum() / weights.sum())


def _scores(values: np.ndarray, name: str) -> np.ndarray:
    """Checked scores, one-dimensional, float32 or float64."""
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    label = f"{name} " if name else ""
    if values.ndim != 1:
        raise BadInput(f"{label}scores of shape {values.shape}: give one number a pair.")
    if not len(values):
        raise BadInput(f"there are no {label}pairs: give a set with at least one.")
    # max is NaN if any score is, so one pass finds both faults.
    if not values.max() < np.inf:
        bad = int(np.flatnonzero(np.isnan(values) | (values == np.inf))[0])
        raise BadInput(f"{label}score {bad} is {values[bad]}: only finite scores, or -inf (no template).")
    return values


def _both(mated: np.ndarray, non_mated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mated, non_mated = _scores(mated, "mated"), _scores(non_mated, "non-mated")
    kind = np.result_type(mated, non_mated)
    return mated.astype(kind, copy=False), non_mated.astype(kind, copy=False)


def _lowest(ordered: np.ndarray) -> float:
    """The lowest of rising scores that is not -inf; inf where there is none."""
    place = int(np.searchsorted(ordered, -np.inf, side="right"))
    return ordered[place] if place < len(ordered) else np.inf
