"""Linkage, cuts, clusters of stores, and the command `cluster`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist
from scipy.stats import f_oneway
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, silhouette_score
from typer.testing import CliRunner

from facedecode import memory
from facedecode.cli import app
from facedecode.errors import BadInput, UsageError, WouldNotFit
from facedecode.identity import RecognizerId
from facedecode.store import Store, StoreWriter
from facedecode.templates.agglomerative import agglomerate, condensed_distances, cut, linkage
from facedecode.templates.cluster_description import Clustered, agreement
from facedecode.templates.clustering import choose_rows, cluster
from facedecode.templates.jobs import Clustering, ClusterJob

RNG = np.random.default_rng(5)
POINTS = RNG.normal(size=(90, 6)).astype(np.float32)


def write_store(
    folder: Path, templates: np.ndarray, persons: list[str | None], score: str = "negative-euclidean"
) -> Path:
    """A store of made-up templates, several shards of it."""
    recognizer = RecognizerId("made-up", "0" * 64, dim=templates.shape[1], score=score)
    manifest = {"score": score, "precision": "fp32", "l2_normalized": False, "transform": None}
    with StoreWriter(folder, {"n": len(templates)}, folder.parent, recognizer, 16, manifest=manifest) as writer:
        for start in range(0, len(templates), 16):
            part = templates[start : start + 16].astype(np.float32)
            rows = [{"path": f"{k}.jpg", "identity": persons[k]} for k in range(start, start + len(part))]
            writer.append(part, rows, [], start + len(part))
        writer.finish()
    return folder


def blobs(score: str = "negative-euclidean", each: int = 15) -> tuple[np.ndarray, np.ndarray]:
    centers = 8 * np.eye(4, 6)
    labels = np.repeat(np.arange(4), each)
    return (centers[labels] + RNG.normal(size=(4 * each, 6))).astype(np.float32), labels


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, np.ndarray]:
    values, labels = blobs()
    return write_store(tmp_path / "emb", values, [f"P{label}" for label in labels]), labels


# Distances, merges, cuts: against SciPy and scikit-learn


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_are_scipys(metric: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("facedecode.templates.agglomerative._BLOCK", 7 * len(POINTS))
    found = condensed_distances(POINTS, metric)
    np.testing.assert_allclose(found, pdist(POINTS.astype(np.float64), metric), atol=1e-12)
    assert found.min() >= 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("method", ["ward", "average", "complete"])
def test_partitions_are_scikit_learns(method: str, metric: str):
    values = POINTS.astype(np.float64)
    if method == "ward" and metric == "cosine":
        values, metric_there = values / np.linalg.norm(values, axis=1, keepdims=True), "euclidean"
    else:
        metric_there = metric
    merges = linkage(POINTS, method, metric)
    for count in (1, 2, 9, 40, len(POINTS)):
        theirs = AgglomerativeClustering(count, metric=metric_there, linkage=method).fit_predict(values)
        assert adjusted_rand_score(theirs, cut(merges, count)) == 1 and len(set(cut(merges, count))) == count
    for place in (8, 44, 84):  # between two merges: on one, rounding decides
        height = merges[place : place + 2, 2].mean()
        theirs = AgglomerativeClustering(None, distance_threshold=height, metric=metric_there, linkage=method)
        assert adjusted_rand_score(theirs.fit_predict(values), cut(merges, distance_threshold=height)) == 1


@pytest.mark.parametrize("method", ["ward", "average", "complete"])
def test_weights_are_repetitions(method: str):
    points, sizes = RNG.normal(size=(40, 5)), RNG.integers(1, 6, 40)
    one = agglomerate(pdist(points), method, np.ones(40, int))
    np.testing.assert_allclose(one, hierarchy.linkage(points, method), atol=1e-9)
    found = agglomerate(pdist(points), method, sizes)
    repeated = hierarchy.linkage(points.repeat(sizes, axis=0), method)
    np.testing.assert_allclose(found[:, 2:], repeated[-39:, 2:], atol=1e-9)
    assert found[-1, 3] == sizes.sum()


@pytest.mark.parametrize("method", ["ward", "average", "complete"])
@pytest.mark.parametrize("count", [2, 3, 4, 300])
def test_merges_are_scipys(method: str, count: int):
    pairs = pdist(RNG.normal(size=(count, 5)))
    expected = hierarchy.linkage(pairs, method)
    np.testing.assert_allclose(agglomerate(pairs, method), expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["ward", "average", "complete"])
def test_equal_distances_are_merged_too(method: str):
    # A grid, each point twice: ties at every height.
    points = np.stack(np.meshgrid(*2 * [np.arange(5.0)]), axis=-1).reshape(-1, 2).repeat(2, axis=0)
    found = agglomerate(pdist(points), method)
    np.testing.assert_allclose(found[:, 2], hierarchy.linkage(points, method)[:, 2], atol=1e-9)
    assert found[-1, 3] == len(points) and (found[:25, 2] == 0).all()


def test_the_largest_cluster_comes_first():
    labels = cut(linkage(np.array([[0.0], [9], [9.1], [9.2], [5], [5.1]], np.float32), "average", "euclidean"), 3)
    assert labels.tolist() == [2, 0, 0, 0, 1, 1]


# Clusters of a store


def clustered(store: Store, settings: Clustering, persons: tuple[str, ...] = ()) -> Clustered:
    job = ClusterJob(store.folder, Path("clusters"), settings, persons)
    return cluster(store, choose_rows(store, job), settings)


@pytest.mark.parametrize("score", ["negative-euclidean", "cosine"])
@pytest.mark.parametrize("two_stage", [None, 12])
@pytest.mark.parametrize("method", ["ward", "average", "complete"])
def test_blobs_are_found(tmp_path: Path, score: str, two_stage: int | None, method: str):
    values, labels = blobs(score)
    whole = Store.open(write_store(tmp_path / "emb", values, [f"P{label}" for label in labels], score))
    found = clustered(whole, Clustering(n_clusters=4, linkage=method, two_stage=two_stage))
    assert found.agreement.rand == found.agreement.precision == found.agreement.recall == 1
    assert sorted(group.identity for group in found.groups) == ["P0", "P1", "P2", "P3"]
    metric = "cosine" if score == "cosine" else "euclidean"
    assert found.silhouette == pytest.approx(silhouette_score(values, labels, metric=metric), abs=1e-5)
    for centroid, group in zip(found.centroids, found.groups, strict=True):
        own = values[group.members].astype(np.float64)
        if score == "cosine":
            lengths = np.linalg.norm(own, axis=1)
            direction = (own / lengths[:, None]).mean(0)
            expected = direction / np.linalg.norm(direction) * lengths.mean()
        else:
            expected = own.mean(0)
        np.testing.assert_allclose(centroid, expected, rtol=1e-5, atol=1e-5)
        assert (np.diff(group.distances) >= 0).all()


def test_only_some_people(store):
    found = clustered(Store.open(store[0]), Clustering(n_clusters=2), persons=("P1", "P3"))
    assert found.templates == 30 and {group.identity for group in found.groups} == {"P1", "P3"}
    one = clustered(Store.open(store[0]), Clustering(n_clusters=1), persons=("P1",))
    assert one.silhouette is None and one.agreement is None and len(one.groups) == 1


def test_agreement_by_hand():
    # Cluster 0: a a b; cluster 1: b; one unknown takes no part.
    found = agreement(np.array([0, 0, 0, 1, 1]), ["a", "a", "b", "b", None])
    assert found.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert found.recall == pytest.approx((1 + 1 + 1 / 2 + 1 / 2) / 4)
    assert agreement(np.array([0, 1]), ["a", "a"]) is None


def test_everybody_alone_has_no_silhouette(store):
    found = clustered(Store.open(store[0]), Clustering(n_clusters=60))
    assert found.silhouette is None and all(len(group.members) == 1 for group in found.groups)


def test_too_many_for_memory_is_said_before(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(WouldNotFit, match=r"clustering 60 templates .*--two-stage"):
        clustered(Store.open(store[0]), Clustering(n_clusters=2))
    monkeypatch.undo()
    assert len(clustered(Store.open(store[0]), Clustering(n_clusters=2, two_stage=8)).groups) == 2


def test_too_many_small_clusters_are_said_before(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(WouldNotFit, match=r"merging 50 small clusters .*smaller --two-stage"):
        clustered(Store.open(store[0]), Clustering(n_clusters=2, two_stage=50))


def test_a_last_chunk_of_one_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("facedecode.templates.clustering.CHUNK", 16)
    values = np.concatenate([blobs()[0], blobs()[0][:5]])  # 65 = 4 · 16 + 1
    whole = Store.open(write_store(tmp_path / "emb", values, [None] * 65))
    assert len(clustered(whole, Clustering(n_clusters=4, two_stage=8)).groups) == 4
    same = Store.open(write_store(tmp_path / "same", np.ones((65, 3)), [None] * 65))
    with pytest.raises(BadInput, match="all 65 templates are the same"):
        clustered(same, Clustering(n_clusters=2, two_stage=8))


def test_nothing_to_tell_apart(tmp_path: Path):
    same = Store.open(write_store(tmp_path / "same", np.ones((5, 3)), ["P"] * 5))
    with pytest.raises(BadInput, match="all 5 templates are the same"):
        clustered(same, Clustering(n_clusters=2))
    lengths = np.random.default_rng(0).uniform(1, 3, (50, 1)).astype(np.float32) * np.ones((1, 3), np.float32) / 7
    one_way = Store.open(write_store(tmp_path / "one-way", lengths, ["P"] * 50, "cosine"))
    for two_stage in (None, 8):
        with pytest.raises(BadInput, match="all 50 templates are the same"):
            clustered(one_way, Clustering(n_clusters=2, two_stage=two_stage))
    zeros = np.eye(4)
    zeros[2] = 0
    none = Store.open(write_store(tmp_path / "zeros", zeros, ["P"] * 4, "cosine"))
    with pytest.raises(BadInput, match="zeros"):
        clustered(none, Clustering(n_clusters=2))
    assert len(clustered(none, Clustering(n_clusters=2, metric="euclidean")).groups) == 2
    one = Store.open(write_store(tmp_path / "one", np.ones((1, 3)), ["P"]))
    with pytest.raises(BadInput, match="one template"):
        clustered(one, Clustering(n_clusters=1))


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"n_clusters": 2, "distance_threshold": 1.0},
        {"n_clusters": 0},
        {"distance_threshold": 0.0},
        {"distance_threshold": float("nan")},
        {"n_clusters": 2, "linkage": "single"},
        {"n_clusters": 2, "metric": "manhattan"},
        {"n_clusters": 9, "two_stage": 8},
    ],
)
def test_what_makes_no_clustering(words: dict):
    with pytest.raises(UsageError):
        Clustering(**words)


# What clusters differ in: examples/fig14.py


def test_variance_between_clusters(script):
    fig14 = script("fig14")
    values, labels = RNG.normal(size=60) + np.repeat([0.0, 1, 3], 20), np.repeat([0, 1, 2], 20)
    f = f_oneway(*(values[labels == label] for label in range(3))).statistic
    assert fig14.explained(values, labels) == pytest.approx(2 * f / (2 * f + 57))
    assert fig14.explained(np.ones(60), labels) == 0
    found, chance, p, low, high, deviation = fig14.differences(values, labels, 200)
    assert found > 10 * chance and p == 1 / 201 and high - low > 2 and deviation == pytest.approx(values.std())
    noise = fig14.differences(RNG.normal(size=60), labels, 200)
    assert noise[1] == pytest.approx(2 / 59, rel=0.3) and noise[2] > 0.01


def test_difference_of_pictures(script):
    pictures = RNG.integers(0, 256, (5, 4, 4, 3), np.uint8)
    pairs = [((pictures[i] - pictures[j].astype(float)) ** 2).mean() for i in range(5) for j in range(i)]
    assert script("fig14").picture_difference(pictures) == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-6)


def test_small_clusters_are_left_out(script, tmp_path):
    path = tmp_path / "members.csv"
    path.write_text("group,row\n0,5\n0,3\n1,9\n2,4\n2,7\n")
    rows, labels, shown = script("fig14").members(path, 2)
    assert (rows.tolist(), labels.tolist(), shown.tolist()) == ([5, 3, 4, 7], [0, 0, 1, 1], [0, 2])
    with pytest.raises(BadInput, match="--least"):
        script("fig14").members(path, 3)


# The command


def call(*arguments: object):
    return CliRunner().invoke(app, ["cluster", "emb", "-o", "clusters", *map(str, arguments)])


def test_cluster_writes_a_store_tables_and_a_figure(tiny_store, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ["train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", "64"]
    assert CliRunner().invoke(app, train).exit_code == 0
    done = call("-k", 10, "--decoder", "ridge", "--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["sizes"] == [3] * 10 and metrics["persons"]["adjusted_rand"] == 1
    found = Store.open("clusters")
    assert len(found) == 10 and found.manifest.cluster["n_clusters"] == 10
    rows = list(csv.DictReader(Path("clusters/groups.csv").read_text().splitlines()))
    assert {row["count"] for row in rows} == {"3"} and {row["purity"] for row in rows} == {"1"}
    members = list(csv.DictReader(Path("clusters/members.csv").read_text().splitlines()))
    assert sorted(int(row["row"]) for row in members) == list(range(30))
    with Image.open("clusters/clusters.png") as picture:
        assert picture.width > 4 * 64 and picture.height >= 10 * 64
    before = {path.name: path.read_bytes() for path in Path("clusters").iterdir() if path.is_file()}
    assert call("-k", 10, "--decoder", "ridge").exit_code == 0
    assert before == {path.name: path.read_bytes() for path in Path("clusters").iterdir() if path.is_file()}
    monkeypatch.setattr("facedecode.templates.clustering.cluster", lambda *_: pytest.fail("the work is not to begin"))
    other = call("-k", 5, "--decoder", "ridge")
    assert other.exit_code == 4 and "other settings" in other.output


def test_what_cluster_refuses(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = {
        (): (2, "--n-clusters"),
        ("-k", 61): (4, "61 clusters of 60 templates"),
        ("-k", 0): (2, "1 or more"),
        ("-k", 2, "--person", "nobody"): (4, "--person nobody"),
        ("-k", 2, "--linkage", "single"): (2, "ward, average or complete"),
        ("-k", 2, "--decoder", "none.such"): (3, "none.such"),
    }
    for arguments, (code, said) in refused.items():
        done = call(*arguments)
        assert done.exit_code == code and said in done.output, (arguments, done.exit_code, done.output)
        assert not Path("clusters").exists()
    done = call("-k", 4)  # no decoder ships for made-up templates
    assert done.exit_code == 0 and "no figure" in done.output and Store.open("clusters").identities()
