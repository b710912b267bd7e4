"""White-box refinement: move a decoder's input until the template of its picture meets the one to be inverted.

Adam on ‖ξ(V(D(e'))) - e‖² + λ‖e' - e‖² over e', in units of the distance of e from the mean template: D is the decoder,
ξ the recognizer, e the template. Only the decoder's input moves, so that the picture stays a face. V is a small random
view, new in each step (similarity, blur, loss of color): a picture that is only recognized on one sampling grid or in
one tint gains nothing (expectation over transformations, Athalye et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.decoders import Decoder
from facedecode.errors import BadInput, UsageError
from facedecode.pictures.images import to_pictures
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.statistics.scores import score_pairs
from facedecode.training.losses import identity_loss, random_jitter

_CONSTANT = ("mean-face", "nearest")  # their pictures do not follow small changes of the input
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BLUR = 1 / 64  # of the portrait's side: standard deviation of the blurred view
_BATCH = 16  # pictures at once


@dataclass(frozen=True)
class RefineSettings:
    """How to refine; the defaults were chosen on people held out of training (docs/refinement.md).

    rate: Adam's step, as a share of the template's distance from the mean template, over √dim.
    penalty: λ. jitter: strength of the random similarities (`losses.random_jitter`).
    blur, gray: largest share of a blurred, of a gray copy that is mixed in; each view draws its own share.
    """

    rate: float = 0.15
    penalty: float = 0.3
    jitter: float = 0.5
    blur: float = 0.5
    gray: float = 0.25


@dataclass(frozen=True)
class Refined:
    """Refined pictures.

    pictures: (n, P, P, 3) uint8 RGB portraits.
    before, after: (n,) float32, the scores of the first and of the refined 8-bit picture against the template.
    inputs: (n, dim) float32, the decoder's inputs: the template itself where nothing scored better.
    """

    pictures: np.ndarray
    before: np.ndarray
    after: np.ndarray
    inputs: np.ndarray


def require_refinable(decoder: Decoder, recognizer: Recognizer) -> None:
    """Raise UsageError: a black-box recognizer, or a decoder with pictures that do not follow its input."""
    if not recognizer.white_box:
        raise UsageError(f"{recognizer.spec.name} is black-box: no gradients to refine by; invert without --refine")
    if decoder.kind in _CONSTANT:
        raise UsageError(f"a {decoder.kind} decoder cannot be refined; use a dfd or ridge decoder, or omit --refine")


def refine(
    templates: np.ndarray,
    decoder: Decoder,
    recognizer: Recognizer,
    steps: int,
    settings: RefineSettings | None = None,
    *,
    seed: int = 0,
    batch_size: int = _BATCH,
    progress: Progress = silent,
) -> Refined:
    """Draw the faces of templates, each by the best of the inputs in `steps` steps.

    Every picture is scored as it would be saved, in 8 bits, and the best is kept. Randomness comes from (seed, row) for
    each template, so that a result depends on neither the batch nor the number of templates, up to rounding.

    Args:
        templates: (n, dim) float32, raw, of the decoder's recognizer.
        steps: at least 1.
        progress: called with (done, total), in steps of single pictures.

    Raises UsageError: fewer than one step, or as `require_refinable`. BadInput: templates of another length or
    recognizer, or a gradient that is not finite.
    """
    if steps < 1:
        raise UsageError(f"{steps} steps of refinement: give at least 1")
    require_refinable(decoder, recognizer)
    decoder.require_recognizer(recognizer.describe(), "the recognizer to refine by")
    settings = settings or RefineSettings()
    parts = []
    for start in range(0, len(templates), batch_size):
        batch = np.ascontiguousarray(templates[start : start + batch_size])

        def done(step: int, start: int = start, count: int = len(batch)) -> None:
            progress(start * steps + count * step, len(templates) * steps)

        views = _Views.draw(settings, range(start, start + len(batch)), steps, seed)
        parts.append(_refine_batch(batch, decoder, recognizer, steps, settings, views, done))
    return Refined(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Refined)))


@dataclass(frozen=True)
class _Views:
    """Random views for rows, one a step: similarities (b, steps, 2, 3); shares of blur and gray, (b, steps)."""

    jitter: Tensor
    blur: Tensor
    gray: Tensor

    @classmethod
    def draw(cls, settings: RefineSettings, rows: range, steps: int, seed: int) -> _Views:
        """Each row's views from (seed, row) alone."""
        drawn = []
        for row in rows:
            state = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(state))
            jitter = random_jitter(steps, generator, settings.jitter)
            blur, gray = torch.rand(2, steps, generator=generator)
            drawn.append((jitter, settings.blur * blur, settings.gray * gray))
        return cls(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def degrade(self, portraits: Tensor, step: int) -> Tensor:
        """Portraits (b, 3, P, P) with a share of a blurred and of a gray copy mixed in."""
        blur, gray = (share[:, step].to(portraits).view(-1, 1, 1, 1) for share in (self.blur, self.gray))
        mixed = torch.lerp(portraits, _blurred(portraits), blur)
        luma = torch.einsum("nchw,c->nhw", mixed, torch.tensor(_LUMA).to(mixed))[:, None]
        return torch.lerp(mixed, luma.expand_as(mixed), gray)


def _refine_batch(
    batch: np.ndarray,
    decoder: Decoder,
    recognizer: Recognizer,
    steps: int,
    settings: RefineSettings,
    views: _Views,
    done: Callable[[int], None],
) -> Refined:
    """One batch, (b, dim) float32."""
    score = recognizer.spec.score
    pictures, inputs = decoder.decode(batch, checked=True), batch.copy()
    before = score_pairs(embed_pictures(recognizer, pictures), batch, score)
    after = before.copy()
    start = torch.from_numpy(batch).to(decoder.device)
    # Where the decoder knows no mean template (ridge), the distance is that from zero.
    mean = getattr(decoder.net, "template_mean", torch.zeros_like(start[0]))
    radius = (start - mean).norm(dim=1, keepdim=True).clamp_min(torch.finfo(start.dtype).tiny)
    move = torch.zeros_like(start, requires_grad=True)  # in units of the radius
    optimizer = torch.optim.Adam([move], settings.rate / start.shape[1] ** 0.5)
    for step in range(steps + 1):
        at = start + radius * move
        with torch.set_grad_enabled(step < steps):
            drawn = decoder(at)
        if step:
            rounded = to_pictures(drawn)
            scores = score_pairs(embed_pictures(recognizer, rounded), batch, score)
            better = scores > after
            pictures[better], after[better] = rounded[better], scores[better]
            inputs[better] = at.detach().cpu().numpy()[better]
        done(step)
        if step == steps:
            break
        embedded = recognizer.embed_portraits(views.degrade(drawn, step), views.jitter[:, step].to(drawn))
        # Sums over rows, not means: a row does not depend on its neighbors.
        loss = len(batch) * identity_loss(embedded / radius, start / radius, score)
        loss = loss + settings.penalty * move.square().sum()
        optimizer.zero_grad()
        loss.backward()
        if not move.grad.isfinite().all():
            raise BadInput("refinement met a gradient that is not finite; invert without --refine")
        optimizer.step()
    return Refined(pictures, before, after, inputs)


def _blurred(x: Tensor) -> Tensor:
    """Gaussian blur of portraits (b, 3, P, P), the border repeated."""
    sigma = _BLUR * x.shape[-1]
    reach = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(x) / sigma).square())
    taps = (taps / taps.sum()).expand(3, 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach,) * 4, mode="replicate"), taps, groups=3)
    return F.conv2d(x, taps.transpose(2, 3), groups=3)
