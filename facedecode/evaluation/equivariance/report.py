"""The report of `evaluate equivariance`: the figures of `measure` in words, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from facedecode.evaluation.equivariance.linearity import Comparison, chains, distinct, held_out_angles, ladder
from facedecode.evaluation.equivariance.measure import EquivarianceFigures, EquivarianceJob
from facedecode.evaluation.equivariance.words import (
    COMPOSITION,
    ESTIMATION,
    INTERPOLATION,
    INVERSE,
    LINEARITY,
    OPPOSITE,
    SCORES,
    SIMPLER,
    caveats,
    protocol,
)
from facedecode.pictures.perturb import Transform
from facedecode.provenance import describe_file, describe_store
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.report.gates import figure_name
from facedecode.statistics.bootstrap import LEVEL, Estimate

GATE_WORDS = (
    "undone",
    "cosine",
    "score",
    "round_trip",
    "composed",
    "interpolated_linear",
    "interpolated_logarithm",
    "accuracy",
    "gain",
)
_OF_EACH = GATE_WORDS[:4]
_FEW = 4  # perturbations that each have a headline


def equivariance_report(figures: EquivarianceFigures, job: EquivarianceJob) -> Report:
    """The report. Reads the people files once more, for their hashes."""
    return Report(
        kind="equivariance",
        title="How linear the space of templates is",
        protocol=protocol(figures, job),
        headlines=list(_headlines(figures)),
        sections=[
            _undone(figures),
            _compositions(figures),
            _inverses(figures),
            _interpolations(figures),
            *_estimation(figures),
        ],
        metrics=_metrics(figures),
        gates=_gates(figures),
        warnings=caveats(figures, job),
        provenance=_provenance(figures, job),
    )


def gate_names(transforms: Sequence[Transform]) -> set[str]:
    """The names of the figures that gates can ask for."""
    kept, aliases = distinct(transforms)
    names = [transform.name for transform in kept]
    found = {figure_name(word, [name]) for word in _OF_EACH for name in names}
    found |= {figure_name(word) for word in _OF_EACH} if len(names) == 1 else set()
    found |= {figure_name("composed", parts[:2]) for parts in chains(names, aliases)}
    for name in held_out_angles(names, aliases):
        found |= {figure_name(f"interpolated_{by}", [name]) for by in ("linear", "logarithm")}
    return found | {"accuracy", "gain"}


def _gates(figures: EquivarianceFigures) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for name, own in figures.undone.items():
        values = (own.share, own.cosine[1], own.score[1], figures.inverses[name].perturbed)
        for which in ([name],) if len(figures.undone) > 1 else ([name], []):
            found |= {figure_name(word, which): value for word, value in zip(_OF_EACH, values, strict=True)}
    for own in figures.compositions:
        found[figure_name("composed", [own.first, own.second])] = own.compared.other
    for own in figures.interpolations:
        found[figure_name("interpolated_linear", [own.transform])] = own.linear.other
        missing = Estimate(math.nan, None, None, 0)
        by_logarithm = own.logarithm.other if own.logarithm else missing
        found[figure_name("interpolated_logarithm", [own.transform])] = by_logarithm
    return found | {"accuracy": figures.estimation.accuracy, "gain": figures.estimation.perturbed.gain}


def _headlines(figures: EquivarianceFigures) -> Iterator[Headline]:
    names = sorted(figures.undone, key=lambda name: -figures.undone[name].share.value)
    for name in names if len(names) <= _FEW else (names[0], names[-1]):
        note = "" if len(names) <= _FEW else f"the {'most' if name == names[0] else 'least'} of {len(names)}"
        yield Headline(f"Undone of {name}", figures.undone[name].share, "percent", note)
    if figures.compositions:
        worst = min(figures.compositions, key=lambda own: own.compared.difference.value)
        title = f"{worst.first} and {worst.second} composed, for {worst.whole}"
        yield Headline(title, worst.compared.difference, "points", "share undone less the fitted map's; the worst case")
    said = figures.estimation
    note = f"chance {100 * said.chance:.3g} %, {len(said.classes)} classes"
    yield Headline("Perturbation told right", said.accuracy, "percent", note)
    kind = SCORES[figures.store.recognizer["score"]]
    yield Headline("Gain in score by the estimated map", said.perturbed.gain, "score", f"{kind}, paired")


def _undone(figures: EquivarianceFigures) -> Section:
    kind = SCORES[figures.store.recognizer["score"]]
    with_score = kind != "cosine"
    columns = [Column("perturbation"), Column("undone by the map", "percent")]
    columns += [Column(f"by {title}", "percent") for title in SIMPLER.values()]
    columns += [Column("cosine before", "score"), Column("cosine after", "score")]
    columns += [Column(f"{kind} {when}", "score") for when in ("before", "after") if with_score]
    rows = [
        (name, own.share, *(own.simpler[key] for key in SIMPLER), *own.cosine, *(own.score if with_score else ()))
        for name, own in figures.undone.items()
    ]
    note = "Of the displacement by the perturbation, on people whom no map was fitted on; means over images."
    table = Table("undone", "What is undone", columns, rows, note)
    pictures = []
    steps = ladder(list(figures.undone), figures.aliases)
    if len(steps) > 1:
        curves = {
            "affine map": [figures.undone[name].share for name in steps.values()],
            **{title: [figures.undone[name].simpler[key] for name in steps.values()] for key, title in SIMPLER.items()},
        }
        data = plots.curve_plot(
            list(steps), curves, x_label="degrees, counter-clockwise", y_label="share undone", percent=False
        )
        alt = f"Share undone against the angle, a curve each for {', '.join(curves)}."
        pictures.append(
            Picture("undone-by-angle", "What is undone of rotations", data, "Bands: intervals.", alt, "svg")
        )
    return Section("How much of a perturbation is linear", [LINEARITY], [table], pictures)


def _compositions(figures: EquivarianceFigures) -> Section:
    title = "Do the maps compose?"
    if not figures.compositions:
        return Section(title, ["Not measured: no perturbation here is two of the others in a row."])
    columns = [Column("first"), Column("then"), Column("together"), *_compared("composed")]
    columns += [Column("disagreement", "percent"), Column("distance of weights", "number")]
    rows = [
        (own.first, own.second, own.whole, *_cells(own.compared), own.disagreement, own.frobenius)
        for own in figures.compositions
    ]
    return Section(title, [COMPOSITION], [Table("compositions", "Maps one after the other", columns, rows)])


def _inverses(figures: EquivarianceFigures) -> Section:
    columns = [Column("perturbation"), Column("lost of perturbed templates", "percent")]
    columns.append(Column("lost of originals", "percent"))
    rows = [(name, own.perturbed, own.original) for name, own in figures.inverses.items()]
    note = "Originals: there by the map of the perturbation, and back by the one that undoes it."
    tables = [Table("round-trips", "There and back", columns, rows, note)]
    said = [INVERSE]
    if figures.opposites:
        said.append(OPPOSITE)
        columns = [Column("rotation"), Column("by the map that does"), *_compared("that map")]
        rows = [(own.transform, own.by, *_cells(own.compared)) for own in figures.opposites]
        tables.append(Table("opposites", "Turning back by turning the other way", columns, rows))
    else:
        said.append("No two rotations here are opposite ones, so none was tried in place of the other.")
    return Section("Is the map's inverse the inverse map?", said, tables)


def _interpolations(figures: EquivarianceFigures) -> Section:
    title = "One family of maps? Angles that were left out"
    if not figures.interpolations:
        return Section(title, ["Not measured: no rotation here stands between two others (or one and none at all)."])
    columns = [Column("left out"), Column("from"), Column("undone by its own map", "percent")]
    for by in ("linear", "logarithm"):
        columns += [Column(f"undone, {by}", "percent"), Column(f"difference, {by}", "points")]
    columns.append(Column("negative eigenvalues", "count"))
    rows = []
    for own in figures.interpolations:
        by_logarithm = (None, None) if own.logarithm is None else (own.logarithm.other, own.logarithm.difference)
        sides = " and ".join(f"{name or 'no rotation'}" for name in (own.lower, own.upper))
        linear = (own.linear.fitted, own.linear.other, own.linear.difference)
        negative = None if own.logarithm is None and own.negative == 0 else own.negative
        rows.append((own.transform, sides, *linear, *by_logarithm, negative))
    note = "Difference: less the share undone by the angle's own map, in percentage points, paired."
    table = Table("interpolations", "Maps of angles from those of their neighbors", columns, rows, note)
    return Section(title, [INTERPOLATION], [table])


def _estimation(figures: EquivarianceFigures) -> Iterator[Section]:
    own = figures.estimation
    kind = SCORES[figures.store.recognizer["score"]]
    recall = [(name, own.recall[name]) for name in own.classes]
    picture = Picture(
        "confusion",
        "What was done, and what the estimator says",
        plots.matrix_plot(own.classes, own.classes, own.confusion, x_label="told", y_label="done"),
        "A row is a perturbation, its cells the shares of its templates by what they are taken for.",
        f"Confusion matrix of {len(own.classes)} classes.",
        "svg",
    )
    confusion = Table(
        "confusion",
        "Confusion matrix",
        [Column("done"), *(Column(f"told {name}", "percent") for name in own.classes)],
        [(name, *row) for name, row in zip(own.classes, own.confusion.tolist(), strict=True)],
        shown=False,
    )
    note = f"All classes together: see above; chance is {100 * own.chance:.3g} %."
    recalls = Table("recall", "Told right", [Column("done"), Column("told right", "percent")], recall, note)
    yield Section("Which perturbation was it?", [ESTIMATION], [recalls, confusion], [picture])
    columns = [Column("done"), Column("as it is", "score"), Column("map of what was done", "score")]
    columns += [Column("estimated map", "score"), Column("gain by the estimated", "score")]
    columns.append(Column("short of the right map", "score"))
    every = {**own.corrections, "every perturbation": own.perturbed}
    rows = [(name, x.without, x.oracle, x.estimated, x.gain, x.shortfall) for name, x in every.items()]
    note = (
        f"Mean {kind} with the original's template. The row 'none' shows what correction costs templates that need "
        "none; it is not in the last row."
    )
    yield Section("Corrected without being told", tables=[Table("corrections", "Mean scores", columns, rows, note)])


def _compared(other: str) -> list[Column]:
    """Titles for `_cells`."""
    return [
        Column("undone by the fitted map", "percent"),
        Column(f"undone by {other}", "percent"),
        Column("difference", "points"),
    ]


def _cells(compared: Comparison) -> tuple[Estimate, Estimate, Estimate]:
    return compared.fitted, compared.other, compared.difference


def _metrics(figures: EquivarianceFigures) -> dict:
    transforms = {}
    for name, own in figures.undone.items():
        transforms[name] = {
            "undone": own.share.as_json(),
            "undone_by": {key: value.as_json() for key, value in own.simpler.items()},
            **{
                f"{kind}_{when}": value.as_json()
                for kind, pair in (("cosine", own.cosine), ("score", own.score))
                for when, value in zip(("before", "after"), pair, strict=True)
            },
            "round_trip": {
                "perturbed": figures.inverses[name].perturbed.as_json(),
                "original": figures.inverses[name].original.as_json(),
            },
        }
    said = figures.estimation
    return {
        "judged": {"images": len(figures.judged.rows), "people": len(set(figures.judged.identities))},
        "training": {"images": len(figures.training.rows), "people": len(set(figures.training.identities))},
        "aliases": figures.aliases,
        "lost": figures.lost,
        "transforms": transforms,
        "compositions": [
            {
                "first": own.first,
                "second": own.second,
                "whole": own.whole,
                **own.compared.as_json(),
                "disagreement": own.disagreement.as_json(),
                "frobenius": own.frobenius if math.isfinite(own.frobenius) else None,
            }
            for own in figures.compositions
        ],
        "opposites": [
            {"transform": own.transform, "by": own.by, **own.compared.as_json()} for own in figures.opposites
        ],
        "interpolations": [
            {
                "transform": own.transform,
                "angles": list(own.angles),
                "lower": own.lower,
                "upper": own.upper,
                "linear": own.linear.as_json(),
                "logarithm": own.logarithm.as_json() if own.logarithm else None,
                "negative_eigenvalues": own.negative,
            }
            for own in figures.interpolations
        ],
        "estimation": {
            "classes": list(said.classes),
            "accuracy": said.accuracy.as_json(),
            "chance": said.chance,
            "recall": {name: value.as_json() for name, value in said.recall.items()},
            "confusion": said.confusion.tolist(),
            "corrections": {name: value.as_json() for name, value in said.corrections.items()},
            "perturbed": said.perturbed.as_json(),
        },
    }


def _provenance(figures: EquivarianceFigures, job: EquivarianceJob) -> dict:
    return {
        "stores": [describe_store(figures.store)],
        "settings": {
            "transforms": [transform.name for transform in job.transforms],
            "people": describe_file(job.people) if job.people else None,
            "train_people": describe_file(job.train_people) if job.train_people else None,
            "exclude": sorted(job.exclude),
            "limit": job.limit,
            "ridge": job.ridge,
            "repetitions": job.repetitions,
            "seed": job.seed,
            "level": LEVEL,
        },
    }
