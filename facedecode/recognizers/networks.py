"""The recognizers' networks, each built from its weights file; `BUILDERS` has them by the name of the architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedecode.errors import BadInput, MissingWeights
from facedecode.recognizers.weights_file import Layout, load_into

# torchvision's numbers of the convolutions in `vgg16().features`, block by block.
_VGG = {
    (block, number): place
    for block, places in enumerate([(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)], 1)
    for number, place in enumerate(places, 1)
}
_VGG_FULL = {"fc6": "classifier.0", "fc7": "classifier.3"}


def _vgg(convolution: str, full: str = "{}") -> dict[str, str]:
    """VGG-16's layers, from what a port calls its convolutions (by block and number) and its full layers."""
    return {
        **{convolution.format(*key): f"features.{place}" for key, place in _VGG.items()},
        **{full.format(name): layer for name, layer in _VGG_FULL.items()},
    }


def _caffe_resnet() -> dict[str, str]:
    """ResNet-50's layers, from the names of its Caffe model as converters write them: `conv3_1_1x1_reduce_bn`, …."""
    parts = {"1x1_reduce": "1", "3x3": "2", "1x1_increase": "3"}
    layers = {"conv1_7x7_s2": "conv1", "conv1_7x7_s2_bn": "bn1"}
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            theirs, ours = f"conv{stage + 1}_{block + 1}_", f"layer{stage}.{block}."
            for part, number in parts.items():
                layers |= {f"{theirs}{part}": f"{ours}conv{number}", f"{theirs}{part}_bn": f"{ours}bn{number}"}
        theirs, ours = f"conv{stage + 1}_1_1x1_proj", f"layer{stage}.0.downsample"
        layers |= {theirs: f"{ours}.0", f"{theirs}_bn": f"{ours}.1"}
    return layers


TORCHVISION = Layout("torchvision")
# With the full layers, where only the convolutions are taken.
_VGG_CLASSIFIER = ("classifier", "fc", "fc6", "fc7", "fc8")
VGG16 = tuple(
    replace(layout, classifier=_VGG_CLASSIFIER)
    for layout in (
        TORCHVISION,
        # The group's own model, converted from MatConvNet, which takes RGB.
        Layout("vgg_face_dag (conv1_1, fc6)", _vgg("conv{}_{}")),
        # Ports of its Torch and Caffe models, which take BGR.
        Layout("Torch port (conv_1_1, fc6)", _vgg("conv_{}_{}"), turned_first="features.0.weight"),
        Layout(
            "Torch port (features.conv_1_1, fc.fc6)",
            _vgg("features.conv_{}_{}", "fc.{}"),
            turned_first="features.0.weight",
        ),
    )
)
# The group's own PyTorch files (converted from MatConvNet, as resnet50_ft_dag), which take RGB.
_CAFFE_RESNET = Layout("Caffe's (conv1_7x7_s2)", _caffe_resnet(), ("classifier",), turned_first="conv1.weight")
RESNET50 = (
    replace(
        TORCHVISION,
        uncounted="no counters of batch normalization, so another framework's weights, converted; VGGFace2's own "
        "models, and others of Caffe's, need --model resnet50-caffe: here they load, and give wrong templates",
    ),
    replace(
        _CAFFE_RESNET,
        refused="a ResNet-50 of Caffe's, where other layers have the strides than in torchvision's: use --model "
        "resnet50-caffe",
    ),
)


class MapsComplete(Exception):
    """Raised inside a network to stop it where all maps that were asked for are computed."""


WIDTHS = (16, 32, 64, 128)


class Block(nn.Module):
    """ArcFace's "improved residual unit" (Deng et al. 2019): BN-conv-BN-PReLU-conv-BN.

    (n, inputs, h, w) → (n, outputs, h / stride, w / stride). The first convolution has the stride, which halves its
    cost. The shortcut is the input itself where the shape stays, else a 1×1 convolution.
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

    A first convolution of stride 2, stages that halve the maps (the first does not), and ArcFace's output layer without
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


def _dlib_resnet(path: Path, content: bytes) -> nn.Module:
    from facedecode.recognizers.dlib_resnet import load_dlib_resnet

    return load_dlib_resnet(path, content)


def _dlib_resnet_pooled(path: Path, content: bytes) -> nn.Module:
    """Without the last linear layer: a template is the global average of the last block's 256 maps."""
    net = _dlib_resnet(path, content)
    net.fc = nn.Identity()
    return net


def _edgeface_xxs(path: Path, content: bytes) -> nn.Module:
    """EdgeFace-XXS (George et al. 2023) as timm's edgenext_xx_small with 512 outputs."""
    try:
        import timm
    except ImportError:
        raise MissingWeights("edgeface-xxs needs the package timm: pip install 'facedecode[edgeface]'") from None
    return load_into(timm.create_model("edgenext_xx_small", num_classes=512), path, content=content)


def _facenet(path: Path, content: bytes) -> nn.Module:
    """facenet-pytorch's InceptionResnetV1: 512 numbers of length 1. Also from a frozen graph of TensorFlow's."""
    from facenet_pytorch import InceptionResnetV1

    from facedecode.recognizers.facenet_graph import is_graph, load_graph

    with torch.device("meta"):
        net = InceptionResnetV1(pretrained=None, classify=False)
    if is_graph(content):
        return load_graph(net, path, content)
    return load_into(net, path, [Layout("facenet-pytorch", classifier=("logits",))], content)


def _vgg16(path: Path, content: bytes) -> nn.Module:
    """VGG-16 up to its last layer but one: 4096 numbers, fc7 after its ReLU (Caffe computes it in place)."""
    net = _new_vgg16()
    net.classifier = net.classifier[:6]
    return load_into(net, path, VGG16, content)


def _vgg16_pooled(path: Path, content: bytes) -> nn.Module:
    """VGG-16's convolutions: 512 numbers, the mean over places of the last maps, after their ReLU."""
    net = _new_vgg16()
    net.features, net.avgpool, net.classifier = net.features[:30], nn.AdaptiveAvgPool2d(1), nn.Identity()
    return load_into(net, path, VGG16, content)


def _resnet50(path: Path, content: bytes) -> nn.Module:
    """torchvision's ResNet-50 up to its pooling: 2048 numbers."""
    with torch.device("meta"):
        net = new_resnet50()
    return load_into(net, path, RESNET50, content)


def _resnet50_caffe(path: Path, content: bytes) -> nn.Module:
    """ResNet-50 as in Caffe (He et al. 2015): the first 1×1 convolution of a stage has the stride, not its first 3×3.

    The first pooling has no padding, and counts the places at the edge that its window only partly covers.
    """
    with torch.device("meta"):
        net = new_resnet50()
    net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return load_into(net, path, [TORCHVISION, _CAFFE_RESNET], content)


def _small_resnet(path: Path, content: bytes, **config: Any) -> nn.Module:
    """A `SmallResNet`. BadInput where there is none of this config."""
    try:
        net = SmallResNet(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path.parent}: the config of its card does not fit a small_resnet ({error})") from None
    return load_into(net, path, content=content)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "dlib_resnet": _dlib_resnet,
    "dlib_resnet_pooled": _dlib_resnet_pooled,
    "edgeface_xxs": _edgeface_xxs,
    "facenet": _facenet,
    "vgg16": _vgg16,
    "vgg16_pooled": _vgg16_pooled,
    "resnet50": _resnet50,
    "resnet50_caffe": _resnet50_caffe,
    "small_resnet": _small_resnet,
}
"""`RecognizerSpec.architecture` → what builds the network from a weights file's path (for messages) and content, and
the spec's `config`."""


def _new_vgg16() -> Any:
    from torchvision.models import vgg16

    with torch.device("meta"):
        net = vgg16(weights=None)
    for layer in net.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # a map that is kept as a feature must not be overwritten
    return net


def new_resnet50() -> Any:
    """torchvision's ResNet-50 up to its pooling, with random weights."""
    from torchvision.models import resnet50

    net = resnet50(weights=None)
    net.fc = nn.Identity()
    return net
