"""What refinement is worth, in the recognizer that it follows and in one that it never sees, before and after.

    python examples/refinement.py emb --against emb-edgeface \\
        --weights edgeface-xxs=../shared/weights/edgeface_xxs.safetensors \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt --images 300 -o docs/results/refinement

writes a report like those of `facedecode evaluate`. Both stores are made by `facedecode extract` from the same images.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, finish, positive, run

from facedecode.cli.console import Console
from facedecode.decoders import Decoder, find_decoder, load_decoder
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import (
    Judge,
    UnseenImages,
    known_people,
    load_recognizers,
    make_judge,
    open_stores,
    require_unseen,
    unseen_images,
)
from facedecode.evaluation.fidelity import ORIGINALS, add_fidelity, fidelity_axes, fidelity_specs, picture_values
from facedecode.evaluation.rendering import spread_rows
from facedecode.evaluation.result import FEW_ERRORS, Result, Schema
from facedecode.evaluation.security.report import TYPES
from facedecode.inversion.refinement import Refined, RefineSettings, refine
from facedecode.options import named
from facedecode.pictures.figures import picture_grid, png_bytes, shortened
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.folder import require_writable
from facedecode.report.text import percent, show_number, slug
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import RateAtFmr, Trials, rates_at_fmr
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import encode_people, score_pairs, score_rows
from facedecode.store import Store
from facedecode.store.images import read_portraits

FMRS = (0.001, 0.0001)
BEFORE, AFTER = "decoder", "refined"
COLUMNS = 10


@dataclass(frozen=True)
class Measured:
    """Rates by (recognizer, type of attack), one for each of FMRS, by person.

    rates: picture (BEFORE, AFTER) → …; gains: AFTER less BEFORE, paired, thresholds held fixed; tar: by recognizer,
    that of real pairs of the same images.
    """

    rates: dict[str, dict[tuple[str, str], list[RateAtFmr]]]
    gains: dict[tuple[str, str], list[Estimate]]
    tar: dict[str, list[RateAtFmr]]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    stores = open_stores([arguments.store, *arguments.against])
    weights = {name: Path(file) for name, file in named(arguments.weights, "--weights").items()}
    recognizers = load_recognizers(stores, weights)
    attacked, store = next(iter(stores.items()))
    folder = find_decoder(arguments.decoder or attacked)
    decoder = load_decoder(folder)
    decoder.require_recognizer(store.recognizer, f"the decoder {folder.name}")
    images = unseen_images(store, arguments.people, known=known_people(stores.values(), [decoder]))
    require_unseen(folder.name, decoder.known, images.judged)
    judges = {name: make_judge(recognizer, stores[name], images) for name, recognizer in recognizers.items()}
    rows = sampled(images, judges, arguments.images, arguments.seed)
    with Console().progress() as stage:
        found = refine(
            images.templates[rows],
            decoder,
            recognizers[attacked],
            arguments.steps,
            seed=arguments.seed,
            progress=stage("refine, steps"),
        )
    pictures = {BEFORE: decoder.decode(images.templates[rows]), AFTER: found.pictures}
    originals = read_portraits([images.rows[row] for row in rows], store.root, decoder.image_size)
    drawn = {by: {name: embed_pictures(r, made) for name, r in recognizers.items()} for by, made in pictures.items()}
    options = {"repetitions": arguments.repetitions, "seed": arguments.seed}
    measured = measure(drawn, judges, images.identities, rows, options)
    values = {ORIGINALS: picture_values(originals, originals)}
    for by, made in pictures.items():
        scores = {
            name: score_pairs(drawn[by][name], judge.templates[rows], judge.recognizer.spec.score)
            for name, judge in judges.items()
        }
        values[by] = picture_values(made, originals, scores=scores)
    figures = Result(Schema("refinement", "", fidelity_axes([BEFORE, AFTER], list(judges)), fidelity_specs()))
    add_fidelity(figures, values, [images.identities[row] for row in rows], BEFORE, **options)
    report = make_report(arguments, images, rows, judges, measured, figures, found, decoder)
    shown = faces(originals, pictures, [images.identities[row] for row in rows], found)
    command = sys.argv[1:] if argv is None else argv
    provenance = provide(command, arguments, stores, judges, decoder, folder, rows)
    report = dataclasses.replace(report, sections=[*report.sections, shown], provenance=provenance)
    finish(report, arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--repetitions", "--seed")
    parser.add_argument("store", type=Path, help="store of the attacked recognizer, with its images")
    parser.add_argument("--against", type=Path, nargs="+", required=True, help="stores of the same images by others")
    parser.add_argument("--weights", nargs="*", default=[], help="NAME=FILE, where no package has them")
    parser.add_argument("--people", type=Path, required=True, help="people whom the decoder was not trained on")
    parser.add_argument("--decoder", help="its folder; the shipped one for the attacked recognizer if not given")
    parser.add_argument("--images", type=positive, default=300, help="how many to refine")
    parser.add_argument("--steps", type=positive, default=16)
    return parser.parse_args(argv)


def sampled(images: UnseenImages, judges: Mapping[str, Judge], count: int, seed: int) -> np.ndarray:
    """Rows to refine: of people with two images or more one each, in random order; then a second, and so on."""
    there = ~np.any([judge.missing for judge in judges.values()], axis=0)
    owned = Counter(images.identities)
    rows = np.array([row for row, name in enumerate(images.identities) if there[row] and owned[name] > 1])
    if not len(rows):
        raise BadInput("nobody has two images with a template, so there is no attack of type II")
    drawn: Counter[str] = Counter()
    ranks = []
    rows = np.random.default_rng(seed).permutation(rows)
    for row in rows:
        ranks.append(drawn[images.identities[row]])
        drawn[images.identities[row]] += 1
    return rows[np.argsort(ranks, kind="stable")[:count]]


def measure(
    drawn: Mapping[str, Mapping[str, np.ndarray]],
    judges: Mapping[str, Judge],
    identities: Sequence[str],
    rows: np.ndarray,
    options: Mapping[str, int],
) -> Measured:
    """drawn: picture → recognizer → templates (k, dim) of the pictures of `rows` (k,)."""
    people, codes = encode_people(identities)
    others = [(k, j) for k, row in enumerate(rows) for j in np.flatnonzero(codes == codes[row]) if j != row]
    compared = {"type_one": (np.arange(len(rows)), rows), "type_two": tuple(np.array(others).T)}
    rates: dict[str, dict] = {BEFORE: {}, AFTER: {}}
    gains, tar = {}, {}
    for name, judge in judges.items():
        trials = {}
        for by, found in drawn.items():
            both = np.concatenate([found[name], judge.templates])
            for kind, (left, right) in compared.items():
                there = np.where(judge.missing[right], -1, right + len(rows))
                scores = score_rows(both, left, there, judge.recognizer.spec.score)
                trials[by, kind] = Trials(scores, codes[rows[left]]).person_weighted()
        left, right = compared["type_two"]
        real = score_rows(
            judge.templates, rows[left], np.where(judge.missing[right], -1, right), judge.recognizer.spec.score
        )
        trials["tar"] = Trials(real, codes[rows[left]]).person_weighted()
        at = rates_at_fmr(trials, NonMated.from_all_pairs(judge.pairs), FMRS, people=len(people), **options)
        tar[name] = at["tar"]
        for kind in TYPES:
            for by in drawn:
                rates[by][name, kind] = at[by, kind]
            before, after = (trials[by, kind] for by in (BEFORE, AFTER))
            owners = [people[code] for code in after.people]
            gains[name, kind] = [
                mean_interval(
                    (after.scores >= rate.threshold).astype(float) - (before.scores >= rate.threshold),
                    owners,
                    person_weighted=True,
                    **options,
                )
                for rate in at[AFTER, kind]
            ]
    return Measured(rates, gains, tar)


def make_report(
    arguments: argparse.Namespace,
    images: UnseenImages,
    rows: np.ndarray,
    judges: Mapping[str, Judge],
    measured: Measured,
    figures: Result,
    found: Refined,
    decoder: Decoder,
) -> Report:
    """The report, still without pictures and provenance."""
    attacked, *others = judges
    moved = sum((found.after > found.before).tolist())
    people = len({images.identities[row] for row in rows})
    headlines, pictures = [], figures.as_json()
    for name in (*others, attacked):
        where = "attacked, followed by refinement" if name == attacked else "transfer"
        title = f"Gain in type II at FMR {percent(FMRS[0])}, {name}"
        headlines.append(Headline(title, measured.gains[name, "type_two"][0], "points", f"points, paired; {where}"))
    headlines.append(Headline("Gain in PSNR", figures.value("psnr_over_baseline", {"decoder": AFTER}), "db", "paired"))
    return Report(
        kind="refinement",
        title="Refinement of reconstructions by the recognizer's gradients",
        protocol=[
            f"Data: the images of {arguments.people.name} ({len(images.rows):,} of {len(set(images.identities)):,} "
            f"people, none of whom the decoder was trained on) set the thresholds. Refined is a sample of {len(rows)} "
            f"images of {people} people with two images or more (seed {arguments.seed}; one image each first).",
            f"Threat model: the attacker holds a template of {attacked}, a decoder for it, and {attacked}'s weights "
            f"(white-box). He moves the decoder's input in {arguments.steps} steps so that the picture's own template "
            f"comes closer to the one he holds. {' and '.join(others)} took no part in that: success there is "
            "transfer.",
            "Pictures are rounded to 8 bits and embedded in the portrait's frame, without a new detection. Type I: "
            "against the very image that made the template; type II: against every other image of that person. "
            "Thresholds: from all real non-mated pairs of these people. By person: the mean over a person's "
            "comparisons, then over people.",
            f"Intervals are {100 * LEVEL:g} %, by bootstrap over people ({arguments.repetitions:,} replicates); those "
            "of rates set the thresholds anew in each replicate, those of gains are paired and hold them fixed.",
            f"{moved} of {len(rows)} pictures came closer by {attacked}'s score; the others stayed as the decoder drew "
            "them. The best of all steps is kept by that score, so that in that recognizer it cannot fall.",
        ],
        headlines=headlines,
        sections=[success(judges, measured), pixels(judges, figures)],
        metrics={
            "images": len(rows),
            "people": people,
            "improved": moved,
            "rates": {
                by: {name: {kind: _by_fmr(rates[name, kind]) for kind in TYPES} for name in judges}
                for by, rates in measured.rates.items()
            },
            "gains": {name: {kind: _by_fmr(measured.gains[name, kind]) for kind in TYPES} for name in judges},
            "tar": {name: _by_fmr(rates) for name, rates in measured.tar.items()},
            "pictures": {ORIGINALS: pictures[ORIGINALS], **pictures["decoders"]},
        },
        warnings=list(caveats(images, rows, judges, measured, decoder)),
    )


def caveats(
    images: UnseenImages, rows: np.ndarray, judges: Mapping[str, Judge], measured: Measured, decoder: Decoder
) -> Iterator[str]:
    """Who else had a part in the decoder, and which figures rest on few errors."""
    for name, judge in list(judges.items())[1:]:
        if judge.recognizer.weights_sha256 == decoder.recognizer.weights_sha256:
            yield f"{name} and {decoder.recognizer.name} are one network: no test of transfer."
        elif (part := decoder.looked_through(name, judge.recognizer.weights_sha256)) is not False:
            yield f"The decoder {'was' if part else 'may have been'} trained through {name}: no test of transfer."
    owned = Counter(images.identities)
    # A rate by person counts people in its n; errors are of comparisons.
    comparisons = {"type_one": len(rows), "type_two": sum(owned[images.identities[row]] - 1 for row in rows)}
    for name in judges:
        if few := [rate for rate in measured.tar[name] if rate.false_accepts < FEW_ERRORS]:
            listed = ", ".join(f"{percent(rate.fmr_wanted)} ({rate.false_accepts})" for rate in few)
            yield f"{name}: thresholds rest on fewer than {FEW_ERRORS} false matches at FMR {listed}."
        listed = [
            f"{TYPES[kind]} {word} at {percent(rate.fmr_wanted)}"
            for kind in TYPES
            for by, word in ((BEFORE, "before"), (AFTER, "after"))
            for rate in measured.rates[by][name, kind]
            if comparisons[kind] - rate.accepted < FEW_ERRORS
        ]
        if listed:
            yield f"{name}: these rest on fewer than {FEW_ERRORS} failures: {', '.join(listed)}."


def _by_fmr(figures: Sequence[Estimate]) -> dict:
    return {f"{fmr:g}": figure.as_json() for fmr, figure in zip(FMRS, figures, strict=True)}


def success(judges: Mapping[str, Judge], measured: Measured) -> Section:
    columns = [Column("FMR"), Column("attack"), Column("before", "percent"), Column("after", "percent")]
    columns += [Column("gain, points", "points"), Column("real image (TAR)", "percent")]
    tables = []
    for name in judges:
        rows = []
        for kind in TYPES:
            for k, fmr in enumerate(FMRS):
                cells = [measured.rates[by][name, kind][k] for by in (BEFORE, AFTER)]
                real = measured.tar[name][k] if kind == "type_two" else None
                rows.append((percent(fmr), TYPES[kind], *cells, measured.gains[name, kind][k], real))
        note = "A gain where no comparison changed has an interval without width, which says nothing of other people."
        tables.append(Table(f"success-{slug(name)}", f"Shown to {name}, by person", columns, rows, note))
    return Section("Success before and after", tables=tables)


def pixels(judges: Mapping[str, Judge], figures: Result) -> Section:
    def row(title: str, name: str, gain: str | None = None, **labels: str | int) -> tuple:
        cells = [figures.value(name, {"decoder": by, **labels}) for by in (BEFORE, AFTER)]
        return (title, *cells, gain and figures.value(gain, {"decoder": AFTER, **labels}))

    rows = [row("PSNR, dB", "psnr", "psnr_over_baseline"), row("SSIM", "ssim", "ssim_over_baseline")]
    for name in judges:
        title = f"score of the own template, {name}"
        rows.append(row(title, "scores", "scores_over_baseline", recognizer=name))
    rows.append(row("gradient energy, of the originals'", "gradient_energy_to_originals"))
    for period in figures.labels("period"):
        rows.append(row(f"grid peak at {period} px, dB", "grid_peak", period=period))
    columns = [Column("figure"), *(Column(title, "number") for title in ("before", "after", "gain"))]
    note = (
        "Means over images, intervals by person, gains paired. Noise would show as gradient energy and as peaks at the "
        "decoder's up-sampling periods."
    )
    return Section("Fidelity and noise", tables=[Table("pictures", "Before and after", columns, rows, note)])


def faces(
    originals: np.ndarray, pictures: Mapping[str, np.ndarray], identities: Sequence[str], found: Refined
) -> Section:
    gain = found.after - found.before
    choices = {
        "spread": ("People spread evenly over the sorted names", spread_rows(identities, COLUMNS)),
        "most": ("Those whose score rose most", np.argsort(-gain, kind="stable")[:COLUMNS].tolist()),
    }
    shown = []
    for name, (title, chosen) in choices.items():
        rows = [originals[chosen], *(made[chosen] for made in pictures.values())]
        side = originals.shape[1]
        captions = [[shortened(identities[k], side) for k in chosen]]
        captions += [[show_number(float(row[k]), "score") for k in chosen] for row in (found.before, found.after)]
        picture = png_bytes(picture_grid(rows, ["original", "before", "after"], captions))
        caption = f"{title}. Below each reconstruction its score against its template in the attacked recognizer."
        alt = f"Originals, what the decoder drew, and what refinement made of it. {title}."
        shown.append(Picture(f"faces-{name}", title, picture, caption, alt))
    return Section("Faces before and after", pictures=shown)


def provide(
    command: Sequence[str],
    arguments: argparse.Namespace,
    stores: Mapping[str, Store],
    judges: Mapping[str, Judge],
    decoder: Decoder,
    folder: Path,
    rows: np.ndarray,
) -> dict:
    return {
        "stores": [describe_store(store) for store in stores.values()],
        "decoders": {folder.name: describe_decoder(decoder)},
        "recognizers": {
            name: {"weights_sha256": judge.recognizer.weights_sha256, "score": judge.recognizer.spec.score}
            for name, judge in judges.items()
        },
        "settings": {
            "people": describe_file(arguments.people),
            "images": len(rows),
            "steps": arguments.steps,
            "refinement": dataclasses.asdict(RefineSettings()),
            "fmrs": list(FMRS),
            "repetitions": arguments.repetitions,
            "seed": arguments.seed,
            "level": LEVEL,
        },
        "command": command_line(__file__, command),
        "environment": environment(),
    }


if __name__ == "__main__":
    run(main)
