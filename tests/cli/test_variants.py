"""A command that does one of several things: every option once, with the right default for each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.cli.app import load_command
from facedecode.cli.commands.train import WAYS
from facedecode.cli.variants import Variant, signature_of_all
from facedecode.errors import BadInput
from facedecode.files import json_text
from facedecode.training.decoder_settings import DEFAULTS
from facedecode.training.recognizer_run import RecognizerSettings

Size = Annotated[int, typer.Option("--size", help="Of pictures.")]


def paint(*, size: Size = 3, color: Annotated[str, typer.Option("--color", help="Of paint.")] = "red") -> tuple: ...


def carve(*, size: Size = 5) -> tuple: ...


def make(size_of: int, name: Annotated[str, typer.Option("--name")] = "x", **options: object) -> None: ...


def test_each_option_once_with_what_the_ways_say_of_it() -> None:
    found = signature_of_all(make, [Variant(paint, "paintings"), Variant(carve, "statues")]).parameters
    assert list(found) == ["size_of", "name", "size", "color"]
    assert found["size"].default == 3
    size, color = (found[name].annotation.__metadata__[0] for name in ("size", "color"))
    assert size.help == "Of pictures. Statues: 5." and size.rich_help_panel is None
    assert color.help == "Of paint." and color.rich_help_panel == "Of paintings"
    # What the ways themselves are described by is not written into.
    assert Size.__metadata__[0].help == "Of pictures."


def test_train_takes_every_option_of_what_it_makes() -> None:
    parameters = {p.name: p for p in load_command("facedecode.cli.commands", "train", "train").params}
    for variant in WAYS:
        for name in variant.options:
            assert f"--{name.replace('_', '-')}" in parameters[name].opts, variant.title


@pytest.mark.parametrize(
    ("options", "call", "settings"),
    [
        ((), "facedecode.training.decoder.train_store", DEFAULTS["dfd"]),
        (("--architecture", "nbnet"), "facedecode.training.decoder.train_store", DEFAULTS["nbnet"]),
        (("--kind", "recognizer"), "facedecode.training.recognizer.train_recognizer", RecognizerSettings()),
    ],
)
def test_what_is_not_given_is_as_in_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], call: str, settings: object
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = []

    def run(job: object, *_: object) -> None:
        jobs.append(job)
        raise BadInput("enough")

    monkeypatch.setattr(call, run)
    assert CliRunner().invoke(app, ["train", "emb", "-o", "new", *options]).exit_code == BadInput.exit_code
    # To the letter: 5 and 5.0 are equal, and a run of the one would not be resumed by the other.
    assert json_text(dataclasses.asdict(jobs[0].settings)) == json_text(dataclasses.asdict(settings))
    # A job says of people, images and validation what the library would.
    assert jobs[0] == dataclasses.replace(type(jobs[0])(jobs[0].store, jobs[0].output), **chosen(jobs[0], options))


def chosen(job: object, options: tuple[str, ...]) -> dict[str, object]:
    """What the options say of a job."""
    return {"settings": job.settings} | ({"architecture": options[1]} if "--architecture" in options else {})
