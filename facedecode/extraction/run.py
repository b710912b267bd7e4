"""Images → embedding store: read, detect, align, embed, write; resumable to the byte.

Images go through in chunks (see `cropping`), which are formed anew at the start of each shard, from the images' order
alone: a run that was killed and resumed does the same arithmetic as one that was not. Several processes take chunks in
turn and exchange their results, so that they, too, do the same arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from facedecode import __version__
from facedecode.annotations.labels import DataSet
from facedecode.errors import BadInput, some_of
from facedecode.extraction.cropping import Cropped, FaceCropper, Seen, cores, describe_inputs, unseen
from facedecode.extraction.finders import IF_CROPS, finder_notes
from facedecode.extraction.jobs import StoreOptions
from facedecode.files import write_text
from facedecode.pictures.faces import FaceFinder
from facedecode.pictures.finding import ImageRef, find_images, people_notes
from facedecode.pictures.images import image_size
from facedecode.pictures.perturb import Transform
from facedecode.progress import Progress, silent
from facedecode.ranks import Ranks
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import known_to
from facedecode.recognizers.spec import REGISTRY
from facedecode.store import Store, StoreWriter
from facedecode.store.layout import LABELS, LEVEL

_LOOKED_AT = 32  # images whose sizes tell whether they are crops


@dataclass(frozen=True)
class Inputs:
    """The images of a run.

    root: folder that their paths are relative to. refs: in their order, with their people. level: of the folder that is
    the person. labels: a CSV, if a file has some. notes: lines on people, files passed over, labels that are left over.
    """

    root: Path
    refs: list[ImageRef]
    level: int
    labels: str | None
    notes: list[str]


@dataclass(frozen=True)
class Extracted:
    """Templates and failures in the store after a run, how many inputs were done before, and what else to say."""

    count: int
    failures: list[dict[str, str]]
    resumed: int
    notes: list[str] = field(default_factory=list)


def find_inputs(images: Sequence[Path], data_set: DataSet | None = None) -> Inputs:
    """Find the images in files and folders, and whose they are. Raises BadInput: as `find_images` and `DataSet`."""
    data_set = data_set or DataSet()
    found = find_images(images, data_set.level)
    refs, notes = data_set.with_identities(found.refs)
    labels, more = data_set.label_table(refs)
    people = people_notes(refs, data_set.level if data_set.identities is None else None)
    return Inputs(found.root, refs, data_set.level, labels, [*people, *found.notes, *notes, *more])


def crops_note(refs: Sequence[ImageRef], recognizer: Recognizer) -> str | None:
    """A line on images that look as if a recognizer's crop had been cut out of them already; None where none do.

    The registered recognizers' crops are known, and this one's.
    """
    sizes = set()
    for ref in refs[:: max(1, len(refs) // _LOOKED_AT)]:
        with suppress(BadInput):  # becomes a failure row
            sizes.add(image_size(ref.path))
    if len(sizes) != 1:
        return None
    ((width, height),) = sizes
    names = [spec.name for spec in REGISTRY.values() if spec.crop.size == width == height]
    if (height, width) in (recognizer.input_size, (recognizer.spec.crop.size,) * 2):
        names = list(dict.fromkeys([recognizer.name, *names]))
    if not names:
        return None
    return f"the images are {width} x {height} pixels, as crops for {some_of(names)} are; {IF_CROPS}"


def extract(
    inputs: Sequence[Path] | Inputs,
    output: Path,
    recognizer: Recognizer,
    finder: FaceFinder,
    transform: Transform | None = None,
    data_set: DataSet | None = None,
    options: StoreOptions | None = None,
    progress: Progress = silent,
    ranks: Ranks | None = None,
) -> Extracted | None:
    """Make a store of the templates of all images.

    Args:
        inputs: images or folders; the subfolder that holds an image is its identity. Or what `find_inputs` found.
        output: the store's folder; a run that was interrupted there is resumed.
        finder: says where the face is, see `finders.FaceSource`.
        transform: perturbs each image about its face before the crop, which the original box and landmarks then cut
            (see `perturb`). A face that leaves the frame is a failure.
        data_set: gives the identities in place of the folders; its labels go to `labels.csv` in the store.
        progress: called with (inputs done, all inputs, a note on failures). An input is done when its face is found;
            the last one is when its template is there, too.
        ranks: the processes that share the work; each calls this with the same arguments and the same images. The
            store is that of one process to the byte, whatever their number.

    Returns None on other ranks than the first, which alone writes.

    Raises:
        BadInput: a path does not exist, there are no images, or none of them gave a template.
        OutputError, OutputInUse: see `StoreWriter`.
        UsageError: the processes were started for different work. PeerLost: one of them is gone.
    """
    ranks, options = ranks or Ranks(), options or StoreOptions()
    if not isinstance(inputs, Inputs):
        inputs = find_inputs(inputs, data_set)
    refs = inputs.refs
    describe = {
        "transform": transform.name if transform else None,
        "precision": recognizer.precision,
        "score": recognizer.spec.score,
        "l2_normalized": False,
    }
    settings = {
        **describe,
        "detector": finder.settings,
        "device": recognizer.device.type,
        "batch_size": options.batch_size,
        **describe_inputs(refs),
        **({} if inputs.level == 1 else {LEVEL: inputs.level}),
    }
    manifest = {**describe, "tool_version": __version__}
    shared = {
        "command": "extract",
        "shard_rows": options.shard_rows,
        "recognizer": recognizer.describe().as_json(),
        **manifest,
    }
    ranks.agree({**shared, "settings": settings})
    made_by, pictures = recognizer.describe(), known_to(recognizer.spec).pictures
    writer = StoreWriter(
        output, settings, inputs.root, made_by, options.shard_rows, options.overwrite, manifest, pictures
    )
    cropper = FaceCropper(recognizer, finder, transform)
    with writer if ranks.first else nullcontext():
        resumed = ranks.from_first(len(refs) if writer.complete else writer.resume_inputs)

        def items(position: int, seen: Seen) -> Iterator[Cropped]:
            return _shared_items(cropper, refs[position:], options, ranks, seen)

        failures = write_shards(writer if ranks.first else None, options, range(resumed, len(refs)), items, progress)
        if not ranks.first:
            return None
        try:
            writer.finish(failures)
        except BadInput as error:  # of no input there is a template
            raise BadInput("; ".join([str(error), *finder_notes(finder, failures, len(refs), None)])) from error
        if inputs.labels is not None:
            write_text(output / LABELS, inputs.labels)
    store = Store.open(output, verify=False)
    failures = store.failures()
    return Extracted(len(store), failures, resumed, finder_notes(finder, failures, len(refs), store))


def write_shards(
    writer: StoreWriter | None,
    options: StoreOptions,
    inputs: range,
    items: Callable[[int, Seen], Iterator[Cropped]],
    progress: Progress,
) -> list[dict[str, str]]:
    """Write the shards of a store, unless `writer` is None. Returns the failures after the last.

    inputs: numbers of those that are still to do. items: the results of all inputs from a number on; it tells how many
        of them were seen so far.
    """
    position = told = inputs.start
    failed = 0

    def tell(done: int) -> None:
        nonlocal told
        if done > told:
            told = done
            progress(done, inputs.stop, f"{failed} failed" if failed else "")

    def tell_seen(before: int, count: int) -> None:
        # The last is done when all results are there. At a new shard, what was seen beyond the last is seen again.
        tell(min(before + count, inputs.stop - 1))

    if inputs:
        progress(position, inputs.stop)
    while position < inputs.stop:
        rows, templates, failures = [], [], []
        for item in items(position, partial(tell_seen, position)):
            position += 1
            if item.failure:
                failures.append(item.failure)
                failed += 1
            else:
                rows.append(item.row)
                templates.append(item.template)
            tell(position)
            if len(rows) == options.shard_rows:
                break
        if not rows:
            return failures
        if writer:
            writer.append(np.stack(templates), rows, failures, position)
    return []


def _shared_items(
    cropper: FaceCropper, refs: list[ImageRef], options: StoreOptions, ranks: Ranks, seen: Seen = unseen
) -> Iterator[Cropped]:
    """The results of `FaceCropper.items` on every process; each works on every n-th chunk only.

    The processes take turns of one chunk each and then exchange their results, without the crops. All of them must
    stop at the same item.
    """
    if ranks.count == 1:
        yield from cropper.items(refs, options.batch_size, options.workers, seen)
        return
    size = options.batch_size
    chunks = [refs[start : start + size] for start in range(0, len(refs), size)]
    workers = options.workers or max(1, cores() // ranks.local_count)
    with closing(cropper.chunks(chunks[ranks.rank :: ranks.count], workers)) as ours:
        for _ in range(0, len(chunks), ranks.count):
            for packed in ranks.gather(_packed(next(ours, []))):
                yield from _unpacked(packed)


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
