"""`facedecode walk`."""

from __future__ import annotations

from facedecode.cli.app import command
from facedecode.cli.commands.invert import load_drawing
from facedecode.cli.console import Console
from facedecode.inversion.jobs import WalkJob


def walk(console: Console, job: WalkJob) -> tuple[dict, dict]:
    """Below each picture stand how far along it is, and the recognizer's scores of the picture with the first template
    and, with --to, with the last.
    """
    job.require_output()
    from facedecode.attributes.direction import load_direction
    from facedecode.inversion.walk import draw_walks, find_rows, plan_walks, write_strips
    from facedecode.store.npy import refuse_other_templates, write_templates
    from facedecode.store.processing import refuse_done

    inputs, networks = load_drawing(console, job.templates, job.drawing)
    made_by = networks.decoder.recognizer
    directions = [load_direction(path) for path in (*job.without, *([job.along] if job.along else ()))]
    for direction in directions:
        direction.require_recognizer(inputs.recognizer if inputs.recognizer.weights_sha256 else made_by)
    if directions and inputs.manifest:
        refuse_done(inputs.manifest, job.templates, ("cluster", "aggregate"), "directions are of plain ones")
    starts, ends = find_rows(inputs, job.start, "--from"), find_rows(inputs, job.end, "--to")
    made_from = inputs.templates[sorted({*starts, *ends})]
    networks.decoder.check(made_from, job.templates, inputs.manifest)
    walks = plan_walks(
        inputs.templates[starts],
        inputs.templates[ends] if ends else directions.pop(),
        without=directions,
        steps=job.steps,
        reach=job.reach,
        score=made_by.score,
    )
    flat = walks.templates.reshape(-1, walks.templates.shape[-1])
    if job.save_templates and not job.overwrite:
        refuse_other_templates(job.save_templates, flat)
    with console.progress() as stage:
        strips = draw_walks(walks, networks.decoder, networks.recognizer, stage("draw"))
    outputs = {"output": str(job.output)}
    if job.save_templates:
        write_templates(job.save_templates, flat)
        outputs["templates"] = str(job.save_templates)
    write_strips(job.output, inputs, walks, strips, (starts, ends) if job.drawing.originals else None)
    metrics: dict = {"amounts": walks.amounts}
    if strips.to_start is not None:
        metrics["scores_with_start"] = strips.to_start.tolist()
    if strips.to_end is not None:
        metrics["scores_with_end"] = strips.to_end.tolist()
    console.say(f"{job.output}: {len(starts)} strip{'s' if len(starts) > 1 else ''} of {job.steps} pictures")
    return metrics, outputs


app = command("walk", walk)
