"""The pictures that `headlines.py` measures: mean face, nearest and ridge by NumPy, the shipped decoder's as files.

    facedecode train emb --architecture nearest -o train-portraits --people peopleDevTrain.txt --exclude George_W_Bush
    facedecode train emb --architecture nearest -o test-portraits --people peopleDevTest.txt
    python tests/oracles/drawn.py emb emb-edgeface train-portraits test-portraits -o drawn    # and drawn/templates.npy
    facedecode invert drawn/templates.npy -o drawn/shipped
    python tests/oracles/drawn.py --pictures drawn/shipped                             # drawn/shipped.npy

A decoder of kind `nearest` holds portraits and their templates, so the package cuts the portraits and no more.
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
    parser.add_argument("inputs", type=Path, nargs="*", help="two stores, portraits to fit to, portraits to judge by")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--pictures", type=Path, help="a folder of PNGs, one a template, in the order of their names")
    arguments = parser.parse_args()
    if arguments.pictures:
        files = sorted(arguments.pictures.rglob("*.png"))
        np.save(arguments.pictures.with_suffix(".npy"), np.stack([np.asarray(Image.open(file)) for file in files]))
        return
    folder, other_folder, training, judged = arguments.inputs
    arguments.output.mkdir(exist_ok=True)
    store, other = read_store(folder), read_store(other_folder)
    row_of = {template.tobytes(): row for row, template in enumerate(store.templates)}
    known, portraits = portraits_of(training)
    templates, originals = portraits_of(judged)
    rows = np.array([row_of[template.tobytes()] for template in templates])
    order = np.argsort(rows)  # by path
    templates, originals, rows = templates[order], originals[order], rows[order]
    np.save(arguments.output / "templates.npy", templates.astype(np.float32))
    np.save(arguments.output / "originals.npy", originals)
    (arguments.output / "paths.json").write_text(json.dumps([store.paths[row] for row in rows]))

    mean = pictures.rounded(sum(portrait / 255.0 for portrait in portraits) / len(portraits))
    np.save(arguments.output / "mean-face.npy", np.broadcast_to(mean, originals.shape))
    nearest = [int(((known - template) ** 2).sum(1).argmin()) for template in templates]
    np.save(arguments.output / "nearest.npy", portraits[nearest])

    def save_ridge(name: str, of_known: np.ndarray, of_judged: np.ndarray) -> None:
        weight, bias = pictures.ridge(of_known, portraits, PENALTY)
        np.save(arguments.output / f"{name}.npy", pictures.drawn(weight, bias, of_judged, originals.shape[1]))

    save_ridge("ridge", known, templates)
    if store.paths != other.paths:
        raise SystemExit("the two stores are not of the same images")
    save_ridge("edgeface-ridge", other.templates[[row_of[t.tobytes()] for t in known]], other.templates[rows])


if __name__ == "__main__":
    main()
