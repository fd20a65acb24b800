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


def samples(replicates: np.ndarray, protocol: Protocol) -> dict[str, np.ndarray]:
    """From the sums over images: each figure in the replicates, (REPLICATES,) float64.

    NaN where a replicate leaves it undefined.
    """
    protocol = replace(protocol, undefined=None)
    rows = [figures(Counts(*map(int, row)), protocol) for row in replicates]
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def interval(values: np.ndarray) -> list[float] | None:
    """The 2.5th and 97.5th percentile of what is not NaN; None where all is."""
    known = values[~np.isnan(values)]
    return np.percentile(known, [2.5, 97.5]).tolist() if len(known) else None
