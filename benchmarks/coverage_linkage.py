"""How often the intervals of D_sys and maximal linkability hold the truth: designs for bootstrap_coverage.py.

    python benchmarks/coverage_linkage.py --repetitions 1000

A person has a look under each key: √ρ of it is the same under all of them. Each image adds noise. Then the squared
distance of two templates is a multiple of χ², for mated and non-mated ones, and the truth is an integral. People are
all linked alike (one ρ), or a few of them wholly and the others not at all. Non-mated comparisons are 20,000, and there
are no draws for the level of unlinked templates, which has no part in the intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2

from facedecode.statistics import linkage
from facedecode.statistics.unlinkability import d_sys, maximal_linkability

DIM, NOISE = 6, 0.25
MOST_LINKED = 1 - 1e-8  # of the correlation of two looks, and then without noise: D_sys is 1
NON_MATED = 20_000
Figures = dict[str, tuple[float, float, float | None, float | None]]  # by name: the truth, the figure, and its interval


@dataclass(frozen=True)
class Linked:
    """A system of known D_sys.

    people: how many. skewed: 2 to 20 images of a person, rather than 4. keys: how many. d_sys: the truth.
    few: a few people are wholly linked and the others not, rather than all of them alike.
    """

    people: int
    skewed: bool
    keys: int
    d_sys: float
    few: bool = False

    def figures(self, seed: int, replicates: int) -> Figures:
        """The figures of a sample of people."""
        generator = np.random.default_rng(seed)
        counts = np.full(self.people, 4)
        if self.skewed:
            counts = np.minimum(20, 2 + generator.exponential(3, self.people).astype(int))
        codes = np.repeat(np.arange(self.people), counts)
        share, correlation, noise = _strength(self.d_sys, self.few)
        of_person = np.where(generator.random(self.people) < share, correlation, 0.0)[:, None]
        common = generator.normal(size=(self.people, DIM))
        keys = []
        for _ in range(self.keys):
            own = generator.normal(size=common.shape)
            look = np.sqrt(of_person) * common + np.sqrt(1 - of_person) * own
            keys.append(look[codes] + noise * generator.normal(size=(len(codes), DIM)))
        linkage.NULL_DRAWS, linkage.MOST_NON_MATED = 2, NON_MATED
        names = [f"{code:04d}" for code in codes]
        found = linkage.measure_linkage(keys, names, "negative-euclidean", repetitions=replicates, seed=seed)
        truth = _truth(share, correlation, noise)
        estimates = {"D_sys": found.d_sys, "maximal linkability": found.maximal}
        return {
            name: (true, of.value, of.low, of.high) for (name, of), true in zip(estimates.items(), truth, strict=True)
        }


@lru_cache
def _truth(share: float, correlation: float, noise: float) -> tuple[float, float]:
    """D_sys and maximal linkability where a share of people is linked by a correlation of their looks."""
    if correlation == MOST_LINKED:
        return 1.0, 1.0
    unlinked, linked = 2 + 2 * noise**2, 2 * (1 - correlation) + 2 * noise**2
    cells = np.concatenate([[0], np.geomspace(1e-9, 40 * unlinked, 4000), [np.inf]])
    p, q = (np.diff(chi2.cdf(cells / variance, DIM)) for variance in (linked, unlinked))
    p = share * p + (1 - share) * q
    return float(d_sys(p, q)), float(maximal_linkability(p, q))


@lru_cache
def _strength(d_sys: float, few: bool) -> tuple[float, float, float]:
    """The share of people who are linked, the correlation of their looks and the noise of images for a D_sys."""
    if d_sys == 1:
        return 1.0, MOST_LINKED, 0.0
    if few:
        return brentq(lambda share: _truth(share, 1.0, NOISE)[0] - d_sys, 0, 1), 1.0, NOISE
    return 1.0, brentq(lambda correlation: _truth(1.0, correlation, NOISE)[0] - d_sys, 0, 1), NOISE


def designs() -> dict[str, Callable[[int, int], Figures]]:
    """By name what gives the figures of one repetition from its seed and the number of replicates."""
    middle = Linked(100, False, 2, 0)
    small, large = replace(middle, people=30, skewed=True, keys=3), replace(middle, people=400, skewed=True)
    systems = [replace(middle, d_sys=true) for true in (0, 0.02, 0.035, 0.07, 0.133, 0.3, 0.7, 0.95, 1)]
    systems += [replace(middle, d_sys=true, few=True) for true in (0.02, 0.07, 0.133, 0.3, 0.7, 0.95)]
    systems += [replace(small, d_sys=true) for true in (0, 0.035, 0.133, 0.3, 0.7, 0.95, 1)]
    systems += [replace(large, d_sys=true) for true in (0, 0.02, 0.07, 0.7)]
    systems += [replace(large, d_sys=true, few=True) for true in (0.035, 0.3, 0.95)]
    return {_name(system): partial(_figures, system) for system in systems}


def _figures(system: Linked, seed: int, replicates: int) -> Figures:
    return system.figures(seed, replicates)


def _name(system: Linked) -> str:
    images = "2 to 20 images" if system.skewed else "4 images"
    linked = "a few linked" if system.few else "all alike"
    return f"linkage {system.d_sys:g}, {system.people} people, {images}, {system.keys} keys, {linked}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000, help="samples of people (default 1000)")
    parser.add_argument("--replicates", type=int, default=400, help="draws of people for an interval (default 400)")
    parser.add_argument("--design", default="", help="only those whose name contains this")
    options = parser.parse_args()
    print(
        "| design | figure | truth | coverage | too low | too high | bias | spread | median width |\n"
        + "|---" * 9
        + "|"
    )
    for name, figures in designs().items():
        if options.design not in name:
            continue
        found = [figures(seed, options.replicates) for seed in range(options.repetitions)]
        for figure in found[0]:
            truth, value, low, high = np.array([of[figure] for of in found], dtype=np.float64).T
            below, above = np.mean(high < truth - 1e-9), np.mean(low > truth + 1e-9)
            covered = 1 - below - above
            error = np.sqrt(max(covered * (1 - covered), 0.05 * 0.95) / len(found))
            print(
                f"| {name} | {figure} | {truth[0]:.4f} | {covered:.1%} ± {error:.1%} | {below:.1%} | {above:.1%} | "
                f"{np.mean(value - truth):+.4f} | {value.std():.4f} | {np.median(high - low):.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
