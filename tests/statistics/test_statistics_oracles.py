"""Figures and intervals against scikit-learn, SciPy, known distributions, and data sets that are really resampled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from rates import tar_at_fmr
from scipy import stats
from scipy.special import stdtr
from sklearn.metrics import det_curve, roc_auc_score, roc_curve

from facedecode.errors import BadInput, UsageError
from facedecode.statistics.bootstrap import (
    NonMated,
    Trials,
    mean_interval,
    person_draws,
    rates_at_fmr,
    replicate_thresholds,
    resampled_eer,
)
from facedecode.statistics.intervals import corrected, percentiles, unanimous
from facedecode.statistics.resampling import Drawn, LeftOut
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import eer, person_weights, roc

INF = np.inf
ALPHA = 1e-5  # how often a test of a random figure may fail by chance


# Curves


@pytest.mark.parametrize("decimals", [0, 1, 5])
def test_curves_equal_scikit_learns(decimals):
    generator = np.random.default_rng(decimals)
    mated, non_mated = generator.normal(1.2, 1, 90).round(decimals), generator.normal(0, 1, 500).round(decimals)
    labels, scores = np.r_[np.ones(90), np.zeros(500)], np.r_[mated, non_mated]
    curve = roc(mated, non_mated)
    area = np.sum(np.diff(curve.fmr) * (curve.tar[1:] + curve.tar[:-1]) / 2)
    assert area == pytest.approx(roc_auc_score(labels, scores))
    fmr, fnmr, thresholds = det_curve(labels, scores)
    for threshold, x, y in zip(thresholds, fmr, fnmr, strict=True):
        last = np.flatnonzero(curve.thresholds >= threshold)[-1]
        # Between two corners only non-mated scores are passed, so the mated rate is the corner's.
        assert 1 - curve.tar[last] == pytest.approx(y) or curve.fmr[last] == pytest.approx(x)


def test_failures_to_acquire_equal_the_lowest_score_of_scikit_learn():
    generator = np.random.default_rng(3)
    mated, non_mated = generator.normal(1, 1, 60).round(1), generator.normal(0, 1, 300).round(1)
    mated[:7] = non_mated[:20] = -INF
    labels, scores = np.r_[np.ones(60), np.zeros(300)], np.r_[mated, non_mated]
    fmr, tar, _ = roc_curve(labels, np.where(scores == -INF, -1e9, scores), drop_intermediate=False)
    curve = roc(mated, non_mated)
    # Its last point accepts failures, too.
    assert (curve.fmr[-1], curve.tar[-1]) == (pytest.approx(fmr[-2]), pytest.approx(tar[-2]))
    points = {(round(x, 9), round(y, 9)) for x, y in zip(fmr[:-1], tar[:-1], strict=True)}
    assert {(round(x, 9), round(y, 9)) for x, y in zip(curve.fmr, curve.tar, strict=True)} <= points
    for wanted in (0.01, 0.1, 0.5):
        assert tar_at_fmr(mated, non_mated, wanted).tar == pytest.approx(tar[:-1][fmr[:-1] <= wanted + 1e-12].max())


@pytest.mark.parametrize(("mean", "deviation"), [(2.0, 1.0), (3.0, 1.5), (1.5, 0.6)])
def test_normal_scores_give_their_rates_within_chance(mean, deviation):
    count = 1_000_000
    generator = np.random.default_rng(round(10 * mean))
    mated, non_mated = generator.normal(mean, deviation, count), generator.standard_normal(count)
    of_mated, of_others = stats.norm(mean, deviation), stats.norm()
    beyond = stats.norm.isf(ALPHA / 2)
    # FMR(t) = FNMR(t) where -t = (t - mean) / deviation.
    threshold = mean / (1 + deviation)
    error, slopes = of_others.sf(threshold), (of_mated.pdf(threshold), of_others.pdf(threshold))
    spread = np.sqrt(error * (1 - error) / count) * np.hypot(*slopes) / sum(slopes)
    found = eer(mated, non_mated)
    assert abs(found.value - error) < beyond * spread
    assert abs(found.threshold - threshold) < beyond * np.sqrt(2 * error * (1 - error) / count) / sum(slopes)
    for fmr in (0.1, 0.001):
        threshold = of_others.isf(fmr)
        tar, slope = of_mated.sf(threshold), of_mated.pdf(threshold) / of_others.pdf(threshold)
        spread = np.sqrt((tar * (1 - tar) + slope**2 * fmr * (1 - fmr)) / count)
        assert abs(tar_at_fmr(mated, non_mated, fmr).tar - tar) < beyond * spread + 1 / count


# The bootstrap by person, against data sets that hold copies of images


PEOPLE = 9


@pytest.fixture
def photographs():
    """Templates that tie, and their persons."""
    generator = np.random.default_rng(11)
    codes = np.r_[np.arange(PEOPLE), generator.integers(0, PEOPLE, 25)]
    centers = generator.normal(size=(PEOPLE, 4))
    return (centers[codes] + 0.8 * generator.normal(size=(len(codes), 4))).round(1).astype(np.float32), codes


def pairs_of(templates, codes):
    return mated_non_mated_scores(templates, [f"p{code}" for code in codes], "negative-euclidean")


def copied(templates, codes, draw):
    """Every image as often as its person is drawn, each copy of a person a person: mated scores and owners, others.

    Two copies of one person are never compared: that would be the same person as a non-mated pair.
    """
    images = [
        (template, code, copy) for template, code in zip(templates, codes, strict=True) for copy in range(draw[code])
    ]
    mated, owners, others = [], [], []
    for i, (a, code, copy) in enumerate(images):
        for b, other, other_copy in images[i + 1 :]:
            score = np.float32(-np.sqrt(((a.astype(np.float64) - b) ** 2).sum()))
            if code != other:
                others.append(score)
            elif copy == other_copy:
                mated.append(score)
                owners.append((code, copy))
    return np.array(mated), [f"{owner}" for owner in owners], np.array(others)


def test_replicates_equal_data_sets_with_copies(photographs):
    templates, codes = photographs
    pairs = pairs_of(templates, codes)
    draws = person_draws(PEOPLE, 6, seed=2)
    non_mated = NonMated.from_all_pairs(pairs)
    thresholds = replicate_thresholds(non_mated, [0.2, 0.05], Drawn(draws))
    for k, draw in enumerate(draws):
        mated, owners, others = copied(templates, codes, draw)
        for fmr, threshold in zip((0.2, 0.05), thresholds[k], strict=True):
            wanted = tar_at_fmr(mated, others, fmr)
            assert threshold == pytest.approx(wanted.threshold, abs=1e-6)
            by_person = tar_at_fmr(mated, others, fmr, person_weights(owners)).tar
            accepted = pairs.mated >= threshold
            weights = draw[pairs.mated_people]
            assert weights @ accepted / weights.sum() == pytest.approx(wanted.tar)
            weights = weights * person_weights(pairs.mated_people)
            assert weights @ accepted / weights.sum() == pytest.approx(by_person)


def test_intervals_equal_those_of_data_sets_with_copies_and_without_a_person(photographs):
    templates, codes = photographs
    pairs = pairs_of(templates, codes)
    trials, options = Trials(pairs.mated, pairs.mated_people), {"people": PEOPLE, "repetitions": 40, "seed": 5}
    sets = [copied(templates, codes, draw) for draw in person_draws(PEOPLE, 40, 5)]
    without = [copied(templates, codes, 1 - np.eye(PEOPLE, dtype=int)[person]) for person in range(PEOPLE)]
    non_mated = NonMated.from_all_pairs(pairs)
    found = rates_at_fmr({"a": trials, "b": trials.person_weighted()}, non_mated, [0.1], **options)

    def wanted(figure):
        drawn, left_out = (np.array([figure(*one) for one in many]) for many in (sets, without))
        return pytest.approx(corrected(figure(*copied(templates, codes, np.ones(PEOPLE, int))), drawn, left_out))

    (pairwise,), (by_person,) = found["a"], found["b"]
    assert (pairwise.low, pairwise.high) == wanted(lambda m, _, o: tar_at_fmr(m, o, 0.1).tar)
    assert (by_person.low, by_person.high) == wanted(lambda m, w, o: tar_at_fmr(m, o, 0.1, person_weights(w)).tar)
    rate = resampled_eer(trials, non_mated, **options).estimate()
    assert (rate.low, rate.high) == wanted(lambda m, _, o: eer(m, o).value)


@pytest.mark.parametrize("largest", [3, 40, 300])
def test_sums_of_ranked_comparisons_equal_plain_ones(largest, monkeypatch):
    monkeypatch.setattr("facedecode.statistics.resampling._BLOCKS", 3)  # sums of several blocks in one
    generator = np.random.default_rng(largest)
    people, count = 15, 2000
    draws = generator.integers(0, largest + 1, (7, people))
    left = generator.integers(0, people, count)
    right = (left + generator.integers(1, people, count)) % people
    base = generator.random(count)
    todo = np.array([5, 0, 2])
    for replicates, weights in ((Drawn(draws), draws), (LeftOut(people), 1 - np.eye(people, dtype=int))):
        both, single = replicates.pairs(left, right, todo), replicates.trials(left, base, todo)
        running = np.cumsum(weights[todo][:, left] * weights[todo][:, right], axis=1)
        weighted = np.cumsum(base * weights[todo][:, left], axis=1)
        for places in ([1, 1, 1], [255, 256, 257], [1024, count, 1500]):
            rows = np.arange(3), np.array(places) - 1
            assert both.first(np.array(places)).tolist() == running[rows].tolist()
            assert single.first(np.array(places)) == pytest.approx(weighted[rows])
        assert both.first(np.zeros(3, int)).tolist() == [0, 0, 0]
        for allowed in ([0, 0, 0], running[:, 255], running[:, 256] - 1, running[:, -1] - 1, running[:, -1]):
            wanted = [np.searchsorted(sums, most, side="right") for sums, most in zip(running, allowed, strict=True)]
            assert both.places(np.array(allowed)).tolist() == wanted


# Intervals


@pytest.mark.parametrize("skewed", [False, True])
def test_corrected_percentiles_equal_scipys_bca(skewed):
    generator = np.random.default_rng(20)
    values = generator.exponential(1, 80) if skewed else generator.normal(size=80)
    found = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=3000, random_state=generator)
    left_out = (values.sum() - values) / 79
    freedom = 80 / stats.kurtosis(left_out, fisher=False) - 1
    # The level at which Student's deviate is the normal one of 95 %.
    level = 2 * stdtr(freedom, stats.norm.isf(0.025)) - 1
    low, high = corrected(values.mean(), found.bootstrap_distribution, left_out, level)
    assert (low, high) == pytest.approx(tuple(found.confidence_interval), abs=2e-3 * values.std())
    assert (low, high) != pytest.approx(
        percentiles(found.bootstrap_distribution), abs=2e-3 * values.std()
    ) or not skewed
    wider = corrected(values.mean(), found.bootstrap_distribution, left_out)
    assert wider[0] < low and high < wider[1]


def test_corrected_without_anything_to_correct():
    replicates = np.linspace(0, 1, 101)
    assert corrected(0.5, replicates, np.full(9, 0.3)) == percentiles(replicates)
    assert corrected(0.5, np.full(9, np.nan), np.arange(9.0)) == (None, None)
    assert corrected(0.5, replicates, np.array([0.3, np.nan])) == (None, None)
    assert corrected(0.5, np.r_[replicates, np.nan], np.r_[np.full(9, 0.3), np.nan]) == percentiles(replicates)
    assert corrected(1.0, np.ones(50), np.array([1.0, 0.0])) == (1, 1)
    for level in (0, 1, 95):
        with pytest.raises(UsageError):
            corrected(0.5, replicates, replicates, level)


def test_a_rate_of_all_or_none_keeps_the_exact_binomial_width():
    for people in (5, 60):
        wanted = stats.binomtest(people, people).proportion_ci(method="exact").low
        assert unanimous(np.ones(people)) == pytest.approx(wanted) == unanimous(np.full(people, 0.2))
        names = [f"{k}" for k in range(people)]
        found = mean_interval(np.ones(people, dtype=bool), names)
        assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(wanted)
        found = mean_interval(np.zeros(people, dtype=bool), names)
        assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(1 - wanted)
    assert unanimous(np.array([98, 1, 0])) == unanimous(np.ones(2))
    found = mean_interval(np.ones(9), [f"{k}" for k in range(9)])
    assert (found.low, found.high) == (1, 1)  # a measure, not a rate


def test_perfect_scores_keep_a_width():
    mated, non_mated = np.full(30, 2.0), np.linspace(0, 1, 435)
    left, right = np.triu_indices(30, 1)
    pairs, options = NonMated.from_pairs(non_mated, left, right), {"people": 30, "repetitions": 50}
    bound = unanimous(np.ones(30))
    rate = rates_at_fmr({"a": Trials(mated, np.arange(30))}, pairs, [0.01], **options)["a"][0]
    assert (rate.value, rate.high) == (1, 1) and rate.low == pytest.approx(bound)
    rate = rates_at_fmr({"a": Trials(mated - 9, np.arange(30))}, pairs, [0.01], **options)["a"][0]
    assert (rate.value, rate.low) == (0, 0) and rate.high == pytest.approx(1 - bound)
    error = resampled_eer(Trials(mated, np.arange(30)), pairs, **options).estimate()
    assert (error.value, error.low) == (0, 0) and error.high == pytest.approx(1 - bound)


# Coverage


@pytest.fixture(scope="module")
def coverage():
    path = Path(__file__).parents[2] / "benchmarks" / "bootstrap_coverage.py"
    spec = importlib.util.spec_from_file_location("bootstrap_coverage", path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_intervals_cover_and_are_no_wider_than_need_be(coverage):
    model = coverage.Effects(mated=3.2, attack=2.5)
    design = coverage.Design("", 50, coverage.Population({2: 2, 4: 1}), model, (0.02,))
    runs = 150
    found = [design.intervals(seed, 200) for seed in range(runs)]
    fewest = stats.binom.ppf(ALPHA, runs, 0.93)
    for name, truth in design.truth().items():
        values, low, high = np.array([result[name] for result in found]).T
        assert np.count_nonzero((low <= truth) & (truth <= high)) >= fewest, name
        assert abs(values.mean() - truth) < 0.5 * values.std(), name
        assert np.mean(high - low) < 1.25 * 2 * stats.norm.isf(0.025) * values.std(), name


# What cannot be counted


def test_scores_without_figures_are_refused():
    scores, people = np.linspace(0, 1, 40), np.arange(40) % 5
    good = NonMated.from_pairs(scores, people, (people + 1) % 5)
    for values in (np.array([]), np.array([0.5, np.nan]), np.array([0.5, INF])):
        trials = Trials(values, np.arange(len(values)))
        with pytest.raises(BadInput):
            rates_at_fmr({"a": trials}, good, [0.1], people=5, repetitions=5)
        with pytest.raises(BadInput):
            resampled_eer(trials, good, people=5, repetitions=5).estimate()
        bad = NonMated.from_pairs(values, np.zeros(len(values), int), np.ones(len(values), int))
        trials = Trials(scores, people)
        with pytest.raises(BadInput):
            rates_at_fmr({"a": trials}, bad, [0.5], people=5, repetitions=5)
        with pytest.raises(BadInput):
            resampled_eer(trials, bad, people=5, repetitions=5).estimate()
    with pytest.raises(BadInput, match="failures to acquire"):
        lost = NonMated.from_pairs(np.full(4, -INF), np.zeros(4, int), np.ones(4, int))
        resampled_eer(Trials(np.array([0.5, -INF]), np.arange(2)), lost, people=5)


def test_equal_scores_have_a_rate_and_an_interval():
    people = np.arange(30) % 6
    trials = Trials(np.full(30, 0.5), people)
    non_mated = NonMated.from_pairs(np.full(30, 0.5), people, (people + 1) % 6)
    rate = rates_at_fmr({"a": trials}, non_mated, [0.2], people=6, repetitions=30)["a"][0]
    assert (rate.value, rate.false_accepts, rate.low) == (0, 0, 0)
    error = resampled_eer(trials, non_mated, people=6, repetitions=30).estimate()
    assert error.value == error.low == error.high == 0.5
