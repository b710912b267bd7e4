"""Presets and model files by themselves: what is taken for what, what does not fit, and which outputs are templates."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_people
from test_own_models import CONTRACT, exported, keep, scripted
from torch import nn
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.errors import BadInput, FacedecodeError, UsageError
from facedecode.extraction.landmarks_file import COLUMNS
from facedecode.identity import RecognizerId, require_same_recognizer
from facedecode.pictures import align
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.images import read_image, save_image
from facedecode.recognizers import REGISTRY, load_recognizer
from facedecode.recognizers.contract import full_model_name, named_networks, parse_contract, read_contract
from facedecode.recognizers.presets import PRESET_NAMES, PRESETS
from facedecode.store import Store
from facedecode.templates.protection import protected_recognizer

RAW = {"crop": "arcface", "mean": 0, "scale": 1}
OPENVINO = "openvino_face_reidentification_retail_0095.onnx"


def onnx_means(
    shape: tuple = ("n", 3, 112, 112), cells: int = 4, outputs: tuple[str, ...] = ("y",), half: bool = False
) -> bytes:
    """An ONNX model of local means of its input, cells x cells of each channel; each output is twice the one before."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, last = onnx.helper, shape[3] == 3
    sides = shape[1:3] if last else shape[2:]
    kernel = [side // cells for side in sides]
    nodes = [h.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        h.make_node("AveragePool", ["t" if last else "x"], ["p"], kernel_shape=kernel, strides=kernel),
        h.make_node("Flatten", ["p"], ["f0"]),
    ]
    for i, name in enumerate(outputs):
        nodes += [h.make_node("Add", [f"f{i}", f"f{i}"], [f"f{i + 1}"])]
        nodes += [h.make_node("Cast", [f"f{i}"], [name], to=10 if half else 1)]
    made = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", 1, shape)],
        [h.make_tensor_value_info(name, 10 if half else 1, None) for name in outputs],
    )
    model = h.make_model(made, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    ("preset", "size", "red", "blue"),
    [  # what the network is to see of 10, 20, 30 (red, green, blue), first and last of its channels
        ("arcface", 112, (10 - 127.5) / 127.5, (30 - 127.5) / 127.5),
        ("insightface", 112, (10 - 127.5) / 127.5, (30 - 127.5) / 127.5),
        ("adaface", 112, (30 - 127.5) / 127.5, (10 - 127.5) / 127.5),
        ("sface", 112, 10, 30),
        ("facenet", 160, (10 - 127.5) / 128, (30 - 127.5) / 128),
        ("openvino-retail-0095", 128, 30, 10),
    ],
)
def test_a_preset_says_what_the_network_sees(preset: str, size: int, red: float, blue: float, tmp_path: Path) -> None:
    made = load_recognizer(written(tmp_path / "my net (1).onnx", onnx_means(("n", 3, size, size))), contract=preset)
    assert made.name == ("onnx:openvino-retail-0095" if size == 128 else "onnx:my-net-1")
    assert made.spec.crop.size == size and made.spec.score == "cosine" and made.spec.license
    seen = made.embed_crops(np.full((1, size, size, 3), (10, 20, 30), np.uint8))[0]
    np.testing.assert_allclose([seen[0], seen[-1]], [red, blue], rtol=1e-5)


def test_crops_of_presets_are_those_of_their_sources() -> None:
    crops = {
        name: parse_contract({"preset": name}, "x", "x").how_to_crop(said["size"]) for name, said in PRESETS.items()
    }
    assert crops["arcface"] == crops["adaface"] == crops["sface"] == REGISTRY["edgeface-xxs"].crop
    assert crops["facenet"] == REGISTRY["facenet-casia-webface"].crop
    points = np.array(crops["openvino-retail-0095"].points)
    # (.31557, .46157) … of the side, as Open Model Zoo has it.
    np.testing.assert_allclose(
        points[[0, 2, 4]] / 128, [(0.31557, 0.46157), (0.50026, 0.64051), (0.65344, 0.82469)], atol=1e-5
    )
    face = dataclasses.replace(align.portrait_face(128), landmarks=points)
    np.testing.assert_allclose(crops["openvino-retail-0095"].matrix(face), np.eye(3)[:2], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "preset", "said"),
    [
        (
            ("n", 3, 160, 160),
            "arcface",
            r"takes pictures of 160 px, and the preset arcface says size 112 px; .* fits facenet",
        ),
        (
            ("n", 3, 112, 112),
            "facenet",
            r"takes pictures of 112 px, .*; of the presets it fits arcface, adaface, sface",
        ),
        (
            ("n", 160, 160, 3),
            "insightface",
            r"takes .* the preset insightface says size 112 px; of the presets it fits facenet",
        ),
        (("n", 3, 64, 64), "arcface", r"takes pictures of 64 px.*; no preset fits; describe it in a JSON file"),
        (("n", 1, 112, 112), "arcface", r"takes one channel, and the preset arcface says RGB; no preset fits"),
        ((1, 3, 128, 96), "sface", r"takes pictures of 128 x 96 px .*; no preset fits"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused_with_those_that_do(
    shape: tuple, preset: str, said: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "net.onnx", onnx_means(shape))
    with pytest.raises(BadInput, match=rf"net\.onnx: {said}"):
        load_recognizer(file, contract=preset)


def test_a_preset_leaves_open_what_a_file_without_sizes_does(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_means())
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "nchw", strict=True):
        axis.dim_param = name
    file = written(tmp_path / "net.onnx", model.SerializeToString())
    with pytest.raises(
        UsageError, match=r"may be NCHW or NHWC; .* with \{\"preset\": \"sface\", \"layout\": \"NCHW\"\}"
    ):
        load_recognizer(file, contract="sface")
    (tmp_path / "own.json").write_text(json.dumps({"preset": "sface", "layout": "NCHW"}))
    assert load_recognizer(file, contract=tmp_path / "own.json").contract.layout == "NCHW"
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim[1:2], [3], strict=True):
        axis.dim_value = size  # the sides are free, and the preset says them
    file = written(tmp_path / "net.onnx", model.SerializeToString())
    assert load_recognizer(file, contract="sface").contract.size == (112, 112)


def test_wrong_names_of_presets_list_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "net.onnx", onnx_means())
    for spec, code, said in [
        ("arcfase", 2, "--spec arcfase: no preset and no file, did you mean arcface? The presets are arcface, "),
        ("x", 2, "--spec x: no preset and no file. The presets are arcface, insightface, adaface, "),
        ("x.json", 4, "x.json: no such file; give a JSON file, or a preset: arcface, "),
        ("./arcface", 4, "./arcface: no such file"),
        (".", 4, ".: no such file"),
    ]:
        told = CliRunner().invoke(app, ["extract", str(tmp_path), "-o", "emb", "--model", file, "--spec", spec])
        assert told.exit_code == code and said in told.stderr and told.stderr.count("\n") == 1, told.stderr
    with pytest.raises(
        UsageError, match=rf"give a preset with --spec \({', '.join(PRESET_NAMES)};.* or write .*\.json"
    ):
        load_recognizer(file)
    # A preset's name is the preset, whatever lies in the folder; a path is the file.
    Path("arcface").write_text(json.dumps({"preset": "adaface", "name": "mine", "threshold": 0.3}))
    assert load_recognizer(file, contract="arcface").contract.channels == "RGB"
    mine = load_recognizer(file, contract="./arcface")
    assert mine.contract.channels == "BGR" and mine.name == "onnx:mine" and mine.spec.recommended_threshold == 0.3
    assert load_recognizer(file, contract=Path("arcface")).describe() == mine.describe()


def test_a_contract_may_begin_with_a_preset_and_have_points_of_its_own(tmp_path: Path) -> None:
    whole = parse_contract({"preset": "openvino-retail-0095", "crop": "arcface", "points": None}, "x", "x")
    assert whole.how_to_crop(128) == align.named_crop("arcface", 128)
    points = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
    own = parse_contract(CONTRACT | {"crop": "points", "points": points}, "x", "x")
    assert own.how_to_crop(10).points == tuple((10 * x, 10 * y) for x, y in points)
    turned = [points[i] for i in (1, 0, 2, 4, 3)]
    for change, said in [
        ({"preset": "arcfase"}, "field 'preset' is none of arcface, insightface"),
        ({"preset": ["arcface"]}, "field 'preset' is none of arcface"),
        ({"points": points}, "the crop points and the field 'points' go together"),
        ({"crop": "points"}, "the crop points and the field 'points' go together"),
        ({"crop": "points", "points": points[:4]}, r"field 'points' is not five points \[x, y\] in shares of the side"),
        (
            {"crop": "points", "points": [[128 * x, 128 * y] for x, y in points]},
            "field 'points' is not five points .* 0 to 1",
        ),
        ({"crop": "points", "points": turned}, "field 'points' is not .* the eye on the left, the one on the right"),
        ({"crop": "points", "points": [[x, 1 - y] for x, y in points]}, "field 'points' is not five points"),
        ({"crop": "points", "points": [[0.5, 0.5]] * 5}, "field 'points' is not five points"),
        ({"crop": "points", "points": [[0.3, 0.4, 0.5]] * 5}, r"field 'points\.0' is not a list of 2"),
        ({"crop": "points", "points": "eyes"}, "field 'points' is not a list"),
        ({"output": -1}, "field 'output' is not a number from 0, or a name"),
        ({"output": True}, "field 'output' is not a number from 0, or a name"),
    ]:
        with pytest.raises(BadInput, match=f"^net.json: {said}"):
            parse_contract(CONTRACT | change, "net.json", "net")


def test_a_model_file_is_taken_for_what_its_ending_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))
    for name, data in (("a.pt2", exported(net)), ("b.PT", scripted(net)), ("c.onnx", onnx_means(("n", 3, 32, 32)))):
        file = str(keep(tmp_path / name, data))
        kind = "onnx" if name == "c.onnx" else "torch"
        assert load_recognizer(file).describe() == load_recognizer(f"{kind}:{file}").describe()
        assert named_networks([file, f"{file}:x.y+z"]) == {
            f"{kind}:mine": Path(file),
            f"{kind}:mine:x.y+z": Path(file),
        }
    (tmp_path / "trained.pt").mkdir()  # a recognizer's folder may be called so
    for name in ("dlib-resnet", str(tmp_path / "trained.pt"), "given:x.pt", "onnx:net", "faces/net"):
        assert full_model_name(name) == name
    monkeypatch.chdir(tmp_path)
    for model in ("none.onnx", "none.pt2", "none.pt", "onnx:none.onnx"):
        told = CliRunner().invoke(app, ["extract", "trained.pt", "-o", "emb", "--model", model])
        assert told.exit_code == 4 and f"{model.removeprefix('onnx:')}: no such file" in told.stderr, told.stderr
    shutil.copy("c.onnx", "c.bin")
    with pytest.raises(UsageError, match=r"c\.bin: a file that .* say onnx:c\.bin or torch:c\.bin"):
        load_recognizer("c.bin")


def test_one_of_several_outputs_is_the_template(tmp_path: Path) -> None:
    file = written(tmp_path / "net.onnx", onnx_means(outputs=("683", "logits", "0")))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)

    def templates(output: str | None) -> np.ndarray:
        return load_recognizer(file, contract="sface", output=output).embed_crops(crops)

    first = templates("683")
    np.testing.assert_allclose(templates("logits"), 2 * first, rtol=1e-5)
    np.testing.assert_allclose(templates("1"), 2 * first, rtol=1e-5)
    np.testing.assert_allclose(templates("0"), 4 * first, rtol=1e-5)  # a name before a number
    with pytest.raises(
        BadInput, match=r"gives 3 outputs \(683 \(2, 48\), logits \(2, 48\), 0 \(2, 48\)\); choose .*-output"
    ):
        templates(None)
    for wrong in ("3", "fc1"):
        with pytest.raises(BadInput, match=f"has no output '{wrong}'; it gives 3 outputs .683"):
            templates(wrong)
    keep(tmp_path / "net.onnx", Path(file).read_bytes(), preset="sface", size=112, score=None, output="logits", **RAW)
    np.testing.assert_allclose(load_recognizer(file).embed_crops(crops), 2 * first, rtol=1e-5)
    with pytest.raises(UsageError, match="--template-output is for a model file of your own"):
        load_recognizer("dlib-resnet", output="0")


def test_a_store_says_which_contract_and_output_made_it(photos: Path, tmp_path: Path) -> None:
    file, made = written(tmp_path / "net.onnx", onnx_means(outputs=("a", "b"))), str(tmp_path / "emb")
    words = ["extract", str(photos), "-o", made, "--device", "cpu", "--model", file, "--spec", "sface"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 4 and "gives 2 outputs (a (2, 48), b (2, 48)); choose one with" in told.stderr
    for output, code in (("b", 0), ("b", 0), ("a", 4)):
        told = CliRunner().invoke(app, [*words, "--template-output", output])
        assert told.exit_code == code, told.output
    assert 'recognizer.contract.output "b" there, "a" here' in told.stderr
    recorded = json.loads((tmp_path / "emb" / "manifest.json").read_text())["recognizer"]
    assert recorded["contract"]["output"] == "b" and recorded["contract"]["channels"] == "RGB"
    assert recorded["name"] == "onnx:net" and len(recorded["contract_sha256"]) == 64
    assert "preset" not in recorded["contract"]


def test_outputs_of_a_program_that_gives_a_dictionary(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            means = x.mean((2, 3))
            return {"logits": means[:, :2], "embedding": means}

    file = written(tmp_path / "net.pt2", exported(Named(), side=112))
    assert load_recognizer(file, contract="sface", output="embedding").spec.dim == 3
    assert load_recognizer(file, contract="sface", output="0").spec.dim == 2
    with pytest.raises(BadInput, match=r"gives 2 outputs \(logits \(2, 2\), embedding \(2, 3\)\)"):
        load_recognizer(file, contract="sface")


def test_fixed_batches_channels_last_and_half_outputs(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)
    want = load_recognizer(written(tmp_path / "free.onnx", onnx_means()), contract="arcface").embed_crops(crops)
    for name, data in {
        "one": onnx_means((1, 3, 112, 112)),
        "five": onnx_means((5, 3, 112, 112)),
        "last": onnx_means(("n", 112, 112, 3)),
        "half": onnx_means((4, 112, 112, 3), half=True),
    }.items():
        made = load_recognizer(written(tmp_path / f"{name}.onnx", data), contract="arcface")
        got = made.embed_crops(crops)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=1e-3 if name == "half" else 1e-5)
    assert made.contract.layout == "NHWC" and made.describe().contract["layout"] == "NHWC"


def test_two_contracts_of_the_same_weights_are_two_recognizers(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    written(file, onnx_means())
    rgb, bgr = (load_recognizer(str(file), contract=name).describe() for name in ("arcface", "adaface"))
    assert rgb.contract_sha256 != bgr.contract_sha256 and rgb.weights_sha256 == bgr.weights_sha256
    # A JSON file that says the same is the same.
    as_file = tmp_path / "same.json"
    as_file.write_text(
        json.dumps({"crop": "arcface", "channels": "RGB", "mean": 127.5, "scale": [127.5] * 3, "size": 112})
    )
    assert load_recognizer(str(file), contract=as_file).describe().contract_sha256 == rgb.contract_sha256
    with pytest.raises(BadInput, match=r"takes pictures otherwise .*channel"):
        require_same_recognizer(rgb, bgr, "it")
    about = {"scheme": "rotation", "key_id": "0" * 16}
    protected = [protected_recognizer(each, about, 48, "cosine").weights_sha256 for each in (rgb, bgr)]
    assert len({*protected}) == 2


def test_a_recorded_contract_has_to_be_the_one_that_was_hashed(tmp_path: Path) -> None:
    file = keep(tmp_path / "m.onnx", onnx_means(("n", 3, 32, 32)))
    draw_people(tmp_path / "emb", tmp_path / "faces", "onnx:mine", file, people=2)
    held = Store.open(tmp_path / "emb").recognizer
    assert load_recognizer(held, file).describe() == held
    value = held.as_json()
    changed = RecognizerId.from_json("x", value | {"contract": value["contract"] | {"channels": "BGR"}})
    with pytest.raises(BadInput, match="its contract is not the one of its contract_sha256; make the store again"):
        load_recognizer(changed, file)
    old = RecognizerId.from_json("x", {key: each for key, each in value.items() if key != "contract_sha256"})
    assert load_recognizer(old, file).describe().contract == held.contract
    require_same_recognizer(old, held, "it")


@pytest.fixture
def people(photos: Path, tmp_path: Path) -> Path:
    """Two people, three photographs each: as it is, turned a little, and darker."""
    return Path(shutil.copytree(photos, tmp_path / "people"))


def checked(*words: object) -> tuple[int, str, dict]:
    """Exit code, error, and figures of `models --check`."""
    told = CliRunner().invoke(app, ["models", "--json", "--device", "cpu", "--check", *map(str, words)])
    answer = json.loads(told.stdout)
    assert answer["ok"] == (told.exit_code == 0)
    return told.exit_code, answer.get("error", ""), answer.get("metrics", {})


def test_a_check_finds_the_preset_under_which_people_are_told_apart(people: Path, tmp_path: Path) -> None:
    # The direction of the pictures themselves does not change where they are darker; less a mean, it does.
    file = written(tmp_path / "net.onnx", onnx_means(cells=8))
    code, _, metrics = checked(file, people)
    assert code == 0 and metrics["best"] == "sface" and metrics["given"] is None and metrics["fine"]
    assert metrics["rows"][0]["contract"] == "sface" and len(metrics["rows"]) == 3
    assert (metrics["people"], metrics["images"], metrics["mated"], metrics["non_mated"]) == (2, 6, 6, 9)
    code, _, metrics = checked(file, people, "--spec", "sface")
    assert code == 0 and metrics["given"] == "sface" and metrics["better"] is None
    code, error, metrics = checked(file, people, "--spec", "insightface")
    assert code == 5 and not metrics["fine"] and metrics["better"] == "sface" and metrics["given"] == "insightface"
    assert "mated pairs do not score above non-mated ones" in error and "6 mated and 9 non-mated pairs" in error
    assert error.endswith("sface does better: say --spec sface")
    shown = CliRunner().invoke(app, ["models", "--check", file, str(people), "-q"])
    assert shown.exit_code == 0 and "say --spec sface" in shown.stdout and "AUC" in shown.stdout.splitlines()[0]
    # A file beside the model is the contract that is judged; presets that do not fit it are not tried.
    beside = keep(tmp_path / "own.onnx", onnx_means(("n", 3, 32, 32)), crop="arcface", mean=0, scale=1, score=None)
    code, _, metrics = checked(beside, people)
    assert code == 0 and metrics["given"] == f"{beside}.json" and len(metrics["rows"]) == 1
    code, _, metrics = checked("dlib-resnet", people)
    assert metrics["given"] == "dlib-resnet" and metrics["mated"] == 6


def test_a_check_takes_crops_and_landmarks_as_extract_does(people: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "net.onnx", onnx_means(cells=8))
    listed = [",".join(["path", *COLUMNS])]
    detector = FaceDetector()
    for path in sorted(people.rglob("*.png")):
        picture, _ = read_image(path)
        ((_, face),) = detector.find([picture], [None])
        assert not isinstance(face, str)
        numbers = ",".join(f"{number:.3f}" for number in face.landmarks.ravel())
        listed.append(f"{path.relative_to(people).as_posix()},{numbers}")
        (tmp_path / "crops" / path.parent.name).mkdir(parents=True, exist_ok=True)
        how = REGISTRY["edgeface-xxs"].crop
        save_image(tmp_path / "crops" / path.parent.name / path.name, align.crop(picture, face, how))
    points = tmp_path / "points.csv"
    points.write_text("\n".join(listed))
    found = checked(file, people)
    for words in ((tmp_path / "crops", "--crop", "aligned"), (people, "--landmarks", points)):
        code, _, metrics = checked(file, *words)
        assert code == 0 and metrics["best"] == "sface" and metrics["images"] == 6
        for mine, theirs in zip(metrics["rows"], found[2]["rows"], strict=True):
            assert mine["d_prime"] == pytest.approx(theirs["d_prime"], rel=0.05, abs=0.02)
    code, error, _ = checked("dlib-resnet", people, "--crop", "box", "--landmarks", points)
    assert code == 2 and "give one of them" in error


def test_a_script_is_tried_under_the_presets_that_it_runs_with(people: Path, tmp_path: Path) -> None:
    net = nn.Sequential(nn.AvgPool2d(14), nn.Flatten(), nn.Linear(192, 192))
    nn.init.eye_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    code, _, metrics = checked(written(tmp_path / "net.pt", scripted(net)), people)
    assert code == 0 and {row["contract"] for row in metrics["rows"]} == {"arcface", "adaface", "sface"}


def test_a_check_needs_pairs(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "net.onnx", onnx_means())
    for words, code, said in [
        ([file], 2, "name the images"),
        ([file, people / "Eileen"], 4, "Eileen: no person's folder; give a folder with a subfolder for each"),
        ([file, tmp_path / "none"], 4, "no such file or folder"),
        ([file, people, "--download", "dlib-resnet"], 2, "give --download and --offline in a call of their own"),
        ([file, people, "--spec", "facenet"], 4, "of the presets it fits arcface, adaface, sface"),
        ([written(tmp_path / "small.onnx", onnx_means((1, 3, 64, 64))), people], 4, "no preset fits"),
        (["nobody", people], 2, "no recognizer is called 'nobody'"),
        (["none.onnx", people], 4, "none.onnx: no such file"),
    ]:
        assert (found := checked(*words))[0] == code and said in found[1], found
    for name in ("Eileen_0002.png", "Eileen_0003.png"):
        (people / "Eileen" / name).unlink()
    for name in ("Mirror_0002.png", "Mirror_0003.png"):
        (people / "Mirror" / name).unlink()
    assert "nobody has two images" in checked(file, people)[1]
    (people / "Mirror" / "Mirror_0001.png").rename(people / "Eileen" / "x.png")
    (people / "Mirror").rmdir()
    assert "one person only" in checked(file, people, "--spec", "arcface")[1]
    (people / "B").mkdir()
    (people / "B" / "1.png").write_bytes((people / "Eileen" / "x.png").read_bytes())
    monkeypatch.setattr(
        FaceDetector, "find", lambda _, images, paths: ((i, "no face found") for i in range(len(images)))
    )
    code, error, _ = checked(file, people, "--spec", "arcface")
    assert code == 4 and "0 of 3 images give a face" in error and "--crop aligned" in error
    told = CliRunner().invoke(app, ["models", "--spec", "arcface"])
    assert told.exit_code == 2 and "go with --check MODEL" in told.stderr


def test_the_recognizer_of_others_is_told_from_a_wrong_contract(lfw: Path, shared: Path, tmp_path: Path) -> None:
    file = shared / "weights" / OPENVINO
    if not file.is_file():
        pytest.skip(f"needs {file}, which is not there")
    pytest.importorskip("onnxruntime")
    names = ("Abdullah_Gul", "Adrien_Brody", "Al_Gore", "Alejandro_Toledo", "Ali_Naimi", "Andre_Agassi")
    images = [lfw / "images" / name for name in names]
    for name in images:
        (tmp_path / "lfw" / name.name).mkdir(parents=True)
        for image in sorted(name.iterdir())[:3]:
            shutil.copy(image, tmp_path / "lfw" / name.name)
    code, _, metrics = checked(file, tmp_path / "lfw", "--spec", "openvino-retail-0095")
    assert code == 0 and metrics["rows"][0]["auc"] == 1 and metrics["people"] == 6 and metrics["mated"] == 18
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"preset": "openvino-retail-0095", "mean": 127.5, "scale": 127.5}))
    code, error, metrics = checked(file, tmp_path / "lfw", "--spec", wrong)
    assert code == 5 and metrics["better"] == "openvino-retail-0095" and f"under {wrong}" in error


def test_what_presets_hold_are_contracts() -> None:
    for name in PRESET_NAMES:
        contract = read_contract(Path("net.onnx"), name)
        assert contract.size is not None and contract.describe().get("preset") is None
    with pytest.raises(FacedecodeError):
        read_contract(Path("net.onnx"), "Arcface")
