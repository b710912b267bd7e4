"""A store's own images, read again: as portraits, or perturbed and embedded anew.

Faces are never detected again: a row's box and landmarks are the store's, so that every picture and template
made here belongs to the very face whose template the store has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from facedecode.errors import BadInput, NoFace
from facedecode.pictures import align
from facedecode.pictures.faces import Face, mirrored
from facedecode.pictures.images import image_size, read_image, room_for
from facedecode.pictures.perturb import Transform, perturb
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store.paths import ImageFolder

Cut = TypeVar("Cut")
Root = Path | ImageFolder
_WORKERS = 2


def row_face(row: dict) -> Face:
    """The face that a store's row records.

    Raises BadInput: the row has none (a centroid, or a template made elsewhere), or one without a size.
    """
    if row["path"] is None or row["landmarks"] is None or row["box"] is None:
        which = f" ({row['path']})" if row["path"] else ""
        raise BadInput(f"a template of this store{which} has no image with a face; use a store made by 'extract'")
    x1, y1, x2, y2 = row["box"]
    if not (x1 < x2 and y1 < y2):
        raise BadInput(f"{row['path']}: the store has a box without a size for its face; make the store again")
    return Face(
        box=np.array(row["box"], np.float32),
        landmarks=np.array(row["landmarks"], np.float32).reshape(5, 2),
        probability=float(row["probability"] or 0),
    )


def read_crops(rows: list[dict], root: Root, how: align.Crop, progress: Progress = silent) -> np.ndarray:
    """Crops of a store's rows, as a recognizer sees them.

    Args:
        rows: dicts with `path` (relative to `root`), `box`, `landmarks`, as `Store.rows().to_pylist()` gives.
        root: the folder of the images, as `Store.images` gives it; a path stands for a manifest's root.
        progress: called with (done, total).

    Returns (n, S, S, 3) uint8 RGB, in the order of the rows. Raises BadInput, before an image is read: as
    `ImageFolder.find`. Raises BadInput: an image that is unreadable, or not that of the store.
    """
    crops = np.empty((len(rows), how.size, how.size, 3), np.uint8)
    for place, batch in _batches(rows, root, lambda image, face: align.crop(image, face, how), 32, progress):
        crops[place] = batch
    return crops


def read_portraits(rows: list[dict], root: Root, size: int, progress: Progress = silent) -> np.ndarray:
    """The portraits of a store's rows, `size` pixels a side; as `read_crops`."""
    return read_crops(rows, root, align.portrait_crop(size), progress)


def portrait_batches(rows: list[dict], root: Root, size: int, batch_size: int = 32) -> Iterator[np.ndarray]:
    """As `read_portraits`, a few at a time: yields (b, size, size, 3) uint8 RGB, in the order of the rows."""
    frame = align.portrait_crop(size)
    for _, batch in _batches(rows, root, lambda image, face: align.crop(image, face, frame), batch_size):
        yield np.stack(batch)


def read_mirrored(
    rows: list[dict],
    root: Root,
    size: int,
    recognizer: Recognizer,
    batch_size: int = 32,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Templates and portraits of a store's rows, each image mirrored left to right.

    Returns (n, dim) float32 and (n, size, size, 3) uint8 RGB, in the order of the rows. Raises BadInput: as
    `read_crops`.
    """
    frame = align.portrait_crop(size)

    def cut(image: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
        image, face = mirrored(image, face)
        return recognizer.crop(image, face), align.crop(image, face, frame)

    templates = np.empty((len(rows), recognizer.spec.dim), np.float32)
    portraits = np.empty((len(rows), size, size, 3), np.uint8)
    for place, batch in _batches(rows, root, cut, batch_size, progress):
        crops, portraits[place] = (np.stack(part) for part in zip(*batch, strict=True))
        templates[place] = recognizer.embed_crops(crops)
    return templates, portraits


def embed_perturbed(
    rows: list[dict],
    root: Root,
    recognizer: Recognizer,
    transform: Transform,
    progress: Progress = silent,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Templates of a store's rows, each image perturbed about its face.

    Yields (b,) int64 and (b, dim) float32, batch after batch: numbers of rows, in their order, and the templates. A row
    is left out where the face leaves the frame. Raises BadInput: as `read_crops`.
    """

    def cut(image: np.ndarray, face: Face) -> np.ndarray | None:
        try:
            return recognizer.crop(perturb(image, face, transform, str(recognizer.device)), face)
        except NoFace:
            return None

    for place, crops in _batches(rows, root, cut, 32, progress):
        kept = np.array([i for i, crop in enumerate(crops) if crop is not None], np.int64)
        if len(kept):
            yield place.start + kept, recognizer.embed_crops(np.stack([crops[i] for i in kept]))


def _batches(
    rows: list[dict],
    root: Root,
    cut: Callable[[np.ndarray, Face], Cut],
    batch_size: int,
    progress: Progress = silent,
) -> Iterator[tuple[slice, list[Cut]]]:
    """A few rows at a time, and what `cut` makes of each row's image.

    Progress is told of each image that was read, and of the last one when its batch was used.
    """
    batch: list[Cut] = []
    progress(0, len(rows))
    for done, each in enumerate(_each(rows, root, cut), 1):
        batch.append(each)
        if len(batch) == batch_size or done == len(rows):
            yield slice(done - len(batch), done), batch
            batch = []
        progress(done, len(rows))


def _each(rows: list[dict], root: Root, cut: Callable[[np.ndarray, Face], Cut]) -> Iterator[Cut]:
    """What `cut` makes of each row's image, in order, read ahead in threads."""
    folder = root if isinstance(root, ImageFolder) else ImageFolder(root)
    named = [row["path"] for row in rows if row["path"] is not None]
    places = dict(zip(named, folder.find(named), strict=True))
    faces = [row_face(row) for row in rows]

    def read(number: int) -> Cut:
        place, expected = places[rows[number]["path"]], rows[number].get("sha256")
        if expected is None and not folder.named:
            raise BadInput(
                f"{place}: the store does not have this image's SHA-256, so any file may be in its place; name its "
                "folder with --images"
            )
        width, height = image_size(place)
        with room_for(width * height):
            image, _ = read_image(place, expected=expected)
            try:
                return cut(image, faces[number])
            except (np.linalg.LinAlgError, OverflowError, FloatingPointError):
                raise BadInput(
                    f"{place}: the store's landmarks in it are none of a face; make the store again"
                ) from None

    with ThreadPoolExecutor(_WORKERS) as pool:
        ahead = 64
        for start in range(0, len(rows), ahead):
            yield from pool.map(read, range(len(rows))[start : start + ahead])
