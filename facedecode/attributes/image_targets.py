"""What there is to read from templates: labels of images, and attributes measured of faces and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from facedecode.annotations.labels import ImageLabels
from facedecode.attributes.measured import SIDE, measure_faces, measure_pictures
from facedecode.attributes.target import Target
from facedecode.errors import BadInput, some_of
from facedecode.progress import Progress, silent
from facedecode.store import ImageFolder
from facedecode.store.images import portrait_batches

MOST_CLASSES = 20  # numbers with more different values are regressed


@dataclass
class TargetSet:
    """The attributes of some images.

    rows: of the images.
    targets: attribute → its target, and the images that have it (int64 rows of `rows`).
    notes: on what was left out.
    """

    rows: list[dict]
    targets: dict[str, tuple[Target, np.ndarray]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def people(self, images: np.ndarray) -> list[str]:
        """The person of each of some images."""
        return [self.rows[i]["identity"] for i in images]

    def add_labels(self, labels: ImageLabels, chosen: np.ndarray) -> None:
        """Labels of a store's images. chosen: the store's rows that are the images here.

        Raises BadInput: no image has a label, or as `label_target`.
        """
        values = [labels.values[i] for i in chosen]
        images = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        if not len(images):
            raise BadInput(f"{labels.source}: no {labels.column!r} of any image used")
        if missing := [self.rows[i]["path"] for i, value in enumerate(values) if value is None]:
            what = f"{len(missing)} of {len(values)} images have no {labels.column!r} and are left out"
            self.notes.append(f"{what} ({some_of(missing)}).")
        target = label_target([values[i] for i in images], self._persons(images), labels.column)
        self.targets[labels.column] = target, images

    def add_faces(self, names: Sequence[str]) -> None:
        """Attributes of the images' landmarks."""
        if names and any(row["landmarks"] is None or row["probability"] is None for row in self.rows):
            self.notes.append(f"The store has no landmarks of some images: {', '.join(names)} are left out.")
            return
        for name in names:
            landmarks = np.array([row["landmarks"] for row in self.rows], np.float64).reshape(-1, 5, 2)
            probabilities = np.array([row["probability"] for row in self.rows], np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):  # eyes in one place
                self._add_number(name, measure_faces(name, landmarks, probabilities))

    def add_pictures(self, names: Sequence[str], root: ImageFolder, progress: Progress = silent) -> None:
        """Attributes of the images' portraits. Raises BadInput where images are missing."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        done = 0
        progress(done, len(self.rows))
        for batch in portrait_batches(self.rows, root, SIDE) if names else ():
            done += len(batch)
            for name, values in parts.items():
                values.append(measure_pictures(name, batch))
            progress(done, len(self.rows))
        for name, values in parts.items():
            self._add_number(name, np.concatenate(values))

    def _add_number(self, name: str, values: np.ndarray) -> None:
        images = np.flatnonzero(np.isfinite(values))
        if len(images) < len(values):
            self.notes.append(f"{name} cannot be measured of {len(values) - len(images)} images, which are left out.")
        if not len(images) or not np.ptp(values[images]) > 0:
            self.notes.append(f"{name} is the same for all images, and left out.")
            return
        self.targets[name] = Target(values[images], self._persons(images), None, name), images

    def _persons(self, images: np.ndarray) -> np.ndarray:
        return np.unique(self.people(images), return_inverse=True)[1]


def label_target(labels: Sequence[str], persons: np.ndarray, name: str) -> Target:
    """Classes; or a number, where all labels are numbers and there are more than `MOST_CLASSES` different ones.

    Raises BadInput: as `Target`, or more classes than that.
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
