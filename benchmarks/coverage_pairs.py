"""Designs of bootstrap_coverage.py for listed pairs in folds, as LFW's View 2 has them.

Ten folds of 575 people each, 168 of them with two images or more, have 300 mated and 300 non-mated pairs. Scores are
sums of normal effects of people, of the pair, and of each of two recognizers. Rates have a truth in closed form. The
accuracy's, at the threshold best on the other folds, is the mean over many samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from facedecode.statistics.pair_rates import (
    Trials,
    rates_at_threshold,
    resampled_accuracy,
    resampled_eer,
    resampled_tar,
)
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.verification import FoldSplit

FOLDS, PEOPLE, SEVERAL, PAIRS = 10, 575, 168, 300
MATED, PERSON, LOOKALIKE, PAIR, OWN = 4.6, 0.6, 0.3, 0.9, 0.5
FMR = 0.01
SAMPLES = 4000  # for the truth of the accuracy


def draw(generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The persons of each pair, int (n,) twice, the fold of each, and the scores of two recognizers, (n, 2)."""
    fold = np.repeat(np.arange(FOLDS), 2 * PAIRS)
    mated = np.tile(np.repeat([True, False], PAIRS), FOLDS)
    left = generator.integers(np.where(mated, SEVERAL, PEOPLE))
    right = np.where(mated, left, (left + generator.integers(1, PEOPLE, size=len(fold))) % PEOPLE)
    left, right = left + fold * PEOPLE, right + fold * PEOPLE
    own, other = generator.normal(0, [[PERSON], [LOOKALIKE]], (2, FOLDS * PEOPLE))
    shared = np.where(mated, MATED + own[left], other[left] + other[right]) + generator.normal(0, PAIR, len(fold))
    return left, right, fold, shared[:, None] + generator.normal(0, OWN, (len(fold), 2))


@cache
def accuracy_truth() -> float:
    generator = np.random.default_rng(10**9)
    found = []
    for _ in range(SAMPLES):
        left, right, fold, scores = draw(generator)
        found.append(FoldSplit(scores[:, 0], left == right, fold).accuracy().mean)
    return float(np.mean(found))


def truths() -> dict[str, float]:
    of_mated, of_others = (np.sqrt(own + PAIR**2 + OWN**2) for own in (PERSON**2, 2 * LOOKALIKE**2))

    def fmr(threshold: float) -> float:
        return float(norm.sf(threshold, 0, of_others))

    def fnmr(threshold: float) -> float:
        return float(norm.cdf(threshold, MATED, of_mated))

    at = brentq(lambda t: fmr(t) - FMR, -100, 100)
    return {
        "EER": fmr(brentq(lambda t: fmr(t) - fnmr(t), -100, 100)),
        "TAR at FAR 0.01": 1 - fnmr(at),
        "TAR at FAR 0.01, by person": 1 - fnmr(at),
        "FMR at a threshold": fmr(at),
        "FNMR at a threshold": fnmr(at),
        "difference of TAR at FAR 0.01": 0.0,
        "difference of accuracy": 0.0,
    }


def view2(seed: int, replicates: int) -> dict:
    """The figures that `evaluate verification --pairs` prints, and paired differences of two recognizers."""
    left, right, fold, scores = draw(np.random.default_rng(seed))
    mated = left == right
    options = {"people": FOLDS * PEOPLE, "repetitions": replicates, "seed": seed}
    accuracies, tars = [], []
    for column in scores.T:
        of_mated = Trials(column[mated], left[mated])
        of_others = NonMated.from_pairs(column[~mated], left[~mated], right[~mated])
        groups = {"pairs": of_mated, "people": of_mated.person_weighted()}
        tars.append({name: tar for name, (tar,) in resampled_tar(groups, of_others, [FMR], **options).items()})
        accuracies.append(resampled_accuracy(FoldSplit(column, mated, fold), left, right, **options))
    of_mated = Trials(scores[mated, 0], left[mated])
    of_others = NonMated.from_pairs(scores[~mated, 0], left[~mated], right[~mated])
    spread = np.sqrt(2 * LOOKALIKE**2 + PAIR**2 + OWN**2)
    fixed = rates_at_threshold(of_mated, of_others, float(norm.isf(FMR, 0, spread)), **options)
    found = {
        "accuracy": accuracies[0].estimate(),
        "difference of accuracy": accuracies[0].less(accuracies[1]),
        "TAR at FAR 0.01": tars[0]["pairs"].estimate(),
        "TAR at FAR 0.01, by person": tars[0]["people"].estimate(),
        "difference of TAR at FAR 0.01": tars[0]["people"].less(tars[1]["people"]),
        "EER": resampled_eer(of_mated, of_others, **options).estimate(),
        "FMR at a threshold": fixed.fmr,
        "FNMR at a threshold": fixed.fnmr,
    }
    truth = truths() | {"accuracy": accuracy_truth()}
    return {name: (truth[name], own.value, own.low, own.high) for name, own in found.items()}


def designs() -> dict[str, Callable[[int, int], dict]]:
    """See bootstrap_coverage.py."""
    return {"6,000 listed pairs in ten folds, as in LFW's View 2": view2}
