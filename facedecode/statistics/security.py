"""How often a reconstruction passes for the person whose template it was made from.

Type I: the reconstruction against the very image that made the template. Type II: against another image of
the same person. The success attack rate is the share accepted at thresholds set on real non-mated pairs.
Threat model: the attacker holds a template and a decoder for its recognizer, and presents the reconstructed
picture to the recognizer whose templates are given here (the same one, or for transfer another).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from facedecode.errors import BadInput
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, mean_interval
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import Group, RateAtFmr, Trials, rates_at_fmr
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import AllPairs, encode_people, mated_non_mated_scores, score_matrix, score_rows

FMRS = (0.1, 0.01, 0.001, 0.0001)
RANKS = (1, 5, 10)
_CMC = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
REAL = "real images"
OTHER, SAME = "other_image", "same_image"


@dataclass(frozen=True)
class SecurityRates:
    """Rates at each FMR, in the order asked for; keys: weighting by 'pairs' or by 'people'.

    `mated` is the recognizer's own TAR on real pairs: about what an attack of type II can hope for. It and
    `type_two` are empty where nobody has two images.
    """

    type_one: dict[str, list[RateAtFmr]]
    type_two: dict[str, list[RateAtFmr]]
    mated: dict[str, list[RateAtFmr]]


@dataclass(frozen=True)
class Attack:
    """What a recognizer makes of the pictures of one decoder.

    templates: (n, dim), row i of the picture that was made from the template of image i.
    missing: bool (n,), images of which there is no picture, or no face in it; None if there are none.
    """

    templates: np.ndarray
    missing: np.ndarray | None = None


@dataclass(frozen=True)
class Originals:
    """What the attacked recognizer makes of the images themselves.

    templates: (n, dim). identities: n names. kind: the score that compares them. missing: bool (n,), images without a
    template; None if there are none.
    """

    templates: np.ndarray
    identities: Sequence[str]
    kind: str
    missing: np.ndarray | None = None


def type_one_trials(attack: Attack, originals: Originals) -> Trials:
    """Reconstruction i against original i: n trials, of score -inf where either is missing."""
    rows = np.arange(len(originals.identities))
    return _trials(attack, originals, rows, rows)


def type_two_trials(attack: Attack, originals: Originals) -> Trials:
    """Reconstruction i against original j for all ordered pairs i, j of different images of one person.

    The score is -inf where either is missing. BadInput where nobody has two images.
    """
    _, codes = encode_people(originals.identities)
    order = np.argsort(codes, kind="stable")
    left, right = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        i, j = np.nonzero(~np.eye(len(rows), dtype=bool))
        left.append(rows[i])
        right.append(rows[j])
    i, j = np.concatenate(left), np.concatenate(right)
    if not len(i):
        raise BadInput("nobody has two images, so there is no attack of type II.")
    return _trials(attack, originals, i, j)


def attack_success(
    attacks: Mapping[str, Attack],
    originals: Originals,
    fmrs: Sequence[float] = FMRS,
    *,
    pairs: AllPairs | None = None,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, SecurityRates]:
    """Type I and type II success of several attacks on one recognizer: all share thresholds and replicates.

    Thresholds come from all non-mated pairs of the originals (`pairs`, if at hand from `mated_non_mated_scores` on the
    same rows). Intervals by person, thresholds set anew in each replicate. Where nobody has two images there is no
    type II and no TAR: those are empty.
    """
    names, kind = originals.identities, originals.kind
    if pairs is None:
        pairs = mated_non_mated_scores(originals.templates, names, kind, missing=originals.missing)
    elif not np.array_equal(encode_people(names)[1], pairs.left_codes) or not pairs.square:
        raise BadInput("these pairs were made from other templates: make them from the same originals.")
    groups: dict[tuple[str, str], Trials] = {}
    for name, attack in attacks.items():
        groups[name, "type_one"] = type_one_trials(attack, originals)
        if len(pairs.mated):
            groups[name, "type_two"] = type_two_trials(attack, originals)
    if len(pairs.mated):
        groups["", "mated"] = Trials(pairs.mated, pairs.mated_people)
    weighted = {"pairs": groups, "people": {group: trials.person_weighted() for group, trials in groups.items()}}
    rates = rates_at_fmr(
        {(*group, by): trials for by, each in weighted.items() for group, trials in each.items()},
        NonMated.from_all_pairs(pairs),
        fmrs,
        people=len(pairs.people),
        repetitions=repetitions,
        seed=seed,
        level=level,
    )

    def of(name: str, trials: str) -> dict[str, list[RateAtFmr]]:
        return {by: rates[name, trials, by] for by in weighted if (name, trials, by) in rates}

    return {name: SecurityRates(of(name, "type_one"), of(name, "type_two"), of("", "mated")) for name in attacks}


def _trials(attack: Attack, originals: Originals, left: np.ndarray, right: np.ndarray) -> Trials:
    """The pictures of images `left` against originals `right`."""
    drawn, real = np.asarray(attack.templates), np.asarray(originals.templates)
    if drawn.shape != real.shape or len(real) != len(originals.identities):
        raise BadInput(
            f"reconstructions {drawn.shape}, originals {real.shape} and {len(originals.identities)} "
            "identities differ: give one row an image in each, with a flag where one is missing."
        )
    _, codes = encode_people(originals.identities)
    present = _present(attack.missing, len(codes))[left] & _present(originals.missing, len(codes))[right]
    left_rows, right_rows = np.where(present, left, -1), np.where(present, right + len(codes), -1)
    return Trials(score_rows(np.concatenate([drawn, real]), left_rows, right_rows, originals.kind), codes[left])


def _present(missing: np.ndarray | None, count: int) -> np.ndarray:
    missing = np.zeros(count, dtype=bool) if missing is None else np.asarray(missing, dtype=bool)
    if missing.shape != (count,):
        raise BadInput(f"{count} images need as many flags, not {missing.shape}.")
    return ~missing


_BLOCK_SCORES = 2**21


def pooled_rates(
    draws: Mapping[Group, Sequence[Trials]],
    non_mated: NonMated,
    fmr: float,
    *,
    people: int,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> dict[Group, tuple[dict[str, RateAtFmr], list[float]]]:
    """The share of trials accepted where the same comparisons were made several times, of attacks drawn anew.

    Returns for each key the rates by 'pairs' and by 'people' over all draws together, with the counts of one draw (the
    same comparisons again are not more of them); and the rate by people of each draw.
    """
    groups = {}
    for key, several in draws.items():
        pooled = Trials(np.concatenate([t.scores for t in several]), np.concatenate([t.people for t in several]))
        groups[key, "pairs"], groups[key, "people"] = pooled, pooled.person_weighted()
    rates = rates_at_fmr(groups, non_mated, [fmr], people=people, repetitions=repetitions, seed=seed)
    found = {}
    for key, several in draws.items():
        one = {}
        for by in ("pairs", "people"):
            (rate,) = rates[key, by]
            n = rate.n // len(several) if by == "pairs" else rate.n  # by people it is the number of people already
            one[by] = replace(rate, n=n, accepted=round(rate.accepted / len(several)))
        weighted = [trials.person_weighted() for trials in several]
        threshold = one["people"].threshold
        found[key] = one, [float(t.weights[t.scores >= threshold].sum()) for t in weighted]
    return found


def enrolled_rows(paths: Sequence[str], identities: Sequence[str], missing: np.ndarray) -> np.ndarray:
    """Each person's first image by path that has a template: int64 (people,), rising.

    missing: bool (n,). People of whom no image has a template have no row.
    """
    first: dict[str, int] = {}
    for row in sorted(np.flatnonzero(~np.asarray(missing, dtype=bool)).tolist(), key=lambda row: paths[row]):
        first.setdefault(identities[row], row)
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

    Raises BadInput: a person is in the gallery twice, or the sizes differ.
    """
    names, codes = encode_people(gallery_people)
    if len(names) != len(codes) or len(codes) != len(gallery):
        raise BadInput(f"{len(names)} people for {len(gallery)} gallery templates: enroll one template a person.")
    probes = np.asarray(probes)
    present = np.ones(len(probes), bool) if missing is None else ~np.asarray(missing, dtype=bool)
    if not len(probes) == len(probe_people) == len(present):
        raise BadInput(f"{len(probes)} probes, {len(probe_people)} identities and {len(present)} flags: give one each.")
    place = {name: column for column, name in enumerate(gallery_people)}
    mate = np.array([place.get(name, -1) for name in probe_people], dtype=np.int64)
    ranks = np.full(len(probes), len(gallery) + 1, dtype=np.int64)
    able = np.flatnonzero(present & (mate >= 0))
    step = max(1, _BLOCK_SCORES // len(gallery))
    for start in range(0, len(able), step):
        rows = able[start : start + step]
        scores = score_matrix(probes[rows], gallery, kind)
        of_mates = np.take_along_axis(scores, mate[rows, None], axis=1)
        ranks[rows] = np.count_nonzero(scores >= of_mates, axis=1)
    return ranks


def identification_rates(
    ranks: np.ndarray,
    identities: Sequence[str],
    at: Sequence[int],
    *,
    person_weighted: bool = False,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> list[Estimate]:
    """The share of probes identified at each rank of `at` or a better one, with its interval by person.

    person_weighted: every person with a probe counts alike. The probes' people are drawn again, and the gallery
    is held fixed: the intervals say nothing of another gallery.
    """
    return [
        mean_interval(
            np.asarray(ranks) <= rank, identities, person_weighted=person_weighted, repetitions=repetitions, seed=seed
        )
        for rank in at
    ]


@dataclass(frozen=True)
class Identification:
    """Closed-set identification by one recognizer.

    gallery: templates enrolled, one a person. people: how many there are.
    ranks: source (a decoder's name, or REAL) → probe (OTHER, SAME) → weighting → an estimate for each of RANKS.
    cmc: source → person-weighted estimates at `cmc_ranks`, for probes of other images.
    """

    gallery: int
    people: int
    ranks: dict[str, dict[str, dict[str, list[Estimate]]]]
    cmc_ranks: list[int]
    cmc: dict[str, list[Estimate]]


def identify(
    attacks: Mapping[str, Attack], originals: Originals, paths: Sequence[str], *, repetitions: int, seed: int
) -> Identification:
    """Identification of pictures, and of real images, in a gallery of one real template a person.

    Probes: for people with two images or more the other images (`OTHER`), and of each person the very image that is
    enrolled (`SAME`, not for real images). paths: of the images. BadInput where none of them has a template.
    """
    identities = originals.identities
    nothing = np.zeros(len(identities), bool)
    enrolled = enrolled_rows(paths, identities, nothing if originals.missing is None else originals.missing)
    if not len(enrolled):
        raise BadInput("the recognizer has no template of these images: there is no gallery")
    others = np.setdiff1d(np.arange(len(identities)), enrolled)
    counts = Counter(identities)
    others = np.array([row for row in others if counts[identities[row]] > 1], dtype=np.int64)
    gallery, owners = originals.templates[enrolled], [identities[row] for row in enrolled]
    at = sorted({rank for rank in _CMC if rank < len(enrolled)} | {len(enrolled)})
    ranks: dict[str, dict] = {}
    cmc: dict[str, list[Estimate]] = {}
    for source, attack in {**attacks, REAL: Attack(originals.templates, originals.missing)}.items():
        ranks[source] = {}
        missing = nothing if attack.missing is None else attack.missing
        for probe, rows in ((OTHER, others), (SAME, enrolled)):
            if not len(rows) or (source == REAL and probe == SAME):
                continue
            people = [identities[row] for row in rows]
            of_probes = identification_ranks(
                gallery, owners, attack.templates[rows], people, originals.kind, missing[rows]
            )
            ranks[source][probe] = {
                by: identification_rates(
                    of_probes, people, RANKS, person_weighted=by == "people", repetitions=repetitions, seed=seed
                )
                for by in ("pairs", "people")
            }
            if probe == OTHER:
                cmc[source] = identification_rates(
                    of_probes, people, at, person_weighted=True, repetitions=repetitions, seed=seed
                )
    return Identification(len(enrolled), len(set(identities)), ranks, at, cmc)
