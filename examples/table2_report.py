"""The report of `table2.py`: the paper's table beside ours, its claim tried, and how much is linear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from facedecode.annotations.pairs import Pairs
from facedecode.evaluation.result import FEW_ERRORS
from facedecode.evaluation.trials import AllPairs, PairsFile
from facedecode.evaluation.verification.measure import Figures
from facedecode.evaluation.verification.report import figures_json
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.plots import roc_plot
from facedecode.report.text import counted, percent, show_number, slugs
from facedecode.statistics.bootstrap import Estimate, Resampled
from facedecode.statistics.verification import false_accepts_allowed

ORIGINAL = "original"
UNMAPPED, LINEAR, NONLINEAR = "none", "linear", "nonlinear"
MAPS = (UNMAPPED, LINEAR, NONLINEAR)
# TAR at FAR 0.1 % in the paper, VGG and ResNet; it calls what is moved by 20 % of the width 'translated'.
PAPER = {
    (ORIGINAL, UNMAPPED): (0.792, 0.993),
    ("rotate30", UNMAPPED): (0.620, 0.989),
    ("rotate30", LINEAR): (0.678, 0.990),
    ("shift-left", UNMAPPED): (0.764, 0.991),
    ("shift-left", LINEAR): (0.788, 0.992),
    ("scale0.5", UNMAPPED): (0.314, 0.889),
    ("scale0.5", LINEAR): (0.483, 0.940),
}
BEATS = "the mapped template beats the unmapped one"
BELOW = "the mapped template does not exceed the original beyond noise"
WEIGHTINGS = ("people", "pairs")
HEADLINE = 0.001


class Pairing(Enum):
    """What is compared with what: the file's pairs, or all pairs within a set. The value is what reports call it."""

    LISTED = "listed pairs"
    SETS = "all pairs of a set"

    @property
    def fmrs(self) -> tuple[float, ...]:
        """The false match rates to report, those that the pairs resolve."""
        return PairsFile.fmrs if self is Pairing.LISTED else AllPairs.fmrs

    @property
    def slug(self) -> str:
        """For names of files."""
        return self.name.lower()


@dataclass(frozen=True)
class Condition:
    """What the second image of each pair is: the name of a transform or ORIGINAL; and one of MAPS."""

    image: str
    map: str


@dataclass(frozen=True)
class Cell:
    """A row of the table. tar: weighting → one for each FAR. accuracy: None where there is one fold."""

    figures: Figures
    tar: dict[str, list[Resampled]]
    accuracy: Resampled | None


@dataclass(frozen=True)
class Undone:
    """share: of the squared displacement, that a map undoes on people it has not seen. maps: one a fold."""

    transform: str
    map: str
    share: Estimate
    maps: list[Any]


@dataclass(frozen=True)
class Difference:
    """One row less another, paired. tar: weighting → one for each FAR."""

    transform: str
    what: str
    tar: dict[str, list[Estimate]]
    accuracy: Estimate | None


def beats(difference: Estimate) -> str:
    """Whether a map is shown to help: 'yes' or 'no' where the whole interval is on one side of 0."""
    if difference.low is None:
        return "not decided"
    return "yes" if difference.low > 0 else "no" if difference.high < 0 else "not decided"


def does_not_exceed(difference: Estimate) -> str:
    """Whether a mapped figure stays at the original's but for noise: 'no' where the whole interval is above 0."""
    if difference.low is None:
        return "not decided"
    return "no" if difference.low > 0 else "yes"


def make_report(
    cells: Mapping[str, Mapping[Pairing, Mapping[Condition, Cell]]],
    undone: Mapping[str, Sequence[Undone]],
    pairs: Pairs,
    beyond: int,
    provenance: dict,
) -> Report:
    """cells, undone: by recognizer. pairs: that were judged. beyond: images that a limit kept out of the fits."""
    settings = provenance["settings"]
    differences = {
        name: {pairing: list(compared(own, settings["level"])) for pairing, own in both.items()}
        for name, both in cells.items()
    }
    slug = slugs(cells)
    sections = [verdicts(differences, cells)]
    for name, both in cells.items():
        for pairing, own in both.items():
            which = f"{slug[name]}-{pairing.slug}"
            tables = [
                results(which, pairing, own),
                differences_table(which, pairing, differences[name][pairing], fmrs_of(own)),
                operating_points(which, pairing, own),
            ]
            sections.append(Section(f"{name}: {pairing.value}", tables=tables, pictures=[curves(name, which, own)]))
        tables = [displacement(slug[name], undone[name]), choices(slug[name], undone[name])]
        sections.append(Section(f"{name}: displacement", tables=tables))
    return Report(
        kind="table2",
        title="Misaligned faces, mapped back in template space: the paper's Table 2",
        protocol=protocol(settings, pairs, cells),
        headlines=list(headlines(cells, undone)),
        sections=sections,
        metrics={
            "recognizers": {
                name: {
                    **{pairing.slug: metrics(own, differences[name][pairing]) for pairing, own in both.items()},
                    "displacement_undone": shares(undone[name]),
                }
                for name, both in cells.items()
            }
        },
        warnings=[
            *trial(settings, beyond),
            *(line for name, own in undone.items() for line in flat_directions(name, own)),
            *(
                line
                for name, both in cells.items()
                for pairing, own in both.items()
                for line in few(name, pairing, own)
            ),
        ],
        provenance=provenance,
    )


def fmrs_of(cells: Mapping[Condition, Cell]) -> list[float]:
    """The false match rates that all conditions of a pairing have."""
    return [rate.fmr_wanted for rate in next(iter(cells.values())).figures.by_pair]


def compared(cells: Mapping[Condition, Cell], level: float) -> Iterator[Difference]:
    """The differences of a recognizer, transform by transform."""
    original = cells[Condition(ORIGINAL, UNMAPPED)]

    def difference(transform: str, what: str, one: Cell, other: Cell) -> Difference:
        tar = {
            weighting: [a.less(b, level) for a, b in zip(one.tar[weighting], other.tar[weighting], strict=True)]
            for weighting in WEIGHTINGS
        }
        accuracy = None if one.accuracy is None else one.accuracy.less(other.accuracy, level)
        return Difference(transform, what, tar, accuracy)

    for transform in dict.fromkeys(condition.image for condition in cells):
        if transform != ORIGINAL:
            unmapped, mapped, nonlinear = (cells[Condition(transform, kind)] for kind in MAPS)
            yield difference(transform, "mapped less unmapped", mapped, unmapped)
            yield difference(transform, "mapped less original", mapped, original)
            yield difference(transform, "nonlinear less mapped", nonlinear, mapped)


def verdicts(
    differences: Mapping[str, Mapping[Pairing, Sequence[Difference]]],
    cells: Mapping[str, Mapping[Pairing, Mapping[Condition, Cell]]],
) -> Section:
    claims = {"mapped less unmapped": (BEATS, beats), "mapped less original": (BELOW, does_not_exceed)}
    columns = [Column("claim"), Column("recognizer"), Column("perturbation"), Column("FAR")]
    columns += [Column("difference by people", "points"), Column("holds by people")]
    columns += [Column("difference by pairs", "points"), Column("holds by pairs")]
    tables = []
    for pairing in reversed(Pairing):
        rows = []
        for what, (claim, holds) in claims.items():
            for name, both in differences.items():
                for each in both[pairing]:
                    if each.what != what:
                        continue
                    for k, fmr in enumerate(fmrs_of(cells[name][pairing])):
                        by = [each.tar[weighting][k] for weighting in WEIGHTINGS]
                        figures = [cell for figure in by for cell in (figure, holds(figure))]
                        rows.append([claim, name, each.transform, percent(fmr), *figures])
        tables.append(Table(f"verdicts-{pairing.slug}", f"Every cell, {pairing.value}", columns, rows))
    note = (
        "Differences of TAR in percentage points, paired. A map beats where the whole interval is above 0; it exceeds "
        "the original where the whole interval of mapped less original is above 0."
    )
    return Section("The paper's claim, tried", tables=[*tables[:-1], replace(tables[-1], note=note)])


def results(slug: str, pairing: Pairing, cells: Mapping[Condition, Cell]) -> Table:
    fmrs, listed = fmrs_of(cells), pairing is Pairing.LISTED
    columns = [Column("second image"), Column("map")]
    columns += [Column(f"TAR at FAR {percent(fmr)}, by {by}", "percent") for fmr in fmrs for by in WEIGHTINGS]
    columns += [Column("EER", "percent")]
    if listed:
        columns += [Column("accuracy", "percent"), Column("paper, VGG", "percent"), Column("paper, ResNet", "percent")]
    rows = []
    for condition, cell in cells.items():
        own = cell.figures
        rates = [rate for both in zip(own.by_person, own.by_pair, strict=True) for rate in both]
        more = [own.accuracy, *PAPER.get((condition.image, condition.map), (None, None))] if listed else []
        rows.append([condition.image, condition.map, *rates, own.eer, *more])
    note = "By people: the mean over each person's mated pairs, then over people."
    if listed:
        note += (
            " The paper's figures are TAR at FAR 0.1 % of other recognizers, by pairs; it gives no intervals, and does "
            "not say whom its maps were fitted on."
        )
    return Table(f"table2-{slug}", f"TAR at FAR, without and with the map, {pairing.value}", columns, rows, note)


def differences_table(slug: str, pairing: Pairing, differences: Sequence[Difference], fmrs: Sequence[float]) -> Table:
    listed = pairing is Pairing.LISTED
    columns = [Column("perturbation"), Column("difference")]
    columns += [Column(f"TAR at FAR {percent(fmr)}, by {by}", "points") for fmr in fmrs for by in WEIGHTINGS]
    columns += [Column("accuracy", "points")] * listed
    rows = [
        [
            each.transform,
            each.what,
            *(each.tar[weighting][k] for k in range(len(fmrs)) for weighting in WEIGHTINGS),
            *[each.accuracy] * listed,
        ]
        for each in differences
    ]
    note = "In percentage points; the same pairs and the same replicates, each row with its own thresholds."
    return Table(f"differences-{slug}", f"Paired differences, {pairing.value}", columns, rows, note)


def displacement(slug: str, undone: Sequence[Undone]) -> Table:
    columns = [Column("perturbation"), *(Column(f"{kind} map", "percent") for kind in MAPS[1:])]
    by = {(own.transform, own.map): own.share for own in undone}
    names = dict.fromkeys(own.transform for own in undone)
    rows = [[name, *(by[name, kind] for kind in MAPS[1:])] for name in names]
    note = (
        "1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖², e the original and e′ the perturbed template, over the images of the judged "
        "sets, each by the map that has not seen its set. n is the number of people."
    )
    return Table(f"displacement-{slug}", "Share of the displacement undone", columns, rows, note)


def operating_points(slug: str, pairing: Pairing, cells: Mapping[Condition, Cell]) -> Table:
    columns = [Column("second image"), Column("map"), Column("FAR wanted", "percent"), Column("threshold", "score")]
    columns += [Column("false accepts", "count"), Column("non-mated pairs", "count"), Column("accepted", "count")]
    columns += [Column("mated pairs", "count"), Column("images without a template", "count"), Column("images", "count")]
    rows = []
    for condition, cell in cells.items():
        own = cell.figures
        for rate in own.by_pair:
            counts = [rate.false_accepts, rate.non_mated, rate.accepted, rate.n]
            acquired = [own.failed_images, own.failure_to_acquire.n]
            rows.append([condition.image, condition.map, rate.fmr_wanted, rate.threshold, *counts, *acquired])
    title = f"Thresholds and counts, {pairing.value}"
    return Table(f"operating-points-{slug}", title, columns, rows, shown=False)


def choices(slug: str, undone: Sequence[Undone]) -> Table:
    columns = [Column("perturbation"), Column("fold", "count"), Column("width", "number"), Column("penalty", "small")]
    rows = [
        [own.transform, fold, each.features.width, each.penalty]
        for own in undone
        if own.map == NONLINEAR
        for fold, each in enumerate(own.maps, 1)
    ]
    return Table(f"nonlinear-{slug}", "What the nonlinear map chose", columns, rows, shown=False)


def curves(name: str, slug: str, cells: Mapping[Condition, Cell]) -> Picture:
    """The ROC of all rows but the nonlinear ones."""
    shown = {
        condition.image + ("" if condition.map == UNMAPPED else ", mapped"): cell.figures
        for condition, cell in cells.items()
        if condition.map != NONLINEAR
    }
    picture = roc_plot(
        {label: own.curve for label, own in shown.items()}, {label: own.by_pair for label, own in shown.items()}
    )
    caption = "Every pair counts alike. Bars: intervals of TAR at the thresholds of the table."
    alt = "True accept rate against false accept rate on a logarithmic axis, perturbed images without and with the map"
    return Picture(f"roc-{slug}", f"ROC, {name}", picture, caption, alt, "svg")


def headlines(
    cells: Mapping[str, Mapping[Pairing, Mapping[Condition, Cell]]], undone: Mapping[str, Sequence[Undone]]
) -> Iterator[Headline]:
    """TAR at FAR 0.1 % of all pairs with the map, and what stands beside it; then how much a linear map undoes."""
    for name, both in cells.items():
        own = both[Pairing.SETS]
        fmrs = fmrs_of(own)
        if not fmrs:
            continue
        k = fmrs.index(HEADLINE) if HEADLINE in fmrs else len(fmrs) - 1
        for condition, cell in own.items():
            if condition.map == NONLINEAR or (condition.image != ORIGINAL and condition.map == UNMAPPED):
                continue
            rate, note = cell.figures.by_person[k], "by person"
            if condition.image != ORIGINAL:
                beside = {kind: own[Condition(condition.image, kind)].figures.by_person[k] for kind in MAPS}
                without, nonlinear = (show_number(beside[kind].value, "percent") for kind in (UNMAPPED, NONLINEAR))
                note += f"; without the map {without}, nonlinear {nonlinear}"
            what = condition.image + (", mapped" if condition.map == LINEAR else "")
            yield Headline(f"{name}, {what}: TAR at FAR {percent(rate.fmr_wanted)}", rate, note=note)
    for name, shares_of in undone.items():
        for each in shares_of:
            if each.map == LINEAR:
                yield Headline(f"{name}, {each.transform}: displacement that the linear map undoes", each.share)


def metrics(cells: Mapping[Condition, Cell], differences: Sequence[Difference]) -> dict:
    """Of a pairing. rows: image → map → figures; differences."""
    rows: dict[str, dict] = {}
    for condition, cell in cells.items():
        rows.setdefault(condition.image, {})[condition.map] = figures_json(cell.figures)
    fmrs = fmrs_of(cells)
    return {
        "rows": rows,
        "differences": [
            {
                "transform": each.transform,
                "difference": each.what,
                "tar_at_far": {f"{fmr:g}": each.tar["pairs"][k].as_json() for k, fmr in enumerate(fmrs)},
                "tar_at_far_by_person": {f"{fmr:g}": each.tar["people"][k].as_json() for k, fmr in enumerate(fmrs)},
                "accuracy": each.accuracy and each.accuracy.as_json(),
            }
            for each in differences
        ],
    }


def shares(undone: Sequence[Undone]) -> dict[str, dict]:
    """transform → map → share of the displacement undone."""
    found: dict[str, dict] = {}
    for own in undone:
        found.setdefault(own.transform, {})[own.map] = own.share.as_json()
    return found


def trial(settings: dict, beyond: int) -> Iterator[str]:
    """What makes a run a trial."""
    if settings["folds"] < settings["of_folds"]:
        judged = f"{settings['folds']} of {settings['of_folds']} folds were judged"
        yield f"{judged}: a trial run, not a result."
    if beyond:
        yield f"{beyond:,} images were left out of the fits: a trial run, not a result."


def flat_directions(name: str, undone: Sequence[Undone]) -> Iterator[str]:
    """Where templates vary in fewer directions than they have numbers."""
    for own in undone:
        if own.map == LINEAR:
            dim, ranks = own.maps[0].dim, [each.report["rank"] for each in own.maps]
            if min(ranks) < dim:
                many = f"{min(ranks)}" if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
                yield (
                    f"{name}, {own.transform}: templates vary in {many} of {dim} directions; in the others no more "
                    "than rounding does, and linear maps do not read them"
                )


def few(name: str, pairing: Pairing, cells: Mapping[Condition, Cell]) -> Iterator[str]:
    """Which rates rest on few errors."""
    for k, rate in enumerate(next(iter(cells.values())).figures.by_pair):
        at = f"{name}, {pairing.value}, FAR {percent(rate.fmr_wanted)}"
        most = max(cell.figures.by_pair[k].false_accepts for cell in cells.values())
        if most < FEW_ERRORS:
            yield f"{at}: every threshold rests on {counted(most, 'false accept')} or fewer"
        lost = {c: cell.figures.by_pair[k].n - cell.figures.by_pair[k].accepted for c, cell in cells.items()}
        if listed := [f"{c.image}, map {c.map} ({n})" for c, n in lost.items() if n < FEW_ERRORS]:
            yield f"{at}: fewer than {FEW_ERRORS} false rejects in {'; '.join(listed)}"
    for condition, cell in cells.items():
        for line in cell.figures.warnings:
            yield f"{name}, {pairing.value}, {condition.image}, map {condition.map}: {line}"


def protocol(
    settings: dict, pairs: Pairs, cells: Mapping[str, Mapping[Pairing, Mapping[Condition, Cell]]]
) -> list[str]:
    """How the table was made, a paragraph each."""
    mated = int(pairs.mated.sum())
    others, ceiling = len(pairs) - mated, settings["ceiling"]
    allowed = {percent(fmr): counted(false_accepts_allowed(fmr, others), "error") for fmr in PairsFile.fmrs}
    resolved = ", ".join(f"FAR {fmr} is {errors}" for fmr, errors in allowed.items())
    within = next(iter(next(iter(cells.values()))[Pairing.SETS].values())).figures
    return [
        f"The {mated:,} mated and {others:,} non-mated pairs of {settings['pairs']['name']} in {settings['folds']} of "
        f"{settings['of_folds']} folds. The second image of each pair, mated or not, is perturbed about its face; the "
        "first one is as it was. Faces were detected once, in the original images, and cropped by the original box and "
        "landmarks, so that the recognizer sees the misalignment.",
        f"All pairs of a set: every image of the {within.people:,} people of these sets as it was with every perturbed "
        f"one of the same set, but for the picture's own: {within.mated:,} mated and {within.non_mated:,} non-mated "
        "pairs. Here the thresholds rest on many errors, and each person's images count in full.",
        "Cross-fitted: the second template of a pair is mapped by a map fitted on all images of the people of the "
        f"other sets of {settings['people']['name']}; nobody of a fold, in mated or non-mated pairs, first or second, "
        "was fitted on for it. Each image of those people weighs alike in the fit, so a person with many images weighs "
        "more. The map is least squares with a bias and without a ridge (Eq. 6), as 'fit-mapping' fits it.",
        "What is assumed: whoever applies a map knows which perturbation it was and by how much, which side it was on, "
        "and has other people's images to fit the map to; every image was perturbed alike. Faces that are misaligned "
        "by unknown, different amounts are a harder case.",
        "TAR at FAR pools the folds: the threshold for a FAR f is the smallest with at most floor(f · N) of the N "
        "non-mated pairs of that row accepted, and equal scores are never split. Every row has its own threshold: a "
        "system that keeps the one that it set on upright faces has other rates. "
        f"Of {others:,} non-mated pairs {resolved}; hence the width of intervals there. Accuracy: each fold at the "
        "threshold that is best on all the others.",
        "Weighting: by people, the mean over each person's mated pairs and then over people; by pairs, over all pairs.",
        f"Intervals: {100 * settings['level']:g} %, {settings['repetitions']:,} replicates of a bootstrap by person "
        f"(seed {settings['seed']}), in which a mated pair of person i weighs w_i, a non-mated one of i and j w_i · "
        "w_j, and thresholds are set anew, corrected by a jackknife over people (BCa). "
        "Differences are paired: both rows in the same replicates. Of listed pairs, where hardly anybody is in two "
        "non-mated ones, the product w_i · w_j varies three times as much as one weight would: intervals there are "
        "wider than they need be. The maps are not fitted anew in a replicate, so "
        "that the luck of their training people is not in the intervals.",
        "The ceiling, 'nonlinear': ridge regression on "
        f"{ceiling['features']:,} random Fourier features of a Gaussian kernel beside an affine part without a "
        "penalty, cross-fitted likewise; kernel width and penalty are chosen on a tenth of the fitting people, held "
        "out by a hash of the name, and it is then fitted to all of them. It can bend where a linear map cannot, and "
        "bounds what a map could do only as far as this family and these many images go.",
        "An image without a template, or whose face leaves the frame, matches nothing: its mated pairs are false "
        "non-matches.",
    ]
