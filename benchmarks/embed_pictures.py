"""The templates of decoders' pictures, for `tests/oracles/headlines.py`, which computes all figures from them.

    python benchmarks/embed_pictures.py drawn/ridge.npy … --weights edgeface-xxs=edgeface_xxs.safetensors

writes ridge.dlib-resnet.npy, ridge.edgeface-xxs.npy … beside the pictures: float32 (n, dim) of pictures (n, P, P, 3),
uint8, in the portrait's frame, without a new detection.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import DistinctEmbedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    arguments = parser.parse_args()
    recognizers = {"dlib-resnet": load_recognizer("dlib-resnet")}
    for pair in arguments.weights:
        name, _, file = pair.partition("=")
        recognizers[name] = load_recognizer(name, Path(file))
    for path in arguments.pictures:
        pictures = np.load(path)
        for name, recognizer in recognizers.items():
            embed = DistinctEmbedder(recognizer)
            np.save(path.with_suffix(f".{name}.npy"), np.concatenate([embed(block) for block in blocks(pictures)]))
            print(path, name, len(pictures), flush=True)


def blocks(pictures: np.ndarray, size: int = 256) -> list[np.ndarray]:
    return [pictures[start : start + size] for start in range(0, len(pictures), size)]


if __name__ == "__main__":
    main()
