"""What `facedecode train` does for decoders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.app import (
    Device,
    DryRun,
    Images,
    Overwrite,
    Precision,
    Seed,
    Weights,
    choose_device,
    choose_precision,
)
from facedecode.cli.commands.train.options import (
    Architecture,
    BatchSize,
    Epochs,
    Exclude,
    Half,
    ImageSize,
    Jitter,
    LearningRate,
    Mirror,
    People,
    Start,
    TrainingSource,
    Validation,
)
from facedecode.cli.console import Console
from facedecode.cli.variants import only_given
from facedecode.errors import UsageError
from facedecode.recognizers.contract import named_networks

if TYPE_CHECKING:  # needs torch
    from facedecode.training.decoder_plan import DecoderJob, Plan


def train_network(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    architecture: Architecture = "dfd",
    people: People = None,
    exclude: Exclude = None,
    validation: Validation = 0.1,
    image_size: ImageSize = 128,
    width: Annotated[
        float | None,
        typer.Option("--width", help="Share of the network's channels (1); 0.5 is a quarter of the arithmetic."),
    ] = None,
    epochs: Epochs = 5.0,
    batch_size: BatchSize = 32,
    accumulate: Annotated[
        int,
        typer.Option(
            "--accumulate",
            min=1,
            help="Pieces of a batch that go through the loss in turn: less memory, same result.",
        ),
    ] = 1,
    learning_rate: LearningRate = 1.5e-3,
    pixel_weight: Annotated[
        float | None, typer.Option("--pixel-weight", help="Eq. 3, whole portrait (dfd 4, nbnet 0). 0: off.")
    ] = None,
    gradient_weight: Annotated[
        float | None, typer.Option("--gradient-weight", help="Eq. 4, whole portrait (dfd 300, nbnet 0).")
    ] = None,
    local_pixel_weight: Annotated[
        float | None, typer.Option("--local-pixel-weight", help="Eq. 3, central region (dfd 4, nbnet 0).")
    ] = None,
    local_gradient_weight: Annotated[
        float | None, typer.Option("--local-gradient-weight", help="Eq. 4, central region (dfd 300, nbnet 0).")
    ] = None,
    absolute_weight: Annotated[
        float | None,
        typer.Option("--absolute-weight", help="Mean absolute difference, whole portrait (dfd 0, nbnet 1)."),
    ] = None,
    identity_weight: Annotated[
        float | None,
        typer.Option(
            "--identity-weight", help="Template distance (not in the paper; white-box; dfd 0.5, nbnet 0). 0: off."
        ),
    ] = None,
    perceptual_weight: Annotated[
        float | None,
        typer.Option(
            "--perceptual-weight", help="Eq. 5, whole view of the perceptual network (dfd 0.6, nbnet 1). 0: off."
        ),
    ] = None,
    local_perceptual_weight: Annotated[
        float | None, typer.Option("--local-perceptual-weight", help="Eq. 5, central region (0).")
    ] = None,
    perceptual_after: Annotated[
        float | None,
        typer.Option(
            "--perceptual-after",
            help="Share of the steps for the terms on pixels alone; then those that look through networks count "
            "alone (dfd: all count in every step; nbnet 0.5).",
        ),
    ] = None,
    phi: Annotated[
        list[str] | None,
        typer.Option(
            "--phi",
            help="Perceptual network, NAME, NAME=FILE or NAME:LAYER+LAYER=FILE: squeezenet, a recognizer; or "
            "torch:FILE (repeatable).",
        ),
    ] = None,
    identity_target: Annotated[
        str | None,
        typer.Option(
            "--identity-target", help="Aim at the 'template', or at what is expected of its 'person' (if absent)."
        ),
    ] = None,
    gain: Annotated[
        float, typer.Option("--gain", help="Scale of templates about their mean before the finished decoder draws.")
    ] = 1.0,
    mirror: Mirror = True,
    jitter: Jitter = None,
    start: Start = None,
    weights: Weights = None,
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    seed: Seed = 0,
    half: Half = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> tuple[dict, dict]:
    """Train a network on a store's templates and portraits; metrics and outputs as a command returns them."""
    from facedecode.decoders.kinds import KINDS
    from facedecode.decoders.sizes import usual_widths
    from facedecode.training.decoder_plan import DecoderJob, networks_of_loss
    from facedecode.training.decoder_settings import DEFAULTS

    if start and width:
        raise UsageError("--width does not go with --start, whose network has its channels; leave it out")
    networks = named_networks(phi or [], "--phi")
    default = DEFAULTS[architecture]
    settings = dataclasses.replace(
        default,
        image_size=image_size,
        widths=None if width in (None, 1) else usual_widths(KINDS[architecture].network, image_size, width),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        gain=gain,
        phi=tuple(networks),
        mirror=mirror,
        seed=seed,
        precision=choose_precision(precision),
        **only_given(jitter=jitter, perceptual_after=perceptual_after, identity_target=identity_target),
        weights=dataclasses.replace(
            default.weights,
            **only_given(
                pixel=pixel_weight,
                gradient=gradient_weight,
                local_pixel=local_pixel_weight,
                local_gradient=local_gradient_weight,
                perceptual=perceptual_weight,
                local_perceptual=local_perceptual_weight,
                identity=identity_weight,
                absolute=absolute_weight,
            ),
        ),
    )
    of_networks = settings.weights.of_networks()
    unused = {
        "--identity-target": identity_target is not None and not of_networks.identity,
        "--phi": phi and not (of_networks.perceptual or of_networks.local_perceptual),
        "--jitter": jitter is not None and not any(dataclasses.asdict(of_networks).values()),
    }
    for option, given in unused.items():
        if given:
            raise UsageError(f"{option} does not go with a term whose weight is 0; leave it out")
    settings.check(architecture)
    device = choose_device(device, console.ranks)
    job = DecoderJob(
        store=source.path,
        output=output,
        architecture=architecture,
        people=people,
        exclude=tuple(exclude or ()),
        validation=validation,
        weights=weights,
        phi_weights={name: Path(file) for name, file in networks.items() if file != name},
        images=images,
        half=half,
        start=start,
        accumulate=accumulate,
        overwrite=overwrite,
        settings=settings,
    )
    if source.describe:  # a network that is missing, or gives no gradients, is told of before a store is made
        networks_of_loss(job, source.describe(), device)
    job = dataclasses.replace(job, store=source.store())
    return _train(console, job, device, dry_run)


def fit_closed_form(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    architecture: Architecture,
    people: People = None,
    exclude: Exclude = None,
    image_size: ImageSize = 128,
    images: Images = None,
    device: Device = "auto",
    half: Half = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> tuple[dict, dict]:
    """Fit a closed form to a store's templates and portraits; metrics and outputs as a command returns them."""
    from facedecode.training.decoder_plan import DecoderJob
    from facedecode.training.decoder_settings import TrainSettings

    device = choose_device(device)
    job = DecoderJob(
        store=source.store(),
        output=output,
        architecture=architecture,
        people=people,
        exclude=tuple(exclude or ()),
        images=images,
        half=half,
        overwrite=overwrite,
        settings=TrainSettings(image_size=image_size),
    )
    return _train(console, job, device, dry_run)


def _train(console: Console, job: DecoderJob, device: str, dry_run: bool) -> tuple[dict, dict]:
    from facedecode.training.decoder import train_store
    from facedecode.training.decoder_plan import plan_training

    if dry_run:
        return _say_plan(console, plan_training(job, device))
    with console.progress() as stage:
        decoder = train_store(job, device, stage("portraits"), stage("train"), console.ranks)
    if decoder is None:
        return {}, {}
    figures = decoder.provenance.training
    console.say(f"{job.output}: {decoder.kind} decoder, {figures['images']} images of {len(figures['people'])} people")
    last = (figures.get("curve") or [{}])[-1]
    return {k: v for k, v in last.items() if k != "step"}, {"decoder": str(job.output)}


def _say_plan(console: Console, plan: Plan) -> tuple[dict, dict]:
    """What a training would come to, in a line and as metrics."""
    people = len({row["identity"] for row in plan.rows} - {None})
    counts = {"images": len(plan.rows), "people": people, "held_out": int(plan.held_out.sum()), "steps": plan.steps}
    how = ", fitted at once"
    if not plan.closed:
        how = f", {counts['held_out']} of the images held out; {plan.steps} steps of {plan.job.settings.batch_size}"
        how += f" through {', '.join(network.name for network in plan.phi)}" if plan.phi else ""
    console.say(
        f"{plan.job.architecture} of {plan.job.settings.image_size} px on {counts['images']} images of {people} "
        f"people{how}; would go to {plan.job.output}"
    )
    return counts, {}
