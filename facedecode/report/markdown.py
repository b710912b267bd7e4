"""A report as GitHub-flavored Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from facedecode.escaping import visible
from facedecode.report.data import picture_file
from facedecode.report.gates import GateResult
from facedecode.report.model import Report, Section, Table
from facedecode.report.text import interval_note, show_cell, show_estimate, show_gate

# Underscores inside words and brackets that end no link mean nothing there, and figures are full of them.
_SPECIAL = re.compile(r"[\\`*<>|&~$]|(?<!\w)_|_(?!\w)|\](?=[(\[:])")
_LINE_START = re.compile(r"^(\d*)([#+=.)-])")


def report_markdown(report: Report, gates: Sequence[GateResult] = ()) -> str:
    """The report's text; figures are linked as they lie in the report's folder."""
    blocks = [f"# {_text(report.title)}"]
    if gates:
        blocks.append(_rows(("gate: fails where", "figure", "result"), "lrl", [show_gate(result) for result in gates]))
    if report.headlines:
        lines = [
            (line.title, show_estimate(line.figure, line.unit), f"{line.figure.n:,}", line.note)
            for line in report.headlines
        ]
        blocks += [_rows(("", "figure", "n", ""), "lrrl", lines), _text(interval_note(report))]
    if report.warnings:
        blocks.append("\n".join(f"- **Warning:** {_text(warning)}" for warning in report.warnings))
    for section in report.sections:
        blocks += _section(section)
    blocks += ["## Protocol", *(_paragraph(paragraph) for paragraph in report.protocol)]
    blocks += _made_with(report.provenance)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> list[str]:
    blocks = [f"## {_text(section.title)}", *(_paragraph(paragraph) for paragraph in section.paragraphs)]
    for table in section.tables:
        blocks += _table(table)
    for picture in section.pictures:
        blocks += [f"**{_text(picture.title)}**", f"![{_label(picture.alt or picture.title)}]({picture_file(picture)})"]
        blocks += [_paragraph(picture.caption)] if picture.caption else []
    return blocks


def _table(table: Table) -> list[str]:
    if not table.shown:
        return [f"{_text(table.title)}: [{table.name}.csv]({table.name}.csv), {len(table.rows):,} rows."]
    align = "".join("l" if column.unit == "text" else "r" for column in table.columns)
    rows = [
        [show_cell(cell, column.unit) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows
    ]
    shown = _rows([column.title for column in table.columns], align, rows)
    return [f"**{_text(table.title)}**", shown] + ([_paragraph(table.note)] if table.note else [])


def _made_with(provenance: dict) -> list[str]:
    blocks = []
    if command := provenance.get("command"):
        # A fence is longer than any run of backticks inside it.
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        blocks += ["## Command", f"{fence}sh\n{visible(command, keep=chr(10))}\n{fence}"]
    if environment := provenance.get("environment"):
        blocks.append(_text(", ".join(f"{name} {value}" for name, value in environment.items())))
    return blocks


def _rows(titles: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    cells = [[_text(title) for title in titles], rule, *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _text(text: str) -> str:
    """Text that stands in a line of Markdown as it is."""
    return _SPECIAL.sub(r"\\\g<0>", visible(" ".join(text.split())))


def _label(text: str) -> str:
    """Text for the brackets of an image, where brackets of its own would end it."""
    return re.sub(r"(?<!\\)[\[\]]", r"\\\g<0>", _text(text))


def _paragraph(text: str) -> str:
    """Text that stands in Markdown as a paragraph, and begins no heading, list or rule."""
    return _LINE_START.sub(r"\1\\\2", _text(text))
