"""Contracts that many recognizers of others follow, by name: what `--spec NAME` says of a model's input.

A preset is what a JSON file would hold, see `contract.Contract`. Sources, all read in 2026:

arcface: `ArcFaceONNX` of insightface's package, which gives its models RGB, less 127.5, over 127.5; its `face_align`
    has the five points. `arcface_torch` trains with the same numbers.
adaface: `to_input` in AdaFace's inference.py: the same in BGR.
sface: OpenCV's face_recognize.cpp (`FaceRecognizerSF`): the same points, and RGB as it is; the network scales. So do
    the older models of insightface that came from MXNet, as `ArcFaceONNX` finds by their first nodes.
facenet: the registered `facenet-casia-webface`.
openvino-retail-0095: Open Model Zoo's page of face-reidentification-retail-0095: BGR as it is, and the five points in
    shares of the side.
"""

from __future__ import annotations

from typing import Any

from facedecode.pictures.align import BoxCrop
from facedecode.recognizers.spec import REGISTRY

_FACENET = REGISTRY["facenet-casia-webface"]
assert isinstance(_FACENET.crop, BoxCrop)
_ARCFACE: dict[str, Any] = {"size": 112, "crop": "arcface", "channels": "RGB", "mean": 127.5, "scale": 127.5}

PRESETS: dict[str, dict[str, Any]] = {
    "arcface": {**_ARCFACE, "license": "your file's; insightface's own models: non-commercial research"},
    "adaface": {**_ARCFACE, "channels": "BGR", "license": "your file's; the data that it was trained on: research"},
    "sface": {**_ARCFACE, "mean": 0, "scale": 1, "license": "your file's; OpenCV's model: Apache-2.0"},
    "facenet": {
        "size": _FACENET.crop.size,
        "crop": "box",
        "box_factor": _FACENET.crop.factor,
        "box_side": _FACENET.crop.side,
        "channels": _FACENET.channel_order,
        "mean": _FACENET.mean[0],
        "scale": _FACENET.scale,
        "license": "your file's; trained on VGGFace2 or CASIA-WebFace: research use",
    },
    "openvino-retail-0095": {
        "name": "openvino-retail-0095",  # the contract of this one network
        "size": 128,
        "crop": "points",
        "points": [
            [0.31556875, 0.46157411],
            [0.68262292, 0.46157411],
            [0.5002625, 0.64050536],
            [0.34947188, 0.82469196],
            [0.65343646, 0.82469196],
        ],
        "channels": "BGR",
        "mean": 0,
        "scale": 1,
        "license": "Apache-2.0 (Open Model Zoo)",
    },
}
OTHER_NAMES = {"insightface": "arcface"}
PRESET_NAMES = ("arcface", *OTHER_NAMES, *(name for name in PRESETS if name != "arcface"))
