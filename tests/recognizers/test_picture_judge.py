"""A classifier of the user's own that judges decoded pictures, by itself and in `examples/fig17.py`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import draw_people
from test_own_models import exported, keep, onnx_file
from torch import nn

from facedecode.annotations.labels import read_image_labels
from facedecode.attributes.disentangler import load_disentangler
from facedecode.attributes.disentangler_fit import fit_store_disentangler
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, UsageError
from facedecode.pictures import align
from facedecode.store import Store
from facedecode.training.decoder import train_store
from facedecode.training.jobs import DecoderJob

SAID = {"gives": "logit", "classes": ["dark", "light"], "mean": 0, "scale": 255, "crop": "box"}


class Brightness(nn.Module):
    """Gives the mean of a picture, in one of the forms that a judge may have."""

    def __init__(self, form: str):
        super().__init__()
        self.form = form

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        if self.form == "flat":
            return mean
        return torch.stack([1 - mean, mean], 1) if self.form == "both" else mean[:, None].expand(-1, int(self.form))


@pytest.fixture
def load_judge(script: Callable[[str], ModuleType]) -> Callable:
    return script("picture_judge").load_judge


@pytest.fixture
def portraits() -> np.ndarray:
    """Pictures of one gray each, from black to white."""
    return np.broadcast_to(np.arange(0, 256, 51, dtype=np.uint8)[:, None, None, None], (6, 64, 64, 3)).copy()


def test_a_judge_gives_probabilities_of_two_classes(
    portraits: np.ndarray, load_judge: Callable, tmp_path: Path
) -> None:
    gray = np.arange(0, 256, 51) / 255
    sigmoid = 1 / (1 + np.exp(-gray))
    cases = [("flat", "probability", gray), ("1", "probability", gray), ("both", "probability", gray)]
    cases += [("flat", "logit", sigmoid), ("both", "logit", 1 / (1 + np.exp(1 - 2 * gray)))]
    for form, gives, second in cases:
        file = keep(tmp_path / "j.pt2", exported(Brightness(form)), **SAID | {"gives": gives})
        judge = load_judge(f"torch:{file}")
        assert judge.classes == ("dark", "light")
        np.testing.assert_allclose(judge.probabilities(portraits), np.stack([1 - second, second], 1), atol=1e-5)


def test_an_onnx_judge(portraits: np.ndarray, load_judge: Callable, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    mean = [onnx.helper.make_node("ReduceMean", ["p"], ["y"], axes=[1, 2, 3], keepdims=0)]
    file = keep(tmp_path / "j.onnx", onnx_file(nodes=mean), **SAID | {"gives": "probability", "size": 8})
    found = load_judge(f"onnx:{file}").probabilities(portraits)
    np.testing.assert_allclose(found[:, 1], np.arange(0, 256, 51) / 255, atol=1e-5)


def test_what_is_no_judge(portraits: np.ndarray, load_judge: Callable, tmp_path: Path) -> None:
    def judge(form: str, **said: object):
        return load_judge(f"torch:{keep(tmp_path / 'j.pt2', exported(Brightness(form)), **SAID | said)}")

    with pytest.raises(BadInput, match="gives 3 numbers of a picture, not one or two"):
        judge("3")
    with pytest.raises(BadInput, match="does not say by 'classes'"):
        judge("flat", classes=None)
    with pytest.raises(UsageError, match="is for a judge, not for a recognizer"):
        judge("flat", gives=None)
    with pytest.raises(BadInput, match="gives no probabilities; if they are logits"):
        judge("flat", gives="probability", scale=25.5).probabilities(portraits)
    with pytest.raises(UsageError, match=r"a judge is torch:FILE or onnx:FILE"):
        load_judge("dlib-resnet")


def test_fig17_is_judged_by_it(script: Callable[[str], ModuleType], tiny: Path, tmp_path: Path, capsys) -> None:
    tiny_store = draw_people(tmp_path / "emb", tmp_path / "faces", "tiny", tiny, people=34, each=2)
    store = Store.open(tiny_store)
    lines = [
        f"{path},{'light' if int(person[1:]) % 2 else 'dark'}"
        for path, person in zip(store.paths(), store.identities(), strict=True)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,tone", *lines]) + "\n")
    (tmp_path / "train.txt").write_text("".join(f"P{k}\n" for k in range(4, 34)))
    (tmp_path / "test.txt").write_text("".join(f"P{k}\n" for k in range(4)))
    job = {"architecture": "ridge", "people": tmp_path / "train.txt", "validation": 0.0}
    train_store(DecoderJob(tiny_store, tmp_path / "ridge", **job))
    labels = read_image_labels(tmp_path / "labels.csv", "tone", store)
    fit_store_disentangler(store, tmp_path / "tone.safetensors", labels, people=tmp_path / "train.txt")
    words = [
        tiny_store,
        "--disentangler",
        tmp_path / "tone.safetensors",
        "--decoder",
        tmp_path / "ridge",
        "--weights",
        tiny,
    ]
    words += [
        "--people",
        tmp_path / "test.txt",
        "--labels",
        tmp_path / "labels.csv",
        "--shown",
        1,
        "-o",
        tmp_path / "f.png",
    ]
    fig17 = script("fig17")

    def draw(*more: object) -> None:
        fig17.main([str(word) for word in (*words, *more)])

    file = keep(tmp_path / "j.pt2", exported(Brightness("flat")), **SAID | {"gives": "probability"})
    draw("--judge", f"torch:{file}")
    told = capsys.readouterr()
    assert "judged by torch:mine, sha256" in told.err
    rows = list(csv.DictReader(told.out.splitlines()))
    assert len(rows) == 14 and "p(light)" in rows[0]
    # What the table says is the mean brightness of what is drawn of the first image of either dark person.
    own, decoder = load_disentangler(tmp_path / "tone.safetensors"), load_decoder(tmp_path / "ridge")
    pictures = decoder.decode(own.resynthesize(store.take(np.array([0, 4])), "light", "keep"))
    crop = align.named_crop("box", 32)
    box = crop.matrix(align.portrait_face(pictures.shape[1]))
    x1, y1 = (-box[:, 2] / box[0, 0]).round().astype(int)
    side = round(32 / box[0, 0])
    seen = pictures[:, max(y1, 0) : y1 + side, max(x1, 0) : x1 + side].mean() / 255
    [row] = [row for row in rows if (row["class"], row["column"]) == ("dark", "attribute: light")]
    assert float(row["p(light)"]) == pytest.approx(seen, abs=0.02)
    keep(tmp_path / "j.pt2", file.read_bytes(), **SAID | {"classes": ["F", "M"]})
    with pytest.raises(BadInput, match="tells F from M, and the disentangler dark from light"):
        draw("--judge", f"torch:{file}", "--overwrite")
    with pytest.raises(SystemExit):
        draw("--judge", f"torch:{file}", "--train-people", tmp_path / "train.txt", "--overwrite")
