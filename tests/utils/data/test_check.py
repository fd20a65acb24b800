import cv2
import numpy as np
import pytest

from utils.data.check import (
    NEAR,
    check,
    manifest,
    near_any,
    near_pairs,
    perceptual_hash,
    scr,
    table,
)
from utils.data.contact import contact_sheet
from utils.data.dataset import PairDataset
from utils.data.images import encode_png
from utils.data.manifest import data_sha256, file_sha256
from utils.data.scenes import make_scene


@pytest.fixture
def folder(tmp_path):
    """Three scenes in trainval, two in test; one target each."""
    for split, seeds in (("trainval", (1, 2, 3)), ("test", (4, 5))):
        for seed in seeds:
            scene = make_scene(seed, 64, 48, n_targets=1)
            put(tmp_path / "set", f"{split}/images/{seed}.png", scene.image)
            put(tmp_path / "set", f"{split}/masks/{seed}.png", scene.mask)
    return tmp_path / "set"


def put(folder, name, levels):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, levels)[1].tobytes())


def read(folder, name):
    return cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)


def messages(report):
    return [str(finding) for finding in report.errors], [str(f) for f in report.warnings]


def test_a_good_set(folder):
    report = check(folder)
    assert messages(report) == ([], [])
    assert [image.title for image in report.images][:2] == ["trainval/1", "trainval/2"]
    rows = [line.split("  ") for line in table(report).splitlines()]
    assert rows[0][0] == "set" and rows[0][-1].strip() == "test"
    cells = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert cells["images"] == ["3", "2"] and cells["size, px"] == ["48x64", "48x64"]
    assert cells["targets"] == ["3", "2"] and cells["targets an image"] == ["1", "1"]
    assert cells["depth, bits"] == ["8", "8"] and cells["mask values"] == ["0 and 255"] * 2


def test_the_manifest(folder):
    content = manifest(check(folder))
    assert len(content["files"]) == 10
    assert content["files"]["test/masks/4.png"] == file_sha256(folder / "test/masks/4.png")
    for split in ("trainval", "test"):
        assert content["data_sha256"][split] == data_sha256(PairDataset(folder / split).pairs)


def remove_mask(folder):
    (folder / "test/masks/4.png").unlink()
    return "masks: no mask for: 4"


def remove_image(folder):
    (folder / "trainval/images/2.png").unlink()
    return "images: no image for: 2"


def no_image(folder):
    (folder / "trainval/images/2.png").write_bytes(b"text")
    return "2.png: not an image"


def another_size(folder):
    put(folder, "test/masks/4.png", np.zeros((10, 20), np.uint8))
    return "4.png: 20x10 px, but its image has 48x64"


def floats(folder):
    put(folder, "test/images/4.tif", np.zeros((64, 48), np.float32))
    (folder / "test/images/4.png").unlink()
    return "4.tif: float32 pixels; convert it to 8 or 16 bits"


def one_stem(folder):
    put(folder, "test/images/4.bmp", read(folder, "test/images/4.png"))
    return "has the same name but for suffix or case"


def faint(folder):
    put(folder, "test/masks/4.png", read(folder, "test/masks/4.png") // 255 * 100)
    return "4.png: its largest value, 100, is not a target's; write targets as 255"


def inverted(folder):
    put(folder, "test/masks/4.png", 255 - read(folder, "test/masks/4.png"))
    return "test: 1 masks that are mostly target; inverted?: 4"


def no_target(folder):
    for name in ("test/masks/4.png", "test/masks/5.png"):
        put(folder, name, np.zeros((64, 48), np.uint8))
    return "test: every mask is empty"


def nothing(folder):
    for path in folder.glob("*/*/*"):
        path.unlink()
    return "no image in any split"


def leak(folder):
    image = read(folder, "trainval/images/1.png")
    put(folder, "test/images/4.bmp", image)  # of another file type, but the same image
    (folder / "test/images/4.png").unlink()
    return "1 times the same image in trainval and test: trainval/1 and test/4"


def no_folder(folder):
    (folder / "test/masks").rename(folder / "test/labels")
    return "masks: no such folder"


@pytest.mark.parametrize(
    "damage",
    [
        remove_mask,
        remove_image,
        no_image,
        another_size,
        floats,
        one_stem,
        faint,
        inverted,
        no_target,
        nothing,
        leak,
        no_folder,
    ],
)
def test_errors(folder, damage):
    expected = damage(folder)
    errors, _ = messages(check(folder))
    assert any(expected in error for error in errors), errors


def empty(folder):
    put(folder, "test/masks/4.png", np.zeros((64, 48), np.uint8))
    return "test: 1 empty masks: 4"


def grey(folder):
    mask = read(folder, "test/masks/4.png")
    put(folder, "test/masks/4.png", np.maximum(mask, cv2.blur(mask, (3, 3))))
    return "test: 1 masks with grey between black and white, read as target above the middle: 4"


def dark(folder):
    put(folder, "test/images/4.png", np.full((64, 48), 3000, np.uint16))
    return "test: 1 images nearly black for their depth: 4"


def depths(folder):
    put(folder, "test/images/4.png", read(folder, "test/images/4.png").astype(np.uint16) * 257)
    return "test: images of 8 and of 16 bits"


def repeat(folder):
    put(folder, "test/images/4.png", read(folder, "test/images/5.png"))
    return "1 times the same image several times: test/4 and test/5"


def near(folder):
    changed = np.minimum(read(folder, "trainval/images/1.png"), 250) + 5
    changed[10, 20] = 255
    put(folder, "test/images/4.png", changed)
    return (
        "1 times nearly the same image (hashes differ in 36 of 255 bits at most) in trainval and "
        "test: trainval/1 and test/4"
    )


def no_test(folder):
    (folder / "test").rename(folder / "later")
    return "no test split"


def empty_test(folder):
    for path in (folder / "test").glob("*/*"):
        path.unlink()
    return "test: no image with a mask"


def fewer(folder):
    folder.rename(folder.with_name("NUDT-SIRST"))
    return "3 / 2 images in trainval / test, but NUDT-SIRST was published with 663 / 664"


@pytest.mark.parametrize(
    "change", [empty, grey, dark, depths, repeat, near, no_test, empty_test, fewer]
)
def test_warnings(folder, change):
    expected = change(folder)
    (folder,) = folder.parent.iterdir()
    errors, warnings = messages(check(folder))
    assert any(warning.startswith(expected) for warning in warnings), warnings
    assert not errors


def test_hashes_of_the_same_view_are_near_and_of_others_are_not():
    views = [make_scene(seed, 128, 128).image for seed in range(40)]
    hashes = np.stack([perceptual_hash(view) for view in views])
    assert hashes.shape == (40, 255) and near_pairs(hashes, NEAR) == []
    others = []
    for view in views:
        smaller = cv2.resize(view, (112, 112), interpolation=cv2.INTER_AREA)
        others.append(perceptual_hash(np.clip(smaller * 0.8 + 20, 0, 255).astype(np.uint8)))
    differ = (np.stack(others) != hashes).sum(axis=1)
    assert (differ <= NEAR).mean() > 0.9 and differ.max() < 60


def test_near_images_of_another_set_are_found_in_any_orientation(tmp_path):
    views = [make_scene(seed, 96, 128).image for seed in range(12)]
    for i, view in enumerate(views):
        for kind in ("images", "masks"):
            put(tmp_path, f"own/{kind}/{i:02}.png", view)
    for i in range(8):  # of the first eight, each in another orientation, and four new ones
        turned = np.rot90(views[i] if i < 4 else views[i][:, ::-1], i)
        smaller = cv2.resize(turned, (90, 90), interpolation=cv2.INTER_AREA)
        for kind in ("images", "masks"):
            put(tmp_path, f"other/{kind}/{i}.png", (smaller * 0.9).astype(np.uint8))
            put(tmp_path, f"other/{kind}/{8 + i}.png", make_scene(100 + i, 96, 128).image)
    own, other = PairDataset(tmp_path / "own"), PairDataset(tmp_path / "other")
    near = near_any(own, [(other, i) for i in range(len(other))])
    assert near.tolist() == [True] * 8 + [False] * 4
    assert not near_any(own, []).any() and near_any(own, [(own, 3)]).tolist().index(True) == 3


def test_near_pairs_are_all_within_the_distance():
    random = np.random.default_rng(0)
    hashes = random.random((1500, 40)) < 0.5
    distances = (hashes[:, None, :] != hashes[None]).sum(axis=2)
    expected = [(i, j) for i, j in np.argwhere(distances <= 6).tolist() if i < j]
    assert sorted(near_pairs(hashes, 6)) == expected and expected
    assert near_pairs(hashes, 6, most=3) == near_pairs(hashes, 6)[:3]
    even = np.arange(1500) % 2 == 0
    found = near_pairs(hashes, 6, lambda a, b: even[a:b, None] != even)
    assert sorted(found) == [(i, j) for i, j in expected if (i + j) % 2]
    assert len(near_pairs(np.zeros((3000, 40), bool), 6, most=10)) == 10  # of 4.5 million


def test_a_film_in_trainval_hides_no_leak(folder, monkeypatch):
    monkeypatch.setattr("utils.data.check.MOST_NEAR", 3)
    leaked = read(folder, "trainval/images/2.png")
    put(folder, "test/images/4.png", (leaked * 0.9).astype(np.uint8))
    for n in range(8):
        for kind in ("images", "masks"):
            levels = read(folder, f"trainval/{kind}/1.png").copy()
            levels[0, n] = 255 if kind == "images" else 0
            put(folder, f"trainval/{kind}/film{n}.png", levels)
    warnings = [str(warning) for warning in check(folder).warnings]
    times = [w.split(" nearly")[0] for w in warnings if "nearly the same" in w]
    assert times == ["1 times", "at least 3 times"]
    assert any(w.endswith("trainval/2 and test/4") for w in warnings)


@pytest.mark.parametrize("value", [128, 4095, 65535])
def test_masks_of_two_values_are_clean(folder, value):
    for path in folder.glob("*/masks/*.png"):
        mask = read(folder, path.relative_to(folder)) // 255 * np.uint16(value)
        path.write_bytes(encode_png(mask))
    report = check(folder)
    assert messages(report) == ([], [])
    assert {image.mask_values for image in report.images} == {f"0 and {value}"}


def test_the_signal_to_clutter_ratio_is_against_the_surroundings():
    random = np.random.default_rng(0)
    levels = np.rint(random.normal(100, 5, (60, 60))).astype(np.uint8)
    levels[30:33, 30:33] = 150
    labels = np.zeros((60, 60), np.int32)
    labels[30:33, 30:33] = 1
    labels[36:38, 30:33] = 2  # another target is no surroundings
    levels[36:38, 30:33] = 255
    assert scr(levels, labels, 1, (30, 30, 3, 3)) == pytest.approx(10, rel=0.15)
    flat = np.full((60, 60), 7, np.uint8)
    assert scr(flat, labels, 1, (30, 30, 3, 3)) == 0


def test_contact_sheet_outlines_targets(folder):
    report = check(folder)
    sheet = contact_sheet([(image.title, image.pair) for image in report.images])
    assert sheet.shape == (216, 1600, 3) and sheet.dtype == np.uint8
    coloured = (sheet[..., 1] > sheet[..., 0]) & (sheet[..., 1] > sheet[..., 2])
    for k in range(5):
        assert coloured[:, 200 * k : 200 * (k + 1)].any()
    assert not sheet[:, 1000:].any()
    many = contact_sheet([("x", report.images[0].pair)] * 100)
    assert many.shape == (6 * 216, 1600, 3) and encode_png(many)
