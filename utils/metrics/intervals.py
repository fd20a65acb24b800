"""95 % bootstrap intervals over images."""

import hashlib
from dataclasses import fields, replace

import numpy as np

from .counts import Counts, figures
from .protocols import Protocol

REPLICATES = 1000


def resampled(name: str, counts: Counts, seed: int) -> np.ndarray:
    """An image's share in each replicate: (REPLICATES, number of counts) int64.

    In each replicate the image occurs as often as a Poisson variable of mean 1 says (the Poisson
    bootstrap: Chamandy et al. 2012, "Estimating uncertainty for massive data streams"). It depends
    on the name and the seed alone, so replicates add up over images in any order and over shards,
    and methods are compared on the same resampled images.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8, salt=seed.to_bytes(8, "little"))
    random = np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "little")))
    times = random.poisson(1.0, REPLICATES)
    return times[:, None] * np.array(list(vars(counts).values()), np.int64)


def empty() -> np.ndarray:
    """The sum over no image."""
    return np.zeros((REPLICATES, len(fields(Counts))), np.int64)


def intervals(replicates: np.ndarray, protocol: Protocol) -> dict[str, list[float] | None]:
    """From the sums over images: the 2.5th and 97.5th percentile of each figure.

    Replicates that leave a figure undefined are passed over; None where all do.
    """
    protocol = replace(protocol, undefined=None)
    samples = [figures(Counts(*map(int, row)), protocol) for row in replicates]
    result = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples if sample[name] is not None]
        result[name] = np.percentile(values, [2.5, 97.5]).tolist() if values else None
    return result
