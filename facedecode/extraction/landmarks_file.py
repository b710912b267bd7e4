"""Files of five points by image, as data sets and other detectors have them: CelebA's, tables, JSON lines."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.annotations.labels import label_file, match, match_images
from facedecode.annotations.tables import TextFile, is_path_name, person_columns, plain, read_text_file
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.names import image_name
from facedecode.pictures.faces import FaceDetector
from facedecode.pictures.finding import ImageRef
from facedecode.pictures.given_faces import LandmarkedFaces
from facedecode.pictures.images import LARGE, image_size, load_image
from facedecode.pictures.perturb import face_axes
from facedecode.records import parse_json

COLUMNS = tuple(
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"
)
ORDER = "left eye, right eye, nose, left and right corner of the mouth, left being the picture's left"
_SIDE = "(left|right|l|r|)"
_PART = re.compile(f"{_SIDE}(eye|nose|mouth|lip)(?:center|corner|tip|)(?:s|){_SIDE}")
_NUMBERED = re.compile(r"(?:landmarks?|lm|points?|pt|p|keypoints?|kp|)([0-9])")
_PARTS = {("l", "eye"): 0, ("r", "eye"): 1, ("", "nose"): 2, ("l", "mouth"): 3, ("r", "mouth"): 4}
_MIRRORED = -0.1  # of the face's unit, squared: a profile's two eyes lie in one place, more or less
_OUTSIDE = 0.1  # of an image's shorter side: points of a face that the edge cuts lie beyond it
_SMALLEST = 1.0  # px, of a face's unit
_MANY = 0.2  # share of the images whose landmarks are none of a face, above which the file is refused
_NEAR, _FAR = 0.12, 0.25  # of the face's size, from the detector's points: more are told, and refused
_LOOKED_AT, _FEWEST = 16, 4  # images that the detector looks at, too, and those of them that it has to see a face in


@dataclass(frozen=True)
class LandmarksFile:
    """Five points for each of many images.

    of: name of an image, as `image_name` gives it → line in the file, and (5, 2) float64 px in the order of `Face`.
    notes: lines on what columns were taken for, and on equal rows.
    """

    path: Path
    sha256: str
    of: Mapping[str, tuple[int, np.ndarray]]
    notes: Sequence[str]

    def faces_of(self, refs: Sequence[ImageRef], target: ImageRef | None = None) -> tuple[LandmarkedFaces, list[str]]:
        """The faces of images, found by their paths or names (`labels.match`), and lines on what is left over.

        target: one more image, of which the file need not have any.

        Raises BadInput: the file has none of the images; a point lies outside of its image; the points of more than a
        fifth are none of a face (of fewer, it is what the finder says of them).
        """
        matched = match_images(refs, self.of, self.path)
        points: dict[str, np.ndarray | str] = {}
        outside, wrong = [], []
        pairs = list(zip(refs, matched.values, strict=True))
        if target is not None:
            pairs += zip([target], match([target.relative], self.of).values, strict=True)
        for ref, found in pairs:
            if found is None:
                points[ref.relative] = f"no landmarks in {self.path.name}"
                continue
            line, five = found
            points[ref.relative] = five
            with suppress(BadInput):  # it will be a failure for another reason
                if far := _outside(five, image_size(ref.path, upright=True)):
                    outside.append((line, f"{far} of {ref.relative}"))
            if fault := _fault(five):
                wrong.append((line, fault))
                points[ref.relative] = f"{self.path.name}, line {line}: {fault}"
        count = len(refs) - len(matched.images)
        self._refuse(outside, count, 0, "are they of images of another size, or of others? Scale them to these")
        self._refuse(wrong, count, _MANY, f"their order is: {ORDER}. Name the columns so")
        notes = [*self.notes, *matched.notes("landmarks", self.path)]
        notes += [f"{len(wrong)} of {count} images have landmarks that are none of a face"] if wrong else []
        return LandmarkedFaces(points, {"landmarks_sha256": self.sha256}), notes

    def _refuse(self, faults: list[tuple[int, str]], count: int, most: float, remedy: str) -> None:
        if len(faults) > most * count:
            line, first = faults[0]
            raise BadInput(
                f"{self.path}, line {line}: {first} ({len(faults)} of {count} images are so); {remedy}, or take these "
                "lines out"
            )

    def require_seen(self, refs: Sequence[ImageRef], faces: LandmarkedFaces, detector: FaceDetector) -> None:
        """Refuse landmarks that are far from where the detector sees the faces of some images, and warn of others.

        How far: the median over images of the mean distance of a point, in units of the face (`face_axes`). Raises
        BadInput; warns of FacedecodeWarning.
        """
        known = [ref for ref in refs if not isinstance(faces.face(1, 1, ref.relative), str)]
        far = []
        for place in np.unique(np.linspace(0, len(known) - 1, min(_LOOKED_AT, len(known))).astype(int)):
            with suppress(BadInput):
                width, height = image_size(known[place].path)
                if width * height > LARGE:
                    continue
                (others,) = detector.detect([load_image(known[place].path)])
                face = faces.face(width, height, known[place].relative)
                assert not isinstance(face, str)
                unit = face_axes(face.landmarks)[1]
                apart = [np.hypot(*(face.landmarks - other.landmarks).T).mean() / unit for other in others]
                far += [min(apart)] if apart else []
        median = float(np.median(far)) if len(far) >= _FEWEST else 0.0
        if median > _NEAR:
            says = (
                f"{self.path}: in {len(far)} images looked at, the points lie {median:.2f} of the face's size from the "
                "detector's (median); are they of images of another size, or of others?"
            )
            if median > _FAR:
                raise BadInput(f"{says} Scale them to these")
            warnings.warn(says, FacedecodeWarning, stacklevel=2)


def read_landmarks(path: Path) -> LandmarksFile:
    """Read a file of landmarks.

    It is CelebA's (`list_landmarks_align_celeba.txt`: a number, the names of the columns, rows), another table (see
    `tables`), or JSON lines, an object an image. Points are told by the names of columns (`left_eye_x`, `lefteye_x`,
    `x1`, `landmark_0_x` …), else ten columns are taken in the order of `COLUMNS`. In JSON, a point may be `[x, y]`, and
    all five a list of them, or an object.

    Raises BadInput naming the line: unreadable, empty, no or not five points, numbers that are none or not finite, an
    image with other points twice.
    """
    file = read_text_file(path)
    first = file.lines[0][1].lstrip()
    if first.startswith("["):
        raise BadInput(f"{path}: a list of JSON; write it as JSON lines, one object an image")
    rows = _json_rows(file) if first.startswith("{") else _table_rows(file)
    found: dict[str, tuple[int, np.ndarray]] = {}
    again = 0
    notes: list[str] = []
    for line, name, columns, cells in rows:
        where = f"{path}, line {line}"
        if not (name := image_name(name)):
            raise BadInput(f"{where}: names no image")
        if not any(cell not in ("", None) for cell in cells):
            continue
        points = np.array([_number(where, *each) for each in zip(columns, cells, strict=True)]).reshape(5, 2)
        before = found.setdefault(name, (line, points))
        if before[0] != line:
            again += 1
            if not np.array_equal(before[1], points):
                raise BadInput(f"{where}: {name} is there already, in line {before[0]} with other points; leave one")
    if not found:
        raise BadInput(f"{path}: has no landmarks; is it the right file?")
    if again:
        notes.append(f"rows that {path} has twice: {again}; each counts once")
    return LandmarksFile(path, file.sha256, found, notes)


Row = tuple[int, str, Sequence[str], Sequence[Any]]
"""The number of a line, the image, the names of the ten columns and their cells, in the order of `COLUMNS`."""


def _table_rows(text: TextFile) -> Iterator[Row]:
    file = label_file(text, unnamed=("path", *COLUMNS))
    image = file.require_image_column()
    columns = _ten(text.path, [name for name in file.columns if name and name != image])
    for line, row in file.rows:
        yield line, row[image], columns, [row[column] for column in columns]


def _json_rows(text: TextFile) -> Iterator[Row]:
    for line, written in text.lines:
        where = f"{text.path}, line {line}"
        held = parse_json(where, written)
        names = [key for key, value in held.items() if is_path_name(key) and isinstance(value, str)]
        name = held.get("path", held[names[0]] if len(names) == 1 else None)
        if not isinstance(name, str):
            raise BadInput(f"{where}: has no 'path' of an image")
        cells = dict(_flat("", held))
        columns = _ten(where, [column for column in cells if column])
        yield line, name, columns, [cells[column] for column in columns]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Numbers of a JSON object by the names that columns would have: points are `[x, y]`, and lists of ten numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(key, inner)
    elif isinstance(value, list) and len(value) == 2 and not any(isinstance(each, list) for each in value):
        yield from zip((f"{name}_x", f"{name}_y"), value, strict=True)
    elif isinstance(value, list) and len(value) == 10:
        yield from zip(COLUMNS, value, strict=True)
    elif isinstance(value, list) and [len(each) if isinstance(each, list) else 0 for each in value] == [2] * 5:
        yield from zip(COLUMNS, (number for point in value for number in point), strict=True)
    elif not isinstance(value, str | list):
        yield name, value


def _ten(where: object, columns: Sequence[str]) -> list[str]:
    """The ten columns of the points, in the order of `COLUMNS`: by their names, else all where there are ten."""
    for place_of in (_named_place, _numbered_place):
        placed = {place: name for name in columns if (place := place_of(name)) is not None}
        first = min(placed, default=0)
        if sorted(placed) == list(range(first, first + 10)):
            return [placed[place] for place in sorted(placed)]
    people = person_columns(columns, ())
    others = [name for name in columns if name not in people]
    if len(others) == 10 and not any(_named_place(name) is not None for name in columns):
        return others
    listed = ", ".join(columns[:12]) or "none"
    raise BadInput(
        f"{where}: no ten columns of five points ({listed}); call them {', '.join(COLUMNS[:3])} … {COLUMNS[-1]}, of "
        f"{ORDER}"
    )


def _part_and_axis(column: str) -> tuple[str, int]:
    """A column's plain name without x or y at its end or beginning, and which one; axis -1 where it has neither."""
    name = plain(column)
    for axis, letter in enumerate("xy"):
        if name.endswith(letter):
            return name[:-1], axis
    for axis, letter in enumerate("xy"):
        if name.startswith(letter):
            return name[1:], axis
    return name, -1


def _named_place(column: str) -> int | None:
    """Which of `COLUMNS` a column is by the name of a part of the face."""
    name, axis = _part_and_axis(column)
    match = _PART.fullmatch(name)
    if match is None or axis < 0:
        return None
    side = (match[1] or match[3])[:1]
    point = _PARTS.get((side, match[2].replace("lip", "mouth")))
    return None if point is None else 2 * point + axis


def _numbered_place(column: str) -> int | None:
    """Twice a column's number, and one more where it is a y."""
    name, axis = _part_and_axis(column)
    match = _NUMBERED.fullmatch(name)
    return None if match is None or axis < 0 else 2 * int(match[1]) + axis


def _number(where: str, column: str, cell: Any) -> float:
    try:
        value = float(cell) if isinstance(cell, str | int | float) and not isinstance(cell, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{where}: {column} is {str(cell)[:40]!r}, and no finite number; mend the line, or take it out")
    return value


def _outside(points: np.ndarray, size: tuple[int, int]) -> str | None:
    """Which point lies too far beyond the edge of a picture of this size to be of a face that the edge cuts."""
    beyond = np.maximum(-points, points - size).max(axis=1)
    if beyond.max() <= _OUTSIDE * min(size):
        return None
    x, y = points[beyond.argmax()]
    return f"the point ({x:g}, {y:g}) lies outside the {size[0]} x {size[1]} pixels"


def _fault(points: np.ndarray) -> str | None:
    """What makes five points none of a face, however it is turned; None where nothing does."""
    down = (points[3] + points[4] - points[0] - points[1]) / 2
    eyes, mouth = points[1] - points[0], points[4] - points[3]
    unit = max(np.hypot(*down), np.hypot(*eyes))
    if unit < _SMALLEST:
        return "the points lie in one place"
    if down[1] < _MIRRORED * unit:
        return "the eyes lie below the mouth"
    sides = [(one[0] * down[1] - one[1] * down[0]) / unit**2 for one in (eyes, mouth)]
    return "left and right are swapped" if min(sides) < _MIRRORED else None
