"""Which recognizer made templates: what a store, a decoder or a fitted file records of it. Free of torch."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from facedecode.errors import BadInput
from facedecode.files import json_text, sha256_of
from facedecode.records import Limit, Record, difference, has_text, plain

Score = Literal["cosine", "negative-euclidean", "negative-hamming"]
SCORE_RANGES: dict[str, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "negative-euclidean": (-math.inf, 0.0),
    "negative-hamming": (-1.0, 0.0),
}
"""The least and the greatest number that each score can be."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 200


def is_sha256(text: str) -> bool:
    """Whether a text is a SHA-256 in hex, as this package writes it."""
    return bool(_SHA256.fullmatch(text))


def is_name(text: str) -> bool:
    """Whether a text can name a recognizer, a decoder or a scheme: printable, and no path or part of one."""
    plain = text.isprintable() and text == text.strip() and not set(text) & set("/\\")
    return plain and 0 < len(text) <= _LONGEST_NAME and not text.startswith(".")


def impossible_threshold(threshold: float, score: str) -> str | None:
    """Why a threshold is none for a score of this kind, and which may be meant, for a message; None where it is one."""
    least, greatest = SCORE_RANGES[score]
    if least <= threshold <= greatest:
        return None
    said = f"threshold {threshold:g}: "
    if not math.isfinite(threshold):
        return f"{said}not a threshold; give a finite score"
    if score != "cosine":
        meant = f"did you mean {-threshold:g}?" if least <= -threshold <= greatest else "give a score of this range"
        bounds = "" if math.isinf(least) else f"{least:g} to {greatest:g}, "
        return f"{said}scores are negative distances, {bounds}higher is more alike: {meant}"
    said += "scores are cosines, -1 to 1, higher is more alike"
    if 1.01 < threshold <= 2:  # no rounding of 1
        return f"{said}; of templates of length 1, this distance is the cosine {1 - threshold**2 / 2:.3g}: give that"
    return (
        f"{said}: did you mean {threshold / 100:g}?" if 2 < threshold <= 100 else f"{said}: give a score of this range"
    )


Name = Annotated[str, Limit(is_name, "a name (printable, without / and \\)")]
Sha256 = Annotated[str, Limit(is_sha256, "a SHA-256")]
_LONGEST_TEMPLATE = 1 << 20
Dim = Annotated[int, Limit(lambda n: 1 <= n <= _LONGEST_TEMPLATE, f"from 1 to {_LONGEST_TEMPLATE}")]
_LARGEST_CROP = 4096
CropSize = Annotated[int, Limit(lambda n: 1 <= n <= _LARGEST_CROP, f"from 1 to {_LARGEST_CROP}")]


@dataclass(frozen=True)
class RecognizerId(Record):
    """A recognizer's identity: its name, the hash of its weights, and all that decides a template.

    name: the registered name; the folder's of one that was trained here; `onnx:NAME`, `torch:NAME` of a user's own
        model; `given:NAME` where only templates are known; `NAME+SCHEME@KEY` of protected templates.
    weights_sha256: of the weights file; None where that is not known.
    dim: length of a template.
    score: how templates compare.
    license: of the weights.
    crop: how a face is cut out of an image. input_size: of the crop, pixels.
    channel_order, normalization: of the network's input.
    training_people: whom one that was trained here was trained on, those held out among them; of a user's own model,
        whom its contract names.
    contract: of a user's own model, see `contract.Contract`. layers, threshold: of the same. contract_sha256: see
        `contract_checksum`; None also in what earlier versions wrote.
    protection: of protected templates, `Scheme.describe()` or more. unprotected: the recognizer before that.
    further: fields that another version wrote.
    """

    name: Name
    weights_sha256: Sha256 | None
    dim: Dim | None = None
    score: Score | None = None
    license: str | None = None
    crop: dict[str, Any] | None = None
    input_size: CropSize | None = None
    channel_order: Literal["RGB", "BGR", "gray"] | None = None
    normalization: dict[str, Any] | None = None
    training_people: tuple[str, ...] = ()
    contract: dict[str, Any] | None = None
    contract_sha256: Sha256 | None = None
    layers: tuple[str, ...] = ()
    threshold: float | None = None
    protection: Annotated[dict[str, Any], has_text("scheme", "key_id")] | None = None
    unprotected: RecognizerId | None = None
    further: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """For messages: the name and the start of the weights' hash."""
        return f"{self.name} (weights sha256 {self.weights_sha256[:12] if self.weights_sha256 else 'unknown'})"

    def require_dim(self, dim: int, what: str) -> None:
        """Refuse something fitted for templates of another length. Raises BadInput; what: "a map"."""
        if self.dim not in (None, dim):
            raise BadInput(
                f"{what} of {dim} numbers cannot be for templates of {self.dim}, as {self.name} makes; fit it again"
            )


def contract_checksum(contract: dict[str, Any]) -> str:
    """The SHA-256 of a recorded contract as canonical JSON: two contracts of the same weights are two recognizers."""
    return sha256_of(json_text(plain(contract)).encode())


def require_same_recognizer(templates: RecognizerId, other: RecognizerId, what: str) -> None:
    """Refuse templates of one recognizer where something was made for another.

    Args:
        templates: the recognizer that made the templates.
        other: the recognizer of the decoder, mapping ….
        what: how to call that thing in the message, e.g. "the decoder decoder/".

    Raises BadInput: their names, the hashes of their weights, or how they take pictures differ; where one of them does
    not record something of the latter, that is not compared.
    """
    if (templates.name, templates.weights_sha256) != (other.name, other.weights_sha256):
        raise BadInput(f"{what} is for {other}, and the templates come from {templates}; use both of one recognizer")
    for made, wanted in ((templates.contract, other.contract), (_input(templates), _input(other))):
        if made and wanted and (differs := difference(made, wanted)):
            raise BadInput(
                f"{what} takes pictures otherwise than the recognizer of the templates did ({differs}); make both of "
                "one recognizer, extract the images again"
            )


def _input(recognizer: RecognizerId) -> dict[str, Any] | None:
    """How a recognizer takes pictures, as JSON; None where that is not recorded."""
    settings = {"crop": recognizer.crop, "size": recognizer.input_size, "normalization": recognizer.normalization}
    settings["channel order"] = recognizer.channel_order
    return None if None in settings.values() else json.loads(json.dumps(settings))
