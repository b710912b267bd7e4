"""`facedecode models`: what is here and what is missing, and downloads from a server on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from facedecode import models
from facedecode.cli import app
from facedecode.decoders import load_decoder
from facedecode.errors import BadInput, MissingWeights
from facedecode.files import sha256_file
from facedecode.models import list_decoders, list_recognizers
from facedecode.recognizers import REGISTRY, load_recognizer
from facedecode.recognizers.cache import use_cache

DOWNLOADS = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *(str(a) for a in arguments)])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`tiny` with a download; the file that is served, which a test may change."""
    folder = tmp_path / "server"
    folder.mkdir()
    file = folder / "tiny-v1.safetensors"
    file.write_bytes(tiny.read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{file.name}"
        monkeypatch.setitem(REGISTRY, "tiny", dataclasses.replace(REGISTRY["tiny"], url=url))
        yield file
        server.shutdown()
        thread.join()


# ---------------------------------------------------------------- the list


def test_every_recognizer_and_decoder_is_listed(weights_cache: Path) -> None:
    done = call()
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, one in REGISTRY.items():
        row = next(line.split() for line in lines if line.split()[:1] == [name])
        assert str(one.dim) in row and ("here" in row) == any(map(Path.is_file, one.package_places())), row
    assert any(line.startswith("facenet-vggface2: run 'facedecode models --download facenet-vgg") for line in lines)
    assert any("LFW, for research use" in line for line in lines)  # from the decoder's model card
    assert lines[-1] == f"downloads go to {weights_cache}" and not weights_cache.exists()


def test_json_has_all_of_it(weights_cache: Path) -> None:
    answer = json.loads(call("--json").stdout)
    assert answer["outputs"] == {"cache": str(weights_cache), "downloaded": {}}
    rows = {row["name"]: row for row in answer["metrics"]["recognizers"]}
    assert list(rows) == list(REGISTRY)
    assert (rows["resnet50"]["dim"], rows["resnet50"]["channel_order"]) == (2048, "BGR")
    assert Path(rows["dlib-resnet"]["weights"]).is_file() and rows["dlib-resnet"]["missing"] is None
    for name, file in (
        ("facenet-vggface2", "20180402-114759-vggface2.pt"),
        ("facenet-casia-webface", "20180408-102900-casia-webface.pt"),
    ):
        assert rows[name]["url"] == f"{DOWNLOADS}/{file}"
        assert rows[name]["looked_in"] == [*map(str, REGISTRY[name].package_places()), str(weights_cache / file)]
    (decoder,) = answer["metrics"]["decoders"]
    loaded = load_decoder("dlib-resnet")
    assert (decoder["dim"], decoder["image_size"], decoder["kind"]) == (loaded.dim, loaded.image_size, loaded.kind)


def test_the_downloads_are_those_of_the_package() -> None:
    import inspect

    from facenet_pytorch.models import inception_resnet_v1

    source = inspect.getsource(inception_resnet_v1.load_weights)
    assert all(one.url in source for one in REGISTRY.values() if one.name.startswith("facenet"))


def test_the_list_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom facedecode.cli import app\n"
        "assert CliRunner().invoke(app, ['models']).exit_code == 0\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'facenet_pytorch') if name in sys.modules])\n"
    )
    where = os.environ | {"FACEDECODE_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=where)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_package_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    monkeypatch.setattr("facedecode.recognizers.spec.find_spec", lambda name: None)
    rows = {row["name"]: row for row in list_recognizers()}
    assert rows["edgeface-xxs"]["missing"].endswith("install the package timm")
    assert rows["dlib-resnet"]["weights"] is None and "face-recognition-models" in rows["dlib-resnet"]["missing"]


def test_a_damaged_decoder_is_named(tmp_path: Path) -> None:
    assert list_decoders(tmp_path) == []
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "decoder.json").write_text("{}")
    with pytest.raises(BadInput, match=r"x.decoder\.json: not a decoder's description"):
        list_decoders(tmp_path)


# ---------------------------------------------------------------- downloads


def test_a_download_makes_a_recognizer_work(served: Path, weights_cache: Path) -> None:
    with pytest.raises(MissingWeights, match=r"tiny: no weights; looked in .*tiny-v1\.safetensors"):
        load_recognizer("tiny")
    done = call("--download", "tiny", "--json")
    assert done.exit_code == 0, done.stderr
    path = weights_cache / served.name
    assert json.loads(done.stdout)["outputs"]["downloaded"] == {"tiny": str(path)}
    assert "tiny: 1/1" in done.stderr and sorted(p.name for p in weights_cache.iterdir()) == [
        served.name,
        f"{served.name}.json",
    ]
    sha256 = sha256_file(served)
    assert json.loads((weights_cache / f"{served.name}.json").read_text()) == {
        "sha256": sha256,
        "bytes": served.stat().st_size,
        "url": REGISTRY["tiny"].url,
    }
    assert load_recognizer("tiny").weights_sha256 == sha256
    assert "tiny" in call().stdout and call("--download", "tiny", "--offline").exit_code == 0  # it is here, and whole
    served.unlink()
    assert call("--download", "tiny").exit_code == 0  # not fetched again


def test_the_cache_is_where_the_environment_or_the_option_says(
    served: Path, tmp_path: Path, weights_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with use_cache(None):
        assert call("--download", "tiny").exit_code == 0
    assert (tmp_path / "xdg" / "facedecode" / served.name).is_file()
    monkeypatch.setenv("FACEDECODE_CACHE", str(tmp_path / "named"))
    assert call("--download", "tiny").exit_code == 0
    assert call("--download", "tiny", "--cache", tmp_path / "option").exit_code == 0
    assert all((tmp_path / name / served.name).is_file() for name in ("named", "option"))
    assert not weights_cache.exists()


def test_a_file_that_changed_is_refused(served: Path, weights_cache: Path, tiny: Path) -> None:
    assert call("--download", "tiny").exit_code == 0
    path = weights_cache / served.name
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for refused in (lambda: load_recognizer("tiny"), lambda: load_recognizer("tiny", path)):
        with pytest.raises(BadInput, match=r"changed since it was downloaded \(sha256 .*remove it and download"):
            refused()
    done = call("--download", "tiny")
    assert done.exit_code == 4 and "changed since it was downloaded" in done.stderr
    path.with_name(f"{path.name}.json").write_text("[]")
    with pytest.raises(BadInput, match=r"\.json: not a usable record"):
        load_recognizer("tiny")


def test_a_file_put_there_by_hand_is_recorded_on_first_use(served: Path, weights_cache: Path, tiny: Path) -> None:
    weights_cache.mkdir()
    path = weights_cache / served.name
    path.write_bytes(tiny.read_bytes())
    sha256 = load_recognizer("tiny").weights_sha256
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["sha256"] == sha256
    load_recognizer("tiny", tiny)
    assert not tiny.with_name(f"{tiny.name}.json").exists()  # a file of the user's is the user's


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_what_comes_and_is_no_weights_is_not_kept(content: bytes, served: Path, weights_cache: Path) -> None:
    served.write_bytes(content)
    done = call("--download", "tiny", "--json")
    assert done.exit_code == 4 and json.loads(done.stdout)["ok"] is False
    assert "web page" in done.stderr or "git-LFS" in done.stderr or "is empty" in done.stderr
    assert not any(weights_cache.iterdir())


def test_a_pinned_hash_is_checked_before_the_file_is_kept(served, weights_cache: Path, monkeypatch) -> None:
    monkeypatch.setitem(REGISTRY, "tiny", dataclasses.replace(REGISTRY["tiny"], sha256="0" * 64))
    done = call("--download", "tiny")
    assert done.exit_code == 4 and "not the known weights of tiny" in done.stderr
    assert not any(weights_cache.iterdir())


def test_what_cannot_be_downloaded(served: Path, weights_cache: Path) -> None:
    for arguments, code, said in (
        (["--download", "vgg16"], 2, "vgg16: there is no download; pass VGG-Face's weights"),
        (["--download", "vgg17"], 2, "no recognizer is called 'vgg17'"),
        (["--download", "tiny", "--offline"], 3, "--offline forbids to download http://127.0.0.1"),
    ):
        done = call(*arguments)
        assert done.exit_code == code and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    served.unlink()
    done = call("--download", "tiny")
    assert done.exit_code == 3 and "the download stopped (File not found)" in done.stderr
    assert not any(weights_cache.iterdir())
