"""Every evaluation on small made-up inputs, and the numbers of its report.

    python tests/golden/make.py [FOLDER]

writes the numbers of every case to CASE.json beside this file, or in FOLDER. `tests/test_golden.py` compares today's
with them. Write them anew only where a figure changes on purpose, and say in CHANGELOG by how much.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from facedecode.identity import RecognizerId

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from conftest import TinyNet, draw_people, register_tiny, save_tiny  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from facedecode.cli import app  # noqa: E402
from facedecode.store import StoreWriter  # noqa: E402

FAST = "--repetitions 100"
JUDGED = "--people judged.txt"
TRAINING = "--train-people training.txt"
TINY = "--weights tiny=tiny.safetensors"
BOTH = f"{TINY} --weights tiny-cosine=other.safetensors"
DECODERS = "--decoder mean=mean --decoder ridge=ridge"
KEYS = [f"key{number}" for number in range(5)]

# What is done once before.
PREPARATIONS = (
    "train emb -o mean --architecture mean-face --image-size 64 --people training.txt",
    "train emb -o ridge --architecture ridge --image-size 64 --people training.txt",
    "fit-mapping --embeddings made --perturbed turned -o maps --people first.txt",
    *(f"transform emb -o {key} --protect rotation --key-file {key}.txt" for key in KEYS),
)

# What follows `evaluate`, by case.
CASES = {
    "reconstruction": f"reconstruction emb {DECODERS} {JUDGED} --against emb2 {BOTH} --phi tiny=tiny.safetensors",
    "reconstruction-one": f"reconstruction emb --decoder ridge {JUDGED} {TINY}",
    "verification-all-pairs": "verification made --far 0.1 --far 0.01 --threshold 0.5"
    " --labels labels.csv --label gender",
    "verification-pairs": "verification a=made b=other --pairs pairs.txt --far 0.1",
    "verification-probes": "verification made --probes turned --mapping maps/rotate30.safetensors"
    " --people last.txt --far 0.1 --far 0.01",
    "security": f"security emb emb2 {DECODERS} {JUDGED} {BOTH} --fmr 0.1 --fmr 0.02"
    f" {TRAINING} --pairs-curve 5,20,all --pairs-curve-size 64",
    "protection-biohash": f"protection emb --scheme biohash --bits 32 {JUDGED} {TRAINING} --fmr 0.1"
    f" --image-size 64 --against emb2 {BOTH}",
    "protection-stores": f"protection emb {' '.join(KEYS)} {JUDGED} {TRAINING} --fmr 0.1"
    f" --attacker nearest --image-size 64 {TINY}",
    "equivariance": f"equivariance emb {JUDGED} {TRAINING} --weights tiny.safetensors"
    " --transform rotate30 --transform rotate60 --transform rotate90",
    "aggregation": "aggregation made other --persons 12 --draws 3 --far 0.1 --far 0.02",
    "leakage": "leakage made other --labels images.csv --label gender --attribute yaw --decoder none --folds 3",
}


def made_up_store(folder: Path, name: str, seed: int, turned: bool = False, people: int = 40, each: int = 8) -> None:
    """A store of random templates about each person's mean, without pictures; the last image of all has none.

    turned: change the templates as those of perturbed images are changed, by a rotation and noise.
    """
    generator = np.random.default_rng(seed)
    rows, templates = [], []
    for person in range(people):
        center = generator.normal(size=12)
        center[0] = 1.5 * (-1) ** person  # what gender shows in
        for number in range(1, each + 1):
            turn = generator.normal(0, 3)
            points = np.array([30.0, 40, 70, 40, 50 + turn, 60, 35, 80, 65, 80]) + generator.normal(0, 1, 10)
            path = f"P{person:02d}/P{person:02d}_{number:04d}.jpg"
            faces = {"landmarks": points, "box": [20, 20, 80, 100], "probability": float(generator.uniform(0.9, 1))}
            rows.append({"path": path, "identity": f"P{person:02d}", "sha256": path, **faces})
            template = center + generator.normal(size=12)
            template[1] += turn / 3
            templates.append(template.astype(np.float32))
    recognizer = RecognizerId(name, "0" * 64, dim=12, score="cosine")
    values = np.stack(templates)
    if turned:
        rotation = np.linalg.qr(generator.normal(size=(12, 12)))[0]
        values = (values @ rotation + generator.normal(0, 0.3, values.shape)).astype(np.float32)
    transform = "rotate30" if turned else None
    manifest = {"score": "cosine", "transform": transform, "precision": "fp32", "l2_normalized": False}
    failures = [{"path": rows[-1]["path"], "stage": "detect", "reason": "no face found"}]
    with StoreWriter(
        folder, {"seed": seed, "transform": transform}, folder.parent, recognizer, manifest=manifest
    ) as writer:
        writer.append(values[:-1], rows[:-1], failures, len(rows))
        writer.finish()


def prepare(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make all inputs in `folder`, and go there."""
    patch.chdir(folder)
    register_tiny(patch)
    save_tiny(Path("tiny.safetensors"))
    with torch.random.fork_rng():
        torch.manual_seed(11)
        save_file(TinyNet().state_dict(), "other.safetensors")
    for name, recognizer, weights in (("emb", "tiny", "tiny"), ("emb2", "tiny-cosine", "other")):
        draw_people(folder / name, folder / "faces", recognizer, folder / f"{weights}.safetensors", people=20, each=5)
    for name, recognizer, seed in (("made", "made-up", 1), ("other", "other", 2), ("turned", "made-up", 1)):
        made_up_store(folder / name, recognizer, seed, turned=name == "turned")
    Path("judged.txt").write_text("".join(f"P{k}\n" for k in range(8)))
    Path("training.txt").write_text("".join(f"P{k}\n" for k in range(8, 20)))
    for name, numbers in (("first", range(20)), ("last", range(20, 40))):
        Path(f"{name}.txt").write_text("".join(f"P{k:02d}\n" for k in numbers))
    for number, key in enumerate(KEYS):
        Path(f"{key}.txt").write_bytes(bytes(range(number, number + 16)))
    genders = [f"P{k:02d},{'MF'[k % 2]}\n" for k in range(40)]
    Path("labels.csv").write_text("identity,gender\n" + "".join(genders))
    images = [f"P{k:02d}/P{k:02d}_{n:04d}.jpg,{'MF'[k % 2]}\n" for k in range(40) for n in range(1, 9)]
    Path("images.csv").write_text("path,gender\n" + "".join(images))
    Path("pairs.txt").write_text(pairs_text())
    for command in PREPARATIONS:
        run(command)


def pairs_text() -> str:
    """LFW's format: 2 sets of 40 mated and 40 non-mated pairs."""
    lines = ["2\t40"]
    for fold in range(2):
        people = [f"P{k:02d}" for k in range(20 * fold, 20 * fold + 20)]
        lines += [f"{name}\t{a}\t{b}" for name in people for a, b in ((1, 2), (3, 8))]
        lines += [f"{one}\t4\t{people[(k + step) % 20]}\t8" for k, one in enumerate(people) for step in (1, 3)]
    return "\n".join(lines) + "\n"


def run(command: str) -> None:
    """One command, in this process."""
    done = CliRunner().invoke(app, command.split())
    if done.exit_code:
        raise RuntimeError(f"{command}: exit code {done.exit_code}\n{done.output}") from done.exception


def evaluate(case: str) -> dict:
    """The numbers of the report of a case: metrics, figures of gates, and those at the top."""
    run(f"evaluate {CASES[case]} {FAST} -o report-{case}")
    report = json.loads(Path(f"report-{case}", "report.json").read_text())
    figures = [line["figure"] for line in report["headlines"]]
    return {"metrics": report["metrics"], "gate_figures": report["gate_figures"], "headlines": figures}


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else HERE).resolve()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        prepare(Path(folder), patch)
        for case in CASES:
            (target / f"{case}.json").write_text(json.dumps(evaluate(case), indent=1) + "\n")


if __name__ == "__main__":
    main()
