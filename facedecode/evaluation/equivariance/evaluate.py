"""`evaluate equivariance`: how linear a recognizer's space is, and whether maps of templates act like a group.

Maps that undo perturbations are fitted on some people and judged on others; see docs/mapping.md for what each figure
means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from facedecode.annotations.protocols import excluded_people, held_out_people, people_names
from facedecode.device import find_device
from facedecode.errors import BadInput, some_of
from facedecode.evaluation.cohort import (
    SCORES,
    UnseenImages,
    known_people,
    open_stores,
    refuse_known,
    require_unseen_by_store,
    twice_warning,
    unseen_images,
)
from facedecode.evaluation.equivariance.estimation import CORRECTIONS, EVERY, NONE, add_estimation
from facedecode.evaluation.equivariance.linearity import MapFigures
from facedecode.evaluation.jobs import EquivarianceJob
from facedecode.evaluation.result import Axis, Result, Schema, declared, paragraphs, texts
from facedecode.identity import RecognizerId
from facedecode.mapping.affine import SIMPLER, fit_maps
from facedecode.mapping.jobs import Method
from facedecode.mapping.maps import FEW
from facedecode.mapping.perturbed import Side, perturbed_templates
from facedecode.names import known_otherwise_in_lfw, shared_people
from facedecode.pictures.family import Family
from facedecode.progress import Stage, silent_stage
from facedecode.provenance import describe_job, describe_store
from facedecode.report import Picture, Section, Table, plots
from facedecode.report.text import counted
from facedecode.statistics.intervals import LEVEL
from facedecode.store import Store
from facedecode.store.processing import refuse_done

TEXTS = texts("equivariance")
_FEW = 4  # perturbations that each have a headline


def equivariance_schema(job: EquivarianceJob) -> Schema:
    """The figures that there will be. Raises UsageError as `Family.of`."""
    family = Family.of(job.transforms)
    chains = {pair: f"{pair[0]}, then {pair[1]}: {whole}" for pair, whole in family.chains().items()}
    opposites = {pair: f"{pair[0]}, by the map that does {pair[1]}" for pair in family.opposites()}
    classes = [NONE, *family.names]
    corrected = {name: ("corrections", name) for name in classes} | {EVERY: ("perturbed",)}
    axes = [
        Axis("transform", "perturbation", family.names),
        Axis("simpler", "map", list(SIMPLER), names=SIMPLER),
        _numbered("composition", "perturbations", chains),
        _numbered("opposite", "rotation", opposites),
        _numbered("gap", "left out", {gap.transform: gap.title for gap in family.gaps()}),
        Axis("class", "perturbation", classes),
        Axis("estimate", "estimate", classes),
        Axis("corrected", "perturbation", list(corrected), keys=corrected),
    ]
    return Schema("equivariance", "How linear the space of templates is", axes, declared(TEXTS["metrics"]))


def _numbered(name: str, title: str, titles: Mapping[Any, str]) -> Axis:
    """An axis of values with titles; they make a list in report.json."""
    return Axis(name, title, list(titles), names=titles, keys={value: (place,) for place, value in enumerate(titles)})


def evaluate_equivariance(job: EquivarianceJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job. stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        UsageError: no perturbation, or a ridge that is none.
        MissingWeights: the recognizer's weights are not found.
        BadInput: a store of perturbed, mapped, normalized or protected templates; people who are judged and fitted
            on, or whom the recognizer was trained on; nobody to judge or to fit on; a perturbation that leaves no face
            in any image; images that are missing or others than the store's.
        OutputError: `work` cannot be written.

    Warns FacedecodeWarning: see `mapping.maps.solve_mapping`.
    """
    from facedecode.recognizers import load_recognizer

    family, result = Family.of(job.transforms), Result(equivariance_schema(job))
    store = next(iter(open_stores([job.store]).values()))
    refuse_done(store.manifest, store.folder, reason="they are perturbed here")
    training, judged = choose_people(store, job)
    judged = replace(judged, told=require_unseen_by_store(store, judged.judged))
    refuse_known("the maps: fitted on", training.judged.known, judged.judged)
    recognizer = load_recognizer(store.recognizer, job.weights, find_device(job.device), store.manifest.precision)
    sides = [Side(images.rows, images.templates) for images in (training, judged)]
    for transform in family.transforms:
        for side, name in zip(sides, ("training", "judged"), strict=True):
            progress = stage(f"{transform.name}, {name}")
            root = store.images(job.images)
            side.perturbed[transform.name] = perturbed_templates(
                side.rows, root, recognizer, transform, job.work, progress
            )
            if not len(side.perturbed[transform.name].rows):
                raise BadInput(f"{transform.name} leaves no face in the frame of any {name} image; leave it out")
    ranks = add_figures(result, sides[0], sides[1], store.recognizer, store.score, job)
    result.facts["judged"] = {"images": len(judged.rows), "people": len(set(judged.identities))}
    result.facts["training"] = {"images": len(training.rows), "people": len(set(training.identities))}
    result.people = len(set(judged.identities))
    result.warnings = _warnings(result, training, judged, store.dim, ranks)
    result.protocol = _protocol(job, family, training, judged, SCORES[store.score])
    result.sections = [
        _explained(result, family, SCORES[store.score]),
        *_relations(result),
        *_estimates(result, SCORES[store.score]),
    ]
    settings = describe_job(job) | {"transforms": [*family.names, *family.aliases]}
    result.provenance = {"stores": [describe_store(store)], "settings": settings}
    return result


def add_figures(
    result: Result, fitted_on: Side, judged: Side, recognizer: RecognizerId, score: str, job: EquivarianceJob
) -> dict[str, int]:
    """Fit the maps of a job's perturbations on one side's templates, and add all figures of the other's.

    recognizer: the one that made the templates. score: its kind of score.

    Returns perturbation → in how many directions its maps read something.
    """
    family, method = Family.of(job.transforms), Method(ridge=job.ridge)
    maps = {name: fit_maps(name, *fitted_on.pairs(name), recognizer, method) for name in family.names}
    figures = MapFigures(result, judged, score, job.repetitions, job.seed)
    order = sorted(maps, key=lambda name: -figures.explained(name, maps[name].undo).value)
    for name in order:
        few, extreme = len(order) <= _FEW, {order[-1]: "least", order[0]: "most"}
        note = "" if few or name not in extreme else f"the {extreme[name]} of {len(order)}"
        figures.add_explained(name, maps[name], few or name in extreme, note)
        figures.add_round_trip(fitted_on, name, maps[name])
    figures.add_compositions(family, maps)
    figures.add_opposites(family, maps)
    figures.add_interpolations(family, maps, fitted_on.templates)
    undo = {name: own.undo for name, own in maps.items()}
    add_estimation(result, fitted_on, judged, undo, score, repetitions=job.repetitions, seed=job.seed)
    lost = {name: len(judged.rows) - len(judged.perturbed[name].rows) for name in maps}
    logarithms = {row.labels["gap"] for row in result.rows("interpolated_logarithm")}
    chains = [{"first": one, "second": other, "whole": whole} for (one, other), whole in family.chains().items()]
    opposites = [{"transform": name, "by": by} for name, by in family.opposites()]
    gaps = [asdict(gap) | ({} if gap.transform in logarithms else {"logarithm": None}) for gap in family.gaps()]
    lists = {"compositions": chains, "opposites": opposites, "interpolations": gaps}
    result.facts |= {name: dict(enumerate(rows)) or [] for name, rows in lists.items()}
    result.facts["aliases"] = family.aliases
    result.facts["lost"] = {name: count for name, count in lost.items() if count}
    return {name: own.rank for name, own in maps.items()}


def choose_people(store: Store, job: EquivarianceJob) -> tuple[UnseenImages, UnseenImages]:
    """The images to fit on and those to judge on that gave a template; see `EquivarianceJob`.

    Raises BadInput: nobody is left for one of them, or people are in both.
    """
    everybody = unseen_images(store, None)
    known = set(everybody.identities)
    left_out = excluded_people(known, job.exclude)
    fitted, judged = (set(people_names(file)) if file else None for file in (job.train_people, job.people))
    absent = [sorted((names or set()) - known) for names in (fitted, judged)]
    if fitted is None and judged is None:
        held_out = held_out_people(everybody.identities, [row["path"] for row in everybody.rows])
        judged = {name for name, out in zip(everybody.identities, held_out, strict=True) if out}
    fitted = known - shared_people(known, judged) if fitted is None else fitted
    judged = known - fitted if judged is None else judged
    twice = known_otherwise_in_lfw(judged, {*fitted, *known_people([store])})
    judged = judged - twice or judged
    if shared := sorted(shared_people(judged, fitted) - left_out):
        raise BadInput(
            f"{len(shared)} people are judged and fitted on ({some_of(shared)}); give --people others than those"
        )
    chosen = [everybody.acquired_of(names - left_out, job.limit) for names in (fitted, judged)]
    # One image of each class says nothing of how a class spreads.
    for images, least, what in zip(chosen, (2, 1), ("to fit on", "to judge"), strict=True):
        if len(images.rows) < least:
            few = "no image" if not images.rows else "only one image"
            raise BadInput(f"{store.folder}: {few} with a template is left {what}; give other people, or a store")
    training, judging = (replace(images, absent=names) for images, names in zip(chosen, absent, strict=True))
    return training, replace(judging, twice=[name for name in everybody.identities if name in twice])


def _protocol(
    job: EquivarianceJob, family: Family, training: UnseenImages, judged: UnseenImages, score: str
) -> list[str]:
    who = []
    for images, file in ((training, job.train_people), (judged, job.people)):
        people = f"{len(set(images.identities)):,} people{f' of {file.name}' if file else ''}"
        who.append(f"{counted(len(images.rows), 'image')} of {people}")
    ridge = f" with a ridge of {job.ridge} times the templates' mean variance" if job.ridge else ""
    return paragraphs(
        TEXTS["protocol"],
        fitted=who[0],
        judged=who[1],
        aliases="".join(f" {name} is {other} under another name." for name, other in family.aliases.items()),
        ridge=" with a ridge by generalized cross-validation" if job.ridge == "auto" else ridge,
        score=score,
        level=LEVEL,
        repetitions=job.repetitions,
        seed=job.seed,
    )


def _warnings(
    result: Result, training: UnseenImages, judged: UnseenImages, dim: int, ranks: Mapping[str, int]
) -> list[str]:
    flat = sorted({rank for rank in ranks.values() if rank < dim})
    exact = [row.labels["gap"] for row in result.rows("interpolated_logarithm")]
    lost = [f"{name} ({count})" for name, count in result.facts["lost"].items()]
    warnings = paragraphs(
        TEXTS["warnings"],
        first_fitted=training.beyond and len(training.rows),
        first_judged=judged.beyond and len(judged.rows),
        fitted_absent=training.absent and f"{len(training.absent)} people to fit on ({some_of(training.absent)})",
        judged_absent=judged.absent and f"{len(judged.absent)} people to judge ({some_of(judged.absent)})",
        few=len(training.rows) <= FEW * dim and counted(len(training.rows), "image"),
        dim=dim,
        flat=flat and (flat[0] if len(flat) == 1 else f"{flat[0]} to {flat[-1]}"),
        lost=", ".join(lost),
        no_inverse=", ".join(name for name in result.labels("gap") if name not in exact),
        negative=", ".join(name for name in exact if result.value("negative", {"gap": name})),
    )
    return [*warnings, *twice_warning(judged.twice), *judged.told]


def _explained(result: Result, family: Family, score: str) -> Section:
    scores = [] if score == "cosine" else ["score_before", "score_after"]
    columns = ["undone", "undone_by", "cosine_before", "cosine_after", *scores]
    note = "Of people on whom no map was fitted; means over images."
    table = result.table("undone", "Explained displacement", ["transform"], columns, note=note)
    turns, pictures = family.rotations(), []
    if len(turns) > 1:
        curves = {"affine map": [result.value("undone", {"transform": name}) for name in turns.values()]}
        for key, title in SIMPLER.items():
            labels = [{"transform": name, "simpler": key} for name in turns.values()]
            curves[title] = [result.value("undone_by", own) for own in labels]
        data = plots.curve_plot(
            list(turns), curves, x_label="degrees, counter-clockwise", y_label="explained displacement", percent=False
        )
        alt = f"Explained displacement against the angle, a curve each for {', '.join(curves)}."
        title = "Explained displacement of rotations"
        pictures.append(Picture("undone-by-angle", title, data, "Bands: intervals.", alt, "svg"))
    return Section("How much of a perturbation is linear", paragraphs(TEXTS["linearity"]), [table], pictures)


def _relations(result: Result) -> Iterator[Section]:
    """How the maps of several perturbations go together."""

    def compared(name: str, *more: str) -> list[str]:
        return [f"{name}_fitted", name, f"{name}_difference", *more]

    columns = compared("composed", "disagreement", "frobenius")
    table = result.table("compositions", "Maps one after the other", ["composition"], columns)
    yield _section("Do the maps compose?", "composition", table)
    note = "Originals: first the map of the perturbation, then the one that undoes it."
    columns = ["round_trip", "round_trip_original"]
    tables = [result.table("round-trips", "Both maps in a row", ["transform"], columns, note=note)]
    opposites = result.table("opposites", "Turning back by turning the other way", ["opposite"], compared("opposite"))
    tested = _section("", "opposite", opposites)
    text = [*paragraphs(TEXTS["inverse"]), *tested.paragraphs]
    yield Section("Is the map's inverse the inverse map?", text, [*tables, *tested.tables])
    columns = [*compared("interpolated_linear"), *compared("interpolated_logarithm", "negative")]
    columns.remove("interpolated_logarithm_fitted")
    table = result.table("interpolations", "Maps of angles from those of their neighbors", ["gap"], columns)
    yield _section("One family of maps? Angles that were left out", "interpolation", table)


def _section(title: str, text: str, table: Table) -> Section:
    """A table with its text; or what stands in place of it, where it has no rows."""
    if not table.rows:
        return Section(title, paragraphs(TEXTS[f"no_{text}"]))
    return Section(title, paragraphs(TEXTS[text]), [table])


def _estimates(result: Result, score: str) -> Iterator[Section]:
    classes, confusion = result.labels("class"), np.array(result.facts["estimation"]["confusion"])
    picture = Picture(
        "confusion",
        "True and estimated perturbation",
        plots.matrix_plot(classes, classes, confusion, x_label="estimated", y_label="true"),
        "A row is the true perturbation. Its cells are the shares of its templates by their estimate.",
        f"Confusion matrix of {len(classes)} classes.",
        "svg",
    )
    tables = [
        result.table("recall", "Accuracy by perturbation", ["class"], ["recall"]),
        result.table("confusion", "Confusion matrix", ["class"], ["confusion"], shown=False),
    ]
    text = paragraphs(TEXTS["estimation"], chance=100 * result.value("chance", {}))
    yield Section("Which perturbation was it?", text, tables, [picture])
    note = paragraphs(TEXTS["corrected"], score=score)[0]
    table = result.table("corrections", "Mean scores", ["corrected"], CORRECTIONS, note=note)
    yield Section("Corrected by the estimate", tables=[table])
