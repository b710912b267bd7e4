"""The spectrum of pictures along rows and columns, and the peaks that a grid pattern leaves in it."""

from __future__ import annotations

import numpy as np

from facedecode.errors import BadInput

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
