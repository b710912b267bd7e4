"""Which perturbations differ, and how they are related by geometry: chains, opposite rotations, neighboring angles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from facedecode.errors import UsageError
from facedecode.pictures.perturb import Transform, expand_group

_ROTATION = re.compile(r"rotate(-?\d+)")
# Any face will do: a matrix depends on the box alone. Its sides differ, so that shifts of both kinds do.
_FACE: Any = SimpleNamespace(box=np.array([-2.0, -3.0, 2.0, 3.0]))


@dataclass(frozen=True)
class Gap:
    """A rotation between two others: left out, its map can be made from theirs. None: no rotation at all.

    angles: of lower, transform and upper, degrees.
    """

    lower: str | None
    transform: str
    upper: str | None
    angles: tuple[int, int, int]

    @property
    def title(self) -> str:
        """rotate30 (between no rotation and rotate60)."""
        return f"{self.transform} (between {self.lower or 'no rotation'} and {self.upper or 'no rotation'})"


@dataclass(frozen=True)
class Family:
    """Perturbations that differ in effect. aliases: other names of the same effects (rotate-180 is rotate180)."""

    transforms: Sequence[Transform]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, names: Sequence[str]) -> Family:
        """The perturbations and groups of these names.

        Raises UsageError: none, an unknown one, or one that leaves pictures as they are.
        """
        if not names:
            raise UsageError("there is no perturbation to evaluate: give one at least")
        kept: dict[tuple, Transform] = {}
        aliases = {}
        for transform in (transform for name in names for transform in expand_group(name)):
            if not transform.occluders and np.allclose(transform.matrix(_FACE), np.eye(2, 3), atol=1e-9):
                raise UsageError(f"{transform.name} does not change pictures, and cannot be undone; leave it out")
            effect = (*np.round(transform.matrix(_FACE), 9).ravel().tolist(), frozenset(transform.occluders))
            first = kept.setdefault(effect, transform)
            if first.name != transform.name:
                aliases[transform.name] = first.name
        return cls(list(kept.values()), aliases)

    @property
    def names(self) -> list[str]:
        """The names of the perturbations."""
        return [transform.name for transform in self.transforms]

    def rotations(self) -> dict[int, str]:
        """Degrees, rising → the rotation. Half a turn is both ways."""
        by_angle = {}
        for name in (*self.names, *self.aliases):
            if rotation := _ROTATION.fullmatch(name):
                angle = int(rotation[1])
                by_angle[angle] = self.aliases.get(name, name)
                if abs(angle) == 180:
                    by_angle[-angle] = by_angle[angle]
        return dict(sorted(by_angle.items()))

    def chains(self) -> dict[tuple[str, str], str]:
        """(first, second) → the perturbation that is the first and then the second.

        Rotations in one direction by their angles, the smaller first; and 'first+second' of parts that are here.
        """
        turns = self.rotations()
        chains = {
            (turns[first], turns[second]): turns[first + second]
            for first in turns
            for second in turns
            if first * second > 0 and abs(first) <= abs(second) and first + second in turns
        }
        resolved = {name: name for name in self.names} | dict(self.aliases)
        for whole in resolved:
            parts = whole.split("+")
            for cut in range(1, len(parts)):
                first, second = "+".join(parts[:cut]), "+".join(parts[cut:])
                if first in resolved and second in resolved:
                    chains.setdefault((resolved[first], resolved[second]), resolved[whole])
        return chains

    def opposites(self) -> list[tuple[str, str]]:
        """Pairs of a rotation and the one that turns as far the other way."""
        turns = self.rotations()
        return list(dict.fromkeys((turns[angle], turns[-angle]) for angle in turns if -angle in turns))

    def gaps(self) -> list[Gap]:
        """Every rotation that has one on both sides; no rotation at all counts as one."""
        turns: dict[int, str | None] = dict(sorted({0: None, **self.rotations()}.items()))
        angles = list(turns)
        return [
            Gap(turns[low], name, turns[high], (low, angle, high))
            for low, angle, high in zip(angles[:-2], angles[1:-1], angles[2:], strict=True)
            if (name := turns[angle]) is not None
        ]
