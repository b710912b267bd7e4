"""Fitting a map of templates: peak memory from stores on disk, time against lstsq, growth with their number.

    python benchmarks/mapping_fit.py
    python benchmarks/mapping_fit.py --count 20000 --rounds 1

Memory: two stores of --count synthetic templates are written to a temporary folder (4 GB for a million of 512 numbers,
deleted afterwards) and fitted as `facedecode fit-mapping --perturbed` does, opening and joining them included, in a
process of its own; the peak is the highest resident memory less that after the imports (Linux). Against lstsq: the same
rows in memory, float32 for us and, converted before the clock starts, float64 for lstsq; they take turns. Growth: the
sums and the solution of blocks in memory, of a quarter, a half and all of --count. What people read goes to stderr, one
JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facedecode.identity import RecognizerId
from facedecode.mapping.fit import Joined, fit_store_mapping
from facedecode.mapping.jobs import Method
from facedecode.mapping.least_squares import GramAccumulator, Solution, solve
from facedecode.store import Store, StoreWriter

BLOCK = 4096  # templates: a store's shard
PER_PERSON = 20
RECOGNIZER = RecognizerId("synthetic", "0" * 64, score="cosine")


def pairs(count: int, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of perturbed and original templates, float32 (n, dim) each: originals, mixed, shifted, with noise."""
    generator = np.random.default_rng(0)
    mix = (np.eye(dim) + 0.5 * generator.normal(size=(dim, dim)) / np.sqrt(dim)).astype(np.float32)
    for start in range(0, count, BLOCK):
        original = generator.standard_normal((min(BLOCK, count - start), dim), np.float32)
        noise = generator.standard_normal(original.shape, np.float32)
        yield original @ mix + np.float32(0.3) + np.float32(0.1) * noise, original


def write_stores(folder: Path, count: int, dim: int) -> None:
    """The stores `emb` and `turned`, of made-up images."""
    manifest = {"score": "cosine", "precision": "fp32", "l2_normalized": False}
    perturbed_by = manifest | {"transform": "rotate30"}
    made = {"made": f"{count} x {dim}"}
    root = folder / "images"
    with (
        StoreWriter(folder / "emb", made, root, RECOGNIZER, BLOCK, manifest=manifest) as plain,
        StoreWriter(folder / "turned", made, root, RECOGNIZER, BLOCK, manifest=perturbed_by) as turned,
    ):
        done = 0
        for perturbed, original in pairs(count, dim):
            numbers = range(done, done + len(original))
            rows = [
                {"path": f"P{k // PER_PERSON}/{k}.jpg", "identity": f"P{k // PER_PERSON}", "sha256": f"{k:064x}"}
                for k in numbers
            ]
            done += len(original)
            plain.append(original, rows, [], done)
            turned.append(perturbed, rows, [], done)
        plain.finish()
        turned.finish()


def resident(field: str) -> int:
    """VmRSS, what is resident now, or VmHWM, the most that was: bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def fit_from_disk(folder: Path) -> dict:
    """Open, join, sum and solve, in this process: seconds and memory."""
    before, start = resident("VmRSS"), time.perf_counter()
    store = Store.open(folder / "emb")
    mapping = fit_store_mapping(store, Joined(store, Store.open(folder / "turned")), folder / "map", Method())
    seconds, peak = time.perf_counter() - start, resident("VmHWM")
    return {
        "templates": len(store),
        "seconds": round(seconds, 2),
        "after_imports_mb": round(before / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
        "peak_above_imports_mb": round((peak - before) / 1e6, 1),
        "displacement_left_of_held_out": mapping.report["held_out"]["relative"],
    }


def ours(blocks: Iterator[tuple[np.ndarray, np.ndarray]], dim: int) -> Solution:
    """Sums of blocks, and the map that follows from them."""
    sums = GramAccumulator(dim, dim)
    for perturbed, original in blocks:
        sums.add(perturbed, original)
    return solve(sums, Method())


def against_lstsq(count: int, dim: int, rounds: int) -> dict:
    """Medians of both, their ratio, and how far the solutions are apart."""
    perturbed, original = (np.concatenate(side) for side in zip(*pairs(count, dim), strict=True))
    inputs, outputs = np.column_stack([perturbed, np.ones(count)]).astype(np.float64), original.astype(np.float64)
    seconds: dict[str, list[float]] = {"ours": [], "lstsq": []}
    for _ in range(rounds):  # in turn, so that a busy moment hits both
        start = time.perf_counter()
        solution = ours(iter([(perturbed, original)]), dim)
        seconds["ours"].append(time.perf_counter() - start)
        start = time.perf_counter()
        reference = np.linalg.lstsq(inputs, outputs, rcond=None)[0].T
        seconds["lstsq"].append(time.perf_counter() - start)
    found = np.column_stack([solution.weight, solution.bias])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "templates": count,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["lstsq"] / medians["ours"], 2),
        "largest_relative_difference": float(np.abs(found - reference).max() / np.abs(reference).max()),
    }


def growth(count: int, dim: int, rounds: int) -> dict:
    """Median seconds at three sizes, and how much longer four times as many take."""
    kept = list(pairs(8 * BLOCK, dim))

    def blocks(size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, start in enumerate(range(0, size, BLOCK)):
            perturbed, original = kept[number % len(kept)]
            yield perturbed[: size - start], original[: size - start]

    sizes, found = [count // 4, count // 2, count], {}
    for size in sizes:
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            ours(blocks(size), dim)
            taken.append(time.perf_counter() - start)
        found[size] = statistics.median(taken)
    return {
        "seconds": {str(size): round(value, 3) for size, value in found.items()},
        "four_times_as_many_take": round(found[sizes[2]] / found[sizes[0]], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="templates on disk (default 1,000,000)")
    parser.add_argument("--compare", type=int, default=100_000, help="templates for lstsq, which holds all (100,000)")
    parser.add_argument("--dim", type=int, default=512, help="numbers of a template (default 512)")
    parser.add_argument("--rounds", type=int, default=3, help="turns, of which the median is taken (default 3)")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder (default: the system's)")
    options = parser.parse_args()

    result: dict = {"dim": options.dim}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        with spawn.Pool(1) as pool:
            pool.apply(write_stores, (Path(name), options.count, options.dim))
        with spawn.Pool(1) as pool:
            result["from_disk"] = pool.apply(fit_from_disk, (Path(name),))
    own = result["from_disk"]
    print(
        f"{own['templates']:,} templates from disk: {own['seconds']} s, peak {own['peak_above_imports_mb']} MB above "
        f"the {own['after_imports_mb']} MB after imports",
        file=sys.stderr,
    )
    own = result["lstsq"] = against_lstsq(min(options.compare, options.count), options.dim, options.rounds)
    print(
        f"{own['templates']:,} templates: lstsq takes {own['ratio']} times as long ({own['seconds']}), solutions "
        f"differ by {own['largest_relative_difference']:.1e}",
        file=sys.stderr,
    )
    own = result["growth"] = growth(options.count, options.dim, options.rounds)
    print(f"seconds by size: {own['seconds']}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
