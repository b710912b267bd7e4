"""The application, the options that commands share, and how their errors become one line and an exit code."""

from __future__ import annotations

import difflib
import errno
import functools
import inspect
import itertools
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import typer
import typer.core
import typer.main

from facedecode import interruption
from facedecode.cli.commands import summary_of
from facedecode.cli.console import Console, failure_json, forget_answers, has_answered, result_json, show_error, speaks
from facedecode.cli.options import expand, parameters_of
from facedecode.errors import BadInput, FacedecodeError, FailedItems, GateMissed, UsageError
from facedecode.escaping import visible
from facedecode.options import option
from facedecode.ranks import Meeting, Ranks

_Panels = dict[str, list[tuple[str, str]]]  # heading → names and meanings
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# What the parser raises; of Typer's own or of Click, by the version.
_Refused: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def launched(environment: Mapping[str, str]) -> Ranks:
    """The processes of this run; alone, unless torchrun (or what sets the same variables) started more.

    Raises UsageError: variables that are missing or no numbers.
    """
    # Clusters set some of them for whatever they start; this one only launchers of one process a device do.
    if "LOCAL_RANK" not in environment or environment.get("WORLD_SIZE", "1") == "1":
        return Ranks()
    if missing := [name for name in _NEEDED if name not in environment]:
        raise UsageError(f"WORLD_SIZE is set and {', '.join(missing)} not; start several processes by torchrun")
    names = {name: environment.get(name, "1") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    try:
        rank, count, local, local_count = map(int, names.values())
        meeting = Meeting(
            environment["MASTER_ADDR"],
            int(environment["MASTER_PORT"]),
            served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )
        return Ranks(rank, count, local, local_count, meeting)
    except ValueError as error:
        raise UsageError(f"the variables that torchrun sets are malformed ({error}); start by torchrun") from None


@dataclass(frozen=True)
class OutputOptions:
    """What every command says, and how."""

    quiet: bool = option(False, "No progress and no messages on stderr, except errors.", "--quiet", "-q")
    json: bool = option(False, "Print one JSON object on stdout.")
    debug: bool = option(False, "Show a traceback with an error.")


class LazyGroup(typer.core.TyperGroup):
    """A group whose commands' modules are imported when they are asked for: `--help` needs none of them.

    sections: heading → command → (its module in `package`, what it does in one sentence). A command's module has
    its Typer application as `app`.
    """

    package: ClassVar[str]
    sections: ClassVar[Mapping[str, Mapping[str, tuple[str, str]]]]

    def list_commands(self, context: Any) -> list[str]:
        """The commands' names, in the order in which the help lists them."""
        return [name for section in self.sections.values() for name in section]

    def get_command(self, context: Any, name: str):
        """The command of that name; None where there is none."""
        modules = {name: entry[0] for section in self.sections.values() for name, entry in section.items()}
        return load_command(self.package, modules[name], name) if name in modules else None

    def resolve_command(self, context: Any, args: list[str]):
        """The command that the first word names. Raises UsageError for a word that names none."""
        known = self.list_commands(context)
        if args[0] not in known and not args[0].startswith("-"):
            begun = [name for name in known if name.startswith(args[0])]
            near = " or ".join(map(repr, begun or difflib.get_close_matches(args[0], known, 2)))
            hint = f"did you mean {near}? See" if near else "see"
            raise UsageError(f"no command {args[0]!r}; {hint} '{context.command_path} --help'")
        return super().resolve_command(context, args)

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """As the parser does; without a word, the help is shown."""
        if not args:
            context.get_help()
            context.exit(UsageError.exit_code)
        return super().parse_args(context, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; what the parser refuses is one line, too. Returns the exit code.

        standalone_mode: raise SystemExit with the code instead.
        """
        words = list(sys.argv[1:] if args is None else args)
        forget_answers()
        try:
            with self.make_context(prog_name or "facedecode", list(words), **extra) as context:
                self.invoke(context)
            code = 0
        except typer.Exit as ended:
            code = ended.exit_code
        except BaseException as error:
            code = end_with(error, words)
        if standalone_mode:
            raise SystemExit(code)
        return code

    def get_help_option(self, context: Any):
        """The option --help, off where it is not given: Typer imports its converters for a value of None."""
        option = super().get_help_option(context)
        if option is not None:
            option.default = False
        return option

    def format_help(self, context: Any, formatter: object) -> None:
        """Print the help: usage, options, and the commands by section."""
        commands = {
            title: [(name, summary) for name, (_, summary) in section.items()]
            for title, section in self.sections.items()
        }
        _print_help(self, context, commands)


class PlainCommand(typer.core.TyperCommand):
    """A command with a help page that takes little time to print."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """As the parser does. Raises UsageError for a value that is empty."""
        for before, word in zip(["", *args], args, strict=False):
            option, equals, value = word.partition("=")
            if not word or (option.startswith("--") and equals and not value):
                option = option or (before if before.startswith("-") else "an argument")
                raise UsageError(f"{option}: the value is empty; give one, or leave the option out")
        return super().parse_args(context, args)

    def format_help(self, context: Any, formatter: object) -> None:
        """Print the help: usage, what the command does, and its options."""
        _print_help(self, context, {})


def _print_help(
    command: typer.core.TyperCommand | typer.core.TyperGroup, context: typer.Context, more: _Panels
) -> None:
    """As Typer does, less what its help imports: Markdown and tracebacks. more: panels after those of the options."""
    from rich.console import Console as RichConsole
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    console = RichConsole()
    usage = " ".join(command.collect_usage_pieces(context))
    text = (command.help or "").replace(r"\[", "[")
    console.print(Padding(Text(f"\nUsage: {context.command_path} {usage}\n\n{text}\n"), (0, 1)))
    panels: _Panels = {}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            title = "Arguments" if parameter.param_type_name == "argument" else "Options"
            names = re.sub(r"<list\[(\w+)\]>|<(\w+) range>", r"<\1\2>", record[0])
            meaning = re.sub(r"(\S+)<=x<=(\S+)\]", r"\1 to \2]", re.sub(r"x>=(\S+)\]", r"at least \1]", record[1]))
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or title, []).append((names, meaning))
    arguments = panels.pop("Arguments", None)
    for title, rows in {**({"Arguments": arguments} if arguments else {}), **panels, **more}.items():
        table = Table.grid(padding=(0, 2))
        table.add_column(max_width=max(28, console.width // 3))
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(Panel(table, title=title, title_align="left", border_style="dim"))


def group_of(group: type[LazyGroup], help: str) -> typer.Typer:
    """A Typer application with a group of this class."""
    app = typer.Typer(cls=group, help=help, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)  # without one, an application that has no commands yet is no group
    return app


@functools.cache
def load_command(package: str, module: str, name: str):
    """A module's command, or group of commands, as the parser takes it."""
    loaded = typer.main.get_command(import_module(f"{package}.{module}").app)
    loaded.name = name
    return loaded


def choose_cache(context: typer.Context) -> None:
    """Keep downloads in $FACEDECODE_CACHE for the length of a command: the library reads no environment."""
    if folder := os.environ.get("FACEDECODE_CACHE"):
        from facedecode.recognizers.cache import use_cache

        context.with_resource(use_cache(Path(folder)))


def command(
    title: str, function: Callable[..., tuple[dict, dict]], summary: str | None = None, several: bool = False
) -> typer.Typer:
    """A Typer application that runs a function.

    The function takes a `console` first and returns (metrics, outputs) for `--json`; parameters of it that are jobs
    become their options (`cli.options`). Its errors are shown as one line; `FacedecodeError` carries its exit code, an
    error that nobody foresaw is exit code 1.

    Args:
        title: the command as `--json` names it, `evaluate security`.
        summary: what it does, in one sentence, if `commands.SECTIONS` does not say it; the function's docstring says
            more.
        several: it can run in several processes that torchrun starts, its `console.ranks`; of those, one speaks.
    """
    parameters, collect = expand(function)

    def run(*, quiet: bool, json: bool, debug: bool, **values) -> None:
        ranks = Ranks()
        with warnings.catch_warnings():
            try:
                ranks = launched(os.environ)
                console = Console(quiet, json, ranks)
                interruption.announce = functools.partial(_announce, title, json)
                warnings.showwarning = lambda message, *_, **__: console.warn(" ".join(str(message).split()))
                if ranks.count > 1 and not several:
                    raise UsageError(f"{title} runs in one process; start it without torchrun")
                _require_working_folder()
                with ranks.joined():
                    metrics, outputs = function(console, **collect(values))
                if json and ranks.first:
                    result_json(title, metrics, outputs, console.notes)
            except typer.Exit:
                raise
            except BaseException as error:
                line, code = _explain(error)
                if code is None:
                    raise
                if debug:
                    typer.echo(visible(traceback.format_exc(), keep="\n"), err=True)
                if spoken := ranks.last_words(line, code, error):
                    line, code = spoken
                    show_error(line)
                    if json:
                        reached = (error.metrics, error.outputs) if isinstance(error, GateMissed) else ()
                        failure_json(title, line, code, *reached)
                raise typer.Exit(code) from None

    signature = inspect.Signature([*parameters[1:], *parameters_of(OutputOptions)])
    vars(run)["__signature__"] = signature
    run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    details = [" ".join(paragraph.split()) for paragraph in (inspect.getdoc(function) or "").split("\n\n")]
    # Rich takes what stands in brackets for its own markup.
    app.command(cls=PlainCommand, help="\n\n".join([summary or summary_of(title), *details]).replace("[", r"\["))(run)
    return app


def _announce(title: str, json: bool, line: str, code: int) -> None:
    """What a command says that ends without unwinding."""
    if speaks():
        show_error(line)
        if json:
            failure_json(title, line, code)


def end_with(error: BaseException, words: Sequence[str]) -> int:
    """Say what ended the program outside of a command's own work; the exit code.

    words: the command line. Raises the error where it is not ours to end.
    """
    if isinstance(error, BrokenPipeError):  # who reads stdout has read enough
        return 1
    if isinstance(error, _Refused):
        where = getattr(error, "ctx", None)
        page = where.command_path if where else " ".join(["facedecode", *words[:1]])
        line, code = f"{_refusal(error, words)}; see '{page} --help'", 2
    else:
        line, code = _explain(error)
    if code is None:
        raise error
    if speaks():
        show_error(line)
        if "--json" in words and not has_answered():
            failure_json(" ".join(word for word in words[:1] if not word.startswith("-")), line, code)
    return code


def _refusal(error: Any, words: Sequence[str]) -> str:
    """What the parser refuses, in one line that names the value."""
    message = " ".join(error.format_message().split()).rstrip(".")
    options: Sequence[str] = getattr(getattr(error, "param", None), "opts", ())
    given = [word for before, word in itertools.pairwise(words) if before in options]
    given += [word.partition("=")[2] for word in words if word.partition("=")[0] in options and "=" in word]
    if given:
        # Typer's reason, with or without its validator's words for it.
        reason = error.message.partition(", unable")[0].removeprefix("Input ").rstrip(".")
        return f"{options[-1]} {', '.join(given)}: {reason}"
    return message[:1].lower() + message[1:]


def _explain(error: BaseException) -> tuple[str, int | None]:
    """One line and the exit code for what ended a command; no code where it is not ours to end."""
    if asked := interruption.asked():  # whatever has become of the exception since
        return asked
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes where it can", 130
    if isinstance(error, SystemExit):
        return "terminated; the same command resumes where it can", 143 if error.code == 143 else None
    line = " ".join(str(error).split())
    # By name: torch's own, without torch. By text: of its allocator on a CPU, and of the system's loader.
    full = any(words in line for words in ("can't allocate memory", "annot allocate memory", "failed to map segment"))
    full = full and not isinstance(error, FacedecodeError)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or full:
        return f"out of memory ({line}); lower --batch-size, or take fewer images", 7
    if isinstance(error, RuntimeError) and "can't start new thread" in line:
        return "the system gives no more threads; raise the limit of processes (ulimit -u)", 7
    if isinstance(error, FacedecodeError):
        return line, error.exit_code
    if isinstance(error, BrokenPipeError):  # who reads stdout has read enough: the end is without a word
        return line, None
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error), 4
    if isinstance(error, Exception):
        return f"a bug in facedecode: {type(error).__name__}: {line} (run again with --debug)", 1
    return line, None


def _of_system(error: OSError) -> str:
    """What the system refused, in one line."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files; raise the limit (ulimit -n)"
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror} (run again with --debug to see where)"


def _require_working_folder() -> None:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        raise BadInput("the working folder is gone; change to another one") from None


def refuse_failures(failures: Sequence[Mapping[str, str]], what: str, store: Path) -> None:
    """End a command of which `--strict` was asked, and whose work is done, where inputs failed. Raises FailedItems."""
    if failures:
        first = failures[0]
        raise FailedItems(
            f"{len(failures)} images {what} (the first: {first['path']}: {first['reason']}); all are listed in "
            f"{store / 'failures.jsonl'}"
        )


def start_torch(device: str, ranks: Ranks | None = None) -> str:
    """Prepare torch for a command: fp32 that is exact, and the device by its name, see `device.find_device`."""
    from facedecode.device import exact_fp32, find_device

    exact_fp32()
    return find_device(device, ranks.local if ranks is not None and ranks.count > 1 else None)
