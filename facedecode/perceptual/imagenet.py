"""Convolutional networks of torchvision's that were trained on ImageNet, with published weights, known by their values.

Many networks have the same layers: weights of another training fit in, and give numbers that mean something else.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facedecode.errors import BadInput, MissingWeights
from facedecode.files import read_file, sha256_of
from facedecode.recognizers.weights_file import Layout, load_into

_LPIPS_PARTS = range(7)  # at most: slices of its trunk, linear layers


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of `features`, the convolutional part of a network of torchvision's.

    title: for messages. builder: of the network, in `torchvision.models`.
    file: torchvision's name for its file, which ends in the first eight hex digits of its SHA-256; empty without one.
    sha256: of the values (`values_sha256`) of the layers up to number `verified`; empty where they are not known.
    """

    title: str
    builder: str
    file: str = ""
    sha256: str = ""
    verified: int = -1


ALEXNET = PublishedWeights(
    "torchvision's AlexNet",
    "alexnet",
    "alexnet-owt-7be5be79.pth",
    "195266a4c8e96483085621ac3389a6c24f1dd0963c9ac0e001705d24ece83273",
    11,
)
VGG16 = PublishedWeights(
    "torchvision's VGG-16",
    "vgg16",
    "vgg16-397923af.pth",
    "4eb9752e64dc2049d8cc61460c2288f7a44e556e3316789c9a0bcbff35abdfa1",
    15,
)
SQUEEZENET = PublishedWeights("torchvision's SqueezeNet 1.1", "squeezenet1_1", "squeezenet1_1-b8a52dc0.pth")
CAFFE_SQUEEZENET = PublishedWeights(
    "SqueezeNet 1.1's Caffe weights in torchvision's layout",
    "squeezenet1_1",
    sha256="aa55494ff8fcee0d65613ec73a7f69e5e721feb2b3d6c867ad861a4e9c7cf1ca",
    verified=12,
)


def new_features(builder: str) -> nn.Sequential:
    """The convolutional part of a network of torchvision's, without weights (on torch's device `meta`)."""
    from torchvision import models

    with torch.device("meta"):
        return getattr(models, builder)(weights=None).features


def load_features(weights: PublishedWeights, path: Path, last: int, why: str) -> tuple[nn.Sequential, str]:
    """`features` up to layer number `last`, and the SHA-256 of the file.

    The file may be the whole network's or that of `features`, in torch's or the safetensors format. What lies deeper is
    not needed, nor is a classifier.

    why: the reason, for the message, that no other weights can be used.

    Raises MissingWeights: no such file. BadInput: as `load_into`; other weights, or some that cannot be verified.
    """
    if not path.is_file():
        raise MissingWeights(f"{path}: no such file; give {weights.title}{f' ({weights.file})' * bool(weights.file)}")
    content = read_file(path)
    whole = new_features(weights.builder)
    features = whole[: max(last, weights.verified) + 1]
    net = nn.Sequential(OrderedDict(features=features))
    deeper = tuple(f"features.{k}" for k in range(len(features), len(whole)))
    load_into(net, path, _layouts(weights, net, ("classifier", *deeper)), content)
    file_sha256 = sha256_of(content)
    published = weights.file.removesuffix(".pth").rpartition("-")[2]
    by_file = bool(published) and file_sha256.startswith(published)
    found = values_sha256({name: each for name, each in net.state_dict().items() if _layer(name) <= weights.verified})
    if not by_file and last > weights.verified:
        known = f" beyond layer {weights.verified}" if weights.verified >= 0 else ""
        raise BadInput(
            f"{path}: not torchvision's {weights.file} (its sha256 begins with {file_sha256[:8]}); {why}, and a "
            f"converted file cannot be verified{known}"
        )
    if not by_file and found != weights.sha256:
        raise BadInput(
            f"{path}: other weights than {weights.title} (sha256 of their values: {found[:8]}, not "
            f"{weights.sha256[:8]}); {why}"
        )
    return features[: last + 1].eval().requires_grad_(False), file_sha256


def values_sha256(tensors: dict[str, Tensor]) -> str:
    """A hash of tensors that does not depend on the format of their file: names, shapes, float32, little-endian."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _layer(name: str) -> int:
    """`features.3.squeeze.weight`: 3."""
    return int(name.split(".")[1])


def _layouts(weights: PublishedWeights, net: nn.Module, beside: tuple[str, ...]) -> list[Layout]:
    """The layouts that a file may have: torchvision's; and LPIPS's own, a trunk in slices, or linear layers alone."""
    layers = [name.rpartition(".")[0] for name in net.state_dict() if name.endswith(".weight")]
    slices = {f"slice{k + 1}.{name.partition('.')[2]}": name for k in _LPIPS_PARTS for name in layers}
    heads = {f"lin{k}.model.1": name for k, name in zip(_LPIPS_PARTS, layers, strict=False)}
    lpips = ("lins", "scaling_layer", *(f"lin{k}" for k in _LPIPS_PARTS))
    linear = "holds the linear layers of LPIPS, which the lpips package has; give the network under them"
    return [
        Layout(weights.title, classifier=beside),
        Layout("LPIPS's model", slices, lpips),
        Layout("LPIPS's linear layers", heads, refused=f"{linear}, {weights.title}"),
    ]
