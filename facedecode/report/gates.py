"""Gates for pipelines: conditions on figures that make a command fail, as `tar@far=0.001 < 0.9`.

    CONDITION = FIGURE OP NUMBER           fails where it holds; OP is <, <=, > or >=
    FIGURE    = NAME | low(NAME) | high(NAME)   the figure, or an end of its interval
    NAME      = WORD [ "[" WHICH "]" ] [ "@" RATE "=" NUMBER ]     type2[ridge,edgeface-xxs]@fmr=0.001

The names are those of `Report.gates`. Rates compare as numbers: `@far=1e-3` and `@far=0.001` are one.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facedecode.errors import UsageError
from facedecode.statistics.bootstrap import Estimate

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_CONDITION = re.compile(r"\s*(?:(low|high)\(\s*([^()]+?)\s*\)|([^()<>=]+?(?:=[^<>=]+?)?))\s*(<=|>=|<|>)\s*(\S+)\s*")
_NAME = re.compile(r"([a-z_0-9]+)(\[[^\[\]]+\])?(?:@([a-z]+)=(\S+))?")


@dataclass(frozen=True)
class Gate:
    """One condition.

    text: as it was given.
    name: of the figure, in `figure_name`'s form.
    rate: the name's rate and number (`far`, 0.001), which the evaluation has to be made at; or None.
    part: value, low or high.
    """

    text: str
    name: str
    rate: tuple[str, float] | None
    part: str
    sign: str
    limit: float


@dataclass(frozen=True)
class GateResult:
    """A gate's condition, the number it was put to (None where there is none), and whether it passed."""

    gate: Gate
    value: float | None
    passed: bool

    def as_json(self) -> dict:
        """{condition, figure, value, passed}."""
        return {
            "condition": self.gate.text,
            "figure": self.gate.name,
            "value": self.value,
            "passed": self.passed,
        }


def figure_name(word: str, which: Sequence[str] = (), **rate: float) -> str:
    """The name of a figure: `figure_name("type2", ["ridge"], fmr=1e-3)` is `type2[ridge]@fmr=0.001`."""
    inner = f"[{','.join(which)}]" if which else ""
    outer = "".join(f"@{key}={value:g}" for key, value in rate.items())
    return f"{word}{inner}{outer}"


def parse_gate(text: str) -> Gate:
    """Read a condition. `UsageError` names what is wrong with it."""
    found = _CONDITION.fullmatch(text)
    if not found:
        raise UsageError(f"--fail-if {text!r}: give a condition such as 'tar@far=0.001 < 0.9'")
    part, inner, bare, sign, number = found.groups()
    name = _NAME.fullmatch(inner or bare)
    if not name:
        raise UsageError(f"--fail-if {text!r}: {inner or bare!r} is not the name of a figure")
    word, which, key, value = name.groups()
    rate = (key, _number(text, value)) if key else None
    inside = [w.strip() for w in which[1:-1].split(",")] if which else []
    full = figure_name(word, inside, **({rate[0]: rate[1]} if rate else {}))
    return Gate(text, full, rate, part or "value", sign, _number(text, number))


def rates_of(gates: Sequence[Gate], *keys: str) -> list[float]:
    """The rates that gates ask for, of these kinds (`far`, `fmr`): they must be among those evaluated."""
    return [gate.rate[1] for gate in gates if gate.rate and gate.rate[0] in keys]


def check_gates(gates: Sequence[Gate], figures: Mapping[str, Estimate]) -> list[GateResult]:
    """Compare the figure of each gate with its limit. One without a number (none there, NaN, no interval) fails."""
    results = []
    for gate in gates:
        value = getattr(figures.get(gate.name), gate.part, None)
        if value is not None and not math.isfinite(value):
            value = None
        passed = value is not None and not _OPERATORS[gate.sign](value, gate.limit)
        results.append(GateResult(gate, None if value is None else float(value), passed))
    return results


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"--fail-if {text!r}: {number!r} is not a number")
    return value
