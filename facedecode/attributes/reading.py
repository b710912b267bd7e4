"""How well probes read: a figure of people whom they were not trained on, with an interval that knows of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facedecode.attributes.target import Target
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, Resampled, resample
from facedecode.statistics.intervals import LEVEL, unseen_share
from facedecode.statistics.resampling import Drawn, Replicates

_MOST_OF_A_NUMBER = 5.0  # times the variance of judging: found by benchmarks/coverage_leakage.py
_ROUNDING = 1e-8  # of the sum of squares: what varies less varies by rounding


@dataclass(frozen=True, eq=False)
class Answers:
    """What probes say of people that they were not trained on.

    said: (n, classes) or (n,). halves: (2, n, …), what probes say that have none of their training in common: each was
    trained on half of those whom the first was trained on. NaN where there is none.
    """

    said: np.ndarray
    halves: np.ndarray


@dataclass(frozen=True, eq=False)
class Reading:
    """How well probes read, each judged by people whom it was not trained on.

    The truth that its interval is to hold is what such a figure is on average, over as many people drawn anew from the
    population, on whom probes are trained and judged anew. Resampling those who are judged does not know of training:
    two people of different folds judge the probes that the other one trained, and where they agree by chance, both are
    told better. With c_ij what the training of j adds to the figure of i, its variance has the terms c_ij² and
    c_ij·c_ji, and resampling gives the former only. The sum of the latter is not larger (Cauchy and Schwarz), and is
    taken to be as large, as it nearly is where labels were dealt out at random. The sum of c_ij² is how much answers
    vary with who trained: half the squared difference of probes that have no training in common. (These are of half the
    people, and vary more than those of all.) It is not more than the variance of judging for classes. It may be for a
    number, where it depends on the training whether anything is said at all.

    judged: the figure with its replicates, for the probes as they were trained.
    swayed: float64 (people,), how differently two such probes are judged by each person, in units of the figure; NaN
        where there are none.
    """

    judged: Resampled
    swayed: np.ndarray

    @classmethod
    def of(cls, answers: Answers, target: Target, repetitions: int = REPETITIONS, seed: int = 0) -> Reading:
        """Of all images; arguments as of `read`."""
        first, second = (_told(said, target) for said in answers.halves)
        swayed = np.bincount(target.persons, target.weights * (first - second))
        return cls(read(answers.said, target, repetitions, seed), swayed)

    def resampled(self) -> Resampled:
        """The figure with replicates, and values without each person, as far from it as training makes them, too."""
        return self._widened(self._stretch(self.swayed, self._influence))

    def estimate(self) -> Estimate:
        """The figure with its interval."""
        return self.resampled().estimate()

    def less(self, other: Reading) -> Estimate:
        """This figure less another of the same people, folds and replicates."""
        stretch = self._stretch(self.swayed - other.swayed, self._influence - other._influence)
        return self._widened(stretch).less(other._widened(stretch))

    @property
    def _influence(self) -> np.ndarray:
        return self.judged.value - self.judged.left_out

    def _stretch(self, swayed: np.ndarray, influence: np.ndarray) -> float:
        known = np.isfinite(influence) & np.isfinite(swayed)
        judging, training = float(np.sum(influence[known] ** 2)), float(np.sum(swayed[known] ** 2)) / 2
        added = training / judging if judging > 0 else float(not known.any())
        return float(np.sqrt(1 + min(added, 1.0 if self.judged.is_rate else _MOST_OF_A_NUMBER)))

    def _widened(self, stretch: float) -> Resampled:
        value, most = self.judged.value, max(1.0, self.judged.value)
        drawn, left_out = (value + stretch * (x - value) for x in (self.judged.drawn, self.judged.left_out))
        # No rate is below 0, and neither a rate nor an R² above 1.
        return replace(self.judged, drawn=np.clip(drawn, 0 if self.judged.is_rate else None, most), left_out=left_out)


def _told(said: np.ndarray, target: Target) -> np.ndarray:
    """What each image adds to the figure if it weighs 1: (n,), NaN where nothing is said."""
    if target.classes is not None:
        return np.where(np.isnan(said).any(1), np.nan, said.argmax(1) == target.values)
    spread = target.weights @ (target.values - target.weights @ target.values) ** 2
    return -((target.values - said) ** 2) / spread


def read(said: np.ndarray, target: Target, repetitions: int = REPETITIONS, seed: int = 0) -> Resampled:
    """Balanced accuracy of classes, or R² of a number, every person counting alike, with replicates by person.

    Balanced accuracy: the mean over classes of the share told right. R²: 1 less the squared error over that of the
    mean, which is 0 for one who knows nothing of the image, and less for one who is wrong.

    said: (n, classes) or (n,), by one who is the same whoever is judged; of probes in folds see `Reading`.
    """
    shares, classes = np.bincount(target.persons, target.weights), len(target.classes or ())
    (figure,) = resample(_figure(said, target), shares, len(shares), bool(classes), repetitions, seed)
    if not classes:
        return figure
    # Each class has people of its own whom the sample may lack, and is one of so many that are averaged.
    wrong = said.argmax(1) != target.values
    unseen = []
    for each in range(classes):
        of_class = target.values == each
        people, told_wrong = (len(np.unique(target.persons[rows])) for rows in (of_class, of_class & wrong))
        unseen.append(unseen_share(people, told_wrong))
    return replace(figure, unseen=max(unseen) / classes)


def dealt_at_random(figures: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean of the figures of several shuffled attributes, and where one more would lie; n is their number.

    It is Student's interval of a prediction, mean ± t·s·√(1 + 1/n).
    """
    from scipy.special import stdtrit

    mean, n = float(np.mean(figures)), len(figures)
    if n < 2:
        return Estimate(mean, None, None, n)
    reach = float(stdtrit(n - 1, (1 + level) / 2) * np.std(figures, ddof=1) * np.sqrt(1 + 1 / n))
    return Estimate(mean, mean - reach, mean + reach, n)


def value_of(said: np.ndarray, target: Target) -> float:
    """The figure of `read`."""
    everybody = Drawn(np.ones((1, int(target.persons.max()) + 1), np.int64))
    return float(_figure(said, target)(everybody)[0])


def _figure(said: np.ndarray, target: Target) -> Callable[[Replicates], np.ndarray]:
    persons = int(target.persons.max()) + 1
    share = 1 / np.bincount(target.persons)[target.persons]
    if target.classes is not None:
        right = said.argmax(1) == target.values
        classes = len(target.classes)
        cells, count = target.persons * classes + target.values, persons * classes
        hits, images = (np.bincount(cells, x, count).reshape(persons, -1) for x in (share * right, share))

        def figure(people: Replicates) -> np.ndarray:
            return (people.sums(hits) / people.sums(images)).mean(-1)  # a draw without a class has no figure
    else:
        centered = target.values - target.values.mean()  # or squares of large numbers would drown what differs
        columns = (np.ones(len(said)), centered, centered**2, (target.values - said) ** 2)
        sums = np.stack([np.bincount(target.persons, share * x, persons) for x in columns], axis=1)

        def figure(people: Replicates) -> np.ndarray:
            n, y, squares, errors = people.sums(sums).T
            spread = squares - y**2 / n
            return np.where(spread > _ROUNDING * squares, 1 - errors / spread, np.nan)  # nor one of people all alike

    return figure
