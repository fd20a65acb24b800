from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from utils.data.dataset import PairDataset
from utils.options import InputError
from utils.training.images import Images, targets_to_paste, training_transform
from utils.training.recipes import Recipe


def test_only_a_shift_moves_whole_images():
    mask = torch.zeros(1, 64, 64)
    mask[0, 30:34, 30:34] = 1
    for reach, moved in ((0, False), (8, True)):
        transform = training_transform(Recipe(image_size=32, shift=reach))
        seen = {transform(mask, mask)[1].numpy().tobytes() for _ in range(20)}
        assert (len(seen) > 10) == moved


@pytest.mark.parametrize("changes", [{"image_size": 32}, {"crop_size": 40}])
def test_targets_are_pasted_at_the_scale_that_is_trained_on(tmp_path, changes):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for name, column in (("a", 20), ("b", 36), ("c", None)):
        image, mask = np.full((64, 64), 60, np.uint8), np.zeros((64, 64), np.uint8)
        if column:
            image[28:34, column : column + 6], mask[28:34, column : column + 6] = 180, 255
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), mask)
    samples = PairDataset(tmp_path)

    def trained_on(*indices):
        return Images(samples, list(indices), [], [], samples, [1], None, {})

    recipe = Recipe(paste=1.0, **changes)
    area = 9 if recipe.resized_to else 36
    targets = targets_to_paste(trained_on(0, 2), recipe)
    assert [int(target.mask.sum()) for target in targets] == [area]
    torch.manual_seed(0)
    transform, areas = training_transform(recipe, targets), set()
    for _ in range(60):
        image, mask = transform(*samples[2][:2])
        areas.add(int(mask.sum()))
        assert torch.equal(mask > 0, image > 0.5)
    assert max(areas) == area
    # windows cut targets off that are pasted before
    assert (len(areas - {0, area}) > 0) == bool(recipe.crop_size)
    assert targets_to_paste(trained_on(2), replace(recipe, paste=0.0)) == []
    with pytest.raises(InputError, match=r"--paste 1: no target in .*masks is bright, whole"):
        targets_to_paste(trained_on(2), recipe)
