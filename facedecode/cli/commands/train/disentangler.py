"""What `facedecode train --kind disentangler` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Overwrite
from facedecode.cli.commands.train.options import Exclude, People, TrainingSource
from facedecode.cli.console import Console
from facedecode.errors import UsageError


def train_disentangler(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV file with a column 'path', and the one of --label.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of --labels, of two classes: gender.")] = None,
    people: People = None,
    exclude: Exclude = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Fit a disentangler to a store and labels; metrics and outputs as a command returns them."""
    from facedecode.annotations.labels import read_image_labels
    from facedecode.attributes.disentangler_fit import fit_store_disentangler
    from facedecode.store import Store

    if labels is None or label is None:
        raise UsageError("--kind disentangler needs --labels and --label: a CSV file, and the column of it")
    opened = Store.open(source.store())
    said = read_image_labels(labels, label, opened)
    if line := said.said():
        console.say(line)
    with console.progress() as stage:
        made = fit_store_disentangler(
            opened,
            output,
            said,
            people=people,
            exclude=tuple(exclude or ()),
            overwrite=overwrite,
            progress=stage("judge"),
        )
    report = made.report
    people_of = " and ".join(f"{count} of {name}" for name, count in report["training_people"].items())
    told = "nobody held out to judge it"
    if report["told"]:
        told = f"tells the class of people held out by {_percent(report['told'])}"
    console.say(f"{output}: disentangler of {label}, fitted to people ({people_of}); {told}")
    for probe, read in (report["probes"] or {}).items():
        console.say(
            f"{probe} probe, people held out: {_percent(read['template'])} of templates, "
            f"{_percent(read['identity'])} of identity parts (chance 50.0%)"
        )
    # The list of people is in the file.
    return report | {"provenance": {k: v for k, v in report["provenance"].items() if k != "people"}}, {
        "disentangler": str(output)
    }


def _percent(estimate: dict) -> str:
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"
