"""`.npy` files of templates, read strictly: never a pickle, never more memory than the file's own size."""

from __future__ import annotations

import io
import math
import tokenize
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.errors import BadInput, OutputError
from facedecode.files import atomic_write, read_file

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class NpyHeader:
    """What a `.npy` file says of its array; `offset` is where its data start, in bytes."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    offset: int


def read_header(path: Path) -> NpyHeader:
    """Read a header and check it against the file's size. Raises BadInput naming the file."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADER_READERS:
                raise BadInput(f"{path}: version {version} of the .npy format holds no template array")
            shape, fortran_order, dtype = _HEADER_READERS[version](file)
            header = NpyHeader(shape, fortran_order, dtype, file.tell())
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
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
    expected = header.offset + math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or size != expected:
        state = "truncated" if size < expected else "longer than its one array"
        raise BadInput(f"{path}: {state}: {size} bytes where its header asks for {expected}; write it again")
    return header


def read_data(path: Path, header: NpyHeader) -> np.ndarray:
    """Read the array that `header` describes, in its own dtype and order."""
    try:
        with path.open("rb") as file:
            flat = np.fromfile(file, header.dtype, math.prod(header.shape), offset=header.offset)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    if flat.size != math.prod(header.shape):
        raise BadInput(f"{path}: truncated while it was read")
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


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


def read_bare(path: Path) -> tuple[np.ndarray, str | None]:
    """Read a bare template file: `(dim,)` or `(n, dim)`, float16, 32 or 64, any order and endianness.

    Returns the templates as float32 (n, dim) in C order, and a sentence on what was changed, or None. Raises BadInput:
    not a `.npy` file, truncated, pickled, empty, another shape or dtype, NaN or infinity.
    """
    header = read_header(path)
    if header.dtype.kind != "f" or header.dtype.itemsize not in (2, 4, 8):
        raise BadInput(f"{path}: dtype {header.dtype}; templates are float16, float32 or float64")
    if len(header.shape) not in (1, 2):
        raise BadInput(f"{path}: shape {header.shape}; templates are (dim,) or (n, dim)")
    if 0 in header.shape:
        raise BadInput(f"{path}: shape {header.shape} holds no template")
    data = np.atleast_2d(read_data(path, header))
    refuse_non_finite(path, data)
    with np.errstate(over="ignore"):
        templates = np.ascontiguousarray(data, dtype=np.float32)
    refuse_non_finite(path, templates)  # float64 beyond float32's range
    note = None if header.dtype.itemsize == 4 else f"{path}: cast from {header.dtype.name} to float32"
    return templates, note
