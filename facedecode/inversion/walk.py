"""Ways through the space of templates: from one template to another, and along a direction."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from facedecode.attributes.direction import Direction
from facedecode.decoders import Decoder
from facedecode.errors import BadInput
from facedecode.inversion.inputs import TemplateInput
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer, embed_pictures
from facedecode.statistics.scores import score_pairs
from facedecode.store.images import read_portraits

# Between templates closer than that a great circle is a straight line; farther than its supplement, there are many.
_SMALLEST_ANGLE = 1e-4
_LONGEST_NUMBER = 19  # digits: no file has so many rows


def between(start: np.ndarray, end: np.ndarray, fractions: Sequence[float], score: str) -> np.ndarray:
    """Templates on the way from one to another, (dim,) float32 each: (fractions, dim) float32.

    For the score `cosine`, they turn at a constant rate on the great circle through both (Shoemake 1985), while their
    lengths change linearly. Otherwise they move on the straight line.

    fractions: of the way: 0 is the start, 1 the end; others than those between lead beyond.
    score: the recognizer's.

    Raises BadInput: for cosine, a template of zeros, or two opposite ones.
    """
    t = np.asarray(fractions, np.float64)[:, None]
    a, b = start.astype(np.float64), end.astype(np.float64)
    if score != "cosine":
        return ((1 - t) * a + t * b).astype(np.float32)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if not min(lengths) > 0:
        raise BadInput("a template of zeros has no direction to go from or to; give another")
    a, b = a / lengths[0], b / lengths[1]
    # Of the chord and its counterpart: arccos loses the digits of small angles.
    angle = 2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))
    if angle > np.pi - _SMALLEST_ANGLE:
        raise BadInput("two opposite templates: no way between them is the shortest; give others")
    if angle < _SMALLEST_ANGLE:
        turned = (1 - t) * a + t * b
    else:
        turned = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return (((1 - t) * lengths[0] + t * lengths[1]) * turned).astype(np.float32)


def along(start: np.ndarray, direction: Direction, amounts: Sequence[float]) -> np.ndarray:
    """A template (dim,) float32 moved by each amount, see `Direction.move`: (amounts, dim) float32."""
    return np.concatenate([direction.move(start[None], amount) for amount in amounts])


@dataclass(frozen=True)
class Walks:
    """Strips to draw.

    templates: (strips, steps, dim) float32. amounts: of the way, or along the direction, (steps,).
    starts: (strips, dim) float32, as inputs. ends: likewise; None along a direction.
    """

    templates: np.ndarray
    amounts: list[float]
    starts: np.ndarray
    ends: np.ndarray | None


@dataclass(frozen=True)
class Strips:
    """Strips of pictures.

    pictures: (strips, steps, P, P, 3) uint8 RGB.
    to_start: (strips, steps) float32, the score of each picture's template with the template at the strip's start; None
        without a recognizer. to_end: likewise with its end; None along a direction.
    """

    pictures: np.ndarray
    to_start: np.ndarray | None
    to_end: np.ndarray | None


def plan_walks(
    starts: np.ndarray,
    goal: np.ndarray | Direction,
    *,
    without: Sequence[Direction] = (),
    steps: int,
    reach: float = 1.0,
    score: str,
) -> Walks:
    """The templates of strips that begin at each of `starts`.

    Args:
        starts: (strips, dim) float32.
        goal: (strips or 1, dim) float32: walk there; or a direction: walk from -reach to reach along it.
        without: directions that are taken out of all templates first.
        steps: templates in a strip, 2 or more.
        score: the recognizer's.

    Raises BadInput: see `between`.
    """
    if isinstance(goal, Direction):
        amounts = np.linspace(-reach, reach, steps).tolist()
        templates = np.stack([along(start, goal, amounts) for start in _without(starts, without)])
        return Walks(templates, amounts, starts, None)
    amounts = np.linspace(0, 1, steps).tolist()
    goals = np.broadcast_to(goal, starts.shape)
    pairs = zip(_without(starts, without), _without(goals, without), strict=True)
    return Walks(np.stack([between(a, b, amounts, score) for a, b in pairs]), amounts, starts, goals)


def draw_walks(walks: Walks, decoder: Decoder, recognizer: Recognizer | None, progress: Progress = silent) -> Strips:
    """Decode them, and score the pictures where there is a recognizer.

    The caller has looked at the templates that they lead between (`Decoder.check`).
    """
    strips, steps, dim = walks.templates.shape
    pictures: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {"start": [], "end": []}
    progress(0, strips)
    for i, templates in enumerate(walks.templates):
        pictures.append(decoder.decode(templates, checked=True))
        if recognizer is not None:
            embedded = embed_pictures(recognizer, pictures[-1])
            for name, ends in (("start", walks.starts), ("end", walks.ends)):
                if ends is not None:
                    goal = np.broadcast_to(ends[i], (steps, dim))
                    scores[name].append(score_pairs(embedded, goal, recognizer.spec.score))
        progress(i + 1, strips)
    to_start, to_end = (np.stack(each) if each else None for each in scores.values())
    return Strips(np.stack(pictures), to_start, to_end)


def _without(templates: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    for direction in directions:
        templates = direction.without(templates)
    return templates


def find_rows(inputs: TemplateInput, names: Sequence[str], option: str) -> list[int]:
    """The rows that names mean: a row's number, an image's path in the store, or its last part, with its ending or not.

    Raises BadInput: there is no such row, or more than one of that name.
    """
    rows: dict[str, list[int]] = {}
    for i, row in enumerate(inputs.rows or ()):
        if row["path"] is not None:
            name = PurePosixPath(row["path"])
            for part in {row["path"], name.name, name.stem}:
                rows.setdefault(part, []).append(i)

    def find(name: str) -> int:
        exact = [i for i in rows.get(name, ()) if inputs.rows[i]["path"] == name]
        if named := exact or rows.get(name):
            if len(named) > 1:
                raise BadInput(f"{option} {name}: {len(named)} images have that name; give the path below the root")
            return named[0]
        if name.isascii() and name.isdecimal():
            if len(name) < _LONGEST_NUMBER and int(name) < len(inputs.templates):
                return int(name)
            raise BadInput(f"{option} {name}: the templates are numbered from 0 to {len(inputs.templates) - 1}")
        near = difflib.get_close_matches(name, rows, 3, 0.6)
        hint = f"there are {', '.join(near)}" if near else "give an image's path in the store, or a row's number"
        raise BadInput(f"{option} {name}: no template of that image; {hint}")

    return [find(name) for name in names]


def write_strips(
    output: Path, inputs: TemplateInput, walks: Walks, strips: Strips, ends: tuple[list[int], list[int]] | None = None
) -> None:
    """One PNG, a strip in a row, under each picture its place and scores.

    ends: rows of the starts and of the goals (one for all, or one each; none along a direction), to show their
        portraits at the ends.
    """
    rows = list(strips.pictures)
    captions = [
        [_caption(amount, *scores) for amount, *scores in zip(walks.amounts, *of_strip, strict=True)]
        for of_strip in zip(*(x for x in (strips.to_start, strips.to_end) if x is not None), strict=True)
    ] or [[_caption(amount) for amount in walks.amounts]] * len(rows)
    for at_end, chosen in enumerate(ends or ()):
        if chosen:
            portraits = read_portraits([inputs.rows[i] for i in chosen], inputs.root, strips.pictures.shape[2])
            for i, portrait in enumerate(np.broadcast_to(portraits, (len(rows), *portraits.shape[1:]))):
                place = len(rows[i]) if at_end else 0
                rows[i] = np.insert(rows[i], place, portrait, axis=0)
                captions[i] = [*captions[i][:place], "original", *captions[i][place:]]
    save_image(output, picture_grid(rows, captions=captions))


def _caption(amount: float, *scores: float) -> str:
    return f"{amount:.2f}" + (f": {' / '.join(f'{score:.2f}' for score in scores)}" if scores else "")
