"""Fixtures that several test files use."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from safetensors.torch import save_file
from torch import nn

from facedecode.perceptual.imagenet import values_sha256
from facedecode.perceptual.lpips import TRUNKS
from facedecode.perceptual.phi import IMAGE_NETWORKS
from facedecode.pictures import align
from facedecode.pictures.faces import FaceDetector
from facedecode.recognizers import REGISTRY, RecognizerSpec, load_recognizer, networks
from facedecode.recognizers.cache import use_cache
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.weights_file import load_into
from facedecode.store import StoreWriter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository, with data and weights that are too large for it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def lfw(shared: Path) -> Path:
    """LFW: `images/`, `protocol/`, `faces.csv`."""
    if not (shared / "data" / "lfw" / "images").is_dir():
        pytest.skip(f"needs the LFW images in {shared / 'data' / 'lfw'}, which are not there")
    return shared / "data" / "lfw"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of `examples/` by its name, as Python does that runs a script there."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return __import__


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes random weights of a network of torchvision's, which pass for the published ones in this test.

    Of the whole network's `features`, as safetensors. Called with the network's builder and the file.
    """
    from torchvision import models

    def write(builder: str, path: Path) -> Path:
        with torch.device("meta"):
            net = getattr(models, builder)(weights=None).features
        net.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(3)
        for parameter in net.parameters():
            size = parameter[0].numel() ** -0.5  # keeps activations in the range of the input's
            parameter.data.normal_(0, size, generator=generator)
        state = {f"features.{name}": tensor for name, tensor in net.state_dict().items()}
        save_file(state, path)
        known = {"sha256": values_sha256(state), "verified": len(net) - 1}
        for name, weights in TRUNKS.items():
            if weights.builder == builder:
                monkeypatch.setitem(TRUNKS, name, dataclasses.replace(weights, **known))
        for name, image in IMAGE_NETWORKS.items():
            if image.weights.builder == builder:
                weights = dataclasses.replace(image.weights, **known)
                monkeypatch.setitem(IMAGE_NETWORKS, name, dataclasses.replace(image, weights=weights))
        return path

    return write


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small photographs of one face, as `photos/PERSON/PERSON_0001.png` of two made-up people."""
    astronaut = Image.fromarray(pytest.importorskip("skimage.data").astronaut()).crop((120, 0, 330, 220))
    folder = tmp_path_factory.mktemp("photos")
    for person, face in (("Eileen", astronaut), ("Mirror", ImageOps.mirror(astronaut))):
        (folder / person).mkdir()
        face.save(folder / person / f"{person}_0001.png")
        face.rotate(8, Image.Resampling.BILINEAR).save(folder / person / f"{person}_0002.png")
        ImageEnhance.Brightness(face).enhance(0.6).save(folder / person / f"{person}_0003.png")
    return folder


@pytest.fixture(scope="session")
def photo_store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `photos` by the default recognizer: look, do not touch."""
    from facedecode.extraction.run import extract
    from facedecode.pictures.faces import FaceDetector
    from facedecode.recognizers import load_recognizer

    folder = tmp_path_factory.mktemp("stores") / "emb"
    extract([photos], folder, load_recognizer(), FaceDetector())
    return folder


class TinyNet(nn.Module):
    """A recognizer's network that takes no time: crops of 32 px → 16 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4, 2)
        self.fc = nn.Linear(8 * 16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.functional.adaptive_avg_pool2d(self.conv(x).relu(), 4).flatten(1))


def tiny_specs() -> dict[str, RecognizerSpec]:
    """The recognizers `tiny` (Euclidean) and `tiny-cosine`."""
    points = tuple((x * 32 / 150, y * 32 / 150) for x, y in align.DLIB_POINTS)
    return {
        name: RecognizerSpec(
            name=name,
            dim=16,
            crop=align.PointCrop(32, points, align.DLIB_WEIGHTS, residuals="image"),
            mean=(128.0, 128.0, 128.0),
            scale=128.0,
            score=score,
            license="none",
            architecture="tiny",
            feature_layers=("conv",),
            obtain="run the tests",
        )
        for name, score in (("tiny", "negative-euclidean"), ("tiny-cosine", "cosine"))
    }


def load_tiny(path: Path, content: bytes) -> nn.Module:
    """Their architecture, for `networks.BUILDERS`."""
    return load_into(TinyNet(), path, content=content)


def save_tiny(path: Path) -> Path:
    """Writes their weights, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = TinyNet()
    save_file(net.state_dict(), path)
    return path


def register_tiny(patch: pytest.MonkeyPatch) -> None:
    """Registers the recognizers `tiny` and `tiny-cosine`, until the patch is undone."""
    for name, spec in tiny_specs().items():
        patch.setitem(REGISTRY, name, spec)
    patch.setitem(networks.BUILDERS, "tiny", load_tiny)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Registers the recognizers `tiny` and `tiny-cosine`; the path of their weights file."""
    register_tiny(monkeypatch)
    return save_tiny(tmp_path / "tiny.safetensors")


@pytest.fixture(autouse=True)
def weights_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own: none looks at the user's."""
    for name in ("FACEDECODE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with use_cache(tmp_path / "cache"):
        yield tmp_path / "cache"


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    """The face detector: it keeps no state between calls."""
    return FaceDetector()


@pytest.fixture
def recognizer(tiny: Path) -> Recognizer:
    """The recognizer `tiny`."""
    return load_recognizer("tiny", tiny)


@pytest.fixture
def make_store(tiny: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes the store `emb` of a tiny recognizer: 30 drawn 'faces' of 10 people, their images in `faces` beside it."""
    return lambda name: draw_people(tmp_path / "emb", tmp_path / "faces", name, tiny)


@pytest.fixture
def tiny_store(make_store: Callable[[str], Path]) -> Path:
    """The store of `tiny`."""
    return make_store("tiny")


def draw_people(folder: Path, images: Path, name: str, weights: Path, people: int = 10, each: int = 3) -> Path:
    """Smooth random pictures, one look a person, with landmarks where a portrait has them."""
    recognizer = load_recognizer(name, weights)
    face, rows = align.portrait_face(96), []
    drawn = drawn_pictures(people, each)
    for relative, _, file in drawn:
        path = images / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
        rows.append(
            {
                "path": relative,
                "identity": path.parent.name,
                "width": 96,
                "height": 96,
                "box": face.box,
                "landmarks": face.landmarks,
                "probability": 1.0,
                "sha256": hashlib.sha256(file).hexdigest(),
            }
        )
    key = (json.dumps(recognizer.describe().as_json(), sort_keys=True), people, each)
    if key not in TEMPLATES:
        crops = (recognizer.crop(picture, face) for _, picture, _ in drawn)
        TEMPLATES[key] = np.stack([recognizer.embed_crops(crop[None])[0] for crop in crops])
    manifest = {"score": recognizer.spec.score, "transform": None, "precision": "fp32", "l2_normalized": False}
    with StoreWriter(folder, {"made": "by hand"}, images, recognizer.describe(), manifest=manifest) as writer:
        writer.append(TEMPLATES[key].copy(), rows, [], len(rows))
        writer.finish()
    return folder


# Hundreds of tests draw the same people. By recognizer (with its weights), people, and images each:
TEMPLATES: dict[tuple[str, int, int], np.ndarray] = {}


@functools.cache
def drawn_pictures(people: int, each: int) -> list[tuple[str, np.ndarray, bytes]]:
    """Relative path, picture (96, 96, 3) and PNG file of each image that `draw_people` draws."""
    rng, drawn = np.random.default_rng(3), []
    for person in range(people):
        look = rng.uniform(0, 255, (6, 6, 3))
        for number in range(1, each + 1):
            noisy = np.clip(look + rng.normal(0, 12, look.shape), 0, 255).astype(np.uint8)
            picture = Image.fromarray(noisy).resize((96, 96), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            picture.save(file, "png")
            drawn.append((f"P{person}/P{person}_{number:04d}.png", np.asarray(picture), file.getvalue()))
    return drawn
