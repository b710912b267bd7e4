"""What decoders' pictures are worth: fidelity, sharpness, grid patterns, and what recognizers take them for.

Intervals are by person bootstrap; all figures of one evaluation share the same replicates, so that ratios and
differences between decoders are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from facedecode.errors import BadInput
from facedecode.pictures.metrics import gradient_energy, mean_psnr, psnr, ssim
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, mean_interval, person_draws
from facedecode.statistics.intervals import LEVEL, percentiles
from facedecode.statistics.scores import encode_people

if TYPE_CHECKING:  # these need torch
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import PerceptualNetwork

PERIODS = (2, 4, 8, 16)  # px: what doubling a map leaves, if it leaves anything
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def axis_spectra(pictures: np.ndarray) -> np.ndarray:
    """Power of luma along rows and columns, by frequency: (n, P, P, 3) uint8 → float64 (n, P // 2 + 1).

    Bin k is k / P cycles a pixel. Each line, less its mean and under a Hann window, is transformed on its own;
    the mean over a picture's lines of both directions is taken of the power, so that any pattern that repeats
    across or down shows, whatever its phase, a checkerboard among them.
    """
    side = pictures.shape[1]
    if pictures.ndim != 4 or pictures.shape[2] != side or side % 2:
        raise BadInput(f"pictures of shape {pictures.shape}: a spectrum takes square ones, (n, P, P, 3), P even.")
    window = np.hanning(side + 1)[:-1]  # periodic: exact zeros between bins
    spectra = np.empty((len(pictures), side // 2 + 1))
    for i, picture in enumerate(pictures):
        luma = picture @ (_LUMA / 255)
        lines = np.concatenate([luma, luma.T])
        lines = (lines - lines.mean(1, keepdims=True)) * window
        spectra[i] = (np.abs(np.fft.rfft(lines)) ** 2).mean(0) / (window @ window)
    return spectra


def grid_peaks(spectra: np.ndarray) -> dict[int, np.ndarray]:
    """How far a spectrum rises above its own trend where up-sampling would leave a grid, in dB.

    Args:
        spectra: (…, P // 2 + 1), as `axis_spectra` gives, or means of it.

    Returns:
        For each period of `PERIODS` (px) that the pictures resolve: (…), 10·log10 of the power there over the
        trend, a straight line through log power against log frequency, fitted to the bins two to six away (the
        window spreads a peak over one). About 0 for pictures without a grid; at period 2 the trend is
        extrapolated, and pictures whose spectrum flattens there have a little more.
    """
    bins = spectra.shape[-1]
    side = 2 * (bins - 1)
    power = np.log10(np.maximum(spectra, 1e-30))
    peaks = {}
    for period in PERIODS:
        place = side // period
        near = np.arange(max(1, place - 6), min(bins, place + 7))
        near = near[np.abs(near - place) >= 2]
        if side % period or len(near) < 4:
            continue
        x = np.log(near / place)  # 0 at the place itself, so the trend there is the line's intercept
        line = np.linalg.pinv(np.stack([np.ones(len(near)), x], axis=1))
        peaks[period] = 10 * (power[..., place] - power[..., near] @ line[0])
    return peaks


ORIGINALS = "originals"


@dataclass(frozen=True)
class PictureValues:
    """One value an image. psnr (dB, inf where equal), ssim, sharpness (gradient energy): float64 (n,).

    spectra: float64 (n, P // 2 + 1), see `axis_spectra`. lpips: float64 (n,), None where it is not measured.
    scores: for each recognizer float32 (n,), the picture against the very template of its original by that
    recognizer; -inf where the recognizer has none.
    phi: for each perceptual network float64 (n,), see `phi.phi_distance`.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    sharpness: np.ndarray
    spectra: np.ndarray
    lpips: np.ndarray | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    phi: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderFigures:
    """The figures of one decoder.

    pictures: psnr, ssim, lpips, gradient_energy; gradient_energy_to_originals (a ratio of means); where there is a
        baseline psnr_over_baseline (dB), ssim_over_baseline, lpips_over_baseline and gradient_energy_to_baseline;
        grid_peak_N (dB), see `grid_peaks`.
    scores, scores_over_baseline: means by recognizer.
    phi, phi_to_baseline: mean distances by perceptual network, and their ratios to the baseline's (of means).
    spectrum: float64 (P // 2 + 1,), mean of `axis_spectra`.
    """

    pictures: dict[str, Estimate]
    scores: dict[str, Estimate]
    scores_over_baseline: dict[str, Estimate]
    spectrum: np.ndarray
    phi: dict[str, Estimate] = field(default_factory=dict)
    phi_to_baseline: dict[str, Estimate] = field(default_factory=dict)

    def metrics(self) -> dict:
        """JSON: every figure as {value, low, high, n, …}."""
        metrics: dict = {name: value.as_json() for name, value in self.pictures.items()}
        for name in ("scores", "scores_over_baseline", "phi", "phi_to_baseline"):
            if figures := getattr(self, name):
                metrics[name] = {network: value.as_json() for network, value in figures.items()}
        return metrics


def picture_values(
    pictures: np.ndarray,
    originals: np.ndarray,
    lpips: Lpips | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
    networks: Mapping[str, PerceptualNetwork] | None = None,
) -> PictureValues:
    """What each picture (n, P, P, 3) uint8 is worth beside its original, as `facedecode.pictures.metrics` has it."""
    distances = {}
    if networks:
        from facedecode.perceptual.phi import phi_distance

        distances = {name: phi_distance(network, pictures, originals) for name, network in networks.items()}
    return PictureValues(
        psnr=psnr(pictures, originals),
        ssim=ssim(pictures, originals),
        sharpness=gradient_energy(pictures),
        spectra=axis_spectra(pictures),
        lpips=lpips(pictures, originals) if lpips else None,
        scores=scores or {},
        phi=distances,
    )


def joined(parts: Sequence[PictureValues]) -> PictureValues:
    """The values of consecutive batches as one."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def join_each(name: str) -> dict[str, np.ndarray]:
        return {own: np.concatenate([getattr(part, name)[own] for part in parts]) for own in getattr(parts[0], name)}

    return PictureValues(
        **{name: join(name) for name in ("psnr", "ssim", "sharpness", "spectra")},
        lpips=None if parts[0].lpips is None else join("lpips"),
        scores=join_each("scores"),
        phi=join_each("phi"),
    )


def decoder_figures(
    values: Mapping[str, PictureValues], identities: Sequence[str], baseline: str | None = None, **options: float
) -> dict[str, DecoderFigures]:
    """Means and their intervals by person for `measure`'s values; options as `bootstrap.mean_interval`."""
    figures = {}
    for name, own in values.items():
        compared = values[baseline] if baseline is not None and name not in (ORIGINALS, baseline) else None
        pictures = picture_figures(own, values[ORIGINALS], identities, compared, **options)
        scores, gains = {}, {}
        for judge, row in own.scores.items():
            scores[judge] = _finite_mean(row, identities, **options)
            if compared is not None:
                gains[judge] = _finite_mean(_difference(row, compared.scores[judge]), identities, **options)
        phi = {network: mean_interval(row, identities, **options) for network, row in own.phi.items()}
        ratios = {
            network: ratio_interval(row, compared.phi[network], identities, **options)
            for network, row in own.phi.items()
            if compared is not None
        }
        figures[name] = DecoderFigures(pictures, scores, gains, own.spectra.mean(0), phi, ratios)
    return figures


def picture_figures(
    values: PictureValues,
    originals: PictureValues,
    identities: Sequence[str],
    baseline: PictureValues | None = None,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Means and their intervals by person; the names are those of `DecoderFigures.pictures`."""
    options = {"repetitions": repetitions, "seed": seed, "level": level}
    figures: dict[str, Estimate] = {
        "psnr": mean_psnr(values.psnr, identities, **options),
        "ssim": mean_interval(values.ssim, identities, **options),
        "gradient_energy": mean_interval(values.sharpness, identities, **options),
        "gradient_energy_to_originals": ratio_interval(values.sharpness, originals.sharpness, identities, **options),
    }
    if values.lpips is not None:
        figures["lpips"] = mean_interval(values.lpips, identities, **options)
    if baseline is not None:
        for name in ("psnr", "ssim", "lpips"):
            if getattr(values, name) is not None:
                difference = _difference(getattr(values, name), getattr(baseline, name))
                figures[f"{name}_over_baseline"] = _finite_mean(difference, identities, **options)
        ratio = ratio_interval(values.sharpness, baseline.sharpness, identities, **options)
        figures["gradient_energy_to_baseline"] = ratio
    return {**figures, **_grid_figures(values.spectra, identities, **options)}


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    identities: Sequence[str],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The ratio of two means over the same images, each (n,), and its interval by person; n images.

    NaN (None in JSON) where the denominators are all zero.
    """
    sums = _person_sums(np.stack([numerators, denominators], axis=1), identities)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums[:, 0].sum() / sums[:, 1].sum()
        if not np.isfinite(value) or len(sums) < 2:
            return Estimate(float(value), None, None, len(numerators))
        drawn = person_draws(len(sums), repetitions, seed) @ sums
        ratios = drawn[:, 0] / drawn[:, 1]
    return Estimate(float(value), *percentiles(ratios[np.isfinite(ratios)], level), len(numerators))


def _difference(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """values - baseline, NaN where either is infinite (a picture equal to its original, a missing template)."""
    finite = np.isfinite(values) & np.isfinite(baseline)
    return np.where(finite, values, np.nan) - np.where(finite, baseline, np.nan)


def _finite_mean(values: np.ndarray, identities: Sequence[str], **options: float) -> Estimate:
    """The mean of the finite values, of which there are n, with its interval; NaN where there are none."""
    finite = np.isfinite(values)
    if not finite.any():
        return Estimate(float("nan"), None, None, 0)
    people = [name for name, use in zip(identities, finite, strict=True) if use]
    return mean_interval(values[finite], people, **options)


def _grid_figures(
    spectra: np.ndarray, identities: Sequence[str], *, repetitions: int, seed: int, level: float
) -> dict[str, Estimate]:
    sums = _person_sums(spectra, identities)
    values = grid_peaks(sums.sum(0))
    drawn = {}
    if len(sums) > 1:
        drawn = grid_peaks(person_draws(len(sums), repetitions, seed) @ sums)
    return {
        f"grid_peak_{period}": Estimate(
            float(value), *(percentiles(drawn[period], level) if drawn else (None, None)), len(spectra)
        )
        for period, value in values.items()
    }


def _person_sums(values: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Sums over each person's images: (n, k) → (people, k)."""
    names, codes = encode_people(identities)
    if len(values) != len(codes):
        raise BadInput(f"{len(values)} values for {len(codes)} identities: give one a row.")
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums
