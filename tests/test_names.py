"""Names of people and images from elsewhere have one form."""

from __future__ import annotations

import pytest

from facedecode.names import (
    LFW_TWICE,
    comparable_name,
    image_name,
    known_otherwise_in_lfw,
    person_name,
    shared_people,
    twice_in_lfw,
)


def test_composed_and_decomposed_letters_are_one_person() -> None:
    assert person_name("Jose\u0301 Sa\u0301 ") == person_name("José Sá") == "José Sá"
    assert person_name(" ") is person_name("") is person_name(None) is None


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("./Ann/1.jpg", "Ann/1.jpg"),
        ("Ann\\1.jpg ", "Ann/1.jpg"),
        (".\\Ann\\\\1.jpg", "Ann/1.jpg"),
        ("/data//Ann/./1.jpg", "/data/Ann/1.jpg"),
        ("Jose\u0301/1.jpg", "José/1.jpg"),
        ("../1.jpg", "../1.jpg"),
    ],
)
def test_paths_of_images_in_tables(written: str, name: str) -> None:
    assert image_name(written) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("George_W_Bush", "george w. bush"),
        ("Choi_Sung-hong", "Sung_Hong_Choi"),
        ("Jose\u0301_Sa\u0301", "JOSÉ-SA"),
        ("Smith, John", "John\u2011Smith"),
        ("O\u2019Neil", "O'NEIL"),
        ("Straße", "STRASSE"),
        ("\uff2a\uff4f\uff48\uff4e", "john\u200b"),
        ("Søren_Łuk", "soren luk"),
        ("p-1", "P_1"),
    ],
)
def test_one_persons_names_compare_equal(one: str, other: str) -> None:
    assert comparable_name(one) == comparable_name(other)
    assert shared_people([one], [other]) == {one}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("David_Kelly", "David_Kelley"),  # two men of LFW
        ("s1_12", "s12_1"),
        ("1-11", "11-1"),
        ("-1", "1"),
        ("p1", "p01"),
        ("か", "が"),  # a mark makes another letter
        ("कि", "क"),
        ("_", "-"),
        ("a+", "a"),
    ],
)
def test_other_peoples_names_do_not(one: str, other: str) -> None:
    assert comparable_name(one) != comparable_name(other)
    assert not shared_people([one], [other])


def test_lfws_people_under_two_names_are_one() -> None:
    for one, other in LFW_TWICE:
        assert shared_people([one.upper()], [other]) == {one.upper()}
        assert twice_in_lfw([other, "Somebody", one]) == [(min(one, other), max(one, other))]
        assert known_otherwise_in_lfw([one], [other]) == {one} and not known_otherwise_in_lfw([one], [one, other])
    assert not shared_people(["Noer_Muis"], ["Hasan_Wirayuda"]) and not twice_in_lfw(["Noer_Muis", "Wang_Nan"])
