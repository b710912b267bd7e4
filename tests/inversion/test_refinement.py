"""Refinement by the recognizer's gradients: closer, never worse, the same however it is batched."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.decoders import Decoder, Provenance, save_decoder
from facedecode.decoders.closed_form import MeanFace, Ridge
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.errors import BadInput, UsageError
from facedecode.inversion import refinement
from facedecode.inversion.invert import invert
from facedecode.inversion.refinement import RefineSettings, refine
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.store import Store
from facedecode.store.images import read_portraits

PLAIN = RefineSettings(penalty=0, jitter=0, blur=0, gray=0)


@pytest.fixture
def recognizer(tiny: Path) -> Recognizer:
    return load_recognizer("tiny", tiny)


@pytest.fixture
def templates(tiny_store: Path) -> np.ndarray:
    return Store.open(tiny_store).templates()[::3].copy()  # one each of ten people


@pytest.fixture
def ridge(tiny_store: Path, recognizer: Recognizer) -> Decoder:
    store = Store.open(tiny_store)
    return Decoder("ridge", fitted(store), Provenance(recognizer.describe()))


def fitted(store: Store) -> Ridge:
    """A linear decoder with so much penalty that its pictures fall short: there is something to refine."""
    portraits = read_portraits(store.rows().to_pylist(), store.root, 64)
    return Ridge(16, 64, penalty=1.0).fit(
        torch.from_numpy(store.templates()), torch.from_numpy(portraits).permute(0, 3, 1, 2)
    )


def test_pictures_come_closer(templates, ridge, recognizer) -> None:
    found = refine(templates, ridge, recognizer, 10, PLAIN)
    np.testing.assert_array_equal(found.before, invert(templates, ridge, recognizer).scores)
    assert (found.after >= found.before).all() and (found.after > found.before).mean() > 0.8
    assert found.pictures.dtype == np.uint8 and found.pictures.shape == (10, 64, 64, 3)
    assert found.after.dtype == found.inputs.dtype == np.float32


def test_what_is_returned_is_what_was_judged(templates, ridge, recognizer) -> None:
    found = refine(templates, ridge, recognizer, 5)
    again = embed_pictures(recognizer, found.pictures, batch_size=7)
    np.testing.assert_allclose(found.after, -np.linalg.norm(again - templates, axis=1), atol=1e-4)
    drawn = ridge.decode(found.inputs)
    assert np.abs(drawn.astype(int) - found.pictures).max() <= 1


def test_it_converges_where_nothing_is_in_the_way(templates, ridge, recognizer) -> None:
    """16 numbers in, 16 out, no views and no penalty: the equations can be solved, but for clipping and 8 bits."""
    found = refine(templates[:3], ridge, recognizer, 100, PLAIN)
    assert np.median(found.after / found.before) < 0.25


def test_a_step_is_adams_on_the_stated_loss(templates, ridge, recognizer) -> None:
    """Adam's first step is its rate times the gradient's sign; the gradient is here by differences."""
    e, rate = templates[0].astype(np.float64), 1e-3
    radius = np.linalg.norm(e)

    def loss(at: np.ndarray) -> float:
        with torch.inference_mode():
            found = recognizer.embed_portraits(ridge(torch.from_numpy(at[None].astype(np.float32))))
        return float(((found[0].double().numpy() - e) ** 2).sum() / radius**2)

    h = 0.02 * radius
    gradient = np.array([(loss(e + h * unit) - loss(e - h * unit)) / (2 * h) for unit in np.eye(16)])
    settings = RefineSettings(rate=rate, penalty=0, jitter=0, blur=0, gray=0)
    moved = last_move(templates[:1], ridge, recognizer, 1, settings)[0]
    clear = np.abs(gradient) > 0.2 * np.abs(gradient).max()
    np.testing.assert_allclose(moved[clear], -rate * radius / 4 * np.sign(gradient[clear]), rtol=0.05)


def last_move(
    batch: np.ndarray, decoder: Decoder, recognizer: Recognizer, steps: int, settings: RefineSettings, seed: int = 0
) -> np.ndarray:
    """How far the last step leaves the input from the start, whether or not its picture is better: (n, dim)."""
    seen: list[np.ndarray] = []
    draw = decoder.net.forward
    decoder.net.forward = lambda e: (seen.append(e.detach().numpy().copy()), draw(e))[1]
    try:
        refine(batch, decoder, recognizer, steps, settings, seed=seed)
    finally:
        del decoder.net.forward
    return seen[-1] - batch


def test_pictures_that_got_worse_return_the_start(templates, ridge, recognizer) -> None:
    found = refine(templates, ridge, recognizer, 2, RefineSettings(rate=1e4))
    np.testing.assert_array_equal(found.after, found.before)
    np.testing.assert_array_equal(found.pictures, ridge.decode(templates))
    np.testing.assert_array_equal(found.inputs, templates)


def test_the_best_of_all_steps_is_kept(templates, ridge, recognizer) -> None:
    short, long = (refine(templates[:6], ridge, recognizer, steps, PLAIN).after for steps in (3, 12))
    assert (long >= short).all()


def test_a_penalty_keeps_the_input_near(templates, ridge, recognizer) -> None:
    near, far = (
        np.linalg.norm(last_move(templates[:3], ridge, recognizer, 15, settings), axis=1)
        for settings in (replace(PLAIN, penalty=3.0), PLAIN)
    )
    assert (near < 0.7 * far).all()


def test_neither_batch_nor_company_matters(templates, ridge, recognizer) -> None:
    settings = RefineSettings(rate=0.02, jitter=0.3, blur=0.3, gray=0.1)
    together = refine(templates[:4], ridge, recognizer, 6, settings, seed=3)
    assert (together.after > together.before).any()
    for other in (
        refine(templates[:4], ridge, recognizer, 6, settings, seed=3, batch_size=1),
        refine(templates[:8], ridge, recognizer, 6, settings, seed=3, batch_size=3),
    ):
        np.testing.assert_allclose(other.inputs[:4], together.inputs, atol=1e-4 * np.abs(templates).max())
        assert np.abs(other.pictures[:4].astype(int) - together.pictures).max() <= 1
        np.testing.assert_allclose(other.after[:4], together.after, rtol=1e-3)


def test_the_seed_decides(templates, ridge, recognizer) -> None:
    batch = templates[:4]
    one, same, other = (last_move(batch, ridge, recognizer, 6, RefineSettings(), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any(axis=1).all()


@pytest.mark.parametrize("normalized", [False, True])
def test_cosine_does_not_see_lengths(make_store, tiny: Path, normalized: bool) -> None:
    store = Store.open(make_store("tiny-cosine"))
    recognizer = load_recognizer("tiny-cosine", tiny)
    decoder = Decoder("ridge", fitted(store), Provenance(recognizer.describe(), normalized))
    found = refine(store.templates()[:6], decoder, recognizer, 10, replace(PLAIN, rate=0.02))
    assert (found.after >= found.before).all() and found.after.mean() > found.before.mean()
    assert found.after.max() <= 1


def test_a_network_of_its_own_mean(templates, recognizer) -> None:
    torch.manual_seed(0)
    net = DeepFaceDecoder(16, 64, [16, 8, 8, 8, 8], coarse=8)
    net.template_mean += torch.from_numpy(templates.mean(0))
    net.coarse_weight += 0.02 * torch.randn_like(net.coarse_weight)
    found = refine(templates[:6], Decoder("dfd", net, Provenance(recognizer.describe())), recognizer, 8)
    assert found.after.mean() > found.before.mean()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_progress_counts_steps_of_pictures(templates, ridge, recognizer) -> None:
    seen: list[tuple[int, int]] = []
    refine(templates[:5], ridge, recognizer, 3, batch_size=3, progress=lambda *a: seen.append(a))
    assert seen == [(0, 15), (3, 15), (6, 15), (9, 15), (9, 15), (11, 15), (13, 15), (15, 15)]


# ---------------------------------------------------------------- views


@pytest.mark.parametrize("side", [64, 128])
def test_blur_is_gaussian(side: int) -> None:
    x = np.random.default_rng(0).random((2, 3, side, side))
    expected = gaussian_filter(x, (0, 0, side / 64, side / 64), mode="nearest", truncate=3)
    np.testing.assert_allclose(refinement._blurred(torch.from_numpy(x)).numpy(), expected, atol=1e-6)


def test_views_mix_in_gray_and_blur_by_their_shares() -> None:
    drawn = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    gray, blurred, plain = (
        refinement._Views.draw(replace(PLAIN, **shares), range(3), 4, seed=0)
        for shares in ({"gray": 1.0}, {"blur": 0.5}, {})
    )
    soft = refinement._blurred(drawn)
    for row in range(3):
        luma = sum(w * drawn[row, c] for c, w in enumerate((0.299, 0.587, 0.114)))
        for c in range(3):
            mixed = (1 - gray.gray[row, 2]) * drawn[row, c] + gray.gray[row, 2] * luma
            torch.testing.assert_close(gray.degrade(drawn, 2)[row, c], mixed)
        mixed = (1 - blurred.blur[row, 2]) * drawn[row] + blurred.blur[row, 2] * soft[row]
        torch.testing.assert_close(blurred.degrade(drawn, 2)[row], mixed)
    torch.testing.assert_close(plain.degrade(drawn, 2), drawn)
    torch.testing.assert_close(plain.jitter, torch.eye(3)[:2].expand(3, 4, 2, 3))


def test_rows_steps_and_seeds_have_views_of_their_own() -> None:
    settings = RefineSettings(jitter=1, blur=1, gray=0.5)
    views = [refinement._Views.draw(settings, range(3), 50, seed) for seed in (0, 1)]
    for name, most in (("blur", 1.0), ("gray", 0.5)):
        shares = torch.cat([getattr(v, name) for v in views])
        assert len(set(shares.flatten().tolist())) > 0.99 * 300
        assert 0 <= shares.min() < 0.05 * most and 0.95 * most < shares.max() < most
    assert len(set(torch.cat([v.jitter[..., 0, 0] for v in views]).flatten().tolist())) > 0.99 * 300
    later = refinement._Views.draw(settings, range(2, 3), 50, seed=1)
    torch.testing.assert_close(later.jitter[0], views[1].jitter[2])


# ---------------------------------------------------------------- refusals


def test_black_boxes_are_refused_before_any_work(templates, ridge, recognizer, monkeypatch) -> None:
    monkeypatch.setattr(recognizer, "white_box", False)
    monkeypatch.setattr(ridge, "decode", None)
    with pytest.raises(UsageError, match="tiny is black-box: no gradients to refine by; invert without"):
        refine(templates, ridge, recognizer, 5)


def test_decoders_without_gradient_are_refused(templates, recognizer) -> None:
    decoder = Decoder("mean-face", MeanFace(16, 64), Provenance(recognizer.describe()))
    with pytest.raises(UsageError, match=r"a mean-face decoder cannot be refined; use a dfd or ridge"):
        refine(templates, decoder, recognizer, 5)


def test_no_steps_no_recognizer_and_another_one(templates, ridge, recognizer, tiny: Path) -> None:
    with pytest.raises(UsageError, match="0 steps of refinement"):
        refine(templates, ridge, recognizer, 0)
    with pytest.raises(UsageError, match="refinement needs the recognizer"):
        invert(templates, ridge, refine=5)
    with pytest.raises(BadInput, match="the recognizer to refine by"):
        refine(templates, ridge, load_recognizer("tiny-cosine", tiny), 5)
    with pytest.raises(BadInput, match="takes templates of 16 numbers"):
        refine(templates[:, :9], ridge, recognizer, 5)


def test_a_gradient_that_is_not_finite_stops(templates, ridge, recognizer, monkeypatch) -> None:
    monkeypatch.setattr(refinement, "identity_loss", lambda found, *_: (found * float("nan")).sum())
    with pytest.raises(BadInput, match="gradient that is not finite"):
        refine(templates, ridge, recognizer, 5)


# ---------------------------------------------------------------- the command


@pytest.fixture
def folder(tiny_store: Path, recognizer: Recognizer, tmp_path: Path) -> Path:
    store, provenance = Store.open(tiny_store), Provenance(recognizer.describe())
    save_decoder(tmp_path / "ridge", "ridge", fitted(store), provenance)
    save_decoder(tmp_path / "mean", "mean-face", MeanFace(16, 64), provenance)
    return tmp_path


def run(folder: Path, *arguments: str, decoder: str = "ridge") -> Result:
    words = ["invert", folder / "emb", "-o", folder / "out", "--decoder", folder / decoder, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_says_before_and_after(folder: Path, tiny: Path, ridge, recognizer) -> None:
    done = run(folder, "--refine", "4", "--seed", "2", "--weights", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    expected = refine(Store.open(folder / "emb").templates(), ridge, recognizer, 4, seed=2)
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["score"] == pytest.approx(expected.after.mean(), rel=1e-4)
    assert metrics["score_before"] == pytest.approx(expected.before.mean(), rel=1e-4)
    said = f"score against the template {metrics['score_before']:.3f} → {metrics['score']:.3f} (from"
    assert said in done.stderr and "refine, steps: 120/120" in done.stderr
    rows = list(csv.DictReader((folder / "out" / "scores.csv").open()))
    assert list(rows[0]) == ["file", "score", "before"]
    np.testing.assert_allclose([float(row["before"]) for row in rows], expected.before, atol=1e-4)
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected.after, atol=1e-4)


def test_without_refinement_nothing_is_said_of_it(folder: Path, tiny: Path) -> None:
    done = run(folder, "--weights", tiny, "--json")
    assert "score_before" not in json.loads(done.stdout)["metrics"] and "→" not in done.stderr
    assert (folder / "out" / "scores.csv").read_text().startswith("file,score\n")


def test_the_command_refuses(folder: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [
        (run(folder, "--refine", "0", "--weights", tiny), 2, "--refine"),
        (run(folder, "--refine", "4"), 3, "tiny"),
        (run(folder, "--refine", "4", "--weights", tiny, decoder="mean"), 2, "use a dfd or ridge decoder"),
    ]
    monkeypatch.setattr(Recognizer, "white_box", False)
    refused.append((run(folder, "--refine", "4", "--weights", tiny), 2, "tiny is black-box"))
    for done, code, said in refused:
        assert done.exit_code == code and said in done.stderr, done.stderr
    assert not (folder / "out").exists()
