"""Tables and figures of the report of `evaluate verification`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

import numpy as np

from facedecode.evaluation.trials import Comparisons
from facedecode.evaluation.verification.differential import Differential
from facedecode.evaluation.verification.measure import Figures
from facedecode.report import Column, Picture, Section, Table
from facedecode.report.plots import det_plot, histogram_plot, roc_plot
from facedecode.report.text import counted, percent
from facedecode.statistics.bootstrap import Estimate, RateAtFmr
from facedecode.statistics.verification import Roc

CORNERS = 2000  # of a ROC curve's CSV


def sections(figures: Mapping[str, Figures], histograms: list[Picture]) -> list[Section]:
    """The sections of the report, of all recognizers together."""
    fixed = [_at_threshold(figures)] if any(own.at_threshold for own in figures.values()) else []
    slug = slugs(figures)
    corners = [_corners(name, slug[name], own.curve) for name, own in figures.items()]
    curves = {name: own.curve for name, own in figures.items()}
    points = {name: own.by_pair for name, own in figures.items()}
    roc = Picture(
        name="roc",
        title="ROC",
        data=roc_plot(curves, points),
        caption="Every pair counts alike. Bars: intervals of TAR at the thresholds of the table.",
        alt="True accept rate against false accept rate on a logarithmic axis",
        kind="svg",
    )
    det = Picture(
        name="det",
        title="DET",
        data=det_plot(curves),
        caption="FNMR against FMR, both on normal-deviate axes.",
        alt="False non-match rate against false match rate on normal-deviate axes",
        kind="svg",
    )
    sections = [
        Section("Recognizers", tables=[_results(figures)]),
        Section("Operating points", tables=[*_operating_points(figures), *fixed, *corners]),
        Section("Curves", pictures=[roc, det]),
        Section("Scores", pictures=histograms),
    ]
    groups = [
        table for name, own in figures.items() if own.groups for table in _group_tables(name, slug[name], own.groups)
    ]
    if groups:
        sections.append(Section("Differential performance", paragraphs=_group_words(figures), tables=groups))
    acquisition = [_acquisition(figures), *([_lost(figures)] if any(own.lost for own in figures.values()) else [])]
    return [*sections, Section("Failures to acquire and what was left out", tables=acquisition)]


def _results(figures: Mapping[str, Figures]) -> Table:
    """One row a recognizer."""
    with_folds = any(own.accuracy for own in figures.values())
    fmrs = [rate.fmr_wanted for rate in next(iter(figures.values())).by_person]
    columns = [Column("recognizer")]
    if with_folds:
        columns += [Column("accuracy", "percent"), Column("standard error", "percent")]
    columns += [Column("EER", "percent")]
    columns += [Column(f"TAR at FAR {percent(fmr)}", "percent") for fmr in fmrs]
    columns += [Column("mated pairs", "count"), Column("of people", "count"), Column("non-mated pairs", "count")]
    rows = [
        [
            name,
            *([own.accuracy, own.standard_error] if with_folds else []),
            own.eer,
            *own.by_person,
            own.mated,
            own.mated_people,
            own.non_mated,
        ]
        for name, own in figures.items()
    ]
    note = "TAR: every person with mated pairs counts alike. EER and accuracy: every pair does."
    return Table("results", "Accuracy, EER and TAR at FAR", columns, rows, note)


def _operating_points(figures: Mapping[str, Figures]) -> list[Table]:
    columns = [
        Column("recognizer"),
        Column("FAR wanted", "percent"),
        Column("threshold", "score"),
        Column("FAR reached", "percent"),
        Column("false accepts", "count"),
        Column("TAR by pairs", "percent"),
        Column("TAR by people", "percent"),
        Column("FNMR by people", "percent"),
        Column("accepted", "count"),
        Column("mated pairs", "count"),
    ]
    rows = [
        [
            name,
            pair.fmr_wanted,
            pair.threshold,
            pair.fmr,
            pair.false_accepts,
            pair,
            person,
            complement(person),
            pair.accepted,
            pair.n,
        ]
        for name, own in figures.items()
        for pair, person in zip(own.by_pair, own.by_person, strict=True)
    ]
    if not rows:
        return []
    return [Table("operating-points", "TAR at FAR", columns, rows, "Accepted: score at or above the threshold.")]


def _at_threshold(figures: Mapping[str, Figures]) -> Table:
    columns = [
        Column("recognizer"),
        Column("threshold", "score"),
        Column("FMR", "percent"),
        Column("false accepts", "count"),
        Column("non-mated pairs", "count"),
        Column("FNMR by pairs", "percent"),
        Column("FNMR by people", "percent"),
        Column("false rejects", "count"),
        Column("mated pairs", "count"),
    ]
    rows = [
        [
            name,
            own.at_threshold.threshold,
            own.at_threshold.fmr,
            own.at_threshold.false_accepts,
            own.at_threshold.non_mated,
            own.at_threshold.fnmr,
            own.at_threshold.fnmr_by_person,
            own.at_threshold.false_rejects,
            own.at_threshold.mated,
        ]
        for name, own in figures.items()
    ]
    return Table("at-threshold", "At the given threshold", columns, rows, "The threshold is fixed in every replicate.")


def _corners(name: str, slug: str, curve: Roc) -> Table:
    """The ROC curve's corners, as CSV."""
    columns = [Column("threshold", "score"), Column("far", "small"), Column("tar", "small"), Column("fnmr", "small")]
    kept = _thinned(curve, CORNERS)
    # The first corner accepts nothing, at a threshold above every score, which JSON and CSV have no number for.
    thresholds = [None if np.isinf(t) else float(t) for t in curve.thresholds[kept]]
    rates = [curve.fmr[kept].tolist(), curve.tar[kept].tolist(), (1 - curve.tar[kept]).tolist()]
    rows = [list(row) for row in zip(thresholds, *rates, strict=True)]
    said = f"all {len(rows):,}" if len(kept) == len(curve.fmr) else f"thinned to {len(rows):,} of {len(curve.fmr):,}"
    return Table(f"roc-{slug}", f"Corners of the ROC curve, {name} ({said})", columns, rows, shown=False)


def _thinned(curve: Roc, most: int) -> np.ndarray:
    """Which corners to keep: both ends, and the others spread evenly over log FAR and over TAR."""
    if len(curve.fmr) <= most:
        return np.arange(len(curve.fmr))
    parts = (most - 2) // 2
    positive = curve.fmr[curve.fmr > 0]
    by_fmr = np.searchsorted(curve.fmr, np.geomspace(positive[0], positive[-1], parts))
    by_tar = np.searchsorted(curve.tar, np.linspace(curve.tar[0], curve.tar[-1], parts))
    return np.unique(np.clip(np.concatenate([[0], by_fmr, by_tar, [len(curve.fmr) - 1]]), 0, len(curve.fmr) - 1))


def _group_tables(name: str, slug: str, groups: Differential) -> list[Table]:
    of_all = Column("FMR of all", "percent")
    matches, non_matches, ratios = [], [], []
    words = {"fmr": "FMR", "fnmr": "FNMR by pairs", "fnmr_by_person": "FNMR by people"}
    for point in groups.points:
        for own in [*point.groups, point.across]:
            matches.append([point.fmr_wanted, own.group, own.fmr, own.false_accepts, own.non_mated])
        for own in point.groups:
            rates = (own.fnmr, own.fnmr_by_person)
            non_matches.append([point.fmr_wanted, own.group, *rates, own.false_rejects, own.mated])
        for ratio in point.ratios:
            ratios.append([point.fmr_wanted, words[ratio.rate], ratio.worst, ratio.best, ratio.figure])
    return [
        Table(
            f"differential-fmr-{slug}",
            f"FMR by {groups.column}, {name}",
            [
                of_all,
                Column("group"),
                Column("FMR", "percent"),
                Column("false accepts", "count"),
                Column("non-mated pairs", "count"),
            ],
            matches,
            "The row without a group: pairs of two people of different groups.",
        ),
        Table(
            f"differential-fnmr-{slug}",
            f"FNMR by {groups.column}, {name}",
            [
                of_all,
                Column("group"),
                Column("FNMR by pairs", "percent"),
                Column("FNMR by people", "percent"),
                Column("false rejects", "count"),
                Column("mated pairs", "count"),
            ],
            non_matches,
        ),
        Table(
            f"differential-ratios-{slug}",
            f"Highest over lowest rate, {name}",
            [of_all, Column("rate"), Column("highest"), Column("lowest"), Column("ratio", "number")],
            ratios,
            "Highest and lowest are the groups that the data show; the interval is of the ratio of these two.",
        ),
    ]


def _group_words(figures: Mapping[str, Figures]) -> list[str]:
    groups = next(own.groups for own in figures.values() if own.groups)
    sizes = ", ".join(
        f"{name}: {n:,} people, {counted(groups.images[name], 'image')}" for name, n in groups.people.items()
    )
    nobody = groups.unlabelled_people
    without = f"Without a label, and so in no group: {nobody:,} people. " if nobody else ""
    return [
        f"Groups by {groups.column}: {sizes}. {without}"
        "One threshold holds for all groups: the overall one of each FMR, set anew in each replicate. A group's FNMR "
        "is that of its people's mated pairs, its FMR that of the non-mated pairs with both people in the group.",
        "Intervals of the groups' rates and of ratios: as those of TAR at FAR, with the thresholds of the replicates. "
        "There is none where fewer than two people stand behind a rate. A ratio whose lower rate rests on the errors "
        "of one person has plain percentiles, and no upper end where replicates without such an error reach it.",
    ]


def _acquisition(figures: Mapping[str, Figures]) -> Table:
    columns = [
        Column("recognizer"),
        Column("failure to acquire", "percent"),
        Column("images without a template", "count"),
        Column("images", "count"),
        Column("left out"),
    ]
    rows = [
        [
            name,
            own.failure_to_acquire,
            own.failed_images,
            own.failure_to_acquire.n,
            "; ".join(f"{count:,} {what}" for what, count in own.left_out.items()) or "nothing",
        ]
        for name, own in figures.items()
    ]
    return Table("acquisition", "Images without a template", columns, rows)


def _lost(figures: Mapping[str, Figures]) -> Table:
    """Every image that gave no template or is not there, as CSV."""
    columns = [Column("recognizer"), Column("path"), Column("person"), Column("why")]
    rows = [[name, *image] for name, own in figures.items() for image in own.lost]
    return Table("left-out-images", "Images without a template or not in the store", columns, rows, shown=False)


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


def slugs(names: Iterable[str]) -> dict[str, str]:
    """What stands for each name in names of files: lower case, digits and hyphens, numbered where two are alike."""
    found: dict[str, str] = {}
    for name in names:
        stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "store"
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        found[name] = next(slug for slug in numbered if slug not in found.values())
    return found
