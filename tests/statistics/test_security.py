"""Success attack rates against loops."""

from __future__ import annotations

import numpy as np
import pytest

from facedecode.errors import BadInput
from facedecode.statistics.scores import mated_non_mated_scores, score_pairs
from facedecode.statistics.security import success_attack_rates, type_one_trials, type_two_trials
from facedecode.statistics.verification import thresholds_at_fmr


@pytest.fixture
def attacked():
    generator = np.random.default_rng(0)
    codes = generator.permutation(np.repeat(np.arange(20), [9, *[3] * 10, *[1] * 9]))
    originals = (generator.normal(size=(20, 8))[codes] + 0.4 * generator.normal(size=(len(codes), 8))).astype("f4")
    reconstructions = (originals + 0.5 * generator.normal(size=originals.shape)).astype("f4")
    return reconstructions, originals, [f"p{k}" for k in codes]


def test_rates_equal_loops(attacked):
    reconstructions, originals, names = attacked
    lost, gone = np.zeros((2, len(names)), dtype=bool)
    lost[[2, 7]] = gone[[11]] = True
    reconstructions[2] = originals[11] = np.nan
    found = success_attack_rates(*attacked, "cosine", [0.1, 0.01], missing=lost, missing_originals=gone, repetitions=60)

    def succeeds(i, j, threshold):
        if lost[i] or gone[j]:
            return False
        return score_pairs(reconstructions[[i]], originals[[j]], "cosine")[0] >= threshold

    pairs = mated_non_mated_scores(originals, names, "cosine", missing=gone)
    for place, threshold in enumerate(thresholds_at_fmr(pairs.non_mated, [0.1, 0.01])):
        one = [succeeds(i, i, threshold) for i in range(len(names))]
        ordered = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j and names[i] == names[j]]
        two = [succeeds(i, j, threshold) for i, j in ordered]
        by_person = [
            np.mean([hit for hit, (i, _) in zip(two, ordered, strict=True) if names[i] == name])
            for name in {names[i] for i, _ in ordered}
        ]
        rates = (
            found.type_one["pairs"][place],
            found.type_two["pairs"][place],
            found.type_two["people"][place],
        )
        assert [rate.value for rate in rates] == pytest.approx([np.mean(one), np.mean(two), np.mean(by_person)])
        assert [rate.n for rate in rates] == [len(names), len(ordered), len(by_person)]
        assert {rate.threshold for rate in rates} == {threshold}
        assert all(rate.low <= rate.value <= rate.high for rate in rates)
        assert found.mated["pairs"][place].value == np.mean(pairs.mated >= threshold)
        assert rates[0].fmr_wanted == (0.1, 0.01)[place]


def test_perfect_and_hopeless_reconstructions(attacked):
    _, originals, names = attacked
    perfect = success_attack_rates(originals, originals, names, "negative-euclidean", [0.01], repetitions=20)
    assert perfect.type_one["pairs"][0].value == 1
    assert perfect.type_two["pairs"][0].value == perfect.mated["pairs"][0].value
    nothing = np.ones(len(names), dtype=bool)
    hopeless = success_attack_rates(originals, originals, names, "cosine", [0.01], missing=nothing, repetitions=20)
    assert hopeless.type_one["people"][0].value == hopeless.type_two["people"][0].value == 0
    assert hopeless.type_two["people"][0].low == 0 < hopeless.type_two["people"][0].high < 1


def test_pairs_at_hand_give_the_same(attacked):
    _, originals, names = attacked
    pairs = mated_non_mated_scores(originals, names, "cosine")
    options = {"fmrs": [0.01], "repetitions": 30, "seed": 3}
    assert success_attack_rates(*attacked, "cosine", pairs=pairs, **options) == success_attack_rates(
        *attacked, "cosine", **options
    )
    with pytest.raises(BadInput, match="other templates"):
        success_attack_rates(*attacked[:2], names[::-1], "cosine", pairs=pairs)


def test_type_two_is_ordered_pairs(attacked):
    trials = type_two_trials(*attacked, "cosine")
    assert len(trials.scores) == 9 * 8 + 10 * 3 * 2
    assert len(type_one_trials(*attacked, "cosine").scores) == len(attacked[2])


def test_wrong_input(attacked):
    reconstructions, originals, names = attacked
    with pytest.raises(BadInput, match="one row an image"):
        type_one_trials(reconstructions[1:], originals, names, "cosine")
    with pytest.raises(BadInput, match="two images"):
        type_two_trials(originals[:2], originals[:2], ["a", "b"], "cosine")
    with pytest.raises(BadInput, match="flags"):
        type_one_trials(reconstructions, originals, names, "cosine", missing=np.zeros(2, dtype=bool))
    reconstructions[0] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        type_one_trials(reconstructions, originals, names, "cosine")
    with pytest.raises(BadInput, match="cannot resolve"):
        success_attack_rates(originals, originals, names, "cosine", [1e-6])
