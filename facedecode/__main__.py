"""Entry point of the command line."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line; the exit codes are listed in docs/command-line.md."""

    def terminate(*_: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, terminate)
    try:
        from facedecode.cli import app
        from facedecode.cli.app import speaks
        from facedecode.cli.console import failure_json, has_answered

        try:
            app(prog_name="facedecode")
        except SystemExit as stop:
            # The parser's own refusals happen before a command runs; with --json they are an object, too.
            if stop.code == 2 and "--json" in sys.argv and not has_answered() and speaks(os.environ):
                command = " ".join(a for a in sys.argv[1:2] if not a.startswith("-"))
                failure_json(command, "wrong usage; see stderr", 2)
            raise
    except KeyboardInterrupt:  # before or after a command's own work, which tells more
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
