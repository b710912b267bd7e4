"""Variances as a function of templates: known ones are found, and the optimum is that of another optimizer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from facedecode.errors import BadInput, FacedecodeError, UsageError
from facedecode.inversion.log_variance import FOLDS, PENALTIES, choose_penalty, fit_log_variance

A = np.array([-3.0, -1.0, 0.5])
B = np.array([[0.5, -0.3, 0.0, 0.2], [0.0, 0.0, 0.0, 0.0], [-0.4, 0.1, 0.6, 0.0]])


def data(n: int, seed: int = 0, b: np.ndarray = B, freedom: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Templates (n, 4), not centered, and squares (n, 3) of normal errors with log σ² = A + b·z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.7, 1, (n, 4))
    return z, np.exp(A + z @ b.T) * rng.chisquare(freedom, (n, 3)) / freedom


def names(n: int, people: int) -> list[str]:
    return [f"P{i % people:03d}" for i in range(n)]


def loss(a: np.ndarray, b: np.ndarray, z, squares, penalty: float, weights=None) -> float:
    log = a + z @ b.T
    return float(
        (np.average(log + squares * np.exp(-log), axis=0, weights=weights) + penalty * (b**2).sum(1) / 2).sum()
    )


@pytest.mark.parametrize("freedom", [1, 10])
def test_finds_a_known_linear_log_variance(freedom: int) -> None:
    a, b = fit_log_variance(*data(40_000, freedom=freedom), 1e-6)
    # Of a square with k degrees of freedom log σ² is known to sqrt(2 / (k·n)).
    spread = np.sqrt(2 / freedom / 40_000)
    np.testing.assert_allclose(b, B, atol=4 * spread)
    np.testing.assert_allclose(a, A, atol=8 * spread)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_another_optimizer(penalty: float, weighted: bool) -> None:
    z, squares = data(80)
    weights = np.random.default_rng(1).uniform(0.2, 3, 80) if weighted else None
    a, b = fit_log_variance(z, squares, penalty, weights)
    start = np.concatenate([np.log(squares.mean(0)), np.zeros(12)])
    other = minimize(
        lambda x: loss(x[:3], x[3:].reshape(3, 4), z, squares, penalty, weights), start, tol=1e-12, method="BFGS"
    )
    assert loss(a, b, z, squares, penalty, weights) <= other.fun + 1e-6
    np.testing.assert_allclose(np.concatenate([a, b.ravel()]), other.x, atol=2e-3)


def test_squares_that_differ_by_orders_of_magnitude() -> None:
    z, squares = data(60, b=4 * B)
    a, b = fit_log_variance(z, squares, 1e-4)
    x = np.concatenate([a, b.ravel()])
    at = loss(a, b, z, squares, 1e-4)
    for k in range(len(x)):
        for step in (-1e-3, 1e-3):
            moved = x.copy()
            moved[k] += step
            assert loss(moved[:3], moved[3:].reshape(3, 4), z, squares, 1e-4) > at - 1e-7


def test_weights_are_repeated_rows_and_each_column_is_its_own() -> None:
    z, squares = data(50)
    weights = np.random.default_rng(2).integers(1, 4, 50)
    a, b = fit_log_variance(z, squares, 0.3, weights)
    again = fit_log_variance(z.repeat(weights, axis=0), squares.repeat(weights, axis=0), 0.3)
    alone = [fit_log_variance(z, squares[:, [p]], 0.3, weights) for p in range(3)]
    np.testing.assert_allclose(a, again[0], atol=1e-3)
    np.testing.assert_allclose(b, again[1], atol=1e-3)
    np.testing.assert_allclose(b, np.concatenate([one[1] for one in alone]), atol=1e-3)


def test_the_mean_is_not_penalized() -> None:
    z, squares = data(100)
    a, b = fit_log_variance(z + 5, 1e-4 * squares, 1e9)
    np.testing.assert_allclose(b, 0, atol=1e-6)
    np.testing.assert_allclose(a, np.log(1e-4 * squares.mean(0)), atol=1e-4)


# ---------------------------------------------------------------- the penalty


def test_a_penalty_fits_what_there_is_to_find() -> None:
    n, dim = 600, 30
    rng = np.random.default_rng(0)
    z, seen = rng.normal(size=(n, dim)), []
    people = names(n, 100)
    for strength in (0.0, 0.5):
        sigma2 = np.exp(strength * (z[:, :1] - 0.5 * z[:, 1:2]))
        squares = np.broadcast_to(sigma2, (n, 20)) * rng.chisquare(1, (n, 20))
        penalty, report = choose_penalty(z, squares, people, progress=lambda *at: seen.append(at))
        assert list(report) == [f"{p:.3g}" for p in PENALTIES] + ["constant"]
        best = min(report, key=lambda key: report[key]["loss"])
        if strength:
            assert penalty < 10 and best == f"{penalty:.3g}"
            assert report[best]["loss"] < report["constant"]["loss"] - 0.05
            assert report[best]["ratio"] == pytest.approx(1, abs=0.15)
        else:
            assert penalty > 10 and abs(report[best]["loss"] - report["constant"]["loss"]) < 2e-3
    fits = FOLDS * len(PENALTIES)
    assert seen == [(k, fits) for k in range(fits + 1)] * 2


def test_people_weigh_alike_in_the_choice() -> None:
    z, squares = data(60)
    people = names(60, 12)
    first = choose_penalty(z, squares, people)
    often = np.array([5 if name == "P003" else 1 for name in people])
    again = choose_penalty(z.repeat(often, axis=0), squares.repeat(often, axis=0), np.repeat(people, often).tolist())
    assert first[0] == again[0]
    for name, figures in first[1].items():
        assert again[1][name] == pytest.approx(figures, abs=1e-5)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"penalty": 0.0}, UsageError, "a penalty of 0 leaves"),
        ({"penalty": float("nan")}, UsageError, "a penalty of nan"),
        ({"z": np.zeros((3, 2))}, BadInput, r"templates \(3, 2\) and squared errors \(9, 3\) do not match"),
        ({"z": np.zeros(9)}, BadInput, "do not match"),
        ({"z": np.zeros((0, 2)), "squares": np.zeros((0, 3))}, BadInput, "do not match"),
        ({"squares": np.zeros((9, 3))}, BadInput, "squared errors above 0"),
        ({"z": np.full((9, 2), np.nan)}, BadInput, "finite templates"),
    ],
)
def test_refuses(change: dict, error: type[FacedecodeError], said: str) -> None:
    with pytest.raises(error, match=said):
        fit_log_variance(**{"z": np.ones((9, 2)), "squares": np.ones((9, 3)), "penalty": 1.0} | change)


def test_refuses_fewer_people_than_folds() -> None:
    with pytest.raises(BadInput, match="4 people cannot be left out in 5 folds"):
        choose_penalty(*data(20), names(20, 4))
