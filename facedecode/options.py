"""Options of jobs, declared once: on the dataclass that a function of the library takes.

A job says what to do: `evaluate_aggregation(AggregationJob(stores=[...], draws=5))`. Each of its fields that a user of
the command line may set is declared by `option` or `argument`, with its help and its range. The command line makes its
signature of them (`facedecode.cli.options`), and Python users read them where they stand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facedecode.errors import UsageError

_KEY = "option"
_UNSPELLABLE = "[](),@=<>"
_RESERVED = ("originals", "real images", "chance")


@dataclass(frozen=True)
class Option:
    """What the command line knows of a field.

    Attributes:
        help: one or two sentences, without the default.
        flags: `--name`, `-n`; made from the field's name if empty.
        minimum, maximum: of a number.
        exists: what the value has to be, a key of `cli.checks.CHECKS` (`file`, `store` …): checked before any work.
        positional: an argument and no option.
        panel: the heading under which the help lists it.
        parse: turns what the user wrote, of the type `written`, into the field's value. Raises UsageError.
        written: the type of what the user writes; the field's if None.
    """

    help: str
    flags: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exists: str | None = None
    positional: bool = False
    panel: str | None = None
    parse: Callable[[Any], Any] | None = None
    written: Any = None


def option(
    default: Any,
    help: str,
    *flags: str,
    minimum: float | None = None,
    maximum: float | None = None,
    exists: str | None = None,
    panel: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    written: Any = None,
) -> Any:
    """A dataclass field that is an option; see `Option`. `default`: `dataclasses.MISSING` where it is required."""
    metadata = {_KEY: Option(help, flags, minimum, maximum, exists, False, panel, parse, written)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def argument(
    help: str,
    *,
    exists: str | None = None,
    default: Any = dataclasses.MISSING,
    parse: Callable[[Any], Any] | None = None,
    written: Any = None,
) -> Any:
    """A dataclass field that is a positional argument; see `Option`."""
    declared = Option(help, exists=exists, positional=True, parse=parse, written=written)
    return dataclasses.field(default=default, metadata={_KEY: declared})


def option_of(field: dataclasses.Field) -> Option | None:
    """What was declared of a field; None where it is no option."""
    return field.metadata.get(_KEY)


def has_options(kind: Any) -> bool:
    """Whether a type is a job: a dataclass with options, or with a field that is such a dataclass."""
    return dataclasses.is_dataclass(kind) and any(
        option_of(field) or dataclasses.is_dataclass(field.default) for field in dataclasses.fields(kind)
    )


def named(options: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE options as a dict, in their order. A value without a name is named by its last part.

    Raises:
        UsageError: an empty part, one name given twice, or a name that `require_label` refuses.
    """
    found: dict[str, str] = {}
    for given in options:
        name, equals, value = given.partition("=")
        if not equals:
            name, value = Path(given).name, given
        if not name or not value:
            raise UsageError(f"{option} {given!r}: give NAME=VALUE, neither of them empty")
        if name in found:
            raise UsageError(f"{option}: {name!r} is given twice; label them apart, as NAME=VALUE")
        require_label(name, option)
        found[name] = value
    return found


def require_label(name: str, option: str) -> None:
    """Refuse a name that gates cannot spell, or that reports give to something else. Raises UsageError."""
    if name in _RESERVED:
        raise UsageError(f"{option}: nothing can be called {name!r}, a name that reports use; label it, as NAME=…")
    if name != name.strip() or set(name) & set(_UNSPELLABLE):
        raise UsageError(
            f"{option}: the name {name!r} has spaces at an end or one of {_UNSPELLABLE}, so that --fail-if cannot "
            "spell it; label it, as NAME=…"
        )


def parse_ridge(number: str) -> float | Literal["auto"]:
    """The penalty of --ridge: a number, or 'auto'. Raises UsageError for anything else."""
    if number == "auto":
        return "auto"
    try:
        return float(number)
    except ValueError:
        raise UsageError(f"--ridge {number}: give a number, 0 or more, or auto") from None
