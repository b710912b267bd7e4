"""The layers that teach a recognizer to tell people apart: SoftMax, and ArcFace's angular margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.errors import UsageError

HEADS = ("softmax", "arcface")


@dataclass(frozen=True)
class HeadSettings:
    """Which head, and what ArcFace's is made with.

    Attributes:
        kind: `softmax` or `arcface`.
        scale: s, the radius of the sphere that templates are put on. margin: m, radians.
        warm_up: share of the steps over which the margin grows from 0 to m. At the full margin from the first step on,
            few images a person give a random network nothing to start from.

    Raises:
        UsageError: an unknown kind, or numbers that make no sense.
    """

    kind: str = "arcface"
    scale: float = 64.0
    margin: float = 0.5
    warm_up: float = 0.3

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise UsageError(f"--head {self.kind}: a recognizer is trained with {' or '.join(HEADS)}")
        if not 0 < self.scale < math.inf:
            raise UsageError(f"--scale {self.scale:g}: give a number above 0")
        if not 0 <= self.margin < math.pi / 2:
            raise UsageError(
                f"--margin {self.margin:g}: give an angle in radians, 0 or more and less than {math.pi / 2:.2f}"
            )
        if not 0 <= self.warm_up <= 1:
            raise UsageError(f"a margin warm-up of {self.warm_up:g}: give a share of the steps, from 0 to 1")

    def margin_at(self, step: int, steps: int) -> float:
        """The margin at a step: linear up to `warm_up` of all steps."""
        return self.margin * min(1.0, step / max(1.0, self.warm_up * steps))

    def describe(self) -> dict:
        """JSON: the kind, and what plays a part in it."""
        own = {"scale": self.scale, "margin": self.margin, "warm_up": self.warm_up} if self.kind == "arcface" else {}
        return {"kind": self.kind, **own}


class SoftMaxHead(nn.Module):
    """A linear layer with bias on raw templates: z_j = w_j · e + b_j."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, templates: Tensor, classes: Tensor | None = None, margin: float = 0.0) -> Tensor:
        """Logits (n, classes) of templates (n, dim). The other arguments are ArcFace's."""
        return F.linear(templates, self.weight, self.bias)


class ArcFaceHead(nn.Module):
    """The additive angular margin of Deng et al. 2019, Eq. 3: z_j = s·cos θ_j, and s·cos(θ_y + m) for the own class.

    θ_j is the angle between template and class weight w_j. Where θ_y + m would pass π and the cosine turn up again,
    the logit goes on as s·(cos θ_y − m·sin m), as in the authors' code, so that the loss falls with θ_y everywhere.
    """

    def __init__(self, dim: int, classes: int, scale: float):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, templates: Tensor, classes: Tensor | None = None, margin: float = 0.0) -> Tensor:
        """Logits (n, classes) of templates (n, dim).

        Args:
            classes: (n,) int64, the own class of each, whose angle takes the margin; None for no margin.
            margin: m, radians.
        """
        cosine = F.linear(F.normalize(templates), F.normalize(self.weight))
        if classes is None:
            return self.scale * cosine
        own = cosine.gather(1, classes[:, None])
        # The root has no slope at 0, where template and weight coincide.
        sine = (1 - own.square()).clamp(min=1e-9).sqrt()
        moved = own * math.cos(margin) - sine * math.sin(margin)
        moved = torch.where(own > -math.cos(margin), moved, own - margin * math.sin(margin))
        return self.scale * cosine.scatter(1, classes[:, None], moved)


def make_head(settings: HeadSettings, dim: int, classes: int) -> SoftMaxHead | ArcFaceHead:
    """A head with random weights for templates (n, dim)."""
    if settings.kind == "softmax":
        return SoftMaxHead(dim, classes)
    return ArcFaceHead(dim, classes, settings.scale)
