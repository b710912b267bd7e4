"""dlib's face recognition ResNet, read from its own weights file and rebuilt in PyTorch.

Source: Davis King, `dnn_face_recognition_ex.cpp` and the file `dlib_face_recognition_resnet_model_v1.dat` (public
domain). The file has `affine` layers in place of batch normalization; here they are part of the convolutions before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.errors import BadInput

WIDTHS = [32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256]
DOWN = {3, 7, 10, 13}


class Block(nn.Module):
    """Two 3×3 convolutions and a skip; a `down` block halves the maps and pads the smaller branch with zeros."""

    def __init__(self, inputs: int, outputs: int, down: bool):
        super().__init__()
        self.down = down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if down else 1, 0 if down else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # In place where the value belongs to this block: these layers cost memory traffic, not arithmetic.
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        if self.down:
            x = F.avg_pool2d(x, 2, 2)
            height, width = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
            x, y = (
                F.pad(t, (0, width - t.shape[3], 0, height - t.shape[2], 0, y.shape[1] - t.shape[1])) for t in (x, y)
            )
        return F.relu(y.add_(x), inplace=True)


class DlibResNet(nn.Module):
    """29-layer network: normalized RGB (n, 3, 150, 150) float → templates (n, 128), not normalized."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 7, 2)
        self.blocks = nn.Sequential(
            *(
                Block(inputs, outputs, i in DOWN)
                for i, (inputs, outputs) in enumerate(zip([32, *WIDTHS[:-1]], WIDTHS, strict=True))
            )
        )
        self.fc = nn.Linear(256, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x), inplace=True)
        x = self.blocks(F.max_pool2d(x, 3, 2))
        return self.fc(x.mean((2, 3)))


class _Reader:
    """The parts of dlib's serialization format that this file uses."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data = path, data
        self.at = 0

    def take(self, count: int) -> bytes:
        chunk = self.data[self.at : self.at + count]
        if len(chunk) != count:
            raise BadInput(f"{self.path}: ends early; it is not dlib's complete face recognition model")
        self.at += count
        return chunk

    def integer(self) -> int:
        head = self.take(1)[0]
        value = int.from_bytes(self.take(head & 0x0F), "little")
        return -value if head & 0x80 else value

    def seek(self, tag: bytes) -> None:
        """Move behind the next string `tag`, a layer's name."""
        record = bytes([1, len(tag)]) + tag
        place = self.data.find(record, self.at)
        if place < 0:
            raise BadInput(f"{self.path}: no {tag.decode()!r} layer where one is expected; not dlib's face model")
        self.at = place + len(record)

    def tensor(self, size: int) -> Tensor:
        """The next tensor, of `size` floats, flat."""
        # The layer's settings stand before its tensor, which begins with the version 2 and four dimensions.
        start = self.at
        for at in range(start, min(start + 200, len(self.data))):
            if self.data[at : at + 2] != b"\x01\x02":
                continue
            self.at = at
            try:
                version, *shape = (self.integer() for _ in range(5))
            except BadInput:
                continue
            if version == 2 and int(np.prod(shape)) == size:
                return torch.from_numpy(np.frombuffer(self.take(4 * size), "<f4").copy())
        raise BadInput(f"{self.path}: no tensor of {size} numbers where one is expected; not dlib's face model")


def load_dlib_resnet(path: Path, content: bytes) -> DlibResNet:
    """The network with the weights of dlib's `dlib_face_recognition_resnet_model_v1.dat`, whose content it is.

    The file lists layers from input to output: each `con_4` has filters, then biases, each `affine_` gamma, then beta,
    and `fc_2` an inputs × outputs matrix. Raises BadInput: the file is truncated or another model.
    """
    reader = _Reader(path, content)
    net = DlibResNet()

    def conv(layer: Any) -> None:
        reader.seek(b"con_4")
        filters = reader.tensor(layer.weight.numel() + layer.bias.numel()).double()
        reader.seek(b"affine_")
        gamma, beta = reader.tensor(2 * layer.bias.numel()).double().chunk(2)
        weight, bias = filters[: layer.weight.numel()], filters[layer.weight.numel() :]
        layer.weight.copy_(weight.view_as(layer.weight) * gamma.view(-1, 1, 1, 1))
        layer.bias.copy_(bias * gamma + beta)

    with torch.no_grad():
        conv(net.conv)
        for block in net.blocks:
            conv(block.conv1)
            conv(block.conv2)
        reader.seek(b"fc_2")
        net.fc.weight.copy_(reader.tensor(net.fc.weight.numel()).view(256, 128).T)
    return net
