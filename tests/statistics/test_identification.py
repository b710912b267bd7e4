"""Identification ranks against loops, scikit-learn and chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from facedecode.errors import BadInput
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.intervals import corrected, unseen_share, with_unseen
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.security import enrolled_rows, identification_ranks, identification_rates

PEOPLE = [f"p{k:02d}" for k in range(12)]


@pytest.fixture
def faces():
    """A gallery of 12 people and 40 probes of them, near enough to be found at various ranks."""
    generator = np.random.default_rng(5)
    gallery = generator.normal(size=(12, 6)).astype("f4")
    owners = generator.integers(0, 12, size=40)
    probes = (gallery[owners] + 1.2 * generator.normal(size=(40, 6))).astype("f4")
    return gallery, probes, [PEOPLE[k] for k in owners]


@pytest.mark.parametrize("kind", ["cosine", "negative-euclidean"])
def test_ranks_equal_a_loop(faces, kind):
    gallery, probes, names = faces
    lost = np.zeros(40, dtype=bool)
    lost[[3, 30]] = True
    probes[3] = np.nan
    found = identification_ranks(gallery, PEOPLE, probes, names, kind, lost)
    for row, (probe, name) in enumerate(zip(probes, names, strict=True)):
        if lost[row]:
            assert found[row] == 13
            continue
        scores = [score_pairs(probe[None], entry[None], kind)[0] for entry in gallery]
        assert found[row] == 1 + sum(score > scores[PEOPLE.index(name)] for score in scores)
    assert len(set(found)) > 5


@pytest.mark.parametrize("k", [1, 3, 5])
def test_rates_equal_scikit_learns(faces, k):
    gallery, probes, names = faces
    scores = [[score_pairs(p[None], g[None], "cosine")[0] for g in gallery] for p in probes]
    theirs = top_k_accuracy_score(names, np.array(scores), k=k, labels=PEOPLE)
    ranks = identification_ranks(gallery, PEOPLE, probes, names, "cosine")
    (ours,) = identification_rates(ranks, names, [k], repetitions=50)
    assert ours.value == pytest.approx(theirs)
    assert ours.n == 40


def test_of_equal_scores_the_worst_rank_counts():
    gallery = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    probes = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    found = identification_ranks(gallery, PEOPLE[:4], probes, PEOPLE[:4], "negative-euclidean")
    assert found.tolist() == [2, 2, 1, 1]
    constant = np.ones((4, 2), np.float32)
    assert identification_ranks(constant, PEOPLE[:4], constant, PEOPLE[:4], "cosine").tolist() == [4] * 4


def test_who_is_not_enrolled_is_never_identified(faces):
    gallery, probes, names = faces
    found = identification_ranks(gallery[:5], PEOPLE[:5], probes, names, "cosine")
    stranger = np.array([name not in PEOPLE[:5] for name in names])
    assert stranger.any()
    assert (found[stranger] == 6).all()
    assert (found[~stranger] <= 5).all()


def test_blocks_change_nothing(faces, monkeypatch):
    gallery, probes, names = faces
    whole = identification_ranks(gallery, PEOPLE, probes, names, "negative-euclidean")
    monkeypatch.setattr("facedecode.statistics.security._BLOCK_SCORES", 30)  # two probes at once
    assert identification_ranks(gallery, PEOPLE, probes, names, "negative-euclidean").tolist() == whole.tolist()


def test_random_probes_are_at_chance():
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(50, 16))
    probes, names = generator.normal(size=(20_000, 16)), [f"p{k % 50:02d}" for k in range(20_000)]
    ranks = identification_ranks(gallery, [f"p{k:02d}" for k in range(50)], probes, names, "cosine")
    rates = identification_rates(ranks, names, [1, 10, 25, 50], repetitions=20)
    assert [rate.value for rate in rates] == pytest.approx([0.02, 0.2, 0.5, 1], abs=0.012)  # four standard errors


def test_intervals_draw_people_again(faces):
    _, _, names = faces
    ranks = np.random.default_rng(2).integers(1, 13, size=40)
    kinds = sorted(set(names))
    own = {name: np.mean([r <= 5 for r, who in zip(ranks, names, strict=True) if who == name]) for name in kinds}
    replicates = []
    for draw in person_draws(len(kinds), 200, seed=4):
        drawn = [name for name, count in zip(kinds, draw, strict=True) for _ in range(count)]
        replicates.append(np.mean([own[name] for name in drawn]))
    left_out = [np.mean([own[other] for other in kinds if other != name]) for name in kinds]
    value = np.mean(list(own.values()))
    (by_person,) = identification_rates(ranks, names, [5], person_weighted=True, repetitions=200, seed=4)
    expected = corrected(value, np.array(replicates), np.array(left_out))
    unlike = sum(share != np.median([*own.values()]) for share in own.values())
    wanted = with_unseen(value, expected, (0, 1), unseen_share(len(kinds), unlike))
    assert (by_person.value, by_person.low, by_person.high) == pytest.approx((value, *wanted))
    assert by_person.n == len(kinds)


def test_the_first_image_by_path_with_a_template_is_enrolled():
    paths = ["b/2.jpg", "a/1.jpg", "b/1.jpg", "a/0.jpg", "c/1.jpg"]
    missing = np.array([False, False, False, True, True])
    assert enrolled_rows(paths, [path[0] for path in paths], missing).tolist() == [1, 2]


def test_wrong_input(faces):
    gallery, probes, names = faces
    with pytest.raises(BadInput, match="one template a person"):
        identification_ranks(gallery[:2], ["p0", "p0"], probes, names, "cosine")
    with pytest.raises(BadInput, match="give one each"):
        identification_ranks(gallery, PEOPLE, probes, names[1:], "cosine")
    with pytest.raises(BadInput, match="one recognizer"):
        identification_ranks(gallery[:, 1:], PEOPLE, probes, names, "cosine")
