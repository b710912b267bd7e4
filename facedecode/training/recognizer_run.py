"""Training of a recognizer on crops of known people: the heads that tell them apart, and the run."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.pictures.images import to_tensor
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import eer
from facedecode.training.jobs import BACKBONES, HeadSettings, RecognizerSettings
from facedecode.training.losses import random_jitter
from facedecode.training.trainer import ResumableRun

VERSION = 1  # of what a step computes: part of the fingerprint
MEAN, SCALE = (127.5, 127.5, 127.5), 127.5
_JUDGED = 2000  # images of a kind that a point of the curve is of, about, at most


class SoftMaxHead(nn.Module):
    """A linear layer with bias on raw templates: z_j = w_j · e + b_j."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        self.bias = nn.Parameter(torch.zeros(classes))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, templates: Tensor, classes: Tensor | None = None, margin: float = 0.0) -> Tensor:
        """Logits (n, classes) of templates (n, dim). The other arguments are ArcFace's."""
        return F.linear(templates, self.weight, self.bias)


class ArcFaceHead(nn.Module):
    """The additive angular margin of Deng et al. 2019, Eq. 3: z_j = s·cos θ_j, and s·cos(θ_y + m) for the own class.

    θ_j is the angle between template and class weight w_j. Where θ_y + m would pass π and the cosine turn up again,
    the logit goes on as s·(cos θ_y − m·sin m), as in the authors' code, so that the loss falls with θ_y everywhere.
    """

    def __init__(self, dim: int, classes: int, scale: float):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, templates: Tensor, classes: Tensor | None = None, margin: float = 0.0) -> Tensor:
        """Logits (n, classes) of templates (n, dim).

        classes: (n,) int64, the own class of each, whose angle takes the margin; None for no margin.
        margin: m, radians.
        """
        cosine = F.linear(F.normalize(templates), F.normalize(self.weight))
        if classes is None:
            return self.scale * cosine
        mated = cosine.gather(1, classes[:, None])
        # The root has no slope at 0, where template and weight coincide.
        sine = (1 - mated.square()).clamp(min=1e-9).sqrt()
        moved = mated * math.cos(margin) - sine * math.sin(margin)
        moved = torch.where(mated > -math.cos(margin), moved, mated - margin * math.sin(margin))
        return self.scale * cosine.scatter(1, classes[:, None], moved)


def make_head(settings: HeadSettings, dim: int, classes: int) -> SoftMaxHead | ArcFaceHead:
    """A head with random weights for templates (n, dim)."""
    if settings.head == "softmax":
        return SoftMaxHead(dim, classes)
    return ArcFaceHead(dim, classes, settings.scale)


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


@dataclass(frozen=True)
class FaceSplit:
    """train, held_out: images of the classes. others: of people who are no class; there may be none."""

    train: Faces
    held_out: Faces
    others: Faces


class RecognizerRun(ResumableRun[RecognizerSettings, nn.ModuleDict]):
    """The training run of one recognizer: a backbone and a head.

    `curve.csv` has the share of images held out whose person is named (`accuracy`), and of people held out the equal
    error rate over all their pairs (`eer`), by the averaged weights; of some of them where there are many (`_JUDGED`).
    """

    def __init__(
        self,
        faces: FaceSplit,
        backbone: nn.Module,
        settings: RecognizerSettings,
        folder: Path,
        fingerprint: str,
        device: torch.device,
    ):
        """backbone: normalized RGB (n, 3, S, S) → templates (n, dim)."""
        self.train = faces.train
        self.held_out, self.others = faces.held_out.some(), faces.others.of_some_people()
        head = make_head(settings.head, BACKBONES[settings.backbone].dim, int(self.train.classes.max()) + 1)
        net = nn.ModuleDict({"backbone": backbone, "head": head})
        super().__init__(net, len(self.train), settings, folder, fingerprint, device)

    def batch_loss(self) -> Tensor:
        rows = self.rows()
        crops = self.augmented(to_tensor(self.train.crops[rows], self.device), self.generator())
        classes = torch.from_numpy(self.train.classes[rows]).to(self.device)
        with self.autocast():
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
            point["accuracy"] = round(float(named_right(net, self.held_out, self.device).mean()), 4)
        if (rate := equal_error_rate(net["backbone"], self.others, self.device)) is not None:
            point["eer"] = round(rate, 4)
        if len(point) > 1:
            self.add_point(point)

    def averaged(self) -> nn.ModuleDict:
        """Backbone and head with the averaged weights, in evaluation mode; copies."""
        net = copy.deepcopy(self.net)
        net.load_state_dict(self.average)
        return net.eval().requires_grad_(False)


def normalized(crops: Tensor) -> Tensor:
    """What the network takes of crops in [0, 1], as `Recognizer` gives it."""
    mean = torch.tensor(MEAN, device=crops.device).view(1, 3, 1, 1)
    return ((crops * 255 - mean) / SCALE).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def templates_of(backbone: nn.Module, crops: np.ndarray, device: torch.device) -> Tensor:
    """Templates (n, dim) float32 of crops (n, S, S, 3) uint8."""
    parts = [backbone(normalized(to_tensor(crops[k : k + 64], device))) for k in range(0, len(crops), 64)]
    return torch.cat(parts).float()


@torch.inference_mode()
def named_right(net: nn.ModuleDict, faces: Faces, device: torch.device) -> np.ndarray:
    """Whether the head, without a margin, names each face's person: bool (n,)."""
    named = net["head"](templates_of(net["backbone"], faces.crops, device)).argmax(1).cpu().numpy()
    return named == faces.classes


def equal_error_rate(backbone: nn.Module, faces: Faces, device: torch.device) -> float | None:
    """Of all pairs of the faces, by cosine; None where there are no mated or no non-mated ones."""
    if len(set(faces.names)) < 2 or len(set(faces.names)) == len(faces):
        return None
    templates = templates_of(backbone, faces.crops, device).cpu().numpy()
    pairs = mated_non_mated_scores(templates, faces.names, "cosine")
    return float(eer(pairs.mated, pairs.non_mated).value)
