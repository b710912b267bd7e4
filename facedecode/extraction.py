"""Images → embedding store: read, detect, align, embed, write; resumable to the byte.

Images go through in chunks. A worker thread does all of a chunk's work on one core, so that reading overlaps the
networks and every core is busy. Chunks are formed anew at the start of each shard, from the images' order
alone, so that a run that was killed and resumed does the same arithmetic as one that was not.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from facedecode import __version__
from facedecode.errors import BadInput, NoFace
from facedecode.faces import FaceDetector, choose_face
from facedecode.files import json_text
from facedecode.images import ImageRef, find_images, load_image
from facedecode.perturb import Transform, perturb
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import StoreWriter

Progress = Callable[[int, int, str], None]
GROUP_PIXELS = 16_000_000  # of decoded images that a worker holds at once


@dataclass(frozen=True)
class Extracted:
    """What a run left: templates and failures in the store, and how much of it was there before."""

    count: int
    failures: list[dict[str, str]]
    resumed: int


@dataclass
class _Item:
    """What became of one input: a template with its row, or the failure."""

    row: dict | None = None
    template: np.ndarray | None = None
    failure: dict[str, str] | None = None


def extract(
    inputs: Sequence[Path],
    output: Path,
    recognizer: Recognizer,
    detector: FaceDetector,
    transform: Transform | None = None,
    batch_size: int = 32,
    shard_rows: int = 4096,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Extracted:
    """Make a store of the templates of all images.

    Args:
        inputs: images or folders; the subfolder that holds an image is its identity.
        output: the store's folder; a run that was interrupted there is resumed.
        transform: perturbs each image about its face before the crop; the original box and landmarks then cut
            it, so that the recognizer sees the misalignment. An image whose face leaves the frame is a failure.
        batch_size: images of a chunk; their templates are computed together.
        workers: chunks in work at once; as many as there are cores if None.
        progress: called with (inputs done, all inputs, a word on failures).

    Raises:
        BadInput: a path does not exist, there are no images, or none of them gave a template.
        OutputError, OutputInUse: see `StoreWriter`.
    """
    root, refs = find_images(inputs)
    describe = {
        "transform": transform.name if transform else None,
        "precision": recognizer.precision,
        "score": recognizer.spec.score,
        "l2_normalized": False,
    }
    settings = {
        **describe,
        "detector": detector.settings,
        "device": recognizer.device.type,
        "batch_size": batch_size,
        "inputs": len(refs),
        "inputs_sha256": _digest(refs),
    }
    manifest = {**describe, "tool_version": __version__}
    with StoreWriter(
        output, settings, root, recognizer.describe(), shard_rows, overwrite=overwrite, manifest=manifest
    ) as writer:
        resumed = len(refs) if writer.complete else writer.resume_inputs
        if not writer.complete:
            process = _Process(recognizer, detector, transform)
            failed = 0
            position, last = writer.resume_inputs, []
            while position < len(refs):
                rows, templates, failures = [], [], []
                for item in process.items(refs[position:], batch_size, workers):
                    position += 1
                    if item.failure:
                        failures.append(item.failure)
                        failed += 1
                    else:
                        rows.append(item.row)
                        templates.append(item.template)
                    if progress:
                        progress(position, len(refs), f"{failed} failed" if failed else "")
                    if len(rows) == shard_rows:
                        break
                if rows:
                    writer.append(np.stack(templates), rows, failures, position)
                else:
                    last = failures
            writer.finish(last)
    return _summary(output, resumed)


def _summary(output: Path, resumed: int) -> Extracted:
    from facedecode.store import Store

    store = Store.open(output, verify=False)
    return Extracted(len(store), store.failures(), resumed)


def _digest(refs: list[ImageRef]) -> str:
    listed = [[ref.relative, ref.identity, _size(ref.path)] for ref in refs]
    return hashlib.sha256(json_text(listed).encode()).hexdigest()


def _size(path: Path) -> int | None:
    """Bytes of a file; None where it cannot be told, such as a link to nowhere (which becomes a failure row)."""
    try:
        return path.stat().st_size
    except OSError:
        return None


class _Process:
    """The work on a chunk of images."""

    def __init__(self, recognizer: Recognizer, detector: FaceDetector, transform: Transform | None):
        self.recognizer, self.detector, self.transform = recognizer, detector, transform

    def items(self, refs: list[ImageRef], batch_size: int, workers: int | None) -> Iterator[_Item]:
        """What becomes of each input, in order; chunks are worked on ahead, in threads."""
        workers = workers or _cores()
        # One core a worker: several that each ran on all cores would wait for one another.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        ahead: deque[Future[list[_Item]]] = deque()
        starts = count(0, batch_size)
        try:
            while True:
                while len(ahead) <= workers and (start := next(starts)) < len(refs):
                    ahead.append(pool.submit(self.chunk, refs[start : start + batch_size]))
                if not ahead:
                    return
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def chunk(self, refs: list[ImageRef]) -> list[_Item]:
        """All of a chunk's work, one after the other."""
        items: list[_Item] = []
        crops: list[np.ndarray] = []
        group: list[tuple[_Item, np.ndarray]] = []
        for ref in refs:
            item, image = self._read(ref)
            items.append(item)
            if image is not None:
                group.append((item, image))
            # Photographs are large: they leave memory before the chunk is through.
            if sum(picture.size for _, picture in group) >= 3 * GROUP_PIXELS:
                crops += self._crop(group)
                group = []
        crops += self._crop(group)
        usable = [item for item in items if not item.failure]
        if usable:
            for item, template in zip(usable, self.recognizer.embed_crops(np.stack(crops)), strict=True):
                item.template = template
        for item in usable:
            if not np.isfinite(item.template).all():
                item.failure = _failure(item.row["path"], "embed", "the template holds NaN or infinity")
        return items

    def _read(self, ref: ImageRef) -> tuple[_Item, np.ndarray | None]:
        try:
            if ref.path.exists() and not ref.path.is_file():
                raise BadInput("not a regular file")  # a pipe would never end
            image = load_image(ref.path)
            digest = hashlib.sha256(ref.path.read_bytes()).hexdigest()
        except (BadInput, OSError) as error:
            reason = str(error).removeprefix(f"{ref.path}: ")
            return _Item(failure=_failure(ref.relative, "read", reason)), None
        height, width = image.shape[:2]
        row = {"path": ref.relative, "identity": ref.identity, "width": width, "height": height, "sha256": digest}
        return _Item(row), image

    def _crop(self, group: list[tuple[_Item, np.ndarray]]) -> list[np.ndarray]:
        """Crops of the faces that count; an image without one becomes a failure."""
        crops = []
        found = self.detector.detect([image for _, image in group])
        for (item, image), faces in zip(group, found, strict=True):
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
            crops.append(self.recognizer.crop(image, face))
        return crops


def _cores() -> int:
    """Cores that this process may use; not every system tells, and then those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failure(path: str, stage: str, reason: str) -> dict[str, str]:
    return {"path": path, "stage": stage, "reason": reason}
