"""How far the templates of a picture's copies lie from its own, and those of other people's pictures; see `NEAR`.

    python benchmarks/known_pictures.py --copies ../shared/data/lfw copies
    facedecode extract copies -o emb-copies
    python benchmarks/known_pictures.py emb emb-copies ../shared/data/lfw/protocol

The first call writes copies of 250 pictures of LFW's DevTrain, less George_W_Bush: JPEGs of other qualities, mirrored,
cropped by up to 3, 5 and 10 % of each side at random places, and resized. The second takes two stores of one
recognizer, of LFW and of the copies. On stdout it gives, in units of the median distance of DevTrain's pictures, what
part of the copies is told as known by their templates, and every DevTest picture that is: a false alarm, where the two
pictures show different people.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from facedecode.annotations.protocols import people_names
from facedecode.known_pictures import NEAR, KnownPictures, _distances, _signatures, _units
from facedecode.store import Store

COUNT = 250


def train_people(protocol: Path) -> set[str]:
    return {*people_names(protocol / "peopleDevTrain.txt")} - {"George_W_Bush"}


def write_copies(lfw: Path, output: Path) -> None:
    """OUTPUT/KIND/PERSON/IMAGE.jpg for each kind of copy."""
    people, random = train_people(lfw / "protocol"), np.random.default_rng(0)
    paths = sorted(path for path in (lfw / "images").rglob("*.jpg") if path.parent.name in people)
    for place in sorted(random.choice(len(paths), COUNT, replace=False)):
        image = Image.open(paths[place]).convert("RGB")
        width, height = image.size
        copies = {f"jpeg{quality}": (image, quality) for quality in (50, 75, 95)}
        copies["mirrored"] = (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 90)
        for share in (3, 5, 10):
            less = round(width * share / 100), round(height * share / 100)
            left, top = (int(random.integers(0, most + 1)) for most in less)
            copies[f"crop{share}"] = (image.crop((left, top, left + width - less[0], top + height - less[1])), 90)
        for share in (50, 75, 150):
            size = width * share // 100, height * share // 100
            copies[f"size{share}"] = (image.resize(size, Image.Resampling.BICUBIC), 90)
        for kind, (copy, quality) in copies.items():
            path = output / kind / paths[place].parent.name / paths[place].name
            path.parent.mkdir(parents=True, exist_ok=True)
            copy.save(path, quality=quality)


def measure(store: Store, copies: Store, protocol: Path) -> None:
    people, others = train_people(protocol), {*people_names(protocol / "peopleDevTest.txt")}
    names, paths, templates = store.identities(), store.paths(), store.templates()
    train = [i for i, name in enumerate(names) if name in people]
    test = [i for i, name in enumerate(names) if name in others]
    known = KnownPictures.of([], templates[train], store.made_by)
    signatures = _units(_signatures(templates[train]))
    typical = float(np.median(_distances(signatures[::10] @ signatures[5::10].T)))
    print(f"median distance {typical:.4f}; known: nearer than {NEAR:.3f} of it; signatures of {len(train)} pictures")

    def nearest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances = _distances(_units(_signatures(values)) @ signatures.T) / typical
        return distances.min(1), distances.argmin(1)

    told = known.judge([{}] * len(copies), copies.templates(), copies.made_by) != ""
    near, _ = nearest(copies.templates())
    kinds: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(copies.paths()):
        kinds[path.partition("/")[0]].append(i)
    for kind, rows in kinds.items():
        quantiles = ", ".join(f"{value:.3f}" for value in np.quantile(near[rows], (0.5, 0.95, 1)))
        print(f"{kind}: {told[rows].mean():.1%} of {len(rows)} told; nearest at {quantiles} (median, 95 %, most)")
    told = known.judge([{}] * len(test), templates[test], store.made_by) != ""
    near, places = nearest(templates[test])
    order = np.argsort(near)[: max(12, int(told.sum()) + 3)]
    print(f"DevTest: {told.sum()} of {len(test)} told; the nearest:")
    for i in order:
        print(f"  {near[i]:.3f} {'told' if told[i] else ''} {paths[test[i]]} {paths[train[places[i]]]}")


if __name__ == "__main__":
    if sys.argv[1] == "--copies":
        write_copies(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        measure(Store.open(sys.argv[1]), Store.open(sys.argv[2]), Path(sys.argv[3]))
