"""What an evaluation of template protection is made on: the same images' templates, unprotected and under keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facedecode.annotations.protocols import excluded_people, people_names
from facedecode.errors import BadInput, some_of
from facedecode.evaluation.cohort import (
    UnseenImages,
    known_people,
    refuse_known,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.jobs import ProtectionJob
from facedecode.names import shared_people
from facedecode.progress import Progress, silent
from facedecode.statistics.scores import encode_people
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import require_unprotected
from facedecode.templates.protection import Scheme, make_scheme, study_key
from facedecode.templates.transformation import center_of_sha256

KEYS = 5


@dataclass(frozen=True)
class Protected:
    """Images with their templates, unprotected (in `images`) and under each key, float32 (n, dim out), row by row."""

    images: UnseenImages
    keys: list[np.ndarray]


@dataclass(frozen=True)
class Study:
    """Templates of a store under two keys or more.

    store: of the unprotected templates.
    scheme: JSON, what the schemes have in common: its name, dim and center.
    score: how protected templates are compared.
    key_ids: of the keys.
    test, training: images of the people to judge on, and of those an attacker trains on (None: no attack).
    stores: of the protected templates; none where the keys are made here.
    protect: recognizer's templates → templates under the first key; None where the key is not at hand.
    protect_apart: protects the test images with a key for each person; None where keys are not made here.
    """

    store: Store
    scheme: dict
    score: str
    key_ids: list[str]
    test: Protected
    training: Protected | None
    stores: Sequence[Store] = ()
    protect: Callable[[np.ndarray], np.ndarray] | None = None
    protect_apart: Callable[[Progress], np.ndarray] | None = None


def make_study(job: ProtectionJob) -> Study:
    """The study of a job: with keys made here, or of its stores.

    Raises UsageError, BadInput: as `derived_study` and `stored_study`.
    """
    store, *protected = (Store.open(folder) for folder in job.stores)
    return stored_study(store, protected, job) if job.scheme is None else derived_study(store, job)


def derived_study(store: Store, job: ProtectionJob) -> Study:
    """Protect a store's templates under keys that follow from the seed, for a study that others can repeat.

    Raises UsageError: an unknown scheme, or bits out of range. BadInput: the store's templates are protected already;
    people that are not in it or in both groups.
    """
    require_unprotected(store)
    test, training = _select(store, job, _known(store, (), job))
    mean = None
    if job.scheme == "biohash" and job.center is not False:
        mean = training.templates.mean(axis=0, dtype=np.float64)

    def make(label: str) -> Scheme:
        key = study_key(job.seed, label)
        return make_scheme(job.scheme, key, store.dim, store.score, bits=job.bits, center=mean)

    schemes = [make(f"key {k + 1}") for k in range(job.keys or KEYS)]

    def protected(images: UnseenImages) -> Protected:
        return Protected(images, [made.protect(images.templates) for made in schemes])

    def protect_apart(progress: Progress = silent) -> np.ndarray:
        from threadpoolctl import threadpool_limits  # of scikit-learn's dependencies

        acquired = np.flatnonzero(~test.missing)
        names, codes = encode_people(test.acquired_identities)
        templates = np.zeros((len(test.rows), schemes[0].dim), np.float32)
        progress(0, len(names))
        # Decompositions of small matrices, one a person: threads only get into each other's way.
        with threadpool_limits(1):
            for k, name in enumerate(names):
                rows = acquired[codes == k]
                templates[rows] = make(f"person {name}").protect(test.templates[rows])
                progress(k + 1, len(names))
        return templates

    described = schemes[0].describe()
    del described["key_id"]
    return Study(
        store=store,
        scheme=described,
        score=schemes[0].score,
        key_ids=[made.key_id for made in schemes],
        test=protected(test),
        training=None if training is None else protected(training),
        protect=schemes[0].protect,
        protect_apart=protect_apart,
    )


def stored_study(store: Store, protected: Sequence[Store], job: ProtectionJob) -> Study:
    """Take the protected templates from stores that `transform --protect` made of `store`, one a key.

    Raises BadInput: a store that should be protected is not, or the other way about; two under one key; different
    schemes, bits or centers; other images than the store's, or another recognizer's templates; a center that is the
    mean of people to judge on, or of people who are not recorded.
    """
    require_unprotected(store)
    first = protected[0]
    by_key: dict[str, Store] = {}
    for other in protected:
        about = other.recognizer.protection
        if about is None or other.recognizer.unprotected is None:
            raise BadInput(f"{other.folder}: its templates are not protected; make it by transform --protect")
        require_same_recognizer(other.recognizer.unprotected, store.recognizer, f"{store.folder}")
        if _common(other) != _common(first):
            raise BadInput(
                f"{first.folder} and {other.folder}: protected in different ways (scheme, bits or center); they "
                "must differ by their keys only"
            )
        if (key := about["key_id"]) in by_key:
            raise BadInput(f"{by_key[key].folder} and {other.folder}: protected with one and the same key")
        by_key[key] = other
        _require_same_images(store, other)
    known = _known(store, protected, job)
    test, training = _select(store, job, known)
    for other in protected:
        _require_foreign_center(other, test)
    return Study(
        store=store,
        scheme=_common(first),
        score=first.score,
        key_ids=list(by_key),
        test=Protected(test, [unseen_images(other, job.people, known=known).templates for other in protected]),
        training=None
        if training is None
        else Protected(training, [_training(other, job).templates for other in protected]),
        stores=protected,
    )


def _require_foreign_center(store: Store, test: UnseenImages) -> None:
    """Refuse a store whose center is the mean of people to judge on, or does not say whose it is. Raises BadInput."""
    protection = store.recognizer.protection
    if protection.get("center_sha256") is None:
        return
    center_of = store.manifest.center_of
    center = protection.get("center")
    if not isinstance(center, dict) or center_of_sha256(center_of) != center.get("of_sha256"):
        raise BadInput(f"{store.folder}: does not record whose mean its center is; make it again by transform")
    people, paths = shared_people(test.identities, center_of.get("people", ())), {*center_of.get("paths", ())}
    if shared := sorted(people | {row["identity"] for row in test.rows if row["path"] in paths}):
        raise BadInput(
            f"{store.folder}: {len(shared)} of the people to judge on are in its center ({some_of(shared)}); give "
            "--people others, or --center-people of transform"
        )


def _common(store: Store) -> dict:
    """The protection of a store, less its key."""
    return {name: value for name, value in store.recognizer.protection.items() if name != "key_id"}


def _require_same_images(store: Store, other: Store) -> None:
    columns = ["path", "identity", "sha256"]
    if not store.rows().select(columns).equals(other.rows().select(columns)):
        raise BadInput(
            f"{other.folder}: its images or people are not those of {store.folder}; transform that very store"
        )


def _known(store: Store, protected: Sequence[Store], job: ProtectionJob) -> set[str]:
    """Whom recognizer, attacker or the centers of protected stores have seen."""
    centers = (name for other in protected for name in other.manifest.center_of.get("people", ()))
    return known_people([store]).union(centers, people_names(job.train_people) if job.train_people else ())


def _select(store: Store, job: ProtectionJob, known: set[str]) -> tuple[UnseenImages, UnseenImages | None]:
    """The images to judge on, and to train on. BadInput: they share people, or `require_unseen_by_store`.

    known: as in `unseen_images`.
    """
    test = unseen_images(store, job.people, known=known)
    told = require_unseen_by_store(store, test.judged)
    test = replace(test, told=[*test.told, *told])
    if job.train_people is None:
        return test, None
    training = _training(store, job)
    if shared := sorted(shared_people(test.identities, training.identities)):
        raise BadInput(
            f"{len(shared)} people are judged and trained on ({some_of(shared)}); give --people others than those"
        )
    refuse_known("the attacker's decoder: trained on", training.judged.known, test.judged)
    return test, training


def _training(store: Store, job: ProtectionJob) -> UnseenImages:
    """The images of an attacker's people that gave a template."""
    images = unseen_images(store, job.train_people)
    known = set(images.identities)
    left_out = excluded_people(known, job.exclude, "among the training people")
    images = images.acquired_of(known - left_out)
    if not images.rows:
        raise BadInput(f"{job.train_people}: nobody is left to train on")
    return images
