"""The score at which an attack on templates is judged, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedecode.errors import BadInput, UsageError
from facedecode.memory import require_memory_for_pairs
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import mated_non_mated_scores
from facedecode.statistics.verification import thresholds_at_far
from facedecode.store import Store, require_same_recognizer
from facedecode.store.state import require_extracted


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
        (value,) = thresholds_at_far(pairs.non_mated, [fmr])
    except BadInput as error:
        raise BadInput(f"{store.folder}: {error}") from None
    count = len(pairs.non_mated)
    source = {"by": "fmr", "fmr": fmr, "store": store.fingerprint, "non_mated": count}
    return Threshold(value, source, f"{value:.4f}, FMR {fmr:g} over {count:,} non-mated pairs of {store.folder}")
