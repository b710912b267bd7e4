"""Does the bootstrap by person cover? How often its 95 % intervals hold the truth, where the truth is known.

    python benchmarks/bootstrap_coverage.py
    python benchmarks/bootstrap_coverage.py --design balanced --repetitions 200 --replicates 300

A repetition draws people from a population (a number of images each, a kind, effects of their own), draws the scores of
all pairs of their images, and asks `facedecode.statistics.bootstrap` for intervals as an evaluation does: thresholds
from the non-mated pairs of that very sample. The truth is the population's, in closed form: every score of a pair of
kinds is a normal variable, or in the template design a distance whose square is a scaled chi-square. What pairs weigh
in it is what they weigh in expectation, so a figure in which pairs count alike estimates E[pairs · rate] / E[pairs]
over people, and one in which people count alike E[rate | the person has a pair].

A markdown table goes to stdout, progress to stderr: the coverage with its Monte-Carlo standard error (0.5 points of
2,000 repetitions), how often the interval lay below and above the truth, how far the figure is off on average, and how
wide the interval is, against the spread of the figure over the repetitions.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm

from facedecode.files import write_json
from facedecode.provenance import environment
from facedecode.report import Column, Headline, Report, Section, Table
from facedecode.report.folder import write_report
from facedecode.statistics.bootstrap import Estimate, NonMated, Trials, mean_interval, rates_at_fmr, resampled_eer
from facedecode.statistics.scores import AllPairs, mated_non_mated_scores

# How many people of LFW's DevTest have how many images (29 stands for 20 to 42).
DEVTEST = {1: 1215, 2: 224, 3: 92, 4: 55, 5: 32, 6: 20, 7: 7, 8: 11, 9: 8, 10: 7, 11: 7, 13: 6, 15: 5, 17: 4, 19: 3}
DEVTEST |= {29: 12, 52: 1, 109: 1, 121: 1}


@dataclass(frozen=True)
class Population:
    """Numbers of images with their frequencies, and the share of hard people among those with few and with many."""

    images: dict[int, float]
    hard: tuple[float, float] = (0.15, 0.35)
    many: int = 4

    def draw(self, people: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The number of images of each person and whether they are hard: int64 and bool (people,)."""
        frequencies = np.array(list(self.images.values()), dtype=np.float64)
        counts = generator.choice(np.array(list(self.images)), people, p=frequencies / frequencies.sum())
        return counts, generator.random(people) < np.where(counts < self.many, *self.hard)

    def shares(self, weight: Callable[[int], float]) -> np.ndarray:
        """How much easy and hard people weigh in a mean in which a person of c images has `weight(c)`: (2,)."""
        totals = np.zeros(2)
        for count, frequency in self.images.items():
            hard = self.hard[0] if count < self.many else self.hard[1]
            totals += frequency * weight(count) * np.array([1 - hard, hard])
        return totals / totals.sum()


@dataclass(frozen=True)
class Effects:
    """Scores that are sums of normal effects: of the person, of the image and of the pair.

    The mated and the non-mated effect of a person are correlated, and hard people score lower with themselves and
    higher with others.
    """

    mated: float = 4.0
    attack: float = 3.0
    person: float = 0.6
    lookalike: float = 0.35
    image: float = 0.4
    pair: float = 0.7
    together: float = -0.4
    penalty: float = 0.8

    def draw(self, hard: np.ndarray, codes: np.ndarray, generator: np.random.Generator) -> tuple[AllPairs, Trials]:
        shared = generator.normal(size=(2, len(hard)))
        own = self.person * shared[0] - self.penalty * hard
        mixed = self.together * shared[0] + np.sqrt(1 - self.together**2) * shared[1]
        other = self.lookalike * mixed + self.penalty / 8 * hard
        image = generator.normal(0, self.image, len(codes))
        side = (other[codes] + image).astype(np.float32)
        scores = self.pair * generator.standard_normal((len(codes), len(codes)), dtype=np.float32)
        scores += side[:, None] + side[None, :]
        left, right = np.triu_indices(len(codes), 1)
        same = codes[left] == codes[right]
        left, right = left[same], right[same]
        noise = generator.normal(0, self.pair, len(left))
        mated = self.mated + own[codes[left]] + image[left] + image[right] + noise
        non_mated = scores[np.triu(codes[:, None] != codes[None, :])]
        people = [str(k) for k in range(len(hard))]
        pairs = AllPairs(mated.astype(np.float32), left, right, non_mated, people, codes, codes, square=True)
        attack = self.attack + own[codes] + image + generator.normal(0, self.pair, len(codes))
        return pairs, Trials(attack.astype(np.float32), codes)

    def mated_rate(self, threshold: float) -> np.ndarray:
        means = self.mated - self.penalty * np.arange(2)
        return norm.sf(threshold, means, np.sqrt(self.person**2 + 2 * self.image**2 + self.pair**2))

    def attack_rate(self, threshold: float) -> np.ndarray:
        means = self.attack - self.penalty * np.arange(2)
        return norm.sf(threshold, means, np.sqrt(self.person**2 + self.image**2 + self.pair**2))

    def non_mated_rate(self, threshold: float) -> np.ndarray:
        means = self.penalty / 8 * np.add.outer(np.arange(2), np.arange(2))
        return norm.sf(threshold, means, np.sqrt(2 * (self.lookalike**2 + self.image**2 + self.pair**2 / 2)))


@dataclass(frozen=True)
class Templates:
    """Templates around a center for each person, compared by distance; those of hard people scatter more."""

    size: int = 24
    scatter: tuple[float, float] = (0.55, 0.7)
    rebuilt: float = 0.6  # scatter of the reconstructions around the person's center

    def draw(self, hard: np.ndarray, codes: np.ndarray, generator: np.random.Generator) -> tuple[AllPairs, Trials]:
        centers = generator.normal(size=(len(hard), self.size))[codes]
        scatter = np.where(hard, self.scatter[1], self.scatter[0])[codes, None]
        templates = centers + scatter * generator.normal(size=centers.shape)
        names = [f"{code:06d}" for code in codes]
        pairs = mated_non_mated_scores(templates.astype(np.float32), names, "negative-euclidean")
        rebuilt = centers + self.rebuilt * generator.normal(size=centers.shape)
        return pairs, Trials(-np.linalg.norm(templates - rebuilt, axis=1), codes)

    def mated_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, 2 * np.square(self.scatter))

    def attack_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, np.square(self.scatter) + self.rebuilt**2)

    def non_mated_rate(self, threshold: float) -> np.ndarray:
        return self._rate(threshold, 2 + np.add.outer(np.square(self.scatter), np.square(self.scatter)))

    def _rate(self, threshold: float, variance: np.ndarray) -> np.ndarray:
        return chi2.cdf(min(threshold, 0.0) ** 2 / variance, self.size)


@dataclass(frozen=True)
class Design:
    """What is drawn in each repetition, and the false match rates at which it is asked for."""

    text: str
    people: int
    population: Population
    model: Effects | Templates
    fmrs: tuple[float, ...]

    def truth(self) -> dict[str, float]:
        """The population's figures, by the names that `intervals` gives."""
        images, single = (self.population.shares(weight) for weight in (lambda c: c, lambda c: 1))
        pairs = self.population.shares(lambda c: c * (c - 1))
        with_pairs = self.population.shares(lambda c: c > 1)

        def reached(threshold: float) -> float:
            return float(images @ self.model.non_mated_rate(threshold) @ images)

        def fnmr(threshold: float) -> float:
            return float(1 - pairs @ self.model.mated_rate(threshold))

        ends = (-100.0, 100.0)
        figures = {"EER": reached(brentq(lambda t: reached(t) - fnmr(t), *ends, xtol=1e-13))}
        figures |= {"mean": -float(images[1]), "mean, by person": -float(single[1])}
        for fmr in self.fmrs:
            threshold = brentq(lambda t, fmr=fmr: reached(t) - fmr, *ends, xtol=1e-13)
            for rate, by_pair, by_person in (("mated", pairs, with_pairs), ("attack", images, single)):
                shares = getattr(self.model, f"{rate}_rate")(threshold)
                figures[_name(rate, fmr)] = float(by_pair @ shares)
                figures[_name(rate, fmr, "by person")] = float(by_person @ shares)
        return figures

    def intervals(self, seed: int, replicates: int) -> dict[str, tuple[float, float, float]]:
        """value, low and high of each figure in a fresh sample."""
        generator = np.random.default_rng(seed)
        counts, hard = self.population.draw(self.people, generator)
        codes = np.repeat(np.arange(self.people), counts)
        pairs, attack = self.model.draw(hard, codes, generator)
        effects = generator.normal(size=self.people) - hard
        values = effects[codes] + generator.exponential(1, len(codes)) - 1
        names = [f"{code:06d}" for code in codes]
        options = {"repetitions": replicates, "seed": seed}
        found = {
            "mean": mean_interval(values, names, **options),
            "mean, by person": mean_interval(values, names, person_weighted=True, **options),
        }
        non_mated, mated = NonMated.from_all_pairs(pairs), Trials(pairs.mated, pairs.mated_people)
        trials = {("mated", None): mated, ("attack", None): attack}
        trials |= {(name, "by person"): group.person_weighted() for (name, _), group in trials.items()}
        options["people"] = self.people
        for (name, weighting), rates in rates_at_fmr(trials, non_mated, self.fmrs, **options).items():
            found |= {_name(name, rate.fmr_wanted, weighting): rate for rate in rates}
        found["EER"] = resampled_eer(mated, non_mated, **options).estimate()
        return {name: (estimate.value, estimate.low, estimate.high) for name, estimate in found.items()}


def _name(rate: str, fmr: float, weighting: str | None = None) -> str:
    label = {"mated": "TAR", "attack": "success"}[rate]
    return f"{label} at FAR {fmr:g}" + (f", {weighting}" if weighting else "")


FEW = {1: 5, 2: 3, 3: 2, 5: 1, 8: 1}
FMRS = (0.01, 0.001)
NEAR_ONE = Effects(mated=5.5, attack=5.0)
DESIGNS = {
    "balanced": Design("200 people with 4 images", 200, Population({4: 1}), Effects(), FMRS),
    "near 100 %": Design("200 people with 4 images, rates near 100 %", 200, Population({4: 1}), NEAR_ONE, FMRS),
    "unbalanced": Design("300 people with 1 to 8 images", 300, Population(FEW), Effects(), FMRS),
    "distances": Design(
        "200 people with 1 to 8 images, distances of templates", 200, Population(FEW), Templates(), FMRS
    ),
    "few people": Design("40 people with 3 images", 40, Population({3: 1}), Effects(), (0.05, 0.01)),
    "DevTest": Design("400 people, images as in LFW's DevTest", 400, Population(DEVTEST), Effects(), FMRS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", action="append", choices=DESIGNS, help="only this one (repeatable)")
    parser.add_argument("--repetitions", type=int, default=2000, help="samples of people (default 2000)")
    parser.add_argument("--replicates", type=int, default=500, help="of each bootstrap (default 500)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("-o", "--output", type=Path, help="folder for a report")
    parser.add_argument("--figures", type=Path, help="figures.json of an earlier run: only write its report")
    options = parser.parse_args()
    if options.figures:
        made = json.loads(options.figures.read_text(encoding="utf-8"))
        write(made["figures"], made["command"], made["replicates"], options.output)
        return

    results = []
    for name in options.design or DESIGNS:
        print(f"{name}: {DESIGNS[name].text}", file=sys.stderr)
        start = time.perf_counter()
        found = repeat(name, options.repetitions, options.replicates, options.processes)
        rows = summary(name, found)
        print(table(rows, header=not results), flush=True)
        results += rows
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if options.output:
        write(results, shlex.join(["python", *sys.argv]), options.replicates, options.output)


def write(results: list[dict], command: str, replicates: int, output: Path) -> None:
    """A report of the coverage, and figures.json, from which it can be written again."""
    covered = [row["coverage"] for row in results]
    inside = sum(0.93 <= share <= 0.97 for share in covered)
    sections = []
    for design in dict.fromkeys(row["design"] for row in results):
        rows = [row for row in results if row["design"] == design]
        columns = [Column("figure"), Column("truth", "score"), Column("coverage", "percent")]
        columns += [Column("interval below the truth", "percent"), Column("above", "percent")]
        columns += [Column("bias / spread", "number"), Column("width / (3.92 · spread)", "number")]
        cells = [
            (row["figure"], row["truth"], counted(row), row["too_low"], row["too_high"], bias(row), width(row))
            for row in rows
        ]
        name = "".join(c if c.isalnum() else " " for c in design.lower()).split()
        sections.append(Section(design, [DESIGNS[design].text], [Table("-".join(name), design, columns, cells)]))
    repetitions = min(row["repetitions"] for row in results)
    report = Report(
        kind="benchmarks/bootstrap_coverage.py",
        title="How often 95 % intervals hold the truth",
        protocol=[
            f"{repetitions:,} samples of people a design, {replicates} replicates each; see the script for the "
            "populations and their truth. The interval of a coverage is the Monte-Carlo one (twice its standard error)."
        ],
        headlines=[
            Headline("Lowest coverage", counted(min(results, key=lambda row: row["coverage"]))),
            Headline("Highest coverage", counted(max(results, key=lambda row: row["coverage"]))),
            Headline("Figures covered in 93 to 97 %", Estimate(inside / len(covered), None, None, len(covered))),
        ],
        sections=sections,
        metrics={},
        provenance={"command": command, "environment": environment()},
    )
    write_report(report, output, overwrite=True)
    write_json(output / "figures.json", {"command": command, "replicates": replicates, "figures": results})


def counted(row: dict) -> Estimate:
    """The coverage, give or take twice its standard error."""
    low, high = (row["coverage"] + sign * 2 * row["standard_error"] for sign in (-1, 1))
    return Estimate(row["coverage"], low, min(high, 1.0), row["repetitions"])


def bias(row: dict) -> float:
    """How far the figure is off on average, in spreads of the figure over the repetitions."""
    return (row["mean"] - row["truth"]) / row["spread"]


def width(row: dict) -> float:
    """How wide the interval is, by the width of a normal one of the figure's own spread."""
    return row["width"] / (3.92 * row["spread"])


def repeat(name: str, repetitions: int, replicates: int, processes: int) -> list[dict]:
    """The intervals of each repetition; seeds are the repetitions' numbers, so the processes change nothing."""
    work = functools.partial(DESIGNS[name].intervals, replicates=replicates)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = []
        for result in pool.imap(work, range(repetitions), chunksize=8):
            found.append(result)
            if len(found) % 200 == 0:
                print(f"{name}: {len(found)} of {repetitions}", file=sys.stderr)
    return found


def summary(name: str, found: list[dict]) -> list[dict]:
    """Coverage of each figure, its standard error, and on which side the truth was missed."""
    rows = []
    for figure, truth in DESIGNS[name].truth().items():
        values, low, high = np.array([result[figure] for result in found], dtype=np.float64).T
        covered = float(np.mean((low <= truth) & (truth <= high)))
        rows.append(
            {
                "design": name,
                "figure": figure,
                "truth": truth,
                "mean": float(values.mean()),
                "coverage": covered,
                "standard_error": float(np.sqrt(max(covered * (1 - covered), 0.05 * 0.95) / len(found))),
                "too_low": float(np.mean(high < truth)),
                "too_high": float(np.mean(low > truth)),
                "width": float(np.mean(high - low)),
                "spread": float(values.std()),
                "repetitions": len(found),
            }
        )
    return rows


def table(rows: list[dict], header: bool) -> str:
    """Markdown."""
    lines = [
        "| design | figure | truth | coverage | interval too low | too high | bias / spread | width / (3.92 spread) |",
        "|---" * 8 + "|",
    ]
    lines = lines if header else []
    for row in rows:
        cells = [
            row["design"],
            row["figure"],
            f"{row['truth']:.4f}",
            f"{row['coverage']:.1%} ± {row['standard_error']:.1%}",
            f"{row['too_low']:.1%}",
            f"{row['too_high']:.1%}",
            f"{bias(row):+.2f}",
            f"{width(row):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
