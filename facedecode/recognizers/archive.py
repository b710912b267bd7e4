"""PyTorch's archives (zip), read strictly: one of which two readers could find different entries is refused.

A check is worth nothing where the program that loads a file reads it otherwise than the check did. So the whole file
has to be accounted for, byte by byte. Of a model file, PyTorch is handed an archive written anew from what was read; of
weights, which can only be tensors, the bytes themselves.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from facedecode.errors import BadInput

_LOCAL, _CENTRAL, _DESCRIPTOR = b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08"
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_MARK_16, _MARK_32 = 0xFFFF, 0xFFFFFFFF  # the number stands in a record of 64 bits
_ENCRYPTED, _DESCRIBED, _UTF8 = 1 << 0, 1 << 3, 1 << 11
_MOST_ENTRIES = 100_000
_MOST_TEXT = 1 << 26  # bytes that the compressed entries of one archive come to


class Damaged(Exception):
    """What is wrong with an archive, for a message that names the file."""


@dataclass(frozen=True)
class _Listed:
    """An entry as the central directory has it."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def read_archive(data: bytes, compressed: str = "") -> dict[str, memoryview]:
    """The entries of an archive of one folder by their names in it; all of them are checked against their CRC.

    data: the whole file. compressed: entries whose names begin so may be compressed; PyTorch stores all others.

    Raises Damaged: truncated, or anything that PyTorch does not write: bytes before, between or behind the entries,
    entries that are encrypted, listed twice or lie over each other, names that leave the folder.
    """
    view = memoryview(data)
    entries: dict[str, memoryview] = {}
    roots, spellings, at, text = set(), set(), 0, 0
    listed, end = _directory(data)
    for each in listed:
        if each.offset != at:
            raise Damaged("its entries do not follow one another")
        content, at = _content(view, each)
        root, name = _inner_name(each.name)
        if each.method:
            if not compressed or not name.startswith(compressed):
                raise Damaged(f"{name} is compressed, and PyTorch stores it")
            content = _unpacked(content, min(each.size, _MOST_TEXT - text))
            text += each.size
        if len(content) != each.size or zlib.crc32(content) != each.crc:
            raise Damaged(f"{name} is not what was written (CRC)")
        # PyTorch finds an entry in capitals by its name in small letters, too.
        if name.lower() in spellings:
            raise Damaged(f"{name} is there twice")
        roots.add(root)
        spellings.add(name.lower())
        entries[name] = content
    if at != end:
        raise Damaged("bytes between its entries and its directory")
    if len(roots) != 1:
        raise Damaged("not one model in one folder")
    return entries


def write_archive(entries: Mapping[str, bytes | memoryview]) -> io.BytesIO:
    """An archive of these entries as PyTorch reads it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            with archive.open(
                zipfile.ZipInfo(f"archive/{name}"), "w", force_zip64=len(content) > _MARK_32 // 2
            ) as file:
                file.write(content)
    buffer.seek(0)
    return buffer


def require_archive(path: object, data: bytes, compressed: str = "") -> dict[str, memoryview]:
    """`read_archive`, with BadInput naming the file."""
    try:
        return read_archive(data, compressed)
    except Damaged as error:
        raise BadInput(f"{path}: truncated or damaged ({error}); save it again, or download it again") from None


def _directory(data: bytes) -> tuple[list[_Listed], int]:
    """The entries that the central directory lists, and where it begins: it has to reach to the end of the file."""
    end = len(data) - 22
    if end < 0 or data[end : end + 4] != _END or data[-2:] != b"\0\0":
        raise Damaged("its end is missing")
    disks, count, size, offset = _numbers("<4xI2xHII", data, end)
    if data[end + 8 : end + 10] != data[end + 10 : end + 12] or disks:
        raise Damaged("a part of several")
    stop = end
    if data[end - 20 : end - 16] == _LOCATOR_64 and end >= 76:
        stop = end - 76
        where, size_64, offset_64, count_64 = _end_64(data, stop)
        for short, long, mark in (
            (count, count_64, _MARK_16),
            (size, size_64, _MARK_32),
            (offset, offset_64, _MARK_32),
        ):
            if short not in (long, mark):
                raise Damaged("its two ends differ")
        if where != stop:
            raise Damaged("its two ends differ")
        count, size, offset = count_64, size_64, offset_64
    if offset + size != stop or not 0 < count <= _MOST_ENTRIES:
        raise Damaged("its directory is not at its end")
    listed, at = [], offset
    for _ in range(count):
        each, at = _next_listed(data, at, stop)
        listed.append(each)
    if at != stop:
        raise Damaged("its directory has another length")
    return listed, offset


def _end_64(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Where the locator says that the end of 64 bits is, and the size, place and length of the directory in that."""
    if data[at : at + 4] != _END_64 or _numbers("<Q", data, at + 4) != (44,):
        raise Damaged("its end is missing")
    disk, directory_disk, here, count, size, offset = _numbers("<IIQQQQ", data, at + 16)
    _, where, disks = _numbers("<IQI", data, at + 60)
    if disk or directory_disk or disks > 1 or here != count:
        raise Damaged("a part of several")
    return where, size, offset, count


def _next_listed(data: bytes, at: int, stop: int) -> tuple[_Listed, int]:
    if data[at : at + 4] != _CENTRAL or at + 46 > stop:
        raise Damaged("its directory is damaged")
    flags, method, crc, packed, size = _numbers("<8xHH4xIII", data, at)
    name, extra, comment, disk, offset = _numbers("<28xHHHH6xI", data, at)
    end = at + 46 + name + extra + comment
    if end > stop or comment or disk:
        raise Damaged("its directory is damaged")
    wide = [number == _MARK_32 for number in (size, packed, offset)]
    numbers = iter(_wide_numbers(data[at + 46 + name : end], sum(wide)))
    size, packed, offset = (
        next(numbers) if is_wide else number for is_wide, number in zip(wide, (size, packed, offset), strict=True)
    )
    return _Listed(data[at + 46 : at + 46 + name], flags, method, crc, packed, size, offset), end


def _wide_numbers(extra: bytes, count: int) -> list[int]:
    """Numbers of 64 bits in an entry's extra field."""
    at = 0
    while count and at + 4 <= len(extra):
        kind, length = _numbers("<HH", extra, at)
        if kind == 1 and length >= 8 * count and at + 4 + length <= len(extra):
            return list(_numbers(f"<{count}Q", extra, at + 4))
        at += 4 + length
    if count:
        raise Damaged("an entry without its length")
    return []


def _content(view: memoryview, entry: _Listed) -> tuple[memoryview, int]:
    """The bytes of an entry as they lie in the archive, and where the next begins."""
    at = entry.offset
    if at + 30 > len(view) or view[at : at + 4] != _LOCAL:
        raise Damaged("an entry is not where its directory says")
    flags, method, crc, packed, size, name, extra = _numbers("<6xHH4xIIIHH", view, at)
    if flags & _ENCRYPTED or entry.flags & _ENCRYPTED:
        raise Damaged("encrypted")
    if (flags, method) != (entry.flags, entry.method) or flags & ~(_DESCRIBED | _UTF8) or method not in (0, 8):
        raise Damaged("an entry that PyTorch does not write")
    if view[at + 30 : at + 30 + name] != entry.name:
        raise Damaged("an entry with two names")
    start = at + 30 + name + extra
    end = start + entry.packed
    if end > len(view) or (not method and entry.packed != entry.size):
        raise Damaged("an entry of two lengths")
    here, there = (crc, packed, size), (entry.crc, entry.packed, entry.size)
    wide = _MARK_32 in here[1:]
    if not wide and here != there and not (flags & _DESCRIBED and here == (0, 0, 0)):
        raise Damaged("an entry of two lengths")
    if not flags & _DESCRIBED:
        if wide and _wide_numbers(bytes(view[at + 30 + name : start]), 2) != [entry.size, entry.packed]:
            raise Damaged("an entry of two lengths")
        return view[start:end], end
    for layout in ("<4sIII", "<4sIQQ"):
        length = struct.calcsize(layout)
        if end + length <= len(view) and struct.unpack_from(layout, view, end) == (_DESCRIPTOR, *there):
            return view[start:end], end + length
    raise Damaged("an entry of two lengths")


def _unpacked(content: memoryview, most: int) -> memoryview:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, most + 1)
    except zlib.error as error:
        raise Damaged(str(error)) from None
    if len(unpacked) > most or not unpacker.eof or unpacker.unused_data:
        raise Damaged("an entry of two lengths, or one that unpacks to too much")
    return memoryview(unpacked)


def _inner_name(name: bytes) -> tuple[str, str]:
    """The folder of an entry and its name in it."""
    try:
        root, slash, inner = name.decode().partition("/")
    except UnicodeDecodeError:
        raise Damaged("an entry without a name") from None
    parts = [root, *inner.split("/")]
    if not slash or not all(part.isprintable() and part not in ("", ".", "..") for part in parts) or "\\" in inner:
        raise Damaged(f"an entry is called {name[:60]!a}")
    return root, inner


def _numbers(layout: str, data: bytes | memoryview, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error:
        raise Damaged("it ends early") from None
