"""Agglomerative clustering of templates: time, peak memory and the partition, against scikit-learn.

    python benchmarks/clustering.py
    python benchmarks/clustering.py --count 5000 --linkage average

Both sides cluster the same synthetic templates (persons' means and noise), in a process of their own: opening nothing,
merging and cutting. Peak memory is the highest resident less that after imports and data (Linux). What people read goes
to stderr, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

CLUSTERS = 100


def templates(count: int, dim: int) -> np.ndarray:
    """float32 (count, dim): 20 of each person."""
    generator = np.random.default_rng(0)
    persons = generator.standard_normal((-(-count // 20), dim), np.float32)
    return persons.repeat(20, axis=0)[:count] + generator.standard_normal((count, dim), np.float32)


def resident(field: str) -> int:
    """VmRSS, what is resident now, or VmHWM, the most that was: bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def run(side: str, count: int, dim: int, method: str, metric: str) -> dict:
    """Cluster in this process."""
    from sklearn.cluster import AgglomerativeClustering

    from facedecode.templates.agglomerative import cut, linkage

    values = templates(count, dim)
    linkage(values[:50], method, metric)  # imports what it needs
    before, start = resident("VmRSS"), time.perf_counter()
    if side == "ours":
        labels = cut(linkage(values, method, metric), CLUSTERS)
    else:
        labels = AgglomerativeClustering(CLUSTERS, metric=metric, linkage=method).fit_predict(values)
    seconds, peak = time.perf_counter() - start, resident("VmHWM")
    return {"seconds": seconds, "peak": peak - before, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--linkage", nargs="*", default=["ward", "average"])
    parser.add_argument("--metric", default="euclidean", help="of both; scikit-learn's ward knows euclidean only")
    options = parser.parse_args()
    from sklearn.metrics import adjusted_rand_score

    spawn, result = multiprocessing.get_context("spawn"), {"count": options.count, "dim": options.dim}
    for method in options.linkage:
        sides = {}
        for side in ("ours", "scikit-learn"):
            with spawn.Pool(1) as pool:
                sides[side] = pool.apply(run, (side, options.count, options.dim, method, options.metric))
        own, other = sides["ours"], sides["scikit-learn"]
        result[method] = {
            "seconds": {side: round(found["seconds"], 2) for side, found in sides.items()},
            "peak_mb": {side: round(found["peak"] / 1e6) for side, found in sides.items()},
            "time_ratio": round(own["seconds"] / other["seconds"], 3),
            "memory_ratio": round(own["peak"] / other["peak"], 3),
            "adjusted_rand": adjusted_rand_score(own["labels"], other["labels"]),
        }
        print(f"{method}: {result[method]}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
