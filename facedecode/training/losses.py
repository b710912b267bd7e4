"""Training losses: the six terms of the paper's Eq. 2, NbNet's pixel term, and an identity term of our own.

Every term is a mean over its elements (pixels, gradients) or relative to what it measures (maps, templates), so that
its weight depends neither on the picture's size nor on the network. The paper's weights are lost; those in
`jobs.LossWeights` were chosen here (docs/decoder.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.pictures.align import LOCAL_REGION

_PENALTY = 1e-2  # of the mean variance: people are few beside the numbers of a template


@dataclass(frozen=True)
class PersonPrediction:
    """The best linear prediction of a person's mean template from one template of the person.

    A template is its person's mean plus what one image adds; with their covariances B and W over people, the
    prediction is mean + B (B + W)⁻¹ (template − mean) (best linear unbiased prediction, Henderson 1975).

    mean: (dim,) float64, of the people.
    matrix: (dim, dim) float64, B (B + W)⁻¹ transposed: it is applied from the right.
    score: `cosine` L2-normalizes templates first.
    """

    mean: np.ndarray
    matrix: np.ndarray
    score: str

    @classmethod
    def fit(cls, templates: np.ndarray, identities: Sequence[str | None], score: str) -> PersonPrediction:
        """Estimate mean, B and W, each person counting alike.

        W comes from the people with several images (the others say nothing of it), B is what the total exceeds it
        by, its negative eigenvalues set to 0. Where nobody has two images, W is 0: a template predicts itself.

        templates: (n, dim) float32.
        identities: a name each; a template without one counts as a person of its own.
        """
        values = _prepared(templates, score)
        names = [f"\0{i}" if name is None else name for i, name in enumerate(identities)]
        _, person, counts = np.unique(names, return_inverse=True, return_counts=True)
        share = 1 / counts[person]
        mean = share @ values / len(counts)
        if counts.max(initial=0) < 2:
            return cls(mean, np.eye(values.shape[1]), score)
        centered = values - mean
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, person, centered)
        residuals = centered - (sums / counts[:, None])[person]
        # Each person's unbiased covariance (n − 1), then the mean over the people who have one.
        unbiased = np.where(counts[person] > 1, 1 / np.maximum(counts[person] - 1, 1), 0)
        within = (residuals * unbiased[:, None]).T @ residuals / np.count_nonzero(counts > 1)
        total = (centered * share[:, None]).T @ centered / len(counts)
        spectrum, vectors = np.linalg.eigh(total - within)
        between = (vectors * np.maximum(spectrum, 0)) @ vectors.T
        total += _PENALTY * np.trace(total) / len(total) * np.eye(len(total))
        return cls(mean, np.linalg.solve(total, between), score)

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Templates (n, dim) float32 → what is expected of their people, likewise."""
        return (self.mean + (_prepared(templates, self.score) - self.mean) @ self.matrix).astype(np.float32)


def _prepared(templates: np.ndarray, score: str) -> np.ndarray:
    values = np.asarray(templates, np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True) if score == "cosine" else values


def pixel_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared pixel difference (Eq. 3): (n, 3, H, W) each → scalar."""
    return F.mse_loss(x, y)


def absolute_loss(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute pixel difference (Mai et al. 2019): (n, 3, H, W) each → scalar."""
    return F.l1_loss(x, y)


def gradient_loss(x: Tensor, y: Tensor, side: int) -> Tensor:
    """Mean squared difference of gradients (Eq. 4): (n, 3, H, W) each → scalar.

    The gradient is the forward difference, in units of 1/128 of the portrait's side.

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

    features, targets: maps (n, c, h, w) of the reconstructions and of the originals, layer by layer. They differ by
        orders of magnitude between layers; relative to their size each layer counts alike.
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
