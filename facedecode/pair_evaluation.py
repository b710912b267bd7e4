"""Verification figures of a recognizer on a list of image pairs (LFW View 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedecode.bootstrap import (
    Estimate,
    NonMated,
    RateAtFar,
    Trials,
    accuracy_interval,
    eer_interval,
    rates_at_far,
)
from facedecode.errors import BadInput
from facedecode.protocols import Pairs
from facedecode.scores import encode_people, score_rows
from facedecode.store import Store
from facedecode.verification import accuracy_by_fold

FEW_ERRORS = 30


@dataclass(frozen=True)
class PairFigures:
    """Figures on pairs, each with a 95 % interval by person bootstrap.

    Attributes:
        accuracy: mean over folds, thresholds chosen on the other folds; None for a single fold.
        standard_error: of `accuracy`, over folds.
        tar_at_far: one for each false accept rate asked for, every pair counting alike.
        tar_at_far_by_person: the same, every person with mated pairs counting alike.
        failed_images, images: those without a template, among the images that the pairs name.
        failures_ignored: pairs with a failed image were left out (else they count as non-matches).
    """

    accuracy: Estimate | None
    standard_error: float | None
    eer: Estimate
    tar_at_far: list[RateAtFar]
    tar_at_far_by_person: list[RateAtFar]
    pairs: int
    failed_images: int
    images: int
    failures_ignored: bool

    def metrics(self) -> dict:
        """JSON."""
        metrics = {
            "eer": self.eer.as_json(),
            "tar_at_far": {f"{rate.far_wanted:g}": rate.as_json() for rate in self.tar_at_far},
            "tar_at_far_by_person": {f"{rate.far_wanted:g}": rate.as_json() for rate in self.tar_at_far_by_person},
            "pairs": self.pairs,
            "failure_to_acquire": {"value": self.failed_images / self.images, "n": self.images},
            "failures_ignored": self.failures_ignored,
        }
        if self.accuracy is not None:
            metrics["accuracy"] = self.accuracy.as_json() | {"standard_error": self.standard_error}
        return metrics

    def lines(self) -> list[str]:
        """For people, a line a figure."""

        def share(e: Estimate) -> str:
            interval = "" if e.low is None else f" [{e.low:.2%}, {e.high:.2%}]"
            return f"{e.value:.2%}{interval}"

        lines = []
        if self.accuracy is not None:
            lines.append(f"accuracy {share(self.accuracy)}, standard error {self.standard_error:.2%}")
        lines.append(f"EER {share(self.eer)}")
        for rate, by_person in zip(self.tar_at_far, self.tar_at_far_by_person, strict=True):
            few = f", on {rate.false_accepts} false accepts only" if rate.false_accepts < FEW_ERRORS else ""
            lines.append(
                f"TAR at FAR {rate.far_wanted:g}: {share(rate)}, by person {share(by_person)} "
                f"(threshold {rate.threshold:.4f}{few})"
            )
        ignored = ", left out" if self.failures_ignored else ", counted as non-matches"
        acquired = f"{self.failed_images} of {self.images} images gave no template"
        return [*lines, f"{self.pairs} pairs; {acquired}{ignored if self.failed_images else ''}"]


def evaluate_pairs(
    store: Store,
    pairs: Pairs,
    fars: tuple[float, ...] = (0.01, 0.001),
    ignore_failures: bool = False,
    repetitions: int = 1000,
    seed: int = 0,
) -> PairFigures:
    """Score the pairs with the store's templates, by its recognizer's score.

    Args:
        fars: false accept rates, each at least 1 / (number of non-mated pairs).
        ignore_failures: leave out pairs with an image that gave no template, rather than count them as
            non-matches.

    Raises:
        BadInput: the pairs name images that the store has never seen (counted, the first ones listed); there are
            no mated or no non-mated pairs; a FAR is finer than the pairs resolve.
    """
    left, right = pairs.rows(store.paths())
    failed = {failure["path"] for failure in store.failures()}
    named = list(dict.fromkeys([*pairs.left, *pairs.right]))
    known = set(store.paths()) | failed
    if unknown := [path for path in named if path not in known]:
        raise BadInput(
            f"{store.folder}: {len(unknown)} of the {len(named)} images that the pairs name are not in the store "
            f"({', '.join(unknown[:3])}{', …' if len(unknown) > 3 else ''}); extract the folder that holds them"
        )
    keep = (left >= 0) & (right >= 0) if ignore_failures else np.ones(len(pairs), bool)
    mated, fold = pairs.mated[keep], pairs.fold[keep]
    scores = score_rows(store.templates(), left[keep], right[keep], store.manifest["score"])
    names, codes = encode_people(pairs.left_people + pairs.right_people)
    left_people, right_people = (side[keep] for side in np.split(codes, 2))
    if not mated.any() or mated.all():
        raise BadInput("the pairs need both kinds, mated and non-mated; give a file with both")
    trials = Trials(scores[mated], left_people[mated])
    non_mated = NonMated.from_pairs(scores[~mated], left_people[~mated], right_people[~mated])
    options = {"people": len(names), "repetitions": repetitions, "seed": seed}
    accuracy = error = None
    if len(np.unique(fold)) > 1:
        accuracy = accuracy_interval(scores, fold, left_people, right_people, **options)
        error = accuracy_by_fold(scores, mated, fold).standard_error
    rates = rates_at_far({"pairs": trials, "people": trials.person_weighted()}, non_mated, fars, **options)
    return PairFigures(
        accuracy=accuracy,
        standard_error=error,
        eer=eer_interval(trials, non_mated, **options),
        tar_at_far=rates["pairs"],
        tar_at_far_by_person=rates["people"],
        pairs=int(keep.sum()),
        failed_images=sum(path in failed for path in named),
        images=len(named),
        failures_ignored=ignore_failures,
    )
