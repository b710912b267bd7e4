"""`evaluate equivariance`: figures on templates whose geometry is known, the estimator, and the command."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import draw_people
from scipy.linalg import expm, orthogonal_procrustes
from typer.testing import CliRunner
from typer.testing import Result as Done

from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.evaluation.equivariance import estimation
from facedecode.evaluation.equivariance.estimation import fit_discriminant
from facedecode.evaluation.equivariance.evaluate import add_figures, choose_people, equivariance_schema
from facedecode.evaluation.jobs import EquivarianceJob
from facedecode.evaluation.result import Result
from facedecode.mapping import affine as affine_maps
from facedecode.mapping.affine import affine, apply, between, coordinates, relative_distance
from facedecode.mapping.perturbed import Perturbed, Side
from facedecode.pictures.family import Family
from facedecode.pictures.perturb import parse_transform
from facedecode.recognizers import load_recognizer
from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.intervals import corrected
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store import images as store_images
from facedecode.store.images import embed_perturbed

ANGLES = [angle for angle in range(-150, 181, 30) if angle]


def turn(degrees: float, orders: tuple[int, ...]) -> np.ndarray:
    """Planes that turn so many times as fast as the picture, and one direction that does not turn."""
    generator = np.zeros((2 * len(orders) + 1, 2 * len(orders) + 1))
    for i, order in enumerate(orders):
        generator[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[0, -order], [order, 0]]
    return expm(np.radians(degrees) * generator)


def sides(act: Callable[[str, np.ndarray], np.ndarray], names: list[str], dim: int, each: int = 3) -> tuple[Side, Side]:
    """40 people to fit on and 20 to judge; act(transform, templates of all) are the perturbed templates."""
    rng = np.random.default_rng(0)
    made = []
    for first, people in ((0, 40), (40, 20)):
        rows = [{"identity": f"P{first + k}"} for k in range(people) for _ in range(each)]
        templates = rng.normal(size=(len(rows), dim)).astype(np.float32)
        moved = {name: Perturbed(np.arange(len(rows)), act(name, templates).astype(np.float32)) for name in names}
        made.append(Side(rows, templates, moved))
    return made[0], made[1]


def figures(act: Callable, names: list[str], dim: int, also: tuple[str, ...] = ()) -> Result:
    return judge(names, *sides(act, names, dim), also)


def judge(names: list[str], fit_on: Side, judge_on: Side, also: tuple[str, ...] = ()) -> Result:
    job = EquivarianceJob(Path(), [*names, *also], repetitions=100)
    result = Result(equivariance_schema(job))
    recognizer = {"name": "made up", "weights_sha256": "0" * 64, "score": "negative-euclidean"}
    add_figures(result, fit_on, judge_on, recognizer, "negative-euclidean", job)
    return result


def values(result: Result, name: str) -> list[float]:
    return [row.estimate.value for row in result.rows(name)]


def rotating(orders: tuple[int, ...]) -> Result:
    """Templates that a rotation of the picture turns, in a skewed frame about another center than 0."""
    dim = 2 * len(orders) + 1
    rng = np.random.default_rng(1)
    frame, center = np.eye(dim) + 0.2 * rng.normal(size=(dim, dim)), rng.normal(size=dim)

    def act(name: str, templates: np.ndarray) -> np.ndarray:
        matrix = frame @ turn(int(name.removeprefix("rotate")), orders) @ np.linalg.inv(frame)
        return (templates - center) @ matrix.T + center

    return figures(act, [f"rotate{angle}" for angle in ANGLES], dim, ("rotate-180",))


# ---------------------------------------------------------------- maps


def test_of_a_linear_representation_everything_is_exact() -> None:
    found = rotating((1, 2))
    names = [f"rotate{angle}" for angle in ANGLES]
    assert found.labels("transform") == names and len(found.rows("undone")) == len(names)
    for row in found.rows("undone"):
        assert (row.estimate.low, row.estimate.value, row.estimate.high) == pytest.approx((1, 1, 1), abs=1e-9)
    assert values(found, "cosine_after") == pytest.approx([1] * 11)
    assert values(found, "score_after") == pytest.approx([0] * 11, abs=1e-4)
    for row in found.rows("undone_by"):
        assert row.estimate.value < {"orthogonal": 0.999, "mean": 0.9}.get(row.labels["simpler"], 1)
    assert len(found.rows("composed")) == 18  # nine ways to 60, 90 … 180, in both directions
    assert values(found, "composed") == pytest.approx([1] * 18, abs=1e-9)
    assert values(found, "composed_difference") == pytest.approx([0] * 18, abs=1e-9)
    assert values(found, "disagreement") == pytest.approx([0] * 18, abs=1e-9)
    assert max(row.estimate for row in found.rows("frobenius")) < 1e-5
    assert values(found, "round_trip") == pytest.approx([0] * 11, abs=1e-9)
    assert values(found, "round_trip_original") == pytest.approx([0] * 11, abs=1e-9)
    assert set(found.labels("opposite")) >= {("rotate30", "rotate-30"), ("rotate180",) * 2}
    assert values(found, "opposite") == pytest.approx([1] * len(found.rows("opposite")), abs=1e-9)
    assert found.labels("gap") == names[:-1]
    angles = {tuple(own["angles"]) for own in found.facts["interpolations"].values()}
    assert angles >= {(0, 30, 60), (30, 60, 90), (-180, -150, -120)}
    assert [row.estimate for row in found.rows("negative")] == [0] * 10
    assert values(found, "interpolated_logarithm") == pytest.approx([1] * 10, abs=1e-7)
    assert max(values(found, "interpolated_linear")) < 0.99
    assert all(row.estimate.high < 0 for row in found.rows("interpolated_linear_difference"))


def test_a_step_of_half_a_turn_has_no_real_logarithm_and_that_is_counted() -> None:
    found = rotating((1, 3))  # a step of 60° turns the second plane by 180°
    assert values(found, "undone") == pytest.approx([1] * 11, abs=1e-9)
    assert values(found, "composed_difference") == pytest.approx([0] * 18, abs=1e-9)
    assert max(values(found, "interpolated_logarithm")) < 0.9
    exact, negative = between(affine(turn(-30, (3,)), np.zeros(3)), affine(turn(-90, (3,)), np.zeros(3)), 0.5)
    assert negative == 2
    np.testing.assert_allclose(exact[:2, :2], 0, atol=1e-6)  # the mean of +90° and −90°


def test_what_is_destroyed_is_not_explained() -> None:
    rng = np.random.default_rng(5)

    def act(name: str, templates: np.ndarray) -> np.ndarray:
        kept = templates.copy()
        kept[:, 3:] = rng.normal(1, 1, kept[:, 3:].shape)
        return kept @ np.diag([2, 1, 0.5, 1, 1, 1]) + 0.3

    fit_on, judge_on = sides(act, ["scale0.5"], 6)
    own = judge(["scale0.5"], fit_on, judge_on)
    (x, y), (u, v) = fit_on.pairs("scale0.5"), judge_on.pairs("scale0.5")
    x, y, u, v = (part.astype(np.float64) for part in (x, y, u, v))
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    back = np.linalg.lstsq(np.column_stack([y, np.ones(len(y))]), x, rcond=None)[0]
    turned = orthogonal_procrustes(x - x.mean(0), y - y.mean(0))[0]
    candidates = {
        "affine": np.column_stack([u, np.ones(len(u))]) @ solution,
        "orthogonal": (u - x.mean(0)) @ turned + y.mean(0),
        "shift": u + y.mean(0) - x.mean(0),
        "mean": np.repeat(y.mean(0)[None], len(u), axis=0),
    }
    found = {row.labels["simpler"]: row.estimate for row in own.rows("undone_by")}
    found["affine"] = own.value("undone", {"transform": "scale0.5"})
    for name, mapped in candidates.items():
        sums = {person: np.zeros(2) for person in sorted(set(judge_on.identities))}
        for k, person in enumerate(judge_on.identities):
            sums[person] += [sum((v[k] - mapped[k]) ** 2), sum((v[k] - u[k]) ** 2)]
        lost, moved = sum(sums.values())
        assert found[name].value == pytest.approx(1 - lost / moved, abs=1e-6)
        weights = np.concatenate([person_draws(len(sums), 100, 0), 1 - np.eye(len(sums))])
        numerators, denominators = (weights @ np.stack(list(sums.values()))).T
        shares = 1 - numerators / denominators
        wanted = corrected(1 - lost / moved, shares[:100], shares[100:])
        assert (found[name].low, found[name].high) == pytest.approx(wanted, abs=1e-6)
    assert 0.2 < found["affine"].value < 0.9
    for metric, kind in (("cosine", "cosine"), ("score", "negative-euclidean")):
        wanted = [score_pairs(mapped, v, kind).mean() for mapped in (u, candidates["affine"])]
        means = [values(own, f"{metric}_{when}")[0] for when in ("before", "after")]
        assert means == pytest.approx(wanted, abs=1e-5)
    again = np.column_stack([candidates["affine"], np.ones(len(u))]) @ back
    lost = np.sum((u - again) ** 2) / np.sum((u - x.mean(0)) ** 2)
    assert values(own, "round_trip") == pytest.approx([lost], abs=1e-6)
    assert lost > 0.1  # least squares both ways is no inverse
    assert own.rows("composed") == own.rows("opposite") == own.rows("interpolated_linear") == []


def test_composed_maps_are_used_in_the_right_order() -> None:
    shear, stretch = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([3.0, 0.5])

    def act(name: str, templates: np.ndarray) -> np.ndarray:
        for part in name.split("+"):
            templates = templates @ (shear if part == "shift-left" else stretch).T
        return templates

    own = figures(act, ["shift-left", "scale0.5", "shift-left+scale0.5"], 2)
    assert own.facts["compositions"] == {
        0: {"first": "shift-left", "second": "scale0.5", "whole": "shift-left+scale0.5"}
    }
    assert values(own, "composed") == pytest.approx([1], abs=1e-9)


def test_interpolations_of_single_maps() -> None:
    rng = np.random.default_rng(2)
    generator = np.zeros((4, 4))
    generator[:3] = 0.3 * rng.normal(size=(3, 4))
    one, other = (expm(t * generator) for t in (1.0, 3.0))
    np.testing.assert_allclose(between(one, other, 0.5)[0], expm(2 * generator), atol=1e-9)
    np.testing.assert_allclose(between(one, other, 0)[0], one, atol=1e-9)
    points = rng.normal(size=(5, 3))
    np.testing.assert_allclose(apply(one @ other, points), apply(one, apply(other, points)))
    np.testing.assert_allclose(apply(affine(np.diag([1.0, 2, 3]), np.ones(3)), points), points * [1, 2, 3] + 1)
    inwards, outwards = coordinates(np.ones(3), np.eye(3)[:, 1:])
    np.testing.assert_allclose(apply(outwards @ inwards, points)[:, 1:], points[:, 1:])
    np.testing.assert_allclose(apply(inwards, np.ones((1, 3))), [[0, 0]])
    assert between(affine(np.diag([1.0, 0, 1]), np.zeros(3)), other, 0.5) == (None, 0)
    assert relative_distance(np.eye(2), np.zeros((2, 2))) == 1 and np.isnan(relative_distance(np.zeros(2), np.ones(2)))


# ---------------------------------------------------------------- relations between perturbations


def test_relations_follow_from_geometry() -> None:
    family = Family.of(["all", "rotate30+rotate30", "scale0.5"])
    assert len(family.names) == 19
    assert family.aliases == {"rotate-180": "rotate180", "rotate30+rotate30": "rotate60"}
    assert len(Family.of(["occlude-eyes+occlude-mouth", "occlude-mouth+occlude-eyes"]).names) == 1
    assert len(Family.of(["shifts"]).names) == 4
    names = ["rotate90", "rotate180", "rotate30", "scale0.5", "rotate60"]
    steps = {-180: "rotate180", 30: "rotate30", 60: "rotate60", 90: "rotate90", 180: "rotate180"}
    family = Family.of(names)
    assert family.rotations() == steps and list(family.rotations()) == sorted(steps)
    assert family.chains() == {
        ("rotate30", "rotate30"): "rotate60",
        ("rotate30", "rotate60"): "rotate90",
        ("rotate90", "rotate90"): "rotate180",
    }
    assert Family.of(["rotate30", "rotate-30"]).chains() == {}
    chained = Family.of(["rotate30", "scale0.5", "rotate30+scale0.5"]).chains()
    assert chained == {("rotate30", "scale0.5"): "rotate30+scale0.5"}


# ---------------------------------------------------------------- the estimator


def test_every_class_of_a_discriminant_counts_alike() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    groups = [(str(k), rng.normal(0.7 * k, 1, (60 - 25 * k, 5)) @ mixing) for k in range(3)]
    means = np.stack([own.mean(0) for _, own in groups])
    within = np.mean([np.cov(own.T, bias=True) for _, own in groups], axis=0)
    weight = np.linalg.solve(within, means.T).T
    fresh = rng.normal(0.7, 1.5, (500, 5)) @ mixing
    nearest = (fresh @ weight.T - (weight * means).sum(1) / 2).argmax(1)
    assert (fit_discriminant([own for _, own in groups]).predict(fresh) == nearest).mean() > 0.995


def test_what_can_be_told_apart_is_corrected_as_if_it_were_known() -> None:
    far = {"scale0.5": 40.0, "scale1.5": -40.0}
    own = figures(lambda name, templates: templates + far[name], list(far), 4)
    assert own.facts["estimation"]["classes"] == ["none", "scale0.5", "scale1.5"]
    assert own.value("chance", {}) == pytest.approx(1 / 3)
    accuracy = own.value("accuracy", {})
    assert accuracy.value == 1 > accuracy.low
    np.testing.assert_array_equal(own.facts["estimation"]["confusion"], np.eye(3))
    assert own.value("estimated", {"corrected": "none"}).value == 0 == own.value("gain", {"corrected": "none"}).value
    for name in far:
        assert own.value("without", {"corrected": name}).value == pytest.approx(-80, rel=1e-4)
        assert own.value("estimated", {"corrected": name}).value == pytest.approx(0, abs=1e-3)
    assert own.value("shortfall", {"corrected": estimation.EVERY}).value == 0
    assert own.value("overall_gain", {}).value == pytest.approx(80, rel=1e-4)


def test_what_cannot_be_told_apart_is_told_by_chance() -> None:
    rng = np.random.default_rng(9)
    own = figures(lambda name, templates: rng.normal(size=templates.shape), ["shift-left", "shift-up", "scale0.5"], 4)
    accuracy = own.value("accuracy", {})
    assert accuracy.low < own.value("chance", {}) == 0.25 < accuracy.high and accuracy.n == 240
    assert np.sum(own.facts["estimation"]["confusion"], axis=1) == pytest.approx(1)
    mean = own.value("undone_by", {"transform": "scale0.5", "simpler": "mean"})
    assert mean.value == pytest.approx(0.5, abs=0.1)  # and that looks like something


# ---------------------------------------------------------------- the command


@pytest.fixture
def here(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `emb`, 100 faces of 20 people, and lists of them: 12 to fit on, 8 to judge."""
    monkeypatch.chdir(tmp_path)
    draw_people(Path("emb"), Path("faces"), "tiny", tiny, people=20, each=5)
    Path("train.txt").write_text("".join(f"P{k}\n" for k in range(12)))
    Path("test.txt").write_text("".join(f"P{k}\n" for k in range(12, 20)))
    return tmp_path


@pytest.fixture
def run(here: Path, tiny: Path) -> Callable[..., Done]:
    def call(*more: object, transforms: tuple[str, ...] = ("rotate30", "rotate60", "rotate90")) -> Done:
        given = ["emb", "--weights", tiny, "--repetitions", 100, "--people", "test.txt", "--train-people", "train.txt"]
        given += [x for name in transforms for x in ("--transform", name)]
        return CliRunner().invoke(app, ["evaluate", "equivariance", *(str(x) for x in (*given, *more))])

    return call


def test_figures_of_a_store(run, here: Path, tiny: Path) -> None:
    gates = ["--fail-if", "undone[rotate60] < -100", "--fail-if", "composed[rotate30,rotate60] < -100"]
    gates += ["--fail-if", "interpolated_logarithm[rotate30] > 2", "--fail-if", "accuracy < 0.1"]
    done = run(*gates, "-o", "out")
    assert done.exit_code == 0, done.stderr
    report = json.loads(Path("out/report.json").read_text())
    jsonschema.validate(report, json.loads(Path("out/report.schema.json").read_text()))
    metrics = report["metrics"]
    assert (metrics["judged"], metrics["training"]) == ({"images": 40, "people": 8}, {"images": 60, "people": 12})
    store, recognizer = Store.open("emb"), load_recognizer("tiny", tiny)
    rows, templates = store.rows().to_pylist(), store.templates().astype(np.float64)
    fit = [i for i, row in enumerate(rows) if int(row["identity"][1:]) < 12]
    judge = [i for i, row in enumerate(rows) if int(row["identity"][1:]) >= 12]
    maps = {}
    turned = {}
    for name in ("rotate30", "rotate60", "rotate90"):
        made = embed_perturbed(rows, store.root, recognizer, parse_transform(name))
        turned[name] = np.concatenate([part for _, part in made]).astype(np.float64)
        inputs = np.column_stack([turned[name], np.ones(100)])
        maps[name] = np.linalg.lstsq(inputs[fit], templates[fit], rcond=None)[0]
        lost = np.sum((templates[judge] - inputs[judge] @ maps[name]) ** 2)
        moved = np.sum((templates[judge] - turned[name][judge]) ** 2)
        assert metrics["transforms"][name]["undone"]["value"] == pytest.approx(1 - lost / moved, rel=1e-3)
    once = np.column_stack([turned["rotate60"][judge], np.ones(40)]) @ maps["rotate30"]
    lost = np.sum((templates[judge] - np.column_stack([once, np.ones(40)]) @ maps["rotate30"]) ** 2)
    moved = np.sum((templates[judge] - turned["rotate60"][judge]) ** 2)
    [own] = [x for x in metrics["compositions"] if x["first"] == x["second"]]
    assert own["whole"] == "rotate60" and own["other"]["value"] == pytest.approx(1 - lost / moved, rel=1e-3)
    assert [own["angles"] for own in metrics["interpolations"]] == [[0, 30, 60], [30, 60, 90]]
    assert metrics["estimation"]["classes"] == ["none", "rotate30", "rotate60", "rotate90"]
    with Path("out/undone.csv").open() as file:
        written = {row["perturbation"]: float(row["explained by the map"]) for row in csv.DictReader(file)}
    assert written == {name: own["undone"]["value"] for name, own in metrics["transforms"].items()}
    assert {path.name for path in Path("out/figures").iterdir()} == {"undone-by-angle.svg", "confusion.svg"}
    assert report["provenance"]["settings"]["transforms"] == ["rotate30", "rotate60", "rotate90"]
    assert "Intervals rest on 8 people only" in done.stderr


@pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")  # of the few pairs under --limit
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("-o", "whole").exit_code == 0
    embed, begun = store_images.embed_perturbed, []

    def counted(rows, root, recognizer, transform, **more):
        if len(begun) == 3:
            raise KeyboardInterrupt
        begun.append((transform.name, len(rows)))
        return embed(rows, root, recognizer, transform, **more)

    monkeypatch.setattr(store_images, "embed_perturbed", counted)
    assert run("--work", "work", "-o", "out").exit_code == 130
    first = {path: path.read_bytes() for path in Path("work").iterdir()}
    assert begun == [("rotate30", 60), ("rotate30", 40), ("rotate60", 60)] and len(first) == 3
    begun.clear()
    assert run("--work", "work", "-o", "out").exit_code == 0
    assert begun == [("rotate60", 40), ("rotate90", 60), ("rotate90", 40)]
    assert all(path.read_bytes() == data for path, data in first.items())
    ones, others = (json.loads(Path(name, "report.json").read_text()) for name in ("whole", "out"))
    assert ones["metrics"] == others["metrics"] and ones["tables"] == others["tables"]
    begun.clear()
    assert run("--work", "work", "--limit", 45, "-o", "less").exit_code == 0
    assert begun == [("rotate30", 45), ("rotate60", 45), ("rotate90", 45)]  # other people; those judged are the same
    damaged = sorted(Path("work").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    done = run("--work", "work")
    assert done.exit_code == 4 and damaged.name in done.stderr


def test_a_ridge_is_that_of_the_maps(run) -> None:
    metrics = [json.loads(run("--ridge", ridge, "--json").stdout)["metrics"] for ridge in ("0", "auto", "1e9")]
    plain, chosen, flat = ([own["undone"]["value"] for own in one["transforms"].values()] for one in metrics)
    assert min(chosen) > min(plain) and chosen != plain
    assert flat == pytest.approx([own["undone_by"]["mean"]["value"] for own in metrics[2]["transforms"].values()])


def test_nobody_who_is_judged_has_a_part_in_a_fit(run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    add, fit = affine_maps.MappingSums.add, estimation.fit_discriminant
    monkeypatch.setattr(
        affine_maps.MappingSums, "add", lambda self, x, y, held: seen.extend([x, y]) or add(self, x, y, held)
    )
    monkeypatch.setattr(estimation, "fit_discriminant", lambda groups: seen.extend(groups) or fit(groups))
    assert run().exit_code == 0
    store = Store.open("emb")
    judged = store.templates()[60:]
    everything = np.concatenate(seen)
    assert len(seen) == 3 * 2 * 2 + 4 and len(everything) == 16 * 60
    assert not (everything[:, None] == judged[None]).all(axis=2).any()


def test_people_who_are_not_named_are_the_others(here: Path, tiny: Path) -> None:
    def chosen(**more: object) -> tuple[set[str], set[str]]:
        job = EquivarianceJob(Path("emb"), ["rotate30"], **more)
        groups = choose_people(Store.open("emb"), job)
        return tuple(set(images.identities) for images in groups)

    train, test = (set(Path(name).read_text().split()) for name in ("train.txt", "test.txt"))
    assert chosen(people=Path("test.txt")) == chosen(train_people=Path("train.txt")) == (train, test)
    assert chosen(people=Path("test.txt"), exclude=("P0", "P12")) == (train - {"P0"}, test - {"P12"})
    with pytest.raises(BadInput, match="no image with a template is left to judge"):
        chosen()  # a tenth by a hash of the name, which of these happens to be nobody
    draw_people(Path("more"), Path("faces"), "tiny", tiny, people=31)
    job = EquivarianceJob(Path("more"), ["rotate30"])
    fitted, judged = choose_people(Store.open("more"), job)
    assert len(judged.rows) == 9 and len(fitted.rows) == 84
    assert not set(judged.identities) & set(fitted.identities)


def test_one_perturbation_has_no_composition_and_that_is_said(run) -> None:
    done = run("-o", "out", "--fail-if", "undone < -100", transforms=("scale0.5",))
    assert done.exit_code == 0, done.stderr
    page = Path("out/report.md").read_text()
    for said in ("no perturbation here is two of the others in a row", "no rotation here stands between two others"):
        assert said in page
    assert json.loads(Path("out/report.json").read_text())["metrics"]["compositions"] == []
    assert not Path("out/figures/undone-by-angle.svg").exists()


def test_errors_are_one_line(run, here: Path, tiny: Path) -> None:
    for name, manifest in (("turned", {"transform": "rotate30"}), ("mapped", {"mapping": {"undoes": "rotate30"}})):
        draw_people(here / name, here / "faces", "tiny", tiny, people=2, each=5)
        path = here / name / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | manifest))
    Path("both.txt").write_text("P3\nP14\n")
    Path("nobody.txt").write_text("Nobody\n")
    everybody = here / "all.txt"
    everybody.write_text("".join(f"P{k}\n" for k in range(20)))
    lost = ("+".join(["shift-left"] * 20),)
    cases = [
        (["--people", "both.txt"], (), 4, r"1 people are judged and fitted on \(P3\); give --people others"),
        (["--people", "nobody.txt"], (), 4, "no image with a template is left to judge"),
        (["--exclude", "Nobody"], (), 4, "--exclude Nobody: nobody in the store"),
        (
            [x for k in range(12, 20) for x in ("--exclude", f"P{k}")],
            (),
            4,
            "no image with a template is left to judge",
        ),
        ([], ("rotate30+rotate-30",), 2, r"rotate30\+rotate-30 does not change pictures"),
        ([], ("rotate181",), 2, "unknown transform 'rotate181'.*rotate30"),
        ([], lost, 4, "leaves no face in the frame of any training image; leave it out"),
        (["--fail-if", "undone < 0.1"], (), 2, r"no figure 'undone' here; there are .*undone\[rotate30\]"),
        (["--fail-if", "composed[rotate90,rotate90] < 0"], (), 2, r"no figure 'composed\[rotate90,rotate90\]' here"),
        (["--fail-if", "eer > 0"], (), 2, "no figure 'eer'"),
        (["--ridge", "much"], (), 2, "--ridge much: give a number, 0 or more, or auto"),
        (["--images", "faces/P1"], (), 4, "images are not there .* --images"),
    ]
    for more, transforms, code, said in cases:
        done = run(*more, **({"transforms": transforms} if transforms else {}))
        line = done.stderr.strip().splitlines()[-1]
        assert done.exit_code == code and line.startswith("error: "), (more, done.stderr)
        assert re.search(said, line) and "Traceback" not in done.stderr, (said, line)
    for name, said in (("turned", "templates of perturbed faces"), ("mapped", "templates that were mapped")):
        done = CliRunner().invoke(app, ["evaluate", "equivariance", name, "--weights", str(tiny)])
        assert done.exit_code == 4 and said in done.stderr


def test_people_whom_the_recognizer_was_trained_on_are_not_judged(run, here: Path) -> None:
    manifest = json.loads(Path("emb/manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P3", "P14"]
    Path("emb/manifest.json").write_text(json.dumps(manifest))
    done = run()
    assert done.exit_code == 4 and re.search(r"trained on 1 of the 8 people .* \(P14\)", done.stderr)


@pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")
def test_too_few_people_are_said(run) -> None:
    Path("train.txt").write_text("P1\nP2\n")
    Path("test.txt").write_text("P12\n")
    done = run("-o", "out", transforms=("scale0.5",))
    assert done.exit_code == 0, done.stderr
    assert "10 pairs do not determine a map of 16 dimensions" in done.stderr
    report = json.loads(Path("out/report.json").read_text())
    assert any("are fitted with a ridge" in line for line in report["warnings"])
    undone = report["metrics"]["transforms"]["scale0.5"]["undone"]
    assert undone["value"] is not None and undone["low"] is None
