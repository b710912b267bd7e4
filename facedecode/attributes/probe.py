"""Probes: what a line, normal distributions and a small network read from vectors, of people they were not trained on.

Every person counts alike in training and in figures, and every class alike; what a probe has to choose (a penalty, when
to stop) it chooses on people held out of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np

from facedecode.attributes.gaussians import Gaussians
from facedecode.attributes.reading import Answers
from facedecode.attributes.target import Target
from facedecode.errors import BadInput

_RIDGE = 1e-2  # of a removed direction's regression, times the mean variance
_PENALTIES = 10.0 ** np.arange(-4, 3)  # of the linear probe, times the number of people
_SHRINKAGES = (0.95, 0.8, 0.5, 0.2, 0.05, 0.01, 0.001)  # of covariances towards the identity, the safest first
_FLOOR = 1e-6  # variance of standardized inputs: a class of one image has none of its own
_ROUNDING = 1e-8  # of the largest variance: what varies less along a direction varies by rounding
_HIDDEN = (128, 64)
_EPOCHS, _PATIENCE, _BATCH, _RATE, _DECAY = 80, 10, 128, 2e-3, 1e-2
_HELD_OUT = 0.15
Predict = Callable[[np.ndarray], np.ndarray]
_Ask = Callable[[np.ndarray], list[np.ndarray]]  # images, bool (n,) → what each of several probes says of them


def fit_linear(inputs: np.ndarray, target: Target, seed: int = 0) -> Predict:
    """A linear probe: logistic regression of classes, ridge regression of a number, on standardized inputs.

    inputs: (n, d). seed: not used; both are convex.

    Returns (m, d) → probabilities (m, classes), or a number each (m,).
    """
    standardize = _standardizer(inputs, target.weights)
    x = standardize(inputs)
    inner = target.held_out(_HELD_OUT)
    tried, judged = _linear_probes(x[~inner], target.of_people(~inner)), target.of_people(inner)
    errors = [_loss(tried(penalty)(x[inner]), judged) for penalty in _PENALTIES]
    best = _linear_probes(x, target)(_PENALTIES[int(np.argmin(errors))])
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
    halves: bool = True,
) -> Answers:
    """What probes say of people that they were not trained on. fold: int (n,).

    halves: whether to train on halves, too. progress: called after each of the `trainings`.

    Raises BadInput: too few people of a class, or who differ, to train a probe on each set of all folds but one.
    """

    def train(training: np.ndarray) -> _Ask:
        predict = fit(inputs[training], target.of_people(training), seed)
        return lambda images: [predict(inputs[images])]

    return _asked(train, target, fold, 1, progress, halves)[0]


def trainings(folds: int) -> int:
    """How many probes `out_of_fold` trains."""
    return folds if folds < 3 else 2 * folds


def _asked(
    train: Callable[[np.ndarray], _Ask],
    target: Target,
    fold: np.ndarray,
    count: int,
    progress: Callable[[], None] = lambda: None,
    in_halves: bool = True,
) -> list[Answers]:
    """What `count` probes say of each fold that were trained on the others, and on either half of these.

    Half the folds after one are a half for the fold before them, and for the one before as many again, so that there
    are as many halves as folds. train: images, bool (n,) → what probes trained on them say of others.
    """
    fold = np.unique(fold, return_inverse=True)[1]
    folds, half = int(fold.max()) + 1, int(fold.max()) // 2
    shape = (len(fold),) if target.classes is None else (len(fold), len(target.classes))
    said, halves = np.full((count, *shape), np.nan), np.full((count, 2, *shape), np.nan)
    for number in range(folds):
        said[:, fold == number] = train(fold != number)(fold == number)
        progress()
    for number in range(folds if half and in_halves else 0):
        # Of three people of a class a half may have none: nothing is known of it.
        with suppress(BadInput):
            ask = train((fold - number) % folds < half)
            for place, judged in enumerate((number - 1, number - 1 - half)):
                halves[:, place, fold == judged % folds] = ask(fold == judged % folds)
        progress()
    return [Answers(*pair) for pair in zip(said, halves, strict=True)]


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


def _linear_probes(x: np.ndarray, target: Target) -> Callable[[float], Predict]:
    """The probe of each penalty."""
    if target.classes is None:
        center, mean, gram, products = _sums(x, target.values[:, None], target.weights)

        def ridge(penalty: float) -> Predict:
            slopes = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
            return lambda more: (mean + (more - center) @ slopes)[:, 0]

        return ridge
    from sklearn.linear_model import LogisticRegression

    def logistic(penalty: float) -> Predict:
        # scikit-learn's C multiplies the sum of losses, which the weights make a mean.
        model = LogisticRegression(C=1 / penalty, max_iter=500, tol=1e-3)
        return model.fit(x, target.values, sample_weight=target.weights).predict_proba

    return logistic


def _sums(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """What a regression (n, d) → (n, k) takes: the weighted means of x and y, XᵀX (d, d) and XᵀY (d, k)."""
    center, mean = weights @ x, weights @ y
    weighted = (x - center) * weights[:, None]
    return center, mean, weighted.T @ (x - center), weighted.T @ (y - mean)


def _loss(answers: np.ndarray, target: Target) -> float:
    """Weighted squared error, or cross entropy."""
    if target.classes is None:
        return float(target.weights @ (answers - target.values) ** 2)
    return float(-(target.weights @ np.log(np.clip(answers[np.arange(len(answers)), target.values], 1e-12, 1))))


def removal_curve(
    templates: np.ndarray, target: Target, fold: np.ndarray, removed: Sequence[int]
) -> dict[int, Answers]:
    """What a linear probe says of people of each fold once so many directions, learned on the others, are gone.

    templates: (n, dim). fold: int (n,). removed: numbers of directions, rising.

    Returns number → answers, as `out_of_fold`.
    """
    values = templates.astype(np.float64)

    def train(training: np.ndarray) -> _Ask:
        part, x, steps = target.of_people(training), values[training], []
        for _ in range(max(removed) + 1):
            center, mean, gram, products = _sums(x, _scores_of(part), part.weights)
            penalty = _RIDGE * float(np.trace(gram)) / len(gram)
            slopes = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
            steps.append((slopes, center, mean, _strongest(slopes)))
            x = _without(x, steps[-1][-1])

        def ask(images: np.ndarray) -> list[np.ndarray]:
            x, said = values[images], []
            for gone, (slopes, center, mean, direction) in enumerate(steps):
                if gone in removed:
                    said.append(_as_answers((x - center) @ slopes + mean, part))
                x = _without(x, direction)
            return said

        return ask

    return dict(zip(removed, _asked(train, target, fold, len(removed)), strict=True))


def _without(x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return x - np.outer(x @ direction, direction)


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
