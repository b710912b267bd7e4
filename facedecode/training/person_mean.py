"""From one template to the template expected of its person: what other images of the person would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_PENALTY = 1e-2  # of the mean variance: people are few beside the numbers of a template


@dataclass(frozen=True)
class PersonPrediction:
    """The best linear prediction of a person's mean template from one template of the person.

    A template is its person's mean plus what one image adds; with their covariances B and W over people, the
    prediction is mean + B (B + W)⁻¹ (template − mean) (best linear unbiased prediction, Henderson 1975).

    Attributes:
        mean: (dim,) float64, of the people.
        matrix: (dim, dim) float64, B (B + W)⁻¹ transposed: it is applied from the right.
        score: `cosine` L2-normalizes templates first.
    """

    mean: np.ndarray
    matrix: np.ndarray
    score: str

    @classmethod
    def fit(cls, templates: np.ndarray, identities: Sequence[str | None], score: str) -> PersonPrediction:
        """Estimate mean, B and W, each person counting alike.

        W comes from the people with several images (the others say nothing of it), B is what the total exceeds it
        by, its negative eigenvalues set to 0. Where nobody has two images, W is 0: a template predicts itself.

        Args:
            templates: (n, dim) float32.
            identities: a name each; a template without one counts as a person of its own.
        """
        values = _prepared(templates, score)
        names = [f"\0{i}" if name is None else name for i, name in enumerate(identities)]
        _, person, counts = np.unique(names, return_inverse=True, return_counts=True)
        share = 1 / counts[person]
        mean = share @ values / len(counts)
        if counts.max(initial=0) < 2:
            return cls(mean, np.eye(values.shape[1]), score)
        centered = values - mean
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, person, centered)
        residuals = centered - (sums / counts[:, None])[person]
        # Each person's unbiased covariance (n − 1), then the mean over the people who have one.
        unbiased = np.where(counts[person] > 1, 1 / np.maximum(counts[person] - 1, 1), 0)
        within = (residuals * unbiased[:, None]).T @ residuals / np.count_nonzero(counts > 1)
        total = (centered * share[:, None]).T @ centered / len(counts)
        spectrum, vectors = np.linalg.eigh(total - within)
        between = (vectors * np.maximum(spectrum, 0)) @ vectors.T
        total += _PENALTY * np.trace(total) / len(total) * np.eye(len(total))
        return cls(mean, np.linalg.solve(total, between), score)

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Templates (n, dim) float32 → what is expected of their people, likewise."""
        return (self.mean + (_prepared(templates, self.score) - self.mean) @ self.matrix).astype(np.float32)


def _prepared(templates: np.ndarray, score: str) -> np.ndarray:
    values = np.asarray(templates, np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True) if score == "cosine" else values
