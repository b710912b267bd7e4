"""What clusters are: centroids, members, how tight they are, and how they agree with persons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.pictures.figures import picture_grid
from facedecode.progress import Stage, silent_stage
from facedecode.store import ImageFolder, Store
from facedecode.store.grouped import Group
from facedecode.store.images import read_portraits
from facedecode.templates.aggregation import template_distances

CHUNK = 16_384  # templates read at once
_SILHOUETTES = 20_000  # templates that a silhouette is computed of at most: its time grows with their square


@dataclass(frozen=True)
class Agreement:
    """How clusters agree with persons, over the templates with a known person.

    rand: adjusted Rand index (Hubert and Arabie 1985). precision, recall: BCubed (Bagga and Baldwin 1998).
    """

    rand: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Clustered:
    """Clusters, the largest first."""

    centroids: np.ndarray  # float32 (k, dim)
    groups: list[Group]  # of each, its rows in the store (nearest to the centroid first), distances and figures
    templates: int  # how many were clustered
    silhouette: float | None  # mean over templates (Rousseeuw 1987); None for one cluster, or where each is alone
    agreement: Agreement | None  # None where fewer than two persons are known


def agreement(labels: np.ndarray, identities: Sequence[str | None]) -> Agreement | None:
    """See `Agreement`; labels: int (n,)."""
    known = [i for i, name in enumerate(identities) if name is not None]
    persons = np.unique([identities[i] for i in known], return_inverse=True)[1] if known else np.empty(0, int)
    if len(set(persons.tolist())) < 2:
        return None
    from scipy.sparse import coo_array
    from sklearn.metrics import adjusted_rand_score

    labels = labels[known]
    table = coo_array((np.ones(len(known)), (labels, persons))).tocsr()
    squares = table.multiply(table)
    sizes, images = np.asarray(table.sum(axis=1)).ravel(), np.asarray(table.sum(axis=0)).ravel()
    rows, columns = squares.nonzero()
    both = np.asarray(squares[rows, columns]).ravel()
    precision, recall = (both / sizes[rows]).sum() / len(known), (both / images[columns]).sum() / len(known)
    return Agreement(float(adjusted_rand_score(persons, labels)), float(precision), float(recall))


def describe(
    store: Store, rows: np.ndarray, labels: np.ndarray, metric: str, seed: int = 0, stage: Stage = silent_stage
) -> Clustered:
    """Centroids, members and figures of clusters, the one with most templates first.

    rows: int64 (n,), of the store. labels: int64 (n,), clusters from 0.
    metric: `cosine` or `euclidean`. seed: of the sample that silhouettes are of in a large store.
    """
    count = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    labels = np.argsort(order, kind="stable")[labels]
    sizes = sizes[order]
    sums, lengths = np.zeros((count, store.dim)), np.zeros(count)
    for part, templates in chunks(store, rows):
        np.add.at(sums, labels[part], in_space(store, templates, metric))
        np.add.at(lengths, labels[part], np.linalg.norm(templates, axis=1))
    centroids = sums / sizes[:, None]
    if metric == "cosine":
        norms = np.linalg.norm(centroids, axis=1)
        if not norms.all():
            raise BadInput(f"{store.folder}: the directions of a cluster cancel; take --metric euclidean")
        centroids *= (lengths / sizes / norms)[:, None]
    distances = np.empty(len(rows))
    kind = "cosine" if metric == "cosine" else "negative-euclidean"
    for part, templates in chunks(store, rows):
        for label in np.unique(labels[part]):
            here = labels[part] == label
            distances[part][here] = template_distances(templates[here], centroids[label], kind)
    silhouettes = _silhouettes(store, rows, labels, metric, seed, stage)
    identities = store.identities()
    names = [identities[i] for i in rows]
    groups = []
    for label in range(count):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(distances[members], kind="stable")]
        persons = [names[i] for i in members]
        figures: dict[str, Any] = {"mean_distance": float(distances[members].mean())}
        figures["silhouette"] = None if silhouettes is None else _mean(silhouettes[members])
        only = persons[0] if len(set(persons)) == 1 else None
        groups.append(Group(only, rows[members], distances[members], figures | _most(persons)))
    mean = None if silhouettes is None else _mean(silhouettes)
    return Clustered(centroids.astype(np.float32), groups, len(rows), mean, agreement(labels, names))


def _silhouettes(
    store: Store, rows: np.ndarray, labels: np.ndarray, metric: str, seed: int, stage: Stage
) -> np.ndarray | None:
    """Of each template, float64 (n,), NaN for those of a large store that are not in the sample."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    silhouettes, progress = np.full(len(rows), np.nan), stage("silhouettes")
    sample = np.arange(len(rows))
    if len(rows) > _SILHOUETTES:
        sample = np.sort(np.random.default_rng(seed).choice(len(rows), _SILHOUETTES, replace=False))
    if not 2 <= len(np.unique(labels[sample])) < len(sample):
        return None
    with config_context(working_memory=64):  # MiB, where it would take 1 GiB
        progress(0, len(sample))
        silhouettes[sample] = silhouette_samples(store.take(rows[sample]), labels[sample], metric=metric)
    progress(len(sample), len(sample))
    return silhouettes


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _most(names: list[str | None]) -> dict[str, str | float]:
    """The person with most members, and the share."""
    known = [name for name in names if name is not None]
    if not known:
        return {}
    people, counts = np.unique(known, return_counts=True)
    return {"most_frequent": str(people[counts.argmax()]), "purity": float(counts.max() / len(names))}


def chunks(store: Store, rows: np.ndarray, size: int = CHUNK) -> Iterator[tuple[slice, np.ndarray]]:
    """Templates of some rows, a few at a time, and which of the rows they are."""
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        yield part, store.take(rows[part])


def in_space(store: Store, templates: np.ndarray, metric: str) -> np.ndarray:
    """Templates for which Euclidean distances order as the metric does, float32 (n, dim). BadInput: zeros."""
    if metric != "cosine":
        return templates
    if not templates.any(axis=1).all():
        raise BadInput(f"{store.folder}: a template of zeros has no direction; leave it out, or --metric euclidean")
    return templates / np.linalg.norm(templates, axis=1, keepdims=True)


SHOWN = 12  # clusters
MEMBERS = 8


def cluster_figure(clusters: Clustered, store: Store, root: ImageFolder, decoder: Decoder) -> np.ndarray:
    """A row for each cluster, the largest first: the decoder's picture of its centroid, and its members' portraits.

    root: of the store's images. Returns (H, W, 3) uint8. Raises BadInput: images are missing, or a member has none.
    """
    chosen = [group.members[:MEMBERS] for group in clusters.groups[:SHOWN]]
    decoder.check(store.take(np.concatenate(chosen)), store.folder, store.manifest)
    drawn = decoder.decode(clusters.centroids[:SHOWN], checked=True)
    side = drawn.shape[1]
    rows = store.rows()
    portraits = read_portraits(rows.take(np.concatenate(chosen)).to_pylist(), root, side)
    parts = np.split(portraits, np.cumsum([len(group) for group in chosen])[:-1])
    # A white picture sets the centroids off.
    gap = np.full((1, side, side // 8, 3), 255, np.uint8)
    lines = [np.concatenate([drawn[i], gap[0], *faces], axis=1)[None] for i, faces in enumerate(parts)]
    width = max(line.shape[2] for line in lines)
    lines = [np.pad(line, ((0, 0), (0, 0), (0, width - line.shape[2]), (0, 0)), constant_values=255) for line in lines]
    labels = [f"{len(group.members):,}" for group in clusters.groups[:SHOWN]]
    return picture_grid(lines, labels)
