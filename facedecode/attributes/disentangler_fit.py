"""A disentangler from a store and labels: both classes' moments, the maps between them, and the judgment on others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.annotations.labels import ImageLabels
from facedecode.annotations.protocols import held_out_people, select_people
from facedecode.attributes.disentangler import Disentangler
from facedecode.attributes.gaussians import Gaussians
from facedecode.attributes.probe import PROBES, out_of_fold
from facedecode.attributes.reading import Reading, read
from facedecode.attributes.target import Target
from facedecode.errors import BadInput, UsageError
from facedecode.identity import RecognizerId
from facedecode.progress import Progress, silent
from facedecode.store import Store
from facedecode.store.processing import require_extracted

SHRINKAGE = 0.01
FEWEST_PEOPLE = 10  # of a class, to fit on
_FEWEST_JUDGES = 20  # people of a class held out, for probes to be trained on them
_FOLDS = 5
_NO_SPREAD = 1e-12  # of the mean square: what rounding leaves where all are equal
_HELD_OUT = 0.1


def fit_store_disentangler(
    store: Store,
    path: Path,
    labels: ImageLabels,
    *,
    people: Path | None = None,
    exclude: tuple[str, ...] = (),
    overwrite: bool = False,
    progress: Progress = silent,
) -> Disentangler:
    """Fit a disentangler to the labelled images of a store, and write it to `path`.

    A tenth of the people (see `protocols.held_out_people`) is kept out of the fit, and judges it. A disentangler that
    is there and was fitted to the same with the same settings is loaded instead.

    Args:
        labels: of the store's images, of two classes.
        people: file with the people to take; all of the store if None. exclude: people to leave out.
        progress: called with (probes done, all probes).

    Returns the disentangler. Its report is that of `fit_disentangler`, with `unlabelled` (images of these people that
    were left out) and `provenance`: the store's fingerprint, the labels' file, settings, and all `people`, fitted on or
    held out.

    Raises OutputError: another disentangler, or a folder, is at `path`, and `overwrite` is off. BadInput: the templates
    are not as 'extract' made them; one label or more than two; fewer than ten people of a class; or as `select_people`.
    """
    require_extracted(store)
    classes = labels.classes()
    identities = store.identities()
    named = [i for i in select_people(identities, people, exclude) if identities[i] is not None]
    rows = np.array([i for i in named if labels.values[i] is not None], np.int64)
    names = [identities[i] for i in rows]
    provenance = {
        "store": store.fingerprint,
        "labels": labels.file,
        "attribute": labels.column,
        "shrinkage": SHRINKAGE,
        "people": sorted(set(names)),
    }
    if fitted := Disentangler.finished(path, lambda other: other.report.get("provenance") == provenance, overwrite):
        return fitted
    made = fit_disentangler(
        store.take(rows),
        [labels.values[i] for i in rows],
        names,
        store.recognizer,
        attribute=labels.column,
        classes=classes,
        provenance=provenance,
        progress=progress,
    )
    made.report["unlabelled"] = len(named) - len(rows)
    made.remember(store.pictures(rows))
    made.save(path)
    return made


def fit_disentangler(
    templates: np.ndarray,
    labels: Sequence[str],
    names: Sequence[str],
    recognizer: RecognizerId,
    *,
    attribute: str,
    classes: tuple[str, str],
    shrinkage: float = SHRINKAGE,
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Disentangler:
    """Fit a disentangler to templates (n, dim) of known people, every person counting alike.

    Args:
        labels: n, of `classes`. names: n people. recognizer: `Recognizer.describe()`.
        shrinkage: share of each covariance that is replaced by a multiple of the identity of the same trace (Friedman
            1989): few people for many numbers leave directions in which a class does not vary at all.
        provenance: JSON to keep with it. progress: called with (probes done, all probes).

    Returns the disentangler. Its report has `training_images`, `training_people` (by class), `held_out_images`,
    `held_out_people` (by class), `told` (balanced accuracy of the class told, of people held out, by person, with its
    interval; None without people of both classes), `probes` (probe → the same of probes trained anew on templates,
    `template`, and on identity parts, `identity`, of people held out, by folds; None where they are too few) and
    `provenance`.

    Raises BadInput: fewer than ten people of a class to fit on, templates that are all equal, or NaN among them.
    UsageError: `shrinkage` out of range.
    """
    if not 0 < shrinkage < 1:
        raise UsageError(f"a shrinkage of {shrinkage}: give more than 0 and less than 1")
    x = np.asarray(templates, np.float64)
    if not np.isfinite(x).all():
        raise BadInput("the templates have NaN or infinite numbers: extract them again")
    held_out = held_out_people(names, names, _HELD_OUT)
    values, owners = np.array([classes.index(label) for label in labels], np.int64), np.asarray(names, np.str_)
    fitted_on, judges = (_people(values[rows], owners[rows], classes) for rows in (~held_out, held_out))
    for name, count in fitted_on.items():
        if count < FEWEST_PEOPLE:
            raise BadInput(
                f"{attribute}: {count} people of class {name!r} to fit on (others are held out), and {FEWEST_PEOPLE} "
                "are needed; take more people, or label more images"
            )
    target = _target(values[~held_out], owners[~held_out], classes, attribute)
    measured = Gaussians.fit(x[~held_out], target.values, target.weights)
    if not (measured.spread > _NO_SPREAD * (measured.means**2).mean(1)).all():
        raise BadInput(f"{attribute}: the templates of a class are all equal, and nothing can be told of them")
    shrunk = measured.shrunk(shrinkage)
    to_common = barycenter_maps(shrunk.covariances)
    fields = {
        "attribute": attribute,
        "classes": classes,
        "means": shrunk.means,
        "covariances": shrunk.covariances,
        "to_common": to_common,
        "from_common": np.linalg.inv(to_common),
        "common_mean": shrunk.means.mean(0),
        "recognizer": recognizer,
    }
    identity, _ = Disentangler(**fields, class_means=shrunk.means, axes=np.eye(x.shape[1])).split(x[~held_out])
    identities = Gaussians.fit(identity.astype(np.float64), target.values, target.weights)
    widest_last = np.linalg.eigh(identities.covariances.mean(0))[1]
    made = Disentangler(**fields, class_means=identities.means, axes=widest_last[:, ::-1].copy())
    made.report.update(
        {
            "training_images": int((~held_out).sum()),
            "training_people": fitted_on,
            "held_out_images": int(held_out.sum()),
            "held_out_people": judges,
            **_judge(made, x[held_out], values[held_out], owners[held_out], progress),
            "provenance": provenance or {},
        }
    )
    return made


def barycenter_maps(covariances: np.ndarray) -> np.ndarray:
    """Optimal transport of two centered normal distributions to their barycenter: (2, d, d) → symmetric (2, d, d).

    Of two, it lies halfway along the way from one to the other (McCann 1997), which is linear (Olkin and Pukelsheim
    1982): T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2), and back by its inverse.
    """
    root = _power(covariances[0], 0.5)
    back = _power(covariances[0], -0.5)
    across = back @ _power(root @ covariances[1] @ root, 0.5) @ back
    halfway = (np.eye(len(root)) + np.stack([across, np.linalg.inv(across)])) / 2
    return (halfway + halfway.transpose(0, 2, 1)) / 2


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values**exponent) @ vectors.T


def _judge(
    made: Disentangler, x: np.ndarray, values: np.ndarray, names: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """The report's figures of people held out."""
    fewest = min(_people(values, names, made.classes).values())
    if fewest == 0:
        return {"told": None, "probes": None}
    target = _target(values, names, made.classes, made.attribute)
    figures: dict[str, Any] = {"told": read(made.posterior(x), target).estimate().as_json(), "probes": None}
    if fewest < _FEWEST_JUDGES:
        return figures
    fold = target.folds(_FOLDS)
    inputs = {"template": x, "identity": made.split(x)[0]}
    probes: dict[str, dict[str, Any]] = {}
    progress(0, len(PROBES) * len(inputs))
    for name, fit in PROBES.items():
        probes[name] = {}
        for part, vectors in inputs.items():
            try:
                answers = out_of_fold(vectors, target, fit, fold)
            except BadInput:  # a fold that left a probe nobody of a class
                return figures
            probes[name][part] = Reading.of(answers, target).estimate().as_json()
            progress(sum(map(len, probes.values())), len(PROBES) * len(inputs))
    return figures | {"probes": probes}


def _people(values: np.ndarray, names: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Class → how many people have an image of it."""
    return {name: len(set(names[values == number])) for number, name in enumerate(classes)}


def _target(values: np.ndarray, names: np.ndarray, classes: tuple[str, str], attribute: str) -> Target:
    return Target(values, np.unique(names, return_inverse=True)[1], classes, attribute)
