"""The kinds of decoders: how each is fitted, and what its training has by default. Free of torch.

A new architecture is a module in this folder, with a subclass of one of the classes in `base`, and a line in `KINDS`:
the command line, the help, training and checkpoints take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from facedecode.errors import UsageError

IMAGE_SIZES = {64: 4, 128: 5, 224: 5}
"""Side of the pictures that decoders draw, pixels → how often a network doubles its first map."""
Fitting = Literal["gradients", "closed form", "generator"]


@dataclass(frozen=True)
class DecoderKind:
    """A kind of decoder.

    name: of `--architecture`, and in checkpoints.
    place: "module:class" of its network, in this folder.
    fitting: `gradients`: trained in steps (`training.decoder_run`); `closed form`: solved at once; `generator`: fitted
        to the pictures of a user's generator (`training.latent`).
    options: arguments of the network's own that `TrainSettings` can set.
    defaults: option of `train` → its default for this kind, where that differs from the usual one.
    """

    name: str
    place: str
    fitting: Fitting
    options: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)

    @property
    def network(self) -> Any:
        """The class of its networks, a `base.DecoderNetwork`; needs torch."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"facedecode.decoders.{module}"), name)


# First the mean absolute difference of pixels, then the maps of φ alone, seen without random crops: Mai et al. 2019.
_NBNET: dict[str, float] = {
    **dict.fromkeys(("pixel", "gradient", "local_pixel", "local_gradient", "identity"), 0),
    "perceptual": 1,
    "absolute": 1,
    "perceptual_after": 0.5,
    "jitter": 0.0,
}
KINDS: dict[str, DecoderKind] = {
    kind.name: kind
    for kind in (
        DecoderKind("dfd", "network:DeepFaceDecoder", "gradients", options=("coarse",)),
        DecoderKind("nbnet", "nbnet:NbNet", "gradients", defaults=_NBNET),
        DecoderKind("mean-face", "closed_form:MeanFace", "closed form"),
        DecoderKind("nearest", "closed_form:Nearest", "closed form"),
        DecoderKind("ridge", "closed_form:Ridge", "closed form"),
        DecoderKind("latent", "latent:LatentDecoder", "generator"),
    )
}


def require_image_size(size: int) -> None:
    """Refuse a size that no decoder draws. Raises UsageError."""
    if size not in IMAGE_SIZES:
        raise UsageError(f"image size {size}: a decoder draws {', '.join(map(str, IMAGE_SIZES))} pixels")


def fitted_by(fitting: Fitting) -> tuple[str, ...]:
    """The names of the kinds that are fitted so."""
    return tuple(kind.name for kind in KINDS.values() if kind.fitting == fitting)


def find_kind(name: str) -> DecoderKind:
    """The kind of that name. Raises UsageError, with the known names, where there is none."""
    if name not in KINDS:
        raise UsageError(f"no decoder is called {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name]
