"""Images → templates by several processes: chunks in turn, and what became of each input told to all, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from facedecode.extraction.cropping import Cropped, FaceCropper, cores
from facedecode.pictures.images import ImageRef
from facedecode.ranks import Ranks


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
