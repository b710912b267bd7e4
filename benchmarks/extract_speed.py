"""Speed of `extract` against a plain script: facenet-pytorch's MTCNN and the same recognizer, image by image, in fp32.

    python benchmarks/extract_speed.py LFW/images
    python benchmarks/extract_speed.py LFW/images --count 100 --threads 1

Both sides see the same files, detector settings, rule for the face that counts, crop and weights; they take turns, so
that a busy moment hits both. `extract` also writes its store. The agreement of their boxes and templates is measured
too. Beside wall time stands CPU time, of all threads: on a machine that does other work its ratio with `--threads 1`
still tells. What people read goes to stderr, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image

from facedecode.extraction.jobs import StoreOptions
from facedecode.extraction.run import extract
from facedecode.pictures.faces import Face, FaceDetector, choose_face
from facedecode.pictures.finding import find_images
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store

Found = dict[str, tuple[np.ndarray, np.ndarray]]  # name of the image → box, template


def plain(paths: list[Path], mtcnn: MTCNN, recognizer: Recognizer) -> Found:
    """The reference."""
    found = {}
    for path in paths:
        image = Image.open(path).convert("RGB")
        boxes, probabilities, landmarks = mtcnn.detect(image, landmarks=True)
        if boxes is None:
            continue
        faces = [Face(*parts) for parts in zip(boxes, landmarks, probabilities, strict=True)]
        face = choose_face(faces, image.width, image.height)
        crop = recognizer.crop(np.asarray(image), face)
        found[path.name] = face.box, recognizer.embed_crops(crop[None])[0]
    return found


def ours(paths: list[Path], detector: FaceDetector, recognizer: Recognizer, workers: int | None) -> Found:
    """`facedecode extract`, less the start of Python."""
    with tempfile.TemporaryDirectory() as folder:
        extract(paths, Path(folder) / "emb", recognizer, detector, options=StoreOptions(workers=workers))
        store = Store.open(Path(folder) / "emb")
        rows = zip(store.rows().to_pylist(), store.templates(), strict=True)
        return {Path(row["path"]).name: (np.array(row["box"]), template) for row, template in rows}


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(side.clip(min=0).prod())
    return common / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two templates."""
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--count", type=int, default=500, help="images, spread evenly over the folder (default 500)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side (default 2)")
    parser.add_argument("--threads", type=int, help="torch threads of the script, workers of extract (default: both's)")
    options = parser.parse_args()

    refs = find_images([options.images])[1]
    paths = [refs[i].path for i in np.linspace(0, len(refs) - 1, min(options.count, len(refs))).astype(int)]
    threads = options.threads or torch.get_num_threads()
    recognizer = load_recognizer()
    mtcnn, detector = MTCNN(keep_all=True, device="cpu"), FaceDetector()
    sides: dict[str, Callable[[list[Path]], Found]] = {
        "plain": lambda part: plain(part, mtcnn, recognizer),
        "extract": lambda part: ours(part, detector, recognizer, options.threads),
    }
    wall, cpu, found = dict.fromkeys(sides, 0.0), dict.fromkeys(sides, 0.0), {}
    for turn in range(options.rounds + 1):  # the first, on a few images, warms up
        part = paths if turn else paths[:4]
        for name, side in sides.items():
            torch.set_num_threads(threads)
            start = time.perf_counter(), time.process_time()
            found[name] = side(part)
            if turn:
                wall[name] += time.perf_counter() - start[0]
                cpu[name] += time.process_time() - start[1]

    both = sorted(found["plain"].keys() & found["extract"].keys())
    pairs = [(found["plain"][name], found["extract"][name]) for name in both]
    total = len(paths) * options.rounds
    result = {
        "images": len(paths),
        "rounds": options.rounds,
        "threads": threads,
        "images_per_second": {name: round(total / seconds, 2) for name, seconds in wall.items()},
        "cpu_ms_per_image": {name: round(1000 * seconds / total, 2) for name, seconds in cpu.items()},
        "ratio": round(wall["plain"] / wall["extract"], 2),
        "cpu_ratio": round(cpu["plain"] / cpu["extract"], 2),
        "faces": {name: len(side) for name, side in found.items()},
        "faces_in_both": len(both),
        "box_iou_at_least_0.9": round(float(np.mean([iou(a[0], b[0]) >= 0.9 for a, b in pairs])), 4),
        "template_cosine_at_least_0.999": round(float(np.mean([cosine(a[1], b[1]) >= 0.999 for a, b in pairs])), 4),
        "lowest_iou": round(min(iou(a[0], b[0]) for a, b in pairs), 6),
        "lowest_cosine": round(min(cosine(a[1], b[1]) for a, b in pairs), 6),
    }
    for name in sides:
        speed, work = result["images_per_second"][name], result["cpu_ms_per_image"][name]
        print(f"{name:8} {speed:7.1f} images/s  {work:7.1f} ms CPU an image", file=sys.stderr)
    print(f"extract is {result['ratio']} times as fast ({result['cpu_ratio']} by CPU time)", file=sys.stderr)
    print(
        f"faces {result['faces']}, in both {len(both)}; of those IoU ≥ 0.9: {result['box_iou_at_least_0.9']:.1%}, "
        f"cosine ≥ 0.999: {result['template_cosine_at_least_0.999']:.1%}",
        file=sys.stderr,
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
