import pickle

import numpy as np
import pytest
import torch

from utils.data.cache import CachedPairs
from utils.data.dataset import JoinedPairs, PairDataset
from utils.data.images import encode_png
from utils.options import InputError


def write(folder, kind, name, shape=(6, 8), value=0):
    path = folder / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full(shape, value, np.uint8)))


@pytest.fixture
def folder(tmp_path):
    for stem, value in (("b", 255), ("a", 51), ("10", 0)):
        write(tmp_path, "images", f"{stem}.png", value=value)
        write(tmp_path, "masks", f"{stem}.png", value=value)
    return tmp_path


def test_pairs_by_stem_in_order(folder):
    samples = PairDataset(folder)
    assert [sample.name for sample in samples] == ["10", "a", "b"]
    image, mask, _ = samples[1]
    assert image.dtype == mask.dtype == torch.float32
    assert image.shape == mask.shape == (1, 6, 8)
    assert (image == 0.2).all() and (mask == 0).all()
    assert (samples[2].mask == 1).all()
    assert sum(samples.check()) == 48


def test_several_sets_one_after_the_other(folder, tmp_path):
    write(tmp_path / "other", "images", "a.png", (3, 5), 102)
    write(tmp_path / "other", "masks", "a.png", (3, 5), 255)
    parts = [PairDataset(folder), PairDataset(tmp_path / "other")]
    parts[1] = CachedPairs(parts[1], tmp_path / "other.bin", "key")
    joined = pickle.loads(pickle.dumps(JoinedPairs(parts)))  # as a worker gets it
    assert [sample.name for sample in joined] == ["10", "a", "b", "a"]
    assert len(joined) == len(joined.pairs) == 4
    for sample, expected in zip(joined, [*parts[0], *parts[1]], strict=True):
        assert torch.equal(sample.image, expected.image)
        assert torch.equal(sample.mask, expected.mask)
    assert joined.check() == [0, 0, 48, 15]


def test_a_camera_that_fills_a_part_of_16_bits(folder):
    levels = np.linspace(3000, 3047, 48).reshape(6, 8).astype(np.uint16)
    (folder / "images" / "a.png").write_bytes(encode_png(levels))
    assert PairDataset(folder)[1].image.max() < 0.05
    image = PairDataset(folder, "auto")[1].image
    assert image.min() == 0 and image.max() == 1
    assert (PairDataset(folder, "auto")[2].image == PairDataset(folder)[2].image).all()  # 8 bits


def test_image_and_mask_may_have_other_types(folder):
    (folder / "masks" / "a.png").rename(folder / "masks" / "a.BMP")
    assert PairDataset(folder)[1].name == "a"


def test_other_files_are_passed_over(folder):
    (folder / "images" / "Thumbs.db").write_bytes(b"")
    (folder / "images" / "._a.png").write_bytes(b"")
    assert len(PairDataset(folder)) == 3


@pytest.mark.parametrize(
    "kind, message",
    [("masks", r"masks: no mask for a"), ("images", r"images: no image for a")],
)
def test_a_missing_partner_is_named(folder, kind, message):
    (folder / kind / "a.png").unlink()
    with pytest.raises(InputError, match=message):
        PairDataset(folder)


def test_sizes_that_differ(folder):
    write(folder, "masks", "a.png", shape=(6, 9))
    with pytest.raises(InputError, match=r"a\.png: 9x6 px, but its image has 8x6"):
        PairDataset(folder).check()


def test_a_file_that_is_no_image(folder):
    (folder / "images" / "b.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"b\.png: not an image"):
        PairDataset(folder).check()


def test_two_files_of_one_stem(folder):
    write(folder, "images", "a.bmp")
    with pytest.raises(InputError, match=r"a\.bmp is of the same image"):
        PairDataset(folder)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(InputError, match=r"images: no such folder"):
        PairDataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"images: no file in it"):
        PairDataset(tmp_path)
