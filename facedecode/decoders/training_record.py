"""What the record of a training says of the networks that had a part in it. Reads JSON only."""

from __future__ import annotations

from typing import Any

from facedecode.recognizers.contract import custom_kind


def network_and_layers(phi: str) -> tuple[str, tuple[str, ...] | None]:
    """What `--phi` names: NAME, or NAME:LAYER+LAYER → the network's name, and the layers chosen (None: its own)."""
    kind = custom_kind(phi)  # torch:NAME has a colon of its own
    name, colon, layers = phi.removeprefix(kind).partition(":")
    return kind + name, tuple(dict.fromkeys(layers.split("+"))) if colon else None


def networks_looked_through(training: dict[str, Any], recognizer: str) -> set[str] | None:
    """Names of the networks whose gradients shaped a decoder; None where its record does not tell.

    Args:
        training: `Provenance.training`.
        recognizer: the name of the one whose templates the decoder takes (ξ).
    """
    if "looked_through" in training:
        return set(training["looked_through"])
    settings = training.get("settings", {})
    weights = settings.get("weights")
    if weights is None:
        return None
    # Of the runs before this one, a record without the field knows nothing; but while φ was always ξ, nobody could
    # look through anything else.
    if training.get("start") and "phi" in settings:
        return None
    own = {recognizer} if weights.get("identity") else set()
    if weights.get("perceptual") or weights.get("local_perceptual"):
        own |= {network_and_layers(phi)[0] for phi in settings.get("phi") or [recognizer]}
    if training.get("start") and not own:
        return None
    return own


def embedded_images(training: dict[str, Any]) -> bool:
    """Whether the recognizer was asked for templates of new pictures (mirrored ones): query access at least."""
    return bool(training.get("settings", {}).get("mirror"))
