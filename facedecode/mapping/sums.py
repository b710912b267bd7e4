"""What a fit keeps of its pairs of templates: sums, and a sample of those held out; they merge, and go to a file.

A pair is a template of a perturbed face and that of the original. Sums of the pairs to fit and of those held out
are kept apart, so that a map of any kind can be fitted and judged from them, and from those of several runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.fitted import PICTURES, read_pictures, written_pictures
from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.known_pictures import KnownPictures
from facedecode.mapping.least_squares import GramAccumulator
from facedecode.pictures.perturb import parse_transform
from facedecode.records import Count, Record
from facedecode.tensor_file import Kind

_MOMENTS = ("mean_in", "mean_out", "in_in", "in_out", "out_out")
_SIDES = ("training", "held_out")
_KIND = Kind("mapping-sums file", "fit-mapping --sums-to")
_TENSORS = dict.fromkeys((*(f"{side}.{m}" for side in _SIDES for m in _MOMENTS), "sample", "priorities"), np.float64)
_SAMPLE_NUMBERS = 2**22  # of held-out templates kept for the scores: 16 MB a side


@dataclass(frozen=True)
class Part(Record):
    """What is recorded of the pairs of one run.

    store: fingerprint of the store of the originals. perturbed: of that of the perturbed faces; None where they were
        embedded for the fit.
    people: their names; None where there are images without a name.
    images: the lowest hashes of their images.
    precision: in which the recognizer made the templates.
    """

    store: str | None = None
    people: tuple[str, ...] | None = None
    images: tuple[str, ...] = ()
    perturbed: str | None = None
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class _Counts(Record):
    training: Count
    held_out: Count


@dataclass(frozen=True)
class _Header(Record):
    """What a file of sums says of them, beside the numbers: see `MappingSums`. n: the pairs of each side."""

    REMEDY: ClassVar[str] = "make it again"

    transform: str
    recognizer: RecognizerId
    parts: tuple[dict[str, Any], ...]
    n: _Counts
    left_out: Count


class MappingSums:
    """Sums over pairs of templates, from which `maps.solve_mapping` makes a map.

    transform: the perturbation's name.
    recognizer: `Recognizer.describe()`.
    parts: JSON of a `Part` for each run that went in.
    left_out: images whose face the perturbation moved out of the frame.
    training, held_out: sums of pairs perturbed → original; None before the first.
    pictures: of the originals, as far as they are recorded.
    """

    def __init__(self, transform: str, recognizer: RecognizerId, parts: list[dict[str, Any]] | None = None) -> None:
        self.transform = transform
        self.recognizer = recognizer
        self.parts = list(parts or [])
        self.left_out = 0
        self.training: GramAccumulator | None = None
        self.held_out: GramAccumulator | None = None
        self.pictures: KnownPictures | None = None
        self._sample: _Sample | None = None

    def add(self, perturbed: np.ndarray, original: np.ndarray, held_out: np.ndarray) -> None:
        """Take in pairs: (n, d), (n, d) and bool (n,), row by row the same images.

        Raises BadInput: shapes that do not match, NaN or infinite numbers.
        """
        perturbed, original = np.asarray(perturbed), np.asarray(original)
        held_out = np.asarray(held_out, dtype=bool)
        if perturbed.ndim != 2 or perturbed.shape != original.shape or held_out.shape != perturbed.shape[:1]:
            raise BadInput(
                f"{self.transform}: perturbed templates {perturbed.shape}, original ones {original.shape} and "
                f"held-out flags {held_out.shape} do not match"
            )
        self._begin(perturbed.shape[1])
        self.training.add(perturbed[~held_out], original[~held_out])
        self.held_out.add(perturbed[held_out], original[held_out])
        self._sample.add(perturbed[held_out], original[held_out])

    def merge(self, other: MappingSums) -> None:
        """Take in what another run has seen. Raises BadInput: another recognizer or transform, or the same pairs."""
        if other.transform != self.transform:
            raise BadInput(
                f"sums of {other.transform} and of {self.transform} do not merge: give those of one transform"
            )
        require_same_recognizer(self.recognizer, other.recognizer, "one of the sums")
        for part in other.parts:
            if any(_overlap(part, known) for known in self.parts):
                raise BadInput(
                    f"sums of {self.transform}: people of a store, or images, would count twice; give each once"
                )
        if self.training is not None and other.training is not None and (self.pictures or other.pictures):
            unlisted = KnownPictures(complete=False)
            self.pictures = (self.pictures or unlisted) | (other.pictures or unlisted)
        elif other.training is not None:
            self.pictures = other.pictures
        if other.training is not None:
            self._begin(other.training.dim_in)
            self.training.merge(other.training)
            self.held_out.merge(other.held_out)
            self._sample.merge(other._sample)
        self.parts += other.parts
        self.left_out += other.left_out

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """A random sample of the held-out pairs, all where they are few: two float32 (k, d), perturbed and original."""
        perturbed, originals = self._sample.rows
        return perturbed, originals

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically. Raises BadInput: there are no pairs; OutputError."""
        if self.training is None:
            raise BadInput(f"{self.transform}: no pair of templates to sum; give more images")
        counts = _Counts(self.training.n, self.held_out.n)
        header = _Header(self.transform, self.recognizer, tuple(self.parts), counts, self.left_out)
        tensors = {f"{side}.{m}": np.atleast_1d(getattr(getattr(self, side), m)) for side in _SIDES for m in _MOMENTS}
        tensors |= {"sample": self._sample.rows, "priorities": self._sample.priorities}
        contiguous = {name: np.ascontiguousarray(values, np.float64) for name, values in tensors.items()}
        about, pictures = written_pictures(self.pictures)
        _KIND.write(path, header.as_json() | about, contiguous | pictures)

    def _begin(self, dim: int) -> None:
        if self.training is None:
            self.training, self.held_out = GramAccumulator(dim, dim), GramAccumulator(dim, dim)
            self._sample = _Sample(dim)


def load_sums(path: Path | str) -> MappingSums:
    """Read sums that `MappingSums.save` wrote, also of an older version.

    Raises:
        BadInput: naming the file: as `tensor_file.Kind.read`; malformed entries, wrong shapes, NaN or infinite numbers.
    """
    path = Path(path)
    held, tensors, _ = _KIND.read(path, _TENSORS, PICTURES)
    pictures = read_pictures(path, held, tensors)
    tensors = {name: tensors[name] for name in _TENSORS}
    header = _Header.from_json(path, held)
    try:
        parse_transform(header.transform)
    except UsageError as error:  # it also becomes the name of a file
        raise BadInput(f"{path}: {error}") from None
    for part in header.parts:
        Part.from_json(path, part)
    sums = MappingSums(header.transform, header.recognizer, list(header.parts))
    sums.left_out, sums.pictures = header.left_out, pictures
    dim = tensors["training.mean_in"].size
    shapes = {"mean_in": (dim,), "mean_out": (dim,), "in_in": (dim, dim), "in_out": (dim, dim), "out_out": (1,)}
    kept = tensors["priorities"].size
    expected = {f"{side}.{moment}": shape for side in _SIDES for moment, shape in shapes.items()}
    expected |= {"sample": (2, kept, dim), "priorities": (kept,)}
    counts = [header.n.training, header.n.held_out]
    if dim == 0 or any(tensors[name].shape != shape for name, shape in expected.items()) or kept > counts[1]:
        raise BadInput(f"{path}: its tensors do not fit together; make it again")
    if not all(np.isfinite(values).all() for values in tensors.values()):
        raise BadInput(f"{path}: holds NaN or infinite numbers; make it again")
    sums._begin(dim)
    for side, n in zip(_SIDES, counts, strict=True):
        gram = getattr(sums, side)
        gram.n = n
        for moment in _MOMENTS:
            value = tensors[f"{side}.{moment}"]
            setattr(gram, moment, float(value[0]) if moment == "out_out" else value)
    sums._sample.rows, sums._sample.priorities = tensors["sample"].astype(np.float32), tensors["priorities"]
    return sums


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two parts share pairs: people of one store, or images of two."""
    first, second = (Part.from_json("the sums", part) for part in (one, other))
    if first.store != second.store:
        return not set(first.images).isdisjoint(second.images)
    return first.people is None or second.people is None or not set(first.people).isdisjoint(second.people)


class _Sample:
    """A random sample of held-out pairs, of bounded size and the same however they are blocked."""

    def __init__(self, dim: int) -> None:
        self.limit = max(1, _SAMPLE_NUMBERS // dim)
        self._random = np.random.default_rng(0)
        self.priorities = np.empty(0)
        self.rows = np.empty((2, 0, dim), np.float32)

    def add(self, perturbed: np.ndarray, original: np.ndarray) -> None:
        """Keep the rows with the lowest of one stream of random numbers."""
        priorities = self._random.random(len(perturbed))
        highest = self.priorities.max() if len(self.priorities) == self.limit else np.inf
        new = priorities < highest
        if new.any():
            self._take(np.stack([perturbed[new], original[new]]).astype(np.float32), priorities[new])

    def merge(self, other: _Sample) -> None:
        """Keep the rows with the lowest numbers of both."""
        self._take(other.rows, other.priorities)

    def _take(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        self.rows = np.concatenate([self.rows, rows], axis=1)
        self.priorities = np.concatenate([self.priorities, priorities])
        if len(self.priorities) > self.limit:
            keep = np.sort(np.argsort(self.priorities, kind="stable")[: self.limit])
            self.rows, self.priorities = self.rows[:, keep], self.priorities[keep]
