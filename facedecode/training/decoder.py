"""From a store to a decoder on disk: what a job comes to, and the training."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedecode import __version__
from facedecode.annotations.protocols import held_out_people, require_share, select_people
from facedecode.decoders import Decoder, Provenance, find_decoder, load_decoder, load_decoder_for, save_decoder
from facedecode.decoders.base import DecoderNetwork, TrainedNetwork, closed_form, trained_network
from facedecode.decoders.kinds import DecoderKind, find_kind
from facedecode.decoders.own_templates import check_store
from facedecode.decoders.plausibility import TemplateStatistics
from facedecode.decoders.training_record import TrainingRecord, network_and_layers
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.files import json_text, locked, make_folder
from facedecode.identity import RecognizerId
from facedecode.known_pictures import Known, KnownPictures
from facedecode.memory import require_memory
from facedecode.perceptual.phi import PerceptualNetwork, RecognizerMaps, load_phi
from facedecode.pictures import align
from facedecode.progress import Progress, silent
from facedecode.ranks import Ranks
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import known_to
from facedecode.records import plain, read_json
from facedecode.store import ImageFolder, Store
from facedecode.store.images import read_mirrored, read_portraits
from facedecode.store.layout import MANIFEST
from facedecode.training.decoder_run import VERSION, Pairs, TrainingInputs, require_gradients, train_decoder
from facedecode.training.jobs import DecoderJob, TrainSettings
from facedecode.training.losses import PersonPrediction
from facedecode.training.trainer import STATE, count_steps


@dataclass(frozen=True)
class DecoderPlan:
    """What a job comes to, as far as it is known before a picture is read.

    settings: the job's, with the channels that its width stands for.
    rows: of the store's images that take part; `chosen` are their numbers in it.
    held_out: (n,) bool, which rows the curve is of; none of a closed form's.
    steps: of a network's training; 0 of a closed form.
    recognizer, phi: the networks that the loss looks through.
    record: what the decoder's file says of data, settings and networks.
    fingerprint: hash of all that decides the decoder, which `described` has.
    pictures: of all that leads to it; None where the record of something that it takes lacks them.
    """

    job: DecoderJob
    kind: DecoderKind
    settings: TrainSettings
    store: Store
    chosen: np.ndarray
    rows: list[dict[str, Any]]
    held_out: np.ndarray
    steps: int
    start: TrainedNetwork | None
    recognizer: Recognizer | None
    phi: list[PerceptualNetwork]
    record: dict[str, Any]
    described: dict[str, Any]
    pictures: KnownPictures | None

    @property
    def closed(self) -> bool:
        """Whether the decoder is fitted at once."""
        return self.kind.fitting == "closed form"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json_text(self.described).encode()).hexdigest()

    @property
    def image_root(self) -> ImageFolder:
        """The folder that the rows' paths start from."""
        return self.store.images(self.job.images)


def plan_training(job: DecoderJob, device: str = "cpu") -> DecoderPlan:
    """Look at a job, and load the networks that it needs; nothing is written, and no picture read.

    Raises as `train_store`.
    """
    kind, settings = find_kind(job.architecture), job.settings
    if (job.output / MANIFEST).exists():
        raise OutputError(f"{job.output} is an embedding store; name another folder for the decoder")
    job.check()
    require_share(job.validation)
    closed = kind.fitting == "closed form"
    if job.width not in (None, 1) and not closed:
        settings = replace(settings, widths=trained_network(kind.name).usual_widths(settings.image_size, job.width))
    store = Store.open(job.store)
    if store.manifest.l2_normalized:
        raise BadInput(f"{job.store}: its templates are normalized, and decoders take raw ones; train on the raw store")
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], job.people, job.exclude)
    rows = [rows[i] for i in chosen]
    held_out = np.zeros(len(rows), bool)
    if not closed:
        held_out = held_out_people([row["identity"] for row in rows], [row["path"] for row in rows], job.validation)
    start, earlier, made_from = None, TrainingRecord(), store.known
    if job.start:
        start, earlier, known_before = _start(job, store.recognizer)
        made_from |= known_before
    # People in what the run takes from elsewhere: nobody of them is held out, whoever is of the run's own.
    known = {*store.manifest.fitted_on, *earlier.known_otherwise}
    record: dict[str, Any] = {
        "start": earlier.fingerprint,
        "store": store.fingerprint,
        "transform": store.manifest.transform,
        "settings": {"image_size": settings.image_size} if closed else asdict(settings) | {"phi": list(job.phi)},
        "validation": 0 if closed else job.validation,
        "images": len(rows),
    }
    recognizer: Recognizer | None = None
    phi: list[PerceptualNetwork] = []
    if not closed:
        changed = record["transform"] or store.manifest.mapping or store.manifest.disentanglement
        if settings.mirror and changed:
            raise BadInput(f"{job.store}: mirrored images would lack its change ({changed}); train with --no-mirror")
        recognizer, phi = networks_of_loss(job, store.recognizer, device)
        record["phi"] = [network.describe() for network in phi]
        # Gradients carry what a network learned of its training people. The store names those of ξ.
        others = (network.recognizer for network in phi if network.name != store.recognizer.name)
        for learned in (known_to(other.spec) for other in others if other):
            known |= {*learned.people}
            made_from |= learned
    record["people"] = sorted({row["identity"] for row in rows} - {None} | known | set(earlier.people or ()))
    if known:
        record["known_otherwise"] = sorted(known)
    described = {"architecture": job.architecture, "frame": align.PORTRAIT_POINTS, "half": job.half, **record}
    described["version"] = None if closed else VERSION
    record |= {"looked_through": [], "held_out": 0} if closed else _history(job, earlier, store.recognizer.name, phi)
    made_from |= Known((), KnownPictures.of(rows, store.templates()[chosen], store.made_by))
    trained_on = int(np.count_nonzero(~held_out)) * (2 if settings.mirror else 1)
    steps = 0 if closed else count_steps(trained_on, settings)
    return DecoderPlan(
        *(job, kind, settings, store, chosen, rows, held_out, steps, start, recognizer, phi, record, described),
        made_from.pictures,
    )


def networks_of_loss(
    job: DecoderJob, made_by: RecognizerId, device: str
) -> tuple[Recognizer | None, list[PerceptualNetwork]]:
    """ξ and φ, as far as the terms, or mirrored images, need them; of `job`, only the store is not looked at.

    made_by: the recognizer of the templates, `Recognizer.describe()`.

    Raises:
        UsageError: a term without its network, or one that gives no gradients.
        MissingWeights: a network's weights are not found.
        BadInput: weights of another network than the templates'.
    """
    weights, files, recognizer, phi = job.settings.weights, job.phi, None, []
    names = [(spelled, *network_and_layers(spelled)) for spelled in files or (made_by.name,)]
    # One network, whichever option names its file.
    named = [job.weights, *(files.get(spelled) for spelled, name, _ in names if name == made_by.name)]
    own_files = {path.resolve() for path in named if path}
    if len(own_files) > 1:
        raise UsageError(f"--weights and --phi name two files for {made_by.name}; leave one out")
    perceptual = weights.perceptual or weights.local_perceptual
    is_phi = made_by.name in {name for _, name, _ in names}
    if weights.identity or (perceptual and is_phi) or job.settings.mirror:
        recognizer = load_recognizer(made_by, next(iter(own_files), None), device)
    if perceptual:
        phi = [
            RecognizerMaps(recognizer, layers)
            if name == made_by.name
            else load_phi(spelled, files.get(spelled), device)
            for spelled, name, layers in names
        ]
    require_gradients(weights, recognizer, phi)  # before any picture is read
    return recognizer, phi


def _history(job: DecoderJob, earlier: TrainingRecord, recognizer: str, phi: list[PerceptualNetwork]) -> dict[str, Any]:
    """What the record says of this run and those before it together (`earlier`: the record of the last of them).

    looked_through: networks whose gradients shaped the decoder, by their own names, whatever `--phi` calls their
        files; absent where that is not known.
    held_out: share of the people whom no run was trained on (`held_out_people`: who is of a smaller share is of a
    larger one, too).
    """
    names, held_out = {network.name for network in phi}, job.validation
    if job.settings.weights.identity:
        names.add(recognizer)
    if job.start:
        before = earlier.networks_looked_through(recognizer)
        if before is None:
            names = None
        else:
            names |= before
        held_before = earlier.validation if earlier.held_out is None else earlier.held_out
        held_out = min(held_out, held_before or 0)
    return {"held_out": held_out} | ({} if names is None else {"looked_through": sorted(names)})


def _start(job: DecoderJob, recognizer: RecognizerId) -> tuple[TrainedNetwork, TrainingRecord, Known]:
    """The network to go on from, its record, and what it was made from; refused where it is of another kind or size."""
    if find_decoder(job.start).resolve() == job.output.resolve():
        raise UsageError(f"--start and -o are both {job.output}, which would be overwritten; name another folder")
    start = load_decoder_for(recognizer, job.start)
    if not start.provenance.training.fingerprint:
        raise BadInput(f"{job.start}: does not record the run that made it, as --start needs; train it again")
    same = start.kind == job.architecture and start.image_size == job.settings.image_size
    if not isinstance(start.net, TrainedNetwork) or not same:
        what = f"{job.start}: a {start.kind} decoder of {start.image_size} px"
        raise BadInput(f"{what}; --start takes a network of the same --architecture and --image-size")
    # The gain belongs to the finished decoder; the new run sets its own.
    record = start.provenance.training
    start.net.template_scale.mul_(record.settings.gain or 1.0)
    return start.net, record, start.known


def train_store(
    job: DecoderJob,
    device: str = "cpu",
    reading: Progress = silent,
    training: Progress = silent,
    ranks: Ranks | None = None,
) -> Decoder | None:
    """Train the decoder of a job, or resume it; if it is already there with the same settings, load it.

    ranks: the processes that train together, see `train_decoder`; on others than the first, the result is None.

    Raises:
        BadInput: the store, its images, its people or the decoder to go on from cannot be used; the loss diverged.
        UsageError: settings that no run can have; several processes for a closed form, or for different work.
        PeerLost: one of the processes is gone.
        OutputError: the folder holds a store, or another decoder or run, and `overwrite` is off.
        MissingWeights: a term needs a network, and its weights are not found.
    """
    plan = plan_training(job, device)
    ranks = ranks or Ranks()
    if plan.closed and (ranks.count > 1 or job.accumulate > 1):
        raise UsageError(f"{job.architecture} is fitted at once, by one process; leave out torchrun and --accumulate")
    device_type = torch.device(device).type  # tensors go through gloo or NCCL, the same way everywhere
    ranks.agree({"command": "train", "tool_version": __version__, "device": device_type, **plan.described})
    if ranks.first:
        make_folder(job.output)
    with locked(job.output) if ranks.first else nullcontext():
        ready = None
        if ranks.first and not job.overwrite:
            ready = ready_decoder(job.output, plan.fingerprint, device, resumes=not plan.closed)
        if ranks.from_first(ready is not None):
            return ready
        pairs = _read_pairs(plan, ranks.local_count, reading)
        if job.overwrite and ranks.first:  # only now: had an input been missing, what is there would have stayed
            remove_decoder(job.output)
        score = plan.store.score
        figures: dict[str, Any] = {}
        net: DecoderNetwork
        if plan.closed:
            portraits = torch.from_numpy(pairs.portraits).permute(0, 3, 1, 2)
            net = closed_form(job.architecture)(pairs.templates.shape[1], plan.settings.image_size)
            net.fit(torch.from_numpy(pairs.templates), portraits, score)
        else:
            inputs = TrainingInputs(
                *_split(plan, pairs, reading),
                settings=plan.settings,
                folder=job.output,
                fingerprint=plan.fingerprint,
                score=score,
                architecture=job.architecture,
                recognizer=plan.recognizer,
                phi=plan.phi,
                start=plan.start,
                accumulate=job.accumulate,
            )
            net, figures = train_decoder(inputs, device, ranks, training)
        if not ranks.first:
            return None
        templates = TemplateStatistics.of(pairs.templates)
        made = {
            **plan.record,
            **figures,
            "templates": plain(templates),
            "fingerprint": plan.fingerprint,
            "device": device,
        }
        made |= {"tool_version": __version__, "processes": ranks.count, "accumulate": job.accumulate}
        record = TrainingRecord.from_json(job.output, made)
        provenance = Provenance(plan.store.recognizer, training=record)
        save_decoder(job.output, job.architecture, net, provenance, job.half, plan.pictures)
    return load_decoder(job.output, device)


def _read_pairs(plan: DecoderPlan, processes: int, reading: Progress) -> Pairs:
    """All pairs of the plan. Raises WouldNotFit: more than the memory of so many processes here."""
    size = plan.settings.image_size
    # Portraits once, and once more while they are split, joined or, for a closed form, laid out anew.
    copies = 5 if plan.settings.mirror and not plan.closed else 2
    require_memory(
        processes * copies * 3 * len(plan.rows) * size**2,
        f"{len(plan.rows)} portraits of {size} px",
        "train on fewer people (--people) or smaller portraits (--image-size)",
    )
    check_store(plan.store)
    portraits = read_portraits(plan.rows, plan.image_root, size, progress=reading)
    return Pairs(plan.store.templates()[plan.chosen], portraits)


def _split(plan: DecoderPlan, pairs: Pairs, reading: Progress) -> tuple[Pairs, Pairs]:
    """Pairs to train on, with their mirrored ones and with targets where the settings want them, and to validate on."""
    settings, held_out = plan.settings, plan.held_out
    train, validation = pairs.part(~held_out), pairs.part(held_out)
    prediction = None
    if settings.weights.identity and settings.identity_target == "person":
        names = np.array([row["identity"] for row in plan.rows], object)
        prediction = PersonPrediction.fit(train.templates, names[~held_out], plan.store.score)
    if settings.mirror:
        kept = [row for row, out in zip(plan.rows, held_out, strict=True) if not out]
        mirrored = read_mirrored(kept, plan.image_root, settings.image_size, plan.recognizer, progress=reading)
        train = train.joined(Pairs(*mirrored))
    if prediction:
        train.targets = prediction.apply(train.templates)
    return train, validation


def remove_decoder(folder: Path) -> None:
    """Remove a finished decoder's card, without which it is none, and the state of an unfinished one."""
    for name in ("decoder.json", STATE):
        (folder / name).unlink(missing_ok=True)


def ready_decoder(folder: Path, fingerprint: str, device: str, *, resumes: bool) -> Decoder | None:
    """The finished decoder of the same job, if it is there.

    resumes: the job takes up a saved state, and so sees by itself if it is another job's.

    Raises OutputError: another job's decoder is there, or its state.
    """
    card = folder / "decoder.json"
    if not card.exists():
        if not resumes and (folder / STATE).exists():
            raise OutputError(f"{folder} holds an unfinished training; use --overwrite or another folder")
        return None
    try:
        saved = read_json(card).get("training")
    except BadInput:
        saved = None
    if not isinstance(saved, dict) or saved.get("fingerprint") != fingerprint:
        raise OutputError(f"{folder} holds another decoder; use --overwrite or another folder")
    return load_decoder(folder, device)
