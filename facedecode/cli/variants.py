"""A command that does one of several things, each with options of its own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import typer

from facedecode.errors import UsageError


@dataclass(frozen=True)
class Variant:
    """One of the things that a command does.

    Attributes:
        run: takes by keyword only its options, each with the default that it has here. Returns (metrics, outputs).
        title: what it makes, for help: "recognizers".
    """

    run: Callable[..., tuple[dict, dict]]
    title: str

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Its options by name."""
        parameters = inspect.signature(self.run, eval_str=True).parameters
        return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def signature_of_all(command: Callable, variants: Sequence[Variant]) -> inspect.Signature:
    """The command's own parameters, then the options of its ways, each once.

    In the help, an option of one way alone stands under that way's title. One of several ways has the default of the
    first; where others have another, its help says so.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    takers: dict[str, list[Variant]] = {}
    for variant in variants:
        for name in variant.options:
            takers.setdefault(name, []).append(variant)
    united = [_united(name, takers[name]) for name in takers if name not in {p.name for p in own}]
    return inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own + united])


def _united(name: str, variants: Sequence[Variant]) -> inspect.Parameter:
    """One option of the command for what these ways take by that name."""
    first, *others = (variant.options[name] for variant in variants)
    kind, option = get_args(first.annotation)
    option: typer.models.OptionInfo = copy.copy(option)
    if not others:
        option.rich_help_panel = f"Of {variants[0].title}"
    for variant, other in zip(variants[1:], others, strict=True):
        if other.default not in (first.default, inspect.Parameter.empty):
            option.help = f"{option.help} {variant.title.capitalize()}: {other.default}."
    return first.replace(annotation=Annotated[kind, option])


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
