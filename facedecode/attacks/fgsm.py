"""Attacks by the sign of the gradient, inside an L∞ ball."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from facedecode.attacks.base import Problem
from facedecode.attacks.methods import Budget


def one_step(problem: Problem, budget: Budget) -> tuple[Tensor, Tensor]:
    """x - ε·sign ∇ loss, clipped (Goodfellow et al. 2015) → candidates (b, 3, H, W), margins (b,)."""
    # Twice epsilon, cut off at epsilon: every pixel reaches the ball's face also from a start beside the original.
    alpha = 2 * budget.epsilon
    return many_steps(problem, replace(budget, steps=1, momentum=0.0), alpha)


def many_steps(problem: Problem, budget: Budget, alpha: float | None = None) -> tuple[Tensor, Tensor]:
    """Steps of alpha, clipped to the ball after each (Kurakin et al. 2017) → candidates (b, 3, H, W), margins (b,).

    With momentum the sign is that of a sum of gradients, each divided by its mean absolute value (Dong et al. 2018).
    A picture that has reached the goal leaves the batch, unless all steps are to be spent. The margin of one that has
    not is NaN: its last step is not looked at here.
    """
    alpha = budget.alpha if alpha is None else alpha
    candidates = problem.pictures.clone()
    margins = torch.full_like(candidates[:, 0, 0, 0], torch.nan)
    at = torch.arange(len(candidates), device=candidates.device)
    x = problem.project(problem.start(), budget.epsilon)
    total = torch.zeros_like(x) if budget.momentum else None
    for _ in range(min(budget.steps, budget.max_gradients or budget.steps)):
        margin, reached, gradient = problem.gradient(x, at, budget.kappa)
        if problem.stop_early and reached.any():
            candidates[at[reached]], margins[at[reached]] = x[reached], margin[reached]
            at, x, gradient = at[~reached], x[~reached], gradient[~reached]
            total = None if total is None else total[~reached]
            if not len(at):
                break
        if total is not None:
            size = gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
            gradient = total = budget.momentum * total + gradient / size
        x = problem.project(x - alpha * gradient.sign(), budget.epsilon, at)
    candidates[at] = x
    return candidates, margins
