"""MTCNN on the networks of facenet-pytorch, many images at a time.

The cascade (Zhang et al. 2016, https://arxiv.org/abs/1604.02878) and every rounding in it follow
`facenet_pytorch.MTCNN.detect`, so that boxes and landmarks are the same up to float rounding. What differs:

- Each image gets one summed-area table of integers, from which the pyramid and all candidate crops are read: four
  look-ups a pixel whatever the size of the window, and exact (facenet-pytorch averages floats, crop by crop).
- The networks run in channels-last layout, on slices small enough for their activations to stay in cache. Scaling of
  the pixels is part of each network's first convolution.
- The first network's heads: one logit instead of a softmax over two, and boxes only where the logit passes.
- A picture too large for a table is worked on in tiles (`LargePicture`), on the grid of the whole and of the same
  integers: boxes are the same up to float rounding, and memory does not grow with the picture.
- Non-maximum suppression shifts each image's boxes apart in float64, so that no result depends on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from torch import Tensor, nn
from torchvision.ops import batched_nms

Detections = tuple[np.ndarray, np.ndarray, np.ndarray]

_CELL = 12  # side of the first network's window, px
_STRIDE = 2
# IoU above which the weaker of two boxes is dropped: in one pyramid level, over all levels, after the
# second network; the last is the overlap relative to the smaller box.
_NMS_LEVEL, _NMS_PYRAMID, _NMS_REFINED, _NMS_FINAL = 0.5, 0.7, 0.7, 0.7
# Pixels that the first network, and the two after it, are given at once on a CPU. Above about this size their
# activations leave the cache, and an image took up to twice as long.
_CPU_SLICES = 37_000, 18_432
_CUDA_SLICES = 16_000_000, 16_000_000
# Pixels above which a picture has no table: it takes some 90 bytes a pixel with the first network's activations.
_CPU_WHOLE, _CUDA_WHOLE = 1_000_000, 8_000_000


class Mtcnn:
    """The three networks and the cascade.

    device: where the networks run; geometry and non-maximum suppression are done on the CPU. The others as in
        `faces.FaceDetector`.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        min_face_size: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
    ) -> None:
        self.device = torch.device(device)
        self.min_face_size, self.thresholds, self.factor = min_face_size, thresholds, factor
        on_cpu = self.device.type == "cpu"
        self.slices = _CPU_SLICES if on_cpu else _CUDA_SLICES
        self.whole = _CPU_WHOLE if on_cpu else _CUDA_WHOLE
        pnet, self.rnet, self.onet = (self._prepare(net()) for net in (PNet, RNet, ONet))
        conv1, prelu1, conv2 = _widen(pnet.conv1, pnet.prelu1, pnet.conv2)
        trunk = nn.Sequential(conv1, prelu1, pnet.pool1, conv2, pnet.prelu2, pnet.conv3, pnet.prelu3)
        self.trunk = trunk.to(self.device).to(memory_format=torch.channels_last)
        self.regress = pnet.conv4_2.weight.flatten(1), pnet.conv4_2.bias
        # softmax([a, b])[1] = sigmoid(b - a)
        weight, bias = pnet.conv4_1.weight.flatten(1), pnet.conv4_1.bias
        self.classify = (weight[1] - weight[0])[:, None], bias[1] - bias[0]

    def _prepare(self, net: PNet | RNet | ONet) -> Any:
        net = net.eval().requires_grad_(False)
        net.conv1 = _take_raw_pixels(net.conv1)
        return net.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def detect(self, images: np.ndarray) -> list[Detections]:
        """Find the faces in images of one size, uint8 (n, height, width, 3) RGB.

        Returns for each image boxes (faces, 4) float32, x1 y1 x2 y2 in px; probabilities (faces,) float32; landmarks
        (faces, 5, 2) float32, px; sorted by the area of the box, largest first.
        """
        table: SummedArea | LargePicture
        if images.shape[1] * images.shape[2] > self.whole:
            if len(images) > 1:
                return [detections for image in images for detections in self.detect(image[None])]
            table = LargePicture(images[0], self.device)
        else:
            table = SummedArea(torch.from_numpy(np.require(images, None, ["C", "W"])).to(self.device))
        boxes, owner = self._propose(table)
        boxes, owner = self._refine(table, boxes, owner)
        boxes, points, owner = self._finish(table, boxes, owner)
        results = []
        for i in range(len(images)):
            faces, marks = boxes[owner == i].numpy(), points[owner == i].numpy()
            order = np.argsort((faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1]))[::-1]
            results.append((faces[order, :4], faces[order, 4], marks[order]))
        return results

    def _propose(self, table: SummedArea | LargePicture) -> tuple[Tensor, Tensor]:
        """First network over the pyramid: boxes (n, 5) with score, and the image of each (n,)."""
        levels = [self._propose_level(table, scale) for scale in self._scales(table.height, table.width)]
        if not levels:
            return torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
        boxes, owner = (torch.cat(parts) for parts in zip(*levels, strict=True))
        keep = _suppress(boxes, owner, _NMS_PYRAMID)
        boxes, owner = boxes[keep], owner[keep]
        side = (boxes[:, 2:4] - boxes[:, :2]).repeat(1, 2)
        corners = boxes[:, :4] + boxes[:, 5:] * side
        return _square(torch.cat([corners, boxes[:, 4:5]], dim=1)), owner

    def _scales(self, height: int, width: int) -> list[float]:
        scale = _CELL / self.min_face_size
        shortest, scales = min(height, width) * scale, []
        while shortest >= _CELL:
            scales.append(scale)
            scale, shortest = scale * self.factor, shortest * self.factor
        return scales

    def _propose_level(self, table: SummedArea | LargePicture, scale: float) -> tuple[Tensor, Tensor]:
        """Boxes (n, 9) of one pyramid level: corners, score, regression; and the image of each."""
        size = int(table.height * scale + 1), int(table.width * scale + 1)
        cells, scores, offsets = [], [], []
        for first, pixels in table.level(size, self.slices[0]):
            features = self.trunk(pixels)
            features = features.permute(0, 2, 3, 1)  # contiguous, as the trunk is channels-last
            score = torch.sigmoid(features @ self.classify[0] + self.classify[1])[..., 0]
            passed = score >= self.thresholds[0]
            cell = passed.nonzero()
            scores.append(score[passed])
            offsets.append(features[passed] @ self.regress[0].T + self.regress[1])
            cells.append(cell + cell.new_tensor(first))
        cell, score, offset = (torch.cat(parts).cpu() for parts in (cells, scores, offsets))
        corner = cell[:, 1:].flip(1).to(torch.float32) * _STRIDE
        low, high = ((corner + 1) / scale).floor(), ((corner + _CELL) / scale).floor()
        boxes = torch.cat([low, high, score[:, None], offset], dim=1)
        owner = cell[:, 0]
        keep = _suppress(boxes, owner, _NMS_LEVEL)
        return boxes[keep], owner[keep]

    def _refine(self, table: SummedArea | LargePicture, boxes: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Second network: fewer and better boxes."""
        boxes, owner, (offset, probability) = self._judge(self.rnet, 24, table, boxes, owner)
        passed = probability[:, 1] > self.thresholds[1]
        boxes, owner, offset = boxes[passed], owner[passed], offset[passed]
        boxes = torch.cat([boxes[:, :4], probability[passed, 1:]], dim=1)
        keep = _suppress(boxes, owner, _NMS_REFINED)
        return _square(_shift(boxes[keep], offset[keep])), owner[keep]

    def _finish(self, table: SummedArea | LargePicture, boxes: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Third network: final boxes (n, 5) with score, landmarks (n, 5, 2), image of each (n,)."""
        boxes, owner, (offset, points, probability) = self._judge(self.onet, 48, table, boxes, owner)
        passed = probability[:, 1] > self.thresholds[2]
        boxes, owner, offset, points = boxes[passed], owner[passed], offset[passed], points[passed]
        boxes = torch.cat([boxes[:, :4], probability[passed, 1:]], dim=1)
        # Landmarks come as five x, then five y, in units of the box that went in.
        side = boxes[:, 2:4] - boxes[:, :2] + 1
        points = side[:, None] * points.reshape(-1, 2, 5).transpose(1, 2) + boxes[:, None, :2] - 1
        boxes = _shift(boxes, offset)
        keep = _final_each(boxes, owner, table.count)
        return boxes[keep], points[keep], owner[keep]

    def _judge(
        self, net: nn.Module, size: int, table: SummedArea | LargePicture, boxes: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Run a network on the crops of boxes; boxes that lie outside their image are dropped."""
        limit = torch.tensor([table.width, table.height], dtype=torch.int32)
        whole = boxes[:, :4].trunc().int()
        low = whole[:, :2].clamp(min=1) - 1
        high = torch.minimum(whole[:, 2:], limit)
        inside = (high > low).all(dim=1)
        boxes, owner = boxes[inside], owner[inside]
        low, high, where = (part.to(self.device).long() for part in (low[inside], high[inside], owner))
        per_slice = max(1, self.slices[1] // (size * size))
        slices = zip(*(part.split(per_slice) for part in (where, low, high)), strict=True)
        outputs = [net(table.crop(image, first, end, size)) for image, first, end in slices if len(image)]
        if not outputs:  # the networks take no empty batch
            blank = torch.zeros(1, 4, size, size, device=self.device)
            outputs = [tuple(part[:0] for part in net(blank))]
        return boxes, owner, tuple(torch.cat(parts).cpu() for parts in zip(*outputs, strict=True))


class SummedArea:
    """Summed-area table of images of one size; averages over any windows of them, exactly.

    images: uint8 (n, height, width, 3).
    """

    def __init__(self, images: Tensor) -> None:
        self.count, self.height, self.width, _ = images.shape
        # The largest entry is 255 times the number of pixels: larger pictures are no table's. A fourth channel, of
        # zeros, makes an entry a whole word of 16 bytes, which is faster to look up.
        shape = self.count, self.height + 1, self.width + 1, 4
        self.sums = torch.zeros(shape, dtype=torch.int32, device=images.device)
        columns = images.to(torch.int32)
        if images.is_cuda:
            torch.cumsum(columns, dim=1, out=columns)
        else:  # row upon row: on a CPU five times as fast as cumsum
            for above, row in pairwise(columns.unbind(1)):
                row += above
        torch.cumsum(columns, dim=2, out=self.sums[:, 1:, 1:, :3])

    def level(self, size: tuple[int, int], pixels: int) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
        """All images at a size of the pyramid, so many pixels at once or one image.

        Yields the first network's first cell (image, row, column) there, and the pixels as `resize` gives them.
        """
        step = max(1, pixels // (size[0] * size[1]))
        for start in range(0, self.count, step):
            yield (start, 0, 0), self.resize(slice(start, start + step), size)

    def resize(self, which: slice, size: tuple[int, int]) -> Tensor:
        """Images at another size, as `interpolate(images, size, mode="area")`.

        float32 (n, 4, height, width), channels-last, 0 to 255; the fourth channel is zero.
        """
        device = self.sums.device
        top, bottom = _windows(torch.tensor([self.height], device=device), size[0])
        left, right = _windows(torch.tensor([self.width], device=device), size[1])
        sums = self.sums[which]
        rows = _take(sums, bottom[0], 1).sub_(_take(sums, top[0], 1))
        return _mean(_take(rows, right[0], 2).sub_(_take(rows, left[0], 2)), bottom - top, right - left)

    def crop(self, image: Tensor, low: Tensor, high: Tensor, size: int) -> Tensor:
        """Crops brought to one size by area averaging: float32 (n, 4, size, size), as in `resize`.

        image: (n,) index of the image; low, high: (n, 2) int64, x and y of the first pixel inside and the first beyond.
        """
        left, right = (low[:, :1] + edge for edge in _windows(high[:, 0] - low[:, 0], size))
        top, bottom = (low[:, 1:] + edge for edge in _windows(high[:, 1] - low[:, 1], size))
        height, width = bottom - top, right - left
        first = image[:, None] * (self.height + 1)
        top, bottom = ((first + edge) * (self.width + 1) for edge in (top, bottom))
        table = self.sums.flatten(0, 2)

        def look_up(row: Tensor, column: Tensor) -> Tensor:
            return _take(table, row[:, :, None] + column[:, None, :], 0)

        sums = look_up(bottom, right).sub_(look_up(top, right))
        return _mean(sums.sub_(look_up(bottom, left)).add_(look_up(top, left)), height, width)


class LargePicture:
    """One picture that is worked on in tiles, with the interface of `SummedArea`.

    picture: uint8 (height, width, 3). device: of the results.
    """

    count = 1

    def __init__(self, picture: np.ndarray, device: torch.device) -> None:
        self.picture, self.device = picture, device
        self.height, self.width = picture.shape[:2]

    def level(self, size: tuple[int, int], pixels: int) -> Iterator[tuple[tuple[int, int, int], Tensor]]:
        """The picture at a size of the pyramid, in tiles of at most so many pixels; see `SummedArea.level`."""
        bounds = [
            _windows(torch.tensor([side]), cut) for side, cut in zip((self.height, self.width), size, strict=True)
        ]
        # Cells of the first network lie 2 px apart, and the last one's window is 12 px: 10 are another tile's, too.
        overlap = _CELL - _STRIDE
        step = max(1, (math.isqrt(pixels) - overlap) // _STRIDE)
        starts = [range(0, max(1, (side - overlap) // _STRIDE), step) for side in size]
        for cell in product(*starts):
            tile = [
                slice(_STRIDE * first, None if first == places[-1] else _STRIDE * (first + step) + overlap)
                for first, places in zip(cell, starts, strict=True)
            ]
            (top, bottom), (left, right) = (
                (low[:, part], high[:, part]) for part, (low, high) in zip(tile, bounds, strict=True)
            )
            yield (0, cell[0], cell[1]), self._means(top, bottom, left, right)

    def crop(self, image: Tensor, low: Tensor, high: Tensor, size: int) -> Tensor:
        """Crops brought to one size; see `SummedArea.crop`."""
        (left, right), (top, bottom) = (
            [low[:, axis, None].cpu() + edge for edge in _windows(high[:, axis].cpu() - low[:, axis].cpu(), size)]
            for axis in (0, 1)
        )
        return self._means(top, bottom, left, right)

    def _means(self, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Averages over windows with these first and end rows (k, n) and columns (k, m): (k, 4, n, m) float32."""
        bounds = zip(*(edge.numpy() for edge in (top, bottom, left, right)), strict=True)
        sums = torch.from_numpy(np.stack([self._sums(*each) for each in bounds]))
        return _mean(sums, bottom - top, right - left).to(self.device)

    def _sums(self, top: np.ndarray, bottom: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Sums over windows with these first and end rows (n,) and columns (m,): (n, m, 4) int32."""
        start, end = int(left[0]), int(right[-1])
        part = self.picture[:, start:end]
        rows = np.empty((len(top), end - start, 3), np.int32)
        for row, first, last in zip(rows, top.tolist(), bottom.tolist(), strict=True):
            np.add.reduce(part[first:last], axis=0, dtype=np.int32, out=row)
        # They wrap around, and the differences are right for all that: a window's own sum is far below 2^31.
        totals = np.zeros((len(top), end - start + 1, 4), np.int32)
        np.cumsum(rows, axis=1, out=totals[:, 1:, :3])
        return _entries(totals, right - start, 1) - _entries(totals, left - start, 1)


def _take(table: Tensor, index: Tensor, axis: int) -> Tensor:
    """Entries (..., 4) of a table at indices along an axis; on a CPU NumPy is five times as fast as torch."""
    if table.is_cuda:
        return table.index_select(axis, index.flatten()).unflatten(axis, index.shape)
    return torch.from_numpy(_entries(table.numpy(), index.numpy(), axis))


def _entries(table: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    entries = table.view(np.dtype((np.void, 4 * table.itemsize)))[..., 0]
    # Of the modes, "clip" is the one that copies no more than it must; every index lies inside.
    return entries.take(index, axis, mode="clip")[..., None].view(table.dtype)


def _mean(sums: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Sums (n, rows, columns, 4) over windows of heights (n or 1, rows) and widths (n or 1, columns) to
    averages, float32 (n, 4, rows, columns)."""
    area = height.float()[:, :, None] * width.float()[:, None, :, None].expand(-1, -1, -1, 4).flatten(2)
    return sums.float().flatten(2).div_(area).unflatten(2, (-1, 4)).permute(0, 3, 1, 2)


def _windows(length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Bounds of adaptive average pooling: (n,) lengths to (n, size) first and (n, size) end positions."""
    step = torch.arange(size, device=length.device)
    length = length[:, None]
    return step * length // size, ((step + 1) * length + size - 1) // size


def _take_raw_pixels(conv: Any) -> nn.Conv2d:
    """A convolution of (x - 127.5) / 128 as one of x, with a fourth input channel that it ignores."""
    raw = nn.Conv2d(4, conv.out_channels, conv.kernel_size, conv.stride).requires_grad_(False)
    raw.weight.zero_()
    raw.weight[:, :3] = conv.weight / 128
    raw.bias.copy_(conv.bias.double() - conv.weight.double().sum(dim=(1, 2, 3)) * 127.5 / 128)
    return raw


def _widen(first: Any, slopes: nn.PReLU, second: Any) -> tuple[nn.Conv2d, nn.PReLU, nn.Conv2d]:
    """The same function with zeros between the convolutions, up to a whole vector of 16 channels."""
    wide = nn.Conv2d(first.in_channels, 16, first.kernel_size), nn.PReLU(16), nn.Conv2d(16, second.out_channels, 3)
    for new, old in zip(wide, (first, slopes, second), strict=True):
        new.requires_grad_(False)
        for value, small in zip(new.parameters(), old.parameters(), strict=True):
            value.zero_()
            value[tuple(slice(length) for length in small.shape)] = small
    return wide


def _square(boxes: Tensor) -> Tensor:
    """Boxes grown to squares about their centers."""
    side = boxes[:, 2:4] - boxes[:, :2]
    longest = side.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + side * 0.5 - longest * 0.5
    return torch.cat([corner, corner + longest, boxes[:, 4:]], dim=1)


def _shift(boxes: Tensor, offset: Tensor) -> Tensor:
    """Boxes moved by a network's regression, which is in units of their sides."""
    side = (boxes[:, 2:4] - boxes[:, :2] + 1).repeat(1, 2)
    return torch.cat([boxes[:, :4] + offset * side, boxes[:, 4:]], dim=1)


def _suppress(boxes: Tensor, owner: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that survive non-maximum suppression within their own image, best first."""
    if len(boxes) == 0:
        return owner
    # batched_nms moves each image's boxes beyond those of the one before, if none is negative.
    corners = boxes[:, :4].double()
    return batched_nms(corners - corners.min(), boxes[:, 4].double(), owner, threshold)


def _final_each(boxes: Tensor, owner: Tensor, count: int) -> Tensor:
    """The same with the overlap relative to the smaller box, and areas counted in whole pixels."""
    kept = [torch.zeros(0, dtype=torch.int64)]
    low, high, scores = boxes[:, :2], boxes[:, 2:4], boxes[:, 4]
    area = (high - low + 1).prod(dim=1)
    for i in range(count):
        boxes_of_image = (owner == i).nonzero()[:, 0]
        # NumPy's order, as in facenet-pytorch: where scores are equal (often 1.0), it decides which box stays.
        left = boxes_of_image[torch.from_numpy(scores[boxes_of_image].numpy().argsort())]
        while len(left):
            best, left = left[-1], left[:-1]
            kept.append(best[None])
            side = torch.minimum(high[best], high[left]) - torch.maximum(low[best], low[left]) + 1
            overlap = side.clamp(min=0).prod(dim=1) / torch.minimum(area[best], area[left])
            left = left[overlap <= _NMS_FINAL]
    return torch.cat(kept)
