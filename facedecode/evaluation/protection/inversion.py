"""Decoders that an attacker trains on protected templates, and how often their pictures are accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import Judge
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.evaluation.protection.protected import Study
from facedecode.evaluation.rendering import embed_drawn, spread_rows
from facedecode.files import sha256_of
from facedecode.memory import require_memory
from facedecode.progress import Stage
from facedecode.statistics.scores import AllPairs
from facedecode.statistics.security import Attack, Originals, SecurityRates, attack_success

RIDGE, IMAGE_SIZE = "ridge", 128
KNOWN, UNKNOWN, PLAIN, NOTHING = "known", "unknown", "unprotected", "mean-face"
RECOGNIZER, SYSTEM = "recognizer", "system"
_BYTES_A_WEIGHT = 40  # of ridge: sums and solution in float64 with a copy each, and the weight itself
_SHOWN = 10  # people


@dataclass(frozen=True)
class Inversion:
    """What decoders trained by an attacker achieve.

    rates: attacker (unprotected, known, unknown, mean-face) → judge (recognizer, system, or a further recognizer) →
    the rates. decoders: attacker → JSON, its kind and settings. examples: attacker → pictures (k, P, P, 3) uint8 of
    people spread over the names; 'originals' among them.
    """

    rates: dict[str, dict[str, SecurityRates]]
    decoders: dict[str, dict]
    examples: dict[str, np.ndarray]


def require_trainable(study: Study, job: ProtectionJob) -> None:
    """Refuse a training that would fail later on.

    Raises BadInput: fewer than two training images, or images that are missing. WouldNotFit: the decoder needs more
    memory than there is.
    """
    from facedecode.store.images import portrait_batches

    rows, side, kind = study.training.images.rows, job.image_size or IMAGE_SIZE, job.attacker or RIDGE
    if len(rows) < 2:
        raise BadInput(f"an attacker trains on two images or more, and there are {len(rows)}: give --train-people more")
    dims = max(study.store.dim, study.training.keys[0].shape[1])
    weights = _BYTES_A_WEIGHT * dims if kind == RIDGE else 0
    require_memory(
        3 * side**2 * (2 * len(rows) + weights),
        f"a {kind} decoder of {dims} numbers, and {len(rows)} portraits of {side} px",
        "take smaller portraits (--image-size), fewer --bits or --train-people",
    )
    # The first portraits alone: all images are looked for before one is read.
    shown = [study.test.images.rows[i] for i in _shown(study)]
    next(portrait_batches([*rows, *shown], study.store.images(job.images), side))


def invert(
    study: Study,
    job: ProtectionJob,
    fmrs: list[float],
    judges: Mapping[str, Judge],
    protected_pairs: AllPairs,
    begin: Stage,
) -> Inversion:
    """Train an attacker's decoders, show their pictures to everybody, and count.

    judges: the recognizer of the unprotected templates as 'recognizer', and others by their names.
    protected_pairs: of the templates under the first key.
    """
    import torch
    from safetensors.torch import save as save_tensors

    from facedecode.decoders import Decoder, Provenance
    from facedecode.decoders.kinds import KINDS
    from facedecode.store.images import read_portraits

    test, training, missing = study.test, study.training, study.test.images.missing
    root, side, kind = study.store.images(job.images), job.image_size or IMAGE_SIZE, job.attacker or RIDGE
    portraits = read_portraits(training.images.rows, root, side, begin("portraits"))
    pixels = torch.from_numpy(portraits).permute(0, 3, 1, 2)
    people = sorted(set(training.images.identities))
    # Attacker → decoder, the templates that it is trained on, and those that it is given.
    attackers = {
        PLAIN: (kind, training.images.templates, test.images.templates),
        KNOWN: (kind, training.keys[0], test.keys[0]),
        UNKNOWN: (kind, training.keys[1], test.keys[0]),
        NOTHING: ("mean-face", training.keys[0], test.keys[0]),
    }
    shown, decoders = _shown(study), {}
    examples = {"originals": read_portraits([test.images.rows[i] for i in shown], root, side)}
    attacks: dict[str, dict[str, Attack]] = {judge: {} for judge in [*judges, SYSTEM]}
    for attacker, (architecture, known, stolen) in attackers.items():
        net = KINDS[architecture].network(known.shape[1], side)
        net.fit(torch.from_numpy(known), pixels, study.store.score if attacker == PLAIN else study.score)
        tensors = save_tensors({name: tensor.contiguous() for name, tensor in net.state_dict().items()})
        decoders[attacker] = {"kind": architecture, **net.config, "sha256": sha256_of(tensors)}
        decoder = Decoder(
            architecture, net, Provenance(study.store.recognizer, False, TrainingRecord(people=tuple(people)))
        )
        examples[attacker] = decoder.decode(stolen[shown], checked=True)  # of whatever key: that is the question
        embedded = embed_drawn(decoder, stolen, missing, judges, begin(f"pictures ({attacker})"))
        for judge, templates in embedded.items():
            attacks[judge][attacker] = Attack(templates, missing)
        # Whoever holds unprotected templates attacks the protected system through the camera all the same.
        if study.protect:
            attacks[SYSTEM][attacker] = Attack(study.protect(embedded[RECOGNIZER]), missing)
    names = test.images.identities
    targets = {
        name: (Originals(judge.templates, names, judge.recognizer.spec.score, judge.missing), judge.pairs)
        for name, judge in judges.items()
    }
    if study.protect:
        targets[SYSTEM] = Originals(test.keys[0], names, study.score, missing), protected_pairs
    rates: dict[str, dict[str, SecurityRates]] = {attacker: {} for attacker in attackers}
    for judge, (originals, pairs) in targets.items():
        success = attack_success(
            attacks[judge], originals, fmrs, pairs=pairs, repetitions=job.repetitions, seed=job.seed
        )
        for attacker, reached in success.items():
            rates[attacker][judge] = reached
    return Inversion(rates, decoders, examples)


def _shown(study: Study) -> np.ndarray:
    """The rows of the test images that are shown, int."""
    images = study.test.images
    return np.flatnonzero(~images.missing)[spread_rows(images.acquired_identities, _SHOWN)]
