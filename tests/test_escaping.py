"""Names from data, where they are shown or written."""

from __future__ import annotations

import csv
import io
import itertools
import re

import pytest

from facedecode.escaping import LONGEST_FILE_NAME, csv_cell, file_name, file_names, from_csv_cell, visible
from facedecode.files import csv_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 山田　太郎 👩\u200d🔬 علی\u200cرضا", "Zoë 山田　太郎 👩\u200d🔬 علی\u200cرضا"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\rb\nc\td", "a\\x0db\\x0ac\\x09d"),
        ("\x7f\x9b31m", "\\x7f\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2066x\u2069\u2028\u2029", "\\u2066x\\u2069\\u2028\\u2029"),
        ("\udcff\U000e0041", "\\udcff\\U000e0041"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown and visible(shown) == shown


def test_some_characters_can_be_kept() -> None:
    assert visible("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


FORMULAS = ["=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+cmd", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1", "-", "- 5"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text_and_comes_back(text: str) -> None:
    assert csv_cell(text) == f"'{text}" and from_csv_cell(csv_cell(text)) == text
    # What begins with an apostrophe of its own comes back, too.
    assert from_csv_cell(csv_cell(f"'{text}")) == f"'{text}" and csv_cell(f"'{text}") != csv_cell(text)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=HYPERLINK(1)", "x;'=HYPERLINK(1)"),
        ("x| +1|@y", "x| '+1|'@y"),
        ("\t=1", "'\t'=1"),
        ('a\n"=1', "a\n\"'=1"),
        ("=a;'=b", "'=a;''=b"),
        ("-1;2", "'-1;2"),
    ],
)
def test_a_formula_is_text_also_where_others_part_cells(text: str, cell: str) -> None:
    assert csv_cell(text) == cell and from_csv_cell(cell) == text


def test_every_text_comes_back() -> None:
    for text in map("".join, itertools.product("x=-';\t\n\" ", repeat=5)):
        cell = csv_cell(text)
        assert from_csv_cell(cell) == text
        assert not any(part.lstrip(' "').startswith(("=", "-")) for part in re.split(r"[;\t\n]", cell)[1:])


@pytest.mark.parametrize("text", ["-0.5", "+1e5", "-inf", "0", "", "a=b", "'quoted'", "O'Neill", " =1", "a;b=c", "Ann"])
def test_numbers_and_other_texts_stay(text: str) -> None:
    assert csv_cell(text) == text == from_csv_cell(text)


def test_a_table_has_no_formula_and_all_its_numbers() -> None:
    rows = [["=a", -0.5, "-0.500000", None, 3], ["line\nend", -1, 'a "b", c', "@x", float("-inf")]]
    read = list(csv.reader(io.StringIO(csv_text(["@title", "b", "c", "d", "e"], rows), newline="")))
    assert read == [
        ["'@title", "b", "c", "d", "e"],
        ["'=a", "-0.5", "-0.500000", "", "3"],
        ["line\nend", "-1", 'a "b", c', "'@x", "-inf"],
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("P0__P0_0001", "P0__P0_0001"),
        ("Zoë 山田", "Zoë 山田"),
        ("a/b\\c:d", "a%2Fb%5Cc%3Ad"),
        ("<img src=x onerror=alert(1)>", "%3Cimg src=x onerror=alert(1)%3E"),
        ("a\0b\x1bc\u202ed", "a%00b%1Bc%E2%80%AEd"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("CON", "%43ON"),
        ("com1.tar", "%63om1.tar"),
        ("console", "console"),
        ("ends. ", "ends.%20"),
        ("", "%"),
    ],
)
def test_a_name_is_one_that_every_file_system_takes(text: str, name: str) -> None:
    assert file_name(text) == name


@pytest.mark.parametrize("letter", ["x", "é", "山", "\x1b"])
def test_a_long_name_is_cut_in_bytes(letter: str) -> None:
    names = [file_name(letter * count, "-confidence.png") for count in (300, 301)]
    assert names[0] != names[1]
    for name in names:
        assert 230 < len(f"{name}-confidence.png".encode()) <= LONGEST_FILE_NAME


def test_names_that_would_coincide_get_their_numbers() -> None:
    names = ["a", "A", "a_00001", None, "", "b", "e\u0301", "é"]
    made = file_names(names)
    assert made[3:6] == ["00003", "00004", "b"]
    folded = {name.casefold() for name in made}
    assert len(folded) == len(names) and "a_00000" in folded
    assert file_names(["x" * 300, "x" * 300])[0] != file_names(["x" * 300, "x" * 300])[1]
    assert file_names([]) == []
