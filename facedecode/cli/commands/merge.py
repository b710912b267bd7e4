"""`facedecode merge`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.templates.jobs import MergeJob


def merge(console: Console, job: MergeJob) -> tuple[dict, dict]:
    """Rows are sorted by the paths of their images. Stores of another recognizer, or made with other settings, are
    refused, and so are images that two stores share. An interrupted run is resumed by the same command.
    """
    from facedecode.store import Store
    from facedecode.store.merging import merge_stores

    stores = [Store.open(store) for store in job.stores]
    with console.progress() as stage:
        result = merge_stores(stores, job.output, job.images, job.overwrite, stage("merge"))
    before = f", {result.resumed} inputs were done before" if result.resumed else ""
    console.say(f"{job.output}: {result.count} templates of {len(stores)} stores, {result.failures} failed{before}")
    return {"count": result.count, "failed": result.failures}, {"store": str(job.output)}


app = command("merge", merge)
