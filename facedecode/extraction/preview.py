"""A preview of `extract`: some of its faces, as they are and perturbed, and the recognizer's crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facedecode.errors import BadInput, OutputError
from facedecode.files import sha256_file, sha256_of, write_bytes
from facedecode.pictures import align
from facedecode.pictures.faces import Face, FaceFinder
from facedecode.pictures.figures import enlarged, picture_grid, png_bytes, shortened
from facedecode.pictures.finding import ImageRef, find_images
from facedecode.pictures.images import load_image
from facedecode.pictures.perturb import Transform, perturb
from facedecode.recognizers.recognizer import Recognizer

# The window around a face, in units of its box's longer side: wide enough for a face that turns, moves or grows.
_WINDOW = 1.8
_BOX_COLOR = (255, 210, 0)


def write_preview(
    path: Path,
    inputs: Sequence[Path],
    recognizer: Recognizer,
    finder: FaceFinder,
    transform: Transform | None = None,
    faces: int = 8,
    overwrite: bool = False,
) -> int:
    """Draw some faces of the inputs as `extract` takes them, and write the picture as a PNG, atomically.

    A column is one face, the first that can be used in its share of the inputs. The rows are the image around the face,
    with the face's box; the recognizer's crop; and both once more with `transform` done. The box stays in its
    place, as the crop is taken by it and its landmarks.

    inputs: images or folders, as for `extract`. faces: at most so many. overwrite: replace another picture at `path`.

    Returns how many faces are shown. Raises OutputError: no name that ends in .png, another file is there, or it cannot
    be written. BadInput: as `extract`; or no image has a face to show.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: the preview is written as PNG; give a name that ends in .png")
    refs = find_images(inputs).refs
    if any(path.resolve().is_relative_to(Path(each).resolve()) for each in inputs):
        raise OutputError(f"{path}: lies among the images, and would be one of them; give another place")
    columns, captions = [], []
    for share in np.array_split(np.arange(len(refs)), min(faces, len(refs))):
        for index in share:
            if (column := _column(refs[index], recognizer, finder, transform)) is not None:
                columns.append(column)
                captions.append(shortened(refs[index].path.stem, column.shape[1]))
                break
    if not columns:
        raise BadInput(f"{path}: no face to show among the {len(refs)} images; give images that show a face")
    rows = list(np.stack(columns, axis=1))
    crop = f"seen by {recognizer.name}"
    labels = ["original", crop, transform.name, crop] if transform else ["original", crop]
    data = png_bytes(picture_grid(rows, labels, [captions] + [[]] * (len(rows) - 1)))
    if path.exists() and not overwrite and not (path.is_file() and sha256_file(path) == sha256_of(data)):
        raise OutputError(f"{path}: another file is there; use --overwrite or another name")
    write_bytes(path, data)
    return len(columns)


def _column(
    ref: ImageRef, recognizer: Recognizer, finder: FaceFinder, transform: Transform | None
) -> np.ndarray | None:
    """One face, (2 or 4, side, side, 3) uint8; None where `extract` will have a failure."""
    try:
        image = load_image(ref.path)
        ((_, face),) = finder.find([image], [ref.relative])
        if isinstance(face, str):
            return None
        images = [image] + ([perturb(image, face, transform, str(recognizer.device))] if transform else [])
    except BadInput:  # NoFace among them
        return None
    pictures = []
    for shown in images:
        crop = enlarged(recognizer.crop(shown, face)[None])[0]
        pictures += [_around(shown, face, len(crop)), crop]
    return np.stack(pictures)


def _around(image: np.ndarray, face: Face, side: int) -> np.ndarray:
    """The image around a face, with its box."""
    window = align.BoxCrop(side, _WINDOW)
    picture = Image.fromarray(align.crop(image, face, window))
    matrix = window.matrix(face)
    corners = np.asarray(face.box, np.float64).reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    ImageDraw.Draw(picture).rectangle([round(float(c)) for c in corners.ravel()], outline=_BOX_COLOR)
    return np.asarray(picture)
