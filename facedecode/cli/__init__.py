"""The command line: each command parses, validates, makes one library call, and writes."""

from __future__ import annotations

from typing import Annotated

import typer

from facedecode import __version__
from facedecode.cli.app import LazyGroup, choose_cache, group_of
from facedecode.cli.commands import PACKAGE, SECTIONS


class MainGroup(LazyGroup):
    """All commands."""

    package = PACKAGE
    sections = SECTIONS


app = group_of(MainGroup, "Turn face-recognition templates back into faces, and measure the space they live in.")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    choose_cache(context)


__all__ = ["app"]
