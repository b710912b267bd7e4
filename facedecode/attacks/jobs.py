"""What an attack on images is asked to do. Free of NumPy and torch: the command line makes its options of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from facedecode.attacks.methods import METHODS, Budget, find_method
from facedecode.errors import UsageError
from facedecode.extraction.jobs import FaceOptions, images_argument
from facedecode.options import RecognizerOptions, device_option, option, overwrite_option, require_choices

Objective = Literal["class", "embedding"]


@dataclass(frozen=True)
class TargetOptions:
    """Whom faces are to be taken for, and when an attack has succeeded.

    Raises UsageError: no target, a target to go away from, a class without a classifier, or a threshold that is given
    twice, by halves, or for a class.
    """

    target: str | None = option(None, "Whom the faces are to be taken for: an image, or the name of a class.")
    away: bool = option(False, "Instead of --target: move each face away from its own template (dodging).")
    objective: Objective | None = option(
        None, "What to attack: class (of a classifier) or embedding (templates). class if absent, with a --classifier."
    )
    classifier: Path | None = option(
        None,
        "File made by 'train --kind classifier', to attack, or to name the classes that faces are taken for.",
        exists="classifier",
    )
    threshold: float | None = option(None, "Score at which an attack on templates has succeeded.")
    fmr: float | None = option(
        None, "Instead of --threshold: take the score at this false match rate of --thresholds-from."
    )
    thresholds_from: Path | None = option(None, "Store; its non-mated pairs set the score of --fmr.", exists="store")

    def __post_init__(self) -> None:
        require_choices(self)
        if self.away and self.target is not None:
            raise UsageError("--away is away from each image's own template; leave out --target, or --away")
        if self.away and self.resolved == "class":
            raise UsageError("--away goes with --objective embedding; a class needs a --target")
        if not self.away and self.target is None:
            raise UsageError("there is no target: give --target IMAGE, a class's name (with --classifier), or --away")
        if self.resolved == "class" and self.classifier is None:
            raise UsageError(
                "--objective class attacks a softmax: give --classifier FILE, made by 'train --kind classifier'"
            )
        by_fmr = (self.fmr, self.thresholds_from) != (None, None)
        if self.resolved == "class" and (by_fmr or self.threshold is not None):
            raise UsageError("--threshold, --fmr and --thresholds-from are of templates: leave them out for a class")
        if self.threshold is not None and by_fmr:
            raise UsageError("--threshold is the score itself; leave it out, or --fmr and --thresholds-from")
        if (self.fmr is None) != (self.thresholds_from is None):
            raise UsageError(
                "--fmr RATE goes with --thresholds-from STORE, whose non-mated pairs set the score; give both"
            )

    @property
    def resolved(self) -> Objective:
        """The objective; where the user does not say, `class` if there is a classifier and a target."""
        return self.objective or ("class" if self.classifier and not self.away else "embedding")


@dataclass(frozen=True)
class AttackJob:
    """What to attack, how, and where to write it. A run that was interrupted in `output` is resumed.

    Raises UsageError: a budget that the method has no use for.
    """

    images: Sequence[Path] = images_argument()
    output: Path = option(
        MISSING, "Folder for the pictures, their store, a table and a figure.", "--output", "-o", makes="folder"
    )
    target: TargetOptions  # type: ignore[misc]  # the options before it have no default either
    method: str = option("itfgsm", f"Attack: {', '.join(f'{m.name} ({m.summary})' for m in METHODS.values())}.")
    budget: Budget = Budget()
    on_failure: Literal["original", "keep"] = option(
        "original", "What to save where the attack failed: original, or keep (the last attempt)."
    )
    faces: FaceOptions = FaceOptions()
    decoder: str | None = option(
        None,
        "Folder of the decoder that draws the last row of the figure. If absent, the one that ships.",
        exists="decoder",
    )
    recognizer: RecognizerOptions = RecognizerOptions()
    device: str = device_option()
    batch_size: int = option(16, "Faces that are attacked together.", minimum=1)
    strict: bool = option(False, "Exit with code 5 if an image gave no face.")
    overwrite: bool = overwrite_option()
    dry_run: bool = option(False, "Check the inputs and count the images, but attack nothing.")
    shard_rows: int = 64  # an attack takes seconds an image: what a killed run loses is at most so many

    def __post_init__(self) -> None:
        require_choices(self)
        self.full_budget()

    def full_budget(self) -> Budget:
        """The budget with the method's defaults."""
        return find_method(self.method).budget(self.budget)
