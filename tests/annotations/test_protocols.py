"""LFW's pairs and people files: LFW's own, and every way to break one."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from facedecode.annotations.pairs import image_path, read_pairs
from facedecode.annotations.protocols import Person, held_out_people, people_names, read_people
from facedecode.errors import BadInput


def write(path, text):
    path.write_text(text)
    return path


def test_view_2_pairs_of_lfw(lfw):
    pairs = read_pairs(lfw / "protocol" / "pairs.txt")
    assert len(pairs) == 6000
    assert np.bincount(pairs.fold).tolist() == [600] * 10
    assert [pairs.mated[pairs.fold == fold].sum() for fold in range(10)] == [300] * 10
    assert pairs.left[0] == "Abel_Pacheco/Abel_Pacheco_0001.jpg"
    assert pairs.right[-1] == "Sok_An/Sok_An_0001.jpg"
    same = np.array([a == b for a, b in zip(pairs.left_people, pairs.right_people, strict=True)])
    assert np.array_equal(same, pairs.mated)


def test_view_1_pairs_of_lfw(lfw):
    train = read_pairs(lfw / "protocol" / "pairsDevTrain.txt")
    test = read_pairs(lfw / "protocol" / "pairsDevTest.txt")
    assert (len(train), train.mated.sum(), len(test), test.mated.sum()) == (2200, 1100, 1000, 500)
    assert not test.fold.any()


def test_people_of_lfw(lfw):
    train = read_people(lfw / "protocol" / "peopleDevTrain.txt")
    test = read_people(lfw / "protocol" / "peopleDevTest.txt")
    everybody = read_people(lfw / "protocol" / "people.txt")
    assert (len(train), len(test), len(everybody)) == (4038, 1711, 5749)
    assert sum(p.images for p in test) == 3708
    assert sum(p.images for p in train if p.name != "George_W_Bush") == 8995
    assert not {p.name for p in train} & {p.name for p in test}
    assert {p.name for p in train} | {p.name for p in test} == {p.name for p in everybody}
    assert sum(p.images for p in everybody) == 13233
    folds = collections.Counter(p.fold for p in everybody)
    assert sorted(folds) == list(range(10)) and folds[0] == 601


def test_pairs_round(tmp_path):
    path = write(tmp_path / "pairs.txt", "2 1\nA 1 2\nA 1 B 2\nC 3 1\r\nC 1 D 10000\n\n")
    pairs = read_pairs(path)
    assert pairs.left == ["A/A_0001.jpg", "A/A_0001.jpg", "C/C_0003.jpg", "C/C_0001.jpg"]
    assert pairs.right == ["A/A_0002.jpg", "B/B_0002.jpg", "C/C_0001.jpg", "D/D_10000.jpg"]
    assert pairs.fold.tolist() == [0, 0, 1, 1] and pairs.mated.tolist() == [True, False] * 2
    left, right = pairs.rows(["A/A_0002.jpg", "A/A_0001.jpg", "C/C_0001.jpg"])
    assert left.tolist() == [1, 1, -1, 2] and right.tolist() == [0, -1, 2, -1]
    assert image_path("Zico", 3) == "Zico/Zico_0003.jpg"


def test_people_round(tmp_path):
    assert read_people(write(tmp_path / "a", "2\nA 1\nB 2\n")) == [Person("A", 1, 0), Person("B", 2, 0)]
    assert read_people(write(tmp_path / "b", "2\n1\nA 1\n1\nB 2")) == [Person("A", 1, 0), Person("B", 2, 1)]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("0\n", 1, "whole number"),
        ("1 2 3\n", 1, "one number"),
        ("1\nA 1 2\n", 3, "ends"),
        ("1\nA 1 2\nA 1 B 1\nA 1 2\n", 4, "more lines"),
        ("1\nA 1 2\n\nA 1 B 1\n", 3, "empty"),
        ("1\nA 1 B 2\nA 1 B 1\n", 2, "mated"),
        ("1\nA 1 2\nA 1 2\n", 3, "non-mated"),
        ("1\nA 1 1\nA 1 B 1\n", 2, "different images"),
        ("1\nA 1 2\nA 1 A 2\n", 3, "different people"),
        ("1\nA one 2\nA 1 B 1\n", 2, "one"),
        ("1\nA -1 2\nA 1 B 1\n", 2, "-1"),
        ("1\nA 1 ²\nA 1 B 1\n", 2, "²"),
        ("1\n../A 1 2\nA 1 B 1\n", 2, "name"),
        ("1\n.. 1 2\nA 1 B 1\n", 2, "name"),
        ("1\n..\\A 1 2\nA 1 B 1\n", 2, "name"),
    ],
)
def test_wrong_pairs_name_file_and_line(tmp_path, text, line, word):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=word) as caught:
        read_pairs(path)
    assert f"{path}, line {line}: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "2\nA 1\n", "1\nA\n", "2\n1\nA 1\n", "1\nA 1\nB 1\n", "2\nA 1\nA 2\n", "1 2\n"])
def test_wrong_people(tmp_path, text):
    with pytest.raises(BadInput, match=r"people\.txt"):
        read_people(write(tmp_path / "people.txt", text))


def test_people_as_a_plain_list(tmp_path):
    assert people_names(write(tmp_path / "a", "Ann\n\n Bob Brown \n")) == ["Ann", "Bob Brown"]
    assert people_names(write(tmp_path / "b", "2\nA 1\nB 2\n")) == ["A", "B"]


@pytest.mark.parametrize("text", ["", "\n", "Ann\nBob\nAnn\n", "2\nA 1\n"])
def test_wrong_lists_of_people(tmp_path, text):
    with pytest.raises(BadInput, match=r"people\.txt"):
        people_names(write(tmp_path / "people.txt", text))


def test_unreadable(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_bytes(b"\xef\xbb\xbf\n \n")
    (tmp_path / "no_mark").write_bytes("2\nA\t1\t2\n".encode("utf-16-le"))
    said = {"absent": "no such file", "binary": "UTF-8", ".": "a folder", "empty": "empty", "no_mark": "UTF-8"}
    for name, what in said.items():
        with pytest.raises(BadInput, match=what):
            read_pairs(tmp_path / name)


def test_held_out_people_are_disjoint_and_do_not_depend_on_order() -> None:
    identities = [f"person {i % 997}" for i in range(5000)]
    paths = [f"{name}/{row}.jpg" for row, name in enumerate(identities)]
    held_out = held_out_people(identities, paths)
    names = np.array(identities)
    assert not set(names[held_out]) & set(names[~held_out])
    assert 0.07 < len(set(names[held_out])) / 997 < 0.13
    order = np.random.default_rng(0).permutation(5000)
    shuffled = held_out_people([identities[i] for i in order], [paths[i] for i in order])
    np.testing.assert_array_equal(shuffled, held_out[order])
    assert 0.08 < held_out_people([None] * 5000, paths).mean() < 0.12
    np.testing.assert_array_equal(held_out_people(identities, [None] * 5000), held_out)


def test_held_out_people_leaves_something_to_fit() -> None:
    for number in range(40):  # some of these names alone would be held out
        assert not held_out_people([f"person {number}"] * 3, ["a", "b", "c"]).any()
    assert held_out_people([], []).shape == (0,)
    with pytest.raises(BadInput, match="row 1 has neither"):
        held_out_people(["a", None], ["x", None])


# Applying
