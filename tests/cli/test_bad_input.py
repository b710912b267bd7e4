"""What is refused before torch is imported: inputs that are not there or of another kind, outputs that cannot be
written, values that are no choice or no number.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer

from facedecode.cli import commands
from facedecode.cli.checks import CHECKS, OUTPUTS
from facedecode.cli.commands.evaluate import ReportOptions
from facedecode.cli.options import parameters_of
from facedecode.evaluation import EVALUATIONS
from facedecode.options import Option

# What else each command needs to come as far as its inputs. STORE, ARRAY, TEXT: a store, a .npy file, a text file.
NEEDED = {
    "extract": ["TEXT"],
    "import": ["ARRAY", "--images", "TEXT"],
    "merge": ["STORE"],
    "cluster": ["STORE", "-k", "2"],
    "walk": ["STORE", "--from", "0"],
    "fit-mapping": ["--transform", "rotate30"],
    "attack": ["TEXT", "--away"],
    "evaluate reconstruction": ["STORE", "--decoder", "dlib-resnet"],
    "evaluate security": ["STORE", "--decoder", "dlib-resnet"],
}
# What `train` is to make, for an option that decoders do not have.
TRAIN = {
    "--generator": ["--architecture", "latent", "--generator-range", "0,1"],
    "--from-head": ["--kind", "classifier", "--names", "TEXT"],
    "--names": ["--kind", "classifier", "--from-head", "TEXT"],
    "--labels": ["--kind", "disentangler", "--label", "gender"],
}
# One process for all: it forbids torch, and tries one command after the other.
TRY_ALL = """
import importlib.abc, json, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "sklearn", "matplotlib"):
            raise RuntimeError(f"{name} was imported")

sys.meta_path.insert(0, Forbidden())
from typer.testing import CliRunner
from facedecode.cli import app

runner, answers = CliRunner(), []
for words in json.load(sys.stdin):
    done = runner.invoke(app, words)
    answers.append([done.exit_code, done.stdout, done.stderr])
print(json.dumps(answers))
"""


def signatures() -> Iterator[tuple[str, inspect.Signature]]:
    """The name and the parameters of each command."""
    for section in commands.SECTIONS.values():
        for name, (module, _) in section.items():
            app: typer.Typer = import_module(f"{commands.PACKAGE}.{module}").app
            for command in app.registered_commands:
                yield name, inspect.signature(command.callback, eval_str=True)
    for name, evaluation in EVALUATIONS.items():
        yield f"evaluate {name}", inspect.Signature([*parameters_of(evaluation.job), *parameters_of(ReportOptions)])


def options() -> Iterator[tuple[str, Option, object, list[str]]]:
    """The command, what is declared of an option, its type, and what to write before a value of it."""
    for command, signature in signatures():
        for name, parameter in signature.parameters.items():
            for marker in typing.get_args(parameter.annotation):
                if isinstance(marker, Option):
                    kind, declared, *_ = typing.get_args(parameter.annotation)
                    # In an annotation, Typer takes the first name of an option for its default.
                    names = [n for n in (declared.default, *(declared.param_decls or ())) if str(n).startswith("--")]
                    flag = [names[0].partition("/")[0]] if names else [f"--{name.replace('_', '-')}"]
                    yield command, marker, kind, [] if isinstance(declared, typer.models.ArgumentInfo) else flag


def inputs() -> Iterator[tuple[str, str, list[str]]]:
    """The command, the kind of input that an option takes, and what to write before a value of it."""
    for command, marker, _, before in options():
        if marker.exists:
            yield command, marker.exists, before


def words_of(command: str, before: list[str], value: str) -> list[str]:
    """The command with this value; what it needs besides takes good ones."""
    needed = list(NEEDED.get(command, ["STORE"]))
    if command == "train":
        needed = ["ARRAY"] if before in (["--model"], ["--spec"], ["--device"]) else needed
        needed += ["--images", "TEXT"] if needed == ["ARRAY"] else TRAIN.get(before[0], []) if before else []
    if before and before[0] in needed:
        at = needed.index(before[0])
        del needed[at : at + 2]
    elif not before:
        needed = needed[1:]
    output = [] if command.startswith("evaluate") or command == "models" or before == ["--output"] else ["-o", "made"]
    return [*command.split(), *([] if before else [value]), *needed, *output, *([*before, value] if before else [])]


@pytest.fixture
def attempts(tiny_store: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs commands where torch is forbidden; each one's exit code, stdout and stderr."""
    monkeypatch.chdir(tiny_store.parent)
    np.save("array.npy", np.zeros((2, 16), np.float32))
    Path("text").write_text("a/b.png\n")
    good = {"STORE": tiny_store.name, "ARRAY": "array.npy", "TEXT": "text"}

    def run(several: list[list[str]]) -> list[tuple[int, str, str]]:
        written = json.dumps([[good.get(word, word) for word in words] for words in several])
        done = subprocess.run(
            [sys.executable, "-c", TRY_ALL], input=written, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return run


def test_every_path_is_checked() -> None:
    for command, signature in signatures():
        for name, parameter in signature.parameters.items():
            # The folder for downloads is made by the one that is asked for.
            if "Path" in str(typing.get_args(parameter.annotation)[:1]) and name != "cache":
                markers = [m for m in typing.get_args(parameter.annotation) if isinstance(m, Option)]
                known = [m.makes in OUTPUTS if m.makes else m.exists in CHECKS for m in markers]
                assert known == [True], f"{command}: {name}"


def test_an_input_that_is_not_there(attempts) -> None:
    labeled = dict.fromkeys(("labeled weights", "name or labeled file"), "x=no/such")
    names = dict.fromkeys(("device", "transform", "transforms"), "gpu")
    spelled = {**labeled, **names, "model": "torch:no/such"}
    codes = dict.fromkeys((*labeled, "weights", "decoder", "labeled decoder"), 3) | dict.fromkeys(names, 2)
    tried = [(words_of(c, before, spelled.get(kind, "no/such")), kind) for c, kind, before in inputs()]
    assert len(tried) > 100
    for (words, kind), (code, out, err) in zip(tried, attempts([words for words, _ in tried]), strict=True):
        assert (code, out) == (codes.get(kind, 4), ""), (words, err)
        assert err.startswith("error: ") and err.count("\n") == 1, (words, err)
        assert spelled.get(kind, "no/such").rpartition("=")[2].removeprefix("torch:") in err, (words, err)


def test_an_input_of_another_kind(attempts) -> None:
    fitted = ("mapping", "mapping sums", "direction", "disentangler", "classifier", "confidence map")
    wrong = {
        **dict.fromkeys((*fitted, "store", "labeled store", "templates", "embeddings"), "TEXT"),
        **dict.fromkeys(("file", "decoder", "labeled decoder"), "STORE"),
    }
    tried = [(words_of(c, before, wrong[kind]), kind) for c, kind, before in inputs() if kind in wrong]
    assert {kind for _, kind in tried} == {*wrong}
    for (words, kind), (code, out, err) in zip(tried, attempts([words for words, _ in tried]), strict=True):
        assert (code, out) == (3 if "decoder" in kind else 4, ""), (words, err)
        assert err.startswith("error: ") and err.count("\n") == 1, (words, err)


@pytest.mark.parametrize(
    "words",
    [
        ["cluster", "STORE", "-k", "2", "-o", "made", "--linkage", "wart"],
        ["cluster", "STORE", "-k", "2", "-o", "made", "--metric", "wart"],
        ["aggregate", "STORE", "-o", "made", "--method", "wart"],
        ["aggregate", "STORE", "-o", "made", "--weight", "wart"],
        ["fit-mapping", "--embeddings", "STORE", "--transform", "rotate30", "--kind", "wart"],
        ["fit-mapping", "--embeddings", "STORE", "--transform", "wart"],
        ["extract", "TEXT", "-o", "made", "--model", "wart"],
        ["extract", "TEXT", "-o", "made", "--precision", "wart"],
        ["extract", "TEXT", "-o", "made", "--transform", "wart"],
        ["import", "ARRAY", "--images", "TEXT", "-o", "made", "--model", "wart"],
        ["import", "ARRAY", "--images", "TEXT", "-o", "made", "--score", "wart"],
        ["attack", "TEXT", "--away", "-o", "made", "--method", "wart"],
        ["attack", "TEXT", "--away", "-o", "made", "--objective", "wart"],
        ["attack", "TEXT", "--away", "-o", "made", "--on-failure", "wart"],
        ["train", "STORE", "-o", "made", "--kind", "wart"],
        ["train", "STORE", "-o", "made", "--architecture", "wart"],
        ["train", "STORE", "-o", "made", "--identity-target", "wart"],
        ["train", "STORE", "-o", "made", "--kind", "recognizer", "--head", "wart"],
        ["train", "STORE", "-o", "made", "--kind", "recognizer", "--backbone", "wart"],
        ["train", "STORE", "-o", "made", "--kind", "classifier", "--l2", "wart"],
        ["transform", "STORE", "-o", "made", "--protect", "wart"],
        ["evaluate", "protection", "STORE", "--scheme", "wart"],
        ["evaluate", "protection", "STORE", "--attacker", "wart"],
        ["evaluate", "equivariance", "STORE", "--transform", "wart"],
        ["evaluate", "equivariance", "STORE", "--ridge", "wart"],
        ["evaluate", "verification", "STORE", "--fail-if", "wart < 3"],
        ["evaluate", "reconstruction", "STORE", "--decoder", "dlib-resnet", "--lpips-net", "wart"],
        ["evaluate", "reconstruction", "STORE", "--decoder", "dlib-resnet", "--fail-if", "wart < 3"],
        ["invert", "STORE", "-o", "made", "--refine", "wart"],
        ["invert", "STORE", "-o", "made.jpg"],
        ["invert", "STORE", "-o", "made", "--wart"],
        ["wart"],
    ],
    ids=" ".join,
)
def test_a_value_that_is_none(attempts, words: list[str]) -> None:
    ((code, out, err),) = attempts([words])
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ") and err.count("\n") == 1 and ("wart" in err or "made.jpg" in err), err


@pytest.mark.parametrize("place", ["file/in/out", "n" * 300], ids=["below a file", "too long"])
def test_an_output_that_cannot_be_written(attempts, place: str) -> None:
    Path("file").write_text("mine")
    before = sorted(Path().iterdir())
    suffix = {"walk --output": ".png", "walk --save-templates": ".npy"}
    made = [(command, marker, flag) for command, marker, _, flag in options() if marker.makes]
    assert {flag[0] for _, _, flag in made} >= {"--output", "--new-key", "--preview", "--work", "--directions"}
    tried = [words_of(c, flag, place + suffix.get(f"{c} {flag[0]}", "")) for c, _, flag in made]
    for words, (code, out, err) in zip(tried, attempts(tried), strict=True):
        assert (code, out) == (4, ""), (words, err)
        assert err.startswith("error: cannot ") and err.count("\n") == 1 and place in err, (words, err)
    assert sorted(Path().iterdir()) == before


def test_outputs_of_other_kinds_of_trainings(attempts) -> None:
    Path("taken").mkdir()
    tried = [
        ["train", "STORE", "--kind", "classifier", "-o", "taken"],
        ["train", "STORE", "--kind", "recognizer", "-o", "text/made"],
        ["train", "STORE", "--kind", "disentangler", "--labels", "text", "--label", "age", "-o", "text/made"],
        ["train", "STORE", "--kind", "classifier", "-o", "text/made", "--from-head", "text", "--names", "text"],
        ["fit-mapping", "--embeddings", "STORE", "--transform", "rotate5", "-o", "text"],
        ["extract", "TEXT", "-o", "text/made", "--dry-run"],
        ["invert", "STORE", "-o", "no/such/x.png"],
    ]
    for words, (code, out, err) in zip(tried, attempts(tried), strict=True):
        assert (code, out) == (4, "") and err.startswith("error: cannot "), (words, err)


@pytest.mark.parametrize("value", ["nan", "-inf", "1e999"])
def test_a_number_that_is_none(attempts, value: str) -> None:
    floats = [(c, flag) for c, _, kind, flag in options() if "float" in str(kind) and flag]
    assert len(floats) > 20
    tried = [words_of(c, flag, value) for c, flag in floats]
    for words, (code, out, err) in zip(tried, attempts(tried), strict=True):
        assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, (words, err)


def test_a_number_that_nothing_holds(attempts) -> None:
    tried = [words_of(c, flag, "9" * 30) for c, _, kind, flag in options() if "int" in str(kind) and flag]
    assert len(tried) > 20
    for words, (code, out, err) in zip(tried, attempts(tried), strict=True):
        assert (code, out) == (2, "") and err.count("\n") == 1, (words, err)


@pytest.mark.parametrize(
    "words",
    [
        ["extract", "", "-o", "made"],
        ["extract", "TEXT", "-o", ""],
        ["extract", "TEXT", "-o", "made", "--transform", ""],
        ["extract", "TEXT", "-o", "made", "--transform="],
        ["evaluate", "verification", "STORE", "--people", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value(attempts, words: list[str]) -> None:
    ((code, out, err),) = attempts([words])
    assert (code, out) == (2, "") and "the value is empty" in err and err.count("\n") == 1, err
    assert not Path("made").exists()
