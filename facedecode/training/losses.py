"""Training losses: the six terms of the paper's Eq. 2, NbNet's pixel term, and an identity term of our own.

Every term is a mean over its elements (pixels, gradients) or relative to what it measures (maps, templates), so that
its weight depends neither on the picture's size nor on the network. The paper's weights are lost; those in
`LossWeights` were chosen here (docs/decoder.md).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.pictures.align import LOCAL_REGION


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; 0 switches a term off.

    Attributes:
        pixel, gradient: Eq. 3 and 4 on the whole portrait.
        local_pixel, local_gradient: the same on the central facial region.
        perceptual, local_perceptual: Eq. 5 on the internal maps of φ (`perceptual/phi.py`), of its whole view and of
            the central facial region cut out of it.
        identity: squared distance between the reconstruction's template and its target, relative to the spread of
            templates; not in the paper. White-box: it needs the recognizer's gradients.
        absolute: mean absolute pixel difference on the whole portrait; NbNet's, not Eq. 2's.
    """

    pixel: float = 4.0
    gradient: float = 300.0
    local_pixel: float = 4.0
    local_gradient: float = 300.0
    perceptual: float = 0.6
    local_perceptual: float = 0.0
    identity: float = 0.5
    absolute: float = 0.0

    def of_pixels(self) -> LossWeights:
        """Only those of the terms that compare pixels."""
        return dataclasses.replace(self, perceptual=0.0, local_perceptual=0.0, identity=0.0)

    def of_networks(self) -> LossWeights:
        """Only those of the terms that look through networks."""
        return dataclasses.replace(self, pixel=0.0, gradient=0.0, local_pixel=0.0, local_gradient=0.0, absolute=0.0)


def pixel_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared pixel difference (Eq. 3): (n, 3, H, W) each → scalar."""
    return F.mse_loss(x, y)


def absolute_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute pixel difference (Mai et al. 2019): (n, 3, H, W) each → scalar."""
    return F.l1_loss(x, y)


def gradient_loss(x: Tensor, y: Tensor, side: int) -> Tensor:
    """Mean squared difference of gradients (Eq. 4): (n, 3, H, W) each → scalar.

    The gradient is the forward difference, in units of 1/128 of the portrait's side.

    Args:
        side: of the whole portrait, pixels, of which x and y may be a part.
    """
    d = (x - y) * (side / 128)
    return (d[..., 1:] - d[..., :-1]).square().mean() + (d[..., 1:, :] - d[..., :-1, :]).square().mean()


def local_region(x: Tensor) -> Tensor:
    """The central facial region (`align.LOCAL_REGION`) of portraits (n, 3, P, P)."""
    side = x.shape[-1]
    x1, y1, x2, y2 = (round(v * side) for v in LOCAL_REGION)
    return x[..., y1:y2, x1:x2]


def perceptual_loss(features: list[Tensor], targets: list[Tensor], sizes: list[Tensor] | None = None) -> Tensor:
    """Squared distance of internal maps (Eq. 5), each relative to the target's mean square → scalar.

    Args:
        features, targets: maps (n, c, h, w) of the reconstructions and of the originals, layer by layer. They
            differ by orders of magnitude between layers; relative to their size each layer counts alike.
        sizes: scalars, the targets' mean squares, where these are but some rows of a batch and sizes are the whole's.
    """
    if sizes is None:
        sizes = [t.square().mean() for t in targets]
    terms = [F.mse_loss(f, t) / size for f, t, size in zip(features, targets, sizes, strict=True)]
    return torch.stack(terms).mean()


def identity_loss(templates: Tensor, targets: Tensor, score: str) -> Tensor:
    """Squared distance of templates (n, dim) in the geometry of the recognizer's score → scalar.

    For `cosine` both are L2-normalized first, and the loss is 2 − 2·cosine; else raw templates are compared.
    """
    if score == "cosine":
        templates, targets = F.normalize(templates), F.normalize(targets)
    return (templates - targets).square().sum(1).mean()


def template_spread(templates: Tensor, score: str) -> float:
    """Mean squared distance of templates (n, dim) from their mean, in the same geometry: what `identity_loss` of a
    training is relative to, so that its weight does not depend on the recognizer."""
    if score == "cosine":
        templates = F.normalize(templates)
    return (templates - templates.mean(0)).square().sum(1).mean().item()


def random_jitter(count: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Small random similarities (count, 2, 3) in normalized crop coordinates, about the crop's center.

    The identity term sees every reconstruction through one of these. Seen always through the same crop, the
    decoder learns a pattern locked to the recognizer's sampling grid: visible as a checkerboard, and of no use
    against another recognizer (expectation over transformations, Athalye et al. 2018). Standard deviations at
    strength 1: 2 % shift, 3 % scale, 2.5° rotation.
    """
    noise = torch.randn(count, 4, generator=generator) * strength
    scale = torch.exp(0.03 * noise[:, 0])
    angle = 0.044 * noise[:, 1]
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 0.04 * noise[:, 2:]  # the crop is 2 units wide
    return torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
