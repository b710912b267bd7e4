"""Stores of the same images: which row belongs to which. By the image, never by position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facedecode.errors import BadInput, UsageError, some_of
from facedecode.pictures.perturb import parse_transform
from facedecode.store import Store, require_same_recognizer
from facedecode.store.processing import refuse_done


def join_perturbed(store: Store, perturbed: Store) -> np.ndarray:
    """Where the rows of a store that `extract --transform` made stand in that of the original faces.

    Returns (n,) int64, n the rows of `perturbed`: row numbers of `store`. Only images whose face the perturbation moved
    out of the frame may be missing in `perturbed`.

    Raises BadInput: `perturbed` has no perturbed faces, was mapped or attacked, or has another recognizer or precision;
    rows without an image, or two of one; images that only one of the stores has; an image that changed.
    """
    first, second = store.folder, perturbed.folder
    if not perturbed.manifest.transform:
        raise BadInput(f"{second}: its faces are not perturbed; give a store that 'extract --transform' made")
    try:
        parse_transform(perturbed.manifest.transform)
    except UsageError as error:  # it also becomes the name of a file
        raise BadInput(f"{second}: {error}") from None
    for folder, one in ((first, store), (second, perturbed)):
        refuse_done(one.manifest, folder, allowed=("transform",))
    require_same_recognizer(perturbed.recognizer, store.recognizer, f"the store {first}")
    precisions = [one.manifest.precision for one in (store, perturbed)]
    if precisions[0] != precisions[1]:
        raise BadInput(f"{second}: made in {precisions[1]}, and {first} in {precisions[0]}; make both in one precision")
    originals, moved = (_with_images(one) for one in (store, perturbed))
    lost = pa.array([f["path"] for f in perturbed.failures() if f["stage"] == "perturb"], pa.string())
    listed = pa.concat_arrays([moved["path"].combine_chunks(), lost])
    lacking = originals["path"].filter(pc.invert(pc.is_in(originals["path"], listed)))
    where = pc.index_in(moved["path"], originals["path"].combine_chunks())
    more = moved["path"].filter(pc.is_null(where))
    if len(lacking) or len(more):
        differences = [f"{_listed(lacking)} of {first} are missing"] if len(lacking) else []
        differences += [f"{_listed(more)} are not in {first}"] if len(more) else []
        raise BadInput(f"{second}: not the same images: {'; '.join(differences)}; extract both from the same folder")
    changed = moved["path"].filter(pc.not_equal(moved["sha256"], originals["sha256"].take(where)))
    if len(changed):
        raise BadInput(
            f"{second}: {_listed(changed)} are other images than in {first}; extract both from the same folder"
        )
    return where.to_numpy().astype(np.int64)


def common_rows(stores: Sequence[Store]) -> list[np.ndarray]:
    """The rows in each store of the images that all have, in the order of the first: an int64 (n,) each.

    An image is one path and one content: another edition of a data set has the same names. Raises BadInput: there is no
    such image.
    """
    places = []
    for store in stores:
        rows = zip(*(column.to_pylist() for column in store.columns(["path", "sha256"]).columns), strict=True)
        places.append({key: i for i, key in enumerate(rows) if key[0] is not None})
    keys = [key for key in places[0] if all(key in place for place in places)]
    if not keys:
        listed = ", ".join(str(store.folder) for store in stores)
        raise BadInput(f"{listed}: have no image in common; give stores of the same images")
    return [np.array([place[key] for key in keys], np.int64) for place in places]


def _with_images(store: Store) -> pa.Table:
    """Path and hash of each row's image."""
    table = store.columns(["path", "sha256"])
    if table["path"].null_count:
        raise BadInput(f"{store.folder}: has templates without an image to be joined by; give a store of 'extract'")
    if pc.count_distinct(table["path"]).as_py() < len(table):
        raise BadInput(f"{store.folder}: has two templates of one image; give a store of 'extract'")
    return table


def _listed(paths: pa.ChunkedArray) -> str:
    return f"{len(paths)} ({some_of(paths.slice(0, 4).to_pylist())})"
