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
    root, refs = listed_images(tmp_path / "list.txt")
    assert root == photos and [ref.identity for ref in refs] == store.identities()
    templates = np.stack([item.template for item in FaceCropper(recognizer, detector).items(refs, 6)])
    for k in (0, 1, 3):
        np.save(tmp_path / "x.npy", np.roll(templates, k, axis=0))
        job = (tmp_path / "x.npy", tmp_path / "list.txt", tmp_path / f"emb{k}", recognizer, detector)
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
        (["a.png", "b.png", "a.png"], [], 4, "line 3: a.png is there already, in line 1"),
        (None, [], 4, "no such file"),
        ([f"{k}.png" for k in range(7)], ["--model", "given:x"], 4, "no usable input"),
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
