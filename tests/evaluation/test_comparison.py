"""Two sets of templates on the same pairs; what is recorded of the machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from template_sets import BareTemplates, accuracy_difference

from facedecode.annotations.pairs import Pairs, image_path
from facedecode.errors import BadInput
from facedecode.evaluation.trials import PairsFile
from facedecode.identity import RecognizerId
from facedecode.provenance import environment
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.intervals import corrected
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.verification import FoldSplit

RECOGNIZER = RecognizerId("tiny", "ab" * 32, score="cosine")


@pytest.fixture
def pairs():
    """Two folds of 12 mated and 12 non-mated pairs of 24 people."""
    names = [f"p{k:02d}" for k in range(24)]
    left, right, people, fold = [], [], [], []
    for k, name in enumerate(names):
        other = names[(k + 1) % 12 + k // 12 * 12]  # of the same fold
        left += [image_path(name, 1), image_path(name, 1)]
        right += [image_path(name, 2), image_path(other, 2)]
        people += [(name, name), (name, other)]
        fold += [k // 12] * 2
    mated = np.array([a == b for a, b in people])
    return Pairs(left, right, [a for a, _ in people], [b for _, b in people], mated, np.array(fold))


def templates_of(pairs, path, noise, failed=(), seed=0):
    generator = np.random.default_rng(seed)
    people = sorted(set(pairs.left_people))
    centers = generator.normal(size=(len(people), 4))
    paths = [image_path(name, k) for name in people for k in (1, 2)]
    found = centers.repeat(2, axis=0) + noise * generator.normal(size=(len(paths), 4))
    keep = [i for i, name in enumerate(paths) if name not in failed]
    kept = [paths[i] for i in keep]
    return BareTemplates(path, f"noise {noise}", RECOGNIZER, kept, found[keep].astype("f4"), list(failed))


def test_files_come_back(pairs, tmp_path):
    made = templates_of(pairs, tmp_path / "t.npz", 0.5, failed=["p03/p03_0001.jpg"])
    made.save()
    read = BareTemplates.load(tmp_path / "t.npz")
    assert (read.paths(), read.failures(), read.name) == (made.paths(), made.failures(), made.name)
    assert (read.templates() == made.templates()).all()
    compared = PairsFile(pairs, "pairs.txt").compare(read)
    assert (compared.missing.sum(), len(compared.missing)) == (1, 48)


@pytest.mark.parametrize("damage", ["text", "pickle", "keys", "nan"])
def test_other_files_are_refused(pairs, tmp_path, damage):
    path = tmp_path / "t.npz"
    if damage == "text":
        path.write_text("no")
    elif damage == "pickle":
        np.savez(path, about=np.array([{}], dtype=object), paths=[], failed=[], templates=[])
    elif damage == "keys":
        np.savez(path, templates=np.zeros((1, 2), "f4"))
    else:
        made = templates_of(pairs, path, 0.5)
        made.templates()[0] = np.nan
        made.save()
    with pytest.raises(BadInput, match=r"t\.npz"):
        BareTemplates.load(path)


def test_a_set_does_not_differ_from_itself(pairs, tmp_path):
    one = templates_of(pairs, tmp_path / "a.npz", 0.7)
    for difference in vars(accuracy_difference(one, one, pairs, repetitions=30)).values():
        assert (difference.value, difference.n) == (0, 48)
        assert difference.low == pytest.approx(-difference.high) and difference.high > 0


def test_difference_equals_loops(pairs, tmp_path):
    good = templates_of(pairs, tmp_path / "a.npz", 0.5)
    lost = "p03/p03_0001.jpg"
    poor = templates_of(pairs, tmp_path / "b.npz", 1.2, failed=[lost])
    found = accuracy_difference(good, poor, pairs, repetitions=12, seed=2)

    def scores(made):
        rows = dict(zip(made.paths(), made.templates(), strict=True))
        return np.array(
            [
                score_pairs(rows[a][None], rows[b][None], "cosine")[0] if a in rows and b in rows else -np.inf
                for a, b in zip(pairs.left, pairs.right, strict=True)
            ]
        )

    people, both_scores = sorted(set(pairs.left_people)), [scores(good), scores(poor)]
    both = np.array([lost not in pair for pair in zip(pairs.left, pairs.right, strict=True)])
    assert not both.all()
    for estimate, keep in ((found.all_pairs, np.ones(48, dtype=bool)), (found.common_pairs, both)):
        mated, fold = pairs.mated[keep], pairs.fold[keep]

        def difference(weights, keep=keep, mated=mated, fold=fold):
            means = [FoldSplit(values[keep], mated, fold).accuracy(weights).mean for values in both_scores]
            return means[0] - means[1]

        values = []
        for drawn in [*person_draws(len(people), 12, 2), *(1 - np.eye(len(people)))]:
            left, right = (
                np.array([drawn[people.index(name)] for name in side])[keep]
                for side in (pairs.left_people, pairs.right_people)
            )
            values.append(difference(np.where(mated, left, left * right)))
        assert estimate.value == difference(None) > 0
        wanted = corrected(difference(None), np.array(values[:12]), np.array(values[12:]))
        assert (estimate.low, estimate.high) == pytest.approx(wanted)
        assert estimate.n == keep.sum()


def test_environment_can_be_published():
    text = json.dumps(environment(), allow_nan=False)
    assert {"facedecode", "torch", "cpu", "cores"} <= set(json.loads(text))
    assert "/home" not in text
