import cv2
import numpy as np
import pytest

from utils.data.images import encode_png, read_image, read_mask, resize
from utils.options import InputError


def write(path, levels):
    path.write_bytes(cv2.imencode(path.suffix, levels)[1].tobytes())
    return path


@pytest.fixture
def levels():
    return np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_eight_bits(tmp_path, levels, suffix):
    image = read_image(write(tmp_path / f"a{suffix}", levels))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, levels / np.float32(255))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits(tmp_path, levels, suffix):
    deep = levels.astype(np.uint16) * 256 + 3
    image = read_image(write(tmp_path / f"a{suffix}", deep))
    np.testing.assert_array_equal(image, deep / np.float32(65535))


def test_colour_with_equal_channels_and_transparency_is_its_grey(tmp_path, levels):
    grey = read_image(write(tmp_path / "grey.png", levels))
    colour = np.stack([levels] * 3, axis=2)
    np.testing.assert_array_equal(read_image(write(tmp_path / "colour.png", colour)), grey)
    transparent = np.dstack([colour, levels // 2])
    np.testing.assert_array_equal(read_image(write(tmp_path / "alpha.png", transparent)), grey)


def test_a_name_in_any_alphabet(tmp_path, levels):
    write(tmp_path / "红外 図 é.png", levels)
    assert read_image(tmp_path / "红外 図 é.png").shape == (5, 7)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0, 0, 0], [False, False, False]),
        ([0, 1, 1], [False, True, True]),
        ([0, 255, 255], [False, True, True]),
        ([127, 128, 255], [False, True, True]),
        ([0, 2, 127], [False, False, False]),
    ],
)
def test_the_rule_for_masks(tmp_path, values, expected):
    mask = read_mask(write(tmp_path / "m.png", np.array([values], np.uint8)))
    assert mask.dtype == bool
    assert mask.tolist() == [expected]


@pytest.mark.parametrize("content", [b"", b"no image", encode_png(np.zeros((9, 9), np.uint8))[:40]])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: not an image that can be decoded"):
        read_image(path)


def test_float_images_are_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match=r"a\.tif: float32 pixels"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        read_image(tmp_path / "a.png")


def test_nearest_takes_every_second_pixel_at_half_the_size():
    mask = np.random.default_rng(0).random((512, 512)) < 0.1
    np.testing.assert_array_equal(resize(mask, 256, nearest=True), mask[::2, ::2])


def test_bilinear_averages_two_by_two_at_half_the_size():
    image = np.random.default_rng(0).random((512, 512), np.float32)
    mean = image.reshape(256, 2, 256, 2).mean((1, 3))
    np.testing.assert_allclose(resize(image, 256), mean, atol=1e-6)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 128), (128, 0, 0, 255)])
def test_a_mask_may_have_any_colour(tmp_path, colour):
    levels = np.zeros((4, 5, len(colour)), np.uint8)
    levels[..., 3:] = 255
    levels[1, 2] = colour
    path = tmp_path / "mask.png"
    path.write_bytes(cv2.imencode(".png", levels)[1].tobytes())
    assert np.argwhere(read_mask(path)).tolist() == [[1, 2]]
