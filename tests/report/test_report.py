"""Reports: the folder and what it refuses, JSON against its schema, CSV, Markdown, and the page in a browser."""

from __future__ import annotations

import base64
import csv
import functools
import io
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from facedecode import files, output_folder
from facedecode.errors import OutputError, OutputInUse
from facedecode.files import locked
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report import folder as folder_module
from facedecode.report.data import report_json, table_csv
from facedecode.report.folder import require_writable, write_report
from facedecode.report.gates import check_gates, parse_gate
from facedecode.report.markdown import report_markdown
from facedecode.report.model import Unit
from facedecode.report.page import report_page
from facedecode.report.plots import matrix_plot
from facedecode.report.text import interval_note, show_cell, show_estimate, show_gate, show_number
from facedecode.statistics.bootstrap import Estimate
from facedecode.statistics.pair_rates import RateAtFmr

MARKUP = (
    "<script>alert(1)</script> \"q\" & 'p' </title> --> | `c` [x](y) {{ 7*7 }} a_b_ *s* <img src=x onerror=alert(2)>"
)
RATE = RateAtFmr(0.92, 0.89, 0.94, 496, 0.31, 0.001, 0.00099, 6848, 6848158, 22000)
ALONE = Estimate(0.5, None, None, 1)


def png(width: int = 40, height: int = 30) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (40, 90, 160)).save(stream, format="PNG")
    return stream.getvalue()


@functools.cache
def svg() -> bytes:
    return matrix_plot(["a", MARKUP], ["b"], np.array([[0.1], [0.9]]), x_label="x", y_label="y")


@pytest.fixture
def report() -> Report:
    wide = [Column("name"), *(Column(f"figure number {i}", "percent") for i in range(12))]
    tables = [
        Table("rates", "Rates", [Column("name"), Column("TAR", "percent"), Column("errors", "count")],
              [["a", RATE, 12], [MARKUP, ALONE, None], ["none", None, 1234567]], note="A note."),
        Table("wide", "A wide table", wide, [["row", *[RATE] * 12]]),
        Table("images", "Every image", [Column("path"), Column("score", "score")],
              [[f"{i}.jpg", i / 7] for i in range(50)], shown=False),
    ]  # fmt: skip
    pictures = [
        Picture("matrix", "A matrix", svg(), caption="Shares.", alt="two cells", kind="svg"),
        Picture("grid", "A grid", png(2400, 300)),
    ]
    return Report(
        kind="verification",
        title="Verification of a and b",
        protocol=["All pairs.", "1. Not a list."],
        headlines=[Headline("TAR at FAR 0.1 %", RATE, note="by person"), Headline("alone", ALONE)],
        sections=[Section("Rates", ["A paragraph."], tables), Section("Figures", (), (), pictures)],
        metrics={"tar_at_far": {"0.001": RATE.as_json()}, "n": 3, "names": ["a", None, True], "eer": ALONE.as_json()},
        gates={"tar@far=0.001": RATE, "eer": Estimate(math.nan, None, None, 0)},
        warnings=["Rests on 12 errors."],
        provenance={
            "stores": [{"store": "emb", "fingerprint": "f" * 64}, {"store": "emb2", "fingerprint": "e" * 64}],
            "decoders": {"ridge": {"kind": "ridge", "people": None, "open": True}},
            "settings": {"seed": 0, "level": 0.9, "rates": [0.01, 0.001]},
            "command": "facedecode evaluate verification emb -o report",
        },
    )  # fmt: skip


@pytest.fixture
def gates(report: Report) -> list:
    conditions = ["tar@far=0.001 < 0.9", "low(tar@far=0.001) < 0.9", "eer > 0.1"]
    return check_gates([parse_gate(condition) for condition in conditions], report.gates)


def hostile(report: Report) -> Report:
    """The same report with markup wherever a user's text can come in."""
    section = report.sections[0]
    table = replace(
        section.tables[0], title=MARKUP, note=MARKUP, columns=[Column(MARKUP), *section.tables[0].columns[1:]]
    )
    picture = replace(report.sections[1].pictures[0], title=MARKUP, caption=MARKUP, alt=MARKUP)
    return replace(
        report,
        title=MARKUP,
        protocol=[MARKUP],
        headlines=[Headline(MARKUP, RATE, note=MARKUP)],
        sections=[Section(MARKUP, [MARKUP], [table, *section.tables[1:]], [picture])],
        warnings=[MARKUP],
        provenance={MARKUP: {MARKUP: MARKUP}, "command": MARKUP, "loose": MARKUP},
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# The folder


def test_a_folder_holds_every_file_and_json_names_them(report: Report, gates: list, tmp_path: Path) -> None:
    write_report(report, tmp_path / "new" / "report", gates)
    files = contents(tmp_path / "new" / "report")
    fixed = {"report.html", "report.json", "report.md", "report.schema.json"}
    assert set(files) == fixed | {"rates.csv", "wide.csv", "images.csv", "figures/matrix.svg", "figures/grid.png"}
    numbers = json.loads(files["report.json"])
    assert {entry["file"] for entry in numbers["tables"] + numbers["figures"]} == set(files) - fixed
    assert files["figures/grid.png"] == report.sections[1].pictures[1].data
    assert numbers["metrics"] == json.loads(json.dumps(report.metrics))
    assert numbers["headlines"][0]["figure"]["threshold"] == 0.31
    assert [gate["passed"] for gate in numbers["gates"]] == [True, False, False]


def test_equal_reports_are_equal_to_the_byte(report: Report, gates: list, tmp_path: Path) -> None:
    write_report(report, tmp_path / "a", gates)
    write_report(report, tmp_path / "b", gates)
    write_report(report, tmp_path / "b", gates, overwrite=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_report_that_is_there_is_not_replaced_unasked(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "r")
    before = contents(tmp_path / "r")
    for attempt in (lambda: require_writable(tmp_path / "r", False), lambda: write_report(report, tmp_path / "r")):
        with pytest.raises(OutputError, match="--overwrite"):
            attempt()
    assert contents(tmp_path / "r") == before
    require_writable(tmp_path / "r", True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["holiday.jpg", "report.json", "report.html", "figures/x.png"])
def test_a_folder_of_other_files_is_never_written_in(
    report: Report, tmp_path: Path, name: str, overwrite: bool
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(OutputError):
        require_writable(tmp_path, overwrite)
    with pytest.raises(OutputError):
        write_report(report, tmp_path, overwrite=overwrite)
    assert list(contents(tmp_path)) == [name]


def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path / "a" / "b", False)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper" / "still"):
        with pytest.raises(OutputError, match="file"):
            require_writable(place, True)

    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "_new_temporary", forbidden)
    with pytest.raises(OutputError, match="Permission denied"):
        require_writable(tmp_path / "a" / "b", False)


def test_overwriting_removes_what_the_old_report_had_and_nothing_else(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "r")
    (tmp_path / "r" / "notes.txt").write_text("mine")
    (tmp_path / "r" / "mine.csv").write_text("mine")
    small = replace(report, sections=[Section("Rates", (), [replace(report.sections[0].tables[0], name="other")])])
    write_report(small, tmp_path / "r", overwrite=True)
    left = set(contents(tmp_path / "r")) - {"report.html", "report.json", "report.md", "report.schema.json"}
    assert left == {"other.csv", "notes.txt", "mine.csv"}
    assert not (tmp_path / "r" / "figures").exists()
    with pytest.raises(OutputError, match=r"mine\.csv"):
        write_report(
            replace(small, sections=[Section("", (), [replace(report.sections[0].tables[0], name="mine")])]),
            tmp_path / "r",
            overwrite=True,
        )
    assert (tmp_path / "r" / "mine.csv").read_text() == "mine"


def test_a_doctored_list_of_files_removes_nothing_outside(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "r")
    (tmp_path / "precious.csv").write_text("x")
    (tmp_path / "r" / "notes.txt").write_text("x")
    numbers = json.loads((tmp_path / "r" / "report.json").read_text())
    bad = ["../precious.csv", str(tmp_path / "precious.csv"), "notes.txt", ".", "figures", "figures/../notes.txt", 7]
    numbers["tables"] += [{"file": name} for name in bad]
    (tmp_path / "r" / "report.json").write_text(json.dumps(numbers))
    write_report(report, tmp_path / "r", overwrite=True)
    assert (tmp_path / "precious.csv").exists()
    assert (tmp_path / "r" / "notes.txt").exists()


def test_figures_are_not_written_through_a_link(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "r")
    shutil.move(tmp_path / "r" / "figures", tmp_path / "elsewhere")
    (tmp_path / "r" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="link"):
        write_report(report, tmp_path / "r", overwrite=True)


@pytest.mark.parametrize("failing", ["report.json", "figures/grid.png", "report.html"])
def test_where_writing_fails_the_old_report_stays(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_report(report, tmp_path / "r")
    before, write = contents(tmp_path / "r"), output_folder.write_bytes

    def full(path: Path, data: bytes) -> None:
        if path.as_posix().endswith(failing):
            raise OutputError("disk full")
        write(path, data)

    monkeypatch.setattr(output_folder, "write_bytes", full)
    with pytest.raises(OutputError, match="disk full"):
        write_report(replace(report, title="another"), tmp_path / "r", overwrite=True)
    assert contents(tmp_path / "r") == before
    with pytest.raises(OutputError, match="disk full"):
        write_report(report, tmp_path / "fresh")
    monkeypatch.undo()
    write_report(report, tmp_path / "fresh")
    assert contents(tmp_path / "fresh") == before


def test_a_killed_run_is_in_nobodys_way(report: Report, tmp_path: Path) -> None:
    stage = tmp_path / "r" / output_folder.STAGE / "figures"
    stage.mkdir(parents=True)
    (stage / "half.png").write_bytes(b"half")
    (tmp_path / "r" / ".lock").touch()
    write_report(report, tmp_path / "r")
    assert "half.png" not in str(contents(tmp_path / "r").keys())


def half_written(report: Report, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there of a report when a run of the call `mine` is killed: some files have their places."""
    moved, replace_file = [], output_folder.os.replace

    def killed(source: Path, target: Path) -> None:
        if output_folder.STAGE in source.parts and output_folder.STAGE not in target.parts:
            moved.append(target)
        if len(moved) == 3:
            raise SystemExit
        replace_file(source, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(output_folder.os, "replace", killed)
        write_report(report, folder, call="mine")


def test_a_half_written_report_is_replaced_by_its_own_call_only(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(report, tmp_path / "whole")
    half_written(report, tmp_path / "r", monkeypatch)
    before = contents(tmp_path / "r")
    assert {"report.json", output_folder.MARKER} <= set(before) < {*contents(tmp_path / "whole"), output_folder.MARKER}
    for attempt in (require_writable, functools.partial(write_report, report)):
        with pytest.raises(OutputError, match="another command"):
            attempt(tmp_path / "r", overwrite=False, call="other")
    assert contents(tmp_path / "r") == before
    require_writable(tmp_path / "r", False, "mine")
    small = replace(report, sections=[])
    write_report(small, tmp_path / "r", call="mine")  # its inputs have changed since: tables that are gone go
    write_report(small, tmp_path / "small")
    assert contents(tmp_path / "r") == contents(tmp_path / "small")
    with pytest.raises(OutputError, match="holds a report"):
        require_writable(tmp_path / "r", False, "mine")
    half_written(report, tmp_path / "again", monkeypatch)
    write_report(report, tmp_path / "again", overwrite=True, call="other")
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_two_runs_do_not_write_one_report(report: Report, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with locked(tmp_path / "r"), pytest.raises(OutputInUse):
        write_report(report, tmp_path / "r")


@pytest.mark.parametrize("name", ["Rates", "a b", "../up", "a/b", "", "-a", "a--b", "ä", "a.csv", "a\n"])
def test_names_that_are_no_file_names_are_refused(report: Report, tmp_path: Path, name: str) -> None:
    table, picture = report.sections[0].tables[0], report.sections[1].pictures[0]
    for section in (Section("", (), [replace(table, name=name)]), Section("", (), (), [replace(picture, name=name)])):
        with pytest.raises(ValueError, match="a name has"):
            write_report(replace(report, sections=[section]), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_faults_of_an_evaluation_are_found_before_anything_is_written(report: Report, tmp_path: Path) -> None:
    table, picture = report.sections[0].tables[0], report.sections[1].pictures[0]
    faulty = [
        (replace(report, sections=[*report.sections, Section("", (), [table])]), "two tables"),
        (replace(report, sections=[*report.sections, Section("", (), (), [picture])]), "two figures"),
        (replace(report, sections=[Section("", (), [replace(table, rows=[["a"]])])]), "1 cells for 3"),
        (replace(report, metrics={"x": math.nan}), "JSON"),
    ]
    for bad, said in faulty:
        with pytest.raises(ValueError, match=said):
            write_report(bad, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_command_with_bytes_that_are_no_utf8_is_written(report: Report, tmp_path: Path) -> None:
    write_report(replace(report, title="a\udcffb", provenance={"command": "x \udcff"}), tmp_path / "r")
    assert json.loads((tmp_path / "r" / "report.json").read_text())["title"] == "a\udcffb"


# Numbers


def test_csv_holds_the_numbers_as_they_are() -> None:
    columns = [Column("path"), Column("TAR", "percent"), Column("score", "score"), Column("n", "count")]
    rows = [
        ['a,"b"\n.jpg', RATE, np.float32(0.1), np.int64(3)],
        ["=1+1", ALONE, math.nan, None],
        ["x", None, math.inf, 0],
        ["y", 0.25, -1e-300, 7],
    ]
    read = list(csv.DictReader(io.StringIO(table_csv(Table("t", "T", columns, rows)))))
    assert list(read[0]) == ["path", "TAR", "TAR low", "TAR high", "TAR n", "score", "n"]
    assert [line["path"] for line in read] == ['a,"b"\n.jpg', "'=1+1", "x", "y"]  # no spreadsheet computes it
    assert [float(read[0][key]) for key in ("TAR", "TAR low", "TAR high", "TAR n")] == [0.92, 0.89, 0.94, 496]
    assert (read[1]["TAR"], read[1]["TAR low"], read[1]["TAR high"], read[1]["TAR n"]) == ("0.5", "", "", "1")
    assert [read[2][key] for key in ("TAR", "TAR low", "TAR n")] == ["", "", ""]
    assert np.float32(read[0]["score"]) == np.float32(0.1)
    assert (read[1]["score"], float(read[2]["score"]), float(read[3]["score"])) == ("", math.inf, -1e-300)
    assert [line["n"] for line in read] == ["3", "", "0", "7"]


def test_csv_has_no_two_columns_of_one_title() -> None:
    for titles in (("a", "a"), ("TAR", "TAR n")):
        table = Table("t", "T", [Column(title) for title in titles], [[ALONE, 1]])
        with pytest.raises(ValueError, match="two columns"):
            table_csv(table)


def test_an_empty_table_is_its_titles() -> None:
    assert table_csv(Table("t", "T", [Column("a"), Column("b")], [])) == "a,b\n"


@pytest.fixture(scope="module")
def schema() -> dict:
    return json.loads((Path(folder_module.__file__).parent / "report.schema.json").read_text())


def validator(schema: dict):
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, of the test extra")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_json_keeps_to_its_schema(report: Report, gates: list, schema: dict) -> None:
    numbers = json.loads(json.dumps(report_json(report, gates)))
    assert validator(schema).is_valid(numbers)
    assert set(schema["required"]) == set(numbers) == set(schema["properties"])
    assert validator(schema).is_valid(report_json(Report("security", "t", (), (), (), {})))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("more",), 1),
        (("tool", "name"), "x"),
        (("kind",), None),
        (("protocol",), "text"),
        (("warnings", 0), 3),
        (("headlines", 0, "figure", "value"), "0.92"),
        (("headlines", 0, "unit"), "meters"),
        (("headlines", 0, "extra"), 1),
        (("metrics",), []),
        (("metrics", "tar_at_far", "0.001", "low"), "0.9"),
        (("metrics", "tar_at_far", "0.001", "n"), 1.5),
        (("metrics", "eer"), {"value": 0.1}),
        (("metrics", "eer"), {"low": 0.1, "high": 0.2}),
        (("metrics", "names"), [{"value": 1}]),
        (("gates", 0, "passed"), "yes"),
        (("gates", 0, "value"), "0.9"),
        (("gate_figures", "eer"), {"value": None, "low": None, "high": None}),
        (("tables", 0, "file"), "../rates.csv"),
        (("tables", 0, "name"), "Rates"),
        (("figures", 0, "file"), "figures/matrix.html"),
        (("provenance",), None),
    ],
)
def test_the_schema_refuses_what_is_broken(
    report: Report, gates: list, schema: dict, path: tuple, value: object
) -> None:
    numbers = json.loads(json.dumps(report_json(report, gates)))
    *way, last = path
    place = numbers
    for key in way:
        place = place[key]
    place[last] = value
    assert not validator(schema).is_valid(numbers)


def test_the_schema_knows_every_unit(schema: dict) -> None:
    assert schema["$defs"]["headline"]["properties"]["unit"]["enum"] == [*get_args(Unit)]


def test_the_schema_misses_every_field(report: Report, gates: list, schema: dict) -> None:
    check, whole = validator(schema), json.loads(json.dumps(report_json(report, gates)))
    places = [(), ("tool",), ("headlines", 0), ("headlines", 0, "figure"), ("gates", 0), ("tables", 0), ("figures", 0)]
    for way in places:
        place = whole
        for key in way:
            place = place[key]
        for field in list(place):
            value = place.pop(field)
            optional = way == ("headlines", 0, "figure") and field not in ("value", "low", "high", "n")
            assert check.is_valid(whole) == optional, (way, field)
            place[field] = value


# Words


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.9315, "percent", "93.15 %"),
        (0.0, "percent", "0.00 %"),
        (1.0, "percent", "100.00 %"),
        (0.9999999999999999, "percent", "100.00 %"),
        (0.999, "percent", "99.90 %"),
        (0.99996, "percent", "99.99 %"),
        (0.9999999975, "percent", "99.99 %"),
        (0.99994, "percent", "99.99 %"),
        (1.2345, "percent", "123.45 %"),
        (0.001, "percent", "0.10 %"),
        (0.0009999769, "percent", "0.10 %"),
        (0.0005, "percent", "0.05 %"),
        (0.0001, "percent", "0.01 %"),
        (0.00001234, "percent", "0.0012 %"),
        (1e-8, "percent", "0.000001 %"),
        (-0.0001, "percent", "-0.01 %"),
        (-0.005, "points", "-0.50"),
        (0.012, "points", "+1.20"),
        (-0.05, "db", "-0.05 dB"),
        (math.inf, "db", "∞"),
        (-math.inf, "score", "-∞"),
        (1234567, "count", "1,234,567"),
        (-0.546207, "score", "-0.5462"),
        (0.000123456, "small", "0.000123"),
        (0.46449, "number", "0.464"),
        (math.nan, "percent", "–"),
        (None, "db", "–"),
    ],
)
def test_numbers_in_words(value: float | None, unit: str, shown: str) -> None:
    assert show_number(value, unit) == shown


def test_figures_and_cells_in_words() -> None:
    assert show_estimate(RATE, "percent") == "92.00 % [89.00, 94.00]"
    assert show_estimate(Estimate(13.96, 13.88, 14.04, 9), "db") == "13.96 dB [13.88, 14.04]"
    assert show_estimate(Estimate(-0.0046, -0.0051, -0.0042, 9), "points") == "-0.46 [-0.51, -0.42]"
    assert show_estimate(ALONE, "percent") == "50.00 %"
    assert show_cell(None) == "–"
    assert show_cell("a.jpg", "count") == "a.jpg"
    assert show_cell(3) == "3"
    assert show_cell(np.float64(0.25), "percent") == "25.00 %"
    assert show_cell(RATE, "percent") == show_estimate(RATE, "percent")


def test_gates_and_levels_in_words(report: Report, gates: list) -> None:
    assert [show_gate(result) for result in gates] == [
        ("tar@far=0.001 < 0.9", "0.92", "passed"),
        ("low(tar@far=0.001) < 0.9", "0.89", "missed"),
        ("eer > 0.1", "no number", "missed"),
    ]
    assert interval_note(report) == "In brackets: 90 % intervals."
    assert interval_note(replace(report, provenance={})) == "In brackets: 95 % intervals."


# Markdown, read by a parser of its own


def markdown_tokens(text: str) -> tuple[list, list]:
    """The blocks, and what is inside of their lines."""
    from markdown_it import MarkdownIt  # rich has it

    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return blocks, [inner for block in blocks for inner in block.children or ()]


def test_markdown_links_its_figures_and_shows_its_tables(report: Report, gates: list) -> None:
    blocks, inner = markdown_tokens(report_markdown(report, gates))
    assert [t.attrs["src"] for t in inner if t.type == "image"] == ["figures/matrix.svg", "figures/grid.png"]
    assert [t.attrs["href"] for t in inner if t.type == "link_open"] == ["images.csv"]
    assert sum(t.type == "table_open" for t in blocks) == 4
    headings = [blocks[i + 1].content for i, t in enumerate(blocks) if t.type == "heading_open"]
    assert headings == [report.title, "Rates", "Figures", "Protocol", "Command"]
    (command,) = (t for t in blocks if t.type == "fence")
    assert command.content == "facedecode evaluate verification emb -o report\n"


def test_markup_in_markdown_stays_text(report: Report, gates: list) -> None:
    made_with = {"command": "a ``` b\n```\n<b>", "environment": {"cpu": MARKUP}}
    blocks, inner = markdown_tokens(report_markdown(replace(hostile(report), provenance=made_with), gates))
    assert not {t.type for t in blocks} & {"html_block", "code_block"}
    assert not {t.type for t in inner} & {"html_inline", "code_inline", "em_open", "s_open"}
    assert [t.attrs["href"] for t in inner if t.type == "link_open"] == ["images.csv"]
    assert [t.attrs["src"] for t in inner if t.type == "image"] == ["figures/matrix.svg"]
    lines = ["".join(c.content for c in t.children if c.type.startswith("text")) for t in blocks if t.children]
    assert sum(MARKUP in line for line in lines) == 14
    assert [t.content for t in blocks if t.type == "fence"] == ["a ``` b\n```\n<b>\n"]


@pytest.mark.parametrize(
    "start", ["# a", "+ a", "- a", "= a", "1. a", "12) a", "---", "===", "> a", "| a", "    a", "[a]: b", "* a", "~~~"]
)
def test_a_paragraph_begins_nothing_else(report: Report, start: str) -> None:
    text = report_markdown(replace(report, protocol=["x", start], provenance={})).partition("## Protocol")[2]
    blocks, inner = markdown_tokens(text)
    assert [t.type for t in blocks] == ["paragraph_open", "inline", "paragraph_close"] * 2
    assert "".join(t.content for t in inner) == "x" + start.strip()


# The page


class Elements(HTMLParser):
    """Tags with their attributes, and all text outside of the style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text, self.style = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.style = tag == "style"

    def handle_data(self, data: str) -> None:
        self.text += "" if self.style else data


def test_the_page_needs_nothing_else_and_runs_nothing(report: Report, gates: list) -> None:
    page = Elements(report_page(hostile(report), gates))
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "iframe", "object", "embed", "base", "form", "svg"}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all(attrs["src"].startswith("data:image/") for _, attrs in page.tags if "src" in attrs)
    assert {attrs["href"] for tag, attrs in page.tags if tag == "link"} == {"data:,"}
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert all(link.startswith("#") or link.endswith((".csv", ".json")) for link in links)
    assert "url(" not in report_page(report) and "@import" not in report_page(report)


def test_the_page_is_built_for_everyone(report: Report, gates: list) -> None:
    page = Elements(report_page(report, gates))
    assert [attrs.get("lang") for tag, attrs in page.tags if tag == "html"] == ["en"]
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    named = {attrs[key] for _, attrs in page.tags for key in ("aria-labelledby",) if key in attrs}
    targets = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a" and attrs["href"].startswith("#")}
    assert named | targets <= set(identifiers)


def test_the_page_says_it_all(report: Report, gates: list) -> None:
    page = report_page(report, gates)
    text = Elements(page).text
    wanted = [
        *("Gates: 2 of 3 missed", "92.00 %", "[89.00, 94.00]", "n = 496", "by person", "90 % intervals"),
        *("Rests on 12 errors.", "A paragraph.", "1,234,567", "A note.", "50 rows", "Shares.", "All pairs."),
        *("emb -o report", "stores 2", "e" * 64, "decoders › ridge", "0.01, 0.001"),
    ]
    assert [part for part in wanted if part not in text] == []
    for picture in report.sections[1].pictures:
        assert base64.b64encode(picture.data).decode() in page


# The page in a browser

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the test extra")
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not driver or not binary:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


def opened(browser, report: Report, gates: list, folder: Path, width: int = 1280, scheme: str = "light"):
    write_report(report, folder, gates)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)  # what came before is not this page's
    browser.get((folder / "report.html").as_uri())
    return browser


def test_a_browser_shows_it_without_complaint_or_request(browser, report: Report, gates: list, tmp_path: Path) -> None:
    opened(browser, report, gates, tmp_path / "r")
    assert browser.get_log("browser") == []
    images = "return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    shown = browser.execute_script(images)
    assert len(shown) == 2 and all(done and natural > 0 and width > 100 for done, natural, width in shown)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Chromium's own start page may still be at it: what counts is what this page asks for.
    asked = {r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome:")}
    assert {url for url in asked if not url.startswith("data:")} == {(tmp_path / "r" / "report.html").as_uri()}


def test_markup_in_names_is_text_in_a_browser(browser, report: Report, gates: list, tmp_path: Path) -> None:
    opened(browser, hostile(report), gates, tmp_path / "r")
    assert browser.get_log("browser") == []
    assert browser.title == MARKUP
    body = browser.execute_script("return document.body.textContent")
    assert body.count(MARKUP) >= 14
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)")
    assert browser.execute_script("return document.images[0].alt") == MARKUP


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, report: Report, gates: list, tmp_path: Path, width: int) -> None:
    opened(browser, hostile(report), gates, tmp_path / "r", width)
    scroll, client = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
    assert scroll <= client
    inner = "return [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth > e.clientWidth)"
    assert any(browser.execute_script(inner))  # the wide table scrolls in its own box


CONTRASTS = """
const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
function rgba(color) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
function light([r, g, b]) {
  const f = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
}
function ground(e) {
  for (; e; e = e.parentElement) {
    const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c;
  }
  return null;
}
return [...document.querySelectorAll('body *')].filter(
  e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
).map(e => {
  const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), e.tagName + '.' + e.className];
});
"""


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_both_color_schemes_can_be_read(
    browser, report: Report, gates: list, tmp_path: Path, scheme: str, dark: bool
) -> None:
    opened(browser, report, gates, tmp_path / "r", scheme=scheme)
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))
    assert (red + green + blue < 150) == dark and (red + green + blue > 700) != dark
    sheets = "return [...document.querySelectorAll('.sheet')].map(e => getComputedStyle(e).backgroundColor)"
    assert set(browser.execute_script(sheets)) == {"rgb(255, 255, 255)"}
    # WCAG 2.2, 1.4.3 asks for 4.5.
    contrasts = browser.execute_script(CONTRASTS)
    assert len(contrasts) > 50
    assert min(contrasts)[0] >= 4.5, min(contrasts)
