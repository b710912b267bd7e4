"""Templates against templates: linkability, what a map undoes, probes, clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def linkability(
    mated: np.ndarray, non_mated: np.ndarray, weights: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[float, float]:
    """D_sys with ω = 1 (Gomez-Barrero et al. 2018) and maximal linkability, bits (Otroshi Shahreza et al. 2023).

    Densities are histograms of equally wide bins from the lowest to the highest score: as many as a tenth of the mated
    scores, at most 100. weights: of each mated and each non-mated score.
    """
    bins = min(100, len(mated) // 10)
    lowest, highest = min(mated.min(), non_mated.min()), max(mated.max(), non_mated.max())
    if lowest == highest:
        return 0.0, 0.0

    def shares(scores: np.ndarray, weight: np.ndarray) -> np.ndarray:
        place = np.minimum(((scores - lowest) / (highest - lowest) * bins).astype(int), bins - 1)
        return np.array([weight[place == b].sum() for b in range(bins)]) / weight.sum()

    own = weights or (np.ones(len(mated)), np.ones(len(non_mated)))
    p, q = shares(mated, own[0]), shares(non_mated, own[1])
    d_sys = 0.0
    for of_mated, of_others in zip(p, q, strict=True):
        if of_mated > of_others:  # the likelihood ratio is above 1, infinite where there are no others
            local = 1.0 if of_others == 0 else 2 * (of_mated / of_others) / (1 + of_mated / of_others) - 1
            d_sys += local * of_mated
    return float(d_sys), float(np.log2(np.maximum(p, q).sum()))


def fitted_map(perturbed: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Eq. 6: the affine map M with the least Σ‖e − M(e′)‖², as a matrix (d + 1, d) for e′ with a 1 behind it.

    Directions along which e′ varies by less than 3e-5 of its length hold rounding only, and are not read.
    """
    center, target = perturbed.mean(0), original.mean(0)
    _, spread, directions = np.linalg.svd(perturbed - center, full_matrices=False)
    length = np.sqrt((perturbed**2).sum(1).mean())
    kept = spread / np.sqrt(len(perturbed)) > 3e-5 * length
    coordinates = (perturbed - center) @ directions[kept].T
    slopes = np.linalg.lstsq(coordinates, original - target, rcond=None)[0]
    weight = directions[kept].T @ slopes
    return np.vstack([weight, target - center @ weight])


def mapped(matrix: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    return np.hstack([perturbed, np.ones((len(perturbed), 1))]) @ matrix


def displacement_undone(original: np.ndarray, perturbed: np.ndarray, undone: np.ndarray) -> float:
    """1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖²."""
    return float(1 - ((original - undone) ** 2).sum() / ((original - perturbed) ** 2).sum())


def person_shares(people: Sequence) -> np.ndarray:
    """A weight for each image so that all people count alike: 1 over the person's number of images."""
    return np.array([1 / list(people).count(name) for name in people])


def balanced_accuracy(guesses: Sequence, truth: Sequence, people: Sequence) -> float:
    """Mean over classes of the share told right, where every person counts alike."""
    share, right = person_shares(people), np.asarray(guesses) == np.asarray(truth)
    classes = [np.asarray(truth) == value for value in sorted(set(truth))]
    return float(np.mean([(share * right)[own].sum() / share[own].sum() for own in classes]))


def r_squared(guesses: np.ndarray, truth: np.ndarray, people: Sequence) -> float:
    """1 less the squared error over that of always saying the mean, where every person counts alike."""
    share = person_shares(people)
    mean = (share * truth).sum() / share.sum()
    return float(1 - (share * (truth - guesses) ** 2).sum() / (share * (truth - mean) ** 2).sum())


def logistic_regression(inputs: np.ndarray, positive: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """(d + 1,), the bias last, with the least Σ wᵢ log-loss + penalty/2 · ‖slopes‖²: Newton's steps."""
    x = np.hstack([inputs, np.ones((len(inputs), 1))])
    held = penalty * np.append(np.ones(inputs.shape[1]), 0)
    at = np.zeros(x.shape[1])

    def loss(where: np.ndarray) -> float:
        z = x @ where
        return float(weights @ (np.logaddexp(0, z) - positive * z) + held @ where**2 / 2)

    for _ in range(100):
        p = 1 / (1 + np.exp(-(x @ at)))
        slope = x.T @ (weights * (p - positive)) + held * at
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x + np.diag(held) + 1e-12 * np.eye(len(at))
        step = np.linalg.solve(curvature, slope)
        size = 1.0
        while loss(at - size * step) > loss(at) and size > 1e-8:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return at


def ridge_regression(inputs: np.ndarray, values: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """(d + 1,), the bias last, with the least Σ wᵢ error² + penalty · ‖slopes‖²."""
    center, mean = weights @ inputs / weights.sum(), weights @ values / weights.sum()
    x = (inputs - center) * np.sqrt(weights)[:, None]
    slopes = np.linalg.solve(x.T @ x + penalty * np.eye(inputs.shape[1]), x.T @ ((values - mean) * np.sqrt(weights)))
    return np.append(slopes, mean - center @ slopes)


def agglomerated(distances: np.ndarray, sizes: np.ndarray, linkage: str, stop: float | int) -> np.ndarray:
    """Clusters by always merging the two nearest, all pairs looked at: a number each, (n,).

    distances: (n, n); of `ward` they are Euclidean. stop: an int is the number of clusters, a float the distance from
    which on nothing is merged.
    """
    far = np.where(np.eye(len(distances), dtype=bool), np.inf, distances.astype(np.float64))
    count, label = sizes.astype(np.float64).copy(), np.arange(len(far))
    nearest = far.argmin(1)
    for left in range(len(far), 1, -1):
        if isinstance(stop, int) and left <= stop:
            break
        best = far[np.arange(len(far)), nearest]
        a = int(best.argmin())
        b, height = int(nearest[a]), float(best.min())
        if isinstance(stop, float) and height > stop:
            break
        if linkage == "average":
            row = (count[a] * far[a] + count[b] * far[b]) / (count[a] + count[b])
        elif linkage == "complete":
            row = np.maximum(far[a], far[b])
        else:  # Ward, by Lance and Williams
            with np.errstate(invalid="ignore"):
                square = (count[a] + count) * far[a] ** 2 + (count[b] + count) * far[b] ** 2 - count * height**2
                row = np.sqrt(square / (count[a] + count[b] + count))
            row[~np.isfinite(far[a]) | ~np.isfinite(far[b])] = np.inf
        row[[a, b]] = np.inf
        far[a], far[:, a], far[b], far[:, b] = row, row, np.inf, np.inf
        count[a] += count[b]
        label[label == label[b]] = label[a]
        changed = np.isin(nearest, [a, b]) | (far[:, a] < far[np.arange(len(far)), nearest])
        for k in np.flatnonzero(changed):
            nearest[k] = far[k].argmin()
    return np.unique(label, return_inverse=True)[1]


def adjusted_rand(labels: Sequence, truth: Sequence) -> float:
    """Hubert and Arabie 1985: pairs that both hold together, less what chance gives, over the most above it."""
    table = np.zeros((len(set(labels)), len(set(truth))))
    place = [{value: k for k, value in enumerate(sorted(set(values)))} for values in (labels, truth)]
    for label, name in zip(labels, truth, strict=True):
        table[place[0][label], place[1][name]] += 1

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, one, other = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = one * other / pairs(np.array([len(labels)]))
    return (both - chance) / ((one + other) / 2 - chance)


def bcubed(labels: Sequence, truth: Sequence) -> tuple[float, float]:
    """Bagga and Baldwin 1998: the share of a template's cluster that is its person, and of its person there."""
    labels, truth = np.asarray(labels), np.asarray(truth)
    precision = [(truth[labels == label] == name).mean() for label, name in zip(labels, truth, strict=True)]
    recall = [(labels[truth == name] == label).mean() for label, name in zip(labels, truth, strict=True)]
    return float(np.mean(precision)), float(np.mean(recall))


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Rousseeuw 1987: mean of (b − a) / max(a, b); 0 for what is alone in its cluster."""
    values = []
    for row, label in enumerate(labels):
        own = (labels == label) & (np.arange(len(labels)) != row)
        if not own.any():
            values.append(0.0)
            continue
        a = distances[row, own].mean()
        b = min(distances[row, labels == other].mean() for other in set(labels) - {label})
        values.append((b - a) / max(a, b) if max(a, b) > 0 else 0.0)
    return float(np.mean(values))
