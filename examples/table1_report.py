"""The report of `table1.py`: the paper's table beside ours, its orderings tried, and pictures in the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.pictures.figures import enlarged, picture_grid, png_bytes, shortened
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.model import Unit
from facedecode.report.text import show_number
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.intervals import LEVEL

# What the paper calls a row, and its PSNR (dB), SSIM and LPIPS for its variant VGG-ResNet.
PAPER = {
    "full": ("pix. + percept. + grad. (glob. + loc.)", 18.76, 0.63, 0.41),
    "global": ("pix. + percept. + grad. (glob.)", 18.44, 0.63, 0.40),
    "pix+grad": ("pix. + grad. (glob.)", 18.41, 0.63, 0.43),
    "pix+perc": ("pix. + percept. (glob.)", 18.67, 0.59, 0.43),
    "grad+perc": ("grad. + percept. (glob.)", 17.84, 0.63, 0.43),
    "perc": ("percept. (glob.)", 14.02, 0.38, 0.69),
    "pix": ("pix. (glob.)", 18.62, 0.61, 0.45),
    "grad": ("grad. (glob.)", 17.78, 0.63, 0.45),
}
# Closed forms that the paper's table lacks: a picture that says nothing of the template, and the linear one that says
# the most. Without them a PSNR says little.
CLOSED = {"mean-face": "mean face, whatever the template", "ridge": "ridge: linear, no loss term"}
PAPER_VARIANTS = (
    "In the paper, PSNR / SSIM / LPIPS: VGG–VGG 17.71 / 0.62 / 0.40, VGG–ResNet 18.44 / 0.63 / 0.40, ResNet–VGG "
    "14.98 / 0.52 / 0.51, ResNet–ResNet 15.28 / 0.53 / 0.49. Its VGG–ResNet equals the row of the global terms alone, "
    "not the complete loss."
)
MEASURES: dict[str, tuple[str, Unit]] = {
    "psnr": ("PSNR", "db"),
    "ssim": ("SSIM", "number"),
    "lpips": ("LPIPS", "number"),
}
WITHIN = 0.75  # dB, between white-box and black-box
INFINITE = float("inf")


@dataclass(frozen=True)
class Judged:
    """psnr (dB), ssim, lpips: float64 (seeds, n). pictures: uint8 (shown, P, P, 3), seed 0."""

    psnr: np.ndarray
    ssim: np.ndarray
    lpips: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True)
class Claim:
    """An ordering of the paper: that a difference in PSNR (dB) lies between two bounds.

    difference: paired, mean over seeds, interval by person. seeds: the difference with each seed.
    """

    claim: str
    variant: str
    what: str
    paper: float | None
    difference: Estimate
    seeds: Sequence[float]
    bounds: tuple[float, float]

    def verdict(self) -> str:
        """'yes' or 'no' where the whole interval and every seed are on one side of the bounds, else 'not decided'."""
        if self.difference.low is None:
            return "not decided"
        values = (self.difference.low, self.difference.high, *self.seeds)
        low, high = self.bounds
        if all(low < value < high for value in values):
            return "yes"
        return "no" if max(values) <= low or min(values) >= high else "not decided"


def make_report(
    judged: Mapping[str, Mapping[str, Judged]],
    identities: Sequence[str],
    originals: np.ndarray,
    shown: Sequence[int],
    beyond: int,
    provenance: dict,
) -> Report:
    """judged: variant 'ξ/φ' → row → values. originals: portraits of the rows shown. beyond: images not judged on."""
    settings = provenance["settings"]
    options = {"repetitions": settings["repetitions"]}
    claims = list(tried(judged, identities, options))
    figures = {
        variant: {
            row: {name: mean_interval(getattr(own, name).mean(0), identities, **options) for name in MEASURES}
            for row, own in rows.items()
        }
        for variant, rows in judged.items()
    }
    names = [identities[row] for row in shown]
    sections = [orderings(claims)]
    for variant, rows in judged.items():
        table = loss_table(variant, rows, figures[variant])
        picture = faces(variant, rows, figures[variant], originals, names)
        sections.append(Section(f"{variant.replace('/', ' templates, φ = ')}", tables=[table], pictures=[picture]))
    warnings = []
    if beyond:
        warnings.append(f"{beyond:,} images of the people judged on were left out: a trial run, not a result.")
    if settings["seeds"] < 3:
        warnings.append(
            f"{settings['seeds']} seed{'s' if settings['seeds'] > 1 else ''} only: what is the loss's doing and what "
            "is chance is not told apart."
        )
    return Report(
        kind="table1",
        title="The loss's terms, and φ: the paper's Table 1",
        protocol=protocol(provenance, list(next(iter(judged.values()))), len(identities), len(set(identities))),
        headlines=[
            Headline(f"{MEASURES[name][0]} of {what}, {variant}", own[row][name], MEASURES[name][1])
            for variant, own in figures.items()
            for row, what in {"full": "the full loss", "mean-face": "the mean face", "ridge": "ridge"}.items()
            for name in ("psnr", "lpips")
            if row in own
        ],
        sections=sections,
        metrics=metrics(judged, figures, claims),
        warnings=warnings,
        provenance={**provenance, "settings": {**settings, "level": LEVEL}},
    )


def tried(judged: Mapping[str, Mapping[str, Judged]], identities: Sequence[str], options: dict) -> Iterator[Claim]:
    """The paper's orderings, and that rows are above the closed forms, as far as the rows and variants are there."""

    def claim(text: str, where: str, what: str, a: Judged, b: Judged, paper: float | None, bounds: tuple) -> Claim:
        difference = mean_interval((a.psnr - b.psnr).mean(0), identities, **options)
        return Claim(text, where, what, paper, difference, (a.psnr - b.psnr).mean(1).tolist(), bounds)

    for variant, rows in judged.items():
        for best, text, bounds in [
            ("full", "the full loss is best in PSNR", (0, INFINITE)),
            ("perc", "the perceptual term alone is worst in PSNR", (-INFINITE, 0)),
        ]:
            for row in rows:
                if best in rows and row != best and row not in CLOSED:
                    paper = round(PAPER[best][1] - PAPER[row][1], 2)
                    yield claim(text, variant, f"{best} less {row}", rows[best], rows[row], paper, bounds)
    for variant, rows in judged.items():
        for base in CLOSED:
            text = f"a row is above {base} in PSNR"
            for row in rows:
                if base in rows and row != base and (row not in CLOSED or base == "mean-face"):
                    yield claim(text, variant, f"{row} less {base}", rows[row], rows[base], None, (0, INFINITE))
    for variant, rows in judged.items():
        xi, phi = variant.split("/")
        white = judged.get(f"{xi}/{xi}", {})
        if xi == phi or "full" not in rows or "full" not in white:
            continue
        text = f"white-box and black-box are within {WITHIN} dB"
        what = f"{xi}/{xi} less {variant}"
        yield claim(text, xi, what, white["full"], rows["full"], None, (-WITHIN, WITHIN))


def orderings(claims: Sequence[Claim]) -> Section:
    """One row a comparison, and before it one a claim and variant."""
    verdicts: dict[tuple[str, str], list[str]] = {}
    for own in claims:
        verdicts.setdefault((own.claim, own.variant), []).append(own.verdict())
    summary = Table(
        "orderings",
        "The paper's orderings",
        [Column("claim"), Column("variant"), Column("holds here"), Column("comparisons: yes / no / not decided")],
        [
            (
                claim,
                variant,
                "no" if "no" in said else "not decided" if "not decided" in said else "yes",
                " / ".join(str(said.count(word)) for word in ("yes", "no", "not decided")),
            )
            for (claim, variant), said in verdicts.items()
        ],
        "A claim holds where all of its comparisons do.",
    )
    columns = [Column("claim"), Column("variant"), Column("difference in PSNR"), Column("here", "db")]
    columns += [Column("least of the seeds", "db"), Column("greatest of the seeds", "db"), Column("paper", "db")]
    comparisons = Table(
        "comparisons",
        "Every comparison",
        [*columns, Column("holds")],
        [
            (own.claim, own.variant, own.what, own.difference, min(own.seeds), max(own.seeds), own.paper, own.verdict())
            for own in claims
        ],
        "Paired: the same images, the same replicates, seed by seed. 'yes' or 'no' where the interval and every seed "
        "agree. The paper's own differences are of its variant VGG–ResNet. " + PAPER_VARIANTS,
    )
    return Section("The paper's orderings, tried", tables=[summary, comparisons])


def loss_table(variant: str, rows: Mapping[str, Judged], figures: Mapping[str, Mapping[str, Estimate]]) -> Table:
    columns = [Column("loss")]
    for title, unit in MEASURES.values():
        columns += [Column(title, unit), Column(f"{title}, spread of seeds", unit)]
    columns += [Column("paper PSNR", "db"), Column("paper SSIM", "number"), Column("paper LPIPS", "number")]
    lines = []
    for row, own in rows.items():
        title, *paper = PAPER[row] if row in PAPER else (CLOSED[row], None, None, None)
        cells: list = [title]
        for name in MEASURES:
            cells += [figures[row][name], spread(getattr(own, name))]
        lines.append((*cells, *paper))
    return Table(
        f"losses-{variant.replace('/', '-')}",
        f"Templates of {variant.replace('/', ', perceptual terms by ')}",
        columns,
        lines,
        "Mean over images and seeds, 95 % interval by person in brackets; spread: greatest less least mean of a seed. "
        "LPIPS: lower is better. The paper's numbers are of its variant VGG–ResNet on other data. It does not say of "
        "which size its pictures are, nor by which network its LPIPS is.",
    )


def faces(
    variant: str,
    rows: Mapping[str, Judged],
    figures: Mapping[str, Mapping[str, Estimate]],
    originals: np.ndarray,
    names: Sequence[str],
) -> Picture:
    pictures = [originals, *(own.pictures for own in rows.values())]
    labels = ["original", *(f"{row}  {show_number(figures[row]['psnr'].value, 'db')}" for row in rows)]
    rows_shown = [enlarged(row) for row in pictures]
    captions = [shortened(name, rows_shown[0].shape[1]) for name in names]
    grid = picture_grid(rows_shown, labels, [captions, *([] for _ in rows)])
    return Picture(
        f"faces-{variant.replace('/', '-')}",
        f"What each loss draws, {variant}",
        png_bytes(grid),
        "People spread evenly over the sorted names, each one's first image; first seed.",
        f"{len(names)} people, one a column; from top to bottom: {', '.join(labels)}.",
    )


def metrics(
    judged: Mapping[str, Mapping[str, Judged]],
    figures: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    claims: Sequence[Claim],
) -> dict:
    """variants: ξ/φ → row → measure → figure with the mean of each seed; orderings: every comparison."""

    def figure(variant: str, row: str, name: str) -> dict:
        seeds = getattr(judged[variant][row], name).mean(1).tolist()
        return {**figures[variant][row][name].as_json(), "seeds": seeds}

    return {
        "variants": {
            variant: {row: {name: figure(variant, row, name) for name in MEASURES} for row in rows}
            for variant, rows in judged.items()
        },
        "orderings": [
            {
                "claim": own.claim,
                "variant": own.variant,
                "difference": own.what,
                "psnr": {**own.difference.as_json(), "seeds": list(own.seeds)},
                "holds": own.verdict(),
            }
            for own in claims
        ],
    }


def spread(values: np.ndarray) -> float:
    """Greatest less least mean of a seed; values (seeds, n)."""
    means = values.mean(1)
    return float(means.max() - means.min())


def protocol(provenance: dict, rows: Sequence[str], images: int, people: int) -> list[str]:
    """How the table was made, a paragraph each."""
    settings, lpips = provenance["settings"], provenance["lpips"]
    closed = [row for row in rows if row in CLOSED]
    also = [
        f"{' and '.join(closed)}: closed forms on the same portraits, without a loss, a seed or φ; the paper has none. "
        "Ridge is the linear regression from template to pixels. A row that is not above it says more of its budget "
        "than of its loss."
    ]
    return [
        f"Every decoder was trained from a random start on the same {settings['images']:,} images (drawn at random "
        f"from {settings['train_people']['name']}"
        + (f" less {', '.join(settings['exclude'])}" if settings["exclude"] else "")
        + f"), {settings['image_size']} px, {settings['steps']:,} steps of {settings['batch_size']} images, "
        f"{settings['seeds']} seeds, in {settings['precision']}: equal budgets, one setting for all, tuned for none. "
        f"The decoder has half of the default's channels ({', '.join(map(str, settings['widths']))}). A row without a "
        "perceptual term does not depend on φ: it was trained once, "
        "and stands under both.",
        f"Judged on {images:,} images of {people:,} people of {settings['people']['name']}, none of whom was trained "
        "on. Intervals are by bootstrap over people, of the mean over seeds; they say nothing of another training's "
        "luck, which the spread of the seeds does.",
        *(also if closed else ()),
        "The identity term is off, as in the paper. So is the coarse picture, the linear map with which the decoder "
        "otherwise begins: it is fitted to pixels, and would draw most of the picture whatever the loss. With that and "
        "the small budget, these are not the figures of decoders that 'train' makes by default.",
        "A term weighs what 'train' gives it by default (chosen for decoders of 128 px that have the identity term, "
        "too), the local perceptual term as much as the global one; a term that is off weighs 0, and the rest is not "
        "scaled up for it. The paper's weights are lost.",
        f"LPIPS: the lpips package's version {lpips['version']}, net {lpips['net']}, on torchvision's {lpips['trunk']} "
        f"(its values are verified), pictures of {settings['image_size']} px; lower is better. Its network took no "
        "part in any training.",
    ]
