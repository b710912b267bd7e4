"""A mapping from a store: its images perturbed, embedded anew, and mapped back to its templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from facedecode.errors import BadInput, OutputError
from facedecode.files import make_folder
from facedecode.mapping import Mapping, fit_mapping, load_mapping
from facedecode.perturb import Transform
from facedecode.protocols import held_out_people, select_people
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.store_images import embed_perturbed


def fit_store_mapping(
    store: Store,
    recognizer: Recognizer,
    transform: Transform,
    path: Path,
    ridge: float = 0.0,
    images: Path | None = None,
    people: Path | None = None,
    overwrite: bool = False,
    progress: Callable[..., None] | None = None,
) -> Mapping:
    """Fit the map that undoes `transform` on the templates of `store`, and write it to `path`.

    Args:
        path: of the map's file.
        images: where the store's images are, if not where its manifest says.
        people: file with the people to fit (and hold out) from; all of the store if None.

    A map that is there and was fitted on the same store with the same settings is loaded instead.

    Raises:
        OutputError: another map is at `path`, and `overwrite` is off.
        BadInput: the store's images are missing or unreadable, or its own templates are of perturbed faces.
    """
    if made_with := store.manifest.get("transform"):
        raise BadInput(f"{store.folder}: templates of faces perturbed by {made_with}; give a store of the originals")
    rows = store.rows().to_pylist()
    chosen = select_people([row["identity"] for row in rows], people)
    rows = [rows[i] for i in chosen]
    provenance = {
        "store": store.fingerprint,
        "ridge": ridge,
        "people": sorted({row["identity"] for row in rows} - {None}) if people else None,
    }
    if path.exists() and not overwrite:
        there = load_mapping(path)
        if there.report.get("provenance") == provenance and there.transform == transform.name:
            return there
        raise OutputError(f"{path}: holds a map of another store or setting; use --overwrite or another -o")
    make_folder(path.parent)
    held_out = held_out_people([row["identity"] for row in rows], [row["path"] for row in rows])
    originals = store.templates()[chosen]

    def blocks():
        for which, perturbed in embed_perturbed(rows, images or store.root, recognizer, transform, progress=progress):
            yield perturbed, originals[which], held_out[which]

    mapping = fit_mapping(blocks(), transform.name, recognizer.describe(), ridge=ridge, provenance=provenance)
    mapping.save(path)
    return mapping
