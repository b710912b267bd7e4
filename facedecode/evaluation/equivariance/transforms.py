"""Relations between perturbations that their geometry has: one under two names, angles, and chains."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np

from facedecode.errors import UsageError
from facedecode.pictures.perturb import Transform

_ROTATION = re.compile(r"rotate(-?\d+)")
# Any face will do: a matrix depends on the box alone. Its sides differ, so that shifts of both kinds do.
_FACE = SimpleNamespace(box=np.array([-2.0, -3.0, 2.0, 3.0]))


def distinct(transforms: Sequence[Transform]) -> tuple[list[Transform], dict[str, str]]:
    """The transforms that differ in effect, and of the others which of those each is (rotate-180 is rotate180).

    Raises:
        UsageError: one that changes nothing.
    """
    kept: dict[tuple, Transform] = {}
    aliases = {}
    for transform in transforms:
        if not transform.occluders and np.allclose(transform.matrix(_FACE), np.eye(2, 3), atol=1e-9):
            raise UsageError(f"{transform.name} leaves pictures as they are: there is nothing to undo; leave it out")
        effect = (*np.round(transform.matrix(_FACE), 9).ravel().tolist(), frozenset(transform.occluders))
        first = kept.setdefault(effect, transform)
        if first.name != transform.name:
            aliases[transform.name] = first.name
    return list(kept.values()), aliases


def angle_of(name: str) -> int | None:
    """The degrees of a plain rotation; None for anything else."""
    found = _ROTATION.fullmatch(name)
    return int(found[1]) if found else None


def ladder(names: Sequence[str], aliases: Mapping[str, str]) -> dict[int, str]:
    """The rotations by their angles, rising: degrees → the name whose templates there are. Half a turn is both ways."""
    found = {}
    for name in (*names, *aliases):
        if (angle := angle_of(name)) is not None:
            found[angle] = aliases.get(name, name)
            if abs(angle) == 180:
                found[-angle] = found[angle]
    return dict(sorted(found.items()))


def chains(names: Sequence[str], aliases: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(first, second, whole): perturbations of which the first and then the second are the whole one.

    Rotations in one direction by their angles, the smaller first; and chains 'first+second' whose parts are there.
    """
    steps = ladder(names, aliases)
    found = [
        (steps[first], steps[second], steps[first + second])
        for first in steps
        for second in steps
        if first * second > 0 and abs(first) <= abs(second) and first + second in steps
    ]
    resolved = {name: name for name in names} | dict(aliases)
    for whole in resolved:
        parts = whole.split("+")
        for cut in range(1, len(parts)):
            first, second = "+".join(parts[:cut]), "+".join(parts[cut:])
            if first in resolved and second in resolved:
                found.append((resolved[first], resolved[second], resolved[whole]))
    return list(dict.fromkeys(found))
