"""The decoders by name."""

from __future__ import annotations

from torch import nn

from facedecode.decoders.closed_form import MeanFace, Nearest, Ridge
from facedecode.decoders.latent import LatentDecoder
from facedecode.decoders.nbnet import NbNet
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.errors import UsageError

# Trained by gradients, all in one loop (`training/decoder_run.py`).
NETWORKS: dict[str, type[nn.Module]] = {"dfd": DeepFaceDecoder, "nbnet": NbNet}
CLOSED_FORMS: dict[str, type[nn.Module]] = {"mean-face": MeanFace, "nearest": Nearest, "ridge": Ridge}
KINDS: dict[str, type[nn.Module]] = {**NETWORKS, **CLOSED_FORMS, "latent": LatentDecoder}


def require_kind(name: str) -> None:
    """Refuse a name that no decoder has. Raises UsageError; the known names are listed."""
    if name not in KINDS:
        raise UsageError(f"no decoder is called {name!r}; known: {', '.join(KINDS)}")
