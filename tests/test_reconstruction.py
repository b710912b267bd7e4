"""Figures of decoders whose pictures are known: perfect ones, hopeless ones, and ones with a grid drawn on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facedecode.bootstrap import person_draws
from facedecode.errors import BadInput
from facedecode.metrics import gradient_energy
from facedecode.reconstruction import (
    ORIGINALS,
    UnseenImages,
    axis_spectra,
    evaluate_decoders,
    grid_peaks,
    make_judge,
    picture_figures,
    picture_values,
    ratio_interval,
    require_unseen,
    spread_rows,
    unseen_images,
)
from facedecode.store import Store, StoreWriter

SIDE = 32
DESCRIBED = {"name": "pooled", "weights_sha256": "00" * 32}


class Pooled:
    """A recognizer: the mean colors of 4 × 4 patches."""

    spec = SimpleNamespace(name="pooled", score="negative-euclidean", dim=48)
    device = torch.device("cpu")

    def embed_portraits(self, portraits):
        return torch.nn.functional.adaptive_avg_pool2d(portraits, 4).flatten(1)

    def describe(self):
        return DESCRIBED


class Drawing:
    """A decoder that draws what it is told to, whatever the template."""

    image_size = SIDE

    def __init__(self, pictures, people=("somebody else",)):
        self.pictures = pictures
        self.provenance = SimpleNamespace(training={"people": list(people)})

    def decode(self, templates):
        assert len(templates) == len(self.pictures)
        return self.pictures


def smooth_pictures(generator, count):
    """(count, 32, 32, 3) uint8, of low frequencies only."""
    coarse = torch.from_numpy(generator.uniform(0.2, 0.8, size=(count, 3, 4, 4)))
    fine = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic", align_corners=False).clamp(0, 1)
    return (fine * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture
def scene():
    """20 people with two images each; the first image gave no template."""
    generator = np.random.default_rng(1)
    names = [f"p{k}" for k in range(20) for _ in range(2)]
    base = smooth_pictures(generator, 20).repeat(2, axis=0).astype(int)
    portraits = (base + generator.integers(-3, 4, size=base.shape)).clip(0, 255).astype(np.uint8)
    with torch.inference_mode():
        pixels = torch.from_numpy(portraits).permute(0, 3, 1, 2).float() / 255
        templates = Pooled().embed_portraits(pixels).numpy()
    missing = np.zeros(40, dtype=bool)
    missing[-1] = True
    rows = [{"path": f"{name}/{k}.jpg", "identity": name, "sha256": f"{k:064x}"} for k, name in enumerate(names)]
    return UnseenImages(rows, np.where(missing[:, None], 0, templates), missing), portraits[:-1]


@pytest.fixture
def judge(scene, tmp_path):
    images, _ = scene
    return make_judge(Pooled(), store_of(tmp_path / "emb", images), images)


def store_of(folder, images, recognizer=DESCRIBED):
    kept = [row for row, gone in zip(images.rows, images.missing, strict=True) if not gone]
    lost = [
        {"path": row["path"], "stage": "detect", "reason": "no face"}
        for row, gone in zip(images.rows, images.missing, strict=True)
        if gone
    ]
    manifest = {"score": "negative-euclidean", "tool_version": "0"}
    with StoreWriter(folder, {}, folder.parent, recognizer, manifest=manifest) as writer:
        writer.append(images.templates[~images.missing].astype(np.float32), kept, [], len(kept))
        writer.finish(lost)
    return Store.open(folder)


def test_perfect_and_hopeless_decoders(scene, judge):
    images, portraits = scene
    gray = np.full_like(portraits, 128)
    decoders = {"perfect": Drawing(portraits), "gray": Drawing(gray), "negative": Drawing(255 - portraits)}
    figures = evaluate_decoders(decoders, images, portraits, {"j": judge}, fmrs=[0.01], repetitions=50)
    assert list(figures) == [ORIGINALS, "perfect", "gray", "negative"]
    assert figures["perfect"].metrics() == figures[ORIGINALS].metrics()

    perfect = figures["perfect"]
    assert perfect.pictures["psnr"].infinite == 39
    assert perfect.metrics()["psnr"]["value"] is None
    assert perfect.pictures["ssim"].value == pytest.approx(1)
    assert perfect.pictures["gradient_energy_to_originals"].value == 1
    one = perfect.attacks["j"].type_one["pairs"][0]
    assert (one.value, one.accepted, one.n) == (39 / 40, 39, 40)  # the image without a template is no success
    two, own = perfect.attacks["j"].type_two["pairs"][0], perfect.attacks["j"].mated["pairs"][0]
    assert (two.value, two.n, own.n) == (own.value, 40, 20)

    assert figures["gray"].pictures["gradient_energy"].value == 0
    errors = np.mean((portraits / 255 - 128 / 255) ** 2, axis=(1, 2, 3))
    assert figures["gray"].pictures["psnr"].value == pytest.approx(np.mean(-10 * np.log10(errors)))
    negative = figures["negative"].attacks["j"]
    assert negative.type_one["people"][0].value == negative.type_two["people"][0].value == 0


def test_against_a_baseline(scene, judge):
    images, portraits = scene
    generator = np.random.default_rng(2)
    worse = (portraits + generator.integers(-20, 21, size=portraits.shape)).clip(0, 255).astype(np.uint8)
    worst = (portraits + generator.integers(-60, 61, size=portraits.shape)).clip(0, 255).astype(np.uint8)
    decoders = {"base": Drawing(worse), "same": Drawing(worse), "worst": Drawing(worst)}
    options = {"baseline": "base", "fmrs": [0.01], "repetitions": 50}
    figures = evaluate_decoders(decoders, images, portraits, {"j": judge}, **options)
    assert "psnr_over_baseline" not in figures["base"].pictures | figures[ORIGINALS].pictures
    same, worst_figures = figures["same"].pictures, figures["worst"].pictures
    gain, ratio = same["psnr_over_baseline"], same["gradient_energy_to_baseline"]
    assert (gain.low, gain.value, gain.high, gain.n) == (0, 0, 0, 39)
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)
    assert worst_figures["psnr_over_baseline"].high < 0
    assert worst_figures["gradient_energy_to_baseline"].low > 1


def test_sharpness_ratio_is_of_means(scene):
    images, portraits = scene
    values = picture_values(255 - portraits, portraits)
    figures = picture_figures(values, picture_values(portraits, portraits), images.acquired_identities, repetitions=20)
    assert figures["gradient_energy_to_originals"].value == pytest.approx(1)  # a negative is as sharp
    assert figures["gradient_energy"].value == pytest.approx(gradient_energy(portraits).mean())


def test_ratio_interval_equals_a_loop():
    generator = np.random.default_rng(3)
    a, b = generator.uniform(1, 2, size=(2, 12))
    names = list("aabbbcddefff")
    found = ratio_interval(a, b, names, repetitions=200, seed=5)
    people = sorted(set(names))
    ratios = []
    for drawn in person_draws(len(people), 200, 5):
        weights = np.array([drawn[people.index(name)] for name in names])
        ratios.append((weights * a).sum() / (weights * b).sum())
    assert found.value == pytest.approx(a.sum() / b.sum())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))
    constant = ratio_interval(3 * b, b, names, repetitions=20)
    assert (constant.low, constant.value, constant.high) == pytest.approx((3, 3, 3))
    nothing = ratio_interval(a, np.zeros(12), names)
    assert nothing.low is None
    assert nothing.as_json()["value"] is None


def test_a_grid_shows_at_its_period_only():
    generator = np.random.default_rng(4)
    side, amplitudes = 128, {2: 2, 4: 6, 8: 12, 16: 24}  # gray levels
    # Pictures whose spectrum falls as those of photographs do.
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    noise = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(16, side, side))) / frequency**1.2, s=(side, side))
    without = 127.5 + 30 * noise / noise.std()

    def peaks(gray):
        levels = np.rint(gray.clip(0, 255)).astype(np.uint8)
        return grid_peaks(axis_spectra(levels[..., None].repeat(3, axis=3)).mean(0))

    clean = peaks(without)
    assert set(clean) == set(amplitudes)
    assert all(abs(value) < 1.5 for value in clean.values())
    for period, amplitude in amplitudes.items():
        wave = amplitude * np.cos(2 * np.pi * np.arange(side) / period + 0.3)
        for grid in (wave[None, :], wave[:, None], wave[None, :] * wave[:, None] / amplitude):
            drawn = peaks(without + grid)
            assert drawn[period] > clean[period] + 3
            assert all(abs(drawn[other] - clean[other]) < 1.5 for other in amplitudes if other != period)


def test_spectrum_of_a_wave_and_of_noise():
    x = np.arange(SIDE)
    wave = np.rint(127.5 + 100 * np.sin(2 * np.pi * x / 4)).astype(np.uint8)
    pictures = np.broadcast_to(wave[:, None], (SIDE, SIDE))[None, :, :, None].repeat(3, axis=3)
    spectrum = axis_spectra(pictures)[0]
    assert spectrum.argmax() == SIDE // 4
    assert axis_spectra(pictures.swapaxes(1, 2))[0] == pytest.approx(spectrum)
    generator = np.random.default_rng(5)
    noise = generator.integers(0, 256, size=(200, SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=3)
    flat = axis_spectra(noise).mean(0)[2:]
    assert flat == pytest.approx(np.full(len(flat), (256**2 - 1) / 12 / 255**2), rel=0.05)  # its variance
    with pytest.raises(BadInput, match="square"):
        axis_spectra(noise[:, 1:])


def test_people_of_the_training_are_refused(scene, judge):
    images, portraits = scene
    with pytest.raises(BadInput, match=r"trained on 2 of the 20 people .*p3, p5"):
        require_unseen("d", ["p5", "x", "p3"], images.identities)
    with pytest.raises(BadInput, match="does not record"):
        require_unseen("d", None, images.identities)
    with pytest.raises(BadInput, match="decoder d: trained on 1 of the 20"):
        evaluate_decoders({"d": Drawing(portraits, ["p3"])}, images, portraits, {"j": judge})


def test_wrong_sizes_are_refused(scene, judge):
    images, portraits = scene
    with pytest.raises(BadInput, match="38 portraits for 39"):
        evaluate_decoders({"d": Drawing(portraits)}, images, portraits[1:], {"j": judge})
    with pytest.raises(BadInput, match="32 px beside originals of 16 px"):
        evaluate_decoders({"d": Drawing(portraits)}, images, portraits[:, :16, :16], {"j": judge})


def test_unseen_images_are_a_people_files(scene, tmp_path):
    images, _ = scene
    store = store_of(tmp_path / "emb", images)
    people = tmp_path / "people.txt"
    people.write_text("3\np0\t2\np19\t2\nnobody\t1\n")
    found = unseen_images(store, people)
    assert found.identities == ["p0", "p0", "p19", "p19"]
    assert found.missing.tolist() == [False, False, False, True]
    assert found.templates[:3] == pytest.approx(images.templates[[0, 1, 38]].astype("f4"))
    assert [row["path"] for row in found.acquired] == ["p0/0.jpg", "p0/1.jpg", "p19/38.jpg"]
    assert len(unseen_images(store, None).rows) == 40
    assert len(unseen_images(store, None, limit=5).rows) == 5
    people.write_text("1\nnobody\t1\n")
    with pytest.raises(BadInput, match="none of the people"):
        unseen_images(store, people)


def test_a_judges_store_is_of_the_same_images(scene, tmp_path):
    images, _ = scene
    store = store_of(tmp_path / "emb", images)
    judge = make_judge(Pooled(), store, images)
    assert judge.missing.tolist() == images.missing.tolist()
    assert judge.templates == pytest.approx(images.templates.astype("f4"))
    reverse = UnseenImages(images.rows[::-1], images.templates[::-1], images.missing[::-1])
    assert make_judge(Pooled(), store, reverse).templates == pytest.approx(judge.templates[::-1])

    stranger = UnseenImages([*images.rows, {"path": "x.jpg", "identity": "x"}], images.templates, images.missing)
    with pytest.raises(BadInput, match=r"1 of the images are not in this store \(x.jpg\)"):
        make_judge(Pooled(), store, stranger)
    changed = UnseenImages([{**images.rows[0], "sha256": "f" * 64}, *images.rows[1:]], images.templates, images.missing)
    with pytest.raises(BadInput, match="another picture"):
        make_judge(Pooled(), store, changed)
    other = store_of(tmp_path / "other", images, {"name": "other", "weights_sha256": "11" * 32})
    with pytest.raises(BadInput, match="other"):
        make_judge(Pooled(), other, images)


def test_grid_people_are_spread():
    names = [f"p{k:02d}" for k in range(30) for _ in range(2)]
    rows = spread_rows(names, 6)
    assert [names[row] for row in rows] == ["p02", "p07", "p12", "p17", "p22", "p27"]
    assert all(row % 2 == 0 for row in rows)  # each one's first image
    labels = {f"p{k:02d}": "F" if k < 4 else "M" for k in range(29)}
    mixed = [names[row] for row in spread_rows(names, 7, labels)]
    assert [labels[name] for name in mixed] == list("FMFMFMF")
    assert len(set(mixed)) == 7
    assert len(spread_rows(names, 99)) == 30
    assert len(spread_rows(names, 20, labels)) == 14  # four of one label, ten of the other
