"""The report of `evaluate verification`: recognizers side by side on one protocol."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import require_unseen_by_store
from facedecode.evaluation.template_sets import Templates, describe_templates
from facedecode.evaluation.trials import TrialSource
from facedecode.evaluation.verification.measure import (
    FEW_ERRORS,
    Figures,
    VerificationSettings,
    few_errors,
    verification_figures,
)
from facedecode.evaluation.verification.tables import complement, score_histogram, sections, slugs
from facedecode.report import Headline, Picture, Report
from facedecode.report.gates import figure_name
from facedecode.report.text import be, counted, percent
from facedecode.statistics.bootstrap import Estimate

TITLES = {
    "pairs": "Verification of image pairs",
    "all-pairs": "Verification, all pairs",
    "gallery-probes": "Verification, gallery and probes",
}
GATE_WORDS = ("accuracy", "eer", "tar", "tar_by_pair", "fnmr", "fmr", "fta", "fmr_ratio", "fnmr_ratio")

Progress = Callable[[int, int, str], None]


def evaluate_verification(
    templates: Mapping[str, Templates],
    source: TrialSource,
    wanted: VerificationSettings,
    progress: Progress | None = None,
) -> Report:
    """Figures of one or more recognizers on the same comparisons.

    Args:
        templates: by the name that the report gives them.
        source: what is compared.
        progress: called with (steps done, steps, what is being done).

    Raises:
        BadInput: the templates are not of the same images, are by a recognizer that was trained on people who are
            compared, or were changed by what was fitted on such people; also as `Source.compare` and
            `verification_figures`.
        UsageError: a threshold for scores of two kinds.
    """
    _refuse_other_images(templates, source)
    if wanted.threshold is not None and len({_recognizer(own) for own in templates.values()}) > 1:
        raise UsageError("--threshold: recognizers' scores have different scales; give it with one recognizer's store")
    figures, pictures = {}, []
    steps = len(templates) * (4 + source.folds + (wanted.threshold is not None) + (wanted.labels is not None))
    done = itertools.count()
    fmrs, slug = _fmrs(templates, source, wanted), slugs(templates)
    for name, own in templates.items():

        def say(what: str, name: str = name) -> None:
            if progress:
                progress(next(done), steps, f"{name}: {what}")

        say("scores")
        comparisons = source.compare(own, wanted.ignore_failures)
        for side in (own, source.probes):
            if side is not None:
                require_unseen_by_store(side, comparisons.people)
        figures[name] = verification_figures(
            comparisons,
            wanted.fmrs_for(len(comparisons.non_mated.scores), source.fmrs) if fmrs is None else fmrs,
            wanted,
            say,
        )
        say("histogram")
        pictures.append(score_histogram(name, slug[name], comparisons, figures[name], own.manifest["score"]))
        del comparisons  # all pairs of a large store take gigabytes: one store at a time
    if progress:
        progress(steps, steps, "")
    return _report(templates, source, wanted, figures, pictures)


def _fmrs(templates: Mapping[str, Templates], source: TrialSource, wanted: VerificationSettings) -> list[float] | None:
    """The false match rates where recognizers could have different ones: those that all of them resolve.

    None where all have the same pairs, so that the first one's count will do.
    """
    if len(templates) == 1 or not wanted.ignore_failures or wanted.fmrs is not None:
        return None
    fewest = min(len(source.compare(own, ignore_failures=True).non_mated.scores) for own in templates.values())
    return wanted.fmrs_for(fewest, source.fmrs)


def _report(
    templates: Mapping[str, Templates],
    source: TrialSource,
    wanted: VerificationSettings,
    figures: Mapping[str, Figures],
    histograms: list[Picture],
) -> Report:
    own = {name: each.metrics() for name, each in figures.items()}
    metrics = next(iter(own.values())) if len(own) == 1 else {"recognizers": own}
    inputs = source.provenance()
    settings = {
        "protocol": source.kind,
        "fars": [rate.fmr_wanted for rate in next(iter(figures.values())).by_pair],
        "ignore_failures": wanted.ignore_failures,
        "repetitions": wanted.repetitions,
        "seed": wanted.seed,
        "level": wanted.level,
    }
    if wanted.threshold is not None:
        settings["threshold"] = wanted.threshold
    if wanted.labels is not None:
        settings["label"] = wanted.labels.column
    files = inputs.get("files", {}) | ({"labels": wanted.labels.file} if wanted.labels is not None else {})
    return Report(
        kind="verification",
        title=TITLES[source.kind],
        protocol=_protocol(templates, source, wanted, figures),
        headlines=_headlines(figures),
        sections=sections(figures, histograms),
        metrics={"protocol": source.kind, **metrics},
        gates=_gates(figures, source, wanted),
        warnings=[*_transforms(templates, source), *_warnings(wanted, figures)],
        provenance={
            "stores": [*(describe_templates(each) for each in templates.values()), *inputs.get("stores", [])],
            **({"files": files} if files else {}),
            "settings": settings | inputs.get("settings", {}),
        },
    )


def _refuse_other_images(templates: Mapping[str, Templates], source: TrialSource) -> None:
    """BadInput where recognizers have seen different images, or different files of the same name."""
    first, *others = templates.values()
    if not others:
        return
    images = source.images(first)
    for other in others:
        theirs = source.images(other)
        if only := sorted(str(path) for path in images.keys() ^ theirs.keys()):
            listed = ", ".join(only[:3]) + (", …" if len(only) > 3 else "")
            few = f"{counted(len(only), 'image')} {be(len(only))}"
            raise BadInput(
                f"{other.folder}: {few} in only one of {first.folder} and this store ({listed}), and "
                "other images are another protocol; extract the same ones"
            )
        for path, digest in images.items():
            if digest and theirs[path] and digest != theirs[path]:
                raise BadInput(f"{other.folder}: {path} is another picture than in {first.folder}; extract the same")


def _recognizer(templates: Templates) -> tuple[str, str]:
    return templates.recognizer["name"], templates.recognizer["weights_sha256"]


def _headlines(figures: Mapping[str, Figures]) -> list[Headline]:
    lines = []
    for name, own in figures.items():
        of = f"{name}: " if len(figures) > 1 else ""
        if own.accuracy is not None:
            lines.append(Headline(f"{of}accuracy", own.accuracy, note=f"± {100 * own.standard_error:.2f} over folds"))
        if own.eer is not None:
            lines.append(Headline(f"{of}EER", own.eer))
        for rate in own.by_person:
            lines.append(
                Headline(
                    f"{of}TAR at FAR {percent(rate.fmr_wanted)}",
                    rate,
                    note=f"by person; {counted(rate.false_accepts, 'false accept')}",
                )
            )
        if (fixed := own.at_threshold) is not None:
            errors = counted(fixed.false_accepts, "false accept")
            lines.append(Headline(f"{of}FMR at {fixed.threshold:g}", fixed.fmr, note=errors))
            lines.append(Headline(f"{of}FNMR at {fixed.threshold:g}", fixed.fnmr_by_person, note="by person"))
        lost = f"{own.failed_images:,} of {own.failure_to_acquire.n:,} images"
        lines.append(Headline(f"{of}failure to acquire", own.failure_to_acquire, note=lost))
    return lines


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
    words = [
        f"{source.describe()} {failures}",
        "TAR at FAR (1 - FNMR at FMR): a comparison is accepted if its score is at or above the threshold; the "
        "threshold for a FAR f is the smallest with at most floor(f · N) of the N non-mated pairs accepted, and equal "
        "scores are never split.",
        "Weighting: by people, the mean over each person's mated pairs and then over people, so that nobody with many "
        "images decides the figure; by pairs, the mean over all mated pairs.",
        f"Intervals: {100 * wanted.level:g} %, from {wanted.repetitions:,} replicates of a bootstrap by person (seed "
        f"{wanted.seed}): people are drawn with replacement, a mated pair of person i weighs w_i, a non-mated pair of "
        "i and j w_i · w_j. For EER, TAR and FNMR at FAR, rates at a given threshold, rates of groups and their "
        "ratios, and failure to acquire they are corrected for bias and skewness by a jackknife that leaves out each "
        "person in turn (BCa, Efron 1987), with Student's t for few people; a rate of 0 or 100 % has at least the "
        "Clopper-Pearson interval of the people behind it. For accuracy they are plain percentiles. Thresholds of a "
        "FAR, the thresholds of accuracy and the EER's are set anew in each replicate; a given threshold stays as it "
        "is.",
        f"A figure that rests on fewer than {FEW_ERRORS} errors is named among the warnings.",
    ]
    if any("mapping" in own.manifest for own in [*templates.values(), source.probes] if own is not None):
        words.append(
            "Templates were mapped before comparison, as the warnings say. A map does better on people whom it was "
            "fitted on: it is to be fitted on others than those compared ('fit-mapping --people')."
        )
    if any(own.accuracy for own in figures.values()):
        words.insert(
            1,
            "Accuracy: each fold at the threshold that is best on all the others; mean and standard error over folds "
            "(LFW README). EER and TAR at FAR pool the folds.",
        )
    reported = {rate.fmr_wanted for own in figures.values() for rate in own.by_pair}
    if wanted.fmrs is None and (finer := [fmr for fmr in source.fmrs if fmr not in reported]):
        listed = ", ".join(percent(fmr) for fmr in finer)
        words.append(f"Not reported, being finer than the non-mated pairs resolve: FAR {listed}.")
    return words


def _transforms(templates: Mapping[str, Templates], source: TrialSource) -> list[str]:
    """What was done to the images and to their templates, where it was."""
    said = []
    for name, own in [*templates.items(), *([] if source.probes is None else [("probes", source.probes)])]:
        made_with, undoes = own.manifest.get("transform"), (own.manifest.get("mapping") or {}).get("undoes")
        faces = f"of images with the transform {made_with}" if made_with else "of images as they were"
        if undoes:
            other = "" if undoes == made_with else ", which is not what was done to them"
            said.append(f"{name}: {faces}, mapped by a map that undoes {undoes}{other}")
        elif made_with:
            said.append(f"{name}: {faces}")
        if attack := own.manifest.get("attack"):
            said.append(f"{name}: of images attacked by {attack['method']}: these are no genuine comparisons")
    return said


def _warnings(wanted: VerificationSettings, figures: Mapping[str, Figures]) -> list[str]:
    said = []
    for name, own in figures.items():
        lines = [*own.warnings, *few_errors(own)]
        if own.eer is None:
            lines.append("no equal error rate: failures to acquire keep FNMR above FMR at every threshold")
        said += [f"{name}: {line}" for line in lines] if len(figures) > 1 else lines
    if wanted.ignore_failures and len({(own.mated, own.non_mated) for own in figures.values()}) > 1:
        said.append("the recognizers failed on different images, so their figures are of different pairs")
    if wanted.labels is not None and wanted.labels.unlabelled_rows:
        empty = wanted.labels.unlabelled_rows
        said.append(f"without a {wanted.labels.column}, and so left out: {counted(empty, 'row')} of the label file")
    return said


def gate_names(
    names: Sequence[str], source: TrialSource, wanted: VerificationSettings, fmrs: Iterable[float] | None = None
) -> set[str]:
    """The names that --fail-if knows with recognizers of these names, to be refused before the work otherwise.

    fmrs: the rates there are; those asked for if None.
    """
    known: set[str] = set()
    fmrs = {*(wanted.fmrs or ()), *wanted.more_fmrs} if fmrs is None else fmrs
    for which in _whichs(names):
        words = ["eer", "fta"] + ["accuracy"] * source.folds + ["fmr", "fnmr"] * (wanted.threshold is not None)
        known |= {figure_name(word, which) for word in words}
        known |= {figure_name(word, which, far=fmr) for word in ("tar", "tar_by_pair") for fmr in fmrs}
        by_fmr = ["fnmr"] + ["fmr_ratio", "fnmr_ratio"] * (wanted.labels is not None)
        known |= {figure_name(word, which, fmr=fmr) for word in by_fmr for fmr in fmrs}
    return known


def _whichs(names: Sequence[str]) -> list[list[str]]:
    """What stands in brackets: each recognizer's name, and nothing where there is one."""
    return [[name] for name in names] + ([[]] if len(names) == 1 else [])


def _gates(figures: Mapping[str, Figures], source: TrialSource, wanted: VerificationSettings) -> dict[str, Estimate]:
    """A figure for each name that --fail-if knows; one without a number, which no gate passes, where none came."""
    fmrs = [rate.fmr_wanted for rate in next(iter(figures.values())).by_pair]
    names = sorted(gate_names(list(figures), source, wanted, fmrs))
    gates = dict.fromkeys(names, Estimate(np.nan, None, None, 0))
    for which in _whichs(list(figures)):
        gates |= _own_gates(figures[which[0]] if which else next(iter(figures.values())), which)
    return gates


def _own_gates(own: Figures, which: list[str]) -> dict[str, Estimate]:
    gates = {figure_name("fta", which): own.failure_to_acquire}
    if own.accuracy is not None:
        gates[figure_name("accuracy", which)] = own.accuracy
    if own.eer is not None:
        gates[figure_name("eer", which)] = own.eer
    for pair, person in zip(own.by_pair, own.by_person, strict=True):
        gates[figure_name("tar_by_pair", which, far=pair.fmr_wanted)] = pair
        gates[figure_name("tar", which, far=person.fmr_wanted)] = person
        gates[figure_name("fnmr", which, fmr=person.fmr_wanted)] = complement(person)
    if (fixed := own.at_threshold) is not None:
        gates[figure_name("fmr", which)] = fixed.fmr
        gates[figure_name("fnmr", which)] = fixed.fnmr_by_person
    for point in own.groups.points if own.groups else ():
        for ratio in point.ratios:
            if ratio.rate != "fnmr":  # gates use the person-weighted figure
                word = f"{ratio.rate.removesuffix('_by_person')}_ratio"
                gates[figure_name(word, which, fmr=point.fmr_wanted)] = ratio.figure
    return gates
