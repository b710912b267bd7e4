"""Closed-set identification: at which rank a gallery of enrolled people gives the person of a probe.

The gallery has one template a person. A probe is compared with all of it, and its rank is the number of gallery
templates that score at least as high as its own person's: of equals the worst rank. A probe without a template, or
of a person who is not enrolled, is never identified. Terms: ISO/IEC 19795-1 (identification rank, CMC).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facedecode.errors import BadInput
from facedecode.statistics.bootstrap import LEVEL, REPETITIONS, Estimate, mean_interval
from facedecode.statistics.scores import encode_people, score_matrix

_BLOCK_SCORES = 2**21


def enrolled_rows(paths: Sequence[str], identities: Sequence[str], missing: np.ndarray) -> np.ndarray:
    """Each person's first image by path that has a template: int64 (people,), rising.

    missing: bool (n,). People of whom no image has a template have no row.
    """
    first: dict[str, int] = {}
    for row in sorted(np.flatnonzero(~np.asarray(missing, dtype=bool)), key=lambda row: paths[row]):
        first.setdefault(identities[row], int(row))
    return np.array(sorted(first.values()), dtype=np.int64)


def identification_ranks(
    gallery: np.ndarray,
    gallery_people: Sequence[str],
    probes: np.ndarray,
    probe_people: Sequence[str],
    kind: str,
    missing: np.ndarray | None = None,
) -> np.ndarray:
    """The rank of each probe's own person, int64 (n,), from 1; len(gallery) + 1 where it is never identified.

    Args:
        gallery: (g, dim), one template a person. probes: (n, dim).
        kind: the score, see `facedecode.statistics.scores`.
        missing: bool (n,), probes without a template (what stands there is not looked at).

    Raises:
        BadInput: a person is in the gallery twice, or the sizes differ.
    """
    names, codes = encode_people(gallery_people)
    if len(names) != len(codes) or len(codes) != len(gallery):
        raise BadInput(f"{len(names)} people for {len(gallery)} gallery templates: enroll one template a person.")
    probes = np.asarray(probes)
    there = np.ones(len(probes), bool) if missing is None else ~np.asarray(missing, dtype=bool)
    if not len(probes) == len(probe_people) == len(there):
        raise BadInput(f"{len(probes)} probes, {len(probe_people)} identities and {len(there)} flags: give one each.")
    place = {name: column for column, name in enumerate(gallery_people)}
    mate = np.array([place.get(name, -1) for name in probe_people], dtype=np.int64)
    ranks = np.full(len(probes), len(gallery) + 1, dtype=np.int64)
    able = np.flatnonzero(there & (mate >= 0))
    step = max(1, _BLOCK_SCORES // len(gallery))
    for start in range(0, len(able), step):
        rows = able[start : start + step]
        scores = score_matrix(probes[rows], gallery, kind)
        own = np.take_along_axis(scores, mate[rows, None], axis=1)
        ranks[rows] = np.count_nonzero(scores >= own, axis=1)
    return ranks


def identification_rates(
    ranks: np.ndarray,
    identities: Sequence[str],
    at: Sequence[int],
    *,
    person_weighted: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Estimate]:
    """The share of probes identified at each rank of `at` or a better one, with its interval by person.

    person_weighted: every person with a probe counts alike. The probes' people are drawn again, and the gallery
    is held fixed: the intervals say nothing of another gallery.
    """
    options = {"person_weighted": person_weighted, "repetitions": repetitions, "seed": seed, "level": level}
    return [mean_interval(np.asarray(ranks) <= rank, identities, **options) for rank in at]
