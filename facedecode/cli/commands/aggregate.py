"""`facedecode aggregate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import Overwrite, Seed, command
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console

_LISTED = 3


def aggregate(
    console: Console,
    store: Annotated[Path, typer.Argument(help="The store to read."), Input("store")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store to make.")],
    method: Annotated[
        Literal["mean", "normalized-mean", "median"],
        typer.Option("--method", help="mean, normalized-mean (of directions) or median."),
    ] = "mean",
    weight: Annotated[
        Literal["none", "probability", "norm"],
        typer.Option("--weight", help="Of a mean: none, the detector's probability, or norm (a template's length)."),
    ] = "none",
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="So many of each person's, drawn at random; else all.")
    ] = None,
    fewer: Annotated[
        Literal["leave-out", "use"],
        typer.Option("--fewer", help="Who has fewer than --count: leave-out, or use what there is."),
    ] = "leave-out",
    people: Annotated[
        Path | None, typer.Option("--people", help="Only these: a name a line, or LFW's format."), Input("file")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """groups.csv says how many templates each is made of, and how far they are from it; members.csv lists them.
    `invert` draws the result; `evaluate verification --probes` compares it with other images.
    """
    from facedecode.store import Store
    from facedecode.templates.aggregation import Aggregation, aggregate_store

    wanted = Aggregation(method, weight, count, fewer, seed)
    with console.progress() as stage:
        made = aggregate_store(
            Store.open(store),
            output,
            wanted,
            people=people,
            exclude=tuple(exclude or ()),
            overwrite=overwrite,
            progress=stage("aggregate, people"),
        )
    if made.unnamed:
        console.say(f"{made.unnamed} templates have no person and are left out")
    if made.fewer:
        some = ", ".join(made.fewer[:_LISTED]) + (", …" if len(made.fewer) > _LISTED else "")
        done = "left out" if fewer == "leave-out" else "made of what they have"
        console.say(f"{len(made.fewer)} people have fewer than {count} templates and are {done} ({some})")
    console.say(f"{output}: templates of {made.people} people, made of {made.used}")
    metrics = {"count": made.people, "used": made.used, "fewer": len(made.fewer), "unnamed": made.unnamed}
    return metrics, {"store": str(output)}


app = command("aggregate", aggregate, summary("aggregate"))
