"""Reading stores and bare template files, strictly."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facedecode import known_pictures
from facedecode.errors import BadInput, FacedecodeWarning, some_of
from facedecode.files import read_file, sha256_of
from facedecode.identity import RecognizerId, Score
from facedecode.known_pictures import Known, KnownPictures, MadeBy
from facedecode.options import ImageOptions
from facedecode.records import read_json
from facedecode.store.layout import (
    COLUMNS,
    FAILURES,
    FORMAT,
    LONGEST_TEXT,
    MANIFEST,
    PROGRESS,
    SHARD_NAME,
    TEXTS,
    Manifest,
    check_rows,
    has_marker,
    read_failures,
    read_manifest,
)
from facedecode.store.npy import NpyHeader, read_array, read_bare, read_header, refuse_non_finite
from facedecode.store.parquet_footer import COMMON_ENCODINGS, column_parts
from facedecode.store.paths import ImageFolder
from facedecode.store.processing import Processing

_ROWS_AT_ONCE = 1 << 16  # whose pictures are listed
_HELD = 1 << 26  # bytes of shards that `Store.take` keeps for the next call
# Bytes of a row, and of a file beside its rows, that are more than any has: what is larger is not read.
_LARGEST_ROW, _LARGEST_FRAME = 1 << 14, 1 << 20
_LARGEST_FAILURE = 1 << 16  # bytes of one, likewise: each byte of a path may take six
_NUMBERS = sum(getattr(column.type, "list_size", 1) for column in COLUMNS)  # of a row, with its texts


class Templates(Protocol):
    """What evaluations read of a store, and of what stands in its place."""

    folder: Path
    recognizer: RecognizerId

    @property
    def manifest(self) -> Processing: ...

    @property
    def score(self) -> Score: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def known(self) -> Known: ...

    def templates(self) -> np.ndarray: ...

    def paths(self) -> list[str | None]: ...

    def failures(self) -> list[dict[str, str]]: ...


class Store:
    """A finished embedding store, read strictly. Open one with `Store.open`.

    Whatever is read of it is the bytes that the manifest has the SHA-256 of: a file is read once for each use, hashed,
    and taken from those very bytes. So every method below raises BadInput for a file that was changed since.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.dim: int = manifest.dim
        self.recognizer: RecognizerId = manifest.recognizer
        self.root = Path(manifest.root)
        self.fingerprint: str = manifest.fingerprint
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    @property
    def score(self) -> Score:
        """How its templates compare; higher is more alike."""
        return self.manifest.score

    @classmethod
    def open(cls, folder: Path | str, verify: bool = True) -> Store:
        """Open a finished store.

        verify: also read every file now, so that what is wrong with one is said before any work.

        Raises BadInput: naming the file: no store, an unfinished one, a newer version, Fortran order, a wrong dtype, a
        shard that is not 2-D, mixed dims, gaps in the numbering, row counts that disagree, NaN or infinity, a wrong
        SHA-256, an object array, a `.parquet` file that does not belong, rows with values that no image or face has, a
        path that is none below the root.

        Warns FacedecodeWarning: `.npy` files that are not the store's; they are ignored.
        """
        store = cls(Path(folder), read_manifest(Path(folder)))
        store._check_strays()
        for index in range(len(store.manifest.shards)):
            store._check_shard(index, verify)
        if verify:
            store.failures()
        return store

    @cached_property
    def known(self) -> Known:
        """Whom and which pictures its recognizer, and what its templates were changed by, were made from.

        Raises BadInput: as `KnownPictures.read`.
        """
        made_by, sha256 = self.recognizer.unprotected or self.recognizer, self.manifest.known_pictures
        pictures = None if sha256 is None else KnownPictures.read(self.folder / known_pictures.FILE, sha256)
        return Known((*made_by.training_people, *self.manifest.fitted_on), pictures)

    def __len__(self) -> int:
        return self.manifest.count

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r}, {len(self):,} templates of {self.dim} numbers by {self.recognizer.name})"

    def _check_strays(self) -> None:
        listed = {shard.file for shard in self.manifest.shards}
        listed |= {Path(name).with_suffix(".parquet").name for name in listed}
        bare = []
        for path in sorted(self.folder.rglob("*")):
            if path.suffix not in (".npy", ".parquet") or path.relative_to(self.folder).as_posix() in listed:
                continue
            if path.suffix == ".parquet" or (path.parent == self.folder and SHARD_NAME.fullmatch(path.name)):
                raise BadInput(f"{path}: not in the manifest of the store it lies in; move it elsewhere")
            bare.append(str(path))
        if bare:
            warnings.warn(f"not part of the store and ignored: {some_of(bare)}", FacedecodeWarning, stacklevel=3)

    def _check_shard(self, index: int, verify: bool) -> None:
        if verify:
            self._templates(index)
            self._table(index)
        else:
            path = self.folder / self.manifest.shards[index].file
            self._require_header(index, path, read_header(path))

    def _require_header(self, index: int, path: Path, header: NpyHeader) -> None:
        rows, wrong = self.manifest.shards[index].rows, None
        if header.dtype != np.dtype("<f4"):
            wrong = f"dtype {header.dtype.str} where a store has <f4"
        elif len(header.shape) != 2:
            wrong = f"{len(header.shape)}-D where a store is 2-D"
        elif header.fortran_order:
            wrong = "Fortran order where a store has C order"
        elif header.shape[1] != self.dim:
            wrong = f"{header.shape[1]} columns where the manifest says {self.dim}"
        elif header.shape[0] != rows:
            wrong = f"{header.shape[0]} rows where the manifest says {rows}"
        if wrong:
            raise BadInput(f"{path}: {wrong}; make the store again")

    def _templates(self, index: int) -> np.ndarray:
        shard = self.manifest.shards[index]
        path = self.folder / shard.file
        _, templates, sha256 = read_array(path, functools.partial(self._require_header, index))
        _require_sha256(path, sha256, shard.sha256)
        refuse_non_finite(path, templates)
        return templates

    def _table(self, index: int) -> pa.Table:
        shard = self.manifest.shards[index]
        path = (self.folder / shard.file).with_suffix(".parquet")
        if not path.exists():
            raise BadInput(f"{path}: no such file, and its shard needs it; make the store again")
        most = _LARGEST_FRAME + _LARGEST_ROW * shard.rows
        data = read_file(path, most)
        _require_sha256(path, sha256_of(data), shard.parquet_sha256)
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            if not file.schema_arrow.equals(COLUMNS):
                raise BadInput(f"{path}: its columns are not a store's ({', '.join(COLUMNS.names)})")
            if (rows := file.metadata.num_rows) != shard.rows:
                raise BadInput(f"{path}: {rows} rows where its shard has {shard.rows}")
            parts = column_parts(data)
            if sum(part.size for part in parts) > most or sum(part.values for part in parts) > rows * _NUMBERS:
                raise BadInput(f"{path}: unpacks to more than {rows} rows take")
            if not all(part.encodings <= COMMON_ENCODINGS for part in parts):
                raise BadInput(f"{path}: encoded as no store is; make the store again")
            # Rows share a text in the file. Each is looked at before it is repeated.
            file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=TEXTS, pre_buffer=False)
            table = file.read(use_threads=False)  # Arrow's threads can abort a process that ends
            for name in TEXTS:
                lengths = (pc.max(pc.binary_length(chunk.dictionary)).as_py() for chunk in table[name].chunks)
                if max((length or 0 for length in lengths), default=0) > LONGEST_TEXT:
                    raise BadInput(f"{path}: a {name} is not of at most {LONGEST_TEXT:,} bytes; make the store again")
            table = table.cast(COLUMNS)
            table.validate(full=True)  # among others: that texts are UTF-8
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            raise BadInput(f"{path}: not a readable Parquet file; make the store again") from error
        if table.num_rows != shard.rows:
            raise BadInput(f"{path}: {table.num_rows} rows where its shard has {shard.rows}")
        check_rows(path, table)
        return table

    def shards(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Yield each shard's templates, float32 (rows, dim), with its rows, one shard in memory at a time."""
        for index in range(len(self.manifest.shards)):
            yield self._templates(index), self._table(index)

    def templates(self) -> np.ndarray:
        """All templates, float32 (n, dim), in the order of the rows."""
        return np.concatenate([self._templates(index) for index in range(len(self.manifest.shards))])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Templates of some rows (n,), in that order, float32 (n, dim), from one shard at a time.

        The shards of the last calls are kept, up to 64 MiB. Raises IndexError for a number that is no row's.
        """
        taken = np.empty((len(rows), self.dim), np.float32)
        for index, places, numbers in self._by_shard(rows):
            taken[places] = self._kept(index)[numbers]
        return taken

    def _kept(self, index: int) -> np.ndarray:
        if index not in self._held:
            self._held[index] = self._templates(index)
            while len(self._held) > 1 and sum(shard.nbytes for shard in self._held.values()) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(index)
        return self._held[index]

    @property
    def made_by(self) -> MadeBy:
        """What made the templates, as far as they can be compared with others."""
        return MadeBy.of(self.recognizer, self.manifest.mapping, self.manifest.disentanglement)

    def pictures(self, rows: np.ndarray) -> KnownPictures:
        """The pictures of some rows (n,), as what is made from them keeps them; errors as `take`."""
        found = KnownPictures()
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = np.asarray(rows[start : start + _ROWS_AT_ONCE])
            digests = self.take_rows(part).select(["sha256"]).to_pylist()
            found |= KnownPictures.of(digests, self.take(part), self.made_by)
        return found

    def take_rows(self, rows: np.ndarray) -> pa.Table:
        """Some rows (n,) of the table (see COLUMNS), in that order, from one shard at a time; errors as `take`."""
        parts, order = [COLUMNS.empty_table()], [np.empty(0, np.int64)]
        for index, places, numbers in self._by_shard(rows):
            parts.append(self._table(index).take(numbers))
            order.append(places)
        return pa.concat_tables(parts).take(np.argsort(np.concatenate(order)))

    def _by_shard(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each shard's number, the places of its rows among these, and their numbers in the shard."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"{self.folder}: rows are numbered from 0 to {len(self) - 1}")
        start = 0
        for index, shard in enumerate(self.manifest.shards):
            places = np.flatnonzero((rows >= start) & (rows < start + shard.rows))
            if len(places):
                yield index, places, rows[places] - start
            start += shard.rows

    def rows(self) -> pa.Table:
        """All rows (see COLUMNS), in the order of the templates."""
        return pa.concat_tables(self._table(index) for index in range(len(self.manifest.shards)))

    def paths(self) -> list[str | None]:
        """Image paths relative to `root`, in POSIX form; None where a template has no image of its own."""
        return self.columns(["path"])["path"].to_pylist()

    def identities(self) -> list[str | None]:
        """Identities; None where unknown."""
        return self.columns(["identity"])["identity"].to_pylist()

    def columns(self, names: list[str]) -> pa.Table:
        """Some columns of all rows, in the order of the templates, without the others in memory."""
        return pa.concat_tables(self._table(index).select(names) for index in range(len(self.manifest.shards)))

    def failures(self) -> list[dict[str, str]]:
        """Inputs that gave no template: {path, stage, reason} each."""
        path, listed = self.folder / FAILURES, self.manifest.failures
        if not path.exists():
            raise BadInput(f"{path}: no such file, and the manifest lists it; make the store again")
        data = read_file(path, _LARGEST_FAILURE * (listed.count + 1))
        _require_sha256(path, sha256_of(data), listed.sha256)
        return read_failures(path, data, listed.count)

    def images(self, options: ImageOptions | None = None) -> ImageFolder:
        """The folder of its images: the one that the user named, else the manifest's root."""
        options = options or ImageOptions()
        return ImageFolder(options.images or self.root, options.images is not None, options.follow_links)


def _require_sha256(path: Path, sha256: str, expected: str) -> None:
    if sha256 != expected:
        raise BadInput(f"{path}: wrong sha256: changed since the store was written; make the store again")


def load_templates(path: Path | str) -> tuple[np.ndarray, Manifest | None, str | None]:
    """Load templates from a store's folder, one shard of it, or a bare `.npy` file.

    Returns the templates, float32 (n, dim); the manifest, or None for a bare file outside a store; a note for the user
    on what was assumed or cast, or None.

    Raises:
        BadInput: as `Store.open` and `npy.read_bare`; also a bare file of another dim than the store that it lies in.
    """
    path = Path(path)
    if path.is_dir():
        store = Store.open(path)
        return store.templates(), store.manifest, None
    templates, note, sha256 = read_bare(path)
    folder = path.parent
    if not has_marker(folder, PROGRESS) and not _has_store_manifest(folder):
        return templates, None, note
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        if shard.file == path.name:
            _require_sha256(path, sha256, shard.sha256)
    if templates.shape[1] != manifest.dim:
        raise BadInput(
            f"{path}: templates of {templates.shape[1]} values in a store of {manifest.dim} "
            f"({manifest.recognizer.name}); move it elsewhere if another recognizer made it"
        )
    taken = f"{path}: recognizer {manifest.recognizer.name} taken from {folder / MANIFEST}"
    return templates, manifest, taken if note is None else f"{taken}; {note.removeprefix(f'{path}: ')}"


def _has_store_manifest(folder: Path) -> bool:
    """Whether a store's manifest is there; one that cannot be read is refused rather than passed over."""
    return (folder / MANIFEST).exists() and read_json(folder / MANIFEST).get("format") == FORMAT
