"""Find every bracketed figure of the docs in the results that its text links, or fail.

    python docs/check_numbers.py [-v] [FILE …]

A bracketed figure is a value with its interval, as `87.96 % [84.04, 90.53]`. Value and both ends must be those of one
figure of one results file, rounded as the text rounds them. The file must be linked from the same paragraph, list item
or row of a table; where that links no results, from the same section. `results/security/report.md` stands for the
folder's `report.json` and tables. The negative of a figure counts too: a text may say `less` for `more`. `-v` says
where each one was found. Exit code 1: at least one was not.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGES = ("README.md", "docs/*.md", "facedecode/weights/*/README.md")  # checked when no file is named
_NUMBER = r"[-+\u2212]?\d[\d,]*(?:\.\d+)?"
_ENDS = rf"\[({_NUMBER})(?: %)?,\s+({_NUMBER})(?: %)?\]"
_FIGURE = re.compile(rf"(?:({_NUMBER})((?:\s*[^\W\d]+|\s*[%°]){{0,2}})\s+)?{_ENDS}")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"(?m)^(?=#{1,6} )")
_BLOCK = re.compile(r"\n(?=[ \t]*\n)|\n(?=[ \t]*(?:[-*] |\||\d+\. ))")  # paragraphs, list items, rows of tables


class Figure(NamedTuple):
    """A value with its interval, and where it stands in its file."""

    value: float
    low: float
    high: float
    place: str


class Quote(NamedTuple):
    """A bracketed figure of a text as it is written there, its line, and the results files that the text links."""

    text: str
    line: int
    value: str | None
    unit: str
    low: str
    high: str
    linked: list[Path]


def quotes(text: str, folder: Path) -> Iterator[Quote]:
    """The bracketed figures of a page of Markdown in `folder`. Ranges such as `in [0, 1]` are none, nor is code."""
    start = 0
    for section in _SECTION.split(_CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)):
        of_section = _linked(section, folder)
        ends = [0, *(gap.end() for gap in _BLOCK.finditer(section)), len(section)]
        for begin, end in pairwise(ends):
            block = section[begin:end]
            for match in _FIGURE.finditer(block):
                value, unit, low, high = match.groups()
                if value is None and "." not in low + high:
                    continue
                line = text.count("\n", 0, start + begin + match.start()) + 1
                shown = " ".join(match[0].split())
                yield Quote(shown, line, value, (unit or "").strip(), low, high, _linked(block, folder) or of_section)
        start += len(section)


def _linked(text: str, folder: Path) -> list[Path]:
    """The results files that a text links: of a report, all of its folder."""
    files: list[Path] = []
    for target in [(folder / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", text) if "results/" in link]:
        if target.suffix in (".csv", ".json") and target.is_file():
            files.append(target)
        elif (target.parent / "report.json").is_file():
            files += [target.parent / "report.json", *sorted(target.parent.glob("*.csv"))]
    return files


@cache
def figures(path: Path) -> list[Figure]:
    """The figures with intervals of a results file: JSON objects, or columns `x`, `x low` and `x high` of a table."""
    if path.suffix == ".json":
        return list(_of_json(json.loads(path.read_text(encoding="utf-8")), ""))
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    named = [i for i in range(len(head) - 2) if head[i + 1].endswith("low") and head[i + 2].endswith("high")]
    cells = [(row[i : i + 3], f"line {n}, {head[i]}") for n, row in enumerate(rows, 2) for i in named]
    return [Figure(*map(float, cell), place) for cell, place in cells if all(cell)]  # type: ignore[arg-type]


def _of_json(node: object, place: str) -> Iterator[Figure]:
    if isinstance(node, dict) and all(isinstance(node.get(name), int | float) for name in ("value", "low", "high")):
        yield Figure(node["value"], node["low"], node["high"], place)
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in below:
        yield from _of_json(value, f"{place}/{name}")


def says(quote: Quote, figure: Figure) -> bool:
    """Whether a figure, or its negative, is what the text has: in percent where it says so, or may mean so."""
    for scale in {"%": [100], "points": [100], "": [1, 100]}.get(quote.unit, [1]):
        for value, low, high in (figure[:3], (-figure.value, -figure.high, -figure.low)):
            pairs = ((quote.value, value), (quote.low, low), (quote.high, high))
            if all(written is None or _rounds(number * scale, written) for written, number in pairs):
                return True
    return False


def _rounds(number: float, written: str) -> bool:
    plain = written.replace(",", "").replace("\u2212", "-")
    return abs(number - float(plain)) <= 0.5 * 10 ** -len(plain.partition(".")[2]) * (1 + 1e-9)


def find(quote: Quote, files: Iterable[Path]) -> str | None:
    """The first place that has the figure."""
    places = (f"{_name(file)}, {figure.place}" for file in files for figure in figures(file) if says(quote, figure))
    return next(places, None)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def check(pages: Iterable[Path], results: Path = RESULTS, tell: bool = False) -> list[str]:
    """A line for each bracketed figure of `pages` that no results file has which its text links."""
    wrong = []
    for page in pages:
        for quote in quotes(page.read_text(encoding="utf-8"), page.parent):
            where = f"{_name(page)}:{quote.line}: {quote.text}"
            if (found := find(quote, quote.linked)) is None:
                other = find(quote, sorted(results.rglob("*.json")) + sorted(results.rglob("*.csv")))
                wrong.append(
                    f"{where}: {f'only in {other}, which it does not link' if other else 'in no results file'}"
                )
            elif tell:
                print(f"{where}: {found}")
    return wrong


if __name__ == "__main__":
    given = [Path(argument).resolve() for argument in sys.argv[1:] if argument != "-v"]
    errors = check(given or [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))], tell="-v" in sys.argv)
    sys.exit("\n".join(errors) if errors else 0)
