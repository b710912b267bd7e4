"""Non-mated scores, of which there can be millions, with the persons of those that a bootstrap needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from facedecode.errors import BadInput
from facedecode.memory import require_memory
from facedecode.statistics.scores import AllPairs

# A pair of those that a bootstrap looks at: its score, two persons, and what ranking and a jackknife take besides.
_BYTES_A_PAIR = 120


class NonMated:
    """Non-mated scores with the two persons of each, highest first, and only as deep as was needed so far.

    `from_pairs` takes any list of pairs; `from_all_pairs` the millions of pairs of a set, of which a low
    false accept rate needs only the top: the rest enters by its total weight, known from the images.
    """

    def __init__(self, scores: np.ndarray, persons: Callable, total: Callable) -> None:
        self.scores = scores
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
            which = np.searchsorted(starts, positions, side="right") - 1
            for k, (part, number) in enumerate(zip(parts, numbers, strict=True)):
                own = which == k
                both[:, own] = number[np.stack(part.persons(positions[own] - starts[k]))]
            return both[0], both[1]

        def total(weights: np.ndarray) -> int:
            return sum(part.total(weights[number]) for part, number in zip(parts, numbers, strict=True))

        return cls(np.concatenate([part.scores for part in parts]), persons, total)

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


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` highest scores are. Partitions values, which take less memory than their places."""
    if count == len(scores):
        return np.arange(count)
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > least)
    return np.concatenate([above, np.flatnonzero(scores == least)[: count - len(above)]])
