"""What recognizers make of a decoder's pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from facedecode.evaluation.unseen import Judge

if TYPE_CHECKING:  # needs torch
    from facedecode.decoders import Decoder

_BLOCK = 256  # pictures at once: 12 MB at 128 px


def embed_drawn(
    decoder: Decoder,
    templates: np.ndarray,
    missing: np.ndarray,
    judges: Mapping[str, Judge],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Draw templates and embed the 8-bit pictures with every judge, in the portrait's frame, without detection.

    Equal pictures are embedded once: the mean face is one picture, and the nearest face of few.

    Args:
        templates: float32 (n, dim), raw, of the decoder's recognizer. missing: bool (n,), rows without one.
        progress: called with (done, total) pictures.

    Returns:
        float32 (n, dim) for each judge; zeros where there is no picture.
    """
    from facedecode.recognizers.picture_templates import embed_pictures

    rows = np.flatnonzero(~missing)
    known: dict[bytes, int] = {}
    distinct: dict[str, list[np.ndarray]] = {name: [] for name in judges}
    places = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        pictures = decoder.decode(templates[rows[start : start + _BLOCK]])
        fresh = []
        for k, picture in enumerate(pictures):
            digest = hashlib.sha256(picture.tobytes()).digest()
            if digest not in known:
                known[digest] = len(known)
                fresh.append(k)
            places[start + k] = known[digest]
        if fresh:
            for name, judge in judges.items():
                distinct[name].append(embed_pictures(judge.recognizer, pictures[fresh]))
        if progress:
            progress(min(start + _BLOCK, len(rows)), len(rows))
    found = {}
    for name, judge in judges.items():
        found[name] = np.zeros((len(templates), judge.templates.shape[1]), np.float32)
        if len(rows):
            found[name][rows] = np.concatenate(distinct[name])[places]
    return found
