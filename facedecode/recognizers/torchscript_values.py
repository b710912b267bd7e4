"""The pickles of a TorchScript archive, read without running anything: what they hold, and whether it fits the code.

PyTorch reads them by a reader of its own, which trusts them: a storage of more numbers than there are, or an object of
another class than the code says, would let it read memory that is not the model's.
"""

from __future__ import annotations

import ast
import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from facedecode.recognizers.exported import Refused, shown

Classes = Mapping[str, Mapping[str, ast.expr]]
"""The archive's classes: the types of their attributes."""

_OPCODES = {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPENDS", "APPEND"),
    *("EMPTY_DICT", "SETITEMS", "SETITEM", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL", "NEWOBJ"),
    *("BUILD", "REDUCE", "BINPERSID"),
}
_MOST_OPCODES, _MOST_TEXT, _MOST_DEPTH = 5_000_000, 20_000, 50
_MOST_VISITS, _MOST_SHARED_TUPLES = 1_000_000, 16
# Bytes of one number.
_STORAGES = {
    **dict.fromkeys(("torch ByteStorage", "torch CharStorage", "torch BoolStorage"), 1),
    **dict.fromkeys(("torch ShortStorage", "torch HalfStorage", "torch BFloat16Storage"), 2),
    **dict.fromkeys(("torch IntStorage", "torch FloatStorage"), 4),
    **dict.fromkeys(("torch LongStorage", "torch DoubleStorage", "torch ComplexFloatStorage"), 8),
    "torch ComplexDoubleStorage": 16,
}
_LISTS = {"intlist": int, "doublelist": float, "boollist": bool}
_NUMBERS = {"int": (int,), "float": (float,), "bool": (bool,), "complex": (complex,), "number": (int, float)}


class _Object:
    """An object of a class of the archive; each class is a subclass of this one."""

    name = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Tensor:
    """A tensor; its numbers are in the archive."""


class _Device:
    """A device."""


class _Visits:
    """How many values were looked at. One that is in several places is looked at in each of them."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        """Count one. Raises Refused: values that hold each other so often that there would be no end."""
        self._count += 1
        if self._count > _MOST_VISITS:
            raise Refused("its values hold each other too often")


def check_values(name: str, entries: Mapping[str, memoryview], classes: Classes) -> None:
    """Refuse a pickle (`data.pkl`, `constants.pkl`) that PyTorch would not write, or that does not fit the classes.

    Raises Refused.
    """
    data = bytes(entries[name])
    visits = _Visits()
    try:
        _check_opcodes(data)
        value = _Reader(data, name.removesuffix(".pkl"), entries, classes, visits).load()
        _check(value, classes, visits, is_model=name == "data.pkl")
    except Refused:
        raise
    except Exception as error:  # a pickle can make Python's reader raise anything
        raise Refused(f"{name} is damaged ({type(error).__name__})") from None


def _check_opcodes(data: bytes) -> None:
    """Refuse what PyTorch does not write: its reader would take memory for a memo that is given far-off numbers."""
    memos, end, before = 0, 0, ""
    tuples, shared_tuples = set(), 0
    for count, (code, argument, position) in enumerate(pickletools.genops(data)):
        if code.name not in _OPCODES or count > _MOST_OPCODES:
            raise Refused(f"its values hold a pickle that torch.jit.save does not write ({code.name})")
        if code.name in ("BINPUT", "LONG_BINPUT"):
            if argument > memos:
                raise Refused("its values hold a pickle that torch.jit.save does not write (its memo)")
            memos = max(memos, argument + 1)
            if before.startswith("TUPLE"):
                tuples.add(argument)
        # Of tuples in tuples, Python would compute a hash again and again.
        shared_tuples += code.name in ("BINGET", "LONG_BINGET") and argument in tuples
        if shared_tuples > _MOST_SHARED_TUPLES:
            raise Refused("its values hold each other too often")
        if isinstance(argument, str) and len(argument) > _MOST_TEXT:
            raise Refused("its values hold a text of too many letters")
        if isinstance(argument, int) and not -(1 << 63) <= argument < 1 << 63:
            raise Refused("its values hold a number of too many digits")
        end, before = position, code.name
    if end != len(data) - 1:
        raise Refused("its values hold bytes behind a pickle")


class _Reader(pickle.Unpickler):
    """Python's reader, which finds the stand-ins of this module and nothing else."""

    def __init__(self, data: bytes, folder: str, entries: Mapping[str, memoryview], classes: Classes, visits: _Visits):
        super().__init__(io.BytesIO(data))
        self._folder, self._entries, self._visits = folder, entries, visits
        self._known: dict[str, Any] = {
            name: type("_Object", (_Object,), {"name": name, "__slots__": ()}) for name in classes
        }
        self._known |= {name: name for name in _STORAGES}
        self._known |= {f"torch.jit._pickle build_{name}": _lister(kind) for name, kind in _LISTS.items()}
        self._known |= {
            "torch.jit._pickle build_tensorlist": _lister(_Tensor),
            "torch.jit._pickle restore_type_tag": self._tagged,
            "torch._utils _rebuild_tensor_v2": self._tensor,
            "torch._utils _rebuild_parameter": self._parameter,
            "torch device": _device,
            "collections OrderedDict": OrderedDict,
        }

    def find_class(self, module: str, name: str) -> Any:
        found = self._known.get(f"{module}.{name}") or self._known.get(f"{module} {name}")
        if found is None:
            raise Refused(f"its values hold a value of {f'{module}.{name}'[:80]!a}, which is not allowed")
        return found

    def persistent_load(self, pid: Any) -> tuple[str, int]:
        kind, storage, key, location, count = pid
        if not all(isinstance(each, str) for each in (kind, storage, key, location)):
            raise Refused("its values hold a storage of no tensor")
        content = self._entries[f"{self._folder}/{key}"]
        if kind != "storage" or not re.fullmatch(r"cpu|cuda(:\d{1,2})?", location):
            raise Refused("its values hold a storage of no tensor")
        if type(count) is not int or count * _STORAGES[storage] != len(content):
            raise Refused("its values hold a storage of more numbers than the file has")
        return storage, count

    def _tensor(self, storage: tuple[str, int], offset: int, size: tuple, stride: tuple, *rest: Any) -> _Tensor:
        numbers = [offset, *size, *stride]
        if not all(type(number) is int and 0 <= number < 1 << 48 for number in numbers) or len(size) != len(stride):
            raise Refused("its values hold a tensor without a shape")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 not in size and last >= storage[1]:
            raise Refused("its values hold a tensor of more numbers than the file has")
        if not isinstance(rest[0], bool) or any(rest[1:]):
            raise Refused("its values hold a tensor with hooks")
        return _Tensor()

    @staticmethod
    def _parameter(tensor: _Tensor, gradient: bool, hooks: OrderedDict) -> _Tensor:
        if not isinstance(tensor, _Tensor) or hooks:
            raise Refused("its values hold a parameter that is none")
        return tensor

    def _tagged(self, value: Any, tag: str) -> Any:
        if not isinstance(tag, str) or not _fits(value, ast.parse(tag, mode="eval").body, self._visits):
            raise Refused(f"its values hold a value that is no {shown(tag)}")
        return value


def _lister(kind: type) -> Callable[[list], list]:
    def listed(values: list) -> list:
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise Refused(f"its values hold a list of other values than {kind.__name__}")
        return values

    return listed


def _device(*words: Any) -> _Device:
    if not all(isinstance(word, str | int) for word in words):
        raise Refused("its values hold a device that is none")
    return _Device()


def _check(value: Any, classes: Classes, visits: _Visits, is_model: bool) -> None:
    """Check every object's attributes against its class. Objects are attributes of objects, and nothing else."""
    if is_model and not isinstance(value, _Object):
        raise Refused("data.pkl holds no model")
    waiting, seen = [(value, 0)], set()
    while waiting:
        each, depth = waiting.pop()
        visits.add()
        if depth > _MOST_DEPTH:
            raise Refused("its values are nested too deeply")
        if id(each) in seen or not isinstance(each, _Object | list | tuple | dict):
            continue
        if isinstance(each, _Object):
            seen.add(id(each))
            types = classes[each.name]
            if not isinstance(each.state, dict):
                raise Refused(f"its values hold an object of {shown(each.name)} without its attributes")
            for name, inner in each.state.items():
                if not isinstance(name, str):
                    raise Refused(f"its values hold an object of {shown(each.name)} without its attributes")
                if name in types and not _fits(inner, types[name], visits):
                    raise Refused(f"{shown(each.name)}: its {shown(str(name))} is of another type than its code says")
                if isinstance(inner, _Object) and name not in types:
                    raise Refused(f"{shown(each.name)}: has no attribute {shown(str(name))}")
                waiting.append((inner, depth + 1))
        else:
            inner_values = [*each.keys(), *each.values()] if isinstance(each, dict) else each
            if any(isinstance(inner, _Object) for inner in inner_values):
                raise Refused("its values hold a module in a list")
            waiting += [(inner, depth + 1) for inner in inner_values]


def _fits(value: Any, kind: ast.expr, visits: _Visits, depth: int = 0) -> bool:
    """Whether a value is what an annotation says."""
    visits.add()
    if depth > _MOST_DEPTH:
        raise Refused("its values are nested too deeply")
    if isinstance(kind, ast.Subscript):
        outer, inner = kind.value.id if isinstance(kind.value, ast.Name) else "", kind.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if outer == "Final":
            return _fits(value, parts[0], visits, depth + 1)
        if outer == "Optional":
            return value is None or _fits(value, parts[0], visits, depth + 1)
        if outer == "Union":
            return any(_fits(value, part, visits, depth + 1) for part in parts)
        if outer == "List":
            return isinstance(value, list) and all(_fits(each, parts[0], visits, depth + 1) for each in value)
        if outer == "Dict" and len(parts) == 2 and isinstance(value, dict):
            return all(
                _fits(k, parts[0], visits, depth + 1) and _fits(v, parts[1], visits, depth + 1)
                for k, v in value.items()
            )
        if outer == "Tuple" and isinstance(value, tuple):
            return len(value) == len(parts) and all(
                _fits(each, part, visits, depth + 1) for each, part in zip(value, parts, strict=True)
            )
        return False
    text = ast.unparse(kind)
    if text in _NUMBERS:
        return type(value) in _NUMBERS[text]
    plain = {"Tensor": _Tensor, "str": str, "Device": _Device, "NoneType": type(None), "None": type(None)}
    if text in plain:
        return type(value) is plain[text]
    if text == "Any":
        return not isinstance(value, _Object)
    return isinstance(value, _Object) and value.name == text
