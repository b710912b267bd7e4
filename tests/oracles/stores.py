"""What a store, and the files of LFW's protocols, hold: read by NumPy, and rows by pyarrow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet


@dataclass(frozen=True)
class Images:
    """Images of known people, in the order of their paths.

    templates: float64 (n, d), NaN where an image gave none. paths, people: of each image.
    """

    templates: np.ndarray
    paths: list[str]
    people: list[str]
    score: str

    def failed(self) -> np.ndarray:
        return np.isnan(self.templates).any(1)

    def of(self, names: set[str]) -> Images:
        """Those of some people."""
        rows = [row for row, name in enumerate(self.people) if name in names]
        return Images(self.templates[rows], [self.paths[r] for r in rows], [self.people[r] for r in rows], self.score)


def read_store(folder: Path | str) -> Images:
    """All images of a store, those that gave no template among them; a person is the folder of the image."""
    folder = Path(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    shards, paths, people = [], [], []
    for shard in manifest["shards"]:
        shards.append(np.load(folder / shard["file"], allow_pickle=False))
        rows = parquet.read_table((folder / shard["file"]).with_suffix(".parquet")).to_pylist()
        paths += [row["path"] for row in rows]
        people += [row["identity"] for row in rows]
    templates = np.concatenate(shards).astype(np.float64)
    failures = folder / "failures.jsonl"
    for line in failures.read_text().splitlines() if failures.exists() else []:
        path = json.loads(line)["path"]
        paths.append(path)
        people.append(path.split("/")[-2])
        templates = np.vstack([templates, np.full(templates.shape[1], np.nan)])
    order = sorted(range(len(paths)), key=lambda row: paths[row])
    return Images(templates[order], [paths[r] for r in order], [people[r] for r in order], manifest["score"])


def read_people(file: Path | str) -> list[set[str]]:
    """The sets of people of `people.txt`, or the one of `peopleDev….txt`: a count, then that many lines, for each."""
    lines = Path(file).read_text().splitlines()
    sets: list[set[str]] = []
    place = 1 if "\t" not in lines[1] else 0  # the number of sets stands before the first one
    while place < len(lines):
        count = int(lines[place])
        sets.append({line.split("\t")[0] for line in lines[place + 1 : place + 1 + count]})
        place += 1 + count
    return sets


def read_pairs(file: Path | str) -> list[tuple[str, str, int]]:
    """LFW's `pairs.txt`: (path, path, fold) of each pair, in order: a fold's mated ones, then its others."""
    lines = Path(file).read_text().splitlines()
    folds, mated = (int(number) for number in lines[0].split("\t"))

    def path(name: str, number: str) -> str:
        return f"{name}/{name}_{int(number):04d}.jpg"

    pairs = []
    for place, line in enumerate(lines[1:]):
        cells = line.split("\t")
        one, other = (cells[:2], cells[2:]) if len(cells) == 4 else (cells[:2], [cells[0], cells[2]])
        pairs.append((path(*one), path(*other), place // (2 * mated)))
    if len(pairs) != folds * 2 * mated:
        raise ValueError(f"{file}: {len(pairs)} pairs, not {folds * 2 * mated}")
    return pairs
