"""Templates → pictures: scores, inputs, and the files that are left."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facedecode.decoders import Decoder, Provenance
from facedecode.decoders.closed_form import Nearest, Ridge
from facedecode.errors import BadInput, UsageError
from facedecode.identity import RecognizerId
from facedecode.inversion.inputs import read_inputs
from facedecode.inversion.invert import invert, write_folder, write_grid
from facedecode.inversion.jobs import DrawingOptions
from facedecode.mapping.maps import Mapping
from facedecode.options import BareRecognizerOptions, ImageOptions
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.store import ImageFolder, Store
from facedecode.store.images import read_portraits


@pytest.fixture
def recognizer(tiny: Path) -> Recognizer:
    return load_recognizer("tiny", tiny)


@pytest.fixture
def portraits(tiny_store: Path) -> np.ndarray:
    store = Store.open(tiny_store)
    return read_portraits(store.rows().to_pylist(), store.root, 64)


@pytest.fixture
def ridge(tiny_store: Path, portraits: np.ndarray, recognizer: Recognizer) -> Decoder:
    net = Ridge(16, 64).fit(torch.from_numpy(Store.open(tiny_store).templates()), as_tensor(portraits))
    return Decoder("ridge", net, Provenance(recognizer.describe()))


@pytest.fixture
def oracle(tiny_store: Path, portraits: np.ndarray, recognizer: Recognizer) -> Decoder:
    """Draws the very portrait of each template in the store."""
    net = Nearest(16, 64, score="negative-euclidean")
    net.fit(torch.from_numpy(Store.open(tiny_store).templates()), as_tensor(portraits))
    return Decoder("nearest", net, Provenance(recognizer.describe()))


def as_tensor(portraits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(portraits).permute(0, 3, 1, 2)


def test_the_true_pictures_score_best(tiny_store: Path, portraits, oracle, ridge, recognizer) -> None:
    templates = Store.open(tiny_store).templates()
    perfect, linear = (invert(templates, d, recognizer) for d in (oracle, ridge))
    np.testing.assert_array_equal(perfect.pictures, portraits)
    assert perfect.scores.shape == (30,) and perfect.scores.dtype == np.float32 and (perfect.scores <= 0).all()
    spread = np.linalg.norm(templates - templates.mean(0), axis=1).mean()
    assert -perfect.scores.mean() < 0.1 * spread
    assert perfect.scores.mean() > linear.scores.mean()


def test_scores_are_of_the_rounded_pictures(tiny_store: Path, ridge, recognizer) -> None:
    templates = Store.open(tiny_store).templates()
    result = invert(templates, ridge, recognizer, batch_size=7)
    again = embed_pictures(recognizer, result.pictures, batch_size=11)
    np.testing.assert_allclose(result.scores, -np.linalg.norm(again - templates, axis=1), atol=1e-4)
    assert invert(templates, ridge).scores is None


def test_a_mapping_comes_first(tiny_store: Path, oracle, recognizer) -> None:
    templates = Store.open(tiny_store).templates()
    rng = np.random.default_rng(0)
    there = np.linalg.qr(rng.normal(size=(16, 16)))[0].astype(np.float32)
    mapping = Mapping(there.T, np.ones(16, np.float32), "rotate30", recognizer=recognizer.describe())
    moved = (templates - 1) @ there.T  # mapped back: moved @ there + 1
    plain, mapped = invert(templates, oracle, recognizer), invert(moved, oracle, recognizer, mapping)
    np.testing.assert_array_equal(mapped.pictures, plain.pictures)
    np.testing.assert_allclose(mapped.scores, plain.scores, atol=1e-3)


def test_progress_ends_at_the_end(tiny_store: Path, ridge) -> None:
    seen: list[tuple[int, int]] = []
    invert(Store.open(tiny_store).templates(), ridge, batch_size=8, progress=lambda *a: seen.append(a))
    assert seen == [(0, 30), (8, 30), (16, 30), (24, 30), (30, 30)]


# ---------------------------------------------------------------- inputs


def made_by(model: str) -> DrawingOptions:
    return DrawingOptions(recognizer=BareRecognizerOptions(model))


def test_a_store_a_shard_and_a_bare_file(tiny_store: Path, tmp_path: Path) -> None:
    store = read_inputs(tiny_store)
    assert store.names[:2] == ["P0__P0_0001", "P0__P0_0002"] and store.root == ImageFolder(tmp_path / "faces")
    assert store.recognizer.name == "tiny" and store.note is None
    shard = read_inputs(tiny_store / "00000.npy")
    np.testing.assert_array_equal(shard.templates, store.templates)
    assert shard.names[29] == "00000_00029" and "taken from" in shard.note
    np.save(tmp_path / "x.npy", store.templates[0].astype(np.float64))
    bare = read_inputs(tmp_path / "x.npy", made_by("tiny"))
    assert bare.names == ["x"] and bare.recognizer == RecognizerId("tiny", None) and "cast from float64" in bare.note


def test_a_bare_file_is_taken_as_the_default_recognizers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 128), np.float32))
    given = read_inputs(tmp_path / "x.npy")
    assert given.recognizer == RecognizerId("dlib-resnet", None) and "taken as templates of dlib-resnet" in given.note
    np.save(tmp_path / "y.npy", np.zeros(512, np.float32))
    with pytest.raises(BadInput, match=r"y\.npy: templates of 512 numbers, and dlib-resnet's have 128; say --model"):
        read_inputs(tmp_path / "y.npy")
    with pytest.raises(UsageError, match="no recognizer is called 'nobody'"):
        read_inputs(tmp_path / "y.npy", made_by("nobody"))
    with pytest.raises(BadInput, match="--originals needs a whole store"):
        read_inputs(tmp_path / "y.npy", DrawingOptions(originals=True))


def test_another_recognizer_is_refused(tiny_store: Path, tmp_path: Path, ridge: Decoder) -> None:
    with pytest.raises(BadInput, match="its manifest says tiny, not dlib-resnet"):
        read_inputs(tiny_store, made_by("dlib-resnet"))
    given = read_inputs(tiny_store)
    ridge.require_recognizer(given.recognizer, "the decoder")
    given.recognizer = replace(given.recognizer, weights_sha256="0" * 64)
    with pytest.raises(BadInput, match="the decoder is for tiny"):
        ridge.require_recognizer(given.recognizer, "the decoder")
    np.save(tmp_path / "x.npy", np.zeros(128, np.float32))
    with pytest.raises(BadInput, match="is for tiny and the templates are taken as dlib-resnet's; say --model tiny"):
        ridge.require_recognizer(read_inputs(tmp_path / "x.npy").recognizer, "the decoder")


# ---------------------------------------------------------------- outputs


def test_a_folder_of_pictures(tiny_store: Path, tmp_path: Path, ridge, recognizer) -> None:
    given = read_inputs(tiny_store)
    result = invert(given.templates, ridge, recognizer)
    write_folder(tmp_path / "out", given, result)
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [row["file"] for row in rows] == [f"{name}.png" for name in given.names]
    np.testing.assert_allclose([float(row["score"]) for row in rows], result.scores, atol=1e-6)
    for row, picture in zip(rows, result.pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / row["file"])), picture)


def test_no_picture_takes_anothers_place(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    paths = ["a/b.jpg", "a/b.png", "a__b.jpg", "A/B.jpg", "c.d.jpg", None, "dir.x/plain"]
    rows = pa.table({"path": paths})
    monkeypatch.setattr(Store, "rows", lambda self: rows)
    names = read_inputs(tiny_store).names
    assert names == ["a__b_00000", "a__b_00001", "a__b_00002", "A__B_00003", "c.d", "00005", "dir.x__plain"]


@pytest.mark.parametrize("count", [1, 2, 9, 30])
@pytest.mark.parametrize("originals", [False, True])
def test_grids_hold_every_picture(tiny_store: Path, tmp_path: Path, ridge, recognizer, portraits, count, originals):
    given = read_inputs(tiny_store)
    given.rows = given.rows[:count]
    result = invert(given.templates[:count], ridge, recognizer)
    write_grid(tmp_path / "grid.png", given, result, originals)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    wanted = [*result.pictures, *portraits[:count]] if originals else list(result.pictures)
    for picture in wanted:
        starts = np.argwhere((grid[:-63, :-63] == picture[0, 0]).all(axis=2))
        assert any(np.array_equal(grid[y : y + 64, x : x + 64], picture) for y, x in starts)
    if count == 1 and not originals:
        np.testing.assert_array_equal(grid, result.pictures[0])


def test_originals_that_have_moved(tiny_store: Path, tmp_path: Path, ridge) -> None:
    (tmp_path / "faces").rename(tmp_path / "elsewhere")
    given = read_inputs(tiny_store)
    result = invert(given.templates, ridge)
    with pytest.raises(BadInput, match=r"faces: 30 of 30 images are not there .*--images"):
        write_grid(tmp_path / "grid.png", given, result, originals=True)
    assert not (tmp_path / "grid.png").exists()
    write_grid(
        tmp_path / "grid.png",
        read_inputs(tiny_store, DrawingOptions(images=ImageOptions(tmp_path / "elsewhere"))),
        result,
        originals=True,
    )
    assert (tmp_path / "grid.png").is_file()


def test_portraits_are_cut_where_the_row_says(tiny_store: Path, portraits: np.ndarray) -> None:
    store = Store.open(tiny_store)
    row = store.rows().to_pylist()[4]
    image = np.asarray(Image.open(store.root / row["path"]))
    np.testing.assert_array_equal(portraits[4], align.crop(image, align.portrait_face(96), align.portrait_crop(64)))
    with pytest.raises(BadInput, match="no image with a face"):
        read_portraits([row | {"landmarks": None}], store.root, 64)


def test_images_of_another_edition_are_refused(tiny_store, tmp_path) -> None:
    """Same names, other pixels: the store's landmarks would cut them wrong without a word."""
    import shutil

    from facedecode.store import Store
    from facedecode.store.images import read_portraits

    store = Store.open(tiny_store)
    copy = tmp_path / "other"
    shutil.copytree(store.root, copy)
    rows = store.rows().to_pylist()[:2]
    assert read_portraits(rows, copy, 64).shape == (2, 64, 64, 3)
    with (copy / rows[1]["path"]).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match="not the image that the store was made from"):
        read_portraits(rows, copy, 64)
