"""Agglomerative clustering: who is merged with whom, at which height, and where to cut.

A nearest-neighbor chain (Murtagh 1983, as Müllner 2011 has it) works in place on the distances of all pairs, each held
once: SciPy's, which gives the same merges, works on a copy of them, and does not know items that stand for several
templates each.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facedecode.errors import UsageError

Linkage = Literal["ward", "average", "complete"]
_BLOCK = 1 << 20  # distances computed at once: 8 MiB


def condensed_distances(templates: np.ndarray, metric: str) -> np.ndarray:
    """Distances of all pairs, as `scipy.spatial.distance.pdist` orders them: float64 (n (n - 1) / 2,).

    By matrix products, a block of rows at a time: many times as fast as a pair at a time. Of two templates that are
    nearly the same, a Euclidean distance is right to about 1e-8 of their lengths.

    templates: float32 (n, dim). metric: `euclidean`, or `cosine` (1 - cosine). Raises UsageError for another one.
    """
    if metric not in ("euclidean", "cosine"):
        raise UsageError(f"no distance is called {metric!r}: use euclidean or cosine")
    values = templates.astype(np.float64)
    count = len(values)
    if metric == "cosine":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", values, values)
    distances = np.empty(count * (count - 1) // 2)
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
            distances[first : first + count - row - 1] = block[row - start, row - start + 1 :]
    # 1 - cos of a template with itself may be a little below 0.
    return np.maximum(distances, 0, out=distances)


def linkage(templates: np.ndarray, method: Linkage, metric: str) -> np.ndarray:
    """The merges of templates (n, dim) float32, n ≥ 2: float64 (n - 1, 4), as SciPy's linkage matrix has them.

    Ward's method needs squared distances to be those of a space: with `cosine` it takes the templates' directions,
    vectors of length 1, and their Euclidean distances.
    """
    if method == "ward" and metric == "cosine":
        templates = templates / np.linalg.norm(templates, axis=1, keepdims=True)
        metric = "euclidean"
    return agglomerate(condensed_distances(templates, metric), method)


def agglomerate(distances: np.ndarray, method: Linkage, sizes: np.ndarray | None = None) -> np.ndarray:
    """The merges of items, as `linkage` gives them: float64 (m - 1, 4), heights rising, the last column in templates.

    The update formulas are those of Lance and Williams (1967). Where items stand for several templates, Ward's method
    gives the merges of all templates themselves, once those of an item are merged.

    distances: float64 (m (m - 1) / 2,), as `condensed_distances` gives them; overwritten. For Ward's method Euclidean
        ones, of the items' means.
    sizes: (m,), the templates of each item; None for one each.
    """
    count = (1 + math.isqrt(1 + 8 * len(distances))) // 2
    counts = np.ones(count, np.int64) if sizes is None else np.asarray(sizes)
    if method == "ward" and sizes is not None:
        _weigh(distances, counts.astype(np.float64))
    pairs = _Pairs(distances, counts.astype(np.float64))
    merges: list[tuple[int, int, float]] = []
    chain: list[int] = []
    while len(merges) < count - 1:
        if not chain:
            chain.append(int(pairs.alive.argmax()))
        while True:
            row = pairs.row(chain[-1])
            near = int(row.argmin())
            # Of equally near ones the last in the chain, or it would never end.
            if len(chain) > 1 and row[chain[-2]] <= row[near]:
                break
            chain.append(near)
        a, b = sorted((chain.pop(), chain.pop()))
        merges.append((int(pairs.names[a]), int(pairs.names[b]), pairs.join(a, b, method)))
        if pairs.sparse():
            places = pairs.compact()
            chain = [int(places[item]) for item in chain]
    return _ordered(merges, counts)


class _Pairs:
    """The distances of items that are merged, each pair once, in place; what is gone is passed over."""

    def __init__(self, distances: np.ndarray, sizes: np.ndarray) -> None:
        self._distances, self.sizes = distances, sizes
        # Of each place (m,): the item that stands there, and whether it is still there.
        self.names, self.alive = np.arange(len(sizes)), np.ones(len(sizes), bool)
        self._lay_out()

    def _lay_out(self) -> None:
        """Where a pair (i, j), i < j, lies: at `_starts[i] + j`."""
        places = np.arange(len(self.names))
        self._starts = places * (2 * len(places) - places - 3) // 2 - 1
        self._left = len(places)

    def row(self, item: int) -> np.ndarray:
        """Distances to all, float64 (m,), infinite to itself and to what is gone."""
        row = np.empty(len(self.names))
        self._distances.take(self._starts[:item] + item, out=row[:item], mode="clip")  # "raise" would buffer it
        row[item] = np.inf
        row[item + 1 :] = self._distances[self._after(item)]
        row[~self.alive] = np.inf
        return row

    def join(self, a: int, b: int, method: Linkage) -> float:
        """Merge two into the second, a < b; gives their height."""
        to_a, to_b = self.row(a), self.row(b)
        height = float(to_a[b])
        joined = _joined(to_a, to_b, height, self.sizes, self.sizes[a], self.sizes[b], method)
        self._distances[self._starts[:b] + b] = joined[:b]
        self._distances[self._after(b)] = joined[b + 1 :]
        self.sizes[b] += self.sizes[a]
        self.alive[a] = False
        self._left -= 1
        return height

    def sparse(self) -> bool:
        """Whether most are gone."""
        return 2 * self._left <= len(self.names) and self._left > 1

    def compact(self) -> np.ndarray:
        """Move what is left together; gives the new place of each, (m,)."""
        kept = np.flatnonzero(self.alive)
        end = 0
        for number, item in enumerate(kept[:-1]):
            # To the front of where it is: nothing that is still to be moved is overwritten.
            moved = self._distances[self._starts[item] + kept[number + 1 :]]
            self._distances[end : end + len(moved)] = moved
            end += len(moved)
        places = np.cumsum(self.alive) - 1
        self.names, self.sizes, self.alive = self.names[kept], self.sizes[kept], self.alive[kept]
        self._lay_out()
        return places

    def _after(self, item: int) -> slice:
        """Where the pairs of an item with those after it lie."""
        return slice(self._starts[item] + item + 1, self._starts[item] + len(self.names))


def _weigh(distances: np.ndarray, sizes: np.ndarray) -> None:
    """Ward's heights of items of these sizes: of two single templates it is their distance, as SciPy has it."""
    end = 0
    for item in range(len(sizes) - 1):
        start, end = end, end + len(sizes) - item - 1
        others = sizes[item + 1 :]
        distances[start:end] *= np.sqrt(2 * sizes[item] * others / (sizes[item] + others))


def cut(merges: np.ndarray, n_clusters: int | None = None, distance_threshold: float | None = None) -> np.ndarray:
    """The clusters that merges (n - 1, 4) leave: int64 (n,), numbered from 0, the largest first, then the first seen.

    n_clusters: exactly so many, 1 to n; or distance_threshold: without the merges at that height or above it.
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
    merged = np.empty((len(merges), 4))
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
        merged[i] = *sorted((of_cluster[a], of_cluster[b])), height, size[a] + size[b]
        roots[a] = b
        size[b] += size[a]
        of_cluster[b] = len(counts) + i
    return merged


def _joined(
    to_a: np.ndarray, to_b: np.ndarray, height: float, sizes: np.ndarray, a: float, b: float, method: Linkage
) -> np.ndarray:
    """Heights of everything with the union of two of sizes a and b, which merge at `height`; inf for what is gone."""
    if method == "complete":
        return np.maximum(to_a, to_b)
    if method == "average":
        return (a * to_a + b * to_b) / (a + b)
    with np.errstate(invalid="ignore"):  # of what is gone
        squares = ((sizes + a) * to_a**2 + (sizes + b) * to_b**2 - sizes * height**2) / (sizes + a + b)
        return np.sqrt(np.maximum(squares, 0))
