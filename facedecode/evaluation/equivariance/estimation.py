"""Which perturbation a template has gone through, and what undoing the guessed one gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.equivariance.affine import Affine
from facedecode.evaluation.equivariance.perturbed import Side
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.scores import score_pairs

# Added to the within-class covariance, in units of its mean eigenvalue: keeps directions without data harmless.
_RIDGE = 1e-6


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


NONE = "none"


@dataclass(frozen=True)
class Correction:
    """Mean scores against the template of the original image.

    without: of templates as they come. oracle: after the map of what was done. estimated: after the map of what the
    estimator says was done. gain: estimated − without; shortfall: oracle − estimated; both paired.
    """

    without: Estimate
    oracle: Estimate
    estimated: Estimate
    gain: Estimate
    shortfall: Estimate

    def as_json(self) -> dict:
        names = ("without", "oracle", "estimated", "gain", "shortfall")
        return {name: getattr(self, name).as_json() for name in names}


@dataclass(frozen=True)
class Estimation:
    """The estimator on the judged people's templates, as many of each class as there are images.

    classes: 'none' first. accuracy: share of all templates told right; chance: what guessing gives. recall: of each
    class. confusion: (k, k) float64, the share of a class (row) that is taken for each (column).
    corrections: by class. perturbed: of all templates but the unperturbed ones.
    """

    classes: tuple[str, ...]
    accuracy: Estimate
    chance: float
    recall: dict[str, Estimate]
    confusion: np.ndarray
    corrections: dict[str, Correction]
    perturbed: Correction


def estimate_perturbation(
    fitted_on: Side, side: Side, maps: Mapping[str, Affine], score: str, options: Mapping[str, int]
) -> Estimation:
    """Fit the estimator on one side's templates, and judge it and its corrections on the other's.

    Args:
        maps: of each perturbation, which undo it. An unperturbed template is left as it is.
        score: the recognizer's own kind.
        options: as of `bootstrap.mean_interval`.
    """
    classes = (NONE, *maps)
    groups = [fitted_on.templates, *(fitted_on.perturbed[name].templates for name in maps)]
    estimator = fit_discriminant(list(zip(classes, groups, strict=True)))
    undo = [Affine.identity(side.templates.shape[1]), *maps.values()]
    confusion = np.zeros((len(classes), len(classes)))
    right: dict[str, np.ndarray] = {}
    people: dict[str, list[str]] = {}
    scores: dict[str, np.ndarray] = {}
    for place, name in enumerate(classes):
        templates, original = (side.templates, side.templates) if name == NONE else side.pairs(name)
        people[name] = side.identities if name == NONE else side.people(name)
        guessed = estimator.classify(templates)
        right[name] = guessed == place
        confusion[place] = np.bincount(guessed, minlength=len(classes)) / len(guessed)
        corrected = templates.astype(np.float64)
        for guess in np.unique(guessed):
            corrected[guessed == guess] = undo[guess].apply(templates[guessed == guess])
        compared = (templates.astype(np.float64), undo[place].apply(templates), corrected)
        scores[name] = np.stack([score_pairs(x, original, score) for x in compared], axis=1).astype(np.float64)

    def every(values: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        return np.concatenate([values[name] for name in names]), [who for name in names for who in people[name]]

    return Estimation(
        classes,
        mean_interval(*every(right, classes), **options),
        1 / len(classes),
        {name: mean_interval(right[name], people[name], **options) for name in classes},
        confusion,
        {name: _correction(scores[name], people[name], options) for name in classes},
        _correction(*every(scores, classes[1:]), options),
    )


def _correction(scores: np.ndarray, people: Sequence[str], options: Mapping[str, int]) -> Correction:
    """scores: (n, 3), without, oracle, estimated."""
    without, oracle, estimated = scores.T
    rows = (without, oracle, estimated, estimated - without, oracle - estimated)
    return Correction(*(mean_interval(row, people, **options) for row in rows))
