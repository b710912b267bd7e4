"""Downloads from a server on this machine: whole, resumed, cut, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from facedecode.download import download
from facedecode.errors import BadInput, MissingWeights, OutputInUse
from facedecode.files import locked

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Serves `content`; the other attributes are how it misbehaves. `asked`: the headers of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.kind = CONTENT, '"one"', "application/octet-stream"
        self.cut: int | None = None  # bytes after which the connection ends
        self.status: int | None = None
        self.says_length, self.resumes, self.shift = True, True, 0
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/some/w.pt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, headers = self.server, dict(self.headers)
        server.asked.append(headers)
        if server.status:
            return self.send_error(server.status)
        start, total = 0, len(server.content)
        asked = headers.get("Range")
        if asked and server.resumes and headers.get("If-Range") in (None, server.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{total - 1}/{total}")
        if server.says_length:
            self.send_header("Content-Length", str(total - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        self.wfile.write(server.content[start:][: server.cut])
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as here:
        thread = threading.Thread(target=here.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield here
        here.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    download(server.url, tmp_path / "cache" / "w.pt", lambda *now: told.append(now))
    assert (tmp_path / "cache" / "w.pt").read_bytes() == CONTENT and names(tmp_path / "cache") == ["w.pt"]
    assert told[-1] == (len(CONTENT),) * 2 and told == sorted(told) and "Range" not in server.asked[0]


def cut(server: Server, path: Path, after: int = 300_000) -> None:
    server.cut = after
    with pytest.raises(MissingWeights, match=r"w\.pt: the download stopped \(.*\); run the same command again"):
        download(server.url, path)
    server.cut = None
    assert names(path.parent) == ["w.pt.part", "w.pt.part.json"]
    assert (path.parent / "w.pt.part").read_bytes() == CONTENT[:after]


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    path, told = tmp_path / "w.pt", []
    cut(server, path)
    server.cut = 200_000
    with pytest.raises(MissingWeights):
        download(server.url, path)
    server.cut = None
    download(server.url, path, lambda *now: told.append(now))
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["w.pt"] and told[0][0] == 500_000


@pytest.mark.parametrize(
    "change", ["another file", "no ranges", "weak tag", "no record", "another url", "shorter file"]
)
def test_it_starts_over_where_the_rest_may_be_anothers(change: str, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    if change == "weak tag":
        server.etag = 'W/"one"'
    cut(server, path)
    if change == "another file":
        server.content, server.etag = CONTENT[::-1], '"two"'
    elif change == "no ranges":
        server.resumes = False
    elif change == "no record":
        (tmp_path / "w.pt.part.json").unlink()
    elif change == "another url":
        about = tmp_path / "w.pt.part.json"
        about.write_text(json.dumps({"url": "http://127.0.0.1/x", "etag": server.etag}))
    elif change == "shorter file":
        server.content = CONTENT[:1000]  # under the same tag
    download(server.url, path)
    assert path.read_bytes() == server.content and names(tmp_path) == ["w.pt"]


def test_what_is_not_the_file_is_refused(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    server.status = 404
    with pytest.raises(MissingWeights, match=r"the download stopped \(Not Found\).*--weights"):
        download(server.url, path)
    server.status, server.kind = None, "text/html; charset=utf-8"
    with pytest.raises(BadInput, match="a web page, not the file"):
        download(server.url, path)
    server.kind, server.says_length = "application/octet-stream", False
    with pytest.raises(BadInput, match="does not say how large"):
        download(server.url, path)
    assert names(tmp_path) == []
    server.says_length = True
    cut(server, path)
    server.shift = 7
    with pytest.raises(BadInput, match="at another place than asked"):
        download(server.url, path)
    assert names(tmp_path) == ["w.pt.part", "w.pt.part.json"]


def test_a_file_that_fails_its_check_never_gets_its_name(server: Server, tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == CONTENT
        raise BadInput("no weights")

    with pytest.raises(BadInput, match="no weights"):
        download(server.url, tmp_path / "w.pt", check=refuse)
    assert names(tmp_path) == []


def test_no_connection(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(MissingWeights, match=r"the download stopped \(.*refused.*\)"):
        download(url, tmp_path / "w.pt")


def test_one_run_at_a_time(server: Server, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(OutputInUse):
        download(server.url, tmp_path / "w.pt")
    assert not server.asked
