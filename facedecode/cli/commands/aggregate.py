"""`facedecode aggregate`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.errors import some_of
from facedecode.templates.jobs import AggregateJob


def aggregate(console: Console, job: AggregateJob) -> tuple[dict, dict]:
    """groups.csv says how many templates each new template is made of, and how far they are from it. members.csv lists
    them. Draw the result with 'invert', or compare it with other images by 'evaluate verification --probes'.
    """
    from facedecode.templates.aggregation import aggregate_store

    with console.progress() as stage:
        made = aggregate_store(job, stage("aggregate, people"))
    if made.unnamed:
        console.say(f"{made.unnamed} templates have no person and are left out")
    if made.fewer:
        done = "left out" if job.aggregation.fewer == "leave-out" else "made of what they have"
        people = f"{len(made.fewer)} people have fewer than {job.aggregation.count} templates"
        console.say(f"{people} and are {done} ({some_of(made.fewer)})")
    console.say(f"{job.output}: templates of {made.people} people, made of {made.used}")
    metrics = {"count": made.people, "used": made.used, "fewer": len(made.fewer), "unnamed": made.unnamed}
    return metrics, {"store": str(job.output)}


app = command("aggregate", aggregate)
