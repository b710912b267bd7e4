"""The result of `evaluate verification`: recognizers side by side on one protocol."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from facedecode.errors import BadInput, UsageError, some_of
from facedecode.evaluation.cohort import JudgedImages, require_unseen_by_store
from facedecode.evaluation.jobs import VerificationJob
from facedecode.evaluation.result import FEW_ERRORS, Axis, Label, Result, Schema, declared, paragraphs, texts
from facedecode.evaluation.trials import Comparisons, TrialSource
from facedecode.evaluation.verification.inputs import verification_inputs
from facedecode.evaluation.verification.measure import Differential, Figures, VerificationSettings, verification_figures
from facedecode.identity import impossible_threshold
from facedecode.progress import Progress, Stage, silent, silent_stage
from facedecode.provenance import describe_templates
from facedecode.report import Column, Picture, Section, Table
from facedecode.report.plots import det_plot, histogram_plot, roc_plot
from facedecode.report.text import be, counted, percent, slugs
from facedecode.statistics.bootstrap import FEWEST_EFFECTIVE, Estimate
from facedecode.statistics.pair_rates import RateAtFmr
from facedecode.statistics.verification import Roc
from facedecode.store import Store, Templates

TEXTS = texts("verification")
TITLES = {
    "pairs": "Verification of image pairs",
    "all-pairs": "Verification, all pairs",
    "gallery-probes": "Verification, gallery and probes",
}
CORNERS = 2000  # of a ROC curve's CSV
ACROSS = ("across", "groups")
"""The label of non-mated pairs of two people of different groups."""
_RATES = {"fmr": "FMR", "fnmr": "FNMR by pairs", "fnmr_by_person": "FNMR by people"}
_COUNTS = ("false_accepts", "non_mated", "false_rejects", "mated")


def verification_schema(job: VerificationJob) -> Schema:
    """The figures that there will be."""
    templates, source, settings = verification_inputs(job)
    return trials_schema(list(templates), settings, source.kind, source.folds)


def evaluate_verification(job: VerificationJob, stage: Stage = silent_stage) -> Result:
    """All figures of a job. stage: see `Evaluation.evaluate`. Errors as `verification_inputs` and `evaluate_trials`."""
    templates, source, settings = verification_inputs(job)
    progress = stage("verification")
    return evaluate_trials(templates, source, settings, progress)


def trials_schema(
    names: Sequence[str],
    wanted: VerificationSettings,
    kind: str = "pairs",
    folds: bool = True,
    fmrs: Iterable[float] | None = None,
    groups: Sequence[str] = (),
) -> Schema:
    """The figures that there will be.

    Args:
        names: of the recognizers.
        kind, folds: of the source of comparisons.
        fmrs: the false match rates there are; those asked for if None.
        groups: of people.
    """
    rates = sorted({*(wanted.fmrs or ()), *wanted.more_fmrs} if fmrs is None else set(fmrs), reverse=True)
    alone = len(names) == 1
    group_keys: dict[Label, tuple[str | int, ...]] = {ACROSS: ("across_groups",)}
    group_keys |= {name: ("groups", place) for place, name in enumerate(groups)}
    axes = [
        Axis("recognizer", values=list(names), keys={name: () if alone else ("recognizers", name) for name in names}),
        Axis("fmr", "FAR", rates, "percent"),
        Axis("group", values=[*groups, ACROSS], names={ACROSS: "across groups"}, keys=group_keys),
        Axis("rate", values=list(_RATES), names=_RATES),
    ]
    specs = declared(TEXTS["metrics"])
    if not folds:
        specs = [spec for spec in specs if spec.name != "accuracy"]
    if wanted.threshold is None:
        specs = [spec for spec in specs if not spec.name.startswith("threshold")]
    if wanted.labels is None:
        specs = [spec for spec in specs if spec.name not in ("fmr_ratio", "fnmr_ratio")]
    if not alone:
        specs = [replace(spec, headline=spec.headline and f"{{recognizer}}: {spec.headline}") for spec in specs]
    return Schema("verification", TITLES[kind], axes, specs)


def evaluate_trials(
    templates: Mapping[str, Templates], source: TrialSource, wanted: VerificationSettings, progress: Progress = silent
) -> Result:
    """Figures of one or more recognizers on the same comparisons.

    Args:
        templates: by the name that the report gives them.
        source: what is compared.
        progress: called with (steps done, steps, what is being done).

    Raises BadInput: the templates are not of the same images, are by a recognizer that was trained on people who are
    compared, or were changed by what was fitted on such people; also as `TrialSource.compare` and
    `verification_figures`. UsageError: a threshold for scores of two kinds, or that no score can be.
    """
    _refuse_other_images(templates, source)
    if wanted.threshold is not None and len({_recognizer(store) for store in templates.values()}) > 1:
        raise UsageError("--threshold: recognizers' scores have different scales; give it with one recognizer's store")
    for store in templates.values():
        if wanted.threshold is not None and (fault := impossible_threshold(wanted.threshold, store.score)):
            raise UsageError(f"--{fault}")
    figures, histograms, told = {}, [], list[str]()
    steps = len(templates) * (4 + source.folds + (wanted.threshold is not None) + (wanted.labels is not None))
    done = itertools.count()
    fmrs, slug = _fmrs(templates, source, wanted), slugs(templates)
    for name, store in templates.items():

        def say(what: str, name: str = name) -> None:
            progress(next(done), steps, f"{name}: {what}")

        say("scores")
        comparisons = source.compare(store, wanted.ignore_failures)
        for side in (store, source.probes):
            if side is not None:
                told += _require_unseen(side, comparisons.people, source)
        rates = wanted.fmrs_for(len(comparisons.non_mated.scores), source.fmrs) if fmrs is None else fmrs
        figures[name] = verification_figures(comparisons, rates, wanted, say)
        say("histogram")
        histograms.append(score_histogram(name, slug[name], comparisons, figures[name], store.score))
        del comparisons  # all pairs of a large store take gigabytes: one store at a time
    progress(steps, steps, "")
    result = verification_result(figures, wanted, source.kind, source.folds)
    result.facts["protocol"] = source.kind
    result.warnings = [*_transforms(templates, source), *dict.fromkeys(told), *_warnings(wanted, figures)]
    result.protocol = _protocol(templates, source, wanted, figures)
    result.sections = _sections(result, figures, histograms, slug)
    result.provenance = _provenance(templates, source, wanted, figures)
    return result


def _require_unseen(store: Templates, people: Sequence[str], source: TrialSource) -> list[str]:
    """`require_unseen_by_store` of the people compared, by the comparisons' names, and of their images."""
    if not isinstance(store, Store):
        return []
    refuse = require_unseen_by_store(store, JudgedImages.of_people(people))
    compared = source.images(store)
    rows = [i for i, path in enumerate(store.paths()) if path in compared]
    return [*refuse, *require_unseen_by_store(store, JudgedImages.of_store(store, rows))]


def verification_result(
    figures: Mapping[str, Figures], wanted: VerificationSettings, kind: str = "pairs", folds: bool = True
) -> Result:
    """The figures of recognizers as a result; of a single one they stand at the top of its JSON."""
    fmrs = [rate.fmr_wanted for rate in next(iter(figures.values())).by_pair]
    groups = list(
        dict.fromkeys(name for measured in figures.values() if measured.groups for name in measured.groups.people)
    )
    result = Result(trials_schema(list(figures), wanted, kind, folds, fmrs, groups))
    each: dict[str, dict[str, Any]] = {}
    for name, measured in figures.items():
        _add(result, name, measured)
        each[name] = {"tar_at_far": {}, "tar_at_far_by_person": {}, "left_out": measured.left_out}
        if measured.groups is not None:
            sizes = [
                {"group": name, "people": n, "images": measured.groups.images[name]}
                for name, n in measured.groups.people.items()
            ]
            each[name]["differential"] = {
                "label": measured.groups.column,
                "groups": sizes,
                "unlabelled_people": measured.groups.unlabelled_people,
            }
    result.facts = next(iter(each.values())) if len(each) == 1 else {"recognizers": each}
    return result


def figures_json(figures: Figures) -> dict:
    """JSON: all figures of one recognizer."""
    return verification_result({"": figures}, VerificationSettings()).as_json()


def _add(result: Result, name: str, figures: Figures) -> None:
    """Add one recognizer's figures."""
    at: dict[str, Label] = {"recognizer": name}
    if figures.accuracy is not None:
        errors = {"error": round((1 - figures.accuracy.value) * figures.accuracy.n)}
        result.add("accuracy", at, figures.accuracy, errors, note=f"± {100 * figures.standard_error:.2f} over folds")
        result.add("standard_error", at, figures.standard_error)
    errors = {}
    if figures.eer is not None:
        counts = {"false match": figures.non_mated, "false non-match": figures.mated}
        errors = {what: round(figures.eer.value * count) for what, count in counts.items()}
    result.add("eer", at, figures.eer, errors)
    result.add("eer_by_person", at, figures.eer_by_person)
    for pair, person in zip(figures.by_pair, figures.by_person, strict=True):
        point = {**at, "fmr": pair.fmr_wanted}
        errors = {"false match": pair.false_accepts, "false non-match": pair.n - pair.accepted}
        result.add("tar_by_pair", point, pair, errors)
        result.add("tar", point, person, note=f"by person; {counted(pair.false_accepts, 'false match')}")
        result.add("fnmr", point, complement(person))
    if (fixed := figures.at_threshold) is not None:
        accepts, rejects = {"false match": fixed.false_accepts}, {"false non-match": fixed.false_rejects}
        shown = f"{fixed.threshold:g}"
        note = f"{shown}; {counted(fixed.false_accepts, 'false match')}"
        result.add("threshold", at, fixed.threshold)
        result.add("threshold_fmr", at, fixed.fmr, accepts, note=note)
        result.add("threshold_fnmr", at, fixed.fnmr, rejects)
        result.add("threshold_fnmr_by_person", at, fixed.fnmr_by_person, note=f"{shown}; by person")
        for count in _COUNTS:
            result.add(f"threshold_{count}", at, getattr(fixed, count))
    lost = f"{figures.failed_images:,} of {figures.failure_to_acquire.n:,} images"
    failures = {"failure": figures.failed_images} if figures.failed_images else {}
    result.add("fta", at, figures.failure_to_acquire, failures, note=lost)
    result.add("failed", at, figures.failed_images)
    result.add("left_out", at, "; ".join(f"{n:,} {what}" for what, n in figures.left_out.items()) or "nothing")
    for count in ("mated", "mated_people", "non_mated", "people"):
        result.add(count, at, getattr(figures, count))
    result.add("images", at, figures.failure_to_acquire.n)
    if figures.groups is not None:
        _add_groups(result, at, figures.groups)


def _add_groups(result: Result, recognizer: Mapping[str, Label], groups: Differential) -> None:
    for point in groups.points:
        at = {**recognizer, "fmr": point.fmr_wanted}
        result.add("group_threshold", at, point.threshold)
        for rates in [*point.groups, point.across]:
            group: dict[str, Label] = {**at, "group": ACROSS if rates.group is None else rates.group}
            accepts, rejects = {"false match": rates.false_accepts}, {"false non-match": rates.false_rejects}
            result.add("group_fmr", group, rates.fmr, accepts if rates.non_mated else {})
            result.add("group_false_accepts", group, rates.false_accepts)
            result.add("group_non_mated", group, rates.non_mated)
            if rates.group is None:
                continue
            result.add("group_name", group, rates.group)
            result.add("group_fnmr", group, rates.fnmr, rejects if rates.mated else {})
            result.add("group_fnmr_by_person", group, rates.fnmr_by_person)
            result.add("group_false_rejects", group, rates.false_rejects)
            result.add("group_mated", group, rates.mated)
        for ratio in point.ratios:
            rate: dict[str, Label] = {**at, "rate": ratio.rate}
            result.add("worst", rate, ratio.worst)
            result.add("best", rate, ratio.best)
            result.add("ratio", rate, ratio.figure)
            if ratio.rate != "fnmr":
                result.add(f"{ratio.rate.removesuffix('_by_person')}_ratio", at, ratio.figure)


def _fmrs(templates: Mapping[str, Templates], source: TrialSource, wanted: VerificationSettings) -> list[float] | None:
    """The false match rates where recognizers could have different ones: those that all of them resolve.

    None where all have the same pairs, so that the first one's count will do.
    """
    if len(templates) == 1 or not wanted.ignore_failures or wanted.fmrs is not None:
        return None
    fewest = min(len(source.compare(store, ignore_failures=True).non_mated.scores) for store in templates.values())
    return wanted.fmrs_for(fewest, source.fmrs)


def _refuse_other_images(templates: Mapping[str, Templates], source: TrialSource) -> None:
    """BadInput where recognizers have seen different images, or different files of the same name."""
    first, *others = templates.values()
    images = source.images(first) if others else {}
    for other in others:
        theirs = source.images(other)
        if only := sorted(str(path) for path in images.keys() ^ theirs.keys()):
            few = f"{counted(len(only), 'image')} {be(len(only))}"
            raise BadInput(
                f"{other.folder}: {few} in only one of {first.folder} and this store ({some_of(only)}), and "
                "other images are another protocol; extract the same ones"
            )
        for path, digest in images.items():
            if digest and theirs[path] and digest != theirs[path]:
                raise BadInput(f"{other.folder}: {path} is another picture than in {first.folder}; extract the same")


def _recognizer(templates: Templates) -> tuple[str, str, str]:
    made_by = templates.recognizer
    return made_by.name, made_by.weights_sha256, made_by.contract_sha256


def _protocol(
    templates: Mapping[str, Templates],
    source: TrialSource,
    wanted: VerificationSettings,
    figures: Mapping[str, Figures],
) -> list[str]:
    failures = (
        "Images without a template (failures to acquire) were left out, as asked: the error rates say nothing of them."
        if wanted.ignore_failures
        else "An image without a template (failure to acquire) matches nothing: its mated pairs are false non-matches "
        "and count in every rate."
    )
    mapped = any(one.manifest.mapping for one in [*templates.values(), source.probes] if one is not None)
    reported = {rate.fmr_wanted for one in figures.values() for rate in one.by_pair}
    finer = [percent(fmr) for fmr in source.fmrs if fmr not in reported] if wanted.fmrs is None else []
    return paragraphs(
        TEXTS["protocol"],
        source=source.describe(),
        failures=failures,
        folds=any(one.accuracy for one in figures.values()),
        level=100 * wanted.level,
        repetitions=wanted.repetitions,
        seed=wanted.seed,
        few=FEW_ERRORS,
        fewest=FEWEST_EFFECTIVE,
        mapped=mapped,
        finer=", ".join(finer) or None,
    )


def _transforms(templates: Mapping[str, Templates], source: TrialSource) -> Iterator[str]:
    """What was done to the images and to their templates, where it was."""
    for name, store in [*templates.items(), *([] if source.probes is None else [("probes", source.probes)])]:
        made_with, undoes = store.manifest.transform, (store.manifest.mapping or {}).get("undoes")
        faces = f"of images with the transform {made_with}" if made_with else "of images as they were"
        if undoes:
            other = "" if undoes == made_with else ", which is not what was done to them"
            yield f"{name}: {faces}, mapped by a map that undoes {undoes}{other}"
        elif made_with:
            yield f"{name}: {faces}"
        if attack := store.manifest.attack:
            yield f"{name}: of images attacked by {attack['method']}: these are no genuine comparisons"


def _warnings(wanted: VerificationSettings, figures: Mapping[str, Figures]) -> Iterator[str]:
    for name, measured in figures.items():
        lines = list(measured.warnings)
        if measured.eer is None:
            lines.append("no equal error rate: failures to acquire keep FNMR above FMR at every threshold")
        yield from (f"{name}: {line}" for line in lines) if len(figures) > 1 else lines
    if wanted.ignore_failures and len({(measured.mated, measured.non_mated) for measured in figures.values()}) > 1:
        yield "the recognizers failed on different images, so their figures are of different pairs"
    if wanted.labels is not None and wanted.labels.unlabelled_rows:
        rows = counted(wanted.labels.unlabelled_rows, "row")
        yield f"without a {wanted.labels.column}, and so left out: {rows} of the label file"


def _provenance(
    templates: Mapping[str, Templates],
    source: TrialSource,
    wanted: VerificationSettings,
    figures: Mapping[str, Figures],
) -> dict:
    inputs, labels = source.provenance(), wanted.labels
    files = inputs.get("files", {}) | ({"labels": labels.file} if labels is not None else {})
    return {
        "stores": [*(describe_templates(each) for each in templates.values()), *inputs.get("stores", [])],
        **({"files": files} if files else {}),
        "settings": {
            "protocol": source.kind,
            "fars": [rate.fmr_wanted for rate in next(iter(figures.values())).by_pair],
            "ignore_failures": wanted.ignore_failures,
            "repetitions": wanted.repetitions,
            "seed": wanted.seed,
            "level": wanted.level,
            **({} if wanted.threshold is None else {"threshold": wanted.threshold}),
            **({} if labels is None else {"label": labels.column}),
            **inputs.get("settings", {}),
        },
    }


def _sections(
    result: Result, figures: Mapping[str, Figures], histograms: list[Picture], slug: Mapping[str, str]
) -> list[Section]:
    each = ["recognizer"]
    columns: list[str | tuple[str, ...]] = [
        "accuracy",
        "standard_error",
        "eer",
        "eer_by_person",
        "tar",
        "mated",
        "mated_people",
        "non_mated",
    ]
    note = "TAR and EER by people: every person with mated pairs counts alike. EER and accuracy: every pair does."
    results = result.table("results", "Accuracy, EER and TAR at FAR", each, columns, note=note)
    tables = []
    if result.labels("fmr"):
        parts = ("threshold", "fmr", "false_accepts")
        columns = [*(f"tar_by_pair.{part}" for part in parts), "tar_by_pair", "tar", "fnmr", "tar_by_pair.accepted"]
        note = "Accepted: score at or above the threshold."
        tables.append(result.table("operating-points", "TAR at FAR", [*each, "fmr"], [*columns, "mated"], note=note))
    if result.rows("threshold"):
        rates = ["threshold", "threshold_fmr", "threshold_false_accepts", "threshold_non_mated", "threshold_fnmr"]
        rates += ["threshold_fnmr_by_person", "threshold_false_rejects", "threshold_mated"]
        note = "The threshold is fixed in every replicate."
        tables.append(result.table("at-threshold", "At the given threshold", each, rates, note=note))
    tables += [_corners(name, slug[name], measured.curve) for name, measured in figures.items()]
    curves = {name: measured.curve for name, measured in figures.items()}
    points = {name: measured.by_pair for name, measured in figures.items()}
    caption = "Every pair counts alike. Bars: intervals of TAR at the thresholds of the table."
    alt = "True accept rate against false accept rate on a logarithmic axis"
    roc = Picture("roc", "ROC", roc_plot(curves, points), caption, alt, "svg")
    alt = "False non-match rate against false match rate on normal-deviate axes"
    det = Picture("det", "DET", det_plot(curves), "FNMR against FMR, both on normal-deviate axes.", alt, "svg")
    failures = [result.table("acquisition", "Images without a template", each, ["fta", "failed", "images", "left_out"])]
    if any(measured.lost for measured in figures.values()):
        heads = [Column("recognizer"), Column("path"), Column("person"), Column("why")]
        rows = [[name, *image] for name, measured in figures.items() for image in measured.lost]
        title = "Images without a template or not in the store"
        failures.append(Table("left-out-images", title, heads, rows, shown=False))
    return [
        Section("Recognizers", tables=[results]),
        Section("Operating points", tables=tables),
        Section("Curves", pictures=[roc, det]),
        Section("Scores", pictures=histograms),
        *_differential(result, figures, slug),
        Section("Failures to acquire and what was left out", tables=failures),
    ]


def _differential(result: Result, figures: Mapping[str, Figures], slug: Mapping[str, str]) -> Iterator[Section]:
    tables: list[Table] = []
    words: list[str] = []
    for name, measured in figures.items():
        if measured.groups is None:
            continue
        where, column, file = {"recognizer": name}, measured.groups.column, slug[name]
        rates = ["group_fmr", "group_false_accepts", "group_non_mated"]
        tables.append(
            result.table(f"differential-fmr-{file}", f"FMR by {column}, {name}", ["fmr", "group"], rates, where)
        )
        rates = ["group_fnmr", "group_fnmr_by_person", "group_false_rejects", "group_mated"]
        title = f"FNMR by {column}, {name}"
        tables.append(result.table(f"differential-fnmr-{file}", title, ["fmr", "group"], rates, where))
        title, rates = f"Highest over lowest rate, {name}", ["worst", "best", "ratio"]
        note = "Highest and lowest are the groups that the data show; the interval is of the ratio of these two."
        tables.append(result.table(f"differential-ratios-{file}", title, ["fmr", "rate"], rates, where, note))
        sizes = (
            f"{k}: {n:,} people, {counted(measured.groups.images[k], 'image')}"
            for k, n in measured.groups.people.items()
        )
        nobody = measured.groups.unlabelled_people
        without = f"Without a label, and so in no group: {nobody:,} people. " if nobody else ""
        words = words or paragraphs(TEXTS["groups"], column=column, sizes=", ".join(sizes), without=without)
    if tables:
        yield Section("Differential performance", words, tables)


def _corners(name: str, slug: str, curve: Roc) -> Table:
    """The ROC curve's corners, as CSV."""
    columns = [Column("threshold", "score"), Column("far", "small"), Column("tar", "small"), Column("fnmr", "small")]
    kept = curve.thinned(CORNERS)
    # The first corner accepts nothing, at a threshold above every score, which JSON and CSV have no number for.
    thresholds = [None if np.isinf(t) else float(t) for t in curve.thresholds[kept]]
    rates = [curve.fmr[kept].tolist(), curve.tar[kept].tolist(), (1 - curve.tar[kept]).tolist()]
    rows = [list(row) for row in zip(thresholds, *rates, strict=True)]
    size = f"all {len(rows):,}" if len(kept) == len(curve.fmr) else f"thinned to {len(rows):,} of {len(curve.fmr):,}"
    return Table(f"roc-{slug}", f"Corners of the ROC curve, {name} ({size})", columns, rows, shown=False)


def score_histogram(name: str, slug: str, comparisons: Comparisons, figures: Figures, score: str) -> Picture:
    """Mated and non-mated scores of one recognizer; slug: of its name, for the file; score: its kind."""
    thresholds = {f"FMR {percent(rate.fmr_wanted)}": rate.threshold for rate in figures.by_pair}
    if figures.at_threshold is not None:
        thresholds["--threshold"] = figures.at_threshold.threshold
    return Picture(
        name=f"scores-{slug}",
        title=f"Scores, {name}",
        data=histogram_plot(comparisons.mated.scores, comparisons.non_mated.scores, thresholds, score),
        caption=f"Score: {score}; higher is more similar. Thresholds are those of the table of operating points.",
        alt=f"Histogram of mated and of non-mated scores of {name}, with thresholds",
        kind="svg",
    )


def complement(rate: RateAtFmr) -> Estimate:
    """FNMR of a TAR."""
    ends = (None, None) if rate.low is None else (1 - rate.high, 1 - rate.low)
    return Estimate(1 - rate.value, *ends, rate.n)
