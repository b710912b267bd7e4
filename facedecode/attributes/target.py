"""What is to be read from vectors, and the people it is read of: in training, held out, in folds.

Every person counts alike, and every class alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from facedecode.errors import BadInput


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be read.

    values: int64 (n,), classes from 0; or float64 (n,) of a number.
    persons: int64 (n,), whose image each is, from 0.
    classes: names; None where it is a number.

    Raises BadInput: one class, a constant, or a number that is not finite.
    """

    values: np.ndarray
    persons: np.ndarray
    classes: tuple[str, ...] | None = None
    name: str = "it"

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            raise BadInput(f"{self.name}: not finite for {int((~np.isfinite(self.values)).sum())} images")
        if self.classes is not None and len(np.unique(self.values)) < max(2, len(self.classes)):
            raise BadInput(f"{self.name}: one class only, and nothing to tell it from")
        if self.classes is None and not np.ptp(self.values) > 0:
            raise BadInput(f"{self.name}: the same for all images, and nothing to predict")

    @classmethod
    def of_labels(cls, labels: Sequence[str], persons: np.ndarray, name: str = "it") -> Target:
        """Classes in the order of their names."""
        classes, values = np.unique(np.asarray(labels, np.str_), return_inverse=True)
        return cls(values.astype(np.int64), persons, tuple(classes.tolist()), name)

    def of_people(self, images: np.ndarray) -> Target:
        """Of some images, bool (n,); their people are numbered anew, without gaps.

        Raises BadInput: they lack a class, or are all alike.
        """
        values = self.values[images]
        if self.classes is not None:
            lacking = sorted(set(range(len(self.classes))) - set(values.tolist()))
            if lacking:
                raise BadInput(
                    f"{self.name}: too few people are {self.classes[lacking[0]]!r} to train a probe on some and judge "
                    "it on others; take more, or leave that label out"
                )
        elif not len(values) or not np.ptp(values) > 0:
            raise BadInput(f"{self.name}: too few people in whom it differs to train a probe on some; take more")
        _, persons = np.unique(self.persons[images], return_inverse=True)
        return Target(values, persons, self.classes, self.name)

    def shuffled(self, seed: int) -> Target:
        """The attribute of another image; or of another person, where it is the same for all of a person's images."""
        generator = np.random.default_rng(seed)
        order = np.argsort(self.persons, kind="stable")
        starts = np.searchsorted(self.persons[order], np.arange(int(self.persons.max()) + 1))
        of_person = self.values[order][starts]
        if (of_person[self.persons] == self.values).all():
            values = generator.permutation(of_person)[self.persons]
        else:
            values = generator.permutation(self.values)
        return Target(values, self.persons, self.classes, self.name)

    def held_out(self, share: float) -> np.ndarray:
        """Images of people to keep out of a training, as many of each class as the share allows: bool (n,)."""
        strata, rng = _strata(self.persons, self._classes), np.random.default_rng(0)
        out = np.zeros(len(strata), bool)
        for value in np.unique(strata):
            people = rng.permutation(np.flatnonzero(strata == value))
            out[people[: max(1, round(share * len(people)))]] = True
        return out[self.persons]

    def folds(self, count: int, seed: int = 0) -> np.ndarray:
        """A fold for each image, all of a person's in one, with about as many people of each class in all: int64 (n,).

        Raises BadInput: fewer than two people a fold.
        """
        strata = _strata(self.persons, self._classes)
        if len(strata) < 2 * count:
            raise BadInput(f"{len(strata)} persons are too few for {count} folds; take more people, or fewer --folds")
        # One class after the other is dealt out, so that a rare one is in as many folds as it has persons.
        order = np.random.default_rng(seed).permutation(len(strata))
        order = order[np.argsort(strata[order], kind="stable")]
        fold = np.empty(len(strata), np.int64)
        fold[order] = np.arange(len(strata)) % count
        return fold[self.persons]

    @property
    def _classes(self) -> np.ndarray | None:
        return None if self.classes is None else self.values

    @cached_property
    def weights(self) -> np.ndarray:
        """Of each image, summing to 1: persons alike, and then classes alike. float64 (n,)."""
        weights = 1 / np.bincount(self.persons)[self.persons]
        if self.classes is not None:
            weights = weights / np.bincount(self.values, weights, len(self.classes))[self.values]
        return weights / weights.sum()


def _strata(persons: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The class that most images of each person have, the first of equal ones; 0 without: int64 (persons,)."""
    count = int(persons.max()) + 1
    if classes is None:
        return np.zeros(count, np.int64)
    images = np.zeros((count, int(classes.max()) + 1), np.int64)
    np.add.at(images, (persons, classes), 1)
    return images.argmax(1)
