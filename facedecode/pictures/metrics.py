"""Picture metrics, one value an image. All take RGB pictures (n, H, W, 3): floats in [0, 1], or uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facedecode.errors import BadInput
from facedecode.statistics.bootstrap import Estimate, mean_interval

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
PERIODS = (2, 4, 8, 16)  # px: what doubling a map leaves, if it leaves anything
_SIGMA, _RADIUS = 1.5, 5  # a Gaussian cut at 3.5 sigma, as scikit-image does: 11 taps


def psnr(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 1: float64 (n,), inf if equal."""
    images, references = _pair(images, references)
    errors = [np.mean((_unit(x) - _unit(y)) ** 2) for x, y in zip(images, references, strict=True)]
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.array(errors, dtype=np.float64))


def ssim(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004): float64 (n,), at most 1; pictures at least 11 px a side.

    Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    channel_axis=-1, data_range=1)`, the mean over RGB and the pixels with their whole window inside.
    """
    images, references = _pair(images, references)
    height, width = images.shape[1:3]
    if min(height, width) < 2 * _RADIUS + 1:
        raise BadInput(f"SSIM needs pictures of at least {2 * _RADIUS + 1} px a side, not {width} x {height}.")
    # One picture at a time stays in the processor's cache.
    return np.array([_ssim(_unit(x), _unit(y)) for x, y in zip(images, references, strict=True)])


def gradient_energy(images: np.ndarray) -> np.ndarray:
    """Mean of |∇luma|² over the pixels, a measure of sharpness: float64 (n,), >= 0.

    Luma is BT.601's, in [0, 1]; forward differences, on the (H-1) x (W-1) pixels that have both neighbors.
    """
    images = _pictures(images)
    if min(images.shape[1:3]) < 2:
        raise BadInput("a gradient needs pictures of at least 2 px a side.")
    values = []
    for image in images:
        luma = _unit(image) @ _LUMA
        across, down = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
        values.append(np.mean(across**2 + down**2))
    return np.array(values, dtype=np.float64)


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

    spectra: (…, P // 2 + 1), as `axis_spectra` gives, or means of it.

    Returns for each period of `PERIODS` (px) that the pictures resolve: (…), 10·log10 of the power there over the
    trend, a straight line through log power against log frequency, fitted to the bins two to six away (the window
    spreads a peak over one). About 0 for pictures without a grid; at period 2 the trend is extrapolated, and pictures
    whose spectrum flattens there have a little more.
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


@dataclass(frozen=True)
class PsnrEstimate(Estimate):
    """A mean PSNR in dB; `infinite` images equal their reference and are not in it."""

    infinite: int


def mean_psnr(values: np.ndarray, identities: Sequence[str], **options: Any) -> PsnrEstimate:
    """Mean of the finite values of `psnr` with its interval by person; options as `bootstrap.mean_interval`.

    Where all are infinite the value is NaN, and None in JSON.
    """
    finite = ~np.isposinf(np.asarray(values, dtype=np.float64))
    infinite = int(np.count_nonzero(~finite))
    if len(finite) and not finite.any():
        return PsnrEstimate(float("nan"), None, None, 0, infinite)
    kept = [name for name, use in zip(identities, finite, strict=True) if use]
    mean = mean_interval(np.asarray(values)[finite], kept, **options)
    return PsnrEstimate(mean.value, mean.low, mean.high, mean.n, infinite)


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y, products = _smooth(x), _smooth(y), _smooth(x * y)
    squares = _smooth(x * x + y * y)  # only the sum of the two variances is needed
    means, both = mean_x * mean_y, mean_x**2 + mean_y**2
    return np.mean((2 * means + c1) * (2 * (products - means) + c2) / ((both + c1) * (squares - both + c2)))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian filter of (H, W, 3), where its window lies inside: (H - 10, W - 10, 3)."""
    kernel = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = values.shape[axis] - 2 * _RADIUS
        # The kernel is symmetric: equally distant rows (then columns) share a multiplication.
        result = kernel[_RADIUS] * _part(values, axis, _RADIUS, size)
        for place in range(_RADIUS):
            pair = _part(values, axis, place, size) + _part(values, axis, 2 * _RADIUS - place, size)
            pair *= kernel[place]
            result += pair
        values = result
    return values


def _part(values: np.ndarray, axis: int, start: int, size: int) -> np.ndarray:
    return values[start : start + size] if axis == 0 else values[:, start : start + size]


def _unit(values: np.ndarray) -> np.ndarray:
    return values / 255.0 if values.dtype == np.uint8 else values.astype(np.float64)


def _pictures(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 4 or values.shape[-1] != 3 or not len(values):
        raise BadInput(f"pictures of shape {values.shape}: expected (n, H, W, 3) RGB.")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise BadInput(f"pictures of type {values.dtype}: expected floats in [0, 1], or uint8.")
    if not (values.min() >= 0 and values.max() <= 1):  # also false for NaN
        raise BadInput("pictures have values outside [0, 1], or NaN: clip them where they are made.")
    return values


def _pair(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, references = _pictures(images), _pictures(references)
    if images.shape != references.shape:
        raise BadInput(f"pictures of shapes {images.shape} and {references.shape} cannot be compared.")
    return images, references
