"""Time of `facedecode --help` against importing typer and rich alone; prints the ratio of medians.

python benchmarks/startup.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

RUNS = 15
SIDES = {
    "help": [sys.executable, "-m", "facedecode", "--help"],
    "imports": [sys.executable, "-c", "import typer, rich.console, rich.table, rich.panel"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(RUNS):  # in turn, so that a busy moment hits both
        for name, command in SIDES.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    seconds = {name: round(statistics.median(values), 4) for name, values in times.items()}
    print(json.dumps({"seconds": seconds, "ratio": round(seconds["help"] / seconds["imports"], 2), "runs": RUNS}))


if __name__ == "__main__":
    main()
