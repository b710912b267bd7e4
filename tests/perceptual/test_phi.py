"""Perceptual networks: where they look, what they keep, and the distance."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models, transforms

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.perceptual.imagenet import values_sha256
from facedecode.perceptual.phi import IMAGE_NETWORKS, PerceptualNetwork, RecognizerMaps, load_phi, phi_distance
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.training.losses import random_jitter

IMAGE_FILES = {"squeezenet": "squeezenet1_1", "vgg16-imagenet": "vgg16"}


@pytest.fixture
def image_file(published: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """Writes random weights of a network of ImageNet's, which pass for the published ones: the file."""
    return lambda name: published(IMAGE_FILES[name], tmp_path / f"{name}.safetensors")


@pytest.fixture
def squeezenet_file(image_file: Callable[[str], Path]) -> Path:
    return image_file("squeezenet")


@pytest.fixture(params=["squeezenet", "vgg16-imagenet", "tiny"])
def network(request: pytest.FixtureRequest, image_file: Callable[[str], Path], tiny: Path) -> PerceptualNetwork:
    return load_phi(request.param, tiny if request.param == "tiny" else image_file(request.param))


def pictures(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("side", [64, 128, 224])
def test_the_local_view_is_the_central_region(network: PerceptualNetwork, side: int) -> None:
    x1, y1, x2, y2 = (v * side for v in align.LOCAL_REGION)
    at = torch.arange(side) + 0.5
    inside = ((at > y1) & (at < y2))[:, None] & ((at > x1) & (at < x2))[None]
    view = network.view(inside.float().expand(1, 3, side, side))
    local = network.local(view, side)
    border = 3 * sum(local.shape[2:])  # half a pixel all around, in three colors
    assert (1 - local).sum() < border, "what is cut out lies inside the region"
    assert view.sum() - local.sum() < border, "and is all of it"
    assert local.shape[2] * local.shape[3] < 0.6 * view.shape[2] * view.shape[3]


def normalized(name: str, rgb: torch.Tensor) -> torch.Tensor:
    """What a network takes, by the words of those who published it."""
    if name == "squeezenet":
        return torch.stack([255 * rgb[:, 2] - 104, 255 * rgb[:, 1] - 117, 255 * rgb[:, 0] - 123], 1)
    return transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(rgb)


@pytest.mark.parametrize(("name", "layers"), [("squeezenet", (1, 4, 7, 10)), ("vgg16-imagenet", (3, 8, 15))])
def test_an_image_networks_maps_equal_torchvisions(name, layers, image_file):
    file = image_file(name)
    plain = getattr(models, IMAGE_FILES[name])(weights=None).features
    plain.load_state_dict({key.removeprefix("features."): value for key, value in load_file(file).items()})
    rgb = torch.rand(2, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    maps = load_phi(name, file).maps(rgb)
    with torch.inference_mode():
        for last, found in zip(layers, maps, strict=True):
            torch.testing.assert_close(found, plain[: last + 1](normalized(name, rgb)), rtol=1e-4, atol=1e-3)


def test_the_shared_vgg_gives_torchvisions_maps(shared):
    file = shared / "weights" / "torchvision_vgg16_to_relu3_3.safetensors"
    with torch.device("meta"):
        plain = models.vgg16(weights=None).features[:16]
    tensors = load_file(file)
    plain.load_state_dict({key.removeprefix("features."): value for key, value in tensors.items()}, assign=True)
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = load_phi("vgg16-imagenet", file)
    assert torch.equal(network.view(rgb), rgb), "64 px are not enlarged: relu3_3 has 16 x 16 places of them"
    maps = network.maps(rgb)
    assert [tuple(each.shape[1:]) for each in maps] == [(64, 64, 64), (128, 32, 32), (256, 16, 16)]
    with torch.inference_mode():
        for last, found in zip((3, 8, 15), maps, strict=True):
            torch.testing.assert_close(
                found, plain[: last + 1](normalized("vgg16-imagenet", rgb)), rtol=1e-4, atol=1e-4
            )


def test_an_image_network_is_known_by_its_values(image_file, tmp_path):
    file = image_file("vgg16-imagenet")
    features = load_file(file)
    to_relu3_3 = {name: each for name, each in features.items() if int(name.split(".")[1]) <= 14}
    rgb = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    shallow = replace(IMAGE_NETWORKS["vgg16-imagenet"].weights, sha256=values_sha256(to_relu3_3), verified=15)
    IMAGE_NETWORKS["vgg16-imagenet"] = replace(IMAGE_NETWORKS["vgg16-imagenet"], weights=shallow)
    save_file(to_relu3_3, half := tmp_path / "half.safetensors")
    torch.save({**features, "classifier.6.weight": torch.ones(2, 3)}, whole := tmp_path / "whole.pth")
    wanted = load_phi("vgg16-imagenet", half).maps(rgb)
    torch.testing.assert_close(load_phi("vgg16-imagenet", whole).maps(rgb), wanted, rtol=0, atol=0)
    torch.testing.assert_close(load_phi("vgg16-imagenet:3", half).maps(rgb), wanted[:1], rtol=0, atol=0)
    for name, state, said in [
        ("vgg16-imagenet", {**features, "features.2.bias": torch.zeros(64)}, "other weights than torchvision's VGG-16"),
        ("vgg16-imagenet", models.alexnet(weights=None).state_dict(), "not these weights: tensors 10 missing"),
        ("vgg16-imagenet:22", features, "not torchvision's vgg16-397923af.pth .* cannot be verified beyond layer 15"),
        ("vgg16-imagenet:22", to_relu3_3, "6 missing"),
    ]:
        torch.save(state, other := tmp_path / "other.pth")
        with pytest.raises(BadInput, match=f"other.pth: .*{said}"):
            load_phi(name, other)


def test_a_recognizer_cannot_take_an_image_networks_name(tmp_path):
    from facedecode.training.recognizer import _name

    with pytest.raises(UsageError, match="vgg16-imagenet is another network's name"):
        _name(tmp_path / "vgg16-imagenet")


def test_layers_can_be_chosen(squeezenet_file: Path, tiny: Path) -> None:
    crops = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = load_phi("squeezenet", squeezenet_file)
    some = load_phi("squeezenet:4+10", squeezenet_file)
    view = whole.view(crops)
    for found, wanted in zip(some.maps(view), whole.maps(view)[1::2], strict=True):
        torch.testing.assert_close(found, wanted)
    assert some.describe() == whole.describe() | {"layers": ["4", "10"]}
    one = load_phi("tiny:conv", tiny)
    torch.testing.assert_close(one.maps(crops), load_phi("tiny", tiny).maps(crops))
    assert one.name == "tiny" and one.describe()["layers"] == ["conv"]
    for name, file, said in (
        ("tiny:nothing", tiny, r"tiny has no layer 'nothing': choose a module of its network \(.*conv.*\)"),
        ("tiny:", tiny, "tiny has no layer ''"),
        ("tiny:fc", tiny, "fc give no maps"),
        ("squeezenet:99", squeezenet_file, "squeezenet has no layer '99': choose from 0 to 12"),
    ):
        with pytest.raises(UsageError, match=said):
            load_phi(name, file)


def test_a_recognizers_maps_are_its_layers_outputs_and_take_any_size(tiny: Path) -> None:
    recognizer = load_recognizer("tiny", tiny)
    crops = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(0))
    (found,) = RecognizerMaps(recognizer).maps(crops)
    torch.testing.assert_close(found, recognizer.net.conv((crops * 255 - 128) / 128))
    ran = []
    handle = recognizer.net.fc.register_forward_hook(lambda *_: ran.append(1))
    recognizer.features(crops[..., :32, :])
    handle.remove()
    assert not ran, "what comes after the last layer is not run"
    assert not recognizer.net.conv._forward_hooks


def test_maps_and_template_in_one_pass_are_those_of_two(tiny: Path) -> None:
    recognizer = load_recognizer("tiny", tiny)
    crops = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps, template = RecognizerMaps(recognizer).maps_and_template(crops)
    torch.testing.assert_close(maps, recognizer.features(crops))
    torch.testing.assert_close(template, recognizer.embed(crops))
    assert not recognizer.net.conv._forward_hooks


def test_a_callers_autocast_takes_the_networks_along(tiny: Path, squeezenet_file: Path) -> None:
    portraits = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    jitter = random_jitter(2, torch.Generator().manual_seed(0))
    recognizer = load_recognizer("tiny", tiny)
    for network in (RecognizerMaps(recognizer), load_phi("squeezenet", squeezenet_file)):
        view = network.view(portraits, jitter)
        exact = network.maps(view)
        with torch.autocast("cpu", torch.bfloat16):
            # The places that are looked at stay exact: rounded, they would lie on a grid.
            torch.testing.assert_close(network.view(portraits, jitter), view, rtol=0, atol=0)
            rough = network.maps(view)
        for a, b in zip(exact, rough, strict=True):
            assert b.dtype == torch.float32 and not torch.equal(a, b), "half the digits, in fp32"
            assert (a - b).norm() < 0.05 * a.norm()


def test_gradients_flow_to_the_pixels(network: PerceptualNetwork) -> None:
    portraits = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    view = network.view(portraits)
    sum(m.square().mean() for m in network.maps(view) + network.maps(network.local(view, 64))).backward()
    assert portraits.grad.abs().sum() > 0


def test_the_distance_equals_a_plain_loop(network: PerceptualNetwork) -> None:
    a, b = pictures(3), pictures(3, seed=1)
    expected = []
    for x, y in zip(a, b, strict=True):
        both = [torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in (x, y)]
        with torch.inference_mode():
            maps = [[m[0].double().numpy() for m in network.maps(network.view(p))] for p in both]
        layers = []
        for p, q in zip(*maps, strict=True):
            places = [
                np.sum((p[:, i, j] / np.linalg.norm(p[:, i, j]) - q[:, i, j] / np.linalg.norm(q[:, i, j])) ** 2)
                for i in range(p.shape[1])
                for j in range(p.shape[2])
            ]
            layers.append(np.mean(places))
        expected.append(np.mean(layers))
    np.testing.assert_allclose(phi_distance(network, a, b, batch_size=2), expected, rtol=1e-4)


def test_the_distance_of_equal_pictures_is_zero_and_grows_with_blur(network: PerceptualNetwork) -> None:
    a = pictures(2)
    assert phi_distance(network, a, a).max() == 0
    little, much = (np.clip(a + noise, 0, 255).astype(np.uint8) for noise in (3, 60))
    assert (phi_distance(network, a, little) < phi_distance(network, a, much)).all()
    assert phi_distance(network, a[:0], a[:0]).shape == (0,)


def test_what_cannot_be_compared_is_refused(network: PerceptualNetwork) -> None:
    for x, y in [(pictures(2), pictures(3)), (pictures(2) / 255, pictures(2)), (pictures(2), pictures(2, 32))]:
        with pytest.raises(BadInput, match="uint8"):
            phi_distance(network, x, y)


def test_networks_that_are_not_there(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UsageError, match="known: squeezenet"):
        load_phi("vgg")
    for name in IMAGE_FILES:
        with pytest.raises(MissingWeights, match=f"give .* as {name}=FILE"):
            load_phi(name)
        with pytest.raises(MissingWeights, match="none: no such file; give"):
            load_phi(name, tmp_path / "none")
    with pytest.raises(BadInput, match="not these weights"):
        load_phi("squeezenet", tiny)


def test_the_shared_squeezenet_tells_faces_apart(shared: Path) -> None:
    network = load_phi("squeezenet", shared / "weights" / "squeezenet1_1_caffe.safetensors")
    smooth = np.full((1, 128, 128, 3), 128, np.uint8)
    smooth[:, 40:90, 40:90] = 200
    noisy = np.clip(smooth + np.random.default_rng(0).normal(0, 40, smooth.shape), 0, 255).astype(np.uint8)
    brighter = np.clip(smooth.astype(int) + 10, 0, 255).astype(np.uint8)
    assert phi_distance(network, brighter, smooth)[0] < 0.2 * phi_distance(network, noisy, smooth)[0]
