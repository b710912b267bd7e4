"""Scores of templates: of given pairs, of every pair of two sets, and of all mated and non-mated pairs.

Scores: higher means more similar. An image without a template has the score -inf with everything.
`negative-hamming` is for templates of +1 and -1: minus the share of the numbers that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.errors import BadInput, UsageError

KINDS = ("cosine", "negative-euclidean", "negative-hamming")
_BLOCK_SCORES = 2**21  # scores computed at once: 16 MB in float64


def score_pairs(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """Score row i of `a` against row i of `b`: both (n, dim), finite; float32 (n,), computed in float64."""
    a, b = _templates(a, kind), _templates(b, kind)
    if a.shape != b.shape:
        raise BadInput(f"templates of shapes {a.shape} and {b.shape} do not pair: use one recognizer.")
    scores = np.empty(len(a), dtype=np.float32)
    step = max(1, _BLOCK_SCORES // max(1, a.shape[1]))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        x, y = a[rows].astype(np.float64), b[rows].astype(np.float64)
        if kind == "cosine":
            norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
            scores[rows] = np.clip(np.einsum("nd,nd->n", x, y) / norms, -1.0, 1.0)
        elif kind == "negative-hamming":
            scores[rows] = _negative_hamming(np.einsum("nd,nd->n", x, y), x.shape[1])
        else:
            scores[rows] = -np.linalg.norm(x - y, axis=1)
    return scores


def score_rows(templates: np.ndarray, left: np.ndarray, right: np.ndarray, kind: str) -> np.ndarray:
    """Score pairs given by row numbers (n,); a row of -1 (no template) scores -inf. float32 (n,).

    Pairs with no -1 are scored as `score_pairs` does; templates that no pair names are not looked at.
    """
    left, right = np.asarray(left), np.asarray(right)
    scores = np.full(len(left), -np.inf, dtype=np.float32)
    templates, places = np.asarray(templates), np.flatnonzero((left >= 0) & (right >= 0))
    step = max(1, _BLOCK_SCORES // max(1, templates.shape[-1]))
    for start in range(0, len(places), step):
        part = places[start : start + step]
        scores[part] = score_pairs(templates[left[part]], templates[right[part]], kind)
    return scores


def score_matrix(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """Score every row of `a` (n, dim) against every row of `b` (m, dim): float32 (n, m).

    The distance is expanded as |a|² + |b|² - 2ab in float64, so that it stays good to about 1e-8 of the
    templates' norm even for equal ones; the cosine is a float32 product of rows normalized in float64 (within
    3e-7 of `score_pairs`). Memory: 4 bytes a score, and 12 more for the distance.
    """
    a, b = _prepared(a, kind), _prepared(b, kind)
    _same_size(a, b)
    return _matrix(a, b, kind)


@dataclass(frozen=True)
class AllPairs:
    """Scores of all pairs of a set (i < j), or of all pairs (row i of a gallery, row j of the probes).

    mated: float32 (m,), with its rows `mated_left` and `mated_right`, int64 (m,).
    non_mated: float32 (n,), ordered by row i, then by j; `non_mated_rows` gives the rows of some of them.
    people: the names, sorted; left_codes, right_codes: int64, each row's index into `people`.
    square: True for the pairs of one set.
    """

    mated: np.ndarray
    mated_left: np.ndarray
    mated_right: np.ndarray
    non_mated: np.ndarray
    people: list[str]
    left_codes: np.ndarray
    right_codes: np.ndarray
    square: bool

    @property
    def mated_people(self) -> np.ndarray:
        """int64 (m,): the person of each mated pair, as an index into `people`."""
        return self.left_codes[self.mated_left]

    def non_mated_rows(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows (i, j), two int64 (k,), of the non-mated scores at `positions` (k,).

        They are worked out, not stored: two row numbers would take more memory than the score.
        """
        counts = _non_mated_in_rows(self.left_codes, self.right_codes, self.square)
        starts = np.concatenate([[0], np.cumsum(counts)])
        left = np.searchsorted(starts, positions, side="right") - 1
        right = np.empty_like(left)
        order = np.argsort(left, kind="stable")
        rows, first = np.unique(left[order], return_index=True)
        for row, members in zip(rows, np.split(order, first[1:]), strict=True):
            begin = row + 1 if self.square else 0
            others = np.flatnonzero(self.right_codes[begin:] != self.left_codes[row]) + begin
            right[members] = others[positions[members] - starts[row]]
        return left, right


def mated_non_mated_scores(
    templates: np.ndarray,
    identities: Sequence[str],
    kind: str,
    probes: tuple[np.ndarray, Sequence[str]] | None = None,
    *,
    missing: np.ndarray | None = None,
    missing_probes: np.ndarray | None = None,
) -> AllPairs:
    """Score all pairs of `templates` (n, dim), or of each template with each of `probes` (templates, names).

    missing, missing_probes: bool (n,), rows without a template (what stands there is not looked at); their
    scores are -inf. Memory: 4 bytes a non-mated pair (27 MB for the 6.85 million of LFW's DevTest, 350 MB for
    all of LFW), 20 a mated pair, two copies of the templates, and about 60 MB of working space.
    """
    square = probes is None
    probe_templates, probe_identities = (templates, identities) if probes is None else probes
    left, left_missing = _with_missing(templates, identities, missing, kind)
    right, right_missing = left, left_missing
    if not square:
        right, right_missing = _with_missing(probe_templates, probe_identities, missing_probes, kind)
    _same_size(left, right)
    people, codes = encode_people([*identities] if square else [*identities, *probe_identities])
    left_codes, right_codes = (codes, codes) if square else (codes[: len(left)], codes[len(left) :])
    non_mated = np.empty(int(_non_mated_in_rows(left_codes, right_codes, square).sum()), dtype=np.float32)
    filled, mated_parts = 0, []
    space = np.empty(max(_BLOCK_SCORES, len(right)), dtype=left.dtype)
    step = max(1, _BLOCK_SCORES // max(1, len(right)))
    for start in range(0, len(left), step):
        begin = start if square else 0
        block = _matrix(left[start : start + step], right[begin:], kind, space)
        block[left_missing[start : start + step]] = -np.inf
        block[:, right_missing[begin:]] = -np.inf
        for row, scores in enumerate(block, start):
            first = row + 1 if square else 0  # of a set only i < j
            scores = scores[first - begin :]
            same = right_codes[first:] == left_codes[row]
            others = scores[~same]
            non_mated[filled : filled + len(others)] = others
            filled += len(others)
            columns = np.flatnonzero(same)
            mated_parts.append((scores[columns], np.full(len(columns), row), columns + first))
    mated, mated_left, mated_right = (np.concatenate(part) for part in zip(*mated_parts, strict=True))
    return AllPairs(mated, mated_left, mated_right, non_mated, people, left_codes, right_codes, square)


def encode_people(identities: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The sorted names, and each row's index among them, int64 (n,). BadInput where a row has no name."""
    for row, name in enumerate(identities):
        if not isinstance(name, str) or not name:
            raise BadInput(f"row {row} has no identity: put each person's images into a folder of their own.")
    if not len(identities):
        raise BadInput("there are no templates to compare.")
    names, codes = np.unique(np.asarray(identities, dtype=np.str_), return_inverse=True)
    return names.tolist(), codes.astype(np.int64)


def _templates(values: np.ndarray, kind: str) -> np.ndarray:
    if kind not in KINDS:
        raise UsageError(f"unknown score {kind!r}: choose one of {', '.join(KINDS)}.")
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise BadInput(f"templates of shape {values.shape} and type {values.dtype}: expected floats (n, dim).")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise BadInput(f"template {row} has NaN or infinite numbers: make it again.")
    if kind == "cosine" and len(values) and not values.any(axis=1).all():
        row = int(np.flatnonzero(~values.any(axis=1))[0])
        raise BadInput(f"template {row} is all zeros: it has no cosine with another.")
    if kind == "negative-hamming" and not (np.abs(values) == 1).all():
        row = int(np.flatnonzero((np.abs(values) != 1).any(axis=1))[0])
        raise BadInput(f"template {row} has other numbers than +1 and -1: it has no Hamming distance to another.")
    return values


def _prepared(values: np.ndarray, kind: str) -> np.ndarray:
    """Templates as `_matrix` wants them: unit length in float32 for the cosine, signs in float32, else float64."""
    if kind == "negative-hamming":
        return _templates(values, kind).astype(np.float32)
    wide = _templates(values, kind).astype(np.float64)
    if kind == "cosine":
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return wide


def _same_size(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[1] != b.shape[1]:
        raise BadInput(f"templates of {a.shape[1]} and {b.shape[1]} numbers: use one recognizer.")


def _matrix(a: np.ndarray, b: np.ndarray, kind: str, space: np.ndarray | None = None) -> np.ndarray:
    """float32 (len(a), len(b)). space: of the templates' type, at least as many numbers, to be overwritten."""
    shape = len(a), len(b)
    # Fresh memory for every block costs more than the product itself.
    product = None if space is None else space[: shape[0] * shape[1]].reshape(shape)
    if kind == "cosine":
        product = np.matmul(a, b.T, out=product)
        return np.clip(product, -1.0, 1.0, out=product)
    if kind == "negative-hamming":
        return _negative_hamming(np.matmul(a, b.T, out=product), a.shape[1])
    product = np.matmul(-2.0 * a, b.T, out=product)
    scores = np.empty(shape, dtype=np.float32)
    left_squares, right_squares = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    for square, row, out in zip(left_squares, product, scores, strict=True):  # row by row stays in the cache
        row += square
        row += right_squares
        np.sqrt(np.maximum(row, 0.0, out=row), out=row)
        np.negative(row, out=out, casting="same_kind")
    return scores


def _negative_hamming(products: np.ndarray, dim: int) -> np.ndarray:
    """From the products of rows of +1 and -1, which are whole numbers and so exact: ties stay ties. float32."""
    return (products.astype(np.float32) - np.float32(dim)) / np.float32(2 * dim)


def _with_missing(
    templates: np.ndarray, identities: Sequence[str], missing: np.ndarray | None, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    templates = np.asarray(templates)
    if templates.ndim != 2 or len(templates) != len(identities):
        raise BadInput(f"templates of shape {templates.shape} do not match {len(identities)} identities.")
    missing = np.zeros(len(templates), dtype=bool) if missing is None else np.asarray(missing, dtype=bool)
    if missing.shape != (len(templates),):
        raise BadInput(f"{len(templates)} templates need as many flags, not {missing.shape}.")
    # Any finite template that is not zero will do: the scores of these rows are overwritten.
    return _prepared(np.where(missing[:, None], np.ones_like(templates), templates), kind), missing


def _non_mated_in_rows(left: np.ndarray, right: np.ndarray, square: bool) -> np.ndarray:
    """How many non-mated pairs start in each row, int64 (n,)."""
    size = int(max(left.max(), right.max())) + 1
    same = np.bincount(right, minlength=size)[left]
    if not square:
        return len(right) - same
    # Of a set's row i only the columns after i count: i's own person less those up to and with i.
    order = np.argsort(left, kind="stable")
    counts = np.bincount(left, minlength=size)
    rank = np.empty(len(left), dtype=np.int64)
    rank[order] = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (len(left) - 1 - np.arange(len(left))) - (same - rank - 1)
