"""What is fitted to templates, as one safetensors file: tensors, a typed header, and a checksum of both."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import numpy as np

from facedecode.errors import BadInput, OutputError
from facedecode.files import make_folder, open_file, write_bytes
from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.records import MOST_JSON, Count, Migration, Record, field_types, migrated, parse_json, plain

_METADATA_KEY = "facedecode"
_LENGTH = 8  # bytes in which safetensors says how long its header is
Self = TypeVar("Self", bound="Fitted")


def unchecked(header: dict[str, Any]) -> dict[str, Any]:
    """The migration of headers that differ from the next version's by the checksum only."""
    return header


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    name: "mapping": how messages call it, and the end of the file's `format`.
    command: what makes one, "fit-mapping".
    version: of the file that this facedecode writes.
    migrations: older version → what makes its header one of the next version.
    remedy: what to do about a file that cannot be used.
    """

    name: str
    command: str
    version: int = 2
    migrations: Mapping[int, Migration] = field(default_factory=lambda: {1: unchecked})
    remedy: str = "fit it again"

    @property
    def format(self) -> str:
        return f"facedecode-{self.name.replace(' ', '-')}"

    def write(self, path: Path | str, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
        """Write a file, atomically; equal content gives equal bytes. Returns its SHA-256. Raises OutputError.

        header: JSON. tensors: contiguous.
        """
        from safetensors.numpy import save

        content = {"format": self.format, "version": self.version, **header}
        text = json.dumps(content | {"sha256": _checksum(content, tensors)}, sort_keys=True, allow_nan=False)
        # One entry only: safetensors writes several in random order.
        return write_bytes(path, save(dict(tensors), metadata={_METADATA_KEY: text}))

    def read(
        self, path: Path, dtypes: Mapping[str, type] | None, also: str | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
        """The header and the tensors of a file, and the SHA-256 of all its bytes; it is read once.

        dtypes: names of the tensors, with their types; None for whatever it holds. also: how the names of further ones
            begin, which it may hold.

        Raises BadInput: naming the file: missing, truncated or not safetensors, of another kind, of a version that is
        not known, changed since it was written, or lacking a tensor. The rest is the caller's to check.
        """
        if not path.is_file():
            raise BadInput(f"{path}: no such {self.name}; make one with 'facedecode {self.command}'")
        with open_file(path) as file:
            written, places, head = _read_head(path, file, self.remedy)
            if written.get("format") != self.format:
                raise BadInput(f"{path}: not a {self.name}; make one with 'facedecode {self.command}'")
            header = migrated(path, written, "version", self.version, self.migrations, self.remedy)
            for name, dtype in (dtypes or {}).items():
                if name not in places:
                    raise BadInput(f"{path}: lacks the tensor {name!r}; {self.remedy}")
                if (held := _DTYPES.get(places[name].dtype)) != dtype:
                    kind = np.dtype(held) if held else places[name].dtype
                    raise BadInput(f"{path}: {name!r} is {kind}, not {np.dtype(dtype)}; {self.remedy}")
            digest = hashlib.sha256(head)
            further = [name for name in places if also and name.startswith(also)]
            names = places if dtypes is None else [*dtypes, *further]
            wanted = {name: _DTYPES.get(places[name].dtype) for name in names}
            if unknown := [name for name, dtype in wanted.items() if dtype is None]:
                raise BadInput(
                    f"{path}: {unknown[0]!r} is {places[unknown[0]].dtype}, no type of NumPy's; {self.remedy}"
                )
            tensors = _read_tensors(path, file, places, wanted, digest)
        checksum = written.get("sha256")
        if checksum is None and written["version"] == self.version:
            raise BadInput(f"{path}: field 'sha256' is missing; {self.remedy}")
        if checksum is not None and checksum != _checksum(written, tensors):
            raise BadInput(f"{path}: wrong sha256: changed since it was written; {self.remedy}")
        return header, tensors, digest.hexdigest()


_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"F{bits}": np.dtype(f"float{bits}").type for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}").type for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}").type for bits in (8, 16, 32, 64)},
}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Place(Record):
    """Where a tensor is in a file, and what it is: an entry of safetensors' own header."""

    dtype: str
    shape: tuple[Count, ...]
    data_offsets: tuple[Count, Count]


def read_about(path: Path) -> dict[str, Any]:
    """The JSON that facedecode put into a safetensors file; empty where there is none.

    Raises BadInput naming the file: unreadable, or not safetensors.
    """
    with open_file(path) as file:
        return _read_head(path, file, "make it again")[0]


def _read_head(path: Path, file: io.BufferedReader, remedy: str) -> tuple[dict[str, Any], dict[str, _Place], bytes]:
    """What an open file says of itself: the JSON of its writer, its tensors, and the bytes of both.

    The tensors lie one after the other, from where the file now is to its end. Raises BadInput.
    """
    unreadable = f"{path}: not a readable safetensors file"
    try:
        size, head = os.fstat(file.fileno()).st_size, file.read(_LENGTH)
        length = int.from_bytes(head, "little")
        if len(head) < _LENGTH or length > min(size - _LENGTH, MOST_JSON):
            raise BadInput(f"{unreadable} (cut short in its header); {remedy}")
        head += file.read(length)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        entries = parse_json("its header", head[_LENGTH:])
        about = entries.pop("__metadata__", {})
        text = about.get(_METADATA_KEY, "{}") if isinstance(about, dict) else None
        if not isinstance(text, str):
            raise BadInput("its header: field '__metadata__' is not texts")
        places = {name: _Place.from_json("its header", entry) for name, entry in entries.items()}
        end = 0
        for name, place in sorted(places.items(), key=lambda item: item[1].data_offsets):
            start, next_start = place.data_offsets
            items = np.dtype(_DTYPES[place.dtype]).itemsize * math.prod(place.shape) if place.dtype in _DTYPES else None
            if start != end or next_start < start or items not in (None, next_start - start):
                raise BadInput(f"the tensor {name!r} has no place of its own")
            end = next_start
        if len(head) + end != size:
            raise BadInput(f"{size} bytes where its header asks for {len(head) + end}")
    except BadInput as error:
        raise BadInput(f"{unreadable} ({error.args[0].partition(';')[0]}); {remedy}") from None
    try:
        return parse_json(path, text), places, head
    except BadInput:
        return {}, places, head  # of another program


def _read_tensors(
    path: Path, file: io.BufferedReader, places: Mapping[str, _Place], dtypes: Mapping[str, Any], digest: Any
) -> dict[str, np.ndarray]:
    """The tensors of `dtypes` from a file that is read to where they begin; others pass by. digest: takes all bytes."""
    tensors: dict[str, np.ndarray] = {}
    for name, place in sorted(places.items(), key=lambda item: item[1].data_offsets):
        start, end = place.data_offsets
        try:
            if name in dtypes:
                tensor = np.empty(place.shape, dtypes[name])  # a shape may be none of NumPy's, with no number in it
                data = tensor.reshape(-1).view(np.uint8).data
                read = file.readinto(data)
                digest.update(data)
                tensors[name] = tensor
            else:
                read = 0
                while block := file.read(min(_BLOCK, end - start - read)):
                    digest.update(block)
                    read += len(block)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, OverflowError) as error:
            raise BadInput(f"{path}: {name!r} has a shape that no tensor has; make it again") from error
        if read != end - start:
            raise BadInput(f"{path}: changed while it was read")
    return tensors


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the header but for the checksum itself, and of each tensor's name, type, shape and bytes."""
    covered = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


# Fields of a `Fitted` that are tensors of its file.
Float32 = Annotated[np.ndarray, np.float32]
Float64 = Annotated[np.ndarray, np.float64]
_SOURCE = ("source", "source_sha256")


@dataclass(frozen=True, eq=False)
class Fitted(Record):
    """What is fitted to the templates of one recognizer and kept in one file.

    A subclass declares its tensors (`Float32`, `Float64`) and the other fields of its header. Its `__post_init__`
    checks shapes and values, and raises BadInput without naming a file.

    KIND: of its files.
    recognizer: the one whose templates it is for.
    FURTHER: how the names of tensors of its files begin that are no fields; see `_further`.
    report: JSON: what it was fitted on, and how well it does.
    source: the file that it was loaded from; None if it was made here. source_sha256: of that file's bytes.
    """

    REMEDY: ClassVar[str] = "fit it again"
    KIND: ClassVar[Kind]
    FURTHER: ClassVar[str | None] = None

    recognizer: RecognizerId = field(kw_only=True)
    report: dict[str, Any] = field(default_factory=dict, kw_only=True)
    source: Path | None = field(default=None, kw_only=True)
    source_sha256: str | None = field(default=None, kw_only=True)

    @classmethod
    def _tensors_of(cls) -> dict[str, type]:
        hints = field_types(cls)
        return {name: get_args(hint)[1] for name, hint in hints.items() if hint in (Float32, Float64)}

    @classmethod
    def _header_of(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.init and f.name not in {*_SOURCE, *cls._tensors_of()}]

    @classmethod
    def load(cls: type[Self], path: Path | str) -> Self:
        """Read what `save` wrote, also of an older version.

        Raises BadInput: naming the file: as `Kind.read`; a field that is missing or malformed; shapes or values that
        make no such thing.
        """
        path = Path(path)
        header, tensors, sha256 = cls.KIND.read(path, cls._tensors_of(), cls.FURTHER)
        held = {name: header[name] for name in cls._header_of() if name in header}
        further = {name: tensors.pop(name) for name in tensors.keys() - cls._tensors_of().keys()}
        try:
            made = cls.from_json(path, {**held, **tensors})
        except BadInput as error:
            raise error if str(error).startswith(f"{path}: ") else BadInput(f"{path}: {error}") from None
        object.__setattr__(made, "source", path)
        object.__setattr__(made, "source_sha256", sha256)
        made._take(path, header, further)
        return made

    def _take(self, path: Path, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        """Take what `_further` gave to a file. Raises BadInput naming it."""

    def _further(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What goes to the file beside the fields: entries of the header, and tensors."""
        return {}, {}

    def as_json(self) -> dict[str, Any]:
        """The header: every field but the tensors."""
        return {name: plain(getattr(self, name)) for name in self._header_of()}

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically; equal content gives equal bytes. Raises OutputError."""
        dtypes = self._tensors_of()
        tensors: dict[str, np.ndarray] = {}
        for name, dtype in dtypes.items():
            tensors[name] = np.ascontiguousarray(getattr(self, name), dtype)
        header, further = self._further()
        self.KIND.write(path, self.as_json() | header, tensors | further)

    @classmethod
    def finished(cls: type[Self], path: Path, same: Callable[[Self], bool], overwrite: bool) -> Self | None:
        """What an earlier run of the same work left at `path`; else None, and the place is made ready for it.

        same: whether what was read is what would be made.

        Raises OutputError: it is a folder, or holds something else and `overwrite` is off. BadInput: as `load`.
        """
        name = cls.KIND.name
        if path.is_dir():
            raise OutputError(f"{path}: is a folder, and a {name} is a file; give -o {path}.safetensors")
        if path.exists() and not overwrite:
            earlier = cls.load(path)
            if same(earlier):
                return earlier
            raise OutputError(f"{path}: holds a {name} of other data or settings; use --overwrite or another -o")
        make_folder(path.parent)
        return None

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"the {self.KIND.name}" if self.source is None else f"{self.source}: this {self.KIND.name}"

    def require_recognizer(self, recognizer: RecognizerId) -> None:
        """Refuse templates of another recognizer, by name and by the hash of its weights. Raises BadInput."""
        require_same_recognizer(recognizer, self.recognizer, self.label)

    def require_templates_of(self, templates: np.ndarray, dim: int, dtype: type) -> np.ndarray:
        """Templates (n, dim) as another type. Raises BadInput for another shape."""
        values: np.ndarray = np.asarray(templates, dtype)
        if values.ndim != 2 or values.shape[1] != dim:
            raise BadInput(f"{self.label} takes templates (n, {dim}), not {values.shape}")
        return values
