"""Options that several of the things that `train` makes have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class TrainingSource:
    """The store to train on: one that is there, or one to be made of a bare .npy file.

    Attributes:
        path: of the store, or of the file.
        make: makes a store of the file, which takes long: called when nothing is left to refuse.
        describe: the recognizer of the file's templates.
    """

    path: Path
    make: Callable[[], Path] | None = None
    describe: Callable[[], dict] | None = None

    def store(self) -> Path:
        """The store's folder."""
        return self.make() if self.make else self.path


Architecture = Annotated[
    str,
    typer.Option(
        "--architecture",
        help="Of a decoder. A network: dfd, or its rival nbnet; a closed form: mean-face, nearest, ridge; or latent: "
        "through a generator of yours.",
    ),
]
People = Annotated[
    Path | None, typer.Option("--people", help="Train on these people only: a name a line, or LFW's format.")
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")]
Validation = Annotated[float, typer.Option("--validation", help="Share of the people held out.")]
ImageSize = Annotated[int, typer.Option("--image-size", help="Side of the pictures: 64, 128 or 224 pixels.")]
Half = Annotated[bool, typer.Option("--half", help="Save float16 tensors, at half the size.")]
Epochs = Annotated[float, typer.Option("--epochs", help="Passes over the training people.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=2, help="Images of a step.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Peak of the one-cycle schedule.")]
MinImages = Annotated[
    int, typer.Option("--min-images", min=2, help="Images that a person needs to be one of the classes.")
]
HeadKind = Annotated[
    str,
    typer.Option(
        "--head",
        help="Of a classifier: linear, or cosine (normalized weights and templates). Of a recognizer: arcface, or "
        "softmax.",
    ),
]
Scale = Annotated[
    float | None, typer.Option("--scale", help="Of cosine and arcface heads: what multiplies cosines; 64 if absent.")
]
Mirror = Annotated[
    bool,
    typer.Option("--mirror/--no-mirror", help="Train on each image turned over, too; a decoder takes its recognizer."),
]
Jitter = Annotated[
    float | None,
    typer.Option("--jitter", help="Random crops before networks look (dfd and recognizers 1, nbnet 0); 0: off."),
]
Start = Annotated[
    Path | None,
    typer.Option("--start", help="Go on from this decoder, or recognizer, instead of a random network."),
]
