"""A store whose templates are read through a map, without another store on disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from facedecode.mapping.maps import Mapping
from facedecode.store import Store
from facedecode.store.state import added_people
from facedecode.templates.transformation import describe_mapping


class MappedStore(Store):
    """The rows of a store with their templates mapped; its manifest records the map as `transform --mapping` would.

    mapping: the map.

    Raises:
        BadInput: see `Mapping.require_templates`.
    """

    def __init__(self, store: Store, mapping: Mapping) -> None:
        """mapping: loaded from a file."""
        mapping.require_templates(store.manifest, store.folder)
        done = {"mapping": describe_mapping(mapping), **added_people(store.manifest, mapping.fitted_on or ())}
        super().__init__(store.folder, {**store.manifest, **done})
        self.mapping = mapping

    def shards(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """As `Store.shards`, mapped."""
        return ((self.mapping.apply(templates), table) for templates, table in super().shards())

    def templates(self) -> np.ndarray:
        """As `Store.templates`, mapped."""
        return self.mapping.apply(super().templates())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """As `Store.take`, mapped."""
        return self.mapping.apply(super().take(rows))
