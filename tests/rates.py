"""One operating point at a time; the program takes several from one sorting."""

from __future__ import annotations

import numpy as np

from facedecode.statistics.verification import OperatingPoint, at_threshold, thresholds_at_fmr


def tar_at_fmr(
    mated: np.ndarray, non_mated: np.ndarray, fmr: float, weights: np.ndarray | None = None
) -> OperatingPoint:
    """The operating point with the most accepted at a false match rate of at most `fmr`."""
    (threshold,) = thresholds_at_fmr(non_mated, [fmr])
    return at_threshold(mated, non_mated, threshold, weights, fmr_wanted=fmr)
