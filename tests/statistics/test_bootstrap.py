"""The bootstrap by person: against data sets that really hold a person several times, and its coverage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rates import tar_at_fmr
from scipy.stats import norm

from facedecode.errors import BadInput, UsageError
from facedecode.statistics import bootstrap, pair_rates
from facedecode.statistics.bootstrap import Estimate, mean_interval, person_draws
from facedecode.statistics.intervals import percentiles
from facedecode.statistics.pair_rates import Trials, rates_at_fmr, resampled_accuracy, resampled_eer, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import FoldSplit, eer, person_weights


@pytest.fixture
def small():
    generator = np.random.default_rng(1)
    codes = np.sort(generator.integers(0, 12, 60))
    templates = (generator.normal(size=(12, 5))[codes] + generator.normal(size=(60, 5))).astype(np.float32)
    # Rounded templates give tied scores.
    return mated_non_mated_scores(templates.round(0), [f"p{k:02d}" for k in codes], "negative-euclidean")


def repeated(pairs, weights):
    """The scores and persons of the data set in which person i stands weights[i] times."""
    left, right = pairs.non_mated_rows(np.arange(len(pairs.non_mated)))
    times = weights[pairs.left_codes[left]] * weights[pairs.right_codes[right]]
    mated_times = weights[pairs.mated_people]
    return np.repeat(pairs.mated, mated_times), np.repeat(pairs.non_mated, times)


def as_is(monkeypatch, draws):
    monkeypatch.setattr(bootstrap, "person_draws", lambda *_: np.asarray(draws))


def test_joined_sets_are_the_list_of_their_pairs():
    generator, parts, numbers, scores, left, right = np.random.default_rng(7), [], [], [], [], []
    for k, count in enumerate((9, 14, 5)):
        templates = generator.normal(size=(count, 3)).astype(np.float32)
        names = [f"{'bca'[k]}{i}" for i in generator.integers(0, 4, count)]
        pairs = mated_non_mated_scores(templates, names, "cosine", (templates[::-1] + 0.5, names[::-1]))
        numbers.append(np.array([4 * "abc".index(name[0]) + int(name[1]) for name in pairs.people]))
        parts.append(NonMated.from_all_pairs(pairs))
        a, b = pairs.non_mated_rows(np.arange(len(pairs.non_mated)))
        scores.append(pairs.non_mated)
        left.append(numbers[-1][pairs.left_codes[a]])
        right.append(numbers[-1][pairs.right_codes[b]])
    listed = NonMated.from_pairs(*(np.concatenate(each) for each in (scores, left, right)))
    joined = NonMated.joined(parts, numbers)
    for one, other in zip(joined.top(40), listed.top(40), strict=True):
        np.testing.assert_array_equal(one, other)
    weights = generator.integers(0, 4, 12)
    assert joined.total(weights) == listed.total(weights) > 0


def test_draws():
    draws = person_draws(30, 50, seed=3)
    assert draws.shape == (50, 30) and (draws.sum(axis=1) == 30).all()
    assert np.array_equal(draws, person_draws(30, 50, seed=3))
    assert not np.array_equal(draws, person_draws(30, 50, seed=4))
    with pytest.raises(UsageError):
        person_draws(0, 5)


def test_weights_of_one_give_the_plain_figures(small, monkeypatch):
    as_is(monkeypatch, np.ones((3, 12), dtype=np.int64))
    non_mated = NonMated.from_all_pairs(small)
    plain = Trials(small.mated, small.mated_people)
    fmrs = [0.2, 0.05, 0.01]
    groups = {"a": plain, "b": plain.person_weighted()}
    found, drawn = (of(groups, non_mated, fmrs, people=12) for of in (rates_at_fmr, resampled_tar))
    for fmr, a, b, *again in zip(fmrs, found["a"], found["b"], drawn["a"], drawn["b"], strict=True):
        point = tar_at_fmr(small.mated, small.non_mated, fmr)
        by_person = tar_at_fmr(small.mated, small.non_mated, fmr, person_weights(small.mated_people))
        assert a.value == point.tar and (again[0].drawn == point.tar).all()
        assert b.value == by_person.tar and again[1].drawn == pytest.approx(by_person.tar)
        assert (a.threshold, a.fmr, a.false_accepts) == (point.threshold, point.fmr, point.false_accepts)
        assert (a.accepted, a.n, b.n) == (point.accepted, len(small.mated), len(set(small.mated_people)))
    rate = resampled_eer(plain, non_mated, people=12, repetitions=3)
    assert rate.value == eer(small.mated, small.non_mated).value and rate.drawn == pytest.approx(rate.value)


@pytest.mark.parametrize("whole", [False, True])
def test_a_replicate_is_the_data_set_with_people_repeated(small, monkeypatch, whole):
    if whole:  # the same pairs as a list
        left, right = small.non_mated_rows(np.arange(len(small.non_mated)))
        non_mated = NonMated.from_pairs(small.non_mated, small.left_codes[left], small.right_codes[right])
    else:
        non_mated = NonMated.from_all_pairs(small)
    plain = Trials(small.mated, small.mated_people)
    draw = person_draws
    for seed in range(8):
        weights = draw(12, 1, seed)
        as_is(monkeypatch, weights)
        mated, others = repeated(small, weights[0])
        for fmr in (0.3, 0.02):
            found = resampled_tar({"a": plain}, non_mated, [fmr], people=12)["a"][0]
            assert found.drawn == pytest.approx(tar_at_fmr(mated, others, fmr).tar)
        found = resampled_eer(plain, non_mated, people=12, repetitions=1)
        assert found.drawn == pytest.approx(eer(mated, others).value)


def test_a_short_top_is_deepened(small, monkeypatch):
    weights = person_draws(12, 40, 0)
    non_mated, group = NonMated.from_all_pairs(small), {"a": Trials(small.mated, small.mated_people)}
    wanted = rates_at_fmr(group, non_mated, [0.1, 0.05], people=12, repetitions=40)
    shares = []

    def shallow(attempt, repetitions, share):
        todo, share = np.arange(repetitions), 0.01
        while len(todo):
            shares.append(share)
            todo = attempt(share, todo)
            share = min(1.0, 2 * share)

    monkeypatch.setattr(pair_rates, "_retry_deeper", shallow)
    as_is(monkeypatch, weights)
    fresh = NonMated.from_all_pairs(small)
    assert rates_at_fmr(group, fresh, [0.1, 0.05], people=12, repetitions=40) == wanted
    assert len(shares) > 2


def test_gallery_and_probes_weigh_alike(monkeypatch):
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(2, 30, 4)).astype(np.float32)
    names = [f"p{k}" for k in generator.integers(0, 6, 60)]
    pairs = mated_non_mated_scores(a, names[:30], "cosine", (b, names[30:]))
    weights = person_draws(6, 1, 5)
    as_is(monkeypatch, weights)
    mated, others = repeated(pairs, weights[0])
    trials = {"a": Trials(pairs.mated, pairs.mated_people)}
    found = resampled_tar(trials, NonMated.from_all_pairs(pairs), [0.1], people=6)["a"][0]
    assert found.drawn == pytest.approx(tar_at_fmr(mated, others, 0.1).tar)


def test_mean_interval_covers_and_weighs():
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        people = generator.normal(size=40)
        codes = np.repeat(np.arange(40), generator.integers(1, 5, 40))
        values = people[codes] + generator.normal(size=len(codes))
        found = mean_interval(values, [f"{k}" for k in codes], repetitions=300, seed=seed)
        hits += found.low <= 0 <= found.high
        assert found.value == pytest.approx(values.mean()) and found.n == len(values)
    assert 0.88 <= hits / 200 <= 0.985
    by_person = mean_interval(np.array([0, 0, 0, 1.0]), ["a", "a", "a", "b"], person_weighted=True)
    assert (by_person.value, by_person.n) == (0.5, 2)
    alone = mean_interval(np.array([1.0, 3.0]), ["a", "a"])
    assert (alone.value, alone.low, alone.high) == (2, None, None)
    for bad in (np.array([1, np.nan]), np.array([1, np.inf]), np.array([1.0])):
        with pytest.raises(BadInput):
            mean_interval(bad, ["a", "b"])


def test_tar_interval_covers_the_truth():
    """Scores with effects of persons on both sides; FAR and TAR of the population are known."""
    generator = np.random.default_rng(4)
    people, fmr, hits, runs = 60, 0.05, 0, 120
    truth = norm.sf(norm.isf(fmr), loc=2 / np.sqrt(1.18), scale=np.sqrt(1.5 / 1.18))
    left, right = np.triu_indices(people, 1)
    owners = np.repeat(np.arange(people), 3)
    for seed in range(runs):
        effect = generator.normal(0, 0.3, people)
        others = effect[left] + effect[right] + generator.normal(size=len(left))
        mated = 2 + generator.normal(0, np.sqrt(0.5), people)[owners] + generator.normal(size=len(owners))
        found = rates_at_fmr(
            {"a": Trials(mated, owners)},
            NonMated.from_pairs(others, left, right),
            [fmr],
            people=people,
            repetitions=200,
            seed=seed,
        )["a"][0]
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / runs <= 0.99


def test_accuracy_interval():
    generator = np.random.default_rng(5)
    fold = np.repeat(np.arange(5), 40)
    left = generator.integers(0, 30, 200)
    right = np.where(np.arange(200) % 2 == 0, left, (left + 1) % 30)
    scores = generator.normal(2 * (left == right), 1)
    split = FoldSplit(scores, left == right, fold)
    found = resampled_accuracy(split, left, right, people=30, repetitions=100).estimate()
    assert found.value == FoldSplit(scores, left == right, fold).accuracy().mean
    assert found.low < found.value < found.high and found.n == 200


def test_degenerate():
    scores, one = np.array([0.9, 0.8]), np.zeros(2, dtype=int)
    non_mated = NonMated.from_pairs(np.linspace(0, 1, 50), np.arange(50) % 3, (np.arange(50) + 1) % 3)
    found = rates_at_fmr({"a": Trials(scores, one)}, non_mated, [0.1], people=3, repetitions=20)["a"][0]
    assert (found.low, found.high) == (None, None)
    with pytest.raises(BadInput, match="cannot resolve"):
        rates_at_fmr({"a": Trials(scores, one)}, non_mated, [0.01], people=3)
    with pytest.raises(BadInput, match="length"):
        NonMated.from_pairs(np.ones(3), np.ones(2), np.ones(3))
    assert percentiles(np.array([np.nan])) == (None, None)
    with pytest.raises(UsageError):
        percentiles(np.ones(3), level=95)
    # Two people, and one pair between them: most replicates draw one of them only, so have no non-mated pair.
    few = NonMated.from_pairs(np.arange(4.0), np.zeros(4, dtype=int), np.ones(4, dtype=int))
    trials = {"a": Trials(np.array([5.0, 6.0]), np.array([0, 1]))}
    found = rates_at_fmr(trials, few, [0.25], people=2, repetitions=50)["a"][0]
    assert (found.value, found.low, found.high) == (1, None, None)  # without either there are no pairs


def test_estimates_are_plain_json():
    fields = Estimate(float("nan"), None, 0.5, 3).as_json()
    assert json.dumps(fields, allow_nan=False) and fields == {"value": None, "low": None, "high": 0.5, "n": 3}
