"""Tables of strangers: the one place that finds out how a text file parts its cells, and which column is what.

Files come as other programs write them: UTF-8 or UTF-16, with any line ends, cells parted by commas, semicolons, tabs
or white space, in quotes or not, with a header or without.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from facedecode.errors import BadInput
from facedecode.escaping import from_csv_cell
from facedecode.files import decoded_text, read_file, sha256_of
from facedecode.pictures.finding import EXTENSIONS

WORDS, LINES = " ", ""  # separators: white space, and none, where a line is one cell
_SEPARATORS = ("\t", ";", ",", "|")
_MOST = 1 << 29  # bytes of a table
_SAMPLE = 100  # rows that decide what a column is
_EXCEL = re.compile(r"sep=([;,|\t])", re.IGNORECASE)  # Excel's own first line
# Names of columns, in small letters and digits only. What a column has decides first, see `path_column`.
_PATHS = re.compile(r"(image|img|file|picture|photo)(name|path|file|id)?s?|(path|nameid)s?")
_PEOPLE = re.compile(r"(identity|person|subject|class|label)(name|id|label)?s?|(name|id)s?|identities|people|classes|y")


def plain(name: str) -> str:
    """A column's name in small letters and digits: 'Class_ID' and 'class id' are one."""
    return re.sub(r"[\W_]", "", name.casefold())


def is_path_name(column: str) -> bool:
    """Whether a column of this name may have the paths of images."""
    return bool(_PATHS.fullmatch(plain(column)))


def is_person_name(column: str) -> bool:
    """Whether a column of this name may have people."""
    return bool(_PEOPLE.fullmatch(plain(column)))


def is_image(cell: str) -> bool:
    """Whether a cell looks like the name of an image: by its ending."""
    return PurePosixPath(cell.strip()).suffix.lower() in EXTENSIONS


@dataclass(frozen=True)
class TextFile:
    """A text file read once: its lines, numbered from 1, without those that are empty, and its SHA-256."""

    path: Path
    lines: list[tuple[int, str]] = field(repr=False)
    sha256: str

    def table(self, header: int = 0) -> Table:
        """Its cells, without so many lines at the beginning."""
        lines = self.lines[header:]
        chosen = _EXCEL.fullmatch(lines[0][1].strip()) if lines else None
        if chosen:
            return Table(self, chosen[1], lines[1:])
        return Table(self, _separator([line for _, line in lines[:_SAMPLE]]), lines)

    def first_number(self) -> int | None:
        """The number that is alone in the first line, as files have it that say how much they list."""
        text = self.lines[0][1].strip(" \t;,") if self.lines else ""
        return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,8}", text, re.ASCII) else None


def read_text_file(path: Path | str) -> TextFile:
    """Read a text file. Raises BadInput naming it: as `read_file`, no text, or empty."""
    data = read_file(path, _MOST)
    text = decoded_text(path, data).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise BadInput(f"{path}: not a text file in UTF-8 (or in UTF-16 with a byte order mark); save it as UTF-8")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BadInput(f"{path}: empty; is it the right file?")
    return TextFile(Path(path), lines, sha256_of(data))


@dataclass(frozen=True)
class Table:
    """The cells of a text file. separator: what parts them; `WORDS` or `LINES`."""

    file: TextFile
    separator: str
    lines: list[tuple[int, str]] = field(repr=False)

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each row's line, and its cells without spaces at their ends. BadInput: no CSV."""
        if self.separator == LINES:
            yield from ((number, [line.strip()]) for number, line in self.lines)
        elif self.separator == WORDS:
            yield from ((number, line.split()) for number, line in self.lines)
        else:
            # One line at a time, so that a cell in quotes may go over several.
            reader = csv.reader(
                (f"{line}\n" for _, line in self.lines), delimiter=self.separator, skipinitialspace=True
            )
            done = 0
            try:
                for cells in reader:
                    line, over = self.lines[done][0], self.lines[done : reader.line_num]
                    if len(over) > 1 and sum(text.count('"') for _, text in over) % 2:
                        raise BadInput(f"{self.path}, line {line}: a quote that is never closed")
                    yield line, [from_csv_cell(cell.replace("\n", " ").strip()) for cell in cells]
                    done = reader.line_num
            except csv.Error as error:
                raise BadInput(f"{self.path}, line {self.lines[done][0]}: cannot be read as CSV ({error})") from None

    def sample(self, skip: int = 0) -> list[list[str]]:
        """The cells of the first rows."""
        return [cells for _, cells in islice(self.rows, skip, skip + _SAMPLE)]

    @property
    def parted_by(self) -> str:
        """The separator, for messages."""
        return {"\t": "tabs", WORDS: "white space", LINES: "lines"}.get(self.separator, repr(self.separator))


def _separator(sample: Sequence[str]) -> str:
    """What parts the cells of these lines: what the first has of it, best as often as the others have."""
    counts = {}
    for separator in _SEPARATORS:
        try:
            rows = csv.reader([f"{line}\n" for line in sample], delimiter=separator, skipinitialspace=True)
            counts[separator] = [len(trimmed(cells)) for cells in rows]
        except csv.Error:
            continue
    there = [separator for separator, widths in counts.items() if widths and widths[0] > 1]
    even = [separator for separator in there if len(set(counts[separator])) == 1]
    if there:
        return (even or there)[0]
    # A name may have spaces. White space parts cells only where a word beside others is the name of an image.
    words = [line.split() for line in sample]
    return WORDS if any(len(row) > 1 and any(map(is_image, row)) for row in words) else LINES


def trimmed(cells: list[str]) -> list[str]:
    """The cells without empty ones at the end, which programs write to fill up a row."""
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def path_column(columns: Sequence[str], sample: Sequence[Sequence[str]]) -> str | None:
    """The column with the names of images: `path`, else the one with such values, else the one that is called so.

    sample: cells of some rows. None: there is none, or several.
    """
    if "path" in columns:
        return "path"

    def names_images(column: int) -> bool:
        values = [row[column] for row in sample if column < len(row) and row[column]]
        return bool(values) and all(map(is_image, values))

    for found in (
        [name for place, name in enumerate(columns) if names_images(place)],
        [name for name in columns if is_path_name(name)],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def person_column(columns: Sequence[str], others: Collection[str | None]) -> str | None:
    """The column with the people: `identity`, else the one that is called so. others: columns that are something else.

    None: there is none, or several.
    """
    if "identity" in columns:
        return "identity"
    found = person_columns(columns, others)
    return found[0] if len(found) == 1 else None


def person_columns(columns: Sequence[str], others: Collection[str | None]) -> list[str]:
    """The columns that may be of people, by their names."""
    return [name for name in columns if name not in others and is_person_name(name)]
