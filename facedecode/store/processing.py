"""What was done to templates since a recognizer made them of pictures as they were: one list for all who ask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from facedecode.errors import BadInput
from facedecode.records import Record, has_text

if TYPE_CHECKING:  # needs pyarrow
    from facedecode.store import Store


@dataclass(frozen=True, kw_only=True)
class Processing(Record):
    """The fields of a manifest that say what was done to its templates.

    precision: in which the recognizer made them.
    transform: the perturbation of their faces. attack: how these were attacked.
    mapping, disentanglement, protection: what they were changed by. l2_normalized: to length 1.
    cluster, aggregate: how several became one.
    imported: the file that they come from, where another program made them.
    center_of: the `people`, and the `paths` of nobody named, whose mean is the center of a protection.
    fitted_on: people whose templates decided a mapping or a disentanglement.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    transform: str | None = None
    attack: Annotated[dict[str, Any], has_text("method")] | None = None
    mapping: Annotated[dict[str, Any], has_text("undoes")] | None = None
    disentanglement: dict[str, Any] | None = None
    protection: dict[str, Any] | None = None
    l2_normalized: bool = False
    cluster: dict[str, Any] | None = None
    aggregate: dict[str, Any] | None = None
    imported: dict[str, Any] | None = None
    center_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fitted_on: tuple[str, ...] = ()


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
    manifest: Processing, where: Path | str, allowed: Collection[str] = (), reason: str | None = None
) -> None:
    """Refuse templates to which something was done. Raises BadInput naming the store and what was done.

    where: how to call their store.
    allowed: keys of `DONE` that do not matter. reason: why the others do, a clause.
    """
    for name, what in DONE.items():
        if name not in allowed and getattr(manifest, name):
            why = f", and {reason}" if reason else ""
            raise BadInput(f"{where}: templates {what}{why}; give the plain store that 'extract' made")


def require_unprotected(store: Store) -> None:
    """Refuse a store of protected templates. Raises BadInput."""
    if store.recognizer.protection:
        raise BadInput(
            f"{store.folder}: its templates are protected ({store.recognizer.name}); give the store that 'extract' made"
        )


def require_extracted(store: Store) -> None:
    """Refuse templates that are protected, or to which something in `DONE` was done. Raises BadInput."""
    require_unprotected(store)
    refuse_done(store.manifest, store.folder)


def inherited(store: Store) -> dict[str, Any]:
    """The fields of its manifest that a store made of it takes over."""
    held = {"transform": None, **store.manifest.as_json()}
    return {name: held[name] for name in INHERITED if name in held}


def added_people(manifest: Processing, fitted_on: Collection[str]) -> tuple[str, ...]:
    """The manifest's `fitted_on` once what was fitted on these people is done to its templates, too."""
    return tuple(sorted({*manifest.fitted_on, *fitted_on}))
