"""Which perturbation a template has gone through, and what undoing the guessed one gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from facedecode.evaluation.result import Result
from facedecode.mapping.affine import apply
from facedecode.mapping.perturbed import Side
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.scores import score_pairs

if TYPE_CHECKING:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

# The share of the within-class covariance that is replaced by a multiple of the identity: keeps directions without data
# harmless.
_SHRINKAGE = 1e-6
NONE, EVERY = "none", "every perturbation"
CORRECTIONS = "without", "oracle", "estimated", "gain", "shortfall"


def fit_discriminant(groups: Sequence[np.ndarray]) -> LinearDiscriminantAnalysis:
    """Fit a linear classifier on templates of each class, (n_k, d); its `predict` gives the place of the class.

    Every class counts alike, however many templates it has.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    alike = np.full(len(groups), 1 / len(groups))
    values = np.concatenate([np.asarray(templates, np.float64) for templates in groups])
    places = np.repeat(np.arange(len(groups)), [len(templates) for templates in groups])
    return LinearDiscriminantAnalysis("lsqr", shrinkage=_SHRINKAGE, priors=alike).fit(values, places)


def add_estimation(
    result: Result,
    fitted_on: Side,
    judged: Side,
    maps: Mapping[str, np.ndarray],
    score: str,
    *,
    repetitions: int,
    seed: int,
) -> None:
    """Fit the estimator on one side's templates; add its figures and those of its corrections on the other's.

    maps: matrices that undo each perturbation. An unperturbed template is left as it is.
    score: the recognizer's own kind.
    """
    classes = (NONE, *maps)
    estimator = fit_discriminant([fitted_on.templates, *(fitted_on.perturbed[name].templates for name in maps)])
    undo = [np.eye(judged.templates.shape[1] + 1), *maps.values()]
    confusion = np.zeros((len(classes), len(classes)))
    right, people, scores = {}, {}, {}
    for place, name in enumerate(classes):
        templates, original = (judged.templates, judged.templates) if name == NONE else judged.pairs(name)
        people[name] = judged.identities if name == NONE else judged.people(name)
        guessed = estimator.predict(np.asarray(templates, np.float64))
        right[name] = guessed == place
        confusion[place] = np.bincount(guessed, minlength=len(classes)) / len(guessed)
        corrected = templates.astype(np.float64)
        for guess in np.unique(guessed):
            corrected[guessed == guess] = apply(undo[guess], templates[guessed == guess])
        compared = (templates.astype(np.float64), apply(undo[place], templates), corrected)
        scores[name] = np.stack([score_pairs(x, original, score) for x in compared], axis=1).astype(np.float64)

    def mean(values: np.ndarray, names: Sequence[str]) -> Estimate:
        owners = [who for name in names for who in people[name]]
        return mean_interval(values, owners, repetitions=repetitions, seed=seed)

    chance = 1 / len(classes)
    note = f"chance {100 * chance:.3g} %, {len(classes)} classes"
    result.add("accuracy", {}, mean(np.concatenate([right[name] for name in classes]), classes), note=note)
    result.add("chance", {}, chance)
    for place, name in enumerate(classes):
        result.add("recall", {"class": name}, mean(right[name], [name]))
        for other, share in zip(classes, confusion[place].tolist(), strict=True):
            result.add("confusion", {"class": name, "estimate": other}, share)
    for label, names in {**{name: [name] for name in classes}, EVERY: list(maps)}.items():
        without, oracle, estimated = np.concatenate([scores[name] for name in names]).T
        rows = (without, oracle, estimated, estimated - without, oracle - estimated)
        for metric, values in zip(CORRECTIONS, rows, strict=True):
            result.add(metric, {"corrected": label}, mean(values, names))
    result.add("overall_gain", {}, result.value("gain", {"corrected": EVERY}), note="paired")
    result.facts["estimation"] = {"classes": list(classes), "confusion": confusion.tolist()}
