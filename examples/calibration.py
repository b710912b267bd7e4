"""Whether predicted squared errors are right: found against predicted, in bins, by person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.errors import BadInput
from facedecode.report.plot_style import COLORS, INK, MARKERS, figure_of, interval_ends, legend
from facedecode.report.plot_style import shown as text_of
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


def calibration_plot(
    predicted: Sequence[float], found: Sequence[Estimate], *, x_label: str, y_label: str, percent: bool = False
) -> bytes:
    """What was found where so much was predicted, (k,) each, with intervals as bars; a line where both agree: SVG."""
    values, low, high = interval_ends(found)
    ends = [min(*predicted, *low), max(*predicted, *high)]
    margin = 0.05 * (ends[1] - ends[0]) or 0.05
    with figure_of(height=3.9) as (figure, axes, image):
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=":", label="as predicted")
        reach = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
        style: dict[str, Any] = {"color": COLORS[0], "marker": MARKERS[0], "linestyle": "none", "label": "found"}
        axes.errorbar(predicted, values, reach, capsize=3, elinewidth=1.1, **style)
        axes.set(xlim=(ends[0] - margin, ends[1] + margin), ylim=(ends[0] - margin, ends[1] + margin))
        for axis in (axes.xaxis, axes.yaxis) if percent else ():
            axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.set(xlabel=text_of(x_label), ylabel=text_of(y_label))
        legend(figure, axes)
        return image(figure)
