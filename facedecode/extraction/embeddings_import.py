"""Templates made elsewhere, with the images that they were made of → a store that every stage takes.

What a store knows of its images beyond the templates, faces and landmarks, is found here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facedecode import __version__
from facedecode.annotations.labels import DataSet
from facedecode.errors import BadInput
from facedecode.extraction.cropping import Cropped, FaceCropper, describe_inputs
from facedecode.extraction.jobs import StoreOptions
from facedecode.extraction.run import Extracted, write_shards
from facedecode.files import sha256_file
from facedecode.identity import RecognizerId
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.images import ImageRef, folder_identity
from facedecode.progress import Progress, silent
from facedecode.recognizers.contract import TEMPLATES_ONLY
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store, StoreWriter
from facedecode.store.npy import read_bare

_LOOKED_AT = 16  # images whose templates are compared with the recognizer's own
_FEWEST = 4
_AGREES = 0.75


def describe_given(name: str, dim: int, score: str) -> RecognizerId:
    """The identity of a recognizer that left only templates. name: `given:NAME`. Raises BadInput: no such name."""
    described = {"name": name, "weights_sha256": None, "license": "not stated", "dim": dim, "score": score}
    return RecognizerId.from_json("--model", described)


def import_embeddings(
    embeddings: Path,
    images: Path,
    output: Path,
    recognizer: Recognizer | str,
    detector: FaceDetector,
    *,
    score: str = "cosine",
    data_set: DataSet | None = None,
    options: StoreOptions | None = None,
    progress: Progress = silent,
) -> Extracted:
    """Make a store of templates that are there already.

    Args:
        embeddings: `.npy`, (n, dim) float16, float32 or float64.
        images: text file with the n images' paths, one a line, in the order of the rows.
        recognizer: that made the templates; or `given:NAME` where it is not here, and `score` compares them.
        data_set: gives the identities in place of the folders.
        output, options, progress: as in `extract`. An image without a face is a failure, and its template is left out.

    Raises BadInput: the files cannot be read, have different numbers of rows, or a path twice; templates of another
    length; no image with a face; the recognizer itself makes other templates of the images. OutputError, OutputInUse:
    as `StoreWriter`.
    """
    options = options or StoreOptions()
    templates, note = read_bare(embeddings)
    root, refs = listed_images(images)
    if len(refs) != len(templates):
        raise BadInput(f"{images}: {len(refs)} paths, and {embeddings} has {len(templates)} templates; one for each")
    refs, notes = (data_set or DataSet()).with_identities(refs)
    if isinstance(recognizer, str):
        described = describe_given(recognizer, templates.shape[1], score)
    else:
        described, score = recognizer.describe(), recognizer.spec.score
        if recognizer.spec.dim != templates.shape[1]:
            raise BadInput(
                f"{embeddings}: templates of {templates.shape[1]} numbers, and {recognizer.name}'s have "
                f"{recognizer.spec.dim}; say --model"
            )
    describe = {"transform": None, "precision": "fp32", "score": score, "l2_normalized": False}
    describe["imported"] = {"embeddings_sha256": sha256_file(embeddings), "name": embeddings.name}
    settings = {**describe, "detector": detector.settings, "batch_size": options.batch_size, **describe_inputs(refs)}
    manifest = {**describe, "tool_version": __version__}
    cropper = FaceCropper(None, detector)

    def items(position: int) -> Iterator[Cropped]:
        cropped = cropper.items(refs[position:], options.batch_size, options.workers)
        for item, template in zip(cropped, templates[position:], strict=True):
            item.template = template
            yield item

    with StoreWriter(output, settings, root, described, options.shard_rows, options.overwrite, manifest) as writer:
        resumed = len(refs) if writer.complete else writer.resume_inputs
        if not writer.complete:
            if not isinstance(recognizer, str):
                notes += _agreement(embeddings, templates, refs, recognizer, detector)
            writer.finish(write_shards(writer, options, range(resumed, len(refs)), items, progress))
    store = Store.open(output, verify=False)
    return Extracted(len(store), store.failures(), resumed, [note] * (note is not None) + notes)


def listed_images(path: Path) -> tuple[Path, list[ImageRef]]:
    """The images of a text file, one a line and relative to the working directory, in its order; and their root.

    Raises BadInput: unreadable, an empty line, or a path twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\r\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise BadInput(f"{path}: cannot be read ({reason}); give a text file with a path a line") from None
    lines_of: dict[Path, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise BadInput(f"{path}, line {number}: empty; give the path of each template's image, in their order")
        # Not resolve(): where the user keeps a picture is its name, wherever a link leads.
        image = Path(os.path.abspath(line.strip()))  # noqa: PTH100
        if image in lines_of:
            raise BadInput(f"{path}, line {number}: {line.strip()} is there already, in line {lines_of[image]}")
        lines_of[image] = number
    root = _common({image.parent for image in lines_of})
    return root, [
        ImageRef(image, image.relative_to(root).as_posix(), folder_identity(image.parent, root)) for image in lines_of
    ]


def _common(folders: set[Path]) -> Path:
    first = next(iter(folders))
    return next(root for root in (first, *first.parents) if all(folder.is_relative_to(root) for folder in folders))


def _agreement(
    embeddings: Path, templates: np.ndarray, refs: list[ImageRef], recognizer: Recognizer, detector: FaceDetector
) -> list[str]:
    """A line on how the first templates score against the recognizer's own of their images.

    Alignment differs from tool to tool, and so do templates; those of an image are nearer to its own all the same.
    """
    spread = np.unique(np.linspace(0, len(refs) - 1, min(_LOOKED_AT, len(refs))).astype(int))
    items = list(FaceCropper(recognizer, detector).items([refs[i] for i in spread], _LOOKED_AT, 1))
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
