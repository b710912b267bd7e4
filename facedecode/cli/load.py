"""The decoder that draws a command's templates, and the recognizer that scores its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.console import Console
from facedecode.errors import MissingWeights, UsageError

if TYPE_CHECKING:  # these need torch
    from facedecode.decoders import Decoder
    from facedecode.identity import RecognizerId
    from facedecode.inversion.invert import TemplateInput
    from facedecode.recognizers.recognizer import Recognizer


def read_given(
    path: Path,
    model: str | None,
    weights: Path | None,
    spec: Path | None,
    images: Path | None,
    device: str,
    need_images: bool = False,
) -> tuple[TemplateInput, Path | None]:
    """Templates to draw (see `read_inputs`), and their recognizer's file: that of --model where it is a user's own."""
    from facedecode.inversion.invert import read_inputs
    from facedecode.recognizers import is_own, load_recognizer
    from facedecode.recognizers.registry import trained_folder

    own = None
    if model is not None and is_own(model):
        recognizer = load_recognizer(model, weights, device, contract=spec)
        own, weights = recognizer.describe(), recognizer.weights
    elif spec is not None:
        raise UsageError("--spec goes with --model torch:FILE or onnx:FILE; a store's manifest has its recognizer's")
    elif model is not None and weights is None:
        weights = trained_folder(model)
    return read_inputs(path, model, images, need_images, own), weights


@dataclass(frozen=True)
class Drawing:
    """A decoder, where it lies, and its recognizer; None where that one's weights are not at hand."""

    decoder: Decoder
    folder: Path
    recognizer: Recognizer | None


def open_drawing(
    console: Console,
    given: TemplateInput,
    decoder: str | None,
    weights: Path | None,
    device: str,
    need_recognizer: bool = False,
) -> Drawing:
    """The decoder of that name or folder, or the one shipped for the recognizer of what is given.

    Raises:
        BadInput: it is for templates of another recognizer.
        MissingWeights: the recognizer's are not found where `weights` says, or anywhere although it is needed;
            otherwise that is said.
    """
    from facedecode.decoders import find_decoder, load_decoder
    from facedecode.files import SHIPPED
    from facedecode.recognizers import load_described
    from facedecode.store import require_same_recognizer

    name = given.recognizer.name
    if decoder is None and not (SHIPPED / name / "decoder.json").is_file():
        raise MissingWeights(
            f"no decoder comes with facedecode for templates of {name}: train one by 'facedecode train STORE -o "
            "decoder', and name it by --decoder"
        )
    folder = find_decoder(decoder or SHIPPED / name)
    drawer = load_decoder(folder, device)
    given.require(drawer, f"the decoder {decoder or 'shipped with facedecode'}")
    try:
        recognizer = load_described(drawer.recognizer, weights, device)
        require_same_recognizer(drawer.recognizer, recognizer.describe(), "the recognizer that scores")
    except (MissingWeights, UsageError) as error:  # the second of the name of one that was trained
        if weights is not None or need_recognizer:
            raise
        console.say(f"no scores: {error}")
        recognizer = None
    return Drawing(drawer, folder, recognizer)


def optional_decoder(
    console: Console, name: str | None, recognizer: RecognizerId, device: str, without: str
) -> tuple[Decoder | None, Path | None]:
    """As `decoders.checkpoint.optional_decoder`; the console says why there is none."""
    from facedecode.decoders import checkpoint

    return checkpoint.optional_decoder(name, recognizer, device, without, console.say)
