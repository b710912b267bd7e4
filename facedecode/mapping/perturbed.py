"""Templates of the same images as they are and perturbed in several ways, kept on disk while the rest is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from facedecode import __version__
from facedecode.errors import BadInput
from facedecode.files import make_folder
from facedecode.identity import RecognizerId
from facedecode.pictures.perturb import Transform
from facedecode.progress import Progress, silent
from facedecode.tensor_file import Fitted, Float32, Kind

if TYPE_CHECKING:  # needs torch
    from facedecode.recognizers.recognizer import Recognizer
    from facedecode.store import ImageFolder


@dataclass(frozen=True, eq=False)
class _PerturbedFile(Fitted):
    """`Perturbed` templates of all images in a file: zeros, and 0 in `there`, of those that lost their face."""

    KIND: ClassVar[Kind] = Kind("perturbed-templates file", "evaluate equivariance --work")

    templates: Float32
    there: Float32
    transform: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Templates of perturbed images, float32 (m, dim). rows: int64 (m,), which images; the others lost their face."""

    rows: np.ndarray
    templates: np.ndarray


@dataclass(frozen=True, eq=False)
class Side:
    """The people to fit on, or those to judge on.

    rows: a store's rows, n dicts. templates: float32 (n, dim), of the images as they are. perturbed: by transform.
    """

    rows: list[dict]
    templates: np.ndarray
    perturbed: dict[str, Perturbed] = field(default_factory=dict)

    @property
    def identities(self) -> list[str]:
        """The person of each image."""
        return [row["identity"] for row in self.rows]

    def pairs(self, transform: str) -> tuple[np.ndarray, np.ndarray]:
        """Perturbed templates and those of the same images as they are: two (m, dim) float32."""
        perturbed = self.perturbed[transform]
        return perturbed.templates, self.templates[perturbed.rows]

    def people(self, transform: str) -> list[str]:
        """The person of each of these pairs."""
        names = self.identities
        return [names[row] for row in self.perturbed[transform].rows]


def perturbed_templates(
    rows: list[dict],
    root: ImageFolder,
    recognizer: Recognizer,
    transform: Transform,
    work: Path | None = None,
    progress: Progress = silent,
) -> Perturbed:
    """Templates of a store's rows, each image perturbed; read from `work` where an earlier run has left them.

    A file there has the transform and a fingerprint of images, faces and recognizer in its name, so that several jobs
    can use one folder. It is written when a transform is done, atomically.

    Raises BadInput: as `store.images.embed_perturbed`; a file in `work` that is damaged. OutputError: `work` cannot be
    written.
    """
    from facedecode.store.images import embed_perturbed

    identity, shape = recognizer.describe(), (len(rows), recognizer.spec.dim)
    mark = fingerprint(rows, identity, recognizer.precision)
    path = None if work is None else make_folder(work) / f"{transform.name}-{mark[:16]}.safetensors"
    if path is not None and path.exists():
        progress(len(rows), len(rows))
        return _load(path, transform, mark, shape)
    templates, made = np.zeros(shape, np.float32), np.zeros(len(rows), bool)
    for which, part in embed_perturbed(rows, root, recognizer, transform, progress=progress):
        templates[which], made[which] = part, True
    if path is not None:
        _PerturbedFile(templates, made, transform.name, mark, recognizer=identity).save(path)
    return Perturbed(np.flatnonzero(made), templates[made])


def fingerprint(rows: Sequence[dict], recognizer: RecognizerId, precision: str) -> str:
    """SHA-256 of all that decides the perturbed templates of rows: images, faces, recognizer, this tool's version.

    Where the images lie is not in it.
    """
    digest = hashlib.sha256(json.dumps([__version__, recognizer.as_json(), precision], sort_keys=True).encode())
    for row in rows:
        face = [[float(x) for x in np.asarray(row[key], np.float32).ravel()] for key in ("box", "landmarks")]
        digest.update(json.dumps([row["path"], row["sha256"], face]).encode())
    return digest.hexdigest()


def _load(path: Path, transform: Transform, mark: str, shape: tuple[int, int]) -> Perturbed:
    try:
        file = _PerturbedFile.load(path)
    except BadInput:
        raise BadInput(f"{path}: damaged; remove it") from None
    if (file.transform, file.fingerprint) != (transform.name, mark) or file.templates.shape != shape:
        raise BadInput(f"{path}: holds other templates than its name says; remove it")
    if file.there.shape != shape[:1] or not np.isin(file.there, (0, 1)).all() or not np.isfinite(file.templates).all():
        raise BadInput(f"{path}: damaged; remove it")
    return Perturbed(np.flatnonzero(file.there), file.templates[file.there.astype(bool)])
