"""Writing a store shard by shard, so that a killed run resumes and ends with the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facedecode.errors import BadInput, OutputError
from facedecode.files import (
    json_text,
    locked,
    make_folder,
    sha256_file,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from facedecode.identity import Dim, RecognizerId, Sha256
from facedecode.known_pictures import FILE, KnownPictures
from facedecode.records import Count, Positive, Record, difference, read_json
from facedecode.store.layout import (
    FAILURES,
    FORMAT,
    FORMAT_VERSION,
    LABELS,
    MANIFEST,
    PROGRESS,
    SHARD_NAME,
    Failure,
    check_failures,
    has_marker,
    rows_table,
)
from facedecode.store.npy import write_templates
from facedecode.store.reader import Store

MAX_SHARDS = 100_000  # five digits: beyond that the names would no longer sort by number
_OWN_FIELDS = {
    *("format", "format_version", "count", "dim", "shard_rows", "shards", "failures"),
    *("recognizer", "settings", "root", "fingerprint", "known_pictures"),
}


@dataclass(frozen=True)
class _Done(Record):
    """What `NNNNN.done.json` says of a finished shard, beside the SHA-256 of what it says.

    fingerprint, root: of the run. npy_sha256, parquet_sha256: of its files. failures: since the shard before.
    inputs_done: inputs used up by all shards so far.
    """

    fingerprint: str
    root: str
    rows: Positive
    dim: Dim
    npy_sha256: Sha256
    parquet_sha256: Sha256
    failures: tuple[Failure, ...]
    inputs_done: Count


class StoreWriter:
    """Write a store, or resume one that a killed run left; a context manager that holds the folder's lock.

        with StoreWriter(folder, settings, root, recognizer, manifest={"score": "cosine"}) as writer:
            if not writer.complete:
                for ... in inputs[writer.resume_inputs:]:
                    writer.append(templates, rows, failures, inputs_done)
                writer.finish(failures_since_the_last_shard)

    Nothing in the folder changes before the first `append`, `begin` or `finish`; leaving the block without `finish`
    leaves what is done for the next run. A record `NNNNN.done.json` follows each shard and goes with the manifest.

    Args:
        settings: JSON; all that decides the numbers. With `recognizer` and `shard_rows` it gives the `fingerprint`, and
            a resumed run must have the same.
        root: folder that the rows' paths are relative to; a resumed run must have the same.
        shard_rows: rows of each shard except the last.
        overwrite: replace a store, finished or not, instead of resuming it.
        manifest: further fields of the manifest (score, l2_normalized, transform, precision, tool_version …).
        pictures: that recognizer and maps were made from, see `Store.known`; None where nobody recorded any.

    Attributes:
        complete: a finished store of the same settings is there and sound: nothing to do.
        resume_inputs: how many inputs are done already.
        fingerprint: SHA-256 of the settings, hex.

    Raises (on entering):
        OutputError: cannot be written; has other files and is no store; holds or lies in another store; was made with
            other settings and `overwrite` is off.
        OutputInUse: another run holds the folder.
        BadInput: a finished store of the same settings is there, but damaged.
    """

    def __init__(
        self,
        folder: Path | str,
        settings: dict[str, Any],
        root: Path | str,
        recognizer: RecognizerId,
        shard_rows: int = 4096,
        overwrite: bool = False,
        manifest: dict[str, Any] | None = None,
        pictures: KnownPictures | None = None,
    ) -> None:
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be at least 1, not {shard_rows}")
        if taken := _OWN_FIELDS & set(manifest or {}):
            raise ValueError(f"the store itself sets the manifest's {', '.join(sorted(taken))}")
        self.folder = Path(folder)
        self.shard_rows = shard_rows
        self.complete = False
        self.resume_inputs = 0
        self._overwrite = overwrite
        self._extra = dict(manifest or {})
        self._pictures = pictures
        # Through JSON, so that tuples compare equal to the lists that a file gives back.
        decides = {"settings": settings, "recognizer": recognizer.as_json(), "shard_rows": shard_rows}
        self._decides: dict[str, Any] = json.loads(json_text(decides))
        self.fingerprint = hashlib.sha256(json_text(self._decides).encode()).hexdigest()
        self._root = str(Path(root).resolve())
        self._done: list[_Done] = []
        self._begun = False
        self._finished = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StoreWriter:
        for parent in self.folder.resolve().parents:
            if has_marker(parent, MANIFEST) or has_marker(parent, PROGRESS):
                raise OutputError(f"{self.folder} lies in the store {parent}; name a folder outside it")
        made = not self.folder.exists()
        make_folder(self.folder)
        with contextlib.ExitStack() as stack:
            if made:
                stack.callback(self._remove_if_empty)
            stack.enter_context(locked(self.folder))
            self._look()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    # What is there

    def _look(self) -> None:
        """Find out whether to begin, resume, refuse, or do nothing."""
        finished, started = has_marker(self.folder, MANIFEST), has_marker(self.folder, PROGRESS)
        self._refuse_foreign(finished or started)
        if self._overwrite or not (finished or started):
            return
        self._refuse_other_settings(read_json(self.folder / (MANIFEST if finished else PROGRESS)))
        if finished:
            try:
                Store.open(self.folder)
            except BadInput as error:
                raise BadInput(f"{error} (--overwrite, or another output folder)") from error
            self.complete = self._finished = True
            self._clear_records()  # of a run killed between its manifest and here
        else:
            self._done = self._sound_records()
            self.resume_inputs = self._done[-1].inputs_done if self._done else 0

    def _refuse_foreign(self, is_store: bool) -> None:
        visible = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if visible and not is_store:
            raise OutputError(f"{self.folder} has files ({min(visible)} …) and is no store; name another")
        for path in sorted(self.folder.rglob("*.parquet")):
            if path.parent != self.folder or not SHARD_NAME.fullmatch(path.name):
                raise OutputError(f"{path} lies where a store is to go; move it or name another folder")

    def _refuse_other_settings(self, earlier: dict[str, Any]) -> None:
        here = {**self._decides, "root": self._root, "format_version": FORMAT_VERSION}
        if differs := difference({key: earlier.get(key) for key in here}, here):
            raise OutputError(
                f"{self.folder} was made with other settings ({differs}); use --overwrite or another folder"
            )

    def _sound_records(self) -> list[_Done]:
        """Done records up to the first that is missing or malformed, or whose files are not what it says."""
        records: list[_Done] = []
        while True:
            stem = f"{len(records):05d}"
            path = self.folder / f"{stem}.done.json"
            try:
                held = read_json(path)
                if held.pop("sha256", None) != sha256_of(json_text(held).encode()):
                    return records
                record = _Done.from_json(path, held)
                hashes = {"npy": record.npy_sha256, "parquet": record.parquet_sha256}
                same = all(sha256_file(self.folder / f"{stem}.{kind}") == sha256 for kind, sha256 in hashes.items())
            except BadInput:
                return records
            # Whose record: an overwriting run can be killed before it has removed the older ones.
            own = (record.fingerprint, record.root) == (self.fingerprint, self._root)
            before = records[-1] if records else None
            follows = before is None or (
                (before.rows, before.dim) == (self.shard_rows, record.dim) and before.inputs_done <= record.inputs_done
            )
            if not (own and same and follows and record.rows <= self.shard_rows):
                return records
            records.append(record)

    # Writing

    def append(
        self, templates: np.ndarray, rows: list[dict[str, Any]], failures: list[dict[str, str]], inputs_done: int
    ) -> None:
        """Write one shard.

        Args:
            templates: float32 (n, dim), n = `shard_rows`, or less for the last shard.
            rows: one dict for each template with keys of COLUMNS; a missing one is null.
            failures: {path, stage, reason} of each input that failed since the shard before.
            inputs_done: inputs used up by all shards so far, failed ones included.

        Raises BadInput: NaN or infinity, or a path that is not valid UTF-8, naming the row's path. OutputError: the
        folder cannot be written. ValueError: arguments that contradict each other.
        """
        templates = self._checked(templates, rows, failures, inputs_done)
        table = rows_table(rows)
        if len(self._done) >= MAX_SHARDS:
            raise OutputError(f"{self.folder}: more than {MAX_SHARDS} shards; use larger ones")
        self.begin()
        stem = f"{len(self._done):05d}"
        npy, parquet = self.folder / f"{stem}.npy", self.folder / f"{stem}.parquet"
        npy_sha256 = write_templates(npy, templates)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        parquet_sha256 = write_bytes(parquet, sink.getvalue().to_pybytes())
        record = _Done(
            self.fingerprint,
            self._root,
            len(rows),
            templates.shape[1],
            npy_sha256,
            parquet_sha256,
            tuple(Failure(**failure) for failure in failures),
            inputs_done,
        )
        held = record.as_json()
        digest = sha256_of(json_text(held).encode())
        write_json(self.folder / f"{stem}.done.json", held | {"sha256": digest})
        self._done.append(record)

    def _checked(
        self, templates: np.ndarray, rows: list[dict[str, Any]], failures: list[dict[str, str]], inputs_done: int
    ) -> np.ndarray:
        if self._finished:
            raise ValueError("the store is finished")
        templates = np.asarray(templates)
        if templates.ndim != 2 or templates.dtype != np.float32 or templates.shape[1] == 0:
            raise ValueError(f"templates must be float32 (n, dim), not {templates.dtype} {templates.shape}")
        if not 1 <= len(templates) <= self.shard_rows or len(rows) != len(templates):
            raise ValueError(f"{len(templates)} templates, {len(rows)} rows, shard_rows {self.shard_rows}")
        check_failures(failures)
        if self._done:
            last = self._done[-1]
            if last.rows != self.shard_rows:
                raise ValueError(f"only the last shard may have fewer than {self.shard_rows} rows")
            if last.dim != templates.shape[1]:
                raise ValueError(f"templates of {templates.shape[1]} values after some of {last.dim}")
            if inputs_done < last.inputs_done:
                raise ValueError(f"inputs_done goes back from {last.inputs_done} to {inputs_done}")
        finite = np.isfinite(templates).all(axis=1)
        if not finite.all():
            row = rows[int(np.argmin(finite))]
            raise BadInput(f"{row.get('path')}: its template holds NaN or infinity; leave that image out")
        return np.ascontiguousarray(templates, dtype="<f4")

    def finish(self, failures: list[dict[str, str]] | None = None) -> None:
        """Write the failures since the last shard and then the manifest, after which the store is complete.

        Raises BadInput: no input at all gave a template; nothing of this run is left. OutputError: the folder cannot be
        written.
        """
        if self._finished:
            return
        last = list(failures or [])
        check_failures(last)
        if not self._done:
            if self._begun or not self._overwrite:
                self._clear(keep=0)
            first = f"{last[0]['path']}: {last[0]['reason']}" if last else ""
            detail = f" ({len(last)} failed; the first, {first})" if last else ""
            raise BadInput(f"no usable input{detail}; give images that show a face")
        self.begin()
        everything = [failure.as_json() for record in self._done for failure in record.failures] + last
        lines = [json.dumps(failure, sort_keys=True) + "\n" for failure in everything]
        failures_sha256 = write_text(self.folder / FAILURES, "".join(lines))
        if self._pictures is not None:
            self._extra["known_pictures"] = self._pictures.write(self.folder / FILE)
        failures_file = {"count": len(everything), "sha256": failures_sha256}
        write_json(self.folder / MANIFEST, {**self._manifest(), "failures": failures_file})
        self._finished = True
        self._clear_records()

    def _manifest(self) -> dict[str, Any]:
        shards = [
            {
                "file": f"{index:05d}.npy",
                "rows": record.rows,
                "sha256": record.npy_sha256,
                "parquet_sha256": record.parquet_sha256,
            }
            for index, record in enumerate(self._done)
        ]
        return {
            **self._extra,
            **self._decides,
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "count": sum(record.rows for record in self._done),
            "dim": self._done[0].dim,
            "shards": shards,
            "root": self._root,
            "fingerprint": self.fingerprint,
        }

    # The folder

    def begin(self) -> None:
        """Drop what is not kept, and say in the folder what is being made; the first `append` does it by itself.

        For work that changes other files before that, so that from there on no manifest claims them.
        """
        if self._begun:
            return
        started = {**self._decides, "format": FORMAT, "format_version": FORMAT_VERSION, "root": self._root}
        # First the new marker, so that a run killed while it clears up leaves no folder that looks foreign. A
        # replaced store's manifest goes next: from there on the folder claims nothing.
        # In one line: where room is short, the shard after it is what does not fit.
        write_text(self.folder / PROGRESS, json.dumps(started, sort_keys=True, separators=(",", ":")))
        self._begun = True
        self._clear(keep=len(self._done), markers=False)

    def _clear(self, keep: int, markers: bool = True) -> None:
        """Remove the store's own files, except the first `keep` shards (and, if asked, the progress file)."""
        kept = {f"{index:05d}.{kind}" for index in range(keep) for kind in ("npy", "parquet", "done.json")}
        try:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for path in self.folder.iterdir():
                ours = SHARD_NAME.fullmatch(path.name) or path.name in (FAILURES, LABELS, FILE)
                if ours and path.name not in kept:
                    path.unlink()
            if markers:
                (self.folder / PROGRESS).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot clear {self.folder}: {error.strerror or error}") from error

    def _clear_records(self) -> None:
        """Remove what only an unfinished store needs, the progress file last."""
        try:
            for path in self.folder.iterdir():
                if path.name.endswith(".done.json") and SHARD_NAME.fullmatch(path.name):
                    path.unlink()
            (self.folder / PROGRESS).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot clear {self.folder}: {error.strerror or error}") from error
