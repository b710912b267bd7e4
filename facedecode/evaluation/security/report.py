"""The report of `evaluate security`: the figures of `measure` in words, tables and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from facedecode.errors import BadInput
from facedecode.evaluation.rendering import spread_rows
from facedecode.evaluation.result import FEW_ERRORS
from facedecode.evaluation.security.measure import OTHER, RANKS, REAL, SAME, SecurityFigures, SecurityJob
from facedecode.evaluation.security.pairs_curve import KINDS as CURVE_KINDS
from facedecode.evaluation.security.summary import gates, headlines, metrics, own_tar, rate_at
from facedecode.evaluation.security.words import (
    TITLES,
    TYPES,
    caveats,
    decoder_needs,
    few_errors,
    percent,
    protocol,
    slug,
)
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.provenance import describe_decoder, describe_file, describe_store
from facedecode.report import Column, Picture, Report, Section, Table, plots
from facedecode.statistics.bootstrap import LEVEL, Estimate
from facedecode.store.images import read_portraits

_SAMPLES = 8


def security_report(figures: SecurityFigures, job: SecurityJob) -> Report:
    """The report. Reads the originals of a few people for the sample grid, and goes without where they are gone."""
    samples, notes = _samples(figures, job)
    sections = [
        _holdings(figures),
        _success(figures),
        _matrix(figures),
        _identification(figures),
        *([_curve(figures)] if figures.curve else []),
        *([samples] if samples else []),
    ]
    return Report(
        kind="security",
        title="Security of face templates against inversion",
        protocol=protocol(figures, job),
        headlines=headlines(figures),
        sections=sections,
        metrics=metrics(figures),
        gates=dict(gates(figures)),
        warnings=[*caveats(figures, job), *notes],
        provenance=_provenance(figures, job),
    )


def label(figures: SecurityFigures, decoder: str) -> str:
    """A decoder's name, with its recognizer where there are decoders of several."""
    return f"{decoder} ({figures.made_by[decoder]})" if len(set(figures.made_by.values())) > 1 else decoder


def _kinds(figures: SecurityFigures) -> list[str]:
    return [kind for kind in TYPES if kind == "type_one" or figures.repeated]


def _holdings(figures: SecurityFigures) -> Section:
    rows = []
    for name, decoder in figures.decoders.items():
        training = decoder.provenance.training
        counts = (training.get("images"), len(training["people"]))
        rows.append((name, decoder.kind, figures.made_by[name], decoder_needs(decoder), *counts, decoder.image_size))
    columns = [Column("decoder"), Column("kind"), Column("for templates of"), Column("made with")]
    columns += [Column("training images", "count"), Column("training people", "count"), Column("side, px", "count")]
    text = (
        "A decoder is judged on people whom it was not trained on. Apart from the decoder the attacker holds the "
        "template that is attacked, and nothing of the recognizers that its picture is shown to; the whole threat "
        "model stands under Protocol."
    )
    return Section("Decoders and what it takes to make them", [text], [Table("decoders", "Decoders", columns, rows)])


def _success(figures: SecurityFigures) -> Section:
    tables = []
    columns = [Column("FMR"), Column("decoder")]
    columns += [Column(f"type I, {by}", "percent") for by in ("by person", "by image")]
    columns += [Column(f"type II, {by}", "percent") for by in ("by person", "by pair")]
    for target, judge in figures.judges.items():
        rows: list[tuple] = []
        for fmr in figures.fmrs:
            for name in figures.decoders:
                rates = figures.rates[name, target]
                cells = [rate_at(rates, kind, fmr, by) for kind in TYPES for by in ("people", "pairs")]
                rows.append((percent(fmr), name, *cells))
            ceiling = [own_tar(figures, target, fmr, by) for by in ("people", "pairs")]
            rows.append((percent(fmr), f"{REAL} (TAR)", None, None, *ceiling))
        failed, images = int(judge.missing.sum()), len(judge.missing)
        note = f"{failed} of {images:,} images gave no template in {target}; they count as no success."
        if transfer := [name for name in figures.decoders if figures.is_transfer(name, target)]:
            note += f" Transfer, from templates of another recognizer: {', '.join(transfer)}."
        tables.append(Table(f"success-{slug(target)}", f"Shown to {target}", columns, rows, note))
    rows = [
        (target, percent(rate.fmr_wanted), rate.threshold, rate.fmr, rate.false_accepts, rate.non_mated)
        for target in figures.judges
        for rate in figures.rates[next(iter(figures.decoders)), target].type_one["people"]
    ]
    columns = [Column("recognizer"), Column("FMR wanted"), Column("threshold", "score")]
    columns += [Column("FMR reached", "percent"), Column("false matches", "count"), Column("non-mated pairs", "count")]
    tables.append(Table("thresholds", "Thresholds, from the real images", columns, rows))
    tables += [_few_table(figures), _image_table(figures)]
    return Section("Success attack rates", tables=tables)


def _few_table(figures: SecurityFigures) -> Table:
    columns = [Column(title) for title in ("recognizer", "decoder", "figure", "at")]
    columns += [Column("successes", "count"), Column("failures", "count")]
    title = f"Figures that rest on fewer than {FEW_ERRORS} successes or failures"
    return Table("few-errors", title, columns, list(few_errors(figures)), shown=False)


def _image_table(figures: SecurityFigures) -> Table:
    columns = [Column(title) for title in ("path", "identity", "decoder", "recognizer")]
    columns += [Column("type I score", "score")]
    columns += [Column(f"success at FMR {fmr:g}", "count") for fmr in figures.fmrs]
    rows = []
    for (decoder, target), scores in figures.scores.items():
        thresholds = [rate.threshold for rate in figures.rates[decoder, target].type_one["people"]]
        for row, score in zip(figures.images.rows, scores, strict=True):
            shown = float(score) if np.isfinite(score) else None
            hits = [int(score >= threshold) for threshold in thresholds]
            rows.append((row["path"], row["identity"], decoder, target, shown, *hits))
    return Table("images", "Each image's type I score", columns, rows, shown=False)


def _matrix(figures: SecurityFigures) -> Section:
    fmr, targets = figures.headline_fmr, list(figures.judges)
    tables, pictures = [], []
    for kind in _kinds(figures):
        cells = {
            label(figures, name): [rate_at(figures.rates[name, target], kind, fmr) for target in targets]
            for name in figures.decoders
        }
        columns = [Column("decoder"), Column("for templates of")]
        columns += [Column(f"shown to {target}", "percent") for target in targets]
        rows = [(*pair, *row) for pair, row in zip(figures.made_by.items(), cells.values(), strict=True)]
        title = f"{TITLES[kind]} at FMR {percent(fmr)}, by person"
        name = f"matrix-{slug(TYPES[kind])}"
        tables.append(Table(name, title, columns, rows))
        values = np.array([[cell.value for cell in row] for row in cells.values()])
        drawn = plots.matrix_plot(list(cells), targets, values, x_label="shown to", y_label="decoder")
        alt = f"{title}: rows are decoders, columns the recognizers that their pictures are shown to."
        pictures.append(Picture(name, title, drawn, alt=alt, kind="svg"))
    text = (
        "Where a picture is shown to the recognizer that made the template, the template is used against the system "
        "that it was taken from. Elsewhere it is transfer: that recognizer did not make the template, and the attacker "
        "needs nothing of it; a decoder in whose training it took part is named among the warnings."
    )
    return Section(f"Made by one recognizer, shown to another (FMR {percent(fmr)})", [text], tables, pictures)


def _identification(figures: SecurityFigures) -> Section:
    tables, pictures = [], []
    for target, found in figures.identification.items():
        rows = []
        for probe, what in ((OTHER, "another image"), (SAME, "enrolled image")):
            for source, probes in found.ranks.items():
                if probe in probes:
                    rows.append((what, source, *probes[probe]["people"], *probes[probe]["pairs"]))
        columns = [Column("probe"), Column("source")]
        columns += [Column(f"rank {k}, {by}", "percent") for by in ("by person", "by probe") for k in RANKS]
        note = (
            f"Gallery of {found.gallery:,} of {found.people:,} people; chance at rank 1 is "
            f"1/{found.gallery} = {percent(1 / found.gallery, 2)}."
        )
        tables.append(Table(f"identification-{slug(target)}", f"Identified by {target}", columns, rows, note))
        if found.cmc:
            chance = [Estimate(rank / found.gallery, None, None, found.gallery) for rank in found.cmc_ranks]
            curves = {k if k == REAL else label(figures, k): row for k, row in found.cmc.items()} | {"chance": chance}
            drawn = plots.curve_plot(
                found.cmc_ranks, curves, x_label="rank", y_label="identified at this rank or better", log_x=True
            )
            title = f"Cumulative match characteristic, {target}"
            caption = f"Probes of other images; by person, {100 * LEVEL:g} % intervals, gallery held fixed."
            alt = "Share of probes identified against the rank, for each decoder and for real images."
            pictures.append(Picture(f"cmc-{slug(target)}", title, drawn, caption, alt, "svg"))
    text = (
        "Gallery: one real template a person, of the first image by path that has one. Probes: the reconstructions of "
        "the other images of people with two images or more; and, as with type I, the reconstruction of the enrolled "
        "image itself. Of equal scores the worst rank counts. A probe without a template, or of a person who could "
        "not be enrolled, is never identified. Intervals draw the probes' people again and hold the gallery fixed."
    )
    return Section("Identification in a gallery (closed set)", [text], tables, pictures)


def _curve(figures: SecurityFigures) -> Section:
    plan, fmr = figures.plan, figures.headline_fmr
    made = next(iter(figures.stores))
    columns = [Column("shown to"), Column("decoder"), Column("pairs", "count"), Column("draws", "count")]
    columns += [Column("by person", "percent"), Column("lowest draw", "percent"), Column("highest draw", "percent")]
    columns += [Column("by comparison", "percent")]
    tables, pictures = [], []
    for kind in _kinds(figures):
        rows = []
        for point in figures.curve:
            rates, draws = getattr(point, kind), point.by_draw[kind]
            span = (min(draws), max(draws)) if len(draws) > 1 else (None, None)
            cells = (rates["people"], *span, rates["pairs"])
            rows.append((point.recognizer, point.decoder, point.pairs, point.draws, *cells))
        title = f"{TITLES[kind]} at FMR {percent(fmr)} by number of pairs"
        tables.append(Table(f"pairs-{slug(TYPES[kind])}", title, columns, rows))
    for target in figures.judges:
        for kind in _kinds(figures):
            curves: dict[str, Sequence[Estimate]] = {
                name: [getattr(p, kind)["people"] for p in figures.curve if (p.decoder, p.recognizer) == (name, target)]
                for name in CURVE_KINDS
            }
            if kind == "type_two" and (tar := own_tar(figures, target, fmr)):
                curves[f"{REAL} (TAR)"] = [tar] * len(plan.subsets)
            drawn = plots.curve_plot(
                list(plan.subsets), curves, x_label="template–image pairs", y_label=f"{TYPES[kind]} success", log_x=True
            )
            title = f"{TITLES[kind]}, shown to {target}, FMR {percent(fmr)}"
            alt = f"{TYPES[kind]} success against the number of pairs, on a log axis, for ridge and nearest."
            name = f"pairs-{slug(TYPES[kind])}-{slug(target)}"
            pictures.append(Picture(name, title, drawn, f"By person, {100 * LEVEL:g} % intervals.", alt, "svg"))
    text = (
        f"Closed-form decoders (ridge regression; the picture of the nearest template) fitted on pairs drawn at random "
        f"from {plan.available:,} images of {len(plan.people):,} people ({plan.settings.people.name}), none of them "
        f"judged, with templates of {made}; pictures of {plan.settings.image_size} px. A draw is the beginning of one "
        f"random order of images, so its smaller numbers are part of its larger; rates are over all draws together "
        f"(seeds: {', '.join(map(str, plan.seeds))}). Intervals are over the people "
        "judged; how much the draw of pairs matters is shown by the lowest and the highest draw. Ridge penalizes its "
        "weights by the same amount for every number of pairs, that of the ridge decoder of all of them; it is not "
        "tuned for each, and an attacker who does may do better."
    )
    return Section("How many pairs the attacker needs", [text], tables, pictures)


def _samples(figures: SecurityFigures, job: SecurityJob) -> tuple[Section | None, list[str]]:
    """A grid of a few people, and what to say where their originals cannot be read."""
    ready = np.flatnonzero(~np.any([judge.missing for judge in figures.judges.values()], axis=0))
    if not len(ready):
        return None, []
    chosen = ready[spread_rows([figures.images.identities[row] for row in ready], _SAMPLES)]
    side = max(decoder.image_size for decoder in figures.decoders.values())
    rows, labels, notes = [], [], []
    first = next(iter(figures.stores.values()))
    try:
        rows.append(read_portraits([figures.images.rows[i] for i in chosen], job.images or first.root, side))
        labels.append("originals")
    except BadInput as error:
        notes.append(f"The sample pictures have no originals beside them: {error}.")
    for name, decoder in figures.decoders.items():
        drawn = decoder.decode(figures.judges[figures.made_by[name]].templates[chosen])
        rows.append(np.stack([np.asarray(Image.fromarray(picture).resize((side, side))) for picture in drawn]))
        labels.append(label(figures, name))
    people = ", ".join(str(figures.images.identities[i]) for i in chosen)
    picture = Picture(
        "samples",
        "What the decoders draw from templates",
        png_bytes(picture_grid(rows, labels)),
        f"People spread evenly over the sorted names, each one's first image: {people}.",
        f"A grid: {', '.join(labels)} from top to bottom, a person a column.",
    )
    return Section("Sample pictures", pictures=[picture]), notes


def _provenance(figures: SecurityFigures, job: SecurityJob) -> dict:
    from facedecode.decoders import find_decoder

    curve: Mapping | None = None
    if figures.plan is not None:
        plan = figures.plan
        curve = {
            **dataclasses.asdict(plan.settings),
            "people": describe_file(plan.settings.people),
            "sizes": list(plan.subsets),
            "training_people": len(plan.people),
            "training_images": plan.available,
            "seeds": plan.seeds,
        }
    return {
        "stores": [describe_store(store) for store in figures.stores.values()],
        "decoders": {
            name: describe_decoder(decoder, find_decoder(job.decoders[name]))
            for name, decoder in figures.decoders.items()
        },
        "recognizers": {
            name: {"weights_sha256": judge.recognizer.weights_sha256, "score": judge.recognizer.spec.score}
            for name, judge in figures.judges.items()
        },
        "settings": {
            "people": describe_file(job.people) if job.people else None,
            "images": len(figures.images.rows),
            "identities": len(set(figures.images.identities)),
            "limit": job.limit,
            "fmrs": figures.fmrs,
            "repetitions": job.repetitions,
            "seed": job.seed,
            "level": LEVEL,
            "pairs_curve": curve,
        },
    }
