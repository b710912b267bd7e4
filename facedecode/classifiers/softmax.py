"""Softmax regression by full-batch L-BFGS in float64: a linear head, or a cosine head of a fixed scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.errors import UsageError
from facedecode.memory import require_memory
from facedecode.progress import Progress, silent

HEADS = ("linear", "cosine")
L2 = 1e-3
SCALE = 64.0  # as ArcFace's
_LARGEST = 1e6  # of a penalty or a scale that anybody could mean
# Of a gradient's entries. A cosine head on templates that all point much the same way has a long flat valley, where
# the last digits take thousands of iterations and change nothing that counts.
_TOLERANCE = {"linear": 1e-8, "cosine": 1e-6}
_ITERATIONS = 3000
_AT_ONCE = 25  # iterations between two reports of progress


@dataclass(frozen=True)
class Head:
    """What is fitted on top of templates.

    kind: `linear`: logits are affine in the template. `cosine`: logits are `scale` times the cosine between the
        template and each class's weight, without a bias.
    l2: of a linear head: half of it times the squared weights (in units of standardized templates; biases are free)
        is added to the mean cross-entropy. L2 if None. It is not chosen by the data: give another to change it.
    scale: of a cosine head; it is fixed, as it would grow without end on classes that can be told apart. SCALE if None.

    Raises UsageError: an unknown kind; a penalty or scale that is not above 0, or absurd, or of the other kind.
    """

    kind: str = "linear"
    l2: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in HEADS:
            raise UsageError(f"no head is called {self.kind!r}: choose one of {', '.join(HEADS)}")
        if self.kind == "cosine" and self.l2 is not None:
            raise UsageError("a cosine head has no L2 penalty, as its weights have length 1: give it a scale instead")
        if self.kind == "linear" and self.scale is not None:
            raise UsageError("a linear head has no scale: give it an L2 penalty instead, or choose a cosine head")
        for name, value in (("an L2 penalty", self.l2), ("a scale", self.scale)):
            # Without a penalty, classes that can be told apart have no best weights.
            if value is not None and not (math.isfinite(value) and 0 < value <= _LARGEST):
                raise UsageError(f"{name} of {value:g} makes no sense: give more than 0, and {_LARGEST:g} at most")
        own = ("l2", L2) if self.kind == "linear" else ("scale", SCALE)
        if getattr(self, own[0]) is None:
            object.__setattr__(self, *own)

    def describe(self) -> dict[str, Any]:
        """JSON for provenance."""
        return {"head": self.kind, "l2": self.l2, "scale": self.scale}


@dataclass(frozen=True, eq=False)
class Solved:
    """Weights at the minimum, and how it was reached.

    weight: (k, d) float64; of a cosine head, rows of length 1. bias: (k,) float64; of a cosine head, zeros.
    loss: mean cross-entropy in nats, without the penalty. iterations: of L-BFGS.
    gradient: largest absolute entry of the objective's gradient. converged: whether it is within tolerance.
    """

    weight: np.ndarray
    bias: np.ndarray
    loss: float
    iterations: int
    gradient: float
    converged: bool


def fit_softmax(x: np.ndarray, codes: np.ndarray, head: Head, progress: Progress = silent) -> Solved:
    """Minimize the mean cross-entropy of softmax(logits) and, of a linear head, the penalty.

    A linear head's objective is strictly convex (up to a constant added to all biases, which stay centered), so that
    the result depends on nothing but the data. A cosine head's is not; it starts from the classes' mean directions.

    Args:
        x: (n, d) float64. For a linear head standardized templates, for a cosine head templates of any length.
        codes: (n,) int64, the class of each, from 0 on without gaps.
        progress: called with (done, 100, note): by how many of its decades the gradient has fallen.

    Raises WouldNotFit: the logits would not fit in memory.
    """
    classes = int(codes.max()) + 1
    # Logits, their exponentials, and the gradients of both.
    require_memory(
        8 * len(x) * (4 * classes + 2 * x.shape[1]),
        f"the logits of {len(x)} images and {classes} people",
        "take fewer people (--people, or a larger --min-images)",
    )
    inputs, target = torch.from_numpy(np.ascontiguousarray(x, np.float64)), torch.from_numpy(codes)
    if head.kind == "cosine":
        inputs = F.normalize(inputs, dim=1)
        return _cosine(inputs, target, classes, head.scale, progress)
    weight = torch.zeros(classes, inputs.shape[1], dtype=torch.float64)
    bias = torch.zeros(classes, dtype=torch.float64)

    def objective(weight: Tensor, bias: Tensor) -> Tensor:
        return F.cross_entropy(inputs @ weight.T + bias, target) + head.l2 / 2 * weight.square().sum()

    iterations = _minimize(objective, [weight, bias], _TOLERANCE["linear"], progress)
    loss = F.cross_entropy(inputs @ weight.T + bias, target).item()
    gradient = _largest_gradient(objective, weight, bias)
    return Solved(weight.numpy(), bias.numpy(), loss, iterations, gradient, gradient <= _TOLERANCE["linear"])


def _cosine(inputs: Tensor, target: Tensor, classes: int, scale: float, progress: Progress) -> Solved:
    means = torch.zeros(classes, inputs.shape[1], dtype=torch.float64).index_add_(0, target, inputs)
    # A direction in which a class differs from the others; where it does not, any.
    directions = F.normalize(means, dim=1) - F.normalize(means.sum(0), dim=0)
    weight = F.normalize(torch.where(directions.norm(dim=1, keepdim=True) > 1e-9, directions, 1.0), dim=1)

    def objective(weight: Tensor) -> Tensor:
        return F.cross_entropy(scale * inputs @ F.normalize(weight, dim=1).T, target)

    iterations = _minimize(objective, [weight], _TOLERANCE["cosine"], progress)
    # Of weights of length 1: longer ones make the gradient smaller, and nothing better.
    weight = F.normalize(weight, dim=1)
    gradient = _largest_gradient(objective, weight)
    loss, converged = objective(weight).item(), gradient <= _TOLERANCE["cosine"]
    return Solved(weight.numpy(), np.zeros(classes), loss, iterations, gradient, converged)


def _minimize(objective: Callable[..., Tensor], parameters: list[Tensor], tolerance: float, progress: Progress) -> int:
    """L-BFGS from where the parameters are, in place; how many iterations it took."""
    progress(0, 100)
    enough = tolerance / 2  # what is kept is judged by the tolerance itself
    parameters = [p.requires_grad_() for p in parameters]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=_AT_ONCE,
        max_eval=2 * _AT_ONCE,
        history_size=20,
        tolerance_grad=enough,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = objective(*parameters)
        value.backward()
        return value

    evaluate()
    first = least = max(_largest([p.grad for p in parameters]), enough)
    done = 0
    while done < _ITERATIONS:
        optimizer.step(evaluate)
        before, done = done, optimizer.state[parameters[0]]["n_iter"]
        gradient = _largest([p.grad for p in parameters])
        least = max(min(least, gradient), enough)
        share = math.log(first / least) / math.log(first / enough) if first > enough else 1.0
        progress(round(100 * share), 100, f"{done} iterations, gradient {gradient:.0e}")
        if gradient <= enough or done == before:
            break
    for p in parameters:
        p.requires_grad_(False)
    return done


def _largest_gradient(objective: Callable[..., Tensor], *parameters: Tensor) -> float:
    copies = [p.clone().requires_grad_() for p in parameters]
    return _largest(torch.autograd.grad(objective(*copies), copies))


def _largest(gradients: Iterable[Tensor]) -> float:
    return max(g.abs().max().item() for g in gradients)
