"""Verification of LFW's View 2 pairs: recognizers side by side, and against another alignment of the same faces.

    python examples/verification_table.py emb emb-edgeface --pairs ../shared/data/lfw/protocol/pairs.txt \\
        --baseline-templates dlib-own.npz -o docs/results/verification

writes results.json, results.md and roc.png. The stores are made by `facedecode extract`; the baseline by
`benchmarks/dlib_own_alignment.py` (dlib's own detector and landmarks, the same network).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from results_index import command_line, finish

from facedecode.comparison import AccuracyDifference, BareTemplates, accuracy_difference
from facedecode.errors import FacedecodeError, UsageError
from facedecode.files import make_folder, write_json, write_text
from facedecode.pair_evaluation import PairFigures, evaluate_pairs
from facedecode.protocols import Pairs, read_pairs
from facedecode.provenance import environment
from facedecode.scores import score_rows
from facedecode.store import Store
from facedecode.verification import roc

TITLE = "Verification, LFW View 2"
SHOWS = (
    "How well the recognizers tell people apart with this project's detection and alignment, and for dlib's network "
    "the difference to dlib's own detector and landmarks."
)
PROTOCOL = (
    "LFW View 2, ten folds: each fold's threshold is the best one on the other nine; standard error over folds (LFW "
    "README). TAR at FAR and EER pool all folds. A pair with an image that gave no template counts as a non-match. "
    "Intervals: 95 %, bootstrap by person (1,000 replicates, thresholds chosen anew in each); the difference in "
    "accuracy is paired (same pairs, same replicates)."
)
FARS = (0.01, 0.001)
Templates = Store | BareTemplates


def main() -> None:
    arguments = parse()
    started = time.monotonic()
    pairs = read_pairs(arguments.pairs)
    stores: dict[str, Templates] = {}
    for folder in arguments.stores:
        store = Store.open(folder)
        if store.recognizer["name"] in stores:
            raise UsageError(f"two stores of {store.recognizer['name']}: give one for each recognizer")
        stores[store.recognizer["name"]] = store
    baseline = BareTemplates.load(arguments.baseline_templates) if arguments.baseline_templates else None
    rows: dict[str, Templates] = dict(stores)
    difference = None
    options = {"repetitions": arguments.repetitions, "seed": arguments.seed}
    if baseline is not None:
        same = stores.get(baseline.recognizer["name"])
        if same is None:
            raise UsageError(f"the baseline is {baseline.recognizer['name']}'s: give a store of that recognizer")
        rows[baseline.name] = baseline
        difference = accuracy_difference(same, baseline, pairs, **options)
    figures = {name: evaluate_pairs(templates, pairs, FARS, **options) for name, templates in rows.items()}
    results = {
        "schema_version": 1,
        "title": TITLE,
        "shows": SHOWS,
        "protocol": PROTOCOL,
        "data": f"LFW (deep-funnelled), {arguments.pairs.name}: {len(pairs)} pairs",
        "command": command_line(),
        "environment": environment(),
        "seconds": round(time.monotonic() - started),
        "settings": {"fars": FARS, **options},
        "recognizers": {
            name: {
                "weights_sha256": templates.recognizer["weights_sha256"],
                "score": templates.manifest["score"],
                "fingerprint": templates.fingerprint,
            }
            for name, templates in rows.items()
        },
        "figures": {name: own.metrics() for name, own in figures.items()},
    }
    if difference is not None:
        results["difference"] = {"baseline": baseline.name, **difference.metrics()}
    output = make_folder(arguments.output)
    write_json(output / "results.json", results)
    write_text(output / "results.md", markdown(results, figures, baseline, difference))
    draw_roc(output / "roc.png", rows, pairs)
    finish(output)
    for name, own in figures.items():
        print(name, *own.lines(), sep="\n  ", file=sys.stderr)
    print(f"{output}: results.json, results.md, roc.png in {time.monotonic() - started:.0f} s", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+", type=Path, help="stores of the images that the pairs name")
    parser.add_argument("--pairs", type=Path, required=True, help="LFW's pairs.txt")
    parser.add_argument("--baseline-templates", type=Path, help="made by benchmarks/dlib_own_alignment.py")
    parser.add_argument("--repetitions", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def markdown(
    results: dict,
    figures: dict[str, PairFigures],
    baseline: BareTemplates | None,
    difference: AccuracyDifference | None,
) -> str:
    """The table, one row a recognizer."""
    lines = [f"# {TITLE}", "", SHOWS, "", f"Data: {results['data']}.", ""]
    lines += ["| | accuracy ± standard error | 95 % interval | EER | TAR at FAR 1 % | at FAR 0.1 % | no template |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for name, own in figures.items():
        cells = [f"{e.value:.2%} [{e.low:.2%}, {e.high:.2%}]" for e in (own.eer, *own.tar_at_far)]
        accuracy = f"{own.accuracy.value:.2%} ± {own.standard_error:.2%}"
        interval = f"{own.accuracy.low:.2%} to {own.accuracy.high:.2%}"
        lost = f"{own.failed_images} of {own.images:,}"
        lines += ["| " + " | ".join([name, accuracy, interval, *cells, lost]) + " |"]
    if difference is not None:
        name = baseline.recognizer["name"]
        every, common = difference.all_pairs, difference.common_pairs
        lines += [
            "",
            f"Accuracy of {name} less that of {baseline.name}, paired: {points(every)} on all {every.n:,} pairs (an "
            f"image without a template is a non-match), {points(common)} on the {common.n:,} pairs of which both have "
            "all templates.",
        ]
    lines += ["", PROTOCOL, "", "At FAR 0.1 % the threshold rests on three false accepts; see the interval.", ""]
    lines += ["![ROC](roc.png)", "", "```sh", results["command"], "```", ""]
    machine = results["environment"]
    lines += [f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, {results['seconds']} s.", ""]
    return "\n".join(lines)


def points(figure) -> str:
    """A difference in percentage points with its interval."""
    return f"{figure.value * 100:+.2f} points [{figure.low * 100:+.2f}, {figure.high * 100:+.2f}]"


def draw_roc(path: Path, rows: dict[str, Templates], pairs: Pairs) -> None:
    """TAR against FAR, logarithmic, all folds pooled."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
    finest = 1 / np.count_nonzero(~pairs.mated)
    for name, templates in rows.items():
        left, right = pairs.rows(templates.paths())
        scores = score_rows(templates.templates(), left, right, templates.manifest["score"])
        curve = roc(scores[pairs.mated], scores[~pairs.mated])
        axes.plot(np.maximum(curve.far, finest / 2), curve.tar, label=name, linewidth=1.4)
    axes.set(xscale="log", xlim=(finest, 1), ylim=(0.85, 1.002), xlabel="FAR", ylabel="TAR")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    try:
        main()
    except FacedecodeError as error:
        print(f"verification_table.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
