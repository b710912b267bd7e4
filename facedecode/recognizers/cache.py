"""Where downloaded weights are kept, and what is known of them: a file, and beside it `FILE.json` with its hash.

The folder is the system's own for caches unless a caller (the command line) names another. Free of torch.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from facedecode.errors import BadInput, OutputError
from facedecode.files import json_text, sha256_file, write_text

_FOLDERS = {"darwin": "Library/Caches/facedecode", "win32": "AppData/Local/facedecode/Cache"}
_chosen: Path | None = None


def use_cache(folder: Path) -> None:
    """Keep weights in another folder than the system's, from now on and for this process."""
    global _chosen
    _chosen = folder


def cache_folder() -> Path:
    """The folder, which may not exist yet."""
    return _chosen or Path.home() / _FOLDERS.get(sys.platform, ".cache/facedecode")


def record_path(path: Path) -> Path:
    """The record that lies beside a file of the cache."""
    return path.with_name(f"{path.name}.json")


def record(path: Path, sha256: str, url: str | None) -> None:
    """Write down what a file of the cache is, for `require_recorded`."""
    about = {"sha256": sha256, "bytes": path.stat().st_size, "url": url}
    write_text(record_path(path), json_text(about))


def require_recorded(path: Path, sha256: str | None = None) -> None:
    """Check a file of the cache against its record, which is made on first use; other files are their owner's.

    Raises:
        BadInput: the file has changed since, or its record is unreadable.
    """
    if path.parent.resolve() != cache_folder().resolve():
        return
    sha256 = sha256 or sha256_file(path)
    about = record_path(path)
    if not about.exists():
        with suppress(OutputError):  # a cache of others', read-only
            record(path, sha256, None)
        return
    try:
        known = str(json.loads(about.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{about}: not a usable record ({type(error).__name__}); remove it and {path}") from None
    if known != sha256:
        raise BadInput(
            f"{path}: has changed since it came (sha256 {sha256[:12]}…, then {known[:12]}…); remove it and download "
            f"it again, or, if the change is yours, remove {about.name}"
        )
