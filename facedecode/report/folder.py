"""A report as a folder: the page, the numbers as JSON and CSV, the figures, and Markdown for a repository.

report.html               all of it on one page that needs no other file
report.json               numbers, gates, provenance, and the list of the files below
report.schema.json        JSON Schema of report.json
report.md                 the same as the page, for who reads in a repository
NAME.csv                  one for each table
figures/NAME.svg or .png  one for each figure
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from facedecode.errors import BadInput, OutputError
from facedecode.files import json_text, require_place
from facedecode.output_folder import is_own_name, output_folder, unfinished_files
from facedecode.records import read_json
from facedecode.report.data import report_json, table_csv
from facedecode.report.gates import GateResult
from facedecode.report.markdown import report_markdown
from facedecode.report.model import Report
from facedecode.report.page import report_page

PAGE, NUMBERS, SCHEMA = "report.html", "report.json", "report.schema.json"
_FIXED = (PAGE, NUMBERS, SCHEMA, "report.md")
_OWN_FILE = re.compile(r"[a-z0-9-]+\.csv|figures/[a-z0-9-]+\.(?:svg|png)")


def require_writable(folder: Path | str, overwrite: bool, call: str = "") -> None:
    """Say before the work that a report cannot be written to `folder`.

    call: what tells apart the calls that make reports (`output_folder.call_fingerprint`): what is there of a killed run
        of the same call is replaced.

    Raises OutputError: it is no folder, cannot be written in, holds a report already, or a part of another call's, and
    `overwrite` is False, or holds files and no report.
    """
    _files_of_old_report(Path(folder), overwrite, call)
    require_place(folder, folder=True)


def write_report(
    report: Report, folder: Path | str, gates: Sequence[GateResult] = (), overwrite: bool = False, call: str = ""
) -> None:
    """Write a report and how its gates went. Equal reports give equal bytes.

    All files are made beside their places first and moved there last, report.html at the very end: where writing
    fails, an old report stays as it was. With `overwrite` the files of the old report that the new one does not
    have are removed; other files in the folder are left alone. call: as in `require_writable`.

    Raises:
        OutputError: as `require_writable`; a file cannot be written, or one that is not the old report's is in
            the way.
        OutputInUse: another run is writing there.
        ValueError: two tables or two figures of one name, a name with other characters than a-z, 0-9 and
            hyphens, a table whose rows do not fit its columns, or numbers that JSON does not have.
    """
    folder = Path(folder)
    files = _contents(report, gates)
    _files_of_old_report(folder, overwrite, call)
    with output_folder(folder, call) as output:
        old = _files_of_old_report(folder, overwrite, call)
        for name in files:
            if name not in old and os.path.lexists(folder / name):
                raise OutputError(f"cannot write {folder / name}: it is no part of the old report; move it away")
        output.replace(files, files.items(), stale=old)


def _contents(report: Report, gates: Sequence[GateResult]) -> dict[str, bytes]:
    """Every file of a report by its relative path, report.json first and report.html last."""
    numbers = report_json(report, gates)
    files: dict[str, str | bytes] = {
        NUMBERS: json_text(numbers),
        SCHEMA: resources.files(__package__).joinpath(SCHEMA).read_text("utf-8"),
    }
    tables = [table for section in report.sections for table in section.tables]
    for entry, table in zip(numbers["tables"], tables, strict=True):
        files[entry["file"]] = table_csv(table)
    pictures = [picture for section in report.sections for picture in section.pictures]
    for entry, picture in zip(numbers["figures"], pictures, strict=True):
        files[entry["file"]] = picture.data
    files["report.md"] = report_markdown(report, gates)
    files[PAGE] = report_page(report, gates)
    # A command line may hold bytes that are not UTF-8, which arrive as lone surrogates.
    return {
        name: data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
        for name, data in files.items()
    }


def _files_of_old_report(folder: Path, overwrite: bool, call: str) -> list[str]:
    """The relative paths of the files of the report that is there, or of a part of one; none where there is none."""
    try:
        present = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise OutputError(f"cannot make the folder {folder}: a file of that name is in the way") from error
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}; name another output") from error
    if all(is_own_name(name) for name in present):
        return []
    unfinished = unfinished_files(folder, call, overwrite)
    if not overwrite and not unfinished and NUMBERS in present:
        raise OutputError(f"{folder} holds a report: give --overwrite to replace it, or name another output")
    try:
        old = read_json(folder / NUMBERS)
        names = [entry["file"] for key in ("tables", "figures") for entry in old[key]]
    except (BadInput, TypeError, KeyError) as error:
        if not unfinished:
            raise OutputError(f"{folder} holds files and no report: name a new or an empty folder") from error
        names = []
    if (folder / "figures").is_symlink():
        raise OutputError(f"{folder / 'figures'} is a link: name another output")
    # Nothing but the names that a report can have is ever removed, whatever the files say.
    others = (name for name in (*names, *unfinished) if isinstance(name, str) and _OWN_FILE.fullmatch(name))
    return [*_FIXED, *others]
