"""The report of `fig04.py`: two losses side by side, in pictures and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facedecode.evaluation.verification.measure import Figures
from facedecode.evaluation.verification.report import figures_json
from facedecode.pictures.figures import enlarged, picture_grid, png_bytes, shortened
from facedecode.pictures.metrics import mean_psnr
from facedecode.report import Column, Headline, Picture, Report, Section, Table
from facedecode.report.text import percent
from facedecode.statistics.bootstrap import Estimate, mean_interval
from facedecode.statistics.security import SecurityRates


@dataclass(frozen=True)
class Drawn:
    """psnr (dB), ssim: float64 (n,). pictures: uint8 (n, P, P, 3). rates: type I and II at each FMR."""

    psnr: np.ndarray
    ssim: np.ndarray
    pictures: np.ndarray
    rates: SecurityRates


def make_report(
    verified: Mapping[str, Figures],
    drawn: Mapping[tuple[str, str], Drawn],
    rows: Sequence[dict],
    originals: np.ndarray,
    shown: Sequence[int],
    provenance: dict,
) -> tuple[Report, np.ndarray]:
    """The report, and its picture (H, W, 3) uint8.

    Args:
        verified: recognizer → its figures. drawn: (recognizer, kind of decoder) → what it draws of the `rows`.
        originals: their portraits. shown: which of them are in the picture.
    """
    people = [row["identity"] for row in rows]
    options = {"repetitions": provenance["settings"]["repetitions"]}
    cards, settings = provenance["recognizers"], provenance["settings"]
    grid = faces(drawn, people, originals, shown)
    first, second = list(cards)[:2] if len(cards) > 1 else (None, None)
    pictures = {key: figures(own, people, options) for key, own in drawn.items()}
    sections = [
        Section(
            "Pictures",
            [f"People whom neither recognizers nor decoders have seen; {settings['images']} images are judged on."],
            [pictures_table(pictures)],
            [Picture("faces", "Originals and what is drawn of their templates", png_bytes(grid), alt="rows of faces")],
        ),
        Section("Recognizers", tables=[recognizers_table(verified, cards)]),
    ]
    metrics = {
        "recognizers": {name: figures_json(own) for name, own in verified.items()},
        "training": {name: {k: card[k] for k in ("classification", "verification")} for name, card in cards.items()},
        "pictures": {" ".join(key): {n: e.as_json() for n, e in own.items()} for key, own in pictures.items()},
    }
    if first:
        apart = {
            kind: mean_interval(drawn[second, kind].psnr - drawn[first, kind].psnr, people, **options)
            for kind in ("ridge", "dfd")
        }
        metrics["psnr_apart"] = {kind: own.as_json() for kind, own in apart.items()}
        cells = [[f"{kind}: {second} less {first}", own] for kind, own in apart.items()]
        note = "paired by image; intervals by person"
        sections.append(
            Section(
                "Apart", tables=[Table("apart", "PSNR apart", [Column("decoder"), Column("PSNR", "db")], cells, note)]
            )
        )
    report = Report(
        kind="fig04",
        title="SoftMax and ArcFace: the paper's Fig. 4",
        protocol=[
            "Recognizers of one backbone are trained on the same images of the same people, with two losses. Decoders "
            f"of their templates are trained alike, on {settings['training_images']} images of people whom no "
            f"recognizer was trained on: ridge regression, and the network for {settings['epochs']:g} epochs with "
            "φ = ξ and no identity term. Pictures are of 64 px.",
            "PSNR: RGB, mean over images. SSIM: Wang 2004, RGB. Type I: the picture's template against the one it was "
            "drawn from, by the recognizer that made it; type II: against the person's other image. Thresholds from "
            "all non-mated pairs of the images judged on. Whoever attacks so holds templates and recognizer.",
            "TAR and EER: all pairs of the images judged on, two a person at most; TAR person-weighted. In brackets: "
            "95 % intervals by person bootstrap.",
        ],
        headlines=[
            *(
                Headline(f"{name}: TAR at FAR {percent(own.by_person[0].fmr_wanted)}", own.by_person[0])
                for name, own in verified.items()
            ),
            *(Headline(f"PSNR, {' '.join(key)}", own["psnr"], "db") for key, own in pictures.items()),
        ],
        sections=sections,
        warnings=[
            f"The recognizers were trained on {card['training_images']:,} images of {card['classes']} people: far too "
            "few for good ones, and what their losses would make of millions is not told here."
            for card in list(cards.values())[:1]
        ],
        metrics=metrics,
        provenance=provenance,
    )
    return report, grid


def figures(drawn: Drawn, people: Sequence[str], options: dict) -> dict[str, Estimate]:
    """A decoder's figures by name."""
    found: dict[str, Estimate] = {
        "psnr": mean_psnr(drawn.psnr, people, **options),
        "ssim": mean_interval(drawn.ssim, people, **options),
    }
    for kind in ("type_one", "type_two"):
        for rate in getattr(drawn.rates, kind).get("people", []):
            found[f"{kind}@fmr={rate.fmr_wanted:g}"] = rate
    return found


def pictures_table(pictures: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> Table:
    columns = [Column("templates"), Column("decoder"), Column("PSNR", "db"), Column("SSIM", "number")]
    names = [name for name in next(iter(pictures.values())) if "@" in name]
    said = {"type_one": "type I", "type_two": "type II"}
    for name in names:
        kind, _, rate = name.partition("@fmr=")
        columns.append(Column(f"{said[kind]} at FMR {percent(float(rate))}", "percent"))
    cells = [[*key, own["psnr"], own["ssim"], *(own[name] for name in names)] for key, own in pictures.items()]
    note = "Success is judged by the recognizer that made the templates: a weak one lets more pass at its threshold."
    return Table("pictures", "What is drawn of templates", columns, cells, note)


def recognizers_table(verified: Mapping[str, Figures], cards: Mapping[str, dict]) -> Table:
    fmr = percent(next(iter(verified.values())).by_person[0].fmr_wanted)
    columns = [
        *(Column("recognizer"), Column("classes", "count"), Column("training images", "count")),
        *(
            Column("right, images held out", "percent"),
            Column(f"TAR at FAR {fmr}", "percent"),
            Column("EER", "percent"),
        ),
    ]
    cells = []
    for name, own in verified.items():
        card = cards.get(name)
        named = card and card["classification"]["accuracy"]
        cells.append(
            [
                name,
                card and card["classes"],
                card and card["training_images"],
                named and Estimate(named["value"], named["low"], named["high"], named["n"]),
                own.by_person[0],
                own.eer,
            ]
        )
    return Table("recognizers", "The recognizers on people whom they have not seen", columns, cells)


def faces(
    drawn: Mapping[tuple[str, str], Drawn], people: Sequence[str], originals: np.ndarray, shown: Sequence[int]
) -> np.ndarray:
    """Originals above what is drawn of each recognizer's templates, by its last decoder."""
    last = {name: (name, kind) for name, kind in drawn}.values()
    rows = [enlarged(pictures[list(shown)]) for pictures in (originals, *(drawn[key].pictures for key in last))]
    captions = [shortened(people[i], rows[0].shape[1]) for i in shown]
    labels = ["original", *(" ".join(key) for key in last)]
    return picture_grid(rows, labels, [captions, *([] for _ in last)])
