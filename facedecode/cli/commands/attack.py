"""`facedecode attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.attacks.jobs import AttackJob
from facedecode.cli.app import command, refuse_failures, start_torch
from facedecode.cli.console import Console

if TYPE_CHECKING:  # these need torch
    from facedecode.attacks.run import Attacked
    from facedecode.attacks.target import AttackTarget


def attack(console: Console, job: AttackJob) -> tuple[dict, dict]:
    """The attack changes the aligned crop that the recognizer sees. The output folder gets the attacked crops, the
    store of their templates, a table (attacks.csv) and a figure (attacks.png). Success is judged on the saved pictures.
    An interrupted run is resumed by the same command.
    """
    from facedecode.attacks.base import victim_of
    from facedecode.attacks.run import attack_images, find_inputs
    from facedecode.attacks.target import find_target
    from facedecode.decoders import optional_decoder
    from facedecode.extraction.cropping import FaceCropper
    from facedecode.extraction.finders import FaceSource, finder_notes
    from facedecode.pictures.finding import ImageRef
    from facedecode.recognizers import load_chosen_recognizer

    _, images = find_inputs(job)
    target_image = None if job.target.target is None else Path(job.target.target)
    named = target_image is not None and target_image.is_file()
    faces = FaceSource.of(job.faces, images, ImageRef(target_image, str(target_image), None) if named else None)
    for note in faces.notes:
        console.note(note)
    device = start_torch(job.device)
    recognizer = load_chosen_recognizer(job.recognizer, device)
    victim_of(recognizer)
    cropper = FaceCropper(recognizer, faces.finder(recognizer, device))
    target = find_target(job.target, cropper)
    if target.threshold and job.target.threshold is None:
        console.say(f"success is judged at the score {target.threshold.label}")
    without = "the figure is without reconstructions"
    decoder = optional_decoder(recognizer.describe(), job.decoder, device, without, console.say)
    if job.dry_run:
        console.say(f"{len(images)} images would be attacked by {job.method}, {target.label}, and go to {job.output}")
        return {"images": len(images)}, {}
    with console.progress() as stage:
        result = attack_images(job, cropper, target, decoder, stage("attack"))
    metrics = _report(console, job, target, result)
    for note in finder_notes(cropper.finder, result.failures, len(images), None):
        console.note(note)
    if job.strict:
        refuse_failures(result.failures, "gave no face", job.output / "emb")
    places = {"pictures": "pictures", "store": "emb", "table": "attacks.csv", "figure": "attacks.png"}
    return metrics, {name: str(job.output / place) for name, place in places.items()}


def _report(console: Console, job: AttackJob, target: AttackTarget, result: Attacked) -> dict:
    from facedecode.attacks.table import summarize

    metrics = {"failed": len(result.failures), **summarize(result.rows)}
    attempted, rate = metrics["attempted"], metrics["success_saved"]
    others = [f"{metrics['already']} were there already"] if metrics["already"] else []
    others += [f"{metrics['failed']} without a face"] if metrics["failed"] else []
    others += [f"{result.resumed} inputs were done before"] if result.resumed else []
    line = f"{job.output}: {job.method}, {target.label}: {attempted} faces attacked"
    if attempted:
        span = "" if rate["low"] is None else f" ({rate['low']:.0%} to {rate['high']:.0%})"
        memory = metrics["success"]["value"]
        unsaved = "" if memory <= rate["value"] else f" (before rounding to 8 bits {memory:.1%}; --kappa sets a margin)"
        line += f", success {rate['value']:.1%}{span}{unsaved}, {metrics['gradients']['value']:.1f} gradients each"
    if metrics["l2"]["n"]:
        line += f", mean L2 {metrics['l2']['value']:.3g}, L∞ {metrics['linf']['value'] * 255:.1f}/255"
    console.say("; ".join([line, *others]))
    console.say(f"look at {job.output / 'attacks.png'}")
    return metrics


app = command("attack", attack)
