"""One template of several: the command `aggregate`, and `evaluate aggregation`."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.aggregation import (
    MEAN,
    compare,
    evaluate_aggregation,
    levels_off,
    make_design,
)
from facedecode.evaluation.jobs import AggregationJob
from facedecode.identity import RecognizerId
from facedecode.statistics.bootstrap import Estimate
from facedecode.store import Store, StoreWriter
from facedecode.templates import aggregation
from facedecode.templates.aggregation import (
    aggregate_store,
    choose_members,
    combine,
    person_order,
    template_distances,
)
from facedecode.templates.jobs import AggregateJob, Aggregation

RNG = np.random.default_rng(11)


def write_store(
    folder: Path, templates: np.ndarray, persons: list, score: str = "cosine", probabilities=None, name="made-up"
) -> Path:
    """A store of made-up templates, several shards of it."""
    recognizer = RecognizerId(name, "0" * 64, dim=templates.shape[1], score=score)
    manifest = {"score": score, "precision": "fp32", "l2_normalized": False, "transform": None}
    with StoreWriter(folder, {"n": len(templates)}, folder.parent, recognizer, 7, manifest=manifest) as writer:
        for start in range(0, len(templates), 7):
            numbers = range(start, min(start + 7, len(templates)))
            rows = [{"path": f"{k}.jpg", "sha256": f"{k}", "identity": persons[k]} for k in numbers]
            if probabilities is not None:
                rows = [row | {"probability": float(probabilities[k])} for k, row in zip(numbers, rows, strict=True)]
            writer.append(templates[start : start + 7].astype(np.float32), rows, [], start + len(rows))
        writer.finish()
    return folder


def people(count: int = 8, each: int = 12, noise: float = 1.5, dim: int = 16) -> tuple[np.ndarray, list[str]]:
    """Persons' means with noise: more images, less of it."""
    rng = np.random.default_rng(11)
    means = rng.normal(size=(count, dim))
    templates = means.repeat(each, axis=0) + noise * rng.normal(size=(count * each, dim))
    return templates.astype(np.float32), [f"P{k}" for k in range(count) for _ in range(each)]


# One template


def test_ways_to_combine_against_numpy():
    values, weights = RNG.normal(size=(5, 4)).astype(np.float32), np.array([0.1, 0.9, 0.5, 0.0, 1.0])
    wide = values.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    units = wide / lengths[:, None]
    np.testing.assert_allclose(combine(values, Aggregation()), wide.mean(0))
    np.testing.assert_allclose(combine(values, Aggregation("median")), np.median(wide, axis=0))
    np.testing.assert_allclose(combine(values, Aggregation(weight="norm")), np.average(wide, axis=0, weights=lengths))
    by = combine(values, Aggregation(weight="probability"), weights)
    np.testing.assert_allclose(by, np.average(wide, axis=0, weights=weights))
    found = combine(values, Aggregation("normalized-mean"))
    np.testing.assert_allclose(np.linalg.norm(found), lengths.mean())
    np.testing.assert_allclose(found / np.linalg.norm(found), units.mean(0) / np.linalg.norm(units.mean(0)))
    # However long a template is, its direction counts alike; the plain mean goes with the longest.
    longer = values * np.array([[100], [1], [1], [1], [1]], np.float32)
    turned = combine(longer, Aggregation("normalized-mean"))
    np.testing.assert_allclose(turned / np.linalg.norm(turned), found / np.linalg.norm(found))


@pytest.mark.parametrize("method", ["mean", "normalized-mean", "median"])
def test_one_template_or_the_same_ones_are_themselves(method: str):
    value = RNG.normal(size=(1, 9)).astype(np.float32)
    np.testing.assert_allclose(combine(value, Aggregation(method)), value[0], rtol=1e-6)
    np.testing.assert_allclose(combine(value.repeat(4, axis=0), Aggregation(method)), value[0], rtol=1e-6)


def test_what_has_no_mean():
    a = np.ones((1, 3), np.float32)
    with pytest.raises(BadInput, match="cancel"):
        combine(np.concatenate([a, -a]), Aggregation("normalized-mean"))
    with pytest.raises(BadInput, match="zeros"):
        combine(np.concatenate([a, 0 * a]), Aggregation("normalized-mean"))
    for weights in ([0.0, 0.0], [1.0, np.nan], [1.0, -1.0]):
        with pytest.raises(BadInput, match="weights by probability"):
            combine(np.concatenate([a, a]), Aggregation(weight="probability"), np.array(weights))


@pytest.mark.parametrize(
    "words", [("max",), ("mean", "age"), ("mean", "none", 0), ("median", "norm"), ("mean", "none", 3, "perhaps")]
)
def test_ways_that_are_none(words: tuple):
    with pytest.raises(UsageError):
        Aggregation(*words)


# Who goes in


def test_draws_are_nested_and_everybodys_own():
    names = ["b", "a", None, "a", "b", "a", "a", "b"]
    rows = [i for i, name in enumerate(names) if name]
    several = [choose_members(names, rows, Aggregation(count=n, fewer="use"))[0]["a"].tolist() for n in (1, 2, 3, 4)]
    assert all(set(few) < set(more) for few, more in pairwise(several))
    assert several[-1] == [1, 3, 5, 6]
    alone = choose_members(names, [1, 3, 5, 6], Aggregation(count=2))[0]["a"]
    np.testing.assert_array_equal(alone, several[1])
    orders = {tuple(person_order("a", 6, seed)) for seed in range(9)}
    assert len(orders) > 5
    found, fewer = choose_members(names, rows, Aggregation(count=4))
    assert list(found) == ["a"] and fewer == ["b"]


def test_a_store_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    templates, names = people()
    write_store(tmp_path / "emb", templates, names)
    monkeypatch.setattr(Store, "templates", lambda self: pytest.fail("the whole store at once"))
    monkeypatch.setattr(aggregation, "_ROWS_AT_ONCE", 30)
    aggregate_store(AggregateJob(tmp_path / "emb", tmp_path / "all"))
    monkeypatch.undo()
    found = Store.open(tmp_path / "all")
    expected = templates.astype(np.float64).reshape(8, 12, 16).mean(1)
    np.testing.assert_allclose(found.templates(), expected, atol=1e-6)
    assert found.identities() == [f"P{k}" for k in range(8)]


def test_distances_to_the_template():
    values, center = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=3)
    np.testing.assert_allclose(
        template_distances(values, center, "negative-euclidean"), np.linalg.norm(values - center, axis=1)
    )
    cosine = [1 - v @ center / np.linalg.norm(v) / np.linalg.norm(center) for v in values.astype(np.float64)]
    np.testing.assert_allclose(template_distances(values, center, "cosine"), cosine)


def call(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    templates, names = people(3, 4)
    write_store(tmp_path / "emb", np.concatenate([templates, templates[:1]]), [*names, None])
    done = call("aggregate", "emb", "-o", "all", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["metrics"] == {
        "count": 3,
        "used": 12,
        "fewer": 0,
        "unnamed": 1,
    }
    assert "1 templates have no person" in done.stderr
    rows = list(csv.DictReader(Path("all/members.csv").read_text().splitlines()))
    assert [int(row["row"]) for row in rows] == list(range(12))
    before = Path("all/00000.npy").read_bytes()
    assert call("aggregate", "emb", "-o", "all").exit_code == 0 and Path("all/00000.npy").read_bytes() == before
    assert "other settings" in call("aggregate", "emb", "-o", "all", "--method", "median").stderr
    done = call("aggregate", "emb", "-o", "five", "-n", 5)
    assert done.exit_code == 4 and "nobody has 5 templates (at most 4)" in done.stderr
    assert call("aggregate", "emb", "-o", "five", "-n", 5, "--fewer", "use").exit_code == 0
    for words, code in {
        ("--weight", "probability"): 4,  # the store has none
        ("--method", "max"): 2,
        ("--exclude", "nobody"): 4,
        ("-n", 0): 2,
    }.items():
        assert call("aggregate", "emb", "-o", "new", *words).exit_code == code, words
    assert not Path("new").exists()
    write_store(tmp_path / "nameless", templates, [None] * 12)
    assert "no template has a person" in call("aggregate", "nameless", "-o", "new").stderr


def test_aggregates_can_be_drawn(tiny_store, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ["train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", "64"]
    assert call(*train).exit_code == 0 and call("aggregate", "emb", "-o", "all").exit_code == 0
    done = call("invert", "all", "-o", "all.png", "--decoder", "ridge", "--weights", tiny)
    assert done.exit_code == 0 and "10 faces" in done.stderr, done.output


# How much it brings


def test_gallery_and_probes_never_meet():
    _, names = people(4, 9)
    design = make_design(names, range(len(names)), ["P0", "P1", "P2", "P3"], 4, 5, seed=2)
    assert design.gallery.shape == design.probes.shape == (5, 4, 4)
    for draw in range(5):
        for person in range(4):
            used = [*design.gallery[draw, person], *design.probes[draw, person]]
            assert len(set(used)) == 8 and {names[row] for row in used} == {f"P{person}"}
    assert len({tuple(draw.ravel()) for draw in design.gallery}) == 5


def test_scores_are_those_of_a_plain_loop():
    templates, names = people(3, 6, dim=5)
    design = make_design(names, range(len(names)), ["P0", "P1", "P2"], 3, 2, seed=0)
    trials, non_mated = compare(templates, design, "negative-euclidean", MEAN, 2)
    mated, others = [], []
    for draw in range(2):
        for i in range(3):
            gallery = templates[design.gallery[draw, i, :2]].mean(0)
            for j in range(3):
                for row in design.probes[draw, j]:
                    (mated if i == j else others).append(-np.linalg.norm(gallery - templates[row]))
    np.testing.assert_allclose(np.sort(trials.scores), np.sort(mated), atol=1e-5)
    np.testing.assert_allclose(np.sort(non_mated.scores), np.sort(others), atol=1e-5)
    assert np.bincount(trials.people).tolist() == [6, 6, 6]


def test_more_images_verify_better(tmp_path: Path):
    templates, names = people(20, 16)
    probabilities = RNG.uniform(0.8, 1, len(names))
    folder = write_store(tmp_path / "emb", templates, names, probabilities=probabilities)
    job = AggregationJob([folder], persons=20, draws=3, fmrs=(0.1, 0.01), repetitions=200)
    result = evaluate_aggregation(job)
    metrics = result.as_json()["made-up"]
    assert result.labels("n") == list(range(1, 9))
    assert metrics["mated"] == 3 * 20 * 8 and metrics["non_mated"] == metrics["mated"] * 19
    tar = [figure["value"] for figure in metrics["tar_at_far"]["0.01"].values()]
    gain, short = metrics["gain"]["0.01"], metrics["short_of_largest"]["0.01"]
    assert tar[-1] > tar[0] + 0.1 and gain["8"]["low"] > 0 and metrics["levels_off"]["0.01"] > 1
    assert gain["1"]["value"] == short["8"]["value"] == 0
    assert all(own["low"] <= own["value"] <= own["high"] for own in metrics["tar_at_far"]["0.1"].values())
    assert set(metrics["ways"]) == {
        "mean",
        "normalized mean",
        "median",
        "mean by detector probability",
        "mean by template length",
    }
    lines = result.headlines()
    assert [line.title for line in lines] == [
        f"made-up, TAR at FAR {far} %: gain from 1 to 8 images" for far in (10, 1)
    ]
    assert lines[1].note == f"levels off at {metrics['levels_off']['0.01']}"


def test_where_a_curve_levels_off():
    def levels(lows: list[float]) -> int:
        return levels_off([Estimate(low + 0.1, low, low + 0.2, 9) for low in lows])

    assert levels([0.2, 0.1, -0.1, -0.05, 0]) == 3
    assert levels([0.2, -0.1, 0.1, -0.05, 0]) == 4
    assert levels([-0.2, -0.1, -0.1]) == 1
    assert levels([0.2, 0.1, 0]) == 3
    unknown = Estimate(0.3, None, None, 9)  # a difference without an interval is no sign of a level curve
    assert levels_off([unknown, unknown, Estimate(0, 0, 0, 9)]) == 3


def test_evaluate_aggregation_writes_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    templates, names = people(6, 8)
    write_store(tmp_path / "emb", templates, names)
    write_store(tmp_path / "other", templates[:, ::-1], names, name="other")
    fast = ("--persons", 6, "--far", 0.1, "--draws", 2, "--repetitions", 100)
    done = call("evaluate", "aggregation", "emb", "other", *fast, "-o", "report", "--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["made-up"]["tar_at_far"] == metrics["other"]["tar_at_far"]  # the same numbers in another order
    assert (tmp_path / "report" / "report.html").exists()
    gate = ("--fail-if", "tar[4]@far=0.1 < 1.1")
    assert call("evaluate", "aggregation", "emb", *fast, *gate).exit_code == 5
    for words, said in {
        ("--persons", 7): "has 6 persons",
        ("--persons", 6, "--largest", 5): "5 for the gallery and as many probes",
        ("--persons", 2, "--far", 0.0001): "too few non-mated",
    }.items():
        done = call("evaluate", "aggregation", "emb", *words)
        assert done.exit_code == 4 and said in done.output, (words, done.output)
