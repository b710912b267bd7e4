"""What clusters look like: the face of each centroid beside the members nearest to it (the paper's Fig. 14)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facedecode.decoders import Decoder
from facedecode.pictures.figures import picture_grid
from facedecode.store import Store
from facedecode.store.images import read_portraits
from facedecode.templates.cluster_description import Clustered

SHOWN = 12  # clusters
MEMBERS = 8


def cluster_figure(
    found: Clustered, store: Store, root: Path, decoder: Decoder, shown: int = SHOWN, members: int = MEMBERS
) -> np.ndarray:
    """A row a cluster, the largest first: what the decoder draws of its centroid, then its members' portraits.

    Args:
        root: where the store's images are.

    Returns:
        (H, W, 3) uint8.

    Raises:
        BadInput: images are missing, or a member has none.
    """
    drawn = decoder.decode(found.centroids[:shown])
    side = drawn.shape[1]
    chosen = [group.members[:members] for group in found.groups[:shown]]
    rows = store.rows()
    portraits = read_portraits(rows.take(np.concatenate(chosen)).to_pylist(), root, side)
    parts = np.split(portraits, np.cumsum([len(own) for own in chosen])[:-1])
    # A white picture sets the centroids off.
    gap = np.full((1, side, side // 8, 3), 255, np.uint8)
    lines = [np.concatenate([drawn[i], gap[0], *own], axis=1)[None] for i, own in enumerate(parts)]
    width = max(line.shape[2] for line in lines)
    lines = [np.pad(line, ((0, 0), (0, 0), (0, width - line.shape[2]), (0, 0)), constant_values=255) for line in lines]
    labels = [f"{len(group.members):,}" for group in found.groups[:shown]]
    return picture_grid(lines, labels)
