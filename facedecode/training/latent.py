"""A decoder through somebody's generator, fitted to pictures of the generator's own (Dong et al. 2021).

Latents are drawn at random, the generator makes pictures of them, the recognizer templates of the faces that are found
there, and the latents are regressed on the templates. The recognizer is only asked for templates: a black box will do.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from facedecode import __version__
from facedecode.annotations.protocols import people_names
from facedecode.decoders import Decoder, Provenance, load_decoder, save_decoder
from facedecode.decoders.kinds import require_image_size
from facedecode.decoders.latent import Generator, LatentDecoder, brought_to_unit, mean_frame
from facedecode.decoders.training_record import TrainingRecord
from facedecode.errors import BadInput, FacedecodeWarning, OutputError, UsageError
from facedecode.files import json_text, locked, make_folder, read_file, sha256_of, write_bytes
from facedecode.known_pictures import KnownPictures
from facedecode.mapping.least_squares import GramAccumulator, choose_ridge
from facedecode.pictures import align
from facedecode.pictures.faces import FaceDetector, choose_face
from facedecode.pictures.images import to_pictures
from facedecode.progress import Progress, silent
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.custom_runtime import Program, load_program
from facedecode.recognizers.recognizer import Recognizer
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store
from facedecode.store.layout import MANIFEST
from facedecode.store.processing import require_extracted
from facedecode.training.decoder import ready_decoder, remove_decoder
from facedecode.training.jobs import LatentJob

VERSION = 1  # of what is computed
HELD_OUT = 0.1  # of the samples: the regression is judged on them
_BATCH = 32
_DRAWN = 256  # held-out samples that are drawn and looked at again
_OUTSIDE = 0.02  # of the values may lie outside the range by a tenth of it: generators overshoot a little
_SPREAD = 0.05  # of a portrait's side: landmarks that vary by more lie in no one frame


@dataclass(frozen=True)
class Samples:
    """Latents (n, latent) float32 whose pictures show a face, its template (n, dim) and landmarks (n, 5, 2), px."""

    latents: np.ndarray
    templates: np.ndarray
    landmarks: np.ndarray


def train_latent(job: LatentJob, device: str = "cpu", progress: Progress = silent) -> Decoder:
    """Fit the decoder of a job; if it is already there with the same settings, load it.

    Raises:
        UsageError: settings that no fit can have.
        MissingWeights: the generator's file, or the recognizer's, is not there.
        BadInput: a store that `extract` did not make; pictures not as the job says, or with too few faces.
        OutputError: the folder holds another decoder, and `overwrite` is off.
    """
    low, high = job.generator_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"generator range {low:g},{high:g}: give the values of black and white, such as -1,1")
    require_image_size(job.image_size)
    store = Store.open(job.store)
    require_extracted(store)
    recognizer = load_recognizer(store.recognizer, job.weights, device)
    program = load_program(job.generator, device)
    latent = _latent_size(job, program)
    detector = FaceDetector(device)
    described = {
        "architecture": "latent",
        "version": VERSION,
        "generator": {"sha256": program.sha256, "range": [low, high], "latent": latent},
        "settings": {"image_size": job.image_size, "samples": job.samples, "seed": job.seed},
        "recognizer": store.recognizer.as_json(),
        "detector": detector.settings,
        "frame": align.PORTRAIT_POINTS,
        "people": sorted(people_names(job.people)) if job.people else None,
    }
    fingerprint = hashlib.sha256(json_text(described).encode()).hexdigest()
    make_folder(job.output)
    if (job.output / MANIFEST).exists():
        raise OutputError(f"{job.output} is an embedding store; name another folder for the decoder")
    with locked(job.output):
        if not job.overwrite and (ready := ready_decoder(job.output, fingerprint, device, resumes=False)) is not None:
            return ready
        samples, side = sample_faces(program, latent, job, recognizer, detector, progress)
        about = Generator(
            file=f"generator{program.suffix}", sha256=program.sha256, latent=latent, side=side, range=(low, high)
        )
        net = LatentDecoder(recognizer.spec.dim, job.image_size, about)
        figures = fit(net, samples)
        content = read_file(job.generator)
        if sha256_of(content) != program.sha256:
            raise BadInput(f"{job.generator}: changed while it was used; start again")
        remove_decoder(job.output)  # only now: had an input been missing, what is there would have stayed
        write_bytes(job.output / about["file"], content)
        net.open_files(job.output, device)
        figures["score"] = _score_again(net.to(device), samples, recognizer)
        made = {name: described[name] for name in ("generator", "settings", "people")}
        made |= {"looked_through": [], "held_out": 0, "images": len(samples.latents), "figures": figures}
        made |= {"fingerprint": fingerprint, "device": device, "tool_version": __version__}
        record = TrainingRecord.from_json(job.output, made)
        # Of the generator there are names at most; the regression sees pictures that it drew.
        pictures = KnownPictures(complete=not job.people)
        save_decoder(job.output, "latent", net, Provenance(store.recognizer, training=record), pictures=pictures)
    return load_decoder(job.output, device)


def _latent_size(job: LatentJob, program: Program) -> int:
    if program.shape is None:
        if job.latent_size is None:
            raise UsageError(f"{job.generator}: TorchScript hides the length of its latents; give --latent-size")
        return job.latent_size
    if len(program.shape) != 1:
        raise BadInput(f"{job.generator}: takes inputs (n, {', '.join(map(str, program.shape))}), not latents (n, k)")
    if job.latent_size not in (None, program.shape[0]):
        raise UsageError(f"--latent-size {job.latent_size}: {job.generator} takes latents of {program.shape[0]}")
    return program.shape[0]


def sample_faces(
    program: Program,
    latent: int,
    job: LatentJob,
    recognizer: Recognizer,
    detector: FaceDetector,
    progress: Progress = silent,
) -> tuple[Samples, int]:
    """Pictures of standard normal latents, each with its face as `extract` would find it, and their side in pixels.

    Raises BadInput: pictures of another shape, not finite, or of another range; fewer faces than the regression needs.
    """
    drawn = torch.randn(job.samples, latent, generator=torch.Generator().manual_seed(job.seed))
    kept, templates, landmarks, side = [], [], [], 0
    progress(0, job.samples)
    with torch.inference_mode():
        for start in range(0, job.samples, _BATCH):
            part = drawn[start : start + _BATCH]
            values = program(part).float()
            if start == 0:
                side = _require_pictures(values, len(part), job)
            elif not values.isfinite().all():
                raise BadInput(f"{job.generator}: pictures {start} to {start + len(part) - 1} hold NaN or infinity")
            pictures = brought_to_unit(values, job.generator_range)
            images = list(to_pictures(pictures))
            faces = [choose_face(several, side, side) for several in detector.detect(images)]
            rows = [i for i, face in enumerate(faces) if face is not None]
            if rows:
                crops = np.stack([recognizer.crop(images[i], faces[i]) for i in rows])
                templates.append(recognizer.embed_crops(crops))
                landmarks.append(np.stack([faces[i].landmarks for i in rows]))
                kept += [start + i for i in rows]
            progress(min(start + _BATCH, job.samples), job.samples)
    least = math.ceil((recognizer.spec.dim + 1) / (1 - HELD_OUT)) + 1
    if len(kept) < least:
        raise BadInput(
            f"{job.generator}: {len(kept)} of {job.samples} generated pictures show a face, and the regression needs "
            f"{least}; check --generator-range, or give more --samples"
        )
    return Samples(drawn.numpy()[kept], np.concatenate(templates), np.concatenate(landmarks)), side


def _require_pictures(values: torch.Tensor, count: int, job: LatentJob) -> int:
    """The side of a generator's pictures (n, 3, S, S), if they are pictures of the range that was named."""
    shape = tuple(values.shape)
    if len(shape) != 4 or shape[:2] != (count, 3) or shape[2] != shape[3]:
        raise BadInput(f"{job.generator}: {count} latents gave {shape}, not pictures ({count}, 3, S, S)")
    low, high = job.generator_range
    margin = (high - low) / 10
    outside = ((values < low - margin) | (values > high + margin) | ~values.isfinite()).float().mean().item()
    reached = values.max().item() - values.min().item()
    if outside > _OUTSIDE or reached < (high - low) / 2:
        raise BadInput(
            f"{job.generator}: the values of its pictures go from {values.min():.3g} to {values.max():.3g}, which is "
            f"not --generator-range {low:g},{high:g}"
        )
    return shape[2]


def fit(net: LatentDecoder, samples: Samples) -> dict[str, float | int]:
    """Regress latents on templates, by ridge with a penalty of generalized cross-validation, and find the frame.

    Returns JSON: `ridge`; `r2`, the share of the latents' variance that the regression explains for samples held out
    (the last tenth); `frame_spread`, how far landmarks lie from the frame's, rms, in units of a portrait's side.
    """
    fitted = len(samples.latents) - max(1, int(HELD_OUT * len(samples.latents)))
    sums = GramAccumulator(samples.templates.shape[1], samples.latents.shape[1])
    sums.add(samples.templates[:fitted], samples.latents[:fitted])
    ridge = choose_ridge(sums)
    solution = sums.solve(ridge)
    net.weight = torch.from_numpy(solution.weight).float()
    net.bias = torch.from_numpy(solution.bias).float()
    frame = mean_frame(samples.landmarks, net.image_size)
    net.frame = torch.from_numpy(frame).float()
    off = (samples.landmarks - np.median(samples.landmarks, axis=0)) @ frame[:, :2].T / net.image_size
    spread = float(np.sqrt((off**2).sum(2).mean()))
    if spread > _SPREAD:
        warnings.warn(
            f"landmarks in the generated pictures spread by {spread:.0%} of a portrait's side: one frame for all of "
            "them draws faces out of place",
            FacedecodeWarning,
            stacklevel=2,
        )
    predicted = net.latents(torch.from_numpy(samples.templates[fitted:])).numpy()
    latents = samples.latents[fitted:]
    # Latents are standard normal by construction: 0 is what one knows without a template.
    r2 = 1 - float(((predicted - latents) ** 2).sum() / (latents**2).sum())
    return {"ridge": ridge, "r2": r2, "frame_spread": spread, "fitted": fitted}


def _score_again(net: LatentDecoder, samples: Samples, recognizer: Recognizer) -> float:
    """The mean score of held-out samples' templates with those of what is drawn from them."""
    rows = samples.templates[-max(1, int(HELD_OUT * len(samples.latents))) :][:_DRAWN]
    with torch.inference_mode():
        parts = torch.from_numpy(rows).to(net.weight.device).split(_BATCH)
        again = torch.cat([recognizer.embed_portraits(net(part)) for part in parts]).cpu().numpy()
    return float(score_pairs(again, rows, recognizer.spec.score).mean())
