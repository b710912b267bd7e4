"""Which pictures something was made from, whatever their files or people are called: one small file beside it.

A picture is known by its file, or by its template. Of each file there are eight bytes of its SHA-256, and of each
template 64 numbers of 8 bits: its direction, turned and cut by a fixed projection that keeps distances within about a
tenth. A template that is nearer to a known one than `nearness` of what known ones are apart is of the same picture:
copies of another quality or size, cropped or mirrored ones. `benchmarks/known_pictures.py` has measured it, for
templates of 128 and 512 numbers.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facedecode.errors import BadInput
from facedecode.files import json_text, sha256_of
from facedecode.identity import Name, RecognizerId, Sha256, is_sha256
from facedecode.names import shared_people
from facedecode.records import Record, plain
from facedecode.tensor_file import Kind

FILE = "known_pictures.safetensors"  # beside a decoder's card, a store's manifest …
NAME, SAME_FILE, SAME_PICTURE = "name", "same file", "same picture"  # what a judged image is known by
NEAR = 1 / 3
_KIND = Kind("list of known pictures", "train", version=1, migrations={}, remedy="make what it belongs to again")
_SIDE = 64  # numbers of a signature
_FILES = "files"
_MOST = 1 << 25  # pictures: there are data sets of 17 million
_MOST_RECOGNIZERS = 64
_FEWEST_NUMBERS = 12  # of templates by which copies are told: of 10 numbers 39 % with a tenth of noise, of 12 91 %
_BLOCK, _KNOWN_BLOCK = 256, 1 << 16  # judged and known signatures that are compared at once: 67 MB
_SAMPLE = 256  # known signatures that say how far apart they are
_ROUNDING = 1e-3  # of distances of equal signatures


@dataclass(frozen=True)
class MadeBy(Record):
    """What made templates, as far as they can be compared with others: templates tell of pictures if it is the same.

    name, weights_sha256, contract_sha256: of the recognizer. changed_by: the SHA-256 of what a manifest says of the
    mapping and the disentanglement that they went through; None if they went through none.
    """

    name: Name
    weights_sha256: Sha256 | None = None
    contract_sha256: Sha256 | None = None
    changed_by: Sha256 | None = None

    @classmethod
    def of(cls, recognizer: RecognizerId, *changes: Mapping[str, Any] | None) -> MadeBy:
        """changes: a manifest's `mapping` and `disentanglement`."""
        changed_by = sha256_of(json_text(plain(changes)).encode()) if any(changes) else None
        return cls(recognizer.name, recognizer.weights_sha256, recognizer.contract_sha256, changed_by)


@dataclass(frozen=True)
class _Header(Record):
    REMEDY: ClassVar[str] = _KIND.remedy

    recognizers: tuple[MadeBy, ...] = ()
    complete: bool = True


@dataclass(frozen=True, eq=False)
class KnownPictures:
    """Pictures, as far as they can be recognized again.

    files: the first 8 bytes of their files' SHA-256, uint64 (n,), sorted, each once.
    signatures: of their templates, by the recognizer that made them: int8 (m, 64 or less), sorted, each once.
    complete: whether they are all; not where something that led to their owner has no list.
    """

    files: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    signatures: Mapping[MadeBy, np.ndarray] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def of(
        cls, rows: Iterable[Mapping[str, Any]], templates: np.ndarray | None = None, made_by: MadeBy | None = None
    ) -> KnownPictures:
        """The pictures of a store's rows, which have `sha256` where the file is known.

        templates: float (n, dim), theirs, made by `made_by`; those of zeros say nothing.
        """
        signatures = {}
        if templates is not None and made_by is not None and len(templates):
            made = _signatures(templates)
            signatures[made_by] = _sorted(made[np.any(made, axis=1)])
        return cls(np.unique(_file_keys(rows)[0]), signatures)

    def __or__(self, other: KnownPictures) -> KnownPictures:
        """The pictures of both."""
        signatures, complete = dict(self.signatures), self.complete and other.complete
        for made_by, more in other.signatures.items():
            held = signatures.get(made_by)
            if held is not None:
                alike = held.shape[1] == more.shape[1]  # or they are not by one recognizer, whatever it is called
                complete &= alike
                more = _sorted(np.concatenate([held, more])) if alike else held
            signatures[made_by] = more
        return KnownPictures(np.union1d(self.files, other.files), signatures, complete)

    def __repr__(self) -> str:
        return f"KnownPictures({len(self.files):,} files, templates of {', '.join(m.name for m in self.signatures)})"

    def judge(
        self, rows: Sequence[Mapping[str, Any]], templates: np.ndarray | None, made_by: MadeBy | None
    ) -> np.ndarray:
        """What each image is known by: `SAME_FILE`, `SAME_PICTURE` or "", (n,) of text.

        rows: with `sha256` where the file is known. templates: float (n, dim), made by `made_by`; zeros where
        there is none.
        """
        verdicts = np.full(len(rows), "", object)
        if templates is not None and (near := self._near(templates, made_by)) is not None:
            verdicts[near] = SAME_PICTURE
        keys, there = _file_keys(rows)
        verdicts[there[np.isin(keys, self.files)]] = SAME_FILE
        return verdicts

    def compares(self, made_by: MadeBy | None) -> bool:
        """Whether templates that this made can be compared with all that are known."""
        return all(made_by == known for known in self.signatures)

    def _near(self, templates: np.ndarray, made_by: MadeBy | None) -> np.ndarray | None:
        """Which templates are of a known picture, bool (n,); None where none made by the same is known."""
        known = None if made_by is None else self.signatures.get(made_by)
        judged = _signatures(templates)
        if known is None or not len(known) or known.shape[1] != judged.shape[1]:
            return None
        there = np.any(judged, axis=1)
        sample = _units(known[np.linspace(0, len(known) - 1, min(len(known), _SAMPLE)).astype(int)])
        apart = _distances(sample @ sample.T)[np.triu_indices(len(sample), 1)]
        nearest = np.zeros(len(judged), np.float32)  # cosines
        for start in range(0, len(known), _KNOWN_BLOCK):
            block = _units(known[start : start + _KNOWN_BLOCK]).T
            for first in range(0, len(judged), _BLOCK):
                part = slice(first, first + _BLOCK)
                np.maximum(nearest[part], (_units(judged[part]) @ block).max(1), out=nearest[part])
        most = max(nearness(np.shape(templates)[1]) * float(np.median(apart)) if len(apart) else 0.0, _ROUNDING)
        return there & (_distances(nearest) < most)

    def entries(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `of_entries` makes them of again: JSON, and tensors by name."""
        made_by = sorted(self.signatures, key=lambda each: [part or "" for part in astuple(each)])
        tensors = {_FILES: np.ascontiguousarray(self.files, np.uint64)}
        tensors |= {f"{i:02d}": np.ascontiguousarray(self.signatures[each], np.int8) for i, each in enumerate(made_by)}
        return _Header(tuple(made_by), self.complete).as_json(), tensors

    def write(self, path: Path) -> str:
        """Write them, atomically; equal pictures give equal bytes. Returns the file's SHA-256. Raises OutputError."""
        return _KIND.write(path, *self.entries())

    @classmethod
    def read(cls, path: Path, sha256: str | None = None) -> KnownPictures:
        """Read what `write` wrote. sha256: of the file, as its owner records it.

        Raises BadInput naming the file: missing, damaged, another one than is recorded, or not what `write` writes.
        """
        if not path.is_file():
            raise BadInput(f"{path}: no such file, and its owner records it; copy it from where that was made")
        held, tensors, found = _KIND.read(path, None)
        if sha256 not in (None, found):
            raise BadInput(f"{path}: wrong sha256: changed since it was written; {_KIND.remedy}")
        return cls.of_entries(path, held, tensors)

    @classmethod
    def of_entries(cls, path: Path, held: Any, tensors: Mapping[str, np.ndarray]) -> KnownPictures:
        """Those of `entries`, from a file. Raises BadInput naming it: they are not what `entries` gives."""
        header = _Header.from_json(path, held)
        names = [f"{i:02d}" for i in range(len(header.recognizers))]
        files = tensors.get(_FILES)
        sound = {*tensors} == {_FILES, *names} and len(names) <= min(len({*header.recognizers}), _MOST_RECOGNIZERS)
        sound = sound and files is not None and files.dtype == np.uint64 and files.ndim == 1 and len(files) <= _MOST
        sound = sound and bool((files[1:] > files[:-1]).all()) and all(_are_signatures(tensors[name]) for name in names)
        if not sound:
            raise BadInput(f"{path}: holds no list of known pictures; {_KIND.remedy}")
        signatures = {each: tensors[name] for each, name in zip(header.recognizers, names, strict=True)}
        return cls(files, signatures, header.complete)


@dataclass(frozen=True)
class Known:
    """Whom and which pictures something was made from.

    people: by name. pictures: None where they are not recorded, as before facedecode kept them.
    """

    people: Collection[str] = ()
    pictures: KnownPictures | None = None

    def __or__(self, other: Known) -> Known:
        """Those of both."""
        lists = [each.pictures for each in (self, other) if each.pictures is not None]
        unlisted = any(each.people and each.pictures is None for each in (self, other))
        pictures = functools.reduce(operator.or_, lists, KnownPictures(complete=not unlisted)) if lists else None
        return Known(tuple(sorted({*self.people, *other.people})), pictures)

    def not_compared(self, made_by: MadeBy | None) -> str | None:
        """What `judge` cannot tell of templates that this made, in words; None where it can tell all."""
        pictures = self.pictures
        not_all = "pictures that are not all recorded, so that those judged"
        if pictures is None:
            return f"{not_all} were compared with them by name only" if self.people else None
        if not pictures.complete:
            return f"{not_all} may be among them under other names"
        if not pictures.compares(made_by):
            by_file = "pictures that were compared with those judged by file only"
            if made_by is not None and made_by.changed_by:
                return f"{by_file}, as these templates were changed since"
            return f"{by_file}, as their templates are another recognizer's, or were changed since"
        if not all(len(known) > 1 and known.shape[1] >= _FEWEST_NUMBERS for known in pictures.signatures.values()):
            return (
                "pictures of which changed copies cannot be found, as there is one only, or templates have fewer than "
                f"{_FEWEST_NUMBERS} numbers"
            )
        return None

    def judge(
        self,
        rows: Sequence[Mapping[str, Any]],
        templates: np.ndarray | None = None,
        made_by: MadeBy | None = None,
    ) -> np.ndarray:
        """What each image is known by: `NAME`, or as `KnownPictures.judge`; (n,) of text."""
        if self.pictures is None:
            verdicts = np.full(len(rows), "", object)
        else:
            verdicts = self.pictures.judge(rows, templates, made_by)
        names = [row.get("identity") for row in rows]
        shared = shared_people(filter(None, names), self.people)
        verdicts[[name in shared for name in names]] = NAME
        return verdicts


def nearness(dim: int) -> float:
    """How near templates of `dim` numbers are if they are of one picture, in what pictures are apart.

    `NEAR` for those of 24 numbers or more. Shorter ones of different pictures come nearer: of n numbers that vary alike
    a share of r^(n-1) are within r. So r is chosen that this share stays the same.
    """
    return NEAR ** max(1.0, 23 / max(dim - 1, 1))


def _file_keys(rows: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The keys of the files that are known, uint64, and the numbers of their rows."""
    digests = [(i, row["sha256"]) for i, row in enumerate(rows) if is_sha256(row.get("sha256") or "")]
    keys = np.array([int(digest[:16], 16) for _, digest in digests], np.uint64)
    return keys, np.array([i for i, _ in digests], np.int64)


def _signatures(templates: np.ndarray) -> np.ndarray:
    """Signatures of templates (n, dim): int8 (n, 64), or (n, k) of fewer numbers; zeros of zeros."""
    templates = np.asarray(templates, np.float32)
    projection = _projection(templates.shape[1]).T
    made = np.zeros((len(templates), projection.shape[1]), np.int8)
    for start in range(0, len(templates), _KNOWN_BLOCK):
        values = templates[start : start + _KNOWN_BLOCK]
        largest = np.abs(values).max(1, keepdims=True)
        turned = (values / np.where(largest > 0, largest, 1)) @ projection
        largest = np.abs(turned).max(1, keepdims=True)
        made[start : start + len(values)] = np.rint(127 * turned / np.where(largest > 0, largest, 1))
    return made


def _projection(dim: int) -> np.ndarray:
    """Rows of ±1, float32 (64 or less, dim): some of a Hadamard matrix's, columns with signs, as Ailon and Chazelle's.

    A fixed one: NumPy keeps the stream of this generator for good.
    """
    size = 1 << (dim - 1).bit_length()
    random = np.random.RandomState(0)
    rows, signs = random.permutation(size)[:_SIDE], 1 - 2 * random.randint(0, 2, dim)
    common = rows[:, None] & np.arange(dim)[None]
    for shift in (16, 8, 4, 2, 1):
        common ^= common >> shift
    return ((1 - 2 * (common & 1)) * signs).astype(np.float32)


def _are_signatures(values: np.ndarray) -> bool:
    shaped = values.dtype == np.int8 and values.ndim == 2 and len(values) <= _MOST and 1 <= values.shape[1] <= _SIDE
    return shaped and bool(values.any(axis=1).all())


def _sorted(signatures: np.ndarray) -> np.ndarray:
    return np.unique(signatures, axis=0)


def _units(signatures: np.ndarray) -> np.ndarray:
    values = signatures.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)


def _distances(cosines: np.ndarray) -> np.ndarray:
    """Between the ends of unit vectors."""
    return np.sqrt(np.maximum(2 - 2 * cosines, 0))
