"""The paper's Fig. 17: faces drawn of templates whose identity part or attribute part was replaced.

    python examples/fig17.py emb --disentangler gender.safetensors --decoder dlib-resnet \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt \\
        --train-people ../shared/data/lfw/protocol/peopleDevTrain.txt --labels ../shared/data/lfw/faces.csv \\
        --judge-store emb-edgeface --judge-weights ../shared/weights/edgeface_xxs.safetensors \\
        --picture fig17.png -o docs/results/fig17

The report has, of people whom neither decoder nor disentangler has seen, an equal number of either class: which class
three probes read from the drawn pictures' templates, and how often the pictures pass for the photograph. Both are asked
of the attacked recognizer and, by `--judge-store`, of one that took no part: its probes are fitted to its own templates
of the training people's photographs. A classifier of your own can look at the pictures in the probes' place (`--judge
torch:FILE` for `--train-people`; docs/own-models.md). The picture has the paper's columns; under each is the cosine of
its own template with the original's, and the probability of the second class.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, finish, positive, refuse_existing, run
from fig17_report import AS_IT_IS, PHOTOGRAPH, Seen, make_report
from picture_judge import PictureJudge, load_judge

from facedecode.annotations.labels import read_image_labels
from facedecode.annotations.protocols import people_names, select_people
from facedecode.attributes.disentangler import Disentangler, load_disentangler
from facedecode.attributes.probe import PROBES
from facedecode.attributes.target import Target
from facedecode.cli.console import Console
from facedecode.decoders import Decoder, load_decoder
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import Judge, known_people, make_judge, require_unseen, unseen_images
from facedecode.evaluation.rendering import spread_rows
from facedecode.names import shared_people
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import embed_pictures
from facedecode.report.folder import require_writable
from facedecode.statistics.scores import score_pairs
from facedecode.statistics.verification import thresholds_at_fmr
from facedecode.store import Store
from facedecode.store.images import read_portraits
from facedecode.store.processing import require_extracted

Told = Callable[[np.ndarray, np.ndarray], np.ndarray]  # pictures and their templates → probability of the second class


@dataclass(frozen=True)
class Beholder:
    """Who looks at the pictures.

    judge: a recognizer, with its templates of the photographs. threshold: at which it accepts.
    told: name → what tells the class.
    """

    judge: Judge
    threshold: float
    told: Mapping[str, Told]

    @property
    def name(self) -> str:
        return self.judge.recognizer.name

    def look(self, pictures: np.ndarray, templates: np.ndarray, originals: np.ndarray) -> Seen:
        """What it makes of pictures, whose own templates of them and of their photographs are given, (n, dim)."""
        return Seen(
            {name: told(pictures, templates) for name, told in self.told.items()},
            score_pairs(templates, originals, "cosine").astype(np.float64),
            score_pairs(templates, originals, self.judge.recognizer.spec.score) >= self.threshold,
        )


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    refuse_existing(arguments.picture, arguments.overwrite)
    if arguments.judge_store and not arguments.train_people:
        raise UsageError("--judge-store needs --train-people, to fit its probes to")
    store, own = Store.open(arguments.store), load_disentangler(arguments.disentangler)
    require_extracted(store)
    own.require_recognizer(store.recognizer)
    decoder = load_decoder(arguments.decoder)
    decoder.require_recognizer(store.recognizer, f"the decoder {arguments.decoder}")
    fitted = own.fitted_on or []
    trained = people_names(arguments.train_people) if arguments.train_people else []
    known = known_people([store], [decoder]).union(fitted, trained)
    images = unseen_images(store, arguments.people, known=known)
    label_of = labels_of(store, arguments.labels, own.attribute)
    judged = rows_of(images.acquired, label_of, own.classes, arguments.measured, arguments.people)
    people = [images.identities[i] for rows in judged.values() for i in rows]
    require_unseen(arguments.decoder, decoder.known, images.acquired_of(people).judged)
    for what, others in (("the disentangler", fitted), ("the probe", trained)):
        if seen := sorted(shared_people(people, others)):
            raise BadInput(f"{what} is fitted to {len(seen)} of these people ({seen[0]}, …); give others")
    stores = [(store, arguments.weights)]
    if arguments.judge_store:
        stores.append((Store.open(arguments.judge_store), arguments.judge_weights))
        if stores[1][0].recognizer.name == store.recognizer.name:
            raise UsageError(f"{arguments.judge_store}: is of the attacked recognizer; give the store of another")
    of_pictures = pictures_judge(arguments.judge, arguments.judge_spec, own.classes) if arguments.judge else None
    beholders = []
    for place, (its, weights) in enumerate(stores):
        if place == 0 and of_pictures:
            told = told_by(of_pictures, own.classes[1])
        else:
            told = template_probes(its, arguments.labels, own, arguments.train_people)
        judge = make_judge(load_recognizer(its.recognizer, weights), its, images)
        threshold = float(thresholds_at_fmr(judge.pairs.non_mated, [arguments.fmr])[0])
        beholders.append(Beholder(judge, threshold, told))
    with Console().progress() as stage:
        say = stage("faces drawn")
        kept, drawn = {}, {}
        for done, (name, rows) in enumerate(judged.items()):
            portraits = read_portraits([images.rows[i] for i in rows], store.root, decoder.image_size)
            drawn[name] = {PHOTOGRAPH: portraits} | draw(own, decoder, images.templates[rows])
            for at, (title, pictures) in enumerate(drawn[name].items()):
                say(done * len(drawn[name]) + at, len(judged) * len(drawn[name]), title)
                for own_eyes in beholders:
                    originals = own_eyes.judge.templates[rows]
                    again = originals if title == PHOTOGRAPH else embed_pictures(own_eyes.judge.recognizer, pictures)
                    kept[own_eyes.name, name, title] = own_eyes.look(pictures, again, originals)
    whose = {name: [images.identities[i] for i in rows] for name, rows in judged.items()}
    if arguments.picture:
        save_image(arguments.picture, picture(drawn, whose, kept, beholders[0].name, arguments.shown))
    provenance = {
        "stores": [describe_store(its) for its, _ in stores],
        "decoders": [describe_decoder(decoder)],
        "settings": {
            "disentangler": describe_file(arguments.disentangler),
            "attribute": own.attribute,
            "classes": list(own.classes),
            "people": describe_file(arguments.people),
            "train_people": describe_file(arguments.train_people) if arguments.train_people else None,
            "labels": describe_file(arguments.labels),
            "judge": of_pictures and {"name": of_pictures.model.name, "sha256": of_pictures.model.weights_sha256},
            "fmr": arguments.fmr,
            "looked_through": [its.recognizer.name for its, _ in stores[1:] if trained_through(decoder, its)],
            "thresholds": {own_eyes.name: own_eyes.threshold for own_eyes in beholders},
            "repetitions": arguments.repetitions,
            "seed": arguments.seed,
        },
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    finish(make_report(kept, whose, own.classes, provenance), arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--repetitions", "--seed")
    parser.add_argument("store", type=Path)
    parser.add_argument("--disentangler", type=Path, required=True, help="made by 'train --kind disentangler'")
    parser.add_argument("--decoder", required=True, help="a folder, or the name of a shipped one")
    parser.add_argument("--weights", type=Path, help="of the recognizer, where no package has them")
    parser.add_argument("--people", type=Path, required=True, help="whom to show and measure")
    who_judges = parser.add_mutually_exclusive_group(required=True)
    who_judges.add_argument("--train-people", type=Path, help="whom to fit the probes to")
    who_judges.add_argument("--judge", help="torch:FILE or onnx:FILE: a classifier of pictures in the probes' place")
    parser.add_argument("--judge-spec", type=Path, help="what it expects, JSON; FILE.json beside it if absent")
    parser.add_argument("--judge-store", type=Path, help="the same images, by a recognizer that took no part")
    parser.add_argument("--judge-weights", type=Path, help="of that recognizer, where no package has them")
    parser.add_argument("--labels", type=Path, required=True, help="CSV with the disentangler's attribute")
    parser.add_argument("--fmr", type=float, default=0.01, help="at which a picture passes for the photograph")
    parser.add_argument("--picture", type=Path, help="write the figure as a PNG or JPEG file, too")
    parser.add_argument("--shown", type=positive, default=3, help="people of each class in it")
    parser.add_argument("--measured", type=positive, default=150, help="people of each class")
    return parser.parse_args(argv)


def trained_through(decoder: Decoder, store: Store) -> bool:
    """Whether gradients of the store's recognizer may have shaped the decoder."""
    return decoder.looked_through(store.recognizer.name, store.recognizer.weights_sha256) is not False


def labels_of(store: Store, labels: Path, attribute: str) -> dict[str, str | None]:
    """The label of each image, by its path."""
    return dict(zip(store.paths(), read_image_labels(labels, attribute, store).values, strict=True))


def rows_of(
    rows: Sequence[dict], label_of: Mapping[str, str | None], classes: Sequence[str], count: int, people: Path
) -> dict[str, list[int]]:
    """For each class, one image of so many of its people, spread evenly over the names."""
    found = {}
    for name in classes:
        own = [i for i, row in enumerate(rows) if label_of[row["path"]] == name]
        if not own:
            raise BadInput(f"{people}: nobody of class {name!r}")
        found[name] = [own[k] for k in spread_rows([rows[i]["identity"] for i in own], count)]
    return found


def draw(own: Disentangler, decoder: Decoder, plain: np.ndarray) -> dict[str, np.ndarray]:
    """What the decoder draws of templates (n, dim) whose parts are exchanged as in the paper's columns."""
    columns = {AS_IT_IS: ("keep", "keep")}
    columns |= {f"attribute: {name}": (name, "keep") for name in (*own.classes, "mean")}
    columns |= {f"identity: {name}": ("keep", name) for name in (*own.classes, "mean")}
    return {title: decoder.decode(own.resynthesize(plain, *parts)) for title, parts in columns.items()}


def pictures_judge(name: str, spec: Path | None, classes: Sequence[str]) -> PictureJudge:
    """A classifier of the user's own, which looks at the pictures. BadInput where it tells other classes."""
    judge = load_judge(name, spec)
    if set(judge.classes) != set(classes):
        said, wanted = (" from ".join(both) for both in (judge.classes, classes))
        raise BadInput(f"{name}: tells {said}, and the disentangler {wanted}")
    return judge


def told_by(judge: PictureJudge, second: str) -> dict[str, Told]:
    column = judge.classes.index(second)
    return {judge.model.name: lambda pictures, templates: judge.probabilities(pictures)[:, column]}


def template_probes(store: Store, labels: Path, own: Disentangler, people: Path) -> dict[str, Told]:
    """Probes of photographs' templates, which look at the pictures' templates."""
    names, values = store.identities(), read_image_labels(labels, own.attribute, store).values
    rows = np.array([i for i in select_people(list(names), people) if values[i] in own.classes])
    _, persons = np.unique([names[i] for i in rows], return_inverse=True)
    target, templates = Target.of_labels([values[i] for i in rows], persons), store.take(rows)
    probes = {name: fit(templates, target) for name, fit in PROBES.items()}
    return {name: lambda pictures, again, probe=probe: probe(again)[:, 1] for name, probe in probes.items()}


def picture(
    drawn: Mapping[str, Mapping[str, np.ndarray]],
    whose: Mapping[str, Sequence[str]],
    kept: Mapping[tuple[str, str, str], Seen],
    beholder: str,
    count: int,
) -> np.ndarray:
    """A row for each of some people, a column for each edit: (H, W, 3) uint8."""
    shown, captions = [], []
    for name, columns in drawn.items():
        for k in spread_rows(whose[name], count):
            shown.append(np.concatenate([pictures[k : k + 1] for pictures in columns.values()]))
            seen = [kept[beholder, name, title] for title in columns if title != PHOTOGRAPH]
            told = [list(own.told.values())[min(1, len(own.told) - 1)] for own in seen]  # the quadratic probe's
            captions.append(
                ["original", *(f"{own.cosine[k]:.2f}  {p[k]:.2f}" for own, p in zip(seen, told, strict=True))]
            )
    captions[0][0] = "(a) original"
    return picture_grid(shown, captions=captions)


if __name__ == "__main__":
    run(main)
