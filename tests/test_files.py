from __future__ import annotations

import errno
import hashlib
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facedecode import files
from facedecode.errors import BadInput, FacedecodeWarning, OutputError, OutputInUse
from facedecode.files import (
    atomic_write,
    locked,
    make_folder,
    open_file,
    read_file,
    read_text,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_leaving_nothing_else(tmp_path):
    target = tmp_path / "x.bin"
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["x.bin"]
    assert sha256_file(target) == hashlib.sha256(b"two").hexdigest()


def test_new_file_has_the_mode_that_open_gives(tmp_path):
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_text_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "x", "é\r\n\n")
    assert (tmp_path / "x").read_bytes() == "é\r\n\n".encode()


def test_json_is_canonical(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": "\udce9"})
    assert (tmp_path / "a.json").read_text() == ('{\n  "a": "\\udce9",\n  "b": [\n    1,\n    2.5\n  ]\n}\n')
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": math.nan})
    assert "2.5" in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, function, code):
    target = tmp_path / "x.bin"
    write_bytes(target, b"earlier")

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OutputError) as caught:
        write_bytes(target, b"later")
    assert str(caught.value) == f"cannot write {target}: {os.strerror(code)}"
    assert target.read_bytes() == b"earlier"
    assert names(tmp_path) == ["x.bin"]


def test_a_really_full_disk(tmp_path):
    """The size limit of a process makes real writes fail as a full disk does, NumPy's own among them."""
    target = tmp_path / "x.npy"
    write_bytes(target, b"earlier")
    code = (
        "import resource, signal, sys, numpy as np; from facedecode.files import atomic_write\n"
        "from facedecode.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with atomic_write(sys.argv[1]) as file:\n"
        "        np.save(file, np.zeros(10000))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {target}: ") and done.stdout.count("\n") == 1
    assert target.read_bytes() == b"earlier"
    assert names(tmp_path) == ["x.npy"]


def test_an_error_in_the_block_leaves_what_was_there(tmp_path):
    write_bytes(tmp_path / "x", b"earlier")
    with pytest.raises(KeyError), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyError
    assert (tmp_path / "x").read_bytes() == b"earlier"
    assert names(tmp_path) == ["x"]


def test_what_was_written_is_hashed(tmp_path):
    array = np.arange(100_000, dtype="<f4")
    with atomic_write(tmp_path / "x.npy") as file:
        np.lib.format.write_array(file, array)
    data = (tmp_path / "x.npy").read_bytes()
    assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert write_bytes(tmp_path / "y", b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert (np.load(tmp_path / "x.npy") == array).all()


def test_a_file_that_lacks_its_end_is_not_committed(tmp_path, monkeypatch):
    """Some file systems drop what does not fit without an error; a file that is short gets no name."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1]) + 1)
    with pytest.raises(OutputError, match="2 of 3 bytes arrived"):
        write_bytes(tmp_path / "x", b"abc")
    assert names(tmp_path) == []


def test_temporaries_of_killed_runs_go_and_those_in_use_stay(tmp_path):
    (tmp_path / "inner").mkdir()
    stale = [tmp_path / ".facedecode-0.tmp", tmp_path / "inner" / ".facedecode-1.tmp"]
    for path in stale:
        path.write_bytes(b"half")
    foreign = tmp_path / ".facedecode-mine"
    foreign.write_bytes(b"")
    with atomic_write(tmp_path / "x") as file, locked(tmp_path):
        assert len(list(tmp_path.glob(".facedecode-*.tmp"))) == 1  # the one that is being written
        assert not list((tmp_path / "inner").iterdir())
        file.write(b"whole")
    assert names(tmp_path) == [".facedecode-mine", "inner", "x"]
    files._tidied.clear()
    stale[0].write_bytes(b"half")
    write_bytes(tmp_path / "y", b"")
    assert names(tmp_path) == [".facedecode-mine", "inner", "x", "y"]


def test_temporary_folders_of_killed_runs_go_and_links_lead_nowhere(tmp_path):
    held, elsewhere = tmp_path / "held", tmp_path / "elsewhere"
    for folder in (held / ".facedecode-new.tmp" / "sub", held / "inner" / ".facedecode-new.tmp", elsewhere):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"")
    (held / ".facedecode-new.tmp" / "link").symlink_to(elsewhere)
    (held / ".facedecode-link.tmp").symlink_to(elsewhere)
    (held / ".facedecode-file.tmp").symlink_to(elsewhere / "x")
    with locked(held):
        assert names(held) == [".lock", "inner"]
        assert names(held / "inner") == [".facedecode-new.tmp"]  # of a run that may hold that folder
    assert names(elsewhere) == ["x"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, code):
    def no_locks(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns() as warned, locked(tmp_path):
        write_bytes(tmp_path / "x", b"abc")
    assert [warning.category for warning in warned] == [FacedecodeWarning]
    assert "has no locks" in str(warned[0].message)
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "socket", "missing", "nul", "large"])
def test_reads_regular_files_only(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "nul":
        path = tmp_path / "x\0y"
    elif kind == "large":
        path.write_bytes(b"abc")
        assert read_file(path, most=3) == b"abc"
    with pytest.raises(BadInput) as caught:
        read_file(path, most=2)
    message = {"large": "at most 2 are read", "missing": "no such file", "nul": "no name of a file"}
    assert message.get(kind, "a file is needed") in str(caught.value)
    assert (str(path) in str(caught.value)) == (kind != "nul")
    if kind != "large":
        with pytest.raises(BadInput), open_file(path):
            pass
        with pytest.raises(BadInput):
            sha256_file(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_common_encodings(tmp_path, encoding):
    (tmp_path / "x").write_bytes("é;ü".encode(encoding))
    assert read_text(tmp_path / "x") == "é;ü"


def test_text_of_another_encoding(tmp_path):
    (tmp_path / "x").write_bytes("é".encode("latin-1"))
    with pytest.raises(BadInput, match="save it as UTF-8"):
        read_text(tmp_path / "x")


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "dangling"])
def test_refuses_what_is_not_a_regular_file(tmp_path, kind):
    target, aim = tmp_path / "x", tmp_path / "aim"
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        if kind == "link":
            aim.write_bytes(b"aim")
        target.symlink_to(aim)
    before = target.lstat()
    with pytest.raises(OutputError, match="not a regular file"):
        write_bytes(target, b"data")
    assert target.lstat() == before
    with pytest.raises(OutputError, match="not a regular file"):
        write_bytes("/dev/null", b"data")


def test_missing_folder_and_file_in_the_way(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        write_bytes(tmp_path / "none" / "x", b"")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(OutputError, match="cannot make the folder"):
            make_folder(path)
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_lock_excludes_and_goes(tmp_path):
    with locked(tmp_path):
        with pytest.raises(OutputInUse, match="in use by another run") as caught, locked(tmp_path):
            pass
        assert caught.value.exit_code == 6
        assert names(tmp_path) == [".lock"]
    assert names(tmp_path) == []
    with locked(tmp_path):
        pass


def test_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import sys, time; from facedecode.files import locked\n"
        "with locked(sys.argv[1]):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(OutputInUse), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == [".lock"]
    with locked(tmp_path):
        pass
    assert names(tmp_path) == []


def test_lock_in_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="cannot write in"), locked(tmp_path / "none"):
        pass


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("gone")
    for name, folder, says in [
        ("pipe", False, "is not a regular file"),
        ("nowhere", False, "is not a regular file"),
        ("folder", False, "it is a folder, and a file is to be made"),
        ("gone/x.png", False, "there is no folder"),
        ("file/x", False, "file is no folder"),
        ("pipe", True, "a file of that name is in the way"),
        ("nowhere", True, "a file of that name is in the way"),
        ("new/" + "é" * 200, True, "the name is too long"),
    ]:
        with pytest.raises(OutputError, match=says):
            files.require_place(tmp_path / name, folder)
    for name, folder in [("new/er/folder", True), ("folder", True), ("new.png", False), ("file", False)]:
        files.require_place(tmp_path / name, folder)
    files.require_place(tmp_path / "new" / "x.safetensors", folder=False, parents=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "nowhere", "pipe"]

    def read_only(folder: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "_new_temporary", read_only)
    with pytest.raises(OutputError, match=r"cannot write .*/file: Read-only file system; name another output"):
        files.require_place(tmp_path / "file", folder=False)
