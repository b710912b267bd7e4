"""Errors that a user can act on. Each class carries the exit code that the command line returns for it."""

from __future__ import annotations

from collections.abc import Sequence


class FacedecodeError(Exception):
    """Base of every error that is the input's or the environment's fault rather than a bug.

    The message is one line: what is wrong, with which file, and what to do about it.
    """

    exit_code = 4


class UsageError(FacedecodeError):
    """Arguments that contradict each other or name something unknown."""

    exit_code = 2


class MissingWeights(FacedecodeError):
    """Weights, or an optional dependency, are not installed or not where they were looked for."""

    exit_code = 3


class BadInput(FacedecodeError):
    """Input data that cannot be used: unreadable, malformed, or made for something else."""


class NoFace(BadInput):
    """A perturbation moved the face out of the frame of its picture."""


class OutputError(FacedecodeError):
    """An output that cannot be written: read-only, disk full, or not a regular file or folder."""


class FailedItems(FacedecodeError):
    """The run finished, but some inputs failed and the caller asked to be strict about it."""

    exit_code = 5


class GateMissed(FailedItems):
    """The run finished, its results are written, and a gate of the caller's was missed.

    metrics, outputs: what the command returns where no gate is missed.
    """

    def __init__(self, message: str, metrics: dict, outputs: dict) -> None:
        super().__init__(message)
        self.metrics, self.outputs = metrics, outputs


class OutputInUse(FacedecodeError):
    """Another run holds the output."""

    exit_code = 6


class WouldNotFit(FacedecodeError):
    """The work would not fit in memory; said before it starts."""

    exit_code = 7


class PeerLost(FacedecodeError):
    """Another process of the same run was killed, or says nothing any more."""


class FacedecodeWarning(UserWarning):
    """Something that the user should know and that does not stop the work."""


def some_of(names: Sequence[object], count: int = 3) -> str:
    """The first few names, for a line that says how many there are: 'a, b, c, …'."""
    return ", ".join(map(str, names[:count])) + (", …" if len(names) > count else "")
