"""`examples/fig15.py`: its statistics against plain NumPy, its draws, its report, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest

from facedecode.errors import BadInput
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.images import load_image, resized
from facedecode.statistics.bootstrap import Estimate
from facedecode.store import Store
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob


@pytest.fixture
def fig15(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("fig15")


@pytest.fixture
def report(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("fig15_report")


@pytest.fixture
def here(tiny_store: Path, tmp_path: Path) -> Path:
    """The store `emb` and a ridge decoder of its last five people."""
    (tmp_path / "train.txt").write_text("".join(f"P{k}\n" for k in range(5, 10)))
    train = tmp_path / "train.txt"
    train_store(DecoderJob(tiny_store, tmp_path / "ridge", architecture="ridge", people=train, validation=0.0))
    return tmp_path


def test_a_draws_means_are_nested_and_its_own(fig15: ModuleType) -> None:
    templates = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    made = fig15.nested_means(templates, "Ann", [1, 2, 8], 3, 0)
    assert made.shape == (3, 3, 5)
    np.testing.assert_allclose(made[2], np.tile(templates.mean(0), (3, 1)), rtol=1e-5)
    for one, two in zip(made[0], made[1], strict=True):
        other = 2 * two - one  # what the second image adds is an image, too
        assert np.abs(templates - one).max(1).min() < 1e-6
        assert np.abs(templates - other).max(1).min() < 1e-5
    np.testing.assert_array_equal(fig15.nested_means(templates, "Ann", [2], 1, 1)[0, 0], made[1, 1])


def test_every_person_counts_alike_in_the_populations_mean(fig15: ModuleType) -> None:
    templates = np.array([[0.0], [2.0], [5.0]], np.float32)
    np.testing.assert_allclose(fig15.population_mean(templates, ["a", "a", "b"]), [3.0])


def test_spreads_are_those_of_numpy(fig15: ModuleType, report: ModuleType) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (7, 4, 4, 3)).astype(np.uint8)
    wanted = np.sqrt(pictures.astype(float).var(0, ddof=1).mean())
    pixels = report.pixel_spread(fig15.deviations_gram(pictures), 50)
    assert pixels.value == pytest.approx(wanted)
    values = rng.normal(3, 2, 30)
    own = report.estimate(values, report.spread, 200)
    assert own.value == pytest.approx(values.std(ddof=1))
    assert own.low < own.value < own.high
    # A weight of two is a value that is there twice.
    twice = report.spread(np.array([[2, 1, 0]]) / 3, np.array([1.0, 4.0, 9.0]))
    assert twice[0] == pytest.approx(np.std([1, 1, 4], ddof=1))


def test_a_lost_face_is_left_out_and_counted(report: ModuleType) -> None:
    own = report.estimate(np.array([1.0, np.nan, 3.0]), report.mean, 50)
    assert (own.value, own.n) == (2.0, 2)
    assert report.estimate(np.array([np.nan]), report.mean, 50).n == 0


def test_averaging_alone_shrinks_the_spread_as_simulated(report: ModuleType) -> None:
    rng, images, draws = np.random.default_rng(2), 20, 4000
    values = rng.normal(size=images)
    orders = np.stack([rng.permutation(values) for _ in range(draws)])
    spreads = [orders[:, :n].mean(1).std() for n in (1, 5, 20)]
    assert report.shrinkage(5, images) == pytest.approx(spreads[1] / spreads[0], rel=0.05)
    assert report.shrinkage(1, images) == 1
    assert report.shrinkage(20, images) == pytest.approx(spreads[2], abs=1e-12) == 0


@pytest.mark.parametrize(
    ("lows", "wanted"), [([0.1, -1, -1], 2), ([-1, -1, -1], 1), ([-1, 0.1, -1], 4), ([0.1, 0.1, -1], 4)]
)
def test_it_settles_after_the_last_difference_that_is_told(report: ModuleType, lows: list, wanted: int) -> None:
    changes = [Estimate(0.5, low, 1.0, 9) for low in lows]
    assert report.settles(changes, [1, 2, 4]) == wanted


def test_a_mirrored_picture_is_turned_as_much_the_other_way(
    fig15: ModuleType, photos: Path, detector: FaceDetector
) -> None:
    photo = resized(load_image(photos / "Eileen" / "Eileen_0002.png")[None, :210, :210], 128)
    own, mirrored = (fig15.measure(x, detector) for x in (photo, np.ascontiguousarray(photo[:, :, ::-1])))
    for name, value in own.items():
        np.testing.assert_allclose(value, -mirrored[name])
    assert own["roll"] == pytest.approx(8, abs=6)  # the photograph was turned by that
    blank = fig15.measure(np.full((1, 64, 64, 3), 90, np.uint8), detector)
    assert np.isnan(blank["yaw"]).all() and (blank["side-light"] == 0).all()


def test_a_report_of_one_person(fig15: ModuleType, here: Path) -> None:
    row = ["--row", "tiny", str(here / "emb"), str(here / "ridge"), "--draws", "12", "--repetitions", "20"]
    fig15.main(["--person", "P0", *row, "--picture", str(here / "grid.png"), "-o", str(here / "out")])
    found = json.loads((here / "out" / "report.json").read_text())
    jsonschema.validate(found, json.loads((here / "out" / "report.schema.json").read_text()))
    own = found["metrics"]["tiny"]
    assert list(own["distance"]["person"]) == ["1", "2"]  # P0 has three images
    templates = Store.open(here / "emb").templates()[:3].astype(float)
    made = fig15.nested_means(templates.astype(np.float32), "P0", [2], 12, 0)[0]
    wanted = np.linalg.norm(made - templates.mean(0), axis=1).mean()
    assert own["distance"]["person"]["2"]["value"] == pytest.approx(wanted, rel=1e-5)
    spread = {n: x["value"] for n, x in own["spread"]["pixels"].items()}
    assert 0 < spread["2"] < spread["1"]
    assert load_image(here / "grid.png").ndim == 3


def test_a_report_of_several_people(fig15: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, draw, rng = {}, fig15.draw, np.random.default_rng(0)

    def keep(store, person, *rest):
        kept[person] = draw(store, person, *rest)
        kept[person].signed["yaw"][1, 0] = np.nan  # a face that is not found
        return kept[person]

    def measure(pictures, detector):
        return {name: rng.normal(size=len(pictures)) for name in ("yaw", "roll", "side-light")}

    monkeypatch.setattr(fig15, "draw", keep)
    monkeypatch.setattr(fig15, "measure", measure)
    row = ["--row", "tiny", str(here / "emb"), str(here / "ridge"), "--draws", "4", "--repetitions", "50"]
    fig15.main(["--person", "P0", "P1", "P2", *row, "-o", str(here / "out")])
    found = json.loads((here / "out" / "report.json").read_text())
    jsonschema.validate(found, json.loads((here / "out" / "report.schema.json").read_text()))
    assert list(kept) == ["P0", "P1", "P2"] and "no face is found in 3 of" in found["warnings"][0]
    for name, wanted in found["metrics"]["tiny"]["change"].items():
        each = [np.nanmean(np.abs(own.signed[name]), axis=1) for own in kept.values()]
        assert wanted["2"]["value"] == pytest.approx(np.mean([x[1] - x[0] for x in each])) and wanted["2"]["n"] == 3


def test_whoever_trained_the_decoder_is_refused(fig15: ModuleType, here: Path) -> None:
    row = ["--row", "tiny", str(here / "emb"), str(here / "ridge"), "-o", str(here / "out")]
    with pytest.raises(BadInput, match="trained on 1 of the 1 people"):
        fig15.main(["--person", "P7", *row])
    with pytest.raises(BadInput, match="0 templates of Nobody"):
        fig15.main(["--person", "Nobody", *row])
    manifest = json.loads((here / "emb/manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P0"]
    (here / "emb/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match="recognizer tiny: trained on 1 of the 1 people"):
        fig15.main(["--person", "P0", *row])
    assert not (here / "out").exists()
