"""Which parts of a picture its template determines, and which the decoder made up: a map for each template.

For each cell of a coarse grid, σ²(e) is the expected square of (original - reconstruction) over the cell's pixels and
RGB, given the template e (`log_variance`); σ²_prior is the spread of portraits about the mean face in that cell.
Confidence is the share of that spread which is explained, 1 - σ²(e)/σ²_prior, from 0 (the mean face would do as well)
to 1. A small error alone says little: where all portraits are alike, it is small whatever the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.fitted import FittedToPictures
from facedecode.identity import RecognizerId
from facedecode.inversion.log_variance import choose_penalty, fit_log_variance
from facedecode.pictures.align import LOCAL_REGION
from facedecode.progress import Progress, silent
from facedecode.records import Record, has_text
from facedecode.statistics.scores import encode_people
from facedecode.statistics.verification import person_weights
from facedecode.tensor_file import Float32, Kind

GRID = 32
"""Cells along a side of the portrait."""
_LEAST = (0.5 / 255) ** 2  # pixels are rounded to 8 bits: no error is known to be less
_AT_ONCE = 256  # pictures


@dataclass(frozen=True)
class _Report(Record):
    people: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Confidence(FittedToPictures):
    """Expected errors of one decoder's pictures; grids are (S, S), rows from the top.

    weight: (S·S, d), bias: (S·S,) float32: log σ²(e) = weight · e + bias for each cell, row by row.
    average: (S, S) float32, the mean squared error over all templates. prior: (S, S) float32, σ²_prior. People weigh
        alike, however many images they have.
    decoder: `provenance.describe_decoder` of the decoder. recognizer: of its templates.
    report: JSON; see `fit_confidence`.

    Raises BadInput: other shapes, NaN or infinite numbers, variances that are not positive.
    """

    KIND: ClassVar[Kind] = Kind("confidence map", "fit-confidence")

    weight: Float32
    bias: Float32
    average: Float32
    prior: Float32
    decoder: Annotated[dict[str, Any], has_text("kind", "sha256")]

    def __post_init__(self) -> None:
        _ = self.fitted_on  # refuses a malformed record now
        side = len(self.prior) if self.prior.ndim else 0
        dim = self.weight.shape[-1] if self.weight.ndim else 0
        shapes = [x.shape for x in (self.weight, self.bias, self.average, self.prior)]
        if not side or not dim or shapes != [(side**2, dim), (side**2,), (side, side), (side, side)]:
            raise BadInput(f"tensors of shapes {', '.join(map(str, shapes))} make no confidence map: fit it again")
        self.recognizer.require_dim(dim, "a confidence map")
        if not all(np.isfinite(x).all() for x in (self.weight, self.bias, self.average, self.prior)):
            raise BadInput("the confidence map has NaN or infinite numbers: fit it again")
        if not ((self.average > 0).all() and (self.prior > 0).all()):
            raise BadInput("the confidence map has variances that are not positive: fit it again")

    @property
    def grid(self) -> int:
        """S, cells along a side."""
        return len(self.prior)

    @property
    def fitted_on(self) -> list[str]:
        """The people that it was fitted on; it must not be judged on them."""
        return list(_Report.from_json("its report", self.report).people)

    def variances(self, templates: np.ndarray) -> np.ndarray:
        """σ²(e): (n, d) raw templates, any float type → (n, S, S) float64. Raises BadInput for another shape."""
        templates = self.require_templates_of(templates, self.weight.shape[1], np.float64)
        # No error of values in [0, 1] is larger than 1, however strange the template.
        log = np.minimum(templates @ self.weight.T.astype(np.float64) + self.bias, 0)
        return np.exp(log).reshape(len(templates), self.grid, self.grid)

    def apply(self, templates: np.ndarray) -> np.ndarray:
        """Expected RMS errors of pixel values, in [0, 1]: templates as in `variances` → (n, S, S) float32."""
        return np.sqrt(self.variances(templates)).astype(np.float32)

    def explained(self, templates: np.ndarray) -> np.ndarray:
        """The confidence, 1 - σ²(e)/σ²_prior, clipped to [0, 1]: as in `variances` → (n, S, S) float32."""
        return np.clip(1 - self.variances(templates) / self.prior, 0, 1).astype(np.float32)

    @property
    def scale(self) -> float:
        """Where the color scale of all maps ends: a quarter more than the best cell has on average, 0.1, 0.2 … or 1."""
        best = float(np.max(1 - self.average / self.prior))
        return float(np.clip(np.ceil(12.5 * best), 1, 10)) / 10

    def require_decoder(self, decoder: dict[str, Any], recognizer: RecognizerId) -> None:
        """Refuse another decoder, as `provenance.describe_decoder` gives it, or other templates. Raises BadInput."""
        self.require_recognizer(recognizer)
        mine, other = (_show(which) for which in (self.decoder, decoder))
        if mine != other:
            raise BadInput(
                f"{self.label} was fitted on pictures of {mine} and these are of {other}; "
                "fit one for that decoder with 'facedecode fit-confidence'"
            )


load_confidence = Confidence.load


def fit_confidence(
    templates: np.ndarray,
    portraits: np.ndarray,
    pictures: np.ndarray,
    identities: Sequence[str],
    decoder: dict[str, Any],
    recognizer: RecognizerId,
    *,
    grid: int = GRID,
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> Confidence:
    """Fit the expected errors of a decoder to its errors on people.

    All people weigh alike, however many images they have. The caller makes sure that the decoder was not trained on
    them (`confidence_fit`): its errors on training people are too small.

    Args:
        templates: (n, d) float, raw. portraits: (n, P, P, 3) uint8, their originals. pictures: likewise, the decoder's.
            identities: n names, for cross-validation by person.
        decoder: `provenance.describe_decoder`. recognizer: of the templates.
        grid: S, cells along a side; P is a multiple.
        provenance: JSON to keep with the map, such as the store's fingerprint.
        progress: called with (done, total) trial fits.

    Returns the map. Its report has `images`, `people` (their names), `penalty`, `cross_validation` (see
    `log_variance.choose_penalty`), `explained` (share of the prior variance over all cells and in the central region)
    and `provenance`.

    Raises BadInput: fewer than 5 people, shapes that do not match, templates that are not finite or all equal.
    UsageError: a grid that does not divide the pictures.
    """
    templates = np.asarray(templates, np.float64)
    if templates.ndim != 2 or not len(templates) == len(portraits) == len(pictures) == len(identities) > 0:
        raise BadInput(
            f"templates {templates.shape}, {len(portraits)} portraits, {len(pictures)} pictures and {len(identities)} "
            "identities do not match: give one of each"
        )
    people, codes = encode_people(identities)
    weights = person_weights(codes)
    squares = squared_errors(portraits, pictures, grid)
    without = squared_errors(portraits, np.broadcast_to(mean_face(portraits, weights), portraits.shape), grid)
    average, prior = (np.average(x, axis=0, weights=weights) for x in (squares, without))
    center = templates.mean(0)
    # One scale for all dimensions: recognizers compare by angle or distance, so that no direction is special.
    scale = float(np.sqrt(templates.var(0).mean()))
    if not scale > 0:
        raise BadInput("the templates are all equal or not finite: they tell nothing apart")
    z, flat = (templates - center) / scale, squares.reshape(len(squares), -1)
    penalty, tried = choose_penalty(z, flat, identities, progress=progress)
    a, b = fit_log_variance(z, flat, penalty, weights)
    weight = b / scale
    report = {
        "images": len(templates),
        "people": people,
        "penalty": penalty,
        "cross_validation": tried,
        "explained": {
            "all": float(1 - average.mean() / prior.mean()),
            "center": float(1 - central(average).mean() / central(prior).mean()),
        },
        "provenance": provenance or {},
    }
    return Confidence(
        weight=weight.astype(np.float32),
        bias=(a - weight @ center).astype(np.float32),
        average=average.astype(np.float32),
        prior=prior.astype(np.float32),
        decoder=decoder,
        recognizer=recognizer,
        report=report,
    )


def squared_errors(portraits: np.ndarray, pictures: np.ndarray, grid: int = GRID) -> np.ndarray:
    """Mean squared errors of the cells, values in [0, 1]: two (n, P, P, 3) uint8 → (n, S, S) float64, above 0.

    Raises BadInput: shapes that differ. UsageError: S does not divide P.
    """
    if portraits.ndim != 4 or portraits.shape != pictures.shape:
        raise BadInput(f"portraits {portraits.shape} and pictures {pictures.shape} do not match")
    if grid < 1 or portraits.shape[1] % grid:
        raise UsageError(f"{grid} cells do not divide pictures of {portraits.shape[1]} px")
    squares = np.empty((len(portraits), grid, grid))
    for start in range(0, len(portraits), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        error = (portraits[part].astype(np.float32) - pictures[part]) / 255
        squares[part] = _cell_means(error**2, grid)
    return np.maximum(squares, _LEAST)


def mean_face(portraits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of portraits (n, P, P, 3) uint8, weights (n,): (P, P, 3) uint8, rounded."""
    total = np.zeros(portraits.shape[1:])
    for start in range(0, len(portraits), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        total += np.tensordot(weights[part], portraits[part].astype(np.float32), 1)
    return (total / weights.sum()).round().astype(np.uint8)


def central(cells: np.ndarray) -> np.ndarray:
    """The cells of the central facial region, `align.LOCAL_REGION`: (…, S, S) → (…, rows, columns)."""
    x1, y1, x2, y2 = (round(v * cells.shape[-1]) for v in LOCAL_REGION)
    return cells[..., y1:y2, x1:x2]


def _cell_means(values: np.ndarray, grid: int) -> np.ndarray:
    count, side = values.shape[:2]
    return values.reshape(count, grid, side // grid, grid, side // grid, 3).mean((2, 4, 5))


def _show(decoder: dict[str, Any]) -> str:
    sha256 = decoder.get("sha256")
    return f"a decoder {decoder.get('kind')} (weights {sha256[:12] + '…' if sha256 else 'without a hash'})"
