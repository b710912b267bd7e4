"""Agglomerative clustering: who is merged with whom, at which height, and where to cut.

One stage uses SciPy's nearest-neighbor chain on all pairs. `weighted_linkage` is the same for items that stand for
several templates each, which SciPy's does not know.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.cluster import hierarchy
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facedecode.errors import UsageError

Linkage = Literal["ward", "average", "complete"]
LINKAGES = ("ward", "average", "complete")
_BLOCK = 1 << 20  # distances computed at once: 8 MiB


def condensed_distances(templates: np.ndarray, metric: str) -> np.ndarray:
    """Distances of all pairs, as `scipy.spatial.distance.pdist` orders them: float64 (n (n - 1) / 2,).

    By matrix products, a block of rows at a time: many times as fast as a pair at a time. Of two templates that are
    nearly the same, a Euclidean distance is right to about 1e-8 of their lengths.

    Args:
        templates: float32 (n, dim). metric: `euclidean`, or `cosine` (1 less the cosine).

    Raises:
        UsageError: an unknown metric.
    """
    if metric not in ("euclidean", "cosine"):
        raise UsageError(f"no distance is called {metric!r}: use euclidean or cosine")
    values = templates.astype(np.float64)
    count = len(values)
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", values, values)
    found = np.empty(count * (count - 1) // 2)
    rows = max(1, _BLOCK // count)
    space = np.empty(rows * count)
    for start in range(0, count - 1, rows):
        end = min(start + rows, count)
        block = space[: (end - start) * (count - start)].reshape(end - start, count - start)
        np.matmul(values[start:end], values[start:].T, out=block)
        if metric == "cosine":
            np.subtract(1, block, out=block)
        else:
            block *= -2
            block += squares[start:end, None]
            block += squares[start:]
            np.maximum(block, 0, out=block)
            np.sqrt(block, out=block)
        for row in range(start, end):
            first = row * (2 * count - row - 1) // 2
            found[first : first + count - row - 1] = block[row - start, row - start + 1 :]
    # 1 - cos of a template with itself may be a little below 0.
    return np.maximum(found, 0, out=found)


def linkage(templates: np.ndarray, method: Linkage, metric: str) -> np.ndarray:
    """The merges of templates (n, dim) float32, n ≥ 2: float64 (n - 1, 4), as SciPy's linkage matrix has them.

    Ward's method needs squared distances to be those of a space: with `cosine` it takes the templates' directions,
    vectors of length 1, and their Euclidean distances.
    """
    if method == "ward" and metric == "cosine":
        templates = templates / np.linalg.norm(templates, axis=1, keepdims=True)
        metric = "euclidean"
    return hierarchy.linkage(condensed_distances(templates, metric), method)


def weighted_linkage(distances: np.ndarray, sizes: np.ndarray, method: Linkage) -> np.ndarray:
    """The merges of items that stand for several templates each, as `linkage` gives them.

    By a nearest-neighbor chain with the update formulas of Lance and Williams (1967). With Ward's method it is what
    one gets of all templates themselves, once those of an item are merged; with the others it is so as far as the
    distance of two items is that of each of their templates.

    Args:
        distances: float64 (m, m), symmetric; Euclidean ones of the items' means for Ward's method.
        sizes: (m,), the templates of each item.

    Returns:
        float64 (m - 1, 4), heights rising; the last column counts templates.
    """
    count, counts = len(sizes), np.asarray(sizes)
    sizes = counts.astype(np.float64)
    work = distances.astype(np.float64)
    if method == "ward":
        # Of single points scipy's height is their distance: sqrt(2 a b / (a + b)) is 1 for two of size 1.
        work *= np.sqrt(2 * np.outer(sizes, sizes) / np.add.outer(sizes, sizes))
    np.fill_diagonal(work, np.inf)
    alive = np.ones(count, bool)
    merges, chain = [], []
    while len(merges) < count - 1:
        if not chain:
            chain.append(int(np.argmax(alive)))
        while True:
            here = chain[-1]
            near = int(np.argmin(work[here]))
            # Of equally near ones the last in the chain, or it would never end.
            if len(chain) > 1 and work[here, chain[-2]] <= work[here, near]:
                near = chain[-2]
                break
            chain.append(near)
        chain = chain[:-2]
        a, b = sorted((here, near))
        height = work[a, b]
        merges.append((a, b, height))
        work[b] = _joined(work, sizes, a, b, height, method)
        work[:, b] = work[b]
        work[b, b] = np.inf
        sizes[b] += sizes[a]
        alive[a] = False
        work[a] = work[:, a] = np.inf
    return _ordered(merges, counts)


def cut(merges: np.ndarray, n_clusters: int | None = None, distance_threshold: float | None = None) -> np.ndarray:
    """The clusters that merges leave: int64 (n,), numbered from 0, the largest first, of equal ones the first seen.

    Args:
        merges: (n - 1, 4). n_clusters: so many, 1 to n, exactly; or distance_threshold: without the merges at that
            height or above it.
    """
    count = len(merges) + 1
    if n_clusters is None:
        n_clusters = int(np.count_nonzero(merges[:, 2] >= distance_threshold)) + 1
    kept = merges[: count - n_clusters, :2].astype(np.int64)
    parents = np.repeat(np.arange(count, count + len(kept)), 2)
    nodes = count + len(kept)
    graph = coo_array((np.ones(kept.size, np.int8), (kept.ravel(), parents)), shape=(nodes, nodes))
    labels = connected_components(graph, directed=False)[1][:count]
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[inverse]


def _ordered(merges: list[tuple[int, int, float]], counts: np.ndarray) -> np.ndarray:
    """Merges by height, their clusters numbered as SciPy does: merge i makes number n + i.

    Each merge names an item of either cluster; the second's is an item of the union, too.
    """
    found = np.empty((len(merges), 4))
    size = counts.astype(np.float64)
    of_cluster, roots = np.arange(len(counts)), np.arange(len(counts))

    def root(item: int) -> int:
        while roots[item] != item:
            roots[item] = roots[roots[item]]
            item = roots[item]
        return int(item)

    # Stable: a merge never stands before those that it is made of, whose heights are not above its own.
    for i, j in enumerate(np.argsort([height for *_, height in merges], kind="stable")):
        a, b, height = merges[j]
        a, b = root(a), root(b)
        found[i] = *sorted((of_cluster[a], of_cluster[b])), height, size[a] + size[b]
        roots[a] = b
        size[b] += size[a]
        of_cluster[b] = len(counts) + i
    return found


def _joined(work: np.ndarray, sizes: np.ndarray, a: int, b: int, height: float, method: Linkage) -> np.ndarray:
    """Heights of everything with the union of two."""
    if method == "complete":
        return np.maximum(work[a], work[b])
    if method == "average":
        return (sizes[a] * work[a] + sizes[b] * work[b]) / (sizes[a] + sizes[b])
    total = sizes + sizes[a] + sizes[b]
    with np.errstate(invalid="ignore"):  # inf - inf of what is gone
        squares = (sizes + sizes[a]) * work[a] ** 2 + (sizes + sizes[b]) * work[b] ** 2 - sizes * height**2
    gone = np.isinf(work[a]) | np.isinf(work[b])
    return np.where(gone, np.inf, np.sqrt(np.maximum(squares, 0) / total))
