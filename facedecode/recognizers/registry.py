"""From a recognizer's name, folder, file or recorded identity to the recognizer. Free of torch until one is loaded.

A recognizer is called by its registered name, by the folder that it was trained into, or, as a model of the user's, by
`net.pt2` or `net.onnx`. A store, a decoder and a fitted file record its identity (`RecognizerId`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.identity import CropSize, Dim, RecognizerId, Sha256, require_same_recognizer
from facedecode.known_pictures import FILE, Known, KnownPictures
from facedecode.options import RecognizerOptions
from facedecode.pictures.align import PointCrop
from facedecode.recognizers.cache import cache_folder
from facedecode.recognizers.contract import TEMPLATES_ONLY, custom_file, full_model_name, is_custom
from facedecode.recognizers.spec import DEFAULT_RECOGNIZER, REGISTRY, RecognizerSpec
from facedecode.records import Limit, Record, migrated, read_json

if TYPE_CHECKING:  # seconds to import
    from facedecode.recognizers.recognizer import Recognizer

FORMAT_VERSION = 1
CARD = "recognizer.json"
WEIGHTS = "recognizer.safetensors"
# Architecture → modules with outputs that serve as perceptual features φ.
TRAINED_LAYERS = {"small_resnet": ("stages.0", "stages.1", "stages.2"), "resnet50": ("layer1", "layer2", "layer3")}


def load_recognizer(
    name: str | RecognizerId = DEFAULT_RECOGNIZER,
    weights: Path | str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    contract: Path | str | None = None,
    output: str | None = None,
) -> Recognizer:
    """Load a recognizer.

    Args:
        name: a key of `REGISTRY`; the folder of one that was trained here; a model file of the user's, `net.onnx`,
            `net.pt2`, `net.pt` or, whatever its name, `onnx:FILE` or `torch:FILE`; or the identity that a store, a
            decoder or a fitted file records, which the loaded one must have.
        weights: the weights file, or the folder of one that was trained here; found by the name if None, which for an
            identity has to be that of a registered recognizer.
        device: a torch device.
        precision: `fp32`, or `bf16` (autocast; recorded in everything made with it).
        contract: of a model of the user's, a preset or a JSON file; FILE.json if None. output: which of its outputs is
            the template, in place of the contract's.

    Raises:
        UsageError: no recognizer has that name (the known ones are listed); a contract for a registered one.
        MissingWeights: the weights file, or a package that it needs, is missing.
        BadInput: the weights file is damaged or another model's; a folder's card cannot be read.
    """
    identity = name if isinstance(name, RecognizerId) else None
    called = identity.name if identity else full_model_name(str(name))
    if called.startswith(TEMPLATES_ONLY):
        raise MissingWeights(
            f"{called}: only its templates are here; to train a network on them, use --identity-weight 0 --no-mirror, "
            "and --phi with another network or --perceptual-weight 0"
        )
    if is_custom(called) and "@" not in called:
        from facedecode.recognizers.custom import load_custom

        return load_custom(called, weights, device, precision, identity or contract, output=output)
    if contract is not None or output is not None:
        option = "--template-output" if contract is None else "--spec"
        raise UsageError(f"{option} is for a model file of your own (net.onnx, net.pt2); {called} has its contract")
    from facedecode.recognizers.recognizer import Recognizer

    spec = find_spec_by_name(called, weights, recorded=identity is not None)
    recognizer = Recognizer(spec, find_weights(spec, weights), device, precision)
    if identity:
        require_same_recognizer(identity, recognizer.describe(), f"the weights file {recognizer.weights}")
    return recognizer


def load_chosen_recognizer(options: RecognizerOptions, device: str = "cpu", precision: str = "fp32") -> Recognizer:
    """The recognizer that options of a job choose; the default one where they leave it open."""
    name = options.model or DEFAULT_RECOGNIZER
    return load_recognizer(name, options.weights, device, precision, options.spec, options.template_output)


def recognizer_file(name: str | None, weights: Path | None) -> Path | None:
    """The file or folder that the user named for a recognizer, by --weights or --model; None if neither names one."""
    return weights or custom_file(full_model_name(name or "")) or (trained_folder(name) if name else None)


def find_spec_by_name(name: str, weights: Path | str | None = None, recorded: bool = False) -> RecognizerSpec:
    """The spec registered under `name`, or of the recognizer that was trained into the folder `name`.

    weights: the folder of a trained recognizer that is called by its name.
    recorded: a file records the name. It is data, and opens no folder of that name.

    Raises UsageError: no recognizer has that name. MissingWeights: the name is that of protected templates. BadInput: a
    folder with a card that cannot be read, or with a recognizer of another name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if not recorded and (folder := trained_folder(name)):
        return read_card(folder).spec(folder)
    if weights is not None and (folder := trained_folder(weights)):
        spec = read_card(folder).spec(folder)
        if spec.name != name:
            raise BadInput(f"{folder}: holds the recognizer {spec.name}, not {name}; give the folder of {name}")
        return spec
    if "@" in name:
        raise MissingWeights(
            f"{name}: no recognizer makes templates that 'transform' protected; to train a network on them, use "
            "--identity-weight 0 --perceptual-weight 0 --no-mirror"
        )
    if Path(name).is_file():
        raise UsageError(
            f"{name}: a file that is called neither .onnx, .pt2 nor .pt; say onnx:{name} or torch:{name} for a model "
            "of your own, and give weights of a known recognizer with --weights"
        )
    raise UsageError(
        f"no recognizer is called {name!r}; known: {', '.join(sorted(REGISTRY))}; name one that was "
        f"trained here by its folder (--model, or --weights for a store's); there is no {Path(weights or name) / CARD}"
    )


def find_weights(spec: RecognizerSpec, weights: Path | str | None = None) -> Path:
    """The weights file of a recognizer: `weights`, else in its folder, its package or the cache.

    Raises MissingWeights: it is not there; the message lists the places and how to get it.
    """
    if weights is not None or spec.folder is not None:
        path = Path(weights or spec.folder)
        if spec.folder is not None and (folder := trained_folder(path)):
            path = folder / WEIGHTS
        if not path.is_file():
            raise MissingWeights(f"{path}: no such weights file for {spec.name}; {spec.obtain}")
        return path
    if spec.package is None and spec.url is None:
        raise MissingWeights(f"{spec.name}: its weights come with no package; {spec.obtain}")
    places = weights_places(spec)
    for path in places:
        if os.path.isfile(path):  # noqa: PTH113 (false where a folder above may not be looked into)
            return path
    searched = ", ".join(map(str, places)) or f"package {spec.package} (not installed)"
    raise MissingWeights(f"{spec.name}: no weights; looked in {searched}; {spec.obtain}")


def weights_places(spec: RecognizerSpec) -> list[Path]:
    """Where weights of a registered recognizer can be; the first that is there is taken."""
    places = spec.package_places()
    folder = cache_folder()
    return [*places, folder / download_name(spec)] if spec.url is not None and folder is not None else places


def download_name(spec: RecognizerSpec) -> str:
    """The file name, in the folder for downloads, of a recognizer's weights. The spec has a `url`."""
    return str(spec.url).rpartition("/")[2]


def trained_folder(name: Path | str) -> Path | None:
    """The folder of a trained recognizer: `name`, or where that file of it lies; None where there is no such."""
    path = Path(name)
    folder = path.parent if path.name in (CARD, WEIGHTS) else path
    return folder if (folder / CARD).is_file() else None


def _up_to(most: int) -> Limit:
    return Limit(lambda n: 1 <= n <= most, f"from 1 to {most}")


_FARTHEST = 1e4  # pixels
_RESNET50_DIM = 2048
_Width = Annotated[int, _up_to(1 << 13)]
_Depth = Annotated[int, _up_to(1 << 8)]


@dataclass(frozen=True)
class NetworkConfig(Record):
    """What rebuilds a network, as `networks.SmallResNet` takes it; a resnet50 has none of it."""

    size: CropSize | None = None
    dim: Dim | None = None
    widths: Annotated[tuple[_Width, ...], Limit(lambda widths: len(widths) <= 16, "a list of 16 or fewer")] = ()
    depths: tuple[_Depth, ...] = ()


@dataclass(frozen=True)
class RecognizerCard(Record):
    """The file `recognizer.json` in the folder of a recognizer that was trained here.

    architecture: key of `TRAINED_LAYERS`. config: what rebuilds the network. classes: the people that it was trained to
        tell apart. training: data, settings and figures of the run. known_pictures: SHA-256 of that file, with the
        pictures that it was trained on; None where there is none.
    """

    REMEDY: ClassVar[str] = "train it again"

    recognizer: RecognizerId
    architecture: str
    config: NetworkConfig
    classes: tuple[str, ...]
    training: dict[str, Any]
    format_version: int = FORMAT_VERSION
    known_pictures: Sha256 | None = None

    def as_json(self) -> dict[str, Any]:
        return super().as_json() | {"format_version": self.format_version}

    def spec(self, folder: Path) -> RecognizerSpec:
        """The spec of the recognizer in a folder. Raises BadInput: the card lacks something."""
        identity = self.recognizer
        try:
            crop, normalization = identity.crop, identity.normalization
            if crop["kind"] != "five-point similarity" or identity.score != "cosine":
                raise ValueError("unknown crop or score")
            red, green, blue = normalization["mean"]
            points = tuple((float(x), float(y)) for x, y in crop["points"])
            if self.architecture not in TRAINED_LAYERS or len(points) != 5:
                raise ValueError(f"unknown architecture {self.architecture!r}, or not five points")
            scale = float(normalization["scale"])
            if not (scale > 0 and all(abs(place) <= _FARTHEST for point in points for place in point)):
                raise ValueError("no scale above 0, or points beyond any picture")
            config, small = self.config, self.architecture == "small_resnet"
            stated = (config.size, config.dim) if small else (identity.input_size, _RESNET50_DIM)
            if (identity.input_size, identity.dim) != stated or bool(config.as_json()) != small:
                raise ValueError(f"its config does not fit a {self.architecture}")
            if small and config.size and config.size % 2 ** len(config.widths):
                raise ValueError(f"crops of {config.size} px cannot be halved {len(config.widths)} times")
            return RecognizerSpec(
                name=identity.name,
                dim=int(identity.dim),
                crop=PointCrop(int(identity.input_size), points, residuals=crop["residuals"]),
                mean=(float(red), float(green), float(blue)),
                scale=scale,
                score=identity.score,
                license=str(identity.license),
                architecture=self.architecture,
                obtain="give the folder that it was trained into",
                feature_layers=TRAINED_LAYERS[self.architecture],
                sha256=identity.weights_sha256,
                config=self.config.as_json(),
                folder=folder,
                training_people=identity.training_people,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BadInput(f"{folder / CARD}: not a recognizer's card ({reason}); train it again") from None


def read_card(folder: Path) -> RecognizerCard:
    """The card of a trained recognizer. Raises BadInput: unreadable, malformed, or of another version."""
    path = folder / CARD
    value = migrated(path, read_json(path), "format_version", FORMAT_VERSION, {}, RecognizerCard.REMEDY)
    return RecognizerCard.from_json(path, value)


def known_to(spec: RecognizerSpec) -> Known:
    """Whom and which pictures a recognizer was trained on; nobody recorded those of registered ones.

    Raises BadInput: as `read_card` and `KnownPictures.read`.
    """
    pictures = None
    if spec.folder is not None and (sha256 := read_card(spec.folder).known_pictures):
        pictures = KnownPictures.read(spec.folder / FILE, sha256)
    return Known(spec.training_people, pictures)
