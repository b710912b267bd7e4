"""What can be read from vectors: a linear probe and a small network, trained on some people and judged on others.

Every person counts alike in training and in figures, and every class alike; what a probe has to choose (a penalty, when
to stop) it chooses on people held out of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from facedecode.bootstrap import REPETITIONS, Estimate, person_draws
from facedecode.errors import BadInput
from facedecode.intervals import LEVEL, at_an_end, corrected

_PENALTIES = 10.0 ** np.arange(-4, 3)  # of the linear probe, times the number of people
_SHRINKAGES = (0.5, 0.2, 0.05, 0.01, 0.001)  # of covariances towards the identity, the safest first
_HIDDEN = (128, 64)
_EPOCHS, _PATIENCE, _BATCH, _RATE, _DECAY = 80, 10, 128, 2e-3, 1e-2
_HELD_OUT = 0.15
_AT_ONCE = 64  # replicates
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be read.

    Attributes:
        values: int64 (n,), classes from 0; or float64 (n,) of a number.
        persons: int64 (n,), whose image each is, from 0.
        classes: names; None where it is a number.

    Raises:
        BadInput: one class, a constant, or a number that is not finite.
    """

    values: np.ndarray
    persons: np.ndarray
    classes: tuple[str, ...] | None = None
    name: str = field(default="it")

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

        Raises:
            BadInput: they lack a class, or are all alike.
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

    @cached_property
    def weights(self) -> np.ndarray:
        """Of each image, summing to 1: persons alike, and then classes alike. float64 (n,)."""
        weights = 1 / np.bincount(self.persons)[self.persons]
        if self.classes is not None:
            weights = weights / np.bincount(self.values, weights, len(self.classes))[self.values]
        return weights / weights.sum()


def fit_linear(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """A linear probe: logistic regression of classes, ridge regression of a number, on standardized inputs.

    Args:
        inputs: (n, d). seed: not used; both are convex.

    Returns:
        (m, d) → probabilities (m, classes), or a number each (m,).
    """
    standardize = _standardizer(inputs, target.weights)
    x = standardize(inputs)
    inner = _inner(target)
    errors = []
    for penalty in _PENALTIES:
        model = _fit_linear(x[~inner], target.of_people(~inner), penalty)
        errors.append(_loss(model(x[inner]), target.of_people(inner)))
    best = _fit_linear(x, target, _PENALTIES[int(np.argmin(errors))])
    return lambda more: best(standardize(more))


def fit_quadratic(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """Quadratic discriminant analysis: a normal distribution for each class, with its own mean and covariance.

    It reads what no mean gives away, such as one class varying more than the other along some directions. Covariances
    are drawn towards multiples of the identity (Friedman 1989), by how much is chosen on people held out.

    Arguments and result as of `fit_linear`, of classes.
    """
    standardize = _standardizer(inputs, target.weights)
    x = standardize(inputs)
    inner = _inner(target)
    moments = class_moments(x[~inner], target.of_people(~inner))
    judged = target.of_people(inner)
    rates = [_balanced(_gaussians(moments, shrinkage)(x[inner]), judged) for shrinkage in _SHRINKAGES]
    best = _gaussians(class_moments(x, target), _SHRINKAGES[int(np.argmax(rates))])
    return lambda more: best(standardize(more))


def fit_mlp(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """A network of two hidden layers (128 and 64), trained until people held out say that it is enough.

    Arguments and result as of `fit_linear`.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    standardize = _standardizer(inputs, target.weights)
    x = torch.from_numpy(standardize(inputs).astype(np.float32))
    outputs = 1 if target.classes is None else len(target.classes)
    mean, scale = _moments(target)
    values = (target.values - mean) / scale if target.classes is None else target.values
    y = torch.from_numpy(values.astype(np.float32 if target.classes is None else np.int64))
    w = torch.from_numpy((target.weights * len(values)).astype(np.float32))
    inner = _inner(target)
    train, held_out = torch.from_numpy(np.flatnonzero(~inner)), torch.from_numpy(np.flatnonzero(inner))

    def loss(rows: torch.Tensor) -> torch.Tensor:
        out = net(x[rows])
        each = (
            F.mse_loss(out[:, 0], y[rows], reduction="none")
            if target.classes is None
            else F.cross_entropy(out, y[rows], reduction="none")
        )
        return (w[rows] * each).sum() / w[rows].sum()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [x.shape[1], *_HIDDEN]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.2)]
        net = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=_DECAY)
        best, kept, since = np.inf, None, 0
        for _ in range(_EPOCHS):
            net.train()
            for rows in train[torch.randperm(len(train))].split(_BATCH):
                if len(rows) < 2:
                    continue
                optimizer.zero_grad()
                loss(rows).backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                found = float(loss(held_out))
            since += 1
            if found < best:
                best, since = found, 0
                kept = {name: value.clone() for name, value in net.state_dict().items()}
            if since > _PATIENCE:
                break
    net.load_state_dict(kept)
    net.eval()

    def predict(more: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = net(torch.from_numpy(standardize(more).astype(np.float32)))
        return out[:, 0].double().numpy() * scale + mean if target.classes is None else out.softmax(1).double().numpy()

    return predict


PROBES: dict[str, Callable[..., Predict]] = {"linear": fit_linear, "quadratic": fit_quadratic, "mlp": fit_mlp}


def probes_of(target: Target) -> dict[str, Callable[..., Predict]]:
    """The probes that can read it: all of classes, of a number those that are not of classes only."""
    return {name: fit for name, fit in PROBES.items() if target.classes is not None or fit is not fit_quadratic}


def person_folds(persons: np.ndarray, folds: int, seed: int = 0, classes: np.ndarray | None = None) -> np.ndarray:
    """A fold for each image, all of a person's in one; folds of about as many persons: int64 (n,).

    Args:
        classes: int (n,) of the images, to have about as many persons of each class in every fold.

    Raises:
        BadInput: fewer than two persons a fold.
    """
    strata = _strata(persons, classes)
    if len(strata) < 2 * folds:
        raise BadInput(f"{len(strata)} persons are too few for {folds} folds; take more people, or fewer --folds")
    # One class after the other is dealt out, so that a rare one is in as many folds as it has persons.
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(len(strata), np.int64)
    fold[order] = np.arange(len(strata)) % folds
    return fold[persons]


def out_of_fold(
    inputs: np.ndarray,
    target: Target,
    fit: Callable[..., Predict],
    fold: np.ndarray,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> np.ndarray:
    """What probes say of people that they were not trained on: (n, classes) or (n,), fold: int (n,).

    Raises:
        BadInput: too few people of a class, or who differ, to train a probe on each set of all folds but one.
    """
    found = None
    for number in np.unique(fold):
        there, here = fold != number, fold == number
        said = fit(inputs[there], target.of_people(there), seed)(inputs[here])
        found = np.empty((len(inputs), *said.shape[1:])) if found is None else found
        found[here] = said
        if progress:
            progress()
    return found


@dataclass(frozen=True)
class Reading:
    """How well something is read, by person: the figure in the data, in draws of people, and without each person."""

    value: float
    drawn: np.ndarray
    left_out: np.ndarray
    persons: int
    is_rate: bool

    def estimate(self, level: float = LEVEL) -> Estimate:
        """The figure and its interval; n counts persons."""
        low_high = corrected(self.value, self.drawn, self.left_out, level)
        if self.is_rate and self.value in (0, 1):
            low_high = at_an_end(self.value == 1, low_high, np.ones(self.persons), level)
        return Estimate(self.value, *low_high, self.persons)

    def less(self, other: Reading, level: float = LEVEL) -> Estimate:
        """This less another of the same people and draws, paired."""
        value = self.value - other.value
        ends = corrected(value, self.drawn - other.drawn, self.left_out - other.left_out, level)
        return Estimate(value, *ends, self.persons)


def read(said: np.ndarray, target: Target, repetitions: int = REPETITIONS, seed: int = 0) -> Reading:
    """Balanced accuracy of classes, or R² of a number, every person counting alike, with replicates by person.

    Balanced accuracy: the mean over classes of the share told right. R²: 1 less the squared error over that of the
    mean, which is 0 for one who knows nothing of the image, and less for one who is wrong.

    Args:
        said: of people whom the probe was not trained on, see `out_of_fold`.
    """
    persons = int(target.persons.max()) + 1
    share = 1 / np.bincount(target.persons)[target.persons]
    if target.classes is not None:
        right = said.argmax(1) == target.values
        cells = (persons, len(target.classes))
        hits, all_of = np.zeros(cells), np.zeros(cells)
        np.add.at(hits, (target.persons, target.values), share * right)
        np.add.at(all_of, (target.persons, target.values), share)

        def figure(weights: np.ndarray) -> np.ndarray:
            with np.errstate(invalid="ignore"):  # a draw without a class has no figure
                return ((weights @ hits) / (weights @ all_of)).mean(-1)
    else:
        centered = target.values - target.values.mean()  # or squares of large numbers would drown what differs
        sums = [
            np.bincount(target.persons, share * x, persons)
            for x in (np.ones(len(said)), centered, centered**2, (target.values - said) ** 2)
        ]

        def figure(weights: np.ndarray) -> np.ndarray:
            n, y, squares, errors = (weights @ own for own in sums)
            spread = squares - y**2 / n
            with np.errstate(invalid="ignore", divide="ignore"):  # nor a draw of people who are all alike
                return np.where(spread > 0, 1 - errors / spread, np.nan)

    return reading_of(figure, persons, target.classes is not None, repetitions, seed)


def reading_of(
    figure: Callable[[np.ndarray], np.ndarray], persons: int, is_rate: bool, repetitions: int, seed: int
) -> Reading:
    """A figure of persons' weights, float64 (r, persons) → (r,), with its replicates by person."""
    draws = person_draws(persons, repetitions, seed)
    drawn = [figure(draws[start : start + _AT_ONCE].astype(np.float64)) for start in range(0, repetitions, _AT_ONCE)]
    left_out = []
    for start in range(0, persons, _AT_ONCE):
        which = np.arange(start, min(start + _AT_ONCE, persons))
        weights = np.ones((len(which), persons))
        weights[np.arange(len(which)), which] = 0
        left_out.append(figure(weights))
    value = float(figure(np.ones((1, persons)))[0])
    return Reading(value, np.concatenate(drawn), np.concatenate(left_out), persons, is_rate)


def _strata(persons: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The class that most images of each person have, the first of equal ones; 0 without: int64 (persons,)."""
    count = int(persons.max()) + 1
    if classes is None:
        return np.zeros(count, np.int64)
    images = np.zeros((count, int(classes.max()) + 1), np.int64)
    np.add.at(images, (persons, classes), 1)
    return images.argmax(1)


def _inner(target: Target) -> np.ndarray:
    """Images of people to hold out of a probe's training, as many of each class as a share allows: bool (n,)."""
    classes = None if target.classes is None else target.values
    strata, rng = _strata(target.persons, classes), np.random.default_rng(0)
    held_out = np.zeros(len(strata), bool)
    for value in np.unique(strata):
        people = rng.permutation(np.flatnonzero(strata == value))
        held_out[people[: max(1, round(_HELD_OUT * len(people)))]] = True
    return held_out[target.persons]


def _standardizer(inputs: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    values = inputs.astype(np.float64)
    mean = weights @ values
    scale = np.sqrt(weights @ (values - mean) ** 2)
    scale[scale < 1e-12] = 1  # a number that is the same for all says nothing
    return lambda more: (more - mean) / scale


def _moments(target: Target) -> tuple[float, float]:
    if target.classes is not None:
        return 0.0, 1.0
    mean = float(target.weights @ target.values)
    return mean, float(np.sqrt(target.weights @ (target.values - mean) ** 2)) or 1.0


def _fit_linear(x: np.ndarray, target: Target, penalty: float) -> Predict:
    if target.classes is None:
        mean = target.weights @ target.values
        center = target.weights @ x
        weighted = (x - center) * target.weights[:, None]
        gram = weighted.T @ (x - center) + penalty * np.eye(x.shape[1])
        slope = np.linalg.solve(gram, weighted.T @ (target.values - mean))
        return lambda more: mean + (more - center) @ slope
    from sklearn.linear_model import LogisticRegression

    # scikit-learn's C multiplies the sum of losses, which the weights make a mean.
    model = LogisticRegression(C=1 / penalty, max_iter=500, tol=1e-3)
    model.fit(x, target.values, sample_weight=target.weights)
    return lambda more: model.predict_proba(more)


def class_moments(x: np.ndarray, target: Target) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and covariance of each class, persons counting alike."""
    found = []
    for value in range(len(target.classes)):
        own = target.values == value
        weights = target.weights[own] / target.weights[own].sum()
        mean = weights @ x[own]
        centered = x[own] - mean
        found.append((mean, (centered * weights[:, None]).T @ centered))
    return found


def _gaussians(moments: list[tuple[np.ndarray, np.ndarray]], shrinkage: float) -> Predict:
    factors = []
    for mean, covariance in moments:
        dim = len(covariance)
        # One image has no spread at all: a little of the standardized inputs' own.
        towards = shrinkage * np.trace(covariance) / dim + 1e-6
        drawn = (1 - shrinkage) * covariance + towards * np.eye(dim)
        factors.append((mean, np.linalg.cholesky(drawn)))

    def predict(more: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular
        from scipy.special import softmax

        densities = [
            -0.5 * (solve_triangular(factor, (more - mean).T, lower=True) ** 2).sum(0) - np.log(np.diag(factor)).sum()
            for mean, factor in factors
        ]
        return softmax(np.stack(densities, axis=1), axis=1)

    return predict


def _balanced(said: np.ndarray, target: Target) -> float:
    """Balanced accuracy, persons counting alike."""
    return float(target.weights @ (said.argmax(1) == target.values))


def _loss(said: np.ndarray, target: Target) -> float:
    """Weighted squared error, or cross entropy."""
    if target.classes is None:
        return float(target.weights @ (said - target.values) ** 2)
    return float(-(target.weights @ np.log(np.clip(said[np.arange(len(said)), target.values], 1e-12, 1))))
