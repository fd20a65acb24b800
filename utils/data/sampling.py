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
    or on what was drawn before. Asked for ``(epoch, index)``, as `EpochBatches` does.

    Args:
        samples: of which it shows some.
        indices: those that an epoch shows, but for a last batch that is not full.
        transform: what is done to each.
        seed: of all that is random.
        others: those of which it shows as many again, drawn at random; empty: none.
    """

    def __init__(
        self,
        samples: PairDataset,
        indices: Sequence[int],
        transform: Transform,
        seed: int,
        others: Sequence[int] = (),
    ):
        self.samples, self.indices, self.others = samples, indices, others
        self.transform, self.seed = transform, seed

    def __len__(self) -> int:
        return len(self.indices) * (2 if self.others else 1)

    def __getitem__(self, draw: tuple[int, int]) -> Sample:
        image, mask, name = self.samples[self.shown(draw)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.seed, *draw))
            return Sample(*self.transform(image, mask), name)

    def shown(self, draw: tuple[int, int]) -> int:
        """Which of the samples it is."""
        epoch, index = draw
        if index < len(self.indices):
            return self.indices[index]
        return self.others[_mix(self.seed, epoch, index, 1) % len(self.others)]


class EpochBatches(Sampler):
    """The batches of an epoch: no index twice, in an order drawn from the seed and the epoch.

    Each of several processes gets its part of every batch, so that together they take the very
    batches that one process would take alone. Set ``epoch``, and ``start`` to go on within it.

    Args:
        length: number of indices.
        batch_size: of all processes together; the last batch is left out if it is smaller, unless
            it is the only one.
        seed: of the order.
        rank: of this process, of ``world`` processes.

    Raises:
        InputError: a batch that the processes cannot share equally, fewer images than processes.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        if length < world:
            raise InputError(f"{length} images to train on cannot be shared by {world} processes")
        self.batch_size = min(batch_size, length // world * world)
        if self.batch_size % world:
            raise InputError(
                f"batches of {self.batch_size} images cannot be shared by {world} processes "
                "equally; choose a multiple as --batch-size"
            )
        self.length, self.seed, self.rank, self.world = length, seed, rank, world
        self.epoch, self.start = 0, 0

    @property
    def per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return self.length // self.batch_size

    def __len__(self) -> int:
        return self.per_epoch - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        for step in range(self.start, self.per_epoch):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, index) for index in batch[self.rank :: self.world]]


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
