"""Scores and error rates against loops, scikit-learn and Gaussians whose rates are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rates import tar_at_fmr
from scipy.stats import norm
from sklearn.metrics import roc_curve

from facedecode.errors import BadInput, UsageError
from facedecode.statistics.scores import (
    KINDS,
    encode_people,
    mated_non_mated_scores,
    score_matrix,
    score_pairs,
    score_rows,
)
from facedecode.statistics.verification import (
    FoldSplit,
    at_threshold,
    eer,
    failure_to_acquire,
    false_accepts_allowed,
    person_weights,
    roc,
    thresholds_at_fmr,
)

INF = np.inf


def one_score(x, y, kind):
    x, y = x.astype(np.float64), y.astype(np.float64)
    if kind == "negative-hamming":
        return -np.mean(x != y)
    return x @ y / math.sqrt(x @ x * (y @ y)) if kind == "cosine" else -math.sqrt(((x - y) ** 2).sum())


def random_set(seed=0, n=40, people=9, dim=6, kind=None):
    generator = np.random.default_rng(seed)
    templates = generator.normal(size=(n, dim)).astype(np.float32)
    if kind == "negative-hamming":
        templates = np.sign(templates)
    return templates, [f"p{k}" for k in generator.integers(0, people, n)]


# Scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_loops(kind):
    a, _ = random_set(1, kind=kind)
    b, _ = random_set(2, n=25, kind=kind)
    matrix = score_matrix(a, b, kind)
    wanted = np.array([[one_score(x, y, kind) for y in b] for x in a])
    assert matrix.dtype == np.float32
    assert np.abs(matrix - wanted).max() < 5e-7
    assert np.abs(score_pairs(a[:25], b, kind) - wanted.diagonal()).max() < 5e-7
    rows = score_rows(a, np.array([0, -1, 2]), np.array([1, 1, -1]), kind)
    assert rows[0] == pytest.approx(one_score(a[0], a[1], kind), abs=5e-7)
    assert rows[1] == rows[2] == -INF


def test_distances_survive_large_templates():
    generator = np.random.default_rng(0)
    a = (1000 + generator.normal(size=(30, 64))).astype(np.float32)
    b = a + generator.normal(size=a.shape).astype(np.float32) * 1e-2
    exact = -np.linalg.norm(a.astype(np.float64) - b.astype(np.float64), axis=1)
    assert np.abs(score_matrix(a, b, "negative-euclidean").diagonal() - exact).max() < 1e-4
    assert np.abs(score_matrix(a, a, "negative-euclidean").diagonal()).max() < 1e-3
    assert (score_pairs(a, a, "negative-euclidean") == 0).all()
    assert score_matrix(a, a, "cosine").max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_equal_loops(kind, monkeypatch):
    monkeypatch.setattr("facedecode.statistics.scores._BLOCK_SCORES", 200)  # several blocks
    templates, names = random_set(kind=kind)
    missing = np.zeros(len(names), dtype=bool)
    missing[[3, 17]] = True
    templates[3] = np.nan
    found = mated_non_mated_scores(templates, names, kind, missing=missing)
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    same = [(i, j) for i, j in pairs if names[i] == names[j]]
    other = [(i, j) for i, j in pairs if names[i] != names[j]]

    def wanted(i, j):
        return -INF if missing[i] or missing[j] else one_score(templates[i], templates[j], kind)

    assert list(zip(found.mated_left.tolist(), found.mated_right.tolist(), strict=True)) == same
    np.testing.assert_allclose(found.mated, [wanted(*p) for p in same], atol=5e-7)
    np.testing.assert_allclose(found.non_mated, [wanted(*p) for p in other], atol=5e-7)
    positions = np.random.default_rng(0).permutation(len(other))
    left, right = found.non_mated_rows(positions)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [other[p] for p in positions]
    assert [found.people[k] for k in found.mated_people] == [names[i] for i, _ in same]


def test_gallery_and_probes_equal_loops(monkeypatch):
    monkeypatch.setattr("facedecode.statistics.scores._BLOCK_SCORES", 100)
    (a, names), (b, others) = random_set(3, n=20), random_set(4, n=15, people=12)
    found = mated_non_mated_scores(a, names, "cosine", (b, others))
    pairs = [(i, j) for i in range(20) for j in range(15)]
    same = [p for p in pairs if names[p[0]] == others[p[1]]]
    other = [p for p in pairs if names[p[0]] != others[p[1]]]
    assert list(zip(found.mated_left.tolist(), found.mated_right.tolist(), strict=True)) == same
    np.testing.assert_allclose(found.non_mated, [one_score(a[i], b[j], "cosine") for i, j in other], atol=5e-7)
    left, right = found.non_mated_rows(np.arange(len(other)))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == other


def test_wrong_templates_are_refused():
    a = np.ones((3, 4), dtype=np.float32)
    bad = a.copy()
    bad[1, 2] = np.nan
    zero = a.copy()
    zero[2] = 0
    with pytest.raises(BadInput, match="template 1 has NaN"):
        score_pairs(a, bad, "cosine")
    with pytest.raises(BadInput, match="template 2 is all zeros"):
        score_matrix(zero, a, "cosine")
    assert score_pairs(zero, zero, "negative-euclidean").tolist() == [0, 0, 0]
    with pytest.raises(BadInput, match="one recognizer"):
        score_matrix(a, a[:, :2], "cosine")
    with pytest.raises(BadInput, match="do not pair"):
        score_pairs(a, a[:2], "cosine")
    with pytest.raises(BadInput, match="expected floats"):
        score_pairs(a[0], a[0], "cosine")
    with pytest.raises(UsageError, match="unknown score 'dot'"):
        score_pairs(a, a, "dot")
    with pytest.raises(BadInput, match="identities"):
        mated_non_mated_scores(a, ["x"], "cosine")
    for names in (["x", None, "y"], ["x", "", "y"], []):
        with pytest.raises(BadInput):
            encode_people(names)


# Thresholds


def loop_threshold(scores, allowed):
    """The best of all thresholds that could matter: each score, and just above each."""
    tries = sorted({*scores, *np.nextafter(scores, np.asarray(INF, scores.dtype))})
    return next(t for t in tries if t > -INF and np.count_nonzero(scores >= t) <= allowed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tar_at_fmr_equals_loop_with_ties_and_failures(dtype):
    generator = np.random.default_rng(5)
    for _ in range(60):
        non_mated = (generator.integers(0, 8, generator.integers(5, 40)) / 7).astype(dtype)
        mated = (generator.integers(2, 12, 20) / 7).astype(dtype)
        non_mated[0] = mated[0] = -INF
        for fmr in (0.2, 0.29, 0.5, 0.99):
            allowed = false_accepts_allowed(fmr, len(non_mated))
            point = tar_at_fmr(mated, non_mated, fmr)
            assert point.threshold == loop_threshold(non_mated, allowed)
            accepted = sum(score >= point.threshold for score in mated)
            assert (point.accepted, point.tar) == (accepted, accepted / 20)
            assert point.false_accepts == sum(s >= point.threshold for s in non_mated) <= allowed
            assert point.fmr == point.false_accepts / len(non_mated)
            assert (point.mated, point.non_mated, point.fmr_wanted) == (20, len(non_mated), fmr)


def test_tar_at_fmr_equals_scikit_learn():
    generator = np.random.default_rng(6)
    mated, non_mated = generator.normal(2, 1, 300).round(1), generator.normal(0, 1, 2000).round(1)
    fmr, tar, _ = roc_curve(np.r_[np.ones(300), np.zeros(2000)], np.r_[mated, non_mated], drop_intermediate=False)
    for wanted in (0.001, 0.01, 0.1, 0.37):
        assert tar_at_fmr(mated, non_mated, wanted).tar == pytest.approx(tar[fmr <= wanted + 1e-12].max())


def test_allowed_counts_are_decimal():
    assert false_accepts_allowed(0.29, 100) == 29  # 0.29 * 100 is 28.999999999999996
    assert false_accepts_allowed(0.001, 3000) == 3
    assert false_accepts_allowed(0.001, 2999) == 2
    for fmr in (0, 1, -0.1, 2, math.nan):
        with pytest.raises(UsageError):
            false_accepts_allowed(fmr, 10)


def test_gaussians_with_known_rates():
    generator = np.random.default_rng(7)
    mated, non_mated = generator.normal(2.5, 1, 200_000), generator.normal(0, 1, 200_000)
    assert eer(mated, non_mated).value == pytest.approx(norm.sf(1.25), abs=0.002)
    assert eer(mated, non_mated).threshold == pytest.approx(1.25, abs=0.02)
    for fmr in (0.01, 0.1):
        point = tar_at_fmr(mated, non_mated, fmr)
        assert point.threshold == pytest.approx(norm.isf(fmr), abs=0.03)
        assert point.tar == pytest.approx(norm.sf(norm.isf(fmr) - 2.5), abs=0.01)


def test_degenerate_scores_are_refused():
    good, none = np.array([0.1, 0.2, 0.3]), np.array([])
    for call in (lambda a, b: tar_at_fmr(a, b, 0.5), roc, eer):
        with pytest.raises(BadInput, match="no mated pairs"):
            call(none, good)
        with pytest.raises(BadInput, match="no non-mated pairs"):
            call(good, none)
        for bad in (np.nan, INF):
            with pytest.raises(BadInput, match="score 1"):
                call(np.array([0.1, bad]), good)
            with pytest.raises(BadInput, match="score 1"):
                call(good, np.array([-INF, bad]))
    with pytest.raises(BadInput, match="cannot resolve"):
        tar_at_fmr(good, good, 0.33)
    with pytest.raises(UsageError):
        at_threshold(good, good, math.nan)
    for weights in (np.ones(2), np.array([1, -1, 1]), np.array([1, np.nan, 1]), np.zeros(3)):
        with pytest.raises(BadInput):
            tar_at_fmr(good, good, 0.5, weights)
    with pytest.raises(BadInput):
        failure_to_acquire(none)


def test_all_scores_equal():
    same = np.full(10, 0.5, dtype=np.float32)
    point = tar_at_fmr(same, same, 0.5)
    assert (point.tar, point.fmr, point.false_accepts) == (0, 0, 0) and point.threshold > 0.5
    assert eer(same, same).value == 0.5
    assert roc(same, same).fmr.tolist() == [0, 1]


def test_failures_are_never_accepted():
    lost = np.full(4, -INF, dtype=np.float32)
    point = tar_at_fmr(np.array([-INF, 1, 2], dtype=np.float32), lost, 0.5)
    assert point.accepted == 2 and point.false_accepts == 0 and np.isfinite(point.threshold)
    with pytest.raises(BadInput, match="failures to acquire"):
        eer(lost, lost)
    assert failure_to_acquire(np.array([True, False, False, True])) == 0.5


# Weights


def test_person_weights_equal_a_loop():
    people = np.array(["a", "a", "a", "b", "c", "c"])
    mated = np.array([1, 1, 0, 0, 1, 0.0])
    point = tar_at_fmr(mated, np.linspace(-1, 0.4, 10), 0.1, person_weights(people))
    assert point.tar == pytest.approx(np.mean([2 / 3, 0, 1 / 2]))
    assert point.accepted == 3 and person_weights(people).sum() == pytest.approx(1)


# Curves


def test_roc_equals_scikit_learn():
    generator = np.random.default_rng(8)
    for decimals in (0, 1, 6):
        mated = generator.normal(1, 1, 70).round(decimals)
        non_mated = generator.normal(0, 1, 400).round(decimals)
        curve = roc(mated, non_mated)
        fmr, tar, _ = roc_curve(np.r_[np.ones(70), np.zeros(400)], np.r_[mated, non_mated], drop_intermediate=False)
        assert {(round(a, 9), round(b, 9)) for a, b in zip(curve.fmr, curve.tar, strict=True)} <= {
            (round(a, 9), round(b, 9)) for a, b in zip(fmr, tar, strict=True)
        }
        area = np.sum(np.diff(curve.fmr) * (curve.tar[1:] + curve.tar[:-1]) / 2)
        assert area == pytest.approx(np.sum(np.diff(fmr) * (tar[1:] + tar[:-1]) / 2))
        for threshold, x, y in zip(curve.thresholds, curve.fmr, curve.tar, strict=True):
            assert x == np.mean(non_mated >= threshold) and y == np.mean(mated >= threshold)
        assert len(curve.fmr) <= 2 * 70 + 2


def test_eer_equals_the_interpolated_curve():
    generator = np.random.default_rng(9)
    for _ in range(20):
        mated, non_mated = generator.integers(3, 12, 30) / 4, generator.integers(0, 9, 50) / 4
        fmr, tar, _ = roc_curve(np.r_[np.ones(30), np.zeros(50)], np.r_[mated, non_mated], drop_intermediate=False)
        steps = np.linspace(0, 1, 200_001)
        x = np.interp(steps, np.linspace(0, 1, len(fmr)), fmr)
        y = np.interp(steps, np.linspace(0, 1, len(fmr)), 1 - tar)
        assert eer(mated, non_mated).value == pytest.approx(x[np.argmin(np.abs(x - y))], abs=1e-4)
    assert eer(np.array([3.0, 4.0]), np.array([1.0, 2.0])).value == 0
    assert eer(np.array([1.0, 2.0]), np.array([3.0, 4.0])).value == 1


# Folds


def test_accuracy_over_folds_equals_a_loop():
    generator = np.random.default_rng(10)
    fold = np.repeat(np.arange(4), 30)
    mated = np.tile(np.arange(30) < 15, 4)
    scores = generator.normal(mated * 1.5, 1).round(1)
    result = FoldSplit(scores, mated, fold).accuracy()
    for k in range(4):
        train = fold != k
        tries = np.r_[np.unique(scores[train]) - 1e-6, INF]
        best = max(np.mean((scores[train] >= t) == mated[train]) for t in tries)
        assert np.mean((scores[train] >= result.thresholds[k]) == mated[train]) == pytest.approx(best)
        test = fold == k
        assert result.accuracies[k] == np.mean((scores[test] >= result.thresholds[k]) == mated[test])
    assert result.mean == pytest.approx(result.accuracies.mean())
    assert result.standard_error == pytest.approx(np.std(result.accuracies, ddof=1) / 2)


def test_threshold_never_sees_the_fold_it_is_tested_on():
    scores = np.array([0.0, 1.0, 0.0, 1.0])
    fold, mated = np.array([0, 0, 1, 1]), np.array([False, True] * 2)
    assert FoldSplit(scores, mated, fold).accuracy().thresholds.tolist() == [0.5, 0.5]
    scores[2:] = [10, 11]
    assert FoldSplit(scores, mated, fold).accuracy().thresholds.tolist() == [10.5, 0.5]
    assert FoldSplit(scores, mated, fold).accuracy().mean == 0.5


def test_fold_failures_and_degenerate_folds():
    fold, mated = np.array([0, 0, 1, 1]), np.array([False, True] * 2)
    lost = FoldSplit(np.full(4, -INF), mated, fold).accuracy()
    assert lost.accuracies.tolist() == [0.5, 0.5] and np.isfinite(lost.thresholds).all()
    half = FoldSplit(np.array([-INF, 1.0, -INF, -INF]), mated, fold).accuracy()
    assert np.isfinite(half.thresholds).all() and half.accuracies[1] == 0.5
    assert FoldSplit(np.ones(4), mated, fold).accuracy().mean == 0.5
    with pytest.raises(BadInput, match="two folds"):
        FoldSplit(np.ones(4), mated, np.zeros(4)).accuracy()
    with pytest.raises(BadInput, match="length"):
        FoldSplit(np.ones(3), mated, fold).accuracy()
    with pytest.raises(BadInput, match="nan"):
        FoldSplit(np.full(4, np.nan), mated, fold).accuracy()


def test_thresholds_of_several_rates_come_from_one_call():
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    fmrs = [0.5, 0.001, 0.1, 0.1]
    assert thresholds_at_fmr(scores, fmrs) == [thresholds_at_fmr(scores, [fmr])[0] for fmr in fmrs]
