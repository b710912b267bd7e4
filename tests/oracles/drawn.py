"""The pictures that `headlines.py` measures: mean face, nearest and ridge by NumPy, and those that the package drew.

    people="--people peopleDevTrain.txt --exclude George_W_Bush"
    facedecode train emb --architecture nearest -o train-portraits $people
    facedecode train emb --architecture nearest -o test-portraits --people peopleDevTest.txt
    python tests/oracles/drawn.py emb train-portraits test-portraits -o drawn
    facedecode train emb --architecture ridge -o ridge $people
    facedecode invert drawn/templates.npy -o drawn/shipped
    facedecode invert drawn/templates.npy -o drawn/ridge --decoder ridge
    python tests/oracles/drawn.py --pictures drawn/shipped drawn/ridge
    python benchmarks/embed_pictures.py drawn/{mean-face,nearest,shipped,ridge}.npy \\
        --weights edgeface-xxs=edgeface_xxs.safetensors

A decoder of kind `nearest` holds portraits and their templates, so the package cuts the portraits and no more. NumPy's
ridge is compared by its pictures: a pixel that float32 rounds otherwise lets a comparison or two of thousands fall on
the other side of a threshold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from oracles import pictures
from oracles.stores import read_store

PENALTY = 0.01  # of ridge, times the templates' mean variance


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """A safetensors file: the length of a JSON header, the header, the bytes of the tensors."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    kinds = {"F32": "<f4", "U8": "u1", "F16": "<f2"}
    tensors = {}
    for name, about in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = (start + place for place in about["data_offsets"])
            tensors[name] = np.frombuffer(content[first:last], kinds[about["dtype"]]).reshape(about["shape"])
    return tensors


def portraits_of(decoder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Templates (n, d) and portraits uint8 (n, P, P, 3) that a decoder of kind `nearest` holds."""
    tensors = read_tensors(decoder / "decoder.safetensors")
    return tensors["templates"].astype(np.float64), np.moveaxis(tensors["portraits"], 1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path, nargs="*", help="a store, portraits to fit to, portraits to judge by")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--pictures", type=Path, nargs="+", help="folders of PNGs, one a template, by name")
    arguments = parser.parse_args()
    if arguments.pictures:
        for folder in arguments.pictures:
            np.save(
                folder.with_suffix(".npy"), np.stack([np.asarray(Image.open(f)) for f in sorted(folder.glob("*.png"))])
            )
        return
    folder, training, judged = arguments.inputs
    arguments.output.mkdir(exist_ok=True)
    store = read_store(folder)
    row_of = {template.tobytes(): row for row, template in enumerate(store.templates)}
    known, portraits = portraits_of(training)
    templates, originals = portraits_of(judged)
    rows = np.array([row_of[template.tobytes()] for template in templates])
    order = np.argsort(rows)  # by path
    templates, originals, rows = templates[order], originals[order], rows[order]
    np.save(arguments.output / "templates.npy", templates.astype(np.float32))
    np.save(arguments.output / "originals.npy", originals)

    mean = pictures.rounded(sum(portrait / 255.0 for portrait in portraits) / len(portraits))
    np.save(arguments.output / "mean-face.npy", np.broadcast_to(mean, originals.shape))
    nearest = [int(((known - template) ** 2).sum(1).argmin()) for template in templates]
    np.save(arguments.output / "nearest.npy", portraits[nearest])
    weight, bias = pictures.ridge(known, portraits, PENALTY)
    np.save(arguments.output / "ridge-by-numpy.npy", pictures.drawn(weight, bias, templates, originals.shape[1]))


if __name__ == "__main__":
    main()
