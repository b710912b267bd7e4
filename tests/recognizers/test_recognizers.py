"""Recognizers: against dlib itself, their gradients, their crops, and what is refused as weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from facedecode.errors import BadInput, MissingWeights, UsageError
from facedecode.identity import RecognizerId
from facedecode.pictures import align
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.pictures.images import load_image
from facedecode.recognizers import REGISTRY, find_weights, load_recognizer, registry
from facedecode.recognizers.networks import BUILDERS
from facedecode.recognizers.recognizer import Recognizer


@pytest.fixture(scope="module")
def dlib_resnet() -> Recognizer:
    return load_recognizer()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """The astronaut, (P, P, 3) uint8 in the portrait frame at 128 px."""
    image, face = astronaut()
    return align.crop(image, face, align.portrait_crop(128))


def astronaut() -> tuple[np.ndarray, align.Face]:
    image = pytest.importorskip("skimage.data").astronaut()
    return image, choose_face(FaceDetector().detect([image])[0], *image.shape[1::-1])


def dlib_descriptors(chips: np.ndarray) -> np.ndarray:
    dlib = pytest.importorskip("dlib")
    model = dlib.face_recognition_model_v1(str(find_weights(REGISTRY["dlib-resnet"])))
    return np.array([model.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips])


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.atleast_1d(pictures)).permute(0, 3, 1, 2).float() / 255


# ---------------------------------------------------------------- dlib


def test_every_recognizer_has_a_builder() -> None:
    assert {spec.architecture for spec in REGISTRY.values()} | set(registry.TRAINED_LAYERS) == set(BUILDERS)


def test_random_chips_equal_dlib(dlib_resnet: Recognizer) -> None:
    chips = np.random.default_rng(0).integers(0, 256, (6, 150, 150, 3), np.uint8)
    chips[4], chips[5] = 0, 255
    np.testing.assert_allclose(dlib_resnet.embed_crops(chips), dlib_descriptors(chips), atol=1e-5)


@pytest.mark.lfw
def test_lfw_chips_equal_dlib(dlib_resnet: Recognizer, lfw: Path, detector: FaceDetector) -> None:
    images = [load_image(path) for path in sorted((lfw / "images").glob("*/*_0001.jpg"))[::100]]
    chips = []
    for image, faces in zip(images, detector.detect(images), strict=True):
        if face := choose_face(faces, *image.shape[1::-1]):
            chips.append(dlib_resnet.crop(image, face))
    assert len(chips) >= 50
    found = dlib_resnet.embed_crops(np.stack(chips))
    assert np.abs(found - dlib_descriptors(np.stack(chips))).max() < 1e-5


def test_the_pooled_template_is_what_the_last_layer_takes(dlib_resnet: Recognizer) -> None:
    chips = np.random.default_rng(2).integers(0, 256, (3, 150, 150, 3), np.uint8)
    recognizer = load_recognizer("dlib-resnet-pooled")
    pooled = recognizer.embed_crops(chips)
    assert pooled.shape == (3, recognizer.spec.dim) == (3, 256)
    made = pooled @ dlib_resnet.net.fc.weight.numpy().T
    np.testing.assert_allclose(made, dlib_resnet.embed_crops(chips), atol=1e-6)
    described = recognizer.describe()
    assert replace(described, name="dlib-resnet", dim=128) == dlib_resnet.describe()
    assert recognizer.spec.feature_layers == dlib_resnet.spec.feature_layers


def test_a_template_does_not_depend_on_its_batch(dlib_resnet: Recognizer) -> None:
    chips = np.random.default_rng(1).integers(0, 256, (5, 150, 150, 3), np.uint8)
    alone = np.concatenate([dlib_resnet.embed_crops(chip[None]) for chip in chips])
    np.testing.assert_allclose(dlib_resnet.embed_crops(chips), alone, atol=1e-6)


def test_gradients_flow_to_the_pixels(dlib_resnet: Recognizer, portrait: np.ndarray) -> None:
    recognizer = load_recognizer()
    recognizer.net.double()
    recognizer.net.requires_grad_(False)
    recognizer._mean = recognizer._mean.double()
    pixels = as_tensor(portrait[None]).double().requires_grad_()
    goal = torch.randn(128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(x: torch.Tensor) -> torch.Tensor:
        crops = recognizer.crop_portraits(x)
        return (recognizer.net((crops * 255 - recognizer._mean) / recognizer.spec.scale) @ goal).sum()

    value(pixels).backward()
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        slope = (value(pixels + step * direction) - value(pixels - step * direction)) / (2 * step)
    assert (pixels.grad * direction).sum().item() == pytest.approx(slope.item(), rel=1e-3)
    # The public way down, in float32, agrees.
    single = as_tensor(portrait[None]).requires_grad_()
    (dlib_resnet.embed_portraits(single) @ goal.float()).sum().backward()
    cosine = torch.nn.functional.cosine_similarity(single.grad.double().flatten(), pixels.grad.flatten(), 0)
    assert cosine > 0.999  # not entry by entry: float32 decides some ties of the max-pooling the other way


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize("size", [64, 128, 224])
def test_the_crop_of_a_portrait_is_the_crop_of_the_face(dlib_resnet: Recognizer, size: int) -> None:
    image, face = astronaut()
    direct = dlib_resnet.crop(image, face)
    drawn = align.crop(image, face, align.portrait_crop(size))
    again = dlib_resnet.crop_portraits(as_tensor(drawn[None]))
    truth = as_tensor(direct[None])
    assert again.shape == (1, 3, 150, 150)
    inner = (..., slice(10, 140), slice(10, 140))
    assert (again - truth)[inner].abs().mean() < {64: 0.03, 128: 0.015, 224: 0.015}[size]
    distance = (dlib_resnet.embed(again) - dlib_resnet.embed(truth)).norm()
    assert distance < {64: 0.3, 128: 0.15, 224: 0.1}[size]  # 0.6 is another person


def test_identity_jitter_changes_nothing(dlib_resnet: Recognizer, portrait: np.ndarray) -> None:
    pictures = as_tensor(np.stack([portrait, portrait[:, ::-1]]))
    identity = torch.eye(3)[:2].expand(2, 2, 3)
    plain = dlib_resnet.crop_portraits(pictures)
    torch.testing.assert_close(dlib_resnet.crop_portraits(pictures, identity), plain, rtol=0, atol=1e-5)
    moved = identity.clone()
    moved[:, 0, 2] = 0.2  # a tenth of the crop
    assert (dlib_resnet.crop_portraits(pictures, moved) - plain).abs().mean() > 0.01


def test_jitter_moves_by_crop_widths(dlib_resnet: Recognizer) -> None:
    ramp = np.linspace(0, 1, 224, dtype=np.float32)
    pictures = torch.from_numpy(np.broadcast_to(ramp, (1, 3, 224, 224)).copy())
    shift = torch.tensor([[[1.0, 0, 0.2], [0, 1, 0]]])  # 0.2 of 2 units: the crop moves by 15 of its 150 px
    plain, moved = dlib_resnet.crop_portraits(pictures), dlib_resnet.crop_portraits(pictures, shift)
    torch.testing.assert_close(moved[..., 20:100], plain[..., 35:115], rtol=0, atol=1e-3)


def test_crops_of_another_size_are_refused(dlib_resnet: Recognizer) -> None:
    with pytest.raises(BadInput, match=r"takes crops \(n, 3, 150, 150\), not \(1, 3, 149, 150\)"):
        dlib_resnet.embed(torch.zeros(1, 3, 149, 150))


# ---------------------------------------------------------------- registry and weights


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'vgg17'.*dlib-resnet.*edgeface-xxs"):
        load_recognizer("vgg17")


def test_missing_weights_say_where_they_were_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingWeights, match=r"nowhere\.dat: no such weights file for dlib-resnet; install"):
        load_recognizer("dlib-resnet", tmp_path / "nowhere.dat")
    with pytest.raises(MissingWeights, match=r"edgeface-xxs.*no package; pass .*--weights"):
        load_recognizer("edgeface-xxs")
    monkeypatch.setattr("facedecode.recognizers.spec.find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match=r"looked in package face_recognition_models \(not installed\); install"):
        load_recognizer()


def test_missing_timm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    (tmp_path / "w.safetensors").write_bytes(b"any")
    with pytest.raises(MissingWeights, match=r"pip install 'facedecode\[edgeface\]'"):
        load_recognizer("edgeface-xxs", tmp_path / "w.safetensors")


def test_dlib_weights_that_are_not(tmp_path: Path) -> None:
    real = find_weights(REGISTRY["dlib-resnet"]).read_bytes()
    for name, data in {
        "truncated": real[:-1000],
        "half": real[: len(real) // 2],
        "empty": b"",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 22466066\n",
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "noise": np.random.default_rng(0).bytes(100_000),
    }.items():
        path = tmp_path / f"{name}.dat"
        path.write_bytes(data)
        with pytest.raises(BadInput, match=rf"{name}\.dat: "):
            load_recognizer("dlib-resnet", path)


def test_the_description_is_stable_json(dlib_resnet: Recognizer) -> None:
    described = dlib_resnet.describe()
    assert RecognizerId.from_json("it", json.loads(json.dumps(described.as_json(), allow_nan=False))) == described
    assert {"license", "crop", "input_size", "channel_order", "normalization"} <= set(described.as_json())
    assert (described.name, described.score, described.dim) == ("dlib-resnet", "negative-euclidean", 128)
    assert len(described.weights_sha256) == 64


@pytest.fixture
def edgeface(shared: Path) -> Path:
    pytest.importorskip("timm")
    path = shared / "weights" / "edgeface_xxs.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not there")
    return path


def test_edgeface_takes_all_keys(edgeface: Path) -> None:
    recognizer = load_recognizer("edgeface-xxs", edgeface)
    assert recognizer.net.state_dict().keys() == load_file(edgeface).keys()
    image, face = astronaut()
    turned = recognizer.crop(image, face)[:, ::-1]
    crops = np.stack([recognizer.crop(image, face), turned, np.roll(turned, 40, 0)])
    templates = recognizer.embed_crops(crops)
    unit = templates / np.linalg.norm(templates, axis=1, keepdims=True)
    assert templates.shape == (3, 512) and np.isfinite(templates).all()
    assert unit[0] @ unit[1] > 0.7 > unit[0] @ unit[2]  # a face in the mirror stays who it is


def test_edgeface_weights_that_are_not(edgeface: Path, tmp_path: Path) -> None:
    tensors = load_file(edgeface)
    first = sorted(tensors)[0]
    lacking = {k: v for k, v in tensors.items() if k != first}
    wrong = {
        "lacking": (lacking, rf"1 missing \({first}\)"),
        "extra": (tensors | {"zzz": torch.zeros(1)}, r"1 unexpected \(zzz\)"),
        "renamed": (lacking | {f"model.{first}": tensors[first]}, "1 missing .*1 unexpected"),
        "shape": (tensors | {first: tensors[first].flatten()[:-1].clone()}, rf"1 of another shape or type \({first}: "),
    }
    for name, (content, reason) in wrong.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(BadInput, match=rf"{name}\.safetensors: not these weights: tensors {reason}"):
            load_recognizer("edgeface-xxs", tmp_path / f"{name}.safetensors")
    for name, data in {
        "not a readable safetensors": edgeface.read_bytes()[:-1000],
        "is empty": b"",
        "is a git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4994248\n",
        "is a web page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    }.items():
        path = tmp_path / "other.safetensors"
        path.write_bytes(data)
        with pytest.raises(BadInput, match=rf"other\.safetensors: {name}"):
            load_recognizer("edgeface-xxs", path)


def test_a_pinned_hash_is_checked(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    monkeypatch.setitem(REGISTRY, "tiny", dataclasses.replace(REGISTRY["tiny"], sha256="0" * 64))
    with pytest.raises(BadInput, match=r"tiny\.safetensors: not the known weights of tiny \(sha256 [0-9a-f]{12}…"):
        load_recognizer("tiny", tiny)


def test_bf16_stays_near(tiny: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    full, low = (load_recognizer("tiny", tiny, precision=p).embed_crops(crops) for p in ("fp32", "bf16"))
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, full, atol=0.05)
    assert not np.array_equal(low, full)
