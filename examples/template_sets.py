"""Two sets of templates of the same images, compared on the same pairs.

`BareTemplates` are templates with their paths in one `.npz` file, read like a store as far as
`evaluation.trials.PairsFile` needs one: for templates that another program's alignment made.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facedecode.annotations.pairs import Pairs
from facedecode.errors import BadInput
from facedecode.files import sha256_file, write_bytes
from facedecode.identity import RecognizerId
from facedecode.known_pictures import Known
from facedecode.statistics.bootstrap import REPETITIONS, Estimate
from facedecode.statistics.intervals import LEVEL
from facedecode.statistics.pair_rates import resampled_accuracy
from facedecode.statistics.scores import encode_people, score_rows
from facedecode.statistics.verification import FoldSplit
from facedecode.store import Processing, Templates


class BareTemplates:
    """Templates of images, and the images that gave none.

    name: how they were made. folder: the file. recognizer: name, weights_sha256, score.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        recognizer: RecognizerId,
        paths: list[str],
        templates: np.ndarray,
        failed: list[str],
    ) -> None:
        """paths: of the templates, float32 (n, dim); failed: paths of the other images."""
        if len(paths) != len(templates):
            raise BadInput(f"{folder}: {len(templates)} templates for {len(paths)} paths")
        self.folder, self.name, self.recognizer = folder, name, recognizer
        self.manifest, self.score = Processing(), recognizer.score
        self._paths, self._templates, self._failed = paths, templates, failed

    @property
    def known(self) -> Known:
        """Nobody recorded on what other packages' recognizers were trained."""
        return Known()

    def templates(self) -> np.ndarray:
        """float32 (n, dim)."""
        return self._templates

    def paths(self) -> list[str | None]:
        """The image of each template."""
        return list(self._paths)

    def failures(self) -> list[dict[str, str]]:
        """{path, stage, reason} of each image without a template."""
        return [{"path": path, "stage": "detect", "reason": "no face found"} for path in self._failed]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return sha256_file(self.folder)

    def save(self) -> None:
        """Write the file, atomically. OutputError where that is impossible."""
        held = io.BytesIO()
        np.savez(
            held,
            about=json.dumps({"name": self.name, "recognizer": self.recognizer.as_json()}, sort_keys=True),
            paths=np.array(self._paths, dtype=np.str_),
            failed=np.array(self._failed, dtype=np.str_),
            templates=np.ascontiguousarray(self._templates, dtype=np.float32),
        )
        write_bytes(self.folder, held.getvalue())

    @classmethod
    def load(cls, path: Path) -> BareTemplates:
        """Read what `save` wrote. BadInput for another file, or templates that are not finite."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                paths, failed = file["paths"].tolist(), file["failed"].tolist()
                templates = file["templates"]
            recognizer = RecognizerId.from_json(path, about["recognizer"])
            made = cls(path, about["name"], recognizer, paths, templates, failed)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise BadInput(f"{path}: not templates with their paths ({type(error).__name__}: {error})") from None
        if templates.ndim != 2 or templates.dtype != np.float32 or not np.isfinite(templates).all():
            raise BadInput(f"{path}: templates are finite float32 (n, dim), not {templates.dtype} {templates.shape}")
        return made


@dataclass(frozen=True)
class AccuracyDifference:
    """Accuracy over folds of one set less another's, with paired intervals by person.

    all_pairs: a pair with an image without a template is a non-match. common_pairs: only pairs whose images have
    a template in both sets. n is the number of pairs.
    """

    all_pairs: Estimate
    common_pairs: Estimate

    def metrics(self) -> dict:
        """JSON."""
        return {"all_pairs": self.all_pairs.as_json(), "common_pairs": self.common_pairs.as_json()}


def accuracy_difference(
    one: Templates,
    other: Templates,
    pairs: Pairs,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> AccuracyDifference:
    """`verification.FoldSplit.accuracy` of `one` less that of `other`: same pairs, folds and replicates.

    Each has its own thresholds, chosen anew in each replicate.
    """
    scores = []
    for templates in (one, other):
        left, right = pairs.rows(templates.paths())
        scores.append(score_rows(templates.templates(), left, right, templates.score))
    names, codes = encode_people(pairs.left_people + pairs.right_people)
    left, right = np.split(codes, 2)
    options = {"people": len(names), "repetitions": repetitions, "seed": seed}

    def difference(keep: np.ndarray) -> Estimate:
        if not keep.any():
            raise BadInput("the two sets of templates have no pair in common")
        mated, a, b = pairs.mated[keep], left[keep], right[keep]
        splits = [FoldSplit(values[keep], mated, pairs.fold[keep]) for values in scores]
        accuracies = [resampled_accuracy(split, a, b, **options) for split in splits]
        return accuracies[0].less(accuracies[1], level)

    both = np.isfinite(scores[0]) & np.isfinite(scores[1])
    return AccuracyDifference(difference(np.ones(len(pairs), bool)), difference(both))
