"""A classifier from a store: the fit to its people, and the judgment on images held out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.classifiers.classes import choose_images
from facedecode.classifiers.classifier import Classifier
from facedecode.classifiers.softmax import Head, Solved, fit_softmax
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.identity import RecognizerId
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.scores import encode_people
from facedecode.store import Store
from facedecode.store.processing import require_extracted

MIN_IMAGES = 10
Progress = Callable[..., None]


def fit_store_classifier(
    store: Store,
    path: Path,
    *,
    people: Path | None = None,
    exclude: tuple[str, ...] = (),
    min_images: int = MIN_IMAGES,
    head: Head | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Classifier:
    """Fit a classifier of the people in `store` who have images enough, and write it to `path`.

    A classifier that is there and was fitted on the same images with the same settings is loaded instead.

    Args:
        people: file with the people to take; all of the store if None. exclude: people to leave out.
        min_images: that a person has, those held out among them.
        head: what to fit; a linear head if None.
        progress: as in `softmax.fit_softmax`.

    Returns:
        The classifier. Its report is that of `fit_classifier` with `left_out` (see `classes.Images`), and its
        `provenance` has the store's fingerprint, the settings, and the paths of `training_images` and
        `held_out_images`.

    Raises:
        OutputError: another classifier, or a folder, is at `path`, and `overwrite` is off.
        BadInput: the templates are normalized, protected, mapped or of perturbed faces, or have no people or images;
            fewer than two people have images enough.
        UsageError: `min_images` below 2.
        WouldNotFit: as `softmax.fit_softmax`.
    """
    head = head or Head()
    require_extracted(store)
    images = choose_images(store, people, exclude, min_images)
    held_out = images.held_out
    provenance = {
        "store": store.fingerprint,
        **head.describe(),
        "min_images": min_images,
        "training_images": [p for p, out in zip(images.paths, held_out, strict=True) if not out],
        "held_out_images": [p for p, out in zip(images.paths, held_out, strict=True) if out],
    }
    if there := classifier_there(path, provenance, overwrite):
        return there
    templates = store.take(images.rows)
    classifier = fit_classifier(
        templates, images.names, held_out, store.recognizer, head=head, provenance=provenance, progress=progress
    )
    classifier.report["left_out"] = images.left_out
    classifier.save(path)
    return classifier


def classifier_there(path: Path, provenance: dict[str, Any], overwrite: bool) -> Classifier | None:
    """A classifier of the same work, see `tensor_file.Fitted.finished`."""
    return Classifier.finished(path, lambda own: own.report.get("provenance") == provenance, overwrite)


def fit_classifier(
    templates: np.ndarray,
    names: Sequence[str],
    held_out: np.ndarray,
    recognizer: RecognizerId,
    *,
    head: Head | None = None,
    provenance: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Fit a softmax over people to templates, and judge it on those held out.

    A linear head is fitted to templates that are centered and divided by one number, the root of their mean variance
    (recognizers compare by angle or distance, so that no direction is special); both are then folded into the weight.
    Every image weighs alike, so that people with many are expected more often.

    Args:
        templates: (n, dim) any float type, raw. names: n people. held_out: bool (n,).
        recognizer: `Recognizer.describe()`.
        head: what to fit; a linear head if None.
        provenance: JSON to keep with it. progress: as in `softmax.fit_softmax`.

    Returns:
        The classifier. Its report has `classes`, `training_images` and `held_out_images` (counts), `accuracy` (top-1
        on images held out, with its interval by person; None without any), `accuracy_person_weighted`,
        `training_accuracy`, `held_out_loss` and `training_loss` (mean cross-entropy, nats), `chance`, `largest_class`
        (name, and share of the images held out: the accuracy of always naming it), `iterations`, `gradient`,
        `converged` (see `softmax.Solved`) and `provenance`.

    Raises:
        BadInput: shapes that do not match, NaN or infinite templates, templates that are all equal; fewer than two
            people to train on, or one who has images held out only.
        WouldNotFit: as `softmax.fit_softmax`.

    Warns:
        FacedecodeWarning: the fit has not converged.
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
    import torch

    with torch.no_grad():
        logits = classifier.logits(torch.from_numpy(np.asarray(templates, np.float64)))
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes)))
