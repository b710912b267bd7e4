"""Clusters of a store's templates, and the store of their centroids (the paper's § 4.4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facedecode.aggregation import template_distances
from facedecode.errors import BadInput, UsageError
from facedecode.grouped_store import Group, write_grouped
from facedecode.linkage import LINKAGES, agglomerate, condensed_distances, cut, linkage
from facedecode.memory import require_memory
from facedecode.protocols import select_people
from facedecode.store import Store
from facedecode.store_state import require_unprotected

METRICS = ("cosine", "euclidean")
_CHUNK = 16_384  # templates read at once
_PASSES = 3  # of mini-batch k-means over the templates
_SILHOUETTES = 20_000  # templates that a silhouette is computed of at most: its time grows with their square
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Clustering:
    """How to cluster.

    Attributes:
        n_clusters, distance_threshold: one of them: so many clusters, or no merge at that height or above.
        linkage: `ward`, `average` or `complete`.
        metric: `cosine` or `euclidean`; None for the one that the recognizer's score goes by. Ward's method with
            `cosine` takes the templates' directions and their Euclidean distances.
        two_stage: first so many small clusters by mini-batch k-means (Sculley 2010), then those are merged, each
            weighing as many templates as it has; None merges the templates themselves.
        seed: of k-means.

    Raises:
        UsageError: both or neither of the first two, numbers out of range, or an unknown word.
    """

    n_clusters: int | None = None
    distance_threshold: float | None = None
    linkage: str = "ward"
    metric: str | None = None
    two_stage: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise UsageError("give one of --n-clusters and --distance-threshold")
        if self.n_clusters is not None and self.n_clusters < 1:
            raise UsageError(f"--n-clusters {self.n_clusters}: give 1 or more")
        if self.distance_threshold is not None and not self.distance_threshold > 0:
            raise UsageError(f"--distance-threshold {self.distance_threshold}: give a number above 0")
        if self.linkage not in LINKAGES:
            raise UsageError(f"--linkage {self.linkage}: use one of {', '.join(LINKAGES)}")
        if self.metric not in (None, *METRICS):
            raise UsageError(f"--metric {self.metric}: use one of {', '.join(METRICS)}")
        if self.two_stage is not None and self.two_stage < max(2, self.n_clusters or 0):
            raise UsageError(f"--two-stage {self.two_stage}: give 2 or more, and no fewer than clusters")


@dataclass(frozen=True)
class Agreement:
    """How clusters agree with persons, of the templates whose person is known.

    rand: adjusted Rand index (Hubert and Arabie 1985). precision, recall: BCubed (Bagga and Baldwin 1998), the mean
    over templates of the share of its cluster that is of its person, and of its person that is in its cluster.
    """

    rand: float
    precision: float
    recall: float


@dataclass(frozen=True)
class Clustered:
    """Clusters, the largest first.

    Attributes:
        centroids: float32 (k, dim).
        groups: of each, its rows in the store (nearest to the centroid first), their distances and figures.
        templates: how many were clustered.
        silhouette: mean over templates (Rousseeuw 1987); None for one cluster, or where each is alone.
        agreement: None where fewer than two persons are known.
    """

    centroids: np.ndarray
    groups: list[Group]
    templates: int
    silhouette: float | None
    agreement: Agreement | None


def cluster_store(
    store: Store,
    wanted: Clustering,
    *,
    persons: Sequence[str] = (),
    people: Path | None = None,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> Clustered:
    """Cluster the templates of a store, or of some persons of it.

    A centroid is the mean of its members; with the cosine the mean of their directions, as long as they are on average.

    Args:
        persons: names; people: file with names; everybody if neither. exclude: people to leave out.
        progress: called with what is done, how much of it, and of how much.

    Raises:
        BadInput: nobody of that name, one template, all the same, fewer than clusters asked for, or with the cosine one
            of zeros.
        WouldNotFit: all pairs at once need more memory than there is.
    """
    require_unprotected(store)
    rows = _rows(store, persons, people, exclude)
    metric = wanted.metric or ("cosine" if store.manifest["score"] == "cosine" else "euclidean")
    if len(rows) < 2:
        raise BadInput(f"{store.folder}: one template makes no clusters; take more people")
    if (wanted.n_clusters or 1) > len(rows):
        raise BadInput(f"{store.folder}: {wanted.n_clusters} clusters of {len(rows)} templates; ask for fewer")
    say = progress or (lambda *_: None)
    if wanted.two_stage is None or wanted.two_stage >= len(rows):
        _require_memory(len(rows), store.dim)
        templates = store.take(rows)
        _require_directions(store, templates, metric)
        if (templates == templates[0]).all():
            raise _all_the_same(store, len(rows))
        say("merge", 0, 1)
        labels = cut(linkage(templates, wanted.linkage, metric), wanted.n_clusters, wanted.distance_threshold)
        say("merge", 1, 1)
    else:
        labels = _two_stages(store, rows, wanted, metric, say)
    return _described(store, rows, labels, metric, wanted.seed, say)


def write_clusters(store: Store, output: Path, wanted: Clustering, found: Clustered, overwrite: bool = False) -> None:
    """Write the store of the centroids; errors as of `grouped_store.write_grouped`."""
    rows = np.sort(np.concatenate([group.members for group in found.groups]))
    about = asdict(wanted) | {"templates_sha256": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()}
    write_grouped(store, output, found.centroids, found.groups, "cluster", about, overwrite=overwrite)


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


def _rows(store: Store, persons: Sequence[str], people: Path | None, exclude: Sequence[str]) -> np.ndarray:
    if persons and people:
        raise UsageError("give one of --person and --people")
    identities = store.identities()
    if unknown := sorted(set(persons) - set(identities)):
        raise BadInput(f"--person {unknown[0]}: nobody in {store.folder} has that name")
    rows = select_people(identities, people, tuple(exclude))
    return np.array([i for i in rows if not persons or identities[i] in persons], np.int64)


def _require_memory(count: int, dim: int) -> None:
    remedy = "merge small clusters instead by --two-stage 2000, or take fewer people with --people"
    require_memory(_needed(count, dim), f"clustering {count:,} templates by all pairs", remedy)


def _needed(count: int, dim: int) -> int:
    """Bytes that it takes to merge so many items: all pairs once, the items in float32 and float64, and some space."""
    return 8 * (count * (count - 1) // 2) + 12 * count * dim + (64 << 20)


def _require_directions(store: Store, templates: np.ndarray, metric: str) -> None:
    if metric == "cosine" and not templates.any(axis=1).all():
        raise BadInput(f"{store.folder}: a template of zeros has no direction; leave it out, or --metric euclidean")


def _all_the_same(store: Store, count: int) -> BadInput:
    return BadInput(f"{store.folder}: all {count} templates are the same; there is nothing to tell apart")


def _chunks(store: Store, rows: np.ndarray, size: int = _CHUNK) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        yield part, store.take(rows[part])


def _in_space(templates: np.ndarray, metric: str) -> np.ndarray:
    """Where the metric is a Euclidean distance, or rises with it: float32 (n, dim)."""
    return templates / np.linalg.norm(templates, axis=1, keepdims=True) if metric == "cosine" else templates


def _two_stages(store: Store, rows: np.ndarray, wanted: Clustering, metric: str, say: Progress) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    size = max(_CHUNK, 2 * wanted.two_stage)
    needed = _needed(wanted.two_stage, store.dim) + 16 * min(size, len(rows)) * store.dim
    require_memory(needed, f"merging {wanted.two_stage:,} small clusters", "give a smaller --two-stage")
    means = MiniBatchKMeans(wanted.two_stage, random_state=wanted.seed, n_init=1, reassignment_ratio=0.01)
    # Rows lie by name: a chunk of neighbors would be a few persons only.
    shuffled = np.random.default_rng(wanted.seed).permutation(rows)
    steps = -(-len(rows) // size)
    first, differ = store.take(rows[:1]), False
    for turn in range(_PASSES):
        for number, (_, templates) in enumerate(_chunks(store, shuffled, size)):
            _require_directions(store, templates, metric)
            differ = differ or bool((templates != first).any())
            if number == 0 or len(templates) >= wanted.two_stage:
                means.partial_fit(_in_space(templates, metric))
            say("k-means", turn * steps + number + 1, _PASSES * steps)
        if not differ:
            raise _all_the_same(store, len(rows))
    small = np.empty(len(rows), np.int64)
    sums, counts = np.zeros((wanted.two_stage, store.dim)), np.zeros(wanted.two_stage, np.int64)
    for part, templates in _chunks(store, rows):
        values = _in_space(templates, metric)
        small[part] = means.predict(values)
        np.add.at(sums, small[part], values)
        counts += np.bincount(small[part], minlength=wanted.two_stage)
    used = np.flatnonzero(counts)
    if len(used) < (wanted.n_clusters or 1):
        raise BadInput(
            f"{store.folder}: k-means found {len(used)} small clusters, and {wanted.n_clusters} are wanted; give a "
            "larger --two-stage"
        )
    centers = sums[used] / counts[used, None]
    if len(used) == 1:
        return np.zeros(len(rows), np.int64)
    # Ward's method counts squared distances, which are those of directions, whose mean is shorter than they are.
    by = "euclidean" if wanted.linkage == "ward" else metric
    merges = agglomerate(condensed_distances(centers, by), wanted.linkage, counts[used])
    labels = np.zeros(wanted.two_stage, np.int64)
    labels[used] = cut(merges, wanted.n_clusters, wanted.distance_threshold)
    return labels[small]


def _described(store: Store, rows: np.ndarray, labels: np.ndarray, metric: str, seed: int, say: Progress) -> Clustered:
    """Centroids, members and figures of clusters, the one with most templates first."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=count)
    order = np.argsort(-sizes, kind="stable")
    labels = np.argsort(order, kind="stable")[labels]
    sizes = sizes[order]
    sums, lengths = np.zeros((count, store.dim)), np.zeros(count)
    for part, templates in _chunks(store, rows):
        np.add.at(sums, labels[part], _in_space(templates, metric))
        np.add.at(lengths, labels[part], np.linalg.norm(templates, axis=1))
    centroids = sums / sizes[:, None]
    if metric == "cosine":
        norms = np.linalg.norm(centroids, axis=1)
        if not norms.all():
            raise BadInput(f"{store.folder}: the directions of a cluster cancel; take --metric euclidean")
        centroids *= (lengths / sizes / norms)[:, None]
    distances = np.empty(len(rows))
    kind = "cosine" if metric == "cosine" else "negative-euclidean"
    for part, templates in _chunks(store, rows):
        for label in np.unique(labels[part]):
            here = labels[part] == label
            distances[part][here] = template_distances(templates[here], centroids[label], kind)
    silhouettes = _silhouettes(store, rows, labels, metric, seed, say)
    identities = store.identities()
    names = [identities[i] for i in rows]
    groups = []
    for label in range(count):
        own = np.flatnonzero(labels == label)
        own = own[np.argsort(distances[own], kind="stable")]
        groups.append(
            Group(
                identity=_only([names[i] for i in own]),
                members=rows[own],
                distances=distances[own],
                figures={
                    "mean_distance": float(distances[own].mean()),
                    "silhouette": None if silhouettes is None else _mean(silhouettes[own]),
                    **_most([names[i] for i in own]),
                },
            )
        )
    mean = None if silhouettes is None else _mean(silhouettes)
    return Clustered(centroids.astype(np.float32), groups, len(rows), mean, agreement(labels, names))


def _silhouettes(
    store: Store, rows: np.ndarray, labels: np.ndarray, metric: str, seed: int, say: Progress
) -> np.ndarray | None:
    """Of each template, float64 (n,), NaN for those of a large store that are not in the sample."""
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    found = np.full(len(rows), np.nan)
    sample = np.arange(len(rows))
    if len(rows) > _SILHOUETTES:
        sample = np.sort(np.random.default_rng(seed).choice(len(rows), _SILHOUETTES, replace=False))
    if not 2 <= len(np.unique(labels[sample])) < len(sample):
        return None
    say("silhouettes", 0, 1)
    with config_context(working_memory=64):  # MiB, where it would take 1 GiB
        found[sample] = silhouette_samples(store.take(rows[sample]), labels[sample], metric=metric)
    say("silhouettes", 1, 1)
    return found


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _only(names: list[str | None]) -> str | None:
    return names[0] if len(set(names)) == 1 else None


def _most(names: list[str | None]) -> dict[str, str | float]:
    """The person with most members, and the share."""
    known = [name for name in names if name is not None]
    if not known:
        return {}
    found, counts = np.unique(known, return_counts=True)
    return {"most_frequent": str(found[counts.argmax()]), "purity": float(counts.max() / len(names))}
