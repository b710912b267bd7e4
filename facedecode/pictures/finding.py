"""Find the images that a user names: their paths, whose they are, and what lies beside them that is no image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from PIL import features

from facedecode.errors import BadInput, some_of
from facedecode.names import person_name

_HEIF = frozenset({".heic", ".heif", ".hif"})
_AVIF = frozenset({".avif"})
_NETPBM = frozenset({".pgm", ".ppm", ".pbm", ".pnm"})
_OTHERS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"})
EXTENSIONS = _OTHERS | _NETPBM | _HEIF | _AVIF
"""Endings of the names that count as images in a folder, whatever their case."""
HEIF_REMEDY = "install facedecode[heif]"

# What systems leave in folders of pictures; names that begin with a dot are another such.
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_FEW = 3


@dataclass(frozen=True)
class ImageRef:
    """One image that was found.

    path: absolute. relative: to the source root, with forward slashes.
    identity: name of the image's folder (NAME/NAME_0001.jpg, as LFW has it), composed as `names.person_name` says; None
        where that is the source root.
    """

    path: Path
    relative: str
    identity: str | None


class Found(NamedTuple):
    """The images in what a user named.

    root: the folder, or the deepest one common to several inputs, or for images that are named one by one
        `root_of_images`; absolute. refs: sorted by their path below it.
    notes: a line on the files beside them that are of no kind that is read, if there are any.
    """

    root: Path
    refs: list[ImageRef]
    notes: list[str]


def find_images(inputs: Sequence[Path], level: int = 1) -> Found:
    """List the images in files and folders, in an order that depends on their names only.

    Folders are searched to any depth, through symbolic links too, for names that end in one of `EXTENSIONS` and do
    not begin with a dot. A file that is named is taken whatever its name. An image reached twice is listed once.

    level: of the folder that is the person, see `folder_identity`.

    Raises BadInput: a path does not exist, a folder cannot be read or has no image, or a name is not valid UTF-8.
    """
    if not inputs:
        raise BadInput("no input: name an image or a folder of images")
    paths: set[Path] = set()
    tops: set[Path] = set()
    others: set[Path] = set()
    folders_named = False
    readable = EXTENSIONS - _unreadable()
    for named in inputs:
        # Not resolve(): where the user keeps a picture is its name, wherever a link leads.
        top = Path(os.path.abspath(named))  # noqa: PTH100
        if os.path.isdir(top):  # noqa: PTH112 (Path's own raises for a name that is too long)
            files = set(_walk(top))
            images = {path for path in files if path.suffix.lower() in readable}
            if not images:
                nothing = f"{named}: no image in this folder (looked for {', '.join(sorted(readable))})"
                raise BadInput("; ".join([nothing, *_passed_over(files)]))
            folders_named = True
            tops.add(top)
            paths |= images
            others |= files - images
        elif os.path.isfile(top):  # noqa: PTH113
            tops.add(top.parent)
            paths.add(top)
        elif os.path.exists(top):  # noqa: PTH110
            raise BadInput(f"{named}: neither a file nor a folder; name an image or a folder of images")
        else:
            raise BadInput(f"{named}: no such file or folder; check the path")
    root = Path(os.path.commonpath(tops)) if folders_named else root_of_images(tops, level)
    refs = [
        ImageRef(path, path.relative_to(root).as_posix(), folder_identity(path.parent, root, level)) for path in paths
    ]
    for ref in refs:
        if not _is_utf8(ref.relative):
            raise BadInput(f"{str(ref.path)!a}: the name is not valid UTF-8; rename it")
    return Found(root, sorted(refs, key=lambda ref: ref.relative), _passed_over(others - paths))


def _passed_over(files: Collection[Path]) -> list[str]:
    """A line on files that are not read, by the endings of their names; none where there are none."""
    remedies = {
        **dict.fromkeys(_HEIF, f" ({HEIF_REMEDY} to read them)"),
        **dict.fromkeys(_AVIF, " (install pillow 11.3 or newer to read them)"),
    }
    counts = Counter(path.suffix.lower() for path in files)
    kinds = [f"{count} {kind or 'without an ending'}{remedies.get(kind, '')}" for kind, count in sorted(counts.items())]
    return [f"passed over: {', '.join(kinds)}"] if kinds else []


def _walk(top: Path) -> Iterator[Path]:
    """The files in and below a folder that are neither hidden nor junk; each real folder is entered once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename}: cannot read this folder ({error.strerror})")

    for folder, subfolders, files in os.walk(top, followlinks=True, onerror=refuse):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith(".") and name.lower() not in _JUNK)


def _unreadable() -> frozenset[str]:
    """Endings of images that nothing installed here can decode."""
    heif = frozenset() if find_spec("pillow_heif") else _HEIF
    return heif if features.check("avif") else heif | _AVIF


def folder_identity(folder: PurePath, root: PurePath, level: int = 1) -> str | None:
    """The person of images that lie directly in a folder at or below the source root.

    level: 1 for the name of the folder that holds the image, 2 for the one above it, and so on. None where that is the
        root, or beyond.
    """
    person = person_folder(folder.relative_to(root), level)
    return None if person is None else person_name(person.name)


def root_of_images(folders: Collection[Path], level: int = 1) -> Path:
    """The source root of images that are named one by one (by a glob, or in a list): they keep their folder's person.

    It is the deepest folder that `folders`, those of the images, have in common; where nobody would have a person then,
    one so far above it that somebody has. The working directory and those above it are nobody's, as no name says them.
    """
    root = Path(os.path.commonpath(folders))
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        here = root
    # Nor is a link's: its images lie outside of the folder above, and the store would have to be told to follow it.
    while not (here.is_relative_to(root) or root.is_symlink()):
        if any(person_folder(folder.relative_to(root), level) is not None for folder in folders):
            break
        root = root.parent
    return root


def person_folder(folder: PurePath, level: int) -> PurePath | None:
    """The folder, relative to the source root, whose name is the person of images in `folder`; None: there is none."""
    folders = [folder, *folder.parents][:-1]  # the last is the root
    return folders[level - 1] if level <= len(folders) else None


def people_notes(refs: Sequence[ImageRef], level: int | None) -> list[str]:
    """Lines on whose the images are: how many people, and folder names that may not be people.

    level: of the folder that gave the people; None where a file did.
    """
    people = Counter(ref.identity for ref in refs)
    unnamed = people.pop(None, 0)
    if not people:
        return [f"{_counted(len(refs), 'image')} of nobody named"]
    names = f" ({', '.join(map(repr, sorted(people)))})" if len(people) <= _FEW else ""
    rest = f", {unnamed} of nobody named" if unnamed else ""
    notes = [f"{_counted(len(refs), 'image')} of {_counted(len(people), 'person', 'people')}{names}{rest}"]
    if level is None:
        return notes
    above: dict[str, set[str]] = {}
    for ref in refs:
        folder = person_folder(PurePosixPath(ref.relative).parent, level)
        if folder is not None:
            above.setdefault(str(ref.identity), set()).add(str(folder.parent))
    recurring = {name: sorted(parents) for name, parents in above.items() if len(parents) > 1}
    if recurring:
        name, parents = next(iter(sorted(recurring.items())))
        where = some_of([f"{parent}/{name}" for parent in parents])
        notes.append(
            f"the same name in several folders counts as one person: {some_of(sorted(recurring))} ({where}); if the "
            f"folder above is the person, say --identity-level {level + 1}, or name a file with --identities"
        )
    return notes


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
