"""A plain bootstrap by person, to look whether an interval is where it should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def person_means(values: np.ndarray, whose: Sequence) -> np.ndarray:
    """The mean of each person's values, in the order of names."""
    return np.array(
        [np.mean([v for v, w in zip(values, whose, strict=True) if w == name]) for name in sorted(set(whose))]
    )


def bootstrap_by_person(values: np.ndarray, whose: Sequence, times: int = 4000, seed: int = 1) -> tuple[float, float]:
    """Where 95 % of the macro averages of people drawn with replacement lie."""
    means = person_means(values, whose)
    rng = np.random.default_rng(seed)
    drawn = [means[rng.integers(0, len(means), len(means))].mean() for _ in range(times)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
