"""What an equivariance report says in words: the protocol, and what keeps a figure from meaning what it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facedecode.evaluation.equivariance.measure import EquivarianceFigures, EquivarianceJob
from facedecode.mapping.maps import FEW
from facedecode.report.text import counted
from facedecode.statistics.bootstrap import LEVEL

SCORES = {"cosine": "cosine", "negative-euclidean": "negative Euclidean distance"}
SIMPLER = {"orthogonal": "orthogonal", "shift": "a shift", "mean": "the mean template"}
_FEW_PEOPLE = 30

LINEARITY = (
    "Share undone: 1 − Σ‖e − M(e′)‖² / Σ‖e − e′‖², e being the template of an image and e′ that of the same image "
    "perturbed: 100 % where the map M brings every template back, 0 where it does as much as nothing. It has to be "
    "read beside what maps undo that know less: an orthogonal one (it cannot shrink), a shift (every template moved "
    "alike), and the mean template, which is what one would guess without looking and undoes all that is common."
)
COMPOSITION = (
    "If a perturbation done in two steps is undone by the two steps' maps in reverse order as well as by the map that "
    "was fitted for the whole, the maps compose as the perturbations do. Disagreement: the mean squared distance of "
    "what both make of the same templates, over the spread of what the fitted map makes of them; beside it the "
    "distance of the two weights, ‖W − W₁W₂‖ / ‖W‖, for which a direction counts alike whether templates vary in it "
    "or not."
)
INVERSE = (
    "A map is fitted the other way, from originals to perturbed templates. Done after the map that undoes the "
    "perturbation, it would give every perturbed template back if the two were inverses: the share that is lost, over "
    "the templates' spread, is 0 then, and 100 % where nothing but the mean is left. Least squares draws towards the "
    "mean both ways, so that what perturbed and original templates do not share is lost even where the relation "
    "between them is linear."
)
OPPOSITE = (
    "The map that does a rotation (fitted from originals to perturbed templates) in place of the one that undoes the "
    "opposite rotation: as good, if turning back is turning the other way."
)
INTERPOLATION = (
    "Each angle's map is left out and made from its two neighbors' maps, no rotation (the identity) being one of the "
    "ladder: by linear interpolation, and by the matrix logarithm, M₁ exp(t · log(M₁⁻¹ M₂)), which is exact for a "
    "one-parameter family of maps. A step with negative eigenvalues has no real principal logarithm: the mean of its "
    "two complex branches is taken then, and the eigenvalues are counted. It is taken among the directions in which "
    "templates vary and all maps read something; where one has no inverse even there, there is nothing."
)
ESTIMATION = (
    "A linear discriminant, fitted on the other people's templates, tells which perturbation a template has gone "
    "through, or none; all classes are equally likely. The template is then corrected by the map of what it says, "
    "and scored against the template of the original image: beside templates that are left as they are, and those "
    "corrected by the map of what was really done."
)


def protocol(figures: EquivarianceFigures, job: EquivarianceJob) -> list[str]:
    """How the figures were made, a paragraph each."""
    training, judged = figures.training, figures.judged
    aliases = "".join(
        f" {name} is {other} under another name, and left out." for name, other in figures.aliases.items()
    )
    return [
        f"Data: maps and estimator are fitted on {counted(len(training.rows), 'image')} of "
        f"{len(set(training.identities)):,} people{_file(job.train_people)}, and judged on "
        f"{counted(len(judged.rows), 'image')} of {len(set(judged.identities)):,} others{_file(job.people)}. "
        "Images that gave no template have no part in it.",
        "A face is detected once, in the original picture; the picture is perturbed about it, and cropped by the "
        f"original's box and landmarks (docs/perturbations.md).{aliases}",
        f"Maps are affine, M(e′) = W e′ + b, fitted by least squares (Eq. 6 of the paper){_ridge(job)}.",
        LINEARITY,
        COMPOSITION,
        INVERSE,
        OPPOSITE,
        INTERPOLATION,
        ESTIMATION,
        f"Score: {SCORES[figures.store.recognizer['score']]}; higher is more alike. It is that of the very image: it "
        "says how near a template comes to the original, not whether a person would be accepted.",
        f"Every image counts alike. Intervals are {LEVEL:.0%}, by bootstrap over the people judged "
        f"({job.repetitions:,} replicates, seed {job.seed}), for maps as they were fitted; shares are ratios of means, "
        "differences are paired.",
    ]


def caveats(figures: EquivarianceFigures, job: EquivarianceJob) -> list[str]:
    """What keeps a figure from meaning what it seems to, one sentence each."""
    said = []
    for images, what in ((figures.training, "to fit on"), (figures.judged, "judged")):
        if images.beyond:
            said.append(f"Only the first {len(images.rows):,} images {what} were taken: a trial run, not a result.")
        if images.absent:
            listed = ", ".join(images.absent[:3]) + (", …" if len(images.absent) > 3 else "")
            said.append(f"{len(images.absent):,} people {what} have no image in the store ({listed}).")
    if (people := len(set(figures.judged.identities))) < _FEW_PEOPLE:
        said.append(f"Intervals rest on {people} people only; a bootstrap of so few is too narrow.")
    if len(figures.training.rows) <= FEW * figures.store.dim:
        said.append(
            f"{counted(len(figures.training.rows), 'image')} are few for maps of {figures.store.dim} dimensions: they "
            "are fitted with a ridge."
        )
    if flat := {name: rank for name, rank in figures.ranks.items() if rank < figures.store.dim}:
        low, high = min(flat.values()), max(flat.values())
        said.append(
            f"The templates vary in {low if low == high else f'{low} to {high}'} of {figures.store.dim} directions; in "
            f"the others no more than rounding does, and maps do not read them (of {len(flat)} perturbations)."
        )
    for name, count in figures.lost.items():
        said.append(f"{name} leaves no face in the frame of {counted(count, 'image')} judged: left out of its figures.")
    said += _logarithms(figures)
    return said


def _logarithms(figures: EquivarianceFigures) -> Iterator[str]:
    """Where the matrix logarithm is not what it should be."""
    without = [own.transform for own in figures.interpolations if own.logarithm is None]
    if without:
        yield f"No interpolation by the matrix logarithm for {', '.join(without)}: a neighbor's map has no inverse."
    complex_ = [own.transform for own in figures.interpolations if own.logarithm and own.negative]
    if complex_:
        yield (
            f"The step between the neighbors has no real logarithm for {', '.join(complex_)} (negative eigenvalues): "
            "the mean of two complex branches stands for it."
        )


def _ridge(job: EquivarianceJob) -> str:
    if job.ridge == "auto":
        return " with a ridge by generalized cross-validation"
    return f" with a ridge of {job.ridge:g} times the templates' mean variance" if job.ridge else ""


def _file(path: Path | None) -> str:
    return f" of {path.name}" if path else ""
