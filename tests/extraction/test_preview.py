"""The preview of `extract`: what is shown where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.errors import BadInput, OutputError
from facedecode.extraction.preview import write_preview
from facedecode.pictures import align
from facedecode.pictures.figures import GAP, enlarged
from facedecode.pictures.perturb import parse_transform, perturb
from facedecode.store import Store

SIDE = 128  # of the tiny recognizer's crops, enlarged


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def cells(path: Path) -> list[np.ndarray]:
    """The pictures of a column, from the last column on the right: rows of one caption line and four pictures."""
    grid = np.asarray(Image.open(path))[:, -SIDE:]
    line = (grid.shape[0] - 4 * SIDE - 3 * GAP) if grid.shape[0] > 3 * SIDE else grid.shape[0] - 2 * SIDE - GAP
    tops = [0] + [SIDE + line + GAP + i * (SIDE + GAP) for i in range(3)]
    return [grid[top : top + SIDE] for top in tops if top + SIDE <= grid.shape[0]]


def test_it_shows_the_picture_and_the_crop_before_and_after(photos, tmp_path, recognizer, detector) -> None:
    transform, path = parse_transform("rotate30+occlude-mouth"), tmp_path / "grid.png"
    assert write_preview(path, [photos], recognizer, detector, transform) == 6
    assert np.asarray(Image.open(path)).shape[1] > 6 * SIDE
    image = np.asarray(Image.open(sorted(photos.glob("*/*.png"))[-1]).convert("RGB"))
    face = detector.detect([image])[0][0]
    perturbed = perturb(image, face, transform)
    original, seen, moved, seen_moved = cells(path)
    np.testing.assert_array_equal(seen, enlarged(recognizer.crop(image, face)[None])[0])
    np.testing.assert_array_equal(seen_moved, enlarged(recognizer.crop(perturbed, face)[None])[0])
    for shown, picture in ((original, image), (moved, perturbed)):
        plain = align.crop(picture, face, align.BoxCrop(SIDE, 1.8))
        differs = (shown != plain).any(axis=2)
        assert 0 < differs.sum() <= 4 * SIDE / 1.8  # the box's outline
        assert (shown[differs] == (255, 210, 0)).all()


def test_a_preview_among_the_images_is_refused(photos, recognizer, detector) -> None:
    path = next(photos.glob("*/*.png")).with_name("grid.png")
    with pytest.raises(OutputError, match=r"grid\.png: lies among the images"):
        write_preview(path, [photos], recognizer, detector)
    assert not path.exists()


def test_faces_are_spread_and_images_without_one_are_passed_over(photos, tmp_path, recognizer, detector) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = sorted(photos.glob("*/*.png"))[0]
    for i in range(6):
        Image.new("RGB", (60, 60)).save(folder / f"{i}a.png")
        (folder / f"{i}b.png").write_bytes(source.read_bytes())
    (folder / "0a.png").write_text("no picture")
    path = tmp_path / "grid.png"
    assert write_preview(path, [folder], recognizer, detector, faces=3) == 3
    original, seen = cells(path)
    assert original.any() and seen.any()
    assert not path.with_suffix(".tmp").exists() and [p.name for p in tmp_path.glob("*.png")] == ["grid.png"]


def test_what_is_there_is_kept(photos, tmp_path, recognizer, detector) -> None:
    path = tmp_path / "grid.png"
    write_preview(path, [photos], recognizer, detector, faces=2)
    before = path.read_bytes()
    write_preview(path, [photos], recognizer, detector, faces=2)  # a run that is resumed draws it again
    assert path.read_bytes() == before
    turned = parse_transform("rotate90")
    with pytest.raises(OutputError, match=r"grid\.png: another file is there; use --overwrite"):
        write_preview(path, [photos], recognizer, detector, turned, faces=2)
    assert path.read_bytes() == before
    write_preview(path, [photos], recognizer, detector, turned, faces=2, overwrite=True)
    assert path.read_bytes() != before


def test_nothing_to_show_and_wrong_names_are_refused(photos, tmp_path, recognizer, detector) -> None:
    with pytest.raises(OutputError, match=r"grid\.jpg: the preview is written as PNG"):
        write_preview(tmp_path / "grid.jpg", [photos], recognizer, detector)
    away = parse_transform("+".join(["shift-left"] * 20))
    with pytest.raises(BadInput, match=r"grid\.png: no face to show among the 6 images"):
        write_preview(tmp_path / "grid.png", [photos], recognizer, detector, away)
    with pytest.raises(OutputError, match="cannot write"):
        write_preview(tmp_path / "gone" / "grid.png", [photos], recognizer, detector)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".safetensors"]


def test_the_command(photos: Path, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--model", "tiny", "--weights", tiny, "--transform", "rotate-60", "--preview", "grid.png", "--json"]
    done = call("extract", photos, "-o", "emb", *options, "--dry-run")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["metrics"], answer["outputs"]) == ({"count": 6}, {"preview": "grid.png"})
    assert not Path("emb").exists() and len(cells(Path("grid.png"))) == 4
    assert "grid.png: 6 of the faces" in done.stderr
    done = call("extract", photos, "-o", "emb", *options)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["outputs"] == {"store": "emb", "preview": "grid.png"}
    assert Store.open("emb").manifest.transform == "rotate-60"
    done = call("extract", photos, "-o", "other", *options[:5], "shift-up", *options[6:])
    assert done.exit_code == 4 and "grid.png: another file is there" in done.stderr
    assert not Path("other").exists()
