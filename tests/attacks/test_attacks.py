"""Attacks against constructed ground truth, against themselves in other batches, and against foolbox."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facedecode.attacks import METHODS, Budget, fgsm, find_method, methods
from facedecode.attacks.base import AttackResult, attack, to_uint8, victim_of
from facedecode.attacks.goals import ClassGoal, EmbeddingGoal
from facedecode.attacks.methods import Method
from facedecode.errors import BadInput, UsageError
from facedecode.recognizers import load_recognizer
from facedecode.statistics.scores import score_pairs

SIDE, CLASSES = 16, 4
# Few gradients, and enough of them for most pictures of `network`.
SMALL = {
    "tfgsm": Budget(epsilon=0.2),
    "itfgsm": Budget(epsilon=0.2, alpha=0.02, steps=15),
    "tcw": Budget(steps=60, c=10, learning_rate=0.02),
    "itcw": Budget(steps=40, c=1, learning_rate=0.02, search_steps=3),
    "ddn": Budget(steps=40),
}
BALL = ("tfgsm", "itfgsm")
NEAREST = ("tcw", "itcw", "ddn")


def draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of four looks, with noise and pixels at 0 and 1: (n, 3, 16, 16) of 8 bits, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    looks = torch.rand(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(count) % CLASSES
    rough = looks[classes] + 0.15 * torch.randn(count, 3, 4, 4, generator=generator)
    pictures = nn.functional.interpolate(rough, size=(SIDE, SIDE), mode="bilinear").clamp(0, 1)
    return (pictures * 255).round() / 255, classes


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A convolutional classifier, trained for a second."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)
        )
    pictures, classes = draw(256, seed=2)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(4):
        for rows in torch.arange(256).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(pictures[rows]), classes[rows]).backward()
            optimizer.step()
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return draw(16, seed=3)[0]


@pytest.fixture(scope="module")
def goal(network: nn.Module, pictures: Tensor) -> ClassGoal:
    own = network(pictures).argmax(1)
    return ClassGoal((own + 1 + torch.arange(16) % 3) % CLASSES, classes=CLASSES)


@pytest.fixture(scope="module")
def plainly(network: nn.Module, pictures: Tensor, goal: ClassGoal) -> Callable[[str], AttackResult]:
    """What a method of a small budget makes of the pictures: look, do not touch."""
    return functools.cache(lambda method: attack(network, pictures, goal, method, SMALL[method]))


class Linear(nn.Module):
    """Two classes: the logits' difference is w·x + b, with the boundary at `offset` from gray."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        w = torch.randn(3 * SIDE * SIDE, generator=torch.Generator().manual_seed(5))
        self.w = w / w.norm()
        self.b = offset - 0.5 * self.w.sum()

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.w + self.b
        return torch.stack([z, torch.zeros_like(z)], 1)


def gray(count: int = 3) -> Tensor:
    return torch.full((count, 3, SIDE, SIDE), 0.5)


def same(a: AttackResult, b: AttackResult) -> None:
    """Equal success, and L2 within 0.1 %."""
    assert torch.equal(a.success, b.success)
    torch.testing.assert_close(a.l2, b.l2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_result_is_what_it_says(method: str, network, pictures, goal, plainly) -> None:
    found = plainly(method)
    assert found.pictures.shape == pictures.shape and found.pictures.dtype == torch.float32
    assert found.pictures.min() >= 0 and found.pictures.max() <= 1
    change = (found.pictures - pictures).flatten(1).double()
    torch.testing.assert_close(found.l2.double(), change.norm(dim=1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.linf.double(), change.abs().amax(1), rtol=1e-6, atol=1e-8)
    assert torch.equal(found.success, network(found.pictures).argmax(1) == goal.targets)
    saved = np.round(found.pictures.numpy() * 255).astype(np.uint8)  # half to even
    np.testing.assert_array_equal(to_uint8(found.pictures).numpy(), saved)
    assert torch.equal(found.success_8bit, network(torch.from_numpy(saved).float() / 255).argmax(1) == goal.targets)
    assert found.success.float().mean() > (0.2 if method == "tfgsm" else 0.7)
    assert found.gradients.dtype == torch.int64 and (found.gradients >= 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("constant", [-300.0, 1000.0])
def test_a_constant_on_all_logits_changes_nothing(method: str, constant: float, network, pictures, goal, plainly):
    same(plainly(method), attack(lambda x: network(x) + constant, pictures, goal, method, SMALL[method]))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_pictures_one_by_one(method: str, network, pictures, goal, plainly) -> None:
    together = plainly(method)
    apart = attack(network, pictures, goal, method, SMALL[method], batch_size=1)
    same(together, apart)
    close = (together.gradients - apart.gradients).abs()
    assert (close <= 0.1 * together.gradients).float().mean() > 0.8  # a plateau is a matter of the last bits


def test_a_new_method_needs_no_kappa(network, pictures, goal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fgsm, "nothing", lambda problem, budget: (problem.pictures, problem.margin(problem.pictures)), False
    )
    still = Method("still", "nothing", "fgsm.nothing", {"steps": 1})
    monkeypatch.setattr(methods, "METHODS", {**METHODS, "still": still})
    result = attack(network, pictures, goal, "still")
    assert torch.equal(result.pictures, pictures) and not result.success.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_failed_attack_returns_the_original_or_its_last_iterate(method: str, network, pictures, goal) -> None:
    few = {"tcw": Budget(steps=2), "itcw": Budget(steps=2, search_steps=1), "ddn": Budget(steps=2)}
    budget = few.get(method, Budget(epsilon=0.01))
    found = attack(network, pictures, goal, method, budget)
    kept = attack(network, pictures, goal, method, budget, on_failure="keep")
    failed = ~found.success
    assert failed.any() and torch.equal(found.success, kept.success)
    assert torch.equal(found.pictures[failed], pictures[failed]) and not found.l2[failed].any()
    assert not found.success_8bit[failed].any()
    assert (kept.l2[failed] > 0).all()
    assert torch.equal(found.gradients, kept.gradients)
    if method in BALL:  # and it is the last one: the budget is spent
        torch.testing.assert_close(kept.linf[failed], torch.full_like(kept.linf[failed], 0.01))


@pytest.mark.parametrize("method", BALL)
@pytest.mark.parametrize("away", [False, True])
def test_no_epsilon_no_change(method: str, away: bool, network, pictures, goal) -> None:
    if away:
        goal = EmbeddingGoal(network(pictures), "cosine", 0.5, away=True)
    found = attack(network, pictures, goal, method, Budget(epsilon=0), on_failure="keep")
    assert torch.equal(found.pictures, pictures) and not found.linf.any()


@pytest.mark.parametrize("method", BALL)
@pytest.mark.parametrize("epsilon", [0.7 / 255, 3.3 / 255, 0.1])
def test_a_saved_picture_is_within_epsilon_and_half_a_level(method: str, epsilon: float, network, pictures, goal):
    found = attack(network, pictures, goal, method, Budget(epsilon=epsilon), on_failure="keep")
    assert found.linf.max() <= epsilon + 1e-7
    assert (to_uint8(found.pictures).float() / 255 - pictures).abs().max() <= epsilon + 0.5 / 255 + 1e-7


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_saturated_pictures(method: str, level: float, network) -> None:
    """All pixels at an end of the range, where tanh space is infinite unless it is scaled."""
    flat = torch.full((2, 3, SIDE, SIDE), level)
    own = network(flat).argmax(1)
    for step in range(1, CLASSES):
        budget = {"tcw": Budget(c=100, learning_rate=0.05)}.get(method, SMALL[method])
        goal = ClassGoal((own + step) % CLASSES)
        found = attack(network, flat, goal, method, budget, on_failure="keep")
        assert found.pictures.isfinite().all() and found.l2.max() > 0
        if method == "tcw" and found.success.all():
            break
    else:
        assert method != "tcw", "Adam never left the corner"


def test_progress_tells_of_the_batch_in_work(network, pictures, goal) -> None:
    told: list[tuple[int, int, str]] = []
    attack(network, pictures, goal, "ddn", Budget(steps=3), progress=lambda *report: told.append((*report, "")[:3]))
    assert told[0] == (0, 16, "") and told[-1] == (16, 16, "")
    assert told[1:4] == [(0, 16, f"{count} gradients") for count in (1, 2, 3)]


def test_early_stop_uses_fewer_gradients(network, pictures, goal) -> None:
    found = attack(network, pictures, goal, "itfgsm", Budget(epsilon=0.3, alpha=0.02, steps=30))
    assert (found.gradients[found.success] < 30).all() and len(found.gradients[found.success].unique()) > 1
    # One gradient is spent on each picture that a step was taken from, and one to see that the goal is reached.
    assert (found.linf[found.success] <= 0.02 * (found.gradients[found.success] - 1) + 1e-6).all()
    assert (attack(network, pictures, goal, "tfgsm").gradients == 1).all()


@pytest.mark.parametrize("method", ["itfgsm", "tcw", "itcw", "ddn"])
def test_no_more_gradients_than_the_budget_has(method: str, network, pictures, goal) -> None:
    found = attack(network, pictures, goal, method, Budget(max_gradients=7))
    assert found.gradients.max() == 7


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_at_its_goal_stays(method: str, network, pictures) -> None:
    found = attack(network, pictures, ClassGoal(network(pictures).argmax(1)), method)
    assert found.success.all() and torch.equal(found.pictures, pictures) and (found.gradients == 1).all()


@pytest.mark.parametrize("method", ["itfgsm", "tcw", "ddn"])
def test_kappa_is_a_margin_to_reach(method: str, network, pictures, goal, plainly) -> None:
    plain = plainly(method)
    sure = attack(network, pictures, goal, method, replace(SMALL[method], kappa=2.0))
    both = plain.success & sure.success
    margins = goal.margin(network(sure.pictures), torch.arange(16))
    assert both.any() and (margins[sure.success] >= 2).all()
    assert sure.l2[both].mean() > plain.l2[both].mean() and sure.success_8bit[sure.success].all()


def test_momentum_differs(network, pictures, goal) -> None:
    plain, heavy = (
        attack(network, pictures, goal, "itfgsm", Budget(momentum=m, steps=6), on_failure="keep") for m in (0, 1)
    )
    assert not torch.equal(plain.pictures, heavy.pictures)


def test_momentum_sums_gradients_of_one_size() -> None:
    """Dong et al.'s sum, written out."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softplus(), nn.Linear(2, 2))
        x0 = torch.rand(1, 3, 2, 2)
    goal = ClassGoal(torch.tensor([1 - int(net(x0).argmax())]))
    budget = Budget(momentum=0.7, steps=4, alpha=0.01, epsilon=0.02, kappa=100)
    found = attack(net, x0, goal, "itfgsm", budget, on_failure="keep")
    x, total = x0.clone(), torch.zeros_like(x0)
    for _ in range(4):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(x), goal.targets), x)
        total = 0.7 * total + gradient / gradient.abs().mean()
        x = (x - 0.01 * total.sign()).detach().clamp(x0 - 0.02, x0 + 0.02).clamp(0, 1)
    torch.testing.assert_close(found.pictures, x)


@pytest.mark.parametrize("score", ["cosine", "negative-euclidean"])
@pytest.mark.parametrize("method", ["itfgsm", "itcw", "ddn"])
@pytest.mark.parametrize("away", [False, True])
def test_embedding_goals(score: str, method: str, away: bool, tiny) -> None:
    """Towards another's template, and away from one's own (where the score has no gradient to begin with)."""
    recognizer = load_recognizer("tiny-cosine" if score == "cosine" else "tiny", tiny)
    crops = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 0.9, (4, 3, 32, 32)).astype(np.float32))
    own = recognizer.embed(crops)
    targets = own if away else own.roll(1, 0)
    now = score_pairs(own.numpy(), targets.numpy(), score)
    scale = 0.02 if score == "cosine" else 0.15
    threshold = (
        float(now.min() - scale)
        if away
        else float(now.max() + (0.3 * (0 - now.max()) if score != "cosine" else 0.3 * (1 - now.max())))
    )
    goal = EmbeddingGoal(targets.clone(), score, threshold, away=away)
    budget = {
        "itfgsm": Budget(epsilon=0.3, alpha=0.02, steps=20),
        "itcw": Budget(steps=40, c=100, search_steps=2),
        "ddn": Budget(steps=50),
    }[method]
    found = attack(victim_of(recognizer), crops, goal, method, budget)
    assert found.success.all()
    scores = score_pairs(recognizer.embed(found.pictures).numpy(), targets.numpy(), score)
    assert ((scores < threshold) if away else (scores > threshold)).all()
    same(found, attack(victim_of(recognizer), crops, goal, method, budget, batch_size=1))


def test_the_class_loss_points_where_the_cross_entropy_does_and_does_not_vanish() -> None:
    generator = torch.Generator().manual_seed(0)
    goal, rows = ClassGoal(torch.tensor([3, 0])), torch.tensor([0, 1])
    logits = torch.randn(2, 6, generator=generator, dtype=torch.float64).requires_grad_()
    (own,) = torch.autograd.grad(goal.loss(logits, rows).sum(), logits)
    cross = torch.nn.functional.cross_entropy(logits, goal.targets, reduction="sum")
    (other,) = torch.autograd.grad(cross, logits)
    torch.testing.assert_close(torch.nn.functional.normalize(own, dim=1), torch.nn.functional.normalize(other, dim=1))
    ahead = torch.tensor([[0.0, 1, 2, 40], [60, 1, 2, 3]]).requires_grad_()
    (found,) = torch.autograd.grad(goal.loss(ahead, rows).sum(), ahead)
    assert found[0, 3] == found[1, 0] == -1  # far beyond what float32 leaves of 1 - softmax
    torch.testing.assert_close(found.sum(1), torch.zeros(2), atol=1e-6, rtol=0)


def test_all_steps_can_be_spent_and_a_margin_that_none_reaches_is_refused() -> None:
    pictures = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)) / 2 + 0.25
    weight = torch.randn(4, 192, generator=torch.Generator().manual_seed(2))

    def victim(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ weight.T

    goal, budget = ClassGoal(torch.tensor([0, 1, 2])), Budget(epsilon=0.2, steps=9, alpha=0.05)
    early = attack(victim, pictures, goal, "itfgsm", budget)
    whole = attack(victim, pictures, goal, "itfgsm", budget, stop_early=False)
    assert early.success.all() and whole.success.all()
    assert (early.gradients < 9).all() and (whole.gradients == 9).all()
    with pytest.raises(UsageError, match="ddn looks for the nearest success"):
        attack(victim, pictures, goal, "ddn", stop_early=False)
    far = EmbeddingGoal(torch.ones(3, 4), "cosine", 0.4)
    with pytest.raises(UsageError, match=r"kappa 0\.7: no margin reaches it; give less than 0\.6"):
        attack(victim, pictures, far, "itfgsm", Budget(kappa=0.7))


@pytest.mark.parametrize(
    ("method", "more"),
    [("itfgsm", {"epsilon": 0.2, "alpha": 0.02}), ("ddn", {}), ("tcw", {"c": 100, "learning_rate": 0.1})],
)
def test_a_margin_that_was_not_reached_takes_no_success_away(network, pictures, goal, method: str, more: dict) -> None:
    budget = Budget(kappa=1000, steps=30, **more)
    kept, originals = (attack(network, pictures, goal, method, budget, on_failure=o) for o in ("keep", "original"))
    assert torch.equal(kept.success, originals.success) and kept.success.any()
    margins = goal.margin(network(kept.pictures), torch.arange(len(pictures)))
    assert torch.equal(kept.success, margins > 0) and (margins < 1000).all()


def test_losses_and_margins_of_goals() -> None:
    outputs, rows = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1])
    classes = ClassGoal(torch.tensor([0, 0]))
    torch.testing.assert_close(classes.margin(outputs, rows), torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(classes.loss(outputs, rows), torch.tensor([1.0, -1.0]))
    assert torch.equal(ClassGoal(np.array([1, 0])).margin(outputs, rows), torch.tensor([1.0, 1.0]))
    assert torch.equal(ClassGoal(np.array([1, 0])).margin(outputs[1:], rows[1:]), torch.tensor([1.0]))
    target = torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    for score, scores in (("cosine", [24 / 25, 0.0]), ("negative-euclidean", [-(2**0.5), -(5**0.5)])):
        scores = torch.tensor(scores)
        towards, away = (EmbeddingGoal(target, score, -0.5, away=a) for a in (False, True))
        torch.testing.assert_close(towards.loss(outputs, rows), -scores)
        torch.testing.assert_close(towards.margin(outputs, rows), scores + 0.5)
        torch.testing.assert_close(away.loss(outputs, rows), scores)
        torch.testing.assert_close(away.margin(outputs, rows), -0.5 - scores)


def test_search_for_c_is_never_farther_than_a_fixed_one(network, pictures, goal) -> None:
    """The same first c: the search only adds runs."""
    fixed = attack(network, pictures, goal, "tcw", Budget(steps=50, c=5, learning_rate=0.02))
    searched = attack(network, pictures, goal, "itcw", Budget(steps=50, c=5, learning_rate=0.02, search_steps=5))
    assert (searched.success >= fixed.success).all()
    both = fixed.success
    assert both.any() and (searched.l2[both] <= fixed.l2[both] * (1 + 1e-5)).all()
    assert searched.l2[both].mean() < fixed.l2[both].mean()


@pytest.mark.parametrize("method", ["ddn", "itcw"])
@pytest.mark.parametrize("distance", [0.3, 1.5])
def test_least_l2_of_a_linear_victim(method: str, distance: float) -> None:
    """The nearest point of the boundary is at |w·x + b| / ‖w‖; the pixels' range is not in the way."""
    budget = Budget(steps=100) if method == "ddn" else Budget(steps=100, c=0.1, learning_rate=0.005, search_steps=6)
    found = attack(Linear(distance), gray(), ClassGoal(torch.ones(3, dtype=torch.long)), method, budget)
    assert found.success.all()
    assert (found.l2 >= distance).all() and (found.l2 <= 1.03 * distance).all()


def test_fixed_c_of_a_linear_victim_has_its_closed_form() -> None:
    """min ‖δ‖² + c·margin: δ = c·w / 2 where that does not cross the boundary, else the boundary."""
    goal = ClassGoal(torch.ones(1, dtype=torch.long))
    for c, distance in ((0.8, 0.4), (3.0, 1.0)):
        short = attack(
            Linear(2 * distance), gray(1), goal, "tcw", Budget(c=c, learning_rate=0.003, steps=300), on_failure="keep"
        )
        assert not short.success.any()
        assert float(short.l2) == pytest.approx(min(c / 2, 2 * distance), rel=0.05)
    found = attack(Linear(0.5), gray(1), goal, "tcw", Budget(c=3, learning_rate=0.003, steps=300))
    assert found.success.all() and float(found.l2) == pytest.approx(0.5, rel=0.03)


def test_one_step_is_optimal_on_a_linear_victim() -> None:
    """The least epsilon is |w·x + b| / ‖w‖₁: a little more succeeds, a little less fails."""
    victim, goal = Linear(1.0), ClassGoal(torch.ones(3, dtype=torch.long))
    least = float(1 / victim.w.abs().sum())
    assert attack(victim, gray(), goal, "tfgsm", Budget(epsilon=1.001 * least)).success.all()
    assert not attack(victim, gray(), goal, "tfgsm", Budget(epsilon=0.999 * least)).success.any()
    found = attack(victim, gray(), goal, "tfgsm", Budget(epsilon=0.1))
    torch.testing.assert_close(found.pictures, gray() - 0.1 * victim.w.sign().view(1, 3, SIDE, SIDE))


# Bad input


@pytest.mark.parametrize(
    "field", ["epsilon", "steps", "alpha", "momentum", "c", "kappa", "learning_rate", "search_steps", "max_gradients"]
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e12, "8", True])
def test_absurd_budgets_are_refused(field: str, value: object) -> None:
    if value is True and field != "steps":
        value = -0.5
    with pytest.raises(UsageError, match=rf"^{field} .*give a (whole )?number from"):
        Budget(**{field: value})


@pytest.mark.parametrize("field, value", [("epsilon", 1.5), ("steps", 100_001), ("steps", 0), ("steps", 2.5), ("c", 0)])
def test_more_absurd_budgets(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=field):
        Budget(**{field: value})


def test_a_budget_that_a_method_cannot_use_is_refused(network, pictures, goal) -> None:
    with pytest.raises(UsageError, match="ddn has no use for epsilon: leave out all but steps"):
        attack(network, pictures, goal, "ddn", Budget(epsilon=0.1))
    with pytest.raises(UsageError, match="use tfgsm, itfgsm, tcw, itcw or ddn"):
        find_method("pgd")
    with pytest.raises(UsageError, match="--on-failure drop: use original or keep"):
        attack(network, pictures, goal, "ddn", on_failure="drop")
    with pytest.raises(UsageError, match="at least 1"):
        attack(network, pictures, goal, "ddn", batch_size=0)


def test_the_list_of_methods_needs_no_torch() -> None:
    code = "import sys; from facedecode.attacks import METHODS; [m.defaults for m in METHODS.values()]; "
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True, cwd=root)
    assert all(callable(method.function) and method.budget().kappa == 0 for method in METHODS.values())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x.double(), "float64: give float32"),
        (lambda x: (x * 255).byte(), "uint8: give float32"),
        (lambda x: x[0], r"expected \(n, 3, H, W\)"),
        (lambda x: x[:, :1], r"expected \(n, 3, H, W\)"),
        (lambda x: x + 0.9, "picture 0 has NaN or pixels outside"),
        (lambda x: x * torch.where(torch.arange(16) == 3, torch.nan, 1.0).view(-1, 1, 1, 1), "picture 3 has NaN"),
        (lambda x: x[:4], "16 targets for 4 pictures"),
    ],
)
def test_bad_pictures_are_refused(change, message: str, network, pictures, goal) -> None:
    with pytest.raises(BadInput, match=message):
        attack(network, change(pictures), goal, "itfgsm")


@pytest.mark.parametrize(
    "victim, error, message",
    [
        (lambda x: x.detach().flatten(1)[:, :4], UsageError, "no gradients .*transfer"),
        (lambda x: torch.ones(len(x), 4, requires_grad=True), UsageError, "do not depend on the pictures"),
        (lambda x: x.flatten(1)[:, :4].bfloat16(), UsageError, "bfloat16: attacks need fp32"),
        (lambda x: x.flatten(1)[:, :4] * torch.nan, BadInput, "NaN"),
        (lambda x: x.flatten(1)[:, 0], BadInput, r"expected \(n, k\)"),
        (lambda x: x.flatten(1)[:, :2], UsageError, "target class 3: there are 2, 0 to 1"),
        (
            lambda x: x.flatten(1)[:, :4].sub(0.5).abs().sqrt() * 0 + x.flatten(1)[:, :4].mul(0).sqrt(),
            BadInput,
            "finite",
        ),
    ],
)
@pytest.mark.parametrize("method", ["itfgsm", "itcw"])
def test_victims_that_cannot_be_attacked(victim, error, message: str, method: str, pictures, goal) -> None:
    with pytest.raises(error, match=message):
        attack(victim, pictures, goal, method)


def test_recognizers_that_cannot_be_attacked(tiny, network, pictures, goal) -> None:
    with pytest.raises(UsageError, match=r"mine is black-box.*attack a white-box recognizer.*\(transfer\)"):
        victim_of(SimpleNamespace(name="mine", white_box=False))
    with pytest.raises(UsageError, match="bf16: attacks need --precision fp32"):
        victim_of(load_recognizer("tiny", tiny, precision="bf16"))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UsageError, match="leave autocast"):
        attack(network, pictures, goal, "itfgsm")


def test_it_works_where_gradients_are_off(network, pictures, goal) -> None:
    with torch.inference_mode():
        inside = attack(network, pictures.clone(), goal, "itfgsm", SMALL["itfgsm"])
    assert torch.equal(inside.pictures, attack(network, pictures, goal, "itfgsm", SMALL["itfgsm"]).pictures)


def test_a_head_on_a_recognizer(recognizer) -> None:
    head = nn.Linear(16, 3).requires_grad_(False)
    crops = torch.full((2, 3, 32, 32), 0.5)
    torch.testing.assert_close(victim_of(recognizer, head)(crops), head(recognizer.embed(crops)))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: ClassGoal(torch.tensor([1, -1])), UsageError, "classes count from 0"),
        (lambda: ClassGoal(torch.tensor([1, 7]), classes=7), UsageError, "target class 7: there are 7, 0 to 6"),
        (lambda: ClassGoal(torch.tensor([0]), classes=1), UsageError, "at least two"),
        (lambda: ClassGoal(torch.tensor([0.0, torch.nan])), BadInput, "class numbers"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "negative-hamming", -0.1), UsageError, "no gradient"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "cosine", float("nan")), UsageError, "threshold nan"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "cosine", 1.0), UsageError, "between -1 and 1"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "negative-euclidean", 0.6), UsageError, r"did you mean -0\.6"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "negative-euclidean", 0.0), UsageError, "between -inf and 0"),
        (lambda: EmbeddingGoal(torch.ones(1, 3), "cosine", 30.0), UsageError, r"did you mean 0\.3"),
        (lambda: EmbeddingGoal(torch.tensor([[1.0], [torch.nan]]), "cosine", 0.5), BadInput, "template 1 has NaN"),
        (lambda: EmbeddingGoal(torch.zeros(1, 3), "cosine", 0.5), BadInput, "template 0 is all zeros"),
        (lambda: EmbeddingGoal(torch.ones(3), "cosine", 0.5), BadInput, r"floats \(n, dim\)"),
    ],
)
def test_goals_that_cannot_be_reached_are_refused(make, error, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_templates_of_another_recognizer_are_refused(network, pictures) -> None:
    with pytest.raises(BadInput, match="targets of 5 numbers for templates of 4"):
        attack(network, pictures, EmbeddingGoal(torch.ones(16, 5), "cosine", 0.5), "ddn")


# The oracle


@pytest.mark.parametrize(
    "method, budget",
    [
        ("itcw", Budget(steps=100, c=0.01, search_steps=7)),
        ("itcw", Budget(steps=40, c=1, search_steps=4)),
        ("tcw", Budget(steps=200, c=10)),
        ("ddn", Budget(steps=60)),
        ("ddn", Budget(steps=20)),
    ],
)
def test_minimum_norm_attacks_against_foolbox(method: str, budget: Budget, network, pictures, goal) -> None:
    foolbox = pytest.importorskip("foolbox")
    if method == "ddn":
        other = foolbox.attacks.DDNAttack(steps=budget.steps)
    else:
        other = foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=budget.search_steps or 1, steps=budget.steps, stepsize=0.01, initial_const=budget.c
        )
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification(goal.targets)
    _, theirs, succeeded = other(model, pictures, criterion, epsilons=None)
    # A failed Carlini-Wagner of foolbox's is a black picture, which may be of the target's class by accident.
    succeeded &= theirs.flatten(1).any(1)
    far = (theirs - pictures).flatten(1).norm(dim=1)
    found = attack(network, pictures, goal, method, budget)
    both = found.success & succeeded
    assert found.success.sum() >= succeeded.sum() and both.any()
    assert found.l2[both].mean() <= 1.02 * far[both].mean()


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.2])
def test_signed_steps_against_foolbox(steps: int, epsilon: float, network, pictures, goal) -> None:
    foolbox = pytest.importorskip("foolbox")
    alpha = 2 * epsilon / max(steps, 2)
    other = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=alpha, steps=steps)
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    criterion = foolbox.criteria.TargetedMisclassification(goal.targets)
    _, theirs, succeeded = other(model, pictures, criterion, epsilons=epsilon)
    method, budget = "tfgsm", Budget(epsilon=epsilon)
    if steps > 1:
        method, budget = "itfgsm", Budget(epsilon=epsilon, alpha=alpha, steps=steps)
    found = attack(network, pictures, goal, method, budget, on_failure="keep")
    assert (found.success >= succeeded).all()
    torch.testing.assert_close(found.pictures[~found.success], theirs[~found.success])
