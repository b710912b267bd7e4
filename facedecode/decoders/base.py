"""What all decoders' networks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facedecode.decoders.sizes import picture_plan


class DecoderNetwork(nn.Module):
    """Templates (n, dim) float, raw → pictures (n, 3, image_size, image_size) RGB in [0, 1], perhaps not yet clipped.

    Attributes:
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
        widths: channels at each size; `CHANNELS` if None.
    """

    CHANNELS: ClassVar[tuple[int, ...]]
    MULTIPLE: ClassVar[int] = 1
    template_mean: Tensor
    template_scale: Tensor

    def __init__(self, dim: int, image_size: int = 128, widths: Sequence[int] | None = None):
        super().__init__()
        self.base, widths = picture_plan(type(self), image_size, widths)
        self.config = {"dim": dim, "image_size": image_size, "widths": widths}
        self.image_size = image_size
        self.register_buffer("template_mean", torch.zeros(dim))
        self.register_buffer("template_scale", torch.ones(()))

    def standardized(self, templates: Tensor) -> Tensor:
        """Templates (n, dim) as the training set has mean 0 and mean variance 1."""
        return (templates - self.template_mean) / self.template_scale

    @torch.no_grad()
    def prepare(self, templates: Tensor, portraits: Tensor) -> None:
        """Fit what no gradient trains: templates (n, dim) float32 and portraits (n, 3, P, P) uint8 of the training."""
        mean = templates.mean(0)
        self.template_mean.copy_(mean)
        self.template_scale.copy_((templates - mean).square().mean().sqrt())
