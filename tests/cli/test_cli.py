"""The program as a user meets it: the three lines, exit codes, one line an error, one object on stdout."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from facedecode import __version__, files
from facedecode.cli import app
from facedecode.decoders import Provenance, save_decoder
from facedecode.decoders.closed_form import Ridge
from facedecode.errors import FacedecodeWarning
from facedecode.files import locked, write_json
from facedecode.recognizers import load_recognizer
from facedecode.store import Store

COMMANDS = [
    [name] for name in ("extract", "train", "invert", "fit-confidence", "fit-mapping", "transform", "attack", "models")
]
COMMANDS += [
    ["evaluate", *name]
    for name in ([], ["verification"], ["reconstruction"], ["security"], ["protection"], ["equivariance"])
]
# Few pictures do not determine a map, which is said as a warning; the tests turn warnings into errors.
few_pairs = pytest.mark.filterwarnings("default::facedecode.errors.FacedecodeWarning")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def program(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "facedecode", *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shipped decoders that holds a ridge decoder of random pictures for dlib-resnet."""
    rng = np.random.default_rng(0)
    templates = torch.from_numpy(rng.normal(0, 0.1, (200, 128)).astype(np.float32))
    portraits = torch.from_numpy(rng.integers(60, 200, (200, 3, 64, 64), np.uint8))
    folder = tmp_path_factory.mktemp("weights")
    provenance = Provenance(load_recognizer().describe())
    save_decoder(folder / "dlib-resnet", "ridge", Ridge(128, 64).fit(templates, portraits), provenance)
    return folder


@pytest.fixture
def here(photos: Path, photo_store: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `lfw` (images), `emb` (their store) and `x.npy` (one of its templates)."""
    shutil.copytree(photos, tmp_path / "lfw")
    shutil.copytree(photo_store, tmp_path / "emb")
    manifest = json.loads((tmp_path / "emb" / "manifest.json").read_text())
    write_json(tmp_path / "emb" / "manifest.json", manifest | {"root": str((tmp_path / "lfw").resolve())})
    np.save(tmp_path / "x.npy", Store.open(photo_store).templates()[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "SHIPPED", shipped)
    return tmp_path


# ---------------------------------------------------------------- the three lines


@few_pairs
def test_the_three_lines_as_written(photos: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(photos, tmp_path / "lfw")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "SHIPPED", shipped)
    done = call("extract", "lfw/", "-o", "emb/")
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert "emb: 6 templates of dlib-resnet, 0 failed" in done.stderr
    np.save("emb/x.npy", Store.open("emb").templates()[0])
    done = call("invert", "emb/x.npy", "-o", "rec.png")
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert "emb/x.npy: recognizer dlib-resnet taken from emb/manifest.json" in done.stderr
    assert "score against the template" in done.stderr
    assert Image.open("rec.png").size == (64, 64)
    done = CliRunner().invoke(app, ["fit-mapping", "--transform", "rotate30"])
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert Path("mappings/rotate30.safetensors").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["emb", "lfw", "mappings", "rec.png"]
    # With the map, a template of the turned picture is drawn nearly as the upright one.
    assert call("extract", "lfw", "-o", "turned", "--transform", "rotate30", "--quiet").exit_code == 0
    done = call("invert", "turned", "-o", "out", "--mapping", "mappings/rotate30.safetensors")
    assert done.exit_code == 0, done.stderr
    assert len(list(Path("out").glob("*.png"))) == 6 and Path("out/scores.csv").is_file()


def test_the_decoder_that_ships(photos: Path, tmp_path: Path, photo_store: Path) -> None:
    if not (files.SHIPPED / "dlib-resnet" / "decoder.json").is_file():
        pytest.skip("no decoder ships yet")
    done = call("invert", photo_store, "-o", tmp_path / "rec.png", "--originals", "--json")
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["count"] == 6 and min(metrics["scores"]) > -0.6  # dlib's own threshold for one person


# ---------------------------------------------------------------- what every command does


def test_version() -> None:
    done = program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_says_something(command: list[str]) -> None:
    done = call(*command, "--help")
    assert done.exit_code == 0 and "Usage" in done.stdout


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom facedecode.cli import app\n"
        f"for command in {[[], *COMMANDS]!r}:\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0, command\n"
        "heavy = ['torch', 'torchvision', 'sklearn', 'matplotlib', 'numpy', 'PIL', 'pyarrow', 'facenet_pytorch']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_json_prints_one_object(here: Path) -> None:
    answers = {
        "extract": call("extract", "lfw", "-o", "emb", "--json"),
        "invert": call("invert", "x.npy", "-o", "rec.png", "--json"),
        "train": call("train", "emb", "-o", "ridge", "--architecture", "ridge", "--image-size", "64", "--json"),
    }
    for name, done in answers.items():
        assert done.exit_code == 0, done.stderr
        answer = json.loads(done.stdout)
        assert done.stdout.count("\n") == 1
        assert set(answer) == {"schema_version", "command", "ok", "metrics", "outputs"}
        assert (answer["schema_version"], answer["command"], answer["ok"]) == (1, name, True)
    assert json.loads(answers["extract"].stdout)["metrics"] == {"count": 6, "failed": 0}
    assert json.loads(answers["invert"].stdout)["outputs"] == {"output": "rec.png"}


def test_where_no_decoder_ships_it_says_how_to_get_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", here / "none")
    done = call("invert", "x.npy", "-o", "rec.png")
    assert done.exit_code == 3
    assert "no decoder comes with facedecode for templates of dlib-resnet: train one" in done.stderr


def test_quiet_says_nothing(here: Path) -> None:
    done = call("invert", "x.npy", "-o", "rec.png", "--quiet")
    assert (done.exit_code, done.output) == (0, "")


def test_verification_of_a_store(here: Path) -> None:
    Path("pairs.txt").write_text("2\nEileen\t1\t2\nMirror\t1\t3\nEileen\t1\tMirror\t1\nEileen\t2\tMirror\t3\n")
    # LFW's names end in .jpg.
    for path in Path("lfw").glob("*/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    assert call("extract", "lfw", "-o", "jpg", "--quiet").exit_code == 0
    done = call("evaluate", "verification", "jpg", "--pairs", "pairs.txt", "--far", "0.5", "--json")
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["counts"]["mated"], metrics["counts"]["non_mated"]) == (2, 2)
    assert (metrics["failure_to_acquire"]["value"], metrics["failure_to_acquire"]["n"]) == (0, 4)
    assert {"value", "low", "high"} <= metrics["eer"].keys() and "0.5" in metrics["tar_at_far"]
    for fmr in ("0", "0.001", "2"):
        done = call("evaluate", "verification", "jpg", "--pairs", "pairs.txt", "--far", fmr)
        assert done.exit_code in (2, 4) and done.stderr.splitlines()[-1].startswith("error: "), done.stderr


def test_strict_is_exit_code_5(here: Path) -> None:
    Path("lfw/Eileen/text.jpg").write_text("no picture")
    done = call("extract", "lfw", "-o", "all", "--strict", "--json")
    assert done.exit_code == 5
    assert "1 images gave no template (the first: Eileen/text.jpg: not an image" in done.stderr
    assert json.loads(done.stdout)["ok"] is False
    assert len(Store.open("all")) == 6  # the store is whole all the same
    assert call("extract", "lfw", "-o", "all", "--strict").exit_code == 5  # said again
    assert call("extract", "lfw", "-o", "all").exit_code == 0


def test_an_output_in_use_is_exit_code_6(here: Path) -> None:
    for folder, arguments in (
        ("emb", ["extract", "lfw", "-o", "emb"]),
        ("decoder", ["train", "emb", "-o", "decoder", "--architecture", "ridge"]),
    ):
        Path(folder).mkdir(exist_ok=True)
        with locked(folder):
            done = call(*arguments)
        assert done.exit_code == 6 and f"{folder} is in use by another run" in done.stderr


def test_no_scores_without_the_recognizers_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.recognizers.spec.find_spec", lambda name: None)
    done = call("invert", "x.npy", "-o", "rec.png", "--json")
    assert done.exit_code == 0 and "no scores: dlib-resnet: no weights" in done.stderr
    assert json.loads(done.stdout)["metrics"] == {"count": 1, "unusual": 0}


# ---------------------------------------------------------------- what goes wrong


def prepare(here: Path) -> None:
    """Every kind of bad input, in the working folder."""
    template = np.load("x.npy")
    Path("empty").mkdir()
    Path("text").mkdir()
    Path("text/a.jpg").write_text("no picture")
    Path("cut").mkdir()
    Image.new("RGB", (400, 400), "red").save("cut/a.jpg")
    Path("cut/a.jpg").write_bytes(Path("cut/a.jpg").read_bytes()[:900])
    np.save("nan.npy", np.where(np.arange(128) == 5, np.nan, template))
    np.save("long.npy", np.zeros(512, np.float32))
    np.save("whole.npy", np.zeros((2, 128), np.int64))
    np.save("cube.npy", np.zeros((2, 2, 128), np.float32))
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    Path("pickle.npy").write_bytes(pickle.dumps(template))
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-10])
    Path("void.npy").write_bytes(b"")
    Path("file").write_text("mine")
    Path("mine.png").write_text("mine")
    Path("full").mkdir()
    Path("full/note.txt").write_text("mine")
    Path("map.safetensors").write_text("no map")
    Path("pairs.txt").write_text("1\nNobody\t1\t2\nNobody\t1\tSomeone\t1\n")
    Path("garbage.txt").write_text("<html>")
    Path("weights.dat").write_text("version https://git-lfs.github.com/spec/v1\n")
    shutil.copytree("emb", "other")
    manifest = json.loads(Path("other/manifest.json").read_text())
    manifest["recognizer"]["weights_sha256"] = "0" * 64
    Path("other/manifest.json").write_text(json.dumps(manifest))
    shutil.copytree("emb", "changed")
    data = bytearray(Path("changed/00000.npy").read_bytes())
    data[-1] ^= 1
    Path("changed/00000.npy").write_bytes(data)


# arguments, exit code, what the line names and says
ERRORS = {
    "no such folder": (["extract", "missing", "-o", "new"], 4, "missing: no such file or folder"),
    "empty folder": (["extract", "empty", "-o", "new"], 4, "empty: no image in this folder"),
    "text as jpg": (["extract", "text", "-o", "new"], 4, "no usable input (1 failed; the first, a.jpg: not an image"),
    "truncated jpg": (["extract", "cut", "-o", "new"], 4, "the first, a.jpg: "),
    "unknown model": (["extract", "lfw", "-o", "new", "--model", "vgg17"], 2, "known: dlib-resnet"),
    "no weights": (["extract", "lfw", "-o", "new", "--model", "edgeface-xxs"], 3, "pass edgeface_xxs"),
    "missing weights": (["extract", "lfw", "-o", "new", "--weights", "nowhere"], 3, "nowhere: no such weights file"),
    "lfs weights": (["extract", "lfw", "-o", "new", "--weights", "weights.dat"], 4, "weights.dat: "),
    "unknown transform": (["extract", "lfw", "-o", "new", "--transform", "spin"], 2, "unknown transform 'spin'"),
    "unknown device": (["extract", "lfw", "-o", "new", "--device", "tpu9"], 2, "--device tpu9"),
    "absent device": (["extract", "lfw", "-o", "new", "--device", "cuda:99"], 2, "--device cuda:99"),
    "preview name": (
        ["extract", "lfw", "-o", "new", "--preview", "grid.jpg"],
        4,
        "grid.jpg: the preview is written as",
    ),
    "preview there": (["extract", "lfw", "-o", "new", "--preview", "mine.png"], 4, "mine.png: another file is there"),
    "precision": (["extract", "lfw", "-o", "new", "--precision", "fp8"], 2, "--precision fp8: use fp32 or bf16"),
    "foreign folder": (["extract", "lfw", "-o", "full"], 4, "full has files (note.txt"),
    "output is a file": (["extract", "lfw", "-o", "file"], 4, "folder file"),
    "output below a file": (["extract", "lfw", "-o", "file/emb"], 4, "file/emb"),
    "output is a device": (["extract", "lfw", "-o", "/dev/null"], 4, "/dev/null"),
    "other settings": (["extract", "lfw", "-o", "emb", "--transform", "rotate30"], 4, "emb was made with other"),
    "damaged store there": (["extract", "lfw", "-o", "changed"], 4, "changed/00000.npy: wrong sha256"),
    "inside a store": (["extract", "lfw", "-o", "emb/new"], 4, "emb/new lies in the store"),
    "no such store": (["invert", "missing", "-o", "rec.png"], 4, "missing: no such folder"),
    "no store": (["invert", "empty", "-o", "rec.png"], 4, "empty: not an embedding store"),
    "NaN": (["invert", "nan.npy", "-o", "rec.png"], 4, "nan.npy: row 0 holds NaN"),
    "wrong size": (["invert", "long.npy", "-o", "rec.png"], 4, "long.npy: templates of 512 numbers"),
    "integers": (["invert", "whole.npy", "-o", "rec.png"], 4, "whole.npy: dtype int64"),
    "three axes": (["invert", "cube.npy", "-o", "rec.png"], 4, "cube.npy: shape (2, 2, 128)"),
    "object array": (["invert", "objects.npy", "-o", "rec.png"], 4, "objects.npy: an array of Python objects"),
    "pickle": (["invert", "pickle.npy", "-o", "rec.png"], 4, "pickle.npy: not a .npy file"),
    "truncated npy": (["invert", "cut.npy", "-o", "rec.png"], 4, "cut.npy: truncated"),
    "empty npy": (["invert", "void.npy", "-o", "rec.png"], 4, "void.npy: not a .npy file"),
    "other recognizer": (["invert", "other", "-o", "rec.png"], 4, "dlib-resnet (weights sha256 000000000000)"),
    "other model": (["invert", "emb", "-o", "rec.png", "--model", "edgeface-xxs"], 4, "says dlib-resnet, not edgeface"),
    "changed store": (["invert", "changed", "-o", "rec.png"], 4, "changed/00000.npy: wrong sha256"),
    "no decoder": (["invert", "x.npy", "-o", "rec.png", "--decoder", "gone"], 3, "no decoder 'gone': looked for gone/"),
    "no mapping": (["invert", "x.npy", "-o", "rec.png", "--mapping", "gone"], 4, "gone: no such mapping"),
    "bad mapping": (["invert", "x.npy", "-o", "rec.png", "--mapping", "map.safetensors"], 4, "map.safetensors: "),
    "no confidence": (["invert", "x.npy", "-o", "rec.png", "--confidence", "gone"], 4, "gone: no such confidence map"),
    "bad confidence": (["invert", "x.npy", "-o", "rec.png", "--confidence", "map.safetensors"], 4, "map.safetensors: "),
    "picture there": (["invert", "x.npy", "-o", "mine.png"], 4, "mine.png: is there already; use --overwrite"),
    "jpg output": (["invert", "x.npy", "-o", "rec.jpg"], 2, "-o rec.jpg: pictures are written as PNG"),
    "folder there": (["invert", "x.npy", "-o", "full"], 4, "full: is there already; use --overwrite"),
    "folder is a file": (["invert", "x.npy", "-o", "file"], 4, "the folder file: a file of that name is in the way"),
    "null output": (["invert", "x.npy", "-o", "/dev/null"], 4, "the folder /dev/null: a file of that name"),
    "null, overwritten": (
        ["invert", "x.npy", "-o", "/dev/null", "--overwrite"],
        4,
        "the folder /dev/null: a file of that name",
    ),
    "picture below a file": (["invert", "x.npy", "-o", "file/rec.png"], 4, "cannot write file/rec.png"),
    "picture in no folder": (["invert", "x.npy", "-o", "gone/rec.png"], 4, "cannot write gone/rec.png"),
    "originals of a file": (["invert", "x.npy", "-o", "rec.png", "--originals"], 4, "x.npy: --originals needs"),
    "no emb": (["fit-mapping", "--transform", "rotate30", "--embeddings", "gone"], 4, "gone: no such folder"),
    "nothing to map": (["fit-mapping"], 2, "give one of --transform, --perturbed and --from-sums"),
    "no perturbed store": (["fit-mapping", "--perturbed", "gone"], 4, "gone: no such folder"),
    "not perturbed": (["fit-mapping", "--perturbed", "emb"], 4, "emb: its faces are not perturbed"),
    "no sums": (["fit-mapping", "--from-sums", "gone"], 4, "gone: no such mapping-sums file"),
    "bad sums": (["fit-mapping", "--from-sums", "map.safetensors"], 4, "map.safetensors: not a readable safetensors"),
    "no group": (["fit-mapping", "--transform", "all-of-it"], 2, "unknown transform 'all-of-it'"),
    "other weights": (["fit-mapping", "--transform", "rotate30", "--embeddings", "other"], 4, "weights sha256 0000"),
    "map below a file": (["fit-mapping", "--transform", "rotate30", "-o", "file/m"], 4, "file/m"),
    "images moved": (["fit-mapping", "--transform", "rotate30", "--images", "empty"], 4, "empty: 6 of 6 images"),
    "unknown people": (["fit-confidence", "emb", "-o", "c.safetensors"], 4, "does not record the people"),
    "no decoder to fit": (
        ["fit-confidence", "emb", "-o", "c.safetensors", "--decoder", "gone"],
        3,
        "no decoder 'gone'",
    ),
    "no training store": (["train", "gone", "-o", "new"], 4, "gone: no such folder"),
    "architecture": (["train", "emb", "-o", "new", "--architecture", "gan"], 2, "no decoder is called 'gan'"),
    "picture size": (["train", "emb", "-o", "new", "--image-size", "100"], 2, "image size 100"),
    "closed form's seed": (
        ["train", "emb", "-o", "new", "--architecture", "ridge", "--seed", "7"],
        2,
        "--seed does not go with --architecture ridge",
    ),
    "width": (["train", "emb", "-o", "new", "--width", "2"], 2, "more than 0 and at most 1"),
    "held-out share": (["train", "emb", "-o", "new", "--validation", "1"], 2, "share of 1"),
    "too few": (["train", "emb", "-o", "new", "--image-size", "64"], 4, "do not fill one batch of 32"),
    "people file": (["train", "emb", "-o", "new", "--people", "garbage.txt"], 4, "garbage.txt"),
    "training output": (["train", "emb", "-o", "emb"], 4, "emb is an embedding store"),
    "training file": (["train", "emb", "-o", "file", "--batch-size", "2"], 4, "folder file"),
    "pairs elsewhere": (["evaluate", "verification", "emb", "--pairs", "pairs.txt"], 4, "not in the store"),
    "no pairs": (["evaluate", "verification", "emb", "--pairs", "garbage.txt"], 4, "garbage.txt: no column says"),
    "no pairs file": (["evaluate", "verification", "emb", "--pairs", "gone.txt"], 4, "gone.txt: no such file"),
}


def test_every_error_is_one_line_and_changes_nothing(here: Path) -> None:
    prepare(here)
    before = content(here)
    for name, (arguments, code, says) in ERRORS.items():
        done = call(*arguments, "--json")
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.exit_code == code, (name, done.stderr)
        assert len(told) == 1 and says in told[0], (name, done.stderr)
        assert done.stderr.endswith(f"{told[0]}\n") and "Traceback" not in done.stderr, name
        answer = json.loads(done.stdout)
        assert (answer["ok"], answer["exit_code"]) == (False, code), name
        assert f"error: {answer['error']}" == told[0], name
        for made in ("new", "mappings"):  # empty, at most
            if Path(made).is_dir():
                Path(made).rmdir()
        after = content(here)
        assert after == before, (name, set(after) ^ set(before))


def test_errors_without_json_leave_stdout_empty(here: Path) -> None:
    done = call("invert", "missing.npy", "-o", "rec.png")
    assert (done.exit_code, done.stdout, done.stderr) == (4, "", "error: missing.npy: no such file; check the path\n")


def test_a_store_of_turned_faces_is_no_ground_for_a_map(here: Path) -> None:
    assert call("extract", "lfw", "-o", "turned", "--transform", "rotate30", "--quiet").exit_code == 0
    done = call("fit-mapping", "--transform", "rotate30", "--embeddings", "turned")
    assert done.exit_code == 4 and "turned: templates of perturbed faces" in done.stderr


@few_pairs
def test_a_full_disk_is_one_line_and_changes_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.png").write_text("mine")
    before = content(here)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for arguments in (
        ["extract", "lfw", "-o", "new"],
        ["extract", "lfw", "-o", "emb", "--overwrite"],
        ["invert", "x.npy", "-o", "mine.png", "--overwrite"],
        ["invert", "x.npy", "-o", "out"],
        ["fit-mapping", "--transform", "rotate30"],
        ["train", "emb", "-o", "out", "--architecture", "mean-face", "--image-size", "64"],
    ):
        done = call(*arguments)
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.exit_code == 4 and done.stdout == "", (arguments, done.stderr)
        assert len(told) == 1 and "No space left on device" in told[0], done.stderr
        for made in ("new", "out", "mappings"):  # empty, at most
            if Path(made).is_dir():
                Path(made).rmdir()
        assert content(here) == before, arguments


def test_unwritable_places(here: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, where nobody can write")
    for arguments in (
        ["extract", "lfw", "-o", "/proc/emb"],
        ["invert", "x.npy", "-o", "/proc/rec.png"],
        ["invert", "x.npy", "-o", "/proc/out"],
        ["train", "emb", "-o", "/proc/decoder", "--architecture", "mean-face"],
    ):
        done = call(*arguments)
        assert done.exit_code == 4 and done.stderr.splitlines()[-1].startswith("error: "), done.stderr
        assert arguments[-1] in done.stderr or arguments[3] in done.stderr


def test_a_bug_is_exit_code_1(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("oops [x]\nsecond line")

    monkeypatch.setattr("facedecode.inversion.inputs.read_inputs", broken)
    done = call("invert", "x.npy", "-o", "rec.png", "--json")
    line = "a bug in facedecode: ZeroDivisionError: oops [x] second line (run again with --debug)"
    assert (done.exit_code, done.stderr) == (1, f"error: {line}\n")
    assert json.loads(done.stdout)["error"] == line
    done = call("invert", "x.npy", "-o", "rec.png", "--debug")
    assert done.exit_code == 1 and "Traceback" in done.stderr and done.stderr.endswith(f"error: {line}\n")


def test_warnings_are_one_line_on_stderr(here: Path, recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    shutil.copy("x.npy", "emb/x.npy")
    with warnings.catch_warnings():
        warnings.simplefilter("default", FacedecodeWarning)
        done = call("invert", "emb", "-o", "rec.png", "--json")
    assert done.exit_code == 0, done.stderr
    assert "warning: not part of the store and ignored: emb/x.npy\n" in done.stderr
    assert json.loads(done.stdout)["metrics"]["count"] == 6


# ---------------------------------------------------------------- as a process


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["extract", "--json"], 2),
        (["extract", "lfw", "-o", "emb", "--batch-size", "many", "--json"], 2),
        (["nonsense", "--json"], 2),
        (["fit-mapping", "--transform", "spin", "--json"], 2),
    ],
)
def test_wrong_usage_prints_one_object_too(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = program(*arguments, cwd=tmp_path)
    assert done.returncode == code and done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is False and answer["exit_code"] == done.returncode
    assert "Traceback" not in done.stderr


def test_wrong_usage_without_json_leaves_stdout_empty(tmp_path: Path) -> None:
    done = program("extract", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_a_run_cleanly(photos: Path, tmp_path: Path, number: int, code: int, word: str) -> None:
    (tmp_path / "many").mkdir()
    for i in range(600):
        os.link(sorted(photos.glob("*/*.png"))[i % 6], tmp_path / "many" / f"{i:04d}.png")
    arguments = ["extract", "many", "-o", "emb", "--batch-size", "1", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "facedecode", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not (tmp_path / "emb" / ".lock").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, stderr
    assert stderr.splitlines()[-1].startswith(f"error: {word}") and "Traceback" not in stderr
    assert json.loads(stdout)["exit_code"] == code
    assert not list((tmp_path / "emb").glob("*")) or not (tmp_path / "emb" / "manifest.json").exists()
    assert not (tmp_path / "emb" / ".lock").exists()
