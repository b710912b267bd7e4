"""What an attack wants of the victim's outputs, apart from how it is sought.

A goal gives two numbers for each picture: a loss to descend, and a margin, which is positive exactly where the goal is
reached. Both are differentiable, and neither mixes rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import BadInput, UsageError
from facedecode.identity import SCORE_RANGES, impossible_threshold

_WITH_GRADIENTS = ("cosine", "negative-euclidean")


class Goal(ABC):
    """What is wanted of n pictures.

    targets: one row a picture.
    stationary: the pictures may start where the loss is flat, so that an attack must begin beside them.
    """

    targets: Tensor
    stationary: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    @abstractmethod
    def loss(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """What to descend, (b,), of the outputs (b, k) of the pictures `rows` (b,), int64."""

    @abstractmethod
    def margin(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """How far beyond the goal, (b,): positive where it is reached. Arguments as of `loss`."""

    @property
    def greatest_margin(self) -> float:
        """What no margin can reach; infinite where there is no such limit."""
        return float("inf")

    @abstractmethod
    def check(self, outputs: Tensor) -> None:
        """Refuse outputs (b, k) of another length than the targets are made for: UsageError or BadInput."""

    def to(self, device: torch.device) -> Goal:
        """The goal with a copy of its targets on a device."""
        other = copy(self)
        other.targets = self.targets.to(device, copy=True)
        return other


class ClassGoal(Goal):
    """The softmax's class: loss log Σ_{i ≠ t} exp Z_i - Z_t, margin Z_t - max_{i ≠ t} Z_i on the raw logits.

    A constant that is added to all logits of a picture changes neither. The gradient of the loss is a multiple of that
    of the cross-entropy, and does not vanish in float32 where the target leads by 17 or more.

    targets: (n,) whole numbers, the wanted classes.
    classes: how many there are; without it the victim's first outputs tell.

    Raises UsageError: a target that is no class. BadInput: not whole numbers (n,).
    """

    def __init__(self, targets: Tensor | np.ndarray, *, classes: int | None = None) -> None:
        tensor = torch.as_tensor(targets)
        if tensor.ndim != 1 or tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise BadInput(f"targets of {tensor.dtype} {tuple(tensor.shape)}: give class numbers, whole, one a picture")
        self.targets = tensor.long()
        if self.targets.numel() and int(self.targets.min()) < 0:
            raise UsageError(f"target class {int(self.targets.min())}: classes count from 0")
        if classes is not None:
            self._in_range(classes)

    def loss(self, outputs: Tensor, rows: Tensor) -> Tensor:
        classes = self.targets[rows, None]
        return outputs.scatter(1, classes, -torch.inf).logsumexp(1) - outputs.gather(1, classes)[:, 0]

    def margin(self, outputs: Tensor, rows: Tensor) -> Tensor:
        classes = self.targets[rows, None]
        others = outputs.scatter(1, classes, -torch.inf).amax(1)
        return outputs.gather(1, classes)[:, 0] - others

    def check(self, outputs: Tensor) -> None:
        self._in_range(outputs.shape[1])

    def _in_range(self, classes: int) -> None:
        if classes < 2:
            raise UsageError(f"a classifier of {classes} class has nothing to be attacked for: give at least two")
        if self.targets.numel() and int(self.targets.max()) >= classes:
            raise UsageError(f"target class {int(self.targets.max())}: there are {classes}, 0 to {classes - 1}")


class EmbeddingGoal(Goal):
    """A template's score: towards another person's template, or away from one's own.

    Towards: loss -score, margin score - threshold (impersonation). Away: loss +score, margin threshold - score
    (dodging). A picture that is scored against its own template starts at the score's summit, where it has no gradient:
    attacks begin a little beside it.

    Args:
        targets: (n, dim) float templates.
        score: the recognizer's, `cosine` or `negative-euclidean`.
        threshold: of the score, at the FMR at which the attack is judged.
        away: dodging.

    Raises UsageError: a score without gradients, or a threshold that no score reaches. BadInput: templates that are no
    finite floats (n, dim), or zero under the cosine.
    """

    def __init__(self, targets: Tensor | np.ndarray, score: str, threshold: float, *, away: bool = False) -> None:
        if score not in _WITH_GRADIENTS:
            known = ", ".join(_WITH_GRADIENTS)
            raise UsageError(f"the score {score!r} has no gradient to attack by: choose one of {known}")
        if fault := impossible_threshold(threshold, score):
            raise UsageError(fault)
        least, greatest = SCORE_RANGES[score]
        # At its upper end nothing can be above, at its lower end nothing below.
        if not least < threshold < greatest:
            raise UsageError(f"threshold {threshold}: give a {score} between {least:g} and {greatest:g}")
        templates = torch.as_tensor(targets)
        if templates.ndim != 2 or not templates.is_floating_point():
            raise BadInput(f"templates of {templates.dtype} {tuple(templates.shape)}: give floats (n, dim)")
        templates = templates.float()
        if not (finite := templates.isfinite().all(1)).all():
            raise BadInput(f"template {int((~finite).nonzero()[0])} has NaN or infinite numbers")
        if score == "cosine" and not (used := templates.any(1)).all():
            raise BadInput(f"template {int((~used).nonzero()[0])} is all zeros: it has no cosine with another")
        self.targets, self.score, self.threshold = templates, score, float(threshold)
        self.away = self.stationary = away

    @property
    def greatest_margin(self) -> float:
        least, greatest = SCORE_RANGES[self.score]
        return self.threshold - least if self.away else greatest - self.threshold

    def scores(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """The scores (b,) of templates (b, dim) against the targets of the pictures `rows`. Differentiable."""
        targets = self.targets[rows]
        if self.score == "cosine":
            return F.cosine_similarity(outputs, targets)
        return -torch.linalg.vector_norm(outputs - targets, dim=1)

    def loss(self, outputs: Tensor, rows: Tensor) -> Tensor:
        scores = self.scores(outputs, rows)
        return scores if self.away else -scores

    def margin(self, outputs: Tensor, rows: Tensor) -> Tensor:
        beyond = self.scores(outputs, rows) - self.threshold
        return -beyond if self.away else beyond

    def check(self, outputs: Tensor) -> None:
        if outputs.shape[1] != self.targets.shape[1]:
            raise BadInput(
                f"targets of {self.targets.shape[1]} numbers for templates of {outputs.shape[1]}: use one recognizer"
            )
