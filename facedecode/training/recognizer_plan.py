"""What the training of a recognizer comes to: who is a class, who is held out, and what is recorded of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from facedecode.annotations.protocols import held_out_people
from facedecode.classifiers.classes import Images, choose_images
from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.files import json_text, sha256_file
from facedecode.pictures.align import named_crop
from facedecode.recognizers.networks import RESNET50
from facedecode.recognizers.registry import ARCHITECTURES, WEIGHTS, read_spec, trained_folder
from facedecode.recognizers.spec import REGISTRY, RecognizerSpec
from facedecode.recognizers.weights_file import Layout, load_into
from facedecode.store import Store
from facedecode.store.processing import refuse_done
from facedecode.training.recognizer_run import (
    BACKBONES,
    MEAN,
    SCALE,
    VERSION,
    RecognizerSettings,
)
from facedecode.training.trainer import count_steps

_HELD_OUT = 0.1  # of each person's images


@dataclass(frozen=True)
class RecognizerJob:
    """What to train, on whom, and where to.

    Attributes:
        store: made by `extract` with any recognizer: its images, landmarks and people are used, not its templates.
        output: folder of the recognizer; its name is the recognizer's.
        people: file with the people to train on; all of the store if None.
        exclude: people to leave out.
        min_images: that a person needs to be a class.
        validation: share of these people who are no class: the curve's verification is of them.
        images: where the store's images are, if not where its manifest says.
        start: weights to go on from, instead of random ones: the folder of a recognizer of the same backbone, whose
            people count as trained on, too; or for `resnet50` a file in torchvision's layout.
    """

    store: Path
    output: Path
    people: Path | None = None
    exclude: tuple[str, ...] = ()
    min_images: int = 5
    validation: float = 0.1
    images: Path | None = None
    start: Path | None = None
    overwrite: bool = False
    settings: RecognizerSettings = field(default_factory=RecognizerSettings)


@dataclass(frozen=True)
class Start:
    """Weights to go on from. people: whom they were trained on, as far as that is known."""

    path: Path | None = None
    people: tuple[str, ...] = ()
    layouts: Sequence[Layout] = (Layout(),)

    @property
    def sha256(self) -> str | None:
        return None if self.path is None else sha256_file(self.path)

    def load(self, net: nn.Module) -> nn.Module:
        return net if self.path is None else load_into(net, self.path, self.layouts)


@dataclass(frozen=True)
class RecognizerPlan:
    """What a job comes to, as far as it is known before a picture is read.

    Attributes:
        images: of the people who take part. others: (n,) bool, which of them are of people who are no class.
        classes: the people to tell apart.
        steps: of the training.
        about: what is recorded of data and settings.
        described, fingerprint: all that decides the recognizer, and its hash.
    """

    job: RecognizerJob
    store: Store
    images: Images
    others: np.ndarray
    classes: list[str]
    steps: int
    start: Start
    spec: RecognizerSpec
    about: dict
    described: dict

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json_text(self.described).encode()).hexdigest()


def plan_recognizer(job: RecognizerJob) -> RecognizerPlan:
    """Look at a job; nothing is written, and no picture read.

    Raises:
        BadInput: the store, its people, or what is gone on from cannot be used.
        UsageError: settings that no run can have, or a folder's name that no recognizer can have.
        MissingWeights: those to start from are not there.
    """
    job.settings.check()
    name = _name(job.output)
    store = Store.open(job.store)
    refuse_done(store.manifest, store.folder, reason="a recognizer is trained on images as they are")
    images = choose_images(store, job.people, job.exclude, job.min_images, _HELD_OUT)
    others = held_out_people(images.names, images.paths, job.validation)
    classes = sorted({name for name, out in zip(images.names, others, strict=True) if not out})
    if len(classes) < 2:
        raise BadInput(
            f"{store.folder}: with {job.validation:g} of the people held out {len(classes)} of them are left to train "
            "on, and there must be two or more; lower --validation, or give more people"
        )
    start = _start(job)
    settings, known, backbone = job.settings, set(images.names), BACKBONES[job.settings.backbone]
    spec = RecognizerSpec(
        name=name,
        dim=backbone.dim,
        crop=named_crop("arcface", settings.image_size),
        mean=MEAN,
        scale=SCALE,
        score="cosine",
        license="that of the images it was trained on",
        architecture=backbone.architecture,
        obtain="",
        feature_layers=ARCHITECTURES[backbone.architecture],
        config=settings.config,
        training_people=tuple(sorted(known | set(start.people))),
    )
    about = {
        "store": store.fingerprint,
        "start": start.sha256,
        "settings": settings.describe(),
        "min_images": job.min_images,
        "validation": job.validation,
        "held_out_people": sorted(known - set(classes)),
        "images": len(images.rows),
        "left_out": images.left_out,
    }
    described = {**about, "classes": classes, "architecture": spec.architecture, "config": spec.config}
    described |= {"crop": spec.crop.describe(), "version": VERSION}
    steps = count_steps(np.count_nonzero(~others & ~images.held_out), settings)
    return RecognizerPlan(job, store, images, others, classes, steps, start, spec, about, described)


def _start(job: RecognizerJob) -> Start:
    """Refuses another backbone's recognizer before any picture is read."""
    if job.start is None:
        return Start()
    settings, architecture = job.settings, BACKBONES[job.settings.backbone].architecture
    if folder := trained_folder(job.start):
        if folder.resolve() == job.output.resolve():
            raise UsageError(
                f"--start and -o are both {folder}: what is gone on from would be lost; name another folder"
            )
        there = read_spec(folder)
        if (there.architecture, dict(there.config)) != (architecture, settings.config):
            raise BadInput(
                f"{folder}: a {there.architecture} for crops of {there.crop.size} px; --start goes on from one of the "
                "same --backbone and --image-size"
            )
        return Start(folder / WEIGHTS, there.training_people)
    if settings.backbone != "resnet50":
        raise UsageError(f"--start {job.start}: give the folder of a recognizer that was trained here")
    if not job.start.is_file():
        raise MissingWeights(f"--start {job.start}: no such file, nor the folder of a trained recognizer")
    return Start(job.start, layouts=RESNET50)


def _name(output: Path) -> str:
    """A recognizer's name is its folder's; refused where options or records could not spell it."""
    name = output.resolve().name
    if name in REGISTRY or name == "squeezenet":
        raise UsageError(f"-o {output}: {name} is another network's name; name the folder otherwise")
    if not name or name != name.strip() or set(name) & set("@:=+[](),<>"):
        raise UsageError(
            f"-o {output}: a recognizer is named as its folder, and no name has spaces at an end or one of @:=+[](),<>"
        )
    return name
