"""A store's images: below their folder, by their own bytes, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facedecode.errors import BadInput
from facedecode.options import ImageOptions
from facedecode.store import ImageFolder, Store
from facedecode.store.images import read_portraits
from facedecode.store.layout import rows_table
from facedecode.store.paths import why_no_path


@pytest.mark.parametrize("path", ["a.jpg", "Zoë/a b.jpg", "a/b/c.jpg", "..a/b..", "a\\b.jpg", "x" * 255, "..."])
def test_paths_that_images_have(path: str) -> None:
    assert why_no_path(path) is None


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "/a", "//a", "./a", "a/", "a//b", "a/./b", "a/..", "../a", "a/../b", "a/../../b"),
        *(
            "..\\a",
            "a\\..\\b",
            "\\a",
            "\\\\host\\a",
            "C:\\a",
            "C:/a",
            "a\0b",
            "x" * 256,
            "a/" + "ö" * 128,
            "a/" * 2048 + "a",
        ),
    ],
)
def test_paths_that_no_image_has(path: str) -> None:
    assert why_no_path(path)


def change_rows(folder: Path, **changes: object) -> Path:
    """A store whose first row has other values, with hashes that say so."""
    file = folder / "00000.parquet"
    rows = pq.ParquetFile(file).read()
    changed = rows.to_pylist()
    changed[0] |= changes
    pq.write_table(pa.Table.from_pylist(changed, schema=rows.schema), file)
    return reseal(folder)


def reseal(folder: Path) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        shard["parquet_sha256"] = hashlib.sha256(path.with_suffix(".parquet").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def copied(tiny_store: Path, tmp_path: Path) -> Path:
    """A store and its images, at another place."""
    root = Store.open(tiny_store).root
    shutil.copytree(root, tmp_path / "images")
    shutil.copytree(tiny_store, tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    manifest["root"] = str(tmp_path / "images")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "copy"


@pytest.mark.parametrize(
    "path", ["../secret/x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "", ".", "/", "a\0b.png"]
)
def test_a_store_whose_rows_lead_elsewhere_is_refused_when_opened(copied: Path, path: str) -> None:
    with pytest.raises(BadInput, match=r"00000\.parquet: the path ") as caught:
        Store.open(change_rows(copied, path=path))
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": -1}, "a width is not at least 1"),
        ({"height": 0}, "a height is not at least 1"),
        ({"box": [0, 0, float("nan"), 1]}, "a box is not of numbers up to a million"),
        ({"box": [0, 0, 3e38, 1]}, "a box is not of numbers"),
        ({"landmarks": [float("inf")] * 10}, "a landmarks is not of numbers"),
        ({"landmarks": [None] * 10}, "a landmarks is not of numbers"),
        ({"probability": float("nan")}, "a probability is not from 0 to 1"),
        ({"probability": -0.5}, "a probability is not from 0 to 1"),
    ],
)
def test_rows_with_values_that_no_face_has_are_refused(copied: Path, changes: dict, said: str) -> None:
    with pytest.raises(BadInput, match=rf"00000\.parquet: {said}"):
        Store.open(change_rows(copied, **changes))


@pytest.mark.parametrize("how", ["dictionary", "prefixes", "lists"])
def test_rows_that_share_what_is_long_are_refused_before_it_is_repeated(
    copied: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    file = copied / "00000.parquet"
    table = pq.ParquetFile(file).read()
    options: dict = {"use_dictionary": False, "column_encoding": {"identity": "DELTA_BYTE_ARRAY"}}
    said = "encoded as no store is"
    if how == "lists":
        options, said = {"use_dictionary": True}, "unpacks to more than"
        lists = pa.array([[1.0] * 100_000] * len(table), pa.list_(pa.float32()))
        table = table.set_column(4, "box", lists)
    else:
        table = table.set_column(1, "identity", pa.array(["x" * 300_000] * len(table)))
    if how == "dictionary":
        options, said = (
            {"use_dictionary": True, "dictionary_pagesize_limit": 1 << 22},
            "identity is not of at most 4,096",
        )
    pq.write_table(table, file, compression="zstd", **options)
    if how == "lists":  # a file may say one thing to Arrow and hold another
        monkeypatch.setattr("facedecode.store.reader.COLUMNS", table.schema)
    monkeypatch.setattr("facedecode.store.reader.check_rows", lambda *_: pytest.fail("all was read"))
    with pytest.raises(BadInput, match=rf"00000\.parquet: .*{said}"):
        Store.open(reseal(copied))


def test_a_long_identity_is_refused_when_a_store_is_written_too() -> None:
    row = {"path": "a.jpg", "identity": "x" * 4096}
    assert rows_table([row]).num_rows == 1
    with pytest.raises(BadInput, match="identity is not of at most 4,096 bytes"):
        rows_table([row | {"identity": "ö" * 2049}])


def test_a_list_of_failures_is_as_long_as_its_count(copied: Path) -> None:
    (copied / "failures.jsonl").write_bytes(b" " * 200_000)
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["failures"] = {"count": 2, "sha256": hashlib.sha256(b" " * 200_000).hexdigest()}
    path.write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"failures\.jsonl: 200,000 bytes or more, and at most 196,608 are read"):
        Store.open(copied)


def test_another_file_in_an_images_place_is_not_decoded(copied: Path) -> None:
    store = Store.open(copied)
    rows = store.rows().to_pylist()[:1]
    image = store.root / rows[0]["path"]
    data = image.read_bytes()
    image.write_bytes(data[: len(data) * 2 // 3])  # its header is whole, and its pixels are not
    with pytest.raises(BadInput, match="not the image that the store was made from"):
        read_portraits(rows, store.images(), 32)


def test_a_row_that_is_no_text_is_refused(copied: Path) -> None:
    file = copied / "00000.parquet"
    table = pq.ParquetFile(file).read()
    names = pa.array([b"\xff"] * len(table), pa.binary()).cast(pa.binary()).view(pa.string())
    pq.write_table(table.set_column(1, "identity", names), file)
    with pytest.raises(BadInput, match=r"00000\.parquet: not a readable Parquet file"):
        Store.open(reseal(copied))


def test_a_box_without_a_size_and_points_of_no_face(copied: Path) -> None:
    for changes, said in (({"box": [5, 5, 5, 9]}, "a box without a size"), ({"landmarks": [7] * 10}, "none of a face")):
        store = Store.open(change_rows(copied, **changes))
        with pytest.raises(BadInput, match=said):
            read_portraits(store.rows().to_pylist()[:1], store.images(), 32)
        change_rows(copied, box=[5, 5, 50, 50])


def test_links_stay_in_the_folder_unless_asked(copied: Path) -> None:
    store = Store.open(copied)
    rows = store.rows().to_pylist()
    plain = read_portraits(rows, store.images(), 32)
    outside, image = copied.parent / "outside", store.root / rows[0]["path"]
    outside.mkdir()
    shutil.move(image, outside / "picture.png")
    image.symlink_to(outside / "picture.png")
    followed = ImageOptions(follow_links=True)
    for options in (None, ImageOptions(images=store.root)):
        with pytest.raises(BadInput, match=f"{image.name}: a link leads out of .*--follow-links"):
            read_portraits(rows, store.images(options), 32)
    np.testing.assert_array_equal(read_portraits(rows, store.images(followed), 32), plain)
    # A link to a folder, and one that stays inside.
    image.unlink()
    shutil.move(outside / "picture.png", image)
    shutil.move(image.parent, outside / "person")
    image.parent.symlink_to(outside / "person")
    with pytest.raises(BadInput, match=f"{image.parent.name}: a link leads out of"):
        read_portraits(rows, store.images(), 32)
    image.parent.unlink()
    shutil.move(outside / "person", store.root / "elsewhere")
    image.parent.symlink_to(store.root / "elsewhere")
    np.testing.assert_array_equal(read_portraits(rows, store.images(), 32), plain)


def test_a_pipe_among_the_images_is_not_read(copied: Path) -> None:
    store = Store.open(copied)
    rows = store.rows().to_pylist()
    image = store.root / rows[3]["path"]
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(BadInput, match=f"1 of {len(rows)} images are not there .*{image.name}"):
        read_portraits(rows, store.images(), 32)


def test_an_image_without_a_hash_is_read_from_a_folder_of_the_users_only(copied: Path) -> None:
    store = Store.open(change_rows(copied, sha256=None))
    rows = store.rows().to_pylist()[:2]
    for root in (store.root, store.images(), store.images(ImageOptions(follow_links=True))):
        with pytest.raises(BadInput, match=r"does not have this image's SHA-256.*--images"):
            read_portraits(rows, root, 32)
    assert read_portraits(rows, store.images(ImageOptions(images=store.root)), 32).shape == (2, 32, 32, 3)
    image = store.root / rows[1]["path"]
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(BadInput, match="not the image that the store was made from"):
        read_portraits(rows, store.images(ImageOptions(images=store.root)), 32)


def test_a_relative_folder_is_the_users_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(BadInput, match="no absolute path there; name the folder with --images"):
        ImageFolder(Path("here")).find(["a.png"])
    assert ImageFolder(Path(), named=True).find(["a.png"]) == [Path("a.png")]


@pytest.mark.parametrize("name", ["00000.npy", "00000.parquet", "failures.jsonl"])
def test_what_changed_after_the_store_was_opened_is_not_used(copied: Path, name: str) -> None:
    store = Store.open(copied)
    path = copied / name
    if name == "00000.npy":
        np.save(path, np.load(path)[::-1])
    elif name == "00000.parquet":
        table = pq.ParquetFile(path).read()
        pq.write_table(table.take(np.arange(len(table))[::-1]), path)
    else:
        path.write_text('{"path": "x.png", "reason": "none", "stage": "detect"}\n')
    uses = {
        "00000.npy": (store.templates, lambda: next(store.shards()), lambda: store.take(np.array([1]))),
        "00000.parquet": (store.rows, store.paths, store.identities, lambda: store.take_rows(np.array([1]))),
        "failures.jsonl": (store.failures,),
    }
    for use in uses[name]:
        with pytest.raises(BadInput, match=f"{name}: wrong sha256"):
            use()
