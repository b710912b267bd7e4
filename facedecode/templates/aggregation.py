"""One template from several of a person: means, medians, and weights for the better images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import BadInput
from facedecode.progress import Progress, silent
from facedecode.store import Store
from facedecode.store.grouped import Group, grouped_writer, write_groups
from facedecode.store.processing import require_unprotected
from facedecode.templates.jobs import AggregateJob, Aggregation

_ROWS_AT_ONCE = 65_536  # 130 MiB of 512 numbers


def combine(templates: np.ndarray, settings: Aggregation, probabilities: np.ndarray | None = None) -> np.ndarray:
    """One template of some.

    templates: float32 (n, dim), n ≥ 1. probabilities: (n,), where they are the weights.

    Returns float64 (dim,). Raises BadInput: directions of a template of zeros, or that cancel; weights that are
    negative, NaN or all 0.
    """
    values = templates.astype(np.float64)
    if settings.method == "median":
        return np.median(values, axis=0)
    lengths = np.linalg.norm(values, axis=1)
    by_name = {"none": np.ones(len(values)), "probability": probabilities, "norm": lengths}
    weights = np.asarray(by_name[settings.weight], np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise BadInput(f"weights by {settings.weight} that are negative, unknown or all 0: take --weight none")
    weights = weights / weights.sum()
    if settings.method == "mean":
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


def aggregate_store(job: AggregateJob, progress: Progress = silent) -> Aggregated:
    """Write the store of one template a person, with those that it is made of in members.csv.

    The store's templates are read a part at a time, whatever its size. progress: called with (people done, all).

    Raises BadInput: protected templates; no row has a person; nobody has so many; as `combine`, naming whom.
    OutputError, OutputInUse: see `grouped.grouped_writer`.
    """
    store, settings = Store.open(job.store), job.aggregation
    require_unprotected(store)
    names = store.identities()
    rows = [int(i) for i in select_people(names, job.people, tuple(job.exclude)) if names[i] is not None]
    unnamed = sum(name is None for name in names)
    if not rows:
        raise BadInput(f"{store.folder}: no template has a person; put each person's images into a folder of their own")
    chosen, fewer = choose_members(names, rows, settings)
    if not chosen:
        most = max(np.unique([names[i] for i in rows], return_counts=True)[1])
        raise BadInput(
            f"{store.folder}: nobody has {settings.count} templates (at most {most}); take fewer, or --fewer use"
        )
    probabilities = None
    if settings.weight == "probability":
        column = store.columns(["probability"])["probability"].to_pylist()
        probabilities = np.array([np.nan if value is None else value for value in column])
    templates = np.empty((len(chosen), store.dim), np.float32)
    groups: list[Group] = []
    about = asdict(settings) | {"people": sorted(chosen)}
    progress(0, len(chosen))
    with grouped_writer(store, job.output, "aggregate", about, job.overwrite) as writer:
        for part, taken in _parts(store, list(chosen.items())):
            for (name, members), values in zip(part, taken, strict=True):
                try:
                    made = combine(values, settings, None if probabilities is None else probabilities[members])
                    distances = template_distances(values, made, store.score)
                except BadInput as error:
                    raise BadInput(f"{store.folder}: {name}: {error}") from None
                templates[len(groups)] = made
                groups.append(Group(name, members, distances, {"mean_distance": float(distances.mean())}))
                progress(len(groups), len(chosen))
        write_groups(writer, store, templates, groups)
    return Aggregated(len(chosen), fewer, unnamed, sum(len(members) for members in chosen.values()))


def choose_members(
    names: Sequence[str | None], rows: Sequence[int], settings: Aggregation
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Which rows each person's template is made of, int64, rising, by name; and who has fewer than asked for.

    A person's draw depends on the seed, the name and the person's rows alone, and of n + 1 templates n are those that
    are drawn of n.
    """
    by_name: dict[str, list[int]] = {}
    for row in rows:
        by_name.setdefault(names[row], []).append(row)
    chosen, fewer = {}, []
    for name in sorted(by_name):
        members = np.array(by_name[name], np.int64)
        if settings.count is not None:
            if len(members) < settings.count:
                fewer.append(name)
                if settings.fewer == "leave-out":
                    continue
            members = np.sort(members[person_order(name, len(members), settings.seed)[: settings.count]])
        chosen[name] = members
    return chosen, fewer


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
    store: Store, people: list[tuple[str, np.ndarray]]
) -> Iterator[tuple[list[tuple[str, np.ndarray]], list[np.ndarray]]]:
    """People, a few at a time, with the templates of each."""
    start = 0
    while start < len(people):
        end, rows = start, 0
        while end < len(people) and (end == start or rows + len(people[end][1]) <= _ROWS_AT_ONCE):
            rows += len(people[end][1])
            end += 1
        part = people[start:end]
        taken = store.take(np.concatenate([members for _, members in part]))
        yield part, np.split(taken, np.cumsum([len(members) for _, members in part])[:-1])
        start = end
