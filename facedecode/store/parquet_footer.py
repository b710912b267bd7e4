"""What a Parquet file says of the parts of its columns, read without Arrow, which aborts the process on a damaged one.

Source: the Parquet format's `parquet.thrift`, in Thrift's compact protocol.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

_ROW_GROUPS, _COLUMNS, _CHUNK = 4, 1, 3  # numbers of the fields FileMetaData.row_groups, RowGroup.columns, …
_TYPE, _ENCODINGS, _VALUES, _SIZE = 1, 2, 5, 6  # of a column's part
_ENDING = 8  # bytes after the footer: its length, and PAR1
_MOST_LEVELS = 16
_WIDTHS = {0: 1, 1: 4, 4: 4}  # bytes of BOOLEAN, INT32, FLOAT
DELTA_BYTE_ARRAY = 7
"""The encoding where each text may begin with all of the one before it, and so a page unpacks to any size."""
COMMON_ENCODINGS = frozenset({0, 2, 3, 4, 8})
"""PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, RLE_DICTIONARY."""


@dataclass(frozen=True)
class ColumnPart:
    """A column of a row group. values: numbers or texts in it. size: bytes of its encoded pages."""

    encodings: frozenset[int]
    values: int
    size: int
    width: int

    @property
    def unpacked(self) -> int:
        """Bytes that it takes at most, where texts that rows share count once."""
        return (
            self.values * self.size if DELTA_BYTE_ARRAY in self.encodings else max(self.size, self.values * self.width)
        )


def column_parts(data: bytes) -> list[ColumnPart]:
    """The parts of the columns of a Parquet file. Raises ValueError: its footer is damaged."""
    start = len(data) - _ENDING - int.from_bytes(data[-_ENDING:-4], "little")
    if start < 0:
        raise ValueError("its footer is cut short")
    try:
        footer = _struct(io.BytesIO(data[start:-_ENDING]), _MOST_LEVELS)
        parts = [column[_CHUNK] for group in footer[_ROW_GROUPS] for column in group[_COLUMNS]]
        return [
            ColumnPart(
                frozenset(part[_ENCODINGS]), _whole(part[_VALUES]), _whole(part[_SIZE]), _WIDTHS.get(part[_TYPE], 8)
            )
            for part in parts
        ]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("its footer is damaged") from error


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("its footer has a size that is none")
    return value


def _varint(file: io.BytesIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("its footer has a number that is too long")


def _number(file: io.BytesIO) -> int:
    value = _varint(file)
    return -(value // 2) - 1 if value % 2 else value // 2


def _struct(file: io.BytesIO, levels: int) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    number = 0
    while kind := file.read(1)[0]:
        number = number + (kind >> 4) if kind >> 4 else _number(file)
        fields[number] = kind & 15 == 1 if kind & 15 in (1, 2) else _value(file, kind & 15, levels - 1)
    return fields


def _value(file: io.BytesIO, kind: int, levels: int) -> Any:
    """A value by its type's number in the compact protocol; of texts and doubles, which are not needed, nothing."""
    if not levels:
        raise ValueError("its footer is nested too deeply")
    if kind in (1, 2, 3):  # in a list, also a truth value has a byte
        return file.read(1)[0]
    if kind in (4, 5, 6):
        return _number(file)
    if kind in (7, 8):
        file.seek(8 if kind == 7 else _varint(file), io.SEEK_CUR)
        return None
    if kind in (9, 10):
        head = file.read(1)[0]
        count = head >> 4 if head >> 4 < 15 else _varint(file)
        return [_value(file, head & 15, levels - 1) for _ in range(count)]
    if kind == 12:
        return _struct(file, levels)
    raise ValueError("its footer has a value of an unknown type")
