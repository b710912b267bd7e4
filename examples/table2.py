"""The paper's Table 2: one image of each pair misaligned, its template compared as it is and mapped back.

    python examples/table2.py emb emb-edgeface --weights edgeface-xxs=../shared/weights/edgeface_xxs.safetensors \\
        --pairs ../shared/data/lfw/protocol/pairs.txt --people ../shared/data/lfw/protocol/people.txt \\
        --work table2 -o docs/results/table2

perturbs the images of each store, fits for each of LFW's ten sets a map on the people of the other nine, and writes a
report like those of `facedecode evaluate`. A killed run goes on where it stopped: the templates of perturbed images are
kept in the work folder, a store for each recognizer and perturbation.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from arguments import Parser, command_line, finish, positive, run
from table2_ceiling import FEATURES, PENALTIES, WIDTHS, fit_ceiling
from table2_report import LINEAR, MAPS, NONLINEAR, ORIGINAL, UNMAPPED, Cell, Condition, Pairing, Undone, make_report
from table2_sets import compare_within_sets
from template_sets import BareTemplates

from facedecode import __version__
from facedecode.annotations.pairs import Pairs, read_pairs
from facedecode.annotations.protocols import read_people
from facedecode.cli.console import Console
from facedecode.errors import BadInput, FacedecodeWarning
from facedecode.evaluation.cohort import (
    JudgedImages,
    load_recognizers,
    open_stores,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.trials import Comparisons, PairsFile
from facedecode.evaluation.verification.measure import VerificationSettings, verification_figures
from facedecode.files import json_text, make_folder
from facedecode.mapping.maps import fit_mapping
from facedecode.options import named
from facedecode.pictures.perturb import Transform, parse_transform
from facedecode.provenance import describe_file, describe_store, environment
from facedecode.recognizers.recognizer import Recognizer
from facedecode.report.folder import require_writable
from facedecode.statistics.bootstrap import Estimate, ratio_interval
from facedecode.statistics.pair_rates import resampled_accuracy, resampled_tar
from facedecode.statistics.verification import FoldSplit
from facedecode.store import Store, StoreWriter, Templates, require_same_recognizer
from facedecode.store.images import embed_perturbed
from facedecode.store.processing import refuse_done

TRANSFORMS = ("rotate30", "shift-left", "scale0.5")
_SHARD = 1024  # templates; what a killed run may have to make again


class Map(Protocol):
    """A fitted map of templates."""

    def apply(self, templates: np.ndarray) -> np.ndarray: ...


Fit = Callable[[np.ndarray, np.ndarray, list[str]], Map]  # perturbed (n, d), original (n, d), people (n,)


@dataclass(frozen=True)
class Data:
    """Images with the templates of the original and of the perturbed face: float32 (n, dim) each.

    paths, people: of each image. sets: int (n,), which of LFW's sets its person is in.
    """

    original: np.ndarray
    perturbed: np.ndarray
    paths: list[str]
    people: list[str]
    sets: np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    transforms = [parse_transform(name) for name in arguments.transforms]
    stores = open_stores(arguments.stores)
    require_plain(stores)
    pairs, set_of = read_protocol(arguments.pairs, arguments.people)
    judged = sorted(set(pairs.fold.tolist()))[: arguments.limit_folds]
    pairs = of_folds(pairs, judged)
    for store in stores.values():
        people = {name for name, number in set_of.items() if number in judged}
        require_unseen_by_store(store, JudgedImages.of_people(people))
        if store.known.people:
            rows = [i for i, name in enumerate(store.identities()) if name in people]
            require_unseen_by_store(store, JudgedImages.of_store(store, rows))
    weights = {name: Path(file) for name, file in named(arguments.weights, "--weights").items()}
    recognizers = load_recognizers(stores, weights, arguments.device)
    wanted = VerificationSettings(repetitions=arguments.repetitions, seed=arguments.seed)
    cells: dict[str, dict[Pairing, dict[Condition, Cell]]] = {}
    undone: dict[str, list[Undone]] = {}
    made: list[Store] = []
    beyond = 0
    with Console().progress() as stage:
        for name, store in stores.items():
            require_same_recognizer(store.recognizer, recognizers[name].describe(), f"the weights of {name}")
            rows, left = chosen_rows(store, pairs, set_of, arguments.limit)
            beyond = max(beyond, left)
            images = images_of(store, rows, set_of)
            say = stage(f"{name}: figures")
            own = cells[name] = {pairing: {} for pairing in Pairing}

            def enter(condition: Condition, probes: Templates, store=store, images=images, own=own) -> None:
                second = None if probes is store else probes
                listed = PairsFile(pairs, arguments.pairs.name, probes=second).compare(store)
                own[Pairing.LISTED][condition] = judge(listed, Pairing.LISTED, wanted)
                within = compare_within_sets(store, probes, images, set_of, judged)
                own[Pairing.SETS][condition] = judge(within, Pairing.SETS, wanted)

            enter(Condition(ORIGINAL, UNMAPPED), store)
            undone[name] = []
            for number, transform in enumerate(transforms):
                progress = stage(f"{name}: {transform.name}")
                perturbed = perturbed_store(store, rows, recognizers[name], transform, arguments.work, progress)
                made.append(perturbed)
                data = matched(store, perturbed, set_of)
                fits: dict[str, Fit] = {LINEAR: linear(transform, store), NONLINEAR: ceiling(arguments.seed)}
                for done, kind in enumerate(MAPS):
                    if kind == UNMAPPED:
                        probes: Templates = perturbed
                    else:
                        mapped, maps = cross_fit(data, judged, fits[kind])
                        undone[name].append(Undone(transform.name, kind, share_undone(data, mapped, wanted), maps))
                        probes = as_templates(data, mapped, perturbed)
                    enter(Condition(transform.name, kind), probes)
                    say(number * len(MAPS) + done + 1, len(transforms) * len(MAPS), f"{transform.name}, {kind}")
    settings = {
        "pairs": describe_file(arguments.pairs),
        "people": describe_file(arguments.people),
        "folds": len(judged),
        "of_folds": len(set(set_of.values())),
        "transforms": [transform.name for transform in transforms],
        "perturbed": "the second image of each pair",
        "ceiling": {"features": FEATURES, "widths": WIDTHS, "penalties": PENALTIES},
        "limit": arguments.limit,
        "repetitions": arguments.repetitions,
        "seed": arguments.seed,
        "level": wanted.level,
    }
    provenance = {
        "stores": [*map(describe_store, stores.values()), *(describe_store(one) | {"role": "probes"} for one in made)],
        "settings": settings,
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    report = make_report(cells, undone, pairs, beyond, provenance)
    finish(report, arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--repetitions", "--seed")
    parser.add_argument("stores", type=Path, nargs="+", help="stores of the original images, one a recognizer")
    parser.add_argument("--weights", nargs="*", default=[], help="NAME=FILE of a recognizer, where no package has it")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs in folds: LFW's pairs.txt")
    parser.add_argument("--people", type=Path, required=True, help="the people of each fold: LFW's people.txt")
    parser.add_argument("--transforms", nargs="+", default=list(TRANSFORMS), help=f"if not {', '.join(TRANSFORMS)}")
    parser.add_argument("--work", type=Path, required=True, help="folder for perturbed templates, kept between runs")
    parser.add_argument("--limit-folds", type=positive, help="judge so many folds only, to try it out")
    parser.add_argument("--limit", type=positive, help="fit to so many images only, to try it out")
    return parser.parse_args(argv)


def require_plain(stores: Mapping[str, Store]) -> None:
    """Refuse stores whose templates are not of the original faces in fp32. Raises BadInput."""
    for store in stores.values():
        refuse_done(store.manifest, store.folder)
        if (precision := store.manifest.precision) != "fp32":
            raise BadInput(f"{store.folder}: made in {precision}, and figures are of fp32; extract it in fp32")


def read_protocol(pairs_file: Path, people_file: Path) -> tuple[Pairs, dict[str, int]]:
    """The pairs, and the set of each person, numbered as the pairs' folds are.

    Raises:
        BadInput: one set or fold only, or somebody is in a pair of one fold and in another set, so that a map fitted on
            the other sets would have seen that person.
    """
    pairs, set_of = read_pairs(pairs_file), {person.name: person.fold for person in read_people(people_file)}
    if len(set(pairs.fold.tolist())) < 2 or len(set(set_of.values())) < 2:
        raise BadInput(f"{pairs_file}, {people_file}: a map is fitted on the other folds; give files with several")
    folds = [*pairs.fold.tolist(), *pairs.fold.tolist()]
    named_by = zip([*pairs.left_people, *pairs.right_people], folds, strict=True)
    if astray := sorted({name for name, fold in named_by if set_of.get(name) != fold}):
        raise BadInput(
            f"{people_file}: {len(astray)} people of {pairs_file.name} are not in the set of their fold "
            f"({', '.join(astray[:3])}); give the people file of the same folds"
        )
    return pairs, set_of


def of_folds(pairs: Pairs, folds: Sequence[int]) -> Pairs:
    """The pairs of some folds."""
    kept = np.flatnonzero(np.isin(pairs.fold, folds))
    listed = {
        name: [getattr(pairs, name)[i] for i in kept] for name in ("left", "right", "left_people", "right_people")
    }
    return replace(pairs, **listed, mated=pairs.mated[kept], fold=pairs.fold[kept])


def chosen_rows(store: Store, pairs: Pairs, set_of: Mapping[str, int], limit: int | None) -> tuple[list[dict], int]:
    """The rows of the people in the sets, and how many of them a limit leaves out; the pairs' images are always there.

    Raises:
        BadInput: none of these people has a template in the store.
    """
    rows = [row for row in store.rows().to_pylist() if row["path"] is not None and row["identity"] in set_of]
    if not rows:
        raise BadInput(f"{store.folder}: none of the people of the sets is in it; give a store of their images")
    if limit is None or limit >= len(rows):
        return rows, 0
    people = {row["path"]: row["identity"] for row in rows}
    found, _ = pairs.found_in(people, people)
    needed = {*found.left, *found.right}
    drawn = set(np.random.default_rng(0).permutation(len(rows))[:limit].tolist())
    kept = [row for i, row in enumerate(rows) if i in drawn or row["path"] in needed]
    return kept, len(rows) - len(kept)


def perturbed_store(
    store: Store,
    rows: list[dict],
    recognizer: Recognizer,
    transform: Transform,
    work: Path,
    progress: Callable[[int, int], None],
) -> Store:
    """The store of these rows' images perturbed, made as far as the work folder lacks it.

    Raises:
        BadInput: no face stays in the frame, or as `embed_perturbed`.
    """
    settings = {
        "source": store.fingerprint,
        "transform": transform.name,
        "rows": hashlib.sha256(json_text([row["path"] for row in rows]).encode()).hexdigest(),
    }
    digest = hashlib.sha256(json_text([settings, recognizer.describe().as_json()]).encode()).hexdigest()
    # Another job has another folder, so that templates of other images are never taken for these.
    folder = work / f"{recognizer.spec.name}-{transform.name}-{digest[:12]}"
    manifest = {
        "score": store.score,
        "transform": transform.name,
        "precision": "fp32",
        "l2_normalized": False,
        "tool_version": __version__,
    }
    make_folder(work)
    with StoreWriter(folder, settings, store.root, recognizer.describe(), _SHARD, manifest=manifest) as writer:
        if not writer.complete:
            at, lost = writer.resume_inputs, []
            while at < len(rows):
                kept, templates, lost = [], [], []
                # Batches begin anew with each shard, so that a resumed run does the same arithmetic.
                while len(kept) < _SHARD and at < len(rows):
                    block = rows[at : at + _SHARD - len(kept)]
                    there = np.zeros(len(block), bool)
                    for which, part in embed_perturbed(
                        block,
                        store.root,
                        recognizer,
                        transform,
                        progress=lambda done, _, note="", start=at: progress(start + done, len(rows)),
                    ):
                        there[which] = True
                        templates.append(part)
                    kept += [row for row, stays in zip(block, there, strict=True) if stays]
                    reason = f"{transform.name} leaves no face in the frame"
                    lost += [
                        {"path": row["path"], "stage": "perturb", "reason": reason}
                        for row, stays in zip(block, there, strict=True)
                        if not stays
                    ]
                    at += len(block)
                if not kept and at == len(lost):
                    raise BadInput(f"{transform.name}: no face stays in the frame of any image; give another transform")
                if kept:
                    writer.append(np.concatenate(templates), kept, lost, at)
                    lost = []
            writer.finish([*lost, *store.failures()])
    return Store.open(folder)


def matched(store: Store, perturbed: Store, set_of: Mapping[str, int]) -> Data:
    """The images of a perturbed store, joined to the original templates by path."""
    where = {path: i for i, path in enumerate(store.paths())}
    paths, people = perturbed.paths(), perturbed.identities()
    return Data(
        original=store.take(np.array([where[path] for path in paths])),
        perturbed=perturbed.templates(),
        paths=paths,
        people=people,
        sets=np.array([set_of[name] for name in people]),
    )


def linear(transform: Transform, store: Store) -> Fit:
    """Least squares, as `fit-mapping` fits it."""

    def fit(perturbed: np.ndarray, original: np.ndarray, people: list[str]) -> Map:
        nobody = np.zeros(len(perturbed), bool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FacedecodeWarning)  # the report says of all folds what each would say
            return fit_mapping([(perturbed, original, nobody)], transform.name, store.recognizer)

    return fit


def ceiling(seed: int) -> Fit:
    """See `table2_ceiling`."""
    return lambda perturbed, original, people: fit_ceiling(perturbed, original, people, seed)


def cross_fit(data: Data, judged: Sequence[int], fit: Fit) -> tuple[np.ndarray, list[Map]]:
    """Perturbed templates mapped by maps that have seen nobody of their own set.

    Args:
        judged: the sets to map.

    Returns:
        (n, dim) float32, NaN in rows of other sets; and the map of each set judged.

    Raises:
        BadInput: there is nobody to fit to.
    """
    mapped, maps = np.full_like(data.perturbed, np.nan), []
    for number in judged:
        own = data.sets == number
        if own.all():
            raise BadInput("all images are of the set judged: there is nobody to fit a map to; give more images")
        people = [name for name, out in zip(data.people, own, strict=True) if not out]
        maps.append(fit(data.perturbed[~own], data.original[~own], people))
        mapped[own] = maps[-1].apply(data.perturbed[own])
    return mapped, maps


def as_templates(data: Data, mapped: np.ndarray, perturbed: Store) -> BareTemplates:
    """Mapped templates as `PairsFile` reads them: those of the judged sets, and the images that gave none."""
    there = np.flatnonzero(~np.isnan(mapped).any(axis=1))
    recognizer = replace(perturbed.recognizer, score=perturbed.score)
    failed = [failure["path"] for failure in perturbed.failures()]
    paths = [data.paths[i] for i in there]
    return BareTemplates(perturbed.folder, "mapped", recognizer, paths, mapped[there], failed)


def images_of(store: Store, rows: Sequence[dict], set_of: Mapping[str, int]) -> dict[str, str]:
    """path → person of the images that take part: these rows', and those of the sets that gave no template."""
    everything, chosen = unseen_images(store, None), {row["path"] for row in rows}
    return {
        row["path"]: row["identity"]
        for row, gone in zip(everything.rows, everything.missing, strict=True)
        if row["identity"] in set_of and (gone or row["path"] in chosen)
    }


def judge(compared: Comparisons, pairing: Pairing, wanted: VerificationSettings) -> Cell:
    """The figures of one cell, and their replicates, which all cells of a pairing share the draws of."""
    fmrs = wanted.fmrs_for(len(compared.non_mated.scores), pairing.fmrs)
    options = {"people": len(compared.people), "repetitions": wanted.repetitions, "seed": wanted.seed}
    trials = {"pairs": compared.mated, "people": compared.mated.person_weighted()}
    figures, accuracy = verification_figures(compared, fmrs, wanted), None
    if (folds := compared.folds) is not None:
        split = FoldSplit(folds.scores, folds.left == folds.right, folds.fold)
        accuracy = resampled_accuracy(split, folds.left, folds.right, **options)
    return Cell(figures, resampled_tar(trials, compared.non_mated, fmrs, **options), accuracy)


def share_undone(data: Data, mapped: np.ndarray, wanted: VerificationSettings) -> Estimate:
    """1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖² over the images mapped, its interval by person."""
    there = ~np.isnan(mapped).any(axis=1)
    left, moved = (
        np.sum((data.original[there] - other[there]) ** 2, axis=1, dtype=np.float64)
        for other in (mapped, data.perturbed)
    )
    names = [name for name, stays in zip(data.people, there, strict=True) if stays]
    undone = ratio_interval(
        moved - left, moved, names, repetitions=wanted.repetitions, seed=wanted.seed, level=wanted.level
    )
    return replace(undone, n=len(set(names)))


if __name__ == "__main__":
    run(main)
