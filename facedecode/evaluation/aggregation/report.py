"""The report of `evaluate aggregation`."""

from __future__ import annotations

from collections.abc import Iterator

from facedecode.evaluation.aggregation.measure import AggregationFigures, Curve
from facedecode.evaluation.jobs import AggregationJob
from facedecode.provenance import describe_file, describe_store
from facedecode.report import Column, Headline, Picture, Report, Section, Table, plots
from facedecode.report.gates import figure_name
from facedecode.statistics.bootstrap import LEVEL, Estimate

GATE_WORDS = ("tar", "gain")
_FEW_PEOPLE = 30


def aggregation_report(figures: AggregationFigures, job: AggregationJob) -> Report:
    """The report. Reads the people file once more, for its hash."""
    return Report(
        kind="aggregation",
        title="What a template gains from more images",
        protocol=_protocol(figures, job),
        headlines=list(_headlines(figures, job)),
        sections=[_curves(figures, job), _methods(figures, job)],
        metrics={name: _metrics(curve) for name, curve in figures.curves.items()},
        gates=_gates(figures),
        warnings=_warnings(figures, job),
        provenance={
            "stores": [describe_store(store) for store in figures.stores.values()],
            "files": {"people": describe_file(job.people)} if job.people else {},
            "settings": {
                "persons": job.persons,
                "largest": next(iter(figures.curves.values())).numbers[-1],
                "draws": job.draws,
                "fars": list(job.fmrs),
                "repetitions": job.repetitions,
                "seed": job.seed,
            },
        },
    )


def _protocol(figures: AggregationFigures, job: AggregationJob) -> list[str]:
    curve = next(iter(figures.curves.values()))
    least, most = min(figures.people.values()), max(figures.people.values())
    return [
        f"Data: the {len(figures.people)} persons with most images (from {most} down to {least}). In each of "
        f"{job.draws} draws the images are put in random order: the first {curve.numbers[-1]} are candidates for the "
        "gallery, the next as many are probes. The gallery template of n images is made of the first n candidates, so "
        "that every n is judged on the same probes.",
        f"Comparisons: every gallery template with every probe of its draw, {curve.mated:,} mated and "
        f"{curve.non_mated:,} non-mated at each n, all draws together. TAR at FAR f: the share of mated comparisons at "
        "or above the threshold, the smallest at which at most f of the non-mated ones are. Each n has a threshold of "
        "its own, as a system would that is set up with such templates. Every person has as many comparisons.",
        "Levels off: the smallest n from which on the largest n is not measurably better, which is where no interval "
        "of the difference lies above 0. With more persons smaller differences could be told.",
        f"Intervals are {LEVEL:.0%}, by bootstrap over persons ({job.repetitions:,} replicates, seed {job.seed}), with "
        "thresholds set anew in each; differences are paired. They are for persons like these, of whom there are many "
        "pictures, and say nothing of chance in the draws, which are averaged.",
    ]


def _warnings(figures: AggregationFigures, job: AggregationJob) -> list[str]:
    said = []
    if len(figures.people) < _FEW_PEOPLE:
        said.append(f"Intervals rest on {len(figures.people)} persons only; a bootstrap of so few is too narrow.")
    if figures.unnamed:
        said.append(f"{figures.unnamed:,} templates have no person and take no part.")
    if not any("mean by detector probability" in curve.others for curve in figures.curves.values()):
        said.append("The store has no detector probabilities: means weighted by them are left out.")
    return said


def _headlines(figures: AggregationFigures, job: AggregationJob) -> Iterator[Headline]:
    for name, curve in figures.curves.items():
        for fmr in job.fmrs:
            title = f"{name}, TAR at FAR {100 * fmr:g} %: gain from 1 to {curve.numbers[-1]} images"
            note = f"levels off at {curve.levels_off(fmr)}"
            yield Headline(title, curve.gain[fmr][-1], "points", note)


def _curves(figures: AggregationFigures, job: AggregationJob) -> Section:
    tables, pictures = [], []
    for fmr in job.fmrs:
        title = f"TAR at FAR {100 * fmr:g} %"
        columns = [Column("images", "count")]
        for name in figures.curves:
            columns += [Column(f"{name}: TAR", "percent"), Column(f"{name}: less that of 1", "points")]
            columns.append(Column(f"{name}: short of the largest", "points"))
        numbers = next(iter(figures.curves.values())).numbers
        rows = [
            (
                number,
                *(
                    x
                    for own in figures.curves.values()
                    for x in (own.tar[fmr][i], own.gain[fmr][i], own.missing[fmr][i])
                ),
            )
            for i, number in enumerate(numbers)
        ]
        said = "; ".join(f"{name} levels off at {own.levels_off(fmr)}" for name, own in figures.curves.items())
        slug = f"tar-at-far-{fmr:g}".replace(".", "-")
        tables.append(Table(slug, title, columns, rows, f"{said}."))
        data = plots.curve_plot(
            numbers,
            {name: own.tar[fmr] for name, own in figures.curves.items()},
            x_label="images in a gallery template",
            y_label=f"TAR at FAR {100 * fmr:g} %, %",
        )
        alt = f"TAR against the number of images, a curve each for {', '.join(figures.curves)}."
        pictures.append(Picture(slug, title, data, "Bands: intervals by person.", alt, "svg"))
    return Section("More images", ["Templates are means."], tables, pictures)


def _methods(figures: AggregationFigures, job: AggregationJob) -> Section:
    columns = [Column("recognizer"), Column("template")]
    for fmr in job.fmrs:
        title = f"TAR at FAR {100 * fmr:g} %"
        columns += [Column(title, "percent"), Column(f"{title}: less the mean's", "points")]
    rows = []
    for name, own in figures.curves.items():
        rows.append((name, "mean", *(x for fmr in job.fmrs for x in (own.tar[fmr][-1], None))))
        for way in own.others:
            cells = (x for pair in zip(own.other_tar[way], own.others[way], strict=True) for x in pair)
            rows.append((name, way, *cells))
    largest = next(iter(figures.curves.values())).numbers[-1]
    note = "Normalized mean: of directions, as long as the templates are on average. Differences are paired."
    return Section(
        "Other ways to make one template",
        tables=[Table("ways", f"Templates of {largest} images", columns, rows, note)],
    )


def _metrics(curve: Curve) -> dict:
    def row(values: dict[float, list[Estimate]]) -> dict:
        return {
            f"{fmr:g}": {str(n): x.as_json() for n, x in zip(curve.numbers, own, strict=True)}
            for fmr, own in values.items()
        }

    fmrs = list(curve.tar)
    ways = {
        way: {
            f"{fmr:g}": {"tar": tar.as_json(), "over_mean": less.as_json()}
            for fmr, tar, less in zip(fmrs, curve.other_tar[way], curve.others[way], strict=True)
        }
        for way in curve.others
    }
    return {
        "tar_at_far": row(curve.tar),
        "gain": row(curve.gain),
        "short_of_largest": row(curve.missing),
        "levels_off": {f"{fmr:g}": curve.levels_off(fmr) for fmr in fmrs},
        "ways": ways,
        "mated": curve.mated,
        "non_mated": curve.non_mated,
    }


def _gates(figures: AggregationFigures) -> dict[str, Estimate]:
    found = {}
    for name, own in figures.curves.items():
        for which in ([name],) if len(figures.curves) > 1 else ([name], []):
            for word, values in (("tar", own.tar), ("gain", own.gain)):
                for fmr, row in values.items():
                    for number, value in zip(own.numbers, row, strict=True):
                        found[figure_name(word, [*which, str(number)], far=fmr)] = value
    return found
