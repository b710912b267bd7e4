"""Builders: a weights file → the recognizer's network (channels-last, inference mode, frozen)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from facedecode.errors import BadInput, MissingWeights
from facedecode.recognizers import layouts
from facedecode.recognizers.weights_file import load_into


def dlib_resnet(path: Path) -> nn.Module:
    """dlib's face recognition ResNet from its .dat file."""
    from facedecode.recognizers.dlib_resnet import load_dlib_resnet

    return load_dlib_resnet(path)


def dlib_resnet_pooled(path: Path) -> nn.Module:
    """The same network without its last linear layer: templates are the global average of the last block's 256 maps."""
    net = dlib_resnet(path)
    net.fc = nn.Identity()
    return net


def edgeface_xxs(path: Path) -> nn.Module:
    """EdgeFace-XXS (George et al. 2023) as timm's edgenext_xx_small with 512 outputs."""
    try:
        import timm
    except ImportError:
        raise MissingWeights("edgeface-xxs needs the package timm: pip install 'facedecode[edgeface]'") from None
    return load_into(timm.create_model("edgenext_xx_small", num_classes=512), path)


def facenet(path: Path) -> nn.Module:
    """facenet-pytorch's InceptionResnetV1: 512 numbers of length 1, as that package gives them."""
    from facenet_pytorch import InceptionResnetV1

    with torch.device("meta"):
        net = InceptionResnetV1(pretrained=None, classify=False)
    return load_into(net, path, layouts.FACENET)


def vgg16(path: Path) -> nn.Module:
    """VGG-16 up to its last layer but one: 4096 numbers, fc7 after its ReLU (in place in Caffe: what is called fc7)."""
    net = _vgg16()
    net.classifier = net.classifier[:6]
    return load_into(net, path, layouts.VGG16)


def vgg16_pooled(path: Path) -> nn.Module:
    """VGG-16's convolutions: 512 numbers, the mean over places of the last one's maps, after its ReLU."""
    net = _vgg16()
    net.features, net.avgpool, net.classifier = net.features[:30], nn.AdaptiveAvgPool2d(1), nn.Identity()
    return load_into(net, path, layouts.VGG16)


def resnet50(path: Path) -> nn.Module:
    """torchvision's ResNet-50 up to its pooling: 2048 numbers."""
    return load_into(_resnet50(), path, layouts.RESNET50)


def resnet50_caffe(path: Path) -> nn.Module:
    """ResNet-50 as Caffe has it (He et al. 2015): a stage shrinks in its first 1×1, not in its first 3×3 convolution.

    The first pooling has no padding, and counts the places at the edge that its window only partly covers.
    """
    net = _resnet50()
    net.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return load_into(net, path, layouts.RESNET50_CAFFE)


def small_resnet(path: Path, **config: Any) -> nn.Module:
    """A `SmallResNet` of this config. BadInput where there is none of it."""
    from facedecode.recognizers.small_resnet import SmallResNet

    try:
        net = SmallResNet(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path.parent}: the config of its card does not fit a small_resnet ({error})") from None
    return load_into(net, path)


def _vgg16() -> nn.Module:
    from torchvision.models import vgg16

    with torch.device("meta"):
        net = vgg16(weights=None)
    for layer in net.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # a map that is kept as a feature must not be overwritten
    return net


def _resnet50() -> nn.Module:
    with torch.device("meta"):
        return new_resnet50()


def new_resnet50() -> nn.Module:
    """The network of `resnet50` with random weights."""
    from torchvision.models import resnet50

    net = resnet50(weights=None)
    net.fc = nn.Identity()
    return net
