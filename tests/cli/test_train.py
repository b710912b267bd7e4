"""A command that does one of several things: every option once, with the right default for each."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.cli.app import load_command
from facedecode.cli.commands.train import VARIANTS
from facedecode.cli.options import OneOf, Variant, expand
from facedecode.decoders.kinds import KINDS, DecoderKind
from facedecode.errors import BadInput
from facedecode.files import json_text
from facedecode.options import option
from facedecode.training.jobs import DecoderJob, RecognizerJob, TrainSettings, default_settings


@dataclasses.dataclass(frozen=True)
class Painting:
    size: int = option(3, "Of pictures.")
    color: str = option("red", "Of paint.")


@dataclasses.dataclass(frozen=True)
class Statue:
    stone: str = option(dataclasses.MISSING, "Of the statue.")
    size: int = option(5, "Of pictures.")


MAKING = OneOf((Variant("paintings", Painting, defaults={"murals": {"color": "blue"}}), Variant("statues", Statue)))


def make(options: Annotated[dict[str, Any], MAKING], name: str = "x") -> None: ...


def test_each_option_once_with_what_the_variants_say_of_it() -> None:
    parameters, collect = expand(make)
    by_name = {p.name: p for p in parameters}
    assert list(by_name) == ["size", "color", "stone", "name"]
    assert [by_name[name].default for name in ("size", "color", "stone")] == [3, "red", None]
    size, color, stone = (get_args(by_name[name].annotation)[1] for name in ("size", "color", "stone"))
    assert size.help == "Of pictures. Default for statues: 5." and size.rich_help_panel is None
    assert color.help == "Of paint. Default for murals: blue." and color.rich_help_panel == "Of paintings"
    assert stone.rich_help_panel == "Of statues"
    values = {"size": 4, "color": "red", "stone": None}
    assert collect({**values, "name": "y"}) == {"options": values, "name": "y"}


def test_train_takes_every_option_of_what_it_makes() -> None:
    parameters = {p.name: p for p in load_command("facedecode.cli.commands", "train", "train").params}
    for variant in VARIANTS:
        for name in variant.options:
            assert name in parameters, variant.title


@pytest.mark.parametrize(
    ("options", "call", "settings"),
    [
        ((), "facedecode.training.decoder.train_store", TrainSettings()),
        (("--architecture", "nbnet"), "facedecode.training.decoder.train_store", default_settings("nbnet")),
        (("--kind", "recognizer"), "facedecode.training.recognizer.train_recognizer", RecognizerJob.settings),
    ],
)
def test_what_is_not_given_is_as_in_the_library(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], call: str, settings: object
) -> None:
    monkeypatch.chdir(tiny_store.parent)
    jobs = []

    def run(job: object, *_: object) -> None:
        jobs.append(job)
        raise BadInput("enough")

    monkeypatch.setattr(call, run)
    assert CliRunner().invoke(app, ["train", tiny_store.name, "-o", "new", *options]).exit_code == BadInput.exit_code
    # To the letter: 5 and 5.0 are equal, and a run of the one would not be resumed by the other.
    assert json_text(dataclasses.asdict(jobs[0].settings)) == json_text(dataclasses.asdict(settings))
    # A job says of people, images and validation what the library would.
    chosen = {"settings": settings} | ({"architecture": options[1]} if "--architecture" in options else {})
    assert jobs[0] == type(jobs[0])(Path(tiny_store.name), Path("new"), **chosen)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("--architecture", "latent", "--generator", "g.pt2"), "needs --generator-range"),
        (("--architecture", "latent"), "needs --generator and --generator-range"),
        (("--kind", "disentangler", "--label", "gender"), "--kind disentangler needs --labels"),
        (("--kind", "classifier", "--from-head", "emb"), "--from-head needs --names"),
    ],
)
def test_what_a_job_cannot_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emb").mkdir()
    result = CliRunner().invoke(app, ["train", "emb", "-o", "new", *options, "--json"])
    assert result.exit_code == 2 and missing in json.loads(result.stdout)["error"]


NETWORK = """
import torch
from facedecode.decoders.base import TrainedNetwork

class Net(TrainedNetwork):
    CHANNELS = (8, 8, 4, 4, 4, 4)

    def __init__(self, dim, image_size=128, widths=None):
        super().__init__(dim, image_size, widths)
        self.draw = torch.nn.Linear(dim, 3 * 64)

    def forward(self, templates):
        small = self.draw(self.standardized(templates)).view(-1, 3, 8, 8)
        return torch.nn.functional.interpolate(small, size=self.image_size)
"""


def test_a_new_architecture_is_a_module_and_a_line(
    tiny_store: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import facedecode.decoders
    from facedecode.training.decoder import train_store

    (tmp_path / "new_network.py").write_text(NETWORK)
    monkeypatch.setattr(facedecode.decoders, "__path__", [*facedecode.decoders.__path__, str(tmp_path)])
    monkeypatch.setitem(KINDS, "new", DecoderKind("new", "new_network:Net", "gradients", defaults={"identity": 0}))
    settings = dataclasses.replace(default_settings("new"), image_size=64, epochs=1, batch_size=6)
    job = DecoderJob(tiny_store, tmp_path / "new", "new", width=0.5, weights=tiny, settings=settings)
    try:
        assert train_store(job).kind == facedecode.decoders.load_decoder(job.output).kind == "new"
    finally:
        sys.modules.pop("facedecode.decoders.new_network", None)


def test_jobs_are_free_of_numpy_and_torch() -> None:
    code = "import sys, facedecode.training.jobs; print({'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
