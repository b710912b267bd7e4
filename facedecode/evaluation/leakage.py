"""What a template gives away: how well attributes can be read from it, by people whom no probe has seen.

Several stores of the same images (as they are, protected, disentangled …) are read by the same probes on the same
folds, so that what one hides is a paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facedecode.attributes import ATTRIBUTES, SIDE, expand_names, measure_faces, measure_pictures
from facedecode.bootstrap import REPETITIONS, Estimate
from facedecode.direction import Direction
from facedecode.errors import BadInput, UsageError
from facedecode.labels import ImageLabels, read_image_labels
from facedecode.paired import Resampled
from facedecode.probe import PROBES, out_of_fold, probes_of
from facedecode.protocols import select_people
from facedecode.reading import read
from facedecode.removal import removal_curve
from facedecode.store import Store
from facedecode.store_images import portrait_batches
from facedecode.store_state import require_extracted
from facedecode.target import Target

FOLDS = 5
MOST_CLASSES = 20  # numbers with more different values are regressed
REMOVED = (0, 1, 2, 4, 8, 16, 32)
Stage = Callable[[str], Callable[..., None]]


@dataclass(frozen=True)
class LeakageJob:
    """What to evaluate.

    Attributes:
        stores: label → folder, of the same images; the first is what others are compared with.
        people: file with the people to take; all if None. exclude: people to leave out.
        labels: CSV file with labels by path; columns: of it, each an attribute: classes, or numbers.
        attributes: computed ones, of `attributes.ATTRIBUTES`; all if None.
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
class Read:
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
    read: dict[str, dict[str, Read]]
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
        BadInput: stores that have no image in common, fewer people than folds need, or labels of one class.
    """
    names = expand_names(job.attributes) if job.attributes is None or len(job.attributes) else []
    if not job.stores:
        raise UsageError("give a store at least")
    if bool(job.columns) != bool(job.labels):
        raise UsageError("--labels and --label go together")
    if clash := sorted(set(job.columns) & set(ATTRIBUTES)):
        raise UsageError(f"--label {clash[0]}: a computed attribute has that name; rename the column")
    stores = {label: Store.open(folder) for label, folder in job.stores.items()}
    first = next(iter(stores.values()))
    labels = [read_image_labels(job.labels, column, first) for column in job.columns]
    chosen, beyond, lacking = _images(stores, job)
    rows = first.rows().take(chosen[next(iter(stores))]).to_pylist()
    templates = {label: store.take(chosen[label]) for label, store in stores.items()}
    targets, notes = _targets(job, names, labels, rows, chosen[next(iter(stores))], first, stage)
    notes = lacking + notes
    if not targets:
        raise UsageError("nothing to read: give --labels and --label, or a store with landmarks or images")
    found: dict[str, dict[str, Read]] = {}
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
            over = {}
            if label != next(iter(stores)):
                base = readings[next(iter(stores))]
                over = {probe: reading.less(base[probe]) for probe, reading in readings[label].items()}
            found[name][label] = Read(own.found, over, own.shuffled, own.removed)
    plain = templates[next(iter(stores))]
    directions, lost = _directions(targets, found, rows, plain, first)
    notes += lost
    return LeakageFigures(stores, rows, templates, targets, found, directions, notes, beyond)


def find_direction(
    name: str, templates: np.ndarray, target: Target, recognizer: dict, about: dict | None = None
) -> Direction:
    """The direction to move along so that an attribute of two classes, or a number, changes as it does in the data.

    It is the pattern of the attribute, not the filter that reads it best (Haufe et al. 2014): the difference of the
    class means, or the covariance of templates and number. Persons count alike, and so do classes.

    Args:
        about: more for the direction's report.

    Raises:
        BadInput: the attribute does not rise along it from the low end to the high one (it is hardly in the templates).
    """
    values = templates.astype(np.float64)
    weights = target.weights
    if target.classes is not None:
        means = [np.average(values[target.values == k], axis=0, weights=weights[target.values == k]) for k in (0, 1)]
        low, high = target.classes
        vector = means[1] - means[0]
        ends = [target.values == 0, target.values == 1]
    else:
        centered = target.values - weights @ target.values
        vector = (weights * centered) @ values
        low, high = "low", "high"
        fifths = np.quantile(target.values, [0.2, 0.8])
        ends = [target.values <= fifths[0], target.values >= fifths[1]]
    length = np.linalg.norm(vector)
    vector = vector / length if length > 0 else vector
    along = values @ vector
    positions = tuple(float(np.average(along[end], weights=weights[end])) for end in ends)
    if not positions[0] < positions[1]:
        raise BadInput(f"{name} does not rise along any direction of these templates")
    report = {"images": len(values), "persons": int(target.persons.max()) + 1, **(about or {})}
    return Direction(vector.astype(np.float32), name, low, high, positions, recognizer, report)


def _directions(
    targets: Mapping[str, tuple[Target, np.ndarray]],
    found: Mapping[str, dict[str, Read]],
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
) -> tuple[Read, dict[str, Resampled]]:
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
    return Read(found, {}, nothing.estimate(), after), readings


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


def _images(stores: dict[str, Store], job: LeakageJob) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Rows in each store of the images that all have, of the people wanted; how many more; what was left out."""
    tables = {label: store.columns(["path", "sha256", "identity"]).to_pylist() for label, store in stores.items()}
    first = next(iter(tables))
    wanted = select_people([row["identity"] for row in tables[first]], job.people, tuple(job.exclude))
    places = {
        label: {(row["path"], row["sha256"]): i for i, row in enumerate(table) if row["path"] is not None}
        for label, table in tables.items()
    }
    rows = [tables[first][i] for i in wanted]
    named = [(row["path"], row["sha256"]) for row in rows if row["identity"] is not None]
    keys = [key for key in named if all(key in place for place in places.values())]
    notes = []
    if len(named) < len(rows):
        notes.append(f"{len(rows) - len(named)} of {len(rows)} images are of nobody who is named, and are left out.")
    if len(keys) < len(named):
        shared = set(keys)
        lacking = [str(path) for path, sha256 in named if (path, sha256) not in shared]
        listed = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        notes.append(f"{len(lacking)} of {len(named)} images are not in all stores, and are left out ({listed}).")
    if not keys:
        listed = ", ".join(str(store.folder) for store in stores.values())
        raise BadInput(f"{listed}: no image of a known person that all have; give stores of the same images")
    beyond = 0 if job.limit is None else max(0, len(keys) - job.limit)
    keys = keys[: job.limit]
    return {label: np.array([place[key] for key in keys]) for label, place in places.items()}, beyond, notes


def _targets(
    job: LeakageJob,
    names: Sequence[str],
    labels: Sequence[ImageLabels],
    rows: list[dict],
    chosen: np.ndarray,
    store: Store,
    stage: Stage | None,
) -> tuple[dict[str, tuple[Target, np.ndarray]], list[str]]:
    """What is to be read, of which images; and what was left out."""
    identities = [row["identity"] for row in rows]
    found, notes = {}, []

    def add(name: str, values: np.ndarray, here: np.ndarray, classes: bool) -> None:
        _, persons = np.unique([identities[i] for i in here], return_inverse=True)
        own = label_target(values.tolist(), persons, name) if classes else Target(values, persons, None, name)
        found[name] = own, here

    for own in labels:
        values = [own.values[i] for i in chosen]
        here = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        if not len(here):
            raise BadInput(f"{own.source}: no {own.column!r} of any image used")
        if len(here) < len(values):
            missing = [rows[i]["path"] for i, value in enumerate(values) if value is None]
            listed = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            notes.append(f"{len(missing)} of {len(values)} images have no {own.column!r} and are left out ({listed}).")
        add(own.column, np.array([values[i] for i in here]), here, True)
    everything = np.arange(len(rows))
    faces = [name for name in names if ATTRIBUTES[name].of_faces]
    known = all(row["landmarks"] is not None and row["probability"] is not None for row in rows)
    if faces and not known:
        notes.append(f"The store has no landmarks of some images: {', '.join(faces)} are left out.")
    elif faces:
        landmarks = np.array([row["landmarks"] for row in rows], np.float64).reshape(-1, 5, 2)
        probabilities = np.array([row["probability"] for row in rows], np.float64)
        for name in faces:
            values = measure_faces(name, landmarks, probabilities)
            if np.ptp(values) > 0:
                add(name, values, everything, False)
            else:
                notes.append(f"{name} is the same for all images, and left out.")
    pictures = [name for name in names if ATTRIBUTES[name].of_pictures]
    if pictures:
        try:
            parts: dict[str, list[np.ndarray]] = {name: [] for name in pictures}
            progress, done = stage("portraits") if stage else None, 0
            for batch in portrait_batches(rows, job.images or store.root, SIDE):
                done += len(batch)
                for name in pictures:
                    parts[name].append(measure_pictures(name, batch))
                if progress:
                    progress(done, len(rows))
            for name in pictures:
                add(name, np.concatenate(parts[name]), everything, False)
        except BadInput as error:
            if job.attributes:
                raise
            notes.append(f"{', '.join(pictures)} are left out: {error}")
    return found, notes
