"""A report's numbers for programs: report.json and the tables as CSV."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from facedecode import __version__
from facedecode.files import csv_text
from facedecode.report.gates import GateResult
from facedecode.report.model import Cell, Picture, Report, Table
from facedecode.statistics.bootstrap import Estimate

SCHEMA_VERSION = 1
_SAFE_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PARTS = ("value", "low", "high", "n")


def report_json(report: Report, gates: Sequence[GateResult] = ()) -> dict:
    """The content of report.json; report.schema.json describes it.

    Raises ValueError: a name of a table or figure that is not safe, or that is there twice.
    """
    tables = [table for section in report.sections for table in section.tables]
    pictures = [picture for section in report.sections for picture in section.pictures]
    for kind, names in (("table", [t.name for t in tables]), ("figure", [p.name for p in pictures])):
        _require_safe(kind, names)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "facedecode", "version": __version__},
        "kind": report.kind,
        "title": report.title,
        "protocol": list(report.protocol),
        "headlines": [
            {"title": line.title, "unit": line.unit, "note": line.note, "figure": line.figure.as_json()}
            for line in report.headlines
        ],
        "warnings": list(report.warnings),
        "metrics": report.metrics,
        "gates": [result.as_json() for result in gates],
        "gate_figures": {name: figure.as_json() for name, figure in report.gates.items()},
        "tables": [
            {"name": table.name, "title": table.title, "file": f"{table.name}.csv", "rows": len(table.rows)}
            for table in tables
        ],
        "figures": [
            {"name": picture.name, "title": picture.title, "file": picture_file(picture), "alt": picture.alt}
            for picture in pictures
        ],
        "provenance": report.provenance,
    }


def picture_file(picture: Picture) -> str:
    """Where a figure stands in the report's folder."""
    return f"figures/{picture.name}.{picture.kind}"


def table_csv(table: Table) -> str:
    """A table as CSV: titles, then full numbers; a column with an `Estimate` becomes TITLE, … low, … high, … n.

    What there is none of (None, NaN) is an empty field. Raises ValueError: a row does not fit the columns, or two
    columns would have one title.
    """
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"table {table.name}: a row of {len(row)} cells for {len(table.columns)} columns")
    wide = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.columns))]
    titles: list[str] = []
    for column, is_wide in zip(table.columns, wide, strict=True):
        titles += [column.title, *(f"{column.title} {part}" for part in _PARTS[1:])] if is_wide else [column.title]
    if twice := [title for title, count in Counter(titles).items() if count > 1]:
        raise ValueError(f"table {table.name}: two columns have the title {twice[0]!r}")
    rows = []
    for row in table.rows:
        fields: list[str] = []
        for cell, is_wide in zip(row, wide, strict=True):
            parts = [getattr(cell, part) for part in _PARTS] if isinstance(cell, Estimate) else [cell]
            fields += [_field(part) for part in parts] + [""] * (len(_PARTS) - len(parts) if is_wide else 0)
        rows.append(fields)
    return csv_text(titles, rows)


def _field(cell: Cell) -> str:
    nothing = cell is None or (isinstance(cell, int | float) and math.isnan(cell))
    return "" if nothing else str(cell)  # for a float, the shortest text that reads as the same number


def _require_safe(kind: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"{kind} {name!r}: a name has lower-case letters, digits and single hyphens only")
        if count > 1:
            raise ValueError(f"two {kind}s have the name {name!r}")
