"""The replicates of a bootstrap and of a jackknife by person, all at once.

Comparisons stand in the order of falling scores, and a threshold accepts the first k of them. In a replicate a
comparison weighs as much as the replicate holds of the persons that it involves. What the first k weigh is asked for
at few k, so that only the sums of blocks are kept, and the rest of a block is added when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

_AT_ONCE = 256  # comparisons: products of 8 bits are summed in 16, and 255 · 256 < 2^16
_SMALLEST = 64  # comparisons in a block
_BLOCKS = 2048  # at most so many sums are kept of a replicate
_CELLS = 2**23  # numbers at once in a product of matrices: 64 MB


class Sums(Protocol):
    """What ranked comparisons weigh in each of r replicates."""

    def first(self, counts: np.ndarray) -> np.ndarray:
        """The weight of the first counts[k] comparisons in replicate k. Both (r,)."""

    def places(self, allowed: np.ndarray) -> np.ndarray:
        """How many comparisons can be accepted while they weigh at most allowed[k]. Both int (r,)."""


class Replicates(Protocol):
    """Weights of people in replicates; `todo`: int (r,), the replicates that are wanted."""

    def __len__(self) -> int: ...

    def trials(self, people: np.ndarray, base: np.ndarray, todo: np.ndarray) -> Sums:
        """Ranked comparisons with one person each, int (m,), that weigh `base` (m,) times that person's weight."""

    def pairs(self, left: np.ndarray, right: np.ndarray, todo: np.ndarray) -> Sums:
        """Ranked comparisons of two persons each, int (n,), that weigh the product of both weights. Exact."""

    def totals(self, total: Callable[[np.ndarray], int]) -> np.ndarray:
        """The weight of all non-mated pairs, int64 (replicates,); total: from weights of people (P,)."""


class Drawn:
    """Replicates in which people are drawn with replacement. draws: int (replicates, P), how often each is drawn."""

    def __init__(self, draws: np.ndarray) -> None:
        self._draws = draws

    def __len__(self) -> int:
        return len(self._draws)

    def trials(self, people: np.ndarray, base: np.ndarray, todo: np.ndarray) -> Sums:
        draws, size, persons = self._draws[todo], _block_size(len(people)), self._draws.shape[1]
        columns = np.ascontiguousarray(draws.T, dtype=np.float64)
        blocks = np.empty((-(-len(people) // size), len(draws)))
        step = max(1, _CELLS // persons)
        for start in range(0, len(blocks), step):
            part = slice(start * size, (start + step) * size)
            rows = len(blocks[start : start + step])
            cells = np.arange(len(people[part])) // size * persons + people[part]
            sums = np.bincount(cells, weights=base[part], minlength=rows * persons).reshape(rows, persons)
            blocks[start : start + rows] = sums @ columns
        return _BlockSums(blocks, size, len(people), lambda k, rows: base[rows] * draws[k, people[rows]])

    def pairs(self, left: np.ndarray, right: np.ndarray, todo: np.ndarray) -> Sums:
        draws, size = self._draws[todo], _block_size(len(left))
        largest = int(draws.max(initial=0)) ** 2
        kind, total = (np.uint8, np.uint16) if largest < 2**8 else (np.uint16, np.uint32)
        if largest >= 2**16:
            kind = total = np.int64
        # All replicates of a person lie together, so that memory is read in long rows: twenty times as fast as
        # the pairs of one replicate after the other.
        table = np.ascontiguousarray(draws.T, dtype=kind)
        blocks = np.zeros((-(-len(left) // size), len(draws)), dtype=np.int64)
        step = min(size, _AT_ONCE)
        x, y = np.empty((2, step, len(draws)), dtype=kind)
        for start in range(0, len(left), step):
            rows = slice(start, start + step)
            count = len(left[rows])
            np.take(table, left[rows], axis=0, mode="clip", out=x[:count])
            np.take(table, right[rows], axis=0, mode="clip", out=y[:count])
            np.multiply(x[:count], y[:count], out=x[:count])
            blocks[start // size] += np.add.reduce(x[:count], axis=0, dtype=total)
        return _BlockSums(blocks, size, len(left), lambda k, rows: draws[k, left[rows]] * draws[k, right[rows]])

    def totals(self, total: Callable[[np.ndarray], int]) -> np.ndarray:
        return np.array([total(weights) for weights in self._draws], dtype=np.int64)


class LeftOut:
    """Replicates of which the i-th leaves out person i of P, with every comparison that involves that person."""

    def __init__(self, people: int) -> None:
        self._people = people

    def __len__(self) -> int:
        return self._people

    def trials(self, people: np.ndarray, base: np.ndarray, todo: np.ndarray) -> Sums:
        return _OthersSums([people], base, self._people, todo)

    def pairs(self, left: np.ndarray, right: np.ndarray, todo: np.ndarray) -> Sums:
        return _OthersSums([left, right], np.ones(len(left), dtype=np.int64), self._people, todo)

    def totals(self, total: Callable[[np.ndarray], int]) -> np.ndarray:
        weights, found = np.ones(self._people, dtype=np.int64), []
        for person in range(self._people):
            weights[person] = 0
            found.append(total(weights))
            weights[person] = 1
        return np.array(found, dtype=np.int64)


class _BlockSums:
    def __init__(self, blocks: np.ndarray, size: int, count: int, weights: Callable) -> None:
        """blocks: sums of `size` of the `count` comparisons, (blocks, r); weights(replicates, places): the parts."""
        self._before = np.zeros((blocks.shape[1], len(blocks) + 1), dtype=blocks.dtype)
        np.cumsum(blocks.T, axis=1, out=self._before[:, 1:])
        self._size, self._count, self._weights = size, count, weights

    def first(self, counts: np.ndarray) -> np.ndarray:
        blocks = counts // self._size
        found = np.take_along_axis(self._before, blocks[:, None], axis=1)[:, 0]
        for rows, places, weights in self._inside(blocks):
            found[rows] += np.where(places < counts[rows, None], weights, 0).sum(axis=1)
        return found

    def places(self, allowed: np.ndarray) -> np.ndarray:
        blocks = np.count_nonzero(self._before <= allowed[:, None], axis=1) - 1
        left = allowed - np.take_along_axis(self._before, blocks[:, None], axis=1)[:, 0]
        found = np.minimum(blocks * self._size, self._count)
        for rows, places, weights in self._inside(blocks):
            fits = np.cumsum(weights, axis=1) <= left[rows, None]
            found[rows] += np.count_nonzero(fits & (places < self._count), axis=1)
        return found

    def _inside(self, blocks: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Some replicates at a time: the places in a block of each, and the weights of the comparisons there."""
        step = max(1, _CELLS // 8 // self._size)
        for start in range(0, len(blocks), step):
            rows = slice(start, start + step)
            places = blocks[rows, None] * self._size + np.arange(self._size)
            replicates = np.arange(start, start + len(places))[:, None]
            yield rows, places, self._weights(replicates, np.minimum(places, self._count - 1))


class _OthersSums:
    def __init__(self, sides: Sequence[np.ndarray], base: np.ndarray, persons: int, todo: np.ndarray) -> None:
        """sides: int (n,), the person or the two persons of each comparison."""
        # Numbers of 16 bits are sorted by radix, in a tenth of the time.
        owners = np.stack(sides, axis=1).ravel().astype(np.uint16 if persons < 2**16 else np.int64)
        order = np.argsort(owners, kind="stable")
        places, counts = order // len(sides), np.bincount(owners, minlength=persons)
        starts = np.cumsum(counts) - counts
        # One rising key for a person's comparisons: the person before the place.
        self._step = len(base) + 1
        self._keys = owners[order].astype(np.int64) * self._step + places
        # The person's k-th comparison has place - k others before it.
        self._others = self._keys - (np.arange(len(order)) - np.repeat(starts, counts))
        self._all = np.concatenate([[0], np.cumsum(base)])
        self._own = np.concatenate([[0], np.cumsum(base[places])])
        self._persons, self._starts = todo, starts[todo]

    def first(self, counts: np.ndarray) -> np.ndarray:
        ends = np.searchsorted(self._keys, self._persons * self._step + counts)
        return self._all[counts] - (self._own[ends] - self._own[self._starts])

    def places(self, allowed: np.ndarray) -> np.ndarray:
        """Where all comparisons weigh 1, as pairs do."""
        allowed = np.minimum(allowed, self._step - 1)
        own = np.searchsorted(self._others, self._persons * self._step + allowed, side="right") - self._starts
        return np.minimum(allowed + own, self._step - 1)


def _block_size(count: int) -> int:
    size = _SMALLEST
    while size * _BLOCKS < count:
        size *= 2
    return size
