"""`facedecode extract`."""

from __future__ import annotations

from facedecode.cli.app import command, refuse_failures, start_torch
from facedecode.cli.console import Console
from facedecode.extraction.jobs import ExtractJob


def extract(console: Console, job: ExtractJob) -> tuple[dict, dict]:
    """Finds the face in each image, aligns it, and computes its template. Images without a usable face are listed in
    failures.jsonl in the store. An interrupted run is resumed by the same command. Under torchrun, several processes
    share the images and make the same store.
    """
    from facedecode.annotations.labels import DataSet
    from facedecode.extraction.preview import write_preview
    from facedecode.extraction.run import extract as run
    from facedecode.pictures.faces import FaceDetector
    from facedecode.pictures.images import find_images
    from facedecode.pictures.perturb import parse_transform
    from facedecode.recognizers import load_chosen_recognizer
    from facedecode.store.layout import LABELS

    data_set = DataSet(job.identities, job.labels, job.renamed)
    metrics: dict = {}
    if job.dry_run:
        root, images = find_images(job.images)
        for note in data_set.with_identities(images)[1] + data_set.label_table(images)[1]:
            console.say(note)
        console.say(f"{len(images)} images below {root} would go to {job.output}")
        metrics["count"] = len(images)
        if not job.preview:
            return metrics, {}
    transform = parse_transform(job.transform) if job.transform else None
    device = start_torch(job.device, console.ranks)
    recognizer, detector = load_chosen_recognizer(job.recognizer, device, job.precision), FaceDetector(device)
    outputs = {"preview": str(job.preview)} if job.preview else {}
    if job.preview and console.ranks.first:
        faces = write_preview(
            job.preview, job.images, recognizer, detector, transform, overwrite=job.settings.overwrite
        )
        console.say(f"{job.preview}: {faces} of the faces")
    if job.dry_run:
        return metrics, outputs
    with console.progress() as stage:
        result = run(
            job.images,
            job.output,
            recognizer,
            detector,
            transform=transform,
            data_set=data_set,
            options=job.settings,
            progress=stage("extract"),
            ranks=console.ranks,
        )
    if result is None:
        return {}, {}
    for note in result.notes:
        console.say(note)
    if job.labels:
        outputs["labels"] = str(job.output / LABELS)
    failed = len(result.failures)
    before = f", {result.resumed} inputs were done before" if result.resumed else ""
    console.say(f"{job.output}: {result.count} templates of {recognizer.name}, {failed} failed{before}")
    if job.strict:
        refuse_failures(result.failures, "gave no template", job.output)
    return {"count": result.count, "failed": failed}, {"store": str(job.output), **outputs}


app = command("extract", extract, several=True)
