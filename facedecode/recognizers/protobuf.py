"""Messages of Protocol Buffers, walked field by field without their package: nothing is kept, and nothing is run.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and what it holds. Raises ValueError."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if not 8 <= key < 1 << 32:  # ONNX Runtime keeps 32 bits of it, and would read another field than we did
            raise ValueError("no number of a field")
        if kind == 0:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _number(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if at + length > len(message):
            raise ValueError("it ends early")
        yield key >> 3, message[at : at + length]
        at += length


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends. Raises ValueError: it is no shortest form of one of 64 bits."""
    number, shift = 0, 0
    while at < len(message) and shift < 70:
        number |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 0x80:
            if number >= 1 << 64 or (message[at - 1] == 0 and shift > 7):
                break
            return number, at
    raise ValueError("it ends early")
