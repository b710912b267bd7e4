"""All pairs of a store's images, or of a gallery's with a store of probes, as sources of comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facedecode.errors import BadInput
from facedecode.evaluation.cohort import UnseenImages, failed_images, listed, unknown_people, unseen_images
from facedecode.evaluation.trials import Comparisons
from facedecode.files import sha256_file
from facedecode.memory import require_memory_for_pairs
from facedecode.provenance import describe_store
from facedecode.report.text import be, counted
from facedecode.statistics.bootstrap import NonMated, Trials
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.store import Store, require_same_recognizer


class AllPairs:
    """All pairs of a store's images, or of those of some people."""

    kind = "all-pairs"
    folds = False
    probes = None
    fmrs = (0.01, 0.001, 0.0001)

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
    fmrs = AllPairs.fmrs

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
        stores[0].score,
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
