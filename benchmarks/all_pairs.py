"""Verification figures on all pairs of a store, stage by stage, against the score matrix row by row in NumPy.

    python benchmarks/all_pairs.py STORE
    python benchmarks/all_pairs.py --people 1000 --images 4

Ours: the scores of all pairs, the exact ROC curve, the equal error rate, TAR at each FAR with intervals by person,
and the interval of the equal error rate. Row by row: for each template its scores with all that follow, in float32;
then the same figures in plain NumPy from one sort of all scores; and of the bootstrap a single replicate, whose time
stands for all of them in the last ratio. Each side runs in a process of its own, so that peak memory is its own.
What people read goes to stderr, one JSON object with the seconds and the figures of both to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facedecode.statistics.bootstrap import person_draws
from facedecode.statistics.pair_rates import Trials, rates_at_fmr, resampled_eer
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import encode_people, mated_non_mated_scores
from facedecode.statistics.verification import eer, equal_errors, false_accepts_allowed, roc
from facedecode.store import Store


class Stages:
    """Wall and CPU seconds (of all threads) by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        self.seconds[name] = {"wall": round(wall, 2), "cpu": round(cpu, 2)}

    def total(self, kind: str, *, without: tuple[str, ...] = ()) -> float:
        return sum(seconds[kind] for name, seconds in self.seconds.items() if name not in without)


def read(options: argparse.Namespace) -> tuple[np.ndarray, list[str], str]:
    """Templates, identities and the kind of score, from the store or drawn at random."""
    if options.store:
        store = Store.open(options.store)
        return store.templates(), store.rows()["identity"].to_pylist(), store.score
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(options.people), options.images)
    centers = generator.normal(size=(options.people, 128))
    templates = centers[codes] + 0.7 * generator.normal(size=(len(codes), 128))
    return templates.astype(np.float32), [f"{code:06d}" for code in codes], "negative-euclidean"


def ours(templates: np.ndarray, identities: list[str], kind: str, options: argparse.Namespace, stage: Stages) -> dict:
    with stage("scores"):
        pairs = mated_non_mated_scores(templates, identities, kind)
    with stage("curve"):
        roc(pairs.mated, pairs.non_mated)
    with stage("equal error rate"):
        rate = eer(pairs.mated, pairs.non_mated).value
    trials, non_mated = Trials(pairs.mated, pairs.mated_people), NonMated.from_all_pairs(pairs)
    settings = {"people": len(pairs.people), "repetitions": options.repetitions}
    groups = {"pairs": trials, "people": trials.person_weighted()}
    with stage("rates with intervals"):
        rates = rates_at_fmr(groups, non_mated, options.fars, **settings)
    with stage("interval of the equal error rate"):
        interval = resampled_eer(trials, non_mated, **settings).estimate()
    return {
        "mated": len(pairs.mated),
        "non_mated": len(pairs.non_mated),
        "eer": rate,
        "eer_interval": [interval.low, interval.high],
        "tar": [rate.value for rate in rates["pairs"]],
        "tar_by_person": [rate.value for rate in rates["people"]],
        "tar_intervals": [[rate.low, rate.high] for rate in rates["pairs"]],
        "tar_intervals_by_person": [[rate.low, rate.high] for rate in rates["people"]],
    }


def row_by_row(
    templates: np.ndarray, identities: list[str], kind: str, options: argparse.Namespace, stage: Stages
) -> dict:
    _, codes = encode_people(identities)
    with stage("scores"):
        mated, non_mated = plain_scores(templates, codes, kind)
    with stage("curve"):
        order = np.argsort(-np.concatenate([mated, non_mated]), kind="stable")
        is_mated = order < len(mated)
        scores = np.concatenate([mated, non_mated])[order]
        last = np.flatnonzero(np.append(np.diff(scores) != 0, True))  # ties are not split
        tar = np.append(0, np.cumsum(is_mated)[last] / len(mated))
        fmr = np.append(0, np.cumsum(~is_mated)[last] / len(non_mated))
    with stage("equal error rate"):
        place, part = equal_errors(fmr, 1 - tar)
        rate = fmr[place] + part * (fmr[place + 1] - fmr[place])
    with stage("rates"):
        found = [tar[fmr <= wanted].max() for wanted in options.fars]
    with stage("one replicate"):
        left, right = (side[order] for side in plain_people(codes))
        draw = person_draws(int(codes.max()) + 1, 1)[0].astype(np.int32)
        weights = draw[left]
        np.multiply(weights, draw[right], out=weights, where=~is_mated)
        total = int(weights[~is_mated].sum())
        sums = np.cumsum(np.where(is_mated, 0, weights))
        for wanted in options.fars:
            place = np.searchsorted(sums, false_accepts_allowed(wanted, total), side="right")
            weights[:place][is_mated[:place]].sum() / weights[is_mated].sum()
    return {"mated": len(mated), "non_mated": len(non_mated), "eer": float(rate), "tar": [float(x) for x in found]}


def plain_scores(templates: np.ndarray, codes: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The obvious loop."""
    if kind == "cosine":
        templates = templates / np.linalg.norm(templates, axis=1, keepdims=True)
    mated, non_mated = [], []
    for i in range(len(templates)):
        others = templates[i + 1 :]
        scores = others @ templates[i] if kind == "cosine" else -np.linalg.norm(others - templates[i], axis=1)
        same = codes[i + 1 :] == codes[i]
        mated.append(scores[same])
        non_mated.append(scores[~same])
    return np.concatenate(mated), np.concatenate(non_mated)


def plain_people(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The persons of the pairs that `plain_scores` makes, mated ones first."""
    narrow = codes.astype(np.int32)
    left = np.repeat(narrow, np.arange(len(codes))[::-1])
    right = np.concatenate([narrow[i + 1 :] for i in range(len(codes))])
    same = left == right
    return np.concatenate([left[same], left[~same]]), np.concatenate([right[same], right[~same]])


SIDES = {"ours": ours, "row by row": row_by_row}


def run(side: str, options: argparse.Namespace) -> dict:
    """One side in this process: seconds of its stages, its figures, its peak memory."""
    stage = Stages()
    templates, identities, kind = read(options)
    figures = SIDES[side](templates, identities, kind, options, stage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    totals = {kind: round(stage.total(kind), 2) for kind in ("wall", "cpu")}
    return {"stages": stage.seconds, "total": totals, "peak_gib": round(peak / 2**30, 2), "figures": figures}


def ratios(ours: dict, plain: dict, repetitions: int) -> dict[str, dict[str, float]]:
    """How many times as long row by row takes, by wall and by CPU time."""
    found = {}
    for kind in ("wall", "cpu"):
        mine, others = ({name: x[kind] for name, x in side["stages"].items()} for side in (ours, plain))
        scores, replicate = others["scores"], others["one replicate"]
        whole = sum(mine.values())
        found[kind] = {
            "scores": scores / mine["scores"],
            "scores and curve": (scores + others["curve"]) / (mine["scores"] + mine["curve"]),
            "the whole, with a single replicate": sum(others.values()) / whole,
            "the whole, with every replicate": (sum(others.values()) + (repetitions - 1) * replicate) / whole,
        }
    return {kind: {name: round(ratio, 2) for name, ratio in values.items()} for kind, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?", help="a store of templates (default: random templates)")
    parser.add_argument("--people", type=int, default=1000, help="of the random templates (default 1000)")
    parser.add_argument("--images", type=int, default=4, help="of each (default 4)")
    parser.add_argument("--fars", type=float, nargs="+", default=[0.01, 0.001, 0.0001], help="false match rates")
    parser.add_argument("--repetitions", type=int, default=1000, help="bootstrap replicates (default 1000)")
    parser.add_argument("--side", choices=SIDES, action="append", help="only this side")
    options = parser.parse_args()

    found = {}
    for side in options.side or SIDES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[side] = pool.apply(run, (side, options))
        for name, seconds in found[side]["stages"].items():
            print(f"{side}: {name} {seconds['wall']:.1f} s ({seconds['cpu']:.1f} s CPU)", file=sys.stderr)
        total, peak = found[side]["total"], found[side]["peak_gib"]
        print(f"{side}: {total['wall']:.1f} s in all ({total['cpu']:.1f} s CPU), peak {peak} GiB", file=sys.stderr)
    if len(found) == 2:
        found["ratios"] = ratios(*found.values(), options.repetitions)
        print(f"row by row takes so many times as long: {found['ratios']}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
