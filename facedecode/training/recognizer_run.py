"""Training of a recognizer on crops of known people."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.errors import UsageError
from facedecode.recognizers.networks import WIDTHS, SmallResNet, new_resnet50
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import eer
from facedecode.training.losses import random_jitter
from facedecode.training.recognizer_heads import HeadSettings, make_head
from facedecode.training.trainer import ResumableRun

# Of what a step computes: a state, or a recognizer, of another version is another job's.
VERSION = 1
MEAN, SCALE = (127.5, 127.5, 127.5), 127.5
_JUDGED = 2000  # images of a kind that a point of the curve is of, about, at most


@dataclass(frozen=True)
class Backbone:
    """A network that can be trained.

    architecture: the function of `networks` that builds it. step: its crops are a multiple of it, pixels. dim: of its
        templates.
    """

    architecture: str
    step: int
    dim: int


BACKBONES = {"small": Backbone("small_resnet", 16, 128), "resnet50": Backbone("resnet50", 32, 2048)}


@dataclass(frozen=True)
class RecognizerSettings:
    """What decides a run besides its data.

    Attributes:
        backbone: `small` (`SmallResNet`, 128 numbers) or `resnet50` (torchvision's, 2048 numbers).
        image_size: side of the crops, pixels; a multiple of 16 (small) or 32.
        head: the loss.
        epochs, batch_size: the last partial batch of an epoch is left out.
        learning_rate: peak of a one-cycle schedule (linear warm-up over 10 % of the steps, cosine to zero).
        weight_decay: AdamW's.
        average: decay per step of the exponential average of the weights; the average is what is kept.
        mirror: half of the crops, drawn anew each time, are turned over left to right.
        jitter: strength of the random similarities of crops (`losses.random_jitter`).
        light: standard deviations of a random contrast (log) and, halved, of a brightness.
        save_every, validate_every: steps between saved states, and between points of the validation curve.
    """

    backbone: str = "small"
    image_size: int = 64
    head: HeadSettings = field(default_factory=HeadSettings)
    epochs: float = 30.0
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2
    average: float = 0.99
    mirror: bool = True
    jitter: float = 1.0
    light: float = 0.2
    seed: int = 0
    precision: str = "fp32"
    save_every: int = 200
    validate_every: int = 200

    def check(self) -> None:
        """Raise UsageError for settings that no run can have; said before any picture is read."""
        if self.backbone not in BACKBONES:
            raise UsageError(f"--backbone {self.backbone}: choose {' or '.join(BACKBONES)}")
        step = BACKBONES[self.backbone].step
        if self.image_size < step or self.image_size % step:
            raise UsageError(f"image size {self.image_size}: the backbone {self.backbone} takes multiples of {step}")
        for name in ("epochs", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} {getattr(self, name)}: give a number above 0")
        for name in ("jitter", "light"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name)}: give a number that is not negative")

    @property
    def config(self) -> dict:
        """What rebuilds the backbone: further arguments of its architecture's function."""
        if self.backbone == "resnet50":
            return {}
        dim = BACKBONES[self.backbone].dim
        return {"size": self.image_size, "dim": dim, "widths": list(WIDTHS), "depths": [1] * len(WIDTHS)}

    def new_backbone(self) -> nn.Module:
        """The network with random weights."""
        return new_resnet50() if self.backbone == "resnet50" else SmallResNet(**self.config)

    def describe(self) -> dict:
        """JSON for provenance: what plays a part."""
        return asdict(self) | {"head": self.head.describe()}


@dataclass(frozen=True)
class Faces:
    """Crops (n, S, S, 3) uint8 RGB with their people: n names, and for classes their numbers, int64 (n,)."""

    crops: np.ndarray
    names: list[str]
    classes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def some(self) -> Faces:
        """As many as a point of the curve is of, spread evenly."""
        if len(self) <= _JUDGED:
            return self
        return self._part(np.unique(np.linspace(0, len(self) - 1, _JUDGED).astype(np.int64)))

    def of_some_people(self) -> Faces:
        """All of so many people that there are about as many: a part of everybody's would have few mated pairs."""
        if len(self) <= _JUDGED:
            return self
        people = sorted(set(self.names))
        count = max(2, len(people) * _JUDGED // len(self))
        chosen = {people[k * len(people) // count] for k in range(count)}
        return self._part(np.array([i for i, name in enumerate(self.names) if name in chosen]))

    def _part(self, rows: np.ndarray) -> Faces:
        classes = None if self.classes is None else self.classes[rows]
        return Faces(self.crops[rows], [self.names[i] for i in rows], classes)


class RecognizerRun(ResumableRun):
    """The training run of one recognizer: a backbone and a head.

    `curve.csv` has the share of images held out whose person is named (`accuracy`), and of people held out the equal
    error rate over all their pairs (`eer`), by the averaged weights; of some of them where there are many (`_JUDGED`).
    """

    def __init__(
        self,
        train: Faces,
        held_out: Faces,
        others: Faces,
        backbone: nn.Module,
        dim: int,
        settings: RecognizerSettings,
        folder: Path,
        fingerprint: str,
        device: torch.device,
    ):
        """
        Args:
            train, held_out: images of the classes. others: images of people who are no class; may be none.
            backbone: normalized RGB (n, 3, S, S) → templates (n, dim).
        """
        self.train, self.held_out, self.others = train, held_out.some(), others.of_some_people()
        head = make_head(settings.head, dim, int(train.classes.max()) + 1)
        net = nn.ModuleDict({"backbone": backbone, "head": head})
        super().__init__(net, len(train), settings, folder, fingerprint, device)

    def batch_loss(self) -> Tensor:
        rows = self.rows()
        crops = self.augmented(to_unit(self.train.crops[rows], self.device), self.generator())
        classes = torch.from_numpy(self.train.classes[rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            templates = self.net["backbone"](normalized(crops))
        margin = self.settings.head.margin_at(self.step, self.steps)
        return F.cross_entropy(self.net["head"](templates.float(), classes, margin), classes)

    def augmented(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Crops (n, 3, S, S) in [0, 1] turned over, moved, and in another light, each at random."""
        count, settings = len(crops), self.settings
        turned = torch.rand(count, generator=generator) < 0.5
        light = torch.randn(2, count, 1, 1, 1, generator=generator).to(crops) * settings.light
        maps = random_jitter(count, generator, settings.jitter)
        if settings.mirror:
            maps[turned, :, 0] *= -1  # of the output's x: what is sampled is the mirrored crop
        if settings.jitter or settings.mirror:
            grid = F.affine_grid(maps.to(crops), list(crops.shape), align_corners=False)
            crops = F.grid_sample(crops, grid, mode="bilinear", padding_mode="border", align_corners=False)
        if settings.light:
            crops = ((crops - 0.5) * light[0].exp() + 0.5 + light[1] / 2).clamp(0, 1)
        return crops

    def validate(self) -> None:
        net = self.averaged()
        point: dict = {"step": self.step}
        if len(self.held_out):
            point["accuracy"] = round(float(right(net, self.held_out, self.device).mean()), 4)
        if (rate := equal_error_rate(net["backbone"], self.others, self.device)) is not None:
            point["eer"] = round(rate, 4)
        if len(point) > 1:
            self.add_point(point)

    def averaged(self) -> nn.ModuleDict:
        """Backbone and head with the averaged weights, in evaluation mode; copies."""
        net = copy.deepcopy(self.net)
        net.load_state_dict(self.average)
        return net.eval().requires_grad_(False)


def to_unit(crops: np.ndarray, device: torch.device) -> Tensor:
    """(n, S, S, 3) uint8 → (n, 3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255


def normalized(crops: Tensor) -> Tensor:
    """What the network takes of crops in [0, 1], as `Recognizer` gives it."""
    mean = torch.tensor(MEAN, device=crops.device).view(1, 3, 1, 1)
    return ((crops * 255 - mean) / SCALE).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def templates_of(backbone: nn.Module, crops: np.ndarray, device: torch.device) -> Tensor:
    """Templates (n, dim) float32 of crops (n, S, S, 3) uint8."""
    parts = [backbone(normalized(to_unit(crops[k : k + 64], device))) for k in range(0, len(crops), 64)]
    return torch.cat(parts).float()


@torch.inference_mode()
def right(net: nn.ModuleDict, faces: Faces, device: torch.device) -> np.ndarray:
    """Which faces' people the head names, without a margin: bool (n,)."""
    named = net["head"](templates_of(net["backbone"], faces.crops, device)).argmax(1).cpu().numpy()
    return named == faces.classes


def equal_error_rate(backbone: nn.Module, faces: Faces, device: torch.device) -> float | None:
    """Of all pairs of the faces, by cosine; None where there are no mated or no non-mated ones."""
    if len(set(faces.names)) < 2 or len(set(faces.names)) == len(faces):
        return None
    templates = templates_of(backbone, faces.crops, device).cpu().numpy()
    pairs = mated_non_mated_scores(templates, faces.names, "cosine")
    return float(eer(pairs.mated, pairs.non_mated).value)
