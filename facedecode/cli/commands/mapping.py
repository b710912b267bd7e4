"""`facedecode fit-mapping`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facedecode.cli.app import command, start_torch
from facedecode.cli.console import Console
from facedecode.errors import UsageError
from facedecode.mapping.jobs import MappingJob

if TYPE_CHECKING:  # these need NumPy
    from facedecode.mapping.fit import TemplatePairSource
    from facedecode.mapping.maps import Mapping
    from facedecode.store import Store


def fit_mapping(console: Console, job: MappingJob) -> tuple[dict, dict]:
    """Perturbs the images of a store, computes their templates again with the recognizer of the store, and fits a map
    from the new templates to the original ones by least squares. A tenth of the people is held out, to judge the map.
    Of several perturbations, those that an interrupted run had finished are kept.
    """
    from facedecode.mapping.fit import count_pairs, fit_from_sums, fit_store_mapping, merge_files, sum_store

    metrics: dict = {}
    outputs: dict = {}
    if job.from_sums:
        for name, sums in merge_files(job.from_sums).items():
            mapping = fit_from_sums(sums, job.path(name), job.method, job.overwrite)
            _report(console, job.path(name), mapping, metrics, outputs)
        return metrics, outputs
    store, sources = _sources(job)
    if job.dry_run:
        for source in sources:
            metrics[source.transform] = counts = count_pairs(store, source, job.people)
            console.say(
                f"{source.transform}: up to {counts['training']} pairs, and {counts['held_out']} of people held out; "
                f"would go to {job.path(source.transform).parent}"
            )
        return metrics, outputs
    with console.progress() as stage:
        for source in sources:
            path, progress = job.path(source.transform), stage(source.transform)
            if job.sums_to:
                sums = sum_store(store, source, path, job.people, job.overwrite, progress)
                counts = {"training": sums.training.n, "held_out": sums.held_out.n, "left_out": sums.left_out}
                metrics[source.transform], outputs[source.transform] = counts, str(path)
                console.say(f"{path}: sums of {counts['training']} pairs, and of {counts['held_out']} held out")
            else:
                mapping = fit_store_mapping(store, source, path, job.method, job.people, job.overwrite, progress)
                _report(console, path, mapping, metrics, outputs)
    return metrics, outputs


def _sources(job: MappingJob) -> tuple[Store, list[TemplatePairSource]]:
    """The store of the originals, and each source of perturbed templates once."""
    from facedecode.mapping.fit import Joined, Reembedded
    from facedecode.pictures.perturb import expand_group
    from facedecode.recognizers import load_recognizer
    from facedecode.store import Store

    store = Store.open(job.embeddings)
    joined: dict[str, TemplatePairSource] = {}
    for folder in job.perturbed:
        source = Joined(store, Store.open(folder))
        if source.transform in joined:
            raise UsageError(f"--perturbed {folder}: a second store of {source.transform}; give one a transform")
        joined[source.transform] = source
    if joined:
        return store, list(joined.values())
    transforms = {transform.name: transform for name in job.transform for transform in expand_group(name)}
    recognizer = load_recognizer(store.recognizer, job.weights, start_torch(job.device), store.manifest.precision)
    return store, [Reembedded(store, recognizer, transform, job.images) for transform in transforms.values()]


def _report(console: Console, path: Path, mapping: Mapping, metrics: dict, outputs: dict) -> None:
    report = mapping.report
    judged, people = (report["held_out"], " of people held out") if report["held_out"] else (report["training"], "")
    metrics[mapping.transform], outputs[mapping.transform] = report, str(path)
    undone = "nothing was displaced" if judged["relative"] is None else f"undoes {1 - judged['relative']:.1%}"
    about = "" if judged["relative"] is None else f" of the displacement{people}"
    ridge = f", ridge {report['ridge']:.3g} by GCV" if report["ridge_by"] == "gcv" else ""
    console.say(f"{path}: {report['training']['n']} pairs{ridge}, {undone}{about}")


app = command("fit-mapping", fit_mapping)
