"""Designs for `bootstrap_coverage.py`: how often intervals of `evaluate leakage` hold what a reading is on average.

A repetition draws people with numbers of images as in LFW's DevTest, templates (a person's own part, and half as much
of each image) and labels by person or by image, and reads them as the command does, in five folds. The truth is the
mean of such figures over samples of as many people; where labels were dealt out at random it is chance for classes.
Else it is the mean of 300 samples of a number, 100 to 150 of classes (`TRUTHS`), none of which is counted: its standard
error is 0.06 and up to 0.1 of the figure's own spread. Of *one more shuffle* the truth is the figure of another shuffle
of the same sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facedecode.attributes.probe import PROBES, fit_linear, out_of_fold, removal_curve
from facedecode.attributes.reading import Reading, dealt_at_random, value_of
from facedecode.attributes.target import Target

IMAGES = np.array([1, 2, 3, 4, 5, 6, 8, 12, 20, 40])
PEOPLE = np.array([1215, 224, 92, 55, 32, 20, 25, 35, 12, 6])  # of DevTest with so many images, roughly
FOLDS, SHUFFLES = 5, 20
_APART = 2_000_000  # from the seeds of the samples behind TRUTHS
Figures = dict[str, tuple[float, float, float | None, float | None]]


@dataclass(frozen=True)
class Design:
    """people, dim: of a sample. shares: of the classes; none for a number. signal: how far templates of classes lie
    apart, or the correlation of a number's parts; 0 for labels dealt out at random. reads: what reads them."""

    people: int
    signal: float
    shares: tuple[float, ...] = (0.5, 0.5)
    by_image: bool = False
    reads: tuple[str, ...] = ("linear", "quadratic")
    dim: int = 8

    def sample(self, seed: int) -> tuple[np.ndarray, Target]:
        """Templates (n, dim) and what is to be read."""
        rng = np.random.default_rng(seed)
        counts = rng.choice(IMAGES, self.people, p=PEOPLE / PEOPLE.sum())
        persons = np.repeat(np.arange(self.people), counts)
        x = rng.normal(size=(self.people, self.dim))[persons] + 0.5 * rng.normal(size=(len(persons), self.dim))
        units = np.arange(len(persons)) if self.by_image else persons
        if not self.shares:
            return x, Target(self.signal * x[:, 0] + rng.normal(size=len(persons))[units], persons)
        labels = rng.choice(len(self.shares), len(persons), p=self.shares)[units]
        x += self.signal * np.eye(self.dim)[labels]
        return x, Target(labels, persons, tuple("abc"[: len(self.shares)]))

    def readings(self, seed: int, replicates: int) -> dict[str, Reading]:
        """Of a fresh sample."""
        x, target = self.sample(seed)
        fold = target.folds(FOLDS, seed)

        def reading(answers) -> Reading:
            return Reading.of(answers, target, replicates, seed)

        found = {}
        for name in self.reads:
            if name in PROBES:
                found[name] = reading(out_of_fold(x, target, PROBES[name], fold, seed))
        if "spread" in self.reads:
            found["spread, 2 removed"] = reading(removal_curve(x, target, fold, [0, 2])[2])
        if "change" in self.reads:
            noise = np.random.default_rng([seed, 1]).normal(size=x.shape)
            found["change"] = reading(out_of_fold(x + noise, target, fit_linear, fold, seed))
        return found

    def figures(self, name: str, seed: int, replicates: int) -> Figures:
        """The truth, the value and its interval for each figure."""
        if self.reads == ("shuffles",):
            return {"one more shuffle": self._shuffles(seed)}
        found, figures = self.readings(_APART + seed, replicates), {}
        for figure, reading in found.items():
            own = reading.less(found["linear"]) if figure == "change" else reading.estimate()
            truth = TRUTHS[name][figure] if (name, figure) not in CHANCE else CHANCE[name, figure]
            figures[figure] = (truth, own.value, own.low, own.high)
        return figures

    def _shuffles(self, seed: int) -> tuple[float, float, float | None, float | None]:
        x, target = self.sample(seed)
        values = []
        for number in range(SHUFFLES + 1):
            dealt = target.shuffled(100 * seed + number)
            answers = out_of_fold(x, dealt, fit_linear, dealt.folds(FOLDS, seed), halves=False)
            values.append(value_of(answers.said, dealt))
        own = dealt_at_random(values[1:])
        return values[0], own.value, own.low, own.high


CLOSED = ("linear", "quadratic", "spread", "change")
NUMBER = {"shares": (), "reads": ("linear", "spread", "change")}
DESIGNS = {
    "leakage, 60 people, two classes, nothing": Design(60, 0, reads=("linear", "quadratic")),
    "leakage, 60 people, two classes, network, nothing": Design(60, 0, reads=("mlp",)),
    "leakage, 60 people, two classes, network, medium": Design(60, 1.5, reads=("mlp",)),
    "leakage, 200 people, two classes, nothing": Design(200, 0, reads=CLOSED),
    "leakage, 200 people, two classes, weak": Design(200, 0.6, reads=CLOSED),
    "leakage, 200 people, two classes, medium": Design(200, 1.5, reads=CLOSED),
    "leakage, 200 people, two classes, strong": Design(200, 3.0, reads=CLOSED),
    "leakage, 600 people, two classes, strong": Design(600, 3.0),
    "leakage, 200 people, 85 of 100 by image, nothing": Design(200, 0, (0.85, 0.15), True),
    "leakage, 200 people, 85 of 100, medium": Design(200, 1.5, (0.85, 0.15)),
    "leakage, 200 people, three classes, nothing": Design(200, 0, (1 / 3,) * 3),
    "leakage, 200 people, three classes, medium": Design(200, 1.5, (1 / 3,) * 3),
    "leakage, 60 people, number, nothing": Design(60, 0, **NUMBER),
    "leakage, 200 people, number, nothing": Design(200, 0, **NUMBER),
    "leakage, 200 people, number, weak": Design(200, 0.3, **NUMBER),
    "leakage, 200 people, number by image, medium": Design(200, 0.8, by_image=True, **NUMBER),
    "leakage, 600 people, number, medium": Design(600, 0.8, **NUMBER),
    "leakage, 600 people, number, strong": Design(600, 3.0, **NUMBER),
    "leakage, 60 people, shuffled classes": Design(60, 1.5, reads=("shuffles",)),
    "leakage, 200 people, shuffled number": Design(200, 0.8, (), reads=("shuffles",)),
}
CHANCE = {
    (name, figure): 0.0 if figure == "change" else 1 / len(design.shares)
    for name, design in DESIGNS.items()
    if design.shares and design.signal == 0
    for figure in ("linear", "quadratic", "mlp", "spread, 2 removed", "change")
}
TRUTHS: dict[str, dict[str, float]] = {
    "leakage, 60 people, two classes, network, medium": {"mlp": 0.7817},
    "leakage, 200 people, two classes, weak": {
        "linear": 0.6274,
        "quadratic": 0.6181,
        "spread, 2 removed": 0.5074,
        "change": -0.0348,
    },
    "leakage, 200 people, two classes, medium": {
        "linear": 0.8168,
        "quadratic": 0.8094,
        "spread, 2 removed": 0.5102,
        "change": -0.0704,
    },
    "leakage, 200 people, two classes, strong": {
        "linear": 0.9646,
        "quadratic": 0.9659,
        "spread, 2 removed": 0.5212,
        "change": -0.0525,
    },
    "leakage, 600 people, two classes, strong": {"linear": 0.9671, "quadratic": 0.9676},
    "leakage, 200 people, 85 of 100, medium": {"linear": 0.8078, "quadratic": 0.7833},
    "leakage, 200 people, three classes, medium": {"linear": 0.7036, "quadratic": 0.6954},
    "leakage, 60 people, number, nothing": {"linear": -0.0945, "spread, 2 removed": -0.038, "change": -0.0006},
    "leakage, 200 people, number, nothing": {"linear": -0.0266, "spread, 2 removed": -0.0113, "change": 0.0021},
    "leakage, 200 people, number, weak": {"linear": 0.0332, "spread, 2 removed": -0.0112, "change": -0.0307},
    "leakage, 200 people, number by image, medium": {"linear": 0.3954, "spread, 2 removed": -0.011, "change": -0.2054},
    "leakage, 600 people, number, medium": {"linear": 0.4321, "spread, 2 removed": -0.0038, "change": -0.2028},
    "leakage, 600 people, number, strong": {"linear": 0.9158, "spread, 2 removed": -0.004, "change": -0.4174},
}


def designs() -> dict[str, Callable[[int, int], Figures]]:
    """Name → (seed, replicates) → the truth, the value, low and high of each figure."""
    return {
        name: lambda seed, replicates, name=name, design=design: design.figures(name, seed, replicates)
        for name, design in DESIGNS.items()
    }
