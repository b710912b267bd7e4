"""Who takes part: files of people, and people held out of a fit.

Source of LFW's people files: its own README (sections 3a to 3d). Fields are parted by tabs or other white space. View
2: ``FOLDS``, then for each fold ``N`` and N lines ``name images``; View 1: one such block.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facedecode.annotations.lines import Lines
from facedecode.annotations.listing import read_people_list
from facedecode.annotations.tables import TextFile, person_column, plain, read_text_file
from facedecode.errors import BadInput, FacedecodeWarning, UsageError
from facedecode.names import comparable_name, person_name

_FIELDS = re.compile(r".+\s[0-9]+")  # a line of LFW's people format: 'name images'
_HEADERS = ("identity", "person", "name", "subject")  # of a list with a name a line


class Person(NamedTuple):
    """One line of a people file: the name, how many images there are, and the fold (0 for View 1)."""

    name: str
    images: int
    fold: int


def read_people(path: str | Path) -> list[Person]:
    """Read a people file of View 1 or View 2. BadInput names the file and the line that is wrong."""
    return _read_people(read_text_file(path))


def _read_people(file: TextFile) -> list[Person]:
    lines = Lines(file)
    count = lines.number(*lines.take("one number, of people (View 1) or of folds (View 2)", 1))
    if len(lines.peek()) != 1:
        people = _read_block(lines, count, fold=0)
    else:
        people = []
        for fold in range(count):
            (size,) = lines.take(f"the number of people in fold {fold + 1}", 1)
            people += _read_block(lines, lines.number(size), fold)
    lines.finish()
    _require_once(file.path, [person.name for person in people])
    return people


def people_names(path: str | Path) -> list[str]:
    """The people of a file: LFW's people format (see `read_people`), or a plain list with a name on each line.

    A table's column of people counts, too. Of a line with tabs, the first field is the name. A number in the first line
    of a plain list is how many follow, where it agrees with them; else it is a person's name. Empty lines of a plain
    list are passed over. BadInput as `read_people`.
    """
    file = read_text_file(path)
    count, others = file.first_number(), [line.strip() for _, line in file.lines[1:]]
    # Where most lines are of LFW's format, the others are meant to be.
    if count is not None and others and 2 * sum(bool(_FIELDS.fullmatch(line)) for line in others) >= len(others):
        return [person.name for person in _read_people(file)]
    header = file.table().sample()[0]
    if len(header) > 1 and person_column(header, []):
        written = read_people_list(file.path).people
        names = list(dict.fromkeys(name for name in written if name))
    else:
        named = (count == len(others) or plain(file.lines[0][1]) in _HEADERS) and others
        if named and all(line.isdecimal() for line in others):
            said = f"{path}: {file.lines[0][1].strip()} in the first line is how many people follow, and nobody's name"
            warnings.warn(said, FacedecodeWarning, stacklevel=2)
        lines = others if named else [file.lines[0][1], *others]
        names = [name for name in (person_name(line.strip().partition("\t")[0]) for line in lines) if name]
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


def excluded_people(
    names: Iterable[str | None], exclude: Sequence[str], whose: str = "in the store"
) -> set[str | None]:
    """Those of the names that `exclude` leaves out, however it writes them. BadInput: nobody is called so."""
    forms: dict[str, set[str | None]] = {}
    if exclude:
        for name in set(names) - {None}:
            forms.setdefault(comparable_name(name), set()).add(name)
    if unknown := [name for name in exclude if comparable_name(name) not in forms]:
        raise BadInput(f"--exclude {unknown[0]}: nobody {whose} has that name")
    return set().union(*(forms[comparable_name(name)] for name in exclude))


def select_people(identities: list[str | None], people: Path | None, exclude: tuple[str, ...] = ()) -> np.ndarray:
    """Row numbers of the people to use: those of a file (all if None), less some.

    BadInput: nobody is left, or a person to leave out is not among them.
    """
    wanted = None if people is None else set(people_names(people))
    names = [person_name(name) for name in identities]
    left_out = excluded_people(names, exclude)
    rows = [i for i, name in enumerate(names) if name not in left_out and (wanted is None or name in wanted)]
    if not rows:
        raise BadInput(f"{people}: none of these people is in the store" if people else "nobody is left to train on")
    return np.array(rows)


def _read_block(lines: Lines, count: int, fold: int) -> list[Person]:
    people = []
    for _ in range(count):
        *name, images = lines.take("'name images'", *range(2, 10))
        people.append(Person(lines.name(" ".join(name)), lines.number(images), fold))
    return people
