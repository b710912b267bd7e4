"""Runs an attack and judges it: project onto the budget, clip, and only then score, in memory and in 8 bits.

Pictures are independent of one another: losses are summed, never averaged, and what is in a row decides alone when it
leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from facedecode.attacks.goals import Goal
from facedecode.attacks.methods import Budget, find_method
from facedecode.errors import BadInput, UsageError
from facedecode.options import require_choice
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer

Victim = Callable[[Tensor], Tensor]
_BATCH = 16  # pictures at once: with more, a CPU takes longer for each
_NUDGE = 1 / 255  # from where the loss is flat; the gradient beside it is the one that counts
# Share of the outputs' spread that rounding may move a margin by, from one size of batch to another: an iterate must be
# beyond that to count, or it could fail when somebody scores it again.
_ROUNDING = 2e-6


@dataclass(frozen=True)
class AttackResult:
    """What an attack came to; all tensors on the pictures' device."""

    pictures: Tensor  # (n, 3, H, W) float32 in [0, 1]; a failed row is the original, or the last iterate (`keep`)
    success: Tensor  # (n,) bool, in memory: the margin is positive
    success_8bit: Tensor  # (n,) bool, likewise of the picture as it is saved (`to_uint8`)
    gradients: Tensor  # (n,) int64, evaluations of the victim with its gradient
    l2: Tensor  # (n,) float32, distance from the original in memory, pixels in [0, 1]
    linf: Tensor  # likewise


def victim_of(recognizer: Recognizer, head: Callable[[Tensor], Tensor] | None = None) -> Victim:
    """A recognizer as a victim: crops (n, 3, S, S) in [0, 1] → templates, or a head's logits of them.

    Raises UsageError: a black-box recognizer, or one that does not compute in fp32.
    """
    if not recognizer.white_box:
        raise UsageError(
            f"{recognizer.name} is black-box: it gives no gradients to attack by; attack a white-box recognizer and "
            f"see what its pictures do to {recognizer.name} (transfer), with extract and evaluate"
        )
    if recognizer.precision != "fp32":
        raise UsageError(f"{recognizer.name} computes in {recognizer.precision}: attacks need --precision fp32")
    if head is None:
        return recognizer.embed
    return lambda pictures: head(recognizer.embed(pictures))


def attack(
    victim: Victim,
    pictures: Tensor,
    goal: Goal,
    method: str,
    budget: Budget | None = None,
    *,
    on_failure: str = "original",
    stop_early: bool = True,
    batch_size: int = _BATCH,
    progress: Progress = silent,
) -> AttackResult:
    """Change pictures so that the victim's outputs reach a goal.

    Args:
        victim: a differentiable function of pictures, (b, 3, H, W) float32 in [0, 1] → (b, k) float32.
        pictures: (n, 3, H, W) float32 in [0, 1]. goal: of these, row by row.
        method: a key of `METHODS`.
        on_failure: the result of a row that fails: `original`, or `keep` for the last iterate.
        stop_early: whether a picture leaves the batch once it has reached the goal; if not, all its steps are spent.
        progress: called with (done, total) pictures, and a note on the batch that is in work.

    Raises UsageError: an unknown method, a budget that it cannot use, a victim without gradients or not in fp32.
    BadInput: pictures of another shape, type or range, NaN; targets of another count or length; outputs or gradients
    that are not finite.
    """
    chosen = find_method(method)
    budget = chosen.budget(budget)
    require_choice("on-failure", on_failure, ("original", "keep"))
    if batch_size < 1:
        raise UsageError(f"a batch of {batch_size} pictures: give at least 1")
    if not stop_early and "epsilon" not in chosen.defaults:
        raise UsageError(f"{method} looks for the nearest success, and cannot leave out its stop: attack with itfgsm")
    if (budget.kappa or 0) >= goal.greatest_margin:
        raise UsageError(f"kappa {budget.kappa:g}: no margin reaches it; give less than {goal.greatest_margin:.4g}")
    _check_pictures(pictures)
    if len(goal) != len(pictures):
        raise BadInput(f"{len(goal)} targets for {len(pictures)} pictures: give one each")
    if torch.is_autocast_enabled(pictures.device.type):
        raise UsageError("attacks need fp32: leave autocast before calling them")
    parts = []
    progress(0, len(pictures))
    with torch.inference_mode(False), torch.no_grad():
        goal = goal.to(pictures.device)
        for start in range(0, len(pictures), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(pictures)), device=pictures.device)
            # A copy: a tensor made in inference mode would give no gradient.

            def step(gradients: int, done: int = start) -> None:
                progress(done, len(pictures), f"{gradients} gradients")

            problem = Problem(victim, pictures[rows].detach().clone(), goal, rows, stop_early, step)
            candidates, margin = chosen.function(problem, budget)
            parts.append(_judge(problem, candidates, margin, budget, on_failure))
            progress(start + len(rows), len(pictures))
    if not parts:
        raise BadInput("there are no pictures to attack")
    return AttackResult(*(torch.cat([getattr(p, f) for p in parts]) for f in AttackResult.__dataclass_fields__))


def _judge(problem: Problem, candidates: Tensor, margin: Tensor, budget: Budget, on_failure: str) -> AttackResult:
    pictures = problem.project(candidates, budget.epsilon)
    # A margin that the algorithm met counts where it is this very picture's: as a rule all are within the budget.
    unknown = margin.isnan() | (pictures != candidates).flatten(1).any(1)
    if unknown.any():
        margin[unknown] = problem.margin(pictures[unknown], unknown)
    success = margin > 0
    if on_failure == "original":
        pictures = torch.where(success.view(-1, 1, 1, 1), pictures, problem.pictures)
        margin = torch.where(success, margin, problem.margin_of_originals)
    saved = to_uint8(pictures).float() / 255
    # What rounding leaves as it is, such as an original from a file, has been seen.
    unknown = margin.isnan() | (saved != pictures).flatten(1).any(1)
    if unknown.any():
        margin[unknown] = problem.margin(saved[unknown], unknown)
    change = (pictures - problem.pictures).flatten(1)
    distances = change.norm(dim=1), change.abs().amax(1)
    return AttackResult(pictures, success, margin > 0, problem.gradients, *distances)


def to_uint8(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as they are saved: uint8, rounded to the nearest (half to even), never truncated."""
    return (pictures * 255).round().to(torch.uint8)


class Problem:
    """A batch of pictures, the victim and the goal, as the algorithms see them."""

    def __init__(
        self,
        victim: Victim,
        pictures: Tensor,
        goal: Goal,
        rows: Tensor,
        stop_early: bool = True,
        step: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.pictures = pictures  # (b, 3, H, W) float32, the originals
        self.gradients = torch.zeros_like(rows)  # (b,) int64, how many each has used
        # (b,) float32, NaN until they have been looked at
        self.margin_of_originals = torch.full(rows.shape, torch.nan, device=rows.device)
        self.stop_early = stop_early
        self._victim, self._goal, self._rows = victim, goal, rows
        self._step = step  # called with the most gradients that a picture has used

    def project(self, pictures: Tensor, epsilon: float | None, at: Tensor | None = None) -> Tensor:
        """Pictures within epsilon (None: any distance) of the originals (of the rows `at`), and in [0, 1]."""
        if epsilon is None:
            return pictures.clamp(0, 1)
        origin = self.pictures if at is None else self.pictures[at]
        return pictures.clamp((origin - epsilon).clamp_min_(0), (origin + epsilon).clamp_max_(1))

    def start(self) -> Tensor:
        """Where to begin: the originals, or a little beside them where the loss is flat there.

        The step aside is the same for all pictures, so that no result depends on a picture's place in the batch.
        """
        if not self._goal.stationary:
            return self.pictures.clone()
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, self.pictures.shape[1:], generator=generator) * 2 - 1
        return (self.pictures + _NUDGE * signs.to(self.pictures)).clamp_(0, 1)

    def gradient(
        self, pictures: Tensor, at: Tensor, kappa: float, hinge: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One evaluation with its gradient, of the goal's loss or of max(kappa - margin, 0) (`hinge`).

        Of pictures (b, 3, H, W), iterates of the rows `at` (b,), it gives the margin (b,), whether that is reached (b,)
        bool, and the gradient.
        """
        with torch.enable_grad():
            x = pictures.detach().requires_grad_()
            outputs = self._outputs(x)
            if not outputs.requires_grad:
                raise UsageError(
                    "the victim gives no gradients (black box): attack a white-box one and see what its pictures do to "
                    "this one (transfer)"
                )
            rows = self._rows[at]
            margin = self._goal.margin(outputs, rows)
            loss = (kappa - margin).clamp_min(0) if hinge else self._goal.loss(outputs, rows)
            (gradient,) = torch.autograd.grad(loss.sum(), x, allow_unused=True)
        if gradient is None:
            raise UsageError("the victim's outputs do not depend on the pictures: there is nothing to attack")
        if not gradient.sum().isfinite():
            raise BadInput("the attack met a gradient that is not finite: check the victim's weights")
        margin = margin.detach()
        if not self._goal.stationary:  # else the first iterates are a little beside the originals
            first = self.gradients[at] == 0
            self.margin_of_originals[at[first]] = margin[first]
        self.gradients[at] += 1
        self._step(int(self.gradients.max()))
        # Their spread, not their size: a constant on all logits must change nothing.
        slack = _ROUNDING * (outputs.detach().amax(1) - outputs.detach().amin(1))
        return margin, (margin > slack) & (margin >= kappa + slack), gradient.contiguous()

    def margin(self, pictures: Tensor, at: Tensor | slice = slice(None)) -> Tensor:
        """Margins (b,) of pictures of the rows `at`, without gradients."""
        return self._goal.margin(self._outputs(pictures), self._rows[at])

    def _outputs(self, pictures: Tensor) -> Tensor:
        outputs = self._victim(pictures)
        if outputs.dtype != torch.float32:
            raise UsageError(f"the victim gives {outputs.dtype}: attacks need fp32, for its gradients' signs")
        if outputs.ndim != 2 or len(outputs) != len(pictures):
            raise BadInput(f"the victim gives {tuple(outputs.shape)} for {len(pictures)} pictures: expected (n, k)")
        if not outputs.isfinite().all():
            raise BadInput("the victim gives NaN or infinite numbers: check its weights")
        self._goal.check(outputs)
        return outputs


def _check_pictures(pictures: Tensor) -> None:
    if pictures.dtype != torch.float32:
        raise BadInput(f"pictures of {pictures.dtype}: give float32 in [0, 1]")
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise BadInput(f"pictures of shape {tuple(pictures.shape)}: expected (n, 3, H, W)")
    # NaN fails both comparisons.
    good = ((pictures >= 0) & (pictures <= 1)).flatten(1).all(1)
    if not good.all():
        raise BadInput(f"picture {int((~good).nonzero()[0])} has NaN or pixels outside [0, 1]: scale it to [0, 1]")
