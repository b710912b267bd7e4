"""Readers of Labeled Faces in the Wild's pairs and people files, Views 1 and 2.

Source of the formats: LFW's own README (sections 3a to 3d). Fields are separated by white space:

- pairs, View 2: ``FOLDS N``, then for each fold N mated lines ``name n1 n2`` and N non-mated lines
  ``name1 n1 name2 n2``; View 1: ``N`` alone and one such block.
- people, View 2: ``FOLDS``, then for each fold ``N`` and N lines ``name images``; View 1: one such block.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facedecode.errors import BadInput, UsageError


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, in the order of the file.

    left, right: relative POSIX paths (``NAME/NAME_0001.jpg``), one a pair.
    left_people, right_people: the names; equal where the pair is mated.
    mated: bool (n,). fold: int64 (n,), counted from 0; all 0 for View 1.
    """

    left: list[str]
    right: list[str]
    left_people: list[str]
    right_people: list[str]
    mated: np.ndarray
    fold: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def rows(self, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Where each pair's images stand in `paths` (as a store has them): two int64 (n,), -1 if absent."""
        row_of = {path: row for row, path in enumerate(paths)}
        left, right = ([row_of.get(path, -1) for path in side] for side in (self.left, self.right))
        return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)

    def with_extensions(self, paths: Collection[str]) -> Pairs:
        """The same pairs, where an image is not among `paths` by the one path that differs in its extension only.

        The format numbers a person's images and LFW's are JPEG; other people's may be PNG.
        """
        stems: dict[str, list[str]] = {}
        for path in paths:
            stems.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(path)

        def renamed(path: str) -> str:
            same = stems.get(path.removesuffix(".jpg"), [])
            return same[0] if len(same) == 1 else path

        return replace(self, left=[renamed(path) for path in self.left], right=[renamed(path) for path in self.right])


class Person(NamedTuple):
    """One line of a people file: the name, how many images there are, and the fold (0 for View 1)."""

    name: str
    images: int
    fold: int


def image_path(name: str, number: int) -> str:
    """LFW's relative path of a person's image: ``image_path("Zico", 3) == "Zico/Zico_0003.jpg"``."""
    return f"{name}/{name}_{number:04d}.jpg"


def read_pairs(path: str | Path) -> Pairs:
    """Read a pairs file of View 1 or View 2. BadInput names the file and the line that is wrong."""
    lines = _Lines(path)
    header = [lines.number(field) for field in lines.take("one number (View 1) or two (View 2)", 1, 2)]
    folds, size = (1, *header) if len(header) == 1 else header
    rows = [(*_read_pair(lines, mated), fold) for fold in range(folds) for mated in (True, False) for _ in range(size)]
    lines.finish()
    names, numbers, others, other_numbers, fold = zip(*rows, strict=True)
    return Pairs(
        left=[image_path(name, number) for name, number in zip(names, numbers, strict=True)],
        right=[image_path(name, number) for name, number in zip(others, other_numbers, strict=True)],
        left_people=list(names),
        right_people=list(others),
        mated=np.array([name == other for name, other in zip(names, others, strict=True)]),
        fold=np.array(fold, dtype=np.int64),
    )


def read_people(path: str | Path) -> list[Person]:
    """Read a people file of View 1 or View 2. BadInput names the file and the line that is wrong."""
    lines = _Lines(path)
    count = lines.number(*lines.take("one number, of people (View 1) or of folds (View 2)", 1))
    if len(lines.peek()) != 1:
        people = _read_block(lines, count, fold=0)
    else:
        people = []
        for fold in range(count):
            (size,) = lines.take(f"the number of people in fold {fold + 1}", 1)
            people += _read_block(lines, lines.number(size), fold)
    lines.finish()
    _require_once(path, [person.name for person in people])
    return people


def people_names(path: str | Path) -> list[str]:
    """The people of a file: LFW's people format (see `read_people`), or a plain list with a name on each line.

    A file that begins with a number is LFW's. Empty lines of a plain list are passed over. BadInput as `read_people`.
    """
    lines = _Lines(path)
    if lines.starts_with_number():
        return [person.name for person in read_people(path)]
    names = lines.whole()
    if not names:
        raise BadInput(f"{path}: names nobody: give LFW's people format, or a name on each line.")
    _require_once(path, names)
    return names


def _require_once(path: str | Path, names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise BadInput(f"{path}: {twice[0]} is listed twice: name each person once.")


def require_share(share: float) -> None:
    """Refuse a share of people to hold out that is not in [0, 1). Raises UsageError."""
    if not 0 <= share < 1:
        raise UsageError(f"a share of {share} of the people cannot be held out: give 0 or more, and less than 1")


def held_out_people(
    identities: Sequence[str | None], paths: Sequence[str | None], share: float = 0.1, *, even_all: bool = False
) -> np.ndarray:
    """Which rows to keep out of a fit, so that it is judged on people whom it has not seen.

    A person is held out by a hash of the name (a row without one: of its path), so the choice depends on
    neither the order nor the other rows; about `share` of the people. Where that would leave no row to fit,
    none is held out (`even_all`: all are, as a part of a whole that others fit).

    Returns bool (n,): True for held-out rows.

    BadInput: a row with neither identity nor path. UsageError: a share outside [0, 1).
    """
    require_share(share)
    held_out = np.zeros(len(paths), dtype=bool)
    for row, (identity, path) in enumerate(zip(identities, paths, strict=True)):
        if not identity and not path:
            raise BadInput(f"row {row} has neither identity nor path: it cannot be assigned to a person")
        key = f"person:{identity}" if identity else f"path:{path}"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        held_out[row] = int.from_bytes(digest[:8], "big") < share * 2**64
    return np.zeros_like(held_out) if held_out.all() and not even_all else held_out


def select_people(identities: list[str | None], people: Path | None, exclude: tuple[str, ...] = ()) -> np.ndarray:
    """Row numbers of the people to use: those of a file (all if None), less some.

    BadInput: nobody is left, or a person to leave out is not among them.
    """
    wanted = None if people is None else set(people_names(people))
    known = set(identities)
    if unknown := [name for name in exclude if name not in known]:
        raise BadInput(f"--exclude {unknown[0]}: nobody in the store has that name")
    rows = [i for i, name in enumerate(identities) if name not in exclude and (wanted is None or name in wanted)]
    if not rows:
        raise BadInput(f"{people}: none of these people is in the store" if people else "nobody is left to train on")
    return np.array(rows)


def _read_block(lines: _Lines, count: int, fold: int) -> list[Person]:
    fields = (lines.take("'name images'", 2) for _ in range(count))
    return [Person(lines.name(name), lines.number(images), fold) for name, images in fields]


def _read_pair(lines: _Lines, mated: bool) -> tuple[str, int, str, int]:
    if mated:
        name, first, second = lines.take("'name n1 n2' (a mated pair)", 3)
        other = name
    else:
        name, first, other, second = lines.take("'name1 n1 name2 n2' (a non-mated pair)", 4)
    pair = lines.name(name), lines.number(first), lines.name(other), lines.number(second)
    if mated and pair[1] == pair[3]:
        raise lines.wrong("a mated pair needs two different images")
    if not mated and name == other:
        raise lines.wrong("a non-mated pair needs two different people")
    return pair


class _Lines:
    """The fields of a text file line by line, remembering where it is so that errors can say so."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.line = path, 0
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
            raise BadInput(f"{path}: cannot be read ({reason}): give a pairs or people file.") from None
        self._lines = text.removesuffix("\n").split("\n")

    def peek(self) -> list[str]:
        """The fields of the next line; none at the end."""
        return self._lines[self.line].split() if self.line < len(self._lines) else []

    def take(self, expected: str, *counts: int) -> list[str]:
        """The fields of the next line, as many as one of `counts`."""
        fields = self.peek()
        self.line += 1
        if not fields:
            what = "the file ends" if self.line > len(self._lines) else "the line is empty"
            raise self.wrong(f"{what} where {expected} was expected")
        if len(fields) not in counts:
            raise self.wrong(f"expected {expected}")
        return fields

    def starts_with_number(self) -> bool:
        fields = self.peek()
        return len(fields) == 1 and fields[0].isdigit()

    def whole(self) -> list[str]:
        """The lines that are not empty, each as it stands."""
        return [line.strip() for line in self._lines if line.strip()]

    def finish(self) -> None:
        """Refuse what follows, but for empty lines."""
        while self.line < len(self._lines):
            rest = self.peek()
            self.line += 1
            if rest:
                raise self.wrong("more lines than the header announces")

    def number(self, field: str) -> int:
        if not (field.isascii() and field.isdigit() and len(field) < 10 and int(field) > 0):
            raise self.wrong(f"{field!r} is not a positive whole number")
        return int(field)

    def name(self, field: str) -> str:
        # A name becomes part of a path, so it must stay below the folder of images.
        if "/" in field or "\\" in field or "\0" in field or field in (".", ".."):
            raise self.wrong(f"{field!r} is not a person's name")
        return field

    def wrong(self, what: str) -> BadInput:
        return BadInput(f"{self.path}, line {self.line}: {what}.")
