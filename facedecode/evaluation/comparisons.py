"""What is compared with what: a file of pairs, all pairs of a store, or a gallery with probes.

Each source turns the templates of one recognizer into `Comparisons`: the scores of mated and non-mated pairs with
the persons behind them, and the images that gave no template (failures to acquire).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from facedecode.bootstrap import NonMated, Trials
from facedecode.errors import BadInput
from facedecode.evaluation.comparison import Templates, describe_templates
from facedecode.evaluation.data_notes import failed_images, listed, repeated_pairs, unknown_people
from facedecode.evaluation.unseen import UnseenImages, unseen_images
from facedecode.evaluation.verification_words import be, counted
from facedecode.files import sha256_file
from facedecode.memory import require_memory_for_pairs
from facedecode.protocols import Pairs
from facedecode.provenance import describe_store
from facedecode.scores import encode_people, mated_non_mated_scores, score_rows
from facedecode.store import Store, require_same_recognizer


@dataclass(frozen=True)
class Folds:
    """All pairs of a file in its order, for the accuracy over folds: arrays (n,).

    left, right: the persons, as indices; a pair is mated where they are equal.
    """

    scores: np.ndarray
    fold: np.ndarray
    left: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Comparisons:
    """One recognizer's scores in a protocol.

    Attributes:
        mated, non_mated: scores and persons; -inf where an image gave no template.
        people: the names; persons are indices into it.
        image_people: the name of the person of each image, of those that gave no template and are ignored too.
        missing: bool (n,), the images that gave no template.
        lost: (path, person, why) of each image that gave no template, or that is not there.
        folds: of a pairs file with more than one; else None.
        left_out: counts of what does not take part, by what it is.
        warnings: what the user should know of the data.
    """

    mated: Trials
    non_mated: NonMated
    people: list[str]
    image_people: list[str]
    missing: np.ndarray
    folds: Folds | None = None
    lost: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Source(Protocol):
    """Where comparisons come from; the same one for every recognizer of an evaluation.

    Attributes:
        kind: pairs, all-pairs or gallery-probes.
        fars: the false accept rates to report where nobody asks for others (those that the pairs resolve).
        folds: whether there are folds, and so an accuracy.
        probes: a second store, of what is compared with the templates evaluated; None where there is one only.
    """

    kind: str
    fars: Sequence[float]
    folds: bool
    probes: Templates | None

    def describe(self) -> str:
        """What is compared, in a sentence or two."""

    def provenance(self) -> dict:
        """JSON: `stores` besides those evaluated, `files` with their SHA-256, and `settings`."""

    def images(self, templates: Templates) -> dict[str, str | None]:
        """The images that take part, by path, with the SHA-256 of each one's file (None if unknown)."""

    def compare(self, templates: Templates, ignore_failures: bool = False) -> Comparisons:
        """Score them. BadInput: no mated pairs, no non-mated pairs, or images that are not as they should be."""


class PairsFile:
    """The pairs of a file (LFW View 1, View 2, or any in that format)."""

    kind = "pairs"
    fars = (0.01, 0.001)

    def __init__(
        self,
        pairs: Pairs,
        name: str,
        ignore_missing: bool = False,
        sha256: str | None = None,
        probes: Templates | None = None,
    ) -> None:
        """name, sha256: of the file. ignore_missing: leave out pairs with images that a store has never seen.

        probes: where each pair's second template comes from, by the path of its image, of the same recognizer; from
        where the first one does if None.
        """
        self.pairs, self.name, self.ignore_missing, self.sha256 = pairs, name, ignore_missing, sha256
        self.folds = len(np.unique(pairs.fold)) > 1
        self.probes = probes

    def describe(self) -> str:
        """What is compared."""
        mated, folds = int(self.pairs.mated.sum()), len(np.unique(self.pairs.fold))
        each = f" in {folds} folds" if folds > 1 else ""
        second = "" if self.probes is None else " The second template of each pair comes from the store of probes."
        return f"The {mated:,} mated and {len(self.pairs) - mated:,} non-mated pairs of {self.name}{each}.{second}"

    def provenance(self) -> dict:
        """The file of pairs, and the store of probes, if any."""
        return {
            **({} if self.probes is None else {"stores": [describe_templates(self.probes) | {"role": "probes"}]}),
            "files": {"pairs": {"file": self.name, "sha256": self.sha256}},
            "settings": {"ignore_missing": self.ignore_missing},
        }

    def images(self, templates: Templates) -> dict[str, str | None]:
        """The images that the pairs name and the store knows; of two stores the first one's."""
        pairs, known = self.found_in(templates), _known(templates)
        digests = _digests(templates)
        named = pairs.left if self.probes is not None else [*pairs.left, *pairs.right]
        return {path: digests.get(path) for path in dict.fromkeys(named) if path in known}

    def compare(self, templates: Templates, ignore_failures: bool = False) -> Comparisons:
        """Score the pairs.

        Raises:
            BadInput: the pairs name images that a store has never seen (counted, the first ones listed) and they
                are not to be left out; there are no mated or no non-mated pairs; the probes are another recognizer's.
        """
        if self.probes is not None:
            what = f"the store of probes {self.probes.folder}"
            require_same_recognizer(templates.recognizer, self.probes.recognizer, what)
        pairs = self.found_in(templates)
        sides = self._sides(templates, pairs)
        keep, left_out, warnings = np.ones(len(pairs), bool), {}, repeated_pairs(pairs, self._all_digests(templates))
        for side in sides:
            if not side.unknown:
                continue
            gone = np.any([np.isin(column, list(side.unknown)) for column in side.columns], axis=0)
            said = f"{len(side.unknown)} of the {len(side.people)} images that the pairs name are not in {side.what}"
            if not self.ignore_missing:
                raise BadInput(
                    f"{side.templates.folder}: {said} ({listed(side.unknown)}); extract the folder that holds them, "
                    "or leave their pairs out with --ignore-missing"
                )
            count = int(gone.sum())
            left_out[f"pairs with images that are not in {side.what}"] = count
            warnings.append(f"{said} ({listed(side.unknown)}): {count:,} of {len(pairs):,} pairs {be(count)} left out")
            keep &= ~gone
        left, right = pairs.rows(templates.paths())
        values = templates.templates()
        if self.probes is not None:
            right = pairs.rows(self.probes.paths())[1]
            right = np.where(right < 0, -1, right + len(values))
            values = np.concatenate([values, self.probes.templates()])
        failed = (left < 0) | (right < 0)
        if ignore_failures:
            left_out["pairs with an image without a template"] = int((keep & failed).sum())
            keep &= ~failed
        mated = pairs.mated[keep]
        if not mated.any() or mated.all():
            raise BadInput(f"{self.name}: no {'non-mated' if mated.any() else 'mated'} pairs; give a file with both")
        names, codes = encode_people([*pairs.left_people, *pairs.right_people])
        left_people, right_people = (side[keep] for side in np.split(codes, 2))
        scores = score_rows(values, left[keep], right[keep], templates.manifest["score"])
        fold = pairs.fold[keep]
        return Comparisons(
            mated=Trials(scores[mated], left_people[mated]),
            non_mated=NonMated.from_pairs(scores[~mated], left_people[~mated], right_people[~mated]),
            people=names,
            image_people=[name for side in sides for name in side.there.values()],
            missing=np.concatenate([side.missing() for side in sides]),
            lost=[image for side in sides for image in side.lost()],
            folds=Folds(scores, fold, left_people, right_people) if len(np.unique(fold)) > 1 else None,
            left_out=left_out,
            warnings=warnings,
        )

    def found_in(self, templates: Templates) -> Pairs:
        """The pairs, by the names that their images have in a store, or in the two stores (LFW's are .jpg)."""
        found = self.pairs.with_extensions(_known(templates))
        if self.probes is None:
            return found
        return replace(found, right=self.pairs.with_extensions(_known(self.probes)).right)

    def _sides(self, templates: Templates, pairs: Pairs) -> list[_Side]:
        """The images of each store; one that both have was acquired twice."""
        left, right = (pairs.left, pairs.left_people), (pairs.right, pairs.right_people)
        if self.probes is None:
            return [_Side.of(templates, "the store", left, right)]
        return [_Side.of(templates, "the store", left), _Side.of(self.probes, "the store of probes", right)]

    def _all_digests(self, templates: Templates) -> dict[str, str | None]:
        return _digests(templates) if self.probes is None else _digests(self.probes) | _digests(templates)


@dataclass(frozen=True)
class _Side:
    """The images that pairs take from one store.

    what: how messages call it. columns: the paths, pair by pair, of the first, the second, or both images.
    people: path → person of each image; there: of those that the store has seen; unknown: of the others.
    """

    templates: Templates
    what: str
    columns: list[list[str]]
    people: dict[str, str]
    there: dict[str, str]
    unknown: dict[str, str]

    @classmethod
    def of(cls, templates: Templates, what: str, *columns: tuple[list[str], list[str]]) -> _Side:
        """columns: paths and people of the pairs' first, second, or both images."""
        people = {path: name for paths, names in columns for path, name in zip(paths, names, strict=True)}
        known = _known(templates)
        there, unknown = (
            {path: name for path, name in people.items() if (path in known) == seen} for seen in (True, False)
        )
        return cls(templates, what, [paths for paths, _ in columns], people, there, unknown)

    def missing(self) -> list[bool]:
        """Whether each of `there` gave no template."""
        acquired = set(self.templates.paths())
        return [path not in acquired for path in self.there]

    def lost(self) -> list[tuple[str, str, str]]:
        """(path, person, why) of each image that gave no template or is not in the store."""
        failed = [image for image, gone in zip(self.there.items(), self.missing(), strict=True) if gone]
        not_there = [(path, name, f"not in {self.what}") for path, name in self.unknown.items()]
        return [*failed_images(failed, self.templates), *not_there]


class AllPairs:
    """All pairs of a store's images, or of those of some people."""

    kind = "all-pairs"
    folds = False
    probes = None
    fars = (0.01, 0.001, 0.0001)

    def __init__(self, people: Path | None = None) -> None:
        """people: a people file in LFW's format; everybody in the store if None."""
        self.people = people

    def describe(self) -> str:
        """What is compared."""
        whom = f"the people of {self.people.name}" if self.people else "everybody in the store"
        return f"All pairs of the images of {whom}, each pair once."

    def provenance(self) -> dict:
        """The file of people, if any."""
        return _people_provenance(self.people)

    def images(self, templates: Store) -> dict[str, str | None]:
        """The images of these people."""
        return {row["path"]: row.get("sha256") for row in _images(templates, self.people).rows}

    def compare(self, templates: Store, ignore_failures: bool = False) -> Comparisons:
        """Score all pairs. BadInput also where an image has no identity; WouldNotFit before the work."""
        return _compare_all([templates], self.people, ignore_failures)


class GalleryProbes:
    """Every image of a gallery (the templates given) with every image of a store of probes."""

    kind = "gallery-probes"
    folds = False
    fars = AllPairs.fars

    def __init__(self, probes: Store, people: Path | None = None) -> None:
        """probes: of the gallery's recognizer. people: a people file in LFW's format, for both."""
        self.probes, self.people = probes, people

    def describe(self) -> str:
        """What is compared."""
        whom = f" of the people of {self.people.name}" if self.people else ""
        return f"Every image{whom} in the gallery with every image{whom} in the store of probes."

    def provenance(self) -> dict:
        """The store of probes, and the file of people, if any."""
        return {"stores": [describe_store(self.probes) | {"role": "probes"}], **_people_provenance(self.people)}

    def images(self, templates: Store) -> dict[str, str | None]:
        """The images of the gallery; the probes are the same ones for all."""
        return AllPairs(self.people).images(templates)

    def compare(self, templates: Store, ignore_failures: bool = False) -> Comparisons:
        """Score gallery against probes; an image that is in both is not compared with itself.

        Raises:
            BadInput: another recognizer's probes, or the gallery's own store; otherwise as `AllPairs`.
        """
        what = f"the store of probes {self.probes.folder}"
        require_same_recognizer(templates.recognizer, self.probes.recognizer, what)
        if self.probes.fingerprint == templates.fingerprint:
            raise BadInput(f"{self.probes.folder}: the gallery again; leave --probes away for all pairs of one store")
        return _compare_all([templates, self.probes], self.people, ignore_failures)


def _compare_all(stores: list[Store], people: Path | None, ignore_failures: bool) -> Comparisons:
    """All pairs of a store's images, or (two stores) of each image of one with each of the other."""
    sides = [_images(store, people) for store in stores]
    where = " and ".join(str(store.folder) for store in stores)
    image_people = [name for side in sides for name in side.identities]
    missing = np.concatenate([side.missing for side in sides])
    lost = [
        image
        for side, store in zip(sides, stores, strict=True)
        for image in failed_images(
            [(row["path"], row["identity"]) for row, gone in zip(side.rows, side.missing, strict=True) if gone], store
        )
    ]
    left_out, warnings = {}, unknown_people(people, set(image_people), where)
    if ignore_failures:
        left_out["images without a template"] = int(missing.sum())
        sides = [_acquired(side) for side in sides]
    left, right = sides[0], sides[-1]
    square = len(sides) == 1
    require_memory_for_pairs(len(left.rows), None if square else len(right.rows))
    pairs = mated_non_mated_scores(
        left.templates,
        left.identities,
        stores[0].manifest["score"],
        None if square else (right.templates, right.identities),
        missing=left.missing,
        missing_probes=None if square else right.missing,
    )
    keys = [_pictures(side, store) for side, store in zip(sides, stores, strict=True)]
    warnings += _two_names(keys, sides)
    same = keys[0][pairs.mated_left] == keys[-1][pairs.mated_right]
    if same.any():
        left_out["mated pairs of a picture with itself"] = int(same.sum())
        count = int(same.sum())
        warnings.append(
            f"{counted(count, 'mated pair')} {be(count)} of one picture twice (equal files): left out"
            + ("" if square else "; pairs of two images that are both in the gallery and among the probes count twice")
        )
    if same.all():
        why = "nobody has two images" if square else "nobody is in both with different images"
        raise BadInput(f"{where}: no mated pairs: {why}; give people with two images or more")
    if not len(pairs.non_mated):
        raise BadInput(f"{where}: no non-mated pairs: there is one person only; give images of more people")
    return Comparisons(
        mated=Trials(pairs.mated[~same], pairs.mated_people[~same]),
        non_mated=NonMated.from_all_pairs(pairs),
        people=pairs.people,
        image_people=image_people,
        missing=missing,
        lost=lost,
        left_out=left_out,
        warnings=warnings,
    )


def _images(store: Store, people: Path | None) -> UnseenImages:
    """The images of these people (of all, if None), each with a person's name."""
    if people is None:
        _refuse_nameless(store, store.rows().select(["path", "identity"]).to_pylist())
    images = unseen_images(store, people)
    _refuse_nameless(store, images.rows)
    return images


def _refuse_nameless(store: Store, rows: list[dict]) -> None:
    if nameless := [row["path"] for row in rows if not row["identity"]]:
        raise BadInput(
            f"{store.folder}: {len(nameless)} of {len(rows)} images have no identity ({listed(nameless)}); put each "
            "person's images into a folder of their own and extract the folder above"
        )


def _acquired(images: UnseenImages) -> UnseenImages:
    """Less those without a template."""
    there = ~images.missing
    return UnseenImages(images.acquired, images.templates[there], images.missing[there])


def _pictures(images: UnseenImages, store: Store) -> np.ndarray:
    """What tells each picture from others: its file's SHA-256; without one (it failed) its place, or its row."""
    return np.array(
        [
            row.get("sha256") or (f"{store.root}/{row['path']}" if row["path"] else f"{store.folder}: row {i}")
            for i, row in enumerate(images.rows)
        ]
    )


def _two_names(keys: list[np.ndarray], sides: list[UnseenImages]) -> list[str]:
    """A warning where equal pictures stand under two names: one of them is wrong."""
    names: dict[str, set[str]] = {}
    for pictures, side in zip(keys, sides, strict=True):
        for picture, name in zip(pictures, side.identities, strict=True):
            names.setdefault(picture, set()).add(name)
    wrong = [sorted(found) for found in names.values() if len(found) > 1]
    if not wrong:
        return []
    first = " and ".join(wrong[0][:2])
    pictures = f"{counted(len(wrong), 'picture')} {be(len(wrong))}"
    return [f"{pictures} there under two people's names (the first: {first}): non-mated all the same"]


def _people_provenance(people: Path | None) -> dict:
    if people is None:
        return {"settings": {"people": None}}
    return {
        "files": {"people": {"file": people.name, "sha256": sha256_file(people)}},
        "settings": {"people": people.name},
    }


def _known(templates: Templates) -> set[str]:
    """The images that were seen, with a template or without one."""
    return {path for path in templates.paths() if path} | {failure["path"] for failure in templates.failures()}


def _digests(templates: Templates) -> dict[str, str | None]:
    """SHA-256 of each image's file, as far as the templates know them."""
    if not isinstance(templates, Store):
        return {}
    rows = templates.rows()
    return dict(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
