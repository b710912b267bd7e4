"""Labels that a CSV file, or one of CelebA's, gives to people or to images."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from facedecode.errors import BadInput, some_of
from facedecode.files import sha256_file
from facedecode.pictures.images import EXTENSIONS, ImageRef
from facedecode.store import Store

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


@dataclass(frozen=True)
class PersonLabels:
    """A label for each person.

    column: what it is; of: person → label; unlabelled_rows: left out of the file. file: its name and SHA-256.
    """

    column: str
    of: dict[str, str]
    unlabelled_rows: int
    file: dict[str, str] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ImageLabels:
    """A label for each image of a store.

    column: what it is. values: for each row of the store its label; None where it has none. unlabelled: those rows'
    paths (a row without path: its number). source: the path of the file. file: its name and SHA-256.
    """

    column: str
    values: list[str | None]
    unlabelled: list[str]
    source: Path
    file: dict[str, str] | None = field(default=None, compare=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each label, the most frequent first."""
        return dict(Counter(value for value in self.values if value is not None).most_common())

    def classes(self) -> tuple[str, str]:
        """The labels where there are two, sorted.

        Raises:
            BadInput: there are fewer, or more.
        """
        found = sorted(self.counts)
        if len(found) != 2:
            raise BadInput(
                f"{self.source}: {len(found)} labels in {self.column!r} ({some_of(found)}); an attribute of two "
                "classes is needed"
            )
        return found[0], found[1]

    def said(self) -> str | None:
        """A line on the images without a label; None where there is none."""
        if not self.unlabelled:
            return None
        return (
            f"{len(self.unlabelled)} of {len(self.values)} images have no {self.column!r} and are left out "
            f"({some_of(self.unlabelled)})"
        )


def read_person_labels(path: Path, column: str) -> PersonLabels:
    """Read a CSV with a header: the label's column, and `identity` or else `path` (whose folder is the person).

    Rows with an empty label are left out and counted.

    Raises:
        BadInput: no such file or column, a row with neither person nor image, or a person with two labels.
    """
    labels, empty = _read(path, column, ("identity", "path"), _person, "neither an identity nor a path with a folder")
    return PersonLabels(column, labels, empty, {"file": path.name, "sha256": sha256_file(path)})


def read_image_labels(path: Path, column: str, store: Store) -> ImageLabels:
    """Read a label file: the label's column, and `path` as the store has it (relative to what was extracted) or, where
    the file has bare names only, the image's name.

    Raises:
        BadInput: no such file or column, a row without path, an image with two labels, or no label for any row of the
            store.
    """
    labels, _ = _read(path, column, ("path",), lambda row: (row["path"] or "").strip(), "no path")
    names = store.paths()
    found = match(names, labels)
    values = found.values
    if not any(values):
        there, here = (next((name for name in some if name), "nothing") for some in (names, labels))
        raise BadInput(
            f"{path}: has a {column!r} for no image of {store.folder} (of {here}, where the store has {there}); paths "
            "are to be relative to the folder that was extracted"
        )
    return ImageLabels(column, values, found.images, path, {"file": path.name, "sha256": sha256_file(path)})


def _read(
    path: Path, column: str, keys: Collection[str], key: Callable[[Row], str | None], lacking: str
) -> tuple[dict[str, str], int]:
    """Key → label, and how many rows have none. keys: columns, of which one is needed; lacking: a row without key."""
    labels: dict[str, str] = {}
    empty = 0
    file = read_label_file(path)
    if column not in file.columns:
        raise BadInput(f"{path}: no column {column!r}; there are {', '.join(file.columns) or 'none'}")
    if not set(keys) & set(file.columns):
        raise BadInput(f"{path}: no column {' or '.join(map(repr, keys))}, so nobody can be told whose label it is")
    for line, row in file.rows:
        name, label = key(row), (row[column] or "").strip()
        if not name:
            raise BadInput(f"{path}, line {line}: {lacking}")
        if not label:
            empty += 1
        elif labels.setdefault(name, label) != label:
            raise BadInput(f"{path}, line {line}: {name} has two labels, {labels[name]!r} and {label!r}; leave one")
    return labels, empty


def _person(row: Row) -> str | None:
    """The person that a row is about."""
    if name := (row.get("identity") or "").strip():
        return name
    parts = (row.get("path") or "").strip().split("/")
    return parts[-2] if len(parts) > 1 else None


@dataclass(frozen=True)
class DataSet:
    """Where a data set says who and what its images show.

    Attributes:
        identities: file with the person of each image.
        labels: file with further columns by image.
        renamed: CelebA-HQ's mapping file, where the others name CelebA's images.
    """

    identities: Path | None = None
    labels: Path | None = None
    renamed: Path | None = None

    def with_identities(self, refs: list[ImageRef]) -> tuple[list[ImageRef], list[str]]:
        """The images with their people, and lines on what is left over; an image without one is nobody's.

        Raises:
            BadInput: as `label_file.by_name` and `match`; no image has a person.
        """
        if self.identities is None:
            return refs, []
        table = by_name(read_label_file(self.identities), ["identity"])
        found = self._match(refs, {name: person for name, (person,) in table.items()}, self.identities)
        whose = zip(refs, found.values, strict=True)
        return [replace(ref, identity=person) for ref, person in whose], found.said("person", self.identities)

    def label_table(self, refs: list[ImageRef]) -> tuple[str | None, list[str]]:
        """A CSV of the labels by the images' own paths, and lines on what is left over; None without labels.

        Raises:
            BadInput: as `with_identities`, of labels.
        """
        if self.labels is None:
            return None, []
        file = read_label_file(self.labels)
        columns = [column for column in file.columns if column != "path"]
        if not columns:
            raise BadInput(f"{self.labels}: has no column beside 'path', and so no labels")
        found = self._match(refs, by_name(file, columns), self.labels)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", *columns])
        for ref, row in zip(refs, found.values, strict=True):
            if row is not None:
                writer.writerow([ref.relative, *row])
        return text.getvalue(), found.said("labels", self.labels)

    def _match(self, refs: list[ImageRef], table: dict, where: Path) -> Matched:
        renamed = None if self.renamed is None else read_renamed(self.renamed)
        try:
            found = match([ref.relative for ref in refs], table, renamed)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        if all(value is None for value in found.values):
            there = next(iter(table), "nothing")
            raise BadInput(f"{where}: has nothing of {refs[0].relative} or any other image (it has {there} …)")
        return found
