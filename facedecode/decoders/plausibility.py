"""Whether templates can be a recognizer's own: their lengths and directions, against those of templates that it made.

A decoder draws a face of any numbers. Templates that another program normalized or scaled, that another recognizer
made, or random numbers come out as faces of somebody else, so they are told before anything is drawn.

The directions of a recognizer's templates fill only some of their space. `TemplateStatistics` keeps a few orthogonal
directions in which most of a template's squared length lies. Random numbers, shuffled columns and another recognizer's
templates have about k / dim of theirs there.
"""

from __future__ import annotations

import base64
import binascii
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, ClassVar

import numpy as np

from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.identity import RecognizerId
from facedecode.records import Limit, Positive, Record
from facedecode.store.processing import Processing

OWN, LENGTH, DIRECTION, ZERO = "", "length", "direction", "zero"  # verdicts on a template
_FEWEST, _MOST = 12, 20_000  # templates that statistics are of; fewer say little
_AT_ONCE = 8192  # that are judged
_SEVERAL = 3
_COUNTS = (1, 4, 16, 32, 64, 128)  # of directions; the first that tells random numbers is taken
_RANDOM = 1e-4  # share of random templates that may pass
_SURE = 4.0  # standard deviations
_ALIKE = 8  # images of a person count as one
_LEAST_MARGIN = 1.0  # standard deviation beyond all that was seen
_LEAST_SPREAD = 0.02  # of lengths, relative: what rounding to 8 bits and other libraries do to templates of length 1
_PASSES = 8  # of subspace iteration
_AT_ONE = 1e-3  # lengths that differ less from 1 are normalized ones


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


_Length = Annotated[float, Limit(lambda x: 1e-30 <= x <= 1e30, "a length")]
_Share = Annotated[float, Limit(lambda x: -1e30 <= x <= 1e30, "a number of a sensible size")]
_Base64 = Annotated[str, Limit(_is_base64, "base64")]


@dataclass(frozen=True)
class TemplateStatistics(Record):
    """What a recognizer's templates look like, as far as it tells others from them.

    count: of the templates that it was taken from.
    least, greatest: the lengths that one can have.
    shortest_mean: the least length that a mean of several can have.
    directions: orthogonal directions (k, dim), int8, each to be scaled to length 1, as base64; None where none tell
        templates from random numbers.
    share: of a template's squared length, the least that lies along them.
    """

    REMEDY: ClassVar[str] = "train the decoder again"

    count: Positive
    least: _Length
    greatest: _Length
    shortest_mean: _Share = 0.0
    directions: _Base64 | None = None
    share: _Share = 0.0

    @classmethod
    def of(cls, templates: np.ndarray) -> TemplateStatistics | None:
        """The statistics of templates (n, dim), those of a person beside each other.

        None of fewer than twelve, or where some are (nearly) zeros. Of more than 20,000, some are taken.
        """
        chosen = np.unique(np.linspace(0, len(templates) - 1, min(len(templates), _MOST)).astype(int))
        values = np.asarray(templates[chosen], np.float64)
        lengths = np.linalg.norm(values, axis=1)
        if len(values) < _FEWEST or not lengths.all():
            return None
        margin, logs = _margin(len(values)), np.log(lengths)
        beyond = margin * max(float(logs.std()), _LEAST_SPREAD)
        center = values.mean(0)
        # Along the mean of all, a mean of several is no shorter than the shortest of them.
        along = values @ center / max(float(np.linalg.norm(center)), 1e-12)
        shortest = max(float(along.min() - (margin - _LEAST_MARGIN) * along.std()), 0.0)
        directions, share = _directions(values / lengths[:, None], margin)
        least, greatest = math.exp(logs.min() - beyond), math.exp(logs.max() + beyond)
        lengths_of = {"least": least, "greatest": greatest, "shortest_mean": shortest}
        rounded = {name: round(number, 4) for name, number in lengths_of.items()}
        if not rounded["least"]:
            return None
        return cls(len(values), **rounded, directions=directions, share=round(share, 4))

    def judge(self, templates: np.ndarray, shorter: bool = False, any_length: bool = False) -> np.ndarray:
        """A verdict on each template (n, dim) float64, not 0: `OWN`, `LENGTH` or `DIRECTION`, (n,) of text.

        shorter: they are means of several, or were mapped, which shrinks them. any_length: their lengths say nothing.
        """
        lengths = np.linalg.norm(templates, axis=1)
        least = self.shortest_mean if shorter else self.least
        wrong = (lengths < least) | (lengths > self.greatest)
        # A length of 1 may be within the range, but where lengths differ, nobody's are all 1.
        if len(templates) >= _SEVERAL and self.greatest > (1 + 4 * _LEAST_SPREAD) * self.least:
            wrong |= bool((np.abs(lengths - 1) < _AT_ONE).all())
        verdicts = np.where(wrong & (not any_length), LENGTH, OWN).astype(object)
        basis = self._basis(templates.shape[1])
        if basis is not None:
            units = templates / lengths[:, None]
            # Where all lean to one side, the first direction is that side.
            opposite = (units @ basis[0] < 0) & (self.shortest_mean > 0)
            verdicts[opposite | (_share(units, basis) < self.share)] = DIRECTION
        return verdicts

    def _basis(self, dim: int) -> np.ndarray | None:
        """The directions, float64 (k, dim). Raises BadInput: they are of templates of another size."""
        if self.directions is None:
            return None
        numbers = np.frombuffer(base64.b64decode(self.directions), np.int8)
        if numbers.size % dim or numbers.size > max(_COUNTS) * dim:
            raise BadInput(f"the decoder's record describes no templates of {dim} numbers; {self.REMEDY}")
        return _unit(numbers.reshape(-1, dim))


# As a record has them that was read.
ReadStatistics = Annotated[
    TemplateStatistics, Limit(lambda read: read.least <= read.greatest, "statistics with the least length first")
]


@dataclass(frozen=True)
class Judged:
    """What was found of templates.

    verdicts: (n,) of text: `OWN` or what is wrong.
    sentence: of all that are not the recognizer's own; None where all are.
    """

    verdicts: np.ndarray
    sentence: str | None = None

    @property
    def unusual(self) -> int:
        """How many cannot be the recognizer's own."""
        return int((self.verdicts != OWN).sum())


def check_templates(
    blocks: Iterable[np.ndarray],
    recognizer: RecognizerId,
    statistics: TemplateStatistics | None,
    *,
    where: object = None,
    done: Processing | None = None,
    any_length: bool = False,
) -> Judged:
    """Look at templates before they are drawn or mapped, and warn of those that the recognizer cannot have made.

    Args:
        blocks: (n, dim) float each.
        statistics: of the recognizer's own; without them only zeros are found, and what their store says.
        where: the templates' file, for messages. done: what was done to them: their store's manifest.
        any_length: what takes them normalizes them.

    Raises BadInput: NaN or infinite numbers; for the score `cosine`, a template of zeros.

    Warns FacedecodeWarning: the result's sentence.
    """
    done = done or Processing()
    shorter = bool(done.aggregate or done.cluster or done.mapping or done.disentanglement)
    verdicts: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    for block in blocks:
        for start in range(0, len(block), _AT_ONCE):
            values = np.asarray(block[start : start + _AT_ONCE], np.float64)
            if not np.isfinite(values).all():
                raise BadInput(f"{_before(where)}NaN or infinite numbers are no template; leave those rows out")
            length = np.linalg.norm(values, axis=1)
            found = np.full(len(values), ZERO, object)
            there = length > 0
            if statistics is not None:
                found[there] = statistics.judge(values[there], shorter, any_length)
            else:
                found[there] = LENGTH if done.l2_normalized and not any_length else OWN
            verdicts.append(found)
            lengths.append(length)
    if not verdicts:
        return Judged(np.empty(0, object))
    judged, all_lengths = np.concatenate(verdicts), np.concatenate(lengths)
    if recognizer.score == "cosine" and (judged == ZERO).any():
        raise BadInput(
            f"{_before(where)}{_counted(judged == ZERO)} all zeros (the first: row {int((judged == ZERO).argmax())}), "
            "which no recognizer makes and no cosine compares; leave them out"
        )
    if (judged == OWN).all():
        return Judged(judged)
    sentence = _before(where) + _sentence(judged, all_lengths, recognizer.name, statistics)
    warnings.warn(sentence, FacedecodeWarning, stacklevel=4)
    return Judged(judged, sentence)


def _before(where: object) -> str:
    return "" if where is None else f"{where}: "


def _counted(these: np.ndarray) -> str:
    """'3 of 20 templates are'."""
    count = int(these.sum())
    if len(these) == 1:
        return "the template is"
    return f"{count:,} of {len(these):,} templates {'is' if count == 1 else 'are'}"


def _sentence(verdicts: np.ndarray, lengths: np.ndarray, recognizer: str, statistics: TemplateStatistics | None) -> str:
    """All that is wrong with templates, and what to do about it."""
    what = {}
    if (these := verdicts == LENGTH).any():
        what[LENGTH] = "normalized, as their store says (give raw ones)"
        if statistics is not None:
            kind, remedy = _kind(lengths[these], statistics)
            low, high = (_shown(end) for end in (lengths[these].min(), lengths[these].max()))
            span = low if low == high else f"{low} to {high}"
            own = f"{_shown(statistics.least)} to {_shown(statistics.greatest)}"
            what[LENGTH] = f"of length {span}, {kind}, where {recognizer}'s have {own} ({remedy})"
    if (verdicts == DIRECTION).any():
        what[DIRECTION] = (
            f"in directions that {recognizer}'s do not have: another recognizer's, shuffled, or random numbers (say "
            "--model if they are another's)"
        )
    if (verdicts == ZERO).any():
        what[ZERO] = "all zeros (leave them out)"
    parts = [text if len(what) == 1 else f"{(verdicts == kind).sum():,} {text}" for kind, text in what.items()]
    faces = "its face is somebody else's" if (verdicts != OWN).sum() == 1 else "their faces are other people's"
    return f"{_counted(verdicts != OWN)} not as {recognizer} makes them, and {faces}: {'; '.join(parts)}"


def _shown(length: float) -> str:
    return f"{length:.3f}" if 0.01 <= length < 100 else f"{length:.3g}"


def _kind(lengths: np.ndarray, statistics: TemplateStatistics) -> tuple[str, str]:
    """What templates of such lengths look like, and what to do about it."""
    if (np.abs(lengths - 1) < _LEAST_SPREAD).all():
        return "normalized", "give raw ones"
    times = float(np.median(lengths)) / math.sqrt(statistics.least * statistics.greatest)
    if not 0.5 < times < 2:
        return f"scaled by about {float(f'{times:.2g}'):g}", "give them unscaled"
    return ("scaled" if times > 1 else "scaled, or means of several"), "give them as they were made"


def _margin(count: int) -> float:
    """How far beyond the extreme of so many others may lie, in standard deviations: more where few were seen.

    The deviation itself is an estimate, so Student's t takes the place of the normal distribution.
    """
    from scipy.special import stdtrit

    sure = float(stdtrit(count - 1, NormalDist().cdf(_SURE)))
    return max(_LEAST_MARGIN, sure - NormalDist().inv_cdf(1 - 1 / max(2, count / _ALIKE)))


def _directions(units: np.ndarray, margin: float) -> tuple[str | None, float]:
    """`TemplateStatistics.directions` and `.share` of templates (n, dim) of length 1.

    The least share is of templates that the directions were not found on: each half's is measured in the other's.
    """
    from scipy.special import betaincinv

    dim, half = units.shape[1], len(units) // 2
    for count in _COUNTS:
        if 2 * count > dim or 2 * count > half:
            break
        parts = ((units[:half], units[half:]), (units[half:], units[:half]))
        shares = np.concatenate([_share(other, _unit(_principal(one, count))) for one, other in parts])
        # The squared length of a random direction in some of the dimensions is a beta variable.
        random = float(betaincinv(count / 2, (dim - count) / 2, 1 - _RANDOM))
        lowest, beyond = float(shares.min()), float(margin * shares.std())
        if lowest - beyond > random:
            # Other kinds of photographs may lie lower, and there is room.
            least = lowest - max(beyond, (lowest - random) / 3)
            return base64.b64encode(_principal(units, count).tobytes()).decode("ascii"), least
    return None, 0.0


def _principal(units: np.ndarray, count: int) -> np.ndarray:
    """The directions of the most squared length, int8 (count, dim), by subspace iteration from a fixed start."""
    more = min(8, units.shape[1] - count)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((units.shape[1], count + more)))[0]
    for _ in range(_PASSES):
        basis = np.linalg.qr(units.T @ (units @ basis))[0]
    images = units @ basis
    sizes, turns = np.linalg.eigh(images.T @ images)
    rows = (basis @ turns[:, np.argsort(sizes)[::-1][:count]]).T
    rows *= np.where((units @ rows.T).mean(0) < 0, -1, 1)[:, None]
    return np.rint(127 * rows / np.abs(rows).max(1, keepdims=True)).astype(np.int8)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _share(units: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Of the squared length of each of (n, dim), the share along the basis (k, dim): float64 (n,)."""
    return ((units @ basis.T) ** 2).sum(1)
