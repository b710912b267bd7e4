"""What decoders' pictures are worth: fidelity, sharpness, grid patterns, and what recognizers take them for.

Intervals are by person bootstrap; all figures of one evaluation share the same replicates, so that ratios and
differences between decoders are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from facedecode.evaluation.result import Axis, MetricSpec, Result
from facedecode.pictures.metrics import axis_spectra, gradient_energy, grid_peaks, mean_psnr, psnr, ssim
from facedecode.report.model import Unit
from facedecode.statistics.bootstrap import REPETITIONS, Estimate, mean_interval, person_sums, ratio_interval, resample
from facedecode.statistics.resampling import Replicates

if TYPE_CHECKING:  # these need torch
    from facedecode.perceptual.lpips import Lpips
    from facedecode.perceptual.phi import PerceptualNetwork

ORIGINALS = "originals"


def _finite_mean(
    values: np.ndarray, identities: Sequence[str], *, repetitions: int = REPETITIONS, seed: int = 0
) -> Estimate:
    """The mean of the finite values, of which there are n, with its interval; NaN where there are none."""
    finite = np.isfinite(values)
    if not finite.any():
        return Estimate(float("nan"), None, None, 0)
    people = [name for name, use in zip(identities, finite, strict=True) if use]
    return mean_interval(values[finite], people, repetitions=repetitions, seed=seed)


@dataclass(frozen=True)
class PictureMetric:
    """A metric of pictures beside their originals: tables, gates, report.json and the CSV of images follow from this.

    name: of its mean in report.json. title: of its columns; it may name the axis.
    meaning: for the protocol; it may name facts of `reconstruction`'s.
    measure: (pictures, originals), uint8 (n, P, P, 3) each → float64 (n,); None where `picture_values` has to be given
        a network for it.
    axis: recognizer or network, where there is a value for each of several.
    against: how it is compared with the baseline's: by the difference or by the ratio of means.
    to_originals: whether its ratio to the originals' is a figure, too.
    average: (values, identities, …) → its mean.
    gate: its name for --fail-if; of a metric to originals, the ratio's.
    headline, note: as in `MetricSpec`.
    """

    name: str
    title: str
    unit: Unit
    table: Literal["fidelity", "scores", "sharpness"]
    meaning: str
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    axis: str = ""
    against: Literal["difference", "ratio"] = "difference"
    to_originals: bool = False
    average: Callable[..., Estimate] = _finite_mean
    gate: str = ""
    headline: str = ""
    note: str = ""

    @property
    def compared(self) -> str:
        """The name of the figure against the baseline."""
        return f"{self.name}_{'over' if self.against == 'difference' else 'to'}_baseline"

    def specs(self) -> list[MetricSpec]:
        """The figures of it that there are."""
        axes = ("decoder", self.axis) if self.axis else ("decoder",)
        end = f"/{{{self.axis}}}" if self.axis else ""
        gates = (f"{self.gate}[{'?,'.join(axes)}?]",) if self.gate else ()
        path, own_gates = f"{{decoder}}/{self.name}{end}", () if self.to_originals else gates
        specs = [MetricSpec(self.name, axes, self.unit, self.title, path, own_gates, self.headline, self.note)]
        if self.to_originals:
            name = f"{self.name}_to_originals"
            specs.append(MetricSpec(name, axes, "percent", "of the originals'", f"{{decoder}}/{name}{end}", gates))
        ratio = self.against == "ratio"
        title, path = f"{self.title}{', times' if ratio else ''}", f"{{decoder}}/{self.compared}{end}"
        return [*specs, MetricSpec(self.compared, axes, "number" if ratio else self.unit, title, path)]


PICTURE_METRICS = (
    PictureMetric(
        "psnr",
        "PSNR",
        "db",
        "fidelity",
        "PSNR: RGB, peak 1, mean of the values of images. A picture equal to its original has an infinite PSNR; it is "
        "left out of the mean and counted.",
        psnr,
        average=mean_psnr,
        gate="psnr",
        headline="PSNR of {decoder}",
    ),
    PictureMetric(
        "ssim",
        "SSIM",
        "number",
        "fidelity",
        "SSIM: Wang et al. 2004 (Gaussian window of sigma 1.5, population covariance, K1 0.01, K2 0.03, range 1), mean "
        "over RGB.",
        ssim,
        gate="ssim",
        headline="SSIM of {decoder}",
    ),
    PictureMetric(
        "lpips",
        "LPIPS",
        "number",
        "fidelity",
        "{lpips}",
        gate="lpips",
        headline="LPIPS of {decoder}",
        note="lower is better",
    ),
    PictureMetric(
        "phi",
        "φ distance ({network})",
        "number",
        "fidelity",
        "φ distance, by the internal maps of {networks}: at each place of a map, the squared distance of the two "
        "channel vectors, each scaled to length 1; mean over places, then over maps. It is 0 for equal pictures and "
        "at most 4; lower is better. It has none of LPIPS's calibrated weights and cannot be compared with LPIPS.",
        axis="network",
        against="ratio",
        average=mean_interval,
        gate="phi",
        headline="φ distance of {decoder}",
        note="{network}; lower is better",
    ),
    PictureMetric(
        "scores",
        "score by {recognizer}",
        "score",
        "scores",
        "Score: the recognizer's own, between the template of the picture (embedded in the portrait's frame, without a "
        "new detection) and the template of its original: {judges}. Higher is more alike. A score does not say whether "
        "a threshold is passed: 'evaluate security' measures success rates.",
        axis="recognizer",
        gate="score",
        headline="Score of {decoder} by {recognizer}",
        note="higher is more alike",
    ),
    PictureMetric(
        "gradient_energy",
        "gradient energy",
        "small",
        "sharpness",
        "Gradient energy: mean |∇luma|² over pixels, forward differences, luma (BT.601) in [0, 1]. Its ratio to the "
        "originals' (a ratio of means; 'sharpness' in gates) is 100 % for pictures as sharp as photographs.",
        lambda pictures, originals: gradient_energy(pictures),
        against="ratio",
        to_originals=True,
        gate="sharpness",
    ),
)
# Where a grid that up-sampling leaves would show; of the mean spectrum, not of each picture.
_GRID_PEAK = MetricSpec(
    "grid_peak", ("decoder", "period"), "db", "grid peak at {period} px", "{decoder}/grid_peak_{period}"
)


def fidelity_axes(decoders: Sequence[str], recognizers: Sequence[str] = (), networks: Sequence[str] = ()) -> list[Axis]:
    """The axes of the metrics of pictures."""
    keys = {ORIGINALS: (ORIGINALS,), **{name: ("decoders", name) for name in decoders}}
    return [
        Axis("decoder", "pictures", [ORIGINALS, *decoders], keys=keys, references=(ORIGINALS,)),
        Axis("recognizer", values=list(recognizers)),
        Axis("network", values=list(networks)),
        Axis("period", "period, px"),
    ]


def fidelity_specs(lpips: bool = False) -> list[MetricSpec]:
    """The metrics of pictures. lpips: whether it is measured; then it is a key figure in the place of φ distances."""
    measured = [metric for metric in PICTURE_METRICS if lpips or metric.name != "lpips"]
    if lpips:
        measured = [replace(metric, headline="") if metric.name == "phi" else metric for metric in measured]
    return [*(spec for metric in measured for spec in metric.specs()), _GRID_PEAK]


@dataclass(frozen=True)
class PictureValues:
    """What pictures are worth, one value an image.

    values: (metric, recognizer or network; '' without) → float (n,). PSNR is in dB, inf where pictures are equal; a
        score is -inf where the recognizer has no template of the original.
    spectra: float64 (n, P // 2 + 1), see `axis_spectra`.
    """

    values: Mapping[tuple[str, str], np.ndarray]
    spectra: np.ndarray

    def __getitem__(self, key: str | tuple[str, str]) -> np.ndarray:
        return self.values[(key, "") if isinstance(key, str) else key]


def picture_values(
    pictures: np.ndarray,
    originals: np.ndarray,
    lpips: Lpips | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
    networks: Mapping[str, PerceptualNetwork] | None = None,
) -> PictureValues:
    """What each picture (n, P, P, 3) uint8 is worth beside its original.

    scores: for each recognizer float (n,), see `PictureValues`. networks: what φ distances are measured by.
    """
    values = {(metric.name, ""): metric.measure(pictures, originals) for metric in PICTURE_METRICS if metric.measure}
    if lpips:
        values["lpips", ""] = lpips(pictures, originals)
    if networks:
        from facedecode.perceptual.phi import phi_distance

        values |= {("phi", name): phi_distance(network, pictures, originals) for name, network in networks.items()}
    values |= {("scores", name): row for name, row in (scores or {}).items()}
    return PictureValues(values, axis_spectra(pictures))


def joined(parts: Sequence[PictureValues]) -> PictureValues:
    """The values of consecutive batches as one."""
    values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0].values}
    return PictureValues(values, np.concatenate([part.spectra for part in parts]))


def add_fidelity(
    result: Result,
    values: Mapping[str, PictureValues],
    identities: Sequence[str],
    baseline: str | None = None,
    *,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> None:
    """Add the means of all metrics, with intervals by person, to a result with `fidelity_axes` and `fidelity_specs`.

    values: by decoder, `ORIGINALS` among them; scores by the first recognizer are key figures.
    baseline: the decoder that the others are compared with.
    """
    options: dict[str, int] = {"repetitions": repetitions, "seed": seed}
    for name, measured in values.items():
        other = values[baseline] if baseline is not None and name not in (ORIGINALS, baseline) else None
        for metric in PICTURE_METRICS:
            keys = [key for key in measured.values if key[0] == metric.name]
            for place, key in enumerate(keys):
                labels = {"decoder": name, **({metric.axis: key[1]} if metric.axis else {})}
                is_key = place == 0 or metric.axis != "recognizer"
                result.add(metric.name, labels, metric.average(measured[key], identities, **options), key=is_key)
                if metric.to_originals:
                    ratio = ratio_interval(measured[key], values[ORIGINALS][key], identities, **options)
                    result.add(f"{metric.name}_to_originals", labels, ratio)
                if other is not None and metric.against == "ratio":
                    result.add(
                        metric.compared, labels, ratio_interval(measured[key], other[key], identities, **options)
                    )
                elif other is not None:
                    difference = _difference(measured[key], other[key])
                    result.add(metric.compared, labels, _finite_mean(difference, identities, **options))
        for period, peak in _grid_peaks(measured.spectra, identities, repetitions, seed).items():
            result.add("grid_peak", {"decoder": name, "period": period}, peak)


def _difference(values: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """values - baseline, NaN where either is infinite (a picture equal to its original, a missing template)."""
    finite = np.isfinite(values) & np.isfinite(baseline)
    return np.where(finite, values, np.nan) - np.where(finite, baseline, np.nan)


def _grid_peaks(spectra: np.ndarray, identities: Sequence[str], repetitions: int, seed: int) -> dict[int, Estimate]:
    """`grid_peaks` of the mean spectrum, with intervals by person."""
    sums = person_sums(spectra, identities)
    periods = list(grid_peaks(sums))
    if not periods:  # small pictures
        return {}

    def figures(people: Replicates) -> np.ndarray:
        return np.stack(list(grid_peaks(people.sums(sums)).values()), axis=1)

    peaks = resample(figures, np.ones(len(sums)), len(spectra), False, repetitions, seed)
    return {period: peak.estimate() for period, peak in zip(periods, peaks, strict=True)}
