"""The paper's Fig. 13: attacked faces, and what decoding and embedding them again is worth as a defence.

    python examples/defence.py emb --classifier classifier.safetensors \\
        --people ../shared/data/lfw/protocol/peopleDevTest.txt -o docs/results/defence

attacks one image of each mated pair, in four ways: towards a class of the softmax, towards a template of the same
person, and each of the two through the decoder as well, which is what an attacker does who knows of the defence. It
writes a report like those of `facedecode evaluate`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from arguments import Parser, command_line, finish, positive, run
from defence_report import ATTACKS, CLASS, CLASS_THROUGH, EMBEDDING, EMBEDDING_THROUGH, Effects, Measured, make_report
from torch import Tensor

from facedecode.attacks.base import attack, to_uint8, victim_of
from facedecode.attacks.goals import ClassGoal, EmbeddingGoal
from facedecode.attacks.methods import Budget
from facedecode.classifiers.classifier import Classifier, load_classifier
from facedecode.cli.console import Console
from facedecode.decoders import Decoder, find_decoder, load_decoder
from facedecode.errors import BadInput
from facedecode.evaluation.cohort import (
    UnseenImages,
    known_people,
    refuse_known,
    require_unseen,
    require_unseen_by_store,
    unseen_images,
)
from facedecode.evaluation.trials import AllPairs, Comparisons
from facedecode.evaluation.verification.measure import VerificationSettings, verification_figures
from facedecode.pictures.metrics import ssim
from facedecode.provenance import describe_decoder, describe_file, describe_store, environment
from facedecode.recognizers import load_recognizer
from facedecode.recognizers.recognizer import Recognizer
from facedecode.report.folder import require_writable
from facedecode.statistics.bootstrap import mean_interval
from facedecode.statistics.pair_rates import Trials, resampled_tar
from facedecode.statistics.resampling import NonMated
from facedecode.statistics.scores import mated_non_mated_scores, score_pairs
from facedecode.statistics.verification import thresholds_at_fmr
from facedecode.store import Store
from facedecode.store.images import read_crops
from facedecode.store.processing import refuse_done

_SHOWN = 5  # noise does not compress: eight would be a picture of 3 MB


@dataclass(frozen=True)
class Probes:
    """The images that are attacked, the second of each person, with the first one's template as the gallery.

    gallery: float32 (n, dim). rows: of the store. crops: uint8 (n, S, S, 3). people: (n,).
    """

    gallery: np.ndarray
    rows: list[dict]
    crops: np.ndarray
    people: list[str]


@dataclass(frozen=True)
class Targets:
    """Whom each probe is to be taken for: classes int64 (n,), and a template of that person, float32 (n, dim)."""

    classes: np.ndarray
    templates: np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    require_writable(arguments.output, arguments.overwrite)
    store = Store.open(arguments.store)
    refuse_done(store.manifest, store.folder, reason="their images are attacked here")
    recognizer = load_recognizer(store.recognizer, arguments.weights, arguments.device)
    classifier = load_classifier(arguments.classifier)
    classifier.require_recognizer(store.recognizer)
    folder = find_decoder(arguments.decoder or store.recognizer.name)
    decoder = load_decoder(folder, arguments.device)
    decoder.require_recognizer(store.recognizer, f"the decoder {folder.name}")
    images = unseen_images(store, arguments.people, known=known_people([store], [decoder]).union(classifier.names))
    require_unseen(folder.name, decoder.known, images.judged)
    require_unseen_by_store(store, images.judged)
    refuse_known(f"{arguments.classifier}: fitted on", classifier.known, images.judged)
    probes = choose_probes(store, images, recognizer, arguments.limit)
    targets = choose_targets(store, classifier, len(probes.people), arguments.seed)
    threshold = score_threshold(images, recognizer, arguments.fmr)
    defend = through(decoder, recognizer)
    victims = {
        CLASS: victim_of(recognizer, classifier.logits),
        EMBEDDING: victim_of(recognizer),
        CLASS_THROUGH: victim_of(recognizer, lambda templates: classifier.logits(defend(templates))),
        EMBEDDING_THROUGH: victim_of(recognizer, defend),
    }
    goals = {
        CLASS: ClassGoal(targets.classes, classes=len(classifier)),
        EMBEDDING: EmbeddingGoal(targets.templates, recognizer.spec.score, threshold),
    }
    goals |= {CLASS_THROUGH: goals[CLASS], EMBEDDING_THROUGH: goals[EMBEDDING]}
    budget = Budget(epsilon=arguments.epsilon, steps=arguments.steps, alpha=arguments.alpha)
    originals = _planes(probes.crops, arguments.device)
    attacked = {}
    with Console().progress() as stage:
        for name in ATTACKS:
            say = stage(f"attack: {name}")
            # All steps are spent, so that attacks of two kinds have had equal means.
            found = attack(
                victims[name],
                originals,
                goals[name],
                "itfgsm",
                budget,
                on_failure="keep",
                stop_early=False,
                progress=say,
            )
            attacked[name] = to_uint8(found.pictures).permute(0, 2, 3, 1).cpu().numpy()
        say = stage("figures")
        wanted = VerificationSettings(repetitions=arguments.repetitions, seed=arguments.seed)
        measured = measure(probes, targets, attacked, recognizer, classifier, decoder, threshold, wanted, say)
    provenance = {
        "stores": [describe_store(store)],
        "decoders": [describe_decoder(decoder)],
        "settings": {
            "people": describe_file(arguments.people),
            "classifier": describe_file(arguments.classifier),
            "epsilon": arguments.epsilon,
            "steps": arguments.steps,
            "alpha": arguments.alpha,
            "fmr": arguments.fmr,
            "threshold": threshold,
            "limit": arguments.limit,
            "people_of_the_list": len(set(images.identities)),
            "images_without_a_template": int(images.missing.sum()),
            "repetitions": arguments.repetitions,
            "seed": arguments.seed,
        },
        "command": command_line(__file__, argv),
        "environment": environment(),
    }
    report = make_report(measured, recognizer.name, classifier, provenance)
    finish(report, arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__, "--device", "--repetitions", "--seed")
    parser.add_argument("store", type=Path, help="store of the attacked recognizer, with its images")
    parser.add_argument("--classifier", type=Path, required=True, help="made by 'facedecode train --kind classifier'")
    parser.add_argument("--people", type=Path, required=True, help="the people to judge on: LFW's format, or a list")
    parser.add_argument("--decoder", help="a decoder's folder; the shipped one if absent")
    parser.add_argument("--weights", type=Path, help="the recognizer's, where no package has them")
    parser.add_argument("--epsilon", type=float, default=8 / 255, help="largest change of a pixel in [0, 1]")
    parser.add_argument("--steps", type=positive, default=20, help="gradients a picture")
    parser.add_argument("--alpha", type=float, default=1 / 255, help="change of a pixel in one step")
    parser.add_argument("--fmr", type=float, default=0.001, help="at which impersonation is judged")
    parser.add_argument("--limit", type=positive, help="so many people only, to try it out")
    return parser.parse_args(argv)


def choose_probes(store: Store, images: UnseenImages, recognizer: Recognizer, limit: int | None) -> Probes:
    """Of each person with two images that gave templates, the first two by path. BadInput where there are none."""
    of_person: dict[str, list[int]] = {}
    for i in sorted(np.flatnonzero(~images.missing).tolist(), key=lambda i: images.rows[i]["path"]):
        of_person.setdefault(images.identities[i], []).append(i)
    pairs = [found[:2] for _, found in sorted(of_person.items()) if len(found) > 1][:limit]
    if len(pairs) < 2:
        raise BadInput(f"{store.folder}: fewer than two people have two images; give other people")
    first, second = (list(side) for side in zip(*pairs, strict=True))
    rows = [images.rows[i] for i in second]
    crops = read_crops(rows, store.root, recognizer.spec.crop)
    return Probes(images.templates[first], rows, crops, [images.identities[i] for i in second])


def choose_targets(store: Store, classifier: Classifier, count: int, seed: int) -> Targets:
    """A class for each probe, at random, and one of its person's templates that the classifier was not trained on."""
    generator = np.random.default_rng(seed)
    held_out = set(classifier.report.get("provenance", {}).get("held_out_images", []))
    if not held_out:
        raise BadInput("the classifier does not record images that it was not trained on; give one that 'train' fitted")
    rows: dict[str, list[int]] = {}
    for i, (path, name) in enumerate(zip(store.paths(), store.identities(), strict=True)):
        if name in classifier.names and path in held_out:
            rows.setdefault(name, []).append(i)
    if missing := sorted(set(classifier.names) - set(rows)):
        raise BadInput(f"{store.folder}: has no template of the class {missing[0]}; give the store it was trained on")
    classes = generator.integers(0, len(classifier), count)
    chosen = [generator.choice(rows[classifier.names[k]]) for k in classes]
    return Targets(classes, store.take(np.array(chosen)))


def score_threshold(images: UnseenImages, recognizer: Recognizer, fmr: float) -> float:
    """At an FMR of all pairs of the people judged, as they are. BadInput where the pairs do not resolve it."""
    there = ~images.missing
    pairs = mated_non_mated_scores(images.templates[there], images.acquired_identities, recognizer.spec.score)
    return float(thresholds_at_fmr(pairs.non_mated, [fmr])[0])


def through(decoder: Decoder, recognizer: Recognizer) -> Callable[[Tensor], Tensor]:
    """The defence: templates (n, dim) → those of the faces that the decoder draws of them. Differentiable."""
    return lambda templates: recognizer.embed_portraits(decoder(templates))


def measure(
    probes: Probes,
    targets: Targets,
    attacked: Mapping[str, np.ndarray],
    recognizer: Recognizer,
    classifier: Classifier,
    decoder: Decoder,
    threshold: float,
    wanted: VerificationSettings,
    say: Callable[[int, int, str], None],
) -> Measured:
    """Templates of all crops, and of what the decoder draws of them; then curves, differences and effects."""
    crops = {"original": probes.crops, **attacked}
    plain, drawn, defended = {}, {}, {}
    for done, (name, pictures) in enumerate(crops.items()):
        say(done, 2 * len(crops), name)
        plain[name] = recognizer.embed_crops(pictures)
        portraits = torch.from_numpy(decoder.decode(plain[name]))
        seen = recognizer.crop_portraits(portraits.to(recognizer.device).permute(0, 3, 1, 2).float() / 255)
        drawn[name] = to_uint8(seen).permute(0, 2, 3, 1).cpu().numpy()
        with torch.inference_mode():
            defended[name] = np.concatenate([recognizer.embed(part).cpu().numpy() for part in seen.split(16)])
    kind, options = recognizer.spec.score, {"repetitions": wanted.repetitions, "seed": wanted.seed}
    figures, resampled = {}, {}
    for done, name in enumerate(crops):
        say(len(crops) + done, 2 * len(crops), name)
        for decoded, templates in ((False, plain[name]), (True, defended[name])):
            compared = compare(probes, templates, kind)
            fmrs = wanted.fmrs_for(len(compared.non_mated.scores), AllPairs.fmrs[:2])
            figures[name, decoded] = verification_figures(compared, fmrs, wanted)
            trials = {"people": compared.mated}
            resampled[name, decoded] = resampled_tar(
                trials, compared.non_mated, fmrs, people=len(compared.people), **options
            )["people"]
    say(2 * len(crops), 2 * len(crops), "")
    own = plain["original"]
    effects = {
        name: effects_of(
            probes.crops,
            pictures,
            own,
            plain[name],
            defended[name],
            targets,
            classifier,
            probes.gallery,
            kind,
            threshold,
        )
        for name, pictures in crops.items()
    }
    summary = {
        name: {what: mean_interval(values, probes.people, **options) for what, values in one.items()}
        for name, one in effects.items()
    }
    moved = effects[EMBEDDING]["moved"] - effects[CLASS]["moved"]
    places = np.linspace(0, len(probes.people) - 1, min(_SHOWN, len(probes.people))).round().astype(int)
    predicted = {name: names_of(classifier, plain[name][places]) for name in crops}
    return Measured(
        figures=figures,
        resampled=resampled,
        effects=Effects(summary, mean_interval(moved, probes.people, **options)),
        shown={name: (pictures[places], drawn[name][places], predicted[name]) for name, pictures in crops.items()},
        wanted=[classifier.names[k] for k in targets.classes[places]],
        level=wanted.level,
    )


def compare(probes: Probes, templates: np.ndarray, kind: str) -> Comparisons:
    """Each probe with each gallery template; the mated pair of each person is its own."""
    pairs = mated_non_mated_scores(probes.gallery, probes.people, kind, (templates, probes.people))
    return Comparisons(
        mated=Trials(pairs.mated, pairs.mated_people),
        non_mated=NonMated.from_all_pairs(pairs),
        people=pairs.people,
        image_people=probes.people,
        missing=np.zeros(len(templates), bool),
    )


def effects_of(
    originals: np.ndarray,
    pictures: np.ndarray,
    own: np.ndarray,
    templates: np.ndarray,
    defended: np.ndarray,
    targets: Targets,
    classifier: Classifier,
    gallery: np.ndarray,
    kind: str,
    threshold: float,
) -> dict[str, np.ndarray]:
    """What an attack did to each picture as it is saved, (n,) each; shares are bool."""
    before, after = (pictures_.astype(np.float64) / 255 for pictures_ in (originals, pictures))
    change = (after - before).reshape(len(after), -1)
    rows = torch.arange(len(targets.classes))
    found = {
        "moved": np.linalg.norm(templates.astype(np.float64) - own, axis=1),
        "ssim": ssim(pictures, originals),
        "l2": np.linalg.norm(change, axis=1),
        "linf": np.abs(change).max(axis=1),
    }
    for stage, seen in (("", templates), (" decoded", defended)):
        logits = classifier.logits(torch.from_numpy(seen))
        to_target = score_pairs(seen, targets.templates, kind)
        found |= {
            f"named{stage}": logits.argmax(1).numpy() == targets.classes,
            f"softmax{stage}": logits.softmax(1)[rows, torch.from_numpy(targets.classes)].double().numpy(),
            f"to target{stage}": to_target.astype(np.float64),
            f"accepted as target{stage}": to_target >= threshold,
            f"accepted as oneself{stage}": score_pairs(seen, gallery, kind) >= threshold,
            f"to own{stage}": score_pairs(seen, own, kind).astype(np.float64),
        }
    return found


def names_of(classifier: Classifier, templates: np.ndarray) -> list[str]:
    return [classifier.names[k] for k in classifier.predict(templates)]


def _planes(crops: np.ndarray, device: str) -> Tensor:
    """uint8 (n, S, S, 3) → float32 (n, 3, S, S) in [0, 1]."""
    return (torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255).contiguous()


if __name__ == "__main__":
    run(main)
