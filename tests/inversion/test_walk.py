"""Ways through the template space, attribute directions, grouped stores, and the command `walk`."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import geometric_slerp
from typer.testing import CliRunner

from facedecode.annotations.labels import read_image_labels
from facedecode.attributes.direction import Direction, load_direction
from facedecode.cli import app
from facedecode.errors import BadInput, OutputError
from facedecode.identity import RecognizerId
from facedecode.inversion.walk import between, plan_walks
from facedecode.store import Store, load_templates
from facedecode.store.grouped import GROUPS, MEMBERS, Group, grouped_writer, write_groups

WHOSE = RecognizerId("some", "0" * 64, dim=5)
RNG = np.random.default_rng(0)


def direction(vector: np.ndarray | None = None, recognizer: dict | None = None, **changes) -> Direction:
    vector = np.eye(5, dtype=np.float32)[1] if vector is None else vector
    fields = {"attribute": "gender", "low": "F", "high": "M", "positions": (-0.5, 1.5), "recognizer": WHOSE}
    return Direction(vector, **(fields | ({"recognizer": recognizer} if recognizer else {}) | changes))


# Between two templates


def test_angles_turn_at_a_constant_rate_and_lengths_grow_linearly():
    a, b = (x.astype(np.float32) for x in RNG.normal(size=(2, 9)))
    fractions = np.linspace(0, 1, 6)
    found = between(a, b, fractions, "cosine")
    lengths = np.linalg.norm(found, axis=1)
    ends = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64)) for x in (a, b))
    expected = geometric_slerp(*ends, fractions)
    np.testing.assert_allclose(found / lengths[:, None], expected, atol=1e-6)
    np.testing.assert_allclose(lengths, np.interp(fractions, [0, 1], [np.linalg.norm(a), np.linalg.norm(b)]), rtol=1e-6)


def test_distances_go_straight_and_beyond():
    a, b = (x.astype(np.float32) for x in RNG.normal(size=(2, 9)))
    found = between(a, b, [0, 0.25, 1, 2], "negative-euclidean")
    np.testing.assert_allclose(found, [a, 0.75 * a + 0.25 * b, b, 2 * b - a], atol=1e-6)


@pytest.mark.parametrize("small", [0, 1e-6, 1e-5])
def test_the_same_direction_twice_is_a_straight_line(small: float):
    a = np.array([3.0, 0, 0], np.float32)
    b = np.array([1.0, small, 0], np.float32)
    np.testing.assert_allclose(between(a, b, [0.5], "cosine"), [[2, small, 0]], atol=1e-5)


def test_opposite_templates_and_zeros_have_no_way_between():
    a = np.ones(4, np.float32)
    with pytest.raises(BadInput, match="opposite"):
        between(a, -2 * a, [0.5], "cosine")
    with pytest.raises(BadInput, match="zeros"):
        between(a, 0 * a, [0.5], "cosine")
    np.testing.assert_array_equal(between(a, -a, [0.5], "negative-euclidean"), np.zeros((1, 4)))


# Directions


def test_a_step_leads_from_one_class_to_the_other():
    own = direction()
    start = RNG.normal(size=(3, 5)).astype(np.float32)
    moved = own.move(start, 1.0)
    np.testing.assert_allclose(moved[:, 1] - start[:, 1], 2.0, atol=1e-6)
    np.testing.assert_array_equal(np.delete(moved, 1, 1), np.delete(start, 1, 1))
    cleared = own.without(start)
    np.testing.assert_allclose(cleared[:, 1], 0.5, atol=1e-6)  # halfway between -0.5 and 1.5
    np.testing.assert_allclose(own.without(cleared), cleared, atol=1e-6)


def test_a_walk_along_a_direction_is_symmetric_about_its_start():
    start = RNG.normal(size=(2, 5)).astype(np.float32)
    walks = plan_walks(start, direction(), steps=5, reach=2.0, score="cosine")
    assert walks.templates.shape == (2, 5, 5) and walks.amounts == [-2, -1, 0, 1, 2] and walks.ends is None
    np.testing.assert_allclose(walks.templates[:, 2], start, atol=1e-6)
    np.testing.assert_allclose(walks.templates.mean(1), start, atol=1e-6)


def test_what_is_taken_out_is_out_all_the_way():
    start, end = RNG.normal(size=(2, 1, 5)).astype(np.float32)
    walks = plan_walks(start, end, without=[direction()], steps=4, score="negative-euclidean")
    np.testing.assert_allclose(walks.templates[..., 1], 0.5, atol=1e-6)
    np.testing.assert_array_equal(walks.ends, end)  # what pictures are scored against stays as it was given


def test_directions_come_back_from_their_file(tmp_path: Path):
    own = direction(report={"r2": 0.5})
    own.save(tmp_path / "gender.safetensors")
    found = load_direction(tmp_path / "gender.safetensors")
    np.testing.assert_array_equal(found.vector, own.vector)
    assert (found.attribute, found.low, found.high, found.positions) == ("gender", "F", "M", (-0.5, 1.5))
    assert found.recognizer == WHOSE and found.report == {"r2": 0.5}
    found.require_recognizer(WHOSE)
    with pytest.raises(BadInput, match=r"gender\.safetensors: this direction is for some .*other"):
        found.require_recognizer(replace(WHOSE, name="other"))


@pytest.mark.parametrize(
    "changes",
    [
        {"vector": np.full(5, 1, np.float32)},
        {"vector": np.full(5, np.nan, np.float32)},
        {"vector": np.eye(4, dtype=np.float32)[0]},
        {"positions": (1.0, 1.0)},
        {"positions": (0.0, float("nan"))},
    ],
)
def test_a_direction_that_is_none_is_refused(changes: dict):
    with pytest.raises(BadInput):
        direction(**changes)


# Labels of images


def test_labels_are_joined_by_path(tiny_store: Path, tmp_path: Path):
    store, path = Store.open(tiny_store), tmp_path / "labels.csv"
    first, second, third = store.paths()[:3]
    path.write_text(f"path,age\n{second},old\n{first}, young \n{third},\nother.jpg,old\n")
    found = read_image_labels(path, "age", store)
    assert found.values == ["young", "old"] + [None] * 28
    assert found.classes() == ("old", "young") and found.unlabelled[0] == third
    assert found.note().startswith(f"28 of 30 images have no 'age' and are left out ({third}, ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,sex\n", "no column 'age'; there are path, sex"),
        ("identity,age\nann,old\n", "no column 'path'"),
        ("path,age\nelsewhere.jpg,old\n", "has a 'age' for no image of"),
        ("path,age\n,old\n", "line 2: no path"),
        ("path,age\na.png,old\na.png,young\n", "line 3: a.png has two labels, 'old' and 'young'"),
    ],
)
def test_files_of_labels_that_say_nothing(tiny_store: Path, tmp_path: Path, text: str, said: str):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"labels\.csv") as error:
        read_image_labels(path, "age", Store.open(tiny_store))
    assert said in str(error.value)


def test_one_label_makes_no_two_classes(tiny_store: Path, tmp_path: Path):
    store = Store.open(tiny_store)
    (tmp_path / "labels.csv").write_text("path,age\n" + "".join(f"{path},old\n" for path in store.paths()))
    with pytest.raises(BadInput, match=r"1 labels in 'age' \(old\)"):
        read_image_labels(tmp_path / "labels.csv", "age", store).classes()


# Grouped stores


def test_a_grouped_store_is_a_store_with_its_members_beside_it(tiny_store: Path, tmp_path: Path):
    store, output = Store.open(tiny_store), tmp_path / "groups"
    members = [np.array([0, 2]), np.array([5])]
    made = np.stack([store.templates()[rows].mean(0) for rows in members])
    groups = [Group("P0", members[0], np.array([0.5, 0.25])), Group(None, members[1], figures={"purity": 1.0})]
    for _ in range(2):  # the second finds it done
        with grouped_writer(store, output, "aggregate", {"method": "mean"}) as writer:
            write_groups(writer, store, made, groups)
    found = Store.open(output)
    np.testing.assert_array_equal(found.templates(), made)
    assert found.identities() == ["P0", None] and found.paths() == [None, None]
    assert found.recognizer == store.recognizer and found.manifest.aggregate == {"method": "mean"}
    rows = list(csv.DictReader((output / GROUPS).read_text().splitlines()))
    assert [(row["identity"], row["count"], row["purity"]) for row in rows] == [("P0", "2", ""), ("", "1", "1")]
    rows = list(csv.DictReader((output / MEMBERS).read_text().splitlines()))
    assert [(row["group"], row["row"], row["path"], row["distance"]) for row in rows] == [
        ("0", "0", store.paths()[0], "0.5"),
        ("0", "2", store.paths()[2], "0.25"),
        ("1", "5", store.paths()[5], ""),
    ]
    with pytest.raises(OutputError, match="other settings"):
        grouped_writer(store, output, "aggregate", {"method": "median"}).__enter__()
    with pytest.raises(OutputError, match="is the store that is to be read"):
        grouped_writer(store, tiny_store, "aggregate", {})
    np.testing.assert_array_equal(load_templates(output)[0], made)


# The command


@pytest.fixture
def here(tiny_store: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store `emb`, the decoder `ridge`, and the weights of its recognizer."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", "64"])
    assert done.exit_code == 0, done.output
    return tmp_path


def call(*arguments: object):
    words = ["walk", "emb", "-o", "walk.png", "--decoder", "ridge", "--weights", "tiny.safetensors"]
    return CliRunner().invoke(app, [*words, *map(str, arguments)])


def test_walk_draws_a_strip_and_scores_both_ends(here: Path):
    done = call("--from", "P0_0001", "--to", "P5/P5_0002.png", "--steps", 3, "--save-templates", "way.npy", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["metrics"]["amounts"] == [0, 0.5, 1]
    with Image.open("walk.png") as picture:
        assert picture.width >= 3 * 64
    store, way = Store.open("emb"), np.load("way.npy")
    a, b = (store.templates()[store.paths().index(path)] for path in ("P0/P0_0001.png", "P5/P5_0002.png"))
    np.testing.assert_allclose(way, [a, (a + b) / 2, b], atol=1e-6)
    start, end = (found["metrics"][f"scores_with_{name}"][0] for name in ("start", "end"))
    assert start[0] > start[2] and end[2] > end[0]
    assert np.shape(start) == np.shape(end) == (3,)


def test_walk_along_a_direction_from_several_templates(here: Path):
    vector = np.eye(16, dtype=np.float32)[0]
    direction(vector, Store.open("emb").recognizer).save("g.safetensors")
    done = call("--from", 0, "--from", "P1_0002.png", "--along", "g.safetensors", "--originals", "--json")
    assert done.exit_code == 0, done.output
    assert np.shape(json.loads(done.stdout)["metrics"]["scores_with_start"]) == (2, 7)
    assert "scores_with_end" not in json.loads(done.stdout)["metrics"]
    with Image.open("walk.png") as picture:
        assert picture.width >= 8 * 64 and picture.height >= 2 * 64


def test_what_walk_refuses(here: Path):
    direction().save("other.safetensors")
    Path("taken.npy").write_bytes(b"x")
    refused = {
        ("--from", "P0_0001"): (2, "give one of --to"),
        ("--from", "P0_0001", "--to", "1", "--along", "other.safetensors"): (2, "give one of --to"),
        ("--from", "0", "--to", "1", "--to", "2"): (2, "2 --to for 1 --from"),
        ("--from", "P0_0009", "--to", "1"): (4, "there are P0_000"),
        ("--from", "30", "--to", "1"): (4, "numbered from 0 to 29"),
        ("--from", "0", "--along", "other.safetensors"): (4, "this direction is for some"),
        ("--from", "0", "--along", "none.safetensors"): (4, "no such direction"),
        ("--from", "0", "--to", "1", "--reach", "0"): (2, "--reach"),
        ("--from", "0", "--to", "1", "--steps", "2000"): (2, "too many"),
        ("--from", "0", "--to", "1", "--save-templates", "taken.npy"): (4, "is there already"),
        ("--from", "0", "--to", "1", "--save-templates", "way.csv"): (2, "ends in .npy"),
    }
    for arguments, (code, said) in refused.items():
        done = call(*arguments)
        assert done.exit_code == code and said in done.output, (arguments, done.output)
        assert not Path("walk.png").exists()
    assert Path("taken.npy").read_bytes() == b"x"
