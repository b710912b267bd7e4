"""What decides the training of a decoder that is a network, besides its data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields

from facedecode.decoders.kinds import KINDS, find_kind
from facedecode.decoders.sizes import require_image_size
from facedecode.errors import UsageError
from facedecode.training import losses

IDENTITY_TARGETS = ("template", "person")


@dataclass(frozen=True)
class TrainSettings:
    """What decides a run besides its data. Defaults train the decoder that ships (docs/decoder.md).

    Attributes:
        image_size: side of the portraits, 64, 128 or 224 pixels.
        widths, coarse: see the network (`decoders.kinds.NETWORKS`); its own if None.
        epochs, batch_size: the last partial batch of an epoch is left out.
        learning_rate: peak of a one-cycle schedule (linear warm-up over 10 % of the steps, cosine to zero).
        weight_decay: AdamW's.
        average: decay per step of the exponential average of the weights; the average is what is kept.
        gain: the finished decoder scales templates by this about their mean before it draws. A little below 1 it
            draws less of what one image adds to its person's template: nearer to the person's other images.
        phi: names of the perceptual networks, whose terms are averaged; ξ itself if there is none.
        identity_target: what the identity term wants of the reconstruction's template: the `template` that it was
            drawn from, or the one expected of its `person` (`training.losses`), nearer to the person's other images.
        mirror: each image is trained on a second time, turned over left to right, with the template that it then has.
        jitter: strength of the random similarities through which networks see (`losses.random_jitter`).
        perceptual_after: share of the steps that the terms on pixels have for themselves; in the rest, the terms that
            look through networks count alone. All count in every step if None.
        precision: `fp32`, or `bf16`: autocast of the network and of those that the terms look through.
        save_every, validate_every: steps between saved states, and between points of the validation curve.
    """

    image_size: int = 128
    widths: tuple[int, ...] | None = None
    coarse: int | None = None
    epochs: float = 5.0
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    average: float = 0.995
    gain: float = 1.0
    phi: tuple[str, ...] = ()
    identity_target: str = "person"
    mirror: bool = True
    jitter: float = 1.0
    perceptual_after: float | None = None
    seed: int = 0
    precision: str = "fp32"
    save_every: int = 200
    validate_every: int = 100
    weights: losses.LossWeights = field(default_factory=losses.LossWeights)

    def check(self, architecture: str = "dfd") -> None:
        """Raise UsageError for settings that no run of a network can have; said before any picture is read."""
        require_image_size(self.image_size)
        if self.identity_target not in IDENTITY_TARGETS:
            known = " or ".join(IDENTITY_TARGETS)
            raise UsageError(f"identity target {self.identity_target!r}: the identity term can aim at {known}")
        for name in ("epochs", "learning_rate", "gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} {getattr(self, name)}: give a number above 0")
        weights = asdict(self.weights)
        for name, value in (weights | {"jitter": self.jitter}).items():
            if not 0 <= value < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} {value}: give a number that is not negative")
        if not any(weights.values()):
            raise UsageError("every loss term is switched off: give at least one a weight")
        if self.perceptual_after is not None:
            if not 0 < self.perceptual_after < 1:
                raise UsageError(f"perceptual after {self.perceptual_after}: give a share of the steps, within 0 and 1")
            for part, what in ((self.weights.of_pixels(), "pixels"), (self.weights.of_networks(), "networks")):
                if not any(asdict(part).values()):
                    raise UsageError(f"perceptual after {self.perceptual_after}: no term on {what} has a weight")
        if self.coarse is not None and "coarse" not in find_kind(architecture).options:
            raise UsageError(f"coarse {self.coarse}: {architecture} has no coarse picture")


def default_settings(architecture: str) -> TrainSettings:
    """What a network is trained with unless it is told otherwise."""
    defaults = dict(find_kind(architecture).defaults)
    weights = {f.name: defaults.pop(f.name) for f in fields(losses.LossWeights) if f.name in defaults}
    return TrainSettings(**defaults, weights=losses.LossWeights(**weights))


# What each network is trained with unless it is told otherwise.
DEFAULTS = {name: default_settings(name) for name, kind in KINDS.items() if kind.fitting == "gradients"}
