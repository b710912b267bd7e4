"""Downloads, resumed where they stopped, and given their final name only when they are whole."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from facedecode import __version__
from facedecode.errors import BadInput, FacedecodeError, MissingWeights, OutputError
from facedecode.files import json_text, locked, make_folder, write_text
from facedecode.progress import Progress, silent
from facedecode.records import read_json

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def download(
    url: str, path: Path, progress: Progress = silent, check: Callable[[Path], object] = lambda _: None
) -> None:
    """Fetch `url` to `path`, going on from `PATH.part` of an interrupted run if the server's file is the same.

    progress: called with (bytes that are there, bytes of the whole file).
    check: called with the whole file before it gets its name; where it raises, the file is removed.

    Raises:
        MissingWeights: no connection, an error of the server, or an early end; the same call resumes.
        BadInput: the server sent a web page, or another number of bytes than it announced.
        OutputInUse, OutputError: another run downloads it, or the folder cannot be written.
    """
    with locked(make_folder(path.parent)):
        part, about = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
        try:
            total = _fetch(url, part, about, progress)
            try:
                if part.stat().st_size != total:
                    raise BadInput(f"{url}: {path.name} came with another size than the server said; run it again")
                check(part)
            except FacedecodeError:
                part.unlink()
                about.unlink()
                raise
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
            about.unlink(missing_ok=True)
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise MissingWeights(
                f"{url}: the download stopped ({reason}); run the same command again, which resumes it, or fetch the "
                "file by other means and pass it with --weights"
            ) from None
        except OSError as error:
            raise OutputError(f"cannot write {part}: {error.strerror or error}") from None


def _fetch(url: str, part: Path, about: Path, progress: Progress) -> int:
    """Bring `part` to its full length, which is returned."""
    size = part.stat().st_size if part.exists() else 0
    etag = _known_etag(about, url) if size else None
    headers = {"User-Agent": f"facedecode/{__version__}"}
    if size and etag:  # without a tag, the rest could be of another file
        headers |= {"Range": f"bytes={size}-", "If-Range": etag}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink()  # at least as long as the server's file: it may be another
        return _fetch(url, part, about, progress)
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise BadInput(f"{url}: the server sent a web page, not the file; fetch it by other means, see --weights")
        resumed = answer.status == 206
        start, total = _extent(answer, url, size)
        if not resumed:
            write_text(about, json_text({"url": url, "etag": answer.headers.get("ETag")}))
        with part.open("ab" if resumed else "wb") as file:
            done = start
            progress(done, total)
            while block := _read(answer):
                file.write(block)
                done += len(block)
                progress(done, total)
    if done < total:
        raise http.client.IncompleteRead(b"", total - done)
    return total


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_BLOCK)
    except OSError as error:  # of the network (no route to the host …), and not of the file that is written
        raise urllib.error.URLError(error.strerror or str(error)) from None


def _extent(answer: http.client.HTTPResponse, url: str, start: int) -> tuple[int, int]:
    """Where the answer's bytes begin in the file, and the file's length. start: where they should if it is resumed."""
    if answer.status == 206:
        parts = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not parts or int(parts[1]) != start:
            raise BadInput(f"{url}: the server continued at another place than asked; remove the .part file, run again")
        return start, int(parts[2])
    length = answer.headers.get("Content-Length")
    if length is None or not length.isdigit():
        raise BadInput(f"{url}: the server does not say how large the file is; fetch it by other means, see --weights")
    return 0, int(length)


def _known_etag(about: Path, url: str) -> str | None:
    """The strong tag under which the part was fetched, if it was fetched from `url`."""
    try:
        recorded = read_json(about)
        tag = recorded["etag"] if recorded["url"] == url else None
    except (BadInput, KeyError):
        return None
    return tag if isinstance(tag, str) and not tag.startswith("W/") else None
