"""Standard streams that the work outlives: closed, full, not read to the end, or of a narrow encoding."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from facedecode.errors import OutputError


class StandardStream(io.FileIO):
    """The bytes of stdout or stderr.

    Messages (stderr) that cannot be written are lost. Of results (stdout) the first that cannot be written raises
    OutputError, or BrokenPipeError where nobody reads any more. What comes after it is lost: the interpreter flushes
    the stream once more at its end.
    """

    def __init__(self, descriptor: int, of_results: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._of_results = of_results
        self._failed = False

    def write(self, data: Any) -> int:
        """Write what can be written; returns how many bytes are done with."""
        if self._failed:
            return len(data)
        try:
            written = super().write(data)
        except OSError as error:
            if not self._of_results:
                return len(data)
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"cannot write to stdout: {error.strerror or error}; redirect it elsewhere") from error
        if written is None:  # a terminal or pipe that does not block, and is full
            os.set_blocking(self.fileno(), True)
            return self.write(data)
        return written


def open_streams() -> None:
    """Give the program a stdout and a stderr that it can write to, and no file the number of a stream.

    A closed stream becomes the null device: the next file that is opened would get its number, and the messages.
    Characters that the encoding does not have are written as escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
    if os.name == "nt":  # where terminals take characters, and no bytes
        return
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(2, sys.stderr)


def _text(descriptor: int, old: Any) -> io.TextIOWrapper:
    """The stream as text, as Python opened it otherwise; `old` is None where it was closed."""
    return io.TextIOWrapper(
        io.BufferedWriter(StandardStream(descriptor, of_results=descriptor == 1)),
        encoding=old.encoding if old else "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or bool(old and old.line_buffering),
    )
