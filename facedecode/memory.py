"""Refuse work that would not fit in memory, before it starts or where it asks for more than there is; share it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from facedecode.errors import WouldNotFit

try:
    import resource
except ImportError:  # Windows, which refuses such a request by itself
    resource = None

_SPARE = 1 << 31  # of addresses, for threads and libraries that reserve more than they use
_MEMINFO = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")  # version 2, as a container sees its own
# A non-mated score takes 4 bytes; sorting a copy of them, and finding the highest, takes the rest.
_BYTES_A_PAIR = 24


def available_bytes() -> int | None:
    """Memory that a process can still get, bytes; None where the system does not tell."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _left_in_container())
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _left_in_container() -> int:
    """What a container's limit leaves, bytes, for files in memory can be dropped. Without one, endless."""
    try:
        most, used = (int((_CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
        held = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(held["active_file"]) + int(held["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no limit is the word "max"
        return sys.maxsize


@contextlib.contextmanager
def within_memory() -> Iterator[None]:
    """Let a request for more memory than there is fail inside the block; else Linux grants it and ends the process.

    The bound is on the addresses of the whole process, by the memory that is free when the block begins. Between
    threads it is best effort: blocks that overlap share the bound of the first, and it ends with that one.

    Raises MemoryError, or RuntimeError by PyTorch, where a stranger's program makes such a request.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
    except (OSError, ValueError, AttributeError):
        yield
        return
    most = pages * os.sysconf("SC_PAGE_SIZE") + (available_bytes() or 0) + _SPARE
    unlimited = before[0] == resource.RLIM_INFINITY
    try:
        if unlimited:  # else somebody has set one, or another thread is inside such a block
            resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
        yield
    finally:
        if unlimited:
            resource.setrlimit(resource.RLIMIT_AS, before)


def require_memory_for_pairs(images: int, probes: int | None = None) -> None:
    """Raise WouldNotFit if the scores of all pairs of so many images (or of each with each probe) would not fit."""
    pairs = images * (images - 1) // 2 if probes is None else images * probes
    require_memory(_BYTES_A_PAIR * pairs, f"comparing {pairs:,} pairs", "take fewer people with --people")


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Raise WouldNotFit if `needed` bytes are more than there is; `what` needs them, `remedy` needs fewer."""
    available = available_bytes()
    if available is not None and needed > available:
        raise WouldNotFit(
            f"{what} would take {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB are free; {remedy}"
        )


class Budget:
    """Bytes that threads share: one that needs more than is left waits, and those after it wait behind it.

    total: bytes. One thread may take all of it, however much it needs.
    """

    def __init__(self, total: int) -> None:
        self._total = self._left = total
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, needed: int) -> Iterator[None]:
        """A block in which so many bytes are this thread's. A thread that has some takes no more of them."""
        needed = min(needed, self._total)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self._left >= needed)
                self._left -= needed
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._left += needed
                self._changed.notify_all()
