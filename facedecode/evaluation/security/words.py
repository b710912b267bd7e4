"""What a security report says in words: the protocol with its threat model, and caveats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from facedecode.decoders.training_record import embedded_images
from facedecode.evaluation.result import FEW_ERRORS
from facedecode.evaluation.security.measure import OTHER, RANKS, REAL, SAME, SecurityFigures, SecurityJob
from facedecode.statistics.bootstrap import LEVEL, Estimate

if TYPE_CHECKING:  # needs torch
    from facedecode.decoders import Decoder

TYPES = {"type_one": "type I", "type_two": "type II"}
TITLES = {"type_one": "Type I", "type_two": "Type II"}
_GENERATOR = "a generator of faces, and the recognizer's templates of its pictures (black-box)"


def percent(share: float, digits: int = 4) -> str:
    """A share as people write it: 0.001 is '0.1 %'."""
    return f"{100 * share:.{digits}g} %"


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def decoder_needs(decoder: Decoder) -> str:
    """What its maker had to have."""
    if decoder.kind == "latent":
        return _GENERATOR
    pairs = "pairs of templates and images"
    if (used := uses_model(decoder)) is None:
        return f"{pairs}; whether the recognizer's weights too is unknown"
    if used:
        return f"{pairs}, and the recognizer's weights (white-box)"
    if embedded_images(decoder.provenance.training):
        return f"{pairs}, and the recognizer's templates of further pictures (black-box)"
    return f"{pairs} only"


def uses_model(decoder: Decoder) -> bool | None:
    """Whether gradients of the recognizer went into the decoder's training; None if its file does not tell."""
    return decoder.looked_through(decoder.recognizer["name"])


def protocol(figures: SecurityFigures, job: SecurityJob) -> list[str]:
    """Threat model and method, a paragraph each."""
    images, judges = figures.images, figures.judges
    white = [name for name, decoder in figures.decoders.items() if uses_model(decoder)]
    unknown = [name for name, decoder in figures.decoders.items() if uses_model(decoder) is None]
    latent = [name for name, decoder in figures.decoders.items() if decoder.kind == "latent"]
    attacked = sorted(set(figures.made_by.values()))
    who = f"the people of {job.people.name}" if job.people else "all people of the store"
    return [
        f"Data: {len(images.rows):,} images of {len(set(images.identities)):,} people ({who}"
        + ("; the first images only" if images.beyond else "")
        + "). No decoder was trained on any of them: the names in each decoder's file were compared, and nothing but "
        "names (LFW has some pictures under two).",
        f"Threat model. The attacker has got hold of a template of {' or '.join(attacked)}, one at a time, and holds a "
        "decoder for that recognizer. To make a decoder, somebody needed templates of other people together with "
        "their images"
        + (
            f"; for {', '.join(white)} also the recognizer's weights, through which gradients went (white-box)"
            if white
            else ""
        )
        + (f"; whether also the weights for {', '.join(unknown)} is not recorded" if unknown else "")
        + (f"; for {', '.join(latent)}, in place of all that, {_GENERATOR}" if latent else "")
        + ". He presents one picture, the decoder's, as it is: he does not refine it against a recognizer, does not "
        "choose among several, and does not see scores.",
        "The picture is presented digitally: rounded to 8 bits, in the portrait frame that decoders draw, cropped by "
        "that frame, with no new face detection and no presentation-attack detection. A picture printed or shown on a "
        "screen, a detector that refuses it, liveness checks, attempts at more than one template, and protected "
        "templates are not covered. These figures say how much of an identity a template gives away; a deployed "
        "system may accept fewer such pictures.",
        "Success attack rate: the share of comparisons with the picture that score at least the threshold. Type I "
        "compares it with the very image that made the template, type II with each other image of the same person. "
        "Beside it stands the recognizer's own TAR, the same comparison with the real image in place of the picture: "
        "about what type II can hope for.",
        f"Thresholds are set for each recognizer ({', '.join(judges)}) on all its real non-mated pairs of these "
        "images: the smallest one that lets through at most the FMR wanted; tied scores are never split.",
        "By person: the mean over a person's comparisons, then over people; by image or pair: every comparison alike, "
        "so that people with many images count for more. Headlines and gates are by person.",
        "An image that gave no template gives no picture, and nothing matches it: its comparisons count, as failures.",
        f"Intervals are {100 * LEVEL:g} %, by bootstrap over people ({job.repetitions:,} replicates, seed {job.seed}), "
        "with thresholds set anew in each. All decoders share the replicates.",
    ]


def caveats(figures: SecurityFigures, job: SecurityJob) -> list[str]:
    """What keeps a figure from meaning what it seems to, one sentence each."""
    said = []
    if not figures.repeated:
        said.append("Nobody has two images: there is no type II, no TAR, and no identification by another image.")
    if figures.unresolved:
        rates = ", ".join(percent(fmr) for fmr in figures.unresolved)
        said.append(f"The non-mated pairs are too few for FMR {rates}: these default rates are left out.")
    if figures.images.absent:
        absent = figures.images.absent
        said.append(f"{len(absent)} of the people of {job.people.name} have no image in the store ({absent[0]} …).")
    if figures.images.beyond:
        said.append(f"Only the first {len(figures.images.rows):,} images were taken: a trial run, not a result.")
    for name, decoder in figures.decoders.items():
        for target in figures.judges:
            made = figures.made_by[name]
            if target != made and not figures.is_transfer(name, target):
                said.append(f"{target} and {made} are one network: the success of {name} there is no test of transfer.")
                continue
            weights = figures.stores[target].recognizer["weights_sha256"]
            if target == made or (part := decoder.looked_through(target, weights)) is False:
                continue
            how = "was trained to be near in the maps of" if part else "may have been trained, in an earlier run, by"
            said.append(f"{name} {how} {target}: its success there is no test of transfer.")
    for target in figures.judges:
        few = [
            f"{percent(rate.fmr_wanted)} ({rate.false_accepts})"
            for rate in figures.rates[next(iter(figures.decoders)), target].type_one["people"]
            if rate.false_accepts < FEW_ERRORS
        ]
        if few:
            said.append(f"{target}: thresholds rest on fewer than {FEW_ERRORS} false matches at FMR {', '.join(few)}.")
    for target, count in Counter(row[0] for row in few_errors(figures)).items():
        what = f"{count} figures rest" if count > 1 else "1 figure rests"
        said.append(f"{target}: {what} on fewer than {FEW_ERRORS} successes or failures; listed in few-errors.csv.")
    return said


def few_errors(figures: SecurityFigures) -> Iterator[tuple[str, str, str, str, int, int]]:
    """(recognizer, decoder, figure, where, successes, failures) of figures with fewer than FEW_ERRORS of either.

    Counts are of comparisons; in the pairs curve of those of one draw.
    """
    for target in figures.judges:
        for decoder, figure, where, rate in _figures_of(figures, target):
            successes = round(rate.value * rate.n)
            if min(successes, rate.n - successes) < FEW_ERRORS:
                yield target, decoder, figure, where, successes, rate.n - successes


def _figures_of(figures: SecurityFigures, target: str) -> Iterator[tuple[str, str, str, Estimate]]:
    """(decoder, figure, where, rate) of all rates of a recognizer, every comparison alike."""
    for kind, word in {**TYPES, "mated": "TAR"}.items():
        for decoder in figures.decoders if kind in TYPES else [next(iter(figures.decoders))]:
            for rate in getattr(figures.rates[decoder, target], kind).get("pairs", ()):
                yield decoder if kind in TYPES else REAL, word, f"FMR {percent(rate.fmr_wanted)}", rate
    for source, probes in figures.identification[target].ranks.items():
        for probe, word in ((OTHER, "another image"), (SAME, "the enrolled image")):
            for rank, rate in zip(RANKS, probes[probe]["pairs"], strict=True) if probe in probes else ():
                yield source, f"identification by {word}", f"rank {rank}", rate
    for kind, word in TYPES.items():
        for point in figures.curve:
            if point.recognizer == target and (rate := getattr(point, kind).get("pairs")):
                yield f"{point.decoder} of the pairs curve", word, f"{point.pairs} pairs", rate
