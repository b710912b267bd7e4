"""A figure like the paper's Fig. 12: originals, noise, attacked crops, and what a decoder makes of their templates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facedecode.attacks.aim import Aim
from facedecode.attacks.table import Row
from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.files import sha256_file
from facedecode.pictures.faces import Face
from facedecode.pictures.figures import enlarged, picture_grid, shortened
from facedecode.pictures.images import load_image
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import score_pairs

COLUMNS = 8
_MOST = 100  # times; noise that is smaller is not to be seen in the attacked crop either
_SHARE = 99.5  # % of the noise that is shown without being cut off


def attack_figure(
    rows: list[Row], aim: Aim, root: Path, pictures: Path, recognizer: Recognizer, decoder: Decoder | None
) -> np.ndarray:
    """Draw up to eight of the attacked faces, spread evenly over the rows; those that were there already if no other.

    Under each original, attacked crop and reconstruction is whom the classifier takes it for, or where a template is
    the objective its score: against the target, or where there is none against the original. A reconstruction is
    judged by its own template, anew.

    Args:
        rows: of the table, each with `face` (box and landmarks in the image) and `source_sha256`.
        root: of the images. pictures: folder of the attacked crops.
        decoder: of the recognizer; without it there is no row of reconstructions.

    Returns:
        (H, W, 3) uint8.

    Raises:
        BadInput: an image changed since it was attacked.
    """
    attempted = [row for row in rows if row["outcome"] != "already"] or rows
    chosen = np.unique(np.linspace(0, len(attempted) - 1, COLUMNS).round().astype(int))
    shown = [attempted[i] for i in chosen]
    before = np.stack([_original(row, root, recognizer) for row in shown])
    after = np.stack([load_image(pictures / row["picture"]) for row in shown])
    change = (after.astype(np.float64) - before) / 255
    factor = _factor(change)
    noise = np.rint(np.clip(0.5 + factor * change, 0, 1) * 255).astype(np.uint8)
    own, templates = recognizer.embed_crops(before), recognizer.embed_crops(after)
    layers = {
        "original": (before, _captions(aim, own, own)),
        f"noise x{factor}": (noise, [f"L2 {row['l2']:.2f}" for row in shown]),
        _attacked_label(aim): (after, _captions(aim, templates, own)),
    }
    if decoder is not None:
        drawn = _reconstructions(decoder, recognizer, templates)
        layers["reconstruction"] = (drawn, _captions(aim, recognizer.embed_crops(drawn), own))
    shapes = [enlarged(images) for images, _ in layers.values()]
    side = shapes[0].shape[1]
    captions = [[shortened(caption, side) for caption in said] for _, said in layers.values()]
    return picture_grid(shapes, list(layers), captions)


def _original(row: Row, root: Path, recognizer: Recognizer) -> np.ndarray:
    """The crop that was attacked, (S, S, 3) uint8, cut once more."""
    path = root / row["path"]
    if not path.is_file() or sha256_file(path) != row["source_sha256"]:
        raise BadInput(f"{path}: changed since it was attacked; attack it again with --overwrite")
    face = Face(*(np.array(row["face"][name], np.float32) for name in ("box", "landmarks")), 1.0)
    return recognizer.crop(load_image(path), face)


def _factor(change: np.ndarray) -> int:
    """By how much noise is amplified about gray, so that nearly all of it keeps within the colors there are."""
    moved = np.abs(change[change != 0])
    return int(np.clip(0.5 / np.percentile(moved, _SHARE), 1, _MOST)) if len(moved) else 1


def _attacked_label(aim: Aim) -> str:
    """With the score at which the attack has succeeded."""
    if aim.threshold is None:
        return "attacked"
    return f"attacked ({'<' if aim.away else '>'} {aim.threshold.value:.3g})"


def _captions(aim: Aim, templates: np.ndarray, own: np.ndarray) -> list[str]:
    if aim.objective == "class":
        return [aim.classifier.names[i] for i in aim.logits(templates).argmax(axis=1)]
    scores = score_pairs(templates, own, aim.score) if aim.away else aim.scores(templates)
    return [f"{score + 0.0:.3f}" for score in scores]


def _reconstructions(decoder: Decoder, recognizer: Recognizer, templates: np.ndarray) -> np.ndarray:
    """What a decoder draws of templates, in the recognizer's own frame: (n, S, S, 3) uint8."""
    portraits = torch.from_numpy(decoder.decode(templates)).to(recognizer.device).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        crops = recognizer.crop_portraits(portraits)
        return (crops * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
