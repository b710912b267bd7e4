"""Verification figures of a recognizer: accuracy, EER, TAR at FAR, rates at a given threshold, groups of people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.annotations.labels import PersonLabels
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.trials import Comparisons
from facedecode.report.text import percent
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, mean_interval
from facedecode.statistics.differential import GroupPoint, group_rates
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import (
    RateAtFmr,
    ThresholdRates,
    Trials,
    rates_at_fmr,
    rates_at_threshold,
    resampled_accuracy,
    resampled_eer,
)
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.verification import FoldSplit, Roc, false_accepts_allowed, roc


@dataclass(frozen=True)
class VerificationSettings:
    """What figures are asked for.

    fmrs: false match rates; those of the source that its pairs resolve if None. more_fmrs: further ones, of gates.
    labels: of people, for differential performance. ignore_failures: leave out images that gave no template, rather
    than have them match nothing.
    """

    fmrs: Sequence[float] | None = None
    more_fmrs: Sequence[float] = ()
    threshold: float | None = None
    labels: PersonLabels | None = None
    ignore_failures: bool = False
    repetitions: int = REPETITIONS
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        """UsageError for a rate or a threshold that is none, or rates that print alike, before the work."""
        shown: dict[str, float] = {}
        for fmr in map(float, (*(self.fmrs or ()), *self.more_fmrs)):
            false_accepts_allowed(fmr, 1)
            for name in {f"{fmr:g}", percent(fmr)}:
                if shown.setdefault(name, fmr) != fmr:
                    raise UsageError(f"rates {shown[name]!r} and {fmr!r} are both shown as {name}: give one of them")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"--threshold {self.threshold}: not a threshold; give a finite score")

    def fmrs_for(self, non_mated: int, usual: Sequence[float]) -> list[float]:
        """The false match rates, falling; of `usual` ones, those that so many non-mated pairs resolve."""
        if self.fmrs is not None:
            return sorted({float(fmr) for fmr in [*self.fmrs, *self.more_fmrs]}, reverse=True)
        asked = {percent(fmr) for fmr in self.more_fmrs}
        resolved = [fmr for fmr in usual if false_accepts_allowed(fmr, non_mated) and percent(fmr) not in asked]
        return sorted({float(fmr) for fmr in [*resolved, *self.more_fmrs]}, reverse=True)


@dataclass(frozen=True)
class Differential:
    """Differential performance by a label.

    people, images: how many each group has. unlabelled_people: those who take part in no group.
    """

    column: str
    people: dict[str, int]
    images: dict[str, int]
    unlabelled_people: int
    points: list[GroupPoint]


@dataclass(frozen=True)
class Figures:
    """A recognizer's figures, each with an interval by person.

    accuracy: mean over folds, with thresholds of the other folds; None without folds. standard_error: over folds.
    eer, eer_by_person: None where failures to acquire keep FNMR above FMR at every threshold.
    by_pair, by_person: TAR at each FMR.
    failure_to_acquire: of the images, n of them.
    mated_people: how many people have mated pairs.
    curve: by pairs.
    lost, left_out, warnings: see `Comparisons`.
    """

    accuracy: Estimate | None
    standard_error: float | None
    eer: Estimate | None
    eer_by_person: Estimate | None
    by_pair: list[RateAtFmr]
    by_person: list[RateAtFmr]
    at_threshold: ThresholdRates | None
    groups: Differential | None
    failure_to_acquire: Estimate
    failed_images: int
    mated: int
    mated_people: int
    non_mated: int
    people: int
    curve: Roc
    lost: list[tuple[str, str, str]]
    left_out: dict[str, int]
    warnings: list[str]


def verification_figures(
    comparisons: Comparisons,
    fmrs: Sequence[float],
    wanted: VerificationSettings,
    say: Callable[[str], None] = lambda what: None,
) -> Figures:
    """All the figures of one recognizer's comparisons.

    fmrs: falling; without any there are no rates at an FMR and none of groups. say: called with what is done.
    BadInput where all scores are equal, or all of one kind are those of failures; for an FMR that is finer than the
    pairs resolve, or a label without two groups.
    """
    mated, non_mated = comparisons.mated, comparisons.non_mated
    _refuse_flat(mated.scores, non_mated.scores)
    options: dict[str, Any] = {"repetitions": wanted.repetitions, "seed": wanted.seed, "level": wanted.level}
    of_people = {"people": len(comparisons.people), **options}
    unleveled = {name: of_people[name] for name in ("people", "repetitions", "seed")}
    say("rates at each FAR")
    trials = {"pairs": mated, "people": mated.person_weighted()}
    rates = rates_at_fmr(trials, non_mated, fmrs, **of_people) if fmrs else {"pairs": [], "people": []}
    accuracy = error = at_threshold = groups = None
    if comparisons.folds is not None:
        say("accuracy")
        folds = comparisons.folds
        split = FoldSplit(folds.scores, folds.left == folds.right, folds.fold)
        accuracy = resampled_accuracy(split, folds.left, folds.right, **unleveled).estimate(wanted.level)
        error = split.accuracy().standard_error
    if wanted.threshold is not None:
        say("rates at the threshold")
        at_threshold = rates_at_threshold(mated, non_mated, wanted.threshold, **of_people)
    warnings = list(comparisons.warnings)
    if wanted.labels is not None and not fmrs:
        warnings.append(f"no rates by {wanted.labels.column}: the non-mated pairs resolve none of the FMRs")
    elif wanted.labels is not None:
        say(f"rates by {wanted.labels.column}")
        groups = differential_rates(comparisons, wanted.labels, fmrs, **options)
    say("equal error rate")
    eers: dict[str, Estimate] = {}
    if _has_equal_errors(mated, non_mated):
        eers = {by: resampled_eer(each, non_mated, **unleveled).estimate(wanted.level) for by, each in trials.items()}
    return Figures(
        accuracy=accuracy,
        standard_error=error,
        eer=eers.get("pairs"),
        eer_by_person=eers.get("people"),
        by_pair=rates["pairs"],
        by_person=rates["people"],
        at_threshold=at_threshold,
        groups=groups,
        failure_to_acquire=mean_interval(comparisons.missing, comparisons.image_people, **options),
        failed_images=int(comparisons.missing.sum()),
        mated=len(mated.scores),
        mated_people=len(np.unique(mated.people)),
        non_mated=len(non_mated.scores),
        people=len(comparisons.people),
        curve=roc(mated.scores, non_mated.scores),
        lost=comparisons.lost,
        left_out=comparisons.left_out,
        warnings=warnings,
    )


def differential_rates(
    comparisons: Comparisons, labels: PersonLabels, fmrs: Sequence[float], **options: Any
) -> Differential:
    """Rates of the groups of people that labels tell apart; options as `statistics.differential.group_rates`.

    BadInput for fewer than two groups among the people compared.
    """
    group_of = [labels.of.get(name) for name in comparisons.people]
    known = sorted({name for name in group_of if name is not None})
    if len(known) < 2:
        few = f"only {known[0]!r}" if known else "nobody"
        raise BadInput(f"label {labels.column!r}: {few} among the people compared; two groups are needed")
    of_images = [labels.of.get(name) for name in comparisons.image_people]
    return Differential(
        column=labels.column,
        people={name: group_of.count(name) for name in known},
        images={name: of_images.count(name) for name in known},
        unlabelled_people=group_of.count(None),
        points=group_rates(comparisons.mated, comparisons.non_mated, group_of, fmrs, **options),
    )


def _refuse_flat(mated: np.ndarray, non_mated: np.ndarray) -> None:
    """BadInput where scores tell nothing: all are equal, or no pair of a kind has one."""
    for kind, scores in (("mated", mated), ("non-mated", non_mated)):
        if scores.max() == -np.inf:
            raise BadInput(f"none of the {len(scores):,} {kind} pairs has a score: in each, an image gave no template")
    low = min(scores[scores > -np.inf].min() for scores in (mated, non_mated))
    if low == max(mated.max(), non_mated.max()):
        raise BadInput(f"all scores are equal ({low:g}): these templates do not tell images apart")


def _has_equal_errors(mated: Trials, non_mated: NonMated) -> bool:
    """Whether FMR reaches FNMR once everything with a score is accepted (a failure never is)."""
    return float((non_mated.scores > -np.inf).mean()) >= float((mated.scores == -np.inf).mean())
