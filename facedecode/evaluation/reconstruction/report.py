"""The report of `evaluate reconstruction`: the figures of `measure` in words, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from facedecode.evaluation.fidelity import ORIGINALS, PERIODS, DecoderFigures
from facedecode.evaluation.reconstruction.measure import ReconstructionFigures, ReconstructionJob
from facedecode.evaluation.reconstruction.words import SCORES, caveats, protocol
from facedecode.evaluation.rendering import PLACES
from facedecode.pictures.figures import enlarged, picture_grid, png_bytes, shortened
from facedecode.provenance import describe_decoder, describe_file, describe_store
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.report.gates import figure_name
from facedecode.report.model import Unit
from facedecode.report.text import show_number
from facedecode.statistics.bootstrap import LEVEL, Estimate

WORDS = {"psnr": "psnr", "ssim": "ssim", "lpips": "lpips", "sharpness": "gradient_energy_to_originals"}
# Figures that each have a further name in gates, the recognizer's or perceptual network's: word → field.
SCORE, PHI = "score", "phi"
_FIELDS = {SCORE: "scores", PHI: "phi"}
_ACROSS = 6  # faces, as many as a phone's width shows


def reconstruction_report(figures: ReconstructionFigures, job: ReconstructionJob) -> Report:
    """The report. Reads the people file once more, for its hash."""
    keys = gate_keys(list(figures.decoders), list(figures.stores), figures.lpips is not None, list(figures.networks))
    return Report(
        kind="reconstruction",
        title="Faces drawn from templates: fidelity",
        protocol=protocol(figures, job),
        headlines=list(_headlines(figures)),
        sections=[
            _side_by_side(figures),
            _fidelity(figures),
            _scores(figures),
            _sharpness(figures),
            *([_differences(figures)] if figures.baseline and len(figures.decoders) > 1 else []),
            *_extremes(figures),
            _behind(figures),
        ],
        metrics=_metrics(figures),
        gates={name: _look_up(figures.figures[decoder], *key) for name, (decoder, *key) in keys.items()},
        warnings=caveats(figures, job),
        provenance=_provenance(figures, job),
    )


def gate_keys(
    decoders: Sequence[str], recognizers: Sequence[str], lpips: bool, networks: Sequence[str] = ()
) -> dict[str, tuple[str, str] | tuple[str, str, str]]:
    """Names of the figures for gates, and where each stands: the decoder, then the figure's name, or `_FIELDS`' word
    and the network's name.
    """
    found: dict = {}
    further = ((SCORE, recognizers), (PHI, networks))
    for decoder in decoders:
        # A name without its decoder is for the only one.
        for which in ([decoder],) if len(decoders) > 1 else ([decoder], []):
            for word, key in WORDS.items():
                if lpips or word != "lpips":
                    found[figure_name(word, which)] = (decoder, key)
            for word, names in further:
                if len(names) == 1:
                    found[figure_name(word, which)] = (decoder, word, names[0])
        for word, names in further:
            found |= {figure_name(word, [decoder, name]): (decoder, word, name) for name in names}
    return found


def _look_up(own: DecoderFigures, key: str, network: str | None = None) -> Estimate:
    return own.pictures[key] if network is None else getattr(own, _FIELDS[key])[network]


def _headlines(figures: ReconstructionFigures) -> Iterator[Headline]:
    attacked = next(iter(figures.stores))
    for name in figures.decoders:
        own = figures.figures[name]
        yield Headline(f"PSNR of {name}", own.pictures["psnr"], "db")
        yield Headline(f"SSIM of {name}", own.pictures["ssim"], "number")
        if "lpips" in own.pictures:
            note = f"{figures.lpips['net']}; lower is better"
            yield Headline(f"LPIPS of {name}", own.pictures["lpips"], "number", note)
        for network, distance in own.phi.items():
            yield Headline(f"φ distance of {name}", distance, "number", f"{network}; lower is better")
        kind = SCORES[figures.references[attacked].recognizer.spec.score]
        yield Headline(f"Score of {name} by {attacked}", own.scores[attacked], "score", f"{kind}; higher is more alike")


def _side_by_side(figures: ReconstructionFigures) -> Section:
    shown, people = figures.examples, figures.images.acquired_identities
    labels, rows, captions = ["original", *shown.pictures], [], []
    for start in range(0, len(shown.spread), _ACROSS):
        band = shown.spread[start : start + _ACROSS]
        rows += [
            enlarged(np.stack([source[k] for k in band])) for source in (shown.portraits, *shown.pictures.values())
        ]
        names = [shortened(people[k], rows[-1].shape[2]) for k in band]
        captions += [names, *([] for _ in shown.pictures)]
    picture = Picture(
        "side-by-side",
        "All decoders side by side",
        png_bytes(picture_grid(rows, labels * (len(rows) // len(labels)), captions)),
        f"People spread evenly over the sorted names, each one's first image: "
        f"{', '.join(people[k] for k in shown.spread)}.",
        f"{len(shown.spread)} people, one a column, in bands of {_ACROSS}; from top to bottom: {', '.join(labels)}.",
    )
    return Section("What the decoders draw", pictures=[picture])


def _fidelity(figures: ReconstructionFigures) -> Section:
    columns: list[tuple[str, str, Unit]] = [("PSNR", "psnr", "db"), ("SSIM", "ssim", "number")]
    if figures.lpips:
        columns.append((f"LPIPS ({figures.lpips['net']})", "lpips", "number"))
    table = _table(
        "fidelity",
        "Likeness to the original, pixel by pixel",
        figures,
        columns,
        f"Mean over images, 95 % interval in brackets. The {ORIGINALS} are compared with themselves."
        + ("" if figures.lpips else " LPIPS was not measured: no trunk was given."),
        networks=list(figures.networks),
    )
    return Section("Fidelity", tables=[table, _image_table(figures)])


def _scores(figures: ReconstructionFigures) -> Section:
    kinds = {name: by.recognizer.spec.score for name, by in figures.references.items()}
    table = Table(
        "scores",
        "Mean score of a picture against the very template of its original",
        [Column("pictures"), *(Column(f"{name}, {SCORES[kind]}", "score") for name, kind in kinds.items())],
        [(name, *own.scores.values()) for name, own in figures.figures.items()],
        "Higher is more alike. How often such scores pass a threshold is what 'evaluate security' says.",
    )
    return Section("What recognizers take the pictures for", tables=[table])


def _sharpness(figures: ReconstructionFigures) -> Section:
    columns: list[tuple[str, str, Unit]] = [
        ("gradient energy", "gradient_energy", "small"),
        ("of the originals'", "gradient_energy_to_originals", "percent"),
    ]
    own = figures.figures[ORIGINALS]
    periods = [period for period in PERIODS if f"grid_peak_{period}" in own.pictures]
    columns += [(f"grid peak at {period} px", f"grid_peak_{period}", "db") for period in periods]
    table = _table(
        "sharpness",
        "Gradient energy, and peaks that a grid would leave in the spectrum",
        figures,
        columns,
        "Gradient energy: mean |∇luma|², luma in [0, 1]. Grid peak: power at that period over the spectrum's own "
        "trend, about 0 dB without a grid.",
    )
    spectra = {name: values.spectrum for name, values in figures.figures.items()}
    frequencies = np.arange(len(own.spectrum)) / (2 * (len(own.spectrum) - 1))
    numbers = Table(
        "spectrum",
        "Spectrum of luma along rows and columns",
        [Column("cycles a pixel", "small"), *(Column(f"power, {name}", "small") for name in spectra)],
        list(zip(frequencies.tolist(), *(row.tolist() for row in spectra.values()), strict=True)),
        shown=False,
    )
    picture = Picture(
        "spectrum",
        "Spectrum of luma along rows and columns",
        plots.spectrum_plot(spectra, periods),
        "Mean power over images. Dotted: periods at which doubling a map leaves a grid, if it leaves one.",
        f"Power against frequency, a curve each for {', '.join(spectra)}.",
        "svg",
    )
    return Section("Sharpness and grid patterns", tables=[table, numbers], pictures=[picture])


def _differences(figures: ReconstructionFigures) -> Section:
    columns: list[tuple[str, str, Unit]] = [
        ("PSNR", "psnr_over_baseline", "db"),
        ("SSIM", "ssim_over_baseline", "number"),
        *([("LPIPS", "lpips_over_baseline", "number")] if figures.lpips else []),
        ("gradient energy, times", "gradient_energy_to_baseline", "number"),
    ]
    titles = [Column("pictures"), *(Column(title, unit) for title, _, unit in columns)]
    titles += [Column(f"φ distance ({name}), times", "number") for name in figures.networks]
    titles += [Column(f"score by {name}", "score") for name in figures.stores]
    rows = [
        (
            name,
            *(own.pictures[key] for _, key, _ in columns),
            *own.phi_to_baseline.values(),
            *own.scores_over_baseline.values(),
        )
        for name, own in figures.figures.items()
        if name not in (ORIGINALS, figures.baseline)
    ]
    table = Table(
        "differences",
        f"Each decoder less {figures.baseline}",
        titles,
        rows,
        "Paired: differences on the same images, with the same replicates; images whose PSNR is infinite in either are "
        "left out of its difference. Times: the ratio of the two means.",
    )
    return Section(f"Against the baseline {figures.baseline}", tables=[table])


def _extremes(figures: ReconstructionFigures) -> Iterator[Section]:
    attacked = next(iter(figures.stores))
    pictures = []
    for number, (name, measures) in enumerate(figures.examples.extremes.items(), 1):
        for measure, places in measures.items():
            pictures.append(_extreme(figures, name, f"decoder-{number}-{measure}", measure, places, attacked))
    if pictures:
        yield Section("Best, median and worst", pictures=pictures)


def _extreme(
    figures: ReconstructionFigures,
    name: str,
    file: str,
    measure: str,
    places: Mapping[str, Sequence[int]],
    attacked: str,
) -> Picture:
    shown, people, values = figures.examples, figures.images.acquired_identities, figures.values[name]
    row = values.psnr if measure == "psnr" else values.scores[attacked]
    unit: Unit = "db" if measure == "psnr" else "number"
    said = "PSNR" if measure == "psnr" else f"score ({attacked})"
    chosen = [(place, k) for place in PLACES for k in places[place]]
    pictures = [
        enlarged(np.stack([source[k] for _, k in chosen])) for source in (shown.portraits, shown.pictures[name])
    ]
    side = pictures[0].shape[2]
    captions = [
        [shortened(people[k], side) for _, k in chosen],
        [shortened(f"{place} {show_number(float(row[k]), unit)}", side) for place, k in chosen],
    ]
    each = len(places[PLACES[0]])
    return Picture(
        file,
        f"{name}, by {said}",
        png_bytes(picture_grid(pictures, ["original", name], captions)),
        f"From the left: the {each} best, the {each} about the median and the {each} worst of "
        f"{int(np.isfinite(row).sum()):,} images by {said}; originals above, what {name} draws below.",
        f"Two rows of {len(chosen)} pictures: originals, and what {name} draws of their templates.",
    )


def _behind(figures: ReconstructionFigures) -> Section:
    columns = [Column("decoder"), Column("kind"), *(Column(title, "count") for title in ("px", "people", "images"))]
    trained = {name: own.provenance.training for name, own in figures.decoders.items()}
    decoders = Table(
        "decoders",
        "Decoders, and what they were trained on",
        columns,
        [
            (name, own.kind, own.image_size, len(trained[name]["people"]), trained[name].get("images"))
            for name, own in figures.decoders.items()
        ],
    )
    attacked = next(iter(figures.stores))
    recognizers = Table(
        "recognizers",
        "Recognizers",
        [Column("recognizer"), Column("role"), Column("score"), Column("images without a template", "percent")],
        [
            (
                name,
                "attacked: its templates are decoded" if name == attacked else "further judge",
                SCORES[by.recognizer.spec.score],
                figures.failures[name],
            )
            for name, by in figures.references.items()
        ],
        "An image without a template (failure to acquire, ISO/IEC 19795-1) of the attacked recognizer has no picture, "
        "and has a place in no other figure; one without a template of another recognizer has no score by that one.",
    )
    return Section("Behind the figures", tables=[decoders, recognizers])


def _image_table(figures: ReconstructionFigures) -> Table:
    """One row a picture, for the CSV."""
    columns = [Column("path"), Column("identity"), Column("decoder"), Column("PSNR", "db"), Column("SSIM", "number")]
    columns += [Column("LPIPS", "number")] if figures.lpips else []
    columns += [Column(f"phi distance by {name}", "number") for name in figures.networks]
    columns += [Column("gradient energy", "small"), *(Column(f"score by {name}", "score") for name in figures.stores)]
    rows: list[tuple] = []
    for name, own in figures.values.items():
        numbers = [own.psnr, own.ssim, *([own.lpips] if figures.lpips else []), *own.phi.values()]
        numbers += [own.sharpness, *own.scores.values()]
        cells = ([x if np.isfinite(x) else None for x in row.tolist()] for row in numbers)
        for row, *values in zip(figures.images.acquired, *cells, strict=True):
            rows.append((row["path"], row["identity"], name, *values))
    note = "A field is empty where the PSNR is infinite, or a recognizer has no template of the original."
    return Table("images", "Every picture", columns, rows, note, shown=False)


def _table(
    name: str,
    title: str,
    figures: ReconstructionFigures,
    columns: Sequence[tuple[str, str, Unit]],
    note: str,
    networks: Sequence[str] = (),
) -> Table:
    """A row each for the originals and all decoders; columns: title, name of the figure, unit; then φ's distances."""
    rows = [
        (who, *(own.pictures[key] for _, key, _ in columns), *(own.phi[network] for network in networks))
        for who, own in figures.figures.items()
    ]
    titles = [Column("pictures"), *(Column(head, unit) for head, _, unit in columns)]
    return Table(name, title, titles + [Column(f"φ distance ({x})", "number") for x in networks], rows, note)


def _metrics(figures: ReconstructionFigures) -> dict:
    """decoders: name → figure; with a single decoder its figures at the top too."""
    images = figures.images
    metrics: dict = {
        "images": len(images.rows),
        "people": len(set(images.identities)),
        "failure_to_acquire": {name: failure.as_json() for name, failure in figures.failures.items()},
        "originals": figures.figures[ORIGINALS].metrics(),
        "decoders": {name: figures.figures[name].metrics() for name in figures.decoders},
    }
    if len(figures.decoders) == 1:
        metrics |= next(iter(metrics["decoders"].values()))
    return metrics


def _provenance(figures: ReconstructionFigures, job: ReconstructionJob) -> dict:
    return {
        "stores": [describe_store(store) for store in figures.stores.values()],
        "decoders": {name: describe_decoder(own, figures.folders[name]) for name, own in figures.decoders.items()},
        "recognizers": {
            name: {"weights_sha256": by.recognizer.weights_sha256, "score": by.recognizer.spec.score}
            for name, by in figures.references.items()
        },
        "lpips": figures.lpips,
        "phi": figures.networks,
        "settings": {
            "people": describe_file(job.people) if job.people else None,
            "limit": job.limit,
            "baseline": figures.baseline,
            "columns": job.columns,
            "repetitions": job.repetitions,
            "seed": job.seed,
            "level": LEVEL,
        },
    }
