"""What a figure was made with: versions and hardware, for the results that are kept."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedecode import __version__
from facedecode.files import sha256_file, sha256_of
from facedecode.options import option_of
from facedecode.statistics import intervals
from facedecode.store.processing import DONE

if TYPE_CHECKING:  # these need pyarrow or torch
    from facedecode.decoders import Decoder
    from facedecode.recognizers.recognizer import Recognizer
    from facedecode.store import Store, Templates

_PACKAGES = ("torch", "numpy", "scipy", "pillow")


def environment() -> dict:
    """JSON: versions of the tool, its intervals and what computes; the machine's processor and cores in use.

    It holds neither paths nor host names, so that it can be published.
    """
    versions = {name: metadata.version(name) for name in _PACKAGES}
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "facedecode": __version__,
        "intervals": intervals.VERSION,
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
    }


def describe_store(store: Store) -> dict:
    """JSON: which templates: the store's fingerprint, recognizer, number of templates and of failed images.

    Also, where they apply, what was done to images and templates: `protection`, and the fields of `state.DONE`.
    """
    manifest = store.manifest
    fields = {name: getattr(manifest, name) for name in (*DONE, "protection") if name != "transform"}
    return {
        "store": store.folder.name,
        "fingerprint": store.fingerprint,
        "recognizer": store.recognizer.name,
        "weights_sha256": store.recognizer.weights_sha256,
        "score": store.score,
        "precision": manifest.precision,
        "transform": manifest.transform,
        "templates": len(store),
        "failed": len(store.failures()),
        **{name: value for name, value in fields.items() if value},
    }


def describe_templates(templates: Templates) -> dict:
    """JSON: which templates; of a store as `provenance.describe_store`."""
    from facedecode.store import Store

    if isinstance(templates, Store):
        return describe_store(templates)
    return {"store": templates.folder.name, "fingerprint": templates.fingerprint, **templates.recognizer.as_json()}


def describe_file(path: Path) -> dict:
    """JSON: which file: its name, without the folder, and the SHA-256 of its bytes."""
    return {"name": path.name, "sha256": sha256_file(path)}


def describe_content(path: Path, content: bytes) -> dict:
    """`describe_file` of a file that was read already: of the bytes that were used."""
    return {"name": path.name, "sha256": sha256_of(content)}


def describe_job(job: Any) -> dict:
    """JSON: what a job's options say, and the confidence level; of a file what `describe_file` says.

    Stores, decoders, weights and folders are left out: they have descriptions of their own, and their paths are nobody
    else's business.
    """
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(job):
        declared, value = option_of(field), getattr(job, field.name)
        if declared is None or declared.exists not in (None, "file", "transforms") or isinstance(value, Mapping):
            continue
        if isinstance(value, Path) and declared.exists == "file":
            value = describe_file(value)
        if not isinstance(value, Path):
            settings[field.name] = list(value) if isinstance(value, tuple | list) else value
    return settings | {"level": intervals.LEVEL}


def describe_recognizers(recognizers: Mapping[str, Recognizer]) -> dict:
    """JSON: by name, the weights and the score of recognizers that looked at pictures."""
    return {name: {"weights_sha256": own.weights_sha256, "score": own.spec.score} for name, own in recognizers.items()}


def describe_decoder(decoder: Decoder) -> dict:
    """JSON: which decoder, and what it was trained on. It was loaded from a folder."""
    training = decoder.provenance.training
    return {
        "kind": decoder.kind,
        "recognizer": decoder.recognizer.name,
        "image_size": decoder.image_size,
        "sha256": decoder.sha256,
        "fingerprint": training.fingerprint,
        "training_store": training.store,
        "training_people": len(training.people or ()),
        "training_images": training.images,
    }


def _processor() -> str:
    """The processor's name; the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
