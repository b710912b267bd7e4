"""Kinds of maps against other solvers and definitions: orthogonal, low rank, the ridge by GCV, singular values."""

from __future__ import annotations

import numpy as np
import pytest

from facedecode.errors import FacedecodeWarning, UsageError
from facedecode.identity import RecognizerId
from facedecode.mapping.jobs import Method
from facedecode.mapping.least_squares import GramAccumulator, choose_ridge, gcv_scores, singular_values, solve
from facedecode.mapping.maps import fit_mapping

TINY = RecognizerId("tiny", "ab" * 32)


def pairs(n: int, d: int, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 5
    return x, x @ random.normal(size=(d, d)) - 2 + noise * random.normal(size=(n, d))


def accumulate(x: np.ndarray, y: np.ndarray) -> GramAccumulator:
    gram = GramAccumulator(x.shape[1], y.shape[1])
    for start in range(0, len(x), 37):
        gram.add(x[start : start + 37], y[start : start + 37])
    return gram


def fit(x: np.ndarray, y: np.ndarray, **options):
    return fit_mapping([(x, y, np.zeros(len(x), bool))], "rotate30", TINY, **options)


# Orthogonal


def test_orthogonal_is_procrustes() -> None:
    procrustes = pytest.importorskip("scipy.linalg").orthogonal_procrustes
    x, y = pairs(300, 12)
    solution = solve(accumulate(x, y), Method("orthogonal"))
    expected, _ = procrustes(x - x.mean(axis=0), y - y.mean(axis=0))
    np.testing.assert_allclose(solution.weight, expected.T, atol=1e-10)
    np.testing.assert_allclose(solution.weight @ solution.weight.T, np.eye(12), atol=1e-12)
    np.testing.assert_allclose(solution.weight @ x.mean(axis=0) + solution.bias, y.mean(axis=0), atol=1e-10)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_known_rotation_or_reflection_is_found(sign: int) -> None:
    x, _ = pairs(200, 8)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0]
    rotation[0] *= sign * np.sign(np.linalg.det(rotation))
    mapping = fit(x, x @ rotation.T + np.arange(8), kind="orthogonal")
    np.testing.assert_allclose(mapping.weight, rotation, atol=1e-6)
    np.testing.assert_allclose(mapping.bias, np.arange(8), atol=1e-4)
    assert mapping.report["kind"] == "orthogonal"
    np.testing.assert_allclose(mapping.report["map"]["singular_values"], np.ones(8), atol=1e-12)
    assert mapping.report["map"]["condition"] == pytest.approx(1)


# Low rank


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_low_rank_is_the_truncated_fit(rank: int) -> None:
    x, y = pairs(400, 9, noise=5)
    solution = solve(accumulate(x, y), Method("low-rank", rank=rank))
    centered, target = x - x.mean(axis=0), y - y.mean(axis=0)
    fitted = centered @ np.linalg.lstsq(centered, target, rcond=None)[0]
    left, values, right = np.linalg.svd(fitted, full_matrices=False)
    truncated = (left[:, :rank] * values[:rank]) @ right[:rank]  # Eckart and Young
    np.testing.assert_allclose(centered @ solution.weight.T, truncated, atol=1e-7 * np.abs(truncated).max())
    assert np.linalg.matrix_rank(solution.weight) == rank
    np.testing.assert_allclose(solution.weight @ x.mean(axis=0) + solution.bias, y.mean(axis=0))


def test_low_rank_with_a_ridge_is_that_of_extended_rows() -> None:
    x, y = pairs(120, 6, noise=5)
    penalized = solve(accumulate(x, y), Method("low-rank", ridge=0.4, rank=2), 0.4)
    centered, target = x - x.mean(axis=0), y - y.mean(axis=0)
    penalty = 0.4 * np.trace(centered.T @ centered) / 6
    assert penalized.ridge == pytest.approx(penalty)
    centered = np.concatenate([centered, np.sqrt(penalty) * np.eye(6)])
    target = np.concatenate([target, np.zeros((6, 6))])
    full = np.linalg.lstsq(centered, target, rcond=None)[0]
    best = np.linalg.svd(centered @ full)[2][:2]
    np.testing.assert_allclose(penalized.weight.T, full @ best.T @ best, atol=1e-9)


def test_a_low_rank_truth_is_found_and_less_rank_fits_worse() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(300, 10))
    truth = random.normal(size=(10, 3)) @ random.normal(size=(3, 10))
    found = fit(x, x @ truth.T + 1, kind="low-rank", rank=3)
    np.testing.assert_allclose(found.weight, truth, atol=1e-5)
    assert found.report["map"]["rank"] == 3 and found.report["map"]["condition"] is None
    residuals = [fit(x, x @ truth.T, kind="low-rank", rank=k).report["training"]["residual"] for k in (1, 2, 3, 10)]
    assert residuals[0] > 1.1 * residuals[1] > 1e6 * residuals[2]
    assert residuals[3] < 1e-8


# The ridge


def brute_gcv(x: np.ndarray, y: np.ndarray, ridge: float) -> float:
    """By the definition: the trace of the hat matrix, and the residuals of the rows."""
    n = len(x)
    centered = x - x.mean(axis=0)
    penalty = ridge * np.trace(centered.T @ centered) / x.shape[1]
    hat = centered @ np.linalg.solve(centered.T @ centered + penalty * np.eye(x.shape[1]), centered.T) + 1 / n
    residual = np.sum((y - hat @ y) ** 2)
    return residual / n / (1 - np.trace(hat) / n) ** 2


def test_gcv_equals_its_definition() -> None:
    x, y = pairs(40, 7, noise=20)
    ridges = np.array([0, 1e-4, 0.03, 1, 50])
    expected = [brute_gcv(x, y, ridge) for ridge in ridges]
    np.testing.assert_allclose(gcv_scores(accumulate(x, y), ridges), expected, rtol=1e-9)


def test_gcv_is_leave_one_out_where_leverages_are_equal() -> None:
    # Rows ±e_i: all leverages are alike by symmetry, so GCV is exactly the mean squared error of leaving one out.
    x = np.concatenate([np.eye(5), -np.eye(5)] * 2)
    y = np.random.default_rng(0).normal(size=(20, 5)) + x
    ridge = 0.25
    penalty = ridge * np.trace(x.T @ x) / 5
    errors = []
    for row in range(20):
        # With a bias that is not penalized, and the penalty of all rows.
        rest = np.delete(np.arange(20), row)
        extended = np.column_stack([x[rest], np.ones(19)])
        gram = extended.T @ extended + np.diag([penalty] * 5 + [0])
        theta = np.linalg.solve(gram, extended.T @ y[rest])
        errors.append(np.sum((y[row] - np.append(x[row], 1) @ theta) ** 2))
    assert gcv_scores(accumulate(x, y), np.array([ridge]))[0] == pytest.approx(np.mean(errors), rel=1e-9)


def test_the_chosen_ridge_is_the_best_and_helps_where_pairs_are_noisy_and_few() -> None:
    every_x, every_y = pairs(5060, 30, noise=40)
    x, y = every_x[:60], every_y[:60]
    chosen = choose_ridge(accumulate(x, y))
    tried = [brute_gcv(x, y, r) for r in (0, chosen / 1.3, chosen, chosen * 1.3)]
    assert chosen > 0 and min(tried) == tried[2]

    def error(ridge: float | str) -> float:
        return float(np.mean((fit(x, y, ridge=ridge).apply(every_x[60:]) - every_y[60:]) ** 2))

    plain = accumulate(x, y).solve(0.0)
    without = float(np.mean((every_x[60:] @ plain.weight.T + plain.bias - every_y[60:]) ** 2))
    assert error("auto") < 0.9 * without
    # So it is taken where nobody asked, as there are fewer than three pairs a dimension.
    with pytest.warns(FacedecodeWarning, match=f"60 pairs are few for a map of 30 dimensions; a ridge of {chosen:.3g}"):
        report = fit(x, y).report
    assert (report["ridge"], report["ridge_by"]) == (chosen, "too few pairs")


def test_exact_data_need_no_ridge() -> None:
    x, y = pairs(200, 8, noise=0)
    report = fit(x, y, ridge="auto").report
    assert report["ridge"] < 1e-5 and report["ridge_by"] == "gcv"
    assert report["training"]["residual"] < 1e-6 * report["training"]["displacement"]


def test_fewer_pairs_than_dimensions_take_the_chosen_ridge() -> None:
    x, y = pairs(12, 20, noise=1)
    with pytest.warns(FacedecodeWarning, match="12 pairs .* the ridge of .* decides the rest"):
        report = fit(x, y, ridge="auto").report
    assert report["ridge"] > 0 and report["ridge_by"] == "gcv"
    chosen = report["ridge"]
    with pytest.warns(FacedecodeWarning, match="do not determine .* a ridge of .* was applied"):
        report = fit(x, y).report
    assert (report["ridge"], report["ridge_by"]) == (chosen, "too few pairs")
    with pytest.warns(FacedecodeWarning, match="the rest is arbitrary"):
        weight = fit(x, y, kind="orthogonal").weight
    np.testing.assert_allclose(weight @ weight.T, np.eye(20), atol=1e-5)


# What is said


def test_duplicate_and_constant_numbers_are_counted() -> None:
    x, y = pairs(200, 6)
    x[:, 4], x[:, 5] = x[:, 0], 0.1
    with pytest.warns(FacedecodeWarning, match=r"rotate30: .* vary in 4 of 6 directions, .* get no weight"):
        mapping = fit(x, y)
    assert np.isfinite(mapping.weight).all()
    assert (mapping.report["rank"], mapping.report["condition"]) == (4, None)
    with pytest.warns(FacedecodeWarning, match="there the map is arbitrary"):
        fit(x, y, kind="orthogonal")
    with pytest.warns(FacedecodeWarning, match="vary in 4 of 6"):
        low = fit(x, y, kind="low-rank", rank=2, ridge="auto")
    assert np.isfinite(low.weight).all() and low.report["map"]["rank"] == 2


def test_singular_values() -> None:
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(4, 4)))[0] for _ in range(2))
    said = singular_values((left * [4, 2, 1, 0.5]) @ right)
    np.testing.assert_allclose(said["singular_values"], [4, 2, 1, 0.5])
    assert (said["rank"], said["condition"]) == (4, pytest.approx(8))
    said = singular_values((left * [4, 2, 0, 0]) @ right)
    assert (said["rank"], said["condition"]) == (2, None)
    assert singular_values(np.zeros((3, 3))) == {"singular_values": [0, 0, 0], "rank": 0, "condition": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "quadratic"}, "--kind quadratic: use affine, orthogonal or low-rank"),
        ({"ridge": -1.0}, "a ridge of -1.0"),
        ({"ridge": float("nan")}, "a ridge of nan"),
        ({"ridge": "cv"}, "a ridge of cv"),
        ({"kind": "orthogonal", "ridge": 0.1}, "no ridge"),
        ({"kind": "orthogonal", "ridge": "auto"}, "no ridge"),
        ({"kind": "orthogonal", "rank": 3}, "a rank goes with"),
        ({"rank": 3}, "a rank goes with"),
        ({"kind": "low-rank"}, "needs one"),
        ({"kind": "low-rank", "rank": 0}, "a map of rank 0"),
        ({"kind": "low-rank", "rank": 5}, "a rank of 5 between templates of 4 numbers"),
    ],
)
def test_methods_that_make_no_sense(options: dict, message: str) -> None:
    x, y = pairs(50, 4)
    with pytest.raises(UsageError, match=message):
        fit(x, y, **options)
