"""What is to be drawn of templates, and how. Free of NumPy and torch: the command line makes its options of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path

from facedecode.errors import OutputError, UsageError
from facedecode.options import (
    BareRecognizerOptions,
    ImageOptions,
    argument,
    decoder_option,
    device_option,
    exclude_option,
    option,
    overwrite_option,
    people_option,
    seed_option,
)

TEMPLATES = "A store, one of its shards, or a .npy file of templates."
MOST_PICTURES = 1024  # in one PNG


@dataclass(frozen=True)
class DrawingOptions:
    """The decoder that draws templates, the recognizer that scores its pictures, and where the originals are."""

    decoder: str | None = decoder_option()
    originals: bool = option(False, "Also show the original faces; templates must be a store with its images.")
    recognizer: BareRecognizerOptions = BareRecognizerOptions()
    images: ImageOptions = ImageOptions()
    device: str = device_option()


@dataclass(frozen=True)
class InvertJob:
    """Draw the faces of templates."""

    templates: Path = argument(TEMPLATES, exists="templates")
    output: Path = option(
        MISSING,
        "A .png for one picture or a grid, or a folder for one PNG per template.",
        "--output",
        "-o",
        makes="PNG or folder",
    )
    mapping: Path | None = option(
        None, "First apply this map, made by 'fit-mapping', to the templates.", exists="mapping"
    )
    refine: int | None = option(
        None, "Improve each picture by this many steps along the recognizer's gradient. Slow.", minimum=1
    )
    confidence: Path | None = option(
        None,
        "Map made by 'fit-confidence'. It shows which parts of a face the template determines.",
        exists="confidence map",
    )
    drawing: DrawingOptions = DrawingOptions()
    seed: int = seed_option()
    overwrite: bool = overwrite_option()

    @property
    def to_folder(self) -> bool:
        """Whether the pictures go to a folder rather than one PNG."""
        return self.output.suffix.lower() != ".png"

    @property
    def call(self) -> str:
        """What tells this call from others, see `output_folder.call_fingerprint`."""
        from facedecode.output_folder import call_fingerprint

        return call_fingerprint("invert", dataclasses.replace(self, overwrite=False))

    def require_output(self) -> None:
        """Refuse an output that cannot be written. Raises UsageError or OutputError."""
        from facedecode.output_folder import require_free
        from facedecode.pictures.finding import EXTENSIONS

        path = self.output
        if self.to_folder and path.suffix.lower() in EXTENSIONS:
            raise UsageError(f"-o {path}: pictures are written as PNG; give a name that ends in .png, or a folder")
        if not path.exists():
            return
        if self.to_folder != path.is_dir() or not (self.to_folder or path.is_file()):
            kind = "folder" if self.to_folder else "regular file"
            raise OutputError(f"{path}: is there and is no {kind}; name another")
        if self.to_folder:
            require_free(path, self.call, self.overwrite)
        elif not self.overwrite:
            raise OutputError(f"{path}: is there already; use --overwrite or another name")


@dataclass(frozen=True)
class WalkJob:
    """Draw the faces on the way from one template to another, or along a direction."""

    templates: Path = argument(TEMPLATES, exists="templates")
    output: Path = option(MISSING, "A .png with one strip of pictures for each --from.", "--output", "-o", makes="file")
    start: Sequence[str] = option(
        MISSING, "Template to start from: an image of the store, or a row's number (repeatable).", "--from"
    )
    end: Sequence[str] = option((), "Template to go to: one for all --from, or one for each (repeatable).", "--to")
    along: Path | None = option(
        None, "Instead of --to: go along this direction, made by 'evaluate leakage'.", exists="direction"
    )
    without: Sequence[Path] = option(
        (), "First take the attribute of this direction out of all templates (repeatable).", exists="direction"
    )
    steps: int = option(7, "Pictures in a strip.", minimum=2)
    reach: float = option(
        1.0, "How far to go along --along, both ways. 1 is the distance between the means of its two classes."
    )
    save_templates: Path | None = option(
        None, "Also write the templates of the strips to this .npy file.", makes="file"
    )
    drawing: DrawingOptions = DrawingOptions()
    overwrite: bool = overwrite_option()

    def __post_init__(self) -> None:
        if bool(self.end) == (self.along is not None):
            raise UsageError("give one of --to (another template) and --along (a direction)")
        if self.end and len(self.end) not in (1, len(self.start)):
            raise UsageError(f"{len(self.end)} --to for {len(self.start)} --from: give one for all, or one for each")
        if not 0 < self.reach < float("inf"):
            raise UsageError(f"--reach {self.reach}: give a number above 0")
        if len(self.start) * self.steps > MOST_PICTURES:
            raise UsageError(f"{len(self.start)} strips of {self.steps} are too many; give fewer --from or --steps")

    def require_output(self) -> None:
        """Refuse outputs that cannot be written. Raises UsageError or OutputError.

        A file at `save_templates` can be a killed run's: what is in it is looked at when there are templates.
        """
        for path, suffix in ((self.output, ".png"), (self.save_templates, ".npy")):
            if path is not None and path.suffix.lower() != suffix:
                raise UsageError(f"{path}: give a name that ends in {suffix}")
        for path, kept in ((self.output, False), (self.save_templates, True)):
            if path is not None and path.exists() and not ((self.overwrite or kept) and path.is_file()):
                raise OutputError(f"{path}: is there already; use --overwrite or another name")


@dataclass(frozen=True)
class ConfidenceJob:
    """Fit what a decoder's templates determine of a face."""

    store: Path = argument("A store made by 'extract', with its images.", exists="store")
    output: Path = option(MISSING, "File of the map, NAME.safetensors.", "--output", "-o", makes="fitted file")
    decoder: str | None = decoder_option()
    people: Path | None = people_option()
    exclude: Sequence[str] = exclude_option()
    limit: int | None = option(None, "Use only this many images: the first ones by path.", minimum=1)
    images: ImageOptions = ImageOptions()
    device: str = device_option()
    overwrite: bool = overwrite_option()
