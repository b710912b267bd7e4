"""`facedecode extract`."""

from __future__ import annotations

from facedecode.cli.app import command, refuse_failures, start_torch
from facedecode.cli.console import Console
from facedecode.extraction.jobs import ExtractJob, FaceOptions


def extract(console: Console, job: ExtractJob) -> tuple[dict, dict]:
    """Finds the face in each image, aligns it, and computes its template. Images without a usable face are listed in
    failures.jsonl in the store. An interrupted run is resumed by the same command. Under torchrun, several processes
    share the images and make the same store.
    """
    from facedecode.annotations.labels import DataSet
    from facedecode.extraction.finders import FaceSource
    from facedecode.extraction.preview import write_preview
    from facedecode.extraction.run import crops_note, find_inputs
    from facedecode.extraction.run import extract as run
    from facedecode.pictures.perturb import parse_transform
    from facedecode.recognizers import load_chosen_recognizer
    from facedecode.store.layout import LABELS

    inputs = find_inputs(job.images, DataSet(job.identities, job.labels, job.renamed, job.identity_level))
    for note in inputs.notes:
        console.say(note)
    faces = FaceSource.of(job.faces, inputs.refs)
    for note in faces.notes:
        console.note(note)
    metrics: dict = {}
    if job.dry_run:
        console.say(f"{len(inputs.refs)} images below {inputs.root} would go to {job.output}")
        metrics["count"] = len(inputs.refs)
        if not job.preview:
            return metrics, {}
    transform = None if job.transform is None else parse_transform(job.transform)
    device = start_torch(job.device, console.ranks)
    recognizer = load_chosen_recognizer(job.recognizer, device, job.precision)
    if job.faces == FaceOptions() and (note := crops_note(inputs.refs, recognizer)):
        console.say(note)
    finder = faces.finder(recognizer, device)
    outputs = {"preview": str(job.preview)} if job.preview else {}
    if job.preview and console.ranks.first:
        shown = write_preview(job.preview, job.images, recognizer, finder, transform, overwrite=job.settings.overwrite)
        console.say(f"{job.preview}: {shown} of the faces")
    if job.dry_run:
        return metrics, outputs
    with console.progress() as stage:
        result = run(
            inputs,
            job.output,
            recognizer,
            finder,
            transform=transform,
            options=job.settings,
            progress=stage("extract"),
            ranks=console.ranks,
        )
    if result is None:
        return {}, {}
    if job.labels:
        outputs["labels"] = str(job.output / LABELS)
    failed = len(result.failures)
    before = f", {result.resumed} inputs were done before" if result.resumed else ""
    console.say(f"{job.output}: {result.count} templates of {recognizer.name}, {failed} failed{before}")
    for note in result.notes:
        console.note(note)
    if job.strict:
        refuse_failures(result.failures, "gave no template", job.output)
    return {"count": result.count, "failed": failed}, {"store": str(job.output), **outputs}


app = command("extract", extract, several=True)
