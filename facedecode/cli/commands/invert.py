"""`facedecode invert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.app import command, start_torch
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.inversion.jobs import MOST_PICTURES, DrawingOptions, InvertJob

if TYPE_CHECKING:  # these need torch
    from facedecode.inversion.inputs import Networks, TemplateInput
    from facedecode.inversion.invert import Inverted


def invert(console: Console, job: InvertJob) -> tuple[dict, dict]:
    """Each picture gets a score: the recognizer compares its template with the one it was drawn from. A score as high
    as that of two images of one person says that the picture carries the identity, not that every part of it is true.
    Templates that the recognizer cannot have made (normalized, scaled, shuffled, random) are told before.
    """
    job.require_output()
    from facedecode.inversion.confidence import load_confidence
    from facedecode.inversion.invert import invert as run
    from facedecode.inversion.invert import write_folder, write_grid
    from facedecode.inversion.refinement import require_refinable
    from facedecode.mapping.maps import load_mapping
    from facedecode.provenance import describe_decoder
    from facedecode.store import Processing

    inputs, networks = load_drawing(console, job.templates, job.drawing, need_recognizer=bool(job.refine))
    decoder, recognizer = networks.decoder, networks.recognizer
    if not job.to_folder and len(inputs.templates) > MOST_PICTURES:
        raise UsageError(f"{len(inputs.templates)} templates are too many for one grid; give a folder: -o out/")
    if job.refine:
        require_refinable(decoder, recognizer)
    mapping = load_mapping(job.mapping) if job.mapping else None
    if mapping:
        made_by = inputs.manifest.recognizer if inputs.manifest else decoder.recognizer
        mapping.require_templates(made_by, inputs.manifest or Processing(), job.templates)
        if inputs.manifest:
            mapping.warn_of_other_faces(inputs.manifest, job.templates)
    confidence = load_confidence(job.confidence) if job.confidence else None
    if confidence:
        confidence.require_decoder(describe_decoder(decoder), decoder.recognizer)
    judged = decoder.check(inputs.templates, job.templates, inputs.manifest)
    with console.progress() as stage:
        result = run(
            inputs.templates,
            decoder,
            recognizer,
            mapping,
            progress=stage("refine, steps" if job.refine else "invert"),
            refine=job.refine or 0,
            seed=job.seed,
            confidence=confidence,
            judged=judged,
        )
    if job.to_folder:
        write_folder(job.output, inputs, result, job.call)
    else:
        write_grid(job.output, inputs, result, job.drawing.originals)
    return _report(console, job, result), {"output": str(job.output)}


def load_drawing(
    console: Console, templates: Path, options: DrawingOptions, need_recognizer: bool = False
) -> tuple[TemplateInput, Networks]:
    """The templates to draw, their decoder and their recognizer; the console says what is assumed or missing."""
    from facedecode.inversion.inputs import load_networks, read_inputs

    device = start_torch(options.device)
    inputs = read_inputs(templates, options, device)
    if inputs.note:
        console.say(inputs.note)
    networks = load_networks(inputs, options.decoder, device, need_recognizer=need_recognizer)
    if networks.note:
        console.say(networks.note)
    return inputs, networks


def _report(console: Console, job: InvertJob, result: Inverted) -> dict:
    count = len(result.pictures)
    metrics: dict = {"count": count, "unusual": result.judged.unusual}
    line = f"{job.output}: {count} face{'s' if count != 1 else ''}"
    if result.scores is not None:
        metrics["score"] = float(result.scores.mean())
        metrics["scores"] = [float(s) for s in result.scores]
        low, high = float(result.scores.min()), float(result.scores.max())
        span = "" if count == 1 else f" (from {low:.3f} to {high:.3f})"
        reached = f"{metrics['score']:.3f}"
        if result.before is not None:
            metrics["score_before"] = float(result.before.mean())
            metrics["scores_before"] = [float(s) for s in result.before]
            reached = f"{metrics['score_before']:.3f} → {reached}"
        line += f", score against the template {reached}{span}"
    if result.explained is not None:
        from facedecode.inversion.invert import central_confidence

        metrics["confidences"] = [float(c) for c in central_confidence(result)]
        metrics["confidence"] = sum(metrics["confidences"]) / count
        line += f", {metrics['confidence']:.1%} of the central region's variance explained"
    console.say(line)
    return metrics


app = command("invert", invert)
