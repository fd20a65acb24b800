import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest
from skimage.measure import label

from utils.data.dataset import PairDataset
from utils.data.generated import Order, generate
from utils.data.images import encode_png, read_mask
from utils.data.pasting import Kind
from utils.options import InputError

ORDER = Order(
    trainval=5,
    test=3,
    size=(48, 40),
    targets=(1, 3),
    kind=Kind((0.0, 3.0), 1.2, "airy", (4.0, 9.0)),
    seed=7,
)


def digest(folder):
    sums = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sums.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return sums.hexdigest()


@pytest.fixture
def sky(tmp_path):
    """Four backgrounds, flat but for a quarter, of levels 20, 40, 60 and 80, of 16 bits."""
    (tmp_path / "sky").mkdir()
    for level in (20, 40, 60, 80):
        levels = np.full((50, 60), level * 257, np.uint16)
        levels[:, :15] = np.linspace(0, 65535, 15)  # they fill their range
        (tmp_path / "sky" / f"{level}.png").write_bytes(encode_png(levels))
    return tmp_path / "sky"


def test_a_set_with_its_truth(tmp_path):
    made = generate(tmp_path / "set", ORDER)
    with (tmp_path / "set" / "targets.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert made == {"scenes": 8, "targets": len(rows), "no_place": made["no_place"]} | {
        "was_there": False
    }
    for split, count in (("trainval", 5), ("test", 3)):
        samples = PairDataset(tmp_path / "set" / split)
        assert len(samples) == count and samples.levels(0)[0].shape == (48, 40)
        for pair in samples.pairs:
            own = [r for r in rows if (r["split"], r["image"]) == (split, pair.image.name)]
            components, found = label(read_mask(pair.mask), connectivity=2, return_num=True)
            assert found == len(own)
            assert sum(int(row["area"]) for row in own) == (components > 0).sum()
            assert all(4 <= float(row["scr"]) <= 9 for row in own)


def test_the_same_order_gives_the_same_files(tmp_path, sky):
    for backgrounds in (None, sky):
        name = backgrounds.name if backgrounds else "made"
        generate(tmp_path / f"a-{name}", ORDER, backgrounds)
        generate(tmp_path / f"b-{name}", ORDER, backgrounds)
        generate(tmp_path / f"c-{name}", replace(ORDER, seed=8), backgrounds)
        a, b, c = (digest(tmp_path / f"{x}-{name}") for x in "abc")
        assert a == b != c


def test_a_second_run_finds_it_there(tmp_path, sky):
    first = generate(tmp_path / "set", ORDER, sky)
    image = tmp_path / "set" / "test" / "images" / "test_000000.png"
    image.write_bytes(b"changed")
    assert generate(tmp_path / "set", ORDER, sky) == first | {"was_there": True}
    with pytest.raises(InputError, match="holds something else"):
        generate(tmp_path / "set", replace(ORDER, seed=1), sky)
    generate(tmp_path / "set", replace(ORDER, seed=1), sky, replace=True)
    assert image.read_bytes() != b"changed"


def test_no_background_is_behind_both_splits(tmp_path, sky):
    order = replace(ORDER, trainval=6, test=2, size=None)
    generate(tmp_path / "set", order, sky)
    behind = {}
    for split in ("trainval", "test"):
        samples = PairDataset(tmp_path / "set" / split)
        levels = [samples.levels(i)[0] for i in range(len(samples))]
        assert {x.shape for x in levels} == {(50, 60)} and levels[0].dtype == np.uint8
        behind[split] = {int(np.median(x)) for x in levels}
    assert len(behind["trainval"]) == 3 and len(behind["test"]) == 1
    assert behind["trainval"] | behind["test"] == {20, 40, 60, 80}


def test_backgrounds_that_do_not_do(tmp_path, sky):
    with pytest.raises(InputError, match="60x50 px, less than a scene"):
        generate(tmp_path / "set", replace(ORDER, size=(51, 40)), sky)
    assert not (tmp_path / "set").exists()
    for level in (40, 60, 80):
        (sky / f"{level}.png").unlink()
    with pytest.raises(InputError, match="one image alone cannot be behind both"):
        generate(tmp_path / "set", ORDER, sky)
    assert generate(tmp_path / "set", replace(ORDER, test=0), sky)["scenes"] == 5


def test_backgrounds_in_the_set_that_is_replaced(sky):
    before = digest(sky)
    with pytest.raises(InputError, match="sky: the set is to be written there"):
        generate(sky.parent, ORDER, sky, replace=True)
    assert digest(sky) == before


def test_a_set_that_is_not_whole_is_made_again(tmp_path):
    made, before = generate(tmp_path / "a", ORDER), digest(tmp_path / "a")
    (tmp_path / "a" / "test" / "masks" / "test_000001.png").unlink()
    with pytest.raises(InputError, match="holds something else"):
        generate(tmp_path / "a", ORDER)
    assert generate(tmp_path / "a", ORDER, replace=True) == made
    assert digest(tmp_path / "a") == before
