"""How figures look: as SVG, equal input giving equal bytes, with nobody's matplotlib settings playing a part.

matplotlib's objects are used without pyplot, so that a program's own figures and its backend stay as they are.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from facedecode.escaping import visible

if TYPE_CHECKING:  # matplotlib takes half a second that --help does not have
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from facedecode.statistics.bootstrap import Estimate

# Okabe and Ito's colors, which color-blind people tell apart; in gray the dashes do it.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))  # one fewer than colors
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#333333"
_LONGEST = 60  # characters of a name
_FLOORS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2)  # where an axis of shares may begin, if not at 0
_STYLE = {
    "svg.hashsalt": "facedecode",
    "svg.fonttype": "path",  # looks alike wherever it is opened
    "text.parse_math": False,  # a name may have a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def figure_of(width: float = 5.2, height: float = 3.5, rows: int = 1) -> Iterator[tuple[Figure, Any, Callable]]:
    """A new figure in inches, its axes (an array of `rows`, if several), and what makes SVG of it."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    def image(figure: Figure) -> bytes:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            # A name in a script that the font has not: it stands in the report's tables, as boxes in the figure.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return stream.getvalue()

    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(rows, sharex=True), image


def style_of(names: Sequence[str], name: str) -> dict:
    """Label, color and dashes of a curve, by its place among all."""
    number = names.index(name)
    dashes = DASHES[number % len(DASHES)]
    return {"label": shown(name), "color": COLORS[number % len(COLORS)], "linestyle": dashes}


def shown(name: str) -> str:
    """A name that can stand in a figure: on one line, and of no more than 60 characters."""
    name = visible(name)
    name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return f" {name}" if name.startswith("_") else name  # matplotlib's legends leave out what begins with _


def legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it hides nothing; the figure grows by as much."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) <= 32 else 1
    figure.set_figheight(figure.get_figheight() + 0.19 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def interval_ends(row: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, and the lower and upper ends of their intervals, float64 (k,) each; the value where there is none."""
    parts = ([getattr(figure, part) for figure in row] for part in ("value", "low", "high"))
    values, low, high = (np.array(part, dtype=np.float64) for part in parts)
    return values, np.where(np.isnan(low), values, low), np.where(np.isnan(high), values, high)


def percent_of(share: float) -> str:
    """A share in percent, without the sign and without an exponent."""
    return np.format_float_positional(100 * share, precision=4, fractional=False, trim="-")


def axis_of_shares(axes: Axes, lowest: float, unit: str = "") -> None:
    """The vertical axis in percent, up to 1 and from where the lowest of the shares can be seen."""
    floor = next((floor for floor in _FLOORS if lowest >= floor), 0.0)
    margin = 0.02 * (1 - floor)
    axes.set_ylim(floor - margin, 1 + margin)
    axes.yaxis.set_major_formatter(lambda value, _: f"{percent_of(value)}{unit}")
