"""Probes: what a line, normal distributions and a small network read from vectors, of people they were not trained on.

Every person counts alike in training and in figures, and every class alike; what a probe has to choose (a penalty, when
to stop) it chooses on people held out of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from facedecode.attributes.gaussians import Gaussians
from facedecode.attributes.target import Target
from facedecode.statistics.bootstrap import REPETITIONS, Resampled, resample
from facedecode.statistics.resampling import Replicates

_RIDGE = 1e-2  # of a removed direction's regression, times the mean variance
_PENALTIES = 10.0 ** np.arange(-4, 3)  # of the linear probe, times the number of people
_SHRINKAGES = (0.95, 0.8, 0.5, 0.2, 0.05, 0.01, 0.001)  # of covariances towards the identity, the safest first
_FLOOR = 1e-6  # variance of standardized inputs: a class of one image has none of its own
_ROUNDING = 1e-8  # of the largest variance: what varies less along a direction varies by rounding
_HIDDEN = (128, 64)
_EPOCHS, _PATIENCE, _BATCH, _RATE, _DECAY = 80, 10, 128, 2e-3, 1e-2
_HELD_OUT = 0.15
Predict = Callable[[np.ndarray], np.ndarray]


def fit_linear(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """A linear probe: logistic regression of classes, ridge regression of a number, on standardized inputs.

    inputs: (n, d). seed: not used; both are convex.

    Returns (m, d) → probabilities (m, classes), or a number each (m,).
    """
    standardize = _standardizer(inputs, target.weights)
    x = standardize(inputs)
    inner = target.held_out(_HELD_OUT)
    errors = []
    for penalty in _PENALTIES:
        model = _fit_linear(x[~inner], target.of_people(~inner), penalty)
        errors.append(_loss(model(x[inner]), target.of_people(inner)))
    best = _fit_linear(x, target, _PENALTIES[int(np.argmin(errors))])
    return lambda more: best(standardize(more))


def fit_quadratic(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """Quadratic discriminant analysis: a normal distribution for each class, with its own mean and covariance.

    It reads what no mean gives away, such as one class varying more than the other along some directions. Covariances
    are drawn towards multiples of the identity (Friedman 1989), by how much is chosen on people held out. Directions
    along which inputs vary by rounding only are left out: drawn towards what the others vary by, they would speak for
    the class that varies less, whatever the input.

    Arguments and result as of `fit_linear`, of classes.
    """
    reduce = _varying(inputs, target.weights)
    x = reduce(inputs)
    inner = target.held_out(_HELD_OUT)
    training, judged = target.of_people(~inner), target.of_people(inner)
    tried = Gaussians.fit(x[~inner], training.values, training.weights)
    guesses = (tried.shrunk(share, _FLOOR).posterior(x[inner]).argmax(1) for share in _SHRINKAGES)
    rates = [float(judged.weights @ (guess == judged.values)) for guess in guesses]  # balanced accuracy
    best = Gaussians.fit(x, target.values, target.weights).shrunk(_SHRINKAGES[int(np.argmax(rates))], _FLOOR)
    return lambda more: best.posterior(reduce(more))


def fit_mlp(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """A network of two hidden layers (128 and 64), trained until people held out say that it is enough.

    Arguments and result as of `fit_linear`.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    standardize = _standardizer(inputs, target.weights)
    x = torch.from_numpy(standardize(inputs).astype(np.float32))
    is_number = target.classes is None
    mean, scale = _moments(target) if is_number else (0.0, 1.0)
    y = torch.from_numpy(((target.values - mean) / scale).astype(np.float32 if is_number else np.int64))
    w = torch.from_numpy((target.weights * len(target.values)).astype(np.float32))
    inner = target.held_out(_HELD_OUT)
    train, held_out = torch.from_numpy(np.flatnonzero(~inner)), torch.from_numpy(np.flatnonzero(inner))

    def loss(rows: torch.Tensor) -> torch.Tensor:
        out = net(x[rows])
        each = (out[:, 0] - y[rows]) ** 2 if is_number else F.cross_entropy(out, y[rows], reduction="none")
        return (w[rows] * each).sum() / w[rows].sum()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [x.shape[1], *_HIDDEN]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(0.2)]
        net = nn.Sequential(*layers, nn.Linear(sizes[-1], 1 if is_number else len(target.classes)))
        optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=_DECAY)
        best, kept, since = np.inf, net.state_dict(), 0
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
                judged = float(loss(held_out))
            since += 1
            if judged < best:
                best, since = judged, 0
                kept = {name: value.clone() for name, value in net.state_dict().items()}
            if since > _PATIENCE:
                break
    net.load_state_dict(kept)
    net.eval()

    def predict(more: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = net(torch.from_numpy(standardize(more).astype(np.float32)))
        return out[:, 0].double().numpy() * scale + mean if is_number else out.softmax(1).double().numpy()

    return predict


PROBES: dict[str, Callable[..., Predict]] = {"linear": fit_linear, "quadratic": fit_quadratic, "mlp": fit_mlp}


def probes_of(target: Target) -> dict[str, Callable[..., Predict]]:
    """The probes that can read it: all of classes, of a number those that are not of classes only."""
    return {name: fit for name, fit in PROBES.items() if target.classes is not None or fit is not fit_quadratic}


def out_of_fold(
    inputs: np.ndarray,
    target: Target,
    fit: Callable[..., Predict],
    fold: np.ndarray,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """What probes say of people that they were not trained on: (n, classes) or (n,), fold: int (n,).

    Raises BadInput: too few people of a class, or who differ, to train a probe on each set of all folds but one.
    """
    answers = np.empty(len(inputs) if target.classes is None else (len(inputs), len(target.classes)))
    for number in np.unique(fold):
        training, test = fold != number, fold == number
        answers[test] = fit(inputs[training], target.of_people(training), seed)(inputs[test])
        progress()
    return answers


def _standardizer(inputs: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    values = inputs.astype(np.float64)
    mean = weights @ values
    scale = np.sqrt(weights @ (values - mean) ** 2)
    scale[scale < 1e-12] = 1  # a number that is the same for all says nothing
    return lambda more: (more - mean) / scale


def _varying(inputs: np.ndarray, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Standardized inputs, (n, d), in coordinates along the directions in which these vary: (n, k)."""
    standardize = _standardizer(inputs, weights)
    x = standardize(inputs)
    variances, vectors = np.linalg.eigh((x * weights[:, None]).T @ x)
    kept = vectors[:, variances > _ROUNDING * variances[-1]]
    return lambda more: standardize(more) @ kept


def _moments(target: Target) -> tuple[float, float]:
    mean = float(target.weights @ target.values)
    return mean, float(np.sqrt(target.weights @ (target.values - mean) ** 2)) or 1.0


def _fit_linear(x: np.ndarray, target: Target, penalty: float) -> Predict:
    if target.classes is None:
        slopes, center, mean = _ridge(x, target.values[:, None], target.weights, lambda gram: penalty)
        return lambda more: (mean + (more - center) @ slopes)[:, 0]
    from sklearn.linear_model import LogisticRegression

    # scikit-learn's C multiplies the sum of losses, which the weights make a mean.
    model = LogisticRegression(C=1 / penalty, max_iter=500, tol=1e-3)
    model.fit(x, target.values, sample_weight=target.weights)
    return lambda more: model.predict_proba(more)


def _ridge(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, penalty: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted ridge regression, (n, d) → (n, k): slopes (d, k), and the means of x and y. penalty: of XᵀX (d, d)."""
    center, mean = weights @ x, weights @ y
    weighted = (x - center) * weights[:, None]
    gram = weighted.T @ (x - center)
    gram += penalty(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, weighted.T @ (y - mean)), center, mean


def _loss(answers: np.ndarray, target: Target) -> float:
    """Weighted squared error, or cross entropy."""
    if target.classes is None:
        return float(target.weights @ (answers - target.values) ** 2)
    return float(-(target.weights @ np.log(np.clip(answers[np.arange(len(answers)), target.values], 1e-12, 1))))


def removal_curve(
    templates: np.ndarray, target: Target, fold: np.ndarray, removed: Sequence[int]
) -> dict[int, np.ndarray]:
    """What a linear probe says of people of each fold once so many directions, learned on the others, are gone.

    templates: (n, dim). fold: int (n,). removed: numbers of directions, rising.

    Returns number → scores (n, classes) or predictions (n,), as `out_of_fold`.
    """
    shape = (len(templates),) if target.classes is None else (len(templates), len(target.classes))
    answers = {number: np.empty(shape) for number in removed}
    for number in np.unique(fold):
        training, test = fold != number, fold == number
        part = target.of_people(training)
        x, y = (templates[rows].astype(np.float64) for rows in (training, test))
        for gone in range(max(removed) + 1):
            slopes, center, mean = _ridge(x, _scores_of(part), part.weights, _mean_variance)
            if gone in answers:
                answers[gone][test] = _as_answers((y - center) @ slopes + mean, part)
            direction = _strongest(slopes)
            x, y = (values - np.outer(values @ direction, direction) for values in (x, y))
    return answers


def _mean_variance(gram: np.ndarray) -> float:
    return _RIDGE * float(np.trace(gram)) / len(gram)


def _strongest(slopes: np.ndarray) -> np.ndarray:
    """The direction that reads it best; of several classes the one along which their scores vary most."""
    vector = slopes[:, 0] if slopes.shape[1] == 1 else np.linalg.svd(slopes, full_matrices=False)[0][:, 0]
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.eye(len(vector))[0]


def _scores_of(target: Target) -> np.ndarray:
    """What a regression is to give: the number; of two classes -1 or 1; of more a column each, (n, k)."""
    if target.classes is None:
        return target.values[:, None]
    return 2.0 * target.values[:, None] - 1 if len(target.classes) == 2 else np.eye(len(target.classes))[target.values]


def _as_answers(scores: np.ndarray, target: Target) -> np.ndarray:
    """Undoes `_scores_of` of a regression's output."""
    if target.classes is None:
        return scores[:, 0]
    return np.hstack([-scores, scores]) if len(target.classes) == 2 else scores


def read(answers: np.ndarray, target: Target, repetitions: int = REPETITIONS, seed: int = 0) -> Resampled:
    """Balanced accuracy of classes, or R² of a number, every person counting alike, with replicates by person.

    Balanced accuracy: the mean over classes of the share told right. R²: 1 less the squared error over that of the
    mean, which is 0 for one who knows nothing of the image, and less for one who is wrong.

    answers: of people whom the probe was not trained on, see `out_of_fold`.
    """
    persons = int(target.persons.max()) + 1
    share = 1 / np.bincount(target.persons)[target.persons]
    if target.classes is not None:
        right = answers.argmax(1) == target.values
        classes = len(target.classes)
        cells, count = target.persons * classes + target.values, persons * classes
        hits, images = (np.bincount(cells, x, count).reshape(persons, -1) for x in (share * right, share))

        def figure(people: Replicates) -> np.ndarray:
            return (people.sums(hits) / people.sums(images)).mean(-1)  # a draw without a class has no figure
    else:
        centered = target.values - target.values.mean()  # or squares of large numbers would drown what differs
        columns = (np.ones(len(answers)), centered, centered**2, (target.values - answers) ** 2)
        sums = np.stack([np.bincount(target.persons, share * x, persons) for x in columns], axis=1)

        def figure(people: Replicates) -> np.ndarray:
            n, y, squares, errors = people.sums(sums).T
            spread = squares - y**2 / n
            return np.where(spread > _ROUNDING * squares, 1 - errors / spread, np.nan)  # nor one of people all alike

    return resample(figure, np.ones(persons), persons, target.classes is not None, repetitions, seed)[0]
