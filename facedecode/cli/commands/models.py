"""`facedecode models`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import command
from facedecode.cli.commands import summary
from facedecode.cli.console import Console


def models(
    console: Console,
    context: typer.Context,
    download: Annotated[
        list[str] | None,
        typer.Option("--download", help="Fetch a recognizer's weights (repeatable), resuming what was interrupted."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder of downloads, else $FACEDECODE_CACHE, else the system's for caches."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only check what is there; download nothing.")] = False,
) -> tuple[dict, dict]:
    """Nothing is downloaded that --download does not name."""
    from facedecode.models import download_weights, list_decoders, list_recognizers
    from facedecode.recognizers import DEFAULT_RECOGNIZER
    from facedecode.recognizers.cache import cache_folder, use_cache

    if cache:
        context.with_resource(use_cache(cache))
    fetched = {}
    with console.progress() as stage:
        for name in download or ():
            path = download_weights(name, offline, _in_megabytes(stage(name)))
            fetched[name] = str(path)
            console.say(f"{name}: {path}")
    recognizers, decoders = list_recognizers(), list_decoders()
    if not fetched:
        rows = [
            (
                r["name"] + (" (default)" if r["name"] == DEFAULT_RECOGNIZER else ""),
                str(r["dim"]),
                "missing" if r["missing"] else "here",
                r["license"],
            )
            for r in recognizers
        ]
        _table(console, ("recognizer", "template", "weights", "license"), rows)
        rows = [(d["name"], str(d["dim"]), f"{d['image_size']} px", d["license"] or "") for d in decoders]
        _table(console, ("decoder of", "template", "pictures", "license"), rows)
        for r in recognizers:
            if r["missing"]:
                console.data(f"{r['name']}: {r['missing']}")
            else:
                console.data(f"{r['name']}: {r['weights']}")
        console.data(f"downloads go to {cache_folder()}")
    return {"recognizers": recognizers, "decoders": decoders}, {"cache": str(cache_folder()), "downloaded": fetched}


def _in_megabytes(update):
    """Progress in MB, begun ones counted: bytes are too many digits to look at."""
    return lambda done, total: update(-(-done // 1_000_000), -(-total // 1_000_000), "MB")


def _table(console: Console, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be, and an empty line."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        console.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.data("")


app = command("models", models, summary("models"))
