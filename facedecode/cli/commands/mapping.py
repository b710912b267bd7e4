"""`facedecode fit-mapping`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facedecode.cli.app import Device, Images, Overwrite, Weights, choose_device, command
from facedecode.cli.console import Console


def register(app: typer.Typer) -> None:
    command("fit-mapping")(fit_mapping)


def fit_mapping(
    console: Console,
    transform: Annotated[
        list[str], typer.Option("--transform", help="rotate30, … rotate-180, or a group: rotations, all (repeatable).")
    ],
    embeddings: Annotated[
        Path, typer.Option("--embeddings", help="Store of the original templates; its manifest names the images.")
    ] = Path("emb"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the maps, NAME.safetensors each.")] = Path(
        "mappings"
    ),
    people: Annotated[
        Path | None, typer.Option("--people", help="Fit on these people only: a name a line, or LFW's format.")
    ] = None,
    ridge: Annotated[
        float, typer.Option("--ridge", min=0, help="Penalty, times the templates' mean variance; 0: least squares.")
    ] = 0.0,
    weights: Weights = None,
    images: Images = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """Fit the linear map that undoes a perturbation in the space of templates (paper, Eq. 6).

    Perturbs the store's images, embeds them again with the recognizer that made the store, and fits perturbed to
    original templates by least squares. A tenth of the people is held out, and the map is judged on them.
    """
    from facedecode.mapping_fit import fit_store_mapping
    from facedecode.perturb import expand_group
    from facedecode.recognizers import load_recognizer
    from facedecode.store import Store, require_same_recognizer

    transforms = {t.name: t for name in transform for t in expand_group(name)}
    store = Store.open(embeddings)
    recognizer = load_recognizer(
        store.recognizer["name"], weights, choose_device(device), store.manifest.get("precision", "fp32")
    )
    require_same_recognizer(store.recognizer, recognizer.describe(), "the recognizer's weights file")
    metrics: dict = {}
    outputs: dict = {}
    with console.progress() as stage:
        for name, perturbation in transforms.items():
            path = output / f"{name}.safetensors"
            mapping = fit_store_mapping(
                store, recognizer, perturbation, path, ridge, images, people, overwrite, stage(name)
            )
            held_out = mapping.report["held_out"] or mapping.report["training"]
            metrics[name] = mapping.report
            outputs[name] = str(path)
            console.say(
                f"{path}: {mapping.report['training']['n']} pairs, undoes {1 - held_out['relative']:.1%} of the "
                f"displacement{' of people held out' if mapping.report['held_out'] else ''}"
            )
    return metrics, outputs
