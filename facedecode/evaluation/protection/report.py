"""The report of `evaluate protection`: the figures of `measure` in words, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from facedecode.evaluation.protection.gates import gate_figures
from facedecode.evaluation.protection.measure import (
    KNOWN,
    NOTHING,
    ONE_KEY,
    RECOGNIZER,
    UNKNOWN,
    UNPROTECTED,
    ProtectionFigures,
)
from facedecode.evaluation.protection.protected import Study
from facedecode.evaluation.protection.words import (
    ATTACKERS,
    LINKED,
    SCORES,
    SYSTEMS,
    caveats,
    judge_title,
    percent,
    protocol,
)
from facedecode.files import sha256_file
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.provenance import describe_store
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.statistics.intervals import LEVEL
from facedecode.store import Store


def protection_report(figures: ProtectionFigures, study: Study, against: Mapping[str, Store] | None = None) -> Report:
    """The report of an evaluation. against: the stores of the further recognizers, by their names."""
    named = gate_figures(study, figures.settings.fmrs, list(against or {}))
    sections = [_accuracy(figures), _linkage(figures, study)]
    if figures.inversion:
        sections.append(_inversion(figures))
    return Report(
        kind="protection",
        title=f"Template protection by {study.scheme['scheme']}: accuracy, linking, inversion",
        protocol=protocol(figures, study),
        headlines=list(_headlines(figures)),
        sections=sections,
        metrics=_metrics(figures),
        gates={name: figure(figures) for name, figure in named.items()},
        warnings=caveats(figures, study),
        provenance=_provenance(figures, study, list((against or {}).values())),
    )


def _headlines(figures: ProtectionFigures) -> Iterator[Headline]:
    yield Headline("EER, unprotected", figures.accuracy[UNPROTECTED].eer)
    yield Headline("EER, protected with one key", figures.accuracy[ONE_KEY].eer, note="the key is no secret")
    for (score, images), found in figures.linkage.items():
        raw = f"uncorrected {found.measured.d_sys:.3f}; unlinked templates give {found.d_sys_null.mean:.3f}"
        yield Headline(f"D_sys by {SCORES[score]}, {LINKED[images]}", found.d_sys, "number", raw)
    if figures.inversion:
        fmr = min(figures.settings.fmrs)
        place = list(figures.settings.fmrs).index(fmr)
        for attacker in (UNPROTECTED, KNOWN, UNKNOWN):
            rate = figures.inversion.rates[attacker][RECOGNIZER].type_two["people"][place]
            yield Headline(f"Type II at FMR {percent(fmr)}, {ATTACKERS[attacker]}", rate)


def _accuracy(figures: ProtectionFigures) -> Section:
    fmrs = figures.settings.fmrs
    columns = [Column("templates"), Column("EER", "percent"), Column("EER, change", "points")]
    for fmr in fmrs:
        tar = f"TAR at FMR {percent(fmr)}"
        columns += [Column(tar, "percent"), Column(f"{tar}, change", "points")]
    columns += [Column(f"TAR at FMR {percent(fmr)}, by pair", "percent") for fmr in fmrs]
    rows, points = [], []
    for name, found in figures.accuracy.items():
        row: list = [SYSTEMS[name], found.eer, found.eer_change]
        for place in range(len(fmrs)):
            row += [found.tar["people"][place], found.tar_change and found.tar_change[place]]
        rows.append([*row, *found.tar["pairs"]])
        points += [
            (SYSTEMS[name], percent(rate.fmr_wanted), rate.threshold, rate.fmr, rate.false_accepts, rate.non_mated)
            for rate in found.tar["people"]
        ]
    thresholds = [Column("templates"), Column("FMR wanted"), Column("threshold", "score")]
    thresholds += [Column("FMR reached", "percent"), Column("false matches", "count"), Column("pairs", "count")]
    text = (
        "EER counts pairs alike, TAR people unless it says otherwise. Changes are in percentage points against the "
        "unprotected templates, with intervals of the paired difference. With one key for all, an impostor has the "
        "key as well: that is what the scheme keeps of the recognizer. With a key for each person the impostor lacks "
        "it, and what is gained comes from the key, not from the face."
    )
    tables = [Table("accuracy", "Accuracy on all pairs", columns, rows)]
    tables.append(Table("thresholds", "Thresholds", thresholds, points))
    return Section("Accuracy", [text], tables)


def _linkage(figures: ProtectionFigures, study: Study) -> Section:
    raw = ("uncorrected", "unlinked, mean", f"unlinked, {percent((1 + LEVEL) / 2)}")
    columns = [Column("score"), Column("mated comparisons are of"), Column("D_sys", "number")]
    columns += [Column(f"D_sys {title}", "number") for title in raw]
    columns += [Column("maximal linkability, bit", "number")]
    columns += [Column(f"maximal {title}", "number") for title in raw]
    columns += [Column(title, "count") for title in ("people", "mated", "non-mated", "bins")]
    rows, by_keys, pictures = [], [], []
    for (score, images), found in figures.linkage.items():
        names = (SCORES[score], LINKED[images])
        nulls = [(level.mean, level.high) for level in (found.d_sys_null, found.maximal_null)]
        counts = (found.d_sys.n, found.mated, found.non_mated, len(found.measured.mated))
        measured = found.measured
        rows.append(
            (*names, found.d_sys, measured.d_sys, *nulls[0], found.maximal, measured.maximal, *nulls[1], *counts)
        )
        spread = found.by_keys
        by_keys.append((*names, len(spread), min(spread), float(np.median(spread)), max(spread)))
        drawn = plots.linkability_plot(
            measured.edges, measured.mated, measured.non_mated, measured.local, f"{SCORES[score]} across keys"
        )
        title = f"{SCORES[score][0].upper()}{SCORES[score][1:]} across keys, {LINKED[images]}"
        caption = f"D_sys uncorrected {measured.d_sys:.3f}; unlinked templates give {found.d_sys_null.mean:.3f}."
        alt = f"{title}: densities of mated and non-mated scores, and D↔ over them."
        pictures.append(Picture(f"linkability-{score}-{images}", title, drawn, caption, alt, "svg"))
    spread_columns = [Column("score"), Column("mated comparisons are of"), Column("pairs of keys", "count")]
    spread_columns += [Column(title, "number") for title in ("lowest", "median", "highest")]
    text = (
        "D↔ says at which scores two templates are likelier one person's than not; D_sys is its mean over mated "
        "comparisons: 0 where nothing links, 1 where everything does. Both figures are corrected for what samples of "
        "this size add; the uncorrected ones are to be compared with the unlinked ones: what they come to where each "
        "person's comparisons are with somebody else's templates."
    )
    tables = [Table("linkability", "Linkability across keys", columns, rows)]
    note = "A pair of keys has fewer comparisons than all of them, and so figures further above 0."
    tables.append(
        Table("pairs-of-keys", "D_sys of each pair of keys alone, uncorrected", spread_columns, by_keys, note)
    )
    return Section("Unlinkability", [text], tables, pictures)


def _inversion(figures: ProtectionFigures) -> Section:
    found, fmrs = figures.inversion, figures.settings.fmrs
    columns = [Column("FMR"), Column("attacker")]
    columns += [Column(f"type I, {by}", "percent") for by in ("by person", "by image")]
    columns += [Column(f"type II, {by}", "percent") for by in ("by person", "by pair")]
    tables = []
    judges = list(dict.fromkeys(judge for rates in found.rates.values() for judge in rates))
    for number, judge in enumerate(judges):
        rows: list[tuple] = []
        for place, fmr in enumerate(fmrs):
            for attacker, by_judge in found.rates.items():
                rates = by_judge[judge]
                cells = [group[by][place] for group in (rates.type_one, rates.type_two) for by in ("people", "pairs")]
                rows.append((percent(fmr), ATTACKERS[attacker], *cells))
            real = found.rates[UNPROTECTED][judge].mated
            rows.append((percent(fmr), "real images (TAR)", None, None, real["people"][place], real["pairs"][place]))
        title = f"Pictures shown to {judge_title(judge)}"
        tables.append(Table(f"inversion-{number + 1}", title, columns, rows))
    shown = [name for name in ("originals", UNPROTECTED, KNOWN, UNKNOWN, NOTHING) if name in found.examples]
    labels = ["originals", *(ATTACKERS[name] for name in shown[1:])]
    grid = picture_grid([_shrunk(found.examples[name]) for name in shown], labels)
    title = f"What {figures.settings.attacker} draws, of people spread evenly over the names"
    picture = Picture("drawn", title, png_bytes(grid), alt=f"Rows of portraits: {'; '.join(labels)}.")
    text = (
        "Type I: the picture against the very image whose template it was drawn from; type II: against another image "
        "of the person. Thresholds are set on real non-mated pairs of the same people. Shown to the protected system, "
        "a picture's template is protected with the system's own key before it is compared, as a camera's would be."
    )
    return Section("Irreversibility: decoders trained on protected templates", [text], tables, [picture])


def _shrunk(pictures: np.ndarray) -> np.ndarray:
    """Pictures small enough to stand ten in a row."""
    step = max(1, pictures.shape[1] // 64)
    side = pictures.shape[1] // step
    blocks = pictures.reshape(len(pictures), side, step, side, step, 3).mean(axis=(2, 4))
    return np.rint(blocks).astype(np.uint8)


def _metrics(figures: ProtectionFigures) -> dict:
    linkage: dict[str, dict] = {}
    for (score, images), found in figures.linkage.items():
        linkage.setdefault(score, {})[images] = found.metrics()
    metrics = {
        "accuracy": {name: found.metrics() for name, found in figures.accuracy.items()},
        "linkability": linkage,
    }
    if figures.inversion:
        metrics["inversion"] = {
            attacker: {judge: rates.as_json() for judge, rates in by_judge.items()}
            for attacker, by_judge in figures.inversion.rates.items()
        }
    return metrics


def _provenance(figures: ProtectionFigures, study: Study, against: list[Store]) -> dict:
    settings, groups = figures.settings, study.groups
    return {
        "stores": [describe_store(store) for store in (study.store, *study.stores, *against)],
        "decoders": figures.inversion.decoders if figures.inversion else {},
        "recognizers": figures.recognizers,
        "settings": {
            "images": len(study.test.images.rows),
            "identities": len(set(study.test.images.identities)),
            "protection": study.scheme,
            "key_ids": study.key_ids,
            "fmrs": [float(fmr) for fmr in settings.fmrs],
            "people": _file(groups.people),
            "train_people": _file(groups.train_people),
            "exclude": sorted(groups.exclude),
            "attacker": settings.attacker if figures.inversion else None,
            "image_size": settings.image_size if figures.inversion else None,
            "training_people": len(set(study.training.images.identities)) if study.training else 0,
            "training_images": len(study.training.images.rows) if study.training else 0,
            "repetitions": settings.repetitions,
            "seed": settings.seed,
            "level": LEVEL,
        },
    }


def _file(path: Path | None) -> dict | None:
    """JSON: a people file by its name and content; None for no file."""
    return path and {"file": path.name, "sha256": sha256_file(path)}
