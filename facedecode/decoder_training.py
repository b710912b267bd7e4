"""From a store to a decoder on disk: who is trained on, which pictures, which decoder, and its provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from facedecode import __version__, align
from facedecode.decoders import Decoder, Provenance, find_decoder, load_decoder, save_decoder
from facedecode.decoders.kinds import CLOSED_FORMS, NETWORKS, require_kind
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.files import json_text, locked, make_folder
from facedecode.memory import require_memory
from facedecode.person_mean import PersonPrediction
from facedecode.phi import PerceptualNetwork, RecognizerMaps, load_phi
from facedecode.protocols import held_out_people, require_share, select_people
from facedecode.ranks import Ranks
from facedecode.recognizers import load_described
from facedecode.recognizers.recognizer import Recognizer
from facedecode.resumable import STATE
from facedecode.store import Store, require_same_recognizer
from facedecode.store.layout import MANIFEST
from facedecode.store_images import read_mirrored, read_portraits
from facedecode.training import VERSION, Pairs, require_gradients, train_decoder
from facedecode.training_record import network_and_layers, networks_looked_through
from facedecode.training_settings import TrainSettings

Progress = Callable[..., None]


@dataclass(frozen=True)
class DecoderJob:
    """What to train, on whom, and where to.

    Attributes:
        store: made by `extract`.
        output: folder of the decoder.
        architecture: a key of `KINDS`.
        people: file with the people to train on; all of the store if None.
        exclude: people to leave out.
        validation: share of the people held out for the curve (of a network; closed forms use everybody).
        weights: the recognizer's weights file, where no package carries it.
        phi_weights: weights files of perceptual networks by name, likewise.
        images: where the store's images are, if not where its manifest says.
        half: save float16 tensors.
        start: a decoder to go on from, instead of a random network; its people count as trained on, too.
        accumulate: see `train_decoder`.
        settings: of a network's training; `training_settings.DEFAULTS` has what each is trained with by default. Of a closed
            form, the size of its pictures.
    """

    store: Path
    output: Path
    architecture: str = "dfd"
    people: Path | None = None
    exclude: tuple[str, ...] = ()
    validation: float = 0.1
    weights: Path | None = None
    phi_weights: Mapping[str, Path] = field(default_factory=dict)
    images: Path | None = None
    half: bool = False
    start: Path | None = None
    accumulate: int = 1
    overwrite: bool = False
    settings: TrainSettings = field(default_factory=TrainSettings)


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
    require_kind(job.architecture)
    if job.architecture not in NETWORKS | CLOSED_FORMS:
        raise UsageError(f"a {job.architecture} decoder is not trained on a store's images: see latent_training.py")
    closed = job.architecture in CLOSED_FORMS
    ranks = ranks or Ranks()
    if closed and (ranks.count > 1 or job.accumulate > 1):
        raise UsageError(f"{job.architecture} is fitted at once, by one process; leave out torchrun and --accumulate")
    job.settings.check(job.architecture)
    require_share(job.validation)
    store = Store.open(job.store)
    if store.manifest.get("l2_normalized"):
        raise BadInput(f"{job.store}: its templates are normalized, and decoders take raw ones; train on the raw store")
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], job.people, job.exclude)
    rows = [rows[i] for i in chosen]
    settings = asdict(job.settings) if not closed else {"image_size": job.settings.image_size}
    start = _start(job, store.recognizer) if job.start else None
    provenance = {
        "start": start.provenance.training.get("fingerprint") if start else None,
        "store": store.fingerprint,
        "transform": store.manifest.get("transform"),
        "settings": settings,
        "validation": 0 if closed else job.validation,
        "people": sorted(
            ({row["identity"] for row in rows} - {None})
            | set(store.manifest.get("fitted_on") or [])
            | set(start.provenance.training.get("people", []) if start else [])
        ),
        "images": len(rows),
    }
    recognizer, phi = None, []
    if not closed:
        done = provenance["transform"] or store.manifest.get("mapping") or store.manifest.get("disentanglement")
        if job.settings.mirror and done:
            raise BadInput(
                f"{job.store}: its images were perturbed, or its templates mapped or disentangled ({done}), and those "
                "of mirrored images would not be; train with --no-mirror"
            )
        recognizer, phi = _networks(job, store.recognizer, device)
        provenance["phi"] = [network.describe() for network in phi]
        # Gradients bring what a network learned of the people whom it was trained on. Those of ξ its store names.
        others = (network.recognizer for network in phi if network.name != store.recognizer["name"])
        known = {person for other in others if other for person in other.spec.training_people}
        provenance["people"] = sorted(known | set(provenance["people"]))
    described = {"architecture": job.architecture, "frame": align.PORTRAIT_POINTS, "half": job.half, **provenance}
    described["version"] = None if closed else VERSION
    provenance |= _history(job, start, store.recognizer["name"], phi)
    fingerprint = hashlib.sha256(json_text(described).encode()).hexdigest()
    device_type = torch.device(device).type  # tensors go through gloo or NCCL, the same way everywhere
    ranks.agree({"command": "train", "tool_version": __version__, "device": device_type, **described})
    if ranks.first:
        make_folder(job.output)
        if (job.output / MANIFEST).exists():
            raise OutputError(f"{job.output} is an embedding store; name another folder for the decoder")
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
        pairs = Pairs(store.templates()[chosen], read_portraits(rows, root, job.settings.image_size, progress=reading))
        if job.overwrite and ranks.first:  # only now: had an input been missing, what is there would have stayed
            (job.output / "decoder.json").unlink(missing_ok=True)
            (job.output / STATE).unlink(missing_ok=True)
        if closed:
            net, figures = _fit(job, pairs, store.manifest["score"]), {}
        else:
            train, validation = _split(job, store, rows, pairs, recognizer, reading)
            net, figures = train_decoder(
                train,
                validation,
                recognizer,
                job.settings,
                job.output,
                fingerprint,
                store.manifest["score"],
                device,
                training,
                start.net if start else None,
                phi,
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


def _split(
    job: DecoderJob,
    store: Store,
    rows: list[dict],
    pairs: Pairs,
    recognizer: Recognizer | None,
    reading: Progress | None,
) -> tuple[Pairs, Pairs]:
    """Pairs to train on, with their mirrored ones and with targets where the settings want them, and to validate on."""
    settings = job.settings
    names = np.array([row["identity"] for row in rows], object)
    held = held_out_people(names, [row["path"] for row in rows], job.validation)
    train, validation = pairs.part(~held), pairs.part(held)
    prediction = None
    if settings.weights.identity and settings.identity_target == "person":
        prediction = PersonPrediction.fit(train.templates, names[~held], store.manifest["score"])
    if settings.mirror:
        kept = [row for row, out in zip(rows, held, strict=True) if not out]
        train = train.joined(
            Pairs(*read_mirrored(kept, job.images or store.root, settings.image_size, recognizer, progress=reading))
        )
    if prediction:
        train.targets = prediction.apply(train.templates)
    return train, validation


def _networks(job: DecoderJob, made_by: dict, device: str) -> tuple[Recognizer | None, list[PerceptualNetwork]]:
    """ξ and φ, as far as the terms, or mirrored images, need them."""
    weights, recognizer, phi = job.settings.weights, None, []
    # One network, whichever option names its file.
    names = [(phi, *network_and_layers(phi)) for phi in job.settings.phi or (made_by["name"],)]
    given = [job.weights, *(job.phi_weights.get(phi) for phi, name, _ in names if name == made_by["name"])]
    files = {path.resolve() for path in given if path}
    if len(files) > 1:
        raise UsageError(f"--weights and --phi name two files for {made_by['name']}; leave one out")
    own = next(iter(files), None)
    perceptual = weights.perceptual or weights.local_perceptual
    is_phi = made_by["name"] in {name for _, name, _ in names}
    if weights.identity or (perceptual and is_phi) or job.settings.mirror:
        recognizer = load_described(made_by, own, device)
        require_same_recognizer(made_by, recognizer.describe(), "the recognizer of the loss")
    if perceptual:
        phi = [
            RecognizerMaps(recognizer, layers)
            if name == made_by["name"]
            else load_phi(phi, job.phi_weights.get(phi), device)
            for phi, name, layers in names
        ]
    require_gradients(weights, recognizer, phi)  # before any picture is read
    return recognizer, phi


def _history(job: DecoderJob, start: Decoder | None, recognizer: str, phi: Sequence[PerceptualNetwork]) -> dict:
    """What the record says of this run and those before it together.

    looked_through: networks whose gradients shaped the decoder, by their own names, whatever `--phi` calls their
        files; absent where that is not known.
    held_out: share of the people whom no run was trained on (`held_out_people`: who is of a smaller share is of a
    larger one, too).
    """
    if job.architecture in CLOSED_FORMS:
        return {"looked_through": [], "held_out": 0}
    names, held_out = {network.name for network in phi}, job.validation
    if job.settings.weights.identity:
        names.add(recognizer)
    if start:
        before = start.provenance.training
        earlier = networks_looked_through(before, recognizer)
        names = None if earlier is None else names | earlier
        held_out = min(held_out, before.get("held_out", before.get("validation", 0)))
    return {"held_out": held_out} | ({} if names is None else {"looked_through": sorted(names)})


def _start(job: DecoderJob, recognizer: dict) -> Decoder:
    """The decoder to go on from; refused where it is of another kind, recognizer or size."""
    if find_decoder(job.start).resolve() == job.output.resolve():
        raise UsageError(
            f"--start and -o are both {job.output}: what is gone on from would be lost; name another folder"
        )
    start = load_decoder(job.start)
    start.require_recognizer(recognizer, f"{job.start}: this decoder")
    same = start.kind == job.architecture and start.image_size == job.settings.image_size
    if job.architecture not in NETWORKS or not same:
        raise BadInput(
            f"{job.start}: a {start.kind} decoder of {start.image_size} px; --start goes on from a network of the same "
            "--architecture and --image-size"
        )
    # The gain belongs to the finished decoder; going on, it is the new run's to set.
    start.net.template_scale.mul_(start.provenance.training.get("settings", {}).get("gain", 1.0))
    return start


def _fit(job: DecoderJob, pairs: Pairs, score: str) -> torch.nn.Module:
    extra = {"score": score} if job.architecture == "nearest" else {}
    net = CLOSED_FORMS[job.architecture](pairs.templates.shape[1], job.settings.image_size, **extra)
    portraits = torch.from_numpy(pairs.portraits).permute(0, 3, 1, 2)
    return net.fit(torch.from_numpy(pairs.templates), portraits)


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
