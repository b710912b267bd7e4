"""Originals above what several decoders draw of their templates: the paper's Fig. 1, 3, 5, 6 and 7.

    python examples/side_by_side.py --people ../shared/data/lfw/protocol/peopleDevTest.txt -o fig05.png \\
        --row "edgeface-xxs, 512" emb-edgeface edgeface-decoder \\
        --row "dlib-resnet-pooled, 256" emb-pooled pooled-decoder --row "dlib-resnet, 128" emb dlib-resnet

Each row names itself, a store and a decoder of that store's recognizer; all stores are of the same images. Who is
shown is fixed by rule: people spread evenly over the sorted names, each one's first image that all stores have.

With `--side`, larger pictures are reduced to that many pixels, and `--psnr` writes each one's PSNR below it, as in
Fig. 6 and 7. `--figures FILE` adds what no eight pictures tell: PSNR and SSIM of each row over many people's pictures
(`--judged`, chosen by the same rule), with 95 % intervals over people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from arguments import Parser, command_line, positive, refuse_existing, run

from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import (
    JudgedImages,
    known_people,
    open_stores,
    require_unseen,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.rendering import spread_rows
from facedecode.files import write_json
from facedecode.known_pictures import MadeBy
from facedecode.pictures.figures import enlarged, picture_grid, shortened
from facedecode.pictures.images import save_image
from facedecode.pictures.metrics import mean_psnr, psnr, ssim
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.statistics.bootstrap import mean_interval
from facedecode.store.images import read_portraits


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    for output in (arguments.output, arguments.figures):
        refuse_existing(output, arguments.overwrite)
    folders = list(dict.fromkeys(Path(store) for _, store, _ in arguments.row))
    stores = dict(zip(folders, open_stores(folders).values(), strict=True))
    loaded = [load_decoder(name, arguments.device) for _, _, name in arguments.row]
    known = known_people(stores.values(), loaded)
    images = {folder: unseen_images(store, arguments.people, known=known) for folder, store in stores.items()}
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
    judged = [common[row] for row in spread_rows(names, arguments.judged)] if arguments.figures else []
    shown = [common[row] for row in spread_rows(names, arguments.columns)]
    drawn, decoders = [], {}
    for decoder, (label, store, name) in zip(loaded, arguments.row, strict=True):
        decoder.require_recognizer(stores[Path(store)].recognizer, f"the decoder {name}")
        both = [*shown, *judged]
        own = templates[Path(store)]
        judged_templates = np.stack([own[row["path"], row["sha256"]] for row in both])
        given = JudgedImages(both, judged_templates, MadeBy.of(decoder.recognizer))
        require_unseen(label, decoder.known, given)
        require_unseen_by_store(stores[Path(store)], given)
        decoders[label] = describe_decoder(decoder)
        pictures = decoder.decode(judged_templates)
        drawn.append(reduced(pictures, arguments.side) if arguments.side else pictures)
    sides = {pictures.shape[1] for pictures in drawn}
    if len(sides) > 1:
        raise BadInput(
            f"the decoders draw {', '.join(map(str, sorted(sides)))} px: show pictures of one size together (--side)"
        )
    originals = read_portraits([*shown, *judged], arguments.images or stores[folders[0]].root, sides.pop())
    labels = [label for label, *_ in arguments.row]
    rows = [enlarged(pictures[: len(shown)]) for pictures in (originals, *drawn)]
    names = [shortened(row["identity"], rows[0].shape[1]) for row in shown]
    below = [psnr_captions(originals, pictures, len(shown)) if arguments.psnr else [] for pictures in drawn]
    save_image(arguments.output, picture_grid(rows, ["original", *labels], [names, *below]))
    if arguments.figures:
        people = [row["identity"] for row in judged]
        pairs = zip(labels, drawn, strict=True)
        figures = {label: quality(x[len(shown) :], originals[len(shown) :], people) for label, x in pairs}
        made_of = {
            "stores": [describe_store(store) for store in stores.values()],
            "decoders": decoders,
            "files": [describe_file(arguments.people)],
            "command": command_line(__file__, argv),
            "environment": environment(),
        }
        told = {"pictures": len(judged), "side": int(originals.shape[1]), "rows": figures, "provenance": made_of}
        write_json(arguments.figures, told)
    print(f"look at {arguments.output}", file=sys.stderr)


def reduced(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures (n, P, P, 3) uint8 at `side` px, the mean of whole blocks of pixels: (n, side, side, 3), rounded.

    Raises:
        UsageError: P is no multiple of `side`.
    """
    n, size = pictures.shape[:2]
    if size % side:
        raise UsageError(f"pictures of {size} px cannot be shown at {side} px: give a divisor of {size}")
    blocks = pictures.reshape(n, side, size // side, side, size // side, 3)
    return np.rint(blocks.mean((2, 4))).astype(np.uint8)


def psnr_captions(originals: np.ndarray, pictures: np.ndarray, count: int) -> list[str]:
    """PSNR of the first so many pictures, in dB."""
    return [f"{value:.2f}" for value in psnr(pictures[:count], originals[:count])]


def quality(pictures: np.ndarray, originals: np.ndarray, people: Sequence[str]) -> dict[str, dict]:
    """Mean PSNR in dB and mean SSIM of pictures of different people, with intervals over them; JSON."""
    values = {
        "psnr": mean_psnr(psnr(pictures, originals), people),
        "ssim": mean_interval(ssim(pictures, originals), people),
    }
    return {name: asdict(value) for name, value in values.items()}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--images", output="a PNG file")
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
    parser.add_argument("--side", type=positive, help="reduce larger pictures to so many pixels")
    parser.add_argument("--psnr", action="store_true", help="write PSNR (dB) under each picture")
    parser.add_argument("--figures", type=Path, help="a JSON file for PSNR and SSIM over many people's pictures")
    parser.add_argument("--judged", type=positive, default=600, help="people in --figures, one picture each")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
