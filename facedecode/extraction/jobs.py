"""What a store is to be made of. Free of NumPy and torch: the command line makes its options of these."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

from facedecode.errors import UsageError
from facedecode.options import (
    BareRecognizerOptions,
    RecognizerOptions,
    argument,
    device_option,
    option,
    overwrite_option,
    require_choices,
)

_MOST_LISTED = 1 << 28  # bytes of a list on stdin
STORE = "Folder of the store to make."


def _listed(images: Sequence[Path]) -> tuple[Path, ...]:
    """The inputs, with `-` replaced by the lines of stdin."""
    if Path("-") not in images:
        return tuple(images)
    if sys.stdin is None:
        raise UsageError("-: stdin is closed; give a list of images there, or name them")
    data = sys.stdin.buffer.read(_MOST_LISTED + 1)
    if len(data) > _MOST_LISTED:
        raise UsageError(f"-: more than {_MOST_LISTED:,} bytes on stdin, where a list of images is read")
    lines = [Path(os.fsdecode(line)) for line in data.splitlines() if line.strip()]
    if not lines:
        raise UsageError("-: no image is listed on stdin; give their paths, one a line")
    return tuple(path for image in images for path in (lines if image == Path("-") else [image]))


def images_argument() -> Any:
    """The images to work on."""
    help = "Images, or folders of them; the name of a subfolder is the person's. Use - for a list on stdin."
    return argument(help, exists="images", parse=_listed)


def _identities() -> Any:
    help = "Table with the person of each image, if folders do not say it: columns path and identity, or CelebA's."
    return option(None, help, exists="file")


def _identity_level() -> Any:
    help = (
        "Which folder is the person: 1 for the one that holds the image, 2 for the one above it (ANN/frontal/01.jpg)."
    )
    return option(1, help, minimum=1)


def _renamed() -> Any:
    help = "CelebA-HQ's mapping file, if --identities or --labels name the images as CelebA does."
    return option(None, help, exists="file")


@dataclass(frozen=True)
class FaceOptions:
    """Where the face of each image is. Raises UsageError: said twice."""

    crop: Literal["detect", "aligned", "box"] = option(
        "detect",
        "Where each face is: detect looks for it; aligned: the image is the recognizer's own crop already; box: the "
        "image is the face's box.",
    )
    landmarks: Path | None = option(
        None, "Instead of --crop: a file with five points for each image; CelebA's, CSV or JSON lines.", exists="file"
    )

    def __post_init__(self) -> None:
        require_choices(self)
        if self.landmarks and self.crop != "detect":
            raise UsageError(f"--landmarks says where the faces are, and so does --crop {self.crop}; give one of them")


@dataclass(frozen=True)
class StoreOptions:
    """How a store is made of images.

    batch_size: images of a chunk; their templates are computed together.
    shard_rows: templates in a shard.
    workers: chunks in work at once; as many as there are cores if None.
    overwrite: replace another store.
    """

    batch_size: int = option(32, "Images that are processed together.", minimum=1)
    shard_rows: int = 4096
    workers: int | None = None
    overwrite: bool = overwrite_option()


@dataclass(frozen=True)
class ExtractJob:
    """Make a store of the templates of images."""

    images: Sequence[Path] = images_argument()
    output: Path = option(MISSING, STORE, "--output", "-o", makes="folder")
    recognizer: RecognizerOptions = RecognizerOptions()
    identities: Path | None = _identities()
    identity_level: int = option(
        1,
        "Folder that is the person: 1 for the one that holds the image, 2 for the one above it, ….",
        minimum=1,
    )
    labels: Path | None = option(
        None, "Table with labels of the images, or CelebA's. They go to labels.csv in the store.", exists="file"
    )
    renamed: Path | None = _renamed()
    transform: str | None = option(
        None, "Perturb each face before it is embedded: rotate30, shift-left+scale0.5, ….", exists="transform"
    )
    faces: FaceOptions = FaceOptions()
    preview: Path | None = option(None, "Before the work, write a PNG with up to 8 of the aligned faces.", makes="file")
    device: str = device_option()
    precision: Literal["fp32", "bf16"] = option("fp32", "Precision of the arithmetic: fp32, or bf16 (by autocast).")
    settings: StoreOptions = StoreOptions()
    strict: bool = option(False, "Exit with code 5 if an image gave no template.")
    dry_run: bool = option(False, "Count the images and draw the preview, but make no store.")

    def __post_init__(self) -> None:
        require_choices(self)
        if self.renamed and not (self.identities or self.labels):
            raise UsageError("--renamed says how --identities and --labels name the images; give one of these")
        if self.identities and self.identity_level != 1:
            raise UsageError("--identities names the people, and --identity-level a folder that does; give one of them")


@dataclass(frozen=True)
class ImportJob:
    """Make a store of templates that another program made. `score`: of a recognizer given:NAME only."""

    embeddings: Path = argument(
        "Templates: .npy with one a row, .npz, Parquet, or a folder of .npy files.", exists="embeddings"
    )
    output: Path = option(MISSING, STORE, "--output", "-o", makes="folder")
    images: Path | None = option(
        None,
        "List of the images' paths, one a line, in the order of the rows; or their folder, where the file of templates "
        "names them. If absent, the store has templates only.",
        exists="path",
    )
    recognizer: BareRecognizerOptions = BareRecognizerOptions()
    score: Literal["cosine", "negative-euclidean"] | None = option(
        None, "How templates of given:NAME are compared: cosine (if absent) or negative-euclidean."
    )
    identities: Path | None = option(
        None,
        "Table with the person of each image, columns path and identity; or a person a line, in the order of the rows.",
        exists="file",
    )
    identity_level: int = _identity_level()
    renamed: Path | None = _renamed()
    faces: FaceOptions = FaceOptions()
    device: str = device_option()
    strict: bool = option(False, "Exit with code 5 if an image shows no face.")
    overwrite: bool = overwrite_option()

    def __post_init__(self) -> None:
        require_choices(self)
        name, further = self.recognizer.model or "", dataclasses.replace(self.recognizer, model=None)
        if name.startswith("given:") and (name == "given:" or further != BareRecognizerOptions()):
            raise UsageError(
                f"--model {name}: given:NAME is a recognizer not at hand; leave --weights, --spec and "
                "--template-output out"
            )
        if name.startswith("given:") and self.faces.crop == "aligned":
            raise UsageError(
                f"--crop aligned is the recognizer's own crop, and {name} is not here to say which; give --landmarks, "
                "or --crop box"
            )
        if self.score and not name.startswith("given:"):
            raise UsageError(f"--score is for --model given:NAME; {name or 'dlib-resnet'} has its own")
        if self.identities and self.identity_level != 1:
            raise UsageError("--identities names the people, and --identity-level a folder that does; give one of them")
        if self.renamed and not self.identities:
            raise UsageError("--renamed says how --identities names the images; give both")
