"""What one person's clusters differ in, and how near their centroids' faces are: numbers to the paper's Fig. 14.

    facedecode cluster emb -o bush --person George_W_Bush -k 10
    python examples/fig14.py emb --clusters bush -o bush.csv

A row of the CSV is an attribute that is measured of the images (`facedecode.attributes.measured`). `explained` is the
share of its variance that lies between clusters (eta squared); `by_chance` what it is on average when the clusters, of
the same sizes, are drawn at random, and `p` how often they then explain as much or more. `lowest` and `highest` are the
means of the two clusters that lie furthest apart, `deviation` is the attribute's standard deviation. On stdout, as one
JSON object: how far centroids lie from each other, in units of the same among members and among everybody in the store,
and the same of the decoder's pictures (root mean square of 8-bit values), centroids and members. Clusters of fewer
members than --least, which are single odd images rather than a manner of looking, take no part in any of it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arguments import Parser, positive, refuse_existing, run

from facedecode.attributes.measured import ATTRIBUTES, SIDE, measure_faces, measure_pictures
from facedecode.decoders import Decoder, load_decoder
from facedecode.errors import BadInput
from facedecode.files import write_text
from facedecode.store import Store, require_same_recognizer
from facedecode.store.grouped import MEMBERS
from facedecode.store.images import read_portraits
from facedecode.templates.agglomerative import condensed_distances

SAMPLE = 2_000  # templates of everybody, of whom distances are taken
COLUMNS = ("attribute", "explained", "by_chance", "p", "lowest", "highest", "deviation")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    refuse_existing(arguments.output, arguments.overwrite)
    store, clusters = Store.open(arguments.store), Store.open(arguments.clusters)
    if clusters.manifest.settings.get("source") != store.fingerprint:
        raise BadInput(f"{clusters.folder}: not clusters of {store.folder}; cluster it again")
    rows, labels, shown = members(clusters.folder / MEMBERS, arguments.least)
    name = arguments.decoder or store.recognizer.name
    decoder = load_decoder(name, arguments.device)
    decoder.require_recognizer(store.recognizer, f"the decoder {name}")
    require_same_recognizer(clusters.recognizer, store.recognizer, str(store.folder))
    table = store.rows().take(rows).to_pylist()
    values = attributes(table, arguments.images or store.root)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for attribute, own in values.items():
        writer.writerow([attribute, *(f"{value:.4g}" for value in differences(own, labels, arguments.repetitions))])
    write_text(arguments.output, text.getvalue())
    print(json.dumps(nearness(store, clusters.take(shown), rows, decoder), sort_keys=True))


def members(path: Path, least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the source store and their clusters, counted anew from 0, int64 (n,) each; which clusters, int64 (k,).

    least: clusters of fewer members are left out. BadInput if that leaves fewer than two.
    """
    with path.open(encoding="utf-8", newline="") as file:
        found = [(int(row["row"]), int(row["group"])) for row in csv.DictReader(file)]
    rows, groups = np.array(found, np.int64).T
    kept = np.bincount(groups)[groups] >= least
    shown, labels = np.unique(groups[kept], return_inverse=True)
    if len(shown) < 2:
        raise BadInput(f"{path}: {len(shown)} clusters of {least} members or more; two are needed (--least)")
    return rows[kept], labels, shown


def attributes(table: list[dict], root: Path) -> dict[str, np.ndarray]:
    """Every attribute of a store's rows, float64 (n,) each."""
    landmarks = np.array([row["landmarks"] for row in table], np.float64).reshape(-1, 5, 2)
    probabilities = np.array([row["probability"] for row in table], np.float64)
    portraits = read_portraits(table, root, SIDE)
    return {
        name: measure_pictures(name, portraits)
        if own.of_faces is None
        else measure_faces(name, landmarks, probabilities)
        for name, own in ATTRIBUTES.items()
    }


def differences(values: np.ndarray, labels: np.ndarray, repetitions: int) -> tuple[float, ...]:
    """COLUMNS after the first, of one attribute (n,) and clusters (n,)."""
    generator = np.random.default_rng(0)
    found = explained(values, labels)
    drawn = np.array([explained(values, generator.permutation(labels)) for _ in range(repetitions)])
    p = (1 + np.count_nonzero(drawn >= found)) / (1 + repetitions)
    means = np.bincount(labels, values) / np.bincount(labels)
    return found, float(drawn.mean()), p, float(means.min()), float(means.max()), float(values.std())


def explained(values: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance that lies between clusters; 0 where nothing varies."""
    sizes = np.bincount(labels)
    means = np.bincount(labels, values) / sizes
    total = ((values - values.mean()) ** 2).sum()
    return float((sizes * (means - values.mean()) ** 2).sum() / total) if total else 0.0


def nearness(store: Store, centroids: np.ndarray, rows: np.ndarray, decoder: Decoder) -> dict[str, float]:
    """Mean distances of centroids (k, dim), by the recognizer's own, and differences of their pictures."""
    metric = "cosine" if store.score == "cosine" else "euclidean"
    spread = np.unique(np.linspace(0, len(store) - 1, SAMPLE).round().astype(np.int64))
    templates = {"centroids": centroids, "members": store.take(rows), "everybody": store.take(spread)}
    distances = {name: float(condensed_distances(own, metric).mean()) for name, own in templates.items()}
    pictures = {name: picture_difference(decoder.decode(templates[name])) for name in ("centroids", "members")}
    return {
        "centroids_to_members": distances["centroids"] / distances["members"],
        "centroids_to_everybody": distances["centroids"] / distances["everybody"],
        "members_to_everybody": distances["members"] / distances["everybody"],
        "picture_difference_centroids": pictures["centroids"],
        "picture_difference_members": pictures["members"],
    }


def picture_difference(pictures: np.ndarray) -> float:
    """Root mean square difference over all pairs of pictures (n, P, P, 3) uint8: that of their variance."""
    count = len(pictures)
    variance = pictures.astype(np.float32).var(axis=0, dtype=np.float64).mean()
    return float(np.sqrt(2 * variance * count / (count - 1)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--images", output="a CSV file")
    parser.add_argument("store", type=Path, help="the store that was clustered, with its images")
    parser.add_argument("--clusters", type=Path, required=True, help="what 'facedecode cluster' made of it")
    parser.add_argument("--decoder", help="its folder; the shipped one for the store's recognizer if not given")
    parser.add_argument("--least", type=positive, default=5, help="leave out clusters of fewer members (default 5)")
    parser.add_argument("--repetitions", type=positive, default=2_000, help="clusters drawn at random (default 2,000)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
