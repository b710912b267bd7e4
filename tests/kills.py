"""Kills commands at every call that changes the disk, and runs the same command again.

    python tests/kills.py                       # every command at every call: a table of how many, and what went wrong
    python tests/kills.py --sample 12 attack    # these commands, at 12 calls each, evenly spaced from one by the seed

One process imports everything once; each run is a fork of it. A fork counts its calls that change the disk (open for
writing, write, fsync, rename, unlink, mkdir, rmdir, link, truncate) and, at the chosen one, kills itself (SIGKILL)
before the call is made; in the middle of a write, half of it is on the disk by then. A second fork runs the command
again. It is to exit with 0 and to leave what a run leaves that nobody killed: the same files with the same bytes, and
no other. Where the killed run had left just that already, the second may refuse to replace it (exit 4). With --twice,
the second run is killed, too, at a random call, and a third one is judged. With --signal INT the fork interrupts itself
as Ctrl-C does, and is to end with exit code 130 and one line.

`tests/test_kills.py` starts this program with --serve: it answers lines [name, signal, sample], in JSON, by lines.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import gc
import importlib
import inspect
import io
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # a fork has one thread
    os.environ[variable] = "1"
os.environ["MPLBACKEND"] = "agg"
sys.dont_write_bytecode = True

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from conftest import draw_people, register_tiny, save_tiny  # noqa: E402

from facedecode.attacks.jobs import AttackJob  # noqa: E402
from facedecode.extraction.jobs import StoreOptions  # noqa: E402
from facedecode.pictures import align, mtcnn  # noqa: E402
from facedecode.store import grouped  # noqa: E402
from facedecode.templates import transformation  # noqa: E402
from facedecode.training.jobs import RecognizerSettings, TrainSettings  # noqa: E402

OUT = "out"  # the folder that outputs go to
LONGEST = 120  # seconds that a run may take


@dataclass(frozen=True)
class Scenario:
    """A command to kill.

    command: without the program's name. before: commands whose outputs are there when it starts.
    """

    command: str
    before: tuple[str, ...] = ()


FACES = "--model tiny --weights tiny.safetensors"
TRAIN = "--image-size 64 --epochs 0.25 --batch-size 4 --width 0.1 --identity-weight 0 --perceptual-weight 0"
RECOGNIZER = "--min-images 2 --image-size 16 --batch-size 4"
FEW = "--repetitions 100"
DECODER = "--decoder mean --people judged.txt --weights tiny=tiny.safetensors"

SCENARIOS: dict[str, Scenario] = {
    "extract": Scenario(f"extract faces/P0 faces/P1 -o out/emb {FACES} --labels labels.csv --preview out/preview.png"),
    "extract again": Scenario(
        f"extract faces/P0 faces/P1 -o out/emb {FACES} --overwrite",
        (f"extract faces/P2 faces/P3 faces/P4 -o out/emb {FACES}",),
    ),
    "import": Scenario(f"import templates.npy --images list.txt -o out/emb {FACES}"),
    "merge": Scenario("merge emb-a emb-b -o out/emb"),
    "split": Scenario("split emb -o out/people"),
    "split again": Scenario("split emb -o out/people --overwrite", ("split emb -o out/people --test-share 0.3",)),
    "transform": Scenario("transform emb -o out/emb --protect rotation --key-file key.txt"),
    "transform, new key": Scenario("transform emb -o out/emb --protect biohash --new-key out/key"),
    "transform, new key again": Scenario(
        "transform emb -o out/emb --protect biohash --new-key out/key --overwrite",
        ("transform emb -o out/emb --protect rotation --key-file key.txt",),
    ),
    "aggregate": Scenario("aggregate emb -o out/emb"),
    "cluster": Scenario("cluster emb -o out/emb -k 4 --decoder mean"),
    "cluster again": Scenario(
        "cluster emb -o out/emb -k 4 --decoder mean --overwrite", ("cluster emb -o out/emb -k 9 --decoder mean",)
    ),
    "train mean-face": Scenario("train emb -o out/decoder --architecture mean-face --image-size 64"),
    "train ridge": Scenario("train emb -o out/decoder --architecture ridge --image-size 64"),
    "train nearest": Scenario("train emb -o out/decoder --architecture nearest --image-size 64"),
    "train ridge again": Scenario(
        "train emb -o out/decoder --architecture ridge --image-size 64 --overwrite",
        ("train emb -o out/decoder --architecture nearest --image-size 64",),
    ),
    "train dfd": Scenario(f"train emb -o out/decoder {TRAIN} --no-mirror"),
    "train dfd again": Scenario(
        f"train emb -o out/decoder {TRAIN} --no-mirror --overwrite",
        (f"train emb -o out/decoder {TRAIN} --no-mirror --seed 1",),
    ),
    "train nbnet": Scenario(
        "train emb -o out/decoder --architecture nbnet --image-size 64 --epochs 0.25 --batch-size 4 --width 0.1"
        " --no-mirror --phi tiny=tiny.safetensors"
    ),
    "train latent": Scenario(
        "train emb -o out/decoder --architecture latent --generator generator.pt2 --generator-range -1,1 --samples 60"
        " --image-size 64 --weights tiny.safetensors"
    ),
    "train bare": Scenario(
        f"train templates.npy -o out/decoder --images list.txt --architecture ridge --image-size 64 {FACES}"
    ),
    "train recognizer": Scenario(f"train emb -o out/own --kind recognizer {RECOGNIZER} --epochs 0.25"),
    "train recognizer again": Scenario(
        f"train emb -o out/own --kind recognizer {RECOGNIZER} --epochs 0.25 --overwrite",
        (f"train emb -o out/own --kind recognizer {RECOGNIZER} --epochs 0.2",),
    ),
    "train classifier": Scenario("train emb -o out/people.safetensors --kind classifier --min-images 2"),
    "train classifier from head": Scenario(
        "train emb -o out/people.safetensors --kind classifier --from-head head.safetensors --names names.txt"
    ),
    "train disentangler": Scenario(
        "train emb -o out/parts.safetensors --kind disentangler --labels labels.csv --label gender"
    ),
    "fit-mapping": Scenario(
        "fit-mapping --embeddings emb --transform rotate30 --transform rotate60 -o out/maps --weights tiny.safetensors"
    ),
    "fit-mapping sums": Scenario(
        "fit-mapping --embeddings emb --transform rotate30 --transform rotate60 --sums-to out/sums"
        " --weights tiny.safetensors"
    ),
    "fit-mapping from sums": Scenario("fit-mapping --from-sums sums/rotate30.safetensors -o out/maps"),
    "fit-confidence": Scenario("fit-confidence emb -o out/confidence.safetensors --decoder mean"),
    "attack": Scenario(
        f"attack faces/P0 -o out/adv {FACES} --target faces/P5/P5_0001.png --steps 2 --decoder mean --threshold -0.1"
    ),
    "attack again": Scenario(
        f"attack faces/P0 -o out/adv {FACES} --away --steps 2 --decoder mean --threshold -0.1 --overwrite",
        (f"attack faces/P2/P2_0001.png -o out/adv {FACES} --away --steps 1 --decoder mean --threshold -0.1",),
    ),
    "invert to a file": Scenario("invert emb-a -o out/faces.png --decoder mean --weights tiny.safetensors"),
    "invert to a folder": Scenario(
        "invert emb-a -o out/faces --decoder mean --weights tiny.safetensors --confidence confidence.safetensors"
    ),
    "invert to a folder again": Scenario(
        "invert emb-a -o out/faces --decoder mean --weights tiny.safetensors --overwrite",
        ("invert emb-b -o out/faces --decoder mean --weights tiny.safetensors",),
    ),
    "walk": Scenario(
        "walk emb --from 0 --to 5 -o out/walk.png --save-templates out/walk.npy --decoder mean"
        " --weights tiny.safetensors"
    ),
    "evaluate verification": Scenario(f"evaluate verification emb --far 0.1 -o out/report {FEW}"),
    "evaluate verification again": Scenario(
        f"evaluate verification emb --far 0.1 -o out/report {FEW} --overwrite",
        (f"evaluate reconstruction emb {DECODER} -o out/report {FEW}",),
    ),
    "evaluate reconstruction": Scenario(f"evaluate reconstruction emb {DECODER} -o out/report {FEW}"),
    "evaluate security": Scenario(f"evaluate security emb {DECODER} --fmr 0.1 -o out/report {FEW}"),
    "evaluate leakage": Scenario(
        "evaluate leakage emb --labels labels.csv --label gender --attribute brightness --decoder mean --folds 2"
        f" --weights tiny.safetensors -o out/report --directions out/directions {FEW}"
    ),
    "evaluate aggregation": Scenario(f"evaluate aggregation emb --persons 4 --draws 2 --far 0.1 -o out/report {FEW}"),
    "evaluate protection": Scenario(
        f"evaluate protection emb --scheme rotation --keys 3 --fmr 0.1 -o out/report {FEW}"
    ),
    "evaluate equivariance": Scenario(
        "evaluate equivariance emb --people judged.txt --train-people training.txt --weights tiny.safetensors"
        f" --transform rotate30 --ridge 0.1 --work out/work -o out/report {FEW}"
    ),
}


# ---------------------------------------------------------------- inputs


class _OneFace:
    """In the place of `mtcnn.Mtcnn`: portraits have their face where it belongs; looking for it would take long."""

    min_face_size, thresholds, factor = 20, (0.6, 0.7, 0.7), 0.709

    def __init__(self, *_: object) -> None:
        pass

    def detect(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Boxes (1, 4), probabilities (1,) and landmarks (1, 5, 2) in each of (n, P, P, 3)."""
        face = align.portrait_face(images.shape[1])
        return [(face.box[None], np.ones(1), face.landmarks[None])] * len(images)


def _set_default(function: Callable[..., Any], name: str, value: Any) -> None:
    """Change the default of an argument that no option sets, so that a short run writes often."""
    if name in (function.__kwdefaults__ or {}):
        function.__kwdefaults__[name] = value
        return
    having = [p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    function.__defaults__ = tuple(
        value if own == name else old for own, old in zip(having, function.__defaults__, strict=True)
    )


class _Generator(torch.nn.Module):
    """Latents (n, 2) → smooth pictures (n, 3, 64, 64) from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        looks = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(2)) * 2 - 1
        looks = torch.nn.functional.interpolate(looks, (64, 64), mode="bicubic", align_corners=False)
        self.register_buffer("mean", looks[0] * 0.5)
        self.register_buffer("patterns", looks[1:] * 0.12)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.mean + torch.einsum("nk,kcij->ncij", latents, self.patterns)


def prepare(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the inputs of all commands in `folder`, and go there."""
    patch.chdir(folder)
    register_tiny(patch)
    patch.setattr(mtcnn, "Mtcnn", _OneFace)
    patch.setattr(grouped, "_SHARD_ROWS", 12)
    patch.setattr(transformation, "new_key", lambda: bytes(range(32)))  # else random
    _set_default(StoreOptions.__init__, "shard_rows", 48)
    _set_default(AttackJob.__init__, "shard_rows", 2)
    for settings in (TrainSettings, RecognizerSettings):
        _set_default(settings.__init__, "save_every", 2)
        _set_default(settings.__init__, "validate_every", 2)
    weights = save_tiny(Path("tiny.safetensors"))
    draw_people(folder / "drawn", folder / "faces", "tiny", weights, people=24, each=4)
    paths = sorted(str(path) for path in Path("faces").rglob("*.png"))
    Path("judged.txt").write_text("".join(f"P{k}\n" for k in range(6)))
    Path("training.txt").write_text("".join(f"P{k}\n" for k in range(6, 24)))
    relative = [path.removeprefix("faces/") for path in paths]
    genders = [f"{path},{'fm'[int(path[1 : path.index('/')]) % 2]}\n" for path in relative]
    Path("labels.csv").write_text("path,gender\n" + "".join(genders))
    Path("key.txt").write_bytes(bytes(range(32)))
    Path("list.txt").write_text("".join(f"{path}\n" for path in paths[:6]))
    Path("names.txt").write_text("P0\nP1\nP2\n")
    save_file({"weight": np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)}, "head.safetensors")
    shape = ({0: torch.export.Dim("n")},)
    exported = torch.export.export(_Generator().eval(), (torch.zeros(2, 2),), dynamic_shapes=shape)
    torch.export.save(exported, "generator.pt2")
    Path(OUT).mkdir()
    for command in (
        f"extract faces -o emb {FACES}",
        f"extract faces/P0 -o emb-a {FACES}",  # the first of those with three rows in a shard
        f"extract faces/P1 -o emb-b {FACES}",
        "train emb -o mean --architecture mean-face --image-size 64 --people training.txt",
        "fit-mapping --embeddings emb --transform rotate30 --sums-to sums --weights tiny.safetensors",
        "fit-confidence emb -o confidence.safetensors --decoder mean",
    ):
        if "emb-a" in command:
            _set_default(StoreOptions.__init__, "shard_rows", 3)
        ended = run(command)
        if ended.code != 0:
            raise RuntimeError(f"{command}: {ended.said}")
    from facedecode.store import Store

    np.save("templates.npy", Store.open("emb").templates()[:6])


# ---------------------------------------------------------------- one run


class Calls:
    """Counts the calls of this process that change the disk below a folder, and ends it at one of them."""

    def __init__(self, folder: Path, last: int | None = None, by: int = signal.SIGKILL) -> None:
        self.folder, self.last, self.by = folder, last, by
        self.names: list[str] = []
        sys.addaudithook(self._hear)
        self._open = io.open
        io.open = builtins.open = self._opened  # type: ignore[assignment]
        if accessor := getattr(sys.modules["pathlib"], "_NormalAccessor", None):  # Python 3.10 keeps its own
            accessor.open = staticmethod(self._opened)
        for name in ("fsync", "write"):
            setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))

    def reached(self, name: str, before: Callable[[], Any] | None = None) -> None:
        """A call is about to be made; `before` does a part of it."""
        self.names.append(name)
        if len(self.names) == self.last:
            if before is not None:
                before()
            os.kill(os.getpid(), self.by)

    def _below(self, path: Any) -> bool:
        named = isinstance(path, str | bytes | os.PathLike)
        return named and (Path.cwd() / os.fsdecode(path)).is_relative_to(self.folder)

    def _hear(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writing and self._below(path):
                self.reached(f"open {_shown(path)}")
        elif event in ("os.rename", "os.link"):
            if self._below(arguments[0]) or self._below(arguments[1]):
                self.reached(f"{event[3:]} to {_shown(arguments[1])}")
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.truncate") and (
            self._below(arguments[0]) or arguments[-1] not in (-1, None)  # relative to a folder that is open
        ):
            self.reached(f"{event[3:]} {_shown(arguments[0])}")

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        opened = self._open(file, mode, *arguments, **named)
        if set(mode) & set("wxa+") and (isinstance(file, int) or self._below(file)):
            return _Halved(opened, self)
        return opened

    def _fsync(self, fsync: Callable[[Any], None]) -> Callable[[Any], None]:
        def counted(file: Any) -> None:
            self.reached("fsync")
            fsync(file)

        return counted

    def _write(self, write: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def counted(descriptor: int, data: Any) -> int:
            if descriptor > 2:
                self.reached("write", lambda: write(descriptor, data[: len(data) // 2]))
            return write(descriptor, data)

        return counted


class _Halved:
    """A file that is open for writing, as `Calls` watches it."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, data: Any) -> int:
        def half() -> None:
            part = data if isinstance(data, str) else memoryview(data).cast("B")
            self._file.write(part[: len(part) // 2])
            self._file.flush()

        self._calls.reached("write", half)
        return self._file.write(data)

    def __enter__(self) -> _Halved:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _shown(path: Any) -> str:
    return Path(os.fsdecode(path)).name


@dataclass
class Ended:
    """How a run ended: its exit code (-9: killed), what it said on stderr, its calls, and the modules it had."""

    code: int
    said: str = ""
    calls: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)


def run(command: str, last: int | None = None, by: int = signal.SIGKILL) -> Ended:
    """Run a command in a fork; `last`: the number of the call at which it is killed, by this signal."""
    gc.collect()
    gc.freeze()  # a fork then shares more of this process's memory
    with tempfile.TemporaryDirectory() as notes:
        said, told = Path(notes, "stderr"), Path(notes, "told.json")
        process = os.fork()
        if process == 0:
            code = 70
            try:
                code = _command(command, last, by, said, told)
            finally:
                os._exit(code)
        _, status = _wait(process)
        text = said.read_text(errors="replace") if said.exists() else ""
        more = json.loads(told.read_text()) if told.exists() else {}
    return Ended(os.waitstatus_to_exitcode(status), text, **more)


def _wait(process: int) -> tuple[int, int]:
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        ended = os.waitpid(process, os.WNOHANG)
        if ended != (0, 0):
            return ended
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError("a run did not end")


def _command(command: str, last: int | None, by: int, said: Path, told: Path) -> int:
    os.setsid()
    gc.disable()
    with open(os.devnull, "rb") as nothing, open(said, "wb") as stderr:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(stderr.fileno(), 1)
        os.dup2(stderr.fileno(), 2)
    torch.set_num_threads(1)
    from facedecode.__main__ import main

    sys.argv = ["facedecode", *shlex.split(command)]
    calls = Calls(Path.cwd(), last, by)
    try:
        main()
        code: Any = 0
    except SystemExit as stop:
        code = stop.code or 0
    modules = [name for name, module in list(sys.modules.items()) if module is not None]
    names = list(calls.names)
    told.write_text(json.dumps({"calls": names, "modules": modules}))
    sys.stderr.flush()
    return code if isinstance(code, int) else 1


# ---------------------------------------------------------------- kill and run again


@dataclass
class Result:
    """How the points of a command went: how many there are, how many were tried, and what was wrong at some.

    seconds: of processor time.
    """

    name: str
    points: int
    tried: int
    wrong: list[str]
    seconds: float


def content(folder: str = OUT) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder, by relative path."""
    root = Path(folder)
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def kill_everywhere(
    name: str, sample: int | None = None, seed: int = 0, by: int = signal.SIGKILL, twice: bool = False
) -> Result:
    """Kill a command at each of its calls, or at so many as a sample has, and run it again each time.

    twice: kill the second run, too. by: a signal.
    """
    started, scenario = _processor_seconds(), SCENARIOS[name]
    shutil.rmtree("before", ignore_errors=True)
    inputs = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if OUT not in path.parts}
    _start_over()
    for command in scenario.before:
        _require_done(command, run(command))
    shutil.copytree(OUT, "before", symlinks=True)
    whole = run(scenario.command)
    _require_done(scenario.command, whole)
    _import(whole.modules)
    wanted = content()
    points = list(range(1, len(whole.calls) + 1))
    chance = random.Random(f"{seed} {name}")
    if sample is not None and sample < len(points):
        first = chance.random()
        points = sorted({int((first + k) * len(points) / sample) % len(points) + 1 for k in range(sample)})
    wrong = []
    for point in points:
        _start_over("before")
        what = f"{point} of {len(whole.calls)} ({whole.calls[point - 1]})"
        if said := _not_stopped(run(scenario.command, point, by), by):
            wrong.append(f"{what}: {said}")
        if twice:
            second = chance.randint(1, len(whole.calls))
            run(scenario.command, second, by)
            what += f", then {second}"
        left = content()
        again = run(scenario.command)
        now = content()
        done_before = left == wanted and again.code == 4
        if again.code != 0 and not done_before:
            wrong.append(f"{what}: then exit {again.code}: {again.said.strip()[-300:]}")
        elif now != wanted:
            wrong.append(f"{what}: then {_difference(wanted, now)}")
    shutil.rmtree("before")
    _start_over()
    if inputs != {path: path.stat().st_mtime_ns for path in Path().rglob("*") if OUT not in path.parts}:
        wrong.append("inputs were changed, or files written elsewhere")
    return Result(name, len(whole.calls), len(points), wrong, _processor_seconds() - started)


def _start_over(source: str | None = None) -> None:
    shutil.rmtree(OUT)
    if source is None:
        Path(OUT).mkdir()
    else:
        shutil.copytree(source, OUT, symlinks=True)


def _processor_seconds() -> float:
    """Of this process and its forks so far."""
    return sum(os.times()[:4])


def _not_stopped(ended: Ended, by: int) -> str | None:
    """What was wrong with the end of a run that got a signal."""
    if by == signal.SIGKILL:
        return None if ended.code == -by else f"was not killed: exit {ended.code}: {ended.said[-300:]}"
    errors = [line for line in ended.said.splitlines() if line.startswith("error:")]
    if (ended.code, len(errors)) == (130, 1) and "Traceback" not in ended.said:
        return None
    return f"exit {ended.code} at an interrupt: {ended.said.strip()[-300:]}"


def _require_done(command: str, ended: Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"{command}: exit {ended.code}: {ended.said}")


def _import(modules: list[str]) -> None:
    """Import what a run had imported, so that the next ones need not."""
    for name in modules:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _difference(wanted: dict[str, bytes | None], now: dict[str, bytes | None]) -> str:
    parts = {
        "missing": sorted(wanted.keys() - now.keys()),
        "left over": sorted(now.keys() - wanted.keys()),
        "different": sorted(name for name in wanted.keys() & now.keys() if wanted[name] != now[name]),
    }
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in parts.items() if names)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def judge(name: str, *arguments: Any) -> Result:
    """As `kill_everywhere`; where the command fails by itself, that is what was wrong."""
    try:
        return kill_everywhere(name, *arguments)
    except (RuntimeError, TimeoutError) as error:
        return Result(name, 0, 0, [str(error)], 0)


def main() -> None:
    """The command line of this program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="commands; all if absent")
    parser.add_argument("--sample", type=int, help="points of each command; all if absent")
    parser.add_argument("--seed", type=int, default=0, help="of the first point of a sample")
    parser.add_argument("--signal", choices=["KILL", "INT"], default="KILL", help="what ends a run")
    parser.add_argument("--twice", action="store_true", help="end the second run, too")
    parser.add_argument("--serve", action="store_true", help="read names on stdin, answer in JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        prepare(Path(folder).resolve(), patch)
        if arguments.serve:
            for line in sys.stdin:
                name, by, sample = json.loads(line)
                result = judge(name, sample, arguments.seed, signal.Signals[f"SIG{by}"])
                _say(json.dumps(asdict(result)))
            return
        _say("| command | calls | tried | right | seconds |\n|---|---|---|---|---|")
        for name in arguments.names or SCENARIOS:
            by = signal.Signals[f"SIG{arguments.signal}"]
            result = judge(name, arguments.sample, arguments.seed, by, arguments.twice)
            right = max(0, result.tried - len(result.wrong))
            _say(f"| {name} | {result.points} | {result.tried} | {right} | {result.seconds:.1f} |")
            for line in result.wrong:
                _say(f"    {line}")


if __name__ == "__main__":
    main()
