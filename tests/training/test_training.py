"""Training: exact resume, divergence, who is trained on, and every loss term against its definition."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facedecode.annotations.protocols import held_out_people
from facedecode.decoders import KINDS, load_decoder
from facedecode.errors import BadInput, MissingWeights, OutputError, OutputInUse, UsageError
from facedecode.files import locked
from facedecode.inversion.confidence_fit import trained_people
from facedecode.options import ImageOptions
from facedecode.perceptual.phi import RecognizerMaps
from facedecode.pictures import align
from facedecode.recognizers import REGISTRY, load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.training import losses
from facedecode.training.decoder import train_store
from facedecode.training.decoder_run import DecoderRun, Pairs, TrainingInputs, train_decoder
from facedecode.training.jobs import TARGETS, DecoderJob, LossWeights, TrainSettings
from facedecode.training.losses import PersonPrediction
from facedecode.training.trainer import STATE

PIXELS_ONLY = LossWeights(perceptual=0, identity=0)

SMALL = TrainSettings(
    image_size=64,
    widths=(8, 8, 8, 4, 4),
    coarse=8,
    epochs=2,
    batch_size=6,
    mirror=False,
    save_every=3,
    validate_every=4,
    weights=LossWeights(identity=0.1),
)


@pytest.fixture
def job(tiny_store: Path, tiny: Path, tmp_path: Path) -> DecoderJob:
    """8 steps of training with every term on; two of the ten people are held out."""
    return DecoderJob(tiny_store, tmp_path / "decoder", validation=0.3, weights=tiny, settings=SMALL)


def change(job: DecoderJob, **settings) -> DecoderJob:
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, **settings))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Stop:
    """A progress callback that interrupts at a step, and remembers the losses."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.losses, self.steps = at, [], None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.steps = total
        if note:
            self.losses.append(float(note.removeprefix("loss ")))
        if done == self.at:
            raise KeyboardInterrupt


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("stops", "settings"),
    [((2,), {}), ((3,), {}), ((7,), {}), ((4, 5), {}), ((4,), {"mirror": True, "epochs": 1, "precision": "bf16"})],
)
def test_an_interrupted_run_ends_with_the_same_bytes(
    job: DecoderJob, tmp_path: Path, stops: tuple[int, ...], settings: dict
) -> None:
    job = change(job, **settings)
    whole, parts = Stop(), dataclasses.replace(job, output=tmp_path / "parts")
    train_store(job, training=whole)
    assert whole.steps == len(whole.losses) >= 7
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train_store(parts, training=Stop(stop))
        assert not (parts.output / "decoder.json").exists()
    last = Stop()
    train_store(parts, training=last)
    resumed = stops[-1] // 3 * 3
    assert last.losses == whole.losses[resumed:]
    assert content(parts.output) == content(job.output)


def test_what_a_run_leaves(job: DecoderJob) -> None:
    decoder = train_store(job)
    rows = list(csv.DictReader((job.output / "curve.csv").open()))
    assert [row["step"] for row in rows] == ["4", "8"] and set(rows[0]) == {"step", "psnr", "score"}
    assert sorted(p.name for p in (job.output / "samples").iterdir()) == ["000004.png", "000008.png"]
    assert Image.open(job.output / "samples" / "000008.png").height == 2 * 64 + 2
    made = decoder.provenance.training
    assert made.further["steps"] == 8 and len(made.curve) == 2 and made.settings.further["epochs"] == 2
    assert made.store == Store.open(job.store).fingerprint and decoder.recognizer.name == "tiny"
    assert not (job.output / ".lock").exists()


def test_the_same_job_again_does_nothing(job: DecoderJob) -> None:
    train_store(job)
    before = {p: p.stat().st_mtime_ns for p in job.output.rglob("*")}
    train_store(job, training=lambda *a: pytest.fail("trained again"))
    assert {p: p.stat().st_mtime_ns for p in job.output.rglob("*")} == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_job_is_refused_then_overwrites(job: DecoderJob, finished: bool) -> None:
    if finished:
        train_store(job)
    else:
        with pytest.raises(KeyboardInterrupt):
            train_store(job, training=Stop(4))
    before = content(job.output)
    for other in (change(job, seed=1), dataclasses.replace(job, exclude=("P3",))):
        with pytest.raises(OutputError, match=r"decoder holds .*; use --overwrite or another folder"):
            train_store(other)
        assert content(job.output) == before
    other = dataclasses.replace(change(job, seed=1), overwrite=True)
    again = Stop()
    train_store(other, training=again)
    assert len(again.losses) == 8
    fresh = dataclasses.replace(change(job, seed=1), output=job.output.with_name("fresh"))
    train_store(fresh)
    assert (job.output / "decoder.safetensors").read_bytes() == (fresh.output / "decoder.safetensors").read_bytes()


def test_overwriting_without_the_images_keeps_the_decoder(job: DecoderJob) -> None:
    train_store(job)
    before = content(job.output)
    (job.store.parent / "faces").rename(job.store.parent / "moved")
    other = dataclasses.replace(change(job, seed=1), overwrite=True)
    with pytest.raises(BadInput, match=r"images are not there .*--images"):
        train_store(other)
    assert content(job.output) == before
    train_store(dataclasses.replace(other, images=ImageOptions(job.store.parent / "moved")))


def test_an_overwriting_run_that_is_interrupted_resumes(job: DecoderJob) -> None:
    train_store(job)
    other = change(job, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train_store(dataclasses.replace(other, overwrite=True), training=Stop(4))
    rest = Stop()
    train_store(other, training=rest)
    assert len(rest.losses) == 5


@pytest.mark.parametrize("damage", ["truncated", "pickle", "lacking", "empty", "bit"])
def test_a_damaged_state_is_refused(job: DecoderJob, damage: str) -> None:
    from safetensors.torch import load_file, safe_open, save_file

    with pytest.raises(KeyboardInterrupt):
        train_store(job, training=Stop(4))
    path = job.output / STATE
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    if damage == "lacking":
        save_file({k: v for k, v in tensors.items() if k != "net.stem.weight"}, path, metadata)
    elif damage == "bit":
        data = bytearray(path.read_bytes())
        data[-100] ^= 8
        path.write_bytes(data)
    else:
        path.write_bytes({"truncated": path.read_bytes()[:-50], "pickle": b"\x80\x04K\x01.", "empty": b""}[damage])
    with pytest.raises(BadInput, match=r"state\.safetensors: .*--overwrite to start anew"):
        train_store(job)


# ---------------------------------------------------------------- divergence and refusals


def test_a_loss_that_is_not_finite_stops_the_run(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = losses.pixel_loss
    calls = iter(range(1000))

    def spoiled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return sound(x, y) * (float("nan") if next(calls) >= 8 else 1)  # twice a step: step 5

    monkeypatch.setattr(losses, "pixel_loss", spoiled)
    with pytest.raises(BadInput, match=r"decoder: the loss is nan at step 4; the state of step 3 is kept") as caught:
        train_store(job)
    assert caught.value.exit_code == 4 and not (job.output / "decoder.json").exists()
    monkeypatch.setattr(losses, "pixel_loss", sound)
    rest = Stop()
    train_store(job, training=rest)
    assert len(rest.losses) == 5


def test_gradients_that_are_not_finite_never_reach_the_weights(job, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = losses.pixel_loss

    def spoiled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # 0 · ∞ on the way back only.
        return sound(x, y) + (x - x.detach()).abs().sqrt().sum()

    monkeypatch.setattr(losses, "pixel_loss", spoiled)
    with pytest.raises(BadInput, match="the loss is nan at step 0; no state was saved yet"):
        train_store(job)
    assert not (job.output / STATE).exists()


@pytest.mark.parametrize("step", [3, 8])
def test_an_update_that_breaks_the_weights_is_not_saved(job, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """At a step whose state is saved, and at the last one: the loss before the update was finite."""
    sound = DecoderRun.train_step

    def spoiled(run: DecoderRun) -> float:
        loss = sound(run)
        if run.step == step:
            run.net.head.weight.data[0] = float("inf")
        return loss

    monkeypatch.setattr(DecoderRun, "train_step", spoiled)
    kept = (step - 1) // 3 * 3
    said = f"the state of step {kept} is kept" if kept else "no state was saved yet"
    with pytest.raises(BadInput, match=rf"not finite at step {step}; {said}: lower --learning-rate"):
        train_store(job)
    assert not (job.output / "decoder.json").exists()
    monkeypatch.setattr(DecoderRun, "train_step", sound)
    rest = Stop()
    train_store(job, training=rest)
    assert len(rest.losses) == 8 - kept


def test_a_huge_learning_rate_is_told_apart_from_a_bug(job: DecoderJob) -> None:
    with pytest.raises(BadInput, match=r"the loss is (nan|inf) at step"):
        train_store(change(job, learning_rate=1e30, epochs=8))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"image_size": 100}, "image size 100: a decoder draws 64, 128, 224 pixels"),
        ({"epochs": 0}, "epochs 0"),
        ({"epochs": float("nan")}, "epochs nan"),
        ({"learning_rate": -1.0}, "learning rate -1"),
        ({"jitter": -1.0}, "jitter -1"),
        ({"weights": LossWeights(pixel=-1)}, "pixel -1"),
        ({"weights": LossWeights(0, 0, 0, 0, 0, 0, 0)}, "every loss term is switched off"),
    ],
)
def test_settings_that_no_run_can_have(job: DecoderJob, settings: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        train_store(change(job, **settings))
    assert not job.output.exists()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_held_out_is_refused_before_any_picture_is_read(job: DecoderJob, share: float) -> None:
    with pytest.raises(UsageError, match=f"a share of {share} of the people cannot be held out"):
        train_store(dataclasses.replace(job, validation=share, images=ImageOptions(job.store / "nowhere")))


def test_refusals(job: DecoderJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no decoder is called 'gan'; known: {', '.join(KINDS)}"):
        train_store(dataclasses.replace(job, architecture="gan"))
    with pytest.raises(BadInput, match="--exclude Nobody: nobody in the store has that name"):
        train_store(dataclasses.replace(job, exclude=("Nobody",)))
    with pytest.raises(MissingWeights, match="tiny: its weights come with no package; run the tests"):
        train_store(dataclasses.replace(job, weights=None))
    with pytest.raises(BadInput, match="training images do not fill one batch of 500"):
        train_store(change(job, batch_size=500))
    with pytest.raises(OutputError, match="emb is an embedding store"):
        train_store(dataclasses.replace(job, output=job.store))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a file of that name is in the way"):
        train_store(dataclasses.replace(job, output=tmp_path / "file"))
    job.output.mkdir(exist_ok=True)
    with locked(job.output), pytest.raises(OutputInUse):
        train_store(job)


def test_the_identity_term_needs_the_stores_own_recognizer(job: DecoderJob, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file({k: v + 0.01 for k, v in load_file(job.weights).items()}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match=r"is for tiny .* templates come from tiny"):
        train_store(dataclasses.replace(job, weights=tmp_path / "other.safetensors"))


def test_the_perceptual_term_needs_layers(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "tiny", dataclasses.replace(REGISTRY["tiny"], feature_layers=()))
    with pytest.raises(UsageError, match="tiny names no layers for the perceptual term: choose another --phi"):
        train_store(job)


def test_a_full_disk_keeps_the_last_state(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_store(job, training=Stop(4))
    before = content(job.output)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match="No space left on device"):
            train_store(job)
    assert content(job.output) == before
    train_store(job)


# ---------------------------------------------------------------- who is trained on


def test_people_held_out_are_not_trained_on(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def spy(inputs: TrainingInputs, *rest):
        seen["train"], seen["validation"] = inputs.train.templates, inputs.validation.templates
        raise KeyboardInterrupt

    monkeypatch.setattr("facedecode.training.decoder.train_decoder", spy)
    store = Store.open(job.store)
    people = {template.tobytes(): who for template, who in zip(store.templates(), store.identities(), strict=True)}
    with pytest.raises(KeyboardInterrupt):
        train_store(job)
    train, held = ({people[t.tobytes()] for t in seen[part]} for part in ("train", "validation"))
    assert train and held and not train & held and train | held == set(people.values())
    assert len(seen["train"]) + len(seen["validation"]) == 30


def test_whom_the_templates_were_changed_by_counts_as_trained_on(job: DecoderJob) -> None:
    path = job.store / "manifest.json"
    others = [f"somebody {k}" for k in range(40)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fitted_on": others}))
    first = train_store(job)
    second = train_store(dataclasses.replace(job, start=job.output, output=job.output.with_name("second")))
    for decoder in (first, second):
        assert set(others) < set(decoder.provenance.training.people)
        assert set(others) < set(trained_people(decoder, "decoder")), "nobody of them is held out"


def test_a_start_without_its_run_is_refused(job: DecoderJob) -> None:
    train_store(job)
    path = job.output / "decoder.json"
    card = json.loads(path.read_text())
    del card["training"]["fingerprint"]
    path.write_text(json.dumps(card))
    with pytest.raises(BadInput, match="decoder: does not record the run that made it"):
        train_store(dataclasses.replace(job, start=job.output, output=job.output.with_name("second")))


def test_a_people_file_and_exclusions(job: DecoderJob, tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("4\nP1\t3\nP2\t3\nP3\t3\nP99\t1\n")
    chosen = dataclasses.replace(job, people=tmp_path / "people.txt", exclude=("P2",), architecture="ridge")
    made = train_store(chosen).provenance.training
    assert (made.people, made.images) == (("P1", "P3"), 6)
    (tmp_path / "people.txt").write_text("1\nP99\t1\n")
    with pytest.raises(BadInput, match=r"people\.txt: none of these people is in the store"):
        train_store(dataclasses.replace(job, people=tmp_path / "people.txt"))


@pytest.mark.parametrize("kind", ["mean-face", "nearest", "ridge"])
def test_closed_forms_are_trained_through_the_same_door(job: DecoderJob, kind: str) -> None:
    decoder = train_store(dataclasses.replace(job, architecture=kind, weights=None))
    assert decoder.kind == kind and decoder.image_size == 64
    assert decoder.provenance.training.images == 30  # nobody is held out
    drawn = load_decoder(job.output).decode(Store.open(job.store).templates())
    assert drawn.shape == (30, 64, 64, 3)


# ---------------------------------------------------------------- learning


def pairs(count: int = 8, dim: int = 16) -> Pairs:
    rng = np.random.default_rng(5)
    portraits = [Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((64, 64)) for _ in range(count)]
    return Pairs(rng.normal(size=(count, dim)).astype(np.float32), np.stack([np.asarray(p) for p in portraits]))


def inputs(
    train: Pairs, settings: TrainSettings, folder: Path, recognizer=None, phi=(), score: str = "cosine"
) -> TrainingInputs:
    """Of a run without validation."""
    empty = train.part(slice(0))
    return TrainingInputs(train, empty, settings, folder, "f", score, recognizer=recognizer, phi=phi)


def new_run(*arguments) -> DecoderRun:
    return DecoderRun(inputs(*arguments), torch.device("cpu"))


@pytest.mark.parametrize("name", ["tiny", "tiny-cosine"])
def test_eight_pictures_can_be_learned_by_heart(tiny: Path, tmp_path: Path, name: str) -> None:
    recognizer = load_recognizer(name, tiny)
    eight = pairs()
    portraits = torch.from_numpy(eight.portraits).permute(0, 3, 1, 2).float() / 255
    eight.templates = recognizer.embed_portraits(portraits).numpy()
    settings = dataclasses.replace(
        SMALL,
        batch_size=8,
        epochs=150,
        learning_rate=5e-3,
        jitter=0.0,
        average=0.9,
        save_every=1000,
        weights=LossWeights(1, 1, 1, 1, 0.6, 0, 0.3),
    )
    heard = Stop()
    phi, score = [RecognizerMaps(recognizer)], recognizer.spec.score
    net, figures = train_decoder(inputs(eight, settings, tmp_path, recognizer, phi, score), progress=heard)
    assert heard.losses[-1] < heard.losses[0] / 3
    assert figures == {"steps": 150, "curve": []}
    drawn = net(torch.from_numpy(eight.templates)).detach()
    mean = portraits.mean(0, keepdim=True)
    assert (drawn - portraits).square().mean() < 0.3 * (mean - portraits).square().mean()


def test_the_start_is_ridge_regression(tiny: Path, tmp_path: Path) -> None:
    from facedecode.decoders.closed_form import Ridge

    eight = pairs(40)
    settings = dataclasses.replace(SMALL, coarse=64, weights=PIXELS_ONLY)
    run = new_run(eight, settings, tmp_path)
    templates, portraits = torch.from_numpy(eight.templates), torch.from_numpy(eight.portraits).permute(0, 3, 1, 2)
    expected = Ridge(16, 64).fit(templates, portraits)(templates)
    torch.testing.assert_close(run.net.eval()(templates), expected, rtol=0, atol=1e-4)


def test_the_schedule_warms_up_and_ends_at_nothing(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, epochs=100, weights=PIXELS_ONLY)
    run = new_run(pairs(), settings, tmp_path)
    rates = []
    for step in range(run.steps):
        run.step = step
        rates.append(run.learning_rate())
    assert max(rates) == settings.learning_rate and rates.index(max(rates)) == 9
    assert np.all(np.diff(rates[:10]) > 0) and np.all(np.diff(rates[10:]) < 0) and 0 < rates[-1] < 1e-6


def test_an_epoch_uses_every_pair_once(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, batch_size=4, weights=PIXELS_ONLY)
    run = new_run(pairs(12), settings, tmp_path)
    orders = []
    for step in range(6):
        run.step = step
        orders.append(run.rows())
    first, second = np.concatenate(orders[:3]), np.concatenate(orders[3:])
    assert sorted(first) == sorted(second) == list(range(12))
    assert not np.array_equal(first, second)


# ---------------------------------------------------------------- loss terms


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, 3, 20, 20, generator=generator))


def test_terms_equal_their_definitions(pictures) -> None:
    x, y = (p.double().numpy() for p in pictures)
    assert losses.pixel_loss(*pictures).item() == pytest.approx(((x - y) ** 2).mean(), rel=1e-5)
    across = (np.diff(x, axis=3) - np.diff(y, axis=3)) ** 2
    down = (np.diff(x, axis=2) - np.diff(y, axis=2)) ** 2
    expected = across.mean() + down.mean()
    assert losses.gradient_loss(*pictures, side=128).item() == pytest.approx(expected, rel=1e-5)
    assert losses.gradient_loss(*pictures, side=64).item() == pytest.approx(expected / 4, rel=1e-5)
    x1, y1, x2, y2 = (round(v * 20) for v in align.LOCAL_REGION)
    np.testing.assert_array_equal(losses.local_region(pictures[0]), x[:, :, y1:y2, x1:x2].astype(np.float32))


def test_a_brighter_picture_has_no_gradient_loss(pictures) -> None:
    x, _ = pictures
    assert losses.gradient_loss(x + 0.25, x, 20).item() < 1e-12
    assert losses.pixel_loss(x + 0.25, x).item() == pytest.approx(0.0625, rel=1e-4)


def test_the_identity_term_follows_the_score() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 9))
    found = [losses.identity_loss(*map(torch.from_numpy, (a, b)), s).item() for s in ("cosine", "negative-euclidean")]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found == pytest.approx([(2 - 2 * cosine).mean(), ((a - b) ** 2).sum(1).mean()])


@pytest.mark.parametrize("score", ["cosine", "negative-euclidean"])
def test_an_identity_loss_of_strangers_is_twice_the_spread(score: str) -> None:
    a, b = torch.randn(2, 2000, 16, generator=torch.Generator().manual_seed(0)) + 1
    spread = losses.template_spread(torch.cat([a, b]), score)
    assert losses.identity_loss(a, b, score).item() == pytest.approx(2 * spread, rel=0.03)


def test_jitter_is_small_seeded_and_can_be_off() -> None:
    def draw(strength: float) -> np.ndarray:
        return losses.random_jitter(4000, torch.Generator().manual_seed(1), strength).numpy()

    np.testing.assert_array_equal(draw(0.0), np.broadcast_to(np.eye(3)[:2], (4000, 2, 3)))
    once = draw(1.0)
    np.testing.assert_array_equal(once, draw(1.0))
    scale = np.sqrt(np.linalg.det(once[:, :, :2]))
    angle = np.degrees(np.arctan2(once[:, 1, 0], once[:, 0, 0]))
    spread = [np.log(scale).std(), angle.std(), (once[:, 0, 2] / 2).std(), (once[:, 1, 2] / 2).std()]
    assert spread == pytest.approx([0.03, 2.52, 0.02, 0.02], rel=0.1)
    np.testing.assert_allclose(once[:, 0, 0], once[:, 1, 1], rtol=1e-6)  # similarities: no shear, no reflection
    np.testing.assert_allclose(once[:, 0, 1], -once[:, 1, 0], rtol=1e-6)


def double(maps: torch.Tensor) -> torch.Tensor:
    return maps + maps.mean()


class Doubled(RecognizerMaps):
    """A second perceptual network, of other maps."""

    def maps(self, view: torch.Tensor) -> list[torch.Tensor]:
        return [double(m) for m in super().maps(view)]

    def maps_and_template(self, view: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        return self.maps(view), self.recognizer.embed(view)


@pytest.mark.parametrize("off", [f.name for f in dataclasses.fields(LossWeights)])
def test_the_loss_is_the_weighted_sum_and_each_term_can_be_off(off: str, tiny: Path, tmp_path: Path):
    recognizer = load_recognizer("tiny", tiny)
    weights = {"pixel": 1.0, "gradient": 2.0, "local_pixel": 3.0, "local_gradient": 4.0}
    weights |= {"perceptual": 0.7, "local_perceptual": 0.6, "identity": 0.5} | {off: 0.0}
    settings = dataclasses.replace(SMALL, jitter=0.0, weights=LossWeights(**weights))
    eight = pairs()
    eight.targets = eight.templates + 1
    phi = [RecognizerMaps(recognizer), Doubled(recognizer)]
    run = new_run(eight, settings, tmp_path, recognizer, phi, "negative-euclidean")
    _, portraits, targets = eight.batch(np.arange(6), torch.device("cpu"))
    np.testing.assert_array_equal(targets, eight.targets[:6])
    drawn = torch.rand(portraits.shape, generator=torch.Generator().manual_seed(2))
    local = [losses.local_region(p) for p in (drawn, portraits)]
    terms = {
        "pixel": losses.pixel_loss(drawn, portraits),
        "gradient": losses.gradient_loss(drawn, portraits, drawn.shape[-1]),
        "local_pixel": losses.pixel_loss(*local),
        "local_gradient": losses.gradient_loss(*local, drawn.shape[-1]),
        "identity": losses.identity_loss(recognizer.embed_portraits(drawn), targets, "negative-euclidean")
        / eight.templates.var(axis=0).sum(),
    }
    views = [recognizer.crop_portraits(p) for p in (drawn, portraits)]
    for name, cut in [("perceptual", lambda v: v), ("local_perceptual", lambda v: phi[0].local(v, drawn.shape[-1]))]:
        maps = [recognizer.net.conv((cut(view) * 255 - 128) / 128) for view in views]
        both = [(f(maps[0]) - f(maps[1])).square().mean() / f(maps[1]).square().mean() for f in (torch.asarray, double)]
        terms[name] = sum(both) / 2
    expected = sum(weights[name] * term for name, term in terms.items())
    torch.testing.assert_close(run.loss(drawn, portraits, targets), expected)


@pytest.mark.parametrize("term", ["identity", "perceptual", "local_perceptual"])
def test_a_term_without_its_network_or_its_gradients_is_refused(term: str, tiny: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, weights=dataclasses.replace(LossWeights(1, 0, 0, 0, 0, 0, 0), **{term: 1.0}))
    black_box = load_recognizer("tiny", tiny)
    black_box.white_box = False
    for recognizer, phi, reason in [
        (None, [], "needs its network"),
        (black_box, [RecognizerMaps(black_box)], "black box"),
    ]:
        with pytest.raises(UsageError, match=reason):
            inputs(pairs(), settings, tmp_path, recognizer, phi)


def test_a_black_box_is_refused_before_any_picture_is_read(job: DecoderJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recognizer, "white_box", False)
    monkeypatch.setattr("facedecode.training.decoder.read_portraits", lambda *a, **k: pytest.fail("read pictures"))
    with pytest.raises(UsageError, match="tiny is a black box"):
        train_store(job)


def test_another_perceptual_network_is_recorded_and_decides_the_result(job: DecoderJob, tiny: Path, tmp_path: Path):
    own = train_store(job)
    other = train_store(dataclasses.replace(job, phi={"tiny-cosine": tiny}, output=tmp_path / "other"))
    assert [[phi.name for phi in d.provenance.training.phi] for d in (own, other)] == [["tiny"], ["tiny-cosine"]]
    with pytest.raises(UsageError, match="squeezenet"):
        train_store(dataclasses.replace(job, phi={"nobody": None}, output=tmp_path / "nobody"))


def test_the_target_is_the_person_or_the_template(
    job: DecoderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    for target in TARGETS:
        decoder = train_store(dataclasses.replace(change(job, identity_target=target), output=tmp_path / target))
        drawn[target] = decoder.decode(Store.open(job.store).templates())
    assert (drawn["person"] != drawn["template"]).any()
    seen: list[Pairs] = []

    def watched(inputs: TrainingInputs, *rest):
        seen.append(inputs.train)
        return train_decoder(inputs, *rest)

    monkeypatch.setattr("facedecode.training.decoder.train_decoder", watched)
    train_store(dataclasses.replace(change(job, mirror=True), output=tmp_path / "mirrored"))
    own, mirrored = np.split(seen[0].templates, 2)
    rows = Store.open(job.store).rows().to_pylist()
    names = np.array([row["identity"] for row in rows])
    kept = ~held_out_people(names, [row["path"] for row in rows], job.validation)
    np.testing.assert_array_equal(own, Store.open(job.store).templates()[kept])
    expected = PersonPrediction.fit(own, names[kept], "negative-euclidean")
    np.testing.assert_allclose(seen[0].targets, expected.apply(np.concatenate([own, mirrored])))
    with pytest.raises(UsageError, match="template or person"):
        train_store(change(job, identity_target="mean"))


def test_bf16_trains_and_says_so(job: DecoderJob) -> None:
    decoder = train_store(change(job, precision="bf16"))
    assert decoder.provenance.training.settings.further["precision"] == "bf16"
    assert all(t.dtype == torch.float32 for t in decoder.net.state_dict().values() if t.is_floating_point())


def test_a_store_of_cosine_templates(make_store: Callable[[str], Path], tiny: Path, tmp_path: Path) -> None:
    store = make_store("tiny-cosine")
    settings = dataclasses.replace(SMALL, epochs=1)
    train_store(DecoderJob(store, tmp_path / "d", validation=0.3, weights=tiny, settings=settings))
    curve = json.loads((tmp_path / "d" / "decoder.json").read_text())["training"]["curve"]
    assert -1 <= curve[-1]["score"] <= 1


# ---------------------------------------------------------------- going on, and gain


def test_going_on_starts_from_the_decoder_and_counts_its_people(job: DecoderJob, tmp_path: Path) -> None:
    people = sorted(set(Store.open(job.store).identities()))
    first = dataclasses.replace(job, exclude=(people[0],))
    before = train_store(first)
    crawling = change(dataclasses.replace(job, exclude=(people[1],)), learning_rate=1e-9)
    second = dataclasses.replace(crawling, output=tmp_path / "second", start=first.output)
    after = train_store(second)
    assert set(before.provenance.training.people) == set(people) - {people[0]}
    assert list(after.provenance.training.people) == people
    assert after.provenance.training.start == before.provenance.training.fingerprint
    for (name, old), new in zip(before.net.named_parameters(), after.net.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-6, msg=name)


def test_the_record_is_of_all_runs_together(job: DecoderJob, tiny: Path, tmp_path: Path) -> None:
    other = change(job, weights=LossWeights(identity=0.0))
    first = dataclasses.replace(other, phi={"tiny-cosine": tiny}, validation=0.0)
    assert not train_store(first).looked_through("tiny")
    second = train_store(dataclasses.replace(job, start=first.output, output=tmp_path / "second"))
    assert second.looked_through("tiny") and second.looked_through("tiny-cosine")
    assert second.provenance.training.held_out == 0 < second.provenance.training.validation
    everybody = second.provenance.training.people
    assert trained_people(second, "second") == list(everybody), "the first run held nobody out"


@pytest.mark.parametrize("phi", ["tiny", "tiny:conv"])
def test_one_file_of_the_recognizer_serves_it_as_phi_too(phi: str, job: DecoderJob, tiny: Path) -> None:
    named = dataclasses.replace(job, weights=None, phi={phi: tiny})
    assert train_store(named).looked_through("tiny")
    with pytest.raises(UsageError, match="two files for tiny"):
        train_store(dataclasses.replace(named, weights=tiny.with_name("other"), output=job.output.with_name("two")))


def test_going_on_from_a_closed_form_is_refused(job: DecoderJob, tmp_path: Path) -> None:
    ridge = dataclasses.replace(job, architecture="ridge", output=tmp_path / "ridge")
    train_store(ridge)
    with pytest.raises(BadInput, match="takes a network of the same"):
        train_store(dataclasses.replace(job, start=ridge.output))


def test_what_is_gone_on_from_is_not_written_over(job: DecoderJob) -> None:
    train_store(job)
    before = content(job.output)
    with pytest.raises(UsageError, match="--start and -o are both"):
        train_store(dataclasses.replace(change(job, seed=3), start=job.output, overwrite=True))
    assert content(job.output) == before


def test_an_unfinished_training_is_not_written_over(job: DecoderJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_store(job, training=Stop(4))
    before = content(job.output)
    with pytest.raises(OutputError, match="holds an unfinished training"):
        train_store(dataclasses.replace(job, architecture="ridge"))
    assert content(job.output) == before


def test_gain_scales_templates_about_their_mean(job: DecoderJob, tmp_path: Path) -> None:
    plain = train_store(job)
    halved = train_store(dataclasses.replace(change(job, gain=0.5), output=tmp_path / "halved"))
    templates = torch.from_numpy(Store.open(job.store).templates())
    mean = plain.net.template_mean
    torch.testing.assert_close(halved(templates), plain(mean + 0.5 * (templates - mean)), rtol=0, atol=1e-5)


def test_an_average_has_the_gain_of_its_record(job: DecoderJob, tmp_path: Path, script) -> None:
    before = train_store(change(job, gain=0.5))
    crawling = change(job, learning_rate=1e-9, gain=0.8)
    after = train_store(dataclasses.replace(crawling, output=tmp_path / "second", start=job.output))
    script("average_decoders").main(
        [str(job.output), str(tmp_path / "second"), "--share", "0", "-o", str(tmp_path / "m")]
    )
    mixed = load_decoder(tmp_path / "m")
    assert mixed.provenance.training.settings.gain == 0.8
    assert mixed.net.template_scale.item() == pytest.approx(after.net.template_scale.item())
    assert before.net.template_scale.item() == pytest.approx(1.6 * after.net.template_scale.item())


def test_a_decoder_between_a_run_and_its_start(job: DecoderJob, tmp_path: Path, script) -> None:
    before = train_store(job)
    second = dataclasses.replace(change(job, seed=3), output=tmp_path / "second", start=job.output)
    after = train_store(second)
    run = script("average_decoders").main
    run([str(job.output), str(second.output), "--share", "0.25", "-o", str(tmp_path / "mixed")])
    mixed = load_decoder(tmp_path / "mixed")
    for (name, old), new, found in zip(
        before.net.named_parameters(), after.net.parameters(), mixed.net.parameters(), strict=True
    ):
        torch.testing.assert_close(found, 0.75 * old + 0.25 * new, msg=name)
    training = mixed.provenance.training
    assert training.people == after.provenance.training.people and training.further["averaged"]["share"] == 0.25
    assert training.fingerprint not in (
        before.provenance.training.fingerprint,
        after.provenance.training.fingerprint,
    )
    with pytest.raises(BadInput, match="did not go on from"):
        run([str(second.output), str(job.output), "--share", "0.5", "-o", str(tmp_path / "other")])
    with pytest.raises(OutputError, match="holds a decoder"):
        run([str(job.output), str(second.output), "--share", "0.5", "-o", str(tmp_path / "mixed")])
