"""Confidence intervals from the replicates of a bootstrap by person."""

from __future__ import annotations

import numpy as np

from facedecode.errors import UsageError

LEVEL = 0.95
VERSION = 3  # of how intervals are made, in the provenance of each report: one more wherever they change (CHANGELOG)
_TOLD_BY = 5  # so few people unlike most do not tell how such people are


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


def unanimous(units: int, level: float = LEVEL) -> float:
    """The lowest rate at which success of everybody is not yet unlikely: the Clopper-Pearson bound (a/2)^(1/units).

    A rate of 0 or 1 is the same in every replicate, which does not tell how far from it the truth may be. units: how
    many people, or pairs of people, could have failed. That all succeed has the same probability whatever they weigh.
    But where a few weigh most, one of them who fails moves the rate further than this bound.
    """
    _require_level(level)
    return ((1 - level) / 2) ** (1 / units)


def unseen_share(units: int, unlike: int, level: float = LEVEL) -> float:
    """The largest share of all people that are unlike most and that the sample may lack by chance.

    A bootstrap draws again what was seen. While hardly anybody fails, people who always fail may be missing, up to the
    share 1 - `unanimous`. Those who are in the sample tell what such people are like: from the sixth on, the share
    shrinks by the same bound for their number.

    units: as of `unanimous`. unlike: how many of these have not the usual value.
    """
    known = unlike - _TOLD_BY
    return (1 - unanimous(units, level)) * (1.0 if known < 1 else 1 - unanimous(known, level))


def with_unseen(
    value: float, low_high: tuple[float, float], bounds: tuple[float, float], missing: float
) -> tuple[float, float]:
    """An interval that reaches as far as a share `missing` of people (see `unseen_share`) could move the figure.

    With them it is that much nearer to its bound, which for nobody failing is the interval of Clopper and Pearson.

    value: of a mean within `bounds`: (0, 1) for a rate, (-1, 1) for a difference of rates.
    """
    least, greatest = bounds
    low, high = low_high
    return min(low, value - (value - least) * missing), max(high, value + (greatest - value) * missing)


def _quantiles(values: np.ndarray, low: float, high: float) -> tuple[float | None, float | None]:
    if not len(values):
        return None, None
    with np.errstate(invalid="ignore"):  # between infinite ratios
        ends = np.quantile(values, [low, high])
    return float(ends[0]), float(ends[1])


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"a confidence level of {level} is not between 0 and 1.")
