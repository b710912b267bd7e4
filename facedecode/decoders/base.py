"""What all decoders' networks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facedecode.decoders.kinds import IMAGE_SIZES, Fitting, find_kind, fitted_by, require_image_size
from facedecode.errors import UsageError

_FEWEST = 4  # channels


class DecoderNetwork(nn.Module):
    """Templates (n, dim) float, raw → pictures (n, 3, image_size, image_size) RGB in [0, 1], perhaps not yet clipped.

    config: the arguments that build it again; JSON.
    image_size: pixels.
    """

    config: dict[str, Any]
    image_size: int

    def for_drawing(self) -> nn.Module:
        """What draws the same pictures, perhaps faster; the finished network itself unless a kind has better."""
        return self

    def open_files(self, folder: Path, device: str = "cpu") -> None:
        """Load what a kind keeps in the decoder's folder besides its tensors; nothing for most."""


class ClosedForm(DecoderNetwork):
    """A decoder that is solved at once."""

    def __init__(self, dim: int, image_size: int = 128):
        super().__init__()
        self.config = {"dim": dim, "image_size": image_size}
        self.image_size = image_size

    def fit(self, templates: Tensor, portraits: Tensor, score: str | None = None) -> ClosedForm:
        """Fit to pairs, in place: templates (n, dim) float, portraits (n, 3, P, P) uint8; the network itself.

        score: how the recognizer compares templates, for the kinds that compare any; as it was built with if None.
        """
        raise NotImplementedError


class TrainedNetwork(DecoderNetwork):
    """A decoder that is trained by gradients: it grows a template to a picture, doubling the map's side at each stage.

    Templates are standardized with the training set's statistics, so that one recipe fits raw templates of any
    recognizer.

    Attributes:
        CHANNELS: at each size, from the first map on; as many as the largest picture takes.
        MULTIPLE: what each number of channels is a multiple of.
        base: side of the first map.

    Args:
        dim: length of a template.
        image_size: 64, 128 or 224, pixels.
        widths: channels at each size, one more than there are doublings; `CHANNELS` if None.

    Raises UsageError: a size that no decoder draws, or other widths.
    """

    CHANNELS: ClassVar[tuple[int, ...]]
    MULTIPLE: ClassVar[int] = 1
    template_mean: Tensor
    template_scale: Tensor

    def __init__(self, dim: int, image_size: int = 128, widths: Sequence[int] | None = None):
        super().__init__()
        widths = list(widths or self.usual_widths(image_size))
        require_image_size(image_size)
        doublings = IMAGE_SIZES[image_size]
        if len(widths) != doublings + 1:
            raise UsageError(f"{image_size} pixels take {doublings + 1} widths, not {len(widths)}")
        if any(width < 1 or width % self.MULTIPLE for width in widths):
            raise UsageError(f"widths {', '.join(map(str, widths))}: give multiples of {self.MULTIPLE}")
        self.base = image_size >> doublings
        self.config = {"dim": dim, "image_size": image_size, "widths": widths}
        self.image_size = image_size
        self.register_buffer("template_mean", torch.zeros(dim))
        self.register_buffer("template_scale", torch.ones(()))

    @classmethod
    def usual_widths(cls, image_size: int, share: float = 1.0) -> tuple[int, ...]:
        """The channels for such pictures, or so large a share of them: half takes a quarter of the arithmetic.

        Raises UsageError: no such size of pictures, or a share that is not above 0 and at most 1.
        """
        require_image_size(image_size)
        if not 0 < share <= 1:
            raise UsageError(f"width {share}: give a share of the network's channels, more than 0 and at most 1")
        step, channels = cls.MULTIPLE, cls.CHANNELS[: IMAGE_SIZES[image_size] + 1]
        return tuple(max(_FEWEST, step, step * round(share * n / step)) for n in channels)

    def standardized(self, templates: Tensor) -> Tensor:
        """Templates (n, dim) as the training set has mean 0 and mean variance 1."""
        return (templates - self.template_mean) / self.template_scale

    @torch.no_grad()
    def prepare(self, templates: Tensor, portraits: Tensor) -> None:
        """Fit what no gradient trains: templates (n, dim) float32 and portraits (n, 3, P, P) uint8 of the training."""
        mean = templates.mean(0)
        self.template_mean.copy_(mean)
        self.template_scale.copy_((templates - mean).square().mean().sqrt())


def closed_form(name: str) -> type[ClosedForm]:
    """The class of the closed form of that name. Raises UsageError where there is none."""
    return _class_of(name, "closed form")


def trained_network(name: str) -> type[TrainedNetwork]:
    """The same of networks that gradients train."""
    return _class_of(name, "gradients")


def _class_of(name: str, fitting: Fitting) -> Any:
    kind = find_kind(name)
    if kind.fitting != fitting:
        raise UsageError(f"{name} is no decoder that is fitted by {fitting}; those are {', '.join(fitted_by(fitting))}")
    return kind.network
