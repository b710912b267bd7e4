"""One result for all evaluations: what follows from declared metrics."""

from __future__ import annotations

import pytest

from facedecode.errors import UsageError
from facedecode.evaluation.result import Axis, MetricSpec, Result, Schema, paragraphs
from facedecode.report import Column
from facedecode.report.gates import parse_gate
from facedecode.statistics.bootstrap import Estimate

ONE = Estimate(0.5, 0.4, 0.6, 10)


def schema(decoders: list[str], rates: list[float]) -> Schema:
    originals = ["originals", *decoders]
    keys = {"originals": ("originals",), **{name: ("decoders", name) for name in decoders}}
    return Schema(
        "test",
        "A test",
        [
            Axis("decoder", "pictures", decoders),
            Axis("pictures", values=originals, keys=keys),
            Axis("network", values=["a", "b"]),
            Axis("fmr", "FMR", rates, "percent"),
            Axis("n", "images"),
            Axis("pair", values=[("x", "y")], keys={("x", "y"): (0,)}),
        ],
        [
            MetricSpec("psnr", ("pictures",), "db", "PSNR", "{pictures}/psnr"),
            MetricSpec(
                "own", ("decoder",), "db", "own", path=None, gates=("psnr[decoder?]",), headline="PSNR of {decoder}"
            ),
            MetricSpec("phi", ("decoder", "network"), title="φ ({network})", gates=("phi[decoder,network]",)),
            MetricSpec("ratio", ("decoder", "network"), title="times ({network})"),
            MetricSpec("tar", ("decoder", "fmr", "n"), "percent", "TAR at FMR {fmr}", gates=("tar[decoder?,n]@far",)),
            MetricSpec("composed", ("pair",), gates=("composed[pair]",), path="compositions/{pair}/share"),
        ],
    )


def test_gates_are_known_before_the_work():
    alone, two = schema(["ridge"], [0.001]), schema(["ridge", "dfd"], [0.001, 0.1])
    assert set(alone.gate_names()) == {
        "psnr[ridge]",
        "psnr",
        "phi[ridge,a]",
        "phi[ridge,b]",
        "tar[ridge,<images>]@far=0.001",
        "tar[<images>]@far=0.001",
        "composed[x,y]",
    }
    assert "psnr" not in two.gate_names() and "psnr[dfd]" in two.gate_names()
    alone.require([parse_gate("tar[7]@far=1e-3 < 0.9"), parse_gate("low(psnr) < 9")])
    for condition in ("tar[7]@far=0.01 < 1", "tar@far=0.001 < 1", "phi[ridge] > 1", "psnr[dfd] < 1"):
        with pytest.raises(UsageError, match=r"no figure .* here; there are composed\[x,y\], phi\[ridge,a\]"):
            alone.require([parse_gate(condition)])


def test_everything_follows_from_the_figures():
    result = Result(schema(["ridge"], [0.1, 0.001]))
    result.add("psnr", {"pictures": "originals"}, ONE)
    result.add("psnr", {"pictures": "ridge"}, ONE)
    result.add("own", {"decoder": "ridge"}, ONE, note="good")
    for n in (10, 2):
        for fmr in (0.001, 0.1):
            result.add(
                "tar", {"decoder": "ridge", "fmr": fmr, "n": n}, Estimate(n * fmr, None, None, n), {"false match": n}
            )
    result.add("composed", {"pair": ("x", "y")}, ONE)
    result.facts = {"images": 3, "compositions": {0: {"first": "x"}}}
    result.people = 29
    report = result.report()
    assert report.metrics["originals"] == report.metrics["decoders"]["ridge"] == {"psnr": ONE.as_json()}
    assert report.metrics["ridge"]["0.001"]["10"]["tar"]["value"] == 0.01 and report.metrics["images"] == 3
    assert report.metrics["compositions"] == [{"first": "x", "share": ONE.as_json()}]
    assert report.gates["psnr"] == report.gates["psnr[ridge]"] == report.gates["composed[x,y]"] == ONE
    assert report.gates["tar[2]@far=0.1"].value == 0.2
    assert report.gates["phi[ridge,a]"].n == 0  # there will be none, and no gate on it passes
    assert [(line.title, line.unit, line.note) for line in report.headlines] == [("PSNR of ridge", "db", "good")]
    assert report.warnings[0].startswith("Intervals rest on 29 people only")
    assert "TAR at FMR 0.1 % (images 2) rests on only 2 false matches." in report.warnings
    assert len(report.warnings) == 6 and " no interval: " in report.warnings[-1]


def test_a_table_is_declared():
    result = Result(schema(["ridge", "dfd"], [0.1]))
    for decoder in ("dfd", "ridge"):
        for network in ("b", "a"):
            result.add("phi", {"decoder": decoder, "network": network}, ONE)
            if decoder == "dfd":
                result.add("ratio", {"decoder": decoder, "network": network}, ONE)
    table = result.table("phi", "Distances", ["decoder"], [("phi", "ratio"), "tar"])
    assert [column.title for column in table.columns] == ["pictures", "φ (a)", "times (a)", "φ (b)", "times (b)"]
    assert table.columns[1] == Column("φ (a)", "number")
    assert table.rows == [["ridge", ONE, None, ONE, None], ["dfd", ONE, ONE, ONE, ONE]]
    one = result.table("phi", "Distances", ["network"], ["phi"], {"decoder": "dfd"})
    assert one.rows == [["a", ONE], ["b", ONE]]


def test_a_figure_has_the_labels_of_its_metric():
    result = Result(schema(["ridge"], [0.1]))
    with pytest.raises(ValueError, match="psnr has the axes"):
        result.add("psnr", {"decoder": "ridge"}, ONE)


def test_a_paragraph_without_its_fact_is_left_out():
    text = "One {n:,}\nline.\n\nTwo {what}.\n\n[yes] Three.\n\n[no] Four."
    assert paragraphs(text, n=1000, what=None, yes=True, no=False) == ["One 1,000 line.", "Three."]
