"""What every protocol of comparisons gives: mated and non-mated scores, with the persons behind them.

A source (`pairs_file`, `all_pairs`) turns the templates of one recognizer into `Comparisons`: the scores of mated and
non-mated pairs with the persons behind them, and the images that gave no template (failures to acquire).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from facedecode.evaluation.template_sets import Templates
from facedecode.statistics.bootstrap import NonMated, Trials


@dataclass(frozen=True)
class Folds:
    """All pairs of a file in its order, for the accuracy over folds: arrays (n,).

    left, right: the persons, as indices; a pair is mated where they are equal.
    """

    scores: np.ndarray
    fold: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Comparisons:
    """One recognizer's scores in a protocol.

    Attributes:
        mated, non_mated: scores and persons; -inf where an image gave no template.
        people: the names; persons are indices into it.
        image_people: the name of the person of each image, of those that gave no template and are ignored too.
        missing: bool (n,), the images that gave no template.
        lost: (path, person, why) of each image that gave no template, or that is not there.
        folds: of a pairs file with more than one; else None.
        left_out: counts of what does not take part, by what it is.
        warnings: what the user should know of the data.
    """

    mated: Trials
    non_mated: NonMated
    people: list[str]
    image_people: list[str]
    missing: np.ndarray
    folds: Folds | None = None
    lost: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class TrialSource(Protocol):
    """Where comparisons come from; the same one for every recognizer of an evaluation.

    Attributes:
        kind: pairs, all-pairs or gallery-probes.
        fmrs: the false match rates to report where nobody asks for others (those that the pairs resolve).
        folds: whether there are folds, and so an accuracy.
        probes: a second store, of what is compared with the templates evaluated; None where there is one only.
    """

    kind: str
    fmrs: Sequence[float]
    folds: bool
    probes: Templates | None

    def describe(self) -> str:
        """What is compared, in a sentence or two."""

    def provenance(self) -> dict:
        """JSON: `stores` besides those evaluated, `files` with their SHA-256, and `settings`."""

    def images(self, templates: Templates) -> dict[str, str | None]:
        """The images that take part, by path, with the SHA-256 of each one's file (None if unknown)."""

    def compare(self, templates: Templates, ignore_failures: bool = False) -> Comparisons:
        """Score them. BadInput: no mated pairs, no non-mated pairs, or images that are not as they should be."""
