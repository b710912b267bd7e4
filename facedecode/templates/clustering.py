"""Clusters of a store's templates, and the store of their centroids (the paper's § 4.4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput
from facedecode.memory import require_memory
from facedecode.progress import Stage, silent_stage
from facedecode.store import Store
from facedecode.store.grouped import grouped_writer, write_groups
from facedecode.store.processing import require_unprotected
from facedecode.templates.agglomerative import agglomerate, condensed_distances, cut, linkage
from facedecode.templates.cluster_description import CHUNK, Clustered, chunks, describe, in_space
from facedecode.templates.jobs import Clustering, ClusterJob

_PASSES = 3  # of mini-batch k-means over the templates
_ROUNDING = 1e-6  # of the largest number: what float32 leaves of equal directions


def make_clusters(job: ClusterJob, stage: Stage = silent_stage) -> Clustered:
    """Cluster the templates of a store, or of some persons of it, and write the store of the centroids.

    stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        BadInput: protected templates, nobody of that name, or as `cluster`.
        WouldNotFit: as `cluster`.
        OutputError, OutputInUse: see `grouped.grouped_writer`.
    """
    store = Store.open(job.store)
    require_unprotected(store)
    rows = choose_rows(store, job)
    about = asdict(job.clustering) | {"templates_sha256": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()}
    with grouped_writer(store, job.output, "cluster", about, job.overwrite) as writer:
        clusters = cluster(store, rows, job.clustering, stage)
        write_groups(writer, store, clusters.centroids, clusters.groups)
    return clusters


def cluster(store: Store, rows: np.ndarray, settings: Clustering, stage: Stage = silent_stage) -> Clustered:
    """Cluster some rows of a store, int64 (n,), rising.

    A centroid is the mean of its members; with the cosine the mean of their directions, as long as they are on average.

    Raises BadInput: one template, all the same, fewer than clusters asked for, or with the cosine one of zeros.
    WouldNotFit: all pairs at once need more memory than there is.
    """
    metric = settings.metric or ("cosine" if store.score == "cosine" else "euclidean")
    if len(rows) < 2:
        raise BadInput(f"{store.folder}: one template makes no clusters; take more people")
    if (settings.n_clusters or 1) > len(rows):
        raise BadInput(f"{store.folder}: {settings.n_clusters} clusters of {len(rows)} templates; ask for fewer")
    if settings.two_stage is None or settings.two_stage >= len(rows):
        labels = _one_stage(store, rows, settings, metric, stage)
    else:
        labels = _two_stages(store, rows, settings, metric, stage)
    return describe(store, rows, labels, metric, settings.seed, stage)


def choose_rows(store: Store, job: ClusterJob) -> np.ndarray:
    """The rows of some persons, or of those of a file, or all, less some: int64 (n,). Raises BadInput."""
    identities = store.identities()
    if unknown := sorted(set(job.persons) - set(identities)):
        raise BadInput(f"--person {unknown[0]}: nobody in {store.folder} has that name")
    rows = select_people(identities, job.people, tuple(job.exclude))
    return np.array([i for i in rows if not job.persons or identities[i] in job.persons], np.int64)


def _one_stage(store: Store, rows: np.ndarray, settings: Clustering, metric: str, stage: Stage) -> np.ndarray:
    remedy = "merge small clusters instead by --two-stage 2000, or take fewer people with --people"
    require_memory(_needed(len(rows), store.dim), f"clustering {len(rows):,} templates by all pairs", remedy)
    templates = store.take(rows)
    _require_spread(store, _spread(in_space(store, templates, metric)), len(rows))
    progress = stage("merge")
    progress(0, len(rows) - 1)
    merges = linkage(templates, settings.linkage, metric)
    progress(len(rows) - 1, len(rows) - 1)
    return cut(merges, settings.n_clusters, settings.distance_threshold)


def _needed(count: int, dim: int) -> int:
    """Bytes that it takes to merge so many items: all pairs once, the items in float32 and float64, and some space."""
    return 8 * (count * (count - 1) // 2) + 12 * count * dim + (64 << 20)


def _two_stages(store: Store, rows: np.ndarray, settings: Clustering, metric: str, stage: Stage) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    size = max(CHUNK, 2 * settings.two_stage)
    needed = _needed(settings.two_stage, store.dim) + 16 * min(size, len(rows)) * store.dim
    require_memory(needed, f"merging {settings.two_stage:,} small clusters", "give a smaller --two-stage")
    means = MiniBatchKMeans(settings.two_stage, random_state=settings.seed, n_init=1, reassignment_ratio=0.01)
    # Rows lie by name: a chunk of neighbors would be a few persons only.
    shuffled = np.random.default_rng(settings.seed).permutation(rows)
    steps = -(-len(rows) // size)
    progress, ends = stage("k-means"), []
    progress(0, _PASSES * steps)
    for turn in range(_PASSES):
        for number, (_, templates) in enumerate(chunks(store, shuffled, size)):
            values = in_space(store, templates, metric)
            if turn == 0:
                ends += _spread(values)
            if number == 0 or len(templates) >= settings.two_stage:
                means.partial_fit(values)
            progress(turn * steps + number + 1, _PASSES * steps)
        _require_spread(store, ends, len(rows))
    small = np.empty(len(rows), np.int64)
    sums, counts = np.zeros((settings.two_stage, store.dim)), np.zeros(settings.two_stage, np.int64)
    for part, templates in chunks(store, rows):
        values = in_space(store, templates, metric)
        small[part] = means.predict(values)
        np.add.at(sums, small[part], values)
        counts += np.bincount(small[part], minlength=settings.two_stage)
    used = np.flatnonzero(counts)
    if len(used) < (settings.n_clusters or 1):
        raise BadInput(
            f"{store.folder}: k-means found {len(used)} small clusters, and {settings.n_clusters} are wanted; give a "
            "larger --two-stage"
        )
    centers = sums[used] / counts[used, None]
    if len(used) == 1:
        return np.zeros(len(rows), np.int64)
    # Ward's method counts squared distances, which are those of directions, whose mean is shorter than they are.
    by = "euclidean" if settings.linkage == "ward" else metric
    merges = agglomerate(condensed_distances(centers, by), settings.linkage, counts[used])
    labels = np.zeros(settings.two_stage, np.int64)
    labels[used] = cut(merges, settings.n_clusters, settings.distance_threshold)
    return labels[small]


def _spread(values: np.ndarray) -> list[np.ndarray]:
    """The least and the greatest of each number of (n, dim)."""
    return [values.min(0), values.max(0)]


def _require_spread(store: Store, ends: Sequence[np.ndarray], count: int) -> None:
    """Refuse templates, or with the cosine directions, that differ by no more than rounding; ends: see `_spread`."""
    both = np.stack(ends).astype(np.float64)
    if (np.ptp(both, axis=0) <= _ROUNDING * np.abs(both).max()).all():
        raise BadInput(f"{store.folder}: all {count} templates are the same; there is nothing to tell apart")
