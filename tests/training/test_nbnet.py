"""NbNet: its blocks against their definition, its two phases, and the loop that it shares with the DFD."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.decoders.nbnet import GROWTH, NbNet, NeighborlyBlock
from facedecode.errors import BadInput, OutputError, UsageError
from facedecode.perceptual.phi import RecognizerMaps
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.training import losses
from facedecode.training.decoder import train_store
from facedecode.training.decoder_run import DecoderRun, Pairs, TrainingInputs
from facedecode.training.jobs import DecoderJob, LossWeights, default_settings
from facedecode.training.trainer import STATE

WIDTHS = (16, 8, 8, 8, 8)
SMALL = dataclasses.replace(
    default_settings("nbnet"),
    image_size=64,
    widths=WIDTHS,
    epochs=2,
    batch_size=6,
    mirror=False,
    save_every=3,
    validate_every=4,
)


@pytest.fixture
def job(tiny_store: Path, tiny: Path, tmp_path: Path) -> DecoderJob:
    """8 steps: 4 on pixels, 4 on the recognizer's maps; two of the ten people are held out."""
    return DecoderJob(
        tiny_store, tmp_path / "decoder", architecture="nbnet", validation=0.3, weights=tiny, settings=SMALL
    )


def change(job: DecoderJob, **settings) -> DecoderJob:
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, **settings))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stop_at(step: int) -> Callable[..., None]:
    def progress(done: int, *_: object) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize(("size", "base", "blocks"), [(64, 4, 5), (128, 4, 6), (224, 7, 6)])
def test_the_published_plan(size: int, base: int, blocks: int) -> None:
    net = NbNet(10, size).eval()
    assert net.base == base and net.config["widths"] == [256, 128, 64, 32, 16, 8][:blocks]
    # Half of a block's channels from the de-convolution, half from its convolutions of 8 channels.
    assert [len(block.layers) for block in net.blocks] == [32, 16, 8, 4, 2, 1][:blocks]
    drawn = net(torch.randn(2, 10))
    assert drawn.shape == (2, 3, size, size)
    assert drawn.min() >= 0 and drawn.max() <= 1


@pytest.mark.parametrize("layer", range(4))
def test_each_convolution_sees_all_earlier_channels_and_no_later_ones(layer: int) -> None:
    torch.manual_seed(0)
    block = NeighborlyBlock(6, 4).eval()
    seen = block.layers[layer][2].weight
    assert seen.shape == (GROWTH, 6 + layer * GROWTH, 3, 3)
    x = torch.randn(2, 6, 5, 5)
    before = block(x)
    torch.testing.assert_close(before[:, :6], x, rtol=0, atol=0)  # what comes in goes out
    own = slice(6 + layer * GROWTH, 6 + (layer + 1) * GROWTH)
    for channel in range(before.shape[1]):
        with torch.no_grad():
            # Of the channel that is changed, a convolution that sees it must make something else.
            if channel < 6:
                moved = x.clone()
                moved[:, channel] += 1
                after = block(moved)
            else:
                maker, filter_ = divmod(channel - 6, GROWTH)
                kept = block.layers[maker][2].weight[filter_].clone()
                block.layers[maker][2].weight[filter_] += 1
                after = block(x)
                block.layers[maker][2].weight[filter_] = kept
        if channel < own.start:
            assert (after[:, own] - before[:, own]).abs().amax((0, 2, 3)).min() > 0
        elif channel >= own.stop:
            torch.testing.assert_close(after[:, own], before[:, own], rtol=0, atol=0)


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    net = NbNet(7, 64, WIDTHS).train()
    templates = torch.randn(4, 7, requires_grad=True)
    net(templates).sub(torch.rand(4, 3, 64, 64)).abs().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    assert templates.grad.abs().min() > 0  # refinement moves templates


@pytest.mark.parametrize(
    ("size", "widths", "reason"),
    [
        (160, None, "image size 160: a decoder draws 64, 128, 224 pixels"),
        (64, (16, 8, 8), "64 pixels take 5 widths, not 3"),
        (64, (16, 12, 8, 8, 8), "widths 16, 12, 8, 8, 8: give multiples of 8"),
    ],
)
def test_networks_that_there_are_not(size: int, widths: tuple[int, ...] | None, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        NbNet(5, size, widths)


def test_a_share_of_the_channels() -> None:
    assert NbNet.usual_widths(128, 0.5) == (128, 64, 32, 16, 8, 8)
    assert NbNet.usual_widths(64, 0.3) == (80, 40, 16, 8, 8)
    assert NbNet(5, 64, NbNet.usual_widths(64, 0.1))(torch.zeros(1, 5)).shape == (1, 3, 64, 64)


# ---------------------------------------------------------------- the two phases


@pytest.fixture
def run(recognizer: Recognizer, tmp_path: Path) -> DecoderRun:
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(24, 16, generator=generator).numpy()
    portraits = torch.randint(0, 256, (24, 64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    pairs, phi = Pairs(templates, portraits), [RecognizerMaps(recognizer)]
    inputs = TrainingInputs(pairs, pairs.part(slice(0)), SMALL, tmp_path, "", "cosine", "nbnet", recognizer, phi)
    return DecoderRun(inputs, torch.device("cpu"))


def test_pixels_first_and_then_maps_alone(run: DecoderRun, recognizer: Recognizer) -> None:
    assert run.steps == 8
    drawn, portraits = torch.rand(6, 3, 64, 64), torch.rand(6, 3, 64, 64)
    found, maps = [], RecognizerMaps(recognizer)
    for run.step in range(8):
        found.append(run.loss(drawn, portraits, torch.zeros(6, 16)).item())
    pixels = (drawn - portraits).abs().mean().item()
    # Without random crops: every step sees the portraits alike.
    still = torch.eye(2, 3).expand(6, 2, 3)
    seen, wanted = (maps.maps(maps.view(x, still)) for x in (drawn, portraits))
    perceptual = losses.perceptual_loss(seen, wanted).item()
    assert found == pytest.approx([pixels] * 4 + [perceptual] * 4, rel=1e-4)
    assert abs(pixels - perceptual) > 0.01


def test_the_share_of_the_first_phase_is_a_setting_of_any_network(run: DecoderRun) -> None:
    weights = LossWeights(1, 2, 3, 4, 5, 6, 7, 8)
    run.settings = dataclasses.replace(SMALL, perceptual_after=0.25, weights=weights)
    seen = []
    for run.step in range(8):
        seen.append(run.weights())
    assert seen == [LossWeights(1, 2, 3, 4, 0, 0, 0, 8)] * 2 + [LossWeights(0, 0, 0, 0, 5, 6, 7, 0)] * 6
    run.settings = dataclasses.replace(run.settings, perceptual_after=None)
    assert run.weights() == weights


# ---------------------------------------------------------------- the loop


@pytest.mark.parametrize("stops", [(2,), (4,), (7,), (3, 5)])
def test_an_interrupted_run_ends_with_the_same_bytes(job: DecoderJob, tmp_path: Path, stops: tuple[int, ...]) -> None:
    parts = dataclasses.replace(job, output=tmp_path / "parts")
    train_store(job)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train_store(parts, training=stop_at(stop))
        assert not (parts.output / "decoder.json").exists()
    train_store(parts)
    assert content(parts.output) == content(job.output)


def test_what_is_recorded(job: DecoderJob) -> None:
    decoder = train_store(job)
    assert (decoder.kind, decoder.image_size, decoder.dim) == ("nbnet", 64, 16)
    made = decoder.provenance.training
    assert made.settings.further["perceptual_after"] == 0.5 and made.settings.weights["absolute"] == 1
    assert made.further["steps"] == 8 and len(made.curve) == 2 and made.phi[0].name == "tiny"
    assert decoder.looked_through("tiny") is True and decoder.looked_through("other") is False
    again = load_decoder(job.output)
    templates = Store.open(job.store).templates()
    assert (again.decode(templates) == decoder.decode(templates)).all()


def test_a_dfd_and_an_nbnet_do_not_take_up_each_other(job: DecoderJob, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_store(job, training=stop_at(4))
    other = dataclasses.replace(job, architecture="dfd")
    with pytest.raises(OutputError, match="holds a run with other data or settings"):
        train_store(other)
    train_store(job)
    assert (job.output / STATE).exists()
    with pytest.raises(BadInput, match=r"a nbnet decoder of 64 px; --start takes a network of the same"):
        train_store(dataclasses.replace(other, start=job.output, output=tmp_path / "dfd"))
    further = train_store(dataclasses.replace(job, start=job.output, output=tmp_path / "further"))
    assert further.kind == "nbnet" and further.provenance.training.start


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"perceptual_after": 0.0}, "perceptual after 0.0: give a share"),
        ({"perceptual_after": 1.0}, "perceptual after 1.0: give a share"),
        ({"weights": LossWeights(0, 0, 0, 0, 1, 0, 0)}, "perceptual after 0.5: no term on pixels has a weight"),
        ({"weights": LossWeights(perceptual=0, identity=0)}, "perceptual after 0.5: no term on networks has a weight"),
        ({"coarse": 8}, "coarse 8: nbnet has no coarse picture"),
    ],
)
def test_settings_that_no_run_can_have(job: DecoderJob, settings: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        train_store(change(job, **settings))
    assert not job.output.exists()


def test_what_is_given_takes_the_place_of_the_networks_own_defaults(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_store.parent)
    seen: list[DecoderJob] = []

    def train(job: DecoderJob, *_: object) -> None:
        seen.append(job)
        raise BadInput("far enough")

    monkeypatch.setattr("facedecode.training.decoder.train_store", train)
    given = ["--architecture", "nbnet", "--absolute-weight", "2", "--jitter", "1"]
    assert CliRunner().invoke(app, ["train", "emb", "-o", "new", *given]).exit_code == 4
    assert (seen[0].settings.weights.absolute, seen[0].settings.jitter) == (2, 1)
    assert seen[0].settings.perceptual_after == 0.5


def test_options_that_would_change_nothing_are_refused(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, option in [
        (["--architecture", "nbnet", "--identity-target", "person"], "--identity-target"),
        (["--perceptual-weight", "0", "--phi", "tiny"], "--phi"),
        (["--start", "emb", "--width", "0.5"], "--width"),
    ]:
        result = CliRunner().invoke(app, ["train", "emb", "-o", "new", *options, "--json"])
        assert result.exit_code == 2 and not Path("new").exists()
        assert f"{option} does not go with " in json.loads(result.stdout)["error"]


@pytest.mark.parametrize(
    ("option", "kind"),
    [(["--epochs", "3"], "ridge"), (["--absolute-weight", "1"], "nearest"), (["--no-mirror"], "ridge")],
)
def test_a_closed_form_refuses_what_only_a_network_uses(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "emb", "-o", "new", "--architecture", kind, *option, "--json"])
    assert result.exit_code == 2 and not Path("new").exists()
    assert f"does not go with --architecture {kind} " in json.loads(result.stdout)["error"]
