"""Data sets in one flat folder: files of people and labels, and what is left over on either side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facedecode.annotations.labels import DataSet, match, read_image_labels, read_label_file, read_renamed
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.pictures.finding import ImageRef
from facedecode.store import Store

IDENTITIES = "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n"
ATTRIBUTES = "3\n5_o_Clock_Shadow Male Young \n000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000003.jpg -1 -1 -1\n"
RENAMED = "idx  orig_idx   orig_file\n0           2      000003.jpg\n1           0      000001.jpg\n"


def refs(*names: str) -> list[ImageRef]:
    return [ImageRef(Path("/data") / name, name, None) for name in names]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "identity_CelebA.txt").write_text(IDENTITIES)
    (tmp_path / "list_attr_celeba.txt").write_text(ATTRIBUTES)
    (tmp_path / "mapping.txt").write_text(RENAMED)
    (tmp_path / "people.csv").write_text("path,identity,age\na/1.png,Ann,30\nb/1.png,Bob,\n")
    return tmp_path


def test_people_of_celeba(files: Path) -> None:
    images = refs("000003.png", "000001.jpg", "000009.jpg")  # the PNG edition keeps the names' stems
    found, said = DataSet(files / "identity_CelebA.txt").with_identities(images)
    assert [ref.identity for ref in found] == ["2880", "2880", None]
    assert [ref.relative for ref in found] == [ref.relative for ref in images]
    assert "1 of 3 images have no person" in said[0] and "000009.jpg" in said[0]
    assert "1 names of" in said[1] and "000002.jpg" in said[1]


def test_people_of_celeba_hq_are_found_through_its_mapping(files: Path) -> None:
    data = DataSet(files / "identity_CelebA.txt", files / "list_attr_celeba.txt", files / "mapping.txt")
    assert read_renamed(files / "mapping.txt") == {0: "000003.jpg", 1: "000001.jpg"}
    for names in (("0.jpg", "1.jpg"), ("00000.png", "00001.png"), ("imgHQ00000.png", "imgHQ00001.png")):
        images = refs(*names)
        assert [ref.identity for ref in data.with_identities(images)[0]] == ["2880", "2880"]
        table, _ = data.label_table(images)
        assert table.splitlines() == [
            "path,5_o_Clock_Shadow,Male,Young",
            f"{names[0]},-1,-1,-1",
            f"{names[1]},-1,1,1",
        ]
    # Without it, 1.jpg would be nobody rather than somebody else.
    with pytest.raises(BadInput, match=r"has nothing of 0\.jpg or any other image \(it has 000001\.jpg"):
        DataSet(files / "identity_CelebA.txt").with_identities(refs("0.jpg", "1.jpg"))


def test_people_of_a_csv_are_found_by_path(files: Path) -> None:
    found, said = DataSet(files / "people.csv").with_identities(refs("a/1.png", "b/1.png"))
    assert [ref.identity for ref in found] == ["Ann", "Bob"] and said == []
    with pytest.raises(BadInput, match="has nothing of"):  # a table of paths is not taken for one of names
        DataSet(files / "people.csv").with_identities(refs("c/1.png"))


def test_a_bare_name_is_one_image() -> None:
    assert match(["x/1.png", None], {"1.png": "Ann"}).values == ["Ann", None]
    with pytest.raises(BadInput, match=r"x/1\.png and y/1\.png are both called '1\.png'"):
        match(["x/1.png", "y/1.png"], {"1.png": "Ann"})
    # A stem that two names share is nobody's.
    assert match(["1.webp"], {"1.png": "Ann", "1.jpg": "Bob"}).values == [None]


def test_label_files_have_one_form(files: Path) -> None:
    read = read_label_file(files / "list_attr_celeba.txt")
    assert read.columns == ["path", "5_o_Clock_Shadow", "Male", "Young"]
    assert list(read.rows)[1] == (4, {"path": "000002.jpg", "5_o_Clock_Shadow": "1", "Male": "-1", "Young": "1"})
    boxes = files / "list_bbox_celeba.txt"  # its header names the column of names, too
    boxes.write_text("1\nimage_id x_1 y_1\n000001.jpg 95 71\n")
    assert list(read_label_file(boxes).rows) == [(3, {"image_id": "000001.jpg", "x_1": "95", "y_1": "71"})]
    assert read_label_file(boxes).image_column == "image_id"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "identities",
            IDENTITIES + "000001.jpg 2\n",
            "line 4: 000001.jpg is there already, with other values (2880 and 2); leave one",
        ),
        (
            "identities",
            IDENTITIES + "000004.jpg\n",
            "line 4: 1 cells where there are 2 columns (parted by white space)",
        ),
        ("identities", ATTRIBUTES, "no column 'identity'; there are path, 5_o_Clock_Shadow"),
        ("identities", "identity\nAnn\n", "no column 'path'"),
        ("identities", "path,identity\n,Ann\n", "line 2: no path"),
        ("identities", b"\xff\xfe\x00", "not a UTF-8 text file"),
        ("labels", ATTRIBUTES.replace("3\n", "4\n", 1), "says 4 images and lists 3; download it again"),
        ("labels", ATTRIBUTES.replace("-1  1  1", "-1  1"), "line 3: 3 cells where there are 4 columns|line 4"),
        ("labels", ATTRIBUTES.replace("000002", "000001"), "000001.jpg is there already"),
        ("labels", "path\n000001.jpg\n", "no column beside 'path'"),
        ("renamed", IDENTITIES, "not CelebA-HQ's mapping file"),
        ("renamed", RENAMED + "0 5 000002.jpg\n", "idx 0 is no number, or there already"),
    ],
)
def test_bad_files(files: Path, name: str, text: str | bytes, said: str) -> None:
    path = files / "bad.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    given = {"identities": files / "identity_CelebA.txt", "labels": files / "list_attr_celeba.txt", name: path}
    data = DataSet(**given)
    with pytest.raises(BadInput, match=r"bad\.txt") as error:
        data.with_identities(refs("000001.jpg", "0.jpg"))
        data.label_table(refs("000001.jpg", "0.jpg"))
    assert any(part in str(error.value) for part in said.split("|"))


def test_celebas_attributes_are_labels_of_a_store(tiny_store: Path, tmp_path: Path) -> None:
    store = Store.open(tiny_store)
    names = [path.rpartition("/")[2] for path in store.paths()]
    lines = [f"{name} {1 if k % 3 else -1} -1" for k, name in enumerate(names[:-1])]
    (tmp_path / "attr.txt").write_text("\n".join([str(len(lines)), "Smiling Male", *lines]) + "\n")
    found = read_image_labels(tmp_path / "attr.txt", "Smiling", store)
    assert found.values == ["1" if k % 3 else "-1" for k in range(29)] + [None]
    assert found.classes() == ("-1", "1") and found.unlabelled == [store.paths()[-1]]


def test_extract_of_a_flat_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for k, path in enumerate(sorted(photos.rglob("*.png"))[:2]):
        shutil.copy(path, tmp_path / "flat" / f"{k:06d}.png")
    (tmp_path / "ids.txt").write_text("000000.jpg 7\n000001.jpg 8\n000002.jpg 9\n")
    (tmp_path / "attr.txt").write_text("1\nMale\n000001.jpg -1\n")
    words = ["extract", str(tmp_path / "flat"), "-o", str(tmp_path / "emb"), "--identities", str(tmp_path / "ids.txt")]
    run = CliRunner().invoke
    dry = run(app, [*words, "--dry-run"])
    assert dry.exit_code == 0 and "1 names of" in dry.stderr
    told = run(app, [*words, "--labels", str(tmp_path / "attr.txt")])
    assert told.exit_code == 0, told.output
    store = Store.open(tmp_path / "emb")
    assert store.identities() == ["7", "8"]
    assert (tmp_path / "emb" / "labels.csv").read_text() == "path,Male\n000001.png,-1\n"
    assert read_image_labels(tmp_path / "emb" / "labels.csv", "Male", store).values == [None, "-1"]
    assert "1 of 2 images have no labels" in told.stderr
    other = run(app, ["extract", str(tmp_path / "flat"), "-o", str(tmp_path / "emb")])
    assert other.exit_code == 4 and "other settings" in other.stderr  # without people it is another store
    alone = ["--renamed", str(tmp_path / "ids.txt")]
    assert run(app, ["extract", str(tmp_path / "flat"), "-o", str(tmp_path / "e"), *alone]).exit_code == 2
