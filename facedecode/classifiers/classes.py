"""Whom a classifier can tell apart: people of a store with images enough, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput, UsageError
from facedecode.store import Store

HELD_OUT = 0.2  # of each person's images


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a fit.

    rows: int64 (n,), the store's rows, sorted. paths, names: n of each. held_out: bool (n,).
    left_out: JSON; how many people have too few images, and how many images have no name or are copies of others.
    """

    rows: np.ndarray
    paths: list[str]
    names: list[str]
    held_out: np.ndarray
    left_out: dict[str, int]


def choose_images(
    store: Store, people: Path | None, exclude: tuple[str, ...], min_images: int, share: float = HELD_OUT
) -> Images:
    """The images of people who have enough, a share of each person's (at least one) held out.

    Which ones depends on a person's own paths only (`held_out_images`). Of copies of one file, in whatever folder of
    the person, the first by path is taken: one in training and another held out would flatter the accuracy.

    Raises BadInput: no template has a person, or one of these has no image; fewer than two people have images enough.
    UsageError: `min_images` below 2, which leaves nothing to hold out or to train on.
    """
    if min_images < 2:
        raise UsageError(f"--min-images {min_images}: give 2 or more, one to train on and one to hold out")
    table = store.columns(["path", "identity", "sha256"]).to_pylist()
    chosen = [int(i) for i in select_people([row["identity"] for row in table], people, exclude)]
    named = [i for i in chosen if table[i]["identity"]]
    if not named:
        raise BadInput(f"{store.folder}: no template has a person; extract a folder with a subfolder for each person")
    if any(not table[i]["path"] for i in named):
        raise BadInput(f"{store.folder}: has templates without an image; use a store made by 'extract'")
    named.sort(key=lambda i: table[i]["path"])
    first: dict[tuple, int] = {}
    for i in named:
        first.setdefault((table[i]["identity"], table[i]["sha256"] or table[i]["path"]), i)
    counts = Counter(name for name, _ in first)
    enough = {name for name, count in counts.items() if count >= min_images}
    if len(enough) < 2:
        raise BadInput(f"{store.folder}: {_who_has_how_many(counts, min_images)}")
    rows = np.array(sorted(i for (name, _), i in first.items() if name in enough), np.int64)
    paths, names = ([table[i][key] for i in rows] for key in ("path", "identity"))
    left_out = {
        "people": len(counts) - len(enough),
        "unnamed": len(chosen) - len(named),
        "copies": len(named) - len(first),
    }
    return Images(rows, paths, names, held_out_images(names, paths, share), left_out)


def held_out_images(names: Sequence[str], paths: Sequence[str], share: float = HELD_OUT) -> np.ndarray:
    """Which images to keep out of a fit, bool (n,): a share of each person's, rounded, at least one.

    They are those whose paths hash lowest, so that it depends on neither the order nor other people.
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(name, []).append(row)
    held_out = np.zeros(len(paths), bool)
    for rows in members.values():
        rows.sort(key=lambda row: hashlib.sha256(f"image:{paths[row]}".encode("utf-8", "surrogatepass")).digest())
        held_out[rows[: max(1, round(share * len(rows)))]] = True
    return held_out


def _who_has_how_many(counts: Counter[str], wanted: int) -> str:
    """Why there are too few people, and with which threshold there would be more."""
    steps = sorted({wanted, *(n for n in (2, 5, 10, 20) if n < wanted)}, reverse=True)
    having = [(n, sum(count >= n for count in counts.values())) for n in steps]
    numbers = ", ".join(f"{people} with {n} or more" for n, people in having)
    most = ", ".join(f"{name} {count}" for name, count in counts.most_common(3))
    return (
        f"of {len(counts)} people there are {numbers} (most images: {most}), and a classifier takes two or more; "
        "lower --min-images, or give more people"
    )
