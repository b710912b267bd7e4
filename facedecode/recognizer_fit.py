"""From a store's images to a recognizer on disk: who is a class, who is held out, which crops, and the record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from facedecode import __version__
from facedecode.align import named_crop
from facedecode.classifier_fit import accuracies
from facedecode.classifier_images import Images, choose_images
from facedecode.errors import BadInput, MissingWeights, OutputError, UsageError
from facedecode.files import json_text, locked, make_folder, sha256_file, write_bytes, write_json, write_text
from facedecode.memory import require_memory
from facedecode.protocols import held_out_people
from facedecode.recognizer_training import (
    BACKBONES,
    MEAN,
    SCALE,
    VERSION,
    Faces,
    RecognizerRun,
    RecognizerSettings,
    equal_error_rate,
    right,
)
from facedecode.recognizers.layouts import RESNET50
from facedecode.recognizers.spec import REGISTRY, RecognizerSpec
from facedecode.recognizers.trained import ARCHITECTURES, CARD, WEIGHTS, card_of, read_card, read_spec, trained_folder
from facedecode.resumable import STATE
from facedecode.store import Store
from facedecode.store.layout import MANIFEST
from facedecode.store_images import read_crops
from facedecode.store_state import refuse_done
from facedecode.weights_file import Layout, load_into

Progress = Callable[..., None]
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


def train_recognizer(
    job: RecognizerJob, device: str = "cpu", reading: Progress | None = None, training: Progress | None = None
) -> dict:
    """Train the recognizer of a job, or resume it; if it is already there with the same settings, do nothing.

    The folder is then one that `load_recognizer` takes. While it trains, it has the state and the curve.

    Returns:
        The `training` of its card: data, settings, and figures of images and people held out.

    Raises:
        BadInput: the store, its images or its people cannot be used; the loss diverged.
        UsageError: settings that no run can have, or a folder's name that no recognizer can have.
        OutputError: the folder holds another recognizer or run, and `overwrite` is off.
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
    fingerprint = hashlib.sha256(json_text(described).encode()).hexdigest()
    make_folder(job.output)
    for file, what in ((MANIFEST, "an embedding store"), ("decoder.json", "a decoder")):
        if (job.output / file).exists():
            raise OutputError(f"{job.output} is {what}; name another folder for the recognizer")
    with locked(job.output):
        if not job.overwrite and (job.output / CARD).exists():
            there = read_card(job.output).get("training", {})
            if there.get("fingerprint") != fingerprint:
                raise OutputError(f"{job.output} holds another recognizer; use --overwrite or another folder")
            return there
        parts = _crops(job, store, images, others, classes, spec, reading)
        if job.overwrite:  # only now: had an input been missing, what is there would have stayed
            for file in (CARD, STATE):
                (job.output / file).unlink(missing_ok=True)
        torch.manual_seed(settings.seed)
        net = start.load(settings.new_backbone())
        run = RecognizerRun(*parts, net, spec.dim, settings, job.output, fingerprint, torch.device(device))
        run.run(training)
        figures = {"steps": run.steps, "curve": run.curve, **_figures(run, *parts)}
        made = {**about, **figures, "fingerprint": fingerprint, "device": device, "tool_version": __version__}
        _write(job.output, spec, run.averaged().cpu(), classes, made)
    return made


@dataclass(frozen=True)
class _Start:
    """Weights to go on from. people: whom they were trained on, as far as that is known."""

    path: Path | None = None
    people: tuple[str, ...] = ()
    layouts: Sequence[Layout] = (Layout(),)

    @property
    def sha256(self) -> str | None:
        return None if self.path is None else sha256_file(self.path)

    def load(self, net: nn.Module) -> nn.Module:
        return net if self.path is None else load_into(net, self.path, self.layouts)


def _start(job: RecognizerJob) -> _Start:
    """Refuses another backbone's recognizer before any picture is read."""
    if job.start is None:
        return _Start()
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
        return _Start(folder / WEIGHTS, there.training_people)
    if settings.backbone != "resnet50":
        raise UsageError(f"--start {job.start}: give the folder of a recognizer that was trained here")
    if not job.start.is_file():
        raise MissingWeights(f"--start {job.start}: no such file, nor the folder of a trained recognizer")
    return _Start(job.start, layouts=RESNET50)


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


def _crops(
    job: RecognizerJob,
    store: Store,
    images: Images,
    others: np.ndarray,
    classes: list[str],
    spec: RecognizerSpec,
    reading: Progress | None,
) -> tuple[Faces, Faces, Faces]:
    """Faces of the classes to train on, others of the same people, and those of people held out."""
    size = spec.crop.size
    require_memory(
        2 * 3 * len(images.rows) * size**2,  # once more while they are parted
        f"{len(images.rows)} crops of {size} px",
        "train on fewer people (--people, or a larger --min-images) or smaller crops (--image-size)",
    )
    rows = store.rows().take(images.rows).to_pylist()
    crops = read_crops(rows, job.images or store.root, spec.crop, reading)
    number = {name: k for k, name in enumerate(classes)}

    def part(which: np.ndarray, classed: bool) -> Faces:
        names = [images.names[i] for i in np.flatnonzero(which)]
        return Faces(crops[which], names, np.array([number[n] for n in names], np.int64) if classed else None)

    return (
        part(~others & ~images.held_out, True),
        part(~others & images.held_out, True),
        part(others, False),
    )


def _figures(run: RecognizerRun, train: Faces, held_out: Faces, others: Faces) -> dict:
    """JSON: what the finished network does, and of how many images."""
    net = run.averaged()
    named = right(net, run.held_out, run.device)
    rate = equal_error_rate(net["backbone"], run.others, run.device)
    return {
        "classes": int(train.classes.max()) + 1,
        "training_images": len(train),
        "classification": {"images": len(named), **accuracies(named, run.held_out.names)},
        "verification": {"people": len(set(run.others.names)), "images": len(run.others), "eer": rate},
    }


def _write(folder: Path, spec: RecognizerSpec, net: nn.ModuleDict, classes: list[str], training: dict) -> None:
    """Weights first, the card, which makes a recognizer of them, last."""
    weights = save_tensors({name: t.contiguous() for name, t in net["backbone"].state_dict().items()})
    write_bytes(folder / WEIGHTS, weights)
    write_bytes(folder / "head.safetensors", save_tensors(dict(net["head"].state_dict())))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    write_json(folder / CARD, card_of(spec, hashlib.sha256(weights).hexdigest(), classes, training))
