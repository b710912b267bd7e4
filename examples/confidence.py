"""Whether a confidence map is right: predicted against found errors, on people whom neither it nor the decoder knows.

    facedecode fit-confidence emb -o confidence.safetensors \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush
    python examples/confidence.py emb --confidence confidence.safetensors \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt -o docs/results/confidence

writes a report like those of `facedecode evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from arguments import Parser, command_line, finish, positive, run
from calibration import BINS, Bin, calibration, calibration_plot

from facedecode.cli.console import Console
from facedecode.decoders import Decoder, find_decoder, load_decoder
from facedecode.evaluation.cohort import (
    UnseenImages,
    known_people,
    open_stores,
    refuse_known,
    require_unseen,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.rendering import spread_rows
from facedecode.inversion.confidence import Confidence, central, load_confidence, mean_face, squared_errors
from facedecode.inversion.invert import SCALE_TITLE
from facedecode.memory import require_memory
from facedecode.pictures.figures import heat_pictures, picture_grid, png_bytes, shortened, with_scale
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.folder import require_writable
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.scores import encode_people
from facedecode.statistics.verification import person_weights
from facedecode.store import Store
from facedecode.store.images import read_portraits

LEVELS = (0.5, 0.8, 0.95)
MAP, CONSTANT = "map", "constant"
REGIONS = {"whole": lambda cells: cells, "center": central}
REGION_TITLES = {"whole": "whole portrait", "center": "central region"}
COLUMNS = 10
ERROR_SCALE = 0.4  # where the color scale of RMS errors ends


@dataclass(frozen=True)
class Measured:
    """Errors of n pictures, (n, S, S) float64 each.

    squares: found. variances: predicted, by MAP and by CONSTANT, the map that does not look at the template.
    without: squared errors of the mean face of these very images. within: (map, region, level) → (n,), the share of
    pixel values whose error a normal distribution of the predicted variance holds at that level.
    """

    squares: np.ndarray
    variances: dict[str, np.ndarray]
    without: np.ndarray
    within: dict[tuple[str, str, float], np.ndarray]


@dataclass(frozen=True)
class Figures:
    """gain, by region: mean log-likelihood of a cell's error by MAP less by CONSTANT. ratio, by (map, region): mean of
    found over predicted squares, 1 where a map is right. coverage: as `Measured.within`. explained: found share of the
    mean face's squared error, by region. bins: by what is predicted.
    """

    gain: dict[str, Estimate]
    ratio: dict[tuple[str, str], Estimate]
    coverage: dict[tuple[str, str, float], Estimate]
    explained: dict[str, Estimate]
    bins: dict[str, list[Bin]]


BIN_TITLES = {
    "error": ("Predicted and found error", "RMS error of pixel values", False),
    "relative": ("Error relative to what is expected in the same cell of any template", "relative RMS error", False),
    "explained": ("Confidence: the share of the variance that is explained", "share explained", True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    require_writable(given.output, given.overwrite)
    ((name, store),) = open_stores([given.store]).items()
    folder = find_decoder(given.decoder or name)
    decoder, confidence = load_decoder(folder), load_confidence(given.confidence)
    confidence.require_decoder(describe_decoder(decoder), store.recognizer)
    known = known_people([store], [decoder]).union(confidence.fitted_on)
    images = unseen_images(store, given.people, given.limit, known)
    identities = images.acquired_identities
    require_unseen(folder.name, decoder.known, images.judged)
    require_unseen_by_store(store, images.judged)
    refuse_known(f"{given.confidence}: fitted on", confidence.known, images.judged)
    side = decoder.image_size
    require_memory(6 * 3 * len(identities) * side**2, f"{len(identities)} portraits of {side} px", "give a --limit")
    with Console().progress() as stage:
        portraits = read_portraits(images.acquired, store.root, side, stage("portraits"))
        templates = images.templates[~images.missing]
        pictures = decoder.decode(templates, progress=stage("draw"))
        measured = measure(confidence, templates, portraits, pictures, identities, stage("compare"))
    options = {"repetitions": given.repetitions, "seed": given.seed}
    figures = evaluate(measured, confidence, identities, options)
    rows = spread_rows(identities, COLUMNS)
    shown = faces(portraits[rows], pictures[rows], [identities[k] for k in rows], measured, rows, confidence)
    report = make_report(given, images, confidence, figures, [shown, average_maps(measured, confidence)])
    report.provenance.update(provide(given, store, decoder, folder, confidence))
    finish(report, given)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--repetitions", "--seed")
    parser.add_argument("store", type=Path, help="store of the decoder's recognizer, with its images")
    parser.add_argument("--confidence", type=Path, required=True, help="a map made by 'facedecode fit-confidence'")
    parser.add_argument("--people", type=Path, required=True, help="people whom neither map nor decoder was fitted on")
    parser.add_argument("--decoder", help="its folder; the shipped one for the recognizer if not given")
    parser.add_argument("--limit", type=positive, help="the first so many images only")
    return parser.parse_args(arguments)


def measure(
    confidence: Confidence,
    templates: np.ndarray,
    portraits: np.ndarray,
    pictures: np.ndarray,
    identities: Sequence[str],
    progress: Callable[[int, int], None],
) -> Measured:
    variances = {MAP: confidence.variances(templates)}
    variances[CONSTANT] = np.broadcast_to(confidence.average.astype(np.float64), variances[MAP].shape)
    face = mean_face(portraits, person_weights(encode_people(identities)[1]))
    without = squared_errors(portraits, np.broadcast_to(face, portraits.shape), confidence.grid)
    within = {(m, r, level): np.empty(len(portraits)) for m in variances for r in REGIONS for level in LEVELS}
    deviates = {level: NormalDist().inv_cdf((1 + level) / 2) for level in LEVELS}
    cell = portraits.shape[1] // confidence.grid
    for k, (portrait, picture) in enumerate(zip(portraits, pictures, strict=True)):
        error = np.abs(portrait.astype(np.float32) - picture) / 255
        for name, predicted in variances.items():
            sigma = np.sqrt(predicted[k]).astype(np.float32).repeat(cell, 0).repeat(cell, 1)
            for level, deviate in deviates.items():
                # Pixel by pixel, the mean over RGB: REGIONS cut the last two axes.
                held = (error <= deviate * sigma[..., None]).mean(2)
                for region, cut in REGIONS.items():
                    within[name, region, level][k] = cut(held).mean()
        progress(k + 1, len(portraits))
    return Measured(squared_errors(portraits, pictures, confidence.grid), variances, without, within)


def evaluate(
    measured: Measured, confidence: Confidence, identities: Sequence[str], options: Mapping[str, int]
) -> Figures:
    def mean(values: np.ndarray, cut=REGIONS["whole"]) -> Estimate:
        by_image = cut(values).mean((1, 2)) if values.ndim == 3 else values
        return mean_interval(by_image, identities, person_weighted=True, **options)

    squares, found = measured.squares, {}
    for name, predicted in measured.variances.items():
        found[name] = squares / predicted
    # Of an error that is normal about 0, less what both maps have in common.
    better = sum(sign * (np.log(measured.variances[m]) + found[m]) / 2 for m, sign in ((CONSTANT, 1), (MAP, -1)))
    predicted, prior = measured.variances[MAP], np.broadcast_to(confidence.prior.astype(np.float64), squares.shape)
    usual, one = measured.variances[CONSTANT], np.ones_like(squares)
    bins = {
        "error": calibration(predicted, predicted, squares, one, identities, **options),
        "relative": calibration(predicted / usual, predicted, squares, usual, identities, **options),
        "explained": explained_bins(predicted, prior, squares, measured.without, identities, options),
    }
    return Figures(
        gain={region: mean(better, cut) for region, cut in REGIONS.items()},
        ratio={(m, region): mean(found[m], cut) for m in found for region, cut in REGIONS.items()},
        coverage={key: mean(values) for key, values in measured.within.items()},
        explained={
            # One bin is a ratio of sums, with its interval.
            region: calibration(
                *(cut(x) for x in (predicted, predicted, squares, measured.without)),
                identities,
                lambda ratio: 1 - ratio,
                bins=1,
                **options,
            )[0].found
            for region, cut in REGIONS.items()
        },
        bins=bins,
    )


def explained_bins(
    predicted: np.ndarray,
    prior: np.ndarray,
    squares: np.ndarray,
    without: np.ndarray,
    identities: Sequence[str],
    options: Mapping[str, int],
) -> list[Bin]:
    """Bins of rising confidence; found is relative to the mean face of the very people who are judged."""
    order = -predicted / prior
    foreseen = calibration(order, predicted, predicted, prior, identities, lambda ratio: 1 - ratio, **options)
    found = calibration(order, predicted, squares, without, identities, lambda ratio: 1 - ratio, **options)
    return [Bin(a.predicted, b.found) for a, b in zip(foreseen, found, strict=True)]


def make_report(
    given: argparse.Namespace,
    images: UnseenImages,
    confidence: Confidence,
    figures: Figures,
    pictured: Sequence[Section],
) -> Report:
    """The report; its provenance is filled in by the caller."""
    fitted = confidence.report
    identities = images.acquired_identities
    warnings = []
    if images.beyond:
        warnings.append(f"{images.beyond} images of these people were left out by --limit: a trial run.")
    return Report(
        kind="confidence",
        title="Calibration of a confidence map",
        protocol=[
            f"Data: {len(identities):,} images of {len(set(identities)):,} people of {given.people.name}; neither the "
            f"decoder was trained on them nor the map fitted on them. The map was fitted on {fitted['images']:,} "
            f"images of {len(confidence.fitted_on):,} others.",
            f"The map predicts the squared error of pixel values (RGB, range [0, 1]) for each of {confidence.grid} × "
            f"{confidence.grid} cells, given the template. Found is that of the decoder's 8-bit picture against the "
            "portrait. The constant map predicts the mean over the images of the fit whatever the template: what is "
            "better than that is owed to the template.",
            "Confidence is the share of the portraits' variance about the mean face that is explained, "
            "1 - σ²(e)/σ²_prior. What is found is relative to the mean face of the very images that are judged, which "
            "no attacker has.",
            "Bins hold equally many cells. All figures are by person: the mean over a person's images, then over "
            f"people. Intervals are {100 * LEVEL:g} %, by bootstrap over people ({given.repetitions:,} replicates).",
        ],
        headlines=[
            Headline("Likelihood gained by the template", figures.gain["whole"], "small", "nats a cell"),
            Headline("Found over predicted squared error", figures.ratio[MAP, "whole"], "number", "1 is right"),
            Headline("Pixel values within 95 % of the map", figures.coverage[MAP, "whole", 0.95]),
            Headline("Variance explained, central region", figures.explained["center"], "percent", "found"),
        ],
        sections=[*calibrations(figures), coverage(figures), worth(figures), *pictured],
        metrics={
            "images": len(identities),
            "people": len(set(identities)),
            "gain": {region: figure.as_json() for region, figure in figures.gain.items()},
            "explained": {region: figure.as_json() for region, figure in figures.explained.items()},
            "ratio": {m: {r: figures.ratio[m, r].as_json() for r in REGIONS} for m in (MAP, CONSTANT)},
            "coverage": {
                m: {r: {f"{level:g}": figures.coverage[m, r, level].as_json() for level in LEVELS} for r in REGIONS}
                for m in (MAP, CONSTANT)
            },
            "bins": {
                name: [{"predicted": one.predicted, "found": one.found.as_json()} for one in bins]
                for name, bins in figures.bins.items()
            },
        },
        warnings=warnings,
    )


def calibrations(figures: Figures) -> list[Section]:
    sections = []
    for name, bins in figures.bins.items():
        title, label, percent = BIN_TITLES[name]
        unit = "percent" if percent else "score"
        columns = [Column("bin", "count"), Column("predicted", unit), Column("found", unit)]
        rows = [(k + 1, one.predicted, one.found) for k, one in enumerate(bins)]
        plot = calibration_plot(
            [one.predicted for one in bins],
            [one.found for one in bins],
            x_label=f"predicted {label}",
            y_label=f"found {label}",
            percent=percent,
        )
        table = Table(f"bins-{name}", f"{BINS} bins of equally many cells", columns, rows)
        alt = f"Found against predicted {label} in {BINS} bins, with the line where both are equal."
        picture = Picture(f"calibration-{name}", title, plot, "Bars: intervals by person.", alt, "svg")
        sections.append(Section(title, tables=[table], pictures=[picture]))
    return sections


def coverage(figures: Figures) -> Section:
    columns = [Column("region"), Column("nominal", "percent"), Column("map", "percent")]
    columns.append(Column("constant map", "percent"))
    rows = [
        (REGION_TITLES[region], level, *(figures.coverage[m, region, level] for m in (MAP, CONSTANT)))
        for region in REGIONS
        for level in LEVELS
    ]
    note = (
        "The share of pixel values whose error lies within that much of a normal distribution with the predicted "
        "variance. A share that is too high at 50 % and too low at 95 % says that errors have longer tails than that."
    )
    return Section("Coverage", tables=[Table("coverage", "Errors within the predicted range", columns, rows, note)])


def worth(figures: Figures) -> Section:
    columns = [
        Column("region"),
        Column("likelihood gained, nats a cell", "small"),
        Column("variance explained", "percent"),
    ]
    columns += [Column("found over predicted, map"), Column("found over predicted, constant map")]
    columns = [*columns[:3], *(Column(c.title, "number") for c in columns[3:])]
    rows = [
        (REGION_TITLES[r], figures.gain[r], figures.explained[r], *(figures.ratio[m, r] for m in (MAP, CONSTANT)))
        for r in REGIONS
    ]
    note = "Gained over the constant map; the cells of a picture are not independent, so that theirs do not add up."
    return Section("What the template adds", tables=[Table("worth", "By region", columns, rows, note)])


def faces(
    portraits: np.ndarray,
    pictures: np.ndarray,
    names: Sequence[str],
    measured: Measured,
    rows: Sequence[int],
    confidence: Confidence,
) -> Section:
    side = portraits.shape[1]
    explained = np.clip(1 - measured.variances[MAP][rows] / confidence.prior, 0, 1)
    errors = [np.sqrt(values[rows]) for values in (measured.variances[MAP], measured.squares)]
    captions = [[shortened(name, side) for name in names], [], [f"{share.mean():.0%}" for share in central(explained)]]
    maps = [portraits, pictures, heat_pictures(explained, side, confidence.scale)]
    first = with_scale(
        picture_grid(maps, ["original", "rebuilt", "confidence"], captions), confidence.scale, SCALE_TITLE
    )
    captions = [[f"{np.sqrt((share**2).mean()):.3f}" for share in error] for error in errors]
    maps = [heat_pictures(error, side, ERROR_SCALE) for error in errors]
    title = "RMS error of pixel values, of their range"
    second = with_scale(picture_grid(maps, ["expected", "found"], captions), ERROR_SCALE, title)
    who = "People spread evenly over the sorted names"
    return Section(
        "Maps of single templates",
        pictures=[
            Picture(
                "faces-confidence",
                "Confidence",
                png_bytes(first),
                f"{who}. Below each map its mean over the central region.",
                "Originals, what the decoder drew, and how much of each cell the template explains.",
            ),
            Picture(
                "faces-error",
                "Expected and found error",
                png_bytes(second),
                "The same people. Below each map its root mean square.",
                "Maps of the error that was expected from the template alone, and of the error that was found.",
            ),
        ],
    )


def average_maps(measured: Measured, confidence: Confidence) -> Section:
    predicted = 1 - measured.variances[MAP].mean(0) / confidence.prior
    found = 1 - measured.squares.mean(0) / measured.without.mean(0)
    pair = heat_pictures(np.stack([predicted, found]), 256, confidence.scale)
    grid = picture_grid([pair], captions=[["predicted", "found"]])
    return Section(
        "The average map",
        pictures=[
            Picture(
                "average-maps",
                "Confidence over all images",
                png_bytes(with_scale(grid, confidence.scale, SCALE_TITLE)),
                "The share of the variance that is explained, each cell over all images.",
                "Two maps of one scale: the share predicted for each cell, and the share found.",
            )
        ],
    )


def provide(given: argparse.Namespace, store: Store, decoder: Decoder, folder: Path, confidence: Confidence) -> dict:
    return {
        "stores": [describe_store(store)],
        "decoders": {folder.name: describe_decoder(decoder)},
        "confidence": {
            **describe_file(given.confidence),
            "images": confidence.report["images"],
            "people": len(confidence.fitted_on),
            "penalty": confidence.report["penalty"],
            "cross_validation": confidence.report["cross_validation"],
        },
        "settings": {
            "people": describe_file(given.people),
            "limit": given.limit,
            "repetitions": given.repetitions,
            "seed": given.seed,
            "level": LEVEL,
        },
        "command": command_line(__file__),
        "environment": environment(),
    }


if __name__ == "__main__":
    run(main)
