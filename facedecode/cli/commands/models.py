"""`facedecode models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from facedecode.cli.app import command, start_torch
from facedecode.cli.console import Console
from facedecode.errors import GateMissed, UsageError
from facedecode.extraction.jobs import FaceOptions
from facedecode.options import (
    RecognizerOptions,
    argument,
    device_option,
    option,
    spec_option,
    template_output_option,
    weights_option,
)


@dataclass(frozen=True)
class ModelsJob:
    """List models, fetch weights, or check a model. images, and what follows `check`: go with that."""

    images: Sequence[Path] = argument(
        "With --check: folders with a subfolder for each person; up to 3 images of each of 40 people are used.",
        default=(),
        exists="path",
    )
    download: Sequence[str] = option(
        (), "Download the weights of this recognizer, resuming an interrupted download (repeatable)."
    )
    cache: Path | None = option(
        None, "Folder for downloads. If absent, $FACEDECODE_CACHE, or the system's folder for caches."
    )
    offline: bool = option(False, "Only check the weights that are there; download nothing.")
    check: str | None = option(
        None,
        "Embed a few people's images by this recognizer and say if mated pairs score above non-mated ones, and under "
        "which preset they do most. A name or a model file, as for 'extract'.",
        exists="model",
    )
    weights: Path | None = weights_option()
    spec: str | Path | None = spec_option()
    template_output: str | None = template_output_option()
    faces: FaceOptions = FaceOptions()
    device: str = device_option()

    def __post_init__(self) -> None:
        further = (self.images, self.weights, self.spec, self.template_output, self.faces != FaceOptions())
        if self.check is None and any(further):
            raise UsageError(
                "images, and options that say how they are taken (--spec, --crop, …), go with --check MODEL"
            )
        if self.check is not None and (self.download or self.offline):
            raise UsageError("--check uses what is there; give --download and --offline in a call of their own")
        if self.check is not None and not self.images:
            raise UsageError(f"--check {self.check}: name the images, folders with a subfolder for each person")


def models(console: Console, context: typer.Context, job: ModelsJob) -> tuple[dict, dict]:
    """Nothing is downloaded unless --download names it. With --check, exit code 5 says that mated pairs do not score
    above non-mated ones.
    """
    from facedecode.models import download_weights, list_decoders, list_recognizers
    from facedecode.recognizers import DEFAULT_RECOGNIZER
    from facedecode.recognizers.cache import cache_folder, use_cache
    from facedecode.recognizers.presets import PRESETS

    if job.cache:
        context.with_resource(use_cache(job.cache))
    if job.check is not None:
        return _check(console, job, job.check)
    fetched = {}
    with console.progress() as stage:
        for name in job.download:
            path = download_weights(name, job.offline, _in_megabytes(stage(name)))
            fetched[name] = str(path)
            console.say(f"{name}: {path}")
    recognizers, decoders, folder = list_recognizers(), list_decoders(), cache_folder()
    if not fetched:
        rows = [
            (
                r["name"] + (" (default)" if r["name"] == DEFAULT_RECOGNIZER else ""),
                str(r["dim"]),
                "missing" if r["missing"] else "here",
                r["license"],
            )
            for r in recognizers
        ]
        _table(console, ("recognizer", "template", "weights", "license"), rows)
        presets = [
            (name, f"{said['size']} px", said["crop"], said["channels"], f"{said['mean']:g}, {said['scale']:g}")
            for name, said in PRESETS.items()
        ]
        _table(console, ("preset of --spec", "input", "crop", "channels", "mean, scale"), presets)
        rows = [(d["name"], str(d["dim"]), f"{d['image_size']} px", d["license"] or "") for d in decoders]
        _table(console, ("decoder of", "template", "pictures", "license"), rows)
        for r in recognizers:
            if r["missing"]:
                console.data(f"{r['name']}: {r['missing']}")
            else:
                console.data(f"{r['name']}: {r['weights']}")
        console.data(f"downloads go to {folder}" if folder else "downloads need --cache: this user has no home")
    outputs = {"cache": None if folder is None else str(folder), "downloaded": fetched}
    return {"recognizers": recognizers, "decoders": decoders, "presets": PRESETS}, outputs


def _check(console: Console, job: ModelsJob, model: str) -> tuple[dict, dict]:
    """Says whether mated pairs score above non-mated ones. Raises GateMissed: they do not."""
    from facedecode.extraction.finders import IF_CROPS
    from facedecode.extraction.model_check import LEAST_AUC, check_model

    options = RecognizerOptions(model, job.weights, job.spec, job.template_output)
    device = start_torch(job.device)
    with console.progress() as stage:
        found = check_model(options, job.images, job.faces, device, stage("faces"))
    best = found.rows[0]
    judged = next((row for row in found.rows if row.contract == found.given), best)
    better = best.contract if best.is_fine and (judged.is_worse or not judged.is_fine) else None
    rows = [
        (
            row.contract + (" (given)" if row.contract == found.given else ""),
            f"{row.auc:.4f}",
            f"{100 * row.eer:.2f} %",
            f"{row.d_prime:.2f}",
            "" if row is best else f"{row.below_best:.2f} ± {2 * row.standard_error:.2f}".removesuffix(" ± nan"),
        )
        for row in found.rows
    ]
    _table(console, ("contract", "AUC", "EER", "d'", "below the best"), rows)
    if found.faceless:
        console.say(
            f"{found.faceless} of {found.faceless + found.images} images give no face and are left out; {IF_CROPS}"
        )
    metrics = {**asdict(found), "fine": judged.is_fine, "best": best.contract, "better": better}
    counts = (
        f"AUC {judged.auc:.3f}, {found.mated:,} mated and {found.non_mated:,} non-mated pairs, {found.images} images "
        f"of {found.people} people"
    )
    advice = f"; {better} does better: say --spec {better}" if better else ""
    if not better and best is not judged:
        advice = f"; {best.contract} may do better: these images do not tell"
    if not judged.is_fine:
        advice = (
            advice
            if better
            else "; nor under another preset; has each folder one person's images? See docs/own-models.md"
        )
        says = f"mated pairs do not score above non-mated ones ({counts}; at least {LEAST_AUC:g} is wanted)"
        raise GateMissed(f"{model}: under {judged.contract}, {says}{advice}", metrics, {})
    if not found.given:
        alike = [row.contract for row in found.rows if row is not best and row.is_fine and not row.is_worse]
        also = f" ({', '.join(alike)} may do as well: these images do not tell)" if alike else ""
        advice = f"; say --spec {best.contract}{also}"
    console.data(f"{model}: under {judged.contract}, mated pairs score above non-mated ones ({counts}){advice}")
    return metrics, {}


def _in_megabytes(update):
    """Progress in MB, begun ones counted: bytes are too many digits to look at."""
    return lambda done, total: update(-(-done // 1_000_000), -(-total // 1_000_000), "MB")


def _table(console: Console, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be, and an empty line."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        console.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.data("")


app = command("models", models)
