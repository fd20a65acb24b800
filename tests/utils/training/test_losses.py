import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.training.losses import (
    LOSSES,
    dice,
    scale_location,
    soft_iou,
    soft_iou_bce,
    soft_iou_pooled,
)

HALF = torch.zeros(1, 1, 2, 2)  # logits of probability 1/2
ONE = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])


def square(row, column, side, size=32):
    """A mask (1, 1, size, size)."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., row : row + side, column : column + side] = 1
    return mask


def sure(mask):
    return (2 * mask - 1) * 30


def test_by_hand():
    torch.testing.assert_close(soft_iou(HALF, ONE), torch.tensor(1 - 1.5 / 3.5))
    torch.testing.assert_close(dice(HALF, ONE), torch.tensor(1 - 2 / 4))
    expected = 1 - 1.5 / 3.5 + torch.tensor(2.0).log()
    torch.testing.assert_close(soft_iou_bce(HALF, ONE), expected)
    torch.testing.assert_close(soft_iou_pooled(HALF, ONE), expected + 1 - 1.5 / 3.5)


def test_scale_and_location_by_hand():
    # predicted 4 px inside 16 px, same centroid: v = 36, w = 41/53, IoU 5/17; no distance
    loss = scale_location(sure(square(9, 9, 2)), square(8, 8, 4))
    torch.testing.assert_close(loss, torch.tensor(1 - 41 / 53 * 5 / 17), atol=1e-4, rtol=0)
    # the same areas apart, on one ray from the corner: centroids at 4.5 and 9 px of both axes
    loss = scale_location(sure(square(3, 3, 2)), square(7, 7, 3)[..., :32, :32])
    centre = 1 - 4.5 / 9
    scale = 1 - (4 + 6.25 + 1) / (9 + 6.25 + 1) * 1 / 14
    torch.testing.assert_close(loss, torch.tensor(scale + centre), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "soft_iou_pooled"])
def test_it_is_a_mean_over_images(name):
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 1, 8, 8), (torch.rand(3, 1, 8, 8) > 0.8).float()
    mask[1] = 0
    each = torch.stack([LOSSES[name](logits[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(LOSSES[name](logits, mask), each.mean())


def test_pooled_a_false_alarm_counts_against_all_targets():
    mask = torch.cat([square(4, 4, 10), torch.zeros(1, 1, 32, 32)])
    alarms = [torch.cat([square(4, 4, 10), square(4, 4, side)]) for side in (0, 5, 10)]
    none, small, large = (soft_iou_pooled(sure(a), mask) for a in alarms)
    bce = [soft_iou_bce(sure(a), mask) for a in alarms]
    # the IoU of the pool: 100 of 100, of 125, and of 200 px
    torch.testing.assert_close(none - bce[0], torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(small - bce[1], torch.tensor(1 - 101 / 126), atol=1e-4, rtol=0)
    torch.testing.assert_close(large - bce[2], torch.tensor(1 - 101 / 201), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["soft_iou", "soft_iou_bce", "soft_iou_pooled", "dice"])
@given(seed=st.integers(0, 2**32), step=st.floats(0.1, 5))
def test_a_better_pixel_scores_better(name, seed, step):
    torch.manual_seed(seed)
    mask = (torch.rand(2, 1, 8, 8) > 0.8).float()
    logits = torch.randn(2, 1, 8, 8)
    better = logits + step * (2 * mask - 1)
    assert LOSSES[name](better, mask) < LOSSES[name](logits, mask)


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_place_and_a_better_size_score_better(name):
    true = square(12, 14, 5)
    places = [LOSSES[name](sure(square(12 + d, 14 + d, 5)), true) for d in range(5)]
    assert all(a < b for a, b in zip(places, places[1:], strict=False))
    sizes = [LOSSES[name](sure(square(12, 14, 5 + d)), true) for d in range(5)]
    assert all(a < b for a, b in zip(sizes, sizes[1:], strict=False))


def test_beyond_touch_only_the_location_tells_near_from_far():
    true = square(12, 14, 3)
    near, far = sure(square(17, 19, 3)), sure(square(26, 28, 3))
    assert soft_iou(near, true) == soft_iou(far, true)
    assert scale_location(near, true) < scale_location(far, true) - 0.05


def test_the_location_has_a_gradient():
    logits = torch.full((1, 1, 16, 16), -5.0)
    logits[..., 2, 3] = 0
    logits.requires_grad_()
    scale_location(logits, square(9, 9, 3, 16)).backward()
    assert logits.grad.isfinite().all()
    # a pixel towards the target lowers the loss, one of the same shape away from it raises it
    assert logits.grad[..., 13, 13] < 0 < logits.grad[..., 0, 0]


@pytest.mark.parametrize("name", LOSSES)
def test_perfection_scores_zero_also_without_targets(name):
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, 0, 3, 3] = 1
    assert abs(LOSSES[name]((2 * mask - 1) * 100, mask)) < 1e-5


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-200.0, 0.0, 200.0])
def test_extremes_have_finite_gradients(name, value):
    for mask in (torch.zeros(1, 1, 8, 8), square(2, 2, 2, 8)):
        logits = torch.full((1, 1, 8, 8), value, requires_grad=True)
        LOSSES[name](logits, mask).backward()
        assert logits.grad.isfinite().all()
