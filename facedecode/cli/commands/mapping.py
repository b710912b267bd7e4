"""`facedecode fit-mapping`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facedecode.cli.app import Device, DryRun, Images, Overwrite, Ridge, Weights, command, start_torch
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.options import parse_ridge

if TYPE_CHECKING:
    from facedecode.mapping.fit import TemplatePairSource
    from facedecode.store import Store


def fit_mapping(
    console: Console,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            "--transform", help="rotate30, …, or a group: rotations, shifts, scales, occlusions, all (repeatable)."
        ),
        Input("transforms"),
    ] = None,
    embeddings: Annotated[
        Path,
        typer.Option("--embeddings", help="Store of the original templates; its manifest names the images."),
        Input("store"),
    ] = Path("emb"),
    perturbed: Annotated[
        list[Path] | None,
        typer.Option("--perturbed", help="Instead: a store that 'extract --transform' made of them (repeatable)."),
        Input("store"),
    ] = None,
    from_sums: Annotated[
        list[Path] | None,
        typer.Option("--from-sums", help="Instead: files that --sums-to wrote, merged (repeatable)."),
        Input("mapping sums"),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the maps, NAME.safetensors each.")] = Path(
        "mappings"
    ),
    kind: Annotated[
        Literal["affine", "orthogonal", "low-rank"], typer.Option("--kind", help="affine, orthogonal or low-rank.")
    ] = "affine",
    rank: Annotated[int | None, typer.Option("--rank", help="Of a low-rank map.")] = None,
    ridge: Ridge = "0",
    people: Annotated[
        Path | None,
        typer.Option("--people", help="Fit on these people only: a name a line, or LFW's format."),
        Input("file"),
    ] = None,
    sums_to: Annotated[
        Path | None, typer.Option("--sums-to", help="Write sums to merge to this folder instead of maps.")
    ] = None,
    weights: Weights = None,
    images: Images = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> tuple[dict, dict]:
    """Perturbs the store's images, embeds them again with the recognizer that made the store, and fits perturbed to
    original templates by least squares. A tenth of the people is held out, and the map is judged on them. Of several
    transforms, those that an interrupted run had finished are kept.
    """
    from facedecode.mapping.fit import count_pairs, fit_from_sums, fit_store_mapping, merge_files, sum_store
    from facedecode.mapping.least_squares import Method

    if sum(map(bool, (transform, perturbed, from_sums))) != 1:
        raise UsageError("give one of --transform, --perturbed and --from-sums")
    if not transform and (images or weights):
        raise UsageError("--images and --weights go with --transform, which embeds the images again")
    if from_sums and (sums_to or people or dry_run):
        raise UsageError("--people, --sums-to and --dry-run are of what is summed; --from-sums is given sums")
    method = Method(kind, parse_ridge(ridge), rank)
    if sums_to and method != Method():
        raise UsageError("--kind, --rank and --ridge say how sums are solved: give them with --from-sums")
    metrics: dict = {}
    outputs: dict = {}
    if from_sums:
        for name, sums in merge_files(from_sums).items():
            path = output / f"{name}.safetensors"
            _tell(console, path, fit_from_sums(sums, path, method, overwrite), metrics, outputs)
        return metrics, outputs
    sources = _sources(transform, perturbed, embeddings, weights, images, device)
    folder = sums_to or output
    if dry_run:
        for source, store in sources:
            metrics[source.transform] = counts = count_pairs(store, source, people)
            console.say(
                f"{source.transform}: up to {counts['training']} pairs, and {counts['held_out']} of people held out; "
                f"would go to {folder}"
            )
        return metrics, outputs
    with console.progress() as stage:
        for source, store in sources:
            path = folder / f"{source.transform}.safetensors"
            if sums_to:
                sums = sum_store(store, source, path, people, overwrite, stage(source.transform))
                counts = {"training": sums.training.n, "held_out": sums.held_out.n, "left_out": sums.left_out}
                metrics[source.transform], outputs[source.transform] = counts, str(path)
                console.say(f"{path}: sums of {counts['training']} pairs, and of {counts['held_out']} held out")
            else:
                progress = stage(source.transform)
                mapping = fit_store_mapping(store, source, path, method, people, overwrite, progress)
                _tell(console, path, mapping, metrics, outputs)
    return metrics, outputs


def _sources(
    transform: list[str] | None,
    perturbed: list[Path] | None,
    embeddings: Path,
    weights: Path | None,
    images: Path | None,
    device: str,
) -> list[tuple[TemplatePairSource, Store]]:
    """Each source of perturbed templates once, with the store of the originals."""
    from facedecode.mapping.fit import Joined, Reembedded
    from facedecode.pictures.perturb import expand_group
    from facedecode.recognizers import load_recognizer
    from facedecode.store import Store

    transforms = {t.name: t for name in transform or [] for t in expand_group(name)}
    store = Store.open(embeddings)
    if perturbed:
        joined: dict[str, TemplatePairSource] = {}
        for folder in perturbed:
            source = Joined(store, Store.open(folder))
            if source.transform in joined:
                raise UsageError(f"--perturbed {folder}: a second store of {source.transform}; give one a transform")
            joined[source.transform] = source
        return [(source, store) for source in joined.values()]
    recognizer = load_recognizer(store.recognizer, weights, start_torch(device), store.manifest.precision)
    return [(Reembedded(store, recognizer, t, images), store) for t in transforms.values()]


def _tell(console: Console, path: Path, mapping, metrics: dict, outputs: dict) -> None:
    report = mapping.report
    judged, of = (report["held_out"], " of people held out") if report["held_out"] else (report["training"], "")
    metrics[mapping.transform], outputs[mapping.transform] = report, str(path)
    undone = "nothing was displaced" if judged["relative"] is None else f"undoes {1 - judged['relative']:.1%}"
    about = "" if judged["relative"] is None else f" of the displacement{of}"
    ridge = f", ridge {report['ridge']:.3g} by GCV" if report["ridge_by"] == "gcv" else ""
    console.say(f"{path}: {report['training']['n']} pairs{ridge}, {undone}{about}")


app = command("fit-mapping", fit_mapping, summary("fit-mapping"))
