"""Models in the forms in which they are published: axes, channels, sides and numbers that PyTorch's own have not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyNet, draw_people
from test_own_models import keep, scripted
from torch import nn
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeWarning, UsageError
from facedecode.perceptual.phi import RecognizerMaps
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.store import Store

SIDE = 16  # of the crop
SAID = {"size": None, "mean": 0, "scale": 1, "score": "cosine"}
GRAY = {"channels": "gray"}


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


def means_of(crops: np.ndarray, height: int = SIDE, width: int = SIDE, gray: bool = False) -> np.ndarray:
    """Templates: the means of the middle's squares of 4 px, one channel after the other."""
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    middle = crops[:, top : top + height, left : left + width].astype(np.float64)
    if gray:
        middle = middle @ np.array([[0.299], [0.587], [0.114]])
    squares = middle.reshape(len(crops), height // 4, 4, width // 4, 4, -1).mean((2, 4))
    return squares.transpose(0, 3, 1, 2).reshape(len(crops), -1)


def means_model(
    shape: tuple,
    output: tuple[int, ...] = (0, -1),
    kind: str = "FLOAT",
    given: str = "FLOAT",
    last: bool = False,
    declared: bool = True,
) -> bytes:
    """An ONNX model of such templates. output: of the templates' axes, 0 for that of the batch."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, codes = onnx.helper, onnx.TensorProto
    nodes = [h.make_node("Cast", ["data"], ["x"], to=codes.FLOAT)]
    if last:
        nodes.append(h.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]))
    nodes += [
        h.make_node("AveragePool", ["first" if last else "x"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        h.make_node("Reshape", ["p", "axes"], ["r"]),
        h.make_node("Cast", ["r"], ["y"], to=getattr(codes, given)),
    ]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("data", getattr(codes, kind), shape if declared else None)],
        [h.make_tensor_value_info("y", getattr(codes, given), None)],
        [onnx.numpy_helper.from_array(np.array(output), "axes")],
    )
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


N = "None"  # how some exporters name a free axis
WHOLE = (N, 3, SIDE, SIDE)
CASES: dict[str, tuple[dict, dict, dict, float]] = {  # of the file, its contract, what its templates are of, tolerance
    "plain": ({"shape": WHOLE}, {}, {}, 1e-6),
    "a map of one place": ({"shape": WHOLE, "output": (0, -1, 1, 1)}, {}, {}, 1e-6),
    "a map of one place, channels last": ({"shape": WHOLE, "output": (0, 1, 1, -1)}, {}, {}, 1e-6),
    "an axis between": ({"shape": WHOLE, "output": (0, 1, -1)}, {}, {}, 1e-6),
    "no batch": ({"shape": (1, 3, SIDE, SIDE), "output": (-1,)}, {}, {}, 1e-6),
    "no batch, and others of one": ({"shape": (1, 3, SIDE, SIDE), "output": (-1, 1, 1)}, {}, {}, 1e-6),
    "channels last": ({"shape": (N, SIDE, SIDE, 3), "last": True}, {}, {}, 1e-6),
    "channels last, free sides": ({"shape": (N, N, N, 3), "last": True}, {"size": SIDE}, {}, 1e-6),
    "channels last, fixed batch": ({"shape": (2, SIDE, SIDE, 3), "last": True}, {"layout": "NHWC"}, {}, 1e-6),
    "all free": ({"shape": (N, N, N, N), "last": True}, {"size": SIDE, "layout": "NHWC"}, {}, 1e-6),
    "all free, channels first": ({"shape": (N, N, N, N)}, {"size": SIDE, "layout": "NCHW"}, {}, 1e-6),
    "no shape": ({"shape": WHOLE, "declared": False}, {"size": SIDE, "layout": "NCHW"}, {}, 1e-6),
    "gray": ({"shape": (N, 1, SIDE, SIDE)}, GRAY, {"gray": True}, 1e-6),
    "gray, channels free": ({"shape": (N, N, SIDE, SIDE)}, GRAY, {"gray": True}, 1e-6),
    "narrow": ({"shape": (N, 3, 16, 12)}, {}, {"width": 12}, 1e-6),
    "narrow, its longer side": ({"shape": (N, 3, 16, 12)}, {"size": 16}, {"width": 12}, 1e-6),
    "narrow, both sides": ({"shape": (N, 3, N, N)}, {"size": [16, 12]}, {"width": 12}, 1e-6),
    "broad": ({"shape": (N, 3, 8, 16)}, {}, {"height": 8}, 1e-6),
    "half": ({"shape": WHOLE, "kind": "FLOAT16", "given": "FLOAT16"}, {}, {}, 1e-3),
    "half in": ({"shape": WHOLE, "kind": "FLOAT16"}, {}, {}, 1e-3),
    "double": ({"shape": WHOLE, "kind": "DOUBLE", "given": "DOUBLE"}, {}, {}, 1e-6),
    "all of it": (
        {"shape": (1, 16, 12, 1), "last": True, "kind": "FLOAT16", "given": "FLOAT16", "output": (1, 1, 1, -1)},
        GRAY,
        {"width": 12, "gray": True},
        1e-3,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_onnx_models_give_their_templates_in_every_form(case: str, crops: np.ndarray, tmp_path: Path) -> None:
    file, said, of, tolerance = CASES[case]
    path = keep(tmp_path / "m.onnx", means_model(**file), **SAID | said)
    own, wanted = load_recognizer(f"onnx:{path}"), means_of(crops, **of)
    np.testing.assert_allclose(own.embed_crops(crops), wanted, rtol=tolerance)
    assert own.spec.dim == wanted.shape[1] and own.spec.crop.size == SIDE and not own.white_box
    # What a manifest keeps makes the same templates again, without the contract's file.
    held = own.describe()
    assert json.loads(json.dumps(held.as_json())) == held.as_json()
    path.with_name("m.onnx.json").unlink()
    again = load_recognizer(held, path)
    assert again.describe() == held and again.spec == own.spec
    np.testing.assert_array_equal(again.embed_crops(crops), own.embed_crops(crops))


def test_a_manifest_records_what_differs_from_the_usual_form(tmp_path: Path) -> None:
    def recorded(**file: object) -> dict:
        return (
            load_recognizer(f"onnx:{keep(tmp_path / 'm.onnx', means_model(**file), **SAID | said)}").describe().contract
        )

    said: dict = {}
    plain = recorded(shape=WHOLE)
    assert plain["size"] == SIDE and "layout" not in plain and plain["channels"] == "RGB"
    said = {"layout": "NCHW", "size": SIDE}
    assert recorded(shape=WHOLE) == plain, "words that the file makes needless change nothing"
    said = GRAY
    found = recorded(shape=(N, 16, 12, 1), last=True)
    assert (found["size"], found["layout"], found["channels"]) == ([16, 12], "NHWC", "gray")


def test_one_channel_is_gray_whatever_the_contract_says_and_told(crops: np.ndarray, tmp_path: Path) -> None:
    path = keep(tmp_path / "m.onnx", means_model((N, 1, SIDE, SIDE)), **SAID | {"channels": "BGR"})
    with pytest.warns(
        FacedecodeWarning, match=r"m\.onnx: takes one channel, and its contract says BGR: .* gray \(ITU-R"
    ):
        own = load_recognizer(f"onnx:{path}")
    np.testing.assert_allclose(own.embed_crops(crops), means_of(crops, gray=True), rtol=1e-6)
    assert own.describe().channel_order == "gray" and load_recognizer(own.describe(), path).spec == own.spec


@pytest.mark.parametrize(
    ("file", "said", "error", "message"),
    [
        ({"shape": (N, 3, SIDE, 3)}, {}, BadInput, r"takes \(n, 3, 16, 3\), no pictures .* export it for these"),
        ({"shape": (N, 4, SIDE, SIDE)}, {}, BadInput, r"takes \(n, 4, 16, 16\), no pictures"),
        (
            {"shape": (N, N, SIDE, N)},
            {"size": SIDE},
            BadInput,
            r"takes \(n, n, 16, n\); say by 'layout' .* NCHW or NHWC",
        ),
        ({"shape": (N, N, N, N)}, {"size": SIDE}, BadInput, "say by 'layout'"),
        ({"shape": WHOLE}, {"layout": "NHWC"}, BadInput, r"which is NCHW, and its contract says layout NHWC"),
        ({"shape": (N, 3, 3, 3)}, {"layout": "NHWC"}, BadInput, "no pictures"),
        ({"shape": WHOLE}, GRAY, BadInput, "takes three channels, and its contract says gray; say RGB or BGR"),
        (
            {"shape": (N, 1, SIDE, SIDE)},
            {"mean": [1, 2, 3]},
            BadInput,
            "gray is one channel, and mean or scale have three",
        ),
        (
            {"shape": (N, 3, 16, 12)},
            {"size": [12, 16]},
            BadInput,
            r"takes pictures of 16 x 12 px \(height x width\), and its contract says size 12 x 16 px",
        ),
        ({"shape": (N, 3, 16, 12)}, {"size": 12}, BadInput, "says size 12 px"),
        ({"shape": (N, 3, 16, N)}, {}, UsageError, "pictures of any size; add the 'size'"),
        ({"shape": WHOLE, "kind": "INT32"}, {}, BadInput, r"takes tensor\(int32\), not float32"),
        ({"shape": WHOLE, "output": (0, 2, -1)}, {}, BadInput, r"gives \(2, 2, 24\) for 2 pictures, not \(2, d\)"),
        ({"shape": WHOLE, "given": "STRING"}, {}, BadInput, "gives a ndarray, not numbers"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(
    file: dict, said: dict, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = keep(tmp_path / "m.onnx", means_model(**file), **SAID | said)
    with pytest.raises(error, match=rf"^[^\n]*m\.onnx: [^\n]*{message}[^\n]*$"):
        load_recognizer(f"onnx:{path}")


class Means(nn.Module):
    """The same templates in PyTorch, of channels first or last."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.last:
            x = x.permute(0, 3, 1, 2)
        return nn.functional.avg_pool2d(x * self.factor, 4).flatten(1)[:, :, None, None]


def exported(net: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    program = torch.export.export(
        net.to(dtype).eval(), (torch.zeros(2, *shape, dtype=dtype),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_programs_and_torchscript_take_the_same_forms_and_stay_white_box(crops: np.ndarray, tmp_path: Path) -> None:
    narrow, gray = {"width": 12}, {"gray": True}
    forms: list[tuple[bytes, dict, dict, float]] = [
        (exported(Means(True), 16, 12, 3), {}, narrow, 1e-5),
        (exported(Means(False), 1, 16, 16), GRAY, gray, 1e-5),
        (exported(Means(True), 16, 12, 1, dtype=torch.float16), GRAY, narrow | gray, 1e-2),
        (scripted(Means(True)), {"layout": "NHWC", "size": [16, 12], **GRAY}, narrow | gray, 1e-5),
        (scripted(Means(False).half()), {"size": 16}, {}, 1e-2),
    ]
    for number, (data, said, of, tolerance) in enumerate(forms):
        path = keep(tmp_path / f"{number}.pt2", data, **SAID | said)
        own = load_recognizer(f"torch:{path}")
        np.testing.assert_allclose(own.embed_crops(crops), means_of(crops, **of), rtol=tolerance)
        np.testing.assert_array_equal(load_recognizer(own.describe(), path).embed_crops(crops), own.embed_crops(crops))
        pictures = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
        own.embed(pictures).sum().backward()
        outside = pictures.grad[..., :2].abs().sum()
        assert own.white_box and pictures.grad.abs().sum() > 0 and (outside == 0) == ("width" in of)


def test_maps_of_a_narrow_network_are_of_the_middle_of_what_is_seen(tiny: Path, tmp_path: Path) -> None:
    """Of the whole view, and of a part of it, as the local perceptual term asks for it."""
    registered = load_recognizer("tiny", tiny).net
    path = keep(tmp_path / "n.pt2", exported(registered, 3, 32, 24), **SAID | {"mean": 128, "scale": 128})
    maps = RecognizerMaps(load_recognizer(f"torch:{path}"), ["conv"])
    for side, middle in ((32, slice(4, 28)), (16, slice(2, 14))):
        view = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side))
        (found,) = maps.maps(view)
        torch.testing.assert_close(found, registered.conv((view[..., middle] * 255 - 128) / 128), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_layout_that_the_network_cannot_take_is_named(tmp_path: Path) -> None:
    path = keep(tmp_path / "s.pt", scripted(TinyNet()), **SAID | {"size": 32, "layout": "NHWC"})
    with pytest.raises(BadInput, match=r"s\.pt: cannot take \(n, 32, 32, 3\)"):
        load_recognizer(f"torch:{path}")


def test_a_narrow_crop_is_the_published_one() -> None:
    """SphereFace's five points in 112 x 96 px: the middle of ArcFace's square lies where they say."""
    points = ((30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041))
    face = align.portrait_face(300)
    square = align.named_crop("arcface", 112).matrix(face)
    np.testing.assert_allclose(square - [[0, 0, 8], [0, 0, 0]], align.fit_similarity(face.landmarks, points), atol=1e-9)


def test_commands_take_a_published_model(tmp_path: Path) -> None:
    path = keep(
        tmp_path / "m.onnx",
        means_model((1, 16, 12, 1), (1, -1, 1, 1), "FLOAT16", last=True),
        **SAID | GRAY | {"crop": "arcface", "threshold": 0.4},
    )
    draw_people(tmp_path / "emb", tmp_path / "faces", "onnx:mine", path, people=4)
    run, emb = CliRunner().invoke, str(tmp_path / "emb")
    assert Store.open(emb).recognizer.contract["size"] == [16, 12]
    fast = ["--far", "0.2", "--repetitions", "100", "-o", str(tmp_path / "report"), "--json"]
    told = run(app, ["evaluate", "verification", emb, "--threshold", "-0.6", *fast])
    assert told.exit_code == 0, told.output
    for threshold, said in (("0.4", "field 'threshold' is not a number"), (40, "did you mean 0.4?")):
        bad = keep(tmp_path / "b.onnx", path.read_bytes(), **SAID | GRAY | {"threshold": threshold})
        told = run(app, ["extract", str(tmp_path / "faces"), "--model", f"onnx:{bad}", "-o", str(tmp_path / "out")])
        assert told.exit_code == 4 and said in told.stderr and not (tmp_path / "out").exists()
        assert told.stderr.count("error:") == 1, told.stderr
