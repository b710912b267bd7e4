"""A store whose templates each stand for several of another store: centroids of clusters, templates of persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facedecode import __version__
from facedecode.errors import OutputError
from facedecode.files import csv_text, write_text
from facedecode.store import Store, StoreWriter
from facedecode.store.processing import inherited

GROUPS, MEMBERS = "groups.csv", "members.csv"
_SHARD_ROWS = 4096


@dataclass(frozen=True)
class Group:
    """What one template stands for.

    identity: of its members; None where they have several or none. members: int64 (m,), rows of the source store.
    distances: float (m,), of each member to the template; None where they were not measured.
    figures: further columns of its row in groups.csv.
    """

    identity: str | None
    members: np.ndarray
    distances: np.ndarray | None = None
    figures: dict[str, Any] | None = None


def grouped_writer(
    store: Store, output: Path, kind: Literal["cluster", "aggregate"], about: dict[str, Any], overwrite: bool = False
) -> StoreWriter:
    """The place for a store of groups' templates, to be held (`with`) while they are made: it refuses before the work.

    store: the source.
    kind: the field of the manifest, and of the settings, that takes `about`: JSON, all that decides the templates.

    Raises OutputError, OutputInUse: see `StoreWriter`; also where the output is the store itself.
    """
    if output.exists() and output.resolve() == store.folder.resolve():
        raise OutputError(f"{output}: is the store that is to be read; name another folder")
    manifest = {**inherited(store), kind: about, "l2_normalized": False}
    manifest |= {"score": store.score, "tool_version": __version__}
    settings = {"source": store.fingerprint, kind: about}
    return StoreWriter(
        output, settings, store.root, store.recognizer, _SHARD_ROWS, overwrite, manifest, store.known.pictures
    )


def write_groups(writer: StoreWriter, store: Store, templates: np.ndarray, groups: Sequence[Group]) -> None:
    """Write the groups' templates, float32 (groups, dim), with groups.csv and members.csv beside the shards.

    groups.csv has row, identity, count and figures of each template; members.csv has group (a row of the new store),
    row, path and identity in the source store, and distance of each member.

    Raises OutputError: see `StoreWriter`. BadInput: NaN or infinity.
    """
    # The tables are the same for the same settings: a run killed before them writes them now.
    if not writer.complete:
        rows = [{"identity": group.identity} for group in groups]
        for start in range(writer.resume_inputs, len(groups), _SHARD_ROWS):
            part = slice(start, start + _SHARD_ROWS)
            made = np.ascontiguousarray(templates[part], np.float32)
            writer.append(made, rows[part], [], start + len(made))
    write_text(writer.folder / GROUPS, _groups(groups))
    write_text(writer.folder / MEMBERS, _members(store, groups))
    writer.finish()


def _groups(groups: Sequence[Group]) -> str:
    names = list(dict.fromkeys(name for group in groups for name in group.figures or {}))
    rows = []
    for i, group in enumerate(groups):
        figures = [_cell((group.figures or {}).get(name)) for name in names]
        rows.append([i, group.identity, len(group.members), *figures])
    return csv_text(["row", "identity", "count", *names], rows)


def _members(store: Store, groups: Sequence[Group]) -> str:
    paths, identities = store.paths(), store.identities()
    rows = []
    for i, group in enumerate(groups):
        distances = [None] * len(group.members) if group.distances is None else group.distances
        for row, distance in zip(group.members.tolist(), distances, strict=True):
            rows.append([i, row, paths[row], identities[row], _cell(distance)])
    return csv_text(["group", "row", "path", "identity", "distance"], rows)


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else value
