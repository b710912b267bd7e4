"""What an evaluation has to say, apart from how it looks: figures with intervals, tables, pictures, provenance.

Every `facedecode evaluate` command makes one `Report`; `report.folder` writes it as HTML, JSON and CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from facedecode.statistics.bootstrap import Estimate

# percent: a share, 0 to 1, shown in percent. points: a difference of shares, shown in percentage points.
Unit = Literal["text", "count", "percent", "points", "db", "number", "score", "small"]
Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Column:
    """A column of a table: its title and how its cells are shown."""

    title: str
    unit: Unit = "text"


@dataclass(frozen=True)
class Table:
    """A table, shown in the report and written as NAME.csv, where an `Estimate` takes four columns.

    name: stem of the CSV file: lower case, digits and hyphens.
    title: above the table.
    columns: as many as each row has cells.
    rows: a cell is text, a number, an `Estimate`, or None (nothing to say).
    note: below the table.
    shown: False for tables too long to show (one row an image): CSV only.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Picture:
    """A figure: PNG or SVG bytes, shown in the report and written as NAME.png or NAME.svg.

    name: stem of the file: lower case, digits and hyphens.
    alt: what there is to see, for those who cannot.
    """

    name: str
    title: str
    data: bytes
    caption: str = ""
    alt: str = ""
    kind: Literal["png", "svg"] = "png"


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, then tables and figures. Paragraphs are plain text."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Headline:
    """One of the few figures that stand at the top of a report, and on stdout."""

    title: str
    figure: Estimate
    unit: Unit = "percent"
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The whole of an evaluation's results.

    kind: verification, reconstruction, security, protection …: the command.
    title: of the page.
    protocol: how the figures were made and what they mean, in full sentences; the threat model among them.
    headlines: the few figures to look at first.
    sections: the rest.
    warnings: what keeps a figure from meaning what it seems to, one sentence each.
    metrics: JSON: every figure as {value, low, high, n, …}, by name.
    gates: name → figure, for `gates.check_gates`; see `facedecode.report.gates` for the form of names.
    provenance: JSON: what it was made from and with.
    """

    kind: str
    title: str
    protocol: Sequence[str]
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    metrics: dict
    gates: Mapping[str, Estimate] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    provenance: dict = field(default_factory=dict)
