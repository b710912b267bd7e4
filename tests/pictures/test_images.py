"""Reading, finding and writing pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedecode.errors import BadInput, OutputError
from facedecode.pictures.finding import find_images
from facedecode.pictures.images import load_image, save_image

WIDTH, HEIGHT = 48, 32


def _scene() -> np.ndarray:
    """A picture whose eight orientations all differ: a color of its own in each quarter, in blocks of 16."""
    scene = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    scene[:16, :16] = (200, 40, 40)
    scene[:16, 32:] = (40, 200, 40)
    scene[16:, :16] = (40, 40, 200)
    return scene


# ---------------------------------------------------------------- formats


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    # What a camera stores: the scene with the inverse of the turn that EXIF then asks for.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(_scene())
    if orientation in inverse:
        image = image.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"scene{suffix}"
    options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}
    image.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else options))
    loaded = load_image(path)
    assert loaded.shape == (HEIGHT, WIDTH, 3) and loaded.dtype == np.uint8 and loaded.flags.c_contiguous
    assert np.abs(loaded.astype(int) - _scene()).max() <= (12 if suffix == ".jpg" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_a_sound_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(_scene()).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert load_image(path).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bits_are_rounded_to_8(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / f"ramp{suffix}"
    if suffix == ".pgm":
        path.write_bytes(b"P5 256 256 65535\n" + ramp.astype(">u2").tobytes())
    else:
        Image.fromarray(ramp).save(path)
    expected = np.rint(ramp / 257).astype(np.uint8)
    assert np.array_equal(load_image(path), np.repeat(expected[..., None], 3, axis=2))


def test_gray_bilevel_and_cmyk(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert np.array_equal(load_image(tmp_path / "gray.png"), np.repeat(gray[..., None], 3, axis=2))
    Image.fromarray(gray > 99).save(tmp_path / "bilevel.png")
    assert np.array_equal(load_image(tmp_path / "bilevel.png")[..., 1], np.where(gray > 99, 255, 0))
    for suffix in ("jpg", "tif"):
        path = tmp_path / f"cmyk.{suffix}"
        Image.fromarray(_scene()).convert("CMYK").save(path, **({"quality": 95} if suffix == "jpg" else {}))
        assert np.abs(load_image(path).astype(int) - _scene())[8, 8].max() <= 6


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([_scene(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:16, :16, 3] = 0
    rgba[16:, :16, 3] = 51  # a fifth of (40, 40, 200), four fifths of white
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([rgba[..., 0], rgba[..., 3]])).save(tmp_path / "la.png")
    loaded = load_image(tmp_path / "rgba.png")
    assert loaded[0, 0].tolist() == [255, 255, 255]
    assert loaded[20, 0].tolist() == [212, 212, 244]
    assert loaded[0, 40].tolist() == [40, 200, 40]
    gray = load_image(tmp_path / "la.png")
    assert gray[[0, 20, 0], [0, 0, 40]].tolist() == [[255] * 3, [212] * 3, [40] * 3]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_a_transparent_color(tmp_path: Path, suffix: str) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 9, 9, 10, 20, 30] + [0] * 6)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / f"p.{suffix}", transparency=0)
    loaded = load_image(tmp_path / f"p.{suffix}")
    assert loaded[0, 0].tolist() == [255, 255, 255] and loaded[1, 1].tolist() == [10, 20, 30]


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("#204060", "#ff0000")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **_lossless(name))
        assert load_image(tmp_path / name)[4, 4].tolist() == [0x20, 0x40, 0x60]


def _lossless(name: str) -> dict[str, bool]:
    return {"lossless": True} if name.endswith("webp") else {}


# ---------------------------------------------------------------- bad input


def _bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that must be refused, with a word of the reason."""
    jpeg = folder / "sound.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(jpeg)
    files = {
        "text": (b"not a picture\n", "not an image"),
        "empty": (b"", "not an image"),
        "truncated": (jpeg.read_bytes()[:-400], "truncated"),
        "no-pixels": (b"P5 0 0 255\n", "cannot be read|no pixels|not an image"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    }
    result = {}
    for name, (content, reason) in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
        result[name] = folder / f"{name}.jpg", reason
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "float.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(folder / "int.tif")
    (folder / "folder.jpg").mkdir()
    result["float"] = folder / "float.tif", "floating-point"
    result["int32"] = folder / "int.tif", "65535"
    result["folder"] = folder / "folder.jpg", "a folder"
    result["missing"] = folder / "missing.jpg", "no such file"
    return result


@pytest.mark.parametrize(
    "kind",
    ["text", "empty", "truncated", "no-pixels", "postscript", "float", "int32", "folder", "missing"],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path, reason = _bad_files(tmp_path)[kind]
    with pytest.raises(BadInput, match=reason) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (200, 100)).save(path)
    assert load_image(path, max_pixels=20_000).shape == (100, 200, 3)
    with pytest.raises(BadInput, match="bomb"):
        load_image(path, max_pixels=19_999)


@pytest.mark.parametrize("limit", [15_000, 9_000])  # Pillow warns above it, and fails above twice it
@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_pillows_own_limit_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (200, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadInput, match="bomb"):
        load_image(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".gif", ".webp", ".bmp"])
def test_random_damage_gives_a_picture_or_bad_input(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(7)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(_scene()).save(path)
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = sound.copy()
        where = random.integers(0, min(len(sound), 400), 4)
        damaged[where] = random.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            assert load_image(path, max_pixels=1_000_000).dtype == np.uint8
        except BadInput as error:
            assert "\n" not in str(error)


# ---------------------------------------------------------------- find


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_give_identities_and_a_stable_order(tmp_path: Path) -> None:
    names = ["b/b_2.JPG", "b/b_1.jpeg", "a/deep/x.png", "top.webp"]
    passed_over = ["a/notes.txt", ".hidden/x.png", "a/._x.png"]
    _touch(*(tmp_path / name for name in names + passed_over))
    root, refs, _ = find_images([tmp_path])
    assert root == tmp_path
    assert [(ref.relative, ref.identity) for ref in refs] == [
        ("a/deep/x.png", "deep"),
        ("b/b_1.jpeg", "b"),
        ("b/b_2.JPG", "b"),
        ("top.webp", None),
    ]
    assert all(ref.path == root / ref.relative and ref.path.is_absolute() for ref in refs)


def test_several_inputs_share_a_root_and_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path / "one/A/1.png", tmp_path / "two/2.png")
    monkeypatch.chdir(tmp_path)
    inputs = [Path("one/A/1.png"), Path("two"), Path("one"), Path("two/../two/2.png")]
    root, refs, _ = find_images(inputs)
    assert root == tmp_path
    assert [(ref.relative, ref.identity) for ref in refs] == [("one/A/1.png", "A"), ("two/2.png", "two")]
    assert find_images(inputs[::-1]) == (root, refs, [])


def test_a_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    _touch(tmp_path / "Ann/portrait")
    root, refs, _ = find_images([tmp_path / "Ann/portrait"])
    assert root == tmp_path and [(ref.relative, ref.identity) for ref in refs] == [("Ann/portrait", "Ann")]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    _touch(tmp_path / "store/A/1.png")
    (tmp_path / "view").mkdir()
    (tmp_path / "view/A").symlink_to(tmp_path / "store/A")
    (tmp_path / "store/A/loop").symlink_to(tmp_path / "store")
    assert [ref.relative for ref in find_images([tmp_path / "view"])[1]] == ["A/1.png"]


@pytest.mark.parametrize("inputs", [["missing"], ["empty"], ["full", "empty"], []])
def test_nothing_to_do_is_bad_input(tmp_path: Path, inputs: list[str]) -> None:
    _touch(tmp_path / "full/1.png", tmp_path / "empty/notes.txt")
    with pytest.raises(BadInput, match=inputs[-1] if inputs else "no input"):
        find_images([tmp_path / name for name in inputs])


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    with pytest.raises(BadInput, match="UTF-8") as caught:
        find_images([tmp_path])
    str(caught.value).encode()


# ---------------------------------------------------------------- save


def test_saved_pictures_are_rounded_and_round_trip(tmp_path: Path) -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    save_image(tmp_path / "levels.png", levels)
    assert np.array_equal(load_image(tmp_path / "levels.png"), levels)
    for shift in (-0.49, 0.49):
        floats = np.clip((levels + shift) / 255, 0, 1).astype(np.float32)
        save_image(tmp_path / "levels.png", floats)
        assert np.array_equal(load_image(tmp_path / "levels.png"), levels)


def test_save_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    good = np.zeros((4, 4, 3))
    for bad in (good[..., 0], good.astype(int), good + 255, good - 1, good * np.nan, good[:0]):
        with pytest.raises(ValueError):
            save_image(tmp_path / "x.png", bad)
    with pytest.raises(OutputError, match="png"):
        save_image(tmp_path / "x.jpg", good)
    with pytest.raises(OutputError):
        save_image(tmp_path / "no-such-folder/x.png", good)
    assert list(tmp_path.iterdir()) == []
