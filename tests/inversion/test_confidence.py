"""Confidence maps: known errors are found again, files and refusals, the commands, and calibration."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from calibration import calibration
from PIL import Image
from safetensors.numpy import save_file
from scipy import stats
from typer.testing import CliRunner, Result

from facedecode.annotations.protocols import held_out_people
from facedecode.cli import app
from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.identity import RecognizerId
from facedecode.inversion.confidence import (
    Confidence,
    central,
    fit_confidence,
    load_confidence,
    mean_face,
    squared_errors,
)
from facedecode.inversion.confidence_fit import trained_people
from facedecode.inversion.invert import invert as run_invert
from facedecode.known_pictures import KnownPictures
from facedecode.mapping.maps import Mapping
from facedecode.pictures.figures import heat_pictures, with_scale
from facedecode.statistics.bootstrap import mean_interval
from facedecode.store import Store
from facedecode.store.images import read_portraits

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECOGNIZER = RecognizerId("tiny", "ab" * 32, dim=4)
DECODER = {"kind": "ridge", "sha256": "cd" * 32}
SIDE, GRID = 16, 4


def world(n: int = 600, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Templates, portraits, pictures, identities, and the σ(e) of every cell, (n, 4, 4): about 0.02 to 0.2."""
    rng = np.random.default_rng(seed)
    templates = 5 + 0.1 * rng.normal(size=(n, 4))
    slopes = np.random.default_rng(9).normal(0, 0.2, (4, GRID, GRID))
    sigma = np.exp(-2.9 + np.tensordot((templates - 5) / 0.1, slopes, 1))
    noise = rng.normal(size=(n, SIDE, SIDE, 3)) * sigma.repeat(4, 1).repeat(4, 2)[..., None]
    portraits = np.clip(128 + 255 * noise, 0, 255).round().astype(np.uint8)
    return templates, portraits, np.full_like(portraits, 128), [f"P{i % 150:03d}" for i in range(n)], sigma


def fitted(**more: object) -> Confidence:
    templates, portraits, pictures, identities, _ = world()
    return fit_confidence(templates, portraits, pictures, identities, DECODER, RECOGNIZER, grid=GRID, **more)


def example(source: Path | None = None) -> Confidence:
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 0.1, (GRID**2, 4)).astype(np.float32)
    bias, average = np.full(GRID**2, -4, np.float32), np.full((GRID, GRID), np.exp(-4), np.float32)
    prior = np.full((GRID, GRID), 0.03, np.float32)
    return Confidence(
        weight, bias, average, prior, DECODER, recognizer=RECOGNIZER, report={"people": ["A", "B"]}, source=source
    )


# ---------------------------------------------------------------- the fit


def test_errors_that_depend_on_the_template_are_found() -> None:
    confidence = fitted()
    templates, *_, sigma = world(400, seed=1)
    found = confidence.apply(templates)
    assert found.shape == (400, GRID, GRID) and found.dtype == np.float32
    usual = np.sqrt(confidence.average)
    assert np.abs(np.log(found / sigma)).mean() < 0.03 < 0.2 < np.abs(np.log(usual / sigma)).mean()
    assert np.corrcoef(np.log(found).ravel(), np.log(sigma).ravel())[0, 1] > 0.97
    np.testing.assert_allclose(confidence.variances(templates), found.astype(float) ** 2, rtol=1e-5)


def test_the_report_says_what_was_fitted() -> None:
    seen: list[tuple[int, int]] = []
    report = fitted(provenance={"store": "ef"}, progress=lambda *at: seen.append(at)).report
    assert (report["images"], report["people"][0], len(report["people"])) == (600, "P000", 150)
    assert report["provenance"] == {"store": "ef"} and seen[-1] == (55, 55)
    tried = report["cross_validation"]
    assert tried[f"{report['penalty']:.3g}"]["loss"] < tried["constant"]["loss"]
    # The pictures are the mean face: they explain nothing.
    assert report["explained"] == pytest.approx({"all": 0, "center": 0}, abs=0.01)


def test_confidence_is_the_share_of_variance_explained() -> None:
    rng = np.random.default_rng(0)
    templates = rng.normal(size=(500, 4))
    told = 30 * templates[:, 0].clip(-2.5, 2.5)[:, None, None, None]
    pictures = np.broadcast_to(128 + told, (500, SIDE, SIDE, 3)).round()
    noise = rng.normal(0, np.linspace(5, 30, GRID).repeat(4)[:, None, None], pictures.shape)
    portraits, pictures = ((x.clip(0, 255)).round().astype(np.uint8) for x in (pictures + noise, pictures))
    names = [f"P{i % 100}" for i in range(500)]
    confidence = fit_confidence(templates, portraits, pictures, names, DECODER, RECOGNIZER, grid=GRID)
    share = 1 - np.linspace(5, 30, GRID) ** 2 / (np.linspace(5, 30, GRID) ** 2 + told.var())
    explained = confidence.explained(templates)
    assert explained.shape == (500, GRID, GRID) and explained.dtype == np.float32
    np.testing.assert_allclose(explained.mean((0, 2)), share, atol=0.06)
    assert confidence.scale == 1
    # A decoder that is worse than the mean face is not trusted less than not at all.
    worse = fit_confidence(templates, portraits, 255 - pictures, names, DECODER, RECOGNIZER, grid=GRID)
    assert (worse.explained(templates) == 0).all() and worse.scale == 0.1


def test_people_weigh_alike() -> None:
    templates, portraits, pictures, identities, _ = world(60)
    often = np.where(np.array(identities) == "P003", 4, 1)
    plain = fit_confidence(templates, portraits, pictures, identities, DECODER, RECOGNIZER, grid=GRID)
    many = fit_confidence(
        *(x.repeat(often, axis=0) for x in (templates, portraits, pictures)),
        np.repeat(identities, often).tolist(),
        DECODER,
        RECOGNIZER,
        grid=GRID,
    )
    np.testing.assert_allclose(many.average, plain.average, rtol=1e-5)
    np.testing.assert_allclose(many.prior, plain.prior, rtol=1e-5)
    assert many.report["penalty"] == plain.report["penalty"]


def test_an_error_is_never_more_than_the_range() -> None:
    strange = np.full((1, 4), 1e6)
    for sign in (1, -1):
        errors = example().apply(sign * strange)
        assert np.isfinite(errors).all() and errors.max() <= 1


def test_cells_and_their_errors() -> None:
    rng = np.random.default_rng(0)
    portraits, pictures = rng.integers(0, 256, (2, 5, 12, 12, 3), np.uint8)
    errors = squared_errors(portraits, pictures, 3)
    one = (portraits[2, 4:8, 8:12] / 255 - pictures[2, 4:8, 8:12] / 255) ** 2
    assert errors.shape == (5, 3, 3) and errors[2, 1, 2] == pytest.approx(one.mean(), rel=1e-5)
    assert squared_errors(portraits, portraits, 3).min() > 0
    weights = np.array([1, 0, 2, 0, 1.0])
    np.testing.assert_allclose(
        mean_face(portraits, weights), (weights[:, None, None, None] / 4 * portraits).sum(0), atol=0.5
    )
    np.testing.assert_array_equal(central(np.arange(400).reshape(20, 20)), np.arange(400).reshape(20, 20)[6:18, 5:15])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"grid": 5}, UsageError, "5 cells do not divide pictures of 16 px"),
        ({"grid": 0}, UsageError, "0 cells"),
        ({"templates": np.zeros((60, 4))}, BadInput, "all equal"),
        ({"templates": np.full((60, 4), np.nan)}, BadInput, "not finite"),
        ({"templates": np.zeros((59, 4))}, BadInput, "do not match"),
        ({"pictures": np.zeros((60, 8, 8, 3), np.uint8)}, BadInput, "do not match"),
        ({"identities": ["A", "B", "C", "D"] * 15}, BadInput, "4 people cannot be left out in 5 folds"),
        ({"identities": [None] * 60}, BadInput, "row 0 has no identity"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(change: dict, error: type, said: str) -> None:
    keys = ("templates", "portraits", "pictures", "identities")
    given = dict(zip(keys, world(60), strict=False)) | {"decoder": DECODER, "recognizer": RECOGNIZER, "grid": GRID}
    with pytest.raises(error, match=said):
        fit_confidence(**given | change)


# ---------------------------------------------------------------- files


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    confidence, path = fitted(), tmp_path / "confidence.safetensors"
    confidence.save(path)
    loaded = load_confidence(path)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(confidence, name))
    assert (loaded.decoder, loaded.recognizer, loaded.report) == (DECODER, RECOGNIZER, confidence.report)
    assert loaded.source == path and loaded.fitted_on == confidence.fitted_on and loaded.grid == GRID
    for again in (fitted(), loaded):
        again.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(OutputError):
        confidence.save(tmp_path / "missing" / "confidence.safetensors")


NAMES = ("weight", "bias", "average", "prior")
ABOUT = {
    "format": "facedecode-confidence-map",
    "version": 1,
    "decoder": DECODER,
    "recognizer": RECOGNIZER.as_json(),
    "report": {},
}
TENSORS = {name: getattr(example(), name) for name in NAMES}


@pytest.mark.parametrize(
    ("about", "tensors", "said"),
    [
        (
            ABOUT | {"format": "facedecode-mapping"},
            {},
            "not a confidence map; make one with 'facedecode fit-confidence'",
        ),
        (ABOUT | {"version": 3}, {}, "version 3, and this facedecode reads 2"),
        (ABOUT | {"decoder": "shipped"}, {}, "field 'decoder' is not an object"),
        (ABOUT | {"recognizer": {}}, {}, "field 'recognizer.name' is missing"),
        (ABOUT | {"recognizer": RECOGNIZER.as_json() | {"dim": 128}}, {}, "4 numbers cannot be for templates of 128"),
        (ABOUT, {"prior": np.ones((3, 3), np.float32)}, "make no confidence map"),
        (ABOUT, {"weight": np.ones(4, np.float32)}, "make no confidence map"),
        (ABOUT, {"prior": np.ones((), np.float32)}, "make no confidence map"),
        (ABOUT, {"prior": np.zeros((4, 4), np.float32)}, "not positive"),
        (ABOUT, {"bias": np.full(16, np.nan, np.float32)}, "NaN or infinite"),
        (ABOUT, {"bias": np.zeros(16)}, "float64, not float32"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, about: dict, tensors: dict, said: str) -> None:
    path = tmp_path / "c.safetensors"
    save_file(TENSORS | tensors, path, metadata={"facedecode": json.dumps(about)})
    with pytest.raises(BadInput, match=f"{path}: .*{said}") as caught:
        load_confidence(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_confidence_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(BadInput, match="no such confidence map; make one with 'facedecode fit-confidence'"):
        load_confidence(path)
    path.write_bytes(b"text")
    with pytest.raises(BadInput, match="not a readable safetensors file"):
        load_confidence(path)


def test_another_decoder_or_recognizer_is_refused(tmp_path: Path) -> None:
    confidence = example(tmp_path / "c.safetensors")
    confidence.require_decoder(DECODER | {"training_people": 9}, replace(RECOGNIZER, license="none"))
    with pytest.raises(
        BadInput, match=r"c\.safetensors: .* ridge \(weights cdcdcdcdcdcd…\) .* ridge \(weights 0{12}…\)"
    ):
        confidence.require_decoder(DECODER | {"sha256": "0" * 64}, RECOGNIZER)
    for other in ({"name": "other"}, {"weights_sha256": "0" * 64}):
        with pytest.raises(BadInput, match=r"c\.safetensors: this confidence map is for tiny"):
            confidence.require_decoder(DECODER, replace(RECOGNIZER, **other))
    with pytest.raises(BadInput, match=r"takes templates \(n, 4\), not \(2, 5\)"):
        confidence.apply(np.zeros((2, 5)))


# ---------------------------------------------------------------- who is fitted on


TRAINED = ["P0", "P1", "P2", "P3"]


def save_ridge(folder: Path, store: Path, training: dict) -> Path:
    """A decoder of a store that was trained on the people P0 to P3."""
    own = Store.open(store)
    rows = own.rows().to_pylist()
    kept = [i for i, row in enumerate(rows) if row["identity"] in TRAINED]
    portraits = torch.from_numpy(read_portraits([rows[i] for i in kept], own.root, 64)).permute(0, 3, 1, 2)
    net = Ridge(own.dim, 64).fit(torch.from_numpy(own.templates()[kept]), portraits)
    provenance = Provenance(own.recognizer, training=TrainingRecord.from_json("it", training))
    save_decoder(folder, "ridge", net, provenance, pictures=KnownPictures())
    return folder


@pytest.fixture
def here(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `emb`, its images and the decoder `ridge`."""
    save_ridge(tmp_path / "ridge", tiny_store, {"people": TRAINED})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def fit(*more: object, output: str = "c.safetensors", decoder: str = "ridge") -> Result:
    return call("fit-confidence", "emb", "-o", output, "--decoder", decoder, *more)


def test_people_of_the_training_are_left_out(here: Path) -> None:
    done = fit("--json")
    assert done.exit_code == 0, done.stderr
    confidence = load_confidence("c.safetensors")
    assert confidence.fitted_on == ["P4", "P5", "P6", "P7", "P8", "P9"]
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["images"], metrics["people"], confidence.grid) == (18, 6, 32)
    assert "18 images of 6 people whom the decoder has not seen" in done.stderr and "went on from" not in done.stderr
    store, decoder = Store.open("emb"), load_decoder("ridge")
    rows = store.rows().to_pylist()[12:]
    errors = squared_errors(read_portraits(rows, store.root, 64), decoder.decode(store.templates()[12:]))
    np.testing.assert_allclose(confidence.average, errors.mean(0), rtol=1e-5)
    assert fit("--exclude", "P9", output="d.safetensors").exit_code == 0
    assert load_confidence("d.safetensors").fitted_on == ["P4", "P5", "P6", "P7", "P8"]


def test_those_held_out_of_the_training_are_unseen(here: Path) -> None:
    everybody = [f"P{k}" for k in range(10)]
    held = held_out_people(everybody, [None] * 10, 0.6)
    out = [name for name, is_out in zip(everybody, held, strict=True) if is_out]
    assert 5 <= len(out) < 10
    save_ridge(here / "curve", here / "emb", {"people": everybody, "validation": 0.6, "start": "f" * 64})
    assert trained_people(load_decoder("curve"), "curve") == [name for name in everybody if name not in out]
    done = fit(decoder="curve")
    assert load_confidence("c.safetensors").fitted_on == out
    assert "curve went on from another, which is taken to have held out the same people" in done.stderr


def test_a_map_that_is_there(here: Path) -> None:
    assert fit().exit_code == 0
    before = Path("c.safetensors").read_bytes()
    assert fit().exit_code == 0  # the same again: nothing to do
    other = fit("--limit", "16")
    assert other.exit_code == 4 and "c.safetensors: holds a confidence map of other data or settings" in other.stderr
    assert Path("c.safetensors").read_bytes() == before
    assert fit("--limit", "16", "--overwrite").exit_code == 0
    assert load_confidence("c.safetensors").report["images"] == 16


def test_the_fit_refuses(here: Path) -> None:
    Path("seen.txt").write_text("P0\nP3\n")
    Path("few.txt").write_text("P0\nP6\nP7\n")
    save_ridge(here / "silent", here / "emb", {})
    manifest = json.loads((here / "emb" / "manifest.json").read_text())
    for arguments, said in [
        ((("--people", "seen.txt"), {}), "decoder ridge: was trained on all of these people"),
        ((("--people", "few.txt"), {}), "2 people cannot be left out in 5 folds"),
        (((), {"decoder": "silent"}), "decoder silent: it does not record the people"),
    ]:
        done = fit(*arguments[0], **arguments[1])
        assert done.exit_code == 4 and said in done.stderr, done.stderr
    (here / "emb" / "manifest.json").write_text(json.dumps(manifest | {"transform": "rotate30"}))
    done = fit()
    assert done.exit_code == 4 and "emb: templates of perturbed faces" in done.stderr
    assert not Path("c.safetensors").exists()


# ---------------------------------------------------------------- invert --confidence


@pytest.fixture
def maps(here: Path) -> Confidence:
    assert fit().exit_code == 0
    return load_confidence("c.safetensors")


def invert(output: str, *more: object, decoder: str = "ridge") -> Result:
    return call("invert", "emb", "-o", output, "--decoder", decoder, "--confidence", "c.safetensors", *more)


def test_a_folder_has_a_map_beside_each_picture(here: Path, maps: Confidence, tiny: Path) -> None:
    done = invert("out", "--weights", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    explained = maps.explained(Store.open("emb").templates())
    rows = list(csv.DictReader(Path("out/scores.csv").read_text().splitlines()))
    assert list(rows[0]) == ["file", "score", "confidence"] and len(rows) == 30
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], central(explained).mean((1, 2)), atol=1e-6)
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["confidence"] == pytest.approx(central(explained).mean(), rel=1e-5)
    assert len(metrics["confidences"]) == 30 and "of the central region's variance explained" in done.stderr
    for row, heat in zip(rows, heat_pictures(explained, 64, maps.scale), strict=True):
        shown = np.asarray(Image.open(f"out/{row['file'].removesuffix('.png')}-confidence.png"))
        np.testing.assert_array_equal(shown[:64, :64], heat)
        assert shown.shape[0] > 64 + 20  # the scale is below
    assert len(list(Path("out").iterdir())) == 61


@pytest.mark.parametrize("originals", [False, True])
@pytest.mark.parametrize("count", [1, 9])
def test_grids_hold_every_map(here: Path, maps: Confidence, tiny: Path, originals: bool, count: int) -> None:
    templates = Store.open("emb").templates()[:count]
    heat = heat_pictures(maps.explained(templates), 64, maps.scale)
    if originals:
        assert invert("grid.png", "--weights", tiny, "--originals").exit_code == 0
    else:
        np.save("x.npy", templates)
        done = call(
            *("invert", "x.npy", "-o", "grid.png", "--model", "tiny", "--weights", tiny),
            *("--decoder", "ridge", "--confidence", "c.safetensors"),
        )
        assert done.exit_code == 0, done.stderr
    grid = np.asarray(Image.open("grid.png"))
    for picture in [*heat, *load_decoder("ridge").decode(templates)]:
        starts = np.argwhere((grid[:-63, :-63] == picture[0, 0]).all(axis=2))
        assert any(np.array_equal(grid[y : y + 64, x : x + 64], picture) for y, x in starts)


def test_invert_refuses_maps(here: Path, maps: Confidence, tiny: Path) -> None:
    save_ridge(here / "other", here / "emb", {"people": TRAINED})
    net = load_decoder("other").net
    net.bias += 0.01
    save_decoder(here / "other", "ridge", net, Provenance(Store.open("emb").recognizer))
    done = invert("out", "--weights", tiny, decoder="other")
    assert done.exit_code == 4 and "c.safetensors: this confidence map was fitted on pictures of" in done.stderr
    done = invert("out", "--weights", tiny, "--refine", "2")
    assert done.exit_code == 2 and "of the decoder's own pictures, not of refined ones" in done.stderr
    replace(maps, recognizer=replace(maps.recognizer, weights_sha256="0" * 64)).save("c.safetensors")
    done = invert("out", "--weights", tiny)
    assert done.exit_code == 4 and "this confidence map is for tiny (weights sha256 000000000000)" in done.stderr
    assert not Path("out").exists()


def test_a_mapping_comes_first(here: Path, maps: Confidence) -> None:
    decoder, templates = load_decoder("ridge"), Store.open("emb").templates()
    mapping = Mapping(
        2 * np.eye(16, dtype=np.float32), np.ones(16, np.float32), "rotate30", recognizer=decoder.recognizer
    )
    result = run_invert(templates, decoder, mapping=mapping, confidence=maps)
    np.testing.assert_allclose(result.explained, maps.explained(2 * templates + 1), atol=1e-5)
    assert result.scale == maps.scale and run_invert(templates, decoder).explained is None


def test_no_map_takes_a_pictures_place(here: Path, maps: Confidence, monkeypatch: pytest.MonkeyPatch) -> None:
    from facedecode.inversion import inputs

    names = [f"x{i}" for i in range(29)] + ["X3-Confidence"]
    monkeypatch.setattr(inputs, "picture_names", lambda paths: names)
    done = invert("out")
    assert done.exit_code == 4 and "x3-confidence.png would be two pictures" in done.stderr
    assert not Path("out").exists()


# ---------------------------------------------------------------- colors


def test_colors_rise_with_the_map() -> None:
    values = np.array([[[0.0, 0.1], [0.3, 9.0]]])
    picture = heat_pictures(values, 7, 0.3)
    assert picture.shape == (1, 7, 7, 3) and picture.dtype == np.uint8
    luma = picture[0].astype(float) @ [0.299, 0.587, 0.114]
    assert luma[0, 0] < luma[0, 6] < luma[6, 0] == luma[6, 6]
    assert len(np.unique(picture[0].reshape(-1, 3), axis=0)) == 3
    np.testing.assert_array_equal(picture[0, 0, 0], [68, 1, 84])  # viridis, first and last
    np.testing.assert_array_equal(picture[0, 6, 6], [253, 231, 37])


@pytest.mark.parametrize("width", [8, 64, 400])
def test_a_scale_is_put_below(width: int) -> None:
    picture = np.full((40, width, 3), 9, np.uint8)
    shown = with_scale(picture, 0.4, "share of something")
    np.testing.assert_array_equal(shown[:40], picture)
    assert shown.shape[1] == width and shown.shape[0] > 60
    if width == 400:
        for color in ([68, 1, 84], [253, 231, 37]):
            assert (shown[40:] == color).all(2).any()


# ---------------------------------------------------------------- calibration


def test_calibration_of_predictions_that_are_right() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.5, 2, (300, 20))
    found = predicted * rng.chisquare(1, predicted.shape)
    names = [f"P{i // 3}" for i in range(300)]
    bins = calibration(predicted, predicted, found, np.ones_like(found), names, repetitions=400)
    assert len(bins) == 10 and [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    inside = [b.found.low < b.predicted < b.found.high for b in bins]
    assert sum(inside) >= 8
    twice = calibration(predicted, predicted, 4 * found, np.ones_like(found), names, repetitions=400)
    for one, other in zip(bins, twice, strict=True):
        assert other.predicted == one.predicted and other.found.value == pytest.approx(2 * one.found.value)
        assert other.predicted < other.found.low


def test_one_bin_is_a_ratio_by_person() -> None:
    rng = np.random.default_rng(1)
    found, names = rng.uniform(1, 2, (40, 6)), ["A"] * 20 + [f"P{k}" for k in range(20)]
    ones = np.ones_like(found)
    (bin_,) = calibration(found, found, found, ones, names, lambda ratio: ratio, bins=1, repetitions=500)
    other = mean_interval(found.mean(1), names, person_weighted=True, repetitions=500)
    assert bin_.found.value == pytest.approx(other.value) and bin_.found.n == 21
    assert (bin_.found.low, bin_.found.high) == pytest.approx((other.low, other.high))
    with pytest.raises(BadInput, match="240 predictions do not fill 241 bins"):
        calibration(found, found, found, ones, names, bins=241)
    with pytest.raises(BadInput, match="arrays of one shape"):
        calibration(found, found, found[:-1], ones, names)


# ---------------------------------------------------------------- examples/confidence.py


@pytest.fixture
def script(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Runs `confidence.py` on P4, P5 and P6: its report as JSON."""
    monkeypatch.syspath_prepend(EXAMPLES)
    module: ModuleType = __import__("confidence")
    Path("test.txt").write_text("P4\nP5\nP6\n")

    def run(*more: object) -> dict:
        given = ["emb", "--confidence", "c.safetensors", "--decoder", "ridge", "--people", "test.txt"]
        module.main([str(x) for x in (*given, "--repetitions", 50, "-o", "report", *more)])
        return json.loads(Path("report/report.json").read_text())

    return run


def unlike(confidence: Confidence, people: list[str]) -> Confidence:
    """The same map, said to be fitted on others."""
    made, store = replace(confidence, report=confidence.report | {"people": people}), Store.open("emb")
    made.remember(store.pictures(np.flatnonzero([name in people for name in store.identities()])))
    return made


def test_the_report_judges_the_map(script: Callable[..., dict], maps: Confidence) -> None:
    with pytest.raises(BadInput, match=r"c\.safetensors: fitted on 3 of the 3 people it is to be judged on"):
        script()
    unlike(maps, ["P7", "P8"]).save("c.safetensors")
    report = script()
    store, decoder = Store.open("emb"), load_decoder("ridge")
    rows, templates = store.rows().to_pylist()[12:21], store.templates()[12:21]
    originals, pictures = read_portraits(rows, store.root, 64), decoder.decode(templates)
    squares, predicted = squared_errors(originals, pictures), maps.variances(templates)
    metrics = report["metrics"]
    assert (metrics["images"], metrics["people"]) == (9, 3)
    assert metrics["ratio"]["map"]["whole"]["value"] == pytest.approx((squares / predicted).mean(), rel=1e-6)
    better = stats.norm.logpdf(np.sqrt(squares), 0, np.sqrt(predicted))
    better = better - stats.norm.logpdf(np.sqrt(squares), 0, np.sqrt(maps.average))
    assert metrics["gain"]["whole"]["value"] == pytest.approx(better.mean(), rel=1e-3, abs=1e-7)
    error = np.abs(originals / 255 - pictures / 255)
    sigma = maps.apply(templates).repeat(2, 1).repeat(2, 2)[..., None]
    share = (error <= stats.norm.ppf(0.9) * sigma).mean()
    assert metrics["coverage"]["map"]["whole"]["0.8"]["value"] == pytest.approx(share, abs=1e-4)
    share = central((error <= stats.norm.ppf(0.9) * sigma).mean(-1)).mean()
    assert metrics["coverage"]["map"]["center"]["0.8"]["value"] == pytest.approx(share, abs=1e-4)
    face = originals.mean(0).round()
    spread = ((originals - face) ** 2).mean() / 255**2
    assert metrics["explained"]["whole"]["value"] == pytest.approx(1 - squares.mean() / spread, abs=1e-3)
    assert [len(metrics["bins"][name]) for name in ("error", "relative", "explained")] == [10] * 3
    lowest = np.sort(predicted, axis=None)[: predicted.size // 10]
    assert metrics["bins"]["error"][0]["predicted"] == pytest.approx(np.sqrt(lowest.mean()), rel=1e-3)
    figures = {path.name for path in Path("report/figures").iterdir()}
    assert {"faces-confidence.png", "faces-error.png", "average-maps.png", "calibration-error.svg"} <= figures
    assert report["provenance"]["confidence"]["name"] == "c.safetensors"


def test_the_report_refuses_people_of_the_training(script: Callable[..., dict], maps: Confidence) -> None:
    unlike(maps, ["P7"]).save("c.safetensors")
    Path("test.txt").write_text("P3\nP4\n")
    with pytest.raises(BadInput, match=r"decoder ridge: trained on 1 of the 2 people .* \(P3\)"):
        script()
    Path("test.txt").write_text("P4\nP5\n")
    said = " ".join(script("--limit", 4)["warnings"])
    assert "2 images of these people were left out by --limit: a trial run" in said
    manifest = json.loads(Path("emb/manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P5"]
    Path("emb/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"recognizer tiny: trained on 1 of the 2 people .* \(P5\)"):
        script("--overwrite")
