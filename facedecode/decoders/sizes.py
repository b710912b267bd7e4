"""How large pictures are, and how a network grows from a template to one: what all decoders share. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from facedecode.errors import UsageError

IMAGE_SIZES = (64, 128, 224)
_DOUBLINGS = {64: 4, 128: 5, 224: 5}
_FEWEST = 4


def require_image_size(size: int) -> None:
    """Refuse a size that no decoder draws. Raises UsageError."""
    if size not in IMAGE_SIZES:
        raise UsageError(f"image size {size}: a decoder draws {', '.join(map(str, IMAGE_SIZES))} pixels")


class Growing(Protocol):
    """A network that grows a template to a picture; see `base.TrainedNetwork`."""

    CHANNELS: ClassVar[tuple[int, ...]]
    MULTIPLE: ClassVar[int]


def usual_widths(network: type[Growing], image_size: int, share: float = 1.0) -> tuple[int, ...]:
    """A network's channels for such pictures, or so large a share of them: half takes a quarter of the arithmetic.

    Raises:
        UsageError: no such size of pictures, or a share that is not above 0 and at most 1.
    """
    require_image_size(image_size)
    if not 0 < share <= 1:
        raise UsageError(f"width {share}: give a share of the network's channels, more than 0 and at most 1")
    step = network.MULTIPLE
    return tuple(
        max(_FEWEST, step, step * round(share * n / step)) for n in network.CHANNELS[: _DOUBLINGS[image_size] + 1]
    )


def picture_plan(network: type[Growing], image_size: int, widths: Sequence[int] | None) -> tuple[int, list[int]]:
    """How a network grows from a template to a picture: the side of its first map, and the channels at each size.

    Args:
        widths: channels, one more than the first map is doubled; `usual_widths` if None.

    Raises:
        UsageError: a size that no decoder draws, or other widths.
    """
    widths = list(widths or usual_widths(network, image_size))
    require_image_size(image_size)
    doublings = _DOUBLINGS[image_size]
    if len(widths) != doublings + 1:
        raise UsageError(f"{image_size} pixels take {doublings + 1} widths, not {len(widths)}")
    if any(width < 1 or width % network.MULTIPLE for width in widths):
        raise UsageError(f"widths {', '.join(map(str, widths))}: give multiples of {network.MULTIPLE}")
    return image_size >> doublings, widths
