"""Decoders side by side on people whom none of them was trained on: fidelity, sharpness, grid, attack success.

    python examples/decoder_table.py emb --people ../shared/data/lfw/protocol/peopleDevTest.txt \\
        "mean face=decoders/mean-face" nearest=decoders/nearest ridge=decoders/ridge shipped=dlib-resnet \\
        --judge-store emb-edgeface --judge-weights ../shared/weights/edgeface_xxs.safetensors \\
        --labels ../shared/data/lfw/faces.csv -o docs/results/decoder

writes results.json, results.md, grid.png and spectrum.png. The stores are made by `facedecode extract`, the
decoders by `facedecode train`; the judge is a recognizer that neither made the templates nor trained a decoder.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from results_index import command_line, finish

from facedecode.bootstrap import Estimate
from facedecode.decoders import Decoder, find_decoder, load_decoder
from facedecode.errors import FacedecodeError, UsageError
from facedecode.figures import picture_grid
from facedecode.files import make_folder, sha256_file, write_json, write_text
from facedecode.provenance import environment
from facedecode.recognizers import load_recognizer
from facedecode.reconstruction import (
    FMRS,
    ORIGINALS,
    PERIODS,
    DecoderFigures,
    Judge,
    UnseenImages,
    evaluate_decoders,
    make_judge,
    rates_json,
    require_unseen,
    spread_rows,
    unseen_images,
)
from facedecode.store import Store
from facedecode.store_images import read_portraits

TITLE = "Decoders on unseen people"
SHOWS = (
    "What the shipped decoder's pictures are worth beside the mean face, the nearest training face and ridge "
    "regression: fidelity (PSNR, SSIM), sharpness, grid patterns, and how often a recognizer takes them for the "
    "person (type I: against the very image; type II: against another image of the person)."
)
PROTOCOL = (
    "Every image of LFW's View 1 test people (peopleDevTest.txt); the decoders were trained on View 1's training "
    "people, whom the script checks to be others. Pictures are 8-bit portraits, embedded in the portrait's own frame "
    "without a new detection. Thresholds are set on all non-mated pairs of the original images. Threat model: the "
    "attacker holds the template and a decoder for its recognizer, and shows the picture to the recognizer named. "
    "An image that gave no template counts against TAR and success alike. Intervals: 95 %, bootstrap by person "
    "(1,000 replicates, thresholds set anew in each). PSNR: RGB, mean of the per-image values; SSIM: Wang 2004, RGB; "
    "gradient energy: mean |∇luma|², luma in [0, 1]; grid peak: power of rows and columns at a period of 2, 4, 8 or "
    "16 px above the spectrum's own trend, about 0 dB without a grid."
)


def main() -> None:
    arguments = parse()
    started = time.monotonic()
    store = Store.open(arguments.store)
    images = unseen_images(store, arguments.people, arguments.limit)
    folders = named(arguments.decoders)
    decoders = {}
    for name, folder in folders.items():
        decoders[name] = load_decoder(folder)
        decoders[name].require_recognizer(store.recognizer, f"the decoder {name}")
        require_unseen(name, decoders[name].provenance.training.get("people"), images.identities)
    size = next(iter(decoders.values())).image_size
    portraits = read_portraits(images.acquired, arguments.images or store.root, size)
    judges = {store.recognizer["name"]: make_judge(load_recognizer(store.recognizer["name"]), store, images)}
    stores = {store.recognizer["name"]: store}
    if arguments.judge_store:
        other = Store.open(arguments.judge_store)
        name = other.recognizer["name"]
        if name in judges:
            raise UsageError("the judge is the attacked recognizer: give a store of another one")
        judges[name] = make_judge(load_recognizer(name, arguments.judge_weights), other, images)
        stores[name] = other
    baseline = next((name for name, decoder in decoders.items() if decoder.kind == "ridge"), None)
    say(f"{len(images.acquired)} images of {len(set(images.identities))} people read")
    figures = evaluate_decoders(
        decoders,
        images,
        portraits,
        judges,
        baseline=baseline,
        repetitions=arguments.repetitions,
        seed=arguments.seed,
        progress=say,
    )
    recognizers = {name: recognizer_json(name, judge, figures, stores[name]) for name, judge in judges.items()}
    recognizers[store.recognizer["name"]]["role"] = "attacked"
    results = {
        "schema_version": 1,
        "title": TITLE,
        "shows": SHOWS,
        "protocol": PROTOCOL,
        "data": f"LFW (deep-funnelled), {arguments.people.name}: {len(images.rows)} images of "
        f"{len(set(images.identities))} people; {int(images.missing.sum())} gave no template"
        + (f"; only the first {arguments.limit} images" if arguments.limit else ""),
        "command": command_line(),
        "environment": environment(),
        "seconds": round(time.monotonic() - started),
        "settings": {"fmrs": FMRS, "repetitions": arguments.repetitions, "seed": arguments.seed, "baseline": baseline},
        "recognizers": recognizers,
        "decoders": {name: decoder_json(decoder, folders[name]) for name, decoder in decoders.items()},
        "figures": {name: own.metrics() for name, own in figures.items()},
        "spectra": {name: [float(f"{x:.4g}") for x in own.spectrum] for name, own in figures.items()},
    }
    output = make_folder(arguments.output)
    write_json(output / "results.json", results)
    write_text(output / "results.md", markdown(results, figures, baseline))
    draw_grid(output / "grid.png", images, portraits, decoders, arguments)
    draw_spectrum(output / "spectrum.png", figures, size)
    finish(output)
    say(f"{output}: results.json, results.md, grid.png, spectrum.png in {time.monotonic() - started:.0f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path, help="store of all images by the attacked recognizer")
    parser.add_argument("decoders", nargs="+", metavar="NAME=FOLDER", help="decoders, in the table's order")
    parser.add_argument("--people", type=Path, required=True, help="people file of the people to judge on")
    parser.add_argument("--judge-store", type=Path, help="store of the same images by another recognizer")
    parser.add_argument("--judge-weights", type=Path, help="weights of that recognizer, where no package has them")
    parser.add_argument("--images", type=Path, help="where the images are, if not where the store says")
    parser.add_argument("--labels", type=Path, help="table with columns identity and gender: a mixed grid")
    parser.add_argument("--columns", type=int, default=12, help="people in the grid")
    parser.add_argument("--limit", type=int, help="use the first so many images only (to try it out)")
    parser.add_argument("--repetitions", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def named(pairs: list[str]) -> dict[str, str]:
    """NAME=FOLDER arguments as a dict, in their order."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder or name in found or name == ORIGINALS:
            raise UsageError(f"{pair!r}: give each decoder once, as NAME=FOLDER (a name other than {ORIGINALS!r})")
        found[name] = folder
    return found


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def recognizer_json(name: str, judge: Judge, figures: dict[str, DecoderFigures], store: Store) -> dict:
    """A recognizer's own figures: role, thresholds, TAR on real pairs, failures to acquire, hashes."""
    mated = next(iter(figures.values())).attacks[name].mated
    failed, images = int(judge.missing.sum()), len(judge.missing)
    return {
        "role": "judge, took no part",
        "weights_sha256": judge.recognizer.weights_sha256,
        "score": judge.recognizer.spec.score,
        "store": store.fingerprint,
        "thresholds": {f"{rate.far_wanted:g}": rate.threshold for rate in mated["pairs"]},
        "tar": rates_json(mated),
        "failure_to_acquire": {"value": failed / images, "failed": failed, "n": images},
    }


def decoder_json(decoder: Decoder, name: str) -> dict:
    """Which decoder it is, and what it was trained on."""
    training = decoder.provenance.training
    return {
        "kind": decoder.kind,
        "image_size": decoder.image_size,
        "sha256": sha256_file(find_decoder(name) / "decoder.safetensors"),
        "fingerprint": training.get("fingerprint"),
        "training_store": training.get("store"),
        "training_people": len(training["people"]),
        "training_images": training.get("images"),
    }


def markdown(results: dict, figures: dict[str, DecoderFigures], baseline: str | None) -> str:
    """The table, one column a decoder."""
    lines = [f"# {TITLE}", "", SHOWS, "", f"Data: {results['data']}.", ""]
    lines += ["| | " + " | ".join(figures) + " |", "|---|" + "---:|" * len(figures)]

    def row(title: str, values: list[str]) -> None:
        lines.append(f"| {title} | " + " | ".join(values) + " |")

    def picture_row(title: str, key: str, form: str, scale: float = 1) -> None:
        row(title, [cell(own.pictures.get(key), form, scale) for own in figures.values()])

    picture_row("PSNR, dB", "psnr", ".2f")
    if baseline:
        picture_row(f"PSNR less {baseline}'s, dB", "psnr_over_baseline", "+.2f")
    picture_row("SSIM", "ssim", ".3f")
    picture_row("gradient energy, 10⁻³", "gradient_energy", ".3f", 1000)
    picture_row("… of the originals'", "gradient_energy_to_originals", ".0%")
    if baseline:
        picture_row(f"… times {baseline}'s", "gradient_energy_to_baseline", ".2f")
    for period in PERIODS:
        if f"grid_peak_{period}" in figures[ORIGINALS].pictures:
            picture_row(f"grid peak at {period} px, dB", f"grid_peak_{period}", "+.1f")
    for name, recognizer in results["recognizers"].items():
        row(f"**in {name}** ({recognizer['role']})", [""] * len(figures))
        for kind, label in (("type_one", "type I"), ("type_two", "type II")):
            for place, fmr in enumerate(FMRS):
                for by, what in (("pairs", "pair-weighted"), ("people", "person-weighted")):
                    rates = [getattr(own.attacks[name], kind)[by][place] for own in figures.values()]
                    row(f"{label} at FMR {fmr * 100:g} %, {what}", [cell(rate, ".1%") for rate in rates])
    lines += ["", "The recognizers themselves, on real pairs of the same images:", ""]
    lines += ["| | threshold | TAR, pair-weighted | TAR, person-weighted | false matches | gave no template |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, recognizer in results["recognizers"].items():
        for place, fmr in enumerate(FMRS):
            mated = figures[ORIGINALS].attacks[name].mated
            pairs, people = mated["pairs"][place], mated["people"][place]
            lost = recognizer["failure_to_acquire"]
            lines.append(
                f"| {name} at FMR {fmr * 100:g} % | {pairs.threshold:.4f} | {cell(pairs, '.1%')} | "
                f"{cell(people, '.1%')} | {pairs.false_accepts:,} of {pairs.non_mated:,} | "
                f"{lost['failed']} of {lost['n']:,} |"
            )
    perfect = "'originals' are the original portraits, shown in the same way: what a perfect decoder would get."
    lines += ["", PROTOCOL, "", f"{perfect} In brackets: 95 % intervals."]
    people = {(entry["training_images"], entry["training_people"]) for entry in results["decoders"].values()}
    trained = "; ".join(f"{images:,} images of {persons:,} people" for images, persons in sorted(people))
    lines += ["", f"Decoders were trained on {trained}.", "", "![grid](grid.png)", ""]
    lines += ["![spectrum](spectrum.png)", "", "```sh", results["command"], "```", ""]
    machine = results["environment"]
    lines += [f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, {results['seconds']} s.", ""]
    return "\n".join(lines)


def cell(figure: Estimate | None, form: str, scale: float = 1) -> str:
    """A figure with its interval."""
    if figure is None:
        return ""
    if not np.isfinite(figure.value):
        return "∞" if getattr(figure, "infinite", 0) else "–"
    if figure.low is None:
        return f"{figure.value * scale:{form}}"
    return f"{figure.value * scale:{form}} [{figure.low * scale:{form}}, {figure.high * scale:{form}}]"


def draw_grid(
    path: Path, images: UnseenImages, portraits: np.ndarray, decoders: dict[str, Decoder], arguments: argparse.Namespace
) -> None:
    """A row of originals and one for each decoder, of people spread evenly over the names."""
    labels = None
    if arguments.labels:
        with arguments.labels.open(newline="", encoding="utf-8") as file:
            labels = {row["identity"]: row["gender"] for row in csv.DictReader(file)}
    rows = spread_rows(images.acquired_identities, arguments.columns, labels)
    templates = images.templates[~images.missing][rows]
    pictures = [portraits[rows], *(decoder.decode(templates) for decoder in decoders.values())]
    Image.fromarray(picture_grid(pictures, ["original", *decoders])).save(path, optimize=True)


def draw_spectrum(path: Path, figures: dict[str, DecoderFigures], size: int) -> None:
    """Power by frequency, with the frequencies at which up-sampling would leave a grid."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    frequencies = np.arange(size // 2 + 1) / size
    for name, own in figures.items():
        style = {"color": "black", "linewidth": 2} if name == ORIGINALS else {"linewidth": 1.2}
        axes.plot(frequencies[1:], 10 * np.log10(np.maximum(own.spectrum[1:], 1e-12)), label=name, **style)
    for period in PERIODS:
        axes.axvline(1 / period, color="gray", linestyle=":", linewidth=0.8)
        axes.text(1 / period, 1.01, f"{period} px", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    axes.set(xscale="log", xlabel="cycles a pixel", ylabel="power of rows and columns, dB")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    try:
        main()
    except FacedecodeError as error:
        print(f"decoder_table.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
