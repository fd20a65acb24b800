import os
import pickle

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from utils.data import cache
from utils.data.cache import CachedPairs
from utils.data.dataset import PairDataset
from utils.data.images import encode_png
from utils.data.manifest import data_sha256
from utils.options import InputError


@pytest.fixture
def samples(tmp_path):
    """Images of 8 and 16 bits, in colour, of odd sizes."""
    random = np.random.default_rng(0)
    for i, (shape, depth) in enumerate(
        [((7, 9), "u1"), ((5, 5), "u2"), ((6, 8, 3), "u1"), ((40, 30), "u2")]
    ):
        levels = random.integers(0, np.iinfo(depth).max, shape).astype(depth)
        for kind, content in (("images", levels), ("masks", random.integers(0, 2, shape[:2]))):
            path = tmp_path / "set" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", content.astype(levels.dtype))[1].tobytes())
    return PairDataset(tmp_path / "set")


def cached(samples, path):
    return CachedPairs(samples, path, data_sha256(samples.pairs))


def equal(a, b):
    return (
        torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) and tuple(a)[2] == tuple(b)[2]
    )


def test_the_same_samples_bit_for_bit(samples, tmp_path):
    fast = cached(samples, tmp_path / "deep" / "a.bin")
    assert len(fast) == len(samples) == 4
    assert all(equal(a, b) for a, b in zip(fast, samples, strict=True))
    assert fast.check() == samples.check()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.bin"]


def test_nothing_is_decoded_twice(samples, tmp_path, monkeypatch):
    cached(samples, tmp_path / "a.bin")
    monkeypatch.setattr(PairDataset, "levels", None)
    again = cached(samples, tmp_path / "a.bin")
    assert again[3].image.shape == (1, 40, 30)


def test_another_process_was_faster_and_windows_lets_nobody_replace_its_file(
    samples, tmp_path, monkeypatch
):
    cached(samples, tmp_path / "theirs.bin")

    def refused(path):
        (tmp_path / "theirs.bin").replace(path)
        raise InputError(f"{path}: cannot be written")

    monkeypatch.setattr(cache, "new_file", refused)
    fast = cached(samples, tmp_path / "a.bin")
    assert all(equal(a, b) for a, b in zip(fast, samples, strict=True))
    (tmp_path / "theirs.bin").write_bytes(b"of another set")
    with pytest.raises(InputError, match="b.bin: cannot be written"):
        cached(samples, tmp_path / "b.bin")


def test_a_changed_file_is_noticed(samples, tmp_path):
    first = cached(samples, tmp_path / "a.bin")[0].image
    path = samples.pairs[0].image
    before = path.stat()
    path.write_bytes(encode_png(255 - cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # not even the clock tells
    second = cached(samples, tmp_path / "a.bin")[0].image
    assert not torch.equal(first, second) and equal(
        samples[0], cached(samples, tmp_path / "a.bin")[0]
    )


def test_a_damaged_cache_is_written_again(samples, tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    cached(samples, path)
    whole = path.read_bytes()
    version = cache._VERSION
    for content in (b"", b"x" * 20, whole[:-1], whole[100:], whole[:-16] + bytes(16)):
        path.write_bytes(content)
        assert all(equal(a, b) for a, b in zip(cached(samples, path), samples, strict=True))
        assert path.read_bytes() == whole
    monkeypatch.setattr(cache, "_VERSION", version + 1)
    cached(samples, path)
    assert path.read_bytes() != whole


def test_a_failed_write_leaves_the_old_cache(samples, tmp_path):
    path = tmp_path / "a.bin"
    cached(samples, path)
    whole = path.read_bytes()
    samples.pairs[3].image.write_bytes(b"no image")
    with pytest.raises(InputError, match="3.png: not an image"):
        cached(samples, path)
    assert path.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "set"]


def test_a_copy_takes_no_pixels_along(samples, tmp_path):
    fast = cached(samples, tmp_path / "a.bin")
    fast[0]
    copy = pickle.loads(pickle.dumps(fast))
    assert copy._pixels is None and equal(copy[1], samples[1])
    assert len(pickle.dumps(fast)) < 3000


def test_a_spawned_worker_reads_the_same(samples, tmp_path):
    fast = cached(samples, tmp_path / "a.bin")
    loader = DataLoader(fast, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert [equal(a, b) for a, b in zip(loader, samples, strict=True)] == [True] * 4


def test_a_copy_does_not_read_what_another_job_has_written_since(samples, tmp_path):
    copy = pickle.dumps(cached(samples, tmp_path / "a.bin"))
    CachedPairs(samples, tmp_path / "a.bin", "of another job")
    with pytest.raises(InputError, match="a.bin: rewritten by another job"):
        pickle.loads(copy)[0]
