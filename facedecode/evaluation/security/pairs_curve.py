"""Attack success against the number of template–image pairs that the attacker has.

Closed-form decoders need nothing but pairs, so they can be fitted on any number of them: ridge regression, and the
nearest pair's picture. `decoders.closed_form.Ridge` has its penalty relative to the number of pairs; here n·λ is the
same for all numbers, that of the decoder of all pairs: few pairs are penalized more, as under one Gaussian prior on the
weights. With one relative penalty, ridge is at its worst where there are about as many pairs as a template has numbers,
and the curve would flatter the system (dlib-resnet, 100 pairs, people held out of DevTrain: type I 3 %, not 26 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedecode.annotations.protocols import select_people
from facedecode.errors import UsageError
from facedecode.evaluation.cohort import Judge, JudgedImages, require_unseen
from facedecode.evaluation.rendering import embed_drawn
from facedecode.memory import require_memory
from facedecode.options import ImageOptions
from facedecode.progress import Progress, silent
from facedecode.statistics.bootstrap import REPETITIONS
from facedecode.statistics.pair_rates import RateAtFmr, Trials
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.security import Attack, Originals, pooled_rates, type_one_trials, type_two_trials
from facedecode.store import Store
from facedecode.store.images import read_portraits

if TYPE_CHECKING:  # need torch
    from facedecode.decoders import Decoder
    from facedecode.recognizers.recognizer import Recognizer

KINDS = ("ridge", "nearest")
SIZES = (10, 30, 100, 300, 1000, 3000)
ALL = "all"


@dataclass(frozen=True)
class CurveSettings:
    """The people whose pairs the attacker draws (a file, less `exclude`), and how many.

    sizes: numbers of pairs, or 'all'; those of SIZES that there are, and all, if None. image_size: side of the
    pictures, px. draws: how often pairs are drawn for each number.
    """

    people: Path
    exclude: tuple[str, ...] = ()
    sizes: tuple[int | str, ...] | None = None
    image_size: int = 128
    draws: int = 3


@dataclass(frozen=True)
class CurvePlan:
    """Which pairs are drawn.

    rows: the store's rows that any draw needs, rising, int64 (m,). people: who they are. available: images to draw
    from. subsets: number of pairs → for each draw the positions in `rows`. Those of one draw are nested: the first
    so many of one random order. A draw of all pairs is made once.
    """

    settings: CurveSettings
    rows: np.ndarray
    people: list[str]
    available: int
    subsets: dict[int, list[np.ndarray]]
    seeds: list[int]


@dataclass(frozen=True)
class CurvePoint:
    """Success of one decoder fitted on `pairs` pairs, before one recognizer, at one FMR.

    type_one, type_two: weighting ('pairs', 'people') → rate over the trials of all draws together, its n that of
    one draw, `accepted` the mean over draws; type_two is empty where nobody has two images. by_draw: type → the
    person-weighted rate of each draw.
    """

    decoder: str
    recognizer: str
    pairs: int
    draws: int
    type_one: dict[str, RateAtFmr]
    type_two: dict[str, RateAtFmr]
    by_draw: dict[str, list[float]]


def plan_curve(store: Store, settings: CurveSettings, judged: JudgedImages, seed: int = 0) -> CurvePlan:
    """Choose the pairs. judged: the images that the pictures are judged on. Draw k has the seed `seed` + k.

    BadInput for people who are not in the store, or are judged, or whose pictures are; UsageError for fewer than 2
    pairs, or more than there are; WouldNotFit for portraits that would not fit in memory.
    """
    identities = store.identities()
    chosen = select_people(identities, settings.people, settings.exclude)
    people = sorted({identities[row] for row in chosen if identities[row] is not None})
    known = JudgedImages.of_store(store, chosen).known
    require_unseen(f"of the pairs curve ({settings.people.name})", known, judged)
    counts = _sizes(settings, len(chosen))
    if settings.draws < 1:
        raise UsageError(f"{settings.draws} draws of pairs: make at least one")
    seeds = [seed + k for k in range(settings.draws)]
    orders = [np.random.default_rng(k).permutation(len(chosen)) for k in seeds]
    used = np.unique(np.concatenate([order[: counts[-1]] for order in orders]))
    side, dim = settings.image_size, store.dim
    require_memory(
        2 * len(used) * 3 * side**2 + 3 * 8 * dim * 3 * side**2,  # portraits and a subset of them; ridge's sums
        f"{len(used)} portraits of {side} px",
        "ask for fewer pairs (--pairs-curve) or smaller portraits (--pairs-curve-size)",
    )
    subsets = {
        count: [np.searchsorted(used, order[:count]) for order in (orders if count < len(chosen) else orders[:1])]
        for count in counts
    }
    return CurvePlan(settings, chosen[used], people, len(chosen), subsets, seeds)


def _sizes(settings: CurveSettings, available: int) -> list[int]:
    """The numbers of pairs, rising."""
    sizes: Sequence[int | str] = (
        [*(size for size in SIZES if size < available), ALL] if settings.sizes is None else settings.sizes
    )
    counts = sorted({available if size == ALL else int(size) for size in sizes})
    if available < 2:
        raise UsageError(f"--train-people: they have {available} image in the store; the pairs curve takes 2 at least")
    if not counts or counts[0] < 2 or counts[-1] > available:
        raise UsageError(
            f"--pairs-curve: give numbers of pairs from 2 to {available} (those of --train-people), or all"
        )
    return counts


def draw_pairs(
    plan: CurvePlan, store: Store, images: ImageOptions | None = None, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of `plan.rows`: templates, float32 (m, dim), and portraits, uint8 (m, P, P, 3).

    store: the one that the plan was made of. images: where its images are, if not where its manifest says.
    """
    rows = store.rows().take(plan.rows).to_pylist()
    portraits = read_portraits(rows, store.images(images), plan.settings.image_size, progress=progress)
    return store.templates()[plan.rows], portraits


def pairs_curve(
    plan: CurvePlan,
    pairs: tuple[np.ndarray, np.ndarray],
    attacked: str,
    judges: Mapping[str, Judge],
    identities: Sequence[str],
    fmr: float,
    *,
    device: str = "cpu",
    repetitions: int = REPETITIONS,
    seed: int = 0,
    progress: Progress = silent,
) -> list[CurvePoint]:
    """Success at each number of pairs of `plan`, for each of KINDS and each judge.

    Args:
        pairs: as of `draw_pairs`; the templates are by the judge named `attacked`.
        judges: by name, all of the same images in one order; identities: the person of each image.
        fmr: of the thresholds.
        progress: called with (done, total, note).
    """
    templates, portraits = pairs
    owner = judges[attacked]
    total = len(KINDS) * sum(len(draws) for draws in plan.subsets.values())
    trials: dict[tuple, dict[str, list[Trials]]] = {}
    done = 0
    progress(done, total)
    for kind in KINDS:
        for count, draws in plan.subsets.items():
            for subset in draws:
                decoder = _fit(kind, templates[subset], portraits[subset], plan.available, owner.recognizer, device)
                drawn = embed_drawn(decoder, owner.templates, owner.missing, judges)
                for name, judge in judges.items():
                    for attack, compared in _trials(drawn[name], judge, identities, owner.missing):
                        trials.setdefault((name, kind, count), {}).setdefault(attack, []).append(compared)
                done += 1
                progress(done, total, f"{kind}, {count} pairs")
    points: list[CurvePoint] = []
    for name, judge in judges.items():
        own_trials = {key: compared for key, compared in trials.items() if key[0] == name}
        points += _points(own_trials, judge, fmr, repetitions, seed)
    return points


def _fit(
    kind: str, templates: np.ndarray, portraits: np.ndarray, available: int, recognizer: Recognizer, device: str
) -> Decoder:
    """A closed-form decoder of pairs: templates (n, dim), portraits (n, P, P, 3) uint8; `available`: all there are."""
    import torch

    from facedecode.decoders import Decoder, Provenance
    from facedecode.decoders.kinds import KINDS as DECODERS

    net = DECODERS[kind].network(templates.shape[1], portraits.shape[1])
    if kind == "ridge":
        net.penalty *= available / len(templates)
    pictures = torch.from_numpy(portraits).permute(0, 3, 1, 2)
    net.fit(torch.from_numpy(templates), pictures, recognizer.spec.score)
    return Decoder(kind, net, Provenance(recognizer.describe()), device)


def _trials(
    drawn: np.ndarray, judge: Judge, identities: Sequence[str], missing: np.ndarray
) -> Iterator[tuple[str, Trials]]:
    attack = Attack(drawn, missing)
    originals = Originals(judge.templates, identities, judge.recognizer.spec.score, judge.missing)
    yield "type_one", type_one_trials(attack, originals)
    if len(judge.pairs.mated):
        yield "type_two", type_two_trials(attack, originals)


def _points(
    trials: Mapping[tuple, Mapping[str, list[Trials]]], judge: Judge, fmr: float, repetitions: int, seed: int
) -> Iterator[CurvePoint]:
    """The points of one judge: one bootstrap for all of them."""
    draws = {(key, attack): several for key, attacks in trials.items() for attack, several in attacks.items()}
    non_mated, people = NonMated.from_all_pairs(judge.pairs), len(judge.pairs.people)
    rates = pooled_rates(draws, non_mated, fmr, people=people, repetitions=repetitions, seed=seed)
    for key, attacks in trials.items():
        name, kind, count = key
        reached = {attack: rates[key, attack] for attack in attacks}
        (one, _), (two, _) = reached["type_one"], reached.get("type_two", ({}, []))
        by_draw = {attack: shares for attack, (_, shares) in reached.items()}
        yield CurvePoint(kind, name, count, len(attacks["type_one"]), one, two, by_draw)
