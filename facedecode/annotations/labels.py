"""Labels that a CSV file, or one of CelebA's, gives to people or to images."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from facedecode.errors import BadInput, some_of
from facedecode.files import csv_text, sha256_file
from facedecode.pictures.images import EXTENSIONS, ImageRef
from facedecode.store import Store

Row = dict[str, str]
Value = TypeVar("Value")
_HQ_NAME = re.compile(r"(?:imgHQ)?0*(\d+)")
_HQ_COLUMNS = ["idx", "orig_idx", "orig_file"]


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

    def require_columns(self, columns: Collection[str]) -> None:
        """Raises BadInput for a column that the file lacks."""
        for column in columns:
            if column not in self.columns:
                raise BadInput(f"{self.path}: no column {column!r}; there are {', '.join(self.columns) or 'none'}")

    def record(self) -> dict[str, str]:
        """JSON: which file it is."""
        return {"file": self.path.name, "sha256": sha256_file(self.path)}


def read_label_file(path: Path) -> LabelFile:
    """Read a CSV with a header, or one of CelebA's files.

    CelebA's `list_attr_celeba.txt` has the number of images, the names of the attributes, then a name and as many
    values a line; `identity_CelebA.txt` has a name and a person a line; CelebA-HQ's mapping file has a header of three
    words.

    BadInput: unreadable, or another number of images than the file says.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as CSV ({getattr(error, 'strerror', None) or error})") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    first, second, third = ([line.split() for _, line in lines[:3]] + [[], [], []])[:3]

    def words(columns: list[str], header: int) -> LabelFile:
        return LabelFile(path, columns, lambda: _words(path, columns, lines[header:]))

    # A data set with files of another form is one more case here.
    if len(first) == 1 and first[0].isdigit() and second:
        if int(first[0]) != len(lines) - 2:
            raise BadInput(f"{path}: says {first[0]} images and lists {len(lines) - 2}; download it again")
        # The boxes' file names the column of names, the attributes' file does not.
        return words(["path", *(second[1:] if len(second) == len(third) else second)], 2)
    if first == _HQ_COLUMNS:
        return words(first, 1)
    if len(first) == 2 and PurePosixPath(first[0]).suffix.lower() in EXTENSIONS:
        return words(["path", "identity"], 0)
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
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = next(reader, [])
        for cells in reader:
            if cells and len(cells) != len(columns):
                raise BadInput(
                    f"{path}, line {reader.line_num}: {len(cells)} cells where there are {len(columns)} columns; put "
                    "names that have commas in quotes"
                )
            if cells:
                yield reader.line_num, dict(zip(columns, cells, strict=True))
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

    def notes(self, what: str, table: Path) -> list[str]:
        """A line on the images, and one on the names of the table, that are left over."""
        notes = []
        if self.images:
            without = f"{len(self.images)} of {len(self.values)} images have no {what} in {table}"
            notes.append(f"{without} ({some_of(self.images)})")
        if self.names:
            notes.append(f"{len(self.names)} names of {table} are of no image here ({some_of(self.names)})")
        return notes


def match(
    images: Sequence[str | None], table: Mapping[str, Value], renamed: Mapping[int, str] | None = None
) -> Matched:
    """What a table by name says of images.

    An image is looked up by its path; else, where the table has bare names only, by the file's name, with another
    ending if it must be (CelebA's pictures come as .jpg and as .png).

    images: paths with forward slashes; None for no image.
    renamed: number of an image → its name in the table (`read_renamed`).

    BadInput: two images of one name.
    """
    bare = not any("/" in name for name in table)
    stems: dict[str, str | None] = {}
    for name in table if bare else ():
        stem = PurePosixPath(name).stem
        stems[stem] = None if stem in stems else name  # None: not one name

    def name_of(image: str) -> str | None:
        if renamed is not None:
            number = _HQ_NAME.fullmatch(PurePosixPath(image).stem)
            image = renamed.get(int(number[1]), "") if number else ""
        path = PurePosixPath(image)
        if image in table or not bare:
            return image if image in table else None
        return path.name if path.name in table else stems.get(path.stem)

    names = [None if image is None else name_of(image) for image in images]
    image_of: dict[str, str] = {}
    for image, name in zip(images, names, strict=True):
        if name is not None and image_of.setdefault(name, image) != image:
            raise BadInput(f"{image_of[name]} and {image} are both called {name!r}; use paths there, or rename one")
    lacking = [image or f"row {row}" for row, image in enumerate(images) if names[row] is None]
    values = [None if name is None else table[name] for name in names]
    return Matched(values, lacking, [name for name in table if name not in image_of])


def by_name(file: LabelFile, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Columns by the name of the image; rows without a value are left out.

    BadInput: no such column, no column `path`, a row without a name, or a name twice.
    """
    file.require_columns(("path", *columns))
    values_of: dict[str, tuple[str, ...]] = {}
    for number, row in file.rows:
        name = row["path"].strip()
        if not name:
            raise BadInput(f"{file.path}, line {number}: no path")
        if name in values_of:
            raise BadInput(f"{file.path}, line {number}: {name} is there already; leave one")
        values_of[name] = tuple(sys.intern(row[column].strip()) for column in columns)
    return {name: values for name, values in values_of.items() if any(values)}


def read_renamed(path: Path) -> dict[int, str]:
    """CelebA-HQ's mapping file: the number of an image → its name in CelebA.

    BadInput: another file, or a number twice.
    """
    file = read_label_file(path)
    if file.columns != _HQ_COLUMNS:
        raise BadInput(f"{path}: not CelebA-HQ's mapping file, whose header is '{' '.join(_HQ_COLUMNS)}'")
    names: dict[int, str] = {}
    for number, row in file.rows:
        if not row["idx"].isdigit() or int(row["idx"]) in names:
            raise BadInput(f"{path}, line {number}: idx {row['idx']} is no number, or there already")
        names[int(row["idx"])] = row["orig_file"]
    return names


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

    def classes(self) -> tuple[str, str]:
        """The labels where there are two, sorted.

        BadInput: there are fewer, or more.
        """
        labels = sorted({value for value in self.values if value is not None})
        if len(labels) != 2:
            raise BadInput(
                f"{self.source}: {len(labels)} labels in {self.column!r} ({some_of(labels)}); an attribute of two "
                "classes is needed"
            )
        return labels[0], labels[1]

    def note(self) -> str | None:
        """A line on the images without a label; None where there is none."""
        if not self.unlabelled:
            return None
        without = f"{len(self.unlabelled)} of {len(self.values)} images have no {self.column!r} and are left out"
        return f"{without} ({some_of(self.unlabelled)})"


def read_person_labels(path: Path, column: str) -> PersonLabels:
    """Read a CSV with a header: the label's column, and `identity` or else `path` (whose folder is the person).

    Rows with an empty label are left out and counted.

    BadInput: no such file or column, a row with neither person nor image, or a person with two labels.
    """

    def person(row: Row) -> str | None:
        parts = row.get("path", "").strip().split("/")
        return row.get("identity", "").strip() or (parts[-2] if len(parts) > 1 else None)

    lacking = "neither an identity nor a path with a folder"
    return PersonLabels(column, *_labels(read_label_file(path), column, ("identity", "path"), person, lacking))


def read_image_labels(path: Path, column: str, store: Store) -> ImageLabels:
    """Read a label file: the label's column, and `path` as the store has it (relative to what was extracted) or, where
    the file has bare names only, the image's name.

    BadInput: no such file or column, a row without path, an image with two labels, or no label for any row of the
    store.
    """
    file = read_label_file(path)
    labels, _, record = _labels(file, column, ("path",), lambda row: row["path"].strip(), "no path")
    paths = store.paths()
    matched = match(paths, labels)
    if not any(matched.values):
        in_store, in_file = (next((name for name in names if name), "nothing") for names in (paths, labels))
        raise BadInput(
            f"{path}: has a {column!r} for no image of {store.folder} (of {in_file}, where the store has {in_store}); "
            "paths are to be relative to the folder that was extracted"
        )
    return ImageLabels(column, matched.values, matched.images, path, record)


def _labels(
    file: LabelFile, column: str, keys: Collection[str], key: Callable[[Row], str | None], lacking: str
) -> tuple[dict[str, str], int, dict[str, str]]:
    """Key → label, how many rows have no label, and the file's record.

    keys: columns, of which one is needed; lacking: what is wrong with a row without a key.
    """
    file.require_columns([column])
    if not set(keys) & set(file.columns):
        names = " or ".join(map(repr, keys))
        raise BadInput(f"{file.path}: no column {names}, so nobody can tell whose label it is")
    labels: dict[str, str] = {}
    empty = 0
    for line, row in file.rows:
        name, label = key(row), row[column].strip()
        if not name:
            raise BadInput(f"{file.path}, line {line}: {lacking}")
        if not label:
            empty += 1
        elif labels.setdefault(name, label) != label:
            raise BadInput(
                f"{file.path}, line {line}: {name} has two labels, {labels[name]!r} and {label!r}; leave one"
            )
    return labels, empty, file.record()


@dataclass(frozen=True)
class DataSet:
    """Where a data set says who and what its images show.

    identities: file with the person of each image.
    labels: file with further columns by image.
    renamed: CelebA-HQ's mapping file, where the others name CelebA's images.
    """

    identities: Path | None = None
    labels: Path | None = None
    renamed: Path | None = None

    def with_identities(self, refs: list[ImageRef]) -> tuple[list[ImageRef], list[str]]:
        """The images with their people, and lines on what is left over; an image without one is nobody's.

        BadInput: as `by_name` and `match`; no image has a person.
        """
        if self.identities is None:
            return refs, []
        matched = self._match(refs, by_name(read_label_file(self.identities), ["identity"]), self.identities)
        people = [values[0] if values else None for values in matched.values]
        named = [replace(ref, identity=person) for ref, person in zip(refs, people, strict=True)]
        return named, matched.notes("person", self.identities)

    def label_table(self, refs: list[ImageRef]) -> tuple[str | None, list[str]]:
        """A CSV of the labels by the images' own paths, and lines on what is left over; None without labels.

        BadInput: as `with_identities`, of labels.
        """
        if self.labels is None:
            return None, []
        file = read_label_file(self.labels)
        columns = [column for column in file.columns if column != "path"]
        if not columns:
            raise BadInput(f"{self.labels}: has no column beside 'path', and so no labels")
        matched = self._match(refs, by_name(file, columns), self.labels)
        rows = zip(refs, matched.values, strict=True)
        labelled = ([ref.relative, *values] for ref, values in rows if values is not None)
        return csv_text(["path", *columns], labelled), matched.notes("labels", self.labels)

    def _match(self, refs: list[ImageRef], table: dict, path: Path) -> Matched:
        renamed = None if self.renamed is None else read_renamed(self.renamed)
        try:
            matched = match([ref.relative for ref in refs], table, renamed)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
        if all(value is None for value in matched.values):
            example = next(iter(table), "nothing")
            raise BadInput(f"{path}: has nothing of {refs[0].relative} or any other image (it has {example} …)")
        return matched
