"""How well templates under different keys can be told to be of one person: D↔(s), D_sys and maximal linkability.

- Local linkability D↔(s) and the system's D_sys: Gomez-Barrero, Galbally, Rathgeb and Busch, "General Framework to
  Evaluate Unlinkability in Biometric Template Protection Systems", IEEE TIFS 13(6), 2018. With
  LR(s) = p(s | mated) / p(s | non-mated) and even odds of a mated comparison (ω = 1), D↔(s) = 2·LR / (1 + LR) − 1
  where LR > 1, else 0 (1 where LR is infinite); D_sys = ∫ p(s | mated) · D↔(s) ds. 0: not linkable, 1: fully.
- Maximal linkability: Otroshi Shahreza, Shkel and Marcel, "Measuring Linkability of Protected Biometric Templates
  Using Maximal Leakage", IEEE TIFS 18, 2023: log₂ ∫ max(p(s | mated), p(s | non-mated)) ds, 0 to 1 bit. That is
  log₂(1 + total variation distance).

Both measure what one score links; a better score may link more, so a low figure does not prove that nothing does.

Densities are histograms of equally wide bins from the lowest to the highest score, one bin for ten mated scores and at
most 100 (the rule of the authors' own code; its trapezoid rule loses half a bin at either end, the sum here is exact).
Fewer than 100 mated scores are refused, because fewer than 10 bins would hide what links. Finite samples make both
figures too high, the more so the fewer scores a bin has: `linkage_estimate` says what the truth is likely to be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput

FEWEST_BINS, MOST_BINS, SCORES_A_BIN = 10, 100, 10


@dataclass(frozen=True)
class Linkability:
    """Linkability of one score.

    d_sys, maximal (bits): in [0, 1]. edges: float64 (b + 1,) of the bins. mated, non_mated: float64 (b,), each
    bin's share. local: float64 (b,), D↔ in each bin.
    """

    d_sys: float
    maximal: float
    edges: np.ndarray
    mated: np.ndarray
    non_mated: np.ndarray
    local: np.ndarray


def linkability(mated: np.ndarray, non_mated: np.ndarray, weights: np.ndarray | None = None) -> Linkability:
    """Both measures from scores across keys, (m,) of the same persons and (n,) of different ones.

    weights: (m,) of the mated scores, not negative; equal ones if None.

    Raises BadInput: fewer than 100 mated scores, no others, or NaN or infinite ones.
    """
    edges = bin_edges(mated, non_mated)
    p, q = shares(mated, edges, weights), shares(non_mated, edges)
    return Linkability(
        d_sys=float(d_sys(p, q)),
        maximal=float(maximal_linkability(p, q)),
        edges=edges,
        mated=p,
        non_mated=q,
        local=local_linkability(p, q),
    )


def require_enough(mated: int) -> None:
    """Refuse so few mated comparisons that there would be fewer than 10 bins. Raises BadInput."""
    if mated < (needed := FEWEST_BINS * SCORES_A_BIN):
        raise BadInput(
            f"{mated} mated comparisons across keys, and linkability needs {needed} ({FEWEST_BINS} bins of "
            f"{SCORES_A_BIN}): give more people with two images or more, or more keys"
        )


def bin_edges(mated: np.ndarray, non_mated: np.ndarray) -> np.ndarray:
    """The edges of the bins, float64 (b + 1,); a single bin where all scores are equal. BadInput as `linkability`."""
    mated, non_mated = _finite(mated, "mated"), _finite(non_mated, "non-mated")
    require_enough(len(mated))
    low, high = min(mated.min(), non_mated.min()), max(mated.max(), non_mated.max())
    if low == high:
        return np.array([low, high])
    return np.linspace(low, high, min(MOST_BINS, len(mated) // SCORES_A_BIN) + 1)


def bins_of(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each score, int64: half-open bins, the last one closed; scores outside go to the nearest bin."""
    return np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 2)


def shares(scores: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The (weighted) share of scores in each bin, float64 (b,)."""
    counts = np.bincount(bins_of(scores, edges), weights, minlength=len(edges) - 1)
    return counts / counts.sum()


def likelier_mated(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(p − q) / (p + q) of mated and non-mated shares (…, b): −1 to 1, 0 where there is neither."""
    both = p + q
    return np.divide(p - q, both, out=np.zeros_like(both), where=both > 0)


def local_linkability(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D↔ in each bin from the mated and non-mated shares (…, b); 0 where there is neither."""
    # 2·LR / (1 + LR) − 1 with LR = p / q: this form has no infinity.
    return np.maximum(0.0, likelier_mated(p, q))


def d_sys(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """D_sys of mated and non-mated shares (…, b) → (…)."""
    return np.sum(p * local_linkability(p, q), axis=-1)


def total_variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The total variation distance of mated and non-mated shares (…, b) → (…)."""
    return np.sum(np.maximum(0.0, p - q), axis=-1)


def maximal_linkability(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Maximal linkability in bits of mated and non-mated shares (…, b) → (…)."""
    # As log₂(1 + Σ max(0, p − q)), which is exactly 0 where p and q are equal.
    return np.log2(1.0 + total_variation(p, q))


def _finite(scores: np.ndarray, name: str) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise BadInput(f"there are no {name} scores across keys: give people with two images or more")
    if not np.isfinite(scores).all():
        raise BadInput(f"a {name} score is not finite: leave out images without a template")
    return scores
