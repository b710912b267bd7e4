"""The same pictures under other names are known through all that is fitted to templates, and what it is applied to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from facedecode.annotations.labels import ImageLabels
from facedecode.attributes.disentangler import load_disentangler
from facedecode.attributes.disentangler_fit import fit_store_disentangler
from facedecode.classifiers.classifier import load_classifier
from facedecode.classifiers.fit import fit_store_classifier
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.evaluation.cohort import (
    JudgedImages,
    refuse_known,
    require_unseen_by_mapping,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.fitted import FittedToPictures
from facedecode.inversion.confidence import load_confidence
from facedecode.inversion.confidence_fit import fit_store_confidence
from facedecode.inversion.jobs import ConfidenceJob
from facedecode.known_pictures import SAME_FILE, SAME_PICTURE, Known, KnownPictures, MadeBy
from facedecode.mapping.maps import load_mapping
from facedecode.mapping.sums import load_sums
from facedecode.store import Store, StoreWriter
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob

HALF = 5  # people of whom something is fitted


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def here(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `emb`, `fitted.txt` of half its people, and `renamed`: its pictures under other names."""
    monkeypatch.chdir(tmp_path)
    store = Store.open(tiny_store)
    rows = store.rows().to_pylist()
    people = sorted({row["identity"] for row in rows})
    Path("fitted.txt").write_text("\n".join(people[:HALF]))
    other = [{**row, "identity": f"Q{people.index(row['identity'])}"} for row in rows]
    manifest = {"score": store.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    settings = {"made": "renamed"}
    with StoreWriter(Path("renamed"), settings, store.root, store.recognizer, manifest=manifest) as writer:
        writer.append(store.templates(), other, [], len(other))
        writer.finish()
    return tmp_path


def mapping(store: Store, kind: str = "affine") -> FittedToPictures:
    more = ["--rank", 2] if kind == "low-rank" else []
    call_of = ["fit-mapping", "--transform", "shift-left", "--embeddings", "emb", "--people", "fitted.txt"]
    done = call(*call_of, "--kind", kind, *more, "--weights", "tiny.safetensors", "-o", "maps")
    assert done.exit_code == 0, done.stderr
    return load_mapping("maps/shift-left.safetensors")


def classifier(store: Store) -> FittedToPictures:
    fit_store_classifier(store, Path("c.st"), people=Path("fitted.txt"), min_images=2)
    return load_classifier("c.st")


def disentangler(store: Store) -> FittedToPictures:
    labels = ["F" if name in ("P0", "P2", "P4") else "M" for name in store.identities()]
    made = fit_store_disentangler(
        store, Path("d.st"), ImageLabels("gender", labels, [], Path("l.csv")), people=Path("fitted.txt")
    )
    assert made.pictures is not None
    return load_disentangler("d.st")


def confidence(store: Store) -> FittedToPictures:
    others = [name for name in sorted(set(store.identities())) if name not in Path("fitted.txt").read_text().split()]
    Path("others.txt").write_text("\n".join(others))
    train_store(DecoderJob(Path("emb"), Path("ridge"), people=Path("others.txt"), architecture="ridge"))
    fit_store_confidence(ConfidenceJob(Path("emb"), Path("o.st")), store, load_decoder("ridge"))
    return load_confidence("o.st")


@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
@pytest.mark.parametrize("fit", [mapping, classifier, disentangler, confidence])
def test_what_is_fitted_knows_its_pictures(here: Path, monkeypatch: pytest.MonkeyPatch, fit: Callable) -> None:
    monkeypatch.setattr("facedecode.attributes.disentangler_fit.FEWEST_PEOPLE", 2)
    store, renamed = Store.open("emb"), Store.open("renamed")
    fitted = fit(store)
    names = {f"Q{name[1:]}" for name in fitted.fitted_on}
    assert len(names) == HALF
    rows, templates = renamed.rows().to_pylist(), renamed.templates()
    known = np.array([row["identity"] in names for row in rows])
    by_file = fitted.known.judge(rows, templates, renamed.made_by)
    assert (by_file == np.where(known, SAME_FILE, "")).all()
    saved_anew = fitted.known.judge([{**row, "sha256": "0" * 64} for row in rows], templates, renamed.made_by)
    assert (saved_anew == np.where(known, SAME_PICTURE, "")).all()
    # It is one file, which says so itself; one of before has no list.
    assert {name for name in load_file(fitted.source) if name.startswith("known_pictures.")} == {
        "known_pictures.files",
        "known_pictures.00",
    }
    again = replace(fitted, source=None, source_sha256=None)
    again.save("old.st")
    assert type(fitted).load("old.st").pictures is None


@pytest.mark.parametrize("kind", ["affine", "orthogonal", "low-rank"])
@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
def test_pictures_are_known_through_a_map_and_what_it_maps(here: Path, kind: str) -> None:
    renamed = Store.open("renamed")
    fitted = mapping(renamed, kind)
    with pytest.raises(BadInput, match="15 of the 30 pictures it is to be judged on, under other names"):
        require_unseen_by_mapping(fitted, JudgedImages.of_store(renamed, range(30)))
    assert call("transform", "renamed", "-o", "mapped", "--mapping", "maps/shift-left.safetensors").exit_code == 0
    with pytest.raises(BadInput, match="mapping of these templates was fitted on 15 of the 30 pictures"):
        require_unseen_by_store(Store.open("mapped"), JudgedImages.of_store(Store.open("mapped"), range(30)))
    for options in (["mapped"], ["renamed", "--mapping", "maps/shift-left.safetensors"]):
        done = call("evaluate", "verification", *options, "-o", "report", "--far", "0.5")
        assert done.exit_code == 4 and "15 of the 30 pictures" in done.stderr and not Path("report").exists()


@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
def test_that_changed_templates_tell_of_no_picture_is_said(here: Path) -> None:
    """Renamed and saved anew: neither names nor files tell, and mapped templates cannot."""
    store = Store.open("emb")
    fitted = mapping(store)
    rows = [{**row, "identity": f"Q{i % 5}", "sha256": "0" * 64} for i, row in enumerate(store.rows().to_pylist())]
    mapped = fitted.apply(store.templates())
    made_by = MadeBy.of(store.recognizer, {"undoes": "shift-left"}, None)
    images = JudgedImages(rows, mapped, made_by)
    with pytest.warns(FacedecodeWarning, match="by file only, as these templates were changed since"):
        (said,) = refuse_known("this map was fitted on", fitted.known, images)
    assert said.startswith("this map was fitted on pictures that were compared with those judged by file only")
    assert refuse_known("nothing was seen by", Known(("Z",), KnownPictures()), images) == []
    # The store says by itself that its templates were changed, in both ways in which images are judged.
    assert call("transform", "emb", "-o", "mapped", "--mapping", "maps/shift-left.safetensors").exit_code == 0
    changed = Store.open("mapped")
    for judged in (JudgedImages.of_store(changed, range(30)), unseen_images(changed, None).judged):
        assert judged.made_by == changed.made_by != store.made_by
        renamed = replace(judged, rows=rows)
        # What was made from templates that were changed alike knows these pictures again.
        with pytest.raises(BadInput, match="30 of the 30 pictures it is to be judged on"):
            refuse_known("a decoder was trained on", judged.known, renamed)
        plain = JudgedImages(rows, store.templates(), store.made_by)
        with pytest.warns(FacedecodeWarning, match="another recognizer's, or were changed since"):
            refuse_known("a decoder was trained on", judged.known, plain)


@pytest.mark.filterwarnings("ignore::facedecode.errors.FacedecodeWarning")
def test_pictures_are_known_through_merged_sums(here: Path) -> None:
    store = Store.open("emb")
    Path("rest.txt").write_text("\n".join(f"P{k}" for k in range(HALF, 10)))
    fit = ["fit-mapping", "--transform", "shift-left", "--embeddings", "emb", "--weights", "tiny.safetensors"]
    for part in ("fitted", "rest"):
        assert call(*fit, "--people", f"{part}.txt", "--sums-to", part).exit_code == 0
    files = [next(Path(part).iterdir()) for part in ("fitted", "rest")]
    done = call("fit-mapping", *(word for file in files for word in ("--from-sums", file)), "-o", "merged")
    assert done.exit_code == 0, done.stderr
    whole = load_mapping("merged/shift-left.safetensors").pictures
    assert len(whole.files) == 30 and whole.complete
    assert (whole.judge(store.rows().to_pylist(), None, None) == SAME_FILE).all()
    # Where one part has no list, nobody can tell of all.
    one, other = (load_sums(file) for file in files)
    other.pictures = None
    one.merge(other)
    assert len(one.pictures.files) == 15 and not one.pictures.complete


def test_a_list_in_a_fitted_file_is_checked(here: Path) -> None:
    fitted = classifier(Store.open("emb"))
    for damage, said in (
        (KnownPictures(np.array([2, 1], np.uint64)), "no list of known pictures"),
        (KnownPictures(np.zeros((1, 1), np.uint64)), "no list of known pictures"),
    ):
        fitted.remember(damage)
        fitted.save("bad.st")
        with pytest.raises(BadInput, match=f"bad.st: holds {said}"):
            load_classifier("bad.st")
