"""`evaluate leakage` where people are few, classes rare, labels numbers, and stores not of the same images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score
from typer.testing import CliRunner

from facedecode.attributes.direction import Direction, find_direction, load_direction
from facedecode.attributes.image_targets import label_target
from facedecode.attributes.probe import PROBES, fit_linear, fit_mlp, out_of_fold
from facedecode.attributes.reading import Answers, Reading, dealt_at_random, read
from facedecode.attributes.target import Target
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.evaluation.leakage import evaluate, strips
from facedecode.identity import RecognizerId
from facedecode.store import Store, StoreWriter

PEOPLE, EACH, DIM = 60, 4, 8
PERSONS = np.repeat(np.arange(PEOPLE), EACH)
FRONTAL = np.array([[40, 50], [60, 50], [50, 60], [42, 70], [58, 70]], float)  # eyes, nose, mouth; pixels


def templates(seed: int = 0, people: int = PEOPLE, each: int = EACH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(people * each, DIM)).astype(np.float32)


def reading(x: np.ndarray, target: Target, fit, repetitions: int = 100):
    return Reading.of(out_of_fold(x, target, fit, target.folds(5)), target, repetitions)


def test_figures_against_scikit_learn():
    rng = np.random.default_rng(3)
    persons = np.concatenate([np.arange(20), rng.integers(0, 20, 70)])
    share = 1 / np.bincount(persons)[persons]
    y = rng.normal(1e6, 1, 90)  # what differs is small against what does not
    said = y + rng.normal(0, 1, 90)
    found = read(said, Target(y, persons), repetitions=100)
    assert found.value == pytest.approx(r2_score(y, said, sample_weight=share), abs=1e-6)
    without = persons != 7
    assert found.left_out[7] == pytest.approx(r2_score(y[without], said[without], sample_weight=share[without]))
    classes = rng.integers(0, 3, 90)
    scores = rng.random((90, 3))
    found = read(scores, Target(classes, persons, ("a", "b", "c")), repetitions=100)
    assert found.value == pytest.approx(balanced_accuracy_score(classes, scores.argmax(1), sample_weight=share))
    assert found.estimate().n == 20


@pytest.mark.parametrize("probe", list(PROBES))
def test_who_it_is_does_not_tell_what_was_dealt_to_persons_at_random(probe: str):
    # Images of a person are nearly alike: folds of images would read the label off the person.
    rng = np.random.default_rng(5)
    persons = np.repeat(np.arange(200), EACH)
    x = 3 * rng.normal(size=(200, 32))[persons] + 0.05 * rng.normal(size=(800, 32))
    target = Target(rng.permutation(np.arange(200) % 2)[persons], persons, ("a", "b"))
    found = reading(x, target, PROBES[probe], 200).estimate()
    assert found.low < 0.5 < found.high
    if probe == "mlp":
        by_image = np.arange(800) % EACH  # an image of each person in every fold
        assert Reading.of(out_of_fold(x, target, fit_mlp, by_image), target, 100).estimate().low > 0.6


def test_folds_hold_whole_persons_and_spread_a_rare_class():
    values = np.isin(PERSONS, [3, 4, 17, 30, 59]).astype(np.int64)
    target = Target(values, PERSONS, ("common", "rare"))
    fold = target.folds(5)
    assert all(len(set(fold[person == PERSONS])) == 1 for person in range(PEOPLE))
    assert sorted(np.bincount(fold[::EACH])) == [12] * 5
    assert sorted(fold[values == 1][::EACH]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("probe", list(PROBES))
def test_a_class_of_three_people_with_an_image_each_is_enough(probe: str):
    values = np.isin(np.arange(20), [1, 8, 12]).astype(np.int64)
    target = Target(values, np.arange(20), ("common", "rare"))
    x = templates(people=20, each=1) + 20 * values[:, None]
    assert reading(x, target, PROBES[probe]).estimate().value > 0.6


def test_what_cannot_be_probed():
    x = templates()
    with pytest.raises(BadInput, match="one class only"):
        Target(np.zeros(len(x), np.int64), PERSONS, ("a",), "glasses")
    with pytest.raises(BadInput, match="the same for all"):
        Target(np.ones(len(x)), PERSONS)
    with pytest.raises(BadInput, match="not finite for 1"):
        Target(np.r_[np.nan, x[1:, 0]], PERSONS)
    with pytest.raises(BadInput, match="60 persons are too few for 31 folds"):
        Target(np.arange(float(len(PERSONS))), PERSONS).folds(31)
    alone = Target((PERSONS == 0).astype(np.int64), PERSONS, ("others", "lonely"), "mood")
    with pytest.raises(BadInput, match="mood: too few people are 'lonely'"):
        reading(x, alone, fit_linear)


def test_many_numbers_are_a_number_and_few_are_classes():
    persons = np.arange(40)
    ages = label_target([f"{20 + k / 2}" for k in range(40)], persons, "age")
    assert ages.classes is None
    np.testing.assert_array_equal(ages.values, 20 + np.arange(40) / 2)
    assert label_target([str(k % 3) for k in range(40)], persons, "level").classes == ("0", "1", "2")
    with pytest.raises(BadInput, match="nickname: 40 different labels"):
        label_target([f"n{k}" for k in range(40)], persons, "nickname")
    with pytest.raises(BadInput, match="age: not finite"):
        label_target([*(str(k) for k in range(39)), "nan"], persons, "age")


def test_an_attribute_that_is_not_in_the_templates_has_no_direction():
    turn = Target(np.linspace(-1, 1, 40) ** 2, np.arange(40))
    with pytest.raises(BadInput, match="turn does not rise"):
        find_direction("turn", np.ones((40, 2)), turn, RecognizerId("some", None, dim=2))


def write_store(folder: Path, x: np.ndarray, order: np.ndarray | None = None) -> Path:
    """A store of made-up images, landmarks and all but their files; its rows in some order."""
    shifts = np.random.default_rng(9).normal(0, 3, len(x))
    manifest = {"score": "cosine", "precision": "fp32", "l2_normalized": False, "transform": None}
    recognizer = RecognizerId("made-up", "0" * 64, dim=DIM, score="cosine")
    order = np.arange(len(x)) if order is None else order
    with StoreWriter(folder, {"n": len(order)}, folder.parent / "faces", recognizer, 4096, manifest=manifest) as writer:
        rows = []
        for k in order.tolist():
            landmarks = FRONTAL.copy()
            landmarks[2] += [shifts[k], 0]
            rows.append(
                {
                    "path": f"P{PERSONS[k]}/{k}.jpg",
                    "sha256": f"{k}",
                    "identity": f"P{PERSONS[k]:02d}",
                    "landmarks": landmarks.astype(np.float32),
                    "box": np.array([30, 30, 70, 80], np.float32),
                    "probability": 0.9 + k / 1e4,
                    "width": 100,
                    "height": 100,
                }
            )
        writer.append(x[order].astype(np.float32), rows, [], len(rows))
        writer.finish()
    return folder


def planted() -> np.ndarray:
    """Templates that hold the yaw of `write_store`'s faces, and the labels of `write_labels`."""
    x = templates(2)
    x[:, 0] = np.random.default_rng(9).normal(0, 3, len(x))
    x[:, 1] += 6 * (PERSONS % 2)
    return x


def write_labels(file: Path, lacking: int = 0) -> Path:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "gender", "age", "same"])
        for k, (person, row) in enumerate(zip(PERSONS, planted(), strict=True)):
            gender = "" if k < lacking else "FM"[person % 2]
            writer.writerow([f"P{person}/{k}.jpg", gender, f"{20 + row[2]:.4f}", "yes"])
    return file


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["evaluate", "leakage", *map(str, arguments), "--decoder", "none"])


FEW = ("--repetitions", "100", "--folds", "3")


def test_the_command_from_stores_to_report_and_directions(tmp_path: Path):
    x = planted()
    hidden = x.copy()
    hidden[:, :2] = templates(8)[:, :2]
    emb = write_store(tmp_path / "emb", x)
    other = write_store(tmp_path / "hidden", hidden, np.random.default_rng(0).permutation(len(x))[:-8])
    labels = write_labels(tmp_path / "labels.csv", lacking=12)
    result = run(
        *(emb, other, "--labels", labels, "--label", "gender", "--label", "age", "--attribute", "yaw", *FEW),
        *("--directions", tmp_path / "directions", "-o", tmp_path / "report"),
        *("--fail-if", "r2[yaw,linear,emb] < 0.9"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert any("8 of 240 images are not in all stores" in said for said in report["warnings"])
    assert any("images have no 'gender'" in said for said in report["warnings"])
    found = report["metrics"]["attributes"]
    assert found["gender"]["measure"] == "balanced_accuracy" and found["gender"]["chance"] == 0.5
    assert found["gender"]["stores"]["emb"]["linear"]["value"] > 0.95
    assert found["gender"]["stores"]["emb"]["shuffled"]["value"] < 0.75
    assert found["yaw"]["stores"]["emb"]["linear"]["value"] > 0.95
    assert found["yaw"]["stores"]["hidden"]["linear"]["value"] < 0.1
    assert found["yaw"]["stores"]["hidden"]["less_first"]["linear"]["high"] < -0.8
    # A label of many numbers is regressed; rows of the second store are joined by path, whatever their order.
    assert found["age"]["measure"] == "r2"
    for label in ("emb", "hidden"):
        assert found["age"]["stores"][label]["linear"]["value"] > 0.9
    direction = load_direction(tmp_path / "directions" / "yaw.safetensors")
    assert direction.vector[0] > 0.95
    assert len(direction.report["people"]) == PEOPLE
    assert direction.report["read"]["linear"]["value"] == found["yaw"]["stores"]["emb"]["linear"]["value"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--attribute", "smile"], 2, "known are yaw"),
        (["--label", "gender"], 2, "go together"),
        (["--labels", "labels.csv", "--label", "same"], 4, "same: one class only"),
        (["--labels", "labels.csv", "--label", "none"], 4, "no column 'none'"),
        (["--attribute", "yaw", "--folds", "40"], 4, "60 persons are too few for 40 folds"),
        (["--attribute", "yaw", "--exclude", "Nobody"], 4, "nobody in the store"),
        (["--attribute", "yaw", "--limit", "4"], 4, "1 persons are too few"),
        (["other"], 4, "have no image in common"),
        (["--attribute", "yaw", "--fail-if", "tar > 1"], 2, "no figure 'tar'"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "emb", planted())
    write_labels(tmp_path / "labels.csv")
    if arguments == ["other"]:
        with StoreWriter(
            tmp_path / "other", {}, tmp_path, RecognizerId("else", "1" * 64, dim=DIM), 64,
            manifest={"score": "cosine"},
        ) as writer:  # fmt: skip
            writer.append(templates()[:4], [{"path": f"{k}", "identity": "Q", "sha256": "q"} for k in range(4)], [], 4)
            writer.finish()
    result = run("emb", *arguments)
    assert result.exit_code == code, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0], result.output


def test_strips_are_of_people_whom_neither_decoder_nor_direction_has_seen(
    tiny_store: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("seen.txt").write_text("\n".join(f"P{k}" for k in range(5)))
    trained = ["train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", "64", "--people", "seen.txt"]
    done = CliRunner().invoke(app, trained)
    assert done.exit_code == 0, done.output
    fitted, moved = [], []

    def spy(name: str, x: np.ndarray, *rest):
        fitted.append(x)
        return find_direction(name, x, *rest)

    def move(own, x: np.ndarray, amount: float):
        moved.append(x)
        return original(own, x, amount)

    original = Direction.move
    monkeypatch.setattr(evaluate, "READABLE", -np.inf)  # ten people are too few to read it
    monkeypatch.setattr(strips, "find_direction", spy)
    monkeypatch.setattr(Direction, "move", move)
    words = ["--attribute", "brightness", "--folds", "2", "--repetitions", "100", "--decoder", "ridge"]
    done = CliRunner().invoke(app, ["evaluate", "leakage", "emb", *words, "--weights", str(tiny), "-o", "report"])
    assert done.exit_code == 0, done.output
    store = Store.open(tiny_store)
    whose = {row.tobytes(): name for row, name in zip(store.templates(), store.identities(), strict=True)}
    of_direction = {whose[row.tobytes()] for x in fitted for row in x}
    of_strips = {whose[row.tobytes()] for x in moved for row in x}
    assert len(fitted) == 1 and of_strips and of_direction
    assert not of_strips & of_direction
    assert not of_strips & {f"P{k}" for k in range(5)}
    found = json.loads(Path("report/report.json").read_text())["metrics"]["attributes"]["brightness"]["drawn"]
    assert found["expected"] > 0 and found["change"]["low"] <= found["change"]["value"] <= found["change"]["high"]
    assert Path("report/figures/strip-brightness.png").is_file()


# What is chance in training, too


def test_an_interval_knows_of_the_training():
    """Of labels dealt out at random it is as wide as √2 times what those who are judged make it."""
    rng = np.random.default_rng(1)
    persons = np.arange(200)
    x = rng.normal(size=(200, 16))
    target = Target(rng.permutation(persons % 2), persons, ("a", "b"))
    answers = out_of_fold(x, target, fit_linear, target.folds(5))
    found = Reading.of(answers, target, 400)
    own, judged = found.resampled(), read(answers.said, target, 400)
    assert own.value == judged.value
    assert 1.25 < np.ptp(own.drawn) / np.ptp(judged.drawn) <= np.sqrt(2) + 1e-12
    # What any probe reads is not moved by who trained it.
    x[:, 0] += 40 * target.values
    clear = Reading.of(out_of_fold(x, target, fit_linear, target.folds(5)), target, 400)
    assert not clear.swayed.any() and clear.estimate().value == 1


def test_no_interval_leaves_the_scale():
    persons = np.arange(30)
    target = Target(persons % 2, persons, ("a", "b"))
    said = np.eye(2)[np.where(persons == 4, 1, persons % 2)]
    opposite = np.stack([np.eye(2)[persons % 2], np.eye(2)[1 - persons % 2]])
    found = Reading.of(Answers(said, opposite), target, 200)
    assert found.resampled().drawn.max() <= 1 and found.estimate().high <= 1
    assert np.ptp(found.resampled().drawn) > np.ptp(found.judged.drawn)


def test_halves_have_nobody_in_common_and_judge_nobody_whom_they_know():
    """A probe that remembers its people says of others whom it knows: each by halves of the rest, and apart."""
    persons = np.arange(70)
    target = Target(persons.astype(float), persons)
    trained: list[frozenset[int]] = []

    def remember(x, part, seed):
        number = float(len(trained))
        trained.append(frozenset(x[:, 0].astype(int)))
        return lambda more: np.full(len(more), number)

    for folds in (2, 3, 4, 5, 7):
        trained.clear()
        answers = out_of_fold(persons[:, None], target, remember, target.folds(folds))
        if folds == 2:  # no half is left
            assert len(trained) == 2 and np.isnan(answers.halves).all()
            continue
        assert len(trained) == 2 * folds
        for person, *numbers in zip(persons, answers.said, *answers.halves, strict=True):
            whole, first, second = (trained[int(number)] for number in numbers)
            assert first | second <= whole and not first & second and person not in whole
            assert abs(len(first) - len(second)) <= folds and len(whole - first - second) <= len(persons) / folds + 1


def test_without_halves_the_widest_is_taken():
    persons = np.arange(40)
    target = Target(persons % 2, persons, ("a", "b"))
    said = np.eye(2)[np.random.default_rng(0).integers(0, 2, 40)]
    found = Reading.of(Answers(said, np.full((2, 40, 2), np.nan)), target, 200)
    np.testing.assert_allclose(found.judged.value - found.resampled().left_out,
                               np.sqrt(2) * (found.judged.value - found.judged.left_out))  # fmt: skip


def test_one_more_shuffle_lies_in_the_range_of_several():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        *several, one = rng.normal(size=21)
        found = dealt_at_random(several)
        inside += found.low <= one <= found.high
    assert 0.935 < inside / 2000 < 0.965
    assert dealt_at_random([0.4]).low is None


def test_labels_dealt_at_random_are_chance_nineteen_times_in_twenty():
    """By probes as they were trained it was seven times in eight."""
    covered = {"known": 0, "not": 0}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        persons = np.arange(60)
        target = Target(rng.permutation(persons % 2), persons, ("a", "b"))
        x = rng.normal(size=(60, 6))
        answers = out_of_fold(x, target, least_squares, target.folds(5))
        for name, found in (("known", Reading.of(answers, target, 200)), ("not", read(answers.said, target, 200))):
            own = found.estimate()
            covered[name] += own.low <= 0.5 <= own.high
    assert covered["known"] >= 0.93 * 120 > covered["not"], covered


def least_squares(x: np.ndarray, target: Target, seed: int):
    slopes = np.linalg.lstsq(x - x.mean(0), 2.0 * target.values - 1, rcond=None)[0]
    return lambda more: ((more - x.mean(0)) @ slopes)[:, None] * [-1, 1]


@pytest.mark.parametrize("small", [12, 40, 200])
def test_a_small_class_that_is_all_told_right_is_not_known_to_be(small: int) -> None:
    """Of a class of few people, all told right says as much as they can: Clopper and Pearson's bound for them."""
    values = (np.arange(1000) < small).astype(int)
    found = read(np.eye(2)[values], Target(values, np.arange(1000), ("a", "b")), 100).estimate()
    assert found.value == 1
    if small < 20:
        assert found.low is None  # a few people have half of the figure
        return
    # The mean of two rates, of which the one of the small class is the lowest that is not yet unlikely.
    honest = (0.025 ** (1 / small) + 1) / 2
    assert found.low == pytest.approx(honest, abs=2e-3) and found.high == 1
    # Some of the larger class told wrong say nothing of the smaller.
    for wrong in (1, 5, 30):
        said = np.where(np.arange(1000) >= 1000 - wrong, 1, values)
        worse = read(np.eye(2)[said], Target(values, np.arange(1000), ("a", "b")), 100).estimate()
        assert worse.low < found.low + 1e-3, wrong
