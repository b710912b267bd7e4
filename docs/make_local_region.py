"""Draws docs/pictures/local-region.png: the central facial region of the local losses, on mean portraits.

python docs/make_local_region.py emb --people ../shared/data/lfw/protocol/peopleDevTrain.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from facedecode.annotations.protocols import select_people
from facedecode.pictures.align import LOCAL_REGION
from facedecode.pictures.figures import picture_grid
from facedecode.pictures.images import save_image
from facedecode.store import Store
from facedecode.store.images import read_portraits

SIDE, COUNTS = 192, (1, 3, 30, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--people", type=Path)
    options = parser.parse_args()
    store = Store.open(options.store)
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], options.people)
    drawn = np.random.default_rng(0).permutation(chosen)[: max(COUNTS)]
    portraits = read_portraits([rows[i] for i in drawn], store.root, SIDE)
    means = np.stack([portraits[:count].mean(0).round().astype(np.uint8) for count in COUNTS])
    boxed = []
    for mean in means:
        picture = Image.fromarray(mean)
        ImageDraw.Draw(picture).rectangle([round(v * SIDE) for v in LOCAL_REGION], outline=(255, 255, 0), width=2)
        boxed.append(np.asarray(picture))
    captions = ["one portrait", *(f"mean of {count}" for count in COUNTS[1:])]
    target = Path(__file__).parent / "pictures" / "local-region.png"
    save_image(target, picture_grid([np.stack(boxed)], captions=[captions]))


if __name__ == "__main__":
    main()
