"""A contact sheet: many images of a data set on one page, their targets outlined."""

from collections.abc import Sequence

import cv2
import numpy as np

from .dataset import Pair, read_pair
from .ranges import stretched

_TILES = 48
_COLUMNS = 8
_SIDE = 200  # px of a tile
_CAPTION = 16  # px below it
_COLOUR = (60, 220, 80)  # blue, green, red
_GAP = 2  # px between a target and its outline


def contact_sheet(pairs: Sequence[tuple[str, Pair]]) -> np.ndarray:
    """Up to 48 of the images, evenly spaced in their order.

    Args:
        pairs: captions and files, which can be read.

    Returns:
        (H, W, 3) uint8, blue first.
    """
    count = min(_TILES, len(pairs))
    chosen = [pairs[i * len(pairs) // count] for i in range(count)]
    tiles = [_tile(*item) for item in chosen]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    return np.vstack(rows)


def _tile(caption: str, pair: Pair) -> np.ndarray:
    levels, mask = read_pair(pair)
    scale = (_SIDE - 4) / max(levels.shape)
    width, height = (max(1, round(scale * length)) for length in levels.shape[::-1])
    grey = np.rint(255 * stretched(levels, "auto")).astype(np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.cvtColor(
        cv2.resize(grey, (width, height), interpolation=method), cv2.COLOR_GRAY2BGR
    )
    # every pixel with some target in it
    covered = cv2.resize(mask.astype(np.float32), (width, height), interpolation=method) > 0
    grown = cv2.dilate(covered.view(np.uint8), np.ones((2 * _GAP + 3,) * 2, np.uint8))
    outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _COLOUR, 1)
    tile = np.zeros((_SIDE + _CAPTION, _SIDE, 3), np.uint8)
    top, left = (_SIDE - height) // 2, (_SIDE - width) // 2
    tile[top : top + height, left : left + width] = picture
    text = caption.encode("ascii", "replace").decode()
    place = (4, _SIDE + _CAPTION - 5)
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (220,) * 3, 1, cv2.LINE_AA)
    return tile
