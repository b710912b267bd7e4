"""The Deep Face Decoder's network: an inverted VGG."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facedecode.decoders.base import TrainedNetwork
from facedecode.decoders.closed_form import Ridge


class DeepFaceDecoder(TrainedNetwork):
    """Template → portrait by a fully connected stem and stages that mirror VGG-16's (paper, section 3.3).

    VGG-16 read backwards: a fully connected layer gives a small map of many channels; each stage doubles the map
    and runs two 3×3 convolutions with batch normalization and ReLU. Two departures from a plain mirror:

    - maps grow by bilinear interpolation followed by a convolution. Transposed convolutions and un-pooling leave
      a grid in the picture (Odena et al. 2016);
    - the coarse picture (`coarse` × `coarse` pixels, 0 switches it off) is ridge regression, the best linear
      decoder, fitted once and kept fixed; the convolutions learn what no linear map can draw. (Trained along, it
      takes up the identity term's gradient as colored noise.)

    dim, image_size, widths: as of `TrainedNetwork`.
    coarse: side of the affine picture, or 0.
    """

    CHANNELS = (512, 256, 128, 64, 32, 16)
    coarse_weight: Tensor
    coarse_bias: Tensor

    def __init__(self, dim: int, image_size: int = 128, widths: Sequence[int] | None = None, coarse: int = 32):
        super().__init__(dim, image_size, widths)
        self.config["coarse"] = coarse
        widths = self.config["widths"]
        self.stem = nn.Linear(dim, widths[0] * self.base**2)
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv(inputs, outputs), *_conv(outputs, outputs)) for inputs, outputs in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("coarse_weight", torch.zeros(3 * coarse**2, dim))
        self.register_buffer("coarse_bias", torch.full((3 * coarse**2,), 0.5))

    @torch.no_grad()
    def prepare(self, templates: Tensor, portraits: Tensor) -> None:
        """As `TrainedNetwork.prepare`; the coarse picture is ridge regression."""
        super().prepare(templates, portraits)
        side = self.config["coarse"]
        if not side:
            return
        chunks = portraits.tensor_split(max(1, len(portraits) // 512))
        small = torch.cat([F.interpolate(chunk.float(), (side, side), mode="area") for chunk in chunks])
        ridge = Ridge(templates.shape[1], side).fit(templates, small.round().byte())
        self.coarse_weight.copy_(ridge.weight * self.template_scale)
        self.coarse_bias.copy_(ridge.bias + ridge.weight @ self.template_mean)

    def for_drawing(self) -> DeepFaceDecoder:
        """A copy: each batch normalization is part of the convolution before it."""
        net = copy.deepcopy(self).eval()
        for stage in cast(Any, net.stages):
            for at in (0, 3):
                stage[at], stage[at + 1] = fuse_conv_bn_eval(stage[at], stage[at + 1]), nn.Identity()
        return net

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) float templates → (n, 3, image_size, image_size) RGB, not yet clipped to [0, 1]."""
        e = self.standardized(templates)
        x = F.relu(self.stem(e)).view(len(e), -1, self.base, self.base)
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        x = self.head(x)
        side = self.config["coarse"]
        if not side:
            return x + 0.5
        coarse = F.linear(e, self.coarse_weight, self.coarse_bias).view(len(e), 3, side, side)
        return x + F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=False)


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
