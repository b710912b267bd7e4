"""`evaluate protection`: what protection costs in accuracy, and whether it prevents linking and drawing faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import load_recognizers, make_judge, open_stores
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.evaluation.protection.inversion import (
    IMAGE_SIZE,
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
from facedecode.evaluation.protection.linkage import (
    MOST_NON_MATED,
    MOST_OF_A_PERSON,
    NULL_DRAWS,
    LinkageFigures,
    measure_linkage,
    require_measurable,
)
from facedecode.evaluation.protection.protected import Study, make_study
from facedecode.evaluation.result import Axis, Label, MetricSpec, Result, Schema, paragraphs
from facedecode.files import sha256_file
from facedecode.memory import require_memory
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.provenance import describe_store
from facedecode.report import Picture, Section, plots
from facedecode.report.text import percent
from facedecode.statistics.bootstrap import NonMated, RateAtFmr, Trials, resampled_eer, resampled_tar
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.scores import AllPairs, encode_people, mated_non_mated_scores
from facedecode.statistics.verification import false_accepts_allowed
from facedecode.store import Store

Stage = Callable[[str], Callable[..., None]]
FMRS = (0.01, 0.001)
_BYTES_A_PAIR = 32  # its score in two systems that are kept and in one at work, and what sorting takes
ONE_KEY, OWN_KEYS = "one-key", "own-keys"
SYSTEMS = {
    PLAIN: "unprotected",
    ONE_KEY: "protected, one key for all",
    OWN_KEYS: "protected, a key for each person",
}
ATTACKERS = {PLAIN: "templates unprotected", KNOWN: "key known", UNKNOWN: "key unknown", NOTHING: "mean face"}
SCORES = {"own": "the scheme's own score", "length": "difference of lengths"}
IMAGES = {"different-images": "two images of a person", "same-image": "one image under both keys"}
_TYPES = {"type_one": ("type1", "type I", "image"), "type_two": ("type2", "type II", "pair")}
_RAW = ("uncorrected", "unlinked, mean", f"unlinked, {percent((1 + LEVEL) / 2)}")

PROTOCOL = """
{images:,} images of {people:,} people, with templates of {recognizer} ({plain_score}). {missing} of the images gave
none: mated pairs with those count as false non-matches, and they have no part in linking.

{scheme} Protected templates are compared by {score}. There are {keys} keys, {made}. The schemes are examples to
measure, not products.

Linkability: D_sys with ω = 1 of Gomez-Barrero et al. (IEEE TIFS 2018) and maximal linkability of Otroshi Shahreza et
al. (IEEE TIFS 2023), of scores between templates under different keys. Bins are equally wide, from the lowest to the
highest score: as many as a tenth of the mated comparisons, at most 100. People count alike: there are at most
{most_mated} mated comparisons a person and pair of keys, and non-mated ones (at most {most_non_mated:,}) are of two
people drawn with equal chances. Each pair of keys enters alike. Both figures are of the scores named; a better score
may link more.

The level of unlinked templates is that of {draws} draws in which each person is compared with another one instead.
Samples of finite size make both figures too high, in the figure v as in each replicate of the bootstrap. So 2·v − the
replicates' mean is reported. Its interval is that of the replicates less twice their bias, corrected for skewness by a
jackknife over people (BCa). The figure v itself is given as uncorrected. Near the level of unlinked templates this
removes only a part of the excess: where v is not above that level, the interval holds 0. An interval reaches at least
as far from 0 and 1 as so many people can tell of whom none or all are linked (Clopper and Pearson), and holds the
figure.

Inversion: the attacker holds a stolen protected template, and {training_images} of {training_people} other people with
their templates. A {attacker} decoder is trained on these. Key known: they are protected with the stolen template's own
key (an insider, or a key stored beside the templates, or a system that enrolls whom the attacker brings). Key unknown:
they are protected with another key. Unprotected: no protection anywhere. Mean face: no template at all.

Each picture is shown to the unprotected recognizer and to {shown_to}. A decoder of a fixed form shows that inversion
succeeds; where it fails, another decoder may not.{solvable}

Intervals are {level}, by bootstrap over people, with thresholds set anew in each replicate. Changes are taken replicate
by replicate. The keys are the same in all replicates: intervals do not cover the choice of keys.
"""
ACCURACY = """
EER counts pairs alike (micro average), TAR people (macro average) unless it says otherwise. Changes are in percentage
points against the unprotected templates, with intervals of the paired difference. With one key for all, an impostor has
the key as well: that is what the scheme keeps of the recognizer. With a key for each person the impostor lacks it, and
what is gained comes from the key, not from the face.
"""
UNLINKABILITY = """
D↔ says at which scores two templates are likelier one person's than not. D_sys is its mean over mated comparisons: 0
where nothing links, 1 where everything does. Both figures are corrected for what samples of this size add. Compare the
uncorrected ones with the unlinked ones: their values where each person's comparisons are with somebody else's
templates.
"""
IRREVERSIBILITY = """
Type I: the picture against the very image that the template was made of. Type II: against another image of the person.
Thresholds are set on real non-mated pairs of the same people. Before the protected system sees a picture, the picture's
template is protected with the system's own key, as a camera's would be. TAR of real images: about what type II can
reach.
"""


def protection_schema(job: ProtectionJob) -> Schema:
    """The figures that there will be."""
    scheme, judges = job.scheme, []
    if scheme is None:
        scheme = (Store.open(job.stores[1]).recognizer.protection or {}).get("scheme", "")
    if job.train_people:
        judges = [RECOGNIZER, *list(open_stores([job.stores[0], *job.against]))[1:], *([SYSTEM] if job.scheme else [])]
    fmrs = sorted({*(job.fmrs or FMRS), *job.required}, reverse=True)
    known = {RECOGNIZER: "the recognizer, unprotected", SYSTEM: "the protected system"}
    axes = [
        Axis("system", "templates", list(SYSTEMS)[: 3 if job.scheme else 2], names=SYSTEMS),
        Axis("fmr", "FMR", fmrs, "percent"),
        Axis("score", values=list(SCORES)[: 2 if scheme == "rotation" else 1], names=SCORES),
        Axis("images", "mated comparisons are of", list(IMAGES), names=IMAGES),
        Axis("attacker", values=list(ATTACKERS), names=ATTACKERS),
        Axis("judge", "shown to", judges, names={j: known.get(j, f"another recognizer, {j}") for j in judges}),
    ]
    system, rate, linkage, attack = ("system",), ("system", "fmr"), ("score", "images"), ("attacker", "judge", "fmr")
    at, linked, inverted = "accuracy/{system}", "linkability/{score}/{images}", "inversion/{attacker}/{judge}"
    tar = "TAR at FMR {fmr}"
    metrics = [
        MetricSpec("eer", system, "percent", "EER", f"{at}/eer", ("eer[system]",), "EER, {system}"),
        MetricSpec("eer_change", system, "points", "EER, change", f"{at}/eer_change"),
        MetricSpec("tar", rate, "percent", tar, f"{at}/tar_at_fmr/people/{{fmr}}", ("tar[system]@far",)),
        MetricSpec("tar_change", rate, "points", f"{tar}, change", f"{at}/tar_change/{{fmr}}"),
        MetricSpec("tar_pairs", rate, "percent", f"{tar}, by pair", f"{at}/tar_at_fmr/pairs/{{fmr}}"),
        MetricSpec("protected_eer", (), "percent", path=None, gates=("eer",)),
        MetricSpec("protected_tar", ("fmr",), "percent", path=None, gates=("tar@far",)),
    ]
    for word, key, title in (
        ("linkability", "d_sys", "D_sys"),
        ("maximal_linkability", "maximal", "maximal linkability, bit"),
    ):
        headline = "D_sys by {score}, {images}" if key == "d_sys" else ""
        raw = f"{linked}/{'d_sys_raw' if key == 'd_sys' else 'maximal_linkability_raw'}"
        short = title.split()[0]
        metrics += [
            MetricSpec(word, linkage, "number", title, f"{linked}/{word}", (f"{word}[score,images]",), headline),
            MetricSpec(f"{key}_raw", linkage, "number", f"{short} {_RAW[0]}", raw),
            MetricSpec(f"{key}_null_mean", linkage, "number", f"{short} {_RAW[1]}", f"{linked}/null/{key}/mean"),
            MetricSpec(f"{key}_null_high", linkage, "number", f"{short} {_RAW[2]}", f"{linked}/null/{key}/high"),
            MetricSpec(f"{word}_of_images", ("images",), path=None, gates=(f"{word}[images]",)),
            MetricSpec(f"worst_{word}", (), path=None, gates=(word,)),
        ]
    metrics += [
        *(MetricSpec(name, linkage, "count", name.replace("_", "-"), f"{linked}/{name}") for name in _COUNTS),
        MetricSpec("people", linkage, "count", "people", None),
        MetricSpec("key_pairs", linkage, "count", "pairs of keys", None),
        *(MetricSpec(f"{end}_of_keys", linkage, "number", end, None) for end in _ENDS),
    ]
    for kind, (word, title, pair) in _TYPES.items():
        path, headline = f"{inverted}/{kind}", f"{title[0].upper()}{title[1:]} at FMR {{fmr}}, {{attacker}}"
        metrics += [
            MetricSpec(
                kind,
                attack,
                "percent",
                f"{title}, by person",
                f"{path}/people/{{fmr}}",
                (f"{word}[attacker,judge]@fmr",),
                headline,
            ),
            MetricSpec(f"{kind}_pairs", attack, "percent", f"{title}, by {pair}", f"{path}/pairs/{{fmr}}"),
            MetricSpec(f"{kind}_of_attacker", ("attacker", "fmr"), path=None, gates=(f"{word}[attacker]@fmr",)),
            MetricSpec(f"worst_{kind}", ("fmr",), path=None, gates=(f"{word}@fmr",)),
        ]
    real, path = "TAR of real images", f"{inverted}/mated"
    metrics += [
        MetricSpec("real", attack, "percent", f"{real}, by person", f"{path}/people/{{fmr}}"),
        MetricSpec("real_pairs", attack, "percent", f"{real}, by pair", f"{path}/pairs/{{fmr}}"),
    ]
    return Schema("protection", f"Template protection by {scheme}: accuracy, linking, inversion", axes, metrics)


_COUNTS = ("mated", "non_mated", "bins")
_ENDS = ("lowest", "median", "highest")


def evaluate_protection(job: ProtectionJob, device: str = "cpu", stage: Stage | None = None) -> Result:
    """Accuracy, linkability, and the success of decoders trained on protected templates.

    Args:
        stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        BadInput: as `make_study`; false match rates that the pairs cannot resolve; too few people or images; images
            that are missing.
        UsageError: as `make_study`; an unknown attacker, or weights for a recognizer that has no store.
        MissingWeights: a recognizer's weights are not found.
        WouldNotFit: the pairs or the attacker's decoder need more memory than there is.
    """
    from facedecode.decoders.kinds import fitted_by

    if (job.attacker or RIDGE) not in fitted_by("closed form"):
        raise UsageError(f"no attacker is called {job.attacker!r}; known: {', '.join(fitted_by('closed form'))}")
    begin = stage or (lambda name: lambda done, total: None)
    study, result = make_study(job), Result(protection_schema(job))
    require_doable(study, job, result.labels("fmr"))
    judging = open_stores([job.stores[0], *job.against]) if study.training else {}
    recognizers = load_recognizers(judging, job.weights, device)
    judges = {name: make_judge(made, judging[name], study.test.images) for name, made in recognizers.items()}
    pairs = _add_accuracy(result, study, job, begin)
    _add_linkage(result, study, job, begin)
    inversion = None
    if judges:
        own, *further = judges.items()
        shown_to = {RECOGNIZER: own[1], **dict(further)}
        inversion = invert(study, job, result.labels("fmr"), shown_to, pairs, begin)
        _add_inversion(result, inversion)
        result.sections.append(_inversion_section(result, inversion, job.attacker or RIDGE))
    result.warnings = list(_warnings(result, study))
    result.protocol = _protocol(study, job)
    result.provenance = {
        "stores": [describe_store(store) for store in (study.store, *study.stores, *list(judging.values())[1:])],
        "decoders": inversion.decoders if inversion else {},
        "recognizers": {
            name: {"weights_sha256": made.weights_sha256, "score": made.spec.score}
            for name, made in recognizers.items()
        },
        "settings": {
            "images": len(study.test.images.rows),
            "identities": len(set(study.test.images.identities)),
            "protection": study.scheme,
            "key_ids": study.key_ids,
            "fmrs": result.labels("fmr"),
            "people": _file(job.people),
            "train_people": _file(job.train_people),
            "exclude": sorted(job.exclude),
            "attacker": (job.attacker or RIDGE) if inversion else None,
            "image_size": (job.image_size or IMAGE_SIZE) if inversion else None,
            "training_people": len(set(study.training.images.identities)) if study.training else 0,
            "training_images": len(study.training.images.rows) if study.training else 0,
            "repetitions": job.repetitions,
            "seed": job.seed,
            "level": LEVEL,
        },
    }
    return result


def _file(path: Path | None) -> dict | None:
    """JSON: a people file by its name and content; None for no file."""
    return path and {"file": path.name, "sha256": sha256_file(path)}


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


def _add_accuracy(result: Result, study: Study, job: ProtectionJob, begin: Stage) -> AllPairs:
    """Add the accuracy of each system; all pairs of the protected templates with one key."""
    images = study.test.images
    templates = {PLAIN: images.templates, ONE_KEY: study.test.keys[0]}
    if study.protect_apart:
        templates[OWN_KEYS] = study.protect_apart(begin("keys for people"))
    progress, kept, plain = begin("accuracy"), {}, None
    for done, (system, values) in enumerate(templates.items(), 1):
        kind = study.store.score if system == PLAIN else study.score
        pairs = mated_non_mated_scores(values, images.identities, kind, missing=images.missing)
        if not len(pairs.mated) or not len(pairs.non_mated):
            raise BadInput("the people to judge on need two images of somebody, and somebody else")
        mated, non_mated = Trials(pairs.mated, pairs.mated_people), NonMated.from_all_pairs(pairs)
        options = {"people": len(pairs.people), "repetitions": job.repetitions, "seed": job.seed}
        eer = resampled_eer(mated, non_mated, **options)
        groups, fmrs = {"pairs": mated, "people": mated.person_weighted()}, result.labels("fmr")
        tar = resampled_tar(groups, non_mated, fmrs, **options)
        note = "the key is no secret" if system == ONE_KEY else ""
        result.add("eer", {"system": system}, eer.estimate(), key=system != OWN_KEYS, note=note)
        plain = plain or (eer, tar["people"])
        if system == ONE_KEY:
            result.add("protected_eer", {}, eer.estimate())
        if system != PLAIN:
            result.add("eer_change", {"system": system}, eer.less(plain[0]))
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
    columns = ["eer", "eer_change", ("tar", "tar_change"), "tar_pairs"]
    parts = [f"tar.{part}" for part in ("threshold", "fmr", "false_accepts", "non_mated")]
    tables = [
        result.table("accuracy", "Accuracy on all pairs", ["system"], columns),
        result.table("thresholds", "Thresholds", ["system", "fmr"], parts),
    ]
    result.sections.append(Section("Accuracy", paragraphs(ACCURACY), tables))
    return kept[ONE_KEY]


def _add_linkage(result: Result, study: Study, job: ProtectionJob, begin: Stage) -> None:
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
                progress=begin(f"linkability ({score}, {which})"),
            )
            pictures.append(_add_score(result, score, which, figures))
    for word in ("linkability", "maximal_linkability"):
        for which in IMAGES:
            result.add(f"{word}_of_images", {"images": which}, _highest(result, word, images=[which]))
        result.add(f"worst_{word}", {}, _highest(result, word))
    raw = [[f"{key}_{part}" for part in ("raw", "null_mean", "null_high")] for key in ("d_sys", "maximal")]
    columns = ["linkability", *raw[0], "maximal_linkability", *raw[1], "people", *_COUNTS]
    note = "A pair of keys has fewer comparisons than all of them, and so figures further above 0."
    title, ends = "D_sys of each pair of keys alone, uncorrected", [f"{end}_of_keys" for end in _ENDS]
    tables = [
        result.table("linkability", "Linkability across keys", ["score", "images"], columns),
        result.table("pairs-of-keys", title, ["score", "images"], ["key_pairs", *ends], note=note),
    ]
    result.sections.append(Section("Unlinkability", paragraphs(UNLINKABILITY), tables, pictures))


def _add_score(result: Result, score: str, images: str, figures: LinkageFigures) -> Picture:
    """Add the linkability of one score; its histogram."""
    labels: dict[str, Label] = {"score": score, "images": images}
    measured, by_keys, null = figures.measured, figures.by_keys, figures.d_sys_null
    unlinked = f"uncorrected {measured.d_sys:.3f}; unlinked templates give {null.mean:.3f}"
    result.add("linkability", labels, figures.d_sys, note=unlinked)
    numbers = {
        "maximal_linkability": figures.maximal,
        "d_sys_raw": measured.d_sys,
        "maximal_raw": measured.maximal,
        "d_sys_null_mean": null.mean,
        "d_sys_null_high": null.high,
        "maximal_null_mean": figures.maximal_null.mean,
        "maximal_null_high": figures.maximal_null.high,
        "people": figures.d_sys.n,
        "mated": figures.mated,
        "non_mated": figures.non_mated,
        "bins": len(measured.mated),
        "key_pairs": len(by_keys),
        "lowest_of_keys": min(by_keys),
        "median_of_keys": float(np.median(by_keys)),
        "highest_of_keys": max(by_keys),
    }
    for name, value in numbers.items():
        result.add(name, labels, value)
    result.facts.setdefault("linkability", {}).setdefault(score, {})[images] = {"by_keys": by_keys}
    if not figures.distinguishable:
        result.warnings.append(
            f"D_sys by {SCORES[score]}, {IMAGES[images]}: uncorrected {measured.d_sys:.3f} is not above what unlinked "
            f"templates give in {percent((1 + LEVEL) / 2)} of the draws ({null.high:.3f}). It cannot be told from 0."
        )
    title = f"{SCORES[score][0].upper()}{SCORES[score][1:]} across keys, {IMAGES[images]}"
    drawn = plots.linkability_plot(
        measured.edges, measured.mated, measured.non_mated, measured.local, f"{SCORES[score]} across keys"
    )
    alt = f"{title}: densities of mated and non-mated scores, and D↔ over them."
    return Picture(f"linkability-{score}-{images}", title, drawn, f"D_sys {unlinked}.", alt, "svg")


def _highest(result: Result, metric: str, **labels: Sequence[Label]) -> Any:
    """The highest figure of a metric with these labels, several an axis."""
    rows = [row for row in result.rows(metric) if all(row.labels[axis] in allowed for axis, allowed in labels.items())]
    return max((row.estimate for row in rows), key=lambda estimate: estimate.value)


def _add_inversion(result: Result, inversion: Inversion) -> None:
    """Add how often an attacker's pictures are accepted."""
    lowest = min(result.labels("fmr"))
    for attacker, by_judge in inversion.rates.items():
        for judge, rates in by_judge.items():
            for kind, groups in {"type_one": rates.type_one, "type_two": rates.type_two, "real": rates.mated}.items():
                for rate in groups.get("people", ()):
                    key = judge == RECOGNIZER and kind == "type_two" and attacker != NOTHING
                    labels = {"attacker": attacker, "judge": judge, "fmr": rate.fmr_wanted}
                    result.add(kind, labels, rate, key=key and rate.fmr_wanted == lowest)
                for rate in groups.get("pairs", ()):
                    labels = {"attacker": attacker, "judge": judge, "fmr": rate.fmr_wanted}
                    result.add(f"{kind}_pairs", labels, rate, _errors(kind, rate, attacker))
    for kind in _TYPES:
        for fmr in result.labels("fmr"):
            for attacker in ATTACKERS:
                highest = _highest(result, kind, attacker=[attacker], fmr=[fmr])
                result.add(f"{kind}_of_attacker", {"attacker": attacker, "fmr": fmr}, highest)
            result.add(f"worst_{kind}", {"fmr": fmr}, _highest(result, kind, attacker=[KNOWN, UNKNOWN], fmr=[fmr]))


def _errors(kind: str, rate: RateAtFmr, attacker: str) -> dict[str, int]:
    """The counts that a rate by pair rests on; the thresholds are all attackers', so that one has their counts."""
    if kind == "real":
        return {"false match": rate.false_accepts} if attacker == PLAIN else {}
    return {"success": rate.accepted, "failure": rate.n - rate.accepted}


def _inversion_section(result: Result, inversion: Inversion, attacker: str) -> Section:
    columns = [f"{kind}{by}" for kind in (*_TYPES, "real") for by in ("", "_pairs")]
    names = result.schema.axis("judge").names
    tables = [
        result.table(
            f"inversion-{n}", f"Pictures shown to {names[judge]}", ["fmr", "attacker"], columns, {"judge": judge}
        )
        for n, judge in enumerate(result.labels("judge"), 1)
    ]
    rows = ["originals", *ATTACKERS]
    labels = ["originals", *ATTACKERS.values()]
    grid = picture_grid([_shrunk(inversion.examples[name]) for name in rows], labels)
    title = f"What {attacker} draws, of people spread evenly over the names"
    picture = Picture("drawn", title, png_bytes(grid), alt=f"Rows of portraits: {'; '.join(labels)}.")
    title = "Irreversibility: decoders trained on protected templates"
    return Section(title, paragraphs(IRREVERSIBILITY), tables, [picture])


def _shrunk(pictures: np.ndarray) -> np.ndarray:
    """Pictures small enough to stand ten in a row."""
    step = max(1, pictures.shape[1] // 64)
    side = pictures.shape[1] // step
    blocks = pictures.reshape(len(pictures), side, step, side, step, 3).mean(axis=(2, 4))
    return np.rint(blocks).astype(np.uint8)


def _warnings(result: Result, study: Study) -> Iterator[str]:
    """What keeps a figure from meaning what it seems to."""
    yield from result.warnings
    same_image = {row.labels["score"]: row.estimate for row in result.rows("linkability", {"images": "same-image"})}
    if "length" in same_image and same_image["length"].value > same_image["own"].value:
        yield (
            "A rotation keeps the length of every template. Lengths link across keys what the scheme's own score does "
            f"not (D_sys {same_image['length'].value:.3f} for one image under both keys); a Euclidean score contains "
            "the lengths, too. Take these templates for linkable, unless they are normalized first."
        )
    if OWN_KEYS in result.labels("system"):
        yield (
            "With a key for each person, error rates are those of impostors without the key: they measure the key as "
            "much as the face."
        )
    if study.training is None:
        yield "No decoder was trained: inversion is not measured (give --train-people)."
    elif study.protect is None:
        yield "Pictures are not shown to the protected system: the stores do not hold its key."


def _protocol(study: Study, job: ProtectionJob) -> list[str]:
    images, training, dim = study.test.images, study.training and study.training.images, study.scheme["dim"]
    scheme = f"Rotation: a secret, uniformly random orthogonal matrix of {dim} dimensions."
    solvable = (
        " Not measured: whoever holds as many templates under both keys as a template has numbers can solve for the "
        "rotation between them."
    )
    if study.scheme["scheme"] != "rotation":
        center = "after the mean of a public set was taken off" if study.scheme["center_sha256"] else "without a center"
        scheme = f"BioHashing: the signs of projections on {dim} secret orthonormal directions, {center}."
        solvable = ""
    shown_to = "not the protected system, as the stores do not hold its key"
    if study.protect:
        shown_to = "the protected system, which protects the picture's template with its own key"
    return paragraphs(
        PROTOCOL,
        images=len(images.rows),
        people=len(set(images.identities)),
        recognizer=study.store.recognizer.name,
        plain_score=study.store.score,
        missing=int(images.missing.sum()),
        scheme=scheme,
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
        solvable=solvable,
        level=percent(LEVEL),
    )
