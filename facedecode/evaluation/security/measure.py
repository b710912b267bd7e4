"""How invertible templates are: success of reconstructions before several recognizers, and in a gallery.

A decoder belongs to the recognizer whose templates it takes. Its pictures are drawn once, rounded to 8 bits, and
shown to every recognizer that there is a store of. See `facedecode.statistics.security` for the two types of attack.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from facedecode.annotations.protocols import people_names
from facedecode.device import find_device
from facedecode.errors import BadInput, UsageError, some_of
from facedecode.evaluation.cohort import (
    Judge,
    UnseenImages,
    known_people,
    load_recognizers,
    make_judge,
    open_stores,
    require_unseen,
    unseen_images,
)
from facedecode.evaluation.jobs import SecurityJob
from facedecode.evaluation.rendering import embed_drawn
from facedecode.evaluation.security.pairs_curve import (
    CurvePlan,
    CurvePoint,
    CurveSettings,
    draw_pairs,
    pairs_curve,
    plan_curve,
)
from facedecode.progress import Progress, Stage, silent_stage
from facedecode.statistics.security import (
    FMRS,
    REAL,
    Attack,
    Identification,
    Originals,
    SecurityRates,
    attack_success,
    identify,
    type_one_trials,
)
from facedecode.statistics.verification import false_accepts_allowed, thresholds_at_fmr
from facedecode.store import Store

if TYPE_CHECKING:  # need torch
    from facedecode.decoders import Decoder

HEADLINE_FMR = 0.001


@dataclass(frozen=True)
class SecurityFigures:
    """Everything measured. Keys of rates and scores: (decoder, recognizer); scores are of type I, float32 (n,).

    warnings: of templates that are none of their recognizer's.
    """

    images: UnseenImages
    stores: dict[str, Store]
    judges: dict[str, Judge]
    decoders: dict[str, Decoder]
    made_by: dict[str, str]
    fmrs: list[float]
    unresolved: list[float]
    rates: dict[tuple[str, str], SecurityRates]
    scores: dict[tuple[str, str], np.ndarray]
    identification: dict[str, Identification]
    plan: CurvePlan | None
    curve: list[CurvePoint]
    warnings: Sequence[str] = ()

    @property
    def headline_fmr(self) -> float:
        """The rate that headlines, matrix and curve are at."""
        return headline_fmr(self.fmrs)

    def is_transfer(self, decoder: str, target: str) -> bool:
        """Whether a recognizer is another network than the one whose templates a decoder takes.

        Two names of the same weights are one network: `dlib-resnet-pooled` is the layer before `dlib-resnet`'s last.
        """
        made, shown = (self.stores[name].recognizer for name in (self.made_by[decoder], target))
        return made.name != shown.name and made.weights_sha256 != shown.weights_sha256

    @property
    def repeated(self) -> bool:
        """Whether anybody has two images."""
        return len(set(self.images.identities)) < len(self.images.rows)


def measure_security(job: SecurityJob, stage: Stage = silent_stage) -> SecurityFigures:
    """All figures of a job. stage: see `Evaluation.evaluate`.

    Raises:
        BadInput: no store fits a decoder, the stores are of different images, a decoder has seen one of the people,
            or a rate is finer than the pairs resolve.
        UsageError: nothing to evaluate, two stores of one recognizer, or weights for one that has no store.
        MissingWeights: a decoder or a recognizer's weights are not found.
    """
    from facedecode.decoders import load_decoder

    if not job.decoders or not job.stores:
        raise UsageError("give at least one store and one decoder")
    if REAL in job.decoders:
        raise UsageError(f"--decoder {REAL!r}: that is what the ceiling is called; name the decoder otherwise")
    settings, device = curve_settings(job), find_device(job.device)
    stores = open_stores(job.stores)
    recognizers = load_recognizers(stores, job.weights, device)
    decoders = {name: load_decoder(folder, device) for name, folder in job.decoders.items()}
    made_by = {name: recognizer_of(name, decoder, stores) for name, decoder in decoders.items()}
    first, *others = stores.values()
    known = known_people(stores.values(), decoders.values())
    if settings is not None:
        known.update(people_names(settings.people))
    images = unseen_images(first, job.people, job.limit, known)
    for other in others:
        _require_no_more(first, images, other, job, known)
    judges = {name: make_judge(recognizer, stores[name], images) for name, recognizer in recognizers.items()}
    told = [sentence for judge in judges.values() for sentence in judge.warnings]
    for name, decoder in decoders.items():
        told += require_unseen(name, decoder.known, judges[made_by[name]].judged(images))
    plan = plan_curve(first, settings, images.judged, job.seed) if settings else None
    fmrs, unresolved = _resolved(judges, job)
    looks = []
    for name, decoder in decoders.items():
        judge, store = judges[made_by[name]], stores[made_by[name]]
        looks.append(decoder.check(judge.templates[~judge.missing], store.folder, store.manifest))
    told = list(dict.fromkeys([*told, *(look.sentence for look in looks if look.sentence)]))
    drawing = stage("pictures")
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for k, (name, decoder) in enumerate(decoders.items()):
        judge_of = judges[made_by[name]]
        progress = _within(drawing, name, k, len(decoders))
        drawn[name] = embed_drawn(decoder, judge_of.templates, judge_of.missing, judges, progress)
    rates, scores, identification = {}, {}, {}
    for target, judge in judges.items():
        attacks = {name: Attack(drawn[name][target], judges[made_by[name]].missing) for name in decoders}
        originals = Originals(judge.templates, images.identities, judge.recognizer.spec.score, judge.missing)
        success = attack_success(
            attacks, originals, fmrs, pairs=judge.pairs, repetitions=job.repetitions, seed=job.seed
        )
        for name, attack in attacks.items():
            rates[name, target] = success[name]
            scores[name, target] = type_one_trials(attack, originals).scores
        paths = [row["path"] for row in images.rows]
        identification[target] = identify(attacks, originals, paths, repetitions=job.repetitions, seed=job.seed)
    curve: list[CurvePoint] = []
    if plan is not None:
        curve = pairs_curve(
            plan,
            draw_pairs(plan, first, job.images, stage("portraits")),
            next(iter(stores)),
            judges,
            images.identities,
            headline_fmr(fmrs),
            device=device,
            repetitions=job.repetitions,
            seed=job.seed,
            progress=stage("pairs curve"),
        )
    return SecurityFigures(
        *(images, stores, judges, decoders, made_by, fmrs, unresolved, rates, scores, identification, plan, curve, told)
    )


def curve_settings(job: SecurityJob) -> CurveSettings | None:
    """The pairs curve that a job asks for. UsageError for options that contradict each other."""
    if job.train_people is None:
        for option in ("pairs_curve", "exclude", "pairs_curve_size", "pairs_curve_draws"):
            if getattr(job, option):
                raise UsageError(f"--{option.replace('_', '-')} needs --train-people: the people to draw pairs from")
        return None
    sizes = None if job.pairs_curve is None else tuple(job.pairs_curve)
    size, draws = job.pairs_curve_size or 128, job.pairs_curve_draws or 3
    return CurveSettings(job.train_people, tuple(job.exclude), sizes, size, draws)


def headline_fmr(fmrs: Sequence[float]) -> float:
    """Which of these falling rates stands at the top."""
    return HEADLINE_FMR if HEADLINE_FMR in fmrs else fmrs[-1]


def wanted_fmrs(job: SecurityJob) -> list[float]:
    """The rates of a job, falling; the default ones among them are left out where the pairs do not resolve them."""
    return sorted({*(job.fmrs or FMRS), *job.required}, reverse=True)


def recognizer_of(name: str, decoder: Decoder, stores: Mapping[str, Store]) -> str:
    """The recognizer, among those of the stores, whose templates a decoder takes. BadInput if there is none."""
    made = decoder.recognizer.name
    if made not in stores:
        raise BadInput(
            f"decoder {name}: made for {made}, and the stores are of {', '.join(stores)}; add a store of {made}"
        )
    decoder.require_recognizer(stores[made].recognizer, f"the decoder {name}")
    return made


def _require_no_more(first: Store, images: UnseenImages, other: Store, job: SecurityJob, seen: Collection[str]) -> None:
    """Refuse a store with images that the first one has not; `make_judge` refuses one with fewer."""
    known = {row["path"] for row in images.rows}
    found = unseen_images(other, job.people, job.limit, seen).rows
    if more := [row["path"] for row in found if row["path"] not in known]:
        raise BadInput(
            f"{other.folder}: {len(more)} of its images are not in {first.folder} ({some_of(more)}); extract the same "
            "images"
        )


def _resolved(judges: Mapping[str, Judge], job: SecurityJob) -> tuple[list[float], list[float]]:
    """The rates, falling, and the default ones that the pairs do not resolve. BadInput for those asked for."""
    asked = {*(job.fmrs or ()), *job.required}
    wanted = wanted_fmrs(job)
    fewest = min((judge.pairs.non_mated for judge in judges.values()), key=len)
    fine = [fmr for fmr in wanted if false_accepts_allowed(fmr, len(fewest)) >= 1]
    thresholds_at_fmr(fewest, sorted(asked) or wanted[:1])  # refuses those that are too fine, or no pairs at all
    return fine, [fmr for fmr in wanted if fmr not in fine]


def _within(progress: Progress, name: str, place: int, of: int) -> Progress:
    """Progress over the pictures of all decoders, from that of one."""
    return lambda done, total, note="": progress(place * total + done, of * total, name)
