"""The jobs and settings of every training, and the options of `train` with them. Free of NumPy and torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from facedecode.decoders.kinds import IMAGE_SIZES, KINDS, find_kind, fitted_by, require_image_size
from facedecode.errors import UsageError
from facedecode.options import (
    ImageOptions,
    argument,
    exclude_option,
    option,
    require_range,
    seed_option,
    weights_option,
)

PEOPLE = "Train on these people only: a file with one name a line, or in LFW's format."
MIN_IMAGES = "Images that a person needs to become a class."
HEAD = "Of a classifier: linear, or cosine (normalized weights and templates). Of a recognizer: arcface, or softmax."
SCALE = "Factor on cosines, of cosine and arcface heads; 64 if absent."
OUTPUT = "Folder of the decoder or recognizer, or file of another kind."
EPOCHS = "Passes over the training images."
BATCH_SIZE = "Images per step."
LEARNING_RATE = "Peak learning rate of the one-cycle schedule."
TARGETS = ("template", "person")


def _or(names: Iterable[object]) -> str:
    *others, last = map(str, names)
    return f"{', '.join(others)} or {last}" if others else last


SIZES = f"Side of the pictures: {_or(IMAGE_SIZES)} pixels."


def _require_not_negative(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{name.replace('_', ' ')} {value}: give a number that is not negative")


@dataclass(frozen=True)
class TrainingJob:
    """What every job has: the store to train on, and where the result goes."""

    store: Path = argument(
        "A store made by 'extract'; its images are found through it. Or a .npy file, with --images: a text file of its "
        "rows' images.",
        exists="templates",
    )
    output: Path = option(MISSING, OUTPUT, "--output", "-o", makes="folder")
    _: KW_ONLY
    overwrite: bool = option(False, "Replace an output that already exists.")


@dataclass(frozen=True)
class PeopleJob(TrainingJob):
    """A job on all people of a store, or some."""

    _: KW_ONLY
    people: Path | None = option(None, PEOPLE, exists="file")
    exclude: tuple[str, ...] = exclude_option()


@dataclass(frozen=True)
class ImagesJob(PeopleJob):
    """A job on the people's images. Nobody of `validation` is trained on: the curve is of them."""

    _: KW_ONLY
    validation: float = option(0.1, "Share of the people held out.")
    images: ImageOptions = ImageOptions()
    start: Path | None = option(
        None, "Start from this decoder or recognizer instead of a random network.", exists="path"
    )


@dataclass(frozen=True)
class RunSettings:
    """How any network is trained (`training.trainer`)."""

    _: KW_ONLY
    image_size: int = option(128, SIZES)
    epochs: float = option(5.0, EPOCHS)  # the last partial batch of each is left out
    batch_size: int = option(32, BATCH_SIZE, minimum=2)
    learning_rate: float = option(1.5e-3, LEARNING_RATE)  # warm-up over a tenth of the steps, then half a cosine
    weight_decay: float = 1e-2  # of AdamW
    average: float = 0.995  # decay per step of the weights' exponential average, which is what is kept
    mirror: bool = option(True, "Also train on each image mirrored; a decoder then needs its recognizer.")
    jitter: float = option(1.0, "Strength of random shifts, scales and rotations of what networks see; 0: off.")
    seed: int = seed_option()
    precision: Literal["fp32", "bf16"] = option("fp32", "fp32, or bf16 (autocast; recorded in the output).")
    save_every: int = 200  # steps between saved states
    validate_every: int = 100  # steps between points of the validation curve

    def check_run(self) -> None:
        """Raise UsageError for settings that no run can have."""
        for name, value in {"epochs": self.epochs, "learning rate": self.learning_rate}.items():
            if not 0 < value < math.inf:
                raise UsageError(f"{name} {value}: give a number above 0")
        _require_not_negative({"jitter": self.jitter})


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of a decoder's loss (`training.losses`); 0 switches a term off."""

    pixel: float = option(4.0, "Weight of the pixel term (Eq. 3), whole portrait; 0: off.", "--pixel-weight")
    gradient: float = option(300.0, "Weight of the gradient term (Eq. 4), whole portrait.", "--gradient-weight")
    local_pixel: float = option(4.0, "Weight of the pixel term, central region.", "--local-pixel-weight")
    local_gradient: float = option(300.0, "Weight of the gradient term, central region.", "--local-gradient-weight")
    perceptual: float = option(0.6, "Weight of the perceptual term (Eq. 5), whole view; 0: off.", "--perceptual-weight")
    local_perceptual: float = option(0.0, "Weight of the perceptual term, central region.", "--local-perceptual-weight")
    identity: float = option(
        0.5, "Weight of the distance of templates (not in the paper; white-box); 0: off.", "--identity-weight"
    )
    absolute: float = option(0.0, "Weight of the mean absolute difference, whole portrait.", "--absolute-weight")

    def of_pixels(self) -> LossWeights:
        """Only those of the terms that compare pixels."""
        return dataclasses.replace(self, perceptual=0.0, local_perceptual=0.0, identity=0.0)

    def of_networks(self) -> LossWeights:
        """Only those of the terms that look through networks."""
        return dataclasses.replace(self, pixel=0.0, gradient=0.0, local_pixel=0.0, local_gradient=0.0, absolute=0.0)

    def any(self) -> bool:
        """Whether any term is on."""
        return any(asdict(self).values())


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """How a network that decodes is trained. The defaults train the decoder that ships (docs/decoder.md)."""

    _: KW_ONLY
    widths: tuple[int, ...] | None = None  # channels at each size; the network's own if None
    coarse: int | None = None  # side of the coarse picture, px, of a network that has one; its own if None
    # Below 1, a decoder draws less of what one image adds to its person's template.
    gain: float = option(1.0, "Factor on templates, about their mean, in the finished decoder.")
    identity_target: Literal["person", "template"] = option(
        "person", "Aim at the 'template', or at the expected one of its 'person'."
    )
    perceptual_after: float | None = option(
        None,
        "Share of the steps with the terms of pixels only; the others have those of networks only. If absent, every "
        "step has all.",
    )
    weights: LossWeights = LossWeights()

    def check(self, architecture: str = "dfd") -> None:
        """Raise UsageError for settings that no run of such a network can have."""
        require_image_size(self.image_size)
        self.check_run()
        if self.identity_target not in TARGETS:
            raise UsageError(f"identity target {self.identity_target!r}: the identity term can aim at {_or(TARGETS)}")
        if not 0 < self.gain < math.inf:
            raise UsageError(f"gain {self.gain}: give a number above 0")
        _require_not_negative(asdict(self.weights))
        if not self.weights.any():
            raise UsageError("every loss term is switched off: give at least one a weight")
        if self.perceptual_after is not None:
            if not 0 < self.perceptual_after < 1:
                raise UsageError(f"perceptual after {self.perceptual_after}: give a share of the steps, within 0 and 1")
            for part, what in ((self.weights.of_pixels(), "pixels"), (self.weights.of_networks(), "networks")):
                if not part.any():
                    raise UsageError(f"perceptual after {self.perceptual_after}: no term on {what} has a weight")
        kind = find_kind(architecture)
        if self.coarse is not None and kind.fitting == "gradients" and "coarse" not in kind.options:
            raise UsageError(f"coarse {self.coarse}: {architecture} has no coarse picture")


def default_settings(architecture: str) -> TrainSettings:
    """What a network of this architecture is trained with by default."""
    defaults: dict[str, Any] = dict(find_kind(architecture).defaults)
    weights = {f.name: defaults.pop(f.name) for f in dataclasses.fields(LossWeights) if f.name in defaults}
    return TrainSettings(**defaults, weights=LossWeights(**weights))


def parse_networks(spelled: Sequence[str]) -> dict[str, Path | None]:
    """As `contract.named_networks`, which takes NumPy."""
    from facedecode.recognizers.contract import named_networks

    return named_networks(spelled)


@dataclass(frozen=True)
class DecoderJob(ImagesJob):
    """A decoder: a network, or a closed form, which takes only the size of its pictures from `settings`.

    `phi`: perceptual networks, each with its weights file, or None where a package has it. Without any, the recognizer
    of the templates is the one.
    """

    architecture: str = option(
        "dfd",
        f"Kind of decoder. A network: {_or(fitted_by('gradients'))}; a closed form: {_or(fitted_by('closed form'))}; "
        f"or {_or(fitted_by('generator'))}: through your own generator.",
    )
    width: float | None = option(
        None, "Share of the network's channels, 1 if absent; 0.5: a quarter of the arithmetic."
    )
    accumulate: int = option(1, "Pieces in which a batch goes through the loss: less memory, same result.", minimum=1)
    phi: Mapping[str, Path | None] = option(
        {},
        "Perceptual network (repeatable): squeezenet, vgg16-imagenet or a recognizer, as NAME, NAME=FILE or "
        "NAME:LAYER+LAYER=FILE; or torch:FILE.",
        parse=parse_networks,
        written=list[str],
        exists="name or labeled file",
    )
    weights: Path | None = weights_option()
    half: bool = option(False, "Save tensors as float16, at half the size.")
    settings: TrainSettings = TrainSettings()

    def check(self) -> None:
        """Raise UsageError for a job that no training can do."""
        if find_kind(self.architecture).fitting == "generator":
            raise UsageError(f"a {self.architecture} decoder is not trained on a store's images: make a LatentJob")
        if self.start and self.width:
            raise UsageError("--width does not go with --start, whose network has its channels; leave it out")
        self.settings.check(self.architecture)


# The options of a DecoderJob that count for a closed form.
CLOSED_FORM_OPTIONS = (
    *("store", "output", "architecture", "people", "exclude", "image_size", "images", "half", "overwrite"),
)
# Of the networks that are trained by gradients: option → default, where it is not DecoderJob's.
NETWORK_DEFAULTS = {name: KINDS[name].defaults for name in fitted_by("gradients")}


def _range(text: str) -> tuple[float, float]:
    """LOW,HIGH as numbers."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--generator-range {text}: give two numbers, such as -1,1") from None
    require_range("--generator-range", (low, high))
    return low, high


@dataclass(frozen=True)
class LatentJob(TrainingJob):
    """A decoder through a user's generator, for templates of the store's recognizer.

    `people`: those whom the generator was trained on; without them, evaluations refuse the decoder. The generator's
    file is copied into the decoder's folder.
    """

    generator: Path = option(MISSING, "An exported program, latents → pictures (n, 3, S, S).", exists="file")
    generator_range: tuple[float, float] = option(
        MISSING, "Values of black and white in the generator's pictures: -1,1 or 0,1.", parse=_range, written=str
    )
    latent_size: int | None = option(None, "Length of the generator's latents; for TorchScript only.", minimum=1)
    samples: int = option(10_000, "Pictures to generate.", minimum=1)
    people: Path | None = option(None, PEOPLE, exists="file")
    image_size: int = option(128, SIZES)
    weights: Path | None = weights_option()
    seed: int = seed_option()


@dataclass(frozen=True)
class ClassifierJob(PeopleJob):
    """A softmax over the people of a store who have images enough."""

    output: Path = option(MISSING, OUTPUT, "--output", "-o", makes="fitted file")
    min_images: int = option(10, MIN_IMAGES, minimum=2)
    head: str = option("linear", HEAD)
    l2: float | None = option(None, "Penalty on a linear head's weights; 0.001 if absent.")
    scale: float | None = option(None, SCALE)


@dataclass(frozen=True)
class ClassifierImport(TrainingJob):
    """A softmax layer that was trained elsewhere, for templates of the store's recognizer."""

    output: Path = option(MISSING, OUTPUT, "--output", "-o", makes="fitted file")
    from_head: Path = option(
        MISSING, "Make a classifier of this softmax layer: safetensors with weight (and bias).", exists="file"
    )
    names: Path = option(MISSING, "The classes of --from-head, one per line, in the order of its rows.", exists="file")
    head: str = option("linear", HEAD)
    scale: float | None = option(None, SCALE)


@dataclass(frozen=True)
class Backbone:
    """A network that can be trained to recognize."""

    architecture: str  # a key of `recognizers.networks.BUILDERS`
    step: int  # pixels: the side of its crops is a multiple of it
    dim: int  # of its templates


BACKBONES = {"small": Backbone("small_resnet", 16, 128), "resnet50": Backbone("resnet50", 32, 2048)}
HEADS = ("softmax", "arcface")


@dataclass(frozen=True)
class HeadSettings:
    """The layer that teaches a recognizer to tell people apart. Raises UsageError: numbers that make no sense."""

    head: str = option("arcface", HEAD)
    scale: float = option(64.0, SCALE)  # s: the radius of the sphere that templates are put on
    margin: float = option(0.5, "ArcFace's margin: radians added to the angle to the own class.")
    # Share of the steps over which the margin grows from 0: at full size, few images give a random network no start.
    warm_up: float = 0.3

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise UsageError(f"--head {self.head}: a recognizer is trained with {_or(HEADS)}")
        if not 0 < self.scale < math.inf:
            raise UsageError(f"--scale {self.scale:g}: give a number above 0")
        if not 0 <= self.margin < math.pi / 2:
            raise UsageError(f"--margin {self.margin:g}: give radians, 0 or more and less than {math.pi / 2:.2f}")
        if not 0 <= self.warm_up <= 1:
            raise UsageError(f"a margin warm-up of {self.warm_up:g}: give a share of the steps, from 0 to 1")

    def margin_at(self, step: int, steps: int) -> float:
        """The margin at a step: linear up to `warm_up` of all steps."""
        return self.margin * min(1.0, step / max(1.0, self.warm_up * steps))

    def describe(self) -> dict[str, Any]:
        """JSON: the kind, and what plays a part in it."""
        arcface = {"scale": self.scale, "margin": self.margin, "warm_up": self.warm_up}
        return {"kind": self.head, **(arcface if self.head == "arcface" else {})}


@dataclass(frozen=True)
class RecognizerSettings(RunSettings):
    """How a recognizer is trained."""

    _: KW_ONLY
    backbone: Literal["small", "resnet50"] = option(
        "small", f"{_or(f'{name} ({backbone.dim} numbers)' for name, backbone in BACKBONES.items())}."
    )
    head: HeadSettings = HeadSettings()
    image_size: int = option(64, SIZES)  # of the crops: a multiple of the backbone's step
    epochs: float = option(30.0, EPOCHS)
    batch_size: int = option(64, BATCH_SIZE, minimum=2)
    learning_rate: float = option(2e-3, LEARNING_RATE)
    weight_decay: float = 5e-2
    average: float = 0.99
    light: float = 0.2  # standard deviation of a random contrast (log) and, halved, of a brightness
    validate_every: int = 200

    def check(self) -> None:
        """Raise UsageError for settings that no run can have."""
        if self.backbone not in BACKBONES:
            raise UsageError(f"--backbone {self.backbone}: choose {_or(BACKBONES)}")
        step = BACKBONES[self.backbone].step
        if self.image_size < step or self.image_size % step:
            raise UsageError(f"image size {self.image_size}: the backbone {self.backbone} takes multiples of {step}")
        self.check_run()
        _require_not_negative({"light": self.light})

    def describe(self) -> dict[str, Any]:
        """JSON for provenance: what plays a part."""
        return asdict(self) | {"head": self.head.describe()}


@dataclass(frozen=True)
class RecognizerJob(ImagesJob):
    """A recognizer, named as its folder: a network that learns to tell the people of a store's images apart.

    `start`: the folder of a recognizer of the same backbone; for resnet50 also a file in torchvision's layout.
    """

    min_images: int = option(5, MIN_IMAGES, minimum=2)
    settings: RecognizerSettings = RecognizerSettings()


@dataclass(frozen=True)
class DisentanglerJob(PeopleJob):
    """A map that parts templates into identity and an attribute of two classes."""

    output: Path = option(MISSING, OUTPUT, "--output", "-o", makes="fitted file")
    labels: Path = option(MISSING, "Table with the columns 'path' and that of --label.", exists="file")
    label: str = option(MISSING, "Column of --labels with two classes, such as gender.")
