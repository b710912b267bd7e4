"""What a Parquet file says of its columns, without Arrow."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facedecode.store.parquet_footer import DELTA_BYTE_ARRAY, column_parts

TABLE = pa.table({"a": ["x" * 99] * 40, "b": pa.array([[1.0, 2.0, None]] * 40, pa.list_(pa.float32())), "c": range(40)})


def written(**how: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(TABLE, file, row_group_size=16, **how)
    return file.getvalue()


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_it_says_what_arrow_reads(compression: str) -> None:
    data = written(compression=compression)
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    theirs = [metadata.row_group(group).column(column) for group in range(3) for column in range(3)]
    ours = column_parts(data)
    assert [(each.num_values, each.total_uncompressed_size, len(set(each.encodings))) for each in theirs] == [
        (part.values, part.size, len(part.encodings)) for part in ours
    ]
    assert [part.width for part in ours[:3]] == [8, 4, 8]


def test_shared_beginnings_are_counted_as_often_as_they_come() -> None:
    (text, *_) = column_parts(written(use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}))
    assert DELTA_BYTE_ARRAY in text.encodings and text.unpacked == 16 * text.size


def test_every_cut_or_odd_footer_is_a_value_error() -> None:
    data = written()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    damaged = [footer[:end] for end in range(0, length // 2, 3)] + [b"\x19" * 5000, b"\xff" * 30, b""]
    damaged += [bytes([byte]) + footer[1:] for byte in (0, 0x1B)]
    for each in damaged:
        with pytest.raises(ValueError, match="its footer"):
            column_parts(b"PAR1" + each + len(each).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="cut short"):
        column_parts(b"PAR1" + (1 << 30).to_bytes(4, "little") + b"PAR1")
