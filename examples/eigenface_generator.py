"""A generator for `facedecode train --architecture latent` where no GAN is at hand: eigenfaces, exported.

    python examples/eigenface_generator.py emb -o eigenfaces.pt2 --exclude George_W_Bush \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt
    facedecode train emb -o latent --architecture latent --generator eigenfaces.pt2 --generator-range 0,1 \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt --samples 2000 --image-size 64

The mean portrait plus a sum of the principal components of portraits (Turk and Pentland 1991), each weighted by its
latent times its standard deviation: pictures of standard normal latents have the portraits' mean and, in so many
directions, their covariance. Portraits are the decoder's own frame, and `--people` are those whom it has seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from arguments import Parser, positive, refuse_existing, run
from torch import Tensor, nn

from facedecode.annotations.protocols import select_people
from facedecode.files import atomic_write
from facedecode.store import Store
from facedecode.store.images import read_portraits


class Eigenfaces(nn.Module):
    """Latents (n, k) → RGB pictures (n, 3, S, S), black 0 and white 1."""

    def __init__(self, portraits: np.ndarray, components: int):
        """portraits: (m, S, S, 3) uint8 RGB, more than `components`."""
        super().__init__()
        pixels = torch.from_numpy(portraits).permute(0, 3, 1, 2).flatten(1).float() / 255
        mean = pixels.mean(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # the sketch of the decomposition is random
            _, values, vectors = torch.pca_lowrank(pixels - mean, components, center=False)
        side = portraits.shape[1]
        self.register_buffer("mean", mean.view(3, side, side))
        scaled = vectors.T * (values / len(portraits) ** 0.5)[:, None]
        self.register_buffer("components", scaled.reshape(components, 3, side, side).contiguous())

    def forward(self, latents: Tensor) -> Tensor:
        return self.mean + torch.einsum("nk,kcij->ncij", latents, self.components)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    refuse_existing(arguments.output, arguments.overwrite)
    store = Store.open(arguments.store)
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], arguments.people, tuple(arguments.exclude))
    portraits = read_portraits([rows[i] for i in chosen], arguments.images or store.root, arguments.size)
    module = Eigenfaces(portraits, min(arguments.components, len(portraits) - 1)).eval()
    count = len(module.components)
    program = torch.export.export(module, (torch.zeros(2, count),), dynamic_shapes=({0: torch.export.Dim("n")},))
    with atomic_write(arguments.output) as file:
        torch.export.save(program, file)
    said = f"{count} numbers → {arguments.size} px, from {len(portraits)} portraits"
    print(f"{arguments.output}: {said}", file=sys.stderr)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--images", output="a .pt2 file")
    parser.add_argument("store", type=Path, help="made by 'facedecode extract'; its images are found through it")
    parser.add_argument("--people", type=Path, help="of these people only")
    parser.add_argument("--exclude", action="append", default=[], help="leave out a person (repeatable)")
    parser.add_argument("--components", type=positive, default=64)
    parser.add_argument("--size", type=positive, default=64, help="side of a picture, pixels")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
