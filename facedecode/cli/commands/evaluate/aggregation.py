"""`facedecode evaluate aggregation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Overwrite, Seed, command
from facedecode.cli.commands.evaluate.common import FailIf, Output, Repetitions, finish, parse_gates, refuse_output
from facedecode.cli.console import Console


def register(group: typer.Typer) -> None:
    command("aggregation", group, title="evaluate aggregation")(aggregation)


def aggregation(
    console: Console,
    stores: Annotated[list[Path], typer.Argument(help="Stores of the same images, one a recognizer.")],
    persons: Annotated[int, typer.Option("--persons", min=2, help="Those with most images.")] = 50,
    largest: Annotated[
        int | None,
        typer.Option("--largest", min=2, help="Images in a gallery template at most; half of what all have if absent."),
    ] = None,
    fmr: Annotated[
        list[float] | None, typer.Option("--far", help="False match rate (repeatable); 0.01, 0.001.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random choices of gallery and probes.")] = 20,
    people: Annotated[
        Path | None, typer.Option("--people", help="Take from these: a name a line, or LFW's format.")
    ] = None,
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """What a template gains from more images: TAR against the number of images in a gallery template.

    Gates: tar[n] and gain[n] (over one image), with @far=; tar[recognizer,n] where there are several stores.
    """
    from facedecode.evaluation.aggregation.measure import FMRS, AggregationJob, evaluate_aggregation
    from facedecode.evaluation.aggregation.report import GATE_WORDS, aggregation_report

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    job = AggregationJob(
        stores=stores,
        people=people,
        persons=persons,
        largest=largest,
        fmrs=fmr or FMRS,
        draws=draws,
        repetitions=repetitions,
        seed=seed,
    )
    with console.progress() as stage:
        figures = evaluate_aggregation(job, stage("curve"))
    return finish(console, aggregation_report(figures, job), output, overwrite, gates)
