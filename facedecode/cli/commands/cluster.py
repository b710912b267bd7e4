"""`facedecode cluster`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import Device, Images, Overwrite, Seed, command, start_torch
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import BadInput

FIGURE = "clusters.png"


def cluster(
    console: Console,
    store: Annotated[Path, typer.Argument(help="The store to read."), Input("store")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder: the store of the centroids, and a figure.")],
    n_clusters: Annotated[int | None, typer.Option("--n-clusters", "-k", help="So many clusters.")] = None,
    distance_threshold: Annotated[
        float | None, typer.Option("--distance-threshold", help="Or: no merge at that distance or above.")
    ] = None,
    linkage: Annotated[
        Literal["ward", "average", "complete"], typer.Option("--linkage", help="ward, average or complete.")
    ] = "ward",
    metric: Annotated[
        Literal["cosine", "euclidean"] | None,
        typer.Option("--metric", help="cosine or euclidean; else what the recognizer's score goes by."),
    ] = None,
    person: Annotated[list[str] | None, typer.Option("--person", help="Only this one's (repeatable).")] = None,
    people: Annotated[
        Path | None, typer.Option("--people", help="Only these: a name a line, or LFW's format."), Input("file")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave out a person (repeatable).")] = None,
    two_stage: Annotated[
        int | None,
        typer.Option("--two-stage", help="For very many: first so many small clusters by k-means, then merge those."),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", help="Draws the figure; else the recognizer's shipped one. none: no figure."),
        Input("decoder"),
    ] = None,
    images: Images = None,
    device: Device = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """groups.csv says how large each cluster is, how tight, and whose; members.csv lists the members, nearest to the
    centroid first. clusters.png shows the face that each centroid holds, beside members.
    """
    from facedecode.store import Store
    from facedecode.templates.clustering import Clustering, make_clusters

    wanted = Clustering(n_clusters, distance_threshold, linkage, metric, two_stage, seed)
    source = Store.open(store)
    drawer = None
    if decoder != "none":
        from facedecode.decoders import optional_decoder

        drawer = optional_decoder(source.recognizer, decoder, start_torch(device), "no figure", console.say)
    with console.progress() as stage:
        found = make_clusters(
            source,
            output,
            wanted,
            persons=person or (),
            people=people,
            exclude=exclude or (),
            overwrite=overwrite,
            stage=stage,
        )
    outputs = {"store": str(output)}
    if drawer is not None and _draw(console, output / FIGURE, found, source, images or source.root, drawer):
        outputs["figure"] = str(output / FIGURE)
    return _report(console, output, found), outputs


def _draw(console: Console, path: Path, found, store, root: Path, decoder) -> bool:
    from facedecode.pictures.images import save_image
    from facedecode.templates.cluster_description import cluster_figure

    try:
        save_image(path, cluster_figure(found, store, root, decoder))
    except BadInput as error:
        console.say(f"no figure: {error}")
        return False
    console.say(f"look at {path}")
    return True


def _report(console: Console, output: Path, found) -> dict:
    sizes = [len(group.members) for group in found.groups]
    alone = sum(size == 1 for size in sizes)
    metrics: dict = {"count": len(sizes), "templates": found.templates, "sizes": sizes, "alone": alone}
    metrics["silhouette"] = found.silhouette
    span = "" if len(sizes) == 1 else f" (from {sizes[-1]} to {sizes[0]}{f', {alone} alone' if alone else ''})"
    line = f"{output}: {len(sizes)} cluster{'s' if len(sizes) > 1 else ''} of {found.templates:,} templates{span}"
    if found.silhouette is not None:
        line += f", silhouette {found.silhouette:.3f}"
    if own := found.agreement:
        metrics["persons"] = {"adjusted_rand": own.rand, "bcubed_precision": own.precision, "bcubed_recall": own.recall}
        line += f"; with persons: adjusted Rand {own.rand:.3f}, BCubed {own.precision:.3f} and {own.recall:.3f}"
    console.say(line)
    return metrics


app = command("cluster", cluster, summary("cluster"))
