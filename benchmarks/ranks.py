"""Throughput of `extract` and of a decoder's training in one process and in two, with equal threads for each process.

    python benchmarks/ranks.py LFW/images [--count 120] [--steps 8] [--threads 1] [--rounds 2]

Both sides take turns in one run, so that a busy moment hits both. The time is that of the work alone: processes have
met, networks are loaded, and one chunk, or one step, has warmed them up. Two processes can be twice as fast only where
there are twice the threads in free cores. What people read goes to stderr, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from facedecode.ranks import Meeting, Ranks


def work(where: tuple, options: argparse.Namespace, pipe: multiprocessing.connection.Connection) -> None:
    """One process: says how long each kind of work took, by the clock of the first."""
    import torch

    torch.set_num_threads(options.threads)
    ranks = Ranks(*where)
    with ranks.joined():
        pipe.send({"extract": time_extraction(ranks, options), "train": time_training(ranks, options)})


def time_extraction(ranks: Ranks, options: argparse.Namespace) -> float:
    """Seconds for all images but the first few."""
    from facedecode.extraction.jobs import StoreOptions
    from facedecode.extraction.run import extract
    from facedecode.pictures.faces import FaceDetector
    from facedecode.pictures.finding import find_images
    from facedecode.recognizers import load_recognizer

    refs = find_images([options.images])[1]
    paths = [refs[i].path for i in np.linspace(0, len(refs) - 1, min(options.count, len(refs))).astype(int)]
    recognizer, detector = load_recognizer(), FaceDetector()
    settings = {"options": StoreOptions(batch_size=8, workers=options.threads), "ranks": ranks}
    with tempfile.TemporaryDirectory() as folder:
        extract(paths[: 8 * ranks.count], Path(folder) / "warm", recognizer, detector, **settings)
        ranks.barrier()
        start = time.perf_counter()
        extract(paths, Path(folder) / "emb", recognizer, detector, **settings)
        ranks.barrier()
        return time.perf_counter() - start


def time_training(ranks: Ranks, options: argparse.Namespace) -> float:
    """Seconds for the steps after the first, with the defaults of `train` at 64 px, φ = ξ."""
    import torch

    from facedecode.perceptual.phi import RecognizerMaps
    from facedecode.recognizers import load_recognizer
    from facedecode.training.decoder_run import DecoderRun, Pairs, TrainingInputs
    from facedecode.training.jobs import TrainSettings

    recognizer, generator = load_recognizer(), np.random.default_rng(0)
    settings = TrainSettings(image_size=64)
    portraits = generator.integers(0, 256, (2 * settings.batch_size, 64, 64, 3), np.uint8)
    pairs = Pairs(generator.normal(size=(len(portraits), recognizer.spec.dim)).astype(np.float32), portraits)
    with tempfile.TemporaryDirectory() as folder:
        score, phi = recognizer.spec.score, [RecognizerMaps(recognizer)]
        inputs = TrainingInputs(pairs, pairs.part(slice(0)), settings, Path(folder), "", score, "dfd", recognizer, phi)
        run = DecoderRun(inputs, torch.device("cpu"), ranks)
        run.train_step()
        ranks.barrier()
        start = time.perf_counter()
        for _ in range(options.steps):
            run.train_step()
        ranks.barrier()
        return time.perf_counter() - start


def measure(count: int, options: argparse.Namespace) -> dict[str, float]:
    """The first process's seconds."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    started = []
    for rank in range(count):
        ours, theirs = context.Pipe(duplex=False)
        where = rank, count, rank, count, Meeting("127.0.0.1", store.port, served=True)
        process = context.Process(target=work, args=(where, options, theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
    seconds = [pipe.recv() for _, pipe in started]
    for process, _ in started:
        process.join()
    return seconds[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--count", type=int, default=120, help="images (default 120)")
    parser.add_argument("--steps", type=int, default=8, help="steps of training (default 8)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default 1)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (default 2)")
    options = parser.parse_args()
    total: dict[int, dict[str, float]] = {count: {"extract": 0.0, "train": 0.0} for count in (1, 2)}
    for _ in range(options.rounds):
        for count, sums in total.items():
            for kind, seconds in measure(count, options).items():
                sums[kind] += seconds
    done = {"extract": options.count * options.rounds, "train": options.steps * options.rounds}
    ratios = {}
    for kind in done:
        rates = [done[kind] / total[count][kind] for count in total]
        ratios[kind] = round(rates[1] / rates[0], 2)
        unit = "images" if kind == "extract" else "steps"
        print(
            f"{kind:8} {rates[0]:.2f} {unit}/s in one process, {rates[1]:.2f} in two: {ratios[kind]}", file=sys.stderr
        )
    seconds = {kind: {count: round(total[count][kind], 2) for count in total} for kind in done}
    print(
        json.dumps(
            {"two processes are so many times as fast": ratios, "seconds": seconds, **vars(options)}, default=str
        )
    )


if __name__ == "__main__":
    main()
