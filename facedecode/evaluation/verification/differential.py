"""Differential performance: error rates of groups of people at one threshold for all (ISO/IEC 19795-10's question).

The threshold of a false match rate is set on everybody's non-mated pairs, anew in each replicate of the bootstrap and
without each person in the jackknife. A group's FNMR is that of its people's mated pairs, its FMR that of non-mated
pairs with both people in the group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.annotations.labels import PersonLabels
from facedecode.errors import BadInput
from facedecode.evaluation.trials import Comparisons
from facedecode.statistics.bootstrap import (
    LEVEL,
    REPETITIONS,
    Estimate,
    NonMated,
    Trials,
    left_out_thresholds,
    person_draws,
    replicate_thresholds,
)
from facedecode.statistics.fixed_threshold import share_interval, shares_of
from facedecode.statistics.intervals import corrected, percentiles
from facedecode.statistics.resampling import Drawn, LeftOut, Replicates
from facedecode.statistics.verification import thresholds_at_fmr


@dataclass(frozen=True)
class GroupRates:
    """A group's rates at the overall threshold for one FMR; None where it has no such pairs.

    group: None for the pairs of two people of different groups, which have an FMR only.
    fnmr: every pair counting alike; fnmr_by_person: every person with mated pairs (n: those people).
    """

    group: str | None
    fnmr: Estimate | None
    fnmr_by_person: Estimate | None
    false_rejects: int
    mated: int
    fmr: Estimate | None
    false_accepts: int
    non_mated: int


@dataclass(frozen=True)
class Ratio:
    """The worst group's rate over the best group's, those two being the ones that the data show.

    figure: NaN where the best group has no error; an end of its interval is None where that is infinite. n: groups.
    """

    rate: str
    worst: str
    best: str
    figure: Estimate


@dataclass(frozen=True)
class GroupPoint:
    """The groups at one FMR: rates of the groups in their order, of the pairs across groups, and ratios."""

    fmr_wanted: float
    threshold: float
    groups: list[GroupRates]
    across: GroupRates
    ratios: list[Ratio]


@dataclass(frozen=True)
class Differential:
    """Differential performance by a label.

    people, images: how many each group has. unlabelled_people: those who take part in no group.
    """

    column: str
    people: dict[str, int]
    images: dict[str, int]
    unlabelled_people: int
    points: list[GroupPoint]


def differential_rates(
    comparisons: Comparisons,
    labels: PersonLabels,
    fmrs: Sequence[float],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Differential:
    """Rates of each group of people, with intervals by person.

    Raises:
        BadInput: fewer than two groups among the people compared, or as in `verification.thresholds_at_fmr`.
    """
    people = comparisons.people
    known = sorted({labels.of[name] for name in people if name in labels.of})
    if len(known) < 2:
        found = f"only {known[0]!r}" if known else "nobody"
        raise BadInput(f"label {labels.column!r}: {found} among the people compared; two groups are needed")
    group_of = np.array([known.index(labels.of[name]) if name in labels.of else -1 for name in people])
    thresholds = thresholds_at_fmr(comparisons.non_mated.scores, fmrs)
    resampled = _Resampled.of(comparisons, thresholds, fmrs, person_draws(len(people), repetitions, seed))
    groups = [group_of == k for k in range(len(known))]
    fmr = _false_matches(comparisons.non_mated, groups, resampled)
    fnmr, fnmr_by_person = (
        [_false_non_matches(trials, group, resampled) for group in groups]
        for trials in (comparisons.mated, comparisons.mated.person_weighted())
    )
    points = []
    for place, (wanted, threshold) in enumerate(zip(fmrs, thresholds, strict=True)):
        rates = [
            GroupRates(
                group=name,
                fnmr=fnmr[k].estimate(place, level) if name else None,
                fnmr_by_person=fnmr_by_person[k].estimate(place, level, of_people=True) if name else None,
                false_rejects=fnmr[k].counts[place] if name else 0,
                mated=fnmr[k].comparisons if name else 0,
                fmr=fmr[k].estimate(place, level),
                false_accepts=fmr[k].counts[place],
                non_mated=fmr[k].comparisons,
            )
            for k, name in enumerate([*known, None])
        ]
        ratios = [
            ratio
            for name, own in (("fmr", fmr[:-1]), ("fnmr", fnmr), ("fnmr_by_person", fnmr_by_person))
            if (ratio := _worst_to_best(name, own, known, place, level))
        ]
        points.append(GroupPoint(float(wanted), float(threshold), rates[:-1], rates[-1], ratios))
    labels_of_images = [labels.of.get(name) for name in comparisons.image_people]
    return Differential(
        column=labels.column,
        people={name: int((group_of == k).sum()) for k, name in enumerate(known)},
        images={name: labels_of_images.count(name) for name in known},
        unlabelled_people=int((group_of < 0).sum()),
        points=points,
    )


@dataclass(frozen=True)
class _Resampled:
    """The data, the replicates of a bootstrap, and those without each person: weights of people, and thresholds.

    cuts: one (replicates, FMRs) for each of `parts`.
    """

    parts: list[Replicates]
    cuts: list[np.ndarray]
    people: int

    @classmethod
    def of(
        cls, comparisons: Comparisons, thresholds: Sequence[float], fmrs: Sequence[float], draws: np.ndarray
    ) -> _Resampled:
        people, non_mated = draws.shape[1], comparisons.non_mated
        cuts = [
            np.array([thresholds]),
            replicate_thresholds(non_mated, fmrs, draws),
            left_out_thresholds(non_mated, fmrs, people),
        ]
        return cls([Drawn(np.ones((1, people), dtype=np.int64)), Drawn(draws), LeftOut(people)], cuts, people)


@dataclass(frozen=True)
class _Rates:
    """(Weighted) errors (1 + replicates + people, FMRs) and comparisons (1 + replicates + people,).

    of_people: (people,), what the comparisons weigh that involve each. comparisons: how many there are; counts:
    how many are errors, at each FMR.
    """

    errors: np.ndarray
    totals: np.ndarray
    of_people: np.ndarray
    comparisons: int
    counts: list[int]

    def shares(self, place: int) -> np.ndarray:
        """(1 + replicates + people,); NaN where there is no such comparison or no threshold."""
        return shares_of(self.errors[:, place], self.totals)

    def estimate(self, place: int, level: float, of_people: bool = False) -> Estimate | None:
        """The rate; n counts comparisons, or people. None where there are none."""
        if not self.comparisons:
            return None
        n = int(np.count_nonzero(self.of_people)) if of_people else self.comparisons
        interval = share_interval(self.errors[:, place], self.totals, self.of_people, level)
        return Estimate(float(self.shares(place)[0]), *interval, n)

    @property
    def known(self) -> bool:
        """Whether leaving out people can say how sure a rate is."""
        return np.count_nonzero(self.totals[-len(self.of_people) :][self.of_people > 0] > 0) > 1


def _false_non_matches(trials: Trials, group: np.ndarray, resampled: _Resampled) -> _Rates:
    """Rejected mated pairs of a group (bool, a person each), at each replicate's thresholds."""
    rows = np.flatnonzero(group[trials.people])
    rows = rows[np.argsort(-trials.scores[rows], kind="stable")]
    people, scores = trials.people[rows], trials.scores[rows]
    weights = np.ones(len(rows)) if trials.weights is None else trials.weights[rows]
    of_people = np.bincount(people, weights=weights, minlength=resampled.people)
    errors, totals = [], []
    for part, cuts in zip(resampled.parts, resampled.cuts, strict=True):
        accepted, all_of_them = _first(part, part.trials, (people, weights), scores, cuts)
        totals.append(all_of_them)
        errors.append(all_of_them[:, None] - accepted)
    totals = np.concatenate(totals)
    totals[-resampled.people :][of_people == of_people.sum()] = 0  # nobody is left, but for rounding
    counts = [int(np.count_nonzero(scores < cut)) for cut in resampled.cuts[0][0]]
    return _Rates(np.concatenate(errors), totals, of_people, len(rows), counts)


def _false_matches(non_mated: NonMated, groups: list[np.ndarray], resampled: _Resampled) -> list[_Rates]:
    """Accepted non-mated pairs within each group, then across groups, at each replicate's thresholds."""
    deepest = int(np.count_nonzero(non_mated.scores >= min(np.nanmin(cuts) for cuts in resampled.cuts)))
    scores, left, right = non_mated.top(max(1, deepest))
    inside = [group[left] & group[right] for group in groups]
    labelled = np.any(groups, axis=0)
    inside.append(labelled[left] & labelled[right] & ~np.any(inside, axis=0))
    totals = [
        np.concatenate([part.totals(lambda weights, g=group: non_mated.total(weights * g)) for part in resampled.parts])
        for group in [*groups, labelled]
    ]
    totals[-1] = totals[-1] - np.sum(totals[:-1], axis=0)
    rates = []
    for pairs, total in zip(inside, totals, strict=True):
        rows = np.flatnonzero(pairs)
        errors = [
            _first(part, part.pairs, (left[rows], right[rows]), scores[rows], cuts)[0]
            for part, cuts in zip(resampled.parts, resampled.cuts, strict=True)
        ]
        counts = [int(np.count_nonzero(scores[rows] >= cut)) for cut in resampled.cuts[0][0]]
        of_people = total[0] - total[-resampled.people :]
        rates.append(_Rates(np.concatenate(errors), total.astype(np.float64), of_people, int(total[0]), counts))
    return rates


def _first(
    part: Replicates, sums_of: Callable, ranked: tuple[np.ndarray, np.ndarray], scores: np.ndarray, cuts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What of the ranked comparisons with falling scores (n,) is accepted at `cuts`, (r, FMRs), and all of it, (r,)."""
    if not len(scores):
        return np.zeros(cuts.shape), np.zeros(len(cuts))
    sums = sums_of(*ranked, np.arange(len(part)))
    places = np.searchsorted(-scores, -cuts, side="right")
    accepted = np.stack([sums.first(column) for column in places.T], axis=1).astype(np.float64)
    return np.where(np.isnan(cuts), np.nan, accepted), sums.first(np.full(len(cuts), len(scores)))


def _worst_to_best(name: str, rates: list[_Rates], known: list[str], place: int, level: float) -> Ratio | None:
    """The ratio of the highest rate of a group to the lowest; None where not two groups have one."""
    shares = np.stack([own.shares(place) for own in rates])
    there = np.flatnonzero(~np.isnan(shares[:, 0]))
    if len(there) < 2:
        return None
    worst, best = (there[choose(shares[there, 0])] for choose in (np.argmax, np.argmin))
    if worst == best:  # all equal
        best = there[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = shares[worst] / shares[best]  # 0 / 0 is no number, and more than 0 / 0 infinite
    if not np.isfinite(ratios[0]):
        return Ratio(name, known[worst], known[best], Estimate(np.nan, None, None, len(there)))
    low, high = None, None
    if rates[worst].known and rates[best].known:
        replicates, left_out = np.split(ratios[1:], [-len(rates[worst].of_people)])
        with np.errstate(invalid="ignore"):  # between infinite ratios
            ends = (
                # One person has all errors of the best group: no influence of single people to correct by.
                percentiles(replicates, level)
                if np.isinf(left_out).any()
                else corrected(float(ratios[0]), replicates, left_out, level)
            )
        low, high = (end if end is not None and np.isfinite(end) else None for end in ends)
    return Ratio(name, known[worst], known[best], Estimate(float(ratios[0]), low, high, len(there)))
