"""Files to arrays."""

from pathlib import Path

import cv2
import numpy as np

from ..options import InputError

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff"})

# A file that does not decode is our error to report, in one line; OpenCV 5 moved the switch.
_set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
_set_log_level(0)


def read_image(path: Path) -> np.ndarray:
    """A grey image.

    Args:
        path: 8- or 16-bit, grey or colour (brought to grey; transparency is ignored).

    Returns:
        (H, W) float32 in [0, 1]: the stored value over the largest of its type, 255 or 65535.

    Raises:
        InputError: no image, or of another depth.
    """
    return unit_interval(read_levels(path))


def read_mask(path: Path) -> np.ndarray:
    """A ground-truth mask.

    Returns:
        (H, W) bool. A target pixel is > 127 where the largest value of the mask exceeds 1, else
        > 0: masks in {0, 1}, {0, 255} and with grey edges are all read as they were meant.

    Raises:
        InputError: no image, or of another depth.
    """
    return target_pixels(read_mask_levels(path))


def read_mask_levels(path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16 as stored; in colour, the strongest channel: no hue is background."""
    levels = _decode(path)
    return levels if levels.ndim == 2 else levels[..., :3].max(axis=2)


def target_pixels(levels: np.ndarray) -> np.ndarray:
    """The rule of `read_mask`: (H, W) levels as stored -> (H, W) bool."""
    return levels > (127 if levels.max() > 1 else 0)


def unit_interval(levels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 levels -> float32 in [0, 1]."""
    return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)


def resize(array: np.ndarray, size: int | tuple[int, int], nearest: bool = False) -> np.ndarray:
    """(H, W) -> (size, size), or (height, width), of the same type, bilinear or nearest.

    Nearest as OpenCV does it: the masks of IRSTD-1k hold the paper's 291 targets at 256 x 256 in
    this sampling, 294 in that of other libraries.
    """
    shape = (size, size) if isinstance(size, int) else size
    if array.shape == shape:
        return array
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    levels = array.astype(np.float32)
    return cv2.resize(levels, shape[::-1], interpolation=mode).astype(array.dtype)


def encode_png(levels: np.ndarray) -> bytes:
    """(H, W) uint8 -> the bytes of a PNG file."""
    return cv2.imencode(".png", levels)[1].tobytes()


def read_levels(path: Path, floats: bool = False) -> np.ndarray:
    """Pixels as stored, colour brought to grey.

    Args:
        path: an image file.
        floats: also take files of float32 pixels.

    Returns:
        (H, W) uint8 or uint16, or float32.

    Raises:
        InputError: no image, or of another depth.
    """
    levels = _decode(path, floats)
    if levels.ndim == 3:
        has_alpha = levels.shape[2] == 4
        levels = cv2.cvtColor(levels, cv2.COLOR_BGRA2GRAY if has_alpha else cv2.COLOR_BGR2GRAY)
    return levels


def _decode(path: Path, floats: bool = False) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4)."""
    try:
        # not cv2.imread: it does not open names outside the code page on Windows
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        levels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:
        levels = None
    if levels is None:
        raise InputError(f"{path}: not an image that can be decoded; replace or remove it")
    if levels.dtype not in (np.uint8, np.uint16) and not (floats and levels.dtype == np.float32):
        raise InputError(f"{path}: {levels.dtype} pixels; convert it to 8 or 16 bits")
    return levels
