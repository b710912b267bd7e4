"""One template from several of a person: means, medians, and weights for the better images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput, UsageError
from facedecode.store import Store
from facedecode.store.grouped import Group, grouped_writer, write_groups
from facedecode.store.processing import require_unprotected

METHODS = ("mean", "normalized-mean", "median")
WEIGHTS = ("none", "probability", "norm")
FEWER = ("leave-out", "use")
_ROWS_AT_ONCE = 65_536  # 130 MiB of 512 numbers


@dataclass(frozen=True)
class Aggregation:
    """How several templates become one.

    Attributes:
        method: `mean`; `normalized-mean`: the mean of the templates' directions, as long as they are on average; or
            `median` of each number.
        weight: of a mean: `none` (all alike), the detector's `probability`, or the templates' own length, `norm`, which
            recognizers trained with a margin tend to make larger for better images (Meng et al., MagFace, 2021).
        count: so many of a person's templates, drawn at random; None for all of them.
        fewer: what becomes of a person with fewer: `leave-out`, or `use` what there is.
        seed: of the draw.

    Raises:
        UsageError: a method, weight or word for `fewer` that is none, a count below 1, or a weighted median.
    """

    method: str = "mean"
    weight: str = "none"
    count: int | None = None
    fewer: str = "leave-out"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("weight", WEIGHTS), ("fewer", FEWER)):
            if getattr(self, name) not in known:
                raise UsageError(f"--{name} {getattr(self, name)}: use one of {', '.join(known)}")
        if self.count is not None and self.count < 1:
            raise UsageError(f"{self.count} templates of a person make no template: give 1 or more")
        if self.method == "median" and self.weight != "none":
            raise UsageError("a median has no weights here: leave --weight out, or take a mean")

    def combine(self, templates: np.ndarray, probabilities: np.ndarray | None = None) -> np.ndarray:
        """One template of some.

        Args:
            templates: float32 (n, dim), n ≥ 1. probabilities: (n,), where they are the weights.

        Returns:
            float64 (dim,).

        Raises:
            BadInput: directions of a template of zeros, or that cancel; weights that are negative, NaN or all 0.
        """
        values = templates.astype(np.float64)
        if self.method == "median":
            return np.median(values, axis=0)
        lengths = np.linalg.norm(values, axis=1)
        weights = {"none": np.ones(len(values)), "probability": probabilities, "norm": lengths}[self.weight]
        weights = np.asarray(weights, np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise BadInput(f"weights by {self.weight} that are negative, unknown or all 0: take --weight none")
        weights = weights / weights.sum()
        if self.method == "mean":
            return weights @ values
        if not lengths.all():
            raise BadInput("a template of zeros has no direction: leave that image out, or take --method mean")
        direction = weights @ (values / lengths[:, None])
        length = np.linalg.norm(direction)
        if length < 1e-9:
            raise BadInput("templates whose directions cancel have no mean direction: take --method mean")
        return direction / length * (weights @ lengths)


@dataclass(frozen=True)
class Aggregated:
    """What became of the people.

    people: how many have a template. fewer: names of those with fewer than asked for. unnamed: rows without a person.
    used: templates that went in.
    """

    people: int
    fewer: list[str]
    unnamed: int
    used: int


def aggregate_store(
    store: Store,
    output: Path,
    wanted: Aggregation,
    *,
    people: Path | None = None,
    exclude: tuple[str, ...] = (),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Aggregated:
    """Write the store of one template a person, with those that it is made of in members.csv.

    The store's templates are read a part at a time, whatever its size.

    Args:
        people: file with the people to take; all if None. exclude: people to leave out.
        progress: called with (people done, all).

    Raises:
        BadInput: protected templates; no row has a person; nobody has so many; as `Aggregation.combine`, naming whom.
        OutputError, OutputInUse: see `grouped.grouped_writer`.
    """
    require_unprotected(store)
    names = store.identities()
    rows = [int(i) for i in select_people(names, people, exclude) if names[i] is not None]
    unnamed = sum(name is None for name in names)
    if not rows:
        raise BadInput(f"{store.folder}: no template has a person; put each person's images into a folder of their own")
    found, fewer = choose_members(names, rows, wanted)
    if not found:
        most = max(np.unique([names[i] for i in rows], return_counts=True)[1])
        raise BadInput(
            f"{store.folder}: nobody has {wanted.count} templates (at most {most}); take fewer, or --fewer use"
        )
    probabilities = None
    if wanted.weight == "probability":
        given = store.columns(["probability"])["probability"].to_pylist()
        probabilities = np.array([np.nan if value is None else value for value in given])
    templates, groups = np.empty((len(found), store.dim), np.float32), []
    about = asdict(wanted) | {"people": sorted(found)}
    with grouped_writer(store, output, "aggregate", about, overwrite) as writer:
        for part, taken in _parts(store, list(found.items())):
            for (name, members), own in zip(part, taken, strict=True):
                try:
                    made = wanted.combine(own, None if probabilities is None else probabilities[members])
                    distances = template_distances(own, made, store.score)
                except BadInput as error:
                    raise BadInput(f"{store.folder}: {name}: {error}") from None
                templates[len(groups)] = made
                groups.append(Group(name, members, distances, {"mean_distance": float(distances.mean())}))
                if progress:
                    progress(len(groups), len(found))
        write_groups(writer, store, templates, groups)
    return Aggregated(len(found), fewer, unnamed, sum(len(members) for members in found.values()))


def choose_members(
    names: Sequence[str | None], rows: Sequence[int], wanted: Aggregation
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which rows each person's template is made of, int64, rising, by name; and who has fewer than asked for.

    A person's draw depends on the seed, the name and the person's rows alone, and of n + 1 templates n are those that
    are drawn of n.
    """
    by_name: dict[str, list[int]] = {}
    for row in rows:
        by_name.setdefault(names[row], []).append(row)
    found, fewer = {}, []
    for name in sorted(by_name):
        own = np.array(by_name[name], np.int64)
        if wanted.count is not None:
            if len(own) < wanted.count:
                fewer.append(name)
                if wanted.fewer == "leave-out":
                    continue
            own = np.sort(own[person_order(name, len(own), wanted.seed)[: wanted.count]])
        found[name] = own
    return found, fewer


def person_order(name: str, count: int, seed: int) -> np.ndarray:
    """A random order of a person's images, by the name and the seed alone: int64 (count,)."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(count)


def template_distances(templates: np.ndarray, center: np.ndarray, score: str) -> np.ndarray:
    """Of templates (n, dim) to one (dim,): 1 less the cosine where `score` is that, else Euclidean; float64 (n,)."""
    values = templates.astype(np.float64)
    if score == "cosine" and not (values.any(axis=1).all() and np.any(center)):
        raise BadInput("a template of zeros has no cosine with another; leave that image out")
    if score != "cosine":
        return np.linalg.norm(values - center, axis=1)
    return 1 - values @ center / (np.linalg.norm(values, axis=1) * np.linalg.norm(center))


def _parts(
    store: Store, found: list[tuple[str, np.ndarray]]
) -> Iterator[tuple[list[tuple[str, np.ndarray]], list[np.ndarray]]]:
    """People, a few at a time, with the templates of each."""
    start = 0
    while start < len(found):
        end, rows = start, 0
        while end < len(found) and (end == start or rows + len(found[end][1]) <= _ROWS_AT_ONCE):
            rows += len(found[end][1])
            end += 1
        part = found[start:end]
        taken = store.take(np.concatenate([members for _, members in part]))
        yield part, np.split(taken, np.cumsum([len(members) for _, members in part])[:-1])
        start = end
