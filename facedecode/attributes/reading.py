"""How well something was read: balanced accuracy or R², with replicates by person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facedecode.attributes.target import Target
from facedecode.statistics.bootstrap import REPETITIONS, person_draws
from facedecode.statistics.paired import Resampled

_AT_ONCE = 64  # replicates


def read(said: np.ndarray, target: Target, repetitions: int = REPETITIONS, seed: int = 0) -> Resampled:
    """Balanced accuracy of classes, or R² of a number, every person counting alike, with replicates by person.

    Balanced accuracy: the mean over classes of the share told right. R²: 1 less the squared error over that of the
    mean, which is 0 for one who knows nothing of the image, and less for one who is wrong.

    Args:
        said: of people whom the probe was not trained on, see `out_of_fold`.
    """
    persons = int(target.persons.max()) + 1
    share = 1 / np.bincount(target.persons)[target.persons]
    if target.classes is not None:
        right = said.argmax(1) == target.values
        cells = (persons, len(target.classes))
        hits, all_of = np.zeros(cells), np.zeros(cells)
        np.add.at(hits, (target.persons, target.values), share * right)
        np.add.at(all_of, (target.persons, target.values), share)

        def figure(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):  # a draw without a class has no figure
                return ((weights @ hits) / (weights @ all_of)).mean(-1)
    else:
        centered = target.values - target.values.mean()  # or squares of large numbers would drown what differs
        sums = [
            np.bincount(target.persons, share * x, persons)
            for x in (np.ones(len(said)), centered, centered**2, (target.values - said) ** 2)
        ]

        def figure(weights: np.ndarray) -> np.ndarray:
            n, y, squares, errors = (weights @ own for own in sums)
            spread = squares - y**2 / n
            with np.errstate(invalid="ignore", divide="ignore"):  # nor a draw of people who are all alike
                return np.where(spread > 0, 1 - errors / spread, np.nan)

    return _resampled(figure, persons, target.classes is not None, repetitions, seed)


def _resampled(
    figure: Callable[[np.ndarray], np.ndarray], persons: int, is_rate: bool, repetitions: int, seed: int
) -> Resampled:
    """A figure of persons' weights, float64 (r, persons) → (r,), with its replicates by person."""
    draws = person_draws(persons, repetitions, seed)
    drawn = [figure(draws[start : start + _AT_ONCE].astype(np.float64)) for start in range(0, repetitions, _AT_ONCE)]
    left_out = []
    for start in range(0, persons, _AT_ONCE):
        which = np.arange(start, min(start + _AT_ONCE, persons))
        weights = np.ones((len(which), persons))
        weights[np.arange(len(which)), which] = 0
        left_out.append(figure(weights))
    value = float(figure(np.ones((1, persons)))[0])
    shares = np.ones(persons) if is_rate else None
    return Resampled(value, np.concatenate(drawn), persons, np.concatenate(left_out), shares)
