"""Whose class or template an attack on images aims at, how near is near enough, and how far each image is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedecode.attacks.base import victim_of
from facedecode.attacks.goals import ClassGoal, EmbeddingGoal, Goal
from facedecode.attacks.jobs import Objective, TargetOptions
from facedecode.classifiers.classifier import Classifier, load_classifier
from facedecode.errors import BadInput, UsageError
from facedecode.extraction.cropping import FaceCropper
from facedecode.files import sha256_file
from facedecode.identity import impossible_threshold
from facedecode.memory import require_memory_for_pairs
from facedecode.pictures.finding import ImageRef
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import mated_non_mated_scores, score_pairs
from facedecode.statistics.verification import thresholds_at_fmr
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import require_extracted


@dataclass(frozen=True)
class Threshold:
    """A threshold of the recognizer's score. source: JSON, where it comes from. label: the same for people."""

    value: float
    source: dict[str, Any]
    label: str


def choose_threshold(recognizer: Recognizer, options: TargetOptions) -> Threshold:
    """The threshold that the options give, or that of an FMR over a store's pairs, or the one its authors recommend.

    Raises:
        UsageError: the options give none, and the recognizer's authors recommend none; or one that no score can be.
        BadInput: the store is another recognizer's or of changed templates, has rows without a person, or too few
            pairs for this FMR.
        WouldNotFit: the scores of all pairs would not fit in memory.
    """
    if options.threshold is not None:
        if fault := impossible_threshold(options.threshold, recognizer.spec.score):
            raise UsageError(f"--{fault}")
        return Threshold(options.threshold, {"by": "given"}, f"{options.threshold:g}, as given")
    if options.fmr is not None and options.thresholds_from is not None:
        return _at_fmr(recognizer, options.fmr, Store.open(options.thresholds_from))
    spec = recognizer.spec
    if spec.recommended_threshold is None:
        raise UsageError(
            f"nobody recommends a threshold for {recognizer.name}'s score ({spec.score}): give --threshold SCORE, or "
            "--fmr RATE --thresholds-from STORE"
        )
    label = f"{spec.recommended_threshold:g}, which {recognizer.name}'s authors recommend"
    return Threshold(spec.recommended_threshold, {"by": "recommended"}, label)


def _at_fmr(recognizer: Recognizer, fmr: float, store: Store) -> Threshold:
    require_same_recognizer(
        store.recognizer, recognizer.describe(), f"the attack, whose threshold {store.folder} sets,"
    )
    require_extracted(store)
    require_memory_for_pairs(len(store))
    try:
        pairs = mated_non_mated_scores(store.templates(), store.identities(), recognizer.spec.score)
        (value,) = thresholds_at_fmr(pairs.non_mated, [fmr])
    except BadInput as error:
        raise BadInput(f"{store.folder}: {error}") from None
    count = len(pairs.non_mated)
    source = {"by": "fmr", "fmr": fmr, "store": store.fingerprint, "non_mated": count}
    return Threshold(value, source, f"{value:.4f}, FMR {fmr:g} over {count:,} non-mated pairs of {store.folder}")


@dataclass(frozen=True, eq=False)
class AttackTarget:
    """What is wanted of every image."""

    objective: Objective
    score: str  # the recognizer's
    away: bool = False  # from each image's own template
    threshold: Threshold | None = None  # at which an attack on templates is judged
    classifier: Classifier | None = None  # attacked, or looked at beside the templates
    class_index: int | None = None  # of the wanted class, or of the class that the target image is taken for
    template: np.ndarray | None = None  # (dim,) float32 of the target image
    source: dict[str, Any] | None = None  # JSON that says which target
    label: str = "away from itself"  # the target for people

    def goal(self, originals: np.ndarray) -> Goal:
        """The goal of images whose own templates are (n, dim) float32, and which are not there already (`margins`).

        Raises UsageError for a threshold that no score reaches.
        """
        if self.objective == "class":
            return ClassGoal(torch.full((len(originals),), self.class_index), classes=len(self.classifier))
        targets = originals if self.away else self._repeated(len(originals))
        return EmbeddingGoal(targets, self.score, self.threshold.value, away=self.away)

    def margins(self, templates: np.ndarray, originals: np.ndarray) -> np.ndarray:
        """How far beyond the goal templates (n, dim) float32 are, positive where it is reached: float64 (n,).

        originals: (n, dim) float32, of the same images before they were attacked.
        """
        if self.objective == "class":
            logits = self.logits(templates)
            target = logits[:, self.class_index].copy()
            logits[:, self.class_index] = -np.inf
            return target - logits.max(axis=1)
        beyond = score_pairs(templates, originals, self.score) if self.away else self.scores(templates)
        beyond = beyond.astype(np.float64) - self.threshold.value
        return -beyond if self.away else beyond

    def scores(self, templates: np.ndarray, kind: str | None = None) -> np.ndarray:
        """Scores (n,) float32 of templates (n, dim) against the target's, by the recognizer's score or another."""
        return score_pairs(templates, self._repeated(len(templates)), kind or self.score)

    def logits(self, templates: np.ndarray) -> np.ndarray:
        """The classifier's logits of templates (n, dim): float64 (n, classes)."""
        with torch.no_grad():
            return self.classifier.logits(torch.from_numpy(templates.astype(np.float64))).numpy()

    def probabilities(self, templates: np.ndarray) -> np.ndarray:
        """The classifier's softmax of templates (n, dim): float64 (n, classes)."""
        logits = self.logits(templates)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def describe(self) -> dict[str, Any]:
        """JSON for the manifest of the attacked templates."""
        threshold = self.threshold
        return {
            "objective": self.objective,
            "away": self.away,
            "target": self.source,
            "threshold": {"value": threshold.value, **threshold.source} if threshold else None,
            "classifier_sha256": self.classifier.source_sha256 if self.classifier else None,
        }

    def _repeated(self, count: int) -> np.ndarray:
        return np.repeat(self.template[None], count, axis=0)


def find_target(options: TargetOptions, cropper: FaceCropper) -> AttackTarget:
    """A class by its name, an image's template, or (without a target) away from each image's own template.

    A class's name comes first; a file of the same name is given as ./NAME. cropper: of the recognizer to attack.

    Raises UsageError: no class of that name (names like it are listed) and no file either; as `victim_of`. BadInput:
    the image is missing, is none, or shows no face; a classifier of another recognizer; as `choose_threshold`.
    """
    recognizer, objective, name = cropper.recognizer, options.resolved, options.target
    victim_of(recognizer)
    classifier = load_classifier(options.classifier) if options.classifier else None
    if classifier is not None:
        classifier.require_recognizer(recognizer.describe())
    threshold = choose_threshold(recognizer, options) if objective == "embedding" else None
    target = AttackTarget(objective, recognizer.spec.score, options.away, threshold, classifier)
    if name is None:
        return target
    if classifier is not None and objective == "class":
        try:
            return replace(target, class_index=classifier.index(name), source={"class": name}, label=name)
        except UsageError as error:
            if not Path(name).exists():
                raise UsageError(f"--target {name}: no image has that name, and {error}") from None
    elif classifier is not None and name in classifier.names and not Path(name).exists():
        raise UsageError(f"--target {name}: a class has no template to aim at; give an image, or --objective class")
    path = Path(name)
    template = _template_of(path, cropper)
    source, label, index = {"image": path.name, "sha256": sha256_file(path)}, path.name, None
    if classifier is not None:
        index = int(classifier.predict(template[None])[0])
        source["class"] = classifier.names[index]
        label = f"{path.name}, taken for {classifier.names[index]}"
    return replace(target, class_index=index, template=template, source=source, label=label)


def refuse_target_alone(target: str | None, refs: list[ImageRef]) -> None:
    """Refuse a target image that is the one image to attack. Raises UsageError."""
    if target is None or len(refs) != 1 or not Path(target).is_file():
        return
    try:
        same = Path(target).samefile(refs[0].path) or sha256_file(target) == sha256_file(refs[0].path)
    except (OSError, BadInput):
        return  # a link to nowhere becomes a failure of its own
    if same:
        raise UsageError(f"--target {target}: is the image to attack itself; choose another target")


def _template_of(path: Path, cropper: FaceCropper) -> np.ndarray:
    """Template (dim,) float32 of the face that an image is of. Raises BadInput."""
    if not path.exists():
        raise BadInput(f"--target {path}: no such file; give an image, or a class's name with --classifier")
    (item,) = cropper.chunk([ImageRef(path, str(path), None)])
    if item.failure:
        raise BadInput(f"--target {path}: {item.failure['reason']}; give an image that shows a face")
    return item.template
