"""Templates → pictures, with the score of each picture's own template against the one it was drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facedecode.decoders import Decoder
from facedecode.decoders.plausibility import Judged
from facedecode.errors import BadInput, UsageError
from facedecode.files import csv_text
from facedecode.inversion.confidence import Confidence, central
from facedecode.inversion.inputs import MAP_SUFFIX, TemplateInput
from facedecode.inversion.refinement import refine as refined
from facedecode.mapping.maps import Mapping
from facedecode.output_folder import output_folder
from facedecode.pictures.figures import heat_pictures, picture_grid, png_bytes, square_grid, with_scale
from facedecode.pictures.images import save_image
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.statistics.scores import score_pairs
from facedecode.store.images import read_portraits


@dataclass(frozen=True)
class Inverted:
    """Reconstructions.

    pictures: (n, P, P, 3) uint8 RGB portraits.
    scores: (n,) float32, the score of each picture's template against the template that was decoded (after the mapping,
        if there is one); None without a recognizer.
    before: (n,) float32, the scores before refinement; None without it.
    explained: (n, S, S) float32, `Confidence.explained` of the decoded templates; None without a confidence map.
    scale: `Confidence.scale`.
    judged: whether the templates can be the recognizer's own.
    """

    pictures: np.ndarray
    scores: np.ndarray | None
    before: np.ndarray | None = None
    explained: np.ndarray | None = None
    scale: float = 1.0
    judged: Judged | None = None

    def __repr__(self) -> str:
        count, side = self.pictures.shape[:2]
        scored = "" if self.scores is None else f", mean score {self.scores.mean():.3f}"
        return f"Inverted({count} pictures of {side} px{scored})"


def invert(
    templates: np.ndarray,
    decoder: Decoder,
    recognizer: Recognizer | None = None,
    mapping: Mapping | None = None,
    batch_size: int = 64,
    progress: Progress = silent,
    *,
    refine: int = 0,
    seed: int = 0,
    confidence: Confidence | None = None,
    judged: Judged | None = None,
) -> Inverted:
    """Draw the faces of templates.

    Args:
        templates: (n, dim) float32, raw, of the decoder's recognizer.
        recognizer: scores the pictures, after their rounding to 8 bits.
        mapping: applied to the templates first.
        progress: called with (done, total) pictures; while refining, (done, total) steps of single pictures.
        refine: steps of refinement (see `inversion.refinement`), 0 for none. seed: of its randomness.
        confidence: the map of this decoder.
        judged: of `Decoder.check`, where it has looked at the templates already.

    Warns FacedecodeWarning: templates that the recognizer cannot have made; `Inverted.judged` says which.

    Raises BadInput: as `Decoder.check`; a gradient of refinement that is not finite. UsageError: refinement
    without a recognizer, or as `refinement.require_refinable`; refinement with confidence.
    """
    judged = judged or decoder.check(templates)
    if mapping is not None:
        templates = mapping.apply(templates)
    if refine and confidence is not None:
        raise UsageError("a confidence map is of the decoder's own pictures, not of refined ones; leave one out")
    if refine:
        if recognizer is None:
            raise UsageError("refinement needs the recognizer that made the templates")
        best = refined(templates, decoder, recognizer, refine, seed=seed, progress=progress)
        return Inverted(best.pictures, best.after, best.before, judged=judged)
    pictures, scores = [], []
    progress(0, len(templates))
    for start in range(0, len(templates), batch_size):
        rows = np.ascontiguousarray(templates[start : start + batch_size])
        pictures.append(decoder.decode(rows, batch_size, checked=True))
        if recognizer is not None:
            scores.append(score_pairs(embed_pictures(recognizer, pictures[-1]), rows, recognizer.spec.score))
        progress(min(start + batch_size, len(templates)), len(templates))
    result = Inverted(np.concatenate(pictures), np.concatenate(scores) if scores else None, judged=judged)
    if confidence is not None:
        result = replace(result, explained=confidence.explained(templates), scale=confidence.scale)
    return result


SCALE_TITLE = "share of the variance that the template explains; 0: made up"


def write_grid(output: Path, inputs: TemplateInput, result: Inverted, originals: bool = False) -> None:
    """One picture, or all in a grid; below each row its confidence maps, and with `originals` its portraits above."""
    side, count = result.pictures.shape[1], len(result.pictures)
    scores = [""] * count if result.scores is None else [f"{s:.2f}" for s in result.scores]
    layers = {"rebuilt": (result.pictures, scores)}
    if originals:
        layers = {"original": (read_portraits(inputs.rows, inputs.root, side), [""] * count)} | layers
    if result.explained is not None:
        maps = heat_pictures(result.explained, side, result.scale)
        layers["confidence"] = (maps, [f"{share:.0%}" for share in central_confidence(result)])
    if len(layers) == 1:
        save_image(output, result.pictures[0] if count == 1 else square_grid(result.pictures))
        return
    if count == 1:
        row = np.concatenate([pictures for pictures, _ in layers.values()])
        grid = picture_grid([row], captions=[[f"{name} {text[0]}".strip() for name, (_, text) in layers.items()]])
    else:
        columns, rows, captions = min(8, count), [], []
        for start in range(0, count, columns):
            part = slice(start, start + columns)
            for pictures, texts in layers.values():
                rows.append(pictures[part])
                captions.append(texts[part] if any(texts) else [])
        grid = picture_grid(rows, captions=captions)
    save_image(output, grid if result.explained is None else with_scale(grid, result.scale, SCALE_TITLE))


def write_folder(output: Path, inputs: TemplateInput, result: Inverted, call: str = "") -> None:
    """One PNG a template, and `scores.csv` with (file, score), written last; with `before` where it was refined.

    Where some templates cannot be the recognizer's own, the column `template` says what is wrong with which.

    With confidence maps NAME-confidence.png beside each, and the column `confidence`. The folder's other files stay.
    call: see `output_folder.output_folder`; what a killed run of the same call left is replaced.

    Raises BadInput: a map's name is that of another picture. OutputError, OutputInUse: as `output_folder`.
    """
    columns = {"score": result.scores} | ({} if result.before is None else {"before": result.before})
    maps = None
    if result.explained is not None:
        columns["confidence"] = central_confidence(result)
        maps = heat_pictures(result.explained, result.pictures.shape[1], result.scale)
        known = {name.lower() for name in inputs.names}
        if taken := [name for name in inputs.names if f"{name}{MAP_SUFFIX}".lower() in known]:
            raise BadInput(
                f"{taken[0]}{MAP_SUFFIX}.png would be two pictures; give a .png, or rename one of the images"
            )
    unusual = result.judged is not None and result.judged.unusual > 0

    def contents() -> Iterator[tuple[str, bytes]]:
        rows = []
        for i, (name, picture) in enumerate(zip(inputs.names, result.pictures, strict=True)):
            yield f"{name}.png", png_bytes(picture)
            if maps is not None:
                yield f"{name}{MAP_SUFFIX}.png", png_bytes(with_scale(maps[i], result.scale, SCALE_TITLE))
            row = [f"{name}.png", *("" if x is None else f"{x[i]:.6f}" for x in columns.values())]
            rows.append([*row, result.judged.verdicts[i]] if unusual else row)
        yield "scores.csv", csv_text(["file", *columns, *(["template"] if unusual else [])], rows).encode()

    names = [f"{name}{end}.png" for name in inputs.names for end in ("", *([] if maps is None else [MAP_SUFFIX]))]
    with output_folder(output, call) as folder:
        folder.replace([*names, "scores.csv"], contents())


def central_confidence(result: Inverted) -> np.ndarray:
    """Mean confidence over the central facial region of each picture: float32 (n,)."""
    return central(result.explained).mean((1, 2))
