"""The Python interface: every block of docs/python.md, the script, and what it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facedecode
from facedecode.errors import BadInput, MissingWeights, UsageError

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(encoding="utf-8"))


# Six images are few for a map, and it says so.
@pytest.mark.filterwarnings("ignore:turned:facedecode.errors.FacedecodeWarning")
def test_every_block_of_the_page_runs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(photos, tmp_path / "lfw")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    assert len(BLOCKS) >= 5
    for block in BLOCKS:
        exec(block, names)
    assert repr(names["store"]) == "Store('emb', 6 templates of 128 numbers by dlib-resnet)"
    assert repr(names["embedded"]) == "Embedded(6 images, templates of 128 numbers, 0 failed)"
    # The same templates, whether they go through a store or not.
    order = np.argsort([str(path) for path in names["paths"]])
    assert np.allclose(names["embedded"].templates[order], names["templates"], atol=1e-5)
    assert names["faces"].pictures.shape == (6, 128, 128, 3)
    assert (names["faces"].scores > -0.6).all()
    apart = np.linalg.norm(names["perturbed"] - names["embedded"].templates)
    assert np.linalg.norm(names["undone"] - names["embedded"].templates) < apart
    assert set(names["person_templates"]) == {"Eileen", "Mirror"}
    assert len(names["clusters"].centroids) == 2
    before = np.linalg.norm(names["embedded"].templates[0] - names["target"])
    assert names["attacked"].success.all()
    nearer = facedecode.attack(names["embedded"].crops[:1], names["recognizer"], names["target"], threshold=-0.1)
    assert nearer.success.all() and nearer.l2[0] > 0
    after = recognizer_template(names["recognizer"], nearer.crops)
    assert np.linalg.norm(after - names["target"]) < 0.1 < before
    assert names["result"].value("eer", {"recognizer": "dlib-resnet"}).n == 6


def recognizer_template(recognizer, crops: np.ndarray) -> np.ndarray:
    return facedecode.embed(list(crops), recognizer, crop="aligned").templates[0]


def test_the_script_embeds_inverts_shows_and_evaluates(photos: Path, tmp_path: Path) -> None:
    script = ROOT / "examples/python_api.py"
    assert len(script.read_text().splitlines()) <= 25
    done = subprocess.run([sys.executable, script, photos], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "faces.png").stat().st_size > 10_000
    assert "6 templates of 128 numbers" in done.stdout


def test_the_package_is_light_and_has_what_it_lists() -> None:
    code = "import sys, facedecode; assert not {'torch', 'numpy', 'matplotlib'} & sys.modules.keys(); dir(facedecode)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in facedecode.__all__:
        assert getattr(facedecode, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = facedecode.nonsense


def test_failures_keep_their_place(photos: Path, tmp_path: Path) -> None:
    blank = np.full((80, 80, 3), 127, np.uint8)
    text = tmp_path / "a.jpg"
    text.write_text("no picture")
    embedded = facedecode.embed([blank, text, next(photos.rglob("*.png"))])
    assert set(embedded.failures) == {0, 1} and embedded.failures[0] == "no face found"
    assert np.isnan(embedded.templates[:2]).all() and np.isfinite(embedded.templates[2]).all()
    assert embedded.faces[0] is None and embedded.faces[2] is not None


def test_what_it_refuses(tiny: Path) -> None:
    recognizer = facedecode.load_recognizer("tiny", tiny)
    templates = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    cases = [
        (BadInput, lambda: facedecode.embed([], recognizer)),
        (BadInput, lambda: facedecode.embed([np.zeros((8, 8), np.uint8)], recognizer)),
        (UsageError, lambda: facedecode.cluster(templates)),
        (BadInput, lambda: facedecode.cluster(templates, 6)),
        (BadInput, lambda: facedecode.cluster(np.full((3, 4), np.nan), 2)),
        (BadInput, lambda: facedecode.aggregate(templates, ["a"])),
        (BadInput, lambda: facedecode.attack(np.zeros((1, 8, 8, 3), np.uint8), recognizer, templates[0], -1)),
        (UsageError, lambda: facedecode.evaluate("security")),  # type: ignore[arg-type]
        (MissingWeights, lambda: facedecode.load_decoder("nowhere/at/all")),
    ]
    for error, call in cases:
        with pytest.raises(error):
            call()


def test_a_job_is_held_to_the_ranges_and_choices_of_its_options() -> None:
    cases = [
        (facedecode.VerificationJob(["emb"], repetitions=0), "--repetitions 0: give at least 100"),
        (facedecode.VerificationJob(["emb"], seed=-1), "--seed -1: give at least 0"),
        (facedecode.VerificationJob(["emb"], mapping_side="top"), "use left, right or both"),  # type: ignore[arg-type]
        (facedecode.ReconstructionJob("emb", {"a": "a"}, columns=101), "--columns 101: give at most 100"),
        (facedecode.LeakageJob({"a": "emb"}, folds=1), "--folds 1: give at least 2"),
    ]
    for job, message in cases:
        with pytest.raises(UsageError, match=message):
            facedecode.evaluate(job)


def test_groups_are_those_of_scipy() -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    templates = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    found = facedecode.cluster(templates, 5, linkage="average", metric="euclidean")
    wanted = fcluster(linkage(templates.astype(float), "average"), 5, "maxclust")
    pairs = found.labels[:, None] == found.labels
    assert (pairs == (wanted[:, None] == wanted)).all()
    for number, centroid in enumerate(found.centroids):
        assert np.allclose(centroid, templates[found.labels == number].mean(0), atol=1e-6)
    means = facedecode.aggregate(templates, ["b"] * 10 + ["a"] * 30)
    assert list(means) == ["a", "b"] and np.allclose(means["b"], templates[:10].mean(0), atol=1e-6)
