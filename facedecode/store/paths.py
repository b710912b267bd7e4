"""Where the images of a store's rows are: paths below one folder, which nothing in a store can lead out of."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedecode.errors import BadInput, some_of

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes that file systems take
_DRIVE = re.compile(r"[A-Za-z]:[/\\]" if os.name == "posix" else r"[A-Za-z]:")


def why_no_path(path: str) -> str | None:
    """Why a text is no path of an image below a folder, in words; None where it is one.

    A path is relative, with forward slashes, and each part of it is a name that file systems take. A backslash is a
    part of a name where such a name leads nowhere on any system.
    """
    parts = path.split("/")
    if not path or path == ".":
        return "is empty"
    if "\0" in path:
        return "has a NUL"
    if path[0] in "/\\" or _DRIVE.match(path):
        return "is absolute"
    if ".." in re.split(r"[/\\]", path):
        return "leads out of the images' folder"
    if "" in parts or "." in parts:
        return "has a part without a name"
    size = len(path.encode("utf-8", "surrogatepass"))
    if size > _LONGEST_PATH or (
        size > _LONGEST_NAME and any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in parts)
    ):
        return f"is too long (names have at most {_LONGEST_NAME} bytes)"
    return None


def require_path(where: object, path: str) -> None:
    """Refuse what `why_no_path` refuses. Raises BadInput naming `where`, of whatever it was read, and the path."""
    if reason := why_no_path(path):
        shown = path if len(path) <= _LONGEST_NAME else f"{path[:_LONGEST_NAME]}…"
        raise BadInput(f"{where}: the path {shown!r} {reason}; make the store again")


@dataclass(frozen=True)
class ImageFolder:
    """The folder that the paths of rows are relative to.

    root: the folder.
    named: by the user. Else a store's manifest names it, which is as good as whoever sent the store: an image is then
        read only where the row has its SHA-256.
    follow_links: also to images outside of the folder.
    """

    root: Path
    named: bool = False
    follow_links: bool = False

    def find(self, paths: Sequence[str]) -> list[Path]:
        """Where the images of rows are.

        Raises BadInput: a path that leads out of the folder, by itself or by a link; images that are not there
        (counted, the first few listed).
        """
        if not (self.named or self.root.is_absolute()):
            raise BadInput(
                f"{self.root}: the store's manifest has no absolute path there; name the folder with --images"
            )
        for path in paths:
            require_path(self.root, path)
        inside: set[Path] = set()
        real_root = os.path.realpath(self.root)

        def require_inside(place: Path) -> None:
            if not self.follow_links and not Path(os.path.realpath(place)).is_relative_to(real_root):
                raise BadInput(
                    f"{place}: a link leads out of {self.root}; say --follow-links if it may, or name another folder "
                    "with --images"
                )

        found, missing = [], []
        for path in paths:
            place = self.root / path
            if place.parent not in inside:
                require_inside(place.parent)
                inside.add(place.parent)
            try:
                mode = place.lstat().st_mode
                if stat.S_ISLNK(mode):
                    require_inside(place)
                    mode = place.stat().st_mode
            except OSError:
                mode = 0
            found.append(place)
            if not stat.S_ISREG(mode):
                missing.append(path)
        if missing:
            raise BadInput(
                f"{self.root}: {len(missing)} of {len(paths)} images are not there ({some_of(missing)}); name their "
                "folder with --images"
            )
        return found
