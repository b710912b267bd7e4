"""How work that takes long tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called with the number of things done, the number of all, and a note.

    The first call comes before any work and tells what an earlier run had done: 0, unless the run resumes.
    """

    def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


Stage = Callable[[str], Progress]  # by the name of a part of the work


def silent(done: int, total: int, note: str = "", /) -> None:
    """The `Progress` of work that nobody watches."""


def silent_stage(name: str, /) -> Progress:
    """The `Stage` of work that nobody watches."""
    return silent
