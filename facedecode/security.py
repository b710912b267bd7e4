"""How often a reconstruction passes for the person whose template it was made from.

Type I: the reconstruction against the very image that made the template. Type II: against another image of
the same person. The success attack rate is the share accepted at thresholds set on real non-mated pairs.
Threat model: the attacker holds a template and a decoder for its recognizer, and presents the reconstructed
picture to the recognizer whose templates are given here (the same one, or for transfer another).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.bootstrap import LEVEL, REPETITIONS, NonMated, RateAtFar, Trials, rates_at_far
from facedecode.errors import BadInput
from facedecode.scores import AllPairs, encode_people, mated_non_mated_scores, score_rows

FMRS = (0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class SecurityRates:
    """Rates at each FMR, in the order asked for; keys: weighting by 'pairs' or by 'people'.

    `mated` is the recognizer's own TAR on real pairs: about what an attack of type II can hope for.
    """

    type_one: dict[str, list[RateAtFar]]
    type_two: dict[str, list[RateAtFar]]
    mated: dict[str, list[RateAtFar]]


def type_one_trials(
    reconstructions: np.ndarray,
    originals: np.ndarray,
    identities: Sequence[str],
    kind: str,
    *,
    missing: np.ndarray | None = None,
    missing_originals: np.ndarray | None = None,
) -> Trials:
    """Reconstruction i against original i: both (n, dim); n trials.

    missing: bool (n,), reconstructions in which no face was found; missing_originals: originals without a
    template. Either makes the trial no success (its score is -inf).
    """
    rows = np.arange(len(identities))
    return _trials(reconstructions, originals, identities, kind, rows, rows, missing, missing_originals)


def type_two_trials(
    reconstructions: np.ndarray,
    originals: np.ndarray,
    identities: Sequence[str],
    kind: str,
    *,
    missing: np.ndarray | None = None,
    missing_originals: np.ndarray | None = None,
) -> Trials:
    """Reconstruction i against original j for all ordered pairs i, j of different images of one person.

    Arguments as in `type_one_trials`. BadInput where nobody has two images.
    """
    _, codes = encode_people(identities)
    order = np.argsort(codes, kind="stable")
    left, right = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        i, j = np.nonzero(~np.eye(len(rows), dtype=bool))
        left.append(rows[i])
        right.append(rows[j])
    i, j = np.concatenate(left), np.concatenate(right)
    if not len(i):
        raise BadInput("nobody has two images, so there is no attack of type II.")
    return _trials(reconstructions, originals, identities, kind, i, j, missing, missing_originals)


def success_attack_rates(
    reconstructions: np.ndarray,
    originals: np.ndarray,
    identities: Sequence[str],
    kind: str,
    fmrs: Sequence[float] = FMRS,
    *,
    missing: np.ndarray | None = None,
    missing_originals: np.ndarray | None = None,
    pairs: AllPairs | None = None,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> SecurityRates:
    """Type I and type II success of reconstructions (n, dim) of the images behind originals (n, dim).

    Both are templates of the attacked recognizer, row i of each belonging to image i of person identities[i].
    Thresholds come from all non-mated pairs of the originals (`pairs`, if at hand from
    `mated_non_mated_scores` on the same rows). Intervals by person, thresholds set anew in each replicate.
    """
    options = {"missing": missing, "missing_originals": missing_originals}
    if pairs is None:
        pairs = mated_non_mated_scores(originals, identities, kind, missing=missing_originals)
    elif not np.array_equal(encode_people(identities)[1], pairs.left_codes) or not pairs.square:
        raise BadInput("these pairs were made from other templates: make them from the same originals.")
    groups = {
        "type_one": type_one_trials(reconstructions, originals, identities, kind, **options),
        "type_two": type_two_trials(reconstructions, originals, identities, kind, **options),
        "mated": Trials(pairs.mated, pairs.mated_people),
    }
    trials = {(name, "pairs"): group for name, group in groups.items()}
    trials |= {(name, "people"): group.person_weighted() for name, group in groups.items()}
    rates = rates_at_far(
        trials,
        NonMated.from_all_pairs(pairs),
        fmrs,
        people=len(pairs.people),
        repetitions=repetitions,
        seed=seed,
        level=level,
    )
    return SecurityRates(**{name: {by: rates[name, by] for by in ("pairs", "people")} for name in groups})


def _trials(
    reconstructions: np.ndarray,
    originals: np.ndarray,
    identities: Sequence[str],
    kind: str,
    left: np.ndarray,
    right: np.ndarray,
    missing: np.ndarray | None,
    missing_originals: np.ndarray | None,
) -> Trials:
    reconstructions, originals = np.asarray(reconstructions), np.asarray(originals)
    if reconstructions.shape != originals.shape or len(originals) != len(identities):
        raise BadInput(
            f"reconstructions {reconstructions.shape}, originals {originals.shape} and {len(identities)} "
            "identities differ: give one row an image in each, with a flag where one is missing."
        )
    _, codes = encode_people(identities)
    there = _present(missing, len(codes))[left] & _present(missing_originals, len(codes))[right]
    both = np.concatenate([reconstructions, originals])
    scores = score_rows(both, np.where(there, left, -1), np.where(there, right + len(codes), -1), kind)
    return Trials(scores, codes[left])


def _present(missing: np.ndarray | None, count: int) -> np.ndarray:
    if missing is None:
        return np.ones(count, dtype=bool)
    missing = np.asarray(missing, dtype=bool)
    if missing.shape != (count,):
        raise BadInput(f"{count} images need as many flags, not {missing.shape}.")
    return ~missing
