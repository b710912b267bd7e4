"""Decoders: the closed forms against their definitions, the network's shape, and the checkpoint's refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from facedecode import files
from facedecode.decoders import KINDS, Decoder, Provenance, load_decoder, save_decoder
from facedecode.decoders.base import closed_form, trained_network
from facedecode.decoders.closed_form import MeanFace, Nearest, Ridge
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, MissingWeights, OutputError, UsageError
from facedecode.files import sha256_file
from facedecode.identity import RecognizerId

RECOGNIZER = RecognizerId("tiny", "ab" * 32, dim=5)
WIDTHS = [8, 8, 8, 4, 4]


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Templates (40, 5), not centered, and portraits (40, 3, 8, 8) uint8."""
    rng = np.random.default_rng(0)
    templates = rng.normal(3, 2, (40, 5)).astype(np.float32)
    return torch.from_numpy(templates), torch.from_numpy(rng.integers(0, 256, (40, 3, 8, 8), np.uint8))


def small_net(**changes) -> DeepFaceDecoder:
    torch.manual_seed(0)
    return DeepFaceDecoder(**({"dim": 5, "image_size": 64, "widths": WIDTHS, "coarse": 8} | changes))


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("penalty", [0.0, 1e-2, 3.0])
def test_ridge_equals_scikit_learn(data, penalty: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    templates, portraits = data
    e = templates.double().numpy()
    alpha = penalty * ((e - e.mean(0)) ** 2).sum() / 5
    expected = linear_model.Ridge(alpha=alpha).fit(e, portraits.flatten(1).double().numpy() / 255).predict(e)
    found = Ridge(5, 8, penalty).fit(templates, portraits)(templates)
    np.testing.assert_allclose(found.flatten(1), expected, atol=1e-4)


def test_ridge_recovers_a_linear_world() -> None:
    rng = np.random.default_rng(1)
    templates = torch.from_numpy(rng.normal(0, 1, (600, 4)).astype(np.float32))
    weight = torch.from_numpy(rng.normal(0, 0.05, (3 * 64, 4)).astype(np.float32))
    portraits = ((templates @ weight.T + 0.5).clamp(0, 1) * 255).round().byte().view(-1, 3, 8, 8)
    ridge = Ridge(4, 8, penalty=0).fit(templates, portraits)
    np.testing.assert_allclose(ridge.weight, weight, atol=2e-3)
    np.testing.assert_allclose(ridge.bias, np.full(192, 0.5), atol=2e-3)


def test_the_mean_face_ignores_the_template(data) -> None:
    templates, portraits = data
    drawn = MeanFace(5, 8).fit(templates, portraits)(templates[:7])
    np.testing.assert_allclose(drawn, np.broadcast_to(portraits.double().mean(0) / 255, (7, 3, 8, 8)), atol=1e-6)


@pytest.mark.parametrize("score", ["cosine", "negative-euclidean"])
def test_nearest_draws_the_nearest(data, score: str) -> None:
    templates, portraits = data
    net = Nearest(5, 8, score=score).fit(templates, portraits)
    torch.testing.assert_close(net(templates), portraits.float() / 255, rtol=0, atol=0)
    asked = templates[:9] * 1.7 + 0.1
    a, b = asked.double().numpy(), templates.double().numpy()
    if score == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    nearest = ((a[:, None] - b) ** 2).sum(2).argmin(1)
    torch.testing.assert_close(net(asked), portraits[nearest].float() / 255, rtol=0, atol=0)


# ---------------------------------------------------------------- the network


def test_a_share_of_the_usual_channels() -> None:
    for size in (64, 128, 224):
        usual = DeepFaceDecoder.usual_widths(size)
        assert DeepFaceDecoder(5, size, coarse=0).config["widths"] == list(usual)
        assert DeepFaceDecoder.usual_widths(size, 0.5) == tuple(n // 2 for n in usual)
    assert DeepFaceDecoder.usual_widths(64, 1e-6) == (4, 4, 4, 4, 4)  # still a network
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(UsageError, match="more than 0 and at most 1"):
            DeepFaceDecoder.usual_widths(64, wrong)


@pytest.mark.parametrize(("size", "widths"), [(64, WIDTHS), (128, [*WIDTHS, 4]), (224, [*WIDTHS, 4])])
@pytest.mark.parametrize("coarse", [0, 8])
def test_the_network_draws_its_size(size: int, widths: list[int], coarse: int) -> None:
    net = small_net(image_size=size, widths=widths, coarse=coarse).eval()
    assert net(torch.randn(2, 5)).shape == (2, 3, size, size)
    # Nothing that leaves a grid.
    assert not any(isinstance(m, (nn.ConvTranspose2d, nn.MaxUnpool2d, nn.PixelShuffle)) for m in net.modules())


def test_the_network_refuses_other_sizes() -> None:
    with pytest.raises(UsageError, match="image size 100: a decoder draws 64, 128, 224 pixels"):
        small_net(image_size=100)
    with pytest.raises(UsageError, match="64 pixels take 5 widths, not 3"):
        small_net(widths=[8, 8, 8])


def test_a_template_is_drawn_alike_alone_and_in_a_batch() -> None:
    decoder = Decoder("dfd", small_net(), Provenance(RECOGNIZER))
    templates = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    alone = np.concatenate([decoder.decode(t[None]) for t in templates])
    assert np.abs(decoder.decode(templates, batch_size=3).astype(int) - alone).max() <= 1
    assert alone.dtype == np.uint8 and alone.shape == (7, 64, 64, 3)


# ---------------------------------------------------------------- the decoder and its checkpoint


def fitted(kind: str, data) -> nn.Module:
    if KINDS[kind].fitting == "closed form":
        return closed_form(kind)(5, 8).fit(*data)
    network = trained_network(kind)
    return network(5, 64, network.usual_widths(64, 0.02))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "latent"])  # that one: test_latent.py
def test_a_checkpoint_comes_back(kind: str, half: bool, data, tmp_path: Path) -> None:
    net = fitted(kind, data)
    made = Provenance(RECOGNIZER, training=TrainingRecord.from_json("it", {"images": 40}))
    save_decoder(tmp_path / "a", kind, net, made, half)
    save_decoder(tmp_path / "b", kind, net, made, half)
    for name in ("decoder.json", "decoder.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = load_decoder(tmp_path / "a")
    assert (again.kind, again.dim, again.image_size) == (kind, 5, net.image_size)
    assert again.provenance == made
    templates = data[0][:6].numpy()
    drawn, expected = again.decode(templates), Decoder(kind, net, made).decode(templates)
    assert np.abs(drawn.astype(int) - expected).max() <= (3 if half else 0)
    assert all(t.dtype == torch.float32 for t in again.net.state_dict().values() if t.is_floating_point())
    # The folder, or either of its files.
    assert load_decoder(tmp_path / "a" / "decoder.json").kind == load_decoder(str(tmp_path / "a")).kind == kind


@pytest.mark.parametrize("size", [1e-7, 1, 1e7])
def test_half_keeps_what_float16_does_not_hold(size: float, data, tmp_path: Path) -> None:
    """A linear decoder's weights go with one over the size of templates."""
    templates = data[0] * size
    net = Ridge(5, 8).fit(templates, data[1])
    save_decoder(tmp_path, "ridge", net, Provenance(RECOGNIZER), half=True)
    again = load_decoder(tmp_path)
    assert ((again(templates) - net(templates).clamp(0, 1)) * 255).abs().max() < 1
    saved = load_file(tmp_path / "decoder.safetensors")["weight"].dtype
    assert saved == (torch.float16 if size == 1 else torch.float32)


def test_pictures_are_clipped_and_rounded(data) -> None:
    templates, portraits = data
    ridge = Ridge(5, 8).fit(templates, portraits)
    decoder = Decoder("ridge", ridge, Provenance(RECOGNIZER))
    far = templates * 50
    raw = ridge(far).numpy()
    assert raw.min() < -0.1 and raw.max() > 1.1
    expected = np.rint(np.clip(raw, 0, 1) * 255).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(decoder.decode(far.numpy()), expected)


def test_a_decoder_of_normalized_templates_normalizes(data) -> None:
    templates, portraits = data
    unit = nn.functional.normalize(templates)
    decoder = Decoder("ridge", Ridge(5, 8).fit(unit, portraits), Provenance(RECOGNIZER, normalized=True))
    np.testing.assert_array_equal(decoder.decode(templates.numpy()), decoder.decode(3 * templates.numpy()))
    plain = Decoder("ridge", Ridge(5, 8).fit(unit, portraits), Provenance(RECOGNIZER))
    np.testing.assert_array_equal(decoder.decode(templates.numpy()), plain.decode(unit.numpy()))


@pytest.mark.parametrize("shape", [(3, 4), (3, 6), (5,), (2, 5, 1)])
def test_templates_of_another_length_are_refused(data, shape) -> None:
    decoder = Decoder("ridge", Ridge(5, 8).fit(*data), Provenance(RECOGNIZER))
    with pytest.raises(BadInput, match=r"decoder \(tiny\) takes templates of 5 numbers"):
        decoder.decode(np.zeros(shape, np.float32))


def test_templates_of_another_recognizer_are_refused(data) -> None:
    decoder = Decoder("ridge", Ridge(5, 8).fit(*data), Provenance(RECOGNIZER))
    decoder.require_recognizer(RECOGNIZER, "the decoder")
    for other in ({"name": "other"}, {"weights_sha256": "cd" * 32}):
        with pytest.raises(BadInput, match="tiny"):
            decoder.require_recognizer(replace(RECOGNIZER, **other), "the decoder")


def edit(field: str, value: object) -> Callable[[dict, dict], None]:
    def change(card: dict, tensors: dict) -> None:
        *path, last = field.split(".")
        for part in path:
            card = card[part]
        card[last] = value

    return change


def drop(field: str) -> Callable[[dict, dict], None]:
    return lambda card, tensors: card.pop(field)


REFUSALS = {
    "version": (edit("format_version", 3), "decoder.json: format version 3, and this facedecode reads 2"),
    "no version": (drop("format_version"), "decoder.json: format version None"),
    "kind": (edit("kind", "gan"), "decoder.json: unknown kind of decoder 'gan'; known: dfd, nbnet"),
    "odd kind": (edit("kind", ["ridge"]), "decoder.json: field 'kind' is not text"),
    "frame": (edit("frame.points", [[0, 0]] * 5), "decoder.json: draws another portrait frame"),
    "odd frame": (edit("frame.points", 5), "decoder.json: field 'frame.points' is not a list"),
    "no recognizer": (drop("recognizer"), "decoder.json: field 'recognizer' is missing"),
    "odd recognizer": (edit("recognizer", "tiny"), "decoder.json: field 'recognizer' is no JSON object"),
    "nameless recognizer": (edit("recognizer", {}), "decoder.json: field 'recognizer.name' is missing"),
    "config field": (edit("config.depth", 3), "decoder.json: its config does not fit a ridge decoder"),
    "config type": (edit("config.dim", "five"), "decoder.json: field 'config.dim' is not a whole number"),
    "config sign": (edit("config.dim", -5), "decoder.json: field 'config.dim' is not from 1 to 1048576"),
    "config list": (edit("config", [1]), "decoder.json: field 'config' is no JSON object"),
    "missing": (
        lambda card, tensors: tensors.pop("bias"),
        r"decoder.safetensors: .* 1 missing \(bias\)",
    ),
    "extra": (
        lambda card, t: t.update(more=torch.zeros(2)),
        r"decoder.safetensors: .* 1 unexpected \(more\)",
    ),
    "shape": (
        lambda card, t: t.update(bias=torch.zeros(7)),
        r"decoder.safetensors: .* 1 of another shape or type \(bias: 7, not 192\)",
    ),
    "dim": (edit("config.dim", 6), r"decoder.safetensors: .*\(weight: 192×5, not 192×6\)"),
    "NaN": (lambda card, t: t["bias"].fill_(float("nan")), "decoder.safetensors: bias holds NaN or Inf"),
    "Inf": (lambda card, t: t["weight"].fill_(float("inf")), "decoder.safetensors: weight holds NaN or Inf"),
}


@pytest.fixture
def folder(data, tmp_path: Path) -> Path:
    save_decoder(tmp_path / "d", "ridge", Ridge(5, 8).fit(*data), Provenance(RECOGNIZER))
    return tmp_path / "d"


@pytest.mark.parametrize("case", REFUSALS)
def test_a_changed_checkpoint_is_refused(folder: Path, case: str) -> None:
    change, reason = REFUSALS[case]
    card = json.loads((folder / "decoder.json").read_text())
    tensors = load_file(folder / "decoder.safetensors")
    change(card, tensors)
    save_file(tensors, folder / "decoder.safetensors")
    card["sha256"] = sha256_file(folder / "decoder.safetensors")
    (folder / "decoder.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match=reason):
        load_decoder(folder)


def test_tensors_that_changed_are_refused_and_older_decoders_are_read(folder: Path) -> None:
    card = json.loads((folder / "decoder.json").read_text())
    content = bytearray((folder / "decoder.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "decoder.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"decoder\.safetensors: wrong sha256"):
        load_decoder(folder)
    card["format_version"] = 1
    del card["sha256"]
    (folder / "decoder.json").write_text(json.dumps(card))
    assert load_decoder(folder).recognizer == RECOGNIZER


@pytest.mark.parametrize("size", [400, 64])
def test_a_wrong_size_of_picture_in_the_card_is_refused(tmp_path: Path, size: int) -> None:
    save_decoder(tmp_path, "dfd", small_net(), Provenance(RECOGNIZER))
    card = json.loads((tmp_path / "decoder.json").read_text())
    card["config"] |= {"image_size": size, "widths": [8, 8]}
    (tmp_path / "decoder.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match=r"decoder\.json: its config does not fit a dfd decoder"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("name", ["decoder.json", "decoder.safetensors"])
@pytest.mark.parametrize("content", ["truncated", "empty", "lfs", "pickle", "folder"])
def test_a_file_that_is_something_else_is_refused(folder: Path, name: str, content: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if content == "folder":
        path.mkdir()
    else:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"
        path.write_bytes({"truncated": data[:-9], "empty": b"", "lfs": pointer, "pickle": b"\x80\x04K\x01."}[content])
    with pytest.raises((BadInput, MissingWeights), match=name):
        load_decoder(folder)


def test_an_unknown_decoder_lists_the_shipped(tmp_path: Path, data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    with pytest.raises(MissingWeights, match=r"no decoder 'x': looked for x/decoder\.json and .*\(none\).*train"):
        load_decoder("x")
    save_decoder(tmp_path / "tiny", "ridge", Ridge(5, 8).fit(*data), Provenance(RECOGNIZER))
    assert load_decoder("tiny").kind == "ridge"
    with pytest.raises(MissingWeights, match=r"shipped ones \(tiny\)"):
        load_decoder(tmp_path / "nothing")


def test_a_full_disk_keeps_the_old_checkpoint(folder: Path, data, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"decoder\.safetensors: No space left on device"):
        save_decoder(folder, "ridge", Ridge(5, 8), Provenance(RECOGNIZER))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_what_draws_is_the_network_with_its_normalization_folded() -> None:
    net = DeepFaceDecoder(16, 64)
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.05)
    decoder = Decoder("dfd", net, Provenance(RecognizerId("tiny", None)))
    templates = torch.randn(5, 16, generator=generator)
    assert net(templates).std() > 1e-3
    torch.testing.assert_close(decoder(templates), net(templates).clamp(0, 1), rtol=1e-4, atol=1e-5)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in decoder.net.modules()), (
        "the checkpoint's network is as it was"
    )
