"""From a store to a decoder on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from facedecode import __version__
from facedecode.decoders import Decoder, Provenance, load_decoder, save_decoder
from facedecode.decoders.kinds import KINDS
from facedecode.errors import OutputError, UsageError
from facedecode.files import locked, make_folder
from facedecode.memory import require_memory
from facedecode.ranks import Ranks
from facedecode.store.images import read_mirrored, read_portraits
from facedecode.training.decoder_plan import DecoderJob, Plan, plan_training
from facedecode.training.decoder_run import Pairs, train_decoder
from facedecode.training.losses import PersonPrediction
from facedecode.training.trainer import STATE

Progress = Callable[..., None]


def train_store(
    job: DecoderJob,
    device: str = "cpu",
    reading: Progress | None = None,
    training: Progress | None = None,
    ranks: Ranks | None = None,
) -> Decoder | None:
    """Train the decoder of a job, or resume it; if it is already there with the same settings, load it.

    ranks: the processes that train together, see `train_decoder`; on others than the first, the result is None.

    Raises:
        BadInput: the store, its images or its people cannot be used; the loss diverged.
        UsageError: an unknown architecture, several processes for a closed form, or started for different work.
        PeerLost: one of the processes is gone.
        OutputError: the folder holds another decoder or run, and `overwrite` is off.
        MissingWeights: a term needs a network, and its weights are not found.
    """
    plan = plan_training(job, device)
    closed, store, rows, provenance, fingerprint = plan.closed, plan.store, plan.rows, plan.provenance, plan.fingerprint
    ranks = ranks or Ranks()
    if closed and (ranks.count > 1 or job.accumulate > 1):
        raise UsageError(f"{job.architecture} is fitted at once, by one process; leave out torchrun and --accumulate")
    device_type = torch.device(device).type  # tensors go through gloo or NCCL, the same way everywhere
    ranks.agree({"command": "train", "tool_version": __version__, "device": device_type, **plan.described})
    if ranks.first:
        make_folder(job.output)
    with locked(job.output) if ranks.first else nullcontext():
        ready = None
        if ranks.first and not job.overwrite:
            ready = ready_decoder(job.output, fingerprint, device, resumes=not closed)
        if ranks.from_first(ready is not None):
            return ready
        # Portraits once, and once more while they are split, joined or, for a closed form, laid out anew.
        copies = 5 if job.settings.mirror and not closed else 2
        require_memory(
            ranks.local_count * copies * 3 * len(rows) * job.settings.image_size**2,
            f"{len(rows)} portraits of {job.settings.image_size} px",
            "train on fewer people (--people) or smaller portraits (--image-size)",
        )
        root = job.images or store.root
        pairs = Pairs(
            store.templates()[plan.chosen], read_portraits(rows, root, job.settings.image_size, progress=reading)
        )
        if job.overwrite and ranks.first:  # only now: had an input been missing, what is there would have stayed
            (job.output / "decoder.json").unlink(missing_ok=True)
            (job.output / STATE).unlink(missing_ok=True)
        if closed:
            net, figures = _fit(job, pairs, store.manifest["score"]), {}
        else:
            train, validation = _split(plan, pairs, reading)
            net, figures = train_decoder(
                train,
                validation,
                plan.recognizer,
                job.settings,
                job.output,
                fingerprint,
                store.manifest["score"],
                device,
                training,
                plan.start.net if plan.start else None,
                plan.phi,
                ranks,
                job.accumulate,
                job.architecture,
            )
        if not ranks.first:
            return None
        made = {**provenance, **figures, "fingerprint": fingerprint, "device": device, "tool_version": __version__}
        made |= {"processes": ranks.count, "accumulate": job.accumulate}
        save_decoder(job.output, job.architecture, net, Provenance(store.recognizer, False, made), job.half)
    return load_decoder(job.output, device)


def _split(plan: Plan, pairs: Pairs, reading: Progress | None) -> tuple[Pairs, Pairs]:
    """Pairs to train on, with their mirrored ones and with targets where the settings want them, and to validate on."""
    settings, held = plan.job.settings, plan.held_out
    train, validation = pairs.part(~held), pairs.part(held)
    prediction = None
    if settings.weights.identity and settings.identity_target == "person":
        names = np.array([row["identity"] for row in plan.rows], object)
        prediction = PersonPrediction.fit(train.templates, names[~held], plan.store.manifest["score"])
    if settings.mirror:
        kept = [row for row, out in zip(plan.rows, held, strict=True) if not out]
        root = plan.job.images or plan.store.root
        train = train.joined(Pairs(*read_mirrored(kept, root, settings.image_size, plan.recognizer, progress=reading)))
    if prediction:
        train.targets = prediction.apply(train.templates)
    return train, validation


def _fit(job: DecoderJob, pairs: Pairs, score: str) -> torch.nn.Module:
    net = KINDS[job.architecture].network(pairs.templates.shape[1], job.settings.image_size)
    return net.fit(torch.from_numpy(pairs.templates), torch.from_numpy(pairs.portraits).permute(0, 3, 1, 2), score)


def ready_decoder(folder: Path, fingerprint: str, device: str, *, resumes: bool) -> Decoder | None:
    """The finished decoder of the same job, if it is there.

    resumes: the job takes up a saved state, and so tells by itself whose it is.

    Raises:
        OutputError: another job's decoder is there, or its state.
    """
    card = folder / "decoder.json"
    if not card.exists():
        if not resumes and (folder / STATE).exists():
            raise OutputError(f"{folder} holds an unfinished training; use --overwrite or another folder")
        return None
    try:
        there = json.loads(card.read_text(encoding="utf-8")).get("training", {}).get("fingerprint")
    except ValueError:
        there = None
    if there != fingerprint:
        raise OutputError(f"{folder} holds another decoder; use --overwrite or another folder")
    return load_decoder(folder, device)
