"""Images → faces, cropped as a recognizer wants them, with their templates.

Images go through in chunks. A worker thread does all of a chunk's work on one core, so that reading overlaps the
networks and every core is busy. An image's result depends on its chunk, and not on the threads.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facedecode.errors import BadInput, NoFace
from facedecode.files import json_text
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.pictures.images import ImageRef, load_image
from facedecode.pictures.perturb import Transform, perturb
from facedecode.recognizers.recognizer import Recognizer

_GROUP_PIXELS = 16_000_000  # of decoded images that a worker holds at once


@dataclass
class Cropped:
    """The result of one input: a face with its template, or the failure.

    row: of a store: path, identity, width, height, sha256; box, landmarks and probability of the face.
    crop: (S, S, 3) uint8 RGB. template: (dim,) float32.
    failure: path, stage and reason; then the others are not to be used.
    """

    row: dict | None = None
    crop: np.ndarray | None = None
    template: np.ndarray | None = None
    failure: dict[str, str] | None = None


def describe_inputs(refs: list[ImageRef]) -> dict[str, int | str]:
    """JSON that tells one list of inputs from another: how many, and a hash of names, identities and sizes."""

    def size(path: Path) -> int | None:
        with suppress(OSError):  # a link to nowhere becomes a failure row
            return path.stat().st_size
        return None

    listed = [[ref.relative, ref.identity, size(ref.path)] for ref in refs]
    return {"inputs": len(refs), "inputs_sha256": hashlib.sha256(json_text(listed).encode()).hexdigest()}


class FaceCropper:
    """Finds, crops and embeds the face that each image is of.

    recognizer: None to only find faces; the results then have neither crop nor template.
    transform: perturbs each image about its face before the crop.
    """

    def __init__(self, recognizer: Recognizer | None, detector: FaceDetector, transform: Transform | None = None):
        self.recognizer, self.detector, self.transform = recognizer, detector, transform

    def items(self, refs: list[ImageRef], batch_size: int, workers: int | None = None) -> Iterator[Cropped]:
        """The result of each input, in order; chunks of `batch_size` are worked on ahead, in threads.

        workers: chunks in work at once; as many as there are cores if None.
        """
        starts = range(0, len(refs), batch_size)
        for items in self.chunks([refs[start : start + batch_size] for start in starts], workers):
            yield from items

    def chunks(self, chunks: list[list[ImageRef]], workers: int | None = None) -> Generator[list[Cropped], None, None]:
        """The results chunk by chunk, otherwise as `items`."""
        workers = workers or cores()
        # One core a worker: several that each ran on all cores would wait for one another.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        ahead: deque[Future[list[Cropped]]] = deque()
        waiting = iter(chunks)
        try:
            while True:
                while len(ahead) <= workers and (chunk := next(waiting, None)) is not None:
                    ahead.append(pool.submit(self.chunk, chunk))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def chunk(self, refs: list[ImageRef]) -> list[Cropped]:
        """All of a chunk's work, one after the other."""
        items: list[Cropped] = []
        group: list[tuple[Cropped, np.ndarray]] = []
        for ref in refs:
            item, image = self._read(ref)
            items.append(item)
            if image is not None:
                group.append((item, image))
            # Photographs are large: they leave memory before the chunk is through.
            if sum(picture.size for _, picture in group) >= 3 * _GROUP_PIXELS:
                self._crop(group)
                group = []
        self._crop(group)
        usable = [item for item in items if not item.failure]
        if usable and self.recognizer:
            templates = self.recognizer.embed_crops(np.stack([item.crop for item in usable]))
            for item, template in zip(usable, templates, strict=True):
                item.template = template
        for item in usable:
            if self.recognizer and not np.isfinite(item.template).all():
                item.failure = _failure(item.row["path"], "embed", "the template holds NaN or infinity")
        return items

    def _read(self, ref: ImageRef) -> tuple[Cropped, np.ndarray | None]:
        try:
            if ref.path.exists() and not ref.path.is_file():
                raise BadInput("not a regular file")  # a pipe would never end
            image = load_image(ref.path)
            digest = hashlib.sha256(ref.path.read_bytes()).hexdigest()
        except (BadInput, OSError) as error:
            reason = str(error).removeprefix(f"{ref.path}: ")
            return Cropped(failure=_failure(ref.relative, "read", reason)), None
        height, width = image.shape[:2]
        row = {"path": ref.relative, "identity": ref.identity, "width": width, "height": height, "sha256": digest}
        return Cropped(row), image

    def _crop(self, group: list[tuple[Cropped, np.ndarray]]) -> None:
        """Crops of the faces that count; an image without one becomes a failure."""
        detected = self.detector.detect([image for _, image in group])
        for (item, image), faces in zip(group, detected, strict=True):
            face = choose_face(faces, item.row["width"], item.row["height"])
            if face is None:
                item.failure = _failure(item.row["path"], "detect", "no face found")
                continue
            if self.transform:
                try:
                    image = perturb(image, face, self.transform, str(self.recognizer.device))
                except NoFace as error:
                    item.failure = _failure(item.row["path"], "perturb", str(error))
                    continue
            item.row |= {"box": face.box, "landmarks": face.landmarks, "probability": face.probability}
            if self.recognizer:
                item.crop = self.recognizer.crop(image, face)


def cores() -> int:
    """Cores that this process may use; those of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failure(path: str, stage: str, reason: str) -> dict[str, str]:
    return {"path": path, "stage": stage, "reason": reason}
