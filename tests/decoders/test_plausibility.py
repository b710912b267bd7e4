"""Whether templates can be a recognizer's own, and who is told where they cannot."""

from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.decoders.own_templates import shipped_statistics
from facedecode.decoders.plausibility import DIRECTION, LENGTH, OWN, TemplateStatistics, check_templates
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.identity import RecognizerId
from facedecode.store import Processing, Store

DIM = 96
MADE_BY = RecognizerId("made-up", None, DIM, "cosine")


def people(kind: str, count: int, seed: int) -> np.ndarray:
    """Templates as recognizers make them: about a mean, about 0 in few directions, or of length 1; (count, DIM)."""
    world, rng = np.random.default_rng(7), np.random.default_rng(seed)
    turn = np.linalg.qr(world.standard_normal((DIM, DIM)))[0]
    spread = np.exp(-np.arange(DIM) / 12)
    values = rng.standard_normal((count, DIM)) * spread
    if kind == "mean":
        values = 0.4 * values + 4 * np.eye(1, DIM)
    values = values @ turn
    return values / np.linalg.norm(values, axis=1, keepdims=True) if kind == "unit" else values


KINDS = ("mean", "directions", "unit")


@pytest.fixture(params=KINDS)
def own(request: pytest.FixtureRequest) -> tuple[TemplateStatistics, np.ndarray]:
    """What a recognizer's templates look like, and more of them."""
    return TemplateStatistics.of(people(request.param, 3000, 0)), people(request.param, 4000, 1)


def test_hardly_any_real_template_is_told(own: tuple[TemplateStatistics, np.ndarray]) -> None:
    statistics, unseen = own
    rounded = unseen.astype(np.float16).astype(np.float64)
    for templates, means in ((unseen, False), (rounded, False), (unseen.reshape(1000, 4, DIM).mean(1), True)):
        assert (statistics.judge(templates, shorter=means) != OWN).mean() < 1e-3


def test_what_no_recognizer_makes_is_told(own: tuple[TemplateStatistics, np.ndarray]) -> None:
    statistics, unseen = own
    rng = np.random.default_rng(2)
    lengths = np.linalg.norm(unseen, axis=1, keepdims=True)
    random = rng.standard_normal(unseen.shape)
    directions = {
        "random": random / np.linalg.norm(random, axis=1, keepdims=True) * lengths,
        "shuffled": unseen[:, rng.permutation(DIM)],
        "another recognizer's": unseen @ np.linalg.qr(rng.standard_normal((DIM, DIM)))[0],
    }
    for templates in directions.values():
        assert (statistics.judge(templates) == DIRECTION).mean() > 0.99
    for factor in (100, 0.01):
        assert (statistics.judge(factor * unseen) != OWN).all()


def test_normalized_templates_are_told_also_within_the_range() -> None:
    values = people("mean", 2000, 0)
    for size in (4.0, 1.0):  # lengths of about 4, and of about 1
        scaled = values * size / np.linalg.norm(values, axis=1).mean()
        statistics = TemplateStatistics.of(scaled)
        units = values / np.linalg.norm(values, axis=1, keepdims=True)
        assert (statistics.judge(units) == LENGTH).all() and (statistics.judge(scaled) == OWN).all()
    assert (TemplateStatistics.of(people("unit", 2000, 0)).judge(people("unit", 50, 1)) == OWN).all()


def test_negated_templates_are_told_where_all_lean_to_one_side() -> None:
    assert (TemplateStatistics.of(people("mean", 2000, 0)).judge(-people("mean", 50, 1)) == DIRECTION).all()


def test_few_templates_are_described_loosely_and_fewer_not_at_all() -> None:
    few = TemplateStatistics.of(people("mean", 12, 0))
    assert few is not None and (few.judge(people("mean", 2000, 1)) == OWN).all()
    assert TemplateStatistics.of(people("mean", 7, 0)) is None
    assert TemplateStatistics.of(np.zeros((20, DIM))) is None
    assert TemplateStatistics.of(people("mean", 20, 0) * 1e-9) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"least": 0, "greatest": 0}, "'templates.least' is not a length"),
        ({"greatest": -1.0}, "'templates.greatest' is not a length"),
        ({"least": 1e-200, "greatest": 1e-200}, "'templates.least' is not a length"),
        ({"least": 3.0, "greatest": 2.0}, "'templates' is not statistics with the least length first"),
        ({"shortest_mean": 1e200}, "'templates.shortest_mean' is not a number of a sensible size"),
        ({"share": -1e200}, "'templates.share' is not a number of a sensible size"),
    ],
)
def test_lengths_that_no_templates_have_are_refused_where_they_are_read(changes: dict, said: str) -> None:
    held = {"count": 12, "least": 1.0, "greatest": 2.0, **changes}
    with pytest.raises(BadInput, match=f"decoder.json: field {said}"):
        TrainingRecord.from_json("decoder.json", {"templates": held})


def test_the_description_is_the_same_json_again_and_small() -> None:
    one, again = (TemplateStatistics.of(people("directions", 500, 0)) for _ in range(2))
    assert one == again
    written = json.dumps(one.as_json())
    assert TemplateStatistics.from_json("here", json.loads(written)) == one and len(written) < 10_000
    with pytest.raises(BadInput, match="field 'directions' is not base64"):
        TemplateStatistics.from_json("here", {**one.as_json(), "directions": "no!"})
    with pytest.raises(BadInput, match="describes no templates of 95 numbers"):
        one.judge(np.ones((2, 95)))


# The sentence


def sentence(templates: np.ndarray, made_by: RecognizerId = MADE_BY, **arguments: object) -> str:
    statistics = TemplateStatistics.of(people("mean", 2000, 0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        judged = check_templates([templates], made_by, statistics, **arguments)
    assert [str(warning.message) for warning in caught] == ([judged.sentence] if judged.sentence else [])
    return judged.sentence or ""


def test_the_sentence_counts_and_says_what_they_look_like() -> None:
    real = people("mean", 20, 1)
    assert sentence(real) == ""
    mixed = real.copy()
    mixed[:3] /= np.linalg.norm(mixed[:3], axis=1, keepdims=True)
    told = sentence(mixed, where="x.npy")
    assert told.startswith("x.npy: 3 of 20 templates are not as made-up makes them, and their faces are other people's")
    assert "of length 1.000, normalized, where made-up's have" in told and "(give raw ones)" in told
    assert "scaled by about" in sentence(real * 100)
    assert "the template is not as made-up makes them, and its face is" in sentence(real[:1] * 100)
    both = sentence(np.concatenate([real * 100, np.random.default_rng(0).standard_normal((5, DIM))]))
    assert "25 of 25" in both and ": 20 of length" in both and "5 in directions that made-up's do not have" in both
    assert "--model" in both


def test_zeros_are_refused_by_a_cosine_and_told_otherwise() -> None:
    templates = people("mean", 5, 1)
    templates[3] = 0
    with pytest.raises(BadInput, match=r"x\.npy: 1 of 5 templates is all zeros \(the first: row 3\)"):
        sentence(templates, where="x.npy")
    euclidean = replace(MADE_BY, score="negative-euclidean")
    assert "1 of 5 templates is not" in sentence(templates, euclidean) and "all zeros" in sentence(templates, euclidean)
    for number in (np.nan, np.inf):
        templates[3] = number
        with pytest.raises(BadInput, match="NaN or infinite"):
            sentence(templates, euclidean)


def test_what_a_store_says_counts_where_nothing_else_is_known() -> None:
    templates, normalized = people("unit", 5, 1), Processing(l2_normalized=True)
    with pytest.warns(FacedecodeWarning, match="5 of 5 templates are not .* normalized, as their store says"):
        check_templates([templates], MADE_BY, None, done=normalized)
    assert check_templates([templates], MADE_BY, None).unusual == 0
    # A decoder that normalizes what it is given does not mind.
    assert check_templates([templates], MADE_BY, None, done=normalized, any_length=True).unusual == 0
    assert sentence(people("mean", 9, 1) * 100, any_length=True) == ""


# Who looks


TOLD = pytest.mark.filterwarnings("always::facedecode.errors.FacedecodeWarning")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def ridge(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A decoder for the templates of `tiny`, trained by the command in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    done = call("train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", 64)
    assert done.exit_code == 0, done.output
    return tmp_path / "ridge"


def test_training_describes_the_templates(ridge: Path, tiny_store: Path) -> None:
    decoder, templates = load_decoder(ridge), Store.open(tiny_store).templates()
    assert decoder.provenance.training.templates == TemplateStatistics.of(templates)
    decoder.decode(templates)
    with pytest.warns(FacedecodeWarning, match=r"scaled by about \d"):
        decoder.decode(templates * 1000)
    decoder.decode(templates * 1000, checked=True)


@TOLD
def test_invert_tells_before_it_draws_and_marks_the_rows(ridge: Path, tiny: Path, tmp_path: Path) -> None:
    templates = Store.open("emb").templates()[:4]
    templates[1:3] *= 1000
    np.save("x.npy", templates)
    named = ("--decoder", ridge, "--model", "tiny", "--weights", tiny)
    done = call("invert", "x.npy", "-o", "out", *named, "--json")
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()
    (told,) = (i for i, line in enumerate(lines) if line.startswith("warning: x.npy: 2 of 4 templates are not as tiny"))
    assert told < next(i for i, line in enumerate(lines) if line.startswith("invert: 0/4"))
    assert json.loads(done.stdout)["metrics"]["unusual"] == 2
    rows = list(csv.DictReader(Path("out/scores.csv").read_text().splitlines()))
    assert [row["template"] for row in rows] == ["", "length", "length", ""]
    assert call("invert", "emb", "-o", "plain", *named[:2], *named[4:]).exit_code == 0
    assert "template" not in Path("plain/scores.csv").read_text().splitlines()[0]


def scaled_store(folder: Path, source: Path) -> Path:
    """A copy of a store whose templates were scaled."""
    from facedecode.store import StoreWriter

    store = Store.open(source)
    manifest = {"score": store.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder, {"scaled": 1000}, store.root, store.recognizer, manifest=manifest) as writer:
        writer.append(store.templates() * 1000, store.rows().to_pylist(), [], len(store))
        writer.finish()
    return folder


@TOLD
def test_every_command_that_draws_or_maps_tells(ridge: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_store(Path("scaled"), Path("emb"))
    identity = Path("map.safetensors")
    from facedecode.mapping.maps import fit_mapping

    templates = Store.open("emb").templates()
    made_by = Store.open("emb").recognizer
    fit_mapping([(templates, templates, np.zeros(30, bool))], "rotate30", made_by, ridge=0.1).save(identity)
    weights = ("--weights", tiny)
    calls = [
        ("walk", "scaled", "--from", 0, "--to", 5, "-o", "walk.png", "--decoder", "ridge", *weights),
        ("cluster", "scaled", "-o", "clusters", "-k", 5, "--decoder", "ridge"),
        ("invert", "scaled", "-o", "x.png", "--decoder", "ridge", "--mapping", identity, *weights),
        ("invert", "scaled/00000.npy", "-o", "y.png", "--decoder", "ridge", *weights),
    ]
    for arguments in calls:
        done = call(*arguments)
        assert done.exit_code == 0 and "scaled by about " in done.stderr, (arguments, done.output)
    # Without a decoder at hand, the one that is shipped tells.
    statistics = TemplateStatistics.of(templates)
    monkeypatch.setattr("facedecode.decoders.own_templates.shipped_statistics", lambda _: statistics)
    sums = ("--transform", "rotate30", "--embeddings", "scaled", "-o", "new.safetensors", *weights)
    again = ("train", "scaled", "-o", "ridge2", "--architecture", "ridge", "--image-size", 64)
    for arguments in (("transform", "scaled", "-o", "mapped", "--mapping", identity), ("fit-mapping", *sums), again):
        done = call(*arguments)
        assert done.exit_code == 0 and "scaled by about " in done.stderr, (arguments, done.output)


@TOLD
def test_an_evaluation_tells_once_and_its_report_too(tiny_store: Path, tiny: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.txt").write_text("".join(f"P{i}\n" for i in range(5)))
    (tmp_path / "others.txt").write_text("".join(f"P{i}\n" for i in range(5, 10)))
    train = ("train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", 64, "--people", "some.txt")
    assert call(*train).exit_code == 0
    scaled_store(Path("scaled"), Path("emb"))
    named = ("--decoder", "ridge", "--weights", f"tiny={tiny}", "--people", "others.txt")
    for kind in ("reconstruction", "security"):
        done = call("evaluate", kind, "scaled", *named, "-o", kind)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("15 of 15 templates are not as tiny makes them") == 1
        told = json.loads((tmp_path / kind / "report.json").read_text())["warnings"]
        assert any("scaled by about " in warning for warning in told)


def test_the_shipped_decoder_knows_its_templates(photo_store: Path) -> None:
    record = load_decoder("dlib-resnet").provenance.training
    recognizer = Store.open(photo_store).recognizer
    assert record.templates is not None and shipped_statistics(recognizer) == record.templates
    assert record.templates.count == record.images == 8994
    assert shipped_statistics(replace(recognizer, weights_sha256="0" * 64)) is None
    assert shipped_statistics(replace(recognizer, name="nobody")) is None
    templates = Store.open(photo_store).templates().astype(np.float64)
    assert (record.templates.judge(templates) == OWN).all()
    assert (record.templates.judge(templates / np.linalg.norm(templates, axis=1, keepdims=True)) == LENGTH).all()
    assert (record.templates.judge(np.roll(templates, 1, axis=1)) == DIRECTION).all()
    assert TrainingRecord().templates is None
