"""The decoders by name."""

from __future__ import annotations

from torch import nn

from facedecode.decoders.closed_form import MeanFace, Nearest, Ridge
from facedecode.decoders.latent import LatentDecoder
from facedecode.decoders.nbnet import NbNet
from facedecode.decoders.network import DeepFaceDecoder

# Trained by gradients, all in one loop (`training.py`).
NETWORKS: dict[str, type[nn.Module]] = {"dfd": DeepFaceDecoder, "nbnet": NbNet}
CLOSED_FORMS: dict[str, type[nn.Module]] = {"mean-face": MeanFace, "nearest": Nearest, "ridge": Ridge}
KINDS: dict[str, type[nn.Module]] = {**NETWORKS, **CLOSED_FORMS, "latent": LatentDecoder}
