"""What several decoders' pictures of the same people are worth, people whom none of them was trained on.

Pictures are 8-bit portraits (`facedecode.pictures.align`) and are embedded again in the portrait's own frame, without a
new detection. See `fidelity` for what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedecode.errors import BadInput, UsageError
from facedecode.evaluation.cohort import (
    Reference,
    UnseenImages,
    load_recognizers,
    make_reference,
    open_stores,
    require_unseen,
    unseen_images,
)
from facedecode.evaluation.fidelity import (
    ORIGINALS,
    DecoderFigures,
    PictureValues,
    decoder_figures,
    joined,
    picture_values,
)
from facedecode.evaluation.rendering import Examples, draw_examples
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, mean_interval
from facedecode.statistics.scores import score_pairs
from facedecode.store import Store

if TYPE_CHECKING:  # these need torch
    from facedecode.decoders import Decoder
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import PerceptualNetwork

Progress = Callable[[int, int], None]
_BATCH = 64  # portraits at once: 3 MB at 128 px


@dataclass(frozen=True)
class ReconstructionJob:
    """What to evaluate.

    Attributes:
        store: of the attacked recognizer, with its images.
        decoders: name → folder, or the name of a shipped one.
        against: stores of the same images by other recognizers, which score the pictures too.
        weights: recognizer → its weights file, where no package carries it.
        people: file with the people to judge on; all of the store if None.
        baseline: the decoder that the others are compared with; the first that is a ridge if None, if there is one.
        lpips_trunk: torchvision's file for `lpips_net` (see `facedecode.perceptual.lpips`); no LPIPS if None.
        phi: perceptual networks whose distance is measured (see `facedecode.perceptual.phi`): name → weights file, None
            where a package carries it.
        images: where the store's images are, if not where its manifest says.
        limit: the first so many images only, by path.
        columns: people in the figure of all decoders side by side.
    """

    store: Path
    decoders: Mapping[str, str]
    against: Sequence[Path] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    people: Path | None = None
    baseline: str | None = None
    lpips_trunk: Path | None = None
    lpips_net: str = "alex"
    phi: Mapping[str, Path | None] = field(default_factory=dict)
    images: Path | None = None
    limit: int | None = None
    columns: int = 12
    repetitions: int = REPETITIONS
    seed: int = 0


@dataclass(frozen=True)
class ReconstructionFigures:
    """Everything measured.

    stores, references, failures (to acquire): by recognizer, the attacked one first.
    decoders, folders (where they were loaded from): by decoder, in the order given.
    values, figures: by decoder, first `ORIGINALS`: the original portraits themselves, what a perfect decoder gets.
    lpips: what measured it, None where it was not measured.
    networks: perceptual networks by name: what each is (`PerceptualNetwork.describe`).
    """

    images: UnseenImages
    stores: dict[str, Store]
    references: dict[str, Reference]
    failures: dict[str, Estimate]
    decoders: dict[str, Decoder]
    folders: dict[str, Path]
    baseline: str | None
    lpips: dict[str, str] | None
    networks: dict[str, dict[str, str]]
    values: dict[str, PictureValues]
    figures: dict[str, DecoderFigures]
    examples: Examples


def evaluate_reconstruction(
    job: ReconstructionJob, device: str = "cpu", progress: Progress | None = None
) -> ReconstructionFigures:
    """All figures of a job. progress: called with (done, total) images.

    Raises:
        UsageError: no decoder, or one called 'originals'; a baseline that is none of the decoders, two stores of one
            recognizer, weights for a recognizer that has no store, or an unknown perceptual network.
        MissingWeights: a decoder, a recognizer's or perceptual network's weights, or LPIPS's trunk is not found.
        BadInput: a decoder has seen one of the people, takes another recognizer's templates or draws another size
            than the others; images that are missing or others than the store's; a wrong trunk.
    """
    from facedecode.decoders import find_decoder, load_decoder
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import load_phi
    from facedecode.store.images import portrait_batches

    if not job.decoders:
        raise UsageError("there is no decoder to evaluate: give one at least")
    if ORIGINALS in job.decoders:
        raise UsageError(f"no decoder can be called {ORIGINALS!r}, which the report calls the original portraits")
    lpips = Lpips(job.lpips_trunk, job.lpips_net, device) if job.lpips_trunk else None
    networks = {name: load_phi(name, file, device) for name, file in job.phi.items()}
    stores = open_stores([job.store, *job.against])
    store = next(iter(stores.values()))
    folders = {name: find_decoder(folder) for name, folder in job.decoders.items()}
    decoders = {name: load_decoder(folder, device) for name, folder in folders.items()}
    for name, decoder in decoders.items():
        decoder.require_recognizer(store.recognizer, f"the decoder {name}")
    baseline = choose_baseline(decoders, job.baseline)
    images = unseen_images(store, job.people, job.limit)
    size = require_comparable(decoders, images)
    recognizers = load_recognizers(stores, job.weights, device)
    references = {name: make_reference(recognizers[name], stores[name], images) for name in stores}
    root = job.images or store.root
    batches = portrait_batches(images.acquired, root, size, _BATCH)
    values = measure(decoders, images, batches, references, lpips, progress, networks)
    people, options = images.acquired_identities, {"repetitions": job.repetitions, "seed": job.seed}
    figures = decoder_figures(values, people, baseline, **options)
    examples = draw_examples(decoders, values, images, root, next(iter(stores)), job.columns)
    failures = {name: mean_interval(by.missing, images.identities, **options) for name, by in references.items()}
    return ReconstructionFigures(
        images=images,
        stores=stores,
        references=references,
        failures=failures,
        decoders=decoders,
        folders=folders,
        baseline=baseline,
        lpips=lpips.describe() if lpips else None,
        networks={name: network.describe() for name, network in networks.items()},
        values=values,
        figures=figures,
        examples=examples,
    )


def choose_baseline(decoders: Mapping[str, Decoder], name: str | None) -> str | None:
    """The decoder of that name, or the first ridge if it is None. UsageError where there is none of that name."""
    if name is not None and name not in decoders:
        raise UsageError(f"--baseline {name}: no such decoder; there are {', '.join(decoders)}")
    return name or next((own for own, decoder in decoders.items() if decoder.kind == "ridge"), None)


def require_comparable(decoders: Mapping[str, Decoder], images: UnseenImages) -> int:
    """The side of the pictures that all decoders draw, px.

    Raises:
        BadInput: a decoder has seen one of the people, or the decoders draw different sizes.
    """
    for name, decoder in decoders.items():
        require_unseen(name, decoder.provenance.training.get("people"), images.identities)
    sizes = {name: decoder.image_size for name, decoder in decoders.items()}
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{name} {size} px" for name, size in sizes.items())
        raise BadInput(f"the decoders draw different sizes ({listed}): compare pictures of one size, in separate runs")
    return next(iter(sizes.values()))


def measure(
    decoders: Mapping[str, Decoder],
    images: UnseenImages,
    originals: Iterable[np.ndarray],
    references: Mapping[str, Reference],
    lpips: Lpips | None = None,
    progress: Progress | None = None,
    networks: Mapping[str, PerceptualNetwork] | None = None,
) -> dict[str, PictureValues]:
    """What every decoder's picture of every acquired image is worth; first, as 'originals', the original itself.

    Args:
        originals: batches (b, P, P, 3) uint8 of the portraits of `images.acquired`, in that order; memory is that
            of one batch.
        progress: called with (done, total) images.

    Raises:
        BadInput: fewer or more portraits than templates.
    """
    there = ~images.missing
    templates = images.templates[there]
    own = {name: (by.templates[there], by.missing[there]) for name, by in references.items()}
    parts: dict[str, list[PictureValues]] = {ORIGINALS: [], **{name: [] for name in decoders}}
    done = 0
    if progress:
        progress(done, len(templates))
    for batch in originals:
        rows = slice(done, done + len(batch))
        done += len(batch)
        if done > len(templates):
            raise BadInput(f"more than {len(templates)} portraits for as many templates: give one for each")
        for name, values in parts.items():
            pictures = batch if name == ORIGINALS else decoders[name].decode(templates[rows])
            scores = _scores(pictures, references, {judge: (t[rows], gone[rows]) for judge, (t, gone) in own.items()})
            values.append(picture_values(pictures, batch, lpips, scores, networks))
        if progress:
            progress(done, len(templates))
    if done < len(templates):
        raise BadInput(f"{done} portraits for {len(templates)} templates: give one for each")
    return {name: joined(values) for name, values in parts.items()}


def _scores(
    pictures: np.ndarray, references: Mapping[str, Reference], own: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Each picture's score against the template of its original, -inf where there is none: float32 (n,) a recognizer.

    own: recognizer → its templates of the originals (n, dim), and those missing, bool (n,).
    """
    from facedecode.recognizers.recognizer import DistinctEmbedder

    found = {}
    for name, judge in references.items():
        templates, missing = own[name]
        drawn = DistinctEmbedder(judge.recognizer)(pictures)
        found[name] = np.full(len(pictures), -np.inf, dtype=np.float32)
        found[name][~missing] = score_pairs(drawn[~missing], templates[~missing], judge.recognizer.spec.score)
    return found
