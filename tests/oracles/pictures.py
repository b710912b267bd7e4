"""Pictures against pictures: PSNR, SSIM (Wang et al. 2004), the largest change; and ridge regression to pixels."""

from __future__ import annotations

import numpy as np


def psnr(picture: np.ndarray, original: np.ndarray) -> float:
    """uint8 (P, P, 3): dB over all pixels and channels, range [0, 1]; inf where they are equal."""
    error = (picture / 255.0 - original / 255.0) ** 2
    return float("inf") if not error.any() else float(10 * np.log10(1 / error.mean()))


def _blurred(values: np.ndarray) -> np.ndarray:
    """Gaussian of sigma 1.5 in a window of 11 × 11, wherever the window lies within the picture: (P-10, P-10, …)."""
    at = np.arange(-5, 6)
    weights = np.exp(-(at**2) / (2 * 1.5**2))
    weights /= weights.sum()
    down = sum(w * values[k : len(values) - 10 + k] for k, w in enumerate(weights))
    return sum(w * down[:, k : down.shape[1] - 10 + k] for k, w in enumerate(weights))


def ssim(picture: np.ndarray, original: np.ndarray) -> float:
    """uint8 (P, P, 3): K1 0.01, K2 0.03, range 1, population covariance; mean over windows and channels."""
    x, y = picture / 255.0, original / 255.0
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    cov = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    map_ = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(map_.mean())


def largest_change(picture: np.ndarray, original: np.ndarray) -> float:
    """L∞ of two uint8 pictures, in [0, 1]."""
    return float(np.abs(picture.astype(int) - original.astype(int)).max() / 255)


def rounded(pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1], cut there, as uint8: to the nearest of 256 levels."""
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def ridge(templates: np.ndarray, portraits: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """W (pixels, d) and b (pixels,) with the least Σ‖x − W e − b‖² + n·λ‖W‖², λ = penalty · mean variance of e.

    The normal equations: of centered templates and pixels for W; then b is what is left of the means.
    portraits: uint8 (n, P, P, 3).
    """
    count, dim = templates.shape
    center = templates.mean(0)
    centered = templates - center
    cross, total = 0.0, 0.0
    for start in range(0, count, 500):  # all pixels at once are gigabytes
        pixels = portraits[start : start + 500].reshape(-1, portraits[0].size) / 255.0
        cross = cross + centered[start : start + 500].T @ pixels
        total = total + pixels.sum(0)
    strength = penalty * centered.var(0).mean()
    weight = np.linalg.solve(centered.T @ centered + count * strength * np.eye(dim), cross).T
    return weight, total / count - weight @ center


def drawn(weight: np.ndarray, bias: np.ndarray, templates: np.ndarray, side: int) -> np.ndarray:
    """The pictures of templates (n, d): uint8 (n, P, P, 3)."""
    blocks = [templates[start : start + 100] @ weight.T + bias for start in range(0, len(templates), 100)]
    return np.concatenate([rounded(block.reshape(-1, side, side, 3)) for block in blocks])
