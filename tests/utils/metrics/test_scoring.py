import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png
from utils.metrics.scoring import score
from utils.options import InputError


@pytest.fixture
def folders(tmp_path):
    predictions, masks = tmp_path / "mat", tmp_path / "masks"
    predictions.mkdir(), masks.mkdir()
    for stem, row in (("a", 10), ("b", 20)):
        mask = np.zeros((40, 60), np.uint8)
        mask[row : row + 3, 30:33] = 255
        (masks / f"{stem}.png").write_bytes(encode_png(mask))
        scipy.io.savemat(predictions / f"{stem}.mat", {"T": mask.astype(np.float32) - 100})
    return predictions, masks


def test_a_perfect_export(folders):
    counts = score(*folders)
    assert (counts.n_images, counts.tp_px, counts.fp_px, counts.fn_px) == (2, 18, 0, 0)
    assert (counts.n_hits, counts.n_targets) == (2, 2)


def test_at_another_size(folders):
    counts = score(*folders, size=20)
    assert counts.n_pixels == 2 * 400 and counts.n_targets == 2


def test_results_for_other_images_than_the_masks(folders):
    predictions, masks = folders
    (predictions / "b.mat").rename(predictions / "c.mat")
    with pytest.raises(
        InputError, match="1 of its 2 masks have no prediction and 1 predictions no"
    ):
        score(predictions, masks)


def test_sizes_that_differ(folders):
    predictions, masks = folders
    scipy.io.savemat(predictions / "b.mat", {"T": np.zeros((5, 6))})
    with pytest.raises(InputError, match=r"b\.mat: 6x5 px, but its mask has 60x40"):
        score(predictions, masks)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"S": np.zeros((40, 60))}, "expected a variable T"),
        ({"T": np.zeros((2, 40, 60))}, "expected a variable T"),
        ({"T": "text"}, "expected a variable T"),
        ({"T": np.full((40, 60), np.nan)}, "NaN or infinity"),
    ],
)
def test_what_is_no_map_of_logits(folders, content, message):
    predictions, masks = folders
    scipy.io.savemat(predictions / "b.mat", content)
    with pytest.raises(InputError, match=rf"b\.mat: .*{message}"):
        score(predictions, masks)


@pytest.mark.parametrize("data", [b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_file(folders, data):
    predictions, masks = folders
    (predictions / "b.mat").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.mat: "):
        score(predictions, masks)


def test_no_predictions_at_all(folders, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        score(tmp_path / "nothing", folders[1])
