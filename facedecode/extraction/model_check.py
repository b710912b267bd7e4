"""Whether a recognizer tells people apart, by the pairs of a few people's images.

A model of the user's is tried under each preset that its input fits as well, on the same faces: with a wrong mean or a
wrong order of the channels, templates look right and are worse.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedecode.errors import BadInput
from facedecode.extraction.cropping import Cropped, FaceCropper
from facedecode.extraction.finders import IF_CROPS, FaceSource
from facedecode.extraction.jobs import FaceOptions
from facedecode.options import RecognizerOptions
from facedecode.pictures.align import Crop, crop
from facedecode.pictures.faces import Face
from facedecode.pictures.finding import ImageRef, find_images
from facedecode.pictures.images import read_image
from facedecode.progress import Progress, silent
from facedecode.recognizers.contract import full_model_name, has_contract_file, is_custom
from facedecode.recognizers.recognizer import Recognizer
from facedecode.recognizers.registry import load_chosen_recognizer, recognizer_file
from facedecode.statistics.scores import AllPairs, mated_non_mated_scores
from facedecode.statistics.verification import eer

MOST_PEOPLE, MOST_IMAGES = 40, 3
LEAST_AUC = 0.9
"""Of mated above non-mated pairs: a network without training has 0.6 to 0.7 on LFW, each recognizer here 0.99."""
_BATCH = 8


@dataclass(frozen=True)
class Separation:
    """How well the scores of mated and of non-mated pairs are apart, under one contract.

    contract: what it is called. auc: the share of pairs of a mated and a non-mated score of which the mated one is the
    higher, ties half. eer: the equal error rate. d_prime: the difference of the means over the root of the mean
    variance; it tells contracts apart where both rates are at their best.
    below_best: what its d_prime lacks to the best one. standard_error: of that, by a jackknife over people; NaN of two.
    """

    contract: str
    auc: float
    eer: float
    d_prime: float
    below_best: float
    standard_error: float

    @property
    def is_fine(self) -> bool:
        """Whether mated pairs score above non-mated ones."""
        return self.auc >= LEAST_AUC

    @property
    def is_worse(self) -> bool:
        """Whether the best contract does better, by more than two standard errors; False where these are not known."""
        return self.below_best > 2 * self.standard_error


@dataclass(frozen=True)
class ModelCheck:
    """What a check found.

    rows: best first. given: the contract that the user chose, or that the recognizer has; None where none was said.
    people, images, mated, non_mated: how many. faceless: images without a face.
    """

    rows: list[Separation]
    given: str | None
    people: int
    images: int
    mated: int
    non_mated: int
    faceless: int


def choose_images(images: Sequence[Path]) -> list[ImageRef]:
    """Up to `MOST_IMAGES` images of each of up to `MOST_PEOPLE` people, those with most first, evenly over the names.

    Raises BadInput: as `find_images`; a single person, or nobody with two images.
    """
    by_person: dict[str, list[ImageRef]] = {}
    for ref in find_images(images).refs:
        if ref.identity is not None:
            by_person.setdefault(ref.identity, []).append(ref)
    where = ", ".join(map(str, images[:3]))
    if len(by_person) < 2:
        raise BadInput(f"{where}: {_people(len(by_person))}; give a folder with a subfolder for each of several people")
    counts = {name: min(len(refs), MOST_IMAGES) for name, refs in by_person.items()}
    if max(counts.values()) < 2:
        raise BadInput(f"{where}: nobody has two images; mated pairs need two or more of the same person")
    chosen: list[str] = []
    for wanted in range(MOST_IMAGES, 0, -1):
        chosen += _spread([name for name, count in counts.items() if count == wanted], MOST_PEOPLE - len(chosen))
    return [ref for name in chosen for ref in by_person[name][:MOST_IMAGES]]


def check_model(
    options: RecognizerOptions,
    images: Sequence[Path],
    faces: FaceOptions | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> ModelCheck:
    """Score the pairs of a few people's images, under the contract that the options choose and under presets.

    images: folders of them, of which `choose_images` takes some. faces: where the faces are; looked for once if None.

    Raises BadInput: as `choose_images` and `FaceSource`; too few faces for a mated and a non-mated pair; a template is
    not finite. UsageError, MissingWeights, BadInput: as `load_recognizer`.
    """
    refs = choose_images(images)
    recognizers, given = _recognizers(options, device)
    source = FaceSource.of(faces or FaceOptions(), refs)
    people, crops, failures = _crops(recognizers.values(), source, device, progress)
    names = set(people)
    if len(names) < 2 or len(names) == len(people):
        why = f"{failures[0]['path']}: {failures[0]['reason']}; " if failures else ""
        raise BadInput(
            f"{len(people)} of {len(refs)} images give a face, of {len(names)} people; pairs need two people, one with "
            f"two faces; {why}{IF_CROPS}"
        )
    pairs = {
        name: mated_non_mated_scores(_templates(each, crops[each.spec.crop]), people, each.spec.score)
        for name, each in recognizers.items()
    }
    apart = {name: _d_primes(each) for name, each in pairs.items()}
    best = max(apart.values(), key=lambda values: values[0])
    rows = sorted((_separation(name, pairs[name], best - apart[name], apart[name][0]) for name in pairs), key=_gap)
    some = next(iter(pairs.values()))
    return ModelCheck(rows, given, len(names), len(people), len(some.mated), len(some.non_mated), len(failures))


def _crops(
    recognizers: Collection[Recognizer], source: FaceSource, device: str, progress: Progress
) -> tuple[list[str], dict[Crop, list[np.ndarray]], list[dict[str, str]]]:
    """People and crops, for each way to crop, of the images with a face; and the failures of the others."""
    refs = source.refs
    found: dict[Crop, list[Cropped]] = {}
    items: list[Cropped] = []
    progress(0, len(refs))
    for each in recognizers:
        if each.spec.crop not in found:
            if not items or source.options.crop == "aligned":  # where a face is then depends on the crop
                cropper = FaceCropper(None, source.finder(each, device))
                items = list(cropper.items(refs, _BATCH, seen=lambda count: progress(count, len(refs))))
            found[each.spec.crop] = items
    people: list[str] = []
    crops: dict[Crop, list[np.ndarray]] = {how: [] for how in found}
    failures = []
    for place, ref in enumerate(refs):
        failed = next((kept[place].failure for kept in found.values() if kept[place].failure), None)
        if failed:
            failures.append(failed)
            continue
        people.append(str(ref.identity))
        picture: np.ndarray | None = None
        for how, kept in found.items():
            row = kept[place].row or {}
            picture = read_image(ref.path, expected=row["sha256"])[0] if picture is None else picture
            crops[how].append(crop(picture, Face(row["box"], row["landmarks"], row["probability"]), how))
    return people, crops, failures


def _recognizers(options: RecognizerOptions, device: str) -> tuple[dict[str, Recognizer], str | None]:
    """The recognizer under each contract that is tried, by what the contract is called, and which one is given."""
    name = full_model_name(options.model)
    file = recognizer_file(name, options.weights)
    if not is_custom(name) or file is None:
        return {name: load_chosen_recognizer(options, device)}, name
    from facedecode.recognizers.custom import CustomRecognizer, load_under_presets

    found: dict[str, Recognizer] = {}
    beside = has_contract_file(file)
    given = None if options.spec is None and beside is None else str(options.spec or beside)
    described: dict[str, Any] | None = None
    if given is not None:
        found[given] = chosen = load_chosen_recognizer(options, device)
        described = chosen.contract.describe() if isinstance(chosen, CustomRecognizer) else None
    try:
        others = load_under_presets(name, options.weights, device, options.template_output)
    except BadInput:
        if given is None:
            raise
        others = []
    found |= {str(each.contract.preset): each for each in others if each.contract.describe() != described}
    return found, given


def _people(count: int) -> str:
    return {0: "no person's folder", 1: "one person only"}.get(count, f"{count} people")


def _spread(names: Sequence[str], most: int) -> list[str]:
    places = np.linspace(0, len(names) - 1, min(len(names), max(most, 0)))
    return [names[round(place)] for place in places]


def _templates(recognizer: Recognizer, crops: Sequence[np.ndarray]) -> np.ndarray:
    templates = recognizer.embed_crops(np.stack(crops))
    if not np.isfinite(templates).all():
        raise BadInput(f"{recognizer.weights}: gives NaN or infinity; are mean, scale and channels right?")
    return templates


def _separation(contract: str, pairs: AllPairs, gaps: np.ndarray, d_prime: float) -> Separation:
    """gaps: to the best contract's d′, float64 (1 + people,), of all people first, then without each of them."""
    mated, ordered = pairs.mated, np.sort(pairs.non_mated)
    below = np.searchsorted(ordered, mated, "left") + np.searchsorted(ordered, mated, "right")
    auc = float(below.mean() / 2 / len(ordered))
    without = gaps[1:]
    error = np.sqrt((len(without) - 1) * without.var()) if len(without) > 2 else np.nan
    return Separation(contract, auc, eer(mated, ordered).value, float(d_prime), float(gaps[0]), float(error))


def _gap(row: Separation) -> float:
    return row.below_best


def _d_primes(pairs: AllPairs) -> np.ndarray:
    """d′ of all pairs, and then of those without each person, float64 (1 + people,)."""
    left, right = pairs.non_mated_rows(np.arange(len(pairs.non_mated)))
    sides = pairs.left_codes[left], pairs.right_codes[right]
    people = range(len(pairs.people))
    kept = [(pairs.mated_people != person, (sides[0] != person) & (sides[1] != person)) for person in people]
    mated, non_mated = pairs.mated.astype(np.float64), pairs.non_mated.astype(np.float64)
    return np.array([_d_prime(mated, non_mated), *(_d_prime(mated[m], non_mated[n]) for m, n in kept)])


def _d_prime(mated: np.ndarray, non_mated: np.ndarray) -> float:
    if not len(mated) or not len(non_mated):
        return 0.0
    spread = np.sqrt((mated.var() + non_mated.var()) / 2)
    return float((mated.mean() - non_mated.mean()) / spread) if spread else 0.0
