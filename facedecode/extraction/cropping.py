"""Images → faces, cropped as a recognizer wants them, with their templates.

Images go through in chunks. A worker thread does all of a chunk's work on one core, so that reading overlaps the
networks and every core is busy. An image's result depends on its chunk, and not on the threads. Large photographs
share a budget of memory, whatever the number of cores (`pictures.images.room_for`).
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import numpy as np
import torch

from facedecode.errors import BadInput, NoFace
from facedecode.files import json_text
from facedecode.pictures.faces import Face, FaceFinder
from facedecode.pictures.finding import ImageRef
from facedecode.pictures.images import LARGE, image_size, read_image, room_for
from facedecode.pictures.perturb import Transform, perturb
from facedecode.recognizers.recognizer import Recognizer

_GROUP_PIXELS = 16_000_000  # of decoded images that a worker holds at once, large ones aside

Picture = ImageRef | np.ndarray
"""An image in a file, or (H, W, 3) uint8 RGB."""
Seen = Callable[[int], None]
"""Called with a number of images."""


@dataclass
class Cropped:
    """The result of one input: a face with its template, or the failure.

    row: of a store: path, identity, width, height, sha256; box, landmarks and probability of the face. An array has
        neither path, identity nor sha256.
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


def unseen(count: int, /) -> None:
    """The `Seen` of images that nobody counts."""


class FaceCropper:
    """Finds, crops and embeds the face that each image is of.

    recognizer: None to only find faces; the results then have neither crop nor template.
    finder: says where the face is, see `finders.FaceSource`.
    transform: perturbs each image about its face before the crop.
    """

    def __init__(self, recognizer: Recognizer | None, finder: FaceFinder, transform: Transform | None = None):
        self.recognizer, self.finder, self.transform = recognizer, finder, transform

    def items(
        self, inputs: Sequence[Picture], batch_size: int, workers: int | None = None, seen: Seen = unseen
    ) -> Iterator[Cropped]:
        """The result of each input, in order; chunks of `batch_size` are worked on ahead, in threads.

        workers: chunks in work at once; as many as there are cores if None.
        seen: called, in the caller's thread, with how many inputs were seen so far: their faces are found.
        """
        starts = range(0, len(inputs), batch_size)
        for items in self.chunks([inputs[start : start + batch_size] for start in starts], workers, seen):
            yield from items

    def chunks(
        self, chunks: Sequence[Sequence[Picture]], workers: int | None = None, seen: Seen = unseen
    ) -> Generator[list[Cropped], None, None]:
        """The results chunk by chunk, otherwise as `items`. Closed early, it ends within the time of an image."""
        workers = workers or cores()
        # One core a worker: several that each ran on all cores would wait for one another.
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        ahead: deque[Future[list[Cropped]]] = deque()
        waiting = iter(chunks)
        news: SimpleQueue[int] = SimpleQueue()
        stopped = Event()
        count = 0

        def one_seen(number: int) -> None:
            if stopped.is_set():
                raise CancelledError
            news.put(number)

        try:
            while True:
                while len(ahead) <= workers and (chunk := next(waiting, None)) is not None:
                    ahead.append(pool.submit(self.chunk, chunk, one_seen))
                    ahead[-1].add_done_callback(lambda _: news.put(0))
                if not ahead:
                    return
                first = ahead.popleft()
                while not first.done() or not news.empty():  # news of its last inputs may be there still
                    if number := news.get():
                        count += number
                        seen(count)
                yield first.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def chunk(self, inputs: Sequence[Picture], seen: Seen = unseen) -> list[Cropped]:
        """All of a chunk's work, one after the other.

        seen: called with 1 for each input that was seen, and with 0 in between; what it raises ends the work.
        """
        items = [Cropped() for _ in inputs]
        for group, pixels in self._groups(inputs, items, seen):
            with room_for(pixels):
                seen(0)  # while it waited, the work may have been stopped
                self._crop(inputs, items, group, seen)
        usable = [item for item in items if not item.failure]
        if usable and self.recognizer:
            templates = self.recognizer.embed_crops(np.stack([item.crop for item in usable]))
            for item, template in zip(usable, templates, strict=True):
                item.template = template
        for item in usable:
            if self.recognizer and not np.isfinite(item.template).all():
                item.failure = _failure(item.row["path"], "embed", "the template holds NaN or infinity")
        return items

    def _groups(self, inputs: Sequence[Picture], items: list[Cropped], seen: Seen) -> Iterator[tuple[list[int], int]]:
        """Numbers of inputs that are in memory together, and the pixels of the largest: a large one is alone."""
        group, held = [], 0
        for place, each in enumerate(inputs):
            try:
                width, height = each.shape[1::-1] if isinstance(each, np.ndarray) else image_size(each.path)
            except BadInput as error:
                items[place].failure = _unreadable(each, error)
                seen(1)
                continue
            if width * height > LARGE:
                yield [place], width * height
                continue
            group.append(place)
            held += width * height
            if held >= _GROUP_PIXELS:
                yield group, 0
                group, held = [], 0
        if group:
            yield group, 0

    def _crop(self, inputs: Sequence[Picture], items: list[Cropped], group: list[int], seen: Seen) -> None:
        """Rows and crops of a group's faces; an image that cannot be read or shows none becomes a failure."""
        pictures: list[np.ndarray] = []
        places: list[int] = []
        for place in group:
            each = inputs[place]
            try:
                picture, digest = (each, None) if isinstance(each, np.ndarray) else read_image(each.path)
            except BadInput as error:
                items[place].failure = _unreadable(each, error)
                seen(1)
                continue
            path, identity = (None, None) if isinstance(each, np.ndarray) else (each.relative, each.identity)
            height, width = picture.shape[:2]
            items[place].row = {
                "path": path,
                "identity": identity,
                "width": width,
                "height": height,
                "sha256": digest,
            }
            pictures.append(picture)
            places.append(place)
        for index, face in self.finder.find(pictures, [items[place].row["path"] for place in places]):
            item = items[places[index]]
            if isinstance(face, str):
                item.failure = _failure(item.row["path"], "detect", face)
            else:
                self._cut(item, pictures[index], face)
            seen(1)

    def _cut(self, item: Cropped, image: np.ndarray, face: Face) -> None:
        if self.transform:
            try:
                image = perturb(image, face, self.transform, str(self.recognizer.device))
            except NoFace as error:
                item.failure = _failure(item.row["path"], "perturb", str(error))
                return
        item.row |= {"box": face.box, "landmarks": face.landmarks, "probability": face.probability}
        if self.recognizer:
            item.crop = self.recognizer.crop(image, face)


def cores() -> int:
    """Cores that this process may use; those of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unreadable(picture: Picture, error: BadInput) -> dict[str, str]:
    assert isinstance(picture, ImageRef)  # an array is read
    return _failure(picture.relative, "read", str(error).removeprefix(f"{picture.path}: "))


def _failure(path: str, stage: str, reason: str) -> dict[str, str]:
    return {"path": path, "stage": stage, "reason": reason}
