"""Jobs on the command line: their options become parameters, and what the user gave becomes a job."""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any

import typer

from facedecode.cli.checks import check, try_output
from facedecode.options import Option, choices, has_options, option_of, require_choice, require_range

_SEVERAL = (tuple, list, collections.abc.Sequence)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the things that a command can do.

    title: what it makes, for the help: "recognizers".
    job: its options.
    only: those of them that it takes; all if None.
    defaults: what else the job can be asked for → option → its default then.
    """

    title: str
    job: type
    only: Collection[str] | None = None
    defaults: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its options by name."""
        return {p.name: p for p in parameters_of(self.job) if self.only is None or p.name in self.only}


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Marks a parameter that gets the options of several jobs, by name: `Annotated[dict[str, Any], OneOf(...)]`."""

    variants: tuple[Variant, ...]

    def parameters(self) -> list[inspect.Parameter]:
        """Each option once.

        In the help, an option of one title alone stands under it. An option of several has the default of the first;
        where others have another, its help says so.
        """
        takers: dict[str, list[Variant]] = {}
        for variant in self.variants:
            for name in variant.options:
                takers.setdefault(name, []).append(variant)
        return [self._united(name, variants) for name, variants in takers.items()]

    def _united(self, name: str, takers: list[Variant]) -> inspect.Parameter:
        first = takers[0].options[name]
        default = None if first.default is first.empty and len(takers) < len(self.variants) else first.default
        defaults = {taker.title: taker.options[name].default for taker in takers[1:]}
        for taker in takers:
            defaults |= {what: changed[name] for what, changed in taker.defaults.items() if name in changed}
        kind, described, *markers = typing.get_args(first.annotation)
        described = copy.copy(described)
        for what, other in defaults.items():
            if other not in (default, first.empty):
                described.help += f" Default for {what}: {f'{other:g}' if isinstance(other, float) else other}."
        titles = {taker.title for taker in takers}
        if len(titles) == 1:
            described.rich_help_panel = f"Of {titles.pop()}"
        return first.replace(
            default=default, annotation=_annotated(kind if default is not None else kind | None, described, *markers)
        )


def expand(function: Callable) -> tuple[list[inspect.Parameter], Callable[[dict[str, Any]], dict[str, Any]]]:
    """A function's parameters with those that are jobs, or `OneOf` several, replaced by options, all by keyword.

    Returns the parameters, and what turns their values into the function's own arguments.
    """
    jobs: dict[str, type] = {}
    unions: dict[str, set[str]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if marks := [mark for mark in typing.get_args(parameter.annotation) if isinstance(mark, OneOf)]:
            united = marks[0].parameters()
            unions[parameter.name] = {p.name for p in united}
            parameters += united
        elif has_options(parameter.annotation):
            jobs[parameter.name] = parameter.annotation
            parameters += parameters_of(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def collect(values: dict[str, Any]) -> dict[str, Any]:
        for job in jobs.values():
            _require_inputs(job, values)
        for job in jobs.values():
            _require_outputs(job, values)
        made = {name: _make(job, values) for name, job in jobs.items()}
        made |= {union: {name: values[name] for name in names} for union, names in unions.items()}
        taken = {name for job in jobs.values() for name, _, _ in _fields(job)}.union(*unions.values())
        return {name: value for name, value in values.items() if name not in taken} | made

    return parameters, collect


def parameters_of(job: type) -> list[inspect.Parameter]:
    """A keyword parameter for each option of a job, as Typer reads them."""
    return [_parameter(field, kind, declared) for _, (field, kind), declared in _fields(job)]


def make_job(job: type, values: Mapping[str, Any]) -> Any:
    """The job that the user described.

    Raises BadInput: an input that is not there, or of another kind; all are looked at before anything else.
    OutputError: an output that cannot be written. UsageError: a value that is none of the choices, or that the option
    or the job refuses.
    """
    _require_inputs(job, values)
    _require_outputs(job, values)
    return _make(job, values)


def _require_inputs(job: type, values: Mapping[str, Any]) -> None:
    for name, _, declared in _fields(job):
        if declared.exists and name in values:
            check(declared.exists, values[name], values)


def _require_outputs(job: type, values: Mapping[str, Any]) -> None:
    for name, (field, _), declared in _fields(job):
        if declared.makes:
            value = values.get(name, _default(field))
            if value is not None and value is not dataclasses.MISSING:
                try_output(declared.makes, value, values)


def _make(job: type, values: Mapping[str, Any]) -> Any:
    arguments: dict[str, Any] = {}
    hints = typing.get_type_hints(job)
    for field in dataclasses.fields(job):
        declared = option_of(field)
        if declared is not None and field.name in values:
            value = values[field.name]
            if isinstance(value, list):
                value = tuple(value)
            require_range(f"--{field.name.replace('_', '-')}", value)
            if isinstance(value, str) and not declared.parse and (known := choices(hints[field.name])):
                require_choice(field.name, value, known)
            if value is not None and declared.parse is not None:
                value = declared.parse(value)
            # An option that was left out, of several values: as the job has it.
            if value is None and _default(field) is not None and _default(field) is not dataclasses.MISSING:
                continue
            arguments[field.name] = value
        elif declared is None and has_options(hints[field.name]):
            arguments[field.name] = _make(hints[field.name], values)
    return job(**arguments)


def _fields(job: type) -> Iterator[tuple[str, tuple[dataclasses.Field, Any], Option]]:
    """(name, (field, its type), option) of a job and of the jobs inside it."""
    hints = typing.get_type_hints(job)
    for field in dataclasses.fields(job):
        declared = option_of(field)
        if declared is not None:
            yield field.name, (field, hints[field.name]), declared
        elif has_options(hints[field.name]):
            yield from _fields(hints[field.name])


def _parameter(field: dataclasses.Field, kind: Any, declared: Option) -> inspect.Parameter:
    kind, default = _written(declared.written or kind), _default(field)
    if isinstance(default, tuple | dict):
        default = list(default) or None
    if typing.get_origin(kind) is list and default is None:
        kind = kind | None
    required = default is dataclasses.MISSING
    if declared.positional:
        described = typer.Argument(help=declared.help)
    else:
        flags = declared.flags or (_flag(field.name, default),)
        described = typer.Option(*flags, help=declared.help, min=declared.minimum, max=declared.maximum)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=_annotated(kind, described, declared),
    )


def _annotated(*parts: Any) -> Any:
    """`Annotated[parts]`."""
    annotated: Any = Annotated
    return annotated[parts]


def _default(field: dataclasses.Field) -> Any:
    """A field's default; MISSING where there is none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _flag(name: str, default: Any) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if default is True else f"--{flag}"


def _written(kind: Any) -> Any:
    """The type that Typer is given: a list for several values, and their own type for the others."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in _SEVERAL:
        return types.GenericAlias(list, inner[:1])
    if origin in (typing.Union, types.UnionType):
        options = [_written(part) for part in inner if part is not type(None)]
        return options[0] | None if type(None) in inner else options[0]
    if origin is typing.Literal:
        return type(inner[0])
    return kind
