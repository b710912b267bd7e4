"""The report of `fig17.py`: what is read from pictures drawn of edited templates, and whom they pass for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from facedecode.report import Column, Headline, Report, Section, Table
from facedecode.report.text import percent
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.intervals import LEVEL

PHOTOGRAPH, AS_IT_IS = "photograph", "disentangled"
EXCHANGED, NOBODY = "attribute: the other class", "identity: mean"  # the figure's two claims


@dataclass(frozen=True)
class Seen:
    """What a recognizer makes of n pictures.

    told: name of a probe → probability of the second class, float64 (n,). cosine: with the photograph's template,
    float64 (n,). accepted: as the photograph, bool (n,).
    """

    told: Mapping[str, np.ndarray]
    cosine: np.ndarray
    accepted: np.ndarray


def edits(name: str, classes: Sequence[str]) -> dict[str, str]:
    """For people of a class: what an edit is called whatever the class → the column that has it."""
    [other] = [one for one in classes if one != name]
    found = {PHOTOGRAPH: PHOTOGRAPH, AS_IT_IS: AS_IT_IS}
    for part in ("attribute", "identity"):
        found |= {f"{part}: the same class": f"{part}: {name}", f"{part}: the other class": f"{part}: {other}"}
        found |= {f"{part}: mean": f"{part}: mean"}
    return found


def make_report(
    kept: Mapping[tuple[str, str, str], Seen],
    whose: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    provenance: dict,
) -> Report:
    """kept: (recognizer, class, column) → what is seen. whose: class → the person of each picture."""
    settings = provenance["settings"]
    options = {"repetitions": settings["repetitions"], "seed": settings["seed"]}
    people = list(chain.from_iterable(whose.values()))
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    sections = []
    for beholder in dict.fromkeys(name for name, *_ in kept):
        found[beholder] = {}
        for edit in edits(classes[0], classes):
            columns = {name: kept[beholder, name, edits(name, classes)[edit]] for name in classes}
            found[beholder][edit] = figures(columns, {name: kept[beholder, name, AS_IT_IS] for name in classes}, people)
            found[beholder][edit] = {
                what: mean_interval(values, people, **options) for what, values in found[beholder][edit].items()
            }
        tables = [edit_table(beholder, found[beholder]), class_table(beholder, kept, whose, classes, options)]
        sections.append(Section(beholder, tables=tables))
    last = list(found)[-1]
    return Report(
        kind="fig17",
        title="Faces of templates with one part exchanged: the paper's Fig. 17",
        protocol=protocol(list(found), settings, len(people), classes),
        headlines=list(headlines(last, found[last])),
        sections=sections,
        metrics={
            beholder: {edit: {what: value.as_json() for what, value in own.items()} for edit, own in rows.items()}
            for beholder, rows in found.items()
        },
        warnings=list(warnings(list(found), settings)),
        provenance={**provenance, "settings": {**settings, "level": LEVEL}},
    )


def figures(columns: Mapping[str, Seen], before: Mapping[str, Seen], people: Sequence[str]) -> dict[str, np.ndarray]:
    """What an edit came to, of the pictures of all classes, (n,) each. columns, before: class → what is seen."""
    second = list(columns)[1]
    found = {
        f"told: {probe}": np.concatenate(
            [(own.told[probe] >= 0.5) == (name == second) for name, own in columns.items()]
        )
        for probe in columns[second].told
    }
    found["cosine"] = np.concatenate([own.cosine for own in columns.values()])
    found["accepted"] = np.concatenate([own.accepted for own in columns.values()])
    found["lost"] = found["accepted"] - np.concatenate([own.accepted for own in before.values()]).astype(np.float64)
    return found


def edit_table(beholder: str, rows: Mapping[str, Mapping[str, Estimate]]) -> Table:
    probes = [what for what in rows[PHOTOGRAPH] if what.startswith("told: ")]
    columns = [
        Column("drawn of"),
        *(Column(f"own class told, {what.removeprefix('told: ')}", "percent") for what in probes),
    ]
    columns += [Column("cosine", "number"), Column("accepted", "percent")]
    columns += [Column(f"accepted, less {AS_IT_IS}", "points")]
    cells = []
    for edit, own in rows.items():
        itself = edit == PHOTOGRAPH  # its own template: nothing to compare
        compared = [None] * 3 if itself else [own["cosine"], own["accepted"], None if edit == AS_IT_IS else own["lost"]]
        cells.append([edit, *(own[what] for what in probes), *compared])
    return Table(
        f"edits-{beholder}",
        f"As {beholder} sees it, both classes",
        columns,
        cells,
        "Own class told: the share of pictures whose probability is on the side of the person's own class, which an "
        "exchange is to bring to 0. Cosine, accepted: of the picture's template with the photograph's, by this "
        "recognizer. Differences are paired.",
    )


def class_table(
    beholder: str,
    kept: Mapping[tuple[str, str, str], Seen],
    whose: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    options: dict,
) -> Table:
    """Means of each class and column, as the paper has them."""
    seen = {key[1:]: own for key, own in kept.items() if key[0] == beholder}
    probes = next(iter(seen.values())).told
    rows = []
    for (of_class, title), own in seen.items():
        if title != PHOTOGRAPH:
            values = [*own.told.values(), own.cosine, own.accepted]
            rows.append([of_class, title, *(mean_interval(value, whose[of_class], **options) for value in values)])
    columns = [
        Column("class"),
        Column("drawn of"),
        *(Column(f"p({classes[1]}), {probe}", "number") for probe in probes),
    ]
    columns += [Column("cosine", "number"), Column("accepted", "percent")]
    return Table(f"classes-{beholder}", f"As {beholder} sees it, by class", columns, rows, "p: mean probability.")


def headlines(beholder: str, rows: Mapping[str, Mapping[str, Estimate]]) -> list[Headline]:
    probes = [what for what in rows[PHOTOGRAPH] if what.startswith("told: ")]
    found = [
        Headline(f"{edit}: own class told by {beholder}, {what.removeprefix('told: ')}", rows[edit][what])
        for edit in (PHOTOGRAPH, EXCHANGED, NOBODY)
        for what in probes
    ]
    return found + [
        Headline(f"{edit}: accepted as the photograph by {beholder}", rows[edit]["accepted"])
        for edit in (AS_IT_IS, EXCHANGED, NOBODY)
    ]


def warnings(beholders: Sequence[str], settings: dict) -> Iterator[str]:
    if len(beholders) == 1:
        yield "No recognizer judges but the attacked one, whose templates were edited."
    for name in settings["looked_through"]:
        yield f"The decoder's training looked through {name}, or does not say that it did not: no independent judge."


def protocol(beholders: Sequence[str], settings: dict, people: int, classes: Sequence[str]) -> list[str]:
    """How the figures were made, a paragraph each."""
    thresholds = ", ".join(f"{name} {value:.4g}" for name, value in settings["thresholds"].items())
    told = (
        "A classifier of pictures tells the class."
        if settings["judge"]
        else (
            f"Probes tell the class: logistic regression, normal distributions and a small network, fitted to each "
            f"recognizer's templates of photographs of the people of {(settings['train_people'] or {}).get('name')}."
        )
    )
    independent = (
        [
            f"{beholders[1]} judges what can be seen in the pictures, and is not the one attacked. What "
            f"{beholders[0]} reads can be noise that only it sees, and its quadratic probe is the kind of model that "
            "the disentangler edits by."
        ]
        if len(beholders) > 1
        else []
    )
    return [
        f"{people:,} people of {settings['people']['name']}, as many {classes[0]} as {classes[1]} "
        f"({settings['attribute']}, by the labels) if there are, one photograph each, spread evenly over the names. "
        "Neither decoder, disentangler nor probes were fitted to them. The template's attribute part, or its identity "
        "part, is set to that of a class, or to the mean; with both kept it is the template as it was. The decoder "
        "draws the result.",
        told,
        *independent,
        f"Accepted: the score with the photograph's template is at or above the threshold of FMR "
        f"{percent(settings['fmr'])}, over all non-mated pairs of photographs of {settings['people']['name']} "
        f"({thresholds}). The photograph is the one whose template was edited.",
        f"Intervals: {LEVEL:.0%}, {settings['repetitions']:,} replicates of a bootstrap by person.",
    ]
