"""Table 2's second protocol: every image of a set against every perturbed one of the same set.

The pairs that LFW lists leave three errors at a false match rate of 0.1 %. All pairs within its ten sets are millions,
and a map that was fitted on the other nine sets has still seen nobody of either image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facedecode.evaluation.trials import Comparisons
from facedecode.statistics.pair_rates import Trials
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import encode_people, mated_non_mated_scores
from facedecode.store import Store, Templates


def compare_within_sets(
    store: Store,
    probes: Templates,
    images: Mapping[str, str],
    set_of: Mapping[str, int],
    judged: Sequence[int],
) -> Comparisons:
    """Every original image with every probe of its set, but for the probe of the same picture.

    Args:
        store: of the original images.
        probes: templates of the same images by path, perturbed or not, mapped or not.
        images: path → person of those that take part; one that either has no template of matches nothing.
        set_of: person → set.
        judged: the sets.
    """
    images = {path: person for path, person in images.items() if set_of[person] in judged}
    people, _ = encode_people(list(images.values()))
    sides = [_by_path(templates, images) for templates in (store, probes)]
    pictures = dict(zip(*(store.rows()[column].to_pylist() for column in ("path", "sha256")), strict=True))
    number_of = {person: number for number, person in enumerate(people)}
    mated, mated_people, parts, numbers = [], [], [], []
    places = {path: row for row, path in enumerate(images)}
    for number in judged:
        own = [path for path, person in images.items() if set_of[person] == number]
        rows, names = [places[path] for path in own], [images[path] for path in own]
        (left, no_left), (right, no_right) = ((values[rows], missing[rows]) for values, missing in sides)
        pairs = mated_non_mated_scores(
            left, names, store.score, (right, names), missing=no_left, missing_probes=no_right
        )
        numbers.append(np.array([number_of[person] for person in pairs.people]))
        parts.append(NonMated.from_all_pairs(pairs))
        # LFW has pictures twice; a picture is not compared with itself.
        keys = np.array([pictures.get(path) or path for path in own])
        different = keys[pairs.mated_left] != keys[pairs.mated_right]
        mated.append(pairs.mated[different])
        mated_people.append(numbers[-1][pairs.mated_people[different]])
    return Comparisons(
        mated=Trials(np.concatenate(mated), np.concatenate(mated_people)),
        non_mated=NonMated.joined(parts, numbers),
        people=people,
        image_people=[*images.values()] * 2,
        missing=np.concatenate([missing for _, missing in sides]),
    )


def _by_path(templates: Templates, images: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Templates in the order of the images, float32 (n, dim), zeros where there is none; and bool (n,) where."""
    where = {path: row for row, path in enumerate(templates.paths())}
    rows = np.array([where.get(path, -1) for path in images])
    return np.where((rows < 0)[:, None], np.float32(0), templates.templates()[rows]), rows < 0
