"""Templates that another program wrote, with what its file says of them: names of images, and people.

`.npy` has one template a row; `.npz` several arrays by name; Parquet a column of lists; a folder one `.npy` for each
image, in a tree like that of the images. Nothing in them is run, and no file that they name is opened.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facedecode.annotations.tables import path_column, person_column, person_columns, plain
from facedecode.errors import BadInput, some_of
from facedecode.files import json_text, open_file, read_file, sha256_of
from facedecode.memory import require_memory
from facedecode.store.layout import LONGEST_TEXT, MANIFEST
from facedecode.store.npy import read_bare, refuse_non_finite
from facedecode.store.parquet_footer import column_parts

_TEMPLATES = re.compile(r"(embedding|feature|template|vector|encoding|descriptor|representation|feat|emb|x|arr0)s?")
_NAMES = re.compile(r"(name|key|id)s?")  # of images, where each is there once
_FEW = 100  # values that decide what an array is
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_HEADER = 1 << 16
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for damaged archives, encrypted ones and kinds of compression that it does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, OSError, ValueError, OverflowError)


@dataclass(frozen=True)
class GivenTemplates:
    """Templates of a file or folder.

    templates: float32 (n, dim). names: n paths of images, as the file has them; None if it has none.
    people: n people; None if it has none. sha256: of the file, or of the list of a folder's files.
    notes: for the user: casts, and what arrays or columns were taken for.
    """

    templates: np.ndarray
    names: list[str] | None
    people: list[str] | None
    sha256: str
    notes: list[str] = field(default_factory=list)


def read_given(path: Path) -> GivenTemplates:
    """Read templates: `.npy`, `.npz`, Parquet, or a folder of `.npy` files.

    Raises BadInput naming the file: unreadable, pickled, no templates or several arrays that may be them, rows of
    different lengths, NaN or infinity (naming the row), another number of names. WouldNotFit: too large.
    """
    if path.is_dir():
        return _read_folder(path)
    with open_file(path) as file:
        magic = file.read(4)
    if magic[:2] == b"PK":
        return _read_npz(path)
    if magic == b"PAR1":
        return _read_parquet(path)
    templates, note, sha256 = read_bare(path)
    return GivenTemplates(templates, None, None, sha256, [note] * (note is not None))


# A folder


def _read_folder(folder: Path) -> GivenTemplates:
    if (folder / MANIFEST).exists():
        raise BadInput(f"{folder}: an embedding store already, or one's folder; give the templates of another program")
    files = sorted(
        Path(above, name)
        for above, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(".npy") and not name.startswith(".")
    )
    if not files:
        raise BadInput(f"{folder}: no .npy file in this folder; give one for each image, in a tree like the images'")
    parts: list[np.ndarray] = []
    notes: list[str] = []
    names, hashes = [], []
    for file in files:
        templates, note, sha256 = read_bare(file)
        if parts and templates.shape[1] != parts[0].shape[1]:
            raise BadInput(
                f"{file}: templates of {templates.shape[1]} numbers, and {files[0]} has {parts[0].shape[1]}; give "
                "those of one recognizer"
            )
        relative = file.relative_to(folder).as_posix()
        parts.append(templates)
        names += [relative[: -len(".npy")]] * len(templates)
        hashes.append([relative, sha256])
        notes += [note] if note and not notes else []
    digest = hashlib.sha256(json_text(hashes).encode()).hexdigest()
    return GivenTemplates(np.concatenate(parts), names, None, digest, notes)


# Arrays by name


def _read_npz(path: Path) -> GivenTemplates:
    data = read_file(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
            if len(members) < len(archive.infolist()):
                raise BadInput(f"{path}: has an array twice; write it again by numpy.savez")
            for name, info in members.items():
                if info.compress_type not in _COMPRESSIONS:  # others make gigabytes of a kilobyte, before a look at it
                    raise BadInput(f"{path}: {name} is compressed as NumPy does not; write it again by numpy.savez")
            require_memory(sum(info.file_size for info in members.values()), f"reading {path}", "give it in parts")
            heads = {}
            for name, info in members.items():
                with archive.open(info) as file:
                    heads[name] = _header(file.read(_LONGEST_HEADER))
            floats = {name: head for name, head in heads.items() if head and head[2].kind == "f"}
            _refuse_objects(path, heads, "templates" if not floats else "names")
            vectors = [name for name, head in floats.items() if len(head[0]) == 1 or head[0][:1] == (1,)]
            if len(vectors) == len(heads) > 1 and not any(_TEMPLATES.fullmatch(plain(name)) for name in vectors):
                each = [_values(path, name, archive.read(members[name]), heads[name]).ravel() for name in vectors]
                return _by_image(path, vectors, each, sha256_of(data))
            chosen = _the_templates(path, [name for name, head in floats.items() if len(head[0]) == 2], list(heads))
            templates = _values(path, chosen, archive.read(members[chosen]), heads[chosen])
            others = [name for name, head in heads.items() if head and len(head[0]) == 1 and head[2].kind in "USiu"]
            columns = {
                name: _text(path, name, _values(path, name, archive.read(members[name]), heads[name]))
                for name in others
            }
    except _DAMAGED as error:
        raise BadInput(
            f"{path}: cannot be read as .npz ({' '.join(str(error).split()) or type(error).__name__})"
        ) from None
    return _given(path, chosen, templates, columns, sha256_of(data))


def _by_image(path: Path, names: list[str], vectors: list[np.ndarray], digest: str) -> GivenTemplates:
    """An array for each image, called like it. Raises BadInput naming one of another length."""
    for name, vector in zip(names, vectors, strict=True):
        if len(vector) != len(vectors[0]):
            raise BadInput(
                f"{path}: {name} has {len(vector)} numbers, and {names[0]} {len(vectors[0])}; one recognizer's"
            )
    given = _given(path, "each array", np.stack(vectors), {}, digest)
    return replace(
        given, names=names, notes=[f"{path}: each array has the template of the image that it is called like"]
    )


Header = tuple[tuple[int, ...], bool, np.dtype, int]


def _header(head: bytes) -> Header | None:
    """Shape, Fortran order, dtype and offset of an array; None where it is none."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = _HEADERS[version](file)
    except Exception:  # NumPy's parser raises nearly anything on damaged headers
        return None
    if not all(type(size) is int and size >= 0 for size in shape):
        return None
    return shape, fortran, dtype, file.tell()


def _the_templates(path: Path, there: Sequence[str], seen: Sequence[str]) -> str:
    """The array, or the column, of templates among those that may be it. BadInput: none, or several."""
    called = [name for name in there if _TEMPLATES.fullmatch(plain(name))]
    fitting = there if len(there) == 1 else called
    if len(fitting) != 1:
        what = "several may be the templates" if there else "no array of templates, (n, dim) floating point,"
        raise BadInput(f"{path}: {what} among {some_of(seen, 6) or 'nothing'}; call one 'embeddings'")
    return fitting[0]


def _refuse_objects(path: Path, heads: Mapping[str, Header | None], needed: str) -> None:
    """Raises BadInput for arrays of objects that may be the templates, or the names and the people beside them."""
    pickled = [name for name, head in heads.items() if head and head[2].hasobject and len(head[0]) in (1, 2)]
    if pickled:
        remedy = (
            "float32, all rows of one length" if needed == "templates" else "text, by numpy.array(names, dtype=str)"
        )
        raise BadInput(
            f"{path}: {some_of(pickled)} is an array of Python objects, that is a pickle; save it as {remedy}"
        )


def _values(path: Path, name: str, data: bytes, head: Header) -> np.ndarray:
    shape, fortran, dtype, offset = head
    if len(data) != offset + int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise BadInput(f"{path}: {name} is cut short, or longer than its one array; write it again")
    if 0 in shape or not dtype.itemsize:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")


def _text(path: Path, name: str, values: np.ndarray) -> list[str]:
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}: {name} is no text in UTF-8; save it as text, by numpy.array(names, dtype=str)"
        ) from None


# Columns


def _read_parquet(path: Path) -> GivenTemplates:
    data = read_file(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        require_memory(sum(part.unpacked for part in column_parts(data)), f"reading {path}", "give it in parts")
        schema = {
            name: _stored(kind) for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)
        }
        numbered = _numbered([name for name, kind in schema.items() if pa.types.is_floating(kind)])
        lists = [name for name, kind in schema.items() if _is_template(kind)]
        chosen = _the_templates(path, lists, list(schema)) if lists or not numbered else f"{numbered[0]} …"
        others = [name for name, kind in schema.items() if _is_text(kind)]
        # Rows may share a text of any length, so none is repeated.
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=others, pre_buffer=False)
        table = file.read([*([chosen] if lists else numbered), *others], use_threads=False)
        if lists:
            templates = _listed(path, chosen, table[chosen].combine_chunks())
        else:
            templates = np.stack([table[name].to_numpy() for name in numbered], axis=1)
        columns = {name: _texts(table[name]) for name in others}
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{path}: cannot be read as Parquet ({reason})") from None
    return _given(path, chosen, templates, columns, sha256_of(data))


def _texts(column: pa.ChunkedArray) -> list[str]:
    texts: list[str] = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            held = [str(value or "") for value in chunk.dictionary.cast(pa.string()).to_pylist()]
            texts += ["" if place is None else held[place] for place in chunk.indices.to_pylist()]
        else:
            texts += [str(value or "") for value in chunk.cast(pa.string()).to_pylist()]
    return texts


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_template(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and pa.types.is_floating(kind.value_type)


def _numbered(names: Sequence[str]) -> list[str]:
    """Columns for one number each of a template, in their order: 0, 1, 2 …, or emb_0, emb_1, emb_2 …; else none."""
    places = [re.fullmatch(r"(.*?)([0-9]+)", name) for name in names]
    by_place = {(found[1], int(found[2])): name for found, name in zip(places, names, strict=True) if found}
    runs = []
    for prefix in {prefix for prefix, _ in by_place}:
        numbers = sorted(number for other, number in by_place if other == prefix)
        if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            runs.append([by_place[prefix, number] for number in numbers])
    return runs[0] if len(runs) == 1 else []


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _listed(path: Path, name: str, column: pa.Array) -> np.ndarray:
    """A column of lists of one length as an array (n, dim). BadInput naming the first row that is otherwise."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if not len(column):
        raise BadInput(f"{path}: no rows")
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    if (lengths != max(lengths[0], 1)).any():
        row = int(np.argmax(lengths != max(lengths[0], 1)))
        there = (
            "no template"
            if lengths[row] < 1
            else f"a template of {lengths[row]} numbers where others have {lengths[0]}"
        )
        raise BadInput(f"{path}: row {row} of {name} holds {there}")
    values = column.flatten()
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // int(lengths[0])
        raise BadInput(f"{path}: row {row} of {name} holds a number that is missing")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


# Both


def _given(path: Path, chosen: str, values: np.ndarray, columns: dict[str, list[str]], digest: str) -> GivenTemplates:
    """Checked templates, with what further arrays or columns say of them."""
    if 0 in values.shape:
        raise BadInput(f"{path}: shape {values.shape} of {chosen} holds no template")
    if values.dtype.itemsize not in (2, 4, 8):
        raise BadInput(f"{path}: dtype {values.dtype} of {chosen}; templates are float16, float32 or float64")
    refuse_non_finite(path, values)
    with np.errstate(over="ignore"):
        templates = np.ascontiguousarray(values, dtype=np.float32)
    refuse_non_finite(path, templates)
    names = [name for name in columns if len(columns[name]) == len(templates)]
    sample = list(islice(zip(*(columns[name] for name in names), strict=True), _FEW))
    images = path_column(names, sample)
    if images is None:
        once = [name for name in names if _NAMES.fullmatch(plain(name)) and len(set(columns[name])) == len(templates)]
        images = once[0] if len(once) == 1 and len(templates) > 1 else None
    people = person_column(names, [images])
    several = [] if people else person_columns(names, [images])
    taken = {"the templates": chosen, "the images": images, "the people": people}
    notes = [f"{path}: {', '.join(f'{name!r} has {what}' for what, name in taken.items() if name)}"]
    for name in (images, people):
        if name and max(len(text.encode("utf-8", "replace")) for text in set(columns[name])) > LONGEST_TEXT:
            raise BadInput(f"{path}: a text of {name} has more than {LONGEST_TEXT:,} bytes; no image or person has")
    if several:
        notes.append(
            f"{path}: {' and '.join(several)} may both be people, and neither was taken; --identities says who"
        )
    if lost := [
        name for name in columns if name not in names and (person_columns([name], []) or path_column([name], []))
    ]:
        name = lost[0]
        raise BadInput(
            f"{path}: {name} has {len(columns[name])} values, and {chosen} {len(templates)} rows; one for each"
        )
    if values.dtype.itemsize != 4:
        notes.append(f"{path}: cast from {values.dtype.name} to float32")
    return GivenTemplates(
        templates, columns[images] if images else None, columns[people] if people else None, digest, notes
    )
