"""Labels that a CSV file, or one of CelebA's, gives to people or to images."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from facedecode.annotations.tables import (
    Table,
    TextFile,
    is_image,
    path_column,
    person_column,
    person_columns,
    read_text_file,
    trimmed,
)
from facedecode.errors import BadInput, some_of
from facedecode.files import csv_text
from facedecode.names import image_name, person_name
from facedecode.pictures.finding import EXTENSIONS, ImageRef
from facedecode.store import Store

Row = dict[str, str]
Value = TypeVar("Value")
_HQ_NAME = re.compile(r"(?:imgHQ)?0*(\d+)")
_HQ_COLUMNS = ["idx", "orig_idx", "orig_file"]


@dataclass(frozen=True)
class LabelFile:
    """A file's columns; its rows are made as they are read, for CelebA's file has 200,000 of 41 columns.

    columns: their names; empty of one without. header: how many of the table's rows come before the first of its own.
    """

    table: Table
    columns: list[str]
    header: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def rows(self) -> Iterator[tuple[int, Row]]:
        """The number of each row's line, and the row. Raises BadInput for a row with other than `columns` cells."""
        names = self.columns
        for place, (number, cells) in enumerate(self.table.rows):
            if place < self.header or not any(cells):
                continue
            if len(cells) > len(names):
                cells = trimmed(cells)
            if len(cells) != len(names):
                raise BadInput(
                    f"{self.path}, line {number}: {len(cells)} cells where there are {len(names)} columns (parted by "
                    f"{self.table.parted_by}); put names that have separators in quotes"
                )
            yield number, {name: cell for name, cell in zip(names, cells, strict=True) if name}

    @cached_property
    def image_column(self) -> str | None:
        """The column with the names of images; None where nothing tells it."""
        return path_column(self.columns, self.table.sample(self.header))

    def require_image_column(self) -> str:
        """The column with the names of images. Raises BadInput: there is none, or several."""
        if self.image_column is None:
            raise BadInput(f"{self.path}: no column 'path'; there are {self._listed()}")
        return self.image_column

    def require_person_column(self) -> str:
        """The column with the people. Raises BadInput: there is none, or several."""
        column = person_column(self.columns, [self.image_column])
        if column is None:
            several = person_columns(self.columns, [self.image_column])
            which = f"; call one of {', '.join(several)} so" if several else ""
            raise BadInput(f"{self.path}: no column 'identity'; there are {self._listed()}{which}")
        return column

    def require_columns(self, columns: Collection[str]) -> None:
        """Raises BadInput for a column that the file lacks."""
        for column in columns:
            if column not in self.columns:
                raise BadInput(f"{self.path}: no column {column!r}; there are {self._listed()}")

    def _listed(self) -> str:
        return ", ".join(filter(None, self.columns)) or "none"

    def note(self, person: str | None = None) -> list[str]:
        """A line on what columns of other names were taken for."""
        taken = {"the image": self.image_column, "the person": person}
        said = [f"{name!r} is {what}" for what, name in taken.items() if name not in (None, "path", "identity")]
        return [f"{self.path}: {' and '.join(said)}"] if said else []

    def record(self) -> dict[str, str]:
        """JSON: which file it is."""
        return {"file": self.path.name, "sha256": self.table.file.sha256}


def read_label_file(path: Path) -> LabelFile:
    """Read a table of images or people, with a header; or one of CelebA's files.

    CelebA's `list_attr_celeba.txt` has the number of images, the names of the attributes, then a name and as many
    values a line; `identity_CelebA.txt` has a name and a person a line, and neither header nor number; CelebA-HQ's
    mapping file has a header of three words.

    BadInput: unreadable, another number of images than the file says, a column twice, or no header where one is needed.
    """
    return label_file(read_text_file(path))


def label_file(file: TextFile, unnamed: Sequence[str] = ("path", "identity")) -> LabelFile:
    """As `read_label_file`, of a text that was read already. unnamed: the columns where there is no header."""
    path = file.path
    count = file.first_number() if len(file.lines) > 1 else None
    table = file.table(header=int(count is not None))
    first, second = ([trimmed(cells) for cells in table.sample()[:2]] + [[], []])[:2]
    # A data set with files of another form is one more case here.
    header = int(not any(map(is_image, first)))
    if count is not None and count != (listed := len(table.lines) - header):
        raise BadInput(f"{path}: says {count} images and lists {listed}; download it again")
    if header:
        # The attributes' file does not name the column of names, the boxes' file does.
        unnamed_images = "path" not in first and len(second) == len(first) + 1 and is_image(second[0])
        columns = ["path", *first] if unnamed_images else first
    elif len(first) <= 2:
        columns = ["path" if is_image(cell) else "identity" for cell in first]
    elif len(first) == len(unnamed):
        columns = list(unnamed)
    else:
        raise BadInput(
            f"{path}: no header says what its {len(first)} columns are ({some_of(first)}); add one, as "
            f"{','.join(unnamed)}"
        )
    if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
        raise BadInput(f"{path}: has the column {twice[0]!r} twice; leave one")
    return LabelFile(table, columns, header)


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

    An image is looked up by its path, with another ending if it must be (CelebA's pictures come as .jpg and as .png).
    Where the table has bare names only, or no image's path, one's path may also be the end of the other's: the list may
    have been written in a folder above, or in one below.

    images: paths with forward slashes; None for no image.
    table: its names as `image_name` gives them.
    renamed: number of an image → its name in the table (`read_renamed`).

    BadInput: two images of one name.
    """

    def spelled(image: str) -> str:
        if renamed is not None:
            number = _HQ_NAME.fullmatch(PurePosixPath(image).stem)
            image = renamed.get(int(number[1]), "") if number else ""
        return image_name(image)

    keys = [None if image is None else spelled(image) for image in images]
    exact = {key for key in keys if key in table}
    stems = _unique((_stem(name), name) for name in table)
    bare = not any("/" in name for name in table)
    by_ends = bare or not exact
    longer = _unique((end, name) for name in table for end in _ends(name)) if by_ends and not bare else {}
    longer_stems = _unique((_stem(end), name) for name in table for end in _ends(name)) if longer else {}

    def name_of(key: str) -> str | None:
        if key in table:
            return key
        tried = [stems.get(_stem(key))]
        for end in _ends(key) if by_ends else ():
            tried += [end if end in table else None, stems.get(_stem(end))]
        tried += [longer.get(key), longer_stems.get(_stem(key))]
        return next((name for name in tried if name is not None and name not in exact), None)

    names = [None if key is None else name_of(key) for key in keys]
    image_of: dict[str, str] = {}
    for image, name in zip(images, names, strict=True):
        if name is not None and image_of.setdefault(name, image) != image:
            raise BadInput(f"{image_of[name]} and {image} are both called {name!r}; use paths there, or rename one")
    lacking = [image or f"row {row}" for row, image in enumerate(images) if names[row] is None]
    values = [None if name is None else table[name] for name in names]
    return Matched(values, lacking, [name for name in table if name not in image_of])


def _stem(name: str) -> str:
    """A name without the ending of an image."""
    head, dot, ending = name.rpartition(".")
    return head if dot and f".{ending.lower()}" in EXTENSIONS else name


def _ends(name: str) -> Iterator[str]:
    """What follows each slash of a name, the longest first."""
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """Key → name; None for a key of several names."""
    of: dict[str, str | None] = {}
    for key, name in pairs:
        of[key] = name if of.get(key, name) == name else None
    return of


def by_name(file: LabelFile, columns: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Columns by the name of the image, and a line where equal rows are there twice; rows without a value are left out.

    BadInput: no such column, no column of images, a row without a name, or an image with other values twice.
    """
    column_of_images = file.require_image_column()
    file.require_columns(columns)
    values_of: dict[str, tuple[str, ...]] = {}
    rows = 0
    for number, row in file.rows:
        rows += 1
        name = image_name(row[column_of_images])
        if not name:
            raise BadInput(f"{file.path}, line {number}: no path")
        values = tuple(sys.intern(row[column]) for column in columns)
        if values_of.setdefault(name, values) != values:
            both = (", ".join(filter(None, each)) or "nothing" for each in (values_of[name], values))
            raise BadInput(
                f"{file.path}, line {number}: {name} is there already, with other values ({' and '.join(both)}); "
                "leave one"
            )
    again = rows - len(values_of)
    notes = [f"{again} rows of {file.path} are there twice; each counts once"] if again else []
    return {name: values for name, values in values_of.items() if any(values)}, notes


def read_renamed(path: Path) -> dict[int, str]:
    """CelebA-HQ's mapping file: the number of an image → its name in CelebA.

    BadInput: another file, or a number twice.
    """
    file = read_label_file(path)
    if file.columns != _HQ_COLUMNS:
        raise BadInput(f"{path}: not CelebA-HQ's mapping file, whose header is '{' '.join(_HQ_COLUMNS)}'")
    names: dict[int, str] = {}
    for number, row in file.rows:
        if not row["idx"].isdecimal() or int(row["idx"]) in names:
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


def read_person_labels(path: Path, column: str, people: Collection[str | None] = ()) -> PersonLabels:
    """Read a table with a header: the label's column, and one of people (`identity`, or another name for it), or else
    one of images (`path`), whose folder is the person.

    Rows with an empty label are left out and counted.

    people: those of whom labels are wanted; where several columns may be of people, theirs counts.

    BadInput: no such file or column, a row with neither person nor image, or a person with two labels.
    """
    file = read_label_file(path)
    named = _person_column(file, column, people)

    def person(row: Row) -> str | None:
        parts = image_name(row.get(file.image_column or "", "")).split("/")
        return person_name(row.get(named or "")) or (person_name(parts[-2]) if len(parts) > 1 else None)

    lacking = "neither an identity nor a path with a folder"
    keys = [key for key in (named, file.image_column) if key]
    return PersonLabels(column, *_labels(file, column, keys, "'identity' or 'path'", person, lacking))


def _person_column(file: LabelFile, label: str, people: Collection[str | None]) -> str | None:
    """The column that says whose a label is; None where that is the folder of an image."""
    if "identity" in file.columns or file.image_column == "path":
        return "identity" if "identity" in file.columns else None
    columns = person_columns(file.columns, [file.image_column, label])
    if len(columns) < 2:
        return columns[0] if columns else None
    values: dict[str, set[str | None]] = {column: set() for column in columns}
    for _, row in file.rows:
        for column in columns:
            values[column].add(person_name(row[column]))
    fitting = [column for column in columns if values[column] & set(people)]
    if len(fitting) != 1:
        raise BadInput(
            f"{file.path}: {' and '.join(columns)} may both say who a person is, and "
            f"{'both' if fitting else 'neither'} names people here; call one 'identity'"
        )
    return fitting[0]


def read_image_labels(path: Path, column: str, store: Store) -> ImageLabels:
    """Read a label file: the label's column, and `path` (or another name for it) as `match` compares it with a store's.

    BadInput: no such file or column, a row without path, an image with two labels, or no label for any row of the
    store.
    """
    file = read_label_file(path)
    images = file.image_column or ""
    keys = [images] if images else []
    labels, _, record = _labels(file, column, keys, "'path'", lambda row: image_name(row[images]), "no path")
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
    file: LabelFile, column: str, keys: Collection[str], needed: str, key: Callable[[Row], str | None], lacking: str
) -> tuple[dict[str, str], int, dict[str, str]]:
    """Key → label, how many rows have no label, and the file's record.

    keys: the columns that `key` looks at; `needed` where there are none. lacking: what is wrong with a row without one.
    """
    file.require_columns([column])
    if not keys:
        raise BadInput(f"{file.path}: no column {needed}, so nobody can tell whose label it is")
    labels: dict[str, str] = {}
    empty = 0
    for line, row in file.rows:
        name, label = key(row), row[column]
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
    level: of the folder that is the person where no file says it, see `finding.folder_identity`.
    """

    identities: Path | None = None
    labels: Path | None = None
    renamed: Path | None = None
    level: int = 1

    def with_identities(self, refs: list[ImageRef]) -> tuple[list[ImageRef], list[str]]:
        """The images with their people, and lines on what is left over; an image without one is nobody's.

        BadInput: as `by_name` and `match`; no image has a person.
        """
        if self.identities is None:
            return refs, []
        file = read_label_file(self.identities)
        column = file.require_person_column()
        table, notes = by_name(file, [column])
        matched = self._match(refs, table, self.identities)
        people = [person_name(values[0]) if values else None for values in matched.values]
        named = [replace(ref, identity=person) for ref, person in zip(refs, people, strict=True)]
        return named, [*file.note(column), *notes, *matched.notes("person", self.identities)]

    def label_table(self, refs: list[ImageRef]) -> tuple[str | None, list[str]]:
        """A CSV of the labels by the images' own paths, and lines on what is left over; None without labels.

        BadInput: as `with_identities`, of labels.
        """
        if self.labels is None:
            return None, []
        file = read_label_file(self.labels)
        images = file.require_image_column()
        columns = [column for column in file.columns if column and column != images]
        if not columns:
            raise BadInput(f"{self.labels}: has no column beside {images!r}, and so no labels")
        table, notes = by_name(file, columns)
        matched = self._match(refs, table, self.labels)
        rows = zip(refs, matched.values, strict=True)
        labelled = ([ref.relative, *values] for ref, values in rows if values is not None)
        return csv_text(["path", *columns], labelled), [*file.note(), *notes, *matched.notes("labels", self.labels)]

    def _match(self, refs: list[ImageRef], table: dict, path: Path) -> Matched:
        return match_images(refs, table, path, None if self.renamed is None else read_renamed(self.renamed))


def match_images(
    refs: Sequence[ImageRef], table: Mapping[str, Value], path: Path, renamed: Mapping[int, str] | None = None
) -> Matched:
    """As `match`, of images that were found and a table read from `path`. BadInput: also where it has none of them."""
    try:
        matched = match([ref.relative for ref in refs], table, renamed)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    if all(value is None for value in matched.values):
        example = next(iter(table), "nothing")
        raise BadInput(f"{path}: has nothing of {refs[0].relative} or any other image (it has {example} …)")
    return matched
