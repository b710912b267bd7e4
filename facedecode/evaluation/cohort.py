"""Images of people whom no decoder was trained on, and the recognizers that judge pictures made of them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from facedecode.annotations.protocols import people_names
from facedecode.errors import BadInput, FacedecodeWarning, UsageError, some_of
from facedecode.files import sha256_file
from facedecode.known_pictures import NAME, SAME_FILE, SAME_PICTURE, Known, KnownPictures, MadeBy
from facedecode.memory import require_memory_for_pairs
from facedecode.names import known_otherwise_in_lfw
from facedecode.pictures.finding import folder_identity
from facedecode.recognizers.registry import known_to
from facedecode.report.text import be, counted
from facedecode.statistics.scores import AllPairs, encode_people, mated_non_mated_scores
from facedecode.store import Store, Templates, require_same_recognizer
from facedecode.store.processing import refuse_done, require_unprotected

if TYPE_CHECKING:  # these need torch
    from facedecode.decoders import Decoder
    from facedecode.mapping.maps import Mapping as TemplateMapping
    from facedecode.recognizers.recognizer import Recognizer


SCORES = {"cosine": "cosine", "negative-euclidean": "negative Euclidean distance"}


@dataclass(frozen=True)
class UnseenImages:
    """The images of an evaluation.

    rows: a store's rows, n dicts; of images that gave no template, at the end, path and identity only.
    templates: float32 (n, dim) of the attacked recognizer; zeros where missing, bool (n,) (failure to acquire).
    absent: people of the people file who have no image in the store. beyond: images that a limit left out.
    twice: the person of each image that is left out, as training has seen that person under another name of LFW's.
    made_by: see `JudgedImages`. told: sentences of `refuse_known`.
    """

    rows: list[dict]
    templates: np.ndarray
    missing: np.ndarray
    absent: Sequence[str] = ()
    beyond: int = 0
    twice: Sequence[str] = ()
    made_by: MadeBy | None = None
    told: Sequence[str] = ()

    @property
    def judged(self) -> JudgedImages:
        """What tells whether something has seen them."""
        return JudgedImages(self.rows, self.templates, self.made_by)

    @property
    def identities(self) -> list[str]:
        """The person of each image."""
        return [row["identity"] for row in self.rows]

    @property
    def acquired(self) -> list[dict]:
        """The rows that have a template, and so a portrait."""
        return [row for row, gone in zip(self.rows, self.missing, strict=True) if not gone]

    def warnings(self, what: str = "") -> list[str]:
        """Where a limit or the store left images or people out, in sentences. what: of the images (' judged')."""
        told = []
        if self.beyond:
            told.append(f"Only the first {len(self.rows):,} images{what} were taken: a trial run, not a result.")
        if self.absent:
            names = some_of(self.absent)
            told.append(f"{len(self.absent):,} people{what} have no image in the store ({names}).")
        return [*told, *twice_warning(self.twice), *self.told]

    @property
    def acquired_identities(self) -> list[str]:
        """The person of each image that has a template."""
        return [row["identity"] for row in self.acquired]

    def acquired_of(self, names: Collection[str], limit: int | None = None) -> UnseenImages:
        """The images of some people that have a template; the first so many of them by path, if there is a limit."""
        rows = [i for i, row in enumerate(self.rows) if row["identity"] in names and not self.missing[i]]
        kept = rows if limit is None else sorted(rows, key=lambda i: self.rows[i]["path"])[:limit]
        images = [self.rows[i] for i in kept]
        beyond = len(rows) - len(kept)
        return replace(self, rows=images, templates=self.templates[kept], missing=self.missing[kept], beyond=beyond)


def unseen_images(
    store: Store, people: Path | None, limit: int | None = None, known: Collection[str] = ()
) -> UnseenImages:
    """The images of a people file's persons (of all, if None) in a store, with those that failed there.

    limit: the first so many images only, by path.
    known: people whom training has seen. Who of them LFW has under another name, too, is left out under that one; the
        others are for `require_unseen` and its like to refuse.

    BadInput where none of these people has a template, an image has no identity, or a template no image.
    """
    rows, templates = store.rows().to_pylist(), store.templates()
    failures = [failure["path"] for failure in store.failures()]
    failed = _failed_rows(failures, rows, store.manifest.identity_level)
    absent: list[str] = []
    beyond = 0
    if people is not None:
        wanted = set(people_names(people))
        keep = [i for i, row in enumerate(rows) if row["identity"] in wanted]
        rows, templates = [rows[i] for i in keep], templates[keep]
        failed = [row for row in failed if row["identity"] in wanted]
        absent = sorted(wanted - {row["identity"] for row in rows + failed})
    otherwise = known_otherwise_in_lfw({row["identity"] or "" for row in rows + failed}, known)
    keep = [i for i, row in enumerate(rows) if row["identity"] not in otherwise]
    twice = [row["identity"] for row in rows + failed if row["identity"] in otherwise] if keep else []
    if twice:  # of nobody else, those who ask whom training has seen refuse them
        rows, templates = [rows[i] for i in keep], templates[keep]
        failed = [row for row in failed if row["identity"] not in otherwise]
    if any(row["path"] is None for row in rows):
        raise BadInput(f"{store.folder}: has templates without an image; use a store made by 'extract'")
    if limit is not None:
        beyond = max(len(rows) + len(failed) - limit, 0)
        first = set(sorted(row["path"] for row in rows + failed)[:limit])
        keep = [i for i, row in enumerate(rows) if row["path"] in first]
        rows, templates = [rows[i] for i in keep], templates[keep]
        failed = [row for row in failed if row["path"] in first]
    if not rows:
        whose = "no image" if people is None else f"no image of the people of {people}"
        raise BadInput(f"{store.folder}: {whose} has a template in this store; give another --people, or store")
    encode_people([row["identity"] for row in rows + failed])  # refuses rows without a name
    missing = np.zeros(len(rows) + len(failed), bool)
    missing[len(rows) :] = True
    padded = np.concatenate([templates, np.zeros((len(failed), store.dim), np.float32)])
    return UnseenImages(rows + failed, padded, missing, absent, beyond, twice, store.made_by)


def known_people(stores: Iterable[Templates], decoders: Iterable[Decoder] = ()) -> set[str]:
    """Whom the recognizers of stores, what changed their templates, and decoders were trained or fitted on."""
    known: set[str] = set()
    for store in stores:
        made = store.recognizer.unprotected or store.recognizer
        known |= {*made.training_people, *store.manifest.fitted_on}
    return known.union(*(decoder.provenance.training.people or () for decoder in decoders))


def without_twice(
    rows: Sequence[int] | np.ndarray, identities: Sequence[str | None], known: Collection[str]
) -> tuple[list[int], list[str]]:
    """Rows whose people are not left out as `unseen_images` leaves them out; a warning where some are."""
    otherwise = known_otherwise_in_lfw({identities[i] or "" for i in rows}, known)
    kept = [i for i in rows if identities[i] not in otherwise]
    left_out = [identities[i] or "" for i in rows if identities[i] in otherwise]
    return (kept, twice_warning(left_out)) if kept else (list(rows), [])


def twice_warning(left_out: Sequence[str]) -> list[str]:
    """A warning of images that are left out, of the person of each: LFW has these people under two names."""
    if not left_out:
        return []
    people = sorted(set(left_out))
    return [
        f"{counted(len(left_out), 'image')} of {len(people)} people {be(len(left_out))} left out: LFW has them under "
        f"another name, too, and training has seen that one ({some_of(people)})."
    ]


@dataclass(frozen=True)
class JudgedImages:
    """Images that something is judged on.

    rows: a store's rows, or what there is of them: `identity`, `sha256`. templates: float (n, dim) of the images, made
    by `made_by`, zeros where there is none; None where there are none at hand.
    """

    rows: Sequence[Mapping[str, Any]]
    templates: np.ndarray | None = None
    made_by: MadeBy | None = None

    @classmethod
    def of_people(cls, identities: Iterable[str | None]) -> JudgedImages:
        """People without their images."""
        return cls([{"identity": name} for name in identities])

    @classmethod
    def of_store(cls, store: Store, rows: Sequence[int] | np.ndarray) -> JudgedImages:
        """The images of some rows of a store."""
        chosen = np.asarray(rows, np.int64)
        return cls(store.rows().take(chosen).to_pylist(), store.take(chosen), store.made_by)

    @property
    def known(self) -> Known:
        """What is made from these images."""
        people = {row["identity"] for row in self.rows} - {None}
        return Known(tuple(sorted(people)), KnownPictures.of(self.rows, self.templates, self.made_by))


def require_unseen(name: str, known: Known, images: JudgedImages) -> list[str]:
    """BadInput for a decoder that was trained on people or pictures it is to be judged on, or records no people.

    Returns and warns as `refuse_known`.
    """
    if not known.people:
        raise BadInput(f"decoder {name}: it does not record the people it was trained on; train it again")
    return refuse_known(f"decoder {name}: trained on", known, images)


def require_unseen_by_recognizer(recognizer: Recognizer, images: JudgedImages) -> list[str]:
    """BadInput for a recognizer that is known to be trained on people or pictures that it is to judge.

    It knows their faces better than others'. People held out of its training count as trained on. Of the registered
    recognizers nobody recorded the people they were trained on. Returns and warns as `refuse_known`.
    """
    return refuse_known(f"recognizer {recognizer.name}: trained on", known_to(recognizer.spec), images)


def require_unseen_by_mapping(mapping: TemplateMapping, images: JudgedImages) -> list[str]:
    """BadInput for a map that was fitted on people or pictures it is to be judged on, or does not record its people.

    People held out of its fit count as fitted on. Returns and warns as `refuse_known`.
    """
    name = f"mapping {mapping.transform}" if mapping.source is None else f"{mapping.source}: this mapping"
    if mapping.fitted_on is None:
        raise BadInput(
            f"{name} records no list of the people it was fitted on; fit it by 'facedecode fit-mapping --people'"
        )
    return refuse_known(f"{name} was fitted on", mapping.known, images)


def require_unseen_by_store(store: Templates, images: JudgedImages) -> list[str]:
    """BadInput for templates by a recognizer that was trained, or changed by what was fitted, on images judged.

    Returns and warns as `refuse_known`.
    """
    made_by = store.recognizer.unprotected or store.recognizer
    by = [name for name in ("mapping", "disentanglement") if getattr(store.manifest, name)]
    parts = {f"recognizer {made_by.name}: trained on": made_by.training_people}
    if store.manifest.fitted_on:
        parts[f"{store.folder}: the {' and '.join(by)} of these templates was fitted on"] = store.manifest.fitted_on
    for what, people in parts.items():
        refuse_known(what, Known(people, KnownPictures()), images)
    return refuse_known(list(parts)[-1], store.known, images)


def refuse_known(what: str, known: Known, images: JudgedImages) -> list[str]:
    """BadInput where images to be judged are of people known, or known pictures under whatever name.

    what: what knows them: "decoder ridge: trained on".

    Returns, and warns of (FacedecodeWarning), in sentences, what could not be compared.
    """
    if not known.people and known.pictures is None:
        return []
    verdicts = known.judge(images.rows, images.templates, images.made_by)
    of = [row for row, by in zip(images.rows, verdicts, strict=True) if by]
    if (verdicts == NAME).any():
        people = {row["identity"] for row in images.rows}
        shared = sorted({row["identity"] for row, by in zip(images.rows, verdicts, strict=True) if by == NAME})
        raise BadInput(
            f"{what} {len(shared)} of the {len(people)} people it is to be judged on ({some_of(shared)}); judge it on "
            "others"
        )
    if of:
        paths = some_of([row.get("path") or "an image without a file" for row in of])
        counts = {how: int((verdicts == how).sum()) for how in (SAME_FILE, SAME_PICTURE)}
        told_by = ", ".join(f"{how}: {count:,}" for how, count in counts.items() if count)
        raise BadInput(
            f"{what} {len(of):,} of the {len(verdicts):,} pictures it is to be judged on, under other names or none "
            f"({told_by}; {paths}); judge it on others"
        )
    unsaid = None if images.templates is None else known.not_compared(images.made_by)
    if unsaid is None:
        return []
    warnings.warn(f"{what} {unsaid}", FacedecodeWarning, stacklevel=3)
    return [f"{what} {unsaid}."]


@dataclass(frozen=True)
class Reference:
    """A recognizer that looks at pictures, with its own templates of the originals.

    templates: float32 (n, dim), zeros where there is none. missing: bool (n,).
    warnings: of `refuse_known`.
    """

    recognizer: Recognizer
    templates: np.ndarray
    missing: np.ndarray
    warnings: Sequence[str] = ()

    def judged(self, images: UnseenImages) -> JudgedImages:
        """The images with its templates of them."""
        return JudgedImages(images.rows, self.templates, MadeBy.of(self.recognizer.describe()))


@dataclass(frozen=True)
class Judge(Reference):
    """A reference that accepts or refuses. pairs: all pairs of its templates, which set its thresholds."""

    pairs: AllPairs = field(kw_only=True)


def make_judge(recognizer: Recognizer, store: Store, images: UnseenImages) -> Judge:
    """A judge from its store of the same images.

    Raises BadInput: as `make_reference`, or the store's images were transformed or attacked, or its templates mapped.
    WouldNotFit: the scores of all pairs would not fit in memory.
    """
    refuse_done(store.manifest, store.folder, reason="pictures are judged as they are")
    require_memory_for_pairs(len(images.rows))
    reference = make_reference(recognizer, store, images)
    pairs = mated_non_mated_scores(
        reference.templates, images.identities, recognizer.spec.score, missing=reference.missing
    )
    return Judge(reference.recognizer, reference.templates, reference.missing, reference.warnings, pairs=pairs)


def make_reference(recognizer: Recognizer, store: Store, images: UnseenImages) -> Reference:
    """A recognizer with its templates of the images, from its store of them.

    BadInput where the store is another recognizer's, or has other images; also as `require_unseen_by_store`.
    """
    told = require_unseen_by_recognizer(recognizer, images.judged)
    require_same_recognizer(store.recognizer, recognizer.describe(), f"the judge {recognizer.spec.name}")
    rows = store.rows().select(["path", "sha256"]).to_pylist()
    where = {row["path"]: i for i, row in enumerate(rows)}
    failed = {failure["path"] for failure in store.failures()}
    place = np.array([where.get(row["path"], -1) for row in images.rows])
    missing = place < 0
    if unknown := [row["path"] for row in images.rows if row["path"] not in where and row["path"] not in failed]:
        names = some_of(unknown)
        raise BadInput(f"{store.folder}: {len(unknown)} of the images are not in this store ({names})")
    for row, i in zip(images.rows, place, strict=True):
        if i >= 0 and row.get("sha256") and rows[i]["sha256"] and row["sha256"] != rows[i]["sha256"]:
            raise BadInput(f"{store.folder}: {row['path']} is another picture there; extract the same images")
    templates = np.where(missing[:, None], np.float32(0), store.templates()[place])
    told += require_unseen_by_store(store, JudgedImages(images.rows, templates, store.made_by))
    return Reference(recognizer, templates, missing, told)


def open_stores(folders: Sequence[Path]) -> dict[str, Store]:
    """Stores of raw templates by the names of their recognizers, in the order given.

    UsageError for two of one recognizer; BadInput for normalized or protected templates, or different transforms.
    """
    stores: dict[str, Store] = {}
    for folder in folders:
        store = Store.open(folder)
        name = store.recognizer.name
        if name in stores:
            raise UsageError(f"{folder} and {stores[name].folder} are both stores of {name}: give one a recognizer")
        if store.manifest.l2_normalized:
            raise BadInput(f"{folder}: its templates are normalized, and decoders take raw ones; give the raw store")
        require_unprotected(store)
        stores[name] = store
    if len({store.manifest.transform for store in stores.values()}) > 1:
        listed = ", ".join(f"{store.folder}: {store.manifest.transform}" for store in stores.values())
        raise BadInput(f"the stores are of images with different transforms ({listed}); extract them alike")
    return stores


def load_recognizers(
    stores: Mapping[str, Store], weights: Mapping[str, Path], device: str = "cpu"
) -> dict[str, Recognizer]:
    """The recognizers of `open_stores`' stores. weights: recognizer → file, where no package carries it.

    A file that was given without a name, and so has its own, is known by its content.

    Raises UsageError: weights of a recognizer that no store is of. MissingWeights, BadInput: as `load_recognizer`.
    """
    from facedecode.recognizers import load_recognizer

    told: dict[str, Path] = {}
    for given, file in weights.items():
        unnamed = given not in stores and given == file.name and file.is_file()
        sha256 = sha256_file(file) if unnamed else None
        of = [name for name, store in stores.items() if unnamed and store.recognizer.weights_sha256 == sha256]
        told |= dict.fromkeys(of or [given], file)
    weights = told
    if unused := sorted(set(weights) - set(stores)):
        raise UsageError(f"--weights {unused[0]}: no store is of that recognizer; there are {', '.join(stores)}")
    return {name: load_recognizer(store.recognizer, weights.get(name), device) for name, store in stores.items()}


def _failed_rows(paths: Sequence[str], rows: Sequence[dict], level: int = 1) -> list[dict]:
    """Rows for inputs that gave no template, each with the identity that `extract` gave it.

    A store does not keep that of a failure. It is the one of the folder's other images, or that of the folder's name.
    """
    known = {_folder(row["path"]): row["identity"] for row in rows if row["path"] is not None}
    return [
        {"path": path, "identity": known.get(folder, folder_identity(folder, PurePosixPath(), level))}
        for path in paths
        for folder in [_folder(path)]
    ]


def _folder(path: str) -> PurePosixPath:
    return PurePosixPath(path).parent
