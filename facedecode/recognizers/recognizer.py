"""The one interface of all recognizers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facedecode.errors import BadInput
from facedecode.files import read_file, sha256_of
from facedecode.identity import RecognizerId
from facedecode.pictures import align
from facedecode.pictures.faces import Face
from facedecode.pictures.images import to_tensor
from facedecode.recognizers.cache import require_recorded
from facedecode.recognizers.networks import BUILDERS, MapsComplete
from facedecode.recognizers.spec import RecognizerSpec

# Crops that a CPU is given at once when it makes templates: with more, each takes longer.
_CPU_SLICE = 16


class Recognizer:
    """A face recognizer with its weights.

    spec: its contract. weights: their file. weights_sha256: of that file.
    white_box: gradients flow from templates to pixels.
    """

    white_box = True

    def __init__(self, spec: RecognizerSpec, weights: Path, device: str = "cpu", precision: str = "fp32"):
        self.spec = spec
        self.weights = weights
        content = read_file(weights)
        self.weights_sha256 = sha256_of(content)
        if (expected := spec.expected_sha256(weights)) and self.weights_sha256 != expected:
            raise BadInput(
                f"{weights}: not the known weights of {spec.name} (sha256 {self.weights_sha256[:12]}…, "
                f"expected {expected[:12]}…)"
            )
        require_recorded(weights, self.weights_sha256)
        self.device = torch.device(device)
        self.precision = precision
        net = BUILDERS[spec.architecture](weights, content, **spec.config)
        self.net: Any = net.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self._mean = self._channels(spec.mean)
        self._scale: Any = spec.scale

    @property
    def name(self) -> str:
        """The registered name."""
        return self.spec.name

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, px, of the part of its crop that it sees: the middle, of a model of one's own."""
        return self.spec.crop.size, self.spec.crop.size

    def __repr__(self) -> str:
        return f"Recognizer({self.name}, {self.spec.dim} numbers, score {self.spec.score}, on {self.device})"

    def crop(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Cut a face out of an image, (H, W, 3) uint8 RGB → (S, S, 3) uint8 RGB, as this recognizer wants it."""
        return align.crop(image, face, self.spec.crop)

    def embed(self, crops: Tensor) -> Tensor:
        """Templates of crops: (n, 3, S, S) float RGB in [0, 1] → (n, dim) float32, raw. Differentiable.

        Raises BadInput: the crops have another size.
        """
        size = self.spec.crop.size
        if crops.ndim != 4 or crops.shape[1:] != (3, size, size):
            raise BadInput(f"{self.spec.name} takes crops (n, 3, {size}, {size}), not {tuple(crops.shape)}")
        return self._run(crops)

    def features(self, crops: Tensor) -> list[Tensor]:
        """The maps of the spec's `feature_layers`, (n, channels, height, width), shallow to deep. Differentiable.

        `crops` are RGB in [0, 1] of any size that the layers can take: the network is not run beyond the last of them.
        """
        maps: list[Tensor] = []
        with self._keeping(maps, only=True), suppress(MapsComplete):
            self._run(crops)
        return maps

    def layer_names(self) -> tuple[str, ...]:
        """Modules of the network that can be feature layers. Raises UsageError where it shows none."""
        return tuple(name for name, _ in self.net.named_modules() if name)

    def embed_with_features(self, crops: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The results of `embed` and `features` in one pass."""
        maps: list[Tensor] = []
        with self._keeping(maps):
            return self.embed(crops), maps

    @contextmanager
    def _keeping(self, maps: list[Tensor], only: bool = False) -> Iterator[None]:
        """Fill `maps` from the feature layers while the network runs; with `only`, stop it at the last."""
        layers = [self.net.get_submodule(name) for name in self.spec.feature_layers]

        def keep(layer: nn.Module, inputs: object, output: Tensor) -> None:
            maps.append(output.float())
            if only and len(maps) == len(layers):
                raise MapsComplete

        hooks = [layer.register_forward_hook(keep) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _run(self, crops: Tensor) -> Tensor:
        with self._autocast():
            return self.net(self._normalized(crops).contiguous(memory_format=torch.channels_last)).float()

    def _normalized(self, crops: Tensor) -> Tensor:
        if self.spec.channel_order == "BGR":
            crops = crops.flip(1)
        return (crops * 255 - self._mean) / self._scale

    def _channels(self, values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, device=self.device).view(1, 3, 1, 1)

    def _autocast(self) -> torch.autocast:
        # A caller that computes in bf16 (training) takes the network along.
        half = self.precision == "bf16" or torch.is_autocast_enabled(self.device.type)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def embed_crops(self, crops: np.ndarray) -> np.ndarray:
        """Templates of uint8 crops: (n, S, S, 3) → (n, dim) float32, without gradients."""
        with torch.inference_mode():
            step = _CPU_SLICE if self.device.type == "cpu" else max(1, len(crops))
            parts = [crops[start : start + step] for start in range(0, max(1, len(crops)), step)]
            templates = [self.embed(to_tensor(part, self.device)) for part in parts]
            return torch.cat(templates).cpu().numpy()

    def crop_portraits(self, portraits: Tensor, jitter: Tensor | None = None) -> Tensor:
        """The recognizer's crops, (n, 3, S, S), of portraits (n, 3, P, P) float RGB in [0, 1]. Differentiable.

        jitter: (n, 2, 3) further affine maps in normalized crop coordinates ([-1, 1]).
        """
        with torch.autocast(self.device.type, enabled=False):  # in bf16 a place is off by a third of a pixel
            matrix = self.spec.crop.matrix(align.portrait_face(portraits.shape[-1]))
            return align.sample(portraits, matrix, self.spec.crop.size, jitter)

    def embed_portraits(self, portraits: Tensor, jitter: Tensor | None = None) -> Tensor:
        """Templates of portraits (see `crop_portraits`) → (n, dim) float32. Differentiable."""
        return self.embed(self.crop_portraits(portraits, jitter))

    def describe(self) -> RecognizerId:
        """What a store, a decoder or a fitted file records of the recognizer: the same for the same weights."""
        return self.spec.describe(self.weights_sha256)


def embed_pictures(recognizer: Recognizer, pictures: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Templates of portraits: (n, P, P, 3) uint8 RGB → (n, dim) float32. No detection: the frame says where to look."""
    templates = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            batch = to_tensor(pictures[start : start + batch_size], recognizer.device)
            templates.append(recognizer.embed_portraits(batch).cpu().numpy())
    return np.concatenate(templates)


class DistinctEmbedder:
    """`embed_pictures` that embeds equal pictures once: all pictures of a mean-face decoder are equal."""

    def __init__(self, recognizer: Recognizer):
        self.recognizer = recognizer
        self._templates: dict[bytes, np.ndarray] = {}  # by the picture's SHA-256

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Templates of portraits: (n, P, P, 3) uint8 RGB → (n, dim) float32."""
        digests = [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]
        new = {digest: row for row, digest in enumerate(digests) if digest not in self._templates}
        if new:
            self._templates |= zip(new, embed_pictures(self.recognizer, pictures[list(new.values())]), strict=True)
        return np.stack([self._templates[digest] for digest in digests])
