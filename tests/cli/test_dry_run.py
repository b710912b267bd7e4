"""`--dry-run`: what a long command would do, said before it: the counts of the work that then is done, and no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import draw_people
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import load_decoder


def call(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["metrics"]


def looked_at(*arguments: object) -> dict:
    """The figures of a dry run; nothing may be there afterwards that was not there before."""
    before = sorted(Path().rglob("*"))
    found = call(*arguments, "--dry-run")
    assert sorted(Path().rglob("*")) == before
    return found


@pytest.fixture
def people(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of 93 drawn faces of 31 people, of whom 3 are held out, in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    return draw_people(tmp_path / "emb", tmp_path / "faces", "tiny", tiny, people=31)


@pytest.mark.parametrize("mirror", ["--mirror", "--no-mirror"])
def test_a_decoder_that_is_trained(people: Path, tiny: Path, mirror: str) -> None:
    words = ["train", people, "-o", "d", "--weights", tiny, "--image-size", 64, "--width", 0.1, mirror]
    words += ["--batch-size", 20, "--epochs", 0.6]
    said = looked_at(*words)
    assert (said["images"], said["people"], said["held_out"]) == (93, 31, 9)
    call(*words)
    made = load_decoder("d").provenance.training
    assert made.further["steps"] == said["steps"] > 0
    assert made.images == said["images"] and len(made.people) == said["people"]


def test_a_closed_form(people: Path) -> None:
    said = looked_at("train", people, "-o", "d", "--architecture", "ridge", "--image-size", 64, "--exclude", "P1")
    assert said == {"images": 90, "people": 30, "held_out": 0, "steps": 0}


def test_a_recognizer(people: Path) -> None:
    words = ["train", people, "--kind", "recognizer", "-o", "own", "--image-size", 16, "--epochs", 1, "--batch-size", 4]
    said = looked_at(*words, "--min-images", 3)
    made = call(*words, "--min-images", 3)
    assert {name: said[name] for name in ("classes", "steps")} == {name: made[name] for name in ("classes", "steps")}


def test_a_map(people: Path, tiny: Path) -> None:
    words = ["fit-mapping", "--embeddings", people, "--transform", "rotate30", "--transform", "shift-left"]
    said = looked_at(*words, "--weights", tiny)
    assert list(said) == ["rotate30", "shift-left"]
    made = call(*words, "--weights", tiny)["rotate30"]
    assert said["rotate30"] == {part: made[part]["n"] for part in ("training", "held_out")}


def test_what_the_work_would_refuse_is_refused(people: Path, tiny: Path, tmp_path: Path) -> None:
    call("fit-mapping", "--embeddings", people, "--transform", "rotate30", "--weights", tiny, "--sums-to", "sums")
    for words, code in [
        (["train", people, "-o", "d", "--weights", tiny, "--batch-size", 500], 4),
        (["train", people, "-o", "d"], 3),
        (["train", people / "00000.npy", "-o", "d"], 2),
        (["train", people, "-o", "d", "--kind", "classifier"], 2),
        (["fit-mapping", "--from-sums", "sums/rotate30.safetensors", "-o", "m"], 2),
    ]:
        assert CliRunner().invoke(app, [*map(str, words), "--dry-run"]).exit_code == code, words
    assert not (tmp_path / "d").exists()
