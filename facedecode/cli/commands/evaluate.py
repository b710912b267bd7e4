"""`facedecode evaluate …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Seed, command
from facedecode.cli.console import Console

group = typer.Typer(help="Figures with intervals, from stores.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="evaluate")
    command("verification", group, title="evaluate verification")(verification)


def verification(
    console: Console,
    store: Annotated[Path, typer.Argument(help="A store made by 'extract' from the images that the pairs name.")],
    pairs: Annotated[Path, typer.Option("--pairs", help="LFW's pairs format, View 1 or 2.")],
    far: Annotated[
        list[float] | None, typer.Option("--far", help="False accept rates for TAR@FAR (repeatable).")
    ] = None,
    ignore_failures: Annotated[
        bool, typer.Option("--ignore-failures", help="Leave out pairs with an image that gave no template.")
    ] = False,
    repetitions: Annotated[int, typer.Option("--repetitions", min=100, help="Of the person bootstrap.")] = 1000,
    seed: Seed = 0,
) -> tuple[dict, dict]:
    """Verification of image pairs: accuracy, EER, TAR@FAR, each with a 95 % interval by person bootstrap.

    Pairs with an image that gave no template count as non-matches unless --ignore-failures is given.
    """
    from facedecode.pair_evaluation import evaluate_pairs
    from facedecode.protocols import read_pairs
    from facedecode.store import Store

    result = evaluate_pairs(
        Store.open(store), read_pairs(pairs), tuple(far or (0.01, 0.001)), ignore_failures, repetitions, seed
    )
    for line in result.lines():
        console.data(line)
    return result.metrics(), {}
