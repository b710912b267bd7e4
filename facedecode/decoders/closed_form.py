"""Decoders with a closed form: the baselines that every table carries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facedecode.decoders.base import ClosedForm
from facedecode.errors import BadInput

_NOTHING = 1e-20  # of the templates' power: the rounding of equal float32 templates' mean in float64 is below it


class MeanFace(ClosedForm):
    """Draws the mean training portrait whatever the template: what an attacker has without any template."""

    mean: Tensor

    def __init__(self, dim: int, image_size: int = 128):
        super().__init__(dim, image_size)
        self.register_buffer("mean", torch.zeros(3, image_size, image_size))

    def fit(self, templates: Tensor, portraits: Tensor, score: str | None = None) -> MeanFace:
        """As `ClosedForm.fit`."""
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        for chunk in portraits.split(512):
            total += chunk.double().sum(0)
        self.mean = (total / (255 * len(portraits))).float()
        return self

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) → (n, 3, P, P) RGB in [0, 1]."""
        return self.mean.expand(len(templates), *self.mean.shape)


class Nearest(ClosedForm):
    """Draws the training portrait whose template is nearest by the recognizer's own score."""

    templates: Tensor
    portraits: Tensor

    def __init__(self, dim: int, image_size: int = 128, count: int = 0, score: str = "cosine"):
        super().__init__(dim, image_size)
        self.config |= {"count": count, "score": score}
        self.register_buffer("templates", torch.zeros(count, dim))
        self.register_buffer("portraits", torch.zeros(count, 3, image_size, image_size, dtype=torch.uint8))

    def fit(self, templates: Tensor, portraits: Tensor, score: str | None = None) -> Nearest:
        """As `ClosedForm.fit`."""
        self.templates, self.portraits = templates.float(), portraits
        self.config |= {"count": len(templates), "score": score or self.config["score"]}
        return self

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) → (n, 3, P, P) RGB in [0, 1]."""
        if self.config["score"] == "cosine":
            unit = nn.functional.normalize
            nearest = (unit(templates) @ unit(self.templates).T).argmax(1)
        else:
            nearest = torch.cdist(templates, self.templates).argmin(1)
        return self.portraits[nearest].float() / 255


class Ridge(ClosedForm):
    """Linear regression from template to pixels; the penalty is `penalty` times the templates' mean variance.

    Minimizes Σ‖x − W e − b‖² + n·λ‖W‖² with λ = penalty · trace(cov(e)) / dim; b is not penalized.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, dim: int, image_size: int = 128, penalty: float = 1e-2):
        super().__init__(dim, image_size)
        self.config["penalty"] = penalty
        self.penalty = penalty
        self.register_buffer("weight", torch.zeros(3 * image_size**2, dim))
        self.register_buffer("bias", torch.zeros(3 * image_size**2))

    def fit(self, templates: Tensor, portraits: Tensor, score: str | None = None) -> Ridge:
        """As `ClosedForm.fit`; accumulates in float64.

        Raises BadInput: the templates are all equal, so that nothing can be regressed on them.
        """
        e = templates.double()
        mean = e.mean(0)
        e = e - mean
        gram = e.T @ e
        if gram.trace() <= _NOTHING * len(e) * mean.square().sum():
            raise BadInput(f"the {len(e)} training templates are all equal; ridge needs at least two that differ")
        gram += self.penalty * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype)
        cross = torch.zeros(e.shape[1], self.bias.numel(), dtype=torch.float64)
        total = torch.zeros(self.bias.numel(), dtype=torch.float64)
        for rows, chunk in zip(e.split(512), portraits.split(512), strict=True):
            pixels = chunk.flatten(1).float() / 255
            cross += (rows.float().T @ pixels).double()
            total += pixels.sum(0)
        weight = torch.linalg.solve(gram, cross).T
        self.weight = weight.float()
        self.bias = (total / len(portraits) - weight @ mean).float()
        return self

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) → (n, 3, P, P) RGB, not yet clipped to [0, 1]."""
        flat = templates @ self.weight.T + self.bias
        return flat.view(-1, 3, self.image_size, self.image_size)
