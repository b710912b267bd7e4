"""A decoder through somebody's generator: template → latent → picture (Dong et al. 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.decoders.base import DecoderNetwork
from facedecode.decoders.kinds import require_image_size
from facedecode.errors import BadInput
from facedecode.files import sha256_of
from facedecode.pictures import align
from facedecode.recognizers.custom_runtime import Program, load_program
from facedecode.recognizers.model_file import read_model_file


class Generator(TypedDict):
    """What a decoder's description says of its generator; JSON.

    file: its name in the decoder's folder. sha256: of that file. latent: numbers that it takes. side: of its pictures,
    px. range: the values of its pictures that are black and white.
    """

    file: str
    sha256: str
    latent: int
    side: int
    range: tuple[float, float]


class LatentDecoder(DecoderNetwork):
    """Draws a template by a generator: an affine regression gives the latent, and one similarity the portrait.

    The generator is a program of its own file, no part of this module's tensors: `open_files` before drawing.

    Args:
        dim: length of a template.
        image_size: 64, 128 or 224, pixels.
        generator: see `Generator`.
    """

    weight: Tensor
    bias: Tensor
    frame: Tensor

    def __init__(self, dim: int, image_size: int, generator: Generator):
        super().__init__()
        require_image_size(image_size)
        if missing := sorted(Generator.__required_keys__ - generator.keys()):
            raise ValueError(f"its generator lacks {', '.join(missing)}")
        self.config = {"dim": dim, "image_size": image_size, "generator": dict(generator)}
        self.image_size = image_size
        self.register_buffer("weight", torch.zeros(generator["latent"], dim))
        self.register_buffer("bias", torch.zeros(generator["latent"]))
        # From the generator's pictures to portraits of `image_size`, pixels.
        self.register_buffer("frame", torch.zeros(2, 3))
        self._program: Program | None = None

    def open_files(self, folder: Path, device: str = "cpu") -> None:
        """Load the generator from a decoder's folder.

        Raises MissingWeights: its file is not there. BadInput: another file, or one that cannot be loaded.
        """
        path = folder / Path(self.config["generator"]["file"]).name
        data = read_model_file(path)
        if sha256_of(data) != self.config["generator"]["sha256"]:
            raise BadInput(f"{path}: not the generator that this decoder was made for (another sha256)")
        self._program = load_program(path, device, data)

    def latents(self, templates: Tensor) -> Tensor:
        """(n, dim) raw templates → (n, latent)."""
        return F.linear(templates, self.weight, self.bias)

    def forward(self, templates: Tensor) -> Tensor:
        """(n, dim) → (n, 3, image_size, image_size) RGB in [0, 1]; black beyond the generator's picture."""
        if self._program is None:
            raise RuntimeError("the generator is not open")
        pictures = brought_to_unit(self._program(self.latents(templates)).float(), self.config["generator"]["range"])
        return align.sample(pictures, self.frame.double().cpu().numpy(), self.image_size)


def brought_to_unit(pictures: Tensor, values: tuple[float, float]) -> Tensor:
    """A generator's pictures (n, 3, S, S) float with `values`, black and white, brought to [0, 1] and cut there."""
    low, high = values
    return ((pictures - low) / (high - low)).clamp(0, 1)


def mean_frame(landmarks: np.ndarray, image_size: int) -> np.ndarray:
    """The similarity (2, 3) that brings the median landmarks (n, 5, 2) of pictures onto those of portraits."""
    points = np.median(landmarks, axis=0).astype(np.float32)
    box = np.concatenate([points.min(0), points.max(0)])
    return align.portrait_crop(image_size).matrix(align.Face(box, points, 1.0))
