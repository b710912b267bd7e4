"""Options of jobs, declared once: on the dataclass that a function of the library takes.

A job says what to do: `evaluate_aggregation(AggregationJob(stores=[...], draws=5))`. Each of its fields that a user of
the command line may set is declared by `option` or `argument`, with its help and its range. The command line makes its
signature of them (`facedecode.cli.options`), and Python users read them where they stand.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facedecode.errors import UsageError

_KEY = "option"
_LARGEST = 2**53  # of whole numbers: those that JSON keeps
_UNSPELLABLE = "[](),@=<>"
_RESERVED = ("originals", "real images", "chance")


@dataclass(frozen=True)
class Option:
    """What the command line knows of a field.

    help: one or two sentences, without the default.
    flags: `--name`, `-n`; made from the field's name if empty.
    minimum, maximum: of a number.
    exists: what the value has to be, a key of `cli.checks.CHECKS` (`file`, `store` …): checked before any work.
    makes: what is written there, a key of `cli.checks.OUTPUTS` (`file`, `folder` …): tried before any work.
    positional: an argument and no option.
    parse: turns what the user wrote, of the type `written`, into the field's value. Raises UsageError.
    written: the type of what the user writes; the field's if None.
    """

    help: str
    flags: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exists: str | None = None
    positional: bool = False
    parse: Callable[[Any], Any] | None = None
    written: Any = None
    makes: str | None = None


def option(
    default: Any,
    help: str,
    *flags: str,
    minimum: float | None = None,
    maximum: float | None = None,
    exists: str | None = None,
    makes: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    written: Any = None,
) -> Any:
    """A dataclass field that is an option; see `Option`. `default`: `dataclasses.MISSING` where it is required."""
    metadata = {_KEY: Option(help, flags, minimum, maximum, exists, False, parse, written, makes)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def argument(
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    exists: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    written: Any = None,
) -> Any:
    """A dataclass field that is a positional argument; see `Option`. It is required unless it has a default."""
    declared = Option(help, exists=exists, positional=True, parse=parse, written=written)
    return dataclasses.field(default=default, metadata={_KEY: declared})


def option_of(field: dataclasses.Field) -> Option | None:
    """What was declared of a field; None where it is no option."""
    return field.metadata.get(_KEY)


def has_options(kind: Any) -> bool:
    """Whether a type is a job: a dataclass with options, or with a field that is such a dataclass."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return False
    hints = typing.get_type_hints(kind)
    return any(option_of(field) or has_options(hints[field.name]) for field in dataclasses.fields(kind))


def named(options: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE options as a dict, in their order. A value without a name is named by its last part.

    Raises UsageError: an empty part, one name given twice, or a name that `require_label` refuses.
    """
    named_values: dict[str, str] = {}
    for written in options:
        name, equals, value = written.partition("=")
        if not equals:
            name, value = Path(written).name, written
        if not name or not value:
            raise UsageError(f"{option} {written!r}: give NAME=VALUE, neither of them empty")
        if name in named_values:
            raise UsageError(f"{option}: {name!r} is given twice; label them apart, as NAME=VALUE")
        require_label(name, option)
        named_values[name] = value
    return named_values


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
        value = float(number)
    except ValueError:
        raise UsageError(f"--ridge {number}: give a number, 0 or more, or auto") from None
    require_range("--ridge", value, minimum=0)
    return value


def choices(kind: Any) -> tuple[str, ...]:
    """The values of a `Literal`, or of an optional one; none for another type."""
    kinds = [part for part in typing.get_args(kind) if part is not type(None)]
    if typing.get_origin(kind) is not typing.Literal and len(kinds) == 1:
        (kind,) = kinds
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def require_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse a value of an option that is none of its choices. Raises UsageError."""
    if value not in known:
        *others, last = known
        choices = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"--{name.replace('_', '-')} {value}: use {choices}")


def require_choices(job: Any) -> None:
    """Refuse a field of a job that is none of its choices. Raises UsageError."""
    hints = typing.get_type_hints(type(job))
    for field in dataclasses.fields(job):
        value, known = getattr(job, field.name), choices(hints[field.name])
        if known and (value is not None or field.default is not None):
            require_choice(field.name, value, known)


def require_ranges(job: Any) -> None:
    """Refuse a number of a job that is outside its option's range. Raises UsageError."""
    for field in dataclasses.fields(job):
        declared, value = option_of(field), getattr(job, field.name)
        if declared is not None:
            require_range(f"--{field.name.replace('_', '-')}", value, declared.minimum, declared.maximum)


def require_range(name: str, value: Any, minimum: float | None = None, maximum: float | None = None) -> None:
    """Refuse a number, or one of several, that is outside a range, no number, infinite, or too large for 64 bits.

    What is of another type passes. Raises UsageError.
    """
    for number in value if isinstance(value, tuple | list) else [value]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        if not math.isfinite(number):
            raise UsageError(f"{name} {number}: give a finite number")
        if isinstance(number, int) and abs(number) > _LARGEST:
            raise UsageError(f"{name} {number}: give at most {_LARGEST}")
        if minimum is not None and not number >= minimum:
            raise UsageError(f"{name} {number}: give at least {minimum:g}")
        if maximum is not None and not number <= maximum:
            raise UsageError(f"{name} {number}: give at most {maximum:g}")


# Options that many jobs share.


def seed_option() -> Any:
    """`--seed`."""
    return option(0, "Seed of all random choices.", minimum=0)


def overwrite_option() -> Any:
    """`--overwrite`."""
    return option(False, "Replace an output that already exists.")


def device_option() -> Any:
    """`--device`."""
    return option("auto", "Where to compute: auto, cpu, cuda, cuda:N or mps.", exists="device")


def people_option() -> Any:
    """`--people`."""
    return option(None, "Use only these people: a file with one name a line, or in LFW's format.", exists="file")


def exclude_option() -> Any:
    """`--exclude`."""
    return option((), "Leave out this person (repeatable).")


def decoder_option() -> Any:
    """`--decoder`."""
    return option(None, "Folder of a decoder. If absent, the one that ships for the recognizer.", exists="decoder")


def weights_option() -> Any:
    """`--weights`, of the recognizer."""
    help = "Weights file of the recognizer, if no installed package has it; or the folder of one made by 'train'."
    return option(None, help, exists="weights")


def spec_option() -> Any:
    """`--spec`."""
    help = (
        "What a model of your own takes: a preset (arcface, insightface, adaface, sface, facenet, "
        "openvino-retail-0095), or a JSON file (./arcface for one with a preset's name). If absent, FILE.json beside "
        "the model."
    )
    return option(None, help, exists="spec")


def template_output_option() -> Any:
    """`--template-output`."""
    return option(None, "Which output of a model of your own is the template, by name or number (0, 1 …).")


def bare_model_option() -> Any:
    """`--model`, of templates in a bare file; a store says which recognizer is its own."""
    help = (
        "Recognizer of the templates in a .npy file (dlib-resnet if absent): as for 'extract', or given:NAME for one "
        "that you do not have."
    )
    return option(None, help, exists="model")


@dataclass(frozen=True)
class ImageOptions:
    """Where the images of a store are, once it has been made."""

    images: Path | None = option(None, "Folder of the store's images, if they have moved.", exists="path")
    follow_links: bool = option(False, "Also read images that links in their folder lead to elsewhere.")


@dataclass(frozen=True)
class RecognizerOptions:
    """A recognizer, and where its weights are."""

    model: str = option(
        "dlib-resnet",
        "Recognizer: a name that 'facedecode models' lists, the folder of one made by 'train', or the file of a model "
        "of your own: .onnx, .pt2 or .pt (onnx:FILE, torch:FILE if it is called otherwise).",
        exists="model",
    )
    weights: Path | None = weights_option()
    spec: str | Path | None = spec_option()
    template_output: str | None = template_output_option()


@dataclass(frozen=True)
class BareRecognizerOptions(RecognizerOptions):
    """The recognizer of templates in a bare file."""

    model: str | None = bare_model_option()
