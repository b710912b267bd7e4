"""Decoupled direction and norm (Rony et al. 2019): the least L2 with few gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facedecode.attacks.base import Problem
from facedecode.attacks.methods import Budget

# The paper's: the norm it starts from, its growth and shrinking in one step, and the last step's length.
_FIRST_NORM = 1.0
_GAMMA = 0.05
_LAST_STEP = 0.01


def decoupled_direction_and_norm(problem: Problem, budget: Budget) -> Tensor:
    """Steps along the loss's gradient, each put back on a sphere → candidates (b, 3, H, W).

    The sphere shrinks by 5 % where the goal is reached and grows by 5 % where it is not; the steps' length is annealed
    from 1 to 0.01. The candidate is the nearest iterate that reached the goal, else the last one. Only a picture that
    is at its goal to begin with leaves the batch.
    """
    origin = problem.pictures
    candidates, x = origin.clone(), problem.start()
    at = torch.arange(len(origin), device=origin.device)
    nearest = torch.full_like(origin[:, 0, 0, 0], torch.inf)
    norm = torch.full_like(nearest, _FIRST_NORM)
    farthest = torch.maximum(origin, 1 - origin).flatten(1).norm(dim=1)
    steps = min(budget.steps, budget.max_gradients or budget.steps)
    for step in range(steps):
        _, reached, gradient = problem.gradient(x, at, budget.kappa)
        delta = x - origin[at]
        length = delta.flatten(1).norm(dim=1)
        better = reached & (length < nearest[at])
        nearest[at[better]] = length[better]
        # While none has reached the goal, the last iterate stands in.
        kept = better | nearest[at].isinf()
        candidates[at[kept]] = x[kept]
        home = nearest[at] == 0
        if home.any():
            at, delta, gradient, reached = at[~home], delta[~home], gradient[~home], reached[~home]
            if not len(at):
                break
        stepsize = _LAST_STEP + (1 - _LAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2
        delta -= stepsize * _unit(gradient)
        norm[at] = torch.minimum(norm[at] * torch.where(reached, 1 - _GAMMA, 1 + _GAMMA), farthest[at])
        x = (origin[at] + norm[at].view(-1, 1, 1, 1) * _unit(delta)).clamp_(0, 1)
    return candidates


def _unit(x: Tensor) -> Tensor:
    """Each row at length 1; a row of zeros stays. The first division keeps squares of tiny gradients from vanishing."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax((1, 2, 3), keepdim=True).clamp_min(tiny)
    return x / x.flatten(1).norm(dim=1).clamp_min(tiny).view(-1, 1, 1, 1)
