"""Time of each command's `--help` against importing typer and rich alone: medians, and their ratios.

python benchmarks/startup.py [COMMAND ...]

The program's own help may take 1.5 times that import, a command's 2.5 times.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from facedecode.cli import commands
from facedecode.evaluation import EVALUATIONS

RUNS = 15
IMPORTS = [sys.executable, "-c", "import typer, rich.console, rich.table, rich.panel"]


def all_commands() -> list[str]:
    """The program ("") and each of its commands, by name."""
    names = [name for section in commands.SECTIONS.values() for name in section]
    return ["", *names, *(f"evaluate {name}" for name in EVALUATIONS)]


def seconds(command: list[str]) -> float:
    """What one run takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    sides = {
        name: [sys.executable, "-m", "facedecode", *name.split(), "--help"] for name in sys.argv[1:] or all_commands()
    }
    times: dict[str, list[float]] = {name: [] for name in ["imports", *sides]}
    for _ in range(RUNS):  # in turn, so that a busy moment hits all
        for name, command in {"imports": IMPORTS, **sides}.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name or "facedecode": round(medians[name] / medians["imports"], 2) for name in sides}
    for name, ratio in ratios.items():
        print(f"{name:26} {ratio:5.2f}")
    print(json.dumps({"imports_seconds": round(medians["imports"], 4), "ratios": ratios, "runs": RUNS}))


if __name__ == "__main__":
    main()
