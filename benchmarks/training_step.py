"""A step of training with the defaults of `train`, in fp32 and in bfloat16: prints the ratio of medians.

python benchmarks/training_step.py [--device cuda] [--image-size 128]

Pictures and templates are random: the time does not depend on what they show.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from facedecode.perceptual.phi import RecognizerMaps
from facedecode.recognizers import load_recognizer
from facedecode.training.decoder_run import DecoderRun, Pairs, TrainingInputs
from facedecode.training.jobs import TrainSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    recognizer = load_recognizer(device=options.device)
    generator = np.random.default_rng(0)
    side, settings = options.image_size, TrainSettings(image_size=options.image_size)
    portraits = generator.integers(0, 256, (2 * settings.batch_size, side, side, 3), np.uint8)
    pairs = Pairs(generator.normal(size=(len(portraits), recognizer.spec.dim)).astype(np.float32), portraits)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            precision: DecoderRun(
                TrainingInputs(
                    pairs,
                    pairs.part(slice(0)),
                    dataclasses.replace(settings, precision=precision),
                    Path(folder),
                    fingerprint="",
                    score=recognizer.spec.score,
                    recognizer=recognizer,
                    phi=[RecognizerMaps(recognizer)],
                ),
                torch.device(options.device),
            )
            for precision in seconds
        }
        for round_ in range(options.rounds + 1):  # one to warm up; in turn, so that a busy moment hits both
            for precision, run in runs.items():
                start = time.perf_counter()
                run.train_step()  # it reads the loss, and so waits for the device
                if round_:
                    seconds[precision].append(time.perf_counter() - start)
    medians = {precision: statistics.median(values) for precision, values in seconds.items()}
    print(
        json.dumps(
            {
                "seconds a step": {precision: round(value, 3) for precision, value in medians.items()},
                "bf16 is so many times as fast": round(medians["fp32"] / medians["bf16"], 2),
                "batch": settings.batch_size,
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
