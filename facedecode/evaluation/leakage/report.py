"""The report of `evaluate leakage`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from facedecode.attributes.measured import ATTRIBUTES
from facedecode.attributes.probe import probes_of
from facedecode.evaluation.leakage.measure import LeakageFigures, LeakageJob
from facedecode.evaluation.leakage.strips import AMOUNTS, READABLE, Strip
from facedecode.provenance import describe_file, describe_store
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.report.gates import figure_name
from facedecode.report.text import counted
from facedecode.statistics.bootstrap import LEVEL, Estimate

GATE_WORDS = ("balanced_accuracy", "r2")
_TITLES = {"linear": "linear probe", "quadratic": "quadratic probe", "mlp": "small network"}


def leakage_report(
    figures: LeakageFigures,
    job: LeakageJob,
    strips: Mapping[str, Strip] | None = None,
    decoder: Mapping[str, Any] | None = None,
) -> Report:
    """The report. Reads the files of labels and people once more, for their hashes.

    decoder: which one drew the strips (`describe_decoder`).
    """
    files = {"people": job.people, "labels": job.labels}
    return Report(
        kind="leakage",
        title="What templates give away",
        protocol=_protocol(figures, job),
        headlines=list(_headlines(figures)),
        sections=[_read(figures), _spread(figures), *([_strips(figures, strips)] if strips else [])],
        metrics=_metrics(figures, strips or {}),
        gates=_gates(figures),
        warnings=_warnings(figures),
        provenance={
            "stores": {label: describe_store(store) for label, store in figures.stores.items()},
            "files": {name: describe_file(path) for name, path in files.items() if path},
            **({"decoder": decoder} if strips else {}),
            "settings": {
                "columns": list(job.columns),
                "exclude": list(job.exclude),
                "limit": job.limit,
                "folds": job.folds,
                "repetitions": job.repetitions,
                "seed": job.seed,
            },
        },
    )


def _word(figures: LeakageFigures, name: str) -> str:
    return "r2" if figures.targets[name][0].classes is None else "balanced_accuracy"


def _protocol(figures: LeakageFigures, job: LeakageJob) -> list[str]:
    persons = len({row["identity"] for row in figures.rows})
    definitions = "; ".join(f"{name}: {ATTRIBUTES[name].meaning}" for name in figures.targets if name in ATTRIBUTES)
    labelled = [name for name in figures.targets if name not in ATTRIBUTES]
    said = f" Labelled: {', '.join(labelled)}." if labelled else ""
    return [
        f"Data: {counted(len(figures.rows), 'image')} of {persons:,} people.{said}"
        + (f" Measured: {definitions}." if definitions else ""),
        f"Probes are trained on {job.folds - 1} of {job.folds} folds of people and judged on the other, so that nobody "
        "is in both; penalties and the end of training are chosen on people held out within the training folds. "
        "Linear: logistic regression of classes, ridge regression of numbers. Quadratic, of classes: a normal "
        "distribution for each. Small network: two hidden layers of 128 and 64. An attacker with more data or a better "
        "probe may read more: what is found is a lower bound.",
        "Balanced accuracy: the mean over classes of the share told right, chance being 1 over the number of classes. "
        "R²: 1 less the squared error over that of guessing the mean, 0 being chance (below it, a probe is worse than "
        "that). Every person counts alike, whatever the number of images. Shuffled: the linear probe where the "
        "attribute is another person's (or image's, where it changes within a person).",
        "Spread: directions that carry the attribute are taken out one by one (found on the training folds, by ridge "
        "regression), and what a linear probe then still reads is judged on the other fold.",
        f"Intervals are {LEVEL:.0%}, by bootstrap over people ({job.repetitions:,} replicates, seed {job.seed}), for "
        "probes as they were trained; differences are paired.",
    ]


def _warnings(figures: LeakageFigures) -> list[str]:
    said = list(figures.notes)
    if figures.beyond:
        said.append(f"{figures.beyond:,} images were left out: a trial run, not a result.")
    return said


def _headlines(figures: LeakageFigures) -> Iterator[Headline]:
    for name, by_store in figures.read.items():
        best = {label: max(own.found.values(), key=lambda figure: figure.value) for label, own in by_store.items()}
        measure = "R²" if _word(figures, name) == "r2" else "balanced accuracy"
        unit = "score" if _word(figures, name) == "r2" else "percent"
        for label, figure in best.items():
            which = f" from {label}" if len(best) > 1 else ""
            yield Headline(f"{name}{which}, {measure}", figure, unit, "the best probe")


def _read(figures: LeakageFigures) -> Section:
    tables, pictures = [], []
    for word, title, unit in (
        ("balanced_accuracy", "Classes: balanced accuracy", "percent"),
        ("r2", "Numbers: R²", "score"),
    ):
        names = [name for name in figures.targets if _word(figures, name) == word]
        if not names:
            continue
        several = len(figures.stores) > 1
        columns = [Column("attribute"), *([Column("store")] if several else [])]
        probes = list(probes_of(figures.targets[names[0]][0]))
        for probe in probes:
            columns.append(Column(_TITLES[probe], unit))
            if several:
                columns.append(
                    Column(f"{_TITLES[probe]}: less the first store's", "points" if unit == "percent" else unit)
                )
        columns += [Column("chance", unit), Column("shuffled", unit)]
        rows = []
        for name in names:
            for label, own in figures.read[name].items():
                cells: list = [name, *([label] if several else [])]
                for probe in probes:
                    cells.append(own.found[probe])
                    if several:
                        cells.append(own.over_first.get(probe))
                rows.append((*cells, figures.chance(name), own.shuffled))
        tables.append(Table(word.replace("_", "-"), title, columns, rows))
        points = {
            f"{label}, {_TITLES[probe]}" if several else _TITLES[probe]: [
                figures.read[name][label].found[probe] for name in names
            ]
            for label in figures.stores
            for probe in probes
        }
        data = plots.dot_plot(names, points, x_label=title, percent=word != "r2", line=figures.chance(names[0]))
        alt = f"A row for each of {', '.join(names)}: points with intervals, and chance as a line."
        caption = "Bars: intervals by person. Line: chance."
        pictures.append(Picture(word.replace("_", "-"), title, data, caption, alt, "svg"))
    return Section("What can be read", tables=tables, pictures=pictures)


def _spread(figures: LeakageFigures) -> Section:
    columns = [
        Column("attribute"),
        Column("store"),
        Column("directions taken out", "count"),
        Column("still read", "score"),
    ]
    rows, pictures = [], []
    for name, by_store in figures.read.items():
        for label, own in by_store.items():
            rows += [(name, label, number, figure) for number, figure in own.removed.items()]
    for word, title in (("balanced_accuracy", "balanced accuracy"), ("r2", "R²")):
        curves = {
            (f"{name}, {label}" if len(by_store) > 1 else name): own.removed
            for name, by_store in figures.read.items()
            for label, own in by_store.items()
            if _word(figures, name) == word and own.found["linear"].value > figures.chance(name) + 0.05
        }
        # More than the plot has colors for would be told apart by nobody.
        curves = dict(list(curves.items())[:6])
        if not curves:
            continue
        numbers = list(next(iter(curves.values())))
        curves = {name: [own[number] for number in numbers] for name, own in curves.items() if list(own) == numbers}
        data = plots.curve_plot(
            range(len(numbers)), curves, x_label="directions taken out", y_label=title, percent=False, ticks=numbers
        )
        alt = f"{title} against the directions taken out, a curve each for {', '.join(curves)}."
        pictures.append(Picture(f"spread-{word.replace('_', '-')}", f"Spread: {title}", data, "", alt, "svg"))
    table = Table("spread", "What is still read when directions are taken out", columns, rows, shown=False)
    note = "How many directions carry an attribute: where a curve falls to chance. All numbers are in spread.csv."
    return Section("How it is spread over directions", [note], [table], pictures)


def _strips(figures: LeakageFigures, strips: Mapping[str, Strip]) -> Section:
    columns = [Column("attribute"), Column("change in what is drawn", "score"), Column("in the data", "number")]
    columns.append(Column("faces lost", "count"))
    rows = [(name, own.change, own.expected, own.lost) for name, own in strips.items()]
    said = (
        "Templates of people whom the decoder has not seen are moved along the attribute's direction, found again "
        "without them, and drawn (Haufe et al. 2014: the pattern, in which the attribute shows in the data, not the "
        "filter that reads it best). "
        "One step is the way from the mean of one class to that of the other, or from that of the lowest fifth to that "
        "of the highest. Change: in the attribute as measured on the pictures, over one step (half a step either side "
        "of the template); of classes in a linear probe's probability for the pictures' own templates. Attributes "
        f"that no probe reads by {READABLE:g} more than chance have no strip."
    )
    pictures = [
        Picture(
            f"strip-{name}",
            f"{name}: {figures.directions[name].low} to {figures.directions[name].high}",
            own.picture,
            "",
            f"Rows of faces: an original, then drawings with {name} at {', '.join(f'{a:+g}' for a in AMOUNTS)} steps.",
        )
        for name, own in strips.items()
    ]
    return Section("Along the directions", [said], [Table("strips", "Drawn along it", columns, rows)], pictures)


def _metrics(figures: LeakageFigures, strips: Mapping[str, Strip]) -> dict:
    found = {}
    for name, by_store in figures.read.items():
        own = {
            "measure": _word(figures, name),
            "chance": figures.chance(name),
            "images": len(figures.targets[name][1]),
            "stores": {
                label: {
                    **{probe: figure.as_json() for probe, figure in read.found.items()},
                    "less_first": {probe: figure.as_json() for probe, figure in read.over_first.items()},
                    "shuffled": read.shuffled.as_json(),
                    "removed": {str(number): figure.as_json() for number, figure in read.removed.items()},
                }
                for label, read in by_store.items()
            },
        }
        if name in strips:
            strip = strips[name]
            own["drawn"] = {
                "change": strip.change and strip.change.as_json(),
                "expected": strip.expected,
                "lost": strip.lost,
            }
        found[name] = own
    return {"attributes": found}


def _gates(figures: LeakageFigures) -> dict[str, Estimate]:
    found = {}
    for name, by_store in figures.read.items():
        for label, own in by_store.items():
            for probe, figure in own.found.items():
                for which in ([name, probe, label], *([[name, probe]] if len(by_store) == 1 else [])):
                    found[figure_name(_word(figures, name), which)] = figure
    return found
