"""The result of `evaluate security`: how often decoded faces pass as the person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facedecode.errors import BadInput
from facedecode.evaluation.cohort import open_stores
from facedecode.evaluation.jobs import SecurityJob
from facedecode.evaluation.rendering import spread_rows
from facedecode.evaluation.result import Axis, Label, Result, Schema, declared, paragraphs, texts
from facedecode.evaluation.security.measure import SecurityFigures, measure_security, wanted_fmrs
from facedecode.evaluation.security.pairs_curve import KINDS as CURVE_KINDS
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.progress import Stage, silent_stage
from facedecode.provenance import describe_decoder, describe_job, describe_recognizers, describe_store
from facedecode.report import Column, Picture, Section, Table, plots
from facedecode.report.text import percent, slug, slugs
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import RateAtFmr
from facedecode.statistics.security import OTHER, RANKS, REAL, SAME
from facedecode.statistics.verification import failure_to_acquire
from facedecode.store.images import read_portraits

if TYPE_CHECKING:  # needs torch
    from facedecode.decoders import Decoder

TEXTS = texts("security")
TYPES = {"type_one": "type I", "type_two": "type II"}
_SAMPLES = 8
_GENERATOR = "a generator of faces, and the recognizer's templates of its pictures (black-box)"
# Metrics of each type of attack: name by person, by comparison; and what a comparison is.
_SUCCESS = {"type_one": ("type1", "type1_pairs", "image"), "type_two": ("type2", "type2_pairs", "pair")}


def security_schema(job: SecurityJob) -> Schema:
    """The figures that there will be."""
    return _schema(list(job.decoders), list(open_stores(job.stores)), wanted_fmrs(job))


def _schema(decoders: list[str], recognizers: list[str], fmrs: list[float]) -> Schema:
    sources = {OTHER: "another image", SAME: "enrolled image"}
    axes = [
        Axis("decoder", values=decoders),
        Axis("recognizer", "shown to", recognizers),
        Axis("fmr", "FMR", fmrs, "percent"),
        Axis("source", values=[*decoders, REAL], references=(REAL,)),
        Axis("probe", values=list(sources), names=sources),
        Axis("rank", values=list(RANKS), unit="count"),
        Axis("fitted", "decoder", list(CURVE_KINDS)),
        Axis("pairs", unit="count"),
    ]
    return Schema("security", "Security of face templates against inversion", axes, declared(TEXTS["metrics"]))


def evaluate_security(job: SecurityJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job, as `measure_security` measures them; errors as there. stage: see `Evaluation.evaluate`."""
    return security_result(measure_security(job, stage), job)


def security_result(figures: SecurityFigures, job: SecurityJob) -> Result:
    """The result. Reads the originals of a few people for the sample grid, and goes without where they are gone."""
    result = Result(_schema(list(figures.decoders), list(figures.judges), figures.fmrs))
    _add_worst(result, figures)
    for (decoder, target), rates in figures.rates.items():
        for kind, names in _SUCCESS.items():
            for by, name in zip(("people", "pairs"), names, strict=False):
                for rate in getattr(rates, kind).get(by, ()):
                    at: dict[str, Label] = {"decoder": decoder, "recognizer": target, "fmr": rate.fmr_wanted}
                    result.add(name, at, rate, _few(rate, by))
    for target in figures.judges:
        for by, name in (("people", "tar"), ("pairs", "tar_pairs")):
            for rate in figures.rates[next(iter(figures.decoders)), target].mated.get(by, ()):
                errors = _few(rate, by) | ({"false match": rate.false_accepts} if by == "pairs" else {})
                at = {"recognizer": target, "fmr": rate.fmr_wanted}
                result.add(name, at, rate, errors, key=rate.fmr_wanted == figures.headline_fmr)
    _add_ranks(result, figures)
    _add_curve(result, figures)
    samples, notes = _samples(figures, job)
    result.sections = [_holdings(figures), _success(result, figures), _matrix(result, figures)]
    result.sections += [_identification(result, figures), *_curve(result, figures), *samples]
    result.warnings = [*_warnings(figures, job), *notes]
    result.protocol = _protocol(figures, job)
    missing = {target: judge.missing for target, judge in figures.judges.items()}
    result.facts["recognizers"] = {
        target: {"failure_to_acquire": {"value": failure_to_acquire(gone), "failed": int(gone.sum()), "n": len(gone)}}
        for target, gone in missing.items()
    }
    result.provenance = _provenance(figures, job)
    return result


def _few(rate: Estimate, by: str) -> dict[str, int]:
    """Successes and failures behind a rate, if it counts comparisons; in the pairs curve those of one draw."""
    successes = round(rate.value * rate.n)
    return {"success": successes, "failure": rate.n - successes} if by == "pairs" else {}


def _add_worst(result: Result, figures: SecurityFigures) -> None:
    """The highest rates of all decoders, against the recognizer that made the templates and against others."""
    count = len(figures.decoders)
    several = f"; the highest of {count} decoders, with that decoder's own interval" if count > 1 else ""
    for which in ("same recognizer", "transfer"):
        for kind in ("type_two", "type_one"):
            for fmr in figures.fmrs:
                if (worst := worst_rate(figures, kind, fmr, transfer=which == "transfer")) is None:
                    continue
                decoder, target, rate = worst
                made = figures.made_by[decoder]
                where = f"transfer from {made} to {target}" if which == "transfer" else f"against {target} itself"
                name = f"{'transfer' if which == 'transfer' else 'worst'}_{_SUCCESS[kind][0]}"
                key = fmr == figures.headline_fmr
                result.add(name, {"fmr": fmr}, rate, key=key, note=f"{decoder}, {where}{several}")


def worst_rate(
    figures: SecurityFigures, kind: str, fmr: float, transfer: bool = False
) -> tuple[str, str, RateAtFmr] | None:
    """(decoder, recognizer, rate): the highest person-weighted success of a type.

    Against the recognizer that made the templates; transfer: against other networks. None where there is no such
    figure.
    """
    candidates = [
        (decoder, target, rate)
        for (decoder, target), rates in figures.rates.items()
        if (figures.is_transfer(decoder, target) if transfer else target == figures.made_by[decoder])
        for rate in getattr(rates, kind).get("people", ())
        if rate.fmr_wanted == fmr
    ]
    return max(candidates, key=lambda item: item[2].value, default=None)


def _add_ranks(result: Result, figures: SecurityFigures) -> None:
    highest: tuple[str, str, Estimate] | None = None
    for target, gallery in figures.identification.items():
        chance = 1 / gallery.gallery
        for name, count in (("gallery", gallery.gallery), ("people", gallery.people), ("chance", chance)):
            result.add(name, {"recognizer": target}, count)
        for source, probes in gallery.ranks.items():
            for probe, weightings in probes.items():
                for by, name in (("people", "identified"), ("pairs", "identified_pairs")):
                    for rank, rate in zip(RANKS, weightings[by], strict=True):
                        at: dict[str, Label] = {"recognizer": target, "source": source, "probe": probe, "rank": rank}
                        result.add(name, at, rate, _few(rate, by))
                if source == REAL:
                    continue
                first = weightings["people"][0]
                result.add(
                    "rank1" if probe == OTHER else "rank1_same", {"decoder": source, "recognizer": target}, first
                )
                counts = target == figures.made_by[source] and probe == OTHER
                if counts and (highest is None or first.value > highest[2].value):
                    highest = (source, target, first)
    if highest is not None:
        decoder, target, rate = highest
        size, count = figures.identification[target].gallery, len(figures.decoders)
        several = f"; the highest of {count} decoders, with that decoder's own interval" if count > 1 else ""
        note = f"{decoder}, against {target} itself{several}; gallery of {size:,}, chance {100 / size:.2g} %"
        result.add("worst_rank1", {}, rate, note=note)


def _add_curve(result: Result, figures: SecurityFigures) -> None:
    curve: dict = {}
    for point in figures.curve:
        at: dict[str, Label] = {"fitted": point.decoder, "recognizer": point.recognizer, "pairs": point.pairs}
        result.add("draws", at, point.draws)
        for kind, (people, pairs, _) in _SUCCESS.items():
            rates, draws = getattr(point, kind), point.by_draw.get(kind, ())
            for by, name in (("people", people), ("pairs", pairs)):
                if by in rates:
                    result.add(f"curve_{name}", at, rates[by], _few(rates[by], by))
            if len(draws) > 1:
                result.add(f"lowest_{people}", at, min(draws))
                result.add(f"highest_{people}", at, max(draws))
        rows = curve.setdefault(point.decoder, {}).setdefault(point.recognizer, {})
        rows[str(point.pairs)] = {"fmr": figures.headline_fmr, "by_draw": point.by_draw}
    if curve:
        result.facts["pairs_curve"] = curve


def decoder_needs(decoder: Decoder) -> str:
    """What its maker had to have."""
    if decoder.kind == "latent":
        return _GENERATOR
    pairs = "pairs of templates and images"
    if (used := uses_model(decoder)) is None:
        return f"{pairs}; whether the recognizer's weights too is unknown"
    if used:
        return f"{pairs}, and the recognizer's weights (white-box)"
    if decoder.provenance.training.embedded_images:
        return f"{pairs}, and the recognizer's templates of further pictures (black-box)"
    return f"{pairs} only"


def uses_model(decoder: Decoder) -> bool | None:
    """Whether gradients of the recognizer went into the decoder's training; None if its file does not tell."""
    return decoder.looked_through(decoder.recognizer.name)


def _protocol(figures: SecurityFigures, job: SecurityJob) -> list[str]:
    white = [name for name, decoder in figures.decoders.items() if uses_model(decoder)]
    unknown = [name for name, decoder in figures.decoders.items() if uses_model(decoder) is None]
    latent = [name for name, decoder in figures.decoders.items() if decoder.kind == "latent"]
    more = ""
    if white:
        more += f"; for {', '.join(white)} also the recognizer's weights, through which gradients went (white-box)"
    if unknown:
        more += f"; whether also the weights for {', '.join(unknown)} is not recorded"
    if latent:
        more += f"; for {', '.join(latent)}, in place of all that, {_GENERATOR}"
    who = f"the people of {job.people.name}" if job.people else "all people of the store"
    return paragraphs(
        TEXTS["protocol"],
        images=len(figures.images.rows),
        people=len(set(figures.images.identities)),
        who=who + ("; the first images only" if figures.images.beyond else ""),
        attacked=" or ".join(sorted(set(figures.made_by.values()))),
        more=more,
        judges=", ".join(figures.judges),
        level=100 * LEVEL,
        repetitions=job.repetitions,
        seed=job.seed,
    )


def _warnings(figures: SecurityFigures, job: SecurityJob) -> Iterator[str]:
    """What keeps a figure from meaning what it seems to, one sentence each."""
    if not figures.repeated:
        yield "Nobody has two images: there is no type II, no TAR, and no identification by another image."
    if figures.unresolved:
        rates = ", ".join(percent(fmr) for fmr in figures.unresolved)
        yield f"The non-mated pairs are too few for FMR {rates}: these default rates are left out."
    yield from figures.images.warnings()
    yield from figures.warnings
    for name, decoder in figures.decoders.items():
        for target in figures.judges:
            made = figures.made_by[name]
            if target != made and not figures.is_transfer(name, target):
                yield f"{target} and {made} are one network: the success of {name} there is no test of transfer."
                continue
            weights = figures.stores[target].recognizer.weights_sha256
            if target == made or (part := decoder.looked_through(target, weights)) is False:
                continue
            how = "was trained to be near in the maps of" if part else "may have been trained, in an earlier run, by"
            yield f"{name} {how} {target}: its success there is no test of transfer."


def label(figures: SecurityFigures, decoder: str) -> str:
    """A decoder's name, with its recognizer where there are decoders of several."""
    return f"{decoder} ({figures.made_by[decoder]})" if len(set(figures.made_by.values())) > 1 else decoder


def _kinds(figures: SecurityFigures) -> list[str]:
    return [kind for kind in TYPES if kind == "type_one" or figures.repeated]


def _title(kind: str) -> str:
    return f"T{TYPES[kind][1:]}"


def _holdings(figures: SecurityFigures) -> Section:
    rows = []
    for name, decoder in figures.decoders.items():
        training = decoder.provenance.training
        counts = (training.images, len(training.people or ()))
        rows.append((name, decoder.kind, figures.made_by[name], decoder_needs(decoder), *counts, decoder.image_size))
    columns = [Column("decoder"), Column("kind"), Column("for templates of"), Column("made with")]
    columns += [Column("training images", "count"), Column("training people", "count"), Column("side, px", "count")]
    return Section(
        "Decoders and what it takes to make them",
        paragraphs(TEXTS["holdings"]),
        [Table("decoders", "Decoders", columns, rows)],
    )


def _success(result: Result, figures: SecurityFigures) -> Section:
    tables, files = [], slugs(figures.judges)
    columns = ["type1", "type1_pairs", "type2", "type2_pairs", "tar", "tar_pairs"]
    for target, judge in figures.judges.items():
        failed, images = int(judge.missing.sum()), len(judge.missing)
        note = f"{failed} of {images:,} images gave no template in {target}; they count as no success."
        if transfer := [name for name in figures.decoders if figures.is_transfer(name, target)]:
            note += f" Transfer, from templates of another recognizer: {', '.join(transfer)}."
        where: dict[str, Label] = {"recognizer": target}
        name, rows = f"success-{files[target]}", ["fmr", "decoder"]
        tables.append(result.table(name, f"Shown to {target}", rows, columns, where, note))
    parts = [f"type1.{part}" for part in ("threshold", "fmr", "false_accepts", "non_mated")]
    where = {"decoder": next(iter(figures.decoders))}
    title = "Thresholds, from the real images"
    tables.append(result.table("thresholds", title, ["recognizer", "fmr"], parts, where))
    return Section("Success attack rates", tables=[*tables, _image_table(figures)])


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


def _matrix(result: Result, figures: SecurityFigures) -> Section:
    fmr, targets = figures.headline_fmr, list(figures.judges)
    tables, pictures = [], []
    for kind in _kinds(figures):
        metric = _SUCCESS[kind][0]
        where: dict[str, Label] = {"fmr": fmr}
        title, name = f"{_title(kind)} at FMR {percent(fmr)}, by person", f"matrix-{slug(TYPES[kind])}"
        tables.append(result.table(name, title, ["decoder"], [metric], where))
        shares = {
            label(figures, decoder): [rate.value for rate in result.along("recognizer", metric, at).values()]
            for decoder in figures.decoders
            for at in [where | {"decoder": decoder}]
        }
        drawn = plots.matrix_plot(
            list(shares), targets, np.array(list(shares.values())), x_label="shown to", y_label="decoder"
        )
        alt = f"{title}: rows are decoders, columns the recognizers that their pictures are shown to."
        pictures.append(Picture(name, title, drawn, alt=alt, kind="svg"))
    return Section(
        f"Made by one recognizer, shown to another (FMR {percent(fmr)})",
        paragraphs(TEXTS["transfer"]),
        tables,
        pictures,
    )


def _identification(result: Result, figures: SecurityFigures) -> Section:
    tables, pictures, files = [], [], slugs(figures.judges)
    for target, gallery in figures.identification.items():
        note = (
            f"Gallery of {gallery.gallery:,} of {gallery.people:,} people; chance at rank 1 is "
            f"1/{gallery.gallery} = {100 / gallery.gallery:.2g} %."
        )
        name, title = f"identification-{files[target]}", f"Identified by {target}"
        columns, where = ["identified", "identified_pairs"], {"recognizer": target}
        tables.append(result.table(name, title, ["probe", "source"], columns, where, note))
        if gallery.cmc:
            chance = [Estimate(rank / gallery.gallery, None, None, gallery.gallery) for rank in gallery.cmc_ranks]
            curves = {k if k == REAL else label(figures, k): row for k, row in gallery.cmc.items()} | {"chance": chance}
            drawn = plots.curve_plot(
                gallery.cmc_ranks, curves, x_label="rank", y_label="identified at this rank or better", log_x=True
            )
            title = f"Cumulative match characteristic, {target}"
            caption = f"Probes of other images; by person, {100 * LEVEL:g} % intervals, gallery held fixed."
            alt = "Share of probes identified against the rank, for each decoder and for real images."
            pictures.append(Picture(f"cmc-{files[target]}", title, drawn, caption, alt, "svg"))
    return Section("Identification in a gallery (closed set)", paragraphs(TEXTS["gallery"]), tables, pictures)


def _curve(result: Result, figures: SecurityFigures) -> Iterator[Section]:
    if not figures.curve:
        return
    plan, fmr, files = figures.plan, figures.headline_fmr, slugs(figures.judges)
    tables, pictures = [], []
    for kind in _kinds(figures):
        people, pairs, _ = _SUCCESS[kind]
        columns = ["draws", f"curve_{people}", f"lowest_{people}", f"highest_{people}", f"curve_{pairs}"]
        title, name = f"{_title(kind)} at FMR {percent(fmr)} by number of pairs", f"pairs-{slug(TYPES[kind])}"
        tables.append(result.table(name, title, ["recognizer", "fitted", "pairs"], columns))
        for target in figures.judges:
            at: dict[str, Label] = {"recognizer": target}
            curves = {
                fitted: list(result.along("pairs", f"curve_{people}", {**at, "fitted": fitted}).values())
                for fitted in CURVE_KINDS
            }
            if kind == "type_two":
                curves[f"{REAL} (TAR)"] = [result.value("tar", {**at, "fmr": fmr})] * len(plan.subsets)
            drawn = plots.curve_plot(
                list(plan.subsets), curves, x_label="template–image pairs", y_label=f"{TYPES[kind]} success", log_x=True
            )
            title = f"{_title(kind)}, shown to {target}, FMR {percent(fmr)}"
            alt = f"{TYPES[kind]} success against the number of pairs, on a log axis, for ridge and nearest."
            caption = f"By person, {100 * LEVEL:g} % intervals."
            pictures.append(Picture(f"{name}-{files[target]}", title, drawn, caption, alt, "svg"))
    text = paragraphs(
        TEXTS["curve"],
        available=plan.available,
        people=len(plan.people),
        file=plan.settings.people.name,
        made=next(iter(figures.stores)),
        side=plan.settings.image_size,
        seeds=", ".join(map(str, plan.seeds)),
    )
    yield Section("How many pairs the attacker needs", text, tables, pictures)


def _samples(figures: SecurityFigures, job: SecurityJob) -> tuple[list[Section], list[str]]:
    """A grid of a few people, and what to say where their originals cannot be read."""
    ready = np.flatnonzero(~np.any([judge.missing for judge in figures.judges.values()], axis=0))
    if not len(ready):
        return [], []
    chosen = ready[spread_rows([figures.images.identities[row] for row in ready], _SAMPLES)]
    side = max(decoder.image_size for decoder in figures.decoders.values())
    rows, labels, notes = [], [], []
    first = next(iter(figures.stores.values()))
    try:
        rows.append(read_portraits([figures.images.rows[i] for i in chosen], first.images(job.images), side))
        labels.append("originals")
    except BadInput as error:
        notes.append(f"The sample pictures have no originals beside them: {error}.")
    for name, decoder in figures.decoders.items():
        drawn = decoder.decode(figures.judges[figures.made_by[name]].templates[chosen], checked=True)
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
    return [Section("Sample pictures", pictures=[picture])], notes


def _provenance(figures: SecurityFigures, job: SecurityJob) -> dict:
    curve, plan = None, figures.plan
    if plan is not None:
        drawn = {"sizes": list(plan.subsets), "training_people": len(plan.people), "training_images": plan.available}
        curve = {**dataclasses.asdict(plan.settings), "people": plan.settings.people.name, **drawn, "seeds": plan.seeds}
    counts = {"images": len(figures.images.rows), "identities": len(set(figures.images.identities))}
    return {
        "stores": [describe_store(store) for store in figures.stores.values()],
        "decoders": {name: describe_decoder(decoder) for name, decoder in figures.decoders.items()},
        "recognizers": describe_recognizers({name: judge.recognizer for name, judge in figures.judges.items()}),
        "settings": describe_job(job) | counts | {"fmrs": figures.fmrs, "pairs_curve": curve},
    }
