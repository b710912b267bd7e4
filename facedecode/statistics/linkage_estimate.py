"""D_sys and maximal linkability of few people: without what small samples add, and how sure they are.

Both figures add up by how much a bin holds more mated than non-mated scores. Noise does that, too, so that the formula
gives more than the truth, the more so the nearer the truth is to 0. Four steps take that out:

1. Bins hold equal shares of an even mixture of mated and non-mated scores: 4 to 128, by an unbiased estimate of how
   well they predict which of the two a comparison is, with the noise between people (Stein's, as Mallows' Cp), and at
   most one for ten mated scores. So there are few where little is known, and many where linking is sharp.
2. The noise of the shares in the bins is known from the people: each one's own shares, drawn again.
3. Systems are considered in which the link is t times as strong as in the data: half of what mated and non-mated shares
   differ by, times t, is added to their mean for mated ones and taken from it for non-mated ones. t = 0: nothing links.
   With the noise each gives what the formula would find there. The estimate is the system whose median is what was
   found. The interval holds the systems in whose central 95 % it lies (Neyman's construction), so that 0 is in it as
   often as it says.
4. The noise is not the same in all of these systems: who is rarely linked, or rarely not, is rarely drawn. So the
   interval reaches at least as far as one whose variance moves with the figure as the third moment of the people's
   influence tells (for a share, that is Wilson's), and as far as people who are missing in the sample could move it.

A median has no bias where 0 is in reach, a mean has: where nothing links, the estimate is 0 or more, and 0 half of the
time at least. benchmarks/coverage_linkage.py measures all of this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedecode.statistics.bootstrap import Estimate, person_draws
from facedecode.statistics.intervals import unanimous
from facedecode.statistics.resampling import Drawn
from facedecode.statistics.unlinkability import SCORES_A_BIN, d_sys, likelier_mated, total_variation

_BINS = (4, 8, 16, 32, 64, 128)  # each divides the next, so that the finest ones are added up
_STRENGTHS = np.concatenate([np.linspace(0, 1.2, 25), np.linspace(1.3, 3, 9)])
_FIGURES = d_sys, total_variation


@dataclass(frozen=True)
class PersonScores:
    """Scores across keys, and whose they are.

    mated: (m,). owners: int (m,), the person of each, 0 to n - 1, everybody at least once; people weigh alike.
    non_mated: (c,). left, right: int (c,), both persons of each.
    """

    mated: np.ndarray
    owners: np.ndarray
    non_mated: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class _Shares:
    """Shares of mated and non-mated scores in the bins, (b,) each, and what each of n people adds: (n, b).

    A share with the people weighted by w (n,) is the share + w @ influence / n, as the influences add up to 0.
    """

    mated: np.ndarray
    non_mated: np.ndarray
    mated_influence: np.ndarray
    non_mated_influence: np.ndarray

    def coarser(self, bins: int) -> _Shares:
        """Neighboring bins added up."""
        return _Shares(
            *(
                part.reshape(*part.shape[:-1], bins, -1).sum(axis=-1)
                for part in (self.mated, self.non_mated, self.mated_influence, self.non_mated_influence)
            )
        )

    def risk(self) -> float:
        """Without bias how far these bins' LR is from the true one: the mean squared error, less a constant."""
        people, both = len(self.mated_influence), self.mated + self.non_mated
        local = likelier_mated(self.mated, self.non_mated)
        moved = self.mated_influence * (1 - local) - self.non_mated_influence * (1 + local)
        noise = np.divide(np.sum(moved**2, axis=0), both, out=np.zeros_like(both), where=both > 0)
        return float(np.sum(noise) / (people * (people - 1)) - np.sum(both * local**2) / 2)


def estimate_linkage(scores: PersonScores, level: float, *, repetitions: int, seed: int) -> tuple[Estimate, Estimate]:
    """D_sys and maximal linkability (bits) with their intervals, as the module says; n is the number of people.

    repetitions: draws of people from which the noise is known. Two people at least.
    """
    finest = _shares(scores)
    allowed = [bins for bins in _BINS if bins <= max(_BINS[0], len(scores.mated) // SCORES_A_BIN)]
    shares = min((finest.coarser(bins) for bins in allowed), key=_Shares.risk)
    people = len(shares.mated_influence)
    from scipy.special import ndtri, stdtrit  # of scikit-learn's dependencies; 0.1 s to import

    # By Student's t, as so few people tell the noise; and draws of people vary less than people by (n - 1) / n.
    deviate = float(stdtrit(people - 1, (1 + level) / 2))
    scale = deviate / float(ndtri((1 + level) / 2)) / np.sqrt(people * (people - 1))
    draws = Drawn(person_draws(people, repetitions, seed))
    noise = [draws.sums(part) * scale for part in (shares.mated_influence, shares.non_mated_influence)]
    mean, half = (shares.mated + shares.non_mated) / 2, (shares.mated - shares.non_mated) / 2
    silent = [np.zeros((1, len(mean)))] * 2

    def of_systems(noise: list[np.ndarray]) -> np.ndarray:
        """Both figures where the link is so many times as strong: (2, strengths, draws)."""
        return np.stack([_figures(mean + t * half + noise[0], mean - t * half + noise[1]) for t in _STRENGTHS], axis=1)

    tails = [0.5, (1 + level) / 2, (1 - level) / 2]
    found, truths = _figures(shares.mated, shares.non_mated), of_systems(silent)[..., 0]
    quantiles = np.quantile(of_systems(noise), tails, axis=-1)  # (3, 2, strengths)
    ends = [
        _interval(float(found[k]), truths[k], quantiles[:, k], influence, deviate, level)
        for k, influence in enumerate(_influences(shares))
    ]
    ends[1] = tuple(np.log2(1 + np.array(ends[1])).tolist())
    of_d_sys, bits = (Estimate(value, low, high, people) for value, low, high in ends)
    return of_d_sys, bits


def _shares(scores: PersonScores) -> _Shares:
    """In the finest bins."""
    people, bins = int(scores.owners.max()) + 1, _BINS[-1]
    weights = 1 / np.bincount(scores.owners)[scores.owners]
    every = np.concatenate([scores.mated, scores.non_mated])
    each = np.full(len(scores.non_mated), 1 / len(scores.non_mated))
    order = np.argsort(every, kind="stable")
    ranked, below = every[order], np.cumsum(np.concatenate([weights / people, each])[order]) / 2
    # Beside a sum that is a share but for rounding, the edge is after it.
    edges = ranked[np.minimum(np.searchsorted(below, np.arange(1, bins) / bins + 1e-9), len(every) - 1)]

    def counts(owners: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.bincount(owners * bins + places, minlength=people * bins).reshape(people, bins)

    mated = counts(scores.owners, np.searchsorted(edges, scores.mated, side="right"))
    mated = mated / mated.sum(axis=1, keepdims=True)
    places = np.searchsorted(edges, scores.non_mated, side="right")
    involved = counts(scores.left, places) + counts(scores.right, places)
    p, q = mated.mean(axis=0), np.bincount(places, minlength=bins) / len(places)
    # A comparison weighs the product of both weights: its two people move it by one of them each.
    return _Shares(p, q, mated - p, (involved - involved.sum(axis=1, keepdims=True) * q) * people / len(places))


def _figures(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D_sys and total variation of shares (…, b), of which noise may have made some negative: (2, …)."""
    p, q = (np.maximum(part, 0) for part in (p, q))
    p, q = (part / part.sum(axis=-1, keepdims=True) for part in (p, q))
    return np.stack([figure(p, q) for figure in _FIGURES])


def _influences(shares: _Shares) -> tuple[np.ndarray, np.ndarray]:
    """By how much each person moves D_sys and the total variation: the derivatives, (n,) each."""
    local = likelier_mated(shares.mated, shares.non_mated)
    on = local > 0
    return (
        shares.mated_influence @ np.where(on, 1 - (1 - local) ** 2 / 2, 0)
        - shares.non_mated_influence @ np.where(on, (1 + local) ** 2 / 2, 0),
        (shares.mated_influence - shares.non_mated_influence) @ on.astype(np.float64),
    )


def _interval(
    found: float, truths: np.ndarray, quantiles: np.ndarray, influence: np.ndarray, deviate: float, level: float
) -> tuple[float, float, float]:
    """The estimate and the ends of its interval.

    truths: (strengths,) of the systems, rising. quantiles: (3, strengths), the median and both ends of each.
    deviate: Student's, for so many people.
    """

    def system(quantile: np.ndarray) -> float:
        """The true figure of the system in which this quantile is what was found."""
        rising = np.maximum.accumulate(quantile)
        if found <= rising[0]:
            return 0.0
        return float(np.interp(np.interp(found, rising, _STRENGTHS), _STRENGTHS, truths))

    value, low, high = (system(quantile) for quantile in quantiles)
    people, spread = len(influence), float(np.sum(influence**2))
    if spread > 1e-24:
        # (θ - value)² = deviate² · (variance + slope · (θ - value))
        middle = deviate**2 * float(np.sum(influence**3)) / spread / people / 2
        reach = float(np.sqrt(middle**2 + deviate**2 * spread / (people * (people - 1))))
        low, high = low and min(low, value + middle - reach), max(high, value + middle + reach)
    missing = 1 - unanimous(people, level)
    low, high = low and min(low, value * (1 - missing)), max(high, value + (1 - value) * missing)
    return value, max(0.0, low), min(1.0, high)
