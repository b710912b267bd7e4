"""What an evaluation of template protection is made on: the same images' templates, unprotected and under keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import UnseenImages, require_unseen_by_store, unseen_images
from facedecode.statistics.scores import encode_people
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import require_unprotected
from facedecode.templates.protection import Scheme, make_scheme, study_key
from facedecode.templates.transformation import center_of_sha256

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SubjectSplit:
    """Whom to judge on, and whom an attacker trains on.

    people, train_people: people files; all of the store, or no training, if None. exclude: of the training people.
    """

    people: Path | None = None
    train_people: Path | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protected:
    """Images with their templates, unprotected (in `images`) and under each key, float32 (n, dim out), row by row."""

    images: UnseenImages
    keys: list[np.ndarray]


@dataclass(frozen=True)
class Study:
    """Templates of a store under two keys or more.

    Attributes:
        store: of the unprotected templates. groups: whose.
        scheme: JSON, what the schemes have in common: its name, dim and center.
        score: how protected templates are compared.
        key_ids: of the keys.
        test, training: images of the people to judge on, and of those an attacker trains on (None: no attack).
        stores: of the protected templates; none where the keys are made here.
        protect: recognizer's templates → templates under the first key; None where the key is not at hand.
        protect_apart: protects the test images with a key for each person; None where keys are not made here.
    """

    store: Store
    groups: SubjectSplit
    scheme: dict
    score: str
    key_ids: list[str]
    test: Protected
    training: Protected | None
    stores: Sequence[Store] = ()
    protect: Callable[[np.ndarray], np.ndarray] | None = None
    protect_apart: Callable[[Progress | None], np.ndarray] | None = None


def derived_study(
    store: Store,
    people: SubjectSplit,
    scheme: str,
    *,
    keys: int = 5,
    bits: int | None = None,
    center: bool | None = None,
    seed: int = 0,
) -> Study:
    """Protect a store's templates under keys that follow from the seed, for a study that others can repeat.

    Args:
        bits: see `protection.make_scheme`.
        center: take the training people's mean template off before a biohash; so it is if None.

    Raises:
        UsageError: fewer than two keys, an unknown scheme, bits out of range, a center without training people, or a
            word on the center of a rotation.
        BadInput: the store's templates are protected already; people that are not in it or in both groups.
    """
    if keys < 2:
        raise UsageError(f"--keys {keys}: linking compares templates under two keys or more")
    if scheme == "rotation" and center is not None:
        raise UsageError("a rotation has no center: leave --center and --no-center to biohash")
    require_unprotected(store)
    test, training = _select(store, people)
    mean = None
    if scheme == "biohash" and center is not False:
        if training is None:
            raise UsageError("a biohash is centered at the training people's mean: give --train-people, or --no-center")
        mean = training.templates.mean(axis=0, dtype=np.float64)

    def make(label: str) -> Scheme:
        return make_scheme(scheme, study_key(seed, label), store.dim, store.score, bits=bits, center=mean)

    schemes = [make(f"key {k + 1}") for k in range(keys)]

    def protect_apart(progress: Progress | None = None) -> np.ndarray:
        from threadpoolctl import threadpool_limits  # of scikit-learn's dependencies

        there = np.flatnonzero(~test.missing)
        names, codes = encode_people(test.acquired_identities)
        protected = np.zeros((len(test.rows), schemes[0].dim), np.float32)
        # Decompositions of small matrices, one a person: threads only get into each other's way.
        with threadpool_limits(1):
            for k, name in enumerate(names):
                rows = there[codes == k]
                protected[rows] = make(f"person {name}").protect(test.templates[rows])
                if progress:
                    progress(k + 1, len(names))
        return protected

    described = schemes[0].describe()
    del described["key_id"]
    return Study(
        store=store,
        groups=people,
        scheme=described,
        score=schemes[0].score,
        key_ids=[made.key_id for made in schemes],
        test=Protected(test, [made.protect(test.templates) for made in schemes]),
        training=training and Protected(training, [made.protect(training.templates) for made in schemes]),
        protect=schemes[0].protect,
        protect_apart=protect_apart,
    )


def stored_study(store: Store, protected: Sequence[Store], people: SubjectSplit) -> Study:
    """Take the protected templates from stores that `transform --protect` made of `store`, one a key.

    Raises:
        UsageError: fewer than two protected stores.
        BadInput: a store that should be protected is not, or the other way about; two under one key; different
            schemes, bits or centers; other images than the store's, or another recognizer's templates; a center that is
            the mean of people to judge on, or of people who are not recorded.
    """
    require_unprotected(store)
    if len(protected) < 2:
        raise UsageError("linking compares two keys or more: give stores under two keys, or --scheme")
    first = protected[0]
    found: dict[str, Store] = {}
    for other in protected:
        about = other.recognizer.protection
        if about is None:
            raise BadInput(f"{other.folder}: its templates are not protected; make it by transform --protect")
        require_same_recognizer(other.recognizer.unprotected, store.recognizer, f"{store.folder}")
        if _common(other) != _common(first):
            raise BadInput(
                f"{first.folder} and {other.folder}: protected in different ways (scheme, bits or center); they "
                "must differ by their keys only"
            )
        if (key := about["key_id"]) in found:
            raise BadInput(f"{found[key].folder} and {other.folder}: protected with one and the same key")
        found[key] = other
        _require_same_images(store, other)
    test, training = _select(store, people)
    for other in protected:
        _require_foreign_center(other, test)

    def trained_on(other: Store) -> np.ndarray:
        return _chosen(other, people.train_people, people.exclude).templates

    return Study(
        store=store,
        groups=people,
        scheme=_common(first),
        score=first.score,
        key_ids=list(found),
        test=Protected(test, [unseen_images(other, people.people).templates for other in protected]),
        training=training and Protected(training, [trained_on(other) for other in protected]),
        stores=protected,
    )


def _require_foreign_center(store: Store, test: UnseenImages) -> None:
    """Refuse a store whose center is the mean of people to judge on, or does not say whose it is. Raises BadInput."""
    protection = store.recognizer.protection
    if protection["center_sha256"] is None:
        return
    whose = store.manifest.center_of
    if center_of_sha256(whose) != (protection.get("center") or {}).get("of_sha256"):
        raise BadInput(f"{store.folder}: does not record whose mean its center is; make it again by transform")
    people, paths = {*whose["people"]}, {*whose["paths"]}
    if shared := sorted({row["identity"] for row in test.rows if row["identity"] in people or row["path"] in paths}):
        raise BadInput(
            f"{store.folder}: {len(shared)} of the people to judge on are in its center ({_listed(shared)}); give "
            "--people others, or --center-people of transform"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _common(store: Store) -> dict:
    """The protection of a store, less its key."""
    return {name: value for name, value in store.recognizer.protection.items() if name != "key_id"}


def _require_same_images(store: Store, other: Store) -> None:
    columns = ["path", "identity", "sha256"]
    if not store.rows().select(columns).equals(other.rows().select(columns)):
        raise BadInput(
            f"{other.folder}: its images or people are not those of {store.folder}; transform that very store"
        )


def _select(store: Store, people: SubjectSplit) -> tuple[UnseenImages, UnseenImages | None]:
    """The images to judge on, and to train on. BadInput: they share people, or `require_unseen_by_store`."""
    test = unseen_images(store, people.people)
    require_unseen_by_store(store, test.identities)
    if people.train_people is None:
        if people.exclude:
            raise UsageError("--exclude leaves out people of --train-people; give it")
        return test, None
    training = _chosen(store, people.train_people, people.exclude)
    if shared := sorted(set(test.identities) & set(training.identities)):
        raise BadInput(
            f"{len(shared)} people are judged and trained on ({_listed(shared)}); give --people others than those"
        )
    return test, training


def _chosen(store: Store, file: Path, exclude: Sequence[str]) -> UnseenImages:
    """The images that gave a template, of a people file's persons less some."""
    found = unseen_images(store, file)
    known = set(found.identities)
    if unknown := [name for name in exclude if name not in known]:
        raise BadInput(f"--exclude {unknown[0]}: nobody among the training people has that name")
    keep = [i for i, row in enumerate(found.rows) if row["identity"] not in exclude and not found.missing[i]]
    if not keep:
        raise BadInput(f"{file}: nobody is left to train on")
    return UnseenImages([found.rows[i] for i in keep], found.templates[keep], found.missing[keep])
