"""Rows and failures on their way into a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from facedecode.errors import BadInput
from facedecode.store.layout import COLUMNS

_FAILURE_FIELDS = {"path", "stage", "reason"}


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of COLUMNS; a key that a row lacks is null.

    Raises BadInput for a path that is not valid UTF-8, ValueError for a key that is no column.
    """
    for row in rows:
        if unknown := set(row) - set(COLUMNS.names):
            raise ValueError(f"rows have no column {', '.join(sorted(unknown))}")
        try:
            (row.get("path") or "").encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"{row['path']!r}: the file's name is not valid UTF-8; rename it") from error
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in COLUMNS.names}
    for name in ("box", "landmarks"):
        columns[name] = [
            None if value is None else np.asarray(value, dtype=np.float32).reshape(-1).tolist()
            for value in columns[name]
        ]
    return pa.table(columns, schema=COLUMNS)


def check_failures(failures: list[dict[str, str]]) -> None:
    """Raise ValueError unless each failure has just the fields path, stage and reason."""
    for failure in failures:
        if set(failure) != _FAILURE_FIELDS:
            raise ValueError(f"a failure has path, stage and reason, not {', '.join(sorted(failure))}")
