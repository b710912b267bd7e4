"""One result for every evaluation: declared metrics, filled with figures; a report follows from it.

How to write an evaluation (`evaluation/aggregation.py` is a whole one):

1.  `age_schema(job)` returns a `Schema` before the work: its axes (decoder, recognizer, fmr, …) and its metrics, which
    are a table in `texts/age.md` (see `declared`) or `MetricSpec` objects. Gates are checked with `Schema.require`.

        Schema("age", "How old the people look", [Axis("recognizer", values=names)], declared(texts("age")["metrics"]))

2.  `evaluate_age(job, …)` computes, and adds one row a figure, in the order in which key figures are to be shown:

        result = Result(age_schema(job))
        result.add("error", {"recognizer": "edgeface-xxs"}, estimate)

3.  It fills the other attributes of `Result`, and returns it. The prose is in `texts/age.md` (see `paragraphs`). Tables
    are `result.table(…)`: which axes are the rows, which metrics the columns. `result.along(…)` is for plots.

4.  Its job stands in `evaluation/jobs.py`, with a `summary` and a `help`. A line in `evaluation.EVALUATIONS` makes the
    command of it.

`Result.report` makes the rest: report.json, gates, key figures, warnings about few people and few errors.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, cast, get_args

from facedecode.errors import UsageError, some_of
from facedecode.report import Column, Headline, Report, Section, Table
from facedecode.report.gates import Gate
from facedecode.report.model import Cell, Unit
from facedecode.report.text import counted, percent
from facedecode.statistics.bootstrap import Estimate

Label = str | int | float | tuple[str, ...]
Figure = Estimate | int | float | str | None
MISSING = Estimate(math.nan, None, None, 0)

FEW_PEOPLE = 30  # a bootstrap of fewer is too narrow
FEW_ERRORS = 30  # a rate that rests on fewer is uncertain (the rule of 30)
_FEW_LISTED = 10  # figures with few errors that each have a warning; more are a table
_GATE = re.compile(r"(\w+)(?:\[([^\]]*)\])?(?:@(\w+))?")
_CONDITION = re.compile(r"(?:\[(\w+)\])?(.*)", re.DOTALL)
_PARTS: dict[str, tuple[str, Unit]] = {  # parts of a rate at a threshold that can be columns: title, unit
    "threshold": ("threshold", "score"),
    "fmr": ("FMR reached", "percent"),
    "false_accepts": ("false matches", "count"),
    "non_mated": ("non-mated pairs", "count"),
    "accepted": ("accepted", "count"),
    "n": ("comparisons", "count"),
}


@dataclass(frozen=True)
class Axis:
    """What figures differ in.

    title: of its column in tables; the name if empty.
    values: in order; None where they are known only after the work. Text, numbers, or several words in one.
    names: how a value is called in tables and titles, where not by itself.
    keys: where a value's figures stand in report.json, where not under the value itself.
    references: values that others are compared with (the originals): in tables, but no gates and no key figures.
    """

    name: str
    title: str = ""
    values: Sequence[Label] | None = None
    unit: Unit = "text"
    names: Mapping[Any, str] = field(default_factory=dict)
    keys: Mapping[Any, tuple[str | int, ...]] = field(default_factory=dict)
    references: Sequence[Label] = ()

    @property
    def judged(self) -> list[Label]:
        """The values that have gates; <the title> for those that are not known yet."""
        if self.values is None:
            return [f"<{self.title or self.name}>"]
        return [value for value in self.values if value not in self.references]

    def text(self, value: Label) -> str:
        """A value in a title or a sentence."""
        if value in self.names:
            return self.names[value]
        if isinstance(value, tuple):
            return " and ".join(value)
        return percent(value) if self.unit == "percent" and isinstance(value, float) else str(value)

    def cell(self, value: Label) -> Cell:
        """A value in a table."""
        return self.text(value) if self.unit == "text" or isinstance(value, tuple) else value

    def path(self, value: Label) -> tuple[str | int, ...]:
        """A value in report.json."""
        return self.keys.get(value, (word_of(value),))


def word_of(value: Label) -> str:
    """A label as gates and report.json spell it: 0.001, ridge, rotate30,shift4."""
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class MetricSpec:
    """A metric: a figure for each combination of labels of its axes. Titles may name axes: 'TAR of {decoder}'.

    title: of its column.
    path: where it stands in report.json: "{recognizer}/tar_at_far/{fmr}"; under its labels and name if empty, and not
        there if None.
    gates: its names for --fail-if: "tar[recognizer?,n]@far" has the labels of recognizer and n in brackets, and that of
        fmr after @far=. Trailing axes with a question mark may be left out where they have one value.
    headline: its title among the key figures; not among them if empty. note: beside it there.
    """

    name: str
    axes: tuple[str, ...] = ()
    unit: Unit = "number"
    title: str = ""
    path: str | None = ""
    gates: tuple[str, ...] = ()
    headline: str = ""
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One figure.

    estimate: a plain value where there is no interval.
    errors: the counts of errors that it rests on, by what they are ('false match'); few give a warning.
    key: whether it is among the key figures, if its metric has a headline; note: beside it there.
    """

    name: str
    labels: Mapping[str, Any]
    estimate: Figure
    unit: Unit = "number"
    errors: Mapping[str, int] = field(default_factory=dict)
    key: bool = True
    note: str = ""

    @property
    def number(self) -> Any:
        """The figure without its interval."""
        return self.estimate.value if isinstance(self.estimate, Estimate) else self.estimate


@dataclass(frozen=True)
class Schema:
    """What an evaluation will have figures of, known before the work. kind: the command's name."""

    kind: str
    title: str
    axes: Sequence[Axis]
    metrics: Sequence[MetricSpec]

    def axis(self, name: str) -> Axis:
        """The axis of a name. KeyError where it is not declared."""
        return {axis.name: axis for axis in self.axes}[name]

    def spec(self, name: str) -> MetricSpec:
        """The metric of a name. KeyError where it is not declared."""
        return {spec.name: spec for spec in self.metrics}[name]

    def gate_names(self) -> list[str]:
        """What --fail-if can ask for; a label that is not known yet stands as <its axis's title>."""
        return [
            name
            for spec in self.metrics
            for labels in _combinations({axis: self.axis(axis).judged for axis in spec.axes})
            for name in self.names_of(spec, labels)
        ]

    def is_judged(self, labels: Mapping[str, Label]) -> bool:
        """Whether none of the labels is a reference."""
        return not any(label in self.axis(axis).references for axis, label in labels.items())

    def require(self, gates: Sequence[Gate]) -> None:
        """Refuse, before the work, gates on figures that there will not be. Raises UsageError."""
        names = self.gate_names() if gates else []
        known = [re.compile(re.sub("<[^>]*>", r"[^][,@]+", re.escape(name))) for name in names]
        for gate in gates:
            if not any(pattern.fullmatch(gate.name) for pattern in known):
                listed = ", ".join(sorted(names)) or "none"
                raise UsageError(f"--fail-if {gate.text!r}: no figure {gate.name!r} here; there are {listed}")

    def names_of(self, spec: MetricSpec, labels: Mapping[str, Label]) -> Iterator[str]:
        """Every name that gates have for a figure."""
        for pattern in spec.gates if self.is_judged(labels) else ():
            word, inner, rate = _GATE.fullmatch(pattern).groups()
            axes = inner.split(",") if inner else []
            end = f"@{rate}={word_of(labels['fmr'])}" if rate else ""
            while True:
                which = ",".join(word_of(labels[axis.rstrip("?")]) for axis in axes)
                yield f"{word}{f'[{which}]' if which else ''}{end}"
                optional = next((axis for axis in reversed(axes) if axis.endswith("?")), None)
                if optional is None or self.axis(optional[:-1]).values is None:
                    break
                if len(self.axis(optional[:-1]).judged) != 1:
                    break
                axes.remove(optional)


@dataclass
class Result:
    """The figures of an evaluation, and the report that follows from them.

    protocol: paragraphs: how the figures were made and what they mean.
    warnings: what keeps a figure from meaning what it seems to, a sentence each.
    people: how many stand behind the intervals; a few give a warning. None for none.
    facts: what stands in report.json's metrics beside the figures, nested alike.
    provenance: JSON: what it was made from.
    """

    schema: Schema
    metrics: list[Metric] = field(default_factory=list)
    protocol: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    people: int | None = None
    facts: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    _places: dict[tuple[str, tuple[Label, ...]], Metric] = field(default_factory=dict)

    def add(
        self,
        name: str,
        labels: Mapping[str, Label],
        estimate: Figure,
        errors: Mapping[str, int] | None = None,
        key: bool = True,
        note: str = "",
    ) -> None:
        """Add a figure of a declared metric; see `Metric`. labels: one for each of the metric's axes."""
        spec = self.schema.spec(name)
        if labels.keys() != set(spec.axes):
            raise ValueError(f"{name} has the axes {spec.axes}, not {tuple(labels)}")
        metric = Metric(name, labels, estimate, spec.unit, errors or {}, key, note)
        self.metrics.append(metric)
        self._places[name, tuple(labels[axis] for axis in spec.axes)] = metric

    def value(self, name: str, labels: Mapping[str, Label]) -> Any:
        """The figure of a metric with these labels. KeyError where there is none."""
        return self._places[name, tuple(labels[axis] for axis in self.schema.spec(name).axes)].estimate

    def along(self, axis: str, name: str, labels: Mapping[str, Label]) -> dict[Any, Estimate]:
        """The estimates of a metric by one axis, the other labels fixed."""
        figures = {row.labels[axis]: row.estimate for row in self.rows(name, labels)}
        return {label: estimate for label, estimate in figures.items() if isinstance(estimate, Estimate)}

    def rows(self, name: str, labels: Mapping[str, Label] | None = None) -> list[Metric]:
        """The figures of a metric that have these labels, in the order in which they were added.

        A label that the metric has no axis for does not count. None of a metric that is not declared.
        """
        figures = [row for row in self.metrics if row.name == name]
        return [
            row
            for row in figures
            if all(row.labels.get(axis, label) == label for axis, label in (labels or {}).items())
        ]

    def labels(self, axis: str) -> list[Any]:
        """The values of an axis: those declared, or those of the figures."""
        values = self.schema.axis(axis).values
        if values is not None:
            return list(values)
        return _in_order(row.labels[axis] for row in self.metrics if axis in row.labels)

    def table(
        self,
        name: str,
        title: str,
        rows: Sequence[str],
        columns: Sequence[str | tuple[str, ...]],
        where: Mapping[str, Label] | None = None,
        note: str = "",
        shown: bool = True,
    ) -> Table:
        """A table of figures.

        Args:
            name, title, note, shown: as in `Table`.
            rows: the axes that name a row; there is a row for each combination of labels that has a figure.
            columns: metrics, or parts of their rates ('tar.threshold'). A metric with further axes has a column for
                each of their labels, which its title need not name. Metrics in a tuple share these: their columns
                alternate.
            where: labels that are fixed.
        """
        where = where or {}
        heads: list[Column] = []
        names: list[tuple[str, str, dict[str, Label]]] = []
        row_labels: list[tuple[Label, ...]] = []
        for column in columns:
            group = [column] if isinstance(column, str) else list(column)
            figures = [row for entry in group for row in self.rows(entry.partition(".")[0], where)]
            free = _in_order(axis for row in figures for axis in row.labels if axis not in where and axis not in rows)
            row_labels += [tuple(row.labels[axis] for axis in rows) for row in figures if {*rows} <= row.labels.keys()]
            places = {
                axis: self._sorted(axis, (row.labels[axis] for row in figures if axis in row.labels)) for axis in free
            }
            for labels in _combinations(places) if figures else ():
                for entry in group:
                    metric, _, part = entry.partition(".")
                    spec = self.schema.spec(metric)
                    head, unit = _PARTS[part] if part else (self.title(spec, {**where, **labels}), spec.unit)
                    unsaid = [axis for axis in labels if part or f"{{{axis}}}" not in spec.title]
                    head = ", ".join([head, *(self._named(axis, labels[axis]) for axis in unsaid)])
                    heads.append(Column(head, unit))
                    names.append((metric, part, {**where, **labels}))
        orders = [self._sorted(axis, (key[place] for key in row_labels)) for place, axis in enumerate(rows)]
        present = set(row_labels)
        keys = [key for key in itertools.product(*orders) if key in present]
        axes = [self.schema.axis(axis) for axis in rows]
        body = [
            [
                *(axis.cell(label) for axis, label in zip(axes, key, strict=True)),
                *(
                    self._cell(metric, part, {**labels, **dict(zip(rows, key, strict=True))})
                    for metric, part, labels in names
                ),
            ]
            for key in keys
        ]
        titles = [Column(axis.title or axis.name, axis.unit) for axis in axes]
        return Table(name, title, [*titles, *heads], body, note, shown)

    def title(self, spec: MetricSpec, labels: Mapping[str, Label], template: str | None = None) -> str:
        """A metric's title (or another template) with its labels in words."""
        words = {axis.name: axis.title or axis.name for axis in self.schema.axes}
        words |= {name: self.schema.axis(name).text(label) for name, label in labels.items()}
        return (spec.title if template is None else template).format_map(words)

    def headlines(self) -> list[Headline]:
        """The key figures, in the order in which they were added."""
        lines = []
        for row in self.metrics:
            spec = self.schema.spec(row.name)
            shown = spec.headline and row.key and self.schema.is_judged(row.labels)
            if shown and isinstance(row.estimate, Estimate):
                note = row.note or self.title(spec, row.labels, spec.note)
                lines.append(Headline(self.title(spec, row.labels, spec.headline), row.estimate, row.unit, note))
        return lines

    def gate_figures(self) -> dict[str, Estimate]:
        """Every name that a gate can have, with its figure; without a number where none could be measured."""
        figures = {name: MISSING for name in self.schema.gate_names() if "<" not in name}
        for row in self.metrics:
            if isinstance(row.estimate, Estimate):
                figures |= dict.fromkeys(self.schema.names_of(self.schema.spec(row.name), row.labels), row.estimate)
        return figures

    def as_json(self) -> dict:
        """report.json's metrics: every figure at its path, and the facts."""
        tree: dict = {}
        for row in self.metrics:
            spec = self.schema.spec(row.name)
            if spec.path is None:
                continue
            path = spec.path or "/".join([*(f"{{{axis}}}" for axis in spec.axes), spec.name])
            keys: list[str | int] = []
            words = {axis: word_of(label) for axis, label in row.labels.items()}
            for part in path.split("/"):
                whole = part[1:-1] if part.startswith("{") and part.endswith("}") else ""
                keys += self.schema.axis(whole).path(row.labels[whole]) if whole else (part.format_map(words),)
            place = tree
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = row.estimate.as_json() if isinstance(row.estimate, Estimate) else row.estimate
        return {key: _as_lists(value) for key, value in _merged(tree, self.facts).items()}

    def few_errors(self) -> tuple[list[str], list[Table]]:
        """Warnings about figures that rest on few errors, and a table of them where they are many."""
        rows: list[tuple[str, str]] = []
        for row in self.metrics:
            few = [counted(count, what) for what, count in row.errors.items() if count < FEW_ERRORS]
            if few:
                spec = self.schema.spec(row.name)
                unsaid = [axis for axis in spec.axes if f"{{{axis}}}" not in spec.title]
                where = ", ".join(self._named(axis, row.labels[axis]) for axis in unsaid if len(self.labels(axis)) > 1)
                title = self.title(spec, row.labels)
                rows.append((f"{title} ({where})" if where else title, " and ".join(few)))
        if len(rows) <= _FEW_LISTED:
            return [f"{title} rests on only {few}." for title, few in rows], []
        what = f"rest on fewer than {FEW_ERRORS} errors of a kind"
        columns = [Column("figure"), Column("rests on only")]
        table = Table("few-errors", f"Figures that {what}", columns, rows, shown=False)
        return [f"{len(rows)} figures {what}; few-errors.csv lists them."], [table]

    def without_interval(self) -> list[str]:
        """A warning about figures whose people cannot say how sure they are: see `Resampled.supported`."""
        lacking = [
            self.title(self.schema.spec(row.name), row.labels)
            for row in self.metrics
            if isinstance(row.estimate, Estimate) and row.estimate.low is None and math.isfinite(row.estimate.value)
        ]
        titles = list(dict.fromkeys(filter(None, lacking)))
        if not titles:
            return []
        have = "has" if len(titles) == 1 else "have"
        why = "fewer than two people stand behind such a figure, or a few have nearly all of its pairs or images"
        return [f"{some_of(titles)} {have} no interval: {why}."]

    def report(self) -> Report:
        """The whole report."""
        few, tables = self.few_errors()
        few += self.without_interval()
        if self.people is not None and self.people < FEW_PEOPLE:
            few.insert(0, f"Intervals rest on {self.people} people only; a bootstrap of so few is too narrow.")
        return Report(
            kind=self.schema.kind,
            title=self.schema.title,
            protocol=self.protocol,
            headlines=self.headlines(),
            sections=[*self.sections, *([Section("Figures with few errors", tables=tables)] if tables else [])],
            metrics=self.as_json(),
            gates=self.gate_figures(),
            warnings=[*self.warnings, *few],
            provenance=self.provenance,
        )

    def _named(self, axis: str, label: Label) -> str:
        declared = self.schema.axis(axis)
        title = f"{declared.title or declared.name} " if isinstance(label, int | float) else ""
        return title + declared.text(label)

    def _sorted(self, axis: str, labels: Iterable[Label]) -> list[Label]:
        kept = _in_order(labels)
        return [label for label in self.labels(axis) if label in kept]

    def _cell(self, metric: str, part: str, labels: Mapping[str, Label]) -> Cell:
        spec = self.schema.spec(metric)
        row = self._places.get((metric, tuple(labels.get(axis, "") for axis in spec.axes)))
        if row is None:
            return None
        return getattr(row.estimate, part, None) if part else row.estimate


@functools.cache
def texts(name: str) -> dict[str, str]:
    """What an evaluation's report says, by heading: the file `texts/NAME.md`."""
    text = (resources.files(__package__) / "texts" / f"{name}.md").read_text("utf-8")
    parts = re.split(r"(?m)^# (\w+)$", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def declared(table: str) -> list[MetricSpec]:
    """Metrics from a Markdown table with a row a metric: name, unit, title, report.json, gates, key figure, note.

    The column report.json holds the metric's path; its axes are those that the path names. In parentheses it only names
    the axes, and the metric is not in report.json. Several gates stand apart by spaces.
    """
    specs = []
    for line in table.strip().splitlines()[2:]:
        name, unit, title, path, gates, headline, note = (cell.strip() for cell in line.strip().strip("|").split("|"))
        axes = tuple(re.findall(r"\{(\w+)\}", path))
        if unit not in get_args(Unit):
            raise ValueError(f"{name}: no unit {unit!r}")
        place = None if path.startswith("(") else path
        specs.append(MetricSpec(name, axes, cast(Unit, unit), title, place, tuple(gates.split()), headline, note))
    return specs


def paragraphs(text: str, **facts: object) -> list[str]:
    """The paragraphs of a text, filled with facts.

    text: paragraphs between blank lines, with {names} of facts as in `str.format`. One that names a fact which is None
        is left out, and so is one that begins with [name] where that fact is false.
    """
    kept = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        condition, body = _CONDITION.fullmatch(paragraph).groups()
        names = re.findall(r"\{(\w+)", body)
        if (not condition or facts[condition]) and all(facts[name] is not None for name in names):
            kept.append(" ".join(body.format_map(facts).split()))
    return kept


def _combinations(values: Mapping[str, Sequence[Label]]) -> Iterator[dict[str, Label]]:
    for labels in itertools.product(*values.values()):
        yield dict(zip(values, labels, strict=True))


def _in_order(items: Iterable) -> list:
    """The different items, each where it first stood."""
    return list(dict.fromkeys(items))


def _merged(tree: dict, more: Mapping) -> dict:
    both = {key: _merged(tree[key], more[key]) for key in tree.keys() & more.keys() if isinstance(tree[key], dict)}
    return {**tree, **more, **both}


def _as_lists(tree: object) -> object:
    """A tree whose dicts with numbers for keys are lists."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: _as_lists(value) for key, value in tree.items()}
    return list(inner.values()) if inner and all(isinstance(key, int) for key in inner) else inner
