"""`facedecode evaluate verification`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.app import Overwrite, Seed, command
from facedecode.cli.commands.evaluate.common import (
    FailIf,
    Output,
    People,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
    refuse_unknown,
    require_label,
)
from facedecode.cli.console import Console
from facedecode.errors import UsageError

if TYPE_CHECKING:  # these cost time that --help does not have
    from facedecode.evaluation.comparisons import Source
    from facedecode.store import Store


def register(group: typer.Typer) -> None:
    command("verification", group, title="evaluate verification")(verification)


def verification(
    console: Console,
    stores: Annotated[
        list[str], typer.Argument(help="Stores made by 'extract', one a recognizer; NAME=STORE labels one.")
    ],
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="Pairs to compare, in LFW's format (View 1 or 2). Else all pairs.")
    ] = None,
    probes: Annotated[
        Path | None, typer.Option("--probes", help="A store of probes to compare with STORE, which is the gallery.")
    ] = None,
    people: People = None,
    far: Annotated[
        list[float] | None, typer.Option("--far", help="False accept rates for TAR@FAR (repeatable).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Also FMR and FNMR at this score (accepted: at or above).")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV of people's labels: column 'identity' or 'path', and --label.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of --labels whose groups are told apart: gender.")
    ] = None,
    ignore_failures: Annotated[
        bool, typer.Option("--ignore-failures", help="Leave out images that gave no template (else: no match).")
    ] = False,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Leave out pairs of --pairs with images that a store has not.")
    ] = False,
    repetitions: Repetitions = 1000,
    seed: Seed = 0,
    output: Output = None,
    overwrite: Overwrite = False,
    fail_if: FailIf = None,
) -> tuple[dict, dict]:
    """Verification: accuracy, EER and TAR@FAR with intervals, ROC and DET, on pairs, all pairs, or gallery and probes.

    Intervals are 95 %, by person bootstrap. Pairs with an image that gave no template count as non-matches unless
    --ignore-failures is given. Gates: accuracy, eer, fta, tar@far=F and fnmr@fmr=F (by person), tar_by_pair@far=F; with
    --threshold fmr and fnmr; with --labels fmr_ratio@fmr=F and fnmr_ratio@fmr=F. Of several recognizers name one, as
    eer[edgeface-xxs].
    """
    from facedecode.evaluation.differential import read_labels
    from facedecode.evaluation.verification import Wanted
    from facedecode.evaluation.verification_report import GATE_WORDS, evaluate_verification, gate_names
    from facedecode.gates import rates_of

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    if (labels is None) != (label is None):
        raise UsageError("--labels and --label go together: a CSV file, and the column of it")
    opened = _open(stores)
    wanted = Wanted(
        fars=far,
        more_fars=rates_of(gates, "far", "fmr"),
        threshold=threshold,
        labels=None if labels is None else read_labels(labels, label),
        ignore_failures=ignore_failures,
        repetitions=repetitions,
        seed=seed,
    )
    source = _source(pairs, probes, people, ignore_missing, len(opened))
    refuse_unknown(gates, gate_names(list(opened), source, wanted))
    with console.progress() as stage:
        report = evaluate_verification(opened, source, wanted, stage("verification"))
    return finish(console, report, output, overwrite, gates)


def _open(stores: list[str]) -> dict[str, Store]:
    """The stores by their labels, else by their recognizers' names."""
    from facedecode.store import Store

    opened: dict[str, Store] = {}
    for given in stores:
        name, equals, folder = given.partition("=")
        if not equals or Path(given).exists():
            name, folder = "", given
        store = Store.open(folder)
        name = name or store.recognizer["name"]
        require_label(name, "STORE")
        if name in opened:
            raise UsageError(f"two stores of {name}: label them apart, as NAME=STORE")
        opened[name] = store
    return opened


def _source(pairs: Path | None, probes: Path | None, people: Path | None, ignore_missing: bool, stores: int) -> Source:
    from facedecode.evaluation.comparisons import AllPairs, GalleryProbes, PairsFile
    from facedecode.files import sha256_file
    from facedecode.protocols import read_pairs
    from facedecode.store import Store

    if pairs is not None:
        if probes or people:
            raise UsageError("--pairs names its images itself: leave --probes and --people away")
        return PairsFile(read_pairs(pairs), pairs.name, ignore_missing, sha256_file(pairs))
    if ignore_missing:
        raise UsageError("--ignore-missing is about images that --pairs names: give --pairs, or leave it away")
    if probes is None:
        return AllPairs(people)
    if stores > 1:
        raise UsageError("--probes are of one recognizer: give one STORE with them")
    return GalleryProbes(Store.open(probes), people)
