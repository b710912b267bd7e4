"""Figures of decoders whose pictures are known: perfect ones, hopeless ones, and ones with a grid drawn on."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facedecode.errors import BadInput, UsageError, WouldNotFit
from facedecode.evaluation.cohort import (
    UnseenImages,
    _failed_rows,
    make_judge,
    make_reference,
    require_unseen,
    unseen_images,
)
from facedecode.evaluation.fidelity import (
    ORIGINALS,
    PICTURE_METRICS,
    add_fidelity,
    fidelity_axes,
    fidelity_specs,
    picture_values,
)
from facedecode.evaluation.reconstruction import choose_baseline, measure, require_comparable
from facedecode.evaluation.rendering import extreme_rows, spread_rows
from facedecode.evaluation.result import Result, Schema
from facedecode.identity import RecognizerId
from facedecode.known_pictures import Known, KnownPictures
from facedecode.pictures.finding import find_images
from facedecode.pictures.metrics import axis_spectra, gradient_energy, grid_peaks, psnr, ssim
from facedecode.statistics.bootstrap import mean_interval, person_draws, ratio_interval
from facedecode.statistics.intervals import corrected
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.store import Store, StoreWriter

SIDE = 32
DESCRIBED = RecognizerId("pooled", "00" * 32)


class Pooled:
    """A recognizer: the mean colors of 4 × 4 patches."""

    name = "pooled"
    spec = SimpleNamespace(name="pooled", score="negative-euclidean", dim=48, training_people=(), folder=None)
    device = torch.device("cpu")

    def embed_portraits(self, portraits):
        return torch.nn.functional.adaptive_avg_pool2d(portraits, 4).flatten(1)

    def describe(self):
        return DESCRIBED


class Drawing:
    """A decoder that draws what it is told to: picture i for template i of `scene`, however they are asked for."""

    def __init__(self, templates, pictures, people=("somebody else",), kind="dfd"):
        self.templates, self.pictures, self.kind = templates, pictures, kind
        self.image_size = pictures.shape[1]
        self.known = Known(people, KnownPictures())

    def decode(self, templates, checked=False):
        rows = [int(np.flatnonzero((self.templates == template).all(1))[0]) for template in templates]
        return self.pictures[rows]


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
def references(scene, tmp_path):
    images, _ = scene
    return {"pooled": make_reference(Pooled(), store_of(tmp_path / "emb", images), images)}


def drawing(scene, pictures, **options):
    images, _ = scene
    return Drawing(images.templates[~images.missing], pictures, **options)


class Figures:
    """The figures of decoders' pictures, by decoder and name."""

    def __init__(self, values, identities, baseline=None, repetitions=50):
        decoders = [name for name in values if name != ORIGINALS]
        recognizers = [which for name, which in next(iter(values.values())).values if name == "scores"]
        self.result = Result(Schema("", "", fidelity_axes(decoders, recognizers), fidelity_specs()))
        add_fidelity(self.result, values, identities, baseline, repetitions=repetitions)

    def __call__(self, decoder, name, recognizer=None):
        labels = {"decoder": decoder, **({"recognizer": recognizer} if recognizer else {})}
        return self.result.value(name, labels)

    def names(self, decoder):
        return {row.name for row in self.result.metrics if row.labels["decoder"] == decoder}


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


def test_perfect_and_hopeless_decoders(scene, references):
    images, portraits = scene
    gray = np.full_like(portraits, 128)
    decoders = {"perfect": drawing(scene, portraits), "gray": drawing(scene, gray)}
    values = measure(decoders, images, [portraits], references)
    assert list(values) == [ORIGINALS, "perfect", "gray"]
    figures = Figures(values, images.acquired_identities)
    metrics = figures.result.as_json()
    assert metrics["decoders"]["perfect"] == metrics["originals"]

    assert figures("perfect", "psnr").infinite == 39
    assert metrics["decoders"]["perfect"]["psnr"]["value"] is None
    assert figures("perfect", "ssim").value == pytest.approx(1)
    assert figures("perfect", "gradient_energy_to_originals").value == 1
    assert figures("perfect", "scores", "pooled").value == pytest.approx(0, abs=1e-5)  # its own template, again

    assert figures("gray", "gradient_energy").value == 0
    errors = np.mean((portraits / 255 - 128 / 255) ** 2, axis=(1, 2, 3))
    assert figures("gray", "psnr").value == pytest.approx(np.mean(-10 * np.log10(errors)))
    distances = np.linalg.norm(images.templates[:-1] - 128 / 255, axis=1)
    assert figures("gray", "scores", "pooled").value == pytest.approx(-distances.mean(), rel=1e-5)


def test_a_metric_is_declared_in_one_place(scene, monkeypatch):
    """A further one is in report.json, against the baseline, among gates, key figures and columns."""
    images, portraits = scene
    red = dataclasses.replace(
        PICTURE_METRICS[1],
        name="red",
        title="red",
        gate="red",
        headline="Red of {decoder}",
        measure=lambda pictures, originals: pictures[..., 0].mean((1, 2)) / 255,
    )
    monkeypatch.setattr("facedecode.evaluation.fidelity.PICTURE_METRICS", (*PICTURE_METRICS, red))
    decoders = {"same": drawing(scene, portraits), "gray": drawing(scene, np.full_like(portraits, 51))}
    result = Figures(measure(decoders, images, [portraits], {}), images.acquired_identities, "same").result
    assert result.as_json()["decoders"]["gray"]["red"]["value"] == pytest.approx(0.2)
    assert "red_over_baseline" in result.as_json()["decoders"]["gray"]
    assert result.gate_figures()["red[gray]"].value == pytest.approx(0.2)
    assert [line.title for line in result.headlines() if "Red" in line.title] == ["Red of same", "Red of gray"]
    assert result.table("t", "", ["decoder"], ["red"]).rows[2][1].value == pytest.approx(0.2)


def test_batches_make_no_difference(scene, references):
    images, portraits = scene
    decoders = {"negative": drawing(scene, 255 - portraits), "gray": drawing(scene, np.full_like(portraits, 90))}
    whole = measure(decoders, images, [portraits], references)
    said = []
    parts = measure(decoders, images, np.array_split(portraits, 5), references, progress=lambda *at: said.append(at))
    for name in (ORIGINALS, *decoders):
        for metric in ("psnr", "ssim", "gradient_energy"):
            np.testing.assert_array_equal(parts[name][metric], whole[name][metric])
        np.testing.assert_array_equal(parts[name].spectra, whole[name].spectra)
        np.testing.assert_allclose(parts[name]["scores", "pooled"], whole[name]["scores", "pooled"], atol=1e-6)
    np.testing.assert_array_equal(whole["negative"]["psnr"], psnr(255 - portraits, portraits))
    np.testing.assert_array_equal(whole["negative"]["ssim"], ssim(255 - portraits, portraits))
    assert (said[0], said[-1], len(said)) == ((0, 39), (39, 39), 6)


def test_an_original_unknown_to_a_recognizer_has_no_score(scene, references):
    images, portraits = scene
    missing = images.missing.copy()
    missing[[3, 7]] = True
    blind = dataclasses.replace(references["pooled"], missing=missing)
    values = measure({"same": drawing(scene, portraits)}, images, [portraits], {"pooled": blind})
    assert np.flatnonzero(values["same"]["scores", "pooled"] == -np.inf).tolist() == [3, 7]
    assert Figures(values, images.acquired_identities)("same", "scores", "pooled").n == 37
    nothing = dataclasses.replace(blind, missing=np.ones(40, bool))
    values = measure({"same": drawing(scene, portraits)}, images, [portraits], {"pooled": nothing})
    figure = Figures(values, images.acquired_identities)("same", "scores", "pooled").as_json()
    assert figure == {"value": None, "low": None, "high": None, "n": 0}


def test_against_a_baseline(scene, references):
    images, portraits = scene
    generator = np.random.default_rng(2)
    worse = (portraits + generator.integers(-20, 21, size=portraits.shape)).clip(0, 255).astype(np.uint8)
    worst = (portraits + generator.integers(-60, 61, size=portraits.shape)).clip(0, 255).astype(np.uint8)
    decoders = {name: drawing(scene, x) for name, x in (("base", worse), ("same", worse), ("worst", worst))}
    values = measure(decoders, images, [portraits], references)
    figures = Figures(values, images.acquired_identities, "base")
    for name in ("base", ORIGINALS):
        assert not any("baseline" in key for key in figures.names(name))
    for key in ("psnr_over_baseline", "ssim_over_baseline"):
        gain = figures("same", key)
        assert (gain.low, gain.value, gain.high, gain.n) == (0, 0, 0, 39)
    assert figures("same", "scores_over_baseline", "pooled").value == 0
    ratio = figures("same", "gradient_energy_to_baseline")
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)
    assert figures("worst", "gradient_energy_to_baseline").low > 1
    difference = values["worst"]["psnr"] - values["base"]["psnr"]
    gain = figures("worst", "psnr_over_baseline")
    assert gain == mean_interval(difference, images.acquired_identities, repetitions=50)
    assert gain.high < 0
    found = figures("worst", "scores_over_baseline", "pooled")
    assert found.value == pytest.approx(
        (values["worst"]["scores", "pooled"] - values["base"]["scores", "pooled"]).mean()
    )


def test_a_difference_leaves_out_what_is_infinite(scene, references):
    images, portraits = scene
    half = portraits.copy()
    half[10:] = 255 - half[10:]  # the first ten are drawn without an error
    decoders = {"base": drawing(scene, 255 - portraits), "half": drawing(scene, half)}
    figures = Figures(measure(decoders, images, [portraits], references), images.acquired_identities, "base")
    assert figures("half", "psnr").infinite == 10
    gain = figures("half", "psnr_over_baseline")
    assert (gain.value, gain.n) == (0, 29)


def test_the_baseline_is_the_first_ridge_if_none_is_named(scene):
    _, portraits = scene
    decoders = {name: drawing(scene, portraits, kind=kind) for name, kind in (("a", "dfd"), ("b", "ridge"))}
    assert choose_baseline(decoders, None) == "b"
    assert choose_baseline(decoders, "a") == "a"
    assert choose_baseline({"a": decoders["a"]}, None) is None
    with pytest.raises(UsageError, match=r"--baseline c: no such decoder; there are a, b"):
        choose_baseline(decoders, "c")


def test_sharpness_ratio_is_of_means(scene):
    images, portraits = scene
    made = {ORIGINALS: portraits, "negative": 255 - portraits}
    values = {name: picture_values(pictures, portraits) for name, pictures in made.items()}
    figures = Figures(values, images.acquired_identities, repetitions=20)
    assert figures("negative", "gradient_energy_to_originals").value == pytest.approx(1)  # a negative is as sharp
    assert figures("negative", "gradient_energy").value == pytest.approx(gradient_energy(portraits).mean())


def test_ratio_interval_equals_a_loop():
    generator = np.random.default_rng(3)
    a, b = generator.uniform(1, 2, size=(2, 12))
    names = list("aabbbcddefff")
    found = ratio_interval(a, b, names, repetitions=200, seed=5)
    people = sorted(set(names))
    ratios = []
    for drawn in [*person_draws(len(people), 200, 5), *(1 - np.eye(len(people)))]:
        weights = np.array([drawn[people.index(name)] for name in names])
        ratios.append((weights * a).sum() / (weights * b).sum())
    assert found.value == pytest.approx(a.sum() / b.sum())
    wanted = corrected(found.value, np.array(ratios[:200]), np.array(ratios[200:]))
    assert (found.low, found.high) == pytest.approx(wanted)
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
    for wrong in (noise[:, 1:], noise[:, 1:, 1:]):
        with pytest.raises(BadInput, match=r"square ones, .*P even"):
            axis_spectra(wrong)


def test_people_of_the_training_are_refused(scene):
    images, portraits = scene
    with pytest.raises(BadInput, match=r"trained on 2 of the 20 people .*p3, p5"):
        require_unseen("d", Known(["p5", "x", "p3"]), images.judged)
    with pytest.raises(BadInput, match="does not record"):
        require_unseen("d", Known(), images.judged)
    with pytest.raises(BadInput, match="decoder d: trained on 1 of the 20"):
        require_comparable({"d": drawing(scene, portraits, people=["p3"])}, images)


def test_decoders_of_different_sizes_are_refused(scene):
    images, portraits = scene
    small = drawing(scene, portraits[:, ::2, ::2])
    assert require_comparable({"a": small}, images) == (16, [])
    with pytest.raises(BadInput, match=r"different sizes \(a 16 px, b 32 px\)"):
        require_comparable({"a": small, "b": drawing(scene, portraits)}, images)


def test_portraits_that_do_not_fit_the_templates_are_refused(scene, references):
    images, portraits = scene
    decoders = {"d": drawing(scene, portraits)}
    with pytest.raises(BadInput, match="38 portraits for 39"):
        measure(decoders, images, [portraits[1:]], references)
    with pytest.raises(BadInput, match="more than 39 portraits"):
        measure(decoders, images, [portraits, portraits[:1]], references)


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
    assert found.absent == ["nobody"]
    people.write_text("1\nnobody\t1\n")
    with pytest.raises(BadInput, match=r"no image of the people of .*people.txt has a template"):
        unseen_images(store, people)


def test_a_limit_counts_images_that_failed(scene, tmp_path):
    images, _ = scene
    missing = np.zeros(40, bool)
    missing[1] = True
    store = store_of(tmp_path / "emb", UnseenImages(images.rows, images.templates, missing))
    found = unseen_images(store, None, limit=4)
    every = sorted(row["path"] for row in images.rows)
    assert sorted(row["path"] for row in found.rows) == every[:4]
    assert [row["path"] for row, gone in zip(found.rows, found.missing, strict=True) if gone] == ["p0/1.jpg"]


def test_templates_without_an_image_are_refused(scene, tmp_path):
    images, _ = scene
    rows = [{**row, "path": None} for row in images.rows]
    store = store_of(tmp_path / "emb", UnseenImages(rows, images.templates, np.zeros(40, bool)))
    with pytest.raises(BadInput, match=r"emb: has templates without an image; use a store made by 'extract'"):
        unseen_images(store, None)


def test_a_judges_store_is_of_the_same_images(scene, tmp_path):
    images, _ = scene
    store = store_of(tmp_path / "emb", images)
    judge = make_judge(Pooled(), store, images)
    pairs = mated_non_mated_scores(
        images.templates.astype("f4"), images.identities, "negative-euclidean", missing=images.missing
    )
    np.testing.assert_array_equal(judge.pairs.non_mated, pairs.non_mated)
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
    other = store_of(tmp_path / "other", images, RecognizerId("other", "11" * 32))
    with pytest.raises(BadInput, match="other"):
        make_judge(Pooled(), other, images)
    fitted_on = ("nobody", images.identities[0])
    store.manifest = replace(store.manifest, mapping={"undoes": "rotate30"}, fitted_on=fitted_on)
    with pytest.raises(BadInput, match="the mapping of these templates was fitted on 1 of the 20 people"):
        make_reference(Pooled(), store, images)


def test_grid_people_are_spread():
    names = [f"p{k:02d}" for k in range(30) for _ in range(2)]
    rows = spread_rows(names, 6)
    assert [names[row] for row in rows] == ["p02", "p07", "p12", "p17", "p22", "p27"]
    assert all(row % 2 == 0 for row in rows)  # each one's first image
    assert len(spread_rows(names, 99)) == 30


def test_best_median_and_worst():
    values = np.array([5.0, np.inf, 1, 9, 7, 3, 8, np.nan, 2, 4, 6, -np.inf])
    found = extreme_rows(values, 2)
    assert {place: values[rows].tolist() for place, rows in found.items()} == {
        "best": [9, 8],
        "median": [6, 5],
        "worst": [2, 1],
    }
    assert extreme_rows(np.array([1.0, 2])) == {"best": [1], "median": [1], "worst": [0]}
    assert extreme_rows(np.array([4.0, 4, 4]), 1) == {"best": [0], "median": [1], "worst": [2]}
    rows = extreme_rows(np.random.default_rng(0).normal(size=9), 3)
    assert sorted(row for place in rows.values() for row in place) == list(range(9))


@pytest.mark.parametrize("given", [["a"], ["a", "b"], ["a/p/1.jpg", "a/p/bad.jpg", "b/top.jpg"]])
def test_failed_images_have_the_identity_that_extract_gives(tmp_path, given):
    """Folders `a` and `b`, with pictures in folders of people and directly; of each folder one failed."""
    names = ["a/p/1.jpg", "a/p/bad.jpg", "a/top.jpg", "a/bad.jpg", "b/q/1.jpg", "b/q/bad.jpg", "b/top.jpg", "b/bad.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    _, refs, _ = find_images([tmp_path / name for name in given])
    rows = [{"path": r.relative, "identity": r.identity} for r in refs if "bad" not in r.relative]
    wanted = {r.relative: r.identity for r in refs if "bad" in r.relative}
    assert {row["path"]: row["identity"] for row in _failed_rows(list(wanted), rows)} == wanted
    assert len(wanted) == {1: 2, 2: 4, 3: 1}[len(given)]


def test_judges_are_of_plain_templates(scene, tmp_path):
    images, _ = scene
    store = store_of(tmp_path / "emb", images)
    for field, said in (("transform", "of perturbed faces"), ("mapping", "that were mapped")):
        changed = Store(store.folder, replace(store.manifest, **{field: "rotate30"}))
        with pytest.raises(BadInput, match=said):
            make_judge(Pooled(), changed, images)


def test_judges_that_do_not_fit_in_memory_are_refused(scene, tmp_path, monkeypatch):
    images, _ = scene
    store = store_of(tmp_path / "emb", images)
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 780 * 24 - 1)
    with pytest.raises(WouldNotFit, match="comparing 780 pairs"):
        make_judge(Pooled(), store, images)
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 780 * 24)
    assert len(make_judge(Pooled(), store, images).pairs.non_mated) == 760


def test_a_failed_image_without_a_person_is_refused(scene, tmp_path):
    images, _ = scene
    rows = [*images.rows[:-1], {**images.rows[-1], "path": "top.jpg"}]
    store = store_of(tmp_path / "emb", UnseenImages(rows, images.templates, images.missing))
    with pytest.raises(BadInput, match="row 39 has no identity"):
        unseen_images(store, None)
