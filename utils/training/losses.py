"""The formulas that training minimises; p is the probability sigmoid(logits), m the mask.

Shape: (N, 1, H, W) each, mask in [0, 1] -> a scalar, the mean over images where it says no other.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def soft_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (sum(pm) + 1) / (sum(p) + sum(m) - sum(pm) + 1): the paper's.

    The ones let an empty mask, predicted empty, score perfectly.
    """
    both, predicted, true = _areas(logits, mask)
    return 1 - ((both + 1) / (predicted + true - both + 1)).mean()


def soft_iou_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """`soft_iou` + the mean over pixels of the binary cross-entropy."""
    return soft_iou(logits, mask) + binary_cross_entropy_with_logits(logits, mask)


def soft_iou_pooled(logits: Tensor, mask: Tensor) -> Tensor:
    """`soft_iou_bce` + the soft IoU loss of the batch taken as one image.

    The IoU of a data set is pooled in this way: a false alarm counts against all targets. That of
    one image without targets saturates: p of 100 px and of 200 px cost nearly the same. Of several
    processes, the batch is that of all.
    """
    areas = torch.stack([area.sum() for area in _areas(logits, mask)])
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.nn.functional import all_reduce  # with a gradient

        areas = all_reduce(areas)
    both, predicted, true = areas
    pooled = 1 - (both + 1) / (predicted + true - both + 1)
    return soft_iou_bce(logits, mask) + pooled


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (2 sum(pm) + 1) / (sum(p) + sum(m) + 1)."""
    both, predicted, true = _areas(logits, mask)
    return 1 - ((2 * both + 1) / (predicted + true + 1)).mean()


def scale_location(logits: Tensor, mask: Tensor) -> Tensor:
    """Scale- and location-sensitive loss of MSHNet (Liu et al., CVPR 2024).

    Scale: 1 - w IoU, w = (min(P, M) + v) / (max(P, M) + v) of the areas P = sum(p), M = sum(m),
    v = ((P - M) / 2)^2. Location, for images with a target: 1 - min(d) / max(d) + 4 / pi^2 (angle
    between)^2, of the centroids of p and of m in polar coordinates about the image's corner. The
    centroids are weighted means of the pixels' places, so the location has a gradient. As in
    `soft_iou`, ones stand in for areas that are zero.
    """
    both, predicted, true = _areas(logits, mask)
    variance = ((predicted - true) / 2) ** 2
    smaller, larger = torch.minimum(predicted, true), torch.maximum(predicted, true)
    weight = (smaller + variance + 1) / (larger + variance + 1)
    scale = 1 - weight * (both + 1) / (predicted + true - both + 1)

    here, there = _polar_centroid(logits.sigmoid()), _polar_centroid(mask)
    near, far = torch.minimum(here[0], there[0]), torch.maximum(here[0], there[0])
    location = 1 - near / far + 4 / math.pi**2 * (here[1] - there[1]) ** 2
    return (scale + torch.where(true > 0, location, 0.0)).mean()


LOSSES = {
    "soft_iou": soft_iou,
    "soft_iou_bce": soft_iou_bce,
    "soft_iou_pooled": soft_iou_pooled,
    "dice": dice,
    "scale_location": scale_location,
}


def _areas(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) each: sum(pm), sum(p), sum(m)."""
    probability, mask = logits.sigmoid().flatten(1), mask.flatten(1)
    return (probability * mask).sum(1), probability.sum(1), mask.sum(1)


def _polar_centroid(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1, H, W) -> radius in px and angle of the centroid, (N,) each."""
    height, width = weights.shape[-2:]
    rows = torch.arange(1, height + 1, device=weights.device, dtype=weights.dtype)
    columns = torch.arange(1, width + 1, device=weights.device, dtype=weights.dtype)
    mass = weights.sum((1, 2, 3)) + 1e-6
    row = (weights.sum((1, 3)) * rows).sum(1) / mass + 1e-6
    column = (weights.sum((1, 2)) * columns).sum(1) / mass + 1e-6
    return torch.sqrt(row**2 + column**2), torch.atan2(row, column)
