"""Geometry of the crops against constructed ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from facedecode.pictures import align
from facedecode.pictures.faces import Face


def similarity(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, shift])


def move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize(("scale", "degrees", "shift"), [(1, 0, (0, 0)), (0.4, 25, (3, -8)), (3, -170, (50, 9))])
def test_fit_similarity_recovers_a_known_one(scale, degrees, shift) -> None:
    source = np.array(align.DLIB_POINTS)
    truth = similarity(scale, degrees, shift)
    np.testing.assert_allclose(align.fit_similarity(source, move(source, truth)), truth, atol=1e-9)


def test_fit_similarity_equals_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform")
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 5, 2)) * 30
    expected = transform.SimilarityTransform.from_estimate(source, target).params[:2]
    # Umeyama forbids reflections; so does a complex factor, but only where the best fit is none is it the same.
    flipped = np.linalg.det((target - target.mean(0)).T @ (source - source.mean(0))) < 0
    if not flipped:
        np.testing.assert_allclose(align.fit_similarity(source, target), expected, atol=1e-6)


def test_weights_decide_whose_residual_counts() -> None:
    source = np.array(align.DLIB_POINTS)
    target = source.copy()
    target[2] += 20
    heavy = align.fit_similarity(source, target, np.array([1e6, 1e6, 1, 1e6, 1e6]))
    np.testing.assert_allclose(move(source, heavy)[[0, 1, 3, 4]], source[[0, 1, 3, 4]], atol=0.01)


def test_resample_identity_and_whole_shifts_are_exact() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(align.resample(image, similarity(1, 0, (0, 0)), 30, 20), image)
    moved = align.resample(image, similarity(1, 0, (4, -3)), 30, 20)
    np.testing.assert_array_equal(moved[:17, 4:], image[3:, :26])
    assert not moved[17:].any() and not moved[:, :4].any()


def test_resample_puts_pixel_centers_at_one_half() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[2, 5] = 200
    doubled = align.resample(image, similarity(2, 0, (0, 0)), 16, 16).astype(float)
    y, x = np.mgrid[:16, :16] + 0.5
    weight = doubled[..., 0].sum()
    assert (doubled[..., 0] * x).sum() / weight == pytest.approx(11, abs=0.01)
    assert (doubled[..., 0] * y).sum() / weight == pytest.approx(5, abs=0.01)


def test_resample_rounds_without_bias() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    y, x = np.mgrid[:60, :60]
    moved = align.resample(image, similarity(1, 0, (-0.25, -0.5)), 60, 60).astype(float)
    f = image.astype(float)
    rows = f[y, x] * 0.5 + f[y + 1, x] * 0.5
    rows_right = f[y, x + 1] * 0.5 + f[y + 1, x + 1] * 0.5
    error = moved - (0.75 * rows + 0.25 * rows_right)
    assert abs(error).max() <= 0.5 and abs(error.mean()) < 0.02


@pytest.mark.parametrize(("scale", "degrees", "shift"), [(0.8, 20, (30, -10)), (2.5, -100, (-80, 230))])
def test_resample_equals_bilinear_interpolation_in_float64(scale, degrees, shift) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    matrix = similarity(scale, degrees, shift)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    y, x = np.mgrid[:100, :110] + 0.5
    source = move(np.stack([x, y], 2), inverse)
    inside = ((source > 0) & (source < (120, 90))).all(2)
    assert 0.2 < inside.mean() < 1
    places = (source - 0.5).transpose(2, 0, 1)[::-1]
    moved = align.resample(image, matrix, 110, 100)
    for channel in range(3):
        expected = ndimage.map_coordinates(image[:, :, channel].astype(float), places, order=1, mode="nearest")
        assert abs(moved[:, :, channel] - expected)[inside].max() < 0.51
    assert not moved[~inside].any()


def test_shrinking_averages_rather_than_skips() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    small = align.resample(stripes, similarity(0.1, 0, (0, 0)), 40, 40)
    assert small[2:-2, 2:-2].min() >= 120 and small[2:-2, 2:-2].max() <= 135


def test_a_crop_outside_the_image_is_black() -> None:
    image = np.full((50, 50, 3), 255, np.uint8)
    assert not align.resample(image, similarity(1, 0, (500, 0)), 50, 50).any()


@pytest.mark.parametrize(
    "crop",
    [
        align.PointCrop(150, align.DLIB_POINTS, align.DLIB_WEIGHTS, "image"),
        align.PointCrop(112, align.ARCFACE_POINTS),
        align.portrait_crop(128),
    ],
)
def test_point_crop_brings_a_moved_template_onto_its_points(crop) -> None:
    truth = similarity(0.37, 33, (40, 80))
    landmarks = move(np.array(crop.points), truth).astype(np.float32)
    face = Face(np.zeros(4, np.float32), landmarks, 1.0)
    np.testing.assert_allclose(move(landmarks, crop.matrix(face)), crop.points, atol=1e-3)


def test_box_crop_is_a_square_about_the_box() -> None:
    face = Face(np.array([10, 20, 30, 60], np.float32), np.zeros((5, 2), np.float32), 1.0)
    matrix = align.BoxCrop(100, 1.5).matrix(face)
    np.testing.assert_allclose(move([[20, 40]], matrix), [[50, 50]])
    np.testing.assert_allclose(move([[20 - 30, 40 - 30]], matrix), [[0, 0]], atol=1e-9)


@pytest.mark.parametrize(
    ("side", "half"),
    [("longer", (30, 30)), ("shorter", (15, 15)), ("mean", (22.5, 22.5)), ("both", (15, 30)), ("margin", (17.5, 27.5))],
)
def test_box_crop_takes_the_side_that_it_is_told(side: str, half: tuple[float, float]) -> None:
    face = Face(np.array([10, 20, 30, 60], np.float32), np.zeros((5, 2), np.float32), 1.0)
    matrix = align.BoxCrop(100, 1.5, side).matrix(face)
    corners = [[20 - half[0], 40 - half[1]], [20, 40], [20 + half[0], 40 + half[1]]]
    np.testing.assert_allclose(move(corners, matrix), [[0, 0], [50, 50], [100, 100]], atol=1e-9)


def test_the_portrait_holds_every_registered_crop() -> None:
    from facedecode.recognizers import REGISTRY

    for spec in REGISTRY.values():
        to_portrait = np.linalg.inv(np.vstack([spec.crop.matrix(align.portrait_face(1)), [0, 0, 1]]))[:2]
        size = spec.crop.size
        corners = move([[0, 0], [size, 0], [0, size], [size, size]], to_portrait)
        # Less than half a px at 224; FaceNet's is wider, and black there.
        beyond = 0.075 if spec.architecture == "facenet" else 0.002
        assert corners.min() > -beyond and corners.max() < 1 + beyond, spec.name
