"""Pairs files of all kinds: LFW's with names of several words, and tables of paths with a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedecode.annotations.pairs import Pairs, read_pairs
from facedecode.errors import BadInput

LEFT = ["A/1.jpg", "B/1.jpg", "A/1.jpg", "B/2.jpg"]
RIGHT = ["A/2.jpg", "B/2.jpg", "B/1.jpg", "C/1.jpg"]
MATED = [True, True, False, False]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(form: str, same: str = "1", different: str = "0", header: str = "") -> str:
    lines = [
        form.format(a, b, same if m else different, k % 2)
        for k, (a, b, m) in enumerate(zip(LEFT, RIGHT, MATED, strict=True))
    ]
    return "\n".join([header] * bool(header) + lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        rows("{} {} {}"),
        rows("{2} {0} {1}"),
        rows("{}\t{}\t{}", "1", "-1"),
        rows("{},{},{}"),
        rows("{}, {}, {}", "True", "False"),
        rows("{};{};{}", header="img1;img2;same"),
        rows("{},{},{}", header="file1,file2,label"),
        rows("{},{},{}", "same", "different", header="path_a,path_b,is_same"),
        rows("{2},{0},{1}", "genuine", "impostor", header="type,probe,reference"),
        rows("{},{},{}", "0", "1", header="a,b,different"),
        rows("{0},{1},{2},", header="img1,img2,same,"),
        rows("{3},{0},{1},{2}", header=",img1,img2,same"),
        rows("7,{},{},{}", header="score,img1,img2,issame"),
        rows("{},{},{}").replace("/", "\\"),
        rows("./{},./{},{}"),
        "4\n" + rows("{} {} {}"),
        "sep=;\n" + rows("{};{};{}"),
    ],
)
@pytest.mark.parametrize(("encoding", "ends"), [("utf-8", "\n"), ("utf-16", "\r\n"), ("utf-8-sig", "\r")])
def test_pairs_by_path(tmp_path: Path, text: str, encoding: str, ends: str) -> None:
    pairs = read_pairs(write(tmp_path / "p.csv", text.replace("\n", ends), encoding))
    assert (pairs.left, pairs.right, pairs.mated.tolist()) == (LEFT, RIGHT, MATED)
    assert not pairs.fold.any()


@pytest.mark.parametrize(
    "text",
    [
        rows("{},{},{},{}", header="img1,img2,same,fold"),
        rows("{3},{0},{1},{2}", "yes", "no", header="split,img1,img2,match"),
        rows("{},{},{},1{}"),
    ],
)
def test_folds_of_pairs(tmp_path: Path, text: str) -> None:
    pairs = read_pairs(write(tmp_path / "p.csv", text))
    assert pairs.fold.tolist() == [0, 1, 0, 1] and pairs.mated.tolist() == MATED


def test_six_hundred_pairs_a_fold(tmp_path: Path) -> None:
    lines = [f"imgs/{k}.jpg\timgs/{k + 1}.jpg\t{k // 300 % 2}\t{k // 600}" for k in range(1800)]
    pairs = read_pairs(write(tmp_path / "agedb.txt", "\n".join(lines)))
    assert np.bincount(pairs.fold).tolist() == [600] * 3 and pairs.mated.sum() == 900


def test_paths_with_spaces_and_without_endings(tmp_path: Path) -> None:
    spaced = "Ana Silva/1.jpg\tAna Silva/2.jpg\t1\nAna Silva/1.jpg\tBo Li/1.jpg\t0\n"
    for text in (spaced, spaced.replace("\t", ",")):
        pairs = read_pairs(write(tmp_path / "p.txt", text))
        assert pairs.left == ["Ana Silva/1.jpg"] * 2 and pairs.right == ["Ana Silva/2.jpg", "Bo Li/1.jpg"]
    bare = "n01/0001_01,n01/0002_01,1\nn01/0001_01,n02/0001_01,0\n"
    for text in (bare, "img1,img2,label\n" + bare):
        assert read_pairs(write(tmp_path / "p.txt", text)).right == ["n01/0002_01", "n02/0001_01"]
    numbers = "7,3,1\n7,5,0\n"  # not LFW's, whose images are numbered from 1
    assert read_pairs(write(tmp_path / "p.txt", numbers)).left == ["7", "7"]
    with pytest.raises(BadInput, match=r"part the cells by tabs or commas where names have spaces"):
        read_pairs(write(tmp_path / "p.txt", spaced.replace("\t", " ")))


def test_lfws_formats_with_names_of_several_words(tmp_path: Path) -> None:
    text = "2\nAna Silva\t1\t2\nBo Li\t1\t2\nAna Silva\t1\tBo Li\t1\nBo Li\t2\tCy de Wit\t1\n"
    pairs = read_pairs(write(tmp_path / "p.txt", text))
    assert pairs.left_people == ["Ana Silva", "Bo Li", "Ana Silva", "Bo Li"] and pairs.mated.tolist() == MATED
    assert pairs.right[3] == "Cy de Wit/Cy de Wit_0001.jpg"
    folds = "2\t1\nAna Silva\t1\t2\nAna Silva\t1\t001\t1\n001 1 2\n001\t1\tJose\u0301\t1\n"
    pairs = read_pairs(write(tmp_path / "p.txt", folds, "utf-16"))
    assert pairs.right_people == ["Ana Silva", "001", "001", "Jos\u00e9"] and pairs.fold.tolist() == [0, 0, 1, 1]
    with pytest.raises(BadInput, match=r"line 2: expected .*; part the fields by tabs where names have spaces"):
        read_pairs(write(tmp_path / "p.txt", text.replace("\t", " ")))


def test_two_lines_a_pair_as_calfw_has_them(tmp_path: Path) -> None:
    sides = zip(LEFT, RIGHT, MATED, strict=True)
    text = "".join(f"{name} {int(same)}\n" for a, b, same in sides for name in (a, b))
    for written in (text, text.replace(" 1", " 7"), text.replace(" ", "\t")):
        pairs = read_pairs(write(tmp_path / "p.txt", written))
        assert (pairs.left, pairs.right, pairs.mated.tolist()) == (LEFT, RIGHT, MATED)
    with pytest.raises(BadInput, match="no two columns of images"):  # the lines of a pair do not agree
        read_pairs(write(tmp_path / "p.txt", text.partition("\n")[2] + "A/1.jpg 1\n"))


def test_lfws_pairs_as_csv(tmp_path: Path) -> None:
    text = "name,imagenum1,imagenum2,\nAnn,1,2,\nBob,1,2,\nAnn,1,Bob,1\nBob,2,Cy,1\n"
    pairs = read_pairs(write(tmp_path / "p.csv", text))
    assert pairs.mated.tolist() == MATED and pairs.right[3] == "Cy/Cy_0001.jpg"
    unlike = "name,imagenum1,name,imagenum2\nAnn,1,Bob,1\n"
    assert read_pairs(write(tmp_path / "p.csv", unlike)).left_people == ["Ann"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A/1.jpg A/2.jpg\nA/1.jpg B/1.jpg\n", "no column says whether two images are of one person"),
        (rows("{},{},{}").replace(",0\n", ",maybe\n", 1), "line 3: 'maybe' is no label; give 1 or 0"),
        (rows("{},{},{}").replace(",1\n", ",maybe\n", 1), "line 1: 'maybe' is no label; give 1 or 0"),
        (rows("{},{},{}", header="a,b,same").replace(",0\n", ",\n"), "line 4: '' is no label"),
        (rows("{},{},{},{}"), "two columns may be the labels"),
        (rows("{},{}", header="img,other"), "no column says"),
        (rows("{0},{2}", header="img,same"), "no two columns of images"),
        (rows("{},{},{}") + "A/1.jpg,A/2.jpg\n", "line 5: 2 cells where there are 3"),
        (rows("{},{},{}", header="a,b,same") + ",A/2.jpg,1\n", "line 6: a pair without the path of an image"),
        ("9\n" + rows("{} {} {}"), "says 9 pairs, and 4 follow"),
        ("x\n", "give LFW's format, or two columns of paths"),
        ("900000000 900000000\nA 1 2\n", "the file ends before"),
    ],
)
def test_tables_that_are_no_pairs(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=r"p\.csv") as error:
        read_pairs(write(tmp_path / "p.csv", text))
    assert says in str(error.value) and "\n" not in str(error.value)


def pairs_of(left: list[str], right: list[str], mated: list[bool]) -> Pairs:
    nobody: list[str | None] = [None] * len(left)
    return Pairs(left, right, nobody, nobody, np.array(mated), np.zeros(len(left), np.int64))


def test_people_of_pairs_are_the_stores() -> None:
    known = {"x/A/1.png": "Ann", "x/A/2.png": "Ann", "x/B/1.png": "Bob", "x/B/2.png": "Bob", "x/C/1.png": None}
    found, contradicts = pairs_of(LEFT, RIGHT, MATED).found_in(known, known)
    assert found.left == ["x/A/1.png", "x/B/1.png", "x/A/1.png", "x/B/2.png"] and not contradicts.any()
    assert found.left_people == ["Ann", "Bob", "Ann", "Bob"] and found.right_people == [
        "Ann",
        "Bob",
        "Bob",
        "x/C/1.png",
    ]
    _, contradicts = pairs_of(LEFT, RIGHT, [True, False, True, False]).found_in(known, known)
    assert contradicts.tolist() == [False, True, True, False]


def test_people_whom_nobody_names_are_what_mated_pairs_connect() -> None:
    names = ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    left = ["1.jpg", "2.jpg", "1.jpg", "4.jpg", "1.jpg"]
    right = ["2.jpg", "3.jpg", "4.jpg", "5.jpg", "3.jpg"]
    found, contradicts = pairs_of(left, right, [True, True, False, True, False]).found_in(
        dict.fromkeys(names), dict.fromkeys(names)
    )
    assert contradicts.tolist() == [False] * 4 + [True]  # 1, 2 and 3 are one person
    assert [a == b for a, b in zip(found.left_people, found.right_people, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    # One image between two named people is of one of them.
    known = {"1.jpg": "Ann", "2.jpg": None, "3.jpg": "Bob"}
    _, contradicts = pairs_of(["1.jpg", "2.jpg"], ["2.jpg", "3.jpg"], [True, True]).found_in(known, known)
    assert contradicts.tolist() == [False, True]


def test_an_image_with_several_templates_is_no_image_of_a_pair() -> None:
    pairs = pairs_of(LEFT, RIGHT, MATED)
    with pytest.raises(BadInput, match=r"1 images .* several templates, of several faces \(A/1\.jpg\)"):
        pairs.rows(["A/1.jpg", "A/2.jpg", "A/1.jpg", None, None])
    assert pairs.rows(["A/1.jpg", "Z/1.jpg", "Z/1.jpg", None, None])[0].tolist() == [0, -1, 0, -1]
