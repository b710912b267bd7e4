"""How a decoder came to be: the record of its training, as `decoder.json` keeps it. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from facedecode.decoders.plausibility import ReadStatistics
from facedecode.identity import Name, Sha256
from facedecode.recognizers.contract import custom_kind
from facedecode.records import Count, Record


@dataclass(frozen=True)
class UsedNetwork(Record):
    """A perceptual network φ that a training looked through."""

    name: Name
    weights_sha256: Sha256 | None = None
    further: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedSettings(Record):
    """The settings of a training that say what it took: see `training.jobs.TrainSettings` for all of them."""

    phi: tuple[str, ...] | None = None
    weights: dict[str, float] | None = None
    mirror: bool | None = None
    gain: float | None = None
    further: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRecord(Record):
    """What a decoder was made of. None: that is not recorded.

    fingerprint: of all that decides the decoder. start: of the one that it went on from.
    store: fingerprint of the store of its templates. transform: the perturbation of their faces.
    templates: what they look like. images: their count.
    people: their names, and whom it knows in another way: `known_otherwise`.
    validation: share of the people held out of this training; held_out: of all that led to this decoder.
    settings: of the run. phi: the networks of its perceptual terms.
    looked_through: names of the networks whose gradients shaped it, in this run or an earlier one.
    curve: figures of the people held out, as the training went on. figures: of a fit at once.
    further: whatever else is recorded: device, steps, ….
    """

    fingerprint: str | None = None
    start: str | None = None
    store: str | None = None
    transform: str | None = None
    templates: ReadStatistics | None = None
    images: Count | None = None
    people: tuple[str, ...] | None = None
    known_otherwise: tuple[str, ...] = ()
    validation: float | None = None
    held_out: float | None = None
    settings: RecordedSettings = field(default_factory=RecordedSettings)
    phi: tuple[UsedNetwork, ...] = ()
    looked_through: tuple[str, ...] | None = None
    curve: tuple[dict[str, Any], ...] = ()
    figures: dict[str, Any] | None = None
    further: dict[str, Any] = field(default_factory=dict)

    def networks_looked_through(self, recognizer: str) -> set[str] | None:
        """Names of the networks whose gradients shaped the decoder; None where the record does not tell.

        recognizer: the name of the one whose templates the decoder takes (ξ).
        """
        if self.looked_through is not None:
            return set(self.looked_through)
        weights, phi = self.settings.weights, self.settings.phi
        # Of the runs before this one, a record without the field knows nothing; but while φ was always ξ, nobody could
        # look through anything else.
        if weights is None or (self.start and phi is not None):
            return None
        names = {recognizer} if weights.get("identity") else set()
        if weights.get("perceptual") or weights.get("local_perceptual"):
            names |= {network_and_layers(each)[0] for each in phi or [recognizer]}
        return None if self.start and not names else names

    @property
    def embedded_images(self) -> bool:
        """Whether the recognizer was asked for templates of new pictures (mirrored ones): query access at least."""
        return bool(self.settings.mirror)


def network_and_layers(phi: str) -> tuple[str, tuple[str, ...] | None]:
    """What `--phi` names: NAME, or NAME:LAYER+LAYER → the network's name, and the layers chosen (None: its own)."""
    kind = custom_kind(phi)  # torch:NAME has a colon of its own
    name, colon, layers = phi.removeprefix(kind).partition(":")
    return kind + name, tuple(dict.fromkeys(layers.split("+"))) if colon else None
