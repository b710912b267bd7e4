"""The library for Python users: arrays in, arrays and dataclasses out. All of it can be imported from `facedecode`.

    import facedecode

    recognizer = facedecode.load_recognizer("dlib-resnet")
    embedded = facedecode.embed(["ann.jpg", "bob.jpg"], recognizer)
    faces = facedecode.invert(embedded.templates, facedecode.load_decoder("dlib-resnet"), recognizer)

Nothing here prints, reads the environment or uses the network. Errors are those of `facedecode.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation import find_evaluation
from facedecode.evaluation.jobs import EvaluationJob
from facedecode.options import require_choices, require_ranges
from facedecode.progress import Stage, silent_stage
from facedecode.store import Store

if TYPE_CHECKING:  # these need torch
    from facedecode.attacks.methods import Budget
    from facedecode.evaluation.result import Result
    from facedecode.identity import RecognizerId
    from facedecode.mapping.maps import Mapping
    from facedecode.pictures.faces import Face
    from facedecode.recognizers.recognizer import Recognizer

Image = np.ndarray | Path | str
_BATCH = 32


@dataclass(frozen=True, eq=False)
class Embedded:
    """The templates of images, in their order.

    templates: (n, dim) float32, raw; a row of NaN where an image gave none.
    crops: (n, S, S, 3) uint8 RGB, what the recognizer saw; black where there is none.
    faces: n, each image's central face; None where there is none.
    failures: what went wrong, by the image's place.
    """

    templates: np.ndarray
    crops: np.ndarray
    faces: list[Face | None]
    failures: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.templates)

    def __repr__(self) -> str:
        count, dim = self.templates.shape
        return f"Embedded({count} images, templates of {dim} numbers, {len(self.failures)} failed)"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of templates, numbered from 0, the largest first.

    labels: (n,) int64, the cluster of each template. centroids: (k, dim) float32, their members' means.
    """

    labels: np.ndarray
    centroids: np.ndarray

    def __repr__(self) -> str:
        return f"Clusters({len(self.centroids)} of {len(self.labels)} templates)"


@dataclass(frozen=True, eq=False)
class AttackedCrops:
    """What an attack made of crops, as it is saved: in 8 bits.

    crops: (n, S, S, 3) uint8 RGB; the original where the attack failed.
    success: (n,) bool, of the crops as they are here.
    gradients: (n,) int64, evaluations of the recognizer with its gradient.
    l2, linf: (n,) float32, distances from the originals before rounding, pixels in [0, 1].
    """

    crops: np.ndarray
    success: np.ndarray
    gradients: np.ndarray
    l2: np.ndarray
    linf: np.ndarray

    def __repr__(self) -> str:
        return f"AttackedCrops({len(self.crops)} crops, {int(self.success.sum())} successes)"


def embed(
    images: Sequence[Image],
    recognizer: Recognizer | None = None,
    *,
    crop: Literal["detect", "aligned", "box"] = "detect",
    device: str = "cpu",
) -> Embedded:
    """Make the templates of images.

    Args:
        images: paths, or arrays (H, W, 3) uint8 RGB.
        recognizer: the default one if None.
        crop: where the faces are: `detect` looks for them; the images are the recognizer's crops (`aligned`), or the
            boxes of faces (`box`), already.
        device: of the face detector.

    Raises BadInput: an array of another shape or type, or no images. A file that cannot be read, an image without a
    face, or what cannot be a crop is a failure in the result. Crops of another size are resized.
    """
    from facedecode.extraction.cropping import FaceCropper
    from facedecode.extraction.finders import plain_finder
    from facedecode.extraction.jobs import FaceOptions
    from facedecode.pictures.faces import Face
    from facedecode.pictures.finding import ImageRef
    from facedecode.recognizers import load_recognizer

    if not len(images):
        raise BadInput("there are no images to embed")
    recognizer = recognizer or load_recognizer(device=device)
    inputs = [
        _checked(image) if isinstance(image, np.ndarray) else ImageRef(Path(image), str(image), None)
        for image in images
    ]
    cropper = FaceCropper(recognizer, plain_finder(FaceOptions(crop).crop, recognizer, device))
    size = recognizer.spec.crop.size
    templates = np.full((len(images), recognizer.spec.dim), np.nan, np.float32)
    crops = np.zeros((len(images), size, size, 3), np.uint8)
    faces: list[Face | None] = [None] * len(images)
    failures: dict[int, str] = {}
    for place, item in enumerate(cropper.items(inputs, _BATCH)):
        if item.failure:
            path, reason = item.failure["path"], item.failure["reason"]
            failures[place] = f"{path}: {reason}" if item.failure["stage"] == "read" else reason
            continue
        templates[place], crops[place] = item.template, item.crop
        if crop == "detect":
            faces[place] = Face(item.row["box"], item.row["landmarks"], item.row["probability"])
    return Embedded(templates, crops, faces, failures)


def extract(
    images: Sequence[Path | str] | Path | str,
    output: Path | str,
    recognizer: Recognizer | None = None,
    *,
    crop: Literal["detect", "aligned", "box"] = "detect",
    landmarks: Path | str | None = None,
) -> Store:
    """Make a store of the templates of images or folders, as the command `extract` does; a subfolder is a person.

    crop: as in `embed`. landmarks: a file of each face's five points instead, see docs/faces.md.

    A run that was interrupted is resumed. Raises BadInput: no usable image. OutputError, OutputInUse: the output holds
    something else, or another run works there.
    """
    from facedecode.extraction.finders import FaceSource
    from facedecode.extraction.jobs import FaceOptions
    from facedecode.extraction.run import extract as extract_images
    from facedecode.extraction.run import find_inputs
    from facedecode.recognizers import load_recognizer

    several = [images] if isinstance(images, (str, Path)) else images
    recognizer = recognizer or load_recognizer()
    inputs = find_inputs([Path(path) for path in several])
    faces = FaceSource.of(FaceOptions(crop, None if landmarks is None else Path(landmarks)), inputs.refs)
    extract_images(inputs, Path(output), recognizer, faces.finder(recognizer, str(recognizer.device)))
    return Store.open(output)


def fit_mapping(
    perturbed: np.ndarray,
    original: np.ndarray,
    recognizer: RecognizerId | Recognizer,
    *,
    transform: str = "perturbation",
    held_out: np.ndarray | None = None,
    ridge: float | Literal["auto"] = 0.0,
) -> Mapping:
    """Fit the linear map from templates of perturbed images to those of the originals (paper, Eq. 6).

    Args:
        perturbed, original: (n, dim) float, row by row of the same images.
        recognizer: the one that made them, or its identity.
        transform: what was done to the images.
        held_out: (n,) bool, rows to judge the map by and not to fit it to; none if None.
        ridge: penalty, times the templates' mean variance; `auto`: by generalized cross-validation.

    Raises BadInput: shapes that do not match, NaN or infinite numbers, no rows.
    """
    from facedecode.mapping.maps import fit_mapping as fit

    identity = recognizer.describe() if hasattr(recognizer, "describe") else recognizer
    rows = np.zeros(len(perturbed), bool) if held_out is None else np.asarray(held_out, bool)
    return fit([(np.asarray(perturbed), np.asarray(original), rows)], transform, identity, ridge=ridge)


def cluster(
    templates: np.ndarray,
    n_clusters: int | None = None,
    distance_threshold: float | None = None,
    *,
    linkage: Literal["ward", "average", "complete"] = "ward",
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Clusters:
    """Agglomerative clusters of templates, (n, dim) float32, n ≥ 2 (paper, § 4.4.1).

    One of `n_clusters` and `distance_threshold` says where merging ends. With Ward's linkage and the cosine, distances
    are Euclidean ones of the templates' directions.

    Raises:
        BadInput: fewer than two templates, more clusters than templates, NaN or infinite numbers.
        UsageError: both or neither of the ends.
        WouldNotFit: the distances of all pairs do not fit in memory.
    """
    from facedecode.memory import require_memory
    from facedecode.templates.agglomerative import cut
    from facedecode.templates.agglomerative import linkage as merges_of

    templates = _matrix(templates)
    count = len(templates)
    if (n_clusters is None) == (distance_threshold is None):
        raise UsageError("give one of n_clusters and distance_threshold")
    if count < 2 or (n_clusters or 1) > count:
        raise BadInput(f"{count} templates make no {n_clusters or 2} clusters")
    require_memory(8 * count * (count - 1) // 2, f"clustering {count:,} templates", "cluster fewer")
    labels = cut(merges_of(templates, linkage, metric), n_clusters, distance_threshold)
    sums = np.zeros((labels.max() + 1, templates.shape[1]))
    np.add.at(sums, labels, templates)
    return Clusters(labels, (sums / np.bincount(labels)[:, None]).astype(np.float32))


def aggregate(
    templates: np.ndarray,
    identities: Sequence[str],
    *,
    method: Literal["mean", "normalized-mean", "median"] = "mean",
    weights: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """One template a person, (dim,) float32 by name in the order of names, made of all of that person's.

    templates: (n, dim) float32. identities: n names.
    weights: (n,) of the templates in a mean, such as the detector's probabilities; all alike if None.

    Raises BadInput: other shapes; weights that are negative or all 0; directions that cancel.
    """
    from facedecode.templates.aggregation import combine
    from facedecode.templates.jobs import Aggregation

    templates = _matrix(templates)
    if len(identities) != len(templates) or (weights is not None and len(weights) != len(templates)):
        raise BadInput(f"{len(templates)} templates take as many identities, and weights if any")
    settings = Aggregation(method, "none" if weights is None else "probability")
    names = np.array(identities, dtype=object)
    made = {}
    for name in sorted(set(identities)):
        rows = np.flatnonzero(names == name)
        shares = None if weights is None else np.asarray(weights)[rows]
        made[name] = combine(templates[rows], settings, shares).astype(np.float32)
    return made


def attack(
    crops: np.ndarray,
    recognizer: Recognizer,
    target: np.ndarray,
    threshold: float,
    *,
    method: str = "itfgsm",
    budget: Budget | None = None,
) -> AttackedCrops:
    """Change crops so that a recognizer takes them for the person of a template.

    Args:
        crops: (n, S, S, 3) uint8 RGB, of the recognizer's size (`Embedded.crops`).
        recognizer: white-box, in fp32.
        target: (dim,) float32, whom to be taken for.
        threshold: of the recognizer's score, at which an attack has succeeded.
        method: a key of `facedecode.attacks.METHODS`. budget: its own defaults if None.

    Raises UsageError: a black-box recognizer, an unknown method, a budget or threshold that does not fit. BadInput:
    crops or a template of another shape.
    """
    import torch

    from facedecode.attacks.base import attack as attack_pictures
    from facedecode.attacks.base import to_uint8, victim_of
    from facedecode.attacks.goals import EmbeddingGoal
    from facedecode.decoders.own_templates import shipped_statistics
    from facedecode.decoders.plausibility import check_templates

    size = recognizer.spec.crop.size
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
        raise BadInput(f"crops are uint8 (n, {size}, {size}, 3), not {crops.dtype} {crops.shape}")
    made_by, aim = recognizer.describe(), _matrix(target[None])
    check_templates([aim], made_by, shipped_statistics(made_by), where="the target")
    goal = EmbeddingGoal(np.repeat(aim, len(crops), axis=0), recognizer.spec.score, threshold)
    pictures = torch.from_numpy(crops).to(recognizer.device).permute(0, 3, 1, 2).float() / 255
    done = attack_pictures(victim_of(recognizer), pictures, goal, method, budget)
    saved = to_uint8(done.pictures).permute(0, 2, 3, 1).cpu().numpy()
    counts = [values.cpu().numpy() for values in (done.success_8bit, done.gradients, done.l2, done.linf)]
    return AttackedCrops(saved, *counts)


def evaluate(job: EvaluationJob, stage: Stage = silent_stage) -> Result:
    """Evaluate a job, such as `facedecode.VerificationJob(["emb"])`: figures with intervals, and a report.

    job: a job of `facedecode.evaluation.jobs`.
    stage: called with the name of what is begun; gives what is called with (done, total).

    Returns the result: `result.value("tar", {"recognizer": …, "fmr": 0.001})` is a figure; `result.report()` the whole
    report, which `facedecode.report.folder.write_report` writes.

    Raises UsageError: no such job, or a value outside its field's range or choices. BadInput, MissingWeights: as the
    evaluation.
    """
    evaluation = find_evaluation(job)
    require_choices(job)
    require_ranges(job)
    return evaluation.evaluate(job, stage)


def _checked(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadInput(f"an image is uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return image


def _matrix(templates: np.ndarray) -> np.ndarray:
    templates = np.asarray(templates, np.float32)
    if templates.ndim != 2 or not np.isfinite(templates).all():
        raise BadInput(f"templates are finite floats (n, dim), not {templates.shape}, or some are NaN or infinite")
    return templates
