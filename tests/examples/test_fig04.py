"""`examples/fig04.py`: whom its decoders are trained on, its stores, its report, and whom it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from facedecode.errors import BadInput
from facedecode.recognizers import load_recognizer
from facedecode.store import Store
from facedecode.store.images import read_crops
from facedecode.training.jobs import HEADS, HeadSettings, RecognizerJob, RecognizerSettings
from facedecode.training.recognizer import train_recognizer


@pytest.fixture
def here(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store `emb`, and recognizers `softmax` and `arcface` of its first three people."""
    for name, people in (("few", range(3)), ("train", range(6)), ("test", range(6, 10))):
        (tmp_path / f"{name}.txt").write_text("".join(f"P{k}\n" for k in people))
    for kind in HEADS:
        settings = RecognizerSettings(image_size=16, head=HeadSettings(kind), epochs=1, batch_size=2)
        few = tmp_path / "few.txt"
        job = RecognizerJob(tiny_store, tmp_path / kind, people=few, min_images=3, validation=0, settings=settings)
        train_recognizer(job)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(tiny: Path, people: str = "test.txt") -> list[str]:
    return [
        *("emb", "--recognizer", "SoftMax=softmax", "--recognizer", "ArcFace=arcface", "--weights", str(tiny)),
        *("--train-people", "train.txt", "--people", people, "--epochs", "0.5", "--batch-size", "2", "--columns", "2"),
        *("--repetitions", "100", "--work", "work", "-o", "out", "--picture", "fig04.png"),
    ]


def test_the_figure_is_of_people_whom_nobody_has_seen(
    script: Callable[[str], ModuleType],
    here: Path,
    tiny: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fig04 = script("fig04")
    monkeypatch.setattr(fig04, "RATES", (0.2, 0.1))
    fig04.main(arguments(tiny))
    report = json.loads((here / "out" / "report.json").read_text())
    assert set(report["metrics"]["recognizers"]) == {"SoftMax", "ArcFace", "tiny"}
    assert set(report["metrics"]["pictures"]) == {
        *("SoftMax ridge", "SoftMax dfd", "ArcFace ridge", "ArcFace dfd", "tiny ridge")
    }
    assert (here / "fig04.png").exists() and "look at" in capsys.readouterr().err
    # Decoders learn from people of the list who are no recognizer's; two images a person are judged on.
    own = Store.open(here / "work" / "emb-arcface")
    assert sorted(set(own.identities())) == ["P3", "P4", "P5", "P6", "P7", "P8", "P9"]
    assert [own.identities().count(f"P{k}") for k in (3, 6)] == [3, 2]
    card = json.loads((here / "work" / "dfd-arcface" / "decoder.json").read_text())
    assert card["training"]["people"] == ["P3", "P4", "P5"]
    recognizer = load_recognizer("arcface")
    wanted = recognizer.embed_crops(read_crops(own.rows().to_pylist(), own.root, recognizer.spec.crop))
    np.testing.assert_array_equal(own.templates(), wanted)
    # The store's own templates are taken as they are.
    whole, part = Store.open(here / "emb"), Store.open(here / "work" / "emb-tiny")
    place = [whole.paths().index(path) for path in part.paths()]
    np.testing.assert_array_equal(part.templates(), whole.templates()[place])


def test_people_whom_a_recognizer_knows_are_refused(
    script: Callable[[str], ModuleType], here: Path, tiny: Path
) -> None:
    (here / "train.txt").write_text("P5\n")
    (here / "mixed.txt").write_text("P2\nP6\n")
    with pytest.raises(BadInput, match="recognizer softmax: trained on 1 of the 2 people"):
        script("fig04").main(arguments(tiny, "mixed.txt"))
