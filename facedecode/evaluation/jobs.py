"""What each evaluation is asked to do. Free of NumPy and torch: the command line makes its options of these.

The help of a field says what it is; docstrings add what only Python users need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from facedecode.errors import UsageError
from facedecode.options import (
    ImageOptions,
    argument,
    device_option,
    exclude_option,
    named,
    option,
    parse_ridge,
    people_option,
    require_choice,
    seed_option,
    weights_option,
)
from facedecode.training.jobs import parse_networks

if TYPE_CHECKING:
    from typing_extensions import Self

REPETITIONS = 1000
REPLICATES = "Replicates of the bootstrap by person."
DECODERS = "Folder of a decoder, or the name of a recognizer that one ships for; NAME=… labels it (repeatable)."
JUDGES = "Store of the same images by another recognizer, as a further judge (repeatable)."
WEIGHTS = "Weights file of a recognizer, as FILE or NAME=FILE, if no installed package has it (repeatable)."
FIRST_IMAGES = "Use only the first images, this many, for a trial run."


@dataclass(frozen=True)
class EvaluationJob:
    """What an evaluation is asked to do.

    summary: what it does, for the list of commands. help: what the command's help says after it, with names of gates.
    """

    summary: ClassVar[str]
    help: ClassVar[str]

    def with_rates(self, fmrs: Sequence[float]) -> Self:
        """The job with these false match rates, which gates ask for, among those that it evaluates."""
        return dataclasses.replace(self, required=fmrs) if hasattr(self, "required") else self  # type: ignore[call-arg]

    def on_device(self, find: Callable[[str], str]) -> Self:
        """The job with its device found by its name; as it is where it computes without torch."""
        if not hasattr(self, "device"):
            return self
        return dataclasses.replace(self, device=find(self.device))  # type: ignore[call-arg]

    def without_report(self) -> Self:
        """The job less what only the pages of a report show."""
        return self

    def outputs(self) -> dict[str, str]:
        """What it writes beside a report, by name."""
        return {}


@dataclass(frozen=True)
class AggregationJob(EvaluationJob):
    """How much more images a template help verification."""

    summary: ClassVar[str] = "How much more images a template help verification."
    help: ClassVar[str] = """
    Gates: tar[n] and gain[n] (over one image), with @far=; tar[recognizer,n] where there are several stores.
    """
    stores: Sequence[Path] = argument("Stores of the same images, one a recognizer.", exists="store")
    persons: int = option(50, "Number of people to take: those with most images.", minimum=2)
    largest: int | None = option(
        None, "Most images in a gallery template. If absent, half of what every person has.", minimum=2
    )
    fmrs: Sequence[float] = option((0.01, 0.001), "False match rate (repeatable).", "--far")
    draws: int = option(20, "Random choices of gallery and probes.", minimum=1)
    people: Path | None = people_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()


def _decoders(options: Sequence[str]) -> dict[str, str]:
    return named(options, "--decoder")


def _weights(options: Sequence[str]) -> dict[str, Path]:
    return {name: Path(file) for name, file in named(options, "--weights").items()}


@dataclass(frozen=True)
class ReconstructionJob(EvaluationJob):
    """How like the originals decoders' pictures are.

    decoders: name → folder, or the name of a shipped one. weights: recognizer → file. phi: network → weights file, None
    where a package has it.
    """

    summary: ClassVar[str] = "How like the originals decoders' pictures are: PSNR, SSIM, scores …"
    help: ClassVar[str] = """
    Every decoder is judged on the same images, of people whom it was not trained on. Intervals are 95 %.

    Gates, for a decoder D and a recognizer R: psnr[D], ssim[D], lpips[D], sharpness[D] (gradient energy, as a share of
    the originals'), score[D,R], phi[D,NETWORK]; without [D] where there is one decoder, and score[D], phi[D] where
    there is one recognizer, one network.
    """
    store: Path = argument("A store made by 'extract', with its images.", exists="store")
    decoders: Mapping[str, str] = option(
        MISSING, DECODERS, "--decoder", written=list[str], parse=_decoders, exists="labeled decoder"
    )
    against: Sequence[Path] = option((), JUDGES, exists="store")
    weights: Mapping[str, Path] = option({}, WEIGHTS, written=list[str], parse=_weights, exists="labeled weights")
    people: Path | None = people_option()
    baseline: str | None = option(None, "The decoder that others are compared with; the first ridge if absent.")
    lpips_trunk: Path | None = option(
        None,
        "Also measure LPIPS: torchvision's weights of its network, or of the network's 'features' alone.",
        exists="weights",
    )
    lpips_net: Literal["alex", "squeeze", "vgg"] | None = option(None, "Network of LPIPS; alex if absent.")
    phi: Mapping[str, Path | None] = option(
        {},
        "Also measure a distance by this network's maps: squeezenet=FILE, vgg16-imagenet=FILE, a recognizer, NAME or "
        "NAME=FILE, or torch:FILE (repeatable).",
        written=list[str],
        parse=parse_networks,
        exists="name or labeled file",
    )
    images: ImageOptions = ImageOptions()
    limit: int | None = option(None, FIRST_IMAGES, minimum=2)
    columns: int = option(12, "People in the figure of all decoders.", minimum=1, maximum=100)
    device: str = device_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()


@dataclass(frozen=True)
class VerificationJob(EvaluationJob):
    """How well templates verify people: all pairs of a store, the pairs of a file, or a gallery and probes.

    fmrs: those of the protocol that its pairs resolve if None. required: further ones, of gates.
    """

    summary: ClassVar[str] = "How well templates verify people: accuracy, EER, TAR@FAR, ROC, DET."
    help: ClassVar[str] = """
    With --mapping the templates of a perturbed side are mapped back first, as in Table 2 of the paper.

    Intervals are 95 %, by person bootstrap. Pairs with an image that gave no template count as non-matches unless
    --ignore-failures is given. Gates: accuracy, eer, fta, tar@far=F and fnmr@fmr=F (by person), tar_by_pair@far=F; with
    --threshold fmr and fnmr; with --labels fmr_ratio@fmr=F and fnmr_ratio@fmr=F. Of several recognizers name one, as
    eer[edgeface-xxs].
    """
    stores: Sequence[str] = argument(
        "Stores made by 'extract', one a recognizer; NAME=STORE labels one.", exists="labeled store"
    )
    pairs: Path | None = option(
        None, "Pairs to compare: LFW's file, or a table of two paths and a label. Else all pairs.", exists="file"
    )
    probes: Path | None = option(
        None,
        "A store of probes to compare with STORE, the gallery; with --pairs, of the second images.",
        exists="store",
    )
    mapping: Path | None = option(None, "A map made by 'fit-mapping', applied before comparison.", exists="mapping")
    mapping_side: Literal["left", "right", "both"] | None = option(
        None,
        "What is mapped: left (first images of pairs, gallery), right (second images, probes; the default), or both "
        "(the only choice for all pairs of a store).",
    )
    people: Path | None = people_option()
    fmrs: Sequence[float] | None = option(None, "False match rates for TAR@FAR (repeatable).", "--far")
    threshold: float | None = option(None, "Also FMR and FNMR at this score (accepted: at or above).")
    labels: Path | None = option(
        None, "Table of people's labels: column 'identity' or 'path', and --label.", exists="file"
    )
    label: str | None = option(None, "Column of --labels with the groups to tell apart: gender.")
    ignore_failures: bool = option(False, "Leave out images that gave no template (else: no match).")
    ignore_missing: bool = option(False, "Leave out pairs of --pairs with images that a store lacks.")
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()
    required: Sequence[float] = ()


@dataclass(frozen=True)
class EquivarianceJob(EvaluationJob):
    """Which maps to fit on some people and to judge on others.

    Where one of `people` and `train_people` is None, it is all others of the store. Where both are, a tenth of the
    people is judged, by a hash of the name.
    """

    summary: ClassVar[str] = "How linearly perturbations of faces act on their templates."
    help: ClassVar[str] = """
    Maps are fitted on some people and judged on others.

    Gates, for a perturbation T: undone[T] (explained displacement), cosine[T] and score[T] (after the map),
    round_trip[T] (share lost), composed[A,B] (explained displacement of A then B by their maps), interpolated_linear[T]
    and interpolated_logarithm[T]; accuracy (of the estimator) and gain (in score, by the estimated map). Without [T]
    where there is one perturbation.
    """
    store: Path = argument("A store of unperturbed faces made by 'extract', with its images.", exists="store")
    transforms: Sequence[str] = option(
        ("rotations",),
        "rotate30, …, or a group: rotations, shifts, scales, occlusions, all (repeatable).",
        "--transform",
        exists="transforms",
    )
    people: Path | None = option(
        None,
        "Judge on these people: a file with one name a line, or in LFW's format. All others if absent.",
        exists="file",
    )
    train_people: Path | None = option(
        None, "Fit on these people; all others if absent. Without --people too, a tenth is judged.", exists="file"
    )
    exclude: Sequence[str] = option((), "Neither fit nor judge on this person (repeatable).")
    ridge: float | Literal["auto"] = option(
        0,
        "Ridge penalty, as a multiple of the templates' mean variance: 0 for plain least squares, or auto (by "
        "generalized cross-validation).",
        written=str,
        parse=parse_ridge,
    )
    work: Path | None = option(
        None, "Folder that keeps perturbed templates, so that an interrupted run can resume.", makes="folder"
    )
    weights: Path | None = weights_option()
    images: ImageOptions = ImageOptions()
    limit: int | None = option(None, "Use only the first images of both, this many, for a trial run.", minimum=2)
    device: str = device_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()


def _sizes(text: str) -> tuple[int | str, ...]:
    """Numbers of pairs from '10,30,all'."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word != "all" and not (word.isascii() and word.isdigit()):
            raise UsageError(f"--pairs-curve {text!r}: {word!r} is neither a number of pairs nor 'all'")
    return tuple(word if word == "all" else int(word) for word in words)


@dataclass(frozen=True)
class SecurityJob(EvaluationJob):
    """How often decoded faces pass as the person, before every recognizer and in a gallery.

    decoders: name → folder, or the name of a shipped one. weights: recognizer → file. required: further false match
    rates, of gates. pairs_curve: numbers of pairs, or 'all'.
    """

    summary: ClassVar[str] = "How often decoded faces pass as the person (type I and II attacks)."
    help: ClassVar[str] = """
    Each decoder belongs to the store of its recognizer, and its pictures are shown to the recognizers of all stores.

    Gates: type1@fmr=R and type2@fmr=R (the highest of all decoders against their own recognizer), type1[D,B]@fmr=R,
    type2[D,B]@fmr=R (decoder D before recognizer B), tar[B]@fmr=R, rank1, rank1[D,B], rank1_same[D,B].
    Of one recognizer also tar@fmr=R. Of tar, @far is another spelling of @fmr.
    """
    stores: Sequence[Path] = argument(
        "Stores of the same images, each by another recognizer; the first one names the images.", exists="store"
    )
    decoders: Mapping[str, str] = option(
        MISSING, DECODERS, "--decoder", written=list[str], parse=_decoders, exists="labeled decoder"
    )
    people: Path | None = people_option()
    fmrs: Sequence[float] | None = option(
        None, "False match rates (repeatable); 0.1, 0.01, 0.001, 0.0001 if absent, as far as resolved.", "--fmr"
    )
    train_people: Path | None = option(
        None, "Also success against the number of pairs, drawn from these people.", exists="file"
    )
    exclude: Sequence[str] = option((), "Leave this person out of --train-people (repeatable).")
    pairs_curve: Sequence[int | str] | None = option(
        None, "Numbers of pairs: 10,30,100,300,1000,3000,all (the default).", written=str | None, parse=_sizes
    )
    pairs_curve_draws: int | None = option(None, "How often the pairs are drawn; 3 if absent.", minimum=1)
    pairs_curve_size: int | None = option(
        None, "Side of the pictures of --pairs-curve, pixels; 128 if absent.", minimum=16
    )
    weights: Mapping[str, Path] = option({}, WEIGHTS, written=list[str], parse=_weights, exists="labeled weights")
    images: ImageOptions = ImageOptions()
    limit: int | None = option(None, FIRST_IMAGES, minimum=2)
    device: str = device_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()
    required: Sequence[float] = ()


def _named_stores(options: Sequence[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, folder in named(options, "STORES").items()}


@dataclass(frozen=True)
class LeakageJob(EvaluationJob):
    """What a template reveals besides the person.

    stores: label → folder, of the same images. attributes: of `attributes.measured.ATTRIBUTES`; all if None.
    """

    summary: ClassVar[str] = "What a template reveals besides the person: pose, light, labels."
    help: ClassVar[str] = """
    Gates: balanced_accuracy[ATTRIBUTE,PROBE] of classes, r2[ATTRIBUTE,PROBE] of numbers, with PROBE linear,
    quadratic (classes only) or mlp; [ATTRIBUTE,PROBE,STORE] where there are several stores.
    """
    stores: Mapping[str, Path] = argument(
        "Stores of the same images, or NAME=STORE; the first is compared with.",
        written=list[str],
        parse=_named_stores,
        exists="labeled store",
    )
    labels: Path | None = option(None, "Table with a column 'path' and columns of labels.", exists="file")
    columns: Sequence[str] = option((), "A column of it to read (repeatable).", "--label")
    attributes: Sequence[str] | None = option(
        None, "A computed attribute (repeatable): yaw, turn, brightness …; all if absent.", "--attribute"
    )
    people: Path | None = people_option()
    exclude: Sequence[str] = exclude_option()
    directions: Path | None = option(
        None, "Write each attribute's direction to this folder, for 'walk'.", makes="folder"
    )
    decoder: str | None = option(
        None,
        "Decoder that draws the strips. If absent, the one that ships for the recognizer; none: no strips.",
        exists="decoder",
    )
    weights: Path | None = weights_option()
    images: ImageOptions = ImageOptions()
    limit: int | None = option(None, FIRST_IMAGES, minimum=2)
    folds: int = option(5, "Folds of people: a probe is judged on one and trained on the others.", minimum=2)
    device: str = device_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()

    def without_report(self) -> Self:
        """Without strips, which nobody would see."""
        return dataclasses.replace(self, decoder="none")

    def outputs(self) -> dict[str, str]:
        """The folder of the directions."""
        return {"directions": str(self.directions)} if self.directions else {}


@dataclass(frozen=True)
class ProtectionJob(EvaluationJob):
    """Accuracy, linkability and attacks of templates that are protected here by a scheme, or in stores.

    weights: recognizer → file. required: further false match rates, of gates. UsageError for options that do not go
    together.
    """

    summary: ClassVar[str] = "Template protection: accuracy, linkability, and attacks on it."
    help: ClassVar[str] = """
    Gates: linkability and maximal_linkability (the highest of all scores and images), eer and tar@far=R (one key for
    all), type1@fmr=R and type2@fmr=R (the highest, key known or not, before every judge).

    One of them: eer[S] and tar[S]@far=R (S: unprotected, one-key, own-keys), type1[A,J]@fmr=R (attacker A: known,
    unknown, unprotected, mean-face; judge J: recognizer, system, or another's name), linkability[K,I] (score K: own,
    length; I: different-images, same-image).
    """
    stores: Sequence[Path] = argument(
        "The store of unprotected templates; then, without --scheme, two or more protected ones.", exists="store"
    )
    scheme: Literal["rotation", "biohash"] | None = option(
        None, "Protect here, with keys from the seed: rotation, biohash."
    )
    keys: int | None = option(None, "Number of keys of --scheme; 5 if absent.")
    bits: int | None = option(None, "Bits of a biohash. If absent, as many as a template has numbers.")
    center: bool | None = option(
        None, "Subtract the training people's mean before a biohash, or do not.", "--center/--no-center"
    )
    people: Path | None = people_option()
    train_people: Path | None = option(
        None, "The people that an attacker trains on: a file with one name a line, or in LFW's format.", exists="file"
    )
    exclude: Sequence[str] = option((), "Leave this person out of --train-people (repeatable).")
    fmrs: Sequence[float] | None = option(None, "False match rates (repeatable); 0.01 and 0.001 if absent.", "--fmr")
    attacker: str | None = option(None, "What is trained on protected templates: ridge, nearest; ridge if absent.")
    image_size: int | None = option(None, "Side of the attacker's pictures, pixels; 128 if absent.", minimum=16)
    against: Sequence[Path] = option((), JUDGES, exists="store")
    weights: Mapping[str, Path] = option({}, WEIGHTS, written=list[str], parse=_weights, exists="labeled weights")
    images: ImageOptions = ImageOptions()
    device: str = device_option()
    repetitions: int = option(REPETITIONS, REPLICATES, minimum=100)
    seed: int = seed_option()
    required: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.attacker is not None:
            from facedecode.decoders.kinds import fitted_by

            require_choice("attacker", self.attacker, fitted_by("closed form"))
        if not self.train_people:
            needing = {"against": self.against, "weights": self.weights, "images": self.images.images}
            needing |= {"attacker": self.attacker, "image-size": self.image_size}
            if named := [name for name, value in needing.items() if value]:
                raise UsageError(
                    f"--{named[0]} is for an attacker's pictures, and there is no attacker: give --train-people"
                )
            if self.exclude:
                raise UsageError("--exclude leaves out people of --train-people; give it")
        if self.scheme is None:
            if self.keys is not None or self.bits is not None or self.center is not None:
                raise UsageError("--keys, --bits, --center and --no-center go with --scheme; stores have theirs")
            if len(self.stores) < 3:
                raise UsageError("linking compares two keys or more: give stores under two keys, or --scheme")
        elif len(self.stores) > 1:
            raise UsageError("give --scheme and one store, or protected stores and no --scheme")
        elif self.keys is not None and self.keys < 2:
            raise UsageError(f"--keys {self.keys}: linking compares templates under two keys or more")
        elif self.scheme == "rotation" and self.center is not None:
            raise UsageError("a rotation has no center: leave --center and --no-center to biohash")
        elif self.scheme == "biohash" and self.center is not False and not self.train_people:
            raise UsageError("a biohash is centered at the training people's mean: give --train-people, or --no-center")
