"""`evaluate leakage`: what a template gives away, read by probes on people whom no probe has seen.

Several stores of the same images (as they are, protected, disentangled …) are read by the same probes on the same
folds, so that what one hides is a paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from facedecode.annotations.labels import read_image_labels
from facedecode.annotations.protocols import select_people
from facedecode.attributes.direction import Direction, find_direction
from facedecode.attributes.image_targets import TargetSet
from facedecode.attributes.measured import ATTRIBUTES, expand_names
from facedecode.attributes.probe import fit_linear, out_of_fold, probes_of, removal_curve, trainings
from facedecode.attributes.reading import Answers, Reading, dealt_at_random, value_of
from facedecode.attributes.target import Target
from facedecode.device import find_device
from facedecode.errors import BadInput, UsageError, some_of
from facedecode.escaping import file_names
from facedecode.evaluation.cohort import JudgedImages, known_people, require_unseen_by_store, without_twice
from facedecode.evaluation.jobs import LeakageJob
from facedecode.evaluation.result import Axis, Label, Result, Schema, declared, paragraphs, texts
from facedecode.files import make_folder
from facedecode.progress import Progress, Stage, silent_stage
from facedecode.provenance import describe_job, describe_store
from facedecode.report import Picture, Section, plots
from facedecode.report.text import counted
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.intervals import LEVEL
from facedecode.store import Store
from facedecode.store.join import common_rows
from facedecode.store.processing import require_extracted

REMOVED = (0, 1, 2, 4, 8, 16, 32)
SHUFFLES = 20
READABLE = 0.1  # above chance: along what nobody can read, nothing is to be seen
CLASSES, NUMBERS = "balanced_accuracy", "r2"
TITLES = {CLASSES: "balanced accuracy", NUMBERS: "R²"}
TEXTS = texts("leakage")


def leakage_schema(job: LeakageJob) -> Schema:
    """The figures that there will be. Raises UsageError for an unknown attribute."""
    probes = {"linear": "linear probe", "quadratic": "quadratic probe", "mlp": "small network"}
    axes = [
        Axis("attribute", values=[*job.columns, *expand_names(job.attributes)]),
        Axis("store", values=list(job.stores)),
        Axis("probe", values=list(probes), names=probes),
        Axis("removed", "directions taken out", unit="count"),
    ]
    return Schema("leakage", "What templates give away", axes, declared(TEXTS["metrics"]))


def evaluate_leakage(job: LeakageJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job. stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        UsageError: no store, an unknown attribute, columns without labels, or nothing to read.
        BadInput: stores that have no image in common; a recognizer that was trained, or a map or disentangler that was
            fitted, on the people judged; fewer people than folds need, or labels of one class.
        MissingWeights: the decoder or the weights that were asked for are not there.
    """
    names = expand_names(job.attributes)
    if not job.stores:
        raise UsageError("give a store at least")
    if bool(job.columns) != bool(job.labels):
        raise UsageError("--labels and --label go together")
    if clash := sorted(set(job.columns) & set(ATTRIBUTES)):
        raise UsageError(f"--label {clash[0]}: a computed attribute has that name; rename the column")
    stores = {label: Store.open(folder) for label, folder in job.stores.items()}
    base, first = next(iter(stores.items()))
    labels = [read_image_labels(job.labels, column, first) for column in job.columns]
    chosen, beyond, notes = _images(stores, job)
    rows = first.rows().take(chosen[base]).to_pylist()
    templates = {label: store.take(chosen[label]) for label, store in stores.items()}
    for label, store in stores.items():
        notes += require_unseen_by_store(store, JudgedImages.of_store(store, chosen[label]))
    attributes = TargetSet(rows, notes=notes)
    for column in labels:
        attributes.add_labels(column, chosen[base])
    attributes.add_faces([name for name in names if ATTRIBUTES[name].of_faces])
    pictures = [name for name in names if ATTRIBUTES[name].of_pictures]
    try:
        if pictures:
            attributes.add_pictures(pictures, first.images(job.images), stage("portraits"))
    except BadInput as error:
        if job.attributes:
            raise
        attributes.notes.append(f"{', '.join(pictures)} are left out: {error}")
    if not attributes.targets:
        raise UsageError("nothing to read: give --labels and --label, or a store with landmarks or images")
    result = Result(leakage_schema(job))
    _add_readings(result, attributes, templates, job, stage("probes"))
    directions = _directions(result, attributes, templates[base], first, job)
    trial = [f"{beyond:,} images were left out: a trial run, not a result."] if beyond else []
    result.warnings = [*attributes.notes, *trial]
    result.people = len({row["identity"] for row in rows})
    result.protocol = _protocol(job, attributes, result.people)
    result.sections = [_what_is_read(result), _spread(result)]
    described = {label: describe_store(store) for label, store in stores.items()}
    result.provenance = {"stores": described, "settings": describe_job(job)}
    if job.decoder != "none":
        from facedecode.evaluation.leakage.strips import add_strips  # needs torch

        readable = {name: own for name, own in directions.items() if _best(result, name, base) >= READABLE}
        add_strips(result, attributes, templates[base], readable, first, job, find_device(job.device), stage)
    return result


def _images(stores: dict[str, Store], job: LeakageJob) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Rows in each store of the images that all have, of the people wanted; how many more; what was left out."""
    common = common_rows(list(stores.values()))
    table = next(iter(stores.values())).columns(["path", "identity"])
    identities, paths = table["identity"].to_pylist(), table["path"].to_pylist()
    chosen = select_people(identities, job.people, tuple(job.exclude)).tolist()
    wanted, notes = without_twice(chosen, identities, known_people(stores.values()))
    named, shared = [i for i in wanted if identities[i] is not None], set(common[0].tolist())
    kept = {i for i in named if i in shared}
    if len(named) < len(wanted):
        count = len(wanted) - len(named)
        notes.append(f"{count} of {len(wanted)} images are of nobody who is named, and are left out.")
    if lacking := [paths[i] for i in named if i not in shared]:
        what = f"{len(lacking)} of {len(named)} images are not in all stores, and are left out"
        notes.append(f"{what} ({some_of(lacking)}).")
    if not kept:
        listed = ", ".join(str(store.folder) for store in stores.values())
        raise BadInput(f"{listed}: no image of a known person that all have; give stores of the same images")
    used = np.flatnonzero([i in kept for i in common[0].tolist()])[: job.limit]
    return {label: rows[used] for label, rows in zip(stores, common, strict=True)}, len(kept) - len(used), notes


def _best(result: Result, attribute: str, store: str) -> float:
    """How far above chance the best probe reads an attribute from a store."""
    rows = [row for measure in TITLES for row in result.rows(measure, {"attribute": attribute, "store": store})]
    return max(row.number - result.value(f"{row.name}_chance", row.labels) for row in rows)


def measure_of(target: Target) -> str:
    """How well a target is read: by balanced accuracy, or by R²."""
    return NUMBERS if target.classes is None else CLASSES


def _add_readings(
    result: Result, attributes: TargetSet, templates: Mapping[str, np.ndarray], job: LeakageJob, progress: Progress
) -> None:
    """Read every attribute from the templates of every store, (n, dim) each; the first is compared with."""
    each = {name: len(probes_of(target)) * trainings(job.folds) for name, (target, _) in attributes.targets.items()}
    steps = sum(each.values()) + (SHUFFLES + 1) * len(each)
    done = 0
    progress(done, steps * len(templates))

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, steps * len(templates))

    def reading(answers: Answers, target: Target) -> Reading:
        return Reading.of(answers, target, job.repetitions, job.seed)

    for name, (target, images) in attributes.targets.items():
        measure, fold = measure_of(target), target.folds(job.folds, job.seed)
        result.add(f"{measure}_chance", {"attribute": name}, 0.0 if target.classes is None else 1 / len(target.classes))
        first: dict[str, Reading] = {}
        for store, inputs in ((store, every[images]) for store, every in templates.items()):
            labels: dict[str, Label] = {"attribute": name, "store": store}
            readings = {
                probe: reading(out_of_fold(inputs, target, fit, fold, job.seed, step), target)
                for probe, fit in probes_of(target).items()
            }
            best = max(readings, key=lambda probe: readings[probe].judged.value)
            for probe, figure in readings.items():
                result.add(measure, {**labels, "probe": probe}, figure.estimate(), key=probe == best)
                if first:
                    result.add(f"{measure}_change", {**labels, "probe": probe}, figure.less(first[probe]))
            first = first or readings
            result.add(f"{measure}_shuffled", labels, _shuffled(inputs, target, job, step))
            curve = removal_curve(inputs, target, fold, [number for number in REMOVED if number < inputs.shape[1]])
            step()
            for number, answers in curve.items():
                result.add(f"{measure}_spread", {**labels, "removed": number}, reading(answers, target).estimate())
        base: dict = {next(iter(templates)): {"less_first": {}}}
        about = {"measure": measure, "images": len(images), "stores": base}
        result.facts.setdefault("attributes", {})[name] = about


def _shuffled(inputs: np.ndarray, target: Target, job: LeakageJob, step: Callable[[], None]) -> Estimate | None:
    """What a linear probe reads of an attribute of others; None where too few people have a class to tell."""
    figures = []
    for number in range(SHUFFLES):
        dealt = target.shuffled(job.seed + number)
        with suppress(BadInput):  # a rare class may be in one fold only
            answers = out_of_fold(inputs, dealt, fit_linear, dealt.folds(job.folds, job.seed), halves=False)
            figures.append(value_of(answers.said, dealt))
        step()
    return dealt_at_random(figures) if figures else None


def _directions(
    result: Result, attributes: TargetSet, templates: np.ndarray, store: Store, job: LeakageJob
) -> dict[str, Direction]:
    """Of all attributes that have one, in the first store's templates; they are written where the job says."""
    directions = {}
    try:
        require_extracted(store)
    except BadInput as error:
        # They would pass for directions of plain templates.
        attributes.notes.append(f"No directions are found: {error}.")
        return {}
    for name, (target, images) in attributes.targets.items():
        if target.classes is not None and len(target.classes) != 2:
            continue
        readings = result.along("probe", measure_of(target), {"attribute": name, "store": next(iter(job.stores))})
        about = {
            "store": store.fingerprint,
            "people": sorted(set(attributes.people(images))),
            "read": {probe: figure.as_json() for probe, figure in readings.items()},
        }
        try:
            directions[name] = find_direction(name, templates[images], target, store.recognizer, about)
        except BadInput as error:
            attributes.notes.append(f"{error}: it has no direction.")
    if job.directions is not None:
        make_folder(job.directions)
        names = file_names(list(directions), ".safetensors")
        for name, direction in zip(names, directions.values(), strict=True):
            direction.save(job.directions / f"{name}.safetensors")
    return directions


def _protocol(job: LeakageJob, attributes: TargetSet, people: int) -> list[str]:
    names = attributes.targets
    definitions = "; ".join(f"{name}: {ATTRIBUTES[name].meaning}" for name in names if name in ATTRIBUTES)
    labelled = ", ".join(name for name in names if name not in ATTRIBUTES)
    return paragraphs(
        TEXTS["protocol"],
        images=counted(len(attributes.rows), "image"),
        people=people,
        labelled=f" Labelled: {labelled}." if labelled else "",
        measured=f" Measured: {definitions}." if definitions else "",
        folds=job.folds,
        level=LEVEL,
        repetitions=job.repetitions,
        seed=job.seed,
        shuffles=SHUFFLES,
    )


def _what_is_read(result: Result) -> Section:
    tables, pictures, several = [], [], len(result.labels("store")) > 1
    probes = result.schema.axis("probe").names
    for measure, title in ((CLASSES, "Classes: balanced accuracy"), (NUMBERS, "Numbers: R²")):
        chances = {row.labels["attribute"]: row.number for row in result.rows(f"{measure}_chance")}
        if not chances:
            continue
        file, rows = measure.replace("_", "-"), ["attribute", *(["store"] if several else [])]
        columns = [(measure, f"{measure}_change") if several else measure, f"{measure}_chance", f"{measure}_shuffled"]
        tables.append(result.table(file, title, rows, columns))
        points: dict[str, list] = {}
        for row in result.rows(measure):
            probe = probes[row.labels["probe"]]
            points.setdefault(f"{row.labels['store']}, {probe}" if several else probe, []).append(row.estimate)
        line = next(iter(chances.values()))
        data = plots.dot_plot(list(chances), points, x_label=title, percent=measure == CLASSES, line=line)
        alt = f"A row for each of {', '.join(chances)}: points with intervals, and chance as a line."
        pictures.append(Picture(file, title, data, "Bars: intervals by person. Line: chance.", alt, "svg"))
    return Section("What can be read", tables=tables, pictures=pictures)


def _spread(result: Result) -> Section:
    pictures, several = [], len(result.labels("store")) > 1
    for measure, title in TITLES.items():
        curves: dict[str, dict] = {}
        for row in result.rows(measure, {"probe": "linear"}):
            if row.number > result.value(f"{measure}_chance", row.labels) + 0.05:
                name = f"{row.labels['attribute']}, {row.labels['store']}" if several else row.labels["attribute"]
                curves[name] = result.along("removed", f"{measure}_spread", row.labels)
        # More than the plot has colors for would be told apart by nobody.
        curves = dict(list(curves.items())[:6])
        if not curves:
            continue
        numbers = list(next(iter(curves.values())))
        lines = {name: list(own.values()) for name, own in curves.items() if list(own) == numbers}
        data = plots.curve_plot(
            range(len(numbers)), lines, x_label="directions taken out", y_label=title, percent=False, ticks=numbers
        )
        alt = f"{title} against the directions taken out, a curve each for {', '.join(lines)}."
        pictures.append(Picture(f"spread-{measure.replace('_', '-')}", f"Spread: {title}", data, "", alt, "svg"))
    columns = [f"{measure}_spread" for measure in TITLES]
    title = "What is still read when directions are taken out"
    table = result.table("spread", title, ["attribute", "store", "removed"], columns, shown=False)
    note = "How many directions carry an attribute: where a curve falls to chance. All numbers are in spread.csv."
    return Section("How it is spread over directions", [note], [table], pictures)
