"""`.npy` files of templates, read strictly: never a pickle, never more memory than the file's own size."""

from __future__ import annotations

import hashlib
import io
import math
import os
import tokenize
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.errors import BadInput, OutputError
from facedecode.files import atomic_write, open_file, read_file

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MAGIC = 8  # bytes before the header's length
_LONGEST_HEADER = 1 << 16  # of an array of numbers; NumPy refuses longer ones, too


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file says of its array; `offset` is where its data start, in bytes."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    offset: int


def read_header(path: Path) -> NpyHeader:
    """Read a header and check it against the file's size. Raises BadInput naming the file."""
    with open_file(path) as file:
        return _read_header(path, file)[0]


def read_array(path: Path, require: Callable[[Path, NpyHeader], None]) -> tuple[NpyHeader, np.ndarray, str]:
    """Read a file once: its header, its array, and the SHA-256 of all its bytes, in hex.

    require: refuses what a header says, before anything is read by it.

    Raises BadInput: naming the file.
    """
    with open_file(path) as file:
        header, head = _read_header(path, file)
        require(path, header)
        flat = np.empty(math.prod(header.shape), header.dtype)
        try:
            size = file.readinto(flat.view(np.uint8).data)
            rest = file.read(1)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    if size != flat.nbytes or rest:
        raise BadInput(f"{path}: changed while it was read")
    digest = hashlib.sha256(head)
    digest.update(flat.view(np.uint8).data)
    array = flat.reshape(header.shape, order="F" if header.fortran_order else "C")
    return header, array, digest.hexdigest()


def _read_header(path: Path, file: io.BufferedReader) -> tuple[NpyHeader, bytes]:
    """The header of an open file, and its bytes; the file is then read from where the data start."""
    try:
        head = file.read(_MAGIC)
        version = np.lib.format.read_magic(io.BytesIO(head))
        if version not in _HEADER_READERS:
            raise BadInput(f"{path}: version {version} of the .npy format holds no template array")
        head += file.read(2 * version[0])
        head += file.read(min(int.from_bytes(head[_MAGIC:], "little"), _LONGEST_HEADER))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers by Python 2, and of what Python's parser finds odd
            shape, fortran_order, dtype = _HEADER_READERS[version](io.BytesIO(head[_MAGIC:]))
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        ValueError,
        EOFError,
        SyntaxError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
        tokenize.TokenError,
    ) as error:
        raise BadInput(f"{path}: not a .npy file (or cut short in its header)") from error
    if dtype.hasobject:
        raise BadInput(f"{path}: an array of Python objects, that is a pickle; save it as float32")
    if any(type(n) is not int or n < 0 for n in shape):
        raise BadInput(f"{path}: not a .npy file (its shape is {shape})")
    expected = len(head) + math.prod(shape) * dtype.itemsize
    if size != expected:
        state = "truncated" if size < expected else "longer than its one array"
        raise BadInput(f"{path}: {state}: {size} bytes where its header asks for {expected}; write it again")
    return NpyHeader(shape, fortran_order, dtype, len(head)), head


def write_templates(path: Path, templates: np.ndarray) -> str:
    """Write templates (n, dim) as float32 in C order, atomically; returns the file's SHA-256. Raises OutputError."""
    with atomic_write(path) as file:
        values = np.ascontiguousarray(templates, dtype="<f4")
        np.lib.format.write_array(file, values, version=(1, 0), allow_pickle=False)
    return file.sha256


def refuse_other_templates(path: Path, templates: np.ndarray) -> None:
    """Refuse a file that is there, unless it is what `write_templates` would write. Raises OutputError."""
    data = io.BytesIO()
    values = np.ascontiguousarray(templates, dtype="<f4")
    np.lib.format.write_array(data, values, version=(1, 0), allow_pickle=False)
    if path.exists() and read_file(path) != data.getvalue():
        raise OutputError(f"{path}: is there already; use --overwrite or another name")


def refuse_non_finite(path: Path, templates: np.ndarray) -> None:
    """Raise BadInput naming the file and the first row that holds NaN or infinity."""
    finite = np.isfinite(templates).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise BadInput(f"{path}: row {row} holds NaN or infinity ({int((~finite).sum())} such rows)")


def read_bare(path: Path) -> tuple[np.ndarray, str | None, str]:
    """Read a bare template file: `(dim,)` or `(n, dim)`, float16, 32 or 64, any order and endianness.

    Returns the templates as float32 (n, dim) in C order; a sentence on what was changed, or None; and the SHA-256 of
    the file, in hex. Raises BadInput: not a `.npy` file, truncated, pickled, empty, another shape or dtype, NaN or
    infinity.
    """
    header, data, sha256 = read_array(path, _require_bare)
    data = np.atleast_2d(data)
    refuse_non_finite(path, data)
    with np.errstate(over="ignore"):
        templates = np.ascontiguousarray(data, dtype=np.float32)
    refuse_non_finite(path, templates)  # float64 beyond float32's range
    note = None if header.dtype.itemsize == 4 else f"{path}: cast from {header.dtype.name} to float32"
    return templates, note, sha256


def _require_bare(path: Path, header: NpyHeader) -> None:
    if header.dtype.kind != "f" or header.dtype.itemsize not in (2, 4, 8):
        raise BadInput(f"{path}: dtype {header.dtype}; templates are float16, float32 or float64")
    if len(header.shape) not in (1, 2):
        raise BadInput(f"{path}: shape {header.shape}; templates are (dim,) or (n, dim)")
    if 0 in header.shape:
        raise BadInput(f"{path}: shape {header.shape} holds no template")
