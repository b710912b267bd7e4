"""Add to a decoder the list of the pictures that it was trained on, from a store of them.

    python examples/known_pictures.py emb facedecode/weights/dlib-resnet

`facedecode train` writes the list by itself. This is for decoders made before it did, as the one that is shipped: the
pictures are those of the people whom the decoder's record names, in a store of the same recognizer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arguments import run

from facedecode.decoders import load_decoder
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import JudgedImages
from facedecode.files import write_json
from facedecode.known_pictures import FILE
from facedecode.records import read_json
from facedecode.store import Store


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("store", type=Path, help="of the images that the decoder was trained on")
    parser.add_argument("decoder", type=Path, help="its folder; the list is written there")
    arguments = parser.parse_args(argv)
    store, decoder = Store.open(arguments.store), load_decoder(arguments.decoder)
    decoder.require_recognizer(store.recognizer, f"the decoder {arguments.decoder}")
    training = decoder.provenance.training
    people = set(training.people or ())
    images = JudgedImages.of_store(store, np.flatnonzero([name in people for name in store.identities()]))
    if absent := people - {row["identity"] for row in images.rows}:
        raise BadInput(f"{store.folder}: lacks {len(absent)} of the decoder's people ({min(absent)} …)")
    if training.images is not None and abs(training.images - len(images.rows)) > 0.01 * training.images:
        raise BadInput(f"{store.folder}: {len(images.rows)} images of them, and {training.images} were trained on")
    pictures = images.known.pictures
    card = arguments.decoder / "decoder.json"
    write_json(card, read_json(card) | {"known_pictures": pictures.write(arguments.decoder / FILE)})
    print(f"{arguments.decoder / FILE}: {len(images.rows)} pictures of {len(people)} people", file=sys.stderr)


if __name__ == "__main__":
    run(main)
