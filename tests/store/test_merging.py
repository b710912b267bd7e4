"""Merging: the store of all images, whatever the parts; and what must not be merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeWarning, OutputError, UsageError
from facedecode.identity import RecognizerId
from facedecode.store import Store, StoreWriter
from facedecode.store.layout import COLUMNS
from facedecode.store.merging import merge_stores

RECOGNIZER = RecognizerId("drawn", "0" * 64, dim=4)
SETTINGS = {"detector": {"detector": "drawn"}, "device": "cpu", "batch_size": 32}
MANIFEST = {"score": "cosine", "l2_normalized": False, "transform": None, "precision": "fp32", "tool_version": "1"}
PATHS = [f"P{k // 4}/{k:02d}.png" for k in range(12)]
BAD = ["P0/02a.png", "P2/zz.png"]


def template(path: str) -> np.ndarray:
    return np.random.default_rng(list(path.encode())).normal(size=4).astype(np.float32)


def make(folder: Path, paths: list[str], root: Path, rows: int = 5, recognizer: dict | None = None, **changes) -> Store:
    """A store as `extract` makes one: failures are rows of `BAD`; `changes` are of its settings or manifest."""
    settings = {**SETTINGS, "inputs": len(paths), **{k: v for k, v in changes.items() if k in SETTINGS}}
    manifest = {**MANIFEST, **{k: v for k, v in changes.items() if k in MANIFEST}}
    failure = {"stage": "detect", "reason": "no face found"}
    with StoreWriter(folder, settings, root, recognizer or RECOGNIZER, rows, manifest=manifest) as writer:
        kept, failures = [], []
        for position, path in enumerate(sorted(paths), 1):
            name = path.rpartition("/")[2]
            if any(path.endswith(bad) for bad in BAD):
                failures.append({"path": path, **failure})
            else:
                box = template(path)
                kept.append({"path": path, "identity": path.split("/")[-2], "box": box, "sha256": f"content of {name}"})
            if len(kept) == rows:
                writer.append(np.stack([template(row["path"]) for row in kept]), kept, failures, position)
                kept, failures = [], []
        if kept:
            writer.append(np.stack([template(row["path"]) for row in kept]), kept, failures, position)
            failures = []
        writer.finish(failures)
    return Store.open(folder)


def content(folder: Path, manifest: bool = True) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if manifest or p.name != "manifest.json"}


@pytest.fixture
def parts(tmp_path: Path) -> list[Store]:
    """Three parts of one folder's images, in no order; the second on a GPU."""
    everything = PATHS + BAD
    chosen = [everything[0::3], everything[1::3], everything[2::3]]
    devices = ["cpu", "cuda", "cpu"]
    return [
        make(tmp_path / f"part{k}", paths, tmp_path / "faces", device=device)
        for k, (paths, device) in enumerate(zip(chosen, devices, strict=True))
    ]


def test_the_merged_store_is_that_of_all_images(parts: list[Store], tmp_path: Path) -> None:
    whole = make(tmp_path / "whole", PATHS + BAD, tmp_path / "faces")
    result = merge_stores(parts, tmp_path / "merged")
    assert (result.count, result.failures, result.resumed) == (12, 2, 0)
    assert content(tmp_path / "merged", manifest=False) == content(tmp_path / "whole", manifest=False)
    merged = Store.open(tmp_path / "merged")
    assert merged.root == whole.root and merged.score == "cosine"
    assert {part["store"]: part["count"] for part in merged.manifest.settings["merged"]} == {
        part.fingerprint: len(part) for part in parts
    }
    assert sorted(part["device"] for part in merged.manifest.settings["merged"]) == ["cpu", "cpu", "cuda"]


def test_the_order_of_the_parts_changes_nothing(parts: list[Store], tmp_path: Path) -> None:
    merge_stores(parts, tmp_path / "one")
    merge_stores(parts[::-1], tmp_path / "other")
    assert content(tmp_path / "one") == content(tmp_path / "other")


def test_merged_stores_merge_again(parts: list[Store], tmp_path: Path) -> None:
    merge_stores(parts, tmp_path / "whole")
    merge_stores(parts[:2], tmp_path / "two")
    merge_stores([Store.open(tmp_path / "two"), parts[2]], tmp_path / "again")
    assert content(tmp_path / "again", manifest=False) == content(tmp_path / "whole", manifest=False)


@pytest.mark.parametrize("stop", [5, 10])
def test_an_interrupted_merge_ends_with_the_same_bytes(parts: list[Store], tmp_path: Path, stop: int) -> None:
    merge_stores(parts, tmp_path / "whole")

    def interrupt(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_stores(parts, tmp_path / "parts", progress=interrupt)
    told = []
    result = merge_stores(parts, tmp_path / "parts", progress=lambda *a: told.append(a))
    assert result.resumed > 0 and told[0][0] <= stop < told[1][0] and told[-1] == (12, 12)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert merge_stores(parts, tmp_path / "parts").resumed == 14


def test_different_roots_meet_in_the_folder_above_them(tmp_path: Path) -> None:
    one = make(tmp_path / "one", ["A/1.png", "A/2.png"], tmp_path / "data" / "x")
    other = make(tmp_path / "other", ["A/3.png"], tmp_path / "data" / "y" / "z")
    merge_stores([one, other], tmp_path / "merged")
    merged = Store.open(tmp_path / "merged")
    assert merged.root == tmp_path / "data"
    assert merged.paths() == ["x/A/1.png", "x/A/2.png", "y/z/A/3.png"] and merged.identities() == ["A"] * 3
    hidden = make(tmp_path / "hidden", ["A/1.png"], tmp_path / "data" / ".cache")
    merge_stores([hidden, other], tmp_path / "dotted")
    assert Store.open(tmp_path / "dotted").paths() == [".cache/A/1.png", "y/z/A/3.png"]
    merge_stores([one, other], tmp_path / "here", images=tmp_path / "all")
    here = Store.open(tmp_path / "here")
    assert here.root == tmp_path / "all" and here.paths() == ["A/1.png", "A/2.png", "A/3.png"]
    np.testing.assert_array_equal(here.templates(), merged.templates())


@pytest.mark.parametrize(
    ("paths", "root"),
    [(["P0/00.png", "Q/new.png"], "faces"), (["P0/00.png"], "elsewhere"), (["P0/02a.png", "Q/new.png"], "faces")],
)
def test_an_image_that_two_stores_have_is_refused(tmp_path: Path, paths: list[str], root: str) -> None:
    """By its path; by its name and content where the roots differ; also one that failed in both."""
    one = make(tmp_path / "one", PATHS + BAD, tmp_path / "faces")
    other = make(tmp_path / "other", paths, tmp_path / root)
    with pytest.raises(BadInput, match=rf"both have {paths[0]}; merge stores of different images") as caught:
        merge_stores([one, other], tmp_path / "merged")
    assert str(tmp_path / "one") in str(caught.value) and str(tmp_path / "other") in str(caught.value)
    assert not (tmp_path / "merged").exists()


def test_the_same_content_under_another_name_is_said(tmp_path: Path) -> None:
    one = make(tmp_path / "one", ["A/1.png", "A/2.png"], tmp_path)
    other = make(tmp_path / "other", ["B/1.png", "B/3.png"], tmp_path)
    with pytest.warns(FacedecodeWarning, match="1 pictures are in two of the stores under different names"):
        merge_stores([one, other], tmp_path / "merged")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recognizer": replace(RECOGNIZER, weights_sha256="1" * 64)}, "recognizer.weights_sha256"),
        ({"recognizer": replace(RECOGNIZER, name="another")}, "recognizer.name"),
        ({"detector": {"detector": "another"}}, "settings.detector.detector"),
        ({"transform": "rotate30"}, "transform"),
        ({"precision": "bf16"}, "precision"),
        ({"score": "negative-euclidean"}, "score"),
        ({"rows": 4}, "shard_rows"),
    ],
)
def test_stores_that_were_not_made_alike_are_refused(tmp_path: Path, changes: dict, named: str) -> None:
    one = make(tmp_path / "one", ["A/1.png"], tmp_path)
    other = make(tmp_path / "other", ["A/2.png"], tmp_path, **changes)
    with pytest.raises(BadInput, match=rf"not made alike \({named} ") as caught:
        merge_stores([one, other], tmp_path / "merged")
    assert str(tmp_path / "one") in str(caught.value) and str(tmp_path / "other") in str(caught.value)


def test_what_else_is_refused(parts: list[Store], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        merge_stores(parts[:1], tmp_path / "merged")
    before = content(parts[0].folder)
    with pytest.raises(OutputError, match="one of the stores that are to be read"):
        merge_stores(parts, parts[0].folder, overwrite=True)
    assert content(parts[0].folder) == before
    with StoreWriter(tmp_path / "centers", SETTINGS, tmp_path, RECOGNIZER, 5, manifest=MANIFEST) as writer:
        writer.append(np.ones((1, 4), np.float32), [{"identity": "A"}], [], 1)
        writer.finish()
    with pytest.raises(BadInput, match="centers: has templates without an image"):
        merge_stores([Store.open(tmp_path / "centers"), parts[0]], tmp_path / "merged")


def test_labels_that_are_not_merged_are_said(parts: list[Store], tmp_path: Path) -> None:
    (parts[1].folder / "labels.csv").write_text("path,gender\n")
    with pytest.warns(FacedecodeWarning, match=r"part1: labels\.csv is no part of a store and is not merged"):
        merge_stores(parts, tmp_path / "merged")


def test_rows_are_taken_in_any_order(parts: list[Store]) -> None:
    store = parts[0]
    chosen = np.random.default_rng(1).permutation(len(store))
    assert store.take_rows(chosen).equals(store.rows().take(chosen))
    assert store.take_rows(np.array([], np.int64)).schema == COLUMNS
    with pytest.raises(IndexError, match="numbered from 0"):
        store.take_rows(np.array([len(store)]))


def test_the_command(parts: list[Store], tmp_path: Path) -> None:
    arguments = ["merge", *(str(part.folder) for part in parts), "-o", str(tmp_path / "merged"), "--json"]
    result = CliRunner().invoke(app, arguments)
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and answer["metrics"] == {"count": 12, "failed": 2}
    assert answer["outputs"] == {"store": str(tmp_path / "merged")}
    again = CliRunner().invoke(app, ["merge", str(parts[0].folder), "-o", str(tmp_path / "one")])
    assert again.exit_code == 2 and "at least two" in again.stderr
