"""Names of people and images from elsewhere have one form."""

from __future__ import annotations

import pytest

from facedecode.names import image_name, person_name


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
