"""What an attribute's direction does to the faces that are drawn along it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.attributes.direction import Direction, at_ends, find_direction
from facedecode.attributes.measured import ATTRIBUTES, SIDE, measure_faces, measure_pictures
from facedecode.attributes.probe import Predict, fit_linear
from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.evaluation.leakage.targets import TargetSet
from facedecode.evaluation.rendering import spread_rows
from facedecode.pictures.faces import Face, FaceDetector, choose_face
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.pictures.images import resized
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.store.images import read_portraits

SHOWN, MEASURED = 2, 60  # people
AMOUNTS = (-2.0, -1.0, 0.0, 1.0, 2.0)
_ENLARGED = 256  # px: faces of a smaller picture are hard to detect


@dataclass(frozen=True)
class Strip:
    """One attribute's.

    Attributes:
        picture: PNG; a person in a row: the portrait, then what is drawn at each of `AMOUNTS`.
        change: in the attribute as measured on what is drawn, from half a step below to half a step above. Of classes:
            in the probability of the high one; of labelled numbers: in a linear probe's answer. None where it could
            not be measured.
        expected: the same between the ends in the data; 1 of a probability.
        lost: drawn faces in which no landmarks were found.
    """

    picture: bytes
    change: Estimate | None
    expected: float
    lost: int = 0


def draw_strips(
    attributes: TargetSet,
    templates: np.ndarray,
    directions: Mapping[str, Direction],
    drawing: tuple[Decoder, Recognizer | None],
    root: Path,
    *,
    repetitions: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None],
) -> dict[str, Strip]:
    """A strip for each direction, of people whom nothing has seen.

    Neither the decoder has, nor the direction, which is found again without them. They are a third of all at most.

    Args:
        templates: float32 (n, dim) of the images.
        drawing: the decoder, and what embeds its pictures, so that a probe can read labels from them; None leaves
            labels unmeasured.
        root: where the images are.
        say: told of a direction that too few other people are left to find again: it has no strip.

    Raises:
        BadInput: the decoder does not record whom it was trained on, or has seen everybody; images are missing.
    """
    decoder, recognizer = drawing
    training_people = decoder.provenance.training.get("people")
    if not training_people:
        raise BadInput("the decoder does not record the people it was trained on; train it again")
    known, everybody = set(training_people), attributes.people(np.arange(len(templates)))
    unseen = np.array([i for i, name in enumerate(everybody) if name not in known], np.int64)
    if not len(unseen):
        raise BadInput("the decoder was trained on all of these people; give others with --people")
    names = attributes.people(unseen)
    shown = unseen[spread_rows(names, SHOWN)]
    measured = unseen[spread_rows(names, max(1, min(MEASURED, (len(set(everybody)) - SHOWN) // 3)))]
    judged = {*attributes.people(shown), *attributes.people(measured)}
    portraits = read_portraits([attributes.rows[i] for i in shown], root, decoder.image_size)
    detector, strips = FaceDetector(), {}
    for number, (name, whole) in enumerate(directions.items(), 1):
        target, images = attributes.targets[name]
        others = np.array([person not in judged for person in attributes.people(images)])
        try:
            apart, inputs = target.of_people(others), templates[images][others]
            direction = find_direction(name, inputs, apart, whole.recognizer)
            probe = None if name in ATTRIBUTES or recognizer is None else fit_linear(inputs, apart)
        except BadInput as error:
            say(f"no strip of {name}: {error}")
            continue
        lines = []
        for portrait, template in zip(portraits, templates[shown], strict=True):
            moved = np.concatenate([direction.move(template[None], amount) for amount in AMOUNTS])
            lines.append(np.concatenate([portrait[None], decoder.decode(moved)]))
        captions = ["original", *(f"{amount:+g}" if amount else "0" for amount in AMOUNTS)]
        grid = picture_grid(lines, captions=[[]] * (len(lines) - 1) + [captions])
        low, high = (decoder.decode(direction.move(templates[measured], amount)) for amount in (-0.5, 0.5))
        changes, lost = _changes(name, low, high, detector, recognizer, probe)
        change, kept = None, np.isfinite(changes)
        if kept.any():
            people = attributes.people(measured[kept])
            change = mean_interval(changes[kept], people, repetitions=repetitions, seed=seed)
        expected = at_ends(target.values, target) if target.classes is None else (0.0, 1.0)
        strips[name] = Strip(png_bytes(grid), change, expected[1] - expected[0], lost)
        if progress:
            progress(number, len(directions))
    return strips


def _changes(
    name: str,
    low: np.ndarray,
    high: np.ndarray,
    detector: FaceDetector,
    recognizer: Recognizer | None,
    probe: Predict | None,
) -> tuple[np.ndarray, int]:
    """Of each person (n,), NaN where it is not measured or a face is lost; and how many faces are."""
    attribute, unknown = ATTRIBUTES.get(name), np.full(len(low), np.nan)
    if attribute is None:
        if recognizer is None or probe is None:
            return unknown, 0
        answers = [probe(embed_pictures(recognizer, pictures)) for pictures in (low, high)]
        change = answers[1] - answers[0]
        return change[:, 1] if change.ndim == 2 else change, 0
    if attribute.of_pictures:
        values = [measure_pictures(name, resized(pictures, SIDE)) for pictures in (low, high)]
        return values[1] - values[0], 0
    faces = [_detected(detector, pictures) for pictures in (low, high)]
    both = [place for place, pair in enumerate(zip(*faces, strict=True)) if None not in pair]
    if both:
        values = []
        for detected in faces:
            points = np.stack([detected[place].landmarks for place in both])
            probabilities = np.array([detected[place].probability for place in both])
            values.append(measure_faces(name, points, probabilities))
        unknown[both] = values[1] - values[0]
    return unknown, len(low) - len(both)


def _detected(detector: FaceDetector, pictures: np.ndarray) -> list[Face | None]:
    large = resized(pictures, _ENLARGED)
    return [choose_face(faces, _ENLARGED, _ENLARGED) for faces in detector.detect(list(large))]
