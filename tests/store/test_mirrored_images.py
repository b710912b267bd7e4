"""Images turned over left to right: the face in them, their templates, and training on them."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedecode.errors import BadInput, MissingWeights
from facedecode.pictures.faces import Face, mirrored
from facedecode.recognizers import load_recognizer
from facedecode.store import ImageFolder, Store
from facedecode.store.images import read_mirrored, read_portraits
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob, LossWeights, TrainSettings

FACE = Face(
    np.array([10, 20, 40, 60], np.float32),
    np.array([[18, 35], [31, 33], [26, 44], [20, 52], [30, 50]], np.float32),
    0.9,
)
PLAIN = TrainSettings(
    image_size=64,
    widths=(8, 8, 8, 4, 4),
    coarse=8,
    epochs=1,
    batch_size=6,
    weights=LossWeights(perceptual=0, identity=0),
)


def test_landmarks_stay_on_their_pixels_and_in_their_order() -> None:
    image = np.zeros((70, 51, 3), np.uint8)
    for i, (x, y) in enumerate(FACE.landmarks.astype(int)):
        image[y, x] = i + 1
    turned, face = mirrored(image, FACE)
    for name, number in {"right eye": 2, "left eye": 1, "nose": 3, "right corner": 5, "left corner": 4}.items():
        (y, x) = np.argwhere(turned[..., 0] == number)[0]
        k = [2, 1, 3, 5, 4].index(number)
        np.testing.assert_array_equal(face.landmarks[k], [x + 1, y], err_msg=name)  # pixel x covers [x, x + 1)
    assert face.landmarks[0, 0] < face.landmarks[1, 0] and face.landmarks[3, 0] < face.landmarks[4, 0]
    np.testing.assert_array_equal(face.box, [11, 20, 41, 60])


def test_twice_is_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 51, 3), np.uint8)
    again, face = mirrored(*mirrored(image, FACE))
    np.testing.assert_array_equal(again, image)
    np.testing.assert_array_equal(face.landmarks, FACE.landmarks)
    np.testing.assert_array_equal(face.box, FACE.box)


def test_they_are_what_mirrored_files_would_give(tiny_store: Path, tiny: Path, tmp_path: Path) -> None:
    store, recognizer = Store.open(tiny_store), load_recognizer("tiny", tiny)
    rows = store.rows().to_pylist()[:7]
    turned = []
    for row in rows:
        image = np.asarray(Image.open(store.root / row["path"]))
        copy = tmp_path / "turned" / row["path"]
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, ::-1]).save(copy)
        points = np.array(row["landmarks"]).reshape(5, 2)[[1, 0, 2, 4, 3]] * [-1, 1] + [96, 0]
        x1, y1, x2, y2 = row["box"]
        turned.append(row | {"landmarks": points.ravel(), "box": [96 - x2, y1, 96 - x1, y2], "sha256": None})
    elsewhere = ImageFolder(tmp_path / "turned", named=True)
    templates, portraits = read_mirrored(rows, store.root, 64, recognizer, batch_size=3)
    np.testing.assert_array_equal(portraits, read_portraits(turned, elsewhere, 64))
    assert templates.shape == (7, 16) and templates.dtype == np.float32
    assert np.abs(templates - store.templates()[:7]).max() > 1e-3
    back, _ = read_mirrored(turned, elsewhere, 64, recognizer)
    np.testing.assert_allclose(back, store.templates()[:7], atol=1e-5)


@pytest.fixture
def job(tiny_store: Path, tiny: Path, tmp_path: Path) -> DecoderJob:
    return DecoderJob(tiny_store, tmp_path / "decoder", validation=0.3, weights=tiny, settings=PLAIN)


def test_an_epoch_has_each_image_twice_and_no_held_out_one(job: DecoderJob, monkeypatch) -> None:
    import facedecode.training.decoder as module

    seen = {}
    original = module.train_decoder

    def watch(inputs, *rest):
        seen.update(train=inputs.train, validation=inputs.validation)
        return original(inputs, *rest)

    monkeypatch.setattr(module, "train_decoder", watch)
    train_store(job)
    there, held = len(seen["train"]), len(seen["validation"])
    assert there == 2 * (30 - held) and 0 < held < 30
    plain, turned = np.split(seen["train"].portraits, 2)
    # The portrait frame is symmetric but for a fraction of a pixel.
    assert np.abs(turned[:, :, ::-1].astype(int) - plain).mean() < 1 < np.abs(turned.astype(int) - plain).mean()
    train_store(dataclasses.replace(job, overwrite=True, settings=dataclasses.replace(PLAIN, mirror=False)))
    assert len(seen["train"]) == there // 2


def test_it_takes_the_recognizer(job: DecoderJob) -> None:
    nowhere = dataclasses.replace(job, weights=Path("nowhere"))
    with pytest.raises(MissingWeights, match="nowhere"):
        train_store(nowhere)
    train_store(dataclasses.replace(nowhere, settings=dataclasses.replace(PLAIN, mirror=False)))


def test_perturbed_stores_are_refused(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store.open(job.store)
    opened.manifest = replace(opened.manifest, transform="rotate30")
    monkeypatch.setattr(Store, "open", lambda path: opened)
    with pytest.raises(BadInput, match="--no-mirror"):
        train_store(job)
