"""LPIPS against the lpips package itself; the files that a trunk may lie in; and trunks that are not the right one."""

from __future__ import annotations

import hashlib
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision import models

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.perceptual.imagenet import ALEXNET, SQUEEZENET, VGG16, values_sha256
from facedecode.perceptual.lpips import TRUNKS, Lpips

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def alex(published: Callable[..., Path], tmp_path: Path) -> Path:
    """A file of random features of AlexNet's that passes for torchvision's."""
    return published("alexnet", tmp_path / "alex.safetensors")


@pytest.fixture
def pictures() -> Pair:
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)
    second = np.clip(first + generator.integers(-40, 41, size=first.shape), 0, 255).astype(np.uint8)
    return first, second


def by_the_package(monkeypatch: pytest.MonkeyPatch, net: str, trunk: Path, first: np.ndarray, second: np.ndarray):
    """The package's own forward pass with its own constructor, on a trunk that it takes for torchvision's download."""
    builder = TRUNKS[net].builder
    with torch.device("meta"):
        whole = getattr(models, builder)(weights=None)
    tensors = {name.removeprefix("features."): each for name, each in load_file(trunk).items()}
    whole.features.load_state_dict(tensors, assign=True)
    with monkeypatch.context() as patched:
        patched.setattr(lpips.pretrained_networks.tv, builder, lambda pretrained: whole)
        model = lpips.LPIPS(net=net, version="0.1", verbose=False)
    found = []
    for pair in zip(first, second, strict=True):
        x, y = (lpips.im2tensor(picture) for picture in pair)  # the package's own step to [-1, 1]
        with torch.no_grad():
            found.append(model(x, y).item())
    return np.array(found)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_the_distance_equals_the_packages_own(net, published, pictures, monkeypatch, tmp_path):
    path = published(TRUNKS[net].builder, tmp_path / "trunk.safetensors")
    metric = Lpips(path, net)
    found = metric(*pictures, batch_size=2)
    assert found == pytest.approx(by_the_package(monkeypatch, net, path, *pictures), rel=1e-4)
    assert len(np.unique(found)) == 3 and found.min() > 0
    assert metric(pictures[0], pictures[0]).tolist() == [0] * 3


def test_the_real_trunk_gives_the_packages_own_numbers(shared, pictures, monkeypatch):
    trunk = shared / "weights" / "torchvision_alexnet_features.safetensors"
    smooth = np.add.outer(np.arange(64), np.arange(64))[None, :, :, None].repeat(3, 3).astype(np.uint8)
    first, second = np.concatenate([pictures[0], smooth]), np.concatenate([pictures[1], smooth[:, :, ::-1]])
    found = Lpips(trunk)(first, second)
    assert found == pytest.approx(by_the_package(monkeypatch, "alex", trunk, first, second), abs=2e-6)
    # Noise upon noise, and a ramp in another direction; found with version 0.1.4 of the package.
    assert found == pytest.approx([0.0129, 0.0111, 0.0113, 0.2316], abs=1e-4)


def test_what_made_the_numbers_is_described(alex):
    described = Lpips(alex).describe()
    assert described.pop("trunk_sha256") == sha256_of_file(alex)
    assert described == {"net": "alex", "version": "0.1", "trunk": "alexnet-owt-7be5be79.pth"}


def sha256_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole_network(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision saves it, with a classifier (of a few numbers here)."""
    return {**features, "classifier.1.weight": torch.ones(2, 3), "classifier.1.bias": torch.ones(2)}


def lpips_own(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the package's model saves itself: its trunk in slices, and its linear layers beside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of the package's arguments
        model = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    for name, tensor in model.net.state_dict().items():
        tensor.copy_(features[f"features.{name.partition('.')[2]}"])
    return model.state_dict()


@pytest.mark.parametrize(
    "change",
    [
        whole_network,
        lpips_own,
        lambda features: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in features.items()}},
        lambda features: {k: v.double() for k, v in features.items()},
    ],
    ids=["whole", "lpips", "checkpoint", "doubles"],
)
def test_the_trunk_is_known_by_its_values_whatever_its_file(change, alex, pictures, tmp_path):
    torch.save(change(load_file(alex)), tmp_path / "trunk.pth")
    assert Lpips(tmp_path / "trunk.pth")(*pictures).tolist() == Lpips(alex)(*pictures).tolist()


def test_torchvisions_own_file_is_known_by_its_hash(published, tmp_path, monkeypatch):
    path = published("squeezenet1_1", tmp_path / "own.safetensors")
    monkeypatch.setitem(TRUNKS, "squeeze", SQUEEZENET)  # nobody here has its values
    with pytest.raises(BadInput, match=r"own.safetensors: not torchvision's squeezenet1_1-b8a52dc0.pth.*cannot be ver"):
        Lpips(path, "squeeze")
    own = f"squeezenet1_1-{sha256_of_file(path)[:8]}.pth"
    monkeypatch.setitem(TRUNKS, "squeeze", SQUEEZENET.__class__("SqueezeNet", "squeezenet1_1", own))
    Lpips(path, "squeeze")


def test_nothing_is_printed_downloaded_drawn_or_run(alex, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection")

    loaded, load = [], torch.load
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch, "load", lambda *a, **k: loaded.append(k.get("weights_only")) or load(*a, **k))
    state = torch.get_rng_state()
    Lpips(alex)
    assert torch.equal(torch.get_rng_state(), state)
    assert capsys.readouterr() == ("", "")
    assert loaded == [True], "the package's linear layers are a pickle: no code in it is run"


def test_published_hashes_are_in_the_names_that_torchvision_has():
    published = {models.AlexNet_Weights, models.SqueezeNet1_1_Weights, models.VGG16_Weights}
    urls = {weights.IMAGENET1K_V1.url.rpartition("/")[2] for weights in published}
    assert urls == {weights.file for weights in (ALEXNET, SQUEEZENET, VGG16)}


def test_the_shared_trunk_has_the_values_that_are_pinned(shared):
    tensors = load_file(shared / "weights" / "torchvision_alexnet_features.safetensors")
    assert values_sha256(tensors) == ALEXNET.sha256
    first = tensors["features.0.bias"]
    assert values_sha256({**tensors, "features.0.bias": first.nextafter(first + 1)}) != ALEXNET.sha256


def nudged(features: dict[str, Tensor]) -> dict[str, Tensor]:
    features["features.10.bias"][5] += 1e-3
    return features


def test_another_trunk_is_refused(alex, tmp_path):
    features, path = load_file(alex), tmp_path / "other.pth"
    other = "other.pth: other weights than torchvision's AlexNet .*no LPIPS"
    for state, said in [
        (nudged(dict(features)), other),
        ({k: v.half() for k, v in features.items()}, other),
        (
            {k: v for k, v in features.items() if "features.6" not in k},
            r"2 missing \(features.6.bias, features.6.weight",
        ),
        ({**features, "features.0.weight": torch.ones(64, 3, 5, 5)}, r"features.0.weight: 64×3×5×5, not 64×3×11×11"),
        ({**features, "features.1.weight": torch.ones(1)}, r"1 unexpected \(features.1.weight"),
        ({**features, "features.0.weight": torch.full((64, 3, 11, 11), torch.nan)}, "holds NaN"),
        (
            {name: torch.ones(1) for name in models.squeezenet1_1().state_dict()},
            "expected the layout of torchvision's AlexNet",
        ),
    ]:
        torch.save(state, path)
        with pytest.raises(BadInput, match=said) as refused:
            Lpips(path)
        assert "\n" not in str(refused.value)


def test_its_linear_layers_alone_are_no_trunk():
    own = Path(lpips.__file__).parent / "weights" / "v0.1"
    for file in ("alex.pth", "vgg.pth"):
        with pytest.raises(BadInput, match=f"{file}: holds the linear layers of LPIPS.*give .* torchvision's AlexNet"):
            Lpips(own / file)


def test_a_missing_trunk_is_named(tmp_path):
    with pytest.raises(MissingWeights, match=r"none.pth: no such file; .*alexnet-owt-7be5be79.pth"):
        Lpips(tmp_path / "none.pth")
    with pytest.raises(UsageError, match=r"no net 'resnet': choose one of alex, squeeze, vgg"):
        Lpips(tmp_path / "none.pth", "resnet")


@pytest.mark.parametrize("content", [b"", b"not a file of torch's", "pickle", "list"])
def test_a_file_that_is_no_state_dict_is_refused(content, tmp_path):
    path = tmp_path / "bad.pth"
    if content == "pickle":
        torch.save({"features.0.weight": Path("x")}, path)  # would need code to be run
    elif content == "list":
        torch.save([torch.zeros(2)], path)
    else:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"bad.pth: (is empty|is neither|holds more than tensors|holds no state dict)"):
        Lpips(path)


def test_wrong_pictures_are_refused(alex, pictures):
    metric = Lpips(alex)
    with pytest.raises(BadInput, match="uint8"):
        metric(pictures[0] / 255, pictures[1] / 255)
    with pytest.raises(BadInput, match="cannot be compared"):
        metric(pictures[0], pictures[1][:2])
    with pytest.raises(BadInput, match="at least 32 px"):
        metric(pictures[0][:, :31], pictures[1][:, :31])
