"""Size and shape of the package: lines, files, long signatures, vague names, small modules; a table, then JSON.

python benchmarks/house.py [--base REV] [--places]
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "facedecode"
MOST_PARAMETERS = 10
SMALL_MODULE = 70
VAGUE = {"said", "told", "own", "there", "found", "given"}


def working_tree() -> dict[str, str]:
    """The package's Python files now: path → text."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def revision(name: str) -> dict[str, str]:
    """The package's Python files in a git revision: path → text."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", name, PACKAGE], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [member for member in tar.getmembers() if member.isfile() and member.name.endswith(".py")]
        return {member.name: tar.extractfile(member).read().decode() for member in members}


def is_command(path: str) -> bool:
    """Whether a file belongs to the command line, where long signatures are options."""
    return path.startswith(f"{PACKAGE}/cli/")


def long_signatures(path: str, tree: ast.AST) -> list[str]:
    """The functions outside the command line with more than `MOST_PARAMETERS`; `self` does not count."""
    if is_command(path):
        return []
    long = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                long.append(f"{path}:{node.lineno} {node.name} ({count})")
    return long


def vague_names(path: str, tree: ast.AST) -> list[str]:
    """Where a variable, parameter or field is given a name that does not tell what it holds."""
    places = []
    for node in ast.walk(tree):
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        if name in VAGUE:
            places.append(f"{path}:{node.lineno} {name}")
    return places


def count(files: dict[str, str]) -> dict[str, Any]:
    """What the table shows, and where the long signatures and vague names are."""
    lines = {path: text.count("\n") for path, text in files.items()}
    trees = {path: ast.parse(text) for path, text in files.items()}
    long = [place for path, tree in trees.items() for place in long_signatures(path, tree)]
    vague = [place for path, tree in trees.items() for place in vague_names(path, tree)]
    folders: dict[str, int] = {}
    for path, number in lines.items():
        folder = path.split("/")[1] if path.count("/") > 1 else "root"
        folders[folder] = folders.get(folder, 0) + number
    small = [p for p, number in lines.items() if number <= SMALL_MODULE and not p.endswith("__init__.py")]
    return {
        "lines": sum(lines.values()),
        "files": len(files),
        **{f"lines in {folder}": folders[folder] for folder in sorted(folders)},
        f"functions with more than {MOST_PARAMETERS} parameters, outside cli": len(long),
        f"vague names ({', '.join(sorted(VAGUE))})": len(vague),
        f"modules of at most {SMALL_MODULE} lines": len(small),
        "long signatures": long,
        "vague": vague,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", metavar="REV", help="a git revision to show beside the working tree")
    parser.add_argument("--places", action="store_true", help="list where the long signatures and vague names are")
    options = parser.parse_args()
    sides = {options.base: count(revision(options.base))} if options.base else {}
    sides["now"] = count(working_tree())
    names = list(dict.fromkeys(name for side in sides.values() for name in side if isinstance(side[name], int)))
    width = max(map(len, names))
    print(" " * width, *(f"{side[:9]:>9}" for side in sides))
    for name in names:
        print(f"{name:{width}}", *(f"{side.get(name, 0):>9,}" for side in sides.values()))
    for place in [*sides["now"]["long signatures"], *sides["now"]["vague"]] if options.places else ():
        print(place)
    print(
        json.dumps({side: {name: counts[name] for name in names if name in counts} for side, counts in sides.items()})
    )


if __name__ == "__main__":
    main()
