"""A store's own images, read again: as portraits, or perturbed and embedded anew.

Faces are never detected again: a row's box and landmarks are the store's, so that every picture and template
made here belongs to the very face whose template the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from facedecode.errors import BadInput, NoFace
from facedecode.files import sha256_file
from facedecode.pictures import align
from facedecode.pictures.faces import Face, mirrored
from facedecode.pictures.images import load_image
from facedecode.pictures.perturb import Transform, perturb
from facedecode.recognizers.recognizer import Recognizer

Progress = Callable[[int, int], None]
Cut = TypeVar("Cut")
_WORKERS = 2


def row_face(row: dict) -> Face:
    """The face that a store's row records.

    Raises:
        BadInput: the row has none (a centroid, or a template made elsewhere).
    """
    if row["path"] is None or row["landmarks"] is None or row["box"] is None:
        raise BadInput("a template of this store has no image with a face; use a store made by 'extract'")
    return Face(
        box=np.array(row["box"], np.float32),
        landmarks=np.array(row["landmarks"], np.float32).reshape(5, 2),
        probability=float(row["probability"] or 0),
    )


def read_portraits(rows: list[dict], root: Path, size: int, progress: Progress | None = None) -> np.ndarray:
    """The portraits of a store's rows.

    Args:
        rows: dicts with `path` (relative to `root`), `box`, `landmarks`, as `Store.rows().to_pylist()` gives.
        root: source root of the images.
        size: side of a portrait in pixels.
        progress: called with (done, total).

    Returns:
        (n, size, size, 3) uint8 RGB, in the order of the rows.

    Raises:
        BadInput: images are missing (counted, the first few listed) or unreadable.
    """
    portraits = np.empty((len(rows), size, size, 3), np.uint8)
    done = 0
    for batch in portrait_batches(rows, root, size):
        portraits[done : done + len(batch)] = batch
        done += len(batch)
        if progress:
            progress(done, len(rows))
    return portraits


def read_crops(rows: list[dict], root: Path, how: align.Crop, progress: Progress | None = None) -> np.ndarray:
    """The crops that a recognizer sees of a store's rows: (n, S, S, 3) uint8. Raises BadInput as `read_portraits`."""
    crops = np.empty((len(rows), how.size, how.size, 3), np.uint8)
    for done, crop in enumerate(_each(rows, root, lambda image, face: align.crop(image, face, how))):
        crops[done] = crop
        if progress and (done % 32 == 31 or done + 1 == len(rows)):
            progress(done + 1, len(rows))
    return crops


def portrait_batches(rows: list[dict], root: Path, size: int, batch_size: int = 32) -> Iterator[np.ndarray]:
    """The portraits of a store's rows, a few at a time; arguments and errors as `read_portraits`.

    Yields:
        (b, size, size, 3) uint8 RGB, batch after batch, in the order of the rows.
    """
    frame = align.portrait_crop(size)
    cut = _each(rows, root, lambda image, face: align.crop(image, face, frame))
    while batch := list(islice(cut, batch_size)):
        yield np.stack(batch)


def read_mirrored(
    rows: list[dict],
    root: Path,
    size: int,
    recognizer: Recognizer,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Templates and portraits of a store's rows with each image turned over left to right.

    Returns:
        (n, dim) float32 and (n, size, size, 3) uint8 RGB, in the order of the rows.

    Raises:
        BadInput: as `read_portraits`.
    """
    frame = align.portrait_crop(size)

    def cut(image: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
        image, face = mirrored(image, face)
        return recognizer.crop(image, face), align.crop(image, face, frame)

    templates = np.empty((len(rows), recognizer.spec.dim), np.float32)
    portraits = np.empty((len(rows), size, size, 3), np.uint8)
    pairs, done = _each(rows, root, cut), 0
    while batch := list(islice(pairs, batch_size)):
        crops, cuts = zip(*batch, strict=True)
        there = slice(done, done + len(batch))
        templates[there], portraits[there] = recognizer.embed_crops(np.stack(crops)), cuts
        done += len(batch)
        if progress:
            progress(done, len(rows))
    return templates, portraits


def embed_perturbed(
    rows: list[dict],
    root: Path,
    recognizer: Recognizer,
    transform: Transform,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Templates of a store's rows with each image perturbed about its face.

    Yields:
        (b,) int64 and (b, dim) float32, batch after batch: which of the rows, in their order, and the templates. A row
        whose face leaves the frame is left out.

    Raises:
        BadInput: as `read_portraits`.
    """

    def cut(image: np.ndarray, face: Face) -> np.ndarray | None:
        try:
            return recognizer.crop(perturb(image, face, transform, str(recognizer.device)), face)
        except NoFace:
            return None

    crops, done = _each(rows, root, cut), 0
    while batch := list(islice(crops, batch_size)):
        kept = np.array([i for i, crop in enumerate(batch) if crop is not None], np.int64)
        if len(kept):
            yield done + kept, recognizer.embed_crops(np.stack([batch[i] for i in kept]))
        done += len(batch)
        if progress:
            progress(done, len(rows))


def _each(rows: list[dict], root: Path, cut: Callable[[np.ndarray, Face], Cut]) -> Iterator[Cut]:
    """What `cut` makes of each row's image, in order, read ahead in threads."""
    missing = [row["path"] for row in rows if row["path"] is not None and not (root / row["path"]).is_file()]
    if missing:
        listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise BadInput(
            f"{root}: {len(missing)} of {len(rows)} images are not there ({listed}); say where they are with --images"
        )

    def read(row: dict) -> Cut:
        face = row_face(row)
        # Another edition of a data set has the same names: the store's landmarks would lie on other pixels.
        if row.get("sha256") and sha256_file(root / row["path"]) != row["sha256"]:
            raise BadInput(
                f"{root / row['path']}: not the image that the store was made from; say where it is by --images"
            )
        return cut(load_image(root / row["path"]), face)

    with ThreadPoolExecutor(_WORKERS) as pool:
        ahead = 64
        for start in range(0, len(rows), ahead):
            yield from pool.map(read, rows[start : start + ahead])
