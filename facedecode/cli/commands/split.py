"""`facedecode split`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.templates.jobs import SplitJob


def split(console: Console, job: SplitJob) -> tuple[dict, dict]:
    """A decoder has to be judged on people that it was not trained on. The output folder gets train.csv and test.csv,
    for --people. Who goes where follows from the names alone, and stays when more people come.
    """
    from facedecode.templates.splitting import FILES, split_people

    found = split_people(job)
    for what, side in (("train", found.train), ("test", found.test)):
        console.say(f"{job.output / f'{what}.csv'}: {len(side)} people to {what} on, {sum(side.values())} images")
    if found.unnamed:
        console.note(f"{found.unnamed} images are of nobody named, and on neither side")
    if not found.mated:
        console.note("nobody to test on has two images: success against another image of a person cannot be measured")
    metrics = {"train": len(found.train), "test": len(found.test), "mated": found.mated, "unnamed": found.unnamed}
    return metrics, {name.removesuffix(".csv"): str(job.output / name) for name in FILES}


app = command("split", split)
