"""Detection against facenet-pytorch, and the rule that picks one face."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torch.nn.functional import interpolate

from facedecode.pictures.faces import Face, FaceDetector, choose_face
from facedecode.pictures.images import load_image
from facedecode.pictures.mtcnn import SummedArea


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


def _oracle(image: np.ndarray, **settings: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, probabilities, points = MTCNN(**settings).detect(Image.fromarray(image), landmarks=True)
    if boxes is None:
        return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    return tuple(np.asarray(part, dtype=np.float64) for part in (boxes, probabilities, points))


def _assert_same(faces: list[Face], expected: tuple[np.ndarray, np.ndarray, np.ndarray], px: float) -> None:
    boxes, probabilities, points = expected
    assert len(faces) == len(boxes)
    for face, box, probability, landmarks in zip(faces, boxes, probabilities, points, strict=True):
        assert face.box.dtype == face.landmarks.dtype == np.float32
        np.testing.assert_allclose(face.box, box, atol=px)
        np.testing.assert_allclose(face.landmarks, landmarks, atol=px)
        assert face.probability == pytest.approx(probability, abs=1e-4)


# ---------------------------------------------------------------- MTCNN


def test_astronaut_equals_facenet_pytorch(detector: FaceDetector, portrait: np.ndarray) -> None:
    (faces,) = detector.detect([portrait])
    assert len(faces) >= 1
    _assert_same(faces, _oracle(portrait), px=0.01)


def test_other_settings_equal_facenet_pytorch(portrait: np.ndarray) -> None:
    settings = {"min_face_size": 45, "thresholds": [0.5, 0.6, 0.5], "factor": 0.6}
    _assert_same(FaceDetector(**settings).detect([portrait])[0], _oracle(portrait, **settings), px=0.01)


def test_landmarks_are_ordered_as_documented(detector: FaceDetector, portrait: np.ndarray) -> None:
    face = choose_face(detector.detect([portrait])[0], portrait.shape[1], portrait.shape[0])
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.lfw
def test_lfw_equals_facenet_pytorch(detector: FaceDetector, lfw: Path) -> None:
    paths = sorted((lfw / "images").glob("*/*_0001.jpg"))[::290][:12]
    images = [load_image(path) for path in paths]
    for faces, image in zip(detector.detect(images), images, strict=True):
        _assert_same(faces, _oracle(image), px=0.01)


def test_faces_do_not_depend_on_the_batch(detector: FaceDetector, portrait: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, portrait.shape, dtype=np.uint8)
    images = [portrait, noise, portrait[:, ::-1], portrait[:300, 60:], np.roll(portrait, 40, axis=0)]
    alone = [detector.detect([image])[0] for image in images]
    assert any(alone)
    for order in (range(5), (4, 2, 0, 3, 1)):
        together = detector.detect([images[i] for i in order])
        for faces, i in zip(together, order, strict=True):
            expected = [np.array([getattr(face, name) for face in alone[i]]) for name in _FIELDS]
            _assert_same(faces, tuple(expected), px=1e-3)


def test_threads_share_a_detector(detector: FaceDetector, portrait: np.ndarray) -> None:
    images = [portrait, np.ascontiguousarray(portrait[:, ::-1]), portrait[:300, 60:]] * 2
    alone = [detector.detect([image])[0] for image in images]
    with ThreadPoolExecutor(3) as pool:
        for faces, expected in zip(pool.map(lambda image: detector.detect([image])[0], images), alone, strict=True):
            _assert_same(faces, tuple(np.array([getattr(f, name) for f in expected]) for name in _FIELDS), px=1e-3)


_FIELDS = ("box", "probability", "landmarks")


@pytest.mark.parametrize("shape", [(96, 120, 3), (20, 20, 3), (11, 300, 3), (1, 1, 3)])
def test_no_face_gives_an_empty_list(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    assert detector.detect([np.full(shape, 128, np.uint8)]) == [[]]
    assert detector.detect([]) == []


def test_a_face_cut_by_the_edge_is_found(detector: FaceDetector, portrait: np.ndarray) -> None:
    """Boxes that reach beyond the picture go through all three networks."""
    cut = np.ascontiguousarray(portrait[70:, 190:])
    faces = detector.detect([cut])[0]
    assert faces and min(face.box.min() for face in faces) < 0
    _assert_same(faces, _oracle(cut), px=0.01)


def test_wrong_arrays_are_refused(detector: FaceDetector) -> None:
    for bad in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            detector.detect([bad])
    with pytest.raises(ValueError, match="factor"):
        FaceDetector(factor=1.0)


def test_settings_are_json(detector: FaceDetector) -> None:
    assert json.loads(json.dumps(detector.settings)) == detector.settings
    assert detector.settings["thresholds"] == [0.6, 0.7, 0.7]


# ---------------------------------------------------------------- averages


@pytest.mark.parametrize("size", [(31, 17), (5, 90), (64, 80)])
def test_summed_areas_equal_area_interpolation(size: tuple[int, int]) -> None:
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 64, 80, 3), dtype=np.uint8))
    table = SummedArea(images)
    planes = images.permute(0, 3, 1, 2).double()
    expected = interpolate(planes, size, mode="area")
    resized = table.resize(slice(0, 3), size)
    torch.testing.assert_close(resized[:, :3].double(), expected, rtol=1e-6, atol=0)
    low, high = torch.tensor([[3, 5], [0, 0], [79, 63]]), torch.tensor([[50, 9], [80, 64], [80, 64]])
    crops = table.crop(torch.tensor([2, 0, 1]), low, high, 24)
    for crop, i, (x1, y1), (x2, y2) in zip(crops, (2, 0, 1), low, high, strict=True):
        expected = interpolate(planes[i : i + 1, :, y1:y2, x1:x2], (24, 24), mode="area")[0]
        torch.testing.assert_close(crop[:3].double(), expected, rtol=1e-6, atol=0)


def test_summed_areas_do_not_overflow() -> None:
    white = torch.full((1, 3000, 3000, 3), 255, dtype=torch.uint8)
    assert (SummedArea(white).resize(slice(0, 1), (2, 2))[:, :3] == 255).all()


# ---------------------------------------------------------------- the rule


def _face(x1: float, y1: float, x2: float, y2: float, probability: float = 0.9) -> Face:
    return Face(np.array([x1, y1, x2, y2], np.float32), np.zeros((5, 2), np.float32), probability)


def test_the_larger_of_two_equally_central_faces_counts() -> None:
    small, large = _face(20, 40, 40, 60, 0.99), _face(50, 35, 90, 65)
    assert choose_face([small, large], 110, 100) is large


def test_a_central_face_beats_a_larger_one_far_off() -> None:
    central, corner = _face(80, 80, 120, 120), _face(0, 0, 60, 60)
    # 1600 - 0 against 3600 - 2 * (70² + 70²)
    assert choose_face([corner, central], 200, 200) is central


def test_the_rule_is_area_less_twice_the_squared_distance() -> None:
    # Areas 400 and 410; the second face's center is d px off, so it loses once 2 d² > 10.
    first = _face(90, 90, 110, 110)
    near, far = (_face(90 + d, 89.75, 110 + d, 110.25) for d in (2.2, 2.3))
    assert choose_face([first, near], 200, 200) is near
    assert choose_face([first, far], 200, 200) is first


def test_no_face_to_choose() -> None:
    assert choose_face([], 10, 10) is None


def test_two_faces_in_one_picture(detector: FaceDetector, portrait: np.ndarray) -> None:
    head = portrait[:256, 100:356]
    small = np.asarray(Image.fromarray(head).resize((150, 150)))
    canvas = np.full((300, 460, 3), 128, np.uint8)
    canvas[:256, :256] = head
    canvas[75:225, 290:440] = small
    faces = detector.detect([canvas])[0]
    assert len(faces) >= 2
    chosen = choose_face(faces, 460, 300)
    assert chosen.box[2] < 270
    # Now the small one is in the middle of a wide canvas and the large one far off.
    wide = np.full((300, 1000, 3), 128, np.uint8)
    wide[:256, :256] = head
    wide[75:225, 425:575] = small
    chosen = choose_face(detector.detect([wide])[0], 1000, 300)
    assert chosen.box[0] > 425 and chosen.box[2] < 575
