"""Faces by landmarks from a file: its forms, what is left over, and what cannot be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import facedecode
from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeWarning, UsageError
from facedecode.extraction.finders import FaceSource
from facedecode.extraction.jobs import FaceOptions
from facedecode.extraction.landmarks_file import COLUMNS, read_landmarks
from facedecode.extraction.run import extract, find_inputs
from facedecode.pictures import align
from facedecode.pictures.faces import Face
from facedecode.pictures.finding import find_images
from facedecode.pictures.given_faces import BoxCrops
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store

Points = dict[str, list[float]]
CELEBA = [
    *("lefteye_x", "lefteye_y", "righteye_x", "righteye_y", "nose_x", "nose_y"),
    *("leftmouth_x", "leftmouth_y", "rightmouth_x", "rightmouth_y"),
]
FACE = [60.0, 70, 110, 68, 86, 100, 64, 125, 108, 124]


@pytest.fixture
def found(photos: Path, recognizer: Recognizer, detector, tmp_path: Path) -> Store:
    """The photographs, as the detector sees them."""
    extract([photos], tmp_path / "found", recognizer, detector)
    return Store.open(tmp_path / "found")


@pytest.fixture
def points(found: Store) -> Points:
    """The landmarks that it found, by path."""
    return {row["path"]: row["landmarks"] for row in found.rows().to_pylist()}


def as_csv(points: Points, columns: tuple[str, ...] | list[str] = COLUMNS) -> str:
    return "\n".join([",".join(["path", *columns]), *(",".join([name, *map(repr, p)]) for name, p in points.items())])


def as_celeba(points: Points) -> str:
    rows = [f"{name}  " + "  ".join(map(repr, values)) for name, values in points.items()]
    return "\n".join([str(len(rows)), " ".join(CELEBA), *rows]) + "\n"


def as_json_lines(points: Points) -> str:
    return "\n".join(json.dumps({"path": name, "landmarks": values}) for name, values in points.items())


def as_named_points(points: Points) -> str:
    """As the package `mtcnn` names them, with its box."""
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    held = [(name, dict(zip(names, np.reshape(p, (5, 2)).tolist(), strict=True))) for name, p in points.items()]
    return "\n".join(json.dumps({"file": name, "box": [1, 2, 3, 4], "keypoints": p}) for name, p in held)


def as_x_then_y(points: Points) -> str:
    """Numbered columns, all x before all y, beside a person."""
    columns = ["image", "person", *(f"x{k}" for k in range(1, 6)), *(f"y{k}" for k in range(1, 6))]
    rows = [[name, name.split("/")[0], *map(repr, [*p[::2], *p[1::2]])] for name, p in points.items()]
    return "\n".join(";".join(row) for row in [columns, *rows])


def as_bare_list(points: Points) -> str:
    """Without a header, and by the names of files alone."""
    return "\n".join("\t".join([name.split("/")[1], *map(repr, p)]) for name, p in points.items())


def written(folder: Path, text: str, name: str = "points.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


def take(file: Path, images: Path, output: Path, recognizer: Recognizer) -> tuple[Store, list[dict], list[str]]:
    inputs = find_inputs([images])
    source = FaceSource.of(FaceOptions(landmarks=file), inputs.refs)
    failures = extract(inputs, output, recognizer, source.finder(recognizer, "cpu")).failures
    return Store.open(output), failures, list(source.notes)


@pytest.mark.parametrize("form", [as_csv, as_celeba, as_json_lines, as_named_points, as_x_then_y, as_bare_list])
def test_every_form_gives_the_points(form: Callable[[Points], str], points: Points, tmp_path: Path) -> None:
    file = read_landmarks(written(tmp_path, form(points)))
    read = {name: five.ravel().tolist() for name, (_, five) in file.of.items()}
    assert read == ({name.split("/")[1]: p for name, p in points.items()} if form is as_bare_list else points)


def test_landmarks_of_the_detector_give_its_templates(
    found: Store, points: Points, photos: Path, tmp_path: Path, recognizer: Recognizer
) -> None:
    store, failures, notes = take(written(tmp_path, as_celeba(points)), photos, tmp_path / "emb", recognizer)
    assert (failures, notes) == ([], [])
    np.testing.assert_allclose(store.templates(), found.templates(), atol=1e-5)
    assert store.identities() == found.identities() and store.fingerprint != found.fingerprint
    assert store.manifest.settings["detector"].keys() == {"detector", "landmarks_sha256"}
    for row, before in zip(store.rows().to_pylist(), found.rows().to_pylist(), strict=True):
        assert row["landmarks"] == before["landmarks"]
        # The box that goes with the points overlaps the detector's own.
        (x1, y1, x2, y2), (a1, b1, a2, b2) = row["box"], before["box"]
        shared = (min(x2, a2) - max(x1, a1)) * (min(y2, b2) - max(y1, b1))
        assert shared > 0.6 * max((x2 - x1) * (y2 - y1), (a2 - a1) * (b2 - b1))


def test_images_without_landmarks_are_failures(points: Points, photos: Path, tmp_path: Path, recognizer) -> None:
    half = dict(list(points.items())[::2]) | {"gone/x.png": FACE}
    store, failures, notes = take(written(tmp_path, as_csv(half)), photos, tmp_path / "emb", recognizer)
    assert len(store) == 3 and [failure["stage"] for failure in failures] == ["detect"] * 3
    assert {failure["reason"] for failure in failures} == {"no landmarks in points.txt"}
    assert notes[0].startswith(f"3 of 6 images have no landmarks in {tmp_path / 'points.txt'} (") and len(notes) == 2
    assert notes[1].startswith("1 names of ") and "gone/x.png" in notes[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("path,left_eye_x\na.png,1\n", "no ten columns of five points"),
        (as_csv({"a.png": FACE}).replace("110", "nan"), r"line 2: right_eye_x is 'nan', and no finite number"),
        (as_csv({"a.png": FACE}).replace("110", ""), r"line 2: right_eye_x is '', and no finite number"),
        (as_csv({"a.png": FACE}) + ",7\n", "line 2: 12 cells where there are 11 columns"),
        (as_csv({"a.png": FACE}) + "\n" + as_csv({"a.png": [*FACE[:9], 3.0]}).split("\n")[1], "line 3: a.png is there"),
        (as_celeba({"a.png": FACE}).replace("1\n", "2\n", 1), "says 2 images and lists 1"),
        ("a.png 1 2 3 4\n", "no header says what its 5 columns are"),
        ('{"path": "a.png", "landmarks": [[1, 2], [3, 4]]}', "line 1: no ten columns"),
        ('{"path": "a.png", "landmarks": [1, 2, 3, 4, 5, 6, 7, 8, 9, true]}', "mouth_right_y is 'True'"),
        ('{"landmarks": [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]}', "line 1: has no 'path'"),
        ('{"path": "a.png", "landmarks": [1', "line 1: not valid JSON"),
        ('[{"path": "a.png"}]', "write it as JSON lines"),
    ],
)
def test_files_that_cannot_be_read(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said) as raised:
        read_landmarks(written(tmp_path, text))
    assert str(tmp_path / "points.txt") in str(raised.value)


def test_equal_rows_count_once(tmp_path: Path) -> None:
    file = read_landmarks(written(tmp_path, as_csv({"a.png": FACE}) + "\n" + as_csv({"a.png": FACE}).split("\n")[1]))
    assert len(file.of) == 1 and file.notes == [f"rows that {file.path} has twice: 1; each counts once"]


ELSEWHERE = r"in 6 images looked at, the points lie .* from the detector's \(median\); are they of images of another"


def swapped(five: np.ndarray) -> np.ndarray:
    return five[[1, 0, 2, 4, 3]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda five: five * 2.5,
            r"line 2: the point \(.*\) lies outside the 210 x 220 pixels of Eileen/Eileen_0001.png .*another size",
        ),
        (swapped, r"line 2: left and right are swapped \(6 of 6 images are so\); their order is: left eye"),
        (lambda five: five[[1, 0, 2, 3, 4]], "left and right are swapped"),
        (lambda five: five[[3, 4, 2, 0, 1]], "the eyes lie below the mouth"),
        (lambda five: five[[4, 3, 2, 1, 0]], "the eyes lie below the mouth"),
        (lambda five: five * 0 + 50, "the points lie in one place"),
        # All inside, and found out by a look at the pictures.
        *((lambda five, by=by: five * by, ELSEWHERE) for by in (0.45, 0.9, 1.1)),
    ],
)
def test_landmarks_of_something_else(
    change: Callable[[np.ndarray], np.ndarray], said: str, points: Points, photos: Path, tmp_path: Path, recognizer
) -> None:
    others = {name: change(np.reshape(p, (5, 2))).ravel().tolist() for name, p in points.items()}
    file = written(tmp_path, as_csv(others))
    with pytest.raises(BadInput, match=said) as raised:
        take(file, photos, tmp_path / "emb", recognizer)
    assert str(raised.value).startswith(f"{file}") and not (tmp_path / "emb").exists()


def test_landmarks_that_are_a_little_off_are_told(points: Points, photos: Path, tmp_path: Path, recognizer) -> None:
    others = {name: (np.reshape(p, (5, 2)) * 0.96).ravel().tolist() for name, p in points.items()}
    with pytest.warns(FacedecodeWarning, match=ELSEWHERE):
        take(written(tmp_path, as_csv(others)), photos, tmp_path / "emb", recognizer)


def test_a_few_that_are_none_of_a_face_are_failures(points: Points, photos: Path, tmp_path: Path, recognizer) -> None:
    first = next(iter(points))
    points[first] = swapped(np.reshape(points[first], (5, 2))).ravel().tolist()
    store, failures, notes = take(written(tmp_path, as_csv(points)), photos, tmp_path / "emb", recognizer)
    reason = "points.txt, line 2: left and right are swapped"
    assert len(store) == 5 and failures == [{"path": first, "stage": "detect", "reason": reason}]
    assert notes == ["1 of 6 images have landmarks that are none of a face"]


def face_in(folder: Path, five: list[float], **how: object) -> object:
    """What the finder says of one picture of 180 x 200 px as its file holds it, and of its points."""
    Image.new("RGB", (180, 200)).save(folder / "a.png", **how)
    refs = find_images([folder / "a.png"]).refs
    faces, notes = read_landmarks(written(folder, as_csv({"a.png": five}))).faces_of(refs)
    assert notes == []
    return faces.face(180, 200, refs[0].relative)


@pytest.mark.parametrize("degrees", [0, 60, 90, -90])
def test_faces_that_are_turned_are_faces(degrees: int, tmp_path: Path) -> None:
    five, angle = np.reshape(FACE, (5, 2)), np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    around = (five - five.mean(0)) @ turn.T + 95
    assert isinstance(face_in(tmp_path, around.ravel().tolist()), Face)


def test_profiles_and_faces_cut_by_the_edge_are_faces(tmp_path: Path) -> None:
    assert isinstance(face_in(tmp_path, [60.0, 70, 57, 70, 40, 95, 62, 120, 60, 121]), Face)
    assert isinstance(face_in(tmp_path, [-8.0, 70, 40, 70, 15, 95, -4, 120, 38, 121]), Face)


def test_upright_sizes_count(tmp_path: Path) -> None:
    """A picture that is stored on its side is 200 x 180 as people, and detectors, see it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    right = [150.0, 70, 210, 70, 180, 100, 152, 125, 208, 124]
    assert isinstance(face_in(tmp_path, right, exif=exif), Face)
    with pytest.raises(BadInput, match=r"the point \(210, 70\) lies outside the 180 x 200 pixels of .*a\.png"):
        face_in(tmp_path, right)


def test_names_lead_nowhere(points: Points, photos: Path, tmp_path: Path) -> None:
    """A name in the file is compared, and opens nothing."""
    others = {f"../../{name}": p for name, p in points.items()} | {"/etc/passwd.png": FACE}
    refs = find_images([photos]).refs
    faces, notes = read_landmarks(written(tmp_path, as_csv(others))).faces_of(refs)
    assert not isinstance(faces.face(210, 220, refs[0].relative), str)
    assert len(notes) == 1 and "/etc/passwd.png" in notes[0]


def test_names_of_several_images_are_refused(photos: Path, points: Points, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for person in ("Ann", "Bob"):
        (tmp_path / "in" / person).mkdir()
        Image.new("RGB", (180, 200)).save(tmp_path / "in" / person / "1.png")
    with pytest.raises(BadInput, match=r"points.txt: Ann/1.png and Bob/1.png are both called '1.png'"):
        read_landmarks(written(tmp_path, as_csv({"1.png": FACE}))).faces_of(find_images([tmp_path / "in"]).refs)


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize(("width", "height"), [(75, 100), (100, 100), (60, 100)])
def test_a_box_is_the_face(width: int, height: int) -> None:
    face = BoxCrops().face(width, height, None)
    np.testing.assert_array_equal(face.box, [0, 0, width, height])
    assert (face.landmarks > 0).all() and (face.landmarks < (width, height)).all()
    # A recognizer of boxes takes all of it.
    np.testing.assert_allclose(align.BoxCrop(64, 1, "both").matrix(face) @ [width, height, 1], [64, 64], atol=1e-4)
    (x1, _, x2, _), scale = align.PORTRAIT_BOX, min(width / 0.62, height / 0.87)
    np.testing.assert_allclose(np.ptp(face.landmarks[:2, 0]), scale * (102.01 - 47.77) / 186, atol=1e-3)
    assert x2 - x1 == pytest.approx(0.62)


def test_boxes_and_crops_that_are_too_small(tmp_path: Path, recognizer: Recognizer) -> None:
    (tmp_path / "in").mkdir()
    for name, size in {"a": (40, 50), "b": (20, 50), "c": (16, 16)}.items():
        Image.new("RGB", size, "gray").save(tmp_path / "in" / f"{name}.png")
    failures = extract([tmp_path / "in"], tmp_path / "emb", recognizer, BoxCrops()).failures
    assert [failure["path"] for failure in failures] == ["b.png", "c.png"]
    assert failures[1]["reason"].startswith("16 x 16 pixels, and a crop has at least 32 a side")


# ---------------------------------------------------------------- commands


def test_the_command(points: Points, photos: Path, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["extract", str(photos), "-o", "emb", "--model", "tiny", "--weights", str(tiny), "--json"]
    written(tmp_path, as_celeba(dict(list(points.items())[:3])))
    done = CliRunner().invoke(app, [*words, "--landmarks", "points.txt", "--dry-run"])
    assert done.exit_code == 0 and "3 of 6 images have no landmarks in points.txt" in done.stderr
    done = CliRunner().invoke(app, [*words, "--landmarks", "points.txt"])
    answer = json.loads(done.stdout)
    assert done.exit_code == 0 and answer["metrics"] == {"count": 3, "failed": 3}
    assert len(answer["notes"]) == 1 and "3 of 6 images have no landmarks" in answer["notes"][0]
    done = CliRunner().invoke(app, [*words, "--landmarks", "points.txt", "--strict"])
    assert done.exit_code == 5
    done = CliRunner().invoke(app, [*words, "--landmarks", "points.txt", "--crop", "box"])
    assert done.exit_code == 2 and "give one of them" in done.stderr
    done = CliRunner().invoke(app, [*words, "--crop", "box"])
    assert done.exit_code == 4 and "was made with other settings" in done.stderr


def test_the_library(points: Points, photos: Path, found: Store, tmp_path: Path, recognizer: Recognizer) -> None:
    file = written(tmp_path, as_json_lines(points))
    store = facedecode.extract(photos, tmp_path / "emb", recognizer, landmarks=file)
    np.testing.assert_allclose(store.templates(), found.templates(), atol=1e-5)
    with pytest.raises(UsageError, match="give one of them"):
        facedecode.extract(photos, tmp_path / "emb", recognizer, crop="box", landmarks=file)
    with pytest.raises(UsageError, match="use detect, aligned or box"):
        facedecode.embed([photos / next(iter(points))], recognizer, crop="cut")


def test_import_takes_faces_likewise(points: Points, photos: Path, found: Store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", found.templates())
    written(tmp_path, "".join(f"{photos / name}\n" for name in points), "list.txt")
    written(tmp_path, as_csv(dict(list(points.items())[:5])))
    words = ["import", "x.npy", "--images", "list.txt", "--model", "given:vendor", "-o", "emb"]
    done = CliRunner().invoke(app, [*words, "--landmarks", "points.txt"])
    assert done.exit_code == 0 and "1 of 6 images have no landmarks" in done.stderr, done.output
    store = Store.open("emb")
    assert len(store) == 5 and store.rows().to_pylist()[0]["landmarks"] == found.rows().to_pylist()[0]["landmarks"]
    done = CliRunner().invoke(app, [*words, "--crop", "aligned"])
    assert done.exit_code == 2 and "given:vendor is not here to say which" in done.stderr


def test_attack_takes_faces_likewise(points: Points, photos: Path, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = list(points)
    written(tmp_path, as_csv({name: points[name] for name in (*names[:2], names[-1])}))
    words = ["attack", str(photos / "Eileen"), "--model", "tiny", "--weights", str(tiny), "--threshold", "-0.5"]
    words += ["--landmarks", "points.txt", "--steps", "1", "-o", "adv", "--target"]
    done = CliRunner().invoke(app, [*words, str(photos / names[-1])])
    assert done.exit_code == 0 and "1 of 3 images have no landmarks" in done.stderr, done.output
    assert Store.open("adv/emb").manifest.settings["detector"]["detector"] == "none" and len(Store.open("adv/emb")) == 2
    done = CliRunner().invoke(app, [*words, str(photos / names[-2])])
    assert done.exit_code == 4 and "no landmarks in points.txt" in done.stderr


def test_a_detector_that_fails_names_the_options(photos: Path, tiny: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for k in range(2):
        Image.new("RGB", (90, 90), "gray").save(tmp_path / f"in/{k}.png")
    Image.open(photos / "Eileen/Eileen_0001.png").save(tmp_path / "in/face.png")
    done = CliRunner().invoke(app, ["extract", "in", "-o", "emb", "--model", "tiny", "--weights", str(tiny), "--json"])
    (note,) = json.loads(done.stdout)["notes"]
    assert done.exit_code == 0 and note == done.stderr.splitlines()[-1]
    assert note.startswith("2 of 3 images show the detector no face; if they are crops already, say --crop aligned")
    words = ["attack", "in", "--model", "tiny", "--weights", str(tiny), "--threshold", "-0.5", "--away", "--steps", "1"]
    done = CliRunner().invoke(app, [*words, "-o", "adv", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["notes"] == [note], done.output
