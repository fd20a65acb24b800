"""What a data set holds, as SHA-256: by it a run, a cache and a check know the set again."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..files import read_errors
from .dataset import Pair


def data_sha256(pairs: Iterable[Pair]) -> str:
    """SHA-256 over the names and the bytes of all images and masks."""
    return combined((p.name, file_sha256(p.image), file_sha256(p.mask)) for p in pairs)


def combined(entries: Iterable[tuple[str, str, str]]) -> str:
    """`data_sha256` from the name of each pair, and the SHA-256 of its image and of its mask."""
    digest = hashlib.sha256()
    for name, *hashes in entries:
        digest.update(name.encode())
        for sha256 in hashes:
            digest.update(bytes.fromhex(sha256))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Raises InputError where the file cannot be read."""
    with read_errors(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
