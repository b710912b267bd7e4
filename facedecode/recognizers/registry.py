"""A recognizer's contract by its name or folder, and where its weights are. Free of torch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.pictures.align import PointCrop
from facedecode.recognizers.cache import cache_folder
from facedecode.recognizers.spec import REGISTRY, RecognizerSpec

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
        "recognizer": spec.describe(weights_sha256).as_json(),
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


def find_spec_by_name(name: str, weights: Path | str | None = None) -> RecognizerSpec:
    """The spec registered under `name`, or of the recognizer that was trained into the folder `name`.

    Args:
        weights: of a trained recognizer that is given by name, its folder.

    Raises:
        UsageError: no recognizer has that name; the known names are listed.
        MissingWeights: the name is that of protected templates, which no recognizer makes of pictures.
        BadInput: a folder whose card cannot be read, or that holds a recognizer of another name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if folder := trained_folder(name):
        return read_spec(folder)
    if weights is not None and (folder := trained_folder(weights)):
        spec = read_spec(folder)
        if spec.name != name:
            raise BadInput(f"{folder}: holds the recognizer {spec.name}, not {name}; give the folder of {name}")
        return spec
    if "@" in name:
        raise MissingWeights(
            f"{name}: templates protected by 'transform', and no recognizer makes those of pictures; a network learns "
            "from them by --identity-weight 0 --perceptual-weight 0 --no-mirror"
        )
    raise UsageError(
        f"no recognizer is called {name!r}; known: {', '.join(sorted(REGISTRY))}; one that was trained here goes by "
        f"its folder (--model, or --weights where a store names it), and there is no {Path(weights or name) / CARD}"
    )


def find_weights(spec: RecognizerSpec, weights: Path | str | None = None) -> Path:
    """The weights file of a recognizer: `weights` if given, else its folder's, its package's, or the cache's.

    Raises:
        MissingWeights: it is not there; the message says where it was looked for and how to get it.
    """
    if weights is None and spec.folder is not None:
        weights = spec.folder
    if weights is not None:
        path = Path(weights)
        if spec.folder is not None and (folder := trained_folder(path)):
            path = folder / WEIGHTS
        if not path.is_file():
            raise MissingWeights(f"{path}: no such weights file for {spec.name}; {spec.obtain}")
        return path
    if spec.package is None and spec.url is None:
        raise MissingWeights(f"{spec.name}: its weights come with no package; {spec.obtain}")
    places = weights_places(spec)
    for path in places:
        if path.is_file():
            return path
    looked = ", ".join(map(str, places)) or f"package {spec.package} (not installed)"
    raise MissingWeights(f"{spec.name}: no weights; looked in {looked}; {spec.obtain}")


def weights_places(spec: RecognizerSpec) -> list[Path]:
    """Where weights of a recognizer are looked for that are not given; the first that is there is taken."""
    places = []
    if spec.package is not None:
        # The package is located, never imported: importing it needs pkg_resources.
        found = find_spec(spec.package)
        folders = list(found.submodule_search_locations or []) if found else []
        places += [Path(folder) / spec.package_file for folder in folders]
    if spec.url is not None:
        places.append(cached_weights(spec))
    return places


def cached_weights(spec: RecognizerSpec) -> Path:
    """Where the download of a recognizer's weights goes; it may not be there yet. The spec has a `url`."""
    return cache_folder() / str(spec.url).rpartition("/")[2]
