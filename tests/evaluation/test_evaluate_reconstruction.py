"""`evaluate reconstruction` as a user meets it: figures against other programs' own, and one line an error."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import Provenance, load_decoder, save_decoder
from facedecode.decoders.closed_form import MeanFace, Nearest, Ridge
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.decoders.training_record import TrainingRecord
from facedecode.evaluation.fidelity import fidelity_axes, fidelity_specs
from facedecode.evaluation.jobs import ReconstructionJob
from facedecode.evaluation.reconstruction import evaluate_reconstruction
from facedecode.evaluation.result import Schema
from facedecode.known_pictures import KnownPictures
from facedecode.perceptual.phi import load_phi, phi_distance
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.report.folder import write_report
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store, StoreWriter
from facedecode.store.images import read_portraits

JUDGED = [f"P{k}" for k in range(5)]
TRAINED = [f"P{k}" for k in range(5, 10)]


def call(*arguments):
    return CliRunner().invoke(app, ["evaluate", "reconstruction", *(str(a) for a in arguments)])


def rewritten(store, folder, images, change=lambda row: row, recognizer=None):
    """A store of the same images by another recognizer, or with other rows (its files copied to `images`)."""
    manifest = {"score": store.recognizer.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    templates, rows, described = store.templates(), store.rows().to_pylist(), store.recognizer
    if recognizer:
        templates = embed_pictures(recognizer, read_portraits(rows, store.root, 96))
        described, manifest["score"] = recognizer.describe(), recognizer.spec.score
    changed = [change(dict(row)) for row in rows]
    for old, new in zip(rows, changed, strict=True):
        (images / new["path"]).parent.mkdir(parents=True, exist_ok=True)
        if images != store.root:
            shutil.copy(store.root / old["path"], images / new["path"])
    with StoreWriter(folder, {"made": "by hand"}, images, described, manifest=manifest) as writer:
        writer.append(templates, changed, [], len(changed))
        writer.finish()
    return Store.open(folder)


def fit(folder, store, net, trained=TRAINED, kind="ridge", **described):
    """A decoder of the people in `trained`, saved."""
    rows = [(i, row) for i, row in enumerate(store.rows().to_pylist()) if row["identity"] in trained]
    portraits = read_portraits([row for _, row in rows], store.root, net.image_size)
    templates = torch.from_numpy(store.templates()[[i for i, _ in rows]])
    net.fit(templates, torch.from_numpy(portraits).permute(0, 3, 1, 2))
    training = {"people": list(trained), "images": len(rows)}
    save_decoder(
        folder,
        kind,
        net,
        Provenance(replace(store.recognizer, **described), training=TrainingRecord.from_json("it", training)),
        pictures=KnownPictures(),
    )
    return folder


@pytest.fixture
def scene(tiny_store, tiny, tmp_path):
    """Arguments for two decoders of `tiny`, judged on five people, and where everything is."""
    store = Store.open(tiny_store)
    fit(tmp_path / "mean", store, MeanFace(16, 64), kind="mean-face")
    fit(tmp_path / "ridge", store, Ridge(16, 64))
    people = tmp_path / "people.txt"
    people.write_text("5\n" + "".join(f"{name}\t3\n" for name in JUDGED))
    arguments = [tiny_store, "--people", people, "--weights", f"tiny={tiny}", "--repetitions", 100]
    decoders = ["--decoder", f"mean={tmp_path / 'mean'}", "--decoder", tmp_path / "ridge"]
    return arguments, decoders, tmp_path


def gate_names(decoders, recognizers, lpips=False, networks=()):
    return set(Schema("", "", fidelity_axes(decoders, recognizers, networks), fidelity_specs(lpips)).gate_names())


def numbers(folder):
    """report.json, which has to be JSON in the strict sense and what its schema says."""

    def refuse(constant):
        raise AssertionError(f"{constant} in JSON")

    report = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    jsonschema.validate(report, json.loads((folder / "report.schema.json").read_text()))
    return report


def table(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_equal_other_programs_own(scene, tiny):
    arguments, decoders, folder = scene
    cosine = load_recognizer("tiny-cosine", tiny)
    rewritten(Store.open(folder / "emb"), folder / "emb2", folder / "faces", recognizer=cosine)
    more = ["--against", folder / "emb2", "--weights", f"tiny-cosine={tiny}", "-o", folder / "out"]
    result = call(*arguments, *decoders, *more)
    assert result.exit_code == 0, result.stderr
    metrics = numbers(folder / "out")["metrics"]

    store, euclidean = Store.open(folder / "emb"), load_recognizer("tiny", tiny)
    rows = store.rows().to_pylist()[:15]
    originals = read_portraits(rows, store.root, 64)
    drawn = load_decoder(folder / "ridge").decode(store.templates()[:15])
    found = metrics["decoders"]["ridge"]
    pairs = list(zip(originals, drawn, strict=True))
    assert found["psnr"]["value"] == pytest.approx(np.mean([peak_signal_noise_ratio(x, y) for x, y in pairs]))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    wanted = [structural_similarity(x, y, data_range=255, **options) for x, y in pairs]
    assert found["ssim"]["value"] == pytest.approx(np.mean(wanted))
    other = Store.open(folder / "emb2")
    for judge, own in ((euclidean, store), (cosine, other)):
        scores = score_pairs(embed_pictures(judge, drawn), own.templates()[:15], judge.spec.score)
        assert found["scores"][judge.spec.name]["value"] == pytest.approx(scores.mean(), abs=1e-5)
    assert found["psnr"]["low"] <= found["psnr"]["value"] <= found["psnr"]["high"]
    gain = metrics["decoders"]["mean"]["psnr_over_baseline"]["value"]  # the ridge is the baseline by itself
    assert gain == pytest.approx(metrics["decoders"]["mean"]["psnr"]["value"] - found["psnr"]["value"])
    assert (metrics["images"], metrics["people"]) == (15, 5)
    assert metrics["originals"]["psnr"] == {"value": None, "low": None, "high": None, "n": 0, "infinite": 15}


def test_every_picture_is_in_the_csv(scene):
    arguments, decoders, folder = scene
    assert call(*arguments, *decoders, "-o", folder / "out").exit_code == 0
    metrics, rows = numbers(folder / "out")["metrics"], table(folder / "out", "images")
    assert [row["decoder"] for row in rows] == ["originals"] * 15 + ["mean"] * 15 + ["ridge"] * 15
    assert {row["PSNR"] for row in rows[:15]} == {""}
    assert (rows[15]["path"], rows[15]["identity"]) == ("P0/P0_0001.png", "P0")
    columns = {"PSNR": "psnr", "SSIM": "ssim", "gradient energy": "gradient_energy"}
    for name, own in metrics["decoders"].items():
        part = [row for row in rows if row["decoder"] == name]
        for column, key in columns.items():
            assert np.mean([float(row[column]) for row in part]) == pytest.approx(own[key]["value"])
        mean = np.mean([float(row["score by tiny"]) for row in part])
        assert mean == pytest.approx(own["scores"]["tiny"]["value"], abs=1e-6)


def test_the_same_work_gives_the_same_bytes(scene):
    arguments, decoders, folder = scene
    for name in ("one", "two"):
        assert call(*arguments, *decoders, "-o", folder / name).exit_code == 0
    one, two = ({p.name: p.read_bytes() for p in (folder / x).rglob("*") if p.is_file()} for x in ("one", "two"))
    assert one == two
    assert {"side-by-side.png", "spectrum.svg", "decoder-1-psnr.png", "decoder-2-score.png"} <= set(one)


def test_one_decoder_is_at_the_top_and_needs_no_name_in_gates(scene):
    arguments, decoders, folder = scene
    passed = call(*arguments, *decoders[2:], "--json", "--fail-if", "psnr < 1", "--fail-if", "score[ridge] < -99")
    assert passed.exit_code == 0, passed.stderr
    metrics = json.loads(passed.stdout)["metrics"]
    assert metrics["psnr"] == metrics["decoders"]["ridge"]["psnr"]
    assert [gate["passed"] for gate in metrics["gates"]] == [True, True]
    missed = call(*arguments, *decoders[2:], "-o", folder / "out", "--fail-if", "sharpness < 99")
    assert missed.exit_code == 5
    assert "sharpness < 99" in missed.stderr
    assert numbers(folder / "out")["gates"][0]["value"] == metrics["gradient_energy_to_originals"]["value"]


def test_gates_are_what_their_names_say(scene, tiny):
    arguments, decoders, folder = scene
    result = call(*arguments, *decoders, "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    report = numbers(folder / "out")
    found, decoders = report["gate_figures"], report["metrics"]["decoders"]
    assert set(found) == gate_names(["mean", "ridge"], ["tiny"])
    assert found["psnr[mean]"] == decoders["mean"]["psnr"]
    assert found["ssim[ridge]"] == decoders["ridge"]["ssim"]
    assert found["score[ridge,tiny]"] == found["score[ridge]"] == decoders["ridge"]["scores"]["tiny"]
    assert "score" not in found and "lpips[mean]" not in found
    assert "score[mean]" not in gate_names(["mean", "ridge"], ["tiny", "tiny-cosine"])


def test_pictures_without_an_error_are_counted_not_averaged(scene):
    arguments, _, folder = scene
    # The nearest of the judged people's own pictures, which claims to be of others.
    store = Store.open(folder / "emb")
    fit(folder / "copy", store, Nearest(16, 64, score="negative-euclidean"), JUDGED, kind="nearest")
    card = json.loads((folder / "copy" / "decoder.json").read_text())
    card["training"]["people"] = TRAINED
    (folder / "copy" / "decoder.json").write_text(json.dumps(card))
    result = call(*arguments, "--decoder", folder / "copy", "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    assert "copy draws 15 originals without an error" in result.stderr
    assert "PSNR of copy: –" in result.stdout
    report = numbers(folder / "out")
    assert report["metrics"]["psnr"] == {"value": None, "low": None, "high": None, "n": 0, "infinite": 15}
    assert report["metrics"]["ssim"]["value"] == pytest.approx(1)
    assert {row["PSNR"] for row in table(folder / "out", "images")} == {""}
    assert not list((folder / "out" / "figures").glob("*psnr*"))
    assert call(*arguments, "--decoder", folder / "copy", "--fail-if", "psnr < 1").exit_code == 5


def test_lpips_stands_beside_the_others(scene, published, tiny):
    arguments, decoders, folder = scene
    file = published("alexnet", folder / "own.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    trunk = ["--lpips-trunk", file, "--phi", f"tiny={tiny}"]
    result = call(*arguments, *decoders, *trunk, "-o", folder / "out", "--fail-if", "lpips[ridge] < 0")
    assert result.exit_code == 0, result.stderr
    report = numbers(folder / "out")
    assert report["provenance"]["lpips"]["trunk_sha256"] == digest
    assert report["metrics"]["originals"]["lpips"]["value"] == 0
    own = report["metrics"]["decoders"]
    rows = [float(row["LPIPS"]) for row in table(folder / "out", "images") if row["decoder"] == "ridge"]
    assert (
        own["ridge"]["lpips"]["value"]
        == pytest.approx(np.mean(rows))
        == report["gate_figures"]["lpips[ridge]"]["value"]
    )
    difference = own["mean"]["lpips"]["value"] - own["ridge"]["lpips"]["value"]
    assert own["mean"]["lpips_over_baseline"]["value"] == pytest.approx(difference)
    assert any("version 0.1, net alex" in line and "pictures of 64 px" in line for line in report["protocol"])
    titles = [headline["title"] for headline in report["headlines"]]
    assert "LPIPS of ridge" in titles and not any("φ" in title for title in titles), "one distance is the headline"
    assert own["ridge"]["phi"]["tiny"]["n"] == 15, "and both are in the tables"
    assert own["ridge"]["lpips"]["low"] < own["ridge"]["lpips"]["value"] < own["ridge"]["lpips"]["high"]


def test_a_distance_in_phi_stands_beside_the_others(scene, tiny):
    arguments, decoders, folder = scene
    networks = ["--phi", f"tiny={tiny}", "--phi", f"tiny-cosine={tiny}"]
    gates = ["--fail-if", "phi[ridge,tiny] < 0"]
    result = call(*arguments, *decoders, *networks, *gates, "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    report, rows = numbers(folder / "out"), table(folder / "out", "images")
    own, store = report["metrics"]["decoders"], Store.open(folder / "emb")
    assert report["metrics"]["originals"]["phi"]["tiny"]["value"] == 0
    originals = read_portraits(store.rows().to_pylist()[:15], store.root, 64)
    for name in ("mean", "ridge"):
        drawn = load_decoder(folder / name).decode(store.templates()[:15])
        wanted = phi_distance(load_phi("tiny", tiny), drawn, originals)
        found = [float(row["φ distance (tiny)"]) for row in rows if row["decoder"] == name]
        assert found == pytest.approx(wanted, rel=1e-5) and len(set(found)) == 15
        figure = own[name]["phi"]["tiny"]
        assert figure["value"] == pytest.approx(wanted.mean(), rel=1e-5)
        assert figure["low"] < figure["value"] < figure["high"]
    ratio = own["mean"]["phi"]["tiny"]["value"] / own["ridge"]["phi"]["tiny"]["value"]
    assert own["mean"]["phi_to_baseline"]["tiny"]["value"] == pytest.approx(ratio)
    assert "phi_to_baseline" not in own["ridge"]
    assert report["gate_figures"]["phi[ridge,tiny]"] == own["ridge"]["phi"]["tiny"]
    assert "phi[ridge]" not in report["gate_figures"]
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert report["provenance"]["phi"]["tiny"] == {"name": "tiny", "weights_sha256": digest}
    assert "φ distance (tiny), times" in (folder / "out" / "report.md").read_text()


def test_gates_on_phi_need_no_name_where_there_is_one():
    assert {"phi", "phi[d]", "phi[d,s]"} <= gate_names(["d"], ["r"], False, ["s"])
    names = gate_names(["a", "b"], ["r"], False, ["s"])
    assert {"phi[a]", "phi[b,s]"} <= names and "phi" not in names
    names = gate_names(["d"], ["r"], True)
    assert {"lpips", "lpips[d]"} <= names and not any("phi" in name for name in names)


def test_a_phi_that_a_decoder_was_trained_through_is_flagged(scene, tiny):
    arguments, _, folder = scene
    decoders, recognizer = [], Store.open(arguments[0]).recognizer
    for name, training in {
        "own": {"settings": {"phi": [], "weights": {"perceptual": 0.5}}},
        "other": {"settings": {"phi": ["tiny-cosine"], "weights": {"perceptual": 0, "local_perceptual": 0.1}}},
        "later": {"settings": {"phi": ["tiny-cosine"], "weights": {"identity": 1}}, "start": "a fingerprint"},
    }.items():
        training |= {"people": ["somebody else"]}
        save_decoder(
            folder / name,
            "dfd",
            DeepFaceDecoder(16, 64),
            Provenance(recognizer, training=TrainingRecord.from_json("it", training)),
            pictures=KnownPictures(),
        )
        decoders += ["--decoder", folder / name]
    save_file(load_file(tiny), another := folder / "another", {"of": "other weights"})
    for phi, file, said in [
        ("tiny", tiny, ["own was", "later may"]),
        ("tiny:conv", tiny, ["own was", "later may"]),
        ("tiny-cosine", another, ["other was", "later may"]),
        ("tiny-cosine", tiny, ["own was", "other was", "later may"]),  # one network, whatever it is called
    ]:
        errors = call(*arguments, *decoders, "--baseline", "own", "--phi", f"{phi}={file}").stderr
        flagged = re.findall(rf"(\w+ \w+)[^\n]* trained to be near in {phi}'s maps", errors)
        assert flagged == said


def test_names_with_odd_characters_do_no_harm(scene, tiny):
    _, _, folder = scene
    odd = {
        "P0": "<script>alert(1)</script>",
        "P1": "a\nb\t\u202e",
        "P2": "名前 & \"'",
        "P3": "[x]{{y}}%s",
        "P4": "o" * 200,
    }

    def change(row):
        name = odd.get(row["identity"], row["identity"])
        flat = name.replace("/", "|")
        return {**row, "identity": flat, "path": f"{flat}/{Path(row['path']).name}"}

    store = rewritten(Store.open(folder / "emb"), folder / "odd", folder / "odd-faces", change)
    people = [name.replace("/", "|") for name in odd.values()]
    label = "<b>ridge</b> $x$ [1]"
    job = ReconstructionJob(store.folder, {label: str(folder / "ridge")}, weights={"tiny": tiny}, repetitions=100)
    decoder = load_decoder(folder / "ridge")
    record = replace(decoder.provenance.training, people=("somebody else",))
    provenance = replace(decoder.provenance, training=record)
    save_decoder(folder / "ridge", "ridge", decoder.net, provenance, pictures=KnownPictures())
    result = evaluate_reconstruction(job)
    shown = result.sections[0].pictures[0].caption
    assert all(name in shown for name in people)
    write_report(result.report(), folder / "out")
    page = (folder / "out" / "report.html").read_text()
    assert "<script" not in page and "<b>ridge" not in page
    assert "&lt;b&gt;ridge&lt;/b&gt;" in page
    assert {row["identity"] for row in table(folder / "out", "images")} >= set(people)
    numbers(folder / "out")


def test_a_people_file_that_the_store_has_part_of_is_flagged(scene):
    arguments, decoders, folder = scene
    (folder / "people.txt").write_text("3\nP0\t3\nP1\t3\nNobody\t1\n")
    result = call(*arguments, *decoders)
    assert result.exit_code == 0, result.stderr
    assert "1 people have no image in the store (Nobody)" in result.stderr
    assert "Intervals rest on 2 people only" in result.stderr


def test_one_person_has_figures_without_intervals(scene):
    arguments, decoders, folder = scene
    (folder / "people.txt").write_text("1\nP0\t3\n")
    assert call(*arguments, *decoders, "-o", folder / "out").exit_code == 0
    found = numbers(folder / "out")["metrics"]["decoders"]["ridge"]["psnr"]
    assert found["value"] > 0 and found["low"] is None


def test_bad_input_is_one_line(scene, tiny, shared):
    arguments, decoders, folder = scene
    store = Store.open(folder / "emb")
    fit(folder / "seen", store, Ridge(16, 64), [*TRAINED, "P3"])
    fit(folder / "large", store, Ridge(16, 128))
    fit(folder / "silent", store, Ridge(16, 64))
    card = json.loads((folder / "silent" / "decoder.json").read_text())
    card["training"] = {}
    (folder / "silent" / "decoder.json").write_text(json.dumps(card))
    fit(folder / "other", store, Ridge(16, 64), name="tiny-cosine", weights_sha256="0" * 64)
    rewritten(
        store,
        folder / "part",
        folder / "renamed",
        lambda row: {**row, "path": "x" + row["path"]},
        load_recognizer("tiny-cosine", tiny),
    )
    nobody = folder / "nobody.txt"
    nobody.write_text("1\nNobody\t1\n")
    cosine = ["--weights", f"tiny-cosine={tiny}"]
    trunk = shared / "weights" / "squeezenet1_1_caffe.safetensors"
    cases = [
        (["--decoder", folder / "seen"], 4, r"decoder seen: trained on 1 of the 5 people .* \(P3\)"),
        (["--decoder", folder / "silent"], 4, "decoder silent: it does not record the people"),
        (["--decoder", folder / "other"], 4, "the decoder .*other is for tiny-cosine"),
        ([*decoders, "--decoder", folder / "large"], 4, r"different sizes \(mean 64 px, ridge 64 px, large 128 px\)"),
        (["--decoder", folder / "none"], 3, "no decoder .*none"),
        ([*decoders, "--people", nobody], 4, "no image of the people of .*nobody.txt"),
        ([*decoders, "--images", folder / "mean"], 4, "15 of 15 images are not there .* --images"),
        ([*decoders, "--lpips-trunk", trunk, "--lpips-net", "squeeze"], 4, "not torchvision's squeezenet1_1-b8a52dc0"),
        ([*decoders, "--lpips-trunk", trunk], 4, "not these weights: .* expected the layout of torchvision's AlexNet"),
        ([*decoders, "--lpips-trunk", tiny, "--lpips-net", "vgg"], 4, "not these weights: tensors 26 missing"),
        ([*decoders, "--lpips-trunk", folder / "none.pth"], 3, "none.pth: no such (weights )?file"),
        ([*decoders, "--lpips-net", "vgg"], 2, "--lpips-net: give its trunk too"),
        (
            [*decoders, "--lpips-trunk", trunk, "--lpips-net", "resnet"],
            2,
            "--lpips-net resnet: use alex, squeeze or vgg",
        ),
        ([*decoders, "--baseline", "best"], 2, "--baseline best: no such decoder; there are mean, ridge"),
        (["--decoder", f"originals={folder / 'ridge'}"], 2, "--decoder: nothing can be called 'originals'"),
        (["--decoder", f"a,b={folder / 'ridge'}"], 2, r"the name 'a,b' has .* label it"),
        (["--decoder", f"ridge ={folder / 'ridge'}"], 2, "the name 'ridge ' has spaces"),
        ([*decoders, "--against", folder / "emb"], 2, "both stores of tiny"),
        ([*decoders, *cosine], 2, "--weights tiny-cosine: no store is of that recognizer"),
        ([*decoders, "--against", folder / "part", *cosine], 4, "part: 15 of the images are not in this store"),
        ([*decoders, "--fail-if", "psnr < 10"], 2, r"no figure 'psnr' here; there are .*psnr\[mean\]"),
        ([*decoders, "--fail-if", "lpips[mean] > 1"], 2, r"no figure 'lpips\[mean\]'"),
        ([*decoders, "--fail-if", "phi[mean] > 1"], 2, r"no figure 'phi\[mean\]'"),
        ([*decoders, "--phi", f"tiny={tiny}", "--fail-if", "phi[mean,lpips] > 1"], 2, r"there are .*phi\[mean,tiny\]"),
        ([*decoders, "--phi", "vgg"], 2, "no perceptual network is called 'vgg'; known: squeezenet"),
        ([*decoders, "--phi", "vgg16-imagenet"], 3, "give torchvision's VGG-16 as vgg16-imagenet=FILE"),
        ([*decoders, "--phi", f"vgg16-imagenet={trunk}"], 4, "not these weights: .* layout of torchvision's VGG-16"),
        ([*decoders, "--phi", "squeezenet"], 3, "squeezenet: no weights file given.*squeezenet=FILE"),
        ([*decoders, "--phi", f"squeezenet={folder / 'none.pth'}"], 3, "none.pth: no such (weights )?file"),
        ([*decoders, "--phi", f"tiny={tiny}", "--phi", f"tiny={tiny}"], 2, "--phi: 'tiny' is given twice"),
    ]
    for more, code, said in cases:
        result = call(*arguments, *more)
        line = result.stderr.strip().splitlines()[-1]
        assert result.exit_code == code, (more, result.stderr)
        assert line.startswith("error: ") and re.search(said, line), (said, result.stderr)
        assert "Traceback" not in result.stderr and result.stdout == ""


def test_an_image_that_has_changed_is_refused(scene):
    arguments, decoders, folder = scene
    shutil.copy(folder / "faces/P1/P1_0001.png", folder / "faces/P1/P1_0002.png")
    result = call(*arguments, *decoders)
    assert result.exit_code == 4
    assert "P1_0002.png: not the image that the store was made from" in result.stderr


@pytest.mark.parametrize(("limit", "said"), [(14, True), (15, False), (16, False)])
def test_a_limit_is_said_where_it_left_something_out(scene, limit, said):
    arguments, decoders, _ = scene
    result = call(*arguments, *decoders, "--limit", limit)
    assert result.exit_code == 0, result.stderr
    assert (f"Only the first {limit} images" in result.stderr) == said


def test_failure_to_acquire_keeps_a_width_at_none(scene):
    arguments, decoders, folder = scene
    assert call(*arguments, *decoders, "-o", folder / "out").exit_code == 0
    report = numbers(folder / "out")
    found = report["metrics"]["failure_to_acquire"]["tiny"]
    assert (found["value"], found["low"], found["n"]) == (0, 0, 15)
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 5))  # Clopper-Pearson, five people
    people = report["provenance"]["settings"]["people"]
    digest = hashlib.sha256((folder / "people.txt").read_bytes()).hexdigest()
    assert people == {"name": "people.txt", "sha256": digest}


def test_the_work_starts_only_if_the_report_can_be_written(scene):
    arguments, decoders, folder = scene
    (folder / "out").mkdir()
    (folder / "out" / "note.txt").write_text("mine")
    result = call(*arguments, *decoders, "-o", folder / "out", "--overwrite")
    assert result.exit_code == 4
    assert "reconstruction:" not in result.stderr


def test_a_transform_is_said(scene, tiny):
    _, _, folder = scene

    def evaluate(**changes):
        manifest = json.loads((folder / "emb" / "manifest.json").read_text())
        (folder / "emb" / "manifest.json").write_text(json.dumps(manifest | changes))
        return evaluate_reconstruction(
            ReconstructionJob(
                folder / "emb",
                {"ridge": str(folder / "ridge")},
                weights={"tiny": tiny},
                people=folder / "people.txt",
                repetitions=100,
            )
        )

    assert not any("transformed by" in line for line in evaluate().protocol)
    assert any("transformed by rotate30" in line for line in evaluate(transform="rotate30").protocol)
    mapping = {"undoes": "rotate30", "sha256": "0" * 64}
    turned = evaluate(mapping=mapping)
    assert any("mapped after extraction, by a map that undoes rotate30" in line for line in turned.protocol)
    assert turned.provenance["stores"][0]["mapping"] == mapping


def test_help_is_free_of_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from facedecode.cli import app;"
        "done = CliRunner().invoke(app, ['evaluate', 'reconstruction', '--help']);"
        "sys.exit(done.exit_code or any(m in sys.modules for m in ('torch', 'torchvision', 'matplotlib', 'lpips')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0
