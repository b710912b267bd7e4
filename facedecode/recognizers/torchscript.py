"""TorchScript (`torch.jit.save`, .pt), checked before PyTorch sees any of it.

Its archive holds source text in Python's syntax, and pickles that PyTorch reads by a reader of its own. Here the text
is parsed, each call in it is resolved to an operator of arithmetic or to a method in the archive, and the text is
written anew from what was parsed. Loops are counted, and end the program where they turn too often.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from facedecode.recognizers.exported import Refused, shown
from facedecode.recognizers.operators import ANTIALIASED, SCRIPT_PRIMS, is_script_operator, remedy
from facedecode.recognizers.torchscript_values import check_values

CODE = "code/"
"""Beginning of the names of entries that may be compressed."""
_KEPT = re.compile(r"version|byteorder|\.data/(version|serialization_id)|(data|constants)/\d{1,6}")
_LEFT_OUT = re.compile(
    r"code/.*\.debug_pkl|traced_inputs(\.pkl|/\d+)|extra/.*|bytecode(\.pkl|/\d+)|mobile_debug_handles\.pkl"
    r"|\.format_version|\.storage_alignment"
)
_PICKLES = ("data.pkl", "constants.pkl")

_TYPES = {
    *("Tensor", "int", "float", "bool", "str", "complex", "number", "NoneType", "Device", "Any"),
    *("Optional", "List", "Dict", "Tuple", "Final", "Union"),
}
_TYPED = {"unchecked_cast", "uninitialized", "annotate"}  # of a type, and perhaps of a value
_BUILT_IN = {"getattr", "int", "float", "bool", "str", "complex", "range", *_TYPED}
_BASES = {"Module", "NamedTuple", "Enum"}
# Roots of names that stand for no value.
_ROOTS = {"torch", "ops", "__torch__", "CONSTANTS"}
_VALUES = {"inf", "nan", "infj", "nanj"}
_MOST_CODE = 1 << 23  # letters
_MOST_TURNS, _MOST_NESTED = 256, 3  # of a loop, and loops in one another
_MOST_CALLS = 1_000_000  # when all functions are copied into one another, as PyTorch does


@dataclass
class Class:
    """A class of the archive: the types of its attributes, and its methods."""

    attributes: dict[str, ast.expr] = field(default_factory=dict)
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)


def checked_script(entries: Mapping[str, memoryview]) -> dict[str, bytes | memoryview]:
    """The entries to hand to PyTorch, from those of an archive.

    Raises Refused: an operator that is not allowed, or anything that cannot be shown to be arithmetic.
    """
    kept: dict[str, bytes | memoryview] = {}
    sources: dict[str, ast.Module] = {}
    if sum(len(content) for name, content in entries.items() if name.endswith(".py")) > _MOST_CODE:
        raise Refused("its code is too long")
    for name, content in entries.items():
        if name.startswith(CODE) and name.endswith(".py"):
            sources[name] = _parsed(name, content)
        elif _KEPT.fullmatch(name):
            kept[name] = content
        elif not (_LEFT_OUT.fullmatch(name) or name in _PICKLES):
            raise Refused(f"no TorchScript as torch.jit.save writes it ({name})")
    if missing := [name for name in _PICKLES if name not in entries]:
        raise Refused(f"no TorchScript as torch.jit.save writes it (no {missing[0]})")
    code = _Code(sources)
    code.check()
    for name in _PICKLES:
        check_values(name, entries, {kind: held.attributes for kind, held in code.classes.items()})
        kept[name] = entries[name]
    return kept | {name: f"{ast.unparse(tree)}\n".encode() for name, tree in sources.items()}


def _parsed(name: str, content: memoryview) -> ast.Module:
    try:
        return ast.parse(bytes(content).decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Refused(f"{name} is no code of TorchScript; save the model by torch.export.save") from None


class _Code:
    """All source text of an archive."""

    def __init__(self, sources: Mapping[str, ast.Module]):
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        bodies: dict[str, ast.ClassDef] = {}
        for name, tree in sources.items():
            module = name.removeprefix(CODE).removesuffix(".py").replace("/", ".")
            if not re.fullmatch(r"__torch__(\.\w+)*", module) or ".classes." in f"{module}.":
                raise Refused(f"{name} is no code of TorchScript")
            for each in tree.body:
                if not isinstance(each, ast.ClassDef | ast.FunctionDef):
                    raise _foreign(each)
                called = f"{module}.{each.name}"
                if called in bodies or called in self.functions:
                    raise Refused(f"its code has {shown(called)} twice")
                if isinstance(each, ast.ClassDef):
                    self.classes[called], bodies[called] = Class(), each
                else:
                    self.functions[called] = each
        for name, body in bodies.items():
            self._read_class(self.classes[name], body)
        self.all_functions = dict(self.functions)
        for name, held in self.classes.items():
            self.all_functions |= {f"{name}.{method}": each for method, each in held.methods.items()}

    def _read_class(self, held: Class, body: ast.ClassDef) -> None:
        if body.decorator_list or body.keywords or not all(_dotted(base) in _BASES for base in body.bases):
            raise _foreign(body)
        for each in body.body:
            if isinstance(each, ast.FunctionDef) and held.methods.setdefault(each.name, each) is each:
                continue
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                self.check_constant(each.value)
                self._note(held, each.target.id, each.annotation)
            elif isinstance(each, ast.Assign) and len(each.targets) == 1:
                target = each.targets[0]
                if isinstance(target, ast.Subscript) and _dotted(target.value) == "__annotations__":
                    self._note(held, _quoted(target.slice), each.value)
                elif isinstance(target, ast.Name) and "hook" not in target.id:  # these are called unseen
                    self.check_constant(each.value)
                else:
                    raise _foreign(each)
            elif not isinstance(each, ast.Pass):
                raise _foreign(each)

    def _note(self, held: Class, name: str, annotation: ast.expr) -> None:
        self.check_type(annotation)
        if held.attributes.setdefault(name, annotation) is not annotation:
            raise Refused(f"its code has an attribute of two types ({shown(name)})")

    def check_constant(self, value: ast.expr | None) -> None:
        """Refuse a class's constant or an argument's default that is more than numbers and texts."""
        for part in ast.walk(value) if value is not None else ():
            plain = isinstance(part, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.UnaryOp | ast.USub | ast.Load)
            if not plain and not (isinstance(part, ast.Name) and part.id in _VALUES):
                raise _foreign(part)

    def check_type(self, node: ast.expr | None) -> None:
        """Refuse an annotation that names anything but plain types and classes of the archive."""
        if isinstance(node, ast.Subscript):
            self.check_type(node.value)
            self.check_type(node.slice)
        elif isinstance(node, ast.Tuple | ast.List):
            for each in node.elts:
                self.check_type(each)
        elif node is not None and ast.unparse(node) not in {"None", *_TYPES, *self.classes}:
            raise Refused(f"its code has a value of the type {shown(ast.unparse(node))}, which is not allowed")

    def class_of(self, annotation: ast.expr | None) -> str:
        """The class of the archive that an annotation is, else empty."""
        return dotted if (dotted := _dotted(annotation)) in self.classes else ""

    def check(self) -> None:
        """Check every function, and give its loops counters.

        Raises Refused: as `checked_script`; functions that call each other so often that there would be no end.
        """
        calls = {name: _Function(self, name, each).check() for name, each in self.all_functions.items()}
        inner = {name: {called for called, _ in each if called} for name, each in calls.items()}
        copies, nested = {"": 1}, {"": 0}
        try:
            for name in TopologicalSorter(inner).static_order():
                copies[name] = 1 + sum(copies[called] for called, _ in calls[name])
                nested[name] = max((nested[called] + in_loop for called, in_loop in calls[name]), default=0)
                if copies[name] > _MOST_CALLS or nested[name] > _MOST_NESTED:
                    raise Refused("its functions call each other, or loops, too often")
        except CycleError:
            raise Refused("its code has a function that calls itself") from None


class _Function:
    """One function or method: its statements, and which of its variables are modules of the archive."""

    def __init__(self, code: _Code, name: str, node: ast.FunctionDef):
        self.code, self.node, self.name = code, node, name
        self.kinds: dict[str, str] = {}  # variable → class of the archive, empty for plain values
        self.aliases: dict[str, str] = {}  # variable → function of the archive
        self.calls: list[tuple[str, bool]] = []  # what is called, empty for an operator, and whether in a loop
        self.loops, self.inside = 0, 0

    def check(self) -> list[tuple[str, bool]]:
        """Check all statements and give its loops counters; what it calls, as `calls`."""
        arguments, owner = self.node.args, self.name.rpartition(".")[0]
        if arguments.posonlyargs or arguments.vararg or arguments.kwarg or self.node.decorator_list:
            raise _foreign(self.node)
        for each in [*arguments.args, *arguments.kwonlyargs]:
            self.code.check_type(each.annotation)
            kind = self.code.class_of(each.annotation)
            if each is arguments.args[0] and owner in self.code.classes:
                if each.annotation is not None and kind != owner:
                    raise Refused(f"its code has a method of two classes ({shown(self.name)})")
                kind = owner
            self._bind(each.arg, kind)
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self.code.check_constant(default)
        self.code.check_type(self.node.returns)
        self._block(self.node.body)
        self.node.body[:0] = [_statement(f"_turns_{number} = 0") for number in range(self.loops)]
        return self.calls

    def _block(self, body: list[ast.stmt]) -> None:
        for each in body:
            self._statement(each)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            self._assign(node.targets[0], node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            self.code.check_type(node.annotation)
            self._assign(node.target, node.value)
        elif isinstance(node, ast.Return):
            if node.value is not None:
                self._value(node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._value(node.value)
        elif isinstance(node, ast.If):
            self._plain(node.test)
            self._block(node.body)
            self._block(node.orelse)
        elif isinstance(node, ast.While | ast.For) and not node.orelse:
            self._loop(node)
        elif not isinstance(node, ast.Pass):
            raise _foreign(node)

    def _loop(self, node: ast.While | ast.For) -> None:
        counter = f"_turns_{self.loops}"
        self.loops += 1
        self.inside += 1
        if isinstance(node, ast.For):
            self._plain(node.iter)
            self._targets(node.target)
        else:
            self._plain(node.test)
        self._block(node.body)
        self.inside -= 1
        stop = f"ops.prim.RaiseException('a loop of more than {_MOST_TURNS} turns')"
        node.body[:0] = [
            _statement(f"{counter} = torch.add({counter}, 1)"),
            _statement(f"if torch.gt({counter}, {_MOST_TURNS}):\n  {stop}\nelse:\n  pass"),
        ]

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        dotted = _dotted(value)
        if isinstance(target, ast.Name) and dotted in self.code.functions:
            self._require_free(target.id)
            # What a name calls must not depend on the way that the program took.
            if target.id in self.kinds or self.aliases.setdefault(target.id, dotted) != dotted:
                raise Refused(f"its code has a name for two things ({shown(target.id)})")
            return
        kind = self._value(value)
        if isinstance(target, ast.Name):
            self._bind(target.id, kind)
        elif isinstance(target, ast.Attribute):
            self._member(self._value(target.value), target.attr)
        else:
            self._targets(target)

    def _bind(self, name: str, kind: str) -> None:
        self._require_free(name)
        if name in self.aliases or self.kinds.setdefault(name, kind) != kind:
            raise Refused(f"its code has a name for two things ({shown(name)})")

    def _require_free(self, name: str) -> None:
        """Refuse a variable that would hide what a name stands for, or a counter."""
        if name in _ROOTS | _BUILT_IN | _VALUES or name.startswith("_turns_"):
            raise Refused(f"its code has a variable called {shown(name)}")

    def _targets(self, target: ast.expr) -> None:
        """A loop's variable, or several at once: plain values."""
        if isinstance(target, ast.Name):
            self._bind(target.id, "")
        elif isinstance(target, ast.Tuple | ast.List):
            for each in target.elts:
                self._targets(each)
        else:
            raise _foreign(target)

    def _plain(self, node: ast.expr) -> None:
        """Check an expression whose value is no module: TorchScript would call methods that are not written."""
        if self._value(node):
            raise _foreign(node)

    def _value(self, node: ast.expr) -> str:
        """Check an expression; the class of the archive that its value has, empty for plain ones."""
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float | complex | str | None):
                raise _foreign(node)
        elif isinstance(node, ast.Name):
            if node.id in _VALUES:
                return ""
            if node.id not in self.kinds:
                raise Refused(f"its code has a name that stands for nothing ({shown(node.id)})")
            return self.kinds[node.id]
        elif isinstance(node, ast.Attribute):
            if re.fullmatch(r"CONSTANTS\.c\d+", dotted := _dotted(node)):
                return ""
            if dotted.partition(".")[0] in _ROOTS:
                raise _not_allowed(dotted)
            return self._member(self._value(node.value), node.attr)
        elif isinstance(node, ast.Call):
            return self._call(node)
        elif isinstance(node, ast.Subscript | ast.UnaryOp | ast.Slice | ast.Tuple | ast.List | ast.Dict | ast.IfExp):
            for each in ast.iter_child_nodes(node):
                if isinstance(each, ast.expr):
                    self._plain(each)
                elif not isinstance(each, ast.USub | ast.Not | ast.Load):
                    raise _foreign(each)
        else:
            raise _foreign(node)
        return ""

    def _member(self, kind: str, name: str) -> str:
        """The class of a module's attribute. What TorchScript asks of plain values it writes as calls."""
        held = self.code.classes.get(kind)
        if held is None or name not in held.attributes:
            raise Refused(f"its code asks for {shown(name)}, which no class of the file has")
        return self.code.class_of(held.attributes[name])

    def _call(self, node: ast.Call) -> str:
        """Check a call: of an operator, a function or method of the archive, or a word of TorchScript."""
        called, kind, arguments = "", "", node.args
        dotted = _dotted(node.func)
        root, _, operator = dotted.rpartition(".")
        if isinstance(node.func, ast.Name):
            if dotted in self.aliases:
                called = self.aliases[dotted]
            elif dotted == "getattr" and len(arguments) == 2 and not node.keywords:
                return self._member(self._value(arguments[0]), _quoted(arguments[1]))
            elif dotted in _TYPED and arguments:
                self.code.check_type(arguments[0])
                kind, arguments = self.code.class_of(arguments[0]), arguments[1:]
            elif dotted not in _BUILT_IN:
                raise _not_allowed(dotted)
        elif dotted in self.code.functions:
            called = dotted
        elif dotted in self.code.classes:
            called, kind = f"{dotted}.__init__", dotted
        elif root in ("torch", "ops.aten"):
            if operator in ANTIALIASED:
                self._antialiased(node, dotted)
            elif not is_script_operator(operator):
                raise _not_allowed(dotted)
        elif root == "ops.prim":
            if operator not in SCRIPT_PRIMS:
                raise _not_allowed(dotted)
        elif dotted.partition(".")[0] in _ROOTS or not isinstance(node.func, ast.Attribute):
            raise _not_allowed(ast.unparse(node.func))
        else:
            owner, method = self._value(node.func.value), node.func.attr
            if owner not in self.code.classes or method not in self.code.classes[owner].methods:
                raise _not_allowed(f".{method}")
            called = f"{owner}.{method}"
        if called in self.code.all_functions:
            kind = self.code.class_of(self.code.all_functions[called].returns) or kind
        self.calls.append((called if called in self.code.all_functions else "", self.inside > 0))
        inner = called or dotted in _TYPED
        for each in [*arguments, *(keyword.value for keyword in node.keywords)]:
            if isinstance(each, ast.Starred):
                raise _foreign(each)
            (self._value if inner else self._plain)(each)
        if not all(keyword.arg for keyword in node.keywords):
            raise _foreign(node)
        return kind

    @staticmethod
    def _antialiased(node: ast.Call, dotted: str) -> None:
        """Make a call be of the form that takes a size or a scale, and refuse one that could give both."""
        if len(node.args) == 4 and not node.keywords:
            scales = ast.unparse(node.args[3])
            node.args[3] = ast.parse(f"annotate(Optional[List[float]], {scales})", mode="eval").body
        elif node.keywords or not all(isinstance(each, ast.Constant) and each.value is None for each in node.args[3:]):
            raise _not_allowed(dotted)


def _statement(text: str) -> ast.stmt:
    return ast.parse(text).body[0]


def _dotted(node: ast.AST | None) -> str:
    """`a.b.c` where an expression is that, else empty."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _quoted(node: ast.expr) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise _foreign(node)
    return node.value


def _foreign(node: ast.AST) -> Refused:
    return Refused(f"its code is not as torch.jit.save writes it, or not allowed ({shown(ast.unparse(node))})")


def _not_allowed(name: str) -> Refused:
    return Refused(f"its code calls {shown(name)}, which is not allowed: {remedy(name.rpartition('.')[2])}")
