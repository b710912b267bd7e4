"""Linking the templates of a person under different keys: what is compared, and how sure the linkability is.

Mated comparisons are of one person's templates under two keys, non-mated ones of two people's. Both count people
alike: a person's mated comparisons share one weight, and the two people of a non-mated one are drawn with equal
chances among those who have mated ones. So where nothing links, both have the same distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from facedecode.errors import BadInput
from facedecode.progress import Progress, silent
from facedecode.statistics.bootstrap import REPETITIONS, Estimate
from facedecode.statistics.intervals import LEVEL, percentiles
from facedecode.statistics.linkage_estimate import PersonScores, estimate_linkage
from facedecode.statistics.scores import encode_people, score_pairs
from facedecode.statistics.unlinkability import (
    Linkability,
    bins_of,
    d_sys,
    linkability,
    maximal_linkability,
    require_enough,
)

MOST_OF_A_PERSON = 20  # mated comparisons under a pair of keys
MOST_NON_MATED = 500_000
NULL_DRAWS = 200


@dataclass(frozen=True)
class NullLevel:
    """What a figure comes to, uncorrected, where nothing links, on samples like these.

    mean: of the draws. high: the upper end of the interval that holds `LEVEL` of them (95 %: the 97.5 % quantile).
    """

    mean: float
    high: float


@dataclass(frozen=True)
class LinkageFigures:
    """How well one score links the templates of people across keys.

    d_sys, maximal: without what small samples add, with intervals by person. n is the number of people.
    d_sys_null, maximal_null: the uncorrected figures of people who were paired with somebody else.
    by_keys: uncorrected D_sys of each pair of keys alone.
    measured: bins, shares, D↔, and the uncorrected figures.
    mated, non_mated: numbers of comparisons.
    """

    d_sys: Estimate
    maximal: Estimate
    d_sys_null: NullLevel
    maximal_null: NullLevel
    by_keys: list[float]
    measured: Linkability
    mated: int
    non_mated: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of D_sys leaves out 0."""
        return bool(self.d_sys.low)


@dataclass(frozen=True)
class LinkageScores:
    """Rows `left` under the first key of pair `keys` against rows `right` under its second; int64 (c,) each."""

    left: np.ndarray
    right: np.ndarray
    keys: np.ndarray


def require_measurable(identities: Sequence[str], keys: int, *, same_image: bool = False) -> None:
    """Refuse what `measure` would refuse, before there are templates; see there. identities: of images with one."""
    _comparable(encode_people(identities)[1], keys, same_image)


def measure_linkage(
    templates: Sequence[np.ndarray],
    identities: Sequence[str],
    kind: str,
    *,
    same_image: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
    progress: Progress = silent,
) -> LinkageFigures:
    """Linkability of the score `kind` between the templates of people under different keys.

    Args:
        templates: for each key (n, dim), row i of image i of person identities[i]; two or more.
        same_image: mated comparisons are of one image under both keys, rather than of two images of a person.
        progress: called with (draws done, all draws) of the null level.

    All pairs of keys enter alike. A person has at most 20 mated comparisons under each, drawn at random; non-mated
    ones are 500,000 at most, drawn at random with replacement.

    The estimates and their intervals are those of `linkage_estimate`; both are within [0, 1] and hold the estimate.

    Raises BadInput: fewer than two keys, than two people with mated comparisons, or than 100 of those.
    """
    _, codes = encode_people(identities)
    images = _comparable(codes, len(templates), same_image)
    generator = np.random.default_rng(seed)
    pairs = list(combinations(range(len(templates)), 2))
    mated = _repeat([images.mated(generator) for _ in pairs])
    each = -(-min(MOST_NON_MATED, images.different * len(pairs)) // len(pairs))
    non_mated = _repeat([images.non_mated(each, generator) for _ in pairs])

    def score(comparisons: LinkageScores) -> np.ndarray:
        scores = np.empty(len(comparisons.keys), dtype=np.float32)
        for k, (one, other) in enumerate(pairs):
            part = comparisons.keys == k
            scores[part] = score_pairs(
                templates[one][comparisons.left[part]], templates[other][comparisons.right[part]], kind
            )
        return scores

    mated_scores, non_mated_scores = score(mated), score(non_mated)
    owners = images.place[codes[mated.left]]
    measured = linkability(mated_scores, non_mated_scores, 1.0 / np.bincount(owners)[owners])
    bins, q = len(measured.non_mated), measured.non_mated

    def by_person(scores: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Each person's shares of their mated scores in the bins: (people, bins)."""
        cells = owners[chosen] * bins + bins_of(scores[chosen], measured.edges)
        counts = np.bincount(cells, minlength=len(images.people) * bins).reshape(-1, bins)
        return counts / counts.sum(axis=1, keepdims=True)

    places = bins_of(non_mated_scores, measured.edges)
    left, right = (images.place[codes[side]] for side in (non_mated.left, non_mated.right))
    scores = PersonScores(mated_scores, owners, non_mated_scores, left, right)
    d_sys_estimate, maximal_estimate = estimate_linkage(scores, level, repetitions=repetitions, seed=seed)
    null_p = np.empty((NULL_DRAWS, bins))
    progress(0, NULL_DRAWS)
    for k in range(NULL_DRAWS):
        null_p[k] = by_person(score(images.exchanged(mated, generator))).mean(axis=0)
        progress(k + 1, NULL_DRAWS)

    def null(figure: Callable) -> NullLevel:
        values = figure(null_p, q)
        return NullLevel(float(values.mean()), percentiles(values, level)[1])

    by_keys = []
    for k in range(len(pairs)):
        alone = by_person(mated_scores, mated.keys == k).mean(axis=0)
        other = np.bincount(places[non_mated.keys == k], minlength=bins) / each
        by_keys.append(float(d_sys(alone, other)))
    return LinkageFigures(
        d_sys=d_sys_estimate,
        maximal=maximal_estimate,
        d_sys_null=null(d_sys),
        maximal_null=null(maximal_linkability),
        by_keys=by_keys,
        measured=measured,
        mated=len(mated_scores),
        non_mated=len(non_mated_scores),
    )


def _comparable(codes: np.ndarray, keys: int, same_image: bool) -> _Images:
    """The images to compare under so many keys, if there are enough of them. BadInput as `measure`."""
    if keys < 2:
        raise BadInput("linkability compares templates under two keys or more")
    images = _Images(codes, same_image)
    if len(images.people) < 2:
        what = "images" if same_image else "two images each"
        raise BadInput(f"linkability needs two people or more with {what}; there are {len(images.people)}")
    require_enough(images.comparisons * keys * (keys - 1) // 2)
    return images


class _Images:
    """The images of people who have mated comparisons, and draws of comparisons among them.

    people: codes. place: code → index into people, -1 for others. comparisons: how many mated ones are taken under a
    pair of keys. different: how many non-mated comparisons there are.
    """

    def __init__(self, codes: np.ndarray, same_image: bool) -> None:
        self.same_image = same_image
        self._rows = np.argsort(codes, kind="stable")
        self._counts = np.bincount(codes)
        self._starts = np.cumsum(self._counts) - self._counts
        self.people = np.flatnonzero(self._counts >= (1 if same_image else 2))
        self.place = np.full(len(self._counts), -1)
        self.place[self.people] = np.arange(len(self.people))
        self._codes = codes
        counts = self._counts[self.people]
        each = counts if same_image else counts * (counts - 1)
        self.comparisons = int(np.minimum(each, MOST_OF_A_PERSON).sum())
        self.different = int(counts.sum() ** 2 - counts @ counts)

    def mated(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows (left, right): of each person all ordered pairs of images, or so many drawn without replacement."""
        left, right = [], []
        for code in self.people:
            rows = self._rows[self._starts[code] : self._starts[code] + self._counts[code]]
            other = 1 if self.same_image else len(rows) - 1
            chosen = np.arange(len(rows) * other)
            if len(chosen) > MOST_OF_A_PERSON:
                chosen = generator.choice(len(chosen), MOST_OF_A_PERSON, replace=False)
            i, j = np.divmod(chosen, other)
            left.append(rows[i])
            right.append(rows[i] if self.same_image else rows[j + (j >= i)])
        return np.concatenate(left), np.concatenate(right)

    def non_mated(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows (left, right) of `count` comparisons of two different people."""
        one = generator.integers(len(self.people), size=count)
        other = (one + generator.integers(1, len(self.people), size=count)) % len(self.people)
        return self._image_of(self.people[one], generator), self._image_of(self.people[other], generator)

    def exchanged(self, mated: LinkageScores, generator: np.random.Generator) -> LinkageScores:
        """The mated comparisons with each person's right side taken from one other person."""
        order = generator.permutation(len(self.people))
        partner = np.empty_like(order)
        partner[order] = np.roll(order, 1)  # one cycle through all: nobody keeps their own
        others = self.people[partner[self.place[self._codes[mated.left]]]]
        return LinkageScores(mated.left, self._image_of(others, generator), mated.keys)

    def _image_of(self, codes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        chosen = (generator.random(len(codes)) * self._counts[codes]).astype(np.int64)
        return self._rows[self._starts[codes] + chosen]


def _repeat(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> LinkageScores:
    """The comparisons of each pair of keys, put together."""
    keys = np.repeat(np.arange(len(parts)), [len(left) for left, _ in parts])
    left, right = (np.concatenate(side) for side in zip(*parts, strict=True))
    return LinkageScores(left, right, keys)
