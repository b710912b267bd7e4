"""Face recognizers (ξ): one registry, one interface.

`load_recognizer("dlib-resnet")` gives a `Recognizer`; `REGISTRY` lists what there is without importing torch.
`load_described(store.recognizer)` gives the one that made a store, a decoder or a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedecode.errors import MissingWeights, UsageError
from facedecode.identity import RecognizerId
from facedecode.recognizers.contract import GIVEN, is_own
from facedecode.recognizers.registry import find_spec_by_name, find_weights
from facedecode.recognizers.spec import DEFAULT_RECOGNIZER, REGISTRY, RecognizerSpec

if TYPE_CHECKING:
    from pathlib import Path

    from facedecode.recognizers.recognizer import Recognizer

__all__ = [
    "DEFAULT_RECOGNIZER",
    "REGISTRY",
    "RecognizerSpec",
    "find_spec_by_name",
    "find_weights",
    "is_own",
    "load_described",
    "load_recognizer",
]


def load_recognizer(
    name: str = DEFAULT_RECOGNIZER,
    weights: Path | str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    contract: Path | RecognizerId | None = None,
) -> Recognizer:
    """Load a recognizer by its registered name, by the folder that it was trained into, or a user's own model.

    Args:
        name: a key of `REGISTRY`; a folder, or the name of a trained recognizer whose folder `weights` is; `onnx:FILE`
            or `torch:FILE` (see `own.load_own`).
        weights: the weights file; where the recognizer's spec says if None.
        device: a torch device.
        precision: `fp32`, or `bf16` (autocast; recorded in everything made with it).
        contract: of a user's own model.

    Raises:
        UsageError: no recognizer has that name (the known ones are listed); a contract for a registered one.
        MissingWeights: the weights file, or a package that it needs, is missing.
        BadInput: the weights file is damaged or another model's; a folder's card cannot be read.
    """
    if is_own(name) and "@" not in name:
        from facedecode.recognizers.custom import load_own

        return load_own(name, weights, device, precision, contract)
    if name.startswith(GIVEN):
        raise MissingWeights(
            f"{name}: nothing but its templates is here; a network learns from them by --identity-weight 0 --no-mirror "
            "--phi with another network, or --perceptual-weight 0"
        )
    if contract is not None:
        raise UsageError(f"--spec is the contract of a model of your own (onnx:FILE, torch:FILE); {name} has one")
    from facedecode.recognizers.recognizer import Recognizer

    spec = find_spec_by_name(name, weights)
    return Recognizer(spec, find_weights(spec, weights), device=device, precision=precision)


def load_described(
    described: RecognizerId, weights: Path | str | None = None, device: str = "cpu", precision: str = "fp32"
) -> Recognizer:
    """The recognizer that a manifest, or the record of a decoder or a map, describes.

    Args:
        described: what `Recognizer.describe` gave. A user's own model is rebuilt from it and its file.
        weights, device, precision: as in `load_recognizer`, which says what is raised, too.
    """
    name = described.name
    return load_recognizer(name, weights, device, precision, described if is_own(name) else None)
