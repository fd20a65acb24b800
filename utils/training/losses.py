"""The formulas that training minimises."""

from torch import Tensor


def soft_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - mean over images of (sum(pm) + 1) / (sum(p) + sum(m) - sum(pm) + 1), p = sigmoid(logits).

    The ones let an empty mask, predicted empty, score perfectly.

    Shape: (N, 1, H, W) each, mask in [0, 1] -> scalar in [0, 1).
    """
    probability = logits.sigmoid().flatten(1)
    mask = mask.flatten(1)
    both = (probability * mask).sum(1)
    either = probability.sum(1) + mask.sum(1) - both
    return 1 - ((both + 1) / (either + 1)).mean()
