"""What suppressing an attribute costs: how well probes read it, against how well templates still verify.

    python examples/disentanglement_tradeoff.py emb --labels ../shared/data/lfw/faces.csv --label gender \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt \\
        --train-people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush -o tradeoff/

Two ways from the plain template, one after the other: carried towards the identity part (`train --kind disentangler`)
by a share of the way, and then the identity part reduced to its first principal components (`--components`).
At each point probes are trained anew and judged, by folds, on people who took no part in fitting, and TAR is of all
pairs of these people. Writes tradeoff.csv and tradeoff.svg.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from arguments import Parser, positive, refuse_existing, run

from facedecode.annotations.labels import ImageLabels, read_image_labels
from facedecode.annotations.protocols import select_people
from facedecode.attributes.disentangler_fit import fit_disentangler
from facedecode.attributes.probe import PROBES, out_of_fold
from facedecode.attributes.reading import Reading
from facedecode.attributes.target import Target
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import without_twice
from facedecode.files import make_folder, write_bytes, write_text
from facedecode.names import shared_people
from facedecode.report.plot_style import COLORS, MARKERS, figure_of, interval_ends, legend
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, Resampled
from facedecode.statistics.pair_rates import Trials, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.store import Store
from facedecode.store.processing import require_extracted

FMR = 0.01
FOLDS = 5
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
KEPT = (64, 48, 32, 24, 16)
PLAIN = "as it is"
Point = tuple[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    table, figure = arguments.output / "tradeoff.csv", arguments.output / "tradeoff.svg"
    refuse_existing(table, arguments.overwrite)
    store = Store.open(arguments.store)
    require_extracted(store)
    labels = read_image_labels(arguments.labels, arguments.label, store)
    judged, fitted = (
        labelled(store, labels, people, arguments.exclude) for people in (arguments.people, arguments.train_people)
    )
    names = store.identities()
    judged = np.array(without_twice(judged, names, {names[i] or "" for i in fitted})[0])
    if shared := sorted(shared_people((names[i] for i in judged), (names[i] for i in fitted))):
        raise BadInput(f"{len(shared)} people are fitted on and judged ({shared[0]}, …); give others")
    make_folder(arguments.output)
    whose = [names[i] for i in judged]
    target = Target.of_labels(
        [labels.values[i] for i in judged], np.unique(whose, return_inverse=True)[1], labels.column
    )
    rows, first = [], None
    for label, templates in points(store, labels, judged, fitted, arguments):
        print(f"{label} …", file=sys.stderr)
        found = measured(templates, target, whose, store.score, arguments.repetitions)
        first = first or found
        rows.append((label, {name: own.estimate() for name, own in found.items()}, found["tar"].less(first["tar"])))
    write_text(table, as_csv(rows))
    write_bytes(figure, drawn(rows))
    print(f"look at {figure}; {len(judged)} images of {len(set(whose))} people", file=sys.stderr)


def points(
    store: Store, labels: ImageLabels, judged: np.ndarray, fitted: np.ndarray, arguments: argparse.Namespace
) -> Iterator[Point]:
    """What each point is called, and its templates, float32 (n, dim)."""
    names, templates = store.identities(), store.take(judged)
    own = fit_disentangler(
        store.take(fitted),
        [labels.values[i] for i in fitted],
        [names[i] for i in fitted],
        store.recognizer,
        attribute=labels.column,
        classes=labels.classes(),
    )
    identity = own.identity(templates)
    for share in arguments.shares:
        name = PLAIN if share == 0 else f"{share:.0%} of the way"
        yield name, (templates + share * (identity - templates)).astype(np.float32)
    for kept in arguments.kept:
        if kept < store.dim:
            yield f"{kept} components", own.identity(templates, kept)


def measured(
    templates: np.ndarray, target: Target, whose: Sequence[str], score: str, repetitions: int
) -> dict[str, Resampled]:
    """Probe → balanced accuracy by person, and `tar` → TAR by person at `FAR`."""
    fold = target.folds(FOLDS)
    answers = {name: out_of_fold(templates, target, fit, fold) for name, fit in PROBES.items()}
    found = {name: Reading.of(said, target, repetitions).resampled() for name, said in answers.items()}
    pairs = mated_non_mated_scores(templates, list(whose), score)
    trials = {"tar": Trials(pairs.mated, pairs.mated_people).person_weighted()}
    tar = resampled_tar(
        trials, NonMated.from_all_pairs(pairs), [FMR], people=len(pairs.people), repetitions=repetitions
    )
    return found | {"tar": tar["tar"][0]}


def labelled(store: Store, labels: ImageLabels, people: Path, exclude: Sequence[str]) -> np.ndarray:
    """Rows of the images of these people that have a label."""
    chosen = select_people(store.identities(), people, tuple(exclude))
    return np.array([i for i in chosen if labels.values[i] is not None], np.int64)


def as_csv(rows: Sequence[tuple[str, dict[str, Estimate], Estimate]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heads = [*PROBES, f"tar at far {FMR:g}", "less the plain one's"]
    writer.writerow(["template", *(cell for head in heads for cell in (head, "low", "high"))])
    for label, found, less in rows:
        figures = [*(found[name] for name in PROBES), found["tar"], less]
        ends = (x for figure in figures for x in (figure.value, figure.low, figure.high))
        cells = ("" if x is None else f"{round(x, 4) + 0.0:.4f}" for x in ends)
        writer.writerow([label, *cells])
    return stream.getvalue()


def drawn(rows: Sequence[tuple[str, dict[str, Estimate], Estimate]]) -> bytes:
    """SVG: balanced accuracy of each probe against TAR, with both intervals."""
    with figure_of(6.4, 4.2) as (figure, axes, image):
        x, *x_ends = interval_ends([found["tar"] for _, found, _ in rows])
        for name, color, marker in zip(PROBES, COLORS, MARKERS, strict=False):
            y, *y_ends = interval_ends([found[name] for _, found, _ in rows])
            axes.errorbar(
                100 * x,
                100 * y,
                xerr=[100 * np.abs(end - x) for end in x_ends],
                yerr=[100 * np.abs(end - y) for end in y_ends],
                color=color,
                marker=marker,
                linewidth=1,
                elinewidth=0.6,
                label="small network" if name == "mlp" else f"{name} probe",
            )
        axes.axhline(50, color="#888888", linewidth=0.8, linestyle=":")
        axes.set_xlabel(f"TAR at FAR {FMR:.0%}, by person, %")
        axes.set_ylabel("balanced accuracy, %")
        legend(figure, axes)
        return image(figure)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, output="a folder")
    parser.add_argument("store", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="CSV with the label by path")
    parser.add_argument("--label", required=True, help="its column, of two classes")
    parser.add_argument("--people", type=Path, required=True, help="whom to judge by")
    parser.add_argument("--train-people", type=Path, required=True, help="whom to fit on")
    parser.add_argument("--exclude", action="append", default=[], help="a person to leave out (repeatable)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the way to the identity part")
    parser.add_argument("--kept", type=positive, nargs="*", default=KEPT, help="components of the identity part")
    parser.add_argument("--repetitions", type=positive, default=REPETITIONS, help="of the bootstrap")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
