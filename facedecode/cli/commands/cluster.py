"""`facedecode cluster`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facedecode.cli.app import command, start_torch
from facedecode.cli.console import Console
from facedecode.errors import BadInput
from facedecode.templates.jobs import ClusterJob

if TYPE_CHECKING:  # these need NumPy and torch
    from facedecode.decoders import Decoder
    from facedecode.store import Store
    from facedecode.templates.cluster_description import Clustered

FIGURE = "clusters.png"


def cluster(console: Console, job: ClusterJob) -> tuple[dict, dict]:
    """groups.csv lists the clusters: their sizes, how tight they are, and the person with most templates in each.
    members.csv lists their members, nearest to the centroid first. clusters.png shows the face of each centroid beside
    members of its cluster.
    """
    from facedecode.store import Store
    from facedecode.templates.clustering import make_clusters

    store, decoder = Store.open(job.store), None
    if job.decoder != "none":
        from facedecode.decoders import optional_decoder

        device = start_torch(job.device)
        decoder = optional_decoder(store.recognizer, job.decoder, device, "no figure", console.say)
    with console.progress() as stage:
        clusters = make_clusters(job, stage)
    outputs = {"store": str(job.output)}
    if decoder is not None and _draw(console, job, clusters, store, decoder):
        outputs["figure"] = str(job.output / FIGURE)
    return _report(console, job, clusters), outputs


def _draw(console: Console, job: ClusterJob, clusters: Clustered, store: Store, decoder: Decoder) -> bool:
    from facedecode.pictures.images import save_image
    from facedecode.templates.cluster_description import cluster_figure

    path = job.output / FIGURE
    try:
        save_image(path, cluster_figure(clusters, store, store.images(job.images), decoder))
    except BadInput as error:
        console.say(f"no figure: {error}")
        return False
    console.say(f"look at {path}")
    return True


def _report(console: Console, job: ClusterJob, clusters: Clustered) -> dict:
    sizes = [len(group.members) for group in clusters.groups]
    alone = sum(size == 1 for size in sizes)
    metrics: dict = {"count": len(sizes), "templates": clusters.templates, "sizes": sizes, "alone": alone}
    metrics["silhouette"] = clusters.silhouette
    span = "" if len(sizes) == 1 else f" (from {sizes[-1]} to {sizes[0]}{f', {alone} alone' if alone else ''})"
    line = (
        f"{job.output}: {len(sizes)} cluster{'s' if len(sizes) > 1 else ''} of {clusters.templates:,} templates{span}"
    )
    if clusters.silhouette is not None:
        line += f", silhouette {clusters.silhouette:.3f}"
    if same := clusters.agreement:
        metrics["persons"] = {
            "adjusted_rand": same.rand,
            "bcubed_precision": same.precision,
            "bcubed_recall": same.recall,
        }
        line += f"; with persons: adjusted Rand {same.rand:.3f}, BCubed {same.precision:.3f} and {same.recall:.3f}"
    console.say(line)
    return metrics


app = command("cluster", cluster)
