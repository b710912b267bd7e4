"""Probes: what a line, normal distributions and a small network read from vectors, of people they were not trained on.

Every person counts alike in training and in figures, and every class alike; what a probe has to choose (a penalty, when
to stop) it chooses on people held out of its training.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from facedecode.attributes.gaussians import Gaussians
from facedecode.attributes.target import Target

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

    Args:
        inputs: (n, d). seed: not used; both are convex.

    Returns:
        (m, d) → probabilities (m, classes), or a number each (m,).
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
    tried, judged = _gaussians(x[~inner], target.of_people(~inner)), target.of_people(inner)
    rates = [_balanced(tried.shrunk(share, _FLOOR).posterior(x[inner]), judged) for share in _SHRINKAGES]
    best = _gaussians(x, target).shrunk(_SHRINKAGES[int(np.argmax(rates))], _FLOOR)
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
    outputs = 1 if target.classes is None else len(target.classes)
    mean, scale = _moments(target)
    values = (target.values - mean) / scale if target.classes is None else target.values
    y = torch.from_numpy(values.astype(np.float32 if target.classes is None else np.int64))
    w = torch.from_numpy((target.weights * len(values)).astype(np.float32))
    inner = target.held_out(_HELD_OUT)
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


def _gaussians(x: np.ndarray, target: Target) -> Gaussians:
    return Gaussians.fit(x, target.values, target.weights)


def _balanced(said: np.ndarray, target: Target) -> float:
    """Balanced accuracy, persons counting alike."""
    return float(target.weights @ (said.argmax(1) == target.values))


def _loss(said: np.ndarray, target: Target) -> float:
    """Weighted squared error, or cross entropy."""
    if target.classes is None:
        return float(target.weights @ (said - target.values) ** 2)
    return float(-(target.weights @ np.log(np.clip(said[np.arange(len(said)), target.values], 1e-12, 1))))
