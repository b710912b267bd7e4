"""Data flows one way: who imports whom, held against the table in docs/development.md."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "facedecode"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.stem.startswith("__")
}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "facedecode":
            base = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                found.add(inner if inner in MODULES else base)
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("facedecode.")}
    return found & MODULES.keys()


def layers() -> dict[str, int]:
    """What the table names, by the number of its row from below."""
    text = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    cells = re.findall(r"(?m)^\| (`.*?`) \|", text)
    return {name: -row for row, cell in enumerate(cells) for name in re.findall(r"`(\w+)`", cell)}


def test_the_table_has_every_package_and_module_once() -> None:
    tops = {name.partition(".")[0] for name in MODULES}
    assert tops == layers().keys()


def test_modules_import_from_below() -> None:
    layer = layers()
    lowest = min(layer.values())  # of modules, in one layer with one another
    wrong = []
    for name, path in MODULES.items():
        for other in imports(path):
            here, there = name.partition(".")[0], other.partition(".")[0]
            if here != there and layer[there] != lowest and layer[there] >= layer[here]:
                wrong.append(f"{name} imports {other}")
    assert not wrong


def test_no_two_modules_import_each_other() -> None:
    # A package's face takes from its own modules; who imports a module inside does not mean the face.
    graph = {name: imports(path) - {name.rpartition(".")[0]} for name, path in MODULES.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names them


# What opens a file by its name, or writes one. A method `open` counts where its first argument is a mode.
OPENERS = {
    *("open", "os.open", "os.fdopen", "safe_open", "load_file", "np.fromfile", "np.load", "np.save"),
    *("np.savez", "np.memmap", "pq.read_table", "shutil.copy", "shutil.copyfile"),
}
METHODS = {"read_bytes", "read_text", "tofile"}
# Each with its reason: the package's own data, the system's, streams without a file, and a download that goes on.
MAY_OPEN = {
    "files": {"os.open", "os.fdopen"},
    "streams": {"os.open"},
    "memory": {"read_text"},
    "provenance": {"read_text"},
    "evaluation.result": {"read_text"},
    "report.folder": {"read_text"},
    "download": {"open"},
}


def opened_by(path: Path) -> set[str]:
    """The calls in a module that open files for themselves."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, method = ast.unparse(node.func), getattr(node.func, "attr", "")
        has_mode = bool(node.args) and isinstance(node.args[0], ast.Constant | ast.IfExp)
        if name in OPENERS or (method == "open" and has_mode):
            found.add(name if name in OPENERS else "open")
        elif method in METHODS:
            found.add(method)
    return found


def test_files_are_opened_in_one_place() -> None:
    """There, special files are refused, writes are checked to their end, and what is read is read once."""
    assert {name: calls for name, path in MODULES.items() if (calls := opened_by(path))} == MAY_OPEN
