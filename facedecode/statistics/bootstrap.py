"""Figures of people's images or comparisons, with intervals by person.

Images of one person are not independent, so people are drawn again. A replicate draws as many people as there are, with
replacement; person i weighs w_i, the number of times that they were drawn.

Every interval is made in one way. `resample` takes a figure of weighted people (see `resampling.Replicates`) and
returns a `Resampled`: the value, its replicates, and the values without each person. `pair_rates` returns the same for
rates of pairs. `Resampled.estimate` adds the interval (see `intervals.corrected`); `less` and `over` pair two figures
of the same replicates. benchmarks/bootstrap_coverage.py measures how often intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.statistics.intervals import LEVEL, corrected, unseen_share, with_unseen
from facedecode.statistics.resampling import Drawn, LeftOut, Replicates
from facedecode.statistics.scores import encode_people

REPETITIONS = 1000
RATE = (0.0, 1.0)  # what a person can bring to a share of successes
FEWEST_EFFECTIVE = 50  # people behind an interval; benchmarks/bootstrap_coverage.py says what fewer do to it
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval. low and high are None where too few people stand behind it: `Resampled.supported`."""

    value: float
    low: float | None
    high: float | None
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """The fields as plain numbers; one that is not finite becomes None (JSON has no NaN)."""
        return {name: x if x is not None and np.isfinite(x) else None for name, x in self._fields().items()}

    def _fields(self) -> dict[str, float | int | None]:
        return asdict(self)


@dataclass(frozen=True)
class Resampled:
    """A figure, and what other draws of people make of it.

    value: in the data; NaN or infinite where it has none.
    drawn: float64 (repetitions,), in each replicate of a bootstrap by person; NaN where there is none.
    left_out: float64 (people,), without each person; NaN where nothing is left.
    shares: (people,), what each person weighs in it; 0 for a person who plays no part.
    n: the number of images, comparisons or people behind it.
    bounds: of what one person can bring to it: (0, 1) for a rate, (-1, 1) for a difference of rates; None for others.
    each_of: how many people a comparison is of: 2 for a rate of non-mated pairs.
    unseen: the share of people that the sample may lack, where it is not `unseen_share` of everybody.
    """

    value: float
    drawn: np.ndarray
    left_out: np.ndarray
    shares: np.ndarray
    n: int
    bounds: tuple[float, float] | None = None
    each_of: int = 1
    unseen: float | None = None

    @classmethod
    def each(
        cls,
        parts: Sequence[np.ndarray],
        shares: np.ndarray,
        n: int | Sequence[int],
        is_rate: bool = False,
        each_of: int = 1,
    ) -> list[Resampled]:
        """Several figures, from their values (1, k), (repetitions, k) and (people, k).

        shares: (people,), or (people, k) where they differ. n: of all figures, or of each.
        """
        whole, drawn, left_out = parts
        shares = np.broadcast_to(shares.reshape(len(left_out), -1), left_out.shape)
        counts = np.broadcast_to(n, whole.shape[1])
        return [
            cls(
                float(whole[0, k]),
                drawn[:, k],
                left_out[:, k],
                shares[:, k],
                int(counts[k]),
                RATE if is_rate else None,
                each_of,
            )
            for k in range(whole.shape[1])
        ]

    def estimate(self, level: float = LEVEL) -> Estimate:
        """The figure with its interval, of which an end is None where it is infinite.

        There is no interval where the figure is not `supported`, nor where it is not finite.
        """
        return Estimate(self.value, *self._interval(level), self.n)

    def less(self, other: Resampled, level: float = LEVEL) -> Estimate:
        """This figure less another of the same people and replicates."""
        return self._paired(other, np.subtract).estimate(level)

    def over(self, other: Resampled) -> Resampled:
        """The ratio of this figure to another of the same people and replicates."""
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is no number, and more than 0 / 0 infinite
            return self._paired(other, np.divide)

    def _paired(self, other: Resampled, of: Callable) -> Resampled:
        value = float(of(np.float64(self.value), other.value))
        drawn, left_out = of(self.drawn, other.drawn), of(self.left_out, other.left_out)
        shares = (self.shares + other.shares) * (self.supported and other.supported)
        bounds = None
        if of is np.subtract and self.bounds and other.bounds:
            bounds = self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]
        unseen = None if self.unseen is None or other.unseen is None else max(self.unseen, other.unseen)
        return Resampled(value, drawn, left_out, shares, self.n, bounds, self.each_of, unseen)

    @property
    def is_rate(self) -> bool:
        """Whether it is a share of successes."""
        return self.bounds == RATE

    @property
    def supported(self) -> bool:
        """Whether people can say how sure the figure is: two can be left out, and no few of many have nearly all.

        What a few heavy people weigh in a figure says hardly anything of others like them; see `FEWEST_EFFECTIVE`.
        """
        there = self.shares[(self.shares > 0) & ~np.isnan(self.left_out)]
        return len(there) > 1 and effective_number(there) >= min(FEWEST_EFFECTIVE, len(there) / 2)

    def _interval(self, level: float) -> tuple[float | None, float | None]:
        if not self.supported or not np.isfinite(self.value):
            return None, None
        low, high = corrected(self.value, self.drawn, self.left_out, level)
        if self.bounds is not None:
            inside = self.value if low is None else low, self.value if high is None else high
            missing = self._unseen_share(level) if self.unseen is None else self.unseen
            low, high = with_unseen(self.value, inside, self.bounds, missing)
        low, high = (end if end is not None and np.isfinite(end) else None for end in (low, high))
        return low, high

    def _unseen_share(self, level: float) -> float:
        """`unseen_share` of the people (or pairs of people), of whom those are unlike who have not the usual value."""
        there = (self.shares > 0) & ~np.isnan(self.left_out)
        shares, left_out = self.shares[there].astype(np.float64), self.left_out[there]
        others = shares.sum() / self.each_of - shares
        own = self.value + others * (self.value - left_out) / shares
        unlike = int(np.count_nonzero(np.abs(own - np.median(own)) > _ROUNDING))
        units = int(np.count_nonzero(self.shares > 0))
        units = min(math.comb(units, 2), self.n) if self.each_of == 2 else units  # not all pairs may be compared
        return unseen_share(units, -(-unlike // self.each_of), level)


def effective_number(shares: np.ndarray) -> float:
    """How many people of equal shares would vary as much: Kish's (sum of shares)² / sum of shares²."""
    shares = np.asarray(shares, np.float64)
    return float(shares.sum() ** 2 / np.sum(shares**2))


@lru_cache(maxsize=1)  # all figures of an evaluation share the draws, and drawing takes longer than most figures
def person_draws(people: int, repetitions: int = REPETITIONS, seed: int = 0) -> np.ndarray:
    """How often each person is drawn in each replicate: int64 (repetitions, people), read-only; rows sum to people."""
    if people < 1 or repetitions < 1:
        raise UsageError("a bootstrap needs at least one person and one repetition.")
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=repetitions)
    draws.flags.writeable = False
    return draws


def replicates_of(people: int, repetitions: int = REPETITIONS, seed: int = 0) -> tuple[Drawn, Drawn, LeftOut]:
    """The weights of people in the data (all 1), in the replicates of a bootstrap, and without each person."""
    whole = Drawn(np.ones((1, people), dtype=np.int64))
    return whole, Drawn(person_draws(people, repetitions, seed)), LeftOut(people)


def resample(
    figure: Callable[[Replicates], np.ndarray],
    shares: np.ndarray,
    n: int | Sequence[int],
    is_rate: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    each_of: int = 1,
) -> list[Resampled]:
    """A figure of weighted people, or k of them.

    figure: replicates → float64 (replicates,) or (replicates, k), NaN where there is none; asked for the data, too.
    shares, n, is_rate, each_of: as of `Resampled.each`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left, figures are NaN
        values = [np.asarray(figure(part)) for part in replicates_of(len(shares), repetitions, seed)]
    return Resampled.each([value.reshape(len(value), -1) for value in values], shares, n, is_rate, each_of)


def person_sums(values: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Sums over each person's images, (n, k) → float64 (people, k), people by name. BadInput for other lengths."""
    names, codes = encode_people(identities)
    if len(values) != len(codes):
        raise BadInput(f"{len(values)} values for {len(codes)} identities: give one a row.")
    return np.stack([np.bincount(codes, column, len(names)) for column in values.T.astype(np.float64)], axis=1)


def mean_interval(
    values: np.ndarray,
    identities: Sequence[str],
    *,
    person_weighted: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean of one value an image, (n,) finite, and its interval by person.

    values: bool for a rate, whose interval keeps a width where all are alike. person_weighted: the mean over a
    person's images first. n is the number of values, or then of people.
    """
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise BadInput("a mean needs finite values: leave out the others first, and count them.")
    sums = person_sums(np.stack([values, np.ones(values.shape)], axis=-1), identities)
    if person_weighted:
        sums = sums / sums[:, 1:]
    n = int(sums[:, 1].sum())
    return resample(_ratio_of(sums), sums[:, 1], n, values.dtype == bool, repetitions, seed)[0].estimate(level)


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    identities: Sequence[str],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The ratio of two means over the same images, each (n,), and its interval by person; n images.

    NaN (None in JSON) where the denominators are all zero.
    """
    sums = person_sums(np.stack([numerators, denominators, np.ones(len(denominators))], axis=1), identities)
    (ratio,) = resample(_ratio_of(sums[:, :2]), sums[:, 2], len(numerators), False, repetitions, seed)
    return ratio.estimate(level)


def _ratio_of(sums: np.ndarray) -> Callable[[Replicates], np.ndarray]:
    """The ratio of two weighted sums over people: (people, 2)."""

    def figure(people: Replicates) -> np.ndarray:
        numerators, denominators = people.sums(sums).T
        return numerators / denominators

    return figure
