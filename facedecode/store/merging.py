"""Stores of different images → one store, as if their images had been extracted together; shard by shard."""

from __future__ import annotations

import functools
import operator
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from facedecode import __version__
from facedecode.errors import BadInput, FacedecodeWarning, OutputError, UsageError, some_of
from facedecode.progress import Progress, silent
from facedecode.records import difference
from facedecode.store import Store, StoreWriter
from facedecode.store.layout import LABELS
from facedecode.store.processing import INHERITED, inherited

# Of a store's settings: what its images are, and what moves templates by rounding only. Recorded of each part.
_OF_PARTS = ("inputs", "inputs_sha256", "device", "batch_size", "imported")
# Of its manifest: what decides what templates are, and is in no settings of some stores.
_COMMON = ("score", "l2_normalized", *INHERITED)
_INPUT = tuple[str, int, int]  # path in the new store, number of the store, row there; -1 for a failure


@dataclass(frozen=True)
class Merged:
    """What a run left: templates and failures in the store, and how many inputs were there before."""

    count: int
    failures: int
    resumed: int


def merge_stores(
    stores: Sequence[Store],
    output: Path,
    images: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Merged:
    """Make one store of several, of the same recognizer and settings, and of images that no two of them share.

    Rows and failures are in the order of their paths, as `extract` has them, whatever the order of the stores. All of a
    row stays to the bit but the path's root: of different roots, it is the deepest folder above them all.

    Args:
        stores: at least two, opened.
        output: the new store's folder; an interrupted run there is resumed.
        images: the folder that holds all images now, at the paths that the stores have.
        progress: called with (rows done, all rows).

    Raises:
        UsageError: fewer than two stores.
        BadInput: naming two stores: made differently, or with the same image; naming one: templates without an image.
        OutputError, OutputInUse: see `StoreWriter`; also where `output` is one of the stores.

    Warns FacedecodeWarning: pictures with the same content under different names; labels, which are not merged.
    """
    if len(stores) < 2:
        raise UsageError("one store is nothing to merge; give at least two")
    for store in stores:
        if output.exists() and output.resolve() == store.folder.resolve():
            raise OutputError(f"{output}: is one of the stores that are to be read; name another folder")
    if labeled := [store.folder for store in stores if (store.folder / LABELS).exists()]:
        warnings.warn(
            f"{some_of(labeled)}: {LABELS} is no part of a store and is not merged", FacedecodeWarning, stacklevel=2
        )
    # By what is in them, so that the order in which they are given changes nothing.
    stores = sorted(stores, key=lambda store: (store.fingerprint, str(store.root)))
    common = _common_settings(stores)
    root, prefixes = _root([store.root for store in stores], images)
    inputs = _inputs(stores, prefixes)
    of_parts = [{k: v for k, v in _settings(store).items() if k in _OF_PARTS} for store in stores]
    parts = [
        {"store": s.fingerprint, "count": len(s), **settings_of}
        for s, settings_of in zip(stores, of_parts, strict=True)
    ]
    first = stores[0].manifest
    shard_rows = first.shard_rows
    manifest = {"score": first.score, "l2_normalized": first.l2_normalized, "tool_version": __version__}
    manifest |= inherited(stores[0])
    settings = {**common, "merged": parts}
    known = functools.reduce(operator.or_, (store.known for store in stores)).pictures
    with StoreWriter(output, settings, root, stores[0].recognizer, shard_rows, overwrite, manifest, known) as writer:
        resumed = len(inputs) if writer.complete else writer.resume_inputs
        failures = [{f["path"]: f for f in store.failures()} for store in stores]
        position, total = resumed, sum(map(len, stores))
        done = sum(row >= 0 for _, _, row in inputs[:resumed])
        progress(done, total)
        while position < len(inputs):
            end = _shard_end(inputs, position, shard_rows)
            chosen = inputs[position:end]
            failed = [{**failures[s][_old_path(path, prefixes[s])], "path": path} for path, s, row in chosen if row < 0]
            kept = [each for each in chosen if each[2] >= 0]
            position = end
            if not kept:
                writer.finish(failed)
                break
            writer.append(*_taken(stores, kept), failed, position)
            done += len(kept)
            progress(done, total)
        writer.finish()
    return Merged(total, sum(map(len, failures)), resumed)


def _settings(store: Store) -> dict[str, Any]:
    return store.manifest.settings


def _common_settings(stores: Sequence[Store]) -> dict[str, Any]:
    """What all the stores were made by; refused where it is not the same."""

    def decides(store: Store) -> dict[str, Any]:
        settings = {k: v for k, v in _settings(store).items() if k not in (*_OF_PARTS, "merged")}
        fields = {name: getattr(store.manifest, name) for name in (*_COMMON, "shard_rows")}
        made_of = _settings(store).get("merged", [])
        fields["imported"] = store.manifest.imported is not None or any("imported" in part for part in made_of)
        return {"recognizer": store.recognizer.as_json(), "settings": settings, **fields}

    first = stores[0]
    for other in stores[1:]:
        where = f"in {first.folder}", f"in {other.folder}"
        if differs := difference(decides(first), decides(other), where):
            raise BadInput(
                f"{first.folder} and {other.folder} were not made alike ({differs}); merge stores of one recognizer "
                "and the same settings"
            )
    return decides(first)["settings"]


def _root(roots: Sequence[Path], images: Path | None) -> tuple[Path, list[str]]:
    """The new root, and what goes before each store's paths."""
    if images is not None:
        return images, [""] * len(roots)
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError:  # drives of Windows
        raise BadInput(f"{some_of(roots)}: no folder holds them all; name one that does with --images") from None
    return root, ["" if each == root else each.relative_to(root).as_posix() for each in roots]


def _old_path(path: str, prefix: str) -> str:
    """A path of the new store as its old store has it."""
    return path.removeprefix(f"{prefix}/") if prefix else path


def _inputs(stores: Sequence[Store], prefixes: Sequence[str]) -> list[_INPUT]:
    """All inputs in order of their paths; refused where two stores have the same."""
    inputs: list[_INPUT] = []
    named: dict[tuple[str, str], int] = {}  # what a picture is called in its store, and its content
    contents: dict[str, int] = {}
    twice = 0
    for number, (store, prefix) in enumerate(zip(stores, prefixes, strict=True)):
        table = store.columns(["path", "sha256"])
        if table["path"].null_count:
            raise BadInput(f"{store.folder}: has templates without an image of their own; give stores of 'extract'")
        for row, (path, digest) in enumerate(zip(*(c.to_pylist() for c in table.columns), strict=True)):
            inputs.append((f"{prefix}/{path}" if prefix else path, number, row))
            # Of images that are not there, nothing but their whole path tells that they are the same.
            other = number if digest is None else named.setdefault((path, digest), number)
            if other != number:
                raise _shared(stores[other], store, path)
            twice += contents.setdefault(digest, number) != number and digest is not None
        inputs += [(f"{prefix}/{f['path']}" if prefix else f["path"], number, -1) for f in store.failures()]
    inputs.sort()
    for (path, one, _), (next_path, other, _) in pairwise(inputs):
        if path == next_path and one != other:
            raise _shared(stores[one], stores[other], path)
    if twice:
        warnings.warn(
            f"{twice} pictures are in two of the stores under different names, and will count twice",
            FacedecodeWarning,
            stacklevel=3,
        )
    return inputs


def _shared(one: Store, other: Store, path: str) -> BadInput:
    return BadInput(f"{one.folder} and {other.folder} both have {path}; merge stores of different images")


def _shard_end(inputs: Sequence[_INPUT], start: int, rows: int) -> int:
    """Where a shard that begins here ends: after its last row, or, where it is not filled, after all inputs."""
    filled = 0
    for position in range(start, len(inputs)):
        filled += inputs[position][2] >= 0
        if filled == rows:
            return position + 1
    return len(inputs)


def _taken(stores: Sequence[Store], kept: Sequence[_INPUT]) -> tuple[np.ndarray, list[dict]]:
    """Templates and rows of a shard of the new store."""
    templates = np.empty((len(kept), stores[0].dim), np.float32)
    rows: list[dict] = [{} for _ in kept]
    for number, store in enumerate(stores):
        places = [place for place, (_, of_store, _) in enumerate(kept) if of_store == number]
        if not places:
            continue
        numbers = np.array([kept[place][2] for place in places])
        templates[places] = store.take(numbers)
        for place, row in zip(places, store.take_rows(numbers).to_pylist(), strict=True):
            rows[place] = {**row, "path": kept[place][0]}
    return templates, rows
