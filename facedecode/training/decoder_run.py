"""Training of a decoder on (template, portrait) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facedecode.decoders.base import TrainedNetwork, trained_network
from facedecode.errors import UsageError
from facedecode.files import make_folder
from facedecode.perceptual.phi import PerceptualNetwork, RecognizerMaps
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image, to_pictures, to_tensor
from facedecode.progress import Progress, silent
from facedecode.ranks import Ranks
from facedecode.recognizers.recognizer import Recognizer
from facedecode.training import losses
from facedecode.training.jobs import LossWeights, TrainSettings
from facedecode.training.trainer import ResumableRun

VERSION = 2  # of what a step computes: part of the fingerprint


@dataclass
class Pairs:
    """Templates with the portraits that made them: (n, dim) float32 and (n, P, P, 3) uint8.

    `targets` (n, dim) float32 are what the identity term wants the reconstructions' templates to be; the templates
    themselves if None.
    """

    templates: np.ndarray
    portraits: np.ndarray
    targets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.templates)

    def part(self, rows: np.ndarray) -> Pairs:
        """The pairs of these rows (numbers, or a mask)."""
        return Pairs(self.templates[rows], self.portraits[rows], None if self.targets is None else self.targets[rows])

    def joined(self, others: Pairs) -> Pairs:
        """The templates and portraits of both, these first; without targets."""
        return Pairs(
            *(np.concatenate([getattr(x, name) for x in (self, others)]) for name in ("templates", "portraits"))
        )

    def batch(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(b, dim) templates, (b, 3, P, P) float portraits in [0, 1], and (b, dim) targets."""
        templates = torch.from_numpy(self.templates[rows]).to(device)
        portraits = to_tensor(self.portraits[rows], device)
        targets = templates if self.targets is None else torch.from_numpy(self.targets[rows]).to(device)
        return templates, portraits, targets


@dataclass(frozen=True)
class TrainingInputs:
    """The data, networks and settings of one run.

    train, validation: pairs of different people; `validation` may be empty.
    folder: gets the state (`state.safetensors`), the validation curve (`curve.csv`) and a grid of validation pictures,
        originals above reconstructions (`samples/STEP.png`).
    fingerprint: hash of data and settings; a state with another is refused.
    score: the recognizer's, how templates compare.
    architecture: a key of `KINDS`; that of `start` where there is one.
    recognizer: the one that made the templates (ξ); the identity term needs it, and the curve's scores.
    phi: the perceptual networks; the perceptual terms need one.
    start: a network to go on from, of the same recognizer; else a random one.
    accumulate: pieces in which a process's part of a batch goes through the networks of the loss, one at a time in
        memory. The result is the same up to rounding.

    Raises UsageError: a term lacks the network that it looks through, or that is a black box.
    """

    train: Pairs
    validation: Pairs
    settings: TrainSettings
    folder: Path
    fingerprint: str
    score: str
    architecture: str = "dfd"
    recognizer: Recognizer | None = None
    phi: Sequence[PerceptualNetwork] = ()
    start: TrainedNetwork | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        require_gradients(self.settings.weights, self.recognizer, self.phi)

    def new_network(self) -> TrainedNetwork:
        """The network before the first step: of the seed, or a copy of `start`."""
        torch.manual_seed(self.settings.seed)
        if self.start is not None:
            return rebuilt(self.start, self.start.state_dict())
        settings, templates = self.settings, torch.from_numpy(self.train.templates)
        chosen = {} if settings.coarse is None else {"coarse": settings.coarse}
        network = trained_network(self.architecture)
        net = network(templates.shape[1], settings.image_size, settings.widths, **chosen)
        net.prepare(templates, torch.from_numpy(self.train.portraits).permute(0, 3, 1, 2))
        return net


def rebuilt(net: TrainedNetwork, state: dict[str, Tensor]) -> TrainedNetwork:
    """A network as this one with other tensors."""
    copy = type(net)(**net.config)
    copy.load_state_dict(state)
    return copy


def train_decoder(
    inputs: TrainingInputs, device: str = "cpu", ranks: Ranks | None = None, progress: Progress = silent
) -> tuple[TrainedNetwork, dict[str, Any]]:
    """Train a network that decodes; resume where an earlier run with the same fingerprint stopped.

    ranks: the processes that train together, each with the same inputs, on parts of the same batches. The first alone
        reads and writes the folder. Their network is that of one process up to rounding.

    Returns the averaged network in evaluation mode, and figures of the run (JSON).

    Raises:
        UsageError: more processes or pieces than a batch has rows.
        BadInput: too few pairs for one batch, or the loss is no longer finite (the last saved state is kept).
        OutputError: the folder holds the state of another run.
    """
    run = DecoderRun(inputs, torch.device(device), ranks)
    run.run(progress)
    return run.averaged().eval(), {"steps": run.steps, "curve": run.curve}


@dataclass
class LossContext:
    """How the loss looks at some rows of a batch.

    jitter: (n, 2, 3), see `losses.random_jitter`.
    originals: for each perceptual network, term → the maps of the rows' originals.
    sizes: the mean squares of those maps over the whole batch.
    share: of the batch that these rows are.
    """

    jitter: Tensor
    originals: list[dict[str, list[Tensor]]]
    sizes: list[dict[str, list[Tensor]]]
    share: float


class DecoderRun(ResumableRun[TrainSettings, TrainedNetwork]):
    """The training run of one decoder."""

    def __init__(self, inputs: TrainingInputs, device: torch.device, ranks: Ranks | None = None):
        settings, processes = inputs.settings, ranks.count if ranks else 1
        if settings.batch_size // processes < inputs.accumulate:
            parts = f"{processes} processes in {inputs.accumulate} pieces each"
            raise UsageError(f"a batch of {settings.batch_size} cannot be split among {parts}; raise --batch-size")
        self.inputs = inputs
        self.spread = losses.template_spread(torch.from_numpy(inputs.train.templates), inputs.score)
        images = len(inputs.train)
        super().__init__(inputs.new_network(), images, settings, inputs.folder, inputs.fingerprint, device, ranks)

    def backward(self) -> Tensor:
        """As `ResumableRun.backward`.

        The decoder draws all of the part at once, as batch normalization wants it; the networks of the loss see it in
        pieces, one after the other.
        """
        rows = self.rows()
        batch = self.inputs.train.batch(rows[self.ranks.part(len(rows))], self.device)
        with self.autocast():
            drawn = self.net(batch[0]).float()
        pictures = drawn.detach().requires_grad_()
        pieces, portraits, targets = (t.tensor_split(self.inputs.accumulate) for t in (pictures, *batch[1:]))
        with self.autocast():
            contexts = self.look(portraits)
        total = drawn.new_zeros(())
        for piece, portrait, target, context in zip(pieces, portraits, targets, contexts, strict=True):
            with self.autocast():
                loss = self.loss(piece, portrait, target, context) * context.share
            loss.backward()
            total += loss.detach()
        drawn.backward(pictures.grad)
        return total

    def look(self, pieces: Sequence[Tensor]) -> list[LossContext]:
        """How the loss looks at this process's part of the step's batch: its portraits, in pieces (n, 3, P, P)."""
        # What a network looks at, it sees through a small random similarity, the original as the reconstruction.
        batch = self.settings.batch_size
        jitter = losses.random_jitter(batch, self.generator(), self.settings.jitter)[self.ranks.part(batch)]
        contexts = []
        for portraits, moves in zip(pieces, jitter.split([len(piece) for piece in pieces]), strict=True):
            moves = moves.to(portraits)
            with torch.no_grad():
                originals = [
                    {term: network.maps(view) for term, view in self.views(network, portraits, moves).items()}
                    for network in self.inputs.phi
                ]
            contexts.append(LossContext(moves, originals, [], len(portraits) / batch))
        columns = zip(*([m for n in c.originals for maps in n.values() for m in maps] for c in contexts), strict=True)
        means = [sum(c.share * m.square().mean() for c, m in zip(contexts, maps, strict=True)) for maps in columns]
        self.ranks.sum(means)
        remaining = iter(means)
        sizes = [{term: [next(remaining) for _ in maps] for term, maps in n.items()} for n in contexts[0].originals]
        for context in contexts:
            context.sizes = sizes
        return contexts

    def views(self, network: PerceptualNetwork, pictures: Tensor, jitter: Tensor) -> dict[str, Tensor]:
        """What a perceptual network sees of pictures (n, 3, P, P): term → view, of the terms that are on."""
        weights, views = self.weights(), {}
        if weights.perceptual or weights.local_perceptual:
            view = network.view(pictures, jitter)
            views = {"perceptual": view} if weights.perceptual else {}
            if weights.local_perceptual:
                views["local_perceptual"] = network.local(view, pictures.shape[-1])
        return views

    def weights(self) -> LossWeights:
        """The weights of this step's terms."""
        weights, share = self.settings.weights, self.settings.perceptual_after
        if share is None:
            return weights
        return weights.of_pixels() if self.step < share * self.steps else weights.of_networks()

    def loss(self, drawn: Tensor, portraits: Tensor, targets: Tensor, context: LossContext | None = None) -> Tensor:
        """The weighted sum of the terms that are on, a mean over rows; `context` where they are part of a batch."""
        weights, side = self.weights(), drawn.shape[-1]
        local = losses.local_region(drawn), losses.local_region(portraits)
        terms = [
            (weights.pixel, lambda: losses.pixel_loss(drawn, portraits)),
            (weights.gradient, lambda: losses.gradient_loss(drawn, portraits, side)),
            (weights.local_pixel, lambda: losses.pixel_loss(*local)),
            (weights.local_gradient, lambda: losses.gradient_loss(*local, side)),
            (weights.absolute, lambda: losses.absolute_loss(drawn, portraits)),
        ]
        total = sum((weight * term() for weight, term in terms if weight), drawn.new_zeros(()))
        if not weights.of_networks().any():
            return total
        context = context or self.look([portraits])[0]
        pictures, templates, recognizer = drawn.clamp(0, 1), None, self.inputs.recognizer
        for network, originals, sizes in zip(self.inputs.phi, context.originals, context.sizes, strict=True):
            same = isinstance(network, RecognizerMaps) and network.recognizer is recognizer
            recognizer_maps = cast(RecognizerMaps, network) if same and weights.identity else None
            part = drawn.new_zeros(())
            for term, view in self.views(network, pictures, context.jitter).items():
                if term == "perceptual" and recognizer_maps:
                    maps, templates = recognizer_maps.maps_and_template(view)
                else:
                    maps = network.maps(view)
                part = part + getattr(weights, term) * losses.perceptual_loss(maps, originals[term], sizes[term])
            total = total + part / len(self.inputs.phi)
        if weights.identity:
            if templates is None:
                templates = recognizer.embed_portraits(pictures, context.jitter)
            distance = losses.identity_loss(templates, targets, self.inputs.score)
            total = total + weights.identity * distance / self.spread
        return total

    def averaged(self) -> TrainedNetwork:
        """A copy of the network with the averaged weights."""
        net = rebuilt(self.net, self.average).to(self.device).to(memory_format=torch.channels_last)
        net.template_scale.div_(self.settings.gain)
        return net

    @torch.inference_mode()
    def validate(self, most: int = 256, shown: int = 8) -> None:
        """Add a point to the curve (PSNR in dB, score of reconstruction to template) and draw a grid."""
        pairs, recognizer = self.inputs.validation, self.inputs.recognizer
        if not pairs:
            return
        net = self.averaged().eval()
        psnr, scores, pictures = [], [], list[Tensor]()
        for start in range(0, min(most, len(pairs)), 64):
            templates, portraits, _ = pairs.batch(np.arange(start, min(start + 64, most, len(pairs))), self.device)
            drawn = net(templates).clamp(0, 1)
            psnr.append(-10 * (drawn - portraits).square().flatten(1).mean(1).log10())
            if recognizer is not None:
                again = recognizer.embed_portraits(drawn)
                cosine = self.inputs.score == "cosine"
                scores.append(F.cosine_similarity(again, templates) if cosine else -(again - templates).norm(dim=1))
            if not pictures:
                pictures = [portraits[:shown], drawn[:shown]]
        point = {"step": self.step, "psnr": round(torch.cat(psnr).mean().item(), 4)}
        if scores:
            point["score"] = round(torch.cat(scores).mean().item(), 4)
        make_folder(self.folder / "samples")
        self.add_point(point)
        rows = [to_pictures(each) for each in pictures]
        save_image(self.folder / "samples" / f"{self.step:06d}.png", picture_grid(rows))


def require_gradients(weights: LossWeights, recognizer: Recognizer | None, phi: Sequence[PerceptualNetwork]) -> None:
    """Raise UsageError where a term that is on has no network to look through, or one that gives no gradients."""
    needed: list[tuple[str, Recognizer | PerceptualNetwork | None]] = []
    if weights.identity:
        needed.append(("the identity term (--identity-weight 0 switches it off)", recognizer))
    if weights.perceptual or weights.local_perceptual:
        what = "the perceptual term (--perceptual-weight 0 and --local-perceptual-weight 0 switch it off)"
        needed += [(what, network) for network in phi or [None]]
    for what, network in needed:
        if network is None:
            raise UsageError(f"{what} needs its network: name its weights")
        if not network.white_box:
            raise UsageError(f"{network.name} is a black box, and {what} needs its gradients")
