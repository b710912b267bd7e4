"""A decoder's checkpoint: `decoder.safetensors` and the plain JSON that rebuilds the module, `decoder.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from facedecode import files
from facedecode.decoders.base import DecoderNetwork
from facedecode.decoders.kinds import KINDS
from facedecode.decoders.own_templates import shipped_statistics
from facedecode.decoders.plausibility import Judged, check_templates
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.files import find_decoder, make_folder, read_file, sha256_of, write_bytes, write_json
from facedecode.identity import Dim, Name, RecognizerId, Sha256
from facedecode.known_pictures import FILE, Known, KnownPictures
from facedecode.pictures.align import PORTRAIT_POINTS
from facedecode.pictures.images import to_pictures
from facedecode.progress import Progress, silent
from facedecode.recognizers.weights_file import load_into
from facedecode.records import Limit, Migration, Record, migrated, read_json
from facedecode.store import Processing, require_same_recognizer

FORMAT_VERSION = 2
# In version 1, nothing told that the tensors had changed.
MIGRATIONS: dict[int, Migration] = {1: lambda card: card | {"sha256": None}}


_LARGEST_ENTRY, _LARGEST_FRAME = 1 << 12, 1 << 20  # bytes beside the tensors: of each, and of the file


@dataclass(frozen=True)
class Provenance(Record):
    """What a decoder was made for and from.

    recognizer: the one whose templates it takes.
    normalized: it takes L2-normalized templates rather than raw ones.
    training: of which run it came.
    """

    recognizer: RecognizerId
    normalized: bool = False
    training: TrainingRecord = field(default_factory=TrainingRecord)


@dataclass(frozen=True)
class _Frame(Record):
    kind: Literal["portrait"]
    points: tuple[tuple[float, float], ...]


_FRAME = _Frame("portrait", PORTRAIT_POINTS)


def _up_to(most: int, least: int = 1) -> Limit:
    return Limit(lambda n: least <= n <= most, f"from {least} to {most}")


_Width = Annotated[int, _up_to(1 << 13)]
_Side = Annotated[int, _up_to(1 << 12)]
_Count = Annotated[int, _up_to(1 << 24)]


@dataclass(frozen=True)
class _GeneratorCard(Record):
    """What `latent.Generator` has."""

    file: Name
    sha256: str
    latent: Dim
    side: _Side
    range: Annotated[tuple[float, float], Limit(lambda ends: ends[0] < ends[1], "two numbers, the lower one first")]


@dataclass(frozen=True)
class _Config(Record):
    """The arguments of a network of any kind, none larger than a network of ours has."""

    dim: Dim
    image_size: _Side
    widths: tuple[_Width, ...] | None = None
    coarse: Annotated[int, _up_to(1 << 12, least=0)] | None = None
    penalty: float | None = None
    count: _Count | None = None
    score: str | None = None
    generator: _GeneratorCard | None = None
    further: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Card(Provenance):
    """`decoder.json`.

    sha256: of `decoder.safetensors`; None in version 1. known_pictures: of that file; None where there is none.
    """

    REMEDY: ClassVar[str] = "train it again"

    kind: str
    config: _Config
    frame: _Frame
    sha256: Sha256 | None = None
    known_pictures: Sha256 | None = None


class Decoder:
    """A trained decoder with its provenance.

    folder: where it was loaded from, if it was. sha256: of its tensors' file there. known_pictures: of that file there.
    """

    def __init__(
        self,
        kind: str,
        net: DecoderNetwork,
        provenance: Provenance,
        device: str = "cpu",
        folder: Path | None = None,
        sha256: str | None = None,
        known_pictures: str | None = None,
    ):
        self.kind, self.folder, self.sha256, self._known_pictures = kind, folder, sha256, known_pictures
        self.device = torch.device(device)
        self.net = net.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self._drawing = net.for_drawing().to(memory_format=torch.channels_last)
        self.provenance = provenance
        self.recognizer = provenance.recognizer
        self.dim = net.config["dim"]
        self.image_size = net.image_size

    def __repr__(self) -> str:
        return (
            f"Decoder({self.kind}, {self.image_size} px, of templates of {self.dim} numbers by {self.recognizer.name})"
        )

    @cached_property
    def known(self) -> Known:
        """The people and pictures of all that led to it. Raises BadInput: as `KnownPictures.read`."""
        pictures = None
        if self.folder is not None and self._known_pictures is not None:
            pictures = KnownPictures.read(self.folder / FILE, self._known_pictures)
        return Known(self.provenance.training.people or (), pictures)

    def __call__(self, templates: Tensor) -> Tensor:
        """Draw templates: (n, dim) float, raw, on the decoder's device → (n, 3, P, P) RGB in [0, 1]."""
        if self.provenance.normalized:
            templates = nn.functional.normalize(templates)
        return self._drawing(templates).clamp(0, 1)

    def check(self, templates: np.ndarray, where: object = None, done: Processing | None = None) -> Judged:
        """Look at templates (n, dim) float, raw, before they are drawn, and warn of those that are none of its own.

        where: the templates' file, for messages. done: what was done to them, see `check_templates`.

        Raises BadInput: templates of another length; as `check_templates`, which warns, too.
        """
        self._require_shape(templates)
        statistics = self.provenance.training.templates or shipped_statistics(self.recognizer)
        normalizes = self.provenance.normalized
        return check_templates([templates], self.recognizer, statistics, where=where, done=done, any_length=normalizes)

    def decode(
        self, templates: np.ndarray, batch_size: int = 64, progress: Progress = silent, *, checked: bool = False
    ) -> np.ndarray:
        """Draw templates: (n, dim) float32, raw → portraits (n, P, P, 3) uint8 RGB, rounded.

        progress: called with (done, total) pictures. checked: `check` has seen them.

        Raises BadInput as `check`.
        """
        if checked:
            self._require_shape(templates)
        else:
            self.check(templates)
        pictures = np.empty((len(templates), self.image_size, self.image_size, 3), np.uint8)
        progress(0, len(templates))
        with torch.inference_mode():
            for start in range(0, len(templates), batch_size):
                rows = torch.from_numpy(templates[start : start + batch_size]).to(self.device)
                pictures[start : start + len(rows)] = to_pictures(self(rows))
                progress(start + len(rows), len(templates))
        return pictures

    def _require_shape(self, templates: np.ndarray) -> None:
        if templates.ndim != 2 or templates.shape[1] != self.dim:
            raise BadInput(
                f"this decoder ({self.recognizer.name}) takes templates of {self.dim} numbers, "
                f"not an array of shape {templates.shape}"
            )

    def looked_through(self, network: str, weights_sha256: str | None = None) -> bool | None:
        """Whether gradients of the network of this name shaped this decoder; None if its record does not tell.

        weights_sha256: of its weights; what goes by another name and has the same (another layer's output, as
        `dlib-resnet-pooled` is) counts as that network.
        """
        if KINDS[self.kind].fitting == "closed form":
            return False
        training = self.provenance.training
        names = training.networks_looked_through(self.recognizer.name)
        if names is None:
            return None
        known = [(self.recognizer.name, self.recognizer.weights_sha256)]
        known += [(phi.name, phi.weights_sha256) for phi in training.phi]
        same = (name for name, sha256 in known if weights_sha256 is not None and sha256 == weights_sha256)
        return not names.isdisjoint({network, *same})

    def require_recognizer(self, recognizer: RecognizerId, what: str) -> None:
        """Refuse templates of another recognizer, by name and weights; by the name alone where that is all we know.

        what: this decoder, for the message.
        """
        mine = self.recognizer
        if recognizer.weights_sha256:
            require_same_recognizer(recognizer, mine, what)
        elif recognizer.name != mine.name:
            raise BadInput(
                f"{what} is for {mine.name} and the templates are taken as {recognizer.name}'s; say --model "
                f"{mine.name} if they are its own"
            )


def save_decoder(
    folder: Path,
    kind: str,
    net: DecoderNetwork,
    provenance: Provenance,
    half: bool = False,
    pictures: KnownPictures | None = None,
) -> None:
    """Write a checkpoint, atomically, tensors first.

    half: keep weights as float16, at half the size (they are read back as float32). What float16 does not hold stays:
        vectors, as the variances of batch normalization can be too small, and tensors that are too large or too small
        as a whole (a linear decoder's weights go with one over the size of templates).
    pictures: of all that led to it; None where that is not known.
    """
    tensors = {
        name: (t.half() if half and t.ndim > 1 and _fits_half(t) else t).contiguous().cpu()
        for name, t in net.state_dict().items()
    }
    content = save_tensors(tensors)
    make_folder(folder)
    card = _Card(
        recognizer=provenance.recognizer,
        normalized=provenance.normalized,
        training=provenance.training,
        kind=kind,
        config=_Config.from_json("the network's config", net.config),
        frame=_FRAME,
        sha256=sha256_of(content),
        known_pictures=None if pictures is None else pictures.write(folder / FILE),
    )
    write_bytes(folder / "decoder.safetensors", content)
    write_json(folder / "decoder.json", {"format_version": FORMAT_VERSION, **card.as_json()})


def _fits_half(tensor: Tensor) -> bool:
    """Whether float16 rounds a tensor as it rounds numbers in its range: by half a thousandth."""
    if not tensor.is_floating_point():
        return False
    return bool((tensor.half().to(tensor.dtype) - tensor).norm() <= 1e-3 * tensor.norm())


def load_decoder(name: str | Path, device: str = "cpu") -> Decoder:
    """Load a decoder from its folder, or a shipped one by its recognizer's name.

    Raises MissingWeights: no such decoder. BadInput: the checkpoint is of another version or frame, or damaged.
    """
    folder = find_decoder(name)
    path, tensors = folder / "decoder.json", folder / "decoder.safetensors"
    remedy = "use the version that wrote it, or train it again"
    held = migrated(path, read_json(path), "format_version", FORMAT_VERSION, MIGRATIONS, remedy)
    card = _Card.from_json(path, held)
    if card.kind not in KINDS:
        raise BadInput(f"{path}: unknown kind of decoder {card.kind!r}; known: {', '.join(KINDS)}")
    if card.frame != _FRAME:
        raise BadInput(f"{path}: draws another portrait frame than this facedecode's; train it again")
    try:
        with torch.device("meta"):  # whatever sizes it has, only the file's own tensors take memory
            net = KINDS[card.kind].network(**card.config.as_json())
    except (
        *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError),
        *(RuntimeError, MemoryError, UsageError),
    ) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(f"{path}: its config does not fit a {card.kind} decoder ({reason})") from None
    # The largest type has 8 bytes a number.
    most = sum(8 * tensor.numel() + _LARGEST_ENTRY for tensor in net.state_dict().values()) + _LARGEST_FRAME
    content = read_file(tensors, most)
    sha256 = sha256_of(content)
    if card.sha256 not in (None, sha256):
        raise BadInput(f"{tensors}: wrong sha256: changed since it was written; train it again")
    load_into(net, tensors, content=content)
    net.open_files(folder, device)
    provenance = Provenance(card.recognizer, card.normalized, card.training)
    return Decoder(card.kind, net, provenance, device, folder, sha256, card.known_pictures)


def load_decoder_for(recognizer: RecognizerId, name: str | Path | None = None, device: str = "cpu") -> Decoder:
    """The decoder called `name` (see `find_decoder`), else the one that is shipped for a recognizer.

    Raises MissingWeights: no such decoder. BadInput: as `load_decoder`, or it is for templates of another recognizer.
    """
    shipped = files.SHIPPED / recognizer.name
    if name is None and not (shipped / "decoder.json").is_file():
        raise MissingWeights(
            f"no decoder comes with facedecode for templates of {recognizer.name}: train one by 'facedecode train "
            "STORE -o decoder', and name it by --decoder"
        )
    decoder = load_decoder(name or shipped, device)
    decoder.require_recognizer(recognizer, f"the decoder {name or 'shipped with facedecode'}")
    return decoder


def optional_decoder(
    recognizer: RecognizerId, name: str | None, device: str, without: str, say: Callable[[str], object]
) -> Decoder | None:
    """`load_decoder_for`, for a figure: None where the user named no decoder and none is shipped.

    say: is told so. without: what the user gets then, for the message.
    """
    try:
        return load_decoder_for(recognizer, name, device)
    except (MissingWeights, BadInput) as error:
        if name is not None:
            raise
        say(f"no decoder for {recognizer.name}: {without} ({error})")
        return None
