"""Success attack rates against loops."""

from __future__ import annotations

import numpy as np
import pytest

from facedecode.errors import BadInput
from facedecode.statistics.scores import mated_non_mated_scores, score_pairs
from facedecode.statistics.security import (
    Attack,
    Originals,
    SecurityRates,
    attack_success,
    type_one_trials,
    type_two_trials,
)
from facedecode.statistics.verification import thresholds_at_fmr


@pytest.fixture
def attacked():
    generator = np.random.default_rng(0)
    codes = generator.permutation(np.repeat(np.arange(20), [9, *[3] * 10, *[1] * 9]))
    originals = (generator.normal(size=(20, 8))[codes] + 0.4 * generator.normal(size=(len(codes), 8))).astype("f4")
    reconstructions = (originals + 0.5 * generator.normal(size=originals.shape)).astype("f4")
    return reconstructions, originals, [f"p{k}" for k in codes]


def success(attack: Attack, originals: Originals, fmrs: list[float], **options: object) -> SecurityRates:
    return attack_success({"": attack}, originals, fmrs, **options)[""]


def test_rates_equal_loops(attacked):
    reconstructions, originals, names = attacked
    lost, gone = np.zeros((2, len(names)), dtype=bool)
    lost[[2, 7]] = gone[[11]] = True
    reconstructions[2] = originals[11] = np.nan
    attack, victim = Attack(reconstructions, lost), Originals(originals, names, "cosine", gone)
    found = success(attack, victim, [0.1, 0.01], repetitions=60)

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
        assert all(rate.low is None or rate.low <= rate.value <= rate.high for rate in rates)
        assert rates[1].low is None and rates[2].low is not None  # one person has most pairs
        assert found.mated["pairs"][place].value == np.mean(pairs.mated >= threshold)
        assert rates[0].fmr_wanted == (0.1, 0.01)[place]


def test_perfect_and_hopeless_reconstructions(attacked):
    _, originals, names = attacked
    perfect = success(Attack(originals), Originals(originals, names, "negative-euclidean"), [0.01], repetitions=20)
    assert perfect.type_one["pairs"][0].value == 1
    assert perfect.type_two["pairs"][0].value == perfect.mated["pairs"][0].value
    nothing = np.ones(len(names), dtype=bool)
    hopeless = success(Attack(originals, nothing), Originals(originals, names, "cosine"), [0.01], repetitions=20)
    assert hopeless.type_one["people"][0].value == hopeless.type_two["people"][0].value == 0
    assert hopeless.type_two["people"][0].low == 0 < hopeless.type_two["people"][0].high < 1


def test_pairs_at_hand_give_the_same(attacked):
    reconstructions, originals, names = attacked
    attack, victim = Attack(reconstructions), Originals(originals, names, "cosine")
    pairs = mated_non_mated_scores(originals, names, "cosine")
    options = {"fmrs": [0.01], "repetitions": 30, "seed": 3}
    assert success(attack, victim, pairs=pairs, **options) == success(attack, victim, **options)
    with pytest.raises(BadInput, match="other templates"):
        success(attack, Originals(originals, names[::-1], "cosine"), [0.01], pairs=pairs)


def test_type_two_is_ordered_pairs(attacked):
    reconstructions, originals, names = attacked
    attack, victim = Attack(reconstructions), Originals(originals, names, "cosine")
    assert len(type_two_trials(attack, victim).scores) == 9 * 8 + 10 * 3 * 2
    assert len(type_one_trials(attack, victim).scores) == len(names)


def test_wrong_input(attacked):
    reconstructions, originals, names = attacked
    victim = Originals(originals, names, "cosine")
    with pytest.raises(BadInput, match="one row an image"):
        type_one_trials(Attack(reconstructions[1:]), victim)
    with pytest.raises(BadInput, match="two images"):
        type_two_trials(Attack(originals[:2]), Originals(originals[:2], ["a", "b"], "cosine"))
    with pytest.raises(BadInput, match="flags"):
        type_one_trials(Attack(reconstructions, np.zeros(2, dtype=bool)), victim)
    reconstructions[0] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        type_one_trials(Attack(reconstructions), victim)
    with pytest.raises(BadInput, match="cannot resolve"):
        success(Attack(originals), victim, [1e-6])
