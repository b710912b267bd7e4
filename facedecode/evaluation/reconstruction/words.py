"""What a reconstruction report says in words: the protocol, and what keeps a figure from meaning what it seems to."""

from __future__ import annotations

from collections.abc import Iterator

from facedecode.evaluation.fidelity import ORIGINALS
from facedecode.evaluation.reconstruction.measure import ReconstructionFigures, ReconstructionJob
from facedecode.statistics.bootstrap import LEVEL

SCORES = {"cosine": "cosine", "negative-euclidean": "negative Euclidean distance"}
_FEW_PEOPLE = 30


def protocol(figures: ReconstructionFigures, job: ReconstructionJob) -> list[str]:
    """How the figures were made, a paragraph each."""
    images, attacked = figures.images, next(iter(figures.stores))
    missing = int(images.missing.sum())
    who = f"the people of {job.people.name}" if job.people else "all people of the store"
    if figures.lpips:
        lpips = (
            f"LPIPS: the lpips package's version {figures.lpips['version']}, net {figures.lpips['net']}, on "
            f"torchvision's {figures.lpips['trunk']} (verified by its hash), pictures in [-1, 1]; lower is better."
        )
    else:
        lpips = "LPIPS was not measured: its trunk's weights were not given."
    return [
        f"Data: {len(images.rows):,} images of {len(set(images.identities)):,} people ({who}). "
        f"{missing:,} of them gave no template of {attacked}: they have no picture and are in no other figure. "
        "No decoder was trained on any of these people: the names in each decoder's file were compared, and nothing "
        "but names (LFW has some pictures under two).",
        f"Each decoder draws a portrait from nothing but the template of {attacked}; it is rounded to 8 bits and "
        "compared with the portrait cut from the original image, in the same frame (eyes and mouth at fixed places, "
        f"{next(iter(figures.decoders.values())).image_size} px a side). '{ORIGINALS}' are these portraits "
        "themselves, shown in the same way: what a perfect decoder would get.",
        "PSNR: RGB, peak 1, mean of the per-image values; a picture equal to its original has an infinite one, which "
        "is left out of the mean and counted. SSIM: Wang et al. 2004 (Gaussian window of sigma 1.5, population "
        "covariance, K1 0.01, K2 0.03, range 1), mean over RGB. " + lpips,
        *_distances(figures),
        "Gradient energy: mean |∇luma|² over pixels, forward differences, luma (BT.601) in [0, 1]; its ratio to the "
        "originals' (a ratio of means; 'sharpness' in gates) is 100 % for pictures as sharp as photographs. Grid "
        "peak: power of luma along rows and columns at a period of 2, 4, 8 or 16 px, over a straight line through the "
        "log power beside it; up-sampling that leaves a grid shows there.",
        "Score: the recognizer's own, between the picture's template (the picture embedded in the portrait's frame, "
        "without a new detection) and the template of its original: "
        + "; ".join(
            f"{name}, {SCORES[by.recognizer.spec.score]}"
            + (f" ({name} has none of {int(by.missing.sum()):,} of the images)" if by.missing.any() else "")
            for name, by in figures.references.items()
        )
        + ". Higher is more alike. A score says how alike, not whether a threshold is passed: success rates are the "
        "matter of 'evaluate security'.",
        f"Every image counts alike. Intervals are {LEVEL:.0%}, by bootstrap over people ({job.repetitions:,} "
        f"replicates, seed {job.seed}), which all decoders share, so that differences and ratios are paired.",
        "Which people the figures show is fixed by rule: spread evenly over the sorted names, or by rank of PSNR or "
        f"of the score by {attacked}.",
        *_changes(figures),
    ]


def _distances(figures: ReconstructionFigures) -> Iterator[str]:
    """What the perceptual distances are."""
    if figures.networks:
        yield (
            f"φ distance, by internal maps of {' and '.join(figures.networks)}: at each place of a map the squared "
            "distance of the two channel vectors, each scaled to length 1; mean over places, then over maps. It is 0 "
            "for equal pictures and at most 4, lower is better; it has none of LPIPS's calibrated weights, and is not "
            "to be compared with LPIPS."
        )


def _changes(figures: ReconstructionFigures) -> Iterator[str]:
    """What was done to images or templates of a store."""
    transforms = {store.manifest.get("transform") for store in figures.stores.values()} - {None}
    if transforms:
        yield (
            f"The templates are of images transformed by {', '.join(sorted(transforms))}; the originals are shown "
            "without it."
        )
    for name, store in figures.stores.items():
        if attack := store.manifest.get("attack"):
            yield f"The templates of {name} are of images attacked by {attack['method']}; so are the originals."
        if mapping := store.manifest.get("mapping"):
            yield f"The templates of {name} were mapped after extraction, by a map that undoes {mapping['undoes']}."


def caveats(figures: ReconstructionFigures, job: ReconstructionJob) -> list[str]:
    """What keeps a figure from meaning what it seems to, one sentence each."""
    said, images = [], figures.images
    if images.beyond:
        said.append(f"Only the first {len(images.rows):,} images were taken: a trial run, not a result.")
    if images.absent and job.people:
        said.append(
            f"{len(images.absent):,} people of {job.people.name} have no image in the store "
            f"({', '.join(images.absent[:3])}{', …' if len(images.absent) > 3 else ''})."
        )
    if (people := len(set(images.acquired_identities))) < _FEW_PEOPLE:
        said.append(f"Intervals rest on {people} people only; a bootstrap of so few is too narrow.")
    for name, decoder in figures.decoders.items():
        for network, made_of in figures.networks.items():  # called as `--phi` called it: with its layers, for one
            if (part := decoder.looked_through(made_of["name"], made_of["weights_sha256"])) is not False:
                how = "was" if part else "may, in an earlier run, have been"
                said.append(
                    f"{name} {how} trained to be near in {network}'s maps: its φ distance there is no test of it."
                )
        if equal := figures.figures[name].pictures["psnr"].infinite:
            said.append(f"{name} draws {equal:,} originals without an error: they are left out of its mean PSNR.")
    return said
