"""Templates made elsewhere, joined with their images to a store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from facedecode.annotations.listing import read_image_list
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput
from facedecode.extraction.cropping import FaceCropper
from facedecode.extraction.embeddings_import import import_embeddings, listed_images
from facedecode.store import Store


@pytest.fixture
def given(photo_store: Path, photos: Path, tmp_path: Path) -> Path:
    """`x.npy` and `list.txt` of the store of photographs, last image first, with one that shows no face."""
    store = Store.open(photo_store)
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "gray.png")
    templates = np.concatenate([store.templates()[::-1], np.zeros((1, 128), np.float32)])
    np.save(tmp_path / "x.npy", templates.astype(np.float64))
    paths = [str(photos / path) for path in store.paths()[::-1]] + [str(tmp_path / "gray.png")]
    (tmp_path / "list.txt").write_text("\n".join(paths) + "\n")
    return tmp_path


@pytest.fixture
def run(given: Path) -> Callable[..., Result]:
    """Runs the command line on `x.npy` and `list.txt`."""

    def invoke(command: str, *words: object) -> Result:
        own = [command, given / "x.npy", "--images", given / "list.txt", *words]
        return CliRunner().invoke(app, [str(word) for word in own])

    return invoke


def test_a_store_of_given_templates(run, given: Path, photo_store: Path) -> None:
    told = run("import", "-o", given / "emb", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["metrics"] == {"count": 6, "failed": 1}
    assert "taken as templates of dlib-resnet" in told.stderr and "cast from float64" in told.stderr
    made, first = Store.open(given / "emb"), Store.open(photo_store)
    assert made.recognizer == first.recognizer
    [failure] = made.failures()
    assert failure["stage"] == "detect" and failure["path"].endswith("gray.png")
    theirs = first.rows().to_pylist()[::-1]
    np.testing.assert_array_equal(made.templates(), first.templates()[::-1])
    for row, other in zip(made.rows().to_pylist(), theirs, strict=True):
        assert row["path"].endswith(other["path"]) and row["identity"] == other["identity"]
        assert {k: row[k] for k in ("sha256", "width", "height")} == {
            k: other[k] for k in ("sha256", "width", "height")
        }
        np.testing.assert_allclose(row["landmarks"], other["landmarks"], atol=0.01)  # of another batch
    again = run("import", "-o", given / "emb")
    assert again.exit_code == 0 and "7 were done before" in again.stderr
    assert run("import", "-o", given / "emb", "--strict").exit_code == 5


def test_training_on_a_bare_file(run, given: Path) -> None:
    told = run("train", "--architecture", "ridge", "--image-size", 64, "-o", given / "ridge")
    assert told.exit_code == 0, told.output
    store = Store.open(given / "ridge-emb")
    decoder = load_decoder(given / "ridge")
    assert decoder.recognizer == store.recognizer
    assert decoder.provenance.training.store == store.fingerprint and decoder.provenance.training.images == 6


def test_templates_of_a_model_that_is_not_here(run, given: Path) -> None:
    told = run("import", "--model", "given:vendor", "--score", "negative-euclidean", "-o", given / "emb")
    assert told.exit_code == 0, told.output
    store = Store.open(given / "emb")
    assert (store.recognizer.name, store.recognizer.weights_sha256) == ("given:vendor", None)
    assert store.score == "negative-euclidean"
    words = ["train", str(given / "emb"), "-o", str(given / "d"), "--image-size", "64"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 3 and "--identity-weight 0 --no-mirror" in told.stderr
    alone = [
        "--identity-weight",
        "0",
        "--perceptual-weight",
        "0",
        "--no-mirror",
        "--epochs",
        "0.5",
        "--batch-size",
        "2",
    ]
    told = CliRunner().invoke(app, [*words, *alone])
    assert told.exit_code == 0, told.output


def test_paths_in_another_order_are_noticed(
    photos: Path, photo_store: Path, tmp_path: Path, detector, recognizer
) -> None:
    """The tiny recognizer's templates of six photographs, each beside the next one's path."""
    store = Store.open(photo_store)
    paths = [photos / path for path in store.paths()]
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    root, refs = listed_images(read_image_list(tmp_path / "list.txt"))
    assert root == photos and [ref.identity for ref in refs] == store.identities()
    templates = np.stack([item.template for item in FaceCropper(recognizer, detector).items(refs, 6)])
    for k in (0, 1, 3):
        np.save(tmp_path / "x.npy", np.roll(templates, k, axis=0))
        job = (tmp_path / "x.npy", tmp_path / "list.txt", tmp_path / f"emb{k}", recognizer)
        if k == 0:
            assert import_embeddings(*job).count == 6
        else:
            with pytest.raises(BadInput, match="are the paths in the order of the rows"):
                import_embeddings(*job)
            assert not (tmp_path / f"emb{k}").exists()


@pytest.mark.parametrize(
    ("lines", "words", "code", "said"),
    [
        (["a.png"], [], 4, "1 paths, and .*x.npy has 7 templates"),
        (["a.png", "", "b.png"], [], 4, "line 2: empty"),
        (None, [], 4, "no such file"),
        ([__file__, *(f"{k}.png" for k in range(6))], ["--model", "given:x"], 4, "no usable input"),
        (["a.png"], ["--model", "given:"], 2, "given:NAME is a recognizer not at hand"),
        (["a.png"], ["--score", "cosine"], 2, "--score is for --model given:NAME"),
        (["a.png"], ["--model", "nobody"], 2, "no recognizer is called 'nobody'"),
        (["a.png"], ["--renamed", __file__], 2, "give both"),
    ],
)
def test_bad_imports(run, given: Path, lines: list[str] | None, words: list[str], code: int, said: str) -> None:
    if lines is None:
        (given / "list.txt").unlink()
    else:
        (given / "list.txt").write_text("\n".join(lines) + "\n")
    told = run("import", *words, "-o", given / "emb")
    assert told.exit_code == code, told.output
    assert re.search(said, told.stderr), told.stderr
    assert not (given / "emb").exists()


def imported(*words: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, words), "--model", "given:vendor"])


def drawn(people: int = 4, each: int = 3, dim: int = 8) -> np.ndarray:
    generator = np.random.default_rng(5)
    centers = np.repeat(generator.normal(size=(people, dim)), each, axis=0)
    return (centers + 0.2 * generator.normal(size=centers.shape)).astype(np.float32)


NAMES = [f"P{k // 3}/{k}.jpg" for k in range(12)]
PEOPLE = [f"P{k // 3}" for k in range(12)]


def test_templates_whose_images_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", drawn())
    Path("list.txt").write_text("\r\n".join(f"gone\\{name}" for name in NAMES))
    told = imported("x.npy", "--images", "list.txt", "-o", "emb")
    assert told.exit_code == 0, told.output
    assert "none of its 12 images is there" in told.stderr and "12 templates without images" in told.stderr
    store = Store.open("emb")
    assert (store.paths(), store.identities()) == (NAMES, PEOPLE) and store.manifest.score == "cosine"
    for row in store.columns(["box", "landmarks", "probability", "width", "height", "sha256"]).to_pylist():
        assert set(row.values()) == {None}
    again = imported("x.npy", "--images", "list.txt", "-o", "emb")
    assert again.exit_code == 0 and "12 were done before" in again.stderr
    # It is judged, clustered, merged and protected; and no decoder is trained on it.
    Path("pairs.csv").write_text(f"{NAMES[0]},{NAMES[1]},1\n{NAMES[3]},{NAMES[4]},1\n{NAMES[0]},{NAMES[3]},0\n")
    Path("other.csv").write_text("path,identity\n" + "".join(f"Q{k}.jpg,Q{k // 2}\n" for k in range(12)))
    assert imported("x.npy", "--identities", "other.csv", "-o", "emb2").exit_code == 0
    run = CliRunner().invoke
    for words in (
        ["evaluate", "verification", "emb"],
        ["evaluate", "verification", "emb", "--pairs", "pairs.csv"],
        ["cluster", "emb", "-k", "4", "-o", "clusters"],
        ["aggregate", "emb", "-o", "people"],
        ["merge", "emb", "emb2", "-o", "both"],
        ["evaluate", "verification", "both"],
        ["transform", "emb", "--protect", "biohash", "--new-key", "key", "-o", "protected"],
    ):
        told = run(app, words)
        assert told.exit_code == 0, (words, told.output)
    assert len(Store.open("both")) == 24
    told = run(app, ["train", "emb", "--architecture", "ridge", "--image-size", "64", "-o", "d"])
    assert told.exit_code == 4 and "12 of 12 images are not there" in told.stderr, told.stderr
    told = run(
        app, ["train", "x.npy", "--images", "list.txt", "--model", "given:v", "--architecture", "ridge", "-o", "d"]
    )
    assert told.exit_code == 4 and "none of its images is there" in told.stderr and not Path("d-emb").exists()


def test_templates_with_people_by_row_or_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", drawn())
    assert imported("x.npy", "-o", "plain").exit_code == 0
    store = Store.open("plain")
    assert store.paths()[:2] == ["x-000000", "x-000001"] and set(store.identities()) == {None}
    Path("people.txt").write_text("\n".join(["Jose\u0301 Sa\u0301"] * 3 + [""] + PEOPLE[4:]))
    assert imported("x.npy", "--identities", "people.txt", "-o", "emb").exit_code == 0
    assert Store.open("emb").identities() == ["Jos\u00e9 S\u00e1"] * 3 + [None, *PEOPLE[4:]]
    Path("people.txt").write_text("person\nAnn\nBob\n")
    told = imported("x.npy", "--identities", "people.txt", "-o", "emb2")
    assert told.exit_code == 4 and "2 people, and x.npy has 12 templates" in told.stderr
    Path("who.csv").write_text("file;label\n" + "".join(f"a/{k}.jpg;{k // 6}\n" for k in range(12)))
    assert imported("x.npy", "--images", "who.csv", "-o", "emb3").exit_code == 0
    assert Store.open("emb3").identities() == ["0"] * 6 + ["1"] * 6
    Path("list.txt").write_text("".join(f"00{k // 3}/frontal/{k}.jpg\n" for k in range(12)))
    told = imported("x.npy", "--images", "list.txt", "-o", "cfp")
    assert "12 images of 1 person ('frontal')" in told.stderr and "--identity-level 2" in told.stderr
    told = imported("x.npy", "--images", "list.txt", "--identity-level", 2, "-o", "cfp2")
    assert "12 images of 4 people" in told.stderr and set(Store.open("cfp2").identities()) == {
        f"00{k}" for k in range(4)
    }
    # By image, in any order, where the rows have names.
    Path("list.txt").write_text("\n".join(NAMES))
    Path("who.csv").write_text("path,identity\n" + "".join(f"gone/{name},{name[:2]}!\n" for name in reversed(NAMES)))
    assert imported("x.npy", "--images", "list.txt", "--identities", "who.csv", "-o", "emb4").exit_code == 0
    assert Store.open("emb4").identities() == [f"{person}!" for person in PEOPLE]


def test_several_faces_of_an_image(given: Path, photos: Path, photo_store: Path) -> None:
    store = Store.open(photo_store)
    templates = store.templates()
    # The first image has two faces; the second is listed twice with one template.
    np.save(given / "x.npy", np.concatenate([templates[:1], templates[:1] + 0.01, templates[1:], templates[1:2]]))
    paths = store.paths()
    listed = [paths[0], paths[0], *paths[1:], paths[1]]
    (given / "list.txt").write_text("".join(f"{photos / path}\n" for path in listed))
    told = imported(given / "x.npy", "--images", given / "list.txt", "-o", given / "emb")
    assert told.exit_code == 0, told.output
    assert "1 images have several templates" in told.stderr and "1 rows are there twice" in told.stderr
    made = Store.open(given / "emb")
    rows = made.rows().to_pylist()
    assert [row["path"] for row in rows] == listed[:-1]
    assert [row["box"] is None for row in rows] == [True, True] + [False] * 5
    assert rows[0]["sha256"] == rows[1]["sha256"] == store.rows()["sha256"][0].as_py()
    told = CliRunner().invoke(app, ["evaluate", "verification", str(given / "emb"), "--json"])
    answer = json.loads(told.stdout)
    assert told.exit_code == 0 and "1 mated pair is of one picture twice" in told.output, told.output
    assert answer["ok"]
    # A person for each row: a table of the same images, row by row. One template is of one person.
    (given / "who.csv").write_text("path,identity\n" + "".join(f"{path},{k}\n" for k, path in enumerate(listed)))
    words = [given / "x.npy", "--images", given / "list.txt", "--identities", given / "who.csv", "-o", given / "emb2"]
    told = imported(*words)
    assert told.exit_code == 4 and "are one template of" in told.stderr and "of 2 and 7" in told.stderr
    (given / "who.csv").write_text("path,identity\n" + "".join(f"{p},{min(k, 2)}\n" for k, p in enumerate(listed)))
    assert imported(*words).exit_code == 0
    assert Store.open(given / "emb2").identities() == ["0", "1", *["2"] * 5]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--model", "given:mine"], 3, "given:mine"),
        (["--phi", "squeezenet"], 3, "squeezenet"),
        (["--phi", "nobody"], 2, "no perceptual network is called 'nobody'"),
    ],
)
def test_a_network_that_is_not_there_is_told_of_before_a_store_is_made(
    run, given: Path, words: list[str], code: int, said: str
) -> None:
    told = run("train", "-o", given / "d", *words)
    assert told.exit_code == code and said in told.stderr.splitlines()[-1], told.stderr
    assert not (given / "d-emb").exists() and not (given / "d").exists()


def test_train_says_what_a_bare_file_needs(given: Path, tiny_store: Path) -> None:
    run = CliRunner().invoke
    told = run(app, ["train", str(given / "x.npy"), "-o", str(given / "d")])
    assert told.exit_code == 2 and "--images list.txt" in told.stderr
    told = run(app, ["train", str(tiny_store), "--model", "tiny", "-o", str(given / "d")])
    assert told.exit_code == 2 and "go with a bare .npy file" in told.stderr
