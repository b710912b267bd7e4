"""What probes read, where attributes lie, and `evaluate leakage`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score, r2_score
from typer.testing import CliRunner

from facedecode.attributes.direction import find_direction, load_direction
from facedecode.attributes.gaussians import Gaussians
from facedecode.attributes.measured import ATTRIBUTES, measure_faces, measure_pictures
from facedecode.attributes.probe import PROBES, out_of_fold, probes_of, removal_curve
from facedecode.attributes.reading import Reading, read
from facedecode.attributes.target import Target
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.identity import RecognizerId
from facedecode.store import Store, StoreWriter
from facedecode.templates.protection import protected_recognizer

PEOPLE, EACH, DIM = 120, 4, 12
PERSONS = np.repeat(np.arange(PEOPLE), EACH)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(PEOPLE * EACH, DIM))


def judged(inputs: np.ndarray, target: Target, probe: str):
    fold = target.folds(4)
    return Reading.of(out_of_fold(inputs, target, PROBES[probe], fold), target, repetitions=200).estimate()


# Probes


@pytest.mark.parametrize("probe", ["linear", "mlp"])
def test_a_planted_number_is_read(probe: str):
    x = noise()
    found = judged(x, Target(x @ np.arange(DIM) + 3, PERSONS), probe)
    assert found.value > (0.999 if probe == "linear" else 0.9) and found.low <= found.value <= found.high


@pytest.mark.parametrize("probe", list(PROBES))
def test_a_planted_class_is_read_and_nothing_is_not(probe: str):
    x = noise()
    labels = np.where(x[:, 3] > 0, "a", "b")
    assert judged(x, Target.of_labels(labels, PERSONS), probe).value > 0.9
    found = judged(noise(1), Target.of_labels(labels, PERSONS), probe)
    assert found.low < 0.5 < found.high


def test_what_no_line_reads_others_do():
    x = noise(2)
    by_spread = x.copy()
    labels = np.random.default_rng(0).integers(0, 2, PEOPLE)[PERSONS]
    by_spread[labels == 1, :4] *= 3  # the same mean, another spread
    target = Target.of_labels(labels.astype(str), PERSONS)
    assert judged(by_spread, target, "linear").value < 0.62
    assert judged(by_spread, target, "quadratic").value > 0.85 and judged(by_spread, target, "mlp").value > 0.75


def test_directions_of_rounding_do_not_silence_the_quadratic_probe():
    """Recognizers give templates that vary in fewer directions than they have numbers."""
    labels = np.random.default_rng(0).integers(0, 2, PEOPLE)[PERSONS]
    x = noise(7)
    x[labels == 1] *= 1.5
    target = Target.of_labels(labels.astype(str), PERSONS)
    padded = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(200, DIM)))[0].T + 3
    own, wide = (judged(inputs, target, "quadratic").value for inputs in (x, padded.astype(np.float32)))
    assert own > 0.75 and wide > own - 0.04


@pytest.mark.parametrize("probe", list(PROBES))
def test_people_told_apart_are_no_attribute(probe: str):
    """An attribute that is chance for each person is read from persons seen in training only."""
    persons = np.random.default_rng(3).normal(size=(PEOPLE, DIM)).repeat(EACH, axis=0) + 0.01 * noise()
    coin = Target.of_labels(np.random.default_rng(4).integers(0, 2, PEOPLE)[PERSONS].astype(str), PERSONS)
    found = judged(persons, coin, probe)
    assert found.low < 0.5 < found.high


def test_readings_against_scikit_learn():
    rng = np.random.default_rng(5)
    once = np.arange(300)  # of one image a person, weights play no part
    labels, said = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), 300)
    found = read(said, Target(labels, once, ("a", "b", "c")), 100)
    assert found.value == pytest.approx(balanced_accuracy_score(labels, said.argmax(1)))
    numbers, guessed = rng.normal(size=(2, 300))
    assert read(guessed, Target(numbers, once), 100).value == pytest.approx(r2_score(numbers, guessed))
    weights = 1 / np.bincount(PERSONS)[PERSONS]
    uneven = np.concatenate([PERSONS, np.zeros(50, np.int64)])
    numbers, guessed = rng.normal(size=(2, len(uneven)))
    weights = 1 / np.bincount(uneven)[uneven]
    assert read(guessed, Target(numbers, uneven), 100).value == pytest.approx(
        r2_score(numbers, guessed, sample_weight=weights)
    )
    less = found.less(found)
    assert less.value == 0 and less.low == pytest.approx(-less.high)


def test_the_quadratic_probe_is_scikit_learns():
    x = noise(6)
    x[: 2 * EACH * 30] *= np.linspace(0.5, 2, DIM)
    labels = (np.arange(len(x)) < 2 * EACH * 30).astype(int)
    model = QuadraticDiscriminantAnalysis(priors=[0.5, 0.5], reg_param=0).fit(x, labels)
    # Without shrinkage, as scikit-learn: how much fit_quadratic takes depends on who is held out.
    found = Gaussians.fit(x, labels, np.full(len(x), 1 / len(x))).posterior(x)
    assert (found.argmax(1) == model.predict(x)).mean() > 0.99


def test_folds_never_part_a_person():
    people = Target(np.arange(float(len(PERSONS))), PERSONS)
    fold = people.folds(5)
    assert all(len(set(fold[person == PERSONS])) == 1 for person in range(PEOPLE))
    assert np.ptp(np.bincount(fold[::EACH])) <= 1
    with pytest.raises(BadInput, match="too few for 70 folds"):
        people.folds(70)


def test_what_is_no_target():
    with pytest.raises(BadInput, match="one class only"):
        Target.of_labels(["a"] * 4, np.arange(4))
    with pytest.raises(BadInput, match="the same for all"):
        Target(np.ones(4), np.arange(4))
    with pytest.raises(BadInput, match="not finite for 1"):
        Target(np.array([1, np.nan]), np.arange(2))
    assert set(probes_of(Target(np.arange(4.0), np.arange(4)))) == {"linear", "mlp"}


# Where it lies


def test_the_direction_is_the_pattern_not_the_filter():
    """What changes with the attribute is moved; what a probe subtracts as noise is not."""
    rng = np.random.default_rng(7)
    value, disturbance = rng.normal(size=(2, len(PERSONS)))
    x = 0.01 * noise(8)
    x[:, 0] = value + disturbance
    x[:, 1] = disturbance  # a filter needs it: x0 - x1
    found = find_direction("it", x.astype(np.float32), Target(value, PERSONS), RecognizerId("r", None))
    assert abs(found.vector[0]) > 0.95 and abs(found.vector[1]) < 0.2
    assert found.positions[0] < found.positions[1] and (found.low, found.high) == ("low", "high")
    labels = np.where(value > 0, "up", "down")
    classes = find_direction("it", x.astype(np.float32), Target.of_labels(labels, PERSONS), RecognizerId("r", None))
    assert (classes.low, classes.high) == ("down", "up") and classes.vector[0] > 0.95


def test_an_attribute_in_two_directions_is_gone_after_two():
    x = noise(9)
    x[:, 5] = x[:, 4] + 0.05 * x[:, 5]  # said twice
    target = Target.of_labels(np.where(x[:, 4] > 0, "a", "b"), PERSONS)
    curve = removal_curve(x, target, target.folds(4), [0, 1, 2, 6])
    found = {number: read(answers.said, target, 100).value for number, answers in curve.items()}
    assert found[0] > 0.9 and found[2] < 0.75 and found[6] < 0.65


# Attributes


def test_pose_of_a_drawn_face():
    face = np.array([[[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]])
    turned = face.copy()
    turned[0, 2, 0] = 60  # the nose to the right
    both = np.concatenate([face, turned])
    ones = np.ones(2)
    np.testing.assert_allclose(measure_faces("yaw", both, ones), [0, 0.25])
    np.testing.assert_allclose(measure_faces("pitch", both, ones), 0.5)
    np.testing.assert_allclose(measure_faces("size", both, ones), 40)
    np.testing.assert_allclose(measure_faces("mouth", both, ones), 0.75)
    angle = np.radians(20)
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # clockwise in a picture
    rolled = 3 * both @ spin.T + 7
    np.testing.assert_allclose(measure_faces("roll", rolled, ones), -20)
    for name in ("yaw", "pitch", "mouth", "turn"):  # neither size nor roll plays a part
        np.testing.assert_allclose(measure_faces(name, rolled, ones), measure_faces(name, both, ones), atol=1e-9)


def test_light_of_drawn_pictures():
    left, right = np.full((32, 16, 3), 60, np.uint8), np.full((32, 16, 3), 160, np.uint8)
    pictures = np.stack([np.concatenate([left, right], axis=1), np.full((32, 32, 3), 110, np.uint8)])
    np.testing.assert_allclose(measure_pictures("brightness", pictures), 110 / 255)
    np.testing.assert_allclose(measure_pictures("side-light", pictures), [100 / 255, 0])
    np.testing.assert_allclose(measure_pictures("contrast", pictures), [50 / 255, 0], atol=1e-12)
    assert np.diff(measure_pictures("sharpness", pictures))[0] < -3


# The command


def write_store(folder: Path, templates: np.ndarray, landmarks: bool = True, name: str = "made-up") -> None:
    recognizer = RecognizerId(name, "0" * 64, dim=templates.shape[1], score="cosine")
    manifest = {"score": "cosine", "precision": "fp32", "l2_normalized": False, "transform": None}
    with StoreWriter(folder, {"n": 1}, folder.parent, recognizer, 4096, manifest=manifest) as writer:
        rng = np.random.default_rng(0)
        rows = []
        for k in range(len(templates)):
            row = {"path": f"P{PERSONS[k]}/{k}.jpg", "sha256": f"{k}", "identity": f"P{PERSONS[k]:03d}"}
            if landmarks:
                points = np.array([30.0, 40, 70, 40, 50, 60, 35, 80, 65, 80]) + rng.normal(0, 2, 10)
                row |= {"landmarks": points, "box": [20, 20, 80, 100], "probability": float(rng.uniform(0.9, 1))}
            rows.append(row)
        writer.append(templates.astype(np.float32), rows, [], len(rows))
        writer.finish()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stores `emb` and `blind`, which lacks the first number, and labels of its sign."""
    monkeypatch.chdir(tmp_path)
    x = noise(10)
    x[:, 0] = np.random.default_rng(1).choice([-2, 2], PEOPLE)[PERSONS]
    write_store(tmp_path / "emb", x)
    write_store(tmp_path / "blind", np.delete(x, 0, axis=1), name="other")
    lines = [f"P{PERSONS[k]}/{k}.jpg,{'M' if x[k, 0] > 0 else 'F'},one" for k in range(len(x) - 1)]
    (tmp_path / "labels.csv").write_text("path,gender,constant\n" + "\n".join(lines) + "\n")
    return tmp_path


def call(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", "leakage", *map(str, arguments), "--repetitions", "100"])


GENDER = ("--labels", "labels.csv", "--label", "gender")


def test_before_and_after(here: Path):
    done = call("emb", "blind", *GENDER, "--attribute", "yaw", "-o", "report", "--directions", "found", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["metrics"]["attributes"]
    assert set(found) == {"gender", "yaw"} and found["gender"]["chance"] == 0.5
    plain, blind = (found["gender"]["stores"][name] for name in ("emb", "blind"))
    for probe in PROBES:
        assert plain[probe]["value"] > 0.99 and plain[probe]["low"] < 1 and blind[probe]["value"] < 0.65
        assert blind["less_first"][probe]["high"] < -0.2
    assert plain["less_first"] == {} and plain["shuffled"]["low"] < 0.5 < plain["shuffled"]["high"]
    assert plain["removed"]["0"]["value"] == 1 and plain["removed"]["1"]["value"] < 0.65
    assert "1 of 480 images have no 'gender' and are left out" in done.stderr
    assert "no decoder for made-up" in done.stderr and Path("report/report.html").exists()
    direction = load_direction("found/gender.safetensors")
    assert direction.vector[0] > 0.98 and (direction.low, direction.high) == ("F", "M")
    assert Path("found/yaw.safetensors").exists()


def test_pictures_that_are_gone_leave_their_attributes_out(here: Path):
    done = call("emb", "--decoder", "none", "--limit", 200, "--folds", 2, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["metrics"]["attributes"]
    assert set(found) == {name for name, own in ATTRIBUTES.items() if own.of_faces}
    assert "brightness" in done.stderr and "trial run" in done.stderr


def test_people_whom_a_recognizer_was_trained_on_are_not_judged(here: Path):
    manifest = json.loads((here / "emb/manifest.json").read_text())
    name = Store.open(here / "emb").identities()[0]
    own = RecognizerId.from_json("a test", manifest["recognizer"] | {"training_people": [name, "Somebody"]})
    # Protected templates owe their recognizer as much.
    for recognizer in (own, protected_recognizer(own, {"scheme": "rotation", "key_id": "0" * 16}, DIM, "cosine")):
        (here / "emb/manifest.json").write_text(json.dumps(manifest | {"recognizer": recognizer.as_json()}))
        done = call("emb", "--attribute", "yaw", "--decoder", "none")
        assert done.exit_code == 4 and name in done.stderr
        assert f"recognizer made-up: trained on 1 of the {PEOPLE} people" in done.stderr


def test_gates_and_refusals(here: Path):
    gate = ("--folds", 2, "--fail-if", "balanced_accuracy[gender,linear] > 0.9")
    assert call("emb", *GENDER, "--attribute", "yaw", "--decoder", "none", *gate).exit_code == 5
    write_store(here / "bare", noise(), landmarks=False)
    refused = {
        ("emb", "--labels", "labels.csv"): (2, "go together"),
        ("emb", "--attribute", "age"): (2, "known are yaw"),
        ("emb", "--labels", "labels.csv", "--label", "constant"): (4, "one class only"),
        ("emb", "--labels", "labels.csv", "--label", "age"): (4, "no column 'age'"),
        ("emb", "--attribute", "yaw", "--folds", 61): (4, "too few for 61 folds"),
        ("emb", "--attribute", "brightness"): (4, "images are not there"),
        ("bare", "--attribute", "yaw"): (2, "nothing to read"),
        ("emb", "--exclude", "nobody"): (4, "nobody"),
    }
    for arguments, (code, said) in refused.items():
        done = call(*arguments, "--decoder", "none")
        assert done.exit_code == code and said in done.output, (arguments, done.exit_code, done.output)
