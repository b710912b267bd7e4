"""Which files are images, whose they are, and what is said of the rest."""

from __future__ import annotations

import unicodedata
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedecode.errors import BadInput
from facedecode.pictures import finding, images
from facedecode.pictures.finding import find_images, folder_identity, people_notes
from facedecode.pictures.images import load_image

PIXELS = np.full((20, 30, 3), (200, 100, 50), np.uint8)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def people(root: Path, *inputs: str, level: int = 1) -> dict[str, str | None]:
    return {ref.relative: ref.identity for ref in find_images([root / name for name in inputs or ["."]], level).refs}


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("pgm", "PPM"), ("ppm", "PPM"), ("PNM", "PPM"), ("jfif", "JPEG"), ("jpe", "JPEG"), ("dib", "DIB"), ("jpg", "PNG")],
)
def test_kinds_of_data_sets_and_of_windows(tmp_path: Path, ending: str, kind: str) -> None:
    image = Image.fromarray(PIXELS)
    (image.convert("L") if ending == "pgm" else image).save(tmp_path / f"x.{ending}", format=kind)
    ((path, _, _),) = [(ref.path, ref.relative, ref.identity) for ref in find_images([tmp_path]).refs]
    difference = np.abs(load_image(path).astype(int) - PIXELS)
    assert load_image(path).shape == PIXELS.shape and (ending == "pgm" or difference.max() < 4)


def test_avif_is_read_where_pillow_can(tmp_path: Path, monkeypatch) -> None:
    if not finding.features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    Image.fromarray(PIXELS).save(tmp_path / "x.avif")
    assert np.abs(load_image(find_images([tmp_path]).refs[0].path).astype(int) - PIXELS).max() < 8
    monkeypatch.setattr(finding.features, "check", lambda _: False)
    with pytest.raises(BadInput, match=r"no image .*passed over: 1 \.avif \(install pillow"):
        find_images([tmp_path])


def test_heic_is_read_where_its_reader_is(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(PIXELS)).save(tmp_path / "x.HEIC", quality=95)
    found = find_images([tmp_path])
    assert np.abs(load_image(found.refs[0].path).astype(int) - PIXELS).max() < 8 and found.notes == []


def test_heic_without_its_reader_is_told_with_the_remedy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(finding, "find_spec", lambda _: None)
    monkeypatch.setattr(images, "_formats", lambda: ("JPEG", "PNG"))
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    found = find_images([tmp_path])
    assert [ref.relative for ref in found.refs] == ["a/1.jpg"]
    assert found.notes == ["passed over: 1 .heic (install facedecode[heif] to read them)"]
    with pytest.raises(BadInput, match=r"IMG_1\.HEIC: a HEIF image; install facedecode\[heif\]"):
        load_image(tmp_path / "a/IMG_1.HEIC")


def test_what_is_passed_over_is_counted_and_junk_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/1.mp4", "b/2.MP4", "b/README", "list.txt")
    touch(tmp_path, "a/._1.jpg", "a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", ".cache/x.mov")
    assert find_images([tmp_path]).notes == ["passed over: 1 without an ending, 2 .mp4, 1 .txt"]
    assert find_images([tmp_path, tmp_path / "a", tmp_path / "b/README"]).notes == ["passed over: 2 .mp4, 1 .txt"]
    touch(tmp_path, "c/1.mp4")
    with pytest.raises(BadInput, match=r"c: no image in this folder .*; passed over: 1 \.mp4"):
        find_images([tmp_path / "c"])


def test_names_that_no_file_system_takes_are_missing(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(BadInput, match="no such file or folder"):
            find_images([tmp_path / name])


def test_images_of_a_glob_keep_their_people(tmp_path: Path) -> None:
    touch(tmp_path, "Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg")
    both = {"Ann/1.jpg": "Ann", "Ann/2.jpg": "Ann", "Bob/1.jpg": "Bob"}
    assert people(tmp_path) == people(tmp_path, *both) == people(tmp_path, "Ann", "Bob") == both
    # Also where all are of one folder; when that folder is named itself, nothing says that it is a person's.
    assert people(tmp_path, "Ann/1.jpg", "Ann/2.jpg") == {"Ann/1.jpg": "Ann", "Ann/2.jpg": "Ann"}
    assert people(tmp_path, "Ann/1.jpg") == {"Ann/1.jpg": "Ann"}
    for named in (["Ann"], ["Ann", "Ann/1.jpg"]):
        assert people(tmp_path, *named) == {"1.jpg": None, "2.jpg": None}


def test_images_of_a_glob_keep_the_people_of_folders_above(tmp_path: Path) -> None:
    touch(tmp_path, "001/frontal/1.jpg", "001/profile/1.jpg", "001/top.jpg")
    for names in (["001/frontal/1.jpg"], ["001/frontal/1.jpg", "001/profile/1.jpg"]):
        assert people(tmp_path, *names, level=2) == dict.fromkeys(names, "001")
    both = ["001/frontal/1.jpg", "001/top.jpg"]
    assert people(tmp_path, *both) == {"frontal/1.jpg": "frontal", "top.jpg": None}


def test_the_working_directory_and_a_linked_folder_are_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "Ann/1.jpg", "Ann/in/1.jpg", "Bob/1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "Bob")
    monkeypatch.chdir(tmp_path / "Ann")
    for name in ("1.jpg", "./1.jpg", "../Ann/1.jpg", "in/../1.jpg", "../link/1.jpg"):
        assert [ref[1:] for ref in map(astuple, find_images([Path(name)]).refs)] == [("1.jpg", None)]
    assert people(Path(), "in/1.jpg") == {"in/1.jpg": "in"} and people(Path(), "../Bob/1.jpg") == {"Bob/1.jpg": "Bob"}
    monkeypatch.chdir("in")
    assert people(Path(), "../1.jpg") == {"1.jpg": None}


def test_the_level_of_the_person(tmp_path: Path) -> None:
    touch(tmp_path, "001/frontal/01.jpg", "001/profile/01.jpg", "002/frontal/01.jpg", "003/01.jpg")
    assert set(people(tmp_path).values()) == {"frontal", "profile", "003"}
    assert list(people(tmp_path, level=2).values()) == ["001", "001", "002", None]
    assert set(people(tmp_path, level=3).values()) == {None}
    assert folder_identity(Path("a/b/c"), Path("a"), 2) == "b" and folder_identity(Path("a"), Path("a")) is None


def test_composed_and_decomposed_names_are_one_person(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        touch(tmp_path, f"{unicodedata.normalize(form, 'Zoë')}/{form}.jpg")
    refs = find_images([tmp_path]).refs
    assert len({ref.path.parent for ref in refs}) == 2 and {ref.identity for ref in refs} == {"Zo\u00eb"}
    assert all(ref.path.is_file() for ref in refs)
    assert people_notes(refs, 1) == ["2 images of 1 person ('Zoë')"]


def test_it_says_whose_the_images_are(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n:03}/{n}.jpg" for n in range(5)), "top.jpg")
    refs = find_images([tmp_path]).refs
    assert people_notes(refs, 1) == ["6 images of 5 people, 1 of nobody named"]
    assert people_notes(refs[-1:], 1) == ["1 image of nobody named"]


def test_a_name_in_several_folders_is_pointed_out(tmp_path: Path) -> None:
    touch(tmp_path, "001/frontal/1.jpg", "002/frontal/1.jpg", "002/profile/1.jpg")
    refs = find_images([tmp_path]).refs
    count, recurring = people_notes(refs, 1)
    assert count == "3 images of 2 people ('frontal', 'profile')"
    assert "one person: frontal (001/frontal, 002/frontal)" in recurring and "--identity-level 2" in recurring
    assert len(people_notes(refs, None)) == 1  # a file says who they are
    assert people_notes(find_images([tmp_path], 2).refs, 2) == ["3 images of 2 people ('001', '002')"]
