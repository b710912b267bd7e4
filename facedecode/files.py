"""The one place that opens files: reads that refuse what is no file, writes that leave nothing half-written, locks."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import hashlib
import inspect
import io
import json
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput, FacedecodeWarning, MissingWeights, OutputError, OutputInUse
from facedecode.escaping import csv_cell

try:
    import fcntl
except ImportError:  # Windows refuses to remove a file that is open, which serves as well
    fcntl = None

LOCK_NAME = ".lock"
TEMPORARY_PATTERN = ".facedecode-*.tmp"  # what a killed run can leave behind
_BLOCK = 1 << 20
_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _reason(error: OSError) -> str:
    """The one-line cause of an OSError (libraries raise some without an errno)."""
    return error.strerror or str(error).partition("\n")[0] or type(error).__name__


# Reading


@contextlib.contextmanager
def open_file(path: Path | str) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading, by one look-up of its name.

    Raises BadInput naming the file: missing, a folder, a pipe, a device or a socket; it cannot be read.
    """
    try:
        # A pipe that nobody writes to would block the opening itself.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; check the path") from error
    except ValueError as error:  # a NUL in the name
        raise BadInput(f"{str(path)!a}: no name of a file") from error
    except OSError as error:  # of a socket, too: it cannot be opened
        with contextlib.suppress(OSError):
            if kind := _SPECIAL.get(stat.S_IFMT(Path(path).stat().st_mode)):
                raise BadInput(f"{path}: {kind}, and a file is needed") from error
        raise BadInput(f"{path}: cannot be read: {_reason(error)}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise BadInput(f"{path}: {_SPECIAL.get(stat.S_IFMT(mode), 'no regular file')}, and a file is needed")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_file(path: Path | str, most: int | None = None) -> bytes:
    """The content of a regular file, read once: what is checked of it is what is used.

    most: bytes; a larger file is refused before it is read.

    Raises BadInput: as `open_file`; the file is larger.
    """
    with open_file(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if most is None or size <= most:
                data = file.read() if most is None else file.read(most + 1)
                size = len(data)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {_reason(error)}") from error
    if most is not None and size > most:
        raise BadInput(f"{path}: {size:,} bytes or more, and at most {most:,} are read; is it the right file?")
    return data


def read_text(path: Path | str, most: int | None = None) -> str:
    """A text file in UTF-8, with a byte order mark or without, or in UTF-16 with one.

    Raises BadInput: as `read_file`; another encoding.
    """
    return decoded_text(path, read_file(path, most))


def decoded_text(path: Path | str, data: bytes) -> str:
    """The text of a file that was read, as `read_text`. Raises BadInput naming `path`: another encoding."""
    try:
        return data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a UTF-8 text file; save it as UTF-8") from error


def sha256_of(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's content as 64 hex digits, a part at a time in memory. Raises BadInput as `open_file`."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        try:
            while block := file.read(_BLOCK):
                digest.update(block)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {_reason(error)}") from error
    return digest.hexdigest()


# Writing


class OutputFile:
    """A new file that counts and hashes what is written to it, and gives the error of each write at once.

    NumPy takes it for no real file, and so does not write to it by `tofile`, which drops the last error.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of all that was written so far, 64 hex digits."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of `data`. Raises OSError: less could be written."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(self._descriptor, view[done : done + _BLOCK])
        self._digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> None:
        """Make the content durable. Raises OSError: it cannot be, or the file has another length than was written."""
        os.fsync(self._descriptor)
        if (size := os.fstat(self._descriptor).st_size) != self.size:
            raise OSError(errno.EIO, f"{size} of {self.size} bytes arrived")


def _refuse_special(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):
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


def _new_temporary(folder: Path, mode: int = 0o666) -> tuple[Path, int]:
    """A new file in `folder`, and its descriptor, which holds a lock for as long as it is open. Raises OSError."""
    while True:
        path = folder / TEMPORARY_PATTERN.replace("*", secrets.token_hex(6))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        if fcntl is None:
            return path, descriptor
        with contextlib.suppress(OSError):  # no locks on this file system: what a killed run leaves there stays
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another run may have taken it for a dead run's before it was locked.
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def remove_stale(folder: Path | str) -> None:
    """Remove the temporary files that killed runs left in a folder; those that a run is writing stay."""
    try:
        with os.scandir(folder) as entries:
            stale = [Path(entry) for entry in entries if Path(entry).match(TEMPORARY_PATTERN) and entry.is_file()]
    except OSError:
        return
    for path in stale:
        with contextlib.suppress(OSError):
            if fcntl is None:
                path.unlink()
                continue
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _tidy(folder: Path | str) -> None:
    """Remove what killed runs left in a folder that this run holds: temporary files, folders and links."""
    remove_stale(folder)
    with os.scandir(folder) as entries:
        there = list(entries)
    for entry in there:
        stale = Path(entry).match(TEMPORARY_PATTERN)
        if entry.is_symlink():
            if stale:
                with contextlib.suppress(OSError):
                    Path(entry).unlink()  # where it leads, nothing is ours
        elif entry.is_dir():
            if stale:
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                remove_stale(entry.path)


_tidied: set[str] = set()  # folders that this process has looked through for stale temporaries


def _name_new(temporary: Path, path: Path) -> None:
    """Give a file its name, which must be free. Raises FileExistsError, OSError."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.link(temporary, path)
            return
    # Windows never renames over a file, and some file systems have no second names. Or the name is taken.
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary.rename(path)


@contextlib.contextmanager
def atomic_write(path: Path | str, secret: bool = False) -> Iterator[OutputFile]:
    """Yield a file that takes the place of `path` when the block ends without an error.

    secret: the file is a new one that only its owner can read: it takes the place of no other.

    The content goes to a temporary file in the same folder, is checked for its length, fsynced and renamed over `path`,
    and the folder is fsynced. On any error the temporary file is removed and what was at `path` is untouched; what a
    killed run leaves is removed by the next that writes in the folder.

    Raises OutputError: an OSError in the block or around it (disk full, read-only, no permission, no folder), or `path`
    exists and is not a regular file (a symbolic link is not one).
    """
    path = Path(path)
    _refuse_special(path)
    if (folder := str(path.parent)) not in _tidied:
        _tidied.add(folder)
        remove_stale(folder)
    temporary, descriptor = None, None
    try:
        temporary, descriptor = _new_temporary(path.parent, 0o600 if secret else 0o666)
        file = OutputFile(descriptor)
        yield file
        file.finish()
        # Windows renames no open file. Elsewhere the lock is held until the file has its name.
        if os.name != "posix":
            os.close(descriptor)
            descriptor = None
        if secret:
            _name_new(temporary, path)
        else:
            os.replace(temporary, path)  # noqa: PTH105 (one place for tests to fail it)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and temporary is not None:
            raise
        reason = _reason(error) if isinstance(error, OSError) else "no name of a file"
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes(path: Path | str, data: bytes) -> str:
    """Write `data` to `path` atomically; returns its SHA-256 in hex. Raises OutputError as `atomic_write`."""
    with atomic_write(path) as file:
        file.write(data)
    return file.sha256


def write_text(path: Path | str, text: str) -> str:
    """Write `text` to `path` as UTF-8 with its line ends as they are; otherwise as `write_bytes`."""
    return write_bytes(path, text.encode("utf-8"))


def json_text(value: Any) -> str:
    """Canonical JSON: sorted keys, indent 2, a trailing newline; equal values give equal text.

    Non-ASCII is escaped, so that file names that are not valid UTF-8 survive. Raises ValueError for NaN and
    infinity, TypeError for what JSON cannot hold (NumPy scalars among them).
    """
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n"


def write_json(path: Path | str, value: Any) -> str:
    """Write `value` to `path` as canonical JSON (see `json_text`); otherwise as `write_bytes`."""
    return write_text(path, json_text(value))


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV with a header; None is an empty cell, and no text is a formula (see `escaping.csv_cell`)."""
    text = io.StringIO()
    lines = ([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in (columns, *rows))
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


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


def require_place(path: Path | str, folder: bool, parents: bool = False) -> None:
    """Refuse an output that cannot be written, before the work that makes it.

    folder: whether a folder is to be made or used there, or else a file to be made or replaced.
    parents: whether the folders above a file will be made, too; those above a folder always are.

    The nearest folder that is there is really written in: permission bits and mount options do not tell all. Nothing
    is left behind.

    Raises OutputError naming the output: no permission, read-only, disk full, a name that is too long; a file is in the
    way of a folder, or something else than a regular file in the way of a file.
    """
    path = Path(path)
    cannot = f"cannot make the folder {path}" if folder else f"cannot write {path}"
    try:
        there = _nearest(path.absolute())
        if there not in (path.absolute(), path.absolute().parent) and not (folder or parents) and there.is_dir():
            raise OutputError(f"{cannot}: there is no folder {path.parent}; make it, or name another output")
        if there == path.absolute() and not folder:
            if there.is_dir() and not there.is_symlink():
                raise OutputError(f"{cannot}: it is a folder, and a file is to be made; name a file")
            _refuse_special(path)
            there = there.parent
        if not there.is_dir():
            what = "a file of that name is in the way" if there == path.absolute() else f"{there} is no folder"
            raise OutputError(f"{cannot}: {what}; name another output")
        if hasattr(os, "pathconf"):
            most = os.pathconf(there, "PC_NAME_MAX")
            if any(len(os.fsencode(part)) > most for part in path.parts):
                raise OutputError(f"{cannot}: the name is too long (at most {most} bytes); name another output")
        remove_stale(there)
        temporary, descriptor = _new_temporary(there)
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):  # another run has taken it for a dead run's
            temporary.unlink()
    except OSError as error:
        raise OutputError(f"{cannot}: {_reason(error)}; name another output") from error


def _nearest(path: Path) -> Path:
    """What is there of a path: itself, or the nearest above it. Raises OSError where that cannot be told."""
    for place in (path, *path.parents):
        try:
            place.lstat()
            return place
        except (FileNotFoundError, NotADirectoryError):
            continue
    return path


@contextlib.contextmanager
def locked(folder: Path | str) -> Iterator[None]:
    """Hold an existing output folder against other runs for the length of the block, and tidy up after killed ones.

    The kernel drops the lock with its process, so that a crash leaves no stale lock (only an empty `.lock`
    file, which the next run takes over). Temporary files of killed runs in the folder and its subfolders are removed,
    and temporary folders in it.

    Raises OutputInUse: another run holds the folder. OutputError: the folder cannot be written.

    Warns FacedecodeWarning: the file system has no locks.
    """
    from filelock import FileLock, Timeout

    path = Path(folder) / LOCK_NAME
    if not path.parent.is_dir():  # FileLock would make it.
        raise OutputError(f"cannot write in {folder}: there is no such folder")
    # filelock 4 would lock by the file's mere presence, which outlives a killed run, and warn in words of its own.
    takes = inspect.signature(FileLock.__init__).parameters
    options: dict[str, Any] = {"fallback_to_soft": False} if "fallback_to_soft" in takes else {}
    lock = FileLock(path, timeout=0, **options)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputInUse(f"{folder} is in use by another run; wait or name another output") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise OutputError(f"cannot write in {folder}: {_reason(error)}") from error
        warnings.warn(
            f"{folder}: this file system has no locks; see to it that no other run writes there",
            FacedecodeWarning,
            stacklevel=3,
        )
    try:
        _tidy(folder)
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
