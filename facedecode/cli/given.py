"""Which of a command's options were given, for commands whose options do not all go together."""

from __future__ import annotations

import typer

from facedecode.errors import UsageError


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user set this parameter."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def refuse_others(context: typer.Context, allowed: set[str], why: str) -> None:
    """Refuse options that were given and would be dropped silently. Raises UsageError: "--x does not WHY"."""
    for parameter in context.command.params:
        if parameter.name not in allowed and is_given(context, parameter.name):
            raise UsageError(f"{parameter.opts[0]} does not {why}; leave it out")


def only_given(**settings: float | None) -> dict[str, float]:
    """The settings that were given (not None), where the others have defaults elsewhere."""
    return {name: value for name, value in settings.items() if value is not None}
