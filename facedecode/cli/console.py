"""What people see: messages and progress on stderr; on stdout nothing but data."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from facedecode.ranks import Ranks

SCHEMA_VERSION = 1
_answers = 0
Update = Callable[..., None]


def result_json(command: str, metrics: dict, outputs: dict) -> None:
    """Print the one object of `--json`."""
    _emit({"command": command, "ok": True, "metrics": metrics, "outputs": outputs})


def failure_json(command: str, error: str, code: int, metrics: dict | None = None, outputs: dict | None = None) -> None:
    """Print the object that `--json` gives for a failure; a missed gate has metrics and outputs all the same."""
    answer = {"command": command, "ok": False, "error": error, "exit_code": code}
    _emit({**answer, "metrics": metrics or {}, "outputs": outputs or {}})


def has_answered() -> bool:
    """Whether this process has printed an object already."""
    return _answers > 0


def _emit(answer: dict) -> None:
    global _answers
    _answers += 1
    # Never through rich: its console wraps lines and eats [brackets].
    typer.echo(json.dumps({"schema_version": SCHEMA_VERSION, **answer}, allow_nan=False, sort_keys=True))


class Console:
    """Messages for people; silent with `--quiet`.

    ranks: the processes of the run. Only the first has anything to say.
    """

    def __init__(self, quiet: bool = False, json: bool = False, ranks: Ranks | None = None):
        self.ranks = ranks or Ranks()
        self.quiet, self.json = quiet or not self.ranks.first, json or not self.ranks.first

    def say(self, message: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            typer.echo(message, err=True)

    def data(self, line: str) -> None:
        """One line of results on stdout, where no JSON object takes its place."""
        if not self.json:
            typer.echo(line)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], Update]]:
        """Bars with rate and estimate on a terminal, else a plain line every few seconds.

        Yields `stage(name)`, which gives that stage's `update(done, total, note="")`.
        """
        if self.quiet:
            yield lambda stage: lambda done, total, note="": None
        elif sys.stderr.isatty():
            with _bars() as stage:
                yield stage
        else:
            yield _Lines


@contextmanager
def _bars() -> Iterator[Callable[[str], Update]]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=RichConsole(stderr=True)) as bars:

        def stage(name: str) -> Update:
            task = None

            def update(done: int, total: int, note: str = "") -> None:
                nonlocal task
                if task is None:
                    task = bars.add_task(name, note="")
                bars.update(task, completed=done, total=total, note=note)

            return update

        yield stage


class _Lines:
    """Progress for logs: at most a line every five seconds, and one at the end."""

    def __init__(self, what: str, every: float = 5.0):
        self.what, self.every = what, every
        self.start = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done - 1  # what an earlier run had done is no work of this one
        if now - self.last < self.every and done < total:
            return
        self.last = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if 0 < done < total and rate > 0 else ""
        typer.echo(f"{self.what}: {done}/{total}, {rate:.1f}/s{left}{', ' + note if note else ''}", err=True)
