import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.training.losses import soft_iou


def test_by_hand():
    logits = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]]]])  # probability 1/2 everywhere
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    torch.testing.assert_close(soft_iou(logits, mask), torch.tensor(1 - 1.5 / 3.5))


def test_it_is_a_mean_over_images():
    logits, mask = torch.randn(3, 1, 8, 8), (torch.rand(3, 1, 8, 8) > 0.8).float()
    each = torch.stack([soft_iou(logits[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(soft_iou(logits, mask), each.mean())


@given(st.integers(0, 2**32), st.floats(0.1, 5))
def test_a_better_prediction_scores_better(seed, step):
    torch.manual_seed(seed)
    mask = (torch.rand(2, 1, 8, 8) > 0.8).float()
    logits = torch.randn(2, 1, 8, 8)
    better = logits + step * (2 * mask - 1)
    assert soft_iou(better, mask) < soft_iou(logits, mask)


def test_perfection_scores_zero_also_without_targets():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, 0, 3, 3] = 1
    assert soft_iou((2 * mask - 1) * 100, mask) < 1e-6
