"""Labels that a CSV file, or one of CelebA's, gives to people or to images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from facedecode.annotations.label_file import Row, match, read_label_file
from facedecode.errors import BadInput, some_of
from facedecode.files import sha256_file
from facedecode.store import Store


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
