"""`facedecode transform`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.templates.jobs import TransformJob


def transform(console: Console, job: TransformJob) -> tuple[dict, dict]:
    """The two ways to protect templates are examples to be measured, not products. The new store records the way and
    an id of the key, which does not reveal the key. Decoders and maps that were made for other templates or another key
    are refused. An interrupted run is resumed by the same command.
    """
    from facedecode.templates.transformation import transform as run

    with console.progress() as stage:
        result = run(job, stage("transform"))
    outputs = {"store": str(job.output)}
    if job.new_key:
        console.say(f"{job.new_key}: a new key, which only you can read; keep it apart from the templates")
        outputs["key"] = str(job.new_key)
    before = f", {result.resumed} were done before" if result.resumed else ""
    console.say(f"{job.output}: {result.count} templates of {result.recognizer}{before}")
    return {"count": result.count}, outputs


app = command("transform", transform)
