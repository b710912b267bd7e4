"""A confidence map from a store: a decoder's pictures of people outside its training, beside their portraits."""

from __future__ import annotations

import warnings

import numpy as np

from facedecode.annotations.protocols import held_out_people, select_people
from facedecode.decoders import Decoder
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.inversion.confidence import Confidence, fit_confidence
from facedecode.inversion.jobs import ConfidenceJob
from facedecode.memory import require_memory
from facedecode.names import shared_people
from facedecode.progress import Stage, silent_stage
from facedecode.provenance import describe_decoder
from facedecode.store import Store
from facedecode.store.images import read_portraits
from facedecode.store.processing import require_extracted


def trained_people(decoder: Decoder, name: str) -> list[str]:
    """The people that a decoder's weights were fitted to: those in its record, without those that `train` held out.

    People that it knows in another way (a perceptual network was trained on them) count as trained on. The held-out
    people follow from the names (`held_out_people`) and the recorded share, for a decoder that went on from another
    (`train --start`) the smaller share of both. Raises BadInput: it records nobody.
    """
    training = decoder.provenance.training
    if not (people := training.people):
        raise BadInput(f"decoder {name}: it does not record the people it was trained on; train it again")
    share = training.validation if training.held_out is None else training.held_out
    held_out = held_out_people(people, [None] * len(people), share or 0.0)
    known = set(training.known_otherwise)
    return [person for person, out in zip(people, held_out, strict=True) if not out or person in known]


def fit_store_confidence(job: ConfidenceJob, store: Store, decoder: Decoder, stage: Stage = silent_stage) -> Confidence:
    """Fit the confidence map of a decoder on the templates of a store, and write it to `job.output`.

    People that the decoder or its recognizer was trained on are left out. A map that is there and was fitted on the
    same store with the same settings is loaded instead.

    store: of the job, opened. decoder: loaded from a folder.
    stage: gives a progress callback for each named stage.

    Raises:
        OutputError: another map is there, and `overwrite` is off.
        BadInput: the decoder was trained on all of the people, or has no record of them; the store is of another
            recognizer, of normalized templates, or of perturbed faces; images are missing; fewer than 5 people.
        WouldNotFit: the portraits would not fit in memory.
    """
    require_extracted(store)
    name = decoder.folder.name
    decoder.require_recognizer(store.recognizer, f"the decoder {name}")
    rows = store.rows().to_pylist()
    names = [row["identity"] for row in rows]
    selected = select_people(names, job.people, tuple(job.exclude))
    trained = shared_people(filter(None, names), {*trained_people(decoder, name), *store.recognizer.training_people})
    # Of the people held out, whom `trained` lacks, pictures are known and may be taken.
    held_out = shared_people(filter(None, names), decoder.known.people) - trained
    known = decoder.known | store.known
    pictured = known.judge(rows, store.templates(), store.made_by)
    if unsaid := known.not_compared(store.made_by):
        warnings.warn(f"decoder {name}: trained on {unsaid}", FacedecodeWarning, stacklevel=2)
    # A row without a name could be of anybody.
    chosen = [i for i in selected if names[i] and names[i] not in trained and (not pictured[i] or names[i] in held_out)]
    if not chosen:
        raise BadInput(
            f"decoder {name}: was trained on all of these people, and its errors on them are too small; give other "
            "people with --people, or another store"
        )
    chosen = sorted(chosen, key=lambda i: rows[i]["path"] or "")[: job.limit]
    rows = [rows[i] for i in chosen]
    described = describe_decoder(decoder)
    identities = [row["identity"] for row in rows]
    provenance = {"store": store.fingerprint, "decoder": described["sha256"], "limit": job.limit}
    people_used = sorted(set(identities))

    def same(other: Confidence) -> bool:
        return other.report.get("provenance") == provenance and other.fitted_on == people_used

    if finished := Confidence.finished(job.output, same, job.overwrite):
        return finished
    side = decoder.image_size
    require_memory(
        2 * 3 * len(rows) * side**2,
        f"{len(rows)} portraits of {side} px and their reconstructions",
        "fit on fewer people (--people) or images (--limit)",
    )
    portraits = read_portraits(rows, store.images(job.images), side, stage("portraits"))
    templates = store.templates()[chosen]
    decoder.check(templates, store.folder, store.manifest)
    pictures = decoder.decode(templates, progress=stage("draw"), checked=True)
    confidence = fit_confidence(
        templates,
        portraits,
        pictures,
        identities,
        described,
        store.recognizer,
        provenance=provenance,
        progress=stage("fit"),
    )
    confidence.remember(store.pictures(np.array(chosen)))
    confidence.save(job.output)
    return confidence
