"""The pairs that a file lists (LFW View 1, View 2, or any in that format), as a source of comparisons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from facedecode.annotations.protocols import Pairs
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import failed_images, listed, repeated_pairs
from facedecode.evaluation.template_sets import Templates, describe_templates
from facedecode.evaluation.trials import Comparisons, Folds
from facedecode.report.text import be
from facedecode.statistics.bootstrap import NonMated, Trials
from facedecode.statistics.scores import encode_people, score_rows
from facedecode.store import Store, require_same_recognizer


class PairsFile:
    """The pairs of a file (LFW View 1, View 2, or any in that format)."""

    kind = "pairs"
    fmrs = (0.01, 0.001)

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


def _known(templates: Templates) -> set[str]:
    """The images that were seen, with a template or without one."""
    return {path for path in templates.paths() if path} | {failure["path"] for failure in templates.failures()}


def _digests(templates: Templates) -> dict[str, str | None]:
    """SHA-256 of each image's file, as far as the templates know them."""
    if not isinstance(templates, Store):
        return {}
    rows = templates.rows()
    return dict(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
