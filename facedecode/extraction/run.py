"""Images → embedding store: read, detect, align, embed, write; resumable to the byte.

Images go through in chunks (see `cropping`), which are formed anew at the start of each shard, from the images' order
alone, so that a run that was killed and resumed does the same arithmetic as one that was not. Several processes take
chunks in turn and tell one another what became of them (`sharing`), so that they, too, do the same arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facedecode import __version__
from facedecode.annotations.labels import DataSet
from facedecode.extraction.cropping import Cropped, FaceCropper, cores, describe_inputs
from facedecode.files import write_text
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.images import ImageRef, find_images
from facedecode.pictures.perturb import Transform
from facedecode.ranks import Ranks
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import StoreWriter
from facedecode.store.layout import LABELS


def shared_items(
    cropper: FaceCropper, refs: list[ImageRef], batch_size: int, ranks: Ranks, workers: int | None = None
) -> Iterator[Cropped]:
    """What `FaceCropper.items` gives, the same on every process, each of which works on every n-th chunk only.

    The processes take turns of one chunk each and then exchange what they have, without the crops. All of them must
    stop at the same item. Reading ahead is `FaceCropper`'s, so that nobody waits while others are done with a turn.
    """
    if ranks.count == 1:
        yield from cropper.items(refs, batch_size, workers)
        return
    chunks = [refs[start : start + batch_size] for start in range(0, len(refs), batch_size)]
    workers = workers or max(1, cores() // ranks.local_count)
    with closing(cropper.chunks(chunks[ranks.rank :: ranks.count], workers)) as ours:
        for _ in range(0, len(chunks), ranks.count):
            for told in ranks.gather(_packed(next(ours, []))):
                yield from _unpacked(told)


def _packed(items: list[Cropped]) -> bytes:
    """A line of JSON, then the templates; float32 survives it to the bit."""
    lines = [{"row": item.row, "failure": item.failure} for item in items]
    templates = [item.template for item in items if not item.failure]
    return json.dumps(lines, default=np.ndarray.tolist).encode() + b"\n" + np.array(templates, "<f4").tobytes()


def _unpacked(data: bytes) -> Iterator[Cropped]:
    head, _, tail = data.partition(b"\n")
    lines = json.loads(head)
    usable = sum(not line["failure"] for line in lines)
    templates = iter(np.frombuffer(tail, "<f4").reshape(usable, -1) if usable else ())
    for line in lines:
        yield Cropped(failure=line["failure"]) if line["failure"] else Cropped(line["row"], template=next(templates))


Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Extracted:
    """What a run left: templates and failures in the store, how much of it was there before, and what a data set's
    files do not say (`DataSet`)."""

    count: int
    failures: list[dict[str, str]]
    resumed: int
    notes: list[str] = field(default_factory=list)


def extract(
    inputs: Sequence[Path],
    output: Path,
    recognizer: Recognizer,
    detector: FaceDetector,
    transform: Transform | None = None,
    data_set: DataSet | None = None,
    batch_size: int = 32,
    shard_rows: int = 4096,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
) -> Extracted | None:
    """Make a store of the templates of all images.

    Args:
        inputs: images or folders; the subfolder that holds an image is its identity.
        output: the store's folder; a run that was interrupted there is resumed.
        transform: perturbs each image about its face before the crop; the original box and landmarks then cut
            it, so that the recognizer sees the misalignment. An image whose face leaves the frame is a failure.
        data_set: says whose the images are in place of their folders; its labels go to `labels.csv` in the store.
        batch_size: images of a chunk; their templates are computed together.
        workers: chunks in work at once; as many as there are cores if None.
        progress: called with (inputs done, all inputs, a word on failures).
        ranks: the processes that share the work; each calls this with the same arguments and the same images. The
            store is that of one process to the byte, whatever their number, also where it resumes what others began.

    Returns:
        What the run left; None on other ranks than the first, which alone writes.

    Raises:
        BadInput: a path does not exist, there are no images, or none of them gave a template.
        OutputError, OutputInUse: see `StoreWriter`.
        UsageError: the processes were started for different work. PeerLost: one of them is gone.
    """
    ranks = ranks or Ranks()
    root, refs = find_images(inputs)
    data_set = data_set or DataSet()
    refs, notes = data_set.with_identities(refs)
    labels, more = data_set.label_table(refs)
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
        **describe_inputs(refs),
    }
    manifest = {**describe, "tool_version": __version__}
    shared = {"command": "extract", "shard_rows": shard_rows, "recognizer": recognizer.describe(), **manifest}
    ranks.agree({**shared, "settings": settings})
    writer = StoreWriter(output, settings, root, recognizer.describe(), shard_rows, overwrite, manifest)
    with writer if ranks.first else nullcontext():
        position = resumed = ranks.from_first(len(refs) if writer.complete else writer.resume_inputs)
        cropper = FaceCropper(recognizer, detector, transform)
        failed, last = 0, []
        while position < len(refs):
            rows, templates, failures = [], [], []
            for item in shared_items(cropper, refs[position:], batch_size, ranks, workers):
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
            if not rows:
                last = failures
            elif ranks.first:
                writer.append(np.stack(templates), rows, failures, position)
        if not ranks.first:
            return None
        writer.finish(last)
        if labels is not None:
            write_text(output / LABELS, labels)
    return _summary(output, resumed, notes + more)


def _summary(output: Path, resumed: int, notes: list[str]) -> Extracted:
    from facedecode.store import Store

    store = Store.open(output, verify=False)
    return Extracted(len(store), store.failures(), resumed, notes)
