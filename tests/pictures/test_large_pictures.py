"""Large pictures: in parts the same as whole, and in memory that the cores share."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedecode.extraction import cropping
from facedecode.extraction.cropping import FaceCropper
from facedecode.memory import Budget
from facedecode.pictures import align, images
from facedecode.pictures.faces import Face, FaceDetector
from facedecode.pictures.finding import find_images
from facedecode.pictures.images import load_image, read_image
from facedecode.pictures.perturb import parse_transform, perturb
from facedecode.recognizers.recognizer import Recognizer


@pytest.fixture(scope="module")
def crowd(photos: Path) -> np.ndarray:
    """Six megapixels with faces of several sizes."""
    faces = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*/*_000[12].png"))]
    canvas = Image.new("RGB", (2501, 2399), (90, 110, 130))
    for place, (face, side) in enumerate(zip(faces, (1400, 150, 700, 60), strict=True)):
        canvas.paste(face.resize((side, side)), (place % 2 * 1450, place // 2 * 1450))
    return np.asarray(canvas)


def assert_same_faces(found: list[Face], expected: list[Face]) -> None:
    assert len(found) == len(expected)
    for face, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(face.box, other.box, atol=0.01)
        np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.01)
        assert face.probability == pytest.approx(other.probability, abs=1e-5)


def test_tiles_give_the_faces_of_the_whole(crowd: np.ndarray, detector: FaceDetector, monkeypatch) -> None:
    assert crowd.shape[0] * crowd.shape[1] > detector._net.whole
    (found,) = detector.detect([crowd])
    monkeypatch.setattr(detector._net, "whole", crowd.size)
    (expected,) = detector.detect([crowd])
    assert len(expected) >= 3
    assert_same_faces(found, expected)


@pytest.mark.parametrize(
    ("size", "side"), [((61, 75), 12), ((250, 250), 60), ((251, 333), 60), ((251, 333), 97), ((40, 901), 41)]
)
def test_tiles_of_any_size_lie_on_one_grid(photos: Path, detector, monkeypatch, size, side) -> None:
    height, width = size
    picture = Image.open(sorted(photos.glob("*/*.png"))[0]).convert("RGB").resize((height, height))
    image = np.tile(np.asarray(picture), (1, -(-width // height), 1))[:, :width]
    (expected,) = detector.detect([image])
    monkeypatch.setattr(detector._net, "whole", 1)
    monkeypatch.setattr(detector._net, "slices", (side * side, detector._net.slices[1]))
    assert_same_faces(detector.detect([image])[0], expected)


def test_several_large_pictures_of_one_size(photos: Path, detector: FaceDetector, monkeypatch) -> None:
    pictures = [load_image(path) for path in sorted(photos.glob("Eileen/*.png"))]
    expected = detector.detect(pictures)
    monkeypatch.setattr(detector._net, "whole", 1)
    for faces, others in zip(detector.detect(pictures), expected, strict=True):
        assert_same_faces(faces, others)


@pytest.mark.parametrize("name", ["rotate30", "shift-left", "scale0.5", "scale1.5+rotate-60+occlude-eyes"])
def test_a_picture_perturbed_in_tiles(photos: Path, detector: FaceDetector, monkeypatch, name: str) -> None:
    image = load_image(sorted(photos.glob("*/*.png"))[0])
    face, transform = detector.detect([image])[0][0], parse_transform(name)
    expected = perturb(image, face, transform)
    monkeypatch.setattr(align, "LARGE", 61 * 61)
    monkeypatch.setattr(align, "_TILE", 61)
    difference = np.abs(perturb(image, face, transform).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.001


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "I;16", "1"])
def test_bands_give_the_pixels_of_the_whole(tmp_path: Path, monkeypatch, mode: str, orientation: int) -> None:
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (13, 17)).astype(np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (13, 17, 4), dtype=np.uint8)).convert(mode)
    image.save(path, exif=exif, **({"transparency": bytes(range(256))} if mode == "P" else {}))
    whole = load_image(path)
    monkeypatch.setattr(images, "_BAND_PIXELS", 40)
    np.testing.assert_array_equal(load_image(path), whole)
    assert whole.shape == ((17, 13, 3) if orientation > 4 else (13, 17, 3))


def test_pixels_and_hash_are_of_one_reading(photos: Path, tmp_path: Path, monkeypatch) -> None:
    first, second = sorted(photos.glob("Eileen/*.png"))[:2]
    path = tmp_path / "x.png"
    path.write_bytes(first.read_bytes())
    read = images.read_file

    def replaced(*arguments) -> bytes:
        data = read(*arguments)
        path.write_bytes(second.read_bytes())
        return data

    monkeypatch.setattr(images, "read_file", replaced)
    pixels, sha256 = read_image(path)
    monkeypatch.undo()
    np.testing.assert_array_equal(pixels, load_image(first))
    assert sha256 == read_image(first)[1] != read_image(path)[1]


def test_a_file_that_is_too_large_is_refused(photos: Path, monkeypatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    with pytest.raises(images.BadInput, match=r"at most 1,000 are read"):
        read_image(sorted(photos.glob("*/*.png"))[0])


class Counted:
    """A finder that counts how many pictures are worked on at once."""

    settings: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, detector: FaceDetector) -> None:
        self.detector, self.lock, self.now, self.most = detector, threading.Lock(), 0, 0

    def find(self, pictures, paths):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        yield from self.detector.find(pictures)
        with self.lock:
            self.now -= 1


def test_large_pictures_wait_for_one_another(photos: Path, recognizer: Recognizer, detector, monkeypatch) -> None:
    refs = find_images([photos]).refs
    expected = list(FaceCropper(recognizer, detector).items(refs, 1, workers=1))
    counted = Counted(detector)
    for module in (images, cropping):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(images, "_ROOM", Budget(1))
    results = list(FaceCropper(recognizer, counted).items(refs, 1, workers=4))
    assert counted.most == 1
    for item, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(item.template, other.template)


PEAK = """
    import resource, sys
    from pathlib import Path
    from facedecode.extraction.cropping import FaceCropper
    from facedecode.pictures.faces import FaceDetector
    from facedecode.pictures.finding import find_images

    small, large = (find_images([Path(name)]).refs for name in sys.argv[1:])
    cropper = FaceCropper(None, FaceDetector())
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    list(cropper.items(small, 1, 1))
    before = peak()
    results = list(cropper.items(large, 1, 4))
    print(peak() - before, [item.failure["reason"] for item in results])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks have another unit elsewhere")
def test_memory_of_large_pictures(tmp_path: Path) -> None:
    """Three of five megapixels, for four workers: once they took 90 bytes a pixel each, 1.3 GB."""
    import textwrap

    (tmp_path / "large").mkdir()
    Image.new("RGB", (250, 250), (90, 110, 130)).save(tmp_path / "small.png")
    for i in range(3):
        Image.new("RGB", (2200, 2200), (90, 110, 130)).save(tmp_path / f"large/{i}.png")
    arguments = [sys.executable, "-c", textwrap.dedent(PEAK), str(tmp_path / "small.png"), str(tmp_path / "large")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peak, _, reasons = done.stdout.partition(" ")
    assert reasons.count("no face found") == 3
    assert float(peak) < 400  # MiB
