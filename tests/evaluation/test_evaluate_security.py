"""`evaluate security`: every figure against loops over re-made pictures, the pairs curve, and refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TinyNet, draw_people
from safetensors.torch import save_file
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import KINDS, Decoder, Provenance, load_decoder
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, MissingWeights, UsageError, WouldNotFit
from facedecode.evaluation import rendering as drawn_module
from facedecode.evaluation.cohort import JudgedImages
from facedecode.evaluation.jobs import SecurityJob
from facedecode.evaluation.rendering import embed_drawn
from facedecode.evaluation.security.measure import measure_security
from facedecode.evaluation.security.pairs_curve import CurveSettings, _fit, plan_curve
from facedecode.evaluation.security.report import (
    _schema,
    _warnings,
    decoder_needs,
    security_result,
    uses_model,
    worst_rate,
)
from facedecode.identity import RecognizerId
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.security import OTHER, REAL, SAME
from facedecode.store import Store, StoreWriter
from facedecode.templates.transformation import protection_operation, transform_store
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob, TrainSettings

FMRS = (0.1, 0.05)
QUICK = {"repetitions": 100, "fmrs": FMRS}


def gate_names(decoders, recognizers, fmrs) -> set[str]:
    return set(_schema(decoders, recognizers, list(fmrs)).gate_names())


def people_file(path: Path, numbers: range) -> Path:
    path.write_text(f"{len(numbers)}\n" + "".join(f"P{k}\t3\n" for k in numbers))
    return path


def rewritten(store: Path, folder: Path, keep, failed=(), **manifest) -> Path:
    """A copy of a store with some rows only, and with failures."""
    old = Store.open(store)
    rows, templates = old.rows().to_pylist(), old.templates()
    kept = [i for i, row in enumerate(rows) if keep(row["path"])]
    lost = [{"path": path, "stage": "detect", "reason": "no face found"} for path in failed]
    fields = {"score": old.score, "transform": None, "precision": "fp32", "l2_normalized": False} | manifest
    with StoreWriter(folder, {"made": "again"}, old.root, old.recognizer, manifest=fields) as writer:
        writer.append(templates[kept], [rows[i] for i in kept], lost, len(kept))
        writer.finish()
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What is made once for all tests here, by the first that needs it: look, do not touch."""
    return SimpleNamespace(root=tmp_path_factory.mktemp("lab"), job=None, figures=None)


@pytest.fixture
def lab(tiny: Path, tmp_path: Path, kept: SimpleNamespace) -> SimpleNamespace:
    """Two stores of the same 30 images of 10 people; decoders trained on five of them, the other five to judge."""
    judged, training = (people_file(tmp_path / f"{k}.txt", range(k, k + 5)) for k in (0, 5))
    if kept.job is None:
        weights = {"tiny": Path(shutil.copy(tiny, kept.root)), "tiny-cosine": kept.root / "other.safetensors"}
        with torch.random.fork_rng():
            torch.manual_seed(11)
            save_file(TinyNet().state_dict(), weights["tiny-cosine"])
        faces = kept.root / "faces"
        stores = [draw_people(kept.root / name, faces, name, file) for name, file in weights.items()]
        decoders = {kind: kept.root / "decoders" / kind for kind in ("mean-face", "ridge")}
        for (kind, folder), side in zip(decoders.items(), (128, 64), strict=True):
            settings = TrainSettings(image_size=side)
            train_store(DecoderJob(stores[0], folder, kind, people=training, settings=settings))
        kept.job = SecurityJob(stores, decoders, weights=weights, **QUICK)
    a, b = kept.job.stores
    job = dataclasses.replace(kept.job, people=judged)
    return SimpleNamespace(a=a, b=b, judged=judged, training=training, job=job, root=tmp_path)


@pytest.fixture
def figures(lab, kept):
    kept.figures = kept.figures or measure_security(lab.job)
    return kept.figures


def test_success_rates_equal_loops(lab, figures):
    identities, rows = figures.images.identities, range(15)
    mine = figures.judges["tiny"]
    for name, folder in lab.job.decoders.items():
        pictures = load_decoder(folder).decode(mine.templates)
        for target, judge in figures.judges.items():
            kind = judge.recognizer.spec.score
            seen = embed_pictures(judge.recognizer, pictures)

            def score(x, y, kind=kind):
                return score_pairs(x[None], y[None], kind)[0]

            strangers = sorted(
                (score(judge.templates[i], judge.templates[j]) for i in rows for j in rows[:i]
                 if identities[i] != identities[j]), reverse=True,
            )  # fmt: skip
            assert len(strangers) == 90
            for place, fmr in enumerate(FMRS):
                bound = strangers[round(fmr * 90 // 1)]  # this one must be refused
                one = [score(seen[i], judge.templates[i]) > bound for i in rows]
                two = {
                    person: [
                        score(seen[i], judge.templates[j]) > bound
                        for i in rows for j in rows if i != j and identities[i] == identities[j] == person
                    ]
                    for person in set(identities)
                }  # fmt: skip
                rates = figures.rates[name, target]
                assert rates.type_one["pairs"][place].value == pytest.approx(np.mean(one))
                assert rates.type_two["people"][place].value == pytest.approx(np.mean([*map(np.mean, two.values())]))
                assert rates.type_two["pairs"][place].n == 30
                assert rates.type_one["people"][place].false_accepts <= fmr * 90
            assert figures.scores[name, target] == pytest.approx(
                [score(seen[i], judge.templates[i]) for i in rows], abs=1e-5
            )


def test_ridge_beats_the_mean_face_and_not_the_real_images(figures):
    def rate(name, target, kind="type_two"):
        return getattr(figures.rates[name, target], kind)["people"][0].value

    for target in figures.judges:
        assert rate("ridge", target) > rate("mean-face", target)
        assert rate("ridge", target) <= rate("ridge", target, "mated") + 0.05
    ranks = figures.identification["tiny"].ranks
    assert ranks["mean-face"][OTHER]["people"][0].value <= 0.4 <= ranks["ridge"][OTHER]["people"][0].value


def test_equal_pictures_are_embedded_once(lab, figures, monkeypatch):
    sizes = []

    def counting(recognizer, pictures):
        sizes.append(len(pictures))
        return embed_pictures(recognizer, pictures)

    monkeypatch.setattr("facedecode.recognizers.recognizer.embed_pictures", counting)
    monkeypatch.setattr(drawn_module, "_BLOCK", 4)
    own = figures.judges["tiny"]
    missing = np.zeros(15, dtype=bool)
    missing[6] = True
    for name, expected in (("mean-face", 1), ("ridge", 14)):
        sizes.clear()
        decoder = load_decoder(lab.job.decoders[name])
        found = embed_drawn(decoder, own.templates, missing, {"j": own})["j"]
        assert sum(sizes) == expected
        whole = embed_pictures(own.recognizer, decoder.decode(own.templates))
        assert found[~missing] == pytest.approx(whole[~missing], abs=1e-5)
        assert not found[missing].any()


def test_identification_against_a_loop(lab, figures):
    judge, identities = figures.judges["tiny-cosine"], figures.images.identities
    drawn = load_decoder(lab.job.decoders["ridge"]).decode(figures.judges["tiny"].templates)
    pictures = embed_pictures(judge.recognizer, drawn)
    first = {name: identities.index(name) for name in sorted(set(identities))}

    def rank(template, name):
        scores = {who: score_pairs(template[None], judge.templates[[row]], "cosine")[0] for who, row in first.items()}
        return 1 + sum(score > scores[name] for score in scores.values())

    found = figures.identification["tiny-cosine"]
    others = [row for row in range(15) if row not in first.values()]
    for source, templates in (("ridge", pictures), (REAL, judge.templates)):
        ranks = [rank(templates[row], identities[row]) for row in others]
        assert found.ranks[source][OTHER]["pairs"][0].value == pytest.approx(np.mean(np.array(ranks) == 1))
        assert found.cmc[source][2].value == pytest.approx(np.mean(np.array(ranks) <= 3))
    same = [rank(pictures[row], name) for name, row in first.items()]
    assert found.ranks["ridge"][SAME]["people"][0].value == pytest.approx(np.mean(np.array(same) == 1))
    assert (found.gallery, found.cmc_ranks) == (5, [1, 2, 3, 5])
    assert SAME not in found.ranks[REAL]


def test_images_without_a_template_count_as_no_success(lab, figures):
    gone = "P0/P0_0001.png"
    store = rewritten(lab.b, lab.root / "gone", lambda path: path != gone, [gone])
    found = measure_security(dataclasses.replace(lab.job, stores=[lab.a, store]))
    place = [row["path"] for row in found.images.rows].index(gone)
    assert found.scores["ridge", "tiny-cosine"][place] == -np.inf
    assert found.scores["ridge", "tiny"][place] > -np.inf
    rates = found.rates["ridge", "tiny-cosine"]
    assert (rates.type_one["pairs"][0].n, rates.type_two["pairs"][0].n) == (15, 30)
    assert rates.type_two["pairs"][0].accepted <= 28  # the two comparisons with that image
    assert found.rates["ridge", "tiny"] == figures.rates["ridge", "tiny"]
    # The other way round there is no picture, and nothing to show to anybody.
    first = rewritten(lab.a, lab.root / "first", lambda path: path != gone, [gone])
    found = measure_security(dataclasses.replace(lab.job, stores=[first, lab.b]))
    assert all(found.scores["ridge", target][-1] == -np.inf for target in found.judges)
    assert "1 of 15 images" in str(security_result(found, lab.job).report().sections[1].tables)


def test_the_curve_ends_at_the_decoder_of_all_pairs(lab):
    curve = {"pairs_curve": (2, 4, "all"), "pairs_curve_size": 64, "pairs_curve_draws": 2}
    found = measure_security(dataclasses.replace(lab.job, train_people=lab.training, **curve))
    points = {(p.decoder, p.recognizer, p.pairs): p for p in found.curve}
    assert {key[2] for key in points} == {2, 4, 15}
    for target in found.judges:
        last, rates = points["ridge", target, 15], found.rates["ridge", target]
        assert last.type_one["people"] == rates.type_one["people"][-1]
        assert last.type_two["pairs"] == rates.type_two["pairs"][-1]
        assert last.draws == 1
        assert len(points["nearest", target, 2].by_draw["type_two"]) == 2
        early = points["ridge", target, 4]
        assert np.mean(early.by_draw["type_two"]) == pytest.approx(early.type_two["people"].value)
        assert early.type_one["pairs"].n == 15  # images, however many draws
        assert early.type_one["pairs"].accepted == round(15 * early.type_one["pairs"].value)
        assert early.type_two["people"].n == 5
    assert found.plan.seeds == [0, 1]


def test_few_pairs_are_penalized_by_as_much_as_all(figures):
    """Ridge of 6 of 30 pairs, fewer than the template's 16 numbers, against least squares with rows for the penalty."""
    generator = np.random.default_rng(0)
    templates = generator.normal(size=(6, 16)).astype("f4")
    portraits = generator.integers(0, 256, size=(6, 16, 16, 3), dtype=np.uint8)
    decoder = _fit("ridge", templates, portraits, 30, figures.judges["tiny"].recognizer, "cpu")
    centered = (templates - templates.mean(0)).astype(float)
    pixels = portraits.transpose(0, 3, 1, 2).reshape(6, -1) / 255
    amount = 0.01 * np.trace(centered.T @ centered) / 16 * (30 / 6)
    rows = np.concatenate([centered, np.sqrt(amount) * np.eye(16)])
    targets = np.concatenate([pixels - pixels.mean(0), np.zeros((16, 768))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0].T
    assert decoder.net.weight.numpy() == pytest.approx(expected, abs=1e-4)


def test_draws_are_nested_and_seeded(lab):
    store = Store.open(lab.a)
    settings = CurveSettings(lab.training, sizes=(3, 7), image_size=64, draws=2)
    plan = plan_curve(store, settings, JudgedImages.of_people(["P0"]), seed=5)
    for few, more in zip(plan.subsets[3], plan.subsets[7], strict=True):
        assert few.tolist() == more[:3].tolist()
        assert len(set(more)) == 7
    identities = store.identities()
    assert {identities[row] for row in plan.rows} <= {f"P{k}" for k in range(5, 10)}
    again = plan_curve(store, settings, JudgedImages.of_people(["P0"]), seed=6)
    assert plan.rows[plan.subsets[7][1]].tolist() == again.rows[again.subsets[7][0]].tolist()  # seeds 6 and 6
    assert plan.rows[plan.subsets[7][0]].tolist() != plan.rows[plan.subsets[7][1]].tolist()
    assert list(plan_curve(store, CurveSettings(lab.training), JudgedImages.of_people(["P0"])).subsets) == [10, 15]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sizes": (1,)}, UsageError, "from 2 to 15"),
        ({"sizes": (16,)}, UsageError, "from 2 to 15"),
        ({"exclude": ("Nobody",)}, BadInput, "Nobody"),
        ({"draws": 0}, UsageError, "at least one"),
        ({"exclude": ("P5", "P6", "P7", "P8"), "store": ["P9/P9_0001.png"]}, UsageError, "1 image in the store"),
    ],
)
def test_curves_that_cannot_be(lab, change, error, message):
    kept = change.pop("store", None)
    names = {"P0/P0_0001.png", *(kept or [])} | {f"P{k}/P{k}_0001.png" for k in range(5, 9)}
    folder = rewritten(lab.a, lab.root / "few", lambda path: path in names) if kept else lab.a
    with pytest.raises(error, match=message):
        plan_curve(Store.open(folder), CurveSettings(lab.training, **change), JudgedImages.of_people(["P0"]))


def test_ridge_of_equal_templates_is_refused(figures):
    recognizer = figures.judges["tiny"].recognizer
    templates = np.full((5, 16), 0.1, "f4")
    portraits = np.zeros((5, 16, 16, 3), np.uint8)
    with pytest.raises(BadInput, match="5 training templates are all equal"):
        _fit("ridge", templates, portraits, 5, recognizer, "cpu")
    templates[0, 0] = np.nextafter(templates[0, 0], np.float32(1))
    _fit("ridge", templates, portraits, 5, recognizer, "cpu")


def test_curves_of_the_people_judged_are_refused(lab):
    with pytest.raises(BadInput, match=r"trained on 1 of the 1 people .* \(P7\)"):
        plan_curve(Store.open(lab.a), CurveSettings(lab.training), JudgedImages.of_people(["P7"]))
    store = Store.open(lab.a)
    rows = [i for i, name in enumerate(store.identities()) if name == "P7"]
    renamed = [row | {"identity": "x"} for row in JudgedImages.of_store(store, rows).rows]
    with pytest.raises(BadInput, match=r"pairs curve .* trained on 3 of the 3 pictures"):
        plan_curve(store, CurveSettings(lab.training), JudgedImages(renamed))


def test_curves_too_large_for_memory_are_refused(lab, monkeypatch):
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 1_000_000)
    with pytest.raises(WouldNotFit, match="15 portraits of 128 px"):
        plan_curve(Store.open(lab.a), CurveSettings(lab.training), JudgedImages.of_people(["P0"]))


def test_without_a_second_image_there_is_type_one_only(lab):
    single = rewritten(lab.a, lab.root / "single", lambda path: path.endswith("_0001.png"))
    job = dataclasses.replace(lab.job, stores=[single], weights={"tiny": lab.job.weights["tiny"]}, fmrs=(0.2,))
    found = measure_security(job)
    assert found.rates["ridge", "tiny"].type_one["people"][0].n == 5
    report = security_result(found, job).report()
    assert any("Nobody has two images" in warning for warning in report.warnings)
    assert {"type2@fmr=0.2", "rank1"} <= gate_names(list(job.decoders), ["tiny"], job.fmrs)
    assert report.gates["type2@fmr=0.2"].n == report.gates["rank1"].n == 0
    assert "rank1_same[ridge,tiny]" in report.gates
    assert set(report.metrics["attacks"]["ridge"]["tiny"]) == {"type_one"}


def test_default_rates_are_those_that_the_pairs_resolve(lab):
    found = measure_security(dataclasses.replace(lab.job, fmrs=None))
    assert (found.fmrs, found.unresolved, found.headline_fmr) == ([0.1], [0.01, 0.001, 0.0001], 0.1)
    assert any("too few for FMR 1 %, 0.1 %" in said for said in security_result(found, lab.job).report().warnings)
    also = measure_security(dataclasses.replace(lab.job, fmrs=None, required=[0.05]))
    assert also.fmrs == [0.1, 0.05]


def test_gates_are_the_worst_decoder_against_its_own_recognizer(lab, figures):
    report = security_result(figures, lab.job).report()
    for fmr in FMRS:
        own = [report.gates[f"type2[{name},tiny]@fmr={fmr}"].value for name in lab.job.decoders]
        assert report.gates[f"type2@fmr={fmr}"].value == max(own)
        assert report.gates[f"type1@fmr={fmr}"] in [figures.rates[n, "tiny"].type_one["people"][FMRS.index(fmr)]
                                                    for n in lab.job.decoders]  # fmt: skip
    assert report.gates["rank1"] == figures.identification["tiny"].ranks["ridge"][OTHER]["people"][0]
    assert "highest of 2 decoders" in report.headlines[0].note
    assert set(report.gates) == gate_names(list(lab.job.decoders), list(figures.judges), FMRS)


def test_tar_needs_no_name_where_there_is_one_recognizer():
    assert {"tar@far=0.1", "tar@fmr=0.1", "tar[a]@far=0.1"} <= gate_names(["d"], ["a"], [0.1])
    assert "tar@far=0.1" not in gate_names(["d"], ["a", "b"], [0.1])


def test_few_successes_or_failures_are_in_a_table(lab, figures):
    report = security_result(figures, lab.job).report()
    table = next(t for section in report.sections for t in section.tables if t.name == "few-errors")
    assert not table.shown
    assert (
        f"{len(table.rows)} figures rest on fewer than 30 errors of a kind; few-errors.csv lists them."
        in report.warnings
    )
    rate = figures.rates["ridge", "tiny"].type_one["pairs"][0]
    rows = dict(table.rows)
    assert f"{rate.accepted} success" in rows["type I, by image (ridge, tiny, FMR 10 %)"]
    assert f"{15 - rate.accepted} failure" in rows["type I, by image (ridge, tiny, FMR 10 %)"]
    assert "false match" in rows["TAR of real images, by pair (tiny, FMR 10 %)"]
    assert all(len(said) < 160 for said in report.warnings)


@pytest.mark.parametrize(
    ("kind", "training", "uses"),
    [
        ("ridge", {"settings": {}}, False),
        ("dfd", {"settings": {"weights": {"perceptual": 0.6}, "phi": ["other"]}}, False),
        ("dfd", {"settings": {"weights": {"perceptual": 0.6}, "phi": ["other", "ξ"]}}, True),
        ("dfd", {"settings": {"weights": {"perceptual": 0.6}, "phi": []}}, True),
        ("dfd", {"settings": {"weights": {"local_perceptual": 0.6}}}, True),
        ("dfd", {"settings": {"weights": {"identity": 0.6}, "phi": ["other"]}, "start": "f"}, None),
        ("dfd", {"settings": {"weights": {"identity": 0.6}, "phi": ["other"]}, "looked_through": ["ξ"]}, True),
        ("dfd", {"settings": {"weights": {"identity": 0.7, "perceptual": 0.0}}}, True),
        ("dfd", {"settings": {"weights": {"identity": 0.0, "perceptual": 0.6}}, "start": "f"}, True),
        ("dfd", {"settings": {"weights": {"identity": 0.0, "pixel": 1.0}}, "start": None}, False),
        ("dfd", {"settings": {"weights": {"identity": 0.0, "pixel": 1.0}}, "start": "f"}, None),
        ("dfd", {}, None),
    ],
)
def test_what_a_decoder_took_is_unknown_unless_recorded(kind, training, uses):
    decoder = of_training(kind, "ξ", training)
    assert uses_model(decoder) is uses
    assert ("unknown" in decoder_needs(decoder)) == (uses is None)
    assert ("white-box" in decoder_needs(decoder)) == (uses is True)


def of_training(kind: str, recognizer: str, training: dict) -> Decoder:
    return Decoder(
        kind,
        KINDS[kind].network(16, 64),
        Provenance(RecognizerId(recognizer, None), training=TrainingRecord.from_json("it", training)),
    )


def test_mirrored_images_are_queries_to_the_recognizer():
    settings = {"weights": {"pixel": 1}, "mirror": True}
    assert "black-box" in decoder_needs(of_training("dfd", "ξ", {"settings": settings}))


def test_a_judge_that_trained_the_decoder_is_no_test_of_transfer(lab, figures):
    trained = of_training("dfd", "tiny", {"looked_through": ["tiny", "tiny-cosine"]})
    warned = list(_warnings(dataclasses.replace(figures, decoders={**figures.decoders, "ridge": trained}), lab.job))
    assert [said for said in warned if "no test of transfer" in said] == [
        "ridge was trained to be near in the maps of tiny-cosine: its success there is no test of transfer."
    ]


def test_two_names_of_the_same_weights_are_no_transfer(lab, figures):
    """As `dlib-resnet-pooled` is the layer before `dlib-resnet`'s last."""
    other = Store.open(lab.b)
    other.recognizer = replace(other.recognizer, weights_sha256=figures.stores["tiny"].recognizer.weights_sha256)
    one = dataclasses.replace(figures, stores={**figures.stores, "tiny-cosine": other})
    assert (
        worst_rate(figures, "type_one", 0.1, transfer=True) and worst_rate(one, "type_one", 0.1, transfer=True) is None
    )
    assert worst_rate(one, "type_one", 0.1) == worst_rate(figures, "type_one", 0.1)
    said = "tiny-cosine and tiny are one network: the success of ridge there is no test of transfer."
    assert said in _warnings(one, lab.job) and said not in _warnings(figures, lab.job)
    trained = of_training(
        "dfd", "tiny", {"looked_through": ["tiny"], "phi": [{"name": "tiny", "weights_sha256": "f" * 64}]}
    )
    assert trained.looked_through("pooled", "f" * 64) and not trained.looked_through("pooled", "e" * 64)


# ---------------------------------------------------------------- refusals


def test_stores_of_other_images_are_refused(lab):
    fewer = rewritten(lab.b, lab.root / "fewer", lambda path: path != "P1/P1_0002.png")
    with pytest.raises(BadInput, match=r"1 of the images are not in this store \(P1/P1_0002.png\)"):
        measure_security(dataclasses.replace(lab.job, stores=[lab.a, fewer]))
    less = rewritten(lab.a, lab.root / "less", lambda path: path != "P1/P1_0002.png")
    with pytest.raises(BadInput, match=r"1 of its images are not in .*less \(P1/P1_0002.png\)"):
        measure_security(dataclasses.replace(lab.job, stores=[less, lab.b]))


def protected(lab) -> Path:
    store = Store.open(lab.a)
    key = bytes(range(32))
    transform_store(store, lab.root / "protected", protection_operation(store, "rotation", key))
    return lab.root / "protected"


def test_jobs_that_contradict_themselves_are_refused(lab):
    def refused(error, message, **changes):
        with pytest.raises(error, match=message) as caught:
            measure_security(dataclasses.replace(lab.job, **changes))
        assert "\n" not in str(caught.value)

    weights = lab.job.weights
    shutil.copytree(lab.a, lab.root / "twin")
    refused(UsageError, "both stores of tiny", stores=[lab.a, lab.root / "twin"])
    refused(BadInput, "made for tiny, and the stores are of tiny-cosine", stores=[lab.b], weights={
        "tiny-cosine": weights["tiny-cosine"]})  # fmt: skip
    refused(MissingWeights, "tiny-cosine", weights={"tiny": weights["tiny"]})
    refused(UsageError, "no store is of that recognizer", weights=weights | {"edgeface-xxs": weights["tiny"]})
    refused(BadInput, "cannot resolve", fmrs=(0.1, 0.001))
    refused(BadInput, "cannot resolve", fmrs=None, required=(0.001,))
    refused(BadInput, "decoder mean-face: trained on 5 of the 5", people=lab.training)
    refused(UsageError, "at least one", decoders={})
    refused(UsageError, "ceiling", decoders={REAL: lab.job.decoders["ridge"]})
    raw = rewritten(lab.a, lab.root / "unit", lambda path: True, l2_normalized=True)
    refused(BadInput, "normalized", stores=[raw, lab.b])
    turned = rewritten(lab.a, lab.root / "turned", lambda path: True, transform="rotate30")
    refused(BadInput, "different transforms", stores=[turned, lab.b])
    refused(BadInput, "turned: templates of perturbed faces", stores=[turned], weights={"tiny": weights["tiny"]})
    refused(BadInput, "its templates are protected", stores=[protected(lab)])


def test_a_decoder_of_other_weights_is_refused(lab):
    other = draw_people(lab.root / "c", lab.root / "faces", "tiny", lab.job.weights["tiny-cosine"])
    job = dataclasses.replace(lab.job, stores=[other], weights={"tiny": lab.job.weights["tiny-cosine"]})
    with pytest.raises(BadInput, match="decoder mean-face is for tiny"):
        measure_security(job)


# ---------------------------------------------------------------- the command


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in ("evaluate", "security", *arguments)])


def options(lab, *more: object) -> list[object]:
    weights = [part for name, file in lab.job.weights.items() for part in ("--weights", f"{name}={file}")]
    decoders = [part for name, file in lab.job.decoders.items() for part in ("--decoder", f"{name}={file}")]
    rates = ["--fmr", "0.1", "--repetitions", "100", "--device", "cpu"]
    return [lab.a, lab.b, *weights, *decoders, "--people", lab.judged, *rates, *more]


def test_the_command_writes_a_report(lab):
    output = lab.root / "report"
    curve = ["--train-people", lab.training, "--exclude", "P9", "--pairs-curve", "3,all", "--pairs-curve-size", "64"]
    done = call(*options(lab, *curve, "--pairs-curve-draws", 2, "--json", "-q", "-o", output))
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    rate = metrics["attacks"]["ridge"]["tiny-cosine"]["type_two"]["people"]["0.1"]
    assert rate["low"] <= rate["value"] <= rate["high"]
    assert set(metrics["pairs_curve"]["nearest"]["tiny"]) == {"3", "12"}
    written = json.loads((output / "report.json").read_text())
    assert written["metrics"] == metrics
    assert written["provenance"]["settings"]["pairs_curve"]["training_people"] == 4
    assert "Threat model" in " ".join(written["protocol"])
    with (output / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15 * 2 * 2
    hits = [int(r["success at FMR 0.1"]) for r in rows if (r["decoder"], r["recognizer"]) == ("ridge", "tiny")]
    assert np.mean(hits) == metrics["attacks"]["ridge"]["tiny"]["type_one"]["pairs"]["0.1"]["value"]
    assert (output / "figures" / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert call(*options(lab, "-o", output)).exit_code == 4  # not without --overwrite


def test_the_command_puts_gates(lab):
    missed = call(*options(lab, "--fail-if", "type2@fmr=0.05 >= 0", "--fail-if", "rank1 > 1", "--json", "-q"))
    assert missed.exit_code == 5
    answer = json.loads(missed.stdout)
    assert [gate["passed"] for gate in answer["metrics"]["gates"]] == [False, True]
    assert set(answer["metrics"]["attacks"]["ridge"]["tiny"]["type_one"]["people"]) == {"0.1", "0.05"}


def test_a_gate_without_a_number_is_missed_after_the_report(lab):
    single = rewritten(lab.a, lab.root / "single", lambda path: path.endswith("_0001.png"))
    output = lab.root / "report"
    arguments = [single, "--weights", f"tiny={lab.job.weights['tiny']}", "--decoder", lab.job.decoders["ridge"]]
    arguments += ["--people", lab.judged, "--fmr", 0.2, "--repetitions", 100, "--device", "cpu"]
    done = call(*arguments, "--fail-if", "rank1 > 1", "--fail-if", "tar@far=0.2 < 0", "-o", output)
    assert done.exit_code == 5, done.output
    assert "2 of 2 gates missed: rank1 > 1 (no number)" in done.stderr
    written = json.loads((output / "report.json").read_text())
    assert [(gate["value"], gate["passed"]) for gate in written["gates"]] == [(None, False)] * 2


def test_a_mistyped_gate_is_refused_before_the_work(lab, monkeypatch):
    monkeypatch.setattr("facedecode.evaluation.security.report.evaluate_security", lambda *_: pytest.fail("it worked"))
    for gate in ("type2[ridge,nobody]@fmr=0.1 > 1", "rank1_same > 1", "tar@far=0.1 < 1"):
        done = call(*options(lab, "--fail-if", gate))
        assert done.exit_code == 2, done.output
        assert "here; there are rank1, " in done.stderr


def test_the_command_goes_on_without_the_originals(lab, tmp_path):
    done = call(*options(lab, "--images", tmp_path))
    assert done.exit_code == 0, done.output
    assert "no originals beside them" in done.stderr


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--pairs-curve", "10"], 2, "--pairs-curve needs --train-people"),
        (["--exclude", "P9"], 2, "--exclude needs --train-people"),
        (["--pairs-curve-draws", "3"], 2, "--pairs-curve-draws needs --train-people"),
        (["--pairs-curve-size", "128"], 2, "--pairs-curve-size needs --train-people"),
        (["--decoder", "chance=dlib-resnet"], 2, "--decoder: nothing can be called 'chance'"),
        (["--train-people", "TRAINING", "--pairs-curve", "10,x"], 2, "'x' is neither"),
        (["--train-people", "JUDGED"], 4, "people it is to be judged on"),
        (["--fmr", "2"], 2, "not between 0 and 1"),
        (["--fail-if", "psnr < 3"], 2, "no figure 'psnr'"),
        (["--decoder", "nowhere"], 3, "no decoder 'nowhere'"),
        (["--weights", "tiny"], 3, "tiny: no such weights file"),
    ],
)
def test_the_command_refuses_in_one_line(lab, more, code, message):
    places = {"TRAINING": lab.training, "JUDGED": lab.judged}
    done = call(*options(lab, *[places.get(word, word) for word in more]))
    assert done.exit_code == code, done.output
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
