"""What people see: messages and progress on stderr; on stdout nothing but data."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import typer

from facedecode import interruption
from facedecode.errors import OutputError
from facedecode.escaping import visible
from facedecode.progress import Progress, Stage, silent_stage
from facedecode.ranks import Ranks

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Task

SCHEMA_VERSION = 1
LINES_EVERY = 5.0  # seconds between two lines of progress, where there is no terminal
_answers = 0


def result_json(command: str, metrics: dict, outputs: dict, notes: Sequence[str] = ()) -> None:
    """Print the one object of `--json`."""
    told = {"notes": list(notes)} if notes else {}
    _emit({"command": command, "ok": True, "metrics": metrics, "outputs": outputs, **told})


def failure_json(command: str, error: str, code: int, metrics: dict | None = None, outputs: dict | None = None) -> None:
    """Print the object that `--json` gives for a failure; a missed gate has metrics and outputs all the same.

    The failure has been said on stderr: where stdout cannot be written, nothing more is.
    """
    answer = {"command": command, "ok": False, "error": error, "exit_code": code}
    with suppress(OutputError, BrokenPipeError):
        _emit({**answer, "metrics": metrics or {}, "outputs": outputs or {}})


def has_answered() -> bool:
    """Whether this command line has printed an object already."""
    return _answers > 0


def forget_answers() -> None:
    """Another command line begins."""
    global _answers
    _answers = 0


def show_error(line: str) -> None:
    """The one line on stderr that says why the program ends."""
    interruption.told()
    typer.echo(f"error: {visible(line)}", err=True)


def speaks() -> bool:
    """Whether this process has a voice: alone, or the first of those that torchrun started."""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def _emit(answer: dict) -> None:
    global _answers
    _answers += 1
    # Never through rich: its console wraps lines and eats [brackets].
    typer.echo(json.dumps(_finite({"schema_version": SCHEMA_VERSION, **answer}), allow_nan=False, sort_keys=True))


def _finite(value: Any) -> Any:
    """With null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Console:
    """Messages for people; silent with `--quiet`.

    ranks: the processes of the run. Only the first has anything to say. clock: seconds, for rates and estimates.
    """

    def __init__(
        self,
        quiet: bool = False,
        json: bool = False,
        ranks: Ranks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.ranks = ranks or Ranks()
        self.quiet, self.json = quiet or not self.ranks.first, json or not self.ranks.first
        self._clock = clock
        self._terminal: RichConsole | None = None  # while bars are shown on it
        self._warnings: set[str] = set()
        self.notes: list[str] = []  # for --json

    def say(self, message: str) -> None:
        """One line on stderr, above the bars that are shown."""
        if self.quiet:
            return
        if self._terminal:
            self._terminal.print(visible(message), markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(visible(message), err=True)

    def note(self, message: str) -> None:
        """One line on stderr that --json has, too: what a user may have to do something about."""
        self.notes.append(message)
        self.say(message)

    def warn(self, message: str) -> None:
        """A warning, as one line on stderr; the same one is not said again."""
        if message not in self._warnings:
            self._warnings.add(message)
            self.say(f"warning: {message}")

    def data(self, line: str) -> None:
        """One line of results on stdout, where no JSON object takes its place."""
        if self.json:
            return
        if self._terminal and sys.stdout.isatty():
            self._terminal.print(visible(line), markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(visible(line))

    @contextmanager
    def progress(self) -> Iterator[Stage]:
        """Bars with rate and estimate on a terminal, else a plain line every five seconds.

        Yields `stage(name)`, which gives that stage's `Progress`.
        """
        if self.quiet:
            yield silent_stage
            return
        from rich import progress as rich
        from rich.console import Console as RichConsole
        from rich.text import Text

        class Pace(rich.ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(_pace(task), style="dim")

        terminal = RichConsole(stderr=True)
        live = sys.stderr.isatty() and not terminal.is_dumb_terminal
        bars = rich.Progress(
            rich.SpinnerColumn(),
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=20),
            rich.MofNCompleteColumn(),
            Pace(),
            console=terminal,
            get_time=self._clock,
            redirect_stdout=False,
            disable=not live,
        )
        current: Task | None = None

        def line() -> None:
            if current is not None and not current.finished:
                self.say(_line(current))

        def stage(name: str) -> Progress:
            task: Task | None = None
            name = visible(name)

            def update(done: int, total: int, note: str = "", /) -> None:
                nonlocal task, current
                now, note = self._clock(), visible(note)
                if began := task is None:
                    bars.add_task(name, total=total, completed=done, begun=done, since=now, last=now, note=note)
                    task = bars.tasks[-1]
                ended = done >= total and not task.finished
                bars.update(task.id, completed=done, total=total, last=now, note=note)
                current = task
                if not live and (began or ended):
                    self.say(_line(task))

            return update

        with bars, nullcontext() if live else _repeated(line, LINES_EVERY):
            self._terminal = terminal if live else None
            try:
                yield stage
            finally:
                self._terminal = None


def _line(task: Task) -> str:
    pace = _pace(task)
    return f"{task.description}: {task.completed:.0f}/{task.total or 0:.0f}{', ' + pace if pace else ''}"


def _pace(task: Task) -> str:
    """Rate, time left and note. The rate is of this run's work, from its first report to its last.

    Between two reports of a batch nothing is known to be done: time that has passed since is taken from what is left.
    """
    begun, since, last, note = (task.fields[name] for name in ("begun", "since", "last", "note"))
    work, seconds, words = task.completed - begun, last - since, []
    if work > 0 and seconds > 0:
        rate = work / seconds
        words.append(f"{rate:.1f}/s" if rate >= 0.1 else f"{1 / rate:.0f} s each")
        if not task.finished:
            words.append(f"{_duration(max((task.remaining or 0) / rate - (task.get_time() - last), 0))} left")
    elif begun:
        words.append(f"{begun} by an earlier run")
    return ", ".join([*words, note] if note else words)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@contextmanager
def _repeated(call: Callable[[], None], every: float) -> Iterator[None]:
    """Call a function every so many seconds, in a thread, for the length of the block."""
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(every):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
