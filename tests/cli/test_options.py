"""Jobs on the command line: their options, ranges, choices and defaults, and the job that comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

from facedecode.cli.app import command
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.options import argument, has_options, option


@dataclass(frozen=True)
class Frame:
    size: int = option(64, "Side in pixels.", minimum=8, maximum=512)
    mirror: bool = option(True, "Mirror, too.")


def pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals:
        raise UsageError(f"{text}: give A=B")
    return left, right


@dataclass(frozen=True)
class PaintJob:
    inputs: Sequence[Path] = argument("What to paint.", exists="path")
    colors: Sequence[str] = option(("red", "blue"), "Colors.", "--color", "-c")
    style: Literal["oil", "ink"] = option("oil", "Style.")
    share: float | None = option(None, "Share.")
    ratio: tuple[str, str] | None = option(None, "A=B.", parse=pair, written=str)
    frame: Frame = field(default=Frame())
    hidden: int = 3


def paint(console: Console, job: PaintJob) -> tuple[dict, dict]:
    """Paints [things]."""
    seen.append(job)
    return {}, {}


seen: list[PaintJob] = []
app = command("paint", paint, "Paint.")


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_job_is_its_defaults_and_what_was_given(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 0
    assert seen.pop() == PaintJob((tmp_path,))
    done = run(tmp_path, "-c", "green", "--style", "ink", "--share", 0.5, "--ratio", "a=b", "--size", 8, "--no-mirror")
    assert done.exit_code == 0
    assert seen.pop() == PaintJob((tmp_path,), ("green",), "ink", 0.5, ("a", "b"), Frame(8, False))
    assert has_options(PaintJob) and not has_options(Path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere",), 4, "error: nowhere: no such file or folder"),
        ((".", "--style", "chalk"), 2, "error: --style chalk: use oil or ink"),
        ((".", "--ratio", "ab"), 2, "error: ab: give A=B"),
        ((".", "--size", 7), 2, "--size"),
        ((), 2, "inputs"),
        ((".", "--shape", 3), 2, "--shape"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(arguments: tuple, code: int, message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr


def test_help_has_every_option_with_its_default() -> None:
    text = run("--help").stdout
    for words in ("Paint.", "Paints [things].", "--color", "-c", "[default: red, blue]", "--no-mirror", "8 to 512"):
        assert words in text
    assert "hidden" not in text
