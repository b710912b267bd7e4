"""Gradients per second of our attacks against foolbox's, on a recognizer with a random linear head: prints the ratios.

    python benchmarks/attacks.py
    python benchmarks/attacks.py ../shared/data/lfw/images --count 16 --rounds 7 --threads 1

Both sides attack the same pictures with the same targets and budget, in one batch, and take turns, so that a busy
moment hits both; a ratio is that of the medians. Gradients are counted alike on both sides, as pictures that a gradient
came back for; a side's seconds include its own judgement of success. For the rate of itfgsm no picture stops early (a
kappa that none reaches), as none does on foolbox's side; its success and gradients are those of a run that does stop.
Without a folder the pictures are random. foolbox is the oracle here, no dependency. What people read goes to stderr,
one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from facedecode.attacks import Budget
from facedecode.attacks.base import attack, victim_of
from facedecode.attacks.goals import ClassGoal
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.pictures.finding import find_images
from facedecode.recognizers import DEFAULT_RECOGNIZER, load_recognizer
from facedecode.recognizers.recognizer import Recognizer

Attacked = tuple[Tensor, Tensor]  # pictures, success
_CLASSES = 20
_FAR = 1e-6  # a picture of foolbox's that is nearer to black than this is its sign of failure


class Counted(nn.Module):
    """A victim that counts the pictures for which a gradient comes back."""

    def __init__(self, victim: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.victim, self.gradients = victim, 0

    def forward(self, pictures: Tensor) -> Tensor:
        outputs = self.victim(pictures)
        if outputs.requires_grad:
            outputs.register_hook(self._count)
        return outputs

    def _count(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


def crops(folder: Path | None, count: int, recognizer: Recognizer) -> Tensor:
    """Crops of faces spread over a folder, or smooth random pictures: (count, 3, S, S) in [0, 1]."""
    size = recognizer.spec.crop.size
    if folder is None:
        rough = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return nn.functional.interpolate(rough, size=(size, size), mode="bilinear").mul(255).round() / 255
    detector, found = FaceDetector(), []
    refs = find_images([folder])[1]
    for place in np.linspace(0, len(refs) - 1, min(len(refs), 2 * count)).astype(int):
        image = np.asarray(Image.open(refs[place].path).convert("RGB"))
        faces = detector.detect([image])[0]
        if faces:
            found.append(recognizer.crop(image, choose_face(faces, image.shape[1], image.shape[0])))
        if len(found) == count:
            break
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float().contiguous() / 255


def random_head(recognizer: Recognizer, pictures: Tensor) -> nn.Linear:
    """20 classes at random directions, centered on the pictures' mean template, logits of deviation about 2."""
    with torch.no_grad():
        templates = recognizer.embed(pictures)
    head = nn.Linear(templates.shape[1], _CLASSES).requires_grad_(False)
    spread = (templates - templates.mean(0)).norm(dim=1).mean()
    weight = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0)) * 2 / spread
    head.weight.copy_(weight)
    head.bias.copy_(-(weight @ templates.mean(0)))
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?", help="a folder of images (default: random pictures)")
    parser.add_argument("--model", default=DEFAULT_RECOGNIZER)
    parser.add_argument("--count", type=int, default=8, help="pictures (default 8)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--steps", type=int, default=10, help="gradients of one run (default 10)")
    parser.add_argument("--search-steps", type=int, default=3, help="values of c (default 3)")
    parser.add_argument("--threads", type=int, help="torch threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    recognizer = load_recognizer(options.model)
    pictures = crops(options.images, options.count, recognizer)
    count, steps, runs = len(pictures), options.steps, options.search_steps
    victim = Counted(victim_of(recognizer, random_head(recognizer, pictures))).eval()
    with torch.no_grad():
        own = victim(pictures).argmax(1)
    targets = (own + 1 + torch.arange(count) % (_CLASSES - 1)) % _CLASSES
    model = foolbox.PyTorchModel(victim, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(targets)

    def ours(method: str, **budget: float) -> Callable[[], Attacked]:
        def run() -> Attacked:
            found = attack(victim, pictures, ClassGoal(targets), method, Budget(**budget), batch_size=count)
            return found.pictures, found.success

        return run

    def theirs(method: foolbox.attacks.base.Attack, epsilon: float | None = None) -> Callable[[], Attacked]:
        def run() -> Attacked:
            _, found, success = method(model, pictures, criterion, epsilons=epsilon)
            # A Carlini-Wagner that failed is a black picture, which may be of the target's class by accident.
            return found, success & (found.flatten(1).amax(1) > _FAR)

        return run

    cw = foolbox.attacks.L2CarliniWagnerAttack
    ball = {"epsilon": 8 / 255, "alpha": 1 / 255, "steps": steps}
    sides = {
        "itfgsm": (
            ours("itfgsm", **ball),
            theirs(foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=1 / 255, steps=steps), 8 / 255),
        ),
        "tcw": (
            ours("tcw", steps=steps, c=1.0),
            theirs(cw(binary_search_steps=1, steps=steps, stepsize=0.01, initial_const=1.0)),
        ),
        "itcw": (
            ours("itcw", steps=steps, c=0.1, search_steps=runs),
            theirs(cw(binary_search_steps=runs, steps=steps, stepsize=0.01, initial_const=0.1)),
        ),
        "ddn": (ours("ddn", steps=steps), theirs(foolbox.attacks.DDNAttack(steps=steps))),
    }
    result: dict[str, object] = {
        "model": options.model,
        "pictures": "random" if options.images is None else "faces",
        "count": count,
        "rounds": options.rounds,
        "steps": steps,
        "search_steps": runs,
        "threads": torch.get_num_threads(),
    }
    for method, pair in sides.items():
        rates: tuple[list[float], list[float]] = ([], [])
        spent, found = [0, 0], [None, None]
        timed = (ours("itfgsm", **ball, kappa=10_000), pair[1]) if method == "itfgsm" else pair
        for round_ in range(options.rounds + 1):  # one to warm up
            # The first of a pair can profit from the other's rest: they take turns in that too.
            for side in (0, 1) if round_ % 2 else (1, 0):
                victim.gradients, start = 0, time.perf_counter()
                timed[side]()
                if round_:
                    rates[side].append(victim.gradients / (time.perf_counter() - start))
        for side in (0, 1):
            victim.gradients = 0
            found[side] = pair[side]()
            spent[side] = victim.gradients
        medians = [statistics.median(side) for side in rates]
        both = found[0][1] & found[1][1]
        far = [
            float((side[0] - pictures)[both].flatten(1).norm(dim=1).mean()) if both.any() else None for side in found
        ]
        result[method] = {
            "gradients_per_second": {"ours": round(medians[0], 2), "foolbox": round(medians[1], 2)},
            "ratio": round(medians[0] / medians[1], 3),
            "gradients": {"ours": spent[0], "foolbox": spent[1]},
            "success": {"ours": int(found[0][1].sum()), "foolbox": int(found[1][1].sum())},
            "mean_l2_where_both_succeed": {
                name: None if value is None else round(value, 4)
                for name, value in zip(("ours", "foolbox"), far, strict=True)
            },
        }
        print(f"{method:7} {json.dumps(result[method])}", file=sys.stderr, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
