"""How well a template made of n images verifies its person: the paper's Fig. 16, with intervals.

In each draw, a person's images are put in random order: the first are candidates for the gallery, the next are probes.
A gallery template is made of the first n candidates, so that every n is judged on the same probes, and more images are
the fewer ones and others. Draws are pooled: their thresholds are common, and rates are means over them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import open_stores, require_unseen_by_store
from facedecode.evaluation.jobs import AggregationJob
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, NonMated, Trials
from facedecode.statistics.paired import Resampled, resampled_tar
from facedecode.statistics.scores import score_matrix
from facedecode.store import Store
from facedecode.store.join import common_rows
from facedecode.templates.aggregation import Aggregation, person_order

MEAN = Aggregation()
# What is tried beside the mean.
OTHERS = {
    "normalized mean": Aggregation("normalized-mean"),
    "median": Aggregation("median"),
    "mean by detector probability": Aggregation(weight="probability"),
    "mean by template length": Aggregation(weight="norm"),
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Curve:
    """One recognizer's figures.

    Attributes:
        numbers: n, rising from 1.
        tar: false match rate → TAR at each n.
        gain: false match rate → TAR at each n less that at n = 1, paired.
        missing: false match rate → TAR at the largest n less that at each n, paired.
        others: way of aggregation → TAR at the largest n less the mean's, at each false match rate, paired.
        other_tar: way of aggregation → its TAR at the largest n, at each false match rate.
        mated, non_mated: comparisons at each n.
    """

    numbers: list[int]
    tar: dict[float, list[Estimate]]
    gain: dict[float, list[Estimate]]
    missing: dict[float, list[Estimate]]
    others: dict[str, list[Estimate]]
    other_tar: dict[str, list[Estimate]]
    mated: int
    non_mated: int

    def levels_off(self, fmr: float) -> int:
        """The smallest n from which on the largest is not measurably better: no interval of `missing` is above 0."""
        found = self.numbers[-1]
        for number, short in zip(reversed(self.numbers[:-1]), reversed(self.missing[fmr][:-1]), strict=True):
            if short.low is not None and short.low > 0:
                break
            found = number
        return found


@dataclass(frozen=True)
class AggregationFigures:
    """Everything measured. people: names, with the number of images that all stores have of each."""

    stores: dict[str, Store]
    people: dict[str, int]
    curves: dict[str, Curve]
    unnamed: int = 0


@dataclass(frozen=True)
class Design:
    """Who is in which role.

    names: of the persons. gallery: int64 (draws, persons, largest), rows of the templates, in the order in which they
    are taken. probes: int64 (draws, persons, probes).
    """

    names: list[str]
    gallery: np.ndarray
    probes: np.ndarray


def evaluate_aggregation(job: AggregationJob, progress: Progress | None = None) -> AggregationFigures:
    """All figures of a job.

    Raises:
        UsageError: fewer than 2 persons, 1 draw or 2 images of a person, or no false match rate.
        BadInput: stores of other images, of protected templates, or by a recognizer that knows the persons; fewer
            persons than asked for with so many images; a false match rate that allows no error.
    """
    if job.persons < 2 or job.draws < 1 or (job.largest is not None and job.largest < 2) or not job.fmrs:
        raise UsageError("give two persons or more, a draw or more, two images or more, and a false match rate")
    stores = open_stores(job.stores)
    identities, rows, probabilities = _common(stores)
    kept = select_people(identities, job.people)
    people = _most_frequent([identities[i] for i in kept], job.persons)
    for store in stores.values():
        require_unseen_by_store(store, list(people))
    least = min(people.values())
    largest = job.largest or least // 2
    if largest < 2 or least < 2 * largest:
        name = min(people, key=people.get)
        raise BadInput(
            f"{name} has {least} images; {max(2, largest)} for the gallery and as many probes are needed: take "
            "fewer --persons, or a smaller --largest"
        )
    if min(job.fmrs) * job.draws * len(people) * (len(people) - 1) * largest < 1:
        raise BadInput(f"{len(people)} persons make too few non-mated comparisons for FAR {min(job.fmrs):g}; take more")
    design = make_design(identities, kept, list(people), largest, job.draws, job.seed)
    # Only what takes part is read, however large the stores are.
    used = np.unique([design.gallery, design.probes])
    design = Design(design.names, *(np.searchsorted(used, part) for part in (design.gallery, design.probes)))
    curves = {}
    for number, (name, store) in enumerate(stores.items()):

        def step(done: int, total: int, number: int = number) -> None:
            if progress:
                progress(number * total + done, len(stores) * total)

        curves[name] = measure(
            store.take(rows[name][used]),
            design,
            store.manifest["score"],
            job.fmrs,
            probabilities=None if probabilities is None else probabilities[used],
            repetitions=job.repetitions,
            seed=job.seed,
            progress=step,
        )
    unnamed = sum(name is None for name in identities)
    return AggregationFigures(stores, people, curves, unnamed)


def make_design(
    identities: Sequence[str | None], rows: Sequence[int], names: list[str], largest: int, draws: int, seed: int
) -> Design:
    """Draw gallery and probes of each person, disjoint within a draw; `largest` of either."""
    own = {name: [] for name in names}
    for row in rows:
        if identities[row] in own:
            own[identities[row]].append(row)
    order = np.stack(
        [
            np.stack(
                [
                    np.array(own[name])[person_order(name, len(own[name]), seed + 7919 * draw)[: 2 * largest]]
                    for name in names
                ]
            )
            for draw in range(draws)
        ]
    )
    return Design(names, order[:, :, :largest], order[:, :, largest:])


def measure(
    templates: np.ndarray,
    design: Design,
    score: str,
    fmrs: Sequence[float],
    *,
    probabilities: np.ndarray | None = None,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """The curve of one recognizer. templates: float32 (n, dim); probabilities: (n,) of the detector; None without."""
    largest = design.gallery.shape[2]
    numbers = list(range(1, largest + 1))
    others = {name: way for name, way in OTHERS.items() if way.weight != "probability" or probabilities is not None}
    options = {"people": len(design.names), "repetitions": repetitions, "seed": seed}
    total, done = len(numbers) + len(others), itertools.count(1)

    def tar(way: Aggregation, number: int) -> list[Resampled]:
        trials, non_mated = compare(templates, design, score, way, number, probabilities)
        found = resampled_tar({"tar": trials}, non_mated, fmrs, **options)["tar"]
        if progress:
            progress(next(done), total)
        return found

    means = [tar(MEAN, number) for number in numbers]
    tried = {name: tar(way, largest) for name, way in others.items()}
    return Curve(
        numbers=numbers,
        tar={fmr: [own[k].estimate() for own in means] for k, fmr in enumerate(fmrs)},
        gain={fmr: [own[k].less(means[0][k]) for own in means] for k, fmr in enumerate(fmrs)},
        missing={fmr: [means[-1][k].less(own[k]) for own in means] for k, fmr in enumerate(fmrs)},
        others={name: [a.less(b) for a, b in zip(own, means[-1], strict=True)] for name, own in tried.items()},
        other_tar={name: [a.estimate() for a in own] for name, own in tried.items()},
        mated=design.probes.size,
        non_mated=design.probes.size * (len(design.names) - 1),
    )


def compare(
    templates: np.ndarray,
    design: Design,
    score: str,
    way: Aggregation,
    number: int,
    probabilities: np.ndarray | None = None,
) -> tuple[Trials, NonMated]:
    """Scores of every gallery template of `number` images with every probe of its draw; persons are indices."""
    draws, persons, probes = design.probes.shape
    of_probe = np.repeat(np.arange(persons), probes)
    mated, non_mated, left, right = [], [], [], []
    same = np.arange(persons)[:, None] == of_probe
    for draw in range(draws):
        gallery = np.stack(
            [
                way.combine(templates[rows], None if probabilities is None else probabilities[rows])
                for rows in design.gallery[draw, :, :number]
            ]
        ).astype(np.float32)
        scores = score_matrix(gallery, templates[design.probes[draw].ravel()], score)
        mated.append(scores[same])
        non_mated.append(scores[~same])
        left.append(np.nonzero(~same)[0])
        right.append(of_probe[np.nonzero(~same)[1]])
    whose = np.tile(np.nonzero(same)[0], draws)
    return (
        Trials(np.concatenate(mated), whose),
        NonMated.from_pairs(np.concatenate(non_mated), np.concatenate(left), np.concatenate(right)),
    )


def _common(stores: dict[str, Store]) -> tuple[list[str | None], dict[str, np.ndarray], np.ndarray | None]:
    """Of the images that all stores have: persons, rows in each store, and the detector's probabilities."""
    first = next(iter(stores.values()))
    # One store's templates need no images.
    chosen = common_rows(list(stores.values())) if len(stores) > 1 else [np.arange(len(first))]
    table = first.columns(["identity", "probability"]).take(chosen[0])
    probabilities = table["probability"].to_pylist()
    known = all(value is not None for value in probabilities)
    rows = dict(zip(stores, chosen, strict=True))
    return table["identity"].to_pylist(), rows, np.array(probabilities) if known else None


def _most_frequent(names: Sequence[str | None], persons: int) -> dict[str, int]:
    found, counts = np.unique([name for name in names if name is not None], return_counts=True)
    if len(found) < persons:
        raise BadInput(f"the store has {len(found)} persons, and {persons} were asked for; lower --persons")
    order = np.lexsort((found, -counts))[:persons]
    return {str(found[i]): int(counts[i]) for i in order}
