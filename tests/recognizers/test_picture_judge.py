"""A classifier of the user's own that judges decoded pictures, by itself and in `examples/fig17.py`."""

from __future__ import annotations

import csv
import json
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
from facedecode.attributes.probe import fit_linear
from facedecode.attributes.target import Target
from facedecode.decoders import Decoder, load_decoder
from facedecode.errors import BadInput, UsageError
from facedecode.pictures import align
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.scores import score_matrix, score_pairs
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


@pytest.fixture
def fig17(script: Callable[[str], ModuleType], tiny: Path, tmp_path: Path) -> Callable[..., dict]:
    """Runs `fig17.py` on four of 34 people, dark or light ones; ridge and disentangler know the others."""
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
        "--fmr",
        0.2,
        "--overwrite",
        "-o",
        tmp_path / "out",
    ]

    def draw(*more: object) -> dict:
        script("fig17").main([str(word) for word in (*words, *more)])
        return json.loads((tmp_path / "out" / "report.json").read_text())

    return draw


def rows_of(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The table of classes and columns."""
    with (folder / "out" / "classes-tiny.csv").open(encoding="utf-8") as file:
        return {(row["class"], row["drawn of"]): row for row in csv.DictReader(file)}


def test_fig17_is_judged_by_it(fig17: Callable[..., dict], tmp_path: Path) -> None:
    file = keep(tmp_path / "j.pt2", exported(Brightness("flat")), **SAID | {"gives": "probability"})
    report = fig17("--judge", f"torch:{file}", "--picture", tmp_path / "f.png")
    assert report["provenance"]["settings"]["judge"]["name"] == "torch:mine" and (tmp_path / "f.png").exists()
    assert "No recognizer judges but the attacked one" in " ".join(report["warnings"])
    rows, store = rows_of(tmp_path), Store.open(tmp_path / "emb")
    assert len(rows) == 14
    # What the table says is the mean brightness of what is drawn of the first image of either dark person.
    own, decoder = load_disentangler(tmp_path / "tone.safetensors"), load_decoder(tmp_path / "ridge")
    pictures = decoder.decode(own.resynthesize(store.take(np.array([0, 4])), "light", "keep"))
    crop = align.named_crop("box", 32)
    box = crop.matrix(align.portrait_face(pictures.shape[1]))
    x1, y1 = (-box[:, 2] / box[0, 0]).round().astype(int)
    side = round(32 / box[0, 0])
    seen = pictures[:, max(y1, 0) : y1 + side, max(x1, 0) : x1 + side].mean() / 255
    assert float(rows["dark", "attribute: light"]["p(light), torch:mine"]) == pytest.approx(seen, abs=0.02)
    keep(tmp_path / "j.pt2", file.read_bytes(), **SAID | {"classes": ["F", "M"]})
    with pytest.raises(BadInput, match="tells F from M, and the disentangler dark from light"):
        fig17("--judge", f"torch:{file}")
    with pytest.raises(SystemExit):
        fig17("--judge", f"torch:{file}", "--train-people", tmp_path / "train.txt")


def test_a_recognizer_that_took_no_part_judges_fig17(
    fig17: Callable[..., dict], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_people(tmp_path / "other", tmp_path / "faces", "tiny-cosine", tiny, people=34, each=2)
    given = ("--train-people", tmp_path / "train.txt", "--judge-weights", tiny, "--judge-store")
    report = fig17(*given, tmp_path / "other")
    assert list(report["metrics"]) == ["tiny", "tiny-cosine"] and not report["warnings"]
    found, judge = report["metrics"]["tiny-cosine"], load_recognizer("tiny-cosine", tiny)
    store, other = Store.open(tmp_path / "emb"), Store.open(tmp_path / "other")
    own, decoder = load_disentangler(tmp_path / "tone.safetensors"), load_decoder(tmp_path / "ridge")
    # The first image of each of the four, in the order of the classes: dark P0 and P2, light P1 and P3.
    first = np.array([0, 4, 2, 6])
    plain, photographs = store.take(first), other.take(first)
    asked = [own.resynthesize(plain[:2], "light", "keep"), own.resynthesize(plain[2:], "dark", "keep")]
    templates = embed_pictures(judge, decoder.decode(np.concatenate(asked)))
    exchanged = found["attribute: the other class"]
    cosine = score_pairs(templates, photographs, "cosine")
    assert (
        exchanged["cosine"]["value"] == pytest.approx(float(cosine.mean()), abs=1e-5) and exchanged["cosine"]["n"] == 4
    )
    # Its threshold is of its own templates of the four people's eight photographs.
    eight = score_matrix(other.take(np.arange(8)), other.take(np.arange(8)), "cosine")
    non_mated = np.sort([eight[i, j] for i in range(8) for j in range(i) if i // 2 != j // 2])
    threshold = report["provenance"]["settings"]["thresholds"]["tiny-cosine"]
    assert non_mated[-5] <= threshold <= non_mated[-4]  # a fifth of 24 pairs is 4
    assert exchanged["accepted"]["value"] == np.mean(cosine >= threshold)
    # Its probes are of its own templates of other people's photographs.
    labels = read_image_labels(tmp_path / "labels.csv", "tone", other).values
    train = np.arange(8, 68)
    target = Target.of_labels([labels[i] for i in train], (train - 8) // 2)
    told = fit_linear(other.take(train), target)(templates)[:, 1] >= 0.5
    right = told == np.array([False, False, True, True])
    assert exchanged["told: linear"]["value"] == right.mean()
    photograph = fit_linear(other.take(train), target)(photographs)[:, 1] >= 0.5
    assert found["photograph"]["told: linear"]["value"] == (photograph == np.array([False, False, True, True])).mean()
    monkeypatch.setattr(Decoder, "looked_through", lambda *names: None)  # as of a record that does not tell
    assert "looked through tiny-cosine" in fig17(*given, tmp_path / "other")["warnings"][0]
    with pytest.raises(UsageError, match="is of the attacked recognizer; give the store of another"):
        fig17(*given, tmp_path / "emb")
