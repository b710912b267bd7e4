"""Files that say something of images by name: CSV, and the text files of CelebA and CelebA-HQ.

All become rows of a header's columns; the column of names is `path`.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from facedecode.errors import BadInput, some_of
from facedecode.pictures.images import EXTENSIONS

Row = dict[str, str | None]
Value = TypeVar("Value")
_HQ_NAME = re.compile(r"(?:imgHQ)?0*(\d+)")


@dataclass(frozen=True)
class LabelFile:
    """A file's columns; its rows are made as they are read, for CelebA's file has 200,000 of 41 columns."""

    path: Path
    columns: list[str]
    _rows: Callable[[], Iterator[tuple[int, Row]]]

    @property
    def rows(self) -> Iterator[tuple[int, Row]]:
        """The number of each row's line, and the row. Raises BadInput for a line with other than `columns` words."""
        return self._rows()


def read_label_file(path: Path) -> LabelFile:
    """Read a CSV with a header, or one of CelebA's files.

    CelebA's `list_attr_celeba.txt` has the number of images, the names of the attributes, then a name and as many
    values a line; `identity_CelebA.txt` has a name and a person a line; CelebA-HQ's mapping file has a header of three
    words.

    Raises:
        BadInput: unreadable, or another number of images than said.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    first, second, third = ([line.split() for _, line in lines[:3]] + [[], [], []])[:3]
    if len(first) == 1 and first[0].isdigit() and second:
        if int(first[0]) != len(lines) - 2:
            raise BadInput(f"{path}: says {first[0]} images and lists {len(lines) - 2}; download it again")
        # The boxes' file names the column of names, the attributes' file does not.
        columns = ["path", *(second[1:] if len(second) == len(third) else second)]
        return LabelFile(path, columns, lambda: _words(path, columns, lines[2:]))
    if first == ["idx", "orig_idx", "orig_file"]:
        return LabelFile(path, first, lambda: _words(path, first, lines[1:]))
    if len(first) == 2 and PurePosixPath(first[0]).suffix.lower() in EXTENSIONS:
        columns = ["path", "identity"]
        return LabelFile(path, columns, lambda: _words(path, columns, lines))
    try:
        columns = list(csv.DictReader(io.StringIO(text, newline="")).fieldnames or [])
    except csv.Error as error:
        raise BadInput(f"{path}: cannot be read as CSV ({error})") from None
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise BadInput(f"{path}: has the column {twice[0]!r} twice; leave one")
    return LabelFile(path, columns, lambda: _cells(path, text))


def _words(path: Path, columns: list[str], lines: list[tuple[int, str]]) -> Iterator[tuple[int, Row]]:
    for number, line in lines:
        words = line.split()
        if len(words) != len(columns):
            raise BadInput(f"{path}, line {number}: {len(words)} words where there are {len(columns)} columns")
        yield number, dict(zip(columns, words, strict=True))


def _cells(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if None in row or None in row.values():
                words = len([value for value in row.values() if isinstance(value, str)]) + len(row.get(None) or ())
                there = len(reader.fieldnames or ())
                raise BadInput(
                    f"{path}, line {reader.line_num}: {words} cells where there are {there} columns; put names that "
                    "have commas in quotes"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise BadInput(f"{path}: cannot be read as CSV ({error})") from None


@dataclass(frozen=True)
class Matched:
    """What a table says of images, and what is left over on either side.

    values: for each image; None where the table has nothing. images: those without. names: of the table, of no image.
    """

    values: list
    images: list[str]
    names: list[str]

    def said(self, what: str, where: Path) -> list[str]:
        """Lines on what is left over."""
        lines = []
        if self.images:
            lines.append(f"{len(self.images)} of {len(self.values)} images have no {what} in {where}")
            lines[-1] += f" ({some_of(self.images)})"
        if self.names:
            lines.append(f"{len(self.names)} names of {where} are of no image here ({some_of(self.names)})")
        return lines


def match(
    images: Sequence[str | None], table: Mapping[str, Value], renamed: Mapping[int, str] | None = None
) -> Matched:
    """What a table by name says of images.

    An image is found by its path; else, where the table has bare names only, by the file's name, with another ending
    if it must be (CelebA's pictures come as .jpg and as .png).

    Args:
        images: paths with forward slashes; None for no image.
        renamed: number of an image → its name in the table (`read_renamed`).

    Raises:
        BadInput: two images of one name.
    """
    stems: dict[str, str | None] = {}
    bare = not any("/" in name for name in table)
    if bare:
        for name in table:  # None: not one name
            stem = PurePosixPath(name).stem
            stems[stem] = None if stem in stems else name
    taken: dict[str, str] = {}
    values = []
    for image in images:
        name = None if image is None else _name(image, table, stems, bare, renamed)
        if name is not None and taken.setdefault(name, image) != image:
            raise BadInput(f"{taken[name]} and {image} are both called {name!r}; give the table paths, or rename one")
        values.append(None if name is None else table[name])
    left = [image or f"row {i}" for i, (image, value) in enumerate(zip(images, values, strict=True)) if value is None]
    return Matched(values, left, [name for name in table if name not in taken])


def _name(
    image: str,
    table: Mapping[str, object],
    stems: Mapping[str, str | None],
    bare: bool,
    renamed: Mapping[int, str] | None,
) -> str | None:
    if renamed is not None:
        number = _HQ_NAME.fullmatch(PurePosixPath(image).stem)
        image = renamed.get(int(number[1]), "") if number else ""
    if image in table:
        return image
    if not bare:
        return None
    path = PurePosixPath(image)
    return path.name if path.name in table else stems.get(path.stem)


def by_name(file: LabelFile, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Columns by the name of the image; rows without a value are left out.

    Raises:
        BadInput: no such column, no column `path`, a row without a name, or a name twice.
    """
    for column in ("path", *columns):
        if column not in file.columns:
            raise BadInput(f"{file.path}: no column {column!r}; there are {', '.join(file.columns) or 'none'}")
    found: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for number, row in file.rows:
        name = (row["path"] or "").strip()
        if not name:
            raise BadInput(f"{file.path}, line {number}: no path")
        if name in seen:
            raise BadInput(f"{file.path}, line {number}: {name} is there already; leave one")
        seen.add(name)
        values = tuple(sys.intern((row[column] or "").strip()) for column in columns)
        if any(values):
            found[name] = values
    return found


def read_renamed(path: Path) -> dict[int, str]:
    """CelebA-HQ's mapping file: the number of an image → its name in CelebA.

    Raises:
        BadInput: another file, or a number twice.
    """
    file = read_label_file(path)
    if file.columns != ["idx", "orig_idx", "orig_file"]:
        raise BadInput(f"{path}: not CelebA-HQ's mapping file, whose header is 'idx orig_idx orig_file'")
    found: dict[int, str] = {}
    for number, row in file.rows:
        if not row["idx"].isdigit() or int(row["idx"]) in found:
            raise BadInput(f"{path}, line {number}: idx {row['idx']} is no number, or there already")
        found[int(row["idx"])] = row["orig_file"]
    return found
