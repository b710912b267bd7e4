"""Classifiers from stores: fitted to the people, or made of a softmax layer that was trained elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from facedecode.classifiers.classes import choose_images
from facedecode.classifiers.classifier import Classifier
from facedecode.classifiers.softmax import Head, Solved, fit_softmax
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.files import decoded_text, read_file
from facedecode.identity import RecognizerId
from facedecode.progress import Progress, silent
from facedecode.provenance import describe_content
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.scores import encode_people
from facedecode.store import Store
from facedecode.store.processing import require_extracted

_LONGEST_LIST = 1 << 26  # bytes of a list of names

MIN_IMAGES = 10


def fit_store_classifier(
    store: Store,
    path: Path,
    *,
    people: Path | None = None,
    exclude: tuple[str, ...] = (),
    min_images: int = MIN_IMAGES,
    head: Head | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Classifier:
    """Fit a classifier of the people in `store` who have images enough, and write it to `path`.

    A classifier that is there and was fitted on the same images with the same settings is loaded instead.

    Args:
        people: file with the people to take; all of the store if None. exclude: people to leave out.
        min_images: that a person has, those held out among them.
        head, progress: see `fit_classifier`.

    Returns the classifier. Its report is that of `fit_classifier` with `left_out` (see `classes.Images`).

    Raises:
        OutputError: another classifier, or a folder, is at `path`, and `overwrite` is off.
        BadInput: as `require_extracted`, `choose_images` and `fit_classifier`.
        UsageError: `min_images` below 2.
        WouldNotFit: as `softmax.fit_softmax`.
    """
    head = head or Head()
    require_extracted(store)
    images = choose_images(store, people, exclude, min_images)
    provenance = {
        "store": store.fingerprint,
        **head.describe(),
        "min_images": min_images,
        "training_images": [p for p, out in zip(images.paths, images.held_out, strict=True) if not out],
        "held_out_images": [p for p, out in zip(images.paths, images.held_out, strict=True) if out],
    }
    if earlier := Classifier.finished(path, lambda made: made.report.get("provenance") == provenance, overwrite):
        return earlier
    classifier = fit_classifier(
        store.take(images.rows),
        images.names,
        images.held_out,
        store.recognizer,
        head=head,
        provenance=provenance,
        progress=progress,
    )
    classifier.report["left_out"] = images.left_out
    classifier.remember(store.pictures(images.rows))
    classifier.save(path)
    return classifier


def fit_classifier(
    templates: np.ndarray,
    names: Sequence[str],
    held_out: np.ndarray,
    recognizer: RecognizerId,
    *,
    head: Head | None = None,
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Classifier:
    """Fit a softmax over people to templates, and judge it on those held out.

    A linear head is fitted to templates that are centered and divided by one number, the root of their mean variance;
    both are then folded into the weight. All images weigh alike, so that people with many are expected more often.

    Args:
        templates: (n, dim) any float type, raw. names: n people. held_out: bool (n,).
        head: what to fit; a linear head if None.
        provenance: JSON to keep with it. progress: as in `softmax.fit_softmax`.

    Returns the classifier. Its report has `classes`, `training_images` and `held_out_images` (counts), `accuracy`
    (top-1 on images held out, with its interval by person; None without any), `accuracy_person_weighted`,
    `training_accuracy`, `held_out_loss` and `training_loss` (mean cross-entropy, nats), `chance`, `largest_class`
    (name, and share of the images held out: the accuracy of always naming it), `iterations`, `gradient`, `converged`
    (see `softmax.Solved`) and `provenance`.

    Raises BadInput: shapes that do not match, NaN or infinite templates, templates that are all equal; fewer than two
    people to train on, or one without images to train on. WouldNotFit: as `softmax.fit_softmax`.

    Warns FacedecodeWarning: the fit has not converged.
    """
    head = head or Head()
    templates, held_out = np.asarray(templates), np.asarray(held_out, bool)
    if templates.ndim != 2 or not len(templates) == len(names) == len(held_out):
        raise BadInput(f"templates {templates.shape}, {len(names)} names and {len(held_out)} flags: give one of each")
    if not np.isfinite(templates).all():
        raise BadInput("the templates have NaN or infinite numbers: extract them again")
    training = ~held_out
    classes, codes = encode_people(names)
    trained = np.bincount(codes[training], minlength=len(classes))
    if len(classes) < 2 or not trained.all():
        lacking = [name for name, count in zip(classes, trained, strict=True) if not count]
        what = f"{lacking[0]} has no image to train on" if lacking else f"{classes[0]} is alone"
        raise BadInput(f"{what}: a classifier takes two people or more, each with images that are not held out")
    x = templates[training].astype(np.float64)
    center, spread = x.mean(axis=0), float(np.sqrt(x.var(axis=0).mean()))
    if not spread > 0:
        raise BadInput("the templates are all equal: nothing can be told apart by them")
    if head.kind == "cosine":
        solved = fit_softmax(x, codes[training], head, progress)
        weight, bias = solved.weight, solved.bias
    else:
        solved = fit_softmax((x - center) / spread, codes[training], head, progress)
        weight = solved.weight / spread
        bias = solved.bias - weight @ center
    if not solved.converged:
        warnings.warn(
            f"the classifier has not converged: after {solved.iterations} iterations its gradient is "
            f"{solved.gradient:.1e}; a larger --l2 (or a smaller --scale) helps",
            FacedecodeWarning,
            stacklevel=2,
        )
    report = {"provenance": provenance or {}}
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    classifier = Classifier(weight, bias, tuple(classes), head.scale, recognizer=recognizer, report=report)
    report.update(_judge(classifier, templates, names, codes, held_out, solved))
    return classifier


def _judge(
    classifier: Classifier,
    templates: np.ndarray,
    names: Sequence[str],
    codes: np.ndarray,
    held_out: np.ndarray,
    solved: Solved,
) -> dict[str, Any]:
    """The report's figures, of the weights as they are kept."""
    right = classifier.predict(templates).numpy() == codes
    people, training = np.asarray(names, object), ~held_out
    counts = np.bincount(codes[held_out] if held_out.any() else codes)
    report: dict[str, Any] = {
        "classes": len(classifier),
        "training_images": int(training.sum()),
        "held_out_images": int(held_out.sum()),
        "accuracy": None,
        "accuracy_person_weighted": None,
        "training_accuracy": mean_interval(right[training], people[training].tolist()).as_json(),
        "held_out_loss": None,
        "training_loss": solved.loss,
        "chance": 1 / len(classifier),
        "largest_class": {"name": classifier.names[counts.argmax()], "share": float(counts.max() / counts.sum())},
        "iterations": solved.iterations,
        "gradient": solved.gradient,
        "converged": solved.converged,
    }
    if held_out.any():
        report |= accuracies(right[held_out], people[held_out].tolist())
        report["held_out_loss"] = mean_loss(classifier, templates[held_out], codes[held_out])
    return report


def accuracies(right: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """JSON: the share of right answers, bool (n,), by image and with people weighing alike; intervals by person."""
    return {
        "accuracy": mean_interval(right, names).as_json(),
        "accuracy_person_weighted": mean_interval(right, names, person_weighted=True).as_json(),
    }


def mean_loss(classifier: Classifier, templates: np.ndarray, codes: np.ndarray) -> float:
    """Mean cross-entropy in nats of templates (n, dim) of the classes `codes`, int64 (n,)."""
    with torch.no_grad():
        logits = classifier.logits(torch.from_numpy(np.asarray(templates, np.float64)))
        return float(F.cross_entropy(logits, torch.from_numpy(codes)))


def import_store_classifier(
    store: Store, weights: Path, names: Path, path: Path, *, scale: float | None = None, overwrite: bool = False
) -> Classifier:
    """Make a classifier of a softmax layer for the recognizer of `store`, such as VGGFace2's, and write it to `path`.

    The store judges it where it has images of its classes. A classifier that is there and was made of the same files
    is loaded instead.

    Args:
        weights: a safetensors file with `weight` (classes, dim) and, optionally, `bias` (classes,), of any float type.
        names: a text file with a class on each line, in the order of the weight's rows.
        scale: makes it a cosine head of that scale; a linear head if None.

    Returns the classifier. Its report has `classes`, `provenance`, and where the store has images of people among the
    classes `images` (their count), `accuracy` and `accuracy_person_weighted` on them, else None.

    Raises OutputError: another classifier, or a folder, is at `path`, and `overwrite` is off. BadInput: as
    `require_extracted`; the files cannot be read, or do not fit each other or the recognizer.
    """
    require_extracted(store)
    content = read_file(weights)
    weight, bias = _read_layer(weights, content)
    listed = read_file(names, _LONGEST_LIST)
    classes = parse_names(names, listed)
    if len(classes) != len(weight):
        raise BadInput(f"{names}: {len(classes)} names, and {weights} has {len(weight)} classes; name each, in order")
    provenance: dict[str, Any] = {
        "weights": describe_content(weights, content),
        "names": describe_content(names, listed),
        "scale": scale,
        "judged_on": store.fingerprint,
    }
    if earlier := Classifier.finished(path, lambda made: made.report.get("provenance") == provenance, overwrite):
        return earlier
    report: dict[str, Any] = {"classes": len(classes), "images": 0, "provenance": provenance}
    report |= {"accuracy": None, "accuracy_person_weighted": None}
    try:
        classifier = Classifier.from_linear(weight, bias, classes, store.recognizer, scale=scale, report=report)
    except BadInput as error:
        raise BadInput(f"{weights}: {error}") from None
    identities, known = store.identities(), {name: n for n, name in enumerate(classifier.names)}
    rows = np.array([i for i, name in enumerate(identities) if name in known], np.int64)
    if len(rows):
        people = [identities[i] for i in rows]
        right = classifier.predict(store.take(rows)).numpy() == [known[name] for name in people]
        report |= {"images": len(rows), **accuracies(right, people)}
        classifier.report.update(report)
    classifier.save(path)
    return classifier


def parse_names(path: Path, content: bytes) -> list[str]:
    """The lines of a text file without the space around them; an empty one at the end is none.

    Raises BadInput: naming the file: another encoding, an empty line, a name twice.
    """
    lines = decoded_text(path, content).rstrip().split("\n")
    names, seen = [line.strip() for line in lines], set()
    for number, name in enumerate(names, 1):
        if not name:
            raise BadInput(f"{path}, line {number}: empty; name each class, in the order of the weight's rows")
        if name in seen:
            raise BadInput(f"{path}, line {number}: {name!r} is there already; name each class once")
        seen.add(name)
    return names


def _read_layer(path: Path, content: bytes) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`weight` and `bias`, float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(
            f"{path}: not a readable safetensors file ({reason}); give one with 'weight' and 'bias'"
        ) from error
    others = sorted(tensors)[:5]
    if "weight" not in tensors:
        raise BadInput(f"{path}: has no tensor 'weight' (it has {', '.join(others) or 'none'}); rename the layer's")
    weight, bias = tensors["weight"], tensors.get("bias")
    if weight.ndim != 2 or not weight.is_floating_point() or (bias is not None and not bias.is_floating_point()):
        raise BadInput(f"{path}: 'weight' is {weight.dtype} {tuple(weight.shape)}, not floats (classes, dim)")
    return weight.float(), None if bias is None else bias.float()
