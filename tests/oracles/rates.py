"""Error rates of comparisons: ISO/IEC 19795-1, LFW's README, docs/evaluation.md.

Scores are float64, higher is more alike; an image without a template has the score -inf with every other. People are
any values that can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def scores_of(one: np.ndarray, others: np.ndarray, score: str) -> np.ndarray:
    """Of one template (d,) with each of others (n, d): (n,). -inf where either is NaN."""
    with np.errstate(invalid="ignore"):
        if score == "cosine":
            values = (others @ one) / (np.linalg.norm(others, axis=1) * np.linalg.norm(one))
        elif score == "negative-euclidean":
            values = -np.sqrt(((others - one) ** 2).sum(1))
        elif score == "negative-hamming":
            values = -(others != one).sum(1) / len(one)
        else:
            raise ValueError(score)
    return np.where(np.isnan(others).any(1) | np.isnan(one).any(), -np.inf, values)


def all_pairs(templates: np.ndarray, people: Sequence, score: str) -> tuple[np.ndarray, np.ndarray, list]:
    """Each two images once: mated scores, non-mated scores, and the person of each mated comparison."""
    names = np.asarray(people)
    mated, non_mated, whose = [], [], []
    for row in range(len(templates) - 1):
        values = scores_of(templates[row], templates[row + 1 :], score)
        same = names[row + 1 :] == names[row]
        mated.append(values[same])
        non_mated.append(values[~same])
        whose += [people[row]] * int(same.sum())
    return np.concatenate(mated), np.concatenate(non_mated), whose


def highest_refused(non_mated: np.ndarray, fmr: str | float) -> float:
    """The score above which comparisons are accepted at a false match rate of at most `fmr`.

    The threshold is the smallest t with at most ⌊fmr·N⌋ of the N non-mated scores at t or above. So the next one below
    those is refused, and whatever lies above it is accepted. Raises ValueError where fmr·N < 1.
    """
    allowed = int(Fraction(str(fmr)) * len(non_mated))
    if allowed < 1:
        raise ValueError(f"{len(non_mated)} non-mated comparisons do not resolve an FMR of {fmr}")
    if allowed >= len(non_mated):
        return -np.inf
    place = len(non_mated) - 1 - allowed
    return float(np.partition(non_mated, place)[place])


def mean_by_person(values: np.ndarray, whose: Sequence) -> float:
    """The mean over each person's values, and then over people (macro average)."""
    of_person: dict = {}
    for value, person in zip(values, whose, strict=True):
        of_person.setdefault(person, []).append(float(value))
    return float(np.mean([np.mean(own) for own in of_person.values()]))


def equal_error_rate(mated: np.ndarray, non_mated: np.ndarray) -> float:
    """Where the curve of (FMR, FNMR) over all thresholds, its points joined by straight lines, has FMR = FNMR."""
    mated, non_mated = np.sort(mated), np.sort(non_mated)
    thresholds = np.unique(np.concatenate([mated, non_mated]))[::-1]
    thresholds = np.concatenate([[np.inf], thresholds[np.isfinite(thresholds)]])
    fnmr = np.searchsorted(mated, thresholds) / len(mated)
    fmr = 1 - np.searchsorted(non_mated, thresholds) / len(non_mated)
    after = int(np.argmax(fmr >= fnmr)) if (fmr >= fnmr).any() else len(thresholds) - 1
    if fmr[after] < fnmr[after]:  # not even at the lowest score: too many without a template
        return float(fnmr[after])
    gap_before, gap = fnmr[after - 1] - fmr[after - 1], fmr[after] - fnmr[after]
    share = gap_before / (gap_before + gap)
    return float(fmr[after - 1] + share * (fmr[after] - fmr[after - 1]))


def accuracies_of_folds(scores: np.ndarray, mated: np.ndarray, fold: np.ndarray) -> list[tuple[float, float]]:
    """Accuracy of each fold at the threshold that is best on all others, as LFW's README has it.

    Several thresholds may be equally good there: (lowest, highest) accuracy that they give in the fold.
    """
    found = []
    for number in np.unique(fold):
        training, test = fold != number, fold == number
        thresholds = np.append(np.unique(scores[np.isfinite(scores)]), np.inf)
        right = [((scores[training] >= t) == mated[training]).sum() for t in thresholds]
        best = thresholds[np.asarray(right) == max(right)]
        in_fold = [float(((scores[test] >= t) == mated[test]).mean()) for t in best]
        found.append((min(in_fold), max(in_fold)))
    return found


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def type_one(pictures: np.ndarray, templates: np.ndarray, score: str) -> np.ndarray:
    """Each picture's template against that of the image that it was drawn of: scores (n,)."""
    return np.array([scores_of(p, t[None], score)[0] for p, t in zip(pictures, templates, strict=True)])


def type_two(pictures: np.ndarray, templates: np.ndarray, people: Sequence, score: str) -> tuple[np.ndarray, list]:
    """Each picture's template against every other image of the person: scores, and whose."""
    names = np.asarray(people)
    scores, whose = [], []
    for row, name in enumerate(people):
        others = np.flatnonzero(names == name)
        others = others[others != row]
        scores.append(scores_of(pictures[row], templates[others], score))
        whose += [name] * len(others)
    return np.concatenate(scores), whose


def enrolled(paths: Sequence[str], people: Sequence, failed: np.ndarray) -> dict:
    """Person → row of the first image by path that gave a template."""
    gallery: dict = {}
    for row in sorted(range(len(paths)), key=lambda r: paths[r]):
        if not failed[row]:
            gallery.setdefault(people[row], row)
    return gallery


def ranks(probes: np.ndarray, whose: Sequence, gallery: np.ndarray, enrolled_people: Sequence, score: str) -> list:
    """Rank of each probe's own person in the gallery, from 1; of equal scores the own one counts as the last.

    inf: never identified, for want of a template or of an enrolled one.
    """
    found: list[float] = []
    for probe, person in zip(probes, whose, strict=True):
        if np.isnan(probe).any() or person not in enrolled_people:
            found.append(np.inf)
            continue
        values = scores_of(probe, gallery, score)
        own = values[list(enrolled_people).index(person)]
        found.append(int((values >= own).sum()))  # the own one is among them
    return found
