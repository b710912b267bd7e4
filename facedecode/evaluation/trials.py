"""What is compared: all pairs of a store, a gallery with probes, or the pairs of a file, as scores with persons.

A source turns the templates of one recognizer into `Comparisons`. It is the same one for all recognizers of an
evaluation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facedecode.annotations.pairs import Pairs
from facedecode.annotations.protocols import people_names
from facedecode.errors import BadInput, some_of
from facedecode.evaluation.cohort import UnseenImages, twice_warning, unseen_images
from facedecode.files import sha256_file
from facedecode.memory import require_memory_for_pairs
from facedecode.names import known_otherwise_in_lfw, twice_in_lfw
from facedecode.provenance import describe_templates
from facedecode.report.text import be, counted
from facedecode.statistics.pair_rates import Trials
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import encode_people, mated_non_mated_scores, score_rows
from facedecode.store import Store, Templates, require_same_recognizer


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

    mated, non_mated: scores and persons, as indices into `people`; -inf where an image gave no template.
    image_people: the person of each image, with those that gave no template and are ignored.
    missing: bool (n,), the images that gave no template.
    lost: (path, person, why) of each image that gave no template, or is not in the store.
    folds: of a pairs file with several; else None.
    left_out: counts of what does not take part, by what it is.
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


class TrialSource(Protocol):
    """Where comparisons come from.

    kind: pairs, all-pairs or gallery-probes.
    fmrs: false match rates to report where nobody asks for others (those that the pairs resolve).
    folds: whether there are folds, and so an accuracy.
    probes: a second store, for the second image of each pair; None where there is one store.
    """

    kind: str
    fmrs: tuple[float, ...]
    folds: bool
    probes: Templates | None

    def describe(self) -> str:
        """What is compared, in a sentence or two."""

    def provenance(self) -> dict:
        """JSON: `stores` besides those evaluated, `files` with their SHA-256, and `settings`."""

    def images(self, templates: Templates) -> dict[str, str | None]:
        """The images that take part, by path, with the SHA-256 of each one's file (None if unknown)."""

    def compare(self, templates: Templates, ignore_failures: bool = False) -> Comparisons:
        """Score them.

        Raises BadInput: no mated or no non-mated pairs, images that are not as they should be, or probes of another
        recognizer.
        """


class AllPairs:
    """All pairs of a store's images; or each image of a gallery with each of a store of probes."""

    folds = False
    fmrs: tuple[float, ...] = (0.01, 0.001, 0.0001)

    def __init__(self, people: Path | None = None, probes: Store | None = None, known: Collection[str] = ()) -> None:
        """people: a people file in LFW's format; everybody if None. probes: of the gallery's recognizer.

        known: as in `unseen_images`.
        """
        self.people, self.known = people, known
        self.probes: Any = probes  # a store, or one that is mapped
        self.kind = "all-pairs" if probes is None else "gallery-probes"

    def describe(self) -> str:
        """As `TrialSource`."""
        if self.probes is not None:
            whom = f" of the people of {self.people.name}" if self.people else ""
            return f"Every image{whom} in the gallery with every image{whom} in the store of probes."
        whom = f"the people of {self.people.name}" if self.people else "everybody in the store"
        return f"All pairs of the images of {whom}, each pair once."

    def provenance(self) -> dict:
        """As `TrialSource`."""
        people = self.people and {"people": {"file": self.people.name, "sha256": sha256_file(self.people)}}
        return {
            **_described(self.probes),
            **({"files": people} if people else {}),
            "settings": {"people": self.people and self.people.name},
        }

    def images(self, templates: Any) -> dict[str, str | None]:
        """As `TrialSource`; of the gallery, as the probes are the same for all."""
        return {row["path"]: row.get("sha256") for row in _images(templates, self.people, self.known).rows}

    def compare(self, templates: Any, ignore_failures: bool = False) -> Comparisons:
        """As `TrialSource`. A picture is not compared with itself. WouldNotFit before the work."""
        stores = [templates]
        if self.probes is not None:
            _require_probes_of(templates, self.probes)
            if self.probes.fingerprint == templates.fingerprint:
                raise BadInput(
                    f"{self.probes.folder}: the gallery again; leave --probes away for all pairs of one store"
                )
            stores.append(self.probes)
        return _compare_all(stores, self.people, self.known, ignore_failures)


def _compare_all(
    stores: list[Store], people: Path | None, known: Collection[str], ignore_failures: bool
) -> Comparisons:
    """All pairs of a store's images, or (two stores) of each image of one with each of the other."""
    sides = [_images(store, people, known) for store in stores]
    where = " and ".join(str(store.folder) for store in stores)
    image_people = [name for side in sides for name in side.identities]
    missing = np.concatenate([side.missing for side in sides])
    lost = []
    for side, store in zip(sides, stores, strict=True):
        failed = [row for row, gone in zip(side.rows, side.missing, strict=True) if gone]
        lost += _failed_images([(row["path"], row["identity"]) for row in failed], store)
    left_out, twice = {}, [name for side in sides for name in side.twice]
    warnings = [*_unknown_people(people, {*image_people, *twice}, where), *twice_warning(twice)]
    warnings += _one_person(twice_in_lfw(set(image_people)))
    if ignore_failures:
        left_out["images without a template"] = int(missing.sum())
        sides = [
            UnseenImages(side.acquired, side.templates[~side.missing], side.missing[~side.missing]) for side in sides
        ]
    left, right = sides[0], sides[-1]
    square = len(sides) == 1
    require_memory_for_pairs(len(left.rows), None if square else len(right.rows))
    pairs = mated_non_mated_scores(
        left.templates,
        left.identities,
        stores[0].score,
        None if square else (right.templates, right.identities),
        missing=left.missing,
        missing_probes=None if square else right.missing,
    )
    keys = [_pictures(side, store) for side, store in zip(sides, stores, strict=True)]
    warnings += _two_names(keys, sides)
    same = keys[0][pairs.mated_left] == keys[-1][pairs.mated_right]
    if count := int(same.sum()):
        left_out["mated pairs of a picture with itself"] = count
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


def _images(store: Store, people: Path | None, known: Collection[str]) -> UnseenImages:
    """The images of these people (of all, if None), each with a person's name."""
    if people is None:
        _require_names(store, store.rows().select(["path", "identity"]).to_pylist())
    images = unseen_images(store, people, known=known)
    _require_names(store, images.rows)
    return images


def _require_names(store: Store, rows: list[dict]) -> None:
    if nameless := [row["path"] for row in rows if not row["identity"]]:
        raise BadInput(
            f"{store.folder}: {len(nameless)} of {len(rows)} images have no identity ({some_of(nameless)}); put each "
            "person's images into a folder of their own and extract the folder above, or name a file with --identities"
        )


def _pictures(images: UnseenImages, store: Store) -> np.ndarray:
    """What tells each picture from others: its file's SHA-256; without one (it failed) its place, or its row."""
    return np.array(
        [
            row.get("sha256") or (f"{store.root}/{row['path']}" if row["path"] else f"{store.folder}: row {i}")
            for i, row in enumerate(images.rows)
        ]
    )


def _two_names(keys: list[np.ndarray], sides: list[UnseenImages]) -> list[str]:
    """A warning where equal pictures have two names: one of them is wrong. Of one picture's faces, none is."""
    names: dict[str, dict[str, str]] = {}
    for pictures, side in zip(keys, sides, strict=True):
        for picture, row in zip(pictures, side.rows, strict=True):
            names.setdefault(picture, {})[row["path"]] = row["identity"]
    wrong = [sorted(set(several.values())) for several in names.values() if len(set(several.values())) > 1]
    if not wrong:
        return []
    first, count = " and ".join(wrong[0][:2]), counted(len(wrong), "picture")
    return [f"{count} {be(len(wrong))} there under two people's names (the first: {first}): non-mated all the same"]


def _one_person(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A warning where two names that are compared are of one person, as LFW's two names of some people are."""
    if not pairs:
        return []
    named = f"{len(pairs)} of these people under two names (the first: {' and '.join(pairs[0])})"
    return [f"LFW has {named}: their comparisons are taken for non-mated all the same"]


class PairsFile:
    """The pairs of a file: LFW's View 1 or View 2, or any that `read_pairs` takes."""

    kind = "pairs"
    fmrs: tuple[float, ...] = (0.01, 0.001)

    def __init__(
        self,
        pairs: Pairs,
        name: str,
        ignore_missing: bool = False,
        sha256: str | None = None,
        probes: Templates | None = None,
        known: Collection[str] = (),
    ) -> None:
        """name, sha256: of the file. ignore_missing: leave out pairs with images that a store has never seen.

        probes: the templates of each pair's second image, of the same recognizer; those of the first if None.
        known: as in `unseen_images`.
        """
        self.known = known
        self.pairs, self.name, self.ignore_missing, self.sha256 = pairs, name, ignore_missing, sha256
        self.folds = len(np.unique(pairs.fold)) > 1
        self.probes = probes

    def describe(self) -> str:
        """As `TrialSource`."""
        mated, folds = int(self.pairs.mated.sum()), len(np.unique(self.pairs.fold))
        each = f" in {folds} folds" if folds > 1 else ""
        second = "" if self.probes is None else " The second template of each pair comes from the store of probes."
        return f"The {mated:,} mated and {len(self.pairs) - mated:,} non-mated pairs of {self.name}{each}.{second}"

    def provenance(self) -> dict:
        """As `TrialSource`."""
        return {
            **_described(self.probes),
            "files": {"pairs": {"file": self.name, "sha256": self.sha256}},
            "settings": {"ignore_missing": self.ignore_missing},
        }

    def images(self, templates: Templates) -> dict[str, str | None]:
        """As `TrialSource`: those that the pairs name and the store knows; of two stores the first one's."""
        pairs, known = self.found_in(templates)[0], _known(templates)
        digests = _digests(templates)
        named = pairs.left if self.probes is not None else [*pairs.left, *pairs.right]
        return {path: digests.get(path) for path in dict.fromkeys(named) if path in known}

    def compare(self, templates: Templates, ignore_failures: bool = False) -> Comparisons:
        """As `TrialSource`. BadInput also for images that a store has never seen, unless they are to be left out."""
        if self.probes is not None:
            _require_probes_of(templates, self.probes)
        pairs, contradicts = self.found_in(templates)
        sides, digests = self._sides(templates, pairs), _digests(templates)
        if self.probes is not None:
            digests = _digests(self.probes) | digests
        keep, left_out, warnings = np.ones(len(pairs), bool), {}, _repeated_pairs(pairs, digests)
        if count := len(self.pairs) - len(pairs):
            left_out["pairs of people whom training has seen under another name"] = count
            why = "LFW has one of their people under another name, too, and training has seen that one"
            warnings.append(f"{count:,} of {len(self.pairs):,} pairs {be(count)} left out: {why}")
        compared = set(zip(pairs.left_people, pairs.right_people, strict=True))
        twice = twice_in_lfw({name for both in compared for name in both if name})
        warnings += _one_person([(one, two) for one, two in twice if not compared.isdisjoint([(one, two), (two, one)])])
        for side in sides:
            if not side.unknown:
                continue
            gone = np.any([np.isin(column, list(side.unknown)) for column in side.columns], axis=0)
            few = f"{len(side.unknown)} of the {len(side.people)} images that the pairs name are not in {side.what}"
            few += f" ({some_of(list(side.unknown))})"
            if not self.ignore_missing:
                raise BadInput(
                    f"{side.templates.folder}: {few}; extract the folder that holds them, or leave their pairs out "
                    "with --ignore-missing"
                )
            count = int(gone.sum())
            left_out[f"pairs with images that are not in {side.what}"] = count
            warnings.append(f"{few}: {count:,} of {len(pairs):,} pairs {be(count)} left out")
            keep &= ~gone
        if count := int((keep & contradicts).sum()):
            k = int(np.argmax(keep & contradicts))
            said = "mated" if pairs.mated[k] else "non-mated"
            few = f"{count:,} of {len(pairs):,} pairs contradict what is known of their people"
            few += f" (the first: {pairs.left[k]} and {pairs.right[k]}, {said} in {self.name})"
            left_out["pairs whose label contradicts the people"] = count
            warnings.append(f"{few}: left out")
            keep &= ~contradicts
            mated = pairs.mated[keep]
            if not mated.any() or mated.all():
                raise BadInput(
                    f"{self.name}: {few}, and no {'non-mated' if mated.any() else 'mated'} pairs are left; are the "
                    "labels the right way round, and the folders people? (extract --identities says who they are)"
                )
        left, right = self._rows(pairs, templates)
        values = templates.templates()
        if self.probes is not None:
            right = self._rows(pairs, self.probes)[1]
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
        scores = score_rows(values, left[keep], right[keep], templates.score)
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

    def found_in(self, templates: Templates) -> tuple[Pairs, np.ndarray]:
        """The pairs by the names and people that their images have in a store, or in the two; see `Pairs.found_in`.

        Without those of people whom training has seen under another name of LFW's.
        """
        known = _known(templates)
        try:
            found, contradicts = self.pairs.found_in(known, known if self.probes is None else _known(self.probes))
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from None
        people = [found.left_people, found.right_people]
        twice = known_otherwise_in_lfw({name for side in people for name in side if name}, self.known)
        kept = ~np.any([[name in twice for name in side] for side in people], axis=0)
        return (found.take(kept), contradicts[kept]) if twice and kept.any() else (found, contradicts)

    def _rows(self, pairs: Pairs, templates: Templates) -> tuple[np.ndarray, np.ndarray]:
        try:
            return pairs.rows(templates.paths())
        except BadInput as error:
            raise BadInput(f"{self.name}: {error}") from None

    def _sides(self, templates: Templates, pairs: Pairs) -> list[_Side]:
        """The images of each store; one that both have was acquired twice."""
        left, right = (pairs.left, pairs.left_people), (pairs.right, pairs.right_people)
        if self.probes is None:
            return [_Side.of(templates, "the store", left, right)]
        return [_Side.of(templates, "the store", left), _Side.of(self.probes, "the store of probes", right)]


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
        return [*_failed_images(failed, self.templates), *not_there]


def _described(probes: Templates | None) -> dict:
    return {} if probes is None else {"stores": [describe_templates(probes) | {"role": "probes"}]}


def _require_probes_of(templates: Templates, probes: Templates) -> None:
    require_same_recognizer(templates.recognizer, probes.recognizer, f"the store of probes {probes.folder}")


def _known(templates: Templates) -> dict[str, str | None]:
    """The images that were seen, with a template or without one, and their people as far as the templates know them."""
    failed = [failure["path"] for failure in templates.failures()]
    if not isinstance(templates, Store):
        return dict.fromkeys([*filter(None, templates.paths()), *failed])
    paths, people = (column.to_pylist() for column in templates.columns(["path", "identity"]).columns)
    of_path: dict[str, set[str | None]] = {}  # several: faces of one picture
    of_folder: dict[str, set[str | None]] = {}
    for path, person in zip(paths, people, strict=True):
        if path:
            of_path.setdefault(path, set()).add(person)
            of_folder.setdefault(path.rpartition("/")[0], set()).add(person)
    # A store does not keep the person of a failure: it is the one of the folder's other images.
    found = {path: of_folder.get(path.rpartition("/")[0], set()) for path in failed} | of_path
    return {path: next(iter(names)) if len(names) == 1 else None for path, names in found.items()}


def _digests(templates: Templates) -> dict[str, str | None]:
    """SHA-256 of each image's file, as far as the templates know them."""
    if not isinstance(templates, Store):
        return {}
    rows = templates.rows()
    return dict(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True))


def _failed_images(images: Iterable[tuple[str, str]], templates: Templates) -> list[tuple[str, str, str]]:
    """(path, person, why) of images, (path, person) each, that gave no template."""
    reasons = {failure["path"]: f"{failure['stage']}: {failure['reason']}" for failure in templates.failures()}
    return [(path, person, reasons.get(path, "no template")) for path, person in images]


def _unknown_people(people: Path | None, there: set[str], where: str) -> list[str]:
    """A warning where a people file names people whom the stores do not have."""
    names = [] if people is None else people_names(people)
    unknown = [name for name in names if name not in there]
    if not unknown:
        return []
    few = f"{len(unknown)} of the {len(names)} people of {people.name}"
    return [f"{few} {be(len(unknown))} not in {where} ({some_of(unknown)})"]


def _repeated_pairs(pairs: Pairs, digests: dict[str, str | None]) -> list[str]:
    """Warnings of pairs that are listed twice, either way round, and of pairs of one picture with itself."""
    both = list(zip(pairs.left, pairs.right, strict=True))
    warnings = []
    if again := len(both) - len({frozenset(pair) for pair in both}):
        warnings.append(f"{counted(again, 'pair')} {be(again)} listed again (a with b, or b with a): each line counts")
    if same := sum(a == b or (digests.get(a) is not None and digests[a] == digests.get(b)) for a, b in both):
        what = f"{counted(same, 'pair')} {be(same)} of one picture twice (equal files)"
        warnings.append(f"{what}: such a score says nothing")
    return warnings
