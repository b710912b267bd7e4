"""Face recognizers (ξ): one registry, one interface.

`load_recognizer("dlib-resnet")` gives a `Recognizer`; `REGISTRY` lists what there is without importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedecode.recognizers.spec import DEFAULT_RECOGNIZER, REGISTRY, RecognizerSpec, find_spec_by_name, find_weights

if TYPE_CHECKING:
    from pathlib import Path

    from facedecode.recognizers.recognizer import Recognizer

__all__ = [
    "DEFAULT_RECOGNIZER",
    "REGISTRY",
    "RecognizerSpec",
    "find_spec_by_name",
    "find_weights",
    "load_recognizer",
]


def load_recognizer(
    name: str = DEFAULT_RECOGNIZER, weights: Path | str | None = None, device: str = "cpu", precision: str = "fp32"
) -> Recognizer:
    """Load a recognizer by its registered name.

    Args:
        name: a key of `REGISTRY`.
        weights: the weights file; where the recognizer's spec says if None.
        device: a torch device.
        precision: `fp32`, or `bf16` (autocast; recorded in everything made with it).

    Raises:
        UsageError: no recognizer has that name (the known ones are listed).
        MissingWeights: the weights file, or a package that it needs, is missing.
        BadInput: the weights file is damaged or another model's.
    """
    from facedecode.recognizers.recognizer import Recognizer

    spec = find_spec_by_name(name)
    return Recognizer(spec, find_weights(spec, weights), device=device, precision=precision)
