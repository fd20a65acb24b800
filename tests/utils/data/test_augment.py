import hashlib

import numpy as np
import pytest

from utils.data.augment import PER_IMAGE, PER_TARGET, SIDE, augment
from utils.data.dataset import PairDataset
from utils.data.images import encode_png
from utils.options import InputError


@pytest.fixture
def source(tmp_path):
    """Two images in trainval, level 50 and 60; two in test, level 150 (two targets) and 160."""
    for split, level, squares in (
        ("trainval", 50, 1),
        ("trainval", 60, 0),
        ("test", 150, 2),
        ("test", 160, 1),
    ):
        image, mask = np.full((2, 90, 120), (level,), np.uint8)
        mask[:] = 0
        for k in range(squares):
            image[30 + 20 * k : 34 + 20 * k, 50:53] = level + 40
            mask[30 + 20 * k : 34 + 20 * k, 50:53] = 255
        for kind, content in (("images", image), ("masks", mask)):
            path = tmp_path / "SIRST" / split / kind / f"Misc_{level}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(content))
    return tmp_path / "SIRST"


def digest(folder):
    sums = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        sums.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return sums.hexdigest()


def test_windows_of_each_split_stay_in_it(source, tmp_path):
    counts = augment(source, tmp_path / "aug", 0)
    assert counts == {"trainval": PER_IMAGE, "test": 3 * PER_TARGET}
    for split, levels in (("trainval", {50}), ("test", {150, 160})):
        samples = PairDataset(tmp_path / "aug" / split)
        assert len(samples) == counts[split]
        assert {pair.name.split("_")[1] for pair in samples.pairs} == {str(x) for x in levels}
        for index in range(len(samples)):
            image, mask = samples.levels(index)
            assert image.shape == mask.shape == (SIDE, SIDE) and mask.any()
            assert np.median(image) in levels
            # image and mask were turned alike
            assert image[mask].min() >= min(levels) + 15
            assert image[~mask].max() <= max(levels) + 25


def test_the_same_seed_gives_the_same_files(source, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment(source, tmp_path / name, seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_what_is_there_stays(source, tmp_path):
    for folder in (source, source.parent):
        with pytest.raises(InputError, match="the set is to be written there"):
            augment(source, folder, 0, replace=True)
    augment(source, tmp_path / "a", 1)
    with pytest.raises(InputError, match="holds something else"):
        augment(source, tmp_path / "a", 2)
    before = digest(tmp_path / "a")
    augment(source, tmp_path / "a", 2, replace=True)
    assert digest(tmp_path / "a") != before
    with pytest.raises(InputError, match="prepare the set first"):
        augment(tmp_path, tmp_path / "b", 0)
