"""Downloads that are asked for: resumed where they stopped, and under their final name only when they are whole."""

from __future__ import annotations

import http.client
import json
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

Progress = Callable[[int, int], None]

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def download(
    url: str, path: Path, progress: Progress = lambda *_: None, check: Callable[[Path], object] = lambda _: None
) -> None:
    """Fetch `url` to `path`; what an interrupted run left in `PATH.part` is continued if the server's file is the same.

    Args:
        progress: is told the bytes that are there, and those of the whole file.
        check: is shown the whole file before it gets its name; where it raises, the file is removed.

    Raises:
        MissingWeights: no connection, an error of the server's, or an end before the end; the same call resumes.
        BadInput: the server sent a web page, or more or fewer bytes than it said.
        OutputInUse, OutputError: another run is at it, or the folder cannot be written.
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
    there = part.stat().st_size if part.exists() else 0
    etag = _known_etag(about, url) if there else None
    headers = {"User-Agent": f"facedecode/{__version__}"}
    if there and etag:  # without a tag, nobody can tell whether the rest is the same file's
        headers |= {"Range": f"bytes={there}-", "If-Range": etag}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink()  # longer than the server's file, or just as long: it cannot be told to be the same
        return _fetch(url, part, about, progress)
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise BadInput(f"{url}: the server sent a web page, not the file; fetch it by other means, see --weights")
        resumed = answer.status == 206
        start, total = _extent(answer, url, there)
        if not resumed:
            write_text(about, json_text({"url": url, "etag": answer.headers.get("ETag")}))
        with part.open("ab" if resumed else "wb") as file:
            done = start
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


def _extent(answer: http.client.HTTPResponse, url: str, there: int) -> tuple[int, int]:
    """Where the answer's bytes begin in the file, and the file's length."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        if not found or int(found[1]) != there:
            raise BadInput(f"{url}: the server continued at another place than asked; remove the .part file, run again")
        return there, int(found[2])
    length = answer.headers.get("Content-Length")
    if length is None or not length.isdigit():
        raise BadInput(f"{url}: the server does not say how large the file is; fetch it by other means, see --weights")
    return 0, int(length)


def _known_etag(about: Path, url: str) -> str | None:
    """The strong tag under which the part that is there was fetched, if it was fetched from `url`."""
    try:
        known = json.loads(about.read_text(encoding="utf-8"))
        tag = known["etag"] if known["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tag if isinstance(tag, str) and not tag.startswith("W/") else None
