"""Perceptual networks φ: the maps that Eq. 5 compares, and a perceptual distance between pictures.

φ is a recognizer, which looks at its own crop of the portrait, or a network that was trained on the objects of ImageNet
and looks at the whole portrait.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.decoders.training_record import network_and_layers
from facedecode.errors import MissingWeights, UsageError
from facedecode.perceptual.imagenet import CAFFE_SQUEEZENET, VGG16, PublishedWeights, load_features, new_features
from facedecode.perceptual.lpips import pair_distances
from facedecode.pictures import align
from facedecode.recognizers import REGISTRY, is_custom, load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import trained_folder

SQUEEZENET = "squeezenet"
VGG16_IMAGENET = "vgg16-imagenet"  # vgg16 is a recognizer, VGG-Face


@dataclass(frozen=True)
class ImageNetwork:
    """What a network of ImageNet's takes, and where its maps are.

    layers: numbers in torchvision's `features`, if the user chooses none.
    mean, std: of a channel; scale: of the pixels, from [0, 1]; bgr: the order of the channels.
    least_side: px; a smaller portrait is enlarged.
    """

    weights: PublishedWeights
    layers: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    bgr: bool = False
    least_side: int = 1


IMAGE_NETWORKS = {
    # The first convolution, then the last layer before each pooling, and one in the middle of the rest. On less than
    # 128 px the deepest maps have a handful of places.
    SQUEEZENET: ImageNetwork(
        CAFFE_SQUEEZENET, (1, 4, 7, 10), (104.0, 117.0, 123.0), scale=255.0, bgr=True, least_side=128
    ),
    # relu1_2, relu2_2 and relu3_3 (Johnson et al. 2016).
    VGG16_IMAGENET: ImageNetwork(VGG16, (3, 8, 15), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class PerceptualNetwork(ABC):
    """A network with internal maps to compare.

    name: of the recognizer, or a key of `IMAGE_NETWORKS`. weights_sha256: of its file. device: of the maps.
    layers: those that the user chose; None for the network's own choice.
    white_box: gradients flow from maps to pixels.
    recognizer: None for a network that makes no templates.
    """

    white_box = True
    recognizer: Recognizer | None = None
    layers: tuple[str, ...] | None = None

    name: str
    weights_sha256: str
    device: torch.device

    @abstractmethod
    def view(self, portraits: Tensor, jitter: Tensor | None = None) -> Tensor:
        """The part that φ looks at: portraits (n, 3, P, P) in [0, 1] → (n, 3, S, S) float RGB.

        jitter: (n, 2, 3) affine maps, as in `align.sample`.
        """

    @abstractmethod
    def maps(self, view: Tensor) -> list[Tensor]:
        """Internal maps (n, channels, height, width), from shallow to deep, for a view or a part of one."""

    @abstractmethod
    def region(self, side: int) -> tuple[float, ...]:
        """The central facial region (`align.LOCAL_REGION`) in a view of portraits of `side` px, in its pixels."""

    def local(self, view: Tensor, side: int) -> Tensor:
        """The central facial region of a view, at the view's scale: x_l of Eq. 2."""
        x1, y1, x2, y2 = (round(v) for v in self.region(side))
        return view[..., max(0, y1) : y2, max(0, x1) : x2]

    def describe(self) -> dict[str, str | list[str]]:
        """JSON: the network, with its layers where the user chose them."""
        chosen = {} if self.layers is None else {"layers": list(self.layers)}
        return {"name": self.name, "weights_sha256": self.weights_sha256, **chosen}


class RecognizerMaps(PerceptualNetwork):
    """A recognizer's internal maps, on its own crop."""

    def __init__(self, recognizer: Recognizer, layers: Sequence[str] | None = None):
        """layers: modules of its network; those of its spec if None.

        Raises UsageError: no such module, or one with an output that is no map (n, channels, height, width).
        """
        if layers is not None:
            self.layers = tuple(layers)
            recognizer = _with_layers(recognizer, self.layers)
        elif is_custom(recognizer.spec.name) and recognizer.spec.feature_layers:
            # Its contract may name layers that give no map.
            recognizer = _with_layers(recognizer, recognizer.spec.feature_layers)
        if not recognizer.spec.feature_layers:
            recognizer.layer_names()  # raises an error for a network that shows none
            raise UsageError(f"{recognizer.spec.name} names no layers for the perceptual term: choose another --phi")
        self.name, self.weights_sha256 = recognizer.spec.name, recognizer.weights_sha256
        self.recognizer, self.device = recognizer, recognizer.device
        self.white_box = recognizer.white_box

    def view(self, portraits: Tensor, jitter: Tensor | None = None) -> Tensor:
        return self.recognizer.crop_portraits(portraits, jitter)

    def maps(self, view: Tensor) -> list[Tensor]:
        return self.recognizer.features(view)

    def maps_and_template(self, view: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps of a whole view, and the template (n, dim) that the recognizer makes of it, in one pass."""
        template, maps = self.recognizer.embed_with_features(view)
        return maps, template

    def region(self, side: int) -> tuple[float, ...]:
        matrix = self.recognizer.spec.crop.matrix(align.portrait_face(side))
        corners = np.array(align.LOCAL_REGION).reshape(2, 2) * side
        return tuple((corners @ matrix[:, :2].T + matrix[:, 2]).ravel())


def _with_layers(recognizer: Recognizer, layers: tuple[str, ...]) -> Recognizer:
    """The same network, with other feature layers."""
    name, modules = recognizer.spec.name, recognizer.layer_names()
    for layer in layers:
        if layer not in modules:
            known = ", ".join(["…", *modules][-9:])
            raise UsageError(f"{name} has no layer {layer!r}: choose a module of its network ({known})")
    chosen = copy.copy(recognizer)
    chosen.spec = dataclasses.replace(recognizer.spec, feature_layers=layers)
    size = recognizer.spec.crop.size
    with torch.inference_mode():
        maps = chosen.features(torch.zeros(1, 3, size, size, device=recognizer.device))
    if len(maps) != len(layers) or any(each.ndim != 4 for each in maps):
        raise UsageError(f"{name}: {', '.join(layers)} give no maps (n, channels, height, width): choose others")
    return chosen


class ImageMaps(PerceptualNetwork):
    """The maps of a network of `IMAGE_NETWORKS`, on the whole portrait."""

    def __init__(self, name: str, weights: Path, device: str = "cpu", layers: Sequence[str] | None = None):
        """layers: numbers in torchvision's `features`; the network's own if None.

        Raises UsageError: no such layer. MissingWeights, BadInput: as `load_features`.
        """
        self.name, self.device, self._input = name, torch.device(device), IMAGE_NETWORKS[name]
        self._kept = self._input.layers
        if layers is not None:
            numbers = [str(k) for k in range(len(new_features(self._input.weights.builder)))]
            if wrong := [layer for layer in layers if layer not in numbers]:
                raise UsageError(f"{name} has no layer {wrong[0]!r}: choose from 0 to {numbers[-1]}")
            self.layers, self._kept = tuple(layers), tuple(map(int, layers))
        why = f"{name} takes pixels as those do; for a network of your own give torch:FILE"
        net, self.weights_sha256 = load_features(self._input.weights, weights, max(self._kept), why)
        for layer in net.modules():
            if isinstance(layer, torch.nn.ReLU):
                layer.inplace = False  # a map that is kept must not be overwritten
        self._net = net.to(device).to(memory_format=torch.channels_last)
        self._mean, self._std = (
            torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (self._input.mean, self._input.std)
        )

    def view(self, portraits: Tensor, jitter: Tensor | None = None) -> Tensor:
        least = self._input.least_side
        if portraits.shape[-1] < least:
            size = (least, least)
            portraits = F.interpolate(portraits, size, mode="bilinear", align_corners=False)
        if jitter is None:
            return portraits
        with torch.autocast(self.device.type, enabled=False):  # in bf16 a place is off by a third of a pixel
            grid = F.affine_grid(jitter, list(portraits.shape), align_corners=False)
            return F.grid_sample(portraits, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def maps(self, view: Tensor) -> list[Tensor]:
        pixels = (view.flip(1) if self._input.bgr else view) * self._input.scale
        x = ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        maps = []
        for i, layer in enumerate(self._net):
            x = layer(x)
            if i in self._kept:
                maps.append(x.float())
        return maps

    def region(self, side: int) -> tuple[float, ...]:
        return tuple(v * max(side, self._input.least_side) for v in align.LOCAL_REGION)


def load_phi(name: str, weights: Path | None = None, device: str = "cpu") -> PerceptualNetwork:
    """A perceptual network: of `IMAGE_NETWORKS`, or a recognizer; with layers of it, as NAME:LAYER+LAYER.

    Raises UsageError: no such network or layer, or a recognizer without feature layers. MissingWeights: no file, or it
    is not there. BadInput: the file holds other weights.
    """
    name, layers = network_and_layers(name)
    if name in IMAGE_NETWORKS:
        if weights is None:
            what = IMAGE_NETWORKS[name].weights.title
            raise MissingWeights(f"{name}: no weights file given; give {what} as {name}=FILE")
        return ImageMaps(name, weights, device, layers)
    if name not in REGISTRY and not is_custom(name) and not trained_folder(weights or name):
        known = ", ".join([*IMAGE_NETWORKS, *sorted(REGISTRY), "torch:FILE"])
        raise UsageError(f"no perceptual network is called {name!r}; known: {known}, or a trained one's folder")
    return RecognizerMaps(load_recognizer(name, weights, device), layers)


def phi_distance(
    network: PerceptualNetwork, pictures: np.ndarray, references: np.ndarray, batch_size: int = 32
) -> np.ndarray:
    """The perceptual distance of portraits from their references, both (n, P, P, 3) uint8 RGB: float64 (n,), in [0, 4].

    LPIPS without its calibrated weights (Zhang et al. 2018): at each place of each map, the squared distance of the
    channel vectors, each scaled to length 1; the mean over places, then over maps. Raises BadInput as `pair_distances`.
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        terms = [
            (F.normalize(a, eps=1e-6) - F.normalize(b, eps=1e-6)).square().sum(1).mean((1, 2))
            for a, b in zip(network.maps(network.view(x)), network.maps(network.view(y)), strict=True)
        ]
        return torch.stack(terms).mean(0)

    return pair_distances(distance, pictures, references, network.device, batch_size)
