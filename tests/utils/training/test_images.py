import torch

from utils.training.images import training_transform
from utils.training.recipes import Recipe


def test_only_a_shift_moves_whole_images():
    mask = torch.zeros(1, 64, 64)
    mask[0, 30:34, 30:34] = 1
    for reach, moved in ((0, False), (8, True)):
        transform = training_transform(Recipe(image_size=32, shift=reach))
        seen = {transform(mask, mask)[1].numpy().tobytes() for _ in range(20)}
        assert (len(seen) > 10) == moved
