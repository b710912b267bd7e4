"""Store → store: the same images, their templates changed shard by shard; resumable to the byte."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from facedecode import __version__
from facedecode.annotations.protocols import select_people
from facedecode.attributes.disentangler import KEEP, Disentangler, load_disentangler
from facedecode.decoders.own_templates import check_store
from facedecode.errors import BadInput, FacedecodeWarning, OutputError
from facedecode.files import LOCK_NAME, json_text, remove_stale
from facedecode.identity import RecognizerId, Score
from facedecode.known_pictures import Known
from facedecode.mapping.maps import Mapping, load_mapping
from facedecode.progress import Progress, silent
from facedecode.store import Store, StoreWriter, require_same_recognizer
from facedecode.store.layout import MANIFEST, PROGRESS, has_marker, recorded_settings
from facedecode.store.processing import added_people, inherited, require_extracted, require_unprotected
from facedecode.templates.jobs import TransformJob
from facedecode.templates.protection import (
    key_id,
    make_scheme,
    new_key,
    protected_recognizer,
    read_key,
    refuse_key,
    write_key,
)


class MappedStore(Store):
    """A store with its templates mapped; its manifest records the map as `transform --mapping` would."""

    def __init__(self, store: Store, mapping: Mapping) -> None:
        """mapping: loaded from a file. Raises BadInput as `Mapping.require_templates`."""
        mapping.require_templates(store.recognizer, store.manifest, store.folder)
        check_store(store)
        people = added_people(store.manifest, mapping.fitted_on or ())
        manifest = replace(store.manifest, mapping=describe_mapping(mapping), fitted_on=people)
        super().__init__(store.folder, manifest)
        self.known = store.known | mapping.known
        self.mapping = mapping

    def shards(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """As `Store.shards`, mapped."""
        return ((self.mapping.apply(templates), table) for templates, table in super().shards())

    def templates(self) -> np.ndarray:
        """As `Store.templates`, mapped."""
        return self.mapping.apply(super().templates())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """As `Store.take`, mapped."""
        return self.mapping.apply(super().take(rows))


# Of a template's length that is the same for everybody: above it, half of a biohash's bits are nearly constant.
_OFF_CENTER = 0.7


@dataclass(frozen=True)
class Operation:
    """What is done to templates; `recognizer` and `score` are those of the new ones."""

    kind: Literal["protection", "mapping", "disentanglement"]
    apply: Callable[[np.ndarray], np.ndarray]  # float32 (n, dim) → float32 (n, dim out)
    recognizer: RecognizerId
    score: Score
    about: dict[str, Any]  # JSON that decides the numbers: the manifest's field that is called like the kind
    keeps_length: bool = False  # of every template
    # The people and the images of unnamed people that a center is the mean of; `about` has a hash of it.
    center_of: dict[str, list[str]] = field(default_factory=dict)
    fitted_on: Known = field(default_factory=Known)  # whom and what: nobody should judge it by their templates


@dataclass(frozen=True)
class Transformed:
    """What a run left: templates in the store, how many of them were there before, and the name of their recognizer."""

    count: int
    resumed: int
    recognizer: str


def transform(job: TransformJob, progress: Progress = silent) -> Transformed:
    """Make the store of protected, mapped or disentangled templates, and the file of a new key.

    progress: called with (templates done, all templates).

    Raises: as `transform_store`, the operations, and what reads the job's files.
    """
    store, begin, overwrite = Store.open(job.store), None, job.overwrite
    if job.mapping is not None:
        operation = mapping_operation(store, load_mapping(job.mapping))
    elif job.disentangle is not None:
        operation = disentanglement_operation(store, load_disentangler(job.disentangle), job)
    else:
        require_unprotected(store)
        public = Store.open(job.center) if job.center else None
        key = read_key(job.key_file) if job.key_file else _own_key(job)
        operation = protection_operation(
            store, job.protect, key, bits=job.bits, public=public, public_people=job.center_people
        )
        if job.new_key and not job.new_key.exists():
            begin = partial(write_key, job.new_key, key)
            overwrite = overwrite or _lost_its_key(job.output)
    return transform_store(store, job.output, operation, overwrite, progress, begin)


def _own_key(job: TransformJob) -> bytes:
    """A new key; or the one at `new_key`, where a run of the same output wrote it: it was killed, or is done.

    Raises OutputError: another file is at `new_key`, or the key of a finished store that is to be replaced.
    """
    made = recorded_settings(job.output).get("protection")
    stopped = any((job.output / name).exists() for name in (PROGRESS, LOCK_NAME))
    if isinstance(made, dict) and (stopped or not job.overwrite) and job.new_key.is_file():
        remove_stale(job.new_key.parent)  # a killed run's second name of the key
        key = read_key(job.new_key)
        if key_id(key) == made.get("key_id"):
            return key
    refuse_key(job.new_key)
    return new_key()


def _lost_its_key(output: Path) -> bool:
    """Whether a run was killed after it had begun this store and before it had written its key, or any template."""
    begun = has_marker(output, PROGRESS) and not has_marker(output, MANIFEST)
    return begun and "protection" in recorded_settings(output) and not any(output.glob("*.npy"))


def mapping_operation(store: Store, mapping: Mapping) -> Operation:
    """Map a store's templates by a map that was loaded from a file; warns if that undoes another perturbation.

    Raises BadInput as `Mapping.require_templates`.
    """
    mapping.require_templates(store.recognizer, store.manifest, store.folder)
    check_store(store)
    mapping.warn_of_other_faces(store.manifest, store.folder)
    about = describe_mapping(mapping)
    return Operation("mapping", mapping.apply, store.recognizer, store.score, about, fitted_on=mapping.known)


def describe_mapping(mapping: Mapping) -> dict[str, str]:
    """JSON: which map, loaded from a file, templates were mapped by: the manifest's field `mapping`."""
    return {"undoes": mapping.transform, "sha256": mapping.source_sha256}


def disentanglement_operation(store: Store, disentangler: Disentangler, job: TransformJob) -> Operation:
    """Take an attribute out of a store's templates by a disentangler that was loaded from a file.

    Raises: as `require_extracted`, `Disentangler.require_recognizer`, `require_components` and `require_parts`.
    """
    require_extracted(store)
    disentangler.require_recognizer(store.recognizer)
    disentangler.require_components(job.components)
    how: dict[str, Any] = {"part": "identity"}
    apply = partial(disentangler.identity, components=job.components)
    if job.components is not None:
        how["components"] = job.components
    if job.dependent is not None or job.independent is not None:
        how = {"dependent": job.dependent or KEEP, "independent": job.independent or KEEP}
        disentangler.require_parts(**how)
        apply = partial(disentangler.resynthesize, **how)
    about = {"attribute": disentangler.attribute, "sha256": disentangler.source_sha256, **how}
    known = disentangler.known
    return Operation("disentanglement", apply, store.recognizer, store.score, about, fitted_on=known)


def protection_operation(
    store: Store,
    scheme: str,
    key: bytes,
    *,
    bits: int | None = None,
    public: Store | None = None,
    public_people: Path | None = None,
) -> Operation:
    """Protect a store's templates with a key; see `protection.make_scheme`.

    public: a store of the same recognizer. The mean template of it, or of `public_people`, is the center.

    Raises BadInput: the store's templates are protected already, or `public` is another recognizer's. UsageError: see
    `protection.make_scheme`. Warns FacedecodeWarning: no center for templates that are far off it.
    """
    require_unprotected(store)
    center, source, center_of = None, None, {}
    if public is not None:
        require_same_recognizer(store.recognizer, public.recognizer, f"the center's store {public.folder}")
        chosen = select_people(public.identities(), public_people)
        center = public.templates()[chosen].mean(axis=0, dtype=np.float64)
        center_of = _whose(public, chosen)
        source = {"store": public.fingerprint, "images": len(chosen), "of_sha256": center_of_sha256(center_of)}
    made = make_scheme(scheme, key, store.dim, store.score, bits=bits, center=center)
    if scheme == "biohash" and center is None:
        _warn_off_center(store)
    about = {**made.describe(), "center": source}
    recognizer = protected_recognizer(store.recognizer, about, made.dim, made.score)
    return Operation(
        "protection", made.protect, recognizer, made.score, about, scheme == "rotation", center_of=center_of
    )


def center_of_sha256(center_of: dict[str, Any]) -> str:
    """What `about` records of the people of a center: SHA-256 of their JSON."""
    return hashlib.sha256(json_text(center_of).encode()).hexdigest()


def _whose(store: Store, rows: np.ndarray) -> dict[str, list[str]]:
    """`Operation.center_of` of some rows. BadInput: one with neither name nor path, which nobody could check."""
    names, paths = store.identities(), store.paths()
    unnamed = [paths[i] for i in rows if names[i] is None]
    if None in unnamed:
        raise BadInput(f"{store.folder}: a template with neither person nor image cannot be part of a center")
    return {"people": sorted({names[i] for i in rows} - {None}), "paths": sorted(unnamed)}


def transform_store(
    store: Store,
    output: Path,
    operation: Operation,
    overwrite: bool = False,
    progress: Progress = silent,
    begin: Callable[[], None] | None = None,
) -> Transformed:
    """Write the store of an operation's templates: same rows, failures and source root, shard for shard.

    progress: called with (templates done, all templates).
    begin: called once, right before the first shard is written (it writes a new key).

    Raises OutputError, OutputInUse: see `StoreWriter`; also where `output` is the store itself. BadInput: the operation
    makes NaN or infinite numbers.
    """
    if output.exists() and output.resolve() == store.folder.resolve():
        raise OutputError(f"{output}: is the store that is to be read; name another folder")
    people = added_people(store.manifest, operation.fitted_on.people)
    manifest = {
        **inherited(store),
        "l2_normalized": operation.keeps_length and store.manifest.l2_normalized,
        operation.kind: operation.about,
        **({"center_of": operation.center_of} if operation.center_of else {}),
        **({"fitted_on": people} if people else {}),
        "score": operation.score,
        "tool_version": __version__,
    }
    settings = {"source": store.fingerprint, operation.kind: operation.about}
    shard_rows = store.manifest.shard_rows
    pictures = (store.known | operation.fitted_on).pictures
    with StoreWriter(
        output, settings, store.root, operation.recognizer, shard_rows, overwrite, manifest, pictures
    ) as writer:
        resumed = len(store) if writer.complete else writer.resume_inputs
        if not writer.complete:
            done = 0
            progress(resumed, len(store))
            for templates, table in store.shards():
                done += len(templates)
                if done > writer.resume_inputs:
                    made = operation.apply(templates)
                    if begin:
                        writer.begin()  # first: then the store tells whose the key is
                        begin()
                        begin = None
                    writer.append(made, table.to_pylist(), [], done)
                    progress(done, len(store))
            writer.finish(store.failures())
    return Transformed(len(store), resumed, operation.recognizer.name)


def _warn_off_center(store: Store) -> None:
    templates, _ = next(store.shards())
    share = np.linalg.norm(templates.mean(axis=0, dtype=np.float64)) / np.linalg.norm(templates, axis=1).mean()
    if share > _OFF_CENTER:
        warnings.warn(
            f"{store.folder}: {share:.0%} of a template's length is the same for everybody, so most bits of a biohash "
            "without a center are, too; give --center a store of a public set",
            FacedecodeWarning,
            stacklevel=3,
        )
