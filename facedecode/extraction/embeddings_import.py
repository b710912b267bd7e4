"""Templates made elsewhere, with the images that they were made of → a store that every stage takes.

What a store knows of its images beyond the templates, faces and landmarks, is found here.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from facedecode import __version__
from facedecode.annotations.labels import DataSet, match
from facedecode.annotations.listing import Listing, read_image_list, read_people_list
from facedecode.errors import BadInput, some_of
from facedecode.extraction.cropping import Cropped, FaceCropper, Seen, describe_inputs
from facedecode.extraction.embeddings_file import GivenTemplates, read_given
from facedecode.extraction.finders import FaceSource, finder_notes
from facedecode.extraction.jobs import FaceOptions, StoreOptions
from facedecode.extraction.run import Extracted, write_shards
from facedecode.identity import RecognizerId
from facedecode.names import image_name, person_name
from facedecode.pictures.faces import FaceFinder
from facedecode.pictures.finding import ImageRef, find_images, folder_identity, people_notes, root_of_images
from facedecode.progress import Progress, silent
from facedecode.recognizers.contract import TEMPLATES_ONLY
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import known_to
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store, StoreWriter
from facedecode.store.layout import LEVEL
from facedecode.store.paths import why_no_path

_LOOKED_AT = 16  # images whose templates are compared with the recognizer's own
_FEWEST = 4
_AGREES = 0.75
_DRIVE = re.compile(r"[A-Za-z]:(?=/)")


def describe_given(name: str, dim: int, score: str) -> RecognizerId:
    """The identity of a recognizer that left only templates. name: `given:NAME`. Raises BadInput: no such name."""
    described = {"name": name, "weights_sha256": None, "license": "not stated", "dim": dim, "score": score}
    return RecognizerId.from_json("--model", described)


def import_embeddings(
    embeddings: Path,
    images: Path | None,
    output: Path,
    recognizer: Recognizer | str,
    faces: FaceOptions | None = None,
    *,
    device: str = "cpu",
    score: str = "cosine",
    data_set: DataSet | None = None,
    options: StoreOptions | None = None,
    need_images: bool = False,
    progress: Progress = silent,
) -> Imported:
    """Make a store of templates that are there already.

    Args:
        embeddings: `.npy`, `.npz`, Parquet, or a folder of `.npy` files; see `read_given`.
        images: a list of the n images' paths in the order of the rows (see `read_image_list`), or the folder of the
            images that the embeddings' own file names. Where none of a list's images is there, or with None, the store
            has templates only: rows have a path and a person, and neither face nor hash.
        recognizer: that made the templates; or `given:NAME` where it is not here, and `score` compares them.
        data_set: gives the people in place of the list, the embeddings' file, or the folders: by image, or, where its
            table has no images, by row.
        faces: where the faces are. device: of the detector.
        need_images: refuse a list of images of which none is there.
        output, options, progress: as in `extract`. An image without a face is a failure, and its template is left out.
            Several templates of one image are those of its faces; which is whose is not known, and they have no box.

    Raises BadInput: the files cannot be read, or have different numbers of rows; templates of another length; an image
    with one template and two people; no image with a face; the recognizer itself makes other templates of the images.
    OutputError, OutputInUse: as `StoreWriter`.
    """
    options = options or StoreOptions()
    given = read_given(embeddings)
    rows = _rows(embeddings, given, images, data_set or DataSet())
    if need_images and not rows.readable:
        raise BadInput(f"{images}: none of its images is there (the first: {rows.refs[0].path}); check the paths")
    if isinstance(recognizer, str):
        described = describe_given(recognizer, given.templates.shape[1], score)
    else:
        described, score = recognizer.describe(), recognizer.spec.score
        if recognizer.spec.dim != given.templates.shape[1]:
            raise BadInput(
                f"{embeddings}: templates of {given.templates.shape[1]} numbers, and {recognizer.name}'s have "
                f"{recognizer.spec.dim}; say --model"
            )
    refs, templates, notes = rows.refs, given.templates[rows.kept], [*given.notes, *rows.notes]
    describe = {"transform": None, "precision": "fp32", "score": score, "l2_normalized": False}
    describe["imported"] = {"embeddings_sha256": given.sha256, "name": embeddings.name}
    finder: FaceFinder | None = None
    if rows.readable:
        source = FaceSource.of(faces or FaceOptions(), rows.refs)
        notes += source.notes
        finder = source.finder(None if isinstance(recognizer, str) else recognizer, device)
    found_by = {"images": "not there"} if finder is None else {"detector": finder.settings}
    level = {LEVEL: data_set.level} if data_set is not None and data_set.level != 1 else {}
    settings = {**describe, **found_by, **level, "batch_size": options.batch_size, **describe_inputs(refs)}
    manifest = {**describe, "tool_version": __version__}

    def items(position: int, seen: Seen) -> Iterator[Cropped]:
        todo = refs[position:]
        if finder is None:
            found = iter([Cropped({"path": ref.relative, "identity": ref.identity}) for ref in todo])
        else:
            found = FaceCropper(None, finder).items(todo, options.batch_size, options.workers, seen)
        for item, ref, template in zip(found, todo, templates[position:], strict=True):
            item.template = template
            if item.row and ref.relative in rows.several:
                item.row = {key: item.row[key] for key in ("path", "identity", "width", "height", "sha256")}
            yield item

    pictures = None if isinstance(recognizer, str) else known_to(recognizer.spec).pictures
    with StoreWriter(
        output, settings, rows.root, described, options.shard_rows, options.overwrite, manifest, pictures
    ) as writer:
        resumed = len(refs) if writer.complete else writer.resume_inputs
        if not writer.complete:
            if not isinstance(recognizer, str) and finder is not None:
                alone = [i for i, ref in enumerate(refs) if ref.relative not in rows.several]
                notes += _agreement(embeddings, templates[alone], [refs[i] for i in alone], recognizer, finder)
            writer.finish(write_shards(writer, options, range(resumed, len(refs)), items, progress))
    store = Store.open(output, verify=False)
    if finder is not None:
        notes += finder_notes(finder, store.failures(), len(refs), store)
    return Imported(len(store), store.failures(), resumed, notes, rows.readable)


@dataclass(frozen=True)
class Imported(Extracted):
    """As `Extracted`; images: whether they are there."""

    images: bool = True


@dataclass(frozen=True)
class _Rows:
    """What is known of rows of templates.

    root: what the images' paths are relative to. refs: of each row that is kept. kept: int64, the rows' numbers.
    readable: whether there are images. several: relative paths of images with several templates.
    """

    root: Path
    refs: list[ImageRef]
    kept: np.ndarray
    readable: bool
    several: set[str]
    notes: list[str]


def _rows(embeddings: Path, given: GivenTemplates, images: Path | None, data_set: DataSet) -> _Rows:
    """The image and the person of each row."""
    count = len(given.templates)
    table = None
    if data_set.identities is not None and data_set.renamed is None:
        table = read_people_list(data_set.identities)
    # Where nothing else names the rows, the table is of them, one after the other.
    by_row = table is not None and (table.names is None or (images is None and given.names is None))
    root, people, notes = embeddings.parent, given.people, []
    if images is None:
        names = given.names or (table.names if by_row else None)
        if names is None:
            names = [f"{embeddings.stem}-{row:06d}" for row in range(count)]
        if by_row:
            _require_rows(table, "people", embeddings, count)
        refs = [_named(embeddings, root, name, row, data_set.level) for row, name in enumerate(names)]
    elif images.is_dir():
        root, refs = _in_folder(embeddings, given, images, data_set.level)
    else:
        listing = read_image_list(images)
        _require_rows(listing, "paths", embeddings, count)
        root, refs = listed_images(listing, data_set.level)
        people, notes = listing.people or people, [*listing.notes]
    readable = images is not None and (images.is_dir() or any(os.path.lexists(ref.path) for ref in refs))
    if images is not None and not readable:
        notes.append(f"{images}: none of its {count} images is there (the first: {refs[0].path})")
    if not readable:
        notes.append(
            f"{embeddings}: templates without images: they can be judged, clustered, merged and protected, and no "
            "decoder can be trained on them"
        )
    uses = Counter(ref.relative for ref in refs)
    by_row = by_row or (table is not None and len(uses) < count and table.is_of([ref.relative for ref in refs]))
    if by_row:
        _require_rows(table, "people", embeddings, count)
        people = table.people
        notes += table.notes
    elif data_set.identities is not None:
        refs, more = data_set.with_identities(refs)
        people, notes = None, notes + more
    if people is not None:
        refs = [replace(ref, identity=person_name(person)) for ref, person in zip(refs, people, strict=True)]
    kept = _without_repeats(embeddings, given.templates, refs)
    if len(kept) < count:
        notes.append(f"{embeddings}: {count - len(kept)} rows are there twice, image and template; each counts once")
    refs = [refs[row] for row in kept]
    by_folder = people is None and data_set.identities is None
    notes = [*people_notes(refs, data_set.level if by_folder else None), *notes]
    several = {name for name, used in Counter(ref.relative for ref in refs).items() if used > 1}
    if several:
        whose = "its row's" if people is not None else "the image's"
        notes.append(
            f"{embeddings}: {len(several)} images have several templates ({some_of(sorted(several))}), of several "
            f"faces: these have no box and no landmarks, and the person of each is {whose}"
        )
    return _Rows(root, refs, kept, readable, several, notes)


def _require_rows(listing: Listing, what: str, embeddings: Path, count: int) -> None:
    if len(listing) != count:
        raise BadInput(f"{listing.path}: {len(listing)} {what}, and {embeddings} has {count} templates; one for each")


def _in_folder(embeddings: Path, given: GivenTemplates, images: Path, level: int) -> tuple[Path, list[ImageRef]]:
    """The images of a folder that the embeddings' own names are of; one that is not there becomes a failure."""
    if given.names is None:
        raise BadInput(
            f"{images}: a folder does not say which image each row of {embeddings} is of; give a list of their paths"
        )
    root, found, _ = find_images([images], level)
    table = {image_name(name): name for name in given.names}
    matched = match([ref.relative for ref in found], table)
    ref_of = {name: ref for ref, name in zip(found, matched.values, strict=True) if name is not None}
    if not ref_of:
        raise BadInput(f"{images}: has none of the images of {embeddings} (the first: {given.names[0]})")
    refs = []
    for row, name in enumerate(given.names):
        ref = ref_of.get(table[image_name(name)])
        refs.append(ref or _named(embeddings, root, name, row, level))
    return root, refs


def _named(embeddings: Path, root: Path, name: str, row: int, level: int) -> ImageRef:
    """A row by the name that a file has for it, which leads out of no folder. Raises BadInput: no name of an image."""
    relative = posixpath.normpath("/" + _DRIVE.sub("", image_name(name))).strip("/")
    if not relative.isprintable() or why_no_path(relative):
        raise BadInput(f"{embeddings}: row {row} is called {name[:200]!r}, and that is no name of an image")
    person = folder_identity(PurePosixPath(relative).parent, PurePosixPath(), level)
    return ImageRef(root / relative, relative, person)


def _without_repeats(embeddings: Path, templates: np.ndarray, refs: Sequence[ImageRef]) -> np.ndarray:
    """Numbers of the rows without those of an image and template that are there already. BadInput: with two people."""
    first: dict[tuple[str, bytes], int] = {}
    uses = Counter(ref.relative for ref in refs)
    kept = []
    for row, ref in enumerate(refs):
        before = first.setdefault((ref.relative, templates[row].tobytes()), row) if uses[ref.relative] > 1 else row
        if before == row:
            kept.append(row)
        elif refs[before].identity != ref.identity:
            both = f"{refs[before].identity} and {ref.identity}"
            raise BadInput(f"{embeddings}: rows {before} and {row} are one template of {ref.relative}, of {both}")
    return np.array(kept, np.int64)


def listed_images(listing: Listing, level: int = 1) -> tuple[Path, list[ImageRef]]:
    """The images of a list, whose paths are relative to the working directory, in its order; and their root.

    level: of the folder that is the person, see `folder_identity`. Raises BadInput: no name of an image.
    """
    images = []
    for number, name in zip(listing.lines, listing.names, strict=True):
        if not name.isprintable():
            raise BadInput(f"{listing.path}, line {number}: {name!a} is no name of an image")
        written = name if os.path.lexists(name) else name.replace("\\", "/")
        # Not resolve(): where the user keeps a picture is its name, wherever a link leads.
        images.append(Path(os.path.abspath(written)))  # noqa: PTH100
    root = root_of_images({image.parent for image in images}, level)
    return root, [
        ImageRef(image, image.relative_to(root).as_posix(), folder_identity(image.parent, root, level))
        for image in images
    ]


def _agreement(
    embeddings: Path, templates: np.ndarray, refs: list[ImageRef], recognizer: Recognizer, finder: FaceFinder
) -> list[str]:
    """A line on how the first templates score against the recognizer's own of their images.

    Alignment differs from tool to tool, and so do templates; those of an image are nearer to its own all the same.
    """
    spread = np.unique(np.linspace(0, len(refs) - 1, min(_LOOKED_AT, len(refs))).astype(int))
    items = list(FaceCropper(recognizer, finder).items([refs[i] for i in spread], _LOOKED_AT, 1))
    usable = [k for k, item in enumerate(items) if not item.failure]
    if len(usable) < _FEWEST:
        return []
    embedded = np.stack([items[k].template for k in usable])
    rows, kind = spread[usable], recognizer.spec.score
    scores = np.stack([score_pairs(embedded, np.roll(templates[rows], k, axis=0), kind) for k in range(len(usable))])
    # Lists are sorted by person: a list that is off by a row gives most images a template of their own person.
    beside = np.stack([score_pairs(embedded, templates[(rows + k) % len(templates)], kind) for k in (-2, -1, 1, 2)])
    nearer = int(((scores[0] > np.median(scores[1:], axis=0)) & (scores[0] > beside.max(0))).sum())
    # Of paths in another order it is every other image, more or less.
    if nearer <= _AGREES * len(usable):
        raise BadInput(
            f"{embeddings}: of {len(usable)} images looked at, {nearer} are nearer to their own template than to the "
            f"others by {recognizer.name}; are the paths in the order of the rows, and --model right? "
            f"(--model {TEMPLATES_ONLY}NAME: a recognizer that is not here)"
        )
    return [
        f"{embeddings}: median score against {recognizer.name}'s own templates {np.median(scores[0]):.3f}, of other "
        f"images {np.median(scores[1:]):.3f}"
    ]
