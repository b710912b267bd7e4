"""How linear a recognizer's space is: what maps of templates undo of perturbations, and whether they act like a group.

Maps are fitted on some people and judged on others. Each figure is of the judged people's templates, with an interval
by person bootstrap; see docs/mapping.md for what each means.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from facedecode.annotations.protocols import held_out_people
from facedecode.errors import BadInput, FacedecodeWarning, UsageError
from facedecode.evaluation.cohort import UnseenImages, open_stores, require_unseen_by_recognizer, unseen_images
from facedecode.evaluation.equivariance.affine import Affine, Subspace
from facedecode.evaluation.equivariance.estimation import Estimation, estimate_perturbation
from facedecode.evaluation.equivariance.linearity import (
    Composition,
    Interpolation,
    Opposite,
    RoundTrip,
    Undone,
    compositions,
    distinct,
    interpolations,
    judge_map,
    opposites,
    round_trip,
)
from facedecode.evaluation.equivariance.perturbed import Side, perturbed_templates
from facedecode.mapping.least_squares import GramAccumulator, Method
from facedecode.mapping.maps import solution_of
from facedecode.mapping.sums import MappingSums
from facedecode.pictures.perturb import Transform
from facedecode.statistics.bootstrap import REPETITIONS
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import refuse_done

Stage = Callable[[str], Callable[..., None]]


@dataclass(frozen=True)
class EquivarianceJob:
    """What to evaluate.

    Attributes:
        store: of unperturbed templates, with its images.
        transforms: perturbations, each once.
        people: file with the people to judge on. train_people: file with those to fit on. Where one is None, all
            others of the store; where both are, a tenth of the people is judged, by a hash of the name.
        exclude: people of neither.
        weights: the recognizer's file, where no package has it.
        images: where the store's images are, if not where its manifest says.
        limit: the first so many images only of either group, by path.
        ridge: of the maps, see `mapping.least_squares.Method`.
        work: folder that keeps the perturbed templates, for a run that goes on where a killed one was.
    """

    store: Path
    transforms: Sequence[Transform]
    people: Path | None = None
    train_people: Path | None = None
    exclude: Sequence[str] = ()
    weights: Path | None = None
    images: Path | None = None
    limit: int | None = None
    ridge: float | Literal["auto"] = 0.0
    work: Path | None = None
    repetitions: int = REPETITIONS
    seed: int = 0


@dataclass(frozen=True)
class EquivarianceFigures:
    """Everything measured.

    training, judged: the images of either group (without those that gave no template); absent, beyond as there.
    aliases: perturbations that are another one of the job under a second name (rotate-180 is rotate180), by name.
    undone, inverses: by perturbation, without aliases. estimation: see `estimation.Estimation`.
    lost: perturbation → judged images whose face left the frame, where there are any.
    ranks: perturbation → in how many directions its maps read something (of the map and of the one the other way).
    """

    store: Store
    training: UnseenImages
    judged: UnseenImages
    aliases: dict[str, str]
    undone: dict[str, Undone]
    inverses: dict[str, RoundTrip]
    opposites: list[Opposite]
    compositions: list[Composition]
    interpolations: list[Interpolation]
    estimation: Estimation
    lost: dict[str, int] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)


def evaluate_equivariance(job: EquivarianceJob, device: str = "cpu", stage: Stage | None = None) -> EquivarianceFigures:
    """All figures of a job. stage: called with the name of what is begun; gives what is called with (done, total).

    Raises:
        UsageError: no perturbation, or a ridge that is none.
        MissingWeights: the recognizer's weights are not found.
        BadInput: a store of perturbed, mapped, normalized or protected templates; people who are judged and fitted
            on, or whom the recognizer was trained on; nobody to judge or to fit on; a perturbation that leaves no face
            in any image; images that are missing or others than the store's.
        OutputError: `work` cannot be written.

    Warns:
        FacedecodeWarning: see `mapping.maps.solve_mapping`.
    """
    from facedecode.recognizers import load_described

    if not job.transforms:
        raise UsageError("there is no perturbation to evaluate: give one at least")
    method = Method(ridge=job.ridge)
    store = next(iter(open_stores([job.store]).values()))
    refuse_done(store.manifest, store.folder, reason="they are perturbed here")
    training, judged = choose_people(store, job)
    require_unseen_by_recognizer(store.recognizer, judged.identities)
    recognizer = load_described(store.recognizer, job.weights, device, store.manifest.get("precision", "fp32"))
    require_same_recognizer(store.recognizer, recognizer.describe(), "the recognizer's weights file")
    kept, aliases = distinct(job.transforms)
    sides = [Side(images.rows, images.templates) for images in (training, judged)]
    for transform in kept:
        for side, name in zip(sides, ("training", "judged"), strict=True):
            progress = stage(f"{transform.name}, {name}") if stage else None
            root = job.images or store.root
            side.perturbed[transform.name] = perturbed_templates(
                side.rows, root, recognizer, transform, job.work, progress
            )
            if not len(side.perturbed[transform.name].rows):
                raise BadInput(f"{transform.name} leaves no face in the frame of any {name} image; leave it out")
    options = {"repetitions": job.repetitions, "seed": job.seed}
    return measure(store, training, judged, *sides, aliases, options, method)


def measure(
    store: Store,
    training: UnseenImages,
    judged: UnseenImages,
    fit_on: Side,
    judge_on: Side,
    aliases: dict[str, str],
    options: dict[str, int],
    method: Method | None = None,
) -> EquivarianceFigures:
    """The figures of templates; options as of `bootstrap.mean_interval`, method of the maps (least squares if None)."""
    method = method or Method()
    names, score = list(judge_on.perturbed), store.recognizer["score"]
    maps, others, forward, ranks = {}, {}, {}, {}
    for name in names:
        perturbed, original = fit_on.pairs(name)
        held_out = np.zeros(len(original), bool)
        undo, redo = MappingSums(name, store.recognizer), MappingSums(f"{name}, forward", store.recognizer)
        undo.add(perturbed, original, held_out)
        redo.add(original, perturbed, held_out)
        solution, _, _ = solution_of(undo, method)
        maps[name] = Affine.of(solution)
        with warnings.catch_warnings():
            # That there are few pairs is said of the map itself.
            warnings.simplefilter("ignore", FacedecodeWarning)
            back, _, _ = solution_of(redo, method)
            forward[name] = Affine.of(back)
            orthogonal = Affine.of(solution_of(undo, Method("orthogonal"))[0])
        ranks[name] = min(solution.rank, back.rank)
        mean_in, mean_out = undo.training.mean_in, undo.training.mean_out
        flat = np.zeros_like(maps[name].weight)
        others[name] = {
            "orthogonal": orthogonal,
            "shift": Affine(np.eye(len(mean_in)), mean_out - mean_in),
            "mean": Affine(flat, mean_out),
        }
    dim = fit_on.templates.shape[1]
    originals = GramAccumulator(dim, dim)
    originals.add(fit_on.templates, fit_on.templates)
    # Outside of it some map has no inverse.
    subspace = Subspace(originals.mean_in, originals.spectrum().vectors[:, dim - min(ranks.values()) :])
    lost = {name: len(judge_on.rows) - len(judge_on.perturbed[name].rows) for name in names}
    return EquivarianceFigures(
        store=store,
        training=training,
        judged=judged,
        aliases=aliases,
        undone={name: judge_map(judge_on, name, maps[name], others[name], score, options) for name in names},
        inverses={name: round_trip(fit_on, judge_on, name, maps[name], forward[name], options) for name in names},
        opposites=opposites(judge_on, maps, forward, aliases, options),
        compositions=compositions(judge_on, maps, aliases, options),
        interpolations=interpolations(judge_on, maps, subspace, aliases, options),
        estimation=estimate_perturbation(fit_on, judge_on, maps, score, options),
        lost={name: count for name, count in lost.items() if count},
        ranks=ranks,
    )


def choose_people(store: Store, job: EquivarianceJob) -> tuple[UnseenImages, UnseenImages]:
    """The images to fit on and those to judge on that gave a template; see `EquivarianceJob`.

    Raises:
        BadInput: nobody is left for one of them, or people are in both.
    """
    everybody = unseen_images(store, None)
    known = set(everybody.identities)
    if unknown := [name for name in job.exclude if name not in known]:
        raise BadInput(f"--exclude {unknown[0]}: nobody in the store has that name")
    judged = unseen_images(store, job.people) if job.people else None
    training = unseen_images(store, job.train_people) if job.train_people else None
    groups = [set(images.identities) if images else None for images in (training, judged)]
    if groups == [None, None]:
        held_out = held_out_people(everybody.identities, [row["path"] for row in everybody.rows])
        groups[1] = {name for name, out in zip(everybody.identities, held_out, strict=True) if out}
    groups[0] = known - groups[1] if groups[0] is None else groups[0]
    groups[1] = known - groups[0] if groups[1] is None else groups[1]
    groups = [names - set(job.exclude) for names in groups]
    if shared := sorted(groups[0] & groups[1]):
        listed = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        raise BadInput(f"{len(shared)} people are judged and fitted on ({listed}); give --people others than those")
    absent = [list(images.absent) if images else [] for images in (training, judged)]
    chosen = [_images(everybody, names, gone, job.limit) for names, gone in zip(groups, absent, strict=True)]
    for images, what in zip(chosen, ("to fit on", "to judge"), strict=True):
        if not images.rows:
            raise BadInput(f"{store.folder}: no image with a template is left {what}; give other people, or a store")
    return chosen[0], chosen[1]


def _images(everybody: UnseenImages, names: set[str], absent: list[str], limit: int | None) -> UnseenImages:
    """The images of some people that gave a template."""
    keep = [i for i, name in enumerate(everybody.identities) if name in names and not everybody.missing[i]]
    beyond = 0
    if limit is not None:
        keep, whole = sorted(keep, key=lambda i: everybody.rows[i]["path"])[:limit], len(keep)
        beyond = whole - len(keep)
    rows = [everybody.rows[i] for i in keep]
    return UnseenImages(rows, everybody.templates[keep], everybody.missing[keep], absent, beyond)
