"""Alignment: where a recognizer, or a decoder, looks in an image.

Coordinates are continuous, in pixels: pixel i covers [i, i + 1), so its center lies at i + 0.5.
A 2×3 matrix maps image coordinates to crop coordinates. Crops outside the image are black.

Decoders draw one frame whatever the recognizer, the *portrait*: a square aligned by the five landmarks and
wide enough to hold the crop of every recognizer (but for an edge of FaceNet's, which is black then), so that pictures
and figures of different recognizers compare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from facedecode.pictures.faces import Face, moved
from facedecode.pictures.images import LARGE

if TYPE_CHECKING:  # seconds to import
    from torch import Tensor

Points = tuple[tuple[float, float], ...]
BoxSide = Literal["longer", "shorter", "mean", "both", "margin"]

# Mean positions of MTCNN's points in the 112-px crop of insightface's ArcFace models.
ARCFACE_POINTS: Points = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
# Where MTCNN's points lie in dlib's 150-px chip, and how much each tells of it (benchmarks/calibrate_dlib_chip.py).
DLIB_POINTS: Points = (
    (47.77, 45.92),
    (102.01, 45.92),
    (74.58, 77.66),
    (50.99, 104.59),
    (98.47, 104.62),
)
DLIB_WEIGHTS = (0.26, 0.26, 0.30, 0.09, 0.09)
# The portrait, in units of its side: dlib's chip with a margin, so that ArcFace's crop lies inside it, too.
PORTRAIT_POINTS: Points = tuple(((x + 18.1) / 186, (y + 35) / 186) for x, y in DLIB_POINTS)
# The median MTCNN box in the portrait, in units of its side (x1, y1, x2, y2).
PORTRAIT_BOX = (0.18, 0.09, 0.80, 0.96)
_TILE = 512  # px, side of the tiles of a large output
# The central facial region of the paper's local losses, in units of the portrait's side.
LOCAL_REGION = (0.25, 0.30, 0.75, 0.90)


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Least-squares similarity (rotation, uniform scale, shift) from `source` to `target` points, (n, 2) each.

    weights: (n,), non-negative; equal if None.

    Returns (2, 3) float64 matrix A with target ≈ A[:, :2] @ source + A[:, 2]. Never a reflection (Umeyama 1991).
    """
    w = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    source, target = np.asarray(source, float), np.asarray(target, float)
    mean_source, mean_target = w @ source, w @ target
    # As complex numbers a similarity is z -> s·z + t, and s has a closed form.
    a = (source - mean_source) @ np.array([1, 1j])
    b = (target - mean_target) @ np.array([1, 1j])
    s = (w * np.conj(a)) @ b / ((w * np.abs(a) ** 2).sum() + 1e-12)
    linear = np.array([[s.real, -s.imag], [s.imag, s.real]])
    return np.column_stack([linear, mean_target - linear @ mean_source])


def resample(image: np.ndarray, matrix: np.ndarray, width: int, height: int, device: str = "cpu") -> np.ndarray:
    """Move an image (H, W, 3) uint8 RGB by an affine map.

    Args:
        matrix: (2, 3) from image to output coordinates.
        width, height: of the output, pixels.
        device: where the sampling is done, a torch device.

    Returns (height, width, 3) uint8: bilinear, rounded to the nearest level; black where a pixel's center comes from
    outside the image. If the image shrinks by two or more, a pixel is the mean of several samples spread evenly over
    it, so that no detail aliases; by four or more, the image is first reduced by a whole factor (box filter). A large
    output is made tile by tile, in the memory of one.
    """
    if width * height > LARGE:
        output = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, _TILE):
            for left in range(0, width, _TILE):
                tile = output[top : top + _TILE, left : left + _TILE]
                there = np.column_stack([matrix[:, :2], matrix[:, 2] - (left, top)])
                tile[:] = resample(image, there, tile.shape[1], tile.shape[0], device)
        return output
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    # Only the part that the output looks at: a crop of a large photograph costs no more than one of a small one.
    corners = inverse[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], float)
    # A little more, so that a half scale is one when it is turned, too.
    factor = max(1, int(np.sqrt(abs(np.linalg.det(inverse[:2, :2]))) + 1e-6))
    # Blocks of the image lie as they lie; what is left to the samples, which go with the output, is twice at least.
    coarse = factor // 2 if factor >= 4 else 1
    fine = factor // coarse
    low = np.maximum(np.floor(corners.min(1)).astype(int) - 2 * factor, 0)
    high = np.minimum(np.ceil(corners.max(1)).astype(int) + 2 * factor, image.shape[1::-1])
    output = np.zeros((height, width, 3), np.uint8)
    if (high <= low).any():
        return output
    part = image[low[1] : high[1], low[0] : high[0]]
    whole = np.array(part.shape[1::-1])
    if coarse > 1:
        part = np.asarray(Image.fromarray(part).reduce(coarse))
    span = np.array(part.shape[1::-1]) * coarse / 2

    def sources(samples: int) -> np.ndarray:
        """Where so many samples an output pixel, across and down, come from: fractions of the part from -1 to 1."""
        linear = inverse[:2, :2] / span[:, None]
        shift = (inverse[:2, 2] - low) / span - 1
        x, y = ((np.arange(samples * size) + 0.5) / samples for size in (width, height))
        return np.stack([linear[i, 0] * x + (linear[i, 1] * y + shift[i])[:, None] for i in (0, 1)], axis=2)

    import torch  # seconds to import

    # In float: Pillow cuts the decimals of 8-bit results off, 0.4 levels too dark on average.
    planes = torch.from_numpy(part.transpose(2, 0, 1).astype(np.float32, order="C")).to(device)
    grid = torch.from_numpy(sources(fine).astype(np.float32)).to(device)
    moved = torch.nn.functional.grid_sample(planes[None], grid[None], padding_mode="border", align_corners=False)
    if fine > 1:
        moved = torch.nn.functional.avg_pool2d(moved, fine)
    output[:] = moved[0].round_().byte().permute(1, 2, 0).cpu().numpy()
    # The last block of a reduced part can reach beyond the image.
    centers = sources(1)
    output[((centers < -1) | (centers >= whole / span - 1)).any(axis=2)] = 0
    return output


@dataclass(frozen=True)
class PointCrop:
    """A square crop aligned by a similarity of the five landmarks to fixed `points` (px of the crop).

    weights: of the points in the least-squares fit; equal if None.
    residuals: the fit minimizes distances in the `crop` (insightface) or in the `image` (dlib). They differ for faces
        that no similarity brings onto the points, such as profiles.
    """

    size: int
    points: Points
    weights: tuple[float, ...] | None = None
    residuals: Literal["crop", "image"] = "crop"

    def matrix(self, face: Face) -> np.ndarray:
        """(2, 3) from image to crop coordinates."""
        weights = None if self.weights is None else np.array(self.weights)
        points = np.array(self.points)
        if self.residuals == "crop":
            return fit_similarity(face.landmarks, points, weights)
        to_image = fit_similarity(points, face.landmarks, weights)
        return np.linalg.inv(np.vstack([to_image, [0, 0, 1]]))[:2]

    def describe(self) -> dict:
        """JSON for manifests."""
        return {
            "kind": "five-point similarity",
            "points": self.points,
            "weights": self.weights,
            "residuals": self.residuals,
        }


@dataclass(frozen=True)
class BoxCrop:
    """A square crop about the center of the detection box, `factor` times as large.

    side: of the box, the `longer` or `shorter` one, or their `mean`; or `both`: the box is stretched to a square; or
        `margin`: the same, and what `factor` adds is that share of the sides' mean on both.
    """

    size: int
    factor: float = 1.0
    side: BoxSide = "longer"

    def matrix(self, face: Face) -> np.ndarray:
        """(2, 3) from image to crop coordinates."""
        x1, y1, x2, y2 = np.asarray(face.box, float)
        sides = np.array([x2 - x1, y2 - y1])
        if self.side == "margin":
            sides += (self.factor - 1) * sides.mean()
        else:
            if self.side != "both":
                sides[:] = {"longer": sides.max(), "shorter": sides.min(), "mean": sides.mean()}[self.side]
            sides *= self.factor
        scale = self.size / sides
        corner = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - sides / 2
        return np.column_stack([np.diag(scale), -scale * corner])

    def describe(self) -> dict:
        """JSON for manifests."""
        return {"kind": "detection box", "factor": self.factor, "side": self.side}


Crop = PointCrop | BoxCrop


def named_crop(name: str, size: int, factor: float = 1.0, side: BoxSide = "longer") -> Crop:
    """A crop that recognizers are commonly trained on, at `size` pixels.

    name: `arcface` (insightface's five points), `dlib` (dlib's face chip), or `box` (see `BoxCrop`). Raises ValueError.
    """
    if name == "arcface":
        return PointCrop(size, _scaled(ARCFACE_POINTS, size / 112))
    if name == "dlib":
        return PointCrop(size, _scaled(DLIB_POINTS, size / 150), DLIB_WEIGHTS, residuals="image")
    if name == "box":
        return BoxCrop(size, factor, side)
    raise ValueError(f"no crop is called {name!r}; there are arcface, dlib, box")


def _scaled(points: Points, factor: float) -> Points:
    return points if factor == 1 else tuple((x * factor, y * factor) for x, y in points)


def crop(image: np.ndarray, face: Face, how: Crop) -> np.ndarray:
    """Cut `face` out of `image` (H, W, 3 uint8 RGB) → (how.size, how.size, 3) uint8 RGB."""
    return resample(image, how.matrix(face), how.size, how.size)


def portrait_crop(size: int) -> PointCrop:
    """The portrait frame at `size` pixels."""
    points = tuple((x * size, y * size) for x, y in PORTRAIT_POINTS)
    return PointCrop(size, points, DLIB_WEIGHTS, residuals="image")


def portrait_face(size: int) -> Face:
    """The landmarks and the box that every face has in a portrait of `size` pixels."""
    return Face(
        box=np.array(PORTRAIT_BOX, np.float32) * size,
        landmarks=np.array(PORTRAIT_POINTS, np.float32) * size,
        probability=1.0,
    )


def cropped_face(how: Crop, side: int) -> Face:
    """The face of a picture that is the crop `how` already, of `side` pixels: cut by it, `how` gives the whole picture.

    The landmarks are the crop's own points; the box, and landmarks of a crop by the box, are the portrait's there.
    """
    portrait = portrait_face(how.size)
    matrix = how.matrix(portrait)

    def placed(points: np.ndarray) -> np.ndarray:
        return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]

    points = np.array(how.points) if isinstance(how, PointCrop) else placed(portrait.landmarks)
    box = placed(portrait.box.reshape(2, 2)).ravel()
    if isinstance(how, BoxCrop) and how.side == "margin":  # of no other box is the picture the crop
        box = how.size / 2 * (1 + np.array([-1, -1, 1, 1]) / how.factor)
    scale = side / how.size
    return Face((box * scale).astype(np.float32), (points * scale).astype(np.float32), 1.0)


def boxed_face(width: int, height: int) -> Face:
    """The face of a picture that is its box: the landmarks lie where the portrait's, upright, fill the picture."""
    x1, y1, x2, y2 = PORTRAIT_BOX
    scale = min(width / (x2 - x1), height / (y2 - y1))
    corner = (np.array([width, height]) - scale * np.array([x1 + x2, y1 + y2])) / 2
    landmarks = np.array(PORTRAIT_POINTS) * scale + corner
    return Face(np.array([0, 0, width, height], np.float32), landmarks.astype(np.float32), 1.0)


def landmarked_face(landmarks: np.ndarray) -> Face:
    """The face of five landmarks, (5, 2) px. The box is the portrait's, which goes with them but stays upright."""
    portrait = portrait_face(1)
    to_image = np.linalg.inv(np.vstack([portrait_crop(1).matrix(replace(portrait, landmarks=landmarks)), [0, 0, 1]]))
    return Face(moved(portrait, to_image[:2]).box, np.asarray(landmarks, np.float32), 1.0)


def sample(pictures: Tensor, matrix: np.ndarray, size: int, jitter: Tensor | None = None) -> Tensor:
    """Move pictures, (n, 3, P, P) float, by one similarity: as `resample`, but differentiable.

    matrix: (2, 3) to the coordinates of the result, (n, 3, size, size): bilinear, black outside. Pictures that shrink
        are filtered first.
    jitter: (n, 2, 3) further affine maps in normalized coordinates ([-1, 1]) of the result.
    """
    import torch
    from torch.nn import functional as F

    side = pictures.shape[-1]
    scale = float(np.sqrt(np.linalg.det(matrix[:, :2])))
    if scale < 1:
        # Sampling alone would alias: shrink with a filter first, then draw at the same scale.
        reduced = max(1, round(side * scale))
        pictures = F.interpolate(
            pictures, size=(reduced, reduced), mode="bilinear", antialias=True, align_corners=False
        )
        matrix = np.column_stack([matrix[:, :2] * (side / reduced), matrix[:, 2]])
        side = reduced
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    to_pixels = np.array([[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1]])
    to_unit = np.array([[2 / side, 0, -1], [0, 2 / side, -1], [0, 0, 1]])
    theta = torch.from_numpy(to_unit @ inverse @ to_pixels).to(pictures)
    theta = theta[:2].expand(len(pictures), 2, 3)
    if jitter is not None:
        linear = theta[:, :, :2]
        theta = torch.cat([linear @ jitter[:, :, :2], linear @ jitter[:, :, 2:] + theta[:, :, 2:]], 2)
    grid = F.affine_grid(theta, [len(pictures), 3, size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
