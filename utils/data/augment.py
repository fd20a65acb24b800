"""A set like sirst_aug, made of a set like SIRST: turned and mirrored windows around targets."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState
from tqdm import tqdm

from ..options import InputError
from .dataset import PairDataset
from .images import encode_png
from .layouts import SPLITS
from .prepare import new_set, refuse_to_replace_source

SIDE = 256  # px
# SIRST's 341 images and 109 targets of the test split give the published 8525 and 545
PER_IMAGE = 25  # windows, in trainval
PER_TARGET = 5  # windows, in test
_TRIES = 20  # before a target that a turn rounds away is passed over
_MARGIN = SIDE // 8  # px, the centre of the target to the edge of its window


def augment(source: Path, folder: Path, seed: int, replace: bool = False) -> dict[str, int]:
    """Write the windows of trainval's images as trainval, those of test's as test.

    The same seed gives the same files.

    Args:
        source: a set in our layout.
        folder: of the new set.
        seed: of all that is drawn.
        replace: put the new set in the place of what is there.

    Returns:
        The number of windows in each split.

    Raises:
        InputError: a source that is no such set, something else in its place.
    """
    for split in SPLITS:
        if not (source / split).is_dir():
            raise InputError(f"{source / split}: no such folder; prepare the set first")
    refuse_to_replace_source(source, folder)
    samples = {split: PairDataset(source / split) for split in SPLITS}
    for pairs in samples.values():
        pairs.check()
    counts = {}
    with new_set(folder, replace) as temporary:
        for number, split in enumerate(SPLITS):
            for kind in ("images", "masks"):
                (temporary / split / kind).mkdir(parents=True)
            counts[split] = 0
            bar = tqdm(samples[split].pairs, split, leave=False, delay=2, dynamic_ncols=True)
            for index, pair in enumerate(bar):
                rng = RandomState([seed % 2**32, seed >> 32, number, index])
                levels, mask = samples[split].levels(index)
                for k, window in enumerate(_windows(rng, levels, mask, split)):
                    for kind, content in zip(("images", "masks"), window, strict=True):
                        path = temporary / split / kind / f"{pair.name}_{k:03d}.png"
                        path.write_bytes(encode_png(content))
                    counts[split] += 1
    return counts


def _windows(
    rng: RandomState, levels: np.ndarray, mask: np.ndarray, split: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image and mask of each window, (256, 256) each; of an image without targets, none."""
    _, _, _, centroids = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    targets = centroids[1:]
    count = PER_IMAGE if split == "trainval" else PER_TARGET * len(targets)
    for k in range(count if len(targets) else 0):
        for _ in range(_TRIES):
            window = _window(rng, levels, mask, targets[k % len(targets)])
            if window[1].any():
                yield window
                break


def _window(
    rng: RandomState, levels: np.ndarray, mask: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turned by any angle, mirrored or not, the target anywhere but at the edge.

    Beyond its edge the image is mirrored, and its mask with it.
    """
    angle, mirrored = 360 * rng.random_sample(), rng.random_sample() < 0.5
    turn = cv2.getRotationMatrix2D((0, 0), angle, 1)  # (2, 3)
    if mirrored:
        turn[:, 0] *= -1
    place = _MARGIN + (SIDE - 2 * _MARGIN) * rng.random_sample(2)
    turn[:, 2] = place - turn[:, :2] @ target
    image, drawn = (
        cv2.warpAffine(x, turn, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for x in (levels, mask.astype(np.float32))
    )
    return image, np.where(drawn >= 0.5, np.uint8(255), np.uint8(0))
