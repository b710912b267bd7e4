"""JSON from files as typed records: each field is declared once, on a dataclass, and checked where it is read."""

from __future__ import annotations

import functools
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from facedecode.errors import BadInput
from facedecode.files import read_file

Self = TypeVar("Self", bound="Record")
Migration = Callable[[dict[str, Any]], dict[str, Any]]
_KINDS = {str: "text", bool: "true or false", int: "a whole number"}


class _Malformed(Exception):
    """A value that is not what its field takes: where in the object, and what it should be."""

    def __init__(self, place: str, wanted: str) -> None:
        self.place, self.wanted = place, wanted


@dataclass(frozen=True)
class Limit:
    """What a field takes, of the values of its type: `Annotated[int, Limit(...)]`.

    valid: whether it takes a value. wanted: what it takes, for messages: "a SHA-256".
    """

    valid: Callable[[Any], bool]
    wanted: str


def has_text(*keys: str) -> Limit:
    """Objects that have a text under each of these keys."""
    names = " and ".join(map(repr, keys))
    return Limit(lambda value: all(isinstance(value.get(key), str) for key in keys), f"an object with {names}")


Count = Annotated[int, Limit(lambda n: n >= 0, "at least 0")]
Positive = Annotated[int, Limit(lambda n: n >= 1, "at least 1")]


@dataclass(frozen=True)
class Record:
    """A JSON object as a frozen dataclass: a key for each field, and the field's annotation says what it holds.

    Annotations are `str`, `int`, `float`, `bool`, `Literal`, tuples, `dict`, other records, `X | None` and `Any`, and
    any of these `Annotated` by a `Limit`. A field with a default may be absent from the object, and is left out where
    it is None or empty by default. Other keys are ignored, or kept in the field `further` where the class has one.

    REMEDY: what a reader of the error can do about a malformed object.
    """

    REMEDY: ClassVar[str] = "make it again"

    @classmethod
    def from_json(cls: type[Self], where: object, value: Any) -> Self:
        """The record of a JSON object.

        where: the file, for messages.

        Raises BadInput: naming `where` and the field: missing, of another type, or out of range.
        """
        try:
            return cls._parsed(value, "")
        except _Malformed as error:
            place = f"field {error.place!r} " if error.place else ""
            raise BadInput(f"{where}: {place}is {error.wanted}; {cls.REMEDY}") from None
        except RecursionError:
            raise BadInput(f"{where}: nested too deeply; {cls.REMEDY}") from None

    @classmethod
    def _parsed(cls: type[Self], value: Any, place: str) -> Self:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _Malformed(place, "no JSON object")
        hints: dict[str, Any] = field_types(cls)
        held: dict[str, Any] = {}
        for each in fields(cls):
            inner = _inside(place, each.name)
            if each.name == "further":
                held["further"] = {key: plain(value[key]) for key in value if key not in hints}
            elif each.name in value:
                held[each.name] = _read(hints[each.name], value[each.name], inner)
            elif _default(each) is MISSING:
                raise _Malformed(inner, "missing")
        return cls(**held)

    def as_json(self) -> dict[str, Any]:
        """The JSON object that `from_json` reads."""
        held: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "further":
                held |= value
            elif value != _default(each) or value not in (None, (), {}):
                held[each.name] = plain(value)
        return held


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _field_types(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


# The annotations of a record's fields by name, with what annotates them.
field_types: Callable[[Any], dict[str, Any]] = functools.cache(_field_types)


def _inside(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _read(kind: Any, value: Any, place: str) -> Any:
    """A value of JSON as an annotation wants it. place: where in the object it is. Raises _Malformed."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return plain(value)
    if origin is Annotated:
        result = _read(parts[0], value, place)
        for limit in parts[1:]:
            if isinstance(limit, Limit) and not limit.valid(result):
                raise _Malformed(place, f"not {limit.wanted}")
        return result
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in parts if part is not type(None))
        return None if value is None else _read(inner, value, place)
    if origin is Literal:
        if not isinstance(value, str) or value not in parts:
            raise _Malformed(place, f"not {' or '.join(parts)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Malformed(place, "not a list")
        parts = parts[:1] * len(value) if parts[1:] == (...,) else parts
        if len(parts) != len(value):
            raise _Malformed(place, f"not a list of {len(parts)}")
        numbered = enumerate(zip(parts, value, strict=True))
        return tuple(_read(part, each, _inside(place, i)) for i, (part, each) in numbered)
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _Malformed(place, "not an object")
        return {key: _read(parts[1], inner, _inside(place, key)) for key, inner in value.items()}
    if kind is float:
        if not is_number(value):
            raise _Malformed(place, "not a number")
        return value
    if issubclass(kind, Record):
        return value if isinstance(value, kind) else kind._parsed(value, place)
    if type(value) is not kind:
        raise _Malformed(place, f"not {_KINDS[kind]}")
    return value


_HUGE = 1e300  # NaN, infinity and whole numbers that no float holds are no numbers here


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE < value < _HUGE


def plain(value: Any) -> Any:
    """A value as JSON's own types, as reading the written file gives it."""
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


MOST_JSON = 1 << 26
"""Bytes of JSON that are read at most. The manifest of the largest store has 23 MB."""
MOST_VALUES = 1 << 21
"""Values in JSON that are read at most, by its commas and brackets. That manifest has half a million."""
MOST_LEVELS = 64
"""Objects and lists inside each other that are read at most."""
_LARGEST = 2**63  # what NumPy and torch count with


def parse_json(where: object, text: str | bytes) -> dict[str, Any]:
    """The JSON object in a text.

    Raises BadInput naming `where`: something else; numbers that JSON does not have; more than `MOST_JSON` bytes,
    `MOST_VALUES` values or `MOST_LEVELS` levels; whole numbers beyond 64 bits; a text that is no Unicode.
    """

    def number(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            raise ValueError(digits)
        return value

    if len(text) > MOST_JSON:
        raise BadInput(
            f"{where}: {len(text):,} bytes of JSON, and at most {MOST_JSON:,} are read; is it the right file?"
        )
    # A value of two bytes takes a hundred in memory.
    if isinstance(text, str):
        values = sum(text.count(mark) for mark in ",[{")
    else:
        values = sum(text.count(mark) for mark in b",[{")
    if values > MOST_VALUES:
        raise BadInput(f"{where}: more than {MOST_VALUES:,} values of JSON; is it the right file?")
    try:
        value = json.loads(text, parse_float=number, parse_constant=number)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not valid JSON") from error
    if not isinstance(value, dict):
        raise BadInput(f"{where}: holds no JSON object")
    if reason := _beyond_bounds(value):
        raise BadInput(f"{where}: {reason}; is it the right file?")
    return value


def _beyond_bounds(value: Any) -> str | None:
    """What in a value of JSON no file of ours has, in words."""
    level = [value]
    for _ in range(MOST_LEVELS):
        inside: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inside += each.keys()
                inside += each.values()
            elif isinstance(each, list):
                inside += each
            elif isinstance(each, str) and not _is_text(each):
                return "holds a text that is no Unicode"
            elif isinstance(each, int) and not -_LARGEST <= each < _LARGEST:
                return "holds a whole number of more than 64 bits"
        if not inside:
            return None
        level = inside
    return f"nested too deeply (more than {MOST_LEVELS} levels)"


def _is_text(text: str) -> bool:
    """Whether a text is Unicode; names of files that are not are kept by surrogates, as Python reads them."""
    try:
        return text.isascii() or bool(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises BadInput naming the file: missing, no regular file, or as `parse_json`."""
    return parse_json(path, read_file(path, MOST_JSON))


def migrated(
    where: object, value: dict[str, Any], key: str, version: int, migrations: Mapping[int, Migration], remedy: str
) -> dict[str, Any]:
    """An object of an older version of its format, brought to the present one step by step.

    Args:
        key: the object's field that holds its version.
        version: the present one.
        migrations: version → what makes an object of that version one of the next.
        remedy: what to do about another version, for the message.

    Raises BadInput: a version that is newer, that has no migration, or that is none.
    """
    held = value.get(key)
    steps = range(held, version) if type(held) is int else range(version)
    if type(held) is not int or held > version or not all(step in migrations for step in steps):
        raise BadInput(f"{where}: format version {held!r}, and this facedecode reads {version}; {remedy}")
    for step in steps:
        try:
            value = {**migrations[step](value), key: step + 1}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{where}: malformed for its format version {step} ({error}); {remedy}") from None
    return value


def difference(one: dict[str, Any], other: dict[str, Any], where: tuple[str, str] = ("there", "here")) -> str | None:
    """Name the settings in which two JSON objects differ (the first three), or None where they are equal.

    where: what to call the two.
    """
    old, new = _flatten(one), _flatten(other)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if not keys:
        return None
    shown = [f"{key} {_short(old.get(key))} {where[0]}, {_short(new.get(key))} {where[1]}" for key in keys[:3]]
    return "; ".join(shown) + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}, to name what differs."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
