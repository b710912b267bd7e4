"""`facedecode merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Overwrite, command
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console


def merge(
    console: Console,
    stores: Annotated[
        list[Path], typer.Argument(help="Stores of different images, by one recognizer and settings."), Input("store")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store to make.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The folder that holds all images now, at the paths that the stores have."),
        Input("folder"),
    ] = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Rows are in the order of their paths. Stores of another recognizer or of other settings are refused, and so are
    images that two of them have. Resumes as 'extract' does.
    """
    from facedecode.store import Store
    from facedecode.store.merging import merge_stores

    opened = [Store.open(store) for store in stores]
    with console.progress() as stage:
        result = merge_stores(opened, output, images, overwrite, stage("merge"))
    before = f", {result.resumed} inputs were done before" if result.resumed else ""
    console.say(f"{output}: {result.count} templates of {len(opened)} stores, {result.failures} failed{before}")
    return {"count": result.count, "failed": result.failures}, {"store": str(output)}


app = command("merge", merge, summary("merge"))
