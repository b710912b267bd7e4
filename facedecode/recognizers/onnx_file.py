"""An ONNX model as bytes, checked before ONNX Runtime sees any of it: it names no other file, and only known operators.

The file is a message of Protocol Buffers. It is walked here without their package: of each message, only the fields
that can hold a node, a tensor or a graph. Numbers of fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from facedecode.errors import BadInput
from facedecode.recognizers.protobuf import fields

_MOST_DEPTH, _MOST_NODES = 32, 1_000_000
# Kind of message → its fields that hold others, and their kind.
_INNER = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "tensor": {},
}
_NAMES = {"node": {4: "operator", 7: "domain"}, "function": {1: "operator", 10: "domain"}}
_EXTERNAL, _PLACE = 13, 14  # of a tensor: where else its numbers are, and that they are elsewhere
# The standard's own, and ONNX Runtime's fused forms of them.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
_REFUSED = {
    "EPContext": "compiled code, which is not run",
    "Loop": "a loop, which may have no end",
}


def check_onnx(path: Path, data: bytes) -> None:
    """Refuse an ONNX model that is more than one file of known operators.

    Raises BadInput: tensors in another file, operators of somebody's own, compiled code, damaged.
    """
    try:
        _check(path, memoryview(data))
    except (ValueError, UnicodeDecodeError):
        raise BadInput(f"{path}: ONNX Runtime cannot read it (truncated, or no ONNX model); export it again") from None


def _check(path: Path, data: memoryview) -> None:
    if not data:
        raise ValueError("empty")
    called: dict[str, list[str]] = {"": []}  # by the graph and each function of the model's own
    foreign = set()
    left = [("model", "", data, 0)]
    while left:
        kind, owner, message, depth = left.pop()
        if depth > _MOST_DEPTH:
            raise ValueError("nested too deeply")
        name = {"operator": "", "domain": ""}
        for field, value in fields(message):
            if kind == "tensor" and (field == _EXTERNAL or (field == _PLACE and value != 0)):
                raise BadInput(f"{path}: its tensors lie in another file; export it with external_data=False")
            if isinstance(value, int):
                continue
            if what := _NAMES.get(kind, {}).get(field):
                name[what] = bytes(value).decode()
            elif inner := _INNER[kind].get(field):
                left.append((inner, _function(value) if inner == "function" else owner, value, depth + 1))
        if kind == "function":
            called.setdefault(owner, [])
        if kind == "node":
            if reason := _REFUSED.get(name["operator"]):
                raise BadInput(f"{path}: holds {reason} ({name['operator']}); export it without")
            called.setdefault(owner, []).append(f"{name['domain']}:{name['operator']}")
            if name["domain"] not in _DOMAINS:
                foreign.add(f"{name['domain']}:{name['operator']}")
    if missing := sorted(foreign - called.keys()):
        raise BadInput(
            f"{path}: needs the operator {ascii(missing[0][:80])[1:-1]}, which ONNX Runtime does not have; export it "
            "with those of ONNX only"
        )
    _require_end(path, called)


def _function(message: memoryview) -> str:
    """The name of a function of the model's own, as nodes call it."""
    name = {"operator": "", "domain": ""}
    for field, value in fields(message):
        if (what := _NAMES["function"].get(field)) and not isinstance(value, int):
            name[what] = bytes(value).decode()
    return f"{name['domain']}:{name['operator']}"


def _require_end(path: Path, called: dict[str, list[str]]) -> None:
    """Refuse functions that call themselves, or each other so often that ONNX Runtime would not end copying them."""
    sizes: dict[str, int] = {}
    own = {name: {each for each in inner if each in called} for name, inner in called.items()}
    try:
        for name in TopologicalSorter(own).static_order():
            sizes[name] = 1 + sum(sizes.get(each, 1) for each in called[name])
            if sizes[name] > _MOST_NODES:
                raise BadInput(f"{path}: its functions call each other too often; export it again")
    except CycleError:
        raise BadInput(f"{path}: has a function that calls itself; export it again") from None
