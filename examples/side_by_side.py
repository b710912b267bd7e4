"""Originals above what several decoders draw of their templates: the paper's Fig. 1, 3 and 5.

    python examples/side_by_side.py --people ../shared/data/lfw/protocol/peopleDevTest.txt -o fig05.png \\
        --row "edgeface-xxs, 512" emb-edgeface edgeface-decoder \\
        --row "dlib-resnet-pooled, 256" emb-pooled pooled-decoder --row "dlib-resnet, 128" emb dlib-resnet

Each row names itself, a store and a decoder of that store's recognizer; all stores are of the same images. Who is
shown is fixed by rule: people spread evenly over the sorted names, each one's first image that all stores have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arguments import positive

from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, FacedecodeError, OutputError
from facedecode.evaluation.examples import spread_rows
from facedecode.evaluation.unseen import open_stores, require_unseen, unseen_images
from facedecode.figures import enlarged, picture_grid, shortened
from facedecode.images import save_image
from facedecode.store_images import read_portraits


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    if arguments.output.exists() and not arguments.overwrite:
        raise OutputError(f"{arguments.output} is there already; use --overwrite or another name")
    folders = list(dict.fromkeys(Path(store) for _, store, _ in arguments.row))
    stores = dict(zip(folders, open_stores(folders).values(), strict=True))
    images = {folder: unseen_images(store, arguments.people) for folder, store in stores.items()}
    # One image is one name and one content: stores of another edition of the pictures have nothing in common.
    templates = {
        folder: {
            (row["path"], row["sha256"]): template
            for row, template in zip(own.acquired, own.templates[~own.missing], strict=True)
        }
        for folder, own in images.items()
    }
    common = [
        row
        for row in images[folders[0]].acquired
        if all((row["path"], row["sha256"]) in own for own in templates.values())
    ]
    if not common:
        raise BadInput(f"{', '.join(map(str, folders))}: no image of these people has a template in all of the stores")
    names = [row["identity"] for row in common]
    shown = [common[row] for row in spread_rows(names, arguments.columns)]
    drawn = []
    for label, store, name in arguments.row:
        decoder = load_decoder(name, arguments.device)
        decoder.require_recognizer(stores[Path(store)].recognizer, f"the decoder {name}")
        require_unseen(label, decoder.provenance.training.get("people"), [row["identity"] for row in shown])
        own = templates[Path(store)]
        drawn.append(decoder.decode(np.stack([own[row["path"], row["sha256"]] for row in shown])))
    sides = {pictures.shape[1] for pictures in drawn}
    if len(sides) > 1:
        raise BadInput(f"the decoders draw {', '.join(map(str, sorted(sides)))} px: show pictures of one size together")
    originals = read_portraits(shown, arguments.images or stores[folders[0]].root, sides.pop())
    rows = [enlarged(pictures) for pictures in (originals, *drawn)]
    captions = [shortened(row["identity"], rows[0].shape[1]) for row in shown]
    grid = picture_grid(rows, ["original", *(label for label, *_ in arguments.row)], [captions, *([] for _ in drawn)])
    save_image(arguments.output, grid)
    print(f"look at {arguments.output}", file=sys.stderr)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--row",
        nargs=3,
        action="append",
        required=True,
        metavar=("LABEL", "STORE", "DECODER"),
        help="a row of pictures (repeatable); DECODER is a folder, or the name of a shipped one",
    )
    parser.add_argument("--people", type=Path, required=True, help="people whom no decoder was trained on")
    parser.add_argument("--columns", type=positive, default=8, help="people in the figure")
    parser.add_argument("--images", type=Path, help="folder of the images, if not where the first store says")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a PNG file")
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that is there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except FacedecodeError as error:
        print(f"side_by_side.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
