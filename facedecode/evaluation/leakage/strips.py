"""What an attribute's direction does to the faces that are drawn along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.attributes.direction import at_ends, find_direction
from facedecode.attributes.measured import ATTRIBUTES, SIDE, measure_faces, measure_pictures
from facedecode.attributes.probe import Predict, fit_linear
from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.evaluation.leakage.measure import LeakageFigures
from facedecode.evaluation.rendering import spread_rows
from facedecode.pictures.faces import Face, FaceDetector, choose_face
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.pictures.images import resized
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.store.images import read_portraits

SHOWN, MEASURED = 2, 60  # people
# Above chance, in R² or balanced accuracy: along what nobody can read, nothing is to be seen.
READABLE = 0.1
AMOUNTS = (-2.0, -1.0, 0.0, 1.0, 2.0)
_ENLARGED = 256  # px: faces of a smaller picture are hard to detect


@dataclass(frozen=True)
class Strip:
    """One attribute's.

    Attributes:
        picture: PNG; a person in a row: the portrait, then what is drawn at each of `AMOUNTS`.
        change: in the attribute as measured on what is drawn, from half a step below to half a step above; of classes
            in the probability of the high one, of labelled numbers in what a linear probe says. None where it could not
            be measured.
        expected: the same between the ends in the data; 1 of a probability.
        lost: drawn faces in which no landmarks were found.
    """

    picture: bytes
    change: Estimate | None
    expected: float
    lost: int = 0


def draw_strips(
    figures: LeakageFigures,
    decoder: Decoder,
    root: Path,
    *,
    recognizer: Recognizer | None = None,
    repetitions: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Strip]:
    """A strip for each attribute that a probe reads (see READABLE), of people whom nothing has seen.

    Neither the decoder nor the direction, which is found again without them; they are a third of all at most.

    Args:
        root: where the images are.
        recognizer: embeds what is drawn, so that a probe can read labels from it; None leaves them unmeasured.
        say: told of a direction that too few other people are left to find again: it has no strip.

    Raises:
        BadInput: the decoder does not record whom it was trained on, or has seen everybody; images are missing.
    """
    seen = decoder.provenance.training.get("people")
    if not seen:
        raise BadInput("the decoder does not record the people it was trained on; train it again")
    known = set(seen)
    unseen = np.array([i for i, row in enumerate(figures.rows) if row["identity"] not in known], np.int64)
    if not len(unseen):
        raise BadInput("the decoder was trained on all of these people; give others with --people")
    names = [figures.rows[i]["identity"] for i in unseen]
    shown = unseen[spread_rows(names, SHOWN)]
    people = {row["identity"] for row in figures.rows}
    measured = unseen[spread_rows(names, max(1, min(MEASURED, (len(people) - SHOWN) // 3)))]
    judged = {figures.rows[i]["identity"] for i in [*shown, *measured]}
    plain = next(iter(figures.templates.values()))
    portraits = read_portraits([figures.rows[i] for i in shown], root, decoder.image_size)
    detector = FaceDetector()
    found = {}
    directions = {name: own for name, own in figures.directions.items() if figures.best(name) >= READABLE}
    for number, (name, whole) in enumerate(directions.items(), 1):
        target, here = figures.targets[name]
        others = np.array([figures.rows[i]["identity"] not in judged for i in here])
        try:
            apart = target.of_people(others)
            direction = find_direction(name, plain[here][others], apart, whole.recognizer)
            probe = None if name in ATTRIBUTES or recognizer is None else fit_linear(plain[here][others], apart)
        except BadInput as error:
            say(f"no strip of {name}: {error}")
            continue
        lines = [
            np.concatenate(
                [portrait[None], decoder.decode(np.concatenate([direction.move(t[None], a) for a in AMOUNTS]))]
            )
            for portrait, t in zip(portraits, plain[shown], strict=True)
        ]
        captions = ["original", *(f"{amount:+g}" if amount else "0" for amount in AMOUNTS)]
        grid = picture_grid(lines, captions=[[]] * (len(lines) - 1) + [captions])
        low, high = (decoder.decode(direction.move(plain[measured], amount)) for amount in (-0.5, 0.5))
        own = [figures.rows[i]["identity"] for i in measured]
        changes, lost = _changes(name, low, high, detector, recognizer, probe)
        kept = np.isfinite(changes) if changes is not None else np.zeros(0, bool)
        change = None
        if kept.any():
            whose = [who for who, keep in zip(own, kept, strict=True) if keep]
            change = mean_interval(changes[kept], whose, repetitions=repetitions, seed=seed)
        expected = at_ends(target.values, target) if target.classes is None else (0.0, 1.0)
        found[name] = Strip(png_bytes(grid), change, expected[1] - expected[0], lost)
        if progress:
            progress(number, len(directions))
    return found


def _changes(
    name: str,
    low: np.ndarray,
    high: np.ndarray,
    detector: FaceDetector,
    recognizer: Recognizer | None,
    probe: Predict | None,
) -> tuple[np.ndarray | None, int]:
    """Of each person (n,), NaN where a face is lost, and how many are."""
    attribute = ATTRIBUTES.get(name)
    if attribute is None:
        if recognizer is None or probe is None:
            return None, 0
        said = [probe(embed_pictures(recognizer, pictures)) for pictures in (low, high)]
        change = said[1] - said[0]
        return change[:, 1] if change.ndim == 2 else change, 0
    if attribute.of_pictures:
        values = [measure_pictures(name, resized(pictures, SIDE)) for pictures in (low, high)]
        return values[1] - values[0], 0
    faces = [_detected(detector, pictures) for pictures in (low, high)]
    both = np.array([a is not None and b is not None for a, b in zip(*faces, strict=True)])
    changes = np.full(len(low), np.nan)
    if both.any():
        values = []
        for own in faces:
            there = [face for face, keep in zip(own, both, strict=True) if keep]
            points = np.stack([face.landmarks for face in there])
            values.append(measure_faces(name, points, np.array([face.probability for face in there])))
        changes[both] = values[1] - values[0]
    return changes, int((~both).sum())


def _detected(detector: FaceDetector, pictures: np.ndarray) -> list[Face | None]:
    large = resized(pictures, _ENLARGED)
    return [choose_face(faces, _ENLARGED, _ENLARGED) for faces in detector.detect(list(large))]
