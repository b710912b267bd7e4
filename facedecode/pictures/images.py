"""Read and write pictures. Everything that is wrong with a file ends here, as one `BadInput`.

A file is read once: its pixels and its SHA-256 are of the same bytes. A picture takes seven bytes a pixel while it is
decoded (four of them Pillow's) and three then; large ones that several threads read wait for one another (`room_for`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from facedecode.errors import BadInput, OutputError
from facedecode.files import open_file, read_file, sha256_of, write_bytes
from facedecode.memory import Budget
from facedecode.pictures.finding import HEIF_REMEDY

if TYPE_CHECKING:  # seconds to import
    from torch import Tensor, device

MAX_PIXELS = 178_956_970
"""Largest image that is decoded, in pixels; Pillow calls larger ones a decompression bomb."""
MAX_BYTES = 2**29
"""Largest file that is read as an image, in bytes."""
LARGE = 1_000_000
"""Pixels above which a picture is worked on in parts and waits for room."""

# Only these decoders are tried: Pillow's others include one that starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")
# Brands of HEIF in the box that begins such a file.
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_BACKGROUND = (255, 255, 255, 255)
_ORIENTATION_TAG = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations of a picture that is stored on its side
_BAND_PIXELS = 1_000_000  # that are brought to RGB at once
# A large picture's file, what its decoder holds (WebP's the most), and what is done with it, together.
_BYTES_A_PIXEL = 16
_ROOM = Budget(10**9)


# `MAX_PIXELS` is the bound here; Pillow writes a warning from half of it on.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@cache
def _formats() -> tuple[str, ...]:
    """The formats that can be decoded here."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    there = {*Image.OPEN} if features.check("avif") else {*Image.OPEN} - {"AVIF"}
    return tuple(name for name in _FORMATS if name in there)


def image_size(path: Path, upright: bool = False) -> tuple[int, int]:
    """Width and height of an image by the header: as its file holds it, or upright. BadInput: as `read_image`."""
    with open_file(path) as file, _opened(file, path, MAX_PIXELS) as image:
        return image.size[::-1] if upright and _orientation(image) in _ON_ITS_SIDE else image.size


def room_for(pixels: int) -> AbstractContextManager[None]:
    """A block in which a large picture has room in memory; the others' threads wait. Smaller ones wait for nothing.

    Such blocks do not lie in one another.
    """
    return _ROOM.taken(_BYTES_A_PIXEL * pixels) if pixels > LARGE else nullcontext()


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The picture of a file; see `read_image`."""
    return read_image(path, max_pixels)[0]


def read_image(path: Path, max_pixels: int = MAX_PIXELS, expected: str | None = None) -> tuple[np.ndarray, str]:
    """Read an image as uint8 (height, width, 3), RGB, upright; and the SHA-256 of its file, in hex.

    The EXIF orientation is applied; an animation gives its first frame; transparent pixels are laid over white; 16-bit
    gray is scaled to 8 bits by rounding v / 257 (of 16 bits a channel in color, Pillow keeps the high byte). Color
    profiles are not applied. What a file holds decides its format, whatever its name ends in.

    expected: the SHA-256 that a store has of it; a file with another one is not looked into.

    Raises BadInput: missing, unreadable, no regular file, no image, damaged, larger than `max_pixels` or `MAX_BYTES`,
    not as expected, empty, or of a kind without an agreed range (floating point, 32-bit integers beyond 65535).
    """
    data = read_file(path, MAX_BYTES)
    sha256 = sha256_of(data)
    # Another edition of a data set has the same names; the store's landmarks would lie on other pixels.
    if expected not in (None, sha256):
        raise BadInput(f"{path}: not the image that the store was made from; name its folder with --images")
    with _opened(io.BytesIO(data), path, max_pixels) as image:
        image.load()
        return _to_rgb(image, path), sha256


@contextmanager
def _opened(file: BinaryIO | io.BytesIO, path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """An image by its header; its pixels are not decoded yet. What goes wrong in the block is `BadInput`, too."""
    try:
        with Image.open(file, formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise BadInput(
                    f"{path}: {image.width} x {image.height} pixels, more than the {max_pixels} allowed (a "
                    "decompression bomb?); scale it down"
                )
            yield image
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{path}: too many pixels (a decompression bomb?); scale it down") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{path}: {_unknown(file)}") from error
    # Pillow's decoders raise nearly anything (SyntaxError, struct.error, ValueError ...) on damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{path}: cannot be read as an image ({reason})") from error


def _unknown(file: BinaryIO | io.BytesIO) -> str:
    file.seek(4)
    box = file.read(8)
    if box[:4] == b"ftyp" and box[4:] in _HEIF_BRANDS and "HEIF" not in _formats():
        return f"a HEIF image; {HEIF_REMEDY} to read it"
    return f"not an image in a known format ({', '.join(_formats())})"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    """A loaded image of any mode as uint8 (height, width, 3), upright; a band of rows at a time."""
    if 0 in image.size:
        raise BadInput(f"{path}: the image has no pixels")
    if image.mode == "F":
        raise BadInput(f"{path}: floating-point pixels have no agreed range; save it with 8 or 16 bits")
    width, height = image.size
    orientation = _orientation(image)
    turned = orientation in _ON_ITS_SIDE
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    stored = _as_stored(pixels, orientation)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        stored[top:bottom] = _band(image if step >= height else image.crop((0, top, width, bottom)), path)
    return pixels


def _as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright picture as its file holds it, by its EXIF orientation (upright unless 2 to 8)."""
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    return upright.swapaxes(0, 1) if orientation in _ON_ITS_SIDE else upright


def _band(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image), path)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return np.asarray(image.convert("RGB"))


def _from_16_bits(values: np.ndarray, path: Path) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise BadInput(f"{path}: 32-bit pixels beyond 65535 have no agreed range; save it with 8 or 16 bits")
    # 65535 = 255 * 257, and 257 is odd, so this is v / 257 rounded to nearest, without ties.
    gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def to_tensor(pictures: np.ndarray, on: device | str = "cpu") -> Tensor:
    """Pictures (n, H, W, 3) uint8 → (n, 3, H, W) float32 in [0, 1], on a torch device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures)).to(on).permute(0, 3, 1, 2).float() / 255


def to_pictures(tensor: Tensor) -> np.ndarray:
    """(n, 3, H, W) float in [0, 1] → (n, H, W, 3) uint8, rounded."""
    return (tensor.detach() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def resized(pictures: np.ndarray, side: int) -> np.ndarray:
    """Square pictures (n, P, P, 3) uint8 at another size, by bicubic filtering: (n, side, side, 3) uint8."""
    if pictures.shape[1] == side:
        return pictures
    size = (side, side)
    return np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC)) for each in pictures])


def save_image(path: Path, array: np.ndarray) -> str:
    """Write a picture (height, width, 3) RGB, uint8 or floating point in [0, 1], as PNG, atomically.

    Returns the file's SHA-256 in hex.

    Raises OutputError: a name that does not end in .png, or a place that cannot be written. ValueError: another shape
    or type, values outside [0, 1], NaN.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path}: pictures are written as PNG; give a name that ends in .png")
    stream = io.BytesIO()
    Image.fromarray(_to_uint8(np.asarray(array))).save(stream, format="PNG")
    return write_bytes(path, stream.getvalue())


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"a picture has the shape (height, width, 3), not {array.shape}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"a picture is uint8 or floating point, not {array.dtype}")
    # A little slack for float rounding; `not` also catches NaN.
    if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError("the values of a floating-point picture lie in [0, 1]")
    return np.rint(np.clip(array.astype(np.float64), 0, 1) * 255).astype(np.uint8)
