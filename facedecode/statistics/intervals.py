"""Confidence intervals from the replicates of a bootstrap by person."""

from __future__ import annotations

import numpy as np

from facedecode.errors import UsageError

LEVEL = 0.95
VERSION = 3  # of how intervals are made, in the provenance of each report: one more wherever they change (CHANGELOG)


def percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The interval that holds `level` of the replicates; those without a value (NaN) are left out."""
    _require_level(level)
    return _quantiles(values[~np.isnan(values)], (1 - level) / 2, (1 + level) / 2)


def corrected(
    value: float, replicates: np.ndarray, left_out: np.ndarray, level: float = LEVEL
) -> tuple[float | None, float | None]:
    """Percentiles of the replicates, corrected for bias, for skewness and for few people (BCa with Student's t).

    Plain percentiles are too narrow on the side to which a rate near 0 or 1 can be wrong. Efron's (1987) corrections
    are z0, from the share of replicates below the value, and the acceleration, from a jackknife. The spread itself is
    known the less, the fewer people decide it, so Student's t replaces the normal deviate. Its degrees of freedom are
    one less than the effective number of people, (sum d²)² / sum d⁴ for d the influence of each: a third of the people
    where influence is normally distributed, few where a few people have most images.

    value: the figure. replicates: (r,) of the bootstrap. left_out: (n,), the figure without each person. NaN: without a
        value, left out.

    Returns low, high; None where no replicate has a value, or fewer than two people can be left out.
    """
    _require_level(level)
    replicates, left_out = replicates[~np.isnan(replicates)], left_out[~np.isnan(left_out)]
    if len(left_out) < 2 or not len(replicates):
        return None, None
    with np.errstate(invalid="ignore"):
        influence = left_out.mean() - left_out
    spread = float(np.sum(influence**2))
    # Rounding alone: no person changes anything. Or one person alone keeps the figure finite.
    if spread <= 1e-24 or not np.isfinite(spread):
        return percentiles(replicates, level)
    from scipy.special import ndtr, ndtri, stdtrit  # of scikit-learn's dependencies; 0.1 s to import

    freedom = max(1.0, spread**2 / float(np.sum(influence**4)) - 1)
    skewness = float(np.sum(influence**3)) / (6 * spread**1.5)
    # Equal but for rounding counts half below.
    equal = np.abs(replicates - value) <= 1e-12
    below = np.mean(np.where(equal, 0.5, replicates < value))
    bias = float(ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates))))

    def share(deviate: float) -> float:
        moved, stretch = bias + deviate, 1 - skewness * (bias + deviate)
        return float(ndtr(bias + moved / stretch)) if stretch > 0 else float(moved > 0)

    deviate = float(stdtrit(freedom, (1 + level) / 2))
    return _quantiles(replicates, share(-deviate), share(deviate))


def unanimous(shares: np.ndarray, level: float = LEVEL) -> float:
    """The lowest rate at which success of everybody is not yet unlikely: the Clopper-Pearson bound (a/2)^(1/n).

    A rate of 0 or 1 is the same in every replicate, which does not tell how far from it the truth may be. shares:
    (people,), what each weighs in the rate, not negative. n is the number of people who weigh anything: that all n
    succeed has the same probability whatever they weigh.
    """
    _require_level(level)
    return ((1 - level) / 2) ** (1 / int(np.count_nonzero(shares)))


def clopper_pearson_floor(
    all_right: bool, low_high: tuple[float | None, float | None], shares: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """The interval of a rate of 1 (all_right) or 0: at least as far as `unanimous` says for the people's shares."""
    ends = [end for end in low_high if end is not None]
    bound = unanimous(shares, level)
    return (min([bound, *ends]), 1.0) if all_right else (0.0, max([1 - bound, *ends]))


def _quantiles(values: np.ndarray, low: float, high: float) -> tuple[float | None, float | None]:
    if not len(values):
        return None, None
    with np.errstate(invalid="ignore"):  # between infinite ratios
        ends = np.quantile(values, [low, high])
    return float(ends[0]), float(ends[1])


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"a confidence level of {level} is not between 0 and 1.")
