"""Variances that depend on a template, log σ²_p(e) = a_p + b_p·z, by maximum likelihood.

The square y of a normal error about 0 has the negative log-likelihood (log σ² + y/σ²)/2; a gamma-distributed y, such as
the mean of squares over a cell, gives the same equations (McCullagh and Nelder 1989, section 8.3: log link). Each p is
a regression of its own; all share the templates, and so one matrix for their steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.progress import Progress, silent
from facedecode.statistics.scores import encode_people
from facedecode.statistics.verification import person_weights

PENALTIES = tuple(float(x) for x in 10.0 ** np.arange(-2, 3.1, 0.5))
"""Strengths of the ridge that `choose_penalty` tries, in units of the standardized templates' variance."""
FOLDS = 5
_STEPS = 200
_TOLERANCE = 1e-8  # of the expected gain in mean log-likelihood, for each p
_SHORTEST = 1e-6


def fit_log_variance(
    z: np.ndarray, squares: np.ndarray, penalty: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The a_p and b_p that minimize mean_i(log σ²_p + y_ip/σ²_p) + penalty·‖b_p‖²/2.

    Fisher scoring, with one matrix and one step length for all p, halved until the sum descends enough (Armijo).

    z: (n, d) templates, standardized. squares: (n, p) squared errors, positive. penalty: above 0.
    weights: (n,) of the rows in the mean, positive; equal if None.

    Returns (p,), (p, d), float64. Raises UsageError: a penalty that is not above 0. BadInput: shapes that do not match,
    numbers that are not finite, squares that are not positive.
    """
    z, squares = _checked(z, squares, penalty)
    share = np.full(len(z), 1 / len(z)) if weights is None else np.asarray(weights, np.float64) / np.sum(weights)
    center = share @ z
    x = z - center  # so that a_p and b_p have no curvature in common
    inverse = np.linalg.inv((x.T * share) @ x + penalty * np.eye(x.shape[1]))

    def loss(log: np.ndarray, b: np.ndarray) -> float:
        with np.errstate(over="ignore"):  # a step so long is refused
            return float((share @ (log + squares * np.exp(-log))).sum() + penalty * (b**2).sum() / 2)

    a, b = np.log(share @ squares), np.zeros((squares.shape[1], x.shape[1]))
    log = np.broadcast_to(a, squares.shape)
    for _ in range(_STEPS):
        surplus = share[:, None] * (squares * np.exp(-log) - 1)
        slope_a, slope_b = -surplus.sum(0), -surplus.T @ x + penalty * b
        step_a, step_b = -slope_a, -slope_b @ inverse
        gain = -float(slope_a @ step_a + (slope_b * step_b).sum())
        if gain <= _TOLERANCE * len(a):
            break
        before, move, length = loss(log, b), step_a + x @ step_b.T, 1.0
        while not loss(log + length * move, b + length * step_b) <= before - 1e-4 * length * gain:
            length /= 2
            if length < _SHORTEST:  # no way down but rounding
                return a - b @ center, b
        a, b, log = a + length * step_a, b + length * step_b, log + length * move
    return a - b @ center, b


def choose_penalty(
    z: np.ndarray,
    squares: np.ndarray,
    identities: Sequence[str],
    penalties: Sequence[float] = PENALTIES,
    progress: Progress = silent,
) -> tuple[float, dict]:
    """The penalty with the best likelihood in cross-validation by person, one for all p; ties go to the stronger.

    All people weigh alike, however many rows they have.

    identities: n, the person of each row.
    progress: called with (done, total) fits.

    Returns the penalty, and JSON: for each penalty, and for variances that ignore the template (`constant`), `loss`
    (mean of (log σ² + y/σ²)/2 on people left out) and `ratio` (mean of y/σ²: 1 where the variances are right).

    Raises BadInput: fewer people than folds; as `fit_log_variance`.
    """
    z, squares = _checked(z, squares, min(penalties))
    people, codes = encode_people(identities)
    if len(people) < FOLDS:
        raise BadInput(f"{len(people)} people cannot be left out in {FOLDS} folds: give at least {FOLDS} people")
    weights = person_weights(codes)
    sums = np.zeros((len(penalties) + 1, 2))
    progress(0, FOLDS * len(penalties))
    for fold in range(FOLDS):
        out = codes % FOLDS == fold
        for k, penalty in enumerate(penalties):
            a, b = fit_log_variance(z[~out], squares[~out], penalty, weights[~out])
            sums[k] += _loss_and_ratio(a + z[out] @ b.T, squares[out], weights[out])
            progress(fold * len(penalties) + k + 1, FOLDS * len(penalties))
        constant = np.log(np.average(squares[~out], axis=0, weights=weights[~out]))
        sums[-1] += _loss_and_ratio(constant, squares[out], weights[out])
    means = (sums / (weights.sum() * squares.shape[1])).tolist()
    named = [f"{penalty:.3g}" for penalty in penalties] + ["constant"]
    report = {name: {"loss": loss, "ratio": ratio} for name, (loss, ratio) in zip(named, means, strict=True)}
    best = min(range(len(penalties)), key=lambda k: (means[k][0], -penalties[k]))
    return float(penalties[best]), report


def _loss_and_ratio(log: np.ndarray, squares: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    ratio = squares * np.exp(-log)
    return float((weights @ (log + ratio)).sum() / 2), float((weights @ ratio).sum())


def _checked(z: np.ndarray, squares: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    z, squares = np.asarray(z, np.float64), np.asarray(squares, np.float64)
    if not penalty > 0:
        raise UsageError(f"a penalty of {penalty:g} leaves variances undetermined: give more than 0")
    if z.ndim != 2 or squares.ndim != 2 or len(z) != len(squares) or not len(z):
        raise BadInput(f"templates {z.shape} and squared errors {squares.shape} do not match: give a row of each")
    if not (np.isfinite(z).all() and np.isfinite(squares).all() and (squares > 0).all()):
        raise BadInput("variances need finite templates and squared errors above 0")
    return z, squares
