"""Picture metrics against scikit-image and hand-made pictures."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from facedecode.errors import BadInput
from facedecode.pictures.metrics import gradient_energy, mean_psnr, psnr, ssim


def pictures(n=4, height=33, width=40, noise=0.1, seed=0):
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height)[:, None, None] * np.linspace(0.2, 1, width)[:, None] * np.ones(3)
    clean = np.clip(ramp + 0.05 * generator.normal(size=(n, height, width, 3)), 0, 1)
    return clean, np.clip(clean + noise * generator.normal(size=clean.shape), 0, 1)


def reference_ssim(x, y):
    return structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=1
    )


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.1, 1.0])
def test_ssim_equals_scikit_image(noise):
    x, y = pictures(noise=noise)
    wanted = [reference_ssim(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ssim(x, y), wanted, atol=1e-9)
    np.testing.assert_allclose(ssim(x.astype("f4"), y.astype("f4")), wanted, atol=1e-6)
    flat = np.full((1, 11, 11, 3), 0.3)
    assert ssim(flat, flat)[0] == pytest.approx(1)


def test_psnr_equals_scikit_image():
    x, y = pictures()
    np.testing.assert_allclose(
        psnr(x, y), [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(x, y, strict=True)]
    )
    bytes_x, bytes_y = (np.round(v * 255).astype(np.uint8) for v in (x, y))
    np.testing.assert_allclose(
        psnr(bytes_x, bytes_y),
        [peak_signal_noise_ratio(a, b) for a, b in zip(bytes_x, bytes_y, strict=True)],
    )
    assert psnr(bytes_x, bytes_x).tolist() == [np.inf] * 4


def test_infinite_psnr_is_counted_apart():
    mean = mean_psnr(np.array([10.0, np.inf, 20.0]), ["a", "b", "c"], repetitions=50)
    assert (mean.value, mean.n, mean.infinite) == (15, 2, 1)
    assert mean.low <= 15 <= mean.high
    same = mean_psnr(np.array([np.inf]), ["a"])
    assert same.as_json() == {"value": None, "low": None, "high": None, "n": 0, "infinite": 1}
    with pytest.raises(BadInput):
        mean_psnr(np.array([np.nan, 1.0]), ["a", "b"])


def test_gradient_energy_of_known_pictures():
    ramp = np.broadcast_to(np.linspace(0, 1, 11)[None, :, None], (6, 11, 3))
    step = np.zeros((5, 5, 3))
    step[:, 3:] = 1
    assert gradient_energy(ramp[None])[0] == pytest.approx(0.01)
    assert gradient_energy(step[None])[0] == pytest.approx(1 / 4)
    assert gradient_energy(np.swapaxes(step, 0, 1)[None])[0] == pytest.approx(1 / 4)
    red = step * [1, 0, 0]
    assert gradient_energy(red[None])[0] == pytest.approx(0.299**2 / 4)
    assert gradient_energy((255 * step[None]).astype(np.uint8))[0] == pytest.approx(1 / 4)


def test_wrong_pictures_are_refused():
    x, y = pictures()
    for bad in (x[0], x[..., :2], x[:0], x * 2, x - 1, np.full_like(x, np.nan), (x * 255).astype(np.int64)):
        with pytest.raises(BadInput):
            psnr(bad, bad)
    with pytest.raises(BadInput, match="cannot be compared"):
        ssim(x, y[1:])
    with pytest.raises(BadInput, match="11 px"):
        ssim(x[:, :10], y[:, :10])
    with pytest.raises(BadInput, match="2 px"):
        gradient_energy(x[:, :1])
