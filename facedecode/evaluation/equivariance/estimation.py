"""Which perturbation a template has gone through, and what undoing the guessed one gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.equivariance.affine import Affine
from facedecode.evaluation.equivariance.perturbed import Side
from facedecode.evaluation.result import MetricSpec, Result
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.scores import score_pairs

# Added to the within-class covariance, in units of its mean eigenvalue: keeps directions without data harmless.
_RIDGE = 1e-6
NONE, EVERY = "none", "every perturbation"
CORRECTIONS = {
    "without": "as it is",
    "oracle": "map of the true perturbation",
    "estimated": "map of the estimated perturbation",
    "gain": "gain by the estimated map",
    "shortfall": "short of the true map",
}
METRICS = (
    MetricSpec("accuracy", (), "percent", "", "estimation/accuracy", ("accuracy",), "Accuracy of the estimator"),
    MetricSpec("chance", (), "percent", "", "estimation/chance"),
    MetricSpec("recall", ("class",), "percent", "accuracy", "estimation/recall/{class}"),
    MetricSpec("confusion", ("class", "estimate"), "percent", "estimated {estimate}", None),
    *(
        MetricSpec(name, ("corrected",), "score", title, f"estimation/{{corrected}}/{name}")
        for name, title in CORRECTIONS.items()
    ),
    MetricSpec("overall_gain", (), "score", "", None, ("gain",), "Gain in score by the estimated map"),
)


@dataclass(frozen=True, eq=False)
class Discriminant:
    """A linear classifier: the class k with the highest weight[k] · x + bias[k].

    classes: their names. weight: (k, d) float64. bias: (k,) float64.
    """

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray

    def classify(self, templates: np.ndarray) -> np.ndarray:
        """The place of each template's class, (n, d) → int64 (n,); of equal ones the first."""
        return np.argmax(np.asarray(templates, np.float64) @ self.weight.T + self.bias, axis=1)


def fit_discriminant(groups: Sequence[tuple[str, np.ndarray]]) -> Discriminant:
    """Fit on templates of each class, (n_k, d) any float type; every class counts alike, however many it has.

    Raises:
        UsageError: fewer than two classes.
        BadInput: a class without a template.
    """
    if len(groups) < 2:
        raise UsageError("there is nothing to tell apart: give two classes or more")
    means, within = [], 0.0
    for name, templates in groups:
        templates = np.asarray(templates, np.float64)
        if not len(templates):
            raise BadInput(f"{name}: no template to learn this class from; give more images")
        means.append(templates.mean(axis=0))
        centered = templates - means[-1]
        within = within + centered.T @ centered / len(templates)
    means, within = np.stack(means), within / len(groups)
    # Scale alone decides where nothing varies within a class.
    scale = float(np.trace(within)) / len(within) or 1.0
    middle = means.mean(axis=0)
    weight = np.linalg.solve(within + _RIDGE * scale * np.eye(len(within)), (means - middle).T).T
    bias = -np.einsum("kd,kd->k", weight, (means + middle)) / 2
    return Discriminant(tuple(name for name, _ in groups), weight, bias)


def add_estimation(
    result: Result,
    fitted_on: Side,
    judged: Side,
    maps: Mapping[str, Affine],
    score: str,
    *,
    repetitions: int,
    seed: int,
) -> None:
    """Fit the estimator on one side's templates; add its figures and those of its corrections on the other's.

    Args:
        maps: of each perturbation, which undo it. An unperturbed template is left as it is.
        score: the recognizer's own kind.
    """
    classes = (NONE, *maps)
    groups = [fitted_on.templates, *(fitted_on.perturbed[name].templates for name in maps)]
    estimator = fit_discriminant(list(zip(classes, groups, strict=True)))
    undo = [Affine.identity(judged.templates.shape[1]), *maps.values()]
    confusion = np.zeros((len(classes), len(classes)))
    right, people, scores = {}, {}, {}
    for place, name in enumerate(classes):
        templates, original = (judged.templates, judged.templates) if name == NONE else judged.pairs(name)
        people[name] = judged.identities if name == NONE else judged.people(name)
        guessed = estimator.classify(templates)
        right[name] = guessed == place
        confusion[place] = np.bincount(guessed, minlength=len(classes)) / len(guessed)
        corrected = templates.astype(np.float64)
        for guess in np.unique(guessed):
            corrected[guessed == guess] = undo[guess].apply(templates[guessed == guess])
        compared = (templates.astype(np.float64), undo[place].apply(templates), corrected)
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
    result.add("overall_gain", {}, result.value("gain", {"corrected": EVERY}), note=f"{score}, paired")
    result.facts["estimation"] = {"classes": list(classes), "confusion": confusion.tolist()}
