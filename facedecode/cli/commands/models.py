"""`facedecode models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.options import option


@dataclass(frozen=True)
class ModelsJob:
    """List models, or fetch weights."""

    download: Sequence[str] = option(
        (), "Download the weights of this recognizer, resuming an interrupted download (repeatable)."
    )
    cache: Path | None = option(
        None, "Folder for downloads. If absent, $FACEDECODE_CACHE, or the system's folder for caches."
    )
    offline: bool = option(False, "Only check the weights that are there; download nothing.")


def models(console: Console, context: typer.Context, job: ModelsJob) -> tuple[dict, dict]:
    """Nothing is downloaded unless --download names it."""
    from facedecode.models import download_weights, list_decoders, list_recognizers
    from facedecode.recognizers import DEFAULT_RECOGNIZER
    from facedecode.recognizers.cache import cache_folder, use_cache

    if job.cache:
        context.with_resource(use_cache(job.cache))
    fetched = {}
    with console.progress() as stage:
        for name in job.download:
            path = download_weights(name, job.offline, _in_megabytes(stage(name)))
            fetched[name] = str(path)
            console.say(f"{name}: {path}")
    recognizers, decoders, folder = list_recognizers(), list_decoders(), cache_folder()
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
        console.data(f"downloads go to {folder}" if folder else "downloads need --cache: this user has no home")
    outputs = {"cache": None if folder is None else str(folder), "downloaded": fetched}
    return {"recognizers": recognizers, "decoders": decoders}, outputs


def _in_megabytes(update):
    """Progress in MB, begun ones counted: bytes are too many digits to look at."""
    return lambda done, total: update(-(-done // 1_000_000), -(-total // 1_000_000), "MB")


def _table(console: Console, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be, and an empty line."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        console.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.data("")


app = command("models", models)
