"""What goes through a cropper: progress, its end, arrays, and images that are crops already."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import facedecode
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.extraction import cropping
from facedecode.extraction.cropping import FaceCropper
from facedecode.extraction.jobs import StoreOptions
from facedecode.extraction.run import crops_note, extract
from facedecode.memory import Budget
from facedecode.pictures import align, images
from facedecode.pictures.align import cropped_face
from facedecode.pictures.finding import find_images
from facedecode.pictures.given_faces import AlignedCrops
from facedecode.pictures.images import load_image
from facedecode.pictures.perturb import parse_transform
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.spec import REGISTRY
from facedecode.store import Store
from facedecode.store.images import embed_perturbed, read_crops, read_portraits


@pytest.fixture
def crops(photos: Path, recognizer: Recognizer, detector, tmp_path: Path) -> Path:
    """The recognizer's crops of the photographs, one folder a person."""
    refs = find_images([photos]).refs
    for ref, item in zip(refs, FaceCropper(recognizer, detector).items(refs, 6), strict=True):
        path = tmp_path / "crops" / ref.relative
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.crop).save(path)
    return tmp_path / "crops"


def blanks(folder: Path, count: int) -> Path:
    """Images of the tiny recognizer's size in which no face is found."""
    folder.mkdir()
    for k in range(count):
        Image.new("RGB", (32, 32), "gray").save(folder / f"{k}.png")
    return folder


def test_images_are_seen_one_by_one_before_their_chunk_is_done(photos, recognizer, detector) -> None:
    refs, told = find_images([photos]).refs, []

    def told_late(count: int) -> None:
        time.sleep(0.5)  # the chunk is done meanwhile: what it said before is told all the same
        told.append(count)

    items = FaceCropper(recognizer, detector).items(refs, len(refs), seen=told_late)
    next(items)
    assert told == [1, 2, 3, 4, 5, 6]
    items.close()


def test_failures_are_seen_too(tmp_path: Path, recognizer, detector) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    Image.new("RGB", (60, 60)).save(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    told: list[int] = []
    refs = find_images([tmp_path / name for name in ("a.jpg", "b.png")]).refs
    results = list(FaceCropper(recognizer, detector).items(refs, 2, seen=told.append))
    assert told == [1, 2] and [item.failure["stage"] for item in results] == ["read", "detect"]


def test_progress_rises_by_one_to_the_end(photos, tmp_path, recognizer, detector) -> None:
    told: list[tuple[int, int]] = []
    extract(
        [photos],
        tmp_path / "emb",
        recognizer,
        detector,
        options=StoreOptions(batch_size=6, shard_rows=2),
        progress=lambda done, total, note="": told.append((done, total)),
    )
    assert told == [(done, 6) for done in range(7)]


def test_it_ends_within_an_image_when_it_is_closed(photos: Path, recognizer, detector) -> None:
    pictures = [load_image(path) for path in sorted(photos.glob("*/*.png"))]
    found = []

    class Watched:
        settings: dict[str, object] = {}  # noqa: RUF012

        def find(self, images, paths):
            for index in range(len(images)):
                found.append(index)
                yield index, "no face found"

    def stop(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(FaceCropper(recognizer, Watched()).items(pictures * 1000, 6000, 1, stop))
    assert len(found) < 6000


def test_those_that_wait_for_room_end_with_the_one_that_has_it(photos, recognizer, monkeypatch) -> None:
    for module in (cropping, images):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(images, "_ROOM", Budget(1))
    pictures = [load_image(path) for path in sorted(photos.glob("*/*.png"))] * 4
    found = []

    class Slow:
        settings: dict[str, object] = {}  # noqa: RUF012

        def find(self, images, paths):
            found.append(len(images))
            time.sleep(0.05)
            yield 0, "no face found"

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(FaceCropper(recognizer, Slow()).items(pictures, 1, 8, stop))
    assert len(found) < 5


def test_arrays_give_what_their_files_give(photos: Path, recognizer, detector) -> None:
    refs = find_images([photos]).refs
    cropper = FaceCropper(recognizer, detector)
    arrays = cropper.items([load_image(ref.path) for ref in refs], 3)
    for item, other in zip(arrays, cropper.items(refs, 3), strict=True):
        np.testing.assert_array_equal(item.template, other.template)
        assert item.row["path"] is item.row["sha256"] is None and other.row["sha256"]


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("side", [64, 250])
def test_a_crop_is_cut_nothing_off(name: str, side: int) -> None:
    """Every recognizer's crop of its own crop is that: a scaling, without rotation or shift."""
    how = REGISTRY[name].crop
    face = cropped_face(how, side)
    np.testing.assert_allclose(how.matrix(face), np.eye(2, 3) * how.size / side, atol=1e-3)
    assert (face.landmarks > 0).all() and (face.landmarks < side).all()


@pytest.mark.parametrize("box_side", get_args(align.BoxSide))
def test_boxes_of_all_kinds(box_side: align.BoxSide) -> None:
    how = align.BoxCrop(100, 1.3, box_side)
    np.testing.assert_allclose(how.matrix(cropped_face(how, 50)), np.eye(2, 3) * 2, atol=1e-3)


def test_crops_give_the_templates_of_their_images(crops, photos, tmp_path, recognizer, detector) -> None:
    extract([photos], tmp_path / "found", recognizer, detector)
    finder = AlignedCrops(recognizer.spec.crop)
    extract([crops], tmp_path / "aligned", recognizer, finder)
    found, aligned = Store.open(tmp_path / "found"), Store.open(tmp_path / "aligned")
    np.testing.assert_allclose(aligned.templates(), found.templates(), atol=1e-5)
    assert aligned.identities() == found.identities()
    assert aligned.fingerprint != found.fingerprint
    assert aligned.manifest.settings["detector"] == {"detector": "none", "images": "aligned crops"}
    # What is made of the store's images follows.
    rows = aligned.rows().to_pylist()
    pictures = read_crops(rows, crops, recognizer.spec.crop)
    np.testing.assert_array_equal(pictures, [load_image(crops / row["path"]) for row in rows])
    difference = read_portraits(rows, crops, 40)[:, 10:-10, 10:-10].astype(float)
    difference -= read_portraits(found.rows().to_pylist(), photos, 40)[:, 10:-10, 10:-10]
    assert np.abs(difference).mean() < 12
    turn = parse_transform("rotate30")
    extract([crops], tmp_path / "turned", recognizer, finder, transform=turn)
    ((_, again),) = embed_perturbed(rows, crops, recognizer, turn)
    np.testing.assert_allclose(Store.open(tmp_path / "turned").templates(), again, atol=1e-5)


def test_crops_of_another_size_and_what_is_none(crops: Path, tmp_path: Path, recognizer) -> None:
    picture = Image.open(sorted(crops.glob("*/*.png"))[0])
    (tmp_path / "in").mkdir()
    picture.save(tmp_path / "in/a.png")
    picture.resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / "in/b.png")
    picture.resize((96, 80)).save(tmp_path / "in/c.png")
    result = extract([tmp_path / "in"], tmp_path / "emb", recognizer, AlignedCrops(recognizer.spec.crop))
    own, enlarged = Store.open(tmp_path / "emb").templates()
    assert np.linalg.norm(own - enlarged) < 0.1 * np.linalg.norm(own)
    reason = "96 x 80 pixels, and a crop is square"
    assert result.failures == [{"path": "c.png", "stage": "detect", "reason": reason}]
    assert result.notes == ["1 of 2 images are resized: the recognizer takes 32 x 32 pixels"]


@pytest.mark.parametrize("size", [(96, 112), (48, 56), (112, 112)])
def test_crops_in_the_proportions_of_the_input(size: tuple[int, int]) -> None:
    """SphereFace sees the middle 96 columns of 112: its own crops are those, and squares are the whole."""
    how = REGISTRY["edgeface-xxs"].crop
    finder = AlignedCrops(how, (112, 96))
    face = finder.face(*size, None)
    scale, left = 112 / size[1], (112 - size[0] * 112 / size[1]) / 2
    np.testing.assert_allclose(how.matrix(face), [[scale, 0, left], [0, scale, 0]], atol=1e-3)
    assert finder.face(112, 96, None) == "112 x 96 pixels, and a crop is square or has the proportions of 96 x 112"


def test_embed_takes_crops_as_extract_does(crops: Path, recognizer: Recognizer) -> None:
    paths = sorted(crops.glob("*/*.png"))
    pictures = np.stack([load_image(path) for path in paths])
    embedded = facedecode.embed(list(pictures), recognizer, crop="aligned")
    np.testing.assert_array_equal(embedded.crops, pictures)
    np.testing.assert_array_equal(embedded.templates, recognizer.embed_crops(pictures))
    mixed = facedecode.embed([paths[0], pictures[1], np.zeros((32, 40, 3), np.uint8)], recognizer, crop="aligned")
    np.testing.assert_allclose(mixed.templates[:2], embedded.templates[:2], atol=1e-6)
    assert mixed.failures == {2: "40 x 32 pixels, and a crop is square"} and np.isnan(mixed.templates[2]).all()


def test_images_that_may_be_crops_are_pointed_out(crops: Path, photos: Path, tmp_path, recognizer, detector) -> None:
    note = crops_note(find_images([crops]).refs, recognizer)
    assert note.startswith("the images are 32 x 32 pixels, as crops for tiny, tiny-cosine are") and "--crop" in note
    assert crops_note(find_images([photos]).refs, recognizer) is None
    assert crops_note(find_images([crops, photos]).refs, recognizer) is None
    blank = blanks(tmp_path / "blank", 2)
    with pytest.raises(BadInput, match=r"no usable input .*2 of 2 images show the detector no face; .*--crop aligned"):
        extract([blank], tmp_path / "emb", recognizer, detector)
    result = extract([blank, photos], tmp_path / "emb", recognizer, detector)
    assert result.notes and "2 of 8 images" in result.notes[0]
    assert extract([blank / "0.png", photos], tmp_path / "few", recognizer, detector).notes == []


def test_the_command(crops: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model", "tiny", "--weights", str(tiny)]
    done = CliRunner().invoke(app, ["extract", str(crops), "-o", "emb", "--crop", "aligned", *words])
    assert done.exit_code == 0 and "6 images of 2 people ('Eileen', 'Mirror')" in done.stderr, done.output
    assert "--crop" not in done.stderr and len(Store.open("emb")) == 6
    done = CliRunner().invoke(app, ["extract", str(blanks(tmp_path / "blank", 2)), "-o", "found", *words])
    assert done.exit_code == 4 and "the images are 32 x 32 pixels" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "--crop aligned" in done.stderr.splitlines()[-1]


def test_the_level_of_people_by_the_command(crops: Path, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for person in ("Eileen", "Mirror"):
        for k in (1, 2, 3):
            view = Path("views", person, "frontal" if k < 3 else "profile")
            view.mkdir(parents=True, exist_ok=True)
            (crops / person / f"{person}_000{k}.png").rename(view / f"{k}.png")
    words = ["extract", "views", "--crop", "aligned", "--model", "tiny", "--weights", str(tiny)]
    done = CliRunner().invoke(app, [*words, "-o", "emb"])
    assert done.exit_code == 0 and "say --identity-level 2" in done.stderr
    done = CliRunner().invoke(app, [*words, "-o", "emb2", "--identity-level", "2"])
    assert done.exit_code == 0 and "--identity-level" not in done.stderr, done.output
    store = Store.open("emb2")
    assert store.identities() == ["Eileen"] * 3 + ["Mirror"] * 3
    assert store.manifest.settings["identity_level"] == 2
    assert "identity_level" not in Store.open("emb").manifest.settings
    assert (Store.open("emb").manifest.identity_level, store.manifest.identity_level) == (1, 2)
    for wrong in ("2", 0, -1, None):
        store.manifest.settings["identity_level"] = wrong
        with pytest.raises(BadInput, match=r"settings\.identity_level .* no level of a folder"):
            _ = store.manifest.identity_level
    Path("people.csv").write_text("path,identity\n")
    done = CliRunner().invoke(app, [*words, "-o", "emb3", "--identity-level", "2", "--identities", "people.csv"])
    assert done.exit_code == 2 and "give one of them" in done.stderr
