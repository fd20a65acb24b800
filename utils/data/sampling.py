"""What training sees of a data set, and in which order. Everything follows from the seed."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..options import InputError
from .dataset import PairDataset, Sample
from .transforms import Transform


class TrainingView(Dataset):
    """Randomly transformed samples of a data set.

    What is drawn depends on the seed, the epoch and the index alone, not on the number of workers
    or on what was drawn before. Asked for ``(epoch, index)``, as `EpochSampler` does.
    """

    def __init__(
        self, samples: PairDataset, indices: Sequence[int], transform: Transform, seed: int
    ):
        self.samples, self.indices, self.transform, self.seed = samples, indices, transform, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: tuple[int, int]) -> Sample:
        epoch, index = draw
        image, mask, name = self.samples[self.indices[index]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.seed, epoch, index))
            return Sample(*self.transform(image, mask), name)


class EpochSampler(Sampler):
    """Every index once per epoch, in an order drawn from the seed and the epoch."""

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order])


def hold_out(length: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split ``range(length)``, at random but by the seed, into training and validation indices.

    Validation gets ``fraction`` of them, rounded, and at least 1; both come back sorted.

    Raises:
        InputError: nothing would be left to train on.
    """
    count = max(1, round(length * fraction))
    if count >= length:
        raise InputError(
            f"{length} images cannot be split into training and validation ({fraction:g})"
        )
    generator = torch.Generator().manual_seed(_mix(seed))
    order = torch.randperm(length, generator=generator).tolist()
    return sorted(order[count:]), sorted(order[:count])


def _mix(*numbers: int) -> int:
    """One 64-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
