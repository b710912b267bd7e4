"""Files that say of each row of templates, in their order, which image it is of and who is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facedecode.annotations.labels import label_file
from facedecode.annotations.tables import (
    LINES,
    WORDS,
    TextFile,
    is_image,
    is_path_name,
    is_person_name,
    path_column,
    person_column,
    read_text_file,
    trimmed,
)
from facedecode.errors import BadInput
from facedecode.names import image_name, person_name


@dataclass(frozen=True)
class Listing:
    """What a file lists, row by row.

    lines: the number of each row's line. names: of the images; None where it names none. people: None where it names
    none; a person who is None is unknown. notes: on what columns were taken for.
    """

    path: Path
    lines: list[int]
    names: list[str] | None = None
    people: list[str | None] | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def is_of(self, names: Sequence[str]) -> bool:
        """Whether its images are these, one after the other; either's path may be the end of the other's."""
        if self.names is None or len(self) != len(names):
            return False
        pairs = ((f"/{image_name(own)}", f"/{image_name(name)}") for own, name in zip(self.names, names, strict=True))
        return all(own.endswith(name) or name.endswith(own) for own, name in pairs)


def read_image_list(path: Path) -> Listing:
    """Read a list of images: a path a line, or a table with a header and a column of paths.

    Raises BadInput naming the line: unreadable, or a row without an image.
    """
    file = read_text_file(path)
    table = file.table()
    first, second = [*table.sample()[:2], [], []][:2]
    header = not any(map(is_image, first))
    # A name may have commas: only a header, or tabs, make it a table.
    is_table = path_column(first, [second]) if header else table.separator == "\t"
    if is_table and table.separator not in (LINES, WORDS):
        return _of_table(file, need_people=False)
    return _of_lines(file, is_path_name, "give the path of each template's image, in their order")


def read_people_list(path: Path) -> Listing:
    """Read a list of people: a name a line, an empty one for nobody; or a table with a column of people.

    Raises BadInput: unreadable, or a table without such a column.
    """
    file = read_text_file(path)
    table = file.table()
    if any(len(trimmed(cells)) > 1 for cells in table.sample()):
        return _of_table(file, need_people=True)
    listing = _of_lines(file, is_person_name, None)
    people = [person_name(name.rstrip(" ;,\t")) for name in listing.names]
    return Listing(path, listing.lines, None, people)


def _of_lines(file: TextFile, header: Callable[[str], bool], remedy: str | None) -> Listing:
    """A name a line. header: whether a first line is the name of the column; remedy: where a line is empty."""
    of = {number: line.strip() for number, line in file.lines}
    first = min(of)
    if first == 1 and len(of) > 1 and header(of[1]):
        del of[1]
        first = 2
    else:
        first = 1
    lines = list(range(first, max(of) + 1))
    if remedy and (empty := next((number for number in lines if number not in of), None)):
        raise BadInput(f"{file.path}, line {empty}: empty; {remedy}")
    return Listing(file.path, lines, [of.get(number, "") for number in lines])


def _of_table(text: TextFile, need_people: bool) -> Listing:
    path, file = text.path, label_file(text)
    images = file.image_column
    people = file.require_person_column() if need_people else person_column(file.columns, [images])
    rows = list(file.rows)
    names = [row[images] for _, row in rows] if images else None
    if names is not None and not all(names):
        raise BadInput(f"{path}, line {rows[names.index('')][0]}: no path")
    return Listing(
        path,
        [number for number, _ in rows],
        names,
        [person_name(row[people]) for _, row in rows] if people else None,
        file.note(people),
    )
