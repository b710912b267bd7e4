"""What the report of `evaluate protection` says: how things are called, how they were measured, what to beware of."""

from __future__ import annotations

from collections.abc import Iterator

from facedecode.evaluation.protection.linkage import MOST_NON_MATED, MOST_OF_A_PERSON, NULL_DRAWS
from facedecode.evaluation.protection.measure import (
    KNOWN,
    NOTHING,
    ONE_KEY,
    OWN_KEYS,
    RECOGNIZER,
    SYSTEM,
    UNKNOWN,
    UNPROTECTED,
    ProtectionFigures,
)
from facedecode.evaluation.protection.protected import Study
from facedecode.evaluation.result import FEW_ERRORS
from facedecode.statistics.intervals import LEVEL

SYSTEMS = {
    UNPROTECTED: "unprotected",
    ONE_KEY: "protected, one key for all",
    OWN_KEYS: "protected, a key for each person",
}
ATTACKERS = {
    UNPROTECTED: "templates unprotected",
    KNOWN: "key known",
    UNKNOWN: "key unknown",
    NOTHING: "mean face",
}
SCORES = {"own": "the scheme's own score", "length": "difference of lengths"}
LINKED = {"different-images": "two images of a person", "same-image": "one image under both keys"}


def percent(rate: float) -> str:
    """A rate as it is asked for: 0.001 is '0.1 %'."""
    return f"{100 * rate:g} %"


def judge_title(judge: str) -> str:
    """Whom pictures are shown to."""
    known = {RECOGNIZER: "the recognizer, unprotected", SYSTEM: "the protected system"}
    return known.get(judge, f"another recognizer, {judge}")


def protocol(figures: ProtectionFigures, study: Study) -> list[str]:
    """How the figures were made and what they mean, the threat models among it."""
    images = study.test.images
    people = len(set(images.identities))
    made = "keys that follow from the seed" if study.protect else "the keys of the stores given"
    said = [
        f"{len(images.rows):,} images of {people:,} people, templates of {study.store.recognizer.name} "
        f"({study.store.score}). {int(images.missing.sum())} of the images gave none: mated pairs with those count as "
        "false non-matches, and they have no part in linking.",
        f"{_scheme(study)} Protected templates are compared by {study.score}. There are {len(study.key_ids)} keys, "
        f"{made}. The schemes are examples to measure, not products.",
        "Linkability: D_sys with ω = 1 of Gomez-Barrero et al. (IEEE TIFS 2018) and maximal linkability of Otroshi "
        "Shahreza et al. (IEEE TIFS 2023), of scores between templates under different keys. Bins: equally wide, from "
        "the lowest to the highest score, as many as a tenth of the mated comparisons, at most 100. People count "
        f"alike: at most {MOST_OF_A_PERSON} mated comparisons a person and pair of keys, and non-mated ones (at most "
        f"{MOST_NON_MATED:,}) of two people drawn with equal chances. Both figures are of the scores named, and a "
        "better score may link more; each pair of keys enters alike.",
        f"The level of unlinked templates is that of {NULL_DRAWS} draws in which each person is compared with another "
        "one instead. Samples of finite size make both figures too high, in the figure v as in each replicate of the "
        "bootstrap, so what is reported is 2·v − the replicates' mean. Its interval is that of the replicates less "
        "twice their bias, corrected for skewness by a jackknife over people (BCa); v itself is given as uncorrected. "
        "Near the level of unlinked templates this takes off a part only of what "
        "is too much: where v is not above it, the interval holds 0. An interval reaches at least as far from 0 and 1 "
        "as so many people can tell of whom none or all are linked (Clopper and Pearson), and holds the figure.",
    ]
    if figures.inversion:
        said += _threats(figures, study)
    said.append(
        f"Intervals are {percent(LEVEL)}, by bootstrap over people, with thresholds set anew in each replicate; "
        "changes are taken replicate by replicate. The keys are the same in all replicates: intervals do not cover the "
        "choice of keys."
    )
    return said


def _scheme(study: Study) -> str:
    dim = study.scheme["dim"]
    if study.scheme["scheme"] == "rotation":
        return f"Rotation: a secret, uniformly random orthogonal matrix of {dim} dimensions."
    centered = "after the mean of a public set was taken off" if study.scheme["center_sha256"] else "without a center"
    return f"BioHashing: the signs of projections on {dim} secret orthonormal directions, {centered}."


def _threats(figures: ProtectionFigures, study: Study) -> list[str]:
    training = study.training.images
    system = (
        "the protected system, which protects the picture's template with its own key"
        if study.protect
        else "not the protected system, as the stores do not hold its key"
    )
    solved = (
        " Not measured: whoever holds as many templates under both keys as a template has numbers can solve for the "
        "rotation between them."
    )
    return [
        f"Inversion: the attacker holds a stolen protected template, and {len(training.rows):,} images of "
        f"{len(set(training.identities)):,} other people with their templates, on which a {figures.settings.attacker} "
        "decoder is trained. Key known: those are protected with the stolen template's own key (an insider, or a key "
        "stored beside the templates, or a system that enrolls whom the attacker brings). Key unknown: they are "
        "protected with another key. Unprotected: no protection anywhere. Mean face: no template at all.",
        f"Each picture is shown to the unprotected recognizer and to {system}. A decoder of a fixed form shows that "
        f"inversion succeeds; where it fails, another may not.{solved if study.scheme['scheme'] == 'rotation' else ''}",
    ]


def caveats(figures: ProtectionFigures, study: Study) -> list[str]:
    """What keeps a figure from meaning what it seems to."""
    said = []
    for name, found in figures.accuracy.items():
        for rate in found.tar["pairs"]:
            errors = {"false matches": rate.false_accepts, "false non-matches": rate.n - rate.accepted}
            if few := [f"{count or 'no'} {what}" for what, count in errors.items() if count < FEW_ERRORS]:
                at = percent(rate.fmr_wanted)
                said.append(f"{SYSTEMS[name]}: what is said at FMR {at} rests on few errors: {' and '.join(few)}.")
    said += _rare(figures)
    for (score, images), found in figures.linkage.items():
        if not found.distinguishable:
            said.append(
                f"D_sys by {SCORES[score]}, {LINKED[images]}: uncorrected {found.measured.d_sys:.3f} is not above what "
                f"unlinked templates give in {percent((1 + LEVEL) / 2)} of the draws ({found.d_sys_null.high:.3f}): "
                "not to be told from 0."
            )
    own, length = (figures.linkage.get((score, "same-image")) for score in SCORES)
    if length and length.d_sys.value > own.d_sys.value:
        said.append(
            "A rotation keeps the length of every template, and lengths link across keys what the scheme's own score "
            f"does not (D_sys {length.d_sys.value:.3f} for one image under both keys); a Euclidean score has "
            "the lengths in itself, too. Take these templates for linkable, unless they are normalized first."
        )
    if OWN_KEYS in figures.accuracy:
        said.append(
            "With a key for each person, error rates are those of impostors without the key: they measure the key as "
            "much as the face."
        )
    if study.training is None:
        said.append("No decoder was trained: inversion is not measured (give --train-people).")
    elif study.protect is None:
        said.append("Pictures are not shown to the protected system: the stores do not hold its key.")
    return said


def _rare(figures: ProtectionFigures) -> Iterator[str]:
    """Whose figures of inversion rest on few successes, failures or false matches, by judge."""
    rates = figures.inversion.rates if figures.inversion else {}
    for judge in rates.get(UNPROTECTED, ()):
        own = rates[UNPROTECTED][judge].mated.get("pairs", ())
        if few := [percent(rate.fmr_wanted) for rate in own if rate.false_accepts < FEW_ERRORS]:
            what = f"thresholds rest on fewer than {FEW_ERRORS} false matches at FMR {', '.join(few)}"
            yield f"Pictures shown to {judge_title(judge)}: {what}."
        rare = [
            f"{word}, {ATTACKERS[attacker]}, at FMR {percent(rate.fmr_wanted)}"
            for word, kind in (("type I", "type_one"), ("type II", "type_two"))
            for attacker, by_judge in rates.items()
            for rate in getattr(by_judge[judge], kind).get("pairs", ())
            if min(rate.accepted, rate.n - rate.accepted) < FEW_ERRORS
        ]
        if rare:
            few = f"fewer than {FEW_ERRORS} successes, or fewer than {FEW_ERRORS} failures, stand behind"
            yield f"Pictures shown to {judge_title(judge)}: {few} {'; '.join(rare)}."
