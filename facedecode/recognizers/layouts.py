"""How published checkpoints name the layers of the recognizers' networks. Data; free of torch."""

from __future__ import annotations

from dataclasses import replace

from facedecode.recognizers.weights_file import HEADS, Layout

# torchvision's numbers of the convolutions in `vgg16().features`, block by block.
_VGG = {
    (block, number): place
    for block, places in enumerate([(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)], 1)
    for number, place in enumerate(places, 1)
}
_VGG_FULL = {"fc6": "classifier.0", "fc7": "classifier.3"}


def _vgg(convolution: str, full: str = "{}") -> dict[str, str]:
    """VGG-16's layers, from what a port calls its convolutions (by block and number) and its full layers."""
    return {
        **{convolution.format(*key): f"features.{place}" for key, place in _VGG.items()},
        **{full.format(name): layer for name, layer in _VGG_FULL.items()},
    }


def _caffe_resnet() -> dict[str, str]:
    """ResNet-50's layers, from the names of its Caffe model as converters write them: `conv3_1_1x1_reduce_bn`, …."""
    parts = {"1x1_reduce": "1", "3x3": "2", "1x1_increase": "3"}
    layers = {"conv1_7x7_s2": "conv1", "conv1_7x7_s2_bn": "bn1"}
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            theirs, ours = f"conv{stage + 1}_{block + 1}_", f"layer{stage}.{block}."
            for part, number in parts.items():
                layers |= {f"{theirs}{part}": f"{ours}conv{number}", f"{theirs}{part}_bn": f"{ours}bn{number}"}
        theirs, ours = f"conv{stage + 1}_1_1x1_proj", f"layer{stage}.0.downsample"
        layers |= {theirs: f"{ours}.0", f"{theirs}_bn": f"{ours}.1"}
    return layers


TORCHVISION = Layout("torchvision", heads=HEADS)
FACENET = (Layout("facenet-pytorch", heads=HEADS),)
VGG16 = (
    TORCHVISION,
    # The group's own model, converted from MatConvNet, which takes RGB.
    Layout("vgg_face_dag (conv1_1, fc6)", _vgg("conv{}_{}"), HEADS),
    # Ports of its Torch and Caffe models, which take BGR.
    Layout("Torch port (conv_1_1, fc6)", _vgg("conv_{}_{}"), HEADS, "features.0.weight"),
    Layout(
        "Torch port (features.conv_1_1, fc.fc6)",
        _vgg("features.conv_{}_{}", "fc.{}"),
        HEADS,
        "features.0.weight",
    ),
)
# The group's own PyTorch files (converted from MatConvNet, as resnet50_ft_dag), which take RGB.
_CAFFE_RESNET = Layout("Caffe's (conv1_7x7_s2)", _caffe_resnet(), HEADS, turned_first="conv1.weight")
RESNET50_CAFFE = (TORCHVISION, _CAFFE_RESNET)
RESNET50 = (
    replace(
        TORCHVISION,
        uncounted="no counters of batch normalization, so another framework's weights, converted; VGGFace2's own "
        "models, and others of Caffe's, need --model resnet50-caffe: here they load, and give wrong templates",
    ),
    replace(
        _CAFFE_RESNET,
        refused="a ResNet-50 of Caffe's, whose strides are other layers' than torchvision's: use --model "
        "resnet50-caffe",
    ),
)
