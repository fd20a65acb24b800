"""Pairs of image and mask to tensors."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..files import files_by_name, some_names
from ..options import InputError
from .images import SUFFIXES, read_levels, read_mask
from .ranges import Range, stretched


class Sample(NamedTuple):
    image: Tensor  # (1, H, W) float32 in [0, 1]
    mask: Tensor  # (1, H, W) float32, 0 or 1
    name: str  # stem of the image file


class Pair(NamedTuple):
    name: str
    image: Path
    mask: Path


class PairDataset(Dataset):
    """Images and their masks, paired by the stem of the file name, in the order of the stems.

    Args:
        folder: holds ``images`` and ``masks``, for example ``datasets/NUDT-SIRST/test``.
        level_range: the grey levels of an image that become 0 and 1, see `ranges.limits`.

    Raises:
        InputError: an empty folder, an image without a mask, a mask without an image, two files of
            one stem; on reading, a file that is no image, or a pair of two sizes.
    """

    def __init__(self, folder: Path, level_range: Range = "full"):
        self.level_range = level_range
        images, masks = list_images(folder / "images"), list_images(folder / "masks")
        for kind, other, missing in (
            ("mask", "masks", images.keys() - masks.keys()),
            ("image", "images", masks.keys() - images.keys()),
        ):
            if missing:
                raise InputError(f"{folder / other}: no {kind} for {some_names(missing)}")
        self.pairs = [Pair(name, images[name], masks[name]) for name in images]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "PairDataset":
        """Of these pairs, wherever their files are."""
        samples = cls.__new__(cls)
        samples.pairs, samples.level_range = list(pairs), "full"
        return samples

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        levels, mask = self.levels(index)
        image = _tensor(stretched(levels, self.level_range))
        return Sample(image, _tensor(mask), self.pairs[index].name)

    def levels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and mask of a pair, (H, W) each: uint8 or uint16 as stored, and bool."""
        return read_pair(self.pairs[index])

    def check(self) -> list[int]:
        """Read every pair once, before anything is done with any of them.

        Returns:
            The number of target pixels of each.
        """
        with ThreadPoolExecutor() as pool:
            counts = pool.map(lambda i: int(self.levels(i)[1].sum()), range(len(self)))
            bar = tqdm(counts, "reading", len(self), leave=False, delay=2, dynamic_ncols=True)
            return list(bar)


class JoinedPairs(PairDataset):
    """Those of several data sets, one after the other, each stored as it is.

    Args:
        parts: one at least, of one range.
    """

    def __init__(self, parts: Sequence[PairDataset]):
        self.level_range = parts[0].level_range
        self.pairs = [pair for part in parts for pair in part.pairs]
        self._places = [(part, index) for part in parts for index in range(len(part))]

    def levels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part, index = self._places[index]
        return part.levels(index)


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The files of a pair, (H, W) each: uint8 or uint16 as stored, and bool.

    Raises:
        InputError: a file that is no image, or a pair of two sizes.
    """
    levels, mask = read_levels(pair.image), read_mask(pair.mask)
    if levels.shape != mask.shape:
        raise InputError(
            f"{pair.mask}: {_size(mask)}, but its image has {_size(levels)}; scale the mask to "
            "that, or leave the pair out"
        )
    return levels, mask


def list_images(folder: Path) -> dict[str, Path]:
    """`files_by_name` of images: by their stems."""
    return files_by_name(folder, SUFFIXES)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]} px"


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32, copy=False))[None]
