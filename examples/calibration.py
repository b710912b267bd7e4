"""Whether predicted squared errors are right: found against predicted, in bins, by person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, resample
from facedecode.statistics.resampling import Replicates
from facedecode.statistics.scores import encode_people
from facedecode.statistics.verification import person_weights

BINS = 10


@dataclass(frozen=True)
class Bin:
    """What was predicted for the cells of a bin, and what was found there; n of `found` is the number of people."""

    predicted: float
    found: Estimate


def calibration(
    order: np.ndarray,
    predicted: np.ndarray,
    found: np.ndarray,
    base: np.ndarray,
    identities: Sequence[str],
    shown: Callable[[np.ndarray], np.ndarray] = np.sqrt,
    *,
    bins: int = BINS,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> list[Bin]:
    """Ratios of sums in bins of equally many cells, by rising `order`; every person weighs alike.

    Args:
        order, predicted, found, base: float (n, …), a row an image. A bin shows `shown`(Σ predicted / Σ base) and
            `shown`(Σ found / Σ base).
        identities: n names; the intervals are by bootstrap over people.

    Raises:
        BadInput: shapes that differ, or fewer cells than bins.
    """
    if not order.shape == predicted.shape == found.shape == base.shape or len(order) != len(identities):
        raise BadInput("a calibration needs arrays of one shape, and a name for each row")
    if order.size < bins:
        raise BadInput(f"{order.size} predictions do not fill {bins} bins")
    people, codes = encode_people(identities)
    ranks = np.empty(order.size, np.int64)
    ranks[np.argsort(order, axis=None, kind="stable")] = np.arange(order.size)
    cells = order.size // len(order)
    groups = ranks * bins // order.size + bins * np.repeat(codes, cells)
    weights = np.repeat(person_weights(codes), cells)

    def sums(values: np.ndarray) -> np.ndarray:
        """By person and bin, (people, bins)."""
        total = np.bincount(groups, weights * values.reshape(-1), minlength=bins * len(people))
        return total.reshape(len(people), bins)

    top, bottom, wanted = sums(found), sums(base), sums(predicted)

    def ratios(people: Replicates) -> np.ndarray:
        return shown(people.sums(top) / people.sums(bottom))

    measured = resample(ratios, bottom, np.count_nonzero(bottom, axis=0), False, repetitions, seed)
    expected = shown(wanted.sum(0) / bottom.sum(0))
    return [Bin(float(value), ratio.estimate()) for value, ratio in zip(expected, measured, strict=True)]
