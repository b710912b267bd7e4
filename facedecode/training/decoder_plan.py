"""What the training of a decoder comes to: who is trained on, through which networks, and what is recorded of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from facedecode.annotations.protocols import held_out_people, require_share, select_people
from facedecode.decoders import Decoder, find_decoder, load_decoder
from facedecode.decoders.kinds import find_kind
from facedecode.decoders.training_record import network_and_layers, networks_looked_through
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.files import json_text
from facedecode.perceptual.phi import PerceptualNetwork, RecognizerMaps, load_phi
from facedecode.pictures import align
from facedecode.recognizers import load_described
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store, require_same_recognizer
from facedecode.store.layout import MANIFEST
from facedecode.training.decoder_run import VERSION, require_gradients
from facedecode.training.decoder_settings import TrainSettings
from facedecode.training.trainer import count_steps


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
        settings: of a network's training; `decoder_settings.DEFAULTS` has what each is trained with by default. Of a
            closed form, the size of its pictures.
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


@dataclass(frozen=True)
class Plan:
    """What a job comes to, as far as it is known before a picture is read.

    Attributes:
        rows: of the store's images that take part; `chosen` are their numbers in it.
        held_out: (n,) bool, of which rows the curve is; none of a closed form's.
        steps: of a network's training; 0 of a closed form.
        provenance: what is recorded of the data, settings and networks.
        described, fingerprint: all that decides the decoder, and its hash.
    """

    job: DecoderJob
    store: Store
    chosen: np.ndarray
    rows: list[dict]
    held_out: np.ndarray
    steps: int
    start: Decoder | None
    recognizer: Recognizer | None
    phi: list[PerceptualNetwork]
    provenance: dict
    described: dict

    @property
    def closed(self) -> bool:
        """Whether the decoder is fitted at once."""
        return find_kind(self.job.architecture).fitting == "closed form"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json_text(self.described).encode()).hexdigest()


def plan_training(job: DecoderJob, device: str = "cpu") -> Plan:
    """Look at a job, and load the networks that it needs; nothing is written, and no picture read.

    Raises:
        BadInput: the store, its people, or what is gone on from cannot be used.
        UsageError: an unknown architecture, or settings that no run can have.
        OutputError: the output is an embedding store.
        MissingWeights: a term needs a network, and its weights are not found.
    """
    kind = find_kind(job.architecture)
    if kind.fitting == "generator":
        raise UsageError(f"a {job.architecture} decoder is not trained on a store's images: see training/latent.py")
    closed = kind.fitting == "closed form"
    if (job.output / MANIFEST).exists():
        raise OutputError(f"{job.output} is an embedding store; name another folder for the decoder")
    job.settings.check(job.architecture)
    require_share(job.validation)
    store = Store.open(job.store)
    if store.manifest.get("l2_normalized"):
        raise BadInput(f"{job.store}: its templates are normalized, and decoders take raw ones; train on the raw store")
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], job.people, job.exclude)
    rows = [rows[i] for i in chosen]
    held_out = np.zeros(len(rows), bool)
    if not closed:
        held_out = held_out_people([row["identity"] for row in rows], [row["path"] for row in rows], job.validation)
    settings = asdict(job.settings) if not closed else {"image_size": job.settings.image_size}
    start = _start(job, store.recognizer) if job.start else None
    before = start.provenance.training if start else {}
    # Known by what the run takes from elsewhere: nobody of them is held out, whatever the run holds out of its own.
    known = {*(store.manifest.get("fitted_on") or []), *before.get("known_otherwise", [])}
    provenance = {
        "start": before.get("fingerprint"),
        "store": store.fingerprint,
        "transform": store.manifest.get("transform"),
        "settings": settings,
        "validation": 0 if closed else job.validation,
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
        recognizer, phi = networks_of_loss(job, store.recognizer, device)
        provenance["phi"] = [network.describe() for network in phi]
        # Gradients bring what a network learned of the people whom it was trained on. Those of ξ its store names.
        others = (network.recognizer for network in phi if network.name != store.recognizer["name"])
        known |= {person for other in others if other for person in other.spec.training_people}
    provenance["people"] = sorted({row["identity"] for row in rows} - {None} | known | set(before.get("people", [])))
    if known:
        provenance["known_otherwise"] = sorted(known)
    described = {"architecture": job.architecture, "frame": align.PORTRAIT_POINTS, "half": job.half, **provenance}
    described["version"] = None if closed else VERSION
    provenance |= _history(job, start, store.recognizer["name"], phi)
    trained_on = np.count_nonzero(~held_out) * (2 if job.settings.mirror else 1)
    steps = 0 if closed else count_steps(trained_on, job.settings)
    return Plan(job, store, chosen, rows, held_out, steps, start, recognizer, phi, provenance, described)


def networks_of_loss(job: DecoderJob, made_by: dict, device: str) -> tuple[Recognizer | None, list[PerceptualNetwork]]:
    """ξ and φ, as far as the terms, or mirrored images, need them; of `job`, only the store is not looked at.

    made_by: the recognizer of the templates, `Recognizer.describe()`.

    Raises:
        UsageError: a term without its network, or one that gives no gradients.
        MissingWeights: a network's weights are not found.
        BadInput: weights of another network than the templates'.
    """
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
    if find_kind(job.architecture).fitting == "closed form":
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
    if not start.provenance.training.get("fingerprint"):
        raise BadInput(
            f"{job.start}: does not record the run that made it, so that one that goes on from it could not be told "
            "from others; train it again"
        )
    same = start.kind == job.architecture and start.image_size == job.settings.image_size
    if find_kind(job.architecture).fitting != "gradients" or not same:
        raise BadInput(
            f"{job.start}: a {start.kind} decoder of {start.image_size} px; --start goes on from a network of the same "
            "--architecture and --image-size"
        )
    # The gain belongs to the finished decoder; going on, it is the new run's to set.
    start.net.template_scale.mul_(start.provenance.training.get("settings", {}).get("gain", 1.0))
    return start
