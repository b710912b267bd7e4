"""A stranger's folder: a model and crops of people, and four commands to a report on how its templates invert."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from facedecode.annotations.protocols import people_names
from facedecode.cli import app
from facedecode.errors import BadInput
from facedecode.store import Store, StoreWriter
from facedecode.templates.jobs import SplitJob
from facedecode.templates.splitting import split_people

DOCS = Path(__file__).resolve().parents[1] / "docs"
PEOPLE, EACH = 40, 5


def four_commands() -> list[list[str]]:
    """The commands as docs/own-models.md has them."""
    section = (DOCS / "own-models.md").read_text(encoding="utf-8").partition("## From a folder to a report")[2]
    block = re.split(r"\n\n(?! {4})", section.partition("\n\n    ")[2])[0]
    lines = [line.partition("  #")[0] for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines]


def onnx_recognizer(path: Path) -> None:
    """112 px, 7 x 7 local means of each channel, projected to 48 numbers."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h = onnx.helper
    weight = np.random.default_rng(0).normal(size=(3 * 49, 48)).astype(np.float32)
    graph = h.make_graph(
        [
            h.make_node("AveragePool", ["x"], ["p"], kernel_shape=[16, 16], strides=[16, 16]),
            h.make_node("Flatten", ["p"], ["f"]),
            h.make_node("MatMul", ["f", "w"], ["template"]),
        ],
        "g",
        [h.make_tensor_value_info("x", 1, ["n", 3, 112, 112])],
        [h.make_tensor_value_info("template", 1, ["n", 48])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path.write_bytes(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString())


def draw_crops(folder: Path) -> None:
    """Smooth pictures of 112 px, one look a person, in which no detector sees a face."""
    rng = np.random.default_rng(1)
    for person in range(PEOPLE):
        look = rng.uniform(0, 255, (6, 6, 3))
        (folder / f"person {person:02d}").mkdir(parents=True)
        for number in range(EACH):
            noisy = np.clip(look + rng.normal(0, 12, look.shape), 0, 255).astype(np.uint8)
            picture = Image.fromarray(noisy).resize((112, 112), Image.Resampling.BICUBIC)
            picture.save(folder / f"person {person:02d}" / f"{number}.png")


def run(words: list[str]) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_four_commands_lead_from_a_folder_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx_recognizer(Path("net.onnx"))
    draw_crops(Path("crops"))
    commands = four_commands()
    assert [words[0] for words in commands] == ["extract", "split", "train", "evaluate"]
    extracted, split, _, evaluated = [run(words) for words in commands]
    assert extracted["metrics"] == {"count": PEOPLE * EACH, "failed": 0} and "notes" not in extracted
    sides = split["metrics"]
    assert sides["train"] + sides["test"] == PEOPLE and sides["mated"] == sides["test"] > PEOPLE / 4
    report = json.loads(Path("report/report.json").read_text())
    assert Path("report/report.html").exists() and evaluated["outputs"]
    # The templates tell all of such pictures: a decoder that was trained on other people draws them.
    assert report["metrics"]["attacks"]["decoder"]["onnx:net"]["type_two"]["people"]["0.001"]["value"] > 0.9
    # Which preset was right, the same crops tell: with a wrong mean, all means are alike.
    checked = run(["models", "--check", "net.onnx", "crops", "--crop", "aligned"])["metrics"]
    assert checked["images"] == 3 * PEOPLE and checked["fine"] and checked["faceless"] == 0
    done = CliRunner().invoke(app, ["models", "--check", "net.onnx", "crops"])
    assert done.exit_code == 4 and "0 of 120 images give a face" in done.stderr and "--crop aligned" in done.stderr
    # Weights without a name are known by their content, and others are refused.
    Path("other.onnx").write_bytes(Path("net.onnx").read_bytes() + b" ")
    commands[-1][commands[-1].index("net.onnx")] = "other.onnx"
    done = CliRunner().invoke(app, [*commands[-1], "--overwrite"])
    assert done.exit_code == 2 and "other.onnx: no store is of that recognizer" in done.stderr


# ---------------------------------------------------------------- who is trained on, and who is tested on


def store_of(folder: Path, identities: list[str | None]) -> Path:
    """A store of templates with these people."""
    from facedecode.recognizers import REGISTRY

    rows = [{"path": f"{k}.png", "identity": name} for k, name in enumerate(identities)]
    with StoreWriter(folder, {}, folder.parent, REGISTRY["dlib-resnet"].describe(None), manifest=MANIFEST) as writer:
        writer.append(np.ones((len(rows), 128), np.float32), rows, [], len(rows))
        writer.finish()
    return folder


MANIFEST = {"score": "negative-euclidean", "transform": None, "precision": "fp32", "l2_normalized": False}


def sides(job: SplitJob) -> tuple[set[str], set[str]]:
    split_people(job)
    both = [set(people_names(job.output / name)) for name in ("train.csv", "test.csv")]
    return both[0], both[1]


def test_everybody_is_on_one_side_and_stays_there(tmp_path: Path) -> None:
    # Names that tables and spreadsheets take for something else: numbers, formulas, separators, quotes.
    names = ["7", "8", "=1+1", "-3", 'Lee, "Ann"', "Ann 3", "Zoë; Ray", *(f"P{k}" for k in range(20))]
    few = store_of(tmp_path / "few", [*names, *names, None])
    train, test = sides(SplitJob(few, tmp_path / "a"))
    assert train | test == set(names) and not train & test and min(len(train), len(test)) > 5
    again, more = sides(SplitJob(store_of(tmp_path / "more", [*names, *(f"Q{k}" for k in range(20))]), tmp_path / "b"))
    assert train < again and test < more
    fewer = sides(SplitJob(few, tmp_path / "c", test_share=0.2))
    assert fewer[1] < test
    counts = list(csv.DictReader((tmp_path / "a/test.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["images"] for row in counts} == {"2"}


def test_one_person_under_two_spellings_is_on_one_side(tmp_path: Path) -> None:
    names = [f"{first}_{last}" for first in ("Ann", "Bob", "Cyd") for last in ("Lee", "Ray", "Ott")]
    other = [" ".join(reversed(name.lower().split("_"))) for name in names]
    train, test = sides(SplitJob(store_of(tmp_path / "emb", names + other), tmp_path / "people"))
    for one, two in zip(names, other, strict=True):
        assert (one in train) == (two in train) and (one in test) == (two in test)


def test_what_cannot_be_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"nobody: no image has a person; extract .*--identities"):
        split_people(SplitJob(store_of(tmp_path / "nobody", [None, None]), tmp_path / "people"))
    with pytest.raises(BadInput, match="of its 1 people all fall to one side"):
        split_people(SplitJob(store_of(tmp_path / "one", ["Ann"]), tmp_path / "people"))
    assert not (tmp_path / "people").exists()
    store_of(tmp_path / "emb", [f"P{k}" for k in range(20)] + [None])
    words = ["split", "emb", "-o", "people"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "1 images are of nobody named" in done.stderr and "two images" in done.stderr
    assert "is there already; use --overwrite" in CliRunner().invoke(app, words).stderr
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    assert sorted(path.name for path in Path("people").iterdir()) == ["test.csv", "train.csv"]
    for share in ("0", "1", "nan"):
        assert CliRunner().invoke(app, [*words, "--test-share", share]).exit_code == 2
    assert len(Store.open("emb")) == 21
