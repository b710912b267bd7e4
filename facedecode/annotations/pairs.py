"""Pairs of images to compare: LFW's two formats, and tables of two paths with a label.

Source of LFW's formats: its own README (sections 3a to 3d). Fields are parted by tabs or other white space:

- View 2: ``FOLDS N``, then for each fold N mated lines ``name n1 n2`` and N non-mated lines ``name1 n1 name2 n2``;
  View 1: ``N`` alone and one such block.

AgeDB, CALFW, CPLFW, CFP and most others list paths: ``1 path path``, ``path path 1``, or CSV with a header
(``img1,img2,same``, also with a fold). What a column is shows in its values. CALFW and CPLFW themselves have an image
and a number a line, and two lines a pair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np

from facedecode.annotations.labels import match
from facedecode.annotations.lines import Lines
from facedecode.annotations.tables import WORDS, Table, TextFile, is_image, plain, read_text_file, trimmed
from facedecode.errors import BadInput, some_of
from facedecode.names import image_name, person_name

# Pairs of words for the two kinds, in small letters: mated, non-mated.
_LABELS = (
    ("1", "0"),
    ("1", "-1"),
    ("1.0", "0.0"),
    ("true", "false"),
    ("same", "different"),
    ("same", "diff"),
    ("yes", "no"),
    ("mated", "non-mated"),
    ("match", "mismatch"),
    ("match", "non-match"),
    ("genuine", "impostor"),
    ("genuine", "imposter"),
    ("positive", "negative"),
    ("t", "f"),
    ("y", "n"),
)
# Names of columns, as `plain` gives them.
_SAME = re.compile(r"(is)?(same|match|mated|genuine)(person|identity)?|label|target|flag|gt|y")
_DIFFERENT = re.compile(r"(is)?(different|diff|impostor|imposter|mismatch|nonmated|nonmatch)(person|identity)?")
_FOLD = re.compile(r"(folds?|split|subset|set)(id|number)?")


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, in the order of the file.

    left, right: relative POSIX paths (``NAME/NAME_0001.jpg``), one a pair.
    left_people, right_people: the names; equal where the pair is mated. None where the file does not tell them.
    mated: bool (n,). fold: int64 (n,), counted from 0; all 0 where there is one.
    sha256: of the file.
    """

    left: list[str]
    right: list[str]
    left_people: list[str | None]
    right_people: list[str | None]
    mated: np.ndarray
    fold: np.ndarray
    sha256: str | None = None

    def __len__(self) -> int:
        return len(self.left)

    def take(self, kept: np.ndarray) -> Pairs:
        """Those of the pairs where `kept`, bool (n,), is true."""
        columns = (self.left, self.right, self.left_people, self.right_people)
        left, right, left_people, right_people = (list(compress(column, kept)) for column in columns)
        return Pairs(left, right, left_people, right_people, self.mated[kept], self.fold[kept], self.sha256)

    def rows(self, paths: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Where each pair's images stand in `paths` (as a store has them): two int64 (n,), -1 if absent.

        Raises BadInput: an image of the pairs stands there more than once.
        """
        row_of = {path: row for row, path in enumerate(paths)}
        if len(row_of) < len(paths):
            first = {path: row for row, path in reversed(list(enumerate(paths)))}
            several = {path for path in first if path is not None and first[path] != row_of[path]}
            if named := sorted(several & {*self.left, *self.right}):
                raise BadInput(
                    f"{len(named)} images that the pairs name have several templates, of several faces "
                    f"({some_of(named)}), and nothing tells which is meant; leave these pairs out"
                )
        left, right = ([row_of.get(path, -1) for path in side] for side in (self.left, self.right))
        return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)

    def found_in(self, left: Mapping[str, str | None], right: Mapping[str, str | None]) -> tuple[Pairs, np.ndarray]:
        """The same pairs by the paths and people of a store, or of two; and which of them contradict those people.

        left, right: path → person of each image that a store knows; None for nobody. An image is found as `match` does
        it: LFW's list says .jpg, and other people's pictures may be PNG.

        Where the file has no people, they are the store's; where that has none either, images that mated pairs connect
        are of one person.

        Returns the pairs, and bool (n,): the two images are of one person and the pair is non-mated, or of two people
        and it is mated.

        Raises BadInput: two images of one name.
        """
        own, other = (_found(side, known) for side, known in ((self.left, left), (self.right, right)))
        people = [[known.get(path) for path in side] for side, known in ((own, left), (other, right))]
        known_both = np.array([a is not None and b is not None for a, b in zip(*people, strict=True)], bool)
        equal = np.array([a == b for a, b in zip(*people, strict=True)], bool)
        contradicts = known_both & (equal != self.mated)
        if self.left_people[:1] != [None]:
            return replace(self, left=own, right=other), contradicts
        sides = _groups(own, other, people[0], people[1], self.mated & ~contradicts)
        equal = np.array([a == b for a, b in zip(*sides, strict=True)], bool)
        found = replace(self, left=own, right=other, left_people=sides[0], right_people=sides[1])
        return found, contradicts | (equal != self.mated)


def _found(names: Sequence[str], known: Mapping[str, str | None]) -> list[str]:
    """The store's path of each image, where it is found."""
    table = {image_name(name): name for name in names}
    matched = match(list(known), table)
    path_of = {name: path for path, name in zip(known, matched.values, strict=True) if name is not None}
    return [path_of.get(table[image_name(name)], name) for name in names]


def _groups(
    left: Sequence[str],
    right: Sequence[str],
    left_people: Sequence[str | None],
    right_people: Sequence[str | None],
    mated: np.ndarray,
) -> tuple[list[str | None], list[str | None]]:
    """The person of each image: as known, else that of the images that mated pairs connect it with."""
    above: dict[tuple[str, str], tuple[str, str]] = {}

    def top(node: tuple[str, str]) -> tuple[str, str]:
        while (next_node := above.get(node, node)) != node:
            above[node] = above.get(next_node, next_node)
            node = next_node
        return node

    nodes = [
        [("person", person) if person is not None else ("image", path) for path, person in zip(*side, strict=True)]
        for side in ((left, left_people), (right, right_people))
    ]
    for one, other, same in zip(*nodes, mated, strict=True):
        if same and (first := top(one)) != (second := top(other)):
            # A person's name stays the top, so that two people are not made one by an image between them.
            if first[0] == "image":
                above[first] = second
            elif second[0] == "image":
                above[second] = first
    return [top(node)[1] for node in nodes[0]], [top(node)[1] for node in nodes[1]]


def image_path(name: str, number: int) -> str:
    """LFW's relative path of a person's image: ``image_path("Zico", 3) == "Zico/Zico_0003.jpg"``."""
    return f"{name}/{name}_{number:04d}.jpg"


def read_pairs(path: str | Path) -> Pairs:
    """Read a file of pairs: LFW's (View 1 or 2), or a table of two paths and a label. BadInput names file and line."""
    file = read_text_file(path)
    count = file.first_number()
    listed = count is not None and len(file.lines) > 1 and any(map(is_image, re.split(r"[\s,;]+", file.lines[1][1])))
    if re.fullmatch(r"[\s0-9]+", file.lines[0][1]) and not listed:
        return _read_lfw(file)
    if listed and count != len(file.lines) - 1:
        raise BadInput(f"{path}, line 1: says {count} pairs, and {len(file.lines) - 1} follow; download it again")
    return _read_table(file, header=int(listed))


def _read_lfw(file: TextFile) -> Pairs:
    lines = Lines(file)
    header = [lines.number(field) for field in lines.take("one number (View 1) or two (View 2)", 1, 2)]
    folds, size = (1, *header) if len(header) == 1 else header
    if folds * size > len(file.lines):
        raise lines.wrong(f"the file ends before the {folds * size} pairs of each kind that its first line says")
    rows = [(*_read_pair(lines, mated), fold) for fold in range(folds) for mated in (True, False) for _ in range(size)]
    lines.finish()
    return _of_names(file, rows)


def _of_names(file: TextFile, rows: Sequence[tuple[str, int, str, int, int]]) -> Pairs:
    names, numbers, others, other_numbers, fold = zip(*rows, strict=True)
    return Pairs(
        left=[image_path(name, number) for name, number in zip(names, numbers, strict=True)],
        right=[image_path(name, number) for name, number in zip(others, other_numbers, strict=True)],
        left_people=list(names),
        right_people=list(others),
        mated=np.array([name == other for name, other in zip(names, others, strict=True)]),
        fold=np.array(fold, dtype=np.int64),
        sha256=file.sha256,
    )


def _read_pair(lines: Lines, mated: bool) -> tuple[str, int, str, int]:
    if mated:
        name, first, second = lines.take("'name n1 n2' (a mated pair)", 3)
        other = name
    else:
        name, first, other, second = lines.take("'name1 n1 name2 n2' (a non-mated pair)", 4)
    pair = lines.name(name), lines.number(first), lines.name(other), lines.number(second)
    if mated and pair[1] == pair[3]:
        raise lines.wrong("a mated pair needs two different images")
    if not mated and pair[0] == pair[2]:
        raise lines.wrong("a non-mated pair needs two different people")
    return pair


def _read_table(file: TextFile, header: int) -> Pairs:
    """A table: two columns of images, one of labels, perhaps one of folds, with a header or without."""
    table = file.table(header)
    numbered = [(number, cells) for number, cells in table.rows if any(cells)]
    if not numbered:
        raise BadInput(f"{file.path}: no pairs in it; is it the right file?")
    width = max(len(trimmed(cells)) for _, cells in numbered)
    if all(_lfw_cells(cells) for _, cells in numbered[1:]) and len(numbered) > 1:  # LFW's pairs as CSV
        return _of_names(file, [_lfw_pair(file, *row) for row in numbered[not _lfw_cells(numbered[0][1]) :]])
    if in_twos := _in_twos([cells for _, cells in numbered], width):
        return _of_paths(file, *in_twos, np.zeros(len(in_twos[0]), np.int64))
    for number, cells in numbered:
        if len(cells) < width:
            hint = "; part the cells by tabs or commas where names have spaces" if table.separator == WORDS else ""
            raise BadInput(f"{file.path}, line {number}: {len(cells)} cells where there are {width}{hint}")
    columns = [[cells[place] for _, cells in numbered] for place in range(width)]
    named = _has_header(columns)
    names = [plain(column[0]) if named else "" for column in columns]
    columns = [column[int(named) :] for column in columns]
    chosen = _choose(table, names, columns, [number for number, _ in numbered[int(named) :]])
    labels = [label.casefold() for label in columns[chosen.label]]
    same, different = _words_of(labels)
    if chosen.inverted:
        same, different = different, same
    left, right = ([image_name(cell) for cell in columns[place]] for place in chosen.images)
    if "" in (*left, *right):
        place = next(k for k, pair in enumerate(zip(left, right, strict=True)) if "" in pair)
        raise BadInput(f"{file.path}, line {numbered[place + named][0]}: a pair without the path of an image")
    folds = columns[chosen.fold] if chosen.fold is not None else [""] * len(left)
    numbers = {fold: number for number, fold in enumerate(dict.fromkeys(folds))}
    mated = np.array([label == same for label in labels])
    return _of_paths(file, left, right, mated, np.array([numbers[fold] for fold in folds], np.int64))


def _of_paths(file: TextFile, left: list[str], right: list[str], mated: np.ndarray, fold: np.ndarray) -> Pairs:
    nobody: list[str | None] = [None] * len(left)
    return Pairs(left, right, nobody, nobody, mated, fold, file.sha256)


def _in_twos(rows: Sequence[Sequence[str]], width: int) -> tuple[list[str], list[str], np.ndarray] | None:
    """The pairs of a list whose lines are an image and a number, 0 where a line and the next are of two people.

    CALFW and CPLFW are given out so. None where it is no such list.
    """
    if (
        width != 2
        or len(rows) % 2
        or not all(len(row) == 2 and is_image(row[0]) and row[1].isdecimal() for row in rows)
    ):
        return None
    first, second = rows[::2], rows[1::2]
    if any(a[1] != b[1] for a, b in zip(first, second, strict=True)) or not any(int(row[1]) == 0 for row in first):
        return None
    left, right = ([image_name(row[0]) for row in side] for side in (first, second))
    return left, right, np.array([int(row[1]) != 0 for row in first])


def _lfw_cells(cells: Sequence[str]) -> bool:
    cells = trimmed(list(cells))
    numbers = cells[1:] if len(cells) == 3 else cells[1::2] if len(cells) == 4 else []
    return bool(numbers) and all(re.fullmatch(r"[1-9][0-9]{0,8}", cell) for cell in numbers) and not is_image(cells[0])


def _lfw_pair(file: TextFile, number: int, cells: list[str]) -> tuple[str, int, str, int, int]:
    cells = trimmed(cells)
    name, other = (person_name(cells[place if len(cells) == 4 else 0]) for place in (0, 2))
    pair = name, int(cells[1]), other, int(cells[-1])
    if not (name and other) or pair[:2] == pair[2:]:
        raise BadInput(f"{file.path}, line {number}: a pair needs two different images")
    return (*pair, 0)


@dataclass(frozen=True)
class _Columns:
    """Places of the columns; inverted: a label of 1 says that the people are different."""

    images: tuple[int, int]
    label: int
    fold: int | None
    inverted: bool


def _words_of(labels: Sequence[str]) -> tuple[str, str] | None:
    """The words for mated and non-mated of which these labels are; None if they are no labels."""
    there = set(labels)
    return next((words for words in _LABELS if there <= set(words)), None)


def _has_header(columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is of another kind than the others: no image where they are, or no label."""
    if len(columns[0]) < 2:
        return False
    if any(is_image(column[0]) or all("/" in cell for cell in column) for column in columns):
        return False
    for column in columns:
        first, rest = column[0], column[1:]
        if not is_image(first) and all(map(is_image, rest)):
            return True
        if not _words_of([first.casefold()]) and _words_of([cell.casefold() for cell in rest]):
            return True
    return False


def _choose(table: Table, names: Sequence[str], columns: Sequence[Sequence[str]], lines: Sequence[int]) -> _Columns:
    """Which column is what. Raises BadInput naming the columns where that is not plain, or the line of a wrong label.

    names: of the columns, empty where there is no header. lines: numbers of the rows' lines.
    """
    path, table_of_words = table.path, table.separator == WORDS and not any(names)

    def refuse(what: str) -> BadInput:
        seen = some_of([name or f"{column[0]} …" for name, column in zip(names, columns, strict=True)], 6)
        return BadInput(
            f"{path}: {what} (there are {seen}); give LFW's format, or two columns of paths and one of labels "
            "(1 or 0, same or different), as img1,img2,same"
        )

    def says_same(place: int) -> bool:
        return bool(_SAME.fullmatch(names[place]) or _DIFFERENT.fullmatch(names[place]))

    places = range(len(columns))
    labels = [place for place in places if _words_of([cell.casefold() for cell in columns[place]])]
    folds = [place for place in places if _FOLD.fullmatch(names[place])]
    labels = [place for place in labels if place not in folds]
    several = len(labels) > 1
    if several:
        labels = [place for place in labels if says_same(place)]
    words = {word for pair in _LABELS for word in pair}
    for place in places if not labels and not several else ():
        odd = [k for k, cell in enumerate(columns[place]) if cell.casefold() not in words]
        if 0 < 2 * len(odd) < len(columns[place]) or (odd and says_same(place)):
            raise BadInput(f"{path}, line {lines[odd[0]]}: {columns[place][odd[0]]!r} is no label; give 1 or 0")
    if len(labels) != 1:
        raise refuse(
            "two columns may be the labels" if several else "no column says whether two images are of one person"
        )
    images = [place for place in places if all(map(is_image, columns[place]))]
    if len(images) != 2:  # names without an ending
        images = [place for place in places if place not in (*labels, *folds)]
    if len(images) != 2:
        numbers = [place for place in images if all(cell.isdecimal() for cell in columns[place])]
        images = [place for place in images if place not in numbers]
        folds += numbers if len(numbers) == 1 and not folds and not any(names) else []
    if len(images) != 2:
        raise refuse("no two columns of images")
    if not folds and not any(names):
        others = [place for place in places if place not in (*images, *labels)]
        folds = others if len(others) == 1 and all(cell.isdecimal() for cell in columns[others[0]]) else []
    taken = {*images, *labels, *folds}
    if table_of_words and any(
        not cell.isdecimal() for place in places if place not in taken for cell in columns[place]
    ):
        raise refuse("more words than two paths and a label; part the cells by tabs or commas where names have spaces")
    fold = folds[0] if len(folds) == 1 else None
    return _Columns((images[0], images[1]), labels[0], fold, bool(_DIFFERENT.fullmatch(names[labels[0]])))
