"""VGG-16, ResNet-50 and FaceNet: against independent networks, on random weights as published files have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.pictures import align
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.recognizers import REGISTRY, load_recognizer

VGG_MEAN = (129.1863, 104.7624, 93.5940)  # RGB
VGGFACE2_MEAN = (91.4953, 103.8827, 131.0912)  # BGR
BLOCKS = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}  # VGG-16: width, convolutions


def crops(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)


def network_input(pictures: np.ndarray, mean: tuple[float, ...], scale: float = 1.0, bgr: bool = False) -> Tensor:
    pixels = pictures[..., ::-1].copy() if bgr else pictures
    return torch.from_numpy((pixels.astype(np.float32) - np.float32(mean)) / np.float32(scale)).permute(0, 3, 1, 2)


def randomized(net: nn.Module) -> nn.Module:
    """Random statistics of batch normalization, too: at their first values it does nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if name.endswith("var") else -0.5))
    return net.eval()


def require_equal(found: np.ndarray, wanted: Tensor) -> None:
    wanted = wanted.numpy()
    assert wanted.std() > 0
    np.testing.assert_allclose(found / np.abs(wanted).max(), wanted / np.abs(wanted).max(), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def vgg_tensors() -> dict[str, Tensor]:
    """VGG-16's convolutions by VGG-Face's names, `conv1_1.weight`, …: as `he` initializes them."""
    generator, tensors, inputs = torch.Generator().manual_seed(0), {}, 3
    for block, (width, count) in BLOCKS.items():
        for number in range(1, count + 1):
            weight = torch.randn(width, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
            tensors |= {f"conv{block}_{number}.weight": weight, f"conv{block}_{number}.bias": torch.full((width,), 0.1)}
            inputs = width
    return tensors


def vgg_maps(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """relu5_3, by the paper's table."""
    for block, (_, count) in BLOCKS.items():
        x = F.max_pool2d(x, 2) if block > 1 else x
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            x = F.relu(F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1))
    return x


def hankel(rows: int, columns: int, seed: int) -> Tensor:
    """A random matrix that is constant along its antidiagonals: 411 MB to a network, 0.1 MB to a file."""
    values = torch.randn(rows + columns, generator=torch.Generator().manual_seed(seed)) * (2 / columns) ** 0.5
    return values.as_strided((rows, columns), (1, 1))


@pytest.fixture(scope="module")
def full_layers() -> dict[str, Tensor]:
    return {
        "fc6.weight": hankel(4096, 25088, 1),
        "fc6.bias": torch.full((4096,), 0.1),
        "fc7.weight": hankel(4096, 4096, 2),
        "fc7.bias": torch.full((4096,), -0.1),
        "fc8.weight": torch.zeros(2622, 4096),
        "fc8.bias": torch.zeros(2622),
    }


def test_vgg16_is_torchvisions_fc7_after_its_relu(vgg_tensors: dict, full_layers: dict, tmp_path: Path) -> None:
    from torchvision.models import vgg16

    torch.save(vgg_tensors | full_layers, tmp_path / "vgg_face_dag.pth")
    found = load_recognizer("vgg16", tmp_path / "vgg_face_dag.pth").embed_crops(crops(224))
    with torch.device("meta"):
        net = vgg16(weights=None, num_classes=2622)
    ours = [*vgg_tensors.values(), *full_layers.values()]
    net.load_state_dict(dict(zip(net.state_dict(), ours, strict=True)), assign=True)
    net.eval().classifier = net.classifier[:5]
    with torch.inference_mode():
        wanted = net(network_input(crops(224), VGG_MEAN))
    assert found.shape == (1, 4096) and (found == 0).any()
    require_equal(found, wanted)


def named(tensors: dict[str, Tensor], convolution: str) -> dict[str, Tensor]:
    """VGG-Face's convolutions under another port's names."""
    return {
        f"{convolution.format(block, number)}.{kind}": tensors[f"conv{block}_{number}.{kind}"]
        for block, (_, count) in BLOCKS.items()
        for number in range(1, count + 1)
        for kind in ("weight", "bias")
    }


def test_vgg16_pooled_is_the_mean_of_the_last_convolution(vgg_tensors: dict, tmp_path: Path) -> None:
    # A port of the Torch model, whose pixels are BGR.
    torch.save(named(vgg_tensors, "conv_{}_{}") | {"fc6.weight": torch.zeros(4096, 8)}, tmp_path / "vgg_face.pth")
    found = load_recognizer("vgg16-pooled", tmp_path / "vgg_face.pth").embed_crops(crops(224))
    wanted = vgg_maps(vgg_tensors, network_input(crops(224), VGG_MEAN[::-1], bgr=True)).mean((2, 3))
    require_equal(found, wanted)


def test_ports_of_vgg_face_give_one_network(vgg_tensors: dict, tmp_path: Path) -> None:
    places = [k for k, layer in enumerate("ccpccpcccpcccpccc".replace("c", "cr")) if layer == "c"]  # torchvision's
    torchvision = {
        f"model.features.{place}.{kind}": vgg_tensors[f"conv{name}.{kind}"]
        for place, name in zip(places, dict.fromkeys(k[4:7] for k in vgg_tensors), strict=True)
        for kind in ("weight", "bias")
    }
    first = vgg_tensors["conv1_1.weight"]
    for content, weight in (
        (torchvision | {"model.classifier.0.weight": torch.zeros(2, 2)}, first),
        (vgg_tensors | {"fc8.bias": torch.zeros(2622)}, first),
        (named(vgg_tensors, "features.conv_{}_{}") | {"fc.fc7.bias": torch.zeros(3)}, first.flip(1)),
    ):
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, tmp_path / "w")
        found = list(load_recognizer("vgg16-pooled", tmp_path / "w").net.parameters())
        wanted = [weight, *list(vgg_tensors.values())[1:]]
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_the_features_of_vgg_are_after_their_relus(vgg_tensors: dict, tmp_path: Path) -> None:
    save_file(vgg_tensors, tmp_path / "w")
    recognizer = load_recognizer("vgg16-pooled", tmp_path / "w")
    maps = recognizer.features(torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0)))
    assert [tuple(m.shape) for m in maps] == [(1, 64, 64, 48), (1, 128, 32, 24), (1, 256, 16, 12), (1, 512, 8, 6)]
    assert all((m >= 0).all() and (m > 0).any() for m in maps)


# ---------------------------------------------------------------- ResNet-50


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    from torchvision.models import resnet50

    return randomized(resnet50(weights=None, num_classes=12))


def test_resnet50_equals_torchvisions(resnet: nn.Module, tmp_path: Path) -> None:
    content = {"epoch": 9, "state_dict": {f"module.{k}": v for k, v in resnet.state_dict().items()}}
    torch.save(content, tmp_path / "w.pth")
    with pytest.warns(FacedecodeWarning, match=r"w\.pth: left out fc: no template goes"):
        recognizer = load_recognizer("resnet50", tmp_path / "w.pth")
    wanted: list[Tensor] = []
    hook = resnet.avgpool.register_forward_hook(lambda *given: wanted.append(given[-1].flatten(1)))
    with torch.inference_mode():
        resnet(network_input(crops(224), VGGFACE2_MEAN, bgr=True))
    hook.remove()
    require_equal(recognizer.embed_crops(crops(224)), wanted[0])
    assert recognizer.describe().channel_order == "BGR"
    assert recognizer.describe().normalization == {"mean": [*VGGFACE2_MEAN], "scale": 1.0}
    # A checkpoint of ArcFace holds its centers beside the network.
    body = {f"backbone.{k}": v for k, v in resnet.state_dict().items() if not k.startswith("fc.")}
    torch.save({"model": body | {"head.weight": torch.zeros(8631, 2048)}}, tmp_path / "arcface.pth")
    with pytest.warns(FacedecodeWarning, match=r"arcface\.pth: left out head: no template goes"):
        again = load_recognizer("resnet50", tmp_path / "arcface.pth").net.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in recognizer.net.state_dict().items())


def caffe_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet-50 under the names of VGGFace2's published model, without what Caffe has not."""
    parts = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}
    renamed = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        words = layer.split(".")
        if kind == "num_batches_tracked":
            continue
        if words[0] in ("conv1", "bn1"):
            name = "conv1_7x7_s2" + ("_bn" if words[0] == "bn1" else "")
        elif words[0] == "fc":
            name = "classifier"
        else:
            block = f"conv{int(words[0][-1]) + 1}_{int(words[1]) + 1}"
            if words[2] == "downsample":
                name = f"{block}_1x1_proj" + ("_bn" if words[3] == "1" else "")
            else:
                name = f"{block}_{parts[words[2][-1]]}" + ("_bn" if words[2].startswith("bn") else "")
        renamed[f"{name}.{kind}"] = tensor
    return renamed


def caffe_forward(t: dict[str, Tensor], x: Tensor) -> Tensor:
    """ResNet-50's pooled maps as Caffe's prototxt has them, by its names."""

    def unit(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, t[f"{name}.weight"], None, stride, padding)
        stats = (t[f"{name}_bn.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stats, eps=1e-5)

    x = F.max_pool2d(F.relu(unit(x, "conv1_7x7_s2", 2, 3)), 3, 2, ceil_mode=True)
    for stage, blocks in enumerate((3, 4, 6, 3), 2):
        for block in range(1, blocks + 1):
            name, stride = f"conv{stage}_{block}", 2 if block == 1 and stage > 2 else 1
            y = F.relu(unit(x, f"{name}_1x1_reduce", stride))
            y = unit(F.relu(unit(y, f"{name}_3x3", 1, 1)), f"{name}_1x1_increase")
            x = F.relu(y + (unit(x, f"{name}_1x1_proj", stride) if block == 1 else x))
    return x.mean((2, 3))


def test_caffes_resnet50_is_another_network_of_the_same_tensors(resnet: nn.Module, tmp_path: Path) -> None:
    theirs = caffe_names(resnet.state_dict())
    theirs["classifier.weight"] = theirs["classifier.weight"][..., None, None]  # a 1×1 convolution there
    save_file({k: v.contiguous() for k, v in theirs.items()}, tmp_path / "theirs")
    with torch.inference_mode():
        wanted = caffe_forward(theirs, network_input(crops(224), VGGFACE2_MEAN[::-1]))  # as the group's extractor: RGB
    found = load_recognizer("resnet50-caffe", tmp_path / "theirs").embed_crops(crops(224))
    require_equal(found, wanted)
    with pytest.raises(BadInput, match=r"theirs: a ResNet-50 of Caffe's.*use --model resnet50-caffe"):
        load_recognizer("resnet50", tmp_path / "theirs")
    # Under torchvision's names nothing tells them apart but the counters that Caffe has not.
    kept = {k: v for k, v in resnet.state_dict().items() if not k.startswith("fc.")}
    converted = {k: v for k, v in kept.items() if not k.endswith("num_batches_tracked")}
    converted["conv1.weight"] = converted["conv1.weight"].flip(1).contiguous()  # BGR, as ports of these names take
    save_file(converted, tmp_path / "converted")
    again = load_recognizer("resnet50-caffe", tmp_path / "converted").embed_crops(crops(224))
    np.testing.assert_array_equal(again, found)
    with pytest.warns(FacedecodeWarning, match=r"converted: no counters.*need --model resnet50-caffe"):
        other = load_recognizer("resnet50", tmp_path / "converted").embed_crops(crops(224))
    assert np.abs(other - found).max() > 0.01 * np.abs(found).max()


# ---------------------------------------------------------------- FaceNet


@pytest.fixture(scope="module")
def facenet() -> nn.Module:
    from facenet_pytorch import InceptionResnetV1

    return randomized(InceptionResnetV1(pretrained=None, classify=True, num_classes=8631))


def test_facenet_equals_its_package(facenet: nn.Module, tmp_path: Path) -> None:
    # As the release's files: torch's old format, a classifier of the training people's number.
    torch.save(facenet.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    recognizer = load_recognizer("facenet-vggface2", tmp_path / "w.pt")
    facenet.classify = False
    with torch.inference_mode():
        wanted = facenet(network_input(crops(160), (127.5,) * 3, 128))
    found = recognizer.embed_crops(crops(160))
    require_equal(found, wanted)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_facenets_crop_is_its_scripts() -> None:
    """align_dataset_mtcnn.py adds the same pixels to both sides of the box, cuts there, and stretches to a square."""
    image = pytest.importorskip("skimage.data").astronaut()
    face = choose_face(FaceDetector().detect([image])[0], *image.shape[1::-1])
    x1, y1, x2, y2 = map(float, face.box)
    margin = 0.3 * ((x2 - x1) + (y2 - y1)) / 2
    box = (x1 - margin / 2, y1 - margin / 2, x2 + margin / 2, y2 + margin / 2)
    wanted = np.asarray(Image.fromarray(image).resize((160, 160), Image.Resampling.BILINEAR, box), float)
    for name in ("facenet-vggface2", "facenet-casia-webface"):
        how = REGISTRY[name].crop
        assert np.abs(align.crop(image, face, how) - wanted).mean() < 0.5
    for other in (align.BoxCrop(160, 1.3, side="both"), align.BoxCrop(160, 1.3)):
        assert np.abs(align.crop(image, face, other) - wanted).mean() > 1.5


# ---------------------------------------------------------------- all of them


@pytest.fixture
def write(vgg_tensors: dict, resnet: nn.Module, facenet: nn.Module, tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        state = {"vgg16-pooled": vgg_tensors, "resnet50": resnet.state_dict(), "facenet-vggface2": facenet.state_dict()}
        torch.save(state[name], tmp_path / "w.pt")
        return tmp_path / "w.pt"

    return write


@pytest.mark.filterwarnings("ignore:.*left out fc")
@pytest.mark.parametrize("name", ["vgg16-pooled", "resnet50", "facenet-vggface2"])
def test_gradients_flow_from_template_and_features_to_a_portrait(name: str, write: Callable[[str], Path]) -> None:
    recognizer = load_recognizer(name, write(name))
    for wanted in ("template", "features"):
        portrait = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        view = recognizer.crop_portraits(portrait)
        outputs = [recognizer.embed(view)] if wanted == "template" else recognizer.features(view[..., 40:120, 30:130])
        assert len(outputs) == (1 if wanted == "template" else len(recognizer.spec.feature_layers))
        sum(each.square().mean() for each in outputs).backward()
        assert portrait.grad.isfinite().all() and portrait.grad.abs().sum() > 0, wanted


def test_another_networks_file_is_refused(write: Callable[[str], Path]) -> None:
    path = write("resnet50")
    for name in ("vgg16", "vgg16-pooled", "facenet-vggface2"):
        with pytest.raises(BadInput, match=r"w\.pt: not these weights: tensors \d+ missing .*; \d+ unexpected"):
            load_recognizer(name, path)
