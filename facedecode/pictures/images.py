"""Find, read and write pictures. Everything that is wrong with a file ends here, as one `BadInput`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facedecode.errors import BadInput, OutputError
from facedecode.files import write_bytes

if TYPE_CHECKING:  # seconds to import
    from torch import Tensor, device

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
"""Endings of the names that count as images in a folder, whatever their case."""

MAX_PIXELS = 178_956_970
"""Largest image that is decoded, in pixels; Pillow calls larger ones a decompression bomb."""

# Only these decoders are tried: Pillow's others include one that starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")
_BACKGROUND = (255, 255, 255, 255)
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class ImageRef:
    """One image that was found.

    path: absolute. relative: to the source root, with forward slashes.
    identity: name of the image's folder where that lies below a folder that the user named (LFW's layout:
        NAME/NAME_0001.jpg); None for images that are named one by one or lie directly in a named folder.
    """

    path: Path
    relative: str
    identity: str | None


def find_images(inputs: Sequence[Path]) -> tuple[Path, list[ImageRef]]:
    """List the images in files and folders, in an order that depends on their names only.

    Folders are searched to any depth, through symbolic links too, for names that end in one of `EXTENSIONS` and do
    not begin with a dot. A file that is named is taken whatever its name. An image reached twice is listed once.

    Returns the source root (the folder, or the deepest folder common to several inputs; absolute), and the images,
    sorted by their path relative to it.

    Raises BadInput: a path does not exist, a folder cannot be read or has no image, or a name is not valid UTF-8.
    """
    if not inputs:
        raise BadInput("no input: name an image or a folder of images")
    identities: dict[Path, str | None] = {}
    tops: list[Path] = []
    for named in inputs:
        # Not resolve(): where the user keeps a picture is its name, wherever a link leads.
        top = Path(os.path.abspath(named))  # noqa: PTH100
        if top.is_dir():
            tops.append(top)
            images = list(_walk(top))
            if not images:
                raise BadInput(f"{named}: no image in this folder (looked for {', '.join(sorted(EXTENSIONS))})")
        elif top.is_file():
            tops.append(top.parent)
            images = [(top, None)]
        elif top.exists():
            raise BadInput(f"{named}: neither a file nor a folder; name an image or a folder of images")
        else:
            raise BadInput(f"{named}: no such file or folder; check the path")
        for path, identity in images:
            if identities.get(path) is None:
                identities[path] = identity
    root = Path(os.path.commonpath(tops))
    refs = [ImageRef(path, path.relative_to(root).as_posix(), identity) for path, identity in identities.items()]
    for ref in refs:
        if not _is_utf8(ref.relative):
            raise BadInput(f"{str(ref.path)!a}: the name is not valid UTF-8; rename it")
    return root, sorted(refs, key=lambda ref: ref.relative)


def _walk(top: Path) -> Iterator[tuple[Path, str | None]]:
    """Images in and below a folder with their identities; each real folder is entered once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename}: cannot read this folder ({error.strerror})")

    for folder, subfolders, files in os.walk(top, followlinks=True, onerror=refuse):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        identity = folder_identity(Path(folder), top)
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(folder, name), identity


def folder_identity(folder: PurePath, top: PurePath) -> str | None:
    """The identity of images directly in a folder at or below `top`, which the user named; see `ImageRef`."""
    return None if folder == top else folder.name


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as uint8 (height, width, 3), RGB, upright.

    The EXIF orientation is applied; an animation gives its first frame; transparent pixels are laid over white; 16-bit
    gray is scaled to 8 bits by rounding v / 257 (of 16 bits a channel in color, Pillow keeps the high byte). Color
    profiles are not applied.

    Raises BadInput: missing, unreadable, no image, damaged, larger than `max_pixels`, empty, or of a kind without an
    agreed range (floating point, 32-bit integers beyond 65535).
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise BadInput(
                    f"{path}: {image.width} x {image.height} pixels, more than the {max_pixels} allowed (a "
                    "decompression bomb?); scale it down"
                )
            image.load()
            orientation = _orientation(image)
            pixels = _to_rgb(image, path)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"{path}: too many pixels (a decompression bomb?); scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise BadInput(f"{path}: not an image in a known format ({', '.join(_FORMATS)})") from error
    # Pillow's decoders raise nearly anything (SyntaxError, struct.error, ValueError ...) on damaged files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{path}: cannot be read as an image ({reason})") from error
    return np.ascontiguousarray(_upright(pixels, orientation))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1 to 8; any other value means upright)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    """A loaded image of any mode as uint8 (height, width, 3)."""
    if 0 in image.size:
        raise BadInput(f"{path}: the image has no pixels")
    if image.mode == "F":
        raise BadInput(f"{path}: floating-point pixels have no agreed range; save it with 8 or 16 bits")
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
