"""A training run that can be interrupted anywhere: of decoders and of recognizers.

Everything random at step t is drawn from a generator seeded with (seed, t), and the learning rate is a function
of t, so that network, optimizer moments, averaged weights and t are the whole state: a resumed run gives the same
bytes. Processes that train together each take a part of the same batch, and add up their gradients.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.errors import BadInput, OutputError
from facedecode.files import csv_text, write_text
from facedecode.progress import Progress, silent
from facedecode.ranks import Ranks
from facedecode.tensor_file import Kind
from facedecode.training.jobs import RunSettings

STATE = "state.safetensors"
_KIND = Kind("training state", "train", 1, {}, "use --overwrite to start anew")
_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def share_batch_norm(net: nn.Module, ranks: Ranks) -> None:
    """Make a network's batch normalizations take their statistics of the whole batch, in place.

    Parameters, buffers and their names stay as they are. torch's SyncBatchNorm does this on CUDA only.
    """
    if ranks.count == 1:
        return
    for name, module in net.named_children():
        if isinstance(module, BatchNorm):
            setattr(net, name, _SharedBatchNorm(module, ranks))
        else:
            share_batch_norm(module, ranks)


class _SharedBatchNorm(nn.Module):
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        self.eps, self.momentum, self.ranks = norm.eps, norm.momentum, ranks
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.affine = norm.affine
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, …) → the same, normalized."""
        weight, bias = (self.weight, self.bias) if self.affine else (None, None)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        normalized, mean, variance, count = _Normalize.apply(x, self.eps, self.ranks)
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
        if weight is None:
            return normalized.to(x.dtype)
        return (normalized * _channels(weight, x) + _channels(bias, x)).to(x.dtype)


class _Normalize(torch.autograd.Function):
    """x (n, channels, …) → (x − mean) / √(variance + eps) in float32, over all places and all processes' rows.

    Also returns mean, variance (biased) and count of the whole batch, which carry no gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = x.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # Sums of values as they are would cost digits; those of squares about the common mean do not.
        count = values.new_tensor([values.numel() / values.shape[1]])
        total = values.sum(axes)
        ranks.sum([total, count])
        mean = total / count
        centered = values - _channels(mean, x)
        squares = centered.square().sum(axes)
        ranks.sum([squares])
        variance = squares / count
        scale = (variance + eps).rsqrt()
        normalized = centered * _channels(scale, x)
        ctx.save_for_backward(normalized, scale, count)
        ctx.ranks, ctx.axes, ctx.dtype = ranks, axes, x.dtype
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normalized, scale, count = ctx.saved_tensors
        means = [gradient.sum(ctx.axes), (gradient * normalized).sum(ctx.axes)]
        ctx.ranks.sum(means)
        first, second = (_channels(total / count, gradient) for total in means)
        return ((gradient - first - normalized * second) * _channels(scale, gradient)).to(ctx.dtype), None, None


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


Settings = TypeVar("Settings", bound=RunSettings)
Net = TypeVar("Net", bound=nn.Module)


def count_steps(images: int, settings: RunSettings) -> int:
    """How many steps a run takes on so many images. Raises BadInput: too few images for one batch."""
    batches = images // settings.batch_size
    if not batches:
        raise BadInput(f"{images} training images do not fill one batch of {settings.batch_size}; lower it")
    return max(1, round(settings.epochs * batches))


class ResumableRun(ABC, Generic[Settings, Net]):
    """Network, optimizer, average of the weights, and step: the state of one training run.

    A subclass defines the loss of a step, and a point of the validation curve.

    net: what is trained. average: its state, averaged over the steps: the result.
    step, steps: done, and of the whole run. saved_step: of the state on disk.
    curve: the points of validation so far.
    """

    def __init__(
        self,
        net: Net,
        images: int,
        settings: Settings,
        folder: Path,
        fingerprint: str,
        device: torch.device,
        ranks: Ranks | None = None,
    ):
        """
        Args:
            images: their number. folder: gets the state and the curve.
            fingerprint: hash of data and settings; a state with another is refused.
            ranks: the processes that train together. The first alone reads and writes `folder`, and validates.

        Raises BadInput: too few images for one batch.
        """
        self.steps = count_steps(images, settings)
        self.batches = images // settings.batch_size
        self.images, self.settings, self.device = images, settings, device
        self.folder, self.fingerprint = folder, fingerprint
        self.step = self.saved_step = 0
        self.curve: list[dict] = []
        self.ranks = ranks or Ranks()
        self.net = net.to(device).to(memory_format=torch.channels_last).train()
        share_batch_norm(self.net, self.ranks)
        self.average = {name: t.clone() for name, t in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )

    def batch_loss(self) -> Tensor:
        """The loss of this step's batch, a scalar. A run that has its own `backward` needs none."""
        raise NotImplementedError

    def backward(self) -> Tensor:
        """Compute the gradients of this process's part of the step's batch; its part of the loss, a scalar."""
        loss = self.batch_loss()
        loss.backward()
        return loss.detach()

    @abstractmethod
    def validate(self) -> None:
        """Add a point to the curve, if there is anything to validate on."""

    def run(self, progress: Progress = silent) -> None:
        """Resume from a saved state, if there is one, and train to the end.

        Raises BadInput: the loss or the weights are no longer finite (the last saved state is kept); a damaged state.
        OutputError: `folder` holds the state of another run.
        """
        if self.ranks.first:
            self.resume()
        self.copy_from_first()
        progress(self.step, self.steps)
        while self.step < self.steps:
            loss = self.train_step()
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}")
            validating, saving = self._due(self.settings.validate_every), self._due(self.settings.save_every)
            # The update itself can break what a finite loss led to.
            if (validating or saving) and not self.finite():
                raise self._diverged("weights are not finite")
            if validating and self.ranks.first:
                self.validate()
            if saving and self.ranks.first:
                self.save()
            progress(self.step, self.steps, f"loss {loss:.4f}")

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.steps

    def _diverged(self, what: str) -> BadInput:
        kept = f"the state of step {self.saved_step} is kept" if self.saved_step else "no state was saved yet"
        return BadInput(
            f"{self.folder}: {what} at step {self.step}; {kept}: lower --learning-rate and start anew in another folder"
        )

    def rows(self) -> np.ndarray:
        """The rows of this step's batch: a new order each epoch."""
        epoch, batch = divmod(self.step, self.batches)
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(self.images)
        return order[batch * self.settings.batch_size :][: self.settings.batch_size]

    def learning_rate(self) -> float:
        """Linear warm-up over a tenth of the steps, then half a cosine down to zero."""
        warm = max(1, self.steps // 10)
        if self.step < warm:
            return self.settings.learning_rate * (self.step + 1) / warm
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (self.step - warm) / (self.steps - warm)))

    def autocast(self) -> torch.autocast:
        """Where the network runs in the settings' precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def generator(self) -> torch.Generator:
        """The random numbers of this step."""
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)

    def train_step(self) -> float:
        """One step; its loss, NaN where gradients are not finite: then nothing was changed."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward()
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        self.ranks.sum([loss, *gradients])
        value = loss.item()
        if not all(gradient.isfinite().all() for gradient in gradients):
            value = math.nan
        if math.isfinite(value):
            self.optimizer.step()
            self._update_average()
            self.step += 1
        return value

    def _update_average(self) -> None:
        # Young averages follow fast, so that the random start is forgotten.
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for name, tensor in self.net.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def finite(self) -> bool:
        """Whether all weights are numbers, the averaged ones too."""
        tensors = [*self.net.state_dict().values(), *self.average.values()]
        return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())

    def add_point(self, point: dict) -> None:
        """Add a point to the curve, and write it (`curve.csv`)."""
        self.curve.append(point)
        rows = ([earlier.get(name) for name in point] for earlier in self.curve)
        write_text(self.folder / "curve.csv", csv_text(point, rows))

    def copy_from_first(self) -> None:
        """Take the state of rank 0, which alone reads it; other machines could round in another way."""
        self.step, self.curve = self.ranks.from_first([self.step, self.curve])
        self.saved_step = self.step
        states = [self.optimizer.state[p] for p in self.net.parameters()] if self.step else []
        if not self.ranks.first:
            for state, p in zip(states, self.net.parameters(), strict=False):
                state.update(step=torch.tensor(float(self.step)), **{name: torch.zeros_like(p) for name in _MOMENTS})
        moments = [state[name] for state in states for name in _MOMENTS]
        weights = self.net.state_dict()
        # By name: a state that was read has another order than one that was made.
        self.ranks.copy_from_first([*weights.values(), *(self.average[name] for name in weights), *moments])

    def save(self) -> None:
        """Write the whole state in one file, atomically."""
        tensors = {f"net.{name}": t for name, t in self.net.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
        about = {"fingerprint": self.fingerprint, "step": self.step, "curve": self.curve}
        # `asarray` of a scalar stays one; a contiguous copy of it would have a dimension.
        arrays = {name: np.asarray(tensor.detach().cpu().contiguous()) for name, tensor in tensors.items()}
        _KIND.write(self.folder / STATE, about, arrays)
        self.saved_step = self.step

    def resume(self) -> None:
        """Load a saved state, if there is one. Raises as `run`."""
        path = self.folder / STATE
        if not path.exists():
            return
        about, arrays, _ = _KIND.read(path, None)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if about.get("fingerprint") != self.fingerprint:
            run = f"{self.folder} holds a run with other data or settings"
            raise OutputError(f"{run}; use --overwrite or another folder")

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t.to(self.device) for n, t in tensors.items() if n.startswith(prefix)}

        try:
            # The average is loaded, too, only to see that it is whole.
            self.net.load_state_dict(part("average."))
            self.average = part("average.")
            self.net.load_state_dict(part("net."))
            groups = self.optimizer.state_dict()["param_groups"]
            states = {i: part(f"optimizer.{i}.") for i in groups[0]["params"]}
            self.optimizer.load_state_dict({"state": {i: s for i, s in states.items() if s}, "param_groups": groups})
            self.step = self.saved_step = int(about["step"])
            self.curve = list(about["curve"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"{path}: a damaged training state ({reason}); use --overwrite to start anew") from None
