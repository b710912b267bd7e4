"""Tables as other programs write them: separators, encodings, names of columns, rows and names that are there twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facedecode.annotations.labels import DataSet, match, read_image_labels, read_person_labels
from facedecode.annotations.listing import read_image_list, read_people_list
from facedecode.annotations.pairs import read_pairs
from facedecode.annotations.protocols import people_names
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.pictures.finding import ImageRef
from facedecode.store import Store

PLAIN = "path,identity\nAnn/1.jpg,Ann\nBob/2.jpg,Bob\n"
IMAGES = ["Ann/1.jpg", "Bob/2.jpg"]


def people_of(path: Path, *images: str) -> tuple[list[str | None], str]:
    """Who is in each image by a table, and what is said."""
    refs = [ImageRef(Path("/data") / name, name, "folder") for name in images or IMAGES]
    named, notes = DataSet(path).with_identities(refs)
    return [ref.identity for ref in named], "\n".join(notes)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ", "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", ",,\n"),
        PLAIN.replace("\n", ",,\n").replace("identity,,", "identity"),
        PLAIN.replace("/", "\\"),
        PLAIN.replace("Ann/", "./Ann/").replace("Bob/", ".\\Bob\\"),
        PLAIN.replace("Ann/", "/data/set/Ann/").replace("Bob/", "/data/set/Bob/"),
        PLAIN.replace("Ann/", "C:\\faces\\Ann\\").replace("Bob/", "C:\\faces\\Bob\\"),
        PLAIN.replace(".jpg", ".png"),
        PLAIN.replace(".jpg", ""),
        PLAIN.replace("Ann\n", '"Ann"\n').replace("Bob/2.jpg", '"Bob/2.jpg"'),
        PLAIN.replace(",Ann", ', "Ann"').replace("path,", "path, "),
        PLAIN.replace("path,identity", ",path,identity").replace("\nAnn/", "\n0,Ann/").replace("\nBob/", "\n1,Bob/"),
        PLAIN.replace("\n", "\n\n") + "  \n",
        PLAIN.replace(",Ann", ",Ann ").replace(",Bob", ",  Bob"),
        PLAIN + "Ann/1.jpg,Ann\n",
        PLAIN.replace("path,identity", "Filename,Identity"),
        PLAIN.replace("path,identity", "image_path,Class_ID"),
        PLAIN.replace("path,identity", "img;label;fold")
        .replace(",", ";")
        .replace("\n", ";3\n")
        .replace("fold;3", "fold"),
        PLAIN.replace("path,identity", "subject,what")
        .replace("Ann/1.jpg,Ann", "Ann,Ann/1.jpg")
        .replace("Bob/2.jpg,Bob", "Bob,Bob/2.jpg"),
        PLAIN.replace("path,identity\n", ""),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "Ann/1.jpg Ann\nBob/2.jpg Bob\n",
        "2\nAnn/1.jpg Ann\nBob/2.jpg Bob\n",
        "image_id identity\nAnn/1.jpg Ann\nBob/2.jpg Bob\n",
        "2\nimage_id identity\nAnn/1.jpg  Ann\nBob/2.jpg  Bob\n",
        "Ann Ann/1.jpg\nBob Bob/2.jpg\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_table_in_the_habits_of_many_programs(tmp_path: Path, text: str, encoding: str) -> None:
    assert people_of(write(tmp_path / "people.csv", text.encode(encoding)))[0] == ["Ann", "Bob"]


def test_what_was_taken_for_what_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "people.csv", PLAIN.replace("path,identity", "File Name,Class_ID") + "Ann/1.jpg,Ann\n")
    _, said = people_of(path)
    assert "'File Name' is the image and 'Class_ID' is the person" in said and "1 rows of" in said and "twice" in said
    assert people_of(write(path, PLAIN))[1] == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PLAIN + "Ann/1.jpg,Bob\n", "line 4: Ann/1.jpg is there already, with other values (Ann and Bob)"),
        (PLAIN + ".\\Ann\\1.jpg,\n", "line 4: Ann/1.jpg is there already, with other values (Ann and nothing)"),
        ("path,name,class_id\nAnn/1.jpg,Ann,1\n", "no column 'identity'; there are path, name, class_id; call one of"),
        ("path,age\nAnn/1.jpg,30\n", "no column 'identity'; there are path, age"),
        ("name,identity\nAnn,Ann\n", "no column 'path'; there are name, identity"),
        ("Ann/1.jpg,Ann,30\n", "no header says what its 3 columns are"),
        (PLAIN + "Cy/1.jpg\n", "line 4: 1 cells where there are 2 columns"),
        (PLAIN + "Cy/1.jpg,Cy,3\n", "line 4: 3 cells where there are 2 columns (parted by ',')"),
        ("3\nAnn/1.jpg Ann\n", "says 3 images and lists 1"),
        (PLAIN.encode("utf-16-le"), "UTF-8"),
        (PLAIN.replace("Ann", "Zo\xeb").encode("cp1252"), "not a UTF-8 text file; save it as UTF-8"),
        ("", "empty"),
    ],
)
def test_tables_that_do_not_say(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(BadInput, match=r"people\.csv") as error:
        people_of(write(tmp_path / "people.csv", text))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_names_in_composed_and_decomposed_letters_are_one(tmp_path: Path) -> None:
    table = write(
        tmp_path / "people.csv", "path,identity\nJos\u00e9/1.jpg,Jos\u00e9\nAnn/1.jpg, \nJos\u00e9/2.jpg,Jose\u0301\n"
    )
    assert people_of(table, "Jose\u0301/1.jpg", "Jos\u00e9/2.jpg", "Ann/1.jpg")[0] == ["Jos\u00e9", "Jos\u00e9", None]
    assert people_names(write(tmp_path / "list", "Jose\u0301\n")) == ["Jos\u00e9"]


def test_images_are_found_by_the_ends_of_their_paths() -> None:
    table = {"set/a/1.jpg": "A", "set/b/1.jpg": "B"}
    assert match(["a/1.png", "b/1.jpg"], table).values == ["A", "B"]
    assert match(["x/set/a/1.jpg", "x/set/b/1.jpg"], table).values == ["A", "B"]
    assert match(["1.jpg"], table).values == [None]  # of two names
    # Where some are found by their whole path, others are not looked for by its end.
    assert match(["set/a/1.jpg", "y/set/b/1.jpg"], table).values == ["A", None]
    with pytest.raises(BadInput, match="are both called"):
        match(["x/a/1.jpg", "y/a/1.jpg"], {"a/1.jpg": "A"})


def test_labels_of_vggface2_name_people_by_numbers(tmp_path: Path, tiny_store: Path) -> None:
    text = 'Class_ID, Name, Sample_Num, Flag, Gender\nP1, "14th_Lama", 424, 0, m\nP2, "A_Fine", 315, 1, f\n'
    table = write(tmp_path / "identity_meta.csv", text)
    store = Store.open(tiny_store)
    assert read_person_labels(table, "Gender", store.identities()).of == {"P1": "m", "P2": "f"}
    with pytest.raises(BadInput, match="Class_ID and Name may both say who a person is, and neither names people"):
        read_person_labels(table, "Gender", ["n000001"])
    # A column that is asked for is no person, whatever its name.
    other = write(
        tmp_path / "labels.csv", "Image;label\n" + "".join(f"{path};{k % 2}\n" for k, path in enumerate(store.paths()))
    )
    assert read_image_labels(other, "label", store).values == [str(k % 2) for k in range(30)]
    assert read_person_labels(write(other, "filename,label\nP1/1.png,1\n"), "label").of == {"P1": "1"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2\nAna Silva\t2\nCy de Wit\t2\n", ["Ana Silva", "Cy de Wit"]),
        ("2\nAna Silva 2\nCy de Wit 2\n", ["Ana Silva", "Cy de Wit"]),
        ("2\n1\nAna Silva\t2\n1\nBo\t1\n", ["Ana Silva", "Bo"]),
        ("Ana Silva\t2\nBo\t3\n", ["Ana Silva", "Bo"]),
        ("001\n12\n013\n", ["001", "12", "013"]),
        ("12\n001\nAna\n", ["12", "001", "Ana"]),
        ("3\n001\n12\nAna Silva\n", ["001", "12", "Ana Silva"]),
        ("7\n", ["7"]),
        ("Silva, Ana\nLi, Bo\n", ["Silva, Ana", "Li, Bo"]),
        ("identity\nAna Silva\nBo\n", ["Ana Silva", "Bo"]),
        ("path;Identity\na/1.jpg;Ann\na/2.jpg;Ann\nb/1.jpg;Bob\n", ["Ann", "Bob"]),
    ],
)
def test_people_files(tmp_path: Path, text: str, names: list[str]) -> None:
    for encoding, ends in (("utf-8", "\n"), ("utf-16", "\r\n"), ("utf-8-sig", "\r")):
        assert people_names(write(tmp_path / "people.txt", text.replace("\n", ends).encode(encoding))) == names


def test_a_number_that_may_be_a_person_is_told_of(tmp_path: Path) -> None:
    with pytest.warns(FacedecodeWarning, match="2 in the first line is how many people follow"):
        assert people_names(write(tmp_path / "people.txt", "2\n5\n9\n")) == ["5", "9"]


def test_damaged_tables_end_as_bad_input(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [
        PLAIN,
        PLAIN.replace(",", ";"),
        '"path","identity"\n"a/1.jpg","Ann"\n',
        "2\nMale Young\na.jpg -1 1\nb.jpg 1 1\n",
        "2\nAnn\t1\t2\nBo\t1\t2\nAnn\t1\tBo\t1\nBo\t2\tCy\t1\n",
        "img1,img2,same\na.jpg,b.jpg,1\na.jpg,c.jpg,0\n",
        "2\nAnn 2\nBo 3\n",
    ]
    readers = (read_pairs, people_names, read_image_list, read_people_list, people_of)
    path, refused = tmp_path / "table", 0
    for k in range(1400):
        data = bytearray(texts[k % len(texts)].encode("utf-16" if k % 5 == 0 else "utf-8"))
        for place in generator.integers(0, len(data), 1 + k % 4):
            data[place] = generator.choice([0, 9, 10, 13, 34, 44, 48, 49, 59, 92, int(generator.integers(0, 256))])
        path.write_bytes(data)
        try:
            readers[k // 7 % len(readers)](path)
        except BadInput as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 500


def test_a_count_that_does_not_agree_with_lfws_lines_is_refused(tmp_path: Path) -> None:
    for text in ("3\nAnn 1\nBob 2\n", "1\nAna Silva\t1\nBo\t2\n"):
        with pytest.raises(BadInput, match=r"people\.txt, line"):
            people_names(write(tmp_path / "people.txt", text))


def test_lists_of_images_and_of_people_go_by_row(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    assert read_image_list(write(path, "Smith, J/a b.jpg\n./b.jpg\nSmith, J/a b.jpg\n")).names == [
        "Smith, J/a b.jpg",
        "./b.jpg",
        "Smith, J/a b.jpg",
    ]
    assert read_image_list(write(path, "path\na.jpg\n")).names == ["a.jpg"]
    table = read_image_list(write(path, "file;person\na.jpg;Ann\na.jpg;Bob\n"))
    assert (table.names, table.people, table.lines) == (["a.jpg", "a.jpg"], ["Ann", "Bob"], [2, 3])
    assert read_people_list(write(path, "Ann Lee\n\nBo\n")).people == ["Ann Lee", None, "Bo"]
    assert read_people_list(write(path, "identity\nAnn Lee\nBo\n")).people == ["Ann Lee", "Bo"]
    assert read_people_list(write(path, "Ann;\nBo;\n")).people == ["Ann", "Bo"]
    assert read_people_list(write(path, "a.jpg 7\nb.jpg 8\n")).people == ["7", "8"]
    with pytest.raises(BadInput, match=r"list\.txt, line 2: empty"):
        read_image_list(write(path, "a.jpg\n\nb.jpg\n"))
