"""`evaluate aggregation`: how well a template made of n images verifies its person (the paper's Fig. 16).

In each draw, a person's images are put in random order: the first are candidates for the gallery, the next are probes.
A gallery template is made of the first n candidates, so that every n is judged on the same probes, and more images are
the fewer ones and others. Draws are pooled: their thresholds are common, and rates are means over them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import JudgedImages, known_people, open_stores, require_unseen_by_store, without_twice
from facedecode.evaluation.jobs import AggregationJob
from facedecode.evaluation.result import Axis, Label, Result, Schema, declared, paragraphs, texts
from facedecode.progress import Progress, Stage, silent, silent_stage
from facedecode.provenance import describe_job, describe_store
from facedecode.report import Picture, Section, plots
from facedecode.report.text import percent
from facedecode.statistics.bootstrap import Estimate, Resampled
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import Trials, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import score_matrix
from facedecode.store import Store
from facedecode.store.join import common_rows
from facedecode.templates.aggregation import combine, person_order
from facedecode.templates.jobs import Aggregation

TEXTS = texts("aggregation")
MEAN = Aggregation()
# What is tried beside the mean.
OTHERS = {
    "normalized mean": Aggregation("normalized-mean"),
    "median": Aggregation("median"),
    "mean by detector probability": Aggregation(weight="probability"),
    "mean by template length": Aggregation(weight="norm"),
}


@dataclass(frozen=True)
class Design:
    """Who is in which role.

    names: of the persons. gallery: int64 (draws, persons, largest), rows of the templates, in the order in which they
    are taken. probes: int64 (draws, persons, probes).
    """

    names: list[str]
    gallery: np.ndarray
    probes: np.ndarray


AXES = (Axis("n", "images", unit="count"), Axis("template", "template"))


def aggregation_schema(job: AggregationJob) -> Schema:
    """The figures that there will be."""
    recognizer = Axis("recognizer", values=list(open_stores(job.stores)))
    fmr = Axis("fmr", "FAR", list(job.fmrs), "percent")
    return Schema(
        "aggregation", "What a template gains from more images", [recognizer, fmr, *AXES], declared(TEXTS["metrics"])
    )


def evaluate_aggregation(job: AggregationJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job. stage: see `Evaluation.evaluate`.

    Raises UsageError: fewer than 2 persons, 1 draw or 2 images of a person, or no false match rate. BadInput: stores of
    other images, of protected templates, or by a recognizer that knows the persons; fewer persons than asked for with
    so many images; a false match rate that allows no error.
    """
    if job.persons < 2 or job.draws < 1 or (job.largest is not None and job.largest < 2) or not job.fmrs:
        raise UsageError("give two persons or more, a draw or more, two images or more, and a false match rate")
    stores = open_stores(job.stores)
    identities, rows, probabilities = _common(stores)
    kept, twice = without_twice(select_people(identities, job.people), identities, known_people(stores.values()))
    people = _most_frequent([identities[i] for i in kept], job.persons)
    named = [i for i in kept if identities[i] in people]
    for name, store in stores.items():
        twice += require_unseen_by_store(store, JudgedImages.of_store(store, rows[name][named]))
    least = min(people.values())
    largest = job.largest or least // 2
    if largest < 2 or least < 2 * largest:
        name = min(people, key=people.get)
        raise BadInput(
            f"{name} has {least} images; {max(2, largest)} for the gallery and as many probes are needed: take "
            "fewer --persons, or a smaller --largest"
        )
    if min(job.fmrs) * job.draws * len(people) * (len(people) - 1) * largest < 1:
        raise BadInput(
            f"{len(people)} persons make too few non-mated comparisons for a false match rate of "
            f"{min(job.fmrs):g}; take more"
        )
    design = make_design(identities, kept, list(people), largest, job.draws, job.seed)
    # Only what takes part is read, however large the stores are.
    used = np.unique([design.gallery, design.probes])
    design = Design(design.names, *(np.searchsorted(used, part) for part in (design.gallery, design.probes)))
    result = Result(aggregation_schema(job))
    progress = stage("curve")
    for number, (name, store) in enumerate(stores.items()):

        def step(done: int, total: int, note: str = "", number: int = number) -> None:
            progress(number * total + done, len(stores) * total)

        templates = store.take(rows[name][used])
        chances = None if probabilities is None else probabilities[used]
        measure(result, name, templates, design, store.score, job, chances, step)
    result.people, result.warnings = len(people), [*twice]
    if unnamed := sum(name is None for name in identities):
        result.warnings.append(f"{unnamed:,} templates have no person and take no part.")
    if probabilities is None:
        result.warnings.append("The store has no detector probabilities: means weighted by them are left out.")
    result.protocol = paragraphs(
        TEXTS["protocol"],
        persons=len(people),
        most=max(people.values()),
        least=least,
        largest=largest,
        mated=design.probes.size,
        non_mated=design.probes.size * (len(people) - 1),
        level=LEVEL,
        draws=job.draws,
        repetitions=job.repetitions,
        seed=job.seed,
    )
    result.sections = [_more_images(result), _other_templates(result, largest)]
    result.provenance = {
        "stores": [describe_store(store) for store in stores.values()],
        "settings": describe_job(job) | {"largest": largest},
    }
    return result


def _more_images(result: Result) -> Section:
    tables, pictures, recognizers = [], [], result.labels("recognizer")
    for fmr in result.labels("fmr"):
        title, file = f"TAR at FAR {percent(fmr)}", f"tar-at-far-{fmr:g}".replace(".", "-")
        note = "; ".join(
            f"{name} levels off at {result.value('levels_off', {'recognizer': name, 'fmr': fmr})}"
            for name in recognizers
        )
        columns = [("tar", "gain", "short_of_largest")]
        tables.append(result.table(file, title, ["n"], columns, {"fmr": fmr}, f"{note}."))
        curves = {
            name: list(result.along("n", "tar", {"recognizer": name, "fmr": fmr}).values()) for name in recognizers
        }
        data = plots.curve_plot(
            result.labels("n"), curves, x_label="images in a gallery template", y_label=f"{title}, %"
        )
        alt = f"TAR against the number of images, a curve each for {', '.join(curves)}."
        pictures.append(Picture(file, title, data, "Bands: intervals by person.", alt, "svg"))
    return Section("More images", ["Templates are means."], tables, pictures)


def _other_templates(result: Result, largest: int) -> Section:
    note = "Normalized mean: of directions, as long as the templates are on average. Differences are paired."
    columns = [("template_tar", "over_mean")]
    table = result.table("ways", f"Templates of {largest} images", ["recognizer", "template"], columns, note=note)
    return Section("Other ways to make one template", tables=[table])


def make_design(
    identities: Sequence[str | None], rows: Iterable[int], names: list[str], largest: int, draws: int, seed: int
) -> Design:
    """Draw gallery and probes of each person, disjoint within a draw; `largest` of either."""
    images: dict[str, list[int]] = {name: [] for name in names}
    for row in rows:
        if identities[row] in images:
            images[identities[row]].append(row)
    order = np.stack(
        [
            np.stack(
                [
                    np.array(images[name])[person_order(name, len(images[name]), seed + 7919 * draw)[: 2 * largest]]
                    for name in names
                ]
            )
            for draw in range(draws)
        ]
    )
    return Design(names, order[:, :, :largest], order[:, :, largest:])


def measure(
    result: Result,
    recognizer: str,
    templates: np.ndarray,
    design: Design,
    score: str,
    job: AggregationJob,
    probabilities: np.ndarray | None = None,
    progress: Progress = silent,
) -> None:
    """Add one recognizer's figures. templates: float32 (n, dim); probabilities: (n,) of the detector, None without."""
    largest = design.gallery.shape[2]
    numbers = list(range(1, largest + 1))
    others = {name: way for name, way in OTHERS.items() if way.weight != "probability" or probabilities is not None}
    total, done = len(numbers) + len(others), itertools.count(1)
    progress(0, total)

    def tar(way: Aggregation, number: int) -> Sequence[Resampled]:
        trials, non_mated = compare(templates, design, score, way, number, probabilities)
        options = {"people": len(design.names), "repetitions": job.repetitions, "seed": job.seed}
        rates = resampled_tar({"tar": trials}, non_mated, job.fmrs, **options)["tar"]
        progress(next(done), total)
        return rates

    means = [tar(MEAN, number) for number in numbers]
    tried = {"mean": means[-1], **{name: tar(way, largest) for name, way in others.items()}}
    for place, fmr in enumerate(job.fmrs):
        labels: dict[str, Label] = {"recognizer": recognizer, "fmr": fmr}
        short = [means[-1][place].less(mean[place]) for mean in means]
        level = levels_off(short)
        result.add("levels_off", labels, level)
        for n, mean in zip(numbers, means, strict=True):
            gain, at = mean[place].less(means[0][place]), {**labels, "n": n}
            result.add("tar", at, mean[place].estimate())
            result.add("gain", at, gain, key=n == largest, note=f"levels off at {level}")
            result.add("short_of_largest", at, short[n - 1])
        for name, tars in tried.items():
            result.add("template_tar", {**labels, "template": name}, tars[place].estimate())
            if name != "mean":
                result.add("over_mean", {**labels, "template": name}, tars[place].less(means[-1][place]))
    result.add("mated", {"recognizer": recognizer}, design.probes.size)
    result.add("non_mated", {"recognizer": recognizer}, design.probes.size * (len(design.names) - 1))


def levels_off(short_of_largest: Sequence[Estimate]) -> int:
    """The smallest n from which the largest is not measurably better: no interval of the difference is above 0.

    short_of_largest: TAR at the largest n less that at each n, from 1. One without an interval says nothing.
    """
    level = len(short_of_largest)
    for n in range(level - 1, 0, -1):
        low = short_of_largest[n - 1].low
        if low is None or low > 0:
            break
        level = n
    return level


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
                combine(templates[rows], way, None if probabilities is None else probabilities[rows])
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
    people, counts = np.unique([name for name in names if name is not None], return_counts=True)
    if len(people) < persons:
        raise BadInput(f"the store has {len(people)} persons, and {persons} were asked for; lower --persons")
    order = np.lexsort((people, -counts))[:persons]
    return {str(people[i]): int(counts[i]) for i in order}
