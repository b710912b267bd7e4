"""Batch normalization over a batch that several processes hold parts of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facedecode.ranks import Ranks


def share_batch_norm(net: nn.Module, ranks: Ranks) -> nn.Module:
    """Make a network's batch normalizations take their statistics of the whole batch, in place.

    Parameters, buffers and their names stay as they are. torch's SyncBatchNorm does this on CUDA only.
    """
    if ranks.count == 1:
        return net
    for name, module in net.named_children():
        if isinstance(module, _BatchNorm):
            setattr(net, name, _SharedBatchNorm(module, ranks))
        else:
            share_batch_norm(module, ranks)
    return net


class _SharedBatchNorm(_BatchNorm):
    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.ranks = ranks
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # any (n, channels, …)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        normalized, mean, variance, count = _Normalize.apply(x, self.eps, self.ranks)
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
        if self.weight is None:
            return normalized.to(x.dtype)
        return (normalized * _channels(self.weight, x) + _channels(self.bias, x)).to(x.dtype)


class _Normalize(torch.autograd.Function):
    """x (n, channels, …) → (x − mean) / √(variance + eps) in float32, over all places and all processes' rows.

    Also returns mean, variance (biased) and count of the whole batch, which carry no gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = x.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # Sums of values as they are would cost digits; those of squares about the common mean do not.
        count = own.new_tensor([own.numel() / own.shape[1]])
        total = own.sum(axes)
        ranks.sum([total, count])
        mean = total / count
        centered = own - _channels(mean, x)
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
