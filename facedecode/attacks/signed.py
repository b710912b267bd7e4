"""Attacks by the sign of the gradient, inside an L∞ ball."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from facedecode.attacks.base import Problem
from facedecode.attacks.methods import Budget


def one_step(problem: Problem, budget: Budget) -> Tensor:
    """x - ε·sign ∇ loss, clipped (Goodfellow et al. 2015) → candidates (b, 3, H, W)."""
    # Twice epsilon, cut off at epsilon: every pixel reaches the ball's face also from a start beside the original.
    alpha = 2 * budget.epsilon
    return many_steps(problem, replace(budget, steps=1, momentum=0.0), alpha)


def many_steps(problem: Problem, budget: Budget, alpha: float | None = None) -> Tensor:
    """Steps of alpha, clipped to the ball after each (Kurakin et al. 2017) → candidates (b, 3, H, W).

    With momentum the sign is that of a sum of gradients, each divided by its mean absolute value (Dong et al. 2018).
    A picture that has reached the goal leaves the batch.
    """
    alpha = budget.alpha if alpha is None else alpha
    candidates = problem.pictures.clone()
    at = torch.arange(len(candidates), device=candidates.device)
    x = problem.project(problem.start(), budget.epsilon)
    total = torch.zeros_like(x) if budget.momentum else None
    for _ in range(min(budget.steps, budget.max_gradients or budget.steps)):
        _, reached, gradient = problem.gradient(x, at, budget.kappa)
        if reached.any():
            candidates[at[reached]] = x[reached]
            at, x, gradient = at[~reached], x[~reached], gradient[~reached]
            total = None if total is None else total[~reached]
            if not len(at):
                break
        if total is not None:
            size = gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
            gradient = total = budget.momentum * total + gradient / size
        x = problem.project(x - alpha * gradient.sign(), budget.epsilon, at)
    candidates[at] = x
    return candidates
