import cv2
import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png
from utils.metrics.maps import (
    Map,
    doubt,
    is_empty,
    list_files,
    list_masks,
    list_predictions,
    read_map,
)
from utils.options import InputError


def save(path, values):
    if path.suffix == ".mat":
        scipy.io.savemat(path, {"T": values})
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        path.write_bytes(cv2.imencode(path.suffix, values)[1].tobytes())
    return path


logits = np.array([[-3.0, 0.5], [9.0, -0.25]])
shares = np.array([[0.0, 0.25], [1.0, 0.75]])


@pytest.mark.parametrize(
    "name, values, kind, expected, are_logits",
    [
        ("a.mat", logits, None, logits, True),
        ("a.mat", logits.astype(np.float32), "logits", logits, True),
        ("a.mat", shares, "probabilities", shares, False),
        ("a.mat", np.array([[0, 51], [255, 204]], np.uint8), None, [[0, 0.2], [1, 0.8]], False),
        ("a.mat", shares > 0.5, None, shares > 0.5, False),
        ("a.npy", logits, "logits", logits, True),
        ("a.npy", logits[None, :, :, None], "logits", logits, True),
        ("a.npy", shares, "probabilities", shares, False),
        ("a.npy", np.float32([[0, 1.0000001]]), "probabilities", [[0, 1]], False),
        ("a.npy", shares > 0.5, None, shares > 0.5, False),
        ("a.npy", np.array([[0, 51], [255, 204]], np.uint8), None, [[0, 0.2], [1, 0.8]], False),
        ("a.npy", np.array([[0, 13107], [65535, 0]], ">u2"), None, [[0, 0.2], [1, 0]], False),
        ("a.npy", np.array([[0, 3], [-1, 2]]), "binary", [[0, 1], [0, 1]], False),
        ("a.png", np.array([[0, 51], [255, 204]], np.uint8), None, [[0, 0.2], [1, 0.8]], False),
        ("a.png", np.array([[0, 51]], np.uint8), "logits", [[0, 0.2]], False),
        ("a.PNG", np.array([[0, 1], [1, 0]], np.uint8), "binary", [[0, 1], [1, 0]], False),
        ("a.tif", np.array([[0, 13107], [65535, 0]], np.uint16), None, [[0, 0.2], [1, 0]], False),
        ("a.tiff", logits.astype(np.float32), "logits", logits, True),
    ],
)
def test_every_kind_of_file(tmp_path, name, values, kind, expected, are_logits):
    found = read_map(save(tmp_path / name, values), kind)
    np.testing.assert_allclose(found.values, np.asarray(expected, np.float32), atol=1e-6)
    assert found.values.dtype == np.float32 and found.are_logits == are_logits


@pytest.mark.parametrize(
    "name, values, kind, message",
    [
        (
            "a.npy",
            logits,
            None,
            "say what they are: --logits, --probabilities or, for masks, --binary",
        ),
        ("a.tif", logits.astype(np.float32), None, "say what they are"),
        (
            "a.npy",
            logits,
            "probabilities",
            "values from -3 to 9 are no probabilities; give --logits or, for masks, --binary",
        ),
        ("a.npy", np.zeros((0, 5)), "logits", r"not float64 of shape \(0, 5\)"),
        ("a.mat", np.array([[np.nan, 1]]), None, "NaN or infinity"),
        ("a.npy", np.array([[np.inf, 1]]), "logits", "NaN or infinity"),
        ("a.mat", np.full((2, 2), 1e300), None, "NaN or infinity"),
        ("a.tif", np.array([[np.nan, 1]], np.float32), "logits", "NaN or infinity"),
        ("a.npy", np.zeros((2, 3, 4)), "logits", r"not float64 of shape \(2, 3, 4\)"),
        ("a.npy", np.array(["x"]), "logits", "expected a map"),
        ("a.npy", np.array([{}], object), "logits", "not a .npy file that can be read"),
    ],
)
def test_what_is_no_map(tmp_path, name, values, kind, message):
    if values.dtype == object:
        np.save(tmp_path / name, values, allow_pickle=True)
    else:
        save(tmp_path / name, values)
    with pytest.raises(InputError, match=rf"a\.\w+: .*{message}"):
        read_map(tmp_path / name, kind)


@pytest.mark.parametrize("name", ["a.mat", "a.npy", "a.png"])
@pytest.mark.parametrize("data", [b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_file(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: "):
        read_map(tmp_path / name)


def test_an_archive_of_arrays_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", T=logits)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match="a.npy: not a .npy file that can be read"):
        read_map(tmp_path / "a.npy")


def test_complex_numbers_are_no_map(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"T": logits * 1j})
    with pytest.raises(InputError, match=r"a\.mat: holds complex numbers"):
        read_map(tmp_path / "a.mat")


def test_another_variable(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"S": logits})
    with pytest.raises(InputError, match="expected a variable T, found S"):
        read_map(tmp_path / "a.mat")


def test_whole_numbers_as_matlab_stores_them(tmp_path):
    path = save(tmp_path / "a.mat", np.array([[0, 7], [3, 255]], np.uint8))
    data = bytearray(path.read_bytes())
    assert data[144] == 9  # the class: uint8
    data[144] = 6  # double, its values in the bytes of uint8
    path.write_bytes(data)
    found = read_map(path)
    assert found.are_logits and found.values.tolist() == [[0, 7], [3, 255]]


def test_a_file_of_another_version(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(99))
    with pytest.raises(InputError, match="saved with -v7.3; save with -v7, or as .npy"):
        read_map(tmp_path / "a.mat")


def test_names_of_images(tmp_path):
    for name in ("Misc_1_pixels0.png", "Misc_10_PRED.PNG", "Misc_2.png", ".x.png", "notes.txt"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((2, 2), np.uint8)))
    assert list(list_files(tmp_path, (".png",))) == ["Misc_1", "Misc_10", "Misc_2"]
    (tmp_path / "Misc_2_Pred.png").write_bytes(b"")
    with pytest.raises(InputError, match="is of the same image; keep one"):
        list_files(tmp_path, (".png",))
    with pytest.raises(InputError, match="no file in it"):
        list_files(tmp_path, (".mat",))


def test_image_prediction_and_mask_in_one_folder(tmp_path):
    for name in ("a.png", "a_Pred.png", "a_GT.png", "b_GT.png", "c_pixels0.png"):
        (tmp_path / name).write_bytes(b"")
    found = {name: path.name for name, path in list_predictions(tmp_path).items()}
    assert found == {"a": "a_Pred.png", "b_GT": "b_GT.png", "c": "c_pixels0.png"}
    assert list_masks(tmp_path) == {"a": tmp_path / "a_GT.png"}
    (tmp_path / "a_GT.png").unlink()
    (tmp_path / "a.png").unlink()
    assert list(list_masks(tmp_path)) == ["a", "b_GT", "c"]  # the masks are another's predictions
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a_GT.png").write_bytes(b"")
    (tmp_path / "a_Pred.png").unlink()
    assert list(list_masks(tmp_path)) == ["a", "a_GT", "b_GT", "c"]


def test_doubts():
    assert "--probabilities" in doubt(Map(shares.astype(np.float32)))
    assert "--binary" in doubt(Map(np.float32([[0, 1 / 255]]), are_logits=False))
    assert doubt(Map(np.float32([[0, 0]]), are_logits=False)) is None
    assert doubt(Map(logits.astype(np.float32))) is None
    assert is_empty(Map(np.float32([[0, 0]]), are_logits=False))
    assert not is_empty(Map(np.float32([[0, 1 / 255]]), are_logits=False))
    assert not is_empty(Map(np.float32([[0, 0]])))  # probability 0.5
