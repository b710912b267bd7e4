"""How verification's reports say counts and rates."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """A count and what is counted: '1 pair', '2,000 pairs'."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def be(count: int) -> str:
    """'is' or 'are'."""
    return "is" if count == 1 else "are"


def percent(rate: float) -> str:
    """A rate that was asked for, in percent and in full: 0.001 is '0.1 %'."""
    return f"{100 * rate:g} %"
