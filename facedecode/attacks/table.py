"""What an attack did to each image, as rows of `attacks.csv`, and what they come to."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.attacks.target import AttackTarget
from facedecode.errors import BadInput
from facedecode.escaping import from_csv_cell
from facedecode.files import csv_text, read_text
from facedecode.pictures.metrics import ssim
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.scores import score_pairs

Row = dict[str, Any]
# An empty cell: it does not apply, or the image was not attacked (`already`).
COLUMNS = (
    *("path", "picture", "identity", "outcome", "success_memory", "success_saved"),
    *("l2", "linf", "ssim", "gradients"),
    *("class_before", "probability_before", "class_after", "probability_after"),
    *("target_probability_before", "target_probability_after"),
    *("score_before", "score_after", "cosine_before", "cosine_after", "score_own", "known"),
)
_TEXT = ("path", "picture", "identity", "outcome", "class_before", "class_after", "known")
_FLAGS = ("success_memory", "success_saved")
_SMALLEST_FOR_SSIM = 11  # px


def measure(
    target: AttackTarget, crops: np.ndarray, saved: np.ndarray, originals: np.ndarray, templates: np.ndarray
) -> list[Row]:
    """The measured columns of n images.

    crops: (n, S, S, 3) uint8, before the attack. saved: the same after it, as read from the files.
    originals: (n, dim) float32, templates of `crops`. templates: those of `saved`.
    """
    change = (saved.astype(np.float64) - crops) / 255
    columns: dict[str, np.ndarray] = {
        "l2": np.sqrt((change**2).sum(axis=(1, 2, 3))),
        "linf": np.abs(change).max(axis=(1, 2, 3)),
        "score_own": score_pairs(templates, originals, target.score),
    }
    if crops.shape[1] >= _SMALLEST_FOR_SSIM:
        columns["ssim"] = ssim(saved, crops)
    for when, these in (("before", originals), ("after", templates)):
        if target.template is not None:
            columns[f"score_{when}"] = target.scores(these)
            columns[f"cosine_{when}"] = target.scores(these, "cosine")
        if target.classifier is not None:
            shares = target.probabilities(these)
            top = shares.argmax(axis=1)
            columns[f"class_{when}"] = np.array(target.classifier.names)[top]
            columns[f"probability_{when}"] = shares[np.arange(len(these)), top]
            if target.class_index is not None:
                columns[f"target_probability_{when}"] = shares[:, target.class_index]
    return [{name: values[i].item() for name, values in columns.items()} for i in range(len(crops))]


def table_text(rows: list[Row]) -> str:
    """The rows as CSV with a head; numbers to six digits, so that reading them again gives what was written."""
    return csv_text(COLUMNS, ([_cell(row.get(name)) for name in COLUMNS] for row in rows))


def read_table(path: Path) -> list[Row]:
    """The rows of `attacks.csv`, None in empty cells. Raises BadInput."""
    if not path.exists():
        raise BadInput(f"{path}: no such file, and the attack had written it; use --overwrite")
    return parse_table(read_text(path), path)


def parse_table(text: str, path: Path) -> list[Row]:
    """Text that `table_text` wrote; `path` is for the message. Raises BadInput."""
    reader = csv.DictReader(io.StringIO(text))
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError("other columns")
        lines = list(reader)
        if any(None in line or None in line.values() for line in lines):
            raise ValueError("a line of another length")
        return [{name: _value(name, row[name]) for name in COLUMNS} for row in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: not the table of an attack ({error}); use --overwrite") from error


def summarize(rows: list[Row]) -> dict[str, Any]:
    """What the rows come to, JSON; intervals are by person, or by image where a person is not known.

    Rates are over the images that were attacked, those that were there already left out. Sizes of the noise are of the
    successes on the saved file.
    """
    attempted = [row for row in rows if row["outcome"] != "already"]
    won = [row for row in attempted if row["success_saved"]]
    people = len({_person(row) for row in attempted})
    totals: dict[str, Any] = {"attempted": len(attempted), "already": len(rows) - len(attempted), "people": people}
    totals["success"] = _mean(attempted, "success_memory", bool)
    totals["success_saved"] = _mean(attempted, "success_saved", bool)
    for name in ("l2", "linf"):
        totals[name] = _mean(won, name)
        totals[f"{name}_median"] = float(np.median([row[name] for row in won])) if won else None
    totals["gradients"] = _mean(attempted, "gradients")
    totals["known"] = dict(Counter(what for row in rows for what in (row.get("known") or "").split()))
    return totals


def _mean(rows: list[Row], name: str, kind: type = float) -> dict[str, Any]:
    if not rows:
        return {"value": None, "low": None, "high": None, "n": 0}
    return mean_interval(np.array([row[name] for row in rows], kind), [_person(row) for row in rows]).as_json()


def _person(row: Row) -> str:
    return row["identity"] or row["path"]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(name: str, cell: str) -> Any:
    if not cell:
        return None
    if name in _TEXT:
        return from_csv_cell(cell)
    if name in _FLAGS:
        return {"true": True, "false": False}[cell]
    return int(cell) if name == "gradients" else float(cell)
