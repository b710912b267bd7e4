"""Keep a report among the results, and write their index.

    python examples/results_index.py docs/results REPORT …

copies each REPORT (the folder that `facedecode evaluate … -o` or a script of benchmarks/ wrote) to docs/results, less
its HTML page and the tables of one row an image, which the command makes again; then writes docs/results/README.md.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from facedecode.files import write_text
from facedecode.report.text import show_estimate
from facedecode.statistics.bootstrap import Estimate

LARGEST = 200_000  # bytes of a table that is kept
HEAD = """# Results

Each folder has `report.json` (every figure with its interval and count), `report.md` (the tables), CSV and figures. In
brackets: 95 % intervals. Written by `python examples/results_index.py docs/results`. Reports made before the intervals
became one kind have percentiles for accuracy, ratios, grid peaks and changes by a protection, and basic intervals for
linkability; [CHANGELOG](../../CHANGELOG.md) has by how much they differ.

The data are Labeled Faces in the Wild (deep-funnelled), all 13,233 images. Its stores and the closed-form decoders are
made by these commands; `shipped` is the decoder that came with the package when the report was made (each report
has its hash), and how it and the decoders `dfd` and `edgeface` were trained stands in [docs/decoder.md](../decoder.md).

```sh
facedecode extract ../shared/data/lfw/images -o emb
facedecode extract ../shared/data/lfw/images -o emb-edgeface --model edgeface-xxs \\
    --weights ../shared/weights/edgeface_xxs.safetensors
for kind in mean-face nearest ridge; do
    facedecode train emb --architecture $kind -o decoders/$kind \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush
done
for kind in mean-face nearest ridge; do
    facedecode train emb-edgeface --architecture $kind -o decoders/edgeface-$kind \\
        --people ../shared/data/lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush
done
```
"""


def adopt(report: Path, results: Path) -> None:
    """Copy a report, less what is large and can be made again."""
    target = results / report.name
    shutil.rmtree(target, ignore_errors=True)
    large = {path.name for path in report.glob("*.csv") if path.stat().st_size > LARGEST}
    skipped = shutil.ignore_patterns("report.html", "report.schema.json", *large)
    shutil.copytree(report, target, ignore=skipped)
    page = target / "report.md"
    text = page.read_text(encoding="utf-8")
    for name in large:
        text = text.replace(f"[{name}]({name})", f"{name} (not kept here; the command writes it)")
    write_text(page, text)


def write_index(folder: Path) -> None:
    """Write README.md from the results below `folder`."""
    lines = [HEAD]
    for path in sorted(folder.glob("*/report.json")):
        lines += section(json.loads(path.read_text(encoding="utf-8")), path.parent.name)
    write_text(folder / "README.md", "\n".join(lines))


def section(report: dict, where: str) -> list[str]:
    """A report's title, headlines, hardware and command."""
    lines = [f"## [{where}: {report['title']}]({where}/report.md)", ""]
    for headline in report["headlines"]:
        figure = headline["figure"]
        shown = show_estimate(Estimate(figure["value"], figure["low"], figure["high"], figure["n"]), headline["unit"])
        note = f" ({headline['note']})" if headline["note"] else ""
        lines += [f"- {headline['title']}: {shown}{note}"]
    made = report["provenance"]
    machine = made["environment"]
    used = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"
    return [*lines, "", f"{used}:", "", "```sh", made["command"], "```", ""]


if __name__ == "__main__":
    if len(sys.argv) < 2 or not all(Path(folder).is_dir() for folder in sys.argv[1:]):
        sys.exit("usage: python examples/results_index.py docs/results [REPORT …]")
    results, *reports = map(Path, sys.argv[1:])
    for report in reports:
        adopt(report, results)
    write_index(results)
