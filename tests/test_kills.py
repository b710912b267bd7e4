"""Killed at any call that changes the disk, a command run again leaves what it leaves when nobody kills it.

All calls of all commands: `python tests/kills.py`, about half an hour; or FACEDECODE_KILLS=all for these tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kills import SCENARIOS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes by signals")

# So many calls of each command are tried here, evenly spaced; of those whose runs take longer, fewer.
TRIED, TRIED_OF_SLOW = 8, 2
SLOW = ("evaluate", "cluster", "train", "fit-mapping")


@pytest.fixture(scope="module")
def kill() -> Iterator[Callable[[str, str, int | None], dict]]:
    """Kills a command, by a signal, at some of its calls (all if None): the fields of `kills.Result`."""
    program = [sys.executable, str(Path(__file__).with_name("kills.py")), "--serve"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def ask(name: str, by: str, sample: int | None) -> dict:
            process.stdin.write(json.dumps([name, by, sample]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_killed_command_run_again_leaves_what_it_would_have_left(
    kill: Callable[[str, str, int | None], dict], name: str
) -> None:
    slow = name.startswith(SLOW)
    everything = os.environ.get("FACEDECODE_KILLS") == "all"
    result = kill(name, "KILL", None if everything else TRIED_OF_SLOW if slow else TRIED)
    assert not result["wrong"]
    assert result["points"] > 5 and result["tried"] >= min(result["points"], TRIED_OF_SLOW)


@pytest.mark.parametrize("name", ["merge", "transform, new key", "train ridge", "invert to a folder", "walk"])
def test_an_interrupted_command_ends_with_one_line_and_can_be_run_again(
    kill: Callable[[str, str, int | None], dict], name: str
) -> None:
    result = kill(name, "INT", 6)
    assert not result["wrong"]
    assert result["tried"] == 6
