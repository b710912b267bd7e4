"""Entry point of the command line."""

from __future__ import annotations

import codecs
import os
import sys
from typing import NoReturn

from facedecode import interruption
from facedecode.streams import open_streams


def main() -> NoReturn:
    """Run the command line; the exit codes are listed in docs/command-line.md."""
    _take_utf8()
    open_streams()
    interruption.listen()
    try:
        code = _run()
    except BaseException as error:
        from facedecode.cli.app import end_with

        code = end_with(error, sys.argv[1:])
    interruption.end(code)


def _run() -> int:
    from facedecode.cli import app

    code = app(prog_name="facedecode", standalone_mode=False)
    sys.stdout.flush()  # here a disk that is full is said, at the interpreter's end it is not
    return code


def _take_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has ASCII only: names of files are UTF-8 in stores."""
    narrow = os.name == "posix" and codecs.lookup(sys.getfilesystemencoding()).name == "ascii"
    if narrow and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
