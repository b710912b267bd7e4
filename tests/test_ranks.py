"""Several processes: the store of one to the byte, its network up to rounding, and one clear line if one is lost."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_tiny
from PIL import Image
from processes import in_processes, results
from torch import nn

from facedecode.cli.app import launched
from facedecode.decoders.network import DeepFaceDecoder
from facedecode.errors import UsageError
from facedecode.extraction.jobs import StoreOptions
from facedecode.extraction.run import extract
from facedecode.perceptual.phi import RecognizerMaps
from facedecode.pictures import align
from facedecode.pictures.faces import Face, FaceDetector
from facedecode.ranks import Ranks
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.training.decoder_run import DecoderRun, Pairs, TrainingInputs, train_decoder
from facedecode.training.jobs import LossWeights, TrainSettings
from facedecode.training.trainer import share_batch_norm

SETTINGS = TrainSettings(
    image_size=64,
    widths=(8, 8, 8, 4, 4),
    coarse=0,
    batch_size=5,
    epochs=25,
    learning_rate=1e-4,  # with 1e-3 rounding grows to 1e-2 in these steps; their gradients have a test of their own
    average=0.9,
    save_every=20,
    validate_every=25,
    weights=LossWeights(4, 1, 4, 1, 0.2, 0.1, 0.1),
)


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------- what they tell one another


def _talk(ranks: Ranks) -> list:
    values = torch.arange(3.0) + ranks.rank
    far = torch.full((2, 2), float(ranks.rank))
    ranks.sum([values, far])
    copied = torch.full((3,), float(ranks.rank))
    ranks.copy_from_first([copied])
    told = ranks.gather(b"x" * ranks.rank)
    return [values.tolist(), far.tolist(), copied.tolist(), told, ranks.from_first(["a", ranks.rank]), ranks.first]


def test_sums_copies_and_bytes_reach_everybody() -> None:
    ended = results(in_processes(_talk, count=3))
    told = [[3.0, 6.0, 9.0], [[3.0, 3.0]] * 2, [0.0] * 3, [b"", b"x", b"xx"], ["a", 0]]
    assert ended == [[*told, rank == 0] for rank in range(3)]
    assert _talk(Ranks()) == [[0.0, 1.0, 2.0], [[0.0, 0.0]] * 2, [0.0] * 3, [b""], ["a", 0], True]


@pytest.mark.parametrize(("rows", "count"), [(32, 2), (7, 3), (2, 5), (0, 2)])
def test_parts_are_contiguous_and_even(rows: int, count: int) -> None:
    parts = [list(range(rows))[Ranks(rank, count, meeting=object()).part(rows)] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"RANK": None}, "RANK not; start several processes by torchrun"),
        ({"MASTER_PORT": None, "MASTER_ADDR": None}, "MASTER_ADDR, MASTER_PORT not"),
        ({"RANK": "two"}, "malformed"),
        ({"RANK": "2"}, "malformed"),
    ],
)
def test_variables_that_no_launcher_sets_are_refused(changed: dict, reason: str) -> None:
    sound = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    sound |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    ranks = launched(sound)
    assert (ranks.rank, ranks.count, ranks.local, ranks.local_count, ranks.first) == (1, 2, 1, 2, False)
    with pytest.raises(UsageError, match=reason):
        launched({name: value for name, value in (sound | changed).items() if value is not None})


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"WORLD_SIZE": "8", "RANK": "3"}])
def test_without_a_launcher_a_process_is_alone(environment: dict[str, str]) -> None:
    assert launched(environment).count == 1


# ---------------------------------------------------------------- extraction


class Detector:
    """Finds the portrait's face in light pictures, none in dark ones; takes no time."""

    settings = {"detector": "drawn"}  # noqa: RUF012

    def find(self, images: Sequence[np.ndarray], paths: object = ()) -> Iterator[tuple[int, Face | str]]:
        for number, image in enumerate(images):
            yield number, align.portrait_face(len(image)) if image.mean() > 50 else "no face found"


def _extract(ranks: Ranks, images: Path, output: Path, weights: Path, options: dict, dies: tuple | None = None):
    def progress(done: int, total: int, note: str = "") -> None:
        if dies == (ranks.rank, done):
            os.kill(os.getpid(), signal.SIGKILL)
        if dies == ("stop", done):
            raise KeyboardInterrupt

    recognizer = load_recognizer("tiny", weights)
    how = StoreOptions(**{"batch_size": 2, "shard_rows": 3, **options})
    extract([images], output, recognizer, Detector(), options=how, progress=progress, ranks=ranks)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures with a face, a file that is none, and a dark one."""
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(4)
    for number in range(12):
        (folder / f"P{number // 6}").mkdir(exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((96, 96))
        picture.save(folder / f"P{number // 6}" / f"{number:02d}.png")
    (folder / "P0" / "03a.jpg").write_text("not a picture")
    Image.new("RGB", (96, 96)).save(folder / "P1" / "05a.png")
    return folder


@pytest.mark.parametrize(("count", "options"), [(2, {}), (3, {"batch_size": 4, "shard_rows": 5})])
def test_the_store_is_that_of_one_process(mixed: Path, tiny: Path, tmp_path: Path, count: int, options: dict) -> None:
    _extract(Ranks(), mixed, tmp_path / "one", tiny, options)
    results(in_processes(_extract, mixed, tmp_path / "several", tiny, options, count=count))
    assert content(tmp_path / "several") == content(tmp_path / "one")
    assert len(Store.open(tmp_path / "one")) == 12 and len(Store.open(tmp_path / "one").failures()) == 2


def test_a_killed_process_is_named_and_the_rest_resumed_by_any_number(mixed: Path, tiny: Path, tmp_path: Path) -> None:
    _extract(Ranks(), mixed, tmp_path / "whole", tiny, {})
    first, second = in_processes(_extract, mixed, tmp_path / "parts", tiny, {}, (1, 6))
    assert second.signal == signal.SIGKILL and first.error == "PeerLost"
    line, code = first.said
    assert line.startswith("process 1 of 2 no longer answers") and "the same command resumes" in line and code == 4
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "parts").glob("*.npy")}
    assert done and not (tmp_path / "parts" / "manifest.json").exists()
    with pytest.raises(KeyboardInterrupt):
        _extract(Ranks(), mixed, tmp_path / "parts", tiny, {}, ("stop", 9))
    results(in_processes(_extract, mixed, tmp_path / "parts", tiny, {}))
    assert content(tmp_path / "parts") == content(tmp_path / "whole")
    assert {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in done} == done


def test_where_the_first_is_killed_another_speaks(mixed: Path, tiny: Path, tmp_path: Path) -> None:
    first, second = in_processes(_extract, mixed, tmp_path / "emb", tiny, {}, (0, 6))
    assert first.signal == signal.SIGKILL
    assert second.said[0].startswith("process 0 of 2 no longer answers")


def _extract_otherwise(ranks: Ranks, images: Path, output: Path, weights: Path, other: dict) -> None:
    _extract(
        ranks, other.get("images", images) if ranks.rank else images, output, weights, other["options"][ranks.rank]
    )


def test_processes_that_were_started_for_other_work_are_refused(mixed: Path, tiny: Path, tmp_path: Path) -> None:
    other = {"options": [{}, {"batch_size": 4}]}
    ended = in_processes(_extract_otherwise, mixed, tmp_path / "emb", tiny, other)
    assert {each.error for each in ended} == {"UsageError"} and ended[1].said is None
    line, code = ended[0].said
    assert line.startswith("process 1 of 2 (on ") and code == 2
    assert "settings.batch_size 2 in process 0, 4 in process 1" in line
    assert not (tmp_path / "emb").exists()


def test_what_ends_another_process_is_said_by_the_first(mixed: Path, tiny: Path, tmp_path: Path) -> None:
    other = {"options": [{}, {}], "images": mixed / "nowhere"}
    first, second = in_processes(_extract_otherwise, mixed, tmp_path / "emb", tiny, other)
    assert (first.error, second.error) == ("PeerLost", "BadInput") and second.said is None
    assert first.said == (f"process 1 of 2: {mixed / 'nowhere'}: no such file or folder; check the path", 4)


# ---------------------------------------------------------------- training


def pairs(count: int, recognizer: Recognizer, seed: int = 5) -> Pairs:
    """Smooth pictures with their templates."""
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8)).resize((64, 64)) for _ in range(count)]
    portraits = np.stack([np.asarray(picture) for picture in pictures])
    seen = torch.from_numpy(portraits).permute(0, 3, 1, 2).float() / 255
    return Pairs(recognizer.embed_portraits(seen).numpy(), portraits)


def inputs(
    data: tuple[Pairs, Pairs], recognizer: Recognizer, settings: TrainSettings, folder: Path, accumulate: int
) -> TrainingInputs:
    """Of a run through the recognizer's own maps."""
    score, phi = "negative-euclidean", [RecognizerMaps(recognizer)]
    return TrainingInputs(*data, settings, folder, "f", score, "dfd", recognizer, phi, accumulate=accumulate)


def _train(ranks: Ranks, folder: Path, weights: Path, dies: tuple | None = None, accumulate: int = 1) -> tuple:
    """Losses, weights and curve of 50 steps with every term on."""
    losses = []

    def progress(done: int, total: int, note: str = "") -> None:
        if note:
            losses.append(float(note.removeprefix("loss ")))
        if dies == (ranks.rank, done):
            os.kill(os.getpid(), signal.SIGKILL)

    recognizer = load_recognizer("tiny", weights)
    folder.mkdir(exist_ok=True)
    data = pairs(10, recognizer), pairs(4, recognizer, 6)
    net, figures = train_decoder(inputs(data, recognizer, SETTINGS, folder, accumulate), "cpu", ranks, progress)
    return losses, {name: t.numpy() for name, t in net.state_dict().items()}, figures["curve"]


def _gradients(ranks: Ranks, folder: Path, weights: Path, batch: int, accumulate: int) -> dict[str, np.ndarray]:
    """Of one step from a network whose every weight is random."""
    recognizer = load_recognizer("tiny", weights)
    settings = dataclasses.replace(SETTINGS, batch_size=batch)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        start = DeepFaceDecoder(16, 64, settings.widths, 8)
        nn.init.normal_(start.head.weight, std=0.1)
        nn.init.normal_(start.coarse_weight, std=0.1)
    phi = [RecognizerMaps(recognizer), RecognizerMaps(load_recognizer("tiny-cosine", weights))]
    data = pairs(10, recognizer), pairs(1, recognizer)
    started = dataclasses.replace(inputs(data, recognizer, settings, folder, accumulate), start=start, phi=phi)
    run = DecoderRun(started, torch.device("cpu"), ranks)
    loss = run.train_step()
    return {"loss": np.array([loss]), **{name: p.grad.numpy() for name, p in run.net.named_parameters()}}


@pytest.mark.parametrize(("count", "batch", "accumulate"), [(2, 9, 1), (3, 10, 1), (1, 5, 3), (2, 5, 2)])
def test_the_gradients_of_a_step_are_those_of_one_process(
    weights: Path, tmp_path: Path, count: int, batch: int, accumulate: int
) -> None:
    (expected,) = results(in_processes(_gradients, tmp_path, weights, batch, 1, count=1))
    assert all(np.abs(values).max() > 0 for values in expected.values())
    for found in results(in_processes(_gradients, tmp_path, weights, batch, accumulate, count=count)):
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-4 * np.abs(values).max(), err_msg=name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the recognizer `tiny`."""
    return save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def alone(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """What one process makes, and the files that it leaves."""
    folder = tmp_path_factory.mktemp("alone")
    (made,) = results(in_processes(_train, folder, weights, count=1))
    return *made, content(folder).keys()


def same(found: tuple, expected: tuple) -> None:
    """Losses to 1e-4 at every step they have in common, from the end; weights and curve likewise."""
    np.testing.assert_allclose(found[0], expected[0][-len(found[0]) :], rtol=1e-4, atol=1e-4)  # they have four digits
    for name, values in expected[1].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_two_processes_train_as_one(alone: tuple, weights: Path, tmp_path: Path) -> None:
    both = results(in_processes(_train, tmp_path / "two", weights))
    assert len(alone[0]) == 50 and np.mean(alone[0][-10:]) < 0.98 * np.mean(alone[0][:10])
    for found in both:
        same(found, alone)
    for name, values in both[0][1].items():
        np.testing.assert_array_equal(both[1][1][name], values)
    assert [point["step"] for point in both[0][2]] == [25, 50] and both[1][2] == []
    np.testing.assert_allclose([p["psnr"] for p in both[0][2]], [p["psnr"] for p in alone[2]], atol=0.01)
    assert content(tmp_path / "two").keys() == alone[3]


@pytest.mark.parametrize(("count", "accumulate"), [(1, 2), (1, 5), (2, 2)])
def test_pieces_of_a_batch_make_the_same_step(
    alone: tuple, weights: Path, tmp_path: Path, count: int, accumulate: int
) -> None:
    for found in results(in_processes(_train, tmp_path / "pieces", weights, None, accumulate, count=count)):
        same(found, alone)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_killed_training_goes_on_with_any_number(
    alone: tuple, weights: Path, tmp_path: Path, before: int, after: int
) -> None:
    ended = in_processes(_train, tmp_path / "parts", weights, (before - 1, 32), count=before)
    assert ended[-1].signal == signal.SIGKILL
    if before == 2:
        assert ended[0].said[0].startswith("process 1 of 2 no longer answers")
    for found in results(in_processes(_train, tmp_path / "parts", weights, count=after)):
        assert len(found[0]) == 30
        same(found, alone)


@pytest.mark.parametrize(("count", "accumulate"), [(2, 3), (6, 1), (1, 6)])
def test_a_batch_that_does_not_go_round_is_refused(tiny: Path, tmp_path: Path, count: int, accumulate: int) -> None:
    ranks, recognizer = Ranks(0, count, meeting=object()), load_recognizer("tiny", tiny)
    data = pairs(10, recognizer), pairs(4, recognizer)
    with pytest.raises(UsageError, match=f"batch of 5 cannot be split among {count} processes in {accumulate} pieces"):
        DecoderRun(inputs(data, recognizer, SETTINGS, tmp_path, accumulate), torch.device("cpu"), ranks)


def _normalize(ranks: Ranks, kind: str, affine: bool) -> list[np.ndarray]:
    """Two steps of a batch normalization: what it makes, its gradients and buffers; of rows that are far off zero."""
    generator = torch.Generator().manual_seed(0)
    shape = (7, 4, 3, 5) if kind == "BatchNorm2d" else (7, 4)
    whole, wanted = (torch.randn(2, *shape, generator=generator) for _ in range(2))
    net = nn.Sequential(nn.Identity(), getattr(nn, kind)(4, affine=affine))
    if affine:
        nn.init.uniform_(net[1].weight, 0.5, 2, generator=generator)
    share_batch_norm(net, ranks)
    made = []
    own = ranks.part(7)
    for x, target in zip(whole * 0.1 + 30, wanted, strict=True):
        rows = x[own].requires_grad_()
        out = net(rows)
        (out * target[own]).sum().backward()
        made += [out.detach().numpy(), rows.grad.numpy()]
    gradients = [p.grad for p in net.parameters()]
    ranks.sum(gradients)
    net.eval()
    made.append(net(whole[0][own]).detach().numpy())
    return [*made, *(g.numpy() for g in gradients), *(b.numpy() for b in net.buffers())]


@pytest.mark.parametrize(("kind", "affine"), [("BatchNorm2d", True), ("BatchNorm1d", False)])
def test_shared_statistics_are_those_of_the_whole_batch(kind: str, affine: bool) -> None:
    expected = _normalize(Ranks(), kind, affine)
    parts = results(in_processes(_normalize, kind, affine))
    for index, values in enumerate(expected):
        found = np.concatenate([part[index] for part in parts]) if index < 5 else parts[0][index]
        np.testing.assert_allclose(found, values, rtol=2e-4, atol=2e-4)


# ---------------------------------------------------------------- under torchrun


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess:
    # --standalone takes a free port: without, all of a machine's runs would meet at the same one.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "facedecode", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_torchrun_extracts_with_one_voice(photos: Path, tmp_path: Path) -> None:
    arguments = ["extract", photos, "--batch-size", "2", "--json"]
    several = torchrun(*arguments, "-o", tmp_path / "several")
    assert several.returncode == 0, several.stderr
    assert json.loads(several.stdout)["metrics"] == {"count": 6, "failed": 0}
    assert several.stderr.count("6 templates of dlib-resnet") == 1
    extract([photos], tmp_path / "one", load_recognizer(), FaceDetector(), options=StoreOptions(batch_size=2))
    assert content(tmp_path / "several") == content(tmp_path / "one")


@pytest.mark.slow
def test_what_runs_in_one_process_says_so_once(tmp_path: Path) -> None:
    refused = torchrun("cluster", tmp_path, "-o", tmp_path / "clusters", "--json")
    assert refused.returncode == 1  # torchrun's own
    assert json.loads(refused.stdout)["exit_code"] == 2
    assert refused.stderr.count("error: cluster runs in one process; start it without torchrun") == 1
