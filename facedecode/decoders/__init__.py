"""Decoders (D): template → portrait. One interface and one checkpoint format for networks and closed forms."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from facedecode.decoders.kinds import KINDS

if TYPE_CHECKING:
    from facedecode.decoders.checkpoint import (
        Decoder,
        Provenance,
        find_decoder,
        load_decoder,
        load_decoder_for,
        optional_decoder,
        save_decoder,
    )

__all__ = [
    "KINDS",
    "Decoder",
    "Provenance",
    "find_decoder",
    "load_decoder",
    "load_decoder_for",
    "optional_decoder",
    "save_decoder",
]


def __getattr__(name: str) -> Any:
    """What needs torch, when it is asked for: the command line reads `KINDS` alone."""
    if name in __all__:
        return getattr(import_module("facedecode.decoders.checkpoint"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
