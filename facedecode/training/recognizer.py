"""From a store's images to a recognizer on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_tensors
from torch import nn

from facedecode import __version__
from facedecode.classifiers.fit import accuracies
from facedecode.errors import OutputError
from facedecode.files import locked, make_folder, write_bytes, write_json, write_text
from facedecode.memory import require_memory
from facedecode.recognizers.registry import CARD, WEIGHTS, card_of, read_card
from facedecode.recognizers.spec import RecognizerSpec
from facedecode.store.images import read_crops
from facedecode.store.layout import MANIFEST
from facedecode.training.recognizer_plan import RecognizerJob, RecognizerPlan, plan_recognizer
from facedecode.training.recognizer_run import (
    Faces,
    RecognizerRun,
    equal_error_rate,
    right,
)
from facedecode.training.trainer import STATE

Progress = Callable[..., None]


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
    plan = plan_recognizer(job)
    fingerprint, settings = plan.fingerprint, job.settings
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
        parts = _crops(plan, reading)
        if job.overwrite:  # only now: had an input been missing, what is there would have stayed
            for file in (CARD, STATE):
                (job.output / file).unlink(missing_ok=True)
        torch.manual_seed(settings.seed)
        net = plan.start.load(settings.new_backbone())
        run = RecognizerRun(*parts, net, plan.spec.dim, settings, job.output, fingerprint, torch.device(device))
        run.run(training)
        figures = {"steps": run.steps, "curve": run.curve, **_figures(run, *parts)}
        made = {**plan.about, **figures, "fingerprint": fingerprint, "device": device, "tool_version": __version__}
        _write(job.output, plan.spec, run.averaged().cpu(), plan.classes, made)
    return made


def _crops(plan: RecognizerPlan, reading: Progress | None) -> tuple[Faces, Faces, Faces]:
    """Faces of the classes to train on, others of the same people, and those of people held out."""
    images, others, crop = plan.images, plan.others, plan.spec.crop
    require_memory(
        2 * 3 * len(images.rows) * crop.size**2,  # once more while they are parted
        f"{len(images.rows)} crops of {crop.size} px",
        "train on fewer people (--people, or a larger --min-images) or smaller crops (--image-size)",
    )
    rows = plan.store.rows().take(images.rows).to_pylist()
    crops = read_crops(rows, plan.job.images or plan.store.root, crop, reading)
    number = {name: k for k, name in enumerate(plan.classes)}

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
