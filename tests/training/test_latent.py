"""Decoders through a generator: known latents come back, pictures lie in the portrait's frame, and what is refused."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.decoders.latent import LatentDecoder, mean_frame
from facedecode.errors import BadInput, FacedecodeWarning, MissingWeights, OutputError, UsageError
from facedecode.evaluation.security.report import decoder_needs
from facedecode.identity import RecognizerId
from facedecode.pictures import align
from facedecode.pictures.faces import Face
from facedecode.recognizers.custom_runtime import load_program
from facedecode.training import latent as latent_training
from facedecode.training.jobs import LatentJob
from facedecode.training.latent import Samples, train_latent

SIDE, LATENT = 96, 3
RECOGNIZER = RecognizerId("tiny", "ab" * 32, dim=16)


class Linear(nn.Module):
    """A mean picture and a smooth pattern for each number; black is -1, white 1."""

    def __init__(self, side: int = SIDE, strength: float = 0.12) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        looks = torch.rand(LATENT + 1, 3, 5, 5, generator=generator) * 2 - 1
        looks = nn.functional.interpolate(looks, (side, side), mode="bicubic", align_corners=False)
        self.register_buffer("mean", looks[0] * 0.5)
        self.register_buffer("patterns", looks[1:] * strength)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.mean + torch.einsum("nk,kcij->ncij", latents, self.patterns)


def export(module: nn.Module, path: Path, batch: int | None = None, inputs: int = LATENT) -> Path:
    shape = None if batch else ({0: torch.export.Dim("n")},)
    program = torch.export.export(module.eval(), (torch.zeros(batch or 2, inputs),), dynamic_shapes=shape)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Linear(), tmp_path_factory.mktemp("generator") / "g.pt2")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Face]:
    """The faces that the detector 'finds': in every picture the same, as in a generator of aligned faces."""
    faces = [align.portrait_face(SIDE)]

    class Detector:
        def __init__(self, device: str) -> None:
            self.settings = {"detector": "none"}

        def detect(self, images: list[np.ndarray]) -> list[list[Face]]:
            return [list(faces) for _ in images]

    monkeypatch.setattr(latent_training, "FaceDetector", Detector)
    return faces


@pytest.fixture
def job(tiny_store: Path, tiny: Path, program: Path, found: list[Face], tmp_path: Path) -> LatentJob:
    return LatentJob(
        tiny_store, tmp_path / "latent", program, (-1, 1), samples=200, image_size=64, weights=tiny, seed=1
    )


# ---------------------------------------------------------------- the regression and the frame


def new_net(dim: int = 16, size: int = 64) -> LatentDecoder:
    about = {"file": "generator.pt2", "sha256": "", "latent": LATENT, "side": SIDE, "range": [-1, 1]}
    return LatentDecoder(dim, size, about)


def test_known_latents_come_back() -> None:
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(400, LATENT)).astype(np.float32)
    templates = (latents @ rng.normal(size=(LATENT, 16)) + rng.normal(size=16) * 9).astype(np.float32)
    landmarks = np.repeat(align.portrait_face(SIDE).landmarks[None], 400, 0)
    net = new_net()
    figures = latent_training.fit(net, Samples(latents, templates, landmarks))
    assert figures["r2"] > 0.9999 and figures["fitted"] == 360 and figures["frame_spread"] < 1e-6
    np.testing.assert_allclose(net.latents(torch.from_numpy(templates)), latents, atol=2e-3)


def test_noise_is_not_learned() -> None:
    rng = np.random.default_rng(0)
    samples = Samples(*(rng.normal(size=(300, k)).astype(np.float32) for k in (LATENT, 16)), np.zeros((300, 5, 2)))
    samples = dataclasses.replace(samples, landmarks=np.repeat(align.portrait_face(SIDE).landmarks[None], 300, 0))
    net = new_net()
    figures = latent_training.fit(net, samples)
    assert -0.2 < figures["r2"] < 0.1
    assert net.latents(torch.from_numpy(samples.templates)).abs().mean() < 0.3  # near the mean latent


def test_the_frame_brings_the_median_face_onto_the_portrait() -> None:
    rng = np.random.default_rng(1)
    linear, shift = np.array([[0.8, 0.3], [-0.3, 0.8]]), np.array([20, 11])
    points = align.portrait_face(64).landmarks @ linear.T + shift
    landmarks = points + rng.normal(0, 0.5, (500, 5, 2))
    frame = mean_frame(landmarks, 64)
    np.testing.assert_allclose(points @ frame[:, :2].T + frame[:, 2], align.portrait_face(64).landmarks, atol=0.15)


def test_faces_all_over_the_picture_are_warned_of() -> None:
    rng = np.random.default_rng(1)
    landmarks = align.portrait_face(SIDE).landmarks + rng.normal(0, 15, (400, 1, 2))
    samples = Samples(*(rng.normal(size=(400, k)).astype(np.float32) for k in (LATENT, 16)), landmarks)
    with pytest.warns(FacedecodeWarning, match="one frame for all of them"):
        latent_training.fit(new_net(), samples)


# ---------------------------------------------------------------- the whole


def test_templates_of_generated_pictures_draw_those_pictures(job: LatentJob, recognizer) -> None:
    decoder = train_latent(job)
    figures = decoder.provenance.training.figures
    assert figures["r2"] > 0.9
    # Other latents than those that were fitted; the frame is the portrait's own, at another size.
    latents = torch.randn(20, LATENT, generator=torch.Generator().manual_seed(99))
    pictures = ((Linear()(latents) + 1) / 2).clamp(0, 1)
    images = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    templates = recognizer.embed_crops(np.stack([recognizer.crop(x, align.portrait_face(SIDE)) for x in images]))
    wanted = nn.functional.interpolate(pictures, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    error = (torch.from_numpy(decoder.decode(templates)).permute(0, 3, 1, 2) / 255 - wanted).square().mean().sqrt()
    spread = (wanted - wanted.mean(0)).square().mean().sqrt()
    assert error < 0.4 * spread
    assert abs(figures["score"]) < 0.5 * np.linalg.norm(templates - templates.mean(0), axis=1).mean()


def test_a_checkpoint_holds_its_generator(job: LatentJob, tmp_path: Path, program: Path) -> None:
    decoder = train_latent(job)
    card = json.loads((job.output / "decoder.json").read_text())
    assert (job.output / "generator.pt2").read_bytes() == program.read_bytes()
    assert card["config"]["generator"]["sha256"] == load_program(program).sha256
    assert not any(name.startswith("mean") for name in decoder.net.state_dict())  # the generator stays in its file
    job.output.rename(tmp_path / "moved")
    again = load_decoder(tmp_path / "moved")
    templates = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    assert (again.decode(templates) == decoder.decode(templates)).all()
    assert again.provenance == decoder.provenance
    # Asked only: no gradient of any recognizer shaped it.
    assert again.looked_through("tiny") is False and again.provenance.training.looked_through == ()
    assert "black-box" in decoder_needs(again) and "pairs" not in decoder_needs(again)


def test_gradients_flow_back_to_templates(job: LatentJob) -> None:
    decoder = train_latent(job)
    templates = torch.randn(2, 16, requires_grad=True)
    decoder(templates).square().mean().backward()
    assert templates.grad.abs().max() > 0


def test_the_same_job_again_does_nothing_and_another_is_refused(job: LatentJob) -> None:
    train_latent(job)
    before = {p.name: p.read_bytes() for p in job.output.iterdir()}
    train_latent(job, progress=lambda *a: pytest.fail("generated again"))
    other = dataclasses.replace(job, seed=2)
    with pytest.raises(OutputError, match="holds another decoder; use --overwrite"):
        train_latent(other)
    assert {p.name: p.read_bytes() for p in job.output.iterdir()} == before
    train_latent(dataclasses.replace(other, overwrite=True))
    train_latent(dataclasses.replace(job, overwrite=True))
    assert {p.name: p.read_bytes() for p in job.output.iterdir()} == before


def test_whom_the_generator_saw_decides_whom_it_is_judged_on(job: LatentJob, tmp_path: Path) -> None:
    from facedecode.evaluation.cohort import JudgedImages, require_unseen
    from facedecode.known_pictures import Known

    made = train_latent(job).provenance.training
    with pytest.raises(BadInput, match="does not record the people it was trained on"):
        require_unseen("latent", Known(made.people or ()), JudgedImages.of_people(["P1"]))
    (tmp_path / "seen.txt").write_text("P2\nP1\n")
    named = dataclasses.replace(job, people=tmp_path / "seen.txt", overwrite=True)
    made = train_latent(named).provenance.training
    assert made.people == ("P1", "P2")
    with pytest.raises(BadInput, match="trained on 1 of the 1 people"):
        require_unseen("latent", Known(made.people or ()), JudgedImages.of_people(["P1"]))
    require_unseen("latent", Known(made.people or ()), JudgedImages.of_people(["P3"]))


def test_a_fixed_batch_and_torchscript_draw_alike(job: LatentJob, tmp_path: Path) -> None:
    drawn = []
    for name, path in {
        "fixed": export(Linear(), tmp_path / "fixed.pt2", batch=7),
        "script": tmp_path / "script.pt",
    }.items():
        if name == "script":
            torch.jit.trace(Linear().eval(), torch.zeros(2, LATENT)).save(path)
        latent = LATENT if name == "script" else None
        decoder = train_latent(dataclasses.replace(job, generator=path, output=tmp_path / name, latent_size=latent))
        drawn.append(decoder.decode(np.eye(10, 16, dtype=np.float32)).astype(int))
    drawn.append(train_latent(job).decode(np.eye(10, 16, dtype=np.float32)).astype(int))
    assert np.abs(drawn[0] - drawn[2]).max() <= 1 and np.abs(drawn[1] - drawn[2]).max() <= 1


@pytest.mark.slow
def test_faces_are_found_in_generated_pictures(
    photos: Path, tiny_store: Path, tiny: Path, tmp_path: Path, detector, recognizer
) -> None:
    """With the real detector: a generator whose mean is a photograph, 30 px to the right of where it was taken."""
    from facedecode.pictures.images import load_image

    class Photograph(Linear):
        def __init__(self) -> None:
            super().__init__(260, 0.05)
            picture = torch.tensor(load_image(photos / "Eileen" / "Eileen_0001.png")).permute(2, 0, 1) / 127.5 - 1
            self.mean = nn.functional.pad(picture[:, :, :210], (40, 10, 20, 20), value=-1)

    path = export(Photograph(), tmp_path / "g.pt2")
    job = LatentJob(tiny_store, tmp_path / "latent", path, (-1, 1), samples=40, image_size=128, weights=tiny)
    decoder = train_latent(job)
    made = decoder.provenance.training
    assert made.images == 40 and made.figures["frame_spread"] < 0.02
    picture = ((Photograph().mean.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    (seen,) = detector.detect([picture])[0]
    drawn = decoder.decode(recognizer.embed_crops(recognizer.crop(picture, seen)[None]))
    (face,) = detector.detect(list(drawn))[0]
    np.testing.assert_allclose(face.landmarks, align.portrait_face(128).landmarks, atol=6)


# ---------------------------------------------------------------- refusals


class Flat(nn.Module):
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.sum(1, keepdim=True).tanh()


class Wide(Linear):
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return super().forward(latents)[..., :50]


class Loud(Linear):
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return super().forward(latents) * 127.5 + 127.5


class Dim(Linear):
    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return super().forward(latents) * 0.2


class Two(Linear):
    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(latents), latents


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Flat, r"32 latents gave \(32, 1\), not pictures \(32, 3, S, S\)"),
        (Wide, r"32 latents gave \(32, 3, 96, 50\), not pictures"),
        (Loud, r"values of its pictures go from .* is not --generator-range -1,1"),
        (Dim, r"values of its pictures go from .* is not --generator-range -1,1"),
        (Two, "gives 2 tensors; export a module of one output"),
    ],
)
def test_generators_that_are_none(job: LatentJob, tmp_path: Path, module: type[nn.Module], reason: str) -> None:
    path = export(module(), tmp_path / "other.pt2")
    with pytest.raises(BadInput, match=reason):
        train_latent(dataclasses.replace(job, generator=path))
    assert not (job.output / "decoder.json").exists()


def test_settings_that_no_fit_can_have(job: LatentJob, tmp_path: Path, found: list[Face]) -> None:
    for changes, reason in [
        ({"generator_range": (1, 1)}, "generator range 1,1"),
        ({"image_size": 100}, "image size 100"),
        ({"latent_size": 7}, "--latent-size 7: .* takes latents of 3"),
    ]:
        with pytest.raises(UsageError, match=reason):
            train_latent(dataclasses.replace(job, **changes))
    script = tmp_path / "script.pt"
    torch.jit.trace(Linear().eval(), torch.zeros(2, LATENT)).save(script)
    with pytest.raises(UsageError, match=r"TorchScript hides .*--latent-size"):
        train_latent(dataclasses.replace(job, generator=script))
    with pytest.raises(MissingWeights, match="gone: no such model file"):
        train_latent(dataclasses.replace(job, generator=tmp_path / "gone"))
    found.clear()
    with pytest.raises(BadInput, match="0 of 200 generated pictures show a face, and the regression needs 20"):
        train_latent(job)


def test_another_generator_in_the_folder_is_refused(job: LatentJob, tmp_path: Path) -> None:
    train_latent(job)
    export(Linear(strength=0.2), job.output / "generator.pt2")
    with pytest.raises(BadInput, match=r"generator\.pt2: not the generator that this decoder was made for"):
        load_decoder(job.output)
    (job.output / "generator.pt2").unlink()
    with pytest.raises(MissingWeights, match=r"generator\.pt2: no such model file"):
        load_decoder(job.output)


class Ran:
    """Unpickling one leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The same archive with parts changed; None keeps a part."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data if (changed := change(name, data)) is None else changed)
    return target


@pytest.mark.parametrize("where", ["sample inputs", "size"])
def test_code_in_a_generator_is_refused_before_it_runs(program: Path, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save((Ran(mark),), buffer)

    def change(name: str, data: bytes) -> bytes | None:
        if where == "sample inputs" and "/sample_inputs/" in name:
            return buffer.getvalue()
        if where == "size" and name.endswith("models/model.json"):
            head, key, tail = data.decode().partition('"expr_str": "')
            assert key
            return f"{head}{key}open('{mark}', 'w')+{tail}".encode()
        return None

    spoiled = rewritten(program, tmp_path / "spoiled.pt2", change)
    with pytest.raises(BadInput, match=r"spoiled\.pt2: its (sample inputs are no plain|program has a size)"):
        load_program(spoiled)
    assert not mark.exists()
    assert load_program(rewritten(program, tmp_path / "same.pt2", lambda *_: None)).shape == (LATENT,)


@pytest.mark.parametrize("content", ["text", "pickle", "half"])
def test_files_that_are_no_program(program: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.pt2"
    data = program.read_bytes()
    path.write_bytes({"text": b"hello", "pickle": b"\x80\x04K\x01.", "half": data[: len(data) // 2]}[content])
    with pytest.raises(BadInput, match=r"file\.pt2: "):
        load_program(path)


def test_the_command(job: LatentJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*options: str) -> tuple[int, dict]:
        base = ["train", "emb", "-o", "out", "--architecture", "latent", "--weights", str(job.weights), "--json"]
        result = CliRunner().invoke(app, [*base, "--device", "cpu", *options])
        return result.exit_code, json.loads(result.stdout)

    own = ("--generator", str(job.generator), "--generator-range=-1,1", "--samples", "60", "--image-size", "64")
    for options, reason in [
        ((), "needs --generator and --generator-range"),
        ((*own, "--epochs", "3"), "--epochs does not go with --architecture latent"),
        ((*own, "--half"), "--half does not go with"),
        ((*own[:2], "--generator-range", "1"), "give two numbers"),
        ((*own, "--exclude", "P1"), "--exclude does not go with"),
        (("--architecture", "dfd", "--samples", "3"), "--samples does not go with --architecture dfd"),
    ]:
        code, said = call(*options)
        assert code == 2 and reason in said["error"], options
    code, said = call(*own)
    assert code == 0 and said["metrics"]["r2"] > 0.8 and said["outputs"] == {"decoder": "out"}
    assert load_decoder(tmp_path / "out").kind == "latent"
