"""Do 95 % intervals hold the truth, where it is known? For every kind of figure that a report prints.

    python benchmarks/bootstrap_coverage.py -o results/coverage
    python benchmarks/bootstrap_coverage.py --design DevTest --repetitions 200 --replicates 300

A repetition draws a sample from a population, and asks the package for intervals as an evaluation does. The modules
beside this one have the populations: coverage_scores.py (all pairs), coverage_pairs.py (listed pairs in folds),
coverage_rates.py (rates that hardly ever fail, means, paired differences), coverage_linkage.py, coverage_leakage.py.
Each has designs(): text → function of a seed and a number of replicates, which gives figure → (truth, value, low,
high); low and high are None where the package gives no interval.

A markdown table goes to stdout, progress to stderr: the coverage with its Monte-Carlo standard error (0.7 points of
1,000 repetitions), how often the interval lay below and above the truth, how far the figure is off on average, the
median width, and how often no interval is given. --before takes figures.json of an earlier build.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from facedecode.files import write_json
from facedecode.provenance import environment
from facedecode.report import Column, Headline, Report, Section, Table
from facedecode.report.folder import write_report
from facedecode.statistics.bootstrap import Estimate

MODULES = ("coverage_scores", "coverage_pairs", "coverage_rates", "coverage_linkage", "coverage_leakage")
ENOUGH, TOO_MUCH = 0.93, 0.97
ENOUGH_GIVEN = 100  # intervals, for a coverage among the key figures


@cache
def designs() -> dict:
    """The designs of all modules, by text."""
    return {text: own for name in MODULES for text, own in importlib.import_module(name).designs().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", action="append", help="only those whose text has this in it (repeatable)")
    parser.add_argument("--repetitions", type=int, default=1000, help="samples of a design (default 1000)")
    parser.add_argument("--replicates", type=int, default=500, help="of each bootstrap (default 500)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("-o", "--output", type=Path, help="folder for a report")
    parser.add_argument("--before", type=Path, help="figures.json of an earlier build, to print beside")
    parser.add_argument("--figures", type=Path, action="append", help="figures.json made before: only write a report")
    options = parser.parse_args()
    if options.figures:
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in options.figures]
        results = [row for part in parts for row in part["figures"]]
        command = "\n".join(dict.fromkeys(part["command"] for part in parts))
    else:
        results, command = [], shlex.join(["python", *sys.argv])
        for text in designs():
            if options.design and not any(part.lower() in text.lower() for part in options.design):
                continue
            start = time.perf_counter()
            found = repeat(text, options.repetitions, options.replicates, options.processes)
            results += [summary(text, figure, [sample[figure] for sample in found]) for figure in found[0]]
            print(f"{text}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
            print(table([row for row in results if row["design"] == text]), flush=True)
    if options.output:
        before = json.loads(options.before.read_text(encoding="utf-8"))["figures"] if options.before else []
        write(results, command, before, options.output)


def repeat(text: str, repetitions: int, replicates: int, processes: int) -> list[dict]:
    """The intervals of each repetition; seeds are the repetitions' numbers, so the processes change nothing."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = []
        work = ((text, seed, replicates) for seed in range(repetitions))
        for result in pool.imap(sample, work, chunksize=8):
            found.append(result)
            if len(found) % 200 == 0:
                print(f"{text}: {len(found)} of {repetitions}", file=sys.stderr)
    return found


def sample(work: tuple[str, int, int]) -> dict:
    text, seed, replicates = work
    return designs()[text](seed, replicates)


def summary(text: str, figure: str, found: Sequence[tuple]) -> dict:
    """Coverage of a figure, its standard error, and on which side the truth was missed."""
    truth, values, low, high = np.array(found, dtype=np.float64).T  # None is NaN
    given = ~np.isnan(low) & ~np.isnan(high)
    truth, values, low, high = truth[given], values[given], low[given], high[given]
    count = int(given.sum())
    row = {"design": text, "figure": figure, "repetitions": len(found), "not_given": 1 - count / len(found)}
    if not count:
        return row
    covered = float(np.mean((low <= truth) & (truth <= high)))
    return row | {
        "truth": float(truth.mean()),
        "coverage": covered,
        "standard_error": float(np.sqrt(max(covered * (1 - covered), 0.05 * 0.95) / count)),
        "too_low": float(np.mean(high < truth)),
        "too_high": float(np.mean(low > truth)),
        "off": float(np.mean(values - truth)),
        "spread": float(values.std()),
        "width": float(np.median(high - low)),
    }


COLUMNS = {
    "truth": "score",
    "coverage": "percent",
    "interval below the truth": "percent",
    "above": "percent",
    "off on average": "score",
    "median width": "score",
    "no interval": "percent",
}


def cells(row: dict) -> list:
    """What the table's columns hold."""
    if "coverage" not in row:
        return [None] * (len(COLUMNS) - 1) + [row["not_given"]]
    shares = [row["too_low"], row["too_high"]]
    return [row["truth"], counted(row), *shares, row["off"], row["width"], row["not_given"]]


def counted(row: dict) -> Estimate:
    """The coverage, give or take twice its standard error."""
    low, high = (row["coverage"] + sign * 2 * row["standard_error"] for sign in (-1, 1))
    return Estimate(row["coverage"], low, min(high, 1.0), row["repetitions"])


def table(rows: Sequence[dict]) -> str:
    """Markdown."""
    lines = [f"| {rows[0]['design']} | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        texts = []
        for cell, kind in zip(cells(row), COLUMNS.values(), strict=True):
            value = cell.value if isinstance(cell, Estimate) else cell
            if value is None:
                texts.append("")
            elif kind == "percent":
                texts.append(f"{value:.1%}" + (f" ± {row['standard_error']:.1%}" if cell is not value else ""))
            else:
                texts.append(f"{value:.5f}")
        lines.append(f"| {row['figure']} | {' | '.join(texts)} |")
    return "\n".join(lines)


def write(results: list[dict], command: str, before: list[dict], output: Path) -> None:
    """A report of the coverage, and figures.json, from which it can be written again."""
    given = [row for row in results if (1 - row["not_given"]) * row["repetitions"] >= ENOUGH_GIVEN]
    earlier = {(row["design"], row["figure"]): row for row in before if "coverage" in row}
    enough = sum(row["coverage"] >= ENOUGH for row in given) / len(given)
    wide = sum(row["coverage"] > TOO_MUCH for row in given) / len(given)
    sections = []
    for design in dict.fromkeys(row["design"] for row in results):
        columns = [Column("figure"), *(Column(name, kind) for name, kind in COLUMNS.items())]
        if earlier:
            columns += [Column("coverage before", "percent"), Column("median width before", "score")]
        rows = []
        for row in results:
            if row["design"] == design:
                old = earlier.get((design, row["figure"]))
                beside = [counted(old), old["width"]] if old else [None, None]
                rows.append((row["figure"], *cells(row), *(beside if earlier else [])))
        name = "".join(c if c.isalnum() else " " for c in design.lower()).split()
        sections.append(Section(design, tables=[Table("-".join(name), design, columns, rows)]))
    few = min(row["repetitions"] for row in results)
    report = Report(
        kind="benchmarks/bootstrap_coverage.py",
        title="How often 95 % intervals hold the truth",
        protocol=[
            f"{few:,} samples or more of each design; see the scripts for the populations and their truth. The "
            "interval of a coverage is the Monte-Carlo one (twice its standard error). Where no interval is given, too "
            "few people stand behind the figure; the coverage is that of the others, and tells nothing of a few."
        ],
        headlines=[
            Headline("Lowest coverage", counted(min(given, key=lambda row: row["coverage"]))),
            Headline("Figures covered in 93 % or more", Estimate(enough, None, None, len(given))),
            Headline("Figures covered in more than 97 %", Estimate(wide, None, None, len(given))),
        ],
        sections=sections,
        metrics={},
        provenance={"command": command, "environment": environment()},
    )
    write_report(report, output, overwrite=True)
    write_json(output / "figures.json", {"command": command, "figures": results})


if __name__ == "__main__":
    main()
