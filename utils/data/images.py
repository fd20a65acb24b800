"""Files to arrays."""

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from ..files import read_errors
from ..options import LARGEST_SIDE, InputError

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff"})

_BLOCK = 2**22  # pixels
_MODES = {
    None: cv2.INTER_LINEAR,
    "corner": cv2.INTER_NEAREST,
    "centre": cv2.INTER_NEAREST_EXACT,
}
_MOST_PIXELS = LARGEST_SIDE**2
_MOST_PACKED = 1400  # bytes of pixels a byte of the file: deflate reaches 1032, LZW 1362
_BOUNDED = (1, 5, 8, 32773, 32946)  # TIFF: none, LZW, deflate, PackBits; others pack any number
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # their first bytes, the latter of BigTIFF
_TAGS = (259, 262, 284)  # compression, what zero is, whether planes are apart

# A file that does not decode is our error to report, in one line; OpenCV 5 moved the switch.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)
Image.MAX_IMAGE_PIXELS = None  # its own limit is lower
warnings.filterwarnings("ignore", module="PIL")  # of odd metadata


def read_mask(path: Path) -> np.ndarray:
    """A ground-truth mask.

    Returns:
        (H, W) bool. A target pixel is > 127 where the largest value of the mask exceeds 1, else
        > 0; where it exceeds 255, > half of it. Masks in {0, 1}, {0, 255}, of 12 or 16 bits and
        with grey edges are all read as they were meant.

    Raises:
        InputError: no image, or of another depth.
    """
    return target_pixels(read_mask_levels(path))


def read_mask_levels(path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16 as stored; in colour, the strongest channel: no hue is background."""
    levels = _stored(path)
    return levels if levels.ndim == 2 else levels[..., :3].max(axis=2)


def target_pixels(levels: np.ndarray) -> np.ndarray:
    """The rule of `read_mask`: (H, W) levels as stored -> (H, W) bool."""
    highest = int(levels.max())
    return levels > (0 if highest <= 1 else 127 if highest <= 255 else highest // 2)


def unit_interval(levels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 levels -> float32 in [0, 1]."""
    return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)


def resize(
    array: np.ndarray,
    size: int | tuple[int, int],
    nearest: Literal["corner", "centre"] | None = None,
) -> np.ndarray:
    """(H, W) -> (size, size), or (height, width), of the same type, bilinear or nearest.

    Args:
        array: any real numbers.
        size: px.
        nearest: takes for each pixel the value at the place of its upper left corner, as OpenCV
            does, or of its centre, as Pillow, scikit-image and MATLAB do. At 256 x 256 the test
            masks of IRSTD-1k hold the paper's 291 targets by corners, 294 by centres.
    """
    shape = (size, size) if isinstance(size, int) else size
    if array.shape == shape:
        return array
    resized = cv2.resize(array.astype(np.float32), shape[::-1], interpolation=_MODES[nearest])
    if array.dtype.kind in "iu":
        resized = np.rint(resized)
    return resized.astype(array.dtype)


def row_blocks(array: np.ndarray) -> Iterator[slice]:
    """Rows of (H, W, ...), a few million pixels at a time: of a large image, no second copy."""
    rows = max(1, _BLOCK // array.shape[1])
    for top in range(0, len(array), rows):
        yield slice(top, top + rows)


def encode_png(levels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8, blue first -> the bytes of a PNG file."""
    return png_buffer(levels).tobytes()


def png_buffer(levels: np.ndarray) -> memoryview:
    """`encode_png` without the second copy that bytes are: for files as large as memory allows."""
    return cv2.imencode(".png", levels)[1].data


def read_levels(path: Path, floats: bool = False) -> np.ndarray:
    """Pixels as stored, colour brought to grey; transparency is ignored.

    Args:
        path: an image file. It is turned as its orientation tag says, of Exif or TIFF.
        floats: also take files of float32 pixels.

    Returns:
        (H, W) uint8 or uint16, or float32.

    Raises:
        InputError: no image, or of another depth.
    """
    try:
        return grey(_stored(path, floats))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def read_photo(path: Path) -> np.ndarray:
    """An image of any kind: those of `read_levels`, of other depths too, and .npy arrays.

    Args:
        path: .npy arrays are (H, W) or (H, W, 3 or 4), red first, with any further axes of length
            1.

    Returns:
        (H, W) uint8 or uint16; all other numbers as float32.

    Raises:
        InputError: no image, several in one TIFF file, damaged, too large, or with NaN or infinity.
    """
    levels = _load(path) if path.suffix.lower() == ".npy" else _decode(path)
    try:
        return grey(levels)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width as an image is read, by its header; (0, 0) where that is unreadable."""
    try:
        if path.suffix.lower() == ".npy":
            shape = _plane(np.load(path, mmap_mode="r", allow_pickle=False).shape)
            return shape[:2] if len(shape) == 2 or _is_colour(shape) else (math.prod(shape), 1)
        with path.open("rb") as file:
            header = _header(file)
        sides = int(header.height), int(header.width)  # a damaged header holds any type
        sides = sides[::-1] if header.orientation in (5, 6, 7, 8) else sides
        return sides if min(sides) > 0 else (0, 0)
    except Exception:  # a damaged file can raise anything
        return 0, 0


def grey(levels: np.ndarray) -> np.ndarray:
    """Pixels of any type and shape -> (H, W) uint8, uint16 or float32.

    Args:
        levels: (H, W), or (H, W, 3 or 4) with blue first; transparency is ignored.

    Raises:
        ValueError: of another shape, not of real numbers, NaN or infinity.
    """
    colours = _is_colour(levels.shape)
    if levels.dtype.kind not in "buif" or not (levels.ndim == 2 or colours) or not levels.size:
        raise ValueError(
            f"expected an image (H, W) or (H, W, 3) of numbers, not {levels.dtype} of shape "
            f"{levels.shape}"
        )
    levels = levels.astype(levels.dtype.newbyteorder("="), copy=False)  # FITS has the other order
    if levels.dtype not in (np.uint8, np.uint16):
        with np.errstate(over="ignore"):
            levels = levels.astype(np.float32, copy=False)
    if colours:
        has_alpha = levels.shape[2] == 4
        levels = cv2.cvtColor(levels, cv2.COLOR_BGRA2GRAY if has_alpha else cv2.COLOR_BGR2GRAY)
    if levels.dtype == np.float32 and not all(np.isfinite(row).all() for row in levels):
        raise ValueError("holds NaN or infinity, as float32 at least; replace them")
    return levels


def _load(path: Path) -> np.ndarray:
    """A .npy array, in the order of axes and colours of `_decode`."""
    try:
        # mapped first: a header that lies about the shape would have its memory allocated
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        shape = _plane(mapped.shape)
        pixels = mapped.size // (shape[2] if _is_colour(shape) else 1)
        if pixels > _MOST_PIXELS:
            raise InputError(f"{path}: {mapped.shape}; at most {_MOST_PIXELS} pixels are read")
        array = np.array(mapped).reshape(shape)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path}: not an array that can be read; replace or remove it") from error
    return array[..., [2, 1, 0]] if _is_colour(shape) else array


def _plane(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of length 1, as long as it is not (H, W) or (H, W, 3 or 4)."""
    while len(shape) > 2 and 1 in shape and not _is_colour(shape):
        axis = shape.index(1)
        shape = shape[:axis] + shape[axis + 1 :]
    return shape


def _is_colour(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] in (3, 4)


def _stored(path: Path, floats: bool = False) -> np.ndarray:
    """`_decode` of the depths that data sets have."""
    levels = _decode(path)
    if levels.dtype not in (np.uint8, np.uint16) and not (floats and levels.dtype == np.float32):
        raise InputError(f"{path}: {levels.dtype} pixels; convert it to 8 or 16 bits")
    return levels


class _Header(NamedTuple):
    """What a file claims to hold."""

    width: int
    height: int
    depth: int  # bits of a number
    bands: int  # numbers of a pixel
    orientation: int  # as TIFF and Exif number it; 5 to 8 swap the sides
    tags: Mapping[int, Any] = {}  # of TIFF: those of `_TAGS` that it has
    is_stack: bool = False


def _decode(path: Path) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) of any type, turned as the orientation tag says."""
    with read_errors(path):
        # not cv2.imread: it does not open names outside the code page on Windows
        data = path.read_bytes()
    try:
        header = _header(io.BytesIO(data))
        doubt = _doubt(data, header)
    except Exception:  # a damaged file can raise anything
        doubt = "not an image that can be decoded"
    if doubt:
        raise InputError(f"{path}: {doubt}; replace or remove it")
    depth, bands, tags = header.depth, header.bands, header.tags
    if header.is_stack:
        raise InputError(f"{path}: a stack of pages or frames; one file for each is needed")
    if tags.get(284) == 2 and bands > 1 and depth > 8:  # OpenCV mixes them up
        raise InputError(
            f"{path}: colour planes of {depth} bits stored apart; convert it to one band"
        )
    # UNCHANGED ignores the orientation but of TIFF, where ANYCOLOR fails for float transparency
    flags = cv2.IMREAD_UNCHANGED if data[:4] in _TIFF else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    try:
        levels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(str(error)) from error
        levels = None
    if levels is None:
        raise InputError(f"{path}: not an image that can be decoded; replace or remove it")
    if levels.dtype.itemsize * 8 < depth:  # so OpenCV reads TIFF files of grey and transparency
        raise InputError(f"{path}: {bands} bands of {depth} bits; convert it to one band")
    if tags.get(262) == 0 and levels.dtype != np.uint8:  # white is zero: OpenCV inverts 8 bits only
        if levels.dtype != np.uint16 or depth != 16:
            raise InputError(f"{path}: white is zero; convert it to 16 bits with black as zero")
        levels = ~levels
    return levels


def _doubt(data: bytes, header: _Header) -> str | None:
    """Why a file should not be decoded: OpenCV fills up what is missing without a word."""
    width, height = header.width, header.height
    bits = width * height * header.depth * header.bands
    if width * height > _MOST_PIXELS:
        return f"{width}x{height} px; at most {_MOST_PIXELS} pixels are read"
    if header.tags.get(259, 1) in _BOUNDED and bits > 8 * _MOST_PACKED * len(data):
        return f"{len(data)} bytes cannot hold its {width}x{height} px"
    if data.startswith(b"\x89PNG"):
        Image.open(io.BytesIO(data)).verify()  # the checksums of all chunks
    elif data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        try:  # what comes after the picture may hold these bytes, too
            Image.open(io.BytesIO(data)).load()
        except OSError:
            return "cut off"
    return None


def _header(file: BinaryIO) -> _Header:
    start = file.read(25)
    if start[:4] in _TIFF:  # Pillow does not open all of its pixel types
        pages = _pages(file, start[: 16 if b"+" in start[:4] else 8])
        first = next(pages)
        size = first[256], first[257]
        # of the size of the first, and neither a preview nor a mask of it
        further = ((p.get(256), p.get(257)) == size and not p.get(254, 0) & 5 for p in pages)
        is_stack = False
        with suppress(Exception):  # where damaged: it is the first that is read
            is_stack = any(further)
        depth, bands = first.get(258, (1,))[0], first.get(277, 1)
        tags = {tag: first[tag] for tag in _TAGS if tag in first}
        return _Header(*size, depth, bands, first.get(274, 1), tags, is_stack)
    image = Image.open(file)
    depth = start[24] if image.format == "PNG" else 1 if image.mode == "1" else 8
    is_stack = False
    with suppress(Exception):  # where damaged: it is the first that is read
        # JPEGs of phones (MPO) hold previews of themselves
        is_stack = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    bands, orientation = len(image.getbands()), _exif_orientation(image)
    return _Header(*image.size, depth, bands, orientation, is_stack=is_stack)


def _pages(file: BinaryIO, start: bytes) -> Iterator[TiffImagePlugin.ImageFileDirectory_v2]:
    """The tags of each page of a TIFF file."""
    at, seen = TiffImagePlugin.ImageFileDirectory_v2(start).next, {0}
    while at not in seen:
        seen.add(at)
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        file.seek(at)
        tags.load(file)
        at = tags.next
        yield tags


def _exif_orientation(image: Image.Image) -> int:
    exif = Image.Exif()
    with suppress(Exception):  # damaged: OpenCV passes over it, too
        exif.load(image.info.get("exif"))
        return exif.get(274, 1)
    return 1
