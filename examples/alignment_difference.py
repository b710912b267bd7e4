"""What our detection and alignment are worth: a store against templates of another alignment, on the same pairs.

    python examples/alignment_difference.py emb dlib-own.npz --pairs ../shared/data/lfw/protocol/pairs.txt \\
        -o docs/results/alignment

writes a report like those of `facedecode evaluate`. The store is made by `facedecode extract`, the other templates by
`benchmarks/dlib_own_alignment.py` (dlib's own detector and landmarks, the same network).
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from arguments import Parser, command_line, finish, run
from template_sets import AccuracyDifference, BareTemplates, accuracy_difference

from facedecode.annotations.pairs import read_pairs
from facedecode.errors import UsageError
from facedecode.evaluation.trials import PairsFile
from facedecode.evaluation.verification.measure import VerificationSettings
from facedecode.evaluation.verification.report import evaluate_trials
from facedecode.files import sha256_file
from facedecode.provenance import environment
from facedecode.report import Column, Headline, Report, Section, Table
from facedecode.report.folder import require_writable
from facedecode.store import Store, require_same_recognizer

TITLE = "Alignment: ours against another, LFW pairs"
PAIRED = (
    "The difference in accuracy is paired: same pairs, same folds, same replicates of the bootstrap, each alignment "
    "with its own thresholds. All pairs: an image without a template is a non-match. Common pairs: those of which both "
    "alignments have all templates."
)


def main() -> None:
    arguments = parse()
    require_writable(arguments.output, arguments.overwrite)
    store, other = Store.open(arguments.store), BareTemplates.load(arguments.templates)
    require_same_recognizer(store.recognizer, other.recognizer, str(arguments.templates))
    pairs = read_pairs(arguments.pairs)
    options = {"repetitions": arguments.repetitions, "seed": arguments.seed}
    ours = store.recognizer.name
    if ours == other.name:
        raise UsageError(f"{arguments.templates}: these templates are named {ours} too; give another alignment's")
    source = PairsFile(pairs, arguments.pairs.name, sha256=sha256_file(arguments.pairs))
    result = evaluate_trials({ours: store, other.name: other}, source, VerificationSettings(**options))
    difference = accuracy_difference(store, other, source.found_in(store)[0], **options)
    report = with_difference(result.report(), difference, f"{ours} less {other.name}")
    command = command_line(__file__)
    provenance = {**report.provenance, "command": command, "environment": environment()}
    report = dataclasses.replace(report, provenance=provenance)
    finish(report, arguments)


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, "--repetitions", "--seed")
    parser.add_argument("store", type=Path, help="store of the images that the pairs name")
    parser.add_argument("templates", type=Path, help="made by benchmarks/dlib_own_alignment.py")
    parser.add_argument("--pairs", type=Path, required=True, help="LFW's pairs.txt")
    return parser.parse_args()


def with_difference(report: Report, difference: AccuracyDifference, what: str) -> Report:
    """The report of both with the paired difference at its top."""
    table = Table(
        "difference",
        f"Accuracy, {what}, in percentage points",
        [Column("pairs"), Column("difference", "points"), Column("count", "count")],
        [
            ["all", difference.all_pairs, difference.all_pairs.n],
            ["common", difference.common_pairs, difference.common_pairs.n],
        ],
    )
    headline = Headline(f"accuracy, {what}", difference.all_pairs, "points", "percentage points, all pairs")
    return dataclasses.replace(
        report,
        title=TITLE,
        protocol=[PAIRED, *report.protocol],
        headlines=[headline, *report.headlines],
        sections=[Section("Difference", tables=[table]), *report.sections],
        metrics={**report.metrics, "difference": difference.metrics()},
    )


if __name__ == "__main__":
    run(main)
