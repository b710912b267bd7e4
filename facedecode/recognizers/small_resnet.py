"""A residual network small enough to be trained on a processor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)


class Block(nn.Module):
    """The residual unit of ArcFace's networks (Deng et al. 2019, "improved residual unit"): BN-conv-BN-PReLU-conv-BN.

    (n, inputs, h, w) → (n, outputs, h / stride, w / stride). The stride is the first convolution's, which halves its
    cost; the shortcut is the input itself where nothing changes, else a 1×1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm2(self.conv1(self.norm1(x))))
        return self.norm3(self.conv2(y)) + self.shortcut(x)


class SmallResNet(nn.Module):
    """Normalized RGB (n, 3, S, S) float → templates (n, dim) float, not normalized.

    A first convolution of stride 2, stages that each halve the maps but the first, and ArcFace's output layer without
    its dropout: BN, a fully connected layer over all places, BN. `WIDTHS` with one block each: 0.6 million parameters.

    Args:
        size: S, a multiple of two to the number of stages.
        dim: length of a template.
        widths: channels of each stage. depths: blocks of each.
    """

    def __init__(self, size: int, dim: int, widths: Sequence[int], depths: Sequence[int]):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        stages, inputs = [], widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            strides = [2 if number else 1] + [1] * (depth - 1)
            stages.append(
                nn.Sequential(*(Block(width if k else inputs, width, stride) for k, stride in enumerate(strides)))
            )
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * (size // 2 ** len(widths)) ** 2, dim)
        self.out = nn.BatchNorm1d(dim, affine=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stages(self.stem(x)))
        return self.out(self.fc(x.flatten(1)))
