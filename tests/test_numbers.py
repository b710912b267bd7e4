"""Bracketed figures of the docs are figures of the results: docs/check_numbers.py."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs/check_numbers.py"
TEXT = "Type II is 87.96 % [84.04, 90.53] ([report](results/security/report.md)).\n"


@pytest.fixture(scope="module")
def numbers() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("check_numbers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where NamedTuple looks for the types of its fields
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder of docs with the results of two reports and a figure."""
    security = {"type2": {"value": 0.879589, "low": 0.840391, "high": 0.905283, "n": 9}}
    security["less"] = {"value": -0.05512, "low": -0.0609, "high": -0.0481, "n": 9}
    kept = {"security/report.json": {"metrics": [security]}, "other/report.json": {}, "fig.json": {"psnr": {}}}
    kept["fig.json"]["psnr"] = {"value": 13.8051, "low": 13.6436, "high": 13.9368}
    for name, content in kept.items():
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_text(json.dumps(content))
    rows = "attack,EER,EER low,EER high,EER n\nnone,0.0117,0.0081,0.0202,9\nclass,,,,0\n"
    (tmp_path / "results/security/eer.csv").write_text(rows)
    return tmp_path


def complaints(numbers: ModuleType, docs: Path, text: str) -> list[str]:
    """What the script says of a page with this text, less the page's name."""
    (docs / "page.md").write_text(text)
    return [line.partition("page.md:")[2] for line in numbers.check([docs / "page.md"], docs / "results")]


def test_docs_have_the_figures_of_the_results() -> None:
    run = subprocess.run([sys.executable, SCRIPT, "-v"], capture_output=True, text=True)
    assert run.stderr == "" and run.returncode == 0
    assert len(run.stdout.splitlines()) > 60


def test_a_wrong_digit_fails(numbers: ModuleType, docs: Path) -> None:
    assert complaints(numbers, docs, TEXT) == []
    for right, wrong in (("87.96", "87.95"), ("84.04", "84.14"), ("90.53", "90.35"), (" %", " dB"), ("87", "−87")):
        text = TEXT.replace(right, wrong)
        figure = text[text.index("is") + 3 : text.index("]") + 1]
        assert complaints(numbers, docs, "# Title\n\n" + text)[:1] == [f"3: {figure}: in no results file"], wrong


def test_ends_of_another_figure_fail(numbers: ModuleType, docs: Path) -> None:
    assert complaints(numbers, docs, TEXT.replace("[84.04, 90.53]", "[0.81, 2.02]"))


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|---|\n| ([x](results/fig.json)) 13.8 [13.6, 13.9] | 13.81 dB\n[13.64, 13.94] |",
        "[Table](results/security/report.md) of\n\n- EER: 1.2 [0.8, 2.0]\n- EER as a share: 0.012 [0.008, 0.020]",
        "It moves [less](results/security/report.md), by −0.055 [−0.061, −0.048].",
        "It moves 0.055 [0.048, 0.061] less, by 5.5 points [4.8, 6.1] ([report](results/security/report.md)).",
        "Pixels in [0, 1], `1.00 [0.90, 1.00]` and\n\n```\n12 [0.5, 2.5]\n```\n",
    ],
    ids=["table", "section", "negative", "turned", "none"],
)
def test_figures_as_texts_write_them(numbers: ModuleType, docs: Path, text: str) -> None:
    assert complaints(numbers, docs, text) == []


def test_a_figure_may_go_over_the_end_of_a_line(numbers: ModuleType, docs: Path) -> None:
    text = "- [Report](results/security/report.md): 87.96 %\n  [84.04,\n  90.53]"
    assert complaints(numbers, docs, text) == []
    assert complaints(numbers, docs, text.replace("87", "86")) == ["1: 86.96 % [84.04, 90.53]: in no results file"]


def test_the_file_must_be_linked_nearby(numbers: ModuleType, docs: Path) -> None:
    first = "# One\n\nSee [this](results/security/report.md).\n\n"
    figure = "It is 88 % [84, 91]"
    assert complaints(numbers, docs, first + figure) == []
    for text in (f"{first}# Two\n\n{figure}", f"{first}{figure} ([figures](results/fig.json))"):
        (found,) = complaints(numbers, docs, text)
        assert "only in" in found and "which it does not link" in found


def test_an_interval_alone_is_a_figure(numbers: ModuleType, docs: Path) -> None:
    link = "([figures](results/fig.json))"
    assert complaints(numbers, docs, f"Between them: [13.64, 13.94] {link}") == []
    assert complaints(numbers, docs, f"Between them: [13.64, 13.95] {link}")


def test_the_index_says_which_decoders_and_which_intervals(script: Callable[[str], ModuleType]) -> None:
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}
    made = {"command": "facedecode", "environment": {"cpu": "a CPU", "cores": 2, "torch": "2"}}
    made["decoders"] = {"shipped": {"sha256": "1f78535b" + 56 * "0"}, "of a former version": {"kind": "ridge"}}
    headline = {"title": "Type II of shipped", "figure": figure, "unit": "%", "note": ""}
    report = {"title": "Security", "headlines": [headline], "provenance": made}
    index = script("results_index").section
    older = "Decoders: `shipped` 1f78535b (an older one)."
    assert f"Intervals of version 1; a CPU, 2 cores, torch 2. {older}" in index(report, "here")
    made["environment"]["intervals"] = 3
    made["decoders"] = {f"seed {seed}": f"{seed:08}" for seed in range(40)}
    assert "Intervals of version 3; a CPU, 2 cores, torch 2. Decoders: 40, in report.json." in index(report, "here")
