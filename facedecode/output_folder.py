"""A folder of files that one call makes at once: all of them, or what the same call replaces when it runs again.

New files are made in a folder beside their places first, and moved there last. While they are moved, a marker says
whose they are; it is the last thing that goes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from facedecode.errors import OutputError
from facedecode.files import LOCK_NAME, TEMPORARY_PATTERN, locked, make_folder, sha256_of, write_bytes, write_json
from facedecode.records import Limit, Record, read_json

MARKER = ".unfinished.json"
STAGE = TEMPORARY_PATTERN.replace("*", "new")


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return 1 <= len(path.parts) <= 2 and not path.is_absolute() and ".." not in path.parts and "\0" not in name


@dataclass(frozen=True)
class _Marker(Record):
    """Which call writes in a folder, and the files that it may have written, by relative path."""

    REMEDY: ClassVar[str] = "remove it, or name another output"

    call: str
    files: tuple[Annotated[str, Limit(_is_below, "the path of a file in the folder")], ...]


def call_fingerprint(*parts: object) -> str:
    """What tells one call from another: SHA-256 of its parts, jobs among them, and of the working folder."""
    where = None
    with contextlib.suppress(OSError):  # it was removed
        where = Path.cwd()
    return sha256_of(repr((where, *parts)).encode("utf-8", "backslashreplace"))


def is_own_name(name: str) -> bool:
    """Whether only facedecode calls a file of an output folder so, while it writes there."""
    return name in (LOCK_NAME, MARKER) or fnmatch(name, TEMPORARY_PATTERN)


def unfinished_files(folder: Path, call: str, overwrite: bool = False) -> tuple[str, ...]:
    """The files that a killed run of the same call may have left in a folder, by relative path; mostly none.

    call: see `call_fingerprint`. overwrite: take those of any other call, too.

    Raises OutputError: another call's are there. BadInput: a malformed marker.
    """
    path = folder / MARKER
    if not path.is_file():
        return ()
    marker = _Marker.from_json(path, read_json(path))
    if marker.call != call and not overwrite:
        raise OutputError(
            f"{folder}: another command was stopped while it wrote there; run that one again, use --overwrite, or name "
            "another output"
        )
    return marker.files


def require_free(folder: Path, call: str, overwrite: bool) -> None:
    """Refuse a folder that holds files, unless a killed run of the same call left them, or `overwrite` is on.

    Raises OutputError: it does. BadInput: a malformed marker.
    """
    there = [path.name for path in folder.iterdir() if not is_own_name(path.name)] if folder.is_dir() else []
    tops = {PurePosixPath(name).parts[0] for name in unfinished_files(folder, call, overwrite or not there)}
    if not overwrite and not tops.issuperset(there):
        raise OutputError(f"{folder}: is there already; use --overwrite or another name")


class OutputFolder:
    """A folder that is held for a call: see `output_folder`."""

    def __init__(self, folder: Path, call: str) -> None:
        self.folder, self._call = folder, call
        self.begun = False

    def replace(self, names: Collection[str], contents: Iterable[tuple[str, bytes]], stale: Iterable[str] = ()) -> None:
        """Write files, and remove others; where a file cannot be made, all that was there stays as it was.

        What a killed run left is removed.

        names: of the files, as relative paths. contents: the files in the order in which they are to get their places,
        one at a time. stale: files to remove, which need not exist.

        Raises OutputError: a file cannot be written; a folder, link or special file is in its place.
        """
        left = unfinished_files(self.folder, self._call, overwrite=True)
        stale = sorted({*stale, *left} - set(names))
        for name in (*names, *stale):
            self._refuse_special(name)
        stage = self.folder / STAGE
        try:
            made = []
            for name, data in contents:
                make_folder((stage / name).parent)
                write_bytes(stage / name, data)
                made.append(name)
            # Not before: until here nothing has been replaced, and what a marker names is the next run's to remove.
            write_json(self.folder / MARKER, _Marker(self._call, tuple(sorted({*names, *left}))).as_json())
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        self.begun = True
        try:
            for name in stale:
                (self.folder / name).unlink(missing_ok=True)
            for name in made:
                (self.folder / name).parent.mkdir(exist_ok=True)
                os.replace(stage / name, self.folder / name)  # noqa: PTH105 (one place for tests to fail it)
            for parent in {(self.folder / name).parent for name in stale} - {self.folder}:
                with contextlib.suppress(OSError):
                    parent.rmdir()  # only where nothing is in it any more
        except OSError as error:
            raise OutputError(f"cannot write in {self.folder}: {error.strerror}") from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _refuse_special(self, name: str) -> None:
        path = self.folder / name
        if path.parent.is_symlink() and path.parent != self.folder:
            raise OutputError(f"{path.parent}: is a link; name another output")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(f"cannot write {path}: it exists and is not a regular file; name another output")


@contextlib.contextmanager
def output_folder(folder: Path, call: str) -> Iterator[OutputFolder]:
    """Make a folder and hold it against other runs, for files that `OutputFolder.replace` writes.

    call: see `call_fingerprint`.

    Raises OutputError: it cannot be made or written. OutputInUse: another run is writing there.
    """
    make_folder(folder)
    output = OutputFolder(folder, call)
    with locked(folder):
        yield output
    # Even after the lock's file: a run that is killed before this moment finds its marker when it comes again.
    if output.begun:
        with contextlib.suppress(OSError):
            (folder / MARKER).unlink()
