"""The index of docs/results, written from the results.json of each result.

    python examples/results_index.py docs/results

The scripts that write a result call it themselves. A results.json has title, shows, command, data, protocol and
environment.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from facedecode.files import write_text


def command_line() -> str:
    """The command that is running, as one would type it from the repository's root."""
    return shlex.join(["python", *sys.argv])


def finish(output: Path) -> None:
    """Write the index anew if `output` is one of the results of an index."""
    if (output.parent / "README.md").is_file():
        write_index(output.parent)


def write_index(folder: Path) -> None:
    """Write README.md from the results below `folder`."""
    lines = [
        "# Results",
        "",
        "Each folder has `results.json` (every figure with its interval and count), `results.md` (the table) and the",
        "figures. Written by `python examples/results_index.py docs/results` from those files.",
        "",
    ]
    for path in sorted(folder.glob("*/results.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        where = path.parent.name
        table = f"{where}/results.md" if (path.parent / "results.md").is_file() else f"{where}/results.json"
        lines += [f"## [{result.get('title', where)}]({table})", ""]
        if "shows" in result:
            lines += [result["shows"], ""]
        for title, key in (("Data", "data"), ("Protocol", "protocol")):
            if key in result:
                lines += [f"- {title}: {result[key]}"]
        if machine := result.get("environment"):
            used = [machine["cpu"], f"{machine['cores']} cores", f"torch {machine['torch']}"]
            used += [f"{result['seconds']} s"] if "seconds" in result else []
            lines += [f"- Hardware: {', '.join(used)}"]
        if "command" in result:
            lines += ["- Command:", "", "  ```sh", f"  {result['command']}", "  ```"]
        lines += [""]
    write_text(folder / "README.md", "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python examples/results_index.py docs/results")
    write_index(Path(sys.argv[1]))
