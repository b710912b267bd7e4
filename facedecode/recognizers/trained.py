"""A recognizer that was trained here: a folder with weights, and a card that says how to use them. Free of torch.

my-recognizer/
  recognizer.safetensors   the network
  recognizer.json          its name, contract, architecture, classes, and whom it was trained on
  head.safetensors, classes.txt   the layer that told its classes apart, as `train --from-head` takes it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput
from facedecode.pictures.align import PointCrop
from facedecode.recognizers.spec import RecognizerSpec

FORMAT_VERSION = 1
CARD = "recognizer.json"
WEIGHTS = "recognizer.safetensors"
# Architecture → modules whose outputs serve as perceptual features φ.
ARCHITECTURES = {"small_resnet": ("stages.0", "stages.1", "stages.2"), "resnet50": ("layer1", "layer2", "layer3")}


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a trained recognizer. Raises BadInput: unreadable, or of another version."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        version = card["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a recognizer's card ({type(error).__name__}: {error}); train it again") from None
    if version != FORMAT_VERSION:
        raise BadInput(f"{path}: format version {version!r}; this facedecode reads version {FORMAT_VERSION}")
    return card


def read_spec(folder: Path) -> RecognizerSpec:
    """The contract of a trained recognizer. Raises BadInput: its card cannot be read, or lacks something."""
    card, path = read_card(folder), folder / CARD
    try:
        own, architecture = card["recognizer"], card["architecture"]
        crop, normalization = own["crop"], own["normalization"]
        if crop["kind"] != "five-point similarity" or own["score"] != "cosine":
            raise ValueError("unknown crop or score")
        points = tuple((float(x), float(y)) for x, y in crop["points"])
        if architecture not in ARCHITECTURES or len(points) != 5:
            raise ValueError(f"unknown architecture {architecture!r}, or not five points")
        return RecognizerSpec(
            name=str(own["name"]),
            dim=int(own["dim"]),
            crop=PointCrop(int(own["input_size"]), points, residuals=crop["residuals"]),
            mean=tuple(map(float, normalization["mean"])),
            scale=float(normalization["scale"]),
            score=own["score"],
            license=str(own["license"]),
            architecture=architecture,
            obtain="give the folder that it was trained into",
            feature_layers=ARCHITECTURES[architecture],
            sha256=str(own["weights_sha256"]),
            config=dict(card["config"]),
            folder=folder,
            training_people=tuple(map(str, own["training_people"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: not a recognizer's card ({type(error).__name__}: {error}); train it again") from None


def card_of(spec: RecognizerSpec, weights_sha256: str, classes: list[str], training: dict[str, Any]) -> dict[str, Any]:
    """JSON of the card, as `read_spec` reads it."""
    return {
        "format_version": FORMAT_VERSION,
        "recognizer": spec.describe(weights_sha256),
        "architecture": spec.architecture,
        "config": dict(spec.config),
        "classes": classes,
        "training": training,
    }


def trained_folder(name: Path | str) -> Path | None:
    """The folder of a trained recognizer: `name`, or where that file of it lies; None where there is no such."""
    path = Path(name)
    folder = path.parent if path.name in (CARD, WEIGHTS) else path
    return folder if (folder / CARD).is_file() else None
