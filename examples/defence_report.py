"""The report of `defence.py`: four curves for each attack, their order tried, and what the attacks did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from facedecode.classifiers.classifier import Classifier
from facedecode.evaluation.result import FEW_ERRORS
from facedecode.evaluation.verification.measure import Figures
from facedecode.pictures.figures import picture_grid, png_bytes, shortened
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.plots import roc_plot
from facedecode.report.text import counted, percent
from facedecode.statistics.bootstrap import Estimate, Resampled

ORIGINAL = "original"
CLASS, EMBEDDING = "class", "embedding"
CLASS_THROUGH, EMBEDDING_THROUGH = "class, through the decoder", "embedding, through the decoder"
ATTACKS = (CLASS, EMBEDDING, CLASS_THROUGH, EMBEDDING_THROUGH)
_NOISE = 8  # how much a change is amplified where it is shown
# What is measured of each attack: title, unit of the column.
_EFFECTS = {
    "named": ("named as the target", "percent"),
    "named decoded": ("named so when decoded", "percent"),
    "softmax": ("softmax of the target", "percent"),
    "softmax decoded": ("softmax when decoded", "percent"),
    "accepted as target": ("accepted as the target", "percent"),
    "accepted as target decoded": ("accepted so when decoded", "percent"),
    "accepted as oneself": ("accepted as oneself", "percent"),
    "accepted as oneself decoded": ("accepted as oneself when decoded", "percent"),
    "moved": ("template moved by", "number"),
    "to own": ("score to one's own", "score"),
    "to target": ("score to the target", "score"),
    "linf": ("L∞", "number"),
    "l2": ("L2", "number"),
    "ssim": ("SSIM", "number"),
}


@dataclass(frozen=True)
class Effects:
    """means: attack (or ORIGINAL) → what → mean with its interval. difference: of 'moved', EMBEDDING less CLASS."""

    means: dict[str, dict[str, Estimate]]
    difference: Estimate


@dataclass(frozen=True)
class Measured:
    """figures, resampled: (attack or ORIGINAL, decoded) → verification figures, and TAR a FAR in all replicates.

    shown: attack → crops, the decoder's crops of them (k, S, S, 3), and whom the classifier takes the crops for.
    wanted: the targets of those shown.
    """

    figures: dict[tuple[str, bool], Figures]
    resampled: dict[tuple[str, bool], list[Resampled]]
    effects: Effects
    shown: dict[str, tuple[np.ndarray, np.ndarray, list[str]]]
    wanted: list[str]
    level: float


def make_report(measured: Measured, recognizer: str, classifier: Classifier, provenance: dict) -> Report:
    settings = provenance["settings"]
    fmrs = [rate.fmr_wanted for rate in measured.figures[ORIGINAL, False].by_person]
    orders = {name: list(ordering(measured, name, fmrs)) for name in ATTACKS}
    return Report(
        kind="defence",
        title="Attacked faces, and decoding as a defence: the paper's Fig. 13",
        protocol=protocol(measured, recognizer, classifier, settings),
        headlines=list(headlines(measured, fmrs)),
        sections=[
            Section("What the attacks did", tables=[effects(measured, settings["fmr"])], pictures=[faces(measured)]),
            Section("TAR at FAR", tables=[rates(measured, fmrs)]),
            *(
                Section(f"Attack: {name}", tables=[order_table(name, orders[name])], pictures=[curves(measured, name)])
                for name in ATTACKS
            ),
        ],
        metrics={
            "tar_at_far": {
                f"{name}{', decoded' if decoded else ''}": {
                    f"{rate.fmr_wanted:g}": rate.as_json() for rate in own.by_person
                }
                for (name, decoded), own in measured.figures.items()
            },
            "effects": {
                name: {what: value.as_json() for what, value in one.items()}
                for name, one in measured.effects.means.items()
            },
            "moved_embedding_less_class": measured.effects.difference.as_json(),
            "ordering": {
                name: [
                    {"less": what, "far": fmr, "difference": difference.as_json(), "holds": holds}
                    for what, fmr, difference, holds in own
                ]
                for name, own in orders.items()
            },
        },
        warnings=list(warnings(measured, settings)),
        provenance=provenance,
    )


def label(name: str, decoded: bool) -> str:
    """What a curve is called."""
    return ("original" if name == ORIGINAL else "attacked") + (", decoded" if decoded else "")


def chain(name: str) -> list[tuple[str, bool]]:
    """Fig. 13's order, the best first."""
    return [(ORIGINAL, False), (ORIGINAL, True), (name, True), (name, False)]


def ordering(measured: Measured, name: str, fmrs: Sequence[float]) -> Iterator[tuple[str, float, Estimate, str]]:
    """Each step of Fig. 13's order: the difference of TAR, and whether it is above 0."""
    steps = chain(name)
    for better, worse in pairwise(steps):
        for k, fmr in enumerate(fmrs):
            difference = measured.resampled[better][k].less(measured.resampled[worse][k], measured.level)
            holds = "not decided"
            if difference.low is not None and (difference.low > 0 or difference.high < 0):
                holds = "yes" if difference.low > 0 else "no"
            yield f"{label(*better)} less {label(*worse)}", fmr, difference, holds


def order_table(name: str, rows: Sequence[tuple[str, float, Estimate, str]]) -> Table:
    columns = [Column("difference of TAR"), Column("FAR"), Column("points", "points"), Column("as in the paper")]
    cells = [[what, percent(fmr), difference, holds] for what, fmr, difference, holds in rows]
    note = "Paired: the same people in each replicate; every condition has its own threshold."
    return Table(f"order-{_slug(name)}", "Fig. 13's order", columns, cells, note)


def rates(measured: Measured, fmrs: Sequence[float]) -> Table:
    columns = [Column("attack"), Column("probe")]
    columns += [Column(f"TAR at FAR {percent(fmr)}", "percent") for fmr in fmrs] + [Column("EER", "percent")]
    rows = [
        ["none" if name == ORIGINAL else name, label(name, decoded), *own.by_person, own.eer]
        for (name, decoded), own in measured.figures.items()
    ]
    note = "One mated pair a person. Each row has its own threshold, set on its own non-mated pairs."
    return Table("tar", "Verification of probes, as they are and decoded", columns, rows, note)


def effects(measured: Measured, fmr: float) -> Table:
    columns = [Column("attack"), *(Column(title, unit) for title, unit in _EFFECTS.values())]
    rows = [
        ["none" if name == ORIGINAL else name, *(one[what] for what in _EFFECTS)]
        for name, one in measured.effects.means.items()
    ]
    note = (
        "Means over images, of the pictures as they are saved (8 bits). Accepted as the target, or as oneself: by the "
        "score to the target's template, or to the one enrolled, at the threshold that the people judged set as they "
        f"are for FMR {percent(fmr)}, and that stays. 'Decoded' is what the defence sees."
    )
    return Table("effects", "Success, and how far pictures and templates moved", columns, rows, note)


def curves(measured: Measured, name: str) -> Picture:
    names = chain(name)
    picture = roc_plot(
        {label(*one): measured.figures[one].curve for one in names},
        {label(*one): measured.figures[one].by_person for one in names},
    )
    alt = "True accept rate against false accept rate on a logarithmic axis, four curves"
    return Picture(f"roc-{_slug(name)}", f"ROC, attack: {name}", picture, "Bars: intervals.", alt, "svg")


def faces(measured: Measured) -> Picture:
    """As Fig. 12: originals, and for each attack the change, the attacked face and what the decoder draws of it."""
    originals, decoded, names = measured.shown[ORIGINAL]
    side = originals.shape[2]
    bands, labels, captions = [originals, decoded], ["original", "decoded"], [names, []]
    for name in ATTACKS:
        pictures, drawn, predicted = measured.shown[name]
        change = pictures.astype(np.int16) - originals
        noise = np.clip(128 + _NOISE * change, 0, 255).astype(np.uint8)
        bands += [noise, pictures, drawn]
        labels += [f"{name}: change x {_NOISE}", "attacked", "decoded"]
        captions += [[], predicted, []]
    cut = [[shortened(text.replace("_", " "), side) for text in line] for line in captions]
    caption = (
        "Below each face is the class that the classifier takes it for. The targets are "
        + ", ".join(name.replace("_", " ") for name in measured.wanted)
        + ". Those attacked are spread evenly over the sorted names."
    )
    alt = "Faces, amplified changes, attacked faces, and what the decoder draws of their templates"
    return Picture("faces", "Attacked faces", png_bytes(picture_grid(bands, labels, cut)), caption, alt)


def headlines(measured: Measured, fmrs: Sequence[float]) -> Iterator[Headline]:
    k = 0  # the coarsest, which rests on the most errors
    if fmrs:
        for name, decoded in dict.fromkeys(step for attack in (CLASS, CLASS_THROUGH) for step in chain(attack)):
            own = measured.figures[name, decoded].by_person[k]
            what = label(name, decoded) + ("" if name == ORIGINAL else f" ({name})")
            yield Headline(f"TAR at FAR {percent(fmrs[k])}: {what}", own)
    yield Headline(
        "Template moved: by the embedding attack less by the class attack",
        measured.effects.difference,
        "number",
        "paired, at the same L∞ and steps",
    )


def warnings(measured: Measured, settings: dict) -> Iterator[str]:
    if settings["limit"]:
        yield f"Only {settings['limit']:,} people were taken: a trial run, not a result."
    for (name, decoded), own in measured.figures.items():
        for rate in own.by_person:
            if (lost := rate.n - rate.accepted) < FEW_ERRORS or rate.false_accepts < FEW_ERRORS:
                few = min((lost, "false reject"), (rate.false_accepts, "false accept"))
                at = "" if name == ORIGINAL else f" ({name})"
                yield f"{label(name, decoded)}{at}, FAR {percent(rate.fmr_wanted)}: rests on {counted(*few)}"


def protocol(measured: Measured, recognizer: str, classifier: Classifier, settings: dict) -> list[str]:
    own = measured.figures[ORIGINAL, False]
    return [
        f"{own.people:,} of the {settings['people_of_the_list']:,} people of {settings['people']['name']}: those who "
        f"have two images with a template ({settings['images_without_a_template']:,} of all images gave none). The "
        "first is enrolled, the second is the probe, and is attacked. Each probe is compared with every enrolled "
        f"image. Neither the decoder nor the classifier was trained on them; the recognizer is {recognizer}.",
        f"Attack: {method(settings)}, in the recognizer's crop, before its normalization; the last picture is kept, "
        "rounded to 8 bits.",
        f"Targets: for each probe one of the {len(classifier):,} people of a softmax on frozen templates, drawn at "
        "random. The class attack descends the cross-entropy of that class, the embedding attack raises the score to a "
        "template of that very person that the softmax was not trained on. The decoder may know the people of the "
        "targets: they are of those that decoders are trained on.",
        "Defence: the decoder draws the probe's template, and the face that it draws is embedded in the probe's place. "
        "'Through the decoder' is an attack that knows of that and takes its gradients through decoder and second "
        "embedding; a defence that was tried on attacks that do not know of it alone has not been tried.",
        "What is assumed: the attacker has the recognizer's weights, the softmax or a template of the target, and, "
        "where it is said, the decoder; and hands in the aligned crop itself.",
        "Each condition has its own threshold, from its own non-mated pairs, as the paper's curves have. A system "
        "would keep the threshold that it set on faces as they are; what it would do stands in the first table.",
        f"Intervals: {100 * measured.level:g} %, {settings['repetitions']:,} replicates of a bootstrap by person (seed "
        f"{settings['seed']}), thresholds set anew in each; differences are paired.",
    ]


def method(settings: dict) -> str:
    """How the pictures were changed."""
    epsilon, alpha, steps = (settings[name] for name in ("epsilon", "alpha", "steps"))
    if steps == 1:
        return f"FGSM, one step of {min(alpha, epsilon) * 255:g}/255 in each value"
    return (
        f"iterative FGSM, L∞ at most {epsilon * 255:g}/255, {steps} steps of {alpha * 255:g}/255, all of them spent "
        "whether or not the goal was reached before"
    )


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")
