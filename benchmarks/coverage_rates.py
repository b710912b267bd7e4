"""Designs of bootstrap_coverage.py for rates of images that hardly ever fail, for means, and for paired differences.

People have as many images as in LFW's DevTest, or as many as everybody else. A person is prone to fail or not; an image
of one who is fails with the same chance as others of theirs. So the truth is known: of rates, and of the differences of
two systems that share some of their failures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from coverage_scores import DEVTEST, Population

from facedecode.statistics.bootstrap import Resampled, mean_interval, person_sums, ratio_interval, resample
from facedecode.statistics.resampling import Replicates

POPULATIONS = {
    "1,711 people, images as in LFW's DevTest": (1711, Population(DEVTEST)),
    "200 people with 4 images": (200, Population({4: 1})),
}
EXPECTED = (0, 0.5, 1, 2, 3, 5, 20)  # failing images
TOGETHER = 0.5  # how often an image of a person who is prone fails


def few_failures(people: int, population: Population, seed: int, replicates: int) -> dict:
    """Rates of images near 100 %, by image and by person, and the difference of two of them."""
    generator = np.random.default_rng(seed)
    counts, _ = population.draw(people, generator)
    images = sum(count * share for count, share in population.images.items()) / sum(population.images.values())
    names = np.repeat([f"{person:06d}" for person in range(people)], counts)
    options = {"repetitions": replicates, "seed": seed}
    found = {}
    for expected in EXPECTED:
        rate = expected / (images * people)
        for kind, prone, fails in (("alone", 1.0, rate), ("together", rate / TOGETHER, TOGETHER)):
            right = np.stack(
                [
                    ~((generator.random(people) < prone).repeat(counts) & (generator.random(len(names)) < fails))
                    for _ in range(2)
                ],
                axis=1,
            )
            about = f"{expected:g} failing images expected, {kind}"
            for weighting, by_person in (("", False), (", by person", True)):
                one = mean_interval(right[:, 0], names, person_weighted=by_person, **options)
                found[f"rate{weighting}: {about}"] = (1 - rate, one.value, one.low, one.high)
                first, second = (_rate(column, names, by_person, **options) for column in right.T)
                apart = first.less(second)
                found[f"difference of rates{weighting}: {about}"] = (0.0, apart.value, apart.low, apart.high)
    return found


def _rate(right: np.ndarray, names: np.ndarray, by_person: bool, **options: int) -> Resampled:
    sums = person_sums(np.stack([right, np.ones(len(right))], axis=1), names)
    if by_person:
        sums = sums / sums[:, 1:]

    def figure(people: Replicates) -> np.ndarray:
        return np.divide(*people.sums(sums).T)

    return resample(figure, sums[:, 1], len(right), True, **options)[0]


def means(people: int, population: Population, seed: int, replicates: int) -> dict:
    """Means of images, of their paired differences and their ratio, as PSNR and SSIM are reported."""
    generator = np.random.default_rng(seed)
    counts, _ = population.draw(people, generator)
    names = np.repeat([f"{person:06d}" for person in range(people)], counts)
    own, image = generator.normal(0, 0.5, people).repeat(counts), generator.normal(0, 1, (len(names), 2))
    one, other = 14 + own + image[:, 0], 13.5 + own + 0.8 * image[:, 0] + 0.4 * image[:, 1]
    options = {"repetitions": replicates, "seed": seed}
    found = {
        "mean": (14.0, mean_interval(one, names, **options)),
        "mean, by person": (14.0, mean_interval(one, names, person_weighted=True, **options)),
        "paired difference of means": (0.5, mean_interval(one - other, names, **options)),
        "ratio of means": (14 / 13.5, ratio_interval(one, other, names, **options)),
    }
    return {name: (truth, own.value, own.low, own.high) for name, (truth, own) in found.items()}


def designs() -> dict[str, Callable[[int, int], dict]]:
    """See bootstrap_coverage.py."""
    found = {}
    for text, (people, population) in POPULATIONS.items():
        found[f"rates of images, {text}"] = partial(few_failures, people, population)
        found[f"means of images, {text}"] = partial(means, people, population)
    return found
