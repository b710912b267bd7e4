"""How much margin FaceNet wants about the box: LFW's View 2 with several crops, and their paired differences.

    python examples/facenet_crops.py emb --weights ../shared/weights/facenet_20180408_casia_webface.safetensors \\
        --pairs ../shared/data/lfw/protocol/pairs.txt --work facenet-crops -o docs/results/facenet-crops

`emb` is a store, of any recognizer, of the images that the pairs name: its boxes are taken, so nothing is detected
anew. About 40 ms an image, crop and core. Templates stay in --work, a file a crop, and are taken from there the next
time.

`44 of 182` is the margin that FaceNet was trained with, as a share of the crop; `14 of 160` is facenet-pytorch's
evaluation. FaceNet's own script (align_dataset_mtcnn.py) adds pixels of the image, whatever its size, and ends the
crop at the image's edge: `32 px` and `44 px`, of 250. All but `44 of 182, square` stretch the box to a square.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, finish, run
from template_sets import BareTemplates

from facedecode.annotations.pairs import Pairs, read_pairs
from facedecode.evaluation.trials import PairsFile
from facedecode.evaluation.verification.measure import VerificationSettings
from facedecode.evaluation.verification.report import evaluate_trials
from facedecode.files import make_folder, sha256_file
from facedecode.identity import RecognizerId
from facedecode.pictures.align import BoxCrop
from facedecode.pictures.faces import Face
from facedecode.provenance import environment
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.report import Column, Report, Section, Table
from facedecode.report.folder import require_writable
from facedecode.statistics.bootstrap import Resampled
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import resampled_accuracy
from facedecode.statistics.scores import encode_people, score_rows
from facedecode.statistics.verification import FoldSplit
from facedecode.store import Store
from facedecode.store.images import read_crops

TITLE = "FaceNet's crop, LFW View 2"
PROTOCOL = (
    "One detection, one network, one file of weights; only the crop differs. A difference in accuracy is paired: same "
    "pairs, same folds, same replicates of the bootstrap, each crop with its own thresholds."
)
LFW_SIDE = 250  # px
BATCH = 256


@dataclasses.dataclass(frozen=True)
class PixelMargin:
    """The box and `margin` px of the image more, no further than the image's edge, stretched to a square."""

    size: int
    margin: int

    def matrix(self, face: Face) -> np.ndarray:
        """(2, 3) from image to crop coordinates."""
        box = np.clip(face.box + np.array([-1, -1, 1, 1]) * self.margin / 2, 0, LFW_SIDE)
        return BoxCrop(self.size, side="both").matrix(Face(box, face.landmarks, face.probability))


CROPS = {
    "0.3 of the mean side": BoxCrop(160, 1.3, side="margin"),
    "44 of 182": BoxCrop(160, 182 / (182 - 44), side="both"),
    "14 of 160": BoxCrop(160, 160 / (160 - 14), side="both"),
    "44 px": PixelMargin(160, 44),
}


def main() -> None:
    arguments = parse()
    require_writable(arguments.output, arguments.overwrite)
    store, pairs = Store.open(arguments.store), read_pairs(arguments.pairs)
    source = PairsFile(pairs, arguments.pairs.name, sha256=sha256_file(arguments.pairs))
    folder = make_folder(arguments.work)
    recognizer = load_recognizer(arguments.model, arguments.weights)
    sets = {}
    for name in arguments.crops:
        path = folder / f"{name.replace(' ', '-').replace(',', '')}.npz"
        if not path.exists():
            embedded(path, recognizer, store, pairs, name).save()
        sets[name] = BareTemplates.load(path)
    options = {"repetitions": arguments.repetitions, "seed": arguments.seed}
    report = evaluate_trials(sets, source, VerificationSettings(**options)).report()
    found = source.found_in(store)[0]
    accuracies = {name: accuracy(templates, found, **options) for name, templates in sets.items()}
    provenance = {**report.provenance, "command": command_line(__file__), "environment": environment()}
    finish(with_differences(dataclasses.replace(report, title=TITLE, provenance=provenance), accuracies), arguments)


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, "--repetitions", "--seed")
    parser.add_argument("store", type=Path, help="store of the images that the pairs name: their boxes")
    parser.add_argument("--model", default="facenet-casia-webface", help="the recognizer (%(default)s)")
    parser.add_argument("--weights", type=Path, help="of the recognizer, where it does not find them")
    parser.add_argument("--pairs", type=Path, required=True, help="LFW's pairs.txt")
    parser.add_argument("--crops", nargs="+", choices=CROPS, default=list(CROPS), help="others are less the first")
    parser.add_argument("--work", type=Path, required=True, help="folder of the templates")
    return parser.parse_args()


def embedded(path: Path, recognizer: Recognizer, store: Store, pairs: Pairs, crop: str) -> BareTemplates:
    """Templates of the faces of a store that pairs name, cut by one of `CROPS`, as a file that is to be saved."""
    named = {*pairs.left, *pairs.right}
    rows = [row for row in store.rows().to_pylist() if row["path"] in named]
    paths = [row["path"] for row in rows]
    templates = []
    for start in range(0, len(rows), BATCH):
        templates.append(recognizer.embed_crops(read_crops(rows[start : start + BATCH], store.images(), CROPS[crop])))
        print(f"{crop}: {min(start + BATCH, len(rows))}/{len(rows)}", file=sys.stderr)
    described = recognizer.describe()
    about = RecognizerId(described.name, described.weights_sha256, score=described.score)
    return BareTemplates(path, crop, about, paths, np.concatenate(templates), sorted(named.difference(paths)))


def accuracy(templates: BareTemplates, pairs: Pairs, repetitions: int, seed: int) -> Resampled:
    """Accuracy over folds with its replicates: the same ones for all templates of the same pairs."""
    scores = score_rows(templates.templates(), *pairs.rows(templates.paths()), templates.score)
    names, codes = encode_people(pairs.left_people + pairs.right_people)
    options = {"people": len(names), "repetitions": repetitions, "seed": seed}
    return resampled_accuracy(FoldSplit(scores, pairs.mated, pairs.fold), *np.split(codes, 2), **options)


def with_differences(report: Report, accuracies: dict[str, Resampled]) -> Report:
    """The report with the accuracy of each crop less that of the first, at its top."""
    (first, of_first), *others = accuracies.items()
    less = {name: each.less(of_first, LEVEL) for name, each in others}
    columns = [Column("crop"), Column("difference", "points")]
    table = Table(
        "difference",
        f"Accuracy of each crop less that of {first}, in percentage points",
        columns,
        [[name, estimate] for name, estimate in less.items()],
    )
    return dataclasses.replace(
        report,
        protocol=[PROTOCOL, *report.protocol],
        sections=[Section("Difference", tables=[table]), *report.sections],
        metrics={**report.metrics, "difference": {name: estimate.as_json() for name, estimate in less.items()}},
    )


if __name__ == "__main__":
    run(main)
