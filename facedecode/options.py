"""Options of jobs, declared once: on the dataclass that a function of the library takes.

A job says what to do: `evaluate_aggregation(AggregationJob(stores=[...], draws=5))`. Each of its fields that a user of
the command line may set is declared by `option` or `argument`, with its help and its range. The command line makes its
signature of them (`facedecode.cli.options`), and Python users read them where they stand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Exists = Literal["file", "folder", "path"]
_KEY = "option"


@dataclass(frozen=True)
class Option:
    """What the command line knows of a field.

    Attributes:
        help: one or two sentences, without the default.
        flags: `--name`, `-n`; made from the field's name if empty.
        minimum, maximum: of a number.
        exists: a path has to be there, as such: checked before any work (exit code 4).
        positional: an argument and no option.
        panel: the heading under which the help lists it.
        parse: turns what the user wrote, of the type `written`, into the field's value. Raises UsageError.
        written: the type of what the user writes; the field's if None.
    """

    help: str
    flags: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exists: Exists | None = None
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
    exists: Exists | None = None,
    panel: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    written: Any = None,
) -> Any:
    """A dataclass field that is an option; see `Option`. `default`: `dataclasses.MISSING` where it is required."""
    metadata = {_KEY: Option(help, flags, minimum, maximum, exists, False, panel, parse, written)}
    return dataclasses.field(default=default, metadata=metadata)


def argument(help: str, *, exists: Exists | None = None, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that is a positional argument."""
    return dataclasses.field(default=default, metadata={_KEY: Option(help, exists=exists, positional=True)})


def option_of(field: dataclasses.Field) -> Option | None:
    """What was declared of a field; None where it is no option."""
    return field.metadata.get(_KEY)


def has_options(kind: Any) -> bool:
    """Whether a type is a job: a dataclass with options, or with a field that is such a dataclass."""
    return dataclasses.is_dataclass(kind) and any(
        option_of(field) or dataclasses.is_dataclass(field.default) for field in dataclasses.fields(kind)
    )
