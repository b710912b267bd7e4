"""NbNet, the rival of Mai et al. 2019: a decoder of neighborly de-convolution blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from facedecode.decoders.base import TrainedNetwork

GROWTH = 8  # channels that each convolution of a block adds


class NeighborlyBlock(nn.Module):
    """Convolutions that each add a few channels to a map, each seeing the map and all channels added before it.

    The block of NbNet-B: batch normalization, ReLU and a 3×3 convolution without bias, as in a DenseNet.
    (n, channels, h, w) → (n, channels + layers · growth, h, w).
    """

    def __init__(self, channels: int, layers: int, growth: int = GROWTH):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth, eps=1e-4),
                nn.ReLU(),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class NbNet(TrainedNetwork):
    """Template → portrait by neighborly de-convolution blocks: NbNet-B of Mai et al. 2019 (IEEE TPAMI 41:5).

    De-convolutions that make many channels at once make noisy repetitions of a few. Here a de-convolution makes
    half of a block's channels, and convolutions make the rest one after the other (`NeighborlyBlock`). As in the
    graph that its authors published: a first de-convolution spreads the template over a small map, then come blocks,
    each but the last followed by a 4×4 de-convolution of stride 2, and a 1×1 convolution and tanh that draw RGB.

    Theirs draws 160 px from a 5×5 map. The sizes here are the project's, from the maps of `DeepFaceDecoder`: 4×4 for
    128 px and 7×7 for 224 px with their six blocks, and 64 px with the first five of them.

    dim, image_size: as of `TrainedNetwork`.
    widths: channels with which each block begins, multiples of 8; it ends with twice as many.
    """

    CHANNELS = (256, 128, 64, 32, 16, 8)
    MULTIPLE = GROWTH

    def __init__(self, dim: int, image_size: int = 128, widths: Sequence[int] | None = None):
        super().__init__(dim, image_size, widths)
        widths = self.config["widths"]
        # Of a map of one pixel: a linear layer, written as it was published.
        self.stem = nn.ConvTranspose2d(dim, widths[0], self.base, bias=False)
        self.blocks = nn.ModuleList(NeighborlyBlock(width, width // GROWTH) for width in widths)
        self.growths = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(2 * inputs, eps=1e-4),
                nn.ReLU(),
                nn.ConvTranspose2d(2 * inputs, outputs, 4, stride=2, padding=1, bias=False),
            )
            for inputs, outputs in pairwise(widths)
        )
        self.head = nn.Sequential(
            nn.BatchNorm2d(2 * widths[-1], eps=1e-4), nn.ReLU(), nn.Conv2d(2 * widths[-1], 3, 1, bias=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) float templates → (n, 3, image_size, image_size) RGB in [0, 1]."""
        x = self.stem(self.standardized(templates)[:, :, None, None]).contiguous(memory_format=torch.channels_last)
        x = self.blocks[0](x)
        for growth, block in zip(self.growths, self.blocks[1:], strict=True):
            x = block(growth(x))
        return (torch.tanh(self.head(x)) + 1) / 2
