"""Images → store: the same bytes whatever the workers or the interruptions, and failures as rows."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedecode.errors import BadInput, OutputError
from facedecode.extraction import run as extraction
from facedecode.extraction.jobs import StoreOptions
from facedecode.extraction.run import extract
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.perturb import parse_transform
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """The photographs, with files among them that give no template."""
    folder = tmp_path / "mixed"
    for path in sorted(photos.glob("*/*.png")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / path.parent.name / path.name)
    (folder / "Eileen" / "Eileen_0000.jpg").write_text("not a picture")
    Image.new("RGB", (80, 80), "gray").save(folder / "Mirror" / "Mirror_0002a.png")
    (folder / "Mirror" / "Mirror_0009.jpg").symlink_to(folder / "nowhere.jpg")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(images: Path, output: Path, recognizer: Recognizer, detector: FaceDetector, **options) -> extraction.Extracted:
    names = {field.name for field in dataclasses.fields(StoreOptions)}
    how = StoreOptions(**({"batch_size": 2, "shard_rows": 2} | {k: v for k, v in options.items() if k in names}))
    others = {k: v for k, v in options.items() if k not in names}
    return extract([images], output, recognizer, detector, options=how, **others)


def test_rows_and_failures(mixed: Path, tmp_path: Path, recognizer: Recognizer, detector: FaceDetector) -> None:
    result = run(mixed, tmp_path / "emb", recognizer, detector)
    store = Store.open(tmp_path / "emb")
    names = [f"{who}/{who}_000{i}.png" for who in ("Eileen", "Mirror") for i in (1, 2, 3)]
    assert store.paths() == names and store.identities() == ["Eileen"] * 3 + ["Mirror"] * 3
    assert (result.count, result.resumed, len(result.failures)) == (6, 0, 3)
    assert result.failures == store.failures()
    assert [(f["path"], f["stage"]) for f in result.failures] == [
        ("Eileen/Eileen_0000.jpg", "read"),
        ("Mirror/Mirror_0002a.png", "detect"),
        ("Mirror/Mirror_0009.jpg", "read"),
    ]
    assert [shard.rows for shard in store.manifest.shards] == [2, 2, 2]
    assert sorted(p.name for p in (tmp_path / "emb").iterdir() if p.name.startswith((".", "progress"))) == []
    # Each template is that of the recorded face.
    for row, template in zip(store.rows().to_pylist(), store.templates(), strict=True):
        image = np.asarray(Image.open(mixed / row["path"]))
        face = detector.detect([image])[0][0]
        np.testing.assert_allclose(row["box"], face.box, atol=1e-3)
        alone = recognizer.embed_crops(recognizer.crop(image, face)[None])[0]
        np.testing.assert_allclose(template, alone, atol=1e-3)


def test_workers_do_not_change_the_bytes(mixed: Path, tmp_path: Path, recognizer, detector) -> None:
    run(mixed, tmp_path / "one", recognizer, detector, workers=1)
    run(mixed, tmp_path / "three", recognizer, detector, workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


@pytest.mark.parametrize("stop", [1, 4, 6, 9])
def test_interrupted_and_resumed_gives_the_same_bytes(mixed: Path, tmp_path: Path, recognizer, detector, stop) -> None:
    run(mixed, tmp_path / "whole", recognizer, detector)

    def interrupt(done: int, total: int, note: str = "") -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(mixed, tmp_path / "parts", recognizer, detector, progress=interrupt)
    assert not (tmp_path / "parts" / "manifest.json").exists()
    seen: list[tuple[int, int]] = []
    result = run(mixed, tmp_path / "parts", recognizer, detector, progress=lambda *a: seen.append(a[:2]))
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert len(seen) == 10 - result.resumed and seen[-1] == (9, 9)
    # What was seen ahead is told before it is written; the last input, when all of it is.
    assert stop not in (1, 9) or (result.resumed > 0) == (stop == 9)


def test_a_finished_store_is_left_alone(mixed: Path, tmp_path: Path, recognizer, detector) -> None:
    run(mixed, tmp_path / "emb", recognizer, detector)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "emb").iterdir()}
    result = run(mixed, tmp_path / "emb", recognizer, detector, progress=lambda *a: pytest.fail("worked again"))
    assert (result.count, result.resumed, len(result.failures)) == (6, 9, 3)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "emb").iterdir()} == before


def test_other_settings_are_refused_then_overwritten(photos: Path, tmp_path: Path, recognizer, detector) -> None:
    run(photos, tmp_path / "emb", recognizer, detector)
    before = content(tmp_path / "emb")
    turned = parse_transform("rotate30")
    with pytest.raises(OutputError, match=r"other settings \(settings\.transform null there, .rotate30. here\)"):
        run(photos, tmp_path / "emb", recognizer, detector, transform=turned)
    assert content(tmp_path / "emb") == before
    run(photos, tmp_path / "emb", recognizer, detector, transform=turned, overwrite=True)
    assert Store.open(tmp_path / "emb").manifest.transform == "rotate30"


def test_overwriting_with_nothing_usable_keeps_what_was_there(photos: Path, tmp_path: Path, recognizer, detector):
    run(photos, tmp_path / "emb", recognizer, detector)
    before = content(tmp_path / "emb")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("no picture")
    with pytest.raises(BadInput, match=r"no usable input \(1 failed; the first, x\.jpg: not an image"):
        run(tmp_path / "bad", tmp_path / "emb", recognizer, detector, overwrite=True)
    assert content(tmp_path / "emb") == before


def test_nothing_usable_leaves_no_folder(tmp_path: Path, recognizer, detector) -> None:
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "bad" / "x.png")
    with pytest.raises(BadInput, match="no face found"):
        run(tmp_path / "bad", tmp_path / "emb", recognizer, detector)
    assert not (tmp_path / "emb").exists()


def test_bad_pictures_each_say_why(photos: Path, tmp_path: Path, recognizer, detector, monkeypatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = sorted(photos.glob("*/*.png"))[0]
    os.link(good, folder / "good.png")
    (folder / "text.jpg").write_text("hello")
    Image.open(good).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    (folder / "whole.jpg").unlink()
    (folder / "empty.png").write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    Image.new("1", (20_000, 10_000)).save(folder / "bomb.png")
    result = run(folder, tmp_path / "emb", recognizer, detector)
    reasons = {f["path"]: (f["stage"], f["reason"]) for f in result.failures}
    assert result.count == 1
    assert reasons.keys() == {"bomb.png", "cut.jpg", "empty.png", "pipe.png", "text.jpg"}
    assert {stage for stage, _ in reasons.values()} == {"read"}
    assert "bomb" in reasons["bomb.png"][1] and "truncated" in reasons["cut.jpg"][1]
    assert "a pipe" in reasons["pipe.png"][1]
    assert "not an image" in reasons["text.jpg"][1] and "not an image" in reasons["empty.png"][1]
    assert not any(str(folder) in reason or "\n" in reason for _, reason in reasons.values())


def test_an_exif_rotated_copy_gives_the_same_template(photos: Path, tmp_path: Path, recognizer, detector) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    upright = Image.open(sorted(photos.glob("*/*.png"))[0])
    upright.save(folder / "upright.png")
    # Orientation 6 means: turn clockwise to see it upright.
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    run(folder, tmp_path / "emb", recognizer, detector)
    store = Store.open(tmp_path / "emb")
    turned, straight = store.templates()
    first, second = store.rows().to_pylist()
    np.testing.assert_array_equal(turned, straight)
    assert (first["width"], first["height"]) == (second["width"], second["height"]) == upright.size
    assert first["box"] == second["box"] and first["landmarks"] == second["landmarks"]


def test_a_transform_moves_the_template_and_keeps_the_box(photos: Path, tmp_path: Path, recognizer, detector) -> None:
    for name in (None, "rotate30", "rotate30+rotate-30"):
        transform = parse_transform(name) if name else None
        run(photos, tmp_path / str(name), recognizer, detector, transform=transform)
    plain, turned, back = (Store.open(tmp_path / n) for n in ("None", "rotate30", "rotate30+rotate-30"))
    assert plain.rows().equals(turned.rows())
    far = np.linalg.norm(plain.templates() - turned.templates(), axis=1)
    near = np.linalg.norm(plain.templates() - back.templates(), axis=1)
    assert (far > 20 * near).all()
    assert turned.manifest.transform == "rotate30" and plain.manifest.transform is None
    assert plain.fingerprint != turned.fingerprint


def test_a_face_that_leaves_the_frame_is_a_failure(photos: Path, tmp_path: Path, recognizer, detector) -> None:
    """The face is moved by its box's width: out of a picture that ends there, not out of one with room."""
    folder = tmp_path / "in"
    folder.mkdir()
    image = Image.open(sorted(photos.glob("*/*.png"))[0])
    x1, _, x2, _ = detector.detect([np.asarray(image)])[0][0].box
    image.save(folder / "narrow.png")
    wide = Image.new("RGB", (image.width + 200, image.height))
    wide.paste(image, (200, 0))
    wide.save(folder / "wide.png")
    name = "+".join(["shift-left"] * int(np.ceil(x2 / (0.2 * (x2 - x1)))))
    result = run(folder, tmp_path / "emb", recognizer, detector, transform=parse_transform(name))
    expected = {"path": "narrow.png", "stage": "perturb", "reason": f"{name} leaves no face in the frame"}
    assert result.failures == [expected]
    store = Store.open(tmp_path / "emb")
    assert store.paths() == ["wide.png"] and store.failures() == [expected]


def test_a_template_that_is_not_finite_is_a_failure(photos: Path, tmp_path: Path, recognizer, detector, monkeypatch):
    embed = recognizer.embed_crops

    def spoiled(crops: np.ndarray) -> np.ndarray:
        templates = embed(crops)
        templates[0] = np.nan
        return templates

    monkeypatch.setattr(recognizer, "embed_crops", spoiled)
    result = run(photos, tmp_path / "emb", recognizer, detector)
    assert result.count == 3 and {f["stage"] for f in result.failures} == {"embed"}
    assert np.isfinite(Store.open(tmp_path / "emb").templates()).all()


KILLED = """
    # One import and one loading, then a fork for each run: it makes progress, and is killed from outside.
    import os, signal, sys, time
    from pathlib import Path
    from facedecode.extraction.jobs import StoreOptions
    from facedecode.extraction.run import extract
    from facedecode.pictures.faces import FaceDetector
    from facedecode.progress import silent
    from facedecode.recognizers import load_recognizer

    images, output = Path(sys.argv[1]), Path(sys.argv[2])
    recognizer, detector = load_recognizer(), FaceDetector()

    def work(pipe):
        tell = (lambda *_: os.write(pipe, b".")) if pipe else silent
        extract([images], output, recognizer, detector, options=StoreOptions(1, 1, 1), progress=tell)

    for wait in (1, 2, 1, 1):
        read, write = os.pipe()
        if not (child := os.fork()):
            os.close(read)
            try:
                work(write)
            finally:
                os._exit(0)
        os.close(write)
        done = b""
        while len(done) < wait and (byte := os.read(read, 1)):
            done += byte
        time.sleep(0.01 * wait)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(read)
        print("killed" if os.WIFSIGNALED(status) else "ended", len(list(output.glob("*.done.json"))))
    assert not (output / "manifest.json").exists()
    work(None)
"""


@pytest.mark.slow
def test_sigkill_and_resume_gives_the_same_bytes(photos: Path, tmp_path: Path, detector: FaceDetector) -> None:
    arguments = [sys.executable, "-c", textwrap.dedent(KILLED), str(photos), str(tmp_path / "parts")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[::2] == ["killed"] * 4
    extract([photos], tmp_path / "whole", load_recognizer(), detector, options=StoreOptions(1, 1, 1))
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_missing_and_empty_inputs(tmp_path: Path, recognizer, detector) -> None:
    (tmp_path / "none").mkdir()
    for path, reason in (("missing", "no such file or folder"), ("none", "no image in this folder")):
        with pytest.raises(BadInput, match=rf"{path}: {reason}"):
            run(tmp_path / path, tmp_path / "emb", recognizer, detector)
    assert not (tmp_path / "emb").exists()
