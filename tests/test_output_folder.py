"""A folder of files that one call makes: what is replaced, what is left alone, and what a doctored marker can do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from facedecode.errors import BadInput, OutputError, OutputInUse
from facedecode.files import locked
from facedecode.output_folder import MARKER, STAGE, call_fingerprint, output_folder, require_free, unfinished_files

MINE, OTHER = call_fingerprint("invert", 1), call_fingerprint("invert", 2)
FILES = {"a.txt": b"a", "sub/b.txt": b"b", "c.txt": b"c"}


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(folder: Path, files: dict[str, bytes] = FILES, call: str = MINE, stale: tuple[str, ...] = ()) -> None:
    with output_folder(folder, call) as output:
        output.replace(files, files.items(), stale)


def stopped(folder: Path, files: dict[str, bytes] = FILES) -> None:
    """What is there when a run is killed after its first file has got its place."""
    name = next(iter(files))
    folder.mkdir()
    (folder / MARKER).write_text(json.dumps({"call": MINE, "files": list(files)}))
    (folder / name).write_bytes(files[name])
    (folder / STAGE).mkdir()
    (folder / STAGE / "half.txt").write_bytes(b"")


def test_files_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "out")
    assert content(tmp_path / "deep") == {f"out/{name}": data for name, data in FILES.items()}
    write(tmp_path / "deep" / "out", {"a.txt": b"new"}, stale=("sub/b.txt", "never.txt"))
    assert content(tmp_path / "deep" / "out") == {"a.txt": b"new", "c.txt": b"c"}
    assert not (tmp_path / "deep" / "out" / "sub").exists()


def test_a_killed_run_s_files_are_its_own_call_s_to_replace(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    stopped(folder, {"old.txt": b"half", **FILES})
    require_free(folder, MINE, overwrite=False)
    for check in (require_free, unfinished_files):
        with pytest.raises(OutputError, match="another command"):
            check(folder, OTHER, False)
    require_free(folder, OTHER, overwrite=True)
    write(folder)  # without old.txt: its inputs have changed since
    assert content(folder) == FILES
    with pytest.raises(OutputError, match="there already"):
        require_free(folder, MINE, overwrite=False)


def test_what_somebody_put_beside_a_killed_run_s_files_is_not_written_over_unasked(tmp_path: Path) -> None:
    stopped(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_bytes(b"mine")
    with pytest.raises(OutputError, match="there already"):
        require_free(tmp_path / "out", MINE, overwrite=False)
    write(tmp_path / "out")
    assert content(tmp_path / "out") == {**FILES, "mine.txt": b"mine"}


def test_a_run_killed_before_its_first_file_is_in_nobody_s_way(tmp_path: Path) -> None:
    stopped(tmp_path / "out")
    (tmp_path / "out" / "a.txt").unlink()
    (tmp_path / "out" / ".lock").touch()
    require_free(tmp_path / "out", OTHER, overwrite=False)
    write(tmp_path / "out", call=OTHER)
    assert content(tmp_path / "out") == FILES


def test_what_a_run_was_about_to_replace_when_it_was_killed_is_nobody_s_to_remove(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, {"a.txt": b"a", "mine.txt": b"mine"})

    def contents() -> Iterator[tuple[str, bytes]]:
        yield "a.txt", b"new"
        shutil.copytree(folder, tmp_path / "killed")  # as the disk is at this moment
        yield "mine.txt", b"new"

    with output_folder(folder, MINE) as output:
        output.replace(["a.txt", "mine.txt"], contents())
    require_free(tmp_path / "killed", OTHER, overwrite=True)
    write(tmp_path / "killed", {"c.txt": b"c"}, call=OTHER)
    assert content(tmp_path / "killed") == {"a.txt": b"a", "mine.txt": b"mine", "c.txt": b"c"}


@pytest.mark.parametrize("begun", [False, True])
def test_where_a_file_cannot_be_made_everything_stays(tmp_path: Path, begun: bool) -> None:
    folder = tmp_path / "out"
    if begun:
        stopped(folder)
    else:
        write(folder)
    before = {name: data for name, data in content(folder).items() if not name.startswith(STAGE)}

    def contents() -> Iterator[tuple[str, bytes]]:
        yield "a.txt", b"new"
        raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"), output_folder(folder, MINE) as output:
        output.replace(["a.txt", "d.txt"], contents())
    after = content(folder)
    assert after.pop(MARKER, None) is not None if begun else MARKER not in after
    assert after == {name: data for name, data in before.items() if name != MARKER}


@pytest.mark.parametrize("name", ["../x.txt", "/x.txt", "a/../../x.txt", "", "a/b/c.txt", "x\0", 7])
def test_a_doctored_marker_names_nothing_outside(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.txt").write_text("precious")
    stopped(tmp_path / "out")
    (tmp_path / "out" / MARKER).write_text(json.dumps({"call": MINE, "files": [name]}))
    for attempt in (lambda: require_free(tmp_path / "out", MINE, overwrite=False), lambda: write(tmp_path / "out")):
        with pytest.raises(BadInput, match="remove it"):
            attempt()
    assert (tmp_path / "x.txt").read_text() == "precious"


def test_links_and_folders_in_the_place_of_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("precious")
    for name, make in {
        "sub": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "a.txt": lambda path: path.symlink_to(tmp_path / "elsewhere" / "b.txt"),
        "c.txt": Path.mkdir,
    }.items():
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        make(folder / name)
        with pytest.raises(OutputError, match=name):
            write(folder)
        assert [path.name for path in folder.iterdir()] == [name]
    assert content(tmp_path / "elsewhere") == {"b.txt": b"precious"}


def test_calls_are_told_apart_by_what_they_are_asked_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = call_fingerprint("invert", Path("emb"), 1)
    assert here == call_fingerprint("invert", Path("emb"), 1)
    assert here != call_fingerprint("invert", Path("emb"), 2)
    monkeypatch.chdir(tmp_path)
    assert here != call_fingerprint("invert", Path("emb"), 1)


def test_two_runs_do_not_write_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(OutputInUse):
        write(tmp_path / "out")
