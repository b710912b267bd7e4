"""From a store's images to a recognizer on disk: what a job comes to, and the training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from facedecode import __version__
from facedecode.annotations.protocols import held_out_people
from facedecode.classifiers.classes import Images, choose_images
from facedecode.classifiers.fit import accuracies
from facedecode.errors import BadInput, MissingWeights, OutputError, UsageError
from facedecode.files import (
    json_text,
    locked,
    make_folder,
    read_file,
    sha256_file,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from facedecode.identity import is_name
from facedecode.known_pictures import FILE, Known, KnownPictures
from facedecode.memory import require_memory
from facedecode.perceptual.phi import IMAGE_NETWORKS
from facedecode.pictures.align import named_crop
from facedecode.progress import Progress, silent
from facedecode.recognizers.networks import RESNET50, WIDTHS, SmallResNet, new_resnet50
from facedecode.recognizers.registry import (
    CARD,
    TRAINED_LAYERS,
    WEIGHTS,
    NetworkConfig,
    RecognizerCard,
    known_to,
    read_card,
    trained_folder,
)
from facedecode.recognizers.spec import REGISTRY, RecognizerSpec
from facedecode.recognizers.weights_file import Layout, load_into
from facedecode.store import Store
from facedecode.store.images import read_crops
from facedecode.store.layout import MANIFEST
from facedecode.store.processing import refuse_done
from facedecode.training.jobs import BACKBONES, RecognizerJob, RecognizerSettings
from facedecode.training.recognizer_run import (
    MEAN,
    SCALE,
    VERSION,
    Faces,
    FaceSplit,
    RecognizerRun,
    equal_error_rate,
    named_right,
)
from facedecode.training.trainer import STATE, count_steps

_HELD_OUT = 0.1  # of each person's images


def backbone_config(settings: RecognizerSettings) -> dict[str, Any]:
    """What rebuilds the backbone: further arguments of its architecture's function."""
    if settings.backbone == "resnet50":
        return {}
    dim = BACKBONES[settings.backbone].dim
    return {"size": settings.image_size, "dim": dim, "widths": list(WIDTHS), "depths": [1] * len(WIDTHS)}


def new_backbone(settings: RecognizerSettings) -> nn.Module:
    """The network with random weights."""
    return new_resnet50() if settings.backbone == "resnet50" else SmallResNet(**backbone_config(settings))


@dataclass(frozen=True)
class Start:
    """Weights to start from, and the people and pictures that they are known to be trained on."""

    path: Path | None = None
    known: Known = field(default_factory=Known)
    layouts: Sequence[Layout] = (Layout(),)

    @cached_property
    def sha256(self) -> str | None:
        """Of the file, when it was first asked for."""
        return None if self.path is None else sha256_file(self.path)

    def load(self, net: nn.Module) -> nn.Module:
        """The network with these weights, if there are any. Raises BadInput: as `load_into`; changed since `sha256`."""
        if self.path is None:
            return net
        content = read_file(self.path)
        if sha256_of(content) != self.sha256:
            raise BadInput(f"{self.path}: changed while it was used; start again")
        return load_into(net, self.path, self.layouts, content)


@dataclass(frozen=True)
class RecognizerPlan:
    """What a job comes to, as far as it is known before a picture is read.

    images: of the people who take part. others: (n,) bool, which of them are of people who are no class.
    classes: the people to tell apart.
    steps: of the training.
    record: what its card says of data and settings.
    fingerprint: hash of all that decides the recognizer, which `described` has.
    pictures: of all that leads to it; None where those of its start are not recorded.
    """

    job: RecognizerJob
    store: Store
    images: Images
    others: np.ndarray
    classes: list[str]
    steps: int
    start: Start
    spec: RecognizerSpec
    record: dict[str, Any]
    described: dict[str, Any]
    pictures: KnownPictures | None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json_text(self.described).encode()).hexdigest()


def plan_recognizer(job: RecognizerJob) -> RecognizerPlan:
    """Look at a job; nothing is written, and no picture read. Raises as `train_recognizer`."""
    job.settings.check()
    name = _name(job.output)
    store = Store.open(job.store)
    refuse_done(store.manifest, store.folder, reason="a recognizer is trained on images as they are")
    images = choose_images(store, job.people, job.exclude, job.min_images, _HELD_OUT)
    others = held_out_people(images.names, images.paths, job.validation)
    classes = sorted({name for name, out in zip(images.names, others, strict=True) if not out})
    if len(classes) < 2:
        left = f"with {job.validation:g} of the people held out, {len(classes)} of them are left to train on"
        raise BadInput(f"{store.folder}: {left}, of two at least; lower --validation, or give more people")
    start = _start(job)
    settings, names, backbone = job.settings, set(images.names), BACKBONES[job.settings.backbone]
    rows = store.rows().take(images.rows).to_pylist()
    pictures = KnownPictures.of(rows, store.templates()[images.rows], store.made_by)
    known = start.known | Known(names, pictures)
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
        feature_layers=TRAINED_LAYERS[backbone.architecture],
        config=backbone_config(settings),
        training_people=tuple(sorted(known.people)),
    )
    record = {
        "store": store.fingerprint,
        "start": start.sha256,
        "settings": settings.describe(),
        "min_images": job.min_images,
        "validation": job.validation,
        "held_out_people": sorted(names - set(classes)),
        "images": len(images.rows),
        "left_out": images.left_out,
    }
    described = {**record, "classes": classes, "architecture": spec.architecture, "config": spec.config}
    described |= {"crop": spec.crop.describe(), "version": VERSION}
    steps = count_steps(int(np.count_nonzero(~others & ~images.held_out)), settings)
    return RecognizerPlan(job, store, images, others, classes, steps, start, spec, record, described, known.pictures)


def _start(job: RecognizerJob) -> Start:
    """Refuses another backbone's recognizer before any picture is read."""
    if job.start is None:
        return Start()
    settings, architecture = job.settings, BACKBONES[job.settings.backbone].architecture
    if folder := trained_folder(job.start):
        if folder.resolve() == job.output.resolve():
            raise UsageError(f"--start and -o are both {folder}, which would be overwritten; name another folder")
        spec = read_card(folder).spec(folder)
        if (spec.architecture, dict(spec.config)) != (architecture, backbone_config(settings)):
            what = f"{folder}: a {spec.architecture} for crops of {spec.crop.size} px"
            raise BadInput(f"{what}; --start takes one of the same --backbone and --image-size")
        return Start(folder / WEIGHTS, known_to(spec))
    if settings.backbone != "resnet50":
        raise UsageError(f"--start {job.start}: give the folder of a recognizer that was trained here")
    if not job.start.is_file():
        raise MissingWeights(f"--start {job.start}: no such file, nor the folder of a trained recognizer")
    return Start(job.start, layouts=RESNET50)


def _name(output: Path) -> str:
    """A recognizer's name is its folder's; refused where options or records could not spell it."""
    name = output.resolve().name
    if name in REGISTRY or name in IMAGE_NETWORKS:
        raise UsageError(f"-o {output}: {name} is another network's name; name the folder otherwise")
    if not is_name(name) or set(name) & set("@:=+[](),<>"):
        rule = "no name begins with a dot, has spaces at an end or one of @:=+[](),<>\\"
        raise UsageError(f"-o {output}: a recognizer is named as its folder, and {rule}")
    return name


def train_recognizer(
    job: RecognizerJob, device: str = "cpu", reading: Progress = silent, training: Progress = silent
) -> dict:
    """Train the recognizer of a job, or resume it; if it is already there with the same settings, do nothing.

    The folder is then one that `load_recognizer` takes. While it trains, it has the state and the curve. Returns the
    `training` of its card: data, settings, and figures of images and people held out.

    Raises:
        BadInput: the store, its images or its people cannot be used; the loss diverged.
        UsageError: settings that no run can have, or a folder's name that no recognizer can have.
        OutputError: the folder holds another recognizer or run, and `overwrite` is off.
        MissingWeights: those to start from are not there.
    """
    plan = plan_recognizer(job)
    fingerprint, settings = plan.fingerprint, job.settings
    make_folder(job.output)
    for file, what in ((MANIFEST, "an embedding store"), ("decoder.json", "a decoder")):
        if (job.output / file).exists():
            raise OutputError(f"{job.output} is {what}; name another folder for the recognizer")
    with locked(job.output):
        if not job.overwrite and (job.output / CARD).exists():
            finished = read_card(job.output).training
            if finished.get("fingerprint") != fingerprint:
                raise OutputError(f"{job.output} holds another recognizer; use --overwrite or another folder")
            return finished
        faces = _faces(plan, reading)
        if job.overwrite:  # only now: had an input been missing, what is there would have stayed
            for file in (CARD, STATE):
                (job.output / file).unlink(missing_ok=True)
        torch.manual_seed(settings.seed)
        net = plan.start.load(new_backbone(settings))
        run = RecognizerRun(faces, net, settings, job.output, fingerprint, torch.device(device))
        run.run(training)
        figures = {"steps": run.steps, "curve": run.curve, **_figures(run)}
        made = {**plan.record, **figures, "fingerprint": fingerprint, "device": device, "tool_version": __version__}
        _write(plan, run.averaged().cpu(), made)
    return made


def _faces(plan: RecognizerPlan, reading: Progress) -> FaceSplit:
    """The crops of the plan's images."""
    images, others, crop = plan.images, plan.others, plan.spec.crop
    require_memory(
        2 * 3 * len(images.rows) * crop.size**2,  # once more while they are parted
        f"{len(images.rows)} crops of {crop.size} px",
        "train on fewer people (--people, or a larger --min-images) or smaller crops (--image-size)",
    )
    rows = plan.store.rows().take(images.rows).to_pylist()
    crops = read_crops(rows, plan.store.images(plan.job.images), crop, reading)
    number = {name: k for k, name in enumerate(plan.classes)}

    def part(which: np.ndarray, classed: bool) -> Faces:
        names = [images.names[i] for i in np.flatnonzero(which)]
        return Faces(crops[which], names, np.array([number[n] for n in names], np.int64) if classed else None)

    return FaceSplit(part(~others & ~images.held_out, True), part(~others & images.held_out, True), part(others, False))


def _figures(run: RecognizerRun) -> dict[str, Any]:
    """JSON: what the finished network does, and of how many images."""
    net = run.averaged()
    right = named_right(net, run.held_out, run.device)
    rate = equal_error_rate(net["backbone"], run.others, run.device)
    return {
        "classes": int(run.train.classes.max()) + 1,
        "training_images": len(run.train),
        "classification": {"images": len(right), **accuracies(right, run.held_out.names)},
        "verification": {"people": len(set(run.others.names)), "images": len(run.others), "eer": rate},
    }


def _write(plan: RecognizerPlan, net: nn.ModuleDict, training: dict) -> None:
    """Weights first, the card, which makes a recognizer of them, last."""
    folder, spec, classes = plan.job.output, plan.spec, plan.classes
    weights = save_tensors({name: t.contiguous() for name, t in net["backbone"].state_dict().items()})
    write_bytes(folder / WEIGHTS, weights)
    write_bytes(folder / "head.safetensors", save_tensors(dict(net["head"].state_dict())))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    identity = spec.describe(hashlib.sha256(weights).hexdigest())
    config = NetworkConfig.from_json(folder / CARD, spec.config)
    pictures = None if plan.pictures is None else plan.pictures.write(folder / FILE)
    card = RecognizerCard(identity, spec.architecture, config, tuple(classes), training, known_pictures=pictures)
    write_json(folder / CARD, card.as_json())
