"""Perturbations: names, direction, composition, exactness, fill."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from facedecode.errors import UsageError
from facedecode.perturb import _STEPS, expand_group, parse_transform, perturb, transform_names


def face_at(x: float, y: float, width: float = 20, height: float = 30) -> SimpleNamespace:
    return SimpleNamespace(box=np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def moved(name: str, point: tuple[float, float], center: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    matrix = parse_transform(name).matrix(face_at(*center))
    return matrix[:, :2] @ point + matrix[:, 2]


def bilinear(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The definition, one pixel after the other: an oracle for interpolation, rounding and fill."""
    height, width = image.shape[:2]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            x, y = inverse @ [column + 0.5, row + 0.5, 1]
            if not (0 <= x < width and 0 <= y < height):
                continue
            left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
            for i, weight_y in ((top, top + 1.5 - y), (top + 1, y - top - 0.5)):
                for j, weight_x in ((left, left + 1.5 - x), (left + 1, x - left - 0.5)):
                    value = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)].astype(float)
                    result[row, column] += weight_x * weight_y * value
    return result


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("angle", [30, 60, 90, 120, 150, 180])
def test_positive_is_counter_clockwise_as_seen(sign: int, angle: int) -> None:
    x, y = moved(f"rotate{sign * angle}", (1.0, 0.0))
    # With y down, the angle that a viewer sees is that of (x, -y).
    assert np.exp(1j * np.radians(sign * angle)) == pytest.approx(complex(x, -y), abs=1e-9)


def test_a_pixel_right_of_the_center_goes_up() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 30] = (255, 100, 7)
    turned = perturb(image, face_at(20.5, 20.5), parse_transform("rotate90"))
    assert np.argwhere(turned.any(axis=2)).tolist() == [[10, 20]]
    assert turned[10, 20].tolist() == [255, 100, 7]
    turned = perturb(image, face_at(20.5, 20.5), parse_transform("rotate30"))
    row, column = np.unravel_index(turned[:, :, 0].argmax(), (41, 41))
    assert (row, column) == (15, 29)  # 10 px at 30°: 8.7 to the right, 5 up


@pytest.mark.parametrize("side", [40, 41])
@pytest.mark.parametrize(("name", "turns"), [("rotate90", 1), ("rotate180", 2), ("rotate-90", 3), ("rotate-180", 2)])
def test_quarter_turns_about_the_middle_are_exact(side: int, name: str, turns: int) -> None:
    image = noise(side, side)
    turned = perturb(image, face_at(side / 2, side / 2), parse_transform(name))
    np.testing.assert_array_equal(turned, np.rot90(image, turns))


def test_half_turn_twice_is_the_picture_again() -> None:
    image, face = noise(30, 44), face_at(22, 15)
    half = parse_transform("rotate180")
    np.testing.assert_array_equal(perturb(perturb(image, face, half), face, half), image)
    np.testing.assert_array_equal(perturb(image, face, parse_transform("rotate180+rotate180")), image)


def test_about_the_box_center_wherever_it_is() -> None:
    for name in transform_names():
        assert moved(name, (61.25, 17.5), (61.25, 17.5)) == pytest.approx([61.25, 17.5], abs=1e-9)
    image, face = noise(50, 60), face_at(40.5, 12)
    turned = perturb(image, face, parse_transform("rotate180"))
    expected = np.zeros_like(image)  # x → 81 - x, y → 24 - y
    expected[:24, 21:] = image[:24, 21:][::-1, ::-1]
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("name", ["rotate30", "rotate-120", "rotate60+rotate-30"])
def test_equals_the_definition_of_bilinear_resampling(name: str) -> None:
    image, face, transform = noise(23, 31, seed=1), face_at(14.3, 10.9), parse_transform(name)
    turned = perturb(image, face, transform)
    assert turned.dtype == np.uint8
    assert turned.shape == image.shape
    # Half a level for the rounding, and the last bits of float32.
    assert np.abs(turned - bilinear(image, transform.matrix(face))).max() < 0.501


def test_outside_is_black_and_flat_stays_flat() -> None:
    image = np.full((40, 40, 3), 201, np.uint8)
    turned = perturb(image, face_at(20, 20), parse_transform("rotate30"))
    assert set(np.unique(turned)) == {0, 201}
    assert not turned[0, 0].any()
    assert not turned[-1, -1].any()
    assert (turned[10:30, 10:30] == 201).all()
    assert (image == 201).all()


def test_composition_is_left_to_right_and_about_one_center() -> None:
    face = face_at(33.3, 21.7)
    first, second = (np.vstack([parse_transform(name).matrix(face), [0, 0, 1]]) for name in ("rotate30", "rotate-90"))
    joined = parse_transform("rotate30+rotate-90").matrix(face)
    np.testing.assert_allclose(joined, (second @ first)[:2], atol=1e-9)
    np.testing.assert_allclose(joined, parse_transform("rotate-60").matrix(face), atol=1e-9)
    identity = parse_transform("rotate30+rotate60+rotate-90").matrix(face)
    np.testing.assert_allclose(identity, np.eye(3)[:2], atol=1e-9)


def test_steps_that_do_not_commute_are_done_left_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def right_by_half_the_width(size: np.ndarray) -> np.ndarray:
        return np.array([[1, 0, size[0] / 2], [0, 1, 0], [0, 0, 1.0]])

    monkeypatch.setitem(_STEPS, "aside", right_by_half_the_width)
    center = (50.0, 40.0)
    assert moved("aside+rotate90", center, center) == pytest.approx([50, 30])  # right, then turned up
    assert moved("rotate90+aside", center, center) == pytest.approx([60, 40])


@pytest.mark.parametrize(
    "name", ["", "rotate", "rotate45", "rotate0", "Rotate30", "rotate30+", "+rotate30", "rotate30 "]
)
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown transform .*rotate30, .*rotate-180") as caught:
        parse_transform(name)
    assert "\n" not in str(caught.value)


def test_groups() -> None:
    names = [transform.name for transform in expand_group("rotations")]
    assert sorted(names, key=lambda name: int(name.removeprefix("rotate"))) == [
        f"rotate{angle}" for angle in range(-180, 181, 30) if angle
    ]
    assert [t.name for t in expand_group("all")] == list(transform_names())
    assert expand_group("rotate30+rotate60") == [parse_transform("rotate30+rotate60")]
    with pytest.raises(UsageError, match=r"'rotation'.*rotate30.*groups rotations, all"):
        expand_group("rotation")


def test_a_transform_can_be_sent_to_another_process() -> None:
    transform = parse_transform("rotate30+rotate60")
    assert pickle.loads(pickle.dumps(transform)) == transform
