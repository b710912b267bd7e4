"""What is shown while work runs: on a terminal (a pseudo one), in a pipe, and to nobody."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from facedecode.cli import console as console_module
from facedecode.cli.console import Console

WORK = """
import sys, time, warnings
from facedecode.cli import console as module
from facedecode.cli.console import Console
module.LINES_EVERY = 0.05
console = Console(quiet="--quiet" in sys.argv)
warnings.showwarning = lambda message, *_, **__: console.say(f"warning: {message}")
with console.progress() as stage:
    update = stage("extract [faces]")
    update(0, 200)
    time.sleep(0.3)
    update(100, 200)
    console.say("a message of [one] line")
    warnings.warn("a picture is odd")
    time.sleep(0.3)
    update(200, 200, "3 failed")
"""


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def on_terminal(*options: str) -> str:
    """What the work above writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, *options], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's answer once the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode()


def test_on_a_terminal_messages_stand_above_the_bar() -> None:
    shown = on_terminal()
    # Each message has a line of its own: the bar that stood there is erased (2K) before it.
    for message in ("a message of [one] line", "warning: a picture is odd"):
        line = next(line for line in re.split(r"\r?\n", shown) if message in line)
        assert line.rpartition("\x1b[2K")[2] == message
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "extract [faces]" in plain
    assert plain.index("0/200") < plain.index("100/200") < plain.index("200/200")
    assert re.search(r"100/200 \d+\.\d/s, \d s left", plain), plain


def test_in_a_pipe_there_are_lines() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert lines[0] == "extract [faces]: 0/200"
    assert {"a message of [one] line", "warning: a picture is odd"} < set(lines)
    assert re.fullmatch(r"extract \[faces\]: 200/200, \d+\.\d/s, 3 failed", lines[-1])
    # Lines come while a batch is under way, too.
    assert lines.count("extract [faces]: 0/200") > 1
    assert any(re.fullmatch(r"extract \[faces\]: 100/200, \d+\.\d/s, \d s left", line) for line in lines)


def test_quiet_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", WORK, "--quiet"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert on_terminal("--quiet") == ""


def lines_of(updates: list[tuple[float, int]], total: int, later: float, monkeypatch, capsys) -> list[str]:
    """The lines of some updates (seconds since the first, done), and of a look `later` seconds after the last."""
    monkeypatch.setattr(console_module, "LINES_EVERY", 1e9)
    repeated = []
    monkeypatch.setattr(console_module, "_repeated", lambda call, every: repeated.append(call) or Nothing())
    clock = Clock()
    with Console(clock=clock).progress() as stage:
        update = stage("work")
        for seconds, done in updates:
            clock.now = 1000.0 + seconds
            update(done, total)
        clock.now += later
        repeated[0]()
    return capsys.readouterr().err.splitlines()


class Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("updates", "later", "words"),
    [
        # One batch of 500 in ten seconds: 50 a second, so 9,500 more take 190.
        ([(0, 0), (10, 500)], 0, "500/10000, 50.0/s, 3 min left"),
        ([(0, 0), (10, 500)], 130, "500/10000, 50.0/s, 60 s left"),
        ([(0, 0), (10, 500)], 300, "500/10000, 50.0/s, 0 s left"),
        # 4,000 of an earlier run are no work of this one.
        ([(0, 4000)], 0, "4000/10000, 4000 by an earlier run"),
        ([(0, 4000), (10, 4500)], 0, "4500/10000, 50.0/s, 110 s left"),
        # A batch whose parts are reported in one go at its end.
        ([(0, 0), *((10, done) for done in range(1, 65))], 0, "64/10000, 6.4/s, 26 min left"),
        ([(0, 0), (60, 3)], 0, "3/10000, 20 s each, 55.5 h left"),
        ([(0, 0), (5, 10000)], 0, None),
    ],
)
def test_estimates_are_of_this_runs_work(updates, later, words, monkeypatch, capsys) -> None:
    lines = lines_of(updates, 10000, later, monkeypatch, capsys)
    assert lines[0].startswith(f"work: {updates[0][1]}/10000")
    if words is None:
        assert lines[1:] == ["work: 10000/10000, 2000.0/s"]
    else:
        assert lines[1:] == [f"work: {words}"]


def test_an_end_that_is_reported_twice_is_one_line(monkeypatch, capsys) -> None:
    lines = lines_of([(0, 0), (1, 10), (2, 10)], 10, 0, monkeypatch, capsys)
    assert lines == ["work: 0/10", "work: 10/10, 10.0/s"]


def test_lines_come_every_few_seconds(monkeypatch, capsys) -> None:
    monkeypatch.setattr(console_module, "LINES_EVERY", 0.01)
    with Console().progress() as stage:
        stage("work")(0, 10)
        end = time.monotonic() + 10
        while (err := capsys.readouterr().err).count("\n") == 0 and time.monotonic() < end:
            time.sleep(0.02)
    assert set(err.splitlines()) == {"work: 0/10"}
