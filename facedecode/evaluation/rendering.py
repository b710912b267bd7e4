"""Which people a report shows, chosen by rule and never by eye, and the pictures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from facedecode.evaluation.cohort import Judge, UnseenImages
from facedecode.evaluation.fidelity import PictureValues
from facedecode.progress import Progress, silent

if TYPE_CHECKING:  # these need torch
    from facedecode.decoders import Decoder
    from facedecode.store import ImageFolder

EACH = 2  # images each of best, median and worst
PLACES = ("best", "median", "worst")


@dataclass(frozen=True)
class Examples:
    """Pictures to show. A row is an image's place among `UnseenImages.acquired`.

    portraits: row → (P, P, 3) uint8, the original. pictures: decoder → row → its picture, uint8.
    spread: rows of people spread evenly over the names.
    extremes: decoder → measure ('psnr', 'score') → place (`PLACES`) → rows; a measure that is finite for no image
        is absent.
    """

    portraits: dict[int, np.ndarray]
    pictures: dict[str, dict[int, np.ndarray]]
    spread: list[int]
    extremes: dict[str, dict[str, dict[str, list[int]]]]


def draw_examples(
    decoders: Mapping[str, Decoder],
    values: Mapping[str, PictureValues],
    images: UnseenImages,
    root: ImageFolder,
    recognizer: str,
    columns: int,
) -> Examples:
    """Choose the images and draw them again.

    values: of `reconstruction.measure`. root: folder of the images. recognizer: its scores, and PSNR, decide what is
    best and worst. columns: how many people to spread over the names.
    """
    from facedecode.store.images import read_portraits

    spread = spread_rows(images.acquired_identities, columns)
    extremes: dict[str, dict[str, dict[str, list[int]]]] = {}
    wanted = {name: set(spread) for name in decoders}
    for name in decoders:
        measures = {"psnr": values[name]["psnr"], "score": values[name]["scores", recognizer]}
        extremes[name] = {key: extreme_rows(row) for key, row in measures.items() if np.isfinite(row).any()}
        wanted[name] |= {row for places in extremes[name].values() for rows in places.values() for row in rows}
    every = sorted(set().union(*wanted.values()))
    size = next(iter(decoders.values())).image_size
    portraits = dict(zip(every, read_portraits([images.acquired[row] for row in every], root, size), strict=True))
    templates = images.templates[~images.missing]
    pictures = {
        name: dict(
            zip(sorted(wanted[name]), decoder.decode(templates[sorted(wanted[name])], checked=True), strict=True)
        )
        for name, decoder in decoders.items()
    }
    return Examples(portraits, pictures, spread, extremes)


def spread_rows(identities: Sequence[str], count: int) -> list[int]:
    """Rows of `count` different people, evenly over the sorted names: each one's first image.

    Fewer rows where there are fewer people.
    """
    first = {name: row for row, name in reversed(list(enumerate(identities)))}
    names = sorted(first)
    count = min(len(names), count)
    return [first[names[(2 * k + 1) * len(names) // (2 * count)]] for k in range(count)]


def extreme_rows(values: np.ndarray, each: int = EACH) -> dict[str, list[int]]:
    """Rows of the highest, middle and lowest finite values, each from high to low: `PLACES` → rows.

    There are `each` of them, fewer where three times as many are not there; equal values go by row.
    """
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(-values[finite], kind="stable")].tolist()
    each = max(1, min(each, len(order) // 3))
    middle = (len(order) - each) // 2
    return {"best": order[:each], "median": order[middle : middle + each], "worst": order[-each:]}


_BLOCK = 256  # pictures at once: 12 MB at 128 px


def embed_drawn(
    decoder: Decoder,
    templates: np.ndarray,
    missing: np.ndarray,
    judges: Mapping[str, Judge],
    progress: Progress = silent,
) -> dict[str, np.ndarray]:
    """Draw templates and embed the 8-bit pictures with every judge, in the portrait's frame, without detection.

    Equal pictures are embedded once: the mean face is one picture, and the nearest face of few.

    templates: float32 (n, dim), raw, of the decoder's recognizer; the caller has looked at them (`Decoder.check`).
    missing: bool (n,), rows without one.
    progress: called with (done, total) pictures.

    Returns float32 (n, dim) for each judge; zeros where there is no picture.
    """
    from facedecode.recognizers.recognizer import DistinctEmbedder

    rows = np.flatnonzero(~missing)
    embedders = {name: DistinctEmbedder(judge.recognizer) for name, judge in judges.items()}
    embedded = {
        name: np.zeros((len(templates), judge.templates.shape[1]), np.float32) for name, judge in judges.items()
    }
    progress(0, len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        pictures = decoder.decode(templates[block], checked=True)
        for name, embed in embedders.items():
            embedded[name][block] = embed(pictures)
        progress(start + len(block), len(rows))
    return embedded
