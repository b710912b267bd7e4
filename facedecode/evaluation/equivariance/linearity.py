"""Figures of maps on templates that they were not fitted to: what they undo, and how they compose.

A map's share undone is 1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖² over the judged images: e the template of an image, e′ that of
the same image perturbed. It is 1 for a map that brings every template back, 0 for one that does as much as nothing,
and negative for one that does harm. Intervals are those of a ratio of means over people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from facedecode.errors import UsageError
from facedecode.evaluation.equivariance.affine import Affine, Subspace, between, mixed, relative_distance
from facedecode.evaluation.equivariance.perturbed import Side
from facedecode.pictures.perturb import Transform
from facedecode.statistics.bootstrap import Estimate, mean_interval, ratio_interval
from facedecode.statistics.scores import score_pairs

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


Options = Mapping[str, int]


@dataclass(frozen=True)
class Undone:
    """What maps undo of one perturbation.

    share: of the displacement, by the affine map. simpler: the same by maps that know less: orthogonal, shift (every
    template moved alike), mean (the mean template, whatever comes).
    cosine, score: means of the recognizer's perturbed templates against the originals, before and after the map.
    """

    share: Estimate
    simpler: dict[str, Estimate]
    cosine: tuple[Estimate, Estimate]
    score: tuple[Estimate, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Two maps for the same perturbation, by their shares undone; difference: other − fitted, paired."""

    fitted: Estimate
    other: Estimate
    difference: Estimate

    def as_json(self) -> dict:
        return {name: getattr(self, name).as_json() for name in ("fitted", "other", "difference")}


@dataclass(frozen=True)
class Composition:
    """The map of `second` and then that of `first`, on templates of `whole`, which is the first and then the second.

    disagreement: Σ‖M(e′) − M₁(M₂(e′))‖² over the spread of M(e′). frobenius: ‖W − W₁W₂‖ / ‖W‖, which counts directions
    in which templates hardly vary as much as others.
    """

    first: str
    second: str
    whole: str
    compared: Comparison
    disagreement: Estimate
    frobenius: float


@dataclass(frozen=True)
class RoundTrip:
    """The map M and the map F that was fitted the other way, original to perturbed, one after the other.

    perturbed: Σ‖e′ − F(M(e′))‖² / Σ‖e′ − mean‖². original: Σ‖e − M(F(e))‖² / Σ‖e − mean‖², means of those fitted on.
    0 where they are each other's inverse, 1 where nothing but the mean comes back.
    """

    perturbed: Estimate
    original: Estimate


@dataclass(frozen=True)
class Opposite:
    """The forward map of rotation `by` in place of the map that undoes the opposite rotation `transform`."""

    transform: str
    by: str
    compared: Comparison


@dataclass(frozen=True)
class Interpolation:
    """A rotation's map from its neighbors' (`lower`, `upper`: None for no rotation at all), against its own.

    logarithm: None where the interpolation does not exist. negative: see `mapping.family.Between`.
    """

    transform: str
    angles: tuple[int, int, int]
    lower: str | None
    upper: str | None
    linear: Comparison
    logarithm: Comparison | None
    negative: int


def judge_map(
    side: Side, name: str, fitted: Affine, simpler: Mapping[str, Affine], score: str, options: Options
) -> Undone:
    """The figures of one perturbation's maps on a side's templates. score: the recognizer's own kind."""
    perturbed, original = side.pairs(name)
    people, mapped = side.people(name), fitted.apply(perturbed)
    before = {}
    for kind in ("cosine", score):
        values = [score_pairs(np.asarray(x, np.float64), original, kind) for x in (perturbed, mapped)]
        before[kind] = tuple(mean_interval(row, people, **options) for row in values)
    return Undone(
        _share(side, name, fitted, options),
        {kind: _share(side, name, one, options) for kind, one in simpler.items()},
        before["cosine"],
        before[score],
    )


def compare(side: Side, name: str, fitted: Affine, other: Affine, options: Options) -> Comparison:
    """Another map in place of the fitted one."""
    own, others = (_residuals(side, name, one) for one in (fitted, other))
    difference = ratio_interval(own - others, _displacements(side, name), side.people(name), **options)
    return Comparison(_share(side, name, fitted, options), _share(side, name, other, options), difference)


def compositions(
    side: Side, maps: Mapping[str, Affine], aliases: Mapping[str, str], options: Options
) -> list[Composition]:
    """All of the perturbations there are that are two of them in a row; none where there are no such."""
    found = []
    for first, second, whole in chains(list(maps), aliases):
        direct, composed = maps[whole], maps[first].after(maps[second])
        perturbed, _ = side.pairs(whole)
        reached = direct.apply(perturbed)
        apart = ratio_interval(
            _squares(reached - composed.apply(perturbed)),
            _squares(reached - reached.mean(axis=0)),
            side.people(whole),
            **options,
        )
        compared = compare(side, whole, direct, composed, options)
        frobenius = relative_distance(direct.weight, composed.weight)
        found.append(Composition(first, second, whole, compared, apart, frobenius))
    return found


def round_trip(fitted_on: Side, side: Side, name: str, undo: Affine, redo: Affine, options: Options) -> RoundTrip:
    """Whether the map and the one fitted the other way are inverses of each other on a side's templates."""
    figures = []
    for template, known, there, back in zip(
        side.pairs(name), fitted_on.pairs(name), (undo, redo), (redo, undo), strict=True
    ):
        lost = _squares(template - back.apply(there.apply(template)))
        spread = _squares(template - known.mean(axis=0, dtype=np.float64))
        figures.append(ratio_interval(lost, spread, side.people(name), **options))
    return RoundTrip(*figures)


def opposites(
    side: Side,
    maps: Mapping[str, Affine],
    forward: Mapping[str, Affine],
    aliases: Mapping[str, str],
    options: Options,
) -> list[Opposite]:
    """For each rotation whose opposite is there: does the map that does the one undo the other?"""
    steps = ladder(list(maps), aliases)
    pairs = dict.fromkeys((steps[angle], steps[-angle]) for angle in steps if -angle in steps)
    return [Opposite(name, by, compare(side, name, maps[name], forward[by], options)) for name, by in pairs]


def interpolations(
    side: Side, maps: Mapping[str, Affine], subspace: Subspace, aliases: Mapping[str, str], options: Options
) -> list[Interpolation]:
    """Each rotation that has neighbors on both sides, no rotation among them, by their maps without its own.

    subspace: in which all maps can have an inverse; the logarithm is taken in its coordinates.
    """
    steps: dict[int, str | None] = dict(sorted({0: None, **ladder(list(maps), aliases)}.items()))
    degrees = list(steps)
    family = {None: Affine.identity(side.templates.shape[1]), **maps}
    found = []
    for low, angle, high in zip(degrees[:-2], degrees[1:-1], degrees[2:], strict=True):
        name = steps[angle]
        if name is None:
            continue
        lower, upper, share = family[steps[low]], family[steps[high]], (angle - low) / (high - low)
        by_logarithm = between(lower.within(subspace), upper.within(subspace), share)
        linear = compare(side, name, maps[name], mixed(lower, upper, share), options)
        logarithm = None
        if by_logarithm.map is not None:
            logarithm = compare(side, name, maps[name], by_logarithm.map.lifted(subspace), options)
        found.append(
            Interpolation(name, (low, angle, high), steps[low], steps[high], linear, logarithm, by_logarithm.negative)
        )
    return found


def held_out_angles(names: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """The rotations that `interpolations` will have."""
    steps: dict[int, str | None] = {0: None, **ladder(names, aliases)}
    return [name for angle in sorted(steps)[1:-1] if (name := steps[angle]) is not None]


def _share(side: Side, name: str, one: Affine, options: Options) -> Estimate:
    ratio = ratio_interval(_residuals(side, name, one), _displacements(side, name), side.people(name), **options)
    low, high = (None if end is None else 1 - end for end in (ratio.high, ratio.low))
    return Estimate(1 - ratio.value, low, high, ratio.n)


def _residuals(side: Side, name: str, one: Affine) -> np.ndarray:
    perturbed, original = side.pairs(name)
    return _squares(original - one.apply(perturbed))


def _displacements(side: Side, name: str) -> np.ndarray:
    perturbed, original = side.pairs(name)
    return _squares(original.astype(np.float64) - perturbed)


def _squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths, (n, d) → (n,)."""
    return np.einsum("nd,nd->n", vectors, vectors)
