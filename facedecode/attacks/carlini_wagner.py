"""Carlini and Wagner's attack (2017): the least L2 by Adam in tanh space."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from facedecode.attacks.base import Problem
from facedecode.attacks.methods import Budget

# Pixels 0 and 1 lie at ∓atanh of this. Nearer to 1 they would lie so far out that Adam's steps never bring them
# back: at the usual 0.999999 a black pixel takes 400 steps of 0.01 to move by 1/255.
_SCALE = 0.8
_EDGE = math.atanh(_SCALE)
_BETAS = (0.9, 0.999)
_ADAM_EPS = 1e-8
# From the first success to the end of a run Adam's rate falls to this share. Its first steps are all of one length, and
# on a large picture one of them goes farther than the nearest success (150 px: 0.9 in L2, where 0.26 will do); before
# a success the rate stays, so that far ones are reached at all.
_LAST_RATE = 0.3
_CHECKS = 10  # looks at a run's progress, of at least
_WINDOW = 10  # steps each: fewer see only Adam's first swing
_PROGRESS = 0.9999  # the mean loss since the last look must be below this share of the one before
_GREATEST_C = 1e10


@dataclass
class _Runs:
    """Rows that are in the batch, each in a run of its own: they start and stop apart."""

    at: Tensor  # (b,) int64, rows of the problem
    origin: Tensor  # (b, 3, H, W)
    x: Tensor  # the iterate
    w: Tensor  # its place in tanh space
    mean: Tensor  # Adam's moments
    square: Tensor
    c: Tensor  # (b,) the weight of this run, and the search's bounds for it
    low: Tensor
    high: Tensor
    step: Tensor  # (b,) int64, steps of this run
    run: Tensor  # runs before it
    since: Tensor  # the step that reached the goal first
    window: Tensor  # (b,) the loss summed since the last look
    before: Tensor  # and between the last two
    nearer: Tensor  # (b,) bool, a nearer picture was met since the last look
    succeeded: Tensor  # the goal was reached in this run

    @classmethod
    def begin(cls, problem: Problem, start: Tensor, c: float) -> _Runs:
        origin = problem.pictures
        at, blank = torch.arange(len(origin), device=origin.device), torch.zeros_like(origin)
        zero = torch.zeros_like(origin[:, 0, 0, 0])
        count, no, infinite = torch.zeros_like(at), zero.bool(), zero + torch.inf
        pictures = (origin, start, _to_tanh(start), blank, blank)
        numbers = (zero + c, zero, infinite, count, count, count, zero, infinite, no, no)
        return cls(at, *(values.clone() for values in (*pictures, *numbers)))

    def keep(self, mask: Tensor) -> _Runs:
        return _Runs(*(getattr(self, f.name)[mask] for f in fields(self)))

    def search(self, ended: Tensor) -> None:
        """The next c of the rows whose run ended: between the bounds, or ten times as much while none sufficed."""
        self.high = torch.where(ended & self.succeeded, torch.minimum(self.high, self.c), self.high)
        self.low = torch.where(ended & ~self.succeeded, torch.maximum(self.low, self.c), self.low)
        following = torch.where(self.high.isinf(), self.c * 10, (self.low + self.high) / 2)
        self.c = torch.where(ended, following.clamp_max(_GREATEST_C), self.c)
        self.run += ended

    def restart(self, mask: Tensor, start: Tensor) -> None:
        """Back to the start in the rows of `mask`."""
        self.x[mask] = start[self.at[mask]]
        self.w[mask] = _to_tanh(self.x[mask])
        self.mean[mask] = 0
        self.square[mask] = 0
        self.step[mask] = 0
        self.window[mask] = 0
        self.before[mask] = torch.inf
        self.nearer[mask] = False
        self.succeeded[mask] = False

    def descend(self, gradient: Tensor, rate: Tensor) -> None:
        """One step of Adam by the gradient of the whole loss in pixels (b, 3, H, W), which is overwritten."""
        # The slope of x(w), from x: 1 - tanh² over twice the scale.
        slope = self.x.mul(2 * _SCALE).sub_(_SCALE).square_().neg_().add_(1).div_(2 * _SCALE)
        gradient.mul_(slope)
        self.step += 1
        first, second = _BETAS
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        # Each row's own count corrects its moments.
        rates = _column(rate / (1 - first ** self.step.float()))
        roots = _column((1 - second ** self.step.float()).sqrt())
        self.w -= rates * self.mean / (self.square.sqrt().div_(roots).add_(_ADAM_EPS))
        self.w.clamp_(-_EDGE, _EDGE)
        self.x = _from_tanh(self.w)


def carlini_wagner(problem: Problem, budget: Budget) -> tuple[Tensor, Tensor]:
    """min ‖δ‖² + c·max(-margin, -kappa) → candidates (b, 3, H, W), margins (b,).

    Every iterate is a picture in [0, 1], and is judged as such; the candidate is the nearest one that reached the
    goal, else the last one. A run ends after `steps`, or where the loss no longer falls and no nearer success is met;
    where c is searched for, the row then starts again with the next c, while the others go on. A picture that has had
    all of its runs leaves.
    """
    start = problem.start()
    candidates, nearest = start.clone(), torch.full_like(start[:, 0, 0, 0], torch.inf)
    margins = torch.full_like(nearest, torch.nan)
    runs = _Runs.begin(problem, start, budget.c)
    every = max(_WINDOW, math.ceil(budget.steps / _CHECKS))
    while len(runs.at):
        margin, reached, gradient = problem.gradient(runs.x, runs.at, budget.kappa, hinge=True)
        delta = runs.x - runs.origin
        squared = delta.flatten(1).square().sum(1)
        better = reached & (squared < nearest[runs.at])
        nearest[runs.at[better]] = squared[better]
        kept = better | nearest[runs.at].isinf()
        candidates[runs.at[kept]], margins[runs.at[kept]] = runs.x[kept], margin[kept]
        runs.since = torch.where(reached & ~runs.succeeded, runs.step, runs.since)
        runs.succeeded |= reached

        loss = squared + runs.c * (budget.kappa - margin).clamp_min(0)
        runs.window += loss
        look = (runs.step + 1) % every == 0
        runs.nearer |= better
        stuck = look & ~runs.nearer & (runs.window > _PROGRESS * runs.before)
        runs.before = torch.where(look, runs.window, runs.before)
        runs.window[look], runs.nearer[look] = 0, False
        # Constant until the goal is reached: to get there at all comes first.
        spent = torch.where(runs.succeeded, (runs.step - runs.since) / (budget.steps - runs.since), 0)
        fall = 1 - (1 - _LAST_RATE) * spent
        runs.descend(gradient.mul_(_column(runs.c)).add_(delta, alpha=2), budget.learning_rate * fall)

        home = nearest[runs.at] == 0
        if budget.max_gradients:
            home |= problem.gradients[runs.at] >= budget.max_gradients
        ended = stuck | home | (runs.step >= budget.steps)
        if ended.any():
            runs.search(ended)
            leaves = ended & (home | (runs.run >= (budget.search_steps or 1)))
            runs.restart(ended & ~leaves, start)
            if leaves.any():
                runs = runs.keep(~leaves)
    return candidates, margins


def _to_tanh(pictures: Tensor) -> Tensor:
    return ((2 * pictures - 1) * _SCALE).atanh_()


def _from_tanh(w: Tensor) -> Tensor:
    return w.tanh().div_(2 * _SCALE).add_(0.5).clamp_(0, 1)


def _column(x: Tensor) -> Tensor:
    return x.view(-1, 1, 1, 1)
