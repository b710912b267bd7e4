"""A report as one HTML page that needs nothing else: no script, no network, figures and style inside."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence

from facedecode import __version__
from facedecode.escaping import visible
from facedecode.report.gates import GateResult
from facedecode.report.model import Picture, Report
from facedecode.report.text import NOTHING, interval_note, show_cell, show_gate, show_interval, show_number

_MEDIA = {"png": "image/png", "svg": "image/svg+xml"}


def report_page(report: Report, gates: Sequence[GateResult] = ()) -> str:
    """The page. All text is escaped: names of files and people stand there as they are, control characters as codes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facedecode", "report"),
        autoescape=True,
        finalize=lambda value: visible(value, keep="\n\t") if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        show_cell=show_cell, show_number=show_number, show_interval=show_interval, data_uri=_data_uri
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        version=__version__,
        gates=[show_gate(result) for result in gates],
        missed=sum(not result.passed for result in gates),
        brackets=interval_note(report),
        command=report.provenance.get("command"),
        made_with=list(_leaves("", {name: x for name, x in report.provenance.items() if name != "command"})),
    )


def _data_uri(picture: Picture) -> str:
    return f"data:{_MEDIA[picture.kind]};base64,{base64.b64encode(picture.data).decode('ascii')}"


def _leaves(title: str, value: Mapping) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Nested JSON as flat tables: the way to each and its rows (name, text)."""
    deeper: list[tuple[str, Mapping]] = []
    rows = []
    for name, item in value.items():
        path = f"{title} › {name}" if title else str(name)
        if isinstance(item, Mapping):
            deeper.append((path, item))
        elif isinstance(item, list | tuple) and item and all(isinstance(part, Mapping) for part in item):
            deeper += [(f"{path} {number}" if len(item) > 1 else path, part) for number, part in enumerate(item, 1)]
        else:
            rows.append((str(name), _plain(item)))
    if rows:
        yield title, rows
    for path, part in deeper:
        yield from _leaves(path, part)


def _plain(value: object) -> str:
    """A JSON value in words."""
    if value is None or value in ([], (), "", {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(part) for part in value)
    return str(value)
