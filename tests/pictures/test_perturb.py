"""Perturbations: names, direction, composition, exactness, fill, occluders, faces that leave the frame."""

from __future__ import annotations

import itertools
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from facedecode.errors import NoFace, UsageError
from facedecode.pictures.perturb import (
    OCCLUDERS,
    expand_group,
    extent,
    face_axes,
    parse_transform,
    perturb,
    transform_names,
)

# The five landmarks of an upright face in units of its box, from its center.
LANDMARKS = np.array([(-0.25, -0.15), (0.25, -0.15), (0, 0.05), (-0.2, 0.25), (0.2, 0.25)])
MOVES = [name for name in transform_names() if not name.startswith("occlude")]


def face_at(x: float, y: float, width: float = 20, height: float = 30) -> SimpleNamespace:
    box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32)
    return SimpleNamespace(box=box, landmarks=np.float32([x, y] + LANDMARKS * [width, height]))


def turned_face(angle: float, center: tuple[float, float] = (100, 100), size: float = 60) -> SimpleNamespace:
    """A face that is itself turned counter-clockwise by so many degrees."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    face = face_at(*center, size, size * 1.3)
    face.landmarks = np.float32(center + LANDMARKS * [size, size * 1.3] @ np.array([[cos, -sin], [sin, cos]]))
    return face


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
    for name in MOVES:
        if not name.startswith("shift"):
            assert moved(name, (61.25, 17.5), (61.25, 17.5)) == pytest.approx([61.25, 17.5], abs=1e-9)
    image, face = noise(50, 60), face_at(40.5, 12)
    turned = perturb(image, face, parse_transform("rotate180"))
    expected = np.zeros_like(image)  # x → 81 - x, y → 24 - y
    expected[:24, 21:] = image[:24, 21:][::-1, ::-1]
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize(
    ("name", "right", "down"),
    [("shift-left", -8, 0), ("shift-right", 8, 0), ("shift-up", 0, -10), ("shift-down", 0, 10)],
)
def test_a_shift_moves_the_face_by_a_fifth_of_its_box_as_the_viewer_sees_it(name: str, right: int, down: int) -> None:
    image = np.zeros((90, 100, 3), np.uint8)
    image[40, 50] = (255, 100, 7)
    face = face_at(47, 43, width=40, height=50)
    shifted = perturb(image, face, parse_transform(name))
    assert np.argwhere(shifted.any(axis=2)).tolist() == [[40 + down, 50 + right]]
    assert shifted[40 + down, 50 + right].tolist() == [255, 100, 7]
    matrix = parse_transform(name).matrix(face)
    np.testing.assert_array_equal(matrix, [[1, 0, right], [0, 1, down]])


def test_a_shift_leaves_black_behind() -> None:
    image = noise(60, 60) | 1
    shifted = perturb(image, face_at(30, 30), parse_transform("shift-right"))
    assert not shifted[:, :4].any()
    np.testing.assert_array_equal(shifted[:, 4:], image[:, :-4])


@pytest.mark.parametrize(("name", "factor"), [("scale0.5", 0.5), ("scale1.5", 1.5)])
def test_a_scale_is_about_the_box_center(name: str, factor: float) -> None:
    center = np.array([31.0, 22.0])
    np.testing.assert_allclose(moved(name, (41.0, 27.0), tuple(center)), center + factor * np.array([10.0, 5.0]))
    # A disk around the center stays there, and its area changes by the factor's square.
    y, x = np.mgrid[:50, :60] + 0.5
    disk = np.hypot(x - center[0], y - center[1]) < 9
    image = np.repeat(disk[:, :, None] * np.uint8(200), 3, axis=2)
    scaled = perturb(image, face_at(*center), parse_transform(name))[:, :, 0].astype(float)
    weight = scaled.sum()
    assert weight / 200 == pytest.approx(factor**2 * disk.sum(), rel=0.02)
    assert (scaled * x).sum() / weight == pytest.approx(center[0], abs=0.02)
    assert (scaled * y).sum() / weight == pytest.approx(center[1], abs=0.02)


@pytest.mark.parametrize("side", [60, 61])
def test_half_the_scale_averages_four_pixels_turned_or_not(side: int) -> None:
    image, face = noise(side, side), face_at(30, 30)
    mean = image[:60, :60].reshape(30, 2, 30, 2, 3).astype(float).mean(axis=(1, 3))
    half = perturb(image, face, parse_transform("scale0.5"))
    assert np.abs(half[15:45, 15:45] - mean).max() <= 0.5
    # The next center comes from 61.0, which lies outside, though the last block reaches to 62.
    half[15:45, 15:45] = 0
    assert not half.any()
    for name in ("scale0.5+rotate30+rotate60", "rotate30+scale0.5+rotate60"):
        turned = perturb(image[:60, :60], face, parse_transform(name))
        assert np.abs(turned[15:45, 15:45] - np.rot90(mean)).max() <= 0.5


@pytest.mark.parametrize("center", [30, 31, 30.5, 30.25])
def test_half_the_scale_blurs_alike_wherever_the_center_falls(center: float) -> None:
    image, face = noise(61, 61), face_at(center, center)
    half = perturb(image, face, parse_transform("scale0.5"))
    # Four bilinear samples, at the quarters of each pixel.
    inverse = np.linalg.inv(np.vstack([parse_transform("scale0.5").matrix(face), [0, 0, 1]]))
    for x, y in ((30, 30), (33, 24), (22, 37)):
        samples = []
        for dx, dy in itertools.product((0.25, 0.75), repeat=2):
            u, v, _ = inverse @ [x + dx, y + dy, 1]
            i, j, a, b = int(np.floor(u - 0.5)), int(np.floor(v - 0.5)), (u - 0.5) % 1, (v - 0.5) % 1
            block = image[j : j + 2, i : i + 2].astype(float)
            samples.append(np.array([1 - b, b]) @ np.einsum("yxc,x->yc", block, [1 - a, a]))
        assert np.abs(half[y, x] - np.mean(samples, axis=0)).max() < 0.501


@pytest.mark.parametrize("name", ["scale0.5", "rotate30+scale0.5", "rotate30"])
def test_a_face_one_pixel_further_on_comes_out_one_pixel_further_on(name: str) -> None:
    image, transform = noise(90, 90), parse_transform(name)
    here = perturb(image, face_at(44, 44), transform)
    moved = perturb(np.roll(image, (1, 1), (0, 1)), face_at(45, 45), transform)
    difference = np.abs(moved[31:61, 31:61].astype(int) - here[30:60, 30:60])
    assert difference.max() <= 1  # a level, where rounding falls otherwise


@pytest.mark.parametrize(
    "name", ["rotate30", "rotate-120", "rotate60+rotate-30", "scale1.5", "shift-up+rotate30+scale1.5", "shift-left"]
)
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


def test_steps_that_do_not_commute_are_done_left_one_first() -> None:
    center = (50.0, 40.0)  # of a box of 20 × 30
    assert moved("shift-right+rotate90", center, center) == pytest.approx([50, 36])  # right, then turned up
    assert moved("rotate90+shift-right", center, center) == pytest.approx([54, 40])
    assert moved("shift-down+scale0.5", center, center) == pytest.approx([50, 43])
    assert moved("scale0.5+shift-down", center, center) == pytest.approx([50, 46])  # of the original box


def below(image: np.ndarray) -> np.ndarray:
    """Where a white picture was made black."""
    assert set(np.unique(image)) == {0, 255}
    return (image == 0).all(axis=2)


@pytest.mark.parametrize("angle", [0, 17, -75, 180])
@pytest.mark.parametrize("name", sorted(OCCLUDERS))
def test_an_occluder_is_a_rectangle_in_the_faces_own_frame(name: str, angle: float) -> None:
    face = turned_face(angle)
    black = below(perturb(np.full((200, 200, 3), 255, np.uint8), face, parse_transform(name)))
    across, down = 30.0, 0.4 * 78  # between the eyes; from eyes to mouth
    unit = max(across, down)
    width, height, middle = {
        "occlude-eyes": (across + unit, 0.8 * unit, -0.15 * 78 - 0.1 * unit),
        "occlude-mouth": (24 + 0.5 * unit, 0.65 * unit, 0.25 * 78 + 0.075 * unit),
    }[name]
    y, x = np.mgrid[:200, :200] + 0.5 - 100
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    right, up = x * cos - y * sin, -(x * sin + y * cos)
    inside = (np.abs(right) < width / 2) & (np.abs(-up - middle) < height / 2)
    assert inside.sum() > 500
    assert (black != inside).sum() <= 0.02 * inside.sum()  # pixels whose center lies on an edge


def test_occluders_cover_what_they_are_named_for_and_nothing_else() -> None:
    face = turned_face(0)
    white = np.full((200, 200, 3), 255, np.uint8)
    for name, covered in (
        ("occlude-eyes", {0, 1}),
        ("occlude-mouth", {3, 4}),
        ("occlude-mouth+occlude-eyes", {0, 1, 3, 4}),
    ):
        black = below(perturb(white, face, parse_transform(name)))
        assert {i for i, (x, y) in enumerate(face.landmarks) if black[int(y), int(x)]} == covered


@pytest.mark.parametrize("move", ["rotate30", "rotate-120", "shift-left+rotate60", "scale0.5", "scale1.5+shift-up"])
@pytest.mark.parametrize("name", sorted(OCCLUDERS))
def test_an_occluder_covers_the_face_where_it_then_is(name: str, move: str) -> None:
    face = turned_face(8, size=50)
    white = np.full((200, 200, 3), 255, np.uint8)
    matrix = parse_transform(move).matrix(face)
    points = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    after = perturb(white, face, parse_transform(f"{move}+{name}"))
    hidden = {0, 1} if name == "occlude-eyes" else {3, 4}
    assert {i for i, (x, y) in enumerate(points) if not after[int(y), int(x)].any()} == hidden
    assert not np.array_equal(after, perturb(white, face, parse_transform(name)))
    # Laid on the moved face, or moved with it: the same.
    np.testing.assert_array_equal(after, perturb(white, face, parse_transform(f"{name}+{move}")))
    there = SimpleNamespace(box=face.box, landmarks=points)
    alone = perturb(perturb(white, face, parse_transform(move)), there, parse_transform(name))
    assert (after != alone).any(axis=2).sum() <= 2  # a center on an edge, to the last bit


def test_an_occluder_beyond_the_frame_is_cut_off() -> None:
    face = turned_face(0, center=(4, 100))
    black = below(perturb(np.full((200, 200, 3), 255, np.uint8), face, parse_transform("occlude-eyes")))
    _, high = extent(OCCLUDERS["occlude-eyes"], face.landmarks)
    assert black.any(axis=0).tolist() == [True] * round(high[0]) + [False] * (200 - round(high[0]))


def test_a_profile_has_a_unit_all_the_same() -> None:
    face = turned_face(0)
    frontal = face_axes(face.landmarks)[1]
    face.landmarks[:, 0] = 100 + (face.landmarks[:, 0] - 100) * 0.05
    axes, unit = face_axes(face.landmarks)
    assert unit == pytest.approx(frontal, rel=0.05)
    np.testing.assert_allclose(axes, np.eye(2), atol=1e-6)
    face.landmarks[1] = face.landmarks[0]
    np.testing.assert_allclose(face_axes(face.landmarks)[0], np.eye(2), atol=1e-6)


def test_a_face_that_leaves_the_frame_is_refused() -> None:
    image, face = noise(60, 60), face_at(30, 30, 30, 30)
    far = "+".join(["shift-left"] * 6)  # by 36 px; the right eye is at 37.5
    assert perturb(image, face, parse_transform(far)).any()
    with pytest.raises(NoFace, match=f"{far}+shift-left leaves no face in the frame".replace("+", r"\+")):
        perturb(image, face, parse_transform(f"{far}+shift-left"))
    # Points that the edge had cut off are not brought back by moving them into the frame.
    face.landmarks += 60
    with pytest.raises(NoFace, match="leaves no face"):
        perturb(image, face, parse_transform("shift-left+shift-up+" * 6 + "shift-left"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rotate",
        "rotate181",
        "rotate045",
        "rotate4.5",
        "rotate0",
        "rotate-0",
        "Rotate30",
        "rotate30+",
        "+rotate30",
        "rotate30 ",
        "scale2",
        "shift",
    ],
)
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown transform .*rotate30, .*shift-left, .*occlude-mouth") as caught:
        parse_transform(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("degrees", [1, 45, -45, 179])
def test_a_rotation_by_any_whole_degrees(degrees: int) -> None:
    image, face = noise(60, 60), face_at(30, 30, 30, 30)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = parse_transform(f"rotate{degrees}").matrix(face)
    np.testing.assert_allclose(matrix @ [40, 30, 1], [30 + 10 * cos, 30 - 10 * sin], atol=1e-9)
    there_and_back = perturb(image, face, parse_transform(f"rotate{degrees}+rotate{-degrees}"))
    np.testing.assert_array_equal(there_and_back, image)


def test_groups() -> None:
    names = [transform.name for transform in expand_group("rotations")]
    assert sorted(names, key=lambda name: int(name.removeprefix("rotate"))) == [
        f"rotate{angle}" for angle in range(-180, 181, 30) if angle
    ]
    assert [t.name for t in expand_group("shifts")] == [f"shift-{way}" for way in ("left", "right", "up", "down")]
    assert [t.name for t in expand_group("scales")] == ["scale0.5", "scale1.5"]
    assert [t.name for t in expand_group("occlusions")] == ["occlude-eyes", "occlude-mouth"]
    groups = [t for group in ("rotations", "shifts", "scales", "occlusions") for t in expand_group(group)]
    assert expand_group("all") == groups
    assert [t.name for t in groups] == list(transform_names())
    assert expand_group("rotate30+rotate60") == [parse_transform("rotate30+rotate60")]
    with pytest.raises(UsageError, match=r"'rotation'.*rotate30.*groups rotations, shifts, scales, occlusions, all"):
        expand_group("rotation")


def test_a_transform_can_be_sent_to_another_process() -> None:
    transform = parse_transform("rotate30+rotate60")
    assert pickle.loads(pickle.dumps(transform)) == transform
