"""Builders: a weights file → the recognizer's network (channels-last, inference mode, frozen)."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from facedecode.errors import BadInput, MissingWeights


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
    return load_safetensors(timm.create_model("edgenext_xx_small", num_classes=512), path)


def load_safetensors(net: nn.Module, path: Path) -> nn.Module:
    """`net` with the tensors of a safetensors file; BadInput where they are not exactly its own."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a readable safetensors file ({error})") from None
    expected = net.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    wrong = [k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape]
    if missing or extra or wrong:
        named = "; ".join(
            f"{len(keys)} {word} ({', '.join(sorted(keys)[:3])}{', …' if len(keys) > 3 else ''})"
            for word, keys in [("missing", missing), ("unexpected", extra), ("of another shape", wrong)]
            if keys
        )
        raise BadInput(f"{path}: not these weights: tensors {named}")
    net.load_state_dict(tensors)
    return net
