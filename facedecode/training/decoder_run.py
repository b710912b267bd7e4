"""Training of a decoder on (template, portrait) pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.decoders.kinds import KINDS
from facedecode.errors import UsageError
from facedecode.files import make_folder
from facedecode.perceptual.phi import PerceptualNetwork
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.ranks import Ranks
from facedecode.recognizers.recognizer import Recognizer
from facedecode.training import losses
from facedecode.training.decoder_settings import TrainSettings
from facedecode.training.trainer import Progress, ResumableRun

# Of what a step computes: a state, or a decoder, of another version is another job's.
VERSION = 2


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
        portraits = torch.from_numpy(self.portraits[rows]).to(device).permute(0, 3, 1, 2).float() / 255
        targets = templates if self.targets is None else torch.from_numpy(self.targets[rows]).to(device)
        return templates, portraits, targets


def train_decoder(
    train: Pairs,
    validation: Pairs,
    recognizer: Recognizer | None,
    settings: TrainSettings,
    folder: Path,
    fingerprint: str,
    score: str,
    device: str = "cpu",
    progress: Progress | None = None,
    start: nn.Module | None = None,
    phi: Sequence[PerceptualNetwork] = (),
    ranks: Ranks | None = None,
    accumulate: int = 1,
    architecture: str = "dfd",
) -> tuple[nn.Module, dict]:
    """Train a network that decodes; resume where an earlier run with the same fingerprint stopped.

    While it trains, `folder` gets the state (`state.safetensors`), the validation curve (`curve.csv`) and
    a grid of validation pictures, originals above reconstructions (`samples/STEP.png`).

    Args:
        train, validation: pairs of different people; `validation` may be empty.
        recognizer: whose templates they are (ξ); the identity term needs it, and the curve's scores.
        fingerprint: hash of data and settings; a state with another is refused.
        score: the recognizer's score, which says how templates are compared.
        start: a network to go on from, of the same recognizer; else a random one with the settings' `widths`.
        phi: the perceptual networks; the perceptual terms need one.
        ranks: the processes that train together, each with the same arguments, on parts of the same batches. The first
            alone reads and writes `folder`. Their network is that of one process up to rounding.
        accumulate: pieces in which a process's part of a batch goes through the networks of the loss, one at a time in
            memory. The result is the same up to rounding, so it is part of no fingerprint.
        architecture: which network, a key of `NETWORKS`; that of `start` where there is one.

    Returns:
        The averaged network in evaluation mode, and figures of the run (JSON).

    Raises:
        UsageError: a term lacks the network that it looks through, or that is a black box; more processes or pieces
            than a batch has rows.
        BadInput: too few pairs for one batch, or the loss is no longer finite (the last saved state is kept).
        OutputError: `folder` holds the state of another run.
    """
    data = train, recognizer, settings, folder, fingerprint, score, torch.device(device)
    run = TrainingRun(*data, start, phi, validation, ranks, accumulate, architecture)
    run.run(progress)
    return run.averaged().eval(), {"steps": run.steps, "curve": run.curve}


@dataclass
class LossContext:
    """How the loss looks at some rows of a batch.

    Attributes:
        jitter: (n, 2, 3), see `losses.random_jitter`.
        originals: of each perceptual network the maps of the rows' originals, those of its whole view and those of the
            central region; none for a term that is off.
        sizes: the mean squares of those maps over the whole batch.
        share: of the batch that these rows are.
    """

    jitter: Tensor
    originals: list[tuple[list[Tensor], list[Tensor]]]
    sizes: list[tuple[list[Tensor], list[Tensor]]]
    share: float


class TrainingRun(ResumableRun):
    """The training run of one decoder."""

    def __init__(
        self,
        pairs: Pairs,
        recognizer: Recognizer | None,
        settings: TrainSettings,
        folder: Path,
        fingerprint: str,
        score: str,
        device: torch.device,
        start: nn.Module | None = None,
        phi: Sequence[PerceptualNetwork] = (),
        validation: Pairs | None = None,
        ranks: Ranks | None = None,
        accumulate: int = 1,
        architecture: str = "dfd",
    ):
        require_gradients(settings.weights, recognizer, phi)
        processes = ranks.count if ranks else 1
        if settings.batch_size // processes < accumulate:
            raise UsageError(
                f"a batch of {settings.batch_size} does not go round {processes} processes in {accumulate} pieces "
                "each; raise --batch-size"
            )
        self.accumulate = accumulate
        self.pairs, self.validation, self.recognizer, self.phi, self.score = pairs, validation, recognizer, phi, score
        self.spread = losses.template_spread(torch.from_numpy(pairs.templates), score)
        torch.manual_seed(settings.seed)
        if start is None:
            own = {} if settings.coarse is None else {"coarse": settings.coarse}
            net = KINDS[architecture].network(pairs.templates.shape[1], settings.image_size, settings.widths, **own)
            net.prepare(torch.from_numpy(pairs.templates), torch.from_numpy(pairs.portraits).permute(0, 3, 1, 2))
        else:
            net = type(start)(**start.config)
            net.load_state_dict(start.state_dict())
        super().__init__(net, len(pairs), settings, folder, fingerprint, device, ranks)

    def backward(self) -> Tensor:
        """As `ResumableRun.backward`.

        The decoder draws all of the part at once, as batch normalization wants it; the networks of the loss see it in
        pieces, one after the other.
        """
        rows = self.rows()
        templates, *originals = self.pairs.batch(rows[self.ranks.part(len(rows))], self.device)
        with self._autocast():
            drawn = self.net(templates).float()
        pictures = drawn.detach().requires_grad_()
        portraits, targets = (x.tensor_split(self.accumulate) for x in originals)
        with self._autocast():
            seen = self.look(portraits)
        total = drawn.new_zeros(())
        for piece in zip(pictures.tensor_split(self.accumulate), portraits, targets, seen, strict=True):
            with self._autocast():
                loss = self.loss(*piece) * piece[-1].share
            loss.backward()
            total += loss.detach()
        drawn.backward(pictures.grad)
        return total

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def look(self, pieces: Sequence[Tensor]) -> list[LossContext]:
        """How the loss looks at this process's part of the step's batch: its portraits, in pieces (n, 3, P, P)."""
        # What a network looks at, it sees through a small random similarity, the original as the reconstruction.
        batch = self.settings.batch_size
        jitter = losses.random_jitter(batch, self.generator(), self.settings.jitter)[self.ranks.part(batch)]
        seen = []
        for portraits, own in zip(pieces, jitter.split([len(piece) for piece in pieces]), strict=True):
            own = own.to(portraits)
            seen.append(
                LossContext(own, [self._originals(n, portraits, own) for n in self.phi], [], len(portraits) / batch)
            )
        columns = zip(*([m for maps in each.originals for m in [*maps[0], *maps[1]]] for each in seen), strict=True)
        means = [sum(s.share * m.square().mean() for s, m in zip(seen, maps, strict=True)) for maps in columns]
        self.ranks.sum(means)
        sizes = iter(means)
        shared = [tuple([next(sizes) for _ in maps] for maps in both) for both in seen[0].originals]
        for each in seen:
            each.sizes = shared
        return seen

    @torch.no_grad()
    def _originals(
        self, network: PerceptualNetwork, portraits: Tensor, jitter: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One network's maps of originals, see `Seen`."""
        weights, view = self.weights(), network.view(portraits, jitter)
        whole = network.maps(view) if weights.perceptual else []
        return whole, network.maps(network.local(view, portraits.shape[-1])) if weights.local_perceptual else []

    def weights(self) -> losses.LossWeights:
        """The weights of this step's terms."""
        weights, share = self.settings.weights, self.settings.perceptual_after
        if share is None:
            return weights
        return weights.of_pixels() if self.step < share * self.steps else weights.of_networks()

    def loss(self, drawn: Tensor, portraits: Tensor, targets: Tensor, seen: LossContext | None = None) -> Tensor:
        """The weighted sum of the terms that are on, a mean over rows; `seen` if they are but a part of the batch."""
        weights, side = self.weights(), drawn.shape[-1]
        local = [losses.local_region(x) for x in (drawn, portraits)]
        terms = [
            (weights.pixel, lambda: losses.pixel_loss(drawn, portraits)),
            (weights.gradient, lambda: losses.gradient_loss(drawn, portraits, side)),
            (weights.local_pixel, lambda: losses.pixel_loss(*local)),
            (weights.local_gradient, lambda: losses.gradient_loss(*local, side)),
            (weights.absolute, lambda: losses.absolute_loss(drawn, portraits)),
        ]
        total = sum((weight * term() for weight, term in terms if weight), drawn.new_zeros(()))
        if not (weights.identity or weights.perceptual or weights.local_perceptual):
            return total
        look = seen or self.look([portraits])[0]
        view, found = drawn.clamp(0, 1), None
        if weights.perceptual or weights.local_perceptual:
            for network, originals, sizes in zip(self.phi, look.originals, look.sizes, strict=True):
                term, template = self._perceptual(network, network.view(view, look.jitter), side, originals, sizes)
                total = total + term / len(self.phi)
                found = template if template is not None else found
        if weights.identity:
            if found is None:
                found = self.recognizer.embed_portraits(view, look.jitter)
            total = total + weights.identity * losses.identity_loss(found, targets, self.score) / self.spread
        return total

    def _perceptual(
        self, network: PerceptualNetwork, view: Tensor, side: int, originals: Sequence, sizes: Sequence
    ) -> tuple[Tensor, Tensor | None]:
        """One network's perceptual terms, and the template that came with its maps where ξ is that network."""
        weights, template = self.weights(), None
        total = view.new_zeros(())
        if weights.perceptual:
            if weights.identity and network.recognizer is self.recognizer:
                maps, template = network.maps_and_template(view)
            else:
                maps = network.maps(view)
            total = total + weights.perceptual * losses.perceptual_loss(maps, originals[0], sizes[0])
        if weights.local_perceptual:
            maps = network.maps(network.local(view, side))
            total = total + weights.local_perceptual * losses.perceptual_loss(maps, originals[1], sizes[1])
        return total, template

    def averaged(self) -> nn.Module:
        """A copy of the network with the averaged weights."""
        net = type(self.net)(**self.net.config).to(self.device, memory_format=torch.channels_last)
        net.load_state_dict(self.average)
        net.template_scale.div_(self.settings.gain)
        return net

    @torch.inference_mode()
    def validate(self, most: int = 256, shown: int = 8) -> None:
        """Add a point to the curve (PSNR in dB, score of reconstruction to template) and draw a grid."""
        pairs = self.validation
        if not pairs:
            return
        net = self.averaged().eval()
        psnr, scores, pictures = [], [], []
        for start in range(0, min(most, len(pairs)), 64):
            templates, portraits, _ = pairs.batch(np.arange(start, min(start + 64, most, len(pairs))), self.device)
            drawn = net(templates).clamp(0, 1)
            psnr.append(-10 * (drawn - portraits).square().flatten(1).mean(1).log10())
            if self.recognizer is not None:
                found = self.recognizer.embed_portraits(drawn)
                if self.score == "cosine":
                    scores.append(F.cosine_similarity(found, templates))
                else:
                    scores.append(-(found - templates).norm(dim=1))
            if not pictures:
                pictures = [portraits[:shown], drawn[:shown]]
        point = {"step": self.step, "psnr": round(torch.cat(psnr).mean().item(), 4)}
        if scores:
            point["score"] = round(torch.cat(scores).mean().item(), 4)
        make_folder(self.folder / "samples")
        self.add_point(point)
        rows = [(x.permute(0, 2, 3, 1) * 255).round().byte().cpu().numpy() for x in pictures]
        save_image(self.folder / "samples" / f"{self.step:06d}.png", picture_grid(rows))


def require_gradients(
    weights: losses.LossWeights, recognizer: Recognizer | None, phi: Sequence[PerceptualNetwork]
) -> None:
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
