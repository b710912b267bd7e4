"""What was done to templates since a recognizer made them of pictures as they were: one list for all who ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedecode.errors import BadInput

if TYPE_CHECKING:  # needs pyarrow
    from facedecode.store import Store

# Field of the manifest → what its templates then are.
DONE = {
    "transform": "of perturbed faces",
    "attack": "of attacked faces",
    "mapping": "that were mapped",
    "disentanglement": "that were disentangled",
    "cluster": "of clusters",
    "aggregate": "made of several",
    "l2_normalized": "that are normalized",
}
# What a store made of another takes over from its manifest, beside what is done now.
INHERITED = (
    "precision",
    "protection",
    "center_of",
    "fitted_on",
    *(field for field in DONE if field != "l2_normalized"),
)


def refuse_done(
    manifest: Mapping[str, Any], where: Path | str, allowed: Collection[str] = (), reason: str | None = None
) -> None:
    """Refuse templates to which something was done.

    Args:
        manifest: of their store. where: how to call it.
        allowed: keys of `DONE` that do not matter.
        reason: why the others do, a clause.

    Raises:
        BadInput: naming the store and what was done.
    """
    for field, what in DONE.items():
        if field not in allowed and manifest.get(field):
            why = f", and {reason}" if reason else ""
            raise BadInput(f"{where}: templates {what}{why}; give the plain store that 'extract' made")


def require_unprotected(store: Store) -> None:
    """Refuse a store of protected templates. Raises BadInput."""
    if "protection" in store.recognizer:
        raise BadInput(
            f"{store.folder}: its templates are protected ({store.recognizer['name']}); give the store that "
            "'extract' made"
        )


def require_extracted(store: Store) -> None:
    """Refuse templates that are not as the recognizer gave them of faces as they were.

    Raises:
        BadInput: they are protected, or something in `DONE` was done.
    """
    require_unprotected(store)
    refuse_done(store.manifest, store.folder)


def inherited(store: Store) -> dict[str, Any]:
    """The fields of its manifest that a store made of it takes over."""
    return {name: store.manifest[name] for name in INHERITED if name in store.manifest}


def added_people(manifest: Mapping[str, Any], fitted_on: Collection[str]) -> dict[str, list[str]]:
    """The manifest's field `fitted_on` once what was fitted on these people is done to its templates, too."""
    people = sorted({*manifest.get("fitted_on", ()), *fitted_on})
    return {"fitted_on": people} if people else {}
