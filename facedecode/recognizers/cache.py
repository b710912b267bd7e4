"""The folder of downloaded weights, and a record beside each file (`FILE.json`) with its hash. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from facedecode.errors import BadInput, OutputError
from facedecode.files import json_text, sha256_file, write_text
from facedecode.records import read_json

_folder: ContextVar[Path | None] = ContextVar("cache folder", default=None)


@contextmanager
def use_cache(folder: Path | None) -> Iterator[None]:
    """Keep downloaded weights in `folder` inside the block; None: in the system's folder for caches."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def cache_folder() -> Path | None:
    """The folder of `use_cache`, else the system's own for caches; None for a user without a home.

    It may not exist yet.
    """
    from platformdirs import user_cache_path  # 10 ms

    if folder := _folder.get():
        return folder
    try:
        folder = user_cache_path("facedecode", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # of some versions, '~' where there is no home


def require_cache_folder() -> Path:
    """The same, for a download. Raises OutputError where there is none."""
    if folder := cache_folder():
        return folder
    raise OutputError(
        "there is no folder for downloads: this user has no home; name one by --cache or $FACEDECODE_CACHE"
    )


def write_record(path: Path, sha256: str, url: str | None) -> None:
    """Record what a file of the cache is, for `require_recorded`."""
    write_text(_record_path(path), json_text({"sha256": sha256, "bytes": path.stat().st_size, "url": url}))


def require_recorded(path: Path, sha256: str | None = None) -> None:
    """Check a file of the cache against its record, which is made on first use. Files elsewhere are not checked.

    Raises BadInput: the file has changed since, or its record is unreadable.
    """
    folder = cache_folder()
    if folder is None or path.parent.resolve() != folder.resolve():
        return
    sha256 = sha256 or sha256_file(path)
    record = _record_path(path)
    if not os.path.lexists(record):
        with suppress(OutputError):  # a read-only cache that others share
            write_record(path, sha256, None)
        return
    try:
        recorded = str(read_json(record)["sha256"])
    except (BadInput, KeyError) as error:
        raise BadInput(f"{record}: not a usable record ({type(error).__name__}); remove it and {path}") from None
    if recorded != sha256:
        raise BadInput(
            f"{path}: changed since it was downloaded (sha256 {sha256[:12]}…, then {recorded[:12]}…); remove it and "
            f"download it again, or, if the change is yours, remove {record.name}"
        )


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
