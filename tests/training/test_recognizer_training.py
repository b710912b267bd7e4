"""Recognizers trained here: heads against their formulas, exact resume, folders as models, whom they have seen."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_people
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from typer.testing import CliRunner

from facedecode.annotations.protocols import held_out_people
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, MissingWeights, OutputError, OutputInUse, UsageError
from facedecode.evaluation.cohort import make_reference, unseen_images
from facedecode.files import locked
from facedecode.perceptual.phi import load_phi
from facedecode.recognizers import find_spec_by_name, load_recognizer
from facedecode.recognizers.networks import new_resnet50
from facedecode.recognizers.registry import known_to, read_card
from facedecode.store import Store, StoreWriter
from facedecode.store.images import read_crops
from facedecode.training.jobs import HeadSettings, RecognizerJob, RecognizerSettings
from facedecode.training.recognizer import new_backbone, train_recognizer
from facedecode.training.recognizer_run import ArcFaceHead, Faces, RecognizerRun, SoftMaxHead
from facedecode.training.trainer import STATE

SMALL = RecognizerSettings(image_size=16, epochs=4, batch_size=8, save_every=3, validate_every=4)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 60 drawn faces of 10 people, by `edgeface-xxs`' crop or any: only its images count."""
    folder = tmp_path_factory.mktemp("people")
    # The default recognizer would take seconds; the store of any has the same images.
    from facedecode.recognizers import REGISTRY, networks

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            REGISTRY, "any", dataclasses.replace(REGISTRY["edgeface-xxs"], name="any", architecture="any", dim=3)
        )
        patch.setitem(networks.BUILDERS, "any", lambda path, content: Mean())
        (folder / "any").write_bytes(b"")
        return draw_people(folder / "emb", folder / "faces", "any", folder / "any", each=6)


class Mean(torch.nn.Module):
    """A recognizer's network: the mean color."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture
def job(people: Path, tmp_path: Path) -> RecognizerJob:
    """20 steps on 8 people; two of the ten are held out."""
    return RecognizerJob(people, tmp_path / "own", validation=0.3, settings=SMALL)


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained recognizer: look, do not touch."""
    folder = tmp_path_factory.mktemp("trained") / "own"
    settings = dataclasses.replace(SMALL, epochs=1, save_every=50)
    train_recognizer(RecognizerJob(people, folder, validation=0.3, settings=settings))
    return folder


@pytest.fixture(scope="module")
def whole(people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The folder of a run of `job` that nobody interrupts, and its losses: look, do not touch."""
    folder, seen = tmp_path_factory.mktemp("whole") / "own", Stop()
    train_recognizer(RecognizerJob(people, folder, validation=0.3, settings=SMALL), training=seen)
    return folder, seen.losses


def change(job: RecognizerJob, **settings) -> RecognizerJob:
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, **settings))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Stop:
    """A progress callback that interrupts at a step, and remembers the losses."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.losses = at, []

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if note:
            self.losses.append(float(note.removeprefix("loss ")))
        if done == self.at:
            raise KeyboardInterrupt


# ---------------------------------------------------------------- heads


def arcface_by_angles(templates: np.ndarray, weight: np.ndarray, own: np.ndarray, scale: float, margin: float):
    """Deng et al. 2019, Eq. 3, by angles."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    angles = np.arccos(np.clip(unit(templates) @ unit(weight).T, -1, 1))
    angles[np.arange(len(own)), own] += margin
    return scale * np.cos(angles)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
def test_arcface_logits_are_those_of_the_formula(margin: float) -> None:
    rng = np.random.default_rng(0)
    templates, weight, own = rng.normal(size=(40, 7)), rng.normal(size=(5, 7)), rng.integers(0, 5, 40)
    # Beyond π the head goes on otherwise, so that the loss keeps falling with the angle.
    head = ArcFaceHead(7, 5, scale=30.0).double()
    head.weight.data = torch.from_numpy(weight)
    got = head(torch.from_numpy(templates), torch.from_numpy(own), margin).detach().numpy()
    wanted = arcface_by_angles(templates, weight, own, 30.0, margin)
    unit = templates / np.linalg.norm(templates, axis=1, keepdims=True)
    cosine = (unit @ (weight / np.linalg.norm(weight, axis=1, keepdims=True)).T)[np.arange(40), own]
    within = np.arccos(cosine) + margin <= np.pi
    assert within.sum() > 20
    np.testing.assert_allclose(got[within], wanted[within], atol=1e-6)


def test_the_own_logit_falls_with_the_angle_all_the_way() -> None:
    angles = torch.linspace(0.01, np.pi - 0.01, 500, dtype=torch.float64)
    head = ArcFaceHead(2, 1, scale=64.0).double()
    head.weight.data = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    templates = torch.stack([angles.cos(), angles.sin()], 1)
    logits = head(templates, torch.zeros(500, dtype=torch.int64), 0.5)[:, 0].detach()
    assert (logits.diff() < 0).all()


def test_a_margin_makes_the_loss_larger_and_length_plays_no_part() -> None:
    torch.manual_seed(0)
    head, templates, own = ArcFaceHead(8, 6, 64.0), torch.randn(30, 8), torch.randint(0, 6, (30,))
    losses = [F.cross_entropy(head(templates, own, m), own).item() for m in (0.0, 0.1, 0.3, 0.5)]
    assert losses == sorted(losses) and losses[3] > losses[0] + 1
    torch.testing.assert_close(head(templates * 7, own, 0.5), head(templates, own, 0.5))
    torch.testing.assert_close(head(templates), head(templates, own, 0.0), atol=1e-4, rtol=0)


def test_gradients_of_both_heads() -> None:
    torch.manual_seed(1)
    templates, own = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.randint(0, 4, (6,))
    for head in (ArcFaceHead(5, 4, 8.0).double(), SoftMaxHead(5, 4).double()):
        assert torch.autograd.gradcheck(lambda x, head=head: F.cross_entropy(head(x, own, 0.4), own), templates)
        same = F.normalize(head.weight.detach())[own].requires_grad_()  # the angle 0, where the root has no slope
        F.cross_entropy(head(same, own, 0.4), own).backward()
        assert same.grad.isfinite().all()


def test_softmax_is_linear_with_a_bias_and_sees_lengths() -> None:
    head = SoftMaxHead(3, 2)
    head.bias.data = torch.tensor([1.0, -1.0])
    templates = torch.randn(4, 3)
    torch.testing.assert_close(head(templates), templates @ head.weight.T + torch.tensor([1.0, -1.0]))
    assert not torch.allclose(head(2 * templates), head(templates))


def test_the_margin_grows_to_its_full_size() -> None:
    head = HeadSettings(margin=0.5, warm_up=0.5)
    assert [head.margin_at(step, 100) for step in (0, 25, 50, 99)] == [0.0, 0.25, 0.5, 0.5]
    assert HeadSettings(warm_up=0).margin_at(1, 100) == 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"head": "triplet"}, "softmax or arcface"),
        ({"scale": 0}, "--scale 0"),
        ({"margin": 1.6}, "radians"),
        ({"margin": -0.1}, "radians"),
        ({"warm_up": 2}, "warm-up"),
    ],
)
def test_heads_that_make_no_sense_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        HeadSettings(**settings)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("kind", ["arcface", "softmax"])
def test_drawn_people_are_learned(job: RecognizerJob, kind: str) -> None:
    job = change(job, head=HeadSettings(kind, scale=16.0, margin=0.2), epochs=8, validate_every=20, save_every=50)
    made = train_recognizer(job)
    assert made["classes"] == 8 and made["training_images"] == 40 and made["classification"]["images"] == 8
    assert made["classification"]["accuracy"]["value"] > 0.6  # chance is 1 in 8
    assert made["verification"]["eer"] < 0.25
    assert [p["step"] for p in made["curve"]] == [20, 40]


@pytest.mark.parametrize("stops", [(2,), (3,), (13, 17)])
def test_an_interrupted_run_ends_with_the_same_bytes(job: RecognizerJob, whole: tuple, stops: tuple) -> None:
    folder, losses = whole
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            train_recognizer(job, training=Stop(stop))
        assert not (job.output / "recognizer.json").exists()
    last = Stop()
    train_recognizer(job, training=last)
    assert last.losses == losses[stops[-1] // 3 * 3 :]
    assert content(job.output) == content(folder)


def test_divergence_stops_and_keeps_the_last_state(job: RecognizerJob, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = RecognizerRun.batch_loss
    monkeypatch.setattr(RecognizerRun, "batch_loss", lambda run: sound(run) * (np.nan if run.step == 5 else 1))
    with pytest.raises(BadInput, match=r"the loss is nan at step 5; the state of step 3 is kept"):
        train_recognizer(job)
    assert (job.output / STATE).exists() and not (job.output / "recognizer.json").exists()
    monkeypatch.setattr(RecognizerRun, "batch_loss", sound)
    assert train_recognizer(job)["steps"] == 20


def test_people_and_images_held_out_play_no_part(job: RecognizerJob, people: Path) -> None:
    store = Store.open(people)
    names = store.identities()
    out = held_out_people(names, store.paths(), 0.3)
    made = train_recognizer(job)
    assert made["held_out_people"] == sorted({n for n, held in zip(names, out, strict=True) if held}) != []
    classes = (job.output / "classes.txt").read_text().split()
    assert classes == sorted(set(names) - set(made["held_out_people"]))
    assert list(load_recognizer(str(job.output)).spec.training_people) == sorted(set(names))


def test_people_held_out_keep_their_pairs_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedecode.training.recognizer_run._JUDGED", 20)
    many = Faces(np.zeros((300, 1, 1, 3), np.uint8), [f"P{k // 6:02d}" for k in range(300)])
    some = many.of_some_people()
    counts = {name: some.names.count(name) for name in some.names}
    assert set(counts.values()) == {6} and 12 <= len(some) <= 24
    assert len(many.some()) == 20
    few = Faces(many.crops[:18], many.names[:18])
    assert few.of_some_people() is few and few.some() is few


def test_the_same_job_again_does_nothing_and_another_is_refused(job: RecognizerJob) -> None:
    made = train_recognizer(job)
    before = content(job.output)
    assert train_recognizer(job, training=lambda *a: pytest.fail("trained again")) == json.loads(json.dumps(made))
    for other in (
        change(job, seed=1),
        change(job, head=HeadSettings("softmax")),
        dataclasses.replace(job, exclude=("P3",)),
    ):
        with pytest.raises(OutputError, match="holds another recognizer; use --overwrite"):
            train_recognizer(other)
    assert content(job.output) == before
    again = dataclasses.replace(change(job, seed=1), overwrite=True)
    train_recognizer(again)
    assert content(job.output) != before
    with locked(job.output), pytest.raises(OutputInUse):
        train_recognizer(again)


def test_going_on_from_another(job: RecognizerJob, trained: Path, people: Path) -> None:
    keep = tuple(f"P{k}" for k in range(4))
    few = dataclasses.replace(job, exclude=keep, start=trained, validation=0.0)
    train_recognizer(change(few, epochs=0.1, learning_rate=1e-9))
    there, own = (load_file(folder / "recognizer.safetensors") for folder in (trained, job.output))
    torch.testing.assert_close(own["fc.weight"], there["fc.weight"])
    # Whom the first was trained on, the second has seen, too.
    assert set(keep) < set(load_recognizer(str(job.output)).spec.training_people)
    for wrong in (change(few, image_size=32), change(few, backbone="resnet50", image_size=32)):
        with pytest.raises(BadInput, match="the same --backbone and --image-size"):
            train_recognizer(wrong)
    with pytest.raises(UsageError, match="give the folder of a recognizer"):
        train_recognizer(dataclasses.replace(few, start=trained / "head.safetensors"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*left out fc")
def test_resnet50_from_a_file_in_torchvisions_layout(job: RecognizerJob, tmp_path: Path) -> None:
    from torchvision.models import resnet50

    torch.manual_seed(3)
    save_file(net := resnet50(num_classes=7).state_dict(), tmp_path / "net.safetensors")
    job = dataclasses.replace(
        change(job, backbone="resnet50", image_size=32, epochs=0.1, batch_size=4, learning_rate=1e-9),
        start=tmp_path / "net.safetensors",
    )
    train_recognizer(job)
    recognizer = load_recognizer(str(job.output))
    assert recognizer.spec.dim == 2048 and recognizer.embed_crops(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 2048)
    torch.testing.assert_close(recognizer.net.conv1.weight.cpu(), net["conv1.weight"])
    with pytest.raises(MissingWeights, match=r"gone\.safetensors: no such file"):
        train_recognizer(dataclasses.replace(job, start=tmp_path / "gone.safetensors"))
    assert isinstance(new_resnet50().fc, torch.nn.Identity)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"exclude": tuple(f"P{k}" for k in range(1, 10))}, BadInput, "two or more"),
        ({"min_images": 7}, BadInput, "0 with 7 or more"),
        ({"min_images": 1}, UsageError, "--min-images 1"),
        ({"settings": dataclasses.replace(SMALL, batch_size=64)}, BadInput, "do not fill one batch"),
        ({"settings": dataclasses.replace(SMALL, image_size=40)}, UsageError, "multiples of 16"),
        ({"settings": dataclasses.replace(SMALL, backbone="vgg")}, UsageError, "small or resnet50"),
        ({"settings": dataclasses.replace(SMALL, epochs=0)}, UsageError, "epochs"),
        ({"output": Path("dlib-resnet")}, UsageError, "another network's name"),
        ({"output": Path("a=b")}, UsageError, "named as its folder"),
    ],
)
def test_jobs_that_cannot_be_done_are_refused(job: RecognizerJob, changes: dict, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        train_recognizer(dataclasses.replace(job, **changes))
    assert not (job.output / "recognizer.json").exists()


def test_one_class_is_none(job: RecognizerJob, people: Path) -> None:
    store = Store.open(people)
    names, shares = np.array(store.identities()), np.linspace(0.3, 0.99, 300)
    left = [len(set(names[~held_out_people(names, store.paths(), share)])) for share in shares]
    with pytest.raises(BadInput, match="1 of them are left to train on"):
        train_recognizer(dataclasses.replace(job, validation=float(shares[left.index(1)])))


def test_a_store_is_no_place_for_a_recognizer(job: RecognizerJob, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "copy")
    with pytest.raises(OutputError, match="is an embedding store"):
        train_recognizer(dataclasses.replace(job, output=tmp_path / "copy"))


def test_people_without_names_are_no_classes(job: RecognizerJob, people: Path, tmp_path: Path) -> None:
    store, bare = Store.open(people), tmp_path / "bare"
    rows = [row | {"identity": None} for row in store.rows().to_pylist()]
    with StoreWriter(bare, {}, store.root, store.recognizer, manifest={"score": "cosine"}) as writer:
        writer.append(store.templates(), rows, [], len(rows))
        writer.finish()
    with pytest.raises(BadInput, match="no template has a person"):
        train_recognizer(dataclasses.replace(job, store=bare))


# ---------------------------------------------------------------- a folder as a model


def test_a_folder_rebuilds_the_network(trained: Path, people: Path) -> None:
    recognizer = load_recognizer(str(trained))
    card = json.loads((trained / "recognizer.json").read_text())
    assert recognizer.name == "own" and card["recognizer"] == json.loads(json.dumps(recognizer.describe().as_json()))
    assert str(trained.parent) not in json.dumps(card)
    store = Store.open(people)
    crops = read_crops(store.rows().to_pylist(), store.root, recognizer.spec.crop)
    net = new_backbone(SMALL).eval()
    net.load_state_dict(load_file(trained / "recognizer.safetensors"))
    with torch.inference_mode():
        wanted = net((torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5).numpy()
    np.testing.assert_allclose(recognizer.embed_crops(crops), wanted, atol=1e-4)
    # It is a white box, and so a φ.
    pixels = torch.rand(2, 3, 16, 16, requires_grad=True)
    recognizer.embed(pixels).square().sum().backward()
    assert pixels.grad.abs().sum() > 0
    assert [m.shape[1] for m in recognizer.features(torch.rand(1, 3, 16, 16))] == [16, 32, 64]


@pytest.mark.parametrize("given", ["", "recognizer.json", "recognizer.safetensors"])
def test_a_path_or_its_name_with_weights(trained: Path, given: str) -> None:
    wanted = load_recognizer(str(trained)).describe()
    assert load_recognizer(str(trained / given)).describe() == wanted
    assert load_recognizer("own", trained / given).describe() == wanted
    assert find_spec_by_name(str(trained)).dim == 128
    assert load_phi("own", trained).recognizer.describe() == wanted
    assert load_phi(f"{trained}:stages.1").layers == ("stages.1",)


def test_names_without_a_folder_say_what_to_give(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recognizer is called 'own'; known: .*--weights for a store's"):
        load_recognizer("own")
    with pytest.raises(BadInput, match="holds the recognizer own, not other"):
        load_recognizer("other", trained)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda card: card | {"format_version": 9}, "format version 9"),
        (lambda card: {k: v for k, v in card.items() if k != "architecture"}, "field 'architecture' is missing"),
        (lambda card: card | {"architecture": "os"}, "unknown architecture 'os'"),
        (lambda card: card | {"config": {"size": 16, "depth": 3}}, "does not fit a small_resnet"),
        (
            lambda card: card | {"recognizer": card["recognizer"] | {"weights_sha256": "0" * 64}},
            "not the known weights",
        ),
        (
            lambda card: card | {"recognizer": card["recognizer"] | {"score": "angle"}},
            "recognizer.score' is not",
        ),
        (lambda card: card | {"config": card["config"] | {"dim": 64}}, "does not fit a small_resnet"),
        (lambda card: card | {"config": card["config"] | {"widths": [16, 32, 64, 64]}}, "not these weights"),
        (lambda card: [card], "holds no JSON object"),
    ],
)
def test_damaged_cards_are_refused(trained: Path, tmp_path: Path, damage: Callable, said: str) -> None:
    broken = tmp_path / "own"
    shutil.copytree(trained, broken)
    path = broken / "recognizer.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(BadInput, match=said) as told:
        load_recognizer(str(broken))
    assert "\n" not in str(told.value)


def test_weights_that_are_gone(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "own")
    (tmp_path / "own" / "recognizer.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"recognizer\.safetensors: no such weights file for own"):
        load_recognizer(str(tmp_path / "own"))


def test_it_is_not_judged_on_people_whom_it_knows(trained: Path, people: Path) -> None:
    recognizer, store = load_recognizer(str(trained)), Store.open(people)
    with pytest.raises(BadInput, match="recognizer own: trained on 10 of the 10 people"):
        make_reference(recognizer, store, unseen_images(store, None))


@pytest.mark.parametrize("what", [("verification",), ("aggregation", "--persons", "10")])
def test_evaluations_refuse_people_whom_it_knows(trained: Path, people: Path, tmp_path: Path, what: tuple) -> None:
    recognizer, store = load_recognizer(str(trained)), Store.open(people)
    rows = store.rows().to_pylist()
    templates = np.random.default_rng(0).normal(size=(len(rows), 128)).astype(np.float32)
    with StoreWriter(
        tmp_path / "emb", {}, store.root, recognizer.describe(), manifest={"score": "cosine", "l2_normalized": False}
    ) as writer:
        writer.append(templates, rows, [], len(rows))
        writer.finish()
    result = CliRunner().invoke(app, ["evaluate", *what, str(tmp_path / "emb")])
    assert result.exit_code == 4 and "recognizer own: trained on" in result.output


# ---------------------------------------------------------------- the command line


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.filterwarnings("ignore:rotate30. 3 pairs do not determine")
def test_every_stage_takes_the_folder(
    photos: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run(
        *("train", people, "--kind", "recognizer", "-o", "own", "--image-size", 16, "--epochs", 1, "--batch-size", 8),
        *("--device", "cpu"),
    )
    assert made["outputs"] == {"recognizer": "own"} and made["metrics"]["classes"] > 2
    (tmp_path / "elsewhere").mkdir()
    shutil.move("own", "elsewhere/own")
    own = tmp_path / "elsewhere" / "own"
    run("extract", photos, "-o", "emb", "--model", own, "--device", "cpu")
    manifest = json.loads(Path("emb/manifest.json").read_text())
    assert manifest["recognizer"]["name"] == "own" and str(own.parent) not in json.dumps(manifest["recognizer"])
    small = ("--image-size", 64, "--epochs", 1, "--batch-size", 2, "--validation", 0, "--device", "cpu")
    run("train", "emb", "-o", "decoder", *small, "--weights", own, "--phi", own)
    files, store = set(known_to(read_card(own).spec(own)).pictures.files), Store.open("emb")
    assert len(files) == len(Store.open(people)) and set(store.known.pictures.files) == files
    assert files < set(load_decoder("decoder").known.pictures.files), "through φ, and through the store"
    told = CliRunner().invoke(app, ["train", "emb", "-o", "second", *map(str, small)])
    assert told.exit_code == 2 and "no recognizer is called 'own'" in told.output
    # A folder of that name is not opened either: it is a store that says the name.
    shutil.copytree(own, "own")
    told = CliRunner().invoke(app, ["train", "emb", "-o", "second", *map(str, small)])
    assert told.exit_code == 2 and "no recognizer is called 'own'" in told.output
    shutil.rmtree("own")
    found = run(
        "invert", "emb", "-o", "out", "--decoder", "decoder", "--weights", own, "--refine", 1, "--device", "cpu"
    )
    assert found["metrics"]
    np.save("one.npy", Store.open("emb").templates()[:1])
    run("invert", "one.npy", "-o", "one.png", "--decoder", "decoder", "--model", own, "--device", "cpu")
    run(
        "fit-mapping",
        "--transform",
        "rotate30",
        "--embeddings",
        "emb",
        "--weights",
        own,
        "-o",
        "maps",
        "--device",
        "cpu",
    )
    run(
        *("train", "emb", "--kind", "classifier", "-o", "head.safetensors", "--from-head", own / "head.safetensors"),
        *("--names", own / "classes.txt", "--head", "cosine", "--scale", 64),
    )
    target = next((photos / "Mirror").iterdir())
    run(
        *("attack", photos / "Eileen", "-o", "adv", "--method", "tfgsm", "--objective", "embedding"),
        *("--target", target, "--model", own, "--threshold", 0.5, "--device", "cpu", "--epsilon", 0.03),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--phi", "squeezenet"), "--phi does not go with --kind recognizer"),
        (("--head", "softmax", "--margin", "0.4"), "--margin does not go with a softmax head"),
        (("--head", "cosine"), "--head cosine: a recognizer is trained with softmax or arcface"),
    ],
)
def test_options_of_other_kinds_are_refused(people: Path, tmp_path: Path, options: tuple, said: str) -> None:
    arguments = ["train", str(people), "--kind", "recognizer", "-o", str(tmp_path / "own"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and said in result.output
    plain = CliRunner().invoke(app, ["train", str(people), "-o", str(tmp_path / "d"), "--backbone", "small"])
    assert plain.exit_code == 2 and "--backbone does not go with --architecture dfd" in plain.output
