"""`facedecode attack`: what is saved, what the table says of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from facedecode import files
from facedecode.attacks import Budget
from facedecode.attacks.jobs import AttackJob, TargetOptions
from facedecode.attacks.output import picture_names
from facedecode.attacks.run import Attacked, attack_images, whom_they_know
from facedecode.attacks.table import Row, parse_table, read_table, summarize, table_text
from facedecode.attacks.target import AttackTarget, Threshold, choose_threshold, find_target
from facedecode.classifiers.classifier import Classifier, load_classifier
from facedecode.classifiers.fit import fit_store_classifier
from facedecode.cli import app
from facedecode.decoders import Provenance, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.extraction.cropping import FaceCropper
from facedecode.known_pictures import Known, KnownPictures, MadeBy
from facedecode.pictures import align
from facedecode.pictures.faces import Face, FaceDetector, choose_face, moved
from facedecode.pictures.figures import GAP
from facedecode.pictures.finding import ImageRef, find_images
from facedecode.pictures.images import load_image
from facedecode.progress import silent
from facedecode.recognizers import REGISTRY, load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.store.processing import refuse_done
from facedecode.templates.transformation import require_extracted

# The classes of `classifier.st` are the people who are attacked, and it is said.
pytestmark = pytest.mark.filterwarnings("default:the classifier was trained on:facedecode.errors.FacedecodeWarning")

SIDE = 32  # px of a tiny crop; 128 as the figure shows it
NEAR = -0.1  # a score that no two of the different pictures reach by themselves
FLAT = 0.5 / 255 + 1e-9  # what rounding to 8 bits can move a pixel


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def cropper(recognizer: Recognizer, detector: FaceDetector) -> FaceCropper:
    return FaceCropper(recognizer, detector)


@pytest.fixture
def here(photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `in` (images), `classifier.st` of three looks, and no shipped decoder."""
    shutil.copytree(photos, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "none")
    recognizer = load_recognizer("tiny", tiny)
    images = [photos / "Eileen/Eileen_0001.png", photos / "Mirror/Mirror_0001.png", photos / "Mirror/Mirror_0003.png"]
    items = FaceCropper(recognizer, FaceDetector()).chunk([ImageRef(path, path.name, None) for path in images])
    looks = np.stack([item.template for item in items])
    # The nearest look wins, softly.
    weight, bias = 200 * looks, -100 * (looks**2).sum(axis=1)
    Classifier.from_linear(weight, bias, ["Eileen", "Mirror", "Dark"], recognizer.describe()).save("classifier.st")
    return tmp_path


def attack(*options: object, images: str = "in", output: str = "adv", target: str | None = "mirror") -> Result:
    own = ["--model", "tiny", "--weights", "tiny.safetensors"]
    own += ["--target", "in/Mirror/Mirror_0001.png" if target == "mirror" else target] if target else []
    return call("attack", images, "-o", output, *own, *options)


def crops_of(images: Path, rows: list[Row], recognizer: Recognizer, detector: FaceDetector) -> np.ndarray:
    """The crops that were attacked, found anew."""
    crops = []
    for row in rows:
        image = load_image(images / row["path"])
        face = choose_face(detector.detect([image])[0], image.shape[1], image.shape[0])
        crops.append(recognizer.crop(image, face))
    return np.stack(crops)


def saved_of(output: Path, rows: list[Row]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(output / "pictures" / row["picture"])) for row in rows])


def test_a_dry_run_counts_and_writes_nothing(here: Path) -> None:
    before = content(here)
    told = attack("--threshold", NEAR, "--dry-run", "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["metrics"] == {"images": len(find_images([here / "in"])[1])}
    assert "would be attacked by itfgsm" in told.stderr and content(here) == before and not (here / "adv").exists()
    for refused in (("--method", "none"), ("--threshold", NEAR, "--fmr", 0.1)):
        assert attack(*refused, "--dry-run").exit_code == 2


def test_an_embedding_attack_end_to_end(here: Path, recognizer: Recognizer, detector: FaceDetector) -> None:
    done = attack("--threshold", NEAR, "--epsilon", "8/255", "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["outputs"] == {
        "pictures": "adv/pictures",
        "store": "adv/emb",
        "table": "adv/attacks.csv",
        "figure": "adv/attacks.png",
    }
    assert sorted(p.name for p in Path("adv").iterdir()) == ["attacks.csv", "attacks.png", "emb", "pictures"]
    metrics = answer["metrics"]
    assert (metrics["attempted"], metrics["already"], metrics["failed"]) == (4, 2, 0)
    assert metrics["success"] | {"low": 0, "high": 0} == {"value": 1.0, "low": 0, "high": 0, "n": 4}
    assert metrics["success_saved"]["value"] == 1 and metrics["gradients"]["value"] >= 1
    assert "2 were there already" in done.stderr and "look at adv/attacks.png" in done.stderr

    rows = read_table(Path("adv/attacks.csv"))
    store = Store.open("adv/emb")
    assert [row["picture"] for row in rows] == [row["path"] for row in rows] == store.paths()
    assert store.identities() == ["Eileen"] * 3 + ["Mirror"] * 3 == [row["identity"] for row in rows]
    assert store.root == Path("adv/pictures").resolve()
    crops, saved = crops_of(Path("in"), rows, recognizer, detector), saved_of(Path("adv"), rows)
    templates, own = recognizer.embed_crops(saved), recognizer.embed_crops(crops)
    np.testing.assert_allclose(store.templates(), templates, atol=1e-5)
    target = own[3]
    for row, crop, picture, before, after in zip(rows, crops, saved, own, templates, strict=True):
        change = (picture.astype(float) - crop) / 255
        assert np.abs(change).max() <= 8 / 255 + FLAT
        assert row["linf"] == pytest.approx(np.abs(change).max(), rel=1e-5)
        assert row["l2"] == pytest.approx(np.sqrt((change**2).sum()), rel=1e-5)
        assert row["score_before"] == pytest.approx(-np.linalg.norm(before - target), abs=1e-5)
        assert row["score_after"] == pytest.approx(-np.linalg.norm(after - target), abs=1e-5)
        assert row["score_own"] == pytest.approx(-np.linalg.norm(after - before), abs=1e-5)
        cosine = after @ target / np.linalg.norm(after) / np.linalg.norm(target)
        assert row["cosine_after"] == pytest.approx(cosine, abs=1e-5)
        if row["outcome"] == "already":
            assert row["path"] in ("Mirror/Mirror_0001.png", "Mirror/Mirror_0002.png")
            assert not change.any() and (row["success_saved"], row["gradients"]) == (None, 0)
        else:
            assert row["success_saved"] == (-np.linalg.norm(after - target) > NEAR) and row["gradients"] > 0
            assert (row["outcome"], row["success_memory"], row["ssim"] < 1) == ("success", True, True)
        assert row["class_before"] is None


def test_a_class_attack_end_to_end(here: Path, recognizer: Recognizer, detector: FaceDetector) -> None:
    done = attack("--classifier", "classifier.st", "--epsilon", 0.1, target="Dark")
    assert done.exit_code == 0, done.stderr
    assert "adv: itfgsm, Dark: 4 faces attacked, success 100.0%" in done.stderr
    rows, classifier = read_table(Path("adv/attacks.csv")), load_classifier("classifier.st")
    crops, saved = crops_of(Path("in"), rows, recognizer, detector), saved_of(Path("adv"), rows)
    wanted = classifier.index("Dark")
    for when, pictures in (("before", crops), ("after", saved)):
        shares = classifier.logits(torch.from_numpy(recognizer.embed_crops(pictures))).softmax(1).numpy()
        assert [row[f"class_{when}"] for row in rows] == [classifier.names[i] for i in shares.argmax(1)]
        np.testing.assert_allclose([row[f"probability_{when}"] for row in rows], shares.max(1), rtol=1e-3)
        np.testing.assert_allclose([row[f"target_probability_{when}"] for row in rows], shares[:, wanted], rtol=1e-3)
    assert all((row["class_before"] == "Dark") == (row["outcome"] == "already") for row in rows)
    assert [row["success_saved"] for row in rows if row["outcome"] != "already"] == [True] * 4
    assert all(row["class_after"] == "Dark" for row in rows)
    assert all(row["score_before"] is None for row in rows)
    manifest = Store.open("adv/emb").manifest.attack
    assert (manifest["method"], manifest["objective"], manifest["target"]) == ("itfgsm", "class", {"class": "Dark"})
    assert manifest["budget"]["epsilon"] == 0.1 and len(manifest["classifier_sha256"]) == 64
    assert manifest["threshold"] is None

    # An image stands for its class; other options are of templates.
    done = attack("--classifier", "classifier.st", "--epsilon", 0.1, "--json", output="image")
    assert done.exit_code == 0, done.stderr
    assert "Mirror_0001.png, taken for Mirror" in done.stderr
    assert all(row["class_after"] == "Mirror" for row in read_table(Path("image/attacks.csv")))
    done = attack("--classifier", "classifier.st", "--threshold", NEAR, target="Dark", output="other")
    assert done.exit_code == 2 and "leave them out for a class" in done.stderr


def test_faces_in_the_training_of_what_is_attacked_are_told(here: Path, recognizer: Recognizer) -> None:
    plain = attack("--classifier", "classifier.st", "--epsilon", 0.1, "--json", target="Dark")
    assert plain.exit_code == 0 and json.loads(plain.stdout)["metrics"]["known"] == {"classifier": 6}
    assert "the classifier was trained on people or pictures of 6 of the 6 faces" in plain.stderr
    assert {row["known"] for row in read_table(Path("adv/attacks.csv"))} == {"classifier"}

    # Of a map of other people, one picture is known: by its file, and saved anew by its template.
    file = Path("in/Eileen/Eileen_0002.png")
    Image.open(file).save("in/Eileen/Eileen_0002.webp", lossless=True)
    template = _template(file, recognizer)
    row = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    held = load_classifier("classifier.st")
    renamed = replace(held, names=("X", "Y", "Z"))
    renamed.remember(KnownPictures.of([row], template, MadeBy.of(recognizer.describe())))
    renamed.save("renamed.st")
    done = attack("--classifier", "renamed.st", "--epsilon", 0.1, "--json", target="X", output="other")
    assert done.exit_code == 0, done.stderr
    marked = [row["path"] for row in read_table(Path("other/attacks.csv")) if row["known"] == "classifier"]
    assert marked == ["Eileen/Eileen_0002.png", "Eileen/Eileen_0002.webp"]
    assert json.loads(done.stdout)["metrics"]["known"] == {"classifier": 2}
    again = attack("--classifier", "renamed.st", "--epsilon", 0.1, "--json", target="X", output="other")
    assert again.exit_code == 0 and "2 of the 7 faces (Eileen/Eileen_0002.png" in again.stderr


def test_the_networks_beside_the_classifier_are_asked_too(here: Path, recognizer: Recognizer) -> None:
    made_here = SimpleNamespace(spec=replace(recognizer.spec, training_people=("EILEEN",)))
    drawer = SimpleNamespace(known=Known(("mirror",)))
    known = whom_they_know(made_here, AttackTarget("embedding", "negative-euclidean", away=True), drawer)
    rows = [{"identity": name} for name in ("Eileen", "Mirror", None)]
    assert {what: each.judge(rows).tolist() for what, each in known.items()} == {
        "recognizer": ["name", "", ""],
        "decoder": ["", "name", ""],
    }


def _template(file: Path, recognizer: Recognizer) -> np.ndarray:
    (item,) = FaceCropper(recognizer, FaceDetector()).chunk([ImageRef(file, file.name, None)])
    return item.template[None]


@pytest.mark.parametrize("keep", [False, True])
def test_no_budget_gives_the_originals(here: Path, recognizer: Recognizer, detector: FaceDetector, keep: bool) -> None:
    more = ["--on-failure", "keep"] if keep else []
    done = attack("--threshold", NEAR, "--epsilon", 0, *more, "--json")
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["success"]["value"], metrics["l2"], metrics["l2_median"]) == (
        0,
        {"value": None, "low": None, "high": None, "n": 0},
        None,
    )
    rows = read_table(Path("adv/attacks.csv"))
    assert sorted(row["outcome"] for row in rows) == ["already"] * 2 + ["failed"] * 4
    np.testing.assert_array_equal(saved_of(Path("adv"), rows), crops_of(Path("in"), rows, recognizer, detector))


def test_a_failed_attack_gives_the_original_or_the_attempt(here: Path, recognizer, detector) -> None:
    options = ["--threshold", -1e-4, "--steps", 2]
    assert attack(*options).exit_code == 0
    assert attack(*options, "--on-failure", "keep", output="kept").exit_code == 0
    for output, changed in (("adv", False), ("kept", True)):
        rows = [row for row in read_table(Path(output, "attacks.csv")) if row["outcome"] != "already"]
        assert {row["outcome"] for row in rows} == {"failed"} and len(rows) == 5
        crops = crops_of(Path("in"), rows, recognizer, detector)
        assert (saved_of(Path(output), rows) != crops).any(axis=(1, 2, 3)).all() == changed
        assert all((row["linf"] > 0) == changed for row in rows)


def test_away_from_oneself(here: Path, recognizer: Recognizer, detector: FaceDetector) -> None:
    done = attack("--away", "--threshold", -0.3, "--epsilon", 0.1, "--classifier", "classifier.st", target=None)
    assert done.exit_code == 0, done.stderr
    rows = read_table(Path("adv/attacks.csv"))
    crops, saved = crops_of(Path("in"), rows, recognizer, detector), saved_of(Path("adv"), rows)
    far = np.linalg.norm(recognizer.embed_crops(saved) - recognizer.embed_crops(crops), axis=1)
    assert [row["success_saved"] for row in rows] == (far > 0.3).tolist() == [True] * 6
    assert all(row["score_after"] is None and row["target_probability_after"] is None for row in rows)
    assert all(row["class_after"] for row in rows)
    assert Store.open("adv/emb").manifest.attack["away"] is True


def test_the_faces_of_the_store_cut_the_same_pixels_again(here: Path, recognizer: Recognizer) -> None:
    """Any command that reads the store's images by their landmarks sees what was attacked."""
    assert attack("--threshold", NEAR).exit_code == 0
    store = Store.open("adv/emb")
    for row in store.rows().to_pylist():
        face = Face(np.array(row["box"], np.float32), np.array(row["landmarks"], np.float32).reshape(5, 2), 1.0)
        picture = load_image(store.root / row["path"])
        assert (row["width"], row["height"]) == (SIDE, SIDE) == picture.shape[:2]
        np.testing.assert_array_equal(recognizer.crop(picture, face), picture)


@pytest.mark.parametrize(
    "how",
    [
        align.BoxCrop(64, 1.3),
        align.PointCrop(112, align.ARCFACE_POINTS),
        align.PointCrop(150, align.DLIB_POINTS, align.DLIB_WEIGHTS, residuals="image"),
    ],
)
def test_a_moved_face_is_cut_as_it_was(photos: Path, detector: FaceDetector, how: align.Crop) -> None:
    image = load_image(photos / "Eileen/Eileen_0002.png")
    face = detector.detect([image])[0][0]
    crop = align.crop(image, face, how)
    np.testing.assert_array_equal(align.crop(crop, moved(face, how.matrix(face)), how), crop)


def near(target: Path) -> TargetOptions:
    return TargetOptions(str(target), threshold=NEAR)


@pytest.fixture
def mixed(here: Path) -> Path:
    """The images, with some that give no face between them."""
    Path("in/Eileen/Eileen_0002a.jpg").write_text("not a picture")
    Image.new("RGB", (80, 80), "gray").save("in/Mirror/Mirror_0009.png")
    return here / "in"


@pytest.mark.parametrize("stop", [1, 2, 5, 8])
def test_a_killed_run_ends_with_the_same_bytes(mixed: Path, cropper: FaceCropper, stop: int) -> None:
    options = near(mixed / "Mirror/Mirror_0001.png")
    target = find_target(options, cropper)

    def run(progress: Callable = silent) -> Attacked:
        # The store's root is in its manifest: one place for both runs.
        job = AttackJob([mixed], Path("adv"), options, batch_size=1, shard_rows=2)
        return attack_images(job, cropper, target, progress=progress)

    whole = run()
    expected = content(Path("adv"))
    assert [failure["stage"] for failure in whole.failures] == ["read", "detect"]
    shutil.rmtree("adv")

    def interrupt(done: int, total: int, note: str = "") -> None:
        assert total == 8
        if done >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    assert not Path("adv/emb/manifest.json").exists()
    again = run()
    assert content(Path("adv")) == expected
    assert again.resumed == {1: 0, 2: 2, 5: 5, 8: 7}[stop] and again.rows == whole.rows


@pytest.mark.parametrize("at", ["picture", "record", "append", "table", "figure", "finish", "forget"])
def test_it_can_be_killed_between_any_two_files(here: Path, cropper: FaceCropper, monkeypatch, at: str) -> None:
    options = near(here / "in/Mirror/Mirror_0001.png")
    target = find_target(options, cropper)
    job = AttackJob([here / "in"], Path("adv"), options, batch_size=4, shard_rows=4)
    attack_images(job, cropper, target)
    expected = content(Path("adv"))
    shutil.rmtree("adv")
    places = {
        "picture": "facedecode.attacks.run.save_image",
        "record": "facedecode.attacks.run.AttackFolder.write_record",
        "append": "facedecode.attacks.run.StoreWriter.append",
        "table": "facedecode.attacks.run.write_text",
        "figure": "facedecode.attacks.run.write_bytes",
        "finish": "facedecode.attacks.run.StoreWriter.finish",
        "forget": "facedecode.attacks.run.AttackFolder.forget_records",
    }
    calls = []

    def killed(*arguments: object, **options: object) -> None:
        calls.append(at)
        if len(calls) == (6 if at == "picture" else 2 if at in ("record", "append") else 1):
            raise KeyboardInterrupt
        return real(*arguments, **options)

    real = pkgutil.resolve_name(places[at])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(places[at], killed)
        attack_images(job, cropper, target)
    attack_images(job, cropper, target)
    assert content(Path("adv")) == expected


def test_a_finished_attack_is_left_alone_or_replaced(here: Path) -> None:
    assert attack("--threshold", NEAR, "--json").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("adv").rglob("*") if path.is_file()}
    first = content(Path("adv"))
    again = attack("--threshold", NEAR, "--json")
    assert again.exit_code == 0 and "6 inputs were done before" in again.stderr
    assert json.loads(again.stdout)["metrics"]["attempted"] == 4
    assert {path: path.stat().st_mtime_ns for path in Path("adv").rglob("*") if path.is_file()} == before
    done = attack("--threshold", -0.05)
    assert done.exit_code == 4 and "made with other settings (settings.attack.threshold.value" in done.stderr
    assert content(Path("adv")) == first
    # Fewer images: the others' pictures do not stay.
    done = attack("--threshold", -0.05, "--overwrite", images="in/Eileen")
    assert done.exit_code == 0, done.stderr
    assert sorted(p.name for p in Path("adv/pictures").rglob("*.png")) == [f"Eileen_000{i}.png" for i in (1, 2, 3)]
    # What was damaged since is said.
    Path("adv/pictures/Eileen_0001.png").write_bytes(b"")
    done = attack("--threshold", -0.05, images="in/Eileen")
    assert done.exit_code == 4 and "Eileen_0001.png: missing, or changed since the attack" in done.stderr
    assert attack("--threshold", -0.05, "--overwrite", images="in/Eileen").exit_code == 0
    Path("adv/attacks.csv").unlink()
    assert "attacks.csv: no such file" in attack("--threshold", -0.05, images="in/Eileen").stderr


def test_names_that_would_coincide(here: Path) -> None:
    names = ["a/b.jpg", "a/b.png", "a/B.bmp", "c.d.jpg", "x.png/y.jpg", "x.jpg", "z.tif"]
    refs = [ImageRef(Path(name), name, None) for name in names]
    given = picture_names(refs)
    assert given == ["a/b.jpg.png", "a/b.png.png", "a/B.bmp.png", "c.d.png", "x.png/y.png", "x.jpg.png", "z.png"]
    # Two files of one name in one folder.
    Image.open("in/Eileen/Eileen_0001.png").save("in/Eileen/Eileen_0001.jpg", quality=95)
    assert attack("--threshold", NEAR).exit_code == 0
    assert len(list(Path("adv/pictures").rglob("*.png"))) == 7
    assert Store.open("adv/emb").paths()[:2] == ["Eileen/Eileen_0001.jpg.png", "Eileen/Eileen_0001.png.png"]


def test_the_figure(here: Path, recognizer: Recognizer, detector: FaceDetector) -> None:
    rng = np.random.default_rng(0)
    portraits = torch.from_numpy(rng.integers(60, 200, (40, 3, 64, 64), np.uint8))
    net = Ridge(16, 64).fit(torch.from_numpy(rng.normal(0, 1, (40, 16)).astype(np.float32)), portraits)
    save_decoder(Path("decoder"), "ridge", net, Provenance(recognizer.describe()))
    assert attack("--threshold", NEAR).exit_code == 0
    done = attack("--threshold", NEAR, "--decoder", "decoder", output="with")
    assert done.exit_code == 0, done.stderr
    plain, drawn = (np.asarray(Image.open(Path(name, "attacks.png"))) for name in ("adv", "with"))
    shown = 4 * SIDE
    for picture, layers in ((plain, 3), (drawn, 4)):
        line = round(shown / 10 * 1.4)  # of captions
        assert abs(picture.shape[0] - (layers * (shown + line) + (layers - 1) * GAP)) <= 2 * layers
        assert picture.shape[1] > 4 * shown + 3 * GAP  # four were attacked, with the labels at their left
    rows = [row for row in read_table(Path("adv/attacks.csv")) if row["outcome"] != "already"]
    last = plain[:, -shown:]
    crop = crops_of(Path("in"), rows[-1:], recognizer, detector)[0]
    np.testing.assert_array_equal(last[:shown], crop.repeat(4, 0).repeat(4, 1))
    noise = last[shown + (plain.shape[0] - 3 * shown - 2 * GAP) // 3 + GAP :][:shown]
    assert 100 < np.median(noise) < 156  # about gray


def test_without_a_decoder_it_is_said(here: Path) -> None:
    done = attack("--threshold", NEAR)
    assert done.exit_code == 0 and "no decoder for tiny: the figure is without reconstructions" in done.stderr
    done = attack("--threshold", NEAR, "--decoder", "gone", output="other")
    assert done.exit_code == 3 and "no decoder 'gone'" in done.stderr


def test_images_without_a_face(mixed: Path) -> None:
    done = attack("--threshold", NEAR, "--strict", "--json")
    assert done.exit_code == 5 and "2 images gave no face (the first: Eileen/Eileen_0002a.jpg" in done.stderr
    assert [failure["stage"] for failure in Store.open("adv/emb").failures()] == ["read", "detect"]
    assert attack("--threshold", NEAR).exit_code == 0
    done = attack("--threshold", NEAR, images="in/Mirror/Mirror_0009.png", output="none")
    assert done.exit_code == 4 and "no usable input (1 failed" in done.stderr
    assert not Path("none").exists()


def by_fmr(fmr: float, store: Path) -> TargetOptions:
    return TargetOptions(away=True, fmr=fmr, thresholds_from=store)


def test_the_threshold(make_store: Callable[[str], Path], recognizer: Recognizer, tiny: Path) -> None:
    store = make_store("tiny")
    found = choose_threshold(recognizer, by_fmr(0.1, store))
    templates, people = Store.open(store).templates(), Store.open(store).identities()
    scores = sorted(
        -np.linalg.norm(templates[i] - templates[j]) for i in range(30) for j in range(i) if people[i] != people[j]
    )
    assert found.source["non_mated"] == len(scores) == 405
    # 40 may be accepted: just above the 41st.
    assert found.value == pytest.approx(scores[-41], abs=1e-5) and "FMR 0.1 over 405 non-mated pairs" in found.label
    assert choose_threshold(recognizer, TargetOptions(away=True, threshold=-1.0)).value == -1
    with pytest.raises(UsageError, match="nobody recommends a threshold for tiny's score"):
        choose_threshold(recognizer, TargetOptions(away=True))
    for options in ({"threshold": -1.0, "fmr": 0.1}, {"fmr": 0.1}, {"thresholds_from": store}):
        with pytest.raises(UsageError, match=r"--threshold is the score itself|--fmr RATE goes with"):
            TargetOptions(away=True, **options)
    with pytest.raises(BadInput, match="emb: 405 non-mated pairs cannot resolve"):
        choose_threshold(recognizer, by_fmr(1e-4, store))
    with pytest.raises(BadInput, match="is for tiny-cosine"):
        choose_threshold(load_recognizer("tiny-cosine", tiny), by_fmr(0.1, store))
    assert REGISTRY["dlib-resnet"].recommended_threshold == -0.6
    assert REGISTRY["dlib-resnet-pooled"].recommended_threshold is None


def test_attacked_templates_are_not_taken_for_enrolled_ones(here: Path, recognizer: Recognizer) -> None:
    assert attack("--threshold", NEAR).exit_code == 0
    store = Store.open("adv/emb")
    with pytest.raises(BadInput, match="templates of attacked faces"):
        require_extracted(store)
    with pytest.raises(BadInput, match="templates of attacked faces"):
        refuse_done(store.manifest, store.folder, reason="why")
    with pytest.raises(BadInput, match="templates of attacked faces"):
        choose_threshold(recognizer, by_fmr(0.5, Path("adv/emb")))
    with pytest.raises(BadInput, match="templates of attacked faces"):
        fit_store_classifier(store, Path("c.st"), min_images=2)
    done = call("fit-mapping", "--embeddings", "adv/emb", "--transform", "rotate30", "--weights", "tiny.safetensors")
    assert done.exit_code == 4 and "templates of attacked faces" in done.stderr
    # A stage that changes templates keeps the fact; a report says it.
    assert call("transform", "adv/emb", "-o", "kept", "--protect", "rotation", "--new-key", "key").exit_code == 0
    assert Store.open("kept").manifest.attack == store.manifest.attack
    done = call("evaluate", "verification", "adv/emb", "--far", "0.5", "-o", "report")
    assert done.exit_code == 0 and "of images attacked by itfgsm" in done.stderr
    assert json.loads(Path("report/report.json").read_text())["provenance"]["stores"][0]["attack"]


def test_the_table_keeps_what_it_says() -> None:
    row = dict.fromkeys(("path", "picture", "identity", "outcome"), 'a,"b')
    row |= {"success_saved": True, "success_memory": False, "l2": 1 / 3, "gradients": 7, "class_before": "X"}
    (read,) = parse_table(table_text([row]), Path("t.csv"))
    assert read["path"] == 'a,"b' and read["success_saved"] is True and read["success_memory"] is False
    assert (read["l2"], read["gradients"], read["ssim"], read["class_before"]) == (0.333333, 7, None, "X")
    for text in ("", "a,b\n1,2\n", table_text([row]).replace("true", "maybe")):
        with pytest.raises(BadInput, match=r"t\.csv: not the table of an attack"):
            parse_table(text, Path("t.csv"))


def test_the_summary_counts_people_and_leaves_out_who_was_there() -> None:
    def row(path: str, person: str | None, outcome: str) -> Row:
        won = None if outcome == "already" else outcome == "success"
        memory = None if won is None else outcome != "failed"
        sizes = {"l2": 2.0, "linf": 0.1, "gradients": 4}
        return {
            "path": path,
            "identity": person,
            "outcome": outcome,
            "success_memory": memory,
            "success_saved": won,
            **sizes,
        }

    rows = [row("1", "A", "success"), row("2", "A", "lost"), row("3", None, "failed"), row("4", None, "success")]
    found = summarize([*rows, row("5", "B", "already")])
    assert (found["attempted"], found["already"], found["people"]) == (4, 1, 3)
    assert (found["success"]["value"], found["success_saved"]["value"]) == (0.75, 0.5)
    assert found["success"]["low"] < 0.75 < found["success"]["high"]
    assert (found["l2"]["n"], found["linf_median"], found["gradients"]["value"]) == (2, 0.1, 4)
    assert summarize([row("5", "B", "already")])["success"] == {"value": None, "low": None, "high": None, "n": 0}


def test_errors_are_one_line_and_nothing_is_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (80, 80), "gray").save("gray.png")
    Path("text.png").write_text("no picture")
    shutil.copy("in/Mirror/Mirror_0001.png", "copy.png")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    named, near = ["--classifier", "classifier.st"], ["--threshold", NEAR]
    cases: list[tuple[dict, list[object], int, str]] = [
        ({"target": "Mirrow"}, named, 2, "has no class 'Mirrow'; there are Dark, Eileen, Mirror"),
        ({"target": "Mirror"}, [*named, *near, "--objective", "embedding"], 2, "a class has no template to aim at"),
        ({"target": "Mirror"}, near, 4, "--target Mirror: no such file; give an image, or a class's name with"),
        ({"target": "gone.png"}, near, 4, "--target gone.png: no such file"),
        ({"target": "text.png"}, near, 4, "--target text.png: not an image in a known format"),
        ({"target": "gray.png"}, near, 4, "--target gray.png: no face found; give an image that shows a face"),
        ({"target": "in"}, near, 4, "--target in: a folder, and a file is needed"),
        ({"images": "copy.png"}, near, 2, "is the image to attack itself; choose another target"),
        ({"images": "in/Mirror/Mirror_0001.png"}, named, 2, "is the image to attack itself"),
        ({"target": None}, near, 2, "there is no target: give --target IMAGE"),
        ({}, ["--away", *near], 2, "leave out --target, or --away"),
        ({"target": None}, ["--away", "--objective", "class", *named], 2, "--away goes with --objective embedding"),
        ({}, ["--objective", "class"], 2, "give --classifier FILE"),
        ({}, ["--objective", "softmax"], 2, "--objective softmax: use class or embedding"),
        ({}, ["--classifier", "gone.st"], 4, "gone.st"),
        ({}, [], 2, "nobody recommends a threshold for tiny's score (negative-euclidean): give --threshold SCORE"),
        (
            {},
            ["--threshold", 0.3],
            2,
            "--threshold 0.3: scores are negative distances, higher is more alike: did you mean -0",
        ),
        ({}, ["--threshold", "nan"], 2, "--threshold nan: give a finite number"),
        ({}, ["--fmr", 0.1], 2, "--fmr RATE goes with --thresholds-from STORE"),
        ({}, ["--fmr", 0.1, "--thresholds-from", "gone"], 4, "gone: no such folder"),
        ({}, [*near, "--epsilon", -0.1], 2, "epsilon -0.1: give a number from 0 to 1"),
        ({}, [*near, "--epsilon", "nan"], 2, "epsilon nan: give a number from 0 to 1"),
        ({}, [*near, "--epsilon", "8/0"], 2, "--epsilon 8/0: give a number, or a fraction such as 8/255"),
        ({}, [*near, "--epsilon", 8], 2, "epsilon 8.0: give a number from 0 to 1"),
        ({}, [*near, "--steps", 0], 2, "steps 0: give a whole number from 1"),
        ({}, [*near, "--c", -1], 2, "c -1.0: give a number"),
        ({}, [*near, "--c", 1], 2, "itfgsm has no use for c: leave out all but epsilon, steps"),
        ({}, [*near, "--method", "pgd"], 2, "--method pgd: use tfgsm, itfgsm, tcw, itcw or ddn"),
        ({}, [*near, "--on-failure", "drop"], 2, "--on-failure drop: use original or keep"),
        ({"images": "gone"}, near, 4, "gone: no such file or folder"),
        ({"output": "mine"}, near, 4, "mine has files (notes.txt …) and is no output of 'attack'"),
        ({"output": "in/adv"}, near, 2, "-o in/adv: lies in in, whose images are the inputs"),
        ({"output": "gray.png"}, near, 4, "the folder gray.png: a file of that name is in the way"),
    ]
    before = content(here)
    for places, options, code, said in cases:
        done = attack(*options, **places)
        assert (done.exit_code, done.stdout) == (code, ""), (said, done.stderr, done.exception)
        assert said in done.stderr and done.stderr.strip().splitlines()[-1].startswith("error: "), done.stderr
    assert content(here) == before

    monkeypatch.setattr(Recognizer, "white_box", False)
    monkeypatch.setattr(FaceDetector, "__init__", lambda *_: pytest.fail("it looked for faces"))
    done = attack(*near)
    assert done.exit_code == 2 and "tiny is black-box: it gives no gradients to attack by" in done.stderr
    assert not Path("adv").exists()


def test_an_output_that_holds_its_inputs_is_refused(here: Path) -> None:
    assert attack("--threshold", NEAR).exit_code == 0
    before = content(Path("adv"))
    done = attack("--threshold", NEAR, "--overwrite", images="adv/pictures")
    assert done.exit_code == 2 and "is in it, one of the images to attack" in done.stderr
    assert content(Path("adv")) == before
    with pytest.raises(OutputError, match="is no output of 'attack'"):
        shutil.copytree("adv/pictures", "theirs/pictures")
        attack_images(
            AttackJob(
                [Path("in")], Path("theirs"), TargetOptions(away=True), budget=Budget(epsilon=0.1), overwrite=True
            ),
            FaceCropper(load_recognizer("tiny", "tiny.safetensors"), FaceDetector()),
            AttackTarget("embedding", "negative-euclidean", True, Threshold(NEAR, {}, "")),
        )
    assert find_images([Path("theirs")])[1]
