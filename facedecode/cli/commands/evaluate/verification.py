"""`facedecode evaluate verification`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facedecode.cli.app import Overwrite, Seed, command
from facedecode.cli.commands.evaluate import summary
from facedecode.cli.commands.evaluate.common import (
    FailIf,
    Output,
    People,
    Repetitions,
    finish,
    parse_gates,
    refuse_output,
    refuse_unknown,
)
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.options import require_label

SIDES = ("left", "right", "both")

if TYPE_CHECKING:  # these cost time that --help does not have
    from facedecode.evaluation.trials import TrialSource
    from facedecode.store import Store


def verification(
    console: Console,
    stores: Annotated[
        list[str], typer.Argument(help="Stores made by 'extract', one a recognizer; NAME=STORE labels one.")
    ],
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="Pairs to compare, in LFW's format (View 1 or 2). Else all pairs.")
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(
            "--probes", help="A store of probes to compare with STORE, the gallery; with --pairs, of the second images."
        ),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="A map made by 'fit-mapping', applied before comparison.")
    ] = None,
    mapping_side: Annotated[
        str | None,
        typer.Option(
            "--mapping-side",
            help="What is mapped: left (first images of pairs, gallery), right (second images, probes; the default), "
            "or both (the only choice for all pairs of a store).",
        ),
    ] = None,
    people: People = None,
    fmr: Annotated[
        list[float] | None, typer.Option("--far", help="False match rates for TAR@FAR (repeatable).")
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
    """With --mapping the templates of a perturbed side are mapped back first, as in Table 2 of the paper.

    Intervals are 95 %, by person bootstrap. Pairs with an image that gave no template count as non-matches unless
    --ignore-failures is given. Gates: accuracy, eer, fta, tar@far=F and fnmr@fmr=F (by person), tar_by_pair@far=F; with
    --threshold fmr and fnmr; with --labels fmr_ratio@fmr=F and fnmr_ratio@fmr=F. Of several recognizers name one, as
    eer[edgeface-xxs].
    """
    from facedecode.annotations.labels import read_person_labels
    from facedecode.evaluation.verification.measure import VerificationSettings
    from facedecode.evaluation.verification.report import GATE_WORDS, evaluate_verification, gate_names
    from facedecode.report.gates import rates_of

    gates = parse_gates(fail_if, GATE_WORDS)
    refuse_output(output, overwrite)
    if (labels is None) != (label is None):
        raise UsageError("--labels and --label go together: a CSV file, and the column of it")
    opened = _open(stores)
    wanted = VerificationSettings(
        fmrs=fmr,
        more_fmrs=rates_of(gates, "far", "fmr"),
        threshold=threshold,
        labels=None if labels is None else read_person_labels(labels, label),
        ignore_failures=ignore_failures,
        repetitions=repetitions,
        seed=seed,
    )
    opened, second = _mapped(opened, _probes(probes, len(opened)), mapping, mapping_side, pairs is not None)
    source = _source(pairs, second, people, ignore_missing)
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


def _probes(probes: Path | None, stores: int) -> Store | None:
    from facedecode.store import Store

    if probes is not None and stores > 1:
        raise UsageError("--probes are of one recognizer: give one STORE with them")
    return None if probes is None else Store.open(probes)


def _mapped(
    stores: dict[str, Store], probes: Store | None, mapping: Path | None, side: str | None, pairs: bool
) -> tuple[dict[str, Store], Store | None]:
    """The stores and the probes with one side's templates, or both sides', read through the map.

    pairs: whether a file of pairs says what is compared, so that a single store has two sides.
    """
    from facedecode.mapping.maps import load_mapping
    from facedecode.templates.transformation import MappedStore

    if side not in (None, *SIDES):
        raise UsageError(f"--mapping-side {side}: choose one of {', '.join(SIDES)}")
    if mapping is None:
        if side is not None:
            raise UsageError("--mapping-side says what --mapping maps: give both, or neither")
        return stores, probes
    if len(stores) > 1:
        raise UsageError("--mapping is of one recognizer: give one STORE with it")
    two_sides = pairs or probes is not None
    if side in ("left", "right") and not two_sides:
        raise UsageError(f"--mapping-side {side}: all pairs of one store have no sides; use both")
    side = side or ("right" if two_sides else "both")
    ((name, store),) = stores.items()
    found = load_mapping(mapping)
    left = store if side == "right" else MappedStore(store, found)
    if side == "left":
        return {name: left}, probes or store
    if side == "both" and probes is None:
        return {name: left}, None
    return {name: left}, MappedStore(probes or store, found)


def _source(pairs: Path | None, probes: Store | None, people: Path | None, ignore_missing: bool) -> TrialSource:
    from facedecode.annotations.protocols import read_pairs
    from facedecode.evaluation.verification.all_pairs import AllPairs, GalleryProbes
    from facedecode.evaluation.verification.pairs_file import PairsFile
    from facedecode.files import sha256_file

    if pairs is not None:
        if people:
            raise UsageError("--pairs names its images itself: leave --people away")
        return PairsFile(read_pairs(pairs), pairs.name, ignore_missing, sha256_file(pairs), probes)
    if ignore_missing:
        raise UsageError("--ignore-missing is about images that --pairs names: give --pairs, or leave it away")
    return AllPairs(people) if probes is None else GalleryProbes(probes, people)


app = command("evaluate verification", verification, summary("verification"))
