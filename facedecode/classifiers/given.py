"""A softmax layer that a user brings, as a classifier: such as VGGFace2's, of 8,631 people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedecode.classifiers.classifier import Classifier
from facedecode.classifiers.fit import accuracies, classifier_there
from facedecode.errors import BadInput
from facedecode.provenance import describe_file
from facedecode.store import Store
from facedecode.store.processing import require_extracted


def import_store_classifier(
    store: Store, weights: Path, names: Path, path: Path, *, scale: float | None = None, overwrite: bool = False
) -> Classifier:
    """Make a classifier of the layer in `weights` for the recognizer of `store`, and write it to `path`.

    The store says which recognizer the layer stands on, and judges it where it has images of its classes. A classifier
    that is there and was made of the same files is loaded instead.

    Args:
        weights: a safetensors file with `weight` (classes, dim) and, optionally, `bias` (classes,), of any float type.
        names: a text file with a class on each line, in the order of the weight's rows.
        scale: makes it a cosine head of that scale; a linear head if None.

    Returns:
        The classifier. Its report has `classes`, `provenance`, and where the store has images of people among the
        classes `images` (their count), `accuracy` and `accuracy_person_weighted` on them, else None.

    Raises:
        OutputError: another classifier, or a folder, is at `path`, and `overwrite` is off.
        BadInput: the files cannot be read, or do not fit each other or the recognizer; the store's templates are
            normalized, protected, mapped or of perturbed faces.
    """
    require_extracted(store)
    weight, bias = _read_layer(weights)
    classes = read_names(names)
    if len(classes) != len(weight):
        raise BadInput(f"{names}: {len(classes)} names, and {weights} has {len(weight)} classes; name each, in order")
    provenance: dict[str, Any] = {
        "weights": describe_file(weights),
        "names": describe_file(names),
        "scale": scale,
        "judged_on": store.fingerprint,
    }
    if there := classifier_there(path, provenance, overwrite):
        return there
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


def read_names(path: Path) -> list[str]:
    """The lines of a UTF-8 text file without the space around them; an empty one at the end is none.

    Raises:
        BadInput: naming the file: unreadable, an empty line, a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise BadInput(f"{path}: cannot be read ({reason}); give a text file with a class on each line") from None
    names, seen = [line.strip() for line in lines], set()
    for number, name in enumerate(names, 1):
        if not name:
            raise BadInput(f"{path}, line {number}: empty; name each class, in the order of the weight's rows")
        if name in seen:
            raise BadInput(f"{path}, line {number}: {name!r} is there already; name each class once")
        seen.add(name)
    return names


def _read_layer(path: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`weight` and `bias`, float32."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a safetensors file with 'weight' and 'bias'")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in ("weight", "bias") if name in set(file.keys())}
            others = sorted(file.keys())[:5]
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(f"{path}: not a readable safetensors file ({reason})") from error
    if "weight" not in found:
        raise BadInput(f"{path}: has no tensor 'weight' (it has {', '.join(others) or 'none'}); rename the layer's")
    weight, bias = found["weight"], found.get("bias")
    if weight.ndim != 2 or not weight.is_floating_point() or (bias is not None and not bias.is_floating_point()):
        raise BadInput(f"{path}: 'weight' is {weight.dtype} {tuple(weight.shape)}, not floats (classes, dim)")
    return weight.float(), None if bias is None else bias.float()
