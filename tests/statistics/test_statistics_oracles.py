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
from facedecode.statistics.bootstrap import Estimate, mean_interval, person_draws, ratio_interval, resample
from facedecode.statistics.intervals import corrected, percentiles, unanimous
from facedecode.statistics.pair_rates import (
    Trials,
    rates_at_fmr,
    rates_at_threshold,
    replicate_thresholds,
    resampled_eer,
    resampled_tar,
)
from facedecode.statistics.resampling import Drawn, LeftOut, NonMated, groups_of_people
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
    groups = {"a": trials, "b": trials.person_weighted()}
    found = resampled_tar(groups, non_mated, [0.1], **options)
    rates = rates_at_fmr(groups, non_mated, [0.1], **options)

    def holds(own, interval, figure):
        drawn, left_out = (np.array([figure(*one) for one in many]) for many in (sets, without))
        value = figure(*copied(templates, codes, np.ones(PEOPLE, int)))
        assert own.value == pytest.approx(value)
        assert own.drawn == pytest.approx(drawn, nan_ok=True) and own.left_out == pytest.approx(left_out, nan_ok=True)
        low, high = corrected(value, drawn, left_out)
        assert interval.low <= low + 1e-9 and high - 1e-9 <= interval.high

    holds(found["a"][0], rates["a"][0], lambda m, _, o: tar_at_fmr(m, o, 0.1).tar)
    holds(found["b"][0], rates["b"][0], lambda m, w, o: tar_at_fmr(m, o, 0.1, person_weights(w)).tar)
    rate = resampled_eer(trials, non_mated, **options)
    holds(rate, rate.estimate(), lambda m, _, o: eer(m, o).value)


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
        assert unanimous(people) == pytest.approx(wanted)
        names = [f"{k}" for k in range(people)]
        found = mean_interval(np.ones(people, dtype=bool), names)
        assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(wanted)
        found = mean_interval(np.zeros(people, dtype=bool), names)
        assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(1 - wanted)
    found = mean_interval(np.ones(9), [f"{k}" for k in range(9)])
    assert (found.low, found.high) == (1, 1)  # a measure, not a rate


def test_perfect_scores_keep_a_width():
    mated, non_mated = np.full(30, 2.0), np.linspace(0, 1, 435)
    left, right = np.triu_indices(30, 1)
    pairs, options = NonMated.from_pairs(non_mated, left, right), {"people": 30, "repetitions": 50}
    bound = unanimous(30)
    rate = rates_at_fmr({"a": Trials(mated, np.arange(30))}, pairs, [0.01], **options)["a"][0]
    assert (rate.value, rate.high) == (1, 1) and rate.low == pytest.approx(bound)
    rate = rates_at_fmr({"a": Trials(mated - 9, np.arange(30))}, pairs, [0.01], **options)["a"][0]
    assert (rate.value, rate.low) == (0, 0) and rate.high == pytest.approx(1 - bound)
    error = resampled_eer(Trials(mated, np.arange(30)), pairs, **options).estimate()
    assert (error.value, error.low) == (0, 0) and error.high == pytest.approx(1 - bound)


# Coverage


@pytest.fixture(scope="module")
def coverage():
    path = Path(__file__).parents[2] / "benchmarks" / "coverage_scores.py"
    spec = importlib.util.spec_from_file_location("coverage_scores", path)
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
    for name in found[0]:
        (truth, *_), values, low, high = np.array([result[name] for result in found], dtype=float).T
        if np.isnan(low).any():
            continue  # too few people have the pairs of some samples
        assert np.count_nonzero((low <= truth) & (truth <= high)) >= fewest, name
        assert abs(values.mean() - truth) < 0.5 * values.std(), name
        if " at a threshold" in name and "FMR" in name:
            continue  # hardly ever an error: as wide as Clopper and Pearson's
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
    error = resampled_eer(trials, non_mated, people=6, repetitions=30)
    assert error.value == 0.5 and (error.drawn[~np.isnan(error.drawn)] == 0.5).all()


# Few failures, few people, listed pairs


def rate_of(failing: list[float], people: int) -> Estimate:
    """The rate by person where some people fail for these shares of twenty images."""
    names = np.repeat([f"{k:03d}" for k in range(people)], 20)
    right = np.ones((people, 20), dtype=bool)
    for person, share in enumerate(failing):
        right[person, : round(20 * share)] = False
    return mean_interval(right.ravel(), names.tolist(), person_weighted=True)


@pytest.mark.parametrize("people", [2, 30, 400])
def test_failures_never_make_an_interval_tighter(people):
    lows = [rate_of([0.05] * failing, people).low for failing in range(min(people, 5))]
    assert lows == sorted(lows, reverse=True) and lows[0] == pytest.approx(0.025 ** (1 / people))
    assert rate_of([1.0], people).low < rate_of([0.05], people).low
    exact = stats.binomtest(people - 1, people).proportion_ci(method="exact").low
    assert rate_of([1.0], people).low == pytest.approx(exact, abs=0.6 * (1 - exact))


def test_many_failures_leave_the_bootstrap_alone():
    found = rate_of([0.05] * 200, 400)
    assert found.low > found.value - 0.005  # sure of 200 failing images: no hypothetical person counts


def test_a_difference_of_equal_rates_keeps_a_width():
    right = np.ones(40)

    def rate(values):
        sums = np.stack([values, np.ones(40)], axis=1)
        return resample(lambda people: np.divide(*people.sums(sums).T), np.ones(40), 40, True)[0]

    bound = 1 - 0.025 ** (1 / 40)
    for values in (right, np.zeros(40), np.arange(40) % 2):
        none = rate(values).less(rate(values))
        assert (none.value, none.low, none.high) == (0, pytest.approx(-bound), pytest.approx(bound))
    means = resample(lambda people: people.sums(right[:, None])[:, 0] / 40, right, 40)[0]
    assert means.bounds is None  # no rate: a difference of equal means is known


@pytest.mark.parametrize("heavy", [0.3, 0.5, 0.9])
def test_a_few_people_with_nearly_all_pairs_give_no_interval(heavy):
    light = 200
    shares = np.concatenate([[heavy * light / (1 - heavy)], np.ones(light)])
    sums = np.stack([shares * (np.arange(light + 1) % 5 > 0), shares], axis=1)
    figure = resample(lambda people: np.divide(*people.sums(sums).T), shares, 1000, True)[0]
    effective = shares.sum() ** 2 / np.sum(shares**2)
    assert figure.supported == (effective >= 50) == (figure.estimate().low is not None)
    assert np.isfinite(figure.estimate().value)


def test_a_ratio_of_which_one_person_has_half_of_the_images_has_no_interval():
    names = ["heavy"] * 200 + [f"{k}" for k in range(200)]
    generator = np.random.default_rng(5)
    one, other = generator.normal(5, 1, (2, 400))
    assert ratio_interval(one, other, names).low is None and mean_interval(one, names).low is None
    even = [f"{k % 200}" for k in range(400)]
    assert ratio_interval(one, other, even).low is not None


def test_listed_pairs_are_drawn_by_groups_of_people_who_have_pairs():
    left, right = np.arange(0, 600, 2), np.arange(1, 600, 2)
    groups = groups_of_people(left, right, 700)
    assert (groups[left] == groups[right]).all() and len(set(groups)) == 400
    assert groups_of_people(np.arange(599), np.arange(1, 600), 600) is None  # one chain
    scores = np.random.default_rng(0).normal(size=300)
    listed = NonMated.from_pairs(scores, left, right)
    found = rates_at_threshold(Trials(scores + 3, left), listed, 1.5, people=700)
    # Pairs without people in common are independent: the interval is that of so many trials.
    exact = stats.binomtest(found.false_accepts, 300).proportion_ci(method="exact")
    assert (found.fmr.low, found.fmr.high) == pytest.approx((exact.low, exact.high), abs=0.012)


def test_an_equal_error_rate_by_person_is_that_of_repeated_pairs():
    generator = np.random.default_rng(3)
    people = np.repeat(np.arange(6), [4, 4, 4, 12, 12, 12])
    mated, non_mated = generator.normal(1.5, 1, 48), generator.normal(size=400)
    pairs = NonMated.from_pairs(non_mated, np.arange(400) % 6, (np.arange(400) + 1) % 6)
    found = resampled_eer(Trials(mated, people).person_weighted(), pairs, people=6, repetitions=20)
    repeated = np.concatenate([np.repeat(mated[people < 3], 3), mated[people >= 3]])
    assert found.value == pytest.approx(eer(repeated, non_mated).value) and found.n == 6
