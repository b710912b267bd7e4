"""What a decoder draws of templates made of more and more images of one person: the paper's Fig. 15, with numbers.

    python examples/fig15.py --person George_W_Bush --row dlib-resnet emb dlib-resnet \\
        --row edgeface-xxs emb-edgeface decoders/edgeface --picture fig15.png -o docs/results/fig15

The templates are means of n images of the person, drawn at random so often; a draw's images of a smaller n are among
those of a larger one. The picture shows two draws. The report has, over all draws, how far from frontal, upright and
evenly lit the drawn faces are, how much they differ from draw to draw, and where the templates lie. With several
people it has the means over them, and intervals that hold for people like them; the picture shows a draw of each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, positive, refuse_existing, run
from fig15_report import make_people_report, make_report

from facedecode.attributes.measured import SIDE, measure_faces, measure_pictures
from facedecode.cli.console import Console
from facedecode.decoders import Decoder, load_decoder
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import JudgedImages, open_stores, require_unseen, require_unseen_by_store
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.pictures.figures import enlarged, picture_grid, shortened
from facedecode.pictures.images import resized, save_image
from facedecode.provenance import describe_decoder, describe_store, environment
from facedecode.report.folder import require_writable, write_report
from facedecode.statistics.bootstrap import REPETITIONS
from facedecode.store import Store
from facedecode.store.processing import refuse_done
from facedecode.templates.aggregation import Aggregation, combine, person_order, template_distances

NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500)  # images in a template; the paper's figure goes to 500
SHOWN = 2  # draws in the picture
_DETECTED = 256  # px: pictures of a decoder are small for the detector
_AT_ONCE = 64  # pictures


@dataclass(frozen=True)
class Drawn:
    """What one decoder draws of the aggregates, k numbers of images and d draws.

    Attributes:
        images: of the person in the store. people: others, behind the population's mean.
        signed: yaw, roll (degrees) and side-light of the pictures, each float64 (k, d); NaN where no face is found.
        to_person, to_population: distances of the aggregates to the mean templates, float64 (k, d).
        gram: (k, d, d), inner products over the picture's values (0 to 255) of the deviations from the draws' mean,
            by the number of values: of it comes the root mean variance over draws.
        shown: pictures of the first draws, uint8 (SHOWN, k, P, P, 3).
        means: the same three measures of what is drawn of the person's and of the population's mean, (2, 3).
        between: the distance of these two means.
    """

    images: int
    people: int
    signed: dict[str, np.ndarray]
    to_person: np.ndarray
    to_population: np.ndarray
    gram: np.ndarray
    shown: np.ndarray
    means: np.ndarray
    between: float


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    refuse_existing(arguments.picture, arguments.overwrite)
    labels = [label for label, *_ in arguments.row]
    if len(set(labels)) < len(labels):
        raise UsageError("two rows have one LABEL: name them apart")
    folders = list(dict.fromkeys(Path(store) for _, store, _ in arguments.row))
    stores = dict(zip(folders, open_stores(folders).values(), strict=True))
    decoders = {}
    for label, folder, name in arguments.row:
        refuse_done(stores[Path(folder)].manifest, folder, reason="the figure is of a person's images as they are")
        decoders[label] = load_decoder(name, arguments.device)
        decoders[label].require_recognizer(stores[Path(folder)].recognizer, f"the decoder {name}")
        store = stores[Path(folder)]
        images = JudgedImages.of_store(
            store, [i for i, who in enumerate(store.identities()) if who in arguments.person]
        )
        require_unseen(label, decoders[label].known, images)
        require_unseen_by_store(store, images)
    if len(sides := {decoder.image_size for decoder in decoders.values()}) > 1:
        raise BadInput(f"the decoders draw {', '.join(map(str, sorted(sides)))} px: show pictures of one size together")
    people = list(dict.fromkeys(arguments.person))
    counts = {(folder, name): stores[folder].identities().count(name) for folder in folders for name in people}
    for (folder, name), count in counts.items():
        if count < 2:
            raise BadInput(f"{folder}: {count} templates of {name}; 2 are needed")
    numbers = [number for number in NUMBERS if number <= min(counts.values())]
    detector = FaceDetector(arguments.device)
    found: dict[str, dict[str, Drawn]] = {}
    with Console().progress() as stage:
        for label, folder, _ in arguments.row:
            for name in people:
                say = stage(f"{label}, draws of {name}")
                own = draw(stores[Path(folder)], name, decoders[label], detector, numbers, arguments, say)
                found.setdefault(label, {})[name] = own
    provenance = {
        "stores": [describe_store(store) for store in stores.values()],
        "decoders": {label: describe_decoder(decoders[label]) for label, _, name in arguments.row},
        "detector": detector.settings,
        "settings": {
            "people": people,
            "numbers": numbers,
            "draws": arguments.draws,
            "seed": arguments.seed,
            "repetitions": arguments.repetitions,
        },
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    if len(people) == 1:
        of_person = {label: own[people[0]] for label, own in found.items()}
        grid = picture(
            {f"{label}, draw {i + 1}": own.shown[i] for label, own in of_person.items() for i in range(SHOWN)}, numbers
        )
        report = make_report(of_person, grid, provenance)
    else:
        grid = picture(
            {f"{label}, {name}": own.shown[0] for label, each in found.items() for name, own in each.items()}, numbers
        )
        report = make_people_report(found, grid, provenance)
    write_report(report, arguments.output, overwrite=arguments.overwrite)
    if arguments.picture:
        save_image(arguments.picture, grid)
    print(f"look at {arguments.output / 'report.html'}", file=sys.stderr)


def nested_means(templates: np.ndarray, name: str, numbers: Sequence[int], draws: int, seed: int) -> np.ndarray:
    """Means of a person's templates (n, dim), of so many in each draw: float32 (numbers, draws, dim)."""
    mean = Aggregation()
    orders = [person_order(name, len(templates), seed + draw) for draw in range(draws)]
    return np.stack(
        [np.stack([combine(templates[order[:number]], mean) for order in orders]) for number in numbers]
    ).astype(np.float32)


def population_mean(templates: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The mean over people of their mean templates: float64 (dim,)."""
    _, person, counts = np.unique(names, return_inverse=True, return_counts=True)
    return (1 / (counts[person] * len(counts))) @ templates.astype(np.float64)


def deviations_gram(pictures: np.ndarray) -> np.ndarray:
    """Of d pictures (d, P, P, 3): inner products (d, d) of their deviations from the mean, by the number of values."""
    values = pictures.reshape(len(pictures), -1).astype(np.float64)
    values -= values.mean(0)
    return values @ values.T / values.shape[1]


def measure(pictures: np.ndarray, detector: FaceDetector) -> dict[str, np.ndarray]:
    """Yaw, roll and side-light of pictures (n, P, P, 3), each float64 (n,); NaN where no face is found.

    The detector is not symmetric: it sees a picture and its mirror image turned the same way, by as much as these
    faces are turned. Half the difference of the two is free of that.
    """
    ways = [measure_once(own, detector) for own in (pictures, np.ascontiguousarray(pictures[:, :, ::-1]))]
    return {name: (values - ways[1][name]) / 2 for name, values in ways[0].items()}


def measure_once(pictures: np.ndarray, detector: FaceDetector) -> dict[str, np.ndarray]:
    """As `measure`, of the pictures as they are."""
    values = {name: np.full(len(pictures), np.nan) for name in ("yaw", "roll", "side-light")}
    for start in range(0, len(pictures), _AT_ONCE):
        part = pictures[start : start + _AT_ONCE]
        values["side-light"][start : start + _AT_ONCE] = measure_pictures("side-light", resized(part, SIDE))
        for i, faces in enumerate(detector.detect(list(resized(part, _DETECTED))), start):
            if face := choose_face(faces, _DETECTED, _DETECTED):
                for name in ("yaw", "roll"):
                    values[name][i] = measure_faces(name, face.landmarks[None], np.array([face.probability]))[0]
    return values


def draw(
    store: Store,
    person: str,
    decoder: Decoder,
    detector: FaceDetector,
    numbers: Sequence[int],
    arguments: argparse.Namespace,
    progress: Callable[[int, int], None],
) -> Drawn:
    """The aggregates of a person of one store, what the decoder draws of them, and both measured."""
    names, templates, score = store.identities(), store.templates(), store.score
    own = templates[[name == person for name in names]]
    away = [i for i, name in enumerate(names) if name is not None and name != person]
    if not away:
        raise BadInput(f"{store.folder}: has nobody but {person}, and so no population to compare with")
    others = [names[i] for i in away]
    person_mean = own.astype(np.float64).mean(0)
    population = population_mean(templates[away], others)
    made = nested_means(own, person, numbers, arguments.draws, arguments.seed)
    signed: dict[str, list[np.ndarray]] = {}
    grams, shown = [], []
    for done, aggregates in enumerate(made, 1):
        pictures = decoder.decode(aggregates)
        for name, values in measure(pictures, detector).items():
            signed.setdefault(name, []).append(values)
        grams.append(deviations_gram(pictures))
        shown.append(pictures[:SHOWN])
        progress(done, len(made))
    of_means = measure(decoder.decode(np.stack([person_mean, population]).astype(np.float32)), detector)
    return Drawn(
        images=len(own),
        people=len(set(others)),
        signed={name: np.stack(values) for name, values in signed.items()},
        to_person=np.stack([template_distances(aggregates, person_mean, score) for aggregates in made]),
        to_population=np.stack([template_distances(aggregates, population, score) for aggregates in made]),
        gram=np.stack(grams),
        shown=np.stack(shown, axis=1),
        means=np.stack(list(of_means.values()), axis=1),
        between=float(template_distances(person_mean[None], population, score)[0]),
    )


def picture(rows: Mapping[str, np.ndarray], numbers: Sequence[int]) -> np.ndarray:
    """Rows of pictures (k, P, P, 3) by their label, a column for each number of images: (H, W, 3) uint8."""
    bands = [enlarged(pictures) for pictures in rows.values()]
    captions = [shortened(f"n = {number}", bands[0].shape[2]) for number in numbers]
    return picture_grid(bands, list(rows), [captions] * len(bands))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", output="a folder for the report")
    parser.add_argument(
        "--person", nargs="+", required=True, help="one or more whom no decoder was trained on, with many images"
    )
    parser.add_argument(
        "--row",
        nargs=3,
        action="append",
        required=True,
        metavar=("LABEL", "STORE", "DECODER"),
        help="a recognizer and its decoder (repeatable); DECODER is a folder, or the name of a shipped one",
    )
    parser.add_argument("--draws", type=several, default=40, help="random choices of the images, 3 or more")
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--repetitions", type=positive, default=REPETITIONS, help="of the bootstrap")
    parser.add_argument("--picture", type=Path, help="write the picture as a PNG file, too")
    return parser.parse_args(argv)


def several(text: str) -> int:
    """A whole number of at least 3, which a spread and its interval need."""
    if (number := int(text)) < 3:
        raise ValueError
    return number


if __name__ == "__main__":
    run(main)
