"""Templates → pictures, and how well each picture's own template agrees with the one it was drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from facedecode.decoders import Decoder
from facedecode.errors import UsageError
from facedecode.inversion.confidence import Confidence
from facedecode.inversion.refinement import refine as refined
from facedecode.mapping.maps import Mapping
from facedecode.recognizers.picture_templates import embed_pictures
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import score_pairs

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Inverted:
    """Reconstructions.

    Attributes:
        pictures: (n, P, P, 3) uint8 RGB portraits.
        scores: (n,) float32, the recognizer's score of each picture's template against the template that was
            decoded (after the mapping, if there is one); None without a recognizer.
        before: (n,) float32, the scores before refinement; None where nothing was refined.
        explained: (n, S, S) float32, `Confidence.explained` of what was decoded; None where it was not asked for.
        scale: where its color scale ends, `Confidence.scale`.
    """

    pictures: np.ndarray
    scores: np.ndarray | None
    before: np.ndarray | None = None
    explained: np.ndarray | None = None
    scale: float = 1.0


def invert(
    templates: np.ndarray,
    decoder: Decoder,
    recognizer: Recognizer | None = None,
    mapping: Mapping | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
    *,
    refine: int = 0,
    seed: int = 0,
    confidence: Confidence | None = None,
) -> Inverted:
    """Draw the faces of templates.

    Args:
        templates: (n, dim) float32, raw, of the decoder's recognizer.
        recognizer: judges the pictures, after their rounding to 8 bits.
        mapping: applied to the templates first.
        progress: called with (done, total) pictures; while refining, (done, total) steps of single pictures.
        refine: steps of refinement (see `facedecode.inversion.refinement`), 0 for none.
        seed: of refinement's randomness.
        confidence: of this decoder; says what each template pins down.

    Raises:
        BadInput: templates of another length; a gradient of refinement that is not finite.
        UsageError: refinement without a recognizer, or as `refinement.require_refinable`; refinement with confidence.
    """
    if mapping is not None:
        templates = mapping.apply(templates)
    if refine and confidence is not None:
        raise UsageError("a confidence map is of the decoder's own pictures, not of refined ones; leave one out")
    if refine:
        if recognizer is None:
            raise UsageError("refinement needs the recognizer whose templates are inverted")
        found = refined(templates, decoder, recognizer, refine, seed=seed, progress=progress)
        return Inverted(found.pictures, found.after, found.before)
    pictures, scores = [], []
    for start in range(0, len(templates), batch_size):
        rows = np.ascontiguousarray(templates[start : start + batch_size])
        pictures.append(decoder.decode(rows, batch_size))
        if recognizer is not None:
            scores.append(score_pairs(embed_pictures(recognizer, pictures[-1]), rows, recognizer.spec.score))
        if progress:
            progress(min(start + batch_size, len(templates)), len(templates))
    result = Inverted(np.concatenate(pictures), np.concatenate(scores) if scores else None)
    if confidence is not None:
        result = replace(result, explained=confidence.explained(templates), scale=confidence.scale)
    return result
