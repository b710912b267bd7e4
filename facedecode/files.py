"""Writing without half-written results: atomic files, an output lock, canonical JSON."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from facedecode.errors import MissingWeights, OutputError, OutputInUse

LOCK_NAME = ".lock"
TEMPORARY_PATTERN = ".facedecode-*.tmp"  # what a killed run can leave behind


def _reason(error: OSError) -> str:
    """The one-line cause of an OSError (libraries raise some without an errno)."""
    return error.strerror or str(error).partition("\n")[0] or type(error).__name__


def _refuse_special(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # It does not exist, or opening it will say why it cannot be used.
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {path}: it exists and is not a regular file; name another output")


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; some file systems cannot, and that is no error."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` when the block ends without an error.

    The content goes to a temporary file in the same folder, is flushed and fsynced, renamed over `path`, and
    the folder is fsynced. On any error the temporary file is removed and what was at `path` is untouched.

    Raises OutputError: an OSError in the block or around it (disk full, read-only, no permission, no folder), or `path`
    exists and is not a regular file (a symbolic link is not one).
    """
    path = Path(path)
    _refuse_special(path)
    temporary = path.with_name(TEMPORARY_PATTERN.replace("*", secrets.token_hex(6)))
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 (one place for tests to fail it)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically. Raises OutputError as `atomic_write`."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically and with its line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def json_text(value: Any) -> str:
    """Canonical JSON: sorted keys, indent 2, a trailing newline; equal values give equal text.

    Non-ASCII is escaped, so that file names that are not valid UTF-8 survive. Raises ValueError for NaN and
    infinity, TypeError for what JSON cannot hold (NumPy scalars among them).
    """
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n"


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as canonical JSON (see `json_text`), atomically."""
    write_text(path, json_text(value))


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV with a header; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's content as 64 hex digits. Raises OSError as reading does."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_folder(path: Path | str) -> Path:
    """Make a folder, and those above it, where it does not exist yet; return it as a Path.

    Raises OutputError where that is impossible (a file is in the way, read-only, no permission).
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot make the folder {path}: a file of that name is in the way") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {_reason(error)}") from error
    return path


@contextlib.contextmanager
def locked(folder: Path | str) -> Iterator[None]:
    """Hold an existing output folder against other runs for the length of the block.

    The kernel drops the lock with its process, so that a crash leaves no stale lock (only an empty `.lock`
    file, which the next run takes over).

    Raises OutputInUse: another run holds the folder. OutputError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = Path(folder) / LOCK_NAME
    if not path.parent.is_dir():  # FileLock would make it.
        raise OutputError(f"cannot write in {folder}: there is no such folder")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputInUse(f"{folder} is in use by another run; wait or name another output") from error
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {_reason(error)}") from error
    try:
        yield
    finally:
        # Removed while still held: a run that has the removed file open sees that it has no name, and does not take it.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


SHIPPED = Path(__file__).parent / "weights"


def find_decoder(name: str | Path) -> Path:
    """The folder of a decoder: a folder that holds one, or the shipped decoder of a recognizer's name.

    Raises MissingWeights: neither; the message lists the shipped ones and the places searched.
    """
    path = Path(name)
    if path.name in ("decoder.json", "decoder.safetensors"):
        path = path.parent
    for folder in (path, SHIPPED / str(name)):
        if (folder / "decoder.json").is_file():
            return folder
    shipped = ", ".join(sorted(p.parent.name for p in SHIPPED.glob("*/decoder.json"))) or "none"
    raise MissingWeights(
        f"no decoder {str(name)!r}: looked for {path}/decoder.json and among the shipped ones ({shipped}); "
        f"train one with 'facedecode train'"
    )
