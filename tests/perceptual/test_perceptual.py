"""LPIPS against the lpips package itself, on trunks of random weights; and every trunk that is not the right one."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.perceptual.lpips import TRUNKS, Lpips, build_model, distances, load_trunk
from facedecode.recognizers.weights_file import read_tensors

BUILDERS = {"alex": "alexnet", "squeeze": "squeezenet1_1", "vgg": "vgg16"}


def random_trunk(net, seed=0):
    """torchvision's network; its classifier, which LPIPS does not use, is left out where it is large."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with torch.device("meta"):
            trunk = getattr(models, BUILDERS[net])(weights=None)
        trunk.classifier = torch.nn.Identity()
        trunk.to_empty(device="cpu")
        for parameter in trunk.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return trunk


def pretend_published(monkeypatch, path, net="squeeze"):
    """From here on this file is what torchvision publishes."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(TRUNKS, net, f"own-{digest[:8]}.pth")
    return digest


@pytest.fixture
def squeeze(tmp_path, monkeypatch):
    """A file of a random SqueezeNet that passes for torchvision's, and its hash."""
    path = tmp_path / "own.pth"
    torch.save(random_trunk("squeeze").state_dict(), path)
    return path, pretend_published(monkeypatch, path)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    second = np.clip(first + generator.integers(-40, 41, size=first.shape), 0, 255).astype(np.uint8)
    return first, second


def by_the_package(monkeypatch, net, trunk, first, second):
    """The package's own forward pass, picture by picture, on slices that the package cut from the trunk."""
    monkeypatch.setattr(lpips.pretrained_networks.tv, BUILDERS[net], lambda pretrained: trunk)
    model = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    found = []
    for pair in zip(first, second, strict=True):
        x, y = (lpips.im2tensor(picture) for picture in pair)  # the package's own step to [-1, 1]
        with torch.no_grad():
            found.append(model(x, y).item())
    return np.array(found)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_the_distance_equals_the_packages_own(net, pictures, monkeypatch):
    trunk, model = random_trunk(net), build_model(net)
    load_trunk(model, trunk.state_dict(), Path("trunk"))
    found = distances(model, *pictures, torch.device("cpu"), batch_size=2)
    assert found == pytest.approx(by_the_package(monkeypatch, net, trunk, *pictures), rel=1e-4)
    assert len(np.unique(found)) == 5


def test_a_trunk_is_read_from_its_file(squeeze, pictures, monkeypatch):
    path, digest = squeeze
    metric = Lpips(path, "squeeze")
    wanted = by_the_package(monkeypatch, "squeeze", random_trunk("squeeze"), *pictures)
    assert metric(*pictures) == pytest.approx(wanted, rel=1e-4)
    assert metric(pictures[0], pictures[0]).tolist() == [0] * 5
    assert metric.describe() == {
        "net": "squeeze",
        "version": "0.1",
        "trunk": f"own-{digest[:8]}.pth",
        "trunk_sha256": digest,
    }


def test_nothing_is_printed_downloaded_or_drawn(squeeze, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    state = torch.get_rng_state()
    Lpips(squeeze[0], "squeeze")
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr() == ("", "")


def test_published_hashes_are_in_the_names_that_torchvision_has():
    published = {models.AlexNet_Weights, models.SqueezeNet1_1_Weights, models.VGG16_Weights}
    urls = {weights.IMAGENET1K_V1.url.rpartition("/")[2] for weights in published}
    assert urls == set(TRUNKS.values())


def test_another_trunk_is_refused(squeeze, shared, tmp_path):
    with pytest.raises(BadInput, match=r"caffe.safetensors: not torchvision's own-.*no LPIPS"):
        Lpips(shared / "weights" / "squeezenet1_1_caffe.safetensors", "squeeze")
    converted = tmp_path / "converted.safetensors"
    save_file(torch.load(squeeze[0], weights_only=True), converted)
    with pytest.raises(BadInput, match="a converted file cannot be verified"):
        Lpips(converted, "squeeze")
    with pytest.raises(BadInput, match=r"not torchvision's alexnet-owt-7be5be79.pth"):
        Lpips(squeeze[0], "alex")


def test_a_missing_trunk_is_named(tmp_path):
    with pytest.raises(MissingWeights, match=r"none.pth: no such file; .*alexnet-owt-7be5be79.pth"):
        Lpips(tmp_path / "none.pth")
    with pytest.raises(UsageError, match=r"no net 'resnet': choose one of alex, squeeze, vgg"):
        Lpips(tmp_path / "none.pth", "resnet")


def test_a_trunk_of_other_layers_is_refused(squeeze):
    model, state = build_model("squeeze"), read_tensors(squeeze[0])
    with pytest.raises(BadInput, match=r"own.pth: tensor features.3.squeeze.weight is missing"):
        load_trunk(model, {k: v for k, v in state.items() if k != "features.3.squeeze.weight"}, squeeze[0])
    wrong = {**state, "features.0.weight": torch.zeros(64, 3, 5, 5)}
    with pytest.raises(BadInput, match=r"features.0.weight is \(64, 3, 5, 5\), expected \(64, 3, 3, 3\)"):
        load_trunk(model, wrong, squeeze[0])


@pytest.mark.parametrize("content", [b"", b"not a file of torch's", "pickle", "list"])
def test_a_file_that_is_no_state_dict_is_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "bad.pth"
    if content == "pickle":
        torch.save({"features.0.weight": Path("x")}, path)  # would need code to be run
    elif content == "list":
        torch.save([torch.zeros(2)], path)
    else:
        path.write_bytes(content)
    pretend_published(monkeypatch, path)
    with pytest.raises(BadInput, match=r"bad.pth: (is empty|is neither|holds more than tensors|holds no state dict)"):
        Lpips(path, "squeeze")


def test_wrong_pictures_are_refused(squeeze, pictures):
    metric = Lpips(squeeze[0], "squeeze")
    with pytest.raises(BadInput, match="uint8"):
        metric(pictures[0] / 255, pictures[1] / 255)
    with pytest.raises(BadInput, match="cannot be compared"):
        metric(pictures[0], pictures[1][:4])
    with pytest.raises(BadInput, match="at least 32 px"):
        metric(pictures[0][:, :31], pictures[1][:, :31])
