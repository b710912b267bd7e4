"""A user's own model: the same numbers in every form, what is checked before any work, and what a manifest keeps."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyNet, draw_people
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.decoders.training_record import network_and_layers
from facedecode.errors import BadInput, FacedecodeError, MissingWeights, UsageError
from facedecode.perceptual.phi import RecognizerMaps, load_phi
from facedecode.pictures import align
from facedecode.recognizers import REGISTRY, load_recognizer
from facedecode.recognizers.contract import named_networks, parse_contract
from facedecode.store import Store, require_same_recognizer
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob

CONTRACT = {
    "name": "mine",
    "size": 32,
    "crop": "dlib",
    "channels": "RGB",
    "mean": 128,
    "scale": 128,
    "score": "negative-euclidean",
}
SHAPES = ((2, 3, 32, 32),)


def keep(path: Path, data: bytes, **contract: object) -> Path:
    """The model's file, with its contract beside it."""
    path.write_bytes(data)
    path.with_name(f"{path.name}.json").write_text(json.dumps(CONTRACT | contract))
    return path


def exported(net: nn.Module, batch: int | None = None, side: int = 32) -> bytes:
    buffer = io.BytesIO()
    dynamic = None if batch else ({0: torch.export.Dim("n")},)
    torch.export.save(
        torch.export.export(net.eval(), (torch.zeros(batch or 2, 3, side, side),), dynamic_shapes=dynamic), buffer
    )
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def scripted(net: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    return buffer.getvalue()


def onnx_file(
    output: tuple = ("n", 8), shape: tuple = ("n", 3, 8, 8), inputs: int = 1, kind: str = "FLOAT", **more
) -> bytes:
    """An ONNX model that gives 8 local means of the first channel; or less, or more."""
    onnx = pytest.importorskip("onnx")
    h, code = onnx.helper, getattr(onnx.TensorProto, kind)
    nodes = [
        h.make_node("Cast", ["x0"], ["f"], to=1),
        h.make_node("AveragePool", ["f"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    nodes += more.get("nodes", [h.make_node("Flatten", ["p"], ["y"])])
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info(f"x{k}", code, shape) for k in range(inputs)],
        [h.make_tensor_value_info(name, 1, None) for name in more.get("outputs", ["y"])],
        more.get("tensors", []),
    )
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def net(tiny: Path) -> TinyNet:
    """The network of `tiny`."""
    found = TinyNet().eval()
    found.load_state_dict(load_file(tiny))
    return found.requires_grad_(False)


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_form_gives_what_the_network_gives(net: TinyNet, tiny: Path, crops: np.ndarray, tmp_path: Path) -> None:
    registered = load_recognizer("tiny", tiny)
    want = registered.embed_crops(crops)
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def gradient(recognizer) -> torch.Tensor:
        x = pictures.clone().requires_grad_()
        recognizer.embed(x).square().sum().backward()
        return x.grad

    forms = {"a.pt2": exported(net), "one.pt2": exported(net, 1), "three.pt2": exported(net, 3), "s.pt": scripted(net)}
    for name, data in forms.items():
        own = load_recognizer(f"torch:{keep(tmp_path / name, data)}")
        assert own.name == "torch:mine" and own.white_box and own.spec.dim == 16
        np.testing.assert_allclose(own.embed_crops(crops), want, atol=1e-5)
        torch.testing.assert_close(gradient(own), gradient(registered), atol=1e-5, rtol=1e-4)
        assert own.embed_crops(crops[:0]).shape == (0, 16)
        if name.endswith(".pt2"):
            maps = RecognizerMaps(own, ["conv"])
            portraits = torch.rand(4, 3, 64, 64)
            theirs = RecognizerMaps(registered)
            for mine, other in zip(maps.maps(maps.view(portraits)), theirs.maps(theirs.view(portraits)), strict=True):
                torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)
            template, both = own.embed_with_features(pictures)[0], maps.maps_and_template(pictures)
            torch.testing.assert_close(template, both[1])
            with pytest.raises(UsageError, match="has no layer 'nothing'"):
                RecognizerMaps(own, ["nothing"])
        else:
            with pytest.raises(UsageError, match="TorchScript shows no layers"):
                RecognizerMaps(own)


def test_channels_and_normalization_are_as_the_contract_says(
    net: TinyNet, tiny: Path, crops: np.ndarray, tmp_path
) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale, mean = torch.tensor([1.0, 2, 4]).view(3, 1, 1), torch.tensor([10.0, 20, 30]).view(3, 1, 1)
            return self.net(((x * scale + mean).flip(1) - 128) / 128)

    own = keep(tmp_path / "b.pt2", exported(Turned()), channels="BGR", mean=[10, 20, 30], scale=[1, 2, 4])
    np.testing.assert_allclose(
        load_recognizer(f"torch:{own}").embed_crops(crops), load_recognizer("tiny", tiny).embed_crops(crops), atol=1e-5
    )


def test_onnx_is_black_box_and_takes_any_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    crops = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    want = (crops[..., :3].astype(np.float32) - 128) / 128
    want = want.reshape(5, 2, 4, 2, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(5, 12)
    for shape in (("n", 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), ("n", 3, "h", "w")):
        own = load_recognizer(f"onnx:{keep(tmp_path / 'm.onnx', onnx_file(shape=shape), size=8)}")
        np.testing.assert_allclose(own.embed_crops(crops), want, atol=1e-6)
        assert not own.white_box
        with pytest.raises(UsageError, match="black-box"):
            own.embed(torch.rand(1, 3, 8, 8, requires_grad=True))
    with pytest.raises(UsageError, match="an ONNX model computes as it was exported"):
        load_recognizer(f"onnx:{tmp_path / 'm.onnx'}", precision="bf16")


class Evil:
    """Its pickle writes a file when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def with_entry(data: bytes, ending: str, change: Callable[[bytes], bytes]) -> bytes:
    """An archive with one entry changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith(ending) else old.read(name))
    return buffer.getvalue()


def test_no_pickle_is_ever_opened(net: TinyNet, tmp_path: Path) -> None:
    trap, whole, tensors, bare = tmp_path / "ran", io.BytesIO(), io.BytesIO(), io.BytesIO()
    net.trap = Evil(trap)
    torch.save(net, whole)
    torch.save({"trap": Evil(trap)}, bare)
    torch.save(net.state_dict(), tensors)
    del net.trap
    good = exported(net)
    pickled = with_entry(
        good, "weights_config.json", lambda b: b.replace(b'"use_pickle": false', b'"use_pickle": true')
    )
    assert pickled != good
    run = f"__import__('pathlib').Path('{trap}').touch()"
    size = b"Symbol('s77', positive=True, integer=True)"

    def json_guard(code: str) -> bytes:
        return b'"guards_code": ' + json.dumps([code]).encode()

    def later_sizes(more: str) -> bytes:
        """Every size but the first, which names the symbol."""

        def change(b: bytes) -> bytes:
            first, found, rest = b.partition(size)
            return first + found + rest.replace(size, size + more.encode())

        return with_entry(good, "model.json", change)

    cases = {
        "whole.pt": (whole.getvalue(), "a pickle, as torch.save writes it"),
        "state.pt": (tensors.getvalue(), "a pickle, as torch.save writes it"),
        "old.pt": (pickle.dumps(Evil(trap)), "a pickle"),
        "samples.pt2": (
            with_entry(good, "sample_inputs/model.pt", lambda _: bare.getvalue()),
            "sample inputs are no plain",
        ),
        "weights.pt2": (pickled, "is pickled"),
        "call.pt2": (
            with_entry(good, "model.json", lambda b: b.replace(b"torch.ops.aten.relu.default", b"torch.os.system")),
            "calls torch.os.system",
        ),
        "guard.pt2": (
            with_entry(good, "model.json", lambda b: b.replace(b'"guards_code": []', json_guard(run))),
            "a guard that is no condition on sizes",
        ),
        "size.pt2": (later_sizes(f" + 0*\\n({run})"), "a size that is no expression"),
        "evaluated.pt2": (
            later_sizes(" + 0*S(" + "+".join(f"'{c}'" for c in run) + ")"),
            "a size that is no expression",
        ),
        "named.pt2": (
            with_entry(good, "model.json", lambda b: b.replace(b'"name": "x"', f'"name": "q={run}"'.encode())),
            "a name that is none",
        ),
    }
    for name, (data, said) in cases.items():
        with pytest.raises(BadInput, match=said):
            load_recognizer(f"torch:{keep(tmp_path / name, data)}")
        assert not trap.exists(), name


class Bad(nn.Module):
    """A network that is wrong in one way."""

    def __init__(self, how: str):
        super().__init__()
        self.how, self.drop = how, nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        if self.how == "nan":
            return y / 0 * 0
        if self.how == "classes":
            return y.softmax(1)
        if self.how == "constant":
            return torch.ones_like(y)
        if self.how == "map":
            return y.reshape(-1, 3, 2, 2)
        if self.how == "one":
            return y[:, :1]
        if self.how == "whole":
            return y.long()
        if self.how == "across":
            return y - y.mean(0)
        return torch.cat([y, y.mean(0, keepdim=True)])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("nan", "NaN, infinity"),
        ("classes", "probabilities of 12 classes"),
        ("constant", "the same numbers for two different pictures"),
        ("map", r"\(2, 3, 2, 2\) for 2 pictures"),
        ("one", "one number for a picture"),
        ("whole", "torch.int64, not numbers"),
        ("across", r"in another batch; export it after \.eval\(\)"),
        ("more", r"gives \(3, 12\) for 2 pictures"),
    ],
)
def test_the_first_batch_is_looked_at(how: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        load_recognizer(f"torch:{keep(tmp_path / 'bad.pt2', exported(Bad(how)))}")


def test_bad_files(net: TinyNet, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    good, flat = exported(net), onnx.helper.make_node("Flatten", ["p"], ["y"])
    big = onnx.helper.make_tensor("w", 1, [1], np.zeros(1, np.float32).tobytes(), raw=True)
    onnx.external_data_helper.set_external_data(big, "w.bin")
    big.ClearField("raw_data")
    plus = [onnx.helper.make_node("Add", ["p", "w"], ["q"]), onnx.helper.make_node("Flatten", ["q"], ["y"])]
    two = [flat, onnx.helper.make_node("Relu", ["y"], ["z"])]
    cases: dict[str, tuple[bytes, dict, type[FacedecodeError], str]] = {
        "torch:empty.pt2": (b"", {}, BadInput, "is empty"),
        "torch:lfs.pt2": (b"version https://git-lfs.github.com/spec/v1\noid", {}, BadInput, "git-LFS pointer"),
        "onnx:page.onnx": (b"\n<!DOCTYPE html><html>", {}, BadInput, "a web page"),
        "torch:cut.pt2": (good[: len(good) // 2], {}, BadInput, "truncated or damaged"),
        "torch:junk.pt2": (b"junk" * 99, {}, BadInput, "no model of PyTorch"),
        "torch:size.pt2": (good, {"size": 64}, BadInput, "takes pictures of 32 px, and its contract says size 64"),
        "torch:layers.pt2": (good, {"layers": ["conv9"]}, BadInput, "has no layer 'conv9'"),
        "torch:judge.pt2": (good, {"gives": "logit"}, UsageError, "'gives' .* is for a judge"),
        "torch:name.pt2": (good, {"name": "a=b"}, BadInput, "a name of letters"),
        "onnx:cut.onnx": (onnx_file()[:-9], {"size": 8}, BadInput, "ONNX Runtime cannot read it"),
        "onnx:two.onnx": (onnx_file(inputs=2), {"size": 8}, BadInput, r"takes 2 inputs \(x0, x1\)"),
        "onnx:four.onnx": (
            onnx_file(shape=("n", 4, 8, 8)),
            {"size": 8},
            BadInput,
            r"takes \(n, 4, 8, 8\), no pictures",
        ),
        "onnx:bytes.onnx": (onnx_file(kind="UINT8"), {"size": 8}, BadInput, r"tensor\(uint8\), not float32"),
        "onnx:free.onnx": (
            onnx_file(shape=("n", 3, "h", "w")),
            {"size": None},
            UsageError,
            "pictures of any size; add the 'size'",
        ),
        "onnx:apart.onnx": (onnx_file(nodes=plus, tensors=[big]), {"size": 8}, BadInput, "tensors lie in another file"),
        "onnx:outs.onnx": (
            onnx_file(nodes=two, outputs=["y", "z"]),
            {"size": 8},
            BadInput,
            r"gives 2 outputs \(y \(2, 12\), z .* with --template-output",
        ),
        "onnx:map.onnx": (onnx_file(outputs=["p"]), {"size": 8}, BadInput, r"gives \(2, 3, 2, 2\) for 2 pictures"),
    }
    for name, (data, contract, error, said) in cases.items():
        kind, file = name.split(":")
        with pytest.raises(error, match=said):
            load_recognizer(f"{kind}:{keep(tmp_path / file, data, **contract)}")
    keep(tmp_path / "outs.onnx", onnx_file(nodes=two, outputs=["y", "z"]), size=8, output=1)
    assert load_recognizer(f"onnx:{tmp_path / 'outs.onnx'}").spec.dim == 12
    with pytest.raises(MissingWeights, match=r"there is no file .*nowhere\.pt2"):
        load_recognizer(f"torch:{tmp_path / 'nowhere.pt2'}")
    keep(tmp_path / "good.pt2", good)
    (tmp_path / "good.pt2.json").unlink()
    with pytest.raises(UsageError, match=r"write .*good\.pt2\.json, a JSON object with crop, channels, mean, scale"):
        load_recognizer(f"torch:{tmp_path / 'good.pt2'}")
    with pytest.raises(UsageError, match="--spec is for a model file of your own"):
        load_recognizer("dlib-resnet", contract=tmp_path / "good.pt2.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop": "eyes"}, "field 'crop' is not arcface or dlib or box"),
        ({"channels": "rgb"}, "field 'channels' is not RGB or BGR or gray"),
        ({"channels": "gray", "mean": [1, 2, 3]}, "gray is one channel, and mean or scale have three numbers"),
        ({"layout": "CHWN"}, "field 'layout' is not NCHW or NHWC"),
        ({"mean": [1, 2]}, "field 'mean' is not a number, or one for each channel"),
        ({"mean": "0"}, "field 'mean' is not a number"),
        ({"mean": [127.5] * 4}, "field 'mean' is not a number, or one for each channel"),
        ({"scale": [1, "2", 3]}, "field 'scale' is not a number, or one for each channel"),
        ({"mean": 0.5}, r"of pictures from 0 to 255, not 0\.5 and 128; .* multiply by 255: mean 127\.5, scale 128$"),
        ({"mean": 0, "scale": 0.5}, r"multiply by 255: mean 0, scale 127\.5$"),
        (
            {"mean": [0.485, 0.456, 0.406], "scale": [0.229, 0.224, 0.225]},
            r"mean \(123\.675, .*, scale \(58\.395, 57\.12",
        ),
        ({"mean": 127.5, "scale": 1 / 128}, r"not 127\.5 and 0\.0078125; the scale divides: for this factor give 128$"),
        ({"mean": 0, "scale": 1 / 255}, "for this factor give 255$"),
        ({"mean": -127.5}, r"it is subtracted: give a mean from 0 to 255$"),
        ({"mean": 300}, "a mean is from 0 to 255$"),
        ({"scale": -127.5}, "not 128 and -127.5; a scale is above 0$"),
        ({"scale": 0}, "a scale is above 0$"),
        ({"scale": 255**2}, "a scale is at most 1024$"),
        ({"size": 112.5}, "field 'size' is not a whole number"),
        ({"size": True}, "field 'size' is not a whole number"),
        ({"size": 7}, "field 'size' is not a whole number from 8 to 4096"),
        ({"size": "112"}, "field 'size' is not a whole number"),
        ({"size": [112, 96, 3]}, r"field 'size' is not a whole number .* or two of them: \[height, width\]"),
        ({"score": "euclidean"}, "field 'score' is not"),
        ({"box_factor": 1.3}, "box_factor and box_side go with the crop box"),
        ({"box_side": "mean"}, "box_factor and box_side go with the crop box"),
        ({"crop": "box", "box_side": "top"}, "field 'box_side' is not"),
        ({"layers": "conv"}, "field 'layers' is not a list"),
        ({"layers": [""]}, "field 'layers' is not names of modules"),
        ({"classes": ["a", "a"]}, "field 'classes' is not two names"),
        ({"sise": 1}, r"there is no field 'sise', did you mean 'size'\? There are crop, "),
        ({"Scale": 1}, "there is no field 'Scale', did you mean 'scale'"),
        ({"std": 1}, "there is no field 'std', did you mean 'scale'"),
        ({"x\ny": 1}, r"there is no field 'x\\ny'\. There are crop, "),
        ({"threshold": "high"}, "field 'threshold' is not a number"),
        (
            {"threshold": 0.6},
            r"threshold 0\.6: scores are negative distances, higher is more alike: did you mean -0\.6",
        ),
        ({"threshold": -0.6, "score": "cosine"}, None),
        ({"threshold": 1.24, "score": "cosine"}, r"threshold 1\.24: scores are cosines, .* is the cosine 0\.231: give"),
        ({"threshold": 35, "score": "cosine"}, r"threshold 35: scores are cosines, .*: did you mean 0\.35"),
        ({"threshold": -3, "score": "cosine"}, "threshold -3: scores are cosines, .*: give a score of this range"),
    ],
)
def test_bad_contracts(change: dict, said: str | None) -> None:
    if said is None:
        parse_contract(CONTRACT | change, "net.json", "net")
        return
    with pytest.raises(BadInput, match=f"^net.json: .*{said}"):
        parse_contract(CONTRACT | change, "net.json", "net")


def test_a_contract_says_all_that_is_needed(tmp_path: Path) -> None:
    for lacking in ("crop", "channels", "mean", "scale"):
        with pytest.raises(BadInput, match=f"field '{lacking}' is missing"):
            parse_contract({k: v for k, v in CONTRACT.items() if k != lacking}, "net.json", "net")
    with pytest.raises(BadInput, match="holds no JSON object"):
        parse_contract([CONTRACT], "net.json", "net")
    boxed = parse_contract(CONTRACT | {"crop": "box", "box_factor": 1.3}, "net.json", "net")
    assert boxed.how_to_crop(64) == align.BoxCrop(64, 1.3)
    vggface2 = parse_contract(
        CONTRACT | {"crop": "box", "box_factor": 1.1375, "box_side": "shorter"}, "net.json", "net"
    )
    assert vggface2.how_to_crop(224) == REGISTRY["resnet50"].crop


def test_named_crops_are_the_registered_ones() -> None:
    assert align.named_crop("arcface", 112).points == align.ARCFACE_POINTS
    for name, size in (("arcface", 112), ("dlib", 150)):  # a crop at another size is the same crop, scaled
        face = align.portrait_face(300)
        small, large = (align.named_crop(name, k * size).matrix(face) for k in (1, 2))
        np.testing.assert_allclose(2 * small, large, atol=1e-9)


def test_a_manifest_and_the_file_are_enough_to_find_the_model_again(
    net: TinyNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = keep(tmp_path / "a.pt2", exported(net), layers=["conv"], threshold=-0.5, license="mine")
    draw_people(tmp_path / "emb", tmp_path / "faces", "torch:mine", file, people=3)
    held = Store.open(tmp_path / "emb").recognizer
    own = load_recognizer(held, file)
    (tmp_path / "a.pt2.json").unlink()
    again = load_recognizer(held, file)
    assert (
        again.spec == own.spec and again.spec.feature_layers == ("conv",) and again.spec.recommended_threshold == -0.5
    )
    assert again.describe() == held
    moved = file.rename(tmp_path / "renamed.pt2")
    assert load_recognizer(held, moved).name == "torch:mine"
    other = keep(tmp_path / "other.pt2", exported(net, 1))
    with pytest.raises(BadInput, match=r"other\.pt2: not the file of torch:mine \(sha256"):
        load_recognizer(held, other)
    with pytest.raises(MissingWeights, match=r"torch:mine: .* opens no file; give --weights"):
        load_recognizer(held)
    # Not even where the file is that its name says: a store of a stranger's would choose which program runs.
    monkeypatch.chdir(tmp_path)
    Path("mine").write_bytes(moved.read_bytes())
    with pytest.raises(MissingWeights, match="opens no file"):
        load_recognizer(held)
    keep(tmp_path / "b.pt2", moved.read_bytes(), mean=100)
    with pytest.raises(BadInput, match=r"takes pictures otherwise .*mean"):
        require_same_recognizer(held, load_recognizer(f"torch:{tmp_path / 'b.pt2'}").describe(), "it")
    with pytest.raises(UsageError, match="its contract calls it 'mine', not 'other'"):
        load_recognizer("torch:other", tmp_path / "b.pt2")


@pytest.mark.filterwarnings("ignore:recognizer torch.mine. trained on pictures that are not all recorded")
def test_people_whom_a_contract_names_are_not_judged(
    net: TinyNet, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = keep(tmp_path / "mine.pt2", exported(net), training_people=["p3", "Somebody"])
    own = load_recognizer(f"torch:{file}")
    assert own.spec.training_people == own.describe().training_people == ("p3", "Somebody")
    draw_people(tmp_path / "emb", tmp_path / "faces", f"torch:{file}", None)
    store = Store.open("emb")
    assert store.recognizer.training_people == ("p3", "Somebody")
    assert load_recognizer(store.recognizer, file).spec.training_people == ("p3", "Somebody")
    # What is known of its people decides no template: the store goes with the same model of another contract.
    other = load_recognizer(f"torch:{keep(tmp_path / 'mine.pt2', exported(net))}")
    require_same_recognizer(store.recognizer, other.describe(), "the same")
    for names, code in ((["p3"], 4), (["Somebody"], 0)):
        manifest = json.loads(Path("emb/manifest.json").read_text())
        manifest["recognizer"]["training_people"] = names
        Path("emb/manifest.json").write_text(json.dumps(manifest))
        told = CliRunner().invoke(app, ["evaluate", "verification", "emb", "-o", f"report{code}", "--far", "0.5"])
        assert told.exit_code == code, told.stderr
        assert ("torch:mine: trained on 1 of the 10 people" in told.stderr) == bool(code)
    report = json.loads(Path("report0/report.json").read_text())
    assert any("compared with them by name only" in each for each in report["warnings"])
    for wrong in ("Ann", [1], ["Ann", ""]):
        with pytest.raises(BadInput, match="training_people"):
            parse_contract(CONTRACT | {"training_people": wrong}, "a.json", "a")
    with pytest.raises(BadInput, match="did you mean 'training_people'"):
        parse_contract(CONTRACT | {"people": ["Ann"]}, "a.json", "a")


def test_layers_of_an_own_model_are_told_from_its_name() -> None:
    assert network_and_layers("torch:mine:a.1+b") == ("torch:mine", ("a.1", "b"))
    assert network_and_layers("torch:mine") == ("torch:mine", None)
    assert network_and_layers("squeezenet:4") == ("squeezenet", ("4",))


def test_a_file_of_ones_own_is_phi_by_itself(tmp_path: Path) -> None:
    file = keep(tmp_path / "a.pt2", b"")
    found = named_networks([f"torch:{file}:a.1+b", "squeezenet:4=s", "torch:mine:conv", "onnx:x=y"])
    assert found == {
        "torch:mine:a.1+b": file,
        "squeezenet:4": Path("s"),
        "torch:mine:conv": None,
        "onnx:x": Path("y"),
    }
    with pytest.raises(UsageError, match="--phi: 'torch:mine' is given twice"):
        named_networks([f"torch:{file}", f"torch:mine={file}"])


def test_stages_take_an_own_model(net: TinyNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = keep(tmp_path / "a.pt2", exported(net))
    draw_people(tmp_path / "emb", tmp_path / "faces", "torch:mine", file)
    train_store(DecoderJob(tmp_path / "emb", tmp_path / "ridge", architecture="ridge"))
    np.save(tmp_path / "x.npy", Store.open(tmp_path / "emb").templates()[:2])
    run = CliRunner().invoke
    common = ["--decoder", str(tmp_path / "ridge"), "--refine", "2", "--json", "-o"]
    told = run(app, ["invert", str(tmp_path / "emb"), *common, str(tmp_path / "a.png"), "--weights", str(file)])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["metrics"]
    assert (np.array(found["scores"]) >= np.array(found["scores_before"])).all()
    bare = run(app, ["invert", str(tmp_path / "x.npy"), *common, str(tmp_path / "b.png"), "--model", f"torch:{file}"])
    assert bare.exit_code == 0, bare.output
    wrong = keep(tmp_path / "w.pt2", exported(net, 1))
    told = run(app, ["invert", str(tmp_path / "emb"), *common, str(tmp_path / "c.png"), "--model", f"torch:{wrong}"])
    assert told.exit_code == 4 and "weights sha256" in told.stderr
    job = ["train", str(tmp_path / "emb"), "-o", str(tmp_path / "d"), "--image-size", "64", "--epochs", "0.3", "-q"]
    told = run(app, [*job, "--weights", str(file), "--phi", "torch:mine:conv", "--batch-size", "8"])
    assert told.exit_code == 0, told.output
    monkeypatch.chdir(tmp_path)
    told = run(app, [*job[:3], "f", *job[4:], "--weights", str(file), "--phi", "torch:a.pt2:conv", "--batch-size", "8"])
    assert told.exit_code == 0, told.output
    assert load_decoder("f").provenance.training.looked_through == ("torch:mine",), "what a judge is called"
    told = run(app, [*job, "--weights", str(file), "--overwrite"])
    assert told.exit_code == 2 and "names no layers for the perceptual term" in told.stderr
    assert load_phi("torch:mine:conv", file).layers == ("conv",)


def test_black_box_models_say_so_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = keep(tmp_path / "m.onnx", onnx_file(), size=8)
    draw_people(tmp_path / "emb", tmp_path / "faces", "onnx:mine", file, people=3)
    train_store(DecoderJob(tmp_path / "emb", tmp_path / "ridge", architecture="ridge"))
    run, emb = CliRunner().invoke, str(tmp_path / "emb")
    image = str(tmp_path / "faces" / "P0" / "P0_0001.png")
    for words, said in [
        (
            ["attack", image, "--model", f"onnx:{file}", "--away", "--threshold", "-0.1"],
            "black-box: it gives no gradients to attack by",
        ),
        (
            ["invert", emb, "--decoder", str(tmp_path / "ridge"), "--refine", "1", "--weights", str(file)],
            "no gradients to refine by",
        ),
        (["train", emb, "--weights", str(file), "--perceptual-weight", "0"], "black box, and the identity term"),
        (["train", emb, "--weights", str(file)], "ONNX Runtime shows no layers"),
    ]:
        told = run(app, [*words, "-o", str(tmp_path / "out")])
        assert told.exit_code == 2 and said in told.stderr, told.output
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.lfw
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".pt"])
def test_an_export_of_the_default_recognizer_makes_its_templates(
    script, lfw: Path, tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / f"d{suffix}"
    script("export_recognizer").main(["dlib-resnet", "-o", str(file)])
    kind = "onnx" if suffix == ".onnx" else "torch"
    images = str(lfw / "images" / "Aaron_Peirsol")
    run = CliRunner().invoke
    for out, more in (("a", []), ("b", ["--model", f"{kind}:{file}"])):
        told = run(app, ["extract", images, "-o", str(tmp_path / out), *more])
        assert told.exit_code == 0, told.output
    first, second = (Store.open(tmp_path / out) for out in "ab")
    assert first.paths() == second.paths() and len(first) == 4
    np.testing.assert_allclose(second.templates(), first.templates(), atol=1e-4)
    attack = [
        "attack",
        f"{images}/Aaron_Peirsol_0001.jpg",
        "--model",
        f"{kind}:{file}",
        "--away",
        "-o",
        str(tmp_path / "adv"),
    ]
    told = run(app, [*attack, "--json"])
    assert told.exit_code == (2 if kind == "onnx" else 0), told.output
    if kind == "torch":
        assert json.loads(told.stdout)["metrics"]["success_saved"]["value"] == 1
