"""Figures as people read them: units, decimals, intervals."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable

import numpy as np

from facedecode.report.gates import GateResult
from facedecode.report.model import Cell, Report, Unit
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.intervals import LEVEL

NOTHING = "–"


def show_number(value: float | None, unit: Unit = "number") -> str:
    """A number in its unit: 0.9315 is '93.15 %', -0.05 dB is '-0.05 dB'; '–' where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    match unit:
        case "percent":
            return f"{_decimals(100 * value)} %"
        case "points":
            return f"{100 * value:+.2f}"
        case "db":
            return f"{value:.2f} dB"
        case "count":
            return f"{value:,.0f}"
        case "score":
            return f"{value:.4f}"
        case "small":
            return f"{value:.3g}"
    return f"{value:.3f}"


def show_estimate(figure: Estimate, unit: Unit = "number") -> str:
    """A figure with its interval: '93.15 % [91.20, 94.80]'; the unit is said once."""
    return f"{show_number(figure.value, unit)} {show_interval(figure, unit)}".rstrip()


def show_interval(figure: Estimate, unit: Unit = "number") -> str:
    """A figure's interval without its unit: '[91.20, 94.80]'; nothing where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    low, high = (show_number(x, unit).removesuffix(" %").removesuffix(" dB") for x in (figure.low, figure.high))
    return f"[{low}, {high}]"


def show_cell(cell: Cell, unit: Unit = "text") -> str:
    """A table's cell."""
    if cell is None:
        return NOTHING
    if isinstance(cell, Estimate):
        return show_estimate(cell, unit)
    if isinstance(cell, str):
        return cell
    return str(cell) if unit == "text" and math.isfinite(cell) else show_number(cell, unit)


def show_gate(result: GateResult) -> tuple[str, str, str]:
    """A gate's condition, the number it was put to, and 'passed' or 'missed'."""
    number = "no number" if result.value is None else f"{result.value:.4g}"
    return result.gate.text, number, "passed" if result.passed else "missed"


def interval_note(report: Report) -> str:
    """What the brackets in a report are."""
    level = report.provenance.get("settings", {}).get("level", LEVEL)
    return f"In brackets: {100 * level:g} % intervals."


def _decimals(percent: float) -> str:
    """Two decimals; more below 0.1, never 0 for what is more; 100 only for all (less the rounding of a sum)."""
    if 0 < abs(percent) < 0.1:
        whole, _, part = np.format_float_positional(percent, precision=2, fractional=False).partition(".")
        return f"{whole}.{part:0<2}"
    if 99.99 < percent < 100 - 1e-9:
        return "99.99"
    return f"{percent:.2f}"


def counted(count: int, what: str) -> str:
    """A count and what is counted: '1 pair', '2,000 pairs', '3 false matches'."""
    return f"{count:,} {what}{'' if count == 1 else 'es' if what.endswith('ch') else 's'}"


def be(count: int) -> str:
    """'is' or 'are'."""
    return "is" if count == 1 else "are"


def percent(rate: float) -> str:
    """A rate that was asked for, in percent and in full: 0.001 is '0.1 %'."""
    return f"{100 * rate:g} %"


def slug(name: str) -> str:
    """A name as part of a file's name: lower case, digits and hyphens, at most 100 of them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:100].strip("-") or "unnamed"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """`slug` of each name, numbered where two are alike."""
    found: dict[str, str] = {}
    for name in names:
        numbered = (slug(name) if number == 1 else f"{slug(name)}-{number}" for number in itertools.count(1))
        found[name] = next(one for one in numbered if one not in found.values())
    return found
