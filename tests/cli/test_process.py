"""The program among other processes: its standard streams, signals, locale, and a user without a home."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.store import Store

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store, `emb`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.chdir(tiny_store.parent)
    return tiny_store.parent


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    """What a shell runs; `facedecode` is the program."""
    program = f'facedecode() {{ exec "{sys.executable}" -m facedecode "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", program], capture_output=True, timeout=120, env={**os.environ, **environment}, text=True
    )


def one_error(done: subprocess.CompletedProcess) -> str:
    """The one line that a command has left on stderr."""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("nonsense", "no command 'nonsense'; see 'facedecode --help'"),
        ("extrakt", "did you mean 'extract'?"),
        ("evaluate nonsense", "no command 'nonsense'; see 'facedecode evaluate --help'"),
        ("evaluate veri", "did you mean 'verification'?"),
        ("--nonsense", "--nonsense"),
        ("extract x", "missing option"),
        ("extract x -o", "'-o' requires an argument"),
        ("extract x -o y --batch-size many", "--batch-size many: should be a valid integer"),
    ],
)
def test_wrong_usage_is_one_line(command: str, says: str) -> None:
    done = shell(f"facedecode {command}")
    assert (done.returncode, done.stdout) == (2, "") and says in one_error(done), done.stderr
    name, *rest = command.split()
    done = shell(f"facedecode {name} --json {' '.join(rest)}")
    assert done.returncode == 2 and json.loads(done.stdout)["error"] in one_error(done)


def test_no_command_shows_the_help() -> None:
    for command in ("", "evaluate"):
        done = shell(f"facedecode {command}")
        assert (done.returncode, done.stderr) == (2, "") and "Usage: facedecode" in done.stdout


@needs_full
@pytest.mark.parametrize(
    "command", ["models", "--help", "--version", "extract --help", "models --json", "nonsense --json"]
)
def test_results_on_a_full_disk(command: str) -> None:
    done = shell(f"facedecode {command} > /dev/full")
    if command.startswith("nonsense"):
        assert done.returncode == 2 and "no command" in one_error(done)
    else:
        assert done.returncode == 4 and "cannot write to stdout: No space left on device" in one_error(done)


@needs_full
def test_the_object_of_finished_work_on_a_full_disk(here: Path) -> None:
    done = shell("facedecode aggregate emb -o made --json -q > /dev/full")
    assert done.returncode == 4 and "cannot write to stdout" in one_error(done)
    assert (here / "made" / "manifest.json").is_file()


def test_who_reads_results_may_stop() -> None:
    done = shell("set -o pipefail; facedecode models | true")
    assert done.returncode in (0, 1) and done.stderr == ""  # 0: all was written before


@pytest.mark.parametrize("closed", ["2> /dev/full", "2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2> >(true)"])
def test_messages_that_nobody_can_read_do_not_end_the_work(here: Path, closed: str) -> None:
    if "full" in closed and not FULL.exists():
        pytest.skip("needs /dev/full")
    done = shell(f"facedecode aggregate emb -o made {closed}")
    assert done.returncode == 0, done.stderr
    # No message went into a file that got the number of a closed stream.
    assert len(Store.open(here / "made")) > 0


def test_a_list_on_a_closed_or_empty_stdin(here: Path) -> None:
    for given, says in (("<&-", "stdin is closed"), ("< /dev/null", "no image is listed")):
        done = shell(f"facedecode extract - -o new {given}")
        assert done.returncode == 2 and says in one_error(done)
    done = shell("printf 'no/\\xff.jpg' | facedecode extract - -o new")
    assert done.returncode == 4 and "no such file" in one_error(done)


def test_no_home(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import pwd\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = shell("unset HOME XDG_CACHE_HOME FACEDECODE_CACHE; facedecode models --json", PYTHONPATH=paths)
    assert done.returncode == 0 and json.loads(done.stdout)["outputs"]["cache"] is None, done.stderr
    command = "unset HOME XDG_CACHE_HOME FACEDECODE_CACHE; facedecode models --offline --download facenet-vggface2"
    done = shell(command, PYTHONPATH=paths)
    assert done.returncode == 4 and "name one by --cache" in one_error(done)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; facedecode aggregate x -o y", PYTHONPATH=str(ROOT))
    assert done.returncode == 4 and "the working folder is gone" in one_error(done)


def test_names_in_a_locale_of_ascii(here: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = shell("facedecode aggregate emb -o José", **ascii_only)
    assert done.returncode == 0 and (here / "José").is_dir(), done.stderr
    done = shell("facedecode aggregate José/x -o y", **ascii_only)
    assert done.returncode == 4 and done.stderr.startswith("error: "), done.stderr


# ---------------------------------------------------------------- signals

PROGRAM = """
import os, signal, sys, time
from facedecode import interruption
interruption.GRACE, interruption.PATIENCE = 0.6, 0.3
signal.signal(signal.SIGINT, signal.default_int_handler)
interruption.listen()

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

try:
    {work}
except BaseException as error:
    print(type(error).__name__, interruption.asked(), flush=True)
    {after}
    interruption.end(130)
print("went on", flush=True)
"""


def interrupted(tmp_path: Path, work: str, after: str = "pass", module: str = "") -> subprocess.CompletedProcess:
    """Runs statements that interrupt themselves; `module` is imported as `slow`."""
    (tmp_path / "slow.py").write_text(module)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work, after=after)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )


ASKED = "('interrupted; the same command resumes where it can', 130)"


def test_an_import_is_not_cut_in_two(tmp_path: Path) -> None:
    module = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\nprint('imported', flush=True)"
    done = interrupted(tmp_path, "import slow; time.sleep(5)", module=module)
    assert (done.returncode, done.stdout, done.stderr) == (130, f"imported\nKeyboardInterrupt {ASKED}\n", "")


def test_an_import_that_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    module = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: time.sleep(0.01)"
    say = "interruption.announce = lambda line, code: print(line, code, flush=True)"
    done = interrupted(tmp_path, f"{say}; import slow", module=module)
    assert (done.returncode, done.stdout) == (130, "interrupted; the same command resumes where it can 130\n")


def test_what_a_destructor_swallows_is_raised_again(tmp_path: Path) -> None:
    work = "kind = type('Kind', (), dict(__del__=lambda self: interrupt())); kind(); time.sleep(5)"
    done = interrupted(tmp_path, work)
    assert (done.returncode, done.stdout, done.stderr) == (130, f"KeyboardInterrupt {ASKED}\n", "")


def test_work_that_does_not_end_is_ended(tmp_path: Path) -> None:
    done = interrupted(tmp_path, "interrupt(); time.sleep(5)", after="time.sleep(30)")
    assert done.returncode == 130 and one_error(done) == "error: interrupted; the same command resumes where it can\n"


def test_a_second_interrupt_leaves_less_time(tmp_path: Path) -> None:
    work = "interruption.GRACE, interruption.HURRY = 50, 0.2; interrupt(); time.sleep(5)"
    done = interrupted(tmp_path, work, "interrupt(); time.sleep(40)")
    assert done.returncode == 130 and one_error(done).startswith("error: interrupted")


def test_an_interrupt_that_the_parent_ignores_is_ignored(here: Path) -> None:
    done = shell("trap '' INT; (sleep 0.3; kill -INT $$) & facedecode aggregate emb -o made")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "number", "code"),
    [
        *(
            (name, signal.SIGINT, 130)
            for name in ("typer.models", "facedecode.cli.console", "numpy.linalg", "torch._C")
        ),
        ("torch.nn", signal.SIGTERM, 143),
    ],
)
def test_a_signal_while_modules_are_imported(here: Path, module: str, number: int, code: int) -> None:
    words = ["fit-mapping", "--embeddings", "emb", "--transform", "rotate5", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "facedecode", *words],  # tells what is imported
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        said = []
        for line in process.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif line.split("|")[-1].strip() == module:
                process.send_signal(number)
        assert process.wait(60) == code
        assert len(said) == 1 and said[0].startswith("error: interrupted" if code == 130 else "error: terminated")
        answer = json.loads(process.stdout.read())
        assert (answer["exit_code"], answer["command"]) == (code, "fit-mapping")
    finally:
        process.kill()


# ---------------------------------------------------------------- what the system refuses


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 7, "out of memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 7, "out of memory"),
        (RuntimeError("can't start new thread"), 7, "no more threads"),
        (OSError(errno.EMFILE, "Too many open files", "x.png"), 4, "ulimit -n"),
        (OSError(errno.EIO, "Input/output error", "x.png"), 4, "x.png: Input/output error"),
        (ZeroDivisionError("oops"), 1, "a bug in facedecode"),
    ],
    ids=str,
)
def test_what_the_system_refuses(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, says: str
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("facedecode.templates.aggregation.aggregate_store", refuse)
    done = CliRunner().invoke(app, ["aggregate", "emb", "-o", "made"])
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.exit_code == code and len(told) == 1 and says in told[0], done.stderr
