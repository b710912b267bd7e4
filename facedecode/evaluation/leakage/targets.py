"""What can be asked of templates: labels, and what is measured of their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facedecode.annotations.labels import ImageLabels
from facedecode.attributes.measured import ATTRIBUTES, SIDE, measure_faces, measure_pictures
from facedecode.attributes.target import Target
from facedecode.errors import BadInput, some_of
from facedecode.store.images import portrait_batches

MOST_CLASSES = 20  # numbers with more different values are regressed


@dataclass
class Asked:
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
