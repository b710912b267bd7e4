"""What `walk` reads and writes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from facedecode.errors import BadInput
from facedecode.files import atomic_write
from facedecode.inversion.inverted_files import Given
from facedecode.inversion.walk import Strips, Walks
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.store.images import read_portraits


def find_rows(given: Given, names: Sequence[str], option: str) -> list[int]:
    """The rows that are meant: a row's number, an image's path in the store, or the part of it after the last slash.

    Raises:
        BadInput: there is no such row, or more than one of that name.
    """
    paths = [row["path"] for row in given.rows or ()]
    places = {path: i for i, path in enumerate(paths) if path is not None}
    short: dict[str, list[int]] = {}
    for path, i in places.items():
        name = PurePosixPath(path)
        for end in {name.name, name.stem}:
            short.setdefault(end, []).append(i)
    return [_row(name, option, len(given.templates), places, short) for name in names]


def write_strips(
    output: Path, given: Given, walks: Walks, strips: Strips, ends: tuple[list[int], list[int]] | None = None
) -> None:
    """One PNG, a strip in a row, under each picture its place and scores.

    ends: rows of the starts and of the goals (one for all, or one each; none along a direction), whose portraits stand
        at the ends.
    """
    side = strips.pictures.shape[2]
    rows = list(strips.pictures)
    captions = [
        [_caption(amount, *scores) for amount, *scores in zip(walks.amounts, *found, strict=True)]
        for found in zip(*(x for x in (strips.to_start, strips.to_end) if x is not None), strict=True)
    ] or [[_caption(amount) for amount in walks.amounts]] * len(rows)
    for where, chosen in enumerate(ends or ()):
        if not chosen:
            continue
        portraits = read_portraits([given.rows[i] for i in chosen], given.root, side)
        portraits = np.broadcast_to(portraits, (len(rows), *portraits.shape[1:]))
        for i, portrait in enumerate(portraits):
            pair = (portrait[None], rows[i]) if where == 0 else (rows[i], portrait[None])
            rows[i] = np.concatenate(pair)
            captions[i] = ["original", *captions[i]] if where == 0 else [*captions[i], "original"]
    save_image(output, picture_grid(rows, captions=captions))


def write_templates(path: Path, walks: Walks) -> None:
    """All templates, strip after strip, as a bare float32 .npy file (strips · steps, dim), atomically."""
    flat = np.ascontiguousarray(walks.templates.reshape(-1, walks.templates.shape[-1]), "<f4")
    with atomic_write(path) as file:
        np.lib.format.write_array(file, flat, version=(1, 0), allow_pickle=False)


def _row(name: str, option: str, count: int, places: dict[str, int], short: dict[str, list[int]]) -> int:
    if name in places:
        return places[name]
    if found := short.get(name):
        if len(found) > 1:
            raise BadInput(f"{option} {name}: {len(found)} images have that name; give the path from the source root")
        return found[0]
    if name.isdecimal():
        if int(name) < count:
            return int(name)
        raise BadInput(f"{option} {name}: the templates are numbered from 0 to {count - 1}")
    near = difflib.get_close_matches(name, [*places, *short], 3, 0.6)
    hint = f"there are {', '.join(near)}" if near else "give an image's path in the store, or a row's number"
    raise BadInput(f"{option} {name}: no template of that image; {hint}")


def _caption(amount: float, *scores: float) -> str:
    return f"{amount:.2f}" + (f": {' / '.join(f'{score:.2f}' for score in scores)}" if scores else "")
