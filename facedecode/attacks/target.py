"""What an attack on images aims at: whose class or template, how near is near enough, and how far each image is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedecode.attacks.goals import ClassGoal, EmbeddingGoal, Goal
from facedecode.classifiers.classifier import Classifier
from facedecode.errors import BadInput, UsageError
from facedecode.extraction.cropping import FaceCropper
from facedecode.files import sha256_file
from facedecode.memory import require_memory_for_pairs
from facedecode.pictures.images import ImageRef
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import mated_non_mated_scores, score_pairs
from facedecode.statistics.verification import thresholds_at_fmr
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import require_extracted


@dataclass(frozen=True)
class Threshold:
    """A threshold of the recognizer's score.

    source: JSON, where it comes from. said: the same for people.
    """

    value: float
    source: dict[str, Any]
    said: str


def choose_threshold(
    recognizer: Recognizer, given: float | None = None, fmr: float | None = None, store: Path | None = None
) -> Threshold:
    """The threshold that is given, or that of an FMR over a store's non-mated pairs, or the one its authors recommend.

    Args:
        given: a score.
        fmr: false match rate, in (0, 1), over all non-mated pairs of `store`.
        store: folder of a store of the same recognizer, as `extract` made it.

    Raises:
        UsageError: both are given, or half of the second, or none where the recognizer's authors recommend none.
        BadInput: the store is another recognizer's or of changed templates, has rows without a person, or too few
            pairs for this FMR.
        WouldNotFit: the scores of all pairs would not fit in memory.
    """
    if given is not None and (fmr is not None or store is not None):
        raise UsageError("--threshold is the score itself; leave it out, or --fmr and --thresholds-from")
    if (fmr is None) != (store is None):
        raise UsageError("--fmr RATE goes with --thresholds-from STORE, whose non-mated pairs set the score; give both")
    if given is not None:
        return Threshold(given, {"by": "given"}, f"{given:g}, as given")
    if store is not None:
        return _at_fmr(recognizer, fmr, Store.open(store))
    recommended = recognizer.spec.recommended_threshold
    if recommended is None:
        raise UsageError(
            f"nobody recommends a threshold for {recognizer.name}'s score ({recognizer.spec.score}): give --threshold "
            "SCORE, or --fmr RATE --thresholds-from STORE"
        )
    return Threshold(
        recommended, {"by": "recommended"}, f"{recommended:g}, which {recognizer.name}'s authors recommend"
    )


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


OBJECTIVES = ("class", "embedding")


@dataclass(frozen=True, eq=False)
class AttackTarget:
    """What is wanted of every image.

    Attributes:
        objective: one of `OBJECTIVES`.
        score: the recognizer's.
        away: from each image's own template (embedding).
        threshold: at which an embedding attack is judged; None for a class.
        classifier: attacked (class), or looked at beside (embedding); None where there is none.
        target_class: number of the wanted class, or of the class that the target image is taken for; None without.
        target_template: (dim,) float32 of the target image; None without.
        target: JSON that says which target.
        said: the target for people, short.
    """

    objective: str
    score: str
    away: bool = False
    threshold: Threshold | None = None
    classifier: Classifier | None = None
    target_class: int | None = None
    target_template: np.ndarray | None = None
    target: dict[str, Any] | None = None
    said: str = "away from itself"

    def goal(self, own: np.ndarray) -> Goal:
        """The goal of images whose own templates are (n, dim) float32, and which are not there already (`margins`).

        Raises UsageError for a threshold that no score reaches.
        """
        if self.objective == "class":
            return ClassGoal(torch.full((len(own),), self.target_class), classes=len(self.classifier))
        targets = own if self.away else self._repeated(len(own))
        return EmbeddingGoal(targets, self.score, self.threshold.value, away=self.away)

    def margins(self, templates: np.ndarray, own: np.ndarray) -> np.ndarray:
        """How far beyond the goal templates are, positive where it is reached: float64 (n,).

        Args:
            templates: (n, dim) float32. own: (n, dim) float32, of the same images before they were attacked.
        """
        if self.objective == "class":
            logits = self.logits(templates)
            wanted = logits[:, self.target_class].copy()
            logits[:, self.target_class] = -np.inf
            return wanted - logits.max(axis=1)
        beyond = score_pairs(templates, own, self.score) if self.away else self.scores(templates)
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
        source = self.classifier.source if self.classifier else None
        return {
            "objective": self.objective,
            "away": self.away,
            "target": self.target,
            "threshold": {"value": self.threshold.value, **self.threshold.source} if self.threshold else None,
            "classifier_sha256": sha256_file(source) if source else None,
        }

    def _repeated(self, count: int) -> np.ndarray:
        return np.repeat(self.target_template[None], count, axis=0)


def choose_objective(objective: str | None, classifier: Path | None, target: str | None, away: bool) -> str:
    """The objective that the options ask for; where they do not say, `class` if there is a classifier.

    Raises:
        UsageError: an unknown one, no target, a target to go away from, or a class without a classifier.
    """
    objective = objective or ("class" if classifier and not away else "embedding")
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective}: use {' or '.join(OBJECTIVES)}")
    if away and target is not None:
        raise UsageError("--away is away from each image's own template; leave out --target, or --away")
    if away and objective == "class":
        raise UsageError("--away goes with --objective embedding; a class needs a --target")
    if not away and target is None:
        raise UsageError("there is no target: give --target IMAGE, a class's name (with --classifier), or --away")
    if objective == "class" and classifier is None:
        raise UsageError(
            "--objective class attacks a softmax: give --classifier FILE, made by 'train --kind classifier'"
        )
    return objective


def find_aim(
    objective: str,
    target: str | None,
    cropper: FaceCropper,
    *,
    classifier: Classifier | None = None,
    threshold: Threshold | None = None,
) -> AttackTarget:
    """Aim at a class by its name, at an image, or (without a target) away from each image's own template.

    Args:
        objective: one of `OBJECTIVES`; see `choose_objective`.
        target: a class's name comes first; a file of the same name is given as ./NAME.
        cropper: of the recognizer to attack.
        threshold: of an embedding objective.

    Raises:
        UsageError: no class of that name (names like it are listed) and no file either.
        BadInput: the image is missing, is none, or shows no face.
    """
    common = {"score": cropper.recognizer.spec.score, "threshold": threshold, "classifier": classifier}
    if target is None:
        return AttackTarget(objective, away=True, **common)
    if objective == "class":
        try:
            number = classifier.index(target)
        except UsageError as error:
            if not Path(target).exists():
                raise UsageError(f"--target {target}: no image has that name, and {error}") from None
        else:
            return AttackTarget(objective, target_class=number, target={"class": target}, said=target, **common)
    elif classifier is not None and target in classifier.names and not Path(target).exists():
        raise UsageError(f"--target {target}: a class has no template to aim at; give an image, or --objective class")
    path = Path(target)
    template = _template_of(path, cropper)
    about, number, said = {"image": path.name, "sha256": sha256_file(path)}, None, path.name
    if classifier is not None:
        number = int(classifier.predict(template[None])[0])
        about["class"] = classifier.names[number]
        said = f"{path.name}, taken for {classifier.names[number]}"
    return AttackTarget(objective, target_class=number, target_template=template, target=about, said=said, **common)


def refuse_target_alone(target: str | None, refs: list[ImageRef]) -> None:
    """Refuse a target image that is the one image to attack. Raises UsageError."""
    if target is None or len(refs) != 1 or not Path(target).is_file():
        return
    try:
        same = Path(target).samefile(refs[0].path) or sha256_file(target) == sha256_file(refs[0].path)
    except OSError:
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
