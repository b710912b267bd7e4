"""What a map of templates is fitted to, and how. Free of NumPy and torch: the command line makes its options of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facedecode.errors import UsageError
from facedecode.options import (
    ImageOptions,
    device_option,
    option,
    overwrite_option,
    parse_ridge,
    people_option,
    require_choices,
    weights_option,
)


@dataclass(frozen=True)
class Method:
    """How a map is fitted; all with a bias that is free.

    kind: `affine`: any weight. `orthogonal`: a rotation, or one with a reflection (Procrustes): keeps distances.
        `low-rank`: a weight of rank `rank` (reduced-rank regression).
    ridge: penalty on the weight, times the mean variance of the inputs; or `auto`, see `choose_ridge`.
    rank: of a low-rank map, else None.

    Raises UsageError: an unknown kind, a ridge that is negative, infinite or for an orthogonal map, a rank below 1, a
    rank without low-rank or the reverse.
    """

    kind: Literal["affine", "orthogonal", "low-rank"] = option("affine", "Kind of map: affine, orthogonal or low-rank.")
    ridge: float | Literal["auto"] = option(
        0.0,
        "Ridge penalty, as a multiple of the templates' mean variance: 0 for plain least squares, or auto (by "
        "generalized cross-validation).",
        parse=parse_ridge,
        written=str,
    )
    rank: int | None = option(None, "Rank of a low-rank map.")

    def __post_init__(self) -> None:
        require_choices(self)
        if self.ridge != "auto" and not (
            isinstance(self.ridge, int | float) and math.isfinite(self.ridge) and self.ridge >= 0
        ):
            raise UsageError(f"a ridge of {self.ridge} makes no sense: give 0 or more, or auto")
        if self.kind == "orthogonal" and self.ridge != 0:
            raise UsageError("an orthogonal map has no ridge: its weight cannot shrink")
        if (self.kind == "low-rank") != (self.rank is not None):
            raise UsageError("a rank goes with a low-rank map, and a low-rank map needs one")
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"a map of rank {self.rank} makes no sense: give 1 or more")

    def require_size(self, dim: int) -> None:
        """Refuse a rank above the templates' size. Raises UsageError."""
        if self.rank is not None and self.rank > dim:
            raise UsageError(f"a rank of {self.rank} between templates of {dim} numbers: give {dim} or less")

    def describe(self) -> dict[str, Any]:
        """JSON for provenance."""
        return {"kind": self.kind, "ridge": self.ridge, "rank": self.rank}


@dataclass(frozen=True)
class MappingJob:
    """Fit maps that undo perturbations: of `transform`, of stores in `perturbed`, or of sums in `from_sums`."""

    transform: Sequence[str] = option(
        (),
        "Perturbation to undo: rotate30, …, or a group: rotations, shifts, scales, occlusions, all (repeatable).",
        exists="transforms",
    )
    embeddings: Path = option(Path("emb"), "Store of the original templates, with its images.", exists="store")
    perturbed: Sequence[Path] = option(
        (), "Instead of --transform: a store of the same images by 'extract --transform' (repeatable).", exists="store"
    )
    from_sums: Sequence[Path] = option(
        (),
        "Instead of --transform: a file that --sums-to wrote; several are merged (repeatable).",
        exists="mapping sums",
    )
    output: Path = option(
        Path("mappings"),
        "Folder of the maps; one NAME.safetensors for each perturbation.",
        "--output",
        "-o",
        makes="folder of maps",
    )
    method: Method = Method()
    people: Path | None = people_option()
    sums_to: Path | None = option(
        None,
        "Instead of maps, write sums to this folder. Sums of several runs can be merged by --from-sums.",
        makes="folder",
    )
    weights: Path | None = weights_option()
    images: ImageOptions = ImageOptions()
    device: str = device_option()
    overwrite: bool = overwrite_option()
    dry_run: bool = option(False, "Check the inputs and count the pairs, but fit nothing.")

    def __post_init__(self) -> None:
        if sum(map(bool, (self.transform, self.perturbed, self.from_sums))) != 1:
            raise UsageError("give one of --transform, --perturbed and --from-sums")
        if not self.transform and (self.images.images or self.weights):
            raise UsageError("--images and --weights go with --transform, which embeds the images again")
        if self.from_sums and (self.sums_to or self.people or self.dry_run):
            raise UsageError("--people, --sums-to and --dry-run are of what is summed; --from-sums is given sums")
        if self.sums_to and self.method != Method():
            raise UsageError("--kind, --rank and --ridge say how sums are solved: give them with --from-sums")

    def path(self, transform: str) -> Path:
        """Where the map or the sums of a perturbation go."""
        return (self.sums_to or self.output) / f"{transform}.safetensors"
