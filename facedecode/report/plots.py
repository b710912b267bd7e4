"""Figures of rates, scores and curves, as SVG (see `plot_style`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from facedecode.report.plot_style import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    axis_of_shares,
    figure_of,
    interval_ends,
    legend,
    percent_of,
    shown,
    style_of,
)
from facedecode.report.text import show_number

if TYPE_CHECKING:  # matplotlib takes half a second that --help does not have
    from facedecode.statistics.bootstrap import Estimate
    from facedecode.statistics.pair_rates import RateAtFmr
    from facedecode.statistics.verification import Roc

_DET_TICKS = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_CELLS = 250  # of an axis: two points in one of them cannot be told apart
_BINS = (20, 200)  # of a histogram: fewest and most


def roc_plot(curves: Mapping[str, Roc], points: Mapping[str, Sequence[RateAtFmr]] | None = None) -> bytes:
    """ROC curves over a logarithmic axis of FAR, with operating points and their intervals as bars: SVG.

    A curve begins at the least FAR above zero that its pairs reach. Points stand at the FAR reached (at the FAR
    wanted where nothing was falsely accepted) and have the style of the curve of their name.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    points = points or {}
    names = list(dict.fromkeys([*curves, *points]))
    starts = {name: float(np.min(curve.fmr, where=curve.fmr > 0, initial=1)) for name, curve in curves.items()}
    left = min([0.1, *starts.values(), *(_place(point) for row in points.values() for point in row)])
    lowest = 1.0
    with figure_of() as (figure, axes, image):
        for name, curve in curves.items():
            # Scores that overlap nowhere reach no FAR between 0 and 1: their curve is the whole upper edge.
            start = starts[name] if starts[name] < 1 else left
            first = np.flatnonzero(curve.fmr <= start)[-1]
            fmr, tar = np.maximum(curve.fmr[first:], start), curve.tar[first:]
            kept = _thinned(np.log(fmr) / math.log(left), tar)
            axes.plot(fmr[kept], tar[kept], **style_of(names, name))
            lowest = min(lowest, tar[0])
        for name, row in points.items():
            values, low, high = interval_ends(row)
            style = {**style_of(names, name), "linestyle": "none", "marker": MARKERS[names.index(name) % len(MARKERS)]}
            style["label"] = None if name in curves else style["label"]
            reach = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
            axes.errorbar([_place(point) for point in row], values, reach, capsize=3, elinewidth=1.1, **style)
            lowest = min(lowest, low.min(initial=1.0))
        axes.set_xscale("log")
        axes.set_xlim(left, 1)
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_major_formatter(lambda value, _: percent_of(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axis_of_shares(axes, lowest)
        axes.set(xlabel="false accept rate (FAR), %", ylabel="true accept rate (TAR), %")
        legend(figure, axes)
        return image(figure)


def det_plot(curves: Mapping[str, Roc]) -> bytes:
    """DET curves, FNMR against FMR on normal-deviate axes (ISO/IEC 19795-1): SVG.

    The axes show 0.01 % to 50 %; the dotted line is where both rates are equal.
    """
    from matplotlib.ticker import FixedFormatter, FixedLocator

    ends = _deviates([_DET_TICKS[0] * 0.8, 0.5])
    with figure_of(height=4.3) as (figure, axes, image):
        for name, curve in curves.items():
            fmr, fnmr = (np.clip(rate, 1e-9, 1 - 1e-9) for rate in (curve.fmr, 1 - curve.tar))
            # Thinned on the logit, which is nearly the normal deviate and has a formula; 9 is the axes' length.
            kept = _thinned(*(np.log(rate / (1 - rate)) / 9 for rate in (fmr, fnmr)))
            axes.plot(_deviates(fmr[kept]), _deviates(fnmr[kept]), **style_of(list(curves), name))
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=":")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(_deviates(_DET_TICKS)))
            axis.set_major_formatter(FixedFormatter([percent_of(tick) for tick in _DET_TICKS]))
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set(xlabel="false match rate (FMR), %", ylabel="false non-match rate (FNMR), %")
        legend(figure, axes)
        return image(figure)


def histogram_plot(
    mated: np.ndarray, non_mated: np.ndarray, thresholds: Mapping[str, float] | None = None, score: str = "score"
) -> bytes:
    """The densities of mated and of non-mated scores, (m,) and (n,), with named thresholds as lines: SVG.

    Above on a linear axis, below on a logarithmic one, which shows the tails that decide low error rates.
    Scores of -inf (no template) have no place on the axis: they are counted in the legend. Memory: 1 byte a score.

    Raises ValueError: there is no finite score.
    """
    from matplotlib.ticker import NullFormatter

    groups = {"mated": np.asarray(mated), "non-mated": np.asarray(non_mated)}
    ends = [end for scores in groups.values() for end in _finite_range(scores)]
    if not ends:
        raise ValueError("a histogram needs a finite score")
    low, high = min(ends), max(ends)
    if high - low <= 1e-5 * max(abs(low), abs(high)):  # too little for float32 to divide into bins
        low, high = low - 0.5, high + 0.5
    seen: list[float] = []
    bins = int(np.clip(2 * math.sqrt(min(map(len, groups.values()))), *_BINS))
    with figure_of(height=4.2, rows=2) as (figure, (linear, log), image):
        for name, scores in groups.items():
            counts, edges = np.histogram(scores, bins, (low, high))
            failed = len(scores) - int(counts.sum())
            density = counts / max(1, counts.sum()) * bins / (high - low)
            seen += density[density > 0].tolist()
            style = style_of(list(groups), name)
            style["label"] = f"{name}: {len(scores):,}" + (f", {failed:,} without a score" if failed else "")
            for axes in (linear, log):
                axes.stairs(density, edges, fill=True, color=style["color"], alpha=0.2)
                axes.stairs(density, edges, linewidth=1.1, **style)
        for number, (name, threshold) in enumerate((thresholds or {}).items()):
            for axes in (linear, log):
                line = {"color": INK, "linewidth": 1, "linestyle": DASHES[number % len(DASHES)]}
                axes.axvline(threshold, label=f"{shown(name)}: {threshold:.4g}", **line)
        linear.set(xlim=(low, high), ylabel="density")
        linear.set_ylim(bottom=0)
        log.set(yscale="log", xlabel=shown(score), ylabel="density (log)")
        # From one power of ten to another, so that two of them at least are named.
        log.set_ylim(10.0 ** math.floor(math.log10(min(seen))), 10.0 ** (math.floor(math.log10(max(seen))) + 1))
        log.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        log.yaxis.set_minor_formatter(NullFormatter())
        legend(figure, linear)
        return image(figure)


def curve_plot(
    x: Sequence[float],
    curves: Mapping[str, Sequence[Estimate]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    percent: bool = True,
    ticks: Sequence[float] | None = None,
) -> bytes:
    """Curves of figures at each of `x`, their intervals as bands: SVG.

    percent: the figures are shares, 0 to 1. ticks: what stands at each of `x`, if it is another number.
    """
    from matplotlib.ticker import NullFormatter

    lowest = 1.0
    with figure_of() as (figure, axes, image):
        for number, (name, row) in enumerate(curves.items()):
            values, low, high = interval_ends(row)
            style = style_of(list(curves), name)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(x, values, marker=MARKERS[number % len(MARKERS)], **style)
            lowest = min(lowest, np.nanmin(low, initial=1.0))
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif len(x) <= 12:
            axes.set_xticks(x, None if ticks is None else [f"{tick:g}" for tick in ticks])
        if percent:
            axis_of_shares(axes, lowest, unit=" %")
        axes.set(xlabel=shown(x_label), ylabel=shown(y_label))
        legend(figure, axes)
        return image(figure)


def dot_plot(
    names: Sequence[str],
    groups: Mapping[str, Sequence[Estimate]],
    *,
    x_label: str,
    percent: bool = True,
    line: float | None = None,
) -> bytes:
    """A row a name, in it each group's figure as a point with its interval: SVG. line: where a dotted one stands."""
    step = 0.7 / len(groups)
    with figure_of(height=0.7 + max(2, len(names)) * (0.16 + 0.14 * len(groups))) as (figure, axes, image):
        if line is not None:
            axes.axvline(line, color=INK, linewidth=0.8, linestyle=":")
        for number, (group, row) in enumerate(groups.items()):
            values, low, high = interval_ends(row)
            places = np.arange(len(names)) + step * (number - (len(groups) - 1) / 2)
            reach = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
            style = {**style_of(list(groups), group), "linestyle": "none", "marker": MARKERS[number % len(MARKERS)]}
            axes.errorbar(values, places, xerr=reach, capsize=2, elinewidth=1.1, **style)
        axes.set_yticks(range(len(names)), [shown(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(shown(x_label))
        if percent:
            axes.xaxis.set_major_formatter(lambda value, _: f"{percent_of(value)} %")
        legend(figure, axes)
        return image(figure)


def matrix_plot(
    rows: Sequence[str], columns: Sequence[str], values: np.ndarray, *, x_label: str, y_label: str
) -> bytes:
    """Shares, (rows, columns) in [0, 1] or NaN for none, each written in a cell that is shaded by it: SVG."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values of shape {values.shape} for {len(rows)} rows and {len(columns)} columns")
    longest = [max(map(len, names), default=0) for names in (rows, columns)]
    width = 0.9 + 0.09 * longest[0] + len(columns) * max(1.0, 0.09 * longest[1])
    with figure_of(width, 1.1 + 0.5 * len(rows)) as (figure, axes, image):
        axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
        for row, column in np.ndindex(values.shape):
            value = float(values[row, column])
            color = "white" if value > 0.6 else INK
            axes.text(column + 0.5, row + 0.5, show_number(value, "percent"), color=color, ha="center", va="center")
        axes.set_xticks(np.arange(len(columns)) + 0.5, [shown(name) for name in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [shown(name) for name in rows])
        axes.set(xlabel=shown(x_label), ylabel=shown(y_label))
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return image(figure)


def spectrum_plot(spectra: Mapping[str, np.ndarray], periods: Sequence[int]) -> bytes:
    """Power against frequency, each (P // 2 + 1,) as of `evaluation.spectra`: SVG.

    periods: px, where a dotted line stands.
    """
    from matplotlib.ticker import NullFormatter

    with figure_of() as (figure, axes, image):
        for name, power in spectra.items():
            frequencies = np.arange(len(power)) / (2 * (len(power) - 1))
            # The mean is taken off each line: there is nothing at 0. A picture of one color has no power at all.
            decibels = 10 * np.log10(np.maximum(power[1:], 1e-9))
            axes.plot(frequencies[1:], decibels, **style_of(list(spectra), name))
        for period in periods:
            axes.axvline(1 / period, color=INK, linestyle=":", linewidth=0.8)
            axes.text(1 / period, 1.01, f"{period} px", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="cycles a pixel", ylabel="power, dB")
        legend(figure, axes)
        return image(figure)


def linkability_plot(
    edges: np.ndarray, mated: np.ndarray, non_mated: np.ndarray, local: np.ndarray, score: str = "score"
) -> bytes:
    """Densities of scores across keys, and over them D↔ from 0 to 1: SVG.

    edges: (b + 1,) of the bins, rising. mated, non_mated: (b,), shares of the scores in them. local: (b,), D↔.
    """
    edges = np.asarray(edges, dtype=np.float64)
    if edges[0] == edges[-1]:  # all scores are equal
        edges = edges + np.array([-0.5, 0.5])
    with figure_of() as (figure, axes, image):
        groups = {"mated": mated, "non-mated": non_mated}
        for name, shares in groups.items():
            density, style = shares / np.diff(edges), style_of(list(groups), name)
            axes.stairs(density, edges, fill=True, color=style["color"], alpha=0.2)
            axes.stairs(density, edges, **style)
        over = axes.twinx()
        over.stairs(local, edges, color=COLORS[2], linewidth=1.2)
        axes.plot([], [], color=COLORS[2], linewidth=1.2, label="D↔ (right axis)")
        over.set(ylim=(0, 1.02), ylabel="D↔, local linkability")
        over.spines["right"].set_visible(True)
        over.grid(visible=False)
        axes.set(xlabel=shown(score), ylabel="density", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)
        legend(figure, axes)
        return image(figure)


def _place(point: RateAtFmr) -> float:
    return point.fmr or point.fmr_wanted


def _thinned(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Places of the corners to draw of a curve that is monotone in u and in v, in units of an axis: int64 (k,).

    The first and the last corner in each cell along the curve: jumps stay where they are, and what is left out
    lies within a cell of the line that is drawn.
    """
    cells = np.floor(_CELLS * (np.abs(u - u[0]) + np.abs(v - v[0])))
    new = np.diff(cells) != 0
    return np.flatnonzero(np.concatenate([[True], new]) | np.concatenate([new, [True]]))


def _deviates(rates: Sequence[float] | np.ndarray) -> list[float]:
    return [NormalDist().inv_cdf(float(rate)) for rate in rates]


def _finite_range(scores: np.ndarray) -> list[float]:
    """The least and the greatest finite score; nothing where there is none."""
    finite = np.isfinite(scores)
    if not finite.any():
        return []
    return [float(np.min(scores, where=finite, initial=np.inf)), float(np.max(scores, where=finite, initial=-np.inf))]
