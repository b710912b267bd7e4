"""The report of `fig15.py`: means and spreads of what is drawn of aggregates, against the number of images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from facedecode.pictures.figures import png_bytes
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.statistics.bootstrap import Estimate, resample
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.resampling import Replicates

if TYPE_CHECKING:
    from fig15 import Drawn

# What is drawn, without its sign: distance from frontal, upright and evenly lit.
TITLES = {"yaw": "turn", "roll": "|roll|, degrees", "side-light": "|side-light|"}


_MEASURED = (
    "Landmarks and light are measured on the drawn pictures, with faces detected anew at 256 px, in the picture "
    "and in its mirror image: half the difference of the two counts, which is free of the detector's own "
    "asymmetry. Turn: how far the nose is from the middle of eyes and mouth, in distances of the eyes, a proxy of "
    "|yaw|. Roll: the angle of the line through the eyes; the decoder was trained on faces put upright, so that it "
    "is small throughout. Side-light: mean luma of the right half of the central face less that of its left half, "
    "of 1. A mean without sign falls with the spread alone, too: the signed means tell the two apart."
)


def estimate(values: np.ndarray, statistic: Callable, repetitions: int) -> Estimate:
    """A statistic of draws and its interval: draws are drawn again, with replacement.

    Args:
        values: float64 (d, …); a draw with a NaN is left out, and n says how many are not.
        statistic: of weights (r, d'), whose rows add up to 1, and of the values kept (d', …) → (r,).
    """
    values = values[np.isfinite(values.reshape(len(values), -1)).all(1)]
    n = len(values)
    if not n:
        return Estimate(float("nan"), None, None, 0)
    return _resampled(lambda weights: statistic(weights, values), n, repetitions)


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return weights @ values


def spread(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standard deviation, of d values by d - 1."""
    return root_variance(weights, np.multiply.outer(values, values))


def root_variance(weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Root of the variance, of d vectors by d - 1, from their inner products (d, d) about any origin: (r,)."""
    variance = weights @ np.diag(gram) - np.sum((weights @ gram) * weights, axis=1)
    return np.sqrt(np.maximum(variance, 0) * len(gram) / (len(gram) - 1))


def ratio(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of the means of the second column by the first's; values (d, 2)."""
    means = weights @ values
    return means[:, 1] / means[:, 0]


def shrinkage(number: int, images: int) -> float:
    """By how much the spread of a mean of so many of the images is that of a single one, drawn without replacement."""
    return float(np.sqrt((1 / number - 1 / images) / (1 - 1 / images)))


def settles(changes: Sequence[Estimate], numbers: Sequence[int]) -> int:
    """The smallest number from which on no interval of the difference to the largest number leaves out 0."""
    for place in range(len(numbers) - 1, 0, -1):
        own = changes[place - 1]
        if own.low is None or own.high is None or own.low > 0 or own.high < 0:
            return numbers[place]
    return numbers[0]


def make_report(found: Mapping[str, Drawn], grid: np.ndarray, provenance: dict) -> Report:
    """The report of every row's `Drawn`, with the grid of pictures (H, W, 3) uint8."""
    settings = provenance["settings"]
    numbers, repetitions = settings["numbers"], settings["repetitions"]
    alt = f"A column each for {', '.join(map(str, numbers))} images; two rows each for {', '.join(found)}."
    caption = "Drawn of the mean of n templates; within a draw, the images of a smaller n are among those of a larger."
    sections = [
        Section("Pictures", pictures=[Picture("aggregates", "Aggregates, drawn", png_bytes(grid), caption, alt)])
    ]
    metrics, headlines, warnings = {}, [], []
    for label, own in found.items():
        figures = row_figures(own, numbers, repetitions)
        sections.append(section(label, own, figures, numbers, repetitions))
        metrics[label] = as_json(figures, numbers)
        for name, title in TITLES.items():
            note = f"from {numbers[0]} to {numbers[-1]} images; settles at {settles(figures['change'][name], numbers)}"
            headlines.append(
                Headline(f"{label}: change of {title}", opposite(figures["change"][name][0]), "score", note)
            )
        if lost := int(np.isnan(own.signed["yaw"]).sum()):
            warnings.append(
                f"{label}: no face is found in {lost} of {own.signed['yaw'].size} pictures; they are left out."
            )
    return Report(
        kind="fig15",
        title=f"Templates of more and more images of {settings['people'][0]}, drawn: the paper's Fig. 15",
        protocol=protocol(found, settings),
        headlines=headlines,
        sections=sections,
        metrics=metrics,
        warnings=[*warnings, "One person: the intervals hold for these images, and say nothing of other people."],
        provenance={**provenance, "settings": {**settings, "level": LEVEL}},
    )


def make_people_report(found: Mapping[str, Mapping[str, Drawn]], grid: np.ndarray, provenance: dict) -> Report:
    """The report of several people: row → person → `Drawn`, with the grid of pictures (H, W, 3) uint8.

    What is measured of a person is the mean over draws; intervals are of the choice of people.
    """
    settings = provenance["settings"]
    numbers, people, repetitions = settings["numbers"], settings["people"], settings["repetitions"]
    alt = f"A column each for {', '.join(map(str, numbers))} images; a row each for {', '.join(people)}."
    sections = [
        Section(
            "Pictures",
            pictures=[Picture("aggregates", "Aggregates, drawn", png_bytes(grid), "The first draw of each.", alt)],
        )
    ]
    metrics, headlines, warnings = {}, [], []
    for label, own in found.items():
        signed = {name: over_draws([each.signed[name] for each in own.values()]) for name in TITLES}
        unsigned = {name: over_draws([np.abs(each.signed[name]) for each in own.values()]) for name in TITLES}
        figures = {
            "mean": {name: [estimate(row, mean, repetitions) for row in rows] for name, rows in unsigned.items()},
            "change": {
                name: [estimate(row - rows[0], mean, repetitions) for row in rows] for name, rows in unsigned.items()
            },
        }
        columns = [Column("images", "count")]
        columns += [Column(f"{title}{what}", "score") for title in TITLES.values() for what in ("", ", less that of 1")]
        rows = [
            (number, *(figures[kind][name][i] for name in TITLES for kind in ("mean", "change")))
            for i, number in enumerate(numbers)
        ]
        note = "Means over people of their means over draws. Differences are paired, by person."
        columns_each = [Column("person"), Column("images", "count")]
        columns_each += [Column(f"{title}: change", "score") for title in TITLES.values()]
        columns_each += [Column(f"{key} at {numbers[-1]}, signed", "score") for key in TITLES]
        each = [
            (
                name,
                drawn.images,
                *(float(unsigned[key][-1, i] - unsigned[key][0, i]) for key in TITLES),
                *(float(signed[key][-1, i]) for key in TITLES),
            )
            for i, (name, drawn) in enumerate(own.items())
        ]
        slug = _slug(label)
        tables = [
            Table(f"means-{slug}", f"Means over {len(own)} people", columns, rows, note),
            Table(f"people-{slug}", f"Each person, from {numbers[0]} to {numbers[-1]} images", columns_each, each),
        ]
        sections.append(Section(label, tables=tables))
        metrics[label] = {
            kind: {
                name: {str(number): one.as_json() for number, one in zip(numbers, row, strict=True)}
                for name, row in measures.items()
            }
            for kind, measures in figures.items()
        }
        for name, title in TITLES.items():
            note = f"from {numbers[0]} to {numbers[-1]} images"
            headlines.append(Headline(f"{label}: change of {title}", figures["change"][name][-1], "score", note))
        if lost := sum(int(np.isnan(drawn.signed["yaw"]).sum()) for drawn in own.values()):
            warnings.append(f"{label}: no face is found in {lost} of the pictures; they are left out.")
    return Report(
        kind="fig15",
        title=f"Templates of more and more images of {len(people)} people, drawn: the paper's Fig. 15",
        protocol=[
            f"People: {', '.join(people)}, on whom no decoder was trained. In each of {settings['draws']} draws (seeds "
            f"from {settings['seed']}) a person's images are put in random order; the template of n is the mean of the "
            "first n, which the decoder draws.",
            _MEASURED,
            f"Intervals are {LEVEL:.0%}, of a bootstrap over people ({settings['repetitions']:,} replicates): "
            "they hold for people like these, of whom there are many photographs.",
        ],
        headlines=headlines,
        sections=sections,
        metrics=metrics,
        warnings=warnings,
        provenance={**provenance, "settings": {**settings, "level": LEVEL}},
    )


def over_draws(values: Sequence[np.ndarray]) -> np.ndarray:
    """Of each person's values (k, draws), the mean over draws whose face is found: (k, people); NaN where none is."""
    found = [np.isfinite(own) for own in values]
    sums = [np.where(there, own, 0).sum(1) for there, own in zip(found, values, strict=True)]
    with np.errstate(invalid="ignore"):
        return np.stack([total / there.sum(1) for total, there in zip(sums, found, strict=True)], axis=1)


def row_figures(own: Drawn, numbers: Sequence[int], repetitions: int) -> dict[str, dict[str, list[Estimate]]]:
    """Kind of figure → measure → an estimate for each number.

    mean: of the unsigned measures; signed: of the signed ones; spread: of the signed ones and the pixels; distance:
    of templates; change: of the unsigned measures and distances, what they are less what they are at the largest.
    """

    def each(statistic: Callable, rows: Mapping[str, np.ndarray]) -> dict[str, list[Estimate]]:
        return {name: [estimate(row, statistic, repetitions) for row in values] for name, values in rows.items()}

    distances = {"person": own.to_person, "population": own.to_population}
    unsigned = {name: np.abs(values) for name, values in own.signed.items()}
    compared = {**unsigned, **distances}
    return {
        "mean": each(mean, unsigned),
        "signed": each(mean, own.signed),
        "spread": {**each(spread, own.signed), "pixels": [pixel_spread(gram, repetitions) for gram in own.gram]},
        "distance": each(mean, distances),
        "change": each(mean, {name: values - values[-1] for name, values in compared.items()}),
    }


def pixel_spread(gram: np.ndarray, repetitions: int) -> Estimate:
    """Root mean variance over draws of the pixel values; gram: (d, d) of `Drawn`."""
    return _resampled(lambda weights: root_variance(weights, gram), len(gram), repetitions)


def _resampled(statistic: Callable[[np.ndarray], np.ndarray], draws: int, repetitions: int) -> Estimate:
    """statistic: weights (r, draws), whose rows add up to 1, → (r,)."""

    def figure(replicates: Replicates) -> np.ndarray:
        shares = (weights / weights.sum(axis=1, keepdims=True) for weights in replicates.weights())
        return np.concatenate([statistic(own) for own in shares])

    return resample(figure, np.ones(draws), draws, False, repetitions)[0].estimate()


def section(label: str, own: Drawn, figures: dict, numbers: Sequence[int], repetitions: int) -> Section:
    name = _slug(label)
    columns = [Column("images", "count"), *(Column(title, "score") for title in TITLES.values())]
    columns += [Column("template to person's mean", "score"), Column("to population's mean", "score")]
    means = [
        (
            number,
            *(figures["mean"][key][i] for key in TITLES),
            *(figures["distance"][key][i] for key in figures["distance"]),
        )
        for i, number in enumerate(numbers)
    ]
    for title, values, distances in zip(
        ("drawn of the person's mean", "drawn of the population's mean"),
        np.abs(own.means),
        ((0.0, own.between), (own.between, 0.0)),
        strict=True,
    ):
        means.append((title, *map(float, values), *distances))
    settled = [
        f"{title} {settles(figures['change'][key], numbers)}"
        for key, title in {
            **TITLES,
            "person": "distance to the person's mean",
            "population": "to the population's",
        }.items()
    ]
    note = (
        f"Settles at: {', '.join(settled)}. On average, a mean of images lies nearer to any fixed template than one of "
        "them does."
    )
    columns_spread = [Column("images", "count"), Column("yaw", "score"), Column("roll, degrees", "score")]
    columns_spread += [Column("side-light", "score"), Column("pixels, of 255", "number")]
    columns_spread += [Column("pixels, if drawing were linear", "number")]
    columns_spread += [Column(f"mean {key}, signed", "score") for key in TITLES]
    one = figures["spread"]["pixels"][0].value
    spreads = [
        (
            number,
            *(figures["spread"][key][i] for key in (*TITLES, "pixels")),
            one * shrinkage(number, own.images),
            *(figures["signed"][key][i] for key in TITLES),
        )
        for i, number in enumerate(numbers)
    ]
    curves = {
        title: [
            estimate(np.stack([np.abs(own.signed[key][0]), np.abs(row)], 1), ratio, repetitions)
            for row in own.signed[key]
        ]
        for key, title in zip(TITLES, ("turn", "|roll|", "|side-light|"), strict=True)
    }
    data = plots.curve_plot(
        numbers,
        curves,
        x_label="images in the template",
        y_label="mean, by that of one image",
        log_x=True,
        percent=False,
    )
    alt = "Turn, roll and side-light against the number of images, each by its mean of one image."
    return Section(
        label,
        tables=[
            Table(f"means-{name}", "Means over draws", columns, means, note),
            Table(
                f"spreads-{name}",
                "Standard deviations over draws",
                columns_spread,
                spreads,
                f"The draws choose from {own.images} images, so that they have nearly all in common where n is near "
                "that, and the spread has to vanish there. 'If drawing were linear': the spread of one image by "
                "√((1/n - 1/N) / (1 - 1/N)), what averaging alone does; that the pictures have 8 bits "
                "adds up to 0.29 (of 255), which is what is left at large n.",
            ),
        ],
        pictures=[
            Picture(f"curve-{name}", "Means by those of one image", data, "Bands: intervals by draw.", alt, "svg")
        ],
    )


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def opposite(figure: Estimate) -> Estimate:
    """The figure with its sign turned."""
    low, high = (None if end is None else -end for end in (figure.high, figure.low))
    return Estimate(-figure.value, low, high, figure.n)


def as_json(figures: dict[str, dict[str, list[Estimate]]], numbers: Sequence[int]) -> dict:
    found: dict = {
        kind: {
            name: {str(number): own.as_json() for number, own in zip(numbers, row, strict=True)}
            for name, row in measures.items()
        }
        for kind, measures in figures.items()
    }
    return {**found, "settles": {name: settles(row, numbers) for name, row in figures["change"].items()}}


def protocol(found: Mapping[str, Drawn], settings: dict) -> list[str]:
    """How the figures were made, a paragraph each."""
    have = ", ".join(f"{label} {own.images} images and {own.people:,} other people" for label, own in found.items())
    return [
        f"Person: {settings['people'][0]}, on whom no decoder was trained ({have}). In each of {settings['draws']} "
        f"draws (seeds from {settings['seed']}) the images are put in random order; the template of n is the mean of "
        "the first n, which the decoder draws.",
        _MEASURED,
        "The population's mean is the mean over all other people of the store of their mean templates; the person's is "
        "over all of the person's images, those of the aggregate among them. Distances are Euclidean, or 1 - cosine "
        "where the recognizer is compared by it.",
        f"Intervals are {LEVEL:.0%} percentiles of a bootstrap over draws ({settings['repetitions']:,} replicates). "
        "Draws share images, the more the larger n is, so that the intervals are of the choice among these images "
        "only. 'Settles at' is the smallest n from which on no interval of the paired difference to the largest n "
        "leaves out 0.",
    ]
