"""`evaluate protection`: what protection costs in accuracy, and whether it prevents linking and drawing faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from facedecode.device import find_device
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import load_recognizers, make_judge, open_stores, twice_warning
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.evaluation.protection.inversion import (
    KNOWN,
    NOTHING,
    PLAIN,
    RECOGNIZER,
    RIDGE,
    SYSTEM,
    UNKNOWN,
    Inversion,
    invert,
    require_trainable,
)
from facedecode.evaluation.protection.protected import Study, make_study
from facedecode.evaluation.result import Axis, Label, Result, Schema, declared, paragraphs, texts
from facedecode.memory import require_memory
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.progress import Stage, silent_stage
from facedecode.provenance import describe_job, describe_recognizers, describe_store
from facedecode.report import Picture, Section, plots
from facedecode.report.text import percent
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.linkage import (
    MOST_NON_MATED,
    MOST_OF_A_PERSON,
    NULL_DRAWS,
    LinkageFigures,
    measure_linkage,
    require_measurable,
)
from facedecode.statistics.pair_rates import Trials, resampled_eer, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import AllPairs, encode_people, mated_non_mated_scores
from facedecode.statistics.verification import false_accepts_allowed
from facedecode.store import Store

FMRS = (0.01, 0.001)
_BYTES_A_PAIR = 32  # its score in two systems that are kept and in one at work, and what sorting takes
ONE_KEY, OWN_KEYS = "one-key", "own-keys"
SYSTEMS = {PLAIN: "unprotected", ONE_KEY: "protected, one key for all", OWN_KEYS: "protected, a key for each person"}
ATTACKERS = {PLAIN: "templates unprotected", KNOWN: "key known", UNKNOWN: "key unknown", NOTHING: "mean face"}
SCORES = {"own": "the scheme's own score", "length": "difference of lengths"}
IMAGES = {"different-images": "two images of a person", "same-image": "one image under both keys"}
_TYPES = "type_one", "type_two"
_COUNTS = "mated", "non_mated", "bins"
_KEYS = ["key_pairs", "lowest_of_keys", "median_of_keys", "highest_of_keys"]
TEXTS = texts("protection")


def protection_schema(job: ProtectionJob) -> Schema:
    """The figures that there will be."""
    scheme, judges = job.scheme, []
    if scheme is None:
        scheme = (Store.open(job.stores[1]).recognizer.protection or {}).get("scheme", "")
    if job.train_people:
        judges = [RECOGNIZER, *list(open_stores([job.stores[0], *job.against]))[1:], *([SYSTEM] if job.scheme else [])]
    known = {RECOGNIZER: "the recognizer, unprotected", SYSTEM: "the protected system"}
    axes = [
        Axis("system", "templates", list(SYSTEMS)[: 3 if job.scheme else 2], names=SYSTEMS),
        Axis("fmr", "FMR", sorted({*(job.fmrs or FMRS), *job.required}, reverse=True), "percent"),
        Axis("score", values=list(SCORES)[: 2 if scheme == "rotation" else 1], names=SCORES),
        Axis("images", "mated comparisons are of", list(IMAGES), names=IMAGES),
        Axis("attacker", values=list(ATTACKERS), names=ATTACKERS),
        Axis("judge", "shown to", judges, names={j: known.get(j, f"another recognizer, {j}") for j in judges}),
    ]
    title = f"Template protection by {scheme}: accuracy, linking, inversion"
    return Schema("protection", title, axes, declared(TEXTS["metrics"]))


def evaluate_protection(job: ProtectionJob, stage: Stage = silent_stage) -> Result:
    """Accuracy, linkability, and the success of decoders trained on protected templates.

    stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        BadInput: as `make_study`; false match rates that the pairs cannot resolve; too few people or images; images
            that are missing.
        UsageError: as `make_study`; an unknown attacker, or weights for a recognizer that has no store.
        MissingWeights: a recognizer's weights are not found.
        WouldNotFit: the pairs or the attacker's decoder need more memory than there is.
    """
    study, result = make_study(job), Result(protection_schema(job))
    require_doable(study, job, result.labels("fmr"))
    judging = open_stores([job.stores[0], *job.against]) if study.training else {}
    recognizers = load_recognizers(judging, job.weights, find_device(job.device))
    judges = {name: make_judge(made, judging[name], study.test.images) for name, made in recognizers.items()}
    pairs = _add_accuracy(result, study, job, stage)
    _add_linkage(result, study, job, stage)
    inversion = None
    if judges:
        own, *further = judges.items()
        shown_to = {RECOGNIZER: own[1], **dict(further)}
        inversion = invert(study, job, result.labels("fmr"), shown_to, pairs, stage)
        result.sections.append(_add_inversion(result, inversion, job.attacker or RIDGE))
    lengths = [row.number for row in result.rows("linkability", {"images": "same-image"})]
    result.warnings += [*twice_warning(study.test.images.twice), *study.test.images.told]
    result.warnings += paragraphs(
        TEXTS["warnings"],
        lengths=lengths[-1] if lengths[-1] > lengths[0] else 0,
        own_keys=study.protect_apart,
        no_attack=study.training is None,
        no_key=study.training and study.protect is None,
    )
    result.people = len(set(study.test.images.identities))
    result.protocol = _protocol(study, job)
    training = study.training.images.identities if study.training else []
    result.provenance = {
        "stores": [describe_store(store) for store in (study.store, *study.stores, *list(judging.values())[1:])],
        "decoders": inversion.decoders if inversion else {},
        "recognizers": describe_recognizers(recognizers),
        "settings": describe_job(job)
        | {
            "images": len(study.test.images.rows),
            "identities": len(set(study.test.images.identities)),
            "protection": study.scheme,
            "key_ids": study.key_ids,
            "fmrs": result.labels("fmr"),
            "training_people": len(set(training)),
            "training_images": len(training),
        },
    }
    return result


def require_doable(study: Study, job: ProtectionJob, fmrs: Sequence[float]) -> None:
    """Refuse before the work what it would be refused for later on; raises as `evaluate_protection`."""
    for images in IMAGES:
        people = study.test.images.acquired_identities
        require_measurable(people, len(study.key_ids), same_image=images == "same-image")
    _, codes = encode_people(study.test.images.identities)
    count, of_people = len(codes), np.bincount(codes)
    non_mated = int(count**2 - of_people @ of_people) // 2
    for fmr in fmrs:
        if not false_accepts_allowed(fmr, non_mated):
            raise BadInput(f"{non_mated} non-mated pairs cannot resolve a false match rate of {fmr:g}: ask for more")
    require_memory(
        _BYTES_A_PAIR * count * (count - 1) // 2, f"all pairs of {count} images", "judge fewer people (--people)"
    )
    if study.training is not None:
        require_trainable(study, job)


def _add_accuracy(result: Result, study: Study, job: ProtectionJob, stage: Stage) -> AllPairs:
    """Add the accuracy of each system; all pairs of the protected templates with one key."""
    images = study.test.images
    templates = {PLAIN: images.templates, ONE_KEY: study.test.keys[0]}
    if study.protect_apart:
        templates[OWN_KEYS] = study.protect_apart(stage("keys for people"))
    progress, kept, plain = stage("accuracy"), {}, None
    progress(0, len(templates))
    for done, (system, values) in enumerate(templates.items(), 1):
        kind = study.store.score if system == PLAIN else study.score
        pairs = mated_non_mated_scores(values, images.identities, kind, missing=images.missing)
        if not len(pairs.mated) or not len(pairs.non_mated):
            raise BadInput("the people to judge on need two images of somebody, and somebody else")
        mated, non_mated = Trials(pairs.mated, pairs.mated_people), NonMated.from_all_pairs(pairs)
        options = {"people": len(pairs.people), "repetitions": job.repetitions, "seed": job.seed}
        groups, fmrs = {"pairs": mated, "people": mated.person_weighted()}, result.labels("fmr")
        eer, by_people = (resampled_eer(trials, non_mated, **options) for trials in groups.values())
        tar = resampled_tar(groups, non_mated, fmrs, **options)
        note = "the key is no secret" if system == ONE_KEY else ""
        result.add("eer", {"system": system}, eer.estimate(), key=system != OWN_KEYS, note=note)
        result.add("eer_by_person", {"system": system}, by_people.estimate(), key=system != OWN_KEYS, note=note)
        plain = plain or (by_people, tar["people"])
        if system == ONE_KEY:
            result.add("protected_eer", {}, eer.estimate())
            result.add("protected_eer_by_person", {}, by_people.estimate())
        if system != PLAIN:
            result.add("eer_change", {"system": system}, by_people.less(plain[0]))
        for by_person, by_pair, before in zip(tar["people"], tar["pairs"], plain[1], strict=True):
            rate, pair_rate = by_person.rate(), by_pair.rate()
            labels: dict[str, Label] = {"system": system, "fmr": rate.fmr_wanted}
            result.add("tar", labels, rate)
            errors = {"false match": pair_rate.false_accepts, "false non-match": pair_rate.n - pair_rate.accepted}
            result.add("tar_pairs", labels, pair_rate, errors)
            if system == ONE_KEY:
                result.add("protected_tar", {"fmr": rate.fmr_wanted}, rate)
            if system != PLAIN:
                result.add("tar_change", labels, by_person.less(before))
        kept[system] = pairs
        progress(done, len(templates))
    columns: list[str | tuple[str, ...]] = ["eer", ("eer_by_person", "eer_change"), ("tar", "tar_change"), "tar_pairs"]
    parts = [f"tar.{part}" for part in ("threshold", "fmr", "false_accepts", "non_mated")]
    tables = [
        result.table("accuracy", "Accuracy on all pairs", ["system"], columns),
        result.table("thresholds", "Thresholds", ["system", "fmr"], parts),
    ]
    result.sections.append(Section("Accuracy", paragraphs(TEXTS["accuracy"]), tables))
    return kept[ONE_KEY]


def _add_linkage(result: Result, study: Study, job: ProtectionJob, stage: Stage) -> None:
    """Add how well each score links templates across keys."""
    images = study.test.images
    keys = [templates[~images.missing] for templates in study.test.keys]
    lengths = [np.linalg.norm(templates.astype(np.float64), axis=1, keepdims=True) for templates in keys]
    compared = {"own": (keys, study.score), "length": (lengths, "negative-euclidean")}
    pictures: list[Picture] = []
    for score in result.labels("score"):
        for which in IMAGES:
            figures = measure_linkage(
                *(compared[score][0], images.acquired_identities, compared[score][1]),
                same_image=which == "same-image",
                repetitions=job.repetitions,
                seed=job.seed,
                progress=stage(f"linkability ({score}, {which})"),
            )
            pictures.append(_add_score(result, score, which, figures))
    for word in ("linkability", "maximal_linkability"):
        for which in IMAGES:
            result.add(f"{word}_of_images", {"images": which}, _highest(result, word, images=which))
        result.add(f"worst_{word}", {}, _highest(result, word))
    columns = ["linkability", "d_sys_raw", "d_sys_null_mean", "d_sys_null_high", "maximal_linkability"]
    columns += ["maximal_raw", "maximal_null_mean", "maximal_null_high", "people", *_COUNTS]
    note = "A pair of keys has fewer comparisons than all of them, and so figures further above 0."
    title = "D_sys of each pair of keys alone, uncorrected"
    tables = [
        result.table("linkability", "Linkability across keys", ["score", "images"], columns),
        result.table("pairs-of-keys", title, ["score", "images"], _KEYS, note=note),
    ]
    result.sections.append(Section("Unlinkability", paragraphs(TEXTS["unlinkability"]), tables, pictures))


def _add_score(result: Result, score: str, images: str, figures: LinkageFigures) -> Picture:
    """Add the linkability of one score; its histogram."""
    labels: dict[str, Label] = {"score": score, "images": images}
    measured, by_keys, null = figures.measured, figures.by_keys, figures.d_sys_null
    unlinked = f"uncorrected {measured.d_sys:.3f}; unlinked templates give {null.mean:.3f}"
    result.add("linkability", labels, figures.d_sys, note=unlinked)
    result.add("maximal_linkability", labels, figures.maximal)
    result.add("people", labels, figures.d_sys.n)
    for key, raw, level in (("d_sys", measured.d_sys, null), ("maximal", measured.maximal, figures.maximal_null)):
        for part, value in (("raw", raw), ("null_mean", level.mean), ("null_high", level.high)):
            result.add(f"{key}_{part}", labels, value)
    for name, count in zip(_COUNTS, (figures.mated, figures.non_mated, len(measured.mated)), strict=True):
        result.add(name, labels, count)
    spread = (len(by_keys), min(by_keys), float(np.median(by_keys)), max(by_keys))
    for name, value in zip(_KEYS, spread, strict=True):
        result.add(name, labels, value)
    result.facts.setdefault("linkability", {}).setdefault(score, {})[images] = {"by_keys": by_keys}
    if not figures.distinguishable:
        result.warnings.append(
            f"D_sys by {SCORES[score]}, {IMAGES[images]}: {figures.d_sys.value:.3f} cannot be told from 0, which its "
            f"interval holds (to {figures.d_sys.high:.3f})."
        )
    title = f"{SCORES[score][0].upper()}{SCORES[score][1:]} across keys, {IMAGES[images]}"
    drawn = plots.linkability_plot(
        measured.edges, measured.mated, measured.non_mated, measured.local, f"{SCORES[score]} across keys"
    )
    alt = f"{title}: densities of mated and non-mated scores, and D↔ over them."
    return Picture(f"linkability-{score}-{images}", title, drawn, f"D_sys {unlinked}.", alt, "svg")


def _highest(result: Result, metric: str, **labels: Label) -> Any:
    """The highest figure of a metric with these labels."""
    return max(result.rows(metric, labels), key=lambda row: row.number).estimate


def _add_inversion(result: Result, inversion: Inversion, kind: str) -> Section:
    """Add how often an attacker's pictures are accepted. kind: of the decoders."""
    lowest = min(result.labels("fmr"))
    for attacker, by_judge in inversion.rates.items():
        for judge, rates in by_judge.items():
            for name, groups in {"type_one": rates.type_one, "type_two": rates.type_two, "real": rates.mated}.items():
                for by_person, by_pair in zip(groups.get("people", ()), groups.get("pairs", ()), strict=True):
                    labels: dict[str, Label] = {"attacker": attacker, "judge": judge, "fmr": by_person.fmr_wanted}
                    key = judge == RECOGNIZER and attacker != NOTHING and by_person.fmr_wanted == lowest
                    result.add(name, labels, by_person, key=key)
                    errors = {"success": by_pair.accepted, "failure": by_pair.n - by_pair.accepted}
                    if name == "real":  # all attackers have the same thresholds: one of them has their errors
                        errors = {"false match": by_pair.false_accepts} if attacker == PLAIN else {}
                    result.add(f"{name}_pairs", labels, by_pair, errors)
    for name in _TYPES:
        for fmr in result.labels("fmr"):
            for attacker in ATTACKERS:
                labels = {"attacker": attacker, "fmr": fmr}
                result.add(f"{name}_of_attacker", labels, _highest(result, name, **labels))
            keys = (_highest(result, name, attacker=attacker, fmr=fmr) for attacker in (KNOWN, UNKNOWN))
            result.add(f"worst_{name}", {"fmr": fmr}, max(keys, key=lambda estimate: estimate.value))
    columns = [f"{name}{by}" for name in (*_TYPES, "real") for by in ("", "_pairs")]
    tables = []
    for number, (judge, title) in enumerate(result.schema.axis("judge").names.items(), 1):
        name, title = f"inversion-{number}", f"Pictures shown to {title}"
        tables.append(result.table(name, title, ["fmr", "attacker"], columns, {"judge": judge}))
    titles = ["originals", *ATTACKERS.values()]
    grid = picture_grid([_shrunk(inversion.examples[name]) for name in ("originals", *ATTACKERS)], titles)
    title = f"What {kind} draws, of people spread evenly over the names"
    picture = Picture("drawn", title, png_bytes(grid), alt=f"Rows of portraits: {'; '.join(titles)}.")
    title = "Irreversibility: decoders trained on protected templates"
    return Section(title, paragraphs(TEXTS["irreversibility"]), tables, [picture])


def _shrunk(pictures: np.ndarray) -> np.ndarray:
    """Pictures small enough to stand ten in a row."""
    step = max(1, pictures.shape[1] // 64)
    side = pictures.shape[1] // step
    blocks = pictures.reshape(len(pictures), side, step, side, step, 3).mean(axis=(2, 4))
    return np.rint(blocks).astype(np.uint8)


def _protocol(study: Study, job: ProtectionJob) -> list[str]:
    images, training, scheme = study.test.images, study.training and study.training.images, study.scheme
    shown_to = "not the protected system, as the stores do not hold its key"
    if study.protect:
        shown_to = "the protected system, which protects the picture's template with its own key"
    return paragraphs(
        TEXTS["protocol"],
        images=len(images.rows),
        people=len(set(images.identities)),
        recognizer=study.store.recognizer.name,
        plain_score=study.store.score,
        missing=int(images.missing.sum()),
        rotation=scheme["scheme"] == "rotation",
        biohash=scheme["scheme"] == "biohash",
        dim=scheme["dim"],
        center="after the mean of a public set was taken off" if scheme["center_sha256"] else "without a center",
        score=study.score,
        keys=len(study.key_ids),
        made="which follow from the seed" if study.protect else "those of the stores given",
        most_mated=MOST_OF_A_PERSON,
        most_non_mated=MOST_NON_MATED,
        draws=NULL_DRAWS,
        training_images=training and f"{len(training.rows):,} images",
        training_people=training and f"{len(set(training.identities)):,}",
        attacker=job.attacker or RIDGE,
        shown_to=training and shown_to,
        solvable=training and scheme["scheme"] == "rotation",
        level=percent(LEVEL),
    )
