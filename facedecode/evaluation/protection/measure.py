"""What a template protection costs in accuracy, and what it prevents: linking, and drawing faces from templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import Judge
from facedecode.evaluation.protection.linkage import LinkageFigures, measure_linkage, require_measurable
from facedecode.evaluation.protection.protected import Study
from facedecode.evaluation.rendering import embed_drawn, spread_rows
from facedecode.memory import require_memory
from facedecode.statistics.bootstrap import (
    REPETITIONS,
    Estimate,
    NonMated,
    RateAtFmr,
    Resampled,
    Trials,
    resampled_eer,
    resampled_tar,
)
from facedecode.statistics.scores import AllPairs, encode_people, mated_non_mated_scores
from facedecode.statistics.security import Attack, SecurityRates, attack_success
from facedecode.statistics.verification import false_accepts_allowed
from facedecode.store import require_same_recognizer

if TYPE_CHECKING:  # both need torch
    from torch import nn

    from facedecode.recognizers.recognizer import Recognizer

Stage = Callable[[str], Callable[..., None]]
FMRS = (0.01, 0.001)
_BYTES_A_PAIR = 32  # its score in two systems that are kept and in one at work, and what sorting takes
_BYTES_A_WEIGHT = 40  # of ridge: sums and solution in float64 with a copy each, and the weight itself
UNPROTECTED, ONE_KEY, OWN_KEYS = "unprotected", "one-key", "own-keys"
KNOWN, UNKNOWN, NOTHING = "known", "unknown", "mean-face"
RECOGNIZER, SYSTEM = "recognizer", "system"
LINKED = "different-images", "same-image"


@dataclass(frozen=True)
class Settings:
    """How figures are made.

    fmrs: false match rates, of TAR and of the attacks' thresholds. attacker: the closed form that is trained.
    image_size: of its pictures, pixels. images: where the store's images are, if not where its manifest says.
    """

    fmrs: Sequence[float] = FMRS
    attacker: str = "ridge"
    image_size: int = 128
    images: Path | None = None
    repetitions: int = REPETITIONS
    seed: int = 0


@dataclass(frozen=True)
class Accuracy:
    """Verification of all pairs of the test images.

    eer: pair-weighted. tar: by 'pairs' and by 'people', a rate for each FMR. eer_change, tar_change (by people): less
    the unprotected templates', replicate by replicate; None for those themselves.
    """

    eer: Estimate
    tar: dict[str, list[RateAtFmr]]
    eer_change: Estimate | None = None
    tar_change: list[Estimate] | None = None

    def metrics(self) -> dict:
        """JSON."""
        tar = {by: {f"{rate.fmr_wanted:g}": rate.as_json() for rate in row} for by, row in self.tar.items()}
        metrics = {"eer": self.eer.as_json(), "tar_at_fmr": tar}
        if self.eer_change is not None:
            change = zip(self.tar["people"], self.tar_change, strict=True)
            metrics["eer_change"] = self.eer_change.as_json()
            metrics["tar_change"] = {f"{rate.fmr_wanted:g}": value.as_json() for rate, value in change}
        return metrics


@dataclass(frozen=True)
class Inversion:
    """What decoders trained by an attacker achieve.

    rates: attacker (unprotected, known, unknown, mean-face) → judge (recognizer, system, or a further recognizer) →
    the rates. decoders: attacker → JSON, its kind and settings. examples: attacker → pictures (k, P, P, 3) uint8 of
    the rows `example_rows`; 'originals' among them.
    """

    rates: dict[str, dict[str, SecurityRates]]
    decoders: dict[str, dict]
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    example_rows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ProtectionFigures:
    """Everything measured.

    linkage: (score, 'different-images' or 'same-image') → figures. recognizers: JSON, who judged pictures, by name.
    """

    accuracy: dict[str, Accuracy]
    linkage: dict[tuple[str, str], LinkageFigures]
    inversion: Inversion | None
    settings: Settings
    recognizers: dict[str, dict] = field(default_factory=dict)


def evaluate_protection(
    study: Study,
    settings: Settings,
    recognizer: Recognizer | None = None,
    further: Mapping[str, Judge] | None = None,
    stage: Stage | None = None,
) -> ProtectionFigures:
    """Accuracy, linkability, and the success of decoders trained on protected templates.

    Args:
        recognizer: of the unprotected templates; it judges the pictures. Needed where the study has training images.
        further: other recognizers that judge them, by name.
        stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        BadInput: false match rates that the pairs cannot resolve; too few people or images; images that are missing.
        UsageError: an unknown attacker.
        WouldNotFit: the pairs or the attacker's decoder need more memory than there is.
    """
    from facedecode.decoders.kinds import fitted_by

    if settings.attacker not in fitted_by("closed form"):
        raise UsageError(f"no attacker is called {settings.attacker!r}; known: {', '.join(fitted_by('closed form'))}")
    if study.training is not None:
        if recognizer is None:
            raise UsageError("an attack needs the recognizer that made the unprotected templates")
        made_by = f"the recognizer {recognizer.spec.name}"
        require_same_recognizer(study.store.recognizer, recognizer.describe(), made_by)
    begin = stage or (lambda name: lambda done, total: None)
    _require_doable(study, settings)
    templates = {UNPROTECTED: study.test.images.templates, ONE_KEY: study.test.keys[0]}
    if study.protect_apart:
        templates[OWN_KEYS] = study.protect_apart(begin("keys for people"))
    accuracy, pairs = _accuracy(study, templates, settings, begin("accuracy"))
    linkage = _linkage(study, settings, begin)
    inversion = None
    if study.training is not None:
        inversion = _inversion(study, settings, recognizer, further or {}, pairs, begin)
    used = [judge.recognizer for judge in (further or {}).values()] + ([recognizer] if recognizer else [])
    recognizers = {r.spec.name: {"weights_sha256": r.weights_sha256, "score": r.spec.score} for r in used}
    return ProtectionFigures(accuracy, linkage, inversion, settings, recognizers)


def scores_across_keys(study: Study) -> tuple[str, ...]:
    """The scores whose linkability is measured: the scheme's own, and where templates differ in length, lengths'."""
    return ("own", "length") if study.scheme["scheme"] == "rotation" else ("own",)


def _require_doable(study: Study, settings: Settings) -> None:
    """Refuse before the work what it would be refused for later on."""
    for images in LINKED:
        people = study.test.images.acquired_identities
        require_measurable(people, len(study.key_ids), same_image=images == "same-image")
    _, codes = encode_people(study.test.images.identities)
    images, counts = len(codes), np.bincount(codes)
    non_mated = int(images**2 - counts @ counts) // 2
    for fmr in settings.fmrs:
        if not false_accepts_allowed(fmr, non_mated):
            raise BadInput(f"{non_mated} non-mated pairs cannot resolve a false match rate of {fmr:g}: ask for more")
    require_memory(
        _BYTES_A_PAIR * images * (images - 1) // 2, f"all pairs of {images} images", "judge fewer people (--people)"
    )
    if study.training is None:
        return
    rows, side = study.training.images.rows, settings.image_size
    if len(rows) < 2:
        raise BadInput(f"an attacker trains on two images or more, and there are {len(rows)}: give --train-people more")
    dims = max(study.store.dim, study.training.keys[0].shape[1])
    weights = _BYTES_A_WEIGHT * dims if settings.attacker == "ridge" else 0
    require_memory(
        3 * side**2 * (2 * len(rows) + weights),
        f"a {settings.attacker} decoder of {dims} numbers, and {len(rows)} portraits of {side} px",
        "take smaller portraits (--image-size), fewer --bits or --train-people",
    )
    from facedecode.store.images import portrait_batches

    # The first portraits alone: all images are looked for before one is read.
    shown = [study.test.images.rows[i] for i in _shown(study)]
    next(portrait_batches([*rows, *shown], settings.images or study.store.root, side))


def _shown(study: Study) -> np.ndarray:
    """The rows of the test images that are shown, int."""
    images = study.test.images
    return np.flatnonzero(~images.missing)[spread_rows(images.acquired_identities, 10)]


def _accuracy(
    study: Study, templates: Mapping[str, np.ndarray], settings: Settings, progress: Callable[[int, int], None]
) -> tuple[dict[str, Accuracy], dict[str, AllPairs]]:
    """Accuracy of each system, and all its pairs; the last system's are not needed again."""
    images = study.test.images
    figures: dict[str, Accuracy] = {}
    kept: dict[str, AllPairs] = {}
    unprotected: tuple[Resampled, Sequence[Resampled]] | None = None
    for done, (name, values) in enumerate(templates.items()):
        kind = study.store.score if name == UNPROTECTED else study.score
        pairs = mated_non_mated_scores(values, images.identities, kind, missing=images.missing)
        if not len(pairs.mated) or not len(pairs.non_mated):
            raise BadInput("the people to judge on need two images of somebody, and somebody else")
        mated, non_mated = Trials(pairs.mated, pairs.mated_people), NonMated.from_all_pairs(pairs)
        options = {"people": len(pairs.people), "repetitions": settings.repetitions, "seed": settings.seed}
        groups = {"pairs": mated, "people": mated.person_weighted()}
        eer = resampled_eer(mated, non_mated, **options)
        tar = resampled_tar(groups, non_mated, settings.fmrs, **options)
        rates = {by: [rate.rate() for rate in row] for by, row in tar.items()}
        if unprotected is None:
            unprotected = eer, tar["people"]
            figures[name] = Accuracy(eer.estimate(), rates)
        else:
            changes = [new.less(old) for new, old in zip(tar["people"], unprotected[1], strict=True)]
            figures[name] = Accuracy(eer.estimate(), rates, eer.less(unprotected[0]), changes)
        if name != OWN_KEYS:
            kept[name] = pairs
        progress(done + 1, len(templates))
    return figures, kept


def _linkage(study: Study, settings: Settings, begin: Stage) -> dict[tuple[str, str], LinkageFigures]:
    """Linkability of each of `scores_across_keys`."""
    there = ~study.test.images.missing
    keys = [templates[there] for templates in study.test.keys]
    scores = {"own": (keys, study.score)}
    if "length" in scores_across_keys(study):
        lengths = [np.linalg.norm(templates.astype(np.float64), axis=1, keepdims=True) for templates in keys]
        scores["length"] = (lengths, "negative-euclidean")
    return {
        (name, images): measure_linkage(
            templates,
            study.test.images.acquired_identities,
            kind,
            same_image=images == "same-image",
            repetitions=settings.repetitions,
            seed=settings.seed,
            progress=begin(f"linkability ({name}, {images})"),
        )
        for name, (templates, kind) in scores.items()
        for images in LINKED
    }


def _inversion(
    study: Study,
    settings: Settings,
    recognizer: Recognizer,
    further: Mapping[str, Judge],
    pairs: Mapping[str, AllPairs],
    begin: Stage,
) -> Inversion:
    """Train an attacker's decoders, show their pictures to everybody, and count."""
    from facedecode.decoders import Decoder, Provenance
    from facedecode.store.images import read_portraits

    test, training = study.test, study.training
    root = settings.images or study.store.root
    portraits = read_portraits(training.images.rows, root, settings.image_size, begin("portraits"))
    people = sorted(set(training.images.identities))
    own = Judge(recognizer, test.images.templates, test.images.missing, pairs[UNPROTECTED])
    judges = {RECOGNIZER: own, **further}
    # Who trains on what, and is handed what.
    attackers = {
        UNPROTECTED: (settings.attacker, training.images.templates, test.images.templates),
        KNOWN: (settings.attacker, training.keys[0], test.keys[0]),
        UNKNOWN: (settings.attacker, training.keys[1], test.keys[0]),
        NOTHING: ("mean-face", training.keys[0], test.keys[0]),
    }
    shown, decoders = _shown(study), {}
    examples = {"originals": read_portraits([test.images.rows[i] for i in shown], root, settings.image_size)}
    attacks: dict[str, dict[str, Attack]] = {judge: {} for judge in [*judges, SYSTEM]}
    for name, (kind, known, given) in attackers.items():
        net = _train(kind, known, study.store.score if name == UNPROTECTED else study.score, portraits)
        decoders[name] = {"kind": kind, **net.config}
        decoder = Decoder(kind, net, Provenance(study.store.recognizer, False, {"people": people}))
        examples[name] = decoder.decode(given[shown])
        found = embed_drawn(decoder, given, test.images.missing, judges, begin(f"pictures ({name})"))
        for judge, templates in found.items():
            attacks[judge][name] = Attack(templates, test.images.missing)
        # Whoever holds unprotected templates attacks the protected system through the camera all the same.
        if study.protect:
            attacks[SYSTEM][name] = Attack(study.protect(found[RECOGNIZER]), test.images.missing)
    rates: dict[str, dict[str, SecurityRates]] = {name: {} for name in attackers}
    score = study.store.score
    targets = {RECOGNIZER: (own.templates, own.missing, score, own.pairs)}
    targets |= {
        name: (judge.templates, judge.missing, judge.recognizer.spec.score, judge.pairs)
        for name, judge in further.items()
    }
    if study.protect:
        targets[SYSTEM] = (test.keys[0], test.images.missing, study.score, pairs[ONE_KEY])
    for judge, (templates, missing, kind, all_pairs) in targets.items():
        success = attack_success(
            attacks[judge],
            templates,
            test.images.identities,
            kind,
            settings.fmrs,
            missing_originals=missing,
            pairs=all_pairs,
            repetitions=settings.repetitions,
            seed=settings.seed,
        )
        for name, found in success.items():
            rates[name][judge] = found
    return Inversion(rates, decoders, examples, [int(i) for i in shown])


def _train(kind: str, templates: np.ndarray, score: str, portraits: np.ndarray) -> nn.Module:
    """A closed form fitted to templates (n, dim) that compare by `score`, and portraits (n, P, P, 3) uint8."""
    import torch

    from facedecode.decoders.kinds import KINDS

    net = KINDS[kind].network(templates.shape[1], portraits.shape[1])
    return net.fit(torch.from_numpy(templates), torch.from_numpy(portraits).permute(0, 3, 1, 2), score)
