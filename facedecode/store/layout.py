"""How a store lies on disk: names, columns, the manifest with its checks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from facedecode.errors import BadInput

FORMAT = "facedecode embedding store"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
FAILURES = "failures.jsonl"
LABELS = "labels.csv"
PROGRESS = "progress.json"  # there from a run's first shard until its manifest
SHARD_NAME = re.compile(r"\d{5}\.(npy|parquet|done\.json)")

_MANIFEST_FIELDS = {
    "count": int,
    "dim": int,
    "shards": list,
    "failures": dict,
    "recognizer": dict,
    "root": str,
    "fingerprint": str,
}

# Every column may be null: a centroid has no image. box is x1, y1, x2, y2 and landmarks x1, y1 … x5, y5, both
# in pixels of the upright image; path is relative to the manifest's root; sha256 is the image file's.
COLUMNS = pa.schema(
    [
        ("path", pa.string()),
        ("identity", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("box", pa.list_(pa.float32(), 4)),
        ("landmarks", pa.list_(pa.float32(), 10)),
        ("probability", pa.float32()),
        ("sha256", pa.string()),
    ]
)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises BadInput naming the file where it is missing or something else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: holds no JSON object")
    return value


def has_marker(folder: Path, name: str) -> bool:
    """Whether `folder / name` is a manifest (or progress file) of a store, of whatever version."""
    try:
        return read_json(folder / name).get("format") == FORMAT
    except BadInput:
        return False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a finished store's manifest. Raises BadInput naming what is wrong with it."""
    path = folder / MANIFEST
    if not folder.is_dir():
        state = "not a folder" if folder.exists() else "no such folder"
        raise BadInput(f"{folder}: {state}; give an embedding store")
    if not path.exists():
        if has_marker(folder, PROGRESS):
            raise BadInput(f"{folder}: unfinished; run the same command again to resume")
        raise BadInput(f"{folder}: not an embedding store (no {MANIFEST}); make one with facedecode extract")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise BadInput(f"{path}: not the manifest of an embedding store")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BadInput(
            f"{path}: format version {manifest.get('format_version')!r}, and this facedecode reads "
            f"{FORMAT_VERSION}; use the version that wrote it"
        )
    for field, kind in _MANIFEST_FIELDS.items():
        if not isinstance(manifest.get(field), kind) or isinstance(manifest[field], bool):
            raise BadInput(f"{path}: field {field!r} is missing or malformed; make the store again")
    _check_shard_list(path, manifest)
    return manifest


def _check_shard_list(path: Path, manifest: dict[str, Any]) -> None:
    rows = 0
    for index, shard in enumerate(manifest["shards"]):
        if not isinstance(shard, dict) or not isinstance(shard.get("rows"), int) or shard["rows"] < 1:
            raise BadInput(f"{path}: shard {index} is malformed or empty; make the store again")
        if shard.get("file") != f"{index:05d}.npy":
            raise BadInput(f"{path}: gap in the numbering: {shard.get('file')!r} in place of {index:05d}.npy")
        rows += shard["rows"]
    if rows != manifest["count"] or rows == 0 or manifest["dim"] < 1:
        raise BadInput(f"{path}: {rows} rows in its shards and a count of {manifest['count']}; make it again")


def difference(there: dict[str, Any], here: dict[str, Any], where: tuple[str, str] = ("there", "here")) -> str | None:
    """Name the settings in which two JSON objects differ (the first three), or None where they are equal.

    where: what to call the two.
    """
    old, new = _flatten(there), _flatten(here)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if not keys:
        return None
    shown = [f"{key} {_short(old.get(key))} {where[0]}, {_short(new.get(key))} {where[1]}" for key in keys[:3]]
    return "; ".join(shown) + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}, to name what differs."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


_FAILURE_FIELDS = {"path", "stage", "reason"}


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of COLUMNS; a key that a row lacks is null.

    Raises BadInput for a path that is not valid UTF-8, ValueError for a key that is no column.
    """
    for row in rows:
        if unknown := set(row) - set(COLUMNS.names):
            raise ValueError(f"rows have no column {', '.join(sorted(unknown))}")
        try:
            (row.get("path") or "").encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{row['path']!r}: the file's name is not valid UTF-8; rename it") from error
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in COLUMNS.names}
    for name in ("box", "landmarks"):
        columns[name] = [
            None if value is None else np.asarray(value, dtype=np.float32).reshape(-1).tolist()
            for value in columns[name]
        ]
    return pa.table(columns, schema=COLUMNS)


def check_failures(failures: list[dict[str, str]]) -> None:
    """Raise ValueError unless each failure has just the fields path, stage and reason."""
    for failure in failures:
        if set(failure) != _FAILURE_FIELDS:
            raise ValueError(f"a failure has path, stage and reason, not {', '.join(sorted(failure))}")
