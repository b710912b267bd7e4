"""What a template gives away: how well attributes can be read from it, by people whom no probe has seen.

Several stores of the same images (as they are, protected, disentangled …) are read by the same probes on the same
folds, so that what one hides is a paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from facedecode.annotations.labels import ImageLabels, read_image_labels
from facedecode.annotations.protocols import select_people
from facedecode.attributes.direction import Direction, find_direction
from facedecode.attributes.measured import ATTRIBUTES, SIDE, expand_names, measure_faces, measure_pictures
from facedecode.attributes.probe import PROBES, out_of_fold, probes_of, read, removal_curve
from facedecode.attributes.target import Target
from facedecode.errors import BadInput, UsageError, some_of
from facedecode.evaluation.cohort import require_unseen_by_store
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, Resampled
from facedecode.store import Store
from facedecode.store.images import portrait_batches
from facedecode.store.join import common_rows
from facedecode.store.processing import require_extracted

MOST_CLASSES = 20  # numbers with more different values are regressed


@dataclass
class TargetSet:
    """Targets by attribute, each with the images that it is of (rows, int64); and notes on what was left out.

    identities: of all images, by which their people are told.
    """

    identities: Sequence[str]
    targets: dict[str, tuple[Target, np.ndarray]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_labels(self, labels: ImageLabels, chosen: np.ndarray, paths: Sequence[str]) -> None:
        """Those of the store's rows `chosen`, which are the images here; paths: of these.

        Raises:
            BadInput: none has a label, or see `label_target`.
        """
        values = [labels.values[i] for i in chosen]
        here = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        if not len(here):
            raise BadInput(f"{labels.source}: no {labels.column!r} of any image used")
        if missing := [paths[i] for i, value in enumerate(values) if value is None]:
            said = f"{len(missing)} of {len(values)} images have no {labels.column!r} and are left out"
            self.notes.append(f"{said} ({some_of(missing)}).")
        own = label_target([values[i] for i in here], self._persons(here), labels.column)
        self.targets[labels.column] = own, here

    def add_number(self, name: str, values: np.ndarray) -> None:
        """A measured attribute, float64 (n,) of all images; images where it is not finite are left out and counted."""
        here = np.flatnonzero(np.isfinite(values))
        if len(here) < len(values):
            self.notes.append(f"{name} cannot be measured of {len(values) - len(here)} images, which are left out.")
        if not len(here) or not np.ptp(values[here]) > 0:
            self.notes.append(f"{name} is the same for all images, and left out.")
            return
        self.targets[name] = Target(values[here], self._persons(here), None, name), here

    def add_faces(self, names: Sequence[str], rows: list[dict]) -> None:
        """Attributes of the rows' landmarks."""
        if not names:
            return
        if any(row["landmarks"] is None or row["probability"] is None for row in rows):
            self.notes.append(f"The store has no landmarks of some images: {', '.join(names)} are left out.")
            return
        landmarks = np.array([row["landmarks"] for row in rows], np.float64).reshape(-1, 5, 2)
        probabilities = np.array([row["probability"] for row in rows], np.float64)
        for name in names:
            with np.errstate(invalid="ignore", divide="ignore"):  # eyes in one place
                self.add_number(name, measure_faces(name, landmarks, probabilities))

    def add_pictures(
        self, names: Sequence[str], rows: list[dict], root: Path, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Attributes of the rows' portraits. Raises BadInput where images are missing."""
        if not names:
            return
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        done = 0
        for batch in portrait_batches(rows, root, SIDE):
            done += len(batch)
            for name in names:
                parts[name].append(measure_pictures(name, batch))
            if progress:
                progress(done, len(rows))
        for name in names:
            self.add_number(name, np.concatenate(parts[name]))

    def _persons(self, here: np.ndarray) -> np.ndarray:
        return np.unique([self.identities[i] for i in here], return_inverse=True)[1]


def split_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Computed attributes: those of landmarks, and those of pictures."""
    faces = [name for name in names if ATTRIBUTES[name].of_faces]
    return faces, [name for name in names if name not in faces]


def label_target(labels: Sequence[str], persons: np.ndarray, name: str) -> Target:
    """Classes; or a number, where all labels are numbers and there are more than `MOST_CLASSES` different ones.

    Raises:
        BadInput: as `Target`, or more classes than that.
    """
    different = set(labels)
    if len(different) <= MOST_CLASSES:
        return Target.of_labels(labels, persons, name)
    try:
        values = np.array([float(label) for label in labels])
    except ValueError:
        raise BadInput(
            f"{name}: {len(different)} different labels that are not all numbers; an attribute has at most "
            f"{MOST_CLASSES} classes"
        ) from None
    return Target(values, persons, None, name)


FOLDS = 5
REMOVED = (0, 1, 2, 4, 8, 16, 32)
Stage = Callable[[str], Callable[..., None]]


@dataclass(frozen=True)
class LeakageJob:
    """What to evaluate.

    Attributes:
        stores: label → folder, of the same images; the first is what others are compared with.
        people: file with the people to take; all if None. exclude: people to leave out.
        labels: CSV file with labels by path; columns: of it, each an attribute: classes, or numbers.
        attributes: computed ones, of `attributes.measured.ATTRIBUTES`; all if None.
        images: where the images are, if not where the first store's manifest says.
        limit: the first so many images only.
    """

    stores: Mapping[str, Path]
    people: Path | None = None
    exclude: Sequence[str] = ()
    labels: Path | None = None
    columns: Sequence[str] = ()
    attributes: Sequence[str] | None = None
    images: Path | None = None
    limit: int | None = None
    folds: int = FOLDS
    repetitions: int = REPETITIONS
    seed: int = 0


@dataclass(frozen=True)
class ProbeResult:
    """How well one attribute is read from one store.

    Attributes:
        found: probe → balanced accuracy or R².
        over_first: probe → the same less the first store's, paired; empty for the first.
        shuffled: of the linear probe, with the attribute shuffled: what it reads where there is nothing.
        removed: after so many directions are taken out → of a linear probe (of redundancy: how spread out it is).
    """

    found: dict[str, Estimate]
    over_first: dict[str, Estimate]
    shuffled: Estimate
    removed: dict[int, Estimate]


@dataclass(frozen=True)
class LeakageFigures:
    """Everything measured.

    Attributes:
        stores: by label. rows: of the first, of the images used. templates: label → float32 (n, dim), of those images.
        targets: attribute → what was to be read, of which of the images (int64 rows of `rows`).
        read: attribute → label → figures.
        directions: attribute → where it lies in the first store's templates; of classes only where there are two.
        notes: on images left out.
    """

    stores: dict[str, Store]
    rows: list[dict]
    templates: dict[str, np.ndarray]
    targets: dict[str, tuple[Target, np.ndarray]]
    read: dict[str, dict[str, ProbeResult]]
    directions: dict[str, Direction]
    notes: list[str] = field(default_factory=list)
    beyond: int = 0

    def chance(self, name: str) -> float:
        """What one reads who knows nothing: 0 of R², 1 over the number of classes."""
        classes = self.targets[name][0].classes
        return 0.0 if classes is None else 1 / len(classes)

    def best(self, name: str) -> float:
        """How far above chance the best probe reads an attribute from the first store."""
        first = next(iter(self.read[name].values()))
        return max(figure.value for figure in first.found.values()) - self.chance(name)


def evaluate_leakage(job: LeakageJob, stage: Stage | None = None) -> LeakageFigures:
    """All figures of a job.

    Raises:
        UsageError: no store, an unknown attribute, columns without labels, or nothing to read.
        BadInput: stores that have no image in common; a recognizer that was trained, or a map or disentangler that was
            fitted, on the people judged; fewer people than folds need, or labels of one class.
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
    chosen, beyond, lacking = _images(stores, job)
    rows = first.rows().take(chosen[base]).to_pylist()
    for store in stores.values():
        require_unseen_by_store(store, [row["identity"] for row in rows])
    templates = {label: store.take(chosen[label]) for label, store in stores.items()}
    asked = TargetSet([row["identity"] for row in rows], notes=lacking)
    for own in labels:
        asked.add_labels(own, chosen[base], [row["path"] for row in rows])
    faces, pictures = split_names(names)
    asked.add_faces(faces, rows)
    try:
        asked.add_pictures(pictures, rows, job.images or first.root, stage("portraits") if stage and pictures else None)
    except BadInput as error:
        if job.attributes:
            raise
        asked.notes.append(f"{', '.join(pictures)} are left out: {error}")
    targets = asked.targets
    if not targets:
        raise UsageError("nothing to read: give --labels and --label, or a store with landmarks or images")
    found: dict[str, dict[str, ProbeResult]] = {}
    progress = stage("probes") if stage else None
    total = sum(_steps(target, job) for target, _ in targets.values()) * len(stores)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    for name, (target, here) in targets.items():
        found[name] = {}
        readings: dict[str, dict[str, Resampled]] = {}
        for label in stores:
            own, readings[label] = _read(templates[label][here], target, job, step)
            if label != base:
                less = {probe: reading.less(readings[base][probe]) for probe, reading in readings[label].items()}
                own = replace(own, over_first=less)
            found[name][label] = own
    directions, lost = _directions(targets, found, rows, templates[base], first)
    notes = asked.notes + lost
    return LeakageFigures(stores, rows, templates, targets, found, directions, notes, beyond)


def _directions(
    targets: Mapping[str, tuple[Target, np.ndarray]],
    found: Mapping[str, dict[str, ProbeResult]],
    rows: list[dict],
    plain: np.ndarray,
    store: Store,
) -> tuple[dict[str, Direction], list[str]]:
    """Of all attributes that have one, in the first store's templates; and what is said of the others."""
    try:
        require_extracted(store)
    except BadInput as error:
        # They would pass for directions of plain templates.
        return {}, [f"No directions are found: {error}."]
    directions, notes = {}, []
    for name, (target, here) in targets.items():
        if target.classes is not None and len(target.classes) != 2:
            continue
        told = {probe: figure.as_json() for probe, figure in next(iter(found[name].values())).found.items()}
        about = {"store": store.fingerprint, "people": sorted({rows[i]["identity"] for i in here}), "read": told}
        try:
            directions[name] = find_direction(name, plain[here], target, store.recognizer, about)
        except BadInput as error:
            notes.append(f"{error}: it has no direction.")
    return directions, notes


def _steps(target: Target, job: LeakageJob) -> int:
    return (len(probes_of(target)) + 1) * job.folds + 1


def _read(
    templates: np.ndarray, target: Target, job: LeakageJob, step: Callable[[], None]
) -> tuple[ProbeResult, dict[str, Resampled]]:
    fold = target.folds(job.folds, job.seed)
    options = {"repetitions": job.repetitions, "seed": job.seed}
    readings = {
        probe: read(out_of_fold(templates, target, fit, fold, job.seed, step), target, **options)
        for probe, fit in probes_of(target).items()
    }
    shuffled = _shuffled(target, job.seed)
    nothing = read(out_of_fold(templates, shuffled, PROBES["linear"], fold, job.seed, step), shuffled, **options)
    removed = [number for number in REMOVED if number < templates.shape[1]]
    curve = removal_curve(templates, target, fold, removed)
    step()
    after = {number: read(said, target, **options).estimate() for number, said in curve.items()}
    found = {probe: own.estimate() for probe, own in readings.items()}
    return ProbeResult(found, {}, nothing.estimate(), after), readings


def _shuffled(target: Target, seed: int) -> Target:
    """The attribute of somebody else: of another image, or where it is the same for all of a person's of another."""
    rng = np.random.default_rng(seed)
    order = np.argsort(target.persons, kind="stable")
    starts = np.searchsorted(target.persons[order], np.arange(int(target.persons.max()) + 1))
    of_person = target.values[order][starts]
    if (of_person[target.persons] == target.values).all():
        values = rng.permutation(of_person)[target.persons]
    else:
        values = rng.permutation(target.values)
    return Target(values, target.persons, target.classes, target.name)


def _images(stores: dict[str, Store], job: LeakageJob) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Rows in each store of the images that all have, of the people wanted; how many more; what was left out."""
    common = common_rows(list(stores.values()))
    table = next(iter(stores.values())).columns(["path", "identity"])
    identities, paths = table["identity"].to_pylist(), table["path"].to_pylist()
    wanted = select_people(identities, job.people, tuple(job.exclude)).tolist()
    named, there = [i for i in wanted if identities[i] is not None], set(common[0].tolist())
    kept = {i for i in named if i in there}
    notes = []
    if len(named) < len(wanted):
        count = len(wanted) - len(named)
        notes.append(f"{count} of {len(wanted)} images are of nobody who is named, and are left out.")
    if lacking := [paths[i] for i in named if i not in there]:
        said = f"{len(lacking)} of {len(named)} images are not in all stores, and are left out"
        notes.append(f"{said} ({some_of(lacking)}).")
    if not kept:
        listed = ", ".join(str(store.folder) for store in stores.values())
        raise BadInput(f"{listed}: no image of a known person that all have; give stores of the same images")
    used = np.flatnonzero([i in kept for i in common[0].tolist()])[: job.limit]
    return {label: rows[used] for label, rows in zip(stores, common, strict=True)}, len(kept) - len(used), notes
