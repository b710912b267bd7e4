"""How a store lies on disk: names, columns, the manifest with its checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facedecode.errors import BadInput
from facedecode.identity import Dim, RecognizerId, Score, Sha256
from facedecode.records import Count, Limit, Migration, Positive, Record, migrated, parse_json, read_json
from facedecode.store.paths import require_path
from facedecode.store.processing import Processing

FORMAT = "facedecode embedding store"
FORMAT_VERSION = 1
# Version → what makes a manifest of that version one of the next.
MIGRATIONS: dict[int, Migration] = {}
MANIFEST = "manifest.json"
FAILURES = "failures.jsonl"
LABELS = "labels.csv"
LEVEL = "identity_level"  # a setting: of the folder that is the person, where it is not the image's own
PROGRESS = "progress.json"  # there from a run's first shard until its manifest
SHARD_NAME = re.compile(r"[0-9]{5}\.(npy|parquet|done\.json)")

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
TEXTS = [column.name for column in COLUMNS if pa.types.is_string(column.type)]


def has_marker(folder: Path, name: str) -> bool:
    """Whether `folder / name` is a manifest (or progress file) of a store, of whatever version."""
    try:
        return read_json(folder / name).get("format") == FORMAT
    except BadInput:
        return False


def recorded_settings(folder: Path) -> dict[str, Any]:
    """The settings of the store that is in a folder, finished or not; empty where there is none."""
    marker = next((name for name in (MANIFEST, PROGRESS) if has_marker(folder, name)), None)
    settings = read_json(folder / marker).get("settings") if marker else None
    return settings if isinstance(settings, dict) else {}


@dataclass(frozen=True)
class Shard(Record):
    """One shard: its `.npy` file, the rows in it, and the hashes of it and of the `.parquet` file beside it."""

    file: str
    rows: Positive
    sha256: Sha256
    parquet_sha256: Sha256


@dataclass(frozen=True)
class FailuresFile(Record):
    """How many inputs gave no template, and the hash of the file that lists them."""

    count: Count
    sha256: Sha256


@dataclass(frozen=True, kw_only=True)
class Manifest(Processing):
    """What a finished store's manifest says of it.

    recognizer: that made the templates.
    score: how they compare.
    count, dim: of the templates. shards: in their order; each but the last has `shard_rows` rows.
    failures: the inputs that gave no template.
    root: absolute path of the folder that the rows' paths are relative to.
    settings: all that decides the numbers; with recognizer and `shard_rows` it gives the `fingerprint`.
    tool_version: of the facedecode that wrote it.
    known_pictures: SHA-256 of the file of the pictures that recognizer and maps were made from; None without one.
    """

    REMEDY: ClassVar[str] = "make the store again"

    recognizer: RecognizerId
    score: Score
    count: Positive
    dim: Dim
    shards: tuple[Shard, ...]
    failures: FailuresFile
    root: Annotated[str, Limit(lambda text: bool(text) and "\0" not in text, "a path")]
    fingerprint: str
    shard_rows: Positive
    settings: dict[str, Any] = field(default_factory=dict)
    tool_version: str | None = None
    known_pictures: Sha256 | None = None

    @property
    def identity_level(self) -> int:
        """Which folder above an image is its person, see `finding.folder_identity`. Raises BadInput: it is no level."""
        level = self.settings.get(LEVEL, 1)
        if not isinstance(level, int) or level < 1:
            raise BadInput(f"settings.{LEVEL} of the store is {level!r} and no level of a folder; {self.REMEDY}")
        return level

    def check_shards(self, path: Path) -> None:
        """Refuse shards that are not numbered one after the other, or do not add up. Raises BadInput naming `path`."""
        for index, shard in enumerate(self.shards):
            if shard.file != f"{index:05d}.npy":
                raise BadInput(f"{path}: gap in the numbering: {shard.file!r} in place of {index:05d}.npy")
        if (rows := sum(shard.rows for shard in self.shards)) != self.count:
            raise BadInput(f"{path}: {rows} rows in its shards and a count of {self.count}; make it again")


def read_manifest(folder: Path) -> Manifest:
    """Read and check a finished store's manifest. Raises BadInput naming what is wrong with it."""
    path = folder / MANIFEST
    if not folder.is_dir():
        state = "not a folder" if folder.exists() else "no such folder"
        raise BadInput(f"{folder}: {state}; give an embedding store")
    if not path.exists():
        if has_marker(folder, PROGRESS):
            raise BadInput(f"{folder}: unfinished; run the same command again to resume")
        raise BadInput(f"{folder}: not an embedding store (no {MANIFEST}); make one with facedecode extract")
    held = read_json(path)
    if held.get("format") != FORMAT:
        raise BadInput(f"{path}: not the manifest of an embedding store")
    held = migrated(path, held, "format_version", FORMAT_VERSION, MIGRATIONS, "use the version that wrote it")
    manifest = Manifest.from_json(path, held)
    manifest.check_shards(path)
    return manifest


@dataclass(frozen=True)
class Failure(Record):
    """An input that gave no template: its path below the root, at which stage it failed, and why."""

    REMEDY: ClassVar[str] = "make the store again"

    path: str
    stage: str
    reason: str


_FAILURE_FIELDS = {"path", "stage", "reason"}
# RE2's: paths that `why_no_path` may refuse; it looks at the long ones, too.
_DOUBTFUL = r"^$|^[/\\]|/$|//|(^|[/\\])\.\.?([/\\]|$)|\x00|^[A-Za-z]:"
_SURELY_SHORT = 255  # bytes
LONGEST_TEXT = 1 << 12  # bytes of a path or an identity
_FARTHEST = 1e6  # pixels: no picture is larger, and no face is seen beyond its edges by more


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of COLUMNS; a key that a row lacks is null.

    Raises BadInput for a path that is not valid UTF-8, and for what `check_rows` refuses; ValueError for a key that is
    no column.
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
    table = pa.table(columns, schema=COLUMNS)
    check_rows("the rows", table)
    return table


def check_rows(where: object, table: pa.Table) -> None:
    """Refuse rows with values that no image, face or path has. Raises BadInput naming `where` and the column.

    table: of COLUMNS.
    """

    def require(name: str, valid: pa.ChunkedArray, wanted: str) -> None:
        if pc.min(valid).as_py() is False:  # nulls are skipped: every column may be null
            raise BadInput(f"{where}: a {name} is not {wanted}; make the store again")

    for name in ("width", "height"):
        require(name, pc.greater(table[name], 0), "at least 1")
    for name in ("box", "landmarks"):
        numbers = pc.list_flatten(table[name])
        # Also false for what is no number.
        require(name, pc.less_equal(pc.abs(numbers.fill_null(np.nan)), _FARTHEST), "of numbers up to a million")
    for name in TEXTS:
        require(name, pc.less_equal(pc.binary_length(table[name]), LONGEST_TEXT), f"of at most {LONGEST_TEXT:,} bytes")
    probable = table["probability"]
    require("probability", pc.and_(pc.greater_equal(probable, 0), pc.less_equal(probable, 1)), "from 0 to 1")
    paths = table["path"]
    doubtful = pc.or_(pc.match_substring_regex(paths, _DOUBTFUL), pc.greater(pc.binary_length(paths), _SURELY_SHORT))
    for path in paths.filter(doubtful).to_pylist():
        require_path(where, path)


def check_failures(failures: list[dict[str, str]]) -> None:
    """Raise ValueError unless each failure has just the fields path, stage and reason."""
    for failure in failures:
        if set(failure) != _FAILURE_FIELDS:
            raise ValueError(f"a failure has path, stage and reason, not {', '.join(sorted(failure))}")


def read_failures(where: object, data: bytes, count: int) -> list[dict[str, str]]:
    """The failures in the bytes of a `failures.jsonl`.

    count: of them, as the manifest says.

    Raises BadInput naming `where`: another count; naming also the line: what is no failure.
    """
    lines = data.split(b"\n")[:-1] if data.endswith(b"\n") else [data] if data else []
    if len(lines) != count:
        raise BadInput(f"{where}: {len(lines)} lines where the manifest says {count}; make the store again")
    failures = []
    for number, line in enumerate(lines, 1):
        place = f"{where}, line {number}"
        failure = Failure.from_json(place, parse_json(place, line))
        require_path(place, failure.path)
        failures.append(failure.as_json())
    return failures
