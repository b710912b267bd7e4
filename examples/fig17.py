"""The paper's Fig. 17: faces drawn of templates whose identity part or attribute part was replaced.

    python examples/fig17.py emb --disentangler gender.safetensors --decoder dlib-resnet \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt \\
        --train-people ../shared/data/lfw/protocol/peopleDevTrain.txt \\
        --labels ../shared/data/lfw/faces.csv -o fig17.png

A row is a person whom neither decoder nor disentangler has seen, an equal number of either class; the columns are those
of the paper. Under each picture: the cosine of its own template with the original's, and the probability of the second
class by a quadratic probe for that template, fitted to the training people's templates of photographs, or for the
picture itself by a classifier of your own (`--judge torch:FILE` in place of `--train-people`; docs/own-models.md). A
table on stdout has the means over more people.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from arguments import Parser, positive, refuse_existing, run
from picture_judge import load_judge

from facedecode.annotations.labels import read_image_labels
from facedecode.annotations.protocols import people_names, select_people
from facedecode.attributes.disentangler import load_disentangler
from facedecode.attributes.probe import fit_quadratic
from facedecode.attributes.target import Target
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import require_unseen, require_unseen_by_store
from facedecode.evaluation.rendering import spread_rows
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store.images import read_portraits
from facedecode.store.processing import require_extracted


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    refuse_existing(arguments.output, arguments.overwrite)
    store, own = Store.open(arguments.store), load_disentangler(arguments.disentangler)
    require_extracted(store)
    own.require_recognizer(store.recognizer)
    decoder = load_decoder(arguments.decoder)
    decoder.require_recognizer(store.recognizer, f"the decoder {arguments.decoder}")
    recognizer = load_recognizer(store.recognizer, arguments.weights)
    labels, names = read_image_labels(arguments.labels, own.attribute, store).values, store.identities()
    judged = rows_of(names, labels, arguments.people, own.classes, arguments.measured)
    people = [names[i] for rows in judged for i in rows]
    require_unseen(arguments.decoder, decoder.provenance.training.people, people)
    require_unseen_by_store(store, people)
    fitted = own.report.get("provenance", {}).get("people", [])
    trained = people_names(arguments.train_people) if arguments.train_people else []
    for what, others in (("the disentangler", fitted), ("the probe", trained)):
        if seen := sorted(set(people) & set(others)):
            raise BadInput(f"{what} is fitted to {len(seen)} of these people ({seen[0]}, …); give others")
    if arguments.judge:
        told = judge_of_pictures(arguments.judge, arguments.judge_spec, own.classes)
    else:
        told = template_probe(store, labels, names, arguments.train_people, own.classes)
    columns = {"disentangled": ("keep", "keep")}
    columns |= {f"attribute: {name}": (name, "keep") for name in (*own.classes, "mean")}
    columns |= {f"identity: {name}": ("keep", name) for name in (*own.classes, "mean")}
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["class", "column", "cosine", "low", "high", f"p({own.classes[1]})", "low", "high", "people"])
    shown, captions = [], []
    for name, rows in zip(own.classes, judged, strict=True):
        plain, whose = store.take(np.array(rows)), [names[i] for i in rows]
        drawn, said = [], []
        for title, parts in columns.items():
            pictures = decoder.decode(own.resynthesize(plain, *parts))
            again = embed_pictures(recognizer, pictures)
            figures = score_pairs(again, plain, "cosine").astype(float), told(pictures, again)
            drawn.append(pictures)
            said.append(figures)
            means = [mean_interval(values, whose) for values in figures]
            cells = [f"{x:.3f}" for mean in means for x in (mean.value, mean.low, mean.high)]
            writer.writerow([name, title, *cells, len(rows)])
        places = spread_rows(whose, arguments.shown)
        shown_rows = store.rows().take([rows[k] for k in places]).to_pylist()
        portraits = read_portraits(shown_rows, store.root, decoder.image_size)
        for portrait, k in zip(portraits, places, strict=True):
            shown.append(np.concatenate([portrait[None], *(pictures[k : k + 1] for pictures in drawn)]))
            captions.append(["original", *(f"{cosine[k]:.2f}  {share[k]:.2f}" for cosine, share in said)])
    captions[0][0] = "(a) original"
    save_image(arguments.output, picture_grid(shown, captions=captions))
    print(f"look at {arguments.output}; columns: original, {', '.join(columns)}", file=sys.stderr)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--disentangler", type=Path, required=True, help="made by 'train --kind disentangler'")
    parser.add_argument("--decoder", required=True, help="a folder, or the name of a shipped one")
    parser.add_argument("--weights", type=Path, help="of the recognizer, where no package has them")
    parser.add_argument("--people", type=Path, required=True, help="whom to show and measure")
    who_judges = parser.add_mutually_exclusive_group(required=True)
    who_judges.add_argument("--train-people", type=Path, help="whom to fit the probe to")
    who_judges.add_argument("--judge", help="torch:FILE or onnx:FILE: a classifier of pictures in the probe's place")
    parser.add_argument("--judge-spec", type=Path, help="what it expects, JSON; FILE.json beside it if absent")
    parser.add_argument("--labels", type=Path, required=True, help="CSV with the disentangler's attribute")
    parser.add_argument("--shown", type=positive, default=3, help="people of each class")
    parser.add_argument("--measured", type=positive, default=150, help="people of each class")
    return parser.parse_args(argv)


def rows_of(
    names: Sequence[str | None],
    labels: Sequence[str | None],
    people: Path,
    classes: Sequence[str],
    count: int,
) -> list[list[int]]:
    """For each class, one image of so many of its people, spread evenly over the names."""
    wanted = select_people(list(names), people)
    found = []
    for name in classes:
        own = [int(i) for i in wanted if labels[i] == name]
        if not own:
            raise BadInput(f"{people}: nobody of class {name!r}")
        found.append([own[k] for k in spread_rows([names[i] for i in own], count)])
    return found


Told = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pictures and their templates → probability of the second class


def judge_of_pictures(name: str, spec: Path | None, classes: Sequence[str]) -> Told:
    """A classifier of the user's own, which looks at the pictures."""
    judge = load_judge(name, spec)
    if set(judge.classes) != set(classes):
        said, wanted = (" from ".join(both) for both in (judge.classes, classes))
        raise BadInput(f"{name}: tells {said}, and the disentangler {wanted}")
    column = judge.classes.index(classes[1])
    print(f"judged by {judge.model.name}, sha256 {judge.model.weights_sha256}", file=sys.stderr)
    return lambda pictures, templates: judge.probabilities(pictures)[:, column]


def template_probe(
    store: Store, labels: Sequence[str | None], names: Sequence[str | None], people: Path, classes: Sequence[str]
) -> Told:
    """A quadratic probe of photographs' templates, which looks at the pictures' templates."""
    rows = np.array([i for i in select_people(list(names), people) if labels[i] in classes])
    _, persons = np.unique([names[i] for i in rows], return_inverse=True)
    probe = fit_quadratic(store.take(rows), Target.of_labels([labels[i] for i in rows], persons))
    return lambda pictures, templates: probe(templates)[:, 1]


if __name__ == "__main__":
    run(main)
