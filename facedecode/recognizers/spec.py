"""What is known of each recognizer before any of its weights are read. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from facedecode.align import ARCFACE_POINTS, DLIB_POINTS, DLIB_WEIGHTS, Crop, PointCrop
from facedecode.errors import MissingWeights, UsageError

DEFAULT_RECOGNIZER = "dlib-resnet"
Score = Literal["cosine", "negative-euclidean"]


@dataclass(frozen=True)
class RecognizerSpec:
    """A recognizer's contract: RGB crops in [0, 1] in, templates out, compared by `score`.

    Attributes:
        name: the registered name.
        dim: length of a template.
        crop: how a face is cut out of an image, and the crop's size in pixels.
        mean, scale: the network's input is `(255 · rgb − mean) / scale`, channel by channel.
        score: `cosine` of L2-normalized templates, or `negative-euclidean` distance of raw ones. Higher is more
            alike.
        license: of the weights.
        architecture: the function in `networks` that builds the network from the weights file.
        package, package_file: a package that carries the weights, and the file's path in it.
        obtain: how a user gets the weights, one sentence.
        feature_layers: names of the network's modules whose outputs serve as perceptual features φ.
        sha256: of the weights file, where it is known; None means unpinned (the hash is recorded in every output).
        recommended_threshold: of the score, above which its authors call two faces one person's; None where they say
            nothing.
    """

    name: str
    dim: int
    crop: Crop
    mean: tuple[float, float, float]
    scale: float
    score: Score
    license: str
    architecture: str
    obtain: str
    package: str | None = None
    package_file: str = ""
    feature_layers: tuple[str, ...] = ()
    sha256: str | None = None
    recommended_threshold: float | None = None


_DLIB_RESNET = RecognizerSpec(
    name="dlib-resnet",
    dim=128,
    crop=PointCrop(150, DLIB_POINTS, DLIB_WEIGHTS, residuals="image"),
    mean=(122.782, 117.001, 104.298),
    scale=256.0,
    score="negative-euclidean",
    license="public domain (models), MIT (package)",
    architecture="dlib_resnet",
    package="face_recognition_models",
    package_file="models/dlib_face_recognition_resnet_model_v1.dat",
    feature_layers=("blocks.2", "blocks.6", "blocks.9"),
    obtain="install the PyPI package face-recognition-models, or pass the .dat file with --weights",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    # "If the distance is less than 0.6": dlib's dnn_face_recognition_ex.cpp and face_recognition.py.
    recommended_threshold=-0.6,
)

REGISTRY: dict[str, RecognizerSpec] = {
    spec.name: spec
    for spec in [
        _DLIB_RESNET,
        # Nobody publishes a score for these: the distance is the one that dlib takes of what the next layer makes of
        # them.
        replace(
            _DLIB_RESNET,
            name="dlib-resnet-pooled",
            dim=256,
            architecture="dlib_resnet_pooled",
            recommended_threshold=None,
        ),
        RecognizerSpec(
            name="edgeface-xxs",
            dim=512,
            crop=PointCrop(112, ARCFACE_POINTS),
            mean=(127.5, 127.5, 127.5),
            scale=127.5,
            score="cosine",
            license="BSD-3 (repository); treat the weights as research use",
            architecture="edgeface_xxs",
            feature_layers=("stages.0", "stages.1", "stages.2"),
            obtain="pass edgeface_xxs as a safetensors file of timm's edgenext_xx_small (512 outputs) with --weights",
        ),
    ]
}


def find_spec_by_name(name: str) -> RecognizerSpec:
    """The spec registered under `name`.

    Raises:
        UsageError: no recognizer has that name; the known names are listed.
        MissingWeights: the name is that of protected templates, which no recognizer makes of pictures.
    """
    if "@" in name:
        raise MissingWeights(
            f"{name}: templates protected by 'transform', and no recognizer makes those of pictures; a network learns "
            "from them by --identity-weight 0 --perceptual-weight 0 --no-mirror"
        )
    if name not in REGISTRY:
        raise UsageError(f"no recognizer is called {name!r}; known: {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]


def find_weights(spec: RecognizerSpec, weights: Path | str | None = None) -> Path:
    """The weights file of a recognizer: `weights` if given, else the file in the package that carries it.

    Raises:
        MissingWeights: it is not there; the message says where it was looked for and how to get it.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise MissingWeights(f"{path}: no such weights file for {spec.name}; {spec.obtain}")
        return path
    if spec.package is None:
        raise MissingWeights(f"{spec.name}: its weights come with no package; {spec.obtain}")
    # The package is located, never imported: importing it needs pkg_resources.
    found = find_spec(spec.package)
    folders = list(found.submodule_search_locations or []) if found else []
    for folder in folders:
        path = Path(folder) / spec.package_file
        if path.is_file():
            return path
    looked = ", ".join(str(Path(f) / spec.package_file) for f in folders) or f"package {spec.package} (not installed)"
    raise MissingWeights(f"{spec.name}: no weights; looked in {looked}; {spec.obtain}")
