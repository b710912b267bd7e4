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

from facedecode.files import find_decoder, sha256_file, write_text
from facedecode.report.text import show_estimate
from facedecode.statistics.bootstrap import Estimate

LARGEST = 200_000  # bytes of a table that is kept
MOST = 12  # decoders that are named
HEAD = """# Results

Each folder has `report.json` (every figure with its interval and count), `report.md` (the tables), CSV and figures. In
brackets: 95 % intervals; their version stands below the figures. Version 1 has percentiles for accuracy, ratios, grid
peaks and changes by a protection, basic intervals for linkability, and BCa elsewhere; version 2 is BCa with Student's t
everywhere; version 3 is today's. [CHANGELOG](../../CHANGELOG.md#intervals) has by how much they differ.

The data are Labeled Faces in the Wild (deep-funnelled), all 13,233 images. `sh examples/results.sh NAME` makes a
report, after `sh examples/results.sh inputs` has made the stores and the closed-form decoders, and `networks` the
others that no package brings. Beside each decoder stands the start of its weights' SHA-256: `shipped` and
`dlib-resnet` are the decoder that came with the package when the report was made (now {shipped}). How it and the
decoders `dfd` and `edgeface` were trained stands in [its model card](../../facedecode/weights/dlib-resnet/README.md).
`security-dfd-edgeface` is of an older `dfd` and of `edgeface`, which were not kept. Written by `python
examples/results_index.py docs/results`.
"""
SHIPPED = find_decoder("dlib-resnet") / "decoder.safetensors"


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
    lines = [HEAD.format(shipped=short(sha256_file(SHIPPED)))]
    for path in sorted(folder.glob("*/report.json")):
        lines += section(json.loads(path.read_text(encoding="utf-8")), path.parent.name)
    write_text(folder / "README.md", "\n".join(lines))


def section(report: dict, where: str) -> list[str]:
    """A report's title, headlines, hardware, intervals, decoders and command."""
    lines = [f"## [{where}: {report['title']}]({where}/report.md)", ""]
    for headline in report["headlines"]:
        figure = headline["figure"]
        shown = show_estimate(Estimate(figure["value"], figure["low"], figure["high"], figure["n"]), headline["unit"])
        note = f" ({headline['note']})" if headline["note"] else ""
        lines += [f"- {headline['title']}: {shown}{note}"]
    made = report["provenance"]
    machine = made["environment"]
    used = f"Intervals of version {machine.get('intervals', 1)}; {machine['cpu']}, {machine['cores']} cores, "
    lines += ["", f"{used}torch {machine['torch']}.{decoders_of(made)}", "", "```sh", made["command"], "```", ""]
    return lines


def decoders_of(made: dict) -> str:
    """A report's decoders with the start of their weights' SHA-256; of too many for a line, their number."""
    decoders = made.get("decoders") or {}
    if isinstance(decoders, list):
        decoders = {each["recognizer"]: each for each in decoders}
    hashes = {name: each if isinstance(each, str) else each.get("sha256") for name, each in decoders.items()}
    current = sha256_file(SHIPPED)
    older = {name for name, sha256 in hashes.items() if name == "shipped" and sha256 != current}
    named = [
        f"`{name}` {short(sha256)}{' (an older one)' * (name in older)}" for name, sha256 in hashes.items() if sha256
    ]
    return f" Decoders: {', '.join(named) if len(named) <= MOST else f'{len(named)}, in report.json'}." if named else ""


def short(sha256: str) -> str:
    """The start of a hash, as it is shown."""
    return sha256[:8]


if __name__ == "__main__":
    if len(sys.argv) < 2 or not all(Path(folder).is_dir() for folder in sys.argv[1:]):
        sys.exit("usage: python examples/results_index.py docs/results [REPORT …]")
    results, *reports = map(Path, sys.argv[1:])
    for report in reports:
        adopt(report, results)
    write_index(results)
