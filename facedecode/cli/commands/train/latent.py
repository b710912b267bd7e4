"""What `facedecode train --architecture latent` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, Overwrite, Seed, Weights, choose_device
from facedecode.cli.commands.train.options import ImageSize, People, TrainingSource
from facedecode.cli.console import Console
from facedecode.errors import UsageError


def train_latent_decoder(
    console: Console,
    source: TrainingSource,
    output: Path,
    *,
    generator: Annotated[
        Path | None, typer.Option("--generator", help="An exported program, latents → pictures (n, 3, S, S).")
    ] = None,
    generator_range: Annotated[
        str | None, typer.Option("--generator-range", help="Values of its black and white: -1,1 or 0,1.")
    ] = None,
    latent_size: Annotated[
        int | None, typer.Option("--latent-size", min=1, help="Numbers that it takes, if it is TorchScript.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Pictures to generate.")] = 10_000,
    people: People = None,
    image_size: ImageSize = 128,
    weights: Weights = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Fit a decoder through a generator; metrics and outputs as a command returns them."""
    from facedecode.training.latent import LatentJob, train_latent

    if generator is None or generator_range is None:
        raise UsageError(
            "--architecture latent needs --generator and --generator-range: an exported program, and the values of its "
            "pictures that are black and white, such as -1,1"
        )
    job = LatentJob(
        store=source.store(),
        output=output,
        generator=generator,
        values=_values(generator_range),
        latent=latent_size,
        people=people,
        samples=samples,
        image_size=image_size,
        weights=weights,
        seed=seed,
        overwrite=overwrite,
    )
    with console.progress() as stage:
        decoder = train_latent(job, choose_device(device), stage("generate"))
    made = decoder.provenance.training
    figures = made["figures"]
    console.say(
        f"{output}: latent decoder, fitted to {made['images']} of {samples} generated pictures; templates held out "
        f"tell {figures['r2']:.1%} of the latents' variance"
    )
    if made["people"] is None:
        console.say(
            "whom the generator was trained on is not recorded: evaluations will refuse this decoder (--people)"
        )
    return figures, {"decoder": str(output)}


def _values(text: str) -> tuple[float, float]:
    """LOW,HIGH as numbers. Raises UsageError for anything else."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--generator-range {text}: give two numbers, such as -1,1") from None
    return low, high
