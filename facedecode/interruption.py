"""Ctrl-C and SIGTERM: they end the program at any moment, in order where that is possible."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

GRACE = 8.0  # seconds to end in order: to remove temporary files, and to tell other processes of the run
HURRY = 2.0  # the same, once there was another signal
PATIENCE = 1.0  # seconds that an import may take to end
_AGAIN = 0.03  # seconds between two looks at whether an import has ended
_ENDS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
_asked: signal.Signals | None = None  # the first signal that asked for the end
_raised = False
_told = False
_since = 0.0  # when it came, s
# What a command says that ends in the middle of an import: its line and the exit code.
announce: Callable[[str, int], None] | None = None


def asked() -> tuple[str, int] | None:
    """The line and the exit code of the signal that came; None if none did."""
    if _asked is None:
        return None
    word, code = _ENDS[_asked]
    return f"{word}; the same command resumes where it can", code


def told() -> None:
    """An error line was written: nothing else is to be said."""
    global _told
    _told = True


def listen() -> None:
    """From now on, SIGINT raises KeyboardInterrupt in the main thread, and SIGTERM SystemExit(143).

    While a module is imported, the exception waits for the end of the import: raised there, it would be turned into
    another, or be lost. An import that takes more than `PATIENCE` seconds is not waited for: the process ends. In
    callbacks and destructors the exception is lost, too; it is then raised once more. Whatever happens, the process is
    gone `GRACE` seconds later, and `HURRY` seconds after a second signal.
    """
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent wants it to be ignored
        signal.signal(signal.SIGINT, _handle)
    if not hasattr(signal, "setitimer"):  # Windows
        return
    signal.signal(signal.SIGALRM, _handle)
    shown = sys.unraisablehook

    def lost(error: Any) -> None:
        if _asked is None:
            shown(error)
        elif issubclass(error.exc_type, KeyboardInterrupt | SystemExit):
            _raise_again()

    sys.unraisablehook = lost
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    with contextlib.suppress(RuntimeError):  # the system gives no thread: then only the end in order is left
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def ignore() -> None:
    """The work is over: what comes now changes nothing any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked, _raised, _since
    if number in _ENDS and _asked is None:
        _asked, _since = signal.Signals(number), time.monotonic()
    if _asked is None or _raised:
        return
    if _importing(frame):
        if time.monotonic() - _since > PATIENCE and announce is not None:
            announce(*asked())
            end(_ENDS[_asked][1])
        _raise_again()
        return
    _raised = True
    raise KeyboardInterrupt if _asked == signal.SIGINT else SystemExit(_ENDS[_asked][1])


def _raise_again() -> None:
    global _raised
    _raised = False
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)


def _importing(frame: FrameType | None) -> bool:
    if not hasattr(signal, "setitimer"):
        return False
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch(reader: int) -> None:
    """End the process if it has not ended in time after a signal."""
    while os.read(reader, 1)[0] not in _ENDS:
        pass
    until = time.monotonic() + GRACE
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        if os.read(reader, 1)[0] in _ENDS:
            until = min(until, time.monotonic() + HURRY)
    line, code = asked() or ("interrupted", 130)
    shown = "\x1b[?25h\n" if os.isatty(2) else ""  # a bar hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, shown.encode() if _told else f"{shown}error: {line}\n".encode())
    os._exit(code)


def end(code: Any) -> NoReturn:
    """Leave the program. Raises SystemExit; after a signal the process ends here, without waiting for its threads."""
    ignore()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if _asked is not None and code in (130, 143):
        os._exit(code)
    raise SystemExit(code)
