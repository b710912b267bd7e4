"""`examples/defence.py`: its figures against loops, whom it refuses to judge, and what is spent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
import torch
from conftest import draw_people
from rates import tar_at_fmr

from facedecode.classifiers.fit import fit_store_classifier
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput
from facedecode.pictures.images import load_image
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store.images import row_face
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob

PEOPLE, EPSILON = 24, 0.05


@pytest.fixture
def here(tiny: Path, tmp_path: Path) -> Path:
    """`emb` of 24 people; a classifier and a ridge decoder of the last twelve, and a list of the first twelve."""
    draw_people(tmp_path / "emb", tmp_path / "faces", "tiny", tiny, people=PEOPLE)
    (tmp_path / "test.txt").write_text("".join(f"P{k}\n" for k in range(12)))
    (tmp_path / "train.txt").write_text("".join(f"P{k}\n" for k in range(12, PEOPLE)))
    train = tmp_path / "train.txt"
    fit_store_classifier(Store.open(tmp_path / "emb"), tmp_path / "classifier", people=train, min_images=2)
    train_store(DecoderJob(tmp_path / "emb", tmp_path / "ridge", architecture="ridge", people=train, validation=0.0))
    return tmp_path


@pytest.fixture
def defence(script: Callable[[str], ModuleType], here: Path, tiny: Path) -> Callable[..., dict]:
    """Runs `defence.py`: its report as JSON."""

    def run(*more: object) -> dict:
        given = [here / "emb", "--classifier", here / "classifier", "--people", here / "test.txt", "--weights", tiny]
        given += ["--decoder", here / "ridge", "--epsilon", EPSILON, "--steps", 6, "--alpha", 0.01]
        script("defence").main(
            [str(x) for x in (*given, "--fmr", 0.01, "--repetitions", 100, "-o", here / "out", *more)]
        )
        return json.loads((here / "out" / "report.json").read_text())

    return run


def test_the_figures_are_those_of_loops(
    defence: Callable[..., dict], script: Callable[[str], ModuleType], here: Path, tiny: Path, monkeypatch
) -> None:
    module, kept = script("defence"), {}
    measure = module.measure

    def keep(probes, targets, attacked, *rest):
        kept.update(probes=probes, targets=targets, attacked=attacked)
        return measure(probes, targets, attacked, *rest)

    monkeypatch.setattr(module, "measure", keep)
    report = defence()
    jsonschema.validate(report, json.loads((here / "out" / "report.schema.json").read_text()))
    store, recognizer, decoder = Store.open(here / "emb"), load_recognizer("tiny", tiny), load_decoder(here / "ridge")
    rows = [row for row in store.rows().to_pylist() if int(row["identity"][1:]) < 12]
    first, second = ([row for row in rows if row["path"].endswith(f"_{k:04d}.png")] for k in (1, 2))
    by_name = {row["identity"]: row for row in second}
    where = {path: i for i, path in enumerate(store.paths())}
    gallery = {row["identity"]: store.templates()[where[row["path"]]] for row in first}
    assert set(kept["probes"].people) == set(gallery)
    found, effects = report["metrics"]["tar_at_far"], report["metrics"]["effects"]
    crops = dict(kept["attacked"])
    people = kept["probes"].people
    own = [recognizer.crop(load_image(store.root / by_name[n]["path"]), row_face(by_name[n])) for n in people]
    crops["original"] = np.stack(own)
    np.testing.assert_array_equal(kept["probes"].crops, crops["original"])
    templates = {name: recognizer.embed_crops(pictures) for name, pictures in crops.items()}
    for name, pictures in crops.items():
        change = np.abs(pictures.astype(int) - crops["original"]).max()
        assert change <= EPSILON * 255 + 0.5 and (change > 0) == (name != "original")
        decoded = embed_pictures(recognizer, decoder.decode(templates[name]))
        for what, made in ((name, templates[name]), (f"{name}, decoded", decoded)):
            scores = np.array(
                [
                    [score_pairs(gallery[a][None], made[None, j], "negative-euclidean")[0] for j in range(12)]
                    for a in people
                ]
            )
            same = np.eye(12, dtype=bool)
            point = tar_at_fmr(scores[same], scores[~same], 0.01)
            assert found[what]["0.01"]["value"] == pytest.approx(point.tar)
            assert found[what]["0.01"]["threshold"] == pytest.approx(point.threshold, abs=1e-4)
        moved = np.linalg.norm(templates[name] - templates["original"], axis=1).mean()
        assert effects[name]["moved"]["value"] == pytest.approx(moved, abs=1e-5)
        to_target = score_pairs(templates[name], kept["targets"].templates, "negative-euclidean").mean()
        assert effects[name]["to target"]["value"] == pytest.approx(to_target, abs=1e-5)
    assert effects["class"]["softmax"]["value"] > effects["original"]["softmax"]["value"]
    assert effects["embedding"]["to target"]["value"] > effects["original"]["to target"]["value"]
    through = effects["class, through the decoder"]
    assert through["softmax decoded"]["value"] > effects["original"]["softmax decoded"]["value"]
    difference = effects["embedding"]["moved"]["value"] - effects["class"]["moved"]["value"]
    assert report["metrics"]["moved_embedding_less_class"]["value"] == pytest.approx(difference, abs=1e-6)
    order = report["metrics"]["ordering"]["class"]
    assert order[-1]["difference"]["value"] == pytest.approx(
        found["class, decoded"][f"{order[-1]['far']:g}"]["value"] - found["class"][f"{order[-1]['far']:g}"]["value"]
    )


def test_targets_are_templates_that_the_classifier_has_not_seen(
    script: Callable[[str], ModuleType], here: Path
) -> None:
    from facedecode.classifiers.classifier import load_classifier

    store, classifier = Store.open(here / "emb"), load_classifier(here / "classifier")
    targets = script("defence").choose_targets(store, classifier, 30, 0)
    held_out = set(classifier.report["provenance"]["held_out_images"])
    named = dict(zip(store.paths(), zip(store.templates(), store.identities(), strict=True), strict=True))
    for k, template in zip(targets.classes, targets.templates, strict=True):
        assert any(
            np.array_equal(named[path][0], template) and named[path][1] == classifier.names[k] for path in held_out
        )


def test_people_of_the_classifier_or_the_decoder_are_not_judged(defence: Callable[..., dict], here: Path) -> None:
    (here / "test.txt").write_text("P1\nP2\nP20\n")
    with pytest.raises(BadInput, match=r"trained on 1 of the 3 people .* \(P20\)"):
        defence()
    everybody = "".join(f"P{k}\n" for k in range(PEOPLE))
    (here / "some.txt").write_text("P22\nP23\n")
    train_store(
        DecoderJob(here / "emb", here / "other", architecture="ridge", people=here / "some.txt", validation=0.0)
    )
    (here / "test.txt").write_text(everybody.replace("P22\nP23\n", ""))
    with pytest.raises(BadInput, match=r"classifier: fitted on 10 of the 22 people .*P12, P13"):
        defence("--decoder", here / "other")
    (here / "test.txt").write_text("P1\n")
    with pytest.raises(BadInput, match="fewer than two people have two images"):
        defence()
    manifest = json.loads((here / "emb/manifest.json").read_text())
    manifest["recognizer"]["training_people"] = ["P1"]
    (here / "emb/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"recognizer tiny: trained on 1 of the 1 people .* \(P1\)"):
        defence()


def test_a_trial_says_so(defence: Callable[..., dict]) -> None:
    report = defence("--limit", 11)
    assert "Only 11 people were taken: a trial run, not a result." in report["warnings"]
    assert torch.is_grad_enabled()
