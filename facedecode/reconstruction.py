"""What decoders' pictures are worth: fidelity, sharpness, grid patterns, and what recognizers take them for.

Everything is measured on images of people whom no decoder was trained on (`unseen_images`, `require_unseen`).
Pictures are 8-bit portraits (`facedecode.align`) and are re-embedded in the portrait's own frame, without a new
detection. Intervals are 95 % by person bootstrap; all figures of one evaluation share the same replicates, so that
ratios and differences between decoders are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facedecode.bootstrap import LEVEL, REPETITIONS, Estimate, mean_interval, percentiles, person_draws
from facedecode.errors import BadInput
from facedecode.metrics import gradient_energy, mean_psnr, psnr, ssim
from facedecode.protocols import read_people
from facedecode.scores import AllPairs, encode_people, mated_non_mated_scores
from facedecode.security import SecurityRates, success_attack_rates
from facedecode.store import Store, require_same_recognizer

if TYPE_CHECKING:  # both need torch
    from facedecode.decoders import Decoder
    from facedecode.recognizers.recognizer import Recognizer

Progress = Callable[[str], None]
FMRS = (0.001, 0.0001)
ORIGINALS = "originals"
PERIODS = (2, 4, 8, 16)  # px: what doubling a map leaves, if it leaves anything
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class UnseenImages:
    """The images of an evaluation.

    rows: a store's rows, n dicts; those of images that gave no template, at the end, have path and identity only.
    templates: float32 (n, dim) of the attacked recognizer; zeros where there is none.
    missing: bool (n,), images without a template (failure to acquire).
    """

    rows: list[dict]
    templates: np.ndarray
    missing: np.ndarray

    @property
    def identities(self) -> list[str]:
        """The person of each image."""
        return [row["identity"] for row in self.rows]

    @property
    def acquired(self) -> list[dict]:
        """The rows that have a template, and so a portrait."""
        return [row for row, gone in zip(self.rows, self.missing, strict=True) if not gone]

    @property
    def acquired_identities(self) -> list[str]:
        """The person of each image that has a template."""
        return [row["identity"] for row in self.acquired]


def unseen_images(store: Store, people: Path | None, limit: int | None = None) -> UnseenImages:
    """The images of a people file's persons (of all, if None) in a store, with those that failed there.

    Args:
        limit: take the first so many templates only.

    Raises:
        BadInput: none of these people is in the store, or a template has no identity.
    """
    rows, templates = store.rows().to_pylist(), store.templates()
    failed = [_failed_row(failure["path"]) for failure in store.failures()]
    if people is not None:
        wanted = {person.name for person in read_people(people)}
        keep = [i for i, row in enumerate(rows) if row["identity"] in wanted]
        rows, templates = [rows[i] for i in keep], templates[keep]
        failed = [row for row in failed if row["identity"] in wanted]
    if limit is not None:
        rows, templates, failed = rows[:limit], templates[:limit], []
    if not rows:
        raise BadInput(f"{store.folder}: none of the people of {people} is in this store")
    encode_people([row["identity"] for row in rows])  # refuses rows without a name
    missing = np.zeros(len(rows) + len(failed), bool)
    missing[len(rows) :] = True
    padded = np.concatenate([templates, np.zeros((len(failed), store.dim), np.float32)])
    return UnseenImages(rows + failed, padded, missing)


def require_unseen(name: str, training_people: Sequence[str] | None, identities: Sequence[str]) -> None:
    """Refuse a decoder that was trained on people it is to be judged on.

    Raises:
        BadInput: there are such people (counted), or the decoder does not record whom it was trained on.
    """
    if not training_people:
        raise BadInput(f"decoder {name}: it does not record the people it was trained on; train it again")
    people = set(identities)
    if shared := sorted(people & set(training_people)):
        listed = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        raise BadInput(
            f"decoder {name}: trained on {len(shared)} of the {len(people)} people it is to be judged on ({listed}); "
            "judge it on others"
        )


@dataclass(frozen=True)
class Judge:
    """A recognizer that judges pictures, with its own templates of the originals.

    templates: float32 (n, dim), zeros where there is none. missing: bool (n,). pairs: all pairs of them, which
    set its thresholds.
    """

    recognizer: Recognizer
    templates: np.ndarray
    missing: np.ndarray
    pairs: AllPairs


def make_judge(recognizer: Recognizer, store: Store, images: UnseenImages) -> Judge:
    """A judge from its store of the same images.

    Raises:
        BadInput: the store is another recognizer's, it has not seen one of the images, or it has seen a file of
            the same name and another content.
    """
    require_same_recognizer(store.recognizer, recognizer.describe(), f"the judge {recognizer.spec.name}")
    rows = store.rows().select(["path", "sha256"]).to_pylist()
    where = {row["path"]: i for i, row in enumerate(rows)}
    failed = {failure["path"] for failure in store.failures()}
    place = np.array([where.get(row["path"], -1) for row in images.rows])
    missing = place < 0
    if unknown := [row["path"] for row in images.rows if row["path"] not in where and row["path"] not in failed]:
        listed = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise BadInput(f"{store.folder}: {len(unknown)} of the images are not in this store ({listed})")
    for row, i in zip(images.rows, place, strict=True):
        if i >= 0 and row.get("sha256") and rows[i]["sha256"] and row["sha256"] != rows[i]["sha256"]:
            raise BadInput(f"{store.folder}: {row['path']} is another picture there; extract the same images")
    templates = np.where(missing[:, None], np.float32(0), store.templates()[place])
    pairs = mated_non_mated_scores(templates, images.identities, recognizer.spec.score, missing=missing)
    return Judge(recognizer, templates, missing, pairs)


@dataclass(frozen=True)
class PictureValues:
    """One value an image. psnr (dB, inf where equal), ssim, sharpness (gradient energy): float64 (n,).

    spectra: float64 (n, P // 2 + 1), see `axis_spectra`.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    sharpness: np.ndarray
    spectra: np.ndarray


@dataclass(frozen=True)
class DecoderFigures:
    """The figures of one decoder.

    pictures: psnr, ssim, gradient_energy; gradient_energy_to_originals (a ratio of means); where there is a
        baseline psnr_over_baseline (dB) and gradient_energy_to_baseline; grid_peak_N (dB), see `grid_peaks`.
    spectrum: float64 (P // 2 + 1,), mean of `axis_spectra`.
    attacks: for each judge type I and type II, with the judge's own TAR.
    """

    pictures: dict[str, Estimate]
    spectrum: np.ndarray
    attacks: dict[str, SecurityRates]

    def metrics(self) -> dict:
        """JSON: every figure as {value, low, high, n, …}."""
        attacks = {
            name: {kind: rates_json(getattr(rates, kind)) for kind in ("type_one", "type_two")}
            for name, rates in self.attacks.items()
        }
        return {**{name: value.as_json() for name, value in self.pictures.items()}, "attacks": attacks}


def rates_json(rates: Mapping[str, Sequence]) -> dict:
    """`SecurityRates.type_one` and the like as JSON: weighting → FMR → the figure."""
    return {by: {f"{rate.far_wanted:g}": rate.as_json() for rate in group} for by, group in rates.items()}


def evaluate_decoders(
    decoders: Mapping[str, Decoder],
    images: UnseenImages,
    portraits: np.ndarray,
    judges: Mapping[str, Judge],
    *,
    baseline: str | None = None,
    fmrs: Sequence[float] = FMRS,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, DecoderFigures]:
    """All figures of several decoders on the same unseen images.

    Args:
        decoders: by name; each draws pictures of the portraits' size.
        portraits: (m, P, P, 3) uint8, the originals of `images.acquired`, in that order.
        judges: by name; `make_judge`.
        baseline: the decoder that the others are compared with.
        fmrs: false match rates of the judges' thresholds.
        progress: called with what is being done.

    Returns:
        Figures by name; first, as 'originals', those of the original portraits themselves: what a perfect
        decoder would get.

    Raises:
        BadInput: a decoder has seen one of the people, draws another size, or cannot take the templates; false
            match rates that the images cannot resolve.
    """
    identities, drawn = images.acquired_identities, images.templates[~images.missing]
    if len(portraits) != len(drawn):
        raise BadInput(f"{len(portraits)} portraits for {len(drawn)} templates: give one for each")
    for name, decoder in decoders.items():
        require_unseen(name, decoder.provenance.training.get("people"), identities)
        if decoder.image_size != portraits.shape[1]:
            raise BadInput(
                f"decoder {name} draws {decoder.image_size} px beside originals of {portraits.shape[1]} px: "
                "compare pictures of one size"
            )
    options = {"repetitions": repetitions, "seed": seed}
    values: dict[str, PictureValues] = {}
    attacks: dict[str, dict[str, SecurityRates]] = {}
    for name, decoder in {ORIGINALS: None, **decoders}.items():
        if progress:
            progress(name)
        pictures = portraits if decoder is None else decoder.decode(drawn)
        values[name] = picture_values(pictures, portraits)
        attacks[name] = {
            judge_name: attack_rates(pictures, images, judge, fmrs, **options) for judge_name, judge in judges.items()
        }
    figures = {}
    for name, own in values.items():
        compared = values[baseline] if baseline is not None and name not in (ORIGINALS, baseline) else None
        pictures = picture_figures(own, values[ORIGINALS], identities, compared, **options)
        figures[name] = DecoderFigures(pictures, own.spectra.mean(0), attacks[name])
    return figures


def attack_rates(
    pictures: np.ndarray,
    images: UnseenImages,
    judge: Judge,
    fmrs: Sequence[float] = FMRS,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> SecurityRates:
    """Type I and type II success of portraits (m, P, P, 3) uint8 of `images.acquired` before a judge.

    An image without a template gives no picture: its trials count, as no success.
    """
    from facedecode.inversion import embed_pictures

    templates = np.zeros_like(judge.templates)
    templates[~images.missing] = embed_pictures(judge.recognizer, pictures)
    return success_attack_rates(
        templates,
        judge.templates,
        images.identities,
        judge.recognizer.spec.score,
        fmrs,
        missing=images.missing,
        missing_originals=judge.missing,
        pairs=judge.pairs,
        repetitions=repetitions,
        seed=seed,
    )


def picture_values(pictures: np.ndarray, originals: np.ndarray) -> PictureValues:
    """What each picture (n, P, P, 3) uint8 is worth beside its original, by `facedecode.metrics`' conventions."""
    return PictureValues(
        psnr=psnr(pictures, originals),
        ssim=ssim(pictures, originals),
        sharpness=gradient_energy(pictures),
        spectra=axis_spectra(pictures),
    )


def picture_figures(
    values: PictureValues,
    originals: PictureValues,
    identities: Sequence[str],
    baseline: PictureValues | None = None,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Means and their intervals by person; the names are those of `DecoderFigures.pictures`."""
    options = {"repetitions": repetitions, "seed": seed, "level": level}
    figures: dict[str, Estimate] = {
        "psnr": mean_psnr(values.psnr, identities, **options),
        "ssim": mean_interval(values.ssim, identities, **options),
        "gradient_energy": mean_interval(values.sharpness, identities, **options),
        "gradient_energy_to_originals": ratio_interval(values.sharpness, originals.sharpness, identities, **options),
    }
    if baseline is not None:
        # Images that either draws without an error have no finite difference; they are left out of it.
        finite = np.isfinite(values.psnr) & np.isfinite(baseline.psnr)
        if finite.any():
            people = [name for name, use in zip(identities, finite, strict=True) if use]
            gain = (values.psnr - np.where(finite, baseline.psnr, 0))[finite]
            figures["psnr_over_baseline"] = mean_interval(gain, people, **options)
        ratio = ratio_interval(values.sharpness, baseline.sharpness, identities, **options)
        figures["gradient_energy_to_baseline"] = ratio
    return {**figures, **_grid_figures(values.spectra, identities, **options)}


def ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    identities: Sequence[str],
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The ratio of two means over the same images, each (n,), and its interval by person; n images.

    NaN (None in JSON) where the denominators are all zero.
    """
    sums = _person_sums(np.stack([numerators, denominators], axis=1), identities)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums[:, 0].sum() / sums[:, 1].sum()
        if not np.isfinite(value) or len(sums) < 2:
            return Estimate(float(value), None, None, len(numerators))
        drawn = person_draws(len(sums), repetitions, seed) @ sums
        ratios = drawn[:, 0] / drawn[:, 1]
    return Estimate(float(value), *percentiles(ratios[np.isfinite(ratios)], level), len(numerators))


def axis_spectra(pictures: np.ndarray) -> np.ndarray:
    """Power of luma along rows and columns, by frequency: (n, P, P, 3) uint8 → float64 (n, P // 2 + 1).

    Bin k is k / P cycles a pixel. Each line, less its mean and under a Hann window, is transformed on its own;
    the mean over a picture's lines of both directions is taken of the power, so that any pattern that repeats
    across or down shows, whatever its phase, a checkerboard among them.
    """
    side = pictures.shape[1]
    if pictures.ndim != 4 or pictures.shape[2] != side:
        raise BadInput(f"pictures of shape {pictures.shape}: a spectrum takes square ones, (n, P, P, 3).")
    window = np.hanning(side + 1)[:-1]  # periodic: exact zeros between bins
    spectra = np.empty((len(pictures), side // 2 + 1))
    for i, picture in enumerate(pictures):
        luma = picture @ (_LUMA / 255)
        lines = np.concatenate([luma, luma.T])
        lines = (lines - lines.mean(1, keepdims=True)) * window
        spectra[i] = (np.abs(np.fft.rfft(lines)) ** 2).mean(0) / (window @ window)
    return spectra


def grid_peaks(spectra: np.ndarray) -> dict[int, np.ndarray]:
    """How far a spectrum rises above its own trend where up-sampling would leave a grid, in dB.

    Args:
        spectra: (…, P // 2 + 1), as `axis_spectra` gives, or means of it.

    Returns:
        For each period of `PERIODS` (px) that the pictures resolve: (…), 10·log10 of the power there over the
        trend, a straight line through log power against log frequency, fitted to the bins two to six away (the
        window spreads a peak over one). About 0 for pictures without a grid; at period 2 the trend is
        extrapolated, and pictures whose spectrum flattens there have a little more.
    """
    bins = spectra.shape[-1]
    side = 2 * (bins - 1)
    power = np.log10(np.maximum(spectra, 1e-30))
    peaks = {}
    for period in PERIODS:
        place = side // period
        near = np.arange(max(1, place - 6), min(bins, place + 7))
        near = near[np.abs(near - place) >= 2]
        if side % period or len(near) < 4:
            continue
        x = np.log(near / place)  # 0 at the place itself, so the trend there is the line's intercept
        line = np.linalg.pinv(np.stack([np.ones(len(near)), x], axis=1))
        peaks[period] = 10 * (power[..., place] - power[..., near] @ line[0])
    return peaks


def spread_rows(identities: Sequence[str], count: int, labels: Mapping[str, str] | None = None) -> list[int]:
    """Rows of `count` different people, evenly over the sorted names, for a grid that nobody has picked.

    Each person's first image. labels: name → label; the labels take turns, evenly over the names of each, and
    people without one are left out. Fewer rows where there are fewer people.
    """
    first = {name: row for row, name in reversed(list(enumerate(identities)))}
    names = sorted(first)
    groups = [names]
    if labels:
        kinds = sorted({labels[name] for name in names if labels.get(name)})
        groups = [[name for name in names if labels.get(name) == kind] for kind in kinds]
    chosen: list[list[int]] = []
    for place, group in enumerate(groups):
        share = min(len(group), count // len(groups) + (place < count % len(groups)))
        chosen.append([first[group[(2 * k + 1) * len(group) // (2 * share)]] for k in range(share)])
    turns = max((len(rows) for rows in chosen), default=0)
    return [rows[k] for k in range(turns) for rows in chosen if k < len(rows)]


def _grid_figures(
    spectra: np.ndarray, identities: Sequence[str], *, repetitions: int, seed: int, level: float
) -> dict[str, Estimate]:
    sums = _person_sums(spectra, identities)
    values = grid_peaks(sums.sum(0))
    drawn = {}
    if len(sums) > 1:
        drawn = grid_peaks(person_draws(len(sums), repetitions, seed) @ sums)
    return {
        f"grid_peak_{period}": Estimate(
            float(value), *(percentiles(drawn[period], level) if drawn else (None, None)), len(spectra)
        )
        for period, value in values.items()
    }


def _person_sums(values: np.ndarray, identities: Sequence[str]) -> np.ndarray:
    """Sums over each person's images: (n, k) → (people, k)."""
    names, codes = encode_people(identities)
    if len(values) != len(codes):
        raise BadInput(f"{len(values)} values for {len(codes)} identities: give one a row.")
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def _failed_row(path: str) -> dict:
    """A row for an input that gave no template; its identity is its folder's name, as in `extract`."""
    parts = path.split("/")
    return {"path": path, "identity": parts[-2] if len(parts) > 1 else None}
