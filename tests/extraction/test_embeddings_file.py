"""Templates of other programs: arrays by name, Parquet, a folder of a file an image; and what is refused of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from facedecode.cli import app
from facedecode.errors import BadInput, WouldNotFit
from facedecode.extraction.embeddings_file import read_given
from facedecode.store import Store

TEMPLATES = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
NAMES = [f"P{k // 2}/{k}.jpg" for k in range(6)]
PEOPLE = [f"P{k // 2}" for k in range(6)]


def imported(*words: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, words), "--model", "given:vendor"])


@pytest.mark.parametrize(
    ("arrays", "names", "people"),
    [
        ({"embeddings": TEMPLATES}, None, None),
        ({"arr_0": TEMPLATES.astype(np.float64)}, None, None),
        ({"X": TEMPLATES, "y": np.arange(6) // 2}, None, ["0", "0", "1", "1", "2", "2"]),
        ({"features": TEMPLATES, "paths": np.array(NAMES), "labels": np.array(PEOPLE)}, NAMES, PEOPLE),
        ({"features": TEMPLATES, "names": np.array(NAMES).astype("S"), "other": np.zeros((6, 2))}, NAMES, None),
        ({"emb": np.asfortranarray(TEMPLATES), "names": np.array(PEOPLE)}, None, PEOPLE),
        ({"emb": TEMPLATES, "names": np.array(list("abcdef")), "labels": np.array(PEOPLE)}, list("abcdef"), PEOPLE),
        ({"feats": TEMPLATES.astype(">f8"), "image_paths": np.array(NAMES), "det_score": np.ones(6)}, NAMES, None),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_by_name(tmp_path: Path, arrays: dict, names: list | None, people: list | None, save: Callable) -> None:
    save(tmp_path / "x.npz", **arrays)
    given = read_given(tmp_path / "x.npz")
    np.testing.assert_array_equal(given.templates, TEMPLATES)
    assert given.templates.flags.c_contiguous and (given.names, given.people) == (names, people)
    assert "has the templates" in given.notes[0]


def columns(kind: pa.DataType) -> dict[str, pa.Array]:
    return {"embedding": pa.array(TEMPLATES.tolist(), kind), "path": pa.array(NAMES), "identity": pa.array(PEOPLE)}


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float64(), 4), pa.large_list(pa.float32()), pa.list_(pa.float32(), 4)],
)
def test_columns_of_lists(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({**columns(kind), "score": pa.array(np.ones(6))}), tmp_path / "x.parquet", row_group_size=4)
    given = read_given(tmp_path / "x.parquet")
    np.testing.assert_array_equal(given.templates, TEMPLATES)
    assert (given.names, given.people) == (NAMES, PEOPLE)


def test_a_column_for_each_number(tmp_path: Path) -> None:
    numbers = {f"emb_{k}": TEMPLATES[:, k] for k in (2, 0, 3, 1)}
    table = pa.table({**numbers, "quality": np.ones(6), "file": pa.array(NAMES).dictionary_encode()})
    pq.write_table(table, tmp_path / "x.parquet")
    given = read_given(tmp_path / "x.parquet")
    np.testing.assert_array_equal(given.templates, TEMPLATES)
    assert given.names == NAMES and given.people is None


def test_an_array_for_each_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **dict(zip(NAMES, TEMPLATES, strict=True)))
    given = read_given(tmp_path / "x.npz")
    np.testing.assert_array_equal(given.templates, TEMPLATES)
    assert given.names == NAMES
    np.savez(tmp_path / "x.npz", **dict(zip(NAMES, [TEMPLATES[0], *TEMPLATES[1:, :3]], strict=True)))
    with pytest.raises(BadInput, match=r"x\.npz: P0/1\.jpg has 3 numbers, and P0/0\.jpg 4"):
        read_given(tmp_path / "x.npz")


def test_a_folder_of_a_file_an_image(tmp_path: Path, photos: Path, photo_store: Path) -> None:
    store = Store.open(photo_store)
    for path, template in zip(store.paths(), store.templates(), strict=True):
        file = tmp_path / "tree" / (Path(path).with_suffix(".npy") if "Mirror" in path else f"{path}.npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, template)
    told = imported(tmp_path / "tree", "--images", photos, "-o", tmp_path / "emb")
    assert told.exit_code == 0 and "6 templates with their images, 0 failed" in told.stderr, told.output
    made = Store.open(tmp_path / "emb")
    assert (made.paths(), made.identities()) == (store.paths(), store.identities())
    np.testing.assert_array_equal(made.templates(), store.templates())
    assert made.rows()["box"].null_count == 0
    assert imported(tmp_path / "tree", "-o", tmp_path / "alone").exit_code == 0
    assert Store.open(tmp_path / "alone").identities() == store.identities()
    # One image more in the templates than in the folder is a failure, as in a list.
    np.save(tmp_path / "tree" / "Zoe.npy", store.templates()[0])
    assert "1 failed" in imported(tmp_path / "tree", "--images", photos, "-o", tmp_path / "emb2").stderr
    np.save(tmp_path / "tree" / "Zoe.npy", np.zeros(3, np.float32))
    told = imported(tmp_path / "tree", "-o", tmp_path / "emb3")
    assert told.exit_code == 4 and "Zoe.npy: templates of 3 numbers" in told.stderr
    assert "an embedding store already" in imported(tmp_path / "emb", "-o", tmp_path / "e4").stderr
    (tmp_path / "none").mkdir()
    assert "no .npy file in this folder" in imported(tmp_path / "none", "-o", tmp_path / "e4").stderr


def test_names_in_a_file_open_nothing_and_lead_nowhere(tmp_path: Path, photos: Path) -> None:
    outside = sorted(photos.rglob("*.png"))[0]
    names = [
        str(outside),
        "../../etc/passwd",
        "C:\\faces\\Ann\\1.jpg",
        "./a//b.jpg",
        "x/../../y.jpg",
        "Jose\u0301/1.jpg",
    ]
    np.savez(tmp_path / "x.npz", embeddings=TEMPLATES, paths=np.array(names))
    told = imported(tmp_path / "x.npz", "-o", tmp_path / "emb")
    assert told.exit_code == 0 and "templates without images" in told.stderr, told.output
    store = Store.open(tmp_path / "emb")
    plain = [str(outside)[1:], "etc/passwd", "faces/Ann/1.jpg", "a/b.jpg", "y.jpg", "Jos\u00e9/1.jpg"]
    assert store.paths() == plain and store.root == tmp_path
    assert store.identities()[2:] == ["Ann", "a", None, "Jos\u00e9"]
    assert not any(row["sha256"] for row in store.rows().to_pylist())
    for name in ("", "..", "a\nb.jpg", "a\0b.jpg", "/"):
        np.savez(
            tmp_path / "x.npz",
            embeddings=TEMPLATES,
            paths=np.array([*NAMES[:5], f"x{name}y" if "\0" in name else name]),
        )
        told = imported(tmp_path / "x.npz", "-o", tmp_path / "bad")
        assert told.exit_code == 4 and "row 5 is called" in told.stderr and told.stderr.count("error:") == 1, (
            told.stderr
        )


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


BROKEN = TEMPLATES.copy()
BROKEN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npz(embeddings=BROKEN), "row 3 holds NaN or infinity"),
        (
            npz(embeddings=TEMPLATES, paths=np.array(NAMES, object)),
            "paths is an array of Python objects, that is a pickle; save it as text",
        ),
        (npz(embeddings=np.array([[1.0], [1.0, 2.0]], object)), "embeddings is an array of Python objects"),
        (npz(a=TEMPLATES, b=TEMPLATES), "several may be the templates among a, b"),
        (npz(embeddings=TEMPLATES, labels=np.array(PEOPLE[:5])), "labels has 5 values, and embeddings 6 rows"),
        (npz(embeddings=TEMPLATES[:0]), "holds no template"),
        (npz(labels=np.arange(6)), "no array of templates"),
        (npz(embeddings=TEMPLATES.astype(np.float64) * 1e300), "row 0 holds NaN or infinity"),
        (npz(embeddings=TEMPLATES, paths=np.array([b"\xff.jpg"] * 6)), "paths is no text in UTF-8"),
        (npz(embeddings=TEMPLATES)[:-30], "cannot be read as .npz"),
        (npz(embeddings=TEMPLATES).replace(TEMPLATES.tobytes()[:16], bytes(16)), "cannot be read as .npz"),
        (zipped(embeddings=npy(TEMPLATES)[:-4]), "embeddings is cut short"),
        (zipped(embeddings=npy(TEMPLATES) + b"more"), "embeddings is cut short, or longer"),
        (zipped(embeddings=npy(TEMPLATES).replace(b"(6, 4)", b"(6,-4)")), "no array of templates"),
        (zipped(embeddings=b"\x80\x04N."), "no array of templates"),
        (b"PK\x03\x04 and no more", "cannot be read as .npz"),
        (
            parquet(embedding=[[1.0, 2.0], [1.0]]),
            "row 1 of embedding holds a template of 1 numbers where others have 2",
        ),
        (parquet(embedding=[[1.0, 2.0], None]), "row 1 of embedding holds no template"),
        (parquet(embedding=[[1.0, 2.0], [1.0, None]]), "row 1 of embedding holds a number that is missing"),
        (parquet(embedding=[[1.0, 2.0], [1.0, float("inf")]]), "row 1 holds NaN or infinity"),
        (parquet(embedding=pa.array([[], []], pa.list_(pa.float32()))), "row 0 of embedding holds no template"),
        (parquet(embedding=pa.array([], pa.list_(pa.float32()))), "no rows"),
        (parquet(a=[[1.0]], b=[[1.0]]), "several may be the templates"),
        (parquet(path=["a.jpg"]), "no array of templates"),
        (parquet(embedding=[[1.0, 2.0]])[:-9], "cannot be read as Parquet"),
        (b"PAR1PAR1", "cannot be read as Parquet"),
        (npy(np.array([{}], object)), "a pickle"),
        (npy(TEMPLATES[0, 0]), "templates are (dim,) or (n, dim)"),
        (b"", "not a .npy file"),
    ],
)
def test_odd_content_is_refused_by_its_name(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "given.bin"
    path.write_bytes(data)
    with pytest.raises(BadInput) as error:
        read_given(path)
    assert str(error.value).startswith(f"{path}: ") and says in str(error.value) and "\n" not in str(error.value)


def test_an_array_that_unpacks_to_more_than_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", embeddings=np.zeros((1 << 12, 1 << 8), np.float32))
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 1 << 20)
    told = imported(tmp_path / "x.npz", "-o", tmp_path / "emb")
    assert told.exit_code == 7 and "x.npz" in told.stderr


def test_a_number_beside_the_templates_is_none_of_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", embeddings=TEMPLATES, scale=np.float32(2), version=np.int64(1))
    np.testing.assert_array_equal(read_given(tmp_path / "x.npz").templates, TEMPLATES)
    np.savez(tmp_path / "x.npz", scale=np.float32(2))
    with pytest.raises(BadInput, match="no array of templates"):
        read_given(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_write_is_refused(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", kind) as archive:
        archive.writestr("embeddings.npy", npy(TEMPLATES))
    with pytest.raises(BadInput, match=r"x\.npz: embeddings is compressed as NumPy does not"):
        read_given(tmp_path / "x.npz")


def test_texts_that_rows_share_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 1_000_000
    table = pa.table({"embedding": TEMPLATES.tolist() * 20, "path": [f"{k}.jpg" for k in range(120)],
                      "about": [long] * 120})  # fmt: skip
    kept = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 22}
    pq.write_table(table, tmp_path / "x.parquet", **kept)
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 20_000_000)
    assert len(read_given(tmp_path / "x.parquet").templates) == 120
    pq.write_table(table.rename_columns(["embedding", "path", "identity"]), tmp_path / "x.parquet", **kept)
    with pytest.raises(BadInput, match=r"a text of identity has more than 4,096 bytes"):
        read_given(tmp_path / "x.parquet")
    pq.write_table(table, tmp_path / "x.parquet", use_dictionary=False, column_encoding={"about": "DELTA_BYTE_ARRAY"})
    with pytest.raises(WouldNotFit):
        read_given(tmp_path / "x.parquet")
    same = pa.table({"embedding": pa.array([[1.0] * 200_000] * 20, pa.list_(pa.float32()))})
    pq.write_table(same, tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    monkeypatch.setattr("facedecode.memory.available_bytes", lambda: 10_000_000)
    with pytest.raises(WouldNotFit):
        read_given(tmp_path / "x.parquet")


def test_hundreds_of_damaged_files_end_as_bad_input(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shared = io.BytesIO()
    pq.write_table(pa.table({"embedding": TEMPLATES.tolist(), "path": pa.array(NAMES).dictionary_encode()}), shared)
    whole = [
        npz(embeddings=TEMPLATES, paths=np.array(NAMES)),
        parquet(embedding=TEMPLATES.tolist(), path=NAMES),
        npz(embeddings=TEMPLATES, version=np.float64(1), n=np.array(6)),
        npz(**{name: TEMPLATES[k] for k, name in enumerate(NAMES)}),
        shared.getvalue(),
        parquet(**{f"emb_{k}": TEMPLATES[:, k] for k in range(4)}, n=list(range(6))),
        npy(TEMPLATES),
    ]
    path, refused = tmp_path / "x", 0
    for k in range(1400):
        data = bytearray(whole[k % len(whole)])
        for place in generator.integers(0, len(data), 1 + k % 3):
            data[place] = generator.integers(0, 256)
        kept = bytes(data[: len(data) - (k % 5 == 0) * int(generator.integers(0, len(data)))])
        given = path
        if k % len(whole) == len(whole) - 1:
            (tmp_path / "folder").mkdir(exist_ok=True)
            given = tmp_path / "folder"
            (given / "b.npy").write_bytes(npy(TEMPLATES[:1]))
        (given / "a.npy" if given != path else path).write_bytes(kept)
        try:
            read_given(given)
        except (BadInput, WouldNotFit) as error:
            assert str(given) in str(error)
            refused += 1
    assert refused > 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file_of_templates(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    told = imported(tmp_path / "x.npz", "-o", tmp_path / "emb", "--json")
    assert told.exit_code == 4 and not json.loads(told.stdout)["ok"] and "a pipe" in told.stderr
    shutil.rmtree(tmp_path / "emb", ignore_errors=True)
