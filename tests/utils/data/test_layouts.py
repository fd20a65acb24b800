import pytest

from tests.utils.data.published import (
    LAYOUTS,
    TEST,
    TRAINVAL,
    image,
    mask,
    ours,
    pairs,
    text,
    write,
)
from utils.data.layouts import Division, recognise
from utils.options import InputError


def names(found):
    return {split: [pair.name for pair in pairs] for split, pairs in found.splits.items()}


EXPECTED = {"trainval": sorted(TRAINVAL), "test": sorted(TEST)}


@pytest.mark.parametrize("wrapper", [".", "wrapper"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_in_circulation(tmp_path, layout, wrapper):
    write(tmp_path / wrapper, LAYOUTS[layout])
    found = recognise(tmp_path)
    assert names(found) == EXPECTED and not found.notes
    for pair in sum(found.splits.values(), []):
        assert pair.image.read_bytes() == image(pair.name)
        assert pair.mask.read_bytes() == mask(pair.name)


def test_the_layout_is_said(tmp_path):
    write(tmp_path, LAYOUTS["IRSTD-1k"])
    layout = "IRSTD1k_Img/, IRSTD1k_Label/ and the lists trainval.txt and test.txt"
    assert recognise(tmp_path).layout == layout


def test_images_in_no_list_are_left_out_and_said(tmp_path):
    write(tmp_path, LAYOUTS["DNANet"] | {"50_50/train.txt": text(TRAINVAL[:2] + TRAINVAL[:2])})
    found = recognise(tmp_path)
    assert names(found) == EXPECTED | {"trainval": ["a1", "a2"]}
    assert found.notes == ["2 images are in neither list and are left out"]


def test_lists_of_the_user_take_precedence(tmp_path):
    write(tmp_path / "set", LAYOUTS["SIRST"])
    write(tmp_path, {"a.txt": text(TEST, ".png"), "b.txt": b"images/a1.png\nC:\\masks\\a2\n"})
    found = recognise(tmp_path / "set", Division(lists=(tmp_path / "a.txt", tmp_path / "b.txt")))
    assert names(found) == {"trainval": sorted(TEST), "test": ["a1", "a2"]}


def test_a_drawn_split_is_of_its_seed(tmp_path):
    write(tmp_path, pairs("images", "masks"))
    first, again, other = (recognise(tmp_path, Division(share=0.5, seed=s)) for s in (0, 0, 1))
    assert names(first) == names(again) != names(other)
    assert [len(part) for part in first.splits.values()] == [3, 3]
    assert sorted(sum(names(first).values(), [])) == sorted(TRAINVAL + TEST)


def test_splits_may_number_their_images_alike(tmp_path):
    files = {f"{s}/{kind}/1.png": mask("1") for s in EXPECTED for kind in ("images", "masks")}
    assert names(recognise(write(tmp_path, files))) == {"trainval": ["1"], "test": ["1"]}


def test_a_split_that_is_called_train(tmp_path):
    files = {k.replace("trainval/", "train/"): v for k, v in ours().items()}
    found = recognise(write(tmp_path, files))
    assert names(found) == EXPECTED and found.layout == "{train,test}/{images,masks}"
    write(tmp_path, pairs("val/images", "val/masks"))
    with pytest.raises(InputError, match="has a val beside train and test; move its images"):
        recognise(tmp_path)


def without(layout, *paths):
    return {k: v for k, v in LAYOUTS[layout].items() if k not in paths}


@pytest.mark.parametrize(
    "files, message",
    [
        ({"notes.txt": b"x"}, "no layout that is known"),
        (pairs("images", "masks"), "no split lists in it .*--split-file.*--split 0.8"),
        (
            {f"{n}/{k}": v for n in "xy" for k, v in LAYOUTS["lists"].items()},
            r"several data sets \(x, y\)",
        ),
        (
            {f"{n}/{k}": v for n in ("train", "val") for k, v in pairs("images", "masks").items()},
            "has train and val, but no test; if val is the published test split, call it test",
        ),
        (LAYOUTS["BasicIRSTD"] | {"img_idx/train_Y.txt": b"a1"}, "several split lists"),
        (LAYOUTS["lists"] | {"test.txt": b"a1\nb9\n"}, "test.txt: a1 in train.txt too"),
        (LAYOUTS["lists"] | {"test.txt": b"b9\nnone\n\x1b[2J\n"}, r"no image for \\x1b\[2J, none$"),
        (LAYOUTS["lists"] | {"test.txt": b"\n"}, "test.txt: empty"),
        (LAYOUTS["lists"] | {"test.txt": b"\xff\xfe"}, "test.txt: not UTF-8 text"),
        (LAYOUTS["lists"] | {"test.txt": bytes(2**24 + 1)}, "test.txt: too long"),
        (without("lists", "masks/a1.png"), "masks: no mask for a1"),
        (without("ours", "test/masks/b9.png"), "masks: no mask for b9"),
        (without("ours", "test/images/b9.png"), "images: no image for b9"),
        (LAYOUTS["lists"] | {"masks/a1_pixels0.png": mask("a1")}, "is a mask of a1 too"),
        (LAYOUTS["lists"] | {"images/a1.bmp": image("a1")}, "is of the same image"),
    ],
)
def test_contradictions_are_refused(tmp_path, files, message):
    with pytest.raises(InputError, match=message) as refused:
        recognise(write(tmp_path, files))
    assert "\n" not in str(refused.value)


def test_names_that_differ_in_case_alone(tmp_path):
    files = LAYOUTS["lists"] | {"images/A1.png": image("a1"), "masks/A1.png": mask("a1")}
    write(tmp_path, files | {"train.txt": text(TRAINVAL + ("A1",))})
    if len(list((tmp_path / "images").iterdir())) == 6:
        pytest.skip("this disk ignores case")
    with pytest.raises(InputError, match="A1 and a1 are one name on some disks"):
        recognise(tmp_path)


def test_a_set_that_is_split_is_not_split_again(tmp_path):
    with pytest.raises(InputError, match="is split already"):
        recognise(write(tmp_path, LAYOUTS["ours"]), Division(share=0.5))


def test_masks_without_images_are_refused_where_all_are_used(tmp_path):
    files = pairs("images", "masks") | {"masks/z.png": mask("z")}
    with pytest.raises(InputError, match="images: no image for z"):
        recognise(write(tmp_path, files), Division(share=0.5))
