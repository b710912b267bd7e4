"""What a recognizer makes of faces that somebody else cut out, by each way to say where they are.

    python benchmarks/cropped_faces.py emb-edgeface --weights edgeface_xxs.safetensors -o cropped-faces.json

Takes images of a store, two a person, and saves what its rows cut out of them as PNG: the recognizer's own crops, and
the boxes of the faces. These, and the images with their landmarks in a table, are extracted by the option for each, and
the crops by the detector, too. Templates are compared with the store's of the whole images, and all pairs with one
another. An image that gives no template counts in no cosine, and as an error in the EER.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from facedecode.evaluation import EVALUATIONS
from facedecode.evaluation.jobs import VerificationJob
from facedecode.extraction.finders import FaceSource
from facedecode.extraction.jobs import FaceOptions
from facedecode.extraction.landmarks_file import COLUMNS
from facedecode.extraction.run import extract, find_inputs
from facedecode.files import csv_text, make_folder, write_json, write_text
from facedecode.pictures.images import load_image, save_image
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store.images import row_face


def choose(store: Store, count: int) -> list[int]:
    """Rows of two images a person, of the first people who have them."""
    of_person = defaultdict(list)
    for row, name in enumerate(store.identities()):
        of_person[name].append(row)
    pairs = [rows[:2] for rows in of_person.values() if len(rows) > 1]
    return sorted(row for pair in pairs[: count // 2] for row in pair)


def save_pictures(store: Store, rows: list[int], recognizer: Recognizer, work: Path) -> None:
    """The folders `images`, `crops` and `boxes` of the rows, and `landmarks.csv` of the first."""
    lines = []
    for row in store.take_rows(np.array(rows)).to_pylist():
        image, face = load_image(store.root / row["path"]), row_face(row)
        height, width = image.shape[:2]
        x1, y1, x2, y2 = np.round(face.box.clip(0, [width, height, width, height])).astype(int)
        pictures = {"images": image, "crops": recognizer.crop(image, face), "boxes": image[y1:y2, x1:x2]}
        for folder, picture in pictures.items():
            path = (work / folder / row["path"]).with_suffix(".png")
            make_folder(path.parent)
            save_image(path, np.ascontiguousarray(picture))
        lines.append([row["path"], *map(float, face.landmarks.ravel())])
    write_text(work / "landmarks.csv", csv_text(["path", *COLUMNS], lines))


def main() -> None:
    """Cut, extract by each way, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="of images as they are")
    parser.add_argument("--weights", type=Path, help="of its recognizer")
    parser.add_argument("--count", type=int, default=500, help="images")
    parser.add_argument("--work", type=Path, default=Path("cropped-faces"), help="folder for pictures and stores")
    parser.add_argument("-o", "--output", type=Path, help="file for the figures, JSON")
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    recognizer = load_recognizer(store.recognizer, arguments.weights)
    work: Path = arguments.work
    rows = choose(store, arguments.count)
    save_pictures(store, rows, recognizer, work)
    names = store.paths()
    whole = {str(Path(names[row]).with_suffix(".png")): store.templates()[row] for row in rows}
    figures = {}
    for name, folder, options in (
        ("images, detected", "images", FaceOptions()),
        ("images, --landmarks", "images", FaceOptions(landmarks=work / "landmarks.csv")),
        ("crops, --crop aligned", "crops", FaceOptions("aligned")),
        ("crops, detected", "crops", FaceOptions()),
        ("boxes, --crop box", "boxes", FaceOptions("box")),
        ("boxes, detected", "boxes", FaceOptions()),
    ):
        inputs = find_inputs([work / folder])
        finder = FaceSource.of(options, inputs.refs).finder(recognizer, "cpu")
        place = work / f"emb-{name.replace(', ', '-').replace(' ', '-')}"
        extract(inputs, place, recognizer, finder)
        made = Store.open(place)
        cosines = score_pairs(made.templates(), np.stack([whole[path] for path in made.paths()]), "cosine")
        eer = EVALUATIONS["verification"].evaluate(VerificationJob(stores=[str(place)])).gate_figures()["eer"]
        figures[name] = {
            "templates": len(made),
            "cosine": {"least": float(cosines.min()), "median": float(np.median(cosines))},
            "eer": {"value": eer.value, "low": eer.low, "high": eer.high},
        }
        print(
            f"{name:22} {len(made)} of {len(rows)}; cosine: least {cosines.min():.4f}, median "
            f"{np.median(cosines):.4f}; EER {eer.value:.2%} [{eer.low:.2%}, {eer.high:.2%}]",
        )
    if arguments.output:
        write_json(arguments.output, {"recognizer": recognizer.name, "images": len(rows), "ways": figures})


if __name__ == "__main__":
    main()
