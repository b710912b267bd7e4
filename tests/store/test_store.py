from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facedecode.errors import BadInput, FacedecodeWarning, OutputError, OutputInUse
from facedecode.files import sha256_file
from facedecode.identity import RecognizerId
from facedecode.output_folder import STAGE
from facedecode.store import COLUMNS, Store, StoreWriter, load_templates, require_same_recognizer

RECOGNIZER = RecognizerId("tiny", "ab" * 32, dim=6)
SETTINGS = {"batch_size": 4, "transform": None, "inputs": "0123"}


def make_rows(start: int, n: int) -> list[dict]:
    return [
        {
            "path": f"Zoë/{i:04d}.jpg",
            "identity": "Zoë" if i % 3 else None,
            "width": 250,
            "height": 240,
            "box": np.arange(4, dtype=np.float32) + i,
            "landmarks": np.arange(10, dtype=np.float32).reshape(5, 2) + i,
            "probability": 0.5,
            "sha256": f"{i:064x}",
        }
        for i in range(start, start + n)
    ]


def make_templates(start: int, n: int, dim: int = 6) -> np.ndarray:
    return (np.arange(start * dim, (start + n) * dim, dtype=np.float32) / 7).reshape(n, dim)


def open_writer(folder: Path, **changes) -> StoreWriter:
    arguments = {"settings": SETTINGS, "root": folder.parent, "recognizer": RECOGNIZER, "shard_rows": 4}
    arguments |= {"manifest": {"score": "cosine", "tool_version": "0"}} | changes
    return StoreWriter(folder, **arguments)


def failure(i: int) -> dict[str, str]:
    return {"path": f"bad{i}.jpg", "stage": "detect", "reason": "no face"}


def make_store(folder: Path, n: int = 10, **changes) -> Path:
    with open_writer(folder, **changes) as writer:
        for start in range(0, n, 4):
            rows = min(4, n - start)
            inputs_done = start + rows + start // 4 + 1
            writer.append(make_templates(start, rows), make_rows(start, rows), [failure(start)], inputs_done)
        writer.finish([failure(99)])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(tmp_path):
    folder = make_store(tmp_path / "emb")
    store = Store.open(folder)
    assert (len(store), store.dim, store.recognizer, store.root) == (10, 6, RECOGNIZER, tmp_path)
    np.testing.assert_array_equal(store.templates(), make_templates(0, 10))
    assert store.templates().dtype == np.float32
    rows = store.rows().to_pylist()
    assert store.rows().schema.equals(COLUMNS)
    assert store.paths() == [row["path"] for row in make_rows(0, 10)]
    assert store.identities()[:3] == [None, "Zoë", "Zoë"]
    assert rows[9]["box"] == [9, 10, 11, 12] and rows[9]["landmarks"][:3] == [9, 10, 11]
    assert [failed["path"] for failed in store.failures()] == [
        "bad0.jpg",
        "bad4.jpg",
        "bad8.jpg",
        "bad99.jpg",
    ]
    assert [(len(templates), table.num_rows) for templates, table in store.shards()] == [
        (4, 4),
        (4, 4),
        (2, 2),
    ]
    assert sorted(contents(folder)) == [
        *(f"0000{i}.{kind}" for i in range(3) for kind in ("npy", "parquet")),
        *("failures.jsonl", "manifest.json"),
    ]


def test_some_rows_and_some_columns(tmp_path):
    store = Store.open(make_store(tmp_path / "emb"))
    for rows in ([9, 0, 4, 4, 3], [5, 6], []):
        taken = store.take(np.array(rows))
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, make_templates(0, 10)[np.array(rows, int)])
    for wrong in ([10], [0, -1]):
        with pytest.raises(IndexError, match="from 0 to 9"):
            store.take(np.array(wrong))
    assert store.columns(["sha256", "path"]).equals(store.rows().select(["sha256", "path"]))
    np.save(tmp_path / "emb" / "00001.npy", make_templates(4, 3))
    np.testing.assert_array_equal(store.take(np.array([5])), make_templates(5, 1))  # what was checked is kept
    with pytest.raises(BadInput, match=r"00001\.npy: 3 rows where the manifest says 4"):
        store.templates()


def test_manifest_says_what_the_design_asks(tmp_path):
    folder = make_store(tmp_path / "emb", n=4)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["shards"] == [
        {
            "file": "00000.npy",
            "rows": 4,
            "sha256": hashlib.sha256((folder / "00000.npy").read_bytes()).hexdigest(),
            "parquet_sha256": hashlib.sha256((folder / "00000.parquet").read_bytes()).hexdigest(),
        }
    ]
    assert (manifest["format_version"], manifest["count"], manifest["dim"]) == (1, 4, 6)
    assert (manifest["score"], manifest["root"]) == ("cosine", str(tmp_path))
    header = (folder / "00000.npy").read_bytes()[:80]
    assert b"'descr': '<f4', 'fortran_order': False, 'shape': (4, 6)" in header


def test_rows_without_an_image(tmp_path):
    with open_writer(tmp_path / "emb") as writer:
        writer.append(make_templates(0, 2), [{"identity": "A"}, {}], [], 2)
        writer.finish()
    store = Store.open(tmp_path / "emb")
    assert store.paths() == [None, None] and store.identities() == ["A", None]
    assert store.rows()["box"].to_pylist() == [None, None]


def test_embedding_reader_reads_it(tmp_path):
    embedding_reader = pytest.importorskip("embedding_reader")
    folder = make_store(tmp_path / "emb", n=50)
    reader = embedding_reader.EmbeddingReader(
        str(folder),
        file_format="parquet_npy",
        metadata_folder=str(folder),
        meta_columns=["path", "identity"],
    )
    assert (reader.count, reader.dimension) == (50, 6)
    batches = list(reader(batch_size=7, show_progress=False))
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), make_templates(0, 50))
    paths = [path for _, meta in batches for path in meta["path"]]
    assert paths == [row["path"] for row in make_rows(0, 50)]


def test_same_work_gives_the_same_bytes_and_nothing_to_do(tmp_path):
    first, second = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    assert contents(first) == contents(second)
    with open_writer(first) as writer:
        assert writer.complete
        writer.finish()
    assert contents(first) == contents(second)


# Every refusal of the reader: what to do to a sound store. `seal` then makes the hashes agree, so that the
# named check refuses and not the hash.


def save(folder: Path, array: np.ndarray, index: int = 1) -> None:
    np.save(folder / f"{index:05d}.npy", array, allow_pickle=True)


def edit(folder: Path, **fields) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))


def seal(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        if path.exists():
            shard["sha256"] = sha256_file(path)
        if path.with_suffix(".parquet").exists():
            shard["parquet_sha256"] = sha256_file(path.with_suffix(".parquet"))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def with_value(value: float) -> np.ndarray:
    templates = make_templates(4, 4)
    templates[2, 3] = value
    return templates


def drop_shard(folder: Path) -> None:
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    edit(folder, shards=[shards[0], shards[2]], count=6)


def truncate(path: Path, n: int = 5) -> None:
    path.write_bytes(path.read_bytes()[:-n])


def short_table(folder: Path) -> None:
    pq.write_table(pq.ParquetFile(folder / "00001.parquet").read().slice(1), folder / "00001.parquet")


REFUSALS = {
    "fortran order": (lambda f: save(f, np.asfortranarray(make_templates(4, 4))), "00001.npy: Fortran order"),
    "float64": (lambda f: save(f, make_templates(4, 4).astype(np.float64)), "00001.npy: dtype <f8"),
    "float16": (lambda f: save(f, make_templates(4, 4).astype(np.float16)), "00001.npy: dtype <f2"),
    "big-endian": (lambda f: save(f, make_templates(4, 4).astype(">f4")), "00001.npy: dtype >f4"),
    "integers": (lambda f: save(f, make_templates(4, 4).astype(np.int32)), "00001.npy: dtype <i4"),
    "1-D": (lambda f: save(f, make_templates(4, 4).reshape(-1)), "00001.npy: 1-D"),
    "3-D": (lambda f: save(f, make_templates(4, 4)[None]), "00001.npy: 3-D"),
    "mixed dims": (lambda f: save(f, make_templates(4, 4, 7)), "00001.npy: 7 columns where"),
    "fewer templates": (lambda f: save(f, make_templates(4, 3)), "00001.npy: 3 rows where"),
    "empty shard": (lambda f: save(f, make_templates(4, 0)), "00001.npy: 0 rows where"),
    "NaN": (lambda f: save(f, with_value(np.nan)), "00001.npy: row 2 holds NaN"),
    "infinity": (lambda f: save(f, with_value(-np.inf)), "00001.npy: row 2 holds NaN or inf"),
    "objects": (lambda f: save(f, make_templates(4, 4).astype(object)), "00001.npy: an array of Python obj"),
    "pickle": (lambda f: (f / "00001.npy").write_bytes(pickle.dumps([1.0])), "00001.npy: not a .npy file"),
    "truncated": (lambda f: truncate(f / "00001.npy"), "00001.npy: truncated"),
    "cut header": (
        lambda f: (f / "00001.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'de"),
        "00001.npy: not a",
    ),
    "too long": (lambda f: (f / "00001.npy").open("ab").write(b"x"), "00001.npy: longer"),
    "missing shard": (lambda f: (f / "00001.npy").unlink(), "00001.npy: no such file"),
    "gap": (drop_shard, "gap in the numbering: '00002.npy' in place of 00001.npy"),
    "unlisted shard": (lambda f: save(f, make_templates(0, 1), 3), "00003.npy: not in the manifest"),
    "fewer rows": (short_table, "00001.parquet: 3 rows where"),
    "other columns": (
        lambda f: pq.write_table(pa.table({"path": list("abcd")}), f / "00001.parquet"),
        "00001.parquet: its columns",
    ),
    "not parquet": (lambda f: (f / "00001.parquet").write_bytes(b"PAR1"), "00001.parquet: not a readable"),
    "missing rows": (lambda f: (f / "00001.parquet").unlink(), "00001.parquet: no such file"),
    "stray parquet": (lambda f: (f / "x.parquet").write_bytes(b""), "x.parquet: not in the manifest"),
    "store inside": (lambda f: Path(f / "00000.parquet").rename(f / "in.parquet"), "in.parquet: not in the"),
    "wrong count": (lambda f: edit(f, count=9), "manifest.json: 10 rows in its shards and a count of 9"),
    "version": (lambda f: edit(f, format_version=2), "manifest.json: format version 2"),
    "format": (lambda f: edit(f, format="other"), "manifest.json: not the manifest"),
    "no dim": (lambda f: edit(f, dim=None), "manifest.json: field 'dim'"),
    "bool count": (lambda f: edit(f, count=True), "manifest.json: field 'count'"),
    "odd shards": (lambda f: edit(f, shards=[3]), "manifest.json: field 'shards.0' is no JSON object"),
    "no failures file": (lambda f: (f / "failures.jsonl").unlink(), "failures.jsonl: no such file"),
    "failures changed": (lambda f: (f / "failures.jsonl").write_text("{}\n"), "failures.jsonl: wrong sha256"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_reader_refuses(tmp_path, case):
    damage, message = REFUSALS[case]
    folder = make_store(tmp_path / "emb")
    damage(folder)
    if case != "odd shards":
        seal(folder)
    with pytest.raises(BadInput) as caught:
        Store.open(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["00001.npy", "00001.parquet"])
def test_reader_refuses_a_wrong_hash(tmp_path, name):
    folder = make_store(tmp_path / "emb")
    if name.endswith("npy"):
        save(folder, with_value(1))
    else:
        pq.write_table(pq.ParquetFile(folder / name).read(), folder / name, compression="none")
    with pytest.raises(BadInput, match=f"{name}: wrong sha256"):
        Store.open(folder)
    assert len(Store.open(folder, verify=False)) == 10  # hashes are what `verify` is for


def test_reader_refuses_bad_json_and_folders_that_are_no_store(tmp_path):
    folder = make_store(tmp_path / "emb")
    for text, message in [
        ("{", "not valid JSON"),
        ("[]", "holds no JSON object"),
        ("\xff", "not valid JSON"),
    ]:
        (folder / "manifest.json").write_text(text, "latin-1")
        with pytest.raises(BadInput, match=f"manifest.json: {message}"):
            Store.open(folder)
        with pytest.raises(BadInput, match=f"manifest.json: {message}"):
            load_templates(folder / "00000.npy")
    for path, message in [
        (tmp_path / "none", "no such folder"),
        (folder / "00000.npy", "not a folder"),
        (tmp_path, "not an embedding store"),
    ]:
        with pytest.raises(BadInput, match=message):
            Store.open(path)


def test_unfinished_store_is_refused_and_a_pickle_never_run(tmp_path):
    with open_writer(tmp_path / "emb") as writer:
        writer.append(make_templates(0, 4), make_rows(0, 4), [], 4)
    for read, path in [(Store.open, tmp_path / "emb"), (load_templates, tmp_path / "emb" / "00000.npy")]:
        with pytest.raises(BadInput, match="unfinished; run the same command again to resume"):
            read(path)

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "a.npy").write_bytes(pickle.dumps(Trap()))
    np.save(tmp_path / "b.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    for name in ("a.npy", "b.npy"):
        with pytest.raises(BadInput, match=name):
            load_templates(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_dropped_in_file_is_ignored_with_a_warning(tmp_path):
    folder = make_store(tmp_path / "emb")
    np.save(folder / "x.npy", make_templates(0, 2).astype(np.float64))
    with pytest.warns(FacedecodeWarning, match=r"ignored: .*x\.npy"):
        store = Store.open(folder)
    assert len(store) == 10
    templates, manifest, note = load_templates(folder / "x.npy")
    assert templates.dtype == np.float32 and templates.shape == (2, 6)
    assert manifest.recognizer == RECOGNIZER
    assert "recognizer tiny taken from" in note and "cast from float64" in note
    np.save(folder / "x.npy", np.zeros(5, np.float32))
    with pytest.raises(BadInput, match=r"x\.npy: templates of 5 values in a store of 6 \(tiny\)"):
        load_templates(folder / "x.npy")


def test_load_store_and_shard(tmp_path):
    folder = make_store(tmp_path / "emb")
    templates, manifest, note = load_templates(folder)
    assert templates.shape == (10, 6) and manifest.count == 10 and note is None
    templates, manifest, note = load_templates(folder / "00002.npy")
    assert templates.shape == (2, 6) and manifest.dim == 6 and "manifest.json" in note
    save(folder, with_value(3))
    with pytest.raises(BadInput, match="wrong sha256"):
        load_templates(folder / "00001.npy")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_bare_files(tmp_path, dtype, order):
    values = np.arange(12).reshape(3, 4)
    (tmp_path / "manifest.json").write_text('{"format": "of something else"}')
    np.save(tmp_path / "x.npy", np.asarray(values, dtype=dtype, order=order))
    templates, manifest, note = load_templates(tmp_path / "x.npy")
    assert templates.dtype == np.dtype("=f4") and templates.flags.c_contiguous and manifest is None
    np.testing.assert_array_equal(templates, values)
    assert (note is None) == dtype.endswith("4")
    np.save(tmp_path / "x.npy", values[0].astype(dtype))
    assert load_templates(tmp_path / "x.npy")[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(4), "dtype int64"),
        (np.zeros(4, np.complex64), "dtype complex64"),
        (np.zeros(4, [("a", "f4")]), "dtype"),
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.float32(1), "shape"),
        (np.zeros((0, 4), np.float32), "holds no template"),
        (np.array([1, np.nan]), "holds NaN"),
        (np.array([[1.0, 1.0], [1.0, 1e300]]), "row 1 holds NaN or infinity"),
    ],
)
def test_bare_files_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(BadInput, match=f"x.npy: .*{message}"):
        load_templates(tmp_path / "x.npy")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x09\x00v\x00"])
def test_what_is_no_npy_file(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.npy"):
        load_templates(tmp_path / "x.npy")
    with pytest.raises(BadInput, match="no such file"):
        load_templates(tmp_path / "none.npy")


def test_a_header_that_lies_asks_for_no_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 4), np.float32))
    lying = (tmp_path / "x.npy").read_bytes().replace(b"(1, 4), }         ", b"(9999999999, 4), }")
    (tmp_path / "x.npy").write_bytes(lying)
    with pytest.raises(BadInput, match="truncated"):
        load_templates(tmp_path / "x.npy")


def test_recognizers_must_be_the_same():
    require_same_recognizer(RECOGNIZER, replace(RECOGNIZER, license="MIT"), "the decoder d/")
    for change in ({"name": "huge"}, {"weights_sha256": "cd" * 32}, {"weights_sha256": None}):
        with pytest.raises(BadInput, match=r"the decoder d/ is for .* come from tiny \(weights sha256 abab"):
            require_same_recognizer(RECOGNIZER, replace(RECOGNIZER, **change), "the decoder d/")


# The writer


def test_writer_refuses_another_runs_settings(tmp_path):
    folder = make_store(tmp_path / "emb")
    before = contents(folder)
    for changes, named in [
        ({"settings": SETTINGS | {"batch_size": 8}}, "settings.batch_size 4 there, 8 here"),
        ({"recognizer": replace(RECOGNIZER, name="huge")}, 'recognizer.name "tiny" there, "huge" here'),
        ({"shard_rows": 5}, "shard_rows 4 there, 5 here"),
        ({"root": tmp_path / "other"}, "root "),
    ]:
        with pytest.raises(OutputError, match="use --overwrite or another folder") as caught:
            open_writer(folder, **changes).__enter__()
        assert named in str(caught.value)
    assert contents(folder) == before


def test_overwrite_replaces_only_when_work_starts(tmp_path):
    folder = make_store(tmp_path / "emb")
    np.save(folder / "mine.npy", np.zeros(6))
    before = contents(folder)
    other = SETTINGS | {"batch_size": 8}
    with open_writer(folder, settings=other, overwrite=True):
        pass
    none = pytest.raises(BadInput, match=r"no usable input \(1 failed; the first, bad0.jpg: no face\)")
    with open_writer(folder, settings=other, overwrite=True) as writer, none:
        writer.finish([failure(0)])
    assert contents(folder) == before
    make_store(folder, n=5, settings=other, overwrite=True)
    (folder / "mine.npy").unlink()
    assert contents(folder) == contents(make_store(tmp_path / "b", n=5, settings=other))


def test_no_usable_input_leaves_no_folder(tmp_path):
    with open_writer(tmp_path / "emb") as writer, pytest.raises(BadInput, match="no usable input"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []


def test_writer_keeps_off_what_is_not_a_store(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"photo")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"has files \(a\.jpg …\) and is no store"):
            open_writer(folder, overwrite=overwrite).__enter__()
    assert contents(folder) == {"a.jpg": b"photo"}
    with pytest.raises(OutputError, match="cannot make the folder"):
        open_writer(folder / "a.jpg").__enter__()
    store = make_store(tmp_path / "emb")
    with pytest.raises(OutputError, match="lies in the store"):
        open_writer(store / "inner").__enter__()
    (store / "sub").mkdir()
    (store / "sub" / "x.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match=r"x\.parquet lies where a store is to go"):
        open_writer(store, overwrite=True).__enter__()


def test_a_folder_that_another_command_was_killed_in_can_be_a_store(tmp_path):
    folder, plain = tmp_path / "emb", make_store(tmp_path / "plain")
    for overwrite in (False, True):
        (folder / STAGE / "figures").mkdir(parents=True)
        (folder / STAGE / "figures" / "half.png").write_bytes(b"")
        assert contents(make_store(folder, overwrite=overwrite)) == contents(plain)
    (folder / STAGE).mkdir()
    with open_writer(folder) as writer:
        assert writer.complete
    assert contents(folder) == contents(plain)


def test_one_writer_at_a_time(tmp_path):
    with open_writer(tmp_path / "emb"), pytest.raises(OutputInUse):
        open_writer(tmp_path / "emb").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="sets the manifest's count"):
        open_writer(tmp_path / "emb", manifest={"count": 3})
    with open_writer(tmp_path / "emb") as writer:
        for templates, rows, failures in [
            (make_templates(0, 2), make_rows(0, 3), []),
            (make_templates(0, 5), make_rows(0, 5), []),
            (make_templates(0, 0), [], []),
            (make_templates(0, 2).astype(np.float64), make_rows(0, 2), []),
            (make_templates(0, 1), [{"nose": 3}], []),
            (make_templates(0, 1), [{}], [{"path": "x"}]),
        ]:
            with pytest.raises(ValueError):
                writer.append(templates, rows, failures, 5)
        for templates, rows, named in [
            (with_value(np.nan), make_rows(4, 4), "Zoë/0006.jpg: its template"),
            (make_templates(0, 1), [{"path": "\udce9.jpg"}], "not valid UTF-8"),
        ]:
            with pytest.raises(BadInput, match=named):
                writer.append(templates, rows, [], 5)
        assert list((tmp_path / "emb").iterdir()) == [tmp_path / "emb" / ".lock"]
        writer.append(make_templates(0, 3), make_rows(0, 3), [], 3)
        with pytest.raises(ValueError, match="only the last shard"):
            writer.append(make_templates(3, 4), make_rows(3, 4), [], 7)


@pytest.mark.parametrize("name", ["00001.npy", "00001.parquet", "00001.done.json"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_resume_discards_from_the_first_unsound_shard(tmp_path, name, damage):
    whole = make_store(tmp_path / "whole", n=16)
    with open_writer(tmp_path / "emb") as writer:
        for start in (0, 4, 8):
            writer.append(make_templates(start, 4), make_rows(start, 4), [failure(start)], start + start // 4 + 5)
    path = tmp_path / "emb" / name
    truncate(path) if damage == "cut" else path.unlink()
    with open_writer(tmp_path / "emb") as writer:
        assert writer.resume_inputs == 5 and not writer.complete
        for start in (4, 8, 12):
            writer.append(make_templates(start, 4), make_rows(start, 4), [failure(start)], start + start // 4 + 5)
        writer.finish([failure(99)])
    assert contents(tmp_path / "emb") == contents(whole)


def test_a_damaged_complete_store_is_not_called_complete(tmp_path):
    folder = make_store(tmp_path / "emb")
    truncate(folder / "00001.npy")
    with pytest.raises(BadInput, match=r"00001\.npy: truncated.*--overwrite"):
        open_writer(folder).__enter__()
    make_store(folder, overwrite=True)
    assert len(Store.open(folder)) == 10


# Children forked from one process that has imported everything: a kill costs milliseconds.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from facedecode.store.layout import rows_table
sys.path.insert(0, sys.argv[1])
from test_store import make_rows, make_templates, failure, open_writer

rows_table(make_rows(0, 1))  # here, not in each child: the first table may import pandas
os.fsync = lambda descriptor: None  # what a killed process wrote stays: fsync is for the loss of power
work, end = Path(sys.argv[2]), 10**6

def produce(folder, kill_at=end, **changes):
    left = kill_at
    def counted(function):  # SIGKILL before the n-th change of the folder
        def wrapped(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return wrapped
    os.replace, Path.unlink = counted(os.replace), counted(Path.unlink)
    with open_writer(folder, **changes) as writer:
        if writer.complete:
            return
        # Every fifth input fails, the last one too: 30 shards, the last one short, and a failure after it.
        rows, failures = [], []
        for i in range(writer.resume_inputs, 148):
            (failures if i % 5 == 2 else rows).append(i)
            if len(rows) == 4 or (rows and i == 146):
                templates = np.concatenate([make_templates(j, 1) for j in rows])
                failed = [failure(j) for j in failures]
                writer.append(templates, [make_rows(j, 1)[0] for j in rows], failed, i + 1)
                rows, failures = [], []
        writer.finish([failure(j) for j in failures])
    (work / "steps").write_text(str(kill_at - left))

def child(*args, **kwargs):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            produce(*args, **kwargs)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid

def wait(pid):
    return os.waitpid(pid, 0)[1]

def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}

def run_to_the_end(folder):
    status = wait(child(folder))
    if status or contents(folder) != whole:
        sys.exit(f"{folder}: status {status}, {sorted(set(contents(folder)) ^ set(whole))}")

start = time.perf_counter()
status = wait(child(work / "whole"))
took = time.perf_counter() - start
whole = contents(work / "whole")
steps = int((work / "steps").read_text())
if status or len(whole) != 62 or steps < 200:
    sys.exit(f"the uninterrupted run failed: {status}, {len(whole)} files, {steps} steps")
random.seed(5)
kills = 0

# From outside, at any moment, until the store is there.
for trial in range(2):
    folder = work / f"outside{trial}"
    for _ in range(100):
        pid = child(folder)
        time.sleep(random.uniform(0, took / 3))
        os.kill(pid, signal.SIGKILL)
        if wait(pid) == 0:
            break
        kills += 1
    run_to_the_end(folder)

# At chosen points: the beginning, any, and the end (two writes, then 30 records and two files to remove).
for point in [0, 1, 2, 3, *random.sample(range(4, steps - 37), 5), *range(steps - 37, steps, 4), steps - 1]:
    folder = work / f"point{point}"
    kills += wait(child(folder, kill_at=point)) == signal.SIGKILL
    run_to_the_end(folder)

# While it replaces an older run's unfinished store. From its first rename on, the new run is what is resumed.
for point in [1, 2, 3, 5, 60]:
    folder = work / f"over{point}"
    wait(child(folder, kill_at=100, settings={"batch_size": 1}))
    kills += wait(child(folder, kill_at=point, overwrite=True)) == signal.SIGKILL
    run_to_the_end(folder)
print(kills)
"""


def test_killed_and_resumed_gives_the_same_bytes(tmp_path):
    command = [sys.executable, "-c", KILLER, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 25
