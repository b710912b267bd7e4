"""A user's model file as bytes, checked before PyTorch sees any of it.

`torch.export.load` and `torch.load` can run code that a file holds. So a file is read once, and only an archive with
nothing but data in its entries goes on to PyTorch.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput, MissingWeights
from facedecode.recognizers.weights_file import refuse_stand_in

_EXPORTED = re.compile(
    r"(archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/(serialization_id|version)"
    r"|models/model\.json|extra/.*|data/sample_inputs/model\.pt"
    r"|data/(weights/(model_weights_config\.json|weight_\d+)|constants/(model_constants_config\.json|tensor_\d+)))"
)
_OPERATORS = re.compile(r"(torch\.ops\.(aten|prims|higher_order)\.|_operator\.|torch\.sym_|math\.)[\w.]+")
# Where PyTorch looks up what a program calls.
_LOOKED_UP = ("torch", "_operator", "math", "#")
# What sizes (sympy evaluates them) and guards (PyTorch executes them) may call; nothing else is looked up.
_SIZES = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Abs", "And", "Or", "Not"),
    *("Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "Eq", "Ne"),
    *("FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv", "FloatTrueDiv", "Mod", "PythonMod", "ModularIndexing"),
    *("LShift", "RShift", "PowByNatural", "FloatPow", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal"),
    *("CeilToInt", "FloorToInt", "ToFloat", "Identity", "Where", "Ge", "Gt", "Le", "Lt"),
}
_GUARDS = {*("torch.sym_max", "torch.sym_min", "torch.sym_ite", "torch.sym_not", "math.floor", "math.ceil")}
_SHAPE = re.compile(r"L\['\w+'\]\.(size|stride|storage_offset)")
_PARTS = (
    *(ast.Expression, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop, ast.BoolOp, ast.boolop),
    *(ast.Compare, ast.cmpop, ast.Call, ast.keyword, ast.Name, ast.Attribute, ast.Subscript, ast.Constant),
    *(ast.IfExp, ast.expr_context),
)
# Names become identifiers of a module's source, which PyTorch compiles; these are only shown or quoted.
_NAME = re.compile(r"[\w.:\-]*")
_TREE = re.compile(r"(?!.*(__|default_factory))[\w\s\[\]{},:.\"]*", re.DOTALL)
_QUOTED = {"as_string", "as_strings", "torch_version", "target"}


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file. Raises MissingWeights: no such file. BadInput: unreadable, or as `refuse_stand_in`."""
    if not path.is_file():
        raise MissingWeights(f"{path}: no such model file; check the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
    refuse_stand_in(path, data[:64])
    return data


def torch_kind(path: Path, data: bytes) -> str:
    """`exported` (torch.export.save) or `script` (torch.jit.save), without unpickling anything.

    Raises BadInput: a pickle (torch.save), compiled code, a truncated or another file.
    """
    if data[:1] == b"\x80":
        raise _pickled(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            roots = {name.partition("/")[0] for name in names}
            inner = {name.partition("/")[2] for name in names}
            if len(roots) != 1 or len(inner) != len(names):
                raise BadInput(f"{path}: not an archive of one model; save it again by torch.export.save")
            if "archive_format" in inner:
                _require_data(path, archive, roots.pop(), inner)
                return "exported"
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        what = "truncated or damaged" if data[:2] == b"PK" else "no model of PyTorch"
        raise BadInput(f"{path}: {what} ({error}); save it again by torch.export.save or torch.jit.save") from None
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "script"
    if "data.pkl" in inner:
        raise _pickled(path)
    raise BadInput(f"{path}: neither an exported program nor TorchScript; save it by torch.export.save")


def _pickled(path: Path) -> BadInput:
    return BadInput(
        f"{path}: a pickle, as torch.save writes it; it can run code, or has no network, and is not opened: save the "
        "model by torch.export.save or torch.jit.save (docs/own-models.md)"
    )


def _require_data(path: Path, archive: zipfile.ZipFile, root: str, inner: set[str]) -> None:
    """Refuse an exported program with an entry that PyTorch would run or unpickle freely."""
    refused = sorted(name for name in inner if not _EXPORTED.fullmatch(name))
    if any(name.startswith("data/aotinductor") for name in refused):
        raise BadInput(f"{path}: holds compiled code, which is not run; save the program by torch.export.save")
    if refused or "models/model.json" not in inner:
        what = refused[0] if refused else "no models/model.json"
        raise BadInput(f"{path}: no exported program as torch.export.save of torch 2.10 or newer writes it ({what})")
    for kind in ("weights", "constants"):
        name = f"data/{kind}/model_{kind}_config.json"
        entries = json.loads(archive.read(f"{root}/{name}")).get("config", {}) if name in inner else {}
        for tensor, entry in entries.items():
            if entry.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
                raise BadInput(f"{path}: {tensor} is pickled, and a pickle can run code; save plain tensors")
    program = json.loads(archive.read(f"{root}/models/model.json"))
    for key, text in _strings(program):
        if key == "target" and text.startswith(_LOOKED_UP) and not _OPERATORS.fullmatch(text):
            raise BadInput(f"{path}: its program calls {text[:60]}, which is no operator of a network")
        if key == "expr_str" and not _is_arithmetic(text, _SIZES):
            raise BadInput(f"{path}: its program has a size that is no expression ({text[:60]})")
        if key == "guards_code" and not _is_arithmetic(text, _GUARDS):
            raise BadInput(f"{path}: its program has a guard that is no condition on sizes ({text[:60]})")
        named = _TREE if key in ("in_spec", "out_spec") else _NAME
        if key not in _QUOTED | {"expr_str", "guards_code"} and not named.fullmatch(text):
            raise BadInput(f"{path}: its program has a name that is none ({key}: {text[:60]})")
    if "data/sample_inputs/model.pt" in inner:
        import torch

        sample = archive.read(f"{root}/data/sample_inputs/model.pt")
        try:
            if sample:
                torch.load(io.BytesIO(sample), weights_only=True)
        except Exception:  # whatever it is, PyTorch would unpickle it freely next
            raise BadInput(f"{path}: its sample inputs are no plain tensors; export with a tensor as example") from None


def _is_arithmetic(text: str, functions: set[str]) -> bool:
    """Whether a text is one expression of numbers, names and arithmetic that calls only `functions` and sizes."""
    try:
        parts = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = [ast.unparse(part.func) for part in parts if isinstance(part, ast.Call)]
    looked_up = [ast.unparse(part) for part in parts if isinstance(part, ast.Attribute)]
    quoted = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str | bytes)]
    return (
        all(isinstance(part, _PARTS) for part in parts)
        and all(name in functions or _SHAPE.fullmatch(name) for name in [*called, *looked_up])
        and all(isinstance(word, str) and re.fullmatch(r"[\w.+\-]+", word) for word in quoted)
    )


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a JSON value, each with its key, without the nodes' `metadata` on their origin."""
    stack = [(key, value)]
    while stack:
        name, each = stack.pop()
        if isinstance(each, dict):
            stack.extend(item for item in each.items() if item[0] != "metadata")
        elif isinstance(each, list):
            stack.extend((name, item) for item in each)
        elif isinstance(each, str):
            yield name, each
