"""What a store is to be made into. Free of NumPy and torch: the command line makes its options of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from facedecode.errors import UsageError
from facedecode.options import (
    ImageOptions,
    argument,
    device_option,
    exclude_option,
    option,
    overwrite_option,
    people_option,
    require_choices,
    seed_option,
)

STORE = "The store to read."
NEW_STORE = "Folder of the store to make."


@dataclass(frozen=True)
class Aggregation:
    """How several templates become one. Raises UsageError for a choice that does not exist or a weighted median.

    A normalized mean is as long as the templates are on average. Recognizers that were trained with a margin tend to
    make templates longer for better images (Meng et al., MagFace, 2021), hence weights by `norm`.
    """

    method: Literal["mean", "normalized-mean", "median"] = option(
        "mean", "How to combine templates: mean, normalized-mean (the mean of their directions) or median."
    )
    weight: Literal["none", "probability", "norm"] = option(
        "none", "Weights of a mean: none, probability (of the detector) or norm (the template's length)."
    )
    count: int | None = option(None, "Templates to draw at random for each person. All if absent.", "--count", "-n")
    fewer: Literal["leave-out", "use"] = option(
        "leave-out", "What to do with people who have fewer than --count: leave-out, or use what they have."
    )
    seed: int = seed_option()

    def __post_init__(self) -> None:
        require_choices(self)
        if self.count is not None and self.count < 1:
            raise UsageError(f"--count {self.count}: give 1 or more")
        if self.method == "median" and self.weight != "none":
            raise UsageError("a median has no weights here: leave --weight out, or take a mean")


@dataclass(frozen=True)
class AggregateJob:
    """Make one template per person."""

    store: Path = argument(STORE, exists="store")
    output: Path = option(MISSING, NEW_STORE, "--output", "-o", makes="folder")
    aggregation: Aggregation = Aggregation()
    people: Path | None = people_option()
    exclude: Sequence[str] = exclude_option()
    overwrite: bool = overwrite_option()


@dataclass(frozen=True)
class Clustering:
    """How templates are clustered. Raises UsageError for numbers out of range or options that exclude each other.

    Ward's method with `cosine` takes the templates' directions and their Euclidean distances. In two stages, small
    clusters are made by mini-batch k-means (Sculley 2010); each then weighs as many templates as it has.
    """

    n_clusters: int | None = option(None, "Number of clusters.", "--n-clusters", "-k")
    distance_threshold: float | None = option(
        None, "Instead of --n-clusters: do not merge clusters at this distance or above."
    )
    linkage: Literal["ward", "average", "complete"] = option(
        "ward", "How the distance of clusters is computed: ward, average or complete."
    )
    metric: Literal["cosine", "euclidean"] | None = option(
        None, "Distance of templates: cosine or euclidean. If absent, the one that fits the recognizer's score."
    )
    two_stage: int | None = option(
        None, "For very many templates: first make this many small clusters by k-means, then merge them."
    )
    seed: int = seed_option()

    def __post_init__(self) -> None:
        require_choices(self)
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise UsageError("give one of --n-clusters and --distance-threshold")
        if self.n_clusters is not None and self.n_clusters < 1:
            raise UsageError(f"--n-clusters {self.n_clusters}: give 1 or more")
        if self.distance_threshold is not None and not self.distance_threshold > 0:
            meant = f": did you mean {-self.distance_threshold:g}?" if self.distance_threshold < 0 else ""
            raise UsageError(f"--distance-threshold {self.distance_threshold}: give a number above 0{meant}")
        if self.two_stage is not None and self.two_stage < max(2, self.n_clusters or 0):
            raise UsageError(f"--two-stage {self.two_stage}: give 2 or more, and no fewer than clusters")


@dataclass(frozen=True)
class ClusterJob:
    """Cluster a store's templates. `decoder`, `images` and `device` are for the figure."""

    store: Path = argument(STORE, exists="store")
    output: Path = option(
        MISSING, "Folder for the store of the centroids and the figure.", "--output", "-o", makes="folder"
    )
    clustering: Clustering  # type: ignore[misc]  # the options before it have no default either
    persons: Sequence[str] = option((), "Use only this person (repeatable).", "--person")
    people: Path | None = people_option()
    exclude: Sequence[str] = exclude_option()
    decoder: str | None = option(
        None,
        "Folder of the decoder that draws the figure; none for no figure. If absent, the one that ships.",
        exists="decoder",
    )
    images: ImageOptions = ImageOptions()
    device: str = device_option()
    overwrite: bool = overwrite_option()

    def __post_init__(self) -> None:
        if self.persons and self.people:
            raise UsageError("give one of --person and --people")


@dataclass(frozen=True)
class MergeJob:
    """Join stores of different images."""

    stores: Sequence[Path] = argument("Stores of different images, made with the same recognizer.", exists="store")
    output: Path = option(MISSING, NEW_STORE, "--output", "-o", makes="folder")
    images: Path | None = option(
        None, "Folder that holds all the images now, at the paths that the stores have.", exists="path"
    )
    overwrite: bool = overwrite_option()


@dataclass(frozen=True)
class SplitJob:
    """Divide a store's people into those to train on and those to test on."""

    store: Path = argument(STORE, exists="store")
    output: Path = option(MISSING, "Folder for train.csv and test.csv.", "--output", "-o", makes="folder")
    test_share: float = option(0.5, "Share of the people to test on.")
    overwrite: bool = overwrite_option()

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise UsageError(f"--test-share {self.test_share:g}: give a share above 0 and below 1")


@dataclass(frozen=True)
class TransformJob:
    """Protect templates, map them, or take an attribute out of them: one of `protect`, `mapping`, `disentangle`."""

    store: Path = argument(STORE, exists="store")
    output: Path = option(MISSING, NEW_STORE, "--output", "-o", makes="folder")
    protect: Literal["rotation", "biohash"] | None = option(
        None, "Protect the templates with a key: rotation or biohash."
    )
    key_file: Path | None = option(None, "File of the key: 16 bytes or more.", exists="file")
    new_key: Path | None = option(
        None, "Instead of --key-file: make a key, and write it to this new file.", makes="file"
    )
    bits: int | None = option(None, "Bits of a biohash. If absent, as many as a template has numbers.")
    center: Path | None = option(
        None, "Store of a public data set. Its mean template is subtracted before a biohash.", exists="store"
    )
    center_people: Path | None = option(
        None, "Use only these people of --center: a file with one name a line, or in LFW's format.", exists="file"
    )
    mapping: Path | None = option(
        None, "Instead of --protect: apply this map, made by 'fit-mapping'.", exists="mapping"
    )
    disentangle: Path | None = option(
        None,
        "Instead of --protect: take an attribute out by this file of 'train --kind disentangler'.",
        exists="disentangler",
    )
    part: Literal["identity"] | None = option(None, "Part that --disentangle keeps: identity, the default.")
    components: int | None = option(None, "Keep only this many principal components of the identity part.")
    dependent: str | None = option(
        None, "Put the attribute back in after --disentangle: as this class, or keep, or mean."
    )
    independent: str | None = option(
        None, "Identity part to put it back into: the mean of this class, or keep, or mean."
    )
    overwrite: bool = overwrite_option()

    def __post_init__(self) -> None:
        require_choices(self)
        joined = self.dependent is not None or self.independent is not None
        if sum(choice is not None for choice in (self.protect, self.mapping, self.disentangle)) != 1:
            raise UsageError("give one of --protect, --mapping and --disentangle")
        if self.disentangle is None and (joined or self.part is not None):
            raise UsageError("--part, --dependent and --independent go with --disentangle")
        if self.components is not None and (self.disentangle is None or joined):
            raise UsageError("--components are of the identity part that --disentangle gives; leave it out")
        if self.part is not None and joined:
            raise UsageError("--part gives the identity part, --dependent and --independent join both; give one")
        if self.protect is None:
            if self.key_file or self.new_key or self.bits is not None or self.center or self.center_people:
                raise UsageError("--key-file, --new-key, --bits, --center and --center-people go with --protect")
        elif (self.key_file is None) == (self.new_key is None):
            raise UsageError("--protect takes a key: give one of --key-file and --new-key")
        if self.center_people is not None and self.center is None:
            raise UsageError("--center-people says whom of --center to take; give --center")
        stores = (self.store.resolve(), self.output.resolve())
        if self.new_key and any(folder in self.new_key.resolve().parents for folder in stores):
            raise UsageError(f"--new-key {self.new_key}: lies in a store; keep the key apart from the templates")
