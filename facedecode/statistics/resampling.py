"""The replicates of a bootstrap and of a jackknife by person, all at once.

Comparisons stand in the order of falling scores, and a threshold accepts the first k of them. In a replicate a
comparison weighs as much as the replicate holds of the persons that it involves. What the first k weigh is asked for
at few k, so that only the sums of blocks are kept, and the rest of a block is added when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from facedecode.errors import BadInput
from facedecode.memory import require_memory
from facedecode.statistics.scores import AllPairs

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
    """Weights of P people in replicates; `todo`: int (r,), the replicates that are wanted."""

    def __len__(self) -> int: ...

    def weights(self) -> Iterator[np.ndarray]:
        """The weights themselves, some replicates at a time: float64 (some, P)."""

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The weighted sums over people: (P, k) → float64 (replicates, k)."""

    def person_pairs(self, left: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The weight of pairs of persons, each counted so often: three int (n,) → int64 (replicates,)."""

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

    def weights(self) -> Iterator[np.ndarray]:
        step = max(1, _CELLS // 8 // self._draws.shape[1])
        for start in range(0, len(self._draws), step):
            yield self._draws[start : start + step].astype(np.float64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        return np.concatenate([weights @ values for weights in self.weights()])

    def person_pairs(self, left: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.array([counts @ (weights[left] * weights[right]) for weights in self._draws], dtype=np.int64)

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

    def weights(self) -> Iterator[np.ndarray]:
        step = max(1, _CELLS // 8 // self._people)
        for start in range(0, self._people, step):
            persons = np.arange(start, min(start + step, self._people))
            weights = np.ones((len(persons), self._people))
            weights[np.arange(len(persons)), persons] = 0
            yield weights

    def sums(self, values: np.ndarray) -> np.ndarray:
        return values.sum(axis=0) - values

    def person_pairs(self, left: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
        involved = [np.bincount(side, weights=counts, minlength=self._people) for side in (left, right)]
        return counts.sum() - np.sum(involved, axis=0).astype(np.int64)

    def trials(self, people: np.ndarray, base: np.ndarray, todo: np.ndarray) -> Sums:
        return _OthersSums([people], base, self._people, todo)

    def pairs(self, left: np.ndarray, right: np.ndarray, todo: np.ndarray) -> Sums:
        return _OthersSums([left, right], np.ones(len(left), dtype=np.int64), self._people, todo)

    def totals(self, total: Callable[[np.ndarray], int]) -> np.ndarray:
        weights, totals = np.ones(self._people, dtype=np.int64), np.empty(self._people, dtype=np.int64)
        for person in range(self._people):
            weights[person] = 0
            totals[person] = total(weights)
            weights[person] = 1
        return totals


class _BlockSums:
    def __init__(self, blocks: np.ndarray, size: int, count: int, weights: Callable) -> None:
        """blocks: sums of `size` of the `count` comparisons, (blocks, r); weights(replicates, places): the parts."""
        self._before = np.zeros((blocks.shape[1], len(blocks) + 1), dtype=blocks.dtype)
        np.cumsum(blocks.T, axis=1, out=self._before[:, 1:])
        self._size, self._count, self._weights = size, count, weights

    def first(self, counts: np.ndarray) -> np.ndarray:
        blocks = counts // self._size
        sums = np.take_along_axis(self._before, blocks[:, None], axis=1)[:, 0]
        for rows, places, weights in self._inside(blocks):
            sums[rows] += np.where(places < counts[rows, None], weights, 0).sum(axis=1)
        return sums

    def places(self, allowed: np.ndarray) -> np.ndarray:
        blocks = np.count_nonzero(self._before <= allowed[:, None], axis=1) - 1
        left = allowed - np.take_along_axis(self._before, blocks[:, None], axis=1)[:, 0]
        counts = np.minimum(blocks * self._size, self._count)
        for rows, places, weights in self._inside(blocks):
            fits = np.cumsum(weights, axis=1) <= left[rows, None]
            counts[rows] += np.count_nonzero(fits & (places < self._count), axis=1)
        return counts

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
        self._of_persons = np.concatenate([[0], np.cumsum(base[places])])
        self._persons, self._starts = todo, starts[todo]

    def first(self, counts: np.ndarray) -> np.ndarray:
        ends = np.searchsorted(self._keys, self._persons * self._step + counts)
        return self._all[counts] - (self._of_persons[ends] - self._of_persons[self._starts])

    def places(self, allowed: np.ndarray) -> np.ndarray:
        """Where all comparisons weigh 1, as pairs do."""
        allowed = np.minimum(allowed, self._step - 1)
        left_out = np.searchsorted(self._others, self._persons * self._step + allowed, side="right") - self._starts
        return np.minimum(allowed + left_out, self._step - 1)


def _block_size(count: int) -> int:
    size = _SMALLEST
    while size * _BLOCKS < count:
        size *= 2
    return size


# A pair of those that a bootstrap looks at: its score, two persons, and what ranking and a jackknife take besides.
_BYTES_A_PAIR = 120


_FEWEST_GROUPS = 50  # of people without pairs between groups, effectively (Kish), for groups to be drawn again


class NonMated:
    """Non-mated scores with the two persons of each, highest first, and only as deep as was needed so far.

    `from_pairs` takes any list of pairs; `from_all_pairs` the millions of pairs of a set, of which a low
    false match rate needs only the top: the rest enters by its total weight, known from the images.
    """

    def __init__(
        self, scores: np.ndarray, persons: Callable, total: Callable, owned: bool = False, listed: bool = False
    ) -> None:
        """owned: each pair belongs to one of the people, given as both its persons, and weighs what that one does.

        listed: made of a list of pairs, of which people may have few.
        """
        self.scores, self.owned, self._listed = scores, owned, listed
        self.total = total  # weights of people (P,) -> weight of all pairs
        self.persons = persons  # positions -> the persons (left, right) of those pairs
        self._top: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @classmethod
    def from_pairs(cls, scores: np.ndarray, left: np.ndarray, right: np.ndarray) -> NonMated:
        """scores (n,); left, right: int (n,), the persons of each pair."""
        scores, left, right = np.asarray(scores), np.asarray(left), np.asarray(right)
        if not scores.shape == left.shape == right.shape:
            raise BadInput("non-mated scores and their persons differ in length.")
        return cls(
            scores,
            persons=lambda positions: (left[positions], right[positions]),
            total=lambda weights: int(weights[left] @ weights[right]),
            listed=True,
        )

    @classmethod
    def from_all_pairs(cls, pairs: AllPairs) -> NonMated:
        """The non-mated pairs of `scores.mated_non_mated_scores`."""
        people = len(pairs.people)
        left_images = np.bincount(pairs.left_codes, minlength=people)
        right_images = np.bincount(pairs.right_codes, minlength=people)

        def persons(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            left, right = pairs.non_mated_rows(positions)
            return pairs.left_codes[left], pairs.right_codes[right]

        def total(weights: np.ndarray) -> int:
            left, right = left_images * weights, right_images * weights
            both = int(left.sum()) * int(right.sum()) - int(left @ right)
            return both // 2 if pairs.square else both

        return cls(pairs.non_mated, persons, total)

    @classmethod
    def joined(cls, parts: Sequence[NonMated], numbers: Sequence[np.ndarray]) -> NonMated:
        """The pairs of several sets, nobody of one compared with anybody of another.

        numbers: for each part int (people of the part,), the number of each of its persons among all.
        """
        starts = np.cumsum([0, *(len(part.scores) for part in parts)])

        def persons(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            positions = np.asarray(positions)
            both = np.empty((2, len(positions)), dtype=np.int64)
            part_of = np.searchsorted(starts, positions, side="right") - 1
            for k, (part, number) in enumerate(zip(parts, numbers, strict=True)):
                inside = part_of == k
                both[:, inside] = number[np.stack(part.persons(positions[inside] - starts[k]))]
            return both[0], both[1]

        def total(weights: np.ndarray) -> int:
            return sum(part.total(weights[number]) for part, number in zip(parts, numbers, strict=True))

        return cls(np.concatenate([part.scores for part in parts]), persons, total)

    def independent(self, people: int) -> tuple[NonMated, np.ndarray, int]:
        """These pairs with the units that are drawn again for intervals, the unit of each person, and their number.

        Units are people. Where pairs are listed, and few of any person, they are groups of people who have no pair with
        people of other groups, and pairs are owned by their group: products of two people's draws vary three times as
        much as pairs do that have nobody in common.
        """
        if self._listed:
            left, right = self.persons(np.arange(len(self.scores)))
            groups = groups_of_people(left, right, people)
            if groups is not None:
                own = groups[left]
                counts = np.bincount(own, minlength=int(groups.max()) + 1)
                persons, total = lambda places: (own[places],) * 2, lambda weights: int(counts @ weights)
                return NonMated(self.scores, persons, total, owned=True), groups, len(counts)
        return self, np.arange(people), people

    def sums(self, replicates: Replicates, left: np.ndarray, right: np.ndarray, todo: np.ndarray) -> Sums:
        """What ranked pairs weigh, from their persons."""
        if self.owned:
            return replicates.trials(left, np.ones(len(left), dtype=np.int64), todo)
        return replicates.pairs(left, right, todo)

    def top(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At least the `count` highest scores, falling, and their persons (left, right); kept for later.

        WouldNotFit where a bootstrap over so many would not fit in memory.
        """
        count = min(count, len(self.scores))
        if self._top is None or len(self._top[0]) < count:
            require_memory(
                _BYTES_A_PAIR * count,
                f"a bootstrap over the {count:,} highest of {len(self.scores):,} non-mated scores",
                "take fewer people with --people, or finer rates",
            )
            places = _highest(self.scores, count)
            places = places[np.argsort(-self.scores[places], kind="stable")]
            left, right = self.persons(places)
            self._top = self.scores[places], left.astype(np.intp), right.astype(np.intp)
        return self._top


def groups_of_people(left: np.ndarray, right: np.ndarray, people: int) -> np.ndarray | None:
    """The group of each person, of people who have pairs with one another, directly or through others: int (people,).

    left, right: int (n,), the persons of each pair. None where hardly any groups have nearly all pairs.
    """
    from scipy.sparse import coo_array  # 0.1 s to import
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(people, people))
    groups = connected_components(graph, directed=False)[1]
    pairs = np.bincount(groups[left]).astype(np.float64)
    return groups if pairs.sum() ** 2 >= _FEWEST_GROUPS * np.sum(pairs**2) else None


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest scores are. Partitions values, which take less memory than their places."""
    if count == len(scores):
        return np.arange(count)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > least)
    return np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]])
