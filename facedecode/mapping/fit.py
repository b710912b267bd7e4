"""A mapping from stores: pairs of templates of the same images, summed, and a map fitted to the sums.

The perturbed templates come from one of two places: a store's own images are perturbed and embedded anew
(`Reembedded`), or a second store has them already (`Joined`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facedecode.annotations.protocols import held_out_people, select_people
from facedecode.decoders.own_templates import check_store
from facedecode.errors import BadInput, FacedecodeWarning, OutputError
from facedecode.files import json_text, make_folder
from facedecode.mapping.jobs import Method
from facedecode.mapping.maps import Mapping, solve_mapping
from facedecode.mapping.sums import MappingSums, load_sums
from facedecode.options import ImageOptions
from facedecode.pictures.perturb import Transform
from facedecode.progress import Progress, silent
from facedecode.recognizers.recognizer import Recognizer
from facedecode.store import Store
from facedecode.store.images import embed_perturbed
from facedecode.store.join import join_perturbed
from facedecode.store.processing import refuse_done

_ROWS = 4096  # of a store that are held as Python objects
_SKETCH = 1024  # hashes that are kept of a part's images


class TemplatePairSource(Protocol):
    """Where the perturbed templates of a store come from.

    transform: the perturbation's name. fingerprint: of a store that has them, or None.
    """

    transform: str
    fingerprint: str | None

    def blocks(self, rows: np.ndarray, progress: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For rows of the original store (n,): which of its rows (b,), and their perturbed templates (b, d)."""
        ...


class Reembedded:
    """The images of a store, perturbed and embedded by its recognizer."""

    fingerprint: str | None = None

    def __init__(
        self, store: Store, recognizer: Recognizer, transform: Transform, images: ImageOptions | None = None
    ) -> None:
        self.transform = transform.name
        self._store, self._recognizer, self._transform = store, recognizer, transform
        self._images = store.images(images)

    def blocks(self, rows: np.ndarray, progress: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Source`. Raises BadInput as `store.images.embed_perturbed`."""
        table = self._store.rows().take(rows)
        # A part at a time: a million rows as Python objects would take gigabytes.
        for start in range(0, len(rows), _ROWS):
            part = table.slice(start, _ROWS).to_pylist()

            def say(done: int, _: int, note: str = "", start: int = start) -> None:
                progress(start + done, len(rows))

            made = embed_perturbed(part, self._images, self._recognizer, self._transform, progress=say)
            for which, templates in made:
                yield rows[start + which], templates


class Joined:
    """The templates of a store that `extract --transform` made of the same images: see `store.join.join_perturbed`."""

    def __init__(self, store: Store, perturbed: Store) -> None:
        self._perturbed, self._originals = perturbed, join_perturbed(store, perturbed)
        self._count = len(store)
        self.transform: str = perturbed.manifest.transform
        self.fingerprint = perturbed.fingerprint

    def blocks(self, rows: np.ndarray, progress: Progress) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `Source`: shard by shard, in the order of the perturbed store."""
        chosen = np.zeros(self._count, bool)
        chosen[rows] = True
        start = 0
        progress(start, len(self._perturbed))
        for templates, _ in self._perturbed.shards():
            originals = self._originals[start : start + len(templates)]
            wanted = chosen[originals]
            yield originals[wanted], templates[wanted]
            start += len(templates)
            progress(start, len(self._perturbed))


def count_pairs(store: Store, source: TemplatePairSource, people: Path | None = None) -> dict[str, int]:
    """How many pairs a map would be fitted to and judged on, where no image fails. Raises as `fit_store_mapping`."""
    chosen, _ = _choose(store, source, people)
    held_out = int(np.count_nonzero(_held_out(store, chosen)))
    return {"training": len(chosen) - held_out, "held_out": held_out}


def fit_store_mapping(
    store: Store,
    source: TemplatePairSource,
    path: Path,
    method: Method,
    people: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Mapping:
    """Fit the map that undoes a perturbation on the templates of `store`, and write it to `path`.

    A map that is there and was fitted on the same templates by the same method is loaded instead.

    source: of the perturbed templates. people: file with the people to fit (and hold out) from; all if None.

    Raises:
        OutputError: another map is at `path`, and `overwrite` is off.
        BadInput: the store's own templates are of perturbed faces, or those of the source cannot be had.
        UsageError: a rank above the templates' size.
    """
    method.require_size(store.dim)  # before hours of work
    chosen, part = _choose(store, source, people)
    provenance = _provenance([part], method)
    if earlier := _finished(path, source.transform, provenance, overwrite):
        return earlier
    sums = _sum(store, source, chosen, _held_out(store, chosen), part, progress)
    mapping = solve_mapping(sums, method, provenance)
    mapping.save(path)
    return mapping


def sum_store(
    store: Store,
    source: TemplatePairSource,
    path: Path,
    people: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MappingSums:
    """Write the sums that `fit_from_sums` merges with those of other runs; arguments and errors as there and above.

    People are held out by their names alone, so runs on parts of the people agree about whom.
    """
    chosen, part = _choose(store, source, people)
    if path.exists() and not overwrite:
        earlier = load_sums(path)
        if (earlier.parts, earlier.transform) == ([part], source.transform):
            return earlier
        raise OutputError(f"{path}: holds sums of another store or of other people; use --overwrite or another folder")
    make_folder(path.parent)
    held_out = held_out_people(store.identities(), store.paths(), even_all=True)
    sums = _sum(store, source, chosen, held_out, part, progress)
    sums.save(path)
    return sums


def fit_from_sums(sums: MappingSums, path: Path, method: Method, overwrite: bool = False) -> Mapping:
    """Fit a map to (merged) sums, and write it to `path`. Raises as `fit_store_mapping`."""
    provenance = _provenance(sums.parts, method)
    if earlier := _finished(path, sums.transform, provenance, overwrite):
        return earlier
    mapping = solve_mapping(sums, method, provenance)
    mapping.save(path)
    return mapping


def merge_files(files: Sequence[Path]) -> dict[str, MappingSums]:
    """The sums of some files, merged for each transform. Raises BadInput as `load_sums` and `MappingSums.merge`."""
    merged: dict[str, MappingSums] = {}
    for file in files:
        sums = load_sums(file)
        if sums.transform not in merged:
            merged[sums.transform] = sums
            continue
        try:
            merged[sums.transform].merge(sums)
        except BadInput as error:
            raise BadInput(f"{file}: {error}") from None
    return merged


def _choose(store: Store, source: TemplatePairSource, people: Path | None) -> tuple[np.ndarray, dict[str, Any]]:
    """The rows to use, and what is recorded of them."""
    refuse_done(store.manifest, store.folder)
    identities = store.identities()
    chosen = select_people(identities, people)
    names = sorted({identities[i] for i in chosen} - {None})
    digests = store.rows()["sha256"].take(chosen).drop_null().unique().to_pylist()
    return chosen, {
        "store": store.fingerprint,
        "precision": store.manifest.precision,
        "people": names or None,
        # The lowest hashes: two parts that have a share of their images in common have that share of these in common.
        "images": sorted(digest[:16] for digest in digests)[:_SKETCH],
        "perturbed": source.fingerprint,
    }


def _held_out(store: Store, chosen: np.ndarray) -> np.ndarray:
    """Which rows of a store (n,) bool are those of people to judge a map on, among the chosen."""
    held_out = np.zeros(len(store), bool)
    identities, paths = store.identities(), store.paths()
    held_out[chosen] = held_out_people([identities[i] for i in chosen], [paths[i] for i in chosen])
    return held_out


def _provenance(parts: list[dict[str, Any]], method: Method) -> dict[str, Any]:
    return {"parts": sorted(parts, key=json_text), **method.describe()}


def _finished(path: Path, transform: str, provenance: dict[str, Any], overwrite: bool) -> Mapping | None:
    """A map of the same work, see `tensor_file.Fitted.finished`."""

    def same(made: Mapping) -> bool:
        return made.report.get("provenance") == provenance and made.transform == transform

    return Mapping.finished(path, same, overwrite)


def _sum(
    store: Store,
    source: TemplatePairSource,
    chosen: np.ndarray,
    held_out: np.ndarray,
    part: dict[str, Any],
    progress: Progress,
) -> MappingSums:
    check_store(store)
    sums = MappingSums(source.transform, store.recognizer, [part])
    seen = 0
    for rows, perturbed in source.blocks(chosen, progress):
        sums.add(perturbed, store.take(rows), held_out[rows])
        seen += len(rows)
    sums.left_out, sums.pictures = len(chosen) - seen, store.pictures(chosen)
    if sums.left_out:
        warnings.warn(
            f"{source.transform}: {sums.left_out} of {len(chosen)} images are left out: no face stays in the frame",
            FacedecodeWarning,
            stacklevel=3,
        )
    return sums
