"""What changed between two versions of the results: values, which should not, and intervals, old beside new.

    python examples/results_changes.py OLD NEW [-o CHANGES.csv]

OLD and NEW: folders like docs/results. Prints a Markdown table of the headlines whose intervals changed, and on stderr
how many figures of each report changed, and which value did most, in widths of its interval. CHANGES.csv has every
figure that changed by more than rounding.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from facedecode.files import write_text
from facedecode.report.text import show_estimate
from facedecode.statistics.bootstrap import Estimate

ENDS = ("value", "low", "high")
ROUNDING = 0.01  # of an interval's width: what another processor's rounding moves is no change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["report", "figure", *(f"{when} {end}" for when in ("old", "new") for end in ENDS)])
    print("| Report | Figure | Before | Now |\n| --- | --- | --- | --- |")
    for path in sorted(options.new.glob("*/report.json")):
        name = path.parent.name
        if not (options.old / name / path.name).is_file():
            print(f"{name}: new", file=sys.stderr)
            continue
        old, new = (json.loads((folder / name / path.name).read_text("utf-8")) for folder in (options.old, options.new))
        before, now = dict(figures(old["metrics"])), dict(figures(new["metrics"]))
        moves = {key: move(before[key], now[key]) for key in now if key in before}
        for key, moved in moves.items():
            if max(moved) > ROUNDING:
                rows.writerow([name, key, *("" if x is None else f"{x:.6g}" for x in (*before[key], *now[key]))])
        most = max(moves, key=lambda key: moves[key][0], default="")
        ends = sum(max(low, high) > ROUNDING for _, low, high in moves.values())
        said = f"{name}: {len(now)} figures, {len(now) - len(moves)} new, {len(before) - len(moves)} gone"
        said += f"; {ends} intervals changed"
        if most and moves[most][0]:
            said += f"; the value of {most} by most, from {before[most][0]} to {now[most][0]}"
        print(said, file=sys.stderr)
        for line in headlines(old, new):
            print(f"| {name} | {line} |")
    if options.output:
        write_text(options.output, text.getvalue())


def move(before: tuple, now: tuple) -> tuple[float, ...]:
    """How far value and ends moved, in widths of the interval before; infinite where one is new or gone."""
    width = before[2] - before[1] if None not in before else 0.0
    ends = zip(before, now, strict=True)
    apart = [0.0 if x == y else float("inf") if None in (x, y) else abs(x - y) for x, y in ends]
    return tuple(x and (x / width if width else float("inf")) for x in apart)


def figures(node: object, place: str = "") -> Iterator[tuple[str, tuple]]:
    """Each figure with an interval: its place in the JSON, and its value and ends."""
    if isinstance(node, dict) and all(name in node for name in ENDS):
        yield place, tuple(node[name] for name in ENDS)
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in below:
        yield from figures(value, f"{place}/{name}")


def headlines(old: dict, new: dict) -> Iterator[str]:
    """Headlines of both reports that are shown otherwise: title, before and now, as cells."""
    before = {headline["title"]: shown(headline) for headline in old["headlines"]}
    for headline in new["headlines"]:
        title, now = headline["title"], shown(headline)
        if before.get(title, now) != now:
            yield f"{title} | {before[title]} | {now}"


def shown(headline: dict) -> str:
    figure = headline["figure"]
    return show_estimate(Estimate(figure["value"], figure["low"], figure["high"], figure["n"]), headline["unit"])


if __name__ == "__main__":
    main()
