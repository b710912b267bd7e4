"""What an attribute's direction does to the faces that are drawn along it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facedecode.attributes.direction import Direction, at_ends, find_direction
from facedecode.attributes.image_targets import TargetSet
from facedecode.attributes.measured import ATTRIBUTES, SIDE, measure_faces, measure_pictures
from facedecode.attributes.probe import Predict, fit_linear
from facedecode.decoders import Decoder
from facedecode.decoders.checkpoint import optional_decoder
from facedecode.errors import BadInput, MissingWeights
from facedecode.evaluation.jobs import LeakageJob
from facedecode.evaluation.rendering import spread_rows
from facedecode.evaluation.result import Result, paragraphs, texts
from facedecode.names import shared_people
from facedecode.pictures.faces import Face, FaceDetector, choose_face
from facedecode.pictures.figures import picture_grid, png_bytes
from facedecode.pictures.images import resized
from facedecode.progress import Stage
from facedecode.provenance import describe_decoder
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.report import Picture, Section
from facedecode.report.text import slugs
from facedecode.statistics.bootstrap import mean_interval
from facedecode.store import Store
from facedecode.store.images import read_portraits

SHOWN, MEASURED = 2, 60  # people
AMOUNTS = (-2.0, -1.0, 0.0, 1.0, 2.0)
_ENLARGED = 256  # px: faces of a smaller picture are hard to detect


def add_strips(
    result: Result,
    attributes: TargetSet,
    templates: np.ndarray,
    directions: Mapping[str, Direction],
    store: Store,
    job: LeakageJob,
    device: str,
    stage: Stage,
) -> None:
    """Add a strip and its figures for each direction; a warning where there is no decoder, and none was asked for.

    They are of people whom neither the decoder has seen, nor the direction, which is found again without them. These
    people are a third of all at most. A strip has a person in a row: the portrait, then what is drawn at each of
    `AMOUNTS`. What changes in it is measured from half a step below to half a step above: of classes in the probability
    of the high one, of labelled numbers in a linear probe's answer.

    templates: float32 (n, dim) of the images in `store`, the first.

    Raises MissingWeights, BadInput: of the decoder or the weights that were asked for. The decoder does not record whom
    it was trained on, or has seen everybody; images are missing.
    """
    decoder = optional_decoder(store.recognizer, job.decoder, device, "no strips", result.warnings.append)
    if decoder is None:
        return
    recognizer = None
    try:
        recognizer = load_recognizer(store.recognizer, job.weights, device)
    except MissingWeights as error:
        if job.weights is not None:
            raise
        result.warnings.append(f"classes are not measured on what is drawn: {error}")
    try:
        shown, measured = _unseen(attributes, templates, store, decoder)
        root = store.images(job.images)
        portraits = read_portraits([attributes.rows[i] for i in shown], root, decoder.image_size)
    except BadInput as error:
        if job.decoder is not None:
            raise
        result.warnings.append(f"no strips: {error}")
        return
    look = decoder.check(templates[np.union1d(shown, measured)], store.folder, store.manifest)
    result.warnings += [look.sentence] if look.sentence else []
    everybody = attributes.people(np.arange(len(attributes.rows)))
    judged = shared_people(everybody, {*attributes.people(shown), *attributes.people(measured)})
    detector, progress, pictures = FaceDetector(), stage("strips"), []
    progress(0, len(directions))
    files = slugs(directions)
    for number, (name, whole) in enumerate(directions.items(), 1):
        target, images = attributes.targets[name]
        others = np.array([person not in judged for person in attributes.people(images)])
        try:
            apart, inputs = target.of_people(others), templates[images][others]
            direction = find_direction(name, inputs, apart, whole.recognizer)
            probe = None if name in ATTRIBUTES or recognizer is None else fit_linear(inputs, apart)
        except BadInput as error:
            result.warnings.append(f"no strip of {name}: {error}")
            continue
        pictures.append(_strip(files[name], name, direction, portraits, templates[shown], decoder))
        low, high = (
            decoder.decode(direction.move(templates[measured], amount), checked=True) for amount in (-0.5, 0.5)
        )
        changes, lost = _changes(name, low, high, detector, recognizer, probe)
        change, kept = None, np.isfinite(changes)
        if kept.any():
            people = attributes.people(measured[kept])
            change = mean_interval(changes[kept], people, repetitions=job.repetitions, seed=job.seed)
        ends = at_ends(target.values, target) if target.classes is None else (0.0, 1.0)
        for metric, figure in (("change", change), ("expected", ends[1] - ends[0]), ("lost", lost)):
            result.add(f"drawn_{metric}", {"attribute": name}, figure)
        progress(number, len(directions))
    if pictures:
        columns = ["drawn_change", "drawn_expected", "drawn_lost"]
        table = result.table("strips", "Drawn along it", ["attribute"], columns)
        text = paragraphs(texts("leakage")["strips"])
        result.sections.append(Section("Along the directions", text, [table], pictures))
        name = Path(job.decoder or store.recognizer.name).name
        result.provenance["decoders"] = {name: describe_decoder(decoder)}


def _unseen(
    attributes: TargetSet, templates: np.ndarray, store: Store, decoder: Decoder
) -> tuple[np.ndarray, np.ndarray]:
    """Images to show and to measure, that the decoder has not seen, nor their people. BadInput where there are none."""
    if not decoder.known.people:
        raise BadInput("the decoder does not record the people it was trained on; train it again")
    everybody = attributes.people(np.arange(len(attributes.rows)))
    unseen = np.flatnonzero(decoder.known.judge(attributes.rows, templates, store.made_by) == "")
    if not len(unseen):
        raise BadInput("the decoder was trained on all of these people; give others with --people")
    names, most = attributes.people(unseen), (len(set(everybody)) - SHOWN) // 3
    return unseen[spread_rows(names, SHOWN)], unseen[spread_rows(names, max(1, min(MEASURED, most)))]


def _strip(
    file: str, name: str, direction: Direction, portraits: np.ndarray, templates: np.ndarray, decoder: Decoder
) -> Picture:
    """file: the end of the picture's name."""
    lines = []
    for portrait, template in zip(portraits, templates, strict=True):
        moved = np.concatenate([direction.move(template[None], amount) for amount in AMOUNTS])
        lines.append(np.concatenate([portrait[None], decoder.decode(moved, checked=True)]))
    steps = [f"{amount:+g}" if amount else "0" for amount in AMOUNTS]
    grid = picture_grid(lines, captions=[[]] * (len(lines) - 1) + [["original", *steps]])
    alt = f"Rows of faces: an original, then drawings with {name} at {', '.join(steps)} steps."
    return Picture(f"strip-{file}", f"{name}: {direction.low} to {direction.high}", png_bytes(grid), "", alt)


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
